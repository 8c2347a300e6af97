"""The pipeline: what one log entry says, and how a log becomes events over a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from correlator.gathering import Entry
from correlator.lease import LEASE_SECONDS, Lease
from correlator.redis_client import connect
from correlator.store import Store
from receiver import metrics
from receiver import pipeline as pipeline_module
from receiver.captures import CaptureLog, LogEntry
from receiver.parsing import parse, read
from receiver.pipeline import Pipeline
from receiver.provider import Provider
from receiver.providers import PROVIDERS
from receiver.settings import Retention
from schemas.callback import AccountFacts, Assurance, Callback, Capture
from schemas.errors import ParseError, StoreError
from schemas.events import Parsed, Unreadable
from schemas.ids import CaptureId
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS, encode_capture, encode_facts
from tests import conformance
from tests.engine import DAY, ID_KEY, MESSAGES_SECONDS, NOW, Engine, capture, event, pair, unreadable


def by_words(capture: Capture) -> list[Parsed]:
    """A provider whose bodies are words, each a message in one direct conversation; some words misbehave."""
    return [_said(word, capture) for word in capture.body.decode().split()]


def _said(word: str, capture: Capture) -> Parsed:
    match word:
        case "hopeless":
            raise ParseError("$.words", "nothing of it can be read")
        case "surprise":
            raise RuntimeError("a mistake of ours, with +15555550111 in it")
        case "smudged":
            return unreadable("$.words[1]")
    return event(word, pair(), provider=capture.provider, account=capture.account)


WORDS = Provider("words", (), by_words, by_words)
PROVIDING = {**PROVIDERS, "words": WORDS}


def fields(identifier: str, body: bytes, provider: str = "words", **facts: Any) -> dict[bytes, bytes]:
    """One entry of the capture log."""
    callback = Callback(provider, "main", NOW, "signed", "secrets[0]", (), body, AccountFacts(**facts))
    values = encode_capture(CaptureId(identifier), callback, encode_facts(callback.facts))
    return dict(zip(CAPTURE_FIELDS, values, strict=True))


def said(entry: Entry) -> list[str]:
    """What was read: an event's id, or why there is none."""
    return [item.reason if isinstance(item, Unreadable) else item.id for item in entry.parsed]


# --- reading one entry ------------------------------------------------------------------------------------


def test_an_entry_says_what_its_provider_reads() -> None:
    """An entry is its position, its capture and the events in it, in order."""
    entry = read(LogEntry("5-0", fields("cp_1", b"one two")), PROVIDING)

    assert (entry.position, entry.capture.id, entry.capture.received_at) == ("5-0", "cp_1", NOW)
    assert said(entry) == ["words:main:one", "words:main:two"]
    assert entry.replayed is False


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"hopeless", Unreadable("unreadable", "$.words", "nothing of it can be read"), id="ParseError"),
        pytest.param(b"surprise", Unreadable("parser_failed", "$", "RuntimeError"), id="any other error"),
        pytest.param(b"", Unreadable("nothing_found", "$", "no element that could be an event"), id="nothing in it"),
        pytest.param(b"\xff", Unreadable("parser_failed", "$", "UnicodeDecodeError"), id="an error of Python's own"),
    ],
)
def test_what_cannot_be_parsed_says_why(body: bytes, expected: Unreadable) -> None:
    """Parsing is total: a capture that gives no event gives the reason, without texts or addresses."""
    assert parse(capture(provider="words", body=body), WORDS) == [expected]


def test_an_element_that_cannot_be_read_stands_among_the_others() -> None:
    """One bad element of a capture takes no other with it."""
    entry = read(LogEntry("5-0", fields("cp_1", b"one smudged two")), PROVIDING)

    assert said(entry) == ["words:main:one", "unreadable", "words:main:two"]


def test_a_provider_that_is_unknown_is_a_dead_letter() -> None:
    """A capture of a provider that this version does not have is kept and named, not guessed at."""
    entry = read(LogEntry("5-0", fields("cp_1", b"one", provider="pigeon")), PROVIDING)

    assert entry.parsed == (Unreadable("unknown_provider", "$", "no provider pigeon"),)
    assert (entry.capture.id, entry.capture.provider) == ("cp_1", "pigeon")


def test_the_kind_of_a_capture_says_who_reads_it() -> None:
    """Callbacks and registered sends are read by two functions of the provider, a link by neither."""
    words = msgspec.structs.replace(WORDS, register=lambda _: [event("registered", pair(), provider="words")])
    kinds = {
        kind: said(read(LogEntry("5-0", {**fields("cp_1", body), b"kind": kind.encode()}), {"words": words}))
        for kind, body in (
            ("callback", b"one"),
            ("outbound", b"one"),
            ("link", b'{"tie": ["+15555550111", "+15555550112"]}'),
        )
    }

    assert kinds == {
        "callback": ["words:main:one"],
        "outbound": ["words:main:registered"],
        "link": ["partyline:link:cp_1"],
    }


def test_a_link_outlives_its_provider() -> None:
    """A link between conversations of a provider that is gone is read all the same; one that is none is a letter."""
    link = {**fields("cp_1", b'{"tie": ["a@example.com", "b@example.com"]}', "pigeon"), b"kind": b"link"}
    entry = read(LogEntry("5-0", link), PROVIDING)
    damaged = read(LogEntry("5-0", {**link, b"body": b'{"tie": ["a@example.com"]}'}), PROVIDING)

    assert said(entry) == ["partyline:link:cp_1"]
    assert damaged.parsed == (Unreadable("unreadable", "$.tie", "not a pair of texts"),)


def test_an_old_send_is_refused_like_an_old_callback() -> None:
    """A registration older than the window could have been forgotten, and would be published twice."""
    old = event("a", pair(), at_seconds=-8 * DAY - 1)
    provider = Provider("words", (), lambda _: [], lambda _: [old])
    entry = read(LogEntry("5-0", {**fields("cp_1", b""), b"kind": b"outbound"}), {"words": provider})

    assert said(entry) == ["too_old"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        pytest.param({b"received_at": None}, "capture.received_at", id="no time of receipt"),
        pytest.param({b"received_at": b"yesterday"}, "capture.received_at", id="a time that is none"),
        pytest.param({b"body": None}, "capture.body", id="no body"),
        pytest.param({b"facts": b"{"}, "capture", id="facts that are no JSON"),
        pytest.param({b"facts": b'{"lines": 7}'}, "capture", id="facts of another shape"),
        pytest.param({b"headers": b"[[1, 2]]"}, "capture", id="headers of another shape"),
        pytest.param({b"headers": b"\xff"}, "capture", id="headers that are no text"),
        pytest.param({b"assurance": b"rumour"}, "capture", id="an assurance that there is not"),
        pytest.param({b"provider": b"\xff"}, "capture", id="a provider that is no text"),
    ],
)
def test_a_damaged_entry_is_a_dead_letter(changes: Mapping[bytes, bytes | None], path: str) -> None:
    """An entry that is not a capture is a dead letter by its id, and says which field it is."""
    damaged = {**fields("cp_1", b"one"), **changes}
    present = {name: value for name, value in damaged.items() if value is not None}
    entry = read(LogEntry("5-0", present), PROVIDING)
    [letter] = entry.parsed

    assert isinstance(letter, Unreadable)
    assert (letter.reason, letter.path) == ("damaged", path)
    assert (entry.position, entry.capture.id) == ("5-0", "cp_1")


@pytest.mark.parametrize(
    ("found", "name"),
    [
        pytest.param({b"body": b"one"}, "5-0", id="none, so its position"),
        pytest.param({b"id": b"cp_\xff"}, "cp_\ufffd", id="no text"),
        pytest.param({}, "5-0", id="an empty entry"),
    ],
)
def test_a_damaged_entry_without_a_good_id_has_a_name(found: dict[bytes, bytes], name: str) -> None:
    """Even an entry without readable id leaves a dead letter that can be traced to it."""
    assert read(LogEntry("5-0", found), PROVIDING).capture.id == name


# --- rule 8: too old --------------------------------------------------------------------------------------

WINDOW = timedelta(days=8)
MOMENT = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("provider", "assurance", "age", "reason"),
    [
        pytest.param("sendblue", "shared_secret", timedelta(), None, id="now"),
        pytest.param("sendblue", "shared_secret", WINDOW, None, id="exactly at the window"),
        pytest.param("sendblue", "shared_secret", WINDOW + MOMENT, "too_old", id="beyond it"),
        pytest.param("sendblue", "url_token", WINDOW + MOMENT, "too_old", id="by a token in the URL"),
        pytest.param("sendblue", "shared_secret", -2 * WINDOW, None, id="of the future"),
        pytest.param("sendblue", "shared_secret", None, None, id="without a time of its own"),
        pytest.param("telnyx", "signed", WINDOW + MOMENT, None, id="Telnyx signs the time of sending"),
        pytest.param("telnyx", "signed", 100 * WINDOW, None, id="Telnyx, however old the fact"),
        pytest.param("telnyx", "none", WINDOW + MOMENT, "too_old", id="Telnyx without signature"),
        pytest.param("whatsapp", "signed", WINDOW + MOMENT, "too_old", id="WhatsApp signs no time"),
        pytest.param("sinch", "signed", WINDOW + MOMENT, "too_old", id="Sinch signs no time that is checked"),
        pytest.param("sinch", "basic_auth", WINDOW + MOMENT, "too_old", id="Sinch by password"),
    ],
)
def test_what_is_older_than_de_duplication_is_refused(
    provider: str, assurance: Assurance, age: timedelta | None, reason: str | None
) -> None:
    """A fact older than the window at receipt is `too_old`, unless the signature itself limits its age."""
    fact = event("a", pair(), provider=provider, at_seconds=None if age is None else -age.total_seconds())
    single = msgspec.structs.replace(PROVIDERS[provider], parse=lambda _: [fact])
    entry = read(
        LogEntry("5-0", {**fields("cp_1", b"", provider), b"assurance": assurance.encode()}), {provider: single}
    )
    [item] = entry.parsed

    assert (item.reason if isinstance(item, Unreadable) else None) == reason


def test_the_window_is_the_captures_own() -> None:
    """Old samples pass with a wider `dedupe`, as it was at receipt."""
    fact = event("a", pair(), provider="sendblue", at_seconds=-400 * DAY)
    old = msgspec.structs.replace(PROVIDERS["sendblue"], parse=lambda _: [fact])
    said_by = {
        days: said(read(LogEntry("5-0", fields("cp_1", b"", "sendblue", dedupe_seconds=days * DAY)), {"sendblue": old}))
        for days in (399, 400)
    }

    assert said_by == {399: ["too_old"], 400: ["sendblue:main:a"]}


def test_one_old_element_takes_no_other_with_it() -> None:
    """Age is judged element by element."""
    both: list[Parsed] = [event("old", pair(), at_seconds=-9 * DAY), event("new", pair())]
    provider = Provider("words", (), lambda _: both, lambda _: both)
    entry = read(LogEntry("5-0", fields("cp_1", b"")), {"words": provider})

    assert said(entry) == ["too_old", "telnyx:main:new"]


# --- running ----------------------------------------------------------------------------------------------


async def until(value: Callable[[], Awaitable[Any]], wanted: set[Any], seconds: float = 5) -> None:
    """Wait until something is as wanted."""
    async with asyncio.timeout(seconds):
        while True:
            if await value() in wanted:
                return
            await asyncio.sleep(0.005)


class Runs:
    """A capture log and pipelines over it."""

    def __init__(self, engine: Engine, redis_url: str) -> None:
        self.engine = engine
        self.url = redis_url
        self.log = CaptureLog(engine.redis, engine.keyspace)
        self.logged = 0

    async def receive(self, *bodies: bytes, provider: str = "words", **facts: Any) -> None:
        """Append captures to the log, named cp_1 and so on."""
        first = self.logged + 1
        self.logged += len(bodies)
        await self.log.append(
            [list(fields(f"cp_{first + at}", body, provider, **facts).values()) for at, body in enumerate(bodies)]
        )

    @asynccontextmanager
    async def pipeline(
        self, retention: Retention | None = None, lease_seconds: float = LEASE_SECONDS
    ) -> AsyncIterator[tuple[Pipeline, Store]]:
        """A pipeline at work, stopped in order in the end."""
        redis, keyspace = connect(self.url, 10.0), self.engine.keyspace
        store = Store(redis, keyspace, ID_KEY, MESSAGES_SECONDS)
        lease = Lease(redis, keyspace, lease_seconds)
        running = Pipeline(CaptureLog(redis, keyspace), store, lease, PROVIDING, retention or Retention())
        task = asyncio.create_task(running.run())
        try:
            yield running, store
        finally:
            running.stop()
            await asyncio.wait_for(task, 5)
            await redis.aclose()

    async def settled(self, seconds: float = 5) -> None:
        """Wait until everything in the log is committed."""
        [(last, _)] = await self.engine.redis.xrevrange(self.engine.keyspace.captures, count=1)
        await until(lambda: self.engine.redis.get(self.engine.keyspace.cursor), {last}, seconds)

    async def messages(self) -> list[str]:
        """The message ids in the stream, in order."""
        return [item["data"]["message"]["id"] for item in await self.engine.events()]


@pytest.fixture
def runs(redis: Any, keyspace: Keyspace, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """A log of its own; pipelines over it wait only briefly for what comes, so that they stop soon."""
    monkeypatch.setattr(pipeline_module, "_WAIT_MILLISECONDS", 40)
    return Runs(Engine(redis, keyspace), redis_url)


async def test_a_log_becomes_events_in_its_order(runs: Runs) -> None:
    """What was in the log before the pipeline started, and what comes later, stands in the stream in that order."""
    await runs.receive(b"one two", b"three")
    async with runs.pipeline():
        await runs.settled()
        await runs.receive(b"four")
        await runs.settled()

    assert await runs.messages() == ["one", "two", "three", "four"]
    assert [int(item["sequence"]) for item in await runs.engine.events()] == [1, 2, 3, 4]


async def test_more_than_one_batch_is_worked_off(runs: Runs) -> None:
    """A long log is read batch after batch, without a gap or a repetition at the seams."""
    await runs.receive(*[b"w%d" % number for number in range(600)])
    async with runs.pipeline():
        await runs.settled()

    assert await runs.messages() == [f"w{number}" for number in range(600)]


async def test_in_ordinary_work_nothing_is_committed_twice(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch goes on where the one before ended: every entry is read and committed once, in order."""
    committed: list[str] = []
    async with runs.pipeline() as (_, store):
        commit = store.commit

        async def noting(token: str, after: str, entries: Sequence[Entry]) -> Any:
            committed.extend(entry.position for entry in entries)
            return await commit(token, after, entries)

        monkeypatch.setattr(store, "commit", noting)
        for number in range(5):
            await runs.receive(*[b"w%d" % (number * 3 + at) for at in range(3)])
            await runs.settled()

    assert committed == [entry.position for entry in await runs.log.read("", 100, 1)]


async def test_each_kind_of_bad_capture_is_a_dead_letter_at_once(runs: Runs) -> None:
    """Bad captures become dead letters with their reason, in order; their neighbours are events as ever."""
    await runs.receive(b"one", b"hopeless", b"two", b"three surprise", b"four", b"five smudged six", b"")
    await runs.receive(b"seven", provider="pigeon")
    await runs.engine.redis.xadd(runs.engine.keyspace.captures, {"id": "cp_9", "body": "eight"})
    await runs.receive(b"nine")
    async with runs.pipeline():
        await runs.settled()

    assert await runs.messages() == ["one", "two", "four", "five", "six", "nine"]
    assert [(identifier, reason) for identifier, reason, _ in await runs.engine.dead()] == [
        ("cp_2", "unreadable"),
        ("cp_4", "parser_failed"),
        ("cp_6", "unreadable"),
        ("cp_7", "nothing_found"),
        ("cp_8", "unknown_provider"),
        ("cp_9", "damaged"),
    ]


async def test_a_dead_letter_quotes_no_error_text(runs: Runs) -> None:
    """What an unexpected error says may hold texts and numbers, so only its kind is kept."""
    await runs.receive(b"surprise")
    async with runs.pipeline():
        await runs.settled()

    assert await runs.engine.dead() == [("cp_1", "parser_failed", "$: RuntimeError")]


async def test_a_restart_goes_on_from_the_cursor(runs: Runs) -> None:
    """A pipeline that is stopped and started again repeats neither event nor dead letter."""
    await runs.receive(b"one", b"hopeless", b"two")
    async with runs.pipeline():
        await runs.settled()
    before = await runs.engine.raw_events()
    await runs.receive(b"three")
    async with runs.pipeline():
        await runs.settled()
    after = await runs.engine.raw_events()

    assert after[:2] == before
    assert await runs.messages() == ["one", "two", "three"]
    assert len(await runs.engine.dead()) == 1


async def test_a_redelivery_and_a_capture_written_twice_are_one_event(runs: Runs) -> None:
    """A provider's second attempt has another capture id, a write that was applied twice has the same: both are one."""
    await runs.receive(b"one", b"one")
    twice = list(fields("cp_3", b"two").values())
    await runs.log.append([twice, twice])
    async with runs.pipeline():
        await runs.settled()

    assert await runs.messages() == ["one", "two"]
    assert [item["data"]["capture"] for item in await runs.engine.events()] == ["cp_1", "cp_3"]


async def test_an_idle_pipeline_keeps_its_lease(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is renewed while there is nothing to do, so that no other pipeline takes it meanwhile."""
    monkeypatch.setattr(pipeline_module, "_RENEW_SECONDS", 0.05)
    async with runs.pipeline(lease_seconds=0.3):
        await runs.receive(b"one")
        await runs.settled()
        holder = await runs.engine.redis.get(runs.engine.keyspace.lease)
        for _ in range(5):
            await asyncio.sleep(0.1)

            assert await runs.engine.redis.get(runs.engine.keyspace.lease) == holder


async def test_a_pipeline_that_stops_gives_up_its_lease(runs: Runs) -> None:
    """Stopping finishes what is under way and leaves the lease free."""
    async with runs.pipeline():
        await runs.receive(b"one")
        await runs.settled()
        assert await runs.engine.redis.exists(runs.engine.keyspace.lease) == 1

    assert await runs.engine.redis.exists(runs.engine.keyspace.lease) == 0


async def test_of_two_pipelines_one_works_and_the_other_takes_over(runs: Runs) -> None:
    """While the first holds the lease the second waits; when it stops, the second goes on where it ended."""
    async with runs.pipeline() as (first, _):
        await runs.receive(b"one")
        await runs.settled()
        holder = await runs.engine.redis.get(runs.engine.keyspace.lease)
        async with runs.pipeline():
            await runs.receive(b"two")
            await runs.settled()
            assert await runs.engine.redis.get(runs.engine.keyspace.lease) == holder

            first.stop()
            await runs.receive(b"three", b"one")
            await runs.settled()
            await runs.receive(b"four")
            await runs.settled()
            assert await runs.engine.redis.get(runs.engine.keyspace.lease) not in {None, holder}

    assert await runs.messages() == ["one", "two", "three", "four"]


async def test_a_pipeline_whose_lease_was_taken_commits_nothing(runs: Runs) -> None:
    """A pipeline that wakes up after its lease went to another leaves the log alone until it has the lease again."""
    lease = runs.engine.keyspace.lease
    async with runs.pipeline():
        await runs.receive(b"one")
        await runs.settled()
        await runs.engine.redis.set(lease, "another pipeline's")
        await runs.receive(b"two")
        await asyncio.sleep(0.15)
        assert await runs.messages() == ["one"]

        await runs.engine.redis.delete(lease)
        await runs.settled()

    assert await runs.messages() == ["one", "two"]


async def test_a_lease_that_went_to_another_during_an_outage_is_not_said_to_be_held(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody told the pipeline that it lost the lease: it learns so when it takes it again, and says so in metrics."""
    lease, held = runs.engine.keyspace.lease, metrics.LEASE_HELD.labels(0)._value
    async with runs.pipeline() as (_, store):
        await runs.receive(b"one")
        await runs.settled()
        assert held.get() == 1

        commit = store.commit

        async def fails(*_: Any) -> Any:
            await runs.engine.redis.set(lease, "another pipeline's")
            monkeypatch.setattr(store, "commit", commit)
            raise StoreError("Redis does not answer")

        monkeypatch.setattr(store, "commit", fails)
        await runs.receive(b"two")
        async with asyncio.timeout(5):
            while held.get():  # noqa: ASYNC110 - a metric tells nobody
                await asyncio.sleep(0.02)

        await runs.engine.redis.delete(lease)
        await runs.settled()

        assert held.get() == 1


async def test_after_a_failed_commit_the_pipeline_goes_on_soon(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single failure of Redis costs a second or so, not the time that the pipeline's own lease has left."""
    async with runs.pipeline() as (_, store):
        await runs.receive(b"one")
        await runs.settled()
        commit = store.commit

        async def failing(*_: Any) -> Any:
            monkeypatch.setattr(store, "commit", commit)
            raise StoreError("Redis: TimeoutError: made up")

        monkeypatch.setattr(store, "commit", failing)
        await runs.receive(b"two")
        await runs.settled(seconds=4)

    assert await runs.messages() == ["one", "two"]


async def test_house_is_kept_by_the_settings(runs: Runs) -> None:
    """Captures, events and dead letters beyond their retention go, though none that is not committed yet."""
    await runs.receive(b"one", b"hopeless", b"two")
    async with runs.pipeline(Retention(captures_max_bytes=0, events_max_bytes=0)):
        await until(lambda: runs.engine.redis.xlen(runs.engine.keyspace.captures), {0})
        await until(lambda: runs.engine.redis.xlen(runs.engine.keyspace.events), {0})

    assert len(await runs.engine.dead()) == 1
    assert await runs.engine.redis.get(runs.engine.keyspace.bytes_of(runs.engine.keyspace.captures)) == b"0"


# --- with the real providers ------------------------------------------------------------------------------


def telnyx(name: str, sender: str, text: str, *, cc: list[Any]) -> bytes:
    """A group MMS as Telnyx tells it."""
    return orjson.dumps(
        {
            "data": {
                "event_type": "message.received",
                "id": f"11111111-2222-4333-8444-{name}",
                "occurred_at": "2026-11-21T11:59:58.129+00:00",
                "payload": {
                    "direction": "inbound",
                    "from": {"phone_number": sender},
                    "to": [{"phone_number": "+15555550100", "status": "webhook_delivered"}],
                    "cc": cc,
                    "id": f"99999999-2222-4333-8444-{name}",
                    "text": text,
                    "type": "MMS",
                },
                "record_type": "event",
            }
        }
    )


async def test_a_group_is_one_conversation_however_its_members_are_written(runs: Runs) -> None:
    """Own number in cc or not, texts or objects, any order and spelling: one group; without a member, another."""
    as_objects = [{"phone_number": "15555550111"}, {"phone_number": "+1 (555) 555-0112"}]
    await runs.receive(
        telnyx("000000000001", "+15555550111", "Seven?", cc=["+15555550112", "+15555550113"]),
        telnyx("000000000002", "+15555550112", "Yes", cc=["+15555550100", "+15555550113", "+15555550111"]),
        telnyx("000000000003", "+15555550113", "No", cc=as_objects),
        telnyx("000000000004", "+15555550111", "Without them", cc=["+15555550112"]),
        provider="telnyx",
    )
    async with runs.pipeline():
        await runs.settled()
    one, two, three, other = await runs.engine.events()

    assert one["subject"] == two["subject"] == three["subject"] != other["subject"]
    assert [item["sequence"][-1] for item in (one, two, three, other)] == ["1", "2", "3", "1"]
    assert three["data"]["conversation"]["participants"] == ["+15555550111", "+15555550112", "+15555550113"]
    assert three["data"]["conversation"]["lines"] == ["+15555550100"]


def _logged(folder: Path, number: int) -> list[bytes]:
    """A fixture's capture as it stands in the log, with a window wide enough for its age."""
    found = conformance.load(folder)
    facts = msgspec.structs.replace(found.facts, dedupe_seconds=10_000 * DAY)
    callback = Callback(
        found.provider, found.account, found.received_at, found.assurance, "", found.headers, found.body, facts
    )
    return encode_capture(CaptureId(f"cp_{number}"), callback, encode_facts(facts), found.kind)


async def test_every_fixture_goes_through_together(runs: Runs) -> None:
    """All fixtures in one log: each fact of theirs is in the stream once, each unreadable element a dead letter."""
    folders = conformance.folders()
    expected = [item for folder in folders for item in conformance.expected(folder)]
    await runs.log.append([_logged(folder, number) for number, folder in enumerate(folders)])
    async with runs.pipeline():
        await runs.settled(seconds=20)
    events = await runs.engine.events()
    by_subject: dict[str, list[int]] = {}
    for item in events:
        by_subject.setdefault(item["subject"], []).append(int(item["sequence"]))
    facts = {item["id"] for item in expected if "unreadable" not in item and item["type"] != "typing"}
    followed = [item for item in events if "#" in item["id"]]

    # What follows from them among themselves, merges and changes of groups, is told besides, once each.
    assert sorted(item["id"] for item in events if "#" not in item["id"]) == sorted(facts)
    assert len({item["id"] for item in followed}) == len(followed)
    assert {item["id"].partition("#")[0] for item in followed} <= facts
    assert [reason for _, reason, _ in await runs.engine.dead()] == [
        item["unreadable"] for item in expected if "unreadable" in item
    ]
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_subject.values())
