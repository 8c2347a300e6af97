"""Whether a Redis server may be written to: it answers, is new enough, durable enough, and the namespace is ours."""

import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ResponseError

from correlator.scripts import answer
from receiver.durability import check_durability, check_loading, check_version
from receiver.namespace import claim_namespace
from receiver.settings import Settings
from schemas.errors import ConfigError, StoreError
from schemas.keyspace import Keyspace, keyspaces

_COMPLAIN_SECONDS = 30.0

log = structlog.get_logger()


async def accept_all(clients: Sequence[Redis], settings: Settings) -> None:
    """`accept` for each partition: in a cluster they are on different servers."""
    for redis, keyspace in zip(clients, keyspaces(settings.namespace, settings.redis.partitions), strict=True):
        await accept(redis, keyspace, settings)


async def accept(redis: Redis, keyspace: Keyspace, settings: Settings) -> None:
    """Return once the server of a partition is found to be as the settings want it.

    Raises ConfigError where it is not, which waiting does not mend; StoreError where it does not answer.
    """
    try:
        await answer(redis.ping())
        await check_version(redis)
        await check_durability(redis, settings.redis.durability)
        await check_loading(redis, keyspace, settings.redis.durability)
        await claim_namespace(redis, keyspace, settings)
    except StoreError as error:
        if isinstance(error.__cause__, ResponseError | AuthenticationError):
            raise ConfigError([f"redis.url: the server cannot be used: {error}"]) from error
        raise StoreError(f"redis.url: the server cannot be reached: {error}") from error


class Gate:
    """Whether this process may write to Redis: not before it was accepted, so that a wrong one gets nothing."""

    def __init__(self, check: Callable[[], Awaitable[None]], *, accepted: bool = False) -> None:
        """`check`: as `accept`. `accepted`: that it passes is known already."""
        self._check = check
        self._complained_of, self._complained_at = "", 0.0
        self.accepted = accepted
        #: Why it may not, for people.
        self.why = "" if accepted else "it has not been reached yet"

    async def ask(self) -> bool:
        """Check again; whether it may be written to. What is in the way is logged, at once and then now and again."""
        try:
            await self._check()
        except ConfigError as error:
            self.accepted, self.why = False, "; ".join(error.mistakes)
            self._complain(log.error, "Redis is refused; nothing is written to it, captures stay in the spool")
            return False
        except StoreError as error:
            # Who was accepted stays so: it is away, and is asked again before the spool is drained into it.
            self.why = str(error)
            self._complain(log.warning, "Redis does not answer")
            return False
        self.accepted, self.why = True, ""
        self._complained_of = ""
        return True

    def _complain(self, say: Callable[..., None], what: str) -> None:
        if what != self._complained_of or time.monotonic() - self._complained_at > _COMPLAIN_SECONDS:
            self._complained_of, self._complained_at = what, time.monotonic()
            say(what, detail=self.why)
