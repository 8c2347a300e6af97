"""Telnyx messaging v2: SMS, group MMS, RCS.

Read 2026-11:

- https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks
- https://developers.telnyx.com/docs/messaging/messages/group-messaging
- https://developers.telnyx.com/docs/messaging/messages/receiving-rcs-webhooks
- https://developers.telnyx.com/docs/messaging/10dlc/event-notifications
- https://github.com/team-telnyx/openapi (openapi/spec3.yml)

A body is `{"data": {event_type, id, occurred_at, payload}, "meta": {attempt, delivered_to}}`. `meta` differs
between attempts and may be absent; `data.id` stays and names the fact. Neither `payload.id` nor
`group_message_id` does: every recipient's report of a group message may carry the same ones. No page and no
schema agrees with the others about shapes, so an address may be a text or an object, and one thing or a list.

The answer to a send is one such payload as `data`, with `from` a bare text and everybody in `to`. None was ever seen
with a `group_message_id`, though the pages promise one: the send's own `id` stands for it in reports.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from receiver.body import Node, decode
from receiver.provider import Provider, address, registration
from receiver.schemes import Ed25519
from schemas.address import Address, is_phone
from schemas.callback import Capture
from schemas.clock import parse_time
from schemas.errors import ParseError
from schemas.events import (
    FINAL_STATES,
    AccountNotice,
    Direction,
    Event,
    EventBody,
    Evidence,
    Identity,
    Media,
    Message,
    MessageOutbound,
    MessageReceived,
    MessageStatus,
    Notice,
    Parsed,
    Pointer,
    Sent,
    State,
    Status,
    StatusError,
    Unreadable,
    Unrecognised,
    set_identity,
)
from schemas.ids import content_hash, event_id
from schemas.value import Value

NAME = "telnyx"


class Delivery(Value, frozen=True):
    """One posted event, opened as far as every kind of event needs it."""

    account: str
    strict_groups: bool
    #: The whole element, `meta` included.
    element: Node
    data: Node
    payload: Node
    #: `data.event_type`; link clicks have only a `record_type`, and API v1 bodies neither.
    type: str


class Party(Value, frozen=True):
    """One entry of `from`, `to` or `cc`."""

    #: None: there is an entry, but no address can be read from it.
    address: Address | None
    status: str | None
    #: As an error's `source.pointer` names it: `/to/0`.
    place: str
    #: Where it stands; None: there is no entry, the party is everybody.
    entry: Node | None


class Parties(Value, frozen=True):
    """Who a message is from, to and copied to, in order."""

    senders: tuple[Party, ...]
    to: tuple[Party, ...]
    cc: tuple[Party, ...]
    #: Who sends, and who else is named, as far as they can be read.
    writers: frozenset[Address]
    others: frozenset[Address]
    #: Whether that is everybody named.
    readable: bool

    @property
    def sender(self) -> Address | None:
        """Who wrote it."""
        return self.senders[0].address if self.senders else None


# --- word tables ------------------------------------------------------------------------------------------

#: `to[].status`, and the message's own `status` in flat bodies, from all pages together: an open list.
_STATES: dict[str, State] = {
    "queued": "queued",
    "accepted": "queued",
    "scheduled": "queued",
    "media.processed": "queued",
    "sending": "queued",
    "sent": "sent",
    "delivered": "delivered",
    "webhook_delivered": "delivered",
    "read": "read",
    "unknown": "unknown",
    "delivery_unconfirmed": "unknown",
    "dlr_timeout": "unknown",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "expired": "expired",
    "failed": "failed",
    "sending_failed": "failed",
    "delivery_failed": "failed",
    "gw_timeout": "failed",
}

#: Event types that are reports by their name, and the state each tells when no status word stands in it.
#: Only the first three are in the reference; the others stand in guides and in other people's code.
_REPORTS: dict[str, State] = {
    "message.sent": "sent",
    "message.finalized": "unknown",
    "message.read": "read",
    "message.finished": "unknown",
    "message.queued": "queued",
    "message.delivered": "delivered",
    "message.failed": "failed",
    "message.sending_failed": "failed",
}

#: States that an entry of `errors` can explain; a message under way or arrived has none of its own.
_EXPLAINED: frozenset[State] = frozenset({"unknown", "cancelled", "expired", "failed"})

#: RCS body members that have normalised fields; any other one is the message's type and content.
_PLAIN_BODY = frozenset({"text", "user_file"})

#: Redaction, a profile setting, masks numbers; what it leaves fits many people and must not pass for one of them.
_MASKED = re.compile(r"telnyx:(\+|.*([*#•]|[0-9]x{2}|redacted))", re.IGNORECASE)

_PER_ATTEMPT = frozenset({"meta"})


# --- parse ------------------------------------------------------------------------------------------------


def parse(capture: Capture) -> list[Parsed]:
    """Every event of a callback. An array is several deliveries, each of which stands or falls alone."""
    body = _unwrapped(decode(capture.body))
    parsed: list[Parsed] = []
    for element in body.elements() or [body]:
        delivery = _opened(element, capture)
        try:
            parsed += _reader(delivery.type)(delivery)
        except ParseError as error:
            parsed.append(Unreadable(error.reason, error.path, error.detail))
    return parsed


def _unwrapped(body: Node) -> Node:
    """AWS API Gateway passes the posted JSON on as a text in `body`."""
    inner = body.string("body")
    if inner is None or "data" in body or not inner.lstrip().startswith(("{", "[")):
        return body
    return decode(inner.encode())


def _opened(element: Node, capture: Capture) -> Delivery:
    data = element.get("data")
    return Delivery(
        account=capture.account,
        strict_groups=capture.facts.strict_groups,
        element=element,
        data=data,
        payload=data.get("payload"),
        type=data.text("event_type", "record_type") or ("v1" if "sms_id" in element else "unknown"),
    )


def _reader(event_type: str) -> Callable[[Delivery], list[Parsed]]:
    family, dot, _ = event_type.partition(".")
    return _READERS.get(event_type) or _READERS.get(family + dot, _unrecognised)


# --- one function per event -------------------------------------------------------------------------------


def _received(delivery: Delivery) -> list[Parsed]:
    """https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks, inbound.

    `to` is our line or lines; `cc` is everybody else, our line often among them. There is no thread id.
    """
    payload = _payload(delivery)
    parties = _parties(payload)
    message = _message(payload, parties, "inbound")
    evidence = _evidence(payload, message, parties, lines=parties.to, doubtful=False)
    return [_event(delivery, MessageReceived(message), _fact(delivery, message.id), evidence)]


def _reports(delivery: Delivery) -> list[Parsed]:
    """https://developers.telnyx.com/docs/messaging/messages/group-messaging, delivery status.

    That page says one callback per recipient, the support site all recipients in one: one event each, either way.
    """
    if not _is_report(delivery):
        return _unrecognised(delivery)
    payload = _payload(delivery)
    parties = _parties(payload)
    message = _message(payload, parties, "outbound")
    # Flat bodies name no type, so under `strict_groups` they might be MMS.
    doubtful = delivery.strict_groups and "mms" in (message.channel, (payload.text("type") or "mms").lower())
    evidence = _evidence(payload, message, parties, lines=parties.senders, doubtful=doubtful)
    reported = _reported(parties)
    places = frozenset([party.place for party in reported])
    return [_report(delivery, message, evidence, party, places) for party in reported]


def _report(delivery: Delivery, message: Message, evidence: Evidence, party: Party, places: frozenset[str]) -> Parsed:
    recipient, several = party.address, len(places) > 1
    # A report without recipient settles the whole message, so only a lone recipient may go unnamed.
    if party.entry is not None and recipient is None and (several or evidence.kind == "group"):
        return Unreadable(ParseError.reason, party.entry.path, "no readable address")
    status = _status(delivery, party, places)
    fact = _fact(delivery, message.id, recipient, status.raw, one_of_several=recipient if several else None)
    return _event(delivery, MessageStatus(message, status), fact, evidence)


def _notice(delivery: Delivery) -> list[Parsed]:
    """10DLC brands, campaigns and numbers; and hosted number orders, which come to the messaging profile's URL."""
    notice = Notice(delivery.type, (delivery.payload or delivery.data).value)
    return [_event(delivery, AccountNotice(notice), _fact(delivery))]


def _link_clicked(delivery: Delivery) -> list[Parsed]:
    """Somebody opened a shortened link: a bare record, without event type, id or payload."""
    data = delivery.data
    url = content_hash((data.text("url") or "").encode())
    fact = _fact(delivery, data.text("message_id"), address(data, NAME, "to"), url, data.text("time_clicked"))
    return [_event(delivery, AccountNotice(Notice(delivery.type, data.value)), fact)]


def _unrecognised(delivery: Delivery) -> list[Parsed]:
    """API v1 bodies, other Telnyx products posted to the same URL, and what is yet to come."""
    return [_event(delivery, Unrecognised(delivery.element.value), _fact(delivery))]


# --- parts of events --------------------------------------------------------------------------------------


def _event(
    delivery: Delivery, body: EventBody, fact: tuple[str | None, ...], evidence: Evidence | None = None
) -> Event:
    return Event(
        id=event_id(NAME, delivery.account, *fact),
        body=body,
        occurred_at=_occurred_at(delivery, insist=not isinstance(body, Unrecognised)),
        evidence=evidence,
        provider_type=delivery.type,
        provider_ids=_ids(delivery.payload or delivery.data or delivery.element),
    )


def _ids(node: Node) -> dict[str, str]:
    members = node.value.items() if node.is_object else ()
    return {key: value for key, value in members if key.endswith(("_id", "Id")) and value and isinstance(value, str)}


def _fact(
    delivery: Delivery, message_id: str | None = None, *details: str | None, one_of_several: str | None = None
) -> tuple[str | None, ...]:
    """What names a fact: `data.id`; without it, as in excerpts, the message and `details`; else the content."""
    own_id = delivery.data.text("id")
    if own_id is None and message_id is not None:
        return (delivery.type, message_id, *details)
    name = own_id or content_hash(delivery.element.canonical(without=_PER_ATTEMPT))
    return (name,) if one_of_several is None else (name, one_of_several)


def _occurred_at(delivery: Delivery, *, insist: bool) -> datetime | None:
    if not insist:
        return parse_time(delivery.data.string("occurred_at") or "")
    return delivery.data.moment("occurred_at", "time_clicked") or delivery.payload.moment(
        "completed_at", "delivered_at", "sent_at", "received_at"
    )


def _payload(delivery: Delivery) -> Node:
    if not delivery.payload.is_object or not delivery.payload.value:
        raise ParseError(delivery.payload.path, "missing, or not an object")
    return delivery.payload


def _message(payload: Node, parties: Parties, direction: Direction) -> Message:
    body = payload.get("body")
    media = _media(payload, body)
    kind, content = _content(body)
    return Message(
        id=payload.text("id", "message_id"),
        direction=direction,
        sender=parties.sender,
        text=_text(payload),
        media=media,
        channel=_channel(payload, grouped=bool(parties.cc), media=media),
        subject=payload.text("subject"),
        type=kind,
        content=content,
        opt_out=payload.text("autoresponse_type") if direction == "inbound" else None,
    )


def _text(payload: Node) -> str | None:
    text = payload.string("text", "body")
    return _rich_text(payload.get("body")) if text is None else text


def _rich_text(body: Node) -> str | None:
    text = body.string("text")
    return body.get("suggestion_response").string("text") if text is None else text


def _content(body: Node) -> tuple[str | None, Any]:
    """What an RCS body holds beyond text and file: `location`, `suggestion_response`."""
    for key, node in body.members():
        if node.is_object and key not in _PLAIN_BODY:
            return key, node.value
    return None, None


def _media(payload: Node, body: Node) -> tuple[Media, ...]:
    media = tuple([_attachment(node) for node in payload.items("media") if node])
    file = body.get("user_file").get("payload")
    return (*media, _file(file)) if file else media


def _attachment(node: Node) -> Media:
    return Media(
        url=node.text("url") or node.as_text(),
        content_type=node.text("content_type"),
        size=node.integer("size"),
        sha256=node.text("hash_sha256", "sha256"),
    )


def _file(node: Node) -> Media:
    return Media(
        url=node.text("file_uri"),
        content_type=node.text("mime_type"),
        size=node.integer("file_size_bytes"),
        filename=node.text("file_name"),
    )


def _channel(payload: Node, *, grouped: bool, media: tuple[Media, ...]) -> str:
    named = payload.text("type")
    if named is not None:
        return named.lower()
    if payload.get("body").is_object:
        return "rcs"
    return "mms" if grouped or media else "sms"


# --- who --------------------------------------------------------------------------------------------------


def _parties(payload: Node) -> Parties:
    return _gathered(*[_entries(payload.get(key), key) for key in ("from", "to", "cc")])


def _gathered(senders: tuple[Party, ...], to: tuple[Party, ...], cc: tuple[Party, ...]) -> Parties:
    writers = {party.address for party in senders}
    named = {party.address for party in (*to, *cc)}
    readable = None not in writers and None not in named
    others = named - writers
    return Parties(senders, to, cc, frozenset(filter(None, writers)), frozenset(filter(None, others)), readable)


def _entries(node: Node, key: str) -> tuple[Party, ...]:
    entries = enumerate(node.elements() if node else ())
    return tuple([Party(_address(entry), entry.text("status"), f"/{key}/{index}", entry) for index, entry in entries])


def _address(entry: Node) -> Address | None:
    number = address(entry, NAME, "phone_number" if entry.is_object else None)
    if number is not None and (is_phone(number) or not _MASKED.match(number)):
        return number
    agent = entry.text("agent_id")  # RCS; of digits only it must not become a number
    return None if agent is None else Address(f"{NAME}:{agent}")


def _evidence(
    payload: Node, message: Message, parties: Parties, *, lines: tuple[Party, ...], doubtful: bool
) -> Evidence:
    """`doubtful`: two people alone are not enough to call it a direct conversation, without a `cc`."""
    group_message_id, several = payload.text("group_message_id"), len(parties.others) > 1
    identity = _identity(parties)
    if not several and (group_message_id is not None or (doubtful and not parties.cc)):
        identity = None  # a report that names a group send tells of one recipient, not of who else there is
    grouped = several or group_message_id is not None or bool(parties.cc)
    return Evidence(
        identity=identity,
        pointers=_pointers(message.id, group_message_id),
        kind="group" if identity is None and grouped else "unknown",
        lines=_addresses(lines),
    )


def _pointers(*names: str | None) -> tuple[Pointer, ...]:
    return tuple([Pointer("message", (name,)) for name in dict.fromkeys(names) if name is not None])


def _addresses(parties: tuple[Party, ...]) -> tuple[Address, ...]:
    """Their addresses, each once, as far as they can be read."""
    return tuple(dict.fromkeys([party.address for party in parties if party.address is not None]))


def _identity(parties: Parties) -> Identity | None:
    """The set of everybody; None where it is not known to be complete."""
    if not parties.readable or not parties.senders or not parties.to:
        return None
    return set_identity(parties.writers | parties.others)


# --- reports ----------------------------------------------------------------------------------------------

_WHOLE_MESSAGE = Party(address=None, status=None, place="", entry=None)


def _is_report(delivery: Delivery) -> bool:
    """Whether a `message.*` event is a report: by its name, or, when that is new to us, by a status word in it."""
    payload = delivery.payload
    if delivery.type in _REPORTS:
        return True
    if payload.text("direction") == "inbound":
        return False
    return any(node.text("status") for node in (payload, *payload.items("to"), *payload.items("cc")))


def _reported(parties: Parties) -> list[Party]:
    """Whom a report is about: everyone in `to`, and others in `cc` that have a status; each once.

    Our own line among them received nothing, unless it is all there is.
    """
    copied = [party for party in parties.cc if party.status is not None and party.address not in parties.writers]
    reported: dict[str, Party] = {}
    for party in (*parties.to, *copied):
        reported.setdefault(party.address or party.place, party)
    others = [party for party in reported.values() if party.address not in parties.writers]
    return others or list(reported.values()) or [_WHOLE_MESSAGE]


def _status(delivery: Delivery, party: Party, places: frozenset[str]) -> Status:
    raw = party.status or delivery.payload.text("status")
    value = _REPORTS.get(delivery.type, "unknown") if raw is None else _STATES.get(raw.lower(), "unknown")
    error = _error(delivery.payload, party, places) if value in _EXPLAINED else None
    return Status(value=value, final=value in FINAL_STATES, recipient=party.address, raw=raw, error=error)


def _error(payload: Node, party: Party, places: frozenset[str]) -> StatusError | None:
    """The error whose JSON pointer names this recipient; else the first that names no other one."""
    general = None
    for error in filter(None, payload.items("errors")):
        place = "/".join((error.get("source").text("pointer") or "").split("/")[:3])
        if place == party.place:
            return _status_error(error)
        if general is None and place not in places:
            general = _status_error(error)
    return general


def _status_error(error: Node) -> StatusError:
    # Pages contradict each other on what a code means: it stays text, beside Telnyx' own words.
    return StatusError(code=error.text("code"), detail=error.text("detail", "title") or error.as_text())


# --- registered sends -------------------------------------------------------------------------------------


def register(capture: Capture) -> list[Parsed]:
    """The answer to a send, or all records of one group send as `GET /v2/messages/group/{id}` lists them.

    https://developers.telnyx.com/docs/messaging/messages/group-messaging
    """
    asked = registration(capture)
    payloads = _payloads(asked.response)
    name = _send_name(payloads)
    parties = _sent_parties(payloads, asked.request)
    grouped = _is_group_send(payloads, parties)
    event = Event(
        id=event_id(NAME, capture.account, "sent", name),
        body=MessageOutbound(_sent_message(payloads, asked.request, parties, name, grouped=grouped)),
        occurred_at=payloads[0].moment("sent_at", "received_at"),
        evidence=_sent_evidence(payloads, parties, grouped=grouped),
        provider_type="group_message" if grouped else "message",
        provider_ids=_ids(payloads[0]),
    )
    return [event]


def _payloads(response: Node) -> list[Node]:
    """The records of one send: `data`, or what stands there, handed in without its wrapper."""
    is_bare = not response.is_object or ("data" not in response and "id" in response)
    data = response if is_bare else response.get("data")
    payloads = data.elements()
    if not payloads:
        raise ParseError(data.path, "missing: no answer to a send")
    for payload in payloads:
        payload.require_text("id")
        if (payload.text("direction") or "outbound").lower() != "outbound":
            raise ParseError(payload.get("direction").path, "no message of ours")
    return payloads


def _send_name(payloads: list[Node]) -> str:
    """What one send is known by: its group's id, else its own, which stands for it in reports."""
    names = dict.fromkeys(payload.require_text("group_message_id", "id") for payload in payloads)
    if len(names) > 1:
        raise ParseError(payloads[1].path, "of another send than the first: no group_message_id in common")
    return next(iter(names))


def _sent_parties(payloads: list[Node], request: Node) -> Parties:
    """Everybody in any of the records; what they leave out, as the request has it."""
    senders, to, cc = (
        tuple(party for payload in payloads for party in _entries(payload.get(key) or request.get(key), key))
        for key in ("from", "to", "cc")
    )
    if not to:
        raise ParseError(payloads[0].get("to").path, "names nobody that it was sent to")
    return _gathered(senders, to, cc)


def _is_group_send(payloads: list[Node], parties: Parties) -> bool:
    """Whether it is to several, unreadable ones counted, or has a group's id."""
    named = {party.address or party.place for party in (*parties.to, *parties.cc)}
    others = named.difference(party.address for party in parties.senders)
    return len(others) > 1 or payloads[0].text("group_message_id") is not None


def _sent_message(payloads: list[Node], request: Node, parties: Parties, name: str, *, grouped: bool) -> Message:
    """What was sent, as answered; what the answer leaves out, as it was asked for."""
    message = _message(payloads[0], parties, "outbound")
    media = message.media or tuple(_attachment(node) for node in request.items("media_urls"))
    word = payloads[0].text("type") or request.text("type")
    return msgspec.structs.replace(
        message,
        id=message.id if len(payloads) == 1 else name,
        text=_text(request) if message.text is None else message.text,
        media=media,
        channel=word.lower() if word else _channel(payloads[0], grouped=grouped, media=media),
        subject=message.subject or request.text("subject"),
    )


def _sent_evidence(payloads: list[Node], parties: Parties, *, grouped: bool) -> Evidence:
    """A send names everybody, so its set is complete, also with one recipient.

    Not so one record of a group send by itself, which `GET /v2/messages/{id}` gives: it names one of its recipients.
    """
    pointers = _pointers(*[payload.text(key) for key in ("id", "group_message_id") for payload in payloads])
    whole = len(parties.others) > 1 or payloads[0].text("group_message_id") is None
    identity = _identity(parties) if whole else None
    return Evidence(
        identity=identity,
        pointers=pointers,
        kind="group" if identity is None and grouped else "unknown",
        lines=_addresses(parties.senders),
        registered=True,
        sent=Sent(message=pointers, recipients=_sent_to(parties) if whole else None),
    )


def _sent_to(parties: Parties) -> tuple[Address, ...] | None:
    """Everybody that it went to, our own line only if there is nobody else; None where one cannot be read."""
    named = {party.address for party in (*parties.to, *parties.cc)}
    others = named.difference(party.address for party in parties.senders) or named
    return None if None in named else tuple(sorted(filter(None, others)))


_READERS: dict[str, Callable[[Delivery], list[Parsed]]] = {
    "message.received": _received,
    "message.": _reports,
    "10dlc.": _notice,
    "messaging_hosted_numbers_orders.": _notice,
    "link_clicked": _link_clicked,
}

PROVIDER = Provider(name=NAME, schemes=(Ed25519(),), parse=parse, register=register, words=_STATES)
