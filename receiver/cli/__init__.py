"""The command line, a module for each theme: each holds one command or a few that belong together.

A module is imported when one of its commands is called, or when all are listed: to import all of them takes several
times as long as most commands do.
"""

import logging
import platform
import sys
from collections.abc import Iterator, MutableMapping
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from typer.core import TyperGroup

from receiver import log
from receiver.cli.reaching import choose_partition
from receiver.cli.terminal import err, out
from schemas.errors import ConfigError, PartylineError

#: Where each command is, or the commands that share its first word; in the order in which they are listed.
_PLACES: Final = {
    "serve": ("serving", "serve"),
    "try": ("serving", "try_out"),
    "check": ("checking", "check"),
    "doctor": ("doctor", "doctor"),
    "keys": ("keys", "keys"),
    "providers": ("providers", "providers"),
    "send": ("posting", "send"),
    "tail": ("following", "tail"),
    "register": ("registering", "register"),
    "replay": ("replaying", "replay"),
    "verify": ("verifying", "verify"),
    "forget": ("forgetting", "forget"),
    "conversations": ("conversations", "commands"),
    "captures": ("captures", "commands"),
    "quarantine": ("quarantine", "commands"),
    "dead": ("dead", "commands"),
    "spool": ("spooling", "commands"),
    "subscribers": ("subscribers", "commands"),
    "state": ("state", "commands"),
}


@cache
def _command(name: str) -> Any:
    """A command, or the commands below a word, as the program holds them; KeyError where there is none."""
    module, attribute = _PLACES[name]
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    alone = typer.Typer(rich_markup_mode="rich")
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
    else:
        alone.command(name)(found)
    return typer.main.get_group(alone).commands[name]


class _Commands(MutableMapping[str, Any]):
    """All commands by name, each made when it is looked for; a mutable mapping, as the library has it, but no other."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __setitem__(self, name: str, command: Any) -> None:
        raise TypeError("the commands are those of _PLACES")

    def __delitem__(self, name: str) -> None:
        raise TypeError("the commands are those of _PLACES")

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


class _Program(TyperGroup):
    """The program itself."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()


app = typer.Typer(
    cls=_Program,
    help="Receives group messaging webhooks, and makes one conversation stream of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _tell_version(wanted: bool) -> None:  # noqa: FBT001 - typer hands it over so
    if wanted:
        out.print(f"partyline {version('partyline')}, Python {platform.python_version()}")
        raise typer.Exit


@app.callback()
def _globally(
    *,
    partition: Annotated[
        int | None, typer.Option(min=0, help="Which partition a command is about, where redis.partitions is above 1.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Which version this is, and end.")
    ] = False,
) -> None:
    # Unless told otherwise structlog prints to stdout, between the lines of an answer, and the values of variables too.
    log.configure(level=logging.ERROR)
    choose_partition(partition)


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
