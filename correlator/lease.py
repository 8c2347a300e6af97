"""The lease: one pipeline per partition commits, whoever else is running.

The lease is a key with a time to live that holds a token drawn anew for each taking. Each commit carries the token and
is refused by the script when the key no longer holds it, so a pipeline that was frozen past its lease changes nothing.
Who needs it for a while (a replay, an export) asks for it, and the working pipeline hands it over between two batches.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from redis.asyncio import Redis

from correlator.scripts import Scripts, answer
from correlator.trials import Trials
from schemas.errors import StoreError
from schemas.keyspace import Keyspace

LEASE_SECONDS: Final = 6.0
_ASKING_SECONDS: Final = 10
_POLL_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 30.0


class Lease:
    """The right to commit on one partition. Not re-entrant; one object a pipeline. All calls raise StoreError."""

    def __init__(self, redis: Redis, keyspace: Keyspace, seconds: float) -> None:
        self._redis = redis
        self._key = keyspace.lease
        self._wanted = keyspace.lease_wanted
        self._milliseconds = int(seconds * 1000)
        self._script = Scripts(redis).lease
        self.token: str = ""
        #: What a pipeline that holds it notes for the one after.
        self.trials = Trials(redis, keyspace)

    async def take(self) -> bool:
        """Try to take it, with a new token. False while another holds it."""
        token = secrets.token_hex(16)
        taken = await answer(self._redis.set(self._key, token, nx=True, px=self._milliseconds))
        if taken:
            self.token = token
        return bool(taken)

    async def ask(self) -> bool:
        """Ask whoever works for it, and take it if it is there. To be repeated until it is had."""
        await answer(self._redis.set(self._wanted, "1", ex=_ASKING_SECONDS))
        taken = await self.take()
        if taken:
            await answer(self._redis.delete(self._wanted))
        return taken

    async def is_wanted(self) -> bool:
        """Whether somebody asks for it."""
        return bool(await answer(self._redis.exists(self._wanted)))

    async def renew(self) -> bool:
        """Prolong it. False: it is lost, and nothing may be committed under this token any more."""
        return bool(await answer(self._script(keys=[self._key], args=[self.token, self._milliseconds])))

    async def give_up(self) -> None:
        """Let the next pipeline take it at once. Does nothing when it was lost before."""
        await answer(self._script(keys=[self._key], args=[self.token, 0]))
        self.token = ""


@asynccontextmanager
async def leased(redis: Redis, keyspace: Keyspace, seconds: float = LEASE_SECONDS) -> AsyncIterator[Lease]:
    """Hold the lease meanwhile, asking for it first. StoreError if it is not had in time: another replay has it, say.

    Whoever is frozen past it finds its commits refused with LeaseLost, as a pipeline does.
    """
    lease = Lease(redis, keyspace, seconds)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await _asking(lease)
    except TimeoutError:
        raise StoreError(
            f"the lease of namespace {keyspace.namespace} was not handed over within {PATIENCE_SECONDS:g} s:"
            " another command has it, or a pipeline of an older version; stop that, and try again"
        ) from None
    done = asyncio.Event()
    renewing = asyncio.ensure_future(_renewing(lease, seconds / 4, done))
    try:
        yield lease
    finally:
        # Told, not cancelled: a command that is cancelled under way costs its connection, and may swallow being so.
        done.set()
        await asyncio.wait([renewing])
        with suppress(StoreError):  # it runs out by itself, and another error may be on its way
            await lease.give_up()


async def _asking(lease: Lease) -> None:
    taken = await lease.ask()
    while not taken:
        await asyncio.sleep(_POLL_SECONDS)
        taken = await lease.ask()


async def _renewing(lease: Lease, seconds: float, done: asyncio.Event) -> None:
    held = True
    while held and not done.is_set():
        try:
            await asyncio.wait_for(done.wait(), seconds)
        except TimeoutError:
            with suppress(StoreError):  # the next attempt may do; whoever commits has the token tell if it was too late
                held = await lease.renew()
