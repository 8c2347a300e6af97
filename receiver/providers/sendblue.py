"""Sendblue: iMessage, SMS and RCS, direct and in groups.

Read in 2026-11:

- https://docs.sendblue.com/getting-started/receiving-messages
- https://docs.sendblue.com/getting-started/webhooks (kinds, retries)
- https://docs.sendblue.com/getting-started/groups
- https://docs.sendblue.com/security (`sb-signing-secret`)

What they leave out, and captures show:

- The body names its own kind only for `call_log`; everything else is told by its shape.
- `group_id` is "" (not null) in a 1:1, and `participants` is no sign of a group: a 1:1 lists nobody, the
  contact, or the contact and our line.
- `number` is the contact in most bodies and our line in some, so inbound messages are read without it.
- Every status of one message has the same `message_handle`; statuses of a group send may name an array.
- Some accounts get an array of bodies, or a body within `data`, at times beside an `event_type`.
- A handle is opaque: upper-case GUID inbound, lower-case outbound, at times malformed. Its case is kept.
- Status callbacks set per message come without the secret header: their URL has to carry a token.
- The answer to a send is the message as a report has it. Only that of a group send says which group it went to, and
  its numbers are an array, a text or null, under keys whose renaming is announced.
- The answer to a change of members says that it went well, and nothing else.
"""

import re
from itertools import product

import msgspec

from receiver.body import Node, decode
from receiver.provider import Provider, address, registration
from receiver.schemes import SharedSecret, UrlToken
from schemas.address import Address
from schemas.callback import Capture
from schemas.clock import format_time
from schemas.errors import ParseError
from schemas.events import (
    FINAL_STATES,
    AccountNotice,
    ConversationMembers,
    ConversationSettings,
    Event,
    EventBody,
    Evidence,
    Identity,
    Kind,
    Media,
    Members,
    Message,
    MessageOutbound,
    MessageReaction,
    MessageReceived,
    MessageStatus,
    Notice,
    Parsed,
    Pointer,
    Reaction,
    Sent,
    Settings,
    State,
    Status,
    StatusError,
    Typing,
    TypingState,
    Unreadable,
    Unrecognised,
    group_identity,
    pair_identity,
    set_identity,
)
from schemas.ids import EventId, content_hash, event_id
from schemas.value import Value

_NAME = "sendblue"

# Old pages write the words in lower case and know READ, newer ones do not: both are accepted.
_STATES: dict[str, State] = {
    "REGISTERED": "queued",
    "PENDING": "queued",
    "QUEUED": "queued",
    "ACCEPTED": "queued",
    "SENT": "sent",
    "SUCCESS": "sent",
    "DELIVERED": "delivered",
    "READ": "read",
    "ERROR": "failed",
    "DECLINED": "failed",
    "FAILED": "failed",
}

_TAPBACKS = {
    "Loved": "❤️",
    "Liked": "👍",
    "Disliked": "👎",
    "Laughed at": "😂",
    "Emphasized": "‼️",
    "Questioned": "❓",
}
# A keycap, or signs that are neither word, space, ASCII nor dash or quotation mark: "Reacted badly to “it”" is a text.
_EMOJI = r"[0-9#*]\ufe0f?\u20e3|[^\w\s!-~\u2010-\u2027]{1,32}"
# Quotation marks must pair up: "Loved “one” and “two”" is a text.
_QUOTED = "“((?:[^“”]++|“[^“”]*+”)++)”"
_TAPBACK = re.compile(rf"(?:({'|'.join(_TAPBACKS)})|Reacted ({_EMOJI}) to) {_QUOTED}")

#: One of these makes an object a webhook body, whatever it is wrapped in.
_MARKS = frozenset({"event_type", "from_number", "is_outbound", "is_typing", "message_handle"})
_WRAPPERS = ("data", "body")
#: Words of `event_type` that say no more than the shape does.
_SHAPED = frozenset({"receive", "outbound", "typing_indicator"})
_NOTICES = frozenset({"call_log", "line_blocked", "line_assigned", "contact_created"})
#: `status` of an inbound message; hand-made bodies have the second one too.
_INBOUND_STATES = frozenset({"RECEIVED", "REGISTERED"})
_SUBSTANCE = ("content", "media_url", "message_handle", "location", "app_card")
#: What a message can be beside text and media, by the key of the object that says so.
_OBJECTS = ("location", "app_card")
_RECIPIENTS = ("to_number", "number", "to_numbers", "numbers")
_IDS = ("group_id", "seat_id", "contact_id")
_NAMES = ("group_display_name", "group_name", "display_name", "name")
_TIMES = ("date_sent", "date_updated", "updated_at", "created_at")
#: `modify_type` of a change of members, and whether people come in by it.
_MODIFIED = {"add_recipient": True, "remove_recipient": False}
#: An answer of the API with one of these did nothing.
_REFUSED = frozenset({"ERROR", "FAILED", "DECLINED"})
#: Where a registered send names people. The last leaves out those who are known by an e-mail address.
_NUMBERS_ONLY = "participant_numbers"
_PEOPLE = (*_RECIPIENTS, "participants", _NUMBERS_ONLY)
#: More people than this are no direct conversation.
_PAIR = 2


def parse(capture: Capture) -> list[Parsed]:
    """A Sendblue callback in our words: one item per element of the body."""
    return [_parsed(capture, element) for element in _elements(decode(capture.body))]


def _parsed(capture: Capture, node: Node) -> Parsed:
    try:
        return _event(capture, node)
    except ParseError as error:
        return Unreadable(reason=error.reason, path=error.path, detail=error.detail)


def _event(capture: Capture, node: Node) -> Event:
    event_type = node.text("event_type") or ""
    if node.flag("is_typing") is not None:
        return _typing(capture, node)
    if event_type.lower() in _NOTICES:
        return _notice(capture, node, event_type)
    if event_type and event_type.lower() not in _SHAPED:
        return _unrecognised(capture, node)
    if _is_report(node):
        return _status(capture, node)
    if node.get("from_number") and node.first(*_SUBSTANCE).value is not None:
        return _received(capture, node)
    return _unrecognised(capture, node)


def _is_report(node: Node) -> bool:
    """Whether it is about a message of ours: `is_outbound` says so or, left out, a word no inbound message has."""
    outbound = node.flag("is_outbound")
    word = (node.text("status") or "").upper()
    return word in _STATES and word not in _INBOUND_STATES if outbound is None else outbound


def _elements(body: Node) -> list[Node]:
    """The webhook bodies in a request: as a rule the body itself; some accounts get an array or a wrapper."""
    return [inner for element in body.elements() for inner in _unwrapped(element)] or [body]


def _unwrapped(element: Node) -> list[Node]:
    if not _is_marked(element) or _is_labelled(element):
        for key in _WRAPPERS:
            inner = element.items(key)
            if any(_is_marked(node) for node in inner):
                return inner
    return [element]


def _is_marked(node: Node) -> bool:
    return isinstance(node.value, dict) and not _MARKS.isdisjoint(node.value)


def _is_labelled(node: Node) -> bool:
    """Whether `event_type` is its only mark, and says no more than the shape of what is inside."""
    event_type = (node.text("event_type") or "").lower()
    return event_type in _SHAPED and len(_MARKS.intersection(node.value)) == 1


# --- messages ---------------------------------------------------------------------------------------------


def _received(capture: Capture, node: Node) -> Event:
    """A message to one of our lines. Two lines in one group may each be told of it: two facts."""
    named = _receive_ends(node)
    line, sender = _righted(*named, capture.line_addresses())
    message = _received_message(node, sender)
    reaction = _tapback(message)
    return Event(
        id=_id(capture, message.id, "received", named[0]) if message.id else _content_id(capture, node),
        body=MessageReaction(message, reaction) if reaction else MessageReceived(message),
        occurred_at=node.moment("date_sent", "date_updated"),
        evidence=_evidence(node, line, _present(sender), inbound=True),
        provider_type="receive",
        provider_ids=_ids(node),
    )


def _receive_ends(node: Node) -> tuple[Address | None, Address | None]:
    """Our line and the sender.

    A vendor's example of an inbound message gives our line as `from_number`. Where the body itself says so,
    the other number wrote: a 1:1 of a line with itself would gather everybody's messages.
    """
    sender = _address(node, "from_number")
    line = _address(node, "sendblue_number") or _address(node, "to_number")
    if line is not None and sender == line:
        others = _present(_address(node, "to_number"), _address(node, "number")) - {line}
        sender = _only(others) or sender
    return line, sender


def _righted(
    line: Address | None, sender: Address | None, own: frozenset[Address]
) -> tuple[Address | None, Address | None]:
    """The ends, swapped where only the settings tell that they are; that moves no conversation: a pair has no order."""
    return (sender, line) if line is not None and sender in own and line not in own else (line, sender)


def _received_message(node: Node, sender: Address | None) -> Message:
    message_type = (node.text("message_type") or "").lower()
    kind = next((key for key in _OBJECTS if node.get(key) or message_type == key), None)
    reply, thread = node.get("reply_to"), node.get("thread_originator")
    return Message(
        id=node.text("message_handle"),
        direction="inbound",
        sender=sender,
        text=node.string("content"),
        media=_media(node),
        channel=_channel(node),
        reply_to=reply.text("message_handle") or thread.text("message_handle"),
        type=kind,
        content=None if kind is None else node.get(kind).value,
        opt_out="STOP" if node.flag("opted_out") else None,
    )


def _tapback(message: Message) -> Reaction | None:
    """Read the text that an iMessage tapback comes as; it names no target. By SMS it is a person's own text."""
    if message.channel != "imessage" or message.media or not message.text:
        return None
    match = _TAPBACK.fullmatch(message.text)
    if match is None:
        return None
    word, emoji, quoted = match.groups()
    return Reaction(message_id=None, emoji=_TAPBACKS[word] if word else emoji, action="added", quoted=quoted)


# --- reports ----------------------------------------------------------------------------------------------


def _status(capture: Capture, node: Node) -> Event:
    """A report on a message of ours; `is_outbound` is true for nothing else."""
    line = _address(node, "from_number") or _address(node, "sendblue_number")
    recipients = _recipients(node, line)
    evidence = _evidence(node, line, recipients, inbound=False)
    recipient = _only(recipients)
    return Event(
        id=_status_id(capture, node, recipient if evidence.kind == "group" else None),
        body=MessageStatus(_sent_message(node, line), _fate(node, recipient)),
        occurred_at=node.moment("date_updated", "date_sent"),
        evidence=evidence,
        provider_type="outbound",
        provider_ids=_ids(node),
    )


def _status_id(capture: Capture, node: Node, recipient: Address | None) -> EventId:
    """Name the change. An account's webhook and a message's own callback may both tell it: one fact."""
    handle = node.text("message_handle")
    if handle is None:
        return _content_id(capture, node)
    fact = (handle, (node.text("status") or "").upper(), node.text("date_updated"))
    return _id(capture, *fact, recipient) if recipient else _id(capture, *fact)


def _recipients(node: Node, line: Address | None) -> frozenset[Address]:
    """Whom the report is about: text, array or null, under keys whose renaming is announced."""
    for key in _RECIPIENTS:
        named = _addresses(node.get(key))
        if named is None:
            return frozenset()
        if others := named - _present(line):
            return others
    return frozenset()


def _sent_message(node: Node, line: Address | None) -> Message:
    return Message(
        id=node.text("message_handle"),
        direction="outbound",
        sender=line,
        text=node.text("content"),
        media=_media(node),
        channel=_channel(node),
    )


def _fate(node: Node, recipient: Address | None) -> Status:
    raw = node.text("status")
    value = _STATES.get((raw or "").upper(), "unknown")
    # An SMS, sent as such or fallen back to, gets no report after SENT.
    by_sms = _channel(node) == "sms" or node.flag("was_downgraded") is True
    return Status(
        value=value,
        final=value in FINAL_STATES or (value == "sent" and by_sms),
        recipient=recipient,
        raw=raw,
        error=_error(node),
    )


def _error(node: Node) -> StatusError | None:
    """Why it failed: codes are whole numbers or text (`SMS_LIMIT_REACHED`), and 0 is none."""
    code = node.text("error_code")
    detail = node.text("error_message", "error_detail", "error_reason")
    if code == "0":
        code = None
    return StatusError(code, detail) if code or detail else None


# --- everything else --------------------------------------------------------------------------------------


def _typing(capture: Capture, node: Node) -> Event:
    line, contact = _typing_ends(capture, node)
    is_typing = node.flag("is_typing") is True
    word = "true" if is_typing else "false"
    # Without a time, every start would look like the first one again.
    time = node.text("timestamp") or format_time(capture.received_at)
    return Event(
        id=_id(capture, "typing", line, contact, time, word),
        body=Typing(TypingState(contact, is_typing)),
        occurred_at=node.moment("timestamp"),
        evidence=Evidence(
            identity=_identity(node, "direct", line, _present(contact)),
            kind="direct",
            lines=tuple(_present(line)),
        ),
        provider_type="typing_indicator",
        provider_ids=_ids(node),
    )


def _typing_ends(capture: Capture, node: Node) -> tuple[Address | None, Address | None]:
    """Our line and the contact. Documented with our line as `from_number`, also seen the other way round."""
    ends = (_address(node, "from_number"), _address(node, "number"))
    line, own = ends[0], capture.line_addresses()
    if line not in own:
        line = _address(node, "sendblue_number") or (ends[1] if ends[1] in own else line)
    return line, next((end for end in ends if end not in (None, line)), None)


def _notice(capture: Capture, node: Node, event_type: str) -> Event:
    """`call_log`, `line_blocked`, `line_assigned`, `contact_created`: payloads not public, so kept whole."""
    return Event(
        id=_id(capture, event_type, content_hash(node.canonical())),
        body=AccountNotice(Notice(event_type, node.value)),
        occurred_at=None,
        evidence=None,
        provider_type=event_type,
        provider_ids=_ids(node, "message_handle"),
    )


def _unrecognised(capture: Capture, node: Node) -> Event:
    return Event(
        id=_content_id(capture, node),
        body=Unrecognised(node.value),
        occurred_at=None,
        evidence=None,
        provider_type=node.text("event_type", "type") or "",
        provider_ids=_ids(node, "message_handle"),
    )


# --- which conversation -----------------------------------------------------------------------------------


def _evidence(node: Node, line: Address | None, others: frozenset[Address], *, inbound: bool) -> Evidence:
    """What a message or report tells of its conversation; `others` are its sender or its recipients."""
    own, people = _present(line), _addresses(node.get("participants"))
    kind = _kind(node, people, line, others)
    writers = others if inbound else frozenset[Address]()
    is_open = inbound and not others  # somebody wrote whom nothing names
    everybody = people | writers | own if people and not is_open else None
    identity = _identity(node, kind, line, others, everybody if inbound else None)
    has_id = identity is not None and identity.kind == "group"
    pointers = _pointers(node)
    # A report to several has been to all of them; one to a single person says nothing of the others.
    reported = tuple(sorted(others)) if pointers and not inbound and len(others) > 1 else None
    return Evidence(
        identity=identity,
        pointers=pointers,
        kind=kind,
        lines=tuple(own),
        listed=tuple(sorted(everybody)) if has_id and everybody else None,
        joined=tuple(sorted(others)) if has_id else (),
        sent=None if reported is None else Sent(message=pointers, recipients=reported),
        name=node.text("group_display_name") if has_id else None,
    )


def _pointers(node: Node) -> tuple[Pointer, ...]:
    handle = node.text("message_handle")
    return (Pointer("message", (handle,)),) if handle else ()


def _kind(node: Node, people: frozenset[Address] | None, line: Address | None, others: frozenset[Address]) -> Kind:
    """A group has an id, a name or the type `group`; where none decides, more people than the two ends."""
    message_type = (node.text("message_type") or "").lower()
    if _names_group(node) or message_type == "group" or len(others) > 1:
        return "group"
    if message_type == "message":
        return "direct"
    if people is None:
        return "unknown"
    return "group" if len(people | others | _present(line)) > _PAIR else "direct"


def _names_group(node: Node) -> bool:
    """Whether a group's id or name is given: the free plan's groups have no id, and no 1:1 has a name."""
    return node.text("group_id", "group_display_name") is not None


def _identity(
    node: Node,
    kind: Kind,
    line: Address | None,
    others: frozenset[Address],
    everybody: frozenset[Address] | None = None,
) -> Identity | None:
    """The group's id under no scope (two of our lines in it are one conversation), the pair, or the set.

    The free plan's groups come without an id; a set of two would say less than "somebody's 1:1", so it is none.
    """
    group_id = node.text("group_id")
    if group_id:
        return group_identity("", group_id)
    if line is None:
        return None
    contact = _only(others - {line})
    if kind == "direct" and contact is not None:
        return pair_identity(line, contact)
    if kind == "group" and everybody and len(everybody) > _PAIR:
        return set_identity(everybody)
    return None


# --- fields -----------------------------------------------------------------------------------------------


def _address(node: Node, key: str) -> Address | None:
    return address(node, _NAME, key) or _entry(node.get(key))


def _addresses(node: Node) -> frozenset[Address] | None:
    """The addresses of a list; None when an entry has none, as the rest would look like everybody."""
    found = [_entry(entry) for entry in node.elements()]
    return None if None in found else _present(*found)


def _entry(node: Node) -> Address | None:
    """An address by itself, or an object with a `handle` (number or e-mail) as the vendor's group API gives."""
    if not node.is_object:
        return address(node, _NAME)
    return address(node, _NAME, "handle") or address(node, _NAME, "phone")


def _present(*addresses: Address | None) -> frozenset[Address]:
    return frozenset(filter(None, addresses))


def _only(addresses: frozenset[Address]) -> Address | None:
    return next(iter(addresses)) if len(addresses) == 1 else None


def _channel(node: Node) -> str:
    return (node.text("service") or "imessage").lower()


def _media(node: Node) -> tuple[Media, ...]:
    """One URL, "" or null: the body tells neither type nor size."""
    url = node.text("media_url")
    return () if url is None else (Media(url=url, content_type=None),)


def _ids(node: Node, *more: str) -> dict[str, str]:
    return {key: found for key in (*_IDS, *more) if (found := node.text(key)) is not None}


def _id(capture: Capture, *fact: str | None) -> EventId:
    return event_id(_NAME, capture.account, *fact)


def _content_id(capture: Capture, node: Node) -> EventId:
    """For bodies without a handle: a redelivery is the same bytes, without an attempt counter."""
    return _id(capture, content_hash(node.canonical()))


# --- registered sends -------------------------------------------------------------------------------------


def register(capture: Capture) -> list[Parsed]:
    """The answer to a message, to one to a group, or to the making or changing of a group.

    https://docs.sendblue.com/getting-started/groups and https://docs.sendblue.com/api (groups, v2 groups)
    """
    asked = registration(capture)
    response = _answer(asked.response)
    if response.text("message_handle"):
        return [_sent(capture, _opened(response, asked.request))]
    if _error(response) or response.get("error") or (response.text("status") or "").upper() in _REFUSED:
        raise ParseError(response.path, "an error of the API, no send")
    if asked.request.get("modify_type"):
        return [_modified(capture, response, asked.request)]
    if response.text("group_id"):
        return [_created(capture, _opened(response, asked.request))]
    raise ParseError(response.get("message_handle").path, "missing: no answer to a send")


def _answer(response: Node) -> Node:
    """The message or group in an answer; version 2 of the API wraps it."""
    for key in ("data", "group"):
        if response.get(key).is_object and not response.text("message_handle", "group_id"):
            response = response.get(key)
    return response


class _Send(Value, frozen=True):
    """An answer and what was asked for, opened as far as every kind needs it."""

    response: Node
    request: Node
    line: Address | None
    #: Everybody it names beside our line.
    people: frozenset[Address]
    #: Whether that is all of them.
    complete: bool
    #: Of the group that it went to.
    group_id: str | None
    kind: Kind

    def text(self, *keys: str) -> str | None:
        """What the answer says, else the request."""
        return self.response.text(*keys) or self.request.text(*keys)

    @property
    def everybody(self) -> frozenset[Address] | None:
        """All members of the group it went to, ours included."""
        return self.people | _present(self.line) if self.kind == "group" and self.complete else None


def _opened(response: Node, request: Node) -> _Send:
    line = _address(response, "from_number") or _address(response, "sendblue_number")
    line = line or _address(request, "from_number")
    people, complete = _named((response, request), line)
    return _send(response, request, line, people, complete=complete)


def _send(response: Node, request: Node, line: Address | None, people: frozenset[Address], *, complete: bool) -> _Send:
    group_id = response.text("group_id") or request.text("group_id")
    has_group = bool(group_id or response.text("group_display_name") or request.text("group_display_name"))
    kind = _send_kind(response, people, has_group=has_group)
    return _Send(response, request, line, people, complete, group_id, kind)


def _send_kind(response: Node, people: frozenset[Address], *, has_group: bool) -> Kind:
    """As in reports, but that one person and no sign of a group are a direct conversation."""
    word = (response.text("message_type") or "").lower()
    if has_group or word == "group" or len(people) > 1:
        return "group"
    return "direct" if people or word == "message" else "unknown"


def _named(nodes: tuple[Node, ...], line: Address | None) -> tuple[frozenset[Address], bool]:
    """Whom they name beside our line, and whether that is everybody: so says an array; a text may be the first of them.

    Nobody, where one cannot be read: the others would look like everybody, or like the only one.
    """
    own, people, complete = _present(line), frozenset[Address](), False
    for node, key in product(nodes, _PEOPLE):
        if key in node:
            named = node.get(key)
            found = _addresses(named)
            if found is None:
                return frozenset(), False
            people |= found - own
            complete |= isinstance(named.value, list) and bool(found) and key != _NUMBERS_ONLY
    return people, complete


def _sent(capture: Capture, send: _Send) -> Event:
    """A message of ours. Old answers lack our line and the numbers, which the request has."""
    if send.response.flag("is_outbound") is False:
        raise ParseError(send.response.get("is_outbound").path, "no message of ours")
    message = _sent_message(send.response, send.line)
    message = msgspec.structs.replace(
        message,
        text=message.text or send.request.text("content"),
        media=message.media or _media(send.request),
    )
    pointers = _pointers(send.response)
    known = bool(send.people) and (send.complete or send.kind == "direct")
    sent = Sent(message=pointers, recipients=tuple(sorted(send.people)) if known else None)
    evidence = msgspec.structs.replace(_send_evidence(send), pointers=pointers, sent=sent)
    word = "group_message" if send.kind == "group" else "message"
    return _registered(send, _id(capture, "sent", message.id), word, MessageOutbound(message), evidence)


def _created(capture: Capture, send: _Send) -> Event:
    """A group of ours, as it was made, or as version 2 of the API shows it."""
    settings = Settings(change="created", subject=send.text(*_NAMES))
    event = _id(capture, "create_group", send.response.text("group_id"))
    return _registered(send, event, "create_group", ConversationSettings(settings), _send_evidence(send))


def _modified(capture: Capture, response: Node, request: Node) -> Event:
    """People added to a group, or removed from it: only the request says whom."""
    word = request.require_text("modify_type")
    comes = _MODIFIED.get(word.lower())
    if comes is None:
        raise ParseError(request.get("modify_type").path, "no change of members")
    line = _address(request, "from_number")
    people, _ = _named((request,), line)
    if not people:
        raise ParseError(request.first(*_RECIPIENTS).path, "names nobody, or one that cannot be read")
    send = _send(response, request, line, frozenset(), complete=False)
    group_id = response.text("group_id") or request.require_text("group_id")
    changed = tuple(sorted(people))
    evidence = msgspec.structs.replace(
        _send_evidence(send), joined=changed if comes else (), left=() if comes else changed
    )
    members = Members(added=evidence.joined, removed=evidence.left, reason=word)
    event = _id(capture, "modify_group", group_id, word.lower(), *changed, response.text(*_TIMES))
    return _registered(send, event, "modify_group", ConversationMembers(members), evidence)


def _send_evidence(send: _Send) -> Evidence:
    """What a send or a group's own object tells of its conversation."""
    everybody = send.everybody
    identity = _send_identity(send, everybody)
    has_id = identity is not None and identity.kind == "group"
    return Evidence(
        identity=identity,
        kind=send.kind,
        lines=tuple(_present(send.line)),
        listed=tuple(sorted(everybody)) if has_id and everybody else None,
        joined=tuple(sorted(send.people)) if has_id else (),
        registered=True,
        name=send.text(*_NAMES) if has_id else None,
    )


def _send_identity(send: _Send, everybody: frozenset[Address] | None) -> Identity | None:
    """As of a callback; of a group without an id, all whom it was sent to are the set."""
    if send.group_id:
        return group_identity("", send.group_id)
    return _identity(send.response, send.kind, send.line, send.people, everybody)


def _registered(send: _Send, event: EventId, word: str, body: EventBody, evidence: Evidence) -> Event:
    return Event(
        id=event,
        body=body,
        occurred_at=send.response.moment(*_TIMES),
        evidence=evidence,
        provider_type=word,
        provider_ids=({"group_id": send.group_id} if send.group_id else {}) | _ids(send.response),
    )


PROVIDER = Provider(
    name=_NAME,
    schemes=(SharedSecret(header=b"sb-signing-secret"), UrlToken()),
    parse=parse,
    register=register,
    words=_STATES,
)
