"""The webhook routes over real HTTP and a real Redis: what is captured, what is refused, and what neither leaves."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from os import kill
from pathlib import Path
from secrets import token_hex
from typing import Any, NoReturn
from urllib.parse import urlencode

import httpx
import msgspec
import orjson
import pytest
from redis.asyncio import Redis

from correlator.redis_client import connect
from receiver.captures import QUARANTINE_BYTES
from receiver.embedded import EmbeddedRedis
from receiver.providers import PROVIDERS
from receiver.schemes import Signed
from schemas.callback import Capture
from schemas.keyspace import Keyspace
from tests.service import (
    ACCOUNTS,
    BASIC,
    LINE,
    NOW,
    SECRETS,
    URL_TOKENS,
    VERIFY_TOKENS,
    basic,
    captures,
    clear,
    connection,
    document,
    entries,
    events,
    everything,
    exchange,
    head,
    path,
    problem,
    proof,
    read_answer,
    running_app,
    work_off,
)

BODY = b'{"greeting": "caf\xc3\xa9", "spaced" : [1,  2]}'
#: Would cost a parser its stack, and is no JSON either: whoever parses it before the proof gives himself away.
HOSTILE = b'{"a":' * 5_000 + b"\xff\x00"
#: What the capture of an account with one line and nothing else set says of it.
FACTS = {"lines": [LINE], "dedupe_seconds": 691_200, "copy_window_seconds": 10.0}
EVERY_PROVIDER = pytest.mark.parametrize("provider", sorted(PROVIDERS))


def explode(_: Capture) -> NoReturn:
    """A parser that must never be reached."""
    raise AssertionError("parsed inside the request")


NEVER_PARSING = {name: msgspec.structs.replace(value, parse=explode) for name, value in PROVIDERS.items()}


@pytest.fixture(scope="module")
def shared() -> Keyspace:
    """The namespace of the application that most tests here share."""
    return Keyspace(f"t-{token_hex(6)}")


@pytest.fixture(scope="module")
async def server(redis_url: str, shared: Keyspace) -> AsyncIterator[httpx.AsyncClient]:
    """An application with the four accounts, whose providers explode when asked to parse."""
    async with running_app(document(shared.namespace), redis_url, providers=NEVER_PARSING) as client:
        yield client


@pytest.fixture
async def client(server: httpx.AsyncClient, redis: Redis, shared: Keyspace) -> httpx.AsyncClient:
    """The shared application with nothing stored yet."""
    await clear(redis, shared)
    return server


async def post(client: httpx.AsyncClient, provider: str, body: bytes = BODY, secret: str | None = None) -> int:
    """The status of a properly proved callback."""
    answer = await client.post(path(provider), content=body, headers=proof(provider, body, secret))
    return answer.status_code


# --- captured ---


@EVERY_PROVIDER
async def test_an_authentic_callback_is_answered_captured(client: httpx.AsyncClient, provider: str) -> None:
    """What its provider proves is answered 200 with the contract's very bytes."""
    answer = await client.post(path(provider), content=BODY, headers=proof(provider, BODY))

    assert (answer.status_code, answer.content) == (200, b'{"status":"captured"}')
    assert answer.headers["content-type"] == "application/json"


@EVERY_PROVIDER
@pytest.mark.parametrize("which", [0, 1])
async def test_both_credentials_are_live_while_one_replaces_the_other(
    client: httpx.AsyncClient, provider: str, which: int
) -> None:
    """At rotation the old and the new credential both prove a callback."""
    assert await post(client, provider, secret=SECRETS[provider][which]) == 200


async def test_an_entry_of_the_log_holds_exactly_the_contracts_fields(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace
) -> None:
    """A capture holds its id, where it came from, when, what proved it, headers, facts and body; nothing else."""
    request = head("POST", path("whatsapp"), proof("whatsapp", BODY), b"X-Trace: a1", b"content-length: 41")
    await exchange(client, request + BODY)

    [entry] = await captures(redis, shared)
    identifier = entry.pop(b"id")
    assert identifier.startswith(b"cp_")
    assert len(identifier) == 35
    assert orjson.loads(entry.pop(b"facts")) == FACTS
    assert orjson.loads(entry.pop(b"headers")) == [
        ["host", "hooks.example.com"],
        ["x-hub-signature-256", proof("whatsapp", BODY)[0][1].decode()],
        ["x-trace", "a1"],
        ["content-length", "41"],
    ]
    assert entry == {
        b"provider": b"whatsapp",
        b"account": b"main-whatsapp",
        b"kind": b"callback",
        b"received_at": b"2026-11-21T12:00:00.000Z",
        b"assurance": b"signed",
        b"body": BODY,
    }


async def test_what_decides_later_is_copied_into_the_capture(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """Every setting that a decision needs stands in the capture, so that a replay decides alike."""
    account = {**ACCOUNTS["main-telnyx"], "strict_groups": True}
    configuration = document(
        keyspace.namespace,
        accounts={"main-telnyx": account, "main-sinch": ACCOUNTS["main-sinch"]},
        retention={"dedupe": "9d"},
        correlation={"copy_window": "3s"},
    )

    async with running_app(configuration, redis_url) as client:
        await post(client, "telnyx")
        await post(client, "sinch")

    common = {"lines": [LINE], "dedupe_seconds": 777_600, "copy_window_seconds": 3.0}
    assert [orjson.loads(entry[b"facts"]) for entry in await captures(redis, keyspace)] == [
        {**common, "strict_groups": True},
        {**common, "default_line": LINE},
    ]


async def test_headers_beyond_ascii_survive(client: httpx.AsyncClient, redis: Redis, shared: Keyspace) -> None:
    """A header with Latin-1 bytes is no reason to fail, and every byte of it is kept."""
    request = head("POST", path("sinch"), proof("sinch", b"{}"), b"x-name: J\xfcrgen \xff\x80", b"content-length: 2")

    answer = await exchange(client, request + b"{}")

    assert answer.status == 200
    [entry] = await captures(redis, shared)
    assert ["x-name", "J\u00fcrgen \u00ff\u0080"] in orjson.loads(entry[b"headers"])


async def test_a_header_that_stands_twice_is_kept_twice(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace
) -> None:
    """No header is lost to another of its name; both stay, in order."""
    request = head("POST", path("sinch"), proof("sinch", b"{}"), b"via: one", b"via: two", b"content-length: 2")
    await exchange(client, request + b"{}")

    [entry] = await captures(redis, shared)

    assert [value for name, value in orjson.loads(entry[b"headers"]) if name == "via"] == ["one", "two"]


ODD_BODIES = {
    "empty": b"",
    "truncated": b'{"data": {"id": "1',
    "no_json": b"from=%2B15555550111&text=hi",
    "not_utf_8": b'{"data": "\xff\xfe\x00"}',
    "deeply_nested": b"[" * 20_000,
    "lone_surrogate": b'{"data": "\\ud83d"}',
    "a_number": b"17",
}


@EVERY_PROVIDER
@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
async def test_an_authentic_body_is_kept_byte_for_byte_whatever_it_is(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace, provider: str, body: bytes
) -> None:
    """What we cannot parse is our trouble: the provider gets its 200, and the log the very bytes."""
    assert await post(client, provider, body) == 200

    [entry] = await captures(redis, shared)
    assert entry[b"body"] == body


async def test_an_authentic_body_that_cannot_be_parsed_becomes_a_dead_letter(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """Authentic callbacks never vanish: each unreadable one stands among the dead letters under its capture's id."""
    configuration = document(keyspace.namespace)
    unreadable = [ODD_BODIES[name] for name in ("empty", "truncated", "no_json", "not_utf_8", "deeply_nested")]
    async with running_app(configuration, redis_url) as client:
        for provider in PROVIDERS:
            for body in unreadable:
                await post(client, provider, body)

    await work_off(configuration, redis_url)

    letters = await entries(redis, keyspace.dead)
    assert [letter[b"capture"] for letter in letters] == [entry[b"id"] for entry in await captures(redis, keyspace)]
    assert {letter[b"reason"] for letter in letters} == {b"unreadable"}
    assert await redis.xlen(keyspace.events) == 0


class Proof(msgspec.Struct, frozen=True):
    """A right request, and what its capture must say proved it."""

    provider: str
    assurance: bytes
    headers: Signed
    token: str | None = None


PROOFS = {
    "telnyx_signature": Proof("telnyx", b"signed", proof("telnyx", BODY)),
    "sendblue_secret": Proof("sendblue", b"shared_secret", proof("sendblue", BODY)),
    "sendblue_url_token": Proof("sendblue", b"url_token", [], URL_TOKENS["sendblue"][0]),
    "sendblue_second_url_token": Proof("sendblue", b"url_token", [], URL_TOKENS["sendblue"][1]),
    "sendblue_both": Proof("sendblue", b"shared_secret", proof("sendblue", BODY), URL_TOKENS["sendblue"][0]),
    "sinch_signature": Proof("sinch", b"signed", proof("sinch", BODY)),
    "sinch_basic": Proof("sinch", b"basic_auth", basic(BASIC[0])),
    "sinch_second_basic": Proof("sinch", b"basic_auth", basic(BASIC[1])),
    "sinch_url_token": Proof("sinch", b"url_token", [], URL_TOKENS["sinch"][0]),
    "sinch_all": Proof("sinch", b"signed", [*proof("sinch", BODY), *basic(BASIC[0])], URL_TOKENS["sinch"][1]),
    "whatsapp_signature": Proof("whatsapp", b"signed", proof("whatsapp", BODY)),
}


@pytest.mark.parametrize("proved", PROOFS.values(), ids=PROOFS)
async def test_the_capture_says_what_proved_it(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace, proved: Proof
) -> None:
    """Each documented proof suffices, and the strongest one presented is what the capture names."""
    answer = await client.post(path(proved.provider, proved.token), content=BODY, headers=proved.headers)

    assert answer.status_code == 200
    assert [entry[b"assurance"] for entry in await captures(redis, shared)] == [proved.assurance]


async def test_an_account_without_proof_takes_anything_and_says_so(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """`unsafe_no_auth` captures what nobody proved, marked as such."""
    account = {"provider": "sinch", "unsafe_no_auth": True}
    async with running_app(document(keyspace.namespace, accounts={"open": account}), redis_url) as client:
        answer = await client.post("/webhooks/sinch/open", content=BODY)

    assert answer.status_code == 200
    assert [entry[b"assurance"] for entry in await captures(redis, keyspace)] == [b"none"]


async def test_no_credential_is_ever_stored(client: httpx.AsyncClient, redis: Redis, shared: Keyspace) -> None:
    """Secrets in headers, credentials of proxies and the URL's token, wherever a proxy repeats it, stay out."""
    token = URL_TOKENS["sinch"][0]
    repeated = path("sinch", token).encode()
    headers = [
        *proof("sinch", BODY),
        *basic(BASIC[0]),
        (b"cookie", b"session=cookie-Ghost"),
        (b"proxy-authorization", b"Basic proxy-Ghost"),
        (b"x-original-uri", repeated),
        (b"x-forwarded-uri", repeated + b"?attempt=2"),
        (b"referer", b"https://hooks.example.com" + repeated),
        (b"x-kept", b"yes"),
    ]
    assert (await client.post(path("sinch", token), content=BODY, headers=headers)).status_code == 200
    assert await post(client, "sendblue") == 200

    stored = repr(await everything(redis, shared)).encode()

    ghosts = [
        token.encode(),
        b"Ghost",
        basic(BASIC[0])[0][1],
        BASIC[0].encode(),
        SECRETS["sendblue"][0].encode(),
    ]
    assert [ghost for ghost in ghosts if ghost in stored] == []
    assert b"x-kept" in stored


# --- many at once ---


async def evalsha_calls(redis: Redis) -> int:
    """How many scripts the server has run so far."""
    statistics = await redis.info("commandstats")
    return sum(int(statistics.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("eval", "evalsha"))


async def test_64_concurrent_callbacks_take_fewer_writes_than_callbacks(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace
) -> None:
    """Every one of 64 concurrent callbacks is in the log once, and their writes went out together."""
    bodies = [b'{"number": %d}' % number for number in range(64)]
    assert await post(client, "whatsapp", b"{}") == 200  # the script is loaded
    before = await evalsha_calls(redis)

    statuses = await asyncio.gather(*(post(client, "whatsapp", body) for body in bodies))

    calls = await evalsha_calls(redis) - before
    _, *new = await captures(redis, shared)
    assert statuses == [200] * 64
    assert sorted(entry[b"body"] for entry in new) == sorted(bodies)
    assert len({entry[b"id"] for entry in new}) == 64
    assert 0 < calls < 64


async def test_the_log_is_in_the_order_of_the_answers(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace
) -> None:
    """Callbacks sent back to back on one connection are answered and logged in that order."""
    bodies = [b'{"at": %03d}' % number for number in range(50)]
    requests = [head("POST", path("sendblue"), proof("sendblue", b""), b"content-length: 11") for _ in bodies]

    async with connection(client) as (reader, writer):
        writer.write(b"".join(request + body for request, body in zip(requests, bodies, strict=True)))
        answers = [await read_answer(reader) for _ in bodies]

    assert {answer.status for answer in answers} == {200}
    assert [entry[b"body"] for entry in await captures(redis, shared)] == bodies


async def test_one_callback_sent_ten_times_at_once_is_one_event_of_its_account(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """Redeliveries are each answered 200 and captured; each account publishes the fact once."""
    message = {
        "direction": "inbound",
        "type": "SMS",
        "id": "b0a7-message",
        "from": {"phone_number": "+15555550111"},
        "to": [{"phone_number": LINE}],
        "text": "Is the ferry running?",
        "media": [],
    }
    data = {"record_type": "event", "event_type": "message.received", "id": "b0a7", "payload": message}
    body = orjson.dumps({"data": {**data, "occurred_at": "2026-11-21T11:59:59.000Z"}})
    accounts = {"one": ACCOUNTS["main-telnyx"], "two": ACCOUNTS["main-telnyx"]}
    configuration = document(keyspace.namespace, accounts=accounts)
    async with running_app(configuration, redis_url) as client:
        posts = (
            client.post(f"/webhooks/telnyx/{name}", content=body, headers=proof("telnyx", body))
            for name in ["one", "two"] * 10
        )
        answers = await asyncio.gather(*posts)

    await work_off(configuration, redis_url)

    assert [answer.status_code for answer in answers] == [200] * 20
    assert await redis.xlen(keyspace.captures) == 20
    assert sorted(event["id"] for event in await events(redis, keyspace)) == ["telnyx:one:b0a7", "telnyx:two:b0a7"]


# --- not ours, or not so ---

VALID = proof("telnyx", BODY)
NO_SUCH: dict[str, tuple[str, str, str]] = {
    "account": ("POST", "/webhooks/telnyx/nobody", "unknown_account"),
    "account_with_token": ("POST", "/webhooks/telnyx/nobody/Buoy_sinch_token-71", "unknown_account"),
    "account_of_another_provider": ("POST", "/webhooks/sinch/main-telnyx", "unknown_account"),
    "provider": ("POST", "/webhooks/pigeon/main-telnyx", "unknown_account"),
    "handshake_of_an_unknown_account": ("GET", "/webhooks/whatsapp/nobody", "unknown_account"),
    "upper_case": ("POST", "/webhooks/telnyx/MAIN-TELNYX", "unknown_account"),
    "odd_bytes": ("POST", "/webhooks/telnyx/%ff%00", "unknown_account"),
    "path": ("POST", "/nothing/here", "not_found"),
    "no_account": ("POST", "/webhooks/telnyx", "not_found"),
    "trailing_slash": ("POST", "/webhooks/telnyx/main-telnyx/", "not_found"),
    "too_deep": ("POST", "/webhooks/telnyx/main-telnyx/a/b", "not_found"),
    "root": ("GET", "/", "not_found"),
}


@pytest.mark.parametrize("asked", NO_SUCH.values(), ids=NO_SUCH)
async def test_what_is_not_there_is_404(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace, asked: tuple[str, str, str]
) -> None:
    """An account or path that is not there is a 404 problem, however well the request is signed."""
    method, target, reason = asked

    answer = await client.request(method, target, content=BODY, headers=VALID)

    assert problem(answer) == (404, reason)
    assert await everything(redis, shared) == {}


async def test_an_unknown_account_is_refused_before_its_body_comes(client: httpx.AsyncClient) -> None:
    """Nobody waits for the body of a request that goes nowhere."""
    answer = await exchange(client, head("POST", "/webhooks/telnyx/nobody", VALID, b"content-length: 16000000"))

    assert problem(answer) == (404, "unknown_account")


WRONG_METHODS: dict[str, tuple[str, str, str]] = {
    "get_telnyx": ("GET", "telnyx", "POST"),
    "get_sendblue": ("GET", "sendblue", "POST"),
    "get_sinch": ("GET", "sinch", "POST"),
    "put": ("PUT", "telnyx", "POST"),
    "delete": ("DELETE", "sinch", "POST"),
    "patch_whatsapp": ("PATCH", "whatsapp", "GET, POST"),
    "options_whatsapp": ("OPTIONS", "whatsapp", "GET, POST"),
}


@pytest.mark.parametrize("asked", WRONG_METHODS.values(), ids=WRONG_METHODS)
async def test_a_wrong_method_is_405_and_told_which_are_right(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace, asked: tuple[str, str, str]
) -> None:
    """405 names the methods there are; only WhatsApp has a handshake, so only there GET is one."""
    method, provider, allow = asked
    challenge = urlencode({"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKENS[0], "hub.challenge": "1"})

    answer = await client.request(method, f"{path(provider)}?{challenge}", headers=proof(provider, b""))

    assert problem(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allow
    assert await everything(redis, shared) == {}


async def test_head_is_405_without_a_body(client: httpx.AsyncClient) -> None:
    """HEAD is refused like any other method, and as HTTP wants it, with the head alone."""
    answer = await client.head(path("telnyx"))

    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")


# --- unauthentic ---


class Forgery(msgspec.Struct, frozen=True):
    """A request that does not prove its provider, and the reason given."""

    provider: str
    reason: str
    headers: Signed
    token: str | None = None
    body: bytes = HOSTILE


def swapped(headers: Signed, name: bytes, value: bytes) -> Signed:
    """The headers with one value replaced."""
    return [(key, value if key == name else old) for key, old in headers]


def without(headers: Signed, name: bytes) -> Signed:
    """The headers without one."""
    return [header for header in headers if header[0] != name]


def aged(seconds: int) -> Signed:
    """A Telnyx signature of `seconds` ago, right in itself."""
    return proof("telnyx", HOSTILE, now=NOW - timedelta(seconds=seconds))


TELNYX, SENDBLUE, SINCH, WHATSAPP = (proof(name, HOSTILE) for name in ("telnyx", "sendblue", "sinch", "whatsapp"))
ED25519, AT = b"telnyx-signature-ed25519", b"telnyx-timestamp"
SINCH_SIGNATURE, ALGORITHM = b"x-sinch-webhook-signature", b"x-sinch-webhook-signature-algorithm"
HUB, SB = b"x-hub-signature-256", b"sb-signing-secret"

FORGERIES = {
    "telnyx_unsigned": Forgery("telnyx", "signature_missing", []),
    "telnyx_strangers_key": Forgery("telnyx", "signature_mismatch", proof("telnyx", HOSTILE, SECRETS["telnyx"][2])),
    "telnyx_body_changed": Forgery("telnyx", "signature_mismatch", TELNYX, body=HOSTILE + b" "),
    "telnyx_stale": Forgery("telnyx", "timestamp_outside_tolerance", aged(301)),
    "telnyx_from_the_future": Forgery("telnyx", "timestamp_outside_tolerance", aged(-301)),
    "telnyx_time_refreshed": Forgery("telnyx", "signature_mismatch", swapped(aged(301), AT, TELNYX[1][1])),
    "telnyx_no_time": Forgery("telnyx", "signature_missing", without(TELNYX, AT)),
    "telnyx_time_alone": Forgery("telnyx", "signature_missing", without(TELNYX, ED25519)),
    "telnyx_time_in_words": Forgery("telnyx", "signature_malformed", swapped(TELNYX, AT, b"noon")),
    "telnyx_time_signed": Forgery("telnyx", "signature_malformed", swapped(TELNYX, AT, b"+" + TELNYX[1][1])),
    "telnyx_hexadecimal": Forgery("telnyx", "signature_malformed", swapped(TELNYX, ED25519, b"ab" * 64)),
    "telnyx_empty": Forgery("telnyx", "signature_malformed", swapped(TELNYX, ED25519, b"")),
    "telnyx_two_that_differ": Forgery("telnyx", "signature_malformed", [*TELNYX, (AT, b"1")]),
    "telnyx_url_token": Forgery("telnyx", "signature_missing", [], token=URL_TOKENS["sinch"][0]),
    "telnyx_others_proof": Forgery("telnyx", "signature_missing", WHATSAPP),
    "sendblue_unsigned": Forgery("sendblue", "signature_missing", []),
    "sendblue_wrong": Forgery("sendblue", "signature_mismatch", [(SB, SECRETS["sendblue"][2].encode())]),
    "sendblue_prefix": Forgery("sendblue", "signature_mismatch", [(SB, SENDBLUE[0][1][:-1])]),
    "sendblue_empty": Forgery("sendblue", "signature_malformed", [(SB, b"")]),
    "sendblue_two_that_differ": Forgery("sendblue", "signature_malformed", [*SENDBLUE, (SB, b"x")]),
    "sendblue_sinchs_secret": Forgery("sendblue", "signature_mismatch", [(SB, SECRETS["sinch"][0].encode())]),
    "sendblue_wrong_token": Forgery("sendblue", "signature_mismatch", [], token="Buoy_sendblue_token-6"),
    "sendblue_sinchs_token": Forgery("sendblue", "signature_mismatch", [], token=URL_TOKENS["sinch"][0]),
    "sendblue_secret_as_token": Forgery("sendblue", "signature_mismatch", [], token=SECRETS["sendblue"][0]),
    "sendblue_right_and_wrong": Forgery("sendblue", "signature_mismatch", SENDBLUE, token="Buoy_wrong_token-99"),
    "sinch_unsigned": Forgery("sinch", "signature_missing", []),
    "sinch_wrong": Forgery("sinch", "signature_mismatch", proof("sinch", HOSTILE, SECRETS["sinch"][2])),
    "sinch_body_changed": Forgery("sinch", "signature_mismatch", SINCH, body=b"{}"),
    "sinch_no_nonce": Forgery("sinch", "signature_missing", without(SINCH, SINCH_SIGNATURE + b"-nonce")),
    "sinch_other_nonce": Forgery(
        "sinch", "signature_mismatch", swapped(SINCH, SINCH_SIGNATURE + b"-nonce", b"01K5OTHER")
    ),
    "sinch_weaker_algorithm": Forgery("sinch", "signature_malformed", swapped(SINCH, ALGORITHM, b"HmacSHA1")),
    "sinch_wrong_password": Forgery("sinch", "signature_mismatch", basic("ferryman:wrong")),
    "sinch_password_unreadable": Forgery("sinch", "signature_malformed", [(b"authorization", b"Basic %%%")]),
    "sinch_bearer": Forgery("sinch", "signature_missing", [(b"authorization", b"Bearer sinch-Mole-21")]),
    "sinch_token_and_bad_signature": Forgery(
        "sinch",
        "signature_mismatch",
        proof("sinch", HOSTILE, SECRETS["sinch"][2]),
        token=URL_TOKENS["sinch"][0],
    ),
    "whatsapp_unsigned": Forgery("whatsapp", "signature_missing", []),
    "whatsapp_wrong": Forgery("whatsapp", "signature_mismatch", proof("whatsapp", HOSTILE, SECRETS["whatsapp"][2])),
    "whatsapp_body_changed": Forgery("whatsapp", "signature_mismatch", WHATSAPP, body=HOSTILE[:-1]),
    "whatsapp_sha1_alone": Forgery("whatsapp", "signature_missing", [(b"x-hub-signature", b"sha1=" + b"a" * 40)]),
    "whatsapp_no_prefix": Forgery("whatsapp", "signature_malformed", [(HUB, WHATSAPP[0][1][7:])]),
    "whatsapp_too_short": Forgery("whatsapp", "signature_malformed", [(HUB, WHATSAPP[0][1][:-2])]),
    "whatsapp_empty": Forgery("whatsapp", "signature_malformed", [(HUB, b"")]),
    "whatsapp_latin_1": Forgery("whatsapp", "signature_malformed", [(HUB, b"sha256=\xe9" + b"a" * 63)]),
    "whatsapp_keyed_by_the_verify_token": Forgery(
        "whatsapp", "signature_mismatch", proof("whatsapp", HOSTILE, VERIFY_TOKENS[0])
    ),
}


def send(client: httpx.AsyncClient, forgery: Forgery) -> Awaitable[httpx.Response]:
    """Post a forgery."""
    return client.post(path(forgery.provider, forgery.token), content=forgery.body, headers=forgery.headers)


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
async def test_an_unauthentic_request_is_401_and_leaves_nothing(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace, forgery: Forgery
) -> None:
    """What does not prove its provider is refused with its reason; nothing is parsed, and no key is written."""
    answer = await send(client, forgery)

    assert problem(answer) == (401, forgery.reason)
    assert await everything(redis, shared) == {}


async def test_a_signature_without_a_secret_to_check_it_is_no_proof(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """An account that has URL tokens alone refuses a request that is signed as well: it cannot check that."""
    account = {"provider": "sinch", "url_tokens": URL_TOKENS["sinch"]}
    async with running_app(document(keyspace.namespace, accounts={"main-sinch": account}), redis_url) as client:
        target = path("sinch", URL_TOKENS["sinch"][0])
        signed = await client.post(target, content=BODY, headers=proof("sinch", BODY))
        plain = await client.post(target, content=BODY)

    assert problem(signed) == (401, "signature_mismatch")
    assert plain.status_code == 200
    assert await redis.xlen(keyspace.captures) == 1


@EVERY_PROVIDER
async def test_the_credential_of_another_account_proves_nothing(
    redis_url: str, redis: Redis, keyspace: Keyspace, provider: str
) -> None:
    """Two accounts of one provider do not open each other's door."""
    main = ACCOUNTS[f"main-{provider}"]
    setting = next(
        iter(main.keys() - {"provider", "lines", "url_tokens", "basic_auth", "default_line", "verify_tokens"})
    )
    accounts = {name: {"provider": provider, setting: [main[setting][at]]} for at, name in enumerate(("one", "two"))}
    async with running_app(document(keyspace.namespace, accounts=accounts), redis_url) as client:
        headers = proof(provider, BODY, SECRETS[provider][1])
        wrong = await client.post(f"/webhooks/{provider}/one", content=BODY, headers=headers)
        right = await client.post(f"/webhooks/{provider}/two", content=BODY, headers=headers)

    assert problem(wrong) == (401, "signature_mismatch")
    assert right.status_code == 200
    assert [entry[b"account"] for entry in await captures(redis, keyspace)] == [b"two"]


async def commands_for(redis: Redis, work: Callable[[], Awaitable[Any]]) -> int:
    """How many commands Redis ran during some work, our own two questions aside."""
    before = int((await redis.info("stats"))["total_commands_processed"])
    await work()
    return int((await redis.info("stats"))["total_commands_processed"]) - before - 1


async def test_a_forged_request_touches_nothing_but_the_verifier(client: httpx.AsyncClient, redis: Redis) -> None:
    """No look-up, no de-duplication, no counting: Redis does not hear of a forgery, and does of the real thing."""

    async def forge() -> None:
        for forgery in FORGERIES.values():
            await send(client, forgery)

    assert await commands_for(redis, forge) == 0
    assert await commands_for(redis, lambda: post(client, "sinch")) > 0


async def test_senders_that_wait_for_a_challenge_get_one(client: httpx.AsyncClient) -> None:
    """401 of an account with basic credentials carries the challenge, and no other account's does."""
    sinch, telnyx = await client.post(path("sinch")), await client.post(path("telnyx"))

    assert sinch.headers["www-authenticate"] == 'Basic realm="partyline"'
    assert "www-authenticate" not in telnyx.headers


# --- what else may become of an unauthentic request ---


def accounts_that(policy: str) -> dict[str, Any]:
    """The four accounts with another `on_unauthentic`."""
    return {name: {**account, "on_unauthentic": policy} for name, account in ACCOUNTS.items()}


async def test_defer_asks_for_the_request_again(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """`defer` answers every forgery 503 with Retry-After, so that a wrong secret of ours loses nothing."""
    configuration = document(keyspace.namespace, accounts=accounts_that("defer"))
    async with running_app(configuration, redis_url, providers=NEVER_PARSING) as client:
        answers = {name: await send(client, forgery) for name, forgery in FORGERIES.items()}
        authentic = await post(client, "sinch")

    assert {name: problem(answer) for name, answer in answers.items()} == {
        name: (503, forgery.reason) for name, forgery in FORGERIES.items()
    }
    assert {answer.headers["retry-after"] for answer in answers.values()} == {"5"}
    assert not any("cannot be stored" in answer.text for answer in answers.values())
    assert authentic == 200
    assert await redis.xlen(keyspace.captures) == 1
    assert not await redis.exists(keyspace.quarantine)


async def test_quarantine_keeps_an_unauthentic_request_aside(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """`quarantine` answers 200 and keeps the request apart from the log, with why, and without any credential."""
    configuration = document(keyspace.namespace, accounts=accounts_that("quarantine"))
    token = "Buoy_wrong_token-99"
    headers = [
        (SB, b"sendblue-Wrong"),
        (b"authorization", b"Basic Z2hvc3Q6Z2hvc3Q="),
        (b"x-original-uri", path("sendblue", token).encode()),
        (b"x-kept", b"yes"),
    ]
    async with running_app(configuration, redis_url, providers=NEVER_PARSING) as client:
        answer = await client.post(path("sendblue", token), content=HOSTILE, headers=headers)

    assert (answer.status_code, answer.content) == (200, b'{"status":"quarantined"}')
    stored = await everything(redis, keyspace)
    assert set(stored) == {keyspace.quarantine, keyspace.bytes_of(keyspace.quarantine)}
    [entry] = stored[keyspace.quarantine]
    kept = dict(orjson.loads(entry.pop(b"headers")))
    assert kept["x-kept"] == "yes"
    assert kept.keys().isdisjoint({"sb-signing-secret", "authorization", "x-original-uri"})
    assert entry.pop(b"id").startswith(b"cp_")
    assert orjson.loads(entry.pop(b"facts")) == FACTS
    assert orjson.loads(entry.pop(b"presented")) == {
        "proofs": {"secrets": [None], "url_tokens": [None]},
        "withheld": ["sb-signing-secret", "authorization", "x-original-uri"],
    }
    assert entry == {
        b"provider": b"sendblue",
        b"account": b"main-sendblue",
        b"received_at": b"2026-11-21T12:00:00.000Z",
        b"reason": b"signature_mismatch",
        b"body": HOSTILE,
    }
    assert token not in repr(stored)


async def test_quarantine_takes_every_forgery_and_no_capture_comes_of_it(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """Whatever is wrong with a request, quarantine is where it goes, and never the capture log."""
    configuration = document(keyspace.namespace, accounts=accounts_that("quarantine"))
    async with running_app(configuration, redis_url, providers=NEVER_PARSING) as client:
        answers = [await send(client, forgery) for forgery in FORGERIES.values()]

    kept = await entries(redis, keyspace.quarantine)
    assert {answer.status_code for answer in answers} == {200}
    assert [entry[b"reason"].decode() for entry in kept] == [forgery.reason for forgery in FORGERIES.values()]
    assert not await redis.exists(keyspace.captures)


async def test_the_quarantine_is_capped(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """However much comes, the newest 64 MiB of it stay."""
    patient = {"write_deadline": "10s"}
    configuration = document(keyspace.namespace, accounts=accounts_that("quarantine"), redis=patient)
    sizes = [15 * 1024 * 1024] * 5
    async with running_app(configuration, redis_url) as client:
        for number, size in enumerate(sizes):
            assert (await client.post(path("telnyx"), content=bytes([number]) * size)).status_code == 200

    kept = await entries(redis, keyspace.quarantine)
    await clear(redis, keyspace)

    assert QUARANTINE_BYTES == 64 * 1024 * 1024
    assert [entry[b"body"][0] for entry in kept] == [1, 2, 3, 4]


# --- the handshake ---


def handshake(**changes: str | None) -> str:
    """The query of a right handshake with some parameters changed, or left out with None."""
    parameters = {"mode": "subscribe", "verify_token": VERIFY_TOKENS[0], "challenge": "1158201444", **changes}
    return urlencode({f"hub.{name}": value for name, value in parameters.items() if value is not None})


CHALLENGES = {
    "digits": "1158201444",
    "leading_zeros": "000123",
    "beyond_64_bits": "9" * 40,
    "odd_characters": 'a+b/c=&%?#"<script>; \t',
    "letters_and_emoji": "Grüße 😀",
    "json": '{"challenge": 1}',
}


@pytest.mark.parametrize("challenge", CHALLENGES.values(), ids=CHALLENGES)
@pytest.mark.parametrize("token", VERIFY_TOKENS)
async def test_the_handshake_returns_the_challenge_verbatim(
    client: httpx.AsyncClient, redis: Redis, shared: Keyspace, challenge: str, token: str
) -> None:
    """Either verify token gets the challenge back as plain text, to the letter, and no signature is asked for."""
    answer = await client.get(f"{path('whatsapp')}?{handshake(verify_token=token, challenge=challenge)}")

    assert (answer.status_code, answer.content) == (200, challenge.encode())
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert await everything(redis, shared) == {}


REFUSED_HANDSHAKES = {
    "wrong_token": handshake(verify_token="verify-Lock-4"),
    "app_secret_as_token": handshake(verify_token=SECRETS["whatsapp"][0]),
    "empty_token": handshake(verify_token=""),
    "no_token": handshake(verify_token=None),
    "no_challenge": handshake(challenge=None),
    "empty_challenge": handshake(challenge=""),
    "no_mode": handshake(mode=None),
    "other_mode": handshake(mode="unsubscribe"),
    "two_tokens": handshake() + "&hub.verify_token=verify-Guess",
    "two_challenges": handshake() + "&hub.challenge=2",
    "nothing": "",
    "many_parameters": handshake() + "&a=1" * 100,
    "surrogate_token": handshake() + "&hub.verify_token=%ed%a0%80",
}


@pytest.mark.parametrize("query", REFUSED_HANDSHAKES.values(), ids=REFUSED_HANDSHAKES)
async def test_a_handshake_that_does_not_know_the_token_is_403(client: httpx.AsyncClient, query: str) -> None:
    """A wrong token, or a parameter missing or ambiguous, is refused, and the challenge is not repeated."""
    answer = await client.get(f"{path('whatsapp')}?{query}")

    assert problem(answer) == (403, "handshake_refused")
    assert "1158201444" not in answer.text
    assert VERIFY_TOKENS[0] not in answer.text


# --- our own trouble ---


@pytest.mark.parametrize("policy", ["reject", "quarantine"])
async def test_without_redis_every_callback_is_asked_for_again(policy: str, tmp_path: Path) -> None:
    """What cannot be stored is answered 503 with Retry-After, authentic or for the quarantine; never a 4xx."""
    configuration = document("t-nowhere", accounts=accounts_that(policy))
    async with running_app(configuration, f"unix://{tmp_path}/none.sock") as client:
        answers = [await client.post(path(name), content=BODY, headers=proof(name, BODY)) for name in sorted(PROVIDERS)]
        forged = await client.post(path("telnyx"), content=BODY)

    assert {problem(answer) for answer in answers} == {(503, "store_unavailable")}
    assert {answer.headers["retry-after"] for answer in answers} == {"5"}
    assert problem(forged) == ((503, "store_unavailable") if policy == "quarantine" else (401, "signature_missing"))


async def test_a_frozen_redis_is_a_whole_503_and_no_fact_is_lost_or_doubled_by_it() -> None:
    """While Redis hangs, each callback gets 503 within about the deadline; sent again later, it is one event."""
    body = orjson.dumps(
        {"type": "mo_text", "id": "01FROZENMO", "from": "15555550111", "to": "15555550100", "body": "Ahoy"}
    )
    configuration = document("frozen", redis={"write_deadline": "300ms"})
    with (
        tempfile.TemporaryDirectory(prefix="partyline-frozen-") as folder,
        EmbeddedRedis(Path(folder)) as own,
    ):
        async with running_app(configuration, own.url) as client:
            assert await post(client, "sinch", b"{}") == 200
            assert own.pid is not None
            kill(own.pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(2):
                    posts = (client.post(path("sinch"), content=body, headers=proof("sinch", body)) for _ in range(5))
                    while_frozen = await asyncio.gather(*posts)
            finally:
                kill(own.pid, signal.SIGCONT)
            assert (await client.get("/readyz")).status_code == 200
            again = await post(client, "sinch", body)
        await work_off(configuration, own.url)
        redis = connect(own.url, 5.0)
        published = await events(redis, Keyspace("frozen"))
        await redis.aclose()

    assert {problem(answer) for answer in while_frozen} == {(503, "store_unavailable")}
    assert {answer.headers["retry-after"] for answer in while_frozen} == {"5"}
    assert again == 200
    assert [event["data"]["message"]["text"] for event in published if event["type"] == "message.received"] == ["Ahoy"]
