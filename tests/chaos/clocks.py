"""Clocks that step, of the receiver and of Redis, with libfaketime; the providers' clock is right all along."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from receiver.embedded import EmbeddedRedis, find_server
from tests.chaos.ledger import Ledger
from tests.chaos.scenario import NotRun, Size, Told
from tests.chaos.world import NAMESPACE, Program, Traffic, World
from tests.processes import space_at

_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
_STEP_SECONDS = 600
_DAY_SECONDS = 86400
#: For so many seconds a process goes by the time that it knew; libfaketime counts whole ones, and one more.
_KNOWN_SECONDS = 1
_NOTICED_SECONDS = _KNOWN_SECONDS + 1.5
_STALE = "timestamp_outside_tolerance"
_REFUSED = "partyline_callbacks_total"


class FakeClock:
    """A clock that some processes go by: the machine's, so many seconds off."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = _library()
        self._write(0)

    def _write(self, seconds: int) -> None:
        aside = self._file.with_suffix(".new")
        aside.write_text(f"{seconds:+d}\n")
        aside.replace(self._file)

    async def set(self, seconds: int) -> None:
        """So far off from now on; returns once every process has noticed."""
        self._write(seconds)
        await asyncio.sleep(_NOTICED_SECONDS)

    @property
    def environment(self) -> Mapping[str, str]:
        """What has a process go by it. Its monotonic clock stays what it is, as it does when clocks are set."""
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(_KNOWN_SECONDS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    async def is_redis_off(self, url: str, seconds: int) -> bool:
        """Whether a server goes by it."""
        async with space_at(url, NAMESPACE) as space:
            told: int = (await space.redis.time())[0]
        return abs(told - time.time() - seconds) < _NOTICED_SECONDS

    def server(self, folder: Path) -> str:
        """A redis-server that goes by it."""
        script = folder / "redis-server"
        settings = " ".join(f"{name}={value}" for name, value in self.environment.items())
        script.write_text(f'#!/bin/sh\nexec env {settings} {find_server()} "$@"\n')
        script.chmod(0o700)
        return str(script)


def _library() -> str:
    found = [path for pattern in _LIBRARIES for path in Path("/").glob(pattern.lstrip("/"))]
    if not found:
        raise NotRun("needs libfaketime (Debian: apt-get install faketime)")
    return str(found[0])


class _Clocked:
    """A service and its Redis, each with a clock of its own."""

    def __init__(self, program: Program, url: str, ours: FakeClock, redis: FakeClock) -> None:
        self.program = program
        self.url = url
        self.ours = ours
        self.redis = redis


async def _clocked(world: World) -> _Clocked:
    ours, redis = FakeClock(world.folder / "ours"), FakeClock(world.folder / "redis")
    server = EmbeddedRedis(world.folder / "r", executable=redis.server(world.folder))
    world.stack.enter_context(server)
    program = await world.serve({"url": server.url}, environment=ours.environment)
    return _Clocked(program, server.url, ours, redis)


async def clock_steps(world: World, size: Size) -> Told:
    """The receiver's clock, then Redis', steps ten minutes on, and back, and ten minutes back, and on."""
    on = await _clocked(world)
    each_seconds = min(2.0, size.seconds)
    async with world.sending(on.program) as traffic:
        await traffic.calm(size.calm_seconds)
        for clock in (on.ours, on.redis):
            for seconds in (_STEP_SECONDS, 0, -_STEP_SECONDS, 0):
                await clock.set(seconds)
                assert clock is on.ours or await clock.is_redis_off(on.url, seconds), "Redis' clock did not step"
                await asyncio.sleep(each_seconds)
        await traffic.calm(size.calm_seconds)
        found = await world.outcome(on.url, on.program)
        counted = sum(
            value
            for series, value in (await on.program.metrics()).items()
            if series.startswith(_REFUSED) and f'outcome="{_STALE}"' in series
        )
    told = Told.of(f"clocks stepped by ±10 min, receiver and Redis; {counted:,.0f} refused as stale", traffic, found)
    _must_be_stale(told, told.ledger, counted)
    return told


def _must_be_stale(told: Told, ledger: Ledger, counted: float) -> None:
    """Callbacks are refused for their age alone, some are, and the metric that an alert reads has counted them."""
    refused = ledger.reasons[_STALE]
    told.must(refused > 0, "nothing was refused as stale: did the clock step at all?")
    told.must(refused == counted, f"{refused} were refused as stale and {counted:.0f} counted")
    told.must(set(ledger.statuses) == {200, 401}, f"answered {dict(ledger.statuses)} {dict(ledger.reasons)}")
    told.must(set(ledger.reasons) == {_STALE}, f"refused for {dict(ledger.reasons)}")


async def late_redeliveries(world: World, size: Size) -> Told:
    """What was answered 200 is posted again after one, three and seven days, all clocks moved along."""
    on = await _clocked(world)
    async with world.sending(on.program, redelivered=0.0) as traffic:
        await traffic.calm(2 * size.calm_seconds)
        await traffic.tell(rate=0)
        before = (await traffic.tell())["posted"]
        for number, days in enumerate((1, 3, 7)):
            for clock in (on.redis, on.ours):
                await clock.set(days * _DAY_SECONDS)
            assert await on.redis.is_redis_off(on.url, days * _DAY_SECONDS), "Redis' clock did not step"
            await traffic.tell(clock_seconds=days * _DAY_SECONDS, again={"seconds": 2, "every": 3, "since": number})
            await _posted(traffic)
        await traffic.tell(again={"seconds": 5, "every": 1, "since": 0})
        await _posted(traffic)
        again = (await traffic.tell())["posted"] - before
        found = await world.outcome(on.url, on.program)
    told = Told.of(f"{again:,} redelivered after 1, 3 and 7 days", traffic, found)
    told.must(again > before, f"only {again} of {before} were redelivered")
    told.must_refuse_nothing()
    return told


async def _posted(traffic: Traffic) -> None:
    """Wait until nothing is to be posted."""
    async with asyncio.timeout(60):
        while (await traffic.tell())["waiting"]:  # noqa: ASYNC110 - the sender is asked
            await asyncio.sleep(0.1)
