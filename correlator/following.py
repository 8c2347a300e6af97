"""The stream of events from a position on, through every outage of Redis: for readers that keep their place themselves.

Nothing of such a reader stands in Redis. Its place is the position that it read last; groups of consumers, whose places
are kept for them, are in `subscribe.py`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple, TypeVar

from redis.asyncio import Redis

from correlator.lanes import BEGINNING, Position, just_before, position_of, show_position
from correlator.scripts import answer
from schemas.errors import StoreError
from schemas.keyspace import Keyspace

_READ: Final = 200
#: How many entries a failover may lose and a reader still finds what stands in their place.
_REMEMBERED: Final = 10_000
#: A client's time-out must be longer, or each quiet moment is taken for an outage.
_WAIT_MILLISECONDS: Final = 1000
_AGAIN_SECONDS: Final = 0.5

_T = TypeVar("_T")

log = logging.getLogger("partyline.subscribe")


class Entry(NamedTuple):
    """One entry of the stream. One without an event has an empty envelope."""

    position: Position
    envelope: bytes


def _log(error: StoreError | None) -> None:
    if error is None:
        log.warning("Redis is back")
    else:
        log.warning("waiting for Redis: %s", error)


class Outages:
    """Waits for Redis whenever it is away, and says once that it is, and once that it is back."""

    def __init__(self, told: Callable[[StoreError | None], None] = _log) -> None:
        """`told`: called with the error when Redis goes away, and with None when it is back."""
        self._told = told
        self._is_away = False

    async def wait(self, error: StoreError) -> None:
        """Redis is away; wait a moment before it is asked again."""
        if not self._is_away:
            self._is_away = True
            self._told(error)
        await asyncio.sleep(_AGAIN_SECONDS)

    def over(self) -> None:
        """Redis has answered."""
        if self._is_away:
            self._is_away = False
            self._told(None)

    async def through(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """What a call comes to, as often as it has to be made. It must do no harm to make it twice."""
        while True:
            try:
                found = await call()
            except StoreError as error:
                await self.wait(error)
            else:
                self.over()
                return found


async def every_entry(
    redis: Redis, keyspace: Keyspace, after: Position, outages: Outages, *, until: Position | None = None
) -> AsyncIterator[Entry]:
    """Every entry after a position, each once, for ever or up to `until`; an outage of Redis is waited for.

    Where a failover has lost the end of what was read, reading goes on with whatever stands in its place.
    """
    reader, wait = _Reader(redis, keyspace, after), _WAIT_MILLISECONDS if until is None else None
    while until is None or reader.after < until:
        entries = await outages.through(partial(reader.read_on, wait))
        for entry in entries:
            if until is not None and entry.position > until:
                return
            reader.passed(entry.position)
            yield entry
        if not entries and until is not None:
            return  # what stood there was removed meanwhile


async def in_order(streams: Sequence[AsyncIterator[Entry]]) -> AsyncIterator[Entry]:
    """The entries of several streams, each of which ends, as they were published."""
    heads: list[tuple[Entry, int]] = []
    numbers: Iterable[int] = range(len(streams))
    while True:
        for number in numbers:
            if (entry := await anext(streams[number], None)) is not None:
                heappush(heads, (entry, number))
        if not heads:
            return
        entry, number = heappop(heads)
        numbers = (number,)
        yield entry


class _Reader:
    """A place in the stream, and the last of what was read before it: a failover may have lost the end of that."""

    def __init__(self, redis: Redis, keyspace: Keyspace, after: Position) -> None:
        self.after = after
        self._redis: Any = redis
        self._events = keyspace.events
        self._passed: deque[Position] = deque(maxlen=_REMEMBERED)

    def passed(self, position: Position) -> None:
        """This entry was read."""
        self.after = position
        self._passed.append(position)

    async def read_on(self, wait_milliseconds: int | None) -> list[Entry]:
        """Some further entries; waits for the first if told how long. Raises StoreError."""
        pipeline = self._redis.pipeline(transaction=False)
        self._look_for(pipeline, [self._passed[-1]] if self._passed else [])
        pipeline.xread({self._events: show_position(self.after)}, _READ, wait_milliseconds)
        *last, found = await answer(pipeline.execute())
        if last == [[]]:
            await self._step_back()
            return await self.read_on(wait_milliseconds)
        return entries_of(found)

    async def _step_back(self) -> None:
        """Back to the last entry that is still there: nothing that stands after it was read.

        New entries may have smaller ids than those that were lost. What a person had forgotten, or what was trimmed, is
        gone as well; then nothing new stands there.
        """
        passed = list(self._passed)
        while passed:
            some = passed[-_READ:]
            pipeline = self._redis.pipeline(transaction=False)
            self._look_for(pipeline, some)
            there = [position for position, found in zip(some, await answer(pipeline.execute()), strict=True) if found]
            if there:
                self.after = there[-1]
                self._passed = deque((position for position in self._passed if position <= self.after), _REMEMBERED)
                return
            del passed[-_READ:]
        self.after = just_before(self._passed[0])
        self._passed.clear()

    def _look_for(self, pipeline: Any, positions: Iterable[Position]) -> None:
        for position in map(show_position, positions):
            pipeline.xrange(self._events, position, position)


def entries_of(read: Any) -> list[Entry]:
    """What XREAD answered of one stream."""
    return [
        Entry(position_of(entry), fields.get(b"event", b""))
        for _, entries in read or ()
        for entry, fields in entries
        if fields is not None
    ]


async def newest(redis: Redis, keyspace: Keyspace) -> Position:
    """The newest position that the stream has given, though the entry may be gone. Raises StoreError."""
    last = await last_id(redis, keyspace.events)
    return position_of(last.encode()) if last else BEGINNING


async def last_wanted(redis: Redis, keyspace: Keyspace, count: int, wanted: Callable[[bytes], bool]) -> list[Position]:
    """Where the last `count` entries that are wanted stand, or as many as there are; the newest first.

    `wanted`: tells by the envelope. Raises StoreError.
    """
    end, places = "+", list[Position]()
    while True:
        found = await answer(redis.xrevrange(keyspace.events, end, "-", count=_READ))
        places += [position_of(entry) for entry, fields in found if wanted(fields.get(b"event", b""))]
        if len(places) >= count or len(found) < _READ:
            return places[:count]
        end = f"({found[-1][0].decode()}"


async def last_id(redis: Redis, stream: str) -> str:
    """The id that a stream gave last, though the entry may be gone; empty for one that there is not."""
    if not await answer(redis.exists(stream)):
        return ""
    return str((await answer(redis.xinfo_stream(stream)))["last-generated-id"].decode())
