"""Processes killed at random, Redis killed, a pipeline frozen past its lease."""

import asyncio
import signal
from collections import Counter

from correlator.lease import LEASE_SECONDS
from receiver.embedded import EmbeddedRedis
from tests.chaos.scenario import Size, Told
from tests.chaos.world import NAMESPACE, Program, World, clock
from tests.processes import Kin, gone, space_at

_PAUSE_SECONDS = (0.3, 1.5)
_KINDS = ("http", "pipeline", "receiver")


async def kills(world: World, size: Size) -> Told:
    """Kill -9 a worker, the pipeline or the whole receiver, at random and under load."""
    server = world.stack.enter_context(EmbeddedRedis(world.folder / "r"))
    program = await world.serve({"url": server.url})
    killed: Counter[str] = Counter()
    async with world.sending(program) as traffic:
        await traffic.calm(size.calm_seconds)
        until = clock() + 3 * size.seconds
        while killed.total() < size.kills and clock() < until:
            killed[await _kill_one(world, program)] += 1
            await asyncio.sleep(world.random.uniform(*_PAUSE_SECONDS))
        await program.ready()
        await traffic.calm(size.calm_seconds)
        found = await world.outcome(server.url, program)
    told = Told.of(f"{killed.total()} times kill -9 ({_counted(killed)})", traffic, found)
    told.must(killed.total() == size.kills, f"only {killed.total()} of {size.kills} kills in {3 * size.seconds:.0f} s")
    return told


async def _kill_one(world: World, program: Program) -> str:
    """What is killed, as soon as there is one of it."""
    kind = world.random.choice(_KINDS)
    if kind == "receiver":
        await restart(program)
        return kind
    (await program.child(kind)).signal(signal.SIGKILL)
    return kind


async def restart(program: Program) -> None:
    """Kill the program and start it again at once, as a service manager does."""
    family = program.process.family()
    family[0].signal(signal.SIGKILL)
    await gone(family[:1])
    program.start()


def _counted(killed: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(killed.items()))


async def redis_kills(world: World, size: Size) -> Told:
    """Kill -9 the embedded Redis under load; the service starts it again from what it had on disk."""
    data = world.folder / "r"
    url = f"unix://{data}/redis.sock"
    program = await world.serve({"url": "embedded", "data_dir": str(data)})
    killed = 0
    async with world.sending(program) as traffic:
        await traffic.calm(size.calm_seconds)
        until = clock() + 3 * size.seconds
        before: Kin | None = None
        while killed < size.redis_kills and clock() < until:
            before = await _other_redis(program, before)
            await asyncio.sleep(world.random.uniform(*_PAUSE_SECONDS))
            before.signal(signal.SIGKILL)
            killed += 1
        await _other_redis(program, before)
        await traffic.calm(size.calm_seconds)
        found = await world.outcome(url, program)
    told = Told.of(f"{killed} times kill -9 of Redis, started again", traffic, found)
    told.must(killed == size.redis_kills, f"only {killed} of {size.redis_kills} kills in {3 * size.seconds:.0f} s")
    told.must_refuse_nothing()
    return told


async def _other_redis(program: Program, before: Kin | None) -> Kin:
    """The Redis server that runs by now, once it is not the one before."""
    while True:
        for kin in program.process.family():
            if "redis-server" in kin.command and kin != before and "fork" not in kin.command:
                return kin
        await asyncio.sleep(0.02)


async def frozen_pipeline(world: World, size: Size) -> Told:
    """Freeze the working pipeline past its lease, while a second service is there to take it; then wake it up."""
    server = world.stack.enter_context(EmbeddedRedis(world.folder / "r"))
    program = await world.serve({"url": server.url})
    other = await world.serve({"url": server.url}, "two", server={"workers": 1})
    pipelines = [await each.child("pipeline") for each in (program, other)]
    taken_over = frozen = 0
    async with world.sending(program) as traffic, space_at(server.url, NAMESPACE) as space:
        await traffic.calm(size.calm_seconds)
        until = clock() + size.seconds
        while clock() < until and frozen < 3:
            holder = await space.redis.get(space.keys.lease)
            for kin in pipelines:
                kin.signal(signal.SIGSTOP)
                await asyncio.sleep(LEASE_SECONDS + 1.5)
                kin.signal(signal.SIGCONT)
                await asyncio.sleep(0.5)
            frozen += 1
            taken_over += await space.redis.get(space.keys.lease) != holder
        await traffic.calm(size.calm_seconds)
        found = await world.outcome(server.url, program)
    told = Told.of(f"{2 * frozen} times a pipeline frozen past its lease, resumed", traffic, found)
    told.must(taken_over == frozen > 0, f"only in {taken_over} of {frozen} rounds did the lease change hands")
    told.must_refuse_nothing()
    return told
