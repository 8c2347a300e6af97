"""Appending to and trimming the streams, over a real Redis: by age, by size, never past the cursor, counted exactly."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from correlator.scripts import Scripts
from receiver import captures
from receiver.captures import CaptureLog
from schemas.errors import StoreError
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS, QUARANTINE_FIELDS
from tests.engine import Engine, event, notice, pair, pointed, started, unreadable

EVER = 0
WITHOUT_END = 1 << 40
LOOKED_AT = 500


@pytest.fixture
def log(redis: Redis, keyspace: Keyspace) -> CaptureLog:
    """The capture log of a namespace."""
    return CaptureLog(redis, keyspace)


@pytest.fixture
async def engine(redis: Redis, keyspace: Keyspace) -> Engine:
    """What commits to it."""
    return await started(redis, keyspace)


def entries(count: int, size: int = 100) -> list[list[bytes]]:
    """The values of captures, of exactly so many bytes each: an id and a body, the others empty."""
    return [filled(CAPTURE_FIELDS, f"cp_{number:06}".encode(), b"x" * (size - 9)) for number in range(count)]


def filled(fields: Sequence[bytes], identifier: bytes, body: bytes) -> list[bytes]:
    """Values of some fields, of which the first is the id and the last the body."""
    return [identifier, *[b""] * (len(fields) - 2), body]


async def positions(engine: Engine, stream: str) -> list[str]:
    """The ids of a stream's entries, oldest first."""
    return [position.decode() for position, _ in await engine.redis.xrange(stream)]


async def counted(engine: Engine, stream: str) -> int:
    """How many bytes the counter says a stream holds."""
    return int(await engine.redis.get(engine.keyspace.bytes_of(stream)) or 0)


async def recounted(engine: Engine, stream: str) -> int:
    """How many bytes the values of a stream's entries really are."""
    return sum(len(value) for _, fields in await engine.redis.xrange(stream) for value in fields.values())


def milliseconds(position: str) -> int:
    """When an entry was added."""
    return int(position.partition("-")[0])


async def spread(log: CaptureLog, count: int) -> None:
    """Append captures at moments of their own."""
    for number in range(count):
        await log.append(entries(count)[number : number + 1])
        await asyncio.sleep(0.002)


# --- appending and reading --------------------------------------------------------------------------------


async def test_what_is_appended_is_read_in_order(log: CaptureLog) -> None:
    """Reading gives the entries after a position, in the order of appending, with their bytes untouched."""
    await log.append(entries(3))
    body = b'{"a":"caf\xc3\xa9"}\r\n\x00\xff'
    await log.append([filled(CAPTURE_FIELDS, b"cp_last", body)])
    found = await log.read("", 10, 1)

    assert [entry.fields[b"id"] for entry in found] == [b"cp_000000", b"cp_000001", b"cp_000002", b"cp_last"]
    assert tuple(found[-1].fields) == CAPTURE_FIELDS
    assert found[-1].fields[b"body"] == body
    assert await log.read(found[1].position, 1, 1) == found[2:3]


async def test_reading_waits_for_the_first_entry(log: CaptureLog) -> None:
    """A reader at the end of the log gets what comes next as soon as it comes, and nothing after its time."""
    assert await log.read("", 10, 1) == []

    reading = asyncio.create_task(log.read("", 10, 5_000))
    await asyncio.sleep(0.02)
    await log.append(entries(1))
    assert len(await asyncio.wait_for(reading, 2)) == 1


async def test_appending_nothing_is_nothing(log: CaptureLog, engine: Engine) -> None:
    """A flush without captures leaves the log as it is."""
    await log.append([])

    assert await positions(engine, engine.keyspace.captures) == []
    assert await counted(engine, engine.keyspace.captures) == 0


@pytest.mark.parametrize("sizes", [[100], [9, 100, 5000], [9] * 128])
async def test_appending_counts_the_bytes_of_values(log: CaptureLog, engine: Engine, sizes: list[int]) -> None:
    """The counter is what the values of all entries come to."""
    stream = engine.keyspace.captures
    for _ in range(2):
        await log.append([entries(1, size)[0] for size in sizes])

    assert await counted(engine, stream) == 2 * sum(sizes)
    assert await recounted(engine, stream) == 2 * sum(sizes)


async def test_redis_away_is_a_store_error(keyspace: Keyspace) -> None:
    """When Redis does not answer, every call says StoreError."""
    nowhere = Redis.from_url("unix:///nonexistent/redis.sock")
    log = CaptureLog(nowhere, keyspace)
    for call in (
        log.append(entries(1)),
        log.quarantine(filled(QUARANTINE_FIELDS, b"q", b"")),
        log.read("", 1, 1),
        log.trim_captures(0, 0),
    ):
        with pytest.raises(StoreError, match="Redis: ConnectionError"):
            await call
    await nowhere.aclose()


# --- never past the cursor --------------------------------------------------------------------------------


async def test_without_a_cursor_no_capture_is_removed(log: CaptureLog, engine: Engine) -> None:
    """Before the first commit every capture stays, however old and many they are."""
    await log.append(entries(20))

    assert await log.trim_captures(1 << 45, 0) == 0
    assert len(await positions(engine, engine.keyspace.captures)) == 20


@pytest.mark.parametrize("committed", [1, 7, 19, 20])
@pytest.mark.parametrize(("before", "most"), [(1 << 45, WITHOUT_END), (EVER, 0)], ids=["by age", "by size"])
async def test_trimming_stops_at_the_cursor(
    log: CaptureLog, engine: Engine, committed: int, before: int, most: int
) -> None:
    """Whatever age and size say, only captures up to the cursor go."""
    await log.append(entries(20))
    all_of_them = await positions(engine, engine.keyspace.captures)
    await engine.redis.set(engine.keyspace.cursor, all_of_them[committed - 1])

    assert await log.trim_captures(before, most) == committed
    assert await positions(engine, engine.keyspace.captures) == all_of_them[committed:]


async def test_the_cursor_is_compared_as_a_number(log: CaptureLog, engine: Engine) -> None:
    """`9-0` comes before `10-0`, and `7-9` before `7-10`."""
    stream = engine.keyspace.captures
    for position in ("7-9", "7-10", "9-0", "10-0"):
        await engine.redis.xadd(stream, {"id": "x"}, id=position)
    await engine.redis.set(engine.keyspace.bytes_of(stream), 4)
    for cursor, kept in (("7-9", ["7-10", "9-0", "10-0"]), ("9-0", ["10-0"]), ("10-0", [])):
        await engine.redis.set(engine.keyspace.cursor, cursor)
        await log.trim_captures(1 << 45, WITHOUT_END)

        assert await positions(engine, stream) == kept


async def test_events_and_dead_letters_have_no_cursor(log: CaptureLog, engine: Engine) -> None:
    """The record and the dead letters are trimmed by age and size alone."""
    await engine.feed(event("a", pair()), unreadable())
    await engine.redis.delete(engine.keyspace.cursor)

    assert await log.trim_events(1 << 45, WITHOUT_END) == 1
    assert await log.trim_dead(1 << 45, WITHOUT_END) == 1


# --- by age and by size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [0, 1, 4, 6])
async def test_captures_are_trimmed_by_age(log: CaptureLog, engine: Engine, old: int) -> None:
    """What was added before the moment goes; what was added at it or after it stays."""
    await spread(log, 6)
    all_of_them = await positions(engine, engine.keyspace.captures)
    await engine.redis.set(engine.keyspace.cursor, all_of_them[-1])
    moment = milliseconds(all_of_them[old]) if old < 6 else 1 << 45

    assert await log.trim_captures(moment, WITHOUT_END) == old
    assert await positions(engine, engine.keyspace.captures) == all_of_them[old:]


@pytest.mark.parametrize(
    ("most", "removed"),
    [(2000, 0), (2001, 0), (1999, 1), (1900, 1), (1899, 2), (1000, 10), (99, 20), (0, 20)],
)
async def test_captures_are_trimmed_by_size(log: CaptureLog, engine: Engine, most: int, removed: int) -> None:
    """As many of the oldest go as it takes to come to the size or under it, and not one more."""
    await log.append(entries(20, 100))
    all_of_them = await positions(engine, engine.keyspace.captures)
    await engine.redis.set(engine.keyspace.cursor, all_of_them[-1])

    assert await log.trim_captures(EVER, most) == removed
    assert await positions(engine, engine.keyspace.captures) == all_of_them[removed:]
    assert await counted(engine, engine.keyspace.captures) == 2000 - removed * 100


async def test_age_and_size_each_suffice(log: CaptureLog, engine: Engine) -> None:
    """An entry goes when either its age or the size says so."""
    await spread(log, 6)
    all_of_them = await positions(engine, engine.keyspace.captures)
    await engine.redis.set(engine.keyspace.cursor, all_of_them[-1])

    assert await log.trim_captures(milliseconds(all_of_them[4]), 500) == 4
    assert await log.trim_captures(milliseconds(all_of_them[4]), 100) == 1


# --- exact and bounded ------------------------------------------------------------------------------------


async def test_counters_stay_exact(log: CaptureLog, engine: Engine) -> None:
    """Through appends, commits of every kind and trims, each counter is what a recount gives."""
    names = engine.keyspace
    for round_ in range(6):
        await log.append([entries(1, size)[0] for size in (10, 57, 300 + round_)])
        await engine.feed(
            event(f"a{round_}", pair()),
            event("told again", pointed("m1")),
            notice(f"b{round_}"),
            unreadable(f"$.items[{round_}]"),
            unreadable("$.naïve"),
        )
        last = (await positions(engine, names.captures))[-2]
        await engine.redis.set(names.cursor, last)
        await log.trim_captures(EVER, 700)
        await log.trim_events(EVER, 2500)
        await log.trim_dead(EVER, 300)
        for stream in (names.captures, names.events, names.dead):
            assert await counted(engine, stream) == await recounted(engine, stream) > 0


async def test_one_call_looks_at_a_bounded_number_of_entries(
    log: CaptureLog, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much there is to trim, each script call removes so many at most; calls follow until all is done."""
    stream, script, calls = engine.keyspace.captures, log._scripts.trim, list[int]()
    for _ in range(12):
        await log.append(entries(100))
    await engine.redis.set(engine.keyspace.cursor, (await positions(engine, stream))[-1])

    async def counting(keys: list[str], args: list[Any]) -> Any:
        removed = await script(keys=keys, args=args)
        calls.append(removed)
        return removed

    monkeypatch.setattr(log._scripts, "trim", counting)

    assert await log.trim_captures(EVER, 5_000) == 1150
    assert calls == [LOOKED_AT, LOOKED_AT, 150]
    assert await counted(engine, stream) == await recounted(engine, stream) == 5_000


async def test_a_call_by_itself_is_bounded_and_says_that_there_is_more(engine: Engine, log: CaptureLog) -> None:
    """The script removes no more than it was allowed to look at, and tells how many that were."""
    dead = engine.keyspace.dead
    await engine.feed(*[unreadable(f"$.items[{number}]") for number in range(30)])
    trim = Scripts(engine.redis).trim

    assert await trim(keys=[dead, engine.keyspace.bytes_of(dead)], args=["0-0", 0, 12]) == 12
    assert len(await positions(engine, dead)) == 18
    assert await counted(engine, dead) == await recounted(engine, dead)
    assert await log.trim_dead(EVER, 0) == 18


async def test_the_quarantine_is_capped(log: CaptureLog, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quarantine keeps the latest that fit under its cap, and counts them exactly."""
    monkeypatch.setattr(captures, "QUARANTINE_BYTES", 5_000)
    quarantine = engine.keyspace.quarantine
    for number in range(7):
        await log.quarantine(filled(QUARANTINE_FIELDS, b"q%d" % number, b"x" * 1_000))
    kept = [fields[b"id"] for _, fields in await engine.redis.xrange(quarantine)]

    assert kept == [b"q3", b"q4", b"q5", b"q6"]
    assert await counted(engine, quarantine) == await recounted(engine, quarantine) == 4 * 1_002


async def test_trimming_an_empty_stream_is_nothing(log: CaptureLog, engine: Engine) -> None:
    """A namespace without any entries trims to itself."""
    await engine.redis.set(engine.keyspace.cursor, "1-0")

    assert await log.trim_captures(1 << 45, 0) == 0
    assert await log.trim_events(1 << 45, 0) == 0
    assert await log.trim_dead(1 << 45, 0) == 0
