"""Consumers of one group, killed at random while events flow: nothing is missed, and no conversation is inverted."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from correlator.subscribe import CONCURRENCY
from receiver.embedded import EmbeddedRedis
from schemas.keyspace import Keyspace
from tests.chatter import chatter, event, inversions, publish, repeats, subject_of
from tests.processes import Process, space_at, started, until
from tests.subscriber import Told

#: How often a consumer is killed, and events in all: a few in every run, 200 and 100,000 in `make test-deep`.
KILLS = int(os.environ.get("PARTYLINE_KILLS", "8"))
EVENTS = int(os.environ.get("PARTYLINE_KILL_EVENTS", "4000"))
CONVERSATIONS = 300
CONSUMERS = 3
ROOT = Path(__file__).parent.parent


def consumer(stack: ExitStack, folder: Path, name: str, told: Told) -> Process:
    """A consumer, started."""
    command = [sys.executable, "-m", "tests.subscriber", msgspec.json.encode(told).decode()]
    return stack.enter_context(started(command, folder, name, {"PYTHONPATH": str(ROOT)}))


async def handled(redis: Redis, notes: str) -> list[tuple[str, int]]:
    """What was handled, in that order, by subject and sequence."""
    lines: Any = await redis.lrange(notes, 0, -1)
    return [(subject, int(sequence)) for subject, sequence, _ in (line.decode().split() for line in lines)]


async def all_handled(redis: Redis, notes: str, expected: int, seconds: float) -> list[tuple[str, int]]:
    """The same, once so many different events are in it."""
    deadline = time.monotonic() + seconds
    while len(set(found := await handled(redis, notes))) < expected:
        assert time.monotonic() < deadline, f"{len(set(found))} of {expected} events within {seconds:g} s"
        await asyncio.sleep(0.1)
    return found


@asynccontextmanager
async def flowing(redis: Redis, keyspace: Keyspace, seconds: float) -> AsyncIterator[None]:
    """Events come into the stream meanwhile, over so much time."""
    envelopes = list(chatter(CONVERSATIONS, EVENTS))
    size = max(1, EVENTS // 200)

    async def flow() -> None:
        for at in range(0, EVENTS, size):
            await publish(redis, keyspace, envelopes[at : at + size])
            await asyncio.sleep(seconds * size / EVENTS)

    flow_task = asyncio.create_task(flow())
    yield
    await flow_task


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_consumers_killed_at_random_miss_nothing_and_invert_nothing(
    folder: Path, redis: Redis, redis_url: str, namespace: str, keyspace: Keyspace
) -> None:
    """Every event is handled, and first handlings are in each conversation's order, whoever dies when."""
    random, notes = Random(7), f"notes:{namespace}"
    # So many kills may hit an innocent event in a row that it had better have more tries than usual.
    told = Told(redis_url, namespace, "crm", notes, tries=30, takes=0.002)
    with ExitStack() as stack:
        working = [consumer(stack, folder, f"consumer-{number}", told) for number in range(CONSUMERS)]
        for each in working:
            await each.says("begins")
        async with flowing(redis, keyspace, seconds=KILLS * 0.6):
            for kill in range(KILLS):
                await asyncio.sleep(random.uniform(0.2, 0.6))
                victim = random.randrange(CONSUMERS)
                working[victim].signal(signal.SIGKILL)
                await working[victim].status()
                working[victim] = consumer(stack, folder, f"consumer-{CONSUMERS + kill}", told)
        found = await all_handled(redis, notes, EVENTS, seconds=30 + EVENTS / 200)
        again = repeats(found)

    print(f"\n{EVENTS} events, {KILLS} kills of {CONSUMERS} consumers: {again} repeats")
    assert set(found) == {(each.subject, each.sequence) for each in map(_named, chatter(CONVERSATIONS, EVENTS))}
    assert inversions(found) == []
    assert await redis.xlen(keyspace.undeliverable("crm")) == 0


class _Named(msgspec.Struct):
    subject: str
    number: str = msgspec.field(name="sequence")

    @property
    def sequence(self) -> int:
        return int(self.number)


def _named(envelope: bytes) -> _Named:
    return msgspec.json.decode(envelope, type=_Named)


async def test_a_restart_of_redis_in_the_middle_needs_nothing_of_the_subscriber(folder: Path, namespace: str) -> None:
    """The server is killed and started again while events flow: consumers wait for it, and no event is missed."""
    keyspace, notes = Keyspace(namespace), f"notes:{namespace}"
    count = 600
    envelopes = list(chatter(20, count))
    with EmbeddedRedis(folder / "r") as server, ExitStack() as stack:
        told = Told(server.url, namespace, "crm", notes, takes=0.002)
        for number in range(2):
            await consumer(stack, folder, f"consumer-{number}", told).says("begins")
        async with space_at(server.url, namespace) as space:
            await publish(space.redis, keyspace, envelopes[: count // 2])
            await all_handled(space.redis, notes, 20, seconds=20)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.sleep(2 * told.lease_seconds)  # longer than any lease: consumers have to join anew
            await until(lambda: server.start_again_if_dead() is not None, "the server is started again")
        async with space_at(server.url, namespace) as space:
            await answering(space.redis)
            await publish(space.redis, keyspace, envelopes[count // 2 :])
            found = await all_handled(space.redis, notes, count, seconds=30)

    assert inversions(found) == []


async def answering(redis: Redis) -> None:
    """Wait until a server that was just started answers."""
    deadline = time.monotonic() + 20
    while True:
        with suppress(RedisError, OSError):
            await redis.ping()
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_the_lanes_of_a_dead_consumer_are_taken_over(
    folder: Path, redis: Redis, redis_url: str, namespace: str, keyspace: Keyspace
) -> None:
    """Once its lease has run out, the other one handles what was a killed consumer's."""
    notes = f"notes:{namespace}"
    told = Told(redis_url, namespace, "crm", notes)
    with ExitStack() as stack:
        first = consumer(stack, folder, "first", told)
        await first.says("begins")
        second = consumer(stack, folder, "second", told)
        await second.says("begins")
        await shared(redis, keyspace, 2)
        first.signal(signal.SIGKILL)
        await publish(redis, keyspace, [event(subject_of(number), 1) for number in range(100)])
        found = await all_handled(redis, notes, 100, seconds=10)

    assert len(found) == 100
    assert len(set((await holders(redis, keyspace)).values())) == 1


async def test_a_consumer_that_was_frozen_past_its_lease_moves_no_cursor(
    folder: Path, redis: Redis, redis_url: str, namespace: str, keyspace: Keyspace
) -> None:
    """A zombie begins no event of lanes that are another's, inverts nothing, and takes its share anew."""
    notes = f"notes:{namespace}"
    told = Told(redis_url, namespace, "crm", notes, takes=0.005)
    with ExitStack() as stack:
        zombie = consumer(stack, folder, "zombie", told)
        await zombie.says("begins")
        await publish(redis, keyspace, chatter(40, 1000))
        await all_handled(redis, notes, 50, seconds=20)
        zombie.signal(signal.SIGSTOP)
        other = consumer(stack, folder, "other", told)
        await other.says("begins")
        await all_handled(redis, notes, 1000, seconds=20)
        known = await noted_by(zombie, redis, notes)
        before: Any = await redis.hgetall(keyspace.lane_cursors("crm"))
        zombie.signal(signal.SIGCONT)
        await zombie.says("the lease ran out")
        await shared(redis, keyspace, 2)
        found = await handled(redis, notes)
        woken = await noted_by(zombie, redis, notes) - known
        after: Any = await redis.hgetall(keyspace.lane_cursors("crm"))

    assert inversions(found) == []
    assert woken <= CONCURRENCY  # what it was at when it was frozen, and nothing else
    assert all(tuple(map(int, after[lane].split(b"-"))) >= tuple(map(int, before[lane].split(b"-"))) for lane in before)


async def noted_by(process: Process, redis: Redis, notes: str) -> int:
    """How many events one consumer has handled."""
    lines: Any = await redis.lrange(notes, 0, -1)
    return sum(line.endswith(f" {process.pid}".encode()) for line in lines)


async def holders(redis: Redis, keyspace: Keyspace) -> dict[int, bytes]:
    """Who holds each lane."""
    found: Any = await redis.hgetall(keyspace.lane_holders("crm"))
    return {int(lane): token for lane, token in found.items()}


async def shared(redis: Redis, keyspace: Keyspace, consumers: int) -> None:
    """Wait until so many have fair shares of all lanes."""
    async with asyncio.timeout(10):
        while True:
            found = list((await holders(redis, keyspace)).values())
            counts = sorted(found.count(token) for token in set(found))
            if len(counts) == consumers and sum(counts) == 64 and counts[-1] - counts[0] <= 1:
                return
            await asyncio.sleep(0.05)


async def outlived(process: Process, redis: Redis, notes: str) -> Process | None:
    """The process, once the two events that are no poison were handled; None: it died before."""
    deadline = time.monotonic() + 20
    while len(set(await handled(redis, notes))) < 2:
        if not any(kin.alive for kin in process.family()):
            return None
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return process


async def test_an_event_that_kills_its_consumer_is_given_up(
    folder: Path, redis: Redis, redis_url: str, namespace: str, keyspace: Keyspace
) -> None:
    """After its tries it is a dead letter, though nobody lived to count them; what follows it is handled."""
    notes, poisoned = f"notes:{namespace}", subject_of(3)
    [deadly] = {f"telnyx:main-telnyx:{poisoned[3:]}-2"}
    told = Told(redis_url, namespace, "crm", notes, tries=2, deadly=deadly, lease_seconds=0.3)
    await publish(redis, keyspace, [event(poisoned, sequence) for sequence in (1, 2, 3)])
    survivor: Process | None = None
    deaths = 0
    with ExitStack() as stack:
        while survivor is None:
            process = consumer(stack, folder, f"victim-{deaths}", told)
            survivor = await outlived(process, redis, notes)
            deaths += survivor is None

    letters: Any = await redis.xrange(keyspace.undeliverable("crm"))
    [(_, letter)] = letters
    assert set(await handled(redis, notes)) == {(poisoned, 1), (poisoned, 3)}
    # The first death is nobody's in particular: only what was tried with doubts is counted.
    assert deaths == 3
    assert {name: letter[name] for name in (b"event", b"reason", b"tries")} == {
        b"event": deadly.encode(),
        b"reason": b"not acknowledged",
        b"tries": b"2",
    }
