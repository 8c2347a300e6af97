"""Faults of publishing: pipelines that die, hang, or are late; a lease that another has, and one that two have."""

import asyncio
import signal
import sys
from pathlib import Path

from correlator.redis_client import connect
from receiver.embedded import EmbeddedRedis
from tests.alarms.receiving import posting
from tests.alarms.scene import Fault, Faults, Scene, at, meanwhile
from tests.chaos.facts import MARK
from tests.processes import PROGRAM, Kin, Service, started
from tests.traffic import telnyx

#: A replay has so many captures to read, at the slowest rate that there is: ten seconds each.
_CAPTURES = 120
#: By so much a pipeline that is held up is late.
_LATE_SECONDS = 75


async def nobody(scene: Scene) -> None:
    """The pipeline of one partition dies again and again, the lease of the other is held by a slow replay."""
    async with scene.receiver(redis={**scene.redis, "partitions": 2}) as receiver:
        for number in range(_CAPTURES):
            assert (await receiver.post("telnyx", telnyx(f"{number}"))).status_code == 200
        await scene.calm()
        command = [PROGRAM, "replay", "--yes", "--rate", "0.1", "--account", "main-telnyx"]
        with started(command, scene.folders["one"], "replay") as replay:
            async with meanwhile(_killing(receiver)):
                await scene.alarm()
            replay.signal(signal.SIGINT)
            await replay.status()
        await scene.over()


async def _killing(receiver: Service) -> None:
    """Kill the pipeline of partition 0 as soon as there is one."""
    while True:
        for kin in receiver.process.family():
            if "-m receiver pipeline 0" in kin.command:
                kin.signal(signal.SIGKILL)
        await asyncio.sleep(0.2)


async def two(scene: Scene) -> None:
    """The name of Redis leads one of two receivers to another server than the other."""
    with EmbeddedRedis(scene.folder / "r") as server, EmbeddedRedis(scene.folder / "wrong") as wrong:
        name = scene.folder / "name"
        _name(name, server)
        async with (
            scene.receiver("one", redis=at(server.url)),
            scene.receiver("two", redis=at(f"unix://{name}")),
        ):
            await scene.calm()
            await _lead(name, wrong, away_from=server)
            await scene.alarm()
            await _lead(name, server, away_from=wrong)
            await scene.over()


async def _lead(name: Path, server: EmbeddedRedis, *, away_from: EmbeddedRedis) -> None:
    """Let the name lead to another server for whoever connects from now on, and have all connect anew."""
    _name(name, server)
    redis = connect(away_from.url, 5.0)
    await redis.client_kill_filter(_type="normal")
    await redis.aclose()


def _name(name: Path, server: EmbeddedRedis) -> None:
    name.unlink(missing_ok=True)
    name.symlink_to(server.url.removeprefix("unix://"))


async def late(scene: Scene) -> None:
    """The pipeline is held up all the time, and commits each callback more than a minute after it came."""
    async with scene.receiver() as receiver:
        pipeline = await _working(receiver)
        await scene.calm()
        async with meanwhile(_holding_up(scene, receiver, pipeline)):
            await scene.alarm()
        pipeline.signal(signal.SIGCONT)
        async with meanwhile(posting(scene, receiver)):
            await scene.over()


async def _holding_up(scene: Scene, receiver: Service, pipeline: Kin) -> None:
    number = 0
    while True:
        pipeline.signal(signal.SIGSTOP)
        assert (await receiver.post("telnyx", telnyx(f"{number}"))).status_code == 200
        await asyncio.sleep(scene.pace.seconds(_LATE_SECONDS))
        pipeline.signal(signal.SIGCONT)
        await receiver.settled()
        number += 1


async def hanging(scene: Scene) -> None:
    """The pipeline hangs while it holds the lease, and no other one is there; callbacks come in."""
    async with scene.receiver() as receiver, meanwhile(posting(scene, receiver)):
        pipeline = await _working(receiver)
        await scene.calm()
        pipeline.signal(signal.SIGSTOP)
        await scene.alarm()
        pipeline.signal(signal.SIGCONT)
        await scene.over()


async def killer(scene: Scene) -> None:
    """A callback kills each pipeline that reads it, among others that do not."""
    command = (sys.executable, "-m", "tests.chaos.deadly")
    environment = {"PYTHONPATH": str(Path.cwd())}
    deadly = telnyx("deadly").replace(b"ferry", MARK)
    async with (
        scene.receiver(command=command, environment=environment) as receiver,
        meanwhile(posting(scene, receiver)),
    ):
        await scene.calm()
        assert (await receiver.post("telnyx", deadly)).status_code == 200
        await scene.alarm()
        await scene.over()


async def _working(receiver: Service) -> Kin:
    """The pipeline, once it has committed something."""
    assert (await receiver.post("telnyx", telnyx("first"))).status_code == 200
    await receiver.settled()
    return receiver.process.member("-m receiver pipeline")


PUBLISHING: Faults = {
    "nobody": Fault(
        nobody,
        frozenset({'PartylineNobodyPublishes{partition="0"}', 'PartylineNobodyPublishes{partition="1"}'}),
    ),
    "two": Fault(two, frozenset({'PartylineTwoPublish{partition="0"}'})),
    "late": Fault(late, frozenset({'PartylineLagging{partition="0"}'})),
    "killer": Fault(
        killer,
        frozenset({'PartylineDeadLetters{account="unknown",provider="unknown",reason="process_died"}'}),
        hurried=frozenset(
            {'PartylineNobodyPublishes{partition="0"}', 'PartylineLagging{partition="0"}', "PartylineStalled{}"}
        ),
    ),
    "hanging": Fault(hanging, frozenset({"PartylineStalled{}"})),
}
