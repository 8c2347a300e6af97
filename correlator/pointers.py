"""What is known of message ids that name a conversation without deciding it: rules 2 and 3 of `identity`. Pure.

Pointers that any fact named together are one class. A class remembers who claims it and which provisional keys were
ever wanted under it, so that each of those can be sent on when a claim turns up. The class's record stands under its
smallest pointer, the root; the records of its other pointers lead there.
"""

from collections.abc import Callable, Iterable
from typing import get_args

import msgspec

from correlator.identity import BY_HINT, BY_REPORT, Decision, provisional_key
from schemas.events import Kind
from schemas.ids import ConversationKey, Scope


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """That a class belongs to an identity (`key`), or only that it is of one kind (`key` None, rank `BY_HINT`)."""

    rank: int
    kind: Kind
    key: ConversationKey | None


class PointerClass(msgspec.Struct, frozen=True, omit_defaults=True):
    """One class as Redis keeps it, or the way to it."""

    #: The root, where this is the record of another member.
    leads_to: ConversationKey | None = None
    #: The keys of its pointers, sorted; the first is the root.
    members: tuple[ConversationKey, ...] = ()
    claims: tuple[Claim, ...] = ()
    #: The provisional keys that facts ever wanted, each with its kind.
    wanted: tuple[tuple[ConversationKey, Kind], ...] = ()

    @property
    def root(self) -> ConversationKey:
        """The pointer that the class stands under."""
        return self.members[0]

    def own(self, scope: Scope) -> dict[ConversationKey, Kind]:
        """The keys of its own provisional conversations, one for each kind."""
        return {provisional_key(scope, self.root, kind): kind for kind in get_args(Kind)}

    def serve(
        self, scope: Scope, kind: Kind, survivor: Callable[[ConversationKey], ConversationKey]
    ) -> ConversationKey:
        """Where a fact of that kind without an identity belongs: the strongest claim that fits, then the smaller key.

        A claim of the other kind never fits. Without any, it stays provisional under the root.
        """
        fitting = [claim for claim in self.claims if kind in ("unknown", claim.kind)]
        if not fitting:
            return provisional_key(scope, self.root, kind)
        strongest = max(claim.rank for claim in fitting)
        return min(
            provisional_key(scope, self.root, claim.kind) if claim.key is None else survivor(claim.key)
            for claim in fitting
            if claim.rank == strongest
        )


def joined(classes: Iterable[PointerClass], decision: Decision) -> PointerClass:
    """One class of several, with what one more fact that names them all adds to it."""
    members: set[ConversationKey] = set(decision.pointers)
    claims: dict[Claim, None] = {}
    wanted: dict[tuple[ConversationKey, Kind], None] = {}
    for known in classes:
        members.update(known.members)
        claims.update(dict.fromkeys(known.claims))
        wanted.update(dict.fromkeys(known.wanted))
    if not decision.provisional:
        claims[Claim(BY_REPORT, decision.kind, decision.key)] = None
    else:
        wanted[decision.key, decision.kind] = None
        if decision.kind != "unknown":
            claims[Claim(BY_HINT, decision.kind, None)] = None
    return PointerClass(
        members=tuple(sorted(members)),
        claims=tuple(sorted(claims, key=lambda claim: (claim.rank, claim.kind, claim.key or ""))),
        wanted=tuple(sorted(wanted)),
    )
