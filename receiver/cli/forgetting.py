"""`partyline forget`: a person's messages, captures and bindings are removed, and what was is said."""

from typing import Annotated

import orjson
import typer

from receiver.cli.output import run
from receiver.cli.reaching import directory_of, partitions_of
from receiver.cli.terminal import ConfigOption, JsonOption, out, settings_at
from receiver.forgetting import KINDS, Found, Request, Search, together
from receiver.providers import PROVIDERS
from receiver.queries import read_address
from receiver.settings import Settings
from receiver.tables import columns
from schemas.address import Address
from schemas.errors import CallbackError, PartylineError

_WHAT = {
    "captures": "callbacks and sends as they came, each removed whole",
    "events": "all that name the person, others' messages in groups among them",
    "dead letters": "of those captures",
    "quarantined requests": "with the address anywhere in them",
    "conversations": "direct ones, groups known by the set of their addresses, and keys that lead there",
    "memberships": "groups that stay, without the person",
    "identities": "addresses known as one person's",
    "message ids": "by which conversations were found",
    "roll-ups": "what became of messages",
    "references": "to what was removed",
}
_STAYS = (
    "Not here, and so not removed: archives and backups of captures, events and state; what subscribers keep; what",
    "the provider has. Short hashes of event ids stay until they expire, so that nothing old is published again.",
    "Who writes again, or is in a group that somebody writes to, is in what is stored from then on.",
)


def forget(
    address: Annotated[str, typer.Argument(help="Any address of the person: +15555550111, an e-mail, whatsapp:…")],
    *,
    config: ConfigOption = None,
    provider: Annotated[str | None, typer.Option(help="Only at this provider.")] = None,
    account: Annotated[str | None, typer.Option(help="Only at this account.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove a person's messages, captures and bindings: everything stored that names an address of that person.

    It shows which addresses are known as the same person's, and how much there is of what, and asks. A receiver may
    run: it goes on capturing, and publishes nothing meanwhile. If it is broken off, run it again.

    Example: partyline forget +15555550111 --dry-run
    """
    settings = settings_at(config)
    request = _request(settings, address, provider, account)
    if json and not (yes or dry_run):
        raise PartylineError("--json asks nothing: add --yes, or --dry-run")
    found = run(_look(settings, request))
    if not json:
        out.file.write(_table(found, "found"))
    if not dry_run and found.counts.total():
        if not yes:
            typer.confirm("\nRemove all of that?", abort=True)
        found = run(_forget(settings, request, found.addresses))
        if not json:
            out.file.write(f"\n{_table(found, 'removed')}\n" + "".join(f"{line}\n" for line in _STAYS))
    if json:
        out.file.write(f"{orjson.dumps(_said(found, removed=not dry_run)).decode()}\n")
    else:
        out.file.write("".join(f"{line}\n" for line in _remarks(found)))


# --- what it does ---


def _request(settings: Settings, text: str, provider: str | None, account: str | None) -> Request:
    directory = directory_of(settings)
    if provider is not None and provider not in directory.providers:
        raise CallbackError(f"--provider: there is no such one; there are {', '.join(sorted(directory.providers))}")
    if account is not None:
        provider = directory.provider_of(account, provider)
    accounts = {
        f"{each.provider}/{name}": frozenset(map(Address, filter(None, (*each.lines, each.default_line))))
        for name, each in settings.accounts.items()
    }
    return Request(read_address(text, provider, directory), accounts, provider, account)


async def _look(settings: Settings, request: Request) -> Found:
    async with partitions_of(settings) as places:
        searches = [Search(*place, settings.id_key, PROVIDERS, request) for place in places]
        return together([await search.look() for search in searches])


async def _forget(settings: Settings, request: Request, expected: tuple[Address, ...]) -> Found:
    async with partitions_of(settings) as places:
        searches = [Search(*place, settings.id_key, PROVIDERS, request) for place in places]
        return together([await search.forget(expected) for search in searches])


# --- what it says ---


def _table(found: Found, heading: str) -> str:
    if not found.counts.total():
        return f"Nothing that is stored names {found.addresses[0]}.\n"
    known_as = "".join(f"  {address}\n" for address in found.addresses)
    rows = [("what", heading, ""), *((kind, str(found.counts[kind]), _WHAT[kind]) for kind in KINDS)]
    return f"Known as one person:\n{known_as}\n{columns(rows)}"


def _remarks(found: Found) -> list[str]:
    """What is said besides, where there is a reason to."""
    remarks = []
    if found.shared:
        remarks.append(f"{_some(found.shared, 'capture')} also told of others, whose events stay in the stream.")
    if found.mentions:
        some = _some(found.mentions, "capture or event", "captures and events")
        remarks.append(f"{some} of others with the address in the middle of a text, or in an id: they stay.")
    if found.waiting:
        some = _some(found.waiting, "capture")
        remarks.append(f"{some} not read by the pipeline yet: run this again once the receiver has caught up.")
    return remarks


def _some(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _said(found: Found, *, removed: bool) -> dict[str, object]:
    counts = {kind: found.counts[kind] for kind in KINDS}
    others = {"shared": found.shared, "mentions": found.mentions, "waiting": found.waiting}
    return {"addresses": found.addresses, "removed": removed, "counts": counts, **others}
