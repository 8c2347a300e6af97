"""Dead letters: found with their captures, read again after a fix, and removed only where everything can be read."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson
import pytest
from redis.asyncio import Redis

from correlator.lease import Lease
from correlator.store import Store
from receiver import streams
from receiver.bodies import around, harmless, readable
from receiver.captures import CaptureLog, LogEntry
from receiver.letters import Letter, Letters
from receiver.parsing import read
from receiver.provider import Provider
from receiver.providers import PROVIDERS
from schemas.callback import AccountFacts, Callback, Capture
from schemas.errors import ParseError, StoreError
from schemas.events import Parsed
from schemas.ids import CaptureId, capture_id
from schemas.keyspace import Keyspace
from schemas.wire import encode_capture, encode_facts

MESSAGES_SECONDS = 30 * 86400
MOMENT = 1_795_000_000_000


def body_of(name: str, *, broken: bool = False) -> bytes:
    """A message at Sinch; a broken one has a recipient that is no text."""
    to: Any = {"not": "a text"} if broken else "15555550100"
    return orjson.dumps({"type": "mo_text", "id": name, "from": "15555550111", "to": to, "body": "Ahoy"})


def identifier(number: int) -> CaptureId:
    """The id of a capture that was made a number of seconds after a moment."""
    return capture_id(MOMENT + 1000 * number, bytes(10))


async def write(redis: Redis, keyspace: Keyspace, number: int, body: bytes) -> CaptureId:
    """Put one capture into the log."""
    facts = AccountFacts(lines=("+15555550100",))
    now = datetime.now(UTC)
    callback = Callback("sinch", "main", now, "signed", "secrets[0]", (), body, facts)
    await CaptureLog(redis, keyspace).append([encode_capture(identifier(number), callback, encode_facts(facts))])
    return identifier(number)


class Bench:
    """A pipeline that is run by hand, and what it was asked to read."""

    def __init__(self, redis: Redis, keyspace: Keyspace) -> None:
        self.redis = redis
        self.keyspace = keyspace
        self.providers: Mapping[str, Provider] = PROVIDERS
        self.asked: list[str] = []
        self.poison: set[str] = set()

    async def replay(self, entries: AsyncIterator[LogEntry]) -> None:
        """Commit captures again as a pipeline does; a poisonous one breaks the batch that it is in."""
        lease = Lease(self.redis, self.keyspace, 60)
        assert await lease.take()
        store = Store(self.redis, self.keyspace, b"a key", MESSAGES_SECONDS)
        try:
            async for entry in entries:
                self.asked.append(entry.fields[b"id"].decode())
                if self.asked[-1] in self.poison:
                    raise RuntimeError("poison")
                await store.commit(lease.token, await store.cursor(), [read(entry, self.providers)])
        finally:
            await lease.give_up()

    async def letters(self) -> list[Letter]:
        """All that there are."""
        return [letter async for letter in Letters(self.redis, self.keyspace).all()]

    async def published(self) -> int:
        """How many events there are."""
        return int(await self.redis.xlen(self.keyspace.events))

    def break_parser(self, *names: str) -> None:
        """From now on messages with these ids cannot be read."""

        def parse(capture: Capture) -> list[Parsed]:
            if any(name.encode() in capture.body for name in names):
                raise ParseError("$.id", "of a kind that nobody foresaw")
            return PROVIDERS["sinch"].parse(capture)

        self.providers = {**PROVIDERS, "sinch": msgspec.structs.replace(PROVIDERS["sinch"], parse=parse)}

    def mend_parser(self) -> None:
        """From now on everything can be read that should be."""
        self.providers = PROVIDERS
        self.asked.clear()


@pytest.fixture
async def bench(redis: Redis, keyspace: Keyspace) -> Bench:
    """Four captures, of which the parser takes none but the third."""
    made = Bench(redis, keyspace)
    made.break_parser("first", "second", "fourth")
    for number, name in enumerate(("first", "second", "third", "fourth")):
        await write(redis, keyspace, number, body_of(name))
    await made.replay(CaptureLog(redis, keyspace).scan())
    return made


async def test_a_letter_names_capture_reason_and_place(bench: Bench) -> None:
    """What the commit wrote is read back, and the capture is found by its id."""
    first, *_ = await bench.letters()
    entry = await Letters(bench.redis, bench.keyspace).capture(first)

    assert (first.capture, first.reason, first.place) == (identifier(0), "unreadable", "$.id")
    assert first.detail == "of a kind that nobody foresaw"
    assert entry is not None
    assert entry.fields[b"body"] == body_of("first")


async def test_after_a_fix_letters_become_events(bench: Bench) -> None:
    """Chosen captures are read again in the order of the log, once each; letters that are none any more go."""
    first, second, fourth = await bench.letters()
    bench.mend_parser()

    retried = await Letters(bench.redis, bench.keyspace).retry(
        [fourth, first, first], bench.providers, bench.replay, datetime.now(UTC)
    )

    assert bench.asked == [identifier(0), identifier(3)]
    assert (retried.captures, retried.failed, retried.trimmed) == (2, (), 0)
    assert await bench.letters() == [second]
    assert await bench.published() == 3


async def test_what_still_cannot_be_read_stays_once(bench: Bench) -> None:
    """A letter stays while anything of its capture cannot be read, and is not written a second time."""
    before = await bench.letters()
    bench.break_parser("second")
    bench.asked.clear()

    retried = await Letters(bench.redis, bench.keyspace).retry(before, bench.providers, bench.replay, datetime.now(UTC))

    assert (retried.removed, retried.stay) == (2, 1)
    assert await bench.letters() == [before[1]]
    assert await bench.published() == 3


async def test_a_poisonous_capture_stops_no_neighbour(bench: Bench) -> None:
    """Where reading all at once breaks, each is read by itself; the one that breaks it stays, and is named."""
    before = await bench.letters()
    bench.mend_parser()
    bench.poison = {identifier(1)}

    retried = await Letters(bench.redis, bench.keyspace).retry(before, bench.providers, bench.replay, datetime.now(UTC))

    assert retried.failed == (identifier(1),)
    assert (retried.removed, retried.stay) == (2, 1)
    assert await bench.letters() == [before[1]]
    assert await bench.published() == 3


async def test_when_redis_fails_nothing_is_removed(bench: Bench) -> None:
    """An outage is no poison: it is said, and every letter stays."""
    before = await bench.letters()

    async def away(_: AsyncIterator[LogEntry]) -> None:
        raise StoreError("Redis: ConnectionError: it is not there")

    with pytest.raises(StoreError):
        await Letters(bench.redis, bench.keyspace).retry(before, PROVIDERS, away, datetime.now(UTC))

    assert await bench.letters() == before


async def test_a_letter_whose_capture_was_trimmed_stays(bench: Bench) -> None:
    """Without its capture there is nothing to read again."""
    first, second, _ = await bench.letters()
    position = (await streams.located(bench.redis, bench.keyspace.captures, [first.capture]))[first.capture]
    await streams.remove(bench.redis, bench.keyspace, bench.keyspace.captures, [position])
    bench.mend_parser()
    letters = Letters(bench.redis, bench.keyspace)

    retried = await letters.retry([first, second], bench.providers, bench.replay, datetime.now(UTC))

    assert await letters.capture(first) is None
    assert (retried.captures, retried.trimmed, retried.removed, retried.stay) == (1, 1, 1, 1)


async def test_what_deduplication_has_forgotten_is_not_read_again(bench: Bench) -> None:
    """A capture older than that could be published twice; it is left alone, and so is its letter."""
    before = await bench.letters()
    bench.mend_parser()
    later = datetime.now(UTC) + timedelta(days=8)

    retried = await Letters(bench.redis, bench.keyspace).retry(before, bench.providers, bench.replay, later)

    assert bench.asked == []
    assert (retried.captures, retried.too_old, retried.removed, retried.stay) == (0, 3, 0, 3)


async def test_dropping_counts_bytes_off(bench: Bench) -> None:
    """Dropped letters are gone, what is already gone counts for nothing, and the bytes are those that are left."""
    first, *others = await bench.letters()
    letters = Letters(bench.redis, bench.keyspace)

    dropped = [await letters.drop(others), await letters.drop(others)]

    said = f"{first.place}: {first.detail}"
    assert dropped == [2, 0]
    assert await bench.letters() == [first]
    held = await bench.redis.get(bench.keyspace.bytes_of(bench.keyspace.dead))
    assert int(held or 0) == len(first.capture) + len(first.reason) + len(said)


async def test_an_entry_without_an_id_is_found_by_its_position(redis: Redis, keyspace: Keyspace) -> None:
    """A damaged entry's letter names its position, and leads there."""
    bench = Bench(redis, keyspace)
    added: Any = await redis.xadd(keyspace.captures, {"body": "what"})
    position = added.decode()
    entry = LogEntry(position, {b"body": b"what"})
    lease = Lease(redis, keyspace, 60)
    assert await lease.take()
    await Store(redis, keyspace, b"a key", MESSAGES_SECONDS).commit(lease.token, "", [read(entry, PROVIDERS)])

    [letter] = await bench.letters()

    assert (letter.capture, letter.reason) == (position, "damaged")
    assert await Letters(redis, keyspace).capture(letter) == entry


# --- finding ----------------------------------------------------------------------------------------------


async def test_an_id_is_found_wherever_it_stands(redis: Redis, keyspace: Keyspace) -> None:
    """Made long before or long after its entry was written; of one that stands twice, the first counts."""
    for number in (400_000_000, -100_000, 7, 7):
        await write(redis, keyspace, number, b"{}")
    found: Any = await redis.xrange(keyspace.captures)
    wanted = [identifier(400_000_000), identifier(-100_000), identifier(7), identifier(8), "nonsense"]

    assert await streams.located(redis, keyspace.captures, wanted) == {
        identifier(400_000_000): found[0][0].decode(),
        identifier(-100_000): found[1][0].decode(),
        identifier(7): found[2][0].decode(),
    }


async def test_a_stream_is_scanned_whole_and_in_order(redis: Redis, keyspace: Keyspace) -> None:
    """However many round trips it takes, each entry comes once."""
    pipe = redis.pipeline()
    for number in range(250):
        pipe.xadd(keyspace.dead, {"capture": str(number)}, id=f"{number + 1}-0")
    await pipe.execute()

    seen = [entry.position async for entry in streams.scan(redis, keyspace.dead)]

    assert seen == [f"{number + 1}-0" for number in range(250)]
    assert streams.in_order(["10-0", "9-1", "9-0", "10-0"]) == ["9-0", "9-1", "10-0"]


# --- showing ----------------------------------------------------------------------------------------------


def test_the_place_is_marked() -> None:
    """The object that holds the place is shown, and its member marked."""
    lines = around(b'{"data": {"to": [{"name": "A", "phone": 7}]}, "other": 1}', "$.data.to[0].phone", "no address")

    assert lines == ["  {", '    "name": "A",', '→   "phone": 7', "  }"]


def test_a_place_that_is_missing_is_said() -> None:
    """What should be there and is not cannot be marked, so it is named."""
    assert around(b'{"data": {}}', "$.data.id", "missing")[-1] == "→ (there is no id here)"
    assert around(b'{"data": 1}', "$", "what")[0] == "  {"


def test_what_is_no_json_is_shown_around_the_byte() -> None:
    """The byte at which a parser gave up is marked."""
    assert around(b'{"a": oops}', "$", "not JSON: unexpected (at byte 6)") == ['  {"a": → oops}']
    assert around(b"", "$", "not JSON (at byte 0)") == ["  → "]
    assert around(b"", "capture.kind", "missing") == ["  (nothing)"]


def test_long_objects_are_cut_around_the_place() -> None:
    """A place deep in a long object is shown with its neighbours only."""
    body = orjson.dumps({f"m{number}": number for number in range(100)})
    lines = around(body, "$.m50", "what")

    assert [line for line in lines if line.startswith("→")] == ['→   "m50": 50,']
    assert len(lines) < 30
    assert (lines[0], lines[-1]) == ("  …", "  …")


def test_nothing_in_a_body_reaches_the_terminal() -> None:
    """Escape sequences, bells, bidi marks and carriage returns are shown as what they are."""
    hostile = "\x1b[2J\x07\r\u202e\u2028\ud800\x9b"

    assert harmless(hostile) == "\\x1b[2J\\x07\\r\\u202e\\u2028\\ud800\\x9b"
    assert readable(b'{"a":"\x1b[2J","b":[1,\xff]}', 1000) == [
        "{",
        '  "a": "\\x1b[2J",',
        '  "b": [',
        "    1,",
        "    \\xff",
        "  ]",
        "}",
    ]
    assert readable(b"x" * 30, 10) == ["x" * 10, "… and 20 more bytes"]
