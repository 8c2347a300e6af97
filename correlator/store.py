"""Commits what callbacks say: decides in Python over records looked up once, then writes with one script call.

Everything that is decided is decided by pure code over records read from Redis; the script only checks that these
records, the lease and the cursor are still what the decision was made on, and then writes all of it. Redis is the only
place where anything is remembered.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from redis.asyncio import Redis

from correlator.gathering import Commit, Entry, Gathering, Publication
from correlator.index import index_changes, is_numbered, message_term, record_key
from correlator.ledger import Ledger
from correlator.reading import anticipated, foreseen, read
from correlator.records import Name, Write
from correlator.scripts import Scripts, answer
from schemas.callback import Capture
from schemas.errors import LeaseLost, StoreError
from schemas.events import Event, Message, Parsed, Typing, Unreadable
from schemas.ids import EventId, Scope
from schemas.keyspace import DAY_SECONDS, IDENTIFIER_GENERATION_SECONDS, Keyspace
from schemas.value import Value

PUBLISHED_ONLY, DUPLICATE = 0, -1

#: What the script is to do with an event.
_PUBLISH, _APPEND, _APPEND_AGAIN = 0, 1, 2
#: Where an event's number is, if not in a record of its commit.
_IN_ANOTHER_RECORD, _COUNTER = 0, -1
_PACKER = msgspec.msgpack.Encoder()


class Outcome(Value, frozen=True):
    """What became of one parsed element: `sequence` is its number, or PUBLISHED_ONLY, or DUPLICATE; None: dead."""

    entry: Entry
    parsed: Parsed
    sequence: int | None
    #: Whether it is of a conversation of which only a message is known.
    provisional: bool = False


class Store:
    """The conversations, events and dead letters of one partition of a namespace."""

    def __init__(
        self,
        redis: Redis,
        keyspace: Keyspace,
        id_key: bytes,
        messages_seconds: int,
        *,
        again: Callable[[EventId], bool] | None = None,
    ) -> None:
        """A store.

        Args:
            redis: its client.
            keyspace: where it writes.
            id_key: what keys are derived under.
            messages_seconds: how long a provisional conversation lives that nobody identifies.
            again: which events are published though they were before: those that a repair brings back.
        """
        self._again = again
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

    async def commit(
        self, token: str, after: str, entries: Sequence[Entry], *, in_place: bool = False
    ) -> list[Outcome]:
        """Commit captures in their order: each event once, and the cursor with them.

        Args:
            token: the lease's.
            after: the cursor, as of now.
            entries: what follows it in the log, without a gap.
            in_place: leave the cursor where it is: the entries are a replay of what lies before it, or elsewhere.

        Raises LeaseLost when the lease or cursor is another's by now; StoreError when Redis fails. What was
        committed before either stays, and committing the rest again repeats nothing.
        """
        commits = await self._decide(entries)
        for commit in commits if in_place else ():
            commit.position = ""
        return await self.write(commits, token, after)

    # --- deciding ---

    def _scope(self, capture: Capture) -> Scope:
        name = (capture.provider, capture.account)
        if name not in self._scopes:
            self._scopes[name] = Scope(self._id_key, self._keys.keys_of, *name)
        return self._scopes[name]

    async def _decide(self, entries: Sequence[Entry]) -> list[Commit]:
        """Fold a batch over the records it concerns, reading what it turns out to want beside what was foreseen."""
        known: dict[Name, bytes | None] = {}
        told = [
            (self._scope(entry.capture), parsed, parsed.evidence, entry.capture.line_addresses())
            for entry in entries
            for parsed in entry.parsed
            if isinstance(parsed, Event) and parsed.evidence is not None
        ]
        await read(self._redis, self._keys, known, {name for fact in told for name in foreseen(*fact)})
        more = {name for scope, event, evidence, _ in told for name in anticipated(scope, event, evidence, known)}
        await read(self._redis, self._keys, known, more)
        gathering = Gathering(Ledger(known), self._keys, self._scope)
        for missing in gathering.gather(entries):
            await read(self._redis, self._keys, known, missing)
        return gathering.commits

    # --- writing ---

    async def write(self, commits: Sequence[Commit], token: str, after: str) -> list[Outcome]:
        """Write what was decided, a script call for each commit. Raises as `commit` does."""
        outcomes: list[Outcome] = []
        for run in _runs(commits):
            calls = []
            for commit in run:
                calls.append(self._arguments(commit, token, after))
                after = commit.position or after
            for commit, said in zip(run, await answer(self._scripts.commit_each(calls)), strict=True):
                outcomes += _outcomes(commit, said)
        return outcomes

    def _arguments(self, commit: Commit, token: str, after: str) -> tuple[list[str], list[Any]]:
        """KEYS and ARGV as `lua/commit.lua` documents them."""
        names = self._keys
        changes = list(index_changes(names, commit.records))
        generations = _Generations(names)
        more: list[str] = []
        places = {name.key: place for place, name in enumerate(commit.records, 1) if is_numbered(name)}
        events = [self._event(published, places, generations, more) for published in commit.events]
        letters = [self._letter(*letter, generations, more) for letter in commit.letters]
        keys = [names.lease, names.cursor, names.events, names.bytes_of(names.events)]
        keys += [names.dead, names.bytes_of(names.dead)]
        keys += [record_key(names, name) for name in commit.records]
        keys += [change.key for change in changes]
        keys += [*generations.marks, *more]
        records = [self._record(name, write) for name, write in commit.records.items()]
        index = [(change.added, _text(change.member)) for change in changes]
        written = _PACKER.encode((records, index, generations.seconds, events, letters))
        return keys, [token, after, commit.position, 2 * IDENTIFIER_GENERATION_SECONDS, written]

    def _record(self, name: Name, write: Write) -> tuple[Any, ...]:
        """What is written of a record."""
        data = False if write.data == write.expected else write.data.decode()
        return write.expected.decode(), data, self._messages_seconds if write.after.expires else 0, is_numbered(name)

    def _event(
        self, published: Publication, places: Mapping[str, int], generations: "_Generations", keys: list[str]
    ) -> tuple[Any, ...]:
        """What is written of an event; its keys are added. `places`: of the conversations in this commit."""
        entry, event, subject, half = published.entry, published.event, published.subject, published.half
        hashes, remembered = self._memory(entry.capture, event.id, generations)
        keys += hashes
        place = places.get(subject, _IN_ANOTHER_RECORD) if published.numbered_there else _COUNTER
        if place <= 0:
            keys.append((self._keys.conversation if published.numbered_there else self._keys.sequence)(subject))
        noted = self._noted(event, entry.capture)
        field = b""
        if noted is not None:
            ids, field = noted
            keys.append(ids)
        head, tail, channels = half.head.decode(), half.tail.decode(), "\n".join(published.channels)
        return (*remembered, head, tail, channels, self._way(event), place, _text(field), subject)

    def _letter(
        self, entry: Entry, place: int, letter: Unreadable, generations: "_Generations", keys: list[str]
    ) -> tuple[Any, ...]:
        """What is written of a dead letter; its keys are added."""
        hashes, remembered = self._memory(entry.capture, f"{entry.capture.id}#dead{place}", generations)
        keys += hashes
        return (*remembered, entry.capture.id, letter.reason, f"{letter.path}: {letter.detail}")

    def _way(self, event: Event) -> int:
        """Whether an event goes to pub/sub only, or into the stream, and if so though it was there before."""
        if isinstance(event.body, Typing):
            return _PUBLISH
        return _APPEND_AGAIN if self._again is not None and self._again(event.id) else _APPEND

    def _noted(self, event: Event, capture: Capture) -> tuple[str, bytes] | None:
        """Where a person's message can be looked up by its id; messages of ours are found by their pointers."""
        message: Message | None = getattr(event.body, "message", None)
        if message is None or message.direction == "outbound" or message.id is None:
            return None
        term = message_term(self._scope(capture).path, message.id)
        return self._keys.identifiers(term, int(capture.received_at.timestamp()))[0]

    def _memory(
        self, capture: Capture, fact: str, generations: "_Generations"
    ) -> tuple[list[str], tuple[msgspec.Raw, int, int, int]]:
        """Where one fact is remembered, and what the script needs to tell whether it is."""
        digest = blake2b(fact.encode(), digest_size=12).digest()
        seconds, window = int(capture.received_at.timestamp()), capture.facts.dedupe_seconds
        place, marks = generations.of(seconds, window)
        return self._keys.dedupe(digest, marks), (_text(self._keys.dedupe_field(digest)), seconds, window, place)


class _Generations:
    """The generations of de-duplication that one commit writes to."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keys = keyspace
        #: By day and window: the place, from 1 on, and the marks.
        self._known: dict[tuple[int, int], tuple[int, list[str]]] = {}
        #: All marks, and how long those of each place live.
        self.marks: list[str] = []
        self.seconds: list[int] = []

    def of(self, seconds: int, window: int) -> tuple[int, list[str]]:
        """Where the generation stands that something received at `seconds` is remembered in, and its marks."""
        day = seconds // DAY_SECONDS
        known = self._known.get((day, window))
        if known is None:
            marks = self._keys.dedupe_marks(day, window)
            known = self._known[day, window] = (len(self._known) + 1, marks)
            self.marks += marks
            self.seconds.append(3 * window + 2 * DAY_SECONDS)
        return known


def _text(data: bytes) -> msgspec.Raw:
    """Bytes that are no text, written as one: the MessagePack reader inside Redis knows no other kind of bytes."""
    return msgspec.Raw(b"\xda" + len(data).to_bytes(2, "big") + data)


def _runs(commits: Sequence[Commit]) -> list[list[Commit]]:
    """Which commits may be sent without waiting for the one before: where that one fails, they do.

    Each expects the cursor that the one before sets. One that sets none, as it ends inside a capture or is a replay in
    place, ends its run: what comes after it would be taken though it failed itself.
    """
    runs: list[list[Commit]] = [[]]
    for commit in commits:
        runs[-1].append(commit)
        if not commit.position:
            runs.append([])
    return [run for run in runs if run]


def _outcomes(commit: Commit, said: Sequence[Any]) -> list[Outcome]:
    """What the script has said of a commit. Raises as `commit` does."""
    if said[0] == b"record":
        raise StoreError("a conversation was changed from outside meanwhile; it must be decided again")
    if said[0] != b"ok":
        raise LeaseLost(f"commit refused: the {said[0].decode()} is another pipeline's by now")
    outcomes = [
        Outcome(published.entry, published.event, sequence, published.provisional)
        for published, sequence in zip(commit.events, said[1:], strict=True)
    ]
    return outcomes + [Outcome(entry, letter, None) for entry, _, letter in commit.letters]
