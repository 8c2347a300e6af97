"""What follows from a fact besides itself, as readers get it: merges, links, roll-ups, stale reports, copies."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from correlator.gathering import order_of
from correlator.ledger import Fact, Folded, Ledger
from correlator.lookup import Lookup
from correlator.records import MissingRecords, Name
from schemas.address import Address
from schemas.callback import AccountFacts
from schemas.clock import unix_milliseconds
from schemas.events import (
    STATES,
    ConversationMembers,
    Event,
    Evidence,
    Identity,
    Link,
    Linked,
    Message,
    MessageOutbound,
    MessageReceived,
    MessageStatus,
    Pointer,
    Sent,
    State,
    Status,
    Tie,
    group_identity,
    pair_identity,
    set_identity,
    user_identity,
)
from schemas.ids import ConversationKey, EventId, Scope
from schemas.keyspace import Keyspace
from tests.engine import ANN, BOB, CAT, ID_KEY, LINE, LINE_2, Engine, event, key, message, overhearing, pair, started

ANN_ID = Address("whatsapp:US.1001")
TRIO = set_identity(frozenset({LINE, ANN, BOB}))
BATCH = Pointer("batch", ("01BATCH",))
LINES = (LINE, LINE_2)
SENT = Message(id="m1", direction="outbound", sender=LINE, text=None, media=(), channel="mms")


@pytest.fixture
async def engine(redis: Redis, keyspace: Keyspace) -> Engine:
    """A store with the lease in hand."""
    return await started(redis, keyspace)


def by_id(line: Address = LINE, *, tied: bool = True) -> Evidence:
    """Ann writes, known by her user id; `tied`: the callback shows her phone as well."""
    return Evidence(user_identity(line, ANN_ID), lines=(line,), same_user=((ANN, ANN_ID),) if tied else ())


def report(
    name: str,
    evidence: Evidence,
    value: State = "delivered",
    recipient: Address | None = None,
    *,
    final: bool = True,
    at: float = 0,
) -> Event:
    """A report on a message of ours."""
    return event(name, evidence, body=MessageStatus(SENT, Status(value, final, recipient, value)), at_seconds=at)


def pointed(*ids: str, identity: Identity | None = None, **more: Any) -> Evidence:
    """What a report or send with these message ids tells."""
    return Evidence(identity, pointers=tuple(Pointer("message", (word,)) for word in ids), lines=(LINE,), **more)


def linked(name: str, link: Link | Tie, *, undone: bool = False) -> Linked:
    """A person's word."""
    return Linked(EventId(f"partyline:link:{name}"), link, undone)


async def told(engine: Engine, kind: str = "conversation.merged") -> list[dict[str, Any]]:
    """The events of one type in the stream, oldest first."""
    return [item for item in await engine.events() if item["type"] == kind]


async def merges(engine: Engine) -> list[tuple[str, list[str]]]:
    """Subject and merged keys of each merge in the stream."""
    return [(item["subject"], item["data"]["merged"]) for item in await told(engine)]


async def resolved(engine: Engine, found: str) -> str | None:
    """What a key resolves to, as somebody who looks it up is told."""
    lookup = Lookup(engine.redis, engine.keyspace, ID_KEY)
    answer = await lookup.conversation(ConversationKey(found))
    return None if answer is None else str(answer["key"])


# --- users ---


async def test_a_phones_conversation_merges_with_the_users_when_both_are_seen(engine: Engine, redis: Redis) -> None:
    """Told before the message that showed it, on the channels of both keys, in the same bytes."""
    await engine.feed(event("phone", pair(ANN)))
    async with overhearing(redis, engine.keyspace) as heard:
        await engine.feed(event("both", by_id()))
    phone, user = (key(one, engine.keyspace) for one in (pair_identity(LINE, ANN), user_identity(LINE, ANN_ID)))
    [_, merged, received] = await engine.events()
    channels = [channel for channel, _ in heard if ":conversation.merged:" in channel]

    assert (merged["id"], merged["type"]) == ("telnyx:main:both#merged", "conversation.merged")
    assert await merges(engine) == [(user, [phone])]
    assert received["subject"] == user
    assert [merged["sequence"][-1], received["sequence"][-1]] == ["1", "2"]
    assert set(channels) == {engine.keyspace.channel("conversation.merged", one) for one in (user, phone)}
    assert len({data for channel, data in heard if channel in channels}) == 1


async def test_two_conversations_of_one_user_merge_by_a_later_fact(engine: Engine) -> None:
    """The tie may be shown by a message on another line: each line's two conversations become one."""
    await engine.feed(event("phone", pair(ANN)), event("id", by_id(tied=False)))
    await engine.feed(event("elsewhere", by_id(LINE_2)))
    phone, user = (key(one, engine.keyspace) for one in (pair_identity(LINE, ANN), user_identity(LINE, ANN_ID)))

    assert await merges(engine) == [(user, [phone])]
    assert (await told(engine))[0]["id"] == "telnyx:main:elsewhere#merged"


async def test_later_events_carry_the_survivor(engine: Engine) -> None:
    """Who goes on writing by phone only is in the user's conversation, with one participant: the phone."""
    await engine.feed(event("phone", pair(ANN)), event("both", by_id()), event("again", pair(ANN)))
    shown = await engine.shown()

    assert shown["key"] == key(user_identity(LINE, ANN_ID), engine.keyspace)
    assert shown["participants"] == [ANN]
    assert shown["lines"] == [LINE]


async def test_a_user_is_one_participant_wherever_the_tie_was_told(engine: Engine) -> None:
    """The tie was shown on another line only; the merged conversation has one person in it, shown by phone."""
    await engine.feed(event("elsewhere", by_id(LINE_2)))
    await engine.feed(event("phone", pair(ANN)), event("id", by_id(tied=False)))

    assert (await engine.shown())["participants"] == [ANN]


async def test_a_user_known_by_id_here_and_tied_elsewhere_is_shown_by_phone(engine: Engine) -> None:
    """Nobody named the phone on this line yet; it is the user's all the same."""
    await engine.feed(event("elsewhere", by_id(LINE_2)), event("id", by_id(tied=False)))

    assert (await engine.shown())["participants"] == [ANN]


async def test_an_old_key_resolves_through_any_number_of_merges(engine: Engine) -> None:
    """From a report's provisional key to the phone's, and with that to the user's; each merge names all of them."""
    await engine.feed(report("report", pointed("m1", kind="direct")))
    [provisional] = await engine.subjects()
    await engine.feed(report("claim", pointed("m1", identity=pair_identity(LINE, ANN))))
    await engine.feed(event("both", by_id()))
    phone, user = (key(one, engine.keyspace) for one in (pair_identity(LINE, ANN), user_identity(LINE, ANN_ID)))

    assert await merges(engine) == [(phone, [provisional]), (user, sorted([phone, provisional]))]
    assert [await resolved(engine, old) for old in (provisional, phone, user)] == [user] * 3
    assert [await engine.redis.ttl(engine.keyspace.conversation(old)) for old in (provisional, phone)] == [-1, -1]


async def test_a_chain_of_merges_is_told_on_the_channel_of_each_key(engine: Engine, redis: Redis) -> None:
    """Who still listens to the oldest key hears of the last merge as well."""
    await engine.feed(report("report", pointed("m1", kind="direct")))
    [provisional] = await engine.subjects()
    await engine.feed(report("claim", pointed("m1", identity=pair_identity(LINE, ANN))))
    async with overhearing(redis, engine.keyspace) as heard:
        await engine.feed(event("both", by_id()))
    phone, user = (key(one, engine.keyspace) for one in (pair_identity(LINE, ANN), user_identity(LINE, ANN_ID)))
    subjects = {channel.rpartition(":")[2] for channel, _ in heard if ":conversation.merged:" in channel}

    assert subjects == {provisional, phone, user}


# --- registered sends ---


async def test_a_registered_send_takes_a_provisional_reports_key_along(engine: Engine) -> None:
    """A report that names only ids came first; the send says whose they are."""
    await engine.feed(report("report", pointed("g1", kind="group"), "delivered", ANN))
    [provisional] = await engine.subjects()
    send = pointed("m1", "g1", identity=TRIO, registered=True)
    await engine.feed(event("send", send, body=MessageOutbound(SENT)))
    await engine.feed(report("late", pointed("g1", kind="group"), "delivered", BOB))
    survivor = key(TRIO, engine.keyspace)

    assert await merges(engine) == [(survivor, [provisional])]
    assert (await engine.subjects())[1:] == [survivor] * 3
    assert await resolved(engine, provisional) == survivor


async def test_a_registered_send_outweighs_what_a_report_claimed(engine: Engine, redis: Redis) -> None:
    """The provisional key moves, and that is told where it went and on its own channel; the two stay apart."""
    others = set_identity(frozenset({LINE, ANN, CAT}))
    await engine.feed(report("report", pointed("g1", kind="group")))
    [provisional] = await engine.subjects()
    await engine.feed(report("claim", pointed("g1", identity=others)))
    async with overhearing(redis, engine.keyspace) as heard:
        await engine.feed(event("send", pointed("g1", identity=TRIO, registered=True), body=MessageOutbound(SENT)))
    survivor, claimed = key(TRIO, engine.keyspace), key(others, engine.keyspace)
    subjects = {channel.rpartition(":")[2] for channel, _ in heard if ":conversation.merged:" in channel}

    assert await merges(engine) == [(claimed, [provisional]), (survivor, [provisional])]
    assert {survivor, provisional} <= subjects
    assert [await resolved(engine, one) for one in (provisional, claimed)] == [survivor, claimed]


def batch_to_group() -> Event:
    """A batch to a group of ours, from a line."""
    evidence = Evidence(
        group_identity("", "club"), pointers=(BATCH,), registered=True, sent=Sent((BATCH,), line=LINE), lines=(LINE,)
    )
    return event("send", evidence, body=MessageOutbound(SENT))


def of_batch(recipient: Address, *, name: str = "report") -> Event:
    """A report that names a batch and a recipient, and no line."""
    place = Pointer("batch", (*BATCH.parts, recipient))
    evidence = Evidence(contact=recipient, pointers=(place,), kind="direct", sent=Sent((BATCH,)))
    return report(name, evidence, recipient=recipient)


async def test_a_send_tells_the_line_of_reports_that_name_none(engine: Engine) -> None:
    """A report came first and was provisional: it moves to the pair of the line and its recipient."""
    await engine.feed(of_batch(ANN))
    [provisional] = await engine.subjects()
    await engine.feed(batch_to_group())
    direct = key(pair_identity(LINE, ANN), engine.keyspace)

    assert await merges(engine) == [(direct, [provisional])]
    assert await resolved(engine, provisional) == direct


async def test_a_report_after_its_send_is_on_the_sends_line_at_once(engine: Engine) -> None:
    """Nothing is provisional, and nothing merges."""
    await engine.feed(batch_to_group())
    await engine.feed(of_batch(ANN))

    assert await merges(engine) == []
    assert (await engine.subjects())[-1] == key(pair_identity(LINE, ANN), engine.keyspace)


async def test_a_line_by_setting_gives_way_to_that_of_the_send(engine: Engine) -> None:
    """The default line was the wrong one: the report's later ones, and its old conversation's id, follow the send."""
    found = of_batch(ANN)
    assert found.evidence is not None
    evidence = msgspec.structs.replace(found.evidence, fallback=pair_identity(LINE_2, ANN), lines=(LINE_2,))
    await engine.feed(msgspec.structs.replace(found, evidence=evidence))
    await engine.feed(batch_to_group())
    await engine.feed(msgspec.structs.replace(found, id=EventId("telnyx:main:late"), evidence=evidence))
    subjects = await engine.subjects()

    assert subjects[0] == key(pair_identity(LINE_2, ANN), engine.keyspace)
    assert subjects[-1] == key(pair_identity(LINE, ANN), engine.keyspace)


# --- a person's word ---


async def test_a_link_makes_two_conversations_one_until_it_is_taken_back(engine: Engine, redis: Redis) -> None:
    """Later events go to the survivor, and to their own conversations again after that; both moves are told."""
    one, other = group_identity("", "one"), group_identity("", "two")
    keys = [key(identity, engine.keyspace) for identity in (one, other)]
    await engine.feed(event("1", Evidence(one)), event("2", Evidence(other)))
    link = Link(*map(ConversationKey, keys))
    async with overhearing(redis, engine.keyspace) as heard:
        await engine.feed(linked("l", link))
    await engine.feed(event("3", Evidence(one)), event("4", Evidence(other)))
    async with overhearing(redis, engine.keyspace) as heard_again:
        await engine.feed(linked("u", link, undone=True))
    await engine.feed(event("5", Evidence(one)), event("6", Evidence(other)))
    spoken = [[channel.rpartition(":")[2] for channel, _ in each] for each in (heard, heard_again)]
    received = [item["subject"] for item in await engine.events() if item["type"] == "message.received"]

    assert received == [*keys, min(keys), min(keys), *keys]
    assert await merges(engine) == [(min(keys), [max(keys)]), (min(keys), []), (max(keys), [])]
    assert [set(each) for each in spoken] == [set(keys), set(keys)]
    assert (await told(engine))[0]["id"] == "partyline:link:l#merged"
    assert len({item["id"] for item in await told(engine)}) == 3
    assert [await resolved(engine, one) for one in keys] == keys


async def test_a_tie_of_two_addresses_makes_their_conversations_one_until_it_is_taken_back(engine: Engine) -> None:
    """Two phones that a person says are one user's: on every line, also on one that turns up later."""
    keys = [key(pair_identity(LINE, contact), engine.keyspace) for contact in (ANN, CAT)]
    later = [key(pair_identity(LINE_2, contact), engine.keyspace) for contact in (ANN, CAT)]
    await engine.feed(event("1", pair(ANN)), event("2", pair(CAT)))
    await engine.feed(linked("l", Tie(ANN, CAT)))
    await engine.feed(event("3", pair(ANN)), event("4", pair(CAT)))
    await engine.feed(event("5", pair(ANN, LINE_2)), event("6", pair(CAT, LINE_2)))
    await engine.feed(linked("u", Tie(ANN, CAT), undone=True))
    await engine.feed(event("7", pair(ANN)), event("8", pair(CAT)), event("9", pair(max(ANN, CAT), LINE_2)))
    received = [item["subject"] for item in await engine.events() if item["type"] == "message.received"]

    assert received[:4] == [*keys, min(keys), min(keys)]
    assert received[5] == min(later)
    assert received[6:8] == keys
    assert received[8] == later[1]
    assert (min(keys), [max(keys)]) in await merges(engine)
    assert {(keys[0], ()), (keys[1], ())} <= {(subject, tuple(merged)) for subject, merged in await merges(engine)}


async def test_people_whom_a_person_ties_are_one_participant(engine: Engine) -> None:
    """Two numbers of one user are shown as one person; each conversation has its own again when that is taken back."""
    await engine.feed(event("1", pair(ANN)), event("2", pair(CAT)))
    await engine.feed(linked("l", Tie(ANN, CAT)))
    await engine.feed(event("3", pair(ANN)))
    tied = await engine.shown()
    await engine.feed(linked("u", Tie(ANN, CAT), undone=True))
    await engine.feed(event("4", pair(ANN)))

    assert tied["participants"] in ([ANN], [CAT])
    assert (await engine.shown())["participants"] == [ANN]


async def test_a_direct_and_a_group_conversation_are_not_linked(engine: Engine) -> None:
    """Such a link, should one ever get into the log, changes nothing and tells nothing."""
    direct, group = pair_identity(LINE, ANN), group_identity("", "club")
    keys = [ConversationKey(key(identity, engine.keyspace)) for identity in (direct, group)]
    await engine.feed(event("1", pair(ANN)), event("2", Evidence(group)))
    await engine.feed(linked("l", Link(*keys)))
    await engine.feed(event("3", pair(ANN)), event("4", Evidence(group)))

    assert await merges(engine) == []
    assert await engine.subjects() == [*keys, *keys]


# --- roll-ups ---


async def test_each_report_shows_what_became_of_the_whole_message(engine: Engine) -> None:
    """Three facts about one group message: with each the roll-up is further, and a late one changes nothing."""
    await engine.feed(event("send", pointed("g1", identity=TRIO, registered=True), body=MessageOutbound(SENT)))
    await engine.feed(report("1", pointed("g1", kind="group"), "sent", ANN, final=False))
    await engine.feed(report("2", pointed("g1", kind="group"), "delivered", ANN))
    await engine.feed(report("3", pointed("g1", kind="group"), "failed", BOB))
    await engine.feed(report("4", pointed("g1", kind="group"), "sent", BOB, final=False))
    [send, *reports] = await engine.events()
    shown = [{word: number for word, number in item["data"]["rollup"].items() if number} for item in reports]

    assert "rollup" not in send["data"]
    assert shown == [
        {"recipients": 2, "sent": 1},
        {"recipients": 2, "delivered": 1},
        {"recipients": 2, "delivered": 1, "failed": 1, "settled": True},
        {"recipients": 2, "delivered": 1, "failed": 1, "settled": True},
    ]
    assert [item["data"]["status"]["stale"] for item in reports] == [False, False, False, True]


async def test_a_roll_up_is_the_messages_under_whichever_of_its_ids(engine: Engine) -> None:
    """Two ids gathered reports of their own until one callback named both: then all of them count together."""
    await engine.feed(report("1", pointed("m1"), "delivered", ANN), report("2", pointed("g1"), "read", BOB))
    await engine.feed(report("3", pointed("m1", "g1"), "failed", CAT))
    await engine.feed(report("4", pointed("g1"), "sent", CAT, final=False))
    shown = [item["data"]["rollup"] for item in await told(engine, "message.status")]

    assert [(each["failed"], each["delivered"], each["read"]) for each in shown[-2:]] == [(1, 1, 1), (1, 1, 1)]
    assert (await told(engine, "message.status"))[-1]["data"]["status"]["stale"] is True


async def test_a_batch_is_one_message_in_many_conversations(engine: Engine) -> None:
    """Each recipient has a conversation of its own; the roll-up is the batch's."""
    await engine.feed(of_batch(ANN, name="ann"), of_batch(BOB, name="bob"))
    [ann, bob] = await engine.events()

    assert ann["subject"] != bob["subject"]
    assert [item["data"]["rollup"]["delivered"] for item in (ann, bob)] == [1, 2]


async def test_a_report_on_a_user_by_id_is_stale_after_one_by_phone(engine: Engine) -> None:
    """It was this recipient's state already, by the other address; the roll-up counts the user once."""
    phone, user = (
        pointed("m1", identity=identity, same_user=((ANN, ANN_ID),))
        for identity in (pair_identity(LINE, ANN), user_identity(LINE, ANN_ID))
    )
    await engine.feed(report("1", phone, "delivered", ANN))
    await engine.feed(report("2", user, "delivered", ANN_ID))
    data = (await engine.events())[-1]["data"]

    assert (data["rollup"]["recipients"], data["rollup"]["delivered"]) == (1, 1)
    assert data["status"]["stale"] is True


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_the_last_report_shows_the_same_in_any_order(engine: Engine, order: tuple[int, ...]) -> None:
    """Send and reports in any order end in the same roll-up."""
    facts = [
        event("send", pointed("g1", identity=TRIO, registered=True), body=MessageOutbound(SENT)),
        report("1", pointed("g1", kind="group"), "delivered", ANN),
        report("2", pointed("g1", kind="group"), "sent", BOB, final=False),
    ]
    for place in order:
        await engine.feed(facts[place])
    await engine.feed(report("3", pointed("g1", kind="group"), "queued", BOB, final=False))
    rollup = (await engine.events())[-1]["data"]["rollup"]

    assert (rollup["recipients"], rollup["sent"], rollup["delivered"], rollup["settled"]) == (2, 1, 1, False)


# --- copies ---


def heard_on(name: str, line: Address, text: str = "Seven it is") -> Event:
    """Ann writes to the trio and our second line, as one of our lines is told of it."""
    evidence = Evidence(set_identity(frozenset({LINE, LINE_2, ANN, BOB})), lines=(line,))
    body = MessageReceived(msgspec.structs.replace(message(name), text=text))
    return event(name, evidence, body=body)


async def copied(engine: Engine) -> dict[str, str | None]:
    """Of which event each one in the stream is a copy."""
    return {
        item["id"].rpartition(":")[2]: (item["data"].get("copy_of") or "").rpartition(":")[2] or None
        for item in await engine.events()
    }


async def test_what_a_second_line_hears_is_published_as_a_copy(engine: Engine) -> None:
    """Both are events of their own; the second names the first, and an original has no such field."""
    await engine.feed(heard_on("one", LINE), lines=LINES)
    await engine.feed(heard_on("two", LINE_2), lines=LINES, after_seconds=3)
    [one, two] = await engine.events()

    assert "copy_of" not in one["data"]
    assert two["data"]["copy_of"] == one["id"]
    assert one["subject"] == two["subject"]


async def test_the_first_message_of_a_group_is_copied_though_no_line_is_configured(engine: Engine) -> None:
    """That the account has a second line is enough, wherever it was heard of: copies are looked for from then on."""
    await engine.feed(event("before", pair(CAT, LINE_2)))
    await engine.feed(heard_on("one", LINE), heard_on("two", LINE_2))

    assert await copied(engine) == {"before": None, "one": None, "two": "one"}


@pytest.mark.parametrize(
    ("second", "after"),
    [
        pytest.param(heard_on("two", LINE), 3, id="the same line"),
        pytest.param(heard_on("two", LINE_2), 11, id="beyond the window of ten seconds"),
        pytest.param(heard_on("two", LINE_2, "Eight then"), 3, id="another text"),
        pytest.param(
            event("two", Evidence(set_identity(frozenset({LINE, LINE_2, ANN, CAT})), lines=(LINE_2,))),
            3,
            id="another group",
        ),
    ],
)
async def test_what_is_no_copy_is_an_original(engine: Engine, second: Event, after: float) -> None:
    """Another line of the same group must have been told of the same message within the window."""
    await engine.feed(heard_on("one", LINE), lines=LINES)
    await engine.feed(second, lines=LINES, after_seconds=after)

    assert await copied(engine) == {"one": None, "two": None}


async def test_direct_messages_are_never_copies(engine: Engine) -> None:
    """Somebody who writes the same to two of our lines wrote twice, in two conversations."""
    await engine.feed(event("one", pair(ANN)), event("two", pair(ANN, LINE_2)), lines=LINES)

    assert await copied(engine) == {"one": None, "two": None}


async def test_with_a_window_of_zero_nothing_is_a_copy(engine: Engine) -> None:
    """The setting of the capture decides, so that a replay decides alike."""
    entries = [engine.entry(heard_on("one", LINE)), engine.entry(heard_on("two", LINE_2))]
    facts = AccountFacts(lines=LINES, copy_window_seconds=0)
    await engine.commit(
        *(
            msgspec.structs.replace(entry, capture=msgspec.structs.replace(entry.capture, facts=facts))
            for entry in entries
        )
    )

    assert await copied(engine) == {"one": None, "two": None}


async def test_a_redelivery_between_two_lines_is_no_copy(engine: Engine) -> None:
    """The original comes again before the copy: the copy is still one of the original."""
    one, two = heard_on("one", LINE), heard_on("two", LINE_2)
    await engine.feed(one, one, two, two, lines=LINES)

    assert await copied(engine) == {"one": None, "two": "one"}


async def test_a_message_written_again_after_a_late_redelivery_is_no_copy(engine: Engine) -> None:
    """The provider repeats an old callback, and then somebody really writes the same words to the other line."""
    await engine.feed(heard_on("one", LINE), lines=LINES)
    await engine.feed(heard_on("two", LINE_2), lines=LINES, after_seconds=1)
    await engine.feed(heard_on("two", LINE_2), lines=LINES, after_seconds=60)
    await engine.feed(heard_on("new", LINE), lines=LINES, after_seconds=62)

    assert await copied(engine) == {"one": None, "two": "one", "new": None}


# --- duplicates ---


async def test_what_came_before_publishes_nothing_new(engine: Engine) -> None:
    """Every fact again, in this order and in the other: no event, no consequence, nothing on any channel."""
    club = group_identity("", "club")
    history = [
        report("report", pointed("g1", kind="group"), "sent", ANN, final=False),
        event("send", pointed("g1", "m1", identity=TRIO, registered=True), body=MessageOutbound(SENT)),
        report("final", pointed("g1", kind="group"), "delivered", ANN),
        event("phone", pair(ANN)),
        event("both", by_id()),
        event("list", Evidence(club, listed=(LINE, ANN), lines=(LINE,), name="Rowing"), at_seconds=0),
        event("drift", Evidence(club, listed=(LINE, ANN, BOB), lines=(LINE,), name="Sailing"), at_seconds=60),
        heard_on("one", LINE),
        heard_on("two", LINE_2),
        of_batch(BOB),
        batch_to_group(),
    ]
    for item in history:
        await engine.feed(item)
    before = await engine.raw_events()
    async with overhearing(engine.redis, engine.keyspace) as heard:
        for item in [*history, *reversed(history)]:
            await engine.feed(item)
        await engine.feed(*history)

    assert heard == []
    assert await engine.raw_events() == before


# --- in any order ---


def folded(history: Sequence[Event]) -> list[Folded]:
    """What each fact of a history comes to, folded in one after the other."""
    scope, read = Scope(ID_KEY, "demo", "telnyx", "main"), dict[Name, bytes | None]()
    while True:
        ledger = Ledger(read)
        try:
            return [ledger.fold(_fact(scope, item, number)) for number, item in enumerate(history, 1)]
        except MissingRecords as missing:
            read |= dict.fromkeys(missing.names)


def _fact(scope: Scope, item: Event, number: int) -> Fact:
    assert item.evidence is not None
    assert item.occurred_at is not None
    at = unix_milliseconds(item.occurred_at)
    return Fact(scope, item, item.evidence, order_of(f"{number}-0", 0), at, item.occurred_at, frozenset(), 0)


@st.composite
def reports(draw: st.DrawFn) -> list[Event]:
    """Reports and sends that name any of three ids, alone or together, and some of three people."""
    made = []
    for number in range(draw(st.integers(1, 7))):
        ids = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=2, unique=True))
        told = draw(st.sampled_from([None, (ANN, BOB), (ANN, BOB, CAT)]))
        message = tuple(Pointer("message", (word,)) for word in ids)
        evidence = pointed(*ids, sent=Sent(message, recipients=told) if told else None)
        recipient = draw(st.sampled_from([None, ANN, BOB, CAT]))
        state: State = draw(st.sampled_from(get_args(State)))
        made.append(report(f"r{number}", evidence, state, recipient, final=STATES.index(state) > 1))
    return made


@given(history=reports(), data=st.data())
def test_in_any_order_each_id_ends_with_the_same_roll_up(history: list[Event], data: st.DataObject) -> None:
    """Whatever ids turn out to be of one message, and when: the reports on all of them are counted together."""
    again = data.draw(st.lists(st.sampled_from(history), max_size=3))
    order = data.draw(st.permutations([*history, *again]))
    last = [report(f"last {word}", pointed(word), "queued", final=False) for word in "abc"]

    assert [one.rollup for one in folded([*history, *last])[-3:]] == [
        one.rollup for one in folded([*order, *last])[-3:]
    ]


@st.composite
def lists(draw: st.DrawFn, *more: Address) -> list[Event]:
    """Lists of a group's members, by its messages or by reports on its batches; who writes, joins or leaves."""
    club, made = group_identity("", "club"), list[Event]()
    for number in range(draw(st.integers(1, 7))):
        people = tuple(draw(st.lists(st.sampled_from([ANN, BOB, CAT, *more]), min_size=1, max_size=3, unique=True)))
        at, batch = draw(st.integers(0, 4)), Pointer("batch", (draw(st.sampled_from("xy")),))
        by_group = [
            Evidence(club, listed=(LINE, *people), lines=(LINE,)),
            Evidence(club, joined=people, same_user=tuple((ANN, one) for one in more if draw(st.booleans()))),
            Evidence(club, left=people),
        ]
        place = Pointer("batch", (*batch.parts, people[0]))
        by_batch = [
            Evidence(club, pointers=(batch,), registered=True, sent=Sent((batch,), group=club), lines=(LINE,)),
            Evidence(contact=people[0], pointers=(place,), kind="direct", sent=Sent((batch,), recipients=people)),
        ]
        made.append(report(f"f{number}", draw(st.sampled_from([*by_group, *by_batch])), recipient=people[0], at=at))
    return made


@given(history=lists(ANN_ID), data=st.data())
def test_in_any_order_a_group_ends_with_the_same_members(history: list[Event], data: st.DataObject) -> None:
    """Lists, deltas, sends and full reports in any order, any of them again: the same people in the end."""
    again = data.draw(st.lists(st.sampled_from(history), max_size=3))
    order = data.draw(st.permutations([*history, *again]))
    last = event("last", Evidence(group_identity("", "club")), at_seconds=9)

    assert folded([*order, last])[-1].conversation.people == folded([*history, last])[-1].conversation.people


@given(history=lists())
def test_changes_of_members_add_up(history: list[Event]) -> None:
    """From the first complete list on, who follows the changes knows at each point who is in the group."""
    last = event("last", Evidence(group_identity("", "club")), at_seconds=9)
    before = folded([last])[-1].conversation
    for number in range(1, len(history) + 1):
        now = folded([*history[:number], last])[-1].conversation
        known = set(before.people or ())
        for told in folded(history[:number])[-1].told:
            assert isinstance(told.body, ConversationMembers)
            known = known.difference(told.body.members.removed).union(told.body.members.added)
        if before.roster.complete:
            assert known == set(now.people or ())
        before = now
