"""`partyline tail` as people type it: real processes, a real service, a real Redis that dies and comes back."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from rich.cells import cell_len

from receiver.samples import SAMPLES
from tests.command_line import Run, command_line
from tests.processes import (
    PROGRAM,
    Process,
    Service,
    Space,
    embedded,
    partyline,
    plain_environment,
    service,
    started,
    until,
    write_config,
)

ANN, BOB, CAM = "+15555550111", "+15555550122", "+15555550133"


@pytest.fixture
async def running(folder: Path, namespace: str) -> AsyncIterator[Service]:
    """A service with a Redis of its own."""
    async with service(folder, namespace, redis=embedded(folder / "r")) as started_service:
        yield started_service


@pytest.fixture
async def filled(running: Service) -> Service:
    """The same, once the sample conversation of each provider has been published."""
    for provider, make in SAMPLES.items():
        for body in make(datetime.now(UTC), "s"):
            assert (await running.post(provider, body)).status_code == 200
    await running.settled()
    return running


def written(name: str, sender: str) -> bytes:
    """Somebody writes to our line at Sinch."""
    words = {"type": "mo_text", "id": name, "from": sender[1:], "to": "15555550100", "body": f"Ahoy, {name}"}
    return orjson.dumps(words)


def typing() -> bytes:
    """Ann types to our line at Sendblue, now."""
    words = {"number": ANN, "from_number": "+15555550100", "is_typing": True}
    return orjson.dumps({**words, "timestamp": datetime.now(UTC).isoformat()})


async def stream_of(space: Space) -> list[str]:
    """The envelopes in the stream as they stand there."""
    return [fields[b"event"].decode() for _, fields in await space.redis.xrange(space.keys.events)]


async def listening(space: Space, tails: int = 1) -> None:
    """Wait until tails have begun: one listens for what is on pub/sub only once it knows its place in the stream."""
    for _ in range(500):
        if [client["psub"] for client in await space.redis.client_list()].count("1") == tails:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("tail does not subscribe")


def shown(folder: Path, *options: str) -> list[dict[str, Any]]:
    """What a tail that does not go on prints as JSON."""
    ended = partyline(folder, "tail", "--json", "--no-follow", *options)
    assert (ended.returncode, ended.stderr) == (0, "")
    return [orjson.loads(line) for line in ended.stdout.splitlines()]


# --- the record -------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_no_event_is_missed_or_doubled_when_redis_is_killed(folder: Path, running: Service) -> None:
    """Redis is killed three times under load; the tail shows just what is in the stream, and leaves no place in it."""
    with started([PROGRAM, "tail", "--json"], folder, "tail") as tail:
        await listening(running.space)
        enough = asyncio.Event()
        posting = asyncio.create_task(_keep_posting(running, enough))
        for times in (1, 2, 3):
            seen = tail.output.count("\n")
            await until(lambda at=seen: tail.output.count("\n") > at + 20, "events come")  # type: ignore[misc]
            running.process.member("redis-server").signal(signal.SIGKILL)
            await until(lambda now=times: tail.log.count("is back") == now, "tail has found it again")  # type: ignore[misc]
        enough.set()
        await posting
        await running.settled()
        stream = await stream_of(running.space)
        await until(lambda: tail.output.count("\n") >= len(stream), "tail shows all of it")
        groups = await running.space.redis.xinfo_groups(running.space.keys.events)
        tail.signal(signal.SIGINT)
        status, followed, said = await tail.status(), tail.output.splitlines(), tail.log.splitlines()

    assert status == 0
    assert followed == stream
    assert [" ".join(line.split()[:3]) for line in said] == ["Redis is away,", "Redis is back;"] * 3
    assert groups == []


async def _keep_posting(running: Service, enough: asyncio.Event) -> None:
    """One new fact after the other, refused while Redis is away. Ends between two: one cut off may yet come."""
    numbers = count()
    while not enough.is_set():
        try:
            await running.post("sinch", written(f"n{next(numbers)}", ANN))
        except httpx.TransportError:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.005)


async def test_a_tail_begins_where_it_is_told_to(folder: Path, filled: Service) -> None:
    """With what is kept from a time on, the last so many, or only what is new; and it ends where it is told to."""
    stream = [orjson.loads(line) for line in await stream_of(filled.space)]
    with started([PROGRAM, "tail", "--json"], folder, "new") as new:
        await listening(filled.space)
        await filled.post("sinch", written("late", BOB))
        await until(lambda: new.output.endswith("\n"), "the new event comes")
        new.signal(signal.SIGTERM)
        status, only = await new.status(), orjson.loads(new.output)

    assert shown(folder, "--since", "1h")[:-1] == stream
    assert shown(folder, "--last", "2") == [stream[-1], only]
    assert shown(folder, "-n", "1", "--type", "message.reaction") == [
        event for event in stream if event["type"] == "message.reaction"
    ]
    assert shown(folder, "--since", "2100-01-01") == []
    assert (status, only["data"]["message"]["text"]) == (0, "Ahoy, late")


async def test_kept_events_are_followed_by_new_ones(folder: Path, filled: Service) -> None:
    """`--since` does not end where the past does."""
    kept = len(await stream_of(filled.space))
    with started([PROGRAM, "tail", "--json", "--since", "1h"], folder, "tail") as tail:
        await until(lambda: tail.output.count("\n") == kept, "what is kept")
        await filled.post("sinch", written("late", BOB))
        await until(lambda: tail.output.count("\n") == kept + 1, "what is new")
        stream = await stream_of(filled.space)

        assert tail.output.splitlines() == stream


async def test_typing_is_shown_though_no_stream_has_it(folder: Path, running: Service) -> None:
    """It comes by pub/sub, also when nothing else is asked for."""
    with (
        started([PROGRAM, "tail"], folder, "all") as everything,
        started([PROGRAM, "tail", "--type", "typing"], folder, "typing") as alone,
    ):
        await listening(running.space, 2)
        await running.post("sinch", written("a", ANN))
        await running.post("sendblue", typing())
        await until(lambda: everything.output.count("\n") == 2 and alone.output.count("\n") == 1, "both are shown")

        assert alone.output.endswith(f"{ANN}  is typing\n")
        assert {line.split()[2] for line in everything.output.splitlines()} == {"message.received", "typing"}


# --- filters ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
async def test_filters_narrow_and_repeat(folder: Path) -> None:
    """Of the samples' events (4 of Telnyx, 5 of Sendblue, 3 of Sinch, 5 of WhatsApp) only those that fit are shown."""

    def counted(*options: str) -> int:
        return len(shown(folder, "--since", "1h", *options))

    assert counted() == 17
    assert counted("--provider", "telnyx") == 4
    assert counted("--provider", "telnyx", "--provider", "sinch") == 7
    assert counted("--account", "main-whatsapp") == 5
    assert counted("--account", "main-whatsapp", "--provider", "sinch") == 0
    assert counted("--type", "message.received", "--provider", "telnyx", "--provider", "sendblue") == 4
    assert counted("--address", "+1 (555) 555-0133") == 5  # Cam is only in the group at Sendblue
    assert counted("--address", CAM, "--address", BOB) == 5 + 4 + 1 + 5  # Ben is in two groups, and one report at Sinch


async def test_a_conversation_is_found_by_a_key_that_was_merged(folder: Path, running: Service) -> None:
    """Two 1:1s are linked while a tail looks at one: it goes on with both, and so does a later one by either key."""
    for name, person in (("a", ANN), ("b", BOB)):
        await running.post("sinch", written(name, person))
    await running.post("sinch", written("c", CAM))
    await running.settled()
    keys = {event["data"]["message"]["id"]: event["subject"] for event in await running.space.events()}
    ends = [PROGRAM, "tail", "--json", "--conversation", keys["b"]]
    with started(ends, folder, "tail") as tail:
        await listening(running.space)
        linked = partyline(folder, "conversations", "link", keys["a"], keys["b"])
        await running.settled()
        for name, person in (("a2", ANN), ("b2", BOB), ("c2", CAM)):
            await running.post("sinch", written(name, person))
        await running.settled()
        await until(lambda: tail.output.count("\n") == 3, "the merge and what both say")
        live = [orjson.loads(line) for line in tail.output.splitlines()]
    by_each = [_names(shown(folder, "--since", "1h", "--conversation", keys[name])) for name in "ab"]
    in_words = partyline(folder, "tail", "--no-follow", "--since", "1h", "--type", "conversation.merged").stdout

    assert linked.returncode == 0
    assert _names(live) == ["conversation.merged", "a2", "b2"]
    assert by_each == [["a", "b", "conversation.merged", "a2", "b2"]] * 2
    merged = {keys["a"], keys["b"]} - {live[0]["subject"]}
    assert in_words.endswith(f"{merged.pop()} is now this conversation\n")


def _names(events: list[dict[str, Any]]) -> list[str]:
    """The ids of messages, and the types of what is no message."""
    return [event["data"]["message"]["id"] if "message" in event["data"] else event["type"] for event in events]


# --- how it looks and ends --------------------------------------------------------------------------------


def on_terminal(folder: Path, columns: int, *options: str, **environment: str) -> str:
    """What a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    plain = {key: value for key, value in plain_environment(folder).items() if key not in {"COLUMNS", "NO_COLOR"}}
    variables = {**plain, "TERM": "xterm-256color", "TZ": "America/New_York", **environment}
    command = [PROGRAM, "tail", *options]
    process = subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    written_to_it = b""
    try:
        while part := os.read(ours, 65536):
            written_to_it += part
    except OSError:  # what Linux says once nobody holds the other end
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)
        os.close(ours)
    return written_to_it.decode()


_STYLE = re.compile(r"\x1b\[[0-9;]*m")


async def test_a_terminal_shows_columns_that_fit(folder: Path, filled: Service) -> None:
    """At 80 columns every line fits and begins with a local time under its day; NO_COLOR takes colours away."""
    now = await filled.space.redis.time()
    coloured = on_terminal(folder, 80, "--since", "1h", "--no-follow")
    plain = on_terminal(folder, 80, "--since", "1h", "--no-follow", NO_COLOR="1")
    lines = _STYLE.sub("", coloured).splitlines()
    day = datetime.fromtimestamp(now[0], UTC)

    assert max(map(cell_len, lines)) <= 80
    assert re.fullmatch(r"── \w+day, \d{4}-\d\d-\d\d ──", lines[0])
    assert abs(datetime.fromisoformat(lines[0][-13:-3]).toordinal() - day.toordinal()) <= 1
    assert len([line for line in lines if re.match(r"\d\d:\d\d:\d\d (telnyx|sendblue|sinch|whatsapp) ", line)]) == 17
    assert any(line.endswith(f"group/1  {BOB} joined; now 1 person") for line in lines)
    assert "\x1b[38;5;" in coloured
    assert "\x1b[3" not in plain
    assert _STYLE.sub("", plain) == _STYLE.sub("", coloured)


async def test_nothing_that_others_write_moves_a_terminal(folder: Path, running: Service) -> None:
    """Neither a line nor JSON on a terminal has a control character of a message in it; a pipe gets the very bytes."""
    text = "one\x1b[2J\u009b31m\u202etwo"
    body = orjson.dumps({**orjson.loads(written("evil", ANN)), "body": text})
    await running.post("sinch", body)
    await running.settled()
    line = on_terminal(folder, 120, "-n", "1", "--no-follow", NO_COLOR="1")
    json = on_terminal(folder, 120, "-n", "1", "--no-follow", "--json")
    piped = partyline(folder, "tail", "-n", "1", "--no-follow", "--json").stdout

    assert _STYLE.sub("", line).replace("\r\n", "").isprintable()
    assert "“one [2J 31m two”" in line
    assert json.replace("\r\n", "").isprintable()
    assert orjson.loads(json)["data"]["message"]["text"] == text
    assert piped.splitlines() == await stream_of(running.space)


@pytest.mark.parametrize("form", ["--json", "--type=message.received"])
async def test_a_tail_ends_when_its_reader_has_gone(folder: Path, running: Service, form: str) -> None:
    """`partyline tail | head -n 1` ends with the first line: not with the second event, which may never come."""
    command = ["/bin/sh", "-c", f"{PROGRAM} tail {form} --since 1h; echo status $? >&2"]
    with started(["/bin/sh", "-c", f"({command[2]}) | head -n 1"], folder, "tail") as tail:
        await until(lambda: len(_tails(tail)) > 0, "tail runs")
        await running.post("sinch", written("a", ANN))
        status = await tail.status()

        assert (status, tail.output.count("\n"), tail.log) == (0, 1, "status 0\n")


def _tails(process: Process) -> list[Any]:
    return [kin for kin in process.family() if " tail " in kin.command and "/bin/sh" not in kin.command]


# --- mistakes ---------------------------------------------------------------------------------------------

WRONG = {
    "type": (("--type", "message.sent"), "--type: there is no such one; there are account.notice"),
    "provider": (("--provider", "pigeon"), "--provider: there is no such one; there are sendblue"),
    "conversation": (("--conversation", "cv_1"), "--conversation: that is no conversation's key"),
    "address": (("--address", "x\x1b[2J"), "--address: "),
    "since": (("--since", "soon"), "--since: no time that can be read"),
    "two beginnings": (("--since", "2h", "-n", "3"), "one of --since and --last"),
    "no beginning": (("--no-follow",), "say with --since or --last what to show"),
    "typing that is kept": (("--since", "2h", "--type", "typing"), "none is kept"),
}


@pytest.fixture
def run(
    configured: Path,  # noqa: ARG001 - it makes the working directory
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Run:
    """Runs one tail, for a namespace that nothing has happened in."""
    return command_line(monkeypatch, capsysbinary, "tail")


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_plain_sentence(run: Run, words: tuple[str, ...], said: str) -> None:
    """It ends with status 1, as with the other commands that select, and says what to do."""
    ended = run(*words)

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert said in ended.err
    assert "\x1b" not in ended.err


@pytest.mark.usefixtures("run")
def test_an_account_that_is_not_configured_is_pointed_out(folder: Path) -> None:
    """It may have been there once, so what it had is shown; whoever mistyped it need not wait in vain."""
    ended = partyline(folder, "tail", "--no-follow", "-n", "1", "--account", "main-telnix")

    assert (ended.returncode, ended.stdout) == (0, "")
    assert "--account: main-telnix is not configured; there are main-sendblue, main-sinch" in ended.stderr


def test_a_redis_that_is_not_there_is_told_at_once(folder: Path, namespace: str) -> None:
    """Only one that goes away meanwhile is waited for."""
    write_config(folder, namespace, redis={"url": f"unix://{folder}/nobody.sock"})
    ended = partyline(folder, "tail")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("✗ Redis: ConnectionError")
