"""`partyline tail`: what is published, as it is, and what was."""

import asyncio
import os
import stat
from collections.abc import Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer
from redis.asyncio import Redis
from rich.markup import escape

from correlator.following import Outages, before_last, every_entry, newest
from correlator.hints import following_for_ever
from correlator.lanes import Position, just_before, show_position
from correlator.lookup import Lookup
from receiver.cli.output import readable_output
from receiver.cli.reaching import directory_of, redis_of, running_redis
from receiver.cli.terminal import ConfigOption, EventPrinter, err, out, settings_at
from receiver.interest import Interest
from receiver.process import stop_signal
from receiver.selection import TIME_FORMS, Asked, Selection, SelectionError, read_selection
from receiver.settings import Settings
from schemas.clock import unix_milliseconds
from schemas.errors import StoreError
from schemas.ids import ConversationKey
from schemas.keyspace import Keyspace
from schemas.published import PUBLISHED_ONLY


def tail(
    *,
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="Whole envelopes, one a line.")] = False,
    since: Annotated[str | None, typer.Option(help=f"Begin with what was published then: {TIME_FORMS}.")] = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=1, help="Begin with the last so many.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on with what is published then.")] = True,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Only this type; may be repeated, as may all below.")
    ] = None,
    conversation: Annotated[
        list[str] | None, typer.Option(help="Only this conversation, by any key that ever meant it.")
    ] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Only of this provider.")] = None,
    account: Annotated[list[str] | None, typer.Option(help="Only of this account.")] = None,
    address: Annotated[list[str] | None, typer.Option(help="Only what names this address, a member or sender.")] = None,
) -> None:
    """Show events as they are published, one readable line each; through restarts of Redis, with none missed.

    Example: partyline tail --since 2h --type message.received
    """
    settings = settings_at(config)
    asked = Asked(
        since=since,
        type=type_ or (),
        conversation=conversation or (),
        provider=provider or (),
        account=account or (),
        address=address or (),
    )
    selection = read_selection(asked, datetime.now(UTC), directory_of(settings))
    _refuse_contradictions(selection, last, follow=follow)
    _warn_of_accounts(selection, settings)
    with readable_output():
        asyncio.run(_until_stopped(_tail(settings, selection, last, EventPrinter(as_json=json), follow=follow)))


# --- what is asked ---


def _refuse_contradictions(selection: Selection, last: int | None, *, follow: bool) -> None:
    if selection.since is not None and last is not None:
        raise SelectionError("--last: say where to begin with one of --since and --last")
    begins = selection.since is not None or last is not None
    if not follow and not begins:
        raise SelectionError(
            "--no-follow: that ends where the stream ends now, so say with --since or --last what to show"
        )
    if begins and selection.types and selection.types <= PUBLISHED_ONLY:
        raise SelectionError("--type: typing is on pub/sub only, so none is kept: leave out --since and --last")


def _warn_of_accounts(selection: Selection, settings: Settings) -> None:
    """An account may have gone from the configuration, so it is not refused; a slip of the pen is found, though."""
    if unknown := selection.accounts - settings.accounts.keys():
        known = ", ".join(sorted(settings.accounts))
        err.print(f"[yellow]--account: {escape(', '.join(sorted(unknown)))} is not configured; there are {known}[/]")


# --- what is done ---


async def _tail(
    settings: Settings, selection: Selection, last: int | None, printer: EventPrinter, *, follow: bool
) -> None:
    async with running_redis(settings) as redis, redis_of(settings, None) as listening:
        tail = _Tail(redis, Keyspace(settings.namespace), selection, printer)
        begin = await tail.begin(last)
        if not follow:
            await tail.record(begin, await newest(redis, tail.keyspace))
            return
        if out.is_terminal:
            err.print(f"[dim]Events of namespace {settings.namespace}, live. Ctrl-C ends this.[/]")
        live = [tail.record(begin)] if tail.has(recorded=True) else []
        live += [tail.hints(listening)] if tail.has(recorded=False) else []
        await _until_one_ends(*live)


class _Tail:
    """Shows what is wanted of the stream, which is the record, and of what is on pub/sub only."""

    def __init__(self, redis: Redis, keyspace: Keyspace, selection: Selection, printer: EventPrinter) -> None:
        self.keyspace = keyspace
        self._redis = redis
        self._lookup = Lookup(redis, keyspace, b"")  # keys are looked up and none derived, so no id_key is needed
        self._selection = selection
        self._printer = printer
        self._interest = Interest(selection, ())

    def has(self, *, recorded: bool) -> bool:
        """Whether something is wanted of what is in the stream, or of what is not."""
        types = self._selection.types
        return not types or bool(types - PUBLISHED_ONLY if recorded else types & PUBLISHED_ONLY)

    async def begin(self, last: int | None) -> Position:
        """The position that everything to be shown stands after. Raises StoreError when Redis is not there."""
        await self._look_up()
        if last is not None:
            return await before_last(self._redis, self.keyspace, last, self._interest.wants)
        if self._selection.since is not None:
            return just_before((unix_milliseconds(self._selection.since), 0))
        return await newest(self._redis, self.keyspace)

    async def record(self, after: Position, until: Position | None = None) -> None:
        """Show the stream from a position on, through every outage."""
        outages = Outages(_say)
        async for entry in every_entry(self._redis, self.keyspace, after, outages, until=until):
            if self._interest.is_moved_by(entry.envelope):
                await outages.through(self._look_up)
            if self._interest.wants(entry.envelope):
                self._printer.show(entry.envelope, show_position(entry.position))

    async def hints(self, redis: Redis) -> None:
        """Show what is only on pub/sub. Of an outage the stream tells already, if that is read."""
        outages = Outages(_say if not self.has(recorded=True) else lambda _: None)
        async for envelope in following_for_ever(redis, [self.keyspace], PUBLISHED_ONLY, outages):
            if self._interest.wants(envelope):
                self._printer.show(envelope)

    async def _look_up(self) -> None:
        """Which keys mean the conversations wanted now."""
        named = map(ConversationKey, self._selection.conversations)
        self._interest = Interest(self._selection, await self._lookup.equivalents(named))


def _say(error: StoreError | None) -> None:
    if error is None:
        err.print("[green]Redis is back;[/] going on where it was")
    else:
        err.print(f"[yellow]Redis is away, waiting for it[/] ({escape(str(error))})")


# --- how it ends ---


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Do it until Ctrl-C, or until whoever reads the output has gone."""
    stopping = stop_signal()
    loop, output = asyncio.get_running_loop(), out.file.fileno()
    if stat.S_ISFIFO(os.fstat(output).st_mode):
        # Nothing is ever to be read at this end of a pipe, so this only happens once its other end is closed.
        loop.add_reader(output, partial(_end, loop, output, stopping))
    await _until_one_ends(stopping.wait(), work)


def _end(loop: asyncio.AbstractEventLoop, output: int, stopping: asyncio.Event) -> None:
    loop.remove_reader(output)
    stopping.set()


async def _until_one_ends(*works: Coroutine[Any, Any, Any]) -> None:
    """Do all of it at once until one of them ends, and raise what it did."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
