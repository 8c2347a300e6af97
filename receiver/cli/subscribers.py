"""`partyline subscribers`: which groups read the events, how far each is, and what it gave up on."""

from typing import Annotated

import msgspec
import orjson
import typer

from correlator.subscribers import GivenUp, Group, Subscribers
from receiver.bodies import harmless
from receiver.cli.output import run
from receiver.cli.reaching import partitions_of
from receiver.cli.terminal import ConfigOption, JsonOption, out, settings_at
from receiver.settings import Settings
from receiver.tables import NOTHING, columns
from schemas.clock import format_time
from schemas.errors import PartylineError

commands = typer.Typer(
    help="Groups of subscribers: how far each is behind, and what it gave up on.", no_args_is_help=True
)

DEFAULT_LIMIT = 20


@commands.command()
def ls(*, config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the groups of subscribers: lanes, consumers that live, how far behind, how many events given up.

    Example: partyline subscribers ls
    """
    settings = settings_at(config)
    groups = run(_groups(settings))
    if json:
        out.file.write(orjson.dumps({"groups": msgspec.to_builtins(groups)}).decode() + "\n")
    elif not groups:
        out.file.write(f"No group of subscribers has ever read the events of namespace {settings.namespace}.\n")
    else:
        rows = [_row(group) for group in groups]
        out.file.write(columns([("group", "lanes", "held", "consumers", "lag", "given up", "oldest to do"), *rows]))


@commands.command()
def dead(
    group: Annotated[str, typer.Argument(help="The group's name.")],
    *,
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest.")] = DEFAULT_LIMIT,
    json: JsonOption = False,
) -> None:
    """Show what a group gave up on: when, which event, why, after how many tries, where it stands in the stream.

    Example: partyline subscribers dead crm
    """
    letters = run(_dead(settings_at(config), group, limit))
    if json:
        out.file.write(orjson.dumps({"letters": [_as_json(letter) for letter in letters]}).decode() + "\n")
    elif not letters:
        out.file.write(f"{harmless(group)} has given up on nothing.\n")
    else:
        headings = ("given up", "event", "type", "conversation", "reason", "tries", "position")
        out.file.write(columns([headings, *map(_letter_row, letters)]))


# --- what they do ---


async def _groups(settings: Settings) -> list[Group]:
    async with partitions_of(settings) as places:
        subscribers = Subscribers(places)
        found = [await subscribers.group(name) for name in await subscribers.names()]
        return [group for group in found if group is not None]


async def _dead(settings: Settings, name: str, limit: int) -> list[GivenUp]:
    async with partitions_of(settings) as places:
        subscribers = Subscribers(places)
        names = await subscribers.names()
        if name not in names:
            there_are = f"there are {', '.join(names)}" if names else "there is none at all"
            raise PartylineError(f"there is no group {harmless(name)} in namespace {settings.namespace}; {there_are}")
        return await subscribers.given_up(name, limit)


# --- how they look ---


def _row(group: Group) -> tuple[str, ...]:
    counts = (str(group.lanes), str(group.held), str(group.consumers), f"{group.lag_seconds:.1f} s", str(group.dead))
    return (group.group, *counts, _place(group.position, group.partition))


def _letter_row(letter: GivenUp) -> tuple[str, ...]:
    at = format_time(letter.at) if letter.at else NOTHING
    about = (letter.type or NOTHING, letter.subject or NOTHING)
    return (at, letter.event, *about, letter.reason, str(letter.tries), _place(letter.position, letter.partition))


def _place(position: str | None, partition: int) -> str:
    """Where an event stands in the stream; only who has several partitions need be told which."""
    return f"{position or NOTHING}{f' of partition {partition}' if partition else ''}"


def _as_json(letter: GivenUp) -> dict[str, object]:
    at = format_time(letter.at) if letter.at else None
    return {**msgspec.structs.asdict(letter), "at": at}
