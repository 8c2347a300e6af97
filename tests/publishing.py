"""Everything that a pipeline publishes of simulated callbacks and of every fixture, as subscribers get it."""

import asyncio
from collections.abc import Iterator
from secrets import token_hex
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from correlator.redis_client import connect
from receiver.captures import CaptureLog
from schemas.callback import Capture
from schemas.clock import format_time
from schemas.wire import encode_facts, encode_headers
from tests.captured import DEDUPE_SECONDS, fill, site_of, work_off
from tests.conformance import folders, load

SIMULATED = 800

Fields = dict[bytes, bytes]


class Published(NamedTuple):
    """What stands in the streams, and what was told on the channels meanwhile."""

    streams: dict[str, list[Fields]]
    channels: list[tuple[str, bytes]]

    @property
    def stream(self) -> list[bytes]:
        """The envelopes in the stream of events."""
        return [fields[b"event"] for fields in self.streams["events"]]

    @property
    def every(self) -> list[bytes]:
        """Each envelope once."""
        return [*self.stream, *{data for _, data in self.channels}.difference(self.stream)]


async def publish(redis_url: str) -> Published:
    """Work captures off in a namespace of their own, with somebody listening on every channel."""
    redis = connect(redis_url, 20.0)
    site = site_of(redis, f"t-{token_hex(6)}")
    keys = site.keyspace
    pubsub: Any = redis.pubsub()
    await pubsub.psubscribe(keys.every_channel)
    heard = asyncio.create_task(_listen(pubsub))
    await fill(site, SIMULATED)
    await CaptureLog(redis, keys).append(list(_of_fixtures()))
    await work_off(site)
    await redis.publish(keys.channel("end", ""), b"")
    streams = {"events": keys.events, "captures": keys.captures, "dead": keys.dead}
    published = Published({name: await _entries(redis, key) for name, key in streams.items()}, await heard)
    await pubsub.aclose()
    await redis.aclose()
    return published


def _of_fixtures() -> Iterator[list[bytes]]:
    """Every fixture as the values of a log entry, each in an account of its own: some tell the same fact."""
    for number, folder in enumerate(folders()):
        yield _values(load(folder), number)


def _values(capture: Capture, number: int) -> list[bytes]:
    """The values of a log entry; it is not too old, whenever it is from."""
    facts = msgspec.structs.replace(capture.facts, dedupe_seconds=DEDUPE_SECONDS)
    return [
        f"cp_f{number:031x}".encode(),
        capture.provider.encode(),
        f"main-{number}".encode(),
        capture.kind.encode(),
        format_time(capture.received_at).encode(),
        capture.assurance.encode(),
        encode_headers(capture.headers),
        encode_facts(facts),
        capture.body,
    ]


async def _listen(pubsub: Any) -> list[tuple[str, bytes]]:
    """Every message until the end is told: its channel and what it says."""
    heard: list[tuple[str, bytes]] = []
    async for message in pubsub.listen():
        if message["type"] == "pmessage":
            if not message["data"]:
                return heard
            heard.append((message["channel"].decode(), message["data"]))
    raise AssertionError("the subscription ended before it was told to")


async def _entries(redis: Redis, stream: str) -> list[Fields]:
    found: Any = await redis.xrange(stream)
    return [fields for _, fields in found]
