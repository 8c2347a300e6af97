"""One consumer of a group at one partition: keeps its lease and its lanes, reads, hands events out, moves cursors.

Three loops run beside whoever handles the events: one reads the stream on to the board, one moves cursors in Redis
after what is handled, one renews the lease and takes or hands over lanes. Each waits out an outage of Redis.

A consumer hands nothing out after its lease has run out by its own clock, so one that was frozen does not begin another
event when it wakes up; and whatever it has done then, its cursors no longer move.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec

from correlator.board import Board, Lane
from correlator.filtering import Filter
from correlator.lane_group import LaneGroup
from correlator.lanes import Position, plan, show_position
from schemas.errors import ParseError, StoreError, StreamRewound
from schemas.reader import Published, decode, glance

Handler = Callable[[Published], Awaitable[object]]

#: How often in the time of a lease it is renewed and lanes are shared out anew.
_BEATS: Final = 6
#: The same while lanes are to come to us that others have yet to hand over.
_HUNGRY_SECONDS: Final = 0.2
_READ: Final = 500
_WAIT_MILLISECONDS: Final = 250
#: Cursors follow so often at most: one write for all lanes and all that was handled meanwhile.
_MOVE_SECONDS: Final = 0.02
_IDLE_SECONDS: Final = 0.5
_OUTAGE_SECONDS: Final = 0.2
_COMPLAIN_SECONDS: Final = 30.0
#: How often the keys of the conversations wanted are looked up again, in case a link was taken back.
_RESOLVE_SECONDS: Final = 10.0
#: Handlers that never wait let the loops run once in so many events.
_TURN: Final = 64

_UNACKNOWLEDGED: Final = "not acknowledged"

log = logging.getLogger("partyline.subscribe")


class Retry(msgspec.Struct, frozen=True):
    """How often an event is tried, and how long the lane waits in between: twice as long after each failure."""

    tries: int = 5
    first_seconds: float = 1.0
    longest_seconds: float = 60.0

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        return float(min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, 32)))


class Consumer:
    """From `open` to `close`. Its events come by `next` and `finish`, or go to a handler with `work`."""

    def __init__(
        self,
        group: LaneGroup,
        lanes: int,
        *,
        lease_seconds: float,
        retry: Retry,
        wanted: Filter,
        resolve: Callable[[], Awaitable[Filter]] | None,
        ready: asyncio.Event,
    ) -> None:
        """A consumer that has not joined yet.

        Args:
            group: its hold on the group.
            lanes: how many the group has.
            lease_seconds: how long its lease lives without being renewed.
            retry: what becomes of events whose handling fails.
            wanted: the filter.
            resolve: looks up the filter anew, where conversations are named in it.
            ready: set whenever there may be something to hand out, or it has ended.
        """
        self._group = group
        self._board = Board(lanes)
        self._lease_seconds = lease_seconds
        self._retry = retry
        self._wanted = wanted
        self._resolve = resolve
        self._time = asyncio.get_running_loop().time
        self._valid_until = self._resolved_at = self._time()
        self._complained_at = self._time() - _COMPLAIN_SECONDS
        self._stopping = self._closed = False
        self._closing = asyncio.Lock()
        #: What ended it by itself.
        self.failure: BaseException | None = None
        self._ready = ready
        #: There may be room on the board; something for cursors to follow, and that at once.
        self._room, self._handled, self._at_once = (asyncio.Event() for _ in range(3))
        #: Lanes are to be shared out anew.
        self._stirred = asyncio.Event()
        #: Cursors move in the order of their positions, whoever moves them.
        self._moving = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- beginning and end ---

    async def open(self) -> None:
        """Join the group. StoreError when Redis cannot be reached; later outages are waited for."""
        at = self._time()
        await self._group.join()
        self._valid_until = at + self._lease_seconds
        for step in (self._beat, self._read, self._follow):
            self._spawn(self._through_outages(step))

    def stop(self) -> None:
        """Hand nothing more out, and have everything that waits return."""
        self._stopping = True
        for event in (self._ready, self._room, self._handled, self._at_once, self._stirred):
            event.set()

    async def close(self) -> None:
        """Leave the group, its cursors moved and its lanes free.

        A lane whose event is out still is not released as handled: that event is tried with doubts by the next one.
        """
        self.stop()
        async with self._closing:  # a loop that was left ends when it is collected, and beside whoever closes us
            if not self._closed:
                await self._leave()
                self._closed = True

    async def _leave(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            await self._move()
            await self._group.release(self._board.lanes.keys() - self._board.in_the_middle)
            await self._group.give_up()
        except StoreError as error:  # the lease runs out by itself, and what was not noted comes again
            log.warning("left without a word to Redis: %s", error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = self.failure or task.exception()
            self.stop()

    # --- handing out ---

    async def next(self) -> tuple[Lane, Published] | None:
        """The next event that may be handled now, and the lane to `finish` once it is; None: there is none."""
        while (lane := self._take()) is not None:
            if (event := await self._begun(lane)) is not None:
                return lane, event
        return None

    def finish(self, lane: Lane) -> None:
        """The event that was handed out of a lane is handled."""
        self._board.finish(lane)
        self._handled.set()
        if not self._room.is_set() and self._board.has_room:
            self._room.set()

    @property
    def has_work(self) -> bool:
        """Whether an event may be handled now."""
        return self._may_begin and self._board.has_ready

    def work(self, handler: Handler) -> "asyncio.Task[None]":
        """A task that hands events to a handler, one after the other, as long as there are some."""
        return self._spawn(self._work(handler))

    async def _work(self, handler: Handler) -> None:
        handled = 0
        while (lane := self._take()) is not None:
            event = await self._begun(lane)
            if event is not None:
                await self._hand(lane, event, handler)
            handled += 1
            if handled % _TURN == 0:
                await asyncio.sleep(0)

    async def _hand(self, lane: Lane, event: Published, handler: Handler) -> None:
        try:
            await handler(event)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, its event is tried again
            await self._failed(lane, error)
        except BaseException:
            self._board.put_back(lane)
            raise
        else:
            self.finish(lane)

    @property
    def _may_begin(self) -> bool:
        """Whether any event may: not when stopped, nor when others may have our lanes by now."""
        return not self._stopping and self._time() < self._valid_until

    def _take(self) -> Lane | None:
        """A lane whose next event may begin."""
        if not self._may_begin:
            self._stirred.set()
            return None
        lane = self._board.next()
        if self._board.is_held_up:
            self._at_once.set()
        return lane

    async def _begun(self, lane: Lane) -> Published | None:
        """The event at the head of a lane, if it is to be handled now."""
        item = lane.queue[0]
        if not item.wanted:
            self.finish(lane)
            return None
        try:
            if (lane.doubts or lane.failures) and not await self._may_try(lane):
                return None
            return decode(item.raw, show_position(item.position))
        except ParseError as error:
            lane.cause = error.reason
            await self._give_up(lane, 0)
        except StoreError as error:
            self._complain(error)
            self._rest(lane, _OUTAGE_SECONDS)
        return None

    async def _may_try(self, lane: Lane) -> bool:
        tries = await self._counted(lane, 1)
        if not tries:
            self._lose(lane)
            return False
        lane.failures = tries - 1
        if tries > self._retry.tries:
            await self._give_up(lane, tries - 1)
            return False
        return True

    async def _counted(self, lane: Lane, more: int) -> int:
        position, past = lane.queue[0].position, self._board.past(lane)
        return await self._group.count_try(lane.number, position, past, at_least=lane.failures, more=more)

    async def _failed(self, lane: Lane, error: Exception) -> None:
        lane.failures += 1
        lane.cause = type(error).__name__
        place = show_position(lane.queue[0].position)
        log.warning("try %d of event at %s failed", lane.failures, place, exc_info=error)
        if lane.gone:  # another counts the tries of this event by now
            self._lose(lane)
            return
        if lane.failures >= self._retry.tries:
            await self._give_up(lane, lane.failures)
            return
        try:
            await self._counted(lane, 0)
        except StoreError as outage:  # it is counted before the next try
            self._complain(outage)
        self._rest(lane, self._retry.pause(lane.failures))

    async def _give_up(self, lane: Lane, tries: int) -> None:
        item, reason = lane.queue[0], lane.cause or _UNACKNOWLEDGED
        try:
            async with self._moving:
                buried = await self._group.bury(lane.number, item.position, glance(item.raw).id, reason, tries)
        except StoreError as error:
            self._complain(error)
            self._rest(lane, _OUTAGE_SECONDS)
            return
        if buried:
            log.error("event at %s given up after %d tries: %s", show_position(item.position), tries, reason)
            self.finish(lane)
        else:
            self._lose(lane)

    def _rest(self, lane: Lane, seconds: float) -> None:
        self._board.rest(lane)
        asyncio.get_running_loop().call_later(seconds, self._rested, lane)

    def _rested(self, lane: Lane) -> None:
        self._board.resume(lane)
        self._ready.set()

    def _lose(self, lane: Lane) -> None:
        """A lane with an event out is another's by now."""
        if not lane.gone:
            self._board.drop([lane.number])
        self._board.put_back(lane)

    # --- the loops ---

    async def _through_outages(self, step: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping:
            try:
                await step()
            except StreamRewound as error:
                self._start_over(error)
            except StoreError as error:
                self._complain(error)
                await asyncio.sleep(_OUTAGE_SECONDS)

    def _start_over(self, error: StreamRewound) -> None:
        """Forget what was read. The lanes are ours still, and are taken anew from where Redis says that they are."""
        log.warning("%s; what is there is handled again from the cursors on", error)
        self._group.forget_read()
        self._board.drop([*self._board.lanes])
        self._stirred.set()

    def _complain(self, error: StoreError) -> None:
        """Say at once that Redis is away, and then now and again."""
        if self._time() - self._complained_at >= _COMPLAIN_SECONDS:
            self._complained_at = self._time()
            log.warning("waiting for Redis: %s", error)

    async def _pause(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for something, a while at most; it is seen then."""
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return
        event.clear()

    async def _read(self) -> None:
        """Read some of the stream on to the board."""
        board = self._board
        if not board.lanes or not board.has_room:
            await self._pause(self._room, _IDLE_SECONDS)
            return
        generation = board.generation
        entries = await self._group.read(board.position, _READ, _WAIT_MILLISECONDS)
        for position, raw in entries:
            if self._resolve is not None and self._wanted.is_moved_by(glance(raw), raw):
                self._wanted = await self._resolve()
            if board.generation != generation:  # lanes have come that are further behind
                return
            self._put(position, raw)
        if entries:
            board.unblock()
            self._handled.set()
            self._ready.set()

    def _put(self, position: Position, raw: bytes) -> None:
        head, wanted = glance(raw), self._wanted
        self._board.add(head, position, raw, wanted=wanted.wants(head), merged=wanted.orders(head, raw))

    async def _follow(self) -> None:
        """Have cursors follow what was handled, and see how far lanes are that merges here wait for."""
        await self._pause(self._handled, _IDLE_SECONDS)
        await self._move()
        if awaited := self._board.awaited():
            self._board.hear(await self._group.cursors(awaited))
            self._handled.set()
        self._ready.set()
        await self._pause(self._at_once, _MOVE_SECONDS)

    async def _move(self) -> None:
        async with self._moving:
            moves = self._board.moves()
            if moves:
                self._board.drop(await self._group.move(moves))
                self._board.moved(moves)

    async def _beat(self) -> None:
        """Renew the lease, and come to a fair share of the lanes."""
        at = self._time()
        if not await self._group.renew():
            log.warning("the lease ran out: joining anew")
            self._board.drop([*self._board.lanes])
            await self._group.join()
        self._valid_until = at + self._lease_seconds
        has_share = await self._share_out()
        if self._resolve is not None and at - self._resolved_at >= _RESOLVE_SECONDS:
            self._resolved_at = at
            self._wanted = await self._resolve()
        self._ready.set()
        beat = self._lease_seconds / _BEATS
        await self._pause(self._stirred, beat if has_share else min(beat, _HUNGRY_SECONDS))

    async def _share_out(self) -> bool:
        """Take or hand over lanes; whether our share is had."""
        board, token = self._board, self._group.token
        consumers, holders = await self._group.survey()
        if token not in consumers:  # it has run out since; the next beat joins anew
            return False
        ours = {lane for lane, holder in holders.items() if holder == token}
        board.drop(board.lanes.keys() - ours)
        to_do = plan(token, consumers, holders, board.count)
        # Lanes that an answer was lost about are released as well, to be taken again with their cursors.
        await self._hand_over({*board.leave(to_do.surplus), *(ours - board.lanes.keys())})
        if to_do.take:
            board.gain(await self._group.take(to_do.take))
            self._room.set()
        return len(board.lanes) >= to_do.share

    async def _hand_over(self, lanes: set[int]) -> None:
        if lanes:
            await self._move()
            await self._group.release(lanes)
            self._board.drop(lanes)
