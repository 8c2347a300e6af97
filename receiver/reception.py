"""Receives a request's body: counted while it streams in, and never held beyond the limits."""

import asyncio
from typing import Self

from starlette.types import Receive, Scope

from schemas.errors import BodyTooLarge, BodyTooSlow, Overloaded


class Reception:
    """The limits on bodies, and how many bytes are in flight within them. One a process."""

    def __init__(self, max_body_bytes: int, max_in_flight_bytes: int, body_timeout_seconds: float) -> None:
        """All three are security limits: what one request, and all together, may cost us."""
        self._max_body_bytes = max_body_bytes
        self._max_in_flight_bytes = max_in_flight_bytes
        self._body_timeout_seconds = body_timeout_seconds
        self._in_flight_bytes = 0

    def admit(self, scope: Scope) -> "Body":
        """A request may begin: refuses at once what declares itself too large, or comes when we are full."""
        declared = _declared_length(scope)
        if declared > self._max_body_bytes:
            raise self._too_large()
        if self._in_flight_bytes + declared > self._max_in_flight_bytes:
            raise Overloaded("more request bytes in flight than server.max_in_flight")
        return Body(self)

    async def read(self, body: "Body", receive: Receive) -> bytes:
        """The whole body; BodyTooLarge, BodyTooSlow or Overloaded as soon as it is so."""
        try:
            async with asyncio.timeout(self._body_timeout_seconds):
                return await self._read(body, receive)
        except TimeoutError:
            seconds = self._body_timeout_seconds
            raise BodyTooSlow(f"the body took longer than server.body_timeout ({seconds:g} s)") from None

    async def _read(self, body: "Body", receive: Receive) -> bytes:
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BodyTooSlow("the connection ended before the body did")
            chunk: bytes = message.get("body", b"")
            self._count(body, len(chunk))
            if not message.get("more_body", False):
                return chunk if not chunks else b"".join([*chunks, chunk])
            chunks.append(chunk)

    def _count(self, body: "Body", size: int) -> None:
        body.held_bytes += size
        self._in_flight_bytes += size
        if body.held_bytes > self._max_body_bytes:
            raise self._too_large()
        if self._in_flight_bytes > self._max_in_flight_bytes:
            raise Overloaded("more request bytes in flight than server.max_in_flight")

    def release(self, body: "Body") -> None:
        """The request is answered: its bytes are no longer in flight."""
        self._in_flight_bytes -= body.held_bytes
        body.held_bytes = 0

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"more than server.max_body ({self._max_body_bytes} bytes)")


class Body:
    """One request's body while it is in flight; a context manager, so that its bytes are always given back."""

    __slots__ = ("_reception", "held_bytes")

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self.held_bytes = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the bytes back."""
        self._reception.release(self)

    async def read(self, receive: Receive) -> bytes:
        """The whole body, within the limits."""
        return await self._reception.read(self, receive)


def _declared_length(scope: Scope) -> int:
    """What Content-Length says, 0 when it says nothing usable; the bytes are counted all the same."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 0  # noqa: PLR2004 - 64 bits
    return 0
