"""Users of an account over their records: ties told by facts and people, and what they make of conversations. Pure.

The rules are those of `correlator.circles`; this is what they do to records.
"""

from collections.abc import Collection, Iterable

import msgspec

from correlator import circles
from correlator.circles import Account, Circle, Doubtful, Order, Sight, Tied
from correlator.classes import PointerClasses
from correlator.clusters import Clusters
from correlator.conversation import Conversation, identified
from correlator.identity import BY_REPORT, BY_SEND, BY_SETTING, Decision, decide, identity_key, kind_of, provisional_key
from correlator.pointers import Claim
from correlator.records import Records
from correlator.users import reading
from schemas.address import Address
from schemas.events import Evidence, Identity, pair_identity, set_identity, user_identity
from schemas.ids import ConversationKey, EventId, Scope


class Acquaintance:
    """Who is who in the accounts of a batch."""

    def __init__(self, records: Records, clusters: Clusters, classes: PointerClasses) -> None:
        self._records = records
        self._circles = records.shelf(Circle)
        self._accounts = records.shelf(Account)
        self._clusters = clusters
        self._classes = classes

    # --- what facts tell ---

    def decide(self, scope: Scope, event_id: EventId, evidence: Evidence, order: Order) -> Decision:
        """What a fact's evidence decides, unless the phone that it knows its user by is in doubt."""
        ends = reading(evidence.identity or evidence.fallback, evidence.lines)
        circle = None if ends is None else self._circle(scope, ends[1])
        if ends is None or circle is None:
            return decide(scope, event_id, evidence)
        in_doubt = order >= circles.users_of(circle.ties).doubted(ends[1])
        decision = decide(scope, event_id, evidence, in_doubt=in_doubt)
        spared = circles.is_spared(circle, ends[1], order)
        return msgspec.structs.replace(decision, spared=True) if spared else decision

    def meet(self, scope: Scope, identity: Identity, lines: Collection[Address], order: Order) -> None:
        """Note a direct conversation that a fact decided; its record is there."""
        ends = reading(identity, lines)
        if ends is None:
            return
        circle = self._circle(scope, ends[1])
        if circle is not None:
            self._keep(scope, circle, circles.with_sight(circle, _sight(scope, identity, ends, order)))

    def doubt(self, scope: Scope, evidence: Evidence, decision: Decision, order: Order) -> None:
        """Note a fact that would have decided its conversation (or a setting for it), were its phone not in doubt.

        Or one that has, only since a person spared it.
        """
        identity = evidence.identity or evidence.fallback
        ends = reading(identity, evidence.lines)
        circle = None if ends is None else self._circle(scope, ends[1])
        anchor = decision.pointers[0] if decision.pointers else decision.anchor
        if identity is None or ends is None or circle is None or anchor is None:
            return
        rank = BY_SEND if evidence.registered else BY_REPORT if evidence.identity else BY_SETTING
        sight = _sight(scope, identity, ends, order)
        fact = Doubtful(sight, identity.kind, identity.parts, anchor, rank)
        noted = circles.with_spared(circle, fact) if decision.spared else circles.with_doubtful(circle, fact)
        self._records.set(scope.user(circle.root), noted)

    def lines(self, scope: Scope) -> tuple[Address, ...]:
        """Every line of an account that any fact ever named."""
        return self._account(scope).lines

    def note_lines(self, scope: Scope, told: Iterable[Address]) -> None:
        """Note that lines of an account were named."""
        account = self._account(scope)
        new = [line for line in told if line not in account.lines]
        if new:
            lines = tuple(sorted({*new, *account.lines}))
            self._records.set(scope.whole_account(), msgspec.structs.replace(account, lines=lines))

    def tie(self, scope: Scope, order: Order, one: Address, other: Address, *, personal: bool = False) -> None:
        """Note that two addresses are one user's, and merge what that makes one."""
        if one == other:
            return
        both = [self._circle(scope, address) or self._begun(scope, address) for address in (one, other)]
        before = both[0] if both[0].root == both[1].root else circles.joined(both)
        after = circles.with_tie(before, Tied(order, one, other, personal))
        for known in both:
            if known.root != after.root:
                self._records.set(scope.user(known.root), Circle(leads_to=scope.user(after.root)))
        self._keep(scope, before, after)

    def untie(self, scope: Scope, one: Address, other: Address) -> None:
        """Take a person's tie back."""
        circle = self._circle(scope, one)
        if circle is not None:
            self._keep(scope, circle, circles.without_tie(circle, one, other))

    def note_send(self, scope: Scope) -> None:
        """Note that sends of an account are registered with their lines."""
        account = self._account(scope)
        if not account.registers:
            self._records.set(scope.whole_account(), msgspec.structs.replace(account, registers=True))

    def has_sends(self, scope: Scope) -> bool:
        """Whether any send of an account was registered with its line."""
        return self._account(scope).registers

    def _account(self, scope: Scope) -> Account:
        return self._accounts[scope.whole_account()] or Account()

    # --- circles ---

    def _circle(self, scope: Scope, address: Address) -> Circle | None:
        found = self._circles[scope.user(address)]
        while found is not None and found.leads_to is not None:
            found = self._circles[found.leads_to]
        return found

    def _begun(self, scope: Scope, address: Address) -> Circle:
        """A circle of one address, with the conversations that it had before anything was tied to it."""
        ways = [(line, identity) for line in self.lines(scope) for identity in _ways(line, address)]
        possible = {identity_key(scope, identity): (line, identity) for line, identity in ways}
        self._records.want(Conversation, possible)
        sights = [
            _sight(scope, identity, (line, address), 0)
            for key, (line, identity) in possible.items()
            if (known := self._clusters.find(key)) is not None
            and known.is_identity
            and reading(identity, known.lines) == (line, address)
        ]
        return Circle(members=(address,), sights=tuple(sorted(sights)))

    def _keep(self, scope: Scope, before: Circle, after: Circle) -> None:
        """Keep a circle as it is now, and make of conversations what follows from it."""
        if after is before:
            return
        settled = circles.settle(after)
        self._records.set(scope.user(after.root), settled.circle)
        for fact in settled.held:
            self._hold(scope, fact)
        for fact in settled.freed:
            self._free(scope, fact, spared=fact in settled.circle.spared)
        changed = set[ConversationKey]()
        for key, others in settled.edges.items():
            users = frozenset(self._clusters.known(key).users)
            now = users.difference(settled.edges).union(others)
            if now != users:
                changed |= {key, *users}
                self._clusters.set_users(key, now)
            known = self._clusters.known(key)
            self._records.set(key, msgspec.structs.replace(known, ties=settled.ties[key]))
        self._clusters.settle(changed)

    def _hold(self, scope: Scope, fact: Doubtful) -> None:
        """What spared a fact was taken back: it decides nothing."""
        kind = kind_of(Identity(fact.kind, fact.parts))
        claim = Claim(fact.rank, kind, fact.sight.key, spared=True)
        root = self._classes.unclaim(fact.anchor, claim, (provisional_key(scope, fact.anchor, kind), kind))
        self._classes.send_on(scope, root, undone=True)

    def _free(self, scope: Scope, fact: Doubtful, *, spared: bool) -> None:
        """A doubt has ended: the fact decides its conversation after all."""
        identity = Identity(fact.kind, fact.parts)
        if not self._clusters.is_heard_of(fact.sight.key):
            opened = identified(identity, scope.path, (fact.sight.line,))
            self._classes.begin(scope, fact.sight.key, opened)
        root = self._classes.claim(fact.anchor, Claim(fact.rank, kind_of(identity), fact.sight.key, spared))
        self._classes.send_on(scope, root)


def possible_keys(scope: Scope, line: Address, contact: Address) -> list[ConversationKey]:
    """The keys that a direct conversation of two may have, by whatever it is known."""
    return [identity_key(scope, identity) for identity in _ways(line, contact)]


def _ways(line: Address, contact: Address) -> tuple[Identity, ...]:
    return pair_identity(line, contact), user_identity(line, contact), set_identity(frozenset({line, contact}))


def _sight(scope: Scope, identity: Identity, ends: tuple[Address, Address], order: Order) -> Sight:
    return Sight(order, *ends, identity_key(scope, identity), of_set=identity.kind == "set")
