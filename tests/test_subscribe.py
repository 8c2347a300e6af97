"""The subscriber library, over a real Redis."""

import asyncio
import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from correlator.filtering import Filter
from correlator.lane_group import LaneGroup
from correlator.lanes import lane_of
from correlator.lookup import Lookup
from correlator.redis_client import connect
from correlator.subscribe import LANES, Lag, Published, Retry, Subscription, hints
from receiver.embedded import EmbeddedRedis
from schemas.errors import ConfigError, ParseError, StoreError
from schemas.events import ConversationMerged, EventBody, Link, Linked, Members, MessageReceived, Unrecognised
from schemas.ids import ConversationKey, EventId
from schemas.keyspace import Keyspace, keyspaces
from schemas.reader import Unknown, decode, glance
from tests.captured import fill, site_of, work_off
from tests.chatter import chatter, event, inversions, publish, repeats, subject_of
from tests.engine import ANN, BOB, CAT, pair, started
from tests.engine import event as event_of

QUICK = Retry(3, 0.01, 0.02)
SECONDS = 10


@pytest.fixture
def subscribe(redis_url: str, namespace: str) -> Callable[..., Subscription]:
    """Makes a consumer of the test's namespace."""

    def make(**options: Any) -> Subscription:
        usual: dict[str, Any] = {
            "namespace": namespace,
            "group": "crm",
            "start": "beginning",
            "retry": QUICK,
            "lease_seconds": 5.0,  # outlasts a machine that stalls: what comes again after that is no failure
            "partitions": 1,
        }
        return Subscription(options.pop("redis", redis_url), **usual | options)

    return make


async def take(subscription: Subscription, count: int) -> list[Published]:
    """So many events; all but the last are acknowledged."""
    found = []
    async with asyncio.timeout(SECONDS), subscription:
        async for one in subscription:
            found.append(one)
            if len(found) == count:
                break
    return found


async def handle(subscription: Subscription, count: int) -> list[Published]:
    """So many events, all acknowledged."""
    found = []
    async with asyncio.timeout(SECONDS), subscription:
        async for one in subscription:
            found.append(one)
            if len(found) == count:
                subscription.stop()
    return found


def ids(events: list[Published]) -> list[tuple[str, int | None]]:
    """What tells the events of `tests.chatter` apart."""
    return [(one.subject, one.sequence) for one in events]


@asynccontextmanager
async def running(subscription: Subscription, handler: Any, **options: Any) -> AsyncIterator["asyncio.Task[None]"]:
    """A subscription that hands events to a handler meanwhile."""
    task = asyncio.create_task(subscription.run(handler, **options))
    try:
        yield task
    finally:
        subscription.stop()
        await asyncio.wait_for(task, SECONDS)


async def until(holds: Callable[[], Any]) -> None:
    """Wait for something; it may have to be asked for."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


async def letters(redis: Any, keyspace: Keyspace) -> list[dict[str, str]]:
    """The dead letters of the group."""
    found = await redis.xrange(keyspace.undeliverable("crm"))
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]


# --- what is got ---


async def test_every_event_of_a_real_stream_is_got_with_its_type(
    redis: Redis, namespace: str, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """What the pipeline publishes is decoded whole: each body of the class that its type names."""
    site = site_of(redis, namespace)
    await fill(site, 400)
    await work_off(site)
    stream: Any = await redis.xrange(keyspace.events)
    found = await handle(subscribe(), len(stream))
    classes = {str(body.__struct_config__.tag): body for body in get_args(EventBody)}

    assert {one.raw for one in found} == {fields[b"event"] for _, fields in stream}
    assert {one.position for one in found} == {position.decode() for position, _ in stream}
    assert all(type(one.body) is classes[one.type] for one in found)
    assert len({one.type for one in found}) > 5
    assert all(one.conversation is None or one.conversation.key == one.subject for one in found)


async def test_a_conversation_comes_in_its_order(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Every event comes once, in the order of its conversation's sequence, whether iterated or handled at once."""
    envelopes = list(chatter(30, 1000))
    await publish(redis, keyspace, envelopes)
    iterated = ids(await handle(subscribe(), 1000))
    handled: list[Any] = []

    async def handler(one: Published) -> None:
        await asyncio.sleep(0)
        handled.append((one.subject, one.sequence))

    async with running(subscribe(group="other"), handler):
        await until(lambda: len(handled) >= 1000)

    assert [repeats(each) for each in (iterated, handled)] == [0, 0]  # type: ignore[arg-type]
    assert [inversions(each) for each in (iterated, handled)] == [[], []]  # type: ignore[arg-type]
    assert len(iterated) == len(handled) == 1000


def test_fields_that_are_not_known_are_ignored() -> None:
    """An envelope of a later version is read, and what is new in it is in `raw`."""
    later = orjson.loads(event("cv_a", 5))
    later |= {"later": 1}
    later["data"] |= {"later": 2}
    later["data"]["message"]["later"] = 3
    found = decode(orjson.dumps(later), "1-0")

    assert isinstance(found.body, MessageReceived)
    assert (found.sequence, found.position, orjson.loads(found.raw)["later"]) == (5, "1-0", 1)


def test_a_type_that_is_not_known_is_got_with_its_data() -> None:
    """A type that is added later is no error; neither is a word where this version knows a closed list."""
    later = decode(event("cv_a", 1, kind="message.translated", translated={"to": "fr"}))
    message = {**orjson.loads(event("cv_a", 1))["data"]["message"], "direction": "sideways"}
    sideways = decode(event("cv_a", 1, message=message))

    assert isinstance(later.body, Unknown)
    assert later.body.data["translated"] == {"to": "fr"}
    assert isinstance(sideways.body, Unknown)
    assert sideways.body.data["message"]["direction"] == "sideways"


def test_members_have_the_list_afterwards() -> None:
    """What the correlator adds to a body is in it."""
    members = {"added": ["+15555550111"], "removed": [], "after": ["+15555550111", "+15555550122"]}
    found = decode(event("cv_a", 1, kind="conversation.members", members=members))
    detail = decode(event("cv_a", 1, kind="unrecognised", detail={"a": 1}))

    assert getattr(found.body, "members", None) == Members(
        added=("+15555550111",),  # type: ignore[arg-type]
        removed=(),
        after=("+15555550111", "+15555550122"),  # type: ignore[arg-type]
    )
    assert detail.body == Unrecognised({"a": 1})


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"id":1}', event("cv_a", 1).replace(b'"0000', b'"x')])
def test_what_is_no_envelope_says_so(raw: bytes) -> None:
    """Whatever the bytes, that is a ParseError."""
    with pytest.raises(ParseError, match="no envelope"):
        decode(raw)


# --- acknowledging ---


async def test_asking_for_the_next_event_acknowledges_the_one_before(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """A loop that is left keeps its last event: that one comes again, and none before it."""
    await publish(redis, keyspace, [event("cv_a", sequence) for sequence in range(1, 6)])
    first = await take(subscribe(), 3)
    second = await handle(subscribe(), 3)

    assert [one.sequence for one in (*first, *second)] == [1, 2, 3, 3, 4, 5]


async def test_a_body_that_raises_acknowledges_nothing(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """The exception is the author's; the event comes again, to a loop that needed no `async with`."""
    await publish(redis, keyspace, [event("cv_a", 1), event("cv_a", 2)])
    subscription = subscribe()
    with pytest.raises(ZeroDivisionError):
        await _fail(subscription)
    again = [one.sequence for one in await handle(subscription, 2)]

    assert again == [1, 2]


async def _fail(subscription: Subscription) -> None:
    async for _ in subscription:
        raise ZeroDivisionError


async def test_an_event_that_is_never_acknowledged_is_given_up(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """The first time it was handed out counts for nothing, since what a consumer died of is not known then."""
    [poison, _] = await publish(redis, keyspace, [event("cv_a", 1), event("cv_a", 2)])
    seen = [(await take(subscribe(), 1))[0].sequence for _ in range(QUICK.tries + 2)]

    assert seen == [1, 1, 1, 1, 2]
    assert await letters(redis, keyspace) == [
        {"event": "telnyx:main-telnyx:a-1", "position": poison, "reason": "not acknowledged", "tries": "3"}
    ]


# --- handlers ---


async def test_an_event_whose_handler_fails_is_tried_again_and_given_up(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Its lane waits and others go on; after its tries it is a dead letter that has no text, and the lane goes on."""
    [_, poison, *_] = await publish(redis, keyspace, [event("cv_a", sequence) for sequence in (1, 2, 3)])
    tried: list[int | None] = []

    async def handler(one: Published) -> None:
        tried.append(one.sequence)
        if one.sequence == 2:
            raise ValueError(one.raw)

    async with running(subscribe(), handler):
        await until(lambda: len(tried) == 5)

    assert tried == [1, 2, 2, 2, 3]
    assert await letters(redis, keyspace) == [
        {"event": "telnyx:main-telnyx:a-2", "position": poison, "reason": "ValueError", "tries": "3"}
    ]


async def test_tries_are_counted_over_consumers(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """A consumer that stops between two tries leaves the count to the next one."""
    await publish(redis, keyspace, [event("cv_a", 1)])
    tried = 0

    async def handler(_: Published) -> None:
        nonlocal tried
        tried += 1
        raise ValueError

    for number in (1, 2, 3):
        async with running(subscribe(retry=Retry(3, 60.0, 60.0)), handler):
            await until(partial(_is, lambda: tried, number))
            await until(lambda: redis.hexists(keyspace.lane_tries("crm"), str(lane_of("cv_a", LANES))))
            await asyncio.sleep(0.05)

    assert tried == 3
    assert [letter["tries"] for letter in await letters(redis, keyspace)] == ["3"]


def _is(found: Callable[[], int], expected: int) -> bool:
    return found() == expected


async def test_conversations_are_handled_beside_each_other(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """As many at once as `concurrency` says, and never two events of one."""
    await publish(redis, keyspace, chatter(40, 400))
    busy: dict[str, int] = defaultdict(int)
    most = handled = 0

    async def handler(one: Published) -> None:
        nonlocal most, handled
        busy[one.subject] += 1
        assert busy[one.subject] == 1
        most = max(most, sum(busy.values()))
        await asyncio.sleep(0.002)
        busy[one.subject] -= 1
        handled += 1

    async with running(subscribe(), handler, concurrency=7):
        await until(lambda: handled == 400)

    assert most == 7


async def test_stopping_waits_for_what_is_under_way(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """A handler that has begun ends, its event is acknowledged, and none begins after that."""
    await publish(redis, keyspace, [event("cv_a", sequence) for sequence in (1, 2)])
    begun, ended = asyncio.Event(), list[int | None]()

    async def handler(one: Published) -> None:
        begun.set()
        await asyncio.sleep(0.1)
        ended.append(one.sequence)

    subscription = subscribe()
    async with running(subscription, handler):
        await begun.wait()
        subscription.stop()
    rest = await handle(subscribe(), 1)

    assert ended == [1]
    assert [one.sequence for one in rest] == [2]
    assert await redis.exists(keyspace.lane_holders("crm"), keyspace.consumers("crm")) == 0


async def test_a_handler_that_outlasts_the_grace_is_cancelled(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Its event comes again, and being cancelled by us is no try that failed."""
    await publish(redis, keyspace, [event("cv_a", 1)])
    begun = asyncio.Event()

    async def handler(_: Published) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with running(subscribe(), handler, grace_seconds=0.05):
        await begun.wait()

    assert [one.sequence for one in await handle(subscribe(), 1)] == [1]
    assert await redis.exists(keyspace.lane_tries("crm")) == 0


async def test_a_program_that_is_cancelled_leaves_in_order(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """What was acknowledged stays so, and the lanes are free at once."""
    await publish(redis, keyspace, [event("cv_a", sequence) for sequence in (1, 2, 3)])
    seen = list[int | None]()

    async def program() -> None:
        async for one in subscribe():
            seen.append(one.sequence)
            if one.sequence == 3:
                await asyncio.sleep(60)

    task = asyncio.create_task(program())
    await until(lambda: len(seen) == 3)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await until(lambda: _is_nobody_there(redis, keyspace))

    assert [one.sequence for one in await handle(subscribe(), 1)] == [3]


async def _is_nobody_there(redis: Redis, keyspace: Keyspace) -> bool:
    return not await redis.exists(keyspace.consumers("crm"))


async def test_bytes_that_are_no_event_are_given_up(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """What somebody else has put into the stream stops nobody."""
    await publish(redis, keyspace, [b"{", event("cv_a", 1), b'{"id":"x","type":"typing","subject":"cv_a"}'])
    await redis.xadd(keyspace.events, {"other": "field"})
    await publish(redis, keyspace, [event("cv_a", 2)])
    found = await handle(subscribe(), 2)
    await until(lambda: _has_letters(redis, keyspace, 3))

    assert [one.sequence for one in found] == [1, 2]
    assert {letter["reason"] for letter in await letters(redis, keyspace)} == {"unreadable"}


async def _has_letters(redis: Redis, keyspace: Keyspace, count: int) -> bool:
    return len(await letters(redis, keyspace)) == count


# --- where to begin ---


async def test_a_group_begins_where_it_is_told(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """At the beginning, after a position, or at a time of publication."""
    for sequence in range(1, 5):
        await redis.xadd(keyspace.events, {"event": event("cv_a", sequence)}, id=f"{sequence}000-0")
    starts: dict[str | datetime, int] = {"beginning": 4, "2000-0": 2, "0-0": 4, "3999-7": 1}
    starts |= {datetime.fromtimestamp(2, UTC): 3, datetime.fromtimestamp(2.001, UTC): 2}
    found = {
        start: [one.sequence for one in await handle(subscribe(group=f"g{number}", start=start), count)]
        for number, (start, count) in enumerate(starts.items())
    }

    assert found == {start: list(range(5 - count, 5)) for start, count in starts.items()}


async def test_a_new_group_begins_with_what_is_new(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Unless told otherwise; also where the newest entry is gone from the stream."""
    [_, last] = await publish(redis, keyspace, [event("cv_a", 1), event("cv_a", 2)])
    await redis.xdel(keyspace.events, last)
    task = asyncio.create_task(handle(subscribe(start="new"), 1))
    await until(lambda: redis.exists(keyspace.subscribers("crm")))
    await publish(redis, keyspace, [event("cv_a", 3)])

    assert [one.sequence for one in await task] == [3]
    assert await redis.hget(keyspace.subscribers("crm"), "start") == last.encode()


async def test_a_group_that_exists_goes_on_where_it_is(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Later consumers take over its place and its number of lanes, whatever they say themselves."""
    await publish(redis, keyspace, [event("cv_a", sequence) for sequence in (1, 2)])
    await handle(subscribe(lanes=3), 1)
    found = await handle(subscribe(lanes=50, start="beginning"), 1)

    assert [one.sequence for one in found] == [2]
    assert await redis.hget(keyspace.subscribers("crm"), "lanes") == b"3"


async def test_every_group_gets_everything(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Groups know nothing of each other."""
    await publish(redis, keyspace, chatter(5, 20))
    found = [ids(await handle(subscribe(group=group), 20)) for group in ("a", "b")]

    assert sorted(map(str, found[0])) == sorted(map(str, found[1]))


# --- filters ---


async def test_types_that_are_not_wanted_are_passed_over(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Cursors move past them all the same."""
    kinds = ["message.received", "typing", "message.received", "account.notice"]
    notice = {"notice": {"kind": "any", "detail": {}}}
    await publish(
        redis,
        keyspace,
        [
            event("cv_a", sequence, kind=kind, **(notice if kind == "account.notice" else {}))
            for sequence, kind in enumerate(kinds, 1)
        ],
    )
    subscription = subscribe(types=["message.received"])
    found = await handle(subscription, 2)
    async with running(subscription, _nothing):
        await until(lambda: _is_level(subscription))

    assert [one.sequence for one in found] == [1, 3]


async def _nothing(_: Published) -> None:
    """Handle an event without doing anything."""


async def _is_level(subscription: Subscription) -> bool:
    return await subscription.lag() == Lag(0.0, None)


async def test_a_conversation_is_named_by_any_key_that_ever_meant_it(
    redis: Redis, namespace: str, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """An old key gets what was published under it, under others that merged with it, and under the survivor."""
    site = site_of(redis, namespace)
    await fill(site, 400)
    await work_off(site)
    entries: Any = await redis.xrange(keyspace.events)
    stream: Any = [decode(fields[b"event"]) for _, fields in entries]
    merge = max((one for one in stream if isinstance(one.body, ConversationMerged)), key=lambda one: one.position)
    [old, *_] = merge.body.merged
    known = await Lookup(redis, keyspace, b"").conversation(ConversationKey(old))
    assert known is not None
    keys = {known["key"], *known["merged"]}
    expected = [one.id for one in stream if one.subject in keys]
    found = await handle(subscribe(conversations=[old]), len(expected))

    assert sorted(one.id for one in found) == sorted(expected)
    assert len({one.subject for one in found} | {old}) > 1


async def test_a_conversation_that_merges_meanwhile_is_followed(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """From the merge on, what comes under the survivor is of the conversation that was named; of others, nothing is."""
    engine = await started(redis, keyspace)
    await engine.feed(event_of("a", pair(ANN)), event_of("b", pair(BOB)), event_of("c", pair(CAT)))
    ann, bob, _ = await engine.subjects()
    survivor, old = sorted((ann, bob))
    found = list[str]()

    async def handler(one: Published) -> None:
        found.append(one.id.rpartition(":")[2])

    async with running(subscribe(conversations=[old]), handler):
        await until(lambda: found)
        link = Link(ConversationKey(ann), ConversationKey(bob))
        await engine.feed(Linked(EventId("link"), link))
        await engine.feed(event_of("later", pair(ANN)), event_of("other", pair(CAT)))
        await until(lambda: "later" in found)

    assert (await engine.subjects())[-2] == survivor
    assert found == ["a" if old == ann else "b", "link#merged", "later"]


def test_a_merge_counts_for_a_filter_by_any_of_its_keys() -> None:
    """Of conversations that are not wanted it neither holds anything up, nor changes what is wanted."""
    raw = event("cv_a", 1, kind="conversation.merged", merged=["cv_b", "cv_c"])
    head = glance(raw)
    filters = [Filter(), *(Filter(keys=frozenset({key})) for key in ("cv_a", "cv_b", "cv_d"))]
    both = ("cv_b", "cv_c")

    assert [each.orders(head, raw) for each in filters] == [both, both, (), ()]
    assert [each.is_moved_by(head, raw) for each in filters] == [False, True, True, False]


# --- several consumers ---


async def test_consumers_share_what_comes_and_repeat_nothing(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Consumers that come and go in order hand lanes over between two events: each event is handled once, in order."""
    handled: list[tuple[str, int]] = []
    by: dict[str, set[str]] = defaultdict(set)

    def handler_of(name: str) -> Any:
        async def handler(one: Published) -> None:
            await asyncio.sleep(0.001)
            assert one.sequence is not None
            handled.append((one.subject, one.sequence))
            by[name].add(one.subject)

        return handler

    envelopes = list(chatter(100, 1800))
    async with running(subscribe(), handler_of("a")):
        await publish(redis, keyspace, envelopes[:600])
        async with running(subscribe(), handler_of("b")), running(subscribe(), handler_of("c")):
            await until(lambda: _are_shared(redis, keyspace, 3))
            await publish(redis, keyspace, envelopes[600:1200])
            await until(lambda: len(handled) >= 1200)
        await publish(redis, keyspace, envelopes[1200:])
        await until(lambda: len(handled) >= 1800)

    assert (repeats(handled), inversions(handled), len(handled)) == (0, [], 1800)
    assert all(by[name] for name in "abc")


async def _are_shared(redis: Any, keyspace: Keyspace, consumers: int) -> bool:
    holders = [*(await redis.hgetall(keyspace.lane_holders("crm"))).values()]
    counts = [holders.count(token) for token in set(holders)]
    return len(counts) == consumers and sum(counts) == LANES and max(counts) - min(counts) <= 1


async def test_a_merge_waits_for_other_consumers_too(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """What was published under the earlier keys is handled before the merge and all that follows, whoever has it."""
    handled: list[tuple[str, str, int | None]] = []

    def handler_of(name: str) -> Any:
        async def handler(one: Published) -> None:
            if one.subject != survivor:
                await asyncio.sleep(0.2)
            handled.append((name, one.subject, one.sequence))

        return handler

    async with running(subscribe(), handler_of("a")), running(subscribe(), handler_of("b")):
        await until(lambda: _are_shared(redis, keyspace, 2))
        holders: Any = await redis.hgetall(keyspace.lane_holders("crm"))
        survivor = subject_of(0)
        holder = holders[str(lane_of(survivor, LANES)).encode()]
        held = {number: holders[str(lane_of(subject_of(number), LANES)).encode()] for number in range(1, 200)}
        theirs = subject_of(next(number for number, token in held.items() if token != holder))
        ours = subject_of(next(number for number, token in held.items() if token == holder))
        merge = event(survivor, 1, kind="conversation.merged", merged=[theirs, ours])
        await publish(
            redis,
            keyspace,
            [event(theirs, 1), event(ours, 1), merge, event(survivor, 2), event(theirs, 2)],
        )
        await until(lambda: len(handled) == 5)

    order = [(subject, sequence) for _, subject, sequence in handled]
    assert set(order[:2]) == {(theirs, 1), (ours, 1)}
    assert order.index((survivor, 1)) == 2
    assert order.index((survivor, 2)) in {3, 4}
    assert len({name for name, *_ in handled}) == 2


async def test_who_lost_the_lease_joins_anew(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """The event that was out comes again once its former handling has ended, and nothing else is repeated."""
    await publish(redis, keyspace, [event("cv_a", sequence) for sequence in (1, 2, 3)])
    handled, lost = list[int | None](), asyncio.Event()

    async def handler(one: Published) -> None:
        if one.sequence == 2 and not lost.is_set():
            await asyncio.sleep(0.2)  # so that the cursor has followed the first one
            members: Any = await redis.smembers(keyspace.consumers("crm"))
            [token] = members
            await redis.delete(keyspace.consumer("crm", token.decode()))
            await until(lambda: _has_joined_anew(redis, keyspace, token))
            lost.set()
        handled.append(one.sequence)

    async with running(subscribe(), handler):
        await until(lambda: 3 in handled)

    assert handled == [1, 2, 2, 3]


async def _has_joined_anew(redis: Redis, keyspace: Keyspace, former: bytes) -> bool:
    return await redis.hget(keyspace.lane_holders("crm"), str(lane_of("cv_a", LANES))) != former


async def test_a_merge_that_is_not_wanted_holds_up_what_follows_it(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Order through merges does not depend on the filter."""
    merge = event("cv_a", 1, kind="conversation.merged", merged=["cv_b"])
    await publish(redis, keyspace, [event("cv_b", 1), merge, event("cv_a", 2)])
    handled = list[tuple[str, int | None]]()

    async def handler(one: Published) -> None:
        await asyncio.sleep(0.1 if one.subject == "cv_b" else 0)
        handled.append((one.subject, one.sequence))

    async with running(subscribe(types=["message.received"]), handler):
        await until(lambda: len(handled) == 2)

    assert lane_of("cv_a", LANES) != lane_of("cv_b", LANES)
    assert handled == [("cv_b", 1), ("cv_a", 2)]


async def test_tries_that_cannot_be_counted_wait_for_redis(
    tmp_path: Path, namespace: str, subscribe: Callable[..., Subscription]
) -> None:
    """An event that fails while the server is away is tried again, and given up, when it is back."""
    keyspace = Keyspace(namespace)
    with EmbeddedRedis(tmp_path / "r") as server:
        redis = connect(server.url, 5.0)
        await publish(redis, keyspace, [event("cv_a", 1), event("cv_a", 2)])
        tried = list[int | None]()

        async def handler(one: Published) -> None:
            tried.append(one.sequence)
            if one.sequence == 1:
                if len(tried) == 1:
                    assert server.pid is not None
                    os.kill(server.pid, signal.SIGKILL)
                raise ValueError

        async with running(subscribe(redis=server.url, retry=Retry(2, 0.01, 0.01)), handler):
            await until(lambda: tried)
            await asyncio.sleep(0.3)
            await until(lambda: server.start_again_if_dead() is not None)
            await until(lambda: 2 in tried)
            found = await letters(redis, keyspace)
        await redis.aclose()

    assert tried == [1, 1, 2]
    assert [(letter["reason"], letter["tries"]) for letter in found] == [("ValueError", "2")]


async def test_a_handler_that_ends_the_program_ends_it(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """What is no Exception is not tried again: `run` leaves the group and raises it."""
    await publish(redis, keyspace, [event("cv_a", 1)])

    class Enough(BaseException):
        """Not to be caught."""

    async def handler(_: Published) -> None:
        raise Enough

    with pytest.raises(Enough):
        await subscribe().run(handler)

    assert await redis.exists(keyspace.consumers("crm")) == 0


async def test_a_loop_that_is_begun_anew_ends_the_one_before(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """A loop that was left and is still referred to keeps no lanes from the next one."""
    await publish(redis, keyspace, [event("cv_a", 1), event("cv_a", 2)])
    subscription = subscribe()
    left = aiter(subscription)
    first = await anext(left)
    found = await handle(subscription, 2)

    assert first.sequence == 1
    assert [one.sequence for one in found] == [1, 2]
    assert [one async for one in left] == []


async def test_who_lost_the_lease_changes_nothing(redis: Redis, keyspace: Keyspace) -> None:
    """Every script looks at the token first: no lane is taken, moved, counted in, buried in or released."""
    zombie, other = (LaneGroup(redis, keyspace, "crm", 30.0) for _ in range(2))
    await zombie.make(4, (1, 0))
    await other.made()
    await zombie.join()
    await zombie.take([(0, ""), (1, "")])
    former = zombie.token
    await redis.delete(keyspace.consumer("crm", former))
    await other.join()
    [taken] = await other.take([(0, former)])

    assert (taken.number, taken.cursor, taken.doubtful) == (0, (1, 0), True)
    assert await zombie.renew() is False
    assert await zombie.take([(2, "")]) == []
    assert await zombie.move({0: (5, 0), 1: (5, 0)}) == {0, 1}
    assert await zombie.count_try(1, (5, 0), (4, 0), at_least=0, more=1) == 0
    assert await zombie.bury(1, (5, 0), "an event", "any", 1) is False
    await zombie.release([0, 1])

    assert await other.move({0: (6, 0), 1: (6, 0)}) == {1}
    assert await other.cursors(range(2)) == {0: (6, 0), 1: (1, 0)}
    assert await letters(redis, keyspace) == []


# --- lag ---


async def test_the_lag_is_the_age_of_what_is_not_handled(
    redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]
) -> None:
    """Nothing before there is a group; then the age of the oldest event; nothing again once all are handled."""
    for sequence in (1, 2):
        await redis.xadd(keyspace.events, {"event": event("cv_a", sequence)}, id=f"{sequence}000-0")
    subscription = subscribe(clock=lambda: 10.0)

    assert await subscription.lag() is None

    await take(subscription, 2)

    assert await subscription.lag() == Lag(8.0, "2000-0")

    await handle(subscription, 1)

    assert await subscription.lag() == Lag(0.0, None)


# --- clients and mistakes ---


async def test_a_client_may_be_given(redis: Redis, keyspace: Keyspace, subscribe: Callable[..., Subscription]) -> None:
    """It stays open: it is not ours."""
    await publish(redis, keyspace, [event("cv_a", 1)])
    found = await handle(subscribe(redis=redis), 1)

    assert [one.sequence for one in found] == [1]
    assert await redis.ping()


async def test_a_client_that_decodes_is_refused(redis_url: str, subscribe: Callable[..., Subscription]) -> None:
    """Envelopes are bytes."""
    client = Redis.from_url(redis_url, decode_responses=True)
    with pytest.raises(ConfigError, match="decode_responses"):
        await take(subscribe(redis=client), 1)
    await client.aclose()


async def test_redis_that_is_not_there_at_the_beginning_is_an_error(subscribe: Callable[..., Subscription]) -> None:
    """Whoever starts a subscriber at the wrong address is told so."""
    with pytest.raises(StoreError, match="Redis: "):
        await take(subscribe(redis="unix:///nonexistent/redis.sock"), 1)


def test_all_mistakes_are_told_at_once(subscribe: Callable[..., Subscription]) -> None:
    """Each with the argument that it is in."""
    with pytest.raises(ConfigError) as told:
        subscribe(
            namespace="No", group="a:b", types=["message"], start="soon", lanes=0, lease_seconds=0, retry=Retry(0)
        )
    with pytest.raises(ConfigError, match=r"types: a list"):
        subscribe(types="message.received")
    with pytest.raises(ConfigError, match=r"start: a time needs its zone"):
        subscribe(start=datetime(2026, 11, 21))  # noqa: DTZ001 - what is refused

    assert [mistake.partition(":")[0] for mistake in told.value.mistakes] == [
        "namespace",
        "types",
        "group",
        "lanes",
        "lease_seconds",
        "retry.tries",
        "start",
    ]


# --- hints ---


async def test_hints_are_what_is_published_while_they_are_listened_to(redis_url: str, namespace: str) -> None:
    """Of the types wanted, and without a place in the stream."""
    keyspace = Keyspace(namespace)
    redis = connect(redis_url, 5.0)
    listening = hints(redis_url, namespace=namespace, types=["message.received"], partitions=1)
    first = asyncio.ensure_future(anext(listening))
    await until(redis.pubsub_numpat)
    typing = event("cv_a", 1, kind="typing", typing={"sender": None, "is_typing": True})
    await redis.publish(keyspace.channel("typing", "cv_a"), typing)
    await redis.publish(keyspace.channel("message.received", "cv_a"), b"no event")
    await redis.publish(keyspace.channel("message.received", "cv_a"), event("cv_a", 2))
    found = await asyncio.wait_for(first, SECONDS)
    await listening.aclose()  # type: ignore[attr-defined]
    await redis.aclose()

    assert (found.sequence, found.position) == (2, "")


async def test_hints_come_again_after_an_outage(tmp_path: Path, namespace: str) -> None:
    """What was published meanwhile is missed; the author has nothing to do about it."""
    keyspace = Keyspace(namespace)
    with EmbeddedRedis(tmp_path / "r") as server:
        listening = hints(server.url, namespace=namespace, partitions=1)
        found = asyncio.ensure_future(anext(listening))
        redis = connect(server.url, 5.0)
        await until(redis.pubsub_numpat)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: server.start_again_if_dead() is not None)
        await until(lambda: _is_heard(redis, keyspace, found))
        await listening.aclose()  # type: ignore[attr-defined]
        await redis.aclose()

    assert (await found).subject == "cv_a"


async def _is_heard(redis: Redis, keyspace: Keyspace, found: "asyncio.Future[Published]") -> bool:
    with contextlib.suppress(RedisError, OSError):
        await redis.publish(keyspace.channel("message.received", "cv_a"), event("cv_a", 1))
    return found.done()


# --- partitions ---


async def _spread(redis: Redis, namespace: str, partitions: int, events: int) -> list[Keyspace]:
    """The same conversations in each partition's stream, each partition with subjects of its own."""
    spaces = keyspaces(namespace, partitions)
    for number, space in enumerate(spaces):
        envelopes = [one.replace(b"cv_0", b"cv_%d" % number) for one in chatter(10, events, seed=number)]
        await publish(redis, space, envelopes)
    return spaces


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_subscription_reads_every_partition(
    at_once: bool,
    redis: Redis,
    namespace: str,
    keyspace: Keyspace,
    subscribe: Callable[..., Subscription],
) -> None:
    """Two consumers of a group share the events of three partitions, whose number the namespace tells them."""
    await redis.hset(keyspace.meta, "partitions", "3")
    spaces = await _spread(redis, namespace, 3, 200)
    handled: list[Published] = []

    async def handle(one: Published) -> None:
        handled.append(one)

    group = [subscribe(partitions=None) for _ in range(2)]
    if at_once:
        async with running(group[0], handle), running(group[1], handle):
            await until(lambda: len(handled) >= 600)
    else:
        handled = await handle_all(group, 600)
    found = [(one.subject, one.sequence or 0) for one in handled]

    assert len(found) == len(set(found)) == 600
    assert inversions(found) == []
    assert {subject[3] for subject, _ in found} == {"0", "1", "2"}
    assert await group[0].lag() == Lag(0.0, None)
    for space in spaces:
        assert await redis.exists(space.lane_cursors("crm"))


async def handle_all(group: list[Subscription], count: int) -> list[Published]:
    """So many events, iterated by all consumers of a group together."""
    handled: list[Published] = []

    async def iterate(subscription: Subscription) -> None:
        async for one in subscription:
            handled.append(one)
            if len(handled) >= count:
                for each in group:
                    each.stop()

    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(iterate(each) for each in group))
    return handled


async def test_the_lag_is_that_of_the_partition_furthest_behind(
    redis: Redis, namespace: str, subscribe: Callable[..., Subscription]
) -> None:
    """It says which partition the oldest event is in that may not be handled yet."""
    subscription = subscribe(partitions=2, clock=lambda: 1_900_000_000.0)
    async with subscription:
        waiting = asyncio.ensure_future(anext(aiter(subscription)))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.wait([waiting])
    await redis.xadd(keyspaces(namespace, 2)[1].events, {"event": event(subject_of(1), 1)}, id="1899999990000-0")

    assert await subscription.lag() == Lag(10.0, "1899999990000-0", 1)


async def test_hints_come_from_every_partition(redis: Redis, namespace: str) -> None:
    """Whatever partition an event is published in, it is heard."""
    spaces = keyspaces(namespace, 2)
    heard: list[str] = []

    async def listen() -> None:
        async for one in hints(redis, namespace=namespace, partitions=2):
            heard.append(one.subject)  # noqa: PERF401 - it is read meanwhile

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(SECONDS):
        for number, space in enumerate(spaces):
            while subject_of(number) not in heard:
                await redis.publish(space.channel("message.received", "cv"), event(subject_of(number), 1))
                await asyncio.sleep(0.02)
    listening.cancel()
    await asyncio.wait([listening])

    assert set(heard) == {subject_of(0), subject_of(1)}


async def test_a_namespace_that_was_never_served_is_said_so(subscribe: Callable[..., Subscription]) -> None:
    """A slip in its name would otherwise be waited for in silence; nor is it known how many partitions it will have."""
    with pytest.raises(StoreError, match="has never been served there"):
        await anext(aiter(subscribe(partitions=None)))


async def test_a_position_is_of_one_stream(subscribe: Callable[..., Subscription]) -> None:
    """With several partitions a new group cannot begin at one; a time means the same everywhere."""
    with pytest.raises(ConfigError, match="start: the namespace has 2 partitions"):
        await anext(aiter(subscribe(partitions=2, start="1732190496419-0")))
