from collections import Counter
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.providers.whatsapp import parse
from schemas.callback import AccountFacts, Capture
from schemas.errors import ParseError
from schemas.events import (
    ConversationMembers,
    ConversationSettings,
    Event,
    Evidence,
    Identity,
    MessageReceived,
    MessageStatus,
    Parsed,
    Unreadable,
)
from schemas.ids import CaptureId

METADATA = {"display_phone_number": "15555550100", "phone_number_id": "700100200300400"}


def parsed(body: Any) -> list[Parsed]:
    """What parsing makes of a body, in an account named `main`."""
    capture = Capture(
        id=CaptureId("cp_test"),
        kind="callback",
        provider="whatsapp",
        account="main",
        received_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
        assurance="signed",
        headers=(),
        body=orjson.dumps(body),
        facts=AccountFacts(),
    )
    return parse(capture)


def change(field: str, **arrays: list[Any]) -> dict[str, Any]:
    """One change of our line."""
    return {"field": field, "value": {"metadata": METADATA, **arrays}}


def only_event(field: str, array: str, element: dict[str, Any]) -> tuple[Event, Evidence]:
    """The one event of a callback with one element, with its evidence."""
    [event] = parsed({"entry": [{"changes": [change(field, **{array: [element]})]}]})
    assert isinstance(event, Event)
    assert event.evidence is not None
    return event, event.evidence


def message(index: int) -> dict[str, Any]:
    """A text of one of a hundred people."""
    return {
        "from": f"155555501{index % 100:02}",
        "id": f"wamid.M{index}",
        "timestamp": "1767200400",
        "type": "text",
        "text": {"body": str(index)},
    }


def report(index: int) -> dict[str, Any]:
    """A participant's report on one message of ours."""
    return {
        "id": "wamid.OUT",
        "status": "read",
        "timestamp": "1767200400",
        "recipient_type": "group",
        "recipient_id": "group-1",
        "participant_recipient_id": f"1555556{index:04}",
    }


def test_each_of_a_thousand_updates_in_one_post_is_counted() -> None:
    """A full batch over several entries, changes and arrays gives one event per update, all with different ids."""
    body = {
        "object": "whatsapp_business_account",
        "entry": [
            {
                "id": "1",
                "changes": [
                    change(
                        "messages", messages=[message(i) for i in range(300)], statuses=[report(i) for i in range(200)]
                    ),
                    change("messages", messages=[message(i) for i in range(300, 450)]),
                ],
            },
            {
                "id": "2",
                "changes": [
                    change("messages", statuses=[report(i) for i in range(200, 450)]),
                    change(
                        "group_status_update",
                        groups=[
                            {"type": "group_suspend", "group_id": f"g{i}", "timestamp": 1767200400} for i in range(100)
                        ],
                    ),
                ],
            },
        ],
    }

    events = [item for item in parsed(body) if isinstance(item, Event)]

    assert Counter(event.type for event in events) == {
        "message.received": 450,
        "message.status": 450,
        "conversation.settings": 100,
    }
    assert len({event.id for event in events}) == 1000


def test_one_bad_update_does_not_take_its_batch_with_it() -> None:
    """Each update stands or falls alone: the bad one is named by its place, the others are events."""
    messages = [message(i) for i in range(1000)]
    messages[617] = {**messages[617], "timestamp": "soon"}

    items = parsed({"entry": [{"id": "1", "changes": [change("messages", messages=messages)]}]})

    unreadable = [item.path for item in items if isinstance(item, Unreadable)]
    assert unreadable == ["$.entry[0].changes[0].value.messages[617].timestamp"]
    assert len(items) == 1000


#: The keys that parsing looks at, so that made-up bodies get past the envelope.
KEYS = st.sampled_from([
    "entry", "changes", "field", "value", "metadata", "phone_number_id", "display_phone_number", "contacts",
    "wa_id", "user_id", "messages", "statuses", "message_echoes", "groups", "user_preferences",
    "user_id_update", "errors", "from", "to", "from_user_id", "id", "timestamp", "type", "text", "body",
    "status", "recipient_id", "recipient_type", "group_id", "context", "system", "reaction", "edit", "message",
    "image", "interactive", "button_reply", "added_participants", "group_subject", "update_successful", "code",
    "error_data", "current", "previous", "time",
])  # fmt: skip
WORDS = st.sampled_from([
    "messages", "group_participants_update", "security", "text", "system", "edit", "reaction", "group",
    "group_create", "group_participants_add", "group_settings_update", "user_changed_number", "15555550111",
    "US.1234", "read", "",
])  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
FIELDS = st.sampled_from(
    ["messages", "group_participants_update", "smb_message_echoes", "user_id_update", "calls", "new"]
)


@given(body=ANYTHING)
def test_any_json_gives_at_least_one_item(body: Any) -> None:
    """No authentic body vanishes and none crashes: it gives items, or the whole of it is unreadable."""
    try:
        items = parsed(body)
    except ParseError:
        return

    assert items


@given(field=FIELDS, value=st.dictionaries(KEYS, ANYTHING, max_size=6))
def test_any_value_of_a_change_gives_at_least_one_item(field: str, value: Any) -> None:
    """Whatever shape a change has inside, it gives items, and each event has an id of its provider and account."""
    items = parsed({"entry": [{"changes": [{"field": field, "value": value}]}]})

    assert items
    assert all(item.id.startswith("whatsapp:main:") for item in items if isinstance(item, Event))


GROUP = Identity("group", ("700100200300400", "group-1"))


@pytest.mark.parametrize("sender", [{}, {"from": "REDACTED"}])
def test_a_group_message_without_a_readable_sender_stays_in_its_group(sender: dict[str, str]) -> None:
    """The group's id places it; nobody is made up, and nothing is lost."""
    element = {"id": "wamid.G", "group_id": "group-1", "type": "text", "text": {"body": "Tide's in"}, **sender}
    event, evidence = only_event("messages", "messages", element)

    assert isinstance(event.body, MessageReceived)
    assert (event.body.message.sender, event.body.message.text) == (None, "Tide's in")
    assert (evidence.identity, evidence.joined) == (GROUP, ())


@pytest.mark.parametrize("recipient", ["group-1", "555555555"])
def test_a_report_on_a_participant_is_a_groups(recipient: str) -> None:
    """Without `recipient_type` too: a group's id, which may be digits, is never taken for a person's number."""
    element = {"id": "wamid.O", "status": "read", "recipient_id": recipient, "recipient_participant_id": "15555550111"}
    event, evidence = only_event("messages", "statuses", element)

    assert isinstance(event.body, MessageStatus)
    assert event.body.status.recipient == "+15555550111"
    assert evidence.identity == Identity("group", ("700100200300400", recipient))


def test_words_of_a_report_count_in_any_case() -> None:
    """In capitals, a group's report is a group's and a state the same."""
    element = {"id": "wamid.O", "status": "SENT", "recipient_id": "555555555", "recipient_type": "GROUP"}
    event, evidence = only_event("messages", "statuses", element)

    assert isinstance(event.body, MessageStatus)
    assert (event.body.status.value, event.body.status.recipient) == ("sent", None)
    assert evidence.identity == Identity("group", ("700100200300400", "555555555"))


@pytest.mark.parametrize(
    "kind",
    [
        "group_participants_add",
        "group_participant_add",
        "group_add_participants",
        "group_add_participant",
    ],
)
@pytest.mark.parametrize("person", ["15555550111", {"wa_id": "15555550111"}, {"input": "+1 555-555-0111"}])
def test_a_member_joins_under_any_spelling(kind: str, person: object) -> None:
    """Guide and reference name the type in different words, and a person may be an object or a bare number."""
    element = {"type": kind, "group_id": "group-1", "added_participants": person}
    event, evidence = only_event("group_participants_update", "groups", element)

    assert isinstance(event.body, ConversationMembers)
    assert (event.body.members.added, evidence.joined) == (("+15555550111",), ("+15555550111",))


@pytest.mark.parametrize("kind", ["group_settings_update", "group_setting_update", None])
def test_settings_are_known_by_their_members(kind: str | None) -> None:
    """Under either spelling of the type, and without one."""
    element = {"type": kind, "group_id": "group-1", "group_description": {"text": "Boats", "update_successful": True}}
    event, evidence = only_event("group_settings_update", "groups", element)

    assert isinstance(event.body, ConversationSettings)
    assert (event.body.settings.change, event.body.settings.description) == ("changed", "Boats")
    assert evidence.identity == GROUP


def test_group_events_of_one_second_without_a_request_are_different_facts() -> None:
    """Where neither request nor people tell them apart, their content does."""
    second = {"timestamp": "1767200400"}
    elements: list[dict[str, Any]] = [
        {**second, "type": "group_settings_update", "group_id": "group-1", "group_subject": {"text": "Boats"}},
        {**second, "type": "group_settings_update", "group_id": "group-1", "group_subject": {"text": "Oars"}},
        {**second, "type": "group_create", "subject": "Boats", "errors": [{"code": 131211}]},
        {**second, "type": "group_create", "subject": "Oars", "errors": [{"code": 131211}]},
    ]
    events = [only_event("group_settings_update", "groups", element)[0] for element in elements]

    assert len({event.id for event in events}) == len(elements)
