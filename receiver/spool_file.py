"""The file behind the spool: SQLite in `spool.dir`, opened by every process of the host that writes or drains it.

Each transaction is on disk when it returns (write-ahead log, `synchronous = FULL`: one fsync). Whatever goes wrong is a
StoreError. A file that is damaged is set aside under another name, never deleted, and a new one is begun.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

from receiver.waiting import Waiting
from schemas.errors import StoreError

_FORMAT = 1
_TABLES = (
    """CREATE TABLE waiting (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        capture BLOB NOT NULL,        -- its id
        account BLOB NOT NULL,
        entry BLOB NOT NULL,          -- the values of its entry in the capture log
        bytes INTEGER NOT NULL,
        received_at INTEGER NOT NULL, -- Unix milliseconds, of this host's clock
        tried INTEGER NOT NULL,       -- 1: a write to Redis was begun, and may have been applied
        after TEXT NOT NULL           -- ... not before this position of the log; '' if none was known
    )""",
    "CREATE INDEX tried ON waiting (sequence) WHERE tried = 1",
    # One row. `draining`: the log's position before a drain that was not finished began its last batch; '' if none.
    # `spool`: a name that no other has; `fence`: how often it was begun to be drained.
    """CREATE TABLE fill (
        rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        draining TEXT NOT NULL,
        spool TEXT NOT NULL,
        fence INTEGER NOT NULL,
        probe INTEGER NOT NULL
    )""",
    "INSERT INTO fill VALUES (0, 0, '', lower(hex(randomblob(8))), 1, 0)",
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
#: Asked for with each opening: they are properties of the connection. `busy_timeout` is in milliseconds.
_SETTINGS = ("synchronous = FULL", "secure_delete = FAST", "busy_timeout = 5")
_SUFFIXES = ("", "-wal", "-shm")

log = structlog.get_logger()


class Damaged(StoreError):
    """The file was damaged and is set aside; the same call again begins a new one."""


class SpoolFile:
    """One connection to the file. Opened when first used; for one thread at a time."""

    def __init__(self, folder: Path, namespace: str, patience_seconds: float) -> None:
        """A file that nothing is done to yet.

        Args:
            folder: `spool.dir`.
            namespace: each has a file of its own.
            patience_seconds: how long a transaction waits for those of others.
        """
        self.folder = folder
        self.path = folder / f"{namespace}.sqlite"
        self._signal_path = folder / f"{namespace}.waiting"
        self._patience_seconds = patience_seconds
        self._connection: sqlite3.Connection | None = None
        self._waiting: Waiting | None = None
        self._opened: tuple[int, ...] = ()
        #: A name that no other spool has; '' until it is open.
        self.name = ""

    @property
    def fence(self) -> int:
        """How often it was begun to be drained, by any process of the host; 0 if it is not open."""
        waiting = self._waiting
        return 0 if waiting is None else waiting.fence

    def raise_fence(self, number: int) -> None:
        """Tell it to every process of the host; only within a transaction."""
        if self._waiting is not None:
            self._waiting.raise_fence(number)

    @property
    def some_wait(self) -> bool:
        """Whether captures wait in it, as far as is known without asking the file."""
        waiting = self._waiting
        return waiting is not None and bool(waiting)

    def open(self) -> None:
        """Open it, or make it; and open it anew if somebody has put another one in its place. Raises StoreError."""
        if self._connection is not None and self._identity() != self._opened:
            log.error("the spool's files were taken away while it was open; beginning new ones", file=str(self.path))
            self.close()
        if self._connection is not None:
            return
        with self._failing():
            _make_folder(self.folder)
            with self._alone():
                self._connection = self._connected()
                self._waiting = Waiting(self._signal_path)
                self._opened = self._identity()
        with self.transaction() as connection:
            rows, self.name, fence = connection.execute("SELECT rows, spool, fence FROM fill").fetchone()
            self.signal(some=rows > 0)
            self.raise_fence(fence)

    def free_bytes(self) -> int:
        """What is left on its disk for us. Raises StoreError."""
        with self._failing():
            disk = os.statvfs(self.folder)
            return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        """Close it; it may be opened again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._waiting = None  # unmapped with its last reader: another thread may be asking it just now

    def signal(self, *, some: bool) -> None:
        """Tell every process of the host whether captures wait; only within a transaction."""
        if self._waiting is not None:
            self._waiting.set(some=some)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do some things to the file, all or none; on disk at the end. Raises StoreError, or Damaged."""
        self.open()
        connection = self._connection
        assert connection is not None  # noqa: S101 - open() has just made sure
        with self._failing():
            self._patiently(connection, "BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                    connection.execute("ROLLBACK")
                raise

    def rows(self, question: str, *given: int) -> list[tuple[Any, ...]]:
        """Ask the file, without writing. Raises StoreError, or Damaged."""
        self.open()
        assert self._connection is not None  # noqa: S101 - open() has just made sure
        with self._failing():
            return self._patiently(self._connection, question, *given).fetchall()

    def _patiently(self, connection: sqlite3.Connection, statement: str, *given: int) -> sqlite3.Cursor:
        """Do it as soon as others let us. SQLite's own waiting looks ever more seldom, down to ten times a second."""
        until = time.monotonic() + self._patience_seconds
        while True:
            try:
                return connection.execute(statement, given)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Every way in which the file fails, as a StoreError."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                raise Damaged(f"spool.dir: {self._set_aside()}") from error
            raise StoreError(f"spool.dir: {self.path} cannot be written: {error}") from error

    def _identity(self) -> tuple[int, ...]:
        """Which files stand under our names now."""
        try:
            return tuple(number for path in (self.path, self._signal_path) for number in _numbers(path))
        except OSError:
            return ()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one process of the host at a time makes files here, or sets them aside."""
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
            os.fsync(handle)  # so that the names of new files are on disk too
        finally:
            os.close(handle)

    def _connected(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite gives its others the same
        connection = sqlite3.connect(
            self.path, timeout=self._patience_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                _make(connection)
            _refuse_other_format(version or _FORMAT)
            for setting in _SETTINGS:
                connection.execute(f"PRAGMA {setting}")
            connection.execute("SELECT * FROM fill").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self) -> str:
        """Rename a damaged file, unless another process was quicker; what to tell people."""
        inode = self._opened[1] if self._opened else None
        self.close()
        aside = self.folder / _damaged(self.path.stem, time.time_ns())
        with self._alone():
            if inode in (None, _numbers(self.path)[1]):
                for suffix in _SUFFIXES:
                    with suppress(FileNotFoundError):
                        Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        told = f"the spool was damaged and is set aside as {aside}; captures in it are not published"
        log.error(told, what_to_do="check the disk; get rows out with `sqlite3 FILE .recover`, then delete the file")
        return told


def _numbers(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _refuse_other_format(version: int) -> None:
    if version != _FORMAT:
        raise StoreError(f"it was made by another version of partyline (format {version}); drain it with that")


def refuse_unwritable(folder: Path) -> None:
    """Raise StoreError if a folder could not be written to, without making it: it is for whoever serves to own it."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise StoreError(f"spool.dir: {folder} cannot be written: {place} is not a folder that this user may write to")


def _make_folder(folder: Path) -> None:
    """A folder for its owner alone, and those above it that are missing likewise."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _make(connection: sqlite3.Connection) -> None:
    """The tables of a new file. What is drained gives its pages back: they hold numbers and texts."""
    for setting in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {setting}")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_FORMAT}")
    connection.execute("COMMIT")


def set_aside(folder: Path, namespace: str) -> list[Path]:
    """The damaged files of a namespace that were set aside and that nobody has looked after yet."""
    return sorted(folder.glob(_damaged(namespace, "*")))


def _damaged(namespace: str, when: object) -> str:
    return f"{namespace}.damaged-{when}.sqlite"
