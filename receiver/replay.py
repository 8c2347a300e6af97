"""Stands in for the replay that is being written on another branch: the same names, for as much as `dead retry` needs.

To be replaced by that file as a whole when the branches meet.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple

from redis.asyncio import Redis

from correlator.lease import Lease
from correlator.store import Store
from receiver.captures import LogEntry
from receiver.pipeline import LEASE_SECONDS, read
from receiver.providers import PROVIDERS
from receiver.settings import Settings
from schemas.errors import StoreError
from schemas.keyspace import Keyspace


class Site(NamedTuple):
    """Where it takes place."""

    redis: Redis
    keyspace: Keyspace
    settings: Settings


class Pace(NamedTuple):
    """How a replay goes."""

    rate: float | None = None


class Tally:
    """What a replay has come to so far."""

    def __init__(self) -> None:
        self.captures = 0


async def replay(site: Site, entries: AsyncIterator[LogEntry], _pace: Pace, tally: Tally) -> None:
    """Read captures again in place; what was published is known."""
    lease = Lease(site.redis, site.keyspace, LEASE_SECONDS)
    store = Store(site.redis, site.keyspace, site.settings.id_key, site.settings.retention.messages_seconds)
    if not await lease.take():
        raise StoreError("another pipeline holds the lease: stop the service first")
    async for entry in entries:
        await store.commit(lease.token, await store.cursor(), [read(entry, PROVIDERS)])
        tally.captures += 1
    await lease.give_up()
