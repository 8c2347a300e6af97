"""The spool on a real disk, and with it the writer and the drain on a real Redis that is frozen, full and away."""

import asyncio
import resource
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from correlator.redis_client import connect
from receiver.acceptance import Gate
from receiver.captures import CaptureLog
from receiver.draining import Drain, Drainer
from receiver.embedded import EmbeddedRedis
from receiver.keeping import Keeping
from receiver.outlet import Outlet
from receiver.settings import Settings
from receiver.spool import Spool, file_of
from receiver.writer import Writer
from schemas.errors import ConfigError, StoreError
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS
from tests.processes import frozen
from tests.service import captures, document, settings_of
from tests.test_writer import entry, logged

NOW = 1_800_000_000.0
DEADLINE_SECONDS = 0.3
ROW_BYTES = 64


def settings(folder: Path, namespace: str = "spooled", size: str | int = "1MiB") -> Settings:
    """Settings with a spool in a folder, and a short deadline."""
    redis = {"write_deadline": f"{DEADLINE_SECONDS * 1000:g}ms"}
    return settings_of(document(namespace, spool={"dir": str(folder), "max": size}, redis=redis))


def put(spool: Spool, *numbers: int, tried_after: str | None = None, needed: bool = True) -> bool:
    """Spool made-up captures."""
    return spool.put([entry(number) for number in numbers], NOW, tried_after=tried_after, needed=needed)


def waiting(outlet: Outlet, count: int = 100, size: int = 2**20) -> list[int]:
    """Which captures wait, in order."""
    return [int(row.capture) for row in outlet.first(count, size)]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool that takes 1 MiB."""
    made = Spool(settings(tmp_path / "spool"))
    yield made
    made.close()


@pytest.fixture
def outlet(tmp_path: Path) -> Iterator[Outlet]:
    """The other end of it."""
    made = Outlet(file_of(settings(tmp_path / "spool")))
    yield made
    made.close()


# --- in and out ---


def test_what_is_spooled_comes_out_in_its_order(spool: Spool, outlet: Outlet) -> None:
    """Batch after batch, each capture with all its values, until nothing is left."""
    put(spool, 3, 1)
    put(spool, 2)

    rows = outlet.first(2, 2**20)

    assert [row.values for row in rows] == [entry(3), entry(1)]

    outlet.done(rows[-1].sequence, "5-0")

    assert waiting(outlet) == [2]
    assert spool.fill().rows == 1


def test_it_is_counted_what_waits(spool: Spool, outlet: Outlet) -> None:
    """Captures, their bytes, and when the oldest came; nothing once they are gone."""
    spool.put([entry(1, 1000)], NOW - 5, tried_after=None, needed=True)
    spool.put([entry(2, 500)], NOW, tried_after=None, needed=True)
    full = spool.fill()
    outlet.done(outlet.first(1, 2**20)[0].sequence, "")
    half = spool.fill()
    outlet.hold(10, 2**20)
    outlet.finish()

    assert (full.rows, full.oldest_at) == (2, NOW - 5)
    assert 1500 + 2 * ROW_BYTES < full.bytes < 1500 + 2 * ROW_BYTES + 60
    assert (half.rows, half.oldest_at) == (1, NOW)
    assert 500 + ROW_BYTES < half.bytes < 500 + ROW_BYTES + 30
    assert (spool.fill().rows, spool.fill().bytes, spool.fill().oldest_at) == (0, 0, None)


def test_a_batch_is_cut_by_its_bytes_but_has_one(spool: Spool, outlet: Outlet) -> None:
    """Large bodies come out a few at a time, however large."""
    spool.put([entry(number, 1000) for number in range(5)], NOW, tried_after=None, needed=True)

    assert waiting(outlet, size=1) == [0]
    assert waiting(outlet, size=2500) == [0, 1, 2]
    assert waiting(outlet, count=4) == [0, 1, 2, 3]


def test_only_its_owner_can_read_it(spool: Spool, tmp_path: Path) -> None:
    """It holds numbers and texts: rights for the owner alone, on the folder and the files."""
    put(spool, 1)
    folder = tmp_path / "spool"

    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert sorted(file.suffix for file in folder.iterdir()) == [".sqlite", ".sqlite-shm", ".sqlite-wal", ".waiting"]


def test_what_is_drained_leaves_the_disk(spool: Spool, outlet: Outlet, tmp_path: Path) -> None:
    """Once the spool is empty no byte of a callback is left in its files, and they are small again."""
    secret = b"a text of somebody's"
    values = [*entry(1)[:-1], secret * 20_000]
    spool.put([values], NOW, tried_after=None, needed=True)
    before = sum(file.stat().st_size for file in (tmp_path / "spool").iterdir())
    outlet.hold(10, 2**20)
    outlet.finish()
    outlet.tidy()
    files = list((tmp_path / "spool").iterdir())

    assert before > 400_000
    assert [file.name for file in files if secret in file.read_bytes()] == []
    assert sum(file.stat().st_size for file in files) < 100_000


# --- bounds ---


def test_a_full_spool_takes_nothing_and_keeps_what_it_has(tmp_path: Path) -> None:
    """The batch that does not fit is refused whole, and told how to mend it."""
    spool = Spool(settings(tmp_path, size="8KiB"))
    spool.put([entry(1, 3000)], NOW, tried_after=None, needed=True)

    with pytest.raises(StoreError, match=r"spool\.max: the spool is full"):
        spool.put([entry(2), entry(3, 5000)], NOW, tried_after=None, needed=True)
    spool.refuse_if_full(spool.fill(), NOW)

    assert spool.fill().rows == 1

    spool.put([entry(4, 1500)], NOW, tried_after=None, needed=True)  # and less than 4 KiB are left
    with pytest.raises(StoreError, match=r"spool\.max: the spool is full"):
        spool.refuse_if_full(spool.fill(), NOW)
    spool.close()


def test_nothing_goes_in_once_the_oldest_is_as_old_as_captures_get(spool: Spool) -> None:
    """By then the log would have lost it, and de-duplication is near its end; what is in stays in."""
    spool.put([entry(1)], NOW - 7 * 86400, tried_after=None, needed=True)
    put(spool, 2)

    with pytest.raises(StoreError, match=r"retention\.captures"):
        spool.put([entry(3)], NOW + 0.01, tried_after=None, needed=True)

    assert spool.fill().rows == 2


# --- several processes ---


def test_every_process_knows_at_once_that_some_wait(tmp_path: Path, spool: Spool, outlet: Outlet) -> None:
    """Two ends and another receiver's: what one puts in or takes out is known to all without asking the disk."""
    other = Spool(settings(tmp_path / "spool"))
    other.open()
    outlet.open()
    before = (spool.some_wait, other.some_wait, outlet.some_wait)
    put(spool, 1)
    between = (spool.some_wait, other.some_wait, outlet.some_wait)
    outlet.hold(10, 2**20)
    outlet.finish()
    after = (spool.some_wait, other.some_wait, outlet.some_wait)
    other.close()

    assert (before, between, after) == ((False,) * 3, (True,) * 3, (False,) * 3)


def test_what_a_process_left_is_known_to_the_next(tmp_path: Path, spool: Spool) -> None:
    """Also if the byte that tells it was lost with the machine."""
    put(spool, 1)
    spool.close()
    (tmp_path / "spool" / "spooled.waiting").write_bytes(bytes(4096))
    again = Spool(settings(tmp_path / "spool"))
    again.open()
    waits = again.some_wait
    again.close()

    assert waits


def test_behind_an_empty_spool_nothing_is_put(spool: Spool) -> None:
    """Who would only queue up behind others is sent to Redis if there are none."""
    assert not put(spool, 1, needed=False)
    assert put(spool, 2)
    assert put(spool, 3, needed=False)
    assert spool.fill().rows == 2


def test_while_the_last_are_handed_over_nobody_adds_to_them(spool: Spool, outlet: Outlet) -> None:
    """Who wants to queue up meanwhile waits, and then need not; else the spool would never be found empty."""
    put(spool, 1, 2)
    held = outlet.hold(10, 2**20)
    added: list[bool] = []
    adding = threading.Thread(target=lambda: added.append(put(spool, 3, needed=False)))
    adding.start()
    time.sleep(0.1)
    waited = adding.is_alive()
    outlet.finish()
    adding.join(5)

    assert held is not None
    assert [int(row.capture) for row in held] == [1, 2]
    assert waited
    assert added == [False]
    assert not spool.some_wait


def test_what_is_let_go_waits_on(spool: Spool, outlet: Outlet) -> None:
    """A hand-over that fails changes nothing; nor does one of more captures than it takes."""
    put(spool, 1, 2)
    outlet.hold(10, 2**20)
    outlet.let_go()

    assert put(spool, 3, needed=False)
    assert outlet.hold(2, 2**20) is None
    assert put(spool, 4, needed=False)
    assert waiting(outlet) == [1, 2, 3, 4]


# --- doubts ---


def test_a_write_that_was_begun_is_in_doubt_from_where_the_log_was(spool: Spool, outlet: Outlet) -> None:
    """Only what may be in the log is looked for there; a guess where no position is known."""
    put(spool, 1)
    put(spool, 2, tried_after="1800000000000-10")
    put(spool, 3, tried_after="1800000000000-9")
    known = outlet.doubt(10)
    put(spool, 4, tried_after="")
    unknown = outlet.doubt(10)

    assert (known.captures, known.after) == ({b"2": 2, b"3": 3}, frozenset({"1800000000000-10", "1800000000000-9"}))
    assert (unknown.captures, unknown.after) == (
        {b"2": 2, b"3": 3, b"4": 4},
        frozenset({*known.after, "1799999700000-0"}),
    )


def test_after_an_unfinished_drain_the_first_batch_is_in_doubt(spool: Spool, outlet: Outlet) -> None:
    """The process may have died between the log and the spool; a finished drain leaves no doubt."""
    put(spool, 1, 2, 3)
    outlet.begin([], "7-0", 3)
    unfinished = outlet.doubt(2)
    outlet.done(1, "8-0")
    later = outlet.doubt(2)
    outlet.hold(10, 2**20)
    outlet.finish()
    put(spool, 4)

    assert (unfinished.captures, unfinished.after) == ({b"1": 1, b"2": 2}, frozenset({"7-0"}))
    assert (later.captures, later.after) == ({b"2": 2, b"3": 3}, frozenset({"8-0"}))
    assert outlet.doubt(2).captures == {}


# --- a disk in trouble ---


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """A disk that is full: no file of this process may grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_loses_nothing(spool: Spool, outlet: Outlet) -> None:
    """What does not get to the disk is refused; what was there stays, and with room all goes on."""
    put(spool, 1)

    with files_at_most(200_000):
        with pytest.raises(StoreError, match=r"spool\.dir: .* cannot be written"):
            spool.put([entry(2, 400_000)], NOW, tried_after=None, needed=True)
        with pytest.raises(StoreError, match=r"spool\.dir: .* cannot be written"):
            spool.put([entry(3, 400_000)], NOW, tried_after=None, needed=True)

    assert waiting(outlet) == [1]
    assert put(spool, 4)
    assert waiting(outlet) == [1, 4]


@pytest.mark.parametrize("damage", ["header", "page"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    """Nothing is deleted: it stands beside, under a name that says so; the next captures are taken."""
    folder = tmp_path / "spool"
    first = Spool(settings(folder))
    put(first, *range(200))
    first.close()
    path = folder / "spooled.sqlite"
    whole = path.read_bytes()
    path.write_bytes(b"x" * 4096 + whole[4096:] if damage == "header" else whole[:4096] + b"\xff" * (len(whole) - 4096))
    broken = path.read_bytes()
    spool, outlet = Spool(settings(folder)), Outlet(file_of(settings(folder)))

    taken = put(spool, 7)
    [aside] = folder.glob("spooled.damaged-*.sqlite")

    assert taken
    assert waiting(outlet) == [7]
    assert aside.read_bytes() == broken
    spool.close()
    outlet.close()


def test_a_file_of_another_version_is_not_touched(tmp_path: Path, spool: Spool) -> None:
    """It may hold captures that only that version can drain."""
    put(spool, 1)
    spool.close()
    with sqlite3.connect(spool.path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()

    with pytest.raises(StoreError, match="made by another version of partyline"):
        put(spool, 2)

    assert list((tmp_path / "spool").glob("*damaged*")) == []


def test_files_that_are_taken_away_are_made_anew(tmp_path: Path, spool: Spool, outlet: Outlet) -> None:
    """Nobody writes on into files that have no name any more, and would go with the process."""
    put(spool, 1)
    for file in (tmp_path / "spool").iterdir():
        file.unlink()

    assert put(spool, 2)
    assert waiting(outlet) == [2]
    assert spool.some_wait
    assert outlet.some_wait


@pytest.mark.parametrize("folder", ["/dev/null/spool", "/proc/spool"])
def test_a_folder_that_cannot_be_written_is_named(folder: str) -> None:
    """The setting, the place and what is wrong with it."""
    with pytest.raises(StoreError, match=rf"spool\.dir: {folder}/spooled\.sqlite cannot be written: "):
        Spool(settings(Path(folder))).prove()


# --- with Redis ---


class Host:
    """One worker process's part of the receiver: a writer, and what is behind it, over a Redis that can be frozen."""

    def __init__(self, redis: Redis, configured: Settings, gate: Gate) -> None:
        self.log = CaptureLog(redis, Keyspace(configured.namespace))
        self.keeping = Keeping(self.log, Spool(configured), gate, DEADLINE_SECONDS)
        self.writer = Writer(self.keeping, DEADLINE_SECONDS)
        self.drain = Drain(file_of(configured), self.log, gate, DEADLINE_SECONDS)
        self.drainer = Drainer(self.drain, gate, self.keeping.catch_up)
        #: In the order in which they were answered.
        self.answered: list[int] = []

    async def write(self, number: int) -> None:
        """As a request does."""
        await self.writer.write(entry(number))
        self.answered.append(number)

    async def write_all(self, numbers: range) -> float:
        """Concurrent requests; the longest of them took so many seconds."""
        began = time.monotonic()
        await asyncio.gather(*map(self.write, numbers))
        return time.monotonic() - began

    async def drained(self) -> None:
        """Wait until the spool is empty."""
        async with asyncio.timeout(10):
            while self.keeping.some_wait:  # noqa: ASYNC110 - it is a byte of a file
                await asyncio.sleep(0.005)


Check = Callable[[], Awaitable[None]]


@asynccontextmanager
async def host(url: str, folder: Path, *, draining: bool = True, check: Check | None = None) -> AsyncIterator[Host]:
    """A host's receiver while it runs."""
    redis = connect(url, DEADLINE_SECONDS)
    gate = Gate(check or CaptureLog(redis, Keyspace("spooled")).answers, accepted=check is None)
    made = Host(redis, settings(folder), gate)
    await made.keeping.open()
    if draining:
        made.drainer.start()
    try:
        yield made
    finally:
        await made.drainer.stop()
        await made.keeping.close()
        await redis.aclose()


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of the test's own, which it may freeze and kill."""
    with tempfile.TemporaryDirectory(prefix="partyline-t-") as folder, EmbeddedRedis(Path(folder)) as embedded:
        yield embedded


@asynccontextmanager
async def client_of(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    """A client that waits."""
    client = connect(server.url, 5.0)
    try:
        yield client
    finally:
        await client.aclose()


KEYS = Keyspace("spooled")


async def test_behind_a_frozen_redis_all_are_answered_about_the_deadline_and_in_order(
    server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Who comes while the first write hangs waits for the rest of its deadline, not for one more; then none waits."""
    async with host(server.url, tmp_path) as one, client_of(server) as redis:
        await one.write_all(range(10))
        with frozen(server):
            first = asyncio.create_task(one.write_all(range(10, 20)))
            await asyncio.sleep(DEADLINE_SECONDS / 2)
            behind = await one.write_all(range(20, 400))
            later = await one.write_all(range(400, 500))
            slowest = await first
        await one.drained()
        await one.write_all(range(500, 510))
        found = await logged(redis, KEYS)

    assert DEADLINE_SECONDS <= slowest < DEADLINE_SECONDS + 0.25
    assert behind < DEADLINE_SECONDS / 2 + 0.25
    assert later < 0.25
    assert one.answered == list(range(510))
    assert found == list(range(510))


async def test_a_write_that_timed_out_and_was_applied_is_recognised(server: EmbeddedRedis, tmp_path: Path) -> None:
    """Frozen, Redis takes the command into its buffer, and does it when it goes on: it is not done once more."""
    async with host(server.url, tmp_path, draining=False) as one, client_of(server) as redis:
        await one.write_all(range(3))
        with frozen(server):
            await one.write_all(range(3, 6))
            await one.write_all(range(6, 9))
        async with asyncio.timeout(5):
            while await redis.xlen(KEYS.captures) < 6:  # noqa: ASYNC110 - it is done in the server
                await asyncio.sleep(0.005)
        before = await logged(redis, KEYS)
        assert await one.drain.empty()
        after = await logged(redis, KEYS)

    assert before == [0, 1, 2, 3, 4, 5]
    assert after == list(range(9))


async def test_a_drain_that_died_after_the_log_had_it_is_gone_on_with(server: EmbeddedRedis, tmp_path: Path) -> None:
    """Captures that were written and not yet taken out of the spool are recognised by the next drain."""
    async with client_of(server) as redis:
        log = CaptureLog(redis, KEYS)
        await log.append([entry(0)])
        spool, outlet = Spool(settings(tmp_path)), Outlet(file_of(settings(tmp_path)))
        put(spool, 1, 2, 3)
        outlet.begin([], await log.last(), 3)
        await log.append([row.values for row in outlet.first(2, 2**20)])  # and here it died
        outlet.close()
        spool.close()
        async with host(server.url, tmp_path) as next_one:
            await next_one.drained()
        found = await logged(redis, KEYS)

    assert found == [0, 1, 2, 3]


async def test_a_write_that_comes_after_it_was_looked_for_is_refused(server: EmbeddedRedis, tmp_path: Path) -> None:
    """The network may hold a write back for minutes: given up, spooled and drained, it is not done once more."""
    async with host(server.url, tmp_path) as one, client_of(server) as redis:
        await one.write_all(range(2))
        under_way = one.keeping._spool.fence  # of a write that is on its way from here on
        with frozen(server):
            await one.write_all(range(2, 4))
        await one.drained()
        with pytest.raises(StoreError, match="FENCED"):
            await one.log.append([entry(2), entry(3)], under_way)
        await one.write_all(range(4, 6))
        found = await logged(redis, KEYS)
        fences = [key async for key in redis.scan_iter("*:fence:*")]

    assert found == list(range(6))
    assert len(fences) == 1


class Overtaken(CaptureLog):
    """A log in which a write that was given up turns up, and is spooled, while others are looked for."""

    spool: Spool

    async def find(self, captures: Collection[bytes], after: Collection[str]) -> set[bytes]:
        """As CaptureLog.find, the first time with what happens meanwhile."""
        if not await self.length():
            await self.append([entry(9)])
            put(self.spool, 9, tried_after="0-0")
        return await super().find(captures, after)


async def test_a_write_that_is_spooled_while_others_are_looked_for_is_looked_for_too(
    server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Its doubt is not taken for settled with theirs."""
    configured = settings(tmp_path)
    async with client_of(server) as redis:
        log, spool = Overtaken(redis, KEYS), Spool(configured)
        log.spool = spool
        put(spool, 1, tried_after="0-0")
        put(spool, 2)
        drain = Drain(file_of(configured), log, Gate(log.answers, accepted=True), DEADLINE_SECONDS)
        emptied = await drain.empty()
        await drain.close()
        spool.close()
        found = await logged(redis, KEYS)

    assert emptied
    assert found == [9, 1, 2]


async def test_a_damaged_row_holds_nobody_up(server: EmbeddedRedis, tmp_path: Path) -> None:
    """Its bytes go into the log under its id, where they become a dead letter; those behind it follow."""
    async with client_of(server) as redis:
        spool = Spool(settings(tmp_path))
        put(spool, 1, 2)
        spool.close()
        with sqlite3.connect(spool.path) as connection:
            connection.execute("UPDATE waiting SET entry = x'c1' WHERE sequence = 1")
        connection.close()
        async with host(server.url, tmp_path) as one:
            await one.drained()
        found = await captures(redis, KEYS)

    assert [fields[b"id"] for fields in found] == [b"1", b"2"]
    assert found[0] == {**dict.fromkeys(CAPTURE_FIELDS, b""), b"id": b"1", b"body": b"\xc1"}


@pytest.mark.slow
async def test_order_holds_through_outages_and_back_under_steady_traffic(server: EmbeddedRedis, tmp_path: Path) -> None:
    """Two workers, three outages, never a pause: each one's captures are in the log once, in its answers' order."""
    async with host(server.url, tmp_path) as one, host(server.url, tmp_path) as other, client_of(server) as redis:
        senders = [asyncio.create_task(_keep_writing(each, first)) for each, first in ((one, 0), (other, 1_000_000))]
        for _ in range(3):
            await asyncio.sleep(0.2)
            with frozen(server):
                await asyncio.sleep(DEADLINE_SECONDS + 0.3)
            await one.drained()  # although both go on writing
            await other.drained()
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        await one.drained()
        found = await logged(redis, KEYS)

    assert len(one.answered) > 500
    assert Counter(found).most_common(1)[0][1] == 1
    for each, numbers in (
        (one, [number for number in found if number < 1_000_000]),
        (other, [number for number in found if number >= 1_000_000]),
    ):
        assert each.answered == sorted(each.answered)
        assert numbers == sorted(numbers)
        assert set(each.answered) <= set(numbers)


async def _keep_writing(each: Host, first: int) -> None:
    for number in range(first, first + 900_000, 8):
        await each.write_all(range(number, number + 8))
        await asyncio.sleep(0.001)


async def test_a_full_spool_refuses_and_loses_nothing_that_it_took(server: EmbeddedRedis, tmp_path: Path) -> None:
    """Each write is answered one way or the other at once, and what was taken is in the log later, in order."""
    async with host(server.url, tmp_path) as one, client_of(server) as redis:
        with frozen(server):
            await one.write_all(range(1))
            big = [one.writer.write(entry(number, 100_000)) for number in range(1, 15)]
            outcomes = [await asyncio.gather(each, return_exceptions=True) for each in big]
        await one.drained()
        found = await logged(redis, KEYS)
    taken = [number for number, [outcome] in enumerate(outcomes, 1) if outcome is None]

    assert taken == list(range(1, 11))
    assert {type(outcome) for [outcome] in outcomes[10:]} == {StoreError}
    assert found == [0, *taken]


async def test_nothing_is_written_to_a_redis_that_is_refused(server: EmbeddedRedis, tmp_path: Path) -> None:
    """Captures stay in the spool, and are drained as soon as it is accepted."""
    refused = [True]

    async def check() -> None:
        if refused:
            raise ConfigError(["redis.durability: made up"])

    async with host(server.url, tmp_path, check=check) as one, client_of(server) as redis:
        await one.write_all(range(20))
        await asyncio.sleep(0.2)
        untouched, why = await redis.keys("*"), one.keeping.gate.why
        refused.clear()
        await one.drained()
        await one.write_all(range(20, 25))
        found = await logged(redis, KEYS)

    assert (untouched, why) == ([], "redis.durability: made up")
    assert found == list(range(25))


async def test_a_drain_that_is_stopped_ends_between_two_batches(server: EmbeddedRedis, tmp_path: Path) -> None:
    """What it has moved is moved once; the rest waits for the next."""
    spool = Spool(settings(tmp_path))
    put(spool, *range(2000))
    spool.close()
    async with client_of(server) as redis:
        async with host(server.url, tmp_path) as one:
            async with asyncio.timeout(5):
                while not one.drain.drained:  # noqa: ASYNC110 - it tells it no other way
                    await asyncio.sleep(0.0005)
        part = await logged(redis, KEYS)
        async with host(server.url, tmp_path) as next_one:
            await next_one.drained()
        whole = await logged(redis, KEYS)

    assert 256 <= len(part) < 2000
    assert part == list(range(len(part)))
    assert whole == list(range(2000))


async def test_one_process_drains_at_a_time(server: EmbeddedRedis, tmp_path: Path) -> None:
    """Whoever comes second leaves it to the first."""
    async with host(server.url, tmp_path, draining=False) as one, host(server.url, tmp_path, draining=False) as other:
        put(Spool(settings(tmp_path)), *range(2000))
        both = await asyncio.gather(one.drain.empty(), other.drain.empty())

    assert sorted(both) == [False, True]
    assert sorted([one.drain.drained, other.drain.drained]) == [0, 2000]
