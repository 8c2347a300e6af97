"""A load generator that costs little: keep-alive connections that each send the next request when answered."""

import asyncio
import time
from collections import Counter, deque
from typing import cast

_LONGEST_SECONDS = 60


class Result:
    """What came of one load."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.statuses: Counter[bytes] = Counter()
        self.seconds = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """A latency in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


class Connection(asyncio.Protocol):
    """One connection: request, answer, request."""

    def __init__(self, requests: deque[bytes], result: Result, done: "asyncio.Future[None]") -> None:
        self._requests = requests
        self._result = result
        self._done = done
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own
        self._send()

    def data_received(self, data: bytes) -> None:
        """Count an answer once it is whole, and send the next."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        self._buffer = b""
        self._result.latencies.append(time.perf_counter() - self._sent_at)
        self._result.statuses[head[9:12]] += 1
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """A connection that ends early fails the load."""
        if not self._done.done():
            self._done.set_exception(ConnectionError(f"connection lost: {error}"))

    def _send(self) -> None:
        assert self._transport is not None
        if not self._requests:
            if not self._done.done():
                self._done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests.popleft())


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    if at < 0:
        return 0
    return int(head[at + 15 :].split(b"\r\n", 1)[0])


async def run(port: int, requests: list[bytes], connections: int) -> Result:
    """Send all requests over so many connections at once; returns when each is answered."""
    result, queue = Result(), deque(requests)
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for future in done:
        await loop.create_connection(lambda future=future: Connection(queue, result, future), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.wait_for(asyncio.gather(*done), _LONGEST_SECONDS)
    result.seconds = time.perf_counter() - began
    return result


def request(path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """The bytes of one request."""
    lines = [
        f"POST {path} HTTP/1.1".encode(),
        b"host: 127.0.0.1",
        b"content-type: application/json",
        b"user-agent: telnyx-webhooks",
        b"content-length: " + str(len(body)).encode(),
        *(name + b": " + value for name, value in headers),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
