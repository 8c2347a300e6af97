"""The whole program as real processes: what it keeps, in which order, and how it starts, fails and stops."""

import asyncio
import contextlib
import os
import re
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from redis.asyncio import Redis

from correlator.gathering import Entry
from correlator.lease import Lease
from correlator.store import Store
from receiver.captures import LogEntry
from receiver.embedded import EmbeddedRedis
from receiver.parsing import read
from receiver.providers import PROVIDERS
from receiver.supervisor import Child
from schemas.callback import AccountFacts, Callback
from schemas.errors import LeaseLost
from schemas.ids import CaptureId
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS, encode_capture, encode_facts
from tests.bench.load import Result, request, run
from tests.processes import (
    PROGRAM,
    Kin,
    Monitor,
    Process,
    Service,
    Space,
    child,
    client_of,
    descendants,
    embedded,
    gone,
    kill,
    monitored,
    partyline,
    ready,
    service,
    space_at,
    started,
    until,
    write_config,
)
from tests.service import LINE, head, listening, path, proof, read_answer
from tests.traffic import (
    ANN,
    BOB,
    CAT,
    DAN,
    facts,
    keep_sending,
    report,
    sequences,
    telnyx,
    without_gap_or_repeat,
)

# --- 1. what was answered 200 ---


@pytest.mark.slow
async def test_what_was_answered_200_survives_kill_9_of_everything(folder: Path) -> None:
    """After kill -9 of all processes, Redis included, each callback that was answered 200 is in the stream once."""
    answered: list[str] = []
    redis = embedded(folder / "r")
    for life in range(4):
        async with service(folder, "crash", f"life-{life}", redis=redis) as running:
            await running.space.expire_lease()
            family = running.process.family()
            assert sum("-m receiver pipeline" in kin.command for kin in family) == 1
            if life % 2:
                await _kill_under_load(running, family, f"load-{life}", answered)
            else:
                await _kill_after_one(running, family, f"single-{life}", answered)
            await gone(family)

    async with service(folder, "crash", "last-life", redis=redis) as running:
        await running.space.expire_lease()
        await running.settled()
        events = await running.space.events()

    found = facts(events)

    assert {name: found[name] for name in answered} == dict.fromkeys(answered, 1)
    assert set(found.values()) == {1}
    assert without_gap_or_repeat(events)


async def _kill_after_one(running: Service, family: list[Kin], name: str, answered: list[str]) -> None:
    response = await running.post("telnyx", telnyx(name, others=(BOB, CAT)))
    kill(reversed(family))

    assert response.status_code == 200
    answered.append(name)


async def _kill_under_load(running: Service, family: list[Kin], tag: str, answered: list[str]) -> None:
    before, refused = len(answered), list[httpx.Response]()
    senders = [asyncio.create_task(keep_sending(running, f"{tag}-{one}", answered, refused)) for one in range(64)]
    await until(lambda: len(answered) >= before + 150, "150 callbacks are answered under load")
    kill(reversed(family))
    await asyncio.gather(*senders)

    assert {response.status_code for response in refused} <= {503}


# --- 2. one fact, one event ---


@pytest.mark.slow
async def test_ten_copies_at_once_over_two_workers_are_one_event(folder: Path, redis_url: str, namespace: str) -> None:
    """Ten copies at once over two worker processes are one event, also when each names another attempt."""
    redis = {"url": redis_url}
    async with service(folder, namespace, redis=redis, server={"port": 0, "workers": 2}) as running:
        workers = [kin for kin in running.process.family() if "-m receiver http" in kin.command]
        assert len(workers) == 2

        same = telnyx("copied")
        await _post_over_both(running, workers, [same] * 10)
        await _post_over_both(running, workers, [telnyx("redelivered", attempt=number) for number in range(1, 11)])
        await _post_over_both(running, workers, [report(f"report-{who}", who) for who in (ANN, BOB, CAT)] * 2)
        await running.settled()
        events, captures = await running.space.events(), await running.space.captures()

    assert captures == 26
    assert facts(events) == Counter(
        {"copied": 1, "redelivered": 1, f"report-{ANN}": 1, f"report-{BOB}": 1, f"report-{CAT}": 1}
    )
    assert {event["data"]["message"]["id"] for event in events if event["type"] == "message.status"} == {
        "message-to-all"
    }
    assert without_gap_or_repeat(events)


async def _post_over_both(running: Service, workers: list[Kin], bodies: list[bytes]) -> None:
    """Post bodies at once, every other one to each worker, and have them all answered 200."""
    async with contextlib.AsyncExitStack() as stack:
        sides = []
        for other in workers:
            other.signal(signal.SIGSTOP)  # so that these connections are certainly the first one's
            sides.append([await _open(running, stack) for _ in range(-(-len(bodies) // 2))])
            other.signal(signal.SIGCONT)
        connections = [sides[index % 2][index // 2] for index in range(len(bodies))]
        for (_, writer), body in zip(connections, bodies, strict=True):
            headers = proof("telnyx", body, now=datetime.now(UTC))
            writer.write(head("POST", path("telnyx"), headers, b"content-length: %d" % len(body)) + body)
        answers = [await read_answer(reader) for reader, _ in connections]

    assert [answer.status for answer in answers] == [200] * len(bodies)


async def _open(
    running: Service, stack: contextlib.AsyncExitStack
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that a worker has taken already, as its answer shows."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    stack.callback(writer.close)
    writer.write(head("GET", "/healthz", []))

    assert (await read_answer(reader)).status == 200
    return reader, writer


# --- 3. one pipeline commits ---


@pytest.mark.slow
async def test_a_resumed_zombie_pipeline_writes_nothing(folder: Path, redis_url: str, namespace: str) -> None:
    """Under 64 senders and pipelines that are frozen past their lease, each subject counts on without gap or repeat."""
    config = write_config(folder, namespace, redis={"url": redis_url})
    listener = listening()
    listener.listen(1024)
    with (
        contextlib.closing(listener),
        child("http", folder, "http", config, [listener.fileno()]) as http,
        child("pipeline", folder, "pipeline-a", config) as first,
        child("pipeline", folder, "pipeline-b", config) as second,
    ):
        port = listener.getsockname()[1]
        async with client_of(f"http://127.0.0.1:{port}") as client, space_at(redis_url, namespace) as space:
            await ready(client, http)
            for number in range(3):
                await _zombie_round(space, port, (first, second), number)
            events = await space.events()

    assert facts(events) == Counter({f"fact-{number}-{one}": 1 for number in range(3) for one in range(512)})
    assert sorted(map(len, sequences(events).values())) == [384] * 4
    assert without_gap_or_repeat(events)


async def _zombie_round(space: Space, port: int, pipelines: tuple[Process, Process], number: int) -> None:
    """Freeze the pipeline at work in the middle of a load, let the other take over, and wake the first up again."""
    frozen = await _holder(pipelines)
    other = pipelines[1 - pipelines.index(frozen)]
    taken, lost = other.log.count("lease taken"), frozen.log.count("lease lost")
    url = f"unix://{space.redis.connection_pool.connection_kwargs['path']}"
    async with monitored(url) as monitor:
        load = asyncio.create_task(run(port, _group_callbacks(number), 64))
        await until(lambda: len(monitor.lines) > 300, "the load is under way")
        frozen.signal(signal.SIGSTOP)
        token = (await space.redis.get(space.keys.lease) or b"").decode()
        await space.expire_lease()
        await until(lambda: other.log.count("lease taken") > taken, "the other pipeline takes over")
        frozen.signal(signal.SIGCONT)
        result: Result = await load
        await until(lambda: frozen.log.count("lease lost") > lost, "the zombie notices that its lease is lost")
        await space.worked_off()

    assert result.statuses == Counter({b"200": 512})
    assert _done_by_zombie(monitor, space.keys.lease, token) == []


async def _holder(pipelines: tuple[Process, Process]) -> Process:
    """The pipeline that took the lease more often than it lost it."""

    def holding() -> list[Process]:
        return [one for one in pipelines if one.log.count("lease taken") > one.log.count("lease lost")]

    await until(lambda: len(holding()) == 1, "one pipeline holds the lease")
    return holding()[0]


def _group_callbacks(number: int) -> list[bytes]:
    """512 messages in turn in four groups."""
    groups = ((BOB,), (BOB, CAT), (CAT,), (BOB, CAT, DAN))
    bodies = [telnyx(f"fact-{number}-{one}", others=groups[one % 4]) for one in range(512)]
    now = datetime.now(UTC)
    return [request(path("telnyx"), proof("telnyx", body, now=now), body) for body in bodies]


def _done_by_zombie(monitor: Monitor, lease: str, token: str) -> list[str]:
    """What scripts called with a token did, other than look at the lease, after the lease was deleted."""
    deleted = next(index for index, line in enumerate(monitor.lines) if f'"DEL" "{lease}"' in line)
    del monitor.lines[:deleted]
    tried = [commands for call, commands in monitor.by_script() if f'"{token}"' in call]

    assert token
    assert tried, "the zombie tried nothing, so this shows nothing"
    return [command for commands in tried for command in commands if not command.startswith(f'"GET" "{lease}"')]


async def test_a_stale_token_or_cursor_changes_no_key_at_all(redis: Redis, keyspace: Keyspace) -> None:
    """A commit under a lease that is another's, or from a cursor that has moved on, is refused whole."""
    store = Store(redis, keyspace, b"a key for tests only", 86400)
    ours, theirs = Lease(redis, keyspace, 30), Lease(redis, keyspace, 30)
    assert await ours.take()
    await store.commit(ours.token, "", [_entry("1-0", "first")])
    stale, following = ours.token, [_entry("2-0", "second"), _entry("3-0", "third", b"no JSON")]
    await redis.delete(keyspace.lease)
    assert await theirs.take()
    before = await _dump(redis, keyspace)

    for token, after in ((stale, "1-0"), ("", "1-0"), (theirs.token, ""), (theirs.token, "2-0")):
        with pytest.raises(LeaseLost):
            await store.commit(token, after, following)

        assert await _dump(redis, keyspace) == before

    await redis.delete(keyspace.lease)
    without_lease = await _dump(redis, keyspace)
    with pytest.raises(LeaseLost):
        await store.commit(theirs.token, "1-0", following)

    assert await _dump(redis, keyspace) == without_lease


def _entry(position: str, name: str, body: bytes | None = None) -> Entry:
    """What a pipeline reads from a capture of a Telnyx message."""
    callback = Callback(
        provider="telnyx",
        account="main-telnyx",
        received_at=datetime.now(UTC),
        assurance="signed",
        credential="public_keys[0]",
        headers=(),
        body=telnyx(name) if body is None else body,
        facts=AccountFacts(),
    )
    fields = encode_capture(CaptureId(f"cp_{name}"), callback, encode_facts(callback.facts))
    return read(LogEntry(position, dict(zip(CAPTURE_FIELDS, fields, strict=True))), PROVIDERS)


async def _dump(redis: Redis, keyspace: Keyspace) -> dict[bytes, tuple[bytes, bool]]:
    """Every key of a namespace, with its value as Redis writes it to disk, and whether it expires."""
    client: Any = redis
    keys = await client.keys(f"{keyspace.prefix}*")
    return {key: (await client.dump(key), await client.pttl(key) > 0) for key in keys}


# --- 4. and 5. what dies under it ---


async def test_an_embedded_redis_that_dies_is_started_again(folder: Path, namespace: str) -> None:
    """Nobody needs to get up at night: callbacks are taken again soon, and what was answered 200 is still there."""
    async with service(folder, namespace, redis=embedded(folder / "r")) as running:
        assert (await running.client.get("/readyz")).status_code == 200
        (server,) = [kin for kin in descendants(running.process.pid) if "redis-server" in kin.command]
        before = await running.post("telnyx", telnyx("before"))
        server.signal(signal.SIGKILL)
        await gone([server])
        await ready(running.client, running.process)
        after = await running.post("telnyx", telnyx("after"))
        await running.settled()
        found = facts(await running.space.events())

    assert (before.status_code, after.status_code) == (200, 200)
    assert found == {"before": 1, "after": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["send", "--telnyx-key", "none"], "✗ --telnyx-key: none cannot be read: No such file or directory\n"),
        (
            ["send", "--telnyx-key", "partyline.toml"],
            "✗ --telnyx-key: partyline.toml is not the base64 of a 32-byte private key\n",
        ),
        (["serve"], "✗ redis.data_dir: partyline.toml cannot be written to: File exists\n"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_told_in_one_line(
    folder: Path, namespace: str, arguments: list[str], said: str
) -> None:
    """Exit status 78, the name of the file and what is wrong with it; no traceback."""
    write_config(folder, namespace, redis={"data_dir": "partyline.toml"})
    ended = partyline(folder, *arguments)

    assert (ended.returncode, ended.stderr.splitlines()[-1] + "\n") == (78, said)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("redis", "said"),
    [
        ({"url": "redis+sentinel://redis.example"}, "redis.url: lacks the sentinels' name for the master"),
        ({"partitions": 0}, "redis.partitions: is out of range; give a whole number of 1 or more"),
    ],
)
def test_check_refuses_what_serve_would_refuse(folder: Path, namespace: str, redis: dict[str, Any], said: str) -> None:
    """What the contract has and this version does not is told before it goes live."""
    write_config(folder, namespace, redis=redis)
    ended = partyline(folder, "check")

    assert (ended.returncode, ended.stdout) == (78, "")
    assert said in ended.stderr


@pytest.mark.slow
async def test_a_killed_child_is_started_again(folder: Path, redis_url: str, namespace: str) -> None:
    """A worker and a pipeline that are killed come back, and the service goes on; a killed supervisor takes all."""
    async with service(folder, namespace, redis={"url": redis_url}) as running:
        for kind in ("http", "pipeline"):
            await running.process.says(f'"child":"{kind}"')
            victim = running.process.member("-m receiver", kind)
            victim.signal(signal.SIGKILL)
            await gone([victim])
            await running.space.expire_lease()

            assert (await running.post("telnyx", telnyx(f"after-{kind}"))).status_code == 200
            await running.settled()
            assert running.process.member("-m receiver", kind).pid != victim.pid

        events = await running.space.events()
        family = running.process.family()
        family[0].signal(signal.SIGKILL)
        await gone(family)

    assert facts(events) == Counter({"after-http": 1, "after-pipeline": 1})
    assert without_gap_or_repeat(events)


async def test_a_child_that_is_stopped_while_it_starts_ends_too(folder: Path, redis_url: str, namespace: str) -> None:
    """A stop that comes while a child is being started ends it, and does not wait for it for ever."""
    config = write_config(folder, namespace, redis={"url": redis_url})
    environment = {**os.environ, "PARTYLINE_CONFIG": str(config), "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    with (folder / "child.log").open("wb") as log:
        starting = Child("pipeline", [0], [], environment, log)
        running = asyncio.create_task(starting.keep_running())
        await asyncio.sleep(0)  # it forks, and waits for the event loop to know the process
        family = [kin for kin in descendants(os.getpid()) if "-m receiver pipeline" in kin.command]
        await starting.stop()
        try:
            await asyncio.wait_for(asyncio.shield(running), 5)
        finally:
            kill(family)
            await running


# --- 6. an orderly stop ---


@pytest.mark.slow
async def test_sigterm_finishes_what_is_under_way_and_leaves_nothing(folder: Path) -> None:
    """On SIGTERM a request under way is answered, the lease is given up, Redis ends last, and the status is 0."""
    body = telnyx("under-way")
    headers = proof("telnyx", body, now=datetime.now(UTC))
    async with service(folder, "stop", redis=embedded(folder / "r")) as running:
        assert (await running.post("telnyx", telnyx("before"))).status_code == 200
        family = running.process.family()
        assert any("redis-server" in kin.command for kin in family)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(head("POST", path("telnyx"), headers, b"content-length: %d" % len(body)) + body[:100])
        await asyncio.sleep(0.3)
        running.process.signal(signal.SIGTERM)
        await running.process.says("stopping")
        await asyncio.sleep(0.3)
        writer.write(body[100:])
        answer = await read_answer(reader)
        writer.close()
        status = await running.process.status()
        await gone(family, 1)
        log, left = running.process.log, _names(folder)

    assert answer.status == 200
    assert status == 0
    assert left == [".partyline", "partyline.toml", "r", "service.log", "service.out"]
    assert "Traceback" not in log
    with EmbeddedRedis(folder / "r") as server:
        async with space_at(server.url, "stop") as space:
            assert await space.captures() == 2
            assert await space.redis.exists(space.keys.lease) == 0


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# --- 7. the command line ---

#: How an event looks to a person: time, provider, type, key, conversation, who, what.
EVENT_LINE = re.compile(
    r"^(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)  (?P<provider>telnyx|sendblue|sinch|whatsapp) +"
    r"(?P<type>[a-z.]+) +(?P<key>cv_[a-z2-7]{26})  (?P<kind>direct|group/\d) +(?P<rest>\S.*)$",
    re.MULTILINE,
)
#: Who and what, in the order of each provider's sample conversation.
SAID = {
    "telnyx": [
        ("message.received", "+15555550111  “Lunch on Friday?”"),
        ("message.received", "+15555550122  “Friday works, noon?”"),
        ("message.status", "+15555550111  delivered"),
        ("message.status", "+15555550122  unknown"),
    ],
    "sendblue": [
        ("conversation.settings", "its name is “Climbing”"),  # Sendblue tells a group's name in passing only
        ("message.received", "+15555550111  “Who has the long rope?”"),
        ("message.received", "+15555550133  “I do, bringing it on Saturday”"),
        ("message.reaction", "+15555550111  reacted ❤️ “I do, bringing it on Saturday”"),
        ("message.status", "everybody     delivered"),
    ],
    "sinch": [
        ("message.status", "+15555550111  delivered"),
        ("message.status", "+15555550122  failed (27)"),
        ("message.received", "+15555550111  “Thanks, got it”"),
    ],
    "whatsapp": [
        ("conversation.members", "+15555550122 joined; now 1 person (invite link)"),
        ("message.received", "+15555550111  “Welcome, Ben! 👋”"),
        ("message.received", "+15555550122  “Hi all”"),
        ("message.status", "+15555550111  read"),
        ("message.status", "+15555550122  read"),
    ],
}
#: How many conversations each provider's sample has: its group, or at Sinch the two people.
CONVERSATIONS = {"telnyx": 1, "sendblue": 1, "sinch": 2, "whatsapp": 1}
EVENTS = sum(map(len, SAID.values()))


@pytest.fixture
async def trying(folder: Path) -> AsyncIterator[Process]:
    """`partyline try` in an empty folder, once it has shown its samples and said what to type next."""
    with started([PROGRAM, "try", "--port", "0"], folder, "try") as process:
        await process.says("Ctrl-C stops everything")
        yield process


@pytest.mark.slow
async def test_try_shows_a_conversation_of_each_provider_and_stops_cleanly(folder: Path, trying: Process) -> None:
    """Every sample event is one readable line while it runs; Ctrl-C ends all of it, and a second start is the same."""
    shown = trying.output
    port = re.search(r"It stays up on http://127\.0\.0\.1:(\d+)", shown)
    lines = [found.groupdict() for found in EVENT_LINE.finditer(shown)]
    kept = {file.name: (file.stat().st_mode & 0o777, file.read_bytes()) for file in _credentials(folder)}
    family = trying.family()
    trying.signal(signal.SIGINT)
    status = await trying.status()
    await gone(family, 1)

    assert port
    assert _who_and_what(lines) == SAID
    assert {provider: len(keys) for provider, keys in _keys(lines).items()} == CONVERSATIONS
    assert status == 0
    assert trying.log == ""
    assert trying.output.rstrip().endswith("nothing is left running.")
    assert {name: mode for name, (mode, _) in kept.items()} == {"tryout.toml": 0o600, "telnyx-signing-key": 0o600}
    assert (folder / ".partyline").stat().st_mode & 0o777 == 0o700
    for command in ("tail", "send", "check"):
        assert f"partyline {command} --config .partyline/tryout.toml" in shown

    with started([PROGRAM, "try", "--port", "0"], folder, "again") as again:
        await again.says("Ctrl-C stops everything")

        assert _who_and_what([found.groupdict() for found in EVENT_LINE.finditer(again.output)]) == SAID
        assert {file.name: file.read_bytes() for file in _credentials(folder)} == {
            name: data for name, (_, data) in kept.items()
        }


def _credentials(folder: Path) -> list[Path]:
    return [folder / ".partyline" / name for name in ("tryout.toml", "telnyx-signing-key")]


def _who_and_what(lines: list[dict[str, str]]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for line in lines:
        found[line["provider"]].append((line["type"], line["rest"]))
    return found


def _keys(lines: list[dict[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        found[line["provider"]].add(line["key"])
    return found


@pytest.mark.slow
async def test_the_other_commands_work_on_a_running_try_out(folder: Path, trying: Process) -> None:
    """Beside a running try-out: a second one is refused, tail --json follows what send posts, check explains."""
    config = ".partyline/tryout.toml"
    address = (await trying.says(r"It stays up on (http://\S+)\. "))[1]
    second = partyline(folder, "try", "--port", "0")
    with started([PROGRAM, "tail", "--json", "--config", config], folder, "tail") as tail:
        async with space_at(f"unix://{folder}/.partyline/redis.sock", "tryout") as space:
            await _subscribed(space)
            sent = partyline(folder, "send", "--config", config, "--url", address)
            await until(lambda: tail.output.count("\n") == EVENTS, "tail shows every event")
            stream = [fields[b"event"].decode() for _, fields in await space.redis.xrange(space.keys.events)]
        tail.signal(signal.SIGINT)
        followed, tail_status = tail.output.splitlines(), await tail.status()
    checked = partyline(folder, "check", "--config", config)

    assert second.returncode == 78
    assert f".partyline is in use by another partyline (process {trying.pid})" in second.stderr
    assert (sent.returncode, sent.stderr) == (0, "")
    assert [line.split(": ")[1] for line in sent.stdout.splitlines()] == [
        "4 of 4 captured (4 x 200)",
        "4 of 4 captured (4 x 200)",
        "3 of 3 captured (3 x 200)",
        "2 of 2 captured (2 x 200)",
    ]
    assert tail_status == 0
    assert followed == stream[EVENTS:]
    assert {event["specversion"] for event in map(orjson.loads, followed)} == {"1.0"}
    assert checked.returncode == 0
    assert "no mistakes" in checked.stdout


@pytest.mark.parametrize("form", ["--json", ""])
async def test_tail_ends_quietly_when_its_reader_has_enough(folder: Path, namespace: str, form: str) -> None:
    """`partyline tail | head` is an ordinary thing to type: no traceback, no word about Redis."""
    async with service(folder, namespace, redis=embedded(folder / "r")) as running:
        command = ["/bin/sh", "-c", f"{PROGRAM} tail {form} --config partyline.toml | head -n 1"]
        with started(command, folder, "tail") as tail:
            await _subscribed(running.space)
            for name in "abc":
                await running.post("telnyx", telnyx(name))
                await asyncio.sleep(0.3)
            status = await tail.status()
            shown, complaints = tail.output, tail.log

    assert (status, shown.count("\n"), complaints) == (0, 1, "")


async def _subscribed(space: Space) -> None:
    """Wait until somebody follows events live."""
    for _ in range(500):
        if await space.redis.pubsub_numpat() > 0:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("tail does not subscribe")


def test_check_lists_every_mistake_of_a_configuration(folder: Path) -> None:
    """A broken configuration ends `check` and `serve` with status 78 and one line a mistake, each with its path."""
    (folder / "partyline.toml").write_text(
        'namespace = "No Such Thing"\n'
        '[server]\nport = "eighty"\nwokers = 2\n'
        '[accounts.main-telnyx]\nprovider = "telnyx"\npublic_keys = ["short"]\n'
        '[accounts.bare]\nprovider = "whatsapp"\n'
    )

    for command in ("check", "serve"):
        ended = partyline(folder, command)
        mistakes = ended.stderr.splitlines()

        assert ended.returncode == 78
        assert ended.stdout == ""
        assert sorted(line.split()[1].rstrip(":") for line in mistakes) == [
            "accounts.bare",
            "accounts.main-telnyx.public_keys[0]",
            "namespace",
            "server.port",
            "server.wokers",
        ]


def test_serve_without_a_configuration_says_what_to_do(folder: Path) -> None:
    """Without a configuration, `serve` ends with status 78 and names --config and `partyline try`."""
    ended = partyline(folder, "serve")

    assert ended.returncode == 78
    assert (
        ended.stderr == "✗ partyline.toml: no such file; name one with --config, or run `partyline try` to try it out\n"
    )


# --- 8. and 9. ---


async def test_another_id_key_in_the_same_namespace_is_refused(folder: Path, redis_url: str, namespace: str) -> None:
    """A namespace keeps the id_key that it was made with; a start with another one says to set it back."""
    redis = {"url": redis_url}
    async with service(folder, namespace, "first", redis=redis):
        pass
    config = write_config(folder, namespace, redis=redis, id_key="quite another key")
    ended = partyline(folder, "serve", "--config", str(config))

    assert ended.returncode == 78
    assert "id_key: this namespace was made with another" in ended.stderr
    assert "set it back" in ended.stderr
    assert "quite another key" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
async def test_a_thousand_updates_in_one_request_are_a_thousand_events(
    folder: Path, redis_url: str, namespace: str
) -> None:
    """Each update of one WhatsApp request counts, in order, in commits of at most 32 events."""
    body, expected = _thousand()
    async with service(folder, namespace, redis={"url": redis_url}) as running, monitored(redis_url) as monitor:
        response = await running.post("whatsapp", body)
        await running.settled()
        events = await running.space.events()

    commits = [
        len([command for command in commands if command.startswith(f'"XADD" "{Keyspace(namespace).events}"')])
        for _, commands in monitor.by_script()
    ]

    assert response.status_code == 200
    assert len({event["id"] for event in events}) == 1000
    assert [(event["type"], event["data"]["message"]["id"]) for event in events] == expected
    assert len(sequences(events)) == 8
    assert without_gap_or_repeat(events)
    assert [size for size in commits if size] == [32] * 31 + [8]


def _thousand() -> tuple[bytes, list[tuple[str, str]]]:
    """A request with 5 entries of 4 changes with 30 messages and 20 reports each, and what it says in order."""
    numbers, expected = count(), list[tuple[str, str]]()
    entries = []
    for _ in range(5):
        changes = []
        for _ in range(4):
            messages = [_whatsapp_message(next(numbers)) for _ in range(30)]
            statuses = [_whatsapp_status(next(numbers)) for _ in range(20)]
            expected += [("message.received", message["id"]) for message in messages]
            expected += [("message.status", status["id"]) for status in statuses]
            value = {
                "messaging_product": "whatsapp",
                "metadata": {"display_phone_number": LINE.removeprefix("+"), "phone_number_id": "555000000000001"},
                "messages": messages,
                "statuses": statuses,
            }
            changes.append({"field": "messages", "value": value})
        entries.append({"id": "555000000000009", "changes": changes})
    return orjson.dumps({"object": "whatsapp_business_account", "entry": entries}), expected


def _whatsapp_message(number: int) -> dict[str, Any]:
    """A message in one of four groups or, each fifth one, from one of four people alone."""
    grouped = {} if number % 5 == 0 else {"group_id": f"harbour-{number % 4}"}
    return {
        "from": f"1555555012{number % 4}",
        "id": f"wamid.{number}",
        "timestamp": _now_seconds(),
        "type": "text",
        "text": {"body": f"Number {number}"},
        **grouped,
    }


def _whatsapp_status(number: int) -> dict[str, Any]:
    """One member's report on a message of ours to one of four groups."""
    return {
        "id": f"wamid.{number}",
        "status": "delivered",
        "timestamp": _now_seconds(),
        "recipient_type": "group",
        "recipient_id": f"harbour-{number % 4}",
        "recipient_participant_id": f"1555555012{number % 4}",
    }


def _now_seconds() -> str:
    return str(int(datetime.now(UTC).timestamp()))
