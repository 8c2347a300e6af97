"""The embedded Redis: who may use its files, what becomes of an orphan, how deep they may lie."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from correlator.redis_client import connect, short_path
from receiver import embedded
from receiver.embedded import EmbeddedRedis, find_server
from schemas.errors import ConfigError

PATIENCE_SECONDS = 15.0

#: Owns an embedded server until it is killed; prints the server's process id once that is up.
OWNER = """
import sys, time
from pathlib import Path
from receiver.embedded import EmbeddedRedis

with EmbeddedRedis(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""


def client_of(server: EmbeddedRedis) -> Any:
    """A client of a server, untyped: what a command answers depends on how it was made."""
    return Redis(unix_socket_path=short_path(str(server.socket)), retry=Retry(NoBackoff(), 0))


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(pid: int) -> bool:
    """Whether a process is there and not merely waiting for its parent to notice that it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


# --- what it is -------------------------------------------------------------------------------------------


async def test_it_writes_every_command_to_disk(redis: Any) -> None:
    """The server keeps an append-only file, synced at each write, throws nothing out and listens on no port."""
    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
        "port": "0",
        "unixsocketperm": "700",
    }
    configured: dict[str, str] = {}
    for name in wanted:
        configured |= await redis.config_get(name)

    assert configured == wanted


def test_it_is_up_and_down_at_once(tmp_path: Path) -> None:
    """Starting and stopping it takes a moment, not seconds: nothing waits for a server that is not there."""
    since = time.monotonic()
    with EmbeddedRedis(tmp_path / "data") as server:
        pid = server.pid
        assert client_of(server).ping() is True
    seconds = time.monotonic() - since

    assert seconds < 2
    assert pid is not None
    assert not running(pid)
    assert server.pid is None


# --- whose it is ------------------------------------------------------------------------------------------


def test_a_second_owner_is_refused(redis_url: str) -> None:
    """While a process owns the files no other gets them; the refusal names setting, folder and process."""
    folder = Path(redis_url.removeprefix("unix://")).parent
    before = (folder / "lock").read_text()
    with pytest.raises(ConfigError) as caught, EmbeddedRedis(folder):
        raise AssertionError("let in")

    assert caught.value.mistakes == [f"redis.data_dir: {folder} is in use by another partyline (process {os.getpid()})"]
    assert (folder / "lock").read_text() == before
    assert client_of(EmbeddedRedis(folder)).ping() is True


def test_the_server_ends_with_its_owner_and_the_next_one_finds_everything(tmp_path: Path) -> None:
    """When the owner is killed its server ends by itself; the lock it left is no obstacle and no write is lost."""
    folder = tmp_path / "data"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, cwd=Path.cwd())
    with owner:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        client_of(EmbeddedRedis(folder)).set("kept", "yes")
        owner.send_signal(signal.SIGKILL)
    until(lambda: not running(server))

    assert (folder / "lock").read_text() == f"{owner.pid}\n"
    with EmbeddedRedis(folder) as next_one:
        assert client_of(next_one).get("kept") == b"yes"
        assert (folder / "lock").read_text() == f"{os.getpid()}\n"


def test_an_orphan_is_ended_before_its_files_are_used(tmp_path: Path) -> None:
    """A server that outlived its owner is told to end, and its writes are there in the one that follows."""
    folder = tmp_path / "data"
    folder.mkdir()
    command = [find_server(), "--port", "0", "--unixsocket", "redis.sock", "--appendonly", "yes", "--save", ""]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as orphan:
        server = EmbeddedRedis(folder)
        until(server.socket.exists)
        client_of(server).set("kept", "yes")
        with server:
            assert server.pid not in {None, orphan.pid}
            assert client_of(server).get("kept") == b"yes"
        assert orphan.wait(PATIENCE_SECONDS) == 0


def test_what_a_server_says_when_it_does_not_start_is_told(tmp_path: Path) -> None:
    """A server that ends at once is a mistake with its own last words, and the folder is free again."""
    (tmp_path / "appendonly.aof").write_bytes(b"this is no append-only file\r\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"redis\.data_dir: the embedded redis-server did not start: .*format"):
            EmbeddedRedis(tmp_path).__enter__()


# --- where it lies ----------------------------------------------------------------------------------------


async def test_a_long_path_works_from_nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket whose absolute path is too long for the kernel is reached by the relative one."""
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 5)
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    with EmbeddedRedis(Path("data")) as server:
        client: Any = connect(server.url, 5.0)

        assert len(str(server.socket)) > 107
        assert await client.ping() is True
        await client.aclose()


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """A folder that no socket can lie in is a mistake that names the setting; nothing is made there."""
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 5)
    with pytest.raises(ConfigError, match=r"redis\.data_dir: too deep for a unix socket"):
        EmbeddedRedis(deep).__enter__()

    assert list(tmp_path.iterdir()) == []


# --- which server -----------------------------------------------------------------------------------------


def pretend(folder: Path, version: str) -> str:
    """A redis-server that only knows its version."""
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=00000000:0 malloc=libc bits=64'\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("version", ["6.2.0", "7.4.1", "10.0.0"])
def test_a_server_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """A redis-server of 6.2 or newer on PATH is the one that runs."""
    program = pretend(tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_server() == program


@pytest.mark.parametrize("version", ["6.0.20", "5.0.14", "unheard-of"])
def test_an_old_server_on_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """A redis-server that lacks what the scripts need does not run; without another, one line says what to install."""
    pretend(tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        find_server()
    [mistake] = caught.value.mistakes

    assert mistake.startswith('redis.url: "embedded" needs a redis-server 6.2 or newer on PATH')
    assert "\n" not in mistake
