"""The two kinds of child process: one that answers HTTP, one that works off the capture log."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Coroutine
from functools import partial
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp

from correlator.lease import LEASE_SECONDS, Lease
from correlator.redis_client import connect
from correlator.store import Store
from receiver.acceptance import Gate, accept, accept_all
from receiver.app import make_app
from receiver.captures import CaptureLog
from receiver.http_protocol import HttpProtocol
from receiver.namespace import keyspace_of
from receiver.pipeline import Pipeline
from receiver.process import settle, stop_signal
from receiver.providers import PROVIDERS
from receiver.settings import Server, Settings
from schemas.keyspace import Keyspace, keyspaces

#: How long a worker that is told to stop waits for requests under way.
GRACE_SECONDS = 15
_READ_TIMEOUT_SECONDS = 10.0
_RETRY_SECONDS = 0.5


def run_http(settings: Settings, sockets: list[socket.socket]) -> None:
    """Answer HTTP on sockets that are bound already, until SIGTERM; then finish what is under way."""
    _run(_serve_http(settings, sockets))


def run_pipeline(settings: Settings, partition: int) -> None:
    """Commit the captures of a partition until SIGTERM; then finish the batch under way and give up the lease."""
    _run(_serve_pipeline(settings, Keyspace(settings.namespace, partition)))


def _run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def _serve_http(settings: Settings, sockets: list[socket.socket]) -> None:
    clients = [
        connect(settings.redis.url, settings.redis.write_deadline_seconds, keyspace)
        for keyspace in keyspaces(settings.namespace, settings.redis.partitions)
    ]
    app = make_app(settings, PROVIDERS, clients, check=partial(accept_all, clients, settings))
    settle()
    await uvicorn.Server(server_config(app, settings.server)).serve(sockets)


def server_config(app: ASGIApp, server: Server) -> uvicorn.Config:
    """How uvicorn runs the application."""
    proxies = [str(network) for network in server.trusted_proxies]
    return uvicorn.Config(
        app,
        loop="none",
        http=HttpProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it would write URL tokens
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


async def _serve_pipeline(settings: Settings, keyspace: Keyspace) -> None:
    redis = connect(settings.redis.url, _READ_TIMEOUT_SECONDS, keyspace)
    stopped = stop_signal()
    try:
        if not await _accepted(Gate(partial(accept, redis, keyspace, settings)), stopped):
            return
        keyspace = await keyspace_of(redis, keyspace)
        pipeline = Pipeline(
            CaptureLog(redis, keyspace),
            Store(redis, keyspace, settings.id_key, settings.retention.messages_seconds),
            Lease(redis, keyspace, LEASE_SECONDS),
            PROVIDERS,
            settings.retention,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, pipeline.stop)
        if stopped.is_set():
            pipeline.stop()
        settle()
        await pipeline.run()
    finally:
        with contextlib.suppress(OSError):
            await redis.aclose()


async def _accepted(gate: Gate, stopped: asyncio.Event) -> bool:
    """Wait until Redis is there and as it should be; False if we are to end before."""
    while not await gate.ask():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), _RETRY_SECONDS)
        if stopped.is_set():
            return False
    return True
