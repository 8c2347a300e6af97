"""Commits what callbacks say: decides in Python over records looked up once, then writes with one script call.

Everything that is decided is decided by pure code over records read from Redis; the script only checks that these
records, the lease and the cursor are still what the decision was made on, and then writes all of it. Redis is the only
place where anything is remembered.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from correlator import conversation as records
from correlator.identity import Decision, decide
from correlator.ledger import CONVERSATION, POINTERS, Ledger, Merge, MissingRecords, Name, Write, mentioned
from correlator.scripts import Scripts, answer
from schemas.callback import Capture
from schemas.clock import unix_milliseconds
from schemas.envelope import HalfEnvelope, envelope
from schemas.errors import LeaseLost, StoreError
from schemas.events import ConversationMerged, Event, Evidence, Parsed, Typing, Unreadable
from schemas.ids import ConversationKey, Scope, derived_event_id
from schemas.keyspace import Keyspace

#: Events in one script call: more would hold up the captures that other clients write meanwhile.
MAX_EVENTS = 32

PUBLISHED_ONLY, DUPLICATE = 0, -1


class Entry(msgspec.Struct, frozen=True):
    """One capture with what was read from it, and where it stands in the capture log."""

    position: str
    capture: Capture
    parsed: tuple[Parsed, ...]
    replayed: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """What became of one parsed element: `sequence` is its number, or PUBLISHED_ONLY, or DUPLICATE; None: dead."""

    entry: Entry
    parsed: Parsed
    sequence: int | None


class Placed(msgspec.Struct, frozen=True):
    """An event with its scope and, unless it concerns the account as a whole, what its evidence decides."""

    event: Event
    scope: Scope
    #: None: it concerns the account as a whole.
    decided: tuple[Decision, Evidence] | None


PlacedEntry = tuple[Entry, list[Placed | Unreadable]]


class Publication(NamedTuple):
    """One event as the script gets it."""

    entry: Entry
    event: Event
    subject: ConversationKey
    half: HalfEnvelope
    channels: list[str]


class Commit(msgspec.Struct):
    """What goes into one script call, as it is gathered."""

    records: dict[Name, Write] = {}
    events: list[Publication] = []
    #: With the place of the element in its capture, which makes it the same letter when it is committed again.
    letters: list[tuple[Entry, int, Unreadable]] = []
    #: The log position reached when all of it is written; empty: still inside one capture.
    position: str = ""

    @property
    def full(self) -> bool:
        """Whether the next element belongs into another call."""
        return len(self.events) + len(self.letters) >= MAX_EVENTS


class Store:
    """The conversations, events and dead letters of one partition of a namespace."""

    def __init__(self, redis: Redis, keyspace: Keyspace, id_key: bytes, messages_seconds: int) -> None:
        """`messages_seconds`: how long a provisional conversation lives that nobody identifies."""
        self._redis = redis
        self._keys = keyspace
        self._id_key = id_key
        self._messages_seconds = messages_seconds
        self._scripts = Scripts(redis)
        self._scopes: dict[tuple[str, str], Scope] = {}

    async def cursor(self) -> str:
        """The position of the last capture that is wholly committed; empty before the first."""
        cursor: bytes | None = await answer(self._redis.get(self._keys.cursor))
        return (cursor or b"").decode()

    async def commit(self, token: str, after: str, entries: Sequence[Entry]) -> list[Outcome]:
        """Commit captures in their order: each event once, and the cursor with them.

        Args:
            token: the lease's.
            after: the cursor, as of now.
            entries: what follows it in the log, without a gap.

        Raises LeaseLost when the lease or cursor is another's by now; StoreError when Redis fails. What was
        committed before either stays, and committing the rest again repeats nothing.
        """
        placed = [(entry, [self._place(entry.capture, item) for item in entry.parsed]) for entry in entries]
        outcomes: list[Outcome] = []
        for commit in await self._decide(placed):
            outcomes += await self._write(commit, token, after)
            after = commit.position or after
        return outcomes

    # --- deciding ---

    def _scope(self, capture: Capture) -> Scope:
        name = (capture.provider, capture.account)
        if name not in self._scopes:
            self._scopes[name] = Scope(self._id_key, self._keys.namespace, *name)
        return self._scopes[name]

    def _place(self, capture: Capture, parsed: Parsed) -> Placed | Unreadable:
        if isinstance(parsed, Unreadable):
            return parsed
        scope = self._scope(capture)
        evidence = parsed.evidence
        decided = None if evidence is None else (decide(scope, parsed.id, evidence), evidence)
        return Placed(parsed, scope, decided)

    async def _decide(self, placed: Sequence[PlacedEntry]) -> list[Commit]:
        """Fold a batch over the records it concerns; when it needs one more, read that and fold again."""
        read: dict[Name, bytes | None] = {}
        wanted = _first_wanted(placed)
        while True:
            await self._read(read, wanted)
            try:
                return list(self._gather(placed, Ledger(read)))
            except MissingRecords as missing:
                wanted = missing.names

    async def _read(self, read: dict[Name, bytes | None], wanted: set[Name]) -> None:
        """Read records, and what those lead to, in as few round trips as possible."""
        while wanted:
            order = sorted(wanted)
            raws = await answer(self._redis.mget([self._key(name) for name in order]))
            read.update(zip(order, raws, strict=True))
            found = [(name, raw) for name, raw in zip(order, raws, strict=True) if raw]
            wanted = {other for name, raw in found for other in mentioned(name, raw)} - read.keys()

    def _key(self, name: Name) -> str:
        return self._keys.conversation(name.key) if name.space == CONVERSATION else self._keys.pointers(name.key)

    def _gather(self, placed: Sequence[PlacedEntry], ledger: Ledger) -> Iterator[Commit]:
        """Cut the elements into script calls; a capture's position goes with its last element."""
        commit = Commit()
        for entry, items in placed:
            for place, item in enumerate(items):
                if commit.full:
                    commit.records = ledger.take_writes()
                    yield commit
                    commit = Commit()
                if isinstance(item, Unreadable):
                    commit.letters.append((entry, place, item))
                else:
                    self._add(commit, entry, place, item, ledger)
            commit.position = entry.position
        if commit.position:
            commit.records = ledger.take_writes()
            yield commit

    def _add(self, commit: Commit, entry: Entry, place: int, placed: Placed, ledger: Ledger) -> None:
        """Fold one event into the records, and its envelope into the commit; what it merged is told before it."""
        event, scope = placed.event, placed.scope
        subject, shown, merges = scope.whole_account(), None, []
        if placed.decided is not None:
            decision, evidence = placed.decided
            at = max(0, unix_milliseconds(event.occurred_at or entry.capture.received_at))
            lines = entry.capture.line_addresses()
            folded = ledger.fold(scope, decision, evidence, lines, at, remember=_may_be_named_later(event))
            subject, merges = folded.subject, folded.merges
            shown = records.show(folded.conversation, subject, scope)
        for number, merge in enumerate(merges):
            merged = records.show(merge.conversation, merge.subject, scope)
            told = _merged_event(event, merge, number)
            commit.events.append(self._publication(entry, told, merge.subject, merged, *merge.merged))
        try:
            commit.events.append(self._publication(entry, event, subject, shown))
        except TypeError as error:  # one event that has no JSON must not stop the pipeline for good
            commit.letters.append((entry, place, Unreadable("unencodable", "$", str(error))))

    def _publication(
        self,
        entry: Entry,
        event: Event,
        subject: ConversationKey,
        shown: dict[str, Any] | None,
        *also: ConversationKey,
    ) -> Publication:
        """An event ready to be published, on the channels of its subject and of `also`; TypeError if it has no JSON."""
        half = envelope(event, entry.capture, subject, shown, replayed=entry.replayed)
        channels = [self._keys.channel(event.type, key) for key in (subject, *also)]
        return Publication(entry, event, subject, half, channels)

    # --- writing ---

    async def _write(self, commit: Commit, token: str, after: str) -> list[Outcome]:
        keys, args = self._arguments(commit, token, after)
        said = await answer(self._scripts.commit(keys=keys, args=args))
        if said[0] == b"record":
            raise StoreError("a conversation was changed from outside meanwhile; it must be decided again")
        if said[0] != b"ok":
            raise LeaseLost(f"commit refused: the {said[0].decode()} is another pipeline's by now")
        outcomes = [
            Outcome(published.entry, published.event, sequence)
            for published, sequence in zip(commit.events, said[1:], strict=True)
        ]
        return outcomes + [Outcome(entry, letter, None) for entry, _, letter in commit.letters]

    def _arguments(self, commit: Commit, token: str, after: str) -> tuple[list[str], list[Any]]:
        """KEYS and ARGV as `lua/commit.lua` documents them."""
        names = self._keys
        keys = [names.lease, names.cursor, names.events, names.bytes_of(names.events)]
        keys += [names.dead, names.bytes_of(names.dead)]
        args: list[Any] = [token, after, commit.position]
        args += [len(commit.records), len(commit.events), len(commit.letters)]
        for name, write in commit.records.items():
            keys.append(self._key(name))
            args += [write.expected, write.data, self._messages_seconds if write.expires else 0]
        for entry, event, subject, half, channels in commit.events:
            hashes, remembered = self._memory(entry.capture, event.id)
            keys += [*hashes, names.sequence(subject)]
            args += [*remembered, half.head, half.tail, "\n".join(channels)]
            args.append("0" if isinstance(event.body, Typing) else "1")
        for entry, place, letter in commit.letters:
            hashes, remembered = self._memory(entry.capture, f"{entry.capture.id}#dead{place}")
            keys += hashes
            args += [*remembered, entry.capture.id, letter.reason, f"{letter.path}: {letter.detail}"]
        return keys, args

    def _memory(self, capture: Capture, fact: str) -> tuple[list[str], list[Any]]:
        """Where one fact is remembered, and what the script needs to tell whether it is."""
        digest = blake2b(fact.encode(), digest_size=12).digest()
        seconds, window = int(capture.received_at.timestamp()), capture.facts.dedupe_seconds
        return self._keys.dedupe(digest, seconds, window), [self._keys.dedupe_field(digest), seconds, window]


def _first_wanted(placed: Sequence[PlacedEntry]) -> set[Name]:
    """The records that the events of a batch name by themselves."""
    decisions = [item.decided[0] for _, items in placed for item in items if isinstance(item, Placed) and item.decided]
    return {Name(CONVERSATION, decision.key) for decision in decisions} | {
        Name(POINTERS, pointer) for decision in decisions for pointer in decision.pointers
    }


def _may_be_named_later(event: Event) -> bool:
    """Whether a later fact may know its conversation by this one's ids: reports do, of messages that we sent.

    A person's message names its conversation itself each time it comes; remembering it would cost a record each.
    """
    message = getattr(event.body, "message", None)
    return message is None or message.direction == "outbound"


def _merged_event(cause: Event, merge: Merge, number: int) -> Event:
    """What tells readers that keys they know now resolve to another one; its cause's evidence decided that."""
    return Event(
        id=derived_event_id(cause.id, "merged" if number == 0 else f"merged:{merge.subject}"),
        body=ConversationMerged(merge.merged),
        occurred_at=cause.occurred_at,
        evidence=None,
        provider_type=cause.provider_type,
        provider_ids={},
    )
