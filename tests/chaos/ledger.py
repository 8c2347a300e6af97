"""What a sender did: every fact with its attempts, as lines that the judge reads once it has ended.

Times are seconds of the machine's monotonic clock, which no fault here moves.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

OK = 200


class Told(msgspec.Struct, tag="fact", array_like=True, frozen=True):
    """A fact, before it is posted for the first time."""

    number: int
    event_id: str
    name: str
    provider: str
    conversation: int
    spoilt: str


class Attempt(msgspec.Struct, tag="attempt", array_like=True, frozen=True):
    """One attempt to post it, and what came of it."""

    number: int
    sent_at: float
    ended_at: float
    #: 0: no answer.
    status: int
    #: Why, where it was refused; what happened, where there was no answer.
    reason: str = ""


class Entry(msgspec.Struct):
    """What became of one fact."""

    told: Told
    first_sent_at: float = 0.0
    #: When it was first answered 200; None: never.
    answered_at: float | None = None
    attempts: int = 0


class Ledger:
    """All facts of a sender, by number, and its answers."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.entries: dict[int, Entry] = {}
        self.statuses: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        #: The slowest answer, of whatever status, in seconds.
        self.longest = 0.0
        decoder = msgspec.json.Decoder(Told | Attempt)
        for line in lines:
            self._note(decoder.decode(line))

    def _note(self, line: Told | Attempt) -> None:
        if isinstance(line, Told):
            self.entries[line.number] = Entry(line)
            return
        entry = self.entries[line.number]
        if not entry.attempts or line.sent_at < entry.first_sent_at:
            entry.first_sent_at = line.sent_at
        entry.attempts += 1
        self.statuses[line.status] += 1
        if line.status == OK and (entry.answered_at is None or line.ended_at < entry.answered_at):
            entry.answered_at = line.ended_at
        if line.status:
            self.longest = max(self.longest, line.ended_at - line.sent_at)
        if line.reason:
            self.reasons[line.reason] += 1

    @property
    def posted(self) -> int:
        """How many callbacks were posted, redeliveries included."""
        return sum(self.statuses.values())

    @property
    def answered(self) -> list[Entry]:
        """The facts that were answered 200."""
        return [entry for entry in self.entries.values() if entry.answered_at is not None]

    @property
    def redelivered(self) -> int:
        """How many attempts were not the first of their fact."""
        return self.posted - sum(1 for entry in self.entries.values() if entry.attempts)


def read(file: Path) -> Ledger:
    """The ledger in a file."""
    with file.open("rb") as lines:
        return Ledger(lines)


class Writer:
    """Appends to a ledger; `flush` now and again."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("ab")
        self._encode: Any = msgspec.json.Encoder().encode

    def note(self, line: Told | Attempt) -> None:
        """Add a line."""
        self._file.write(self._encode(line) + b"\n")

    def flush(self) -> None:
        """Have what was noted in the file."""
        self._file.flush()
