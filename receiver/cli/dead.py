"""`partyline dead`: what could not be read; look at it, read it again after a fix, or drop it."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import msgspec
import orjson
import typer
from redis.asyncio import Redis

from receiver.bodies import around, harmless
from receiver.captures import LogEntry
from receiver.cli.output import run
from receiver.cli.reaching import namespace_of, partitions_of
from receiver.cli.terminal import ConfigOption, JsonOption, out, settings_at
from receiver.letters import Letter, Letters, Retried
from receiver.providers import PROVIDERS
from receiver.replay import Pace, Site, Tally, replay
from receiver.settings import Settings
from receiver.tables import columns
from schemas.callback import Capture
from schemas.clock import format_time
from schemas.errors import ParseError, PartylineError
from schemas.keyspace import Keyspace
from schemas.wire import decode_capture

commands = typer.Typer(
    help="Dead letters, authentic and unreadable: look at them, read them again, drop them.", no_args_is_help=True
)

DEFAULT_LIMIT = 20
_TRIMMED = "the capture log does not hold it any more (retention.captures), so it cannot be shown or read again"

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="ID|CAPTURE…", help="Letters, or captures with all of theirs.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every letter.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only letters of this reason.")]


@commands.command()
def ls(
    *,
    config: ConfigOption = None,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest.")] = DEFAULT_LIMIT,
    json: JsonOption = False,
) -> None:
    """Count dead letters by reason, and list the latest, the last one last.

    Example: partyline dead ls --reason unreadable
    """
    found = run(_letters(settings_at(config), _of_reason(None)))
    counts = Counter(letter.reason for letter in found)
    shown = _of_reason(reason)(found)[-limit:]
    if json:
        letters = [msgspec.to_builtins(letter) for letter in shown]
        out.file.write(orjson.dumps({"reasons": dict(counts.most_common()), "letters": letters}).decode() + "\n")
    elif not found:
        out.file.write("No dead letters: everything that came could be read.\n")
    else:
        out.file.write(columns([("letters", "reason"), *((str(count), word) for word, count in counts.most_common())]))
        rows = [(each.position, each.capture, each.reason, each.place, each.detail) for each in shown]
        out.file.write("\n" + columns([("letter", "capture", "reason", "place", "what is wrong"), *rows]))


@commands.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID|CAPTURE", help="A letter, or a capture with all of its letters.")],
    *,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show dead letters with what their capture holds around the place that could not be read.

    Example: partyline dead show cp_01a1feb0c7d39f4e6a2c80b51d7703e9
    """
    letters, entry = run(_shown(settings_at(config), name))
    if json:
        said = {"letters": [msgspec.to_builtins(letter) for letter in letters], "capture": _as_json(entry)}
        out.file.write(orjson.dumps(said).decode() + "\n")
        return
    capture = None if entry is None else _decoded(entry)
    of = [] if capture is None else [("account", f"{capture.provider}/{capture.account}"), ("kind", capture.kind)]
    of += [] if capture is None else [("received", format_time(capture.received_at))]
    out.file.write(columns([("capture", letters[0].capture), *of]))
    for letter in letters:
        rows = [
            ("letter", letter.position),
            ("reason", letter.reason),
            ("place", letter.place),
            ("wrong", letter.detail),
        ]
        out.file.write("\n" + columns(rows))
        body = b"" if entry is None else entry.fields.get(b"body", b"")
        lines = [f"  ({_TRIMMED})"] if entry is None else around(body, letter.place, letter.detail)
        out.file.write("\n" + "".join(f"{line}\n" for line in lines))


@commands.command()
def retry(
    names: Ids = None,
    *,
    config: ConfigOption = None,
    reason: ReasonOption = None,
    every: AllOption = False,
    json: JsonOption = False,
) -> None:
    """Read the captures of letters again, after a fix; what was published before is not published twice.

    Letters of captures that can be read wholly by now are removed; the others stay.

    Example: partyline dead retry --reason unreadable
    """
    settings = settings_at(config)
    retried = run(_retry(settings, _chosen(names, reason, every=every)))
    if json:
        out.file.write(orjson.dumps(msgspec.to_builtins(retried)).decode() + "\n")
        return
    if not retried.removed + retried.stay:
        out.file.write("Nothing to read again.\n")
        return
    out.file.write(
        f"{retried.captures} capture(s) read again: {retried.removed} letter(s) removed, {retried.stay} stay.\n"
    )
    if retried.trimmed:
        out.file.write(f"{retried.trimmed} capture(s) are not in the log any more (retention.captures).\n")
    if retried.too_old:
        out.file.write(f"{retried.too_old} capture(s) are older than retention.dedupe: replay them into a namespace.\n")
    if retried.failed:
        out.file.write(f"Reading failed as a whole at {', '.join(retried.failed)}: see the log above.\n")


@commands.command()
def drop(
    names: Ids = None,
    *,
    config: ConfigOption = None,
    reason: ReasonOption = None,
    every: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove dead letters. Asks first; the captures stay for as long as retention.captures says.

    Example: partyline dead drop --reason too_old
    """
    settings = settings_at(config)
    dropped = run(_drop(settings, _chosen(names, reason, every=every), yes=yes))
    out.file.write(f"{dropped} dropped.\n" if dropped else "Nothing to drop.\n")


# --- which ones ---

_Choice = Callable[[list[Letter]], list[Letter]]


def _chosen(names: list[str] | None, reason: str | None, *, every: bool) -> _Choice:
    if names and (every or reason):
        raise PartylineError("name letters, or say --reason or --all; not both")
    if not (names or every or reason):
        raise PartylineError("name letters or captures, or say --reason or --all")
    return _named(names) if names else _of_reason(reason)


def _named(names: list[str]) -> _Choice:
    def choose(found: list[Letter]) -> list[Letter]:
        chosen = [letter for letter in found if letter.position in names or letter.capture in names]
        missing = set(names) - {word for letter in chosen for word in (letter.position, letter.capture)}
        if missing:
            raise PartylineError(f"there is no dead letter {harmless(', '.join(sorted(missing)))}")
        return chosen

    return choose


def _of_reason(reason: str | None) -> _Choice:
    return lambda found: [letter for letter in found if reason in (None, letter.reason)]


# --- what they do ---


async def _letters(settings: Settings, choose: _Choice) -> list[Letter]:
    async with partitions_of(settings) as places:
        return choose([letter for place in places async for letter in Letters(*place).all()])


async def _choice(redis: Redis, keyspace: Keyspace, choose: _Choice) -> list[Letter]:
    return choose([letter async for letter in Letters(redis, keyspace).all()])


async def _shown(settings: Settings, name: str) -> tuple[list[Letter], LogEntry | None]:
    async with partitions_of(settings) as places:
        found = [(letter, place) for place in places async for letter in Letters(*place).all()]
        letters = _named([name])([letter for letter, _ in found])
        place = next(place for letter, place in found if letter in letters)
        return letters, await Letters(*place).capture(letters[0])


async def _retry(settings: Settings, choose: _Choice) -> Retried:
    async with namespace_of(settings) as (redis, keyspace):
        letters = await _choice(redis, keyspace, choose)
        if not letters:
            return Retried(captures=0, trimmed=0, too_old=0, failed=(), removed=0, stay=0)
        replaying = partial(_replay, Site(redis, keyspace, settings))
        return await Letters(redis, keyspace).retry(letters, PROVIDERS, replaying, datetime.now(UTC))


async def _replay(site: Site, entries: AsyncIterator[LogEntry]) -> None:
    await replay(site, entries, Pace(), Tally())


async def _drop(settings: Settings, choose: _Choice, *, yes: bool) -> int:
    async with namespace_of(settings) as (redis, keyspace):
        letters = await _choice(redis, keyspace, choose)
        if letters and not yes:
            typer.confirm(f"Drop {len(letters)} dead letter(s)?", abort=True)
        return await Letters(redis, keyspace).drop(letters)


# --- how they look ---


def _decoded(entry: LogEntry) -> Capture | None:
    try:
        return decode_capture(entry.fields)
    except ParseError:
        return None


def _as_json(entry: LogEntry | None) -> dict[str, str] | None:
    """The fields of a capture as text, whatever they are."""
    if entry is None:
        return None
    return {name.decode(): value.decode("utf-8", "backslashreplace") for name, value in entry.fields.items()}
