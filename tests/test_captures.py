"""`partyline captures`, run in this process against a real Redis; and followed by one of its own."""

import asyncio
import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis as redis_py
from redis.asyncio import Redis

from correlator.redis_client import connect
from receiver.archive import Redacted, read
from receiver.browsing import Fates, Reading, by_id, every, fates, logged, newest
from receiver.captures import CaptureLog, LogEntry
from receiver.cli.archiving import mind_the_gap
from receiver.cli.selecting import scope_of
from receiver.embedded import EmbeddedRedis
from receiver.importing import Importer
from receiver.links import link_body
from receiver.selection import Fate, Quarantined, Selection
from schemas.callback import AccountFacts, Callback, CaptureKind
from schemas.events import Link
from schemas.ids import CaptureId, ConversationKey, Scope
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS, QUARANTINE_FIELDS, encode_capture, encode_facts
from tests.bodies import Posted, sendblue_received, telnyx_received
from tests.command_line import Ended, Run, command_line
from tests.engine import ANN, BOB, CAT, LINE
from tests.processes import PROGRAM, started, until, write_config
from tests.service import document, settings_of, work_off

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ID_KEY = "a key for tests only"
FACTS = AccountFacts(lines=(LINE,), dedupe_seconds=9999 * 86400)


def name(number: int) -> str:
    """The id of a capture made at NOW."""
    return f"cp_{int(NOW.timestamp() * 1000).to_bytes(6, 'big').hex()}{number:020x}"


def values(number: int, provider: str, body: bytes, kind: CaptureKind = "callback", **about: Any) -> list[bytes]:
    """A capture as the log takes it."""
    callback = Callback(
        provider=provider,
        account=f"main-{provider}",
        received_at=NOW,
        assurance="signed",
        credential="",
        headers=((b"content-type", b"application/json"),),
        body=body,
        facts=FACTS,
    )
    return encode_capture(CaptureId(about.get("id", name(number))), callback, encode_facts(FACTS), kind)


def posted(number: int, callback: Posted) -> list[bytes]:
    """A provider's callback as the log takes it."""
    return values(number, callback.provider, orjson.dumps(callback.body))


def configuration(namespace: str) -> dict[str, Any]:
    """The settings that the commands read."""
    return document(namespace, id_key=ID_KEY)


FIRST = telnyx_received(to=(LINE,), cc=(BOB,), message="m1", fact="f1")
GROUP = sendblue_received(group_id="sb_group_1", participants=(ANN, CAT, LINE), message_type="group", handle="h1")
LATE = telnyx_received(sender=CAT, to=(LINE,), message="m9")
BROKEN = b"\xff is no JSON"
PUBLISHED, DUPLICATE, DEAD, IN_GROUP, LINKED, WAITING, ASIDE = (name(number) for number in range(1, 8))


def keys(namespace: str) -> tuple[ConversationKey, ConversationKey]:
    """The keys of the first group and of Sendblue's."""
    telnyx, sendblue = (Scope(ID_KEY.encode(), namespace, each, f"main-{each}") for each in ("telnyx", "sendblue"))
    return (
        telnyx.conversation("set", sorted((ANN, BOB, LINE))),
        sendblue.conversation("group", ("", "sb_group_1")),
    )


async def fill(url: str, keyspace: Keyspace) -> None:
    """Five captures that the pipeline has read, one that it has not, and an entry of the quarantine."""
    link = link_body(Link(*sorted(keys(keyspace.namespace))), undone=False)
    redis = connect(url, 5.0)
    log = CaptureLog(redis, keyspace)
    await log.append([posted(1, FIRST), posted(2, FIRST), values(3, "telnyx", BROKEN), posted(4, GROUP)])
    await log.append([values(5, "telnyx", link, "link")])
    await work_off(configuration(keyspace.namespace), url)
    await log.append([posted(6, LATE)])
    aside = dict(zip(CAPTURE_FIELDS, posted(7, LATE), strict=True)) | {
        b"reason": b"signature_mismatch",
        b"presented": b"",
    }
    await log.quarantine([aside[field] for field in QUARANTINE_FIELDS])
    await redis.aclose()


@pytest.fixture
def folder(tmp_path: Path, keyspace: Keyspace, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a configuration in it."""
    write_config(tmp_path, keyspace.namespace, redis={"url": redis_url}, id_key=ID_KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs one `partyline captures …` to its end."""
    assert folder.exists()

    return command_line(monkeypatch, capsysbinary, "captures")


@pytest.fixture
def filled(redis_url: str, keyspace: Keyspace) -> None:
    """The namespace as `fill` leaves it."""
    asyncio.run(fill(redis_url, keyspace))


@pytest.fixture
def kept(redis_url: str, keyspace: Keyspace) -> Iterator[Callable[[], list[dict[bytes, bytes]]]]:
    """Reads the capture log as it stands."""
    with redis_py.Redis.from_url(redis_url) as client:

        def captures() -> list[dict[bytes, bytes]]:
            found: Any = client.xrange(keyspace.captures)
            return [fields for _, fields in found]

        yield captures


def listed(ended: Ended) -> list[str]:
    """The captures that `ls` shows."""
    return [word for words in ended.words for word in words if word.startswith("cp_")]


# --- ls ---


@pytest.mark.usefixtures("filled")
def test_captures_are_listed_with_what_became_of_them(run: Run, keyspace: Keyspace) -> None:
    """One line each, the newest last, the quarantine among them; addresses in full."""
    ended = run("ls")
    group, other = keys(keyspace.namespace)
    survivor = max(group, other, key=lambda key: key == other)

    assert (ended.status, ended.err) == (0, "")
    assert listed(ended) == [PUBLISHED, DUPLICATE, DEAD, IN_GROUP, LINKED, WAITING, ASIDE]
    assert [words[3:] for words in ended.words[1:]] == [
        ["telnyx/main-telnyx", "callback", "published", f"{group[:12]}…", "message.received", ANN],
        ["telnyx/main-telnyx", "callback", "duplicate", "-", "message.received", f"{ANN};", "no", "event", "in", "the",
         "stream"],
        ["telnyx/main-telnyx", "callback", "dead", "-", "dead", "letter:", "unreadable"],
        ["sendblue/main-sendblue", "callback", "published", f"{other[:12]}…", "message.received", ANN],
        ["telnyx/main-telnyx", "link", "published", f"{survivor[:12]}…", "conversation.merged"],
        ["telnyx/main-telnyx", "callback", "waiting", "-", "message.received", CAT],
        ["telnyx/main-telnyx", "callback", "quarantined", "-", "signature_mismatch"],
    ]  # fmt: skip


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--limit", "2"), [WAITING, ASIDE]),
        (("--outcome", "published"), [PUBLISHED, IN_GROUP, LINKED]),
        (("--outcome", "duplicate"), [DUPLICATE]),
        (("--outcome", "dead", "--outcome", "quarantined"), [DEAD, ASIDE]),
        (("--outcome", "waiting"), [WAITING]),
        (("--provider", "sendblue"), [IN_GROUP]),
        (("--account", "main-sendblue", "--account", "spare"), [IN_GROUP]),
        (("--type", "message.received"), [PUBLISHED, DUPLICATE, IN_GROUP, WAITING]),
        (("--type", "conversation.merged"), [LINKED]),
        (("--address", "(555) 555-0113", "--provider", "telnyx"), [WAITING]),
        (("--address", CAT), [IN_GROUP, WAITING]),
        (("--id", "m1"), [PUBLISHED, DUPLICATE]),
        (("--id", "sb_group_1", "--id", DEAD), [DEAD, IN_GROUP]),
        (("--id", PUBLISHED), [PUBLISHED]),
        (("--since", "1h"), [PUBLISHED, DUPLICATE, DEAD, IN_GROUP, LINKED, WAITING, ASIDE]),
        (("--until", "1h"), []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_captures_are_chosen(run: Run, words: tuple[str, ...], found: list[str]) -> None:
    """By any of the options, together or alone."""
    ended = run("ls", *words)

    assert listed(ended) == found
    assert ended.status == 0


@pytest.mark.usefixtures("filled")
def test_a_merged_key_finds_the_whole_conversation(run: Run, keyspace: Keyspace) -> None:
    """Either key of the two that were linked finds the captures of both, and the link."""
    one, other = (run("ls", "--conversation", key) for key in keys(keyspace.namespace))

    assert listed(one) == listed(other) == [PUBLISHED, DUPLICATE, IN_GROUP, LINKED]


@pytest.mark.usefixtures("filled")
def test_captures_are_listed_as_json(run: Run) -> None:
    """A line for each, with nothing shortened."""
    said = [orjson.loads(line) for line in run("ls", "--json").out.splitlines()]

    assert [each["capture"] for each in said] == [PUBLISHED, DUPLICATE, DEAD, IN_GROUP, LINKED, WAITING, ASIDE]
    assert [each["outcomes"] for each in said[:3]] == [["published"], ["duplicate"], ["dead"]]
    assert said[2]["dead"] == ["unreadable"]
    assert said[6]["quarantined"] == "signature_mismatch"


def test_an_empty_namespace_says_so(run: Run) -> None:
    """In a sentence, and an empty selection in another."""
    assert run("ls").out.startswith("Nothing has come in yet in namespace t-")
    assert run("stats").out.startswith("Nothing has come in yet")
    assert run("ls", "--since", "2h").out.endswith("is like that.\n")
    assert run("export").out == ""


# --- show ---


@pytest.mark.usefixtures("filled")
def test_a_capture_is_shown_in_full(run: Run, keyspace: Keyspace) -> None:
    """Its bytes, why it was accepted, its events and where its conversation came from."""
    ended, (group, _) = run("show", PUBLISHED), keys(keyspace.namespace)
    said = " ".join(ended.out.split())

    assert ended.status == 0
    assert "accepted signed: the Ed25519 signature matched a key of accounts.main-telnyx.public_keys" in said
    assert "content-type: application/json" in said
    assert f'"{BOB}"' in said
    assert f"in the stream sequence 1 of {group}, entry " in said
    assert f"evidence the complete set of its 3 addresses: {LINE}, {ANN}, {BOB}" in said


@pytest.mark.usefixtures("filled")
def test_a_duplicate_names_the_original(run: Run) -> None:
    """Which capture's event it repeats."""
    assert f"as an event of {PUBLISHED}, sequence 1: this one is a duplicate" in run("show", DUPLICATE).out


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("capture", "said"),
    [
        (DEAD, "ff 20 69 73"),
        (DEAD, "unreadable  $: not JSON"),
        (LINKED, "handed in by a holder of server.api_tokens"),
        (LINKED, "because        of the others"),
        (WAITING, "waiting: the pipeline has not come to it yet"),
        (ASIDE, "no: signature_mismatch; kept aside, as accounts.main-telnyx.on_unauthentic says"),
        (ASIDE, "quarantine entry"),
    ],
)
def test_every_kind_of_capture_can_be_shown(run: Run, capture: str, said: str) -> None:
    """Dead, linked, waiting, and the quarantine, of which nothing is parsed."""
    assert said in run("show", capture).out


@pytest.mark.usefixtures("filled")
def test_a_capture_is_shown_as_json(run: Run) -> None:
    """Everything that the page has."""
    said = orjson.loads(run("show", PUBLISHED, "--json").out)

    assert said["capture"] == PUBLISHED
    assert [each["id"] for each in said["events"]] == ["telnyx:main-telnyx:f1"]
    assert said["facts"]["lines"] == [LINE]
    assert said["headers"] == [["content-type", "application/json"]]
    assert orjson.loads(said["body"]) == FIRST.body


# --- stats ---


@pytest.mark.usefixtures("filled")
def test_captures_are_counted(run: Run) -> None:
    """By account, kind, outcome and type of event; a filter counts what it takes."""
    table, said = run("stats"), orjson.loads(run("stats", "--json").out)
    some = orjson.loads(run("stats", "--json", "--provider", "sendblue").out)

    assert table.words[0] == ["captures", "7"]
    assert ["outcome", "published", "3"] in table.words
    assert said["accounts"] == {"sendblue/main-sendblue": 1, "telnyx/main-telnyx": 6}
    assert said["kinds"] == {"callback": 6, "link": 1}
    assert said["outcomes"] == {"published": 3, "duplicate": 1, "dead": 1, "waiting": 1, "quarantined": 1}
    assert said["events"] == {"message.received": 2, "conversation.merged": 1}
    assert said["first"] == said["last"] == "2026-11-21T12:00:00.000Z"
    assert some["captures"] == 1


# --- export and import ---


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("file", ["all.jsonl", "all.jsonl.zst"])
def test_what_is_exported_is_imported_byte_for_byte(
    run: Run, folder: Path, redis_url: str, kept: Callable[[], list[dict[bytes, bytes]]], file: str
) -> None:
    """Into another namespace, in order, with their own ids; a second time nothing is added."""
    before = kept()
    out = run("export", file)
    write_config(folder, "t-other", redis={"url": redis_url}, id_key=ID_KEY)
    with redis_py.Redis.from_url(redis_url) as client:
        client.delete(*client.keys("partyline:{t-other}*") or ["none"])
        rehearsed = run("import", file, "--dry-run")
        empty: Any = client.exists("partyline:{t-other}:captures")
        first, second = run("import", file), run("import", file)
        after: Any = client.xrange("partyline:{t-other}:captures")
        size: Any = client.get("partyline:{t-other}:bytes:captures")

    assert (out.status, out.err) == (0, f"Exported 6 capture(s) to {file}.\n")
    assert rehearsed.err == "6 capture(s) would be appended to the log of t-other, 0 in it already.\n"
    assert empty == 0
    assert first.err.startswith("6 capture(s) appended to the log of t-other, 0 in it already.\nNothing is published")
    assert second.err == "0 capture(s) appended to the log of t-other, 6 in it already.\n"
    assert [fields for _, fields in after] == before
    assert int(size) == sum(len(value) for fields in before for value in fields.values())


@pytest.mark.usefixtures("filled")
def test_a_selection_is_exported_and_imported(run: Run) -> None:
    """Both take the options of `ls`; what is in the log already is passed over."""
    group = run("export", "--provider", "sendblue")
    published = run("export", "--outcome", "published")
    some = run("import", "-", "--type", "message.received", "--dry-run", stdin=published.out.encode())

    assert [entry.fields[b"id"].decode() for entry in entries(group)] == [IN_GROUP]
    assert [entry.fields[b"id"].decode() for entry in entries(published)] == [PUBLISHED, IN_GROUP, LINKED]
    assert "0 capture(s) would be appended" in some.err
    assert "2 in it already, 1 not asked for" in some.err


def entries(ended: Ended) -> list[LogEntry]:
    """What an export wrote to standard output."""
    found = list(read(ended.out.encode().splitlines(keepends=True)))
    assert all(isinstance(item, LogEntry) for item in found)
    return [item for item in found if isinstance(item, LogEntry)]


@pytest.mark.usefixtures("filled")
def test_a_redacted_archive_is_never_mixed_in_silently(run: Run, folder: Path, redis_url: str) -> None:
    """It holds no number of anybody, says so in each line, and goes in by an option only."""
    out = run("export", "--redact")
    masked = entries(out)
    write_config(folder, "t-redacted", redis={"url": redis_url}, id_key=ID_KEY)
    refused = run("import", "-", stdin=out.out.encode())
    allowed = run("import", "-", "--allow-redacted", "--dry-run", stdin=out.out.encode())

    assert len(masked) == 6
    assert all(isinstance(entry, Redacted) for entry in masked)
    assert not [entry for entry in masked if re.search(rb"55555501", b" ".join(entry.fields.values()))]
    assert (refused.status, refused.err.count("\n")) == (1, 1)
    assert "--allow-redacted" in refused.err
    assert "6 capture(s) would be appended" in allowed.err


@pytest.mark.usefixtures("filled")
def test_a_damaged_line_is_reported_and_passed_over(run: Run) -> None:
    """With its number and why; everything else goes in."""
    one, *rest = run("export").out.encode().splitlines(keepends=True)
    damaged = b"".join([one, rest[0].replace(b"telnyx", b"tolnyx", 1), *rest[1:-1], rest[-1][:40]])
    ended = run("import", "-", "--dry-run", stdin=damaged)

    assert ended.status == 0
    assert "! line 2 is passed over: damaged: its content does not fit its check\n" in ended.err
    assert "! line 6 is passed over: the file ends in the middle of it: not JSON" in ended.err
    assert ended.err.endswith("4 in it already, 2 line(s) that cannot be read.\n")


def test_many_damaged_lines_do_not_fill_the_screen(run: Run) -> None:
    """The first are told, the rest counted."""
    ended = run("import", "-", stdin=b"nonsense\n" * 50)

    assert ended.err.count("is passed over") == 20
    assert "50 line(s) that cannot be read" in ended.err


WRONG = {
    "no_capture": (("show", "cp_1"), "no capture's id"),
    "unknown": (("show", "cp_" + "f" * 32), "there is no cp_ffff"),
    "time": (("ls", "--since", "soon"), "--since: no time"),
    "outcome": (("ls", "--outcome", "lost"), "--outcome: there is no such one"),
    "key": (("stats", "--conversation", ANN), "--conversation: that is no conversation's key"),
    "quarantined": (("export", "--outcome", "quarantined"), "never proved authentic"),
    "follow_stdout": (("export", "--follow"), "name a FILE"),
    "follow_zstd": (("export", "a.jsonl", "--follow", "--zstd"), "name the file .zst"),
    "follow_until": (("export", "a.jsonl", "--follow", "--until", "1h"), "still to come"),
    "no_file": (("import", "none.jsonl"), "none.jsonl cannot be read: No such file"),
    "import_outcome": (("import", "a.jsonl", "--outcome", "dead"), "does not say what became"),
    "overwrite": (("export", "partyline.toml"), "is there already"),
    "other_file": (("export", "--follow", "partyline.toml"), "no archive of captures"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_plain_sentence(run: Run, folder: Path, words: tuple[str, ...], said: str) -> None:
    """It ends with status 1, names what to look at without a full number, and leaves no file behind."""
    ended = run(*words)

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert said in ended.err
    assert "5555550111" not in ended.err
    assert [file.name for file in folder.iterdir()] == ["partyline.toml"]


def test_without_an_id_key_nothing_is_redacted(run: Run, folder: Path, keyspace: Keyspace, redis_url: str) -> None:
    """Whoever has the archive could find every number by trying."""
    write_config(folder, keyspace.namespace, redis={"url": redis_url}, id_key="")
    ended = run("export", "--redact")

    assert ended.status == 1
    assert "without an id_key" in ended.err


@pytest.mark.parametrize("word", ["ls", "show", "stats", "export", "import"])
def test_every_command_shows_an_example(run: Run, word: str) -> None:
    """Help ends with a line that can be typed; those that choose have the options for it."""
    ended = run(word, "--help")

    assert f"Example: partyline captures {word}" in " ".join(ended.out.split())
    assert ("--conversation" in ended.out) == (word != "show")


# --- what became of captures, in large ---


def test_fates_are_kept_small() -> None:
    """Types and subjects come back as they were, an account's too; ids that are none of ours do no harm."""
    known = Fates("5-0")
    known.add_event("message.received", "cv_" + "a" * 25 + "4", name(1))
    known.add_event("typing", "ac_" + "b" * 25 + "4", name(1))
    known.add_dead("unreadable", "not an id of ours")

    def entry(position: str, identifier: str) -> LogEntry:
        return LogEntry(position, {b"id": identifier.encode()})

    assert known.of(entry("1-0", name(1))) == Fate(
        events=(("message.received", "cv_" + "a" * 25 + "4"), ("typing", "ac_" + "b" * 25 + "4"))
    )
    assert known.of(entry("9-0", "not an id of ours")) == Fate(dead=("unreadable",))
    assert known.of(entry("5-0", name(2))) == Fate()
    assert known.of(entry("5-1", name(2))) == Fate(waiting=True)
    assert known.of(LogEntry("5-1", {})) == Fate(waiting=True)
    assert known.of(Quarantined("1-0", {b"reason": b"x"})) == Fate(quarantined="x")


async def test_more_than_a_round_trip(redis: Redis, keyspace: Keyspace) -> None:
    """Twelve hundred captures: the newest of a kind, all of them, one by its id, and what became of each."""
    log = CaptureLog(redis, keyspace)
    body = orjson.dumps(LATE.body)
    await log.append([values(number, ("telnyx", "sinch")[number % 2], body) for number in range(1200)])
    for number in range(0, 1200, 3):
        event = {"type": "message.received", "subject": "cv_" + "a" * 25 + "4", "data": {"capture": name(number)}}
        await redis.xadd(keyspace.events, {"event": orjson.dumps(event)})
    where = Reading(redis, keyspace, scope_of(settings_of(configuration(keyspace.namespace)), keyspace))
    sinch = Selection(providers=frozenset({"sinch"}))
    last = await newest(where, sinch, 700)
    published = Selection(outcomes=frozenset({"published"}), providers=frozenset({"sinch"}))
    counted = [fate.outcomes[0] async for _, fate in every(where, Selection())]
    found = await by_id(where, name(777))

    assert [each.capture.id for each in last] == [name(number) for number in range(1, 1200, 2)]
    assert [each.fate.outcomes[0] for each in last[:3]] == ["waiting", "published", "waiting"]
    assert [entry.fields[b"id"].decode() async for entry in logged(where, published)] == [
        name(number) for number in range(3, 1200, 6)
    ]
    assert (counted.count("published"), counted.count("waiting")) == (400, 800)
    assert found is not None
    assert found.fields[b"id"].decode() == name(777)
    assert await by_id(where, name(5000)) is None
    assert (await fates(where, "", {name(3)})).of(LogEntry("1-0", {b"id": name(6).encode()})) == Fate(waiting=True)


async def test_a_scan_gives_each_entry_once_and_leaves_nothing_under_way(redis: Redis, keyspace: Keyspace) -> None:
    """Between two positions, over several reads, in order; one that is given up has no read on its way any more."""
    log = CaptureLog(redis, keyspace)
    await log.append([values(number, "telnyx", b"{}") for number in range(8)])
    entries = [entry async for entry in log.scan(count=3)]
    positions = [entry.position for entry in entries]
    before = asyncio.all_tasks()
    given_up = log.scan(count=3)
    first = await anext(given_up)
    await given_up.aclose()

    assert [entry.fields[b"id"].decode() for entry in entries] == [name(number) for number in range(8)]
    assert [entry.position async for entry in log.scan(positions[0], positions[6], count=3)] == positions[1:7]
    assert first == entries[0]
    assert asyncio.all_tasks() == before


async def test_entries_with_other_fields_are_imported_as_they_are(redis: Redis, keyspace: Keyspace) -> None:
    """A damaged capture stays one, in its place; the same id twice is taken once, and so is one without any."""
    sound, odd = LogEntry("1-0", {b"id": b"cp_1", b"body": b"x"}), LogEntry("2-0", {b"body": b"y", b"\xff": b""})
    importer = Importer(redis, keyspace)
    for entry in (sound, odd, sound, odd, LogEntry("3-0", {b"id": b"cp_2", b"body": b"z"})):
        await importer.add(entry)
    await importer.flush()
    stood: Any = await redis.xrange(keyspace.captures)

    assert [fields for _, fields in stood] == [sound.fields, odd.fields, {b"id": b"cp_2", b"body": b"z"}]
    assert (importer.done.appended, importer.done.there_already) == (3, 2)


# --- follow ---


async def test_an_archive_follows_the_log_through_every_restart(tmp_path: Path, keyspace: Keyspace) -> None:
    """Redis ends and comes back, so does the command: each capture is in the archive once, in order."""
    config = write_config(tmp_path, keyspace.namespace, redis={"url": f"unix://{tmp_path}/r/redis.sock"}, id_key=ID_KEY)
    file = tmp_path / "kept.jsonl"
    command = (PROGRAM, "captures", "export", str(file), "--follow", "--config", str(config))

    async def written(number: int) -> None:
        await append(tmp_path, keyspace, number)
        await until(lambda: file.exists() and file.read_bytes().count(b"\n") > number, f"{number} is archived")

    with EmbeddedRedis(tmp_path / "r"), started(command, tmp_path, "one") as following:
        await written(0)
        await written(1)
        with EmbeddedRedis(tmp_path / "spare"):
            following.signal(signal.SIGTERM)
            status = await following.status()
        await append(tmp_path, keyspace, 2)
    with started((*command,), tmp_path, "refused") as refused:
        away = await refused.status()
    with EmbeddedRedis(tmp_path / "r"):
        again = started(command, tmp_path, "two")
        following = again.__enter__()
        await until(lambda: file.read_bytes().count(b"\n") == 3, "what came meanwhile is archived")
    try:
        await following.says("Waiting for it")
        with EmbeddedRedis(tmp_path / "r"):
            await following.says("Redis is back")
            await written(3)
    finally:
        again.__exit__(None, None, None)
    found = list(read(file.read_bytes().splitlines(keepends=True)))

    assert (status, away) == (0, 1)
    assert [item.fields[b"id"].decode() for item in found if isinstance(item, LogEntry)] == [name(n) for n in range(4)]
    assert re.search(r"from \d+-\d+ on; Ctrl-C stops", following.log)


async def test_a_gap_between_archive_and_log_is_told(
    redis: Redis, keyspace: Keyspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Captures that were trimmed while nobody followed are missing, and that must not go unnoticed."""
    await CaptureLog(redis, keyspace).append([posted(1, LATE), posted(2, LATE)])
    stood: Any = await redis.xrange(keyspace.captures)
    first = stood[0][0].decode()
    await mind_the_gap(redis, keyspace, first)
    whole = capsys.readouterr().err
    await redis.xdel(keyspace.captures, first)
    await mind_the_gap(redis, keyspace, first)

    assert whole == ""
    assert f"The log no longer has {first}" in capsys.readouterr().err


async def append(folder: Path, keyspace: Keyspace, number: int) -> None:
    """Write one capture as a receiver would."""
    redis = connect(f"unix://{folder}/r/redis.sock", 5.0)
    await CaptureLog(redis, keyspace).append([posted(number, LATE)])
    await redis.aclose()
