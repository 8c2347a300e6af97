"""`partyline replay` as a person runs it: what it says, what it asks, how it is stopped and gone on with."""

import asyncio
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from receiver.replay import Site
from tests.captured import events, fill, site_of, work_off
from tests.processes import PROGRAM, partyline, started, until, write_config

COUNT = 600


@pytest.fixture
async def site(redis: Redis, namespace: str) -> Site:
    """A namespace that has worked off callbacks of all providers."""
    made = site_of(redis, namespace)
    await fill(made, COUNT)
    await work_off(made)
    return made


@pytest.fixture
def folder(tmp_path: Path, namespace: str, redis_url: str) -> Path:
    """A working directory with the namespace's configuration."""
    write_config(tmp_path, namespace, redis={"url": redis_url}, id_key="a secret of the simulation")
    return tmp_path


async def run(folder: Path, *words: str) -> tuple[int, str, str]:
    """One command to its end: status, answer, what it said beside that."""
    done = await asyncio.to_thread(partyline, folder, "replay", *words)
    return done.returncode, done.stdout, done.stderr


async def test_it_says_what_it_did(site: Site, folder: Path) -> None:
    """In place, everything is known: counts first, then what became of them."""
    before = await events(site)
    status, said, beside = await run(folder)

    assert (status, beside) == (0, f"{COUNT} capture(s) are meant.\n")
    assert re.match(
        rf"{COUNT} capture\(s\) read again: 0 event\(s\) published\n\d+ fact\(s\) were published before;", said
    )
    assert await events(site) == before


async def test_it_reads_only_what_is_asked_for(site: Site, folder: Path) -> None:
    """The options of `captures` choose here too, and --limit and --after go with them."""
    assert site.keyspace.namespace
    _, said, _ = await run(folder, "--provider", "sinch", "--limit", "5", "--json")
    told = orjson.loads(said)
    _, after, _ = await run(folder, "--provider", "sinch", "--after", told["position"], "--limit", "5", "--json")

    assert told["captures"] == orjson.loads(after)["captures"] == 5
    assert orjson.loads(after)["position"] > told["position"]


async def test_a_repair_says_what_came_back(site: Site, folder: Path) -> None:
    """What was deleted from the stream is counted by its type."""
    redis: Any = site.redis
    before = await events(site)
    positions = [position for position, _ in await redis.xrange(site.keyspace.events)]
    await redis.xdel(site.keyspace.events, *positions[:50])
    status, said, _ = await run(folder, "--repair", "--json")

    assert status == 0
    assert orjson.loads(said)["published"] == Counter(event["type"] for event in before[:50])


async def test_a_dry_run_finds_nothing_different(site: Site, folder: Path) -> None:
    """By the same rules the log comes to what the stream has."""
    before = await events(site)
    status, said, _ = await run(folder, "--dry-run")

    assert status == 0
    assert said == (
        f"{COUNT} capture(s) looked at; {len(before)} event(s) would be as they are.\nNothing would be different.\n"
    )


async def test_a_dry_run_shows_what_the_stream_lacks(site: Site, folder: Path) -> None:
    """Events that were deleted would be new."""
    redis: Any = site.redis
    lost = await events(site)
    await redis.xtrim(site.keyspace.events, maxlen=0)
    _, said, _ = await run(folder, "--dry-run", "--json")
    told = orjson.loads(said)

    assert told["differing"] == {"new": len(lost)}
    assert told["events"]["new"][0]["id"] == lost[0]["id"]
    assert await redis.xlen(site.keyspace.events) == 0


async def test_a_rebuild_stopped_by_ctrl_c_goes_on(site: Site, folder: Path, namespace: str) -> None:
    """Ctrl-C ends it between two captures and says how to resume: nothing is skipped, and nothing comes twice."""
    command = [PROGRAM, "replay", "--into", f"{namespace}-2", "--rate", "300"]
    target = site_of(site.redis, f"{namespace}-2", keys_of=namespace)
    redis: Any = site.redis
    with started(command, folder, "rebuild", {}) as process:
        reached = 0
        while not reached:
            reached = await redis.xlen(target.keyspace.events)
        process.signal(signal.SIGINT)
        status = await process.status()
        await until(lambda: "To go on" in process.log, "it says how to resume")
    reached = len(await events(target))
    again, _, _ = await run(folder, "--into", f"{namespace}-2")

    assert (status, again) == (0, 0)
    assert 0 < reached < len(await events(site))
    assert [event["id"] for event in await events(target)] == [event["id"] for event in await events(site)]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(["--repair", "--dry-run"], "--repair and --dry-run are different things to do", id="two ways"),
        pytest.param(["--after", "yesterday"], "--after: a position is two numbers", id="no position"),
        pytest.param(["--to", "http://127.0.0.1:1"], "--to: set PARTYLINE_REPLAY_TOKEN", id="no token"),
        pytest.param(["--from", "nothing.jsonl"], "nothing.jsonl", id="no such file"),
        pytest.param(["--into", "Not A Name"], "--into: a namespace is 1 to 32", id="no namespace"),
    ],
)
async def test_a_mistake_is_one_plain_sentence(site: Site, folder: Path, words: list[str], complaint: str) -> None:
    """Nothing is done then."""
    before = await events(site)
    status, said, beside = await run(folder, *words)

    assert status == 1
    assert said == ""
    assert complaint in beside
    assert "Traceback" not in beside
    assert await events(site) == before


async def test_many_are_asked_about(redis: Redis, namespace: str, folder: Path) -> None:
    """Above a thousand it goes on only when told to; where nobody can answer, it says how."""
    made = site_of(redis, namespace)
    await fill(made, 1001)
    await work_off(made)
    refused, _, beside = await run(folder)
    allowed, said, _ = await run(folder, "--yes")

    assert refused == 1
    assert beside.splitlines()[-1].endswith("that is more than 1,000: say --yes")
    assert allowed == 0
    assert said.startswith("1,001 capture(s) read again: 0 event(s) published")


async def test_an_empty_namespace_has_nothing_to_replay(redis: Redis, folder: Path) -> None:
    """That is said, and is no failure."""
    assert await redis.ping()
    status, said, beside = await run(folder)

    assert (status, said) == (0, "")
    assert "No capture is asked for" in beside
