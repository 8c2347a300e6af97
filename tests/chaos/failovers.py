"""Failovers under load: behind sentinels and in a cluster, with replicas that have acknowledged and without."""

import asyncio
from typing import Any

import msgspec

from schemas.keyspace import Keyspace
from tests.chaos.scenario import Size, Told
from tests.chaos.world import NAMESPACE, World, clock
from tests.farm import cluster, sentinels

#: How long no replica follows before the master dies, where none has to.
_BEHIND_SECONDS = 0.5
#: Until then some sentinels may still name the old master, which begins to serve again when it is started.
_AGREED_SECONDS = 3.0
#: How far an answer may be from the write that it tells of.
_LATE_SECONDS = 0.2


async def sentinel(world: World, size: Size) -> Told:
    """The master behind sentinels is killed; every callback had to be acknowledged by both replicas."""
    return await _failover(world, size, sentinels, "sentinels", replicas=2)


async def sentinel_window(world: World, size: Size) -> Told:
    """The same without acknowledgement: at most what was answered just before is lost."""
    return await _failover(world, size, sentinels, "sentinels", replicas=0)


async def cluster_master(world: World, size: Size) -> Told:
    """The cluster's master of the namespace is killed; its replica had to acknowledge every callback."""
    return await _failover(world, size, cluster, "cluster", replicas=1)


async def cluster_window(world: World, size: Size) -> Told:
    """The same without acknowledgement: at most what was answered just before is lost."""
    return await _failover(world, size, cluster, "cluster", replicas=0)


async def _failover(world: World, size: Size, farming: Any, where: str, replicas: int) -> Told:
    keyspace = Keyspace(NAMESPACE)
    async with farming(world.folder) as farm:
        program = await world.serve({"url": farm.url, "wait_replicas": replicas})
        async with world.sending(program) as traffic:
            await traffic.calm(size.calm_seconds)
            master = await farm.master(keyspace)
            begun_at = clock()
            if not replicas:  # on one machine replicas are hardly ever behind
                await farm.cut_off(master)
                await asyncio.sleep(_BEHIND_SECONDS)
            killed_at = clock()
            master.kill()
            taken_over = await farm.master(keyspace)
            seconds = clock() - killed_at
            await asyncio.sleep(_AGREED_SECONDS)
            master.start_again()
            await farm.in_step()
            await program.is_settled()
            await traffic.calm(size.calm_seconds)
            found = await world.outcome(farm.url, program)
        told = Told.of(
            f"master killed ({where}, wait_replicas = {replicas}), replaced after {seconds:.1f} s", traffic, found
        )
        if not replicas:
            _allow_window(told, begun_at, killed_at)
        told.must(taken_over.port != master.port, "no other server took over")
        told.must_refuse_nothing()
        program.process.end()
    return told


def _allow_window(told: Told, begun_at: float, killed_at: float) -> None:
    """What was answered while replicas were behind may be lost, or come later with its redelivery; nothing else."""
    within = {
        entry.told.event_id
        for entry in told.ledger.answered
        if begun_at - _LATE_SECONDS < (entry.answered_at or 0.0) < killed_at + _LATE_SECONDS
    }
    found = told.verdict
    lost = [entry for entry in found.missing if entry.told.event_id in within]
    told.did += f", {len(lost)} lost of {len(within)} that replicas had not followed"
    told.must(lost, "nothing was lost though no replica followed: was the master killed at all?")
    told.excuse(
        msgspec.structs.replace(
            found,
            missing=[entry for entry in found.missing if entry.told.event_id not in within],
            out_of_order=[event_id for event_id in found.out_of_order if event_id not in within],
        )
    )
