"""`partyline subscribers`: groups seen from outside, over a real Redis with real consumers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from correlator.subscribe import Published, Retry, Subscription
from correlator.subscribers import GivenUp, Group, Subscribers
from schemas.keyspace import Keyspace
from tests.chatter import event, publish
from tests.command_line import Run, command_line
from tests.service import everything

Make = Callable[..., Subscription]


@pytest.fixture
def subscribe(redis_url: str, namespace: str) -> Make:
    """Makes a consumer of the test's namespace that gives up quickly."""

    def make(group: str, **options: Any) -> Subscription:
        usual: dict[str, Any] = {"partitions": 1, "start": "beginning", "retry": Retry(2, 0.01, 0.02), "lanes": 4}
        return Subscription(redis_url, namespace=namespace, group=group, **usual | options)

    return make


async def refuse(event: Published) -> None:
    """A handler that fails with what bears the text of somebody."""
    raise LookupError(f"nobody is called {event.subject}")


async def give_up(redis: Redis, keyspace: Keyspace, subscription: Subscription, group: str, count: int) -> None:
    """Run a consumer whose handler fails until it has given up on so many events."""
    running = asyncio.create_task(subscription.run(refuse))
    async with asyncio.timeout(20):
        while await redis.xlen(keyspace.undeliverable(group)) < count:  # noqa: ASYNC110 - another client writes it
            await asyncio.sleep(0.01)
    subscription.stop()
    await running


async def all_held(subscribers: Subscribers, name: str) -> Group:
    """A group, once its consumers have taken all lanes."""
    for _ in range(500):
        group = await subscribers.group(name)
        if group and group.held == group.lanes:
            return group
        await asyncio.sleep(0.01)
    raise AssertionError(f"not all lanes of {name} are held")


async def test_a_namespace_without_subscribers_has_no_groups(redis: Redis, keyspace: Keyspace) -> None:
    """Nothing is there, and nothing is made by looking."""
    subscribers = Subscribers([(redis, keyspace)])

    assert await subscribers.names() == []
    assert await subscribers.group("crm") is None
    assert await subscribers.given_up("crm", 5) == []
    assert await everything(redis, keyspace) == {}


async def test_a_group_is_seen_as_it_is(redis: Redis, keyspace: Keyspace, subscribe: Make) -> None:
    """How many lanes are held by how many consumers, and the age of what is not handled; looking changes nothing."""
    for number in (1, 2):
        await redis.xadd(keyspace.events, {"event": event("cv_a", number)}, id=f"{number}000-0")
    subscribers = Subscribers([(redis, keyspace)], clock=lambda: 10.5)
    async with subscribe("crm") as one, subscribe("inbox", lanes=3) as other:
        loops = [aiter(one), aiter(other)]  # a loop that nobody holds is left at once
        for loop in loops:
            await anext(loop)
        await redis.sadd(keyspace.consumers("crm"), "died")
        before = await redis.smembers(keyspace.consumers("crm"))

        assert await subscribers.names() == ["crm", "inbox"]
        assert await all_held(subscribers, "crm") == Group("crm", 4, 4, 1, 9.5, "1000-0", 0, 0)
        assert await all_held(subscribers, "inbox") == Group("inbox", 3, 3, 1, 9.5, "1000-0", 0, 0)
        assert await redis.smembers(keyspace.consumers("crm")) == before

    assert await subscribers.group("crm") == Group("crm", 4, 0, 0, 9.5, "1000-0", 0, 0)


async def test_what_a_group_gave_up_on_is_told(redis: Redis, keyspace: Keyspace, subscribe: Make) -> None:
    """With type and conversation as long as the stream has the event, the last one last."""
    await publish(redis, keyspace, [event("cv_a", 1), event("cv_a", 2), b"{"])
    await give_up(redis, keyspace, subscribe("crm"), "crm", 3)
    events: Any = await redis.xrange(keyspace.events)
    first, second, _ = (entry.decode() for entry, _ in events)
    await redis.xdel(keyspace.events, first)
    subscribers = Subscribers([(redis, keyspace)])
    told = await subscribers.given_up("crm", 10)
    found = {letter.position: letter for letter in told}
    group = await subscribers.group("crm")

    assert all(letter.at and abs((datetime.now(UTC) - letter.at).total_seconds()) < 60 for letter in told)
    assert _untimed(found[first]) == ("telnyx:main-telnyx:a-1", None, None, "LookupError", 2)
    assert _untimed(found[second]) == ("telnyx:main-telnyx:a-2", "message.received", "cv_a", "LookupError", 2)
    assert [_untimed(letter) for letter in told if not letter.event] == [("", None, None, "unreadable", 0)]
    assert await subscribers.given_up("crm", 1) == told[-1:]
    assert group is not None
    assert (group.dead, group.lag_seconds, group.position) == (3, 0.0, None)


async def test_a_group_is_seen_over_all_partitions(redis: Redis, keyspace: Keyspace, subscribe: Make) -> None:
    """Its lanes and letters are counted together, its consumers once; the lag is that of the one furthest behind."""
    second = Keyspace(keyspace.namespace, 1)
    await redis.xadd(keyspace.events, {"event": event("cv_a", 1)}, id="5000-0")
    await redis.xadd(second.events, {"event": event("cv_b", 1)}, id="3000-0")
    await redis.xadd(second.events, {"event": event("cv_b", 2)}, id="4000-0")
    subscribers = Subscribers([(redis, keyspace), (redis, second)], clock=lambda: 10.0)
    async with subscribe("crm", partitions=2) as subscription:
        events = aiter(subscription)  # a loop that nobody holds is left at once
        await anext(events)
        during = await all_held(subscribers, "crm")
    await give_up(redis, second, subscribe("crm", partitions=2), "crm", 2)

    assert await subscribers.names() == ["crm"]
    assert during == Group("crm", 8, 8, 1, 7.0, "3000-0", 1, 0)
    assert [(each.event, each.partition) for each in await subscribers.given_up("crm", 9) if each.partition] == [
        ("telnyx:main-telnyx:b-1", 1),
        ("telnyx:main-telnyx:b-2", 1),
    ]


def _untimed(letter: GivenUp) -> tuple[Any, ...]:
    return letter.event, letter.type, letter.subject, letter.reason, letter.tries


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def run(
    configured: Path,  # noqa: ARG001 - it makes the working directory
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Run:
    """Runs one command line to its end."""
    return command_line(monkeypatch, capsysbinary, "subscribers")


def test_groups_are_listed(run: Run, redis_url: str, keyspace: Keyspace, subscribe: Make) -> None:
    """A line a group, or JSON; before there is one, a sentence."""
    nobody = run("ls")
    asyncio.run(_filled(redis_url, keyspace, subscribe))
    listed, as_json = run("ls"), orjson.loads(run("ls", "--json").out)

    assert nobody.out == f"No group of subscribers has ever read the events of namespace {keyspace.namespace}.\n"
    assert (nobody.status, listed.status) == (0, 0)
    assert listed.words == [
        ["group", "lanes", "held", "consumers", "lag", "given", "up", "oldest", "to", "do"],
        ["crm", "4", "0", "0", "0.0", "s", "1", "-"],
    ]
    assert as_json == {
        "groups": [
            {
                "group": "crm",
                "lanes": 4,
                "held": 0,
                "consumers": 0,
                "lag_seconds": 0.0,
                "position": None,
                "partition": 0,
                "dead": 1,
            }
        ]
    }


def test_dead_letters_are_listed(run: Run, redis_url: str, keyspace: Keyspace, subscribe: Make) -> None:
    """When, which event, of what type and conversation, why, after how many tries, where."""
    asyncio.run(_filled(redis_url, keyspace, subscribe))
    listed = run("dead", "crm")
    [letter] = orjson.loads(run("dead", "crm", "--json").out)["letters"]
    unknown = run("dead", "c\x1b[2Jrm")

    assert listed.words[1][1:-1] == ["telnyx:main-telnyx:a-1", "message.received", "cv_a", "LookupError", "2"]
    assert listed.words[1] == [letter["at"], *listed.words[1][1:-1], letter["position"]]
    assert letter["tries"] == 2
    assert (unknown.status, unknown.out) == (1, "")
    assert f"in namespace {keyspace.namespace}; there are crm" in " ".join(unknown.err.split())
    assert "\x1b" not in unknown.err


def test_a_group_that_does_its_work_has_none(run: Run, redis_url: str, keyspace: Keyspace, subscribe: Make) -> None:
    """Which is said, and not left to an empty table; a name that is nobody's is not such a group."""
    none_at_all = run("dead", "crm")
    asyncio.run(_handled(redis_url, keyspace, subscribe))

    assert "there is none at all" in none_at_all.err
    assert run("dead", "crm").out == "crm has given up on nothing.\n"


async def _filled(redis_url: str, keyspace: Keyspace, subscribe: Make) -> None:
    async with Redis.from_url(redis_url) as redis:
        await publish(redis, keyspace, [event("cv_a", 1)])
        await give_up(redis, keyspace, subscribe("crm"), "crm", 1)


async def _handled(redis_url: str, keyspace: Keyspace, subscribe: Make) -> None:
    async with Redis.from_url(redis_url) as redis, subscribe("crm") as subscription:
        await publish(redis, keyspace, [event("cv_a", 1)])
        await anext(aiter(subscription))
