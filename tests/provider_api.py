"""Stands in for the providers' own APIs: a real HTTP server that answers sends as Telnyx and Sendblue document.

Nothing is delivered; a test posts the reports, in the provider's real form, to the receiver itself.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.service import listening, serving

TELNYX_KEY = "KEY-Telnyx-made-up"
SENDBLUE_KEY, SENDBLUE_SECRET = "sendblue-id-made-up", "sendblue-secret-made-up"


class Sent(NamedTuple):
    """One send that was taken."""

    path: str
    body: dict[str, Any]
    #: The id that the answer gives it.
    id: str
    #: Its idempotency key, where it has one.
    key: str | None = None


async def _at_once(_: Sent) -> None:
    """Nothing happens before the answer."""


class ProviderApi:
    """The sends that were taken, and what is to happen with the next ones."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.sends: list[Sent] = []
        #: Every request, refused ones included.
        self.requests = 0
        #: Statuses that the next requests are answered with instead of being taken.
        self.failures: deque[int] = deque()
        #: Awaited when a send was taken, before it is answered.
        self.before_answer: Callable[[Sent], Awaitable[None]] = _at_once
        self._numbers = count(1)

    async def telnyx(self, request: Request) -> Response:
        """`POST /v2/messages` and `/v2/messages/group_mms`."""
        if request.headers.get("authorization") != f"Bearer {TELNYX_KEY}":
            return JSONResponse({"errors": [{"code": "10009", "title": "Authentication failed"}]}, 401)
        return await self._take(request, _telnyx_answer)

    async def sendblue(self, request: Request) -> Response:
        """`POST /api/send-message` and `/api/send-group-message`."""
        keys = request.headers.get("sb-api-key-id"), request.headers.get("sb-api-secret-key")
        if keys != (SENDBLUE_KEY, SENDBLUE_SECRET):
            return JSONResponse({"status": "ERROR", "message": "Unauthorized"}, 401)
        return await self._take(request, _sendblue_answer)

    async def _take(self, request: Request, answer: Callable[[Sent], dict[str, Any]]) -> Response:
        self.requests += 1
        if self.failures:
            return JSONResponse({"errors": [{"title": "made to fail"}]}, self.failures.popleft())
        key = request.headers.get("idempotency-key")
        sent = Sent(request.url.path, orjson.loads(await request.body()), f"sent-{next(self._numbers)}", key)
        self.sends.append(sent)
        await self.before_answer(sent)
        return JSONResponse(answer(sent))

    async def taken(self, number: int) -> Sent:
        """A send, once it was taken; the first is 1."""
        async with asyncio.timeout(20):
            while len(self.sends) < number:  # noqa: ASYNC110 - a list tells of no change
                await asyncio.sleep(0.02)
        return self.sends[number - 1]


def _telnyx_answer(sent: Sent) -> dict[str, Any]:
    """One record; that of a group send has the line as a bare text, and no id of the group."""
    is_group = sent.path.endswith("/group_mms")
    to = sent.body["to"] if is_group else [sent.body["to"]]
    parties = [{"phone_number": number, "status": "queued", "carrier": "", "line_type": "Wireless"} for number in to]
    line = {"phone_number": sent.body["from"], "carrier": "TELNYX LLC", "line_type": "VoIP"}
    record = {
        "record_type": "message",
        "direction": "outbound",
        "id": sent.id,
        "type": "MMS" if is_group else "SMS",
        "messaging_profile_id": "profile-1",
        "from": sent.body["from"] if is_group else line,
        "to": parties,
        "text": sent.body["text"],
        "media": [],
        "encoding": "GSM-7",
        "parts": 1,
        "cost": {"amount": "0.0800", "currency": "USD"},
    }
    return {"data": record}


def _sendblue_answer(sent: Sent) -> dict[str, Any]:
    """The message; that of a group has its id, and lists of numbers where there were any."""
    is_group = sent.path.endswith("/send-group-message")
    to = sent.body.get("numbers", []) if is_group else sent.body["number"]
    return {
        "accountEmail": "rowing",
        "content": sent.body["content"],
        "is_outbound": True,
        "status": "QUEUED",
        "error_code": None,
        "error_message": None,
        "message_handle": sent.id,
        "from_number": sent.body["from_number"],
        "number": to,
        "to_number": to,
        "was_downgraded": None,
        "plan": "dedicated",
        "media_url": "",
        "message_type": "group" if is_group else "message",
        "group_id": sent.body.get("group_id", ""),
    }


@asynccontextmanager
async def provider_api() -> AsyncIterator[ProviderApi]:
    """A running stand-in, Telnyx' API under /v2, Sendblue's under /api."""
    bound = listening()
    api = ProviderApi(f"http://127.0.0.1:{bound.getsockname()[1]}")
    routes = [
        *(Route(f"/v2/messages{rest}", api.telnyx, methods=["POST"]) for rest in ("", "/group_mms")),
        *(Route(f"/api/{name}", api.sendblue, methods=["POST"]) for name in ("send-message", "send-group-message")),
    ]
    async with serving(uvicorn.Config(Starlette(routes=routes), log_level="warning"), [bound]):
        yield api
