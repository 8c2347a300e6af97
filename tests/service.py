"""Runs the receiver on a real socket inside the test process, and speaks to it as providers do.

`running_app` is the whole HTTP side over a real Redis; `work_off` is the pipeline until the log is done.
Every account here has two live credentials of each kind; a test takes whichever it needs from `SECRETS`.
"""

import asyncio
import contextlib
import socket
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis

from correlator.lease import LEASE_SECONDS, Lease
from correlator.redis_client import connect
from correlator.store import Store
from receiver.app import make_app
from receiver.captures import CaptureLog
from receiver.pipeline import Pipeline
from receiver.provider import Provider
from receiver.providers import PROVIDERS
from receiver.schemes import BasicAuth, Ed25519, HubSignature, SharedSecret, Signed, SinchHmac
from receiver.settings import Settings, parse
from receiver.worker import server_config
from schemas.keyspace import Keyspace
from tests.contract import hold

Document = dict[str, Any]

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LINE = "+15555550100"
#: How long a server within the test process waits for its connections when it ends.
GRACE_SECONDS = 2

SEEDS = tuple(b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
#: What each provider signs or proves itself with: two that are configured, and a stranger's.
SECRETS: dict[str, tuple[str, str, str]] = {
    "telnyx": (SEEDS[0], SEEDS[1], SEEDS[2]),
    "sendblue": ("sendblue-Quay-11", "sendblue-Quay-12", "sendblue-Stranger"),
    "sinch": ("sinch-Mole-21", "sinch-Mole-22", "sinch-Stranger"),
    "whatsapp": ("whatsapp-Weir-31", "whatsapp-Weir-32", "whatsapp-Stranger"),
}
VERIFY_TOKENS = ["verify-Lock-41", "verify-Lock-42"]
BASIC = ["ferryman:Rope & Tide: 51", "ferryman:Rope & Tide: 52"]
URL_TOKENS = {
    "sendblue": ["Buoy_sendblue_token-61", "Buoy_sendblue_token-62"],
    "sinch": ["Buoy_sinch_token-71", "Buoy_sinch_token-72"],
}


def public_key(seed: str) -> str:
    """The base64 public key that goes with a base64 seed."""
    key = Ed25519PrivateKey.from_private_bytes(msgspec.convert(seed, bytes, strict=False))
    return b64encode(key.public_key().public_bytes_raw()).decode()


#: One account per provider, named `main-<provider>`.
ACCOUNTS: dict[str, Any] = {
    "main-telnyx": {
        "provider": "telnyx",
        "public_keys": [public_key(seed) for seed in SEEDS[:2]],
        "lines": [LINE],
    },
    "main-sendblue": {
        "provider": "sendblue",
        "secrets": list(SECRETS["sendblue"][:2]),
        "url_tokens": URL_TOKENS["sendblue"],
        "lines": [LINE],
    },
    "main-sinch": {
        "provider": "sinch",
        "secrets": list(SECRETS["sinch"][:2]),
        "basic_auth": BASIC,
        "url_tokens": URL_TOKENS["sinch"],
        "lines": [LINE],
        "default_line": LINE,
    },
    "main-whatsapp": {
        "provider": "whatsapp",
        "app_secrets": list(SECRETS["whatsapp"][:2]),
        "verify_tokens": VERIFY_TOKENS,
        "lines": [LINE],
    },
}


def document(namespace: str, **sections: Any) -> Document:
    """A configuration as TOML gives it, with the four accounts unless `accounts` says otherwise."""
    return {"namespace": namespace, "accounts": ACCOUNTS, **sections}


def settings_of(configuration: Document) -> Settings:
    """The settings in a configuration; the environment has no say."""
    return parse(configuration, {}, Path())


def path(provider: str, token: str | None = None) -> str:
    """Where the callbacks of `main-<provider>` go."""
    plain = f"/webhooks/{provider}/main-{provider}"
    return plain if token is None else f"{plain}/{token}"


def proof(provider: str, body: bytes, secret: str | None = None, now: datetime = NOW) -> Signed:
    """The headers that prove a body to come from a provider; the first credential's unless another is given."""
    chosen = SECRETS[provider][0] if secret is None else secret
    sign: dict[str, Callable[[], Signed]] = {
        "telnyx": lambda: Ed25519().sign(body, chosen, now),
        "sendblue": lambda: SharedSecret(b"sb-signing-secret").sign(chosen),
        "sinch": lambda: SinchHmac().sign(body, chosen, "01K5MNAY5ZJ6T8R1QF3C7VWXDH", now),
        "whatsapp": lambda: HubSignature().sign(body, chosen),
    }
    return sign[provider]()


def basic(pair: str) -> Signed:
    """The header that proves user and password."""
    return BasicAuth().sign(pair)


# --- the application on a socket ---


class _Server(uvicorn.Server):
    """A server that leaves the process's signal handlers alone: they are the test runner's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listening() -> socket.socket:
    """A bound socket on the loopback interface, on any free port."""
    # asyncio sends small answers at once (TCP_NODELAY) only on sockets that name their protocol
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    return bound


def port_of(client: httpx.AsyncClient) -> int:
    """The port that a client of `running_app` talks to."""
    port = client.base_url.port
    assert port is not None
    return port


@asynccontextmanager
async def running_app(
    configuration: Document,
    redis_url: str,
    *,
    clock: Callable[[], datetime] = lambda: NOW,
    providers: Mapping[str, Provider] = PROVIDERS,
    sockets: list[socket.socket] | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """The receiver of a configuration on a real server; a client of its first socket comes back.

    What the client is answered is held against the OpenAPI document. Unless the configuration has a spool, there is
    one that is full: what Redis does not take is not taken.
    """
    with tempfile.TemporaryDirectory(prefix="partyline-spool-") as folder:
        settings = settings_of({"spool": {"dir": folder, "max": 1}, **configuration})
        async with _running(settings, redis_url, clock, providers, sockets) as client:
            yield client


@asynccontextmanager
async def _running(
    settings: Settings,
    redis_url: str,
    clock: Callable[[], datetime],
    providers: Mapping[str, Provider],
    sockets: list[socket.socket] | None,
) -> AsyncIterator[httpx.AsyncClient]:
    bound = sockets or [listening()]
    port = bound[0].getsockname()[1]
    redis = connect(redis_url, settings.redis.write_deadline_seconds)
    config = server_config(make_app(settings, providers, [redis], clock), settings.server)
    async with serving(config, bound):
        limits = httpx.Limits(max_connections=None)
        base_url = f"http://127.0.0.1:{port}"
        hooks = {"response": [hold]}
        async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=20, event_hooks=hooks) as client:
            yield client


@asynccontextmanager
async def serving(config: uvicorn.Config, sockets: list[socket.socket]) -> AsyncIterator[uvicorn.Server]:
    """A server on bound sockets, within the test process."""
    config.timeout_graceful_shutdown = GRACE_SECONDS
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets))
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it no other way
        await asyncio.sleep(0.001)
    try:
        yield server
    finally:
        server.should_exit = True
        await running


# --- odd requests: bytes on a socket ---


class Answer(msgspec.Struct, frozen=True):
    """One answer as it was on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connection(client: httpx.AsyncClient) -> AsyncIterator[Connection]:
    """A bare connection to the server that a client talks to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def exchange(client: httpx.AsyncClient, request: bytes) -> Answer:
    """What the server answers to these very bytes."""
    async with connection(client) as (reader, writer):
        writer.write(request)
        return await read_answer(reader)


async def pour(writer: asyncio.StreamWriter, total: int, *, chunked: bool = True) -> int:
    """Send a body of `total` bytes, or as much of it as the other side takes; how much that was."""
    size, sent = 64 * 1024, 0
    piece = b"x" * size
    if chunked:
        piece = b"10000\r\n" + piece + b"\r\n"
    try:
        while sent < total:
            writer.write(piece)
            await writer.drain()
            sent += size
    except OSError:
        pass  # refused: the answer says why
    return sent


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer on a connection; a test that waits for one for long has failed."""
    async with asyncio.timeout(15):
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = await reader.read()
    return Answer(int(first.split()[1]), headers, body)


def head(method: str, target: str, headers: Signed, *more: bytes) -> bytes:
    """The head of a request, ready for its body."""
    lines = [f"{method} {target} HTTP/1.1".encode(), b"host: hooks.example.com"]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, *more, b"", b""])


# --- what became of it ---


def problem(answer: httpx.Response | Answer) -> tuple[int, str]:
    """Status and reason of a problem, its form checked."""
    if isinstance(answer, httpx.Response):
        answer = Answer(answer.status_code, dict(answer.headers), answer.content)
    said = msgspec.json.decode(answer.body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(said) == {"type", "title", "status", "reason", "detail"}
    assert said["type"] == f"urn:partyline:problem:{said['reason']}"
    assert said["status"] == answer.status
    assert said["title"]
    assert said["detail"]
    return answer.status, said["reason"]


async def everything(redis: Redis, keyspace: Keyspace) -> dict[str, Any]:
    """Every key that has anything to do with a namespace, with all that it holds."""
    found: dict[str, Any] = {}
    keys: list[Any] = await redis.keys(f"*{keyspace.namespace}*")
    for key in sorted(key.decode() for key in keys):
        match await redis.type(key):
            case b"string":
                found[key] = await redis.get(key)
            case b"hash":
                found[key] = await redis.hgetall(key)
            case b"stream":
                found[key] = await entries(redis, key)
            case kind:
                raise AssertionError(f"{key} is a {kind!r}: teach this function to read it")
    return found


async def entries(redis: Redis, stream: str) -> list[dict[bytes, bytes]]:
    """What stands in a stream, oldest first."""
    found: Any = await redis.xrange(stream)
    return [fields for _, fields in found]


async def captures(redis: Redis, keyspace: Keyspace) -> list[dict[bytes, bytes]]:
    """The capture log, oldest first."""
    return await entries(redis, keyspace.captures)


async def events(redis: Redis, keyspace: Keyspace) -> list[Any]:
    """Every envelope in the stream of events, decoded."""
    return [msgspec.json.decode(fields[b"event"]) for fields in await entries(redis, keyspace.events)]


async def clear(redis: Redis, keyspace: Keyspace) -> None:
    """Forget everything of a namespace."""
    keys = await redis.keys(f"{keyspace.prefix}*")
    if keys:
        await redis.delete(*keys)


async def work_off(configuration: Document, redis_url: str) -> None:
    """Run the pipeline until everything in the capture log is committed."""
    settings = settings_of(configuration)
    keyspace = Keyspace(settings.namespace)
    redis = connect(redis_url, 10.0)
    pipeline = Pipeline(
        CaptureLog(redis, keyspace),
        Store(redis, keyspace, settings.id_key, settings.retention.messages_seconds),
        Lease(redis, keyspace, LEASE_SECONDS),
        PROVIDERS,
        settings.retention,
    )
    newest: Any = await redis.xrevrange(keyspace.captures, count=1)
    running = asyncio.create_task(pipeline.run())
    try:
        async with asyncio.timeout(30):
            while await redis.get(keyspace.cursor) != newest[0][0] and not running.done():  # noqa: ASYNC110 - the end is in Redis
                await asyncio.sleep(0.01)
    finally:
        pipeline.stop()
        await running
        await redis.aclose()
