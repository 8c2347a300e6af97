"""A scratch file: what a command must remember of a whole log lies on local disk, and little of it in memory.

The file loses its name as soon as it is open: it goes with the process, however that ends, and nobody else can open
it. As nothing of it outlives the command, it is never synced, has no journal, and all of it is one transaction that is
never committed; pages go to disk once the cache is full, so that what is small never gets there.
"""

import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator, MutableMapping, MutableSet
from collections.abc import Set as AbstractSet
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Self

from schemas.errors import PartylineError

#: Of pages, which SQLite keeps in memory, for all of a scratch file together.
_CACHE_KIB = 16 * 1024
#: Each mapping keeps what was set last as it is, up to this part of that.
_RECENT_PART = 4
#: Names in one question: asked for in one go they take a third of the time.
_ASKED = 64
#: Of a Bloom filter: two megabytes.
_PERHAPS_BITS = 24
_LAST_PLACE = (1 << _PERHAPS_BITS) - 1
_SETTINGS = ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "secure_delete = OFF")


class ScratchError(PartylineError):
    """The scratch file cannot be made, written or read; the message says where it is."""

    reason = "scratch"

    def __init__(self, folder: str, detail: object) -> None:
        super().__init__(
            f"the scratch file in {folder} cannot be used: {detail}. Make room there, or set TMPDIR to a folder on a "
            "local disk that has room; then run the same command again"
        )


@contextmanager
def scratch(cache_kib: int | None = None) -> Iterator["Scratch"]:
    """A scratch file in the folder for temporary files ($TMPDIR), for the time of a `with`.

    `cache_kib`: how much of it is held in memory. Raises ScratchError, as everything that is done with it does.
    """
    folder = "$TMPDIR"
    try:
        folder = tempfile.gettempdir()
        handle, path = tempfile.mkstemp(prefix="partyline-scratch-", dir=folder)
        try:
            os.close(handle)
            connection = sqlite3.connect(path, isolation_level=None)
        finally:
            Path(path).unlink()
    except (OSError, sqlite3.Error) as error:
        raise ScratchError(folder, error) from error
    with closing(connection):
        yield Scratch(connection, folder, _CACHE_KIB if cache_kib is None else cache_kib)


class Scratch:
    """A scratch file that is open; makes what things are kept in."""

    def __init__(self, connection: sqlite3.Connection, folder: str, cache_kib: int) -> None:
        self._connection = connection
        self._folder = folder
        self._tables = 0
        self._recent_bytes = cache_kib * 1024 // _RECENT_PART
        for setting in (*_SETTINGS, f"cache_size = -{cache_kib}"):
            self.one(f"PRAGMA {setting}")
        self.one("BEGIN")

    def mapping(self) -> "ScratchMapping":
        """An empty mapping."""
        return ScratchMapping(self, self._table(), self._recent_bytes)

    def names(self) -> "ScratchNames":
        """An empty set."""
        return ScratchNames(self, self._table())

    def _table(self) -> str:
        self._tables += 1
        return f"kept_{self._tables}"

    def one(self, statement: str, *given: bytes) -> Any:
        """Do one thing; the first row that comes of it, None where none does."""
        try:
            return self._connection.execute(statement, given).fetchone()
        except sqlite3.Error as error:
            raise ScratchError(self._folder, error) from error

    def each(self, statement: str, *given: bytes) -> Iterator[Any]:
        """Do one thing; every row that comes of it, as it is asked for."""
        try:
            yield from self._connection.execute(statement, given)
        except sqlite3.Error as error:
            raise ScratchError(self._folder, error) from error

    def among(self, statement: str, names: Collection[bytes]) -> Iterator[Any]:
        """Every row that comes of a statement about names, so many of them at a time as it asks for."""
        left = iter(names)
        while some := list(islice(left, _ASKED)):
            yield from self.each(statement, *some, *[some[0]] * (_ASKED - len(some)))

    def many(self, statement: str, rows: Iterable[tuple[bytes, ...]]) -> None:
        """Do the same with each of these rows."""
        try:
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise ScratchError(self._folder, error) from error


class ScratchMapping(MutableMapping[bytes, bytes]):
    """Values by name, in the order in which the names were first set. Set many at once with `update`."""

    # A table by row number with an index beside it: rows are then added at one end, however names are scattered, and
    # take a third of the time that they take where they lie by name.

    def __init__(self, kept: Scratch, table: str, most_recent: int) -> None:
        self._kept = kept
        kept.one(f"CREATE TABLE {table} (place INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, value BLOB NOT NULL)")
        self._find = _of(table, "SELECT value FROM TABLE WHERE name = ?")
        self._set = _of(
            table,
            "INSERT INTO TABLE (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        self._delete = _of(table, "DELETE FROM TABLE WHERE name = ?")
        self._names = _of(table, "SELECT name FROM TABLE ORDER BY place")
        self._among = _of(table, "SELECT name, value FROM TABLE WHERE name IN (NAMES)")
        self._count = _of(table, "SELECT count(*) FROM TABLE")
        #: What was set last and is not in the file yet: what is set is often set and asked for again soon.
        self._recent: dict[bytes, bytes] = {}
        self._recent_bytes = 0
        self._most_recent = most_recent
        self._perhaps = _Perhaps()

    def __getitem__(self, name: bytes) -> bytes:
        value: bytes | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: bytes, default: Any = None) -> Any:
        """The value of a name; `default` where there is none."""
        value = self._recent.get(name)
        if value is None and name in self._perhaps:
            row = self._kept.one(self._find, name)
            value = None if row is None else row[0]
        return default if value is None else value

    def __setitem__(self, name: bytes, value: bytes) -> None:
        self.update({name: value})

    def update(self, *given: Any, **named: Any) -> None:
        """As a dict's."""
        new = dict[bytes, bytes](*given, **named)
        self._recent |= new
        self._recent_bytes += sum(map(len, new.values()))
        if self._recent_bytes > self._most_recent:
            self._write()

    def _write(self) -> None:
        """Have in the file all that was set."""
        if self._recent:
            self._perhaps.note(self._recent)
            self._kept.many(self._set, self._recent.items())
            self._recent, self._recent_bytes = {}, 0

    def take(self, names: Collection[bytes]) -> dict[bytes, bytes]:
        """Those of the names that are there, with their values; they are there no more."""
        self._write()
        found = dict(self._kept.among(self._among, names))
        self._kept.many(self._delete, ((name,) for name in found))
        return found

    def __delitem__(self, name: bytes) -> None:
        if not self.take([name]):
            raise KeyError(name)

    def __iter__(self) -> Iterator[bytes]:
        self._write()
        return (name for (name,) in self._kept.each(self._names))

    def __len__(self) -> int:
        self._write()
        count: int = self._kept.one(self._count)[0]
        return count


class _Perhaps:
    """Which names may have been noted: it forgets none, and of others it nearly always says no, without a question.

    A Bloom filter; with a million names noted it is mistaken about one other in eighty.
    """

    def __init__(self) -> None:
        self._noted = bytearray(1 << (_PERHAPS_BITS - 3))

    def note(self, names: Iterable[bytes]) -> None:
        """Remember names: each at two places."""
        for name in names:
            digest = hash(name)
            for place in (digest & _LAST_PLACE, digest >> _PERHAPS_BITS & _LAST_PLACE):
                self._noted[place >> 3] |= 1 << (place & 7)

    def __contains__(self, name: bytes) -> bool:
        noted, digest = self._noted, hash(name)
        place = digest & _LAST_PLACE
        if not noted[place >> 3] >> (place & 7) & 1:
            return False  # as a rule; the other place is in no cache of the processor
        place = digest >> _PERHAPS_BITS & _LAST_PLACE
        return bool(noted[place >> 3] >> (place & 7) & 1)


class ScratchNames(MutableSet[bytes]):
    """A set of names, in their order. Add many at once with `|=`."""

    def __init__(self, kept: Scratch, table: str) -> None:
        self._kept = kept
        kept.one(f"CREATE TABLE {table} (name BLOB PRIMARY KEY) WITHOUT ROWID")
        self._find = _of(table, "SELECT 1 FROM TABLE WHERE name = ?")
        self._add = _of(table, "INSERT OR IGNORE INTO TABLE VALUES (?)")
        self._delete = _of(table, "DELETE FROM TABLE WHERE name = ?")
        self._names = _of(table, "SELECT name FROM TABLE ORDER BY name")
        self._among = _of(table, "SELECT name FROM TABLE WHERE name IN (NAMES)")
        self._count = _of(table, "SELECT count(*) FROM TABLE")

    # What `&`, `|` and `-` make is not on disk.
    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:
        return set(it)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes) and self._kept.one(self._find, name) is not None

    def __and__(self, other: AbstractSet[Any]) -> set[bytes]:
        return {name for (name,) in self._kept.among(self._among, other)}

    def add(self, value: bytes) -> None:
        """Have it in the set."""
        self._kept.one(self._add, value)

    def __ior__(self, it: AbstractSet[bytes]) -> Self:  # type: ignore[override,misc] # of bytes only
        self._kept.many(self._add, ((name,) for name in it))
        return self

    def discard(self, value: bytes) -> None:
        """Have it in the set no more."""
        self._kept.one(self._delete, value)

    def __iter__(self) -> Iterator[bytes]:
        return (name for (name,) in self._kept.each(self._names))

    def __len__(self) -> int:
        count: int = self._kept.one(self._count)[0]
        return count


def _of(table: str, statement: str) -> str:
    """A statement about one table, and about so many names as are asked for in one go."""
    return statement.replace("TABLE", table).replace("NAMES", ", ".join("?" * _ASKED))
