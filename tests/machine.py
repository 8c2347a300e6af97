"""A Debian machine of its own: fresh, with systemd as its first process, and with us alone on its network.

It is a folder that debootstrap fills, booted by systemd-nspawn. Takes root, Linux, those two programs, and Debian's
packages within reach. Its own name for its own address space of processes, users' ids and files are shared with nobody.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.processes import Process, descendants, started, until

SUITE = "bookworm"
#: What an installed Debian has, and debootstrap's smallest one has not.
_INCLUDED = "ca-certificates,dbus,iproute2,systemd,systemd-sysv"
_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
#: The network between us and the machine (of RFC 5737: nobody has these for good).
OUTSIDE, ADDRESS = "198.51.100.1", "198.51.100.2"
_NAME = "rehearsal"
#: Whoever vouches for what is fetched; where a network has somebody of its own, the machine has to know them too.
_TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_CERT": str(_TRUSTED),
}
_FETCHING_SECONDS, _RUNNING_SECONDS, _BOOTING_SECONDS = 900, 120, 60


def missing() -> str | None:
    """Why there can be no such machine here; None if there can."""
    if os.geteuid() != 0:
        return "it takes root"
    absent = [name for name in ("debootstrap", "systemd-nspawn", "nsenter", "ip") if shutil.which(name) is None]
    return f"there is no {' and no '.join(absent)} on PATH (Debian: debootstrap, systemd-container)" if absent else None


class Machine:
    """A machine that runs."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._enter = ["nsenter", "--target", str(leader), "--all", "env", "-i", *map("=".join, _ENVIRONMENT.items())]

    def command(self, *words: str) -> list[str]:
        """A command as it is to be run from here, so that it runs there, as root."""
        return [*self._enter, *words]

    def run(self, script: str) -> str:
        """What a shell there says that runs a script to its end, with every command in it ending well."""
        return _said(self.command("sh", "-eu", "-c", script), _RUNNING_SECONDS)

    async def has(self, condition: str, seconds: float = _BOOTING_SECONDS) -> None:
        """Wait until a command there ends well."""
        command = self.command("sh", "-c", condition)
        holds = lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: E731
        await until(holds, f"on the machine: {condition}", seconds)


@contextmanager
def fresh_machine() -> Iterator[Path]:
    """The files of a machine on which nothing was done; what has to be fetched for it is fetched now."""
    with tempfile.TemporaryDirectory(prefix="partyline-machine-") as folder:
        root = Path(folder) / "root"
        _said(["debootstrap", "--variant=minbase", f"--include={_INCLUDED}", SUITE, str(root)], _FETCHING_SECONDS)
        shutil.copy(_TRUSTED, root / _TRUSTED.relative_to("/"))
        (root / "etc/hosts").write_text(_HOSTS)
        (root / "etc/hostname").write_text(f"{_NAME}\n")
        install(root, "apt-get update --quiet")
        yield root


def install(root: Path, script: str) -> None:
    """Have a machine that is not up run a script of what takes our network, as its root, each command ending well."""
    settings = [f"--setenv={name}={value}" for name, value in _ENVIRONMENT.items()]
    command = [*_nspawn(root), *settings, "--resolv-conf=replace-host", "--as-pid2", "sh", "-eu", "-c", script]
    _said(command, _FETCHING_SECONDS)


@asynccontextmanager
async def booted(root: Path, folder: Path, name: str) -> AsyncIterator[Machine]:
    """Have a machine up for as long as the context, on its own network; then its power is cut."""
    link = f"ve-{_NAME}"
    with started([*_nspawn(root), "--network-veth", "--boot"], folder, name) as process:
        leader = await _leader(process)
        machine = Machine(root, leader)
        _said(["ip", "address", "add", f"{OUTSIDE}/30", "dev", link], _RUNNING_SECONDS)
        _said(["ip", "link", "set", link, "up"], _RUNNING_SECONDS)
        await machine.has("systemctl is-system-running | grep -qE 'running|degraded'")
        machine.run(f"ip address add {ADDRESS}/30 dev host0 && ip link set host0 up")
        try:
            yield machine
        finally:
            process.signal(signal.SIGKILL)
            os.kill(leader, signal.SIGKILL)
            await until(lambda: not Path(f"/sys/class/net/{link}").exists(), "its network is gone")


async def _leader(process: Process) -> int:
    """The machine's first process, once it has begun to boot."""
    deadline = asyncio.get_running_loop().time() + _BOOTING_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        found = [
            kin for kin in descendants(process.pid)[1:] if "/systemd" in kin.command and "nspawn" not in kin.command
        ]
        if found:
            return found[0].pid
        await asyncio.sleep(0.05)
    raise AssertionError(f"{process.name} does not boot")


def _nspawn(root: Path) -> list[str]:
    """On a host whose own first process may be something other than systemd."""
    words = ["--quiet", "--keep-unit", "--register=no", "--console=pipe", f"--machine={_NAME}"]
    return ["systemd-nspawn", *words, f"--directory={root}"]


def _said(command: list[str], seconds: float) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode != 0:
        said = "\n".join([*done.stdout.splitlines()[-20:], *done.stderr.splitlines()[-40:]])
        raise AssertionError(f"status {done.returncode}: {' '.join(command[-1:])}\n{said}")
    return done.stdout
