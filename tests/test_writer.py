"""The writer on a real capture log; and, for when writing fails, on a stand-in that fails to order."""

import asyncio
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from receiver.acceptance import Gate
from receiver.captures import CaptureLog
from receiver.keeping import Keeping
from receiver.spool import Spool
from receiver.writer import Writer
from schemas.errors import StoreError
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS
from tests.service import captures, document, settings_of

Values = list[bytes]


def entry(number: int, size: int = 1) -> Values:
    """The values of a made-up entry, known by its id."""
    values = dict.fromkeys(CAPTURE_FIELDS, b"")
    return [*(values | {b"id": b"%d" % number, b"body": b"x" * size}).values()]


async def logged(redis: Redis, keyspace: Keyspace) -> list[int]:
    """Which entries are in the log, in its order."""
    return [int(fields[b"id"]) for fields in await captures(redis, keyspace)]


class StandIn:
    """A log that keeps each call's entries, and that can be held up or made to fail."""

    def __init__(self) -> None:
        self.calls: list[list[Values]] = []
        self.failures: list[Exception] = []
        self.left: list[float] = []
        self.open = asyncio.Event()
        self.open.set()

    async def append(self, captures: Sequence[Values], within_seconds: float) -> None:
        """As Keeping.append."""
        self.left.append(within_seconds)
        self.calls.append(list(captures))
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)

    @property
    def numbers(self) -> list[list[int]]:
        """Which entries each call brought."""
        return [[int(values[0]) for values in call] for call in self.calls]


async def outcomes(writer: Writer, numbers: range) -> list[str]:
    """What concurrent writes come to, in order: durable, or the error's reason."""
    found = await asyncio.gather(*(writer.write(entry(number)) for number in numbers), return_exceptions=True)
    return ["durable" if error is None else getattr(error, "reason", repr(error)) for error in found]


def log_of(redis: Redis, keyspace: Keyspace) -> Keeping:
    """The real log, and a spool that takes nothing."""
    settings = settings_of(document(keyspace.namespace, spool={"dir": "/dev/null/spool"}))
    log = CaptureLog(redis, keyspace)
    return Keeping(log, Spool(settings), Gate(log.answers, accepted=True), 5.0)


# --- on the real log ---


async def test_concurrent_writes_are_all_in_the_log_in_their_order(redis: Redis, keyspace: Keyspace) -> None:
    """64 concurrent writes give 64 entries in the order in which they were asked for, in one script call."""
    log = log_of(redis, keyspace)
    await log.append([], 5.0)  # loads the script
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]

    assert await outcomes(Writer(log, 5.0), range(64)) == ["durable"] * 64

    after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert await logged(redis, keyspace) == list(range(64))
    assert after - before == 1


async def test_writes_that_come_during_a_write_go_out_with_the_next(redis: Redis, keyspace: Keyspace) -> None:
    """However the writes are spread over time, order of the log and order of completion are one."""
    writer = Writer(log_of(redis, keyspace), 5.0)
    done: list[int] = []

    async def write(number: int) -> None:
        await writer.write(entry(number))
        done.append(number)

    tasks = []
    for number in range(100):
        tasks.append(asyncio.create_task(write(number)))
        if number % 7 == 0:
            await asyncio.sleep(0.0005)
    await asyncio.gather(*tasks)

    assert await logged(redis, keyspace) == list(range(100))
    assert done == list(range(100))


async def test_what_is_durable_is_there_before_the_caller_goes_on(redis: Redis, keyspace: Keyspace) -> None:
    """When a write returns, its entry can be read by anybody."""
    writer = Writer(log_of(redis, keyspace), 5.0)

    for number in range(5):
        await writer.write(entry(number))
        assert await redis.xlen(keyspace.captures) == number + 1


# --- how much goes into one call ---


async def test_one_write_at_a_time_is_under_way() -> None:
    """What comes while a write is under way waits, and then goes out as one."""
    log = StandIn()
    log.open.clear()
    writer = Writer(log, 5.0)
    first = asyncio.create_task(writer.write(entry(0)))
    await asyncio.sleep(0)
    others = asyncio.create_task(outcomes(writer, range(1, 6)))
    await asyncio.sleep(0.01)
    assert log.numbers == [[0]]

    log.open.set()
    await asyncio.gather(first, others)

    assert log.numbers == [[0], [1, 2, 3, 4, 5]]


async def test_a_call_takes_128_entries_at_most() -> None:
    """A large crowd goes out in several calls, so that none holds Redis up for long."""
    log = StandIn()

    assert await outcomes(Writer(log, 5.0), range(300)) == ["durable"] * 300

    assert [len(call) for call in log.calls] == [128, 128, 44]
    assert [number for call in log.numbers for number in call] == list(range(300))


async def test_a_call_takes_4_mib_and_the_entry_that_exceeds_them() -> None:
    """Large bodies go out a few at a time."""
    log = StandIn()
    writer = Writer(log, 5.0)

    await asyncio.gather(*(writer.write(entry(number, 1024 * 1024)) for number in range(10)))

    assert log.numbers == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


# --- when it fails ---


async def test_a_failed_call_fails_each_of_its_writes_and_the_next_works() -> None:
    """Nobody in a failed call is told that his entry is durable; whoever comes later is served."""
    log = StandIn()
    log.failures = [StoreError("made up")]
    writer = Writer(log, 5.0)

    assert await outcomes(writer, range(5)) == ["store_unavailable"] * 5
    assert await outcomes(writer, range(5, 8)) == ["durable"] * 3
    assert log.numbers == [[0, 1, 2, 3, 4], [5, 6, 7]]


async def test_those_who_wait_behind_a_failed_call_get_a_call_of_their_own() -> None:
    """A failure concerns the entries of its own call alone, and nothing is sent twice."""
    log = StandIn()
    log.failures = [StoreError("made up")]

    found = await outcomes(Writer(log, 5.0), range(130))

    assert found == ["store_unavailable"] * 128 + ["durable"] * 2
    assert log.numbers == [list(range(128)), [128, 129]]


async def test_each_failed_write_gets_an_error_of_its_own() -> None:
    """One exception object raised in many requests would grow all their tracebacks; so there are many."""
    log = StandIn()
    log.failures = [StoreError("made up")]
    writer = Writer(log, 5.0)

    errors = await asyncio.gather(*(writer.write(entry(number)) for number in range(3)), return_exceptions=True)

    assert [str(error) for error in errors] == ["made up"] * 3
    assert len({id(error) for error in errors}) == 3


async def test_who_waited_beyond_the_deadline_is_given_up_unwritten() -> None:
    """Behind a log that hangs, a write is refused at its deadline's end and not sent after all."""
    log = StandIn()
    log.open.clear()
    writer = Writer(log, 0.02)
    first = asyncio.create_task(writer.write(entry(0)))
    await asyncio.sleep(0)
    others = asyncio.create_task(outcomes(writer, range(1, 4)))
    await asyncio.sleep(0.05)

    log.open.set()
    await first

    assert await others == ["store_unavailable"] * 3
    assert log.numbers == [[0]]
    assert await outcomes(writer, range(4, 5)) == ["durable"]


async def test_a_cancelled_write_that_has_not_gone_out_stays_out() -> None:
    """A request that is gone before its turn is not written, and its neighbours are."""
    log = StandIn()
    log.open.clear()
    writer = Writer(log, 5.0)
    tasks = [asyncio.create_task(writer.write(entry(number))) for number in range(4)]
    await asyncio.sleep(0)
    late = asyncio.create_task(writer.write(entry(4)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late.cancel()
    log.open.set()

    await asyncio.gather(*tasks)
    await writer.write(entry(5))

    assert late.cancelled()
    assert log.numbers == [[0, 1, 2, 3], [5]]


@pytest.mark.parametrize("failure", [None, StoreError("made up")])
async def test_a_write_cancelled_on_its_way_breaks_no_other(failure: StoreError | None) -> None:
    """Whether the call works or fails, one request that is gone by then changes nothing for the rest."""
    log = StandIn()
    log.open.clear()
    log.failures = [failure] if failure else []
    writer = Writer(log, 5.0)
    tasks = [asyncio.create_task(writer.write(entry(number))) for number in range(4)]
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    log.open.set()

    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert log.numbers == [[0, 1, 2, 3]]
    assert isinstance(found.pop(1), asyncio.CancelledError)
    assert [type(error) for error in found] == [StoreError if failure else type(None)] * 3
    assert await outcomes(writer, range(4, 5)) == ["durable"]


async def test_writes_that_are_all_cancelled_leave_the_writer_usable() -> None:
    """Nothing left to write is no reason to stop."""
    log = StandIn()
    writer = Writer(log, 5.0)
    tasks = [asyncio.create_task(writer.write(entry(number))) for number in range(3)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert await outcomes(writer, range(3, 5)) == ["durable"] * 2


@pytest.mark.parametrize("failure", [RuntimeError("transport closed"), ValueError("made up")])
async def test_no_write_waits_for_ever_whatever_fails(failure: Exception) -> None:
    """A failure that nobody foresaw ends each write of its call with an error, and the next call works."""
    log = StandIn()
    log.failures = [failure]
    writer = Writer(log, 5.0)

    async with asyncio.timeout(10):
        found = await outcomes(writer, range(3))
        assert "durable" not in found
        assert await outcomes(writer, range(3, 5)) == ["durable"] * 2
