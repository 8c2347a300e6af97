"""The Python client against a real application over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import orjson
import pytest
from redis.asyncio import Redis

from receiver.client import Client, Conversation, Found, Refused, Unreachable
from receiver.registration import Registered
from schemas.address import Address
from schemas.errors import Overloaded, PartylineError, StoreError
from schemas.ids import Scope
from schemas.keyspace import Keyspace
from tests.library import ANN, BOB, TOKENS, Shelf, conversation, running_api
from tests.service import LINE, captures

ONE, OTHER = conversation("a", "direct", ANN), conversation("b", "direct", BOB)
GROUP = conversation(
    "c", "group", ANN, BOB, merged=["cv_" + "d" * 26], audience="au_" + "e" * 26, ids={"group": ["g1"]}
)


@pytest.fixture
async def server(
    redis_url: str, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """An application that knows three conversations."""
    async with running_api(keyspace.namespace, redis_url, monkeypatch, Shelf(ONE, OTHER, GROUP)) as running:
        yield running


@pytest.fixture
async def client(server: httpx.AsyncClient) -> AsyncIterator[Client]:
    """A client of it."""
    async with Client(str(server.base_url), TOKENS[0]) as talking:
        yield talking


# --- registering ---


@pytest.mark.parametrize("as_bytes", [False, True])
async def test_a_send_is_registered_as_it_came(
    client: Client, redis: Redis, keyspace: Keyspace, as_bytes: bool
) -> None:
    """A response goes unchanged, as decoded JSON or as the provider's very bytes; a key for each recipient comes."""
    response = b'{"id": "m1",  "to": ["+15555550111"]}'
    found = await client.register("telnyx", "main-telnyx", response if as_bytes else orjson.loads(response))
    [capture] = await captures(redis, keyspace)
    key = Scope(b"", keyspace.namespace, "telnyx", "main-telnyx").conversation("pair", sorted((LINE, ANN)))

    assert found == [Registered(ANN, key)]
    assert capture[b"kind"] == b"outbound"
    assert orjson.loads(capture[b"body"]) == orjson.loads(response)
    assert (capture[b"body"] == response) == as_bytes


async def test_a_request_goes_with_its_response(client: Client, redis: Redis, keyspace: Keyspace) -> None:
    """Where the response alone does not name the recipients, both are handed in."""
    await client.register("telnyx", "main-telnyx", {"id": "m1", "to": [ANN]}, b'{"text": "Noon?"}')
    [capture] = await captures(redis, keyspace)

    assert orjson.loads(capture[b"body"]) == {"response": {"id": "m1", "to": [ANN]}, "request": {"text": "Noon?"}}


# --- looking up and linking ---


async def test_a_conversation_is_a_value(client: Client) -> None:
    """All that the service tells is there, with its type, by a merged key as well."""
    assert await client.conversation(GROUP["merged"][0]) == Conversation(
        key="cv_" + "c" * 26,
        kind="group",
        participants=(ANN, BOB),
        lines=(Address(LINE),),
        audience="au_" + "e" * 26,
        provisional=False,
        account="telnyx/main-telnyx",
        sequence="0000000000000042",
        merged=("cv_" + "d" * 26,),
        ids={"group": ["g1"]},
    )


async def test_conversations_are_found_page_by_page(client: Client) -> None:
    """The cursor of a page leads to the next; the last one has none."""
    first = await client.find(id="9d12", account="main-telnyx", limit=1)
    second = await client.find(id="9d12", account="main-telnyx", after=first.after)
    by_address = await client.find(address=ANN)

    assert [shown.key for shown in first.conversations] == [ONE["key"]]
    assert [shown.key for shown in second.conversations] == [OTHER["key"], GROUP["key"]]
    assert (first.after, second.after) == ("c1", None)
    assert isinstance(by_address, Found)


async def test_links_are_made_and_taken_back(client: Client, redis: Redis, keyspace: Keyspace) -> None:
    """Keys by themselves, addresses within an account; each comes back as its capture's id."""
    identifiers = [
        await client.link(ONE["key"], OTHER["key"]),
        await client.unlink(ONE["key"], OTHER["key"]),
        await client.link(ANN, BOB, account="main-telnyx"),
        await client.unlink(BOB, ANN, account="main-telnyx"),
    ]
    kept = await captures(redis, keyspace)

    assert identifiers == [capture[b"id"].decode() for capture in kept]
    assert [orjson.loads(capture[b"body"]) for capture in kept] == [
        {"link": [ONE["key"], OTHER["key"]]},
        {"link": [ONE["key"], OTHER["key"]], "undone": True},
        {"tie": [ANN, BOB]},
        {"tie": [ANN, BOB], "undone": True},
    ]


# --- errors ---


REFUSED: dict[str, tuple[int, Callable[[Client], Awaitable[object]]]] = {
    "unknown_conversation": (404, lambda client: client.conversation("cv_" + "z" * 26)),
    "unknown_account": (404, lambda client: client.register("telnyx", "nobody", {})),
    "not_found": (404, lambda client: client.register("telnyx", "main/../../x", {})),
    "unreadable": (422, lambda client: client.register("telnyx", "main-telnyx", b"{")),
    "kinds_differ": (422, lambda client: client.link(ONE["key"], GROUP["key"])),
    "bad_request": (400, lambda client: client.find(id="a", address="b")),
}


@pytest.mark.parametrize("reason", REFUSED)
async def test_a_refusal_has_the_problems_reason(client: Client, reason: str) -> None:
    """What the service refuses is one error of our tree, with the status and reason that the README lists."""
    status, call = REFUSED[reason]
    with pytest.raises(Refused) as caught:
        await call(client)

    assert (caught.value.reason, caught.value.status) == (reason, status)
    assert isinstance(caught.value, PartylineError)
    assert Refused.reason == PartylineError.reason


async def test_a_wrong_token_is_a_refusal(server: httpx.AsyncClient) -> None:
    """The error says that it is the token, and not which."""
    async with Client(str(server.base_url), "wrong-Lighthouse") as stranger:
        with pytest.raises(Refused, match="api_tokens") as caught:
            await stranger.conversation(ONE["key"])

    assert (caught.value.reason, caught.value.status) == ("unauthentic", 401)
    assert "Lighthouse" not in str(caught.value)


async def test_what_is_worth_another_attempt_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis away and nobody there are told apart from refusals, since they pass."""
    async with running_api("t-nowhere", f"unix://{tmp_path}/none.sock", monkeypatch) as away:
        gone = str(away.base_url)
        async with Client(gone, TOKENS[0]) as client:
            with pytest.raises(StoreError) as stranded:
                await client.conversation(ONE["key"])
    async with Client(gone, TOKENS[0], timeout_seconds=1) as client:
        with pytest.raises(Unreachable, match="nothing answers"):
            await client.conversation(ONE["key"])

    assert type(stranded.value) is StoreError


CROWDED = b'{"reason": "overloaded", "detail": "more request bytes in flight"}'


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", Refused),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", Refused),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", StoreError),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: %d\r\n\r\n%s" % (len(CROWDED), CROWDED), Overloaded),
        (b"SSH-2.0-Harbour\r\n", Unreachable),
        (b"", Unreachable),
    ],
)
async def test_an_answer_of_somebody_else_is_told_in_a_sentence(answer: bytes, error: type[PartylineError]) -> None:
    """A base URL that leads elsewhere, or a proxy in between, is an error of our tree like any other."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as somebody:
        port = somebody.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", TOKENS[0]) as client:
            with pytest.raises(PartylineError) as caught:
                await client.conversation(ONE["key"])

    assert type(caught.value) is error
