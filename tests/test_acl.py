"""The users that `deploy/users.acl` gives to Redis: each can do what it needs, and nothing more."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError

from correlator.redis_client import connect
from correlator.subscribe import Published, Retry, Subscription, hints
from schemas.events import EVENT_TYPES
from schemas.keyspace import Keyspace
from tests.farm import Server, standalone
from tests.processes import kill, partyline, service
from tests.traffic import BOB, CAT, telnyx

ROOT = Path(__file__).parents[1]
USERS = (ROOT / "deploy/users.acl").read_text(encoding="utf-8")
COMMANDS = {line.split()[1]: {word[1:] for word in line.split() if word.startswith("+")} for line in USERS.splitlines()}
#: What redis-py tells a server of itself; it goes on without that.
IDLE_TALK = {"client|setinfo"}
SECONDS = 20


def _password(user: str) -> str:
    found = re.search(rf"^user {user} .*>(\S+)", USERS, re.MULTILINE)
    assert found
    return found[1]


def url_of(server: Server, user: str) -> str:
    """How that user reaches the server."""
    return f"redis://{user}:{_password(user)}@127.0.0.1:{server.port}"


@pytest.fixture
async def server(folder: Path, namespace: str) -> AsyncIterator[Server]:
    """A server with these users, for the test's namespace, and one that may look into what it refused."""
    users = folder / "users.acl"
    users.write_text(USERS.replace("{default}", f"{{{namespace}}}") + "user admin on >admin ~* &* +@all\n")
    async with standalone(folder, "--aclfile", str(users)) as server:
        yield server


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[Any]:
    """Who may look."""
    client = connect(f"redis://admin:admin@127.0.0.1:{server.port}", 5.0)
    yield client
    await client.aclose()


async def refused(admin: Any) -> set[str]:
    """What the server refused, by command or key."""
    found = set()
    for entry in await admin.acl_log():
        found.add(entry["object"])
    return found - IDLE_TALK - {"client"}


async def used(admin: Any) -> set[str]:
    """The commands that it was asked, lower-case and without their second word, which older servers do not count by."""
    return {name.removeprefix("cmdstat_").partition("|")[0] for name in await admin.info("commandstats")}


@pytest.mark.slow
async def test_the_program_can_do_all_that_it_needs(server: Server, admin: Any, folder: Path, namespace: str) -> None:
    """Serving, subscribing in a group and every command that reads or changes a namespace: nothing is refused."""
    url = url_of(server, "partyline")
    async with service(folder, namespace, redis={"url": url}) as running:
        for name in ("one", "two"):
            assert (await running.post("telnyx", telnyx(name, others=(BOB, CAT)))).status_code == 200
        assert (await running.post("telnyx", b"{}")).status_code == 200
        await running.settled()
        await _subscribe(url, namespace)
        subject = (await running.space.events())[0]["subject"]
        for command in _commands(folder, subject):
            ended = await asyncio.to_thread(partyline, folder, *command)
            assert ended.returncode == 0, (command, ended.stderr)

    assert await refused(admin) == set()
    # Nodes of a cluster are asked who has a slot, with redis.wait_replicas replicas are waited for; the third is below.
    rare = {"cluster", "wait", "hincrby"}
    assert {name.partition("|")[0] for name in COMMANDS["partyline"]} - await used(admin) == rare


@pytest.mark.slow
async def test_the_program_can_go_on_after_a_kill(server: Server, admin: Any, folder: Path, namespace: str) -> None:
    """A pipeline that takes over from a killed one publishes what came before and after: nothing is refused to it."""
    async with service(folder, namespace, redis={"url": url_of(server, "partyline")}) as running:
        assert (await running.post("telnyx", telnyx("one", others=(BOB, CAT)))).status_code == 200
        await running.settled()
        kill([running.process.member("receiver", "pipeline")])
        assert (await running.post("telnyx", telnyx("two", others=(BOB, CAT)))).status_code == 200
        await running.space.expire_lease()
        await running.settled()

    assert await refused(admin) == set()
    assert "hincrby" in await used(admin)


def test_the_program_may_send_each_command_of_its_scripts() -> None:
    """Also those that are rarely run: whatever a script calls is allowed to the user that runs it."""
    scripts = "".join(path.read_text() for path in (ROOT / "correlator/lua").rglob("*.lua"))
    called = {name.lower() for name in re.findall(r"call\(['\"](\w+)['\"]", scripts)}

    assert len(called) > 15
    assert called - COMMANDS["partyline"] == set()


async def _subscribe(url: str, namespace: str) -> None:
    """Listen to hints, and be a group whose handler fails at everything."""
    listening = asyncio.ensure_future(anext(hints(url, namespace=namespace)))
    subscription = Subscription(url, namespace=namespace, group="crm", start="beginning", retry=Retry(2, 0.01, 0.01))

    async def fail(one: Published) -> None:
        if one.sequence == 2:
            subscription.stop()
        raise ValueError

    async with asyncio.timeout(SECONDS):
        await subscription.run(fail)
    listening.cancel()
    await asyncio.wait([listening])


def _commands(folder: Path, subject: str) -> list[list[str]]:
    state = str(folder / "state.jsonl")
    return [
        ["captures", "ls"],
        ["captures", "stats"],
        ["captures", "export", str(folder / "log.jsonl")],
        ["captures", "import", str(folder / "log.jsonl")],
        ["conversations", "show", subject],
        ["conversations", "find", "--address", BOB],
        ["replay", "--yes"],
        ["replay", "--repair", "--yes"],
        ["replay", "--dry-run", "--yes"],
        ["replay", "--into", "another", "--yes"],
        ["dead", "ls"],
        ["dead", "drop", "--all", "--yes"],
        ["quarantine", "ls"],
        ["state", "export", state],
        ["state", "import", state, "--namespace", "third"],
        ["forget", BOB, "--yes"],
    ]


async def test_a_subscriber_reads_events_and_nothing_else(server: Server, namespace: str) -> None:
    """The stream and the channels of events; no other key, no write, no look at the server."""
    writer: Any = connect(url_of(server, "partyline"), 5.0)
    reader: Any = connect(url_of(server, "subscriber"), 5.0)
    keys = Keyspace(namespace)
    await writer.xadd(keys.events, {"event": b"{}"})
    await writer.xadd(keys.captures, {"body": b"secret"})

    assert len(await reader.xread({keys.events: "0"})) == 1
    assert await reader.xlen(keys.events) == 1
    for pattern in (keys.every_channel, *(keys.channel(each, "*") for each in EVENT_TYPES)):
        assert await _subscribed(reader, pattern) == "psubscribe"
    for command in _forbidden(keys):
        with pytest.raises(NoPermissionError):
            await reader.execute_command(*command)
    with pytest.raises(NoPermissionError):
        await _subscribed(reader, "*")
    await reader.aclose()
    await writer.aclose()


async def _subscribed(reader: Any, pattern: str) -> str:
    """What the server says to that."""
    pubsub: Any = reader.pubsub()
    try:
        await pubsub.psubscribe(pattern)
        return str((await pubsub.get_message(timeout=5))["type"])
    finally:
        await pubsub.aclose()


def _forbidden(keys: Keyspace) -> list[tuple[str, ...]]:
    return [
        ("XREAD", "STREAMS", keys.captures, "0"),
        ("XRANGE", keys.dead, "-", "+"),
        ("XRANGE", keys.quarantine, "-", "+"),
        ("GET", keys.conversation("cv_a")),
        ("HGETALL", keys.meta),
        ("XADD", keys.events, "*", "event", "{}"),
        ("XDEL", keys.events, "0-1"),
        ("XTRIM", keys.events, "MAXLEN", "0"),
        ("DEL", keys.events),
        ("SET", keys.events, "x"),
        ("EXPIRE", keys.events, "1"),
        ("PUBLISH", keys.channel("message.received", "cv"), "{}"),
        ("EVAL", "return 1", "0"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("CONFIG", "GET", "*"),
        ("INFO",),
        ("FLUSHALL",),
        ("ACL", "WHOAMI"),
    ]


async def test_nobody_gets_in_without_a_name(server: Server) -> None:
    """The default user is off."""
    async with server.client() as nobody:
        with pytest.raises(AuthenticationError):
            await nobody.get("x")
