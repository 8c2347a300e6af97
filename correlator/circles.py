"""What is remembered of users whose addresses were ever tied: rules 4 and 5 of `identity`. Pure.

A circle is everybody that any tie connects, doubted ones included: what `Users` says of an address depends on nothing
outside it. So the rule book itself, applied to the few entries of a circle, decides; and a tie that a person takes back
is simply left out the next time. An address that nothing was ever tied to has no circle.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import msgspec

from correlator.records import Record
from correlator.users import Users
from schemas.address import Address, is_phone
from schemas.events import IdentityKind, Keywords
from schemas.ids import ConversationKey
from schemas.value import Value

#: A place in the log.
Order = int

_MONTH = 30 * 86400 * 1000 << 20


class Tied(Value, frozen=True, array_like=True, order=True):
    """Two addresses were named as one user; `personal`: by a person, who may take it back."""

    order: Order
    one: Address
    other: Address
    personal: bool = False


class Sight(Value, frozen=True, array_like=True, order=True):
    """A direct conversation of a line with one of a circle's addresses, and when it was first heard of."""

    order: Order
    line: Address
    contact: Address
    key: ConversationKey
    #: The key is of a set of addresses, which is never a pair's conversation.
    of_set: bool = False


class Doubtful(Value, frozen=True, array_like=True, order=True):
    """A fact whose phone is in doubt, or was but for what a person said: what it would decide, and its class."""

    sight: Sight
    kind: IdentityKind
    parts: tuple[str, ...]
    #: A pointer of the class that it is served by meanwhile.
    anchor: ConversationKey
    #: The rank of what it would claim.
    rank: int


class Circle(Record, frozen=True, omit_defaults=True):
    """One circle as Redis keeps it, or the way to it. It stands under its smallest address, the root."""

    #: The key of the root's record, where this is the record of another address.
    leads_to: str | None = None
    members: tuple[Address, ...] = ()
    ties: tuple[Tied, ...] = ()
    sights: tuple[Sight, ...] = ()
    #: Those that decide nothing, as their phone is in doubt.
    doubtful: tuple[Doubtful, ...] = ()
    #: Those that do decide, but only since a person has tied users: in doubt again should that be taken back.
    spared: tuple[Doubtful, ...] = ()

    @property
    def expires(self) -> bool:
        """Who is who stays for ever."""
        return False

    @property
    def root(self) -> Address:
        """The address that it stands under."""
        return self.members[0]


class Heeded(Value, frozen=True, array_like=True):
    """The words by which people join a group, as of when they were told (Unix milliseconds)."""

    at: int
    keywords: Keywords


class Account(Record, frozen=True, omit_defaults=True):
    """What is remembered of an account: lines that have direct conversations, and how people join its groups."""

    lines: tuple[Address, ...] = ()
    keywords: dict[str, Heeded] = msgspec.field(default_factory=dict)
    #: Its sends are registered with us, with the line that each is from.
    registers: bool = False

    @property
    def expires(self) -> bool:
        """Lines stay."""
        return False


class Settled(NamedTuple):
    """What follows from a circle: which keys are one conversation with which, and whom doubt lets go or has again."""

    circle: Circle
    edges: Mapping[ConversationKey, frozenset[ConversationKey]]
    #: What makes each key's contact and others one user.
    ties: Mapping[ConversationKey, tuple[tuple[Address, Address], ...]]
    #: Facts that decide their conversation from here on, those that a person spares among them.
    freed: tuple[Doubtful, ...]
    #: Facts that no longer do.
    held: tuple[Doubtful, ...]


@lru_cache(maxsize=4096)
def users_of(ties: tuple[Tied, ...]) -> Users:
    """Who is who by these ties."""
    return Users([(tied.order, tied.one, tied.other) for tied in sorted(ties)])


def joined(circles: Iterable[Circle]) -> Circle:
    """One circle of several."""
    every = list(circles)
    return Circle(
        members=tuple(sorted({member for circle in every for member in circle.members})),
        ties=tuple(sorted(tied for circle in every for tied in circle.ties)),
        sights=tuple(sorted(sight for circle in every for sight in circle.sights)),
        doubtful=tuple(sorted(fact for circle in every for fact in circle.doubtful)),
        spared=tuple(sorted(fact for circle in every for fact in circle.spared)),
    )


def is_spared(circle: Circle, contact: Address, order: Order) -> bool:
    """Whether a contact's phone is in doubt at that place in the log, but for what a person said."""
    if not any(map(_ends_doubts, circle.ties)):
        return False
    return users_of(circle.ties).doubted(contact) > order >= _at_worst(circle).doubted(contact)


def _ends_doubts(tied: Tied) -> bool:
    """Whether a person says it, and it ends doubts: a tie of two ids. One of a phone and an id can only make one."""
    return tied.personal and not is_phone(tied.one) and not is_phone(tied.other)


def _at_worst(circle: Circle) -> Users:
    """Who is who, should everything be taken back that ends a doubt."""
    return users_of(tuple(tied for tied in circle.ties if not _ends_doubts(tied)))


def with_tie(circle: Circle, tied: Tied) -> Circle:
    """The circle with one more tie; itself when it was told before, for what counts is when it first was."""
    if any((known.one, known.other, known.personal) == (tied.one, tied.other, tied.personal) for known in circle.ties):
        return circle
    return msgspec.structs.replace(circle, ties=tuple(sorted((*circle.ties, tied))))


def without_tie(circle: Circle, one: Address, other: Address) -> Circle:
    """The circle without a person's tie. It stays one circle: that decides nothing."""
    ties = tuple(tied for tied in circle.ties if not (tied.personal and {tied.one, tied.other} == {one, other}))
    return msgspec.structs.replace(circle, ties=ties)


def with_sight(circle: Circle, sight: Sight) -> Circle:
    """The circle with one more conversation; itself when that was known."""
    if any((known.line, known.contact, known.key) == (sight.line, sight.contact, sight.key) for known in circle.sights):
        return circle
    return msgspec.structs.replace(circle, sights=tuple(sorted((*circle.sights, sight))))


def with_doubtful(circle: Circle, fact: Doubtful) -> Circle:
    """The circle with one more fact that waits for a doubt to end; those of over a month ago are let go."""
    return msgspec.structs.replace(circle, doubtful=_with(circle.doubtful, fact))


def with_spared(circle: Circle, fact: Doubtful) -> Circle:
    """The circle with one more fact that a person spares; those of over a month ago are not held any more."""
    return msgspec.structs.replace(circle, spared=_with(circle.spared, fact))


def _with(facts: tuple[Doubtful, ...], fact: Doubtful) -> tuple[Doubtful, ...]:
    kept = {known for known in facts if known.sight.order > fact.sight.order - _MONTH}
    return tuple(sorted({*kept, fact}))


def settle(circle: Circle) -> Settled:
    """Apply the rules to a circle."""
    users, at_worst = users_of(circle.ties), _at_worst(circle)
    every = tuple(sorted({*circle.doubtful, *circle.spared}))
    doubtful = tuple(fact for fact in every if fact.sight.order >= users.doubted(fact.sight.contact))
    deciding = tuple(fact for fact in every if fact not in doubtful)
    spared = tuple(fact for fact in deciding if fact.sight.order >= at_worst.doubted(fact.sight.contact))
    held = tuple(fact for fact in doubtful if fact not in circle.doubtful)
    # What one fact no longer claims, another may: where any is held, all that decide say so again.
    freed = tuple(fact for fact in deciding if held or fact not in spared or fact not in circle.spared)
    circle = msgspec.structs.replace(circle, doubtful=doubtful, spared=spared)
    for fact in freed:
        circle = with_sight(circle, fact.sight)
    return Settled(circle, _edges(circle, users), _ties(circle, users), freed, held)


def _ties(circle: Circle, users: Users) -> dict[ConversationKey, tuple[tuple[Address, Address], ...]]:
    by_user: dict[str, set[tuple[Address, Address]]] = defaultdict(set)
    for tied in circle.ties:
        if users.user(tied.one) == users.user(tied.other):
            by_user[users.user(tied.one)].add((tied.one, tied.other))
    return {sight.key: tuple(sorted(by_user[users.user(sight.contact)])) for sight in circle.sights}


def _edges(circle: Circle, users: Users) -> dict[ConversationKey, frozenset[ConversationKey]]:
    """Per line, all conversations with one user are one, but for what came after a phone fell in doubt."""
    threads: dict[tuple[str, str, bool], dict[ConversationKey, tuple[float, float]]] = defaultdict(dict)
    for sight in circle.sights:
        thread = threads[sight.line, users.user(sight.contact), sight.of_set]
        thread.setdefault(sight.key, (sight.order, users.doubted(sight.contact)))
    edges: dict[ConversationKey, set[ConversationKey]] = {sight.key: set() for sight in circle.sights}
    for thread in threads.values():
        for (one, (at, until)), (other, (other_at, other_until)) in combinations(thread.items(), 2):
            if max(at, other_at) < min(until, other_until):
                edges[one].add(other)
                edges[other].add(one)
    return {key: frozenset(others) for key, others in edges.items()}
