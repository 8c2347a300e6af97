"""The Lua scripts, loaded from `lua/` and bound once to a client; and how a call to Redis fails."""

from collections.abc import Awaitable, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, RedisError

from schemas.errors import StoreError


class Scripts:
    """Each script as a callable on one client. redis-py sends EVALSHA and loads a script that is not there."""

    def __init__(self, redis: Redis) -> None:
        self.commit = _bind(redis, "commit")
        self.lease = _bind(redis, "lease")
        self.trial = _bind(redis, "trial")
        self.append = _bind(redis, "append")
        self.find = _bind(redis, "find")
        self.trim = _bind(redis, "trim")
        self.release = _bind(redis, "release")
        self.remove = _bind(redis, "remove")
        self.withdraw = _bind(redis, "withdraw")
        self.forget = _bind(redis, "forget")
        self.lane_take = _bind(redis, "lane_take")
        self.lane_move = _bind(redis, "shared/stands", "lane_move")
        self.lane_try = _bind(redis, "shared/stands", "lane_try")
        self.lane_bury = _bind(redis, "shared/stands", "lane_bury")
        self.lane_release = _bind(redis, "lane_release")
        self._redis = redis

    async def append_replicated(
        self, keys: Sequence[str], args: Sequence[Any], replicas: int, within: int
    ) -> list[Any]:
        """Call `append`, and wait until so many replicas have it, `within` milliseconds; its answer and their number.

        Both are sent at once: WAIT is about all that was written on its connection before.
        """
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.evalsha(self.append.sha, len(keys), *keys, *args)
        pipeline.wait(replicas, within)
        return await self._said(pipeline, self.append) or await self.append_replicated(keys, args, replicas, within)

    async def commit_each(self, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Call `commit` once for each of these keys and arguments, in order and without waiting in between."""
        pipeline = self._redis.pipeline(transaction=False)
        for keys, args in calls:
            pipeline.evalsha(self.commit.sha, len(keys), *keys, *args)
        return await self._said(pipeline, self.commit) or await self.commit_each(calls)

    async def _said(self, pipeline: Any, script: AsyncScript) -> list[Any]:
        """What calls of a script say; nothing where it had to be loaded first, and nothing was called."""
        said: list[Any] = await pipeline.execute(raise_on_error=False)
        if isinstance(said[0], NoScriptError):  # then so are all its calls
            await self._redis.script_load(script.script)
            return []
        for error in said:
            if isinstance(error, Exception):
                raise error
        return said


def _bind(redis: Redis, *names: str) -> AsyncScript:
    """A script, after those that it has its functions from."""
    folder = files("correlator").joinpath("lua")
    return redis.register_script("".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names))


async def answer(call: Awaitable[Any]) -> Any:
    """What Redis answers. StoreError for every way in which it does not, so that callers need to know only one."""
    try:
        return await call
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreError(f"Redis: {type(error).__name__}: {str(error)[:200]}") from error
