"""The consumers of one subscription, one at each partition: what they hand out, in turn; and their common end.

An account is whole in one partition, so what is in order is in one stream; consumers need nothing of each other.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from correlator.board import Lane
from correlator.consumer import Consumer, Handler
from schemas.reader import Published

#: Somebody says when there is work; this is for what comes by itself, such as the end of a pause.
_IDLE_SECONDS: Final = 0.5


class Consumers:
    """From `open` to `close`. Their events come by `next`, or all go to a handler with `run`."""

    def __init__(self, members: Sequence[Consumer], ready: asyncio.Event) -> None:
        """`ready`: what each of them sets when there may be something to hand out."""
        self._members = members
        self._ready = ready
        #: Whose turn it is.
        self._turn = 0
        self._stopping = False

    async def open(self) -> None:
        """Join the group everywhere. StoreError when Redis cannot be reached; later outages are waited for."""
        for member in self._members:
            await member.open()

    def stop(self) -> None:
        """Hand nothing more out, and have everything that waits return."""
        self._stopping = True
        for member in self._members:
            member.stop()
        self._ready.set()

    async def close(self) -> None:
        """Leave the group, cursors moved and lanes free."""
        self.stop()
        await asyncio.gather(*(member.close() for member in self._members))

    async def next(self) -> tuple[Consumer, Lane, Published] | None:
        """The next event, the lane to finish once it is handled, and whose that is. None: it was stopped."""
        while self._goes_on:
            for member in self._in_turn():
                if (found := await member.next()) is not None:
                    return member, *found
            await self._pause()
        self._raise_failure()
        return None

    async def run(self, handler: Handler, concurrency: int, grace_seconds: float) -> None:
        """Hand all events to a handler, of so many lanes at once, until stopped; then wait for those under way."""
        workers: set[asyncio.Task[None]] = set()
        try:
            while self._goes_on:
                await self._pause()
                for member in self._in_turn():
                    while member.has_work and len(workers) < concurrency:
                        worker = member.work(handler)
                        workers.add(worker)
                        worker.add_done_callback(workers.discard)
                        await asyncio.sleep(0)
            if workers:
                await asyncio.wait(workers, timeout=grace_seconds)
        finally:
            await _cancelled(workers)
        self._raise_failure()

    def _in_turn(self) -> Iterator[Consumer]:
        """All of them, another one first each time."""
        self._turn = (self._turn + 1) % len(self._members)
        yield from self._members[self._turn :]
        yield from self._members[: self._turn]

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._ready.wait(), _IDLE_SECONDS)
        except TimeoutError:
            return
        self._ready.clear()

    @property
    def _goes_on(self) -> bool:
        return not self._stopping and not any(member.failure for member in self._members)

    def _raise_failure(self) -> None:
        for member in self._members:
            if member.failure is not None:
                raise member.failure


async def _cancelled(tasks: set["asyncio.Task[None]"]) -> None:
    """End tasks, and wait until they have."""
    for task in list(tasks):
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
