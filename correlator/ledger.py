"""Folds facts into the records they concern, and says what each belongs to and what follows from it. Pure.

The order of one folding is always the same: who is who, which conversation, what becomes of the message it is about,
where keys lead now, what is known of the conversation; last, what readers must be told.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from correlator import rollup as rollups
from correlator.acquaintance import Acquaintance
from correlator.circles import Order
from correlator.classes import PointerClasses
from correlator.clusters import Clusters
from correlator.conversation import Conversation, absorb, identified, provisional, with_audience
from correlator.copies import Recent, Telling, saw
from correlator.groups import Groups
from correlator.identity import BY_SEND, POINTER, Decision, identity_key, kind_of, pointer_key
from correlator.pointers import Claim, claims_of
from correlator.records import MissingRecords, Name, Records, Write
from correlator.rollup import Rollup
from schemas.address import Address
from schemas.clock import unix_milliseconds
from schemas.events import (
    ConversationMembers,
    ConversationMerged,
    Event,
    EventBody,
    Evidence,
    Identity,
    Link,
    Linked,
    MessageOutbound,
    MessageReceived,
    MessageStatus,
    Pointer,
    pair_identity,
)
from schemas.ids import ConversationKey, EventId, Scope
from schemas.value import Value

#: What says something about a message of ours.
_OURS: Final = (MessageStatus, MessageOutbound)


class Fact(Value, frozen=True):
    """An event that concerns a conversation, with what surrounds it in its capture and in the log."""

    scope: Scope
    event: Event
    evidence: Evidence
    order: Order
    #: When it happened, Unix milliseconds.
    at: int
    received_at: datetime
    #: The account's configured lines.
    lines: frozenset[Address]
    copy_window_milliseconds: int


class Told(Value, frozen=True):
    """Something that readers must be told because of a fact, as an event of its own."""

    #: `merged`, `members`, `settings`: what the event's id says beside its cause's.
    word: str
    subject: ConversationKey
    conversation: Conversation
    body: EventBody
    #: Keys on whose channels it is published as well.
    also: tuple[ConversationKey, ...] = ()


class Folded(Value, frozen=True):
    """What one fact belongs to, what it says in the light of what is known, and what follows from it."""

    subject: ConversationKey
    conversation: Conversation
    body: EventBody
    rollup: dict[str, Any] | None
    copy_of: EventId | None
    told: list[Told]


class Ledger:
    """The records of one batch or more, and what facts make of them."""

    def __init__(self, read: Mapping[Name, bytes | None]) -> None:
        """`read`: records as Redis has them, None for those it does not have."""
        self._records = Records(read)
        self._clusters = Clusters(self._records)
        self._classes = PointerClasses(self._records, self._clusters)
        self._users = Acquaintance(self._records, self._clusters, self._classes)
        self._groups = Groups(self._records, self._clusters)

    @property
    def size(self) -> int:
        """How many records it holds."""
        return self._records.size

    def take_writes(self) -> dict[Name, Write]:
        """What has become of the records since the last call, for one commit."""
        return self._records.take_writes()

    # --- a fact ---

    def fold(self, fact: Fact) -> Folded:
        """Fold one fact in. Raises MissingRecords, having changed nothing, where it wants one that was not read."""
        try:
            return self._fold(fact)
        except MissingRecords:
            self._records.take_back()
            raise

    def _begin(self) -> None:
        self._records.begin()
        self._clusters.forget_moves()
        self._groups.forget_changes()

    def _fold(self, fact: Fact) -> Folded:
        scope, event, evidence = fact.scope, fact.event, fact.evidence
        self._begin()
        self._users.note_lines(scope, evidence.lines)
        for one, other in evidence.same_user:
            self._users.tie(scope, fact.order, one, other)
        decision = self._users.decide(scope, event.id, evidence, fact.order)
        own = self._decided(fact, decision)
        root, is_news = self._join(event, decision, evidence)
        if root is not None and (decision.spared or _is_in_doubt(decision, evidence)):
            self._users.doubt(scope, evidence, decision, fact.order)
        body, rollup = self._sum_up(fact, root)
        if evidence.registered and evidence.sent is not None and evidence.sent.line is not None:
            self._users.note_send(scope)
        waits = own is None and root is not None and self._may_be_moved(scope, root, decision)
        if waits:
            own = decision.key
        elif own is None:
            served = decision.key if root is None else self._classes.serve(scope, root, decision.kind)
            own = self._clusters.survivor(served)
        body = self._absorb(fact, own, decision, body)
        if waits:
            self._classes.publish(own)
        if root is not None and is_news:
            self._classes.send_on(scope, root)
        self._groups.hear(scope, own, evidence, fact.at)
        return self._shown(fact, own, body, rollup, waits=waits)

    def _may_be_moved(self, scope: Scope, root: ConversationKey, decision: Decision) -> bool:
        """Whether only a setting says where a fact belongs while its send, which knows better, may be on its way.

        Such a fact is published under its provisional key, which can be led elsewhere later. Where no send was ever
        registered, none is waited for, and the setting's word is as good as any: nor is one for a message whose first
        reports came in such times.
        """
        known = self._clusters.find(decision.key)
        was_settled = known is not None and known.unseen and known.merged_into is not None
        return (
            decision.fallback is not None
            and not was_settled
            and self._users.has_sends(scope)
            and self._classes.rests_on_setting(root, decision.kind)
        )

    def _shown(
        self, fact: Fact, own: ConversationKey, body: EventBody, rollup: dict[str, Any] | None, *, waits: bool
    ) -> Folded:
        """What a fact belongs to, as subscribers see it; from now on they know its subject."""
        survivor = self._clusters.survivor(own)
        if waits:
            view = msgspec.structs.replace(self._clusters.view(survivor), provisional=True, strength=POINTER)
            return Folded(own, view, body, rollup, None, self._told())
        self._clusters.publish(survivor)
        copy_of = self._compare(fact, survivor)
        return Folded(survivor, self._clusters.view(survivor), body, rollup, copy_of, self._told())

    def _decided(self, fact: Fact, decision: Decision) -> ConversationKey | None:
        """The key that the fact decides by itself, its record open; None where it decides none."""
        evidence = fact.evidence
        if not decision.provisional and evidence.identity is not None:
            self._open(fact, decision.key, evidence.identity, evidence.lines)
            return decision.key
        if decision.fallback is not None and evidence.fallback is not None:
            self._open(fact, decision.fallback, evidence.fallback, evidence.lines)
        return None

    def _open(self, fact: Fact, key: ConversationKey, identity: Identity, lines: tuple[Address, ...]) -> None:
        """See that an identity has its record, and that it is known whose conversation it is."""
        if not self._clusters.is_heard_of(key):
            self._classes.begin(fact.scope, key, identified(identity, fact.scope.path, lines))
        self._users.meet(fact.scope, identity, lines, fact.order)

    def _join(self, event: Event, decision: Decision, evidence: Evidence) -> tuple[ConversationKey | None, bool]:
        """Put the fact into the class of its pointers, if a later one may know its conversation by these.

        Its root, and whether that says anything new: else every key of it leads where it should already.
        """
        alone = not decision.pointers and decision.fallback is None and not _is_in_doubt(decision, evidence)
        if alone or not (decision.provisional or _may_be_named_later(event.body)):
            return None, False
        kind = None if evidence.fallback is None else kind_of(evidence.fallback)
        return self._classes.join(decision, claims_of(decision, kind, registered=evidence.registered))

    def _absorb(self, fact: Fact, key: ConversationKey, decision: Decision, body: EventBody) -> EventBody:
        """Let the fact's own conversation know what it tells; the body, with what that has changed."""
        if not self._clusters.is_heard_of(key):
            opened = provisional(decision.kind, decision.anchor, decision.key, fact.scope.path)
            self._classes.begin(fact.scope, key, opened)
        after = before = self._clusters.known(key)
        if not decision.provisional or before.provisional:
            # Who serves a fact that decides nothing is a matter of claims, and those may change: it adds nothing.
            after = absorb(before, fact.evidence, fact.lines, fact.at)
            if after is not before or after.audience is None:
                after = with_audience(after, fact.scope)
        if after is before and not isinstance(body, ConversationMembers):
            self._records.set(key, before)
            return body
        seen = self._clusters.view(self._clusters.survivor(key))
        self._records.set(key, after)
        return self._groups.changed(key, seen, self._clusters.view(self._clusters.survivor(key)), body)

    # --- its message ---

    def _sum_up(self, fact: Fact, joined: ConversationKey | None) -> tuple[EventBody, dict[str, Any] | None]:
        """What has become of the message that a report or a send is about; the body says whether that is news.

        `joined`: the root of the class that the fact's pointers are in.
        """
        body = fact.event.body
        if not isinstance(body, _OURS):
            return body, None
        sent = rollups.about(fact.evidence)
        if not sent.message:
            return body, None
        status = body.status if isinstance(body, MessageStatus) else None
        root = joined if sent.message[0] in fact.evidence.pointers else None
        root = root or self._classes.root(pointer_key(fact.scope, sent.message[0]))
        before = self._records.find(Rollup, root) or Rollup()
        after = rollups.absorb(before, sent, fact.evidence, status, fact.at)
        self._records.set(root, after)
        self._complete(fact, sent.message[0], before, after)
        self._groups.learn(fact.scope, after)
        if isinstance(body, MessageStatus) and rollups.is_stale(before, body.status, sent):
            body = msgspec.structs.replace(body, status=msgspec.structs.replace(body.status, stale=True))
        return body, after.show() if status is not None else None

    def _complete(self, fact: Fact, message: Pointer, before: Rollup, after: Rollup) -> None:
        """Tell the recipients whose reports name no line which one the message was sent from."""
        contact = fact.evidence.contact
        # A send's line is a line of the account, though the send went to a group and its fact names none: should its
        # recipient turn out to have another address, this is where their conversations are looked for.
        if not after.lines:
            return
        self._users.note_lines(fact.scope, after.lines)
        waiting = after.waiting if after.lines != before.lines else (contact,) if contact else ()
        for recipient in waiting:
            place = pointer_key(fact.scope, Pointer(message.kind, (*message.parts, recipient)))
            for line in after.lines:
                identity = pair_identity(line, recipient)
                key = identity_key(fact.scope, identity)
                self._open(fact, key, identity, (line,))
                root = self._classes.claim(place, Claim(BY_SEND, "direct", key))
                self._classes.send_on(fact.scope, root)

    def _compare(self, fact: Fact, subject: ConversationKey) -> EventId | None:
        """Of which event this one is a copy, told to another of our lines in the same group."""
        body, window = fact.event.body, fact.copy_window_milliseconds
        if not (isinstance(body, MessageReceived) and window and self._is_seen_by_several(fact, subject)):
            return None
        before = self._records.find(Recent, subject) or Recent()
        telling = Telling(fact.event.id, fact.evidence.lines, fact.at, unix_milliseconds(fact.received_at))
        after, copy_of = saw(before, body.message, telling, window)
        self._records.set(subject, after)
        return copy_of

    def _is_seen_by_several(self, fact: Fact, subject: ConversationKey) -> bool:
        """Whether more than one of our lines may be told of what is said in a group."""
        known, identity = self._clusters.known(subject), fact.evidence.identity
        if known.kind != "group" or not fact.evidence.lines:
            return False
        of_one_line = identity is not None and identity.kind == "group" and identity.parts[0] != ""
        return not of_one_line and len({*self._users.lines(fact.scope), *fact.lines, *known.lines}) > 1

    # --- a person's word ---

    def link(self, scope: Scope, linked: Linked, order: Order) -> list[Told]:
        """Do what a person says is one, or take that back; what readers must be told. Raises as `fold` does."""
        try:
            return self._link(scope, linked, order)
        except MissingRecords:
            self._records.take_back()
            raise

    def _link(self, scope: Scope, linked: Linked, order: Order) -> list[Told]:
        self._begin()
        said = linked.link
        if isinstance(said, Link):
            self._classes.link(scope, said, undone=linked.undone)
        elif linked.undone:
            self._users.untie(scope, said.one, said.other)
        else:
            self._users.tie(scope, order, said.one, said.other, personal=True)
        return self._told()

    # --- what readers must be told ---

    def _told(self) -> list[Told]:
        """What has merged, and what has changed in groups, each under the key that stands for it now."""
        if not (self._clusters.moved or self._groups.changes):
            return []
        news: list[tuple[str, ConversationKey, EventBody, tuple[ConversationKey, ...]]] = []
        for survivor, keys in self._clusters.news().items():
            news.append(("merged", survivor, ConversationMerged(keys), keys))
        news += [(one.word, self._clusters.survivor(one.key), one.body, ()) for one in self._groups.changes]
        for _, subject, _, _ in news:
            self._clusters.publish(subject)
        return [Told(word, subject, self._clusters.view(subject), body, also) for word, subject, body, also in news]


def _is_in_doubt(decision: Decision, evidence: Evidence) -> bool:
    """Whether what the evidence or a setting says does not count, since a phone may be another person's by now."""
    if not decision.provisional or decision.fallback is not None:
        return False
    return (evidence.identity or evidence.fallback) is not None


def _may_be_named_later(body: EventBody) -> bool:
    """Whether a later fact may know its conversation by this one's ids: reports do, of messages that we sent.

    A person's message names its conversation itself each time it comes; remembering it would cost a record each.
    """
    message = getattr(body, "message", None)
    return message is None or message.direction == "outbound"
