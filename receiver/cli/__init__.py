"""The command line, a module for each theme: each holds one command or a few that belong together."""

import platform
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.markup import escape

from receiver.cli.captures import commands as capture_commands
from receiver.cli.checking import check
from receiver.cli.conversations import commands as conversation_commands
from receiver.cli.dead import commands as dead_commands
from receiver.cli.doctor import doctor
from receiver.cli.following import tail
from receiver.cli.forgetting import forget
from receiver.cli.keys import keys
from receiver.cli.posting import send
from receiver.cli.providers import providers
from receiver.cli.quarantine import commands as quarantine_commands
from receiver.cli.reaching import choose_partition
from receiver.cli.registering import register
from receiver.cli.replaying import replay
from receiver.cli.serving import serve, try_out
from receiver.cli.spooling import commands as spool_commands
from receiver.cli.state import commands as state_commands
from receiver.cli.subscribers import commands as subscriber_commands
from receiver.cli.terminal import err, out
from receiver.cli.verifying import verify
from schemas.errors import ConfigError, PartylineError

app = typer.Typer(
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
    choose_partition(partition)


app.command()(serve)
app.command("try")(try_out)
app.command()(check)
app.command()(doctor)
app.command()(keys)
app.command()(providers)
app.command()(send)
app.command()(tail)
app.command()(register)
app.command()(replay)
app.add_typer(conversation_commands, name="conversations")
app.add_typer(capture_commands, name="captures")
app.command()(verify)
app.add_typer(quarantine_commands, name="quarantine")
app.add_typer(dead_commands, name="dead")
app.add_typer(spool_commands, name="spool")
app.add_typer(subscriber_commands, name="subscribers")
app.add_typer(state_commands, name="state")
app.command()(forget)


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
