"""Callbacks that cannot be read, and callbacks that kill the pipeline which reads them."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

from receiver.doubt import DEATHS
from receiver.embedded import EmbeddedRedis
from tests.chaos.facts import DEADLY
from tests.chaos.scenario import Size, Told
from tests.chaos.world import NAMESPACE, World, letters
from tests.processes import space_at

_SHARE = 0.01
_KILLERS = 2
#: The supervisor starts it again after five seconds at most; the lease of the dead one has six.
_DEATH_SECONDS = 20.0
_DIED = '"child":"pipeline","exit_code":-9'


async def poison(world: World, size: Size) -> Told:
    """One callback in a hundred cannot be read, in one of several ways."""
    server = world.stack.enter_context(EmbeddedRedis(world.folder / "r"))
    program = await world.serve({"url": server.url})
    async with world.sending(program, spoilt=_SHARE) as traffic:
        await traffic.calm(min(20.0, size.seconds))
        found = await world.outcome(server.url, program)
        async with space_at(server.url, NAMESPACE) as space:
            reasons = Counter(letter.reason for letter in await letters(space))
    told = Told.of(f"one in a hundred unreadable: dead letters {dict(reasons)}", traffic, found)
    told.must(reasons.total(), "there was no dead letter")
    told.must_refuse_nothing()
    return told


async def killers(world: World, size: Size) -> Told:
    """A capture kills each pipeline that parses it, among others under load; then a second one, next to a third."""
    server = world.stack.enter_context(EmbeddedRedis(world.folder / "r"))
    program = await world.serve(
        {"url": server.url},
        command=(sys.executable, "-m", "tests.chaos.deadly"),
        environment={"PYTHONPATH": str(Path.cwd())},
    )
    process, posted = program.process, 0
    async with world.sending(program) as traffic, space_at(server.url, NAMESPACE) as space:
        await traffic.calm(size.calm_seconds)
        for together in range(1, _KILLERS + 1):
            await traffic.tell(post=[DEADLY] * together)
            posted += together
            async with asyncio.timeout(posted * (DEATHS + 1) * _DEATH_SECONDS):
                while len(await letters(space)) < posted:  # noqa: ASYNC110 - the dead letters tell
                    await asyncio.sleep(0.5)
        await traffic.calm(size.calm_seconds)
        found = await world.outcome(server.url, program)
    died = process.log.count(_DIED)
    told = Told.of(f"{posted} captures that kill the pipeline, which died {died} times", traffic, found)
    told.must(posted * DEATHS <= died <= posted * (DEATHS + 1), f"it died {died} times of {posted} captures")
    told.must_refuse_nothing()
    return told
