"""The spool: where captures wait on local disk while Redis does not take them. One for each namespace of a host.

Bounded in bytes (`spool.max`, and what the disk must keep free) and in age: once its oldest capture has waited for
`retention.captures`, nothing more goes in, since by then captures are gone from the log too and de-duplication is near
its end. What is in stays in.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from receiver.captures import Fence
from receiver.settings import Settings
from receiver.spool_file import Damaged, SpoolFile
from schemas.errors import StoreError
from schemas.wire import CAPTURE_FIELDS, encode_spooled

_ID, _ACCOUNT = CAPTURE_FIELDS.index(b"id"), CAPTURE_FIELDS.index(b"account")
#: What a row takes beside its entry.
_ROW_BYTES = 64
#: A spool with less room is full: the next callback may not fit.
_ROOM_BYTES = 4096
#: What must stay free on the disk: taking captures out is writing too, in SQLite's log and from there into its file.
#: On a disk that is full to the brim, what waits could never be drained.
_SPARE_BYTES = 16 * 1024 * 1024


class Fill(msgspec.Struct, frozen=True):
    """How full the spool is."""

    rows: int
    bytes: int
    #: Unix seconds, of this host's clock; None: it is empty.
    oldest_at: float | None


class Account(msgspec.Struct, frozen=True):
    """What waits of one account."""

    name: str
    captures: int
    bytes: int
    #: Unix seconds, of this host's clock.
    oldest_at: float


def file_of(settings: Settings) -> SpoolFile:
    """The file behind the spool of a configuration, as one thread uses it."""
    # Others hold the file for the time of an fsync; who hands over the last captures, for half a deadline at most.
    return SpoolFile(settings.spool.dir, settings.namespace, settings.redis.write_deadline_seconds)


class Spool:
    """The end of the spool that captures go into. Calls wait for the disk; one thread at a time, off the event loop."""

    def __init__(self, settings: Settings) -> None:
        self.max_bytes = settings.spool.max_bytes
        self.max_age_seconds = settings.retention.captures_seconds
        self._file = file_of(settings)

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._file.path

    @property
    def some_wait(self) -> bool:
        """Whether captures wait in it, of any process of this host. Costs no system call."""
        return self._file.some_wait

    @property
    def fence(self) -> Fence | None:
        """What a write to Redis goes under, so that it is not done once the spool was drained after it."""
        number = self._file.fence
        return Fence(self._file.name, number) if number else None

    def open(self) -> None:
        """Open it, or make it, or find that it was exchanged. Raises StoreError."""
        self._file.open()

    def close(self) -> None:
        """Close it; it may be opened again."""
        self._file.close()

    # --- putting in ---

    def put(self, entries: Sequence[list[bytes]], now: float, *, tried_after: str | None, needed: bool) -> bool:
        """Keep captures, in order, on disk when it returns. Raises StoreError where they do not fit.

        Args:
            entries: the values of each, as `encode_capture` gives them.
            now: Unix seconds.
            tried_after: the log's last known position before a write of them to Redis was begun; None: none was.
            needed: else only if others wait already, so that these do not overtake them; False comes back if not.
        """
        try:
            return self._put(entries, now, tried_after, needed=needed)
        except Damaged:
            return self._put(entries, now, tried_after, needed=needed)

    def _put(self, entries: Sequence[list[bytes]], now: float, tried_after: str | None, *, needed: bool) -> bool:
        rows = [_row(values, now, tried_after) for values in entries]
        size = sum(row[3] for row in rows)
        with self._file.transaction() as connection:
            waiting, held = connection.execute("SELECT rows, bytes FROM fill").fetchone()
            if not (waiting or needed):
                return False
            self._refuse_if_full(held, size, self._oldest(), now)
            connection.executemany(
                "INSERT INTO waiting (capture, account, entry, bytes, received_at, tried, after)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            connection.execute("UPDATE fill SET rows = rows + ?, bytes = bytes + ?", (len(rows), size))
            self._file.signal(some=True)
        return True

    def _refuse_if_full(self, held: int, size: int, oldest_at: float | None, now: float) -> None:
        if held + size > self.max_bytes:
            raise StoreError("spool.max: the spool is full; see why Redis does not answer, or allow it more")
        if size + _SPARE_BYTES > self._file.free_bytes():
            raise StoreError(
                f"spool.dir: the disk has less than {_SPARE_BYTES >> 20} MiB left, which draining needs; make room"
            )
        if oldest_at is not None and now - oldest_at > self.max_age_seconds:
            raise StoreError(
                "spool: its oldest capture has waited for retention.captures; see why Redis does not answer"
            )

    # --- looking ---

    def fill(self) -> Fill:
        """How full it is. Raises StoreError."""
        [(rows, size)] = self._file.rows("SELECT rows, bytes FROM fill")
        return msgspec.convert({"rows": rows, "bytes": size, "oldest_at": self._oldest()}, Fill)

    def accounts(self) -> list[Account]:
        """What waits, account by account. Raises StoreError."""
        found = self._file.rows(
            "SELECT account, count(*), sum(bytes), min(received_at) FROM waiting GROUP BY account ORDER BY account"
        )
        return [
            Account(name.decode(errors="replace"), captures, size, oldest / 1000)
            for name, captures, size, oldest in msgspec.convert(found, list[tuple[bytes, int, int, int]])
        ]

    def prove(self) -> None:
        """Write to it, so that it is known to take writes. Raises StoreError."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE fill SET probe = probe + 1")

    def refuse_if_full(self, fill: Fill, now: float) -> None:
        """Raise StoreError if nothing more may go in."""
        self._refuse_if_full(fill.bytes, _ROOM_BYTES, fill.oldest_at, now)

    def _oldest(self) -> float | None:
        found = self._file.rows("SELECT received_at FROM waiting ORDER BY sequence LIMIT 1")
        return msgspec.convert(found[0][0], int) / 1000 if found else None


def _row(values: list[bytes], now: float, tried_after: str | None) -> tuple[bytes, bytes, bytes, int, int, int, str]:
    entry = encode_spooled(values)
    tried = int(tried_after is not None)
    return values[_ID], values[_ACCOUNT], entry, len(entry) + _ROW_BYTES, int(now * 1000), tried, tried_after or ""
