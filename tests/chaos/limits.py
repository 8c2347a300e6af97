"""Streams at their limits in bytes: the oldest go first, and what is not processed stays."""

import asyncio
import signal
import time
from typing import Any

from receiver.captures import QUARANTINE_BYTES
from receiver.embedded import EmbeddedRedis
from tests.chaos.kills import restart
from tests.chaos.scenario import Size, Told
from tests.chaos.world import NAMESPACE, Program, World
from tests.processes import Space, client_of, deliver, space_at
from tests.service import ACCOUNTS, path

#: What `receiver.pipeline` keeps of dead letters.
_DEAD_BYTES = 64 * 1024 * 1024
_CAPTURES_BYTES, _EVENTS_BYTES = 256 * 1024, 1024 * 1024
_FAT = 512 * 1024
_DAY_MILLISECONDS = 86_400_000
#: The pipeline keeps house every ten seconds.
_HOUSE_SECONDS = 11.0
_UNREADABLE = 20


async def limits(world: World, size: Size) -> Told:
    """Captures, events, dead letters and quarantine beyond their bytes; captures while the pipeline is held up, too."""
    server = world.stack.enter_context(EmbeddedRedis(world.folder / "r"))
    accounts = {name: {**account, "on_unauthentic": "quarantine"} for name, account in ACCOUNTS.items()}
    kept = {"captures_max": _CAPTURES_BYTES}
    program = await world.serve({"url": server.url}, accounts=accounts, retention=kept)
    async with world.sending(program) as traffic, space_at(server.url, NAMESPACE) as space:
        letters = await _fill_dead_letters(space)
        await traffic.calm(size.calm_seconds)
        waiting = await _held_up(program, space, min(15.0, size.seconds))
        letters += await _post_unreadable(program, space)
        quarantined = await _fill_quarantine(program, space)
        found = await world.outcome(server.url, program, letters=False)
        published = await _positions(space, space.keys.events)
        program.configure(redis={"url": server.url}, accounts=accounts, retention={**kept, "events_max": _EVENTS_BYTES})
        await restart(program)
        await program.ready()
        await asyncio.sleep(_HOUSE_SECONDS)
        told = Told.of(f"{waiting:,} captures held up, all streams beyond their limits", traffic, found)
        told.must(waiting * 500 > _CAPTURES_BYTES, "too few captures waited to be beyond their limit")
        told.must(await _size(space, space.keys.captures) <= _CAPTURES_BYTES, "captures are beyond their limit")
        await _must_keep_newest(told, space, space.keys.events, published, _EVENTS_BYTES)
        await _must_keep_newest(told, space, space.keys.dead, letters, _DEAD_BYTES)
        await _must_keep_newest(told, space, space.keys.quarantine, quarantined, QUARANTINE_BYTES)
    told.must_refuse_nothing()
    return told


async def _must_keep_newest(told: Told, space: Space, stream: str, all_of_it: list[str], most: int) -> None:
    """Of all that was ever there the newest are left, within the bytes; some are gone."""
    left, size, name = await _positions(space, stream), await _size(space, stream), stream.rpartition(":")[2]
    told.did += f", {len(left):,} of {len(all_of_it):,} {name} left"
    told.must(0 < len(left) < len(all_of_it), f"{len(left)} of {len(all_of_it)} {name} are left")
    told.must(left == all_of_it[-len(left) :], f"not the oldest {name} went first")
    told.must(size <= most, f"{name} hold {size} bytes, {most} are allowed")


async def _size(space: Space, stream: str) -> int:
    """What the entries of a stream hold, as they stand there."""
    return sum(len(value) for _, fields in await space.redis.xrange(stream) for value in fields.values())


async def _positions(space: Space, stream: str) -> list[str]:
    return [position.decode() for position, _ in await space.redis.xrange(stream)]


async def _held_up(program: Program, space: Space, seconds: float) -> int:
    """Hold the pipeline up under load, so that far more waits than is kept; how many captures wait then."""
    before = await space.captures()
    pipeline = await program.child("pipeline")
    pipeline.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    waiting = await space.captures() - before
    pipeline.signal(signal.SIGCONT)
    return waiting


async def _fill_dead_letters(space: Space) -> list[str]:
    """As if many had come yesterday: a few more than are kept."""
    fields: Any = {"capture": "cp_of_old", "reason": "unreadable", "detail": "x" * _FAT}
    size = sum(len(value) for value in fields.values())
    begun = int(time.time() * 1000) - _DAY_MILLISECONDS
    positions = [f"{begun + number}-0" for number in range(_DEAD_BYTES // size + 8)]
    for position in positions:
        await space.redis.xadd(space.keys.dead, fields, id=position)
        await space.redis.incrby(space.keys.bytes_of(space.keys.dead), size)
    return positions


async def _post_unreadable(program: Program, space: Space) -> list[str]:
    """Callbacks that cannot be read; the dead letters that come of them."""
    before = await _positions(space, space.keys.dead)
    async with client_of(program.base) as client:
        for number in range(_UNREADABLE):
            answer = await deliver(client, "telnyx", b"no JSON, number %d" % number)
            assert answer.status_code == 200
    async with asyncio.timeout(60):
        while (await space.redis.xrevrange(space.keys.dead, count=_UNREADABLE))[-1][0].decode() in before:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return [position for position in await _positions(space, space.keys.dead) if position not in before]


async def _fill_quarantine(program: Program, space: Space) -> list[str]:
    """More unauthentic requests than are kept; where they stood, one after the other."""
    positions = []
    async with client_of(program.base) as client:
        for _ in range(QUARANTINE_BYTES // _FAT + 8):
            answer = await client.post(
                path("whatsapp"), content=b"x" * _FAT, headers={"x-hub-signature-256": "sha256=0"}
            )
            assert answer.status_code == 200
            positions.append((await space.redis.xrevrange(space.keys.quarantine, count=1))[0][0].decode())
    return positions
