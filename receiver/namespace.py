"""What a namespace remembers of itself, so that a start with other settings is refused before it can harm."""

from collections.abc import Mapping

from redis.asyncio import Redis

from correlator.lookup import origin
from correlator.scripts import answer
from receiver.settings import Settings
from schemas.errors import ConfigError
from schemas.ids import fingerprint
from schemas.keyspace import LAYOUT, Keyspace

#: Stands for the layout while a state is imported, so that nothing starts on half of one.
IMPORTING = "importing"

_ADVICE = {
    "layout": "this namespace was made by another version of partyline; choose another namespace",
    "partitions": "redis.partitions: the number is fixed for the life of a namespace; set it back",
    "id_key": "id_key: this namespace was made with another, and every conversation key derives from it; set it back",
}


async def keyspace_of(redis: Redis, keyspace: Keyspace) -> Keyspace:
    """The same keys; conversation keys derive for the namespace that it was rebuilt from, if it was."""
    return Keyspace(keyspace.namespace, keyspace.partition, await origin(redis, keyspace))


async def claim_namespace(redis: Redis, keyspace: Keyspace, settings: Settings) -> None:
    """Record layout, partitions and the id_key's fingerprint at first use; ConfigError where they differ later."""
    for field, value in _ours(settings).items():
        await answer(redis.hsetnx(keyspace.meta, field, value))
    mistakes = differences(await answer(redis.hgetall(keyspace.meta)), settings)
    if mistakes:
        raise ConfigError(mistakes)


def differences(recorded: Mapping[bytes, bytes], settings: Settings) -> list[str]:
    """What a namespace remembers otherwise than the settings have it, in sentences; fields that it lacks are fine."""
    told = {field: recorded[field.encode()].decode() for field in _ADVICE if field.encode() in recorded}
    if told.get("layout") == IMPORTING:
        return ["namespace: an import of a state was broken off: run `partyline state import` again"]
    return [
        f"{_ADVICE[field]} (found {told[field]}, have {value})"
        for field, value in _ours(settings).items()
        if told.get(field, value) != value
    ]


def _ours(settings: Settings) -> dict[str, str]:
    return {
        "layout": LAYOUT,
        "partitions": str(settings.redis.partitions),
        "id_key": fingerprint(settings.id_key),
    }
