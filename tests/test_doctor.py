"""`partyline doctor` on real servers, services and proxies: what it finds, and that it changes nothing."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from redis.asyncio import Redis
from starlette.types import Receive, Scope, Send

from receiver.doctor.asking import ask_rights
from receiver.doctor.looking import file_system, look_at_files, look_at_spool
from receiver.doctor.rights import TRANSACTION, attempts
from receiver.spool import Spool
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS
from tests.command_line import Run, command_line
from tests.farm import cluster, sentinels, standalone
from tests.processes import embedded, partyline, service, write_config
from tests.service import (
    ACCOUNTS,
    SECRETS,
    captures,
    document,
    entries,
    listening,
    path,
    problem,
    proof,
    running_app,
    serving,
    settings_of,
)
from tests.traffic import telnyx

ROOT = Path(__file__).parents[1]
KEY = "kX3vQ9pLw2Zt7Rb5Nc8MkX3v"
TELNYX = {"main-telnyx": ACCOUNTS["main-telnyx"]}
SOUND: dict[str, Any] = {"id_key": KEY, "accounts": TELNYX}

Found = list[dict[str, str]]


def found_by(folder: Path, *words: str) -> tuple[int, Found]:
    """The exit status of the command, and what it found."""
    ended = partyline(folder, "doctor", "--json", *words)
    assert ended.stderr == ""
    return ended.returncode, [orjson.loads(line) for line in ended.stdout.splitlines()]


def troubles(found: Found) -> set[tuple[str, str, str]]:
    """What is worse than a note; where these tests keep their files is not the point."""
    return {
        (each["level"], each["topic"], each["subject"])
        for each in found
        if each["level"] in {"warning", "mistake"} and each["topic"] not in {"spool", "files"}
    }


def said(found: Found, topic: str) -> str:
    """All sentences of one topic."""
    return "\n".join(each["sentence"] for each in found if each["topic"] == topic)


async def dumped(redis: Any, keyspace: Keyspace) -> dict[bytes, bytes]:
    """Every key of the server as Redis serialises it, but for the lease, which the pipeline renews."""
    keys = sorted(await redis.keys("*"))
    return {name: await redis.dump(name) for name in keys if name != keyspace.lease.encode()}


@pytest.mark.slow
async def test_a_sound_service_has_nothing_worse_than_notes(folder: Path, namespace: str) -> None:
    """One that captures and publishes: no warning, and the forecast is of what came in."""
    async with service(folder, namespace, redis=embedded(folder / "data"), **SOUND) as running:
        for number in range(20):
            await running.post("telnyx", telnyx(f"{number}"))
        await running.settled()
        before = await dumped(running.space.redis, running.space.keys)
        status, found = await asyncio.to_thread(found_by, folder)
        after = await dumped(running.space.redis, running.space.keys)

    assert troubles(found) == set()
    assert "A pipeline works and keeps up" in said(found, "pipeline")
    assert re.search(r"captures a day of \d+ B each \(measured over \d+ s only\)", said(found, "forecast"))
    assert "agree with the receivers' clocks" in said(found, "clock")
    assert after == before
    assert status == int(any(each["level"] in {"warning", "mistake"} for each in found))


@pytest.mark.slow
async def test_what_lies_aside_and_who_is_missing_is_told(folder: Path, namespace: str) -> None:
    """A dead letter, a refused request, no pipeline, another id_key: each has its finding, and the status is 1."""
    accounts = {"main-telnyx": {**ACCOUNTS["main-telnyx"], "on_unauthentic": "quarantine"}}
    async with standalone(folder) as server:
        redis = {"url": server.url}
        async with service(folder, namespace, redis=redis, id_key=KEY, accounts=accounts) as running:
            await running.post("telnyx", b"no JSON")
            await running.client.post(path("telnyx"), content=b"{}")
            await running.settled()
        await server.ask("DEL", Keyspace(namespace).lease)  # it would run out by itself
        write_config(folder, namespace, redis=redis, id_key=KEY[::-1], accounts=accounts)
        status, found = await asyncio.to_thread(found_by, folder)

    assert status == 1
    assert troubles(found) == {("mistake", "pipeline", "partition 0"), ("warning", "pipeline", "partition 0")}
    assert "id_key: this namespace was made with another" in said(found, "pipeline")
    assert "1 dead letter(s): authentic, kept and not published (unreadable 1)" in said(found, "pipeline")
    assert "No pipeline works here" in said(found, "pipeline")
    assert "signature_missing 1" in said(found, "pipeline")


@pytest.mark.slow
async def test_a_server_that_keeps_nothing_is_a_mistake(folder: Path, namespace: str) -> None:
    """No append-only file, and it may evict: both are said, for people as well."""
    options = ("--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    async with standalone(folder, *options) as server:
        write_config(folder, namespace, redis={"url": server.url}, **SOUND)
        status, found = await asyncio.to_thread(found_by, folder)
        shown = await asyncio.to_thread(partyline, folder, "doctor")

    assert status == 1
    assert troubles(found) == {("mistake", "redis", "redis.durability")}
    assert "The server keeps no append-only file" in shown.stdout
    assert "→ set maxmemory-policy noeviction there" in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith("2 mistake(s), ")


async def test_a_user_that_may_not_is_told_and_nothing_is_done(folder: Path, namespace: str) -> None:
    """Rights that lack are found out without a key being written, in a transaction that is never executed."""
    async with standalone(folder) as server:
        rules = ("~*", "resetchannels", "+@all", "-xadd", "-exec", "-script")
        await server.ask("ACL", "SETUSER", "few", "on", ">few-Lock-41", *rules)
        await server.ask("ACL", "SETUSER", "none", "on", ">none-Lock-41", "~*", "&*", "+@all", "-multi")
        keyspace = Keyspace(namespace)
        found = []
        for user in ("few", "none"):
            redis = Redis(port=server.port, username=user, password=f"{user}-Lock-41", protocol=2)
            found.append(await ask_rights(redis, keyspace))
            await redis.aclose()
        keys = await server.ask("KEYS", "*")

    assert found == [{"xadd", "exec", "script|load", "publish", "psubscribe"}, {"multi"}]
    assert keys == []


async def test_the_rights_are_those_of_the_users_file() -> None:
    """What is tried is what `deploy/users.acl` allows the program, word for word."""
    users = (ROOT / "deploy/users.acl").read_text(encoding="utf-8")
    [rules] = [line for line in users.splitlines() if line.startswith("user partyline ")]

    assert {*attempts(Keyspace("a")), *TRANSACTION} == {word[1:] for word in rules.split() if word[0] == "+"}


@pytest.mark.slow
async def test_the_programs_own_user_may_be_the_doctors(folder: Path, namespace: str) -> None:
    """With the users of `deploy/users.acl` everything is looked at, and nothing is found to lack."""
    users = (ROOT / "deploy/users.acl").read_text(encoding="utf-8").replace("{default}", f"{{{namespace}}}")
    password = "kX3vQ9pLw2Zt7Rb5Nc8M"
    (folder / "users.acl").write_text(users.replace("REPLACE-THIS-PASSWORD-1", password))
    async with standalone(folder, "--aclfile", str(folder / "users.acl")) as server:
        url = server.url.replace("redis://", f"redis://partyline:{password}@")
        write_config(folder, namespace, redis={"url": url}, **SOUND)
        _, found = await asyncio.to_thread(found_by, folder)

    assert troubles(found) == set()
    assert said(found, "rights") == "The Redis user may do all that partyline needs"
    assert {each["topic"] for each in found} >= {"redis", "forecast", "clock", "pipeline"}


@pytest.mark.slow
async def test_a_user_without_looks_is_told_what_lacks(folder: Path, namespace: str) -> None:
    """Who may not even read is told so, and which rules to add."""
    async with standalone(folder) as server:
        await server.ask("ACL", "SETUSER", "few", "on", ">few-Lock-41-Quay", "~*", "&*", "+@all", "-get", "-info")
        url = server.url.replace("redis://", "redis://few:few-Lock-41-Quay@")
        write_config(folder, namespace, redis={"url": url}, **SOUND)
        status, found = await asyncio.to_thread(found_by, folder)

    assert status == 1
    assert any("+get +info" in each["todo"] for each in found if each["topic"] == "rights")
    assert all("few-Lock-41-Quay" not in value for each in found for value in each.values())


@pytest.mark.slow
@pytest.mark.parametrize("farm", [sentinels, cluster])
async def test_all_partitions_are_looked_at_wherever_they_are(folder: Path, namespace: str, farm: Any) -> None:
    """Behind sentinels all are on one server, in a cluster each on its own; replicas are seen."""
    async with farm(folder) as servers:
        redis = {"url": servers.url, "partitions": 3}
        async with service(folder, namespace, redis=redis, **SOUND):
            _, found = await asyncio.to_thread(found_by, folder)

    assert troubles(found) == set()
    assert [each["subject"] for each in found if each["topic"] == "pipeline"] == [f"partition {n}" for n in range(3)]
    assert said(found, "redis").count("a failover may lose the latest") >= 1


def test_without_a_redis_the_rest_is_told(folder: Path, namespace: str) -> None:
    """The embedded server does not run: that is a finding beside the others."""
    write_config(folder, namespace, redis=embedded(folder / "data"), **SOUND)
    status, found = found_by(folder)

    assert status == 1
    assert troubles(found) == {("mistake", "redis", "redis.url, partition 0")}
    assert "start `partyline serve`" in said(found, "redis")


# --- configuration and files ------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """A command line, run to its end."""
    return command_line(monkeypatch, capfdbinary)


def test_a_configuration_that_cannot_be_used_is_all_there_is_to_say(run: Run, tmp_path: Path) -> None:
    """Every mistake with its key path; the status is 1, as for any other trouble."""
    config = tmp_path / "partyline.toml"
    config.write_text('namespace = "No"\n[server]\nprt = 1\n')
    ended = run("doctor", "--config", str(config), "--json")
    found = [orjson.loads(line) for line in ended.out.splitlines()]

    assert ended.status == 1
    assert {(each["level"], each["subject"]) for each in found} == {("mistake", "namespace"), ("mistake", "server.prt")}
    assert run("doctor", "--config", str(tmp_path / "none.toml")).status == 1


@pytest.mark.parametrize(
    "url", ["hooks.example.com", "ftp://a", "https://a/webhooks/telnyx/x", "https://a?b=1", "https://"]
)
def test_a_url_that_is_none_is_told(run: Run, url: str) -> None:
    """What is wanted is what stands before /webhooks."""
    ended = run("doctor", "--url", url)

    assert (ended.status, "as in https://hooks.example.com" in ended.err) == (1, True)


def test_files_with_secrets_are_found_wherever_they_are_named(tmp_path: Path) -> None:
    """In lists, in the environment, relative to the configuration; the configuration itself if a secret is in it."""
    (tmp_path / "id").write_text("x")
    (tmp_path / "id").chmod(0o640)
    config = tmp_path / "partyline.toml"
    config.write_text('[accounts.a]\nprovider = "sinch"\nsecrets = ["env:X", "file:id"]\nlines = ["+15555550100"]\n')
    only_files = look_at_files(config, {"PARTYLINE_ID_KEY": "file:id", "OTHER": "file:id"})
    config.write_text('id_key = "a literal"\n')
    config.chmod(0o600)
    [literal] = look_at_files(config, {})

    shown = [(each.setting, each.path, each.mode & 0o777) for each in only_files]
    assert shown == [
        ("accounts.a.secrets[1]", str(tmp_path / "id"), 0o640),
        ("PARTYLINE_ID_KEY", str(tmp_path / "id"), 0o640),
    ]
    assert (literal.setting, literal.path, literal.mode & 0o777) == ("the configuration", str(config), 0o600)


def test_a_spool_is_looked_at_and_none_is_made(tmp_path: Path, namespace: str) -> None:
    """What waits, since when, what was set aside; a folder that cannot be; nothing where nothing is."""
    settings = settings_of(document(namespace, spool={"dir": str(tmp_path / "spool")}))
    before, made = look_at_spool(settings), (tmp_path / "spool").exists()
    spool = Spool(settings)
    spool.put([[b"value"] * len(CAPTURE_FIELDS)], time.time() - 90, tried_after=None, needed=True)
    spool.close()
    (tmp_path / "spool" / f"{namespace}.damaged-1.sqlite").touch()
    after = look_at_spool(settings)
    (tmp_path / "file").touch()
    never = look_at_spool(settings_of(document(namespace, spool={"dir": str(tmp_path / "file" / "spool")})))

    assert (before.captures, before.unusable, made) == (0, "", False)
    assert before.free_bytes > 0
    assert (after.captures, after.damaged) == (1, (str(tmp_path / "spool" / f"{namespace}.damaged-1.sqlite"),))
    assert 89 < after.oldest_seconds < 120
    assert after.bytes > 0
    assert "is not a folder that this user may write to" in never.unusable


def test_a_file_system_is_known_by_its_mount() -> None:
    """The longest mount above a folder counts: /proc is one of its own everywhere."""
    assert (file_system(Path("/proc/self")), file_system(Path("/proc"))) == ("proc", "proc")
    assert file_system(Path("/")) not in {"", "proc"}


# --- through a proxy --------------------------------------------------------------------------------------

Change = Callable[[bytes], bytes]


def proxy_to(base: str, change: Change, most: int) -> Any:
    """A proxy that changes bodies, and takes none that are longer than `most`."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > most:
            await _answer(send, 413, b"text/html", b"<html>413</html>")
            return
        headers = [header for header in scope["headers"] if header[0] not in {b"host", b"content-length"}]
        async with httpx.AsyncClient(base_url=base) as client:
            said = await client.request(scope["method"], scope["path"], content=change(body), headers=headers)
        await _answer(send, said.status_code, said.headers["content-type"].encode(), said.content)

    return proxy


async def _answer(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def proxied(base: str, change: Change = lambda body: body, most: int = 2**30) -> AsyncIterator[str]:
    """The URL of such a proxy."""
    bound = listening()
    config = uvicorn.Config(proxy_to(base, change, most), lifespan="off", log_level="error")
    async with serving(config, [bound]):
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def rewritten(body: bytes) -> bytes:
    """JSON, read and written anew."""
    return orjson.dumps(orjson.loads(body)) if body.strip() else body


@pytest.mark.slow
async def test_what_a_proxy_does_to_requests_is_found_out(folder: Path, namespace: str) -> None:
    """Bodies rewritten, a limit of its own, another receiver behind it; an honest one is found honest."""
    sections = {**SOUND, "accounts": ACCOUNTS, "server": {"port": 0, "max_body": "1MiB"}}
    async with service(folder, namespace, redis=embedded(folder / "data"), **sections) as running:
        base = str(running.client.base_url)
        async with proxied(base) as honest, proxied(base, rewritten) as editor, proxied(base, most=1000) as narrow:
            found = [(await asyncio.to_thread(found_by, folder, "--url", url))[1] for url in (honest, editor, narrow)]
        kept = await running.space.captures()

    changed = {("mistake", "url", f"accounts.{name}") for name in ACCOUNTS}
    plain = {each for each in troubles(found[0]) if each[1] == "url"}
    assert kept == 0
    assert {subject for _, _, subject in plain} == {"/metrics", found_url(found[0])}
    assert {each for each in troubles(found[1]) if each[0] == "mistake"} == changed
    assert "arrives changed" in said(found[1], "url")
    assert ("warning", "url", "server.max_body") in troubles(found[2])
    assert "The proxy refuses a body of 1.0 MiB" in said(found[2], "url")


def found_url(found: Found) -> str:
    """The URL that was found to be plain http."""
    [url] = [each["subject"] for each in found if "plain http" in each["sentence"]]
    return url


async def test_a_url_that_nobody_answers_is_a_mistake(folder: Path, namespace: str) -> None:
    """A closed port: each account is unreachable, and why is said."""
    write_config(folder, namespace, redis=embedded(folder / "data"), **SOUND)
    bound = listening()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    bound.close()
    _, found = await asyncio.to_thread(found_by, folder, "--url", url)

    assert ("mistake", "url", "accounts.main-telnyx") in troubles(found)
    assert "No answer: ConnectError" in said(found, "url")


# --- the probe itself -------------------------------------------------------------------------------------

PROBE = {"partyline-probe": "1"}


@pytest.mark.parametrize("policy", ["reject", "defer", "quarantine"])
@pytest.mark.parametrize("provider", sorted(SECRETS))
async def test_a_probe_is_told_what_arrived_and_kept_nowhere(
    redis_url: str, redis: Redis, keyspace: Keyspace, policy: str, provider: str
) -> None:
    """Whatever becomes of other unauthentic requests, with a wrong proof or with none: 401, size and digest."""
    accounts = {name: {**account, "on_unauthentic": policy} for name, account in ACCOUNTS.items()}
    wrong = {name.decode(): value.decode() for name, value in proof(provider, b"abc", SECRETS[provider][2])}
    async with running_app(document(keyspace.namespace, accounts=accounts), redis_url) as client:
        answers = [await client.post(path(provider), content=b"abc", headers={**PROBE, **more}) for more in ({}, wrong)]
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    assert [problem(answer) for answer in answers] == [(401, "probe")] * 2
    assert [answer.json()["detail"] for answer in answers] == [f"3 bytes arrived, SHA-256 {digest}"] * 2
    assert await captures(redis, keyspace) == await entries(redis, keyspace.quarantine) == []


async def test_an_authentic_request_is_a_callback_whatever_it_asks(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """The header of a probe takes nothing from a request that proves itself."""
    body = telnyx("one")
    async with running_app(document(keyspace.namespace), redis_url) as client:
        headers = [*proof("telnyx", body), (b"partyline-probe", b"1")]
        answer = await client.post(path("telnyx"), content=body, headers=headers)

    assert answer.status_code == 200
    assert len(await captures(redis, keyspace)) == 1


async def test_a_long_probe_is_counted_and_not_digested(redis_url: str, keyspace: Keyspace) -> None:
    """Nobody has us work for nothing: beyond 64 KiB only the size is told."""
    async with running_app(document(keyspace.namespace), redis_url) as client:
        answer = await client.post(path("telnyx"), content=b" " * 65_537, headers=PROBE)

    assert answer.json()["detail"] == "65537 bytes arrived"
