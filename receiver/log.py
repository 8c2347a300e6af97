"""Structured logs on stderr: JSON lines, or readable ones on a terminal.

No text, no full address, no credential and no path with a token ever goes into a log line: a line names the capture,
and who may see more looks that up.
"""

import logging
import sys
from typing import Any

import orjson
import structlog

#: Where it failed, without the values of variables: those hold secrets, texts and numbers.
_plain = structlog.dev.plain_traceback


def configure(*, console: bool | None = None, level: int = logging.INFO) -> None:
    """Set up logging for this process. `console` None: readable on a terminal, JSON elsewhere."""
    readable = sys.stderr.isatty() if console is None else console
    shared: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if readable:
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer(exception_formatter=_plain)],
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            wrapper_class=structlog.make_filtering_bound_logger(level),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[
                *shared,
                structlog.processors.format_exc_info,
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
        [structlog.dev.ConsoleRenderer(exception_formatter=_plain)]
        if readable
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json_text)]
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
