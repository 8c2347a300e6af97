"""What archives and replays cost: captures of all providers exported, imported on an empty Redis, rebuilt and replayed.

Every step is the command itself, in a process of its own, whose processor time and largest memory are told. What is
rebuilt is held against the original: the same events in the same order, and the same records. The rebuild is done in
turn with the barest loop over the same captures, some rounds of them, as the machine's speed changes by the minute.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table

from correlator.redis_client import connect
from receiver.embedded import EmbeddedRedis
from tests.captured import events, fill, kept, settings_of, site_of, work_off

NAMESPACE, REBUILT = "original", "rebuilt"
_Result = TypeVar("_Result")

SPEED_TARGET, MEMORY_TARGET = 5000, 150


class Step(NamedTuple):
    """What one command took: seconds on the clock and of the processor, MiB at most; and what it said."""

    words: str
    wall: float
    processor: float
    memory: float
    out: str


def config(folder: Path, url: str) -> Path:
    """A configuration like that of `tests.captured`."""
    file = folder / "partyline.toml"
    secret = settings_of(NAMESPACE).id_key.decode()
    file.write_text(
        f'namespace = "{NAMESPACE}"\nid_key = "{secret}"\n[redis]\nurl = "{url}"\n'
        '[accounts.main]\nprovider = "sinch"\nsecrets = ["a secret of ours"]\n',
        encoding="utf-8",
    )
    return file


def step(config: Path, *words: str) -> Step:
    """Run one command of ours to its end; RuntimeError with what it said if it fails."""
    shown = " ".join(word for word in words if "/" not in word and not word.startswith("--yes"))
    return ran(shown, str(Path(sys.executable).with_name("partyline")), *words, "--config", str(config))


def bare(url: str) -> Step:
    """The barest loop over the same captures."""
    return ran("a bare loop", sys.executable, "-m", "tests.bench.bare_replay", url, NAMESPACE)


def ran(shown: str, *command: str) -> Step:
    """Run a program to its end; RuntimeError with what it said if it fails."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{shown}: {err.read().decode()}")
        took = time.monotonic() - began
        return Step(shown, took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, out.read().decode())


def apart(work: Callable[..., Coroutine[Any, Any, _Result]], *given: Any) -> _Result:
    """Do it in a process of its own: a child's largest memory counts from what its parent had."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(finished, work, *given).result()


def finished(work: Callable[..., Coroutine[Any, Any, _Result]], *given: Any) -> _Result:
    """What it comes to."""
    return asyncio.run(work(*given))


async def delete_some(url: str) -> int:
    """Delete a tenth of the events; how many that was."""
    redis: Any = connect(url, 60.0)
    site = site_of(redis, NAMESPACE)
    positions = [position for position, _ in await redis.xrange(site.keyspace.events)]
    lost: int = await redis.xdel(site.keyspace.events, *positions[::10])
    await redis.aclose()
    return lost


async def make(url: str, count: int) -> None:
    """The original: a log that the pipeline has worked off."""
    redis: Any = connect(url, 60.0)
    await fill(site_of(redis, NAMESPACE), count)
    await work_off(site_of(redis, NAMESPACE))
    await redis.aclose()


async def differences(original: str, copy: str) -> Counter[str]:
    """What is not the same in the rebuilt namespace as in the original, by what it is; and how much was compared.

    Records of users (`us`) hold positions in the log, and those of an imported log are others.
    """
    one, other = (connect(url, 60.0) for url in (original, copy))
    before, after = site_of(one, NAMESPACE), site_of(other, REBUILT, keys_of=NAMESPACE)
    found = Counter[str]()
    told, told_again = await events(before), await events(after)
    found["events"] = len(told)
    for event, again in zip(told, told_again, strict=True):
        assert again["data"].pop("replayed") is True
        event["data"].pop("replayed", None)
        found["events that differ"] += event != again
    records, records_again = await kept(before), await kept(after)
    for some in (records, records_again):
        for key in [key for key in some if key.startswith(":us:")]:
            del some[key]
    found["records"] = len(records)
    found["records that differ"] = sum(records[key] != records_again.get(key) for key in records)
    found["records too many"] = len(records_again.keys() - records.keys())
    for redis in (one, other):
        await redis.aclose()
    return found


def middle(rounds: Sequence[Step]) -> Step:
    """The middle of what they took, and the largest memory, which has a limit; under the first one's words."""
    wall, processor = median(one.wall for one in rounds), median(one.processor for one in rounds)
    return Step(rounds[0].words, wall, processor, max(one.memory for one in rounds), "")


def rebuilds(config: Path, url: str, rounds: int) -> list[tuple[Step, Step]]:
    """The barest loop and the rebuild in turn, each rebuild into a namespace of its own; the first is `REBUILT`."""
    names = [REBUILT, *(f"{REBUILT}-{number}" for number in range(2, rounds + 1))]
    return [(bare(url), step(config, "replay", "--into", name, "--yes")) for name in names]


def show(console: Console, steps: Sequence[Step], count: int) -> None:
    """A line for each command."""
    table = Table(title=f"{count:,} captures of all providers")
    for column in ("command", "s", "processor s", "captures/s", "per processor s", "MiB"):
        table.add_column(column, justify="left" if column == "command" else "right")
    for one in steps:
        speeds = (f"{count / seconds:,.0f}" for seconds in (one.wall, one.processor))
        table.add_row(one.words, f"{one.wall:.1f}", f"{one.processor:.1f}", *speeds, f"{one.memory:.0f}")
    console.print(table)
    console.print(f"targets: {SPEED_TARGET:,} captures a second on one core, under {MEMORY_TARGET} MiB")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captures", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3, help="of rebuild and bare loop in turn")
    arguments = parser.parse_args()
    console = Console(width=110)
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="partyline-replaying-"))) for _ in "12"]
        servers = [stack.enter_context(EmbeddedRedis(folder / "redis")) for folder in folders]
        original, copy = (config(folder, server.url) for folder, server in zip(folders, servers, strict=True))
        apart(make, servers[0].url, arguments.captures)
        archive = str(folders[0] / "archive.jsonl.zst")
        steps = [
            step(original, "captures", "export", archive),
            step(copy, "captures", "import", archive),
        ]
        rounds = rebuilds(copy, servers[1].url, arguments.rounds)
        steps += [middle(some) for some in zip(*rounds, strict=True)]
        console.print(dict(apart(differences, servers[0].url, servers[1].url)))
        steps.append(step(original, "replay", "--yes", "--json"))
        console.print("replayed in place:", json.loads(steps[-1].out))
        lost = apart(delete_some, servers[0].url)
        steps.append(step(original, "replay", "--repair", "--yes", "--json"))
        console.print(f"{lost} events deleted, repaired:", json.loads(steps[-1].out))
        steps.append(step(original, "replay", "--dry-run", "--yes", "--json"))
        show(console, steps, arguments.captures)
        ratios = sorted(loop.processor / rebuild.processor for loop, rebuild in rounds)
        told = " ".join(f"{ratio:.3f}" for ratio in ratios)
        console.print(f"a rebuild's speed as a share of the bare loop's, by processor time, round by round: {told}")


if __name__ == "__main__":
    main()
