"""Which lane an event is in, and which lanes each consumer of a group is to have. Pure.

The consumers of a group share the stream by lanes: a subject is always in the same lane, and a lane has one consumer at
a time, so what one conversation brings is handled in its order whoever handles it.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple
from zlib import crc32

#: A place in the stream, as its entry ids compare: milliseconds and counter.
Position = tuple[int, int]

BEGINNING: Final[Position] = (0, 0)
_GREATEST_COUNTER: Final = 2**64 - 1
_POSITION = re.compile(r"(\d{1,15})-(\d{1,20})", re.ASCII)


def read_position(text: str) -> Position | None:
    """`1732190496419-0` as a position; None for a text that is no entry id."""
    match = _POSITION.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def show_position(position: Position) -> str:
    """A position as Redis writes it."""
    return f"{position[0]}-{position[1]}"


def position_of(entry: bytes) -> Position:
    """An entry id, as Redis gives it, as a position."""
    milliseconds, _, counter = entry.partition(b"-")
    return int(milliseconds), int(counter)


def just_before(position: Position) -> Position:
    """The greatest position that is smaller, whether or not anything stands there."""
    milliseconds, counter = position
    if counter:
        return milliseconds, counter - 1
    return (milliseconds - 1, _GREATEST_COUNTER) if milliseconds else BEGINNING


def lane_of(subject: str, lanes: int) -> int:
    """The lane of a subject. Every consumer of a group must come to the same, in any process and version."""
    return crc32(subject.encode()) % lanes


class Plan(NamedTuple):
    """What a consumer is to do about lanes: some to take, each with its former holder; how many to hand over."""

    take: tuple[tuple[int, str], ...]
    surplus: int
    #: How many it is to have in the end.
    share: int


def plan(me: str, consumers: Collection[str], holders: Mapping[int, str], lanes: int) -> Plan:
    """How one consumer comes to its fair share of the lanes.

    Args:
        me: its token.
        consumers: the tokens of all that live, itself among them.
        holders: by lane, the token of whom it was last taken by, whether that one lives or not.
        lanes: how many there are.

    Shares differ by one at most and add up to all lanes, so when each has its own none is left over.
    """
    ranked = sorted(consumers)
    rank = ranked.index(me)
    share = lanes // len(ranked) + (rank < lanes % len(ranked))
    alive = frozenset(consumers)
    held = sum(holder == me for holder in holders.values())
    free = [lane for lane in range(lanes) if holders.get(lane, "") not in alive]
    # Each begins elsewhere, so that those that come at once do not all reach for the same lanes.
    offset = len(free) * rank // len(ranked)
    free = free[offset:] + free[:offset]
    take = tuple((lane, holders.get(lane, "")) for lane in free[: max(0, share - held)])
    return Plan(take, max(0, held - share), share)
