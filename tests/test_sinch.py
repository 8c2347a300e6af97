import json
from datetime import UTC, datetime
from typing import Any

import pytest

from receiver.providers.sinch import parse, register
from schemas.callback import AccountFacts, Capture
from schemas.errors import ParseError
from schemas.events import AccountNotice, Event, MessageReceived, MessageStatus, Notice, Parsed, Unreadable
from schemas.ids import CaptureId

REPORT = {
    "type": "recipient_delivery_report_sms",
    "batch_id": "01HZ9BATCH0000000000000001",
    "recipient": "15555550111",
    "code": 0,
    "status": "Delivered",
    "at": "2026-11-20T12:00:00.000Z",
}
INBOUND = {"type": "mo_text", "id": "Qw8ZtP0aLk3d", "from": "15555550111", "to": "15555550100", "body": "Hello"}
CHAT_REPORT = {
    "message_id": "01HZMSG0000000000000000001",
    "status": "QUEUED_ON_CHANNEL",
    "channel_identity": {"channel": "RCS", "identity": "15555550115"},
}
SMS_IDENTITY = {"channel": "SMS", "identity": "15555550115"}


def capture(body: bytes) -> Capture:
    """A callback, in an account without settings."""
    return Capture(
        id=CaptureId("cp_test"),
        kind="callback",
        provider="sinch",
        account="main",
        received_at=datetime(2026, 11, 21, tzinfo=UTC),
        assurance="signed",
        headers=(),
        body=body,
        facts=AccountFacts(),
    )


def parsed(body: bytes) -> list[Parsed]:
    """What a body parses to, in an account without settings."""
    return parse(capture(body))


def only_event(element: dict[str, Any]) -> Event:
    """The one event of an element."""
    [event] = parsed(json.dumps(element).encode())
    assert isinstance(event, Event)
    return event


def event_id(element: dict[str, Any], **changes: Any) -> str:
    """The id of an element's one event, some members changed."""
    return only_event({**element, **changes}).id


def reported(element: dict[str, Any]) -> tuple[str, tuple[str | None, str | None] | None]:
    """The state that a report tells, and the code and detail of its error."""
    body = only_event(element).body
    assert isinstance(body, MessageStatus)
    error = body.status.error
    return body.status.value, None if error is None else (error.code, error.detail)


@pytest.mark.parametrize(
    ("word", "code", "value", "error"),
    [
        ("Queued", 400, "queued", None),
        ("Dispatched", 401, "sent", None),
        ("Delivered", 0, "delivered", None),
        ("delivered", "0", "delivered", None),
        ("EXPIRED", 255, "expired", ("255", None)),
        ("Failed", 0, "failed", ("0", None)),
        ("Rejected", 27, "failed", ("27", None)),
        ("Deleted", 11, "failed", ("11", None)),
        ("Aborted", 412, "failed", ("412", "region not provisioned")),
        ("Aborted", 407, "cancelled", ("407", "cancelled")),
        ("Cancelled", 407, "cancelled", ("407", "cancelled")),
        ("Canceled", None, "cancelled", None),
        ("Unknown", 0, "unknown", ("0", None)),
        ("Throttled", 999, "unknown", ("999", None)),
    ],
)
def test_the_word_of_a_report_decides(
    word: str, code: int | str | None, value: str, error: tuple[str, str | None] | None
) -> None:
    """Words count in any case and whatever the code, but for 407; only what did not arrive has an error."""
    report = {**REPORT, "status": word, "code": code}

    assert (value, error) == reported(report)


@pytest.mark.parametrize(
    ("word", "value", "error"),
    [
        ("SWITCHING_CHANNEL", "queued", None),
        ("QUEUED_ON_CHANNEL", "sent", None),
        ("DELIVERED", "delivered", None),
        ("READ", "read", None),
        ("FAILED", "failed", ("CHANNEL_FAILURE", "no route")),
        ("TELEPORTED", "unknown", ("CHANNEL_FAILURE", "no route")),
    ],
)
def test_the_word_of_a_conversation_report_decides(word: str, value: str, error: tuple[str, str] | None) -> None:
    """A reason counts only where the message did not arrive, though it may stand beside any word."""
    reason = {"code": "CHANNEL_FAILURE", "description": "no route"}

    report = {"app_id": "app", "message_delivery_report": {**CHAT_REPORT, "status": word, "reason": reason}}

    assert (value, error) == reported(report)


@pytest.mark.parametrize(
    "kind",
    [
        "batch_status_update",
        "capability_notification",
        "channel_event",
        "channel_event_notification",
        "contact_create_notification",
        "contact_delete_notification",
        "contact_merge_notification",
        "contact_update_notification",
        "conversation_delete_notification",
        "conversation_start_notification",
        "conversation_stop_notification",
        "duplicated_contact_identities_notification",
        "event_delivery_report",
        "message_redaction",
        "opt_in_notification",
        "opt_out_notification",
        "record_notification",
        "smart_conversation_notification",
        "unsupported_callback",
    ],
)
def test_what_is_said_in_no_conversation_is_a_notice(kind: str) -> None:
    """Each other trigger of the Conversation API is a notice under its own key, and in no conversation."""
    element = {"id": "x", "channel_identity": SMS_IDENTITY}

    event = only_event({"app_id": "app", kind: element})

    assert isinstance(event.body, AccountNotice)
    assert (kind, element, kind, None) == (
        event.body.notice.kind,
        event.body.notice.detail,
        event.provider_type,
        event.evidence,
    )


@pytest.mark.parametrize(
    ("element", "path"),
    [
        ({**INBOUND, "from": None}, "$.from"),
        ({**INBOUND, "from": " "}, "$.from"),
        ({**INBOUND, "from": "5" * 400}, "$.from"),
        ({**INBOUND, "to": {"number": "15555550100"}}, "$.to"),
        ({**INBOUND, "received_at": "2026-11-20T11:00:07250Z"}, "$.received_at"),
        ({**REPORT, "batch_id": None}, "$.batch_id"),
        ({**REPORT, "status": None}, "$.status"),
        ({**REPORT, "recipient": {"number": "15555550111"}}, "$.recipient"),
        ({**REPORT, "at": "noon"}, "$.at"),
        ({"type": "delivery_report_sms", "batch_id": "b"}, "$.statuses"),
        ({"message_delivery_report": {"message_id": "m"}}, "$.message_delivery_report.status"),
    ],
)
def test_what_cannot_be_read_says_where(element: dict[str, Any], path: str) -> None:
    """A callback of a known kind that lacks what it must have is one dead letter, with the place."""
    [item] = parsed(json.dumps(element).encode())

    assert isinstance(item, Unreadable)
    assert ("unreadable", path) == (item.reason, item.path)


@pytest.mark.parametrize("body", [b"null", b"[]", b"[[]]", b"{}", b'"mo_text"', b"7", b'{"type":{}}'])
def test_no_authentic_json_vanishes(body: bytes) -> None:
    """JSON that is no callback at all is still one event, unrecognised."""
    [item] = parsed(body)

    assert isinstance(item, Event)
    assert item.type == "unrecognised"


def test_what_is_not_json_cannot_be_read() -> None:
    """A body that is no JSON is refused as a whole."""
    with pytest.raises(ParseError):
        parsed(b"type=mo_text")


def test_an_inbound_message_and_a_batch_may_share_an_id() -> None:
    """Both kinds of id look alike, so a fact says which one it means."""
    batch = {"type": "delivery_report_sms", "batch_id": INBOUND["id"], "statuses": []}

    assert event_id(INBOUND) != event_id(batch)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_id": "01HZ9BATCH0000000000000002"},
        {"recipient": "15555550112"},
        {"status": "Dispatched"},
        {"code": 11},
        {"at": "2026-11-20T12:00:00.001Z"},
    ],
)
def test_another_report_is_another_fact(changes: dict[str, Any]) -> None:
    """Batch, recipient, word, code and time together name a report; nothing else in it does."""
    assert event_id(REPORT) != event_id(REPORT, **changes)


def test_the_same_report_is_the_same_fact() -> None:
    """The spelling of number and code and a field more make no other fact."""
    assert event_id(REPORT) == event_id(REPORT, recipient="+1 555-555-0111", code="0", client_reference="lunch")


def test_a_message_is_queued_anew_on_another_channel() -> None:
    """After a switch of channels the same word under the same message id is a fact of its own."""
    again = {**CHAT_REPORT, "channel_identity": SMS_IDENTITY}

    assert event_id({"message_delivery_report": CHAT_REPORT}) != event_id({"message_delivery_report": again})


def test_the_type_counts_in_any_case() -> None:
    """A type is the same word in capitals."""
    assert event_id(INBOUND, type="MO_TEXT") == event_id(INBOUND)
    assert reported({**REPORT, "type": "Recipient_Delivery_Report_SMS"}) == ("delivered", None)


def test_a_notice_need_not_be_an_object() -> None:
    """What a channel sent may stand there as a bare text."""
    body = only_event({"app_id": "01HZAPP", "unsupported_callback": "{}"}).body

    assert body == AccountNotice(Notice("unsupported_callback", "{}"))


def test_a_media_message_may_be_a_bare_text() -> None:
    """The text of an MMS is kept where no object holds it."""
    body = only_event({**INBOUND, "type": "mo_media"}).body

    assert isinstance(body, MessageReceived)
    assert (body.message.text, body.message.channel) == ("Hello", "mms")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("15555550111", "direct"),
        ("+1 555-555-0111", "direct"),
        (15555550111, "direct"),
        ("40404", "direct"),
        ("4cldmgEdAcBfcHW3", "group"),
        ("01FC66621AAAAA119Z8PMV1QPU", "group"),
        ("1234567890123456", "group"),
        ("12345678-abcd", "group"),
        ("Bread", "group"),
    ],
)
def test_a_target_of_a_batch_is_a_number_or_a_group(target: object, kind: str) -> None:
    """Digits, as many as a number or a short code has, are a recipient; anything else is the id of a group."""
    [event] = register(capture(json.dumps({"id": "b", "from": "15555550100", "to": [target]}).encode()))

    assert isinstance(event, Event)
    assert event.evidence is not None
    assert event.evidence.kind == kind


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Join", ("join",)),
        (" JOIN\tBread ", ("join", "bread")),
        ("join the club", ()),
        ("abcdefghijklmno", ("abcdefghijklmno",)),
        ("abcdefghijklmnop", ()),
        ("", ()),
        (None, ()),
    ],
)
def test_a_short_text_may_be_a_keyword(text: str | None, said: tuple[str, ...]) -> None:
    """One or two words of at most fifteen characters are told, in lower case; a longer text is nobody's keyword."""
    evidence = only_event({**INBOUND, "body": text}).evidence

    assert evidence is not None
    assert evidence.said == said
