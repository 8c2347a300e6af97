"""The capture log: what was accepted, in order. The only queue."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from correlator.scripts import Scripts, answer
from receiver.settings import Redis as RedisSettings
from schemas.errors import StoreError
from schemas.keyspace import Keyspace
from schemas.value import Value
from schemas.wire import CAPTURE_FIELDS, QUARANTINE_FIELDS

#: How many entries one trimming call looks at: bounds how long it holds Redis up.
_TRIM_ENTRIES = 500
#: The part of the write deadline that replicas have.
_FOR_REPLICAS = 0.8
#: How many entries one call looks through for some ids.
_FIND_ENTRIES = 1000
#: How many entries a scan reads at a time; twice as many are in memory.
_SCAN_ENTRIES = 250
BEGINNING = "0-0"
#: A write that is given up can be on its way for minutes: the network sends it again and again.
_FENCE_SECONDS = 86400
QUARANTINE_BYTES = 64 * 1024 * 1024


class Replicas(NamedTuple):
    """Which replicas must have what is written before it counts as durable."""

    #: How many; 0: none, the server alone.
    number: int = 0
    #: How long they are waited for.
    milliseconds: int = 0


def replicas_of(redis: RedisSettings) -> Replicas:
    """Those that the configuration names; their word must come before the deadline of the write does."""
    return Replicas(redis.wait_replicas, int(redis.write_deadline_seconds * 1000 * _FOR_REPLICAS))


class Fence(NamedTuple):
    """What tells writes of one host that come too late: its spool, and how often that was begun to be drained."""

    spool: str
    number: int


class LogEntry(Value, frozen=True):
    """One entry as it stands in the log."""

    position: str
    fields: dict[bytes, bytes]


class CaptureLog:
    """The streams that hold what was received: captures, dead letters and the quarantine."""

    def __init__(self, redis: Redis, keyspace: Keyspace, replicas: Replicas = Replicas()) -> None:  # noqa: B008 - frozen
        self._redis = redis
        self._replicas = replicas
        self._keys = keyspace
        self._scripts = Scripts(redis)

    async def append(self, captures: Sequence[list[bytes]], fence: Fence | None = None) -> str:
        """Write captures in one call; when it returns they are as durable as the server is, and its replicas.

        Raises StoreError: they may be in the log all the same, where it was an answer or replicas that lacked.
        Each is the values of CAPTURE_FIELDS, as `encode_capture` gives them. The position of the last comes back, ''
        for none: then replicas have all that the log had before. `fence`: refused once `raise_fence` was told a higher.
        """
        positions = await self._append(self._keys.captures, CAPTURE_FIELDS, captures, fence)
        return positions[-1].decode() if positions else ""

    @property
    def partition(self) -> int:
        """Which one it is of."""
        return self._keys.partition

    async def answers(self) -> None:
        """Return if the server answers. Raises StoreError."""
        await answer(self._redis.ping())

    async def last(self) -> str:
        """The position of the newest entry; 0-0 for none. Raises StoreError."""
        found = await answer(self._redis.xrevrange(self._keys.captures, count=1))
        return found[0][0].decode() if found else BEGINNING

    async def raise_fence(self, fence: Fence) -> None:
        """From now on, what was begun under a lower number of this spool is not written any more. Raises StoreError."""
        await answer(self._redis.set(self._keys.fence(fence.spool), fence.number, ex=_FENCE_SECONDS))

    async def find(self, captures: Collection[bytes], after: Collection[str]) -> set[bytes]:
        """Which of these ids stand in the log after the smallest of these positions. Raises StoreError."""
        found: set[bytes] = set()
        at = min(after, key=_numbers, default="")
        while at:
            args: list[Any] = [at, _FIND_ENTRIES, *captures]
            reached, *some = await answer(self._scripts.find(keys=[self._keys.captures], args=args))
            at = reached.decode()
            found.update(some)
        return found

    async def quarantine(self, values: list[bytes]) -> None:
        """Keep an unauthentic request aside, and no more of them than the cap allows. Raises StoreError.

        `values` are those of QUARANTINE_FIELDS.
        """
        await self._append(self._keys.quarantine, QUARANTINE_FIELDS, [values])
        await self._trim(self._keys.quarantine, "0-0", QUARANTINE_BYTES)

    async def read(self, after: str, count: int, wait_milliseconds: int) -> list[LogEntry]:
        """Up to `count` entries after a position; waits for the first. Raises StoreError.

        Needs a client whose time-out is longer than the wait.
        """
        streams: dict[Any, Any] = {self._keys.captures: after or "0-0"}
        found = await answer(self._redis.xread(streams, count, wait_milliseconds))
        return [LogEntry(position.decode(), fields) for _, entries in found for position, fields in entries]

    async def newer(self, after: str, count: int) -> list[LogEntry]:
        """Up to `count` entries after a position, without waiting for any. Raises StoreError."""
        return await self._between(after, "+", count)

    async def _between(self, after: str, until: str, count: int) -> list[LogEntry]:
        begin = f"({after}" if after else "-"
        found = await answer(self._redis.xrange(self._keys.captures, begin, until, count=count))
        return [LogEntry(position.decode(), fields) for position, fields in found]

    async def scan(
        self, after: str = "", until: str = "+", count: int = _SCAN_ENTRIES
    ) -> AsyncGenerator[LogEntry, None]:
        """Every entry after a position and up to another, oldest first, some at a time. Raises StoreError.

        The next ones are asked for before those at hand are given: Redis may be busy with what is made of these.
        """
        coming = asyncio.create_task(self._between(after, until, count))
        try:
            while entries := await coming:
                coming = asyncio.create_task(self._between(entries[-1].position, until, count))
                for entry in entries:
                    yield entry
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)  # nobody wants what it would have been

    async def length(self) -> int:
        """How many entries it has. Raises StoreError."""
        length: int = await answer(self._redis.xlen(self._keys.captures))
        return length

    async def trim_captures(self, before_milliseconds: int, max_bytes: int) -> int:
        """Remove captures older than a Unix time or beyond a size, never one that is not committed yet."""
        return await self._trim(self._keys.captures, f"{before_milliseconds}-0", max_bytes, self._keys.cursor)

    async def trim_events(self, before_milliseconds: int, max_bytes: int) -> int:
        """Remove events older than a Unix time or beyond a size."""
        return await self._trim(self._keys.events, f"{before_milliseconds}-0", max_bytes)

    async def trim_dead(self, before_milliseconds: int, max_bytes: int) -> int:
        """Remove dead letters older than a Unix time or beyond a size."""
        return await self._trim(self._keys.dead, f"{before_milliseconds}-0", max_bytes)

    async def _append(
        self, stream: str, names: Sequence[bytes], entries: Sequence[list[bytes]], fence: Fence | None = None
    ) -> list[bytes]:
        args: list[Any] = [len(names), *names]
        for values in entries:
            args += values
        keys = [stream, self._keys.bytes_of(stream)]
        if fence is not None:
            keys.append(self._keys.fence(fence.spool))
            args.append(fence.number)
        positions: list[bytes]
        if self._replicas.number:
            positions, have = await answer(self._scripts.append_replicated(keys, args, *self._replicas))
            if have < self._replicas.number:
                raise StoreError(f"{have} of {self._replicas.number} replicas have it in time: see redis.wait_replicas")
        else:
            positions = await answer(self._scripts.append(keys=keys, args=args))
        return positions

    async def _trim(self, stream: str, before: str, max_bytes: int, *cursor: str) -> int:
        total, removed = 0, _TRIM_ENTRIES
        while removed == _TRIM_ENTRIES:
            keys = [stream, self._keys.bytes_of(stream), *cursor]
            removed = await answer(self._scripts.trim(keys=keys, args=[before, max_bytes, _TRIM_ENTRIES]))
            total += removed
        return total


def _numbers(position: str) -> tuple[int, int]:
    """A position as positions compare."""
    milliseconds, _, counter = position.partition("-")
    return int(milliseconds), int(counter)
