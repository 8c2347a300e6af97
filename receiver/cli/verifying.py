"""`partyline verify`: why a request was refused, or would be."""

import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import typer
from redis.asyncio import Redis
from rich.markup import escape

from receiver import streams
from receiver.cli.output import run
from receiver.cli.reaching import partitions_of
from receiver.cli.terminal import ConfigOption, JsonOption, out, settings_at
from receiver.exhibits import Exhibit, read_exhibit
from receiver.providers import PROVIDERS
from receiver.settings import Account, Settings
from receiver.tables import columns
from receiver.veil import Veil
from receiver.verification import Finding, explain, explain_capture, explain_entry
from schemas.callback import Arrival, Capture
from schemas.clock import parse_time
from schemas.errors import BodyTooLarge, PartylineError
from schemas.keyspace import Keyspace
from schemas.wire import Quarantined, decode_capture, decode_quarantined

_MARKS = {"authentic": "[green]✓ authentic[/]", "refused": "[bold red]✗ refused[/]", "unknown": "[yellow]? unknown[/]"}
_LABEL_WIDTH = 12
_MAX_WIDTH = 110
#: A request in a file may be base64, and has headers.
_FILE_FACTOR = 2


def verify(
    what: Annotated[str, typer.Argument(metavar="FILE|CAPTURE", help="A file, - for stdin, or an id: cp_…")],
    *,
    config: ConfigOption = None,
    account: Annotated[str | None, typer.Option(help="The account it was sent to; else as its URL says.")] = None,
    received_at: Annotated[
        str | None, typer.Option(help="When it came, as 2026-11-21T12:00:00Z; for files that do not say.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say why a request is refused, and what was done to it on its way. Exit status 0 if it is authentic, else 1.

    CAPTURE is the id of what the quarantine or the capture log holds.

    FILE is a raw HTTP request: a request line if you have it, headers, an empty line, the exact bytes of the body. Or:

    {"headers": [["telnyx-signature-ed25519", "…"], …],

    "body_base64": "eyJkYXRh…", "received_at": "2026-11-21T12:00:00Z",

    "url": "/webhooks/telnyx/main-telnyx", "url_token": null}

    Example: partyline verify request.txt --account main-telnyx
    """
    settings = settings_at(config)
    if streams.is_capture_id(what) and not Path(what).exists():
        found, of = run(_stored(what, settings, account))
    else:
        found, of = _filed(what, settings, account, received_at)
    if json:
        out.file.write(f"{orjson.dumps({'account': of, **msgspec.to_builtins(found)}).decode()}\n")
    else:
        _print(found, of)
    if found.verdict != "authentic":
        sys.exit(1)


# --- what is stored ---


async def _stored(name: str, settings: Settings, account: str | None) -> tuple[Finding, str]:
    async with partitions_of(settings) as places:
        there = [entry for place in places if (entry := await _looked_up(*place, name)) is not None]
    if not there:
        raise PartylineError(f"neither the quarantine nor the capture log of {settings.namespace} holds {name}")
    entry = there[0]
    chosen = _configured(settings, account or entry.account)
    provider, now = PROVIDERS[chosen.provider], datetime.now(UTC)
    others = _others(settings, chosen)
    if isinstance(entry, Quarantined):
        found = explain_entry(entry, chosen, provider, Veil(settings.id_key), now, others=others)
    else:
        found = explain_capture(entry, chosen, provider, now, others=others)
    return found, chosen.name


async def _looked_up(redis: Redis, keyspace: Keyspace, name: str) -> Capture | Quarantined | None:
    for stream in (keyspace.quarantine, keyspace.captures):
        position = (await streams.located(redis, stream, [name])).get(name)
        entry = await streams.entry_at(redis, stream, position) if position else None
        if entry is not None:
            return decode_quarantined(entry.fields) if stream == keyspace.quarantine else decode_capture(entry.fields)
    return None


# --- a file ---


def _filed(file: str, settings: Settings, account: str | None, received_at: str | None) -> tuple[Finding, str]:
    moment = parse_time(received_at) if received_at else None
    if received_at and moment is None:
        raise PartylineError("--received-at is no time; one is 2026-11-21T12:00:00Z")
    try:
        exhibit = read_exhibit(_read(file, settings.server.max_body_bytes * _FILE_FACTOR))
    except PartylineError as error:
        raise PartylineError(f"{file} cannot be read as a request: {error}") from error
    chosen = _account(exhibit, account, settings)
    arrival = Arrival(
        provider=chosen.provider,
        account=chosen.name,
        method="POST",
        url=exhibit.url,
        headers=exhibit.headers,
        url_token=exhibit.url_token,
        body=exhibit.body,
    )
    provider, now = PROVIDERS[chosen.provider], datetime.now(UTC)
    when = moment or exhibit.received_at
    return explain(arrival, chosen, provider, when, now, others=_others(settings, chosen)), chosen.name


def _read(file: str, max_bytes: int) -> bytes:
    try:
        data = sys.stdin.buffer.read(max_bytes + 1) if file == "-" else Path(file).read_bytes()
    except FileNotFoundError:
        raise PartylineError("there is no such file, and it is no capture's id (cp_ and 32 digits) either") from None
    except OSError as error:
        raise PartylineError(error.strerror or "the file system says no") from error
    if len(data) > max_bytes:
        raise BodyTooLarge(f"more than twice server.max_body ({max_bytes} bytes)")
    return data


def _account(exhibit: Exhibit, name: str | None, settings: Settings) -> Account:
    """The account that was named, that the URL names, or the only one there is."""
    if name or exhibit.account:
        return _configured(settings, name or exhibit.account or "")
    wanted = [each for each in settings.accounts.values() if exhibit.provider in (None, each.provider)]
    if len(wanted) == 1:
        return wanted[0]
    raise PartylineError(f"the file does not say to which account it was sent; add --account: {_names(settings)}")


def _configured(settings: Settings, name: str) -> Account:
    found = settings.accounts.get(name)
    if found is None:
        raise PartylineError(
            f"there is no account of the name it was sent to; choose with --account: {_names(settings)}"
        )
    return found


def _names(settings: Settings) -> str:
    return "there are " + (", ".join(sorted(settings.accounts)) or "none")


def _others(settings: Settings, chosen: Account) -> tuple[Account, ...]:
    return tuple(each for each in settings.accounts.values() if each.provider == chosen.provider and each != chosen)


# --- what is printed ---


def _print(found: Finding, account: str) -> None:
    reason = f"  [bold]{escape(found.reason)}[/]" if found.reason else ""
    out.print(f"{_MARKS[found.verdict]}{reason}  at {escape(account)}")
    rows = [("why", found.because)]
    rows += [("on the way", f"{found.alteration.happened}: undone, the signature fits")] if found.alteration else []
    label = "what to do" if found.verdict == "refused" else "note"
    rows += [("" if number else label, each) for number, each in enumerate(found.advice)]
    rows += [("by now", found.now)] if found.now else []
    for label, text in rows:
        for line in _wrapped(label, text):
            out.print(escape(line))
    if found.checks:
        table = [("proof", "outcome"), *((check.setting, check.outcome) for check in found.checks)]
        out.file.write("\n" + columns(table))


def _wrapped(label: str, text: str) -> Iterator[str]:
    width = max(40, min(out.width, _MAX_WIDTH) - _LABEL_WIDTH)
    for number, line in enumerate(textwrap.wrap(text, width)):
        yield f"{'' if number else label:<{_LABEL_WIDTH}}{line}"
