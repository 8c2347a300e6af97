"""Conversations as a person reads them at a terminal: plain columns. Pure.

They show addresses in full, since that is what was asked for; so they never go into a log.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_GAP = "  "
#: What stands where nothing is known, or there is nothing to say.
NOTHING = "-"
_HEADINGS = ("conversation", "account", "kind", "participants", "lines", "events")


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length in columns as wide as they need; nothing in them moves a terminal's cursor."""
    plain = [[_plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    lines = [_GAP.join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in plain]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def table(conversations: Sequence[Mapping[str, Any]]) -> str:
    """One line a conversation."""
    rows = [
        (
            shown["key"],
            shown["account"],
            _value(shown["kind"]) + (", provisional" if shown["provisional"] else ""),
            _value(shown["participants"]),
            _value(shown["lines"]),
            _count(shown["sequence"]),
        )
        for shown in conversations
    ]
    return columns([_HEADINGS, *rows])


def sheet(conversation: Mapping[str, Any]) -> str:
    """Everything that is known of one conversation, a line each."""
    rows = [(name, _value(value)) for name, value in conversation.items() if name != "sequence"]
    return columns([*rows, ("events", _count(conversation["sequence"]))])


def _count(sequence: str) -> str:
    return sequence.lstrip("0") or "0"


def _value(value: Any) -> str:
    """A JSON value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_value(item)}" for name, item in value.items()) or NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value) or NOTHING
    return NOTHING if value is None else str(value)


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
