"""What changes in groups: members who drift, names, keywords, and what a report on a batch tells, as readers get it."""

from typing import Any, NamedTuple

import msgspec
import orjson
import pytest
from redis.asyncio import Redis

from receiver.providers import sinch
from schemas.address import Address
from schemas.callback import Capture
from schemas.events import (
    ConversationMembers,
    ConversationSettings,
    Event,
    Evidence,
    FailedMember,
    Keywords,
    Members,
    Message,
    MessageOutbound,
    MessageStatus,
    Pointer,
    Sent,
    Settings,
    Status,
    StatusError,
    group_identity,
)
from schemas.keyspace import Keyspace
from tests.engine import ANN, BOB, CAT, LINE, LINE_2, Engine, capture, event, key, pair, started

DAN = Address("+15555550114")
ANN_ID = Address("whatsapp:US.1001")
CLUB = group_identity("", "club")
BATCH = Pointer("batch", ("01BATCH",))


@pytest.fixture
async def engine(redis: Redis, keyspace: Keyspace) -> Engine:
    """A store with the lease in hand."""
    return await started(redis, keyspace)


class Change(NamedTuple):
    """One `conversation.members`, without what is empty."""

    id: str
    subject: str
    members: dict[str, Any]


async def changes(engine: Engine) -> list[Change]:
    """Every `conversation.members` in the stream."""
    return [
        Change(item["id"], item["subject"], {word: told for word, told in item["data"]["members"].items() if told})
        for item in await engine.events()
        if item["type"] == "conversation.members"
    ]


async def settings(engine: Engine) -> list[tuple[str, dict[str, Any]]]:
    """Id and settings of every `conversation.settings` in the stream."""
    return [
        (item["id"], item["data"]["settings"])
        for item in await engine.events()
        if item["type"] == "conversation.settings"
    ]


# --- members that drift (Sendblue) ---


def said(name: str, *listed: Address, at: float, sender: Address = ANN, title: str | None = None) -> Event:
    """A message to the club, with everybody in it as of then; nobody listed: it comes without a list."""
    everybody = (LINE, *listed) if listed else None
    return event(name, Evidence(CLUB, lines=(LINE,), listed=everybody, joined=(sender,), name=title), at_seconds=at)


async def test_a_list_that_differs_is_a_change_of_members(engine: Engine) -> None:
    """Who is new and who is gone, with everybody afterwards, told just before the message that showed it."""
    await engine.feed(said("one", ANN, BOB, at=0))
    await engine.feed(said("two", ANN, CAT, at=60))
    [_, change, message] = await engine.events()

    assert change["type"] == "conversation.members"
    assert change["id"] == "telnyx:main:two#members"
    assert change["time"] == message["time"]
    assert change["data"]["members"] == {"added": [CAT], "removed": [BOB], "after": [ANN, CAT]}
    assert change["subject"] == message["subject"] == key(CLUB, engine.keyspace)
    assert [change["sequence"][-1], message["sequence"][-1]] == ["2", "3"]
    assert message["data"]["conversation"]["participants"] == [ANN, CAT]


@pytest.mark.parametrize(
    "news",
    [
        pytest.param([said("one", ANN, BOB, at=0)], id="the first list"),
        pytest.param([said("one", at=0), said("two", ANN, BOB, at=60)], id="the first list after messages without one"),
        pytest.param([said("one", ANN, BOB, at=0), said("two", ANN, BOB, at=60)], id="the same list"),
        pytest.param([said("one", ANN, BOB, at=60), said("two", ANN, CAT, at=0)], id="a list of before"),
        pytest.param([said("one", ANN, BOB, at=0), said("two", at=60)], id="a message without a list"),
        pytest.param([said("one", at=0), said("two", at=60, sender=BOB)], id="whoever writes, before there is a list"),
        pytest.param([said("one", ANN, BOB, at=60), said("two", at=0, sender=DAN)], id="who wrote before the list"),
    ],
)
async def test_what_changes_no_members_says_nothing(engine: Engine, news: list[Event]) -> None:
    """The first complete list is no change, for nobody knows what it was before; a late one has no effect."""
    for item in news:
        await engine.feed(item)

    assert await changes(engine) == []


async def test_who_writes_without_being_listed_has_joined(engine: Engine) -> None:
    """Sending is being in it, so after a list that is a change too."""
    await engine.feed(said("one", ANN, BOB, at=0))
    await engine.feed(said("two", at=60, sender=DAN))

    assert [change.members for change in await changes(engine)] == [{"added": [DAN], "after": [ANN, BOB, DAN]}]


async def test_a_line_that_turns_out_to_be_ours_has_not_left(engine: Engine) -> None:
    """A second own line was taken for a person until a callback came on it: nobody joined and nobody left."""
    await engine.feed(said("one", ANN, LINE_2, at=0))
    evidence = Evidence(CLUB, lines=(LINE_2,), listed=(LINE, LINE_2, ANN))
    await engine.feed(event("two", evidence, at_seconds=60))

    assert await changes(engine) == []
    assert (await engine.shown())["participants"] == [ANN]
    assert (await engine.shown())["lines"] == [LINE, LINE_2]


async def test_a_change_is_told_once(engine: Engine) -> None:
    """The message that showed it comes again, and another one shows the same list."""
    await engine.feed(said("one", ANN, BOB, at=0))
    for _ in range(2):
        await engine.feed(said("two", ANN, CAT, at=60))
    await engine.feed(said("three", ANN, CAT, at=90))

    assert [change.id for change in await changes(engine)] == ["telnyx:main:two#members"]


async def test_changes_of_one_capture_are_told_each(engine: Engine) -> None:
    """Two messages in one body, two changes, each before its own message."""
    await engine.feed(said("one", ANN, at=0), said("two", ANN, BOB, at=60), said("three", ANN, at=90))

    assert [change.members for change in await changes(engine)] == [
        {"added": [BOB], "after": [ANN, BOB]},
        {"removed": [BOB], "after": [ANN]},
    ]
    assert [item["id"].partition("main:")[2] for item in await engine.events()] == [
        "one",
        "two#members",
        "two",
        "three#members",
        "three",
    ]


# --- member events (WhatsApp) ---


def moved(name: str, members: Members, *, at: float = 0, **more: Any) -> Event:
    """The provider says in so many words who joined or left, under its own event."""
    evidence = Evidence(CLUB, lines=(LINE,), joined=members.added, left=members.removed, **more)
    return event(name, evidence, body=ConversationMembers(members), at_seconds=at)


async def test_a_member_event_says_who_joined_and_left(engine: Engine) -> None:
    """The provider's own event carries the effect; nothing else is told of it."""
    await engine.feed(moved("in", Members((ANN, BOB), (), reason="invite_link"), at=0))
    await engine.feed(moved("out", Members((), (BOB,)), at=60))
    subject = key(CLUB, engine.keyspace)

    assert await changes(engine) == [
        Change("telnyx:main:in", subject, {"added": [ANN, BOB], "reason": "invite_link", "after": [ANN, BOB]}),
        Change("telnyx:main:out", subject, {"removed": [BOB], "after": [ANN]}),
    ]


@pytest.mark.parametrize(
    ("before", "late", "after"),
    [
        pytest.param(Members((), (ANN,)), Members((ANN,), ()), [], id="joined before he left"),
        pytest.param(Members((ANN,), ()), Members((), (ANN,)), [ANN], id="left before he joined again"),
    ],
)
async def test_a_late_change_is_told_without_effect(
    engine: Engine, before: Members, late: Members, after: list[str]
) -> None:
    """It is published with nobody added or removed, and stale."""
    await engine.feed(moved("bob", Members((BOB,), ()), at=0))
    await engine.feed(moved("before", before, at=60))
    await engine.feed(moved("late", late, at=30))
    [_, _, change] = await changes(engine)

    assert change.members == {"stale": True, "after": [*after, BOB]}


async def test_what_was_known_already_is_stale(engine: Engine) -> None:
    """Who wrote in the group is in it: that he joined changes nothing."""
    await engine.feed(event("wrote", Evidence(CLUB, lines=(LINE,), joined=(ANN,)), at_seconds=60))
    await engine.feed(moved("in", Members((ANN,), ()), at=90))
    [change] = await changes(engine)

    assert change.members == {"stale": True, "after": [ANN]}


async def test_only_those_are_named_for_whom_it_changed_something(engine: Engine) -> None:
    """Of two who joined, one was in it already; of two who left, one was never seen and is known to be out now."""
    await engine.feed(moved("in", Members((ANN,), ()), at=0))
    await engine.feed(moved("more", Members((ANN, BOB), ()), at=60))
    await engine.feed(moved("out", Members((), (CAT, BOB)), at=90))
    [_, more, out] = await changes(engine)

    assert more.members == {"added": [BOB], "after": [ANN, BOB]}
    assert out.members == {"removed": [CAT, BOB], "after": [ANN]}


@pytest.mark.parametrize(
    ("members", "told"),
    [
        pytest.param(Members((), (), requested=(CAT,)), {"requested": [CAT]}, id="asked to join"),
        pytest.param(Members((), (), withdrawn=(CAT,)), {"withdrawn": [CAT]}, id="withdrew that"),
        pytest.param(
            Members((), (), failed=(FailedMember(CAT, StatusError("131212", None)),)),
            {"failed": [{"address": CAT, "error": {"code": "131212", "detail": None}}]},
            id="could not be removed",
        ),
        pytest.param(
            Members((), (), error=StatusError("131204", "too many")),
            {"error": {"code": "131204", "detail": "too many"}},
            id="nothing came of it",
        ),
    ],
)
async def test_requests_and_failures_change_nobody(engine: Engine, members: Members, told: dict[str, Any]) -> None:
    """They are passed on as they are, and are not stale: they were never to add or remove anybody."""
    await engine.feed(moved("in", Members((ANN,), ()), at=0))
    await engine.feed(moved("other", members, at=60))
    [_, change] = await changes(engine)

    assert change.members == {**told, "after": [ANN]}


async def test_who_asked_and_was_let_in_has_joined(engine: Engine) -> None:
    """An approved request comes as an addition, and is one."""
    await engine.feed(moved("asked", Members((), (), requested=(CAT,)), at=0))
    await engine.feed(moved("approved", Members((CAT,), (), reason="join_request_approved"), at=60))
    [_, approved] = await changes(engine)

    assert approved.members == {"added": [CAT], "reason": "join_request_approved", "after": [CAT]}


async def test_who_joins_by_id_and_leaves_by_phone_is_one_person(engine: Engine) -> None:
    """The phone is shown, whichever of the two a callback names."""
    await engine.feed(moved("in", Members((ANN_ID, BOB), ()), at=0, same_user=((ANN, ANN_ID),)))
    await engine.feed(moved("out", Members((), (ANN,)), at=60))
    [come, gone] = await changes(engine)

    assert come.members == {"added": [ANN, BOB], "after": [ANN, BOB]}
    assert gone.members == {"removed": [ANN], "after": [BOB]}


# --- names ---


async def test_another_name_is_a_change_of_settings(engine: Engine) -> None:
    """The group is called otherwise than before: told just before the message that showed it."""
    await engine.feed(said("one", ANN, at=0, title="Rowing"))
    await engine.feed(said("two", ANN, at=60, title="Rowing club"))
    told = await engine.events()

    assert [item["id"].partition("main:")[2] for item in told[-2:]] == ["two#settings", "two"]
    assert (await settings(engine))[-1] == ("telnyx:main:two#settings", {"change": "changed", "subject": "Rowing club"})
    assert told[-2]["subject"] == key(CLUB, engine.keyspace)


@pytest.mark.parametrize(
    "news",
    [
        pytest.param(said("two", ANN, at=60, title="Rowing"), id="the same name"),
        pytest.param(said("two", ANN, at=-60, title="Sailing"), id="a name of before"),
        pytest.param(said("two", ANN, at=60), id="no name told"),
        pytest.param(said("two", ANN, at=60, title=""), id="an empty name"),
    ],
)
async def test_what_changes_no_name_says_nothing(engine: Engine, news: Event) -> None:
    """The latest name by the provider's time holds; what tells none is no evidence."""
    await engine.feed(said("one", ANN, at=0, title="Rowing"))
    before = await settings(engine)
    await engine.feed(news)

    assert await settings(engine) == before


async def test_a_name_comes_back_after_it_changed(engine: Engine) -> None:
    """A name of before is new again when the group is called so again, and each change is told once."""
    for number, title in enumerate(["Rowing", "Sailing", "Sailing", "Rowing"]):
        await engine.feed(said(f"m{number}", ANN, at=number, title=title))
    told = [change["subject"] for _, change in await settings(engine)]

    assert told[-2:] == ["Sailing", "Rowing"]
    assert told.count("Sailing") == 1


async def test_settings_that_the_fact_tells_itself_are_not_told_twice(engine: Engine) -> None:
    """A group is registered under a name: that is one event, the registration's own."""
    await engine.feed(registered("club", at=0))

    assert await settings(engine) == [("telnyx:main:club", {"change": "changed", "subject": "Rowing"})]


# --- keywords (Sinch) ---


def registered(
    name: str, *, at: float, join: str | None = "row", leave: str | None = "land", line: Address = LINE
) -> Event:
    """A group of ours, with the words by which people join and leave it."""
    words = Keywords(line, join=tuple(join.split()) if join else None, leave=tuple(leave.split()) if leave else None)
    evidence = Evidence(CLUB, kind="group", lines=(line,), registered=True, name="Rowing", keywords=words)
    return event(name, evidence, body=ConversationSettings(Settings("changed", "Rowing")), at_seconds=at)


def texted(name: str, words: str, *, at: float, sender: Address = ANN, line: Address = LINE) -> Event:
    """Somebody texts a line a few words, which may be a keyword."""
    return event(name, pair(sender, line, said=tuple(words.split())), at_seconds=at)


async def test_who_texts_the_word_joins_the_group(engine: Engine) -> None:
    """The group's conversation gains a member, by our own conclusion; the text stays in the direct one."""
    await engine.feed(registered("club", at=0))
    await engine.feed(texted("text", "row", at=60))
    text, [change] = (await engine.events())[-1], await changes(engine)

    assert change.id == "telnyx:main:text#members"
    assert change.subject == key(CLUB, engine.keyspace) != text["subject"]
    assert change.members == {"added": [ANN], "inferred": True, "after": [ANN]}
    assert text["data"]["conversation"]["kind"] == "direct"


async def test_who_texts_the_other_word_leaves_it(engine: Engine) -> None:
    """In and out by texts, each told as concluded."""
    await engine.feed(registered("club", at=0))
    await engine.feed(texted("in", "row", at=60), texted("bob", "row", at=61, sender=BOB), texted("out", "land", at=90))

    assert [change.members for change in await changes(engine)] == [
        {"added": [ANN], "inferred": True, "after": [ANN]},
        {"added": [BOB], "inferred": True, "after": [ANN, BOB]},
        {"removed": [ANN], "inferred": True, "after": [BOB]},
    ]


@pytest.mark.parametrize(
    ("words", "text", "joins"),
    [
        ("row", "row", True),
        ("row", "row please", True),
        ("row", "rowing", False),
        ("row", "please row", False),
        ("row", "", False),
        ("row club", "row club", True),
        ("row club", "row", False),
        ("row club", "row team", False),
        ("row club", "club row", False),
    ],
)
async def test_a_keyword_is_the_first_words_of_a_text(engine: Engine, words: str, text: str, *, joins: bool) -> None:
    """The first word must be the first, and where there is a second word, that too."""
    await engine.feed(registered("club", at=0, join=words))
    await engine.feed(texted("text", text, at=60))

    assert [change.members.get("added") for change in await changes(engine)] == ([[ANN]] if joins else [])


@pytest.mark.parametrize(
    "news",
    [
        pytest.param([registered("club", at=0), texted("text", "row", at=60, line=LINE_2)], id="to another line"),
        pytest.param([texted("text", "row", at=60), registered("club", at=0)], id="before the words were registered"),
        pytest.param([registered("club", at=0, join=None), texted("text", "row", at=60)], id="no word to join by"),
    ],
)
async def test_what_is_no_keyword_changes_nobody(engine: Engine, news: list[Event]) -> None:
    """The line, the word and the registration all have to be there when the text is read."""
    for item in news:
        await engine.feed(item)

    assert await changes(engine) == []


async def test_a_late_text_has_no_effect(engine: Engine) -> None:
    """Who left and then joined is in it, though the text to leave is read last."""
    await engine.feed(registered("club", at=0))
    await engine.feed(texted("in", "row", at=90))
    await engine.feed(texted("out", "land", at=60))

    assert len(await changes(engine)) == 1


async def test_a_text_that_comes_again_is_told_once(engine: Engine) -> None:
    """Who is in it already does not join again, by a redelivery or by texting it once more."""
    await engine.feed(registered("club", at=0))
    for _ in range(2):
        await engine.feed(texted("text", "row", at=60))
    await engine.feed(texted("again", "row", at=90))

    assert [change.id for change in await changes(engine)] == ["telnyx:main:text#members"]


async def test_one_word_may_join_several_groups(engine: Engine) -> None:
    """Each of them tells it under an id of its own."""
    words = Keywords(LINE, ("row",), None)
    for name in ("club", "team"):
        body = ConversationSettings(Settings("changed", name))
        await engine.feed(event(name, Evidence(group_identity("", name), registered=True, keywords=words), body=body))
    await engine.feed(texted("text", "row", at=60))
    told = await changes(engine)

    assert {change.subject for change in told} == {
        key(group_identity("", name), engine.keyspace) for name in ("club", "team")
    }
    assert len({change.id for change in told}) == 2
    assert all(change.id.startswith("telnyx:main:text#members") for change in told)


async def test_words_that_change_are_the_new_ones_from_then_on(engine: Engine) -> None:
    """A group's words are those of its latest registration."""
    await engine.feed(registered("v1", at=0))
    await engine.feed(registered("v2", at=30, join="paddle"))
    await engine.feed(texted("old", "row", at=60), texted("new", "paddle", at=61, sender=BOB))

    assert [change.members["added"] for change in await changes(engine)] == [[BOB]]


async def test_a_registration_that_comes_again_brings_no_old_words_back(engine: Engine) -> None:
    """Of two registrations the later one by its own time holds, in whatever order and however often they come."""
    for item in (registered("v1", at=0), registered("v2", at=30, join="paddle"), registered("v1", at=0)):
        await engine.feed(item)
    await engine.feed(texted("old", "row", at=60), texted("new", "paddle", at=61, sender=BOB))

    assert [change.members["added"] for change in await changes(engine)] == [[BOB]]


def posted(kind: str, body: dict[str, Any], after: float) -> Capture:
    """What Sinch or the operator posts."""
    made = capture(provider="sinch", body=orjson.dumps(body), after_seconds=after)
    return msgspec.structs.replace(made, kind=kind)


async def test_sinch_itself_writes_keywords_in_any_case(engine: Engine) -> None:
    """Registered and texted in capitals or not, with two words and spaces between: the same keyword."""
    auto_update = {"to": LINE.removeprefix("+"), "add": {"first_word": "Row", "second_word": "CLUB"}}
    club = {"id": "club", "name": "Rowing", "size": 0, "auto_update": auto_update}
    text = {"type": "mo_text", "id": "01TEXT", "from": ANN, "to": LINE, "body": " ROW   club"}
    await engine.feed(*sinch.register(posted("outbound", club, 0)), provider="sinch")
    await engine.feed(*sinch.parse(posted("callback", text, 60)), provider="sinch", after_seconds=60)
    [change] = await changes(engine)

    assert change.subject == key(CLUB, engine.keyspace, provider="sinch")
    assert change.members == {"added": [ANN], "inferred": True, "after": [ANN]}


# --- what a report on a batch tells of the group that it went to (Sinch) ---


def batch_sent(*, only: bool = True) -> Event:
    """A batch to the club; `only`: and to nobody else."""
    evidence = Evidence(
        CLUB,
        pointers=(BATCH,) if only else (),
        lines=(LINE,),
        registered=True,
        sent=Sent((BATCH,), line=LINE, group=CLUB if only else None),
    )
    return event("sent", evidence, body=MessageOutbound(_message()))


def batch_reported(name: str, recipient: Address, everybody: tuple[Address, ...] | None, *, at: float = 60) -> Event:
    """A report on one recipient, which may list everybody that the batch went to."""
    evidence = Evidence(
        contact=recipient,
        pointers=(Pointer("batch", (*BATCH.parts, recipient)),),
        kind="direct",
        sent=Sent((BATCH,), recipients=everybody),
    )
    status = Status("delivered", final=True, recipient=recipient, raw="Delivered")
    return event(name, evidence, body=MessageStatus(_message(), status), at_seconds=at)


def _message() -> Message:
    return Message(id="01BATCH", direction="outbound", sender=LINE, text=None, media=(), channel="sms")


@pytest.mark.parametrize("sent_first", [True, False])
async def test_a_full_report_tells_the_members_of_a_group(engine: Engine, *, sent_first: bool) -> None:
    """The batch went to that group alone, so its recipients are the group's members, whichever is told first."""
    report = batch_reported("report", ANN, (ANN, BOB))
    for item in (batch_sent(), report) if sent_first else (report, batch_sent()):
        await engine.feed(item)
    [change] = await changes(engine)

    assert change.id == f"telnyx:main:{'report' if sent_first else 'sent'}#members"
    assert change.subject == key(CLUB, engine.keyspace)
    assert change.members == {"added": [ANN, BOB], "inferred": True, "after": [ANN, BOB]}


@pytest.mark.parametrize(
    "news",
    [
        pytest.param([batch_sent(only=False), batch_reported("r", ANN, (ANN, BOB))], id="it went to others as well"),
        pytest.param([batch_sent(), batch_reported("r", ANN, None)], id="a report on one of them"),
        pytest.param([batch_reported("r", ANN, (ANN, BOB))], id="nobody knows of a group"),
    ],
)
async def test_what_does_not_tell_members_concludes_none(engine: Engine, news: list[Event]) -> None:
    """Only a complete list of a batch to one group and nobody else says who is in it."""
    for item in news:
        await engine.feed(item)

    assert await changes(engine) == []


async def test_the_report_on_the_next_batch_shows_who_came_and_went(engine: Engine) -> None:
    """The later list holds, by its own time, whichever report is read first."""
    sent, report = batch_sent(), batch_reported("report", ANN, (ANN, BOB), at=60)
    second = Pointer("batch", ("02BATCH",))
    assert sent.evidence is not None
    assert report.evidence is not None
    sent_2 = msgspec.structs.replace(
        event("sent 2", msgspec.structs.replace(sent.evidence, pointers=(second,), sent=Sent((second,), group=CLUB))),
        body=sent.body,
    )
    evidence = msgspec.structs.replace(
        report.evidence,
        pointers=(Pointer("batch", ("02BATCH", ANN)),),
        sent=Sent((second,), recipients=(ANN, CAT)),
    )
    report_2 = event("report 2", evidence, body=report.body, at_seconds=120)
    await engine.feed(sent, sent_2, report_2, report)
    [change] = await changes(engine)

    assert change.id == "telnyx:main:report 2#members"
    assert change.members == {"added": [ANN, CAT], "inferred": True, "after": [ANN, CAT]}


@pytest.mark.parametrize("backwards", [False, True])
async def test_of_two_full_reports_at_one_time_the_greater_list_holds(engine: Engine, *, backwards: bool) -> None:
    """As of any two lists of a group at the same time, whichever of the two is read first."""
    reports = [batch_reported("more", ANN, (ANN, BOB)), batch_reported("fewer", BOB, (BOB,))]
    await engine.feed(batch_sent(), *(reversed(reports) if backwards else reports))
    await engine.feed(said("later", at=90, sender=BOB))

    assert (await engine.shown())["participants"] == [ANN, BOB]


async def test_a_list_by_report_and_keywords_go_together(engine: Engine) -> None:
    """Who texts the word after the list joins those in it; a text from before it changes nothing."""
    await engine.feed(registered("club", at=0))
    await engine.feed(batch_sent(), batch_reported("report", ANN, (ANN, BOB), at=60))
    await engine.feed(texted("late", "land", at=30, sender=BOB), texted("text", "row", at=90, sender=CAT))

    assert [change.members for change in await changes(engine)] == [
        {"added": [ANN, BOB], "inferred": True, "after": [ANN, BOB]},
        {"added": [CAT], "inferred": True, "after": [ANN, BOB, CAT]},
    ]


async def test_sinch_itself_lists_the_members_of_a_group_in_a_full_report(engine: Engine) -> None:
    """A batch to one group id, and the full report on it, as the API and the callback have them."""
    batch = {"id": "01BATCH", "to": ["club"], "from": LINE, "body": "Seven it is", "type": "mt_text"}
    statuses = [{"code": 0, "status": "Delivered", "count": 2, "recipients": [ANN.removeprefix("+"), BOB]}]
    report = {"type": "delivery_report_sms", "batch_id": "01BATCH", "total_message_count": 2, "statuses": statuses}
    await engine.feed(*sinch.register(posted("outbound", batch, 0)), provider="sinch")
    await engine.feed(*sinch.parse(posted("callback", report, 60)), provider="sinch", after_seconds=60)
    [change] = await changes(engine)

    assert change.subject == key(CLUB, engine.keyspace, provider="sinch")
    assert change.members == {"added": [ANN, BOB], "inferred": True, "after": [ANN, BOB]}
