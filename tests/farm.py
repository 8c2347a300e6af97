"""Redis as more than one server: a master with replicas and sentinels, or a cluster. Real servers, on loopback.

Every server is append-only with fsync always. They end with the test that started them, however it ends.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from receiver.embedded import find_server
from schemas.keyspace import Keyspace
from tests.processes import Process, started

MASTER = "mymaster"
#: Milliseconds without an answer after which a server counts as dead.
_DOWN_MILLISECONDS = 500
_SLOTS = 16384
_PATIENCE_SECONDS = 30.0
_BUS = 10000
#: Replicas get their first copy at once.
_FOLLOWED = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
_ports = count(21000 + (os.getpid() * 37) % 9000)


class Server:
    """One server of a farm."""

    def __init__(self, process: Process, port: int, restart: Any) -> None:
        self.process = process
        self.port = port
        self._restart = restart

    @property
    def url(self) -> str:
        """How a client reaches just this one."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> Any:
        """A client of just this one, that gives up at once."""
        return Redis(port=self.port, socket_timeout=2.0, retry=Retry(NoBackoff(), 0), protocol=2)

    async def ask(self, *command: Any) -> Any:
        """What it answers to one command."""
        async with self.client() as redis:
            return await redis.execute_command(*command)

    async def said(self, section: str, field: str) -> str:
        """A field of its INFO; empty where it does not answer."""
        try:
            async with self.client() as redis:
                return str((await redis.info(section)).get(field, ""))
        except (RedisError, OSError):
            return ""

    def kill(self) -> None:
        """Kill -9."""
        self.process.signal(signal.SIGKILL)

    def start_again(self) -> None:
        """After it was killed: with the files that it has."""
        self.process = self._restart()


class Farm:
    """The servers, and the URL by which all of them are meant."""

    def __init__(self, url: str, servers: Sequence[Server], sentinels: Sequence[Server] = ()) -> None:
        self.url = url
        self.servers = list(servers)
        self.sentinels = list(sentinels)

    async def master(self, keyspace: Keyspace | None = None) -> Server:
        """Whoever says that it is in charge: of a key's slot, in a cluster."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                for server in self.servers:
                    if await _leads(server, None if self.sentinels else keyspace):
                        return server
                await asyncio.sleep(0.05)

    async def cut_off(self, master: Server) -> None:
        """Let no replica hear from a master any more, which goes on serving everybody else."""
        await master.ask("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        await master.ask("CLIENT", "KILL", "TYPE", "replica")

    async def in_step(self) -> None:
        """Wait until every replica follows its master without interruption."""
        for server in self.servers:
            await _until(_is_in_step, server)


async def _is_in_step(server: Server) -> bool:
    role = await server.said("replication", "role")
    return role == "master" or await server.said("replication", "master_link_status") == "up"


async def _leads(server: Server, keyspace: Keyspace | None) -> bool:
    is_master = await server.said("replication", "role") == "master"
    return is_master and (keyspace is None or await _has(server, keyspace))


async def _has(server: Server, keyspace: Keyspace) -> bool:
    """Whether a slot is this node's, as it sees it itself."""
    slot, found = key_slot(keyspace.prefix.encode()), (await server.ask("CLUSTER", "NODES")).decode()
    mine = next(line for line in found.splitlines() if "myself" in line).split()[8:]
    return any(int(part.partition("-")[0]) <= slot <= int(part.rpartition("-")[2]) for part in mine if part[0] != "[")


def free_port() -> int:
    """A port that is free, and so is the one that the node would speak with other nodes at."""
    for port in _ports:
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + _BUS))
            except OSError:
                continue
            return port
    raise AssertionError("never: ports do not run out")


def _start(stack: ExitStack, folder: Path, name: str, port: int, *options: str) -> Server:
    own = folder / name
    own.mkdir()
    usual = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(own), "--save", "", "--logfile", "redis.log"]
    saving = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
    command = [find_server(), *usual, *saving, *options]

    def start() -> Process:
        return stack.enter_context(started(command, folder, name))

    return Server(start(), port, start)


@asynccontextmanager
async def standalone(folder: Path, *options: str) -> AsyncIterator[Server]:
    """One server on a port, with further options, once it takes connections."""
    with ExitStack() as stack:
        server = _start(stack, folder, "server", free_port(), *options)
        await _until(_listens, server)
        yield server


@asynccontextmanager
async def followed(folder: Path) -> AsyncIterator[tuple[Server, Server]]:
    """A master and its one replica, once it follows; nobody watches over them."""
    with ExitStack() as stack:
        master = _start(stack, folder, "master", free_port())
        replica = _start(stack, folder, "replica", free_port(), "--replicaof", "127.0.0.1", str(master.port))
        for each in (master, replica):
            await _until(_answers, each)
            await _until(_is_in_step, each)
        yield master, replica


@asynccontextmanager
async def sentinels(folder: Path, *, replicas: int = 2) -> AsyncIterator[Farm]:
    """A master with replicas, and three sentinels that watch over them, once all of them agree."""
    with ExitStack() as stack:
        names = ["master", *(f"replica-{number}" for number in range(replicas))]
        ports = [free_port() for _ in names]
        follow = ("--replicaof", "127.0.0.1", str(ports[0]))
        servers = [
            _start(stack, folder, name, port, *_FOLLOWED, *(() if port == ports[0] else follow))
            for name, port in zip(names, ports, strict=True)
        ]
        watching = [_sentinel(stack, folder, f"sentinel-{number}", ports[0]) for number in range(3)]
        for each in (*servers, *watching):
            await _until(_answers, each)
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in watching)
        farm = Farm(f"redis+sentinel://{hosts}/{MASTER}", servers, watching)
        await farm.in_step()
        for each in watching:
            await _until(_knows_all, each, replicas, len(watching) - 1)
        yield farm


def _sentinel(stack: ExitStack, folder: Path, name: str, master_port: int) -> Server:
    port = free_port()
    configuration = folder / f"{name}.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/{name}.redis.log\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {master_port} 2\n"
        f"sentinel down-after-milliseconds {MASTER} {_DOWN_MILLISECONDS}\n"
        f"sentinel failover-timeout {MASTER} 3000\n"
    )
    command = [find_server(), str(configuration), "--sentinel"]

    def start() -> Process:
        return stack.enter_context(started(command, folder, name))

    return Server(start(), port, start)


async def _knows_all(sentinel: Server, replicas: int, others: int) -> bool:
    answer = await sentinel.ask("SENTINEL", "MASTER", MASTER)
    state = answer if isinstance(answer, dict) else dict(zip(*[iter(answer)] * 2, strict=True))
    known = {_plain(name): _plain(value) for name, value in state.items()}
    return (int(known["num-slaves"]), int(known["num-other-sentinels"])) == (replicas, others)


def _plain(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@asynccontextmanager
async def cluster(folder: Path, *, masters: int = 3) -> AsyncIterator[Farm]:
    """A cluster of masters with one replica each, once all nodes call it well."""
    with ExitStack() as stack:
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *_FOLLOWED]
        servers = [_start(stack, folder, f"node-{number}", free_port(), *options) for number in range(2 * masters)]
        for server in servers:
            await _until(_answers, server)
        for number, (begin, end) in enumerate(_shares(masters)):
            await servers[number].ask("CLUSTER", "ADDSLOTS", *range(begin, end))
        for number, server in enumerate(servers):
            await server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            await server.ask("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        for server in servers:
            await _until(_has_met, server, len(servers) - 1)
        for number in range(masters):
            name = (await servers[number].ask("CLUSTER", "MYID")).decode()
            await servers[masters + number].ask("CLUSTER", "REPLICATE", name)
        for server in servers:
            await _until(_is_well, server)
        farm = Farm(f"redis+cluster://{','.join(f'127.0.0.1:{each.port}' for each in servers[:2])}", servers)
        await farm.in_step()
        yield farm


def _shares(masters: int) -> Iterator[tuple[int, int]]:
    for number in range(masters):
        yield _SLOTS * number // masters, _SLOTS * (number + 1) // masters


async def _has_met(server: Server, others: int) -> bool:
    return len((await server.ask("CLUSTER", "NODES")).splitlines()) > others


async def _is_well(server: Server) -> bool:
    return b"cluster_state:ok" in await server.ask("CLUSTER", "INFO")


async def _listens(server: Server) -> bool:
    """It may not want to talk to just anybody."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    except OSError:
        return False
    writer.close()
    return True


async def _answers(server: Server) -> bool:
    return bool(await server.said("server", "redis_version"))


async def _until(holds: Callable[..., Awaitable[bool]], *of: Any) -> None:
    """Wait for something that has to be asked for."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not await holds(*of):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.05)
