"""Events as pub/sub brings them: hints, at most once, gone for who did not listen."""

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from correlator.following import Outages
from schemas.errors import StoreError
from schemas.keyspace import Keyspace


@asynccontextmanager
async def following(
    redis: Redis, spaces: Sequence[Keyspace], types: Collection[str] = ()
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Every envelope published in these partitions while the context lasts, as bytes; subscribed once it is entered.

    `types`: only these; none: all. Raises StoreError when Redis fails, once it does.
    """
    pubsub: Any = redis.pubsub()
    try:
        with _store_errors():
            await pubsub.psubscribe(*(pattern for keyspace in spaces for pattern in _patterns(keyspace, types)))
        yield _envelopes(pubsub)
    finally:
        await pubsub.aclose()


async def following_for_ever(
    redis: Redis, spaces: Sequence[Keyspace], types: Collection[str] = (), outages: Outages | None = None
) -> AsyncIterator[bytes]:
    """The same through every outage of Redis; what was published meanwhile is missed."""
    outages = outages or Outages()
    while True:
        try:
            async with following(redis, spaces, types) as envelopes:
                outages.over()
                async for envelope in envelopes:
                    yield envelope
        except StoreError as error:
            await outages.wait(error)


def _patterns(keyspace: Keyspace, types: Collection[str]) -> list[str]:
    return [keyspace.channel(each, "*") for each in types] or [keyspace.every_channel]


async def _envelopes(pubsub: Any) -> AsyncIterator[bytes]:
    messages = pubsub.listen()
    while True:
        with _store_errors():
            message = await anext(messages)
        if message["type"] == "pmessage":
            yield message["data"]


@contextmanager
def _store_errors() -> Iterator[None]:
    """Only what Redis does is its error; what becomes of the output, for one, is not."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreError(f"Redis: {type(error).__name__}: {error}; is the receiver running?") from error
