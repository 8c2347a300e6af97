"""A group of subscribers in Redis: its facts, its lanes with their cursors and holders, its dead letters.

Each consumer has one lease, a key with a time to live that holds its token; a lane is a consumer's while the lane's
holder is that token and the lease lives. So renewing is one command, however many lanes it is for, and whoever was
frozen past the lease has lost every lane at once: a token is never given twice, and each script checks it.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from correlator.board import Taken
from correlator.following import Entry, entries_of, newest
from correlator.lanes import BEGINNING, Position, position_of, show_position
from correlator.scripts import Scripts, answer
from schemas.errors import StreamRewound
from schemas.keyspace import Keyspace

_LETTERS_KEPT: Final = 65536


class Survey(NamedTuple):
    """Who lives, and who took which lane last."""

    consumers: frozenset[str]
    holders: dict[int, str]


class LaneGroup:
    """One consumer's hold on its group. All calls raise StoreError when Redis fails."""

    def __init__(self, redis: Redis, keyspace: Keyspace, group: str, lease_seconds: float) -> None:
        self._redis: Any = redis
        self._group = group
        self._keys = keyspace
        self._scripts = Scripts(redis)
        self._milliseconds = int(lease_seconds * 1000)
        self._holders = keyspace.lane_holders(group)
        self._cursors = keyspace.lane_cursors(group)
        self._tries = keyspace.lane_tries(group)
        self._lease = ""
        #: The last entry that was read: what a failover may have lost.
        self._witness: Position | None = None
        #: Where lanes begin whose cursor has never moved.
        self.start: Position = BEGINNING
        self.token = ""

    # --- the group ---

    async def made(self) -> int | None:
        """How many lanes the group has; None: there is no such group yet."""
        facts = await answer(self._redis.hgetall(self._keys.subscribers(self._group)))
        if not facts:
            return None
        self.start = position_of(facts[b"start"])
        return int(facts[b"lanes"])

    async def make(self, lanes: int, start: Position) -> int:
        """Make the group, unless another consumer has just done so; how many lanes it has."""
        name = self._keys.subscribers(self._group)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hsetnx(name, "lanes", lanes)
        pipeline.hsetnx(name, "start", show_position(start))
        await answer(pipeline.execute())
        return await self.made() or lanes

    async def last(self) -> Position:
        """The newest position that the stream has given, though the entry may be gone."""
        return await newest(self._redis, self._keys)

    async def oldest_to_do(self, lanes: int) -> Position | None:
        """Where the oldest event stands that may not be handled yet, of all lanes; None: there is none."""
        cursors = await self.cursors(range(lanes))
        return await self.oldest_after(min(cursors.values()))

    async def oldest_after(self, position: Position) -> Position | None:
        """The first entry after a position; None: there is none."""
        found = await answer(self._redis.xrange(self._keys.events, f"({show_position(position)}", "+", count=1))
        return position_of(found[0][0]) if found else None

    async def read(self, after: Position, count: int, wait_milliseconds: int) -> list[Entry]:
        """Entries of the stream after a position; waits for the first.

        Raises StreamRewound where the stream does not have any more what was read before.
        """
        pipeline = self._redis.pipeline(transaction=False)
        if self._witness:
            pipeline.xrange(self._keys.events, self._last_seen, self._last_seen)
        pipeline.xread({self._keys.events: show_position(after)}, count, wait_milliseconds)
        *witness, found = await answer(pipeline.execute())
        if witness == [[]] and not await self._is_trimmed():
            raise _rewound()
        read = entries_of(found)
        if read:
            self._witness = max(self._witness or BEGINNING, read[-1].position)
        return read

    @property
    def _last_seen(self) -> str:
        return show_position(self._witness) if self._witness else ""

    async def _is_trimmed(self) -> bool:
        """As `lua/shared/stands.lua` has it: whether all up to what was read last is gone from the stream."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xrange(self._keys.events, "-", self._last_seen, count=1)
        pipeline.exists(self._keys.events)
        before, is_there = await answer(pipeline.execute())
        return not before and bool(is_there)

    def forget_read(self) -> None:
        """Nothing counts as read any more: it is to be read anew."""
        self._witness = None

    async def _call(self, script: AsyncScript, keys: list[str], args: list[Any]) -> Any:
        """Call a script that moves cursors. Raises StreamRewound as `read` does."""
        said = await answer(script(keys=keys, args=args))
        if said == b"REWOUND":
            raise _rewound()
        return said

    # --- the consumer's lease ---

    async def join(self) -> None:
        """Begin anew, with a token of its own and no lanes."""
        self.token = secrets.token_hex(8)
        self._lease = self._keys.consumer(self._group, self.token)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.set(self._lease, self.token, px=self._milliseconds)
        pipeline.sadd(self._keys.consumers(self._group), self.token)
        await answer(pipeline.execute())

    async def renew(self) -> bool:
        """Prolong the lease. False: it ran out, and all lanes are lost."""
        return bool(await answer(self._scripts.lease(keys=[self._lease], args=[self.token, self._milliseconds])))

    async def give_up(self) -> None:
        """End the lease. Lanes that were not released are free too, and their next event is tried with doubts."""
        await answer(self._scripts.lease(keys=[self._lease], args=[self.token, 0]))
        await answer(self._redis.srem(self._keys.consumers(self._group), self.token))

    async def survey(self) -> Survey:
        """Who shares the lanes now. Those whose lease is gone are struck off: no token comes back."""
        seen, gone = await self._seen()
        if gone:
            await answer(self._redis.srem(self._keys.consumers(self._group), *gone))
        return seen

    async def seen(self) -> Survey:
        """Who shares the lanes now, for who does not, and changes nothing."""
        return (await self._seen())[0]

    async def _seen(self) -> tuple[Survey, frozenset[str]]:
        """The same, and the tokens of those whose lease is gone."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.smembers(self._keys.consumers(self._group))
        pipeline.hgetall(self._holders)
        members, holders = await answer(pipeline.execute())
        tokens = sorted({token.decode() for token in members} | ({self.token} if self.token else set()))
        if not tokens:
            return Survey(frozenset(), {}), frozenset()
        leases = await answer(self._redis.mget([self._keys.consumer(self._group, token) for token in tokens]))
        alive = frozenset(token for token, lease in zip(tokens, leases, strict=True) if lease is not None)
        return Survey(alive, {int(lane): token.decode() for lane, token in holders.items()}), frozenset(tokens) - alive

    # --- lanes ---

    async def take(self, lanes: Iterable[tuple[int, str]]) -> list[Taken]:
        """Take lanes, each from its former holder (empty for none); those that were free still."""
        wanted = list(lanes)
        former = [self._keys.consumer(self._group, token) if token else self._lease for _, token in wanted]
        keys = [self._lease, self._holders, self._cursors, self._tries, *former]
        args = [self.token, *(word for pair in wanted for word in pair)]
        return [self._taken(*each) for each in await answer(self._scripts.lane_take(keys=keys, args=args))]

    def _taken(self, lane: bytes, cursor: bytes, tries: bytes, unreleased: int) -> Taken:
        at = position_of(cursor) if cursor else self.start
        tried = position_of(tries.split(b" ")[0]) if tries else BEGINNING
        return Taken(int(lane), at, bool(unreleased) or tried > at)

    async def move(self, moves: Mapping[int, Position]) -> set[int]:
        """Move the cursors of lanes; those that are another's by now are not moved, and are returned."""
        places = [word for lane, at in moves.items() for word in (lane, show_position(at))]
        keys = [self._lease, self._holders, self._cursors, self._keys.events]
        moved = await self._call(self._scripts.lane_move, keys, [self.token, self._last_seen, *places])
        return moves.keys() - {int(lane) for lane in moved}

    async def release(self, lanes: Iterable[int]) -> None:
        """Let others take these lanes."""
        await answer(self._scripts.lane_release(keys=[self._lease, self._holders], args=[self.token, *lanes]))

    async def cursors(self, lanes: Iterable[int] | None = None) -> dict[int, Position]:
        """How far these lanes are, or (None) all whose cursor has ever moved."""
        if lanes is None:
            found = await answer(self._redis.hgetall(self._cursors))
            return {int(lane): position_of(cursor) for lane, cursor in found.items()}
        numbers = list(lanes)
        found = await answer(self._redis.hmget(self._cursors, numbers))
        return {
            lane: position_of(cursor) if cursor else self.start for lane, cursor in zip(numbers, found, strict=True)
        }

    # --- tries and dead letters ---

    async def count_try(self, lane: int, position: Position, past: Position, *, at_least: int, more: int) -> int:
        """How often an event was tried, `more` of which is news; 0: the lane is another's by now.

        The lane's cursor moves to `past`, up to where everything of it is handled.
        """
        keys = [self._lease, self._holders, self._cursors, self._tries, self._keys.events]
        args = [self.token, lane, show_position(position), at_least, more, show_position(past), self._last_seen]
        return int(await self._call(self._scripts.lane_try, keys, args))

    async def bury(self, lane: int, position: Position, event: str, reason: str, tries: int) -> bool:
        """Give an event up. False: the lane is another's by now."""
        keys = [self._lease, self._holders, self._cursors, self._keys.undeliverable(self._group), self._keys.events]
        args = [self.token, lane, show_position(position), event, reason, tries, _LETTERS_KEPT, self._last_seen]
        return bool(await self._call(self._scripts.lane_bury, keys, args))


def _rewound() -> StreamRewound:
    return StreamRewound("the end of the event stream is not there any more: a failover of Redis has lost it")
