"""Redis clients, made from a URL: one door for every command the program sends.

No built-in retries, and a time-out on everything: what Redis does not take in time goes back to the caller, who knows
what to do about it.
"""

import os
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from correlator.redis_finding import finding_pool
from correlator.redis_url import RedisUrl, read_url
from schemas.errors import ConfigError
from schemas.keyspace import Keyspace

_CONNECT_SECONDS = 5.0


def connect(url: str, timeout_seconds: float | None, keyspace: Keyspace | None = None) -> Redis:
    """A client for the server that holds one partition of a namespace, whatever stands around it.

    Args:
        url: as `correlator.redis_url` reads it.
        timeout_seconds: for each command and for connecting; None for commands that wait (XREAD BLOCK, subscribers).
        keyspace: what it is for; a cluster has each partition on a server of its own, elsewhere it does not matter.

    Raises ConfigError for a URL that cannot be used.
    """
    where = _read(url)
    options = {
        **where.options,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds or _CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "partyline",
    }
    pool = _pool(where, keyspace, options)
    try:
        pool.make_connection()  # type: ignore[no-untyped-call]
    except TypeError as error:  # an option in the URL that redis-py does not know
        raise ConfigError([f"redis.url: its options cannot be used: {str(error).rpartition(' ')[2]}"]) from None
    pool.connection_class = _packing(pool.connection_class)
    socket = pool.connection_kwargs.get("path")
    if socket:
        pool.connection_kwargs["path"] = short_path(socket)
    return Redis.from_pool(pool)


def _read(url: str) -> RedisUrl:
    try:
        return read_url(url)
    except ValueError as error:
        raise ConfigError([f"redis.url: {error}"]) from None


def _pool(where: RedisUrl, keyspace: Keyspace | None, options: dict[str, Any]) -> ConnectionPool:
    if where.kind == "server":
        return ConnectionPool(**options)
    return finding_pool(where, keyspace.prefix if keyspace else "", options)


def _packing(connection: type[Any]) -> type[Any]:
    """A kind of connection that has hiredis write commands; redis-py's asyncio half does so argument by argument.

    A commit has some thirty arguments an event: that was a fifth of the pipeline's time. redis-py's other half packs
    with hiredis itself.
    """

    class Packing(connection):  # type: ignore[misc]  # the base is known at run time only
        def pack_command(self, *args: Any) -> list[bytes]:
            name = args[0].encode() if isinstance(args[0], str) else args[0]
            return [hiredis.pack_command((*name.split(), *args[1:]))]

    return Packing


def short_path(socket: str) -> str:
    """A unix socket by whichever of its absolute and relative path is shorter: the kernel takes 107 characters."""
    return min(socket, os.path.relpath(socket), key=len)
