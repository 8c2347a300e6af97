"""Compares what a subscriber was told with the truth, and says what of it is wrong. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from schemas.address import mask
from tests.simulation.truth import Expected, Label, Oracle, Truth

_OFFENDERS: Final = 5


class Verdict(msgspec.Struct, frozen=True):
    """What came of a run. Everything in `wrong` has to be 0."""

    #: Surviving keys that hold facts of two true conversations.
    wrong_merges: int
    #: What evidence determines to be one conversation, and has several surviving keys.
    splits: int
    #: Determined facts that are in a provisional conversation.
    left_open: int
    #: Undetermined facts that are neither in a provisional conversation nor where their true one is.
    astray: int
    #: Facts that no label is for, or that were swallowed as somebody else's duplicate, or published twice.
    unaccounted: int
    facts: int
    determined: int
    conversations: int
    survivors: int
    #: Undetermined facts by account and reason, that stayed provisional, and that found their conversation.
    provisional: Mapping[tuple[str, str], int]
    found_anyway: Mapping[tuple[str, str], int]
    #: True conversations of which evidence makes several, for no callback ties them.
    beyond_evidence: int
    offenders: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether all is as it must be."""
        return not (self.wrong_merges or self.splits or self.left_open or self.astray or self.unaccounted)


class Judge:
    """Collects what is published, as a subscriber would, and compares it at the end."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._labels: list[Label] = []
        self._subjects: list[str] = []
        self._leads: dict[str, str] = {}
        self._provisional: dict[str, bool] = {}
        self.unaccounted: Counter[str] = Counter()

    def published(self, label: Label, subject: str) -> None:
        """A fact was published under a subject."""
        self._labels.append(label)
        self._subjects.append(subject)

    def shown(self, subject: str, *, provisional: bool) -> None:
        """An event says whether its conversation is provisional; the last one holds."""
        self._provisional[subject] = provisional

    def merged(self, subject: str, keys: Iterable[str]) -> None:
        """An event says that keys resolve to its subject; the last one holds."""
        for key in keys:
            self._leads[key] = subject

    def survivor(self, key: str) -> str:
        """What a key resolves to."""
        seen = {key}
        while (key in self._leads) and (key := self._leads[key]) not in seen:
            seen.add(key)
        return key

    def verdict(self) -> Verdict:
        """The whole of it, once the history is over."""
        self._oracle.settle()
        survivors = {subject: self.survivor(subject) for subject in set(self._subjects)}
        found = _Findings()
        for label, subject in zip(self._labels, self._subjects, strict=True):
            expected, reason = self._oracle.expected(label)
            found.add(label.truth, expected, reason, survivors[subject])
        return found.verdict(self._provisional, sum(self.unaccounted.values()))


class _Findings:
    """The facts by where they are and where they belong."""

    def __init__(self) -> None:
        self._truths_at: dict[str, set[Truth]] = defaultdict(set)
        self._places_of: dict[Expected, set[str]] = defaultdict(set)
        self._determined_at: dict[Truth, set[str]] = defaultdict(set)
        self._expected_of: dict[Truth, set[Expected]] = defaultdict(set)
        self._truth_of: dict[Expected, Truth] = {}
        self._counts: Counter[str] = Counter()
        self._open: Counter[tuple[Truth, str, str]] = Counter()

    def add(self, truth: Truth, expected: Expected, reason: str | None, survivor: str) -> None:
        self._truths_at[survivor].add(truth)
        if expected is None:
            self._open[truth, reason or "", survivor] += 1
            return
        self._places_of[expected].add(survivor)
        self._truth_of[expected] = truth
        self._determined_at[truth].add(survivor)
        self._expected_of[truth].add(expected)
        self._counts[survivor] += 1

    def verdict(self, provisional: Mapping[str, bool], unaccounted: int) -> Verdict:
        wrong = [key for key, truths in self._truths_at.items() if len(truths) > 1]
        split = [expected for expected, keys in self._places_of.items() if len(keys) > 1]
        left_open = {key: count for key, count in self._counts.items() if provisional.get(key)}
        stayed, anyway, astray = self._judge_open(provisional)
        offenders = [
            *(f"wrong merge: {key} holds {_told(self._truths_at[key])}" for key in wrong[:_OFFENDERS]),
            *(self._tell_split(expected) for expected in split[:_OFFENDERS]),
            *(f"left open: {key} of {_told(self._truths_at[key])}" for key in list(left_open)[:_OFFENDERS]),
            *astray[:_OFFENDERS],
        ]
        return Verdict(
            wrong_merges=len(wrong),
            splits=len(split),
            left_open=sum(left_open.values()),
            astray=len(astray),
            unaccounted=unaccounted,
            facts=self._counts.total() + self._open.total(),
            determined=self._counts.total(),
            conversations=len(set().union(*self._truths_at.values())),
            survivors=len(self._truths_at),
            provisional=stayed,
            found_anyway=anyway,
            beyond_evidence=sum(1 for expected in self._expected_of.values() if len(expected) > 1),
            offenders=tuple(offenders),
        )

    def _judge_open(
        self, provisional: Mapping[str, bool]
    ) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]], list[str]]:
        """What became of facts that nothing determines: stayed provisional, found their conversation, or astray."""
        stayed: Counter[tuple[str, str]] = Counter()
        anyway: Counter[tuple[str, str]] = Counter()
        astray: list[str] = []
        for (truth, reason, key), count in self._open.items():
            if provisional.get(key):
                stayed[truth[0], reason] += count
            elif key in self._determined_at.get(truth, ()):
                anyway[truth[0], reason] += count
            else:
                astray.append(f"astray: {key} of {_told({truth})} ({reason})")
        return stayed, anyway, astray

    def _tell_split(self, expected: Expected) -> str:
        keys = ", ".join(sorted(self._places_of[expected]))
        return f"split: {_told({self._truth_of[expected]})} is {keys}"


def _told(truths: Iterable[Truth]) -> str:
    """Conversations for people, each address masked."""
    return " and ".join(" ".join(map(_masked, truth)) for truth in sorted(truths))


def _masked(part: str) -> str:
    return mask(part) if part.startswith("+") or "@" in part else part
