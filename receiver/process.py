"""What child processes need from the operating system."""

import asyncio
import ctypes
import gc
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_YOUNG_OBJECTS = 10_000


def dying_with(parent: int) -> Callable[[], None]:
    """What to call in a child, before exec: the kernel then ends it when its parent dies, however that dies.

    `parent` is the parent's process id, asked for before the child is made: one that has died since tells nobody any
    more, and its child would stay for ever, on sockets and files that the next parent wants.
    """

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return die_with_parent


def settle() -> None:
    """Call it once a process is set up: what lives now lives for good, so the garbage collector need not look at it.

    Callbacks make few cycles and many short-lived objects; without this, a fifth of a worker's time goes into
    looking through the same modules and routes again and again (`make bench`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 100)


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set, from now on."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped
