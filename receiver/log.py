"""Structured logs on stderr: JSON lines, or readable ones on a terminal.

No text, no full address, no credential and no path with a token ever goes into a log line: a line names the capture,
and who may see more looks that up. And a line stays one line, whatever is in it.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

import orjson
import structlog

from receiver.bodies import harmless
from schemas.errors import PartylineError

#: Their messages quote the value that was wrong, which may be a text, a number or a secret.
_QUOTING = (ValueError, LookupError)
_UNTOLD = "(what it says may quote a text or a number, and is left out)"


def configure(*, console: bool | None = None, level: int = logging.INFO) -> None:
    """Set up logging for this process. `console` None: readable on a terminal, JSON elsewhere."""
    readable = sys.stderr.isatty() if console is None else console
    shared: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _on_one_line,
    ]
    if readable:
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer(exception_formatter=_write_told)],
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            wrapper_class=structlog.make_filtering_bound_logger(level),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[
                *shared,
                structlog.processors.ExceptionRenderer(_told),
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
            wrapper_class=structlog.make_filtering_bound_logger(level),
            cache_logger_on_first_use=True,
        )
    _adopt(shared, readable=readable)
    # httpx logs each URL it posts to, which may hold a token.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _adopt(shared: list[structlog.types.Processor], *, readable: bool) -> None:
    """What libraries log comes out in the same form, so that every line is JSON or none is."""
    last: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=_write_told)]
        if readable
        else [structlog.processors.ExceptionRenderer(_told), structlog.processors.JSONRenderer(serializer=_json_text)]
    )
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name], processors=[remove_meta, *last]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _json_text(event: structlog.types.EventDict, **options: Any) -> str:
    return orjson.dumps(event, **options).decode()


# --- nothing that anybody sent is written as it is --------------------------------------------------------


def _on_one_line(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """What would begin a line, move a terminal's cursor, or be no UTF-8, is written as its escape."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = _one_line(value)
    return event


def _one_line(text: str) -> str:
    return harmless(text).replace("\n", "\\n")


def _told(exc_info: structlog.typing.ExcInfo) -> str:
    """Where it failed, without the values of variables: those hold secrets, texts and numbers."""
    return "".join(_chain(exc_info[1], set())).rstrip("\n")


def _write_told(file: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    file.write("\n" + _told(exc_info))


def _chain(error: BaseException, seen: set[int]) -> Iterator[str]:
    """An error after what it came of, and before those that it is made of."""
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _chain(cause, seen)
        yield "\nwhich led to:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__qualname__}: {_message(error)}\n"
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield "\namong others:\n\n"
        yield from _chain(inner, seen)


def _message(error: BaseException) -> str:
    quotes = isinstance(error, _QUOTING) and not isinstance(error, PartylineError)
    return _UNTOLD if quotes else _one_line(str(error))
