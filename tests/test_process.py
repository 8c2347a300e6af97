"""What child processes ask of the operating system."""

import os
import signal
import subprocess
import sys
import time

from receiver.process import dying_with
from tests.processes import descendants

#: Starts a child that is to die with it, says which, and is killed.
_PARENT = """
import os, signal, subprocess
from receiver.process import dying_with
child = subprocess.Popen(["sleep", "60"], preexec_fn=dying_with(os.getpid()))
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _starting(parent: int) -> int:
    """How a child ends that is started to die with some process, and that has nothing to do."""
    with subprocess.Popen(["true"], preexec_fn=dying_with(parent)) as child:  # noqa: PLW1509 - a test has one thread
        return child.wait(10)


def test_a_child_lives_while_its_parent_does() -> None:
    """Nothing happens to it until it has done its work."""
    assert _starting(os.getpid()) == 0


def test_a_child_whose_parent_was_killed_while_it_was_made_ends_at_once() -> None:
    """The kernel tells nobody of a death before it was asked to: such a child would keep the port for ever."""
    assert _starting(os.getpid() + 1) == -signal.SIGKILL


def test_a_child_ends_with_its_parent() -> None:
    """Also if that is killed."""
    parent = subprocess.run([sys.executable, "-c", _PARENT], capture_output=True, text=True, timeout=20, check=False)
    child = int(parent.stdout)
    until = time.monotonic() + 10
    while any(kin.alive for kin in descendants(child)):
        assert time.monotonic() < until, "the child lives on"
        time.sleep(0.02)
