"""What is known of message ids that name a conversation without deciding it: rules 2 and 3 of `identity`. Pure.

Pointers that any fact named together are one class. A class remembers who claims it and which provisional keys were
ever wanted under it, so that each of those can be sent on when a claim turns up. The class's record stands under its
smallest pointer, the root; the records of its other pointers lead there. A person may link classes: each keeps its own
record then, and what serves them is their union, so that a link can be undone.
"""

from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from correlator.identity import BY_HINT, BY_REPORT, BY_SEND, BY_SETTING, Decision, provisional_key
from correlator.records import Record
from schemas.events import Kind
from schemas.ids import ConversationKey, Scope
from schemas.value import Value


class Claim(Value, frozen=True, array_like=True):
    """That a class belongs to an identity (`key`), or only that it is of one kind (`key` None, rank `BY_HINT`)."""

    rank: int
    kind: Kind
    key: ConversationKey | None
    #: Only since a person has tied users (rule 5): apart from what others claim, so that it can be taken back alone.
    spared: bool = False


class PointerClass(Record, frozen=True, omit_defaults=True):
    """One class as Redis keeps it, or the way to it."""

    #: The root, where this is the record of another member.
    leads_to: ConversationKey | None = None
    #: The keys of its pointers, sorted; the first is the root.
    members: tuple[ConversationKey, ...] = ()
    claims: tuple[Claim, ...] = ()
    #: The provisional keys that facts ever wanted, each with its kind.
    wanted: tuple[tuple[ConversationKey, Kind], ...] = ()
    #: Those of its own provisional keys that facts were served under without wanting them.
    opened: tuple[tuple[ConversationKey, Kind], ...] = ()
    #: Pointers of other classes that a person says are the same conversation's.
    links: tuple[ConversationKey, ...] = ()

    @property
    def root(self) -> ConversationKey:
        """The pointer that the class stands under."""
        return self.members[0]

    @property
    def expires(self) -> bool:
        """A person's link stays for ever."""
        return not self.links

    def serve(self, scope: Scope, kind: Kind) -> ConversationKey:
        """Where a fact of that kind without an identity belongs: the strongest claim that fits, then the smaller key.

        A claim of the other kind never fits. Without any, it stays provisional under the root. The key is the
        claimant's own: it may have merged.
        """
        fitting = self._fitting(kind)
        if not fitting:
            return provisional_key(scope, self.root, kind)
        if len(fitting) == 1:
            return self._claimed(scope, fitting[0])
        strongest = max([claim.rank for claim in fitting])
        return min([self._claimed(scope, claim) for claim in fitting if claim.rank == strongest])

    def _claimed(self, scope: Scope, claim: Claim) -> ConversationKey:
        return provisional_key(scope, self.root, claim.kind) if claim.key is None else claim.key

    def strongest(self, kind: Kind) -> int | None:
        """The rank of the claim that serves facts of that kind; None: nothing claims it."""
        return max((claim.rank for claim in self._fitting(kind)), default=None)

    def _fitting(self, kind: Kind) -> list[Claim]:
        return [claim for claim in self.claims if kind in ("unknown", claim.kind)]

    def own(self, scope: Scope) -> dict[ConversationKey, Kind]:
        """The keys of its own provisional conversations, one for each kind."""
        return {provisional_key(scope, self.root, kind): kind for kind in get_args(Kind)}

    def has(self, told: "PointerClass") -> bool:
        """Whether another class would add nothing to this one."""
        return (
            _holds(self.members, told.members)
            and _holds(self.claims, told.claims)
            and _holds(self.wanted, told.wanted)
            and _holds(self.links, told.links)
        )

    def with_claim(self, claim: Claim) -> "PointerClass":
        """The class with one more claim on it."""
        return self if claim in self.claims else msgspec.structs.replace(self, claims=_sorted((*self.claims, claim)))

    def without_claim(self, claim: Claim, wanted: tuple[ConversationKey, Kind]) -> "PointerClass":
        """The class with one claim less; the key that the fact wants instead, with its kind, is to be sent on."""
        claims = tuple(other for other in self.claims if other != claim)
        return msgspec.structs.replace(self, claims=claims, wanted=tuple(sorted({*self.wanted, wanted})))


def claims_of(decision: Decision, kind: Kind | None, *, registered: bool) -> list[Claim]:
    """What one fact says by itself of the class of its pointers. `kind`: of the fallback, if it has one."""
    if not decision.provisional:
        return [Claim(BY_SEND if registered else BY_REPORT, decision.kind, decision.key, decision.spared)]
    claims = [] if decision.kind == "unknown" else [Claim(BY_HINT, decision.kind, None)]
    if decision.fallback is not None and kind is not None:
        claims.append(Claim(BY_SETTING, kind, decision.fallback, decision.spared))
    return claims


def joined(classes: Iterable[PointerClass]) -> PointerClass:
    """One class of several; their links stay those of each."""
    members: set[ConversationKey] = set()
    claims: set[Claim] = set()
    wanted: set[tuple[ConversationKey, Kind]] = set()
    opened: set[tuple[ConversationKey, Kind]] = set()
    links: set[ConversationKey] = set()
    for known in classes:
        members.update(known.members)
        claims.update(known.claims)
        wanted.update(known.wanted)
        opened.update(known.opened)
        links.update(known.links)
    return PointerClass(
        members=tuple(sorted(members)),
        claims=_sorted(claims),
        wanted=tuple(sorted(wanted)),
        opened=tuple(sorted(opened)),
        links=tuple(sorted(links)),
    )


def _holds(everything: tuple[Any, ...], some: tuple[Any, ...]) -> bool:
    return not some or everything == some or set(everything).issuperset(some)


def _sorted(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    return tuple(sorted(claims, key=lambda claim: (claim.rank, claim.kind, claim.key or "", claim.spared)))
