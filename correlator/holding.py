"""Holds the lease for work of another kind than a pipeline's: while it is held, nothing is committed."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from correlator.lease import Lease
from schemas.errors import StoreError
from schemas.keyspace import Keyspace

_RETAKE_SECONDS = 0.1
_RENEWALS = 4
PATIENCE_SECONDS = 15.0


@asynccontextmanager
async def leased(redis: Redis, keyspace: Keyspace, seconds: float) -> AsyncIterator[Lease]:
    """The lease of a partition, kept until the context is left. StoreError when it cannot be had in time.

    It may be lost all the same, when Redis or this process stops for too long: whoever writes under it has a script
    check its token, and whoever reads renews it in the end.
    """
    lease = Lease(redis, keyspace, seconds)
    until = time.monotonic() + PATIENCE_SECONDS
    while not await lease.take():
        if time.monotonic() > until:
            raise StoreError("a pipeline is at work and does not hand over its lease: stop the receiver, and try again")
        await asyncio.sleep(_RETAKE_SECONDS)
    renewing = asyncio.create_task(_renew(lease, seconds / _RENEWALS))
    try:
        yield lease
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with contextlib.suppress(StoreError):  # it runs out by itself, and another error may be on its way
            await lease.give_up()


async def _renew(lease: Lease, every_seconds: float) -> None:
    """Prolong it until it is lost."""
    held = True
    while held:
        await asyncio.sleep(every_seconds)
        with contextlib.suppress(StoreError):  # the next attempt may do; the token tells whether it was too late
            held = await lease.renew()
