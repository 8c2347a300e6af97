"""partyline with providers that some captures kill: a body that holds `MARK` ends whoever parses it, with kill -9.

`python -m tests.chaos.deadly` takes what `partyline` takes, and has its children started by way of this module as well:
what is run is the program as it is shipped, but for what its parsers do.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from receiver import children, cli
from receiver.provider import Provider
from receiver.providers import PROVIDERS
from schemas.callback import Capture
from schemas.events import Parsed
from tests.chaos.facts import MARK

_CHILD = ["-m", "receiver"]


def deadly(provider: Provider) -> Provider:
    """A provider whose parser dies of the mark, and reads everything else as it does."""
    return msgspec.structs.replace(provider, parse=_dying(provider.parse))


def _dying(parse: Callable[[Capture], list[Parsed]]) -> Callable[[Capture], list[Parsed]]:
    def parse_or_die(capture: Capture) -> list[Parsed]:
        if MARK in capture.body:
            os.kill(os.getpid(), signal.SIGKILL)
        return parse(capture)

    return parse_or_die


def _interpreter() -> str:
    """What the supervisor starts its children with: this module instead of Python."""
    script = Path(os.environ["TMPDIR"]) / "deadly-python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.chaos.deadly "$@"\n')
    script.chmod(0o700)
    return str(script)


def main() -> None:
    """Be the program, or one of its children."""
    if sys.argv[1:3] == _CHILD:
        PROVIDERS.update({name: deadly(provider) for name, provider in PROVIDERS.items()})
        del sys.argv[1:3]
        children.main()
    else:
        sys.executable = _interpreter()
        cli.main()


if __name__ == "__main__":
    main()
