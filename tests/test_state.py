"""Exporting and importing the state of a namespace, over a real Redis: exact, whole or not at all, never mixed."""

import asyncio
import gzip
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from correlator import lease
from correlator.gathering import Entry
from correlator.redis_client import connect
from correlator.store import Store
from correlator.subscribe import Subscription
from receiver.captures import CaptureLog
from receiver.namespace import claim_namespace
from receiver.parsing import read
from receiver.providers import PROVIDERS
from receiver.samples import SAMPLES
from receiver.settings import Settings
from receiver.settings.values import SecretBytes
from receiver.state import Exported, export_state, import_state, refuse_unfit
from receiver.statefile import Base64, Header, Item, UnusableState, Writing, check, items, text
from schemas.callback import AccountFacts, Callback
from schemas.errors import ConfigError, LeaseLost, StoreError
from schemas.ids import CaptureId, fingerprint
from schemas.keyspace import LAYOUT, Keyspace
from schemas.wire import encode_capture, encode_facts
from tests.command_line import Run, command_line
from tests.engine import ANN, BOB, ID_KEY, NOW, Engine, event, everyone, group, pair, pointed, unreadable
from tests.processes import write_config
from tests.service import LINE

SETTINGS = Settings(id_key=SecretBytes(ID_KEY))


@pytest.fixture
async def engine(redis: Redis, keyspace: Keyspace) -> Engine:
    """A namespace with conversations, pointers, a group, a dead letter, and the lease given up."""
    await claim_namespace(redis, keyspace, SETTINGS)
    engine = Engine(redis, keyspace)
    assert await engine.lease.take()
    await engine.feed(event("a", pair()), event("b", everyone(ANN, BOB)), unreadable())
    await engine.feed(event("c", group()), event("d", pointed("m1")), event("e", pair(same_user=((ANN, BOB),))))
    await engine.lease.give_up()
    return engine


@pytest.fixture
def there(keyspace: Keyspace) -> Keyspace:
    """An empty namespace of another name."""
    return Keyspace(f"{keyspace.namespace}-2")


async def exported(engine: Engine) -> tuple[bytes, Exported]:
    """The file of a namespace."""
    file = io.BytesIO()
    done = await export_state(engine.redis, engine.keyspace, file.write, NOW)
    return file.getvalue(), done


async def imported(redis: Redis, keyspace: Keyspace, file: bytes) -> None:
    """Import a file as the command does."""
    checked = check(io.BytesIO(file))
    await import_state(redis, keyspace, checked, items(io.BytesIO(file)))


async def state(redis: Any, keyspace: Keyspace) -> dict[bytes, Any]:
    """Every key that is state, by its name within the namespace, with its value and how long it lives."""
    found = {}
    for name in await redis.keys(f"{keyspace.prefix}:*"):
        kind = await redis.type(name)
        value: Any = None
        if kind == b"string":
            value = await redis.get(name)
        elif kind == b"hash":
            value = await redis.hgetall(name)
        elif kind == b"zset":
            value = await redis.zrange(name, 0, -1, withscores=True)
        if value is not None:
            found[name.removeprefix(f"{keyspace.prefix}:".encode())] = (value, await redis.pttl(name))
    streams = ("events", "dead", "captures", "quarantine")
    for left_out in ("meta", "lease", *(f"bytes:{stream}" for stream in streams)):
        found.pop(left_out.encode(), None)
    return found


# --- round trips ------------------------------------------------------------------------------------------


async def test_a_state_comes_back_as_it_was(engine: Engine, there: Keyspace) -> None:
    """Every key but streams, counters of their bytes and the lease is there again: value, type and time to live."""
    before = await state(engine.redis, engine.keyspace)
    file, done = await exported(engine)
    await imported(engine.redis, there, file)
    after = await state(engine.redis, there)

    assert {name: value for name, (value, _) in after.items()} == {name: value for name, (value, _) in before.items()}
    assert {name[:2] for name in after} >= {b"cv", b"pt", b"us", b"ac", b"ix", b"id", b"dd", b"sq", b"cu"}
    for name, (_, left) in before.items():
        assert (after[name][1] == -1) if left == -1 else (left - 60_000 < after[name][1] <= left)
    assert sum(done.trailer.keys.values()) == len(before) - 1  # the cursor stands in the header
    assert (done.header.cursor, done.behind) == ("2-0", False)


async def test_a_group_of_subscribers_keeps_its_place(engine: Engine, there: Keyspace) -> None:
    """What was handled before does not come again, and what is published after the import does."""
    events = await engine.redis.xrange(engine.keyspace.events)
    assert len(await _subscribed(engine.redis, engine.keyspace, len(events))) == len(events)
    file, _ = await exported(engine)
    await imported(engine.redis, there, file)
    beyond = Engine(engine.redis, there)
    assert await beyond.lease.take()
    await beyond.feed(event("later", pair()))
    await beyond.lease.give_up()

    assert await _subscribed(engine.redis, there, 1) == ["later"]


async def _subscribed(redis: Redis, keyspace: Keyspace, count: int) -> list[str]:
    """The last parts of the ids of so many events."""
    found = []
    subscription = Subscription(redis, namespace=keyspace.namespace, group="crm", start="beginning", partitions=1)
    async with asyncio.timeout(10), subscription:
        async for one in subscription:
            found.append(one.id.rpartition(":")[2])
            if len(found) == count:
                subscription.stop()
    return found


async def test_streams_are_not_part_of_it(engine: Engine, there: Keyspace) -> None:
    """No capture, event, dead letter or quarantined request is exported, nor what counts their bytes."""
    await CaptureLog(engine.redis, engine.keyspace).quarantine([b"x"] * 8)
    file, _ = await exported(engine)
    await imported(engine.redis, there, file)

    for stream in (there.captures, there.events, there.dead, there.quarantine):
        assert await engine.redis.xlen(stream) == 0
        assert await engine.redis.exists(there.bytes_of(stream)) == 0
    assert b"Seven it is" not in file


async def test_bytes_that_are_no_text_survive(redis: Any, engine: Engine, there: Keyspace) -> None:
    """Names, values, fields and members of any bytes come back as they were."""
    odd = b"\x00\xff\xfe{\"'\r\n" + bytes(range(256))
    prefix = engine.keyspace.prefix.encode()
    await redis.set(prefix + b":s" + odd, odd)
    await redis.hset(prefix + b":h" + odd, mapping={odd: odd, b"": "naïve"})
    await redis.zadd(prefix + b":z" + odd, {odd: 0.1, b"low": -1e300, b"inf": 1})
    file, _ = await exported(engine)
    await imported(redis, there, file)
    after = await state(redis, there)

    assert after[b"s" + odd] == (odd, -1)
    assert after[b"h" + odd] == ({odd: odd, b"": "naïve".encode()}, -1)
    assert after[b"z" + odd] == ([(b"low", -1e300), (odd, 0.1), (b"inf", 1.0)], -1)
    assert text(b"\xff") == Base64("/w==")


async def test_a_namespace_without_anything_is_exported_as_well(redis: Redis, keyspace: Keyspace) -> None:
    """Nothing is a state too: no key, no cursor."""
    await claim_namespace(redis, keyspace, SETTINGS)
    file, done = await exported(Engine(redis, keyspace))
    await imported(redis, Keyspace(f"{keyspace.namespace}-2"), file)

    assert done.trailer.keys == {"string": 0, "hash": 0, "zset": 0}
    assert done.header.cursor == ""


async def test_many_keys_are_all_exported(redis: Any, engine: Engine, there: Keyspace) -> None:
    """More keys than fit into a round trip come through, a page of Redis after the other."""
    before = len(await state(redis, engine.keyspace))
    pipeline = redis.pipeline(transaction=False)
    for number in range(1700):
        pipeline.set(engine.keyspace.sequence(f"cv_{number}"), number)
    await pipeline.execute()
    file, _ = await exported(engine)
    await imported(redis, there, file)

    assert len(await state(redis, there)) == before + 1700


# --- what goes on from it ---------------------------------------------------------------------------------


async def test_work_goes_on_from_an_imported_state(engine: Engine, there: Keyspace) -> None:
    """A fact that was seen is a duplicate there, and a new one gets the next number and moves the cursor on."""
    await claim_namespace(engine.redis, engine.keyspace, SETTINGS)
    file, _ = await exported(engine)
    await imported(engine.redis, there, file)
    moved = Engine(engine.redis, there)
    # The keys of its conversations derive from the namespace that it was exported from.
    moved.store._scopes = engine.store._scopes
    assert await moved.lease.take()
    moved._position = 2

    assert await moved.feed(event("a", pair())) == [-1]
    assert await moved.feed(event("f", pair())) == [3]
    assert await moved.store.cursor() == "4-0"


async def test_another_name_remembers_where_keys_derive_from(engine: Engine, there: Keyspace) -> None:
    """Imported under another name, and exported and imported again, it still says whose keys they are."""
    file, _ = await exported(engine)
    await imported(engine.redis, there, file)
    again, done = await exported(Engine(engine.redis, there))
    third = Keyspace(f"{engine.keyspace.namespace}-3")
    await imported(engine.redis, third, again)
    own = engine.keyspace.namespace.encode()

    assert done.header.keys_of == engine.keyspace.namespace
    assert await engine.redis.hgetall(third.meta) == {
        b"layout": LAYOUT.encode(),
        b"partitions": b"1",
        b"id_key": fingerprint(ID_KEY).encode(),
        b"keys_of": own,
    }
    await engine.redis.delete(*await engine.redis.keys(f"{engine.keyspace.prefix}:*"))
    await imported(engine.redis, engine.keyspace, again)
    assert await engine.redis.hget(engine.keyspace.meta, "keys_of") is None


async def test_what_is_captured_afterwards_comes_after_the_cursor(engine: Engine, there: Keyspace) -> None:
    """Where the clock is behind that of the export, new entries follow the cursor and the last event all the same."""
    future = "9999999999999-5"
    await engine.redis.set(engine.keyspace.cursor, future)
    await engine.redis.xadd(engine.keyspace.events, {"event": "{}"}, id=future)
    file, _ = await exported(engine)
    await imported(engine.redis, there, file)
    await CaptureLog(engine.redis, there).append([[b"x"] * 9])
    [(position, _)] = await engine.redis.xrange(there.captures)

    assert position == b"9999999999999-6"
    assert await engine.redis.xadd(there.events, {"event": "{}"}) == b"9999999999999-6"


async def test_an_export_tells_what_is_not_committed_yet(engine: Engine) -> None:
    """Captures after the cursor are in no state, and whoever exports is told."""
    await CaptureLog(engine.redis, engine.keyspace).append([[b"x"] * 9])
    _, done = await exported(engine)

    assert done.behind


# --- one position -----------------------------------------------------------------------------------------


async def test_an_export_waits_for_the_lease(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a pipeline holds the lease and does not hand it over there is no export."""
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.2)
    assert await engine.lease.take()
    with pytest.raises(StoreError, match="was not handed over"):
        await exported(engine)

    await engine.lease.give_up()
    await exported(engine)
    assert await engine.redis.exists(engine.keyspace.lease) == 0


async def test_an_export_during_which_the_lease_was_lost_is_none(engine: Engine) -> None:
    """Somebody else may have committed meanwhile: it fails, and what was written has no last line."""
    file, taken = io.BytesIO(), list[Any]()

    def write(line: bytes) -> None:
        file.write(line)
        if not taken:
            taken.append(asyncio.ensure_future(engine.redis.set(engine.keyspace.lease, "another's")))

    with pytest.raises(LeaseLost):
        await export_state(engine.redis, engine.keyspace, write, NOW)
    with pytest.raises(UnusableState, match="cut off"):
        check(io.BytesIO(file.getvalue()))


# --- refusals ---------------------------------------------------------------------------------------------


async def test_a_cut_file_is_refused_wherever_it_was_cut(engine: Engine) -> None:
    """At every line, and within the last one, what is left is told from a whole file."""
    file, _ = await exported(engine)
    lines = file.splitlines(keepends=True)
    check(lines)
    for number in range(len(lines)):
        with pytest.raises(UnusableState):
            check(lines[:number])
    for size in range(1, len(lines[-1])):
        with pytest.raises(UnusableState):
            check([*lines[:-1], lines[-1][:-size]])


async def test_an_altered_file_is_refused(engine: Engine) -> None:
    """A changed, dropped, repeated or moved line is found out, and so is one after the end."""
    file, _ = await exported(engine)
    lines = file.splitlines(keepends=True)
    altered = [
        [lines[0].replace(b"2-0", b"1-0"), *lines[1:]],
        [*lines[:3], *lines[4:]],
        [*lines[:3], lines[3], *lines[3:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines, lines[1]],
        [*lines, b"\n"],
        [*lines, lines[-1]],
    ]

    for each in altered:
        with pytest.raises(UnusableState):
            check(each)


HEADER = Header("state", 1, "demo", "demo", LAYOUT, 1, fingerprint(ID_KEY), "", "", "2026-11-21T12:00:00.000Z")


def written(header: Header, *found: Item) -> bytes:
    """A file with a right checksum."""
    file = io.BytesIO()
    writing = Writing(file.write, header)
    for item in found:
        writing.add(item)
    writing.close()
    return file.getvalue()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "no file of"),
        (b"hello\n", "no file of"),
        (b"\xff\xfe\n", "no file of"),
        (b"[]\n", "no file of"),
        (b"{}\n", "no file of"),
        (b'{"version":1}\n', "no file of"),
        (written(msgspec.structs.replace(HEADER, version=2)), "version 2"),
        (written(HEADER, Item("sq:a", "string")), "line 2 is damaged"),
        (written(HEADER, Item("sq:a", "string", value=Base64("?"))), "line 2 is damaged"),
        (written(HEADER, Item("sq:a", "hash", value="1")), "line 2 is damaged"),
    ],
)
def test_what_is_no_state_is_refused(file: bytes, said: str) -> None:
    """Other files, other versions and lines that hold no key are named as what they are."""
    with pytest.raises(UnusableState, match=said):
        check(io.BytesIO(file))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layout": "1"}, "layout 1"),
        ({"id_key": fingerprint(b"another")}, "id_key: the state was made with another"),
        ({"partitions": 4}, "redis.partitions"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    """Another layout, another id_key and another number of partitions are told apart."""
    refuse_unfit(HEADER, 1, fingerprint(ID_KEY))
    with pytest.raises(UnusableState, match=said):
        refuse_unfit(msgspec.structs.replace(HEADER, **changes), 1, fingerprint(ID_KEY))


async def test_a_namespace_that_is_not_empty_is_left_alone(engine: Engine, there: Keyspace) -> None:
    """Whatever is in it, nothing is written, and the refusal says what to do."""
    file, _ = await exported(engine)
    await engine.redis.xadd(there.captures, {"id": "x"})
    before = await engine.redis.keys(f"{there.prefix}:*")
    with pytest.raises(UnusableState, match=r"not empty.*--namespace"):
        await imported(engine.redis, there, file)

    assert await engine.redis.keys(f"{there.prefix}:*") == before
    with pytest.raises(UnusableState, match="not empty"):
        await imported(engine.redis, engine.keyspace, file)


async def test_a_namespace_that_a_receiver_has_only_claimed_counts_as_empty(engine: Engine, there: Keyspace) -> None:
    """With an embedded Redis nothing can be imported but while a receiver runs; another id_key's is refused."""
    file, _ = await exported(engine)
    await claim_namespace(engine.redis, there, SETTINGS)
    await imported(engine.redis, there, file)
    other = Keyspace(f"{engine.keyspace.namespace}-3")
    await claim_namespace(engine.redis, other, Settings(id_key=SecretBytes(b"another")))

    with pytest.raises(UnusableState, match="not empty"):
        await imported(engine.redis, other, file)


async def test_an_import_that_was_broken_off_is_begun_again(engine: Engine, there: Keyspace) -> None:
    """Half of it is no namespace: no start takes it. The same file completes it, another one is refused."""
    file, _ = await exported(engine)
    lines = file.splitlines(keepends=True)

    def broken_off() -> Any:
        yield from items(lines[:6] + lines[-1:])
        raise StoreError("Redis: made up")

    with pytest.raises(StoreError, match="made up"):
        await import_state(engine.redis, there, check(lines), broken_off())
    with pytest.raises(ConfigError, match="was broken off"):
        await claim_namespace(engine.redis, there, SETTINGS)
    with pytest.raises(UnusableState, match="not empty"):
        await imported(engine.redis, there, written(HEADER))
    await imported(engine.redis, there, file)
    await claim_namespace(engine.redis, there, SETTINGS)

    before, after = await state(engine.redis, engine.keyspace), await state(engine.redis, there)
    assert {name: value for name, (value, _) in after.items()} == {name: value for name, (value, _) in before.items()}


# --- the commands -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, keyspace: Keyspace, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a configuration in it."""
    write_config(tmp_path, keyspace.namespace, redis={"url": redis_url})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs one command line to its end."""
    assert folder.exists()

    return command_line(monkeypatch, capsysbinary)


def filled(redis_url: str, keyspace: Keyspace) -> None:
    """Commit the sample conversations of Telnyx, as a receiver of the configuration would."""

    async def fill() -> None:
        redis = connect(redis_url, 5.0)
        settings = Settings(id_key=SecretBytes(b"a key for tests only"))
        await claim_namespace(redis, keyspace, settings)
        log, facts = CaptureLog(redis, keyspace), AccountFacts(lines=(LINE,))
        for number, body in enumerate(SAMPLES["telnyx"](NOW, "s")):
            callback = Callback("telnyx", "main-telnyx", NOW, "signed", "public_keys[0]", (), body, facts)
            await log.append([encode_capture(CaptureId(f"cp_{number}"), callback, encode_facts(facts))])
        engine = Engine(redis, keyspace)
        engine.store = Store(redis, keyspace, settings.id_key, 3600)
        assert await engine.lease.take()
        entries: list[Entry] = [read(entry, PROVIDERS) for entry in await log.read("", 100, 1)]
        await engine.store.commit(engine.lease.token, "", entries)
        await engine.lease.give_up()
        await redis.aclose()

    asyncio.run(fill())


@pytest.mark.parametrize("file", ["state.jsonl", "state.jsonl.gz"])
def test_a_file_goes_out_and_in_again(run: Run, folder: Path, keyspace: Keyspace, redis_url: str, file: str) -> None:
    """Exported and imported under another name, by its owner's file alone; nothing else is left in the folder."""
    filled(redis_url, keyspace)
    out = run("state", "export", file)
    back = run("state", "import", file, "--namespace", f"{keyspace.namespace}-2")
    raw = (folder / file).read_bytes()
    lines = (gzip.decompress(raw) if file.endswith(".gz") else raw).splitlines()

    assert (out.status, out.err, back.status, back.err) == (0, "", 0, "")
    assert f"Exported {len(lines) - 2} keys of namespace {keyspace.namespace}, as of capture ".encode() in out.written
    assert f"Imported {len(lines) - 2} keys into namespace {keyspace.namespace}-2".encode() in back.written
    assert f'set namespace = "{keyspace.namespace}-2"'.encode() in back.written
    assert (folder / file).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["partyline.toml", file]


def test_a_state_goes_through_a_pipe(run: Run, keyspace: Keyspace, redis_url: str) -> None:
    """With - the file is all of standard output, and what is said goes to standard error."""
    filled(redis_url, keyspace)
    out = run("state", "export", "-", "--json")
    back = run("state", "import", "-", "--namespace", f"{keyspace.namespace}-2", "--json", stdin=out.written)
    said, done = msgspec.json.decode(out.err), msgspec.json.decode(back.written)

    assert check(out.written.splitlines(keepends=True)).header.namespace == keyspace.namespace
    assert said == {"namespace": keyspace.namespace, "cursor": said["cursor"], "keys": said["keys"], "behind": False}
    assert done == {"namespace": f"{keyspace.namespace}-2", "cursor": said["cursor"], "keys": said["keys"]}


def test_a_mistake_is_one_plain_sentence(run: Run, folder: Path, keyspace: Keyspace, redis_url: str) -> None:
    """It ends with status 1 and says what to do; an export that fails leaves no file, a file that was there stays."""
    filled(redis_url, keyspace)
    run("state", "export", "state.jsonl")
    (folder / "cut.jsonl").write_bytes((folder / "state.jsonl").read_bytes()[:-30])
    (folder / "cut.gz").write_bytes(gzip.compress((folder / "state.jsonl").read_bytes())[:-30])
    (folder / "plain.gz").write_bytes(b"not compressed")
    there = {path.name for path in folder.iterdir()}
    wrong = {
        ("state", "import", "none.jsonl"): "cannot be read: No such file",
        ("state", "import", "cut.jsonl"): "cut off",
        ("state", "import", "cut.gz"): "cut off or damaged",
        ("state", "import", "plain.gz"): "cut off or damaged",
        ("state", "import", "state.jsonl"): "is not empty",
        ("state", "import", "state.jsonl", "--namespace", "No Way"): "a-z, 0-9",
        ("state", "import", "state.jsonl.zst"): "use .gz",
        ("state", "export", "state.jsonl.zst"): "use .gz",
        ("state", "export", "nowhere/state.jsonl"): "cannot be written: No such file",
    }
    for words, said in wrong.items():
        ended = run(*words)
        assert (ended.status, ended.written, ended.err.count("\n")) == (1, b"", 1), words
        assert said in ended.err

    assert {path.name for path in folder.iterdir()} == there
    write_config(folder, f"{keyspace.namespace}-9", redis={"url": redis_url})
    assert "say where it is to go with --namespace" in run("state", "import", "state.jsonl").err
    write_config(folder, keyspace.namespace, redis={"url": redis_url}, id_key="another key for tests alone")
    assert "id_key: the state was made with another" in run("state", "import", "state.jsonl").err
    assert run("state", "export", "other.jsonl").status == 78


@pytest.mark.parametrize("word", ["export", "import"])
def test_each_shows_an_example(run: Run, word: str) -> None:
    """Help ends with a line that can be typed."""
    ended = run("state", word, "--help")

    assert ended.status == 0
    assert f"Example: partyline state {word}" in " ".join(ended.out.split())
