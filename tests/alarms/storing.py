"""Faults of storing: Redis that is away, a spool that takes nothing, replicas that are missing."""

import asyncio
import os
import shutil
import signal

from receiver.embedded import EmbeddedRedis
from tests.alarms.receiving import large, posting
from tests.alarms.scene import Fault, Faults, Pace, Scene, again_and_again, at, meanwhile
from tests.farm import followed
from tests.processes import frozen

#: Of a callback's text while the spool fills up.
_LARGE = 20_000
_LITTLE_ROOM = 64 * 1024


async def both_away(scene: Scene) -> None:
    """Redis is killed, and the spool fills up to `spool.max`."""
    with EmbeddedRedis(scene.folder / "r") as server:
        async with scene.receiver(redis=at(server.url), spool={"dir": "spool", "max": _LITTLE_ROOM}) as receiver:

            async def post(number: int) -> None:
                await receiver.post("telnyx", large(f"{number}", 2048))

            await scene.calm()
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            async with meanwhile(again_and_again(post, scene.pace.post_seconds)):
                await scene.alarm()
            server.start_again_if_dead()
            await scene.over()


async def redis_frozen(scene: Scene) -> None:
    """Redis takes connections and answers nothing, while callbacks come in."""
    with EmbeddedRedis(scene.folder / "r") as server:
        room = _full_within_the_hour(scene.pace)
        async with scene.receiver(redis=at(server.url), spool={"dir": "spool", "max": room}) as receiver:
            await scene.calm()
            # Not until it is full: other faults may take their time, and that would be one more.
            most = round(0.8 * room / _LARGE)
            with frozen(server):
                async with meanwhile(posting(scene, receiver, _LARGE, most)):
                    await scene.alarm()
            await scene.over()


def _full_within_the_hour(pace: Pace) -> int:
    """What the spool may hold, so that it would be full in less than half an hour, and is not half full for a while."""
    return round(_LARGE / pace.post_seconds * pace.seconds(1440))


async def redis_refused(scene: Scene) -> None:
    """Nobody listens where Redis was; nor does any callback come in."""
    with EmbeddedRedis(scene.folder / "r") as server:
        async with scene.receiver(redis=at(server.url)):
            await scene.calm()
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await scene.alarm()
            server.start_again_if_dead()
            await scene.over()


async def spool_gone(scene: Scene) -> None:
    """The folder of the spool is taken away, as is a disk that is not mounted; there is a file instead."""
    spool = scene.folder / "spool"
    async with scene.receiver(spool={"dir": str(spool)}):
        await scene.calm()
        shutil.move(spool, scene.folder / "aside")
        spool.touch()
        await scene.alarm()
        spool.unlink()
        shutil.move(scene.folder / "aside", spool)
        await scene.over()


async def replica_gone(scene: Scene) -> None:
    """The only replica is killed, where each callback is to have one."""
    async with followed(scene.folder) as (master, replica):
        redis = {**at(master.url), "wait_replicas": 1}
        async with scene.receiver(redis=redis) as receiver:
            await scene.calm()
            replica.kill()
            await asyncio.sleep(0.5)
            async with meanwhile(posting(scene, receiver)):
                await scene.alarm()
            replica.start_again()
            await scene.over()


STORING: Faults = {
    "both-away": Fault(
        both_away,
        frozenset(
            {
                'PartylineNotReady{instance="one"}',
                'PartylineAnswers503{outcome="store_unavailable"}',
                'PartylineRedisAway{instance="one"}',
                'PartylineSpoolUnusable{instance="one"}',
                'PartylineSpoolFilling{instance="one"}',
                'PartylineSpoolOld{instance="one"}',
            }
        ),
    ),
    "redis-frozen": Fault(
        redis_frozen,
        frozenset(
            {
                'PartylineRedisAway{instance="one"}',
                'PartylineSpoolFilling{instance="one"}',
                'PartylineSpoolOld{instance="one"}',
            }
        ),
    ),
    "redis-refused": Fault(redis_refused, frozenset({'PartylineRedisAway{instance="one"}'})),
    "spool-gone": Fault(spool_gone, frozenset({'PartylineSpoolUnusable{instance="one"}'})),
    "replica-gone": Fault(
        replica_gone,
        frozenset({'PartylineReplicasMissing{instance="one",partition="0"}', 'PartylineSpoolOld{instance="one"}'}),
    ),
}
