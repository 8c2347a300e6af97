"""The capture logs of all partitions as one: each capture goes into the log of its account's partition.

Whoever keeps and drains captures need not know how many there are. A place in several logs is written as the places in
each of them, with commas between.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from receiver.captures import BEGINNING, CaptureLog, Fence
from schemas.keyspace import partition_of
from schemas.wire import CAPTURE_FIELDS, QUARANTINE_FIELDS

_ACCOUNT, _QUARANTINED_ACCOUNT = CAPTURE_FIELDS.index(b"account"), QUARANTINE_FIELDS.index(b"account")
_BETWEEN = ","


class CaptureLogs:
    """What a process that receives has of them. All calls raise StoreError where one of the logs does."""

    def __init__(self, logs: Sequence[CaptureLog]) -> None:
        """`logs`: one for each partition, in their order."""
        self._logs = logs
        #: What was last heard of the place of the newest capture in each.
        self._places = [BEGINNING for _ in logs]

    async def append(self, captures: Sequence[list[bytes]], fence: Fence | None = None) -> str:
        """Write captures, each account's in their order; when it returns all are durable. Where it raises, some may be.

        The place of the newest capture in each log comes back. Nothing to write is a question as well: whether replicas
        have what was written before. `fence` is as for one log.
        """
        shares: dict[int, list[list[bytes]]] = {number: [] for number in range(len(self._logs)) if not captures}
        for capture in captures:
            shares.setdefault(self._partition(capture[_ACCOUNT]), []).append(capture)
        await _all(self._append(number, share, fence) for number, share in shares.items())
        return _BETWEEN.join(self._places)

    async def _append(self, number: int, share: list[list[bytes]], fence: Fence | None) -> None:
        self._places[number] = await self._logs[number].append(share, fence) or self._places[number]

    async def raise_fence(self, fence: Fence) -> None:
        """What was begun under a lower number of this spool is not written any more, to any log."""
        await _all(log.raise_fence(fence) for log in self._logs)

    async def last(self) -> str:
        """The place of the newest capture in each log."""
        self._places = await _all(log.last() for log in self._logs)
        return _BETWEEN.join(self._places)

    async def find(self, captures: Collection[bytes], after: Collection[str]) -> set[bytes]:
        """Which of these ids stand in a log, after the smallest of these places in it."""
        each = zip(*(_in_each(place, len(self._logs)) for place in after), strict=True)
        found = await _all(log.find(captures, places) for log, places in zip(self._logs, each, strict=True))
        return set().union(*found)

    async def answers(self) -> None:
        """Return if every server answers."""
        await _all(log.answers() for log in self._logs)

    async def quarantine(self, values: list[bytes]) -> None:
        """Keep an unauthentic request aside, in its account's partition."""
        await self._logs[self._partition(values[_QUARANTINED_ACCOUNT])].quarantine(values)

    def _partition(self, account: bytes) -> int:
        return partition_of(account.decode(), len(self._logs))


def _in_each(place: str, logs: int) -> list[str]:
    """A place in several logs, or (a time) the same one in all of them."""
    places = place.split(_BETWEEN)
    return places if len(places) == logs else places[:1] * logs


async def _all(calls: Any) -> list[Any]:
    """What all of them give, once all have ended; the first error that one of them raised."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found
