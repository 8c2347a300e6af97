"""Normalised events: what a provider's callback says, in our words.

One `Event` per provider fact. Its `body` is a closed, tagged union (the tag is the CloudEvents type); its
`evidence` is what the fact tells about the conversation it belongs to. Providers make both; the correlator
reads only `evidence`, and never learns which provider a fact came from.
"""

from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

from schemas.address import Address
from schemas.ids import ConversationKey, EventId
from schemas.value import Value

Direction = Literal["inbound", "outbound"]
Kind = Literal["direct", "group", "unknown"]

#: The states of a message, lowest first: a recipient counts once, at the highest state known.
STATES = ("queued", "sent", "unknown", "cancelled", "expired", "failed", "delivered", "read")
State = Literal["queued", "sent", "unknown", "cancelled", "expired", "failed", "delivered", "read"]
#: From `unknown` upwards nothing further is expected.
FINAL_STATES = frozenset(STATES[2:])


# --- evidence: which conversation -------------------------------------------------------------------------


IdentityKind = Literal["group", "set", "user", "pair"]


class Identity(Value, frozen=True):
    """Something that decides which conversation a fact belongs to.

    `group`  a provider's group id.                       parts: (what scopes the id, the id)
    `set`    every address of the conversation, own ones  parts: the addresses, sorted, distinct
             included; two are a direct conversation
    `user`   line and user by a business-scoped user id   parts: (line, user id)
    `pair`   line and contact by phone                    parts: the two, sorted
    """

    kind: IdentityKind
    parts: tuple[str, ...]


class Pointer(Value, frozen=True):
    """An id that names a message or batch, and through it a conversation: weak, it never decides by itself."""

    kind: str
    parts: tuple[str, ...]


class Sent(Value, frozen=True, omit_defaults=True):
    """What one fact tells of a message of ours as a whole, where its conversation does not say that already.

    A batch is one message to many people, each in a conversation of their own; its roll-up is one.
    """

    #: The ids that name the whole message; named together they are one.
    message: tuple[Pointer, ...]
    #: Everybody it went to, complete; None: not told here.
    recipients: tuple[Address, ...] | None = None
    #: How many it went to, where only that is told.
    count: int | None = None
    #: How many came to each state, from reports that only count.
    tally: tuple[tuple[State, int], ...] = ()
    #: The line it was sent from, for reports that name none.
    line: Address | None = None
    #: The group that it went to, and to nobody else: its recipients are that group's members.
    group: Identity | None = None


class Keywords(Value, frozen=True):
    """By which words, written to which line, people join and leave a group; words in lower case, one or two."""

    line: Address
    join: tuple[str, ...] | None
    leave: tuple[str, ...] | None


class Evidence(Value, frozen=True, omit_defaults=True):
    """What one fact tells about its conversation. The more it leaves out, the more it leaves open."""

    #: Decides the conversation; None: only the pointers can, and until they do it is provisional.
    identity: Identity | None = None
    #: What it belongs to while nothing better is known; made with a setting, not told by the fact.
    fallback: Identity | None = None
    #: The one person of a direct conversation whose line only the send tells (`sent.message`, `Sent.line`).
    contact: Address | None = None
    #: Named together they are one class with one claim.
    pointers: tuple[Pointer, ...] = ()
    #: Only read while no identity is known.
    kind: Kind = "unknown"
    #: Addresses that this fact shows to be our own.
    lines: tuple[Address, ...] = ()
    #: Everybody in it, complete, as of the fact's time; None: this fact has no complete list.
    listed: tuple[Address, ...] | None = None
    #: Seen in it (senders, recipients, joiners) or gone from it, as of the fact's time.
    joined: tuple[Address, ...] = ()
    left: tuple[Address, ...] = ()
    #: Pairs of addresses that are one user (phone and user id seen together, old and new number or id).
    same_user: tuple[tuple[Address, Address], ...] = ()
    #: It is a send of ours that was registered with us: a stronger claim than any report's.
    registered: bool = False
    #: Of a message of ours, where identity and pointers do not tell it.
    sent: Sent | None = None
    #: What the group is called, as of the fact's time; None: not told here.
    name: str | None = None
    #: How people join and leave the group by writing; None: not told here.
    keywords: Keywords | None = None
    #: The first words, lower case, of a message that may be somebody joining or leaving a group that way.
    said: tuple[str, ...] = ()


def set_identity(addresses: frozenset[Address]) -> Identity:
    """The identity of a complete set of addresses."""
    return Identity("set", tuple(sorted(addresses)))


def pair_identity(line: str, contact: str) -> Identity:
    """The identity of a direct conversation by two addresses.

    Sorted, so that a payload with the two swapped (a vendor's own example does it) is no second conversation;
    of another kind than a set, so that a group seen with two members only is never somebody's 1:1.
    """
    return Identity("pair", (min(line, contact), max(line, contact)))


def user_identity(line: str, user_id: str) -> Identity:
    """The identity of a direct conversation with a user known by a business-scoped id."""
    return Identity("user", (line, user_id))


def group_identity(scope: str, group_id: str) -> Identity:
    """The identity of a group that has an id of its own; `scope` is what the id is unique under, or empty."""
    return Identity("group", (scope, group_id))


# --- bodies: what happened --------------------------------------------------------------------------------


class Media(Value, frozen=True, omit_defaults=True):
    """One attachment, as the provider describes it; what it does not tell is absent."""

    url: str | None
    content_type: str | None
    id: str | None = None
    size: int | None = None
    sha256: str | None = None
    filename: str | None = None
    #: The provider's word when it failed to fetch or store the attachment.
    status: str | None = None


class Message(Value, frozen=True, omit_defaults=True):
    """One message. The first six fields are always there; the rest only where the provider tells it."""

    #: The provider's id of the message; None where it sends none.
    id: str | None
    direction: Direction
    sender: Address | None
    text: str | None
    media: tuple[Media, ...]
    #: `sms`, `mms`, `rcs`, `imessage`, `whatsapp`, or another word of the provider in lower case.
    channel: str
    subject: str | None = None
    #: The provider's id of the message that this one answers.
    reply_to: str | None = None
    #: What kind of message, in the provider's word, where it is more than text and media (`location`, `order`).
    type: str | None = None
    #: The provider's own object for that kind, unchanged.
    content: Any = None
    #: The recipient asked not to be written to (STOP), as far as the provider tells.
    opt_out: str | None = None


class StatusError(Value, frozen=True):
    """Why a message failed, in the provider's words; codes are opaque text."""

    code: str | None
    detail: str | None


class Status(Value, frozen=True):
    """One report on the fate of one message for one recipient, or for all (`recipient` None)."""

    value: State
    final: bool
    recipient: Address | None
    #: The provider's own word.
    raw: str | None
    error: StatusError | None = None
    #: The recipient was already at this state or above.
    stale: bool = False


class Reaction(Value, frozen=True):
    """A reaction to a message. `emoji` None: the reaction was taken back."""

    #: The provider's id of the message reacted to; None where it names none (iMessage tapbacks as text).
    message_id: str | None
    emoji: str | None
    action: Literal["added", "removed"]
    #: The start of the text reacted to, where that is all the provider gives.
    quoted: str | None = None


class Change(Value, frozen=True):
    """Which earlier message was edited or revoked."""

    message_id: str | None


class FailedMember(Value, frozen=True):
    """A member that could not be added or removed, and why."""

    address: Address
    error: StatusError | None = None


class Members(Value, frozen=True, omit_defaults=True):
    """A change of who is in a group."""

    added: tuple[Address, ...]
    removed: tuple[Address, ...]
    #: People who asked to join, or withdrew that.
    requested: tuple[Address, ...] = ()
    withdrawn: tuple[Address, ...] = ()
    failed: tuple[FailedMember, ...] = ()
    error: StatusError | None = None
    #: The provider's words for how and by whom.
    reason: str | None = None
    initiated_by: str | None = None
    #: Concluded by us from something else than a member event.
    inferred: bool = False
    #: It came late, or was known already: nobody was added or removed by it.
    stale: bool = False
    #: Who is in it once that is done, without your own lines; null while nobody is known.
    after: tuple[Address, ...] | msgspec.UnsetType | None = msgspec.UNSET


class Settings(Value, frozen=True, omit_defaults=True):
    """A change of a group's settings or life: what is now true, and what failed to become so."""

    #: `created`, `deleted`, `suspended`, `resumed`, `changed`, or the same with `_failed`; `create_requested`: a
    #: registered request for a group, whose id is still to come.
    change: str
    subject: str | None = None
    description: str | None = None
    picture: Any = None
    invite_link: str | None = None
    join_approval: str | None = None
    #: Settings that could not be changed, each with why.
    failed: dict[str, StatusError | None] = msgspec.field(default_factory=dict)
    error: StatusError | None = None


class TypingState(Value, frozen=True):
    """Somebody starts or stops typing."""

    sender: Address | None
    is_typing: bool


class Notice(Value, frozen=True):
    """Something about the account as a whole. `detail` is the provider's object, unchanged."""

    #: The provider's word for what it is about: `10dlc.brand.update`, `call_log`, `account_update`.
    kind: str
    detail: Any


class Body(Value, frozen=True, tag_field="type"):
    """Base of the union; its tag is the CloudEvents type."""


class MessageReceived(Body, frozen=True, tag="message.received"):
    """A person wrote to one of our lines."""

    message: Message


class MessageOutbound(Body, frozen=True, tag="message.outbound"):
    """A message of ours: a registered send, or the provider's echo of one sent elsewhere."""

    message: Message


class MessageStatus(Body, frozen=True, tag="message.status"):
    """A report on a message of ours."""

    message: Message
    status: Status


class MessageReaction(Body, frozen=True, tag="message.reaction"):
    """A reaction to a message."""

    message: Message
    reaction: Reaction


class MessageEdited(Body, frozen=True, tag="message.edited"):
    """An earlier message now reads as `message`."""

    message: Message
    edited: Change


class MessageRevoked(Body, frozen=True, tag="message.revoked"):
    """An earlier message was taken back."""

    message: Message
    revoked: Change


class ConversationMembers(Body, frozen=True, tag="conversation.members"):
    """Somebody joined, left, or asked to."""

    members: Members


class ConversationSettings(Body, frozen=True, tag="conversation.settings"):
    """A group was created, deleted, suspended, renamed and the like."""

    settings: Settings


class ConversationMerged(Body, frozen=True, tag="conversation.merged"):
    """`merged`: every key that now resolves to the subject, earlier ones included."""

    merged: tuple[str, ...]


class Typing(Body, frozen=True, tag="typing"):
    """Published on pub/sub only, without a sequence."""

    typing: TypingState


class AccountNotice(Body, frozen=True, tag="account.notice"):
    """Something that belongs to no conversation."""

    notice: Notice


class Unrecognised(Body, frozen=True, tag="unrecognised"):
    """Authentic, of a type not known to us. `detail` is the element as the provider sent it."""

    detail: Any


EventBody = (
    MessageReceived
    | MessageOutbound
    | MessageStatus
    | MessageReaction
    | MessageEdited
    | MessageRevoked
    | ConversationMembers
    | ConversationSettings
    | ConversationMerged
    | Typing
    | AccountNotice
    | Unrecognised
)


#: The CloudEvents type of each body.
_TYPES: dict[type[EventBody], str] = {body: str(body.__struct_config__.tag) for body in get_args(EventBody)}
#: Every CloudEvents type there is.
EVENT_TYPES = frozenset(_TYPES.values())


class Event(Value, frozen=True):
    """One provider fact, normalised. `evidence` None: it concerns the account as a whole."""

    id: EventId
    body: EventBody
    #: The provider's time of the fact; None: it told none, the time of receipt stands in.
    occurred_at: datetime | None
    evidence: Evidence | None
    #: The provider's own word for the type of callback.
    provider_type: str
    #: Every other id, under the provider's own name.
    provider_ids: dict[str, str]

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return _TYPES[type(self.body)]


class Unreadable(Value, frozen=True):
    """One element that cannot be read: a dead letter. Its neighbours in the same callback are unharmed."""

    reason: str
    path: str
    detail: str


class Link(Value, frozen=True):
    """A person says that two conversations are one."""

    one: ConversationKey
    other: ConversationKey


class Tie(Value, frozen=True):
    """A person says that two addresses within the capture's account are one user's."""

    one: Address
    other: Address


class Linked(Value, frozen=True):
    """A person's word on who or what is one, or that taken back. It has no event of its own, only consequences."""

    id: EventId
    link: Link | Tie
    undone: bool = False


Parsed = Event | Linked | Unreadable
