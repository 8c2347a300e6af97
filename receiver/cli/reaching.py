"""What the commands share to reach a namespace: its Redis, its keys, who may be named there, how a capture goes in."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from redis.asyncio import Redis

from correlator.redis_client import connect
from receiver.authentication import operator, vouched
from receiver.captures import CaptureLog
from receiver.embedded import EmbeddedRedis
from receiver.namespace import claim_namespace, keyspace_of
from receiver.providers import PROVIDERS
from receiver.queries import Directory
from receiver.settings import Settings
from schemas.callback import AccountFacts, Callback, CaptureKind
from schemas.errors import PartylineError, StoreError
from schemas.ids import CaptureId
from schemas.keyspace import Keyspace
from schemas.wire import encode_capture, encode_facts

_TIMEOUT_SECONDS = 5.0
#: As the setting `namespace` has it.
_NAMESPACE = re.compile("[a-z0-9-]{1,32}")


# --- where ---


@asynccontextmanager
async def redis_of(settings: Settings, timeout_seconds: float | None, namespace: str = "") -> AsyncIterator[Redis]:
    """A client of the Redis that a configuration names; of the embedded one if a running service has started it.

    `namespace`: what it is for, where that is another than the configuration's.
    """
    url: str = EmbeddedRedis(settings.redis.data_dir).url if settings.redis.url == "embedded" else settings.redis.url
    redis = connect(url, timeout_seconds, Keyspace(namespace or settings.namespace))
    try:
        yield redis
    finally:
        await redis.aclose()


@asynccontextmanager
async def running_redis(settings: Settings, namespace: str = "") -> AsyncIterator[Redis]:
    """The same, not waited for: StoreError where it is one that a service starts, and none has."""
    if settings.redis.url == "embedded" and not EmbeddedRedis(settings.redis.data_dir).socket.exists():
        raise StoreError("the embedded Redis does not run: start `partyline serve` (or `partyline try`) first")
    async with redis_of(settings, _TIMEOUT_SECONDS, namespace) as redis:
        yield redis


@asynccontextmanager
async def namespace_of(settings: Settings) -> AsyncIterator[tuple[Redis, Keyspace]]:
    """The Redis and the keys of a namespace that was made with these settings; ConfigError if it was not."""
    async with running_redis(settings) as redis:
        await claim_namespace(redis, Keyspace(settings.namespace), settings)
        yield redis, await keyspace_of(redis, settings.namespace)


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
