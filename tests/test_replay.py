"""Reading captures again: nothing twice, nothing missing, and a namespace rebuilt as it was."""

import asyncio
import io
import os
import random
import signal
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from correlator import identity
from receiver.captures import CaptureLog
from receiver.namespace import claim_namespace
from receiver.preview import preview
from receiver.rebuilding import rebuild
from receiver.replay import Pace, Site, Tally, repair, replay
from receiver.state import export_state, import_state
from receiver.statefile import check, items
from schemas.errors import PartylineError
from schemas.events import Identity, group_identity
from schemas.ids import ConversationKey, Scope
from tests.captured import events, fill, kept, site_of, work_off

ROOT = Path(__file__).parent.parent
#: A repair that takes its time, for being killed.
REPAIRING = """
import asyncio, sys
from receiver.captures import CaptureLog
from correlator.redis_client import connect
from receiver.replay import Pace, Tally, repair
from tests.captured import site_of

async def main():
    site = site_of(connect(sys.argv[1], 10.0), sys.argv[2])
    await repair(site, CaptureLog(site.redis, site.keyspace).scan(), Pace(rate=1500), Tally())

asyncio.run(main())
"""

#: A rebuild that takes its time, as well.
REBUILDING = """
import asyncio, sys
from receiver.captures import CaptureLog
from correlator.redis_client import connect
from receiver.rebuilding import rebuild
from receiver.replay import Pace, Tally
from tests.captured import site_of

async def main():
    redis, namespace = connect(sys.argv[1], 10.0), sys.argv[2]
    target = site_of(redis, namespace + "-2", keys_of=namespace)
    await rebuild(target, CaptureLog(redis, site_of(redis, namespace).keyspace).scan(), Pace(rate=1500), Tally())

asyncio.run(main())
"""

COUNT = int(os.environ.get("PARTYLINE_REPLAYED", "3000"))


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a log of millions, nearly all that is remembered lies on disk and not in memory."""
    monkeypatch.setattr("receiver.scratch._CACHE_KIB", 16)


@pytest.fixture
async def site(redis: Redis, namespace: str) -> Site:
    """A namespace that has worked off callbacks of all providers."""
    made = site_of(redis, namespace)
    await fill(made, COUNT)
    await work_off(made)
    return made


def log(site: Site) -> Any:
    """Every capture of a namespace."""
    return CaptureLog(site.redis, site.keyspace).scan()


def same(event: dict[str, Any]) -> dict[str, Any]:
    """An event as a rebuild must give it again."""
    return {**event, "data": {**event["data"], "replayed": None}}


async def test_replaying_everything_in_place_publishes_nothing(site: Site) -> None:
    """Every fact is known by its id, and every record is what it was."""
    before, records, tally = await events(site), await kept(site), Tally()
    await replay(site, log(site), Pace(), tally)

    assert tally.captures == COUNT
    assert tally.published == Counter()
    assert tally.duplicates > COUNT / 2
    assert await events(site) == before
    assert await kept(site) == records


async def test_repair_brings_back_just_what_is_missing(site: Site) -> None:
    """A tenth of the stream is deleted, merges among it: that tenth comes back under its ids, and counts on."""
    redis: Any = site.redis
    before = await events(site)
    positions = [position for position, _ in await redis.xrange(site.keyspace.events)]
    lost = set(random.Random(3).sample(range(len(before)), len(before) // 10))
    await redis.xdel(site.keyspace.events, *[positions[at] for at in lost])
    tally = Tally()
    await repair(site, log(site), Pace(), tally)
    after = await events(site)
    back = after[len(before) - len(lost) :]

    assert {event["type"] for at, event in enumerate(before) if at in lost} > {"conversation.merged"}
    assert Counter(event["id"] for event in back) == Counter(before[at]["id"] for at in lost)
    assert tally.published.total() == len(lost)
    assert all(event["data"]["replayed"] for event in back)
    assert len({(event["subject"], event["sequence"]) for event in after}) == len(after)


async def test_a_rebuilt_namespace_equals_the_original(site: Site, namespace: str) -> None:
    """The same events in the same order under the same keys, and the same records."""
    target = site_of(site.redis, f"{namespace}-2", keys_of=namespace)
    await rebuild(target, log(site), Pace(), Tally())

    assert [same(event) for event in await events(target)] == [same(event) for event in await events(site)]
    assert all(event["data"]["replayed"] for event in await events(target))
    assert await kept(target) == await kept(site)


async def test_a_rebuild_that_holds_little_in_memory_comes_to_the_same(
    site: Site, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory is only what lies in the scratch file as well."""
    monkeypatch.setattr("correlator.rebuild._HOT", 20)
    target = site_of(site.redis, f"{namespace}-2", keys_of=namespace)
    await rebuild(target, log(site), Pace(), Tally())

    assert [same(event) for event in await events(target)] == [same(event) for event in await events(site)]
    assert await kept(target) == await kept(site)


async def test_a_rebuild_goes_on_where_it_ended(site: Site, namespace: str) -> None:
    """Cut off after some batches and run again, it comes to the same."""
    target = site_of(site.redis, f"{namespace}-2", keys_of=namespace)
    entries = [entry async for entry in log(site)]

    async def some(count: int) -> Any:
        for entry in entries[:count]:
            yield entry

    await rebuild(target, some(COUNT // 3), Pace(), Tally())
    await rebuild(target, some(COUNT), Pace(), Tally())

    assert [same(event) for event in await events(target)] == [same(event) for event in await events(site)]
    assert await kept(target) == await kept(site)


async def test_a_rebuild_goes_on_inside_its_first_capture(site: Site, namespace: str) -> None:
    """Cut off before the first capture was written to its end, there are records and no cursor: they are read back."""
    redis: Any = site.redis
    target = site_of(site.redis, f"{namespace}-2", keys_of=namespace)
    first, *_ = [entry async for entry in log(site)]

    async def one() -> Any:
        yield first

    await rebuild(target, one(), Pace(), Tally())
    await redis.delete(target.keyspace.cursor)
    tally = Tally()
    await rebuild(target, log(site), Pace(), tally)

    assert tally.duplicates > 0
    assert [same(event) for event in await events(target)] == [same(event) for event in await events(site)]
    assert await kept(target) == await kept(site)


async def test_a_state_and_the_log_after_it_rebuild_a_namespace(redis: Redis, namespace: str) -> None:
    """Where the log no longer reaches back: the state as of some position, and what came later, equal the original."""
    plain: Any = redis
    site, target = site_of(redis, namespace), site_of(redis, f"{namespace}-2", keys_of=namespace)
    await claim_namespace(redis, site.keyspace, site.settings)
    await fill(site, COUNT // 2)
    await work_off(site)
    before, file = len(await events(site)), io.BytesIO()
    await export_state(redis, site.keyspace, file.write, datetime.now(UTC))
    await fill(site, COUNT, after=COUNT // 2)
    await work_off(site)
    await plain.xtrim(site.keyspace.captures, maxlen=COUNT - COUNT // 2, approximate=False)
    lines = file.getvalue().splitlines(keepends=True)
    await import_state(redis, target.keyspace, check(lines), items(lines))
    await rebuild(target, log(site), Pace(), Tally())

    assert before > 0
    assert [same(event) for event in await events(target)] == [same(event) for event in (await events(site))[before:]]
    assert await kept(target) == await kept(site)


async def test_a_rebuild_touches_no_namespace_that_is_somebody_elses(site: Site, namespace: str) -> None:
    """A namespace that exists and was not begun by a rebuild is left alone."""
    redis: Any = site.redis
    await redis.hset(site_of(site.redis, f"{namespace}-2").keyspace.meta, "layout", "2")

    with pytest.raises(PartylineError, match="choose a name that is free"):
        await rebuild(site_of(site.redis, f"{namespace}-2", keys_of=namespace), log(site), Pace(), Tally())


async def test_a_replay_killed_in_the_middle_is_run_again(site: Site, redis_url: str, namespace: str) -> None:
    """Half of the stream is lost; a repair is killed with -9 at work, and run again: nothing twice, nothing missing."""
    redis: Any = site.redis
    before = await events(site)
    positions = [position for position, _ in await redis.xrange(site.keyspace.events)]
    await redis.xdel(site.keyspace.events, *positions[::2])
    left = len(positions[1::2])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", REPAIRING, redis_url, namespace, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    await until_longer(site, left + 100)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    reached = await redis.xlen(site.keyspace.events)
    await redis.delete(site.keyspace.lease)
    await repair(site, log(site), Pace(), Tally())

    assert left < reached < len(before)
    assert Counter(event["id"] for event in await events(site)) == Counter(event["id"] for event in before)


async def test_a_rebuild_killed_again_and_again_comes_to_the_original(
    site: Site, redis_url: str, namespace: str
) -> None:
    """Killed with -9 while one batch is on its way and the next is worked out, and run again each time."""
    redis: Any = site.redis
    target = site_of(redis, f"{namespace}-2", keys_of=namespace)
    for _ in range(3):
        begun = await redis.xlen(target.keyspace.events)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            REBUILDING,
            redis_url,
            namespace,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        await until_longer(target, begun + 300)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await redis.delete(target.keyspace.lease)
    reached = await redis.xlen(target.keyspace.events)
    await rebuild(target, log(site), Pace(), Tally())

    assert 900 <= reached < await redis.xlen(site.keyspace.events)
    assert [same(event) for event in await events(target)] == [same(event) for event in await events(site)]
    assert await kept(target) == await kept(site)


async def until_longer(site: Site, length: int) -> None:
    """Wait until the stream has so many events."""
    redis: Any = site.redis
    async with asyncio.timeout(20):
        reached = 0
        while reached < length:
            reached = await redis.xlen(site.keyspace.events)


async def test_a_preview_of_the_same_rules_shows_nothing_and_writes_nothing(site: Site) -> None:
    """Folding the log anew comes to what the stream has."""
    before, records = await events(site), await kept(site)
    found = await preview(site, log(site), lambda _: True, Pace())

    assert found.captures == COUNT
    assert found.counts == {}
    assert (found.splits, found.merges, found.renamed) == ({}, {}, {})
    assert found.same == len(before)
    assert (await events(site), await kept(site)) == (before, records)


async def test_a_preview_tells_what_differs(site: Site) -> None:
    """The stream has an event that would not come about, one of another type, one with other data, and lacks one."""
    redis: Any = site.redis
    (first, _), *_ = await redis.xrange(site.keyspace.events)
    lost, gone, of_type, of_data = (await events(site))[:4]
    await redis.xdel(site.keyspace.events, first)
    of_data["data"]["line"] = "another"
    for told in ({**gone, "id": "never"}, {**of_type, "type": "message.status"}, of_data):
        await redis.xadd(site.keyspace.events, {"event": orjson.dumps(told)})
    found = await preview(site, log(site), lambda _: True, Pace())
    told_in = {entry.position: entry.fields[b"id"].decode() async for entry in log(site)}
    named = await preview(site, log(site), lambda entry: told_in[entry.position] != gone["data"]["capture"], Pace())

    assert {what: [each.id for each in some] for what, some in found.differences.items()} == {
        "new": [lost["id"]],
        "gone": ["never"],
        "type": [of_type["id"]],
        "data": [of_data["id"]],
    }
    assert "gone" not in named.counts


async def test_a_changed_identity_rule_shows_as_splits_and_merges(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a rule that takes every Sendblue group for one, that is what a preview shows, and nothing is written."""
    before, records = await events(site), await kept(site)
    groups = {event["subject"] for event in before if _is_group(event, "sendblue")}
    true_key = identity.identity_key

    def one_group_for_all(scope: Scope, wanted: Identity) -> ConversationKey:
        all_in_one = scope.provider == "sendblue" and wanted.kind == "group"
        return true_key(scope, group_identity("", "all in one") if all_in_one else wanted)

    for module in ("identity", "ledger", "acquaintance", "groups"):
        monkeypatch.setattr(f"correlator.{module}.identity_key", one_group_for_all)
    found = await preview(site, log(site), lambda _: True, Pace())
    together = {key for of in found.merges.values() for key in of}

    assert len(groups) > 3
    assert together == groups
    assert found.splits == {}
    assert (await events(site), await kept(site)) == (before, records)


def _is_group(event: dict[str, Any], provider: str) -> bool:
    data = event["data"]
    named = data["provider"]["name"] == provider and data["provider"]["ids"].get("group_id")
    return bool(named) and not data["conversation"]["provisional"]
