import asyncio
import os
import re
import shlex
import shutil
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
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
from correlator.redis_client import connect
from correlator.rollup import Rollup
from correlator.store import Store
from correlator.subscribe import Lag, Subscription
from receiver import metrics
from receiver.answers import UNFORESEEN, Refusal
from receiver.app import Front, make_app
from receiver.body import Node
from receiver.cli import app as program
from receiver.embedded import EmbeddedRedis, find_server
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
from tests.npm import install_with_npm
from tests.processes import Process, started

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "deploy/**/*.md", "receiver/**/*.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)
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
    return fenced(document.read_text(), language)


def fenced(text: str, language: str) -> list[str]:
    """The same of a part of a document."""
    return [textwrap.dedent(body) for _, found, body in _FENCED.findall(text) if found == language]


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

    named = {
        match[0] for span in spans if (match := re.match(rf"({'|'.join(sections)})\.(?!(?:py|conf)\b)[a-z_]+", span))
    }

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
    app = make_app(Settings(), PROVIDERS, [redis])
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


def test_every_program_in_the_readme_is_run() -> None:
    """Each Python program is one that a test here runs, and so is the only one in Node."""
    words = ("import redis", "async for event in subscription", "subscription.run(handle", "receiver.client")
    programs = blocks(README, "python")

    assert [sum(word in program for word in words) for program in programs] == [1, 1, 1, 1]
    assert len(blocks(README, "js")) == 1


@pytest.fixture
def python_subscriber(tmp_path: Path) -> Path:
    """The README's subscriber without the library."""
    return program_with("import redis", tmp_path)


async def test_the_subscriber_with_redis_alone_works_as_written(
    python_subscriber: Path, redis: Redis, redis_url: str, namespace: str, keyspace: Keyspace
) -> None:
    """It handles every event of the stream, in order, and after a restart goes on where it was."""
    command = (sys.executable, str(python_subscriber))

    before, after, lines = await _follow_twice(command, redis_url, namespace, redis, keyspace)

    assert lines[:4] == before
    assert lines[4:] == after


@pytest.fixture(scope="module")
def node_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the Node example's lock names; the README's program runs with the same."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "deploy" / "examples" / name, folder)
    install_with_npm(folder)
    return folder


async def test_the_subscriber_in_node_works_as_written(
    node_packages: Path, redis: Redis, redis_url: str, namespace: str, keyspace: Keyspace
) -> None:
    """It handles every event of the stream, in order, and after a restart goes on where it was."""
    [source] = blocks(README, "js")
    (node_packages / "inbox.mjs").write_text(source)

    before, after, lines = await _follow_twice(
        ("node", str(node_packages / "inbox.mjs")), redis_url, namespace, redis, keyspace
    )

    assert re.search(r"^ioredis (\d+)", README.read_text(), re.MULTILINE)[1] == _major(node_packages)  # type: ignore[index]
    assert lines[:4] == before
    assert lines[4:] == after


def _major(folder: Path) -> str:
    installed: str = orjson.loads((folder / "node_modules" / "ioredis" / "package.json").read_bytes())["version"]
    return installed.partition(".")[0]


async def _follow_twice(
    command: Sequence[str], redis_url: str, namespace: str, redis: Redis, keyspace: Keyspace
) -> tuple[list[str], list[str], list[str]]:
    """What a subscriber prints of a first conversation, what after a restart of a second one, and what it should."""
    environment = {**os.environ, "PARTYLINE_NAMESPACE": namespace, "PARTYLINE_REDIS__URL": redis_url}
    await publish(redis, keyspace, "1")
    before = await _follow(command, environment, redis, keyspace)
    await publish(redis, keyspace, "2")
    after = await _follow(command, environment, redis, keyspace)
    events = [event for _, event in await stream(redis, keyspace)]
    return before, after, [f"{event['sequence']} {event['type']} {event['subject']} {event['id']}" for event in events]


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


# --- redis-cli --------------------------------------------------------------------------------------------


def redis_lines() -> list[str]:
    """Every redis-cli line of a document, comments taken off."""
    lines = [line for document in DOCUMENTS for block in blocks(document, "sh") for line in block.splitlines()]
    return [re.sub(r"\s+# .*", "", line) for line in lines if line.startswith("redis-cli ")]


def waits(line: str) -> bool:
    """Whether a redis-cli line waits for what comes."""
    return "PSUBSCRIBE" in line or "BLOCK" in line


class Shell:
    """A shell in a folder where `redis-cli` speaks to a server of the test's, as it does to one at its default port."""

    def __init__(self, folder: Path, redis: Redis, socket: Path) -> None:
        self._folder, self._redis = folder, redis
        client = Path(find_server()).with_name("redis-cli")
        if not client.exists():
            pytest.skip(f"no redis-cli beside {find_server()}")
        for name in ("bin", ".partyline"):
            (folder / name).mkdir()
        shim = folder / "bin" / "redis-cli"
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(str(client))} -s {shlex.quote(str(socket))} "$@"\n')
        shim.chmod(0o700)
        (folder / ".partyline" / "redis.sock").symlink_to(socket)

    def started(self, line: str) -> AbstractContextManager[Process]:
        """A line as it is written, run."""
        path = f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return started(["sh", "-c", line], self._folder, "line", {"PATH": path})

    async def waiting(self, line: str, process: Process) -> None:
        """Wait until it waits: it is subscribed, or its read blocks."""
        if "PSUBSCRIBE" in line:
            await process.says("psubscribe")
            return
        async with asyncio.timeout(SNIPPET_SECONDS):
            while not any("b" in client["flags"] for client in await self._redis.client_list()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Redis, Path, Path]]:
    """A server with the sample conversation in the namespaces that documents name; its client, folder and socket."""
    with tempfile.TemporaryDirectory(prefix="partyline-cli-") as name, EmbeddedRedis(Path(name) / "redis") as embedded:
        redis = connect(embedded.url, 5.0)
        for namespace in ("default", "tryout"):
            await publish(redis, Keyspace(namespace), "1")
        yield redis, Path(name), embedded.socket
        await redis.aclose()


@pytest.mark.parametrize("line", redis_lines())
async def test_a_redis_line_in_a_document_works_as_written(line: str, server: tuple[Redis, Path, Path]) -> None:
    """Every redis-cli line names a key or channels of ours, and shows what is there, or what comes when it waits."""
    redis, folder, socket = server
    shell = Shell(folder, redis, socket)
    [name] = re.findall(r"'(partyline:[^']+)'", line)
    keyspace = Keyspace("tryout" if "tryout" in name else "default")
    kept = [event["id"] for _, event in await stream(redis, keyspace)]

    with shell.started(line) as process:
        if waits(line):
            await shell.waiting(line, process)
            await publish(redis, keyspace, "2")
            came = [event for _, event in await stream(redis, keyspace)][len(kept) :]
            for event in shown_of(came, line, name, keyspace):
                await process.says(re.escape(event["id"]))
        else:
            assert await process.status() == 0

    assert re.match(rf"{re.escape(keyspace.prefix)}:(events|dead|quarantine|sub:inbox:dead)(:|$)", name)
    assert "ERR" not in process.output
    assert process.log == ""
    assert waits(line) or [found for found in kept if found in process.output] == expected_of(kept, line)


def shown_of(came: list[Any], line: str, pattern: str, keyspace: Keyspace) -> list[Any]:
    """Those of the events that come which a line that waits shows: the first, or all on the channels of a pattern."""
    if "PSUBSCRIBE" not in line:
        return came[:1]
    pattern = pattern.replace("{", "[{]")  # as fnmatch would have it; to Redis it is a letter as any
    return [event for event in came if fnmatchcase(keyspace.channel(event["type"], event["subject"]), pattern)]


def expected_of(kept: list[str], line: str) -> list[str]:
    """The ids of those of four events (two messages, two reports) that a line shows which does not wait."""
    if "message.status" in line:
        return kept[2:]
    if ":events'" not in line or "XLEN" in line:
        return []
    count = int(line.partition("COUNT ")[2])
    return kept[-count:] if "XREVRANGE" in line else kept[:count]


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
