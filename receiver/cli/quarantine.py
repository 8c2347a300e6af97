"""`partyline quarantine`: what was refused and kept aside; look at it, judge it again, or drop it."""

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape

from receiver.bodies import harmless, readable
from receiver.cli.output import run
from receiver.cli.reaching import namespace_of, partitions_of
from receiver.cli.terminal import ConfigOption, JsonOption, out, settings_at
from receiver.providers import PROVIDERS
from receiver.quarantine import Judged, Kept, Quarantine
from receiver.settings import Settings
from receiver.settings.formats import duration
from receiver.settings.reading import WrongValueError
from receiver.tables import columns
from receiver.veil import Veil
from schemas.clock import format_time, parse_time
from schemas.errors import PartylineError

commands = typer.Typer(
    help="What was refused and kept aside, unauthentic: look at it, judge it again, drop it.", no_args_is_help=True
)

DEFAULT_LIMIT = 20
_SHOWN_BYTES = 8000
_ROUGHLY = 10 * 1024
_BANNER = "UNAUTHENTIC: nobody proved any of this. Anybody may have sent it."

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Which entries, as `ls` lists them.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every entry.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Only of this account.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@commands.command()
def ls(
    *,
    config: ConfigOption = None,
    account: AccountOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest.")] = DEFAULT_LIMIT,
    json: JsonOption = False,
) -> None:
    """List what is in the quarantine, the latest last.

    Example: partyline quarantine ls --account main-telnyx
    """
    settings = settings_at(config)
    found = run(_entries(settings, _of_account(account)))
    shown = found[-limit:]
    if json:
        out.file.write(orjson.dumps({"entries": [_row(kept) for kept in shown], "total": len(found)}).decode() + "\n")
    elif not found:
        out.file.write(f"Nothing is in quarantine{_at(account)}.{_where_from(settings, account)}\n")
    else:
        out.file.write(columns([("received", "id", "account", "size", "reason"), *map(_cells, shown)]))
        out.file.write(f"\n{len(found)} in quarantine{_at(account)}" + _rest(len(found) - len(shown)) + "\n")


@commands.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="As `ls` lists it.")],
    *,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show one entry, headers and body, with whatever could harm a terminal made visible.

    Example: partyline quarantine show cp_01a1feb0c7d39f4e6a2c80b51d7703e9
    """
    [kept] = run(_entries(settings_at(config), _named([name])))
    if kept.entry is None:
        raise PartylineError(f"{kept.id} is damaged and cannot be read; drop it")
    if json:
        out.file.write(orjson.dumps(_document(kept)).decode() + "\n")
        return
    entry = kept.entry
    rows = [("id", kept.id), ("received", format_time(entry.received_at)), ("account", _place(kept))]
    rows += [("refused as", entry.reason), ("not kept", ", ".join(entry.presented.withheld) or "-")]
    headers = [f"{_text(header)}: {_text(value)}" for header, value in entry.headers]
    out.print(f"[bold red]{_BANNER}[/]\n")
    out.file.write(columns(rows) + "\n")
    for line in (*headers, "", *readable(entry.body, _SHOWN_BYTES)):
        out.print(f"[red]│[/] {escape(harmless(line))}")
    out.print(f"\n[bold red]{_BANNER}[/]")


@commands.command()
def judge(
    names: Ids = None,
    *,
    config: ConfigOption = None,
    every: AllOption = False,
    account: AccountOption = None,
    json: JsonOption = False,
) -> None:
    """Judge entries again, at their time of receipt, with the configuration as it is now.

    What proves authentic goes into the capture log under its id, and out of the quarantine; the rest stays.

    Example: partyline quarantine judge --account main-telnyx
    """
    settings = settings_at(config)
    chosen = _chosen(names, account, every=every or account is not None)
    judged = run(_judge(settings, chosen))
    captured = [each for each in judged if each.captured]
    if json:
        counts = {"captured": len(captured), "stay": len(judged) - len(captured)}
        rows = [
            {"id": each.id, "captured": each.captured, "by" if each.captured else "reason": each.word}
            for each in judged
        ]
        out.file.write(orjson.dumps({**counts, "entries": rows}).decode() + "\n")
    elif not judged:
        out.file.write(f"Nothing is in quarantine{_at(account)}.\n")
    else:
        table = [(each.id, "captured" if each.captured else "stays", each.word) for each in judged]
        out.file.write(columns([("id", "", "proved by, or why not"), *table]))
        stay = len(judged) - len(captured)
        more = " `partyline verify ID` says more." if stay else ""
        out.file.write(f"\n{len(captured)} captured, {stay} stay.{more}\n")


@commands.command()
def drop(
    names: Ids = None,
    *,
    config: ConfigOption = None,
    every: AllOption = False,
    before: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Those received before a time, or longer ago than 12h, 3d.")
    ] = None,
    account: AccountOption = None,
    yes: YesOption = False,
) -> None:
    """Remove entries for good. Asks first.

    Example: partyline quarantine drop --before 3d
    """
    settings = settings_at(config)
    chosen = _earlier(moment_of(before), account) if before else _chosen(names, account, every=every)
    if before and names:
        raise PartylineError("name entries, or say --before; not both")
    dropped = run(_drop(settings, chosen, yes=yes))
    out.file.write(f"{dropped} dropped.\n" if dropped else "Nothing to drop.\n")


# --- which ones ---

_Choice = Callable[[list[Kept]], list[Kept]]


def _chosen(names: list[str] | None, account: str | None, *, every: bool) -> _Choice:
    if bool(names) == every:
        raise PartylineError(
            "name entries by their id, or say --all" if not names else "name entries, or say all; not both"
        )
    return _named(names) if names else _of_account(account)


def _named(names: list[str]) -> _Choice:
    def choose(found: list[Kept]) -> list[Kept]:
        chosen = [kept for kept in found if kept.id in names or kept.position in names]
        missing = sorted(set(names) - {word for kept in chosen for word in (kept.id, kept.position)})
        if missing:
            raise PartylineError(f"there is no {harmless(', '.join(missing))} in the quarantine")
        return chosen

    return choose


def _of_account(account: str | None) -> _Choice:
    return lambda found: [kept for kept in found if account is None or (kept.entry and kept.entry.account == account)]


def _earlier(moment: datetime, account: str | None) -> _Choice:
    def choose(found: list[Kept]) -> list[Kept]:
        return [kept for kept in _of_account(account)(found) if kept.entry and kept.entry.received_at < moment]

    return choose


def moment_of(when: str) -> datetime:
    """A time, or as long ago as a duration says; PartylineError for neither."""
    moment = parse_time(when)
    if moment is not None:
        return moment
    try:
        return datetime.now(UTC) - timedelta(seconds=duration(when))
    except WrongValueError:
        raise PartylineError("WHEN is a time as 2026-11-21T12:00:00Z, or a duration as 12h or 3d") from None


# --- what they do ---


async def _entries(settings: Settings, choose: _Choice) -> list[Kept]:
    async with partitions_of(settings) as places:
        return choose([kept for place in places async for kept in Quarantine(*place).entries()])


async def _judge(settings: Settings, choose: _Choice) -> list[Judged]:
    veil, now = Veil(settings.id_key), datetime.now(UTC)
    async with namespace_of(settings) as (redis, keyspace):
        quarantine = Quarantine(redis, keyspace)
        chosen = choose([kept async for kept in quarantine.entries()])
        return [await quarantine.judge(kept, settings.accounts, PROVIDERS, veil, now) for kept in chosen]


async def _drop(settings: Settings, choose: _Choice, *, yes: bool) -> int:
    async with namespace_of(settings) as (redis, keyspace):
        quarantine = Quarantine(redis, keyspace)
        chosen = choose([kept async for kept in quarantine.entries()])
        if chosen and not yes:
            typer.confirm(f"Drop {len(chosen)} from the quarantine, for good?", abort=True)
        return await quarantine.drop(chosen)


# --- how they look ---


def _row(kept: Kept) -> dict[str, Any]:
    received = format_time(kept.entry.received_at) if kept.entry else "-"
    reason = kept.entry.reason if kept.entry else "damaged"
    return {"received": received, "id": kept.id, "account": _place(kept), "reason": reason, "size": kept.size}


def _cells(kept: Kept) -> tuple[str, ...]:
    """A row for people: seconds are enough, and what may be long stands last."""
    row = _row(kept)
    return row["received"][:19], row["id"], row["account"], size_of(row["size"]), row["reason"]


def _place(kept: Kept) -> str:
    return f"{kept.entry.provider}/{kept.entry.account}" if kept.entry else "-"


def size_of(count: int) -> str:
    """A number of bytes, roughly where there are many."""
    return f"{count} B" if count < _ROUGHLY else f"{count / 1024:.0f} KiB"


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _document(kept: Kept) -> dict[str, Any]:
    entry = kept.entry
    if entry is None:
        return {"id": kept.id}
    return {
        "unauthentic": True,
        "id": entry.id,
        "provider": entry.provider,
        "account": entry.account,
        "received_at": format_time(entry.received_at),
        "reason": entry.reason,
        "withheld": entry.presented.withheld,
        "headers": [(_text(name), _text(value)) for name, value in entry.headers],
        "body_base64": b64encode(entry.body).decode(),
    }


def _at(account: str | None) -> str:
    return f" of account {harmless(account)}" if account else ""


def _rest(count: int) -> str:
    return f"; {count} earlier ones are not shown (--limit)." if count > 0 else "."


def _where_from(settings: Settings, account: str | None) -> str:
    accounts = [each for each in settings.accounts.values() if account in (None, each.name)]
    if any(each.on_unauthentic == "quarantine" for each in accounts):
        return ""
    return ' Refused requests are kept only at accounts with on_unauthentic = "quarantine".'
