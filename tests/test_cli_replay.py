"""`partyline replay` as a person runs it: what it says, what it asks, how it is stopped and gone on with."""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pytest
from redis.asyncio import Redis

from receiver.replay import Site, place
from tests.captured import events, fill, site_of, work_off
from tests.processes import PROGRAM, partyline, started, until, write_config

ROOT = Path(__file__).parent.parent
COUNT = 600
#: The command itself, with next to no memory for a scratch file, and files bounded to 64 KiB as if a disk were full.
ON_A_FULL_DISK = """
import resource
import receiver.scratch
from receiver.cli import main
receiver.scratch._CACHE_KIB = 1
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
main()
"""


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
    assert place(orjson.loads(after)["position"]) > place(told["position"])


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


def deleted(files: list[str]) -> list[bool]:
    """Whether each of these files has no name any more."""
    return [name.endswith(" (deleted)") for name in files]


@pytest.mark.parametrize(
    ("way", "says"),
    [
        pytest.param("--dry-run", "Stopped before all was looked at. Nothing was written.", id="dry run"),
        pytest.param(
            "--repair", r"Stopped after \d+ capture\(s\). To go on: the same command with no change", id="repair"
        ),
    ],
)
async def test_ctrl_c_leaves_no_scratch_file(site: Site, folder: Path, way: str, says: str) -> None:
    """While it works it has one without a name; when it was stopped there is none, and it says how to go on."""
    before, files = await events(site), files_in(folder)
    with started([PROGRAM, "replay", way, "--rate", "100"], folder, "replay", {"TMPDIR": str(folder)}) as process:
        await until(lambda: deleted(scratch_files(process.pid)) == [True], "it has a scratch file without a name")
        held, named = scratch_files(process.pid), files_in(folder)
        process.signal(signal.SIGINT)
        status = await process.status()
        await process.says(says)

    assert status == 0
    assert [name.startswith(str(folder)) for name in held] == [True]
    assert named == files_in(folder) == files
    assert "Traceback" not in process.log
    assert await events(site) == before


async def test_a_repair_stopped_by_ctrl_c_is_run_again(site: Site, folder: Path) -> None:
    """Merges and members of captures that were done before it was stopped come back too, and nothing comes twice."""
    redis: Any = site.redis
    before = await events(site)
    await redis.xtrim(site.keyspace.events, maxlen=0)
    with started([PROGRAM, "replay", "--repair", "--rate", "300"], folder, "replay", {}) as process:
        reached = 0
        while not reached:
            reached = await redis.xlen(site.keyspace.events)
        process.signal(signal.SIGINT)
        await process.says("To go on: the same command with no change")
    reached = await redis.xlen(site.keyspace.events)
    status, _, _ = await run(folder, "--repair")

    assert status == 0
    assert 0 < reached < len(before)
    assert any("#" in event["id"] for event in before)
    assert Counter(event["id"] for event in await events(site)) == Counter(event["id"] for event in before)


def files_in(folder: Path) -> list[Path]:
    """What is in a folder, but for what a process of a test says."""
    return sorted(path for path in folder.iterdir() if path.name not in {"replay.out", "replay.log"})


def scratch_files(pid: int) -> list[str]:
    """The scratch files that a process has open, as the kernel names them."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(link.readlink()))
    return [name for name in found if "partyline-scratch" in name]


@pytest.mark.parametrize("way", ["--dry-run", "--repair"])
async def test_a_full_disk_is_one_plain_sentence(site: Site, folder: Path, way: str) -> None:
    """What is full, where, and what to do; and it is not left fuller than it was."""
    before, files = await events(site), files_in(folder)
    command = [sys.executable, "-c", ON_A_FULL_DISK, "replay", way, "--config", str(folder / "partyline.toml")]
    with started(command, folder, "replay", {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}) as process:
        status = await process.status()

    assert status == 1
    assert process.output == ""
    assert process.log.endswith(
        f"\n✗ the scratch file in {folder} cannot be used: disk I/O error. Make room there, or set TMPDIR to a folder "
        "on a local disk that has room; then run the same command again\n"
    )
    assert "Traceback" not in process.log
    assert files_in(folder) == files
    assert await events(site) == before


async def test_a_dry_run_looks_at_just_what_is_asked_for(site: Site, folder: Path) -> None:
    """In the context of the whole log; of an archive as well, which may come through a pipe."""
    redis: Any = site.redis
    await redis.xtrim(site.keyspace.events, maxlen=0)
    await asyncio.to_thread(partyline, folder, "captures", "export", "all.jsonl")
    words = ("--provider", "sinch", "--limit", "5", "--dry-run", "--json")
    of_log = (await run(folder, *words))[1]
    of_file = (await run(folder, *words, "--from", "all.jsonl"))[1]
    with (folder / "all.jsonl").open("rb") as archive:
        of_pipe = await asyncio.to_thread(piped, folder, archive, *words, "--from", "-")
    told = orjson.loads(of_log)

    assert told["captures"] == 5
    assert told["differing"].keys() == {"new"}
    assert {each["id"].split(":")[0] for each in told["events"]["new"]} == {"sinch"}
    assert of_file == of_pipe == of_log


def piped(folder: Path, given: BinaryIO, *words: str) -> str:
    """What a replay of what comes through a pipe answers."""
    command = [PROGRAM, "replay", *words]
    done = subprocess.run(command, cwd=folder, stdin=given, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


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
