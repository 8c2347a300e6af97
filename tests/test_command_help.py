"""Every command explains itself: what it does, with an example that could be run."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from receiver.cli import app


def commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below another, by the words that call it."""
    for word, below in getattr(group, "commands", {}).items():
        yield from commands(below, f"{name} {word}")
    if not hasattr(group, "commands"):
        yield name, group


COMMANDS = dict(commands(typer.main.get_command(app), "partyline"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does_with_an_example_of_itself(name: str) -> None:
    """One sentence first; then, after `Example: `, a command line that begins with its own words."""
    text = COMMANDS[name].help or ""
    [example] = [line.strip().removeprefix("Example: ") for line in text.splitlines() if "Example: " in line]

    assert text.split("\n\n")[0].strip().endswith((".", ":"))
    assert example.startswith(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_has_only_options_that_there_are(name: str) -> None:
    """What somebody copies is accepted as far as its options and the number of its arguments go."""
    command = COMMANDS[name]
    [example] = [line.strip() for line in (command.help or "").splitlines() if "Example: " in line]
    words = shlex.split(example.removeprefix("Example: ").partition(" | ")[0].partition(" >")[0])
    after = words[len(name.split()) :]

    assert command.make_context(name, after, resilient_parsing=False).params is not None


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    """No parameter goes without its words."""
    unexplained = [
        each.name for each in COMMANDS[name].params if not getattr(each, "help", None) and each.name != "help"
    ]

    assert unexplained == []


def test_a_command_has_no_other_imported() -> None:
    """To import all of them takes several times as long as most commands do."""
    code = (
        "import sys, receiver.cli as cli\n"
        "sys.argv[1:] = ['keys', 'telnyx']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print(*[name for name in sys.modules if name.startswith('receiver.cli.')], file=sys.stderr)\n"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert "public_keys" in ended.stdout
    assert set(ended.stderr.split()) == {"receiver.cli.keys", "receiver.cli.reaching", "receiver.cli.terminal"}


def test_a_mistyped_command_is_told_from_all_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Though none of their modules is imported yet."""
    with pytest.raises(SystemExit):
        app(["replya"])

    assert "Did you mean 'replay'?" in " ".join(capsys.readouterr().err.split())
