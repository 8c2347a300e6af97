"""How commands are run and speak: answers to stdout, progress and what goes wrong to stderr."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from receiver.cli.terminal import err, out

_T = TypeVar("_T")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Do it on the event loop that the service has too."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@contextmanager
def readable_output() -> Iterator[None]:
    """Who reads us, `head` for one, may have enough; nor may the last flush at our end fail."""
    try:
        yield
        out.file.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def counting(doing: str) -> Iterator[Callable[[int], None]]:
    """Shows at a terminal how far something is, by a number of captures; elsewhere nothing, as a log would fill up."""
    if not err.is_terminal:
        yield lambda _: None
        return
    columns = (SpinnerColumn(), TextColumn(doing), TextColumn("{task.completed:,.0f} captures"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda count: progress.update(task, completed=count)
