"""The stream from a position on: every entry once, through outages, for readers that keep their own place."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from correlator.following import Entry, Outages, every_entry, in_order, last_wanted, newest
from correlator.lanes import BEGINNING, Position
from correlator.redis_client import connect
from schemas.errors import StoreError
from schemas.keyspace import Keyspace


@pytest.fixture
async def reader(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the reader's own, which can be cut off."""
    client = connect(redis_url, 5.0)
    await client.client_setname("reader")
    yield client
    await client.aclose()


async def write(redis: Redis, keyspace: Keyspace, *numbers: int) -> None:
    """Entries whose position and envelope are a number."""
    for number in numbers:
        await redis.xadd(keyspace.events, {"event": str(number)}, id=f"{number}-0")


def entry(number: int) -> Entry:
    """Such an entry, as it is read."""
    return Entry((number, 0), str(number).encode())


async def read(redis: Redis, keyspace: Keyspace, after: Position, until: Position) -> list[Entry]:
    """Everything between two positions."""
    return [each async for each in every_entry(redis, keyspace, after, Outages(), until=until)]


async def waiting(redis: Redis) -> list[str]:
    """The clients that wait for an entry, once there is one."""
    async with asyncio.timeout(10):
        while True:
            clients: Any = await redis.client_list()
            if found := [client["id"] for client in clients if client["cmd"] == "xread" and "b" in client["flags"]]:
                return found
            await asyncio.sleep(0.01)


async def test_a_reader_begins_after_its_place_and_ends_where_it_is_told(redis: Redis, keyspace: Keyspace) -> None:
    """Both ends may stand between entries, or where one was removed; what is written later is not waited for."""
    await write(redis, keyspace, *range(1, 451))
    await redis.xdel(keyspace.events, "450-0")

    assert await read(redis, keyspace, BEGINNING, (450, 0)) == [entry(number) for number in range(1, 450)]
    assert await read(redis, keyspace, (2, 5), (5, 0)) == [entry(3), entry(4), entry(5)]
    assert await read(redis, keyspace, (450, 0), (450, 0)) == []
    assert await newest(redis, keyspace) == (450, 0)


async def test_a_stream_that_nothing_was_published_on_is_waited_for(redis: Redis, keyspace: Keyspace) -> None:
    """Its beginning is its newest place, and the first entry is read when it comes."""
    after = await newest(redis, keyspace)
    entries = every_entry(redis, keyspace, after, Outages())
    first = asyncio.ensure_future(anext(entries))
    await asyncio.sleep(0.05)
    await write(redis, keyspace, 7)

    assert after == BEGINNING
    assert await read(redis, keyspace, BEGINNING, BEGINNING) == []
    assert await first == entry(7)


async def test_an_outage_is_told_once_and_costs_nothing(redis: Redis, reader: Redis, keyspace: Keyspace) -> None:
    """A reader whose connection is cut goes on after what it read last."""
    told: list[StoreError | None] = []
    await write(redis, keyspace, 1)
    entries = every_entry(reader, keyspace, BEGINNING, Outages(told.append))
    read_before = await anext(entries)
    following = asyncio.ensure_future(anext(entries))
    for client in await waiting(redis):
        await redis.client_kill_filter(_id=client)
    await write(redis, keyspace, 2)

    assert [read_before, await following] == [entry(1), entry(2)]
    assert [type(each) for each in told] == [StoreError, type(None)]


async def replace(redis: Redis, keyspace: Keyspace, *numbers: int) -> None:
    """Have a stream with just these entries: what a failover does to one, as far as a reader can tell."""
    pipeline = redis.pipeline(transaction=True)
    pipeline.delete(keyspace.events)
    for number in numbers:
        pipeline.xadd(keyspace.events, {"event": str(number)}, id=f"{number}-0")
    await pipeline.execute()


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        pytest.param([1, 2, 3], 3, id="some of what was read is left"),
        pytest.param([3], 3, id="nothing of it is left"),
        pytest.param([1, 2, 7], 7, id="what comes instead is later"),
    ],
)
async def test_where_the_end_is_lost_its_replacement_is_read(
    redis: Redis, keyspace: Keyspace, left: list[int], expected: int
) -> None:
    """After a failover new entries may stand before the reader's place; those that are left are not read again."""
    await write(redis, keyspace, 1, 2, *range(10, 451))
    entries = every_entry(redis, keyspace, BEGINNING, Outages())
    read_before = [await anext(entries) for _ in range(443)]
    await replace(redis, keyspace, *left)

    assert read_before[-1] == entry(450)
    assert await anext(entries) == entry(expected)


async def test_what_was_trimmed_or_forgotten_is_no_loss(redis: Redis, keyspace: Keyspace) -> None:
    """A reader whose last entries were removed goes on with what comes, and shows nothing twice."""
    await write(redis, keyspace, 1, 2, 3)
    entries = every_entry(redis, keyspace, BEGINNING, Outages())
    read = [await anext(entries) for _ in range(3)]
    await redis.xdel(keyspace.events, "3-0")
    await write(redis, keyspace, 4)
    read.append(await anext(entries))
    await redis.xtrim(keyspace.events, minid="5-0", approximate=False)
    await write(redis, keyspace, 5)
    read.append(await anext(entries))

    assert read == [entry(number) for number in range(1, 6)]


async def test_a_call_is_made_until_it_is_answered() -> None:
    """Whatever Redis does not answer is asked again; it is told that it is away, and that it is back."""
    told: list[StoreError | None] = []
    outages, errors = Outages(told.append), [StoreError("one"), StoreError("two")]

    async def call() -> str:
        if errors:
            raise errors.pop()
        return "answered"

    assert await outages.through(call) == "answered"
    assert list(map(str, told)) == ["two", "None"]


async def test_the_last_few_are_found(redis: Redis, keyspace: Keyspace) -> None:
    """Counted are only those that are wanted, however far back."""
    await write(redis, keyspace, *range(1, 451))

    async def found(count: int, *wanted: bytes) -> list[Position]:
        return await last_wanted(redis, keyspace, count, lambda envelope: not wanted or envelope in wanted)

    assert await found(1) == [(450, 0)]
    assert await found(300) == [(number, 0) for number in range(450, 150, -1)]
    assert await found(2, b"3", b"400", b"2") == [(400, 0), (3, 0)]
    assert await found(3, b"3", b"400") == [(400, 0), (3, 0)]
    assert len(await found(451)) == 450


async def test_several_streams_are_read_in_their_common_order(redis: Redis, keyspace: Keyspace) -> None:
    """As they were published, whichever ends first, and one of them may be empty."""
    others = [Keyspace(keyspace.namespace, number) for number in (1, 2)]
    await write(redis, keyspace, 1, 4, 5, 6)
    await write(redis, others[0], 2, 3, 7)
    streams = [every_entry(redis, keys, BEGINNING, Outages(), until=(9, 0)) for keys in (keyspace, *others)]

    assert [each async for each in in_order(streams)] == [entry(number) for number in range(1, 8)]
    assert [each async for each in in_order([])] == []
