"""What the commands share at a terminal: where they print, and which configuration they read."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from receiver.presentation import line, plain_json
from receiver.screen import day_line, lines
from receiver.settings import Settings, load
from schemas.errors import ConfigError, ParseError
from schemas.reader import Published, decode

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


class EventPrinter:
    """Prints events at once: in columns on a terminal, and as whole plain lines into anything else."""

    def __init__(self, *, as_json: bool = False) -> None:
        """`as_json`: envelopes as they stand in the stream, one a line."""
        self._as_json = as_json
        self._day = ""

    def show(self, envelope: bytes, position: str = "") -> None:
        """Print one event. `position`: where it stands, in case that it cannot be read."""
        if not self._as_json:
            self._show(envelope, position)
        elif out.is_terminal:
            out.file.write(f"{plain_json(envelope.decode(errors='replace'))}\n")
        else:
            sys.stdout.buffer.write(envelope + b"\n")
        out.file.flush()

    def _show(self, envelope: bytes, position: str) -> None:
        try:
            event = decode(envelope, position)
        except ParseError as error:
            err.print(f"[yellow]at {position or 'a channel'} stands what is no event of ours:[/] {escape(str(error))}")
            return
        if out.is_terminal:
            self._show_in_columns(event)
        else:
            out.file.write(f"{line(event)}\n")

    def _show_in_columns(self, event: Published) -> None:
        day = day_line(event, None)
        if day != self._day:
            self._day = day
            out.print(Text(day, "dim"))
        for pieces in lines(event, out.width, None):
            out.print(Text.assemble(*pieces))
