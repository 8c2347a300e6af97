"""Follows events live over pub/sub, for people at a terminal."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas.errors import StoreError
from schemas.keyspace import Keyspace


@asynccontextmanager
async def following(redis: Redis, keyspace: Keyspace) -> AsyncIterator[AsyncIterator[bytes]]:
    """Every envelope published while the context lasts, as bytes; subscribed once it is entered."""
    pubsub: Any = redis.pubsub()
    try:
        with _store_errors():
            await pubsub.psubscribe(keyspace.every_channel)
        yield _envelopes(pubsub)
    finally:
        await pubsub.aclose()


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


def matches(envelope: bytes, types: list[str], subjects: list[str]) -> bool:
    """Whether a filter lets an envelope through; an empty list lets all through."""
    if not types and not subjects:
        return True
    event = orjson.loads(envelope)
    return (not types or event["type"] in types) and (not subjects or event["subject"] in subjects)
