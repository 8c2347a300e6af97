"""The groups of subscribers of a namespace, seen from outside: how far each is, and what it gave up on. Only reads."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from correlator.lane_group import LaneGroup
from correlator.lanes import position_of
from correlator.scripts import answer
from correlator.subscribe import Subscription
from schemas.clock import from_unix
from schemas.keyspace import Keyspace
from schemas.reader import glance

_BATCH: Final = 1000


class Group(msgspec.Struct, frozen=True):
    """One group, as it is now."""

    group: str
    #: How many lanes it shares the events by, and how many of them a living consumer has.
    lanes: int
    held: int
    consumers: int
    #: Age of the oldest event that may not be handled yet, by its publication; and where it stands, None: none is.
    lag_seconds: float
    position: str | None
    #: How many events it gave up on; old ones are removed in time.
    dead: int


class GivenUp(msgspec.Struct, frozen=True):
    """One event that a group gave up on."""

    #: None where the server that wrote it had no time that can be.
    at: datetime | None
    #: The event's id.
    event: str
    #: Of the event, as long as the stream holds it.
    type: str | None
    subject: str | None
    #: The class of what its handler raised, or another word.
    reason: str
    tries: int
    #: Where the event stands in the stream.
    position: str


class Subscribers:
    """All groups of a namespace. All calls raise StoreError when Redis fails."""

    def __init__(self, redis: Redis, keyspace: Keyspace, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix seconds, for the lag."""
        self._redis: Any = redis
        self._keys = keyspace
        self._clock = clock

    async def names(self) -> list[str]:
        """The names of all groups. There is no list of them, so the names of all keys are looked through."""
        found, cursor = set[str](), 0
        while True:
            scan = self._redis.scan(cursor, match=self._keys.subscribers("*"), count=_BATCH)
            cursor, keys = await answer(scan)
            names = (key.decode().removeprefix(self._keys.subscribers("")) for key in keys)
            found.update(name for name in names if ":" not in name)  # others are what a group keeps
            if not cursor:
                return sorted(found)

    async def group(self, name: str) -> Group | None:
        """How a group is; None: there is none of that name."""
        group = LaneGroup(self._redis, self._keys, name, 0.0)
        lanes = await group.made()
        if lanes is None:
            return None
        survey = await group.seen()
        lag = await self._subscription(name).lag()
        return Group(
            group=name,
            lanes=lanes,
            held=sum(holder in survey.consumers for holder in survey.holders.values()),
            consumers=len(survey.consumers),
            lag_seconds=round(lag.seconds, 3) if lag else 0.0,
            position=lag.position if lag else None,
            dead=await answer(self._redis.xlen(self._keys.undeliverable(name))),
        )

    async def given_up(self, name: str, count: int) -> list[GivenUp]:
        """The last `count` events that a group gave up on, the last one last."""
        letters = await answer(self._redis.xrevrange(self._keys.undeliverable(name), count=count))
        pipeline = self._redis.pipeline(transaction=False)
        for _, fields in letters:
            pipeline.xrange(self._keys.events, fields[b"position"], fields[b"position"])
        events = await answer(pipeline.execute())
        return [_given_up(at, fields, event) for (at, fields), event in zip(letters, events, strict=True)][::-1]

    def _subscription(self, name: str) -> Subscription:
        return Subscription(self._redis, namespace=self._keys.namespace, group=name, clock=self._clock)


def _given_up(at: bytes, fields: dict[bytes, bytes], found: list[tuple[bytes, dict[bytes, bytes]]]) -> GivenUp:
    head = glance(found[0][1].get(b"event", b"")) if found else None
    event, position, reason = (fields[name].decode(errors="replace") for name in (b"event", b"position", b"reason"))
    return GivenUp(
        at=from_unix(position_of(at)[0] / 1000),
        event=event,
        type=head.type or None if head else None,
        subject=head.subject or None if head else None,
        reason=reason,
        tries=int(fields[b"tries"]),
        position=position,
    )
