"""The record of one conversation: what is known of it, and what subscribers are shown. Pure.

Each key has a record of its own, made and changed only by `absorb`, from the evidence of the facts that belong to just
that key; it never shrinks. What has merged is looked at together, by `together`, so that a merge can be undone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from correlator.identity import GROUP_ID, POINTER, kind_of, strength_of
from correlator.members import Roster
from correlator.records import Record, remembered
from correlator.users import shown
from schemas.address import Address, is_phone
from schemas.events import Evidence, Identity, Kind
from schemas.ids import Audience, ConversationKey, Scope
from schemas.value import Value

_T = TypeVar("_T", bound=str | tuple[str, str])

#: The strength of a key that nothing is known of but a person's link.
UNHEARD_OF: Final = -1


class Title(Value, frozen=True, array_like=True, order=True):
    """What a group is called since `at` (Unix milliseconds); at the same time the greater name wins."""

    at: int
    name: str


_NOBODY: Final = Roster()


class Conversation(Record, frozen=True, omit_defaults=True, dict=True, gc=True):
    """What Redis keeps of one conversation; the key is not in it, it is under it."""

    kind: Kind
    #: What the key was derived from, see `correlator.identity`: a constant of the key.
    strength: int
    #: `provider/name` of its account.
    account: str = ""
    provisional: bool = False
    #: The addresses that the key itself was derived from, own ones included; None for group ids and pointers.
    parts: tuple[Address, ...] | None = None
    #: The provider's id of the group, where that is what the key was derived from.
    group: str | None = None
    title: Title | None = None
    #: Those of its addresses that are known to be ours.
    lines: tuple[Address, ...] = ()
    #: Who is in it, where the key does not say so.
    roster: Roster = _NOBODY
    #: Addresses that were named as one user in it.
    ties: tuple[tuple[Address, Address], ...] = ()
    #: Keys that are the same user's (rule 4), and keys that a person says are the same conversation.
    users: tuple[ConversationKey, ...] = ()
    links: tuple[ConversationKey, ...] = ()
    #: Of a provisional one: the pointer or event that its key was derived from.
    anchor: ConversationKey | None = None
    #: The key this one resolves to, once merged.
    merged_into: ConversationKey | None = None
    #: No event was published under this key: it was merged when it was first heard of.
    unseen: bool = False
    #: Of a plain group, the audience of its people (`with_audience`); what makes it another, or not plain, drops this.
    audience: Audience | None = None

    @property
    def expires(self) -> bool:
        """Only what was never identified goes, and what nothing was ever published under."""
        return self.provisional and not self.links

    @property
    def is_identity(self) -> bool:
        """Whether the key was derived from what decides a conversation."""
        return self.strength > POINTER

    @property
    def is_provisional_key(self) -> bool:
        """Whether the key was derived from a pointer or an event, merged or not."""
        return self.strength == POINTER

    @property
    def same(self) -> Mapping[Address, Address]:
        """The address to show for those that are one user."""
        return shown(self.ties)

    @property
    def is_plain(self) -> bool:
        """Whether the parts of its key are all there is to be known of who is in it: as in most groups of a million."""
        return self.parts is not None and not self.ties and self.roster == _NOBODY

    @property
    def members(self) -> frozenset[Address]:
        """Everybody known to be in it, own lines included, each user once."""
        same, parts = self.same, self.parts or ()
        return self.roster.members(same).union([same.get(part, part) for part in parts] if same else parts)

    @remembered
    def people(self) -> tuple[Address, ...] | None:
        """The participants: everybody but our own lines, sorted; None while nobody is known."""
        lines = self.lines
        if self.parts and self.is_plain:
            return tuple([part for part in self.parts if part not in lines])
        members = self.members
        return tuple(sorted(members.difference(lines))) if members else None

    @remembered
    def named(self) -> frozenset[Address]:
        """Every address of somebody else that was ever in it, in any form."""
        roster, same = self.roster, self.same
        named = {*(self.parts or ()), *(roster.listed or ()), *roster.deltas, *same, *same.values()}
        return frozenset(named.difference(self.lines))

    @property
    def fully_known(self) -> bool:
        """Whether `people` is everybody."""
        return self.parts is not None or self.roster.complete

    @property
    def shown_lines(self) -> tuple[Address, ...]:
        """Our own addresses, as numbers where we have them: a provider's internal line id is no help to a reader."""
        lines = self.lines
        if len(lines) <= 1:
            return lines
        return tuple([line for line in lines if is_phone(line)]) or lines


def unheard_of() -> Conversation:
    """The record of a key that a person has linked, and that no fact has spoken of."""
    return Conversation("unknown", UNHEARD_OF, unseen=True)


def identified(identity: Identity, account: str, lines: Iterable[Address] = ()) -> Conversation:
    """The record of an identity's key that is heard of for the first time. `lines`: those that are known to be ours."""
    strength = strength_of(identity)
    grouped = strength == GROUP_ID
    parts = None if grouped else tuple(sorted({Address(part) for part in identity.parts}))
    group = identity.parts[-1] if grouped else None
    return Conversation(
        kind_of(identity), strength, account, parts=parts, group=group, lines=tuple(sorted(set(lines))), unseen=True
    )


def provisional(kind: Kind, anchor: ConversationKey | None, key: ConversationKey, account: str) -> Conversation:
    """The record of a provisional key; its anchor is left out where it is the key itself."""
    anchor = None if anchor == key else anchor
    return Conversation(kind, POINTER, account, provisional=True, anchor=anchor, unseen=True)


def absorb(before: Conversation, evidence: Evidence, account_lines: frozenset[Address], at: int) -> Conversation:
    """The record after one fact; `before` itself when the fact tells nothing new.

    Args:
        before: the record so far.
        evidence: what the fact tells.
        account_lines: the account's configured lines, from the capture.
        at: the fact's time, Unix milliseconds.
    """
    roster, title = before.roster, before.title
    if before.parts is None:
        roster = roster.with_list(evidence.listed or (), at)
        roster = roster.with_deltas(evidence.joined, at, out=False).with_deltas(evidence.left, at, out=True)
        if evidence.name and Title(at, evidence.name) > (title or Title(-1, "")):
            title = Title(at, evidence.name)
    # Who a direct conversation is with is an account's matter: see `correlator.acquaintance`.
    ties = before.ties if before.kind == "direct" else _with(before.ties, evidence.same_user)
    # A line that any fact ever named is one of its lines, gone or not, in whatever order that was told.
    lines = _with(before.lines, evidence.lines)
    if account_lines:
        named = before.parts or (*(evidence.listed or ()), *evidence.joined, *evidence.left)
        lines = _with(lines, account_lines.intersection(named))
    if roster is before.roster and title is before.title and ties is before.ties and lines is before.lines:
        return before
    return msgspec.structs.replace(before, roster=roster, title=title, ties=ties, lines=lines)


def with_audience(record: Conversation, scope: Scope) -> Conversation:
    """A group's record with its audience, where that follows from its parts and lines; itself if it has that already.

    To derive it takes longer than to read it, and of a conversation that is seldom talked in nothing is in memory.
    """
    known = record.kind == "group" and record.is_plain and record.people
    audience = scope.audience(record.people or ()) if known else None
    return record if audience == record.audience else msgspec.structs.replace(record, audience=audience)


def _with(known: tuple[_T, ...], told: Iterable[_T]) -> tuple[_T, ...]:
    new = [one for one in told if one not in known]
    return tuple(sorted({*known, *new})) if new else known


def together(survivor: Conversation, others: Sequence[Conversation]) -> Conversation:
    """What several records that are one conversation say of it; in any order the same."""
    if not others:
        return survivor
    every = (survivor, *others)
    parts = {part for one in every for part in one.parts or ()}
    roster = survivor.roster
    for other in others:
        roster = roster.joined(other.roster)
    return msgspec.structs.replace(
        survivor,
        parts=tuple(sorted(parts)) if survivor.parts is not None else None,
        roster=roster if survivor.parts is not None else _with_parts(roster, parts),
        title=max((one.title for one in every if one.title), default=None),
        lines=tuple(sorted({line for one in every for line in one.lines})),
        ties=tuple(sorted({tie for one in every for tie in one.ties})),
        audience=None,
    )


def _with_parts(roster: Roster, parts: set[Address]) -> Roster:
    """A group known by its id, linked with one known by its members: these were seen in it, at no known time."""
    return roster.with_deltas(sorted(parts), 0, out=False)


def redirect(before: Conversation, target: ConversationKey, *, announced: bool) -> Conversation:
    """The record of a merged provisional key. One that nothing was ever published under need not be kept for ever."""
    return Conversation(
        before.kind,
        POINTER,
        before.account,
        provisional=not announced,
        links=before.links,
        anchor=before.anchor,
        merged_into=target,
        unseen=not announced,
    )


def show(conversation: Conversation, key: ConversationKey, scope: Scope) -> dict[str, Any]:
    """`data.conversation` of the envelope. Not to be changed: it is kept for the next event, which is seldom news."""
    last: tuple[ConversationKey, Scope, dict[str, Any]] | None = conversation.__dict__.get("shown")
    if last is None or last[0] != key or last[1] is not scope:
        last = conversation.__dict__["shown"] = (key, scope, _show(conversation, key, scope))
    return last[2]


def _show(conversation: Conversation, key: ConversationKey, scope: Scope) -> dict[str, Any]:
    people = conversation.people
    data: dict[str, Any] = {
        "key": key,
        "kind": conversation.kind,
        "participants": people,
        "lines": conversation.shown_lines,
    }
    if people and conversation.fully_known:
        data["audience"] = conversation.audience or scope.audience(people)
    data["provisional"] = conversation.provisional
    return data
