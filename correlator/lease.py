"""The lease: one pipeline per partition commits, whoever else is running.

The lease is a key with a time to live that holds a token drawn anew for each taking. Each commit carries the token and
is refused by the script when the key no longer holds it, so a pipeline that was frozen past its lease changes nothing.
"""

import secrets

from redis.asyncio import Redis

from correlator.scripts import Scripts, answer
from schemas.keyspace import Keyspace


class Lease:
    """The right to commit on one partition. Not re-entrant; one object a pipeline. All calls raise StoreError."""

    def __init__(self, redis: Redis, keyspace: Keyspace, seconds: float) -> None:
        self._redis = redis
        self._key = keyspace.lease
        self._milliseconds = int(seconds * 1000)
        self._script = Scripts(redis).lease
        self.token: str = ""

    async def take(self) -> bool:
        """Try to take it, with a new token. False while another holds it."""
        token = secrets.token_hex(16)
        taken = await answer(self._redis.set(self._key, token, nx=True, px=self._milliseconds))
        if taken:
            self.token = token
        return bool(taken)

    async def renew(self) -> bool:
        """Prolong it. False: it is lost, and nothing may be committed under this token any more."""
        return bool(await answer(self._script(keys=[self._key], args=[self.token, self._milliseconds])))

    async def give_up(self) -> None:
        """Let the next pipeline take it at once. Does nothing when it was lost before."""
        await answer(self._script(keys=[self._key], args=[self.token, 0]))
        self.token = ""
