"""Untrusted JSON: decoded once, then read through `Node`, which knows where it is. Pure.

Shapes are read leniently, as providers vary them: null or absent, one thing or a list of it, a number or its
digits. What is missing reads as None; only the `require_*` readers insist, and then raise ParseError with
the path. A value of an unexpected type reads as missing: `node.text("id")` of an object is None, never a crash.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NoReturn

import msgspec
import orjson

from schemas.clock import from_unix, parse_time
from schemas.errors import ParseError

_MAX_UNIX_DIGITS = 12
#: Deeper bodies are refused: real ones have some ten levels, and what we write out again has to be written.
MAX_DEPTH = 100


def decode(body: bytes) -> "Node":
    """Decode a JSON body; ParseError for anything that is not JSON in UTF-8.

    Lone surrogates (half an emoji), which providers do send and orjson refuses, become U+FFFD, and so does
    NUL, which breaks consumers' databases. The exact bytes stay in the capture.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _decode_with_surrogates(body, error)
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ParseError("$", f"nested deeper than {MAX_DEPTH} levels")
    # A backslash is sooner looked for, and most bodies have none.
    return Node(_without_nul(value) if b"\\" in body and b"\\u0000" in body else value, "$")


def _depth(value: Any) -> int:
    """How deep lists and objects stand in each other; without recursion, which an attacker would exhaust."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, list | dict)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _decode_with_surrogates(body: bytes, error: orjson.JSONDecodeError) -> Any:
    if b"\\ud" not in body.lower():
        raise ParseError("$", f"not JSON: {error.msg} (at byte {error.pos})") from None
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        return orjson.loads(
            json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        )
    except (ValueError, RecursionError):
        raise ParseError("$", f"not JSON: {error.msg} (at byte {error.pos})") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value


def _as_text(value: Any) -> str | None:
    kind = type(value)  # exact types are all that JSON has, and a bool is no number
    if kind is str:
        return value or None
    return str(value) if kind is int else None


class Node(msgspec.Struct, eq=False, gc=False):
    """One place in a decoded body: its value and its path.

    Reading a body makes a dozen of these, so it is a struct, which is made in a third of the time of a class.
    """

    value: Any
    #: The key or index it has in its parent; paths are put together only for errors.
    _step: str | int
    _parent: "Node | None" = None

    @property
    def path(self) -> str:
        """Where this is, as `$.data.payload.to[0]`."""
        if self._parent is None:
            return str(self._step)
        return self._parent.path + (f"[{self._step}]" if isinstance(self._step, int) else f".{self._step}")

    def __repr__(self) -> str:
        return f"<Node {self.path}>"

    def __bool__(self) -> bool:
        """Whether anything is here: false for missing, null, and empty text, list or object."""
        return bool(self.value) or self.value == 0

    def __contains__(self, key: str) -> bool:
        """Whether an object has the key, whatever its value."""
        return type(self.value) is dict and key in self.value

    # --- going down ---

    def get(self, key: str) -> "Node":
        """The member `key`; a node of None where there is none."""
        members = self.value
        return Node(members.get(key) if type(members) is dict else None, key, self)

    def _at(self, key: str) -> Any:
        """What stands there, for who has no use for its path; `get` and `text`, used most, look by themselves."""
        members = self.value
        return members.get(key) if type(members) is dict else None

    def first(self, *keys: str) -> "Node":
        """The first of several spellings that is there and not null."""
        for key in keys:
            node = self.get(key)
            if node.value is not None:
                return node
        return self.get(keys[0])

    def items(self, key: str) -> list["Node"]:
        """The elements of a list; a single thing as a list of one; nothing as an empty list."""
        value = self._at(key)
        return [] if value is None else Node(value, key, self).elements()

    def elements(self) -> list["Node"]:
        """This node's own elements, by the same rule."""
        if type(self.value) is list:
            return [Node(item, index, self) for index, item in enumerate(self.value)]
        return [] if self.value is None else [self]

    def among(self, keys: Iterable[str]) -> list[str]:
        """Which of some keys an object has, in their order, whatever their values."""
        return [key for key in keys if key in self.value] if self.is_object else []

    def members(self) -> Iterator[tuple[str, "Node"]]:
        """The members of an object, in order; nothing for anything else."""
        if self.is_object:
            for key, value in self.value.items():
                yield key, Node(value, key, self)

    # --- what kind of thing ---

    @property
    def is_object(self) -> bool:
        """Whether this is a JSON object."""
        return type(self.value) is dict

    # --- reading ---

    def text(self, key: str, *others: str) -> str | None:
        """Non-empty text, or a whole number as its digits, under the first key that has either; else None."""
        members = self.value
        value = members.get(key) if type(members) is dict else None
        if value and type(value) is str:  # as a rule, and then the quickest way out
            return value
        if value is not None and (found := _as_text(value)) is not None:
            return found
        for other in others:
            if (found := self.text(other)) is not None:
                return found
        return None

    def string(self, *keys: str) -> str | None:
        """Text exactly as sent, empty or not, under the first key that has any; else None. For message texts."""
        for key in keys:
            value = self._at(key)
            if type(value) is str:
                return value
        return None

    def as_text(self) -> str | None:
        """This node itself as `text` reads it."""
        return _as_text(self.value)

    def require_text(self, *keys: str) -> str:
        """As `text`, but ParseError when there is none."""
        found = self.text(*keys)
        if found is None:
            raise ParseError(self.get(keys[0]).path, "missing, or not a text")
        return found

    def integer(self, key: str) -> int | None:
        """A whole number, or digits; else None."""
        value = self._at(key)
        if type(value) is int:
            return value
        if type(value) is str and len(value) <= _MAX_UNIX_DIGITS and value.isascii() and value.isdecimal():
            return int(value)
        return None

    def flag(self, key: str) -> bool | None:
        """A boolean, or the words true and false in any case; else None."""
        value = self._at(key)
        if type(value) is bool:
            return value
        if type(value) is str and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return None

    def moment(self, *keys: str) -> datetime | None:
        """An ISO 8601 time under the first key that has anything; None when none has.

        Raises ParseError for something that is there and no time: a callback that lies about its time is
        not published with a made-up one.
        """
        for key in keys:
            node = self.get(key)
            if node:
                moment = parse_time(node.value) if isinstance(node.value, str) else None
                if moment is None:
                    raise ParseError(node.path, "not an ISO 8601 time")
                return moment
        return None

    def unix_moment(self, key: str) -> datetime | None:
        """Unix seconds as a number or as digits; None when absent; ParseError for anything else."""
        node = self.get(key)
        if not node:
            return None
        seconds = self.integer(key)
        moment = None if seconds is None else from_unix(seconds)
        if moment is None:
            raise ParseError(node.path, "not a Unix time in seconds")
        return moment

    def canonical(self, *, without: frozenset[str] = frozenset()) -> bytes:
        """The value as JSON with sorted keys, leaving out some top-level keys; for hashing content without an id."""
        value = self.value
        if without and isinstance(value, dict):
            value = {key: item for key, item in value.items() if key not in without}
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
