"""What a consumer has read and not handled yet, lane by lane, and what may be handled next. Pure.

The stream is read in order into the queues of the lanes held. Of each lane one event is out at a time, and the next
only once that one is done with; so a lane is handled in the order of the stream, and lanes beside each other.

**Merges.** When conversations merge, what was published under the earlier keys comes before what the survivor brings
afterwards, though their lanes differ. So a `conversation.merged` waits, in the lane of its subject, until the lanes of
all its `merged` keys are past it. Nothing can wait in a circle: an event only ever waits for events at smaller
positions (those before it in its lane, and for a merge those before it in the other lanes), so the smallest position
that nobody has handled waits for nothing. It is always within somebody's reach, too: a consumer reads on from the
smallest position that any of its lanes is at, and stops for lack of room only with that one in hand. And a lane is past
a position as soon as its consumer knows its next event to be a later one, whatever that waits for.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from correlator.lanes import BEGINNING, Position, just_before, lane_of
from schemas.reader import Head

#: How many events of a lane may be handled before its cursor in Redis follows. What a consumer dies of is among so
#: many events after the cursor: only these are then tried with doubts, one write each.
UNMOVED: Final = 64
#: How much is read ahead, over all lanes.
MOST_EVENTS: Final = 4096
MOST_BYTES: Final = 16 * 1024 * 1024
_NOTHING: Final = frozenset[int]()

#: `idle` has nothing to do, `ready` stands in line, `busy` is out; `blocked` by a merge, `full` until its cursor in
#: Redis has moved, `resting` before another try, `succeeding` until our own former handling of that lane has ended.
_State = Literal["idle", "ready", "busy", "blocked", "full", "resting", "succeeding"]


class Item(NamedTuple):
    """One event that was read."""

    position: Position
    raw: bytes
    #: False: it passes the filters by, and is only here because others must wait for it.
    wanted: bool
    #: Lanes that must be past its position first.
    waits_for: frozenset[int]


class Taken(NamedTuple):
    """A lane as it was taken over: up to where it is handled, and whether what follows is to be tried with doubts."""

    number: int
    cursor: Position
    doubtful: bool


class Lane:
    """One lane held. Only the board changes it, but for `failures` and `cause`."""

    __slots__ = (
        "cause",
        "doubts",
        "failures",
        "floor",
        "gone",
        "leaving",
        "moved",
        "moving",
        "number",
        "queue",
        "state",
        "unmoved",
    )

    def __init__(self, taken: Taken) -> None:
        self.number = taken.number
        self.queue: deque[Item] = deque()
        self.state: _State = "idle"
        #: Up to here it needs nothing of what is read.
        self.floor = taken.cursor
        #: Where its cursor in Redis is; how many events were handled since, and how many of these are on their way.
        self.moved = taken.cursor
        self.unmoved = self.moving = 0
        #: How many more events are tried with doubts.
        self.doubts = UNMOVED if taken.doubtful else 0
        #: Of the event at its head: how often it has failed, and with what.
        self.failures = 0
        self.cause = ""
        self.leaving = self.gone = False


class Board:
    """The lanes of one consumer."""

    def __init__(self, lanes: int) -> None:
        """`lanes`: how many the group has."""
        self.count = lanes
        self.lanes: dict[int, Lane] = {}
        #: The last entry that was read; where to read on.
        self.position: Position = BEGINNING
        #: Changes whenever reading starts anew from elsewhere: what was being read then is of no use.
        self.generation = 0
        self._events = self._bytes = 0
        self._ready: deque[Lane] = deque()
        self._blocked: list[Lane] = []
        self._full: list[Lane] = []
        #: Lanes lost while an event of theirs was out.
        self._lost: dict[int, Lane] = {}
        self._elsewhere: Mapping[int, Position] = {}

    # --- lanes ---

    def gain(self, taken: Iterable[Taken]) -> None:
        """Take lanes in, and read on from where the one furthest behind is."""
        floors = {lane: self._floor(lane) for lane in self.lanes.values()}
        for each in taken:
            lane = self.lanes[each.number] = Lane(each)
            floors[lane] = lane.floor
        self._rewind(floors)

    def drop(self, numbers: Iterable[int]) -> None:
        """Lanes that are another's by now. An event that is out is finished for nobody."""
        for number in numbers:
            lane = self.lanes.pop(number, None)
            if lane is not None:
                lane.gone = True
                if lane.state == "busy":
                    self._lost[number] = lane
                for item in lane.queue:
                    self._count(item, -1)

    def leave(self, surplus: int) -> list[int]:
        """Have some lanes hand out nothing more, idle ones first; those of them that can be handed over now."""
        by_ease = sorted(self.lanes.values(), key=lambda lane: (not lane.leaving, lane.state == "busy", -lane.number))
        for lane in by_ease[:surplus]:
            lane.leaving = True
        return [lane.number for lane in self.lanes.values() if lane.leaving and lane.state != "busy"]

    @property
    def in_the_middle(self) -> set[int]:
        """Lanes with an event out."""
        return {lane.number for lane in self.lanes.values() if lane.state == "busy"}

    def _floor(self, lane: Lane) -> Position:
        """Up to where a lane needs nothing if all but the event that is out is forgotten."""
        return lane.queue[0].position if lane.state == "busy" else self.past(lane)

    def _rewind(self, floors: Mapping[Lane, Position]) -> None:
        self._ready.clear()
        self._blocked.clear()
        self._full.clear()
        self._events = self._bytes = 0
        for lane, floor in floors.items():
            out = lane.queue[0] if lane.state == "busy" else None
            lane.queue.clear()
            lane.floor = floor
            if out is not None:
                lane.queue.append(out)
                self._count(out, 1)
            elif lane.state != "resting":
                lane.state = "idle"
        self.position = min(floors.values(), default=self.position)
        self.generation += 1

    # --- reading ---

    @property
    def has_room(self) -> bool:
        """Whether to read on."""
        return self._events < MOST_EVENTS and self._bytes < MOST_BYTES

    def add(self, head: Head, position: Position, raw: bytes, *, wanted: bool, merged: Sequence[str] = ()) -> None:
        """The next entry of the stream, if it is of any of our lanes.

        Args:
            head: what it is.
            position: where it stands.
            raw: the envelope.
            wanted: whether the filters let it through.
            merged: the keys that it says are its subject's; empty for what nobody here must wait for.
        """
        self.position = position
        lane = self.lanes.get(lane_of(head.subject, self.count))
        if lane is None or position <= lane.floor:
            return
        waits_for = frozenset([lane_of(key, self.count) for key in merged]) - {lane.number} if merged else _NOTHING
        if wanted or waits_for:
            item = Item(position, raw, wanted, waits_for)
            lane.queue.append(item)
            self._count(item, 1)
            if lane.state == "idle":
                self._line_up(lane)

    def _count(self, item: Item, sign: int) -> None:
        self._events += sign
        self._bytes += sign * len(item.raw)

    # --- handing out ---

    @property
    def is_held_up(self) -> bool:
        """Whether lanes wait for their cursors in Redis to follow."""
        return bool(self._full)

    @property
    def has_ready(self) -> bool:
        """Whether there may be an event to hand out."""
        return bool(self._ready)

    def next(self) -> Lane | None:
        """A lane whose first event is to be handled now. It is out until `finish`, `rest` or `put_back`."""
        while self._ready:
            lane = self._ready.popleft()
            if not lane.gone and lane.state == "ready" and self._may_go(lane):
                lane.state = "busy"
                return lane
        return None

    def _may_go(self, lane: Lane) -> bool:
        if lane.leaving:
            lane.state = "idle"
        elif lane.number in self._lost:
            lane.state = "succeeding"
        elif lane.unmoved >= UNMOVED:
            lane.state = "full"
            self._full.append(lane)
        elif not self._is_open(lane):
            lane.state = "blocked"
            self._blocked.append(lane)
        else:
            return True
        return False

    def finish(self, lane: Lane) -> None:
        """The event that was out is handled, or given up."""
        if self._was_lost(lane):
            return
        self._count(lane.queue.popleft(), -1)
        lane.unmoved += 1
        lane.doubts = max(0, lane.doubts - 1)
        lane.failures, lane.cause = 0, ""
        self._line_up(lane)
        if self._blocked:
            self.unblock()

    def rest(self, lane: Lane) -> None:
        """The event that was out is to be tried again, after `resume`."""
        if not self._was_lost(lane):
            lane.state = "resting"

    def resume(self, lane: Lane) -> None:
        """The rest is over."""
        if not lane.gone and lane.state == "resting":
            self._line_up(lane)

    def put_back(self, lane: Lane) -> None:
        """The event that was out was not begun, or was broken off by our own ending."""
        if not self._was_lost(lane):
            self._line_up(lane)

    def _line_up(self, lane: Lane) -> None:
        lane.state = "ready" if lane.queue else "idle"
        if lane.queue:
            self._ready.append(lane)

    def _was_lost(self, lane: Lane) -> bool:
        """Whether an event that comes back is of a lane that was lost. Ours again, its successor may go on now."""
        if not lane.gone:
            return False
        del self._lost[lane.number]
        successor = self.lanes.get(lane.number)
        if successor is not None and successor.state == "succeeding":
            self._line_up(successor)
        return True

    # --- merges ---

    def _is_open(self, lane: Lane) -> bool:
        first = lane.queue[0]
        return all(self._past(number) >= first.position for number in first.waits_for)

    def _past(self, number: int) -> Position:
        lane = self.lanes.get(number)
        return self._elsewhere.get(number, BEGINNING) if lane is None else self.past(lane)

    def awaited(self) -> set[int]:
        """Lanes that others hold and that events here wait for."""
        numbers = {number for lane in self._blocked if not lane.gone for number in lane.queue[0].waits_for}
        return numbers - self.lanes.keys()

    def hear(self, elsewhere: Mapping[int, Position]) -> None:
        """How far lanes are that others hold."""
        self._elsewhere = elsewhere
        self.unblock()

    def unblock(self) -> None:
        """Lanes have come on, or more was read: what waits for that is looked at again."""
        blocked, self._blocked = self._blocked, []
        for lane in blocked:
            if not lane.gone and lane.state == "blocked":
                self._line_up(lane)

    # --- cursors ---

    def past(self, lane: Lane) -> Position:
        """Up to where everything of a lane is handled: all that comes before its first event, whatever that is."""
        return just_before(lane.queue[0].position) if lane.queue else max(lane.floor, self.position)

    def moves(self) -> dict[int, Position]:
        """The cursors that are to move in Redis, and where to."""
        moves = {}
        for number, lane in self.lanes.items():
            past = self.past(lane)
            if past > lane.moved:
                moves[number] = past
                lane.moving = lane.unmoved
        return moves

    def moved(self, moves: Mapping[int, Position]) -> None:
        """These cursors have moved."""
        for number, position in moves.items():
            lane = self.lanes.get(number)
            if lane is not None:
                lane.moved = position
                lane.unmoved -= lane.moving
                lane.moving = 0
        full, self._full = self._full, []
        for lane in full:
            if not lane.gone and lane.state == "full":
                self._line_up(lane)
