"""Follows events live over pub/sub, for people at a terminal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
        await pubsub.psubscribe(keyspace.every_channel)
        yield _envelopes(pubsub)
    except (RedisError, OSError) as error:
        raise StoreError(f"Redis: {type(error).__name__}") from error
    finally:
        await pubsub.aclose()


async def _envelopes(pubsub: Any) -> AsyncIterator[bytes]:
    async for message in pubsub.listen():
        if message["type"] == "pmessage":
            yield message["data"]


def matches(envelope: bytes, types: list[str], subjects: list[str]) -> bool:
    """Whether a filter lets an envelope through; an empty list lets all through."""
    if not types and not subjects:
        return True
    event = orjson.loads(envelope)
    return (not types or event["type"] in types) and (not subjects or event["subject"] in subjects)
