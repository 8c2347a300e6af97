"""The Conversation API half of Sinch: its callbacks in our words. Pure.

Read in 2026-11:

- https://developers.sinch.com/docs/conversation/callbacks.md
- https://github.com/sinch/docs (docs/conversation/conversation-callbacks.md)

One callback per POST, whose kind is told by a top-level key beside an envelope (`app_id`, `project_id`, times). An
app stands for our line: it answers on all its channels. Ids of contact and conversation are empty in dispatch mode,
so they decide nothing: the conversation is the app and the contact as the channel knows it. Groups never appear.
"""

from collections.abc import Callable

import msgspec

from receiver.body import Node
from receiver.provider import address
from schemas.address import Address
from schemas.events import (
    FINAL_STATES,
    AccountNotice,
    Direction,
    Event,
    EventBody,
    Evidence,
    Media,
    Message,
    MessageOutbound,
    MessageReaction,
    MessageReceived,
    MessageStatus,
    Notice,
    Pointer,
    Reaction,
    State,
    Status,
    StatusError,
    Typing,
    TypingState,
    Unrecognised,
    pair_identity,
)
from schemas.ids import content_hash, event_id
from schemas.value import Value

_NAME = "sinch"


class Chat(Value, frozen=True):
    """One callback, opened as far as every kind of it needs."""

    account: str
    #: The whole callback, and its member that names the kind.
    node: Node
    kind: str
    element: Node
    line: Address | None
    contact: Address | None
    channel: str

    @property
    def content_hash(self) -> str:
        """What names a callback without any id. Nothing in it differs between attempts."""
        return content_hash(self.node.canonical())


# --- word tables ------------------------------------------------------------------------------------------

#: While a message switches to another channel, nothing has been sent on that one yet.
STATES: dict[str, State] = {
    "queued_on_channel": "sent",
    "switching_channel": "queued",
    "delivered": "delivered",
    "read": "read",
    "failed": "failed",
}

#: States that a code can explain. A vendor's own example is delivered, yet has a reason.
_EXPLAINED: frozenset[State] = frozenset({"unknown", "cancelled", "expired", "failed"})

#: Channels on which people are known by their number. Elsewhere 10 to 15 digits are just an id.
_PHONE_CHANNELS = frozenset({"sms", "mms", "rcs", "whatsapp", "viber", "viberbm"})

#: Stands for a channel that a callback does not name.
_UNKNOWN = "unknown"

_TYPING = {"composing_event": True, "composing_end_event": False}

#: Members of a message that are not what it says.
_SIDE_MEMBERS = frozenset({"reply_to", "agent"})

_ENVELOPE_IDS = ("app_id", "project_id", "correlation_id")
_ELEMENT_IDS = ("conversation_id", "contact_id", "batch_id", "sender_id")


# --- parse ------------------------------------------------------------------------------------------------


def parse_conversation(account: str, node: Node) -> Event | None:
    """The event of a Conversation API callback; None for anything that is none."""
    for kind, element in node.members():
        reader = _READERS.get(kind)
        if reader is not None and element and (element.is_object or reader is _notice):
            return reader(_opened(account, node, kind, element))
    return None


def _opened(account: str, node: Node, kind: str, element: Node) -> Chat:
    app_id = node.text("app_id")
    identity = element.get("channel_identity")
    channel = (identity.text("channel") or _UNKNOWN).lower()
    return Chat(
        account=account,
        node=node,
        kind=kind,
        element=element,
        line=Address(f"{_NAME}:app:{app_id}") if app_id else None,
        contact=_contact(channel, identity.get("identity")),
        channel=channel,
    )


def _contact(channel: str, identity: Node) -> Address | None:
    """The contact as its channel knows it; a number is the same person on every channel that has numbers."""
    known = address(identity, _NAME)
    if known is None or channel == _UNKNOWN:
        return None
    if channel in _PHONE_CHANNELS:
        return known
    return Address(f"{_NAME}:{channel}:{identity.as_text()}")


# --- messages ---------------------------------------------------------------------------------------------


def _message(chat: Chat) -> Event:
    content = chat.element.first("contact_message", "app_message")
    outbound = (chat.element.text("direction") or "").upper() == "TO_CONTACT"
    message = _said(chat, "outbound" if outbound else "inbound", content)
    body = MessageOutbound(message) if outbound else MessageReceived(message)
    return _event(chat, ("message", message.id or chat.content_hash), body, *message_pointers(message.id))


def _submitted(chat: Chat) -> Event:
    """A message of ours that was handed in, by whatever way."""
    message = _said(chat, "outbound", chat.element.get("submitted_message"))
    fact = ("submit", message.id or chat.content_hash)
    return _event(chat, fact, MessageOutbound(message), *message_pointers(message.id))


def _said(chat: Chat, direction: Direction, content: Node) -> Message:
    """A message with what it says: text, a file, or something richer in the words of Sinch."""
    text = content.get("text_message")
    file = content.get("media_message")
    rich = (kind for kind, _ in content.members() if kind not in _SIDE_MEMBERS)
    kind = None if text or file else next(rich, None)
    return msgspec.structs.replace(
        _bare(chat, direction),
        text=text.string("text"),
        media=(Media(file.text("url"), None, filename=file.text("filename_override")),) if file else (),
        reply_to=content.get("reply_to").text("message_id"),
        type=kind,
        content=content.get(kind).value if kind else None,
    )


def _bare(chat: Chat, direction: Direction) -> Message:
    return Message(
        id=chat.element.text("message_id", "id"),
        direction=direction,
        sender=chat.contact if direction == "inbound" else chat.line,
        text=None,
        media=(),
        channel=chat.channel,
    )


# --- reports ----------------------------------------------------------------------------------------------


def _report(chat: Chat) -> Event:
    """The state of a message. Of one from a batch that failed early, only its place in the batch is known."""
    word = chat.element.require_text("status")
    reason = chat.element.get("reason")
    message = _bare(chat, "outbound")
    status = status_of(
        STATES.get(word.lower(), "unknown"),
        word,
        recipient=chat.contact,
        code=reason.text("code"),
        detail=reason.text("description"),
    )
    place = _place(chat.element)
    named = (message.id,) if message.id else place or (chat.content_hash,)
    # The channel too: after a switch of channels, a message is queued once more, under the same id.
    fact = ("conversation_report", *named, word, chat.channel)
    pointers = message_pointers(message.id) or ((Pointer("batch", place),) if place else ())
    return _event(chat, fact, MessageStatus(message, status), *pointers)


def _place(element: Node) -> tuple[str, ...]:
    """The batch and the place in it; empty unless both are told."""
    batch_id, index = element.text("batch_id"), element.text("message_index")
    return (batch_id, index) if batch_id and index else ()


# --- events and notices -----------------------------------------------------------------------------------


def _activity(chat: Chat) -> Event:
    """Typing, a reaction, or something else that the contact did. Old ones have no id."""
    fact = ("event", chat.element.text("id") or chat.content_hash)
    reaction = chat.element.get("contact_message_event").get("reaction_event")
    if reaction:
        said = _reaction(reaction)
        body = MessageReaction(_bare(chat, "inbound"), said)
        return _event(chat, fact, body, *message_pointers(said.message_id))
    activity = chat.element.get("contact_event")
    typing = next((is_typing for kind, is_typing in _TYPING.items() if kind in activity), None)
    if typing is None:
        return _event(chat, fact, Unrecognised(chat.node.value))
    return _event(chat, fact, Typing(TypingState(chat.contact, typing)))


def _reaction(reaction: Node) -> Reaction:
    removed = reaction.text("action") == "REACTION_ACTION_UNREACT"
    return Reaction(
        message_id=reaction.text("message_id"),
        emoji=None if removed else reaction.text("emoji"),
        action="removed" if removed else "added",
    )


def _notice(chat: Chat) -> Event:
    event = _event(chat, (chat.kind, chat.content_hash), AccountNotice(Notice(chat.kind, chat.element.value)))
    return msgspec.structs.replace(event, evidence=None)


# --- shared -----------------------------------------------------------------------------------------------


def _event(chat: Chat, fact: tuple[str, ...], body: EventBody, *pointers: Pointer) -> Event:
    moment = chat.node.moment("event_time")
    moment = moment or chat.element.moment("accept_time") or chat.node.moment("accepted_time")
    return Event(
        id=event_id(_NAME, chat.account, *fact),
        body=body,
        occurred_at=moment,
        evidence=direct_evidence(chat.line, chat.contact, *pointers),
        provider_type=chat.kind,
        provider_ids=ids(chat.node, *_ENVELOPE_IDS) | ids(chat.element, *_ELEMENT_IDS),
    )


def message_pointers(message_id: str | None) -> tuple[Pointer, ...]:
    """The pointer that a message's own id is."""
    return (Pointer("message", (message_id,)),) if message_id else ()


def direct_evidence(
    line: Address | None, contact: Address | None, *pointers: Pointer, said: tuple[str, ...] = ()
) -> Evidence:
    """What a fact between one line and one contact tells; at Sinch there is no other kind."""
    return Evidence(
        identity=pair_identity(line, contact) if line and contact else None,
        pointers=pointers,
        kind="direct" if contact else "unknown",
        lines=(line,) if line else (),
        said=said,
    )


def status_of(
    value: State,
    raw: str | None,
    *,
    recipient: Address | None = None,
    code: str | None = None,
    detail: str | None = None,
) -> Status:
    """A report, with its error where the state is one that a code can explain."""
    error = StatusError(code, detail) if value in _EXPLAINED and (code or detail) else None
    return Status(value, value in FINAL_STATES, recipient, raw, error)


def ids(node: Node, *keys: str) -> dict[str, str]:
    """The ids among some members, under Sinch's own names; empty ones left out."""
    return {key: text for key in keys if (text := node.text(key)) is not None}


_READERS: dict[str, Callable[[Chat], Event]] = {
    "message": _message,
    "message_submit_notification": _submitted,
    "message_delivery_report": _report,
    "event": _activity,
    "batch_status_update": _notice,
    "capability_notification": _notice,
    "channel_event": _notice,  # so a guide of Sinch's
    "channel_event_notification": _notice,  # so its SDKs
    "contact_create_notification": _notice,
    "contact_delete_notification": _notice,
    "contact_merge_notification": _notice,
    "contact_update_notification": _notice,
    "conversation_delete_notification": _notice,
    "conversation_start_notification": _notice,
    "conversation_stop_notification": _notice,
    "duplicated_contact_identities_notification": _notice,
    "event_delivery_report": _notice,
    "message_redaction": _notice,
    "opt_in_notification": _notice,
    "opt_out_notification": _notice,
    "record_notification": _notice,
    "smart_conversation_notification": _notice,
    "unsupported_callback": _notice,
}
