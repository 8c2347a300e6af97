"""Which conversation a fact belongs to: the rules. Pure.

`decide` says what one fact's own evidence wants. `resolve` is the rule book over a whole history: slow, complete,
and the oracle that the commit path is tested against. Nothing below depends on the order of the history except
what rule 5 says.

1. **Identities.** The key of an identity is a node, the fact keeps it for good, and nodes merge by rules 4 to 6 only.
   Of merged nodes the strongest survives, then the smallest key; both are constants of the key.
2. **Pointers** serve only facts without an identity. Pointers that any fact names together are one class. The
   identities of all facts that name one of its pointers claim the class; a registered send is stronger than a
   report, a report than a setting (`fallback`), then the smaller key. A fact that knows only the contact claims the
   pair with each line that the send was registered from. The claimants themselves stay apart: weak evidence never
   joins.
3. **Direct and group never mix.** A fact that says it is of one kind is only served by a claim of that kind; failing
   that it is provisional. Its kind enters its provisional key, so that such a key never comes to resolve to the other
   kind. It is also the weakest claim of its class, for the facts that say nothing. Without any claim at all
   the provisional key is that of the class's smallest pointer, or of the event if there is no pointer.
4. **Users**, within an account. Two user ids tied are one user, and so are two phones. A phone and the user id
   it is seen with are one user. Per line, all direct conversations with one user are one. Whatever is not a phone
   counts as a user id; a set of two and a pair stay apart all the same. Groups are never touched by this, nor is what
   does not say which of its ends is our line.
5. **Recycled phones.** From the fact on that shows a phone with a second user id, tied to the first by no tie between
   ids, the phone is in doubt: it links nothing further, and facts that know their user by that phone alone have
   no identity (they are direct, and pointers may serve them). What had merged stays. Which of the two ids came first is
   the one thing that arrival decides. A person's tie of the two ends the doubt; taken back, the doubt is there again,
   also for what came before and meanwhile.
6. **Links** of a person merge nodes, across accounts too, but not direct with group: such a link is refused, and so
   is one of a key that nothing ever had, be it only while a tie held. A link between a provisional conversation and an
   identity is its strongest claim; between two provisional ones it makes them one class, within an account. Ties of
   addresses count like those that facts show. Undone, a link is as if it had never been.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import inf
from typing import Final, NamedTuple, get_args

from correlator.users import Classes, Users, reading
from schemas.address import Address
from schemas.events import Evidence, Identity, Kind, Link, Pointer, Tie, pair_identity
from schemas.ids import ConversationKey, EventId, Scope
from schemas.value import Value

# What a key was derived from, weakest first: a constant of the key, never of arrival.
POINTER: Final = 0
PHONE_PAIR: Final = 1
COMPLETE: Final = 2
GROUP_ID: Final = 3

_STRENGTHS: Final = {"group": GROUP_ID, "set": COMPLETE, "user": COMPLETE, "pair": PHONE_PAIR}
_LARGEST_DIRECT: Final = 2

# Who claims a class of pointers, weakest first.
BY_HINT: Final = 0
BY_SETTING: Final = 1
BY_REPORT: Final = 2
BY_SEND: Final = 3
BY_PERSON: Final = 4


# --- one fact ---------------------------------------------------------------------------------------------


class Decision(Value, frozen=True):
    """What one fact's own evidence decides: the key it wants, before anything else is known."""

    #: Of the identity; else provisional, by its smallest pointer; else by the event itself.
    key: ConversationKey
    #: A constant of the key: `GROUP_ID`, `COMPLETE`, `PHONE_PAIR` or `POINTER`.
    strength: int
    kind: Kind
    #: No identity decided.
    provisional: bool
    #: The keys of all its pointers, sorted, distinct.
    pointers: tuple[ConversationKey, ...]
    #: Of a provisional key: the pointer or event that it was derived from.
    anchor: ConversationKey | None = None
    #: The key of what it belongs to while nothing better is known.
    fallback: ConversationKey | None = None
    #: Its phone would be in doubt, had not a person tied users.
    spared: bool = False


def decide(scope: Scope, event_id: EventId, evidence: Evidence, *, in_doubt: bool = False) -> Decision:
    """What one fact's evidence decides by itself.

    Args:
        scope: what keys are derived under.
        event_id: the fact's own, for want of anything better.
        evidence: what the fact tells.
        in_doubt: the identity does not count, since its phone may be another person's by now (rule 5).
    """
    identity = evidence.identity
    kind = evidence.kind if identity is None else kind_of(identity)
    pointers = tuple([pointer_key(scope, pointer) for pointer in evidence.pointers])
    if len(pointers) > 1:
        pointers = tuple(sorted(set(pointers)))
    if identity is None or in_doubt:
        anchor = pointers[0] if pointers else event_key(scope, event_id)
        fallback = None if evidence.fallback is None or in_doubt else identity_key(scope, evidence.fallback)
        return Decision(provisional_key(scope, anchor, kind), POINTER, kind, True, pointers, anchor, fallback)
    return Decision(identity_key(scope, identity), strength_of(identity), kind, False, pointers)


def identity_key(scope: Scope, identity: Identity) -> ConversationKey:
    """The key of the conversation that an identity decides."""
    return scope.conversation(identity.kind, identity.parts)


def strength_of(identity: Identity) -> int:
    """How strong a key derived from it is: what survives a merge."""
    return _STRENGTHS[identity.kind]


def pointer_key(scope: Scope, pointer: Pointer) -> ConversationKey:
    """The key of what is known by a pointer only."""
    return scope.conversation("pointer", (pointer.kind, *pointer.parts))


def event_key(scope: Scope, event_id: EventId) -> ConversationKey:
    """The key of what not even a pointer is known of."""
    return scope.conversation("event", (event_id,))


def provisional_key(scope: Scope, anchor: ConversationKey, kind: Kind) -> ConversationKey:
    """The key of the provisional conversation of one kind at an anchor (a pointer's or an event's key)."""
    return anchor if kind == "unknown" else scope.conversation("provisional", (kind, anchor))


def kind_of(identity: Identity) -> Kind:
    """A group id names a group, and so does a set of three or more; everything else is direct."""
    if identity.kind == "group" or (identity.kind == "set" and len(identity.parts) > _LARGEST_DIRECT):
        return "group"
    return "direct"


# --- a history --------------------------------------------------------------------------------------------


class Fact(Value, frozen=True):
    """One provider fact, as far as identity goes."""

    id: EventId
    scope: Scope
    evidence: Evidence


class Tied(Value, frozen=True):
    """A person's tie of two addresses, with the account that they are of."""

    scope: Scope
    tie: Tie


class Unlink(Value, frozen=True):
    """A person takes exactly that link or tie back."""

    link: Link | Tied


Entry = Fact | Link | Tied | Unlink


class Outcome(Value, frozen=True):
    """What became of one surviving conversation. `merged`: the other keys that facts wanted and that resolve to it."""

    kind: Kind
    provisional: bool
    merged: tuple[ConversationKey, ...]


class Resolution(Value, frozen=True):
    """Where everything in a history belongs."""

    #: The surviving key of each fact.
    keys: dict[EventId, ConversationKey]
    #: The key that each fact wanted by itself: what it resolves from.
    wanted: dict[EventId, ConversationKey]
    #: The survivors.
    conversations: dict[ConversationKey, Outcome]
    #: Links that rule 6 forbids, as far as they were not taken back.
    refused: tuple[Link, ...]


def resolve(history: Sequence[Entry]) -> Resolution:
    """Where each fact of a history belongs, by the rules above."""
    entries = _in_force(history)
    accounts = _accounts(entries)
    findings = [
        _Finding(at, entry, _decide_among(accounts[_account(entry.scope)], at, entry))
        for at, entry in entries
        if isinstance(entry, Fact)
    ]
    board = _Board(findings, _once_decided(history))
    board.merge_users(findings, accounts)
    refused = tuple(entry for _, entry in entries if isinstance(entry, Link) and not board.link(entry))
    survivors = board.survivors({decision.key for _, _, decision in findings})
    # A fact that stands twice with unlike evidence is where the stronger evidence puts it.
    findings.sort(key=lambda finding: (-finding.decision.strength, finding.decision.key))
    wanted: dict[EventId, ConversationKey] = {}
    for _, fact, decision in findings:
        wanted.setdefault(fact.id, decision.key)
    keys = {fact: survivors[key] for fact, key in wanted.items()}
    return Resolution(keys, wanted, board.outcomes(survivors), refused)


class _Finding(NamedTuple):
    at: int
    fact: Fact
    decision: Decision


def _in_force(history: Sequence[Entry]) -> list[tuple[int, Fact | Link | Tied]]:
    """What holds at the end, each with the place where it first stood: no repetition, no link taken back."""
    first: dict[Fact | Link | Tied, int] = {}
    for at, entry in enumerate(history):
        if isinstance(entry, Unlink):
            first.pop(entry.link, None)
        else:
            first.setdefault(entry, at)
    return [(at, entry) for entry, at in first.items()]


def _once_decided(history: Sequence[Entry]) -> dict[ConversationKey, Identity]:
    """The identities that facts decided for as long as a tie held that a person took back: keys that something had."""
    if not any(isinstance(entry, Unlink) and isinstance(entry.link, Tied) for entry in history):
        return {}
    found: dict[ConversationKey, Identity] = {}
    for end in range(len(history)):
        entries = _in_force(history[:end])
        accounts = _accounts(entries)
        facts = [(at, entry) for at, entry in entries if isinstance(entry, Fact)]
        for at, fact in facts:
            identity = _deciding(fact.evidence)
            if identity is not None and at < _doubted_at(accounts[_account(fact.scope)], fact.evidence):
                found[identity_key(fact.scope, identity)] = identity
    return found


# --- users (rules 4 and 5) --------------------------------------------------------------------------------


_Account = tuple[str, str]


def _account(scope: Scope) -> _Account:
    return (scope.provider, scope.account)


def _accounts(entries: Iterable[tuple[int, Fact | Link | Tied]]) -> dict[_Account, Users]:
    ties: dict[_Account, list[tuple[int, Address, Address]]] = defaultdict(list)
    for at, entry in entries:
        if isinstance(entry, Tied):
            ties[_account(entry.scope)].append((at, entry.tie.one, entry.tie.other))
        elif isinstance(entry, Fact):
            ties[_account(entry.scope)].extend((at, *pair) for pair in entry.evidence.same_user)
    return {account: Users(told) for account, told in ties.items()}


def _decide_among(users: Users, at: int, fact: Fact) -> Decision:
    return decide(fact.scope, fact.id, fact.evidence, in_doubt=at >= _doubted_at(users, fact.evidence))


def _deciding(evidence: Evidence) -> Identity | None:
    return evidence.identity or evidence.fallback


def _doubted_at(users: Users, evidence: Evidence) -> float:
    ends = reading(_deciding(evidence), evidence.lines)
    return inf if ends is None else users.doubted(ends[1])


# --- nodes, classes of pointers, claims (rules 1, 2, 3 and 6) ---------------------------------------------


class _Claim(NamedTuple):
    rank: int
    kind: Kind
    #: The identity's key; a claim `BY_HINT` has none.
    key: ConversationKey | None


_Claims = Mapping[ConversationKey, Sequence[_Claim]]
#: By the key of a message's pointer: the lines that it was registered as sent from, each with the place of that.
_Lines = Mapping[ConversationKey, Mapping[Address, int]]


def _registered_lines(findings: Iterable[_Finding]) -> _Lines:
    lines: dict[ConversationKey, dict[Address, int]] = defaultdict(dict)
    for at, fact, _ in findings:
        sent = fact.evidence.sent
        if sent is not None and sent.line is not None:
            lines[pointer_key(fact.scope, sent.message[0])].setdefault(sent.line, at)
    return lines


def _completed(scope: Scope, evidence: Evidence, lines: _Lines) -> dict[Identity, int]:
    """The pairs of a fact's contact with each line that its message was sent from, and where that was registered."""
    if evidence.contact is None or evidence.sent is None:
        return {}
    known = lines.get(pointer_key(scope, evidence.sent.message[0]), {})
    return {pair_identity(line, evidence.contact): at for line, at in sorted(known.items())}


class _Board:
    """Everything a history names, and what stands for what."""

    def __init__(self, findings: Sequence[_Finding], decided: Mapping[ConversationKey, Identity]) -> None:
        """`decided`: identities that are nodes, whatever the findings say."""
        #: Identities, each with its kind and strength.
        self._nodes = {key: (kind_of(identity), strength_of(identity)) for key, identity in decided.items()}
        self._merged: Classes[ConversationKey] = Classes(lambda key: (-self._nodes[key][1], key))
        #: Pointers, and events without any. A claim on one is a claim on its class.
        self._anchors: Classes[ConversationKey] = Classes()
        self._claims: list[tuple[ConversationKey, _Claim]] = []
        #: Each provisional key, and what it is of: anchor and kind.
        self._named: dict[ConversationKey, tuple[ConversationKey, Kind]] = {}
        #: The account of each anchor.
        self._of: dict[ConversationKey, _Account] = {}
        self._lines = _registered_lines(findings)
        for _, fact, decision in findings:
            anchors = decision.pointers
            if decision.provisional and not anchors:
                anchors = (event_key(fact.scope, fact.id),)
            for anchor in anchors:
                self._name(fact.scope, anchor)
                self._anchors.join(anchors[0], anchor)
            for claim in self._claims_of(fact, decision):
                self._claims.extend((anchor, claim) for anchor in anchors)
        self._own = {of: key for key, of in self._named.items()}

    def _name(self, scope: Scope, anchor: ConversationKey) -> None:
        self._of[anchor] = _account(scope)
        for kind in get_args(Kind):
            self._named[provisional_key(scope, anchor, kind)] = (anchor, kind)

    def _claims_of(self, fact: Fact, decision: Decision) -> Iterable["_Claim"]:
        """What one fact says of the class of its pointers; opens the nodes that it speaks of."""
        evidence = fact.evidence
        if not decision.provisional:
            self._nodes[decision.key] = (decision.kind, decision.strength)
            yield _Claim(BY_SEND if evidence.registered else BY_REPORT, decision.kind, decision.key)
            return
        if decision.kind != "unknown":
            yield _Claim(BY_HINT, decision.kind, None)
        if decision.fallback is not None and evidence.fallback is not None:
            yield self._opened(BY_SETTING, evidence.fallback, decision.fallback)
        for pair in _completed(fact.scope, evidence, self._lines):
            yield self._opened(BY_SEND, pair, identity_key(fact.scope, pair))

    def _opened(self, rank: int, identity: Identity, key: ConversationKey) -> "_Claim":
        self._nodes[key] = (kind_of(identity), strength_of(identity))
        return _Claim(rank, kind_of(identity), key)

    def merge_users(self, findings: Iterable[_Finding], accounts: Mapping[_Account, Users]) -> None:
        """Merge each line's direct conversations with one user, but for what came after a phone fell in doubt."""
        threads: dict[tuple[str, ...], dict[ConversationKey, tuple[int, float]]] = defaultdict(dict)
        for at, fact, decision in findings:
            account = _account(fact.scope)
            users = accounts[account]
            for identity, lines, since in self._decided(fact, decision):
                if ends := reading(identity, lines):
                    thread = threads[(*account, ends[0], users.user(ends[1]), str(identity.kind == "set"))]
                    key, heard = identity_key(fact.scope, identity), (max(at, since), users.doubted(ends[1]))
                    thread[key] = min(heard, thread.get(key, heard))
        for thread in threads.values():
            for (one, (at, until)), (other, (other_at, other_until)) in combinations(thread.items(), 2):
                if max(at, other_at) < min(until, other_until):
                    self._merged.join(one, other)

    def _decided(self, fact: Fact, decision: Decision) -> Iterable[tuple[Identity, tuple[Address, ...], int]]:
        """The identities that a fact speaks of, with those of its parts that are ours, and since when that is known."""
        deciding = _deciding(fact.evidence)
        if deciding is not None and not (decision.provisional and decision.fallback is None):
            yield deciding, fact.evidence.lines, 0
        if decision.provisional:
            for pair, since in _completed(fact.scope, fact.evidence, self._lines).items():
                yield pair, tuple(Address(part) for part in pair.parts if part != fact.evidence.contact), since

    def link(self, link: Link) -> bool:
        """Do what a person says; False where that must not be."""
        ends = (link.one, link.other)
        if any(key not in self._nodes and key not in self._named for key in ends):
            return False
        if {self._kind(key) for key in ends} == {"direct", "group"}:
            return False
        identities = [key for key in ends if key in self._nodes]
        anchors = [self._named[key][0] for key in ends if key not in self._nodes]
        if not anchors:
            self._merged.join(*identities)
        elif not identities:
            if self._of[anchors[0]] != self._of[anchors[1]]:
                return False
            self._anchors.join(*anchors)
        else:
            claim = _Claim(BY_PERSON, self._kind(identities[0]), identities[0])
            self._claims.append((anchors[0], claim))
        return True

    def _kind(self, key: ConversationKey) -> Kind:
        return self._nodes[key][0] if key in self._nodes else self._named[key][1]

    def survivors(self, keys: Iterable[ConversationKey]) -> dict[ConversationKey, ConversationKey]:
        """What each key resolves to, once everything is on the board."""
        claims: dict[ConversationKey, list[_Claim]] = defaultdict(list)
        for anchor, claim in self._claims:
            claims[self._anchors.find(anchor)].append(claim)
        return {key: self._merged.find(key) if key in self._nodes else self._served(key, claims) for key in keys}

    def _served(self, key: ConversationKey, claims: _Claims) -> ConversationKey:
        """What the best fitting claim makes of a provisional key."""
        anchor, kind = self._named[key]
        anchor = self._anchors.find(anchor)
        fitting = [claim for claim in claims.get(anchor, ()) if kind in {"unknown", claim.kind}]
        if not fitting:
            return self._own[anchor, kind]
        strongest = max(claim.rank for claim in fitting)
        identities = [claim.key for claim in fitting if claim.rank == strongest and claim.key is not None]
        if identities:
            return self._merged.find(min(identities))
        return min(self._own[anchor, claim.kind] for claim in fitting if claim.rank == strongest)

    def outcomes(self, survivors: Mapping[ConversationKey, ConversationKey]) -> dict[ConversationKey, Outcome]:
        """The survivors, each with what resolves to it."""
        merged: dict[ConversationKey, set[ConversationKey]] = defaultdict(set)
        for key, survivor in survivors.items():
            merged[survivor].add(key)
        return {
            key: Outcome(self._kind(key), key not in self._nodes, tuple(sorted(keys - {key})))
            for key, keys in merged.items()
        }
