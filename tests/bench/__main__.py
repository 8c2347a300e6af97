"""`make bench`: partyline as shipped against the floor, in one run, in turn. Only the ratios mean anything.

The floor is bare Starlette on the same uvicorn that verifies the signature and answers 204. partyline runs as shipped:
fsync always, one worker, its pipeline working. The machine is shared and noisy, hence several rounds in turn.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes, token_hex
from statistics import median

import httpx
import orjson
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from correlator.redis_client import connect
from receiver.embedded import EmbeddedRedis
from receiver.samples import SAMPLES
from receiver.schemes import Ed25519, HubSignature
from schemas.keyspace import Keyspace
from tests.bench.load import Result, request, run

NAMESPACE = "bench"
TARGETS = {"telnyx": 0.6, "whatsapp": 0.3}
LAG_TARGET_SECONDS = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")

CONFIG = """\
namespace = "bench"
id_key = "bench"
[server]
port = {port}
[redis]
url = "{redis}"
[accounts.bench-telnyx]
provider = "telnyx"
public_keys = ["{public}"]
lines = ["+15555550100"]
[accounts.bench-whatsapp]
provider = "whatsapp"
app_secrets = ["{secret}"]
"""


class Keys:
    """The credentials of one run."""

    def __init__(self) -> None:
        seed = token_bytes(32)
        self.seed = b64encode(seed).decode()
        self.public = b64encode(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()).decode()
        self.secret = token_hex(16)


def telnyx_requests(keys: Keys, count: int) -> list[bytes]:
    """Group messages and reports, signed, no two alike."""
    now = datetime.now(UTC)
    bodies = [body for _ in range(-(-count // 4)) for body in SAMPLES["telnyx"](now, token_hex(6))][:count]
    sign = Ed25519().sign
    return [request("/webhooks/telnyx/bench-telnyx", sign(body, keys.seed, now), body) for body in bodies]


def whatsapp_requests(keys: Keys, count: int) -> list[bytes]:
    """Group messages, one a request, signed, no two alike."""
    now = datetime.now(UTC)
    bodies = [one_whatsapp_message(now, f"{token_hex(6)}") for _ in range(count)]
    sign = HubSignature().sign
    return [request("/webhooks/whatsapp/bench-whatsapp", sign(body, keys.secret), body) for body in bodies]


def one_whatsapp_message(now: datetime, tag: str) -> bytes:
    """The sample's second request with one message only, in one of a few groups."""
    body = orjson.loads(SAMPLES["whatsapp"](now, tag)[1])
    value = body["entry"][0]["changes"][0]["value"]
    del body["entry"][0]["changes"][1:], value["messages"][1:]
    value["messages"][0]["group_id"] = f"group-{int(tag[:2], 16)}"
    return orjson.dumps(body)


MAKERS: dict[str, Callable[[Keys, int], list[bytes]]] = {"telnyx": telnyx_requests, "whatsapp": whatsapp_requests}


def cpu_seconds(pid: int) -> float:
    """User and system time of one process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def children(pid: int) -> dict[str, int]:
    """The service's processes by what they do."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        found[command[3].decode()] = int(child)
    return found


class Round:
    """What one round against one side showed."""

    def __init__(self, result: Result, cpu: dict[str, float], lag: float) -> None:
        self.rate = result.rate
        self.p50, self.p99 = result.percentile(0.5), result.percentile(0.99)
        self.cpu = {name: seconds / len(result.latencies) * 1e6 for name, seconds in cpu.items()}
        self.lag = lag


async def play(port: int, pids: dict[str, int], requests: list[bytes], connections: int, redis: Redis | None) -> Round:
    """One round: the load, the processor time it cost, and how far the pipeline is behind when it ends."""
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    result = await run(port, requests, connections)
    good = result.statuses[b"200"] + result.statuses[b"204"]
    assert good == len(requests), f"not all were taken: {result.statuses}"
    lag = await worked_off(redis) if redis is not None else 0.0
    return Round(result, {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}, lag)


async def worked_off(redis: Redis) -> float:
    """Seconds until the last capture is committed."""
    keys = Keyspace(NAMESPACE)
    began = time.perf_counter()
    last = (await redis.xrevrange(keys.captures, count=1) or [])[0][0]
    while await redis.get(keys.cursor) != last:
        await asyncio.sleep(0.005)
        assert time.perf_counter() - began < 60, "the pipeline does not keep up"
    return time.perf_counter() - began


def free_port() -> int:
    """A port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_up(port: int, path: str) -> None:
    """Wait until something answers there."""
    async with httpx.AsyncClient() as client:
        for _ in range(400):
            try:
                if (await client.get(f"http://127.0.0.1:{port}{path}")).status_code < 500:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
    raise TimeoutError(path)


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, list[Round]]]:
    """All rounds, by provider and side."""
    keys = Keys()
    ports = {"floor": free_port(), "partyline": free_port()}
    with tempfile.TemporaryDirectory(prefix="partyline-bench-") as folder, EmbeddedRedis(Path(folder)) as embedded:
        config = Path(folder) / "bench.toml"
        config.write_text(
            CONFIG.format(port=ports["partyline"], redis=embedded.url, public=keys.public, secret=keys.secret)
        )
        floor = [sys.executable, "-m", "tests.bench.floor", str(ports["floor"])]
        floor += [f"telnyx={keys.public}", f"whatsapp={keys.secret}"]
        service = [sys.executable, "-c", "from receiver.cli import main; main()", "serve", "--config", str(config)]
        with (
            (Path(folder) / "log").open("wb") as log,
            subprocess.Popen(floor) as floor_process,
            subprocess.Popen(service, stderr=log) as service_process,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            try:
                return runner.run(against(arguments, keys, ports, (floor_process.pid, service_process.pid), embedded))
            finally:
                floor_process.terminate()
                service_process.terminate()


async def against(
    arguments: argparse.Namespace, keys: Keys, ports: dict[str, int], ours: tuple[int, int], embedded: EmbeddedRedis
) -> dict[str, dict[str, list[Round]]]:
    """Wait for both sides, and play against them; `ours` are the process ids of floor and service."""
    await asyncio.gather(until_up(ports["floor"], "/"), until_up(ports["partyline"], "/readyz"))
    floor, service = ours
    assert embedded.pid is not None
    pids = {"floor": {"http": floor}, "partyline": {**children(service), "redis": embedded.pid}}
    redis = connect(embedded.url, 10.0)
    try:
        return await alternate(arguments, keys, ports, pids, redis)
    finally:
        await redis.aclose()


async def alternate(
    arguments: argparse.Namespace, keys: Keys, ports: dict[str, int], pids: dict[str, dict[str, int]], redis: Redis
) -> dict[str, dict[str, list[Round]]]:
    """Floor and partyline in turn, for each provider; the first round of each warms up and does not count."""
    rounds: dict[str, dict[str, list[Round]]] = {name: {"floor": [], "partyline": []} for name in MAKERS}
    for provider, make in MAKERS.items():
        for number in range(arguments.rounds + 1):
            for side in ("floor", "partyline"):
                requests = make(keys, arguments.requests if number else arguments.requests // 5)
                behind = redis if side == "partyline" else None
                found = await play(ports[side], pids[side], requests, arguments.connections, behind)
                if number:
                    rounds[provider][side].append(found)
    return rounds


def report(rounds: dict[str, dict[str, list[Round]]]) -> None:
    """The table, and the ratios with their targets."""
    console = Console(width=110)
    table = Table(title="partyline as shipped (fsync always, one worker, pipeline running) against the floor")
    for column in ("provider", "side", "callbacks/s", "CPU µs per callback", "p50 ms", "p99 ms", "lag at end s"):
        table.add_column(column, justify="left" if column in ("provider", "side", "CPU µs per callback") else "right")
    for provider, sides in rounds.items():
        for side, found in sides.items():
            cpu = {name: median(item.cpu[name] for item in found) for name in found[0].cpu}
            spent = " + ".join(f"{name} {value:.0f}" for name, value in sorted(cpu.items()))
            table.add_row(
                provider,
                side,
                f"{median(item.rate for item in found):,.0f}",
                spent if len(cpu) == 1 else f"{spent} = {sum(cpu.values()):.0f}",
                f"{median(item.p50 for item in found):.1f}",
                f"{median(item.p99 for item in found):.1f}",
                f"{max(item.lag for item in found):.2f}",
            )
    console.print(table)
    for provider, sides in rounds.items():
        pairs = zip(sides["partyline"], sides["floor"], strict=True)
        ratios = [ours.rate / floor.rate for ours, floor in pairs]
        lag = max(item.lag for item in sides["partyline"])
        console.print(
            f"{provider}: {median(ratios):.2f} of the floor (rounds: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; "
            f"target {TARGETS[provider]}), lag {lag:.2f} s (target {LAG_TARGET_SECONDS:g})"
        )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=8000, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    # Fewer, and it is the latency of one fsync a flush that is measured instead of the work.
    parser.add_argument("--connections", type=int, default=128)
    arguments = parser.parse_args()
    report(measure(arguments))


if __name__ == "__main__":
    main()
