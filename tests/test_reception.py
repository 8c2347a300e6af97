"""Receiving a body within its limits: in size, in time, and all bodies together."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from starlette.types import Message, Receive

from receiver.reception import Reception
from schemas.errors import BodyTooLarge, BodyTooSlow, Overloaded
from schemas.keyspace import Keyspace
from tests.service import (
    captures,
    clear,
    connection,
    document,
    everything,
    exchange,
    head,
    path,
    pour,
    problem,
    proof,
    read_answer,
    running_app,
)

KIB, MIB = 1024, 1024 * 1024
SCOPE: dict[str, Any] = {"headers": []}


def arriving(*chunks: bytes) -> Receive:
    """An ASGI `receive` that brings a body in these chunks."""
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False
    return of(messages)


def of(messages: Iterable[Message]) -> Receive:
    """An ASGI `receive` that brings these messages, then nothing ever."""
    left = iter(messages)

    async def receive() -> Message:
        for message in left:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def declaring(length: bytes) -> dict[str, Any]:
    """A scope whose request declares a length."""
    return {"headers": [(b"host", b"x"), (b"content-length", length)]}


async def receive_all(reception: Reception, receive: Receive, scope: dict[str, Any] = SCOPE) -> bytes:
    """The body, received and let go again."""
    with reception.admit(scope) as body:
        return await body.read(receive)


# --- alone ---


@pytest.mark.parametrize("chunks", [(b"",), (b"abc",), (b"a", b"", b"bc"), (b"", b"abc", b"")])
async def test_a_body_is_put_together_from_its_chunks(chunks: tuple[bytes, ...]) -> None:
    """In whatever pieces a body arrives, it is whole afterwards."""
    body = await receive_all(Reception(10, 10, 1.0), arriving(*chunks))

    assert body == b"".join(chunks)


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    """`max_body` is the largest size allowed, not the first refused."""
    assert await receive_all(Reception(4, 4, 1.0), arriving(b"ab", b"cd"), declaring(b"4")) == b"abcd"


async def test_one_byte_more_is_too_large_though_nothing_was_declared() -> None:
    """Bytes are counted while they come, whatever the request said before."""
    with pytest.raises(BodyTooLarge, match="max_body"):
        await receive_all(Reception(4, 10, 1.0), arriving(b"ab", b"cd", b"e"))


async def test_no_more_is_asked_for_once_it_is_too_much() -> None:
    """Reading ends with the chunk that goes over the limit."""
    asked = 0

    async def endless() -> Message:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 4, "more_body": True}

    with pytest.raises(BodyTooLarge):
        await receive_all(Reception(10, 100, 1.0), endless)
    assert asked == 3


@pytest.mark.parametrize("length", [b"11", b"1000000000000000000"])
def test_what_declares_itself_too_large_is_not_begun(length: bytes) -> None:
    """A declared length beyond the limit is refused before a byte is read."""
    with pytest.raises(BodyTooLarge):
        Reception(10, 100, 1.0).admit(declaring(length))


@pytest.mark.parametrize("length", [b"", b"-1", b"+1", b"1e9", b"0x10", b" 5", b"1" * 20, b"\xb2"])
async def test_a_length_that_is_no_number_declares_nothing(length: bytes) -> None:
    """A nonsensical Content-Length neither fails nor helps: what comes is counted."""
    reception = Reception(4, 10, 1.0)

    assert await receive_all(reception, arriving(b"abcd"), declaring(length)) == b"abcd"
    with pytest.raises(BodyTooLarge):
        await receive_all(reception, arriving(b"abcde"), declaring(length))


async def test_a_small_declaration_does_not_let_a_large_body_in() -> None:
    """Declaring one byte and sending more is caught by the counting."""
    with pytest.raises(BodyTooLarge):
        await receive_all(Reception(4, 10, 1.0), arriving(b"abcde"), declaring(b"1"))


async def test_a_body_that_stops_coming_is_too_slow() -> None:
    """The whole body has one deadline, however many pieces arrived in time."""
    piece: Message = {"type": "http.request", "body": b"a", "more_body": True}

    with pytest.raises(BodyTooSlow, match="body_timeout"):
        await receive_all(Reception(10, 10, 0.02), of([piece, piece]))


async def test_a_sender_that_goes_away_is_no_body() -> None:
    """A body cut short by its sender is not taken for a whole one."""
    piece: Message = {"type": "http.request", "body": b'{"a":1}', "more_body": True}

    with pytest.raises(BodyTooSlow, match="ended"):
        await receive_all(Reception(10, 10, 1.0), of([piece, {"type": "http.disconnect"}]))


async def test_all_bodies_together_have_a_limit() -> None:
    """While others hold the bytes, another body is refused as our trouble: at once if declared, else as it comes."""
    reception = Reception(8, 10, 1.0)
    with reception.admit(SCOPE) as first:
        await first.read(arriving(b"sixsix"))
        with pytest.raises(Overloaded, match="max_in_flight"):
            reception.admit(declaring(b"5"))
        with pytest.raises(Overloaded, match="max_in_flight"):
            await receive_all(reception, arriving(b"five5"))
        assert await receive_all(reception, arriving(b"four"), declaring(b"4")) == b"four"


async def test_bytes_are_given_back_however_a_request_ends() -> None:
    """After bodies that were too large, too slow, broken off or cancelled, all of the room is there again."""
    reception = Reception(6, 10, 0.02)
    piece: Message = {"type": "http.request", "body": b"sixsix", "more_body": True}
    with pytest.raises(BodyTooLarge):
        await receive_all(reception, of([piece, piece]))
    with pytest.raises(BodyTooSlow):
        await receive_all(reception, of([piece]))
    with pytest.raises(BodyTooSlow):
        await receive_all(reception, of([piece, {"type": "http.disconnect"}]))
    cancelled = asyncio.create_task(receive_all(Reception(6, 10, 60.0), of([piece])))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled

    with reception.admit(declaring(b"6")) as first, reception.admit(declaring(b"4")) as second:
        assert await first.read(arriving(b"sixsix")) == b"sixsix"
        assert await second.read(arriving(b"four")) == b"four"


# --- over HTTP ---


LIMITS = {"max_body": "64KiB", "max_in_flight": "100KiB", "body_timeout": "300ms"}


@pytest.fixture(scope="module")
def namespace() -> str:
    """One namespace for this module, since its tests share an application."""
    return f"t-{token_hex(6)}"


@pytest.fixture(scope="module")
async def server(redis_url: str, namespace: str) -> AsyncIterator[httpx.AsyncClient]:
    """An application with limits that a test reaches soon."""
    async with running_app(document(namespace, server=LIMITS), redis_url) as client:
        yield client


@pytest.fixture
async def client(server: httpx.AsyncClient, redis: Redis, keyspace: Keyspace) -> httpx.AsyncClient:
    """The application with nothing stored yet."""
    await clear(redis, keyspace)
    return server


async def test_a_body_of_max_body_is_captured(client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace) -> None:
    """The largest body allowed goes the whole way."""
    body = b"x" * 64 * KIB

    answer = await client.post(path("sinch"), content=body, headers=proof("sinch", body))

    assert answer.status_code == 200
    assert [entry[b"body"] for entry in await captures(redis, keyspace)] == [body]


async def test_a_chunked_body_is_captured_whole(client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace) -> None:
    """A body without a declared length is as good as any."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"id": '
        await asyncio.sleep(0.01)
        yield b'"two pieces"}'

    whole = b'{"id": "two pieces"}'
    answer = await client.post(path("sinch"), content=pieces(), headers=proof("sinch", whole))

    assert answer.status_code == 200
    assert [entry[b"body"] for entry in await captures(redis, keyspace)] == [whole]


async def test_a_declared_length_beyond_the_limit_is_413_before_it_comes(client: httpx.AsyncClient) -> None:
    """A sender that asks first (100-continue) hears 413 and is never told to go on."""
    request = head("POST", path("telnyx"), [], b"content-length: 65537", b"expect: 100-continue")

    answer = await exchange(client, request)

    assert problem(answer) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


async def test_a_chunked_body_beyond_the_limit_is_413(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """Without a declared length the limit holds as well, and nothing of the body stays."""
    piece = b"4000\r\n" + b"x" * 16 * KIB + b"\r\n"
    request = head("POST", path("telnyx"), [], b"transfer-encoding: chunked")

    answer = await exchange(client, request + piece * 5)

    assert problem(answer) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert await everything(redis, keyspace) == {}


def resident_bytes() -> int:
    """How much memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("target", [path("telnyx"), "/webhooks/telnyx/nobody", "/nothing"])
async def test_100_mb_chunked_cost_no_memory(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, target: str
) -> None:
    """Whoever pours 100 MB into any route is refused, nothing is stored, and our memory stays flat."""
    before = resident_bytes()

    async with connection(client) as (reader, writer):
        writer.write(head("POST", target, [], b"transfer-encoding: chunked"))
        pouring = asyncio.create_task(pour(writer, 100 * MIB))
        answer = await read_answer(reader)
        grown = resident_bytes() - before
        await pouring
        grown = max(grown, resident_bytes() - before)

    assert problem(answer)[0] == (413 if target == path("telnyx") else 404)
    assert grown < 8 * MIB
    assert await everything(redis, keyspace) == {}


async def test_the_default_limit_holds_a_100_mb_body_to_its_own_size(redis_url: str, keyspace: Keyspace) -> None:
    """With the limits as delivered, a request in the making costs no more than `max_body` of 16 MiB."""
    async with (
        running_app(document(keyspace.namespace), redis_url) as client,
        connection(client) as connected,
    ):
        reader, writer = connected
        tracemalloc.start()
        writer.write(head("POST", path("telnyx"), [], b"transfer-encoding: chunked"))
        sent, answer = await asyncio.gather(pour(writer, 100 * MIB), read_answer(reader))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert problem(answer) == (413, "body_too_large")
    assert sent == 100 * MIB  # passed over, so that the answer is not lost
    assert peak < 24 * MIB


@pytest.mark.parametrize("framing", [b"content-length: 10", b"transfer-encoding: chunked"])
async def test_a_slow_body_is_408(client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, framing: bytes) -> None:
    """A body that does not arrive within `body_timeout` is refused and its connection closed."""
    async with connection(client) as (reader, writer):
        writer.write(head("POST", path("telnyx"), [], framing) + b"2\r\n")
        answer = await read_answer(reader)
        rest = await reader.read()

    assert problem(answer) == (408, "body_too_slow")
    assert answer.headers["connection"] == "close"
    assert rest == b""
    assert await everything(redis, keyspace) == {}


async def test_a_dripping_body_is_408_all_the_same(client: httpx.AsyncClient) -> None:
    """A byte now and then does not prolong the deadline."""
    async with connection(client) as (reader, writer):
        writer.write(head("POST", path("telnyx"), [], b"content-length: 1000"))
        reading = asyncio.create_task(read_answer(reader))
        while not reading.done():
            writer.write(b"x")
            await asyncio.sleep(0.03)

    assert problem(await reading) == (408, "body_too_slow")


async def test_a_sender_that_hangs_up_leaves_nothing(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """A signed body that its sender breaks off is not stored, and the next request is served."""
    body = b'{"whole": true}'
    async with connection(client) as (_, writer):
        writer.write(head("POST", path("sinch"), proof("sinch", body), b"content-length: 100") + body)
        await writer.drain()

    answer = await client.post(path("sinch"), content=b"{}", headers=proof("sinch", b"{}"))

    assert answer.status_code == 200
    assert [entry[b"body"] for entry in await captures(redis, keyspace)] == [b"{}"]


LIES = {
    "both_framings": (b"content-length: 2", b"transfer-encoding: chunked"),
    "two_lengths": (b"content-length: 2", b"content-length: 3"),
    "negative": (b"content-length: -2",),
    "in_words": (b"content-length: two",),
    "beyond_64_bits": (b"content-length: 99999999999999999999999",),
}


@pytest.mark.parametrize("framing", LIES.values(), ids=LIES)
async def test_a_length_that_lies_is_no_request(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, framing: tuple[bytes, ...]
) -> None:
    """Framing that two readers might read differently is refused by the server itself; nothing is stored."""
    answer = await exchange(client, head("POST", path("sinch"), proof("sinch", b"{}"), *framing) + b"{}")

    assert answer.status == 400
    assert await everything(redis, keyspace) == {}


async def test_what_stands_beyond_the_declared_length_is_no_part_of_the_body(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """The declared two bytes are the callback; what follows is judged as a request of its own, and is none."""
    async with connection(client) as (reader, writer):
        writer.write(head("POST", path("sinch"), proof("sinch", b"{}"), b"content-length: 2") + b"{}")
        first = await read_answer(reader)
        writer.write(b"{}{}\r\n\r\n")
        second = await read_answer(reader)

    assert (first.status, second.status) == (200, 400)
    assert [entry[b"body"] for entry in await captures(redis, keyspace)] == [b"{}"]


async def test_a_length_too_short_makes_a_signature_wrong(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """Whoever cuts a signed body short by its length has no signed body any more."""
    body = b'{"pay": "12"}'
    answer = await exchange(client, head("POST", path("sinch"), proof("sinch", body), b"content-length: 12") + body)

    assert answer.status in {400, 401}
    assert await everything(redis, keyspace) == {}


async def test_too_many_bytes_in_flight_are_503(client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace) -> None:
    """While one request holds the room, the next is asked to come again; once it is done, there is room."""
    body = b"x" * 60 * KIB
    signed = proof("sinch", body)
    async with connection(client) as (reader, writer):
        writer.write(head("POST", path("sinch"), signed, b"content-length: 61440") + body[:-1])
        await writer.drain()
        await asyncio.sleep(0.05)
        refused = await client.post(path("sinch"), content=body, headers=signed)
        writer.write(body[-1:])
        first = await read_answer(reader)
    later = await client.post(path("sinch"), content=body, headers=signed)

    assert problem(refused) == (503, "overloaded")
    assert refused.headers["retry-after"] == "5"
    assert (first.status, later.status_code) == (200, 200)
    assert await redis.xlen(keyspace.captures) == 2
