"""How long connections stay open between two requests, on the event loop that the service has and with real sockets."""

import asyncio
import contextlib
import gc
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop

from receiver import http_protocol
from receiver.http_protocol import HttpProtocol, idle_seconds
from tests.service import serving

DEPLOY = Path(__file__).parent.parent / "deploy"
QUIET, STALL = b"/", b"/stall"
STALL_SECONDS = 3.0


class Stalling(HttpProtocol):
    """Where it is asked to, the whole process stands still in the middle of looking at connections."""

    def data_received(self, data: bytes) -> None:
        """Read a request."""
        super().data_received(data)
        if STALL in data:
            time.sleep(STALL_SECONDS)


async def answering(_scope: Any, _receive: Any, send: Any) -> None:
    """An application that answers."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def served(client: Callable[[int, Callable[[], None]], None]) -> None:
    """Serve as the service does while a client, in a thread of its own, talks to the port, and may have it end."""

    async def serve() -> None:
        config = uvicorn.Config(answering, loop="none", http=Stalling, ws="none", lifespan="off", log_config=None)
        with socket.create_server(("127.0.0.1", 0)) as bound:
            async with serving(config, [bound]) as server:
                leave = partial(setattr, server, "should_exit", True)
                await asyncio.to_thread(client, bound.getsockname()[1], leave)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """A connection on which a request was answered already."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        ask(plain)
        assert status_on(plain) == b"204"
        yield plain


def ask(plain: socket.socket, path: bytes = QUIET) -> None:
    """Send a request."""
    plain.sendall(b"GET " + path + b" HTTP/1.1\r\nhost: here\r\n\r\n")


def status_on(plain: socket.socket) -> bytes:
    """The status of the answer that comes; empty: the connection was closed instead."""
    return plain.recv(4096)[9:12]


def test_what_was_sent_while_the_process_stood_still_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of an idle connection is over before its request is looked at, which came in time."""
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS", 2)
    seen: list[bytes] = []

    def client(port: int, _leave: Callable[[], None]) -> None:
        with connected(port) as idle, connected(port) as other:
            ask(other, STALL)
            time.sleep(0.3)
            ask(idle)
            seen.extend([status_on(other), status_on(idle)])

    served(client)

    assert seen == [b"204", b"204"]


def test_a_first_request_that_was_sent_while_the_process_stood_still_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So is who has connected, and whose head came in time."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 2.0)
    seen: list[bytes] = []

    def client(port: int, _leave: Callable[[], None]) -> None:
        with connected(port) as other, socket.create_connection(("127.0.0.1", port), timeout=10) as new:
            time.sleep(0.3)  # it is accepted, and its time runs
            ask(other, STALL)
            time.sleep(0.3)
            ask(new)
            seen.extend([status_on(other), status_on(new)])

    served(client)

    assert seen == [b"204", b"204"]


def test_what_was_sent_while_an_ending_process_stood_still_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a connection may not know of the end yet, and is given some time, in which nobody may be looking."""
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 2.0)
    seen: list[bytes] = []

    def client(port: int, leave: Callable[[], None]) -> None:
        with connected(port) as idle, connected(port) as other:
            leave()
            time.sleep(0.3)
            ask(other, STALL)
            time.sleep(0.3)
            ask(idle)
            seen.extend([status_on(other), status_on(idle), status_on(idle)])

    served(client)

    assert seen == [b"204", b"204", b""]


def test_nobody_stays_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing comes is closed, also after a second request."""
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS", 2)
    seen: list[tuple[bytes, bool]] = []

    def client(port: int, _leave: Callable[[], None]) -> None:
        with connected(port) as idle:
            ask(idle)
            assert status_on(idle) == b"204"
            before = time.monotonic()
            seen.append((status_on(idle), time.monotonic() - before > 1.9))

    served(client)

    assert seen == [(b"", True)]


def test_a_connection_that_is_reset_leaves_nothing_behind() -> None:
    """Whoever connects, asks and resets again and again would fill the memory with what waits for its time."""
    left: list[int] = []

    def client(port: int, _leave: Callable[[], None]) -> None:
        for _ in range(20):
            with connected(port) as plain:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # to close is to reset
        deadline = time.monotonic() + 10
        while (count := kept()) and time.monotonic() < deadline:
            time.sleep(0.05)
        left.append(count)

    served(client)

    assert left == [0]


def kept() -> int:
    """How many connections the process still has in memory."""
    gc.collect()
    return sum(isinstance(found, Stalling) for found in gc.get_objects())


@pytest.mark.parametrize(("connections", "seconds"), [(1, 75), (500, 75), (501, 5), (60_000, 5)])
def test_a_crowd_has_less_time(connections: int, seconds: int) -> None:
    """Few may stay for longer than a load balancer keeps its connections, 60 s; many may not."""
    assert idle_seconds(connections) == seconds


def test_our_proxies_hang_up_first() -> None:
    """What they keep for the next callback is closed by them, not under their hands by the receiver."""
    upstream = (DEPLOY / "nginx.conf").read_text().partition("upstream partyline {")[2].partition("}")[0]
    [nginx] = re.findall(r"^ *keepalive_timeout (\d+)s;", upstream, re.MULTILINE)
    [caddy] = re.findall(r"^\s*keepalive (\d+)s$", (DEPLOY / "Caddyfile").read_text(), re.MULTILINE)

    assert [int(nginx), int(caddy)] == [60, 60]
    assert http_protocol.IDLE_SECONDS > 60
