"""What `deploy/` ships for machines: it starts, its parts fit each other, and it names nothing that is not there."""

import ctypes
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import typer.main
from redis.exceptions import AuthenticationError

from correlator.redis_client import connect
from receiver.cli import app as program
from receiver.durability import check_durability
from receiver.embedded import find_server
from receiver.settings import Settings
from receiver.worker import GRACE_SECONDS
from schemas.errors import ConfigError
from tests.farm import free_port
from tests.processes import PROGRAM, client_of, deliver, embedded, started, write_config
from tests.traffic import BOB, CAT, telnyx

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SYSTEMD = DEPLOY / "systemd"

#: Linux' own numbers, of prctl(2): memory is never writable and executable, as MemoryDenyWriteExecute= has it.
_PR_SET_MDWE, _PR_GET_MDWE = 65, 66
#: A redis-server that was built without TLS does not know these.
_ONLY_WITH_TLS = {
    "tls-port",
    "tls-cert-file",
    "tls-key-file",
    "tls-ca-cert-file",
    "tls-auth-clients",
    "tls-replication",
}


# --- what the files name exists ---------------------------------------------------------------------------


def commands_in(text: str) -> list[list[str]]:
    """Every `partyline …` that a file runs, or that stands between backticks in a comment; without its first word."""
    code = re.sub(r"^ *#.*$| # .*$", "", text, flags=re.MULTILINE)
    found = re.findall(r"(?:^|[\s/'\"])partyline ((?:[a-z]+ ?)+)", code, re.MULTILINE)
    return [words.split() for words in (*found, *re.findall(r"`partyline ([a-z ]+)`", text))]


def test_the_files_of_ours_that_are_to_be_copied_exist() -> None:
    """Every `deploy/…` in a file or page of deploy/ is there, but for what secrets.sh or people make."""
    others = {"node_modules", "__pycache__"}
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file() and others.isdisjoint(path.parts)]
    named = {name.rstrip("./") for text in texts for name in re.findall(r"(?<![\w/])deploy/[\w./-]*", text)}
    made = {"deploy/.env", "deploy/secrets", "deploy/kubernetes/secrets"}

    missing = {name for name in named if not (ROOT / name).exists()}
    assert {name for name in missing if not any(name == one or name.startswith(f"{one}/") for one in made)} == set()


def takes(words: list[str]) -> bool:
    """Whether the program has such a command."""
    command: Any = typer.main.get_command(program)
    for word in words:
        if not hasattr(command, "commands"):
            break
        if word not in command.commands:
            return False
        command = command.commands[word]
    return not hasattr(command, "commands")


# --- systemd ----------------------------------------------------------------------------------------------


def unit(path: Path) -> dict[str, list[str]]:
    """The settings of a unit file, each with all its values. Keys are told apart without their sections."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


SERVICE = unit(SYSTEMD / "partyline.service")
SOCKET = unit(SYSTEMD / "partyline.socket")


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; skip the test where there is none."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on PATH (Debian: apt-get install systemd)")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=30, check=False)


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` says not a word about them, nor about the drop-in; the program stands in for /opt's."""
    for source in (SYSTEMD / "partyline.service", SYSTEMD / "partyline.socket"):
        text = source.read_text().replace("/opt/partyline/bin/partyline", PROGRAM)
        (tmp_path / source.name).write_text(text)
    (tmp_path / "partyline.service.d").mkdir()
    shutil.copy(SYSTEMD / "credentials.conf", tmp_path / "partyline.service.d")

    said = analyze("verify", "--man=no", str(tmp_path / "partyline.service"), str(tmp_path / "partyline.socket"))

    assert said.stdout + said.stderr == ""
    assert said.returncode == 0


def test_the_service_is_exposed_to_little() -> None:
    """Systemd's own score, from 0 (locked away) to 10, is at most 1.5."""
    said = analyze("security", "--offline=true", "--no-pager", "--threshold=15", str(SYSTEMD / "partyline.service"))

    assert said.returncode == 0, said.stdout + said.stderr


def test_the_service_runs_a_command_that_exists_and_tells_when_it_is_ready() -> None:
    """`partyline serve`, which tells READY=1 (tests/test_activation.py); a wrong configuration is not tried again."""
    (command,) = SERVICE["ExecStart"]

    assert takes(shlex.split(command)[1:])
    assert SERVICE["Type"] == ["notify"]
    assert SERVICE["RestartPreventExitStatus"] == [str(ConfigError.exit_code)]


@pytest.mark.parametrize(("status", "waits"), [("78", True), ("0", False), ("killed", False)])
def test_a_wrong_configuration_is_not_tried_again_at_once(status: str, waits: bool) -> None:
    """A request at the socket would have systemd start it again and again: what runs after it ended takes its time."""
    (command,) = SERVICE["ExecStopPost"]
    words = [word.replace("$$", "$").replace("sleep 10", "echo wait") for word in shlex.split(command)]

    said = subprocess.run(words, env={"EXIT_STATUS": status}, capture_output=True, text=True, timeout=10, check=True)

    assert (said.stdout == "wait\n") == waits


def test_stopping_may_take_as_long_as_the_supervisor_waits() -> None:
    """Workers, then pipelines, then Redis: the grace, five seconds more, and ten for Redis. Only it is told."""
    supervisor = 2 * (GRACE_SECONDS + 5) + 10

    assert int(SERVICE["TimeoutStopSec"][0]) > supervisor
    assert SERVICE["KillMode"] == ["mixed"]


def test_the_sockets_are_those_of_the_ports_that_the_example_names() -> None:
    """The receiver wants a socket for each of its ports, and refuses any other."""
    text = (DEPLOY / "partyline.example.toml").read_text()
    ports = re.findall(r"^(?:admin_)?port = (\d+)", text, re.MULTILINE)

    assert SOCKET["ListenStream"] == [f"127.0.0.1:{port}" for port in ports]


def test_what_the_service_writes_lies_in_its_state_directory() -> None:
    """The spool's and the embedded Redis' folders are relative by default: to a folder that systemd makes for it."""
    defaults = Settings()

    assert SERVICE["WorkingDirectory"] == [f"%S/{SERVICE['StateDirectory'][0]}"]
    assert not defaults.spool.dir.is_absolute()
    assert not defaults.redis.data_dir.is_absolute()


@pytest.mark.slow
async def test_the_program_runs_under_a_service_manager_with_its_sockets_and_without_code_in_writable_memory(
    folder: Path, namespace: str
) -> None:
    """With systemd's own sockets and an embedded Redis, it answers at both ports and ends with 0."""
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("there is no systemd-socket-activate on PATH (Debian: apt-get install systemd)")
    if ctypes.CDLL(None).prctl(_PR_GET_MDWE, 0, 0, 0, 0) < 0:
        pytest.skip("this kernel is older than 6.3: it knows no PR_SET_MDWE")
    first, second = free_port(), free_port()
    config = {"server": {"port": first, "admin_port": second}, "redis": embedded(folder)}
    write_config(folder, namespace, **config)
    wish = f"import ctypes, os, sys; ctypes.CDLL(None).prctl({_PR_SET_MDWE}, 1, 0, 0, 0)"
    wish += "; os.execv(sys.argv[1], sys.argv[1:])"
    listen = [word for port in (first, second) for word in ("--listen", f"127.0.0.1:{port}")]
    command = ["systemd-socket-activate", "--setenv=TMPDIR", *listen, sys.executable, "-c", wish, PROGRAM, "serve"]

    with started(command, folder, "service") as process:
        await process.says("Listening on")
        async with client_of(f"http://127.0.0.1:{first}") as public, client_of(f"http://127.0.0.1:{second}") as admin:
            answered = await deliver(public, "telnyx", telnyx("one", others=(BOB, CAT)))
            page = (await admin.get("/metrics")).text
        process.signal(signal.SIGTERM)
        status = await process.status()

    assert answered.status_code == 200
    assert "partyline_ready 1.0" in page
    assert status == 0


def test_the_command_for_the_shell_runs_as_the_service_does(tmp_path: Path) -> None:
    """The service's user, folder and configuration, and its program; arguments come through as they are."""
    (tmp_path / "runuser").write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    (tmp_path / "runuser").chmod(0o755)
    command = ["sh", str(SYSTEMD / "partyline.sh"), "captures", "ls", "--address", "+1 555 555 0100"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}

    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10, check=True)

    assert said.stdout.splitlines() == [
        *("-u", SERVICE["User"][0], "--", "env", "-C", f"/var/lib/{SERVICE['StateDirectory'][0]}"),
        *(SERVICE["Environment"][0], shlex.split(SERVICE["ExecStart"][0])[0]),
        *("captures", "ls", "--address", "+1 555 555 0100"),
    ]


# --- Redis ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def server(folder: Path, users: Path) -> AsyncIterator[int]:
    """A redis-server with `deploy/redis.conf`, but for what is marked there as yours to change; its port."""
    port = free_port()
    text = (DEPLOY / "redis.conf").read_text()
    for ours, yours in (("/var/lib/redis", folder), ("/etc/redis/users.acl", users), ("port 6379", f"port {port}")):
        assert len(re.findall(rf"^[^#]*{ours}$", text, re.MULTILINE)) == 1
        text = text.replace(ours, str(yours))
    (folder / "redis.conf").write_text(text)
    with started([find_server(), str(folder / "redis.conf")], folder, "redis") as process:
        await process.says("Ready to accept connections")
        yield port


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Any]:
    """A client for one question."""
    client = connect(url, 5.0)
    try:
        yield client
    finally:
        await client.aclose()


async def test_redis_starts_with_our_configuration_and_keeps_what_a_200_promises(folder: Path) -> None:
    """The user of `users.acl` gets in and finds a server that passes the receiver's own check; nobody else gets in."""
    users = DEPLOY / "users.acl"
    async with server(folder, users) as port:
        async with asking(f"redis://partyline:REPLACE-THIS-PASSWORD-1@127.0.0.1:{port}") as client:
            await check_durability(client, "always")
            policy = await client.config_get("maxmemory-policy")
        async with asking(f"redis://127.0.0.1:{port}") as nobody:
            with pytest.raises(AuthenticationError):
                await nobody.get("x")

    assert list(policy.values()) == ["noeviction"]
    assert (folder / "appendonly.aof").exists() or (folder / "appendonlydir").exists()


async def test_what_scripts_stored_is_there_after_a_restart(folder: Path) -> None:
    """Killed and started again with these users, Redis loads all of it: several writes of one script included."""
    users = DEPLOY / "users.acl"
    url = "redis://partyline:REPLACE-THIS-PASSWORD-1@127.0.0.1"
    keys = ["partyline:{default}:one", "partyline:{default}:two"]
    script = "redis.call('SET', KEYS[1], 'here') return redis.call('SET', KEYS[2], 'too')"
    async with server(folder, users) as port, asking(f"{url}:{port}") as client:
        await client.register_script(script)(keys)

    async with server(folder, users) as port, asking(f"{url}:{port}") as client:
        kept = await client.mget(keys)

    assert kept == [b"here", b"too"]


def test_the_default_user_may_do_all_and_is_off() -> None:
    """Nobody can be it; Redis 7.0 to 8.4 loads its append-only file as that user, and leaves out what it may not do."""
    first = (DEPLOY / "users.acl").read_text().splitlines()[0]

    assert first == "user default off ~* &* +@all"


async def test_the_lines_for_tls_are_ones_that_redis_knows(folder: Path) -> None:
    """Whoever takes the # away gets what the comment says: every commented setting is one of Redis' own."""
    commented = re.findall(r"^# ([a-z-]+) \S+$", (DEPLOY / "redis.conf").read_text(), re.MULTILINE)
    (folder / "admin.acl").write_text("user default on nopass ~* &* +@all\n")
    async with server(folder, folder / "admin.acl") as port, asking(f"redis://127.0.0.1:{port}") as client:
        known = {name for name in commented if await client.config_get(name)}

    assert set(commented) - known - _ONLY_WITH_TLS == set()
    assert {"tls-port", "tls-cert-file", "maxmemory", "masteruser"} <= set(commented)
