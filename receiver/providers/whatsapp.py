"""WhatsApp Cloud API (Meta): direct messages, groups, reports, echoes, account fields.

Read in 2026-11; everything below is under https://developers.facebook.com/documentation/business-messaging/whatsapp/

- webhooks/overview and webhooks/create-webhook-endpoint (envelope, batches, signature, handshake)
- webhooks/reference/messages/… (a page for each message type) and …/messages/status
- groups/webhooks, groups/groups-messaging, groups/reference
- business-scoped-user-ids (user ids instead of phone numbers)
- webhooks/reference/smb_message_echoes, …/user_preferences and the account fields

A body is `{"object", "entry": [{"id", "time"?, "changes": [{"field", "value"}]}]}` with up to a thousand updates
over all entries, changes and arrays, and no id of its own. What the pages leave out, or say in two ways:

- One value may hold messages, statuses and errors at once. `contacts` is aligned with none of them: a contact
  belongs to whoever has its `wa_id` or `user_id`, whatever its place.
- A group message differs from a 1:1 only by its `group_id`.
- `from`, `wa_id` and `recipient_id` are left out for users who show a username only, and may hold a user id.
- A participant in a report is `recipient_participant_id` in some examples and `participant_recipient_id` in others.
- A report's time may differ when it is repeated, so it is no part of the fact.
- The answer to a send names neither our number nor what was said, and shows a group's id where a person's number
  would be. The answer to the making of a group has no group's id yet, only that of the request.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import msgspec

from receiver.body import Node, decode
from receiver.provider import Provider, registration
from receiver.schemes import HubSignature
from schemas.address import MAX_LENGTH, Address, is_phone, parse_address
from schemas.callback import Capture
from schemas.errors import ParseError
from schemas.events import (
    FINAL_STATES,
    AccountNotice,
    Change,
    ConversationMembers,
    ConversationSettings,
    Direction,
    Event,
    EventBody,
    Evidence,
    FailedMember,
    Identity,
    Kind,
    Media,
    Members,
    Message,
    MessageEdited,
    MessageOutbound,
    MessageReaction,
    MessageReceived,
    MessageRevoked,
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
    Unreadable,
    Unrecognised,
    group_identity,
    pair_identity,
    user_identity,
)
from schemas.ids import content_hash, event_id
from schemas.value import Value

_NAME = "whatsapp"

# --- word tables ------------------------------------------------------------------------------------------

#: Fields whose value holds the arrays of `_ARRAYS`. Reference and guide spell the group ones differently.
_UPDATES = frozenset({
    "messages", "message_echoes", "smb_message_echoes", "user_preferences", "user_id_update",
    "group_lifecycle_update", "group_participant_update", "group_participants_update",
    "group_setting_update", "group_settings_update", "group_status_update",
})  # fmt: skip

#: Fields about the account as a whole. Some (calls, history) hold arrays named like ours that mean other things.
_NOTICES = frozenset({
    "automatic_events", "business_capability_update", "business_status_update", "business_username_update",
    "business_username_updates", "calls", "flows", "history", "partner_solutions", "payment_configuration_update",
    "security", "smb_app_state_sync", "template_category_update", "template_correct_category_detection",
    "tracking_events",
})  # fmt: skip
_NOTICE_FAMILIES = ("account_", "message_template_", "phone_number_")

#: `statuses[].status`; anything else (legacy `deleted` and `warning` too) is unknown.
_STATES: dict[str, State] = {
    "sent": "sent", "delivered": "delivered", "read": "read", "played": "read", "failed": "failed",
}  # fmt: skip

#: `groups[].type` of a group's life: our word; `_failed` is added where `errors` stand beside it.
_LIVES = {
    "group_create": "created",
    "group_delete": "deleted",
    "group_suspend": "suspended",
    "group_suspend_cleared": "resumed",
}

#: Members of a settings update: our name for each.
_SETTINGS = {"group_subject": "subject", "group_description": "description", "profile_picture": "picture"}

_PICTURE = ("mime_type", "sha256")

_WHO, _WHAT = ("participants", "participant"), ("add", "remove")

_NUMBER_CHANGED = frozenset({"user_changed_number", "customer_changed_number"})
_ID_CHANGED = "user_changed_user_id"

#: Which member of a message's own object is its text.
_TEXTS = {
    "text": "body", "system": "body", "button": "text", "order": "text",
    "image": "caption", "video": "caption", "document": "caption",
    "audio": "caption", "sticker": "caption", "voice": "caption",
}  # fmt: skip
_MEDIA = frozenset(kind for kind, key in _TEXTS.items() if key == "caption")
#: `link` and, below, `message_id` are in requests of ours what `url` and `id` are in callbacks.
_FILE = frozenset({"id", "mime_type", "sha256", "url", "link", "filename", "caption"})
#: Kinds that the normalised fields tell whole, as long as their object has no other member (`voice`, `animated`).
_WHOLE = {"text": frozenset({"body", "preview_url"}), **dict.fromkeys(_MEDIA, _FILE)}
#: Kinds that are not the name of a member, but say that Meta passes no content on.
_WITHHELD = frozenset({"unsupported", "unknown"})
#: What can stand beside a message's own object and has no normalised field.
_BESIDE = ("errors", "unsupported", "referral", "identity")
_ANSWERED = frozenset({"from", "id", "message_id"})

_USER_ID = re.compile(r"[A-Z]{2}\.(?:[A-Za-z0-9]+\.)?[A-Za-z0-9]{1,128}")
_PHONE = re.compile(r"\+[0-9]+|whatsapp:[0-9]{1,6}")


class _Naming(Value, frozen=True):
    """Under which keys an element names a user; a user id may stand under either kind."""

    phones: tuple[str, ...]
    ids: tuple[str, ...]

    def found(self, node: Node) -> str | None:
        """What stands under any of them, readable or not."""
        return node.text(*self.phones, *self.ids)


_SENDER = _Naming(("from",), ("from_user_id",))
_ADDRESSEE = _Naming(("to",), ("to_user_id",))
_RECIPIENT = _Naming(("recipient_id",), ("recipient_user_id",))
_PARTICIPANT = _Naming(
    ("recipient_participant_id", "participant_recipient_id"),
    ("recipient_participant_user_id", "participant_recipient_user_id"),
)
#: `input` echoes what the caller of the API wrote.
_MEMBER = _Naming(("wa_id", "input"), ("user_id",))
_CONTACT = _Naming(("wa_id",), ("user_id",))
#: Whom a request of ours is for: a number as `to`, a user id as `recipient`.
_ASKED = _Naming(("to", "recipient"), ())
#: Whom a system message is about.
_SUBJECT = _Naming(("wa_id", "new_wa_id"), ("user_id",))

#: Three pages, three spellings; the fourth is for participants.
_PARENT_USER_IDS = (
    "parent_recipient_user_id", "recipient_parent_user_id", "parent_user_id", "recipient_participant_parent_user_id",
)  # fmt: skip
_SENDER_IDS = ("group_id", "from_user_id", "from_parent_user_id")
_ADDRESSEE_IDS = ("group_id", "to_user_id", "to_parent_user_id")
_GROUP_IDS = ("group_id", "request_id", "join_request_id")

# --- what the elements of one change share ----------------------------------------------------------------

_Ties = tuple[tuple[Address, Address], ...]


class _User(Value, frozen=True):
    """A person on WhatsApp, as far as one place tells."""

    phone: Address | None = None
    id: Address | None = None

    @property
    def address(self) -> Address | None:
        """The one to show."""
        return self.phone or self.id

    @property
    def ties(self) -> _Ties:
        """Phone and user id seen together are one person."""
        return ((self.phone, self.id),) if self.phone and self.id else ()


class _Scope(Value, frozen=True):
    """One change, opened as far as all its elements need it."""

    account: str
    entry: Node
    change: Node
    value: Node
    field: str
    #: `phone_number_id`: stable, while the number itself is spelled for display.
    number_id: str
    #: Our line as identities hold it.
    line: Address | None
    #: Our line as people know it.
    number: Address | None
    #: Contacts with both halves, by either; nobody where two claim one half.
    halves: dict[Address, _User]
    #: All contacts, as they stand there.
    contacts: list[_User]
    provider_ids: dict[str, str]

    @property
    def lines(self) -> tuple[Address, ...]:
        """Both spellings of our line: one is shown, the other stands in identities."""
        return tuple(dict.fromkeys(filter(None, (self.number, self.line))))

    @property
    def sole(self) -> _User:
        """The only contact beside the only message; nobody where there are more of either."""
        return self.contacts[0] if len(self.contacts) == 1 and _is_lone_message(self.value) else _User()

    def user(self, node: Node, naming: _Naming) -> _User:
        """The user that an element names, completed."""
        return self.completed(_user(node, naming))

    def completed(self, user: _User) -> _User:
        """The user with the half that is missing, if a contact equals the other one."""
        if user.address is None or user.ties:
            return user
        contact = self.halves.get(user.address, user)
        return contact if contact.ties else user


def _scope(account: str, entry: Node, change: Node) -> _Scope:
    value = change.get("value")
    metadata = value.get("metadata")
    number_id = metadata.text("phone_number_id")
    number = _phone(metadata.text("display_phone_number"))
    number = number if number and is_phone(number) else None
    contacts = [_user(contact, _CONTACT) for contact in value.items("contacts")]
    return _Scope(
        account=account,
        entry=entry,
        change=change,
        value=value,
        field=change.text("field") or "unknown",
        number_id=number_id or "",
        line=Address(f"{_NAME}:{number_id}") if number_id else number,
        number=number,
        halves=_by_half(contacts),
        contacts=contacts,
        provider_ids=_present({"waba_id": entry.text("id"), "phone_number_id": number_id}),
    )


def _by_half(contacts: Iterable[_User]) -> dict[Address, _User]:
    known: dict[Address, _User] = {}
    for contact in contacts:
        for half in chain(*contact.ties):
            known[half] = contact if known.get(half, contact) == contact else _User()
    return known


def _is_lone_message(value: Node) -> bool:
    return len(value.items("messages")) == 1 and not value.get("statuses")


def _user(node: Node, naming: _Naming) -> _User:
    phone = user_id = None
    for key in naming.ids:
        user_id = user_id or _user_id(node.text(key))
    for key in naming.phones:
        text = node.text(key)
        phone, user_id = phone or _phone(text), user_id or _user_id(text)
    return _User(phone, user_id)


def _phone(text: str | None) -> Address | None:
    if text is None or len(text) > MAX_LENGTH:
        return None
    address = parse_address(text, _NAME)
    return address if address is not None and _PHONE.fullmatch(address) else None


def _user_id(text: str | None) -> Address | None:
    return Address(f"{_NAME}:{text}") if text is not None and _USER_ID.fullmatch(text) else None


def _ids(node: Node, keys: tuple[str, ...]) -> dict[str, str]:
    return {key: text for key in keys if (text := node.text(key)) is not None}


def _present(ids: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in ids.items() if text is not None}


# --- parse ------------------------------------------------------------------------------------------------


def parse(capture: Capture) -> list[Parsed]:
    """Every update of a callback, in order. Each stands or falls alone, and nothing goes without an item."""
    body = decode(capture.body)
    return [
        item
        for entry in body.items("entry") or [body]
        for change in entry.items("changes") or [entry]
        for item in _change(_scope(capture.account, entry, change))
    ]


def _change(scope: _Scope) -> list[Parsed]:
    if scope.field in _NOTICES or scope.field.startswith(_NOTICE_FAMILIES):
        return [_attempt(_notice, scope, scope.change)]
    arrays = _ARRAYS if scope.field in _UPDATES else {}
    value = scope.value
    parsed = [_attempt(arrays[key], scope, node) for key in value.among(arrays) for node in value.items(key)]
    return parsed or [_attempt(_unknown_change, scope, scope.change)]


def _attempt(read: "_Read", scope: _Scope, node: Node) -> Parsed:
    if not node.is_object:
        return Unreadable(ParseError.reason, node.path, "not an object")
    try:
        return read(scope, node)
    except ParseError as error:
        return Unreadable(error.reason, error.path, error.detail)


# --- one function per event: messages ---------------------------------------------------------------------


def _received(scope: _Scope, node: Node) -> Event:
    """`messages[]`: a person wrote, reacted, edited, revoked; or WhatsApp tells something about that person."""
    sender, ties = _sender(scope, node)
    fact, group = _message_fact(node), _group_id(node, "group_id")
    # In a group the id alone places the message, whoever wrote it.
    if sender.address is None and (group is None or group.as_text() is None):
        return _nobody(scope, node, "messages", fact, _SENDER)
    body = _message_body(node, "inbound", sender.address)
    evidence = _message_evidence(scope, node, sender, group, ties)
    return _event(scope, node, "messages", body, fact, evidence=evidence, ids=_ids(node, _SENDER_IDS))


def _echo(scope: _Scope, node: Node) -> Event:
    """`message_echoes[]`: a message of ours, sent from the business app or a linked device.

    Where `from` and `to` are swapped, as in one capture, the user is whichever is not our number.
    """
    swapped = scope.number is not None and _phone(node.text("to")) == scope.number
    naming = _SENDER if swapped else _ADDRESSEE
    group = _group_id(node, "to")
    user = _User() if group is not None else scope.user(node, naming)
    fact = _message_fact(node)
    if group is None and user.address is None:
        return _nobody(scope, node, "message_echoes", fact, naming)
    body = _message_body(node, "outbound", scope.number or scope.line)
    evidence = _message_evidence(scope, node, user, group, user.ties)
    ids = _present({"group_id": None if group is None else group.as_text()}) | _ids(node, _ADDRESSEE_IDS)
    return _event(scope, node, "message_echoes", body, fact, evidence=evidence, ids=ids)


def _nobody(scope: _Scope, node: Node, array: str, fact: tuple[str, ...], naming: _Naming) -> Event:
    """A message whose sender or recipient is no WhatsApp user that we can tell: a placeholder, a masked number."""
    if naming.found(node) is None:
        raise ParseError(node.path, f"names nobody under {', '.join((*naming.phones, *naming.ids))}")
    return _event(scope, node, array, Unrecognised(node.value), fact)


def _sender(scope: _Scope, node: Node) -> tuple[_User, _Ties]:
    sender = scope.user(node, _SENDER)
    if node.text("type") == "system":
        system = node.get("system")
        return _changed(sender, scope.user(system, _SUBJECT), system.text("type"))
    if sender.address is None and _SENDER.found(node) is None:
        # Who shares a phone number on request stands in `contacts` only (business-scoped-user-ids).
        sender = scope.sole
    return sender, sender.ties


def _changed(sender: _User, subject: _User, word: str | None) -> tuple[_User, _Ties]:
    """Who a system message is of, and who are one person. `from` is the old number or absent, `system` has the new."""
    user = sender if sender.address else subject
    if word == _ID_CHANGED:
        user = _User(sender.phone or subject.phone, subject.id or sender.id)
    elif word not in _NUMBER_CHANGED:
        return user, user.ties
    return user, tuple(dict.fromkeys((*sender.ties, *subject.ties, *_succession(sender, subject))))


def _succession(old: _User, new: _User) -> _Ties:
    halves = ((old.phone, new.phone), (old.id, new.id))
    ties = tuple((before, after) for before, after in halves if before and after)
    if not ties and old.address and new.address:
        ties = ((old.address, new.address),)
    return tuple((before, after) for before, after in ties if before != after)


def _message_fact(node: Node) -> tuple[str, ...]:
    return (node.text("id") or content_hash(node.canonical()),)


def _message_body(node: Node, direction: Direction, sender: Address | None) -> EventBody:
    message = _bare_message(node.text("id"), direction, sender)
    kind = node.text("type") or ""
    member = node.get(kind)
    if kind in _CHANGES and member.is_object:
        return _CHANGES[kind](member, message)
    message = _filled(message, node)
    return MessageReceived(message) if direction == "inbound" else MessageOutbound(message)


def _bare_message(message_id: str | None, direction: Direction, sender: Address | None) -> Message:
    return Message(id=message_id, direction=direction, sender=sender, text=None, media=(), channel=_NAME)


def _reaction(reaction: Node, message: Message) -> EventBody:
    """Taken back: `emoji` is absent by the documentation, empty in captures."""
    emoji = reaction.text("emoji")
    reacted = Reaction(reaction.text("message_id"), emoji, "added" if emoji else "removed")
    return MessageReaction(message, reacted)


def _edited(edit: Node, message: Message) -> EventBody:
    """The edit has an id of its own; the message as it now reads is nested, with type and context."""
    return MessageEdited(_filled(message, edit.get("message")), Change(edit.text("original_message_id")))


def _revoked(revoke: Node, message: Message) -> EventBody:
    return MessageRevoked(message, Change(revoke.text("original_message_id")))


_CHANGES: dict[str, Callable[[Node, Message], EventBody]] = {
    "reaction": _reaction, "edit": _edited, "revoke": _revoked,
}  # fmt: skip


def _filled(message: Message, node: Node, *, untyped: str = "unknown") -> Message:
    """The message with what it says: `type` names the member that holds it, `untyped` where there is none."""
    kind = node.text("type") or untyped
    member = node.get(kind)
    content = _content(node, kind, member)
    return msgspec.structs.replace(
        message,
        text=_text(kind, member),
        media=(_media(member),) if kind in _MEDIA and member.is_object else (),
        reply_to=node.get("context").text("id", "message_id"),
        type=None if content is None and kind in _WHOLE else kind,
        content=content,
    )


def _text(kind: str, member: Node) -> str | None:
    if kind == "interactive":
        reply = member.first("button_reply", "list_reply", "nfm_reply")
        return reply.string("title") or reply.string("body")
    return member.string(_TEXTS[kind]) if kind in _TEXTS else None


def _media(member: Node) -> Media:
    return Media(
        url=member.text("url", "link"),
        content_type=member.text("mime_type"),
        id=member.text("id"),
        sha256=member.text("sha256"),
        filename=member.text("filename"),
    )


def _content(node: Node, kind: str, member: Node) -> Any:
    """The message's own object, unless the normalised fields tell it whole; else what stands beside it."""
    if kind not in _WITHHELD and member.value is not None and not _is_whole(kind, member):
        return member.value
    beside = {key: member.value for key in node.among(_BESIDE) if (member := node.get(key))}
    context = node.get("context")
    if context.is_object and not _ANSWERED.issuperset(context.value):  # referred_product, forwarded
        beside["context"] = context.value
    return beside or None


def _is_whole(kind: str, member: Node) -> bool:
    if kind not in _WHOLE or not member.is_object:
        return False
    text = member.get(_TEXTS[kind]).value
    return _WHOLE[kind].issuperset(member.value) and (text is None or isinstance(text, str))


def _message_evidence(scope: _Scope, node: Node, user: _User, group: Node | None, ties: _Ties) -> Evidence:
    pointers = _pointers("message", node.text("id"))
    if group is None:
        return _direct(scope, user, pointers, ties)
    joined = () if user.address is None else (user.address,)
    return _grouped(scope, group.as_text(), pointers, joined=joined, same_user=ties)


# --- one function per event: reports ----------------------------------------------------------------------


def _report(scope: _Scope, node: Node) -> Event:
    """`statuses[]`: a report on a message of ours, for one person or, in groups, for all.

    https://developers.facebook.com/documentation/business-messaging/whatsapp/groups/groups-messaging
    """
    message_id, word = node.require_text("id"), node.require_text("status")
    group = _reported_group(node)
    naming = _RECIPIENT if group is None else _participant_naming(node, group)
    recipient = _user(node, naming)
    unreadable = naming.found(node) if recipient.address is None else None
    if group is not None and unreadable is not None:
        # Without a recipient it would settle the message for everybody.
        raise ParseError(node.get(naming.phones[0]).path, "no readable participant")
    user = scope.completed(recipient)
    body = _report_body(scope, node, word, user.address)
    # The recipient as this element has it: contacts may be others when a batch is regrouped for a retry.
    fact: tuple[str, ...] = (message_id, word, recipient.address or unreadable or "")
    if isinstance(body, Unrecognised):
        fact = (*fact, node.require_text("type"), content_hash(node.canonical()))
    evidence = _message_evidence(scope, node, user, group, user.ties)
    if group is None and unreadable is not None:
        evidence = msgspec.structs.replace(evidence, kind="unknown")  # it may be the id of a group
    return _event(scope, node, "statuses", body, fact, evidence=evidence, ids=_report_ids(node, group))


def _reported_group(node: Node) -> Node | None:
    """Where a report has the group's id; only reports on a group name a participant beside the recipient."""
    group = _group_id(node, "recipient_id")
    return node.get("recipient_id") if group is None and _PARTICIPANT.found(node) is not None else group


def _participant_naming(node: Node, group: Node) -> _Naming:
    """The API reference has `group_id` in reports; then `recipient_id` is free to name the participant."""
    if _is_to_group(node) or node.text("recipient_id") in (None, group.as_text()):
        return _PARTICIPANT
    return _Naming((*_PARTICIPANT.phones, *_RECIPIENT.phones), (*_PARTICIPANT.ids, *_RECIPIENT.ids))


def _report_body(scope: _Scope, node: Node, word: str, recipient: Address | None) -> EventBody:
    if node.text("type") not in (None, "message"):
        return Unrecognised(node.value)  # the fate of a payment, which has the message's id and words like failed
    value = _STATES.get(word.lower(), "unknown")
    message = _bare_message(node.text("id"), "outbound", scope.number or scope.line)
    return MessageStatus(message, Status(value, value in FINAL_STATES, recipient, word, _error(node)))


def _report_ids(node: Node, group: Node | None) -> dict[str, str]:
    return _present(
        {
            "biz_opaque_callback_data": node.text("biz_opaque_callback_data"),
            "conversation_id": node.get("conversation").text("id"),
            "parent_user_id": node.text(*_PARENT_USER_IDS),
            "group_id": None if group is None else group.as_text(),
        }
    )


# --- one function per event: groups -----------------------------------------------------------------------


class _Person(Value, frozen=True):
    """An entry of a list of participants."""

    address: Address
    ties: _Ties
    error: StatusError | None


def _group(scope: _Scope, node: Node) -> Event:
    """`groups[]`: https://developers.facebook.com/documentation/business-messaging/whatsapp/groups/webhooks."""
    kind = node.text("type")
    if kind is None and any(node.get(key) for key in _SETTINGS):
        return _settings(scope, node)
    return _GROUPS.get(kind or "", _unknown_group)(scope, node)


def _life(scope: _Scope, node: Node) -> Event:
    """Created, deleted, suspended, resumed. Only the presence of `errors` tells failure from success."""
    error = _error(node)
    settings = Settings(
        change=_LIVES[node.require_text("type")] + ("_failed" if error else ""),
        subject=node.string("subject"),
        description=node.string("description"),
        invite_link=node.text("invite_link"),
        join_approval=node.text("join_approval_mode"),
        error=error,
    )
    return _group_event(scope, node, ConversationSettings(settings))


def _settings(scope: _Scope, node: Node) -> Event:
    """Subject, description and picture: only those that were to change, and each may fail alone."""
    error = _error(node)
    asked = {name: node.get(key) for key, name in _SETTINGS.items() if node.get(key)}
    failed = {name: _error(member) for name, member in asked.items() if _has_failed(member)}
    done, absent = {name: member for name, member in asked.items() if name not in failed}, Node(None, "", node)
    settings = Settings(
        change="changed" if done or not (failed or error) else "changed_failed",
        subject=done.get("subject", absent).string("text"),
        description=done.get("description", absent).string("text"),
        picture=_ids(done.get("picture", absent), _PICTURE) or None,
        failed=failed,
        error=error,
    )
    return _group_event(scope, node, ConversationSettings(settings))


def _has_failed(setting: Node) -> bool:
    successful = setting.flag("update_successful")
    return bool(setting.get("errors")) if successful is None else not successful


def _members(scope: _Scope, node: Node) -> Event:
    """Participants added, removed or refused. Approved requests come as additions; refused ones do not come at all."""
    added, removed, failed = (
        _people(scope, node.items(key)) for key in ("added_participants", "removed_participants", "failed_participants")
    )
    error = _error(node)
    if not (added or removed or failed or error):
        return _unknown_group(scope, node)
    members = Members(
        added=_addresses(added),
        removed=_addresses(removed),
        failed=tuple(FailedMember(person.address, person.error) for person in failed),
        error=error,
        reason=node.text("reason"),
        # Most examples have it beside the groups, which makes them invalid JSON; everybody else has it inside.
        initiated_by=node.text("initiated_by") or scope.value.text("initiated_by"),
    )
    return _group_event(scope, node, ConversationMembers(members), (*added, *removed, *failed))


def _join_request(scope: _Scope, node: Node) -> Event:
    """Somebody asks to join, or withdraws that. Names the person on the group object itself."""
    people = _people(scope, [node])
    asks = node.text("type") == "group_join_request_created"
    members = Members(
        added=(),
        removed=(),
        requested=_addresses(people) if asks else (),
        withdrawn=() if asks else _addresses(people),
        error=_error(node),
        reason=node.text("reason"),
    )
    return _group_event(scope, node, ConversationMembers(members), people)


def _unknown_group(scope: _Scope, node: Node) -> Event:
    return _group_event(scope, node, Unrecognised(node.value))


#: Guide and API reference differ in the order of words, and in singular and plural.
_GROUPS: dict[str, Callable[[_Scope, Node], Event]] = {
    **dict.fromkeys(_LIVES, _life),
    **dict.fromkeys(("group_settings_update", "group_setting_update"), _settings),
    **dict.fromkeys((f"group_{who}_{what}" for who in _WHO for what in _WHAT), _members),
    **dict.fromkeys((f"group_{what}_{who}" for who in _WHO for what in _WHAT), _members),
    "group_join_request_created": _join_request,
    "group_join_request_revoked": _join_request,
}


def _people(scope: _Scope, entries: Iterable[Node]) -> tuple[_Person, ...]:
    """Everybody in a list. One who cannot be read spoils it: the others alone would be another fact."""
    return tuple(_person(scope, entry) for entry in entries)


def _person(scope: _Scope, entry: Node) -> _Person:
    user = scope.user(entry if entry.is_object else Node({"wa_id": entry.value}, "", entry), _MEMBER)
    if user.address is None:
        raise ParseError(entry.path, "no readable participant")
    return _Person(user.address, user.ties, _error(entry))


def _addresses(people: Iterable[_Person]) -> tuple[Address, ...]:
    return tuple(person.address for person in people)


def _group_event(scope: _Scope, node: Node, body: EventBody, people: tuple[_Person, ...] = ()) -> Event:
    kind, group_id, request_id = node.text("type"), node.text("group_id"), node.text("request_id")
    cause = request_id or node.text("join_request_id") or ",".join(sorted(_addresses(people)))
    if isinstance(body, Unrecognised) or (not cause and (group_id is None or kind not in _LIVES)):
        cause = content_hash(node.canonical())  # nothing else tells two of one second apart
    fact = (group_id or "", kind or "", cause, node.text("timestamp") or "")
    evidence = _grouped(
        scope,
        group_id,
        _pointers("request", request_id),
        joined=body.members.added if isinstance(body, ConversationMembers) else (),
        left=body.members.removed if isinstance(body, ConversationMembers) else (),
        same_user=tuple(dict.fromkeys(tie for person in people for tie in person.ties)),
    )
    return _event(scope, node, kind or scope.field, body, fact, evidence=evidence, ids=_ids(node, _GROUP_IDS))


# --- one function per event: users, account, what is unknown ----------------------------------------------


def _preference(scope: _Scope, node: Node) -> Event:
    """`user_preferences[]`: a person stops or resumes marketing messages."""
    return _user_notice(scope, node, "user_preferences", scope.user(node, _CONTACT))


def _user_id_update(scope: _Scope, node: Node) -> Event:
    """`user_id_update[]`: a person has a new user id, usually after a change of number."""
    user_id = node.get("user_id")
    current = _User(_phone(node.text("wa_id")), _user_id(user_id.text("current") or user_id.as_text()))
    return _user_notice(scope, node, "user_id_update", current, _User(id=_user_id(user_id.text("previous"))))


def _user_notice(scope: _Scope, node: Node, array: str, user: _User, before: _User | None = None) -> Event:
    ties = (*_succession(before or user, user), *user.ties)
    evidence = None if user.address is None else _direct(scope, user, (), ties)
    fact = (array, content_hash(node.canonical()))
    return _event(scope, node, array, AccountNotice(Notice(array, node.value)), fact, evidence=evidence)


def _account_error(scope: _Scope, node: Node) -> Event:
    """`errors[]` of the value itself: about the account, or about what it stands beside."""
    beside = scope.value.first("messages", "statuses").elements()[:1]
    fact = ("errors", content_hash(node.canonical()), *(item.text("id") or "" for item in beside))
    return _event(scope, node, "errors", AccountNotice(Notice("errors", node.value)), fact)


_Read = Callable[[_Scope, Node], Event]

#: The arrays of a value, in the order in which they are read.
_ARRAYS: dict[str, _Read] = {
    "messages": _received,
    "statuses": _report,
    "message_echoes": _echo,
    "groups": _group,
    "user_preferences": _preference,
    "user_id_update": _user_id_update,
    "errors": _account_error,
}


def _notice(scope: _Scope, _change: Node) -> Event:
    return _account_event(scope, AccountNotice(Notice(scope.field, scope.value.value)))


def _unknown_change(scope: _Scope, change: Node) -> Event:
    return _account_event(scope, Unrecognised(change.value))


def _account_event(scope: _Scope, body: EventBody) -> Event:
    """The business account is the scope, as there is no number; `time` is in entries of this kind only."""
    waba_id, time = scope.entry.text("id"), scope.entry.text("time")
    return Event(
        id=event_id(_NAME, scope.account, waba_id, scope.field, time, content_hash(scope.change.canonical())),
        body=body,
        occurred_at=scope.entry.unix_moment("time"),
        evidence=None,
        provider_type=scope.field,
        provider_ids=scope.provider_ids,
    )


# --- parts of events --------------------------------------------------------------------------------------


def _event(
    scope: _Scope,
    node: Node,
    provider_type: str,
    body: EventBody,
    fact: tuple[str, ...],
    *,
    evidence: Evidence | None = None,
    ids: dict[str, str] | None = None,
) -> Event:
    return Event(
        id=event_id(_NAME, scope.account, scope.number_id, *fact),
        body=body,
        occurred_at=node.unix_moment("timestamp"),
        evidence=evidence,
        provider_type=provider_type,
        provider_ids={**scope.provider_ids, **(ids or {})},
    )


def _group_id(node: Node, recipient: str) -> Node | None:
    """Where the group's id stands, readable or not; None for what was said in no group."""
    group_id = node.get("group_id")
    if group_id:
        return group_id
    return node.get(recipient) if _is_to_group(node) else None


def _is_to_group(node: Node) -> bool:
    return (node.text("recipient_type") or "").lower() == "group"


def _direct(scope: _Scope, user: _User, pointers: tuple[Pointer, ...], ties: _Ties) -> Evidence:
    identity = _direct_identity(scope.line, user)
    return Evidence(identity=identity, pointers=pointers, kind="direct", lines=scope.lines, same_user=ties)


def _direct_identity(line: Address | None, user: _User) -> Identity | None:
    if line is None or user.address is None:
        return None
    return user_identity(line, user.id) if user.id else pair_identity(line, user.address)


def _grouped(
    scope: _Scope,
    group_id: str | None,
    pointers: tuple[Pointer, ...],
    *,
    joined: tuple[Address, ...] = (),
    left: tuple[Address, ...] = (),
    same_user: _Ties = (),
) -> Evidence:
    return Evidence(
        identity=None if group_id is None else group_identity(scope.number_id, group_id),
        pointers=pointers,
        kind="group",
        lines=scope.lines,
        joined=joined,
        left=left,
        same_user=same_user,
    )


def _pointers(kind: str, name: str | None) -> tuple[Pointer, ...]:
    return () if name is None else (Pointer(kind, (name,)),)


def _error(node: Node) -> StatusError | None:
    """The first of `errors`: what went wrong; newer ones nest their details."""
    for error in node.items("errors"):
        detail = error.get("error_data").text("details") or error.text("details", "message", "title")
        return StatusError(error.text("code"), detail)
    return None


# --- registered sends -------------------------------------------------------------------------------------


def register(capture: Capture) -> list[Parsed]:
    """The answer to a message of ours, or to the making of a group.

    Our number is in the URL of such a request only; the caller may add it to the request as `phone_number_id`.
    https://developers.facebook.com/documentation/business-messaging/whatsapp/reference (messages) and groups/reference
    """
    asked = registration(capture)
    scope = _registered_scope(capture.account, asked.response, asked.request)
    messages = asked.response.items("messages")
    if not messages and asked.response.text("request_id"):
        return [_group_requested(scope, asked.request)]
    if not messages:
        raise ParseError(asked.response.get("messages").path, "missing: no answer to a send")
    return [_registered(scope, asked.request, node.require_text("id")) for node in messages]


def _registered_scope(account: str, response: Node, request: Node) -> _Scope:
    number_id = request.text("phone_number_id")
    return _Scope(
        account=account,
        entry=response,
        change=response,
        value=response,
        field="",
        number_id=number_id or "",
        line=Address(f"{_NAME}:{number_id}") if number_id else None,
        number=None,
        halves={},
        contacts=[],
        provider_ids=_present({"phone_number_id": number_id}),
    )


def _registered(scope: _Scope, request: Node, message_id: str) -> Event:
    """One message. Only the request, or the look of the id, tells one to a group from one to a person."""
    contacts = scope.value.items("contacts")
    contact = contacts[0] if len(contacts) == 1 else Node(None, "contacts", scope.value)
    user = _user(contact, _MEMBER)
    user = user if user.address else _user(request, _ASKED)
    kind = _sent_kind(request, contact, user)
    pointers = _pointers("message", message_id)
    group_id = None
    if kind == "direct":
        evidence = _direct(scope, user, pointers, user.ties)
    else:
        group_id = request.text(*_ASKED.phones) or contact.text("input") if _is_to_group(request) else None
        evidence = _grouped(scope, group_id if scope.number_id else None, pointers)
    recipients = (user.address,) if kind == "direct" and user.address else None
    evidence = msgspec.structs.replace(
        evidence, kind=kind, registered=True, sent=Sent(message=pointers, recipients=recipients)
    )
    message = _bare_message(message_id, "outbound", scope.line)
    return Event(
        id=event_id(_NAME, scope.account, "sent", message_id),
        body=MessageOutbound(_filled(message, request, untyped="text") if request else message),
        occurred_at=None,
        evidence=evidence,
        provider_type="group_message" if kind == "group" else "message",
        provider_ids=scope.provider_ids | _present({"group_id": group_id}),
    )


def _sent_kind(request: Node, contact: Node, user: _User) -> Kind:
    """A group's id is opaque text, but may be digits: without a request, only what no group id is shows a person."""
    if _is_to_group(request):
        return "group"
    who, wa_id = contact.text("input", "wa_id") or request.text(*_ASKED.phones), contact.text("wa_id")
    if who is not None and user.address is None:
        return "group"
    is_person = user.id is not None or (who or "").startswith("+") or wa_id not in (None, who)
    return "direct" if is_person or (who and request.text(*_ASKED.phones)) else "unknown"


def _group_requested(scope: _Scope, request: Node) -> Event:
    """A group that we asked for; `group_lifecycle_update` will tell its id, and name this request."""
    if request and request.text("subject") is None:
        raise ParseError(request.get("subject").path, "missing: the making of no group")
    request_id = scope.value.require_text("request_id")
    settings = Settings(
        change="create_requested",
        subject=request.string("subject"),
        description=request.string("description"),
        join_approval=request.text("join_approval_mode"),
    )
    return Event(
        id=event_id(_NAME, scope.account, "create_group", request_id),
        body=ConversationSettings(settings),
        occurred_at=None,
        evidence=msgspec.structs.replace(_grouped(scope, None, _pointers("request", request_id)), registered=True),
        provider_type="create_group",
        provider_ids=scope.provider_ids | {"request_id": request_id},
    )


PROVIDER = Provider(_NAME, (HubSignature(),), parse, register, handshake_setting="verify_tokens", words=_STATES)
