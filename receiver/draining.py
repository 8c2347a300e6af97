"""Drains the spool into the capture log, in order, once Redis answers: by one process of the host at a time.

Which one is decided by a file lock, which the kernel takes away from a process that dies. What a killed process left
in the spool is drained by the next one that has the lock.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from receiver import metrics
from receiver.acceptance import Gate
from receiver.captures import Fence
from receiver.keeping import Appends
from receiver.outlet import Outlet, Row
from receiver.spool_file import SpoolFile
from schemas.errors import StoreError

_BATCH = 256
_BATCH_BYTES = 4 * 1024 * 1024
_POLL_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
#: How often it is looked whether the spool's files are still those that are open.
_LOOK_SECONDS = 1.0
_COMPLAIN_SECONDS = 30.0

log = structlog.get_logger()

T = TypeVar("T")


class Log(Appends, Protocol):
    """The capture log, as far as draining goes."""

    async def raise_fence(self, fence: Fence) -> None:
        """What was begun under a lower number is not written from now on."""
        ...

    async def find(self, captures: Collection[bytes], after: Collection[str]) -> set[bytes]:
        """Which of these ids stand in the log after the smallest of these positions."""
        ...


class Drain:
    """Empties the spool of a host: one round at a time, for whoever runs it."""

    def __init__(self, file: SpoolFile, captures: Log, gate: Gate, deadline_seconds: float) -> None:
        self._outlet = Outlet(file)
        self._lock_path = file.path.with_suffix(".draining")
        self._captures = captures
        self._gate = gate
        self._deadline_seconds = deadline_seconds
        self._thread = ThreadPoolExecutor(1, "drain")
        self._stopping = False
        self._fence: Fence | None = None
        #: How many captures it has taken out.
        self.drained = 0

    def stop(self) -> None:
        """End after the batch under way."""
        self._stopping = True

    @property
    def some_wait(self) -> bool:
        """Whether captures wait, as far as is known; costs no system call."""
        return self._outlet.some_wait

    async def look(self) -> None:
        """Open the spool, or find that it was exchanged. Raises StoreError."""
        await self._off_loop(self._outlet.open)

    async def close(self) -> None:
        """Close this end of the spool."""
        await self._off_loop(self._outlet.close)
        self._thread.shutdown()

    async def empty(self) -> bool:
        """Drain until nothing waits; False if another process does so, or Redis is refused. Raises StoreError."""
        with _alone(self._lock_path) as alone:
            if not (alone and await self._gate.ask()):
                return False
            before = self.drained
            await self._settle_doubts()
            while not self._stopping:
                if await self._hand_over_last():
                    log.info("the spool is drained", captures=self.drained - before)
                    await self._off_loop(self._outlet.tidy)
                    return True
                await self._move_some()
            return False

    async def _settle_doubts(self) -> None:
        """Let go what the log has already; from here on, what may be there twice is known."""
        self._fence = await self._off_loop(self._outlet.raise_fence)
        await self._captures.raise_fence(self._fence)
        doubt = await self._off_loop(lambda: self._outlet.doubt(_BATCH))
        position = await self._captures.last()
        found = await self._captures.find(doubt.captures.keys(), doubt.after) if doubt.captures else set()
        if found:  # what is in the log may still lack the replicas that redis.wait_replicas asks for
            await self._captures.append([])
        sequences = [doubt.captures[capture] for capture in found]
        await self._off_loop(lambda: self._outlet.begin(sequences, position, doubt.last))
        self._count(len(found), "recognised")

    async def _move_some(self) -> None:
        rows = await self._off_loop(lambda: self._outlet.first(_BATCH, _BATCH_BYTES))
        if any(row.tried for row in rows):  # they came while others were looked for
            await self._settle_doubts()
        elif rows:
            position = await self._append(rows, self._deadline_seconds)
            await self._off_loop(lambda: self._outlet.done(rows[-1].sequence, position))
            self._count(len(rows), "appended")

    async def _hand_over_last(self) -> bool:
        """Move the last ones while nobody adds more; False if there are too many for that."""
        rows = await self._off_loop(lambda: self._outlet.hold(_BATCH, _BATCH_BYTES))
        if rows is None:
            return False
        try:
            if any(row.tried for row in rows):  # to be settled without anybody waiting for it
                return False
            if rows:  # others wait meanwhile, so for no longer than leaves them in time for their senders
                await self._append(rows, self._deadline_seconds / 2)
            await self._off_loop(self._outlet.finish)
        finally:
            await self._off_loop(self._outlet.let_go)
        self._count(len(rows), "appended")
        return True

    async def _append(self, rows: Sequence[Row], seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                return await self._captures.append([row.values for row in rows], self._fence)
        except TimeoutError:
            raise StoreError("Redis did not take captures from the spool in time") from None

    def _count(self, captures: int, how: str) -> None:
        self.drained += captures
        metrics.DRAINED.labels(how).inc(captures)

    def _off_loop(self, work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)


class Drainer:
    """Runs a drain for as long as a process lives: whenever captures wait, and Redis answers."""

    def __init__(self, drain: Drain, gate: Gate, catch_up: Callable[[], None]) -> None:
        """`catch_up` is called now and again while nothing waits, whoever drained it."""
        self._drain = drain
        self._catch_up = catch_up
        self._gate = gate
        self._stopping = asyncio.Event()
        self._looked_at = -_LOOK_SECONDS
        self._complained_at = -_COMPLAIN_SECONDS
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End after the batch under way; what is left waits for the next start."""
        self._stopping.set()
        self._drain.stop()
        if self._running is not None:
            await self._running
        await self._drain.close()

    async def _run(self) -> None:
        pause = _POLL_SECONDS
        while not self._stopping.is_set():
            try:
                well = await self._once()
            except StoreError as error:
                self._complain(error)
                well = False
            pause = _POLL_SECONDS if well else min(pause * 2, _LONGEST_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _once(self) -> bool:
        """Drain if there is anything to; whether all is well."""
        if not self._gate.accepted and not await self._gate.ask():
            return False
        if time.monotonic() - self._looked_at > _LOOK_SECONDS:
            await self._drain.look()
            self._looked_at = time.monotonic()
        well = not self._drain.some_wait or await self._drain.empty()
        self._catch_up()
        return well

    def _complain(self, error: StoreError) -> None:
        """Say at once that it waits, and then now and again."""
        if time.monotonic() - self._complained_at > _COMPLAIN_SECONDS:
            self._complained_at = time.monotonic()
            log.warning("the spool is not drained", detail=str(error))


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no other process drains, and none will meanwhile. StoreError where that cannot be told."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"spool.dir: {path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
