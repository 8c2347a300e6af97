"""Random histories over few people, lines and ids, so that they meet; and a book that folds them as the store does."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from correlator.clusters import Clusters
from correlator.gathering import order_of
from correlator.identity import Entry, Tied, Unlink, _accounts, _decide_among, _in_force, decide, identity_key
from correlator.identity import Fact as Told
from correlator.ledger import Fact, Folded, Ledger
from correlator.reading import foreseen, mentioned
from correlator.records import MissingRecords, Name, Records
from schemas.address import Address
from schemas.events import (
    ConversationMerged,
    Event,
    Evidence,
    Identity,
    Kind,
    Link,
    Linked,
    Message,
    MessageStatus,
    Pointer,
    Sent,
    State,
    Status,
    Tie,
    group_identity,
    pair_identity,
    set_identity,
    user_identity,
)
from schemas.ids import ConversationKey, EventId, Scope

SCOPE = Scope(b"ledger", "demo", "whatsapp", "main")
OTHER = Scope(b"ledger", "demo", "whatsapp", "other")
LINE, LINE_2, ANN, BEN, CAM = (Address(f"+1555555010{digit}") for digit in range(5))
ANN_ID, BEN_ID, NEW_ID = (Address(f"whatsapp:US.{number}") for number in (1001, 2001, 1002))
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

POINTED: list[Identity | None] = [
    None,
    None,
    pair_identity(LINE, ANN),
    pair_identity(LINE, BEN),
    set_identity(frozenset({LINE, ANN, BEN})),
    set_identity(frozenset({LINE, ANN, BEN, CAM})),
    group_identity("", "club"),
]
DIRECT: list[Identity | None] = [
    None,
    pair_identity(LINE, ANN),
    pair_identity(LINE_2, ANN),
    pair_identity(LINE, BEN),
    user_identity(LINE, ANN_ID),
    user_identity(LINE_2, ANN_ID),
    user_identity(LINE, BEN_ID),
    user_identity(LINE, NEW_ID),
]
#: Ties that agree with each other, and one that puts a phone in doubt.
SOUND_TIES = [(ANN, ANN_ID), (BEN, BEN_ID), (ANN_ID, NEW_ID), (ANN, CAM)]
TIES = [*SOUND_TIES, (ANN, NEW_ID), (BEN, ANN_ID)]
_POINTERS = st.lists(st.sampled_from("abcde"), max_size=3, unique=True)
_KINDS: list[Kind] = ["unknown", "unknown", "direct", "group"]
_STATES: list[State] = ["queued", "sent", "delivered", "read", "failed"]


def examples(usual: int) -> int:
    """How many examples a test looks at: thousands in `make test-deep`."""
    return 5000 if os.environ.get("PARTYLINE_HYPOTHESIS") == "deep" else usual


def pointer(*parts: str) -> Pointer:
    """A message's id."""
    return Pointer("message", parts)


@st.composite
def pointed(draw: st.DrawFn, number: int) -> Told:
    """A fact that may decide its conversation, or know it by ids only, of its own or of a setting's making."""
    evidence = Evidence(
        identity=draw(st.sampled_from(POINTED)),
        pointers=tuple(pointer(name) for name in draw(_POINTERS)),
        kind=draw(st.sampled_from(_KINDS)),
        lines=(LINE, LINE_2),
        registered=draw(st.booleans()),
    )
    if evidence.identity is None and evidence.kind == "direct" and draw(st.booleans()):
        evidence = Evidence(
            fallback=pair_identity(LINE_2, draw(st.sampled_from([ANN, BEN]))),
            pointers=evidence.pointers,
            kind="direct",
            lines=(LINE, LINE_2),
        )
    return Told(EventId(f"fact-{number}"), SCOPE, evidence)


@st.composite
def batched(draw: st.DrawFn, number: int) -> Told:
    """A report on one recipient of a batch, or the registration of a batch that went to a group."""
    batch, contact = draw(st.sampled_from("xy")), draw(st.sampled_from([ANN, BEN]))
    name = EventId(f"fact-{number}")
    if draw(st.integers(0, 3)) == 0:
        sent = Sent((Pointer("batch", (batch,)),), line=draw(st.sampled_from([LINE, LINE_2])))
        identity = group_identity("", f"group of {batch}")
        return Told(name, SCOPE, Evidence(identity=identity, registered=True, sent=sent))
    fallback = pair_identity(LINE_2, contact) if draw(st.booleans()) else None
    evidence = Evidence(
        pointers=(Pointer("batch", (batch, contact)),),
        kind="direct",
        contact=contact,
        fallback=fallback,
        lines=(LINE_2,) if fallback else (),
        sent=Sent((Pointer("batch", (batch,)),)),
    )
    return Told(name, SCOPE, evidence)


@st.composite
def acquainted(draw: st.DrawFn, number: int, ties: list[tuple[Address, Address]]) -> Told:
    """A direct fact of a user, who may be shown with two addresses."""
    identity = draw(st.sampled_from(DIRECT))
    evidence = Evidence(
        identity=identity,
        pointers=tuple(pointer(name) for name in draw(_POINTERS)),
        kind="direct",
        lines=(LINE, LINE_2),
        same_user=tuple(draw(st.lists(st.sampled_from(ties), max_size=1))),
    )
    return Told(EventId(f"fact-{number}"), SCOPE, evidence)


@st.composite
def facts(draw: st.DrawFn, ties: list[tuple[Address, Address]]) -> list[Told]:
    """A few facts of all sorts."""
    made = []
    for number in range(draw(st.integers(1, 9))):
        sort = draw(st.sampled_from([pointed(number), acquainted(number, ties), batched(number)]))
        made.append(draw(sort))
    return made


def possible_keys(history: Sequence[Told]) -> list[ConversationKey]:
    """Every key that a fact of the history may be known under."""
    keys = set()
    for fact in history:
        evidence = fact.evidence
        keys |= {identity_key(fact.scope, one) for one in (evidence.identity, evidence.fallback) if one}
        keys.add(decide(fact.scope, fact.id, evidence).key)
    return sorted(keys)


def wanted(history: Sequence[Entry]) -> dict[EventId, ConversationKey]:
    """The key that each fact of a history wants, once everything is told: not a pair whose phone is in doubt."""
    entries = _in_force(history)
    accounts = _accounts(entries)
    return {
        fact.id: _decide_among(accounts[(fact.scope.provider, fact.scope.account)], at, fact).key
        for at, fact in entries
        if isinstance(fact, Told)
    }


def as_event(fact: Told) -> Event:
    """A report that tells what the fact tells."""
    message = Message(id=fact.id, direction="outbound", sender=LINE, text=None, media=(), channel="sms")
    status = Status("sent", final=False, recipient=fact.evidence.contact, raw="sent")
    return Event(fact.id, MessageStatus(message, status), NOW, fact.evidence, "report", {})


def as_linked(entry: Link | Tied | Unlink, number: int) -> Linked:
    """What a person says, as the log has it."""
    undone = isinstance(entry, Unlink)
    said = entry.link if isinstance(entry, Unlink) else entry
    link: Link | Tie = said if isinstance(said, Link) else said.tie
    return Linked(EventId(f"link-{number}"), link, undone=undone)


class Book:
    """What Redis would hold, as a dictionary; and what readers were told."""

    def __init__(self) -> None:
        self.records: dict[Name, bytes] = {}
        #: Where the last merged event that named a key sent it.
        self.told: dict[ConversationKey, ConversationKey] = {}
        #: The subject of each fact when it was first told.
        self.published: dict[EventId, ConversationKey] = {}
        self._position = 0

    def feed(self, entries: Sequence[Entry]) -> None:
        """Fold a batch in, reading what is missing as the store does, and keep what it writes."""
        read: dict[Name, bytes | None] = {}
        wanted = {name for entry in entries if isinstance(entry, Told) for name in foreseen_of(entry)}
        self._read(read, wanted)
        ledger = Ledger(read)
        told = [self._fold(ledger, read, entry, self._position + place) for place, entry in enumerate(entries, 1)]
        self._position += len(entries)
        for name, write in ledger.take_writes().items():
            assert self.records.get(name, b"") == write.expected
            self.records[name] = write.data
        for entry, result in zip(entries, told, strict=True):
            self._note(entry, result)

    def _read(self, read: dict[Name, bytes | None], wanted: set[Name]) -> None:
        while wanted:
            found = {name: self.records.get(name) for name in wanted}
            read |= found
            wanted = {other for name, raw in found.items() if raw for other in mentioned(name, raw)} - read.keys()

    def _fold(self, ledger: Ledger, read: dict[Name, bytes | None], entry: Entry, at: int) -> Any:
        while True:
            try:
                return self._folded(ledger, entry, order_of(f"{at}-0", 0))
            except MissingRecords as missing:
                self._read(read, missing.names)

    def _folded(self, ledger: Ledger, entry: Entry, order: int) -> Any:
        if isinstance(entry, Told):
            return ledger.fold(Fact(entry.scope, as_event(entry), entry.evidence, order, 0, NOW, frozenset(), 0))
        said = entry.link if isinstance(entry, Unlink) else entry
        scope = said.scope if isinstance(said, Tied) else SCOPE
        return ledger.link(scope, as_linked(entry, order), order)

    def _note(self, entry: Entry, result: Any) -> None:
        news = result.told if isinstance(result, Folded) else result
        for told in news:
            if isinstance(told.body, ConversationMerged):
                self.told.update(dict.fromkeys(map(ConversationKey, told.body.merged), told.subject))
                self.told.pop(told.subject, None)
        if isinstance(entry, Told):
            self.published.setdefault(entry.id, result.subject)

    def survivor(self, key: ConversationKey) -> ConversationKey:
        """What a key resolves to by the stored redirects."""
        names = [*self.records, Name("Conversation", key)]
        return Clusters(Records({name: self.records.get(name) for name in names})).survivor(key)

    def believed(self, key: ConversationKey) -> ConversationKey:
        """What a reader takes a key for, who has kept every merged event."""
        while key in self.told:
            key = self.told[key]
        return key


def foreseen_of(fact: Told) -> set[Name]:
    """The records that folding it will want."""
    return foreseen(fact.scope, as_event(fact), fact.evidence)
