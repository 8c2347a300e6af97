"""What a child process does first: log, settings, then its work."""

import os
import socket
import sys
from pathlib import Path

import structlog

from receiver import log
from receiver.settings import load
from receiver.worker import run_http, run_pipeline
from schemas.errors import ConfigError, StoreError


def main() -> None:
    """Do the work that the command line names, with the configuration that the environment names."""
    kind, *numbers = sys.argv[1:]
    log.configure()
    try:
        settings = load(Path(os.environ["PARTYLINE_CONFIG"]), os.environ)
        if kind == "http":
            run_http(settings, [socket.socket(fileno=int(fd)) for fd in numbers])
        else:
            run_pipeline(settings, int(numbers[0]) if numbers else 0)
    except StoreError as error:
        structlog.get_logger().error("Redis is not there; the supervisor will try again", detail=str(error))
        sys.exit(1)
    except ConfigError as error:
        sys.stderr.write("".join(f"{mistake}\n" for mistake in error.mistakes))
        sys.exit(ConfigError.exit_code)
