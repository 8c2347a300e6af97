"""Dead letters: what could not be read, and reading it again after a fix."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec
import structlog
from redis.asyncio import Redis

from receiver import streams
from receiver.captures import LogEntry
from receiver.pipeline import read
from receiver.provider import Provider
from schemas.errors import PartylineError
from schemas.events import Unreadable
from schemas.keyspace import Keyspace

log = structlog.get_logger()

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

    #: Captures that were read, and those that the log does not hold any more.
    captures: int
    trimmed: int
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

    async def retry(self, chosen: Sequence[Letter], providers: Mapping[str, Provider], replay: Replay) -> Retried:
        """Read the captures of letters again, and remove the letters of those that can be read wholly by now.

        A letter that stays is never written twice, since the commit knows it; so it must not be removed before.
        """
        names = dict.fromkeys(letter.capture for letter in chosen)
        found = await streams.located(self._redis, self._keys.captures, names)
        positions = streams.in_order(found.values())
        failed = await self._replay(positions, replay)
        whole = [position async for position in self._whole(positions, providers) if position not in failed]
        mended = {name for name, position in found.items() if position in whole}
        removed = await self.drop(letter for letter in chosen if letter.capture in mended)
        return Retried(
            captures=len(positions),
            trimmed=len(names) - len(found),
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

    async def _whole(self, positions: Sequence[str], providers: Mapping[str, Provider]) -> AsyncIterator[str]:
        """The places of captures in which everything can be read."""
        async for entry in self._entries(positions):
            if not any(isinstance(parsed, Unreadable) for parsed in read(entry, providers).parsed):
                yield entry.position


def _letter(found: LogEntry) -> Letter:
    capture, reason, said = (found.fields.get(name, b"").decode(errors="replace") for name in _FIELDS)
    place, _, detail = said.partition(": ")
    return Letter(found.position, capture, reason, place, detail)


_FIELDS = (b"capture", b"reason", b"detail")
