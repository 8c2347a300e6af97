"""Redis clients, made from a URL: one door for every command the program sends.

No built-in retries, and a time-out on everything: what Redis does not take in time goes back to the caller, who knows
what to do about it.
"""

import os
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.errors import ConfigError

SUPPORTED = ("redis://", "rediss://", "unix://")


def connect(url: str, timeout_seconds: float | None) -> Redis:
    """A client for a standalone server.

    Args:
        url: redis://, rediss:// or unix://.
        timeout_seconds: for each command and for connecting; None for commands that wait (XREAD BLOCK, subscribers).

    Raises ConfigError for an URL of another kind.
    """
    if not url.startswith(SUPPORTED):
        raise ConfigError([f"redis.url: {url.partition('://')[0]}:// is not supported by this version; use redis://"])
    client: Redis = Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds or 5.0,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        client_name="partyline",
    )
    try:
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except TypeError as error:  # an option in the URL that redis-py does not know
        raise ConfigError([f"redis.url: its options cannot be used: {str(error).rpartition(' ')[2]}"]) from None
    client.connection_pool.connection_class = _packing(client.connection_pool.connection_class)
    socket = client.connection_pool.connection_kwargs.get("path")
    if socket:
        client.connection_pool.connection_kwargs["path"] = short_path(socket)
    return client


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
