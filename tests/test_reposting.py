"""Captures posted from one receiver to another, over real HTTP and two real Redis: what is believed, and what ends it."""

import asyncio
import re
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import orjson
import pytest
import structlog
from redis.asyncio import Redis

from receiver.authentication import repost_headers
from receiver.captures import CaptureLog, LogEntry
from receiver.embedded import EmbeddedRedis
from receiver.redis_client import connect
from receiver.reposting import UNREADABLE, NotTaken, Tally, repost
from receiver.schemes import Signed
from schemas.callback import AccountFacts, Callback, Capture, CaptureKind, Headers
from schemas.errors import ConfigError
from schemas.ids import CaptureId
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS, decode_capture, encode_capture, encode_facts, encode_headers
from tests import conformance
from tests.library import BEARER, TOKENS
from tests.service import (
    ACCOUNTS,
    LINE,
    NOW,
    Document,
    basic,
    captures,
    connection,
    document,
    entries,
    events,
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
    work_off,
)

TOKEN, OLD_TOKEN = "new-Pelican-token-81", "old-Pelican-token-82"
BODY = b'{"greeting": "caf\xc3\xa9", "spaced" : [1,  2]}'
#: A month before the clocks of the receivers here.
LONG_AGO = datetime(2026, 10, 21, 8, 30, 0, 125000, tzinfo=UTC)
#: Out of order, twice, beyond ASCII: as a provider may send them.
HEADERS: Headers = ((b"via", b"two"), (b"content-type", b"application/json"), (b"via", b"J\xfcrgen \xff\x80"))
REPLAYS: Document = {"server": {"replay_tokens": [TOKEN, OLD_TOKEN]}}


def capture(number: int = 0, **changes: Any) -> Capture:
    """A capture of another receiver's, whose account has another line than the one here."""
    made = Capture(
        id=CaptureId(f"cp_019e0f1a2b3c4d5e6f708192a3b4{number:04x}"),
        kind="callback",
        provider="telnyx",
        account="main-telnyx",
        received_at=LONG_AGO,
        assurance="signed",
        headers=HEADERS,
        body=BODY,
        facts=AccountFacts(lines=("+15555550199",), dedupe_seconds=60),
    )
    return msgspec.structs.replace(made, **changes)


def told(what: Capture, token: str = TOKEN, **changes: bytes | None) -> Signed:
    """The headers that a capture is posted with; one that is changed to None is left out, `at` is received-at."""
    headers = dict(repost_headers(what, token))
    for name, value in changes.items():
        if value is None:
            del headers[b"partyline-" + name.replace("_", "-").encode()]
        else:
            headers[b"partyline-" + name.replace("_", "-").encode()] = value
    return list(headers.items())


async def post(client: httpx.AsyncClient, headers: Signed, body: bytes = BODY) -> httpx.Response:
    """Post to Telnyx' account, with no proof but what is given."""
    return await client.post(path("telnyx"), content=body, headers=headers)


@pytest.fixture
async def client(redis_url: str, namespace: str) -> AsyncIterator[httpx.AsyncClient]:
    """A receiver with two live replay tokens."""
    async with running_app(document(namespace, **REPLAYS), redis_url) as running:
        yield running


# --- what is believed ---


async def test_what_comes_with_a_token_is_captured_as_it_is_told(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """Id, receive time, assurance, headers and bytes are the original's; the facts are those of the account here."""
    answer = await post(client, told(capture()))

    assert (answer.status_code, answer.json()) == (200, {"status": "captured", "capture": capture().id})
    here = AccountFacts(lines=(LINE,), dedupe_seconds=691_200, copy_window_seconds=10.0)
    assert [decode_capture(entry) for entry in await captures(redis, keyspace)] == [capture(facts=here)]
    assert [entry[b"headers"] for entry in await captures(redis, keyspace)] == [encode_headers(HEADERS)]


@pytest.mark.parametrize("kind", ["callback", "outbound", "link"])
async def test_sends_and_links_come_the_same_way(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, kind: CaptureKind
) -> None:
    """What was registered or linked at the other receiver is here what it was there."""
    answer = await post(client, told(capture(kind=kind, assurance="shared_secret")))

    assert answer.status_code == 200
    [entry] = await captures(redis, keyspace)
    assert (entry[b"kind"], entry[b"assurance"]) == (kind.encode(), b"shared_secret")


@pytest.mark.parametrize(("token", "index"), [(TOKEN, 0), (OLD_TOKEN, 1)])
async def test_several_tokens_are_live(client: httpx.AsyncClient, token: str, index: int) -> None:
    """While one replaces another both count, and the metrics tell which is still in use, without showing it."""
    answer = await post(client, told(capture(), token))
    metrics = await client.get("/metrics")

    assert answer.status_code == 200
    assert f'account="main-telnyx",credential="server.replay_tokens[{index}]"' in metrics.text
    assert "Pelican" not in metrics.text


async def test_the_token_is_kept_nowhere(
    redis_url: str, redis: Redis, namespace: str, keyspace: Keyspace, client: httpx.AsyncClient
) -> None:
    """Neither what is stored nor the log holds a token: not a right one, and not a wrong one put in quarantine."""
    aside = {"main-telnyx": {**ACCOUNTS["main-telnyx"], "on_unauthentic": "quarantine"}}
    with structlog.testing.capture_logs() as lines:
        await post(client, told(capture()))
        async with running_app(document(namespace, accounts=aside, **REPLAYS), redis_url) as quarantining:
            refused = await post(quarantining, told(capture(), "wrong-Pelican-token"))

    kept = await everything(redis, keyspace)
    assert (refused.status_code, refused.json()) == (200, {"status": "quarantined"})
    assert len(await entries(redis, keyspace.quarantine)) == 1
    assert "Pelican" not in repr(kept)
    assert "Pelican" not in repr(lines)
    assert [line["capture"] for line in lines][0] == capture().id


async def test_a_credential_among_the_original_headers_is_not_kept(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """Another receiver may have kept what this one would not, in whatever case its names are."""
    headers = ((b"Authorization", b"Basic Zm9v"), (b"host", b"hooks.example.com"), (b"Partyline-Replay", b"a"))
    await post(client, told(capture(headers=headers)))

    [entry] = await captures(redis, keyspace)

    assert orjson.loads(entry[b"headers"]) == [["host", "hooks.example.com"]]


async def test_headers_too_long_to_come_along_are_left_out(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """A head may have 64 KiB: what does not fit in base64 is left out, and the capture is taken without."""
    longest = capture(1, headers=((b"x-long", b"a" * 36_000),))
    longer = capture(2, headers=((b"x-long", b"a" * 37_000),))

    for each in (longest, longer):
        assert (await post(client, told(each))).status_code == 200

    assert [decode_capture(entry).headers for entry in await captures(redis, keyspace)] == [longest.headers, ()]


async def test_a_signature_is_not_judged_again(client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace) -> None:
    """What Telnyx signed a month ago is long past its tolerance; the word of the receiver of then is enough."""
    signed = tuple(proof("telnyx", BODY, now=LONG_AGO))
    assert problem(await post(client, list(signed))) == (401, "timestamp_outside_tolerance")

    answer = await post(client, told(capture(headers=signed)))

    assert answer.status_code == 200
    [entry] = await captures(redis, keyspace)
    assert decode_capture(entry).headers == signed


# --- what is not ---


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([b"wrong-Pelican-token"], "signature_mismatch"),
        ([TOKEN[:-1].encode()], "signature_mismatch"),
        ([TOKEN.upper().encode()], "signature_mismatch"),
        ([b"Bearer " + TOKEN.encode()], "signature_mismatch"),
        (["P\u00e9lican".encode()], "signature_mismatch"),
        ([b"\xff\xfe"], "signature_mismatch"),
        ([b""], "signature_malformed"),
        ([TOKEN.encode(), OLD_TOKEN.encode()], "signature_malformed"),
        ([TOKEN.encode(), b""], "signature_malformed"),
    ],
)
async def test_no_other_token_is_right(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, tokens: list[bytes], reason: str
) -> None:
    """A wrong, odd, empty or second token is a wrong credential like any other, and nothing is stored."""
    headers = [*told(capture(), replay=None), *((b"Partyline-Replay", token) for token in tokens)]

    answer = await exchange(client, head("POST", path("telnyx"), headers, b"content-length: %d" % len(BODY)) + BODY)

    assert problem(answer) == (401, reason)
    assert "elican" not in repr(answer)
    assert await captures(redis, keyspace) == []


async def test_without_tokens_nobody_is_believed(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """It is off by default: then every token is wrong, an empty one too, even beside a right signature."""
    async with running_app(document(keyspace.namespace), redis_url) as closed:
        answers = [await post(closed, [*told(capture(), token), *proof("telnyx", BODY)]) for token in (TOKEN, "")]

    assert [problem(answer)[0] for answer in answers] == [401, 401]
    assert await captures(redis, keyspace) == []


async def test_every_credential_that_is_presented_must_be_right(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """A wrong token beside a right signature is refused, and so is a right token beside a wrong or stale signature."""
    wrong_token = [*told(capture(), "wrong-Pelican-token"), *proof("telnyx", BODY)]
    wrong_signature = [*told(capture()), *proof("telnyx", b"another body")]
    stale = [*told(capture()), *proof("telnyx", BODY, now=LONG_AGO)]

    answers = [problem(await post(client, headers)) for headers in (wrong_token, wrong_signature, stale)]

    assert answers == [(401, "signature_mismatch"), (401, "signature_mismatch"), (401, "timestamp_outside_tolerance")]
    assert await captures(redis, keyspace) == []
    assert (await post(client, [*told(capture()), *proof("telnyx", BODY)])).status_code == 200


async def test_where_anybody_is_believed_a_wrong_token_still_is_not(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """An account without any check takes everything but a credential that is wrong."""
    accounts = {"main-telnyx": {"provider": "telnyx", "unsafe_no_auth": True}}
    async with running_app(document(keyspace.namespace, accounts=accounts, **REPLAYS), redis_url) as unsafe:
        statuses = [
            (await post(unsafe, headers)).status_code
            for headers in ([], told(capture(), "wrong-Pelican-token"), told(capture()))
        ]

    assert statuses == [200, 401, 200]
    assert [entry[b"assurance"] for entry in await captures(redis, keyspace)] == [b"none", b"signed"]


async def test_nothing_is_believed_without_a_token(client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace) -> None:
    """Forged headers beside a right signature change nothing: id and time are ours, the assurance is what proved it."""
    forged = told(capture(kind="link", assurance="none", provider="sinch"), replay=None)
    body = b"{}"

    answer = await client.post(path("sinch"), content=body, headers=[*forged, *basic("ferryman:Rope & Tide: 51")])

    assert (answer.status_code, answer.json()) == (200, {"status": "captured"})
    [entry] = await captures(redis, keyspace)
    assert entry[b"id"] != capture().id.encode()
    assert (entry[b"kind"], entry[b"received_at"]) == (b"callback", b"2026-11-21T12:00:00.000Z")
    assert entry[b"assurance"] == b"basic_auth"


@pytest.mark.parametrize(
    "changes",
    [
        {"capture": None},
        {"capture": b""},
        {"capture": b"cp_019E0F1A2B3C4D5E6F708192A3B40000"},
        {"capture": b"cp_019e0f1a2b3c4d5e6f708192a3b4000"},
        {"capture": b"019e0f1a2b3c4d5e6f708192a3b40000"},
        {"capture": b"cp_\xff"},
        {"received_at": None},
        {"received_at": b"yesterday"},
        {"received_at": b"1792571400"},
        {"received_at": b"1969-12-31T23:59:59.999Z"},
        {"received_at": b"2026-11-22T12:00:00.001Z"},
        {"received_at": b"9999-12-31T23:59:59Z"},
        {"assurance": None},
        {"assurance": b"sworn"},
        {"assurance": b"Signed"},
        {"kind": None},
        {"kind": b"replay"},
        {"headers": b""},
        {"headers": b"e30"},
        {"headers": b64encode(b"{}")},
        {"headers": b64encode(b'[["name"]]')},
        {"headers": b64encode(b'[["name", 7]]')},
        {"headers": b64encode('[["name", "\u2126"]]'.encode())},
        {"headers": b64encode(b'[["name", "\\ud83d"]]')},
        {"headers": b64encode(b"\xff\xfe")},
        {"headers": b"\xff"},
    ],
)
async def test_what_cannot_be_is_refused(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, changes: dict[str, bytes | None]
) -> None:
    """With a right token, a header that is missing or cannot be read is told apart from a wrong token, by its name."""
    headers = told(capture(), **changes)

    answer = await exchange(client, head("POST", path("telnyx"), headers, b"content-length: %d" % len(BODY)) + BODY)

    [changed] = changes
    assert problem(answer) == (422, "replay_malformed")
    assert f"partyline-{changed.replace('_', '-')}" in orjson.loads(answer.body)["detail"]
    assert await captures(redis, keyspace) == []


async def test_what_is_told_twice_is_told_once_or_refused(client: httpx.AsyncClient) -> None:
    """A header that a proxy repeats is the same; one that comes with two values could mean either."""
    headers = told(capture())

    same = await post(client, [*headers, *headers])
    other = await post(client, [*headers, (b"partyline-capture", capture(1).id.encode())])

    assert same.status_code == 200
    assert problem(other) == (422, "replay_malformed")


# --- from one receiver to another ---


@pytest.fixture(scope="module")
def other_url() -> Iterator[str]:
    """The URL of a second real Redis."""
    with tempfile.TemporaryDirectory(prefix="partyline-other-") as folder, EmbeddedRedis(Path(folder)) as embedded:
        yield embedded.url


@pytest.fixture
async def other(other_url: str) -> AsyncIterator[Redis]:
    """A client of it."""
    redis = connect(other_url, 5.0)
    yield redis
    await redis.aclose()


def entry_of(what: Capture, position: str = "1-0") -> LogEntry:
    """A capture as it stands in a log."""
    callback = Callback(
        what.provider, what.account, what.received_at, what.assurance, "x", what.headers, what.body, what.facts
    )
    values = encode_capture(what.id, callback, encode_facts(what.facts), what.kind)
    return LogEntry(position, dict(zip(CAPTURE_FIELDS, values, strict=True)))


async def stream(*of: LogEntry) -> AsyncIterator[LogEntry]:
    """Entries, one after another."""
    for entry in of:
        yield entry


async def capture_everything(configuration: Document, redis_url: str) -> None:
    """Every callback and send among the fixtures, a person's tie of two addresses, and a link of two conversations."""
    async with running_app(configuration, redis_url) as client:
        for fixture in map(conformance.load, conformance.folders()):
            where, headers = path(fixture.provider), proof(fixture.provider, fixture.body)
            if fixture.kind == "outbound":
                where, headers = f"/v1/outbound/{fixture.provider}/main-{fixture.provider}", list(BEARER.items())
            answer = await client.post(where, content=fixture.body, headers=headers)
            assert answer.status_code == 200 or fixture.kind == "outbound"
        tied = {"account": "main-whatsapp", "one": "+15555550111", "other": "+15555550112"}
        assert (await client.post("/v1/links", json=tied, headers=BEARER)).status_code == 200
        await work_off(configuration, redis_url)
        found = (await client.get("/v1/conversations?address=%2B15555550111", headers=BEARER)).json()["conversations"]
        one, two = [each["key"] for each in found if each["kind"] == "direct"][:2]
        assert (await client.post("/v1/links", json={"one": one, "other": two}, headers=BEARER)).status_code == 200
        await work_off(configuration, redis_url)


@pytest.mark.slow
async def test_another_receiver_comes_to_the_very_same_events(
    redis_url: str, redis: Redis, other_url: str, other: Redis, keyspace: Keyspace
) -> None:
    """Everything captured here and posted there gives, under one namespace and id_key, the same events there.

    They are not marked as replayed: for that receiver they are live. A second time through changes nothing.
    """
    common = {"id_key": "a-key-of-both-receivers", "retention": {"dedupe": "7300d"}}
    here = document(keyspace.namespace, server={"api_tokens": list(TOKENS)}, **common)
    there = document(keyspace.namespace, **REPLAYS, **common)
    await capture_everything(here, redis_url)
    done: list[int] = []

    async with running_app(there, other_url) as receiver:
        log = CaptureLog(redis, keyspace)
        url = str(receiver.base_url)
        tally = await repost(log.scan(), url, TOKEN, on_done=lambda _, status: done.append(status))
        copied = await captures(other, keyspace)
        await work_off(there, other_url)
        first = await events(other, keyspace)
        await repost(log.scan(), url, OLD_TOKEN)
        await work_off(there, other_url)

    original = await captures(redis, keyspace)
    assert {entry[b"kind"] for entry in original} == {b"callback", b"outbound", b"link"}
    assert copied == original
    assert tally == Tally(captured=len(original))
    assert done == [200] * len(original)
    assert len(first) > 200
    assert first == await events(redis, keyspace)
    assert {event["data"]["replayed"] for event in first} == {False}
    assert await entries(other, keyspace.dead) == await entries(redis, keyspace.dead)
    assert await events(other, keyspace) == first


async def test_the_facts_there_decide_there(
    redis_url: str, redis: Redis, other_url: str, other: Redis, keyspace: Keyspace
) -> None:
    """Another namespace, key and lines give other conversations of the same facts, under the same event ids."""
    here = document(keyspace.namespace)
    there = document(
        f"{keyspace.namespace}-b",
        id_key="another-key-altogether",
        accounts={"main-sendblue": {**ACCOUNTS["main-sendblue"], "lines": []}},
        retention={"dedupe": "7300d"},
        **REPLAYS,
    )
    elsewhere = Keyspace(f"{keyspace.namespace}-b")
    body = (conformance.FIXTURES / "sendblue/received__direct/body").read_bytes()
    async with running_app(here, redis_url) as client:
        await client.post(path("sendblue"), content=body, headers=proof("sendblue", body))

    async with running_app(there, other_url) as receiver:
        await repost(CaptureLog(redis, keyspace).scan(), str(receiver.base_url), TOKEN)

    [before], [after] = await captures(redis, keyspace), await captures(other, elsewhere)
    assert orjson.loads(before.pop(b"facts"))["lines"] == [LINE]
    assert orjson.loads(after.pop(b"facts")) == {"dedupe_seconds": 630_720_000, "copy_window_seconds": 10.0}
    assert after == before
