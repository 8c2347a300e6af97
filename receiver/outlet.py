"""The end of the spool that captures come out of, in the order in which they went in.

A capture leaves the spool after the log has it, so a crash in between leaves it in both. Therefore the spool remembers
which captures may be in the log already: those whose write was begun and not answered, and, while it is being drained,
the first batch. Before any of them is written again it is looked for in the log, by its id.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

import msgspec

from receiver.captures import Fence
from receiver.spool_file import SpoolFile
from schemas.errors import ParseError, StoreError
from schemas.wire import CAPTURE_FIELDS, decode_spooled

#: Of pages, given back in one transaction: it must not hold up those who spool.
_TIDY_PAGES = 256
#: How far the clocks of this host and of Redis may differ, where the log's position before a write was not known.
_CLOCKS_DIFFER_MILLISECONDS = 300_000


class Row(NamedTuple):
    """One capture that waits."""

    sequence: int
    #: Its id.
    capture: bytes
    #: Whose it is: captures of one account keep their order.
    account: bytes
    #: The values of its entry in the capture log.
    values: list[bytes]
    #: A write of it was begun, and it was not looked for in the log yet.
    tried: bool


class Doubt(NamedTuple):
    """Captures that the log may have already: their ids with their sequences, and where they may stand at all."""

    captures: dict[bytes, int]
    #: They stand after the smallest of these positions of the log.
    after: frozenset[str]
    #: The last sequence that was in the spool.
    last: int


class Outlet:
    """One process of a host drains at a time. Calls wait for the disk and raise StoreError; one thread at a time."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._held: ExitStack | None = None
        self._connection: sqlite3.Connection | None = None

    @property
    def some_wait(self) -> bool:
        """Whether captures wait; costs no system call."""
        return self._file.some_wait

    def open(self) -> None:
        """Open it, or find that it was exchanged."""
        self._file.open()

    def close(self) -> None:
        """Close it; what is held is let go."""
        self.let_go()
        self._file.close()

    def raise_fence(self) -> Fence:
        """A new fence: it is told to the log before anything is looked for there."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE fill SET fence = fence + 1")
            (number,) = connection.execute("SELECT fence FROM fill").fetchone()
            self._file.raise_fence(number)
        return Fence(self._file.name, number)

    def doubt(self, batch: int) -> Doubt:
        """What must be looked for in the log before anything is written; `batch` as `first` is asked for."""
        [(draining, last)] = self._file.rows(
            "SELECT draining, (SELECT coalesce(max(sequence), 0) FROM waiting) FROM fill"
        )
        tried = self._file.rows(
            "SELECT sequence, capture, after, received_at FROM waiting WHERE tried = 1 AND sequence <= ?", last
        )
        first = self._file.rows("SELECT sequence, capture FROM waiting ORDER BY sequence LIMIT ?", batch)
        captures: dict[bytes, int] = {}
        places: set[str] = set()
        for sequence, capture, after, received_at in msgspec.convert(tried, list[tuple[int, bytes, str, int]]):
            captures[capture] = sequence
            places.add(after or f"{max(0, received_at - _CLOCKS_DIFFER_MILLISECONDS)}-0")
        if draining:
            captures |= {capture: sequence for sequence, capture in msgspec.convert(first, list[tuple[int, bytes]])}
            places.add(str(draining))
        return Doubt(captures, frozenset(places), last)

    def begin(self, found: Iterable[int], position: str, last: int) -> None:
        """Doubts are settled up to a sequence: those found in the log are let go, the others are not there.

        `position`: where the log was before it was searched.
        """
        with self._file.transaction() as connection:
            for sequence in found:
                self._remove(connection, "sequence = ?", sequence)
            connection.execute("UPDATE waiting SET tried = 0 WHERE tried = 1 AND sequence <= ?", (last,))
            connection.execute("UPDATE fill SET draining = ?", (position,))

    def first(self, count: int, size: int) -> list[Row]:
        """The first that wait: so many, or until they have so many bytes; one at least."""
        last, left = 0, size
        sizes = self._file.rows("SELECT sequence, bytes FROM waiting ORDER BY sequence LIMIT ?", count)
        for sequence, taken in msgspec.convert(sizes, list[tuple[int, int]]):
            last, left = sequence, left - taken
            if left <= 0:
                break
        found = self._file.rows(
            "SELECT sequence, capture, account, entry, tried FROM waiting WHERE sequence <= ? ORDER BY sequence", last
        )
        rows = msgspec.convert(found, list[tuple[int, bytes, bytes, bytes, int]])
        return [
            Row(sequence, capture, account, _values(capture, account, entry), bool(tried))
            for sequence, capture, account, entry, tried in rows
        ]

    def done(self, last: int, position: str) -> None:
        """The log has all up to a sequence; they go. `position`: where the log is now."""
        with self._file.transaction() as connection:
            self._remove(connection, "sequence <= ?", last)
            connection.execute("UPDATE fill SET draining = ?", (position,))

    # --- the last ones ---

    def hold(self, count: int, size: int) -> list[Row] | None:
        """All that wait, and nobody adds to them until `finish` or `let_go`; None, and nothing held, if they are more.

        While captures keep coming, the spool would never be found empty without.
        """
        if self._file.rows("SELECT rows FROM fill")[0][0] > count:  # before anybody has to wait for it
            return None
        stack = ExitStack()
        self._connection = stack.enter_context(self._file.transaction())
        self._held = stack
        try:
            [(waiting,)] = self._file.rows("SELECT rows FROM fill")
            rows = self.first(count, size) if waiting <= count else []
        except StoreError:
            self.let_go()
            raise
        if waiting != len(rows):
            self.let_go()
            return None
        return rows

    def finish(self) -> None:
        """The log has all that is held: the spool is empty, and captures may go to Redis again."""
        stack, connection = self._held, self._connection
        assert stack is not None and connection is not None  # noqa: S101, PT018 - only called while held
        try:
            self._remove(connection, "sequence >= ?", 0)
            connection.execute("UPDATE fill SET draining = ''")
        except sqlite3.Error as error:
            self.let_go()
            raise StoreError(f"spool.dir: {error}") from error
        self._file.signal(some=False)
        self._held = None
        try:
            stack.close()
        except StoreError:
            self._file.signal(some=True)  # some may be left: who drains next finds out
            raise

    def let_go(self) -> None:
        """Others may add again; nothing has changed."""
        stack, self._held = self._held, None
        if stack is not None:
            stack.__exit__(StoreError, StoreError("let go"), None)

    def tidy(self) -> None:
        """Give the space of what is drained back to the file system; it held numbers and texts."""
        while not self.some_wait and self._file.rows("PRAGMA freelist_count") != [(0,)]:
            self._file.rows(f"PRAGMA incremental_vacuum({_TIDY_PAGES})")
        if not self.some_wait:
            self._file.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    @staticmethod
    def _remove(connection: sqlite3.Connection, which: str, sequence: int) -> None:
        counting = f"SELECT count(*), coalesce(sum(bytes), 0) FROM waiting WHERE {which}"  # noqa: S608 - our own words
        connection.execute(
            "UPDATE fill SET rows = rows - ?, bytes = bytes - ?", connection.execute(counting, (sequence,)).fetchone()
        )
        connection.execute(f"DELETE FROM waiting WHERE {which}", (sequence,))  # noqa: S608 - our own words


def _values(capture: bytes, account: bytes, entry: bytes) -> list[bytes]:
    """The values of a row; one whose bytes are damaged goes into the log as it is, and becomes a dead letter there."""
    try:
        return decode_spooled(entry)
    except ParseError:
        known = {b"id": capture, b"account": account, b"body": entry}
        return [known.get(name, b"") for name in CAPTURE_FIELDS]
