"""Captures posted from one receiver to another, over real HTTP and two real Redis: what is believed, what ends it."""

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

from correlator.redis_client import connect
from receiver.authentication import repost_headers
from receiver.captures import CaptureLog, LogEntry
from receiver.embedded import EmbeddedRedis
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
    Document,
    basic,
    captures,
    document,
    entries,
    events,
    everything,
    exchange,
    head,
    listening,
    path,
    problem,
    proof,
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


def told(what: Capture, token: str = TOKEN, **changes: bytes) -> Signed:
    """The headers that a capture is posted with, some of them changed."""
    headers = dict(repost_headers(what, token))
    return list({**headers, **{_name(name): value for name, value in changes.items()}}.items())


def lacking(name: str, headers: Signed) -> Signed:
    """Headers without one of them."""
    return [header for header in headers if header[0] != _name(name)]


def _name(word: str) -> bytes:
    return f"partyline-{word.replace('_', '-')}".encode()


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
    assert capture().id in [line.get("capture") for line in lines]


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
    headers = [*lacking("replay", told(capture())), *((b"Partyline-Replay", token) for token in tokens)]

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
    forged = lacking("replay", told(capture(kind="link", assurance="none", provider="sinch")))
    body = b"{}"

    answer = await client.post(path("sinch"), content=body, headers=[*forged, *basic("ferryman:Rope & Tide: 51")])

    assert (answer.status_code, answer.json()) == (200, {"status": "captured"})
    [entry] = await captures(redis, keyspace)
    assert entry[b"id"] != capture().id.encode()
    assert (entry[b"kind"], entry[b"received_at"]) == (b"callback", b"2026-11-21T12:00:00.000Z")
    assert entry[b"assurance"] == b"basic_auth"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capture", None),
        ("capture", b""),
        ("capture", b"cp_019E0F1A2B3C4D5E6F708192A3B40000"),
        ("capture", b"cp_019e0f1a2b3c4d5e6f708192a3b4000"),
        ("capture", b"019e0f1a2b3c4d5e6f708192a3b40000"),
        ("capture", b"cp_\xff"),
        ("received_at", None),
        ("received_at", b"yesterday"),
        ("received_at", b"1792571400"),
        ("received_at", b"1969-12-31T23:59:59.999Z"),
        ("received_at", b"2026-11-22T12:00:00.001Z"),
        ("received_at", b"9999-12-31T23:59:59Z"),
        ("assurance", None),
        ("assurance", b"sworn"),
        ("assurance", b"Signed"),
        ("kind", None),
        ("kind", b"replay"),
        ("headers", b""),
        ("headers", b"e30"),
        ("headers", b64encode(b"{}")),
        ("headers", b64encode(b'[["name"]]')),
        ("headers", b64encode(b'[["name", 7]]')),
        ("headers", b64encode('[["name", "\u2126"]]'.encode())),
        ("headers", b64encode(b'[["name", "\\ud83d"]]')),
        ("headers", b64encode(b"\xff\xfe")),
        ("headers", b"\xff"),
    ],
)
async def test_what_cannot_be_is_refused(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace, name: str, value: bytes | None
) -> None:
    """With a right token, a header that is missing or cannot be read is told apart from a wrong token, by its name."""
    headers = lacking(name, told(capture()))
    headers += [] if value is None else [(_name(name), value)]

    answer = await exchange(client, head("POST", path("telnyx"), headers, b"content-length: %d" % len(BODY)) + BODY)

    assert problem(answer) == (422, "replay_malformed")
    assert _name(name).decode() in orjson.loads(answer.body)["detail"]
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
                where, headers = (
                    f"/v1/outbound/{fixture.provider}/main-{fixture.provider}",
                    [(b"authorization", BEARER["authorization"].encode())],
                )
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

    They are not marked as replayed: for that receiver they are live. A second time through publishes no fact again; as
    with any redelivery, evidence that meets what came later may still bring keys together.
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
    later = await events(other, keyspace)
    assert later[: len(first)] == first
    assert {event["type"] for event in later[len(first) :]} <= {"conversation.merged"}


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
    body = (conformance.FIXTURES / "sendblue/received__group/body").read_bytes()
    async with running_app(here, redis_url) as client:
        await client.post(path("sendblue"), content=body, headers=proof("sendblue", body))

    async with running_app(there, other_url) as receiver:
        await repost(CaptureLog(redis, keyspace).scan(), str(receiver.base_url), TOKEN)

    [before], [after] = await captures(redis, keyspace), await captures(other, elsewhere)
    assert orjson.loads(before.pop(b"facts"))["lines"] == [LINE]
    assert orjson.loads(after.pop(b"facts")) == {"dedupe_seconds": 630_720_000, "copy_window_seconds": 10.0}
    assert after == before


async def test_the_same_capture_twice_is_harmless(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """An answer that got lost is asked for again: both are in the log, and every event comes of them once."""
    there = document(keyspace.namespace, retention={"dedupe": "7300d"}, **REPLAYS)
    body = (conformance.FIXTURES / "sendblue/received__group/body").read_bytes()
    once = capture(provider="sendblue", account="main-sendblue", body=body)

    async with running_app(there, redis_url) as receiver:
        tally = await repost(stream(entry_of(once), entry_of(once)), str(receiver.base_url), TOKEN)
        await work_off(there, redis_url)

    assert tally.captured == 2
    assert [entry[b"id"] for entry in await captures(redis, keyspace)] == [once.id.encode()] * 2
    published = await events(redis, keyspace)
    assert [event["type"] for event in published].count("message.received") == 1
    assert len({event["id"] for event in published}) == len(published)


async def test_an_entry_that_is_damaged_is_passed_over(
    client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace
) -> None:
    """What cannot be read in the log here is counted and told, and the next one is posted."""
    damaged = LogEntry("2-0", {**entry_of(capture()).fields, b"received_at": b"soon"})
    done: list[tuple[str, int]] = []

    tally = await repost(
        stream(entry_of(capture(1), "1-0"), damaged, entry_of(capture(3), "3-0")),
        str(client.base_url),
        TOKEN,
        on_done=lambda entry, status: done.append((entry.position, status)),
    )

    assert done == [("1-0", 200), ("2-0", UNREADABLE), ("3-0", 200)]
    assert tally == Tally(captured=2, unreadable=1)
    assert [entry[b"id"] for entry in await captures(redis, keyspace)] == [
        each.id.encode() for each in (capture(1), capture(3))
    ]


async def test_it_is_told_how_many_went_without_their_headers(client: httpx.AsyncClient) -> None:
    """Headers too long to come along are no reason to stop, and are counted."""
    long = capture(1, headers=((b"x-long", b"a" * 60_000),))

    tally = await repost(stream(entry_of(capture()), entry_of(long)), str(client.base_url), TOKEN)

    assert tally == Tally(captured=2, without_headers=1)


# --- what ends it ---


async def refused(url: str, token: str, *entries_: LogEntry) -> NotTaken:
    """How a receiver says no."""
    with pytest.raises(NotTaken) as caught:
        await repost(stream(*entries_), url, token, patience_seconds=0.1)
    assert "elican" not in str(caught.value)
    assert "caf" not in str(caught.value)
    return caught.value


async def test_it_stops_where_an_entry_is_refused(client: httpx.AsyncClient, redis: Redis, keyspace: Keyspace) -> None:
    """The first refusal ends it: nothing after it is posted, and the error knows where to go on and what is done."""
    unknown = entry_of(capture(1, account="old-telnyx"), "2-0")

    error = await refused(str(client.base_url), TOKEN, entry_of(capture(), "1-0"), unknown, entry_of(capture(2), "3-0"))

    assert (error.entry, error.status, error.tally) == (unknown, 404, Tally(captured=1))
    assert capture(1).id in str(error)
    assert "look there at [accounts.*]" in str(error)
    assert [entry[b"id"] for entry in await captures(redis, keyspace)] == [capture().id.encode()]


@pytest.mark.parametrize(("policy", "status"), [("reject", 401), ("defer", 503), ("quarantine", 200)])
async def test_a_wrong_token_ends_it_whatever_the_account_does_with_the_unauthentic(
    redis_url: str, redis: Redis, keyspace: Keyspace, policy: str, status: int
) -> None:
    """A 503 or 200 for a wrong token is a refusal all the same: waiting would not help, and nothing was taken."""
    accounts = {"main-telnyx": {**ACCOUNTS["main-telnyx"], "on_unauthentic": policy}}
    async with running_app(document(keyspace.namespace, accounts=accounts, **REPLAYS), redis_url) as there:
        error = await refused(str(there.base_url), "wrong-Pelican-token", entry_of(capture()))

    assert (error.status, error.tally) == (status, Tally())
    assert "server.replay_tokens" in str(error)
    assert await captures(redis, keyspace) == []


async def test_a_body_that_is_too_large_there_ends_it(redis_url: str, namespace: str) -> None:
    """It says which limit there is in the way."""
    server = {"replay_tokens": [TOKEN], "max_body": 1000, "max_in_flight": 1000}
    async with running_app(document(namespace, server=server), redis_url) as there:
        error = await refused(str(there.base_url), TOKEN, entry_of(capture(body=b"x" * 1001)))

    assert error.status == 413
    assert "look there at server.max_body" in str(error)


async def test_a_capture_that_cannot_be_ends_it(client: httpx.AsyncClient) -> None:
    """What is refused as malformed is told with the other's own words."""
    error = await refused(str(client.base_url), TOKEN, entry_of(capture(id=CaptureId("cp_short"))))

    assert error.status == 422
    assert "partyline-capture" in str(error)


async def test_the_wrong_port_is_told(redis_url: str, namespace: str) -> None:
    """Webhooks are not on the admin port, and it is said which settings tell the ports."""
    sockets = [listening(), listening()]
    public, admin = (each.getsockname()[1] for each in sockets)
    server = {"port": public, "admin_port": admin, "replay_tokens": [TOKEN]}
    async with running_app(document(namespace, server=server), redis_url, sockets=sockets):
        error = await refused(f"http://127.0.0.1:{admin}", TOKEN, entry_of(capture()))

    assert error.status == 404
    assert "server.port and server.admin_port" in str(error)


# --- a receiver, or something in front of it, that answers as it is told to ---


class Reply(NamedTuple):
    """One answer; `$ID` in the body stands for the capture that was posted."""

    status: int
    body: bytes = b""
    headers: bytes = b""


TAKEN = Reply(200, b'{"status":"captured","capture":"$ID"}')


@asynccontextmanager
async def answering(*replies: Reply) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Something that answers one reply after another, the last one for ever; its URL, and the heads of requests."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                received = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(re.findall(rb"content-length: (\d+)", received.lower())[0]))
                reply = replies[min(len(heads), len(replies) - 1)]
                heads.append(received)
                body = reply.body.replace(b"$ID", *re.findall(rb"partyline-capture: (\S+)", received.lower()))
                writer.write(
                    b"HTTP/1.1 %d Said\r\n%bcontent-length: %d\r\n\r\n%b"
                    % (reply.status, reply.headers, len(body), body)
                )
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


def trouble(status: int, reason: str, headers: bytes = b"") -> Reply:
    """A problem as partyline answers it."""
    return Reply(status, orjson.dumps({"status": status, "reason": reason, "detail": "for a while"}), headers)


async def timed(url: str, *entries_: LogEntry, **options: Any) -> tuple[Tally, float]:
    """What came of it, and how long it took."""
    began = asyncio.get_running_loop().time()
    tally = await repost(stream(*entries_), url, TOKEN, **options)
    return tally, asyncio.get_running_loop().time() - began


@pytest.mark.parametrize(
    "passing",
    [
        trouble(503, "store_unavailable"),
        trouble(503, "overloaded"),
        trouble(408, "body_too_slow"),
        Reply(502, b"<html>Bad Gateway</html>"),
        Reply(429, b"slowly"),
        Reply(504),
    ],
    ids=lambda reply: f"{reply.status} {reply.body.decode()[:30]}",
)
async def test_what_passes_is_waited_for(passing: Reply) -> None:
    """A receiver without Redis, or a proxy without its receiver, is asked again after a growing while, in order."""
    async with answering(TAKEN, passing, passing, TAKEN) as (url, heads):
        tally, seconds = await timed(url, *(entry_of(capture(number)) for number in range(3)))

    assert tally == Tally(captured=3, repeated=2)
    assert seconds >= 0.75
    posted = [re.findall(rb"partyline-capture: (\S+)", each.lower())[0].decode() for each in heads]
    assert posted == [capture(number).id for number in (0, 1, 1, 1, 2)]


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_heeded(as_date: bool) -> None:
    """A receiver that says when to come again is believed, in seconds or as a date."""
    said = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
    async with answering(trouble(503, "overloaded", f"Retry-After: {said}\r\n".encode()), TAKEN) as (url, _):
        tally, seconds = await timed(url, entry_of(capture()))

    assert tally == Tally(captured=1, repeated=1)
    assert seconds >= 0.9


@pytest.mark.parametrize("said", [b"-1", b"soon", b"", b"\xff", b"1.5", b"Fri, 99 Feb 2026 00:00:00 GMT"])
async def test_a_retry_after_that_says_nothing_is_passed_over(said: bytes) -> None:
    """What is neither seconds nor a date leaves the pause to us."""
    async with answering(trouble(503, "overloaded", b"Retry-After: %b\r\n" % said), TAKEN) as (url, _):
        tally, seconds = await timed(url, entry_of(capture()))

    assert tally == Tally(captured=1, repeated=1)
    assert seconds < 2


@pytest.mark.parametrize("retry_after", [b"", b"Retry-After: 3600\r\n"])
async def test_patience_ends(retry_after: bytes) -> None:
    """When it has been away for too long, or says that it will be, it ends and can be gone on with there."""
    async with answering(TAKEN, trouble(503, "store_unavailable", retry_after)) as (url, _):
        began = asyncio.get_running_loop().time()
        with pytest.raises(NotTaken, match="HTTP 503 store_unavailable") as caught:
            await timed(url, entry_of(capture(), "1-0"), entry_of(capture(1), "2-0"), patience_seconds=0.6)

    assert (caught.value.entry.position, caught.value.status, caught.value.tally.captured) == ("2-0", 503, 1)
    assert asyncio.get_running_loop().time() - began < 2


@pytest.mark.parametrize(
    ("reply", "status", "says"),
    [
        (Reply(200, b"OK"), 200, "something that takes no captures"),
        (Reply(200, b'{"status":"captured"}'), 200, "something that takes no captures"),
        (Reply(200, b'{"status":"captured","capture":"cp_0"}'), 200, "something that takes no captures"),
        (Reply(200, b'{"status":["captured"]}'), 200, "something that takes no captures"),
        (Reply(204), 204, "from something that is not partyline"),
        (Reply(307, b"", b"location: https://hooks.example.com/\r\n"), 307, "look at the URL"),
        (Reply(401, b"who are you?"), 401, "look at the URL"),
        (Reply(413, b"<html>"), 413, "look at the URL"),
        (trouble(401, "signature_missing"), 401, "which knows no replay tokens yet"),
        (trouble(401, "signature_mismatch"), 401, "look there at server.replay_tokens"),
        (trouble(431, "head_too_large"), 431, "head_too_large: for a while"),
        (trouble(418, "\x1b[2Jteapot"), 418, "HTTP 418  [2Jteapot: for a while"),
    ],
)
async def test_what_would_not_pass_ends_it_at_once(reply: Reply, status: int, says: str) -> None:
    """No other answer is taken for a capture's 200, or for one that another attempt would change."""
    async with answering(reply) as (url, heads):
        error = await refused(url, TOKEN, entry_of(capture()))

    assert (error.status, error.tally, len(heads)) == (status, Tally(), 1)
    assert says in str(error)


async def test_the_original_bytes_go_to_the_webhook_route_below_a_path() -> None:
    """A receiver may be behind a path of a proxy's; the token goes with every request, and nothing else does."""
    async with answering(TAKEN) as (url, heads):
        await repost(stream(entry_of(capture())), f"{url}/inbound/", TOKEN)

    [received] = heads
    assert received.startswith(b"POST /inbound/webhooks/telnyx/main-telnyx HTTP/1.1\r\n")
    assert b"partyline-replay: %b\r\n" % TOKEN.encode() in received.lower().replace(b"pelican", b"Pelican")
    assert b"authorization" not in received.lower()


async def test_a_receiver_that_comes_up_late_is_waited_for(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """A connection that is refused is tried again, and nothing is lost."""
    bound = listening()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    posting = asyncio.create_task(repost(stream(entry_of(capture())), url, TOKEN))
    await asyncio.sleep(0.4)
    async with running_app(document(keyspace.namespace, **REPLAYS), redis_url, sockets=[bound]):
        tally = await posting

    assert (tally.captured, tally.repeated > 0) == (1, True)
    assert len(await captures(redis, keyspace)) == 1


async def test_a_receiver_that_never_answers_ends_it_soon() -> None:
    """A URL where nothing has ever answered is more likely wrong than away: that is told soon, without the token."""
    bound = listening()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    began = asyncio.get_running_loop().time()

    with pytest.raises(NotTaken, match=f"{url} does not answer") as caught:
        await repost(stream(entry_of(capture())), url, TOKEN)

    bound.close()
    assert (caught.value.status, "elican" in str(caught.value)) == (0, False)
    assert asyncio.get_running_loop().time() - began < 15


async def test_a_rate_is_kept() -> None:
    """At two a second the fifth goes out two seconds after the first, however fast the other is."""
    async with answering(TAKEN) as (url, _):
        tally, seconds = await timed(url, *(entry_of(capture(number)) for number in range(5)), rate=2)
        _, unbound = await timed(url, *(entry_of(capture(number)) for number in range(5)))

    assert tally.captured == 5
    assert 2 <= seconds < 5
    assert unbound < 2


@pytest.mark.parametrize(
    ("url", "token", "rate", "mistake"),
    [
        ("", TOKEN, None, "does not begin with http:// or https://, a host and its port"),
        ("hooks.example.com", TOKEN, None, "does not begin with http:// or https://, a host and its port"),
        ("ftp://hooks.example.com", TOKEN, None, "does not begin with http:// or https://, a host and its port"),
        ("http://", TOKEN, None, "does not begin with http:// or https://, a host and its port"),
        ("http://hooks.example.com:99999", TOKEN, None, "does not begin with http:// or https://, a host and its port"),
        ("http://[::1", TOKEN, None, "is not one"),
        ("https://hush:hush@hooks.example.com", TOKEN, None, "holds a user"),
        ("https://hooks.example.com/?token=hush", TOKEN, None, "goes on after the path"),
        ("https://hooks.example.com", "", None, "is empty, or holds a space"),
        ("https://hooks.example.com", "hush hush", None, "is empty, or holds a space"),
        ("https://hooks.example.com", "h\u00fcsh", None, "is empty, or holds a space"),
        ("https://hooks.example.com", "hush\r\nhost: hush", None, "is empty, or holds a space"),
        ("https://hooks.example.com", TOKEN, 0, "is not more than zero"),
        ("https://hooks.example.com", TOKEN, -1, "is not more than zero"),
        ("https://hooks.example.com", TOKEN, float("nan"), "is not more than zero"),
    ],
)
async def test_a_mistake_in_what_is_asked_for_is_told_before_anything_is_posted(
    url: str, token: str, rate: float | None, mistake: str
) -> None:
    """A URL, token or rate that cannot be used is a mistake like one in the configuration, and is not repeated."""
    with pytest.raises(ConfigError, match=re.escape(mistake)) as caught:
        await repost(stream(entry_of(capture())), url, token, rate=rate)

    assert "hush" not in str(caught.value)
