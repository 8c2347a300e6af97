"""The store and its commit script over a real Redis: one event per fact, numbered, published, all or nothing."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import pairwise
from secrets import token_hex
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from correlator.conversation import Conversation
from correlator.gathering import MAX_EVENTS, Entry
from correlator.records import decode, encode
from correlator.store import DUPLICATE, PUBLISHED_ONLY
from schemas.address import Address
from schemas.errors import LeaseLost, StoreError
from schemas.events import (
    ConversationMembers,
    Event,
    Evidence,
    Link,
    Linked,
    Members,
    MessageStatus,
    Parsed,
    Status,
    Unrecognised,
    pair_identity,
    set_identity,
)
from schemas.ids import ConversationKey, EventId, Scope
from schemas.keyspace import Keyspace
from tests.engine import (
    ANN,
    BOB,
    CAT,
    DAY,
    ID_KEY,
    LINE,
    LINE_2,
    MESSAGES_SECONDS,
    NOW,
    Engine,
    event,
    everyone,
    group,
    key,
    message,
    notice,
    overhearing,
    pair,
    pointed,
    started,
    stored_conversation,
    typing,
    unreadable,
)

WINDOW = 8 * DAY
EVERYONE = everyone(LINE, ANN, BOB)
DREW, EVE = Address("+15555550114"), Address("+15555550115")


@pytest.fixture
async def engine(redis: Redis, keyspace: Keyspace) -> Engine:
    """A store on a namespace of its own, with the lease in hand."""
    return await started(redis, keyspace)


# --- one event per fact -----------------------------------------------------------------------------------


async def test_a_fact_told_twice_by_one_capture_is_one_event(engine: Engine) -> None:
    """Within one capture the first counts."""
    fact = event("a", pair())

    assert await engine.feed(fact, fact) == [1, DUPLICATE]
    assert len(await engine.events()) == 1


async def test_a_fact_told_by_two_captures_of_a_batch_is_one_event(engine: Engine) -> None:
    """Within one batch the first counts."""
    fact = event("a", pair())

    assert await engine.commit(engine.entry(fact), engine.entry(fact), engine.entry(fact)) == [1, DUPLICATE, DUPLICATE]


async def test_a_fact_told_again_in_a_later_batch_is_one_event(engine: Engine) -> None:
    """Across batches, and between other facts, the first counts."""
    fact, other = event("a", pair()), event("b", pair())

    said = [await engine.feed(fact), await engine.feed(other), await engine.feed(fact, other)]

    assert said == [[1], [2], [DUPLICATE, DUPLICATE]]


async def test_a_second_capture_of_a_fact_changes_nothing_of_its_event(engine: Engine) -> None:
    """The event in the stream is the one of the first capture, whatever the second one holds."""
    await engine.feed(event("a", pair(), body=MessageStatus(message("first"), _delivered())))
    before = await engine.raw_events()
    await engine.feed(event("a", pair(BOB), body=MessageStatus(message("second"), _delivered())), after_seconds=60)

    assert await engine.raw_events() == before


def _delivered() -> Status:
    return Status("delivered", final=True, recipient=ANN, raw="delivered")


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        pytest.param(1, DUPLICATE, id="one second later"),
        pytest.param(DAY, DUPLICATE, id="a day later"),
        pytest.param(3 * DAY, DUPLICATE, id="three days later"),
        pytest.param(WINDOW - 1, DUPLICATE, id="one second within the window"),
        pytest.param(WINDOW, DUPLICATE, id="exactly at the window"),
        pytest.param(WINDOW + 1, 2, id="one second beyond the window"),
        pytest.param(2 * WINDOW, 2, id="a whole generation beyond"),
        pytest.param(5 * WINDOW, 2, id="long beyond"),
        pytest.param(-600, DUPLICATE, id="the clock ten minutes back"),
    ],
)
@pytest.mark.parametrize("start", [0, DAY, 3 * DAY, 5 * DAY, 7 * DAY - 600])
async def test_the_window_is_measured_by_what_captures_say(
    engine: Engine, start: int, later: int, expected: int
) -> None:
    """A fact counts as seen for the window after its last receipt, wherever the two lie in their generations."""
    fact = event("a", pair())
    await engine.feed(fact, after_seconds=start)

    assert await engine.feed(fact, after_seconds=start + later) == [expected]


@pytest.mark.parametrize("back", [1, 600])
async def test_a_clock_that_steps_back_over_a_generation_repeats_nothing(engine: Engine, back: int) -> None:
    """A fact seen just after a generation began is known just before it began."""
    generation = 8 * DAY
    begin = -(int(NOW.timestamp()) % generation) + generation
    fact = event("a", pair())

    assert await engine.feed(fact, after_seconds=begin + 5) == [1]
    assert await engine.feed(fact, after_seconds=begin + 5 - back) == [DUPLICATE]
    assert await engine.feed(fact, after_seconds=begin + 5 + WINDOW) == [DUPLICATE]


async def test_a_duplicate_received_earlier_does_not_shorten_the_window(engine: Engine) -> None:
    """After a clock's step back the latest receipt still counts."""
    fact = event("a", pair())
    await engine.feed(fact)
    await engine.feed(fact, after_seconds=-600)

    assert await engine.feed(fact, after_seconds=WINDOW) == [DUPLICATE]


async def test_a_duplicate_renews_the_entry(engine: Engine) -> None:
    """A provider that redelivers every week for months still gets one event."""
    fact = event("a", pair())

    said = [await engine.feed(fact, after_seconds=week * 7 * DAY) for week in range(10)]

    assert said == [[1]] + [[DUPLICATE]] * 9


@pytest.mark.parametrize("days", [1, 2, 3, 5, 8, 9, 30])
async def test_any_window_holds_to_the_second(engine: Engine, days: int) -> None:
    """`retention.dedupe` is exact, whatever generation it rounds up to."""
    within, beyond = event("within", pair()), event("beyond", pair())
    await engine.feed(within, beyond, dedupe_seconds=days * DAY)

    assert await engine.feed(within, after_seconds=days * DAY, dedupe_seconds=days * DAY) == [DUPLICATE]
    assert await engine.feed(beyond, after_seconds=days * DAY + 1, dedupe_seconds=days * DAY) == [3]


async def test_equal_fact_ids_in_two_accounts_are_two_facts(engine: Engine) -> None:
    """De-duplication is scoped to the account."""
    one = await engine.feed(event("a", pair(), account="north"), account="north")
    other = await engine.feed(event("a", pair(), account="south"), account="south")

    assert (one, other) == ([1], [1])
    assert len(set(await engine.subjects())) == 2


async def test_the_entries_of_de_duplication_expire(engine: Engine, redis: Redis) -> None:
    """What remembers facts has a time to live well beyond the window, and so never grows without end."""
    await engine.feed(event("a", pair()))
    names = await redis.keys(f"{engine.keyspace.prefix}:dd:*")

    assert len(names) == 2  # the hash, and the mark of its generation
    for name in names:
        assert 3 * WINDOW < await redis.ttl(name) <= 3 * WINDOW + 2 * DAY


async def test_a_clock_that_steps_over_generations_within_a_commit_hides_no_duplicate(engine: Engine) -> None:
    """Generations that one commit begins are looked into by its own events already, in whatever order they come."""
    times = [("y", 0), ("x", 8 * DAY), ("x", 0), ("y", 8 * DAY), ("x", 8 * DAY)]
    entries = [engine.entry(event(name, pair()), after_seconds=seconds) for name, seconds in times]

    assert await engine.commit(*entries) == [1, 2, DUPLICATE, DUPLICATE, DUPLICATE]


_STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from([0, 1, -600, DAY, 4 * DAY, WINDOW - 1, WINDOW, WINDOW + 1]),
        st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
async def test_de_duplication_is_what_a_dictionary_would_do(redis: Redis, steps: list[tuple[str, int, bool]]) -> None:
    """Over any deliveries, in batches cut anywhere, a fact is new exactly when it was not seen within the window."""
    engine = await started(redis, Keyspace(f"t-{token_hex(6)}"))
    seen: dict[str, int] = {}
    expected, entries, said, now, count = [], [], [], 0, 0
    for name, step, cut in steps:
        now += step
        known = name in seen and now - seen[name] <= WINDOW
        count += 0 if known else 1
        expected.append(DUPLICATE if known else count)
        seen[name] = max(now, seen[name]) if known else now
        entries.append(engine.entry(event(name, pair()), after_seconds=now))
        if cut:
            said += await engine.commit(*entries)
            entries = []
    said += await engine.commit(*entries) if entries else []

    assert said == expected


async def test_a_duplicate_still_tells_what_it_knows(engine: Engine) -> None:
    """De-duplication decides about publishing only: a redelivery that lists more people adds them to the record."""
    await engine.feed(event("a", group(listed=(LINE, ANN))))
    assert await engine.feed(event("a", group(joined=(BOB,)))) == [2, DUPLICATE]
    [first, change] = await engine.events()
    assert (first["type"], change["id"]) == ("message.received", first["id"] + "#members")
    assert change["data"]["members"] == {"added": [BOB], "removed": [], "after": [LINE, ANN, BOB]}
    await engine.feed(event("b", group()))

    assert (await engine.shown())["participants"] == [LINE, ANN, BOB]


async def test_de_duplication_costs_less_than_sixty_bytes_an_entry(redis: Redis, keyspace: Keyspace) -> None:
    """Two hundred thousand facts remembered take what the design counts with."""
    entries: dict[str, dict[bytes, str]] = {}
    seconds = int(NOW.timestamp())
    marks = keyspace.dedupe_marks(seconds // DAY, WINDOW)
    for number in range(200_000):
        digest = blake2b(number.to_bytes(8, "big"), digest_size=12).digest()
        written, *_ = keyspace.dedupe(digest, marks)
        entries.setdefault(written, {})[keyspace.dedupe_field(digest)] = str(seconds + number % 10_000)
    async with redis.pipeline(transaction=False) as pipe:
        for name, fields in entries.items():
            pipe.hset(name, mapping=fields)  # type: ignore[arg-type]
            pipe.expire(name, 2 * WINDOW)
        await pipe.execute()
        for name in entries:
            pipe.memory_usage(name)
        used = sum(await pipe.execute())
        for name in entries:
            pipe.unlink(name)
        await pipe.execute()

    assert used / 200_000 < 60


# --- sequence, stream and pub/sub -------------------------------------------------------------------------


async def test_each_subject_counts_from_one_without_a_gap(engine: Engine) -> None:
    """Sequences are 1, 2, 3 … within a subject, in stream order, whatever stands between and is told twice."""
    names = ["a", "b", "a", "c", "d", "b", "e"]
    for name in names:
        await engine.feed(event(name, pair()), event(f"{name}2", pair(BOB)), notice(f"{name}3"))
    counted: dict[str, list[str]] = {}
    for item in await engine.events():
        counted.setdefault(item["subject"], []).append(item["sequence"])

    assert list(counted.values()) == [[f"000000000000000{number}" for number in (1, 2, 3, 4, 5)]] * 3


async def test_the_account_as_a_whole_is_a_subject_of_its_own(engine: Engine) -> None:
    """What concerns no conversation goes under the account's key, numbered for itself, without a conversation."""
    await engine.feed(event("a", pair()), notice("b"), notice("c"))
    await engine.feed(notice("d", account="other"), account="other")
    _, *about = await engine.events()

    assert [item["sequence"][-1] for item in about] == ["1", "2", "1"]
    assert [item["data"]["conversation"] for item in about] == [None, None, None]
    assert about[0]["subject"] == about[1]["subject"] != about[2]["subject"]
    assert all(re.fullmatch("ac_[a-z2-7]{26}", item["subject"]) for item in about)


async def test_a_notice_leaves_no_conversation(engine: Engine, redis: Redis) -> None:
    """An event of the account as a whole makes no record."""
    await engine.feed(notice("a"))

    assert await redis.keys(f"{engine.keyspace.prefix}:cv:*") == []


async def test_what_is_published_is_what_stands_in_the_stream(engine: Engine, redis: Redis) -> None:
    """Every event goes out on pub/sub with the very bytes of the stream, in its order."""
    async with overhearing(redis, engine.keyspace) as heard:
        await engine.feed(event("a", pair()), event("b", group(listed=(LINE, ANN, BOB))), notice("c"))
        await engine.feed(event("a", pair()), event("d", pair()))

    assert [data for _, data in heard] == await engine.raw_events()


async def test_a_channel_is_named_by_type_and_subject(engine: Engine, redis: Redis, namespace: str) -> None:
    """The channel is `partyline:{namespace}:events:<type>:<subject>`, the braces literal."""
    async with overhearing(redis, engine.keyspace) as heard:
        await engine.feed(event("a", pair()), notice("b"), typing("c", pair()))
    direct = key(pair_identity(LINE, ANN), engine.keyspace)
    account = Scope(ID_KEY, namespace, "telnyx", "main").whole_account()

    assert [channel for channel, _ in heard] == [
        f"partyline:{{{namespace}}}:events:message.received:{direct}",
        f"partyline:{{{namespace}}}:events:account.notice:{account}",
        f"partyline:{{{namespace}}}:events:typing:{direct}",
    ]


async def test_typing_is_published_and_not_kept(engine: Engine, redis: Redis) -> None:
    """Typing goes out on pub/sub once, without a sequence; the stream and the count of the subject know nothing."""
    async with overhearing(redis, engine.keyspace) as heard:
        assert await engine.feed(event("a", pair()), typing("b", pair()), typing("b", pair()), event("c", pair())) == [
            1,
            PUBLISHED_ONLY,
            DUPLICATE,
            2,
        ]
    [told] = [orjson.loads(data) for channel, data in heard if ":typing:" in channel]

    assert "sequence" not in told
    assert told["data"]["typing"] == {"sender": ANN, "is_typing": True}
    assert [item["type"] for item in await engine.events()] == ["message.received"] * 2


async def test_an_entry_of_the_stream_has_one_field(engine: Engine) -> None:
    """The stream's entries hold `event` and nothing else."""
    await engine.feed(event("a", pair()))
    [(_, fields)] = await engine.redis.xrange(engine.keyspace.events)

    assert list(fields) == [b"event"]


# --- the envelope -----------------------------------------------------------------------------------------


async def test_an_envelope_has_exactly_the_contracts_members(engine: Engine) -> None:
    """An envelope holds the contract's attributes and data, no more and no less."""
    await engine.feed(event("a", everyone(LINE, ANN, BOB)))
    [envelope] = await engine.events()
    data = envelope["data"]

    assert set(envelope) == {"specversion", "id", "source", "type", "subject", "time", "sequence", "data"}
    assert set(data) == {
        "conversation", "message", "provider", "assurance", "received_at", "capture", "replayed"
    }  # fmt: skip
    assert set(data["conversation"]) == {"key", "kind", "participants", "lines", "audience", "provisional"}
    assert set(data["message"]) == {"id", "direction", "sender", "text", "media", "channel"}
    assert set(data["provider"]) == {"name", "account", "type", "ids"}


async def test_an_envelope_is_a_cloudevent(engine: Engine) -> None:
    """Each attribute has the type and form that CloudEvents 1.0 and the contract give it."""
    await engine.feed(event("a", pair(), at_seconds=-3.5))
    [envelope] = await engine.events()
    data = envelope.pop("data")

    assert isinstance(data, dict)
    assert all(isinstance(value, str) and value for value in envelope.values())
    assert envelope["specversion"] == "1.0"
    assert envelope["id"] == "telnyx:main:a"
    assert envelope["source"] == "/webhooks/telnyx/main"
    assert envelope["type"] == "message.received"
    assert re.fullmatch("cv_[a-z2-7]{26}", envelope["subject"])
    assert envelope["time"] == "2026-11-21T11:59:56.500Z"
    assert envelope["sequence"] == "0000000000000001"


async def test_the_data_of_an_envelope_says_what_the_capture_says(engine: Engine) -> None:
    """Provider, assurance, receipt and capture are the capture's; the conversation's key is the subject."""
    await engine.feed(event("a", pair()), after_seconds=1.25)
    [envelope] = await engine.events()
    data = envelope["data"]

    assert data["provider"] == {"name": "telnyx", "account": "main", "type": "message.received", "ids": {}}
    assert (data["assurance"], data["capture"]) == ("signed", "cp_1")
    assert data["received_at"] == "2026-11-21T12:00:01.250Z"
    assert data["replayed"] is False
    assert data["conversation"]["key"] == envelope["subject"]


@pytest.mark.parametrize(
    ("occurred_at", "expected"),
    [
        pytest.param(None, "2026-11-21T12:00:09.000Z", id="none told, so that of receipt"),
        pytest.param(
            datetime(2026, 11, 21, 11, 30, 0, 129_999, UTC), "2026-11-21T11:30:00.129Z", id="to the millisecond"
        ),
        pytest.param(datetime(2026, 11, 21, 11, 30, tzinfo=UTC), "2026-11-21T11:30:00.000Z", id="always three digits"),
        pytest.param(datetime.fromisoformat("2026-11-21T06:30:00-05:00"), "2026-11-21T11:30:00.000Z", id="in UTC"),
    ],
)
async def test_the_time_is_the_providers_in_utc(engine: Engine, occurred_at: datetime | None, expected: str) -> None:
    """`time` is the provider's time of the fact, else that of receipt: UTC, milliseconds, Z."""
    base = event("a", pair())
    fact = Event(base.id, base.body, occurred_at, base.evidence, base.provider_type, base.provider_ids)
    await engine.feed(fact, after_seconds=9)

    assert (await engine.events())[0]["time"] == expected


async def test_a_replayed_entry_says_so(engine: Engine) -> None:
    """`replayed` is true for what is read from the log again."""
    await engine.commit(engine.entry(event("a", pair()), replayed=True))

    assert (await engine.events())[0]["data"]["replayed"] is True


async def test_a_member_event_tells_who_is_in_it_afterwards(engine: Engine) -> None:
    """`data.members.after` is the list of participants once the change is applied."""
    await engine.feed(event("a", group(listed=(LINE, ANN, BOB), lines=(LINE,))))
    change = ConversationMembers(Members(added=(CAT,), removed=(BOB,)))
    await engine.feed(event("b", group(joined=(CAT,), left=(BOB,)), body=change, at_seconds=5))
    told = (await engine.events())[-1]["data"]

    assert told["members"] == {"added": [CAT], "removed": [BOB], "after": [ANN, CAT]}


async def test_a_sequence_is_sixteen_digits_however_large(engine: Engine, redis: Redis) -> None:
    """Sequences stay exact decimal numbers of sixteen digits far beyond what floats print plainly."""
    identified = key(pair_identity(LINE, ANN), engine.keyspace)
    account = Scope(ID_KEY, engine.keyspace.namespace, "telnyx", "main").whole_account()
    await engine.feed(event("a", pair()))
    await redis.setrange(engine.keyspace.conversation(identified), 0, "9007199254740900")
    await redis.set(engine.keyspace.sequence(account), 9_007_199_254_740_900)
    await engine.feed(event("b", pair()), notice("c"))

    assert [item["sequence"] for item in (await engine.events())[1:]] == ["9007199254740901"] * 2


async def test_numbers_go_on_whatever_becomes_of_a_record(engine: Engine) -> None:
    """A record is changed, used or left alone: its conversation counts on, over commits and within one."""
    club = [event("a", group(listed=(LINE, ANN))), event("b", group()), event("c", group(joined=(BOB,)))]
    await engine.feed(*club[:2])
    await engine.feed(*club[1:])
    await engine.commit(engine.entry(event("d", group())), engine.entry(event("e", group(joined=(CAT,)))))

    assert [int(item["sequence"]) for item in await engine.events()] == [1, 2, 3, 4, 5, 6, 7]


async def test_an_event_whose_record_is_gone_is_not_numbered_anew(engine: Engine, redis: Redis) -> None:
    """A survivor that vanished between look-up and commit, though the event changes it not, refuses the commit."""
    names = ("x", "y")
    await engine.feed(*(event(f"a {name}", group(name, listed=(LINE, ANN, BOB), lines=(LINE,))) for name in names))
    one, other = (ConversationKey(subject) for subject in await engine.subjects())
    await engine.feed(_linked(one, other))
    before = await engine.dump()
    merged = names[0] if one > other else names[1]
    commits = await engine.store._decide([engine.entry(event("b", group(merged)))])
    assert [name.key for name in commits[0].records] == [max(one, other)]
    kept = await redis.get(engine.keyspace.conversation(min(one, other)))
    assert kept is not None
    await redis.delete(engine.keyspace.conversation(min(one, other)))
    with pytest.raises(StoreError, match="changed from outside"):
        await engine.store.write(commits, engine.lease.token, await engine.store.cursor())
    await redis.set(engine.keyspace.conversation(min(one, other)), kept)

    assert await engine.dump() == before


# --- dead letters and the cursor --------------------------------------------------------------------------


async def test_a_dead_letter_comes_with_the_cursor(engine: Engine) -> None:
    """A capture of which nothing can be read leaves one dead letter, and is done with."""
    assert await engine.feed(unreadable()) == [None]

    assert await engine.dead() == [("cp_1", "unreadable", "$.data: missing, or not an object")]
    assert await engine.store.cursor() == "1-0"


async def test_a_dead_letters_neighbours_are_unharmed(engine: Engine) -> None:
    """Of a capture in which some elements cannot be read, the others are events."""
    outcomes = await engine.feed(event("a", pair()), unreadable("$.one"), event("b", pair()), unreadable("$.two"))

    assert sorted(outcomes, key=str) == [1, 2, None, None]
    assert [detail.partition(":")[0] for _, _, detail in await engine.dead()] == ["$.one", "$.two"]


async def test_a_capture_with_nothing_in_it_moves_the_cursor(engine: Engine) -> None:
    """The cursor never stands still at a capture that has nothing to say."""
    assert await engine.feed() == []
    assert await engine.store.cursor() == "1-0"


async def test_there_is_no_cursor_before_the_first_commit(engine: Engine) -> None:
    """A new namespace starts at the beginning of its log."""
    assert await engine.store.cursor() == ""


def _many(count: int, prefix: str = "m") -> list[Parsed]:
    return [event(f"{prefix}{number}", pair()) for number in range(count)]


def _refuse_after(calls: int, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the script refuse for want of the lease once it was called so often."""
    send, left = engine.store._scripts.commit_each, calls

    async def counted(sent: list[tuple[list[str], list[Any]]]) -> Any:
        nonlocal left
        refused = [(keys, ["stolen", *args[1:]]) for keys, args in sent[left:]]
        sent, left = [*sent[:left], *refused], max(0, left - len(sent))
        return await send(sent)

    monkeypatch.setattr(engine.store._scripts, "commit_each", counted)


class Cut(NamedTuple):
    """A batch of captures with so many elements each, of which only some script calls succeed."""

    sizes: list[int]
    calls: int
    #: Where the cursor is then, and how many events are in the stream.
    cursor: str
    kept: int


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(Cut([MAX_EVENTS + 8], 1, "", 32), id="inside the first capture"),
        pytest.param(Cut([MAX_EVENTS, 1], 1, "1-0", 32), id="after a capture that just fits"),
        pytest.param(Cut([20, 20, 20], 1, "1-0", 32), id="inside the second capture"),
        pytest.param(Cut([20, 12, 5], 1, "2-0", 32), id="between captures"),
        pytest.param(Cut([3 * MAX_EVENTS], 1, "", 32), id="a capture of three calls after one"),
        pytest.param(Cut([3 * MAX_EVENTS], 2, "", 64), id="a capture of three calls after two"),
        pytest.param(Cut([10, 10, 0, 0, 60], 1, "4-0", 32), id="captures with nothing in them go along"),
    ],
)
async def test_the_cursor_moves_only_with_the_last_element_of_a_capture(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, cut: Cut
) -> None:
    """A batch is cut into calls of 32; one cut inside a capture leaves the cursor before it, and repeats nothing."""
    entries = [engine.entry(*_many(size, f"c{at}-")) for at, size in enumerate(cut.sizes)]
    with monkeypatch.context() as patch:
        _refuse_after(cut.calls, engine, patch)
        with pytest.raises(LeaseLost):
            await engine.commit(*entries)

    assert await engine.store.cursor() == cut.cursor
    assert len(await engine.events()) == cut.kept

    await engine.commit(*[entry for entry in entries if int(entry.position[:-2]) > int(cut.cursor[:-2] or 0)])
    events = await engine.events()
    assert [int(item["sequence"]) for item in events] == list(range(1, sum(cut.sizes) + 1))
    assert [item["data"]["message"]["id"] for item in events] == [
        f"c{at}-{number}" for at, size in enumerate(cut.sizes) for number in range(size)
    ]
    assert await engine.store.cursor() == entries[-1].position


async def test_what_a_capture_says_last_is_not_written_before_what_it_says_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits are sent without waiting for each other, but not where the next would be taken though one failed."""
    send = engine.store._scripts.commit_each

    async def first_refused(sent: list[tuple[list[str], list[Any]]]) -> Any:
        (keys, args), *others = sent
        return await send([(keys, ["stolen", *args[1:]]), *others])

    monkeypatch.setattr(engine.store._scripts, "commit_each", first_refused)
    with pytest.raises(LeaseLost):
        await engine.commit(engine.entry(*_many(MAX_EVENTS + 8)))

    assert await engine.events() == []
    assert await engine.store.cursor() == ""


async def test_a_server_that_has_forgotten_the_script_is_told_it_again(engine: Engine, redis: Redis) -> None:
    """Scripts are not in Redis' files: after a restart or a failover it knows none."""
    await redis.script_flush()
    await engine.commit(*[engine.entry(*_many(MAX_EVENTS + 8, prefix=name)) for name in "ab"])

    assert len(await engine.events()) == 2 * (MAX_EVENTS + 8)


async def test_a_batch_taken_up_again_repeats_no_dead_letter(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a capture is cut and committed anew from its beginning, what was dead stays one dead letter."""
    entry = engine.entry(unreadable("$.first"), *_many(MAX_EVENTS), unreadable("$.last"))
    with monkeypatch.context() as patch:
        _refuse_after(1, engine, patch)
        with pytest.raises(LeaseLost):
            await engine.commit(entry)
    await engine.commit(entry)

    assert [detail.partition(":")[0] for _, _, detail in await engine.dead()] == ["$.first", "$.last"]


async def test_a_capture_that_stands_twice_in_the_log_is_one_dead_letter(engine: Engine) -> None:
    """A write that timed out and was applied after all stands twice; the first counts, for dead letters too."""
    first = engine.entry(unreadable())
    again = engine.entry(unreadable())
    await engine.commit(first, Entry(again.position, first.capture, again.parsed))

    assert len(await engine.dead()) == 1


async def test_elements_that_fail_alike_are_a_dead_letter_each(engine: Engine) -> None:
    """What makes two dead letters one is the place in the capture, never that they say the same."""
    await engine.feed(unreadable(), unreadable())
    await engine.feed(unreadable(), account="other")

    assert [identifier for identifier, _, _ in await engine.dead()] == ["cp_1", "cp_1", "cp_2"]


# --- all or nothing ---------------------------------------------------------------------------------------


async def _refused(engine: Engine, redis: Redis, error: type[StoreError], commit: Callable[[], Awaitable[Any]]) -> None:
    """Have a commit refused, and see that it wrote nothing and published nothing."""
    before = await engine.dump()
    async with overhearing(redis, engine.keyspace) as heard:
        with pytest.raises(error) as caught:
            await commit()

    assert type(caught.value) is error
    assert await engine.dump() == before
    assert heard == []


@pytest.fixture
async def busy(engine: Engine) -> Engine:
    """An engine with some history: conversations of each kind, a notice, a dead letter."""
    await engine.feed(event("a", pair()), event("b", EVERYONE), event("c", group(listed=(LINE, ANN, BOB))))
    await engine.feed(event("d", pointed("m1")), notice("e"), unreadable(), typing("f", pair()))
    return engine


def _of_each_kind() -> list[Parsed]:
    return [
        event("a", pair()),
        event("g", pair()),
        event("h", pair(CAT)),
        event("i", group(joined=(CAT,)), at_seconds=5),
        event("j", pointed("m1")),
        event("k", pointed("m2")),
        notice("l"),
        typing("m", pair()),
        unreadable("$.again"),
    ]


async def test_a_commit_without_the_lease_changes_nothing(busy: Engine, redis: Redis) -> None:
    """A commit under a token that is not the lease's is refused whole."""
    entry = busy.entry(*_of_each_kind())

    await _refused(busy, redis, LeaseLost, lambda: busy.store.commit("another token", "2-0", [entry]))


async def test_a_commit_after_the_lease_ran_out_changes_nothing(busy: Engine, redis: Redis) -> None:
    """A pipeline that was frozen past its lease is refused, also while nobody else has taken it."""
    await redis.delete(busy.keyspace.lease)
    entry = busy.entry(*_of_each_kind())

    await _refused(busy, redis, LeaseLost, lambda: busy.store.commit(busy.lease.token, "2-0", [entry]))


@pytest.mark.parametrize("after", ["", "1-0", "3-0", "2-00", "02-0"])
async def test_a_commit_from_another_cursor_changes_nothing(busy: Engine, redis: Redis, after: str) -> None:
    """A commit that continues from anywhere but the cursor is refused whole."""
    entry = busy.entry(*_of_each_kind())

    await _refused(busy, redis, LeaseLost, lambda: busy.store.commit(busy.lease.token, after, [entry]))


async def test_a_commit_that_expects_a_cursor_where_there_is_none_changes_nothing(engine: Engine, redis: Redis) -> None:
    """An empty namespace refuses whoever believes that it had committed there before."""
    entry = engine.entry(*_of_each_kind())

    await _refused(engine, redis, LeaseLost, lambda: engine.store.commit(engine.lease.token, "7-0", [entry]))


async def _change(redis: Redis, record: str) -> None:
    changed = Conversation("direct", 1, parts=(ANN, LINE), lines=(LINE, LINE_2))
    number = await redis.getrange(record, 0, 15)
    await redis.set(record, stored_conversation(changed, int(number or 0)))


async def _remove(redis: Redis, record: str) -> None:
    await redis.delete(record)


@pytest.mark.parametrize("contact", [ANN, CAT], ids=["a record that was there", "a record that was not"])
async def test_a_record_changed_meanwhile_stops_the_commit(
    busy: Engine, redis: Redis, monkeypatch: pytest.MonkeyPatch, contact: Address
) -> None:
    """A record that changed between look-up and commit refuses it whole: StoreError, to be decided anew."""
    record = busy.keyspace.conversation(key(pair_identity(LINE, contact), busy.keyspace))
    entry = busy.entry(*_of_each_kind())
    decided = await busy.store._decide([entry])
    await _change(redis, record)

    async def known(_: Any) -> Any:
        return decided

    with monkeypatch.context() as patch:
        patch.setattr(busy.store, "_decide", known)
        await _refused(busy, redis, StoreError, lambda: busy.store.commit(busy.lease.token, "2-0", [entry]))
    # The group's message tells of a new member: that comes first, as an event of its own.
    assert await busy.commit(entry) == [DUPLICATE, 2, 1, 2, 3, 2, 1, 2, PUBLISHED_ONLY, None]


async def test_a_record_that_vanished_meanwhile_stops_the_commit(
    busy: Engine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provisional record that ran out between look-up and commit is not written back from memory."""
    record = busy.keyspace.conversation(
        Scope(ID_KEY, busy.keyspace.namespace, "telnyx", "main").conversation("pointer", ("message", "m1"))
    )
    entry = busy.entry(*_of_each_kind())
    decided = await busy.store._decide([entry])
    await _remove(redis, record)

    async def known(_: Any) -> Any:
        return decided

    monkeypatch.setattr(busy.store, "_decide", known)
    await _refused(busy, redis, StoreError, lambda: busy.store.commit(busy.lease.token, "2-0", [entry]))


async def test_redis_away_is_a_store_error(engine: Engine, keyspace: Keyspace) -> None:
    """Whatever way Redis fails, callers see StoreError."""
    nowhere = Redis.from_url("unix:///nonexistent/redis.sock")
    lost = Engine(nowhere, keyspace)

    with pytest.raises(StoreError, match="Redis: ConnectionError"):
        await lost.store.cursor()
    with pytest.raises(StoreError, match="Redis: ConnectionError"):
        await lost.store.commit(engine.lease.token, "", [lost.entry(event("a", pair()))])
    await nowhere.aclose()


# --- records: what expires, what redirects ----------------------------------------------------------------


async def test_only_a_provisional_conversation_expires(engine: Engine, redis: Redis) -> None:
    """Provisional records have a time to live; identified ones, and the counter of a provisional key, have none."""
    await engine.feed(event("a", pointed("m1")), event("b", pair()), event("c", EVERYONE), event("d", group()))
    subjects = await engine.subjects()
    provisional, *identified = [engine.keyspace.conversation(subject) for subject in subjects]
    counters = await redis.keys(engine.keyspace.sequence("*"))

    assert MESSAGES_SECONDS - 60 < await redis.ttl(provisional) <= MESSAGES_SECONDS
    assert counters == [engine.keyspace.sequence(subjects[0]).encode()]
    assert [await redis.ttl(name) for name in (*identified, *counters)] == [-1] * 4


async def test_a_provisional_conversation_that_expired_counts_on(engine: Engine, redis: Redis) -> None:
    """A record that ran out, and is made again by a late fact, uses no number twice."""
    await engine.feed(event("a", pointed("m1")), event("b", pointed("m1")))
    [subject, _] = await engine.subjects()
    await redis.delete(engine.keyspace.conversation(subject), engine.keyspace.pointers(subject))

    assert await engine.feed(event("c", pointed("m1"))) == [3]
    assert await engine.subjects() == [subject] * 3


async def test_a_fact_prolongs_a_provisional_conversation(engine: Engine, redis: Redis) -> None:
    """Each further fact, a duplicate too, lets a provisional conversation live on, though it says nothing new."""
    await engine.feed(event("a", pointed("m1")))
    [subject] = await engine.subjects()
    record = engine.keyspace.conversation(subject)
    for fact in (event("b", pointed("m1")), event("a", pointed("m1"))):
        await redis.expire(record, 100)
        await engine.feed(fact)

        assert await redis.ttl(record) > MESSAGES_SECONDS - 60


async def test_facts_without_identity_share_what_they_point_to(engine: Engine) -> None:
    """Of facts never identified, those that name one message share a provisional conversation, and no others."""
    await engine.feed(event("a", pointed("m1")), event("b", pointed("m1")), event("c", pointed("m2")))
    await engine.feed(event("d", Evidence()), event("e", Evidence()), event("d", Evidence()))
    subjects = await engine.subjects()

    assert [item["sequence"][-1] for item in await engine.events()] == ["1", "2", "1", "1", "1"]
    assert len(set(subjects)) == 4
    assert (await engine.shown())["provisional"] is True
    assert (await engine.shown())["participants"] is None


async def test_direct_and_group_facts_that_point_alike_stay_apart(engine: Engine) -> None:
    """A provisional conversation of a group is never that of a direct one."""
    await engine.feed(event("a", pointed("m1", "group")), event("b", pointed("m1", "direct")))

    assert len(set(await engine.subjects())) == 2


@pytest.mark.parametrize("steps", [1, 2, 5])
async def test_a_merged_key_is_followed(engine: Engine, steps: int) -> None:
    """Later facts of a merged conversation go to the survivor, over a chain of merges too, and are numbered there."""
    chain = [f"sb_group_{number}" for number in range(steps + 1)]
    await engine.feed(*(event(f"a {name}", group(name, listed=(LINE, ANN, BOB), lines=(LINE,))) for name in chain))
    keys = [ConversationKey(subject) for subject in await engine.subjects()]
    await engine.feed(*(_linked(one, other) for one, other in pairwise(keys)))
    for name in chain:
        await engine.feed(event(f"b {name}", group(name, joined=(CAT,)), at_seconds=5))
    events = await engine.events()
    received = [item for item in events if item["type"] == "message.received"]
    of_survivor = [int(item["sequence"]) for item in events if item["subject"] == min(keys)]

    assert [item["subject"] for item in received] == [*keys, *[min(keys)] * len(chain)]
    assert of_survivor == list(range(1, len(of_survivor) + 1))
    assert (await engine.shown())["participants"] == [ANN, BOB, CAT]
    assert (await engine.shown())["key"] == min(keys)


async def test_who_joins_a_merged_group_joins_once(engine: Engine) -> None:
    """A new member of a group that two ids name is announced by the first message that tells it, and not again."""
    await engine.feed(*(event(f"a {name}", group(name, listed=(LINE, ANN, BOB), lines=(LINE,))) for name in "xy"))
    one, other = (ConversationKey(subject) for subject in await engine.subjects())
    await engine.feed(_linked(one, other))
    for name in "xy":
        await engine.feed(event(f"b {name}", group(name, joined=(CAT,)), at_seconds=5))
    changes = [item["data"]["members"] for item in await engine.events() if item["type"] == "conversation.members"]

    assert changes == [{"added": [CAT], "removed": [], "after": [ANN, BOB, CAT]}]


def _linked(one: ConversationKey, other: ConversationKey) -> Linked:
    return Linked(EventId(f"partyline:link:{one}:{other}"), Link(one, other))


async def test_a_provisional_key_that_merged_is_followed_for_good(engine: Engine, redis: Redis) -> None:
    """A fact by pointer alone that resolves to an identity neither expires it nor makes it provisional."""
    await engine.feed(event("a", EVERYONE))
    [survivor] = await engine.subjects()
    pointer = Scope(ID_KEY, engine.keyspace.namespace, "telnyx", "main").conversation("pointer", ("message", "m1"))
    redirect = Conversation("unknown", 0, merged_into=ConversationKey(survivor))
    await redis.set(engine.keyspace.conversation(pointer), stored_conversation(redirect))
    await engine.feed(event("b", pointed("m1")))

    assert await engine.subjects() == [survivor, survivor]
    assert (await engine.shown())["provisional"] is False
    assert await redis.ttl(engine.keyspace.conversation(survivor)) == -1


async def test_a_record_can_be_read_by_a_person(engine: Engine) -> None:
    """A record is JSON behind the number of its last event, and comes back as it was."""
    await engine.feed(event("a", EVERYONE))
    raw = await engine.redis.get(
        engine.keyspace.conversation(key(set_identity(frozenset({LINE, ANN, BOB})), engine.keyspace))
    )

    assert raw[:16] == b"0000000000000001"
    assert orjson.loads(raw[16:])["parts"] == [LINE, ANN, BOB]
    assert encode(decode(Conversation, raw[16:])) == raw[16:]


# --- who is in it -----------------------------------------------------------------------------------------


async def test_configured_lines_are_no_participants(engine: Engine) -> None:
    """Own numbers of the configuration are lines, though nothing in the payload says so."""
    await engine.feed(event("a", everyone(LINE, ANN, BOB, lines=())), lines=(LINE, LINE_2))

    assert (await engine.shown())["participants"] == [ANN, BOB]
    assert (await engine.shown())["lines"] == [LINE]


async def test_lines_that_a_payload_shows_are_no_participants(engine: Engine) -> None:
    """Own numbers that a payload shows are lines, though none is configured."""
    await engine.feed(event("a", everyone(LINE, ANN, BOB)))

    assert (await engine.shown())["participants"] == [ANN, BOB]
    assert (await engine.shown())["lines"] == [LINE]


async def test_two_own_lines_in_one_group_are_one_conversation(engine: Engine) -> None:
    """A group that two of our lines are in is told of by each, and is one conversation that shows both."""
    whole = everyone(LINE, LINE_2, ANN, BOB, lines=(LINE,))
    seen_by_the_other = everyone(LINE, LINE_2, ANN, BOB, lines=(LINE_2,))
    await engine.feed(event("a", whole), event("b", seen_by_the_other))
    await engine.feed(event("c", group(listed=(LINE, LINE_2, ANN), lines=(LINE,))))
    await engine.feed(event("d", group(listed=(LINE, LINE_2, ANN), lines=(LINE_2,)), at_seconds=1))
    first, second, third, fourth = await engine.events()

    assert first["subject"] == second["subject"] != third["subject"] == fourth["subject"]
    assert second["data"]["conversation"]["lines"] == [LINE, LINE_2]
    assert second["data"]["conversation"]["participants"] == [ANN, BOB]
    assert fourth["data"]["conversation"]["lines"] == [LINE, LINE_2]
    assert fourth["data"]["conversation"]["participants"] == [ANN]


async def test_a_line_learned_later_stops_being_a_participant(engine: Engine) -> None:
    """Once a number is known to be ours, by payload or configuration, it is shown as a line; the key stays."""
    unaware = everyone(LINE, LINE_2, ANN, lines=())
    await engine.feed(event("a", unaware))
    await engine.feed(event("b", everyone(LINE, LINE_2, ANN, lines=(LINE,))))
    await engine.feed(event("c", unaware), lines=(LINE_2,))
    shown = [item["data"]["conversation"] for item in await engine.events()]

    assert len({item["key"] for item in shown}) == 1
    assert [item["participants"] for item in shown] == [[LINE, LINE_2, ANN], [LINE_2, ANN], [ANN]]
    assert [item["lines"] for item in shown] == [[], [LINE], [LINE, LINE_2]]


async def test_a_set_with_and_without_our_own_number_in_cc_is_one(engine: Engine) -> None:
    """What a payload repeats of `to` in cc changes no set: our own number is a member of it either way."""
    repeated = set_identity(frozenset([ANN, LINE]) | frozenset([LINE, BOB]))
    absent = set_identity(frozenset([ANN, LINE]) | frozenset([BOB]))
    await engine.feed(event("a", Evidence(repeated, lines=(LINE,))), event("b", Evidence(absent, lines=(LINE,))))

    assert len(set(await engine.subjects())) == 1


async def test_direct_and_group_of_the_same_two_people_stay_apart(engine: Engine) -> None:
    """The pair, the set of two and a group whose members are the same two are three conversations."""
    await engine.feed(event("a", pair()), event("b", everyone(LINE, ANN)), event("c", group(listed=(LINE, ANN))))
    events = await engine.events()

    assert len({item["subject"] for item in events}) == 3
    assert [item["data"]["conversation"]["kind"] for item in events] == ["direct", "direct", "group"]


async def test_the_same_people_have_the_same_audience_everywhere(engine: Engine) -> None:
    """Audience comes from the people alone: no line, kind of identity, account or provider enters."""
    await engine.feed(event("a", EVERYONE))
    await engine.feed(event("b", everyone(LINE_2, ANN, BOB, lines=(LINE_2,)), account="other"), account="other")
    await engine.feed(
        event("c", group(listed=(LINE, ANN, BOB), lines=(LINE,)), provider="sendblue"), provider="sendblue"
    )
    await engine.feed(event("d", everyone(LINE, ANN, CAT)))
    shown = [item["data"]["conversation"] for item in await engine.events()]

    assert len({item["key"] for item in shown}) == 4
    assert shown[0]["audience"] == shown[1]["audience"] == shown[2]["audience"] != shown[3]["audience"]
    assert re.fullmatch("au_[a-z2-7]{26}", shown[0]["audience"])


async def test_there_is_no_audience_while_somebody_may_be_missing(engine: Engine) -> None:
    """A group of which only some members were seen has no audience; with the first complete list it has one."""
    await engine.feed(event("a", group(joined=(ANN, BOB), lines=(LINE,))))
    assert (await engine.shown())["participants"] == [ANN, BOB]
    assert "audience" not in await engine.shown()

    await engine.feed(event("b", group(listed=(ANN, BOB, LINE), lines=(LINE,)), at_seconds=1))
    assert "audience" in await engine.shown()


_DRIFT: list[tuple[int, Evidence]] = [
    (10, group(listed=(LINE, ANN, BOB, EVE), joined=(ANN,), lines=(LINE,))),
    (20, group(joined=(CAT,), lines=(LINE,))),
    (30, group(listed=(LINE, ANN, CAT), joined=(CAT,), lines=(LINE,))),
    (40, group(left=(ANN,), lines=(LINE,))),
    (50, group(joined=(DREW,), lines=(LINE,))),
]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(_DRIFT))), again=st.lists(st.sampled_from(range(len(_DRIFT)))))
async def test_participants_drift_by_time_in_any_order_of_arrival(
    redis: Redis, order: list[int], again: list[int]
) -> None:
    """Who is in a group with an id is told by the facts' own times, whatever order and repetition they arrive in."""
    engine = await started(redis, Keyspace(f"t-{token_hex(6)}"))
    for at in [*order, *again]:
        seconds, evidence = _DRIFT[at]
        await engine.feed(event(f"drift{at}", evidence, at_seconds=seconds))
    await engine.feed(event("last", group(lines=(LINE,)), at_seconds=60))

    assert (await engine.shown())["participants"] == [CAT, DREW]
    assert len(set(await engine.subjects())) == 1


async def test_an_event_that_has_no_json_is_a_dead_letter_and_its_neighbours_go_on(engine: Engine) -> None:
    """A parser's slip, such as half an emoji in a text, costs its own event and nothing else."""
    slip = event("b", pair(), body=Unrecognised("\ud83d"))

    outcomes = await engine.feed(event("a", pair()), slip, event("c", pair()))

    assert [reason for _, reason, _ in await engine.dead()] == ["unencodable"]
    assert len(await engine.events()) == 2
    assert len(outcomes) == 3
