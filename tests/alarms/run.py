"""Does all faults at once, and tells which alerts stood when."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog
import yaml

from receiver.embedded import EmbeddedRedis
from tests.alarms.prometheus import Jobs, Prometheus, Standing, running_prometheus
from tests.alarms.rules import quickened
from tests.alarms.scene import LOOKING_BACK, Course, Fault, Faults, Pace, Scene

RULES = Path(__file__).parents[2] / "deploy" / "alerts.yaml"
#: After so long with the rules as they are shipped, what does not stand yet never will; and a while for us to do it in.
_PATIENCE_SECONDS, _GRACE_SECONDS = 1200, 40
#: In evaluations: what else would stand, would by then.
_MORE = 3
_START_SECONDS = 90


log = structlog.get_logger()


class Outcome(msgspec.Struct):
    """What came of all faults. Alerts are (job, name), as `prometheus.named` has them."""

    #: What stood before anything was done.
    before: dict[tuple[str, str], float]
    #: What stood at any time until the faults were mended: when, in seconds since they were done.
    stood: dict[tuple[str, str], float]
    #: As it stood at the end of that, with labels and summary.
    told: list[Standing]
    #: What still stood some time after the faults were mended, but for what looks back.
    left: set[tuple[str, str]]
    seconds: float

    def raised(self, name: str) -> frozenset[str]:
        """What stood of a fault."""
        return frozenset(alert for job, alert in self.stood if job == job_of(name))

    def beside(self, faults: Faults) -> set[tuple[str, str]]:
        """What stood of no fault's receivers."""
        jobs = {job_of(name) for name in faults}
        return {alert for alert in self.stood if alert[0] not in jobs}


def job_of(name: str) -> str:
    """The job of a fault's receivers."""
    return f"partyline-{name}"


async def perform(faults: Faults, pace: Pace) -> Outcome:
    """All of it: prepare, wait until all is calm, do the faults, wait for the alerts, mend, wait until they are out."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="alarm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with EmbeddedRedis(folder / "redis") as redis:
            course = Course(folder, pace, redis)
            scenes = {each: Scene(each, course) for each in faults}
            async with asyncio.TaskGroup() as group:
                for each, fault in faults.items():
                    group.create_task(_noted(fault, scenes[each]))
                outcome = await _directed(faults, course, scenes)
    outcome.seconds = time.monotonic() - began
    return outcome


async def _noted(fault: Fault, scene: Scene) -> None:
    try:
        await fault.do(scene)
    except BaseException as error:
        error.add_note(f"while this was done: {fault.did}")
        raise


async def _directed(faults: Faults, course: Course, scenes: Mapping[str, Scene]) -> Outcome:
    for scene in scenes.values():
        await scene.prepared.wait()
    pace = course.pace
    async with _watching(faults, course, scenes) as prometheus:
        await _until_scraped(prometheus, sum(len(scene.receivers) for scene in scenes.values()))
        await asyncio.sleep(_MORE * pace.scrape_seconds)
        began = time.time()
        await asyncio.sleep(_MORE * pace.scrape_seconds)
        done = time.time()
        before = await prometheus.since(began, done, pace.scrape_seconds)
        course.calm.set()
        await _until_raised(prometheus, faults, pace)
        await asyncio.sleep(_MORE * pace.scrape_seconds)
        told, mended = await prometheus.standing(), time.time()
        stood = await prometheus.since(done, mended, pace.scrape_seconds)
        course.alarm.set()
        left = await _until_out(prometheus, pace)
        course.over.set()
    return Outcome(before, {alert: at - done for alert, at in stood.items()}, told, left, 0)


@asynccontextmanager
async def _watching(faults: Faults, course: Course, scenes: Mapping[str, Scene]) -> AsyncIterator[Prometheus]:
    seconds = course.pace.scrape_seconds
    jobs = Jobs(
        {scene.job: scene.receivers for scene in scenes.values()},
        seconds,
        {scenes[name].job: fault.scrape_seconds for name, fault in faults.items() if fault.scrape_seconds > seconds},
    )
    async with running_prometheus(course.folder / "prometheus", rules(course.pace), jobs) as prometheus:
        yield prometheus


def rules(pace: Pace) -> dict[str, Any]:
    """The rules that are shipped, as quick as they are to be."""
    return quickened(yaml.safe_load(RULES.read_text()), pace.factor)


async def _until_scraped(prometheus: Prometheus, receivers: int) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while await prometheus.scraped() < receivers:  # noqa: ASYNC110 - Prometheus is asked
            await asyncio.sleep(0.2)


async def _until_raised(prometheus: Prometheus, faults: Faults, pace: Pace) -> None:
    """Wait until all that is to stand does, all at a time; or long enough."""
    wanted = {(job_of(name), alert) for name, fault in faults.items() for alert in fault.raises}
    missing, ends = wanted, time.monotonic() + pace.seconds(_PATIENCE_SECONDS) + _GRACE_SECONDS
    while missing and time.monotonic() < ends:
        await asyncio.sleep(pace.scrape_seconds / 2)
        left = wanted - {(each.job, each.name) for each in await prometheus.standing()}
        if left != missing:
            log.info("alerts stand", news=sorted(alert for _, alert in missing - left), still_missing=len(left))
        missing = left


async def _until_out(prometheus: Prometheus, pace: Pace) -> set[tuple[str, str]]:
    """Wait until nothing stands but what looks back; or long enough: what stands then."""
    ends = time.monotonic() + pace.seconds(_PATIENCE_SECONDS) + _GRACE_SECONDS
    left: set[tuple[str, str]] = set()
    while time.monotonic() < ends:
        standing = await prometheus.standing()
        left = {(each.job, each.name) for each in standing if each.labels["alertname"] not in LOOKING_BACK}
        if not left:
            break
        await asyncio.sleep(pace.scrape_seconds / 2)
    return left
