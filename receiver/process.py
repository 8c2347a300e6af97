"""What child processes need from the operating system."""

import asyncio
import ctypes
import gc
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_YOUNG_OBJECTS = 10_000


def die_with_parent() -> None:
    """Call it in a child, before exec: the kernel then ends the child when its parent dies, however it dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


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
