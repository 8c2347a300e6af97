import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.providers.telnyx import parse, register
from schemas.callback import AccountFacts, Capture
from schemas.errors import ParseError
from schemas.events import (
    Event,
    Identity,
    MessageReceived,
    MessageStatus,
    Parsed,
    StatusError,
    Unreadable,
    Unrecognised,
)
from schemas.ids import CaptureId

LINE = "+15555550100"
ANA = "+15555550110"
BEN = "+15555550111"


def capture(body: bytes, *, strict_groups: bool = False) -> Capture:
    """A callback of the account `main`."""
    return Capture(
        id=CaptureId("cp_test"),
        kind="callback",
        provider="telnyx",
        account="main",
        received_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
        assurance="signed",
        headers=(),
        body=body,
        facts=AccountFacts(strict_groups=strict_groups),
    )


def delivery(event_type: str, payload: Any, **data: Any) -> dict[str, Any]:
    """A body around a payload, without `meta`."""
    return {"data": {"event_type": event_type, "payload": payload, **data}}


def read(body: Any, *, strict_groups: bool = False) -> list[Parsed]:
    """What parsing makes of a JSON value."""
    return parse(capture(orjson.dumps(body), strict_groups=strict_groups))


def only_event(body: Any, *, strict_groups: bool = False) -> Event:
    """The one event of a body that has just one."""
    (event,) = read(body, strict_groups=strict_groups)
    assert isinstance(event, Event)
    return event


def identity(body: Any, *, strict_groups: bool = False) -> Identity | None:
    """What decides the conversation of the one event of a body."""
    evidence = only_event(body, strict_groups=strict_groups).evidence
    assert evidence is not None
    return evidence.identity


def reported(body: Any) -> list[MessageStatus]:
    """The reports of a body."""
    return [item.body for item in read(body) if isinstance(item, Event) and isinstance(item.body, MessageStatus)]


@pytest.mark.parametrize(
    "body",
    [
        delivery("message.received", {"from": ANA, "to": LINE, "text": "hi", "id": "m"}, id="e"),
        delivery("message.received", {"from": ANA, "to": LINE, "text": "hi", "id": "m"}),
        delivery("message.received", {"from": ANA, "to": LINE, "text": "hi"}),
        delivery("message.sent", {"from": LINE, "to": [ANA, BEN]}),
        delivery("call.hangup", {"call_leg_id": "leg"}),
    ],
)
def test_a_redelivery_is_the_same_facts(body: dict[str, Any]) -> None:
    """Another attempt at another URL, so another `meta`, gives the same event ids, whatever ids are missing."""
    attempts = [read({**body, "meta": {"attempt": n, "delivered_to": f"https://example.org/{n}"}}) for n in (1, 4)]
    first, second = ([item.id for item in attempt if isinstance(item, Event)] for attempt in attempts)

    assert first == second
    assert len(set(first)) == len(attempts[0])


def test_reports_that_share_every_message_id_are_different_facts() -> None:
    """Recipients of one group send may have one payload id: `data.id` tells their reports apart."""
    shared = {"id": "m", "group_message_id": "m", "from": LINE, "type": "MMS"}
    events = [
        only_event(
            delivery("message.finalized", {**shared, "to": [{"phone_number": who, "status": "delivered"}]}, id=id_)
        )
        for who, id_ in ((ANA, "e1"), (BEN, "e2"))
    ]

    assert [event.id for event in events] == ["telnyx:main:e1", "telnyx:main:e2"]
    assert events[0].evidence == events[1].evidence


def test_reports_without_data_id_differ_by_recipient_and_word() -> None:
    """Without `data.id`, neither another recipient nor a later state of one passes for a duplicate."""
    bodies = [
        delivery("message.finalized", {"id": "m", "from": LINE, "to": [{"phone_number": who, "status": word}]})
        for who, word in ((ANA, "sent"), (ANA, "delivered"), (BEN, "delivered"))
    ]

    assert len({only_event(body).id for body in bodies}) == 3


def test_a_recipient_named_twice_is_one_fact() -> None:
    """Two spellings of one recipient in one report are one recipient, and no group."""
    body = delivery("message.sent", {"from": LINE, "to": [ANA, "555-555-0110"], "id": "m"}, id="e")

    assert only_event(body).id == "telnyx:main:e"
    assert Identity("set", (LINE, ANA)) == identity(body)


@pytest.mark.parametrize("direction", ["message.received", "message.sent"])
@pytest.mark.parametrize("masked", ["+1555555****", "+1555555XXXX", "1555555xxxx", "[REDACTED]", "+"])
def test_a_masked_number_decides_no_conversation(direction: str, masked: str) -> None:
    """What redaction leaves of a number may be anybody's, so two people never meet in it."""
    sender, to = (masked, LINE) if direction == "message.received" else (LINE, masked)

    assert identity(delivery(direction, {"from": sender, "to": to, "id": "m"})) is None


@pytest.mark.parametrize("missing", ["from", "to"])
def test_a_message_without_sender_or_recipient_decides_no_conversation(missing: str) -> None:
    """An absent end leaves the set incomplete, also when cc names others."""
    payload = {"from": ANA, "to": LINE, "cc": [BEN], "id": "m"}
    del payload[missing]

    assert identity(delivery("message.received", payload)) is None


def test_an_inbound_message_with_a_group_id_and_two_people_is_no_direct_one() -> None:
    """A group_message_id beside two addresses means that somebody is not named; with cc the set stands."""
    payload = {"from": ANA, "to": LINE, "id": "m", "group_message_id": "g"}

    assert identity(delivery("message.received", payload)) is None
    assert identity(delivery("message.received", {**payload, "cc": [BEN]})) == Identity("set", (LINE, ANA, BEN))


def test_strict_groups_is_about_mms_reports_without_cc() -> None:
    """Text messages, and reports whose cc names somebody, keep their set under strict_groups."""
    payload = {"from": LINE, "to": ANA, "id": "m"}

    assert identity(delivery("message.sent", {**payload, "type": "mms"}), strict_groups=True) is None
    assert identity(delivery("message.sent", {**payload, "type": "SMS"}), strict_groups=True) is not None
    assert identity(delivery("message.sent", {**payload, "type": "MMS", "cc": [ANA]}), strict_groups=True) is not None
    assert identity(delivery("message.received", {**payload, "type": "MMS"}), strict_groups=True) is not None


def test_our_own_line_among_the_recipients_is_none() -> None:
    """A report that lists all participants is about the people; only a message to oneself is about the line."""
    to = [{"phone_number": number, "status": "delivered"} for number in (LINE, ANA, BEN)]
    both = delivery("message.finalized", {"from": LINE, "to": to, "id": "m"})
    alone = delivery("message.finalized", {"from": LINE, "to": to[:1], "id": "m"})

    assert [report.status.recipient for report in reported(both)] == [ANA, BEN]
    assert [report.status.recipient for report in reported(alone)] == [LINE]


def test_under_strict_groups_a_report_without_a_type_may_be_one_of_mms() -> None:
    """Flat bodies leave the type out: such a report is no direct conversation's, unless the account says so."""
    flat = delivery("message.sent", {"from": LINE, "to": ANA, "id": "m"})

    assert identity(flat, strict_groups=True) is None
    assert identity(flat) == Identity("set", (LINE, ANA))


def test_a_group_report_on_an_unreadable_recipient_settles_nothing() -> None:
    """In a group, a report without recipient would settle the others' too: it is a dead letter instead."""
    payload = {"from": LINE, "to": [{"status": "delivered"}], "id": "m", "group_message_id": "g"}

    assert [Unreadable("unreadable", "$.data.payload.to[0]", "no readable address")] == read(
        delivery("message.finalized", payload)
    )


def test_a_report_that_names_nobody_is_about_the_whole_message() -> None:
    """No `to` at all: one report without recipient, which takes an error that points at nobody either."""
    (body,) = reported(delivery("message.finalized", {"id": "m", "status": "failed", "errors": [{"title": "Gone"}]}))

    assert body.status.recipient is None
    assert StatusError(code=None, detail="Gone") == body.status.error


def test_an_error_that_points_at_another_recipient_is_not_this_ones() -> None:
    """Of two failed recipients each gets the error that names it, or the one that names nobody."""
    errors = [
        {"code": "2", "title": "for the second", "source": {"pointer": "/to/1/phone_number"}},
        {"code": "0", "title": "for all", "source": {"parameter": "from"}},
        {"code": "3", "title": "for all, too"},
    ]
    to = [{"phone_number": who, "status": "delivery_failed"} for who in (ANA, BEN)]
    bodies = reported(delivery("message.finalized", {"from": LINE, "to": to, "id": "m", "errors": errors}))

    assert [StatusError("0", "for all"), StatusError("2", "for the second")] == [body.status.error for body in bodies]


@pytest.mark.parametrize(
    ("word", "value", "final"),
    [
        ("scheduled", "queued", False),
        ("accepted", "queued", False),
        ("SENT", "sent", False),
        ("webhook_delivered", "delivered", True),
        ("dlr_timeout", "unknown", True),
        ("gw_timeout", "failed", True),
        ("cancelled", "cancelled", True),
    ],
)
def test_a_word_of_any_of_the_pages_has_a_state(word: str, value: str, final: bool) -> None:
    """The pages list different words; each maps to one state, in any case, and is kept as it came."""
    (body,) = reported(delivery("message.finalized", {"from": LINE, "to": [{"phone_number": ANA, "status": word}]}))

    assert (value, final, word) == (body.status.value, body.status.final, body.status.raw)


@pytest.mark.parametrize(
    ("payload", "channel"),
    [
        ({"from": ANA, "to": LINE}, "sms"),
        ({"from": ANA, "to": LINE, "cc": BEN}, "mms"),
        ({"from": ANA, "to": LINE, "media": "https://media.telnyx.com/a.png"}, "mms"),
        ({"from": ANA, "to": LINE, "body": {"text": "hi"}}, "rcs"),
        ({"from": ANA, "to": LINE, "type": "WHATSAPP"}, "whatsapp"),
    ],
)
def test_a_message_without_a_type_has_the_channel_that_its_parts_need(payload: dict[str, Any], channel: str) -> None:
    """Flat bodies leave the type out: a cc or media need MMS, a body RCS."""
    body = only_event(delivery("message.received", payload)).body

    assert isinstance(body, MessageReceived)
    assert channel == body.message.channel


def test_an_unknown_inbound_event_is_no_report() -> None:
    """An inbound event of a new kind is kept as it came, even where its recipients carry a status."""
    body = delivery("message.enriched", {"direction": "inbound", "to": [{"phone_number": LINE, "status": "delivered"}]})

    assert Unrecognised(body) == only_event(body).body


def test_an_address_too_long_to_be_one_is_a_dead_letter_of_its_delivery() -> None:
    """No address vanishes from a set: the delivery that holds an impossible one cannot be read."""
    body = delivery("message.received", {"from": ANA, "to": LINE, "cc": ["9" * 400], "id": "m"})

    assert [Unreadable("unreadable", "$.data.payload.cc[0]", "an address of 400 characters")] == read(body)


@pytest.mark.parametrize("body", [b"", b"event=1", b'{"body": "{broken"}', b'{"data": '])
def test_what_is_no_json_cannot_be_read(body: bytes) -> None:
    """A body that is no JSON, within API Gateway's wrapper or without, is a dead letter as a whole."""
    with pytest.raises(ParseError):
        parse(capture(body))


def test_a_group_send_and_its_records_are_one_fact() -> None:
    """The answer to the send and what the API lists of it later have one event id and one set, and meet in an id."""
    answer = {"data": {"id": "g", "from": LINE, "to": [ANA, BEN]}}
    records = {
        "data": [
            {"id": "r1", "group_message_id": "g", "from": LINE, "to": ANA},
            {"id": "r2", "group_message_id": "g", "from": LINE, "to": BEN},
        ]
    }
    [first], [second] = (register(capture(orjson.dumps(body))) for body in (answer, records))

    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert first.id == second.id == "telnyx:main:sent:g"
    assert first.evidence is not None
    assert second.evidence is not None
    assert first.evidence.identity == second.evidence.identity == Identity("set", (LINE, ANA, BEN))
    assert set(first.evidence.pointers) < set(second.evidence.pointers)


TEXTS = (
    st.sampled_from(["", ANA, "40404", "message.sent", "message.received", "inbound", "delivered", "{}", "x"])
    | st.text()
)
KEYS = st.sampled_from([
    "data", "payload", "event_type", "record_type", "id", "from", "to", "cc", "phone_number", "agent_id", "status",
    "errors", "source", "pointer", "media", "body", "user_file", "text", "direction", "group_message_id", "url",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)
TYPES = st.sampled_from(["message.received", "message.sent", "message.x", "10dlc.brand.update", "link_clicked", "y"])


@given(body=JSON | st.builds(delivery, TYPES, JSON) | st.builds(lambda value: {"body": value}, JSON))
@settings(max_examples=300, deadline=None)
def test_any_json_gives_something_and_breaks_nothing(body: Any) -> None:
    """Whatever shape a JSON body has, parsing ends in events or dead letters, at least one."""
    try:
        parsed = parse(capture(json.dumps(body).encode()))
    except ParseError:
        return

    assert parsed
