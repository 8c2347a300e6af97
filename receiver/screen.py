"""Events in the columns of a terminal, however wide it is: pieces of text, each with its style. Pure.

What does not fit is cut, and says so; only sentences of ours go on in further lines: their point is at their end.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Final, NamedTuple
from zlib import crc32

from rich.cells import cell_len, chop_cells, set_cell_size

from receiver.presentation import Said, kind, plain, say
from schemas.events import ConversationMembers, ConversationMerged, ConversationSettings, MessageStatus, Typing
from schemas.reader import Published

#: A text with its style, in the words of rich.
Piece = tuple[str, str]
Line = list[Piece]

#: How many keys or people a sentence names, and how many lines it may have.
_MOST, _LINES = 4, 4
_KEY = re.compile("((?:cv|ac)_[a-z2-7]{5})[a-z2-7]{21}")
#: What a key is told from others by, in any width.
_TOLD_BY = 8
#: Colours that can be read on a dark and on a bright ground, and told from each other.
_COLOURS: Final = (33, 37, 70, 99, 130, 133, 136, 161, 166, 172, 64, 68, 141, 168, 29, 62)
_FAILED = frozenset({"failed", "expired", "cancelled"})


class Layout(NamedTuple):
    """How wide each column is, 0: left out; the last one has what remains."""

    provider: int
    type: int
    key: int
    kind: int
    who: int
    what: int


_TIME = len("12:00:00")


def layout(width: int) -> Layout:
    """The columns for a terminal of so many cells."""
    if width >= 120:  # noqa: PLR2004 - what the widest columns need, with a sentence beside them
        fixed = (8, 21, 13, 8, 16)
    elif width >= 72:  # noqa: PLR2004 - all columns, and a few words
        fixed = (8, 8, 9, 8, 12)
    elif width >= 52:  # noqa: PLR2004 - what can least be done without
        fixed = (0, 8, 9, 0, 12)
    else:
        fixed = (0, 0, 9, 0, 12)
    taken = _TIME + sum(column + 1 for column in fixed if column) + 1
    return Layout(*fixed, max(8, width - taken))


def day_line(event: Published, zone: tzinfo | None) -> str:
    """The day that an event is of, where whoever reads it is."""
    return f"── {_local(event, zone):%A, %Y-%m-%d} ──"


def lines(event: Published, width: int, zone: tzinfo | None) -> list[Line]:
    """One event: a line, or several where our own words need them.

    Args:
        event: what was published.
        width: of the terminal, in cells.
        zone: where whoever reads it is; None: where this machine is.
    """
    columns, said = layout(width), say(event, _MOST)
    head: Line = [
        (f"{_local(event, zone):%H:%M:%S}", "dim"),
        *_cell(plain(event.provider.name), columns.provider, ""),
        *_cell(_type(event.type, columns.type), columns.type, _style(event)),
        *_cell(_key(event.subject, columns.key), columns.key, colour(event.subject)),
        *_cell(kind(event), columns.kind, "dim"),
    ]
    if said.who:
        head += _cell(said.who, columns.who, "bold" if said.quote and not said.sentence else "")
        return _with_what(head, said, columns.what, _style(event))
    return _with_what(head, said, columns.what + columns.who + 1, _style(event))


def colour(key: str) -> str:
    """The style of a conversation, by what is shown of its key in every width."""
    return f"color({_COLOURS[crc32(key[:_TOLD_BY].encode()) % len(_COLOURS)]})"


def _local(event: Published, zone: tzinfo | None) -> datetime:
    return event.time.astimezone(zone)


def _style(event: Published) -> str:
    """What is to catch the eye, and what is not."""
    match event.body:
        case MessageStatus(status=status):
            return "red" if status.value in _FAILED else "dim"
        case ConversationMerged() | ConversationMembers() | ConversationSettings():
            return "cyan"
        case Typing():
            return "dim"
        case _:
            return "yellow" if event.type in {"account.notice", "unrecognised"} else ""


def _type(name: str, width: int) -> str:
    """A type's name, or just its last word, by which each can be told."""
    name = plain(name)
    return name if cell_len(name) <= width else name.rpartition(".")[2]


def _key(key: str, width: int) -> str:
    return f"{plain(key)[: width - 1]}…"


# --- cells ---


def _cell(text: str, width: int, style: str) -> Line:
    """One column, and the gap before it; nothing where it is left out."""
    return [(" ", ""), (set_cell_size(cut(text, width), width), style)] if width else []


def cut(text: str, width: int) -> str:
    """A text in so many cells; where something is missing, an ellipsis says so."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _with_what(head: Line, said: Said, width: int, style: str) -> list[Line]:
    """The line, and what follows it below, under the same column."""
    if said.quote:
        return [[*head, (" ", ""), *_quoting(said, width, style)]]
    indent = " " * (sum(cell_len(text) for text, _ in head) + 1)
    first, *further = _wrapped(_KEY.sub(r"\1…", said.what), width)
    return [
        [*head, (" ", ""), *_coloured(first, style)],
        *([(indent, ""), *_coloured(text, style)] for text in further),
    ]


def _quoting(said: Said, width: int, style: str) -> Line:
    """Somebody's words in what our own leave of the width."""
    before = f"{said.sentence} " if said.sentence else ""
    after = f" {said.more}" if said.more else ""
    room = width - cell_len(before) - cell_len(after) - 2
    if room < len(said.quote) and room < 8:  # noqa: PLR2004 - fewer cells tell nothing
        return [(cut(said.what, width), style)]
    return [(before, style), (f"“{cut(said.quote, room)}”", ""), (after, "dim")]


def _wrapped(text: str, width: int) -> list[str]:
    """A sentence in lines; the last one that it may have is cut."""
    found = [""]
    for word in _words(text, width):
        longer = f"{found[-1]} {word}" if found[-1] else word
        if cell_len(longer) <= width:
            found[-1] = longer
        else:
            found.append(word)
    if len(found) > _LINES:
        found = [*found[: _LINES - 1], cut(" ".join(found[_LINES - 1 :]), width)]
    return found


def _words(text: str, width: int) -> Iterable[str]:
    for word in text.split():
        yield from chop_cells(word, width)


def _coloured(text: str, style: str) -> Line:
    """A sentence in which each conversation has its colour."""
    pieces = re.split("((?:cv|ac)_[a-z2-7]{5}…)", text)
    return [(piece, colour(piece) if at % 2 else style) for at, piece in enumerate(pieces) if piece]


def width_of(pieces: Sequence[Piece]) -> int:
    """How many cells a line takes."""
    return sum(cell_len(text) for text, _ in pieces)
