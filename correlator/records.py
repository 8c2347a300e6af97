"""The records that decisions are made on, as they were read and as they become. Pure.

They are found by name; one that was not read yet is a `MissingRecords`: what was begun is taken back, and folded anew
once it was. So nothing is ever guessed, and whoever folds needs not know beforehand what it will want.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, Final, Generic, TypeVar

import msgspec

from schemas.value import Value

_T = TypeVar("_T")


class Name(Value, frozen=True, order=True):
    """Which record: of what kind (the name of its class), and the key that it stands under."""

    kind: str
    key: str


class Record(Value, frozen=True):
    """Base of what Redis keeps; as JSON, so that a person at redis-cli can read it."""

    @property
    def expires(self) -> bool:
        """Whether it goes when nobody has used it for `retention.messages`."""
        return True


class remembered(Generic[_T]):  # noqa: N801 - a decorator, as `property` is
    """What is worked out of a record once, and kept in its `__dict__`.

    As `functools.cached_property`, which before Python 3.12 takes a lock each time: that is half of what it costs to
    look at a record that nobody has looked at lately.
    """

    def __init__(self, work: Callable[[Any], _T]) -> None:
        self._work = work
        self._name = work.__name__
        self.__doc__ = work.__doc__

    def __get__(self, record: Any, owner: type | None = None) -> _T:
        value = record.__dict__[self._name] = self._work(record)
        return value


_R = TypeVar("_R", bound=Record)


class Write(Value, frozen=True):
    """What has to become of one record: from the bytes expected (empty: absent) to those to set."""

    expected: bytes
    data: bytes
    before: Record | None
    after: Record


class MissingRecords(Exception):
    """Records that have to be read before the events can be folded."""

    def __init__(self, names: set[Name]) -> None:
        super().__init__(names)
        self.names = names


#: Records of the conversations that talk just now, with what is `remembered` of them.
_REMEMBERED: Final = 4096
_ENCODER: Final = msgspec.json.Encoder()
_ABSENT: Final = (b"", None)


@cache
def _decoder(kind: type[_R]) -> "msgspec.json.Decoder[_R]":
    return msgspec.json.Decoder(kind)


def decode(kind: type[_R], data: bytes) -> _R:
    """A record as Redis keeps it. The same object for the same bytes: what was worked out of it is not again."""
    record: _R = _decoded(kind, data)
    return record


@lru_cache(maxsize=_REMEMBERED)
def _decoded(kind: type[Record], data: bytes) -> Any:
    return _decoder(kind).decode(data)


def encode(record: Record) -> bytes:
    """What `decode` reads."""
    return _ENCODER.encode(record)


class _Shelf(dict[str, _R | None], Generic[_R]):
    """The records of one kind, None for those that are not there; one that was not looked for yet is decoded then.

    A fact looks for some twenty: those that were found before take no step in Python.
    """

    def __init__(self, kind: type[_R], read: Mapping[Name, bytes | None]) -> None:
        super().__init__()
        self._kind = kind
        self._read = read
        #: What Redis will have once the commits before are written: the bytes, and what they say.
        self.written: dict[str, tuple[bytes, _R]] = {}
        #: Those set since the last commit, and whether they changed.
        self.used: dict[str, bool] = {}

    def __missing__(self, key: str) -> _R | None:
        name = Name(self._kind.__name__, key)
        try:
            raw = self._read[name]
        except KeyError:
            raise MissingRecords({name}) from None
        if raw is None:
            self[key] = None
            return None
        record = self[key] = decode(self._kind, raw)
        self.written[key] = (raw, record)
        return record


class _Shelves(dict[type[Record], _Shelf[Any]]):
    """A shelf for each kind of record."""

    def __init__(self, read: Mapping[Name, bytes | None]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, kind: type[Record]) -> _Shelf[Any]:
        shelf = self[kind] = _Shelf[Any](kind, self._read)
        return shelf


class Records:
    """The records of one batch or more."""

    def __init__(self, read: Mapping[Name, bytes | None]) -> None:
        """`read`: records as Redis has them, None for those it does not have."""
        self._read = read
        self._shelves = _Shelves(read)
        #: What was set since `begin`, in order: what it was before, and whether it had been used and changed.
        self._journal: list[tuple[_Shelf[Any], str, Any, bool | None]] = []

    @property
    def size(self) -> int:
        """How many records it holds."""
        return sum([len(shelf.written) for shelf in self._shelves.values()])

    def begin(self) -> None:
        """Begin a folding that may have to be taken back."""
        self._journal.clear()

    def take_back(self) -> None:
        """Undo everything since `begin`."""
        for shelf, key, record, used in reversed(self._journal):
            shelf[key] = record
            if used is None:
                del shelf.used[key]
            else:
                shelf.used[key] = used
        self._journal.clear()

    def shelf(self, kind: type[_R]) -> "_Shelf[_R]":
        """All records of a kind, by key: for who looks for many of them."""
        return self._shelves[kind]

    def find(self, kind: type[_R], key: str) -> _R | None:
        """One record, None where there is none. Raises MissingRecords when nobody read it yet."""
        return self.shelf(kind)[key]

    def want(self, kind: type[Record], keys: Iterable[str]) -> None:
        """See that several records were read. Raises MissingRecords with all that were not."""
        missing = {name for key in keys if (name := Name(kind.__name__, key)) not in self._read}
        if missing:
            raise MissingRecords(missing)

    def set(self, key: str, record: Record) -> None:
        """Say what a record is from here on; setting what it is already keeps it from expiring."""
        shelf = self._shelves[type(record)]
        before, used = shelf[key], shelf.used.get(key)
        if record is before and used is not None:
            return
        self._journal.append((shelf, key, before, used))
        if record is not before and record != before:
            shelf.used[key] = True
            shelf[key] = record
        elif used is None:
            shelf.used[key] = False

    def take_writes(self) -> dict[Name, Write]:
        """What has become of the records set since the last call, for one commit."""
        writes = {}
        for kind, shelf in self._shelves.items():
            for key, changed in shelf.used.items():
                expected, before = shelf.written.get(key, _ABSENT)
                after: Any = shelf[key]
                data = encode(after) if changed else expected
                shelf.written[key] = (data, after)
                writes[Name(kind.__name__, key)] = Write(expected, data, before, after)
            shelf.used = {}
        return writes
