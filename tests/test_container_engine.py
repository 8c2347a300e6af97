"""The image and the compose file, built and run by a real Docker, as deploy/README.md says.

Only with `CONTAINER_ENGINE=1` (`make test-containers`), since it takes minutes and fetches images; then an engine that
is missing is a failure. A test has ports, a project and volumes of its own, and removes them; the images stay.
"""

import asyncio
import json
import os
import re
import resource
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

import httpx
import pytest

from tests.certificates import certificate
from tests.farm import free_port
from tests.processes import client_of, deliver, drained
from tests.proxies import HOST, client_by_name
from tests.service import SECRETS, public_key
from tests.test_containers import COMPOSE, COPIED, USER
from tests.test_deploy import ROOT
from tests.traffic import BOB, CAT, facts, telnyx, without_gap_or_repeat

pytestmark = pytest.mark.skipif(
    not os.environ.get("CONTAINER_ENGINE"),
    reason="set CONTAINER_ENGINE=1 to build the image and run compose.yaml (needs docker with its compose plugin)",
)
EVENTS = "partyline:{default}:events"


class Stack:
    """What compose.yaml describes, running under a name of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = f"partyline-test-{token_hex(4)}"
        self.https, self.admin = free_port(), free_port()

    def compose(self, *words: str) -> str:
        """Run one command of compose to its end; what it wrote to standard output."""
        files = ("--file", "deploy/compose.yaml", "--file", "override.yaml")
        return self._docker("compose", "--project-name", self.project, *files, *words)

    def _docker(self, *words: str) -> str:
        ended = subprocess.run(
            ["docker", *words], cwd=self.root, capture_output=True, text=True, timeout=1500, check=False
        )
        assert ended.returncode == 0, f"docker {' '.join(words)}: {ended.stderr[-3000:]}"
        return ended.stdout

    def up(self) -> None:
        """Start it, and wait until everything that has a health check is healthy."""
        self.compose("up", "--detach", "--build", "--wait")

    def events(self) -> list[dict[str, object]]:
        """The stream, as the user `subscriber` reads it from a container in the network `back`."""
        url = (self.root / "deploy/secrets/subscriber_url").read_text().strip()
        redis = COMPOSE["services"]["redis"]["image"]
        ask = ("redis-cli", "-u", url, "--no-auth-warning", "--raw", "XRANGE", EVENTS, "-", "+")
        said = self._docker("run", "--rm", "--network", f"{self.project}_back", redis, *ask)
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    async def published(self, *names: str) -> list[dict[str, object]]:
        """The stream, once these facts are in it."""
        async with asyncio.timeout(60):
            while not set(names) <= set(facts(found := self.events())):  # noqa: ASYNC110 - the end is in Redis
                await asyncio.sleep(1)
        return found

    @asynccontextmanager
    async def provider(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client outside, that reaches the proxy over TLS by its name."""
        trust = ssl.create_default_context(cafile=self.root / "proxy.pem")
        async with client_by_name(f"https://127.0.0.1:{self.https}", trust) as client:
            yield client


def _override(stack: Stack) -> str:
    """Ports of the test's own, a certificate, and no more open files than an engine in a cage can give."""
    files = min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return f"""
services:
  receiver:
    ports: !override ["127.0.0.1:{stack.admin}:8081"]
    ulimits: {{nofile: {{soft: {files}, hard: {files}}}}}
  proxy:
    ports: !override ["127.0.0.1:{stack.https}:443"]
    volumes: ["{stack.root}/proxy.pem:/proxy.pem:ro", "{stack.root}/proxy.key:/proxy.key:ro"]
"""


def _checkout(root: Path) -> None:
    """What the image is made of and deploy/, with our certificate in the Caddyfile instead of one from outside."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "deploy", root / "deploy", ignore=shutil.ignore_patterns("secrets", ".env", "node_modules"))
    for path in certificate(root, "proxy", HOST):
        path.chmod(0o644)
    caddyfile = root / "deploy/Caddyfile"
    text = caddyfile.read_text()
    assert text.count(f"\n{HOST} {{\n") == 1
    caddyfile.write_text(text.replace(f"\n{HOST} {{\n", f"\n{HOST} {{\n\ttls /proxy.pem /proxy.key\n"))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """All of it, started as the page says: secrets, the provider's key, up."""
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], check=False).returncode:
        pytest.fail("there is no docker with its compose plugin")
    _checkout(tmp_path)
    subprocess.run(["sh", "deploy/secrets.sh", HOST], cwd=tmp_path, check=True, timeout=20)
    (tmp_path / "deploy/secrets/telnyx_public_key").write_text(public_key(SECRETS["telnyx"][0]) + "\n")
    stack = Stack(tmp_path)
    (tmp_path / "override.yaml").write_text(_override(stack))
    try:
        stack.up()
        yield stack
    except BaseException as error:
        error.add_note(stack.compose("logs", "--tail", "30"))
        raise
    finally:
        stack.compose("down", "--volumes", "--timeout", "70")


@pytest.mark.slow
@pytest.mark.timeout(3000)
async def test_callbacks_become_events_through_all_that_compose_runs(stack: Stack) -> None:
    """A signed callback through the proxy is read by a subscriber; also what came while Redis was away, or a kill."""
    async with stack.provider() as outside, client_of(f"http://127.0.0.1:{stack.admin}") as inside:
        unsigned = await outside.post("/webhooks/telnyx/main-telnyx", content=b"{}")
        hidden = [(await outside.get(path)).status_code for path in ("/readyz", "/metrics", "/v1/conversations")]
        metrics = (await inside.get("/metrics")).text
        answered = [(await deliver(outside, "telnyx", telnyx("one", others=(BOB, CAT)))).status_code]
        await stack.published("one")
        stack.compose("stop", "redis")
        answered.append((await deliver(outside, "telnyx", telnyx("away", others=(BOB, CAT)))).status_code)
        stack.compose("start", "redis")
        await drained(inside, 60)
        await stack.published("one", "away")
        stack.compose("kill", "receiver")
        stack.up()
    stack.compose("down")
    stack.up()
    async with stack.provider() as outside:
        answered.append((await deliver(outside, "telnyx", telnyx("two", others=(BOB, CAT)))).status_code)
    events = await stack.published("one", "away", "two")

    assert (unsigned.status_code, hidden) == (401, [404] * 3)
    assert "partyline_ready 1.0" in metrics
    assert answered == [200] * 3
    assert facts(events) == {"one": 1, "away": 1, "two": 1}
    assert without_gap_or_repeat(events)
    assert len({event["subject"] for event in events}) == 1


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_receiver_runs_without_rights_and_ends_in_order(stack: Stack) -> None:
    """Its user is nobody's, it has no capability, cannot write to its root; it ends with 0 within its time."""
    status = stack.compose("exec", "-T", "receiver", "cat", "/proc/1/status")
    refused = stack.compose("exec", "-T", "receiver", "sh", "-c", "touch /opt/x 2>&1 || true")
    held = stack.compose(
        "exec", "-T", "receiver", "sh", "-c", "ls -d /src /tools /wheels /opt/partyline/bin/pip 2>&1; true"
    )
    stack.compose("stop", "--timeout", "50", "receiver")
    ended = json.loads(stack.compose("ps", "--all", "--format", "json", "receiver"))

    assert re.findall(r"^[UG]id:\t(.+)$", status, re.MULTILINE) == ["\t".join([str(USER)] * 4)] * 2
    assert re.findall(r"^CapBnd:\t(\d+)$", status, re.MULTILINE) == ["0" * 16]
    assert "Read-only file system" in refused
    assert held.count("No such file or directory") == 4
    assert ended["ExitCode"] == 0
