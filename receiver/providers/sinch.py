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
- A batch is one message to many people, each in a conversation of their own, and to groups: in its `to`, group ids
  stand among numbers. No callback ever names a group; who texts its keyword joins or leaves it.
"""

import re
from collections.abc import Callable

from msgspec.structs import replace

from receiver.body import Node, decode
from receiver.provider import Provider, address, registration
from receiver.schemes import BasicAuth, SinchHmac, UrlToken
from receiver.sinch_conversation import STATES, direct_evidence, ids, message_pointers, parse_conversation, status_of
from schemas.address import Address, is_phone
from schemas.callback import Capture
from schemas.errors import ParseError
from schemas.events import (
    AccountNotice,
    ConversationSettings,
    Event,
    Evidence,
    Keywords,
    Media,
    Message,
    MessageOutbound,
    MessageReceived,
    MessageStatus,
    Notice,
    Parsed,
    Pointer,
    Sent,
    Settings,
    State,
    Status,
    Unreadable,
    Unrecognised,
    group_identity,
    pair_identity,
)
from schemas.ids import content_hash, event_id
from schemas.value import Value

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

#: A group is joined and left by one or two words, neither of them longer.
_KEYWORDS, _LONGEST_KEYWORD = 2, 15
#: Up to six digits, as an address. In a batch they are a number, as in callbacks.
_SHORT_NUMBER = re.compile(rf"{_NAME}:[0-9]{{1,6}}")
#: Members of a group's own object that no batch has.
_GROUP_MARKS = ("size", "child_groups", "auto_update", "name")

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
    text = node.string("body")
    return [_received(capture, node, replace(_bare(node), text=text), said=_said(text or ""))]


def _said(text: str) -> tuple[str, ...]:
    """The words of a text that may be a group's keyword."""
    words = tuple(text.lower().split())
    return words if len(words) <= _KEYWORDS and max(map(len, words), default=0) <= _LONGEST_KEYWORD else ()


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


def _received(capture: Capture, node: Node, message: Message, said: tuple[str, ...] = ()) -> Event:
    fact = message.id or content_hash(node.canonical())
    line = _required(node.get("to"))
    return Event(
        id=event_id(_NAME, capture.account, "inbound", fact),
        body=MessageReceived(message),
        # `sent_at` (old pages: `send_at`) is the operator's, if it tells one, and may be days off.
        occurred_at=node.moment("received_at", "sent_at", "send_at"),
        evidence=direct_evidence(line, message.sender, *message_pointers(message.id), said=said),
        provider_type=node.require_text("type"),
        provider_ids=ids(node, *_INBOUND_IDS),
    )


# --- reports ----------------------------------------------------------------------------------------------


def _recipient_report(capture: Capture, node: Node) -> list[Parsed]:
    """The state of one recipient. Others have seen it without recipient, code and time."""
    batch_id = node.require_text("batch_id")
    word, code = node.require_text("status"), node.text("code")
    named = node.get("recipient")
    recipient = _required(named) if named else None
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
    items = [item for bucket in buckets for item in _bucket(capture, node, bucket)]
    return _completed(_summed(items), _everybody(buckets))


def _everybody(buckets: list[Node]) -> tuple[Address, ...] | None:
    """Everybody that a batch went to; None where a bucket only counts, or one recipient cannot be read."""
    people: set[Address] = set()
    try:
        for bucket in buckets:
            listed = [_required(person) for person in bucket.items("recipients")]
            if not listed:
                return None
            people.update(listed)
    except ParseError:
        return None  # the recipient is a dead letter of its own
    return tuple(sorted(people))


def _summed(items: list[Parsed]) -> list[Parsed]:
    """Buckets that only count, each with what those before it counted: two may be of one state, by unlike codes."""
    total: dict[State, int] = {}
    summed: list[Parsed] = []
    for item in items:
        sent = item.evidence.sent if isinstance(item, Event) and item.evidence else None
        if isinstance(item, Event) and item.evidence and sent and sent.tally:
            for state, number in sent.tally:
                total[state] = total.get(state, 0) + number
            tallied = replace(item.evidence, sent=replace(sent, tally=tuple(total.items())))
            summed.append(replace(item, evidence=tallied))
        else:
            summed.append(item)
    return summed


def _completed(items: list[Parsed], everybody: tuple[Address, ...] | None) -> list[Parsed]:
    """The first report of a full one says whom the batch went to; in each, thousands would stand a thousand times."""
    for index, item in enumerate(items if everybody else ()):
        if isinstance(item, Event) and item.evidence and item.evidence.sent:
            evidence = replace(item.evidence, sent=replace(item.evidence.sent, recipients=everybody))
            return [*items[:index], replace(item, evidence=evidence), *items[index + 1 :]]
    return items


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
    return _report(capture, node, fact, _status(word, code, None), buckets)


def _report(
    capture: Capture, node: Node, fact: tuple[str | None, ...], status: Status, counts: list[Node] | None = None
) -> Event:
    """One report on a batch: on one of its recipients or, where `status` has none, on the batch as a whole.

    `counts`: the buckets that tell how many came to that status.
    """
    kind = node.require_text("type")
    batch_id = node.require_text("batch_id")
    line = address(node, _NAME, "applied_originator")
    channel = "mms" if kind.lower().endswith("_mms") else "sms"
    message = Message(batch_id, "outbound", line, text=None, media=(), channel=channel)
    if counts is not None:
        message = replace(message, type="statuses", content=[bucket.value for bucket in counts])
    place = (batch_id, status.recipient) if status.recipient else (batch_id,)
    evidence = _to_one(capture, line, status.recipient, Pointer("batch", place))
    sent = Sent((Pointer("batch", (batch_id,)),), count=_count(node, "total_message_count"), tally=_tally(counts or []))
    return Event(
        id=event_id(_NAME, capture.account, *fact),
        body=MessageStatus(message, status),
        # `operator_status_at` is often cut to the minute, so it cannot stand in.
        occurred_at=node.moment("at"),
        evidence=replace(evidence, sent=sent),
        provider_type=kind,
        provider_ids=ids(node, *_REPORT_IDS),
    )


def _to_one(capture: Capture, line: Address | None, recipient: Address | None, *pointers: Pointer) -> Evidence:
    """A message of ours to one person. Where no line is told, the send knows it; until then it is the default one."""
    evidence = direct_evidence(line, recipient, *pointers)
    if line is not None or recipient is None:
        return evidence
    default = capture.facts.default_line
    if default is None:
        return replace(evidence, contact=recipient)
    # Whatever the line of this message was: the default one is ours.
    ours = (Address(default),)
    return replace(evidence, contact=recipient, fallback=pair_identity(default, recipient), lines=ours)


def _tally(buckets: list[Node]) -> tuple[tuple[State, int], ...]:
    """How many came to each state, in the order in which the buckets have them."""
    tally: dict[State, int] = {}
    for bucket in buckets:
        count = _count(bucket, "count")
        if count is not None:
            state = _status(bucket.require_text("status"), bucket.text("code"), None).value
            tally[state] = tally.get(state, 0) + count
    return tuple(tally.items())


def _count(node: Node, key: str) -> int | None:
    count = node.integer(key)
    return None if count is None or count < 0 else count


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


# --- registered sends -------------------------------------------------------------------------------------


class _Target(Value, frozen=True):
    """One entry of a batch's `to`: a number, as an address, or a group's id."""

    name: str
    is_group: bool


class _Batch(Value, frozen=True):
    """A batch as it was registered, opened as far as each of its targets needs it."""

    id: str
    response: Node
    message: Message
    sent: Sent
    #: Its id alone, where that is the id of one conversation only: there is no other target.
    pointers: tuple[Pointer, ...]


def register(capture: Capture) -> list[Parsed]:
    """A batch as the API answers to its send, or a group's own object.

    https://developers.sinch.com/docs/sms/api-reference/sms/batches and …/sms/tag/Groups
    """
    asked = registration(capture)
    response = asked.response
    response.require_text("id")
    if not (response.text("type") or "mt_").lower().startswith("mt_"):
        raise ParseError(response.get("type").path, "no batch of ours")
    if "to" not in response and any(key in response for key in _GROUP_MARKS):
        return [_group(capture, response)]
    return _batch(capture, response, asked.request)


def _batch(capture: Capture, response: Node, request: Node) -> list[Parsed]:
    """One event for each number and group in `to`, each in a conversation of its own."""
    to = response.get("to") or request.get("to")
    if not to:
        raise ParseError(response.get("to").path, "names nobody that it was sent to")
    targets: dict[_Target, None] = {}
    unreadable: list[Parsed] = []
    for entry in to.elements():
        try:
            targets[_target(entry)] = None
        except ParseError as error:
            unreadable.append(_unreadable(error))
    batch = _opened(response, request, tuple(targets), complete=not unreadable)
    return [*(_sent(capture, batch, target) for target in targets), *unreadable]


def _target(entry: Node) -> _Target:
    """A recipient is a number in full, so whatever is not of digits only, or of too many, is a group's id: opaque."""
    found = _required(entry)
    is_group = not is_phone(found) and _SHORT_NUMBER.fullmatch(found) is None
    return _Target(entry.as_text() or "", is_group) if is_group else _Target(found, is_group)


def _opened(response: Node, request: Node, targets: tuple[_Target, ...], *, complete: bool) -> _Batch:
    """Where `from` is absent, the plan's pool of originators has the line: reports name it."""
    batch_id = response.require_text("id")
    line = address(response.get("from") or request.get("from"), _NAME)
    whole = Pointer("batch", (batch_id,))
    numbers = tuple(sorted(Address(target.name) for target in targets if not target.is_group))
    is_everybody = complete and len(numbers) == len(targets)
    return _Batch(
        id=batch_id,
        response=response,
        message=_batch_message(batch_id, line, response if response.get("body") else request),
        sent=Sent((whole,), recipients=numbers if is_everybody else None, line=line),
        pointers=(whole,) if complete and len(targets) == 1 else (),
    )


def _batch_message(batch_id: str, line: Address | None, node: Node) -> Message:
    message = Message(batch_id, "outbound", line, text=None, media=(), channel="sms")
    body = node.get("body")
    if (node.text("type") or "").lower() == "mt_binary":
        content = {key: member.value for key, member in node.members() if key in _BINARY_MEMBERS}
        return replace(message, type="binary", content=content)
    if not body.is_object:
        return replace(message, text=node.string("body"))
    url = body.text("url")
    return replace(
        message,
        channel="mms",
        subject=body.text("subject"),
        text=body.string("message"),
        media=(Media(url, None),) if url else (),
    )


def _sent(capture: Capture, batch: _Batch, target: _Target) -> Event:
    group_id = {"group_id": target.name} if target.is_group else {}
    return Event(
        id=event_id(_NAME, capture.account, "sent", batch.id, target.name),
        body=MessageOutbound(batch.message),
        occurred_at=batch.response.moment("created_at"),
        evidence=_to_group(batch, target.name) if target.is_group else _to_number(capture, batch, Address(target.name)),
        provider_type="batch",
        provider_ids={"batch_id": batch.id} | ids(batch.response, "client_reference") | group_id,
    )


def _to_number(capture: Capture, batch: _Batch, number: Address) -> Evidence:
    evidence = _to_one(capture, batch.sent.line, number, Pointer("batch", (batch.id, number)), *batch.pointers)
    return replace(evidence, registered=True, sent=batch.sent)


def _to_group(batch: _Batch, group_id: str) -> Evidence:
    """In the group's conversation; whom it reached, only the group's members can tell."""
    line, identity = batch.sent.line, group_identity("", group_id)
    return Evidence(
        identity=identity,
        pointers=batch.pointers,
        kind="group",
        lines=(line,) if line else (),
        registered=True,
        sent=replace(batch.sent, group=identity if batch.pointers else None),
    )


def _group(capture: Capture, node: Node) -> Event:
    """A group as it now is: its name, and the words by which people join and leave it."""
    group_id, name = node.require_text("id"), node.text("name")
    version = node.text("modified_at") or content_hash(node.canonical())
    keywords = _keywords(node.get("auto_update"))
    return Event(
        id=event_id(_NAME, capture.account, "group", group_id, version),
        body=ConversationSettings(Settings(change="changed", subject=name)),
        occurred_at=node.moment("modified_at", "created_at"),
        evidence=Evidence(
            identity=group_identity("", group_id),
            kind="group",
            lines=(keywords.line,) if keywords else (),
            registered=True,
            name=name,
            keywords=keywords,
        ),
        provider_type="group",
        provider_ids={"group_id": group_id},
    )


def _keywords(auto_update: Node) -> Keywords | None:
    line = address(auto_update, _NAME, "to")  # a text or, in an SDK, a number
    if line is None:
        return None
    return Keywords(line, join=_words(auto_update.get("add")), leave=_words(auto_update.get("remove")))


def _words(keyword: Node) -> tuple[str, ...] | None:
    """One or two words: as members of an object, or as a bare text."""
    told = (keyword.text("first_word"), keyword.text("second_word"))
    words = [word.strip() for word in told if word] or (keyword.as_text() or "").split()
    return tuple(word.lower() for word in words) or None


PROVIDER = Provider(
    name=_NAME,
    schemes=(SinchHmac(), BasicAuth(), UrlToken()),
    parse=parse,
    register=register,
    words=_STATES | STATES,
)
