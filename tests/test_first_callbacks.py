"""The first callbacks of a new group, many at once: one key comes out, whoever commits them."""

import asyncio
import contextlib
import os
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from tests.bench.load import request, run
from tests.processes import Process, Space, child, client_of, ready, space_at, until, write_config
from tests.service import LINE, listening, path, proof

#: Groups, each with its 64 first callbacks: a few in every run, a thousand in `make test-deep`.
GROUPS = int(os.environ.get("PARTYLINE_FIRST_GROUPS", "40"))
AT_ONCE = 64
#: After so many groups the pipeline at work is frozen past its lease, and woken up when the other one works.
ROUND = 20


def callback(group: int, number: int) -> bytes:
    """One of three people writes to the group that only they and our line are in; each lists the others as it likes."""
    people = [f"+1555{group:03d}01{place:02d}" for place in range(3)]
    sender = people.pop(number % 3)
    cc = [*people, LINE] if number % 2 else [{"phone_number": person} for person in reversed(people)]
    payload = {"id": f"message-{group}-{number}", "direction": "inbound", "type": "MMS", "text": str(number)}
    parties = {"from": {"phone_number": sender}, "to": [{"phone_number": LINE}], "cc": cc}
    data = {"event_type": "message.received", "id": f"fact-{group}-{number}", "payload": {**payload, **parties}}
    return orjson.dumps({"data": {**data, "occurred_at": "2026-11-21T12:00:00.000Z"}, "meta": {"attempt": 1}})


def signed(body: bytes) -> bytes:
    """The callback as a request."""
    return request(path("telnyx"), proof("telnyx", body, now=datetime.now(UTC)), body)


@asynccontextmanager
async def receivers(folder: Path, config: Path) -> AsyncIterator[list[int]]:
    """Two processes that answer HTTP; the port of each."""
    with contextlib.ExitStack() as stack:
        ports = []
        for name in ("http-a", "http-b"):
            listener = stack.enter_context(contextlib.closing(listening()))
            listener.listen(1024)
            http = stack.enter_context(child("http", folder, name, config, [listener.fileno()]))
            ports.append(listener.getsockname()[1])
            async with client_of(f"http://127.0.0.1:{ports[-1]}") as client:
                await ready(client, http)
        yield ports


async def first_callbacks(ports: list[int], group: int) -> None:
    """All first callbacks of a group at once, half to each process."""
    requests = [signed(callback(group, number)) for number in range(AT_ONCE)]
    half = AT_ONCE // 2
    results = await asyncio.gather(run(ports[0], requests[:half], half), run(ports[1], requests[half:], half))
    assert [result.statuses for result in results] == [Counter({b"200": half})] * 2


def working(pipelines: tuple[Process, Process]) -> list[Process]:
    """Those that have taken the lease more often than lost it."""
    return [one for one in pipelines if one.log.count("lease taken") > one.log.count("lease lost")]


async def round_with_zombie(ports: list[int], groups: range, space: Space, pipelines: tuple[Process, Process]) -> None:
    """Some groups; in their middle the pipeline at work is frozen, loses its lease, and wakes up as a zombie."""
    await until(lambda: len(working(pipelines)) == 1, "one pipeline holds the lease")
    [frozen] = working(pipelines)
    other = pipelines[1 - pipelines.index(frozen)]
    taken, lost = other.log.count("lease taken"), frozen.log.count("lease lost")
    for group in groups:
        if group == groups[len(groups) // 2]:
            frozen.signal(signal.SIGSTOP)
            await space.expire_lease()
            load = asyncio.create_task(first_callbacks(ports, group))
            await until(lambda: other.log.count("lease taken") > taken, "the other pipeline takes over")
            frozen.signal(signal.SIGCONT)
            await load
        else:
            await first_callbacks(ports, group)
    await until(lambda: frozen.log.count("lease lost") > lost, "the zombie notices that its lease is lost")
    await space.worked_off()


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_64_first_callbacks_at_once_are_one_conversation(folder: Path, redis_url: str, namespace: str) -> None:
    """Over two receiving processes and two commit loops, of which one is a zombie time and again: one key a group."""
    config = write_config(folder, namespace, redis={"url": redis_url})
    subjects: dict[str, set[str]] = defaultdict(set)
    facts: Counter[str] = Counter()
    with (
        child("pipeline", folder, "pipeline-a", config) as first,
        child("pipeline", folder, "pipeline-b", config) as second,
    ):
        async with receivers(folder, config) as ports, space_at(redis_url, namespace) as space:
            for start in range(0, GROUPS, ROUND):
                groups = range(start, min(start + ROUND, GROUPS))
                await round_with_zombie(ports, groups, space, (first, second))
            for event in await space.events():
                fact = event["id"].rpartition(":")[2]
                facts[fact] += 1
                subjects[fact.split("-")[1]].add(event["subject"])

    assert facts == Counter({f"fact-{group}-{one}": 1 for group in range(GROUPS) for one in range(AT_ONCE)})
    assert {group: len(keys) for group, keys in subjects.items()} == {str(group): 1 for group in range(GROUPS)}
    assert len(set().union(*subjects.values())) == GROUPS
