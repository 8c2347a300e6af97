"""The whole program while Redis is frozen, killed, away or wrong: what is answered, kept, ordered and published."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from receiver.captures import CaptureLog
from receiver.embedded import EmbeddedRedis
from schemas.callback import AccountFacts, Callback
from schemas.ids import CaptureId
from schemas.keyspace import Keyspace
from schemas.wire import encode_capture, encode_facts
from tests.library import BEARER, TOKENS, providing
from tests.processes import (
    PROGRAM,
    Process,
    Service,
    client_of,
    deliver,
    drained,
    frozen,
    gone,
    kill,
    partyline,
    service,
    space_at,
    started,
    until,
    write_config,
)
from tests.service import captures, document, events, path, proof, running_app, work_off
from tests.traffic import BOB, CAT, facts, keep_sending, telnyx, without_gap_or_repeat

NAME = "outage"
DEADLINE = "400ms"


def redis_at(server: EmbeddedRedis | Path) -> dict[str, Any]:
    """The `[redis]` section for a server, or for where one will be."""
    url = server.url if isinstance(server, EmbeddedRedis) else f"unix://{server}/redis.sock"
    return {"url": url, "write_deadline": DEADLINE}


async def components(client: httpx.AsyncClient) -> tuple[int, dict[str, Any]]:
    """What /readyz says."""
    answer = await client.get("/readyz")
    return answer.status_code, answer.json()["components"]


async def measured(client: httpx.AsyncClient) -> dict[str, float]:
    """The metrics of the spool."""
    lines = [line for line in (await client.get("/metrics")).text.splitlines() if line.startswith("partyline_")]
    series = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    return {name: value for name, value in series.items() if "spool" in name or "breaker" in name}


@contextlib.asynccontextmanager
async def sending(running: Service, count: int, answered: list[str]) -> AsyncIterator[None]:
    """Senders that post one fact after the other meanwhile, each answered 200 and in time."""
    refused: list[httpx.Response] = []
    senders = [asyncio.create_task(keep_sending(running, f"{one}", answered, refused)) for one in range(count)]
    try:
        yield
    finally:
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)

    assert [response.text for response in refused] == []


def longest(log: str) -> float:
    """How long the slowest callback took to be answered, in seconds."""
    found = [
        float(line.partition('"milliseconds":')[2].partition(",")[0].rstrip("}"))
        for line in log.splitlines()
        if '"event":"callback"' in line
    ]
    return max(found) / 1000


def in_order(published: list[dict[str, Any]]) -> bool:
    """Whether each sender's facts stand in the stream in the order in which they were answered: it sends in turn."""
    latest: dict[str, int] = {}
    for event in published:
        sender, _, number = event["id"].rpartition(":")[2].partition("-")
        if int(number) <= latest.get(sender, -1):
            return False
        latest[sender] = int(number)
    return bool(latest)


@pytest.mark.slow
async def test_a_frozen_redis_under_traffic_of_two_workers(folder: Path) -> None:
    """All callbacks are answered 200 and far within Telnyx' 2 s; all are published once and in order afterwards."""
    answered: list[str] = []
    with EmbeddedRedis(folder / "r") as server:
        running_service = service(folder, NAME, redis=redis_at(server), server={"port": 0, "workers": 2})
        async with running_service as running:
            async with sending(running, 16, answered):
                await until(lambda: len(answered) >= 100, "100 callbacks are answered")
                for _ in range(2):
                    with frozen(server):
                        await asyncio.sleep(1.0)
                        meanwhile = len(answered) + 100
                        await until(lambda: len(answered) >= meanwhile, "callbacks are answered meanwhile")  # noqa: B023 - waited for at once
                        status, said = await components(running.client)
                    await drained(running.client)  # although the senders go on
                after = len(answered) + 100
                await until(lambda: len(answered) >= after, "callbacks are answered afterwards")
            await running.settled()
            published, metrics = await running.space.events(), await measured(running.client)
            kept, log = await running.space.captures(), running.process.log

    found = facts(published)

    assert {name: found[name] for name in answered} == dict.fromkeys(answered, 1)
    assert set(found.values()) == {1}
    assert kept == len(published)
    assert without_gap_or_repeat(published)
    assert in_order(published)
    assert longest(log) < 1.0
    assert (status, said["redis"]["status"], said["spool"]["status"]) == (200, "unavailable", "ok")
    assert said["spool"]["captures"] >= 100
    assert said["spool"]["bytes"] > 100 * said["spool"]["captures"]
    assert 0 < said["spool"]["oldest_seconds"] < 10
    assert metrics["partyline_spooled_total"] >= 200
    assert metrics["partyline_spooled_total"] == sum(
        value for name, value in metrics.items() if name.startswith("partyline_spool_drained_total")
    )
    assert (metrics["partyline_spool_captures"], metrics["partyline_spool_bytes"]) == (0, 0)
    assert (metrics["partyline_breaker_open"], metrics["partyline_spool_usable"]) == (0, 1)


@pytest.mark.slow
async def test_redis_killed_under_the_running_service_loses_and_refuses_nothing(folder: Path) -> None:
    """While Redis is gone callbacks go to the spool; once it is back all goes on, and no 200 is lost."""
    answered: list[str] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis(folder / "r"))
        async with service(folder, NAME, redis=redis_at(server)) as running:
            async with sending(running, 16, answered):
                await until(lambda: len(answered) >= 100, "100 callbacks are answered")
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                meanwhile = len(answered) + 100
                await until(lambda: len(answered) >= meanwhile, "callbacks are answered while Redis is away")
                assert (await components(running.client))[0] == 200
                stack.close()
                stack.enter_context(EmbeddedRedis(folder / "r"))
                await drained(running.client)
            await running.settled()
            published = await running.space.events()

    found = facts(published)

    assert {name: found[name] for name in answered} == dict.fromkeys(answered, 1)
    assert set(found.values()) == {1}
    assert without_gap_or_repeat(published)
    assert in_order(published)


@asynccontextmanager
async def serving(folder: Path, name: str = "service") -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """`partyline serve` with the configuration in a folder, whether Redis is there or not."""
    with started([PROGRAM, "serve", "--config", str(folder / "partyline.toml")], folder, name) as process:
        base = (await process.says(r"listens on (http://\S+)"))[1]
        process.family()
        async with client_of(base) as client:
            yield process, client


async def post(client: httpx.AsyncClient, name: str) -> httpx.Response:
    """Deliver one message."""
    return await deliver(client, "telnyx", telnyx(name, others=(BOB, CAT)))


async def published_once(folder: Path, names: list[str]) -> bool:
    """Whether exactly these facts are published, each once, in this order."""
    async with space_at(f"unix://{folder}/r/redis.sock", NAME) as space:
        await space.expire_lease()
        async with asyncio.timeout(20):
            while await space.captures() < len(names):  # noqa: ASYNC110 - the log tells it
                await asyncio.sleep(0.05)
        await space.worked_off()
        found = [event["id"].rpartition(":")[2] for event in await space.events()]
    return found == names


@pytest.mark.slow
async def test_a_host_that_starts_while_redis_is_away_takes_callbacks(folder: Path) -> None:
    """It is killed with all that it took, starts again, and publishes everything in order once Redis is there."""
    write_config(folder, NAME, redis=redis_at(folder / "r"))
    async with serving(folder, "first") as (process, client):
        statuses = [(await post(client, f"first-{number}")).status_code for number in range(5)]
        status, said = await components(client)
        family = process.family()
        kill(reversed(family))
        await gone(family)
    async with serving(folder, "second") as (process, client):
        statuses += [(await post(client, f"second-{number}")).status_code for number in range(5)]
        with EmbeddedRedis(folder / "r"):
            names = [f"first-{number}" for number in range(5)] + [f"second-{number}" for number in range(5)]
            once = await published_once(folder, names)
            now_ready, now = await components(client)
            log = process.log

    assert statuses == [200] * 10
    assert (status, said["redis"]["status"]) == (200, "unavailable")
    assert (said["spool"]["status"], said["spool"]["captures"]) == ("ok", 5)
    assert once
    assert (now_ready, now["redis"], now["spool"]["captures"]) == (200, {"status": "ok"}, 0)
    assert "child died" not in log
    assert "Traceback" not in log


@pytest.mark.slow
async def test_a_stop_during_an_outage_keeps_what_was_taken(folder: Path) -> None:
    """SIGTERM ends it with status 0 and soon; the next start drains what waits."""
    with EmbeddedRedis(folder / "r") as server:
        write_config(folder, NAME, redis=redis_at(server))
        async with serving(folder, "first") as (process, client):
            statuses = [(await post(client, "1-0")).status_code]
            with frozen(server):
                under_way = asyncio.create_task(post(client, "1-1"))
                await asyncio.sleep(0.1)
                process.signal(signal.SIGTERM)
                statuses.append((await under_way).status_code)
                ended = await process.status()
        async with serving(folder, "second"):
            once = await published_once(folder, ["1-0", "1-1"])

    assert (statuses, ended) == ([200, 200], 0)
    assert once


@pytest.mark.slow
async def test_a_redis_that_turns_out_to_be_wrong_gets_nothing(folder: Path) -> None:
    """A server that keeps less than redis.durability says is refused when it is reached; /readyz and log say why."""
    write_config(folder, NAME, redis=redis_at(folder / "r"))
    async with serving(folder) as (process, client):
        before = (await post(client, "1-0")).status_code
        with EmbeddedRedis(folder / "r", fsync="everysec") as server:
            await process.says("the server syncs less often")
            async with asyncio.timeout(10):  # the pipeline may say so first
                while "appendfsync" not in (await components(client))[1]["redis"]["detail"]:  # noqa: ASYNC110 - HTTP tells it
                    await asyncio.sleep(0.05)
            after = (await post(client, "1-1")).status_code
            status, said = await components(client)
            async with space_at(server.url, NAME) as space:
                keys = await space.redis.keys("*")
        with EmbeddedRedis(folder / "r"):
            once = await published_once(folder, ["1-0", "1-1"])

    assert (before, after, status) == (200, 200, 200)
    assert "set appendfsync always there" in said["redis"]["detail"]
    assert keys == []
    assert once


@pytest.mark.slow
async def test_a_full_spool_asks_for_callbacks_again(folder: Path) -> None:
    """Beyond spool.max all is 503, answers with Retry-After, and nothing that was answered 200 is lost."""
    write_config(folder, NAME, redis=redis_at(folder / "r"), spool={"max": "8KiB"})
    async with serving(folder) as (_, client):
        answers = [await post(client, f"1-{number}") for number in range(12)]
        status, said = await components(client)
        taken = [number for number, answer in enumerate(answers) if answer.status_code == 200]
        with EmbeddedRedis(folder / "r"):
            once = await published_once(folder, [f"1-{number}" for number in taken])
            again = (await post(client, "1-99")).status_code

    assert 3 < len(taken) < 12
    assert taken == list(range(len(taken)))
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers[len(taken) :]} == {(503, "5")}
    assert (status, said["spool"]["status"]) == (503, "unavailable")
    assert "the spool is full" in said["spool"]["detail"]
    assert once
    assert again == 200


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_spool_that_cannot_be_written_is_refused(folder: Path, namespace: str, command: str) -> None:
    """Not when Redis goes away, when it is too late: exit status 78, and the setting is named."""
    write_config(folder, namespace, redis={"data_dir": "r"}, spool={"dir": "partyline.toml/spool"})
    ended = partyline(folder, command, "--config", "partyline.toml")

    assert ended.returncode == 78
    assert "✗ spool.dir: partyline.toml/spool" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_checking_a_spool_makes_none(folder: Path, namespace: str) -> None:
    """`check` may run as another user than the service, whose folder must not be that user's."""
    write_config(folder, namespace)
    ended = partyline(folder, "check", "--config", "partyline.toml")

    assert ended.returncode == 0
    assert not (folder / ".partyline").exists()


async def test_a_registered_send_is_spooled_as_well(folder: Path) -> None:
    """It is answered with its conversations while Redis hangs, and stands in the log behind what came before it."""
    sections = {"server": {"api_tokens": list(TOKENS)}, "spool": {"dir": str(folder / "s")}}
    send = {"id": "m1", "to": [BOB]}
    with EmbeddedRedis(folder / "r") as server:
        configuration = document(NAME, redis=redis_at(server), **sections)
        async with running_app(configuration, server.url, providers=providing()) as client:
            client.headers.update(BEARER)
            before = await client.post("/v1/outbound/telnyx/main-telnyx", json=send)
            with frozen(server):
                body = telnyx("1-0")
                callback = await client.post(path("telnyx"), content=body, headers=proof("telnyx", body))
                meanwhile = await client.post("/v1/outbound/telnyx/main-telnyx", json=send)
            await drained(client)
        async with space_at(server.url, NAME) as space:
            kinds = [fields[b"kind"] for fields in await captures(space.redis, space.keys)]

    assert [before.status_code, callback.status_code, meanwhile.status_code] == [200, 200, 200]
    assert meanwhile.json()["conversations"] == before.json()["conversations"]
    assert kinds == [b"outbound", b"callback", b"outbound"]


# --- an id that stands twice ---


async def test_a_capture_that_stands_twice_in_the_log_is_published_once(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """A write that timed out may be applied after it was done again: the first counts, its dead letters too."""
    log = CaptureLog(redis, keyspace)
    read, unreadable = _values("read", telnyx("1-0")), _values("unreadable", b"no JSON")
    await log.append([read, unreadable])
    await log.append([unreadable, read])
    await work_off(document(keyspace.namespace), redis_url)

    assert len(await captures(redis, keyspace)) == 4
    assert facts(await events(redis, keyspace)) == Counter({"1-0": 1})
    assert await redis.xlen(keyspace.dead) == 1


def _values(name: str, body: bytes) -> list[bytes]:
    callback = Callback(
        provider="telnyx",
        account="main-telnyx",
        received_at=datetime.now(UTC),
        assurance="signed",
        credential="public_keys[0]",
        headers=(),
        body=body,
        facts=AccountFacts(),
    )
    return encode_capture(CaptureId(f"cp_{name}"), callback, encode_facts(callback.facts))
