"""The commands that read and write a namespace themselves, run in this process against a real Redis."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis as redis_py

from schemas.callback import Capture
from schemas.ids import Scope
from schemas.keyspace import Keyspace
from schemas.wire import decode_capture
from tests.command_line import Run, command_line
from tests.library import ANN, BOB, Shelf, conversation, providing
from tests.processes import write_config
from tests.service import ACCOUNTS, LINE

SEND = b'{"id": "m1", "to": ["+15555550111"]}'
ONE, OTHER = conversation("a", "direct", ANN), conversation("b", "direct", BOB)
GROUP = conversation("c", "group", ANN, BOB, merged=["cv_" + "d" * 26])


@pytest.fixture
def folder(tmp_path: Path, keyspace: Keyspace, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a configuration and a send in it."""
    write_config(tmp_path, keyspace.namespace, redis={"url": redis_url})
    (tmp_path / "response.json").write_bytes(SEND)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs one command line to its end; sends are easily written ones, and three conversations are known."""
    assert folder.exists()
    monkeypatch.setattr("receiver.cli.registering.PROVIDERS", providing())
    monkeypatch.setattr("receiver.cli.conversations.Lookup", Shelf(ONE, OTHER, GROUP))

    return command_line(monkeypatch, capsysbinary)


@pytest.fixture
def kept(redis_url: str, keyspace: Keyspace) -> Iterator[Callable[[], list[Capture]]]:
    """Reads the capture log as it stands."""
    with redis_py.Redis.from_url(redis_url) as client:

        def captures() -> list[Capture]:
            found: Any = client.xrange(keyspace.captures)
            return [decode_capture(fields) for _, fields in found]

        yield captures


def key_of(keyspace: Keyspace, *people: str) -> str:
    """The key of a pair at Telnyx under the configuration's id_key."""
    return Scope(b"a key for tests only", keyspace.namespace, "telnyx", "main-telnyx").conversation(
        "pair", sorted((LINE, *people))
    )


# --- register ---


@pytest.mark.parametrize("where", ["main-telnyx", "telnyx", "telnyx/main-telnyx"])
def test_a_send_is_registered_without_a_server(
    run: Run, kept: Callable[[], list[Capture]], keyspace: Keyspace, where: str
) -> None:
    """The account, or its provider's only one, is enough; the keys are shown, and the bytes are in the log."""
    ended = run("register", where, "response.json")
    [capture] = kept()

    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "recipient     conversation",
        f"{ANN}  {key_of(keyspace, ANN)}",
        "",
        f"Registered at main-telnyx, as capture {capture.id}.",
    ]
    assert (capture.kind, capture.account, capture.body) == ("outbound", "main-telnyx", SEND)
    assert (capture.assurance, capture.headers, capture.facts.lines) == ("shared_secret", (), (LINE,))


def test_a_send_is_read_from_standard_input_and_answered_as_json(
    run: Run, kept: Callable[[], list[Capture]], keyspace: Keyspace
) -> None:
    """In a script the answer is that of the HTTP route."""
    ended = run("register", "main-telnyx", "-", "--json", stdin=SEND)
    [capture] = kept()

    assert orjson.loads(ended.out) == {
        "capture": capture.id,
        "conversations": [{"recipient": ANN, "key": key_of(keyspace, ANN)}],
    }


WRONG = {
    "nobody": (("register", "nobody", "response.json"), "no configured account"),
    "another's": (("register", "sinch/main-telnyx", "response.json"), "no configured account"),
    "no_file": (("register", "main-telnyx", "none.json"), "none.json cannot be read: No such file"),
    "unreadable": (("register", "main-telnyx", "-"), "no send of telnyx's: $: not JSON"),
    "unknown_key": (("conversations", "show", "cv_" + "z" * 26), "nothing has been published"),
    "no_key": (("conversations", "show", ANN), "no conversation's key"),
    "no_question": (("conversations", "find"), "one of id and address"),
    "both": (("conversations", "find", "--id", "9d12", "--address", ANN), "one of id and address"),
    "unknown_account": (
        ("conversations", "find", "--id", "9d12", "--account", "nobody"),
        "no such account: see [accounts.*]",
    ),
    "no_account": (("conversations", "find", "--id", "9d12"), "account:"),
    "no_limit": (("conversations", "find", "--address", ANN, "--limit", "0"), "limit:"),
    "no_address": (("conversations", "find", "--address", "40404"), "provider's name"),
    "unknown_link": (("conversations", "link", ONE["key"], "cv_" + "z" * 26), "other: nothing has been published"),
    "same_link": (("conversations", "link", ONE["key"], ONE["key"]), "same key"),
    "kinds": (("conversations", "link", ONE["key"], GROUP["key"]), "never one conversation"),
    "no_tie": (("conversations", "link", ANN, "x" * 999, "--account", "main-telnyx"), "other: that cannot be one"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_plain_sentence(
    run: Run, kept: Callable[[], list[Capture]], words: tuple[str, ...], said: str
) -> None:
    """It ends with status 1, says what to look at without a full number, and leaves nothing behind."""
    ended = run(*words)

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert said in ended.err
    assert "5555550111" not in ended.err
    assert kept() == []


def test_several_accounts_of_a_provider_are_told_apart(
    run: Run, folder: Path, keyspace: Keyspace, redis_url: str
) -> None:
    """A provider's name alone does when it has one account; else the accounts are named."""
    accounts = {**ACCOUNTS, "spare-telnyx": ACCOUNTS["main-telnyx"]}
    write_config(folder, keyspace.namespace, redis={"url": redis_url}, accounts=accounts)
    ended = run("register", "telnyx", "response.json")

    assert (ended.status, ended.err) == (
        1,
        "✗ telnyx has several accounts; name one: there are main-telnyx, spare-telnyx\n",
    )


def test_a_body_beyond_the_limit_is_refused(run: Run, folder: Path, keyspace: Keyspace, redis_url: str) -> None:
    """What HTTP would not take is not taken here either."""
    server = {"port": 0, "max_body": 20}
    write_config(folder, keyspace.namespace, redis={"url": redis_url}, server=server)

    assert run("register", "main-telnyx", "response.json").err == "✗ more than server.max_body (20 bytes)\n"
    assert run("register", "main-telnyx", "-", stdin=SEND).status == 1


def test_an_embedded_redis_that_does_not_run_is_named(run: Run, folder: Path, keyspace: Keyspace) -> None:
    """No server is started behind a person's back; the sentence says what to start."""
    write_config(folder, keyspace.namespace, redis={"url": "embedded", "data_dir": str(folder / "r")})
    ended = run("register", "main-telnyx", "response.json")

    assert (ended.status, ended.out) == (1, "")
    assert "partyline serve" in ended.err


def test_another_id_key_is_refused_before_anything_is_written(
    run: Run, kept: Callable[[], list[Capture]], folder: Path, keyspace: Keyspace, redis_url: str
) -> None:
    """Keys derived under another id_key would be those of no conversation."""
    run("register", "main-telnyx", "response.json")
    write_config(folder, keyspace.namespace, redis={"url": redis_url}, id_key="quite another key for tests")
    ended = run("register", "main-telnyx", "response.json")

    assert (ended.status, ended.out) == (78, "")
    assert "id_key" in ended.err
    assert len(kept()) == 1


# --- conversations ---


def test_a_conversation_is_shown(run: Run) -> None:
    """Everything that is known of it, readable or as the HTTP route answers it; a merged key shows its survivor."""
    shown, raw = run("conversations", "show", *GROUP["merged"]), run("conversations", "show", GROUP["key"], "--json")

    assert shown.status == 0
    assert f"participants  {ANN}, {BOB}\n" in shown.out
    assert orjson.loads(raw.out) == GROUP


def test_conversations_are_found(run: Run) -> None:
    """A line for each, and how to get the next page."""
    first = run("conversations", "find", "--address", "+1 555 555 0111")
    second = run("conversations", "find", "--id", "9d12", "--account", "main-telnyx", "--after", "c1", "--limit", "5")
    raw = run("conversations", "find", "--address", ANN, "--provider", "telnyx", "--json")

    assert [line.split()[0] for line in first.out.splitlines()] == ["conversation", ONE["key"], "There"]
    assert first.out.endswith("add --after c1\n")
    assert [line.split()[0] for line in second.out.splitlines()] == ["conversation", OTHER["key"], GROUP["key"]]
    assert orjson.loads(raw.out) == {"conversations": [ONE], "after": "c1"}


@pytest.mark.parametrize(("word", "undone"), [("link", {}), ("unlink", {"undone": True})])
def test_links_go_into_the_log(run: Run, kept: Callable[[], list[Capture]], word: str, undone: dict[str, bool]) -> None:
    """Two keys, or two addresses of an account; each is a capture of kind `link`."""
    keys = run("conversations", word, OTHER["key"], ONE["key"])
    addresses = run("conversations", word, "--account", "main-telnyx", "--json", BOB, "(555) 555-0111")
    link, tie = kept()

    assert link.id in keys.out
    assert orjson.loads(addresses.out) == {"capture": tie.id}
    assert [(each.kind, each.provider, each.account) for each in (link, tie)] == [("link", "telnyx", "main-telnyx")] * 2
    assert orjson.loads(link.body) == {"link": [ONE["key"], OTHER["key"]], **undone}
    assert orjson.loads(tie.body) == {"tie": [ANN, BOB], **undone}


@pytest.mark.parametrize(
    "words",
    [
        ["register"],
        *(["conversations", word] for word in ("show", "find", "link", "unlink")),
    ],
    ids=" ".join,
)
def test_every_command_shows_an_example(run: Run, words: list[str]) -> None:
    """Help ends with a line that can be typed."""
    ended = run(*words, "--help")

    assert ended.status == 0
    assert f"Example: partyline {' '.join(words)}" in " ".join(ended.out.split())
