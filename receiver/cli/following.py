"""`partyline tail`: events as they are published."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from correlator.filtering import Filter
from correlator.hints import following
from receiver.cli.reaching import redis_of
from receiver.cli.terminal import ConfigOption, config_path, print_event
from receiver.process import stop_signal
from receiver.settings import Settings, load
from schemas.errors import ConfigError
from schemas.events import EVENT_TYPES
from schemas.keyspace import keyspaces
from schemas.reader import glance


def tail(
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="Whole envelopes, one a line.")] = False,  # noqa: FBT002 - a flag
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only this type; may be repeated.")] = None,
    conversation: Annotated[list[str] | None, typer.Option(help="Only this key; may be repeated.")] = None,
) -> None:
    """Follow events live, one readable line each.

    Example: partyline tail --type message.received
    """
    unknown = sorted(set(type_ or ()) - EVENT_TYPES)
    if unknown:
        raise ConfigError(
            [f"--type: there is no {name}; there are {', '.join(sorted(EVENT_TYPES))}" for name in unknown]
        )
    settings = load(config_path(config), os.environ)
    try:
        wanted = Filter(frozenset(type_) if type_ else None, frozenset(conversation) if conversation else None)
        asyncio.run(_tail(settings, wanted, as_json=json))
    except BrokenPipeError:  # who read us, `head` for one, has enough; nor may the last flush at our end fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _tail(settings: Settings, wanted: Filter, *, as_json: bool) -> None:
    stopped = asyncio.ensure_future(stop_signal().wait())
    try:
        async with (
            redis_of(settings, None) as redis,
            following(redis, keyspaces(settings.namespace, settings.redis.partitions)) as envelopes,
        ):
            reading = asyncio.ensure_future(_follow(envelopes, wanted, as_json=as_json))
            await asyncio.wait({stopped, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
    finally:
        stopped.cancel()


async def _follow(envelopes: AsyncIterator[bytes], wanted: Filter, *, as_json: bool) -> None:
    async for envelope in envelopes:
        if not wanted.wants(glance(envelope)):
            continue
        if as_json:
            sys.stdout.buffer.write(envelope + b"\n")
            sys.stdout.buffer.flush()
        else:
            print_event(envelope)
