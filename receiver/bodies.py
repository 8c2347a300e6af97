"""Bodies as a person reads them at a terminal: indented, cut to what fits, and harmless. Pure."""

import re
from typing import Any

import orjson

from receiver.alterations import indented
from receiver.body import decode
from schemas.errors import ParseError

_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_AT_BYTE = re.compile(r"at byte (\d+)")
_AROUND_BYTES = 200
_AROUND_LINES = 12
_MARK, _NO_MARK = "→ ", "  "


def harmless(text: str) -> str:
    """A text of somebody's in which nothing moves the cursor, changes colours or turns the direction of writing."""
    return "".join(
        character if character.isprintable() or character == "\n" else _escaped(character) for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def readable(body: bytes, max_bytes: int) -> list[str]:
    """The lines of a body that nobody proved: cut into tokens and indented, never parsed; the beginning of it."""
    begin = body[:max_bytes]
    pretty = indented(begin) if begin.lstrip()[:1] in (b"{", b"[") else begin
    lines = harmless(pretty.decode("utf-8", "backslashreplace")).splitlines()
    return [*lines, f"… and {len(body) - len(begin)} more bytes"] if len(body) > len(begin) else lines


def around(body: bytes, place: str, detail: str) -> list[str]:
    """The lines of an authentic body around a place in it, as `$.data.payload.to[0]`; the place is marked."""
    try:
        root = decode(body).value
    except ParseError:
        return _around_byte(body, detail)
    container, key = _container(root, place)
    lines = orjson.dumps(container, option=orjson.OPT_INDENT_2).decode().splitlines()
    marked = next(
        (at for at, line in enumerate(lines) if key and line.startswith(f"  {orjson.dumps(key).decode()}:")), None
    )
    missing = [f"{_MARK}(there is no {harmless(key)} here)"] if key and marked is None else []
    begin = max(0, (marked or 0) - _AROUND_LINES)
    shown = lines[begin : begin + 2 * _AROUND_LINES]
    cut = [f"{_NO_MARK}…"] if begin + len(shown) < len(lines) else []
    text = [(_MARK if begin + at == marked else _NO_MARK) + harmless(line) for at, line in enumerate(shown)]
    return [*([f"{_NO_MARK}…"] if begin else []), *text, *cut, *missing]


def _container(root: Any, place: str) -> tuple[Any, str]:
    """The innermost object on the way to a place, and the member of it that the way goes on with."""
    value, container, key = root, root, ""
    for name, index in _STEP.findall(place):
        if name and isinstance(value, dict):
            container, key = value, name
            value = value.get(name)
        elif index and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
        else:
            break
    return container, key


def _around_byte(body: bytes, detail: str) -> list[str]:
    match = _AT_BYTE.search(detail)
    at = min(int(match[1]), len(body)) if match else 0
    begin = max(0, at - _AROUND_BYTES)
    before = harmless(body[begin:at].decode("utf-8", "backslashreplace"))
    after = harmless(body[at : at + _AROUND_BYTES].decode("utf-8", "backslashreplace"))
    text = f"{'…' if begin else ''}{before}{_MARK if match else ''}{after}"
    return [_NO_MARK + line for line in text.splitlines()] or [f"{_NO_MARK}(nothing)"]
