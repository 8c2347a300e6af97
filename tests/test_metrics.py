"""What a running service says of itself: one sum of all its processes, whichever of them is asked."""

import asyncio
import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.processes import Kin, Service, service, until
from tests.traffic import ANN, report, telnyx

_ASKED = 8  # often enough for both workers to be asked


async def told(client: httpx.AsyncClient) -> list[dict[str, float]]:
    """Every series as it is told over several connections, so that each process is asked."""
    pages = [(await client.get("/metrics", headers={"connection": "close"})).text for _ in range(_ASKED)]
    return [
        {name: float(value) for name, value in re.findall(r"^(partyline_\S+) (\S+)$", page, re.MULTILINE)}
        for page in pages
    ]


@pytest.mark.slow
async def test_whichever_process_is_asked_tells_of_all_of_them(folder: Path, redis_url: str, namespace: str) -> None:
    """Counts are those of both workers and the pipeline, and stay when a worker dies."""
    server = {"port": 0, "workers": 2}
    async with service(folder, namespace, redis={"url": redis_url}, server=server) as running:
        bodies = [telnyx(f"{number}") for number in range(20)]
        bodies += [telnyx("0", attempt=2)]
        bodies += [report(name, ANN, message="sent-elsewhere", others=()) for name in ("first", "second")]
        await asyncio.gather(*(_post(running, body) for body in bodies))
        assert (await running.client.post("/webhooks/telnyx/nobody", content=b"{}")).status_code == 404
        await running.settled()
        before = await told(running.client)
        await _kill_a_worker(running)
        after = await told(running.client)

    account = 'account="main-telnyx",provider="telnyx"'
    for series in (*before, *after):
        assert series['partyline_callbacks_total{account="main-telnyx",outcome="captured",provider="telnyx"}'] == 23
        assert series['partyline_callbacks_total{account="unknown",outcome="unknown_account",provider="unknown"}'] == 1
        assert (
            series[
                'partyline_credential_matches_total{account="main-telnyx",credential="public_keys[0]",provider="telnyx"}'
            ]
            == 23
        )
        assert series['partyline_events_total{account="main-telnyx",provider="telnyx",type="message.received"}'] == 20
        assert series['partyline_events_total{account="main-telnyx",provider="telnyx",type="message.status"}'] == 2
        assert series[f"partyline_duplicates_total{{{account}}}"] == 1
        assert series[f"partyline_provisional_conversations_total{{{account}}}"] == 1
        assert series["partyline_flush_captures_sum"] == series["partyline_batch_captures_sum"] == 23
        assert series["partyline_capture_seconds_count"] == series["partyline_flush_captures_count"]
        assert series["partyline_publish_seconds_count"] == series["partyline_batch_captures_count"]
        assert 0 < series["partyline_capture_seconds_sum"] < 23
        assert 0 < series["partyline_publish_seconds_sum"] < 23
        assert series['partyline_answer_seconds_count{provider="telnyx"}'] == 23


async def _post(running: Service, body: bytes) -> None:
    async with httpx.AsyncClient(base_url=running.client.base_url) as client:
        alone = Service(running.process, client, running.space)
        assert (await alone.post("telnyx", body)).status_code == 200


async def _kill_a_worker(running: Service) -> None:
    """Kill one, and wait until another has taken its place."""
    [killed, _] = _workers(running)
    killed.signal(signal.SIGKILL)
    await until(lambda: not killed.alive, "it is dead")
    await until(lambda: len(_workers(running)) == 2, "there are two again")


def _workers(running: Service) -> list[Kin]:
    return [kin for kin in running.process.family() if "-m receiver http" in kin.command]
