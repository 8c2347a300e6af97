"""Commits what callbacks say: decides in Python over records looked up once, then writes with one script call.

Everything that is decided is decided by pure code over records read from Redis; the script only checks that these
records, the lease and the cursor are still what the decision was made on, and then writes all of it. Redis is the only
place where anything is remembered.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from redis.asyncio import Redis

from correlator import conversation as records
from correlator.conversation import Conversation
from correlator.identity import Decision, decide
from correlator.scripts import Scripts, answer
from schemas.callback import Capture
from schemas.clock import unix_milliseconds
from schemas.envelope import HalfEnvelope, envelope
from schemas.errors import LeaseLost, StoreError
from schemas.events import Event, Evidence, Parsed, Typing, Unreadable
from schemas.ids import ConversationKey, Scope
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


class Write(msgspec.Struct):
    """What one script call does to one record: from the bytes expected to the bytes to set."""

    expected: bytes
    bytes: bytes
    provisional: bool


class Commit(msgspec.Struct):
    """What goes into one script call, as it is gathered."""

    records: dict[ConversationKey, Write] = {}
    events: list[tuple[Entry, Event, ConversationKey, HalfEnvelope]] = []
    #: With the place of the element in its capture, which makes it the same letter when it is committed again.
    letters: list[tuple[Entry, int, Unreadable]] = []
    #: The log position reached when all of it is written; empty: still inside one capture.
    position: str = ""

    @property
    def full(self) -> bool:
        """Whether the next element belongs into another call."""
        return len(self.events) + len(self.letters) >= MAX_EVENTS


class Known(msgspec.Struct, frozen=True):
    """A record as it stands in Redis, or will once the commits before are written."""

    bytes: bytes
    conversation: Conversation


Book = dict[ConversationKey, Known]


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
        book = await self._look_up(placed)
        outcomes: list[Outcome] = []
        for commit in self._gather(placed, book):
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

    async def _look_up(self, placed: Sequence[tuple[Entry, list[Placed | Unreadable]]]) -> Book:
        """The records of all conversations concerned, and of those they resolve to, in as few reads as possible."""
        wanted = {
            item.decided[0].key
            for _, items in placed
            for item in items
            if isinstance(item, Placed) and item.decided is not None
        }
        book: Book = {}
        while wanted:
            order = sorted(wanted)
            raws = await answer(self._redis.mget([self._keys.conversation(key) for key in order]))
            found = {key: Known(raw, records.decode(raw)) for key, raw in zip(order, raws, strict=True) if raw}
            book |= found
            targets = {known.conversation.merged_into for known in found.values()}
            wanted = {target for target in targets if target} - book.keys()
        return book

    def _gather(self, placed: Sequence[tuple[Entry, list[Placed | Unreadable]]], book: Book) -> Iterator[Commit]:
        """Cut the elements into script calls; a capture's position goes with its last element."""
        commit = Commit()
        for entry, items in placed:
            for place, item in enumerate(items):
                if commit.full:
                    yield commit
                    commit = Commit()
                if isinstance(item, Unreadable):
                    commit.letters.append((entry, place, item))
                else:
                    self._add(commit, entry, place, item, book)
            commit.position = entry.position
        if commit.position:
            yield commit

    def _add(self, commit: Commit, entry: Entry, place: int, placed: Placed, book: Book) -> None:
        """Fold one event into the records, and its envelope into the commit."""
        if placed.decided is None:
            subject, shown = placed.scope.whole_account(), None
        else:
            decision, evidence = placed.decided
            subject = _survivor(decision.key, book)
            at = max(0, unix_milliseconds(placed.event.occurred_at or entry.capture.received_at))
            known = book.get(subject)
            conversation = records.absorb(
                known.conversation if known else None, decision, evidence, entry.capture.line_addresses(), at
            )
            _note(commit, book, subject, conversation)
            shown = records.show(conversation, subject, placed.scope)
        try:
            half = envelope(placed.event, entry.capture, subject, shown, replayed=entry.replayed)
        except TypeError as error:  # one event that has no JSON must not stop the pipeline for good
            commit.letters.append((entry, place, Unreadable("unencodable", "$", str(error))))
        else:
            commit.events.append((entry, placed.event, subject, half))

    # --- writing ---

    async def _write(self, commit: Commit, token: str, after: str) -> list[Outcome]:
        keys, args = self._arguments(commit, token, after)
        said = await answer(self._scripts.commit(keys=keys, args=args))
        if said[0] == b"record":
            raise StoreError("a conversation was changed from outside meanwhile; it must be decided again")
        if said[0] != b"ok":
            raise LeaseLost(f"commit refused: the {said[0].decode()} is another pipeline's by now")
        outcomes = [
            Outcome(entry, event, sequence)
            for (entry, event, _, _), sequence in zip(commit.events, said[1:], strict=True)
        ]
        return outcomes + [Outcome(entry, letter, None) for entry, _, letter in commit.letters]

    def _arguments(self, commit: Commit, token: str, after: str) -> tuple[list[str], list[Any]]:
        """KEYS and ARGV as `lua/commit.lua` documents them."""
        names = self._keys
        keys = [names.lease, names.cursor, names.events, names.bytes_of(names.events)]
        keys += [names.dead, names.bytes_of(names.dead)]
        args: list[Any] = [token, after, commit.position]
        args += [len(commit.records), len(commit.events), len(commit.letters)]
        for subject, write in commit.records.items():
            keys.append(names.conversation(subject))
            args += [write.expected, write.bytes, self._messages_seconds if write.provisional else 0]
        for entry, event, subject, half in commit.events:
            hashes, remembered = self._memory(entry.capture, event.id)
            keys += [*hashes, names.sequence(subject)]
            args += [*remembered, half.head, half.tail]
            args += [names.channel(event.type, subject), "0" if isinstance(event.body, Typing) else "1"]
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


def _note(commit: Commit, book: Book, subject: ConversationKey, after: Conversation) -> None:
    """Have the commit leave a record so; what it expects to find stays what it was before this commit."""
    known = book.get(subject)
    before = known.bytes if known else b""
    data = before if known and after is known.conversation else records.encode(after)
    expected = commit.records[subject].expected if subject in commit.records else before
    commit.records[subject] = Write(expected, data, after.provisional)
    book[subject] = Known(data, after)


def _survivor(key: ConversationKey, book: Book) -> ConversationKey:
    """Follow redirects; their chain is short and has an end, because a merge goes to the survivor."""
    while key in book and (target := book[key].conversation.merged_into):
        key = target
    return key
