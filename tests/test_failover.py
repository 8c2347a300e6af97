"""Redis as more than one server: what a failover costs subscribers and senders, which is nothing that was acknowledged.

Real servers are killed; the subscribers' code does nothing about it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.exceptions import RedisError

from correlator.redis_client import connect
from correlator.subscribe import Published, Subscription, hints
from schemas.keyspace import Keyspace
from tests.chatter import chatter, event, inversions, subject_of
from tests.farm import Farm, cluster, sentinels
from tests.processes import service
from tests.traffic import facts, keep_sending, telnyx, without_gap_or_repeat

SECONDS = 30
CONVERSATIONS, EVENTS, AT_ONCE = 20, 400, 10


#: Redis behind sentinels or in a cluster, and how many replicas a master has: all of them must have what is not to be
#: lost. With fewer it may be the one that lacks it that takes over: sentinels know how far each is from some time ago.
farms = pytest.mark.parametrize(("farming", "replicas"), [(sentinels, 2), (cluster, 1)], ids=["sentinel", "cluster"])


@asynccontextmanager
async def handling(
    farm: Farm, namespace: str, consumers: int = 2, lease_seconds: float = 1.0
) -> AsyncIterator[list[Published]]:
    """What a group of consumers has handled so far, of a stream from its beginning."""
    handled: list[Published] = []

    async def handle(one: Published) -> None:
        handled.append(one)

    group = [
        Subscription(
            farm.url, namespace=namespace, group="crm", start="beginning", lease_seconds=lease_seconds, partitions=1
        )
        for _ in range(consumers)
    ]
    running = [asyncio.create_task(each.run(handle)) for each in group]
    try:
        yield handled
    finally:
        for each in group:
            each.stop()
        await asyncio.wait_for(asyncio.gather(*running), SECONDS)


async def publish_acknowledged(farm: Farm, keyspace: Keyspace, envelopes: Sequence[bytes], replicas: int) -> None:
    """Put events into the stream until replicas have them, as the receiver does: what fails is tried again."""
    redis: Any = connect(farm.url, 1.0, keyspace)
    async with asyncio.timeout(SECONDS):
        for at in range(0, len(envelopes), AT_ONCE):
            some = envelopes[at : at + AT_ONCE]
            while not await _published(redis, keyspace, some, replicas):  # noqa: ASYNC110 - nobody tells when it is back
                await asyncio.sleep(0.1)
    await redis.aclose()


async def _published(redis: Any, keyspace: Keyspace, envelopes: Sequence[bytes], replicas: int) -> bool:
    pipeline = redis.pipeline(transaction=False)
    for envelope in envelopes:
        pipeline.xadd(keyspace.events, {"event": envelope})
    pipeline.wait(replicas, 500)
    try:
        return bool((await pipeline.execute())[-1] >= replicas)
    except (RedisError, OSError):
        return False


async def until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait for something."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.05)


def noted(handled: Sequence[Published]) -> list[tuple[str, int]]:
    """Subject and sequence of each."""
    return [(one.subject, one.sequence or 0) for one in handled]


def expected(envelopes: int) -> set[tuple[str, int]]:
    """All that is published."""
    sequences = [0] * CONVERSATIONS
    for envelope in chatter(CONVERSATIONS, envelopes):
        number = next(each for each in range(CONVERSATIONS) if subject_of(each).encode() in envelope)
        sequences[number] += 1
    return {(subject_of(number), at + 1) for number, last in enumerate(sequences) for at in range(last)}


@farms
async def test_a_failover_costs_subscribers_nothing_that_replicas_had(
    farming: Any, replicas: int, tmp_path: Path, keyspace: Keyspace, namespace: str
) -> None:
    """The master is killed while events flow: every event is handled, each conversation in its order."""
    envelopes = list(chatter(CONVERSATIONS, EVENTS))
    async with farming(tmp_path) as farm, handling(farm, namespace) as handled:
        master = await farm.master(keyspace)
        publishing = asyncio.create_task(publish_acknowledged(farm, keyspace, envelopes, replicas))
        await until(lambda: len(handled) > EVENTS / 4, lambda: f"only {len(handled)} events were handled")
        master.kill()
        assert (await farm.master(keyspace)).port != master.port
        master.start_again()
        await publishing
        whole = expected(EVENTS)
        await until(lambda: whole <= set(noted(handled)), lambda: f"missed: {whole - set(noted(handled))}")
    assert set(noted(handled)) == whole
    assert inversions(noted(handled)) == []


async def test_what_a_failover_loses_is_handled_once_it_is_published_again(
    tmp_path: Path, keyspace: Keyspace, namespace: str
) -> None:
    """Events that no replica had are gone with the master, however far subscribers were; those in their place come.

    The lost ones had greater positions than what takes their place: the clock of the old master was ahead. And the
    consumer's lease outlives the failover, so nothing else would have it look at its cursors again.
    """
    ahead = int(time.time() * 1000) + 60_000
    kept = [event(subject_of(1), number) for number in (1, 2)]
    lost = [event(subject_of(1), number) for number in (3, 4)]
    async with sentinels(tmp_path) as farm, handling(farm, namespace, 1, lease_seconds=60.0) as handled:
        await publish_acknowledged(farm, keyspace, kept, 2)
        await until(lambda: len(handled) == 2, lambda: noted(handled))
        master = await farm.master()
        await farm.cut_off(master)
        for number, envelope in enumerate(lost):
            await master.ask("XADD", keyspace.events, f"{ahead + number}-0", "event", envelope)
        await until(lambda: len(handled) == 4, lambda: noted(handled))
        master.kill()
        again = [*lost, event(subject_of(1), 5)]
        await publish_acknowledged(farm, keyspace, again, 0)
        await until(lambda: (subject_of(1), 5) in noted(handled), lambda: noted(handled))
        redis: Any = connect(farm.url, 1.0, keyspace)
        stream = await redis.xrange(keyspace.events)
        await redis.aclose()

    assert [fields[b"event"] for _, fields in stream] == [*kept, *again]
    assert int(stream[-1][0].partition(b"-")[0]) < ahead
    assert inversions(noted(handled)) == []
    assert noted(handled)[-3:] == [(subject_of(1), number) for number in (3, 4, 5)]


@pytest.mark.parametrize("farming", [sentinels, cluster], ids=["sentinel", "cluster"])
async def test_hints_come_from_wherever_the_master_is(
    farming: Any, tmp_path: Path, keyspace: Keyspace, namespace: str
) -> None:
    """What is published on the master reaches who listens by the URL of all servers; after a failover again."""
    heard: list[Published] = []

    async def listen(url: str) -> None:
        async for one in hints(url, namespace=namespace, partitions=1):
            heard.append(one)  # noqa: PERF401 - it is read meanwhile

    async def tell(farm: Farm, sequence: int) -> None:
        """Say it until it is heard: hints may be missed."""
        redis: Any = connect(farm.url, 1.0, keyspace)
        async with asyncio.timeout(SECONDS):
            while not any(one.sequence == sequence for one in heard):
                try:
                    await redis.publish(keyspace.channel("message.received", "cv"), event(subject_of(1), sequence))
                except (RedisError, OSError):
                    await asyncio.sleep(0.1)
                await asyncio.sleep(0.02)
        await redis.aclose()

    async with farming(tmp_path) as farm:
        listening = asyncio.create_task(listen(farm.url))
        await tell(farm, 1)
        (await farm.master(keyspace)).kill()
        await tell(farm, 2)
        listening.cancel()
        await asyncio.wait([listening])

    assert {one.sequence for one in heard} == {1, 2}


async def test_no_sentinel_is_forgotten(tmp_path: Path) -> None:
    """However many connections are made at once while it is away: later it may be the last one that is left."""
    async with sentinels(tmp_path) as farm:
        farm.sentinels[0].kill()
        client = connect(farm.url, 1.0)
        pool: Any = client.connection_pool
        found = await asyncio.gather(*(pool.get_master_address() for _ in range(8)))
        asked = [each.connection_pool.connection_kwargs["port"] for each in pool.sentinel_manager.sentinels]
        await client.aclose()

    assert {port for _, port in found} == {farm.servers[0].port}
    assert sorted(asked) == sorted(each.port for each in farm.sentinels)


# --- the whole program ---


@pytest.mark.slow
@farms
async def test_a_failover_loses_no_callback_that_was_answered(
    farming: Any, replicas: int, folder: Path, keyspace: Keyspace, namespace: str
) -> None:
    """With acknowledged replicas each callback that was answered 200 is in the stream once, and handled in order."""
    answered, refused = list[str](), list[httpx.Response]()
    async with farming(folder) as farm, handling(farm, namespace) as handled:
        redis = {"url": farm.url, "wait_replicas": replicas}
        async with service(folder, namespace, redis=redis) as running:
            senders = [asyncio.create_task(keep_sending(running, f"{one}", answered, refused)) for one in range(8)]
            master = await farm.master(keyspace)
            await until(lambda: len(answered) > 200, lambda: f"{len(answered)} answered")
            master.kill()
            assert (await farm.master(keyspace)).port != master.port
            master.start_again()
            again = len(answered) + 200
            await until(lambda: len(answered) > again, lambda: f"{len(answered)} answered, {len(refused)} refused")
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            await running.settled()
            events = await running.space.events()
        whole = {(one["subject"], int(one["sequence"])) for one in events}
        await until(lambda: whole <= set(noted(handled)), lambda: f"missed: {whole - set(noted(handled))}")

    found = facts(events)

    assert {name: found[name] for name in answered} == dict.fromkeys(answered, 1)
    assert without_gap_or_repeat(events)
    assert inversions(noted(handled)) == []
    assert {response.status_code for response in refused} <= {503}


@pytest.mark.slow
async def test_without_acknowledged_replicas_only_what_they_lacked_is_lost(folder: Path, namespace: str) -> None:
    """With `wait_replicas = 0` a failover may lose what was answered since replicas last followed, and nothing else."""
    answered, refused = list[str](), list[httpx.Response]()
    async with sentinels(folder) as farm, service(folder, namespace, redis={"url": farm.url}) as running:
        for number in range(5):
            answered.append(f"before-{number}")
            assert (await running.post("telnyx", telnyx(answered[-1]))).status_code == 200
        await running.settled()
        await running.space.redis.wait(2, 5000)
        master = await farm.master()
        await farm.cut_off(master)
        assert (await running.post("telnyx", telnyx("in the window"))).status_code == 200
        master.kill()
        sending = asyncio.create_task(keep_sending(running, "after", answered, refused))
        await until(lambda: len(answered) > 10, lambda: f"{len(refused)} refused")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await running.settled()
        found = facts(await running.space.events())

    assert {name: found[name] for name in answered} == dict.fromkeys(answered, 1)
    assert "in the window" not in found
