"""Runs a service: the embedded Redis if asked for, HTTP workers, a pipeline; restarts what dies, stops in order.

Each is a process of its own: the pipeline beside the HTTP workers uses the second core, and what kills one leaves the
others at work. Children end with the supervisor, however it ends.
"""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import structlog
from prometheus_client import multiprocess

from correlator.redis_client import connect
from receiver.acceptance import accept
from receiver.activation import handed_over, inherited
from receiver.durability import too_few_replicas
from receiver.embedded import EmbeddedRedis
from receiver.process import dying_with
from receiver.settings import Settings
from receiver.spool import Spool
from receiver.worker import GRACE_SECONDS
from schemas.errors import ConfigError, StoreError
from schemas.keyspace import Keyspace, keyspaces

_FIRST_RESTART_SECONDS = 0.1
_LAST_RESTART_SECONDS = 5.0
#: How long a port that is in use is waited for.
_PORT_SECONDS = 5.0
_FSYNC = {"always": "always", "everysec": "everysec", "none": "no"}

log = structlog.get_logger()


class Service:
    """A running service, as those who started it see it."""

    def __init__(self, settings: Settings, redis_url: str, sockets: Sequence[socket.socket]) -> None:
        self.settings = settings
        #: Where its Redis is, resolved: never `embedded`.
        self.redis_url = redis_url
        self.host, self.port = sockets[0].getsockname()[:2]

    @property
    def url(self) -> str:
        """What its webhook routes stand under."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@asynccontextmanager
async def serving(settings: Settings, config: Path, log_file: Path | None = None) -> AsyncIterator[Service]:
    """Run a service for as long as the context lasts.

    Args:
        settings: what to run.
        config: the file they came from, which the children read again.
        log_file: where the children log; None: to our stderr.

    Raises ConfigError for what cannot be started so.
    """
    with contextlib.ExitStack() as stack:
        sockets = await _listen(settings, stack)
        _check_spool(settings)
        embedded = _embedded(settings, stack)
        redis_url = embedded.url if embedded else settings.redis.url
        await _check_redis(settings, redis_url)
        environment = {
            **os.environ,
            "PARTYLINE_CONFIG": str(config),
            "PARTYLINE_REDIS__URL": redis_url,
            "PROMETHEUS_MULTIPROC_DIR": _metrics_folder(stack),
        }
        fds = [item.fileno() for item in sockets]
        stderr = stack.enter_context(_private(log_file)) if log_file else None
        workers = [Child("http", fds, fds, environment, stderr) for _ in range(settings.server.workers)]
        pipelines = [
            Child("pipeline", [number], [], environment, stderr) for number in range(settings.redis.partitions)
        ]
        tasks = [asyncio.create_task(child.keep_running()) for child in (*workers, *pipelines)]
        watching = asyncio.create_task(_keep_alive(embedded)) if embedded else None
        try:
            yield Service(settings, redis_url, sockets)
        finally:
            # In order: no new requests, those under way finished, then the log worked off as far as it is read,
            # then (as the stack unwinds) Redis.
            await asyncio.gather(*(child.stop() for child in workers))
            await asyncio.gather(*(child.stop() for child in pipelines))
            await asyncio.gather(*tasks, return_exceptions=True)
            if watching:
                watching.cancel()


class Child:
    """One child process that is started again when it dies."""

    def __init__(
        self,
        kind: str,
        numbers: Sequence[int],
        fds: Sequence[int],
        environment: dict[str, str],
        stderr: IO[bytes] | None,
    ) -> None:
        """`kind` and `numbers` are what it is told: its sockets, all of `fds`, or which partition it is for."""
        self._kind = kind
        self._numbers = numbers
        self._stderr = stderr
        self._fds = fds
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def keep_running(self) -> None:
        """Run it until stopped; when it dies, again after a while that grows while it keeps dying at once."""
        wait = _FIRST_RESTART_SECONDS
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            code = await self._run()
            if self._stopping.is_set():
                return
            lived = asyncio.get_running_loop().time() - started
            wait = _FIRST_RESTART_SECONDS if lived > _LAST_RESTART_SECONDS else min(wait * 2, _LAST_RESTART_SECONDS)
            log.error("child died; starting it again", child=self._kind, exit_code=code, after_seconds=wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)

    async def _run(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "receiver",
            self._kind,
            *map(str, self._numbers),
            env=self._environment,
            pass_fds=self._fds,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C is for the supervisor; it stops its children in order
            preexec_fn=dying_with(os.getpid()),
        )
        log.info("child started", child=self._kind, pid=self._process.pid)
        if self._stopping.is_set():  # stop() came while it was being started, and had nothing to end yet
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        code = await self._process.wait()
        multiprocess.mark_process_dead(self._process.pid, self._environment["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]
        return code

    async def stop(self) -> None:
        """Ask it to end, and make it end if it does not."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), GRACE_SECONDS + 5)
        except TimeoutError:
            log.warning("child did not end in time; killing it", child=self._kind)
            process.kill()


def _private(log_file: Path) -> IO[bytes]:
    """A log that its owner alone can read."""
    log_file.touch(mode=0o600)
    return log_file.open("ab")


async def _listen(settings: Settings, stack: contextlib.ExitStack) -> list[socket.socket]:
    server = settings.server
    ports = {"server.port": server.port}
    if server.admin_port not in (None, server.port):
        ports["server.admin_port"] = server.admin_port
    count = handed_over(os.environ, os.getpid())
    sockets = inherited(count, ports) if count else [await _bound(server.host, *port) for port in ports.items()]
    return [stack.enter_context(each) for each in sockets]


async def _bound(host: str, setting: str, port: int) -> socket.socket:
    """A socket of our own. A worker whose supervisor was killed may have it for a moment still."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    until = asyncio.get_running_loop().time() + _PORT_SECONDS
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=2048)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or asyncio.get_running_loop().time() > until:
                raise ConfigError([f"{setting}: cannot listen on {host}:{port}: {error.strerror}"]) from None
        await asyncio.sleep(_FIRST_RESTART_SECONDS)


def _embedded(settings: Settings, stack: contextlib.ExitStack) -> EmbeddedRedis | None:
    if settings.redis.url != "embedded":
        return None
    return stack.enter_context(EmbeddedRedis(settings.redis.data_dir, fsync=_FSYNC[settings.redis.durability]))


async def _keep_alive(redis: EmbeddedRedis) -> None:
    """Start it again whenever it dies (no memory, a full disk), after a while that grows while it keeps dying."""
    wait = _FIRST_RESTART_SECONDS
    while True:
        await asyncio.sleep(wait)
        code = redis.start_again_if_dead()
        if code is None:
            wait = _FIRST_RESTART_SECONDS
        else:
            wait = min(wait * 2, _LAST_RESTART_SECONDS)
            log.error("the embedded Redis died; starting it again, see redis.log in redis.data_dir", exit_code=code)


async def _check_redis(settings: Settings, redis_url: str) -> None:
    """Refuse a server that is not as the settings want it. One that is away is waited for: there is the spool."""
    for keyspace in keyspaces(settings.namespace, settings.redis.partitions):
        await _check_partition(settings, redis_url, keyspace)


async def _check_partition(settings: Settings, redis_url: str, keyspace: Keyspace) -> None:
    redis = connect(redis_url, settings.redis.write_deadline_seconds + 1.0, keyspace)
    try:
        await accept(redis, keyspace, settings)
        if (few := await too_few_replicas(redis, settings.redis.wait_replicas)) is not None:
            log.warning("fewer replicas than redis.wait_replicas: callbacks go to the spool", connected=few)
    except StoreError as error:
        log.warning("Redis is not there: callbacks go to the spool until it is", detail=str(error))
    finally:
        await redis.aclose()


def _check_spool(settings: Settings) -> None:
    """Refuse a spool that takes no writes: what it is for begins when it is too late to mend that."""
    spool = Spool(settings)
    try:
        spool.prove()
    except StoreError as error:
        raise ConfigError([f"{error}; give the user of this process a folder that it may write to"]) from error
    finally:
        spool.close()


def _metrics_folder(stack: contextlib.ExitStack) -> str:
    folder = tempfile.mkdtemp(prefix="partyline-metrics-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder
