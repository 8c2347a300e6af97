"""The options that say which captures are meant: the same for every command that has to do with them."""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer

from correlator.lookup import Lookup
from receiver.cli.reaching import directory_of
from receiver.selection import OUTCOMES, TIME_FORMS, Asked, ScopeOf, Selection, read_selection
from receiver.settings import Settings
from schemas.callback import Capture
from schemas.ids import ConversationKey, Scope
from schemas.keyspace import Keyspace

_Result = TypeVar("_Result")


def _options(
    *,
    provider: Annotated[
        list[str] | None, typer.Option(help="Only of this provider; may be repeated, as may all.")
    ] = None,
    account: Annotated[list[str] | None, typer.Option(help="Only of this account.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Only from then on: {TIME_FORMS}.")] = None,
    until: Annotated[str | None, typer.Option(help="Only until then; a day as a whole.")] = None,
    outcome: Annotated[list[str] | None, typer.Option(help=f"Only what became {', '.join(OUTCOMES)}.")] = None,
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only with an event of this type.")] = None,
    conversation: Annotated[
        list[str] | None, typer.Option(help="Only of this conversation; a merged key does.")
    ] = None,
    address: Annotated[list[str] | None, typer.Option(help="Only where this address turns up.")] = None,
    id_: Annotated[
        list[str] | None, typer.Option("--id", help="Only with this id: of a message, group, batch, capture or event.")
    ] = None,
) -> Asked:
    """What each option is, and what all of them together ask for."""
    return Asked(
        provider=provider or (),
        account=account or (),
        since=since,
        until=until,
        outcome=outcome or (),
        type=type_ or (),
        conversation=conversation or (),
        address=address or (),
        id=id_ or (),
    )


def selecting(command: Callable[..., _Result]) -> Callable[..., _Result]:
    """A command whose first parameter is what is asked for, as one that has an option for each part of that."""
    options = inspect.signature(_options).parameters
    first, *own = inspect.signature(command).parameters.values()
    assert first.annotation is Asked  # noqa: S101 - a mistake in a command, found when the program starts

    @wraps(command)
    def with_options(**given: Any) -> _Result:
        asked = _options(**{name: given.pop(name) for name in options})
        return command(asked, **given)

    shared = list(options.values())
    positional = [each for each in own if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    keywords = [each for each in own if each.kind is inspect.Parameter.KEYWORD_ONLY]
    vars(with_options)["__signature__"] = inspect.Signature([*positional, *shared, *keywords])
    with_options.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
    return with_options


def selection_of(asked: Asked, settings: Settings) -> Selection:
    """What is asked for, as of now; SelectionError says what cannot be used."""
    return read_selection(asked, datetime.now(UTC), directory_of(settings))


async def resolved(selection: Selection, lookup: Lookup) -> Selection:
    """The same, with every key that leads to the conversations asked for."""
    if not selection.conversations:
        return selection
    return selection.with_conversations(await _all_keys(selection.conversations, lookup))


async def _all_keys(keys: Iterable[str], lookup: Lookup) -> set[str]:
    known = await asyncio.gather(*(lookup.conversation(ConversationKey(key)) for key in keys))
    return set(keys) | {key for each in known if each for key in (each["key"], *each["merged"])}


def scope_of(settings: Settings, keyspace: Keyspace) -> ScopeOf:
    """What the keys of each capture's account are derived under."""
    scopes: dict[tuple[str, str], Scope] = {}

    def of(capture: Capture) -> Scope:
        account = (capture.provider, capture.account)
        if account not in scopes:
            scopes[account] = Scope(settings.id_key, keyspace.keys_of, *account)
        return scopes[account]

    return of
