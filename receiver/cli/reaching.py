"""What the commands share to reach a namespace: its Redis, its keys, who may be named there, how a capture goes in."""

import re
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from redis.asyncio import Redis

from correlator.redis_client import connect
from receiver.authentication import operator, vouched
from receiver.captures import CaptureLog, LogEntry
from receiver.embedded import EmbeddedRedis
from receiver.namespace import claim_namespace, keyspace_of
from receiver.providers import PROVIDERS
from receiver.queries import Directory
from receiver.settings import Settings
from schemas.callback import AccountFacts, Callback, CaptureKind
from schemas.errors import PartylineError, StoreError
from schemas.ids import CaptureId
from schemas.keyspace import Keyspace, keyspaces, partition_of
from schemas.wire import encode_capture, encode_facts

_TIMEOUT_SECONDS = 5.0
#: As the setting `namespace` has it.
_NAMESPACE = re.compile("[a-z0-9-]{1,32}")


# --- where ---


@asynccontextmanager
async def redis_of(
    settings: Settings, timeout_seconds: float | None, keyspace: Keyspace | None = None
) -> AsyncIterator[Redis]:
    """A client of the Redis that a configuration names; of the embedded one if a running service has started it.

    `keyspace`: what it is for; None: what the command is for.
    """
    url: str = EmbeddedRedis(settings.redis.data_dir).url if settings.redis.url == "embedded" else settings.redis.url
    redis = connect(url, timeout_seconds, keyspace or keyspace_for(settings))
    try:
        yield redis
    finally:
        await redis.aclose()


@asynccontextmanager
async def running_redis(settings: Settings, keyspace: Keyspace | None = None) -> AsyncIterator[Redis]:
    """The same, not waited for: StoreError where it is one that a service starts, and none has."""
    if settings.redis.url == "embedded" and not EmbeddedRedis(settings.redis.data_dir).socket.exists():
        raise StoreError("the embedded Redis does not run: start `partyline serve` (or `partyline try`) first")
    async with redis_of(settings, _TIMEOUT_SECONDS, keyspace) as redis:
        yield redis


@asynccontextmanager
async def namespace_of(settings: Settings, account: str | None = None) -> AsyncIterator[tuple[Redis, Keyspace]]:
    """The Redis and the keys of a namespace that was made with these settings: of one partition, where it has several.

    `account`: that one's partition; None: the one that the command line names.

    Raises ConfigError if it was made with others, PartylineError where it is not known which partition is meant.
    """
    async with _reached(settings, keyspace_for(settings, account)) as reached:
        yield reached


@asynccontextmanager
async def partitions_of(settings: Settings) -> AsyncIterator[list[tuple[Redis, Keyspace]]]:
    """The same of every partition, or of the one that the command line names."""
    chosen = _chosen.get()
    spaces = keyspaces(settings.namespace, settings.redis.partitions)
    async with AsyncExitStack() as stack:
        meant = spaces if chosen is None else [keyspace_for(settings)]
        yield [await stack.enter_async_context(_reached(settings, each)) for each in meant]


@asynccontextmanager
async def _reached(settings: Settings, keyspace: Keyspace) -> AsyncIterator[tuple[Redis, Keyspace]]:
    async with running_redis(settings, keyspace) as redis:
        await claim_namespace(redis, keyspace, settings)
        yield redis, await keyspace_of(redis, keyspace)


# --- which partition ---


_chosen: ContextVar[int | None] = ContextVar("partition", default=None)


def choose_partition(number: int | None) -> None:
    """What the command line names, before the command is run."""
    _chosen.set(number)


def keyspace_for(settings: Settings, account: str | None = None) -> Keyspace:
    """The keys of the one partition that is meant. PartylineError where that is not known."""
    partitions, chosen = settings.redis.partitions, _chosen.get()
    if chosen is not None and chosen >= partitions:
        raise PartylineError(f"--partition: there are {partitions}, from 0 on (redis.partitions)")
    if account is not None:
        own = partition_of(account, partitions)
        if chosen not in {None, own}:
            raise PartylineError(f"--partition: account {account} is in partition {own}")
        return Keyspace(settings.namespace, own)
    if chosen is None and partitions > 1:
        raise PartylineError(
            f"the namespace has {partitions} partitions: say which is meant, as in `partyline --partition 0 …`"
        )
    return Keyspace(settings.namespace, chosen or 0)


def the_account(names: Collection[str]) -> str | None:
    """The one account that is asked for, if it is one: that tells which partition is meant."""
    return next(iter(names)) if len(names) == 1 else None


def is_there(entry: LogEntry, settings: Settings, keyspace: Keyspace) -> bool:
    """Whether a capture from elsewhere belongs to a partition: its account tells."""
    account = entry.fields.get(b"account", b"").decode(errors="replace")
    return partition_of(account, settings.redis.partitions) == keyspace.partition


# --- what may be named ---


def directory_of(settings: Settings) -> Directory:
    """The configured accounts, and all providers."""
    return Directory({name: each.provider for name, each in settings.accounts.items()}, frozenset(PROVIDERS))


def refuse_unless_namespace(option: str, name: str) -> None:
    """PartylineError where a name that an option gave cannot be a namespace's."""
    if _NAMESPACE.fullmatch(name) is None:
        raise PartylineError(f"{option}: a namespace is 1 to 32 of a-z, 0-9 and -")


# --- handing in ---


def by_operator(provider: str, account: str, facts: AccountFacts, body: bytes) -> Callback:
    """What whoever runs the command hands in, now."""
    now = datetime.now(UTC)
    return vouched(operator(), provider=provider, account=account, facts=facts, headers=(), body=body, now=now)


async def hand_in(log: CaptureLog, identifier: CaptureId, callback: Callback, kind: CaptureKind) -> None:
    """Write one capture; when it returns it is as durable as the log promises."""
    values = encode_capture(identifier, callback, encode_facts(callback.facts), kind)
    await log.append([values])
