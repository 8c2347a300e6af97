import asyncio
import os
import re
import shlex
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
import typer.main
from prometheus_client.metrics import MetricWrapperBase
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.routing import Route

from correlator.gathering import Entry
from correlator.lease import Lease
from correlator.rollup import Rollup
from correlator.store import Store
from correlator.subscribe import Lag, Subscription
from receiver import metrics
from receiver.answers import UNFORESEEN, Refusal
from receiver.app import Front, make_app
from receiver.body import Node
from receiver.cli import app as program
from receiver.namespace import claim_namespace
from receiver.operations import CALLBACK_PATHS, OPERATIONS
from receiver.providers import PROVIDERS
from receiver.samples import LINE, SAMPLES
from receiver.settings import Settings, explain, parse
from receiver.settings.values import SecretBytes
from schemas.callback import AccountFacts, Capture
from schemas.errors import AuthenticationError, CallbackError
from schemas.events import STATES, EventBody
from schemas.ids import CaptureId
from schemas.keyspace import Keyspace
from tests.library import TOKENS, running_api

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = sorted(path for pattern in ("*.md", "deploy/**/*.md", "receiver/**/*.md") for path in ROOT.glob(pattern))
SETUP_PAGES = sorted((ROOT / "deploy" / "providers").glob("*.md"))

#: What the documents' configurations read from the environment; every value is made up.
ENVIRONMENT = {
    "PARTYLINE_ID_KEY": "an-id-key-of-thirty-two-characters",
    "SENDBLUE_SECRET": "made-up-sendblue-secret",
    "SENDBLUE_URL_TOKEN": "made_up_sendblue_url_token",
    "SINCH_SECRET": "made-up-sinch-secret",
    "SINCH_URL_TOKEN": "made_up_sinch_url_token",
    "TELNYX_PUBLIC_KEY": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
    "WHATSAPP_APP_SECRET": "made-up-app-secret",
    "WHATSAPP_VERIFY_TOKEN": "made-up-verify-token",
}
SNIPPET_SECONDS = 30.0


# --- reading documents ------------------------------------------------------------------------------------

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of one language, without their indentation."""
    return [textwrap.dedent(body) for _, found, body in _FENCED.findall(document.read_text()) if found == language]


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return _FENCED.sub("", document.read_text())


def code_spans(document: Path) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", prose(document))


def first_cells(document: Path, pattern: str) -> list[tuple[str, ...]]:
    """The groups of a pattern that table rows begin with."""
    found = re.findall(rf"^\| {pattern} \|", prose(document), re.MULTILINE)
    return [(row,) if isinstance(row, str) else tuple(row) for row in found]


def command_lines(first_word: str) -> Iterator[tuple[Path, list[str]]]:
    """Every command line in a document, in a shell block or a code span, that begins with a program; without it."""
    for document in DOCUMENTS:
        lines = [line for block in blocks(document, "sh") for line in block.splitlines()]
        for line in (*lines, *code_spans(document)):
            if re.match(rf"(\.venv/bin/)?{first_word} ", line):
                yield document, shlex.split(line, comments=True)[1:]


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def name_of(value: object) -> str:
    """A parameter as the test's name shows it."""
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else " ".join(map(str, value))  # type: ignore[call-overload]


# --- what documents name exists ---------------------------------------------------------------------------


@pytest.mark.parametrize(("document", "words"), [*command_lines("partyline")], ids=name_of)
def test_a_command_line_in_a_document_is_one_that_the_program_takes(document: Path, words: list[str]) -> None:
    """Every `partyline …` in a document names a command and options that exist."""
    commands: dict[str, Any] = typer.main.get_command(program).commands  # type: ignore[attr-defined]
    while hasattr(commands[words[0]], "commands"):
        commands, words = commands[words[0]].commands, words[1:]

    context = commands[words[0]].make_context(words[0], words[1:])

    assert words[0] == context.command.name, document


def test_the_readme_shows_every_command() -> None:
    """Nothing that the program can do is left for people to find out."""
    shown = {words[0] for _, words in command_lines("partyline")}
    shown_of_conversations = {words[1] for _, words in command_lines("partyline") if words[0] == "conversations"}
    commands: dict[str, Any] = typer.main.get_command(program).commands  # type: ignore[attr-defined]

    assert set(commands) == shown
    assert set(commands["conversations"].commands) == shown_of_conversations


@pytest.mark.parametrize(("document", "words"), [*command_lines("make")], ids=name_of)
def test_a_make_target_in_a_document_exists(document: Path, words: list[str]) -> None:
    """Every `make …` in a document is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(words) - targets == set(), document


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_relative_link_leads_somewhere(document: Path) -> None:
    """Every link within the project points to a file or folder that exists, and its anchor to a heading."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)) if "://" not in link]

    broken = [link for link in links if not _leads_somewhere(document, *link.partition("#")[::2])]

    assert not broken


def _leads_somewhere(document: Path, path: str, anchor: str) -> bool:
    target = document.parent / path if path else document
    if not anchor:
        return target.exists()
    return anchor in map(slug, re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE))


def test_every_setting_in_a_document_exists() -> None:
    """A setting named in a document, as in `server.max_body`, is one of the example configuration, which has all."""
    example = tomllib.loads((ROOT / "deploy" / "partyline.example.toml").read_text())
    sections = ("server", "redis", "spool", "retention", "correlation")
    known = {f"{section}.{key}" for section in sections for key in example[section]}
    spans = [span for document in DOCUMENTS for span in code_spans(document)]

    named = {match[0] for span in spans if (match := re.match(rf"({'|'.join(sections)})\.(?!py\b)[a-z_]+", span))}

    assert named - known == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_webhook_path_in_a_document_is_of_a_provider(document: Path) -> None:
    """A path under /webhooks that is no template begins with a provider's name."""
    named = set(re.findall(r"/webhooks/([a-z]+)/", document.read_text()))

    assert named - set(PROVIDERS) == set()


def test_every_provider_has_a_set_up_page() -> None:
    """Each provider has a page under deploy/providers, and each page a provider."""
    assert set(PROVIDERS) == {page.stem for page in SETUP_PAGES}


def test_every_reader_of_bodies_in_a_document_exists() -> None:
    """What the page on adding a provider says about `node.…` is what Node offers, all of it but flags about itself."""
    page = ROOT / "receiver" / "providers" / "README.md"
    offered = {name for name in vars(Node) if not name.startswith("_")} - {"value", "path", "is_object"}

    assert offered == {span.removeprefix("node.") for span in code_spans(page) if re.fullmatch(r"node\.\w+", span)}


# --- tables of the README ---------------------------------------------------------------------------------


async def test_the_routes_in_the_readme_are_those_of_the_application(redis: Redis) -> None:
    """The table of routes is complete, and invents none."""
    app = make_app(Settings(), PROVIDERS, redis)
    assert isinstance(app, Front)
    assert isinstance(app._others, Starlette)
    others = {route.path for route in app._others.routes if isinstance(route, Route)}

    assert {*CALLBACK_PATHS, *others} == {path for (path,) in first_cells(README, r"`(/[^`]+)`")}


def test_the_refusals_in_the_readme_are_those_of_the_receiver() -> None:
    """The table of refusals has every reason that some route can be answered with, and every error has one."""
    described = {refusal for operation in OPERATIONS for refusal in operation.refusals}
    deferred = {Refusal(503, error.reason) for error in _leaves(AuthenticationError)}
    errors = {Refusal(error.status, error.reason) for error in (*_leaves(CallbackError), *_leaves(AuthenticationError))}

    assert errors - described == set()
    assert described - deferred - {UNFORESEEN} == {
        (int(status), reason) for status, reason in first_cells(README, r"(\d{3}) \| `([a-z_]+)`")
    }


def _leaves(error: type[CallbackError]) -> list[type[CallbackError]]:
    return [child for child in error.__subclasses__() if not child.__subclasses__()]


def test_the_metrics_in_the_documents_are_those_that_exist() -> None:
    """The README's table has every metric under the name that Prometheus sees; no document names another."""
    described = [metric.describe() for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    families = [family for each in described for family in each]
    exposed = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    spans = {span for document in DOCUMENTS for span in code_spans(document)}

    assert exposed == {name for (name,) in first_cells(README, r"`(partyline_[a-z_]+)`")}
    assert {span for span in spans if re.fullmatch(r"partyline_[a-z_]+", span)} - exposed == set()


def test_the_types_in_the_readme_are_those_of_events() -> None:
    """The table of types has every type there is, with the members that its data has."""
    rows = re.findall(r"^\| `([a-z.]+)` \| [^|]+ \| ([^|]+) \|$", prose(README), re.MULTILINE)
    shown = {name: tuple(re.findall(r"`(\w+)`", members)) for name, members in rows}

    assert {body.__struct_config__.tag: body.__struct_fields__ for body in get_args(EventBody)} == shown


def test_the_states_in_the_readme_are_in_their_order() -> None:
    """The order of states that the README gives is the one that counts."""
    assert " < ".join(STATES) in code_spans(README)


def test_the_keys_in_the_readme_are_those_of_the_contract() -> None:
    """The keys and channels that subscribers are told of are those that are written."""
    keys = Keyspace("ns")

    assert {keys.events, keys.channel("<type>", "<subject>"), keys.captures, keys.dead, keys.quarantine} == {
        name for (name,) in first_cells(README, r"`(partyline:[^`]+)`")
    }


# --- configurations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [README, *SETUP_PAGES], ids=name_of)
def test_a_configuration_in_a_document_is_accepted(document: Path, tmp_path: Path) -> None:
    """Every TOML block is a configuration without a mistake, given the variables that it refers to."""
    configurations = [tomllib.loads(block) for block in blocks(document, "toml")]

    accounts = [set(parse(configuration, ENVIRONMENT, tmp_path).accounts) for configuration in configurations]

    assert [set(configuration["accounts"]) for configuration in configurations] == accounts
    assert accounts


def test_a_configuration_on_a_set_up_page_gives_nothing_to_worry_about(tmp_path: Path) -> None:
    """What the set-up pages recommend for an account draws no warning from `partyline check`."""
    configurations = [tomllib.loads(block) for page in SETUP_PAGES for block in blocks(page, "toml")]
    rows = [row for each in configurations for row in explain(parse(each, ENVIRONMENT, tmp_path))]

    assert not [row for row in rows if row.level == "warning"]


def test_the_readme_shows_what_check_says_of_its_configuration(tmp_path: Path) -> None:
    """The rows shown under `partyline check` are said of the configuration above them, and there is no warning."""
    (configuration,) = blocks(README, "toml")
    rows = explain(parse(tomllib.loads(configuration), ENVIRONMENT, tmp_path))
    (shown,) = [block for block in blocks(README, "text") if "no mistakes" in block]

    lines = [tuple(re.split(" {2,}", line, maxsplit=2)) for line in shown.splitlines() if line.startswith("ok ")]

    assert set(lines) - {(row.level, row.path, row.sentence) for row in rows} == set()
    assert not [row for row in rows if row.level == "warning"]
    assert "0 warning(s)" in shown


# --- subscribing ------------------------------------------------------------------------------------------


async def publish(redis: Redis, keyspace: Keyspace, tag: str) -> None:
    """Commit Telnyx' sample conversation as a pipeline would."""
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    entries = []
    for number, body in enumerate(SAMPLES["telnyx"](now, tag)):
        capture = Capture(
            id=CaptureId(f"cp_{tag}{number}"),
            kind="callback",
            provider="telnyx",
            account="main-telnyx",
            received_at=now,
            assurance="signed",
            headers=(),
            body=body,
            facts=AccountFacts(lines=(LINE,)),
        )
        entries.append(Entry(f"{tag}-{number}", capture, tuple(PROVIDERS["telnyx"].parse(capture))))
    await claim_namespace(redis, keyspace, Settings(id_key=SecretBytes(b"documents")))
    lease = Lease(redis, keyspace, 10.0)
    assert await lease.take()
    store = Store(redis, keyspace, b"documents", 3600)
    await store.commit(lease.token, await store.cursor(), entries)
    await lease.give_up()


async def stream(redis: Redis, keyspace: Keyspace) -> list[tuple[str, Any]]:
    """The event stream: entry ids and envelopes."""
    entries: Any = await redis.xrange(keyspace.events)
    return [(entry_id.decode(), orjson.loads(fields[b"event"])) for entry_id, fields in entries]


def program_with(word: str, folder: Path) -> Path:
    """The README's Python program that has a word in it, as it is written there."""
    [source] = [block for block in blocks(README, "python") if word in block]
    file = folder / "inbox.py"
    file.write_text(source)
    return file


@pytest.fixture
def python_subscriber(tmp_path: Path) -> Path:
    """The README's subscriber without the library."""
    return program_with("import redis", tmp_path)


async def test_the_subscriber_with_redis_alone_works_as_written(
    python_subscriber: Path, redis: Redis, redis_url: str, namespace: str, keyspace: Keyspace
) -> None:
    """It handles every event of the stream, in order, and after a restart goes on where it was."""
    environment = {**os.environ, "PARTYLINE_NAMESPACE": namespace, "PARTYLINE_REDIS__URL": redis_url}
    command = (sys.executable, str(python_subscriber))
    await publish(redis, keyspace, "1")
    before = await _follow(command, environment, redis, keyspace)
    await publish(redis, keyspace, "2")
    after = await _follow(command, environment, redis, keyspace)

    events = [event for _, event in await stream(redis, keyspace)]
    lines = [f"{event['sequence']} {event['type']} {event['subject']} {event['id']}" for event in events]

    assert lines[:4] == before
    assert lines[4:] == after


async def _follow(command: Sequence[str], environment: dict[str, str], redis: Redis, keyspace: Keyspace) -> list[str]:
    """Run a subscriber until its bookmark is at the end of the stream, and return what it printed."""
    last = (await stream(redis, keyspace))[-1][0].encode()
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(SNIPPET_SECONDS):
            while await redis.get(f"inbox:{keyspace.namespace}:position") != last:
                assert process.returncode is None
                await asyncio.sleep(0.02)
    finally:
        if process.returncode is None:
            process.terminate()
        printed, _ = await process.communicate()
    return printed.decode().splitlines()


async def test_the_loop_over_a_subscription_works_as_written(
    redis: Redis, redis_url: str, namespace: str, keyspace: Keyspace, tmp_path: Path
) -> None:
    """It gets every event, each conversation in its order, and after a restart goes on where it was."""
    program = program_with("async for event in subscription", tmp_path)
    await publish(redis, keyspace, "1")
    before = await _subscribe(program, redis_url, namespace, "crm")
    await publish(redis, keyspace, "2")
    after = await _subscribe(program, redis_url, namespace, "crm")
    events = [event for _, event in await stream(redis, keyspace)]
    lines = [f"{event['sequence'].lstrip('0')} {event['type']} {event['subject']} {event['id']}" for event in events]

    assert (sorted(before), sorted(after)) == (sorted(lines[:4]), sorted(lines[4:]))
    assert [line for line in before + after if line.split()[2] == events[0]["subject"]] == [
        line for line in lines if line.split()[2] == events[0]["subject"]
    ]


async def test_the_handler_of_a_subscription_works_as_written(
    redis: Redis, redis_url: str, namespace: str, keyspace: Keyspace, tmp_path: Path
) -> None:
    """It prints messages and reports, and ends in order when it is told to."""
    program = program_with("subscription.run(handle", tmp_path)
    await publish(redis, keyspace, "1")
    printed = await _subscribe(program, redis_url, namespace, "inbox")
    events = [event for _, event in await stream(redis, keyspace)]
    texts = [event["data"]["message"]["text"] for event in events if event["type"] == "message.received"]

    assert texts
    assert [text for text in texts if not any(line.endswith(text) for line in printed)] == []
    assert len(printed) == sum(event["type"] in {"message.received", "message.status"} for event in events)


async def _subscribe(program: Path, redis_url: str, namespace: str, group: str) -> list[str]:
    """Run a subscriber until its group is level with the stream, and return what it printed."""
    known = {"PARTYLINE_NAMESPACE": namespace, "PARTYLINE_REDIS__URL": redis_url, "PYTHONPATH": str(ROOT)}
    subscription = Subscription(redis_url, namespace=namespace, group=group, partitions=1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), env={**os.environ, **known}, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SNIPPET_SECONDS):
            while await subscription.lag() != Lag(0.0, None):
                assert process.returncode is None
                await asyncio.sleep(0.05)
    finally:
        if process.returncode is None:
            process.terminate()
        printed, _ = await process.communicate()
    return printed.decode().splitlines()


# --- registering ------------------------------------------------------------------------------------------


async def test_the_python_client_works_as_written(
    redis_url: str, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The README's program registers a send with a running receiver, and prints its conversation."""
    program = program_with("receiver.client", tmp_path)
    (tmp_path / "response.json").write_bytes(b'{"id": "m1", "to": ["+15555550111"]}')
    async with running_api(keyspace.namespace, redis_url, monkeypatch) as receiver:
        reached = {"PARTYLINE_URL": str(receiver.base_url), "PARTYLINE_API_TOKEN": TOKENS[0]}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            program.name,
            cwd=tmp_path,
            env={**os.environ, **reached, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(SNIPPET_SECONDS):
            printed, _ = await process.communicate()

    assert re.fullmatch(r"\+15555550111 cv_[a-z2-7]{26}\n", printed.decode())


@pytest.mark.parametrize(("document", "words"), [*command_lines("redis-cli")], ids=name_of)
async def test_a_redis_command_in_a_document_exists(document: Path, words: list[str], redis: Redis) -> None:
    """Every redis-cli line runs a command of Redis on a key or channel of ours; those that do not wait are run."""
    client: Any = redis
    command, *arguments = words[2:] if words[0] == "-s" else words

    keys = [word for word in arguments if word.startswith("partyline")]

    assert await client.execute_command("COMMAND INFO", command) != [None], document
    assert all(re.match(r"partyline:\{(default|tryout)\}:(events|dead|quarantine)\b", key) for key in keys)
    if command != "PSUBSCRIBE" and "BLOCK" not in arguments:
        await client.execute_command(command, *arguments)


async def test_the_event_in_the_readme_looks_like_a_real_one(redis: Redis, keyspace: Keyspace) -> None:
    """The README's event has the members of one that was really published, in that order."""
    await publish(redis, keyspace, "1")
    _, real = (await stream(redis, keyspace))[0]
    shown, _ = blocks(README, "json")

    assert _shape(real) == _shape(orjson.loads(shown))


def test_the_rollup_in_the_readme_has_every_member() -> None:
    """The README's roll-up has the members of a real one, in that order, and its numbers add up."""
    _, shown = blocks(README, "json")
    rollup = orjson.loads(shown)

    assert list(rollup) == list(Rollup().show())
    assert sum(rollup[state] for state in STATES) == rollup["recipients"]


def _shape(value: Any, path: str = "") -> list[str]:
    """The paths of all members, in order; leaving out which ids a provider happens to send."""
    if not isinstance(value, dict) or path.endswith(".ids"):
        return [path]
    return [deeper for key, item in value.items() for deeper in _shape(item, f"{path}.{key}")]
