"""`partyline register`: a send of yours, written straight into the capture log. No server is needed."""

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from receiver.captures import CaptureLog, replicas_of
from receiver.cli.output import run
from receiver.cli.reaching import by_operator, hand_in, namespace_of
from receiver.cli.terminal import ConfigOption, JsonOption, out, settings_at
from receiver.providers import PROVIDERS
from receiver.registration import Registered, conversations, outbound, readable
from receiver.settings import Account, Settings
from receiver.tables import NOTHING, columns
from receiver.webhooks import mint
from schemas.errors import BodyTooLarge, ParseError, PartylineError
from schemas.ids import CaptureId, Scope


def register(
    where: Annotated[str, typer.Argument(metavar="PROVIDER|ACCOUNT", help="The account, or its provider's only one.")],
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The provider's answer to the send; - reads stdin.")],
    *,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Register a send of yours, so that reports on it find its conversation: the provider's own answer, unchanged.

    Or `{"response": …, "request": …}`, where the answer alone does not tell the conversation. It prints the
    conversations that the send is of; a receiver that runs, now or later, does the rest.

    Example: partyline register main-telnyx response.json
    """
    settings = settings_at(config)
    account = _account(where, settings)
    body = _read(file, settings.server.max_body_bytes)
    try:
        identifier, found = run(_register(settings, account, body))
    except ParseError as error:
        raise PartylineError(f"that is no send of {account.provider}'s: {error}") from error
    if json:
        said = {"capture": identifier, "conversations": [{"recipient": one.recipient, "key": one.key} for one in found]}
        out.file.write(f"{orjson.dumps(said).decode()}\n")
    else:
        rows = [("recipient", "conversation"), *((one.recipient or NOTHING, one.key) for one in found)]
        out.file.write(columns(rows) + f"\nRegistered at {account.name}, as capture {identifier}.\n")


def _account(where: str, settings: Settings) -> Account:
    """The account of that name, or else the only one of a provider of that name."""
    provider, slash, name = where.rpartition("/")
    named = settings.accounts.get(name if slash else where)
    if named is not None and provider in {"", named.provider}:
        return named
    of_provider = [account for account in settings.accounts.values() if account.provider == where]
    if len(of_provider) == 1:
        return of_provider[0]
    there_are = ", ".join(sorted(account.name for account in of_provider) or sorted(settings.accounts)) or "none"
    why = "has several accounts; name one" if of_provider else "is no configured account, and no provider with one"
    raise PartylineError(f"{where} {why}: there are {there_are}")


def _read(file: str, max_bytes: int) -> bytes:
    try:
        body = sys.stdin.buffer.read(max_bytes + 1) if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise PartylineError(f"{file} cannot be read: {error.strerror}") from error
    if len(body) > max_bytes:
        raise BodyTooLarge(f"more than server.max_body ({max_bytes} bytes)")
    return body


async def _register(settings: Settings, account: Account, body: bytes) -> tuple[CaptureId, list[Registered]]:
    provider = PROVIDERS[account.provider]
    callback = by_operator(account.provider, account.name, account.facts, body)
    identifier = mint(callback.received_at)
    capture = outbound(identifier, callback)
    events = readable(capture, provider)
    async with namespace_of(settings, account.name) as (redis, keyspace):
        await hand_in(CaptureLog(redis, keyspace, replicas_of(settings.redis)), identifier, callback, "outbound")
    scope = Scope(settings.id_key, keyspace.keys_of, account.provider, account.name)
    return identifier, conversations(events, scope, capture.line_addresses())
