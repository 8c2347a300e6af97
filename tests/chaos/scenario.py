"""What a scenario is, how one is run, and what is said of it."""

import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tests.chaos.judge import Offence, Verdict
from tests.chaos.ledger import Ledger
from tests.chaos.world import Traffic, World

#: Lines of what processes wrote, where a scenario breaks off.
_LAST_WORDS = 80


class Size(msgspec.Struct, frozen=True):
    """How much of everything."""

    #: Callbacks a second that must be answered while there is no fault.
    rate: float = 500.0
    #: A fault that lasts, lasts so long; those that come again and again do for no longer than three times that.
    seconds: float = 60.0
    #: How often processes of partyline are killed, and Redis.
    kills: int = 100
    redis_kills: int = 20
    seed: int = 7

    @property
    def calm_seconds(self) -> float:
        """For how long the rate is measured before and after a fault."""
        return min(4.0, max(1.0, self.seconds / 4))


class NotRun(Exception):
    """A scenario cannot be run on this machine."""


class Told(msgspec.Struct):
    """What a scenario has to say of itself."""

    #: What was done.
    did: str
    ledger: Ledger
    verdict: Verdict
    calm_rate: float
    wrong: list[Offence | str] = []

    @classmethod
    def of(cls, did: str, traffic: Traffic, verdict: Verdict) -> "Told":
        """What was done, and what came of it."""
        return cls(did, traffic.ledger(), verdict, traffic.calm_rate, [*verdict.offences])

    def must(self, holds: object, otherwise: str) -> None:
        """Something else that must be so."""
        if not holds:
            self.wrong.append(otherwise)

    def excuse(self, verdict: Verdict) -> None:
        """Judge by this instead: some of what was found is as documented."""
        excused = {str(offence) for offence in self.verdict.offences}
        self.wrong = [*verdict.offences, *(each for each in self.wrong if str(each) not in excused)]
        self.verdict = verdict

    def must_refuse_nothing(self) -> None:
        """Each attempt of each callback was answered 200."""
        others = {status: count for status, count in self.ledger.statuses.items() if status != 200}
        self.must(not others, f"answered other than 200 (0: not at all): {others} {dict(self.ledger.reasons)}")

    def must_reach(self, rate: float) -> None:
        """Without a fault so many callbacks a second were answered 200."""
        self.must(self.calm_rate >= rate, f"only {self.calm_rate:.0f} a second were answered without a fault")

    @property
    def line(self) -> str:
        """All of it in one line."""
        counts = self.ledger
        found = self.verdict
        statuses = ", ".join(
            f"{count:,} of them {status or 'not answered'}"
            for status, count in sorted(counts.statuses.items())
            if status != 200
        )
        return (
            f"{self.did}: posted {counts.posted:,}{f' ({statuses})' if statuses else ''}, redelivered "
            f"{counts.redelivered:,}, facts answered {len(counts.answered):,}; {self.calm_rate:.0f}/s without fault; "
            f"events {found.events:,}, missing {len(found.missing)}, doubled {len(found.doubled)}, "
            f"out of order {len(found.out_of_order)}; longest answer {counts.longest:.2f} s"
        )


#: A scenario does its worst in a world of its own, and tells of it.
Scenario = Callable[[World, Size], Awaitable[Told]]


class Ran(msgspec.Struct, frozen=True):
    """A scenario that has ended."""

    name: str
    seconds: float
    #: `ok`, `FAIL`, or `not run`.
    result: str
    lines: list[str]

    def __str__(self) -> str:
        first, *more = self.lines
        return "\n".join(
            [f"{self.result:8}{self.name:22}{first} [{self.seconds:.0f} s]", *(f"        {each}" for each in more)]
        )


async def run(name: str, scenario: Scenario, size: Size) -> Ran:
    """Run one scenario, whatever becomes of it, and leave nothing of it behind."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
            told = await scenario(World(Path(folder), stack, rate=size.rate, seed=size.seed), size)
    except NotRun as error:
        return Ran(name, time.monotonic() - began, "not run", [str(error)])
    except (AssertionError, Exception) as error:  # noqa: BLE001 - the others are to run all the same
        # Each process that was started notes its last words, the latest first.
        notes = [line for note in getattr(error, "__notes__", []) for line in note.splitlines()]
        return Ran(name, time.monotonic() - began, "FAIL", [f"{type(error).__name__}: {error}", *notes[:_LAST_WORDS]])
    told.must_reach(size.rate)
    result = "FAIL" if told.wrong else "ok"
    return Ran(name, time.monotonic() - began, result, [told.line, *map(str, told.wrong)])
