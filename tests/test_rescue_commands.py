"""`partyline verify`, `quarantine` and `dead` as people type them, against a real Redis."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import redis as redis_py

from receiver.provider import Provider
from receiver.providers import PROVIDERS
from schemas.callback import Capture
from schemas.errors import ParseError
from schemas.events import Parsed
from schemas.keyspace import Keyspace
from tests.command_line import Ended, Run, command_line
from tests.processes import write_config
from tests.service import ACCOUNTS, SECRETS, document, path, proof, running_app, settings_of, work_off

ID_KEY = "a key for tests only"
NOW = datetime.now(UTC)
MESSAGE = b'{"type": "mo_text", "id": "01MO", "from": "15555550111", "to": "15555550100", "body": "Ahoy \x1b[2J"}'
FACT = MESSAGE.replace(b"\x1b[2J", b"")


def accounts(**sinch: Any) -> dict[str, Any]:
    """The four accounts, which keep what they refuse."""
    kept = {name: {**account, "on_unauthentic": "quarantine"} for name, account in ACCOUNTS.items()}
    return {**kept, "main-sinch": {**kept["main-sinch"], **sinch}}


@pytest.fixture
def folder(tmp_path: Path, keyspace: Keyspace, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a configuration in it."""
    write_config(tmp_path, keyspace.namespace, redis={"url": redis_url}, accounts=accounts())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs one command line to its end."""
    assert folder.exists()

    return command_line(monkeypatch, capsysbinary)


def receive(redis_url: str, keyspace: Keyspace, *bodies: bytes, secret: str | None = None) -> None:
    """Post bodies to the Sinch account as a receiver of its own would get them, and work off what was captured."""
    configuration = document(keyspace.namespace, id_key=ID_KEY, accounts=accounts())

    async def go() -> None:
        async with running_app(configuration, redis_url, clock=lambda: NOW) as client:
            for body in bodies:
                headers = proof("sinch", body, secret, NOW)
                assert (await client.post(path("sinch"), content=body, headers=headers)).status_code == 200
        if secret is None:
            await work_off(configuration, redis_url)

    asyncio.run(go())
    assert settings_of(configuration).namespace == keyspace.namespace


def listed(ended: Ended, key: str) -> list[Any]:
    """A list in a command's JSON."""
    found: list[Any] = orjson.loads(ended.out)[key]
    return found


def raw(body: bytes, *headers: tuple[bytes, bytes]) -> bytes:
    """A request as a file holds it."""
    lines = [b"POST /webhooks/sinch/main-sinch HTTP/1.1", *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"", body])


# --- verify -----------------------------------------------------------------------------------------------


def test_a_file_is_verified(run: Run, folder: Path) -> None:
    """What is right ends with 0, what is refused with 1 and the alteration that fits."""
    (folder / "right.txt").write_bytes(raw(MESSAGE, *proof("sinch", MESSAGE)))
    right = run("verify", "right.txt")
    altered = run("verify", "-", stdin=raw(MESSAGE + b"\n", *proof("sinch", MESSAGE)))
    raw_json = run("verify", "-", "--json", stdin=raw(MESSAGE + b"\n", *proof("sinch", MESSAGE)))

    assert (right.status, right.out.splitlines()[0]) == (0, "✓ authentic  at main-sinch")
    assert (altered.status, altered.out.splitlines()[0]) == (1, "✗ refused  signature_mismatch  at main-sinch")
    assert "a newline was added at the end of the body" in " ".join(altered.out.split())
    assert orjson.loads(raw_json.out)["alteration"]["name"] == "newline_added"


def test_a_time_of_receipt_may_be_given(run: Run) -> None:
    """A file that does not say when it came is judged as of now, unless the command line says it."""
    signed = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    request = raw(b"{}", *proof("telnyx", b"{}", now=signed)).replace(b"sinch", b"telnyx")
    without = run("verify", "-", stdin=request)
    given = run("verify", "-", "--received-at", "2026-01-02T03:05:00Z", stdin=request)

    assert (without.status, given.status) == (1, 0)
    assert "timestamp_outside_tolerance" in without.out
    assert "if it came now, it would be refused" in given.out


def test_what_is_stored_is_verified_by_its_id(run: Run, redis_url: str, keyspace: Keyspace) -> None:
    """A quarantined request and a capture are looked up, and judged at their own time of receipt."""
    receive(redis_url, keyspace, MESSAGE)
    receive(redis_url, keyspace, MESSAGE, secret=SECRETS["sinch"][2])
    with redis_py.Redis.from_url(redis_url) as client:
        ids: list[Any] = [client.xrange(stream) for stream in (keyspace.captures, keyspace.quarantine)]
    capture, quarantined = (found[0][1][b"id"].decode() for found in ids)

    assert run("verify", capture).out.startswith("✓ authentic")
    assert run("verify", quarantined).out.startswith("✗ refused  signature_mismatch")
    assert run("verify", quarantined, "--account", "main-telnyx").status == 1


WRONG = {
    "no_file": (("verify", "nowhere.txt"), "no such file"),
    "unknown_id": (("verify", "cp_" + "0" * 32), "neither the quarantine nor the capture log"),
    "no_request": (("verify", "partyline.toml"), "cannot be read as a request"),
    "no_time": (("verify", "partyline.toml", "--received-at", "noon"), "--received-at is no time"),
    "no_account": (("verify", "-", "--account", "nobody"), "there are main-sendblue, main-sinch"),
    "which_account": (("verify", "-"), "add --account: there are main-sendblue"),
    "show_unknown": (("quarantine", "show", "cp_1\x1b[2J"), "there is no cp_1"),
    "judge_nothing": (("quarantine", "judge"), "--all"),
    "judge_both": (("quarantine", "judge", "cp_1", "--all"), "not both"),
    "drop_unknown": (("quarantine", "drop", "cp_1", "--yes"), "there is no cp_1 in the quarantine"),
    "drop_when": (("quarantine", "drop", "--before", "soon"), "12h"),
    "drop_both": (("quarantine", "drop", "cp_1", "--before", "3d"), "not both"),
    "letter_unknown": (("dead", "show", "cp_1"), "no dead letter cp_1"),
    "retry_nothing": (("dead", "retry"), "--reason or --all"),
    "retry_both": (("dead", "retry", "cp_1", "--all"), "not both"),
    "drop_letter": (("dead", "drop", "1-1", "--yes"), "no dead letter 1-1"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_plain_sentence(run: Run, words: tuple[str, ...], said: str) -> None:
    """It ends with status 1, nothing on standard output, and one line that says what to do."""
    ended = run(*words, stdin=b"a: b\r\n\r\n{}")

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert said in ended.err
    assert "\x1b" not in ended.err


EMPTY = {
    "quarantine_ls": (("quarantine", "ls"), "Nothing is in quarantine."),
    "quarantine_judge": (("quarantine", "judge", "--all"), "Nothing is in quarantine."),
    "quarantine_drop": (("quarantine", "drop", "--all"), "Nothing to drop."),
    "dead_ls": (("dead", "ls"), "No dead letters"),
    "dead_retry": (("dead", "retry", "--all"), "Nothing to read again."),
    "dead_drop": (("dead", "drop", "--all"), "Nothing to drop."),
}


@pytest.mark.parametrize(("words", "said"), EMPTY.values(), ids=EMPTY)
def test_where_there_is_nothing_that_is_said(run: Run, words: tuple[str, ...], said: str) -> None:
    """An empty namespace is no error, and nobody is asked about nothing."""
    ended = run(*words)

    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(said)


# --- quarantine -------------------------------------------------------------------------------------------


def test_the_quarantine_is_listed_and_shown(run: Run, redis_url: str, keyspace: Keyspace) -> None:
    """A line for each, the latest last; one of them in full, marked as unauthentic and harmless to a terminal."""
    receive(redis_url, keyspace, MESSAGE, b"other", secret=SECRETS["sinch"][2])
    first, second = listed(run("quarantine", "ls", "--json"), "entries")
    table, cut = run("quarantine", "ls").out, run("quarantine", "ls", "--limit", "1").out
    elsewhere = run("quarantine", "ls", "--account", "main-telnyx").out
    shown = run("quarantine", "show", first["id"])
    as_json = orjson.loads(run("quarantine", "show", second["id"], "--json").out)

    assert (first["account"], first["reason"], first["size"]) == (
        "sinch/main-sinch",
        "signature_mismatch",
        len(MESSAGE),
    )
    assert [line.split()[1] for line in table.splitlines()[1:3]] == [first["id"], second["id"]]
    assert first["id"] not in cut
    assert "1 earlier ones are not shown" in cut
    assert elsewhere.startswith("Nothing is in quarantine of account main-telnyx.")
    assert shown.out.count("UNAUTHENTIC") == 2
    assert "\x1b" not in shown.out
    assert '│   "body": "Ahoy \\x1b[2J"' in shown.out
    assert (as_json["unauthentic"], as_json["body_base64"]) == (True, "b3RoZXI=")


def test_the_quarantine_is_judged_after_a_correction(
    run: Run, folder: Path, redis_url: str, keyspace: Keyspace
) -> None:
    """With the wrong secret everything stays; with the right one it is captured, and the quarantine is empty."""
    receive(redis_url, keyspace, MESSAGE, b"other", secret=SECRETS["sinch"][2])
    stays = run("quarantine", "judge", "--all")
    corrected = accounts(secrets=[SECRETS["sinch"][2]])
    write_config(folder, keyspace.namespace, redis={"url": redis_url}, accounts=corrected)
    first, _ = listed(run("quarantine", "ls", "--json"), "entries")
    one = run("quarantine", "judge", first["id"])
    rest = orjson.loads(run("quarantine", "judge", "--account", "main-sinch", "--json").out)

    assert stays.out.splitlines()[-1] == "0 captured, 2 stay. `partyline verify ID` says more."
    assert one.out.splitlines()[-1] == "1 captured, 0 stay."
    assert (rest["captured"], rest["stay"], rest["entries"][0]["by"]) == (1, 0, "secrets[0]")
    with redis_py.Redis.from_url(redis_url) as client:
        assert client.xlen(keyspace.captures) == 2
        assert client.xlen(keyspace.quarantine) == 0


def test_dropping_asks_first(run: Run, redis_url: str, keyspace: Keyspace) -> None:
    """No is no, and so is no answer; yes, and --yes, are for good. A time chooses the older ones."""
    receive(redis_url, keyspace, MESSAGE, b"other", secret=SECRETS["sinch"][2])
    refused = [run("quarantine", "drop", "--all", stdin=said) for said in (b"n\n", b"")]
    later = (NOW + timedelta(seconds=1)).isoformat()
    none = run("quarantine", "drop", "--before", "1d")
    elsewhere = run("quarantine", "drop", "--before", later, "--account", "main-telnyx")
    first, _ = listed(run("quarantine", "ls", "--json"), "entries")
    one = run("quarantine", "drop", first["id"], stdin=b"y\n")
    rest = run("quarantine", "drop", "--before", later, "--yes")

    assert [ended.status for ended in refused] == [1, 1]
    assert (none.out, elsewhere.out) == ("Nothing to drop.\n", "Nothing to drop.\n")
    assert one.out.endswith("1 dropped.\n")
    assert rest.out == "1 dropped.\n"


# --- dead letters -----------------------------------------------------------------------------------------


def test_dead_letters_are_listed_shown_retried_and_dropped(
    run: Run, redis_url: str, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By reason and one by one, with the place in the capture; after a fix they are events, and the rest can go."""
    with monkeypatch.context() as patch:
        patch.setattr("tests.service.PROVIDERS", {**PROVIDERS, "sinch": _refusing()})
        receive(redis_url, keyspace, FACT, b"no json")
    raw_list = run("dead", "ls", "--json")
    first, second = listed(raw_list, "letters")
    table, other = run("dead", "ls").out, run("dead", "ls", "--reason", "too_old").out
    shown = run("dead", "show", first["capture"])
    as_json = orjson.loads(run("dead", "show", second["position"], "--json").out)
    retried = orjson.loads(run("dead", "retry", "--all", "--json").out)
    again = run("dead", "retry", "--reason", "unreadable")
    dropped = run("dead", "drop", second["position"], stdin=b"y\n")

    assert orjson.loads(raw_list.out)["reasons"] == {"unreadable": 2}
    assert "2        unreadable" in table
    assert first["capture"] in table
    assert first["capture"] not in other
    assert '→   "id": "01MO",' in shown.out
    assert "account   sinch/main-sinch" in shown.out
    assert as_json["capture"]["body"] == "no json"
    assert (retried["captures"], retried["removed"], retried["stay"]) == (2, 1, 1)
    assert again.out == "1 capture(s) read again: 0 letter(s) removed, 1 stay.\n"
    assert dropped.out.endswith("1 dropped.\n")
    with redis_py.Redis.from_url(redis_url) as client:
        assert client.xlen(keyspace.events) == 1
        assert client.xlen(keyspace.dead) == 0


def test_what_a_failing_parser_logs_while_read_again_is_not_in_the_answer(
    run: Run, redis_url: str, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to stderr, without what the capture says, and stdout is the JSON alone."""
    monkeypatch.setattr("tests.service.PROVIDERS", {**PROVIDERS, "sinch": _refusing()})
    receive(redis_url, keyspace, FACT)
    monkeypatch.setattr("receiver.cli.dead.PROVIDERS", {**PROVIDERS, "sinch": _failing()})
    ended = run("dead", "retry", "--all", "--json")

    assert orjson.loads(ended.out)["stay"] == 1
    assert "parser failed" in ended.err
    assert "Ahoy" not in ended.err
    assert "15555550111" not in ended.err


def _refusing() -> Provider:
    """Sinch, of whom nothing can be read."""

    def parse(_: Capture) -> list[Parsed]:
        raise ParseError("$.id", "of a kind that nobody foresaw")

    return msgspec.structs.replace(PROVIDERS["sinch"], parse=parse)


def _failing() -> Provider:
    """Sinch, whose parser has a defect."""

    def parse(_: Capture) -> list[Parsed]:
        raise RuntimeError

    return msgspec.structs.replace(PROVIDERS["sinch"], parse=parse)


# --- help -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["verify"],
        *(["quarantine", word] for word in ("ls", "show", "judge", "drop")),
        *(["dead", word] for word in ("ls", "show", "retry", "drop")),
    ],
    ids=" ".join,
)
def test_every_command_shows_an_example(run: Run, words: list[str]) -> None:
    """Help ends with a line that can be typed."""
    ended = run(*words, "--help")

    assert ended.status == 0
    assert f"Example: partyline {' '.join(words)}" in " ".join(ended.out.split())
