"""What Redis tells of itself and of a partition, asked without changing anything."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from correlator.scripts import answer
from receiver.captures import LogEntry
from receiver.doctor.forecast import Kept, Stream
from receiver.doctor.rights import TRANSACTION, attempts, is_refusal
from receiver.doctor.server import Server
from receiver.doctor.working import Work
from receiver.durability import loads_all
from receiver.namespace import differences
from receiver.parsing import read
from receiver.providers import PROVIDERS
from receiver.settings import Settings
from schemas.errors import StoreError
from schemas.events import Event
from schemas.keyspace import Keyspace

_CONFIG = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
#: How many entries are looked at, at most: of what waits, of letters, of the newest captures.
_MOST_WAITING, _MOST_LETTERS, _NEWEST = 10_000, 1000, 100


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found out about one partition and the server that it is on."""

    server: Server
    #: By how many seconds Redis' clock is ahead of ours, and how wrong that may be; None: it does not tell.
    skew: tuple[float, float] | None
    work: Work
    kept: Kept
    #: How much later than they happened the newest facts were received, in seconds.
    delays: tuple[float, ...]


async def ask(redis: Redis, keyspace: Keyspace, settings: Settings, denied: frozenset[str]) -> Partition:
    """Find out about one partition. Raises StoreError where Redis does not answer, or not to this user.

    `denied`: what the user may not do, as `ask_rights` found out.
    """
    began = time.time()
    info = {} if "info" in denied else _texts(await answer(redis.info()))
    ended = time.time()
    config = None if "config|get" in denied else await _config(redis)
    said = info.get("server_time_usec", "")
    skew = (int(said) / 1e6 - (began + ended) / 2, (ended - began) / 2) if said.isdecimal() else None
    return Partition(
        server=Server(
            run_id=info.get("run_id", ""),
            partitions=(keyspace.partition,),
            version=info.get("redis_version", ""),
            role=info.get("role", ""),
            config=config,
            loads_all="acl|dryrun" in denied or await loads_all(redis, keyspace),
            info=info,
            replicas=sum(field.startswith("slave") and "'online'" in told for field, told in info.items()),
        ),
        skew=skew,
        work=await _work(redis, keyspace, settings),
        kept=Kept(
            keyspace.partition,
            await _stream(redis, keyspace, keyspace.captures),
            await _stream(redis, keyspace, keyspace.events),
        ),
        delays=await _delays(redis, keyspace),
    )


def _texts(said: Mapping[Any, Any]) -> dict[str, str]:
    return {str(field): str(value) for field, value in said.items()}


async def _config(redis: Redis) -> dict[str, str]:
    """The configuration that matters. One name a call: Redis before 7.0 takes no more."""
    found: dict[str, str] = {}
    for name in _CONFIG:
        for field, value in (await answer(redis.config_get(name))).items():
            found[_text(field)] = _text(value)
    return found


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


# --- rights -----------------------------------------------------------------------------------------------


async def ask_rights(redis: Redis, keyspace: Keyspace) -> frozenset[str]:
    """The commands that the user may not send. Raises StoreError.

    Nothing of what is tried is done: the transactions are never executed.
    """
    opening, executing = TRANSACTION
    tried = attempts(keyspace)
    first = await _said(redis, [("MULTI",), *tried.values()])
    if first[0]:
        return frozenset({opening} if is_refusal(first[0]) else ())
    denied = frozenset(name for name, error in zip(tried, first[1:], strict=True) if is_refusal(error))
    # A transaction with an error in it, and nothing else, is refused as such by whoever may execute one.
    second = await _said(redis, [("MULTI",), ("GET",), ("EXEC",)])
    return denied | ({executing} if is_refusal(second[2]) else frozenset())


async def _said(redis: Redis, commands: list[tuple[str, ...]]) -> list[str]:
    """What a connection of its own says to commands, one after the other: an error's words, or nothing.

    The first must be taken, or no other is sent. The connection is closed at the end, and an open transaction with it.
    """
    pool: Any = redis.connection_pool
    said: list[str] = []
    connection = await answer(pool.get_connection())
    try:
        for command in commands:
            await answer(connection.send_command(*command))
            said.append(await _error(connection))
            if said[0]:
                break
    finally:
        await connection.disconnect()
        await pool.release(connection)
    return said


async def _error(connection: Any) -> str:
    try:
        await answer(connection.read_response())
    except StoreError as error:
        if isinstance(error.__cause__, ResponseError):
            return str(error.__cause__)
        raise
    return ""


# --- a partition ------------------------------------------------------------------------------------------


async def _work(redis: Redis, keyspace: Keyspace, settings: Settings) -> Work:
    recorded = await answer(redis.hgetall(keyspace.meta))
    cursor: bytes = await answer(redis.get(keyspace.cursor)) or b""
    waiting = await answer(
        redis.xrange(keyspace.captures, f"({cursor.decode()}" if cursor else "-", "+", _MOST_WAITING)
    )
    dead, dead_reasons = await _letters(redis, keyspace.dead)
    quarantined, quarantine_reasons = await _letters(redis, keyspace.quarantine)
    return Work(
        partition=keyspace.partition,
        begun=bool(recorded),
        foreign=tuple(differences(recorded, settings)),
        held=bool(await answer(redis.exists(keyspace.lease))),
        wanted=bool(await answer(redis.exists(keyspace.lease_wanted))),
        waiting=len(waiting),
        waited_seconds=max(0.0, time.time() - _added_at(waiting[0][0])) if waiting else 0.0,
        dead=dead,
        dead_reasons=dead_reasons,
        quarantined=quarantined,
        quarantine_reasons=quarantine_reasons,
    )


def _added_at(position: bytes) -> float:
    """When an entry was added, in Unix seconds of Redis' clock."""
    return int(position.partition(b"-")[0]) / 1000


async def _letters(redis: Redis, stream: str) -> tuple[int, dict[str, int]]:
    """How many entries a stream has, and the newest by their reason."""
    newest = await answer(redis.xrevrange(stream, count=_MOST_LETTERS))
    reasons = Counter(_text(fields.get(b"reason", b"unknown")) for _, fields in newest)
    return await answer(redis.xlen(stream)), dict(reasons)


async def _stream(redis: Redis, keyspace: Keyspace, stream: str) -> Stream:
    oldest = await answer(redis.xrange(stream, count=1))
    size = await answer(redis.get(keyspace.bytes_of(stream)))
    return Stream(await answer(redis.xlen(stream)), int(size or 0), _added_at(oldest[0][0]) if oldest else None)


async def _delays(redis: Redis, keyspace: Keyspace) -> tuple[float, ...]:
    newest = await answer(redis.xrevrange(keyspace.captures, count=_NEWEST))
    entries = [read(LogEntry(_text(position), fields), PROVIDERS) for position, fields in newest]
    return tuple(
        (entry.capture.received_at - parsed.occurred_at).total_seconds()
        for entry in entries
        for parsed in entry.parsed
        if isinstance(parsed, Event) and parsed.occurred_at is not None and entry.capture.kind == "callback"
    )
