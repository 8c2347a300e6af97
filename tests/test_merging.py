"""Late ids through the real script: provisional conversations, what identifies them, and what readers are told."""

from secrets import token_hex
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from correlator.identity import Entry, Fact, Tied, Unlink, decide, resolve
from schemas.address import Address
from schemas.events import (
    Event,
    Evidence,
    Kind,
    Link,
    Message,
    MessageStatus,
    Pointer,
    Status,
    Tie,
    pair_identity,
    set_identity,
)
from schemas.ids import ConversationKey, Scope
from schemas.keyspace import Keyspace
from tests.engine import ANN, BOB, ID_KEY, LINE, Engine, conversation_record, event, overhearing, started
from tests.histories import SOUND_TIES, TIES, as_event, as_linked, facts, possible_keys, wanted

CAM = Address("+15555550133")
SENT = Message(id="sent", direction="outbound", sender=LINE, text=None, media=(), channel="mms")


def report(name: str, *pointers: str, identity: Any = None, kind: Kind = "unknown") -> Event:
    """A report on a message of ours that names some ids, and perhaps decides its conversation."""
    evidence = Evidence(
        identity=identity, pointers=tuple(Pointer("message", (word,)) for word in pointers), kind=kind, lines=(LINE,)
    )
    body = MessageStatus(SENT, Status(value="delivered", final=True, recipient=None, raw="delivered"))
    return event(name, evidence, body=body)


@pytest.fixture
async def engine(redis: Redis, keyspace: Keyspace) -> Engine:
    """A store with the lease in hand."""
    return await started(redis, keyspace)


EVERYBODY = set_identity(frozenset({LINE, ANN, BOB}))


async def _merged(engine: Engine) -> list[tuple[str, list[str]]]:
    return [
        (item["subject"], item["data"]["merged"])
        for item in await engine.events()
        if item["type"] == "conversation.merged"
    ]


async def test_reports_before_the_send_is_known_join_it_when_it_is(engine: Engine) -> None:
    """Two reports open a provisional conversation; one that names everybody identifies it, and that is told first."""
    await engine.feed(report("one", "g1", kind="group"))
    await engine.feed(report("two", "g1", kind="group"))
    [provisional] = set(await engine.subjects())
    await engine.feed(report("all", "g1", identity=EVERYBODY))
    await engine.feed(report("late", "g1", kind="group"))
    told = await engine.events()
    survivor = told[-1]["subject"]

    assert [item["type"] for item in told[2:]] == ["conversation.merged", "message.status", "message.status"]
    assert [item["subject"] for item in told[2:]] == [survivor, survivor, survivor]
    assert [item["sequence"][-1] for item in told] == ["1", "2", "1", "2", "3"]
    assert await _merged(engine) == [(survivor, [provisional])]
    assert told[2]["id"] == told[3]["id"] + "#merged"
    assert told[2]["data"]["conversation"]["provisional"] is False


async def test_a_merge_is_published_on_the_channel_of_each_key_that_merged(engine: Engine, redis: Redis) -> None:
    """Who listens to the old key alone hears of it, in the same bytes."""
    await engine.feed(report("one", "g1"))
    [provisional] = await engine.subjects()
    async with overhearing(redis, engine.keyspace) as heard:
        await engine.feed(report("all", "g1", identity=EVERYBODY))
    survivor = (await engine.events())[-1]["subject"]
    merged = [(channel, data) for channel, data in heard if ":conversation.merged:" in channel]

    assert [channel.rpartition(":")[2] for channel, _ in merged] == [survivor, provisional]
    assert len({data for _, data in merged}) == 1


async def test_an_old_key_resolves_for_ever_and_what_nobody_saw_does_not_stay(engine: Engine, redis: Redis) -> None:
    """The redirect of a key that something was published under never expires; others go with their class."""
    await engine.feed(report("one", "g1"))
    [provisional] = await engine.subjects()
    await engine.feed(report("all", "g1", "m1", identity=EVERYBODY))
    await engine.feed(report("unseen", "m1"))
    scope = Scope(ID_KEY, engine.keyspace.namespace, "telnyx", "main")
    unseen = decide(scope, report("unseen", "m1").id, Evidence(pointers=(Pointer("message", ("m1",)),))).key

    assert await redis.ttl(engine.keyspace.conversation(provisional)) == -1
    assert await redis.ttl(engine.keyspace.conversation(unseen)) > 0


async def test_after_its_class_expired_an_old_key_still_leads_on(engine: Engine, redis: Redis) -> None:
    """Reports months later, on an id whose class is forgotten, follow the redirect that is kept for ever."""
    await engine.feed(report("one", "g1"))
    await engine.feed(report("all", "g1", identity=EVERYBODY))
    provisional, survivor, _ = await engine.subjects()
    for name in await redis.keys(f"{engine.keyspace.prefix}:pt:*"):
        await redis.delete(name)
    await engine.feed(report("months later", "g1"))
    await engine.feed(report("and once more", "g1"))

    assert (await engine.subjects())[3:] == [survivor, survivor]
    assert await _resolved(engine, ConversationKey(provisional)) == survivor


async def test_a_redelivery_merges_nothing_anew(engine: Engine) -> None:
    """What identified a conversation comes again: one announcement, no event."""
    await engine.feed(report("one", "g1"))
    for _ in range(3):
        await engine.feed(report("all", "g1", identity=EVERYBODY))

    assert len(await _merged(engine)) == 1
    assert len(await engine.events()) == 3


async def test_two_provisional_conversations_become_one_when_their_ids_are_named_together(engine: Engine) -> None:
    """A report with both ids joins what each of them had opened, and says so."""
    await engine.feed(report("one", "a"))
    await engine.feed(report("two", "b"))
    first, second = await engine.subjects()
    await engine.feed(report("both", "a", "b"))
    survivor = (await engine.events())[-1]["subject"]

    assert survivor in (first, second)
    assert await _merged(engine) == [(survivor, [key for key in (first, second) if key != survivor])]


async def test_a_group_report_never_joins_a_direct_conversation(engine: Engine) -> None:
    """The same id claimed by a 1:1 leaves the report that surely is a group's where it was."""
    await engine.feed(report("group", "x", kind="group"))
    await engine.feed(report("direct", "x", identity=pair_identity(LINE, ANN)))
    await engine.feed(report("group again", "x", kind="group"))
    group, direct, again = await engine.subjects()

    assert group == again != direct
    assert await _merged(engine) == []


async def test_a_claim_that_moves_takes_its_provisional_keys_along(engine: Engine) -> None:
    """Two identities claim one id: the smaller key has it, whichever came first, and the two stay apart."""
    await engine.feed(report("one", "x"))
    [provisional] = await engine.subjects()
    claims = [set_identity(frozenset({LINE, ANN, other})) for other in (BOB, CAM)]
    scope = Scope(ID_KEY, engine.keyspace.namespace, "telnyx", "main")
    keys = [scope.conversation(identity.kind, identity.parts) for identity in claims]
    for number in sorted((0, 1), key=lambda at: keys[at], reverse=True):
        await engine.feed(report(f"claim {number}", "x", identity=claims[number]))

    assert await _merged(engine) == [(max(keys), [provisional]), (min(keys), [provisional])]


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=facts(SOUND_TIES), data=st.data())
async def test_the_real_script_agrees_with_the_rule_book(
    redis: Redis, history: list[Fact], data: st.DataObject
) -> None:
    """Random histories in any order, with repetitions, in batches: every key resolves as the oracle says."""
    engine = await started(redis, Keyspace(f"t-{token_hex(6)}"))
    scope = Scope(ID_KEY, engine.keyspace.namespace, "telnyx", "main")
    told = [msgspec.structs.replace(fact, scope=scope) for fact in history]
    events = [as_event(fact) for fact in told]
    order = data.draw(st.permutations([*events, *data.draw(st.lists(st.sampled_from(events), max_size=3))]))
    while order:
        size = data.draw(st.integers(1, len(order)))
        await engine.feed(*order[:size])
        order = order[size:]

    assert {fact: await _resolved(engine, key) for fact, key in wanted(told).items()} == resolve(told).keys


_SAID = st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from([None, *SOUND_TIES]), st.booleans())


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=facts(TIES), said=st.lists(_SAID, max_size=4), data=st.data())
async def test_the_real_script_agrees_with_the_rule_book_on_what_people_say(
    redis: Redis, history: list[Fact], said: list[tuple[int, int, Any, bool]], data: st.DataObject
) -> None:
    """Links, ties, some taken back, and recycled phones: every key resolves as the oracle says of that very order."""
    engine = await started(redis, Keyspace(f"t-{token_hex(6)}"))
    scope = Scope(ID_KEY, engine.keyspace.namespace, "telnyx", "main")
    told = [msgspec.structs.replace(fact, scope=scope) for fact in history]
    keys = possible_keys(told)
    links: list[Link | Tied] = [
        Tied(scope, Tie(*tie)) if tie else Link(*sorted((keys[one % len(keys)], keys[other % len(keys)])))
        for one, other, tie, _ in said
    ]
    undone: list[Entry] = [Unlink(link) for link, (_, _, _, back) in zip(links, said, strict=True) if back]
    order: list[Entry] = [*data.draw(st.permutations([*told, *links])), *undone]
    for number, entry in enumerate(order):
        await engine.feed(as_event(entry) if isinstance(entry, Fact) else as_linked(entry, number))

    assert {fact: await _resolved(engine, key) for fact, key in wanted(order).items()} == resolve(order).keys


async def _resolved(engine: Engine, key: ConversationKey) -> ConversationKey:
    while (record := await conversation_record(engine.redis, engine.keyspace, key)) and record.merged_into:
        key = record.merged_into
    return key


async def test_what_is_stored_of_a_class_can_be_read_by_a_person(engine: Engine, redis: Redis) -> None:
    """The record of a class is JSON that names its members, its claims and what was wanted."""
    await engine.feed(report("all", "g1", identity=EVERYBODY))
    [name] = await redis.keys(f"{engine.keyspace.prefix}:pt:*")

    assert set(orjson.loads(await redis.get(name) or b"")) == {"members", "claims"}
