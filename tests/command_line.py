"""One `partyline` command line at a time, run in the tests' own process, and how it ended."""

import io
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from receiver.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    #: What it wrote to stdout, as it came.
    written: bytes
    err: str

    @property
    def out(self) -> str:
        """What it wrote to stdout, as text."""
        return self.written.decode()

    @property
    def words(self) -> list[list[str]]:
        """The words of each line of that."""
        return [line.split() for line in self.out.splitlines()]


Run = Callable[..., Ended]


def command_line(monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes], *before: str) -> Run:
    """What runs a command line to its end; each begins with `before`."""

    def run(*words: str, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "argv", ["partyline", *before, *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capture.readouterr()  # what others said before
        with pytest.raises(SystemExit) as ended:
            main()
        said = capture.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err.decode())

    return run
