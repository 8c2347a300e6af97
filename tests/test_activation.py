"""Sockets of a service manager: taken over, kept open through a restart; and it is told when callbacks are taken."""

import asyncio
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from receiver.activation import handed_over, inherited, tell_manager
from schemas.errors import ConfigError
from tests.processes import PROGRAM, started, write_config


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({}, 0),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, 2),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, 0),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, 0),
        ({"LISTEN_PID": "7"}, 0),
        ({"LISTEN_FDS": "1"}, 0),
    ],
)
def test_sockets_are_for_the_process_that_is_named(environ: dict[str, str], count: int) -> None:
    """What was handed to somebody else, whose environment we have, is not taken."""
    assert handed_over(environ, 7) == count


def test_a_port_without_a_socket_is_a_mistake() -> None:
    """The setting is named; nothing is bound instead, since the manager was to do that."""
    with pytest.raises(ConfigError) as caught:
        inherited(0, {"server.port": 8080, "server.admin_port": 8081})

    assert [each.partition(":")[0] for each in caught.value.mistakes] == ["server.port", "server.admin_port"]


def test_nobody_who_wants_to_know_is_told_nothing(tmp_path: Path) -> None:
    """Without a socket to tell it to, or with one that nobody reads, all goes on."""
    tell_manager({}, "READY=1")
    tell_manager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, "READY=1")


def _handing(number: int) -> list[str]:
    """A command that starts a service with a socket at its file descriptor 3, as systemd does."""
    script = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()))"
    return [sys.executable, "-c", f"{script}; os.execv(sys.argv[2], sys.argv[2:])", str(number), PROGRAM, "serve"]


@pytest.mark.slow
async def test_a_restart_under_a_manager_refuses_no_connection(folder: Path, redis_url: str, namespace: str) -> None:
    """The manager's socket takes connections while nothing runs; they are answered by the next start."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(str(folder / "notify"))
        manager.setblocking(False)
        port = listener.getsockname()[1]
        write_config(folder, namespace, redis={"url": redis_url}, server={"port": port})
        told = {"NOTIFY_SOCKET": str(folder / "notify"), "LISTEN_FDS": "1"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            with started(_handing(listener.fileno()), folder, "first", told, [listener.fileno()]) as first:
                states = [await _next(manager)]
                first.signal(15)
                states.append(await _next(manager))
                await first.status()
            waiting = asyncio.create_task(client.get("/healthz"))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            with started(_handing(listener.fileno()), folder, "second", told, [listener.fileno()]):
                answered = await waiting

    assert states == [b"READY=1", b"STOPPING=1"]
    assert answered.status_code == 200


@pytest.mark.slow
async def test_a_socket_that_no_setting_names_is_refused(folder: Path, redis_url: str, namespace: str) -> None:
    """The service ends with 78 and says which port it is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        write_config(folder, namespace, redis={"url": redis_url}, server={"port": port + 1})
        with started(
            _handing(listener.fileno()), folder, "service", {"LISTEN_FDS": "1"}, [listener.fileno()]
        ) as process:
            status = await process.status()

    assert status == 78
    assert f"a socket for port {port}, which no setting names" in process.log


async def _next(manager: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(manager, 100), 20)
