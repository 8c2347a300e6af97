"""What the commands share at a terminal: where they print, and which configuration they read."""

import os
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from receiver.presentation import line
from receiver.settings import Settings, load
from schemas.errors import ConfigError

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


def print_event(envelope: bytes) -> None:
    """One event as a line, at once."""
    out.file.write(f"{line(orjson.loads(envelope))}\n")
    out.file.flush()
