"""The record of one conversation: what is known of it, and what subscribers are shown. Pure.

A record is made and changed only by `absorb`, from a fact's evidence; it never shrinks.
"""

from typing import Any

import msgspec

from correlator.identity import POINTER, Decision
from correlator.members import Roster
from schemas.address import Address, is_phone
from schemas.events import Evidence, Kind
from schemas.ids import ConversationKey, Scope


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What Redis keeps of one conversation; the key is not in it, it is under it."""

    kind: Kind
    #: What the key was derived from, see `correlator.identity`: a constant of the key.
    strength: int
    provisional: bool = False
    #: The addresses that the key itself was derived from, own ones included; None for group ids and pointers.
    parts: tuple[Address, ...] | None = None
    #: Those of its addresses that are known to be ours.
    lines: tuple[Address, ...] = ()
    #: Who is in it, where the key does not say so.
    roster: Roster = Roster()
    #: The phone to show for a user id.
    phones: dict[Address, Address] = {}
    #: The key this one resolves to, once merged.
    merged_into: ConversationKey | None = None
    #: The keys under which something was published that resolve to this one.
    merged: tuple[ConversationKey, ...] = ()

    @property
    def members(self) -> frozenset[Address]:
        """Everybody known to be in it, own lines included, as the provider names them."""
        return frozenset(self.parts) if self.parts is not None else self.roster.members(self.phones)

    @property
    def people(self) -> tuple[Address, ...] | None:
        """The participants: everybody but our own lines, sorted; None while nobody is known."""
        members = self.members
        if not members:
            return None
        return tuple(sorted({self.phones.get(address, address) for address in members.difference(self.lines)}))

    @property
    def fully_known(self) -> bool:
        """Whether `people` is everybody."""
        return self.parts is not None or self.roster.complete

    @property
    def shown_lines(self) -> tuple[Address, ...]:
        """Our own addresses, as numbers where we have them: a provider's internal line id is no help to a reader."""
        return tuple(line for line in self.lines if is_phone(line)) or self.lines


_decoder = msgspec.json.Decoder(Conversation)
_encoder = msgspec.json.Encoder()


def encode(conversation: Conversation) -> bytes:
    """The record as Redis keeps it."""
    return _encoder.encode(conversation)


def decode(data: bytes) -> Conversation:
    """What `encode` made."""
    return _decoder.decode(data)


def absorb(
    known: Conversation | None,
    decision: Decision,
    evidence: Evidence,
    account_lines: frozenset[Address],
    at: int,
) -> Conversation:
    """The record after one fact; `known` itself when the fact tells nothing new.

    Args:
        known: the record so far, None for the first fact.
        decision: what the fact's evidence decides.
        evidence: what the fact tells.
        account_lines: the account's configured lines, from the capture.
        at: the fact's time, Unix milliseconds.
    """
    before = known or _open(decision, evidence)
    roster = before.roster
    if before.parts is None:
        roster = roster.with_list(evidence.listed or (), at)
        roster = roster.with_deltas(evidence.joined, at, out=False).with_deltas(evidence.left, at, out=True)
    phones = _with_phones(before.phones, evidence)
    # A line that any fact ever named is one of its lines, gone or not, in whatever order that was told.
    named = before.parts or (*(evidence.listed or ()), *evidence.joined, *evidence.left)
    lines = frozenset(before.lines).union(evidence.lines, account_lines.intersection(named))
    if roster is before.roster and phones is before.phones and len(lines) == len(before.lines):
        return before
    return msgspec.structs.replace(before, roster=roster, phones=phones, lines=tuple(sorted(lines)))


def join(one: Conversation, other: Conversation) -> Conversation:
    """A provisional conversation with what another knew that merges into it; in either order the same."""
    roster = one.roster.joined(other.roster)
    phones = {user: max(one.phones.get(user, phone), phone) for user, phone in other.phones.items()}
    lines = tuple(sorted({*one.lines, *other.lines}))
    return msgspec.structs.replace(one, roster=roster, phones={**one.phones, **phones}, lines=lines)


def redirect(kind: Kind, target: ConversationKey, *, announced: bool) -> Conversation:
    """The record of a merged key. One that nothing was ever published under need not be kept for ever."""
    return Conversation(kind, POINTER, provisional=not announced, merged_into=target)


def _open(decision: Decision, evidence: Evidence) -> Conversation:
    identity = evidence.identity
    parts = None
    if identity is not None and identity.kind != "group":
        parts = tuple(sorted({Address(part) for part in identity.parts}))
    return Conversation(decision.kind, decision.strength, decision.provisional, parts)


def _with_phones(phones: dict[Address, Address], evidence: Evidence) -> dict[Address, Address]:
    """Remember the phone of a user id; of two phones seen for one, the greater, whatever came first."""
    for one, other in evidence.same_user:
        if is_phone(one) == is_phone(other):
            continue
        phone, user = (one, other) if is_phone(one) else (other, one)
        if phones.get(user, Address("")) < phone:
            phones = {**phones, user: phone}
    return phones


def show(conversation: Conversation, key: ConversationKey, scope: Scope) -> dict[str, Any]:
    """`data.conversation` of the envelope."""
    people = conversation.people
    shown: dict[str, Any] = {
        "key": key,
        "kind": conversation.kind,
        "participants": people,
        "lines": conversation.shown_lines,
    }
    if people and conversation.fully_known:
        shown["audience"] = scope.audience(people)
    shown["provisional"] = conversation.provisional
    return shown
