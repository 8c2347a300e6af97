"""Sockets that a service manager has bound for us: systemd's socket activation.

They stay open while the service is restarted, so no connection is refused meanwhile. See sd_listen_fds(3): the manager
hands them over from file descriptor 3 on, and says in LISTEN_PID for whom and in LISTEN_FDS how many.
"""

import contextlib
import socket
from collections.abc import Mapping

from schemas.errors import ConfigError

_FIRST = 3
_PATIENCE_SECONDS = 1.0


def handed_over(environ: Mapping[str, str], pid: int) -> int:
    """How many sockets are for the process with this id; 0 for none. Pure."""
    count = environ.get("LISTEN_FDS", "")
    return int(count) if environ.get("LISTEN_PID") == str(pid) and count.isdecimal() else 0


def inherited(count: int, ports: Mapping[str, int]) -> list[socket.socket]:
    """The sockets that were handed over, in the order of the ports, each the one that is bound to it.

    Args:
        count: how many there are.
        ports: by setting, as in `{"server.port": 8080}`.

    Raises ConfigError for a port without a socket, or a socket without a port: requests would come in where nobody
    means them to.
    """
    found = {each.getsockname()[1]: each for each in (socket.socket(fileno=_FIRST + at) for at in range(count))}
    lacking = [
        f"{name}: the service manager handed over no socket for port {port}"
        for name, port in ports.items()
        if port not in found
    ]
    beyond = [
        f"server: the service manager handed over a socket for port {port}, which no setting names"
        for port in found
        if port not in ports.values()
    ]
    if lacking or beyond:
        raise ConfigError([*lacking, *beyond])
    return [found[port] for port in ports.values()]


def tell_manager(environ: Mapping[str, str], state: str) -> None:
    """Tell the service manager about our state, `READY=1` or `STOPPING=1`, if it wants to know: see sd_notify(3)."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A name in the kernel's own space is written with an @ for the zero byte that it starts with.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
        channel.settimeout(_PATIENCE_SECONDS)
        channel.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
