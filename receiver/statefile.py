"""The file that holds the state of a namespace: JSON, a line for each key. Pure.

The first line tells of which namespace it is and at which position of the capture log it was taken, the last one how
much there is and a checksum over every byte before it. So a file that was cut off or altered is told from a whole one
before anything of it is used.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

import msgspec

from schemas.errors import PartylineError

#: Version of the file's format; the layout of what is in it has its own.
VERSION: Final = 1

Type = Literal["string", "hash", "zset"]
TYPES: Final[tuple[Type, ...]] = ("string", "hash", "zset")


class UnusableState(PartylineError):
    """A file that is no whole state, or not one for here."""

    reason = "unusable_state"


class Base64(msgspec.Struct, frozen=True):
    """Bytes that are no text."""

    base64: str


#: Bytes as JSON has them: as text where they are UTF-8.
Text = str | Base64


class Header(msgspec.Struct, frozen=True):
    """The first line: what the state is of."""

    #: What the file is.
    partyline: Literal["state"]
    version: int
    namespace: str
    #: The namespace that its conversation keys derive from: itself, unless it was imported under another name.
    keys_of: str
    layout: str
    partitions: int
    #: The fingerprint of its `id_key`.
    id_key: str
    #: The last capture that is in the state; empty: none.
    cursor: str
    #: The last event that was published by then, so that positions in the stream of events go on from there.
    last_event: str
    exported_at: str


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key: its name without the prefix of the namespace, and its value by type."""

    key: Text
    type: Type
    #: `string`.
    value: Text | None = None
    #: `hash`: fields with their values.
    fields: tuple[tuple[Text, Text], ...] | None = None
    #: `zset`: members with their scores.
    members: tuple[tuple[Text, float], ...] | None = None
    #: Milliseconds left to live at the export; absent: for ever.
    ttl: int | None = None


class Trailer(msgspec.Struct, frozen=True):
    """The last line: how many keys of each type there are, and the checksum of all lines before."""

    keys: dict[str, int]
    blake2b: str


class Checked(NamedTuple):
    """What the first and the last line of a whole file say."""

    header: Header
    trailer: Trailer


_ENCODER: Final = msgspec.json.Encoder()
_HEADER: Final = msgspec.json.Decoder(Header)
_ITEM: Final = msgspec.json.Decoder(Item)
_TRAILER: Final = msgspec.json.Decoder(Trailer)


def text(data: bytes) -> Text:
    """Bytes as they stand in the file."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Base64(b64encode(data).decode())


def data(stored: Text) -> bytes:
    """The bytes that `text` was given. ValueError for what is no base64."""
    return stored.encode() if isinstance(stored, str) else b64decode(stored.base64, validate=True)


class Writing:
    """A state on its way into a file."""

    def __init__(self, write: Callable[[bytes], object], header: Header) -> None:
        """`write`: takes the bytes of the file, in order."""
        self._write = write
        self._hash = blake2b()
        self._keys: dict[str, int] = dict.fromkeys(TYPES, 0)
        self._line(header)

    def add(self, item: Item) -> None:
        """One more key."""
        self._keys[item.type] += 1
        self._line(item)

    def close(self) -> Trailer:
        """Write the last line; nothing comes after it."""
        trailer = Trailer(self._keys, self._hash.hexdigest())
        self._line(trailer)
        return trailer

    def _line(self, value: msgspec.Struct) -> None:
        line = _ENCODER.encode(value) + b"\n"
        self._hash.update(line)
        self._write(line)


def check(lines: Iterable[bytes]) -> Checked:
    """Read a file to its end, and see that it is whole; UnusableState says what is wrong with it."""
    hash_, keys = blake2b(), dict.fromkeys(TYPES, 0)
    rest = iter(lines)
    first = next(rest, b"")
    header = _header(first)
    hash_.update(first)
    before: bytes | None = None
    for number, line in enumerate(rest, start=2):
        if before is not None:
            keys[_item(before, number - 1).type] += 1
            hash_.update(before)
        before = line
    trailer = _trailer(before)
    if trailer.blake2b != hash_.hexdigest() or trailer.keys != keys:
        raise UnusableState("the file was altered: its checksum is not that of what is in it")
    return Checked(header, trailer)


def items(lines: Iterable[bytes]) -> Iterator[Item]:
    """The keys in a file that `check` found whole."""
    rest = iter(lines)
    next(rest)
    before = next(rest)
    for number, line in enumerate(rest, start=3):
        yield _item(before, number - 1)
        before = line


def _header(line: bytes) -> Header:
    try:
        version = msgspec.json.decode(line, type=dict[str, object]).get("version")
        if version == VERSION:
            return _HEADER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UnusableState("that is no file of `partyline state export`") from None
    if isinstance(version, int):
        raise UnusableState(f"the file is of version {version}, and this is a partyline that reads version {VERSION}")
    raise UnusableState("that is no file of `partyline state export`")


def _item(line: bytes, number: int) -> Item:
    """One key; whatever is in the line is what its type says."""
    try:
        item = _ITEM.decode(line)
        for part in _texts(item):
            data(part)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise UnusableState(f"line {number} is damaged: it is no key of a state") from None
    if {"string": item.value, "hash": item.fields, "zset": item.members}[item.type] is None:
        raise UnusableState(f"line {number} is damaged: there is no {item.type} in it")
    return item


def _texts(item: Item) -> Iterator[Text]:
    yield item.key
    if item.value is not None:
        yield item.value
    for pair in item.fields or ():
        yield from pair
    for member, _ in item.members or ():
        yield member


def _trailer(line: bytes | None) -> Trailer:
    try:
        if line is not None and line.endswith(b"\n"):
            return _TRAILER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    raise UnusableState("the file is cut off: its last line, with the checksum, is missing")
