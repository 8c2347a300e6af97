"""Has captures read again in place, and what is missing brought back.

The same reading and the same commits as for live callbacks. Who replays in place holds the lease meanwhile, and so is
the namespace's pipeline: before each batch it works off what has come in. Nothing of it needs a place to be kept: what
was committed is known by its events' ids, so a replay that ended early is simply run again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, MutableSet, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from redis.asyncio import Redis

from correlator.gathering import MAX_EVENTS, Commit, Entry, Publication
from correlator.lease import Lease, leased
from correlator.rebuild import Rebuild, name_of
from correlator.scripts import answer
from correlator.store import DUPLICATE, Outcome, Store
from receiver.captures import CaptureLog, LogEntry
from receiver.parsing import read
from receiver.providers import PROVIDERS
from receiver.scratch import Scratch, scratch
from receiver.settings import Settings
from schemas.events import Event, Unreadable
from schemas.ids import EventId
from schemas.keyspace import Keyspace

_BATCH = 256
_LIVE_BATCH = 1024
_SCAN = 1000


class Stopped(Exception):
    """A person has asked to stop; what was done is done."""


class Site(NamedTuple):
    """Where it takes place: a namespace, by its keys, on a server, with the settings that it is run with."""

    redis: Redis
    keyspace: Keyspace
    settings: Settings

    def store(self, repeated: Callable[[EventId], bool] | None = None) -> Store:
        """The store of the namespace."""
        seconds = self.settings.retention.messages_seconds
        return Store(self.redis, self.keyspace, self.settings.id_key, seconds, again=repeated)


class Tally:
    """What a replay has come to so far."""

    def __init__(self) -> None:
        self.captures = 0
        self.published: Counter[str] = Counter()
        self.duplicates = 0
        self.dead = 0
        #: Older than de-duplication remembers: they can only be replayed into another namespace.
        self.too_old = 0
        #: Of the last capture that is done; where to go on.
        self.position = ""

    def count(self, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        """Add what became of a batch."""
        self.captures += len(entries)
        self.position = entries[-1].position
        for outcome in outcomes:
            if isinstance(outcome.parsed, Unreadable):
                self.dead += 1
            elif outcome.sequence == DUPLICATE:
                self.duplicates += 1
            elif isinstance(outcome.parsed, Event):
                self.published[outcome.parsed.type] += 1


class Pace(NamedTuple):
    """How a replay goes, and whom it tells."""

    #: Captures a second; None: as fast as it goes.
    rate: float | None = None
    #: Told after each batch.
    progress: Callable[[Tally], None] = lambda _: None
    #: Asked before each batch.
    stopping: Callable[[], bool] = lambda: False


async def replay(site: Site, entries: AsyncIterator[LogEntry], pace: Pace, tally: Tally) -> None:
    """Read captures again in place: what was published is known, what was not is published now, marked as replayed."""
    async with leased(site.redis, site.keyspace) as lease:
        work = _InPlace(site, lease)
        async for batch in batches(entries, pace):
            await work.replay(batch, tally)
            pace.progress(tally)


async def repair(site: Site, entries: AsyncIterator[LogEntry], pace: Pace, tally: Tally) -> None:
    """As `replay`, and bring back what the stream has lost: each event under its id, with the next sequence.

    What followed from other events (merges, members) is worked out anew from the log, as far back as that reaches. What
    has to be remembered for that lies in a scratch file. Raises ScratchError where there is no room for it.
    """
    with scratch() as file:
        kept = _Repairing(site, file)
        async with leased(site.redis, site.keyspace) as lease:
            await _InPlace(site, lease).catch_up()
            await remember_stream(site, kept.present)
            work = _InPlace(site, lease, repeated=_once(kept.present))
            async for batch in batches(entries, pace):
                kept.choose(batch)
                await work.replay(batch, tally)
                pace.progress(tally)
            if tally.captures:
                await work.bring_back_consequences(kept, pace.stopping, tally)
            pace.progress(tally)


class _Repairing:
    """What a repair has to remember."""

    def __init__(self, site: Site, file: Scratch) -> None:
        self._working = Rebuild(site.keyspace, site.settings.id_key, file.mapping(), file.names())
        #: The names of the events that are in the stream.
        self.present: MutableSet[bytes] = file.names()
        #: The positions of the captures that are repaired.
        self._chosen: MutableSet[bytes] = file.names()

    def choose(self, batch: Sequence[LogEntry]) -> None:
        """These captures are repaired."""
        self._chosen |= {entry.position.encode() for entry in batch}

    def lost(self, batch: Sequence[LogEntry]) -> list[Publication]:
        """Fold captures in, in order; what followed from the events of chosen ones, and is in the stream no more."""
        published = self._working.feed([again(entry) for entry in batch]).items()
        followed = [(name, one) for name, one in published if _is_consequence(one)]
        return [
            one for name, one in followed if name not in self.present and one.entry.position.encode() in self._chosen
        ]


def _once(present: MutableSet[bytes]) -> Callable[[EventId], bool]:
    """Whether an event is not among those present; having been asked for, it is: a fact may be captured twice."""

    def is_missing(event: EventId) -> bool:
        name = name_of(event)
        missing = name not in present
        present.add(name)
        return missing

    return is_missing


class _InPlace:
    """A replay into the namespace itself."""

    def __init__(self, site: Site, lease: Lease, repeated: Callable[[EventId], bool] | None = None) -> None:
        self._site = site
        self._lease = lease
        self._log = CaptureLog(site.redis, site.keyspace)
        self._live = site.store()
        self._store = site.store(repeated)

    async def catch_up(self) -> str:
        """Work off what has come in meanwhile; the cursor."""
        cursor = await self._live.cursor()
        while entries := await self._log.newer(cursor, _LIVE_BATCH):
            await self._live.commit(self._lease.token, cursor, [read(entry, PROVIDERS) for entry in entries])
            cursor = entries[-1].position
        return cursor

    async def replay(self, batch: Sequence[LogEntry], tally: Tally) -> None:
        """One batch, after whatever came in before it."""
        cursor = await self.catch_up()
        readable = [again(entry) for entry in batch]
        young = [entry for entry in readable if not self._is_too_old(entry)]
        tally.too_old += len(readable) - len(young)
        outcomes = await self._store.commit(self._lease.token, cursor, young, in_place=True) if young else []
        tally.count(readable, outcomes)

    def _is_too_old(self, entry: Entry) -> bool:
        """Whether de-duplication may have forgotten it, so that what was published would be published again."""
        age = datetime.now(UTC) - entry.capture.received_at
        return age > timedelta(seconds=entry.capture.facts.dedupe_seconds)

    async def bring_back_consequences(self, kept: _Repairing, stopping: Callable[[], bool], tally: Tally) -> None:
        """Publish what followed from the chosen captures' events and is in the stream no more."""
        cursor = await self._live.cursor()
        async for batch in batches(self._log.scan(until=cursor), Pace(stopping=stopping)):
            lost = kept.lost(batch)
            for at in range(0, len(lost), MAX_EVENTS):
                commit = Commit(events=lost[at : at + MAX_EVENTS])
                outcomes = await self._store.write([commit], self._lease.token, cursor)
                tally.published.update(outcome.parsed.type for outcome in outcomes if isinstance(outcome.parsed, Event))


def _is_consequence(published: Publication) -> bool:
    return published.event not in published.entry.parsed and "#" in published.event.id


async def remember_stream(site: Site, names: MutableSet[bytes]) -> None:
    """Add the names of all events that are in the stream."""
    after = "-"
    while found := await answer(site.redis.xrange(site.keyspace.events, after, "+", count=_SCAN)):
        names |= {name_of(msgspec.json.decode(fields[b"event"], type=_Named).id) for _, fields in found}
        after = f"({found[-1][0].decode()}"


class _Named(msgspec.Struct):
    """An envelope, as far as its name."""

    id: str


def again(entry: LogEntry) -> Entry:
    """What a capture says, read once more."""
    return read(entry, PROVIDERS, replayed=True)


def place(position: str) -> tuple[int, int]:
    """A position in the log as what compares."""
    milliseconds, _, counter = position.partition("-")
    return int(milliseconds or 0), int(counter or 0)


async def batches(entries: AsyncIterator[LogEntry], pace: Pace, most: int = _BATCH) -> AsyncIterator[list[LogEntry]]:
    """Entries some at a time, at a pace; ends between two of them when asked to stop."""
    size = most if pace.rate is None else max(1, min(most, int(pace.rate / 4)))
    began, done = asyncio.get_running_loop().time(), 0
    batch: list[LogEntry] = []
    async for entry in entries:
        batch.append(entry)
        if len(batch) == size:
            yield batch
            done, batch = done + len(batch), []
            if pace.rate is not None:
                await asyncio.sleep(max(0.0, began + done / pace.rate - asyncio.get_running_loop().time()))
            if pace.stopping():
                raise Stopped
    if batch:
        yield batch
