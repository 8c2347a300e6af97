"""Reading and clearing the streams that people look into: whole, by id, and never more in memory than a few entries."""

import re
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from correlator.scripts import Scripts, answer
from receiver.captures import LogEntry
from schemas.keyspace import Keyspace

_ENTRIES = 100
_REMOVED_AT_ONCE = 500
#: How far Redis' clock may be from ours before a look-up by id reads the whole stream.
_HOUR_MILLISECONDS = 3600 * 1000
_POSITION = re.compile(r"\d{1,15}-\d{1,15}")
_CAPTURE = re.compile(r"cp_([0-9a-f]{12})[0-9a-f]{20}")


def is_position(text: str) -> bool:
    """Whether a text is an entry id of a stream."""
    return _POSITION.fullmatch(text) is not None


def is_capture_id(text: str) -> bool:
    """Whether a text is an id of ours."""
    return _CAPTURE.fullmatch(text) is not None


async def scan(redis: Redis, stream: str, begin: str = "-", end: str = "+") -> AsyncIterator[LogEntry]:
    """The entries of a stream from one position to another, oldest first. Raises StoreError."""
    while True:
        found = await answer(redis.xrange(stream, begin, end, count=_ENTRIES))
        for position, fields in found:
            begin = f"({position.decode()}"
            yield LogEntry(position.decode(), fields)
        if len(found) < _ENTRIES:
            return


async def entry_at(redis: Redis, stream: str, position: str) -> LogEntry | None:
    """The entry at a position."""
    found = await answer(redis.xrange(stream, position, position))
    return LogEntry(position, found[0][1]) if found else None


async def located(redis: Redis, stream: str, ids: Collection[str]) -> dict[str, str]:
    """Where the entries with these ids stand; of one that stands twice, the first place. A position is its own id.

    An id holds the time at which it was made, so the stream is read from there; and whole, if that was not enough.
    """
    positions = {name: name for name in ids if is_position(name)}
    wanted = set(ids) - positions.keys()
    begin = str(max(0, min(map(_minted, wanted), default=0) - _HOUR_MILLISECONDS))
    for part in ((begin, "+"), ("-", f"({begin}")):
        if wanted:
            await _locate(redis, stream, part, wanted, positions)
    return positions


def _minted(name: str) -> int:
    match = _CAPTURE.fullmatch(name)
    return int(match[1], 16) if match else 0


async def _locate(
    redis: Redis, stream: str, part: tuple[str, str], wanted: set[str], positions: dict[str, str]
) -> None:
    async for entry in scan(redis, stream, *part):
        name = entry.fields.get(b"id", b"").decode(errors="replace")
        if name in wanted:
            positions[name] = entry.position
            wanted.discard(name)
            if not wanted:
                return


def in_order(positions: Iterable[str]) -> list[str]:
    """Positions as they follow each other in a stream."""
    return sorted(set(positions), key=lambda position: tuple(map(int, position.split("-"))))


async def remove(redis: Redis, keyspace: Keyspace, stream: str, positions: Sequence[str]) -> int:
    """Remove entries, and count their bytes off; how many there were."""
    scripts, removed = Scripts(redis), 0
    for at in range(0, len(positions), _REMOVED_AT_ONCE):
        args: list[Any] = [*positions[at : at + _REMOVED_AT_ONCE]]
        removed += await answer(scripts.remove(keys=[stream, keyspace.bytes_of(stream)], args=args))
    return removed
