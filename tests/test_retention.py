"""What retention lets go while a pipeline runs: each stream by its own age and size, never more than that."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from correlator.lease import Lease
from correlator.store import Store
from receiver import captures
from receiver.captures import CaptureLog
from receiver.pipeline import Pipeline
from receiver.settings import Retention
from schemas.keyspace import Keyspace
from schemas.wire import QUARANTINE_FIELDS
from tests.engine import DAY, ID_KEY, MESSAGES_SECONDS

HOUR = 3600


class House:
    """A namespace with entries of any age, and a pipeline that keeps it."""

    def __init__(self, redis: Redis, keyspace: Keyspace) -> None:
        self.redis: Any = redis
        self.keys = keyspace
        self.log = CaptureLog(redis, keyspace)
        self._started_at = int(time.time())

    async def fill(self, stream: str, ages: Sequence[int], size: int = 100) -> None:
        """Add entries of some ages in seconds, the oldest first, each of so many bytes."""
        for age in ages:
            await self.redis.xadd(stream, {"x": b"x" * size}, id=f"{(self._started_at - age) * 1000}-0")
            await self.redis.incrby(self.keys.bytes_of(stream), size)

    async def keep(self, **retention: int) -> None:
        """Keep house once, as the pipeline does between batches."""
        store = Store(self.redis, self.keys, ID_KEY, MESSAGES_SECONDS)
        lease = Lease(self.redis, self.keys, 10)
        pipeline = Pipeline(self.log, store, lease, {}, Retention(**retention))
        pipeline._housekept_at = -HOUR
        await pipeline._keep_house()

    async def ages(self, stream: str) -> list[int]:
        """How old the entries are that are left, in seconds."""
        found = await self.redis.xrange(stream)
        return [self._started_at - int(position.partition(b"-")[0]) // 1000 for position, _ in found]

    async def commit_all(self) -> None:
        """Have every capture count as committed."""
        [(last, _)] = await self.redis.xrevrange(self.keys.captures, count=1)
        await self.redis.set(self.keys.cursor, last)


@pytest.fixture
def house(redis: Redis, keyspace: Keyspace) -> House:
    """An empty one."""
    return House(redis, keyspace)


AGES = [40 * DAY, 31 * DAY, 29 * DAY, 8 * DAY, 6 * DAY, HOUR]


async def test_each_stream_goes_by_its_own_age(house: House) -> None:
    """With the defaults captures are kept for 7 days, events and dead letters for 30."""
    for stream in (house.keys.captures, house.keys.events, house.keys.dead):
        await house.fill(stream, AGES)
    await house.commit_all()
    await house.keep()

    assert await house.ages(house.keys.captures) == [6 * DAY, HOUR]
    assert await house.ages(house.keys.events) == [29 * DAY, 8 * DAY, 6 * DAY, HOUR]
    assert await house.ages(house.keys.dead) == [29 * DAY, 8 * DAY, 6 * DAY, HOUR]
    assert int(await house.redis.get(house.keys.bytes_of(house.keys.captures))) == 200


async def test_ages_are_those_of_the_settings(house: House) -> None:
    """Another `retention.captures` and `retention.events` are heeded; dead letters go with events."""
    for stream in (house.keys.captures, house.keys.events, house.keys.dead):
        await house.fill(stream, AGES)
    await house.commit_all()
    await house.keep(captures_seconds=30 * DAY, events_seconds=7 * DAY)

    assert await house.ages(house.keys.captures) == [29 * DAY, 8 * DAY, 6 * DAY, HOUR]
    assert await house.ages(house.keys.events) == [6 * DAY, HOUR]
    assert await house.ages(house.keys.dead) == [6 * DAY, HOUR]


async def test_each_stream_goes_by_its_own_size(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go until the rest fits under the stream's own limit, each counted by itself."""
    monkeypatch.setattr("receiver.pipeline._DEAD_BYTES", 400)
    for stream in (house.keys.captures, house.keys.events, house.keys.dead):
        await house.fill(stream, [6 * HOUR, 5 * HOUR, 4 * HOUR, 3 * HOUR, 2 * HOUR])
    await house.commit_all()
    await house.keep(captures_max_bytes=200, events_max_bytes=300)

    assert await house.ages(house.keys.captures) == [3 * HOUR, 2 * HOUR]
    assert await house.ages(house.keys.events) == [4 * HOUR, 3 * HOUR, 2 * HOUR]
    assert await house.ages(house.keys.dead) == [5 * HOUR, 4 * HOUR, 3 * HOUR, 2 * HOUR]


async def test_what_is_not_committed_stays_whatever_its_age(house: House) -> None:
    """A pipeline that was away for a month still finds every capture; events are not held back by it."""
    await house.fill(house.keys.captures, AGES)
    await house.fill(house.keys.events, AGES)
    await house.redis.set(house.keys.cursor, (await house.redis.xrange(house.keys.captures))[0][0])
    await house.keep(captures_max_bytes=0)

    assert await house.ages(house.keys.captures) == AGES[1:]
    assert await house.ages(house.keys.events) == AGES[2:]


async def test_the_quarantine_is_bounded_by_size_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest unauthentic requests are kept up to the cap, however old, and no pipeline touches them."""
    monkeypatch.setattr(captures, "QUARANTINE_BYTES", 300)
    await house.fill(house.keys.quarantine, [400 * DAY, 300 * DAY])
    await house.keep(captures_max_bytes=0, events_max_bytes=0)
    before = await house.ages(house.keys.quarantine)
    await house.log.quarantine([b"x" * 150, *[b""] * (len(QUARANTINE_FIELDS) - 1)])
    after = await house.ages(house.keys.quarantine)

    assert before == [400 * DAY, 300 * DAY]
    assert after[0] == 300 * DAY
    assert len(after) == 2


async def test_house_is_not_kept_more_often_than_it_has_to_be(house: House) -> None:
    """Between batches nothing is asked of Redis until some seconds have gone by."""
    await house.fill(house.keys.events, AGES)
    store = Store(house.redis, house.keys, ID_KEY, MESSAGES_SECONDS)
    pipeline = Pipeline(house.log, store, Lease(house.redis, house.keys, 10), {}, Retention())
    pipeline._housekept_at = time.monotonic()
    await pipeline._keep_house()

    assert await house.ages(house.keys.events) == AGES


async def test_a_long_backlog_is_trimmed_whole(house: House) -> None:
    """What was left over from a longer retention goes in one go, call by bounded call."""
    stream = house.keys.events
    pipeline = house.redis.pipeline(transaction=False)
    for number in range(1, 2101):
        pipeline.xadd(stream, {"x": b"x"}, id=f"{number}-0")
    pipeline.set(house.keys.bytes_of(stream), 2100)
    await pipeline.execute()
    await house.fill(stream, [HOUR], size=1)
    await house.keep()

    assert await house.ages(stream) == [HOUR]
    assert int(await house.redis.get(house.keys.bytes_of(stream))) == 1
