"""One keep-alive connection of a sender, and what is posted over it."""

import asyncio
import time
from typing import Protocol, cast

import orjson

from tests.chaos.facts import Fact
from tests.chaos.ledger import OK


class Callback:
    """A fact that is being posted, or will be again."""

    __slots__ = ("attempts", "done", "fact", "number")

    def __init__(self, number: int, fact: Fact) -> None:
        self.number = number
        self.fact = fact
        self.attempts = 0
        #: Whether it was answered 200.
        self.done = False


class Owner(Protocol):
    """Whoever has connections, and is told what comes of them."""

    def release(self, connection: "Connection", *, reusable: bool) -> None:
        """A connection is free, or gone."""

    def answered(self, callback: Callback, sent_at: float, status: int, reason: str) -> None:
        """A callback was answered, or (status 0) will not be."""


class Connection(asyncio.Protocol):
    """One keep-alive connection: at most one request at a time."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.callback: Callback | None = None
        self.sent_at = 0.0
        self.deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be used from now on."""
        self._transport = cast("asyncio.Transport", transport)

    def post(self, callback: Callback, request: bytes, patience: float) -> None:
        """Send a request."""
        assert self._transport is not None
        self.callback, self.sent_at = callback, time.monotonic()
        self.deadline = self.sent_at + patience
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Once an answer is whole, tell it."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        lowered = head.lower()
        if not found or len(body) < _content_length(lowered):
            return
        self._buffer = b""
        status = int(head[9:12])
        reason = "" if status == OK else str(orjson.loads(body).get("reason", ""))
        if b"connection: close" in lowered:
            self.abort()
            self._end(status, reason, reusable=False)
        else:
            self._end(status, reason, reusable=True)

    def connection_lost(self, error: Exception | None) -> None:
        """What was under way has no answer."""
        self._end(0, f"connection lost: {type(error).__name__}" if error else "connection closed", reusable=False)

    def abort(self) -> None:
        """Close it without more ado."""
        if self._transport is not None:
            self._transport.abort()

    def time_out(self) -> None:
        """Wait no longer."""
        self._end(0, "time-out", reusable=False)
        self.abort()

    def _end(self, status: int, reason: str, *, reusable: bool) -> None:
        callback, self.callback = self.callback, None
        self._owner.release(self, reusable=reusable)
        if callback is not None:
            self._owner.answered(callback, self.sent_at, status, reason)


def _content_length(head: bytes) -> int:
    at = head.find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
