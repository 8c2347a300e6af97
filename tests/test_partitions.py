"""A namespace of several partitions: each account whole in one, each partition with a pipeline of its own."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from correlator.redis_client import connect
from correlator.subscribe import Published, Subscription
from receiver.captures import CaptureLog
from receiver.partitions import CaptureLogs
from receiver.samples import SAMPLES
from schemas.errors import StoreError
from schemas.keyspace import keyspaces
from schemas.wire import CAPTURE_FIELDS
from tests.farm import cluster
from tests.processes import Service, Space, partyline, service, until
from tests.traffic import without_gap_or_repeat

#: By CRC-32 of the names of the accounts, of three partitions.
PARTITION = {"telnyx": 1, "sendblue": 2, "sinch": 0, "whatsapp": 2}
SECONDS = 30


@asynccontextmanager
async def spaces_at(url: str, namespace: str) -> AsyncIterator[list[Space]]:
    """What stands in each of three partitions."""
    async with AsyncExitStack() as stack:
        spaces = []
        for keys in keyspaces(namespace, 3):
            redis = connect(url, 5.0, keys)
            stack.push_async_callback(redis.aclose)
            space = Space(redis, namespace)
            space.keys = keys
            spaces.append(space)
        yield spaces


async def post_samples(running: Service, tag: str) -> Counter[int]:
    """A sample conversation of each provider; how many callbacks were for each partition."""
    posted: Counter[int] = Counter()
    for provider, partition in PARTITION.items():
        for body in SAMPLES[provider](datetime.now(UTC), tag):
            response = await running.post(provider, body)
            assert response.status_code == 200, response.text
            posted[partition] += 1
    return posted


async def events_of(spaces: list[Space]) -> list[dict[str, Any]]:
    """Every event of every partition, once all captures are committed."""
    found = []
    for number, space in enumerate(spaces):
        await space.worked_off(SECONDS)
        events = await space.events()
        assert {PARTITION[event["data"]["provider"]["name"]] for event in events} == {number}
        found += events
    return found


async def subscribed(url: str, namespace: str, count: int) -> list[Published]:
    """So many events, as a consumer gets them that knows of no partitions."""
    handled: list[Published] = []
    subscription = Subscription(url, namespace=namespace, group="crm", start="beginning")

    async def handle(one: Published) -> None:
        handled.append(one)
        if len(handled) == count:
            subscription.stop()

    async with asyncio.timeout(SECONDS):
        await subscription.run(handle)
    return handled


@pytest.mark.slow
async def test_each_account_lives_in_its_partition(folder: Path, redis_url: str, namespace: str) -> None:
    """Callbacks go into the log of their account's partition, whose pipeline publishes them there; readers get all."""
    redis = {"url": redis_url, "partitions": 3}
    async with service(folder, namespace, redis=redis) as running, spaces_at(redis_url, namespace) as spaces:
        posted = await post_samples(running, "one")
        events = await events_of(spaces)
        captures = [await space.captures() for space in spaces]
        handled = await subscribed(redis_url, namespace, len(events))
        ready = await running.client.get("/readyz")

    assert captures == [posted[number] for number in range(3)]
    assert without_gap_or_repeat(events)
    assert sorted(one.id for one in handled) == sorted(event["id"] for event in events)
    assert ready.status_code == 200


@pytest.mark.slow
async def test_a_pipeline_that_dies_holds_up_its_partition_alone(folder: Path, redis_url: str, namespace: str) -> None:
    """While one partition's pipeline is frozen the others publish; it goes on where it was."""
    redis = {"url": redis_url, "partitions": 3}
    async with service(folder, namespace, redis=redis) as running, spaces_at(redis_url, namespace) as spaces:
        await post_samples(running, "before")
        before = len(await events_of(spaces))
        frozen = running.process.member("-m receiver pipeline 1")
        frozen.signal(signal.SIGSTOP)
        await post_samples(running, "after")
        await spaces[0].worked_off()
        await spaces[2].worked_off()
        waiting = await spaces[1].redis.get(spaces[1].keys.cursor)
        newest = (await spaces[1].redis.xrevrange(spaces[1].keys.captures, count=1))[0][0]
        frozen.signal(signal.SIGCONT)
        events = await events_of(spaces)

    assert waiting < newest
    assert len(events) == 2 * before
    assert without_gap_or_repeat(events)


@pytest.mark.slow
async def test_the_command_line_covers_every_partition(folder: Path, redis_url: str, namespace: str) -> None:
    """What lists or looks up covers all; what works on one log asks which, unless an account tells."""
    redis = {"url": redis_url, "partitions": 3}
    async with service(folder, namespace, redis=redis) as running, spaces_at(redis_url, namespace) as spaces:
        posted = await post_samples(running, "one")
        events = await events_of(spaces)

    def run(*words: str) -> Any:
        ended = partyline(folder, *words)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    listed = run("captures", "ls", "--json", "--limit", "1000").splitlines()
    of_telnyx = next(event for event in events if event["data"]["provider"]["name"] == "telnyx")
    of_sendblue = next(event for event in events if event["data"]["provider"]["name"] == "sendblue")
    shown = json.loads(run("conversations", "show", of_telnyx["subject"], "--json"))
    undecided = partyline(folder, "replay", "--yes")
    apart = partyline(folder, "conversations", "link", of_telnyx["subject"], of_sendblue["subject"])

    assert len(listed) == posted.total()
    assert shown["account"] == "telnyx/main-telnyx"
    assert of_telnyx["data"]["capture"] in run("captures", "show", of_telnyx["data"]["capture"])
    assert (undecided.returncode, "say which is meant" in undecided.stderr) == (1, True)
    assert json.loads(run("replay", "--yes", "--json", "--account", "main-telnyx"))["captures"] == posted[1]
    assert json.loads(run("--partition", "2", "replay", "--yes", "--json"))["captures"] == posted[2]
    assert "different partitions" in apart.stderr
    assert partyline(folder, "--partition", "3", "replay", "--yes").returncode == 1


@pytest.mark.slow
async def test_a_cluster_spreads_partitions_and_loses_nothing_with_a_master(folder: Path, namespace: str) -> None:
    """The master of one partition is killed: callbacks wait in the spool, and all are published once it is replaced."""
    async with cluster(folder) as farm, spaces_at(farm.url, namespace) as spaces:
        redis = {"url": farm.url, "partitions": 3, "wait_replicas": 1, "write_deadline": "0.5s"}
        async with service(folder, namespace, redis=redis, spool={"dir": str(folder / "spool")}) as running:
            await post_samples(running, "before")
            before = len(await events_of(spaces))
            master = await farm.master(spaces[1].keys)
            master.kill()
            await post_samples(running, "during")
            assert (await farm.master(spaces[1].keys)).port != master.port
            master.start_again()
            await until(lambda: "the spool is drained" in running.process.log, "the spool is drained", SECONDS)
            events = await events_of(spaces)

    assert len(events) == 2 * before
    assert without_gap_or_repeat(events)


@pytest.mark.slow
async def test_another_number_of_partitions_is_refused(folder: Path, redis_url: str, namespace: str) -> None:
    """Accounts would be looked for where they never were."""
    async with service(folder, namespace, redis={"url": redis_url, "partitions": 3}):
        pass
    config = folder / "partyline.toml"
    config.write_text(config.read_text().replace("partitions = 3", "partitions = 2"))
    refused = partyline(folder, "serve")

    assert refused.returncode == 78
    assert "redis.partitions" in refused.stderr


# --- several logs as one ---


def entry(account: str, name: str) -> list[bytes]:
    """The values of a capture."""
    values = {b"id": name.encode(), b"account": account.encode()}
    return [values.get(field, b"") for field in CAPTURE_FIELDS]


async def names_in(redis: Any, stream: str) -> list[str]:
    """The ids in a log, in order."""
    return [fields[b"id"].decode() for _, fields in await redis.xrange(stream)]


async def test_captures_go_to_their_logs_and_are_found_there(redis: Redis, namespace: str) -> None:
    """Each account's in their order; places are remembered for each log, and only what stands after them is found."""
    spaces = keyspaces(namespace, 3)
    logs = CaptureLogs([CaptureLog(redis, keys) for keys in spaces])
    empty = await logs.last()
    first = await logs.append([entry("main-telnyx", "a"), entry("main-sinch", "b"), entry("main-telnyx", "c")])
    await logs.append([entry("main-sinch", "d"), entry("main-sendblue", "e")])
    everything = {b"a", b"b", b"c", b"d", b"e"}

    assert empty == "0-0,0-0,0-0"
    assert [await names_in(redis, keys.captures) for keys in spaces] == [["b", "d"], ["a", "c"], ["e"]]
    assert await logs.find(everything, [empty]) == everything
    assert await logs.find(everything, [first]) == {b"d", b"e"}
    assert await logs.find(everything, ["0-1"]) == everything
    assert await logs.find(everything, [first, "0-1"]) == everything
    assert await logs.last() != first


async def test_a_log_that_fails_fails_the_write(redis: Redis, namespace: str) -> None:
    """What other logs took is there all the same, as the caller is told to expect."""
    spaces = keyspaces(namespace, 3)
    await redis.set(spaces[0].captures, "no stream")
    logs = CaptureLogs([CaptureLog(redis, keys) for keys in spaces])
    with pytest.raises(StoreError):
        await logs.append([entry("main-telnyx", "a"), entry("main-sinch", "b")])

    assert await names_in(redis, spaces[1].captures) == ["a"]
