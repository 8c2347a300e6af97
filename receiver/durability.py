"""Whether a Redis server keeps what `redis.durability` promises; start-up refuses one that does less."""

import re
from collections.abc import Mapping

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from correlator.scripts import answer
from schemas.errors import ConfigError, StoreError
from schemas.keyspace import Keyspace

_ASKED = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
_FSYNC_RANK = {"no": 0, "everysec": 1, "always": 2}
_NEEDED_RANK = {"everysec": 1, "always": 2}
_OLDEST = (6, 2)
#: From the first on, and from the second on no more, a server loads what scripts wrote as its default user, and leaves
#: out what that user may not do: https://github.com/redis/redis/issues/14541
_FORGETFUL, _MENDED = (7, 0), (8, 6)
#: What it then does, and what helps.
FORGETS = (
    "a restart of the server would lose what is stored: its default user, as which it loads its file, may not write it",
    "let that user do all, and nobody be it: user default off ~* &* +@all (as in deploy/users.acl)",
)


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
    found = _numbers(version)
    return found is not None and found < _OLDEST


def forgetful(version: str) -> bool:
    """Whether a server's version is one whose default user decides what a restart leaves. Pure.

    One that cannot be read may be: such a server is asked.
    """
    found = _numbers(version)
    return found is None or _FORGETFUL <= found < _MENDED


def _numbers(version: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version)
    return None if found is None else (int(found[1]), int(found[2]))


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


async def check_loading(redis: Redis, keyspace: Keyspace, durability: str) -> None:
    """Raise ConfigError when a server that is to keep what it is given would not load it again, or does not tell."""
    if durability == "none":
        return
    try:
        mistake = None if await loads_all(redis, keyspace) else "; ".join(FORGETS)
    except StoreError as error:
        if not isinstance(error.__cause__, NoPermissionError):
            raise
        mistake = (
            "the server does not tell whether a restart keeps what is stored; allow ACL DRYRUN (+acl|dryrun), "
            'or say durability = "none"'
        )
    if mistake:
        raise ConfigError([f"redis.durability: {mistake}"])


async def loads_all(redis: Redis, keyspace: Keyspace) -> bool:
    """Whether the server will load what our scripts write; as far as its version and its default user tell.

    Raises StoreError, also where our user may not ask.
    """
    if not forgetful(await _version(redis)):
        return True
    try:
        said = await answer(redis.acl_dryrun("default", "XADD", keyspace.captures, "*", "f", ""))
    except StoreError as error:
        if isinstance(error.__cause__, ResponseError) and not isinstance(error.__cause__, NoPermissionError):
            return True  # it knows no such question: it is older, or has no such users
        raise
    return _text(said) == "OK"


async def _version(redis: Redis) -> str:
    """What the server says of itself; empty where our user may not ask."""
    try:
        return str((await answer(redis.info("server"))).get("redis_version", ""))
    except StoreError as error:
        if not isinstance(error.__cause__, ResponseError):
            raise
        return ""


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
