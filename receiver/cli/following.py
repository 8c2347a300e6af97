"""`partyline tail`: what is published, as it is, and what was."""

import asyncio
import os
import stat
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer
from redis.asyncio import Redis
from rich.markup import escape

from correlator.following import Entry, Outages, every_entry, in_order, last_wanted, newest
from correlator.hints import following_for_ever
from correlator.lanes import Position, just_before, show_position
from correlator.lookup import Lookup
from receiver.cli.output import readable_output, run
from receiver.cli.reaching import directory_of, partitions_of, redis_of
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

#: A partition, and a client for it.
Place = tuple[Redis, Keyspace]


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
        run(_until_stopped(_tail(settings, selection, last, EventPrinter(as_json=json), follow=follow)))


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
    async with partitions_of(settings) as places, redis_of(settings, None, places[0][1]) as listening:
        tail = _Tail(places, selection, printer)
        ends = [await newest(*place) for place in places]
        await tail.look_up()
        await tail.past(await tail.begins(last, ends), ends)
        if not follow:
            return
        if out.is_terminal:
            err.print(f"[dim]Events of namespace {settings.namespace}, live. Ctrl-C ends this.[/]")
        live = [tail.record(place, end) for place, end in zip(places, ends, strict=True) if tail.has(recorded=True)]
        await _until_one_ends(*live, *([tail.hints(listening)] if tail.has(recorded=False) else []))


class _Tail:
    """Shows what is wanted of the stream, which is the record, and of what is on pub/sub only; of each partition."""

    def __init__(self, places: Sequence[Place], selection: Selection, printer: EventPrinter) -> None:
        self._places = places
        # Keys are looked up and none derived, so no id_key is needed.
        self._lookups = [Lookup(redis, keyspace, b"") for redis, keyspace in places]
        self._selection = selection
        self._printer = printer
        self._say = _Saying()
        self._interest = Interest(selection, ())

    def has(self, *, recorded: bool) -> bool:
        """Whether something is wanted of what is in the stream, or of what is not."""
        types = self._selection.types
        return not types or bool(types - PUBLISHED_ONLY if recorded else types & PUBLISHED_ONLY)

    async def look_up(self) -> None:
        """Which keys mean the conversations wanted now."""
        named = [ConversationKey(key) for key in self._selection.conversations]
        found = [await lookup.equivalents(named) for lookup in self._lookups]
        self._interest = Interest(self._selection, frozenset().union(*found))

    async def begins(self, last: int | None, ends: Sequence[Position]) -> list[Position]:
        """The position in each stream that what is to be shown stands after. Raises StoreError."""
        if self._selection.since is not None:
            return [just_before((unix_milliseconds(self._selection.since), 0)) for _ in ends]
        if last is None:
            return list(ends)
        found = [await last_wanted(*place, last, self._interest.wants) for place in self._places]
        chosen = sorted((position, number) for number, each in enumerate(found) for position in each)[-last:]
        begins = list(ends)
        for position, number in reversed(chosen):
            begins[number] = min(begins[number], just_before(position))
        return begins

    async def past(self, begins: Sequence[Position], ends: Sequence[Position]) -> None:
        """Show what stands between these positions of each stream, as it was published."""
        outages = Outages(self._say)
        each = zip(self._places, begins, ends, strict=True)
        streams = [every_entry(*place, begin, outages, until=end) for place, begin, end in each]
        async for entry in in_order(streams):
            await self._show(entry, outages)

    async def record(self, place: Place, after: Position) -> None:
        """Show one stream from a position on, through every outage."""
        outages = Outages(self._say)
        async for entry in every_entry(*place, after, outages):
            await self._show(entry, outages)

    async def hints(self, redis: Redis) -> None:
        """Show what is only on pub/sub. Of an outage the stream tells already, if that is read."""
        outages = Outages(_say_nothing if self.has(recorded=True) else self._say)
        async for envelope in following_for_ever(redis, [keys for _, keys in self._places], PUBLISHED_ONLY, outages):
            if self._interest.wants(envelope):
                self._printer.show(envelope)

    async def _show(self, entry: Entry, outages: Outages) -> None:
        if self._interest.is_moved_by(entry.envelope):
            await outages.through(self.look_up)
        if self._interest.wants(entry.envelope):
            self._printer.show(entry.envelope, show_position(entry.position))


class _Saying:
    """Says that Redis is away, and that it is back: once each, however many streams wait for it."""

    def __init__(self) -> None:
        self._waiting = 0

    def __call__(self, error: StoreError | None) -> None:
        if error is None:
            self._waiting -= 1
            if not self._waiting:
                err.print("[green]Redis is back;[/] going on where it was")
            return
        self._waiting += 1
        if self._waiting == 1:
            err.print(f"[yellow]Redis is away, waiting for it[/] ({escape(str(error))})")


def _say_nothing(_: StoreError | None) -> None:
    """What others tell."""


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
