"""The command line: serve, try, check, send, tail."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.console import Console
from rich.markup import escape

from receiver import log, tryout
from receiver.embedded import EmbeddedRedis
from receiver.presentation import line
from receiver.redis_client import connect
from receiver.samples import SAMPLES
from receiver.schemes import Ed25519
from receiver.sender import post, signer, webhook_path
from receiver.settings import Account, Settings, explain, load, refuse_unsupported
from receiver.subscription import following, matches
from receiver.supervisor import Service, serving, stop_signal
from schemas.errors import ConfigError, PartylineError
from schemas.events import EVENT_TYPES
from schemas.keyspace import Keyspace

_DEFAULT_CONFIG = Path("partyline.toml")
_TRYOUT_FOLDER = Path(".partyline")
_LOG = "service.log"
_READY_SECONDS = 30.0
_QUIET_SECONDS = 0.7
_LEVELS = {"ok": "[green]ok[/]", "note": "[cyan]note[/]", "warning": "[bold yellow]warning[/]"}

app = typer.Typer(
    help="Receives group messaging webhooks, and makes one conversation stream of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration; else $PARTYLINE_CONFIG, else partyline.toml.")
]


def main() -> None:
    """Run the command line; every error of ours ends in one plain sentence and an exit status."""
    try:
        app()
    except ConfigError as error:
        for mistake in error.mistakes:
            err.print(f"[bold red]✗[/] {escape(mistake)}")
        sys.exit(ConfigError.exit_code)
    except PartylineError as error:
        err.print(f"[bold red]✗[/] {escape(str(error))}")
        sys.exit(1)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the receiver: HTTP workers, a pipeline and, if so configured, an embedded Redis.

    Example: partyline serve --config partyline.toml
    """
    path = _config_path(config)
    settings = load(path, os.environ)
    log.configure()
    for row in explain(settings):
        if row.level == "warning":
            err.print(f"{_LEVELS['warning']} {row.path}: {escape(row.sentence)}")
    _run(_serve(settings, path))


@app.command("try")
def try_out(
    folder: Annotated[Path, typer.Option(help="Where its files and credentials are kept.")] = _TRYOUT_FOLDER,
    port: Annotated[int, typer.Option(help="The port; 0 takes any free one.")] = 8080,
) -> None:
    """Try it out with nothing set up: a receiver, a real Redis, and a sample conversation through both.

    Example: partyline try --port 8080
    """
    path = tryout.prepare(folder)
    os.environ["PARTYLINE_SERVER__PORT"] = str(port)
    settings = load(path, os.environ)
    log.configure(level=logging.WARNING)
    _run(_try(settings, path, folder))


@app.command()
def check(config: ConfigOption = None) -> None:
    """Read a configuration, say every mistake in it, and explain what it does.

    Example: partyline check --config partyline.toml
    """
    path = _config_path(config)
    settings = load(path, os.environ)
    refuse_unsupported(settings)
    rows = explain(settings)
    width = max(len(row.path) for row in rows)
    for row in rows:
        padding = " " * (len("warning") - len(row.level))
        out.print(f"{_LEVELS[row.level]}{padding}  {escape(row.path):<{width}}  {escape(row.sentence)}")
    warnings = sum(row.level == "warning" for row in rows)
    out.print(f"\n{path}: no mistakes, {warnings} warning(s).")


@app.command()
def send(
    config: ConfigOption = None,
    url: Annotated[str | None, typer.Option(help="The receiver; else where the configuration says it is.")] = None,
    account: Annotated[list[str] | None, typer.Option(help="Only these accounts; may be repeated.")] = None,
    telnyx_key: Annotated[Path | None, typer.Option(help="File with the base64 private key to sign as Telnyx.")] = None,
) -> None:
    """Post a signed sample conversation of each account's provider to a running receiver.

    Example: partyline send --account main-sinch
    """
    path = _config_path(config)
    settings = load(path, os.environ)
    unknown = set(account or ()) - settings.accounts.keys()
    if unknown:
        raise ConfigError([f"accounts.{name}: not in {path}" for name in sorted(unknown)])
    chosen = [settings.accounts[name] for name in account or settings.accounts]
    seed = _private_key(telnyx_key) if telnyx_key else tryout.telnyx_seed(path.parent)
    base = url or f"http://{settings.server.host}:{settings.server.port}"
    if not asyncio.run(_send(base, chosen, seed)):
        sys.exit(1)


@app.command()
def tail(
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="Whole envelopes, one a line.")] = False,  # noqa: FBT002 - a flag
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only this type; may be repeated.")] = None,
    conversation: Annotated[list[str] | None, typer.Option(help="Only this key; may be repeated.")] = None,
) -> None:
    """Follow events live, one readable line each.

    Example: partyline tail --type message.received
    """
    unknown = sorted(set(type_ or ()) - EVENT_TYPES)
    if unknown:
        raise ConfigError(
            [f"--type: there is no {name}; there are {', '.join(sorted(EVENT_TYPES))}" for name in unknown]
        )
    settings = load(_config_path(config), os.environ)
    try:
        _run(_tail(settings, type_ or [], conversation or [], as_json=json))
    except BrokenPipeError:  # who read us, `head` for one, has enough; nor may the last flush at our end fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- what they do ---


async def _serve(settings: Settings, path: Path) -> None:
    stopped = stop_signal()
    async with serving(settings, path) as service:
        err.print(f"partyline listens on {service.url} ({len(settings.accounts)} account(s)); Ctrl-C stops it")
        await stopped.wait()
        err.print("stopping: finishing what is under way …")


async def _try(settings: Settings, path: Path, folder: Path) -> None:
    out.print("Starting a receiver with an embedded Redis …")
    stopping = stop_signal()
    async with serving(settings, path, folder / _LOG) as service:
        stopped = asyncio.ensure_future(stopping.wait())
        showing = asyncio.ensure_future(_show_samples(service, folder))
        await asyncio.wait({stopped, showing}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            await showing
            _say_what_next(service, path, folder)
        await stopped
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing
        out.print("\nStopping …")
    out.print("Stopped; nothing is left running.")


async def _show_samples(service: Service, folder: Path) -> None:
    """Post each provider's sample conversation over HTTP, and print the events as pub/sub brings them."""
    settings = service.settings
    redis = connect(service.redis_url, None)
    try:
        async with (
            httpx.AsyncClient(base_url=service.url) as client,
            following(redis, Keyspace(settings.namespace)) as envelopes,
        ):
            await _wait_until_ready(client)
            out.print(f"Ready on {service.url}. Posting a signed sample conversation from each provider:\n")
            posting = asyncio.ensure_future(_post_samples(client, list(settings.accounts.values()), folder))
            await _print_until_quiet(envelopes, posting)
    finally:
        await redis.aclose()


async def _post_samples(client: httpx.AsyncClient, accounts: list[Account], folder: Path) -> None:
    for account in accounts:
        await _post_sample(client, account, tryout.telnyx_seed(folder))


async def _post_sample(client: httpx.AsyncClient, account: Account, seed: str | None) -> list[int]:
    sign = signer(account, seed)
    now = datetime.now(UTC)
    bodies = SAMPLES[account.provider](now, token_hex(4))
    return [(await post(client, account, sign, body, datetime.now(UTC))).status_code for body in bodies]


async def _print_until_quiet(envelopes: AsyncIterator[bytes], posting: "asyncio.Future[None]") -> None:
    """Print events until all samples are posted and nothing has come for a moment."""
    printed = 0

    async def show() -> None:
        nonlocal printed
        async for envelope in envelopes:
            _print_event(envelope)
            printed += 1

    showing = asyncio.ensure_future(show())
    try:
        await posting
        before = -1
        while before != printed:
            before = printed
            await asyncio.sleep(_QUIET_SECONDS)
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing


def _print_event(envelope: bytes) -> None:
    out.file.write(f"{line(orjson.loads(envelope))}\n")
    out.file.flush()


async def _wait_until_ready(client: httpx.AsyncClient) -> None:
    deadline = asyncio.get_running_loop().time() + _READY_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if (await client.get("/readyz")).status_code == httpx.codes.OK:
                return
        await asyncio.sleep(0.05)
    raise ConfigError([f"server: not ready after {_READY_SECONDS:g} s; see its log"])


def _say_what_next(service: Service, path: Path, folder: Path) -> None:
    out.print("\nThat went over HTTP, a signature check, the capture log, the correlator and Redis pub/sub.")
    out.print(f"It stays up on {service.url}. In another terminal:\n")
    program = _program()
    hints = {
        f"{program} tail --config {path}": "follow events live (--json: whole envelopes)",
        f"{program} send --config {path} --url {service.url}": "post the samples again",
        f"{program} check --config {path}": "what this configuration does",
        f"curl {service.url}/readyz": "is it ready?",
        f"tail -f {folder / _LOG}": "its log, one line a callback",
    }
    width = max(map(len, hints))
    for command, what in hints.items():
        out.print(f"  {command:<{width}}  [dim]# {what}[/]")
    out.print("\nFor real: write a partyline.toml (README.md shows how). Ctrl-C stops everything.")
    out.file.flush()


def _program() -> str:
    script = Path(sys.argv[0])
    with contextlib.suppress(ValueError):
        return str(script.resolve().relative_to(Path.cwd()))
    return script.name


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
                statuses = await _post_sample(client, account, seed)
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


async def _tail(settings: Settings, types: list[str], subjects: list[str], *, as_json: bool) -> None:
    url: str = settings.redis.url
    if url == "embedded":
        url = EmbeddedRedis(settings.redis.data_dir).url
    redis = connect(url, None)
    stopped = asyncio.ensure_future(stop_signal().wait())
    try:
        async with following(redis, Keyspace(settings.namespace)) as envelopes:
            reading = asyncio.ensure_future(_follow(envelopes, types, subjects, as_json=as_json))
            await asyncio.wait({stopped, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
    finally:
        stopped.cancel()
        await redis.aclose()


async def _follow(envelopes: AsyncIterator[bytes], types: list[str], subjects: list[str], *, as_json: bool) -> None:
    async for envelope in envelopes:
        if not matches(envelope, types, subjects):
            continue
        if as_json:
            sys.stdout.buffer.write(envelope + b"\n")
            sys.stdout.buffer.flush()
        else:
            _print_event(envelope)


def _config_path(option: Path | None) -> Path:
    path = option or Path(os.environ.get("PARTYLINE_CONFIG") or _DEFAULT_CONFIG)
    if not path.exists():
        raise ConfigError([f"{path}: no such file; name one with --config, or run `partyline try` to try it out"])
    return path


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
