"""The application around the webhook routes: health, metrics, ports, and that nothing it says gives a secret away."""

import asyncio
import gc
import logging
import socket
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NoReturn

import httpx
import orjson
import pytest
import structlog
from redis.asyncio import Redis

from receiver import http_protocol
from receiver.log import configure
from receiver.providers import PROVIDERS
from receiver.schemes import Signed
from schemas.keyspace import Keyspace
from tests.processes import until
from tests.service import (
    ACCOUNTS,
    BASIC,
    GRACE_SECONDS,
    NOW,
    SECRETS,
    SEEDS,
    URL_TOKENS,
    VERIFY_TOKENS,
    Answer,
    basic,
    captures,
    connection,
    document,
    everything,
    exchange,
    head,
    listening,
    path,
    port_of,
    problem,
    proof,
    read_answer,
    running_app,
)

BODY = b'{"id": "ev-1"}'


@pytest.fixture
async def client(redis_url: str, keyspace: Keyspace) -> AsyncIterator[httpx.AsyncClient]:
    """An application with the four accounts."""
    async with running_app(document(keyspace.namespace), redis_url) as running:
        yield running


@pytest.fixture
async def stranded(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An application whose Redis is not there."""
    async with running_app(document("t-nowhere"), f"unix://{tmp_path}/none.sock") as running:
        yield running


# --- health ---


async def test_it_says_that_it_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    """With Redis there, both checks are 200, readiness with its components."""
    alive, ready = await client.get("/healthz"), await client.get("/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert ready.status_code == 200
    full = "spool.max: the spool is full; see why Redis does not answer, or allow it more"
    nothing_in_it = {"captures": 0, "bytes": 0, "oldest_seconds": 0.0, "max_bytes": 1}
    assert ready.json() == {
        "status": "ready",
        "components": {"redis": {"status": "ok"}, "spool": {"status": "unavailable", "detail": full, **nothing_in_it}},
    }


async def test_a_redis_that_takes_no_writes_is_not_ready(client: httpx.AsyncClient, redis: Redis) -> None:
    """Ready means that a callback can be stored: a server that is full answers, and stores nothing."""
    await redis.config_set("maxmemory", "1")
    try:
        full = await client.get("/readyz")
    finally:
        await redis.config_set("maxmemory", "0")
    again = await client.get("/readyz")

    assert (full.status_code, full.json()["components"]["redis"]["status"]) == (503, "unavailable")
    assert again.status_code == 200


async def test_asking_whether_it_is_ready_leaves_nothing_behind(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """The question is a write that changes nothing, asked every few seconds for years."""
    await client.get("/readyz")

    assert await everything(redis, keyspace) == {}


async def test_without_redis_it_is_alive_but_not_ready(stranded: httpx.AsyncClient) -> None:
    """When no callback can be stored, readiness is 503 and names what is missing; we live all the same."""
    alive, ready = await stranded.get("/healthz"), await stranded.get("/readyz")

    assert alive.status_code == 200
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    assert ready.json()["components"]["redis"]["status"] == "unavailable"


# --- what no route answers ---


WRONG: dict[str, tuple[str, str, tuple[int, str]]] = {
    "unknown_path": ("GET", "/nothing", (404, "not_found")),
    "post_to_health": ("POST", "/healthz", (405, "method_not_allowed")),
    "delete_readiness": ("DELETE", "/readyz", (405, "method_not_allowed")),
    "post_to_metrics": ("POST", "/metrics", (405, "method_not_allowed")),
    "slash_behind": ("GET", "/healthz/", (404, "not_found")),
    "v1": ("GET", "/v1/conversations", (404, "not_found")),
}


@pytest.mark.parametrize(("method", "target", "answered"), WRONG.values(), ids=WRONG)
async def test_what_no_route_takes_is_a_problem_too(
    client: httpx.AsyncClient, method: str, target: str, answered: tuple[int, str]
) -> None:
    """The framework's own 404 and 405 have the form of every other error; 405 says what is allowed."""
    answer = await client.request(method, target)

    assert problem(answer) == answered
    assert ("allow" in answer.headers) == (answer.status_code == 405)


async def test_what_is_no_http_is_refused_and_the_next_is_served(client: httpx.AsyncClient) -> None:
    """Garbage on a connection costs that connection only."""
    answer = await exchange(client, b"\x16\x03\x01 hello\r\n\r\n")

    assert (problem(answer), answer.headers["connection"]) == ((400, "malformed_request"), "close")
    assert (await client.get("/healthz")).status_code == 200


async def test_an_endless_head_is_refused(client: httpx.AsyncClient) -> None:
    """Headers are counted while they come: what nobody could prove yet cannot fill the memory."""
    async with connection(client) as (reader, writer):
        writer.write(b"POST /webhooks/telnyx/main-telnyx HTTP/1.1\r\nx-long: ")
        for _ in range(66):
            writer.write(b"a" * 1000)
            await asyncio.sleep(0.001)
        answer = await read_answer(reader)

    assert (problem(answer), answer.headers["connection"]) == ((431, "head_too_large"), "close")


BOMBS = {
    "one_header": b"x-long: " + b"a" * 66_000,
    "many_headers": b"\r\n".join(b"x-%d: 1" % number for number in range(8_000)),
    "one_name_again_and_again": b"\r\n".join([b"x: 1"] * 17_000),
    "signatures": b"\r\n".join([b"telnyx-signature-ed25519: " + b"A" * 88] * 700),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_a_head_that_comes_at_once_has_the_same_limit(client: httpx.AsyncClient, bomb: bytes) -> None:
    """However fast more than 64 KiB of headers come, and whatever follows them, they are no request."""
    request = head("POST", path("telnyx"), proof("telnyx", BODY), bomb, b"content-length: 14") + BODY

    async with connection(client) as (reader, writer):
        writer.write(request * 2)
        answer = await read_answer(reader)

    assert len(request) > 64 * 1024
    assert (problem(answer), answer.headers["connection"]) == ((431, "head_too_large"), "close")


async def test_a_large_head_within_the_limit_is_a_request(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """Thousands of headers are odd and no crime: what is signed is captured with all of them, in no time."""
    many = b"\r\n".join(b"x-%d: 1" % number for number in range(5_000))
    request = head("POST", path("telnyx"), proof("telnyx", BODY), many, b"content-length: 14") + BODY

    async with asyncio.timeout(2):
        answer = await exchange(client, request)

    assert answer.status == 200
    [entry] = await captures(redis, keyspace)
    assert len(orjson.loads(entry[b"headers"])) == 5_004


@pytest.mark.parametrize("sent", [b"", b"POST /webhooks/telnyx/main-telnyx HTTP/1.1\r\nhost: "])
async def test_a_head_that_does_not_come_is_not_waited_for(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """A connection that never gets as far as a request is ended, with an answer where it had begun one."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.1)

    async with connection(client) as (reader, writer), asyncio.timeout(10):
        writer.write(sent)
        answer = await read_answer(reader) if sent else None
        rest = await reader.read()

    assert (answer and problem(answer), rest) == ((408, "head_too_slow") if sent else None, b"")


async def test_heads_are_counted_one_by_one(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection may carry any number of requests, however large their bodies and however long it stays."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.1)
    body = b"x" * 300_000
    request = head("POST", path("telnyx"), [], b"content-length: 300000")

    async with connection(client) as (reader, writer):
        answers = []
        for _ in range(3):
            writer.write(request[:40])
            await asyncio.sleep(0.02)
            writer.write(request[40:] + body)
            answers.append(problem(await read_answer(reader)))
            await asyncio.sleep(0.2)

    assert answers == [(401, "signature_missing")] * 3


ANSWERED_EARLY = {
    "unknown_account": ("/webhooks/telnyx/nobody", 404),
    "no_such_path": ("/nothing", 404),
    "no_such_method": ("/healthz", 405),
}


@pytest.mark.parametrize("framing", [b"content-length: 1000000", b"transfer-encoding: chunked"])
@pytest.mark.parametrize(("target", "status"), ANSWERED_EARLY.values(), ids=ANSWERED_EARLY)
async def test_a_body_that_nobody_reads_keeps_no_connection(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, target: str, status: int, framing: bytes
) -> None:
    """Who is answered before their body has come may send the rest of it, and not drip it for ever."""
    monkeypatch.setattr(http_protocol, "UNREAD_SECONDS", 0.3)

    async with connection(client) as (reader, writer):
        writer.write(head("POST", target, [], framing) + b"ffff\r\n")
        answer = await read_answer(reader)
        reading = asyncio.create_task(reader.read())
        async with asyncio.timeout(10):
            while not reading.done():
                writer.write(b"a")
                await asyncio.sleep(0.05)

    assert (answer.status, reading.exception() or reading.result()) == (status, b"")


async def test_a_body_that_nobody_reads_is_passed_over(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the rest of it has come, the connection is as good as ever, however long it goes on."""
    monkeypatch.setattr(http_protocol, "UNREAD_SECONDS", 0.3)
    refused = head("POST", "/webhooks/telnyx/nobody", [], b"content-length: 14")
    taken = head("POST", path("telnyx"), proof("telnyx", BODY), b"content-length: 14") + BODY

    async with connection(client) as (reader, writer):
        statuses = []
        for _ in range(3):
            writer.write(refused)
            statuses.append((await read_answer(reader)).status)
            await asyncio.sleep(0.1)
            writer.write(BODY + taken)
            statuses.append((await read_answer(reader)).status)
            await asyncio.sleep(0.4)

    assert statuses == [404, 200] * 3


FLOODS = {
    "a body too large": (head("POST", path("telnyx"), [], b"content-length: 100000000"), (413, "body_too_large")),
    "a head without end": (b"GET /healthz HTTP/1.1\r\n", (431, "head_too_large")),
    "no HTTP": (b"\x16\x03\x01\r\n", (400, "malformed_request")),
}


@pytest.mark.parametrize(("begun", "refused"), FLOODS.values(), ids=FLOODS)
async def test_who_reads_only_once_all_is_sent_is_told_why(
    client: httpx.AsyncClient, begun: bytes, refused: tuple[int, str]
) -> None:
    """Many a client does: hung up on in the middle it would see a reset connection, and send all of it again."""
    answer, rest = await asyncio.to_thread(_flood, port_of(client), begun, 100)

    assert problem(answer) == refused
    assert answer.headers["connection"] == "close"
    assert rest == b""


def _flood(port: int, begun: bytes, mebibytes: int) -> tuple[Answer, bytes]:
    """Send much, then read; the answer, and what came after it until the connection was closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as plain, plain.makefile("rb") as reader:
        plain.sendall(begun)
        for _ in range(mebibytes):
            plain.sendall(b"x" * 1024 * 1024)
        status = int(reader.readline().split()[1])
        lines = [line.decode().strip() for line in iter(reader.readline, b"\r\n")]
        headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answer(status, headers, reader.read(int(headers["content-length"]))), reader.read()


async def test_who_goes_on_after_a_refusal_is_not_passed_over_for_ever(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer has long come, and nothing more is said: then the other half of the connection is closed as well."""
    monkeypatch.setattr(http_protocol, "UNREAD_SECONDS", 0.3)

    async with connection(client) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\n" + b"x" * 70_000)
        answer, rest = await read_answer(reader), await reader.read()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_drip(writer), 10)

    assert (problem(answer), rest) == ((431, "head_too_large"), b"")


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("framing", [b"content-length: 14", b"transfer-encoding: chunked"])
async def test_who_is_hung_up_on_is_not_answered_twice(
    client: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], framing: bytes
) -> None:
    """What is no HTTP, behind a request or in its body, ends what was under way: nobody writes where nobody listens."""
    async with connection(client) as (reader, writer):
        writer.write(head("POST", path("telnyx"), proof("telnyx", BODY), framing) + BODY + b"\0\0\r\n")
        answer, rest = await read_answer(reader), await reader.read()
        served = await client.get("/healthz")
        await asyncio.sleep(0.3)
    said = "".join(capfd.readouterr())

    assert (problem(answer), rest) == ((400, "malformed_request"), b"")
    assert served.status_code == 200
    assert "Exception in ASGI" not in said
    assert "write_eof" not in said


async def test_a_connection_that_is_over_leaves_nothing_behind(client: httpx.AsyncClient) -> None:
    """It is gone at once with all it held, not when the garbage collector comes by."""
    gc.collect()
    gc.disable()
    try:
        statuses = [(await exchange(client, head("GET", "/healthz", []))).status for _ in range(5)]
        await until(lambda: _connections() == 0, "all five are gone")
    finally:
        gc.enable()

    assert statuses == [200] * 5


def _connections() -> int:
    return sum(isinstance(found, http_protocol.HttpProtocol) for found in gc.get_objects())


async def test_who_is_passed_over_does_not_hold_up_the_end(
    redis_url: str, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is told to end does not wait until it is cut off for those whom it has answered and hung up on."""
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 0.1)
    async with AsyncExitStack() as stack:
        async with running_app(document(keyspace.namespace), redis_url) as client:
            reader, writer = await stack.enter_async_context(connection(client))
            writer.write(b"GET /healthz HTTP/1.1\r\n" + b"x" * 70_000)
            answer = await read_answer(reader)
            began = time.monotonic()
        seconds = time.monotonic() - began

    assert answer.status == 431
    assert seconds < GRACE_SECONDS / 2


async def test_a_pipelined_body_has_its_own_time(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is read, behind one that was answered at once, is bounded by `server.body_timeout` alone."""
    monkeypatch.setattr(http_protocol, "UNREAD_SECONDS", 0.1)
    first = head("POST", "/webhooks/telnyx/nobody", [], b"content-length: 0")
    second = head("POST", path("telnyx"), proof("telnyx", BODY), b"content-length: 14")

    async with connection(client) as (reader, writer):
        writer.write(first + second)
        answers = [await read_answer(reader)]
        await asyncio.sleep(0.4)
        writer.write(BODY)
        answers.append(await read_answer(reader))

    assert [answer.status for answer in answers] == [404, 200]


async def test_a_wish_for_http_2_does_not_lose_the_body(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """Java's HTTP client sends one with every request over plain HTTP: the request is taken as HTTP/1.1."""
    wish = [b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__"]
    request = head("POST", path("telnyx"), proof("telnyx", BODY), *wish, b"content-length: 14")

    answers = []
    async with connection(client) as (reader, writer):
        for part in (request + BODY, request, BODY):
            writer.write(part)
            if part is not request:
                answers.append((await read_answer(reader)).body)

    kept = await captures(redis, keyspace)
    assert answers == [b'{"status":"captured"}'] * 2
    assert [capture[b"body"] for capture in kept] == [BODY, BODY]


async def test_it_is_no_proxy(client: httpx.AsyncClient) -> None:
    """CONNECT is a method that no route has."""
    answer = await exchange(client, b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n")

    assert problem(answer) == (405, "method_not_allowed")


# --- metrics ---


async def series(client: httpx.AsyncClient) -> dict[str, float]:
    """Every series of the metrics page with its value."""
    page = await client.get("/metrics")
    assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in page.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_callbacks_are_counted_by_account_and_outcome(client: httpx.AsyncClient) -> None:
    """A captured callback and a refused one move the series of their account, and rotation shows what matched."""
    account = 'account="main-telnyx"'
    captured = f'partyline_callbacks_total{{{account},outcome="captured",provider="telnyx"}}'
    refused = f'partyline_callbacks_total{{{account},outcome="signature_missing",provider="telnyx"}}'
    second_key = f'partyline_credential_matches_total{{{account},credential="public_keys[1]",provider="telnyx"}}'
    before = await series(client)

    await client.post(path("telnyx"), content=BODY, headers=proof("telnyx", BODY, SEEDS[1]))
    await client.post(path("telnyx"), content=BODY)

    after = await series(client)
    moved = {name: after[name] - before.get(name, 0) for name in (captured, refused, second_key)}
    assert moved == {captured: 1, refused: 1, second_key: 1}


async def test_requests_to_nobody_make_no_new_series(client: httpx.AsyncClient) -> None:
    """Whatever accounts, providers, paths and tokens strangers make up, the metrics stay as many."""
    await client.post("/webhooks/telnyx/nobody", content=BODY)
    before = await series(client)

    for number in range(50):
        await client.post(f"/webhooks/telnyx/nobody-{number}", content=BODY)
        await client.post(f"/webhooks/made-up-{number}/main-telnyx/token-{number}", content=BODY)
        await client.get(f"/nothing-{number}")
        await client.request(f"VERB{number}"[:5], "/webhooks/telnyx/nobody")

    after = await series(client)
    unknown = 'partyline_callbacks_total{account="unknown",outcome="unknown_account",provider="unknown"}'
    assert after.keys() == before.keys()
    assert after[unknown] - before[unknown] >= 100


async def test_forgeries_of_one_account_make_a_bounded_set_of_series(client: httpx.AsyncClient) -> None:
    """What a stranger sends to a known account ends in one of our own words, never in one of his."""
    for number in range(20):
        await client.post(path("sinch", f"guess-{number}"), content=BODY, headers=basic(f"user{number}:x"))
        await client.request(f"MADEUP{number}", path("sinch"))

    page = (await client.get("/metrics")).text

    assert "guess" not in page
    assert "user1" not in page
    assert "MADEUP" not in page


async def test_the_metrics_say_whether_a_callback_can_be_stored(
    client: httpx.AsyncClient, keyspace: Keyspace, folder: Path
) -> None:
    """With Redis and a full spool: yes. With neither: no, and nothing is known of replicas. With a spool alone: yes."""
    names = ["ready", "redis_usable", "spool_usable", "spool_max_bytes", 'redis_replicas{partition="0"}']
    names += ["redis_replicas_wanted"]
    nowhere = "redis://127.0.0.1:1"
    spool = {"dir": str(folder), "max": "1MiB"}

    here = await series(client)
    async with running_app(document(keyspace.namespace), nowhere) as away:
        neither = await series(away)
    async with running_app(
        document(keyspace.namespace, spool=spool, redis={"url": nowhere, "wait_replicas": 2}), nowhere
    ) as away:
        spooled = await series(away)

    assert [here[f"partyline_{name}"] for name in names] == [1, 1, 0, 1, 0, 0]
    assert [str(neither[f"partyline_{name}"]) for name in names] == ["0.0", "0.0", "0.0", "1.0", "nan", "0.0"]
    assert [str(spooled[f"partyline_{name}"]) for name in names] == ["1.0", "0.0", "1.0", "1048576.0", "nan", "2.0"]


# --- two ports ---


async def test_an_admin_port_keeps_the_two_worlds_apart(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """Webhooks answer on the public port alone, metrics on the admin port alone, health on both."""
    public_socket, admin_socket = listening(), listening()
    ports = {"port": public_socket.getsockname()[1], "admin_port": admin_socket.getsockname()[1]}
    configuration = document(keyspace.namespace, server=ports)
    async with (
        running_app(configuration, redis_url, sockets=[public_socket, admin_socket]) as public,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['admin_port']}") as admin,
    ):
        assert port_of(public) == ports["port"]
        signed = proof("sinch", BODY)
        captured = await public.post(path("sinch"), content=BODY, headers=signed)
        astray = await admin.post(path("sinch"), content=BODY, headers=signed)
        health = [(await side.get(page)).status_code for side in (public, admin) for page in ("/healthz", "/readyz")]
        metrics, described = await admin.get("/metrics"), await admin.get("/openapi.json")
        hidden = [await public.get(page) for page in ("/metrics", "/v1/conversations", "/inspector", "/openapi.json")]
        spoofed = await public.get("/metrics", headers={"host": f"127.0.0.1:{ports['admin_port']}"})

    assert captured.status_code == 200
    assert problem(astray) == (404, "not_found")
    assert await redis.xlen(keyspace.captures) == 1
    assert health == [200, 200, 200, 200]
    assert (metrics.status_code, described.status_code) == (200, 200)
    assert [problem(answer) for answer in [*hidden, spoofed]] == [(404, "not_found")] * 5


# --- discretion ---


BARE = {"main-bare": {"provider": "sinch", "url_tokens": ["Buoy_bare_token-81"]}}
REQUESTS: dict[str, tuple[str, Signed]] = {
    **{f"{name}_right": (path(name), proof(name, BODY)) for name in PROVIDERS},
    **{f"{name}_wrong": (path(name), proof(name, BODY, SECRETS[name][2])) for name in PROVIDERS},
    **{f"{name}_unsigned": (path(name), []) for name in PROVIDERS},
    **{f"{name}_token": (path(name, tokens[0]), []) for name, tokens in URL_TOKENS.items()},
    **{f"{name}_wrong_token": (path(name, "Buoy_wrong_token-99"), []) for name in PROVIDERS},
    "token_and_wrong_signature": (path("sinch", URL_TOKENS["sinch"][1]), proof("sinch", BODY, "wrong")),
    "token_too_deep": (path("sinch", URL_TOKENS["sinch"][1]) + "/more", []),
    "token_at_nobody": (f"/webhooks/sinch/nobody/{URL_TOKENS['sinch'][1]}", []),
    "token_at_another_provider": (f"/webhooks/telnyx/main-sinch/{URL_TOKENS['sinch'][0]}", []),
    "bare_signed": ("/webhooks/sinch/main-bare/Buoy_bare_token-81", proof("sinch", BODY)),
    "basic": (path("sinch"), basic(BASIC[0])),
    "basic_wrong": (path("sinch"), basic("ferryman:wrong")),
    "sendblue_near": (path("sendblue"), [(b"sb-signing-secret", SECRETS["sendblue"][0].encode() + b"x")]),
}


def secrets() -> list[str]:
    """Every text that must not get out: credentials, encoded ones, and the signatures that would have been right."""
    configured = [secret for values in SECRETS.values() for secret in values[:2]]
    tokens = [token for values in URL_TOKENS.values() for token in values]
    signatures = [proof(name, BODY)[0][1].decode().removeprefix("sha256=") for name in ("sinch", "whatsapp", "telnyx")]
    pairs = [text for pair in BASIC for text in (pair, pair.partition(":")[2], b64encode(pair.encode()).decode())]
    wrong = ["Buoy_bare_token-81", "Buoy_wrong_token-99", SECRETS["sendblue"][2]]
    return [*configured, *tokens, *signatures, *pairs, *VERIFY_TOKENS, *wrong]


async def said_by(client: httpx.AsyncClient) -> str:
    """Everything that the receiver answers to all of the requests, and its metrics."""
    answers = [await client.post(target, content=BODY, headers=headers) for target, headers in REQUESTS.values()]
    for token in [*VERIFY_TOKENS, "verify-Wrong"]:
        query = f"hub.mode=subscribe&hub.challenge=7&hub.verify_token={token}"
        answers += [await client.get(f"{path(name)}?{query}") for name in PROVIDERS]
    answers += [await client.put(path("sinch", URL_TOKENS["sinch"][0]))]
    answers += [await client.get(page) for page in ("/metrics", "/readyz", "/healthz")]
    raw = head("POST", path("sinch", URL_TOKENS["sinch"][0]), [], b"content-length: two")
    refused = await exchange(client, raw)
    return "\n".join([*(f"{answer.headers} {answer.text}" for answer in answers), repr(refused)])


#: What is logged of a Redis that is not there.
OUTAGE = {
    "neither Redis nor the spool takes callbacks: they are answered 503",
    "Redis does not answer",
    "Redis did not take a write in time: captures go to the spool",
    "Redis answers again",
}


@pytest.fixture(params=["redis", "no redis"])
def some_redis(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> str:
    """The URL of a Redis that is there, and of one that is not."""
    return redis_url if request.param == "redis" else f"unix://{tmp_path}/none.sock"


@pytest.mark.parametrize("policy", ["reject", "defer", "quarantine"])
async def test_no_secret_gets_out(
    some_redis: str,
    keyspace: Keyspace,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    policy: str,
) -> None:
    """No answer, header, log line, metric or print ever holds a credential, a URL token or a signature we expected."""
    accounts = {name: {**account, "on_unauthentic": policy} for name, account in (ACCOUNTS | BARE).items()}
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as lines:
        async with running_app(document(keyspace.namespace, accounts=accounts), some_redis) as client:
            answered = await said_by(client)
    # the test's own HTTP client logs what it asks for
    records = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    everywhere = "\n".join([answered, *map(repr, lines), *records, *capsys.readouterr()])

    assert [secret for secret in secrets() if secret in everywhere] == []
    assert len(lines) > 20
    assert {line["event"] for line in lines} - OUTAGE == {"callback"}


def broken_clock() -> NoReturn:
    """A failure that nobody foresaw, in the midst of a request."""
    raise RuntimeError("the clock fell into the harbour")


async def test_what_nobody_foresaw_is_asked_for_again(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """An error of ours is a 503 with Retry-After, never a 4xx or a bare 500, and the next request is served."""
    with structlog.testing.capture_logs() as lines:
        async with running_app(document(keyspace.namespace), redis_url, clock=broken_clock) as client:
            answer = await client.post(path("sinch"), content=BODY, headers=proof("sinch", BODY))
            alive = await client.get("/healthz")

    assert problem(answer) == (503, "error")
    assert answer.headers["retry-after"] == "5"
    assert "harbour" not in answer.text
    assert alive.status_code == 200
    assert await redis.keys(f"{keyspace.prefix}*") == []
    assert [line["log_level"] for line in lines] == ["error", "info"]


@pytest.mark.parametrize("console", [True, False])
async def test_the_log_of_an_unforeseen_failure_tells_where_but_no_secret(
    keyspace: Keyspace,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    console: bool,
) -> None:
    """On a terminal and in JSON lines, a traceback names the place of the error and shows no value of the request."""
    before, real = structlog.get_config(), structlog.configure
    with monkeypatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **given: real(**{**given, "cache_logger_on_first_use": False}))
        patch.setattr("receiver.webhooks.log", structlog.get_logger())
        configure(console=console)
        try:
            async with running_app(document(keyspace.namespace), redis_url, clock=broken_clock) as client:
                await client.post(
                    path("sendblue", URL_TOKENS["sendblue"][0]), content=BODY, headers=proof("sendblue", b"")
                )
        finally:
            real(**before)
    logged = capsys.readouterr().err

    assert "the clock fell into the harbour" in logged
    assert "broken_clock" in logged
    assert [text for text in [*secrets(), "ev-1"] if text in logged] == []


async def test_a_log_line_names_the_capture_and_no_content(client: httpx.AsyncClient) -> None:
    """One line a request: account, outcome, the capture's id and the time taken; nothing of the body or the path."""
    with structlog.testing.capture_logs() as lines:
        await client.post(path("sinch"), content=b'{"from": "15555550111"}', headers=basic(BASIC[0]))
        await client.post(path("sinch"), content=b'{"from": "15555550111"}')

    assert [set(line) for line in lines] == [
        {"event", "log_level", "provider", "account", "outcome", "capture", "milliseconds"}
    ] * 2
    captured, refused = lines
    assert captured["capture"].startswith("cp_")
    assert (captured["outcome"], refused["outcome"], refused["capture"]) == (
        "captured",
        "signature_missing",
        None,
    )
    assert "5555550111" not in repr(lines)


async def test_a_request_to_nobody_is_logged_without_its_path(client: httpx.AsyncClient) -> None:
    """Whoever set up a webhook finds in the log that it goes nowhere; what stood in its URL may be a secret."""
    with structlog.testing.capture_logs() as lines:
        await client.post("/webhooks/telnyx/not-a-name-but-a-token", content=BODY)

    assert [(line["account"], line["outcome"]) for line in lines] == [("unknown", "unknown_account")]
    assert "token" not in repr(lines)


def test_what_libraries_log_has_the_form_of_our_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line is JSON, so that whatever collects them can read them all."""
    before = structlog.get_config()
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    try:
        configure(console=False)
        logging.getLogger("some.library").warning("%d things", 3)
    finally:
        structlog.configure(**before)
    line = orjson.loads(capsys.readouterr().err)

    assert (line["event"], line["level"], line["logger"]) == ("3 things", "warning", "some.library")


async def test_an_error_says_what_to_look_at(client: httpx.AsyncClient) -> None:
    """A refusal names the setting that was tried, since the reader of it is whoever set the webhook up."""
    wrong = await client.post(path("whatsapp"), content=BODY, headers=proof("whatsapp", BODY, "wrong"))
    unsigned = await client.post(path("telnyx"), content=BODY)
    stale = await client.post(path("telnyx"), content=BODY, headers=proof("telnyx", BODY, now=NOW.replace(hour=6)))

    assert "app_secrets" in wrong.json()["detail"]
    assert "public_keys" in unsigned.json()["detail"]
    assert "clock" in stale.json()["detail"]
    assert orjson.loads(wrong.content)["title"] == "Unauthorized"
