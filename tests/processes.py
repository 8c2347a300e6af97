"""Runs the program as processes of its own, as an operator does, and sees to it that none outlives its test.

Each started process is remembered with its whole family and the time each member was born, so that whatever happens
only processes of ours are ever signalled, and all of them are ended. A failing test shows the end of every log.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from correlator.redis_client import connect, short_path
from receiver.embedded import EmbeddedRedis
from receiver.process import dying_with
from schemas.keyspace import Keyspace
from tests.service import document, path, proof

#: The command as it is installed beside the interpreter that runs the tests.
PROGRAM = str(Path(sys.executable).with_name("partyline"))

_TAIL_LINES = 30
_PATIENCE_SECONDS = 20.0


class Kin(NamedTuple):
    """One process: its id, and when it was born, in case that the id is given to another one."""

    pid: int
    born: str

    @property
    def alive(self) -> bool:
        """Whether any thread of it still runs, and so holds its files; what waits for its parent to notice does not.

        Of a process that was killed the first thread may have ended while another still holds its connections open.
        """
        stat = _stat(Path(f"/proc/{self.pid}"))
        if stat is None or stat.born != self.born:
            return False
        with contextlib.suppress(OSError):
            threads = [_stat(thread) for thread in Path(f"/proc/{self.pid}/task").iterdir()]
            return any(thread is not None and thread.state not in "ZX" for thread in threads)
        return False

    @property
    def command(self) -> str:
        """Its command line."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return ""

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still the process that we mean."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class _Stat(NamedTuple):
    state: str
    born: str


def _stat(place: Path) -> _Stat | None:
    """Of a process or of one of its threads, which stands below it; None: there is none."""
    try:
        fields = (place / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Stat(fields[0], fields[19])


def descendants(pid: int) -> list[Kin]:
    """A process and everything that it started, as the kernel has it."""
    stat = _stat(Path(f"/proc/{pid}"))
    if stat is None:
        return []
    found = [Kin(pid, stat.born)]
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += descendants(int(child))
    return found


class Process:
    """One process that a test started; what it writes goes into files of its folder."""

    def __init__(
        self, command: Sequence[str], folder: Path, name: str, environment: Mapping[str, str], fds: Sequence[int]
    ) -> None:
        self.name = name
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.log"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**plain_environment(folder), **environment},
                pass_fds=fds,
                start_new_session=True,
                preexec_fn=dying_with(os.getpid()),  # noqa: PLW1509 - only plain system calls; tests have one thread
            )
        self._seen: set[Kin] = set()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def output(self) -> str:
        """What it wrote to standard output so far."""
        return self._out.read_text(errors="replace")

    @property
    def lines(self) -> list[str]:
        """The whole lines of its output so far: one may be read, or its writer killed, in the middle of a line.

        Where PYTHONUNBUFFERED is set, as in many containers, each argument of a print is a write of its own.
        """
        return self.output.split("\n")[:-1]

    @property
    def log(self) -> str:
        """What it wrote to standard error so far, its children included."""
        return self._err.read_text(errors="replace")

    @property
    def tail(self) -> str:
        """The end of both, for a failure message."""
        parts = [f"--- {self.name} (status {self._popen.poll()}) ---"]
        for text in (self.output, self.log):
            parts += [line[:400] for line in text.splitlines()[-_TAIL_LINES:]]
        return "\n".join(parts)

    def family(self) -> list[Kin]:
        """It and everything that it started and that is still there, itself first."""
        found = descendants(self.pid)
        self._seen.update(found)
        return found

    def member(self, *words: str) -> Kin:
        """The one member of its family whose command line holds these words."""
        found = [kin for kin in self.family() if all(word in kin.command for word in words)]
        assert len(found) == 1, f"{self.name}: {len(found)} processes with {words}"
        return found[0]

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    async def status(self, seconds: float = _PATIENCE_SECONDS) -> int:
        """Its exit status, once it has ended."""
        await until(lambda: self._popen.poll() is not None, f"{self.name} ends", seconds)
        return self._popen.returncode

    async def says(self, pattern: str, seconds: float = _PATIENCE_SECONDS) -> re.Match[str]:
        """What it wrote that matches, as soon as it did."""
        await until(
            lambda: self._popen.poll() is not None or re.search(pattern, self.output + self.log) is not None,
            f"{self.name} says {pattern!r}",
            seconds,
        )
        found = re.search(pattern, self.output + self.log)
        assert found is not None, f"{self.name} ended without saying {pattern!r}"
        return found

    def end(self) -> None:
        """Whatever its state, nothing of it is left."""
        self.signal(signal.SIGSTOP)  # so that it starts nothing while we look
        self.family()
        for kin in self._seen:
            kin.signal(signal.SIGKILL)
        self._popen.wait(10)


def plain_environment(folder: Path) -> dict[str, str]:
    """Ours without settings for the program, and with a place for what a killed process cannot remove."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PARTYLINE_")}
    return {**ours, "TMPDIR": str(folder)}


@contextmanager
def started(
    command: Sequence[str],
    folder: Path,
    name: str,
    environment: Mapping[str, str] | None = None,
    fds: Sequence[int] = (),
) -> Iterator[Process]:
    """A process that runs at most as long as the context; a failure inside shows what it wrote."""
    process = Process(command, folder, name, environment or {}, fds)
    try:
        yield process
    except BaseException as error:
        error.add_note(process.tail)
        raise
    finally:
        process.end()


def partyline(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env=plain_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def until(holds: Callable[[], bool], what: str, seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait for something, and fail if it does not come about in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)


def kill(family: Iterable[Kin]) -> None:
    """Kill -9 all of them, as near to at once as it gets."""
    for kin in family:
        kin.signal(signal.SIGKILL)


async def gone(family: Iterable[Kin], seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait until none of them runs."""
    members = list(family)
    left: Callable[[], list[Kin]] = lambda: [kin for kin in members if kin.alive]  # noqa: E731 - read twice
    try:
        await until(lambda: not left(), "all processes end", seconds)
    except AssertionError as error:
        error.add_note(f"left: {[(kin.pid, kin.command) for kin in left()]}")
        raise


@contextmanager
def frozen(server: EmbeddedRedis) -> Iterator[None]:
    """A server that takes connections and commands meanwhile, and answers none."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


# --- a service and its children ---


def write_config(folder: Path, namespace: str, **sections: Any) -> Path:
    """A configuration file with the four accounts of `tests.service`, on any free port."""
    config = folder / "partyline.toml"
    config.write_text(
        toml(document(namespace, **{"id_key": "a key for tests only", "server": {"port": 0}, **sections}))
    )
    return config


def toml(table: Mapping[str, Any], *above: str) -> str:
    """Tables of texts, numbers, truth values and lists of them as TOML."""
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    header = [f"[{'.'.join(above)}]"] if above else []
    inner = [toml(value, *above, key) for key, value in table.items() if isinstance(value, Mapping)]
    return "\n".join([*header, *lines, *inner, ""])


def embedded(folder: Path) -> dict[str, str]:
    """The `[redis]` section of a service that runs its own server in a folder."""
    return {"url": "embedded", "data_dir": str(folder)}


class Space:
    """A namespace at a Redis server, as subscribers and operators see it."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        #: Untyped: the client's annotations allow for answers that it never gives with these settings.
        self.redis: Any = redis
        self.keys = Keyspace(namespace)

    async def events(self) -> list[dict[str, Any]]:
        """The event stream, oldest first."""
        return [orjson.loads(fields[b"event"]) for _, fields in await self.redis.xrange(self.keys.events)]

    async def captures(self) -> int:
        """How many captures the log holds."""
        return int(await self.redis.xlen(self.keys.captures))

    async def expire_lease(self) -> None:
        """What time does to the lease of a pipeline that died: spares the tests the wait."""
        await self.redis.delete(self.keys.lease)

    async def worked_off(self, seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait until every capture is committed."""
        deadline = time.monotonic() + seconds
        while not await self._is_worked_off():
            assert time.monotonic() < deadline, f"the capture log is not worked off within {seconds:g} s"
            await asyncio.sleep(0.02)

    async def _is_worked_off(self) -> bool:
        try:
            newest = await self.redis.xrevrange(self.keys.captures, count=1)
            return bool(newest) and await self.redis.get(self.keys.cursor) == newest[0][0]
        except (RedisError, OSError):  # it is away, which is some tests' point
            return False


class Service:
    """A running `partyline serve`, its accounts those of `tests.service`."""

    def __init__(self, process: Process, client: httpx.AsyncClient, space: Space) -> None:
        self.process = process
        self.client = client
        self.space = space

    async def post(self, provider: str, body: bytes) -> httpx.Response:
        """Deliver one callback, signed now."""
        return await deliver(self.client, provider, body)

    async def settled(self, seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait until nothing waits in the spool, and every capture is committed."""
        await drained(self.client, seconds)
        await self.space.worked_off(seconds)

    @property
    def port(self) -> int:
        """Where it listens."""
        port = self.client.base_url.port
        assert port is not None
        return port


async def deliver(client: httpx.AsyncClient, provider: str, body: bytes) -> httpx.Response:
    """Post one callback as its provider does, signed now."""
    headers = [(b"content-type", b"application/json"), *proof(provider, body, now=datetime.now(UTC))]
    return await client.post(path(provider), content=body, headers=headers)


async def drained(client: httpx.AsyncClient, seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait until nothing waits in a service's spool."""
    deadline = time.monotonic() + seconds
    while (await client.get("/readyz")).json()["components"]["spool"].get("captures") != 0:
        assert time.monotonic() < deadline, f"the spool is not drained within {seconds:g} s"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def service(
    folder: Path,
    namespace: str,
    name: str = "service",
    *,
    command: Sequence[str] = (PROGRAM,),
    environment: Mapping[str, str] | None = None,
    **sections: Any,
) -> AsyncIterator[Service]:
    """`partyline serve` with a configuration in `folder`, once it is ready; `command`: instead of `partyline`."""
    config = write_config(folder, namespace, **sections)
    redis = sections["redis"]
    url = f"unix://{redis['data_dir']}/redis.sock" if redis["url"] == "embedded" else redis["url"]
    with started([*command, "serve", "--config", str(config)], folder, name, environment) as process:
        base = (await process.says(r"listens on (http://\S+)"))[1]
        process.family()
        async with client_of(base) as client, space_at(url, namespace) as space:
            await ready(client, process)
            yield Service(process, client, space)


@asynccontextmanager
async def client_of(base: str) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client without a limit on its connections."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=15) as client:
        yield client


@asynccontextmanager
async def space_at(url: str, namespace: str) -> AsyncIterator[Space]:
    """A namespace at a server, with a client of its own."""
    redis = connect(url, 5.0, Keyspace(namespace))
    try:
        yield Space(redis, namespace)
    finally:
        await redis.aclose()


async def ready(client: httpx.AsyncClient, process: Process, seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait until a callback could be stored."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            if (await client.get("/readyz")).status_code == 200:
                return
        assert time.monotonic() < deadline, f"{process.name} is not ready within {seconds:g} s"
        await asyncio.sleep(0.02)


@contextmanager
def child(kind: str, folder: Path, name: str, config: Path, fds: Sequence[int] = ()) -> Iterator[Process]:
    """One child process without its supervisor: `http` on sockets that are bound already, or `pipeline`."""
    environment = {"PARTYLINE_CONFIG": str(config), "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-m", "receiver", kind, *map(str, fds)]
    with started(command, folder, name, environment, fds) as process:
        yield process


# --- what Redis was told ---


class Monitor:
    """Every command that a server executes, those inside scripts included, in order."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.lines: list[str] = []

    async def run(self) -> None:
        """Read until cancelled."""
        while line := await self._reader.readline():
            self.lines.append(line.decode(errors="replace"))

    def by_script(self) -> Iterator[tuple[str, list[str]]]:
        """Each script call with the commands that it executed."""
        call, commands = "", list[str]()
        for line in self.lines:
            if "[0 lua] " in line:
                commands.append(line.partition("[0 lua] ")[2])
                continue
            if call:
                yield call, commands
            call, commands = (line, []) if '"EVALSHA"' in line else ("", [])
        if call:
            yield call, commands


@asynccontextmanager
async def monitored(url: str) -> AsyncIterator[Monitor]:
    """MONITOR on a server behind a unix socket."""
    socket = short_path(url.removeprefix("unix://"))
    reader, writer = await asyncio.open_unix_connection(socket, limit=2**24)
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"
    monitor = Monitor(reader)
    reading = asyncio.create_task(monitor.run())
    try:
        yield monitor
    finally:
        reading.cancel()
        writer.close()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
