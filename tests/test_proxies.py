"""The proxy configurations of `deploy/`, run by the real programs before a real receiver."""

import asyncio
import gzip
import re
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from receiver.providers import PROVIDERS
from receiver.schemes import Signed
from receiver.settings.values import Server
from schemas.keyspace import Keyspace
from tests.processes import plain_environment, until
from tests.programs import program
from tests.proxies import HOST, KINDS, NGINX, Kind, Proxy, prepared, running_proxy
from tests.service import (
    ACCOUNTS,
    SECRETS,
    URL_TOKENS,
    VERIFY_TOKENS,
    Answer,
    captures,
    document,
    everything,
    head,
    listening,
    path,
    port_of,
    pour,
    problem,
    proof,
    read_answer,
    running_app,
)

BODY = b'{"id": "ev-1", "text": "caf\xc3\xa9",\r\n "spaced" : [1,  2]}\n'
MAX_BODY = Server().max_body_bytes
EVERY_PROXY = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
TRUSTING = {"trusted_proxies": ["127.0.0.1"]}


@asynccontextmanager
async def proxied(
    kind: Kind, folder: Path, redis_url: str, namespace: str, *, changes: dict[str, str] | None = None, **sections: Any
) -> AsyncIterator[Proxy]:
    """A receiver with an admin port, and the proxy before it."""
    program(kind.name)
    public, admin = listening(), listening()
    ports = {"port": public.getsockname()[1], "admin_port": admin.getsockname()[1]}
    server = {**TRUSTING, **ports, **sections.pop("server", {})}
    # What is as large as a body may be takes a busy machine a while to store, and no proxy asks how long.
    configuration = document(namespace, server=server, redis={"write_deadline": "5s"}, **sections)
    async with (
        running_app(configuration, redis_url, sockets=[public, admin]) as receiver,
        running_proxy(kind, folder, f"127.0.0.1:{port_of(receiver)}", changes) as proxy,
    ):
        yield proxy


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
async def proxy(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, keyspace: Keyspace
) -> AsyncIterator[Proxy]:
    """Each proxy before a receiver with the four accounts."""
    async with proxied(request.param, tmp_path, redis_url, keyspace.namespace) as running:
        yield running


async def send(proxy: Proxy, request: bytes) -> Answer | None:
    """What a proxy answers to these very bytes; None where it just hangs up."""
    async with proxy.connection() as (reader, writer):
        writer.write(request)
        try:
            return await read_answer(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


# --- as shipped -------------------------------------------------------------------------------------------


@EVERY_PROXY
def test_the_program_takes_the_configuration(kind: Kind, tmp_path: Path) -> None:
    """The program itself finds no mistake in what is shipped, nor a warning."""
    place = prepared(kind, tmp_path, "127.0.0.1:8080")
    ended = subprocess.run(
        kind.check(program(kind.name), place),
        capture_output=True,
        text=True,
        check=False,
        env={**plain_environment(tmp_path), "HOME": str(tmp_path)},
    )

    assert ended.returncode == 0, ended.stderr
    assert "[warn]" not in ended.stderr


def test_the_limits_fit_those_of_the_receiver() -> None:
    """A proxy takes what `server.max_body` lets through, and has the receiver's own time-out come first."""
    nginx, caddy = (kind.config.read_text() for kind in KINDS)

    assert re.findall(r"client_max_body_size (\d+)m;", nginx) == [str(MAX_BODY // 1024**2)]
    assert re.findall(r"max_size (\d+)MiB", caddy) == [str(MAX_BODY // 1024**2)]
    assert re.findall(r"> (\d+)`", caddy) == [str(MAX_BODY)]
    assert re.findall(r"read_body (\d+)s", caddy) == [str(int(2 * Server().body_timeout_seconds))]


# --- what is passed on ------------------------------------------------------------------------------------


async def test_callbacks_of_each_provider_pass_with_their_bytes_as_they_were(
    proxy: Proxy, redis: Redis, keyspace: Keyspace
) -> None:
    """Whatever framing and encoding a body claims, its bytes arrive unaltered, so that its signature holds."""
    squeezed = gzip.compress(BODY)

    async def pieces() -> AsyncIterator[bytes]:
        yield BODY[:9]
        yield BODY[9:]

    async with proxy.client() as client:
        plain = [await client.post(path(name), content=BODY, headers=proof(name, BODY)) for name in PROVIDERS]
        chunked = [await client.post(path(name), content=pieces(), headers=proof(name, BODY)) for name in PROVIDERS]
        headers = [*proof("sinch", squeezed), (b"content-encoding", b"gzip"), (b"accept-encoding", b"gzip")]
        zipped = await client.post(path("sinch"), content=squeezed, headers=headers)
        token = await client.post(path("sendblue", URL_TOKENS["sendblue"][0]), content=BODY)

    assert [answer.content for answer in [*plain, *chunked, zipped, token]] == [b'{"status":"captured"}'] * 10
    kept = [entry[b"body"] for entry in await captures(redis, keyspace)]
    assert kept == [BODY] * 8 + [squeezed, BODY]


async def test_the_handshake_passes(proxy: Proxy) -> None:
    """Its query arrives, and the challenge comes back to the letter."""
    query = f"?hub.mode=subscribe&hub.challenge=000a%2Bb%26&hub.verify_token={VERIFY_TOKENS[0]}"
    async with proxy.client() as client:
        answer = await client.get(path("whatsapp") + query)

    assert (answer.status_code, answer.content) == (200, b"000a+b&")


async def test_refusals_come_back_as_they_are(proxy: Proxy) -> None:
    """A provider is told the receiver's status and reason, not the proxy's page."""
    async with proxy.client() as client:
        wrong = await client.post(path("telnyx"), content=BODY, headers=proof("telnyx", BODY, SECRETS["telnyx"][2]))
        nobody = await client.post("/webhooks/telnyx/nobody", content=BODY)

    assert [problem(wrong), problem(nobody)] == [(401, "signature_mismatch"), (404, "unknown_account")]


@EVERY_PROXY
async def test_who_sends_it_is_written_by_the_proxy_alone(
    kind: Kind, tmp_path: Path, redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """`sources` holds behind the proxy, and what a client writes into the header itself never arrives."""
    accounts = {"main-sinch": {**ACCOUNTS["main-sinch"], "sources": ["127.0.0.5"]}}
    spoofed = [(b"x-forwarded-for", b"127.0.0.5"), (b"x-forwarded-proto", b"http"), (b"forwarded", b"for=127.0.0.5")]
    headers = [*proof("sinch", BODY), *spoofed]
    async with (
        proxied(kind, tmp_path, redis_url, keyspace.namespace, accounts=accounts) as proxy,
        proxy.client("127.0.0.5") as listed,
        proxy.client("127.0.0.6") as stranger,
    ):
        taken = await listed.post(path("sinch"), content=BODY, headers=headers)
        refused = await stranger.post(path("sinch"), content=BODY, headers=headers)

    assert (taken.status_code, problem(refused)) == (200, (403, "source_refused"))
    [entry] = await captures(redis, keyspace)
    kept = orjson.loads(entry[b"headers"])
    assert [header for header in kept if "forwarded-for" in header[0]] == [["x-forwarded-for", "127.0.0.5"]]
    assert [value for name, value in kept if name == "x-forwarded-proto"] == ["https"]
    assert "forwarded" not in dict(kept)
    assert dict(kept)["host"] == HOST


# --- what is not ------------------------------------------------------------------------------------------

#: Targets as they stand on the wire, which no client library would send.
HIDDEN = [
    "/",
    "/v1/conversations",
    "/v1/outbound/telnyx/main-telnyx",
    "/metrics",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/webhooks",
    "/webhooks/",
    "//metrics",
    "/webhooks/../metrics",
    "/webhooks/../../metrics",
    "/webhooks/%2e%2e/metrics",
    "/webhooks/..%2fmetrics",
    "/webhooks/telnyx/..%2f..%2fmetrics",
    "/webhooks/telnyx/..;/..;/metrics",
    "/webhooks/telnyx/main-telnyx/../../../metrics",
    "/metrics/../webhooks/telnyx/main-telnyx",
    "/metrics%2f..%2fwebhooks/telnyx/main-telnyx",
    "/metrics%3f/../webhooks/telnyx/main-telnyx",
    "/metrics#/../webhooks/telnyx/main-telnyx",
    "/metrics%00/webhooks/telnyx/main-telnyx",
    "/webhooks\\..\\metrics",
    "/WEBHOOKS/../metrics",
    "http://127.0.0.1:8081/metrics",
    f"https://{HOST}/metrics",
    "*",
]


async def test_nothing_but_callbacks_is_passed_on(proxy: Proxy) -> None:
    """From outside there is no /v1, no metrics and no health, however their paths are written; nor any admin port."""
    answers = {target: await send(proxy, head("GET", target, [], b"content-length: 0")) for target in HIDDEN}
    by_name = await send(
        proxy, b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:8081\r\nx-forwarded-host: 127.0.0.1:8081\r\n\r\n"
    )
    connect = await send(proxy, b"CONNECT 127.0.0.1:8081 HTTP/1.1\r\nhost: 127.0.0.1:8081\r\n\r\n")

    assert {target: answer.status for target, answer in answers.items() if answer and answer.status < 400} == {}
    said = [answer for answer in (*answers.values(), by_name, connect) if answer]
    assert [answer for answer in said if b"partyline_" in answer.body or b"openapi" in answer.body] == []
    assert by_name is not None
    assert by_name.status in {404, 421}
    assert connect is None or connect.status >= 400


async def test_another_name_gets_nowhere(proxy: Proxy, redis: Redis, keyspace: Keyspace) -> None:
    """A callback under another name than the proxy's own does not reach the receiver."""
    async with proxy.client() as client:
        answer = await client.post(
            path("sinch"), content=BODY, headers=[*proof("sinch", BODY), (b"host", b"other.example.com")]
        )

    assert answer.status_code in {404, 421}
    assert await everything(redis, keyspace) == {}


#: The receiver would capture it; a proxy that sees it as a request of its own refuses its name.
SMUGGLED = (
    head("POST", path("sinch"), proof("sinch", b"smuggled"), b"content-length: 8").replace(HOST.encode(), b"elsewhere")
    + b"smuggled"
)
CHUNKED = b"0\r\n\r\n" + SMUGGLED
SMUGGLING: dict[str, tuple[tuple[bytes, ...], bytes]] = {
    "both": ((b"content-length: %d" % len(CHUNKED), b"transfer-encoding: chunked"), CHUNKED),
    "both_other_order": ((b"transfer-encoding: chunked", b"content-length: 4"), b"0\r\n\r\n" + SMUGGLED),
    "two_encodings": ((b"transfer-encoding: chunked", b"transfer-encoding: identity"), CHUNKED),
    "unknown_encoding": ((b"transfer-encoding: xchunked",), CHUNKED),
    "encoding_in_disguise": ((b"transfer-encoding: \x0bchunked", b"content-length: 5"), CHUNKED),
    "space_before_colon": ((b"transfer-encoding : chunked", b"content-length: 5"), CHUNKED),
    "folded": ((b"transfer-encoding:\r\n chunked", b"content-length: 5"), CHUNKED),
    "underscore": ((b"transfer_encoding: chunked", b"content_length: 500", b"content-length: 5"), CHUNKED),
    "two_lengths": ((b"content-length: 5", b"content-length: %d" % len(CHUNKED)), CHUNKED),
    "length_list": ((b"content-length: 5, %d" % len(CHUNKED),), CHUNKED),
    "length_signed": ((b"content-length: +5",), CHUNKED),
    "chunk_size_overflow": ((b"transfer-encoding: chunked",), b"10000000000000000\r\n" + SMUGGLED),
    "chunk_extension": ((b"transfer-encoding: chunked",), b'0;x="\r\n\r\n' + SMUGGLED),
    "chunk_without_cr": ((b"transfer-encoding: chunked",), b"5\nabcde\n0\n\n" + SMUGGLED),
    "connection_names_length": ((b"connection: content-length", b"content-length: %d" % len(SMUGGLED)), SMUGGLED),
}


async def test_no_second_request_is_hidden_in_a_first(proxy: Proxy, redis: Redis, keyspace: Keyspace) -> None:
    """However the two might read a request's end differently, the receiver never sees what was hidden in it."""

    async def smuggle(framing: tuple[bytes, ...], body: bytes) -> bytes:
        async with proxy.connection() as (reader, writer):
            writer.write(head("POST", path("sinch"), proof("sinch", b""), *framing) + body)
            return await rest_of(reader, 1.5)

    said = await asyncio.gather(*(smuggle(framing, body) for framing, body in SMUGGLING.values()))

    assert {entry[b"body"] for entry in await captures(redis, keyspace)} <= {b""}
    assert max(text.count(b'"captured"') for text in said) <= 1
    async with proxy.client() as client:  # and the connections to the receiver are as good as before
        answers = [await client.post(path("sinch"), content=BODY, headers=proof("sinch", BODY)) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 8


async def rest_of(reader: asyncio.StreamReader, seconds: float) -> bytes:
    """Everything that is said within a time, or until the connection ends."""
    said = b""
    try:
        async with asyncio.timeout(seconds):
            while data := await reader.read(65536):
                said += data
    except (TimeoutError, ConnectionError):
        pass  # then that was all
    return said


# --- what is bounded --------------------------------------------------------------------------------------


async def oversized(proxy: Proxy, target: str, headers: Signed, *, chunked: bool = False) -> int:
    """What is answered to three times `max_body`, read while it is sent as providers' clients do."""
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % (3 * MAX_BODY)
    async with proxy.connection() as (reader, writer):
        writer.write(head("POST", target, headers, framing))
        pouring = asyncio.create_task(pour(writer, 3 * MAX_BODY, chunked=chunked))
        answer = await read_answer(reader)
        pouring.cancel()
    return answer.status


async def test_a_body_beyond_the_limit_is_413(proxy: Proxy, redis: Redis, keyspace: Keyspace) -> None:
    """`max_body` passes to the byte; more is refused, declared or not, and nothing of it is stored."""
    whole = b"x" * MAX_BODY
    async with proxy.client() as client:
        exact = await client.post(path("sinch"), content=whole, headers=proof("sinch", whole))
    declared, chunked = (
        await oversized(proxy, path("sinch"), []),
        await oversized(proxy, path("sinch"), [], chunked=True),
    )

    assert [exact.status_code, declared, chunked] == [200, 413, 413]
    assert [len(entry[b"body"]) for entry in await captures(redis, keyspace)] == [MAX_BODY]
    await redis.delete(keyspace.captures)


async def test_a_head_beyond_the_limit_is_refused(proxy: Proxy) -> None:
    """One header without an end, or more of them than anybody needs, do not get past the proxy."""
    one = b"x-long: " + b"a" * 200_000
    many = b"\r\n".join(b"x-%d: %d" % (number, number) for number in range(20_000))

    answers = [await send(proxy, head("POST", path("telnyx"), [], more)) for more in (one, many)]

    assert [answer.status for answer in answers if answer] in ([400, 400], [431, 431], [400], [431], [])


SLOW = b"POST /webhooks/telnyx/main-telnyx HTTP/1.1\r\nhost: hooks.example.com\r\n"


async def dripping(writer: asyncio.StreamWriter, begun: bytes, piece: bytes) -> None:
    """Write, and then a piece now and then, for as long as the other side listens."""
    writer.write(begun)
    while not writer.is_closing():
        await asyncio.sleep(0.1)
        writer.write(piece)


async def seconds_until_closed(connection: Any, begun: bytes, piece: bytes) -> float:
    """How long a connection lasts on which little happens."""
    began = time.monotonic()
    async with connection as (reader, writer):
        dropping = asyncio.create_task(dripping(writer, begun, piece))
        try:
            async with asyncio.timeout(15):
                while await reader.read(65536):
                    pass
        except ConnectionError:
            pass  # closed without a word is closed
        finally:
            dropping.cancel()
    return time.monotonic() - began


@asynccontextmanager
async def bare(proxy: Proxy) -> AsyncIterator[Any]:
    """A connection to the proxy on which TLS has yet to begin."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.place.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@EVERY_PROXY
async def test_whoever_is_slow_is_cut_off(
    kind: Kind, tmp_path: Path, redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """Handshakes, heads and bodies that do not come, or come byte by byte, end with their time (here a tenth of it)."""
    names = (
        ("client_header_timeout 10", "client_body_timeout 10") if kind is NGINX else ("read_header 10", "read_body 20")
    )
    faster = {f"{name}s": f"{name[:-1]}s" for name in names}
    sections = {"server": {"body_timeout": "1s"}}
    async with proxied(kind, tmp_path, redis_url, keyspace.namespace, changes=faster, **sections) as proxy:
        lasted = await asyncio.gather(
            seconds_until_closed(bare(proxy), b"\x16\x03\x01", b""),
            seconds_until_closed(proxy.connection(), b"", b""),
            seconds_until_closed(proxy.connection(), SLOW, b""),
            seconds_until_closed(proxy.connection(), SLOW + b"x-slow: ", b"a"),
            seconds_until_closed(proxy.connection(), SLOW + b"content-length: 1000\r\n\r\n", b""),
            seconds_until_closed(proxy.connection(), SLOW + b"content-length: 1000\r\n\r\n", b"a"),
        )
        async with proxy.client() as client:
            meanwhile = await client.post(path("sinch"), content=BODY, headers=proof("sinch", BODY))

    assert max(lasted) < 6, lasted
    assert meanwhile.status_code == 200
    assert len(await captures(redis, keyspace)) == 1


# --- what is logged ---------------------------------------------------------------------------------------


async def logged(proxy: Proxy, lines: int) -> None:
    """Wait for what is written after an answer has gone out."""
    await until(lambda: (proxy.process.output + proxy.process.log).count("\n") >= lines, f"{lines} lines are logged")


@EVERY_PROXY
async def test_no_log_has_a_token_or_a_secret(kind: Kind, tmp_path: Path, redis_url: str, keyspace: Keyspace) -> None:
    """Neither what goes well nor what goes wrong writes a URL token, a secret header, a query or a text."""
    token, secret = URL_TOKENS["sendblue"][0], SECRETS["sendblue"][0]
    headers = [(b"sb-signing-secret", secret.encode()), (b"user-agent", b"Ghost")]
    hostile = [(b"user-agent", b"Ghost\x1b[31m\xff")]
    target = path("sendblue", token)
    async with proxied(kind, tmp_path, redis_url, keyspace.namespace) as proxy, proxy.client() as client:
        taken = await client.post(f"{target}?ghost=Ghost", content=b'{"content": "Ghost"}', headers=headers)
        large = await oversized(proxy, target, headers)
        odd = await send(proxy, head("POST", f"{target}%0a%1b/Ghost", hostile, b"content-length: 0"))
        await logged(proxy, 3 if kind is NGINX else 1)
    (tmp_path / "alone").mkdir()
    async with running_proxy(kind, tmp_path / "alone", "127.0.0.1:9") as alone, alone.client() as client:
        away = await client.post(target, content=BODY, headers=headers)
        await logged(alone, 1 if kind is NGINX else 2)  # Caddy says where its configuration is
    everything_logged = "".join(each.process.output + each.process.log for each in (proxy, alone))

    assert [taken.status_code, large, away.status_code] == [200, 413, 502]
    assert odd is not None
    assert odd.status in {400, 404}
    assert [text for text in (token, secret, "Ghost") if text in everything_logged] == []
    lines = [orjson.loads(line) for line in everything_logged.splitlines()]
    if kind is NGINX:
        assert {line["endpoint"] for line in lines} == {"/webhooks/sendblue/main-sendblue"}
        assert sorted(line["status"] for line in lines) == ["200", str(odd.status), "413", "502"]
