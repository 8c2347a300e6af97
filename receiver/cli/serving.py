"""`partyline serve` and `partyline try`: the service itself, and a look at it with nothing set up."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import httpx
import structlog
import typer
from rich.markup import escape

from correlator.hints import following
from correlator.redis_client import connect
from receiver import log, tryout
from receiver.activation import tell_manager
from receiver.cli.posting import post_sample
from receiver.cli.terminal import LEVELS, ConfigOption, EventPrinter, config_path, err, out
from receiver.process import stop_signal
from receiver.settings import Account, Settings, explain, load
from receiver.supervisor import Service, serving
from schemas.errors import ConfigError
from schemas.keyspace import Keyspace, keyspaces

_TRYOUT_FOLDER = Path(".partyline")
_LOG = "service.log"
_READY_SECONDS = 30.0
_QUIET_SECONDS = 0.7


def serve(config: ConfigOption = None) -> None:
    """Run the receiver: HTTP workers, a pipeline and, if so configured, an embedded Redis.

    Example: partyline serve --config partyline.toml
    """
    path = config_path(config)
    settings = load(path, os.environ)
    log.configure()
    for row in explain(settings):
        if row.level == "warning":
            _warn(row.path, row.sentence)
    asyncio.run(_serve(settings, path))


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
    asyncio.run(_try(settings, path, folder))


# --- what they do ---


async def _serve(settings: Settings, path: Path) -> None:
    stopped = stop_signal()
    async with serving(settings, path) as service:
        _say(f"partyline listens on {service.url} ({len(settings.accounts)} account(s)); Ctrl-C stops it")
        telling = asyncio.ensure_future(_tell_when_ready(service))
        await stopped.wait()
        telling.cancel()
        tell_manager(os.environ, "STOPPING=1")
        _say("stopping: finishing what is under way …")


def _say(text: str) -> None:
    """To whoever sits there; or as a line of the log, so that every line of a service is JSON."""
    if err.is_terminal:
        err.print(escape(text))
    else:
        structlog.get_logger().info(text)


def _warn(setting: str, sentence: str) -> None:
    """The same for what a configuration is warned of."""
    if err.is_terminal:
        err.print(f"{LEVELS['warning']} {setting}: {escape(sentence)}")
    else:
        structlog.get_logger().warning(sentence, setting=setting)


async def _tell_when_ready(service: Service) -> None:
    """Let a service manager wait until callbacks are taken, as systemd's `Type=notify` does."""
    async with httpx.AsyncClient(base_url=service.url) as client:
        await _wait_until_ready(client)
    tell_manager(os.environ, "READY=1")


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
    redis = connect(service.redis_url, None, Keyspace(settings.namespace))
    try:
        async with (
            httpx.AsyncClient(base_url=service.url) as client,
            following(redis, keyspaces(settings.namespace, settings.redis.partitions)) as envelopes,
        ):
            await _wait_until_ready(client)
            out.print(f"Ready on {service.url}. Posting a signed sample conversation from each provider:\n")
            posting = asyncio.ensure_future(_post_samples(client, list(settings.accounts.values()), folder))
            await _print_until_quiet(envelopes, posting)
    finally:
        await redis.aclose()


async def _post_samples(client: httpx.AsyncClient, accounts: list[Account], folder: Path) -> None:
    for account in accounts:
        await post_sample(client, account, tryout.telnyx_seed(folder))


async def _print_until_quiet(envelopes: AsyncIterator[bytes], posting: "asyncio.Future[None]") -> None:
    """Print events until all samples are posted and nothing has come for a moment."""
    printed, printer = 0, EventPrinter()

    async def show() -> None:
        nonlocal printed
        async for envelope in envelopes:
            printer.show(envelope)
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
