"""One `partyline` command line at a time, run in the tests' own process, and how it ended."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import structlog

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
        with pytest.raises(SystemExit) as ended, _logging_as_before():
            main()
        said = capture.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err.decode())

    return run


@contextmanager
def _logging_as_before() -> Iterator[None]:
    """Commands set up logging for a process of their own; here no logger may remember afterwards where it wrote to."""
    before, real = structlog.get_config(), structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **given: real(**{**given, "cache_logger_on_first_use": False}))
        try:
            yield
        finally:
            real(**before)
