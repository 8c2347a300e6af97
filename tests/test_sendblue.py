from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.providers.sendblue import parse
from schemas.callback import AccountFacts, Capture
from schemas.events import Event, MessageReaction, MessageReceived, MessageStatus, Parsed, Unreadable, Unrecognised
from schemas.ids import CaptureId

LINE = "+15555550100"
CONTACT = "+15555550161"


def parsed(value: Any, *lines: str) -> list[Parsed]:
    """What a JSON body means in an account named `main`, with lines or without."""
    return parse(
        Capture(
            id=CaptureId("cp_test"),
            kind="callback",
            provider="sendblue",
            account="main",
            received_at=datetime(2026, 11, 21, tzinfo=UTC),
            assurance="shared_secret",
            headers=(),
            body=orjson.dumps(value),
            facts=AccountFacts(lines=lines),
        )
    )


def event(value: Any, *lines: str) -> Event:
    """The one event of a body."""
    [item] = parsed(value, *lines)
    assert isinstance(item, Event)
    return item


def inbound(**fields: Any) -> dict[str, Any]:
    """A message to our line, as short as one can be."""
    return {
        "message_handle": "A1",
        "is_outbound": False,
        "from_number": CONTACT,
        "to_number": LINE,
        "message_type": "message",
        "content": "Ahoy",
        **fields,
    }


@pytest.mark.parametrize(
    ("content", "emoji"),
    [
        ("Loved “Ahoy”", "❤️"),
        ("Liked “Ahoy”", "👍"),
        ("Disliked “Ahoy”", "👎"),
        ("Laughed at “Ahoy”", "😂"),
        ("Emphasized “Ahoy”", "‼️"),
        ("Questioned “Ahoy”", "❓"),
        ("Reacted 👀 to “Ahoy”", "👀"),
        ("Reacted 1️⃣ to “Ahoy”", "1️⃣"),
        ("Reacted 🏴󠁧󠁢󠁳󠁣󠁴󠁿 to “Ahoy”", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"),
    ],
)
def test_a_tapback_is_a_reaction(content: str, emoji: str) -> None:
    """Each form that a tapback was seen in gives its emoji and the text reacted to; the text itself is kept."""
    body = event(inbound(content=content)).body

    assert isinstance(body, MessageReaction)
    assert body.message.text == content
    assert (body.reaction.emoji, body.reaction.quoted) == (emoji, "Ahoy")


@pytest.mark.parametrize(
    "content",
    [
        'Loved "Ahoy"',
        "loved “Ahoy”",
        "Loved “Ahoy” and more",
        "Loved “Ahoy” and “Land”",
        "Loved “”",
        "Reacted badly to “Ahoy”",
        "Reacted … to “Ahoy”",
        "Removed a heart from “Ahoy”",
        "Loved an image",
    ],
)
def test_what_is_not_surely_a_tapback_is_a_message(content: str) -> None:
    """A text that a person may have written, or a form never captured, stays a message."""
    assert isinstance(event(inbound(content=content)).body, MessageReceived)


@pytest.mark.parametrize("fields", [{"service": "SMS"}, {"service": "RCS"}, {"media_url": "https://example.com/a.png"}])
def test_only_imessage_texts_are_tapbacks(fields: dict[str, Any]) -> None:
    """With another service or an attachment, the words of a tapback are a message."""
    assert isinstance(event(inbound(content="Loved “Ahoy”", **fields)).body, MessageReceived)


@pytest.mark.parametrize("number", [LINE, None, "", [CONTACT]])
def test_a_line_is_never_in_a_conversation_with_itself(number: object) -> None:
    """Where both ends read as our line, no pair is made: it would gather everybody's messages."""
    evidence = event(inbound(from_number=LINE, sendblue_number=LINE, number=number)).evidence

    assert evidence is not None
    assert (evidence.identity, evidence.kind) == (None, "direct")


def test_ends_that_settings_tell_apart_are_shown_so_and_move_no_conversation() -> None:
    """Our line as sender and no other sign of it: with the line configured the other one wrote, in the same pair."""
    swapped = inbound(from_number=LINE, to_number=CONTACT)
    plain, known = event(swapped), event(swapped, LINE)

    assert isinstance(known.body, MessageReceived)
    assert plain.evidence is not None
    assert known.evidence is not None
    assert (known.body.message.sender, known.evidence.lines) == (CONTACT, (LINE,))
    assert (known.id, known.evidence.identity) == (plain.id, plain.evidence.identity)


@pytest.mark.parametrize("fields", [{}, {"message_type": None}, {"is_outbound": True, "status": "SENT"}])
def test_a_name_makes_a_group(fields: dict[str, Any]) -> None:
    """The free plan's groups have no id; one with a name is nobody's 1:1, whatever its type says."""
    evidence = event(inbound(group_display_name="Rowing club", **fields)).evidence

    assert evidence is not None
    assert (evidence.identity, evidence.kind) == (None, "group")


def test_a_group_whose_writer_is_unreadable_has_no_complete_set() -> None:
    """Whoever wrote may be missing from the list, so the rest must not pass for everybody."""
    body = inbound(message_type="group", from_number={"id": 7}, participants=["+15555550162", "+15555550163"])
    evidence = event(body).evidence

    assert evidence is not None
    assert (evidence.identity, evidence.kind) == (None, "group")


@pytest.mark.parametrize(("status", "kind"), [("DELIVERED", MessageStatus), ("RECEIVED", MessageReceived)])
def test_without_is_outbound_the_status_tells(status: str, kind: type) -> None:
    """A report that leaves `is_outbound` out is no message of our own line to a person's."""
    assert isinstance(event(inbound(is_outbound=None, status=status)).body, kind)


def test_an_event_type_never_heard_of_is_unrecognised() -> None:
    """It may say anything about the message in it, so the message is not published as one."""
    assert isinstance(event(inbound(event_type="message_unsent")).body, Unrecognised)


def test_typing_without_a_time_is_told_apart_by_receipt() -> None:
    """Otherwise each start of typing but the first would be a duplicate for days."""
    typing = event({"number": CONTACT, "from_number": LINE, "is_typing": True})

    assert typing.id == f"sendblue:main:typing:{LINE}:{CONTACT}:2026-11-21T00%3A00%3A00.000Z:true"


def test_a_recipient_without_address_leaves_the_recipients_open() -> None:
    """Of a list that holds somebody unreadable, nobody is taken for the one recipient."""
    body = event({"message_handle": "A1", "is_outbound": True, "from_number": LINE, "to_number": [CONTACT, {}]}).body

    assert isinstance(body, MessageStatus)
    assert body.status.recipient is None


def test_facts_of_one_handle_have_different_ids() -> None:
    """The handle names the message; line, status, time and recipient tell its facts apart."""
    report = {"message_handle": "A1", "is_outbound": True, "from_number": LINE, "group_id": "g", "status": "SENT"}
    bodies = [
        inbound(),
        inbound(to_number="+15555550101"),
        report,
        {**report, "status": "RECEIVED"},
        {**report, "date_updated": "2026-09-14T09:00:00.000Z"},
        {**report, "to_number": CONTACT},
        {**report, "to_number": ["+15555550162"]},
    ]

    assert len({event(body).id for body in bodies}) == len(bodies)


def test_reports_without_a_handle_are_told_apart_by_content() -> None:
    """Without a handle, equal bodies are one fact and different ones are two."""
    report = {"is_outbound": True, "from_number": LINE, "to_number": CONTACT, "status": "SENT"}

    assert event(report).id == event(dict(reversed(report.items()))).id
    assert event(report).id != event({**report, "status": "DELIVERED"}).id


@pytest.mark.parametrize(
    "wrapped",
    [
        [inbound()],
        {"data": inbound()},
        {"data": [inbound()]},
        {"headers": {}, "body": inbound()},
        {"event_type": "receive", "data": inbound()},
    ],
)
def test_a_wrapper_changes_nothing(wrapped: object) -> None:
    """A body gives the same event however it is wrapped, so that the same fact has one id."""
    assert event(wrapped) == event(inbound())


@pytest.mark.parametrize(
    "value", [None, [], {}, "Ahoy", 7, [None], {"data": {}}, {"is_typing": "perhaps"}, {"from_number": CONTACT}]
)
def test_nothing_authentic_vanishes(value: object) -> None:
    """A body that says nothing known to us is one unrecognised event."""
    assert isinstance(event(value).body, Unrecognised)


def test_an_impossible_address_is_a_dead_letter() -> None:
    """A person with an impossible address must not drop out of a list unseen; the letter quotes nothing of it."""
    [item] = parsed(inbound(participants=[CONTACT, "5" * 400]))

    assert item == Unreadable("unreadable", "$.participants[1]", "an address of 400 characters")


KEYS = st.sampled_from(
    [
        "data",
        "body",
        "event_type",
        "is_typing",
        "timestamp",
        "is_outbound",
        "from_number",
        "number",
        "to_number",
        "to_numbers",
        "participants",
        "handle",
        "group_id",
        "message_type",
        "message_handle",
        "content",
        "media_url",
        "service",
        "status",
        "error_code",
        "date_sent",
        "location",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from([LINE, CONTACT, "group", "message", "SENT", "2026-09-14T09:00:00Z", "call_log"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=10),
    max_leaves=30,
)


@given(VALUES)
def test_any_json_has_a_meaning(value: object) -> None:
    """Whatever the vendor's keys hold, each body gives something, and nothing crashes."""
    assert parsed(value)
