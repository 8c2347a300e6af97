"""Redis frozen, refused, out of disk; the spool out of disk."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from receiver.embedded import EmbeddedRedis
from tests.chaos.disk import small_disk
from tests.chaos.scenario import Size, Told
from tests.chaos.world import PATIENCE_SECONDS, Traffic, World
from tests.processes import until

_FULL_SECONDS = 10.0
_ROOM = 1024
#: 16 MiB of it are what a spool leaves free.
_SPOOL_DISK = 20
_DIED = "the embedded Redis died"


async def redis_frozen(world: World, size: Size) -> Told:
    """Redis takes connections and commands and answers nothing, for a while."""

    async def fault(server: EmbeddedRedis) -> None:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        await asyncio.sleep(size.seconds)
        os.kill(server.pid, signal.SIGCONT)

    return await _away(world, size, f"Redis frozen for {size.seconds:.0f} s", fault)


async def redis_refused(world: World, size: Size) -> Told:
    """Nobody listens where Redis was, for a while."""

    async def fault(server: EmbeddedRedis) -> None:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.sleep(size.seconds)
        server.start_again_if_dead()

    return await _away(world, size, f"Redis refused for {size.seconds:.0f} s", fault)


async def _away(world: World, size: Size, did: str, fault: Callable[[EmbeddedRedis], Awaitable[None]]) -> Told:
    """An outage under load: all callbacks are answered 200 and published in order."""
    server = world.stack.enter_context(EmbeddedRedis(world.folder / "r"))
    program = await world.serve({"url": server.url})
    async with world.sending(program) as traffic:
        await traffic.calm(size.calm_seconds)
        before = await traffic.tell()
        await fault(server)
        meanwhile = await traffic.tell()
        await program.is_settled()
        await traffic.calm(size.calm_seconds)
        found = await world.outcome(server.url, program)
        spooled = (await program.metrics()).get("partyline_spooled_total", 0.0)
    rate = (meanwhile["200"] - before["200"]) / (meanwhile["at"] - before["at"])
    told = Told.of(f"{did}, {rate:.0f}/s answered meanwhile, {spooled:,.0f} spooled", traffic, found)
    told.must(spooled > 0, "nothing went to the spool")
    told.must_refuse_nothing()
    return told


async def redis_disk_full(world: World, size: Size) -> Told:
    """The disk of the embedded Redis runs full: it exits, and again whenever it is started, until there is room."""
    with small_disk(world.folder / "disk", mebibytes=16) as disk:
        data = disk.folder / "r"
        url = f"unix://{data}/redis.sock"
        program = await world.serve({"url": "embedded", "data_dir": str(data)})
        async with world.sending(program) as traffic:
            await traffic.calm(min(2.0, size.calm_seconds))
            disk.fill()
            process = program.process
            await until(lambda: _DIED in process.log, "Redis dies of its full disk", PATIENCE_SECONDS)
            await asyncio.sleep(min(_FULL_SECONDS, size.seconds))
            disk.enlarge(_ROOM)
            await program.is_settled()
            await traffic.calm(size.calm_seconds)
            found = await world.outcome(url, program)
            spooled = (await program.metrics()).get("partyline_spooled_total", 0.0)
        told = Told.of(f"the disk of Redis full, then with room; {spooled:,.0f} spooled", traffic, found)
        told.must(spooled > 0, "nothing went to the spool")
        told.must_refuse_nothing()
        program.process.end()
    return told


async def spool_disk_full(world: World, size: Size) -> Told:
    """Redis is away, and the disk of the spool runs full: 503 then, and nothing that was answered 200 is lost."""
    server = world.stack.enter_context(EmbeddedRedis(world.folder / "r"))
    with small_disk(world.folder / "disk", mebibytes=_SPOOL_DISK) as disk:
        program = await world.serve({"url": server.url}, spool={"dir": str(disk.folder / "spool")})
        async with world.sending(program) as traffic:
            await traffic.calm(size.calm_seconds)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await _until_refused(traffic)
            await asyncio.sleep(min(_FULL_SECONDS, size.seconds))
            ready = (await program.metrics())["partyline_spool_usable"]
            server.start_again_if_dead()
            await program.is_settled()
            await traffic.calm(size.calm_seconds)
            found = await world.outcome(server.url, program)
        told = Told.of("Redis refused and the disk of the spool full", traffic, found)
        told.must(set(told.ledger.statuses) == {200, 503}, f"answered {dict(told.ledger.statuses)}")
        told.must(ready == 0, "partyline_spool_usable was not 0 meanwhile")
        program.process.end()
    return told


async def _until_refused(traffic: Traffic) -> None:
    """Wait for the first 503."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await traffic.tell()).get("503"):  # noqa: ASYNC110 - the sender is asked
            await asyncio.sleep(0.1)
