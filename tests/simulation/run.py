"""Feeds simulated traffic through the real parsers and the real store on a real Redis, and has it judged."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
from redis.asyncio import Redis

from correlator.gathering import Entry
from correlator.lease import Lease
from correlator.store import DUPLICATE, Outcome, Store
from receiver.providers import PROVIDERS
from schemas.callback import Capture
from schemas.errors import ParseError
from schemas.events import Event, Parsed, Unreadable
from schemas.ids import CaptureId
from schemas.keyspace import Keyspace
from tests.simulation.dialects.sendblue import Sendblue
from tests.simulation.dialects.sinch import Sinch
from tests.simulation.dialects.telnyx import Telnyx
from tests.simulation.dialects.whatsapp import WhatsApp
from tests.simulation.judge import Judge, Verdict
from tests.simulation.traffic import Delivery, Named, Traffic
from tests.simulation.truth import Label, Oracle

BATCH = 256
_ID_KEY = b"a secret of the simulation"
_MESSAGES_SECONDS = 30 * 86400
_LEASE_SECONDS = 3600.0


class _Shown(msgspec.Struct):
    provisional: bool


class _Data(msgspec.Struct):
    conversation: _Shown | None = None
    merged: tuple[str, ...] = ()


class _Envelope(msgspec.Struct):
    """Of an event in the stream, what a subscriber needs to follow conversations."""

    id: str
    subject: str
    data: _Data


_envelopes = msgspec.json.Decoder(_Envelope)


class Settings(msgspec.Struct, frozen=True):
    """What to simulate. `registrations` and `user_ids` switch whole kinds of evidence off."""

    callbacks: int
    seed: int = 7
    registrations: bool = True
    user_ids: bool = True


class Result(msgspec.Struct, frozen=True):
    """What a run did, and what came of it."""

    verdict: Verdict
    #: Callbacks and events by provider; duplicates that were recognised.
    callbacks: Counter[str]
    events: Counter[str]
    duplicates: Counter[str]
    #: Why facts are unaccounted for.
    unaccounted: Counter[str]
    seconds: float


def traffic(settings: Settings, oracle: Oracle) -> Iterator[Delivery]:
    """All deliveries of a run, made as they are asked for."""
    made = Traffic(
        settings.seed,
        settings.callbacks,
        registrations=settings.registrations,
        user_ids=settings.user_ids,
        oracle=oracle,
    )
    dialects = {
        "telnyx": Telnyx(made).act,
        "sendblue": Sendblue(made).act,
        "sinch": Sinch(made).act,
        "whatsapp": WhatsApp(made).act,
    }
    return made.deliveries(dialects)


async def simulate(
    redis: Redis, settings: Settings, keyspace: Keyspace, progress: Callable[[int], None] = lambda _: None
) -> Result:
    """The whole run. `progress` is told how many callbacks are committed."""
    oracle = Oracle()
    run = _Run(redis, keyspace, Judge(oracle))
    began = time.perf_counter()
    deliveries = traffic(settings, oracle)
    await run.start()
    while batch := list(islice(deliveries, BATCH)):
        await run.commit(batch)
        progress(run.callbacks.total())
    seconds = time.perf_counter() - began
    judge = run.judge
    return Result(judge.verdict(), run.callbacks, run.events, run.duplicates, judge.unaccounted, seconds)


class _Run:
    """A store with the lease in hand, and the judge behind it."""

    def __init__(self, redis: Redis, keyspace: Keyspace, judge: Judge) -> None:
        self.judge = judge
        self.callbacks: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()
        self._redis: Any = redis
        self._keys = keyspace
        self._store = Store(redis, keyspace, _ID_KEY, _MESSAGES_SECONDS)
        self._lease = Lease(redis, keyspace, _LEASE_SECONDS)
        self._after = ""
        self._count = 0

    async def start(self) -> None:
        """Take the lease."""
        assert await self._lease.take()

    async def commit(self, batch: Sequence[Delivery]) -> None:
        """Parse and commit one batch, then read what was published of it."""
        entries = [self._entry(delivery) for delivery in batch]
        outcomes = await self._store.commit(self._lease.token, self._after, entries)
        self._after = entries[-1].position
        subjects = await self._read()
        labels: dict[tuple[str, str], tuple[Label | None, Delivery]] = {}
        for entry, delivery in zip(entries, batch, strict=True):
            self.callbacks[entry.capture.provider] += 1
            for event, label in self._labelled(entry.parsed, delivery.posting.labels):
                labels[entry.position, event.id] = (label, delivery)
        for outcome in outcomes:
            self._judge(outcome, labels, subjects)

    def _entry(self, delivery: Delivery) -> Entry:
        self._count += 1
        posting = delivery.posting
        capture = Capture(
            id=CaptureId(f"cp_{self._count:032x}"),
            kind=posting.kind,
            provider=posting.account.provider,
            account=posting.account.name,
            received_at=datetime.fromtimestamp(delivery.at, UTC),
            assurance="signed",
            headers=(),
            body=delivery.body,
            facts=posting.account.facts,
        )
        return Entry(f"{self._count}-0", capture, _parsed(capture))

    def _labelled(self, parsed: Sequence[Parsed], labels: Sequence[Named]) -> Iterator[tuple[Event, Label | None]]:
        """Each event with the label that is its; in order where the names agree, else by name."""
        events = [item for item in parsed if isinstance(item, Event)]
        self.judge.unaccounted["dead letter"] += len(parsed) - len(events)
        if len(labels) == 1:
            return ((event, labels[0][1]) for event in events)
        named = list(zip(events, labels, strict=False))
        if len(events) == len(labels) and all(name in _names(event) for event, (name, _) in named if name):
            return ((event, label) for event, (_, label) in named)
        return self._by_name(events, labels)

    def _by_name(self, events: Sequence[Event], labels: Sequence[Named]) -> Iterator[tuple[Event, Label | None]]:
        for event in events:
            names = _names(event)
            found = [label for name, label in labels if name in names]
            if not found:
                self.judge.unaccounted["without a label"] += 1
            yield event, found[0] if found else None

    def _judge(
        self,
        outcome: Outcome,
        labels: dict[tuple[str, str], tuple[Label | None, Delivery]],
        subjects: dict[str, str],
    ) -> None:
        event, provider = outcome.parsed, outcome.entry.capture.provider
        name = (outcome.entry.position, getattr(event, "id", ""))
        if not isinstance(event, Event) or name not in labels:
            return  # a consequence of another event, or counted as a dead letter
        label, delivery = labels[name]
        is_duplicate = outcome.sequence == DUPLICATE
        if is_duplicate != delivery.repeated:
            self.judge.unaccounted["taken for a duplicate" if is_duplicate else "published twice"] += 1
        if is_duplicate:
            self.duplicates[provider] += 1
            return
        self.events[provider] += 1
        if label is not None:
            self.judge.published(label, subjects[event.id])

    async def _read(self) -> dict[str, str]:
        """What was published since the last time: the subject of each event id. It is not kept."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.xrange(self._keys.events)
        pipe.xtrim(self._keys.events, maxlen=0, approximate=False)
        found, _ = await pipe.execute()
        subjects: dict[str, str] = {}
        for _, fields in found:
            envelope = _envelopes.decode(fields[b"event"])
            subjects[envelope.id] = envelope.subject
            if envelope.data.merged:
                self.judge.merged(envelope.subject, envelope.data.merged)
            if envelope.data.conversation is not None:
                self.judge.shown(envelope.subject, provisional=envelope.data.conversation.provisional)
        return subjects


def _parsed(capture: Capture) -> tuple[Parsed, ...]:
    provider = PROVIDERS[capture.provider]
    try:
        return tuple((provider.register if capture.kind == "outbound" else provider.parse)(capture))
    except ParseError as error:
        return (Unreadable(error.reason, error.path, error.detail),)


def _names(event: Event) -> set[str]:
    """Every name that a label can go by."""
    message, status = getattr(event.body, "message", None), getattr(event.body, "status", None)
    names = {message.id if message is not None else None, status.recipient if status is not None else None}
    evidence = event.evidence
    if evidence is not None:
        names |= {evidence.contact, *(evidence.identity.parts if evidence.identity is not None else ())}
    return {name for name in names if name}
