"""What a pipeline leaves behind for the one after, in case that a capture kills it.

Written twice in the life of a pipeline that ends in order; once more for each capture that is tried alone, which is
only done where the pipeline before has died (`receiver.doubt`).
"""

from redis.asyncio import Redis

from correlator.scripts import Scripts, answer
from schemas.errors import LeaseLost
from schemas.keyspace import Keyspace


class Trials:
    """The record of one partition, as one pipeline keeps it. Calls raise StoreError; LeaseLost without the lease."""

    def __init__(self, redis: Redis, keyspace: Keyspace) -> None:
        self._keys = [keyspace.lease, keyspace.trials]
        self._script = Scripts(redis).trial
        #: The lease's token under which work was begun; '' before, and once it is ended.
        self.token = ""
        self._tries: tuple[str, int] = ("", 0)

    async def begin(self, token: str) -> bool:
        """Work under a new token; whether another pipeline did so and has not ended in order."""
        followed_another = await self._note(token, "begin", self.token)
        self.token = token
        return bool(followed_another)

    async def count(self, position: str) -> int:
        """How often the capture at a position was begun to be tried alone, this time included.

        Once for each pipeline: where Redis fails, the same one tries again, and has not died of it.
        """
        if self._tries[0] != position:
            self._tries = position, await self._note(self.token, "try", position)
        return self._tries[1]

    async def settle(self) -> None:
        """Nothing more is tried alone."""
        await self._note(self.token, "settle")

    async def end(self) -> None:
        """End in order."""
        await self._note(self.token, "end")
        self.token = ""

    async def _note(self, token: str, *what: str) -> int:
        said: int = await answer(self._script(keys=self._keys, args=[token, *what]))
        if said < 0:
            raise LeaseLost("it ran out and another pipeline took it")
        return said
