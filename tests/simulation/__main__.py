"""`python -m tests.simulation`: a run of its own, with a Redis of its own; exit status 1 when anything is wrong."""

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from correlator.redis_client import connect
from receiver.embedded import EmbeddedRedis
from schemas.keyspace import Keyspace
from tests.simulation.report import report
from tests.simulation.run import Result, Settings, simulate, traffic
from tests.simulation.truth import Oracle

_PROGRESS_SECONDS = 10.0


def _arguments() -> tuple[Settings, bool]:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulated traffic, judged.")
    parser.add_argument("--callbacks", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--without", default="", help="kinds of evidence to leave out: registrations,user-ids")
    parser.add_argument("--generate-only", action="store_true", help="only make the callbacks, and say how fast")
    given = parser.parse_args()
    without = set(filter(None, given.without.split(",")))
    if unknown := without - {"registrations", "user-ids"}:
        parser.error(f"nothing to leave out is called {', '.join(sorted(unknown))}")
    settings = Settings(
        callbacks=given.callbacks,
        seed=given.seed,
        registrations="registrations" not in without,
        user_ids="user-ids" not in without,
    )
    return settings, given.generate_only


class _Progress:
    """Says on stderr how far it is, now and again."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()

    def __call__(self, callbacks: int) -> None:
        now = time.monotonic()
        if now - self._said > _PROGRESS_SECONDS:
            self._said = now
            print(f"{callbacks:,} callbacks, {callbacks / (now - self._began):,.0f} a second", file=sys.stderr)


async def _run(url: str, settings: Settings) -> Result:
    redis = connect(url, 60.0)
    try:
        # Nothing of it is to be kept, so its disk need not take part.
        await redis.config_set("appendonly", "no")
        return await simulate(redis, settings, Keyspace("simulation"), _Progress())
    finally:
        await redis.aclose()


def _generate(settings: Settings) -> None:
    began = time.perf_counter()
    count = sum(1 for _ in traffic(settings, Oracle()))
    print(f"{count:,} callbacks made, {count / (time.perf_counter() - began):,.0f} a second")


def main() -> int:
    """Run, print the report; 1 when anything in it is wrong."""
    settings, generate_only = _arguments()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)  # a run keeps millions of small things, none of them in cycles
    if generate_only:
        _generate(settings)
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="partyline-simulation-") as folder,
        EmbeddedRedis(Path(folder), fsync="no") as embedded,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        result = runner.run(_run(embedded.url, settings))
    print("\n".join(report(settings, result)))
    return 0 if result.verdict.right else 1


if __name__ == "__main__":
    sys.exit(main())
