"""`/v1`: registering sends, linking, and looking conversations up. For us, never for providers.

Every resource answers in this order: 404 while `server.api_tokens` is empty, 405, 401, and only then is a byte of the
body read. What is handed in goes through the same writer into the same log as callbacks do. It is refused before that
if the pipeline could make nothing of it: unlike a provider, who asks here can mend it and ask again.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import orjson
import structlog
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as Asgi

from correlator.lookup import Page
from correlator.lookups import Lookups
from receiver import metrics
from receiver.answers import (
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    UNFORESEEN,
    Header,
    answer,
    answer_error,
    answer_problem,
    answer_unavailable,
)
from receiver.authentication import Caller, authorise, stored_headers, vouched, without_credentials
from receiver.links import Tying, link_body, place_of, read_key, read_request
from receiver.operations import by_path
from receiver.queries import ById, Directory, Query, UnknownConversation, read_query
from receiver.reception import Reception
from receiver.registration import conversations, outbound, readable
from receiver.webhooks import Clock, Endpoint, arrival_of, mint
from receiver.writer import Writer
from schemas.callback import UNKNOWN, AccountFacts, Callback, CaptureKind
from schemas.errors import (
    AuthenticationError,
    BodyTooLarge,
    BodyTooSlow,
    CallbackError,
    ParseError,
    PartylineError,
    StoreError,
    UnknownAccount,
)
from schemas.events import Link, Tie
from schemas.ids import CaptureId
from schemas.wire import encode_capture, encode_facts

_OFF = "server.api_tokens is empty, so /v1 is switched off: add a token there"
_UNAVAILABLE = "Redis does not answer in time; ask again, which does no harm if this was stored after all"
_JSON = b"application/json"
#: What is answered is about people, and true for a moment only.
_UNSTORED: Header = (b"cache-control", b"no-store")
_MAX_PARAMETERS = 20

log = structlog.get_logger()

#: Takes who asks, the request and its body's stream, and gives what is answered with 200.
Handler = Callable[[Caller, Asgi, Receive], Awaitable[dict[str, Any]]]


class Api:
    """What answers under `/v1`."""

    def __init__(
        self,
        *,
        tokens: tuple[str, ...],
        endpoints: Mapping[str, Endpoint],
        providers: frozenset[str],
        reception: Reception,
        writer: Writer,
        lookup: Lookups,
        clock: Clock,
    ) -> None:
        """`reception` and `writer` are those of the webhooks: one limit and one order for both."""
        self._tokens = tokens
        self._endpoints = endpoints
        self._directory = Directory({name: each.provider.name for name, each in endpoints.items()}, providers)
        self._reception = reception
        self._writer = writer
        self._lookup = lookup
        self._clock = clock

    def routes(self) -> list[Route]:
        """The resources, each at its path."""
        handlers: dict[str, Handler] = {
            "register": self._register,
            "link": partial(self._link, undone=False),
            "unlink": partial(self._link, undone=True),
            "find": self._find,
            "show": self._show,
        }
        return [Route(path, _Resource(path, methods, self._tokens)) for path, methods in by_path(handlers).items()]

    # --- sends of ours ---

    async def _register(self, caller: Caller, scope: Asgi, receive: Receive) -> dict[str, Any]:
        path = scope["path_params"]
        endpoint = self._endpoints.get(path["account"])
        if endpoint is None or endpoint.provider.name != path["provider"]:
            raise UnknownAccount("no such account at this provider: see [accounts.*]")
        with self._reception.admit(scope) as body:
            callback = self._callback(caller, endpoint, scope, await body.read(receive))
            identifier = mint(callback.received_at)
            capture = outbound(identifier, callback)
            events = readable(capture, endpoint.provider)
            await self._write(identifier, callback, endpoint.facts, "outbound")
        derived_under = await self._lookup.scope(callback.provider, callback.account)
        found = conversations(events, derived_under, capture.line_addresses())
        return {"capture": identifier, "conversations": [{"recipient": one.recipient, "key": one.key} for one in found]}

    def _callback(self, caller: Caller, endpoint: Endpoint, scope: Asgi, body: bytes) -> Callback:
        return vouched(
            caller,
            provider=endpoint.provider.name,
            account=endpoint.account.name,
            facts=endpoint.account.facts,
            headers=stored_headers(arrival_of(endpoint, scope, body), endpoint.provider),
            body=body,
            now=self._clock(),
        )

    async def _write(self, identifier: CaptureId, callback: Callback, facts: bytes, kind: CaptureKind) -> None:
        await self._writer.write(encode_capture(identifier, callback, facts, kind))

    # --- links ---

    async def _link(self, caller: Caller, scope: Asgi, receive: Receive, *, undone: bool) -> dict[str, Any]:
        with self._reception.admit(scope) as body:
            asked = read_request(await body.read(receive), self._directory)
        link, provider, account = await placed(self._lookup, asked, undone=undone)
        callback = vouched(
            caller,
            provider=provider,
            account=account,
            facts=self._facts_of(account),
            headers=without_credentials(tuple(scope["headers"])),
            body=link_body(link, undone=undone),
            now=self._clock(),
        )
        identifier = mint(callback.received_at)
        await self._write(identifier, callback, encode_facts(callback.facts), "link")
        return {"capture": identifier}

    def _facts_of(self, account: str) -> AccountFacts:
        """The facts of an account; a conversation may be of one that is no longer configured."""
        endpoint = self._endpoints.get(account)
        return AccountFacts() if endpoint is None else endpoint.account.facts

    # --- looking up ---

    async def _show(self, _caller: Caller, scope: Asgi, _receive: Receive) -> dict[str, Any]:
        key = read_key(scope["path_params"]["key"])
        shown = None if key is None else await self._lookup.conversation(key)
        if shown is None:
            raise UnknownConversation("nothing has been published under this key")
        return shown

    async def _find(self, _caller: Caller, scope: Asgi, _receive: Receive) -> dict[str, Any]:
        page = await look_up(self._lookup, read_query(_parameters(scope), self._directory))
        return {"conversations": page.conversations, "after": page.after}


async def look_up(lookup: Lookups, query: Query) -> Page:
    """The page of conversations that a query asks for."""
    by = query.by
    if isinstance(by, ById):
        return await lookup.by_id(by.provider, by.account, by.identifier, query.after, query.limit)
    return await lookup.by_address(by.address, by.provider, by.account, query.after, query.limit)


async def placed(lookup: Lookups, asked: Link | Tying, *, undone: bool) -> tuple[Link | Tie, str, str]:
    """The link or tie that is asked for, with the provider and account under which it is captured."""
    if isinstance(asked, Tying):
        return asked.tie, asked.provider, asked.account
    one, other = await lookup.conversation(asked.one), await lookup.conversation(asked.other)
    return asked, *place_of(one, other, lookup.partitions, undone=undone)


def _parameters(scope: Asgi) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_MAX_PARAMETERS,
            errors="strict",
        )
    except ValueError:
        raise CallbackError("the query cannot be read") from None


class _Resource:
    """One path of `/v1` as an ASGI application: who may ask, which method, and what becomes of errors."""

    def __init__(self, path: str, handlers: Mapping[str, Handler], tokens: tuple[str, ...]) -> None:
        self._path = path
        self._handlers = handlers
        self._tokens = tokens
        self._allowed = ", ".join(handlers)

    async def __call__(self, scope: Asgi, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        method = scope["method"] if scope["method"] in self._handlers else "other"
        try:
            outcome, identifier = await self._answer(scope, receive, send)
        except PartylineError as error:
            outcome, identifier = error.reason, None
            await _answer_error(send, error)
        except Exception:
            log.exception("a request failed in a way nobody foresaw", path=self._path)
            outcome, identifier = UNFORESEEN.reason, None
            await answer_unavailable(send, outcome, _UNAVAILABLE)
        milliseconds = round((time.perf_counter() - began) * 1000, 2)
        log.info("api", path=self._path, method=method, outcome=outcome, capture=identifier, milliseconds=milliseconds)

    async def _answer(self, scope: Asgi, receive: Receive, send: Send) -> tuple[str, CaptureId | None]:
        """The outcome in a word, and the capture's id where there is one."""
        if not self._tokens:
            await answer_problem(send, *NOT_FOUND, _OFF)
            return NOT_FOUND.reason, None
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allow = (b"allow", self._allowed.encode())
            await answer_problem(send, *METHOD_NOT_ALLOWED, f"use {self._allowed}", allow)
            return METHOD_NOT_ALLOWED.reason, None
        caller = authorise(tuple(scope["headers"]), self._tokens)
        metrics.CREDENTIALS.labels(UNKNOWN, UNKNOWN, caller.credential).inc()
        said = await handler(caller, scope, receive)
        await answer(send, 200, orjson.dumps(said), _JSON, _UNSTORED)
        return "answered", said.get("capture")


async def _answer_error(send: Send, error: PartylineError) -> None:
    if isinstance(error, ParseError):
        await answer_problem(send, 422, error.reason, str(error))
    elif isinstance(error, CallbackError):
        await answer_error(send, error, *_headers_of(error))
    else:
        reason = error.reason if isinstance(error, StoreError) else UNFORESEEN.reason
        await answer_unavailable(send, reason, _UNAVAILABLE)


def _headers_of(error: CallbackError) -> tuple[Header, ...]:
    """What an answer needs besides its body: a challenge, or the end of a connection whose body is not read."""
    if isinstance(error, AuthenticationError):
        return ((b"www-authenticate", b"Bearer"),)
    if isinstance(error, BodyTooLarge | BodyTooSlow):
        return ((b"connection", b"close"),)
    return ()
