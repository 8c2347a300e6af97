"""Which server to write to, where Redis is more than one: asked anew with every connection.

Sentinels know who the master is; the nodes of a cluster know who has a slot. All keys of a partition share one slot, so
a client of ours has one server to talk to at a time, whatever stands around it. After a failover the old connections
fail or are refused, and the next one is made to the server that is in charge then.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Disconnected

from correlator.redis_url import Host, RedisUrl
from schemas.errors import ConfigError

#: How long one of several may take to say who is in charge; then the next is asked.
_ASKED_SECONDS: Final = 0.5
#: What a script's error says, before Redis 7, where a write of it was refused by a replica.
_READ_ONLY: Final = "-READONLY"


class SlotOwner:
    """Asks the nodes of a cluster who has one slot. Stands where redis-py's pool of connections has a Sentinel."""

    def __init__(self, nodes: Sequence[Host], slot: int, options: dict[str, Any]) -> None:
        """`nodes`: some of the cluster's; those that they name are asked as well from then on."""
        self._seeds = tuple(nodes)
        self._known: tuple[Host, ...] = self._seeds
        self._slot = slot
        self._options = options

    async def discover_master(self, _service: str) -> Host:
        """The node that the slot belongs to. Raises ConnectionError when nobody can say."""
        failures = []
        for node in self._known:
            try:
                return await self._ask(node)
            except (RedisError, OSError) as error:
                failures.append(type(error).__name__)
        self._known = (*self._seeds, *(node for node in self._known if node not in self._seeds))
        raise MasterNotFoundError(f"no node of the cluster tells who has slot {self._slot}: {', '.join(failures)}")

    async def _ask(self, node: Host) -> Host:
        async with Redis(host=node[0], port=node[1], **self._options) as redis:
            table: list[Any] = await redis.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
        found, others = owner_of(table, self._slot, node)
        if found is None:
            raise ClusterDownError("the slot is nobody's")
        # Whoever has answered is asked first the next time.
        self._known = (node, *(other for other in (*self._seeds, *others) if other != node))
        return found

    async def aclose(self) -> None:
        """Nothing is kept open."""


def owner_of(table: Sequence[Any], slot: int, asked: Host) -> tuple[Host | None, list[Host]]:
    """Who has a slot, None for nobody; and every node that is named. Pure.

    Args:
        table: what CLUSTER SLOTS answers: for each range its first and last slot, its master, its replicas; each node
            with host and port first.
        slot: the slot.
        asked: who answered; a node that does not know its own address leaves the host empty.
    """
    found, nodes = None, []
    for first, last, *owners in table:
        hosts = [_node(owner, asked) for owner in owners]
        nodes += [host for host in hosts if host not in nodes]
        if first <= slot <= last:
            found = hosts[0]
    return found, nodes


def _node(owner: Sequence[Any], asked: Host) -> Host:
    host = owner[0].decode() if isinstance(owner[0], bytes) else owner[0]
    return (host or asked[0], int(owner[1]))


class Sentinels(Sentinel):
    """redis-py's, asked one question at a time.

    It puts whoever has answered first in its list, and two at once may each put one there and push another out: it
    would never be asked again, nor closed.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._asking = asyncio.Lock()

    async def discover_master(self, service_name: str) -> Host:
        """Where the master is. Raises ConnectionError when nobody can say."""
        async with self._asking:
            found: Host = await super().discover_master(service_name)
        return found


class FindingPool(SentinelConnectionPool):
    """Connections to whoever is in charge."""

    async def aclose(self) -> None:
        """Close them, and those to whom we ask."""
        try:
            await super().aclose()
        finally:
            await self.sentinel_manager.aclose()


class _Noticing:
    """A connection that is of no use any more once its server is not in charge."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]  # of the connection it is mixed into
        except ResponseError as error:
            if isinstance(error, MovedError | ClusterDownError) or _READ_ONLY in str(error):
                await self.disconnect()  # type: ignore[attr-defined]
                raise Disconnected("the server is not in charge any more") from error
            raise


class _Connection(_Noticing, SentinelManagedConnection):
    pass


class _TlsConnection(_Noticing, SentinelManagedSSLConnection):
    pass


def finding_pool(url: RedisUrl, key: str, options: dict[str, Any]) -> FindingPool:
    """A pool for the server that has a key.

    Args:
        url: of sentinels or a cluster.
        key: one that is in the same slot as all that the client will ask for.
        options: for each connection, as redis-py takes them.
    """
    asking = _asking(options)
    if url.kind == "cluster":
        if not key:
            raise ConfigError(["redis.url: a cluster can be used by namespace only"])
        manager: Any = SlotOwner(url.hosts, key_slot(key.encode()), {**asking, "ssl": url.tls})
    else:
        asking = {name: value for name, value in asking.items() if name not in ("username", "password", "db")}
        manager = Sentinels(url.hosts, sentinel_kwargs={**asking, "ssl": url.tls, **url.sentinel_options})
    connection = _TlsConnection if url.tls else _Connection
    return FindingPool(url.service, manager, connection_class=connection, **options)  # type: ignore[no-untyped-call]


def _asking(options: dict[str, Any]) -> dict[str, Any]:
    """How to connect to those who are asked."""
    return {**options, "socket_timeout": _ASKED_SECONDS, "socket_connect_timeout": _ASKED_SECONDS}
