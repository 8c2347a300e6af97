"""Sinch: SMS REST ("xms"), the Conversation API, and notices of the Numbers API.

Read in 2026-11:

- https://developers.sinch.com/docs/sms/api-reference/sms/tag/Webhooks
- https://developers.sinch.com/docs/sms/api-reference/sms/delivery-reports
- https://developers.sinch.com/docs/sms/release-notes.md
- https://developers.sinch.com/docs/conversation/callbacks.md

What they leave out, and captures show:

- SMS REST names its kind in `type`; the Conversation API by a top-level key; the Numbers API in `eventType`.
- No SMS body carries an event id, and a batch report not even a time. A report names a batch and a recipient,
  never a message, a group or (but for `applied_originator`) our line.
- An inbound id and a batch id look alike and may be equal: every fact says which of the two it means.
- Numbers come with and without +. A code may be a text. Status words and codes are open lists, and a report
  of anything but success may carry code 0: only the word decides.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from receiver.body import Node, decode
from receiver.provider import Provider, address
from receiver.schemes import BasicAuth, SinchHmac, UrlToken
from receiver.sinch_conversation import direct_evidence, ids, message_pointers, parse_conversation, status_of
from schemas.address import Address
from schemas.callback import Capture
from schemas.errors import ParseError
from schemas.events import (
    AccountNotice,
    Event,
    Media,
    Message,
    MessageReceived,
    MessageStatus,
    Notice,
    Parsed,
    Pointer,
    State,
    Status,
    Unreadable,
    Unrecognised,
)
from schemas.ids import content_hash, event_id

_NAME = "sinch"

#: `status` of SMS and MMS reports. Title case on the wire, upper case in an SDK.
_STATES: dict[str, State] = {
    "queued": "queued",
    "dispatched": "sent",
    "aborted": "failed",
    "rejected": "failed",
    "deleted": "failed",
    "failed": "failed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "expired": "expired",
    "delivered": "delivered",
    "unknown": "unknown",
}

#: Older texts pair it with Aborted, newer ones with Cancelled.
_CANCELLED = "407"

#: Sinch's own codes that need a word; any other one is the operator's, passed through.
_CODES = {
    "402": "unroutable",
    "403": "internal error",
    "404": "temporary failure",
    "405": "unmatched parameter",
    "406": "internal expiry",
    "407": "cancelled",
    "408": "internal reject",
    "409": "price threshold exceeded",
    "410": "no default originator",
    "411": "too many parts",
    "412": "region not provisioned",
    "413": "account blocked or out of credit",
    "414": "bad media",
    "415": "rejected",
    "416": "not supported",
    "417": "unreachable",
    "418": "unrecognised",
}

#: What makes a callback one of the Numbers API.
_NUMBER_MARKS = ("eventId", "eventType", "resourceType")

_BINARY_MEMBERS = ("body", "udh")

_INBOUND_IDS = ("client_reference", "operator_id", "operator", "keyword")
_REPORT_IDS = ("batch_id", "client_reference", "operator")
_NUMBER_IDS = ("eventId", "projectId", "resourceId")


# --- parse ------------------------------------------------------------------------------------------------


def parse(capture: Capture) -> list[Parsed]:
    """A Sinch callback in our words. It is one object; should it ever be a list, each element stands alone."""
    body = decode(capture.body)
    return [item for node in body.elements() or [body] for item in _element(capture, node)]


def _element(capture: Capture, node: Node) -> list[Parsed]:
    try:
        return _read(capture, node)
    except ParseError as error:
        return [_unreadable(error)]


def _read(capture: Capture, node: Node) -> list[Parsed]:
    kind = node.text("type")
    if kind is not None:
        return _READERS.get(kind.lower(), _unrecognised)(capture, node)
    if all(node.get(key) for key in _NUMBER_MARKS):
        return [_number_notice(capture, node)]
    event = parse_conversation(capture.account, node)
    return _unrecognised(capture, node) if event is None else [event]


def _unreadable(error: ParseError) -> Unreadable:
    return Unreadable(error.reason, error.path, error.detail)


def _unrecognised(capture: Capture, node: Node) -> list[Parsed]:
    event = Event(
        id=event_id(_NAME, capture.account, "unrecognised", content_hash(node.canonical())),
        body=Unrecognised(node.value),
        occurred_at=None,
        evidence=None,
        provider_type=node.text("type") or "",
        provider_ids={},
    )
    return [event]


# --- inbound ----------------------------------------------------------------------------------------------


def _text(capture: Capture, node: Node) -> list[Parsed]:
    return [_received(capture, node, replace(_bare(node), text=node.string("body")))]


def _binary(capture: Capture, node: Node) -> list[Parsed]:
    """Documented as base64 and hexadecimal, yet vendors' own examples hold neither: passed on as they are."""
    content = {key: member.value for key, member in node.members() if key in _BINARY_MEMBERS}
    return [_received(capture, node, replace(_bare(node), type="binary", content=content))]


def _media(capture: Capture, node: Node) -> list[Parsed]:
    body = node.get("body")
    message = replace(
        _bare(node),
        channel="mms",
        subject=body.text("subject"),
        text=body.string("message") or node.string("body"),
        media=tuple(_attachment(item) for item in body.items("media")),
    )
    return [_received(capture, node, message)]


def _attachment(item: Node) -> Media:
    """One media link. A failed one may still have its url; words and codes are open lists."""
    word = item.text("status") or "Uploaded"
    code = item.text("code") or "0"
    stored = code == "0" and word.lower() == "uploaded"
    status = None if stored else item.text("status", "code")
    return Media(url=item.text("url"), content_type=item.text("content_type"), status=status)


def _bare(node: Node) -> Message:
    sender = _required(node.get("from"))
    return Message(node.text("id"), "inbound", sender, text=None, media=(), channel="sms")


def _received(capture: Capture, node: Node, message: Message) -> Event:
    fact = message.id or content_hash(node.canonical())
    line = _required(node.get("to"))
    return Event(
        id=event_id(_NAME, capture.account, "inbound", fact),
        body=MessageReceived(message),
        # `sent_at` (old pages: `send_at`) is the operator's, if it tells one, and may be days off.
        occurred_at=node.moment("received_at", "sent_at", "send_at"),
        evidence=direct_evidence(line, message.sender, *message_pointers(message.id)),
        provider_type=node.require_text("type"),
        provider_ids=ids(node, *_INBOUND_IDS),
    )


# --- reports ----------------------------------------------------------------------------------------------


def _recipient_report(capture: Capture, node: Node) -> list[Parsed]:
    """The state of one recipient. Others have seen it without recipient, code and time."""
    batch_id = node.require_text("batch_id")
    word, code = node.require_text("status"), node.text("code")
    recipient = _required(node.get("recipient")) if node.get("recipient") else None
    if recipient is None and word.lower() not in _STATES:
        return _unrecognised(capture, node)
    fact = ("report", batch_id, recipient, word, code, node.text("at"))
    status = _status(word, code, recipient, node.text("status_message"))
    return [_report(capture, node, fact, status)]


def _batch_report(capture: Capture, node: Node) -> list[Parsed]:
    """The states of all recipients, in buckets by status and code: full ones list them, others only count."""
    batch_id = node.require_text("batch_id")
    statuses = node.get("statuses")
    if statuses.value is None:
        raise ParseError(statuses.path, "missing")
    if not statuses:  # cancelled before anything was sent
        return [_report(capture, node, ("summary", batch_id, "empty"), status_of("unknown", None))]
    buckets = statuses.elements()
    if _agreed(buckets):
        return [_counted(capture, node, buckets)]
    return [item for bucket in buckets for item in _bucket(capture, node, bucket)]


def _agreed(buckets: list[Node]) -> bool:
    """Whether all recipients, none of them listed, came to one and the same status."""
    words = {(bucket.text("status") or "").lower() for bucket in buckets}
    return len(words) == 1 and "" not in words and not any(bucket.get("recipients") for bucket in buckets)


def _bucket(capture: Capture, node: Node, bucket: Node) -> list[Parsed]:
    try:
        bucket.require_text("status")
    except ParseError as error:
        return [_unreadable(error)]
    people = bucket.items("recipients")
    return [_listed(capture, node, bucket, person) for person in people] or [_counted(capture, node, [bucket])]


def _listed(capture: Capture, node: Node, bucket: Node, person: Node) -> Parsed:
    try:
        recipient = _required(person)
    except ParseError as error:
        return _unreadable(error)
    word, code = bucket.require_text("status"), bucket.text("code")
    fact = ("batch_report", node.text("batch_id"), recipient, word, code)
    return _report(capture, node, fact, _status(word, code, recipient))


def _counted(capture: Capture, node: Node, buckets: list[Node]) -> Event:
    """Recipients known by number only. Buckets of one status differ in their codes: all of them are kept."""
    word = buckets[0].require_text("status")
    code = ",".join(filter(None, (bucket.text("code") for bucket in buckets))) or None
    count = sum(bucket.integer("count") or 0 for bucket in buckets)
    fact = ("summary", node.text("batch_id"), word, code, str(count))
    return _report(capture, node, fact, _status(word, code, None), [bucket.value for bucket in buckets])


def _report(
    capture: Capture, node: Node, fact: tuple[str | None, ...], status: Status, counts: list[Any] | None = None
) -> Event:
    """One report on a batch: on one of its recipients or, where `status` has none, on the batch as a whole.

    `counts`: the buckets that tell how many came to that status.
    """
    kind = node.require_text("type")
    batch_id = node.require_text("batch_id")
    line = _line(capture, node)
    channel = "mms" if kind.lower().endswith("_mms") else "sms"
    place = (batch_id, status.recipient) if status.recipient else (batch_id,)
    message = Message(batch_id, "outbound", line, text=None, media=(), channel=channel)
    if counts is not None:
        message = replace(message, type="statuses", content=counts)
    return Event(
        id=event_id(_NAME, capture.account, *fact),
        body=MessageStatus(message, status),
        # `operator_status_at` is often cut to the minute, so it cannot stand in.
        occurred_at=node.moment("at"),
        # The pointer stays beside a pair made with the default line: a registered send may know better.
        evidence=direct_evidence(line, status.recipient, Pointer("batch", place)),
        provider_type=kind,
        provider_ids=ids(node, *_REPORT_IDS),
    )


def _line(capture: Capture, node: Node) -> Address | None:
    """The line that a report names, at times an alphanumeric one; else the one that settings name."""
    default = capture.facts.default_line
    return address(node.get("applied_originator"), _NAME) or (Address(default) if default else None)


def _status(word: str, code: str | None, recipient: Address | None, detail: str | None = None) -> Status:
    value = _STATES.get(word.lower(), "unknown")
    if code == _CANCELLED and value in ("failed", "unknown"):
        value = "cancelled"
    return status_of(value, word, recipient=recipient, code=code, detail=detail or _CODES.get(code or ""))


# --- Numbers API ------------------------------------------------------------------------------------------


def _number_notice(capture: Capture, node: Node) -> Event:
    kind = node.require_text("eventType")
    return Event(
        id=event_id(_NAME, capture.account, node.require_text("eventId")),
        body=AccountNotice(Notice(kind, node.value)),
        occurred_at=node.moment("timestamp"),
        evidence=None,
        provider_type=kind,
        provider_ids=ids(node, *_NUMBER_IDS),
    )


def _required(node: Node) -> Address:
    found = address(node, _NAME)
    if found is None:
        raise ParseError(node.path, "missing, or no address")
    return found


_READERS: dict[str, Callable[[Capture, Node], list[Parsed]]] = {
    "mo_text": _text,
    "mo_binary": _binary,
    "mo_media": _media,
    "recipient_delivery_report_sms": _recipient_report,
    "recipient_delivery_report_mms": _recipient_report,
    "delivery_report_sms": _batch_report,
    "delivery_report_mms": _batch_report,
}

PROVIDER = Provider(name=_NAME, schemes=(SinchHmac(), BasicAuth(), UrlToken()), parse=parse)
