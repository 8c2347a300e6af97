"""`partyline doctor`: everything that can be wrong with a set-up, looked at without changing anything."""

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import typer
from rich.markup import escape

from correlator.redis_url import read_url
from receiver.cli.output import run
from receiver.cli.reaching import running_redis
from receiver.cli.terminal import LEVELS, ConfigOption, config_path, out
from receiver.doctor import clocks, configuration, files, forecast, proxy, rights, server, spooling, working
from receiver.doctor.asking import Partition, ask, ask_rights
from receiver.doctor.calling import call, refuse_unless_url
from receiver.doctor.findings import Finding, troubled
from receiver.doctor.looking import look_at_files, look_at_spool
from receiver.settings import Settings, load
from receiver.webhooks import utc_now
from schemas.errors import ConfigError, StoreError
from schemas.keyspace import keyspaces

_LEVELS = {**LEVELS, "mistake": "[bold red]mistake[/]"}
_WIDTH = max(map(len, _LEVELS))
_INDENT = " " * (_WIDTH + 2)


def doctor(
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The public URL before /webhooks/…: probed through the proxy.")
    ] = None,
    *,
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="JSON, one finding a line.")] = False,
) -> None:
    """Look at configuration, host, Redis and the public URL: what is wrong, what it means, what to do.

    It changes nothing. Exit status 0: nothing worse than a note; 1: a warning or a mistake.

    Example: partyline doctor --url https://hooks.example.com
    """
    if url is not None:
        url = refuse_unless_url(url)
    found = _found(config, url)
    if json:
        out.file.write("".join(f"{orjson.dumps(msgspec.to_builtins(each)).decode()}\n" for each in found))
    else:
        _show(found)
    raise typer.Exit(1 if troubled(found) else 0)


def _found(config: Path | None, url: str | None) -> list[Finding]:
    """Everything that is found; without a configuration that can be used, only what is wrong with it."""
    try:
        path = config_path(config)
        settings = load(path, os.environ)
    except ConfigError as error:
        return list(configuration.mistakes(error.mistakes))
    found = [*configuration.judge(settings), *files.judge(look_at_files(path, os.environ)), *_of_spool(settings)]
    found += run(_of_redis(settings))
    return found if url is None else [*found, *run(_of_url(url, settings))]


def _show(found: list[Finding]) -> None:
    for topic, group in groupby(found, key=lambda each: each.topic):
        out.print(f"[bold]{topic}[/]")
        for each in group:
            padding = " " * (_WIDTH - len(each.level))
            out.print(f"{_LEVELS[each.level]}{padding}  {escape(each.subject)}: {escape(each.sentence)}")
            if each.todo:
                out.print(f"{_INDENT}→ {escape(each.todo)}")
    counts = ", ".join(f"{sum(each.level == level for each in found)} {level}(s)" for level in reversed(_LEVELS))
    out.print(f"\n{counts}.")


# --- each thing that is looked at -------------------------------------------------------------------------


def _of_spool(settings: Settings) -> Iterator[Finding]:
    try:
        yield from spooling.judge(look_at_spool(settings), settings.spool)
    except (StoreError, OSError) as error:
        yield Finding("mistake", spooling.TOPIC, "spool.dir", f"The spool cannot be read: {error}", "see its folder")


async def _of_redis(settings: Settings) -> list[Finding]:
    """What there is to say about all partitions; each server, user and setting once."""
    partitions: list[Partition] = []
    denied: frozenset[str] = frozenset()
    for keyspace in keyspaces(settings.namespace, settings.redis.partitions):
        try:
            async with running_redis(settings, keyspace) as redis:
                denied |= await ask_rights(redis, keyspace)
                partitions.append(await ask(redis, keyspace, settings, denied))
        except StoreError as error:
            lacking = [*_of_rights(denied, settings)] if denied else []
            where = f"redis.url, partition {keyspace.partition}"
            return [*lacking, Finding("mistake", server.TOPIC, where, f"It could not be looked at: {error}", _AWAY)]
    return [*_of_servers(partitions, settings), *_of_rights(denied, settings), *_of_work(partitions)]


_AWAY = "see that it runs and that this host and user may reach it; meanwhile callbacks go to the spool"


def _of_servers(partitions: list[Partition], settings: Settings) -> Iterator[Finding]:
    for group in _by_server(partitions):
        numbers = tuple(each.kept.partition for each in group)
        told = msgspec.structs.replace(group[0].server, partitions=numbers)
        yield from server.judge(told, settings.redis)
        yield from forecast.judge([each.kept for each in group], told, settings.retention, utc_now().timestamp())


def _of_rights(denied: frozenset[str], settings: Settings) -> Iterator[Finding]:
    url = settings.redis.url
    is_cluster = url != "embedded" and read_url(url).kind == "cluster"
    yield from rights.judge(denied, waits=settings.redis.wait_replicas > 0, is_cluster=is_cluster)


def _of_work(partitions: list[Partition]) -> Iterator[Finding]:
    for first, *_ in _by_server(partitions):
        if first.skew is not None:
            yield clocks.judge_redis(f"partition {first.kept.partition}", *first.skew)
    yield from clocks.judge_providers([delay for each in partitions for delay in each.delays])
    for each in partitions:
        yield from working.judge(each.work)


def _by_server(partitions: list[Partition]) -> list[list[Partition]]:
    """The partitions that share a server, together."""
    groups: dict[str, list[Partition]] = {}
    for each in partitions:
        groups.setdefault(each.server.run_id, []).append(each)
    return list(groups.values())


async def _of_url(url: str, settings: Settings) -> list[Finding]:
    found = [each async for probe in call(url, settings) for each in proxy.judge(probe)]
    if url.startswith("http://"):
        plain = "It is plain http: URL tokens, secrets and texts can be read on their way"
        found.insert(0, Finding("warning", proxy.TOPIC, url, plain, "use https"))
    return found
