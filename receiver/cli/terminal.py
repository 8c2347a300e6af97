"""What the commands share at a terminal: where they print, which configuration they read, how Redis is reached."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import orjson
import typer
from redis.asyncio import Redis
from rich.console import Console

from receiver.embedded import EmbeddedRedis
from receiver.presentation import line
from receiver.redis_client import connect
from receiver.settings import Settings, load
from schemas.errors import ConfigError, StoreError

LEVELS = {"ok": "[green]ok[/]", "note": "[cyan]note[/]", "warning": "[bold yellow]warning[/]"}
_DEFAULT_CONFIG = Path("partyline.toml")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration; else $PARTYLINE_CONFIG, else partyline.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, one line.")]


def config_path(option: Path | None) -> Path:
    """The configuration's file; ConfigError says what to do when there is none."""
    path = option or Path(os.environ.get("PARTYLINE_CONFIG") or _DEFAULT_CONFIG)
    if not path.exists():
        raise ConfigError([f"{path}: no such file; name one with --config, or run `partyline try` to try it out"])
    return path


def settings_at(option: Path | None) -> Settings:
    """The configuration itself."""
    return load(config_path(option), os.environ)


def refuse_unless_running(settings: Settings) -> None:
    """StoreError where the Redis is one that a service starts, and none has."""
    if settings.redis.url == "embedded" and not EmbeddedRedis(settings.redis.data_dir).socket.exists():
        raise StoreError("the embedded Redis does not run: start `partyline serve` (or `partyline try`) first")


@asynccontextmanager
async def redis_of(settings: Settings, timeout_seconds: float | None) -> AsyncIterator[Redis]:
    """A client of the Redis that a configuration names; of the embedded one if a running service has started it."""
    url: str = settings.redis.url
    redis = connect(EmbeddedRedis(settings.redis.data_dir).url if url == "embedded" else url, timeout_seconds)
    try:
        yield redis
    finally:
        await redis.aclose()


def print_event(envelope: bytes) -> None:
    """One event as a line, at once."""
    out.file.write(f"{line(orjson.loads(envelope))}\n")
    out.file.flush()
