"""Whether a Redis server keeps what `redis.durability` promises; start-up refuses one that does less."""

import re
from collections.abc import Mapping

from redis.asyncio import Redis

from correlator.scripts import answer
from schemas.errors import ConfigError, StoreError

_ASKED = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
_FSYNC_RANK = {"no": 0, "everysec": 1, "always": 2}
_NEEDED_RANK = {"everysec": 1, "always": 2}
_OLDEST = (6, 2)


async def check_version(redis: Redis) -> None:
    """Raise ConfigError when the server says that it is older than what our scripts need."""
    try:
        said = await answer(redis.info("server"))
    except StoreError:  # an account that may not ask
        return
    if too_old(str(said.get("redis_version", ""))):
        raise ConfigError([f"redis.url: the server is Redis {said['redis_version']}; it takes 6.2 or newer"])


def too_old(version: str) -> bool:
    """Whether a server's version is one that lacks commands of ours; one that cannot be read is let pass. Pure."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < _OLDEST


async def check_durability(redis: Redis, durability: str) -> None:
    """Raise ConfigError when the server does less than `durability` (always, everysec, none) says, or cannot tell."""
    try:
        # One name a call: Redis before 7.0 takes no more.
        found = [item for name in _ASKED for item in (await answer(redis.config_get(name))).items()]
    except StoreError as error:
        if durability == "none":
            return
        raise ConfigError(
            [f'redis.durability: the server does not tell ({error}); allow CONFIG GET, or say durability = "none"']
        ) from error
    texts = {_text(name): _text(value) for name, value in found}
    mistakes = weaknesses(texts, durability)
    if mistakes:
        raise ConfigError(mistakes)


async def too_few_replicas(redis: Redis, wanted: int) -> int | None:
    """How many replicas the server has, where those are fewer than wanted; None: enough, or it does not tell."""
    connected = await connected_replicas(redis) if wanted else None
    return connected if connected is not None and connected < wanted else None


async def connected_replicas(redis: Redis) -> int | None:
    """How many replicas are connected to the server; None: it does not tell."""
    try:
        return int((await answer(redis.info("replication")))["connected_slaves"])
    except (StoreError, KeyError):  # away, or an account that may not ask
        return None


def weaknesses(config: Mapping[str, str], durability: str) -> list[str]:
    """What a server's configuration lacks, in sentences that say what to set. Pure."""
    mistakes: list[str] = []
    advice = f'or say durability = "{"everysec" if durability == "always" else "none"}" and mean it'
    if durability == "none":
        pass
    elif config.get("appendonly") != "yes":
        mistakes.append(f"redis.durability: the server keeps no append-only file; set appendonly yes there, {advice}")
    elif _FSYNC_RANK.get(config.get("appendfsync", ""), 0) < _NEEDED_RANK[durability]:
        mistakes.append(f"redis.durability: the server syncs less often; set appendfsync {durability} there, {advice}")
    policy = config.get("maxmemory-policy", "")
    if config.get("maxmemory", "0") != "0" and policy != "noeviction":
        mistakes.append(f"redis.durability: the server may evict ({policy}); set maxmemory-policy noeviction there")
    return mistakes


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
