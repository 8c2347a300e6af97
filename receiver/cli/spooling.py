"""`partyline spool`: what waits on this host's disk for Redis; and draining it where no receiver runs any more."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import orjson
import typer

from receiver.acceptance import Gate, accept_all
from receiver.captures import CaptureLog, replicas_of
from receiver.cli.output import counting, run
from receiver.cli.reaching import running_redis
from receiver.cli.terminal import ConfigOption, JsonOption, out, settings_at
from receiver.draining import Drain
from receiver.partitions import CaptureLogs
from receiver.settings import Settings
from receiver.settings.formats import written_age, written_size
from receiver.spool import Account, Spool, file_of
from receiver.spool_file import set_aside
from receiver.tables import columns
from schemas.errors import PartylineError
from schemas.keyspace import keyspaces

commands = typer.Typer(help="Callbacks on this host's disk that wait for Redis.", no_args_is_help=True)

_SHOWN_SECONDS = 0.2


@commands.command()
def ls(*, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Tell what waits in this host's spool: of which account, how much, since when; and what was set aside.

    Example: partyline spool ls
    """
    settings = settings_at(config)
    spool = Spool(settings)
    try:
        found = spool.accounts() if spool.path.exists() else []
    finally:
        spool.close()
    aside = [str(path) for path in set_aside(settings.spool.dir, settings.namespace)]
    said = _said(settings, found, aside)
    if json:
        out.file.write(f"{orjson.dumps(said).decode()}\n")
        return
    now = time.time()
    rows = [
        (each.name, f"{each.captures:,}", written_size(each.bytes), written_age(now - each.oldest_at)) for each in found
    ]
    out.file.write(columns([("account", "callbacks", "bytes", "oldest"), *rows]) if rows else "")
    total = f"{said['captures']:,} callback(s) wait in {spool.path}" if found else f"Nothing waits in {spool.path}"
    out.file.write(f"{total}; {written_size(settings.spool.max_bytes)} fit.\n")
    for path in aside:
        out.file.write(f"Damaged and set aside: {path} (get rows out with `sqlite3 FILE .recover`, then delete it)\n")


def _said(settings: Settings, found: list[Account], aside: list[str]) -> dict[str, Any]:
    return {
        "captures": sum(each.captures for each in found),
        "bytes": sum(each.bytes for each in found),
        "max_bytes": settings.spool.max_bytes,
        "accounts": [
            {"account": each.name, "captures": each.captures, "bytes": each.bytes, "oldest_at": each.oldest_at}
            for each in found
        ],
        "damaged": aside,
    }


@commands.command()
def drain(*, config: ConfigOption = None) -> None:
    """Drain this host's spool into Redis, where no receiver does: on a host that was taken out of service.

    It may be broken off and run again: what Redis has already is recognised. A running receiver drains by itself.

    Example: partyline spool drain
    """
    settings = settings_at(config)
    if not Spool(settings).path.exists():
        raise PartylineError(f"spool.dir: there is no spool at {Spool(settings).path}")
    drained = run(_drain(settings))
    out.file.write(f"Drained {drained:,} callback(s); nothing waits any more.\n")


async def _drain(settings: Settings) -> int:
    async with AsyncExitStack() as stack:
        spaces = keyspaces(settings.namespace, settings.redis.partitions)
        clients = [await stack.enter_async_context(running_redis(settings, each)) for each in spaces]
        places = zip(clients, spaces, strict=True)
        log = CaptureLogs([CaptureLog(*place, replicas_of(settings.redis)) for place in places])
        gate = Gate(partial(accept_all, clients, settings))
        drain = Drain(file_of(settings), log, gate, settings.redis.write_deadline_seconds)
        try:
            with counting("Draining") as show:
                showing = asyncio.create_task(_show(drain, show))
                try:
                    await _emptied(drain, gate)
                finally:
                    showing.cancel()
        finally:
            await drain.close()
    return drain.drained


async def _emptied(drain: Drain, gate: Gate) -> None:
    if not await gate.ask():
        raise PartylineError(f"nothing was drained: {gate.why}")
    if not await drain.empty():
        raise PartylineError("another process of this host drains the spool now: a receiver runs, and does so itself")


async def _show(drain: Drain, show: Any) -> None:
    while True:
        show(drain.drained)
        await asyncio.sleep(_SHOWN_SECONDS)
