"""Looking conversations up in a real Redis: by key, by any id of the provider's, by participant; in pages."""

from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from redis.asyncio import Redis

from correlator.lookup import Lookup, Page
from schemas.address import Address
from schemas.errors import StoreError
from schemas.events import (
    ConversationMembers,
    Event,
    Evidence,
    Identity,
    Link,
    Linked,
    Members,
    Message,
    MessageOutbound,
    MessageStatus,
    Pointer,
    Sent,
    Status,
    Tie,
    group_identity,
    pair_identity,
    set_identity,
    user_identity,
)
from schemas.ids import ConversationKey, EventId, Scope
from schemas.keyspace import Keyspace
from tests.engine import ANN, BOB, CAT, ID_KEY, LINE, LINE_2, NOW, Engine, event, everyone, key, pair, started

ANN_ID = Address("whatsapp:US.1001")
CLUB = group_identity("", "club")
TRIO = set_identity(frozenset({LINE, ANN, BOB}))
SENT = Message(id="m1", direction="outbound", sender=LINE, text=None, media=(), channel="sms")
#: Ids of people's messages are kept for a month or two, so these have to be received about now.
TODAY = (datetime.now(UTC) - NOW).total_seconds()
#: More than two pages of twenty.
MANY = [Address(f"+1555555{number:04d}") for number in range(1100, 1145)]


@pytest.fixture
async def engine(redis: Redis, keyspace: Keyspace) -> Engine:
    """A store with the lease in hand."""
    return await started(redis, keyspace)


@pytest.fixture
def lookup(redis: Redis, keyspace: Keyspace) -> Lookup:
    """Somebody who asks."""
    return Lookup(redis, keyspace, ID_KEY)


def keys(page: Page) -> list[str]:
    """The keys of a page, which is the only one."""
    assert page.after is None
    return [found["key"] for found in page.conversations]


async def by_id(lookup: Lookup, identifier: str, provider: str = "telnyx", account: str = "main") -> list[str]:
    """What an id leads to."""
    return keys(await lookup.by_id(provider, account, identifier, "", 20))


async def by_address(
    lookup: Lookup, address: Address, provider: str | None = None, account: str | None = None
) -> list[str]:
    """Where somebody takes part."""
    return keys(await lookup.by_address(address, provider, account, "", 20))


def report(name: str, evidence: Evidence, recipient: Address | None = None) -> Event:
    """A report on a message of ours."""
    status = Status("delivered", final=True, recipient=recipient, raw="delivered")
    return event(name, evidence, body=MessageStatus(SENT, status))


def pointed(sort: str, *words: str, identity: Identity | None = None, **more: Any) -> Evidence:
    """What a fact tells that names ids of a sort."""
    return Evidence(identity, pointers=tuple(Pointer(sort, (word,)) for word in words), lines=(LINE,), **more)


def of_batch(recipient: Address, *, line: Address | None = LINE) -> Event:
    """A report on one recipient of a batch."""
    evidence = Evidence(
        identity=pair_identity(line, recipient) if line else None,
        contact=None if line else recipient,
        pointers=(Pointer("batch", ("01BATCH", recipient)),),
        kind="direct",
        lines=(line,) if line else (),
        sent=Sent((Pointer("batch", ("01BATCH",)),)),
    )
    return report(f"report {recipient}", evidence, recipient)


# --- by key ---


async def test_a_conversation_is_shown_as_in_its_events(engine: Engine, lookup: Lookup) -> None:
    """The fields of `data.conversation`, and beside them its account, merged keys, ids and last sequence."""
    await engine.feed(event("1", everyone(LINE, ANN, BOB)))
    await engine.feed(event("2", everyone(LINE, ANN, BOB)))
    found = await lookup.conversation(ConversationKey(key(TRIO, engine.keyspace)))

    assert found == {
        **await engine.shown(),
        "participants": (ANN, BOB),
        "lines": (LINE,),
        "account": "telnyx/main",
        "merged": (),
        "ids": {},
        "sequence": "0000000000000002",
    }


async def test_a_group_shows_its_providers_id(engine: Engine, lookup: Lookup) -> None:
    """An operator finds the same group at the provider by it."""
    await engine.feed(event("1", Evidence(CLUB, lines=(LINE,), joined=(ANN,))), provider="sendblue", account="blue")
    found = await lookup.conversation(ConversationKey(key(CLUB, engine.keyspace, provider="sendblue", account="blue")))

    assert found is not None
    assert (found["ids"], found["account"], found["kind"]) == ({"group_id": "club"}, "sendblue/blue", "group")


async def test_a_merged_key_answers_with_its_survivor(engine: Engine, lookup: Lookup) -> None:
    """Each key of a chain of merges gives the same answer, which names all the others."""
    await engine.feed(report("1", pointed("message", "m1", kind="direct")))
    [provisional] = await engine.subjects()
    await engine.feed(report("2", pointed("message", "m1", identity=pair_identity(LINE, ANN))))
    both = Evidence(user_identity(LINE, ANN_ID), lines=(LINE,), same_user=((ANN, ANN_ID),))
    await engine.feed(event("3", both))
    phone, user = (key(one, engine.keyspace) for one in (pair_identity(LINE, ANN), user_identity(LINE, ANN_ID)))
    answers = [await lookup.conversation(ConversationKey(old)) for old in (provisional, phone, user)]

    assert answers[0] is not None
    assert answers[0]["key"] == user
    assert answers[0]["merged"] == tuple(sorted([provisional, phone]))
    assert answers[0]["sequence"] == (await engine.events())[-1]["sequence"]
    assert answers[0] == answers[1] == answers[2]


async def test_a_provisional_conversation_says_so(engine: Engine, lookup: Lookup) -> None:
    """It is there to be found, with nobody known in it yet."""
    await engine.feed(report("1", pointed("message", "m1")))
    [provisional] = await engine.subjects()
    found = await lookup.conversation(ConversationKey(provisional))

    assert found is not None
    assert (found["provisional"], found["participants"], found["kind"]) == (True, None, "unknown")


async def test_a_key_never_heard_of_is_none(engine: Engine, lookup: Lookup) -> None:
    """Neither a made-up key, nor one that only a person has named, nor the subject of an account is a conversation."""
    await engine.feed(event("1", pair(ANN)), event("2", None))
    known, named = ConversationKey(key(pair_identity(LINE, ANN), engine.keyspace)), ConversationKey("cv_" + "b" * 26)
    await engine.feed(Linked(EventId("partyline:link:l"), Link(known, named)))
    account = Scope(ID_KEY, engine.keyspace.namespace, "telnyx", "main").whole_account()

    assert await lookup.conversation(ConversationKey("cv_" + "a" * 26)) is None
    assert await lookup.conversation(named) is None
    assert await lookup.conversation(account) is None


async def test_conversations_linked_by_a_person_are_one_answer(engine: Engine, lookup: Lookup) -> None:
    """Everybody of both, under the survivor, until the link is taken back."""
    other = set_identity(frozenset({LINE, ANN, CAT}))
    await engine.feed(event("1", everyone(LINE, ANN, BOB)), event("2", everyone(LINE, ANN, CAT)))
    ends = sorted(ConversationKey(key(identity, engine.keyspace)) for identity in (TRIO, other))
    await engine.feed(Linked(EventId("partyline:link:l"), Link(*ends)))
    tied = [await lookup.conversation(end) for end in ends]
    await engine.feed(Linked(EventId("partyline:link:u"), Link(*ends), undone=True))
    apart = [await lookup.conversation(end) for end in ends]

    assert [found and (found["key"], found["merged"]) for found in tied] == [(ends[0], (ends[1],))] * 2
    assert tied[0] is not None
    assert tied[0]["participants"] == (ANN, BOB, CAT)
    assert [found and (found["key"], found["merged"]) for found in apart] == [(end, ()) for end in ends]


# --- by id ---


async def test_a_persons_message_is_found_by_its_id(engine: Engine, lookup: Lookup) -> None:
    """The id that the provider gave the message; another one finds nothing, and so does another account."""
    await engine.feed(event("9d12", pair(ANN)), after_seconds=TODAY)

    assert await by_id(lookup, "9d12") == [key(pair_identity(LINE, ANN), engine.keyspace)]
    assert await by_id(lookup, "9d13") == []
    assert await by_id(lookup, "9d12", account="other") == []
    assert await by_id(lookup, "9d12", provider="sinch") == []


async def test_an_id_that_two_messages_have_finds_both(engine: Engine, lookup: Lookup) -> None:
    """A person's message and one of ours may have ids that look alike: both conversations, each once."""
    await engine.feed(event("9d12", pair(ANN)), after_seconds=TODAY)
    await engine.feed(report("report", pointed("message", "9d12", identity=pair_identity(LINE, BOB))))

    assert await by_id(lookup, "9d12") == sorted(
        key(pair_identity(LINE, contact), engine.keyspace) for contact in (ANN, BOB)
    )


async def test_a_message_of_ours_is_found_by_each_of_its_ids(engine: Engine, lookup: Lookup) -> None:
    """The message's own and the group message's, once a report or a registered send named both."""
    send = pointed("message", "m1", "g1", identity=TRIO, registered=True)
    await engine.feed(event("send", send, body=MessageOutbound(SENT)))

    assert await by_id(lookup, "m1") == await by_id(lookup, "g1") == [key(TRIO, engine.keyspace)]


async def test_a_report_that_nobody_claims_is_found_by_its_id(engine: Engine, lookup: Lookup) -> None:
    """It leads to the provisional conversation, and to whom it belongs once that is known."""
    await engine.feed(report("1", pointed("message", "m1", kind="group")))
    [provisional] = await engine.subjects()
    before = await by_id(lookup, "m1")
    await engine.feed(report("2", pointed("message", "m1", identity=TRIO)))

    assert before == [provisional]
    assert await by_id(lookup, "m1") == [key(TRIO, engine.keyspace)]


async def test_a_group_is_found_by_its_id(engine: Engine, lookup: Lookup) -> None:
    """At its own account only, and not by a part of the id."""
    await engine.feed(event("1", Evidence(CLUB, joined=(ANN,))))
    await engine.feed(event("2", Evidence(CLUB, joined=(ANN,)), account="other"), account="other")

    assert await by_id(lookup, "club") == [key(CLUB, engine.keyspace)]
    assert await by_id(lookup, "club", account="other") == [key(CLUB, engine.keyspace, account="other")]
    assert await by_id(lookup, "clu") == []


async def test_a_group_of_one_phone_number_is_found_by_its_id(engine: Engine, lookup: Lookup) -> None:
    """WhatsApp's ids are unique under a phone number's id; who looks up names the group's alone."""
    scoped = group_identity("106540352242922", "Y2FwaV9")
    await engine.feed(event("1", Evidence(scoped, joined=(ANN,))))

    assert await by_id(lookup, "Y2FwaV9") == [key(scoped, engine.keyspace)]


async def test_a_request_is_found_by_its_id(engine: Engine, lookup: Lookup) -> None:
    """A send that was answered with a request id only: by that, until and after its group is known."""
    await engine.feed(event("send", pointed("request", "r1", kind="group"), body=MessageOutbound(SENT)))
    [provisional] = await engine.subjects()
    before = await by_id(lookup, "r1")
    await engine.feed(event("created", pointed("request", "r1", identity=CLUB), body=MessageOutbound(SENT)))

    assert before == [provisional]
    assert await by_id(lookup, "r1") == [key(CLUB, engine.keyspace)]


@pytest.mark.parametrize("line", [LINE, None], ids=["line known", "provisional"])
async def test_a_batch_is_found_by_its_id_in_all_its_conversations(
    engine: Engine, lookup: Lookup, line: Address | None
) -> None:
    """A batch to forty-five people is in as many conversations: each is on one page of three, and once."""
    await engine.feed(*(of_batch(person, line=line) for person in MANY))
    found, after, sizes = list[str](), "", []
    while True:
        page = await lookup.by_id("telnyx", "main", "01BATCH", after, 20)
        found += [each["key"] for each in page.conversations]
        sizes.append(len(page.conversations))
        if page.after is None:
            break
        after = page.after

    assert sizes == [20, 20, 5]
    assert found == sorted(set(await engine.subjects()))
    assert len(found) == 45


async def test_a_batch_to_a_group_is_found_by_its_id(engine: Engine, lookup: Lookup) -> None:
    """The group's conversation, and those of the members whom reports name."""
    batch = Pointer("batch", ("01BATCH",))
    send = Evidence(CLUB, pointers=(batch,), registered=True, sent=Sent((batch,), line=LINE, group=CLUB))
    await engine.feed(event("send", send, body=MessageOutbound(SENT)), of_batch(ANN, line=None))
    direct = key(pair_identity(LINE, ANN), engine.keyspace)

    assert await by_id(lookup, "01BATCH") == sorted([key(CLUB, engine.keyspace), direct])


async def test_an_id_leads_to_the_survivor_in_another_account(engine: Engine, lookup: Lookup) -> None:
    """A person has linked conversations of two accounts: whose ids either of them knows lead to the one of both."""
    await engine.feed(event("here", everyone(LINE, ANN, BOB)), after_seconds=TODAY)
    there = event("there", Evidence(CLUB, joined=(ANN,)), account="other")
    await engine.feed(there, account="other", after_seconds=TODAY)
    ends = (key(TRIO, engine.keyspace), key(CLUB, engine.keyspace, account="other"))
    await engine.feed(Linked(EventId("partyline:link:l"), Link(*map(ConversationKey, ends))))

    assert await by_id(lookup, "there", account="other") == [ends[1]]
    assert await by_id(lookup, "here") == [ends[1]]


# --- by address ---


async def test_a_person_is_found_wherever_he_takes_part(engine: Engine, lookup: Lookup) -> None:
    """In direct conversations and groups, at any account and provider, or at those that are named."""
    await engine.feed(event("1", pair(ANN)), event("2", everyone(LINE, ANN, BOB)), event("3", pair(BOB)))
    await engine.feed(event("4", pair(ANN, LINE_2), account="other"), account="other")
    await engine.feed(event("5", Evidence(CLUB, joined=(ANN,)), provider="sendblue"), provider="sendblue")
    direct, trio = key(pair_identity(LINE, ANN), engine.keyspace), key(TRIO, engine.keyspace)
    other = key(pair_identity(LINE_2, ANN), engine.keyspace, account="other")
    club = key(CLUB, engine.keyspace, provider="sendblue")

    assert await by_address(lookup, ANN) == sorted([direct, trio, other, club])
    assert await by_address(lookup, ANN, "telnyx") == sorted([direct, trio, other])
    assert await by_address(lookup, ANN, "telnyx", "main") == sorted([direct, trio])
    assert await by_address(lookup, ANN, "sendblue", "main") == [club]
    assert await by_address(lookup, ANN, "sendblue", "other") == []
    assert await by_address(lookup, ANN, "whatsapp") == []


@pytest.mark.parametrize("start", ["cv_aa", "cv_77"])
async def test_a_conversation_is_found_whatever_its_key_begins_with(engine: Engine, lookup: Lookup, start: str) -> None:
    """The smallest keys there are and the greatest ones, by address and by the group's id."""
    names = (f"club {number}" for number in count())
    club = next(name for name in names if key(group_identity("", name), engine.keyspace).startswith(start))
    await engine.feed(event("1", Evidence(group_identity("", club), joined=(ANN,))))
    found = key(group_identity("", club), engine.keyspace)

    assert await by_address(lookup, ANN) == await by_id(lookup, club) == [found]


@pytest.mark.parametrize("address", [CAT, LINE, Address("+1555555011"), Address("telnyx:40404")])
async def test_who_takes_part_in_nothing_is_not_found(engine: Engine, lookup: Lookup, address: Address) -> None:
    """Nor is an own line, which takes part in everything, or the start of somebody's number."""
    await engine.feed(event("1", pair(ANN)), event("2", everyone(LINE, ANN, BOB)))

    assert await by_address(lookup, address) == []


async def test_who_has_left_is_not_found(engine: Engine, lookup: Lookup) -> None:
    """Whoever takes part now: gone by an event or by a list, back by another one."""
    await engine.feed(event("1", Evidence(CLUB, listed=(LINE, ANN, BOB), lines=(LINE,)), at_seconds=0))
    gone = Evidence(CLUB, left=(ANN,))
    await engine.feed(event("2", gone, body=ConversationMembers(Members((), (ANN,))), at_seconds=10))
    after_event = [await by_address(lookup, person) for person in (ANN, BOB)]
    await engine.feed(event("3", Evidence(CLUB, listed=(LINE, ANN)), at_seconds=20))
    after_list = [await by_address(lookup, person) for person in (ANN, BOB)]
    club = key(CLUB, engine.keyspace)

    assert after_event == [[], [club]]
    assert after_list == [[club], []]


async def test_a_user_is_found_by_phone_and_by_id(engine: Engine, lookup: Lookup) -> None:
    """Both are one user's, in the merged direct conversation and in a group that names only the id."""
    tie = ((ANN, ANN_ID),)
    await engine.feed(event("1", pair(ANN)))
    await engine.feed(event("2", Evidence(user_identity(LINE, ANN_ID), lines=(LINE,), same_user=tie)))
    await engine.feed(event("3", Evidence(CLUB, joined=(ANN_ID,), same_user=tie)))
    found = sorted([key(user_identity(LINE, ANN_ID), engine.keyspace), key(CLUB, engine.keyspace)])

    assert await by_address(lookup, ANN) == await by_address(lookup, ANN_ID) == found


async def test_people_whom_a_person_ties_are_found_by_either_address(engine: Engine, lookup: Lookup) -> None:
    """Each of two numbers leads to the one conversation, and to its own again when the tie is taken back."""
    await engine.feed(event("1", pair(ANN)), event("2", pair(CAT)))
    own = [key(pair_identity(LINE, contact), engine.keyspace) for contact in (ANN, CAT)]
    await engine.feed(Linked(EventId("partyline:link:l"), Tie(ANN, CAT)))
    tied = [await by_address(lookup, person) for person in (ANN, CAT)]
    await engine.feed(Linked(EventId("partyline:link:u"), Tie(ANN, CAT), undone=True))
    apart = [await by_address(lookup, person) for person in (ANN, CAT)]

    assert tied == [[min(own)], [min(own)]]
    assert apart == [[own[0]], [own[1]]]


async def test_a_person_is_found_at_each_account_of_a_linked_conversation(engine: Engine, lookup: Lookup) -> None:
    """Conversations of two accounts are linked: who asks at either of them is led to the one of both."""
    await engine.feed(event("here", everyone(LINE, ANN, BOB)))
    await engine.feed(event("there", Evidence(CLUB, joined=(ANN,)), account="other"), account="other")
    ends = (key(TRIO, engine.keyspace), key(CLUB, engine.keyspace, account="other"))
    await engine.feed(Linked(EventId("partyline:link:l"), Link(*map(ConversationKey, ends))))

    assert await by_address(lookup, BOB) == [ends[1]]
    assert await by_address(lookup, BOB, "telnyx", "other") == [ends[1]]
    assert await by_address(lookup, BOB, "telnyx", "main") == [ends[1]]


async def test_somebody_who_turns_out_to_be_a_line_is_found_no_more(engine: Engine, lookup: Lookup) -> None:
    """Taken for a participant until a callback came on it."""
    await engine.feed(event("1", Evidence(CLUB, listed=(LINE, LINE_2, ANN), lines=(LINE,)), at_seconds=0))
    before = await by_address(lookup, LINE_2)
    await engine.feed(event("2", Evidence(CLUB, lines=(LINE_2,)), at_seconds=10))

    assert before == [key(CLUB, engine.keyspace)]
    assert await by_address(lookup, LINE_2) == []


# --- pages ---


@pytest.mark.parametrize(("limit", "sizes"), [(20, [20, 20, 5]), (45, [45]), (44, [44, 1]), (15, [15, 15, 15])])
async def test_pages_hold_each_conversation_once(engine: Engine, lookup: Lookup, limit: int, sizes: list[int]) -> None:
    """Forty-five conversations in order of their keys; the last page names no further one."""
    await engine.feed(*(event(f"m{number}", everyone(LINE, ANN, person)) for number, person in enumerate(MANY)))
    pages = [await lookup.by_address(ANN, None, None, "", limit)]
    while (after := pages[-1].after) is not None:
        pages.append(await lookup.by_address(ANN, None, None, after, limit))
    found = [each["key"] for page in pages for each in page.conversations]

    assert [len(page.conversations) for page in pages] == sizes
    assert found == sorted(set(await engine.subjects()))
    assert len(found) == 45


async def test_pages_pass_over_what_merged(engine: Engine, lookup: Lookup) -> None:
    """Two keys of one conversation are one entry, under the survivor."""
    await engine.feed(event("1", pair(ANN)))
    both = Evidence(user_identity(LINE, ANN_ID), lines=(LINE,), same_user=((ANN, ANN_ID),))
    await engine.feed(event("2", both), event("3", everyone(LINE, ANN, BOB)))
    found = sorted([key(user_identity(LINE, ANN_ID), engine.keyspace), key(TRIO, engine.keyspace)])
    first = await lookup.by_address(ANN, None, None, "", 1)
    second = await lookup.by_address(ANN, None, None, first.after or "", 1)

    assert [[each["key"] for each in page.conversations] for page in (first, second)] == [[found[0]], [found[1]]]
    assert (first.after, second.after) == (found[0], None)


async def test_an_empty_page_has_no_next(engine: Engine, lookup: Lookup) -> None:
    """Nothing found, by id or by address, before or after the end."""
    await engine.feed(event("1", pair(ANN)))
    last = key(pair_identity(LINE, ANN), engine.keyspace)

    assert await lookup.by_address(BOB, None, None, "", 20) == Page([], None)
    assert await lookup.by_id("telnyx", "main", "nothing", "", 20) == Page([], None)
    assert await lookup.by_address(ANN, None, None, last, 20) == Page([], None)


# --- what is asked of Redis ---


async def test_looking_up_changes_nothing(engine: Engine, lookup: Lookup) -> None:
    """Whoever asks leaves every record as it was, and makes none live longer or shorter."""
    await engine.feed(event("1", pair(ANN)), report("2", pointed("message", "m1")))
    before = await engine.dump()
    await lookup.by_address(ANN, None, None, "", 20)
    await lookup.by_id("telnyx", "main", "m1", "", 20)
    await lookup.conversation(ConversationKey(key(pair_identity(LINE, ANN), engine.keyspace)))

    assert await engine.dump() == before


async def test_a_redis_that_cannot_answer_is_an_error_of_the_store(redis: Redis, keyspace: Keyspace) -> None:
    """A record of another kind than expected is told as such, and not as nothing found."""
    await redis.set(keyspace.index(f"address {ANN}")[0], "no sorted set")

    with pytest.raises(StoreError):
        await Lookup(redis, keyspace, ID_KEY).by_address(ANN, None, None, "", 20)
