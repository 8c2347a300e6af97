"""Sockets of a service manager: taken over, kept open through a restart; and it is told when callbacks are taken."""

import asyncio
import signal
import socket
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from receiver.activation import handed_over, inherited, tell_manager
from receiver.schemes import Signed
from schemas.errors import ConfigError
from tests.processes import PROGRAM, Process, client_of, ready, space_at, started, until, write_config
from tests.service import proof
from tests.traffic import facts, post_facts, without_gap_or_repeat


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
                first.signal(signal.SIGTERM)
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


@pytest.mark.slow
async def test_a_port_that_a_dying_worker_has_still_is_waited_for(folder: Path, redis_url: str, namespace: str) -> None:
    """Whoever starts us again after the supervisor was killed must not be told that the configuration is wrong."""
    with socket.create_server(("127.0.0.1", 0)) as before:
        port = before.getsockname()[1]
        write_config(folder, namespace, redis={"url": redis_url}, server={"port": port})
        with started([PROGRAM, "serve"], folder, "service") as process:
            await asyncio.sleep(2)
            before.close()
            await process.says(f"listens on http://127.0.0.1:{port}")


def _signed(body: bytes) -> Signed:
    return proof("telnyx", body, now=datetime.now(UTC))


@pytest.mark.slow
async def test_a_rolling_restart_fails_no_request_and_loses_and_repeats_nothing(
    folder: Path, redis_url: str, namespace: str
) -> None:
    """Two receivers at one socket are restarted in turn under load: every request is answered 200, each fact is once.

    Each request has a connection of its own: on one that is kept alive, a request may always cross its end.
    """
    answered: list[str] = []
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        port = listener.getsockname()[1]
        write_config(folder, namespace, redis={"url": redis_url}, server={"port": port})

        def start(name: str) -> Process:
            command = _handing(listener.fileno())
            return stack.enter_context(started(command, folder, name, {"LISTEN_FDS": "1"}, [listener.fileno()]))

        running = [start("a-0"), start("b-0")]
        async with client_of(f"http://127.0.0.1:{port}") as client, space_at(redis_url, namespace) as space:
            await ready(client, running[0])
            alone = (b"connection", b"close")
            senders = [asyncio.create_task(post_facts(client, _signed, f"{one}", answered, alone)) for one in range(4)]
            for turn in range(1, 3):
                for place, name in enumerate("ab"):
                    enough = len(answered) + 50
                    await until(lambda: len(answered) > enough, "callbacks are answered")  # noqa: B023 - read at once
                    running[place].signal(signal.SIGTERM)
                    assert await running[place].status() == 0
                    running[place] = start(f"{name}-{turn}")
                    await running[place].says("listens on")
            for sender in senders:
                sender.cancel()
            ended = await asyncio.gather(*senders, return_exceptions=True)
            await space.worked_off()
            events = await space.events()

    found = facts(events)

    assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []
    assert {name: found[name] for name in answered} == dict.fromkeys(answered, 1)
    assert set(found.values()) == {1}
    assert without_gap_or_repeat(events)
