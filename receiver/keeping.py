"""Keeps captures: in the log, or in the spool while Redis does not take them. The one place that decides which.

Nothing overtakes: while anything waits in the spool of this host, everything goes in behind it. So the order of the
answers of one process stays the order of the log.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar

import structlog

from receiver import metrics
from receiver.acceptance import Gate
from receiver.breaker import Breaker
from receiver.captures import Fence
from receiver.spool import Fill, Spool
from schemas.errors import StoreError

#: A write that has less than this part of its deadline left is not worth a try.
_WORTH_A_TRY = 0.25
_COMPLAIN_SECONDS = 30.0

log = structlog.get_logger()

T = TypeVar("T")


class Appends(Protocol):
    """The capture log, as far as captures go in."""

    async def append(self, captures: Sequence[list[bytes]], fence: Fence | None = None) -> str:
        """Make captures durable, in order, and give the log's position; or raise StoreError, past the fence too."""
        ...

    async def last(self) -> str:
        """The log's position."""
        ...


class Keeping:
    """What the writer writes to; one a process."""

    def __init__(self, captures: Appends, spool: Spool, gate: Gate, deadline_seconds: float) -> None:
        """`deadline_seconds`: what Redis has not taken by then goes into the spool."""
        self._captures = captures
        self._spool = spool
        self.gate = gate
        self.breaker = Breaker()
        self._deadline_seconds = deadline_seconds
        self._thread = ThreadPoolExecutor(1, "spool")
        #: The log's last known position.
        self._position = ""
        self._has_spooled = False
        self._complained_at = -_COMPLAIN_SECONDS

    async def open(self) -> None:
        """Open the spool, so that what waits in it is known before anything is written; and see whether Redis is there.

        Neither must be: what comes meanwhile goes where it can.
        """
        if await self.gate.ask():
            with suppress(StoreError):  # then it is asked for with the first write
                self._position = await self._captures.last()
        try:
            await self._off_loop(self._spool.open)
        except StoreError as error:
            log.warning("the spool cannot be used: while Redis is away, callbacks are answered 503", detail=str(error))

    async def close(self) -> None:
        """Close the spool."""
        await self._off_loop(self._spool.close)
        self._thread.shutdown()

    async def append(self, captures: list[list[bytes]], within_seconds: float) -> None:
        """Make captures durable, in order, in the log or else in the spool; or raise StoreError.

        `within_seconds`: how much of the deadline the first of them has left; the spool's own fsync comes on top.
        """
        due = asyncio.get_running_loop().time() + within_seconds
        if not self._is_direct() and await self._put_behind(captures):
            return
        left = due - asyncio.get_running_loop().time()
        if left < self._deadline_seconds * _WORTH_A_TRY:
            await self._put(captures, None, needed=True)
            return
        try:
            async with asyncio.timeout(left):
                self._position = await self._captures.append(captures, self._spool.fence)
        except (StoreError, TimeoutError) as error:
            self._missed(error)
            await self._put(captures, self._position, needed=True)
        else:
            self.answered()

    def catch_up(self) -> None:
        """If what this process spooled is drained, whoever did so has found that Redis answers."""
        if self._has_spooled and not self._spool.some_wait:
            self._has_spooled = False
            self.answered()

    def answered(self) -> None:
        """Redis took a write."""
        if self.breaker.open:
            log.info("Redis answers again")
            self.breaker.answered()
            metrics.BREAKER_OPEN.set(0)

    def _missed(self, error: Exception) -> None:
        if not self.breaker.open:
            log.warning("Redis did not take a write in time: captures go to the spool", detail=str(error))
        self.breaker.missed(asyncio.get_running_loop().time())
        metrics.BREAKER_OPEN.set(1)

    def _is_direct(self) -> bool:
        """Whether captures may go to Redis."""
        if self._spool.some_wait:
            return False
        self.catch_up()
        return self.gate.accepted and self.breaker.allows(asyncio.get_running_loop().time())

    async def _put_behind(self, captures: list[list[bytes]]) -> bool:
        """Put captures behind those that wait; False: none wait any more, and there is no other reason to."""
        needed = not (self._spool.some_wait and self.gate.accepted)
        if await self._put(captures, None, needed=needed):
            return True
        self.answered()
        return False

    async def _put(self, captures: list[list[bytes]], tried_after: str | None, *, needed: bool) -> bool:
        now = time.time()
        try:
            put = await self._off_loop(lambda: self._spool.put(captures, now, tried_after=tried_after, needed=needed))
        except StoreError as error:
            self._complain(error)
            raise
        if put:
            self._has_spooled = True
            metrics.SPOOLED.inc(len(captures))
        return put

    def _complain(self, error: StoreError) -> None:
        """Say at once that callbacks are refused, and then now and again."""
        if time.monotonic() - self._complained_at > _COMPLAIN_SECONDS:
            self._complained_at = time.monotonic()
            log.error("neither Redis nor the spool takes callbacks: they are answered 503", detail=str(error))

    # --- looking ---

    @property
    def some_wait(self) -> bool:
        """Whether captures wait in the spool of this host."""
        return self._spool.some_wait

    async def measure(self) -> tuple[Fill | None, str]:
        """How full the spool is, None if it cannot be read; and why it takes nothing, '' if it does."""
        fill: Fill | None = None
        why = ""
        try:
            fill = await self._off_loop(self._spool.fill)
            self._spool.refuse_if_full(fill, time.time())
            await self._off_loop(self._spool.prove)
        except StoreError as error:
            why = str(error)
        return fill, why

    @property
    def max_bytes(self) -> int:
        """How much the spool may hold."""
        return self._spool.max_bytes

    def _off_loop(self, work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)
