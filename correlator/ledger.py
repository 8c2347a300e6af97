"""Folds events into the records they concern, and says what each event belongs to and what has merged. Pure.

A ledger holds records as they were read, and as they become while the events of a batch are folded in, one after the
other. It never guesses: a record that was not read yet is a `MissingRecords`, and the batch is folded anew once it was.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from correlator import conversation as records
from correlator.conversation import Conversation
from correlator.identity import POINTER, Decision
from correlator.pointers import PointerClass, joined
from schemas.address import Address
from schemas.events import Evidence, Kind
from schemas.ids import ConversationKey, Scope


class Name(NamedTuple):
    """Which record: of a conversation, or of a class of pointers."""

    space: str
    key: ConversationKey


CONVERSATION, POINTERS = "conversation", "pointers"

Record = Conversation | PointerClass

_pointers_decoder = msgspec.json.Decoder(PointerClass)
_encoder = msgspec.json.Encoder()


class MissingRecords(Exception):
    """Records that have to be read before the events can be folded."""

    def __init__(self, names: set[Name]) -> None:
        super().__init__(names)
        self.names = names


class Merge(NamedTuple):
    """Keys under which something was published came to resolve to `subject`; `merged` is every key that does."""

    subject: ConversationKey
    conversation: Conversation
    merged: tuple[ConversationKey, ...]


class Folded(NamedTuple):
    """What one event belongs to, and what its evidence has merged."""

    subject: ConversationKey
    conversation: Conversation
    merges: list[Merge]


class Write(NamedTuple):
    """What has to become of one record: from the bytes expected (empty: absent) to those to set."""

    expected: bytes
    data: bytes
    #: Whether it goes when nobody uses it any more.
    expires: bool


class Ledger:
    """The records of one batch."""

    def __init__(self, read: Mapping[Name, bytes | None]) -> None:
        """`read`: records as Redis has them, None for those it does not have."""
        self._read = read
        self._records: dict[Name, Record | None] = {}
        #: What Redis will have once the commits before are written.
        self._bytes: dict[Name, bytes] = {}
        #: Records used since the last commit, and what it will find there.
        self._used: dict[Name, bytes] = {}

    # --- folding ---

    def fold(
        self,
        scope: Scope,
        decision: Decision,
        evidence: Evidence,
        lines: frozenset[Address],
        at: int,
        *,
        remember: bool,
    ) -> Folded:
        """Fold one event in.

        Args:
            scope: of its account.
            decision: what its evidence decides.
            evidence: what it tells.
            lines: the account's configured lines.
            at: its time, Unix milliseconds.
            remember: whether its ids may be what a later fact knows its conversation by.
        """
        if not decision.pointers or not (remember or decision.provisional):
            subject = self._survivor(decision.key)
            return Folded(subject, self._absorb(subject, decision, evidence, lines, at), [])
        known = self._join(decision)
        if decision.provisional:
            # Its own key may lead on for good, although the class that knew why has expired since.
            subject = self._survivor(known.serve(scope, decision.kind, self._survivor))
        else:
            subject = self._survivor(decision.key)
        self._absorb(subject, decision, evidence, lines, at)
        merges = self._send_on(scope, known)
        return Folded(subject, self._known(subject), merges)

    def _absorb(
        self, subject: ConversationKey, decision: Decision, evidence: Evidence, lines: frozenset[Address], at: int
    ) -> Conversation:
        before = self._conversation(subject)
        if before is not None and decision.provisional and not before.provisional:
            # Who serves it is a matter of claims, and those may change: it adds nothing to what it is served by.
            after = before
        else:
            after = records.absorb(before, decision, evidence, lines, at)
        self._set(Name(CONVERSATION, subject), after)
        return after

    def _join(self, decision: Decision) -> PointerClass:
        """The class of the fact's pointers, with the fact in it."""
        roots = {self._root(pointer) for pointer in decision.pointers}
        classes = [known for root in sorted(roots) if (known := self._pointer_class(root)) is not None]
        after = joined(classes, decision)
        self._set(Name(POINTERS, after.root), after)
        for member in {*roots, *decision.pointers} - {after.root}:
            self._set(Name(POINTERS, member), PointerClass(leads_to=after.root))
        return after

    def _send_on(self, scope: Scope, known: PointerClass) -> list[Merge]:
        """Have each provisional key of a class lead to where its kind belongs now."""
        announced: dict[ConversationKey, list[ConversationKey]] = {}
        for key, kind in known.wanted:
            target = known.serve(scope, kind, self._survivor)
            if key == target:
                continue
            self._open(known.own(scope), target)
            if self._lead(key, target, kind):
                announced.setdefault(target, []).append(key)
        return [self._merge(target, keys) for target, keys in sorted(announced.items())]

    def _lead(self, key: ConversationKey, target: ConversationKey, kind: Kind) -> bool:
        """Lead a key to its target; whether something was published under it, so that readers must be told."""
        before = self._conversation(key)
        if before is not None and before.merged_into == target:
            return False
        announced = before is not None and not (before.merged_into and before.provisional)
        if before is not None and before.merged_into:
            self._take_back(before.merged_into, key)
        elif before is not None:
            self._hand_over(before, target)
        self._set(Name(CONVERSATION, key), records.redirect(kind, target, announced=announced))
        return announced

    def _open(self, own: Mapping[ConversationKey, Kind], target: ConversationKey) -> None:
        """See that there is a record to lead to: the class's own provisional conversation may not be there yet."""
        if target in own and self._conversation(target) is None:
            self._set(Name(CONVERSATION, target), Conversation(own[target], POINTER, provisional=True))

    def _hand_over(self, conversation: Conversation, target: ConversationKey) -> None:
        """What a provisional conversation knew goes along, but only into another provisional one."""
        into = self._known(target)
        if into.provisional:
            self._set(Name(CONVERSATION, target), records.join(into, conversation))

    def _take_back(self, target: ConversationKey, key: ConversationKey) -> None:
        conversation = self._conversation(target)
        if conversation is not None and key in conversation.merged:
            left = tuple(merged for merged in conversation.merged if merged != key)
            self._set(Name(CONVERSATION, target), msgspec.structs.replace(conversation, merged=left))

    def _merge(self, target: ConversationKey, keys: list[ConversationKey]) -> Merge:
        conversation = self._known(target)
        merged = tuple(sorted({*conversation.merged, *keys}))
        self._set(Name(CONVERSATION, target), msgspec.structs.replace(conversation, merged=merged))
        return Merge(target, self._known(target), merged)

    # --- records ---

    def _survivor(self, key: ConversationKey) -> ConversationKey:
        """Follow redirects; their chain is short and has an end, because a merge goes to the survivor."""
        while (known := self._conversation(key)) is not None and known.merged_into:
            key = known.merged_into
        return key

    def _root(self, pointer: ConversationKey) -> ConversationKey:
        while (known := self._pointer_class(pointer)) is not None and known.leads_to:
            pointer = known.leads_to
        return pointer

    def _known(self, key: ConversationKey) -> Conversation:
        conversation = self._conversation(key)
        assert conversation is not None  # noqa: S101 - it was set just before
        return conversation

    def _conversation(self, key: ConversationKey) -> Conversation | None:
        found = self._find(Name(CONVERSATION, key))
        assert not isinstance(found, PointerClass)  # noqa: S101 - the space of the name says so
        return found

    def _pointer_class(self, key: ConversationKey) -> PointerClass | None:
        found = self._find(Name(POINTERS, key))
        assert not isinstance(found, Conversation)  # noqa: S101 - the space of the name says so
        return found

    def _find(self, name: Name) -> Record | None:
        if name in self._records:
            return self._records[name]
        if name not in self._read:
            raise MissingRecords({name})
        raw = self._read[name]
        self._records[name] = None if raw is None else decode(name, raw)
        return self._records[name]

    def _set(self, name: Name, record: Record) -> None:
        before = self._find(name)
        self._used.setdefault(name, self._bytes.get(name, self._read[name] or b""))
        self._records[name] = record
        if record is not before and record != before:
            self._bytes[name] = _encoder.encode(record)

    def take_writes(self) -> dict[Name, Write]:
        """What has become of the records used since the last call, for one commit."""
        writes = {
            name: Write(expected, self._bytes.get(name, expected), self._expires(name))
            for name, expected in self._used.items()
        }
        self._used = {}
        return writes

    def _expires(self, name: Name) -> bool:
        record = self._records[name]
        return record.provisional if isinstance(record, Conversation) else True


def decode(name: Name, data: bytes) -> Record:
    """A record as Redis keeps it."""
    return records.decode(data) if name.space == CONVERSATION else _pointers_decoder.decode(data)


def mentioned(name: Name, data: bytes) -> set[Name]:
    """The records that one leads to: what folding will probably want next."""
    record = decode(name, data)
    if isinstance(record, Conversation):
        return {Name(CONVERSATION, record.merged_into)} if record.merged_into else set()
    names = {Name(CONVERSATION, claim.key) for claim in record.claims if claim.key}
    names |= {Name(CONVERSATION, key) for key, _ in record.wanted}
    return names | ({Name(POINTERS, record.leads_to)} if record.leads_to else set())
