"""HTTP/1 as uvicorn speaks it with httptools, and what it leaves open: limits on what no application reads.

Before a request's head is complete no application is asked, so nothing else can refuse what is endless, endlessly slow
or no HTTP at all. All of it is answered with a problem, as any other mistake is. Nor does one read on once it has
answered, so a body that was refused unread has to end in time, or its connection does. Whoever is hung up on in the
middle of sending can still read why.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from receiver import metrics
from receiver.answers import (
    HEAD_TOO_LARGE,
    HEAD_TOO_SLOW,
    MALFORMED_REQUEST,
    METHOD_NOT_ALLOWED,
    PROBLEM,
    Refusal,
    problem,
)
from schemas.callback import UNKNOWN

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0
#: How long a connection without a request stays open when the process ends: one may be on its way.
LINGER_SECONDS = 1.0
_TOO_LARGE = f"more than {HEAD_BYTES} bytes before the body"
_FIELD_BYTES = len(b": \r\n")
#: How long a connection stays open without a request: longer than the 60 s for which load balancers and proxies usually
#: keep theirs. So they hang up first, and send no callback over a connection that is being closed here.
IDLE_SECONDS = 75
#: Where a worker has more connections, which take a file descriptor each, one without a request has less time.
CROWD, CROWDED_IDLE_SECONDS = 500, 5
#: Whoever is about to be hung up on for having sent nothing is looked at once more. Where the process stood still, the
#: event loop finds the time over before it reads what was sent meanwhile.
_LOOK_AGAIN_SECONDS = 0.01
#: How long the rest of a body may take that was answered without it.
UNREAD_SECONDS = 10.0

#: What asks for another protocol, hop by hop; all of ours is HTTP/1.1, so we go on without (RFC 9110, 7.8).
_UPGRADE = frozenset({b"upgrade", b"connection", b"http2-settings"})


def idle_seconds(connections: int) -> int:
    """How long a connection may be without a request, where a worker has so many in all."""
    return IDLE_SECONDS if connections <= CROWD else CROWDED_IDLE_SECONDS


class _Refused(Exception):
    """Ends the parsing of what is answered already; the parser makes an error of its own of it."""


class _Transport:
    """A connection as uvicorn has it, except that to close it is left to the protocol."""

    def __init__(self, transport: asyncio.Transport, hang_up: Callable[[], None]) -> None:
        self.whole = transport
        self.write = transport.write  # as that is done for each answer
        self.close = hang_up
        #: What we had to say is said, and what comes is passed over.
        self.hung_up = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def is_closing(self) -> bool:
        """Whether nothing more is answered."""
        return self.hung_up or self.whole.is_closing()


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    transport: _Transport  # type: ignore[assignment]
    #: Whether what comes next belongs to a head, how much of it came, and what ends the waiting for the rest.
    _in_head = True
    _advanced = False  # a head or a body ended in what was just read
    _head_bytes = 0
    _read_bytes = 0  # in what was just read
    _head_timer: asyncio.TimerHandle | None = None
    #: The process ends: what still comes is answered, and nothing after it.
    _leaving = False
    #: What ends the waiting for a body that nobody reads.
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn itself
        """Begin: the first head has to come in time."""
        super().connection_made(transport)
        self.transport = _Transport(transport, self._hang_up)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_due)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        self._stop_passing_over()
        self._unset_keepalive_if_required()  # uvicorn leaves it to run where the connection was reset
        super().connection_lost(exc)
        self.transport.close = self.transport.whole.close  # so that nothing is left for the garbage collector to find

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self.transport.hung_up:
            return
        self._unset_keepalive_if_required()
        self._advanced = False
        self._read_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(MALFORMED_REQUEST, "this is not HTTP/1.1")
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        if self._in_head and not self._advanced:
            self._watch_head(len(data))

    def on_headers_complete(self) -> None:
        """The head is there: hand the request on, unless it has to be read again without its wish to upgrade."""
        whole = self._head_bytes + self._read_bytes
        self._in_head = False
        self._advanced = True
        self._head_bytes = 0
        self._stop_waiting()
        if whole > HEAD_BYTES and self._counted() > HEAD_BYTES:  # it came at once, or with what follows it
            self._refuse(HEAD_TOO_LARGE, _TOO_LARGE)
            raise _Refused
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            if self._leaving:
                self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """What comes now is the next request's."""
        self._in_head = True
        self._advanced = True
        self._stop_passing_over()
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def shutdown(self) -> None:
        """The process is told to end. Whoever was let in is answered: its request may have been sent already."""
        self._leaving = True
        if self._is_idle:
            self.loop.call_later(LINGER_SECONDS, self._once_more, self._leave_if_idle)
        else:
            super().shutdown()

    @property
    def _is_idle(self) -> bool:
        under_way: RequestResponseCycle | None = self.cycle
        return under_way is None or under_way.response_complete

    def _leave_if_idle(self) -> None:
        # Part of a head is waited for, as always: it has to come in time.
        if self.transport.hung_up:
            self.transport.whole.close()
        elif self._is_idle and not self._head_bytes:
            self.transport.close()

    def _hang_up(self) -> None:
        """Close the connection, between two requests at once."""
        if self.transport.is_closing():
            return
        if self._in_head and not self._head_bytes:
            self.transport.whole.close()
        else:
            self._hang_up_midway()

    def _hang_up_midway(self) -> None:
        """Close our one of its two directions, and pass over what is being sent until the other side has hung up too.

        To close both would, as bytes come that nobody reads, make the system say that the connection was reset, and
        whoever hears that may never see the answer that went before (RFC 9112, 9.6).
        """
        self.transport.hung_up = True
        self.transport.write_eof()
        if not self._is_idle:  # to who answers it, nobody is there any more, as once the connection is lost
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self._stop_waiting()
        self._stop_passing_over()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.whole.close)

    def on_response_complete(self) -> None:
        """An answer is out: what is still to come of the body that it answers, nobody reads."""
        self.timeout_keep_alive = idle_seconds(len(self.connections))
        super().on_response_complete()
        if self._is_idle and not self._in_head and not self.transport.is_closing():
            self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.close)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for long: hang up, unless something has come by now."""
        self.timeout_keep_alive_task = self._once_more(super().timeout_keep_alive_handler)

    def _once_more(self, hang_up: Callable[[], None]) -> asyncio.TimerHandle:
        """Look at what came, and hang up then. To be cancelled where that is no longer wanted."""
        return self.loop.call_later(_LOOK_AGAIN_SECONDS, hang_up)

    def _counted(self) -> int:
        """The bytes of a head that is complete."""
        return len(self.url) + sum(len(name) + len(value) + _FIELD_BYTES for name, value in self.headers)

    def _watch_head(self, size: int) -> None:
        """Part of a head came, or something between two requests."""
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE, _TOO_LARGE)
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_due)

    def _head_is_due(self) -> None:
        self._head_timer = self._once_more(self._head_is_late)

    def _head_is_late(self) -> None:
        if not self._is_idle:  # the answer to the one before goes first
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_due)
        elif self._head_bytes:
            self._refuse(HEAD_TOO_SLOW, f"the head of the request took longer than {HEAD_SECONDS:g} s")
        else:
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_passing_over(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read the request anew as plain HTTP/1.1: the parser passes over the body of one that asks for more."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(METHOD_NOT_ALLOWED, "this is no proxy")
            return
        kept = [(name, value) for name, value in self.headers if name not in _UPGRADE]
        self.parser = httptools.HttpRequestParser(self)
        self._in_head = True
        self.data_received(_head(method, self.url, kept) + rest)

    def _refuse(self, refusal: Refusal, detail: str) -> None:
        """Answer what never became a request, and hang up."""
        if self.transport.is_closing():
            return
        metrics.CALLBACKS.labels(UNKNOWN, UNKNOWN, refusal.reason).inc()
        body = problem(*refusal, detail)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", PROBLEM),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        self.transport.write(STATUS_LINE[refusal.status] + _fields(headers) + body)
        self._hang_up_midway()


def _head(method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join((method, b" ", url, b" HTTP/1.1\r\n", _fields(headers)))


def _fields(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"
