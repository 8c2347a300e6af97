"""The groups of subscribers of a namespace, seen from outside: how far each is, and what it gave up on. Only reads."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from correlator.lane_group import LaneGroup
from correlator.lanes import Position, position_of, show_position
from correlator.scripts import answer
from schemas.clock import from_unix
from schemas.keyspace import Keyspace
from schemas.reader import Head, glance

_BATCH: Final = 1000


#: A partition, and a client for it.
Place = tuple[Redis, Keyspace]


class Group(msgspec.Struct, frozen=True):
    """One group, as it is now, over all partitions."""

    group: str
    #: How many lanes it shares the events by, and how many of them a living consumer has.
    lanes: int
    held: int
    consumers: int
    #: Age of the oldest event that may not be handled yet, by its publication; 0 where there is none.
    lag_seconds: float
    #: Where it stands, None: there is none; and in which partition's stream.
    position: str | None
    partition: int
    #: How many events it gave up on; old ones are removed in time.
    dead: int


class GivenUp(msgspec.Struct, frozen=True):
    """One event that a group gave up on."""

    #: None where the server that wrote it had no time that can be.
    at: datetime | None
    #: The event's id; empty where it had none that could be read.
    event: str
    #: Of the event, as long as the stream holds it.
    type: str | None
    subject: str | None
    #: The class of what its handler raised, or another word.
    reason: str
    tries: int
    #: Where the event stands, and in which partition's stream.
    position: str
    partition: int


class Subscribers:
    """All groups of a namespace. All calls raise StoreError when Redis fails."""

    def __init__(self, places: Sequence[Place], clock: Callable[[], float] = time.time) -> None:
        """`places`: its partitions; `clock`: Unix seconds, for the lag."""
        self._places = places
        self._clock = clock

    async def names(self) -> list[str]:
        """The names of all groups. There is no list of them, so the names of all keys are looked through."""
        found = [await _names(*place) for place in self._places]
        return sorted(set[str]().union(*found))

    async def group(self, name: str) -> Group | None:
        """How a group is; None: there is none of that name."""
        parts = [part for place in self._places if (part := await self._part(*place, name)) is not None]
        if not parts:
            return None
        behind = max(parts, key=lambda part: part.lag_seconds)
        return msgspec.structs.replace(
            behind,
            lanes=sum(part.lanes for part in parts),
            held=sum(part.held for part in parts),
            consumers=max(part.consumers for part in parts),  # each consumer works in every partition
            dead=sum(part.dead for part in parts),
        )

    async def given_up(self, name: str, count: int) -> list[GivenUp]:
        """The last `count` events that a group gave up on, the last one last."""
        found = [letter for place in self._places for letter in await _letters(*place, name, count)]
        return [letter for _, letter in sorted(found, key=lambda each: each[0])[-count:]]

    async def _part(self, redis: Redis, keyspace: Keyspace, name: str) -> Group | None:
        group = LaneGroup(redis, keyspace, name, 0.0)
        lanes = await group.made()
        if lanes is None:
            return None
        survey, oldest = await group.seen(), await group.oldest_to_do(lanes)
        return Group(
            group=name,
            lanes=lanes,
            held=sum(holder in survey.consumers for holder in survey.holders.values()),
            consumers=len(survey.consumers),
            lag_seconds=round(max(0.0, self._clock() - oldest[0] / 1000), 3) if oldest else 0.0,
            position=show_position(oldest) if oldest else None,
            partition=keyspace.partition,
            dead=await answer(redis.xlen(keyspace.undeliverable(name))),
        )


async def _names(redis: Redis, keyspace: Keyspace) -> set[str]:
    found, cursor = set[str](), 0
    while True:
        cursor, keys = await answer(redis.scan(cursor, match=keyspace.subscribers("*"), count=_BATCH))
        names = (key.decode().removeprefix(keyspace.subscribers("")) for key in keys)
        found.update(name for name in names if ":" not in name)  # others are what a group keeps
        if not cursor:
            return found


async def _letters(redis: Redis, keyspace: Keyspace, name: str, count: int) -> list[tuple[Position, GivenUp]]:
    """The last letters in one partition, each with its place among them."""
    letters = await answer(redis.xrevrange(keyspace.undeliverable(name), count=count))
    pipeline: Any = redis.pipeline(transaction=False)
    for _, fields in letters:
        pipeline.xrange(keyspace.events, fields[b"position"], fields[b"position"])
    events = await answer(pipeline.execute())
    return [
        (position_of(at), _given_up(position_of(at), fields, event, keyspace.partition))
        for (at, fields), event in zip(letters, events, strict=True)
    ]


def _given_up(
    at: Position, fields: Mapping[bytes, bytes], found: Sequence[tuple[bytes, Mapping[bytes, bytes]]], partition: int
) -> GivenUp:
    head = glance(found[0][1].get(b"event", b"")) if found else Head()
    event, position, reason = (fields[name].decode(errors="replace") for name in (b"event", b"position", b"reason"))
    return GivenUp(
        at=from_unix(at[0] / 1000),
        event=event,
        type=head.type or None,
        subject=head.subject or None,
        reason=reason,
        tries=int(fields[b"tries"]),
        position=position,
        partition=partition,
    )
