"""Folds a batch of captures into commits: what each element becomes, cut into script calls. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from correlator.conversation import Conversation, show
from correlator.ledger import Fact, Folded, Ledger, Told
from correlator.records import MissingRecords, Name, Write
from schemas.callback import Capture
from schemas.clock import unix_milliseconds
from schemas.envelope import HalfEnvelope, envelope
from schemas.events import Event, Evidence, Linked, Parsed, Unreadable
from schemas.ids import ConversationKey, EventId, Scope, derived_event_id
from schemas.keyspace import Keyspace
from schemas.value import Value

#: Events in one script call: more would hold up the captures that other clients write meanwhile.
MAX_EVENTS = 32


class Entry(Value, frozen=True):
    """One capture with what was read from it, and where it stands in the capture log."""

    position: str
    capture: Capture
    parsed: tuple[Parsed, ...]
    replayed: bool = False


class Publication(Value, frozen=True):
    """One event as the script gets it."""

    entry: Entry
    event: Event
    subject: ConversationKey
    half: HalfEnvelope
    channels: list[str]
    #: Whether its number stands in the subject's record: an identity's, which lives as long as the number must.
    numbered_there: bool
    #: Whether the subject is a conversation of which only a message is known.
    provisional: bool


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


class Gathering:
    """Folds the elements of a batch and cuts them into script calls; a capture's position goes with its last one."""

    def __init__(self, ledger: Ledger, keyspace: Keyspace, scope_of: Callable[[Capture], Scope]) -> None:
        self._ledger = ledger
        self._keys = keyspace
        self._scope_of = scope_of
        self._commit = Commit()
        #: What was gathered so far, in order.
        self.commits: list[Commit] = []

    def gather(self, entries: Sequence[Entry]) -> Iterator[set[Name]]:
        """Gather a batch. Gives the names of records that it cannot go on without, each time it wants some."""
        for entry in entries:
            for place, parsed in enumerate(entry.parsed):
                if self._commit.full:
                    self._cut()
                while missing := self._missing(entry, place, parsed):
                    yield missing
            self._commit.position = entry.position
        if self._commit.position:
            self._cut()

    def _missing(self, entry: Entry, place: int, parsed: Parsed) -> set[Name] | None:
        """Add one element; the names of records that have to be read before it can be, None once it is added."""
        try:
            self._add(entry, place, parsed)
        except MissingRecords as missing:
            return missing.names
        return None

    def _cut(self) -> None:
        self._commit.records = self._ledger.take_writes()
        self.commits.append(self._commit)
        self._commit = Commit()

    def _add(self, entry: Entry, place: int, parsed: Parsed) -> None:
        """Fold one element into the records, and its envelope into the commit; what it brought about comes first."""
        if isinstance(parsed, Unreadable):
            self._commit.letters.append((entry, place, parsed))
            return
        scope = self._scope_of(entry.capture)
        if isinstance(parsed, Linked):
            self._tell(entry, parsed.id, None, self._ledger.link(scope, parsed, order_of(entry.position, place)))
            return
        subject, known, more = scope.whole_account(), None, {}
        if parsed.evidence is not None:
            folded = self._ledger.fold(_fact(scope, entry, place, parsed, parsed.evidence))
            if folded.told:
                self._tell(entry, parsed.id, parsed, folded.told)
            subject, known, more = folded.subject, folded.conversation, _beside(folded)
            if folded.body is not parsed.body:
                parsed = msgspec.structs.replace(parsed, body=folded.body)
        try:
            self._publish(entry, parsed, subject, known, more=more)
        except TypeError as error:  # one event that has no JSON must not stop the pipeline for good
            self._commit.letters.append((entry, place, Unreadable("unencodable", "$", str(error))))

    def _tell(self, entry: Entry, cause: EventId, event: Event | None, told: Sequence[Told]) -> None:
        """Publish what follows from a fact or a person's word, as events of their own."""
        words: set[str] = set()
        for item in told:
            word = item.word if item.word not in words else f"{item.word}:{item.subject}"
            words.add(item.word)
            consequence = Event(
                id=derived_event_id(cause, word),
                body=item.body,
                occurred_at=event.occurred_at if event else None,
                evidence=None,
                provider_type=event.provider_type if event else entry.capture.kind,
                provider_ids={},
            )
            self._publish(entry, consequence, item.subject, item.conversation, more={}, also=item.also)

    def _publish(
        self,
        entry: Entry,
        event: Event,
        subject: ConversationKey,
        known: Conversation | None,
        *,
        more: dict[str, Any],
        also: Sequence[ConversationKey] = (),
    ) -> None:
        """Add an event to the commit, on the channels of its subject and of `also`; TypeError if it has no JSON."""
        shown = None if known is None else show(known, subject, self._scope_of(entry.capture))
        half = envelope(event, entry.capture, subject, shown, more=more, replayed=entry.replayed)
        channels = [self._keys.channel(event.type, key) for key in (subject, *also)]
        numbered_there = known is not None and known.is_identity
        provisional = known is not None and not known.is_identity
        self._commit.events.append(Publication(entry, event, subject, half, channels, numbered_there, provisional))


def order_of(position: str, place: int) -> int:
    """An element's place in the log as a number: 41 bits of milliseconds, ten of the entry, ten of the element.

    Whatever is beyond the thousandth of its kind counts as told at the same time.
    """
    milliseconds, _, counter = position.partition("-")
    return int(milliseconds) << 20 | min(int(counter), 1023) << 10 | min(place, 1023)


def _fact(scope: Scope, entry: Entry, place: int, event: Event, evidence: Evidence) -> Fact:
    capture = entry.capture
    return Fact(
        scope=scope,
        event=event,
        evidence=evidence,
        order=order_of(entry.position, place),
        at=max(0, unix_milliseconds(event.occurred_at or capture.received_at)),
        received_at=capture.received_at,
        lines=capture.line_addresses(),
        copy_window_milliseconds=int(capture.facts.copy_window_seconds * 1000),
    )


def _beside(folded: Folded) -> dict[str, Any]:
    """What the envelope says beside the event itself."""
    more: dict[str, Any] = {}
    if folded.rollup is not None:
        more["rollup"] = folded.rollup
    if folded.copy_of is not None:
        more["copy_of"] = folded.copy_of
    return more
