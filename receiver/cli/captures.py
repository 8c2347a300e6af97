"""`partyline captures`: what came in and what became of it, straight from Redis; archives of it, out and in."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import orjson
import typer

from correlator.lookup import Lookup
from receiver.browsing import (
    Found,
    Reading,
    by_id,
    events_of,
    every,
    fates,
    first_published,
    letters_of,
    newest,
    understood,
)
from receiver.captures import LogEntry
from receiver.cli.archiving import export_, import_
from receiver.cli.output import readable_output, run
from receiver.cli.reaching import partitions_of
from receiver.cli.selecting import resolved, scope_of, selecting, selection_of
from receiver.cli.terminal import ConfigOption, JsonOption, out, settings_at
from receiver.providers import PROVIDERS
from receiver.selection import EVERYTHING, Asked, Selection, SelectionError
from receiver.settings import Settings
from receiver.showing import HEADINGS, Explained, Line, Tally, document, page, record, row
from receiver.tables import columns
from schemas.clock import unix_milliseconds
from schemas.events import Event
from schemas.ids import ConversationKey

_CAPTURE = re.compile("cp_[0-9a-f]{32}")
_MAX_LIMIT = 10_000

commands = typer.Typer(help="Look at what came in and what became of it; keep archives of it.", no_args_is_help=True)


@commands.command()
@selecting
def ls(
    asked: Asked,
    *,
    limit: Annotated[
        int, typer.Option(help=f"How many, the newest; {_MAX_LIMIT} at most.", min=1, max=_MAX_LIMIT)
    ] = 50,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List captures, the newest last: when, from where, what became of them, what they say.

    Example: partyline captures ls --since 2h --outcome dead
    """
    settings = settings_at(config)
    selection = selection_of(asked, settings)
    with readable_output():
        found = run(_ls(settings, selection, limit))
        lines = [Line(each.entry, each.capture, each.parsed, each.fate) for each in found]
        if json:
            out.file.write("".join(f"{orjson.dumps(record(line)).decode()}\n" for line in lines))
        elif lines:
            out.file.write(columns([HEADINGS, *map(row, lines)]))
            if len(lines) == limit:
                out.file.write(f"\nThe newest {limit}; there may be more: add --limit, or --until.\n")
        else:
            out.file.write(_nothing(settings, selection))


@commands.command()
def show(
    capture: Annotated[str, typer.Argument(metavar="CAPTURE", help="Its id: cp_ and 32 digits, as events name it.")],
    *,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show one capture in full: its bytes, why it was accepted, its events, where its conversation came from.

    Example: partyline captures show cp_01a1feb0c7d39f4e6a2c80b51d7703e9
    """
    settings = settings_at(config)
    if _CAPTURE.fullmatch(capture) is None:
        raise SelectionError("that is no capture's id: one is cp_ and 32 of 0-9 and a-f, as in data.capture of events")
    shown = run(_show(settings, capture))
    if shown is None:
        raise SelectionError(f"there is no {capture} in namespace {settings.namespace}, or it is no longer kept")
    with readable_output():
        out.file.write(f"{orjson.dumps(document(shown)).decode()}\n" if json else page(shown))


@commands.command()
@selecting
def stats(asked: Asked, *, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Count captures by account, kind, outcome and type of event.

    Example: partyline captures stats --since yesterday
    """
    settings = settings_at(config)
    selection = selection_of(asked, settings)
    tally = run(_stats(settings, selection))
    with readable_output():
        if json:
            out.file.write(f"{orjson.dumps(tally.record()).decode()}\n")
        else:
            out.file.write(tally.table() if tally.captures else _nothing(settings, selection))


commands.command("export")(export_)
commands.command("import")(import_)


# --- what they do ---


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[list[tuple[Reading, Lookup]]]:
    """What reading captures needs, for each partition: the partition itself, and a look-up of its conversations."""
    async with partitions_of(settings) as places:
        yield [
            (Reading(redis, keyspace, scope_of(settings, keyspace)), Lookup(redis, keyspace, settings.id_key))
            for redis, keyspace in places
        ]


async def _ls(settings: Settings, selection: Selection, limit: int) -> list[Found]:
    async with reading(settings) as places:
        found = [
            each for where, lookup in places for each in await newest(where, await resolved(selection, lookup), limit)
        ]
    return found if len(places) == 1 else sorted(found, key=_received_at, reverse=True)[:limit]


def _received_at(found: Found) -> datetime:
    return found.capture.received_at


async def _stats(settings: Settings, selection: Selection) -> Tally:
    tally = Tally()
    async with reading(settings) as places:
        for where, lookup in places:
            async for entry, fate in every(where, await resolved(selection, lookup)):
                tally.add(entry, fate)
    return tally


async def _show(settings: Settings, capture: str) -> Explained | None:
    async with reading(settings) as places:
        for where, lookup in places:
            if (entry := await by_id(where, capture)) is not None:
                return await _explained(where, lookup, capture, entry)
    return None


async def _explained(where: Reading, lookup: Lookup, capture: str, entry: LogEntry) -> Explained:
    known = await fates(where, entry.position, {capture})
    found = understood(entry, known.of(entry))
    events = await events_of(where, capture, entry.position)
    missing = {each.id for each in found.parsed if isinstance(each, Event)} - {event["id"] for _, event in events}
    since = unix_milliseconds(found.capture.received_at) - found.capture.facts.dedupe_seconds * 1000
    originals = await first_published(where, missing, entry.position, since) if missing else {}
    subjects = {event["subject"] for event in (*(event for _, event in events), *originals.values())}
    return Explained(
        line=Line(found.entry, found.capture, found.parsed, found.fate),
        provider=PROVIDERS.get(found.capture.provider),
        scope=where.scope_of(found.capture),
        events=events,
        letters=await letters_of(where, capture, entry.position),
        originals=originals,
        survivors=await _survivors(lookup, subjects),
    )


async def _survivors(lookup: Lookup, subjects: set[str]) -> dict[str, str]:
    """What each key stands for now."""
    found = {key: await lookup.conversation(ConversationKey(key)) for key in subjects if key.startswith("cv_")}
    return {key: shown["key"] for key, shown in found.items() if shown}


def _nothing(settings: Settings, selection: Selection) -> str:
    if selection == EVERYTHING:
        return f"Nothing has come in yet in namespace {settings.namespace}, or nothing of it is kept any more.\n"
    return f"No capture in namespace {settings.namespace} is like that.\n"
