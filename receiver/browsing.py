"""Reads captures for people: the newest that are meant, one by its id, all of them; and what became of each.

What became of them stands in two streams that name captures. It is kept small: some 200 bytes a capture, whatever the
size of its events, and only of captures that somebody asks about where these are known before.
"""

from base64 import b32decode
from collections.abc import AsyncIterator, Callable, Container, Iterator
from collections.abc import Set as AbstractSet
from sys import intern
from typing import Any, NamedTuple

import orjson
from redis.asyncio import Redis

from correlator.scripts import answer
from receiver.captures import CaptureLog, LogEntry
from receiver.parsing import read
from receiver.providers import PROVIDERS
from receiver.selection import EVERYTHING, Fate, Quarantined, ScopeOf, Selection
from schemas.callback import AccountFacts, Capture
from schemas.clock import parse_time
from schemas.errors import ParseError
from schemas.events import Parsed
from schemas.ids import CaptureId, base32
from schemas.keyspace import Keyspace
from schemas.wire import decode_capture

#: Entries in one round trip.
_COUNT = 500
#: Redis numbers entries by its clock, which may have been set back since: events are looked for from this much before
#: their capture.
_CLOCK_STEP_MILLISECONDS = 600_000
#: A capture is in the log this soon after its id was made, but for imports.
_WRITTEN_WITHIN_MILLISECONDS = 600_000
#: A pipeline that keeps up publishes what a capture says this soon.
_SOON_MILLISECONDS = 60_000
_CAPTURE_PREFIX = "cp_"
_CONVERSATION, _ACCOUNT = "cv_", "ac_"
#: What is kept of an event: its type and kind of subject in one byte, the subject in sixteen.
_EVENT_BYTES = 17
_NO_EVENT = (Fate(waiting=False), Fate(waiting=True))


class Found(NamedTuple):
    """One capture as it is shown: as it stands in its log, what it says, and what became of it."""

    entry: LogEntry
    capture: Capture
    #: Nothing of an entry of the quarantine, which nobody may parse.
    parsed: tuple[Parsed, ...]
    fate: Fate


# --- what became of captures ------------------------------------------------------------------------------


class Fates:
    """What the streams of events and of dead letters tell of captures."""

    def __init__(self, cursor: str) -> None:
        """`cursor`: what stands after it in the log has not been read by the pipeline."""
        self._cursor = _order(cursor or "0-0")
        self._events: dict[bytes, bytes] = {}
        self._dead: dict[bytes, tuple[str, ...]] = {}
        self._types: list[str] = []

    def of(self, entry: LogEntry) -> Fate:
        """What became of one capture."""
        if isinstance(entry, Quarantined):
            return Fate(quarantined=entry.fields.get(b"reason", b"").decode(errors="replace"))
        name = _packed(entry.fields.get(b"id", entry.position.encode()).decode(errors="replace"))
        events, dead = self._events.get(name, b""), self._dead.get(name, ())
        if not events and not dead:
            return _NO_EVENT[_order(entry.position) > self._cursor]
        return Fate(tuple(self._unpacked(events)), dead)

    def add_event(self, event_type: str, subject: str, capture: str) -> None:
        """An event of the stream names a capture."""
        if event_type not in self._types:
            self._types.append(event_type)
        kind = self._types.index(event_type) * 2 + subject.startswith(_ACCOUNT)
        name = _packed(capture)
        self._events[name] = self._events.get(name, b"") + bytes([kind]) + _packed_subject(subject)

    def _unpacked(self, events: bytes) -> Iterator[tuple[str, str]]:
        for at in range(0, len(events), _EVENT_BYTES):
            number, of_account = divmod(events[at], 2)
            prefix = _ACCOUNT if of_account else _CONVERSATION
            yield self._types[number], prefix + base32(events[at + 1 : at + _EVENT_BYTES])

    def add_dead(self, reason: str, capture: str) -> None:
        """A dead letter names a capture."""
        name = _packed(capture)
        self._dead[name] = (*self._dead.get(name, ()), intern(reason))


class Reading(NamedTuple):
    """What reading for people needs."""

    redis: Redis
    keyspace: Keyspace
    scope_of: ScopeOf


async def fates(where: Reading, after: str, wanted: Container[str] | None = None) -> Fates:
    """What became of the captures after a log position, or only of those in `wanted`. Raises StoreError."""
    cursor: bytes | None = await answer(where.redis.get(where.keyspace.cursor))
    found = Fates((cursor or b"").decode())
    begin = _some_time_before(after)
    async for _, fields in _forwards(where.redis, where.keyspace.events, begin):
        event = orjson.loads(fields[b"event"])
        capture = event["data"]["capture"]
        if wanted is None or capture in wanted:
            found.add_event(event["type"], event["subject"], capture)
    async for _, fields in _forwards(where.redis, where.keyspace.dead, begin):
        capture = fields[b"capture"].decode(errors="replace")
        if wanted is None or capture in wanted:
            found.add_dead(fields[b"reason"].decode(errors="replace"), capture)
    return found


async def events_of(where: Reading, capture: str, after: str) -> list[tuple[str, dict[str, Any]]]:
    """The events in the stream that name one capture, each with its entry id. Raises StoreError."""
    found = []
    needle = capture.encode()
    async for position, fields in _forwards(where.redis, where.keyspace.events, _some_time_before(after)):
        if needle in fields[b"event"]:
            event = orjson.loads(fields[b"event"])
            if event["data"]["capture"] == capture:
                found.append((position, event))
    return found


async def letters_of(where: Reading, capture: str, after: str) -> list[tuple[str, str]]:
    """Reason and detail of the dead letters that name one capture. Raises StoreError."""
    return [
        (fields[b"reason"].decode(errors="replace"), fields[b"detail"].decode(errors="replace"))
        async for _, fields in _forwards(where.redis, where.keyspace.dead, _some_time_before(after))
        if fields[b"capture"].decode(errors="replace") == capture
    ]


async def first_published(
    where: Reading, ids: AbstractSet[str], position: str, since: int
) -> dict[str, dict[str, Any]]:
    """Events by id, as far as the stream has them: what the facts in a later capture repeat. Raises StoreError.

    It looks back from the capture's position, since most redeliveries follow within minutes, to a Unix time in
    milliseconds; then ahead, since the pipeline may have come to both captures long after.
    """
    found: dict[str, dict[str, Any]] = {}
    middle = f"{_order(position)[0] + _SOON_MILLISECONDS}-0"
    back = _backwards(where.redis, where.keyspace.events, f"{max(0, since)}-0", middle)
    ahead = _forwards(where.redis, where.keyspace.events, middle)
    for items in (back, ahead):
        async for _, fields in items:
            event = orjson.loads(fields[b"event"])
            if event["id"] in ids:
                found.setdefault(event["id"], event)
            if len(found) == len(ids):
                return found
    return found


# --- which captures ---------------------------------------------------------------------------------------


async def newest(where: Reading, selection: Selection, limit: int) -> list[Found]:
    """The last captures that a selection takes, oldest of them first; those of the quarantine too."""
    known = await fates(where, selection.after) if selection.stages.fate else None
    taken: list[LogEntry] = []
    async for entry in _newest_first(where, selection):
        if taking(selection, entry, known, where.scope_of):
            taken.append(entry)
            if len(taken) == limit:
                break
    if known is None and taken:
        wanted = {entry.fields.get(b"id", b"").decode(errors="replace") for entry in taken}
        known = await fates(where, _before(taken[-1].position), wanted)
    return [understood(entry, known.of(entry)) for entry in reversed(taken) if known]


async def every(where: Reading, selection: Selection) -> AsyncIterator[tuple[LogEntry, Fate]]:
    """All captures that a selection takes, the log's and then the quarantine's, with what became of each."""
    known = await fates(where, selection.after)
    log = CaptureLog(where.redis, where.keyspace)
    async for entry in log.scan(selection.after, selection.last):
        if taking(selection, entry, known, where.scope_of):
            yield entry, known.of(entry)
    quarantine = _forwards(where.redis, where.keyspace.quarantine, selection.after, selection.last)
    async for position, fields in quarantine:
        entry = Quarantined(position, fields)
        if taking(selection, entry, known, where.scope_of):
            yield entry, known.of(entry)


async def logged(where: Reading, selection: Selection) -> AsyncIterator[LogEntry]:
    """All captures of the log that a selection takes, in order; looks up only what the selection needs to know."""
    takes = await judge(where, selection)
    async for entry in CaptureLog(where.redis, where.keyspace).scan(selection.after, selection.last):
        if takes(entry):
            yield entry


async def judge(where: Reading, selection: Selection) -> Callable[[LogEntry], bool]:
    """What tells whether a selection takes an entry of the log; looks up only what the selection needs to know."""
    if selection == EVERYTHING:
        return lambda _: True
    known = await fates(where, selection.after) if selection.stages.fate else None
    return lambda entry: taking(selection, entry, known, where.scope_of)


def taking(selection: Selection, entry: LogEntry, known: Fates | None, scope_of: ScopeOf | None) -> bool:
    """Whether a selection takes an entry; parses it only where the selection needs that.

    `known` None: what became of it is not to be known, and may not be asked for; `scope_of` None: nor a conversation.
    """
    if not selection.takes_entry(entry):
        return False
    fate = known.of(entry) if known else None
    if fate is not None and not selection.takes_fate(fate):
        return False
    if not selection.stages.parsed:
        return True
    read_entry = read(entry, PROVIDERS)
    scope = scope_of(read_entry.capture) if scope_of else None
    return selection.takes_parsed(read_entry.capture, read_entry.parsed, scope, fate)


async def by_id(where: Reading, identifier: str) -> LogEntry | None:
    """One capture by its id, wherever it is; looked for first where an id of its time must be. Raises StoreError."""
    log, needle = CaptureLog(where.redis, where.keyspace), identifier.encode()
    milliseconds = int(identifier[len(_CAPTURE_PREFIX) :][:12], 16)
    near = (f"{max(0, milliseconds - _CLOCK_STEP_MILLISECONDS)}-0", f"{milliseconds + _WRITTEN_WITHIN_MILLISECONDS}")
    for after, until in (near, ("", "+")):
        async for entry in log.scan(after, until):
            if entry.fields.get(b"id") == needle:
                return entry
        async for position, fields in _forwards(where.redis, where.keyspace.quarantine, after, until):
            if fields.get(b"id") == needle:
                return Quarantined(position, fields)
    return None


def understood(entry: LogEntry, fate: Fate) -> Found:
    """An entry with what it says; an entry of the quarantine is never parsed."""
    if not isinstance(entry, Quarantined):
        said = read(entry, PROVIDERS)
        return Found(entry, said.capture, said.parsed, fate)
    stand_in = {b"kind": b"callback", b"assurance": b"none"}
    try:
        capture = decode_capture({**entry.fields, **stand_in})
    except ParseError:
        capture = _unreadable(entry)
    return Found(entry, capture, (), fate)


def _unreadable(entry: LogEntry) -> Capture:
    moment = parse_time("1970-01-01T00:00:00Z")
    assert moment is not None  # noqa: S101 - that text is a time
    identifier = entry.fields.get(b"id", entry.position.encode()).decode(errors="replace")
    return Capture(CaptureId(identifier), "callback", "-", "-", moment, "none", (), b"", AccountFacts())


# --- streams ----------------------------------------------------------------------------------------------


async def _newest_first(where: Reading, selection: Selection) -> AsyncIterator[LogEntry]:
    """Log and quarantine as one, the newest first."""
    log = _backwards(where.redis, where.keyspace.captures, selection.after or "-", selection.last)
    quarantine = _backwards(where.redis, where.keyspace.quarantine, selection.after or "-", selection.last)
    one, other = await anext(log, None), await anext(quarantine, None)
    while one is not None or other is not None:
        if other is None or (one is not None and _order(one[0]) > _order(other[0])):
            assert one is not None  # noqa: S101 - the loop's condition, which mypy cannot follow
            yield LogEntry(*one)
            one = await anext(log, None)
        else:
            yield Quarantined(*other)
            other = await anext(quarantine, None)


_Item = tuple[str, dict[bytes, bytes]]


async def _forwards(redis: Redis, stream: str, after: str, until: str = "+") -> AsyncIterator[_Item]:
    while True:
        items: Any = await answer(redis.xrange(stream, f"({after}" if after else "-", until, count=_COUNT))
        for position, fields in items:
            after = position.decode()
            yield after, fields
        if len(items) < _COUNT:
            return


async def _backwards(redis: Redis, stream: str, after: str, until: str) -> AsyncIterator[_Item]:
    begin = after if after == "-" else f"({after}"
    while True:
        items: Any = await answer(redis.xrevrange(stream, until, begin, count=_COUNT))
        for position, fields in items:
            yield position.decode(), fields
        if len(items) < _COUNT:
            return
        until = f"({items[-1][0].decode()}"


def _some_time_before(position: str) -> str:
    """Where events of what follows a position may begin."""
    if not position:
        return ""
    return f"{max(0, _order(position)[0] - _CLOCK_STEP_MILLISECONDS)}-0"


def _before(position: str) -> str:
    milliseconds, number = _order(position)
    return f"{milliseconds}-{number - 1}" if number else f"{max(0, milliseconds - 1)}-{2**64 - 1}"


def _order(position: str) -> tuple[int, int]:
    """A position as it compares."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)


def _packed_subject(subject: str) -> bytes:
    return b32decode(f"{subject[len(_CONVERSATION) :].upper()}======")


def _packed(capture: str) -> bytes:
    """A capture's id in half the bytes."""
    try:
        return bytes.fromhex(capture.removeprefix(_CAPTURE_PREFIX))
    except ValueError:
        return capture.encode(errors="replace")
