"""`/v1` over real HTTP and a real Redis: who may ask, what is captured, what is refused and leaves nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import structlog
from redis.asyncio import Redis

from schemas.callback import AccountFacts, Capture
from schemas.ids import Scope
from schemas.keyspace import Keyspace
from schemas.wire import decode_capture
from tests.library import ANN, BEARER, BOB, TOKENS, Shelf, conversation, crash, providing, refuse, running_api
from tests.service import (
    LINE,
    NOW,
    captures,
    connection,
    document,
    exchange,
    head,
    listening,
    path,
    problem,
    proof,
    running_app,
)

OUTBOUND = "/v1/outbound/telnyx/main-telnyx"
SEND = {"id": "m1", "to": [ANN]}
ONE, OTHER = conversation("a", "direct", ANN), conversation("b", "direct", BOB)
GROUP = conversation("c", "group", ANN, BOB, merged=["cv_" + "d" * 26])
UNKNOWN = "cv_" + "z" * 26
ROUTES = [
    ("POST", OUTBOUND),
    ("POST", "/v1/links"),
    ("DELETE", "/v1/links"),
    ("GET", "/v1/conversations"),
    ("GET", f"/v1/conversations/{ONE['key']}"),
]
EVERY_ROUTE = pytest.mark.parametrize(("method", "target"), ROUTES)


@pytest.fixture
def shelf() -> Shelf:
    """Two direct conversations and a group."""
    return Shelf(ONE, OTHER, GROUP)


@pytest.fixture
async def client(
    redis_url: str, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch, shelf: Shelf
) -> AsyncIterator[httpx.AsyncClient]:
    """An application with two live tokens, and a client that presents the first."""
    async with running_api(keyspace.namespace, redis_url, monkeypatch, shelf) as running:
        yield running


async def kept(redis: Redis, keyspace: Keyspace) -> list[Capture]:
    """What the capture log holds, decoded as the pipeline does it."""
    return [decode_capture(fields) for fields in await captures(redis, keyspace)]


def key(keyspace: Keyspace, kind: str, *addresses: str) -> str:
    """The key of a conversation at Telnyx; the application's id_key is empty."""
    return Scope(b"", keyspace.namespace, "telnyx", "main-telnyx").conversation(kind, sorted(addresses))


# --- who may ask ---


@EVERY_ROUTE
async def test_without_tokens_there_is_no_v1(redis_url: str, keyspace: Keyspace, method: str, target: str) -> None:
    """Where server.api_tokens is empty, every route is 404 and says which setting opens it; a token helps nobody."""
    async with running_app(document(keyspace.namespace), redis_url) as closed:
        answer = await closed.request(method, target, headers=BEARER)

    assert problem(answer) == (404, "not_found")
    assert "server.api_tokens is empty" in answer.json()["detail"]


@EVERY_ROUTE
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer wrong",
        b"Bearer api-Lighthouse-on",
        "Bearer \u2126\u00e9".encode(),
        b"Bearer \xff\xfe",
        b"Basic YXBpOmFwaQ==",
    ],
)
async def test_nobody_else_may_ask(
    client: httpx.AsyncClient,
    redis: Redis,
    keyspace: Keyspace,
    *,
    method: str,
    target: str,
    authorization: bytes | None,
) -> None:
    """A missing, wrong or odd token is 401 with a challenge, on every route, and nothing is captured or looked up."""
    headers = [] if authorization is None else [(b"authorization", authorization)]
    body = orjson.dumps(SEND)

    answer = await exchange(client, head(method, target, headers, b"content-length: %d" % len(body)) + body)

    assert problem(answer) == (401, "unauthentic")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Lighthouse" not in repr(answer)
    assert await captures(redis, keyspace) == []


@pytest.mark.parametrize("token", TOKENS)
async def test_several_tokens_are_live(client: httpx.AsyncClient, token: str) -> None:
    """While one replaces another, both open /v1, and the metrics tell which is still in use."""
    which = f'credential="api_tokens[{TOKENS.index(token)}]"'

    answer = await client.post(OUTBOUND, json=SEND, headers={"authorization": f"bearer {token}"})
    metrics = await client.get("/metrics")

    assert answer.status_code == 200
    assert which in metrics.text
    assert token not in metrics.text


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("GET", OUTBOUND, "POST"),
        ("PUT", "/v1/links", "POST, DELETE"),
        ("POST", "/v1/conversations", "GET"),
        ("DELETE", f"/v1/conversations/{UNKNOWN}", "GET"),
    ],
)
async def test_another_method_is_not_allowed(client: httpx.AsyncClient, method: str, target: str, allowed: str) -> None:
    """What a route does not do is 405, and says what it does."""
    answer = await client.request(method, target)

    assert problem(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "target", ["/v1", "/v1/", "/v1/links/", "/v1/outbound/telnyx", f"{OUTBOUND}/token", "/v2/links"]
)
async def test_there_is_nothing_else_under_v1(client: httpx.AsyncClient, target: str) -> None:
    """A path that is none is 404."""
    assert problem(await client.post(target, json=SEND)) == (404, "not_found")


async def test_v1_is_on_the_admin_port(redis_url: str, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an admin port, /v1 answers there alone."""
    sockets = [listening(), listening()]
    public_port, admin_port = (each.getsockname()[1] for each in sockets)
    server = {"port": public_port, "admin_port": admin_port, "api_tokens": list(TOKENS)}
    async with (
        running_api(
            keyspace.namespace, redis_url, monkeypatch, Shelf(ONE), sockets=sockets, sections={"server": server}
        ) as public,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin_port}", headers=BEARER) as admin,
    ):
        hidden = [await public.request(method, target, json=SEND) for method, target in ROUTES]
        shown = [await admin.get(f"/v1/conversations/{ONE['key']}"), await admin.post(OUTBOUND, json=SEND)]

    assert [problem(answer) for answer in hidden] == [(404, "not_found")] * len(ROUTES)
    assert [answer.status_code for answer in shown] == [200, 200]


# --- sends of ours ---


async def test_a_send_is_captured_and_answered_with_its_conversations(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """The answer has the capture's id and a key for each recipient; the body is kept byte for byte, as `outbound`."""
    body = b'{"to" : ["+15555550112","+15555550111"],  "id":"m1"}'
    answer = await client.post(OUTBOUND, content=body, headers={"cookie": "tide=1", "x-trace": "a1"})
    [capture] = await kept(redis, keyspace)
    headers = dict(capture.headers)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "capture": capture.id,
        "conversations": [
            {"recipient": BOB, "key": key(keyspace, "pair", LINE, BOB)},
            {"recipient": ANN, "key": key(keyspace, "pair", LINE, ANN)},
        ],
    }
    assert (capture.kind, capture.provider, capture.account) == ("outbound", "telnyx", "main-telnyx")
    assert (capture.assurance, capture.received_at, capture.body) == ("shared_secret", NOW, body)
    assert capture.facts == AccountFacts(lines=(LINE,))
    assert headers[b"x-trace"] == b"a1"
    assert {b"authorization", b"cookie"}.isdisjoint(headers)


async def test_a_send_to_a_group_names_no_recipient(client: httpx.AsyncClient, keyspace: Keyspace) -> None:
    """A group is one conversation, of nobody in particular."""
    answer = await client.post(OUTBOUND, json={"response": {"id": "m1", "to": [ANN, BOB], "group": True}})

    assert answer.json()["conversations"] == [{"recipient": None, "key": key(keyspace, "set", LINE, ANN, BOB)}]


async def test_sends_and_callbacks_are_one_log(client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace) -> None:
    """What was answered first stands first, whichever route it came by."""
    body = b'{"id": "ev-1"}'
    for _ in range(2):
        await client.post(OUTBOUND, json=SEND)
        await client.post(path("whatsapp"), content=body, headers=proof("whatsapp", body))

    assert [capture.kind for capture in await kept(redis, keyspace)] == ["outbound", "callback"] * 2


async def test_one_bad_recipient_does_not_take_the_send_along(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """What can be read is answered; the rest becomes dead letters in the pipeline, as with callbacks."""
    answer = await client.post(OUTBOUND, json={"id": "m1", "to": [ANN, None]})

    assert answer.json()["conversations"] == [{"recipient": ANN, "key": key(keyspace, "pair", LINE, ANN)}]
    assert await redis.xlen(keyspace.captures) == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "$: not JSON"),
        (b"from=%2B15555550111", "$: not JSON"),
        (b"\xff\x00", "$: not JSON"),
        (b"[" * 20_000, "$: not JSON"),
        (b"{}", "$.id: missing"),
        (b'{"response": {"to": ["+15555550111"]}}', "$.response.id: missing"),
        (b'{"id": "m1"}', "$: nothing in it is a send"),
        (b'{"id": "m1", "to": [null, {}]}', "$.to[0]: missing"),
    ],
)
async def test_what_cannot_be_read_is_refused_and_not_captured(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, body: bytes, detail: str
) -> None:
    """Who registers a send is told at once where it cannot be read; the log holds nothing of it."""
    answer = await client.post(OUTBOUND, content=body)

    assert problem(answer) == (422, "unreadable")
    assert answer.json()["detail"].startswith(detail)
    assert "5555550111" not in answer.text
    assert await captures(redis, keyspace) == []


async def test_a_mistake_of_ours_is_never_the_senders(
    redis_url: str, redis: Redis, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that fails in a way nobody foresaw is a 503, says nothing of the content, and captures nothing."""
    async with running_api(keyspace.namespace, redis_url, monkeypatch, providers=providing(register=crash)) as failing:
        answer = await failing.post(OUTBOUND, json=SEND)

    assert problem(answer) == (503, "error")
    assert answer.headers["retry-after"] == "5"
    assert "5555" not in answer.text
    assert await captures(redis, keyspace) == []


@pytest.mark.parametrize(
    "target", ["/v1/outbound/telnyx/nobody", "/v1/outbound/sinch/main-telnyx", "/v1/outbound/pigeon/main-telnyx"]
)
async def test_an_unknown_account_is_not_found(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, target: str
) -> None:
    """No such account, or another provider's, is 404 before the body is looked at."""
    assert problem(await client.post(target, content=b"\xff")) == (404, "unknown_account")
    assert await captures(redis, keyspace) == []


# --- limits ---


async def test_a_body_has_the_limits_of_a_callback(
    redis_url: str, redis: Redis, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large is 413, declared or not, and too slow 408; each ends its connection and captures nothing."""
    server = {"api_tokens": list(TOKENS), "max_body": 1000, "max_in_flight": 1500, "body_timeout": "200ms"}
    token = (b"authorization", f"Bearer {TOKENS[0]}".encode())

    async def streamed() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 100

    async with running_api(keyspace.namespace, redis_url, monkeypatch, sections={"server": server}) as limited:
        declared = [await limited.request(method, target, content=b" " * 1001) for method, target in ROUTES[:3]]
        counted = await limited.post(OUTBOUND, content=streamed())
        slow = await exchange(limited, head("POST", OUTBOUND, [token], b"content-length: 10"))
        at_most = await limited.post(OUTBOUND, content=orjson.dumps(SEND).ljust(1000))

    assert [problem(answer) for answer in [*declared, counted]] == [(413, "body_too_large")] * 4
    assert problem(slow) == (408, "body_too_slow")
    assert slow.headers["connection"] == "close"
    assert at_most.status_code == 200
    assert await redis.xlen(keyspace.captures) == 1


async def test_sends_and_callbacks_share_what_may_be_in_flight(
    redis_url: str, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond server.max_in_flight a registration is asked for again, whoever fills it."""
    server = {"api_tokens": list(TOKENS), "max_body": 1000, "max_in_flight": 1000}
    async with (
        running_api(keyspace.namespace, redis_url, monkeypatch, sections={"server": server}) as limited,
        connection(limited) as (_, writer),
    ):
        writer.write(head("POST", path("telnyx"), [], b"content-length: 990") + b" " * 980)
        await asyncio.sleep(0.1)
        answer = await limited.post(OUTBOUND, json=SEND)

    assert problem(answer) == (503, "overloaded")
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(("method", "target"), ROUTES)
async def test_without_redis_everything_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, target: str
) -> None:
    """What cannot be stored or looked up is 503 with Retry-After, never a 4xx and never an empty answer."""
    asked: Any = {"one": ONE["key"], "other": OTHER["key"]} if target == "/v1/links" else SEND
    query = {"address": ANN} if target == "/v1/conversations" else {}
    async with running_api("t-nowhere", f"unix://{tmp_path}/none.sock", monkeypatch) as stranded:
        answer = await stranded.request(method, target, json=asked, params=query)

    assert problem(answer) == (503, "store_unavailable")
    assert answer.headers["retry-after"] == "5"


# --- links ---


@pytest.mark.parametrize(("method", "undone"), [("POST", {}), ("DELETE", {"undone": True})])
async def test_a_link_of_two_keys_is_captured(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, method: str, undone: dict[str, bool]
) -> None:
    """A person's word goes into the log under the first conversation's account, with a body of our own."""
    answer = await client.request(method, "/v1/links", json={"one": OTHER["key"], "other": ONE["key"]})
    [capture] = await kept(redis, keyspace)

    assert (answer.status_code, answer.json()) == (200, {"capture": capture.id})
    assert (capture.kind, capture.provider, capture.account) == ("link", "telnyx", "main-telnyx")
    assert orjson.loads(capture.body) == {"link": [ONE["key"], OTHER["key"]], **undone}
    assert (capture.assurance, capture.facts) == ("shared_secret", AccountFacts(lines=(LINE,)))
    assert b"authorization" not in dict(capture.headers)


@pytest.mark.parametrize(("method", "undone"), [("POST", {}), ("DELETE", {"undone": True})])
async def test_a_tie_of_two_addresses_is_captured(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, method: str, undone: dict[str, bool]
) -> None:
    """Two addresses of an account are one person's, in canonical form; nothing needs to be known of them yet."""
    asked = {"provider": "whatsapp", "account": "main-whatsapp", "one": "whatsapp:US.1", "other": "1 (555) 555-0111"}
    answer = await client.request(method, "/v1/links", json=asked)
    [capture] = await kept(redis, keyspace)

    assert answer.json() == {"capture": capture.id}
    assert (capture.kind, capture.provider, capture.account) == ("link", "whatsapp", "main-whatsapp")
    assert orjson.loads(capture.body) == {"tie": [ANN, "whatsapp:US.1"], **undone}


async def test_a_conversation_of_an_account_that_is_gone_can_be_linked(
    redis_url: str, redis: Redis, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversations outlive the configuration; the capture then has the facts of no setting."""
    gone = Shelf(conversation("a", account="pigeon/main-pigeon"), OTHER)
    async with running_api(keyspace.namespace, redis_url, monkeypatch, gone) as client:
        answer = await client.post("/v1/links", json={"one": ONE["key"], "other": OTHER["key"]})
    [capture] = await kept(redis, keyspace)

    assert answer.status_code == 200
    assert (capture.provider, capture.account, capture.facts) == ("pigeon", "main-pigeon", AccountFacts())


REFUSED = {
    "unknown": ({"one": ONE["key"], "other": UNKNOWN}, (422, "unknown_conversation")),
    "no_key": ({"one": "Ann", "other": ONE["key"]}, (422, "unknown_conversation")),
    "same": ({"one": ONE["key"], "other": ONE["key"]}, (422, "same_twice")),
    "direct_with_group": ({"one": ONE["key"], "other": GROUP["key"]}, (422, "kinds_differ")),
    "same_address": ({"account": "main-telnyx", "one": ANN, "other": "5555550111"}, (422, "same_twice")),
    "no_address": ({"account": "main-telnyx", "one": ANN, "other": "whatsapp:US.1"}, (422, "unreadable_address")),
    "no_account": ({"account": "nobody", "one": ANN, "other": BOB}, (404, "unknown_account")),
    "half": ({"one": ONE["key"]}, (422, "unreadable")),
    "no_object": ([ONE["key"], OTHER["key"]], (422, "unreadable")),
}


@pytest.mark.parametrize(("asked", "answered"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_linked_is_refused_and_not_captured(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, asked: Any, answered: tuple[int, str]
) -> None:
    """Each refusal has a reason of its own, and leaves nothing behind."""
    answer = await client.post("/v1/links", json=asked)

    assert problem(answer) == answered
    assert "5555550111" not in answer.text
    assert await captures(redis, keyspace) == []


async def test_taking_back_is_refused_to_no_kind(client: httpx.AsyncClient) -> None:
    """A link that could not be made may be taken back all the same: it never was, or should not be."""
    answer = await client.request("DELETE", "/v1/links", json={"one": ONE["key"], "other": GROUP["key"]})

    assert answer.status_code == 200


# --- looking up ---


@pytest.mark.parametrize("asked", [GROUP["key"], *GROUP["merged"]])
async def test_a_conversation_is_one_flat_object(client: httpx.AsyncClient, asked: str) -> None:
    """A key answers with all that is known of it; a merged one with its survivor."""
    answer = await client.get(f"/v1/conversations/{asked}")

    assert (answer.status_code, answer.json()) == (200, GROUP)
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("asked", [UNKNOWN, "cv_short", "ac_" + "a" * 26, "%2B15555550111", "%00", "\u00e9"])
async def test_a_key_that_was_never_heard_of_is_not_found(client: httpx.AsyncClient, shelf: Shelf, asked: str) -> None:
    """Nothing is invented for a key, and what cannot be one is not even looked up."""
    answer = await client.get(f"/v1/conversations/{asked}")

    assert problem(answer) == (404, "unknown_conversation")
    assert shelf.asked == ([("key", UNKNOWN)] if asked == UNKNOWN else [])


async def test_conversations_are_found_page_by_page(client: httpx.AsyncClient, shelf: Shelf) -> None:
    """A page has the cursor of the next one, the last has none."""
    asked = {"provider": "telnyx", "account": "main-telnyx", "id": "9d12"}
    first = await client.get("/v1/conversations", params=asked)
    second = await client.get("/v1/conversations", params={**asked, "after": first.json()["after"], "limit": "5"})

    assert first.json() == {"conversations": [ONE], "after": "c1"}
    assert second.json() == {"conversations": [OTHER, GROUP], "after": None}
    assert shelf.asked == [
        ("id", "telnyx", "main-telnyx", "9d12", "", 20),
        ("id", "telnyx", "main-telnyx", "9d12", "c1", 5),
    ]


@pytest.mark.parametrize(
    ("query", "question"),
    [
        ("address=%2B15555550111", (ANN, None, None)),
        ("address=+15555550111", (ANN, None, None)),
        ("provider=&account=&id=&address=Ann%40Example.com", ("ann@example.com", None, None)),
        ("address=5555550111&provider=telnyx", (ANN, "telnyx", None)),
        ("address=15555550111&account=main-sinch", (ANN, "sinch", "main-sinch")),
    ],
)
async def test_conversations_are_found_by_participant(
    client: httpx.AsyncClient, shelf: Shelf, query: str, question: tuple[Any, ...]
) -> None:
    """An address is brought into its form first, also where its plus was not encoded."""
    answer = await client.get(f"/v1/conversations?{query}")

    assert answer.status_code == 200
    assert shelf.asked == [("address", *question, "", 20)]


@pytest.mark.parametrize(
    ("query", "answered"),
    [
        ("", (400, "bad_request")),
        ("id=9d12", (400, "bad_request")),
        ("address=%2B15555550111&limit=101", (400, "bad_request")),
        ("adress=%2B15555550111", (400, "bad_request")),
        ("&".join(["address=%2B15555550111"] * 30), (400, "bad_request")),
        ("address=%ff", (400, "bad_request")),
        ("address=40404", (422, "unreadable_address")),
        ("address=%2B15555550111&account=nobody", (404, "unknown_account")),
    ],
)
async def test_a_question_that_is_none_says_so(
    client: httpx.AsyncClient, shelf: Shelf, query: str, answered: tuple[int, str]
) -> None:
    """What cannot be asked is refused with its reason, and nothing is looked up."""
    answer = await client.get(f"/v1/conversations?{query}")

    assert problem(answer) == answered
    assert "5555550111" not in answer.text
    assert shelf.asked == []


# --- discretion ---


async def test_a_log_line_names_the_route_and_no_content(
    redis_url: str, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch, shelf: Shelf
) -> None:
    """One line a request: its route as a pattern, what became of it and the capture's id; no key, number or token."""
    providers = {**providing(), "sinch": providing(register=refuse)["sinch"]}
    with structlog.testing.capture_logs() as lines:
        async with running_api(keyspace.namespace, redis_url, monkeypatch, shelf, providers=providers) as client:
            sent = await client.post(OUTBOUND, json=SEND)
            await client.post("/v1/outbound/sinch/main-sinch", json=SEND)
            await client.get("/v1/conversations?address=%2B15555550111")
            await client.request("PURGE", f"/v1/conversations/{ONE['key']}")
            await client.get("/v1/conversations", headers={"authorization": "Bearer wrong-Lighthouse"})

    assert [(line["method"], line["outcome"], line["capture"]) for line in lines] == [
        ("POST", "answered", sent.json()["capture"]),
        ("POST", "unreadable", None),
        ("GET", "answered", None),
        ("other", "method_not_allowed", None),
        ("GET", "unauthentic", None),
    ]
    assert {line["path"] for line in lines} == {
        "/v1/outbound/{provider}/{account}",
        "/v1/conversations",
        "/v1/conversations/{key}",
    }
    assert [text for text in ("5555", "Lighthouse", ONE["key"]) if text in repr(lines)] == []
