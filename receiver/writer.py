"""Coalesces concurrent writes: what arrives while one write is under way goes out together with the next.

A group commit: fsync-always costs one fsync a flush, not one a callback. One flush is under way at a time, so the order
of the log is the order of the answers.
"""

import asyncio
from collections import deque
from typing import Protocol

import structlog

from receiver import metrics
from schemas.errors import StoreError

_MAX_ENTRIES = 128
_MAX_BYTES = 4 * 1024 * 1024

log = structlog.get_logger()


class Appends(Protocol):
    """What the writer writes to."""

    async def append(self, captures: list[list[bytes]]) -> None:
        """Make captures durable, in order, or raise StoreError."""
        ...


class Writer:
    """Takes captures one at a time and returns when each is durable."""

    def __init__(self, log: Appends, deadline_seconds: float) -> None:
        """`deadline_seconds`: a capture that waited longer for its flush is given up."""
        self._log = log
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
        if not batch:
            return
        metrics.FLUSHED.observe(len(batch))
        try:
            await self._log.append([values for values, _ in batch])
        except Exception as error:
            if not isinstance(error, StoreError):
                log.exception("a flush failed in a way nobody foresaw")
            for _, durable in batch:  # whatever happened, no request waits for ever
                if not durable.done():
                    durable.set_exception(StoreError(str(error)))
        else:
            for _, durable in batch:
                if not durable.done():  # its request may have been cancelled
                    durable.set_result(None)

    def _take(self) -> list[tuple[list[bytes], asyncio.Future[None]]]:
        """The oldest that are waiting, as many as go into one write; those past their deadline are given up."""
        batch: list[tuple[list[bytes], asyncio.Future[None]]] = []
        size, oldest = 0, asyncio.get_running_loop().time() - self._deadline_seconds
        while self._waiting and len(batch) < _MAX_ENTRIES and size < _MAX_BYTES:
            since, values, durable = self._waiting.popleft()
            if durable.done():
                continue
            if since < oldest:
                durable.set_exception(StoreError("Redis has been too slow for redis.write_deadline"))
                continue
            size += sum(map(len, values))
            batch.append((values, durable))
        return batch
