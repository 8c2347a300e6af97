"""What a sender was answered against what the stream holds: missing, doubled, out of order, numbered wrongly. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tests.chaos.facts import SPOILT
from tests.chaos.ledger import Entry, Ledger

#: How many offenders a verdict names.
_NAMED = 5


class Seen(msgspec.Struct, frozen=True):
    """One event of the stream."""

    id: str
    subject: str
    #: Sixteen digits.
    sequence: str


class Letter(msgspec.Struct, frozen=True):
    """One dead letter: whose callback it was of, as far as its capture is there still to tell; and why."""

    fact: str
    reason: str


class Offence(msgspec.Struct, frozen=True):
    """One kind of thing that must not be, and who does it."""

    what: str
    ids: list[str]

    def __str__(self) -> str:
        more = f" and {len(self.ids) - _NAMED} more" if len(self.ids) > _NAMED else ""
        return f"{self.what}: {len(self.ids)}: {', '.join(self.ids[:_NAMED])}{more}"


class Verdict(msgspec.Struct, frozen=True):
    """What is wrong, by kind; and how many events of facts there were."""

    events: int
    missing: list[Entry]
    doubled: list[str]
    out_of_order: list[str]
    others: list[Offence]

    @property
    def offences(self) -> list[Offence]:
        """All that is wrong."""
        told = [
            Offence("answered 200 and not in the stream", [entry.told.event_id for entry in self.missing]),
            Offence("in the stream more than once", self.doubled),
            Offence("before what was answered earlier", self.out_of_order),
            *self.others,
        ]
        return [each for each in told if each.ids]


def judge(ledger: Ledger, events: Sequence[Seen], letters: Sequence[Letter] = ()) -> Verdict:
    """Hold a whole stream, oldest first, against the ledger.

    Facts that were posted and never answered 200 may be in the stream, once: the answer was lost, not the callback.
    """
    known = {entry.told.event_id: entry for entry in ledger.entries.values()}
    readable = [entry for entry in ledger.answered if not entry.told.spoilt]
    counts = Counter(event.id for event in events)
    return Verdict(
        events=sum(1 for event in events if event.id in known),
        missing=[entry for entry in readable if entry.told.event_id not in counts],
        doubled=[name for name, count in counts.items() if count > 1],
        out_of_order=list(_out_of_order(events, known)),
        others=[
            Offence("of no fact that was posted", [event.id for event in events if _cause(event.id) not in known]),
            Offence("subjects whose sequence has a gap or a repeat", _miscounted(events)),
            Offence("conversations and subjects that are not one and the same", _mixed(events, known)),
            *_misjudged(ledger, letters),
        ],
    )


def _cause(event_id: str) -> str:
    """The fact that an event follows from, `…#members` for example; mostly itself."""
    return event_id.partition("#")[0]


def _out_of_order(events: Iterable[Seen], known: Mapping[str, Entry]) -> Iterable[str]:
    """Facts that were answered before another was first posted, and stand behind it all the same."""
    latest_sent_at = 0.0
    for event in events:
        entry = known.get(event.id)
        if entry is None:
            continue
        if entry.answered_at is not None and entry.answered_at < latest_sent_at:
            yield event.id
        latest_sent_at = max(latest_sent_at, entry.first_sent_at)


def _miscounted(events: Iterable[Seen]) -> list[str]:
    """Subjects that do not count 1, 2, 3 … in the order of the stream."""
    latest: dict[str, int] = defaultdict(int)
    wrong: dict[str, None] = {}
    for event in events:
        if int(event.sequence) != latest[event.subject] + 1:
            wrong[event.subject] = None
        latest[event.subject] = int(event.sequence)
    return [*wrong]


def _mixed(events: Iterable[Seen], known: Mapping[str, Entry]) -> list[str]:
    """Subjects of two conversations, and conversations with two subjects."""
    pairs = {
        (event.subject, f"{entry.told.provider} {entry.told.conversation}")
        for event in events
        if (entry := known.get(event.id)) is not None
    }
    subjects, conversations = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    return [name for counts in (subjects, conversations) for name, count in counts.items() if count > 1]


def _misjudged(ledger: Ledger, letters: Sequence[Letter]) -> list[Offence]:
    """Dead letters that should not be, or should and are not, or give another reason."""
    spoilt = {entry.told.name: entry for entry in ledger.entries.values() if entry.told.spoilt}
    reasons: dict[str, set[str]] = defaultdict(set)
    for letter in letters:  # each redelivery is a capture of its own, and has a letter of its own
        reasons[letter.fact].add(letter.reason)
    wanted = {name: {SPOILT[entry.told.spoilt].reason} for name, entry in spoilt.items()}
    return [
        Offence(
            "dead letters of good callbacks", [f"{name} {why}" for name, why in reasons.items() if name not in spoilt]
        ),
        Offence(
            "unreadable callbacks without a dead letter of their own",
            [name for name, entry in spoilt.items() if entry.answered_at is not None and name not in reasons],
        ),
        Offence(
            "dead letters that give another reason",
            [f"{name} {why}" for name, why in reasons.items() if name in wanted and why != wanted[name]],
        ),
    ]
