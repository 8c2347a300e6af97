"""`partyline send`: signed samples for a running receiver."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import httpx
import typer
from rich.markup import escape

from receiver import tryout
from receiver.cli.output import run
from receiver.cli.terminal import ConfigOption, config_path, out
from receiver.samples import SAMPLES
from receiver.schemes import Ed25519
from receiver.sender import post, signer, webhook_path
from receiver.settings import Account, load
from schemas.errors import ConfigError, PartylineError


def send(
    config: ConfigOption = None,
    url: Annotated[str | None, typer.Option(help="The receiver; else where the configuration says it is.")] = None,
    account: Annotated[list[str] | None, typer.Option(help="Only these accounts; may be repeated.")] = None,
    telnyx_key: Annotated[Path | None, typer.Option(help="File with the base64 private key to sign as Telnyx.")] = None,
) -> None:
    """Post a signed sample conversation of each account's provider to a running receiver.

    Example: partyline send --account main-sinch
    """
    path = config_path(config)
    settings = load(path, os.environ)
    unknown = set(account or ()) - settings.accounts.keys()
    if unknown:
        raise ConfigError([f"accounts.{name}: not in {path}" for name in sorted(unknown)])
    chosen = [settings.accounts[name] for name in account or settings.accounts]
    seed = _private_key(telnyx_key) if telnyx_key else tryout.telnyx_seed(path.parent)
    base = url or f"http://{settings.server.host}:{settings.server.port}"
    if not run(_send(base, chosen, seed)):
        sys.exit(1)


async def post_sample(client: httpx.AsyncClient, account: Account, seed: str | None) -> list[int]:
    """Post the sample conversation of an account's provider; the status of each answer."""
    sign = signer(account, seed)
    now = datetime.now(UTC)
    bodies = SAMPLES[account.provider](now, token_hex(4))
    return [(await post(client, account, sign, body, datetime.now(UTC))).status_code for body in bodies]


def _private_key(file: Path) -> str:
    """The content of a key's file; ConfigError, without any of it, when that is no private key."""
    try:
        text = file.read_text(encoding="ascii").strip()
        Ed25519().sign(b"", text, datetime.now(UTC))
    except OSError as error:
        raise ConfigError([f"--telnyx-key: {file} cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError([f"--telnyx-key: {file} is not the base64 of a 32-byte private key"]) from error
    return text


async def _send(base: str, accounts: list[Account], seed: str | None) -> bool:
    """Post every account's samples; whether all were captured."""
    good = True
    async with httpx.AsyncClient(base_url=base) as client:
        for account in accounts:
            try:
                statuses = await post_sample(client, account, seed)
            except httpx.TransportError as error:
                raise PartylineError(f"nothing answers on {base}: {type(error).__name__}") from error
            captured = statuses.count(200)
            good = good and captured == len(statuses)
            mark = "[green]✓[/]" if captured == len(statuses) else "[bold red]✗[/]"
            masked = (
                escape(webhook_path(account).rpartition("/")[0] + "/…")
                if _has_token(account)
                else webhook_path(account)
            )
            out.print(f"{mark} {masked}: {captured} of {len(statuses)} captured ({_tally(statuses)})")
    return good


def _has_token(account: Account) -> bool:
    return webhook_path(account).count("/") > 3  # noqa: PLR2004 - /webhooks/provider/account


def _tally(statuses: list[int]) -> str:
    return ", ".join(f"{statuses.count(status)} x {status}" for status in sorted(set(statuses)))
