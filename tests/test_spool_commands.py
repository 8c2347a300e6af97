"""`partyline spool` as people type it, against a real spool and a real Redis."""

import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import redis as redis_py

from receiver.draining import _alone
from receiver.spool import Spool
from schemas.callback import AccountFacts, Callback
from schemas.ids import CaptureId
from schemas.keyspace import LAYOUT, Keyspace
from schemas.wire import encode_capture, encode_facts
from tests.command_line import Run, command_line
from tests.processes import write_config
from tests.service import document, settings_of


@pytest.fixture
def spool(tmp_path: Path, keyspace: Keyspace, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """An empty spool of a configuration in the working directory."""
    write_config(tmp_path, keyspace.namespace, redis={"url": redis_url})
    monkeypatch.chdir(tmp_path)
    return Spool(settings_of(document(keyspace.namespace)))


@pytest.fixture
def run(spool: Spool, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs one command line to its end."""
    assert not spool.path.exists()
    return command_line(monkeypatch, capsysbinary, "spool")


def put(spool: Spool, account: str, name: str, now: float) -> None:
    """Spool a capture."""
    callback = Callback(
        provider=account.removeprefix("main-"),
        account=account,
        received_at=datetime.fromtimestamp(now, UTC),
        assurance="signed",
        credential="",
        headers=(),
        body=b"{}",
        facts=AccountFacts(),
    )
    values = encode_capture(CaptureId(name), callback, encode_facts(callback.facts))
    spool.put([values], now, tried_after=None, needed=True)
    spool.close()


def test_nothing_is_made_by_looking(spool: Spool, run: Run) -> None:
    """Before the first start there is no spool, and that is told."""
    ended = run("ls")
    drained = run("drain")

    assert (ended.status, ended.out) == (0, f"Nothing waits in {spool.path}; 1GiB fit.\n")
    assert (drained.status, drained.err) == (1, f"✗ spool.dir: there is no spool at {spool.path}\n")
    assert not spool.path.parent.exists()


def test_what_waits_is_listed_by_account(spool: Spool, run: Run) -> None:
    """How many of each, their bytes and the age of the oldest; and what was set aside."""
    now = time.time()
    put(spool, "main-telnyx", "cp_1", now - 7203)
    put(spool, "main-sinch", "cp_2", now - 150)
    put(spool, "main-telnyx", "cp_3", now)
    aside = spool.path.with_name(f"{spool.path.stem}.damaged-7.sqlite")
    aside.touch()
    shown, said = run("ls"), orjson.loads(run("ls", "--json").out)

    assert [line[:2] for line in shown.words[:3]] == [
        ["account", "callbacks"],
        ["main-sinch", "1"],
        ["main-telnyx", "2"],
    ]
    assert [line[-1] for line in shown.words[1:3]] == ["2m", "2h"]
    assert shown.out.splitlines()[3] == f"3 callback(s) wait in {spool.path}; 1GiB fit."
    assert f"Damaged and set aside: {aside} " in shown.out
    assert (said["captures"], said["max_bytes"], said["damaged"]) == (3, 1_073_741_824, [str(aside)])
    assert [(each["account"], each["captures"]) for each in said["accounts"]] == [("main-sinch", 1), ("main-telnyx", 2)]
    assert said["bytes"] == sum(each["bytes"] for each in said["accounts"]) > 300


def test_it_is_drained_by_hand(spool: Spool, run: Run, redis_url: str, keyspace: Keyspace) -> None:
    """All of it, in order; once more does no harm."""
    for number in range(5):
        put(spool, "main-telnyx", f"cp_{number}", time.time())
    first, second = run("drain"), run("drain")
    with redis_py.Redis.from_url(redis_url) as client:
        found = [fields[b"id"] for _, fields in client.xrange(keyspace.captures)]

    assert (first.status, first.out) == (0, "Drained 5 callback(s); nothing waits any more.\n")
    assert (second.status, second.out) == (0, "Drained 0 callback(s); nothing waits any more.\n")
    assert found == [b"cp_0", b"cp_1", b"cp_2", b"cp_3", b"cp_4"]
    assert run("ls").out.startswith("Nothing waits in ")


def test_a_damaged_file_is_told_beside_the_answer(spool: Spool, run: Run) -> None:
    """It is set aside, and what the log says of that stands on stderr like the error, nothing on stdout."""
    put(spool, "main-telnyx", "cp_1", time.time())
    spool.path.write_bytes(b"x" * 8192)
    ended = run("ls", "--json")

    assert (ended.status, ended.out) == (1, "")
    assert ended.err.count("the spool was damaged and is set aside as ") == 2
    assert orjson.loads(run("ls", "--json").out)["captures"] == 0


def test_it_is_left_to_a_receiver_that_runs(spool: Spool, run: Run) -> None:
    """While another process drains, nothing is done, and that is told."""
    put(spool, "main-telnyx", "cp_1", time.time())
    with _alone(spool.path.with_suffix(".draining")) as alone:
        ended = run("drain")

    assert alone
    assert (ended.status, ended.out) == (1, "")
    assert "another process of this host drains the spool now" in ended.err


def test_a_redis_of_another_key_gets_nothing(spool: Spool, run: Run, redis_url: str, keyspace: Keyspace) -> None:
    """What is wrong with it is told, and everything stays."""
    with redis_py.Redis.from_url(redis_url) as client:
        client.hset(keyspace.meta, mapping={"layout": LAYOUT, "partitions": "1", "id_key": "of somebody else"})
        put(spool, "main-telnyx", "cp_1", time.time())
        ended = run("drain")
        kept = client.exists(keyspace.captures)

    assert (ended.status, kept) == (1, 0)
    assert "nothing was drained: id_key: this namespace was made with another" in ended.err
    assert run("ls").out.splitlines()[-1].startswith("1 callback(s) wait in ")
