"""A client of `/v1` for Python programs: register what you send, look conversations up, link them.

    async with Client("http://localhost:8081", token) as client:
        [sent] = await client.register("telnyx", "main-telnyx", response)

Every method may be called again after a StoreError: registering or linking twice does no harm.
"""

from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import orjson

from receiver.registration import Registered
from receiver.resources import Conversation, Found, Linked, Registration
from schemas.errors import Overloaded, PartylineError, StoreError

__all__ = ["Client", "Conversation", "Found", "Refused", "Registered", "Unreachable"]

TIMEOUT_SECONDS = 10.0

_Result = TypeVar("_Result")


class Refused(PartylineError):
    """The service refused a request, which will not get better by itself.

    `status` and `reason` are the problem's, as README.md lists them.
    """

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        # Errors of ours have one reason a class; what this one stands for, the service says.
        vars(self)["reason"] = reason


class Unreachable(StoreError):
    """Nothing answered in time. Worth another attempt."""

    reason = "unreachable"


class _Problem(msgspec.Struct):
    reason: str
    detail: str


class Client:
    """Talks to one receiver; use it as an asynchronous context manager.

    Refused is raised for a request at fault, StoreError (Unreachable, Overloaded) for one worth repeating.
    """

    def __init__(self, base_url: str, token: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """`base_url`: of the admin port, if there is one; `token`: one of `server.api_tokens`."""
        self._http = httpx.AsyncClient(
            base_url=base_url, timeout=timeout_seconds, headers={"authorization": f"Bearer {token}"}
        )

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def register(
        self, provider: str, account: str, response: Any, request: Any | None = None
    ) -> list[Registered]:
        """Register a send; the conversations that it is of, one for each recipient or one for the group.

        Args:
            provider: whose send it was.
            account: the configured account.
            response: what the provider answered to the send: its bytes unchanged, or as decoded JSON.
            request: what was sent to the provider, likewise; needed where the response does not tell the conversation.
        """
        said = _json(response) if request is None else {"response": _json(response), "request": _json(request)}
        path = f"/v1/outbound/{quote(provider, safe='')}/{quote(account, safe='')}"
        return list((await self._ask("POST", path, Registration, body=said)).conversations)

    async def conversation(self, key: str) -> Conversation:
        """The conversation of a key; of a merged key, what it resolves to."""
        return await self._ask("GET", f"/v1/conversations/{quote(key, safe='')}", Conversation)

    async def find(
        self,
        *,
        id: str | None = None,  # noqa: A002 - as the route names it
        address: str | None = None,
        provider: str | None = None,
        account: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Found:
        """One page of the conversations with an id of the provider's (within an account), or with a participant."""
        given = {"id": id, "address": address, "provider": provider, "account": account, "limit": limit, "after": after}
        parameters = {name: str(value) for name, value in given.items() if value is not None}
        return await self._ask("GET", "/v1/conversations", Found, parameters=parameters)

    async def link(self, one: str, other: str, *, account: str | None = None) -> str:
        """Say that two conversations are one, or two addresses of an account one person's; the capture's id."""
        return await self._link("POST", one, other, account)

    async def unlink(self, one: str, other: str, *, account: str | None = None) -> str:
        """Take exactly that back; the capture's id."""
        return await self._link("DELETE", one, other, account)

    async def _link(self, method: str, one: str, other: str, account: str | None) -> str:
        within = {} if account is None else {"account": account}
        said = {**within, "one": one, "other": other}
        return (await self._ask(method, "/v1/links", Linked, body=said)).capture

    async def _ask(
        self,
        method: str,
        path: str,
        result: type[_Result],
        *,
        body: Any = None,
        parameters: dict[str, str] | None = None,
    ) -> _Result:
        content = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            response = await self._http.request(method, path, content=content, params=parameters, headers=headers)
        except httpx.TransportError as error:
            raise Unreachable(f"nothing answers on {self._http.base_url}: {type(error).__name__}") from error
        if response.status_code != httpx.codes.OK:
            _refuse(response)
        try:
            return msgspec.json.decode(response.content, type=result)
        except msgspec.DecodeError as error:
            raise Refused(response.status_code, "error", f"that is no answer of partyline's: {error}") from error


def _json(value: Any) -> Any:
    """JSON as it came stays as it came; anything else is encoded."""
    return orjson.Fragment(value) if isinstance(value, bytes) else value


def _refuse(response: httpx.Response) -> NoReturn:
    """Raise what a problem means; an answer that is none comes from something in between."""
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem("error", f"HTTP {response.status_code}, from something that is not partyline")
    if problem.reason == Overloaded.reason:
        raise Overloaded(problem.detail)
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise StoreError(problem.detail)
    raise Refused(response.status_code, problem.reason, problem.detail)
