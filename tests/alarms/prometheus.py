"""A real Prometheus: which rules it evaluates, whom it scrapes, and what it says."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml

from tests.farm import free_port
from tests.processes import client_of, started, until
from tests.programs import program

#: What every alert has, and says nothing of what happened.
_COMMON = {"alertname", "alertstate", "job", "severity"}


class Jobs(msgspec.Struct, frozen=True):
    """What is scraped: for each job its receivers, as name → port; and how often."""

    jobs: Mapping[str, Mapping[str, int]]
    scrape_seconds: float
    #: Jobs that are asked less often.
    slow: Mapping[str, float] = {}


class Standing(msgspec.Struct, frozen=True):
    """An alert that stands."""

    job: str
    #: As in `PartylineDown{instance="one"}`.
    name: str
    labels: Mapping[str, str]
    summary: str


class Prometheus:
    """A running one."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, path: str, **parameters: Any) -> Any:
        """What its API says."""
        answer = await self._client.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def standing(self) -> list[Standing]:
        """Every alert that fires."""
        alerts = (await self.ask("alerts"))["alerts"]
        return [
            Standing(
                each["labels"].get("job", ""), named(each["labels"]), each["labels"], each["annotations"]["summary"]
            )
            for each in alerts
            if each["state"] == "firing"
        ]

    async def scraped(self) -> int:
        """How many receivers have answered the last time."""
        targets = (await self.ask("targets"))["activeTargets"]
        return sum(target["health"] == "up" for target in targets)

    async def since(self, began: float, ended: float, step: float) -> dict[tuple[str, str], float]:
        """Every alert that fired between two times, as (job, name) → when it was first seen to."""
        parameters = {"query": 'ALERTS{alertstate="firing"}', "start": began, "end": ended, "step": step}
        series = (await self.ask("query_range", **parameters))["result"]
        return {(each["metric"].get("job", ""), named(each["metric"])): float(each["values"][0][0]) for each in series}


def named(labels: Mapping[str, str]) -> str:
    """An alert with the labels that tell what happened, as in `PartylineDown{instance="one"}`."""
    told = {name: value for name, value in labels.items() if name not in _COMMON and not name.startswith("__")}
    inner = ",".join(f'{name}="{value}"' for name, value in sorted(told.items()))
    return f"{labels['alertname']}{{{inner}}}"


@asynccontextmanager
async def running_prometheus(folder: Path, rules: Mapping[str, Any], jobs: Jobs) -> AsyncIterator[Prometheus]:
    """One with these rules, that scrapes these jobs; once it answers."""
    _write(folder, rules, jobs)
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with started(command, folder, "prometheus") as process:
        async with client_of(f"http://127.0.0.1:{port}") as client:
            await until(lambda: _is_ready(port), "Prometheus is ready")
            process.family()
            yield Prometheus(client)


def _write(folder: Path, rules: Mapping[str, Any], jobs: Jobs) -> None:
    folder.mkdir()
    (folder / "alerts.yaml").write_text(yaml.safe_dump(dict(rules)))
    (folder / "prometheus.yaml").write_text(json.dumps(_configuration(jobs)))  # JSON is YAML


def _configuration(jobs: Jobs) -> dict[str, Any]:
    return {
        "global": {
            "scrape_interval": _duration(jobs.scrape_seconds),
            "scrape_timeout": _duration(min(10.0, jobs.scrape_seconds)),
            "evaluation_interval": _duration(jobs.scrape_seconds),
        },
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [_job(name, receivers, jobs.slow.get(name)) for name, receivers in jobs.jobs.items()],
    }


def _job(name: str, receivers: Mapping[str, int], seconds: float | None) -> dict[str, Any]:
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": instance}} for instance, port in receivers.items()
    ]
    slower = {"scrape_interval": _duration(seconds), "scrape_timeout": _duration(seconds)} if seconds else {}
    return {"job_name": name, "static_configs": targets, **slower}


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
