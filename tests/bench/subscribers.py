"""What a subscriber costs: one consumer with an empty handler, against bare loops of XREAD on the same stream.

Each is a process of its own that reads the whole stream once; what it took on the clock and of the processor is told.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from correlator.redis_client import connect
from correlator.subscribe import Published, Subscription
from receiver.embedded import EmbeddedRedis
from schemas.keyspace import Keyspace
from tests.chatter import chatter, publish

NAMESPACE: Final = "bench"
CONVERSATIONS: Final = 5000
TARGET: Final = 20_000
WAYS: Final = {
    "xread": "bare XREAD, nothing read",
    "json": "bare XREAD, each event through orjson",
    "run": "subscription.run, an empty handler",
    "loop": "async for, an empty body",
}


class Took(NamedTuple):
    """One way over the stream: events a second, on the clock and of the processor."""

    wall: float
    processor: float


# --- the ways: each runs in a process of its own ---


async def bare(url: str, count: int, *, parsed: bool) -> None:
    """What a reader without the library does at least."""
    redis: Any = connect(url, 30.0)
    stream, position, seen = Keyspace(NAMESPACE).events, b"0", 0
    while seen < count:
        for _, entries in await redis.xread({stream: position}, count=500, block=5000):
            for position, fields in entries:  # noqa: B007 - the last one is where to read on
                if parsed:
                    orjson.loads(fields[b"event"])
                seen += 1
    await redis.aclose()


async def subscribed(url: str, count: int, way: str) -> None:
    """A consumer alone in its group."""
    subscription = Subscription(url, namespace=NAMESPACE, group=way, start="beginning", partitions=1)
    seen = 0

    async def handler(_: Published) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            subscription.stop()

    if way == "run":
        await subscription.run(handler)
        return
    async for event in subscription:
        await handler(event)


def measure(way: str, url: str, count: int) -> None:
    """Go one way, and print what it took."""
    wall, processor = time.perf_counter(), time.process_time()
    asyncio.run(bare(url, count, parsed=way == "json") if way in {"xread", "json"} else subscribed(url, count, way))
    print(time.perf_counter() - wall, time.process_time() - processor)


# --- all of them ---


async def fill(url: str, count: int) -> None:
    """The stream that all read."""
    redis = connect(url, 30.0)
    envelopes = list(chatter(CONVERSATIONS, count))
    for at in range(0, count, 1000):
        await publish(redis, Keyspace(NAMESPACE), envelopes[at : at + 1000])
    await redis.aclose()


def went(way: str, url: str, count: int) -> Took:
    """One way in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.subscribers", "--way", way, "--url", url, "--events", str(count)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wall, processor = map(float, said.split())
    return Took(count / wall, count / processor)


def compare(count: int, rounds: int) -> None:
    """Every way in turn, some rounds of them; the median of each, and its ratio to the barest."""
    with tempfile.TemporaryDirectory(prefix="partyline-bench-") as folder, EmbeddedRedis(Path(folder)) as server:
        asyncio.run(fill(server.url, count))
        found: dict[str, list[Took]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, took in found.items():
                forget(server.url, way)
                took.append(went(way, server.url, count))
    table = Table(title=f"{count} events of {CONVERSATIONS} conversations, medians of {rounds}")
    for title in ("way", "events/s", "of bare", "events per s of processor", "of bare"):
        table.add_column(title, justify="left" if title == "way" else "right")
    middle = {way: median(each) for way, each in found.items()}
    floor = middle["xread"]
    for way, one in middle.items():
        walls = f"{one.wall:,.0f}", f"{one.wall / floor.wall:.2f}"
        table.add_row(WAYS[way], *walls, f"{one.processor:,.0f}", f"{one.processor / floor.processor:.2f}")
    console = Console(width=120)
    console.print(table)
    console.print(f"target: {TARGET:,} events a second with an empty handler on one core")


def median(rounds: list[Took]) -> Took:
    """The middle of each measure."""
    return Took(*(sorted(each)[len(rounds) // 2] for each in zip(*rounds, strict=True)))


def forget(url: str, group: str) -> None:
    """Have a group begin anew in the next round."""

    async def remove() -> None:
        redis, keys = connect(url, 5.0), Keyspace(NAMESPACE)
        await redis.delete(keys.subscribers(group), keys.lane_cursors(group))
        await redis.aclose()

    asyncio.run(remove())


def main() -> None:
    """Compare; or, for a process of its own, go one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=sorted(WAYS))
    parser.add_argument("--url", default="")
    told = parser.parse_args()
    if told.way:
        measure(told.way, told.url, told.events)
    else:
        compare(told.events, told.rounds)


if __name__ == "__main__":
    main()
