"""`python -m tests.alarms`: every fault at once, a line for each alert; exit status 1 if any is missing or too many."""

import argparse
import asyncio
import sys
from collections.abc import Iterator

import uvloop

from tests.alarms.faults import FAULTS
from tests.alarms.run import Outcome, job_of, perform
from tests.alarms.scene import Faults, Pace


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.alarms", description="Every alert, raised by its fault.")
    parser.add_argument("fault", nargs="*", help="which faults; all unless some are named")
    parser.add_argument("--factor", type=int, default=1, help="divide every duration in the rules by it")
    given = parser.parse_args()
    if unknown := set(given.fault) - FAULTS.keys():
        parser.error(f"no fault is called {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    return given


def _lines(faults: Faults, pace: Pace, outcome: Outcome) -> Iterator[tuple[bool, str]]:
    """Whether it is as it should be, and a line about it."""
    for job, alert in outcome.before:
        yield False, f"stood before anything was done: {job} {alert}"
    for name, fault in faults.items():
        yield True, f"{name}: {fault.did}"
        for alert in sorted(fault.raises | outcome.raised(name)):
            at = outcome.stood.get((job_of(name), alert))
            fired = "did not stand" if at is None else f"stood after {at:.0f} s"
            good = alert in fault.allows(pace) and (at is not None)
            yield good, f"    {alert} {fired}{'' if alert in fault.allows(pace) else ', and should not'}"
    for job, alert in sorted(outcome.beside(faults)):
        yield False, f"stood, and belongs to no fault: {job} {alert}"
    for job, alert in sorted(outcome.left):
        yield False, f"still stands although it is mended: {job} {alert}"
    for each in outcome.told:
        yield True, f"[{each.labels['severity']}] {each.summary}"


def main() -> int:
    """Do what the command line names."""
    given = _arguments()
    faults = {name: fault for name, fault in FAULTS.items() if not given.fault or name in given.fault}
    pace = Pace(given.factor)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(perform(faults, pace))
    lines = [*_lines(faults, pace, outcome)]
    for good, line in lines:
        print(f"{'' if good else 'WRONG  '}{line}")
    wrong = sum(not good for good, _ in lines)
    verdict = f"{wrong} WRONG" if wrong else "all as it should be"
    print(f"{len(faults)} faults in {outcome.seconds / 60:.1f} min; {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
