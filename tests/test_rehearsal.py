"""The production path of `deploy/README.md` (systemd), followed to the letter on a fresh Debian, and what comes of it.

Real systemd, nginx with TLS, Redis, the hardened unit; the provider is outside, the subscriber inside. It takes root,
debootstrap, systemd-nspawn, Debian's packages and some five minutes: `make rehearsal`.
"""

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from receiver.schemes import Ed25519, Signed
from tests.machine import ADDRESS, OUTSIDE, Machine, booted, fresh_machine, install, missing
from tests.proxies import DEPLOY, client_by_name
from tests.test_documents import ROOT, fenced
from tests.traffic import facts, post_facts, telnyx, without_gap_or_repeat

_TRY = Path("var/lib/partyline/try")
#: How often the service is restarted under load, and how many post meanwhile.
RESTARTS, PROVIDERS = 6, 8
#: What a provider waits for at least (Telnyx says 2 s, and sends again).
PATIENCE_SECONDS = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not os.environ.get("REHEARSAL"), reason="some five minutes, as root: make rehearsal"),
]


def steps() -> list[str]:
    """The shell blocks of the section on systemd, in their order."""
    section = re.search(r"^## systemd\n.*?(?=^## )", (DEPLOY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None
    return fenced(section[0], "sh")


class Rehearsal:
    """The machine on which the path is followed."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._folder = root, folder
        self._boots = 0
        self._power = AsyncExitStack()
        self.machine: Machine

    async def boot(self) -> None:
        """Give it power."""
        self._boots += 1
        self.machine = await self._power.enter_async_context(booted(self._root, self._folder, f"boot-{self._boots}"))

    async def cut_power(self) -> None:
        """Everything on it is killed at once."""
        await self._power.aclose()

    @property
    def trust(self) -> ssl.SSLContext:
        """The certificate of its proxy."""
        return ssl.create_default_context(cafile=self._root / _TRY / "proxy.pem")

    @property
    def sign(self) -> Callable[[bytes], Signed]:
        """How its provider signs."""
        seed = (self._root / _TRY / "main-telnyx-public_keys-private").read_text().strip()
        return lambda body: Ed25519().sign(body, seed, datetime.now(UTC))

    def events(self) -> list[dict[str, Any]]:
        """What a subscriber on it gets, from the beginning."""
        said = self.machine.run("partyline tail --since 1d --no-follow --json")
        return [json.loads(line) for line in said.splitlines()]

    async def worked_off(self) -> None:
        """Wait until nothing waits: neither in the spool, nor captured and not yet published."""
        nothing = "{ partyline %s > /tmp/waiting && ! grep -q telnyx /tmp/waiting; }"
        await self.machine.has(" && ".join(nothing % what for what in ("spool ls", "captures ls --outcome waiting")))


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """A machine with nothing but a checkout of this tree in root's folder."""
    if (why := missing()) is not None:
        pytest.fail(why)
    with fresh_machine() as root:
        target = root / "root/partyline"
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
        yield root


@pytest.fixture(scope="module")
async def rehearsal(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rehearsal]:
    """The path followed: the first step takes the network, all others the machine itself."""
    program, *others = steps()
    install(checkout, f"cd /root/partyline\n{program}")
    running = Rehearsal(checkout, tmp_path_factory.mktemp("boots"))
    await running.boot()
    try:
        for step in others:
            print(running.machine.run(f"cd /root/partyline\n{step}"))
        yield running
    finally:
        await running.cut_power()


async def test_the_path_leads_to_events(rehearsal: Rehearsal) -> None:
    """The samples that were posted through the proxy are there, in one conversation; the service is well."""
    events = rehearsal.events()
    ready = json.loads(rehearsal.machine.run("curl -s http://127.0.0.1:8081/readyz"))

    assert [event["type"] for event in events] == ["message.received"] * 2 + ["message.status"] * 2
    assert len({event["subject"] for event in events}) == 1
    assert ready["status"] == "ready"
    assert {part["status"] for part in ready["components"].values()} == {"ok"}
    assert rehearsal.machine.run("systemctl list-units --failed --plain --no-legend") == ""


async def test_a_provider_outside_reaches_it_by_the_proxy_alone(rehearsal: Rehearsal) -> None:
    """A signed callback from another host is captured, an unsigned one is not; no other port answers from there."""
    body = telnyx("from-outside")
    async with client_by_name(f"https://{ADDRESS}", rehearsal.trust, OUTSIDE) as client:
        signed = await client.post("/webhooks/telnyx/main-telnyx", content=body, headers=rehearsal.sign(body))
        unsigned = await client.post("/webhooks/telnyx/main-telnyx", content=body)
        admin = await client.get("/metrics")
    await rehearsal.worked_off()
    found = facts(rehearsal.events())

    assert (signed.status_code, unsigned.status_code, admin.status_code) == (200, 401, 404)
    assert found["from-outside"] == 1
    for port in (6379, 8080, 8081):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(ADDRESS, port)


async def test_a_subscriber_reads_as_the_user_that_was_made_for_it(rehearsal: Rehearsal) -> None:
    """The URL in `deploy/secrets/subscriber_url` opens the stream of events, and nothing else."""
    ask = 'redis-cli -u "$(cat /root/partyline/deploy/secrets/subscriber_url)"'

    told = rehearsal.machine.run(f"{ask} XRANGE 'partyline:{{default}}:events' - + COUNT 1")
    refused = rehearsal.machine.run(f"{ask} XLEN 'partyline:{{default}}:captures' 2>&1 || true")

    assert '"type":"message.received"' in told
    assert "NOPERM" in refused


async def test_restarts_under_load_fail_no_request_and_lose_and_repeat_nothing(rehearsal: Rehearsal) -> None:
    """Providers post through the proxy, on connections that they keep; the service is restarted again and again."""
    answered: list[str] = []
    began = time.monotonic()
    async with client_by_name(f"https://{ADDRESS}", rehearsal.trust, OUTSIDE) as client:
        posting = [post_facts(client, rehearsal.sign, f"restart-{one}", answered) for one in range(PROVIDERS)]
        senders = [asyncio.create_task(each) for each in posting]
        for _ in range(RESTARTS):
            before = len(answered)
            await asyncio.to_thread(rehearsal.machine.run, "systemctl restart partyline.service")
            await asyncio.sleep(1)
            assert len(answered) > before
        seconds = time.monotonic() - began
        for sender in senders:
            sender.cancel()
        ended = await asyncio.gather(*senders, return_exceptions=True)
    await rehearsal.worked_off()
    events = rehearsal.events()
    found = facts(events)
    print(f"{RESTARTS} restarts, {len(answered)} callbacks answered 200 in {seconds:.0f} s")

    assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []
    assert {name: found[name] for name in answered} == dict.fromkeys(answered, 1)
    assert set(found.values()) == {1}
    assert without_gap_or_repeat(events)


async def test_all_of_it_comes_up_again_when_the_power_was_cut(rehearsal: Rehearsal) -> None:
    """In the middle of callbacks: what was answered 200 is published once, with nobody doing anything."""
    answered: list[str] = []
    async with client_by_name(f"https://{ADDRESS}", rehearsal.trust, OUTSIDE) as client:
        sender = asyncio.create_task(post_facts(client, rehearsal.sign, "power", answered))
        await asyncio.sleep(2)
        await rehearsal.cut_power()
        await asyncio.wait([sender], timeout=PATIENCE_SECONDS + 1)
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
    await rehearsal.boot()
    await rehearsal.machine.has("curl -sf http://127.0.0.1:8081/readyz")
    await rehearsal.worked_off()
    events = rehearsal.events()
    found = facts(events)

    assert len(answered) > 10
    assert {name: found[name] for name in answered} == dict.fromkeys(answered, 1)
    assert set(found.values()) == {1}
    assert without_gap_or_repeat(events)
