"""What somebody with bad intentions tries, end to end: hostile texts, replays, floods. Nobody else notices anything."""

import asyncio
import gzip
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest
from jsonschema import Draft202012Validator
from redis.asyncio import Redis

from receiver.body import MAX_DEPTH
from receiver.documents.files import committed
from receiver.providers import PROVIDERS
from receiver.samples import SAMPLES
from receiver.schemes import Signed
from schemas.keyspace import Keyspace
from schemas.reader import decode
from tests.processes import Kin, Service, service
from tests.service import (
    ACCOUNTS,
    LINE,
    NOW,
    SECRETS,
    captures,
    connection,
    document,
    entries,
    events,
    everything,
    head,
    path,
    problem,
    proof,
    public_key,
    read_answer,
    running_app,
    work_off,
)

MIB = 1024**2
EVERY_PROVIDER = pytest.mark.parametrize("provider", sorted(PROVIDERS))
#: A sample of each provider with a text in it: which one, and that text.
TEXTS = {
    "telnyx": (0, b"Lunch on Friday?"),
    "sendblue": (0, b"Who has the long rope?"),
    "sinch": (2, b"Thanks, got it"),
    "whatsapp": (1, "Welcome, Ben! 👋".encode()),
}

# --- hostile texts ----------------------------------------------------------------------------------------

#: A text as it stands in the JSON of a body, and as its readers must get it.
HOSTILE = {
    "nul": (b"a\\u0000b", "a\ufffdb"),
    "lone_high": (b"a\\ud83d", "a\ufffd"),
    "lone_low": (b"\\ude00b", "\ufffdb"),
    "nul_and_lone": (b"\\u0000\\uD83D", "\ufffd\ufffd"),
    "half_pairs_around_a_pair": (b"\\ud83d\\ud83d\\ude00\\ude00", "\ufffd\U0001f600\ufffd"),
    "line_ends": (b"a\\r\\nb\\u2028c\\u0085d", "a\r\nb\u2028c\x85d"),
    "escape_sequences": (b"\\u001b[2J\\u001b]0;owned\\u0007\\u009b2J", "\x1b[2J\x1b]0;owned\x07\x9b2J"),
    "right_to_left": ("a\u202egnp.exe".encode(), "a\u202egnp.exe"),
    "noncharacters": ("\uffff\ufdd0\U0010ffff".encode(), "\uffff\ufdd0\U0010ffff"),
    "byte_order_mark": ("\ufeffa".encode(), "\ufeffa"),
    "json": (b'\\"},\\"type\\":\\"account.notice\\",\\"x\\":{\\"y\\":\\"', '"},"type":"account.notice","x":{"y":"'),
    "redis": (b"\\r\\n*1\\r\\n$8\\r\\nFLUSHALL\\r\\n", "\r\n*1\r\n$8\r\nFLUSHALL\r\n"),
    "lua": (b"]] redis.call('FLUSHALL') --[[", "]] redis.call('FLUSHALL') --[["),
    "long": (b"\xf0\x9f\xa7\xa8" * 50_000, "\U0001f9e8" * 50_000),
}
#: What is no JSON, or deeper than anything real: a dead letter.
UNREADABLE = {
    "raw_nul": b"a\x00b",
    "raw_newline": b"a\nb",
    "surrogates_in_utf_8": b"\xed\xa0\x80",
    "overlong": b"\xc0\xaf",
    "latin_1": b"caf\xe9",
    "cut_escape": b"\\ud8",
    "deep": b'","deep":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b',"z":"',
    "very_deep": b'","deep":' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b',"z":"',
}


def saying(provider: str, tag: str, text: bytes) -> bytes:
    """A provider's sample with other bytes where its text stands."""
    index, said = TEXTS[provider]
    body = SAMPLES[provider](NOW, tag)[index]
    assert body.count(said) == 1
    return body.replace(said, text)


async def post(client: httpx.AsyncClient, provider: str, body: bytes) -> int:
    """The status of a proved callback."""
    return (await client.post(path(provider), content=body, headers=proof(provider, body))).status_code


def text_of(event: dict[str, Any]) -> Any:
    """What somebody said in an event."""
    return event["data"].get("message", {}).get("text")


@EVERY_PROVIDER
async def test_a_hostile_text_is_an_event_that_every_reader_reads(
    redis_url: str, redis: Redis, keyspace: Keyspace, provider: str
) -> None:
    """Whatever stands in a text reaches subscribers as that text, in sound JSON and UTF-8; its neighbours as ever."""
    configuration = document(keyspace.namespace)
    async with running_app(configuration, redis_url) as client:
        for tag, (text, _) in HOSTILE.items():
            assert await post(client, provider, saying(provider, tag, text)) == 200
            assert await post(client, provider, saying(provider, f"after-{tag}", b"And a neighbour")) == 200
    await work_off(configuration, redis_url)

    raw = [fields[b"event"] for fields in await entries(redis, keyspace.events)]
    parsed = [orjson.loads(each) for each in raw]
    said = [text_of(event) for event in parsed if event["type"] == "message.received"]
    wanted = [text for _, text in HOSTILE.values()]
    assert [text for text in said if text in wanted] == wanted
    assert said.count("And a neighbour") == len(HOSTILE)
    assert [json.loads(each.decode("utf-8", "strict")) for each in raw] == parsed
    assert [msgspec.json.decode(each) for each in raw] == parsed
    assert [decode(each).subject for each in raw] == [event["subject"] for event in parsed]
    assert [each for each in raw if any(byte < 0x20 for byte in each)] == []
    schema = Draft202012Validator(committed()["envelope.schema.json"])
    assert [error.message for event in parsed for error in schema.iter_errors(event)] == []
    assert await redis.xlen(keyspace.dead) == 0


@EVERY_PROVIDER
async def test_hostile_ids_and_names_harm_no_key_and_no_reader(
    redis_url: str, redis: Redis, keyspace: Keyspace, provider: str
) -> None:
    """Ids with NUL, line ends, braces and half an emoji still make events of their own, under keys of our own."""
    tags = [b"a\\u0000", b"b\\ud83d", b"c\\r\\n*1", b"d}:events{", b"e*?[", b"f/../..", b"g\\u2028", b"h " * 400]
    configuration = document(keyspace.namespace)
    async with running_app(configuration, redis_url) as client:
        for tag in tags:
            body = SAMPLES[provider](NOW, "THE-TAG")[TEXTS[provider][0]].replace(b"THE-TAG", tag)
            assert await post(client, provider, body) == 200
    await work_off(configuration, redis_url)

    keys: list[Any] = await redis.keys(f"{keyspace.prefix}*")
    raw = [fields[b"event"] for fields in await entries(redis, keyspace.events)]
    ids = [json.loads(each)["id"] for each in raw if json.loads(each)["type"] == "message.received"]
    letters = await entries(redis, keyspace.dead)
    assert len(set(ids)) == len(ids) == len(tags) * (2 if provider == "whatsapp" else 1)
    assert letters == []
    assert [key for key in keys if not key.isascii() or b"\0" in key or b"\n" in key or b" " in key] == []


async def test_what_cannot_be_read_is_a_dead_letter_and_harms_nobody(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """Broken encodings and bottomless nesting are kept byte for byte and told; what comes between is published."""
    configuration = document(keyspace.namespace)
    async with running_app(configuration, redis_url) as client:
        for provider in PROVIDERS:
            for tag, text in UNREADABLE.items():
                assert await post(client, provider, saying(provider, tag, text)) == 200
                assert await post(client, provider, saying(provider, f"after-{tag}", b"And a neighbour")) == 200
    await work_off(configuration, redis_url)

    letters = await entries(redis, keyspace.dead)
    bad = [entry[b"id"] for entry in await captures(redis, keyspace) if b"And a neighbour" not in entry[b"body"]]
    said = [text_of(event) for event in await events(redis, keyspace) if event["type"] == "message.received"]
    assert [letter[b"capture"] for letter in letters] == bad
    assert {letter[b"reason"] for letter in letters} == {b"unreadable"}
    assert said.count("And a neighbour") == len(PROVIDERS) * len(UNREADABLE)
    assert [letter for letter in letters if any(len(value) > 400 for value in letter.values())] == []


async def test_a_gzip_bomb_is_just_bytes(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """No encoding that a request claims is undone: a body is what it is, and this one says nothing to us."""
    bomb = gzip.compress(b"\0" * 100 * MIB, 9)
    configuration = document(keyspace.namespace)
    async with running_app(configuration, redis_url) as client:
        headers = [*proof("sinch", bomb), (b"content-encoding", b"gzip, gzip")]
        answer = await client.post(path("sinch"), content=bomb, headers=headers)
    await work_off(configuration, redis_url)

    assert answer.status_code == 200
    assert [entry[b"body"] for entry in await captures(redis, keyspace)] == [bomb]
    assert [letter[b"reason"] for letter in await entries(redis, keyspace.dead)] == [b"unreadable"]


# --- requests that are not what they say ------------------------------------------------------------------

OVERRIDES: list[Signed] = [
    [(b"x-http-method-override", b"GET")],
    [(b"x-http-method", b"GET"), (b"x-method-override", b"GET")],
    [(b"x-original-url", b"/metrics"), (b"x-rewrite-url", b"/metrics")],
    [(b"x-forwarded-prefix", b"/metrics"), (b"x-forwarded-host", b"127.0.0.1:8081")],
]


@pytest.mark.parametrize("headers", OVERRIDES)
async def test_no_header_makes_another_request_of_one(
    redis_url: str, redis: Redis, keyspace: Keyspace, headers: Signed
) -> None:
    """Method and path are those of the request line, whatever frameworks elsewhere read into headers."""
    query = "?_method=GET&hub.mode=subscribe&hub.challenge=7&hub.verify_token=verify-Lock-41"
    async with running_app(document(keyspace.namespace), redis_url) as client:
        posted = await client.post(path("whatsapp") + query, content=b"{}", headers=headers)

    assert problem(posted) == (401, "signature_missing")
    assert await everything(redis, keyspace) == {}


PATHS = [
    "/webhooks/sinch/main-sinch/",
    "/webhooks/sinch//main-sinch",
    "//webhooks/sinch/main-sinch",
    "/webhooks/sinch/main-sinch.",
    "/webhooks/sinch/main-sinch%0a",
    "/webhooks/sinch/main-sinch%00",
    "/webhooks/sinch/main-sinch;a=b",
    "/webhooks/sinch/%2e%2e/sinch/main-sinch",
    "/webhooks/telnyx/../sinch/main-sinch",
    "/webhooks/sinch/main-sinch%2f%2f",
    "/webhooks/sinch/Main-Sinch",
    "/webhooks\\sinch\\main-sinch",
    "/v1/../webhooks/sinch/main-sinch",
    "/webhooks/sinch/ma%C4%B1n-sinch",
]


async def test_an_account_has_one_path(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """No other spelling of it is taken for it, however well the request is signed."""
    async with running_app(document(keyspace.namespace), redis_url) as client:
        statuses = {}
        for target in PATHS:
            async with connection(client) as (reader, writer):
                writer.write(head("POST", target, proof("sinch", b"{}"), b"content-length: 2") + b"{}")
                statuses[target] = (await read_answer(reader)).status

    assert {target: status for target, status in statuses.items() if status not in {400, 401, 404}} == {}
    assert await everything(redis, keyspace) == {}


# --- replays ----------------------------------------------------------------------------------------------


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """The time it is."""
        return self.now


async def test_a_signature_with_a_time_is_good_for_its_tolerance(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """Telnyx' request sent again within 300 s is a duplicate, after that it is refused: one event either way."""
    clock = Clock()
    body = saying("telnyx", "again", b"Once")
    headers = proof("telnyx", body, now=NOW)
    configuration = document(keyspace.namespace)
    answers = []
    async with running_app(configuration, redis_url, clock=clock) as client:
        for seconds in (0, 1, 299, 300, 301, 3600, 400 * 86400):
            clock.now = NOW + timedelta(seconds=seconds)
            answers.append(await client.post(path("telnyx"), content=body, headers=headers))
    await work_off(configuration, redis_url)

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 401, 401, 401]
    assert {problem(answer) for answer in answers[4:]} == {(401, "timestamp_outside_tolerance")}
    assert [text_of(event) for event in await events(redis, keyspace)] == ["Once"]


@pytest.mark.parametrize("provider", ["sendblue", "sinch", "whatsapp"])
async def test_a_proof_without_a_time_is_of_no_use_later_either(
    redis_url: str, redis: Redis, keyspace: Keyspace, provider: str
) -> None:
    """Sent again within `dedupe` it is a duplicate; after that its own time is too old, and it is a dead letter."""
    clock = Clock()
    body = saying(provider, "again", b"Once")
    headers = proof(provider, body)
    configuration = document(keyspace.namespace)
    async with running_app(configuration, redis_url, clock=clock) as client:
        for days in (0, 1, 7, 9, 400):
            clock.now = NOW + timedelta(days=days)
            assert (await client.post(path(provider), content=body, headers=headers)).status_code == 200
    await work_off(configuration, redis_url)

    published = [text_of(event) for event in await events(redis, keyspace) if event["type"] == "message.received"]
    letters = await entries(redis, keyspace.dead)
    assert published.count("Once") == 1
    assert {letter[b"reason"] for letter in letters} == {b"too_old"}
    assert len({letter[b"capture"] for letter in letters}) == 2


async def test_a_proof_is_good_at_its_own_account_alone(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """A request that one account's provider signed is refused at every other account, of the same provider or not."""
    others = {
        "telnyx": {"provider": "telnyx", "public_keys": [public_key(SECRETS["telnyx"][2])]},
        "sendblue": {"provider": "sendblue", "secrets": ["another-secret"]},
        "sinch": {"provider": "sinch", "secrets": ["another-secret"]},
        "whatsapp": {"provider": "whatsapp", "app_secrets": ["another-secret"]},
    }
    accounts = {**ACCOUNTS, **{f"other-{name}": account for name, account in others.items()}}
    targets = {name: f"/webhooks/{account['provider']}/{name}" for name, account in accounts.items()}
    taken = set()
    async with running_app(document(keyspace.namespace, accounts=accounts), redis_url) as client:
        for provider in PROVIDERS:
            for name, target in targets.items():
                answer = await client.post(target, content=b"{}", headers=proof(provider, b"{}"))
                if answer.status_code == 200:
                    taken.add((provider, name))
                else:
                    assert problem(answer)[0] == 401

    assert taken == {(name, f"main-{name}") for name in PROVIDERS}
    assert len(await captures(redis, keyspace)) == len(PROVIDERS)


# --- floods -----------------------------------------------------------------------------------------------

FLOOD_SECONDS = 3.0
FORGERS = 24
PIPELINED = 16
#: The slowest that a good callback may be answered beside a flood; Telnyx gives up after 2 s.
SLOWEST_SECONDS = 2.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="pl-") as made:
        yield Path(made)


def resident_bytes(kin: Kin) -> int:
    """How much memory a process holds."""
    return int(Path(f"/proc/{kin.pid}/statm").read_text().split()[1]) * 4096


def forgeries() -> list[bytes]:
    """Whole requests that prove nothing: wrong, missing and absurd signatures, for every provider and for nobody."""
    body = orjson.dumps({"text": "x" * 2000})
    length = b"content-length: %d" % len(body)
    wrong = [
        head("POST", path(name), proof(name, body, SECRETS[name][2], datetime.now(NOW.tzinfo)), length) + body
        for name in PROVIDERS
    ]
    bomb = b"\r\n".join(b"x-%d: \x9b\xff\xfe" % number for number in range(500))
    absurd = [
        head("POST", path("sinch"), [], bomb, length) + body,
        head("POST", "/webhooks/telnyx/nobody%0aforged", [], length) + body,
        head("POST", path("sendblue", "guess" * 50), [(b"user-agent", b'"}\x9b{"')], length) + body,
        head("GET", f"{path('whatsapp')}?{'a=1&' * 5000}", [], b"content-length: 0"),
    ]
    return wrong + absurd


async def forge(port: int, until: float) -> dict[int, int]:
    """Send forgeries as fast as they are answered; how many were answered how."""
    counts: dict[int, int] = {}
    requests = forgeries()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        for number in range(PIPELINED):
            writer.write(requests[number % len(requests)])
        for _ in range(PIPELINED):
            status = (await read_answer(reader)).status
            counts[status] = counts.get(status, 0) + 1
    writer.close()
    return counts


async def deliver_meanwhile(running: Service, until: float) -> list[tuple[int, float]]:
    """Post good callbacks one after the other; status and seconds of each."""
    answered: list[tuple[int, float]] = []
    while time.monotonic() < until:
        body = orjson.dumps(
            {"type": "mo_text", "id": f"01GOOD{len(answered)}", "from": "15555550111", "to": LINE[1:], "body": "Ahoy"}
        )
        began = time.monotonic()
        answer = await running.post("sinch", body)
        answered.append((answer.status_code, time.monotonic() - began))
        await asyncio.sleep(0.02)
    return answered


async def test_forgeries_at_full_rate_hold_nobody_up(folder: Path, redis_url: str, namespace: str) -> None:
    """Beside a flood of forged requests good callbacks are answered 200 in time, and each is one event.

    Nothing of the flood is stored, no memory is lost to it, and the log has one line for each request and no word of
    theirs.
    """
    async with service(folder, namespace, redis={"url": redis_url}) as running:
        worker = running.process.member("receiver", "http")
        await forge(running.port, time.monotonic() + 0.5)
        before, until = resident_bytes(worker), time.monotonic() + FLOOD_SECONDS
        delivering = asyncio.create_task(deliver_meanwhile(running, until))
        forged = await asyncio.gather(*(forge(running.port, until) for _ in range(FORGERS)))
        good = await delivering
        grown = resident_bytes(worker) - before
        await running.settled()
        published = await running.space.events()
        kept, quarantined = (
            await running.space.captures(),
            await running.space.redis.exists(running.space.keys.quarantine),
        )

    statuses = {status for counts in forged for status in counts}
    flood = sum(sum(counts.values()) for counts in forged)
    assert statuses == {401, 403, 404}
    assert flood > 20 * len(good) > 100
    assert {status for status, _ in good} == {200}
    assert max(seconds for _, seconds in good) < SLOWEST_SECONDS
    assert (kept, quarantined, len(published)) == (len(good), 0, len(good))
    assert grown < 24 * MIB
    lines = [orjson.loads(line) for line in running.process.log.splitlines()]
    callbacks = [line for line in lines if line["event"] == "callback"]
    assert len(callbacks) >= flood + len(good)
    assert {line["account"] for line in callbacks} == {"unknown", *ACCOUNTS}
    assert [word for word in ("forged", "guess", "x-499", "\x9b") if word in running.process.log] == []


async def test_a_flood_of_large_bodies_stays_within_its_room(folder: Path, redis_url: str, namespace: str) -> None:
    """However many bodies come, they never hold more than `max_in_flight`; what is beyond is asked to come again."""
    server = {"port": 0, "max_body": "4MiB", "max_in_flight": "8MiB", "body_timeout": "1s"}
    async with service(folder, namespace, redis={"url": redis_url}, server=server) as running:
        worker = running.process.member("receiver", "http")
        assert (await running.post("sinch", b"{}")).status_code == 200
        before = resident_bytes(worker)
        statuses, peak = await occupy(running, worker)
        later = await running.post("sinch", b"{}")

    assert set(statuses) == {408, 503}
    assert peak - before < 40 * MIB
    assert later.status_code == 200


async def occupy(running: Service, worker: Kin) -> tuple[list[int], int]:
    """Forty connections that send 3 MiB of a body each and then nothing: how they are answered, and the most memory."""
    peak = 0

    async def one() -> int:
        nonlocal peak
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(head("POST", path("sinch"), [], b"transfer-encoding: chunked"))
        for _ in range(48):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        answer = await read_answer(reader)
        peak = max(peak, resident_bytes(worker))
        writer.transport.abort()
        return answer.status

    return await asyncio.gather(*(one() for _ in range(40))), peak
