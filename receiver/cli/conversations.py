"""`partyline conversations`: look them up, link them, and take a link back. Straight from and to Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import orjson
import typer

from correlator.lookup import Lookup, Page
from correlator.lookups import Lookups
from receiver.api import look_up, placed
from receiver.captures import CaptureLog, replicas_of
from receiver.cli.output import run
from receiver.cli.reaching import by_operator, choose_partition, directory_of, hand_in, namespace_of, partitions_of
from receiver.cli.terminal import ConfigOption, JsonOption, out, settings_at
from receiver.links import Tying, link_body, link_of, read_key, tying
from receiver.queries import DEFAULT_LIMIT, MAX_LIMIT, Query, UnknownConversation, read_query
from receiver.settings import Settings
from receiver.tables import sheet, table
from receiver.webhooks import mint
from schemas.callback import AccountFacts
from schemas.events import Link
from schemas.ids import CaptureId, ConversationKey

commands = typer.Typer(help="Look conversations up, and link those that are one.", no_args_is_help=True)

One = Annotated[str, typer.Argument(help="A conversation's key; with --account, an address.")]
Other = Annotated[str, typer.Argument(help="The other one.")]
AccountOption = Annotated[
    str | None, typer.Option("--account", help="The account whose addresses they are; without it they are keys.")
]


@commands.command()
def show(
    key: Annotated[str, typer.Argument(help="Its key, or one that was merged into it.")],
    *,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show everything that is known of one conversation.

    Example: partyline conversations show cv_oikxjpn4l3l4utkmr5rsvjqr4q
    """
    settings = settings_at(config)
    found = read_key(key)
    if found is None:
        raise UnknownConversation("that is no conversation's key: one is cv_ and 26 characters")
    shown = run(_show(settings, found))
    if shown is None:
        raise UnknownConversation(f"nothing has been published under {found} in namespace {settings.namespace}")
    _print(shown, sheet(shown), as_json=json)


@commands.command()
def find(
    *,
    config: ConfigOption = None,
    id_: Annotated[str | None, typer.Option("--id", help="An id of the provider's: message, batch, group.")] = None,
    address: Annotated[str | None, typer.Option(help="A participant: +15555550111, an e-mail, whatsapp:…")] = None,
    provider: Annotated[str | None, typer.Option(help="Only at this provider.")] = None,
    account: Annotated[str | None, typer.Option(help="Only at this account; an --id needs one.")] = None,
    limit: Annotated[int, typer.Option(help=f"How many at once, {MAX_LIMIT} at most.")] = DEFAULT_LIMIT,
    after: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    json: JsonOption = False,
) -> None:
    """Find conversations by any id of a provider's, or by a participant.

    Example: partyline conversations find --address +15555550111
    """
    settings = settings_at(config)
    given = {"id": id_, "address": address, "provider": provider, "account": account, "after": after}
    parameters = [(name, value) for name, value in given.items() if value is not None]
    query = read_query([*parameters, ("limit", str(limit))], directory_of(settings))
    page = run(_find(settings, query))
    text = table(page.conversations) if page.conversations else "None found.\n"
    more = f"There are more: add --after {page.after}\n" if page.after else ""
    _print({"conversations": page.conversations, "after": page.after}, text + more, as_json=json)


@commands.command()
def link(
    one: One,
    other: Other,
    *,
    config: ConfigOption = None,
    account: AccountOption = None,
    json: JsonOption = False,
) -> None:
    """Say that two conversations are one; with --account, that two addresses are one person's.

    Example: partyline conversations link cv_oikxjpn4l3l4utkmr5rsvjqr4q cv_hcbn5nb6yq3p7drv2mxk4thd7u
    """
    _link(settings_at(config), one, other, account, undone=False, as_json=json)


@commands.command()
def unlink(
    one: One,
    other: Other,
    *,
    config: ConfigOption = None,
    account: AccountOption = None,
    json: JsonOption = False,
) -> None:
    """Take a link back: later events go to the two conversations again.

    Example: partyline conversations unlink --account main-whatsapp +15555550111 +15555550112
    """
    _link(settings_at(config), one, other, account, undone=True, as_json=json)


# --- what they do ---


def _print(said: Any, text: str, *, as_json: bool) -> None:
    out.file.write(f"{orjson.dumps(said).decode()}\n" if as_json else text)


async def _show(settings: Settings, key: ConversationKey) -> dict[str, Any] | None:
    async with _lookups(settings) as lookups:
        return await lookups.conversation(key)


async def _find(settings: Settings, query: Query) -> Page:
    async with _lookups(settings) as lookups:
        return await look_up(lookups, query)


@asynccontextmanager
async def _lookups(settings: Settings) -> AsyncIterator[Lookups]:
    """Over all partitions, whichever the command line names: a key or a person may be anywhere."""
    choose_partition(None)
    async with partitions_of(settings) as places:
        yield Lookups([Lookup(redis, keyspace, settings.id_key) for redis, keyspace in places])


def _link(settings: Settings, one: str, other: str, account: str | None, *, undone: bool, as_json: bool) -> None:
    asked = link_of(one, other) if account is None else tying(one, other, account, None, directory_of(settings))
    identifier = run(_hand_in(settings, asked, undone=undone))
    done = "Taken back" if undone else "Linked"
    said = f"{done}, as capture {identifier}: it counts once the receiver's pipeline has read it.\n"
    _print({"capture": identifier}, said, as_json=as_json)


async def _hand_in(settings: Settings, asked: Link | Tying, *, undone: bool) -> CaptureId:
    async with _lookups(settings) as lookups:
        link, provider, account = await placed(lookups, asked, undone=undone)
    configured = settings.accounts.get(account)
    facts = AccountFacts() if configured is None else configured.facts
    callback = by_operator(provider, account, facts, link_body(link, undone=undone))
    identifier = mint(callback.received_at)
    async with namespace_of(settings, account) as (redis, keyspace):
        await hand_in(CaptureLog(redis, keyspace, replicas_of(settings.redis)), identifier, callback, "link")
    return identifier
