"""Subscribing from Python: typed events, in order within each conversation, over any number of consumers.

    async with Subscription("redis://localhost:6379", namespace="prod", group="crm") as subscription:
        async for event in subscription:
            ...

Consumers that name the same group share its events, and each event is handled at least once: an event is acknowledged
when the next one is asked for (or when the handler given to `run` returns), and what was not acknowledged comes again,
here or at another consumer. `hints` gives events as pub/sub brings them instead: at most once, and to everybody.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Final, Literal, Self

import msgspec
from redis.asyncio import Redis

from correlator.consumer import Consumer, Handler, Retry
from correlator.consumers import Consumers
from correlator.filtering import Filter
from correlator.hints import following_for_ever
from correlator.lane_group import LaneGroup
from correlator.lanes import BEGINNING, Position, just_before, read_position, show_position
from correlator.lookup import Lookup, recorded_partitions
from correlator.options import filter_mistakes, group_mistakes, start_mistakes
from correlator.redis_client import connect
from schemas.clock import unix_milliseconds
from schemas.errors import ConfigError, ParseError
from schemas.ids import ConversationKey
from schemas.keyspace import Keyspace, keyspaces
from schemas.reader import Published, decode, glance

__all__ = ["CONCURRENCY", "LANES", "LEASE_SECONDS", "Lag", "Published", "Retry", "Subscription", "hints"]

#: How many lanes a new group has: as many consumers can share its events.
LANES: Final = 64
CONCURRENCY: Final = 32
LEASE_SECONDS: Final = 6.0
_TIMEOUT_SECONDS: Final = 5.0
_GRACE_SECONDS: Final = 15.0

log = logging.getLogger("partyline.subscribe")


class Lag(msgspec.Struct, frozen=True):
    """How far a group is behind the stream."""

    #: Age of the oldest event that may not be handled yet, by its publication; 0 where there is none.
    seconds: float
    #: Where that event stands in the stream; None where there is none.
    position: str | None
    #: Of which partition's stream.
    partition: int = 0


class Subscription:
    """The events of a namespace, for one consumer of a group. It may be iterated, or run, once at a time."""

    def __init__(
        self,
        redis: str | Redis,
        *,
        namespace: str,
        group: str,
        types: Collection[str] = (),
        conversations: Collection[str] = (),
        start: Literal["new", "beginning"] | str | datetime = "new",  # noqa: PYI051 - says which words there are
        retry: Retry = Retry(),  # noqa: B008 - frozen
        lanes: int = LANES,
        lease_seconds: float = LEASE_SECONDS,
        partitions: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """A subscription that reads nothing yet.

        Args:
            redis: the URL of a server, of sentinels or of a cluster (see `correlator.redis_url`); or a client of the
                server that has the namespace, which stays yours to close.
            namespace: the receiver's.
            group: who shares these events. Another group gets all of them as well.
            types: only these types; none: all.
            conversations: only these, each by any key that ever meant it; none: all.
            start: where a new group begins: with what is `new`, at the `beginning` of what is kept, after a position
                in the stream, or at a time of publication. A group that exists goes on where it is.
            retry: what becomes of an event that fails, or is handed out and never acknowledged.
            lanes: how many consumers can share the events of a new group, in each partition; fixed when it is made.
            lease_seconds: after so long the lanes of a consumer that died are taken over; so long may your code hold
                up the event loop at most.
            partitions: the receiver's `redis.partitions`; None: what the namespace says, once it was ever served.
            clock: Unix seconds, for `lag`.

        Raises ConfigError with all that cannot be used.
        """
        mistakes = [
            *filter_mistakes(namespace, types),
            *group_mistakes(group, lanes, lease_seconds, retry),
            *start_mistakes(start),
        ]
        if mistakes:
            raise ConfigError(mistakes)
        self._redis = redis
        self._namespace = namespace
        self._partitions = partitions
        self._group = group
        self._types, self._conversations = types, conversations
        self._start = start
        self._retry = retry
        self._lanes = lanes
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._consumers: Consumers | None = None
        self._stopped = False

    def __aiter__(self) -> AsyncIterator[Published]:
        """Each event; it is acknowledged when the next one is asked for, and not when the loop is left before."""
        return self._events()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the group, if a loop was left without that having happened by itself."""
        await self.aclose()

    async def run(
        self, handler: Handler, *, concurrency: int = CONCURRENCY, grace_seconds: float = _GRACE_SECONDS
    ) -> None:
        """Hand events to a handler until `stop`, each in its conversation's order, of several conversations at once.

        Args:
            handler: awaited for each event; the event is acknowledged when it returns, and tried again if it raises.
            concurrency: how many run at once.
            grace_seconds: how long to wait for those that run when stopped; then they are cancelled, and their events
                come again.

        Raises StoreError when Redis cannot be reached at the beginning; later outages are waited for.
        """
        async with self._joined() as consumers:
            await consumers.run(handler, concurrency, grace_seconds)

    def stop(self) -> None:
        """End the loop or `run`, or the next one, once what is being handled is. For signal handlers."""
        self._stopped = True
        if self._consumers is not None:
            self._consumers.stop()

    async def aclose(self) -> None:
        """Leave the group now. An event that was handed out and not acknowledged comes again."""
        if self._consumers is not None:
            await self._consumers.close()
            self._consumers = None

    async def lag(self) -> Lag | None:
        """How far the group is behind, all its consumers together; None: there is no such group yet.

        Raises StoreError when Redis cannot be reached.
        """
        async with AsyncExitStack() as stack:
            groups = [
                self._group_at(redis, keys)
                for redis, keys in await _places(stack, self._redis, self._namespace, self._partitions)
            ]
            lags = [await self._lag_of(partition, group) for partition, group in enumerate(groups)]
        behind = [lag for lag in lags if lag is not None]
        return max(behind, key=lambda lag: lag.seconds) if behind else None

    # --- how ---

    async def _lag_of(self, partition: int, group: LaneGroup) -> Lag | None:
        lanes = await group.made()
        if lanes is None:
            return None
        oldest = await group.oldest_to_do(lanes)
        if oldest is None:
            return Lag(0.0, None, partition)
        return Lag(max(0.0, self._clock() - oldest[0] / 1000), show_position(oldest), partition)

    async def _events(self) -> AsyncIterator[Published]:
        async with self._joined() as consumers:
            while (found := await consumers.next()) is not None:
                consumer, lane, event = found
                yield event
                consumer.finish(lane)

    @asynccontextmanager
    async def _joined(self) -> AsyncIterator[Consumers]:
        """A consumer of the group at each partition. A loop before that was left, and not closed yet, ends first."""
        if self._consumers is not None:
            await self._consumers.close()
        async with AsyncExitStack() as stack:
            ready = asyncio.Event()
            places = await _places(stack, self._redis, self._namespace, self._partitions)
            if mistakes := [*start_mistakes(self._start, len(places))]:
                raise ConfigError(mistakes)
            consumers = self._consumers = Consumers([await self._consumer(*each, ready) for each in places], ready)
            try:
                await consumers.open()
                if self._stopped:
                    consumers.stop()
                yield consumers
            finally:
                await _to_the_end(consumers.close)
                if self._consumers is consumers:
                    self._consumers, self._stopped = None, False

    async def _consumer(self, redis: Redis, keys: Keyspace, ready: asyncio.Event) -> Consumer:
        group = self._group_at(redis, keys)
        lanes = await group.made()
        if lanes is None:
            lanes = await group.make(self._lanes, await _begun(self._start, group))
        resolving = _resolving([(redis, keys)], self._types, self._conversations)
        return Consumer(
            group,
            lanes,
            lease_seconds=self._lease_seconds,
            retry=self._retry,
            wanted=await resolving(),
            resolve=resolving if self._conversations else None,
            ready=ready,
        )

    def _group_at(self, redis: Redis, keys: Keyspace) -> LaneGroup:
        return LaneGroup(redis, keys, self._group, self._lease_seconds)


async def hints(
    redis: str | Redis,
    *,
    namespace: str,
    types: Collection[str] = (),
    conversations: Collection[str] = (),
    partitions: int | None = None,
) -> AsyncIterator[Published]:
    """Events as pub/sub brings them, `typing` among them: at most once, and none of while nobody listened.

    The arguments are those of `Subscription`; conversations mean what they mean when it begins. An outage of Redis is
    waited for, and what was published meanwhile is missed. Raises ConfigError with all that cannot be used.
    """
    if mistakes := [*filter_mistakes(namespace, types)]:
        raise ConfigError(mistakes)
    async with AsyncExitStack() as stack:
        # What is published anywhere in a cluster is told by every node of it.
        patient = await stack.enter_async_context(_client(redis, Keyspace(namespace), timeout_seconds=None))
        places = await _places(stack, redis, namespace, partitions)
        resolving = _resolving(places, types, conversations)
        wanted = await resolving()
        async for envelope in following_for_ever(patient, [keys for _, keys in places], types):
            head = glance(envelope)
            if wanted.is_moved_by(head, envelope):
                wanted = await resolving()
            if wanted.wants(head) and (event := _read(envelope)) is not None:
                yield event


def _read(envelope: bytes) -> Published | None:
    try:
        return decode(envelope)
    except ParseError as error:
        log.warning("a hint that is no event of ours is left out: %s", error)
        return None


async def _places(
    stack: AsyncExitStack, redis: str | Redis, namespace: str, partitions: int | None
) -> list[tuple[Redis, Keyspace]]:
    """The partitions of a namespace, each with a client for it."""
    first = Keyspace(namespace)
    client = await stack.enter_async_context(_client(redis, first))
    others = keyspaces(namespace, partitions or await recorded_partitions(client, first))[1:]
    return [
        (client, first),
        *[(await stack.enter_async_context(_client(redis, keys)), keys) for keys in others],
    ]


@asynccontextmanager
async def _client(
    redis: str | Redis, keyspace: Keyspace, timeout_seconds: float | None = _TIMEOUT_SECONDS
) -> AsyncIterator[Redis]:
    """A client of ours for an URL, or the one that was given."""
    if not isinstance(redis, str):
        if redis.get_encoder().decode_responses:  # type: ignore[no-untyped-call]
            raise ConfigError(["redis: a client without decode_responses is needed; or give the URL"])
        yield redis
        return
    client = connect(redis, timeout_seconds, keyspace)
    try:
        yield client
    finally:
        await client.aclose()


def _resolving(
    places: Sequence[tuple[Redis, Keyspace]], types: Collection[str], conversations: Collection[str]
) -> Callable[[], Awaitable[Filter]]:
    """The filter, with the keys that mean the conversations named now, in any of these partitions."""
    only = frozenset(types) if types else None
    named = [ConversationKey(key) for key in conversations]
    # Which keys are one conversation is in the records; nothing is derived, so no id_key is needed.
    lookups = [Lookup(redis, keys, b"") for redis, keys in places]

    async def resolve() -> Filter:
        found = [await lookup.equivalents(named) for lookup in lookups if named]
        return Filter(only, frozenset().union(*found) if named else None)

    return resolve


async def _begun(start: str | datetime, group: LaneGroup) -> Position:
    """The position after which a new group begins."""
    if start == "new":
        return await group.last()
    if isinstance(start, datetime):
        return just_before((unix_milliseconds(start), 0))
    return read_position(start) or BEGINNING


async def _to_the_end(close: Callable[[], Awaitable[None]]) -> None:
    """Close, also when the closing itself is cancelled: when the program ends, all tasks are."""
    try:
        await close()
    except BaseException:
        await close()
        raise
