"""Captures as lines of an archive: the exact fields of a log entry, and a check over all of it in each line. Pure.

A line is JSON, and an archive is such lines one after the other, so that archives can be cut, joined and sorted with
the tools that there are for lines::

    {"partyline":1,"position":"1763726400000-0","fields":{"id":"cp_…",…,"body":["eyJkYXRhIjp7…"]},"check":"9f2c…"}

A value is text where it is UTF-8, and a list of its base64 where it is not; a body always is base64, so that nothing
that handles JSON changes a byte of it. `"redacted":true` says that texts and addresses were replaced.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson

from receiver.captures import LogEntry

FORMAT: Final = 1
#: Longer lines are no captures of ours: a body has 16 MiB unless somebody chose far more.
MAX_LINE: Final = 256 * 1024 * 1024

_BODY: Final = b"body"
_ODD_NAME: Final = "base64:"


class Redacted(LogEntry, frozen=True):
    """An entry whose texts and addresses were replaced before it was archived: never to be taken for what came in."""


class Damaged(msgspec.Struct, frozen=True):
    """What stands in an archive and is no capture any more."""

    #: Counted from 1; 0 where lines are not counted yet.
    line: int
    reason: str


# --- writing ----------------------------------------------------------------------------------------------


def write(entry: LogEntry) -> bytes:
    """One line of an archive, with its newline; of a `Redacted` entry it says so."""
    redacted = isinstance(entry, Redacted)
    document: dict[str, Any] = {"partyline": FORMAT, "position": entry.position}
    if redacted:
        document["redacted"] = True
    document["fields"] = {_name(name): _value(name, value) for name, value in entry.fields.items()}
    document["check"] = _check(entry.position, entry.fields, redacted=redacted)
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _name(name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return _ODD_NAME + _base64(name)
    return _ODD_NAME + _base64(name) if text.startswith(_ODD_NAME) else text


def _value(name: bytes, value: bytes) -> str | list[str]:
    if name == _BODY:
        return [_base64(value)]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return [_base64(value)]


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def _check(position: str, fields: Mapping[bytes, bytes], *, redacted: bool) -> str:
    """A digest of all that a line says; with lengths, so that no byte can move from one field to the next."""
    parts = [position.encode(), b"redacted" if redacted else b"", *fields, *fields.values()]
    lengths = repr([*map(len, parts)]).encode()
    return blake2b(b"".join((b"partyline 1 ", lengths, *parts)), digest_size=12).hexdigest()


# --- reading ----------------------------------------------------------------------------------------------


def read(lines: Iterable[bytes | Damaged]) -> Iterator[LogEntry | Damaged]:
    """The entries of an archive, a line at a time; what cannot be read says why and harms nothing else.

    `lines` as `split` gives them; any iterable of lines does, and empty ones are passed over.
    """
    number = 0
    for line in lines:
        if isinstance(line, Damaged):
            yield Damaged(number + 1, line.reason)
            continue
        number += 1
        if line.strip():
            yield _read(number, line)


def _read(number: int, line: bytes) -> LogEntry | Damaged:
    try:
        return read_line(line)
    except ValueError as error:
        torn = "" if line.endswith(b"\n") else "the file ends in the middle of it: "
        return Damaged(number, f"{torn}{error}")


def read_line(line: bytes) -> LogEntry:
    """The entry in one line; ValueError says what is wrong with it, without anything of its content."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON (at byte {error.pos})") from None
    if not isinstance(document, dict) or "partyline" not in document:
        raise ValueError("not a line of an archive of captures")
    if document["partyline"] != FORMAT:
        raise ValueError("of another version of the format, or damaged")
    try:
        position, check, redacted = document["position"], document["check"], document.get("redacted", False) is True
        # What is no base64 gives other bytes, which the check shows: no need to have it looked at twice.
        fields = {
            _name_of(name): value.encode() if isinstance(value, str) else a2b_base64(value[0])
            for name, value in document["fields"].items()
        }
        sound = _check(position, fields, redacted=redacted) == check
    except (KeyError, TypeError, IndexError, AttributeError, ValueError):
        raise ValueError("damaged: something in it is missing, or not what it should be") from None
    if not (sound and fields):
        raise ValueError("damaged: its content does not fit its check")
    return Redacted(position, fields) if redacted else LogEntry(position, fields)


@lru_cache(maxsize=64)  # every line has the same few
def _name_of(name: str) -> bytes:
    return a2b_base64(name[len(_ODD_NAME) :]) if name.startswith(_ODD_NAME) else name.encode()


def split(chunks: Iterable[bytes | Damaged]) -> Iterator[bytes | Damaged]:
    """Cut bytes into lines, each with its newline but perhaps the last; never more than `MAX_LINE` of one at a time."""
    rest, dropping = b"", False
    for chunk in chunks:
        if isinstance(chunk, Damaged):
            if rest:
                yield rest
            yield chunk
            rest = b""
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not dropping:
                yield line + b"\n"
            dropping = False
        if dropping or len(rest) > MAX_LINE:
            if not dropping:
                yield Damaged(0, f"longer than {MAX_LINE} bytes")
            rest, dropping = b"", True
    if rest and not dropping:
        yield rest
