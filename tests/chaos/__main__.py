"""`python -m tests.chaos [fault …]`: run scenarios, a line for each as it ends; exit status 1 if anything failed."""

import argparse
import asyncio
import sys
import time

import msgspec
import uvloop

from tests.chaos.faults import FAULTS
from tests.chaos.scenario import Ran, Size, run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Everything that may go wrong, done.")
    parser.add_argument("fault", nargs="*", help="which scenarios; all unless some are named")
    parser.add_argument("--list", action="store_true", help="say what they are, and end")
    usual = Size()
    parser.add_argument("--rate", type=float, default=usual.rate, help="callbacks a second without a fault, at least")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="how long a fault lasts")
    parser.add_argument("--kills", type=int, default=usual.kills, help="of processes of partyline")
    parser.add_argument("--redis-kills", type=int, default=usual.redis_kills)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--require", action="store_true", help="what cannot be run here has failed")
    given = parser.parse_args()
    if unknown := set(given.fault) - FAULTS.keys():
        parser.error(f"no fault is called {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    return given


async def _run(names: list[str], size: Size) -> list[Ran]:
    ran = []
    for name in names:
        ran.append(await run(name, FAULTS[name], size))
        print(ran[-1], flush=True)
    return ran


def main() -> int:
    """Run what the command line names."""
    given = _arguments()
    if given.list:
        for name, scenario in FAULTS.items():
            print(f"{name:22}{(scenario.__doc__ or '').splitlines()[0]}")
        return 0
    size = Size(given.rate, given.seconds, given.kills, given.redis_kills, given.seed)
    print(
        f"tests.chaos {' '.join(f'{key}={value}' for key, value in msgspec.structs.asdict(size).items())}", flush=True
    )
    began = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ran = runner.run(_run(given.fault or [*FAULTS], size))
    bad = [each.name for each in ran if each.result == "FAIL" or (given.require and each.result == "not run")]
    missed = [each.name for each in ran if each.result == "not run"]
    print(
        f"{len(ran) - len(missed)} of {len(ran)} scenarios run in {(time.monotonic() - began) / 60:.1f} min"
        f"{', not run: ' + ', '.join(missed) if missed else ''}; {'FAILED: ' + ', '.join(bad) if bad else 'all held'}"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
