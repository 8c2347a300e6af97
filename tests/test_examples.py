"""The programs in deploy/examples, each as a process, beside a real receiver that is posted signed callbacks."""

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from receiver.embedded import EmbeddedRedis
from receiver.samples import SAMPLES
from tests.bodies import telnyx_received, telnyx_report, telnyx_sent
from tests.examples import EXAMPLES, SERVER, level, receive, register
from tests.npm import install_with_npm
from tests.processes import Process, Service, kill, service, started, until

GROUP = "inbox"
ANN, BOB, CAT, DAN = "+15555550111", "+15555550112", "+15555550113", "+15555550114"

pytestmark = pytest.mark.slow


@pytest.fixture
async def receiver(folder: Path, namespace: str, redis_url: str) -> AsyncIterator[Service]:
    """A receiver with the four accounts, at the session's Redis."""
    async with service(folder, namespace, redis={"url": redis_url}, server=SERVER) as running:
        yield running


async def post_samples(receiver: Service, tag: str) -> list[dict[str, Any]]:
    """Post the sample conversation of each provider, signed; the stream once all of it is published."""
    for provider, bodies in SAMPLES.items():
        for body in bodies(datetime.now(UTC), tag):
            assert (await receiver.post(provider, body)).status_code == 200
    await receiver.settled()
    return await receiver.space.events()


def as_printed(events: list[dict[str, Any]]) -> list[str]:
    """What the consumers print of events, in the order of the stream."""
    return [f"{int(event['sequence'])} {event['type']} {event['subject']} {event['id']}" for event in events]


def by_conversation(lines: list[str]) -> dict[str, list[str]]:
    """Printed lines of each conversation, in their order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line.split()[2], []).append(line)
    return found


# --- consumer.py ------------------------------------------------------------------------------------------


def python_consumer(
    folder: Path, receiver: Service, redis_url: str, name: str, group: str = GROUP
) -> AbstractContextManager[Process]:
    """The Python consumer, its database in the folder."""
    environment = {
        "PARTYLINE_REDIS__URL": redis_url,
        "PARTYLINE_NAMESPACE": receiver.space.keys.namespace,
        "PARTYLINE_GROUP": group,
    }
    return started([sys.executable, str(EXAMPLES / "consumer.py")], folder, name, environment)


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query finds in the consumer's database."""
    with closing(sqlite3.connect(folder / "inbox.sqlite3")) as database:
        return database.execute(query).fetchall()


async def test_the_python_consumer_handles_each_event_once(folder: Path, receiver: Service, redis_url: str) -> None:
    """Killed and started again it misses nothing and does nothing twice; told to stop it ends with status 0."""
    first = await post_samples(receiver, "one")
    with python_consumer(folder, receiver, redis_url, "killed") as killed:
        await lines_of(killed, 3)
        kill(killed.family())
        await killed.status()
        before = killed.lines
    events = await post_samples(receiver, "two")
    with python_consumer(folder, receiver, redis_url, "after") as after:
        await level(receiver, GROUP)
        after.signal(signal.SIGTERM)
        assert await after.status() == 0
        lines = before + after.lines

    assert len(first) < len(events)
    assert {event for (event,) in rows(folder, "SELECT event FROM handled")} == {event["id"] for event in events}
    # The kill may come between the transaction and the line that tells of it: that line alone may be missing.
    assert set(lines) <= set(as_printed(events))
    assert len(lines) == len(set(lines))
    assert len(events) - len(lines) <= 1


async def test_the_python_consumer_passes_over_what_it_handled(folder: Path, receiver: Service, redis_url: str) -> None:
    """Every event comes again, to a group that begins anew on the same database: nothing is done a second time."""
    events = await post_samples(receiver, "one")
    with python_consumer(folder, receiver, redis_url, "first") as first:
        await level(receiver, GROUP)
        known = rows(folder, "SELECT * FROM messages ORDER BY event")
    with python_consumer(folder, receiver, redis_url, "second", "another") as second:
        await level(receiver, "another")

    assert by_conversation(first.lines) == by_conversation(as_printed(events))
    assert second.output == ""
    assert rows(folder, "SELECT * FROM messages ORDER BY event") == known
    assert {text for (text,) in rows(folder, "SELECT text FROM threads")} >= {"Lunch on Friday?", "Thanks, got it"}


async def test_the_python_consumer_follows_merges(folder: Path, receiver: Service, redis_url: str) -> None:
    """A key that was merged is known to mean its survivor, and what it stood for is shown there."""
    merged, survivor = await merge(receiver)
    with python_consumer(folder, receiver, redis_url, "consumer"):
        await level(receiver, GROUP)

    assert rows(folder, "SELECT * FROM survivors") == [(merged, survivor)]
    assert rows(folder, "SELECT DISTINCT thread FROM threads") == [(survivor,)]
    assert rows(folder, "SELECT recipient, status FROM reports") == [(ANN, "delivered")]


async def merge(receiver: Service) -> tuple[str, str]:
    """A report that comes before its send is registered, so that its key is merged; that key, and what it means now."""
    sent = telnyx_sent(to=[ANN, BOB], group_message_id="group-message-1")
    await receive(receiver, telnyx_report(to=[ANN], group_message_id="group-message-1"))
    await register(receiver, sent)
    await receiver.settled()
    events = await receiver.space.events()
    [merger] = [event for event in events if event["type"] == "conversation.merged"]
    [key] = merger["data"]["merged"]
    assert key == events[0]["subject"]
    return key, merger["subject"]


# --- consumer.mjs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node example with what its lock names, installed by npm."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("consumer.mjs", "package.json", "package-lock.json"):
        shutil.copy(EXAMPLES / name, folder)
    install_with_npm(folder)
    return folder


def node_consumer(
    node_folder: Path, folder: Path, receiver: Service, redis_url: str, name: str
) -> AbstractContextManager[Process]:
    """The Node consumer."""
    environment = {"PARTYLINE_REDIS__URL": redis_url, "PARTYLINE_NAMESPACE": receiver.space.keys.namespace}
    return started(["node", str(node_folder / "consumer.mjs")], folder, name, environment)


class NodeState:
    """What the Node consumer keeps in Redis."""

    def __init__(self, receiver: Service) -> None:
        self._space = receiver.space
        self._own = f"inbox:{{{receiver.space.keys.namespace}}}"

    async def level(self) -> None:
        """Wait until its position is at the end of the stream."""
        [(last, _)] = await self._space.redis.xrevrange(self._space.keys.events, count=1)
        async with asyncio.timeout(30):
            while await self._space.redis.get(f"{self._own}:position") != last:  # noqa: ASYNC110 - the end is in Redis
                await asyncio.sleep(0.05)

    async def thread(self, key: str) -> list[str]:
        """The texts of a conversation."""
        kept = await self._space.redis.lrange(f"{self._own}:thread:{key}", 0, -1)
        return [orjson.loads(message)["text"] for message in kept]

    async def survivors(self) -> dict[bytes, bytes]:
        """Which key means which."""
        found: dict[bytes, bytes] = await self._space.redis.hgetall(f"{self._own}:survivors")
        return found


async def test_the_node_consumer_handles_each_event_once(
    node_folder: Path, folder: Path, receiver: Service, redis_url: str
) -> None:
    """Every event, each conversation in its order, also after a kill; SIGTERM ends it with status 0."""
    first = await post_samples(receiver, "one")
    state = NodeState(receiver)
    with node_consumer(node_folder, folder, receiver, redis_url, "killed") as killed:
        await state.level()
        kill(killed.family())
        await killed.status()
    events = await post_samples(receiver, "two")
    with node_consumer(node_folder, folder, receiver, redis_url, "after") as after:
        await state.level()
        after.signal(signal.SIGTERM)
        assert await after.status() == 0

    assert by_conversation(killed.lines) == by_conversation(as_printed(first))
    assert by_conversation(after.lines) == by_conversation(as_printed(events[len(first) :]))
    assert after.log == ""


async def test_the_node_consumer_does_nothing_twice(
    node_folder: Path, folder: Path, receiver: Service, redis_url: str
) -> None:
    """Events that were handled and that its position has not passed yet come again, and are passed over."""
    events = await post_samples(receiver, "one")
    own = f"inbox:{{{receiver.space.keys.namespace}}}"
    await receiver.space.redis.sadd(f"{own}:seen", *(event["id"] for event in events[:5]))
    with node_consumer(node_folder, folder, receiver, redis_url, "consumer") as consumer:
        await NodeState(receiver).level()
        lines = consumer.lines

    assert by_conversation(lines) == by_conversation(as_printed(events[5:]))


async def test_the_node_consumer_follows_merges(
    node_folder: Path, folder: Path, receiver: Service, redis_url: str
) -> None:
    """A key that was merged is known to mean its survivor."""
    merged, survivor = await merge(receiver)
    state = NodeState(receiver)
    with node_consumer(node_folder, folder, receiver, redis_url, "consumer"):
        await state.level()

    assert await state.survivors() == {merged.encode(): survivor.encode()}
    assert await state.thread(survivor) == [None]


async def test_what_the_node_consumer_cannot_handle_holds_back_what_follows(
    node_folder: Path, folder: Path, receiver: Service, redis_url: str
) -> None:
    """Later events of its conversation wait and the position stays, while another conversation is handled, once."""
    await receive(receiver, telnyx_received(cc=[BOB]))
    await receiver.settled()
    [first] = await receiver.space.events()
    unreadable = {**first, "id": "telnyx:main-telnyx:unreadable", "sequence": "9", "data": {}}
    await receiver.space.redis.xadd(receiver.space.keys.events, {"event": orjson.dumps(unreadable)})
    await receive(receiver, telnyx_received(cc=[BOB]))
    await receive(receiver, telnyx_received(sender=CAT))
    await receiver.settled()
    _, _, _, other = await receiver.space.events()
    with node_consumer(node_folder, folder, receiver, redis_url, "consumer") as consumer:
        await until(lambda: consumer.log.count("once more") > 1, "it has tried twice")
        lines = consumer.lines

    assert sorted(lines) == sorted(as_printed([first, other]))
    assert await receiver.space.redis.get(f"inbox:{{{receiver.space.keys.namespace}}}:position") is None


async def test_the_node_consumer_outlives_redis(node_folder: Path, folder: Path, namespace: str) -> None:
    """Redis is killed twice under load and started on its file again: nothing is missed, doubled or out of order."""
    with EmbeddedRedis(folder / "redis") as redis:
        async with service(folder, namespace, redis={"url": redis.url}, server=SERVER) as receiver:
            with node_consumer(node_folder, folder, receiver, redis.url, "consumer") as consumer:
                posting = asyncio.gather(*(chatter(receiver, others) for others in ([BOB], [BOB, CAT], [CAT, DAN])))
                for printed in (10, 70):
                    await lines_of(consumer, printed)
                    await restart(redis)
                await posting
                await receiver.settled()
                events = await receiver.space.events()
                state = NodeState(receiver)
                await state.level()
                threads = {key: await state.thread(key) for key in {event["subject"] for event in events}}
                lines = consumer.lines

    assert len(events) == len({event["id"] for event in events}) == 3 * CHATTER
    assert threads == texts(events)
    assert "waiting, then once more" in consumer.log
    assert len(lines) == len(set(lines))
    assert set(lines) <= set(as_printed(events))


CHATTER = 50


async def lines_of(consumer: Process, least: int) -> None:
    """Wait until it has printed so many lines."""
    await until(lambda: len(consumer.lines) >= least, f"{least} lines")


async def chatter(receiver: Service, others: list[str]) -> None:
    """Ann writes to a group again and again."""
    for number in range(CHATTER):
        posted = telnyx_received(cc=others)
        posted.body["data"]["payload"]["text"] = f"to {len(others)}: {number}"
        await receive(receiver, posted)
        await asyncio.sleep(0.01)


def texts(events: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The texts of each conversation, in the order of the stream."""
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event["subject"], []).append(event["data"]["message"]["text"])
    return found


async def restart(redis: EmbeddedRedis) -> None:
    """Kill the server, and start it again half a second later."""
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGKILL)
    await asyncio.sleep(0.5)
    assert redis.start_again_if_dead() == -signal.SIGKILL
