"""Dead letters: what could not be read, and reading it again after a fix."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
import structlog
from redis.asyncio import Redis

from receiver import streams
from receiver.captures import LogEntry
from receiver.parsing import read
from receiver.provider import Provider
from schemas.errors import PartylineError
from schemas.events import Unreadable
from schemas.keyspace import Keyspace
from schemas.wire import DEAD_FIELDS

log = structlog.get_logger()

#: A replay that starts now takes a while until it commits.
_MARGIN = timedelta(hours=1)

#: Reads captures again through the pipeline, as `receiver.replay.replay` does; done once all are committed.
Replay = Callable[[AsyncIterator[LogEntry]], Awaitable[None]]


class Letter(msgspec.Struct, frozen=True):
    """One dead letter: an element of a capture, and why it could not be read."""

    #: Its entry id in the stream of dead letters.
    position: str
    capture: str
    reason: str
    place: str
    detail: str


class Retried(msgspec.Struct, frozen=True):
    """What became of letters whose captures were read again."""

    #: Captures that were read; those that the log does not hold any more; and those that are older than
    #: de-duplication remembers, which can only be replayed into another namespace.
    captures: int
    trimmed: int
    too_old: int
    #: Captures at which reading failed as a whole; their neighbours were read all the same.
    failed: tuple[str, ...]
    #: Letters that are none any more, and those that stay.
    removed: int
    stay: int


class Letters:
    """The stream of dead letters of a namespace."""

    def __init__(self, redis: Redis, keyspace: Keyspace) -> None:
        self._redis = redis
        self._keys = keyspace

    async def all(self) -> AsyncIterator[Letter]:
        """Every letter, oldest first. Raises StoreError."""
        async for found in streams.scan(self._redis, self._keys.dead):
            yield _letter(found)

    async def drop(self, letters: Iterable[Letter]) -> int:
        """Remove letters; how many there were. The captures stay where they are."""
        positions = [letter.position for letter in letters]
        return await streams.remove(self._redis, self._keys, self._keys.dead, positions)

    async def capture(self, letter: Letter) -> LogEntry | None:
        """The capture that a letter is about; None when it was trimmed."""
        found = await streams.located(self._redis, self._keys.captures, [letter.capture])
        position = found.get(letter.capture)
        return await streams.entry_at(self._redis, self._keys.captures, position) if position else None

    async def retry(
        self, chosen: Sequence[Letter], providers: Mapping[str, Provider], replay: Replay, now: datetime
    ) -> Retried:
        """Read the captures of letters again, and remove the letters of those that can be read wholly by now.

        A letter that stays is never written twice, since the commit knows it; so it must not be removed before.
        """
        names = dict.fromkeys(letter.capture for letter in chosen)
        found = await streams.located(self._redis, self._keys.captures, names)
        now_read = [_read(entry, providers, now) async for entry in self._entries(streams.in_order(found.values()))]
        positions = [each.position for each in now_read if each.young]
        failed = await self._replay(positions, replay) if positions else set()
        whole = {each.position for each in now_read if each.young and each.whole} - failed
        mended = {name for name, position in found.items() if position in whole}
        removed = await self.drop(letter for letter in chosen if letter.capture in mended)
        return Retried(
            captures=len(positions),
            trimmed=len(names) - len(found),
            too_old=len(now_read) - len(positions),
            failed=tuple(name for name, position in found.items() if position in failed),
            removed=removed,
            stay=len(chosen) - removed,
        )

    async def _replay(self, positions: Sequence[str], replay: Replay) -> set[str]:
        """Read all at once; where something in them breaks that, one by one, so that one never stops its neighbours."""
        try:
            await replay(self._entries(positions))
        except PartylineError:
            raise
        except Exception:
            log.exception("reading captures again failed; each is read by itself now", captures=len(positions))
        else:
            return set()
        return {position for position in positions if not await self._replay_one(position, replay)}

    async def _replay_one(self, position: str, replay: Replay) -> bool:
        try:
            await replay(self._entries([position]))
        except PartylineError:
            raise
        except Exception:
            log.exception("a capture cannot be read again", position=position)
            return False
        return True

    async def _entries(self, positions: Sequence[str]) -> AsyncIterator[LogEntry]:
        """Captures in the order of the log; those that were trimmed meanwhile are left out."""
        for position in positions:
            entry = await streams.entry_at(self._redis, self._keys.captures, position)
            if entry is not None:
                yield entry


class _Read(NamedTuple):
    """What a capture comes to that is read now."""

    position: str
    #: Whether everything in it can be read.
    whole: bool
    #: Whether de-duplication surely remembers what was published of it, also a moment later.
    young: bool


def _read(found: LogEntry, providers: Mapping[str, Provider], now: datetime) -> _Read:
    entry = read(found, providers)
    unreadable = [parsed.reason for parsed in entry.parsed if isinstance(parsed, Unreadable)]
    remembered = timedelta(seconds=entry.capture.facts.dedupe_seconds) - _MARGIN
    young = "damaged" in unreadable or entry.capture.received_at >= now - remembered
    return _Read(found.position, not unreadable, young)


def _letter(found: LogEntry) -> Letter:
    capture, reason, said = (found.fields.get(name, b"").decode(errors="replace") for name in DEAD_FIELDS)
    place, _, detail = said.partition(": ")
    return Letter(found.position, capture, reason, place, detail)
