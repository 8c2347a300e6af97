"""Coalesces concurrent writes: what arrives while one write is under way goes out together with the next.

A group commit: fsync-always costs one fsync a flush, not one a callback. One flush is under way at a time, so the order
of the log is the order of the answers. The deadline counts from when a capture came, not from when its flush began: who
has waited behind a Redis that hangs does not wait for it once more.
"""

import asyncio
from collections import deque
from typing import NamedTuple, Protocol

import structlog

from receiver import metrics
from schemas.errors import StoreError

_MAX_ENTRIES = 128
_MAX_BYTES = 4 * 1024 * 1024
#: In deadlines: who has waited for so long is given up.
_PATIENCE = 2

log = structlog.get_logger()


class Keeps(Protocol):
    """What the writer writes to."""

    async def append(self, captures: list[list[bytes]], within_seconds: float) -> None:
        """Make captures durable, in order, or raise StoreError."""
        ...


class _Batch(NamedTuple):
    """What goes into one write."""

    #: When the first of them came.
    since: float
    captures: list[list[bytes]]
    durable: list[asyncio.Future[None]]


class Writer:
    """Takes captures one at a time and returns when each is durable."""

    def __init__(self, keeping: Keeps, deadline_seconds: float) -> None:
        """`deadline_seconds`: by when Redis must have a capture; who waited two of them for a flush is given up."""
        self._keeping = keeping
        self._deadline_seconds = deadline_seconds
        self._waiting: deque[tuple[float, list[bytes], asyncio.Future[None]]] = deque()
        self._flushing: asyncio.Task[None] | None = None

    async def write(self, values: list[bytes]) -> None:
        """Return once the capture is durable; StoreError if it is not known to be, and the caller must say so."""
        loop = asyncio.get_running_loop()
        durable: asyncio.Future[None] = loop.create_future()
        self._waiting.append((loop.time(), values, durable))
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush())
        await durable

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await self._flush_some()
        finally:
            self._flushing = None

    async def _flush_some(self) -> None:
        batch = self._take()
        if not batch.captures:
            return
        metrics.FLUSHED.observe(len(batch.captures))
        clock = asyncio.get_running_loop().time
        left = batch.since + self._deadline_seconds - clock()
        try:
            await self._keeping.append(batch.captures, left)
        except Exception as error:
            for durable in batch.durable:  # whatever happened, no request waits for ever
                if not durable.done():
                    durable.set_exception(StoreError(str(error)))
            if not isinstance(error, StoreError):
                log.exception("a flush failed in a way nobody foresaw")
        else:
            metrics.CAPTURE_SECONDS.observe(clock() - batch.since)
            for durable in batch.durable:
                if not durable.done():  # its request may have been cancelled
                    durable.set_result(None)

    def _take(self) -> _Batch:
        """The oldest that are waiting, as many as go into one write; those that waited too long are given up."""
        now = asyncio.get_running_loop().time()
        batch, size, oldest = _Batch(now, [], []), 0, now - _PATIENCE * self._deadline_seconds
        while self._waiting and len(batch.captures) < _MAX_ENTRIES and size < _MAX_BYTES:
            since, values, durable = self._waiting.popleft()
            if durable.done():
                continue
            if since < oldest:
                durable.set_exception(StoreError("neither Redis nor the spool was quick enough"))
                continue
            if not batch.captures:
                batch = batch._replace(since=since)
            size += sum(map(len, values))
            batch.captures.append(values)
            batch.durable.append(durable)
        return batch
