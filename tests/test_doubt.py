"""Captures that kill the pipeline: how they are found out, given up, and what that leaves their neighbours."""

import asyncio
import signal
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from correlator.lease import LEASE_SECONDS, Lease
from correlator.redis_client import connect
from correlator.store import Store
from receiver import metrics
from receiver import pipeline as pipeline_module
from receiver.captures import CaptureLog
from receiver.doubt import BATCH, DEATHS, Doubt, is_hopeless
from receiver.embedded import EmbeddedRedis
from receiver.pipeline import Pipeline
from receiver.provider import Provider
from receiver.settings import Retention
from schemas.callback import Capture
from schemas.errors import LeaseLost
from schemas.events import Parsed
from schemas.keyspace import Keyspace
from tests.chaos.facts import MARK
from tests.engine import ID_KEY, MESSAGES_SECONDS, NOW, Engine
from tests.processes import service, started, write_config
from tests.test_pipeline import PROVIDING, WORDS, Runs
from tests.traffic import BOB, telnyx

# --- the rules --------------------------------------------------------------------------------------------


def test_nothing_is_doubted_at_first() -> None:
    """Captures are read in batches, as long as no pipeline has died."""
    doubt = Doubt()

    assert not doubt
    assert doubt.batch == BATCH


def test_after_a_death_as_many_are_tried_alone_as_a_batch_has() -> None:
    """Whatever the dead pipeline had read is tried one by one; then all is as before."""
    doubt = Doubt()
    doubt.arise()
    batches = []
    while doubt:
        batches.append(doubt.batch)
        doubt.lessen()

    assert batches == [1] * BATCH
    assert doubt.batch == BATCH


def test_a_capture_is_given_up_after_three_deaths() -> None:
    """It is tried three times alone, and not a fourth time."""
    assert [is_hopeless(tries) for tries in (1, 2, 3, 4)] == [False, False, False, True]


# --- the record -------------------------------------------------------------------------------------------


async def _leased(redis: Redis, keyspace: Keyspace) -> Lease:
    """A lease that was just taken, the one before gone."""
    await redis.delete(keyspace.lease)
    lease = Lease(redis, keyspace, 10)
    assert await lease.take()
    return lease


async def test_a_pipeline_learns_whether_the_one_before_ended_in_order(redis: Redis, keyspace: Keyspace) -> None:
    """It did not where it still stands in the record: it died, or was frozen past its lease."""
    said = []
    for ends in (True, False, True, True):
        lease = await _leased(redis, keyspace)
        said.append(await lease.trials.begin(lease.token))
        if ends:
            await lease.trials.end()

    assert said == [False, False, True, False]
    assert await redis.exists(keyspace.trials) == 0


async def test_a_pipeline_that_takes_its_own_lease_again_has_not_died(redis: Redis, keyspace: Keyspace) -> None:
    """After an outage of Redis it goes on under another token."""
    lease = await _leased(redis, keyspace)
    await lease.trials.begin(lease.token)
    await redis.delete(keyspace.lease)
    await lease.take()

    assert await lease.trials.begin(lease.token) is False


async def test_tries_are_counted_by_pipeline_and_position(redis: Redis, keyspace: Keyspace) -> None:
    """Each pipeline counts once for a capture, however often it tries; another capture begins at one."""
    counts = []
    for _ in range(3):
        lease = await _leased(redis, keyspace)
        await lease.trials.begin(lease.token)
        counts.append([await lease.trials.count("5-0") for _ in range(2)])
    counts.append([await lease.trials.count("6-0")])
    await lease.trials.settle()

    assert counts == [[1, 1], [2, 2], [3, 3], [1]]
    assert await redis.hkeys(keyspace.trials) == [b"token"]


async def test_a_zombie_notes_nothing(redis: Redis, keyspace: Keyspace) -> None:
    """Who has lost the lease learns so, and changes neither the count nor who is at work."""
    zombie = await _leased(redis, keyspace)
    await zombie.trials.begin(zombie.token)
    lease = await _leased(redis, keyspace)
    await lease.trials.begin(lease.token)
    await lease.trials.count("5-0")
    before = await redis.hgetall(keyspace.trials)
    for late in (zombie.trials.count("5-0"), zombie.trials.settle(), zombie.trials.end(), zombie.trials.begin("x")):
        with pytest.raises(LeaseLost):
            await late

    assert await redis.hgetall(keyspace.trials) == before


# --- the pipeline -----------------------------------------------------------------------------------------


class _Died(BaseException):
    """The end of a pipeline's process, as far as anybody else can tell: it says nothing and tidies nothing up."""


def _dying(capture: Capture) -> list[Parsed]:
    if b"deadly" in capture.body:
        raise _Died
    return WORDS.parse(capture)


DYING: Mapping[str, Provider] = {**PROVIDING, "words": Provider("words", (), _dying, _dying)}


@pytest.fixture
def runs(redis: Redis, keyspace: Keyspace, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """A capture log, and pipelines that wait only briefly for what comes."""
    monkeypatch.setattr(pipeline_module, "_WAIT_MILLISECONDS", 40)
    monkeypatch.setattr(pipeline_module, "_RETAKE_SECONDS", 0.02)
    return Runs(Engine(redis, keyspace), redis_url)


async def _work(runs: Runs) -> bool:
    """Run a pipeline until all is committed and it is stopped in order, or it dies; whether it has lived."""
    redis, keyspace = connect(runs.url, 10.0), runs.engine.keyspace
    store = Store(redis, keyspace, ID_KEY, MESSAGES_SECONDS)
    lease = Lease(redis, keyspace, LEASE_SECONDS)
    pipeline = Pipeline(CaptureLog(redis, keyspace), store, lease, DYING, Retention())
    running = asyncio.create_task(pipeline.run())
    settled = asyncio.create_task(runs.settled())
    try:
        await asyncio.wait([running, settled], return_when=asyncio.FIRST_COMPLETED)
        pipeline.stop()
        await asyncio.wait([running], timeout=5)
        return running.exception() is None
    finally:
        await runs.engine.redis.delete(keyspace.lease)  # who has died gives it back to nobody: its time runs out
        while not settled.done():  # redis-py may swallow being cancelled in the middle of a command
            settled.cancel()
            await asyncio.wait([settled], timeout=0.5)
        await redis.aclose()


async def _letters(runs: Runs) -> list[tuple[str, str]]:
    found: Any = await runs.engine.redis.xrange(runs.engine.keyspace.dead)
    return [(fields[b"capture"].decode(), fields[b"reason"].decode()) for _, fields in found]


async def test_what_kills_pipelines_becomes_a_dead_letter_and_its_neighbours_events(runs: Runs) -> None:
    """The first death is of a whole batch; the next three at the capture alone; the fifth pipeline gives it up."""
    await runs.receive(b"one", b"two", b"deadly three", b"four", b"five")
    lived = [await _work(runs) for _ in range(DEATHS + 2)]

    assert lived == [False] * 4 + [True]
    assert await runs.messages() == ["one", "two", "four", "five"]
    assert await _letters(runs) == [("cp_3", "process_died")]
    assert await runs.engine.redis.exists(runs.engine.keyspace.trials) == 0


async def test_two_that_kill_are_both_found_out(runs: Runs) -> None:
    """The second is met alone by who has given up the first, in the same life."""
    await runs.receive(b"deadly one", b"two", b"deadly three", b"four")
    lived = [await _work(runs) for _ in range(2 * DEATHS + 2)]

    assert lived == [False] * 7 + [True]
    assert await runs.messages() == ["two", "four"]
    assert await _letters(runs) == [("cp_1", "process_died"), ("cp_3", "process_died")]


async def test_a_pipeline_that_was_killed_gives_nothing_up(runs: Runs) -> None:
    """Deaths that are nobody's fault cost nothing but a while of single steps; after it, batches are read again."""
    await runs.receive(*[b"w%d" % number for number in range(BATCH + 50)])
    for _ in range(DEATHS + 2):
        lease = await _leased(runs.engine.redis, runs.engine.keyspace)
        await lease.trials.begin(lease.token)
    await runs.engine.redis.delete(runs.engine.keyspace.lease)
    async with runs.pipeline():
        await runs.settled(20)
        tried = await runs.engine.redis.hkeys(runs.engine.keyspace.trials)

    assert await runs.messages() == [f"w{number}" for number in range(BATCH + 50)]
    assert await _letters(runs) == []
    assert tried == [b"token"]


async def test_what_was_not_there_at_the_death_is_not_doubted(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the log is worked off, later captures are committed in batches again."""
    lease = await _leased(runs.engine.redis, runs.engine.keyspace)
    await lease.trials.begin(lease.token)
    await runs.engine.redis.delete(runs.engine.keyspace.lease)
    committed: list[int] = []
    async with runs.pipeline() as (_, store):
        commit = store.commit

        async def counting(token: str, after: str, entries: Any) -> Any:
            committed.append(len(entries))
            return await commit(token, after, entries)

        monkeypatch.setattr(store, "commit", counting)
        await runs.receive(b"one", b"two")
        await runs.settled()
        await asyncio.sleep(0.2)
        await runs.receive(b"three", b"four")
        await runs.settled()

    assert committed[-1] == 2
    assert await runs.messages() == ["one", "two", "three", "four"]


async def test_a_letter_without_a_time_says_nothing_of_the_lag(runs: Runs) -> None:
    """What was given up, or is damaged, was never read: how old it was is not known, and alerts stay quiet."""
    await runs.receive(b"one")
    await runs.engine.redis.xadd(runs.engine.keyspace.captures, {"id": "cp_damaged"})
    async with runs.pipeline():
        await runs.settled()
        await runs.engine.redis.xadd(runs.engine.keyspace.captures, {"id": "cp_damaged_too"})
        await runs.settled()

    lag = (datetime.now(UTC) - NOW).total_seconds()

    assert metrics.LAG_SECONDS.labels(0)._value.get() == pytest.approx(max(0.0, lag), abs=30)
    assert [reason for _, reason in await _letters(runs)] == ["damaged", "damaged"]


# --- for real ---------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_process_that_a_capture_kills_for_real(folder: Path) -> None:
    """Processes end by kill -9 in the middle of parsing; the one after the third works everything off.

    The service's own was frozen and has lost its lease, which is no order either: so the first tries alone already.
    """
    deadly = telnyx("deadly", others=(BOB,)).replace(b"Is the ferry running?", MARK)
    with EmbeddedRedis(folder / "r") as server:
        async with service(folder, "doubt", redis={"url": server.url}) as running:
            pipeline = running.process.member("-m receiver pipeline")
            await _at_work(running)
            pipeline.signal(signal.SIGSTOP)
            for body in (telnyx("one"), deadly, telnyx("two")):
                assert (await running.post("telnyx", body)).status_code == 200
            statuses = []
            for number in range(DEATHS + 1):
                await running.space.expire_lease()
                statuses.append(await _one_life(folder, server.url, number, running))
            events = [event["id"].rpartition(":")[2] for event in await running.space.events()]
            [(_, letter)] = await running.space.redis.xrange(running.space.keys.dead)
            pipeline.signal(signal.SIGCONT)

    assert statuses == [-signal.SIGKILL] * 3 + [0]
    assert events == ["one", "two"]
    assert letter[b"reason"] == b"process_died"
    assert letter[b"detail"] == b"$: 3 pipelines died at it, one after the other"


async def _at_work(running: Any) -> None:
    """Wait until its pipeline has the lease: from then on it has not ended in order."""
    both = (running.space.keys.lease, running.space.keys.trials)
    async with asyncio.timeout(20):
        while await running.space.redis.exists(*both) < len(both):  # noqa: ASYNC110 - another process writes them
            await asyncio.sleep(0.02)


async def _one_life(folder: Path, url: str, number: int, running: Any) -> int:
    """A pipeline that dies of the mark, in a process of its own; how it ended, of itself or told to."""
    own = folder / f"life-{number}"
    own.mkdir()
    config = write_config(own, "doubt", redis={"url": url})
    environment = {
        "PARTYLINE_CONFIG": str(config),
        "PROMETHEUS_MULTIPROC_DIR": str(own),
        "PYTHONPATH": str(Path.cwd()),
    }
    command = [sys.executable, "-m", "tests.chaos.deadly", "-m", "receiver", "pipeline"]
    with started(command, own, "pipeline", environment) as process:
        deadline = time.monotonic() + 20
        while process.family() and process.family()[0].alive and time.monotonic() < deadline:
            if await running.space._is_worked_off():
                process.signal(signal.SIGTERM)
                break
            await asyncio.sleep(0.05)
        return await process.status()
