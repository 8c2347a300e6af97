"""A log of captured callbacks of all providers, as the simulation makes them, in a namespace of a real Redis."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import orjson
from redis.asyncio import Redis

from correlator.lease import leased
from receiver.captures import CaptureLog
from receiver.parsing import read
from receiver.providers import PROVIDERS
from receiver.replay import Pace, Site, batches
from receiver.settings import Settings, parse
from schemas.callback import Headers
from schemas.clock import format_time
from schemas.keyspace import Keyspace
from schemas.wire import encode_facts, encode_headers
from tests.simulation.run import Settings as Simulated
from tests.simulation.run import traffic
from tests.simulation.truth import Oracle

#: Simulated callbacks are of one week in 2026, and are not to be too old whenever the tests run.
DEDUPE_SECONDS = 100 * 365 * 86400


def settings_of(namespace: str) -> Settings:
    """Settings of a namespace, with an id_key."""
    account = {"provider": "sinch", "secrets": ["a secret of ours"]}
    document = {"namespace": namespace, "id_key": "a secret of the simulation", "accounts": {"main": account}}
    return parse(document, {}, Path())


def site_of(redis: Redis, namespace: str, keys_of: str | None = None) -> Site:
    """A namespace as a replay takes it."""
    return Site(redis, Keyspace(namespace, keys_of=keys_of), settings_of(namespace))


def captures(count: int, seed: int = 7) -> Iterator[list[bytes]]:
    """The values of log entries: callbacks and registered sends of all providers, with retries and out of order."""
    deliveries = traffic(Simulated(callbacks=count, seed=seed), Oracle())
    for number, delivery in enumerate(islice(deliveries, count), 1):
        posting = delivery.posting
        facts = msgspec.structs.replace(posting.account.facts, dedupe_seconds=DEDUPE_SECONDS)
        yield [
            f"cp_{number:032x}".encode(),
            posting.account.provider.encode(),
            posting.account.name.encode(),
            posting.kind.encode(),
            format_time(datetime.fromtimestamp(delivery.at, UTC)).encode(),
            b"signed",
            encode_headers(((b"content-type", b"application/json"), *_trace(number))),
            encode_facts(facts),
            delivery.body,
        ]


def _trace(number: int) -> Headers:
    """Every third request comes with a trace, as behind a gateway that traces some."""
    return (
        ()
        if number % 3
        else ((b"traceparent", f"00-{number:032x}-{number:016x}-01".encode()), (b"tracestate", b"gw=1"))
    )


async def fill(site: Site, count: int, after: int = 0) -> None:
    """Put callbacks into the log, up to so many; those that it has already are the first `after` of them."""
    log, made = CaptureLog(site.redis, site.keyspace), islice(captures(count), after, None)
    while some := list(islice(made, 200)):
        await log.append(some)


async def work_off(site: Site) -> None:
    """Commit what is in the log, as the pipeline does, with a lease that outlasts a machine that stalls."""
    async with leased(site.redis, site.keyspace, 60.0) as lease:
        store = site.store()
        cursor = await store.cursor()
        async for batch in batches(CaptureLog(site.redis, site.keyspace).scan(cursor), Pace()):
            await store.commit(lease.token, cursor, [read(entry, PROVIDERS) for entry in batch])
            cursor = batch[-1].position


async def events(site: Site) -> list[dict[str, Any]]:
    """The stream, oldest first."""
    redis: Any = site.redis
    return [orjson.loads(fields[b"event"]) for _, fields in await redis.xrange(site.keyspace.events)]


async def kept(site: Site) -> dict[str, Any]:
    """Everything that is kept for good, by key name without the namespace: what a rebuild must equal."""
    redis: Any = site.redis
    found: dict[str, Any] = {}
    for word in ("cv", "fo", "us", "ac", "sq"):
        names = sorted([name async for name in redis.scan_iter(f"{site.keyspace.prefix}:{word}:*", count=5000)])
        values = await redis.mget(names) if names else []
        short = [name.decode().removeprefix(site.keyspace.prefix) for name in names]
        found |= dict(zip(short, values, strict=True))
    return found
