"""What a namespace remembers of itself, and which starts it refuses."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from receiver.namespace import claim_namespace
from receiver.settings import Redis as RedisSettings
from receiver.settings import Settings
from receiver.settings.values import SecretBytes
from schemas.errors import ConfigError, StoreError
from schemas.ids import fingerprint
from schemas.keyspace import LAYOUT, Keyspace

ID_KEY = SecretBytes(b"a secret of this namespace only")


def settings(id_key: bytes = ID_KEY, partitions: int = 1) -> Settings:
    """Settings as far as a namespace depends on them."""
    return Settings(id_key=SecretBytes(id_key), redis=RedisSettings(partitions=partitions))


@pytest.fixture
def client(redis: Redis) -> Any:
    """A client, untyped: what a command answers depends on how it was made."""
    return redis


async def refused(client: Redis, keyspace: Keyspace, wanted: Settings) -> list[str]:
    """The mistakes that a claim is refused with."""
    with pytest.raises(ConfigError) as caught:
        await claim_namespace(client, keyspace, wanted)
    return caught.value.mistakes


async def test_the_first_start_records_what_the_namespace_is(client: Any, keyspace: Keyspace) -> None:
    """Layout version, partitions and a fingerprint of id_key are kept; nothing else is written."""
    await claim_namespace(client, keyspace, settings())

    assert await client.hgetall(keyspace.meta) == {
        b"layout": LAYOUT.encode(),
        b"partitions": b"1",
        b"id_key": fingerprint(ID_KEY).encode(),
    }
    assert await client.keys(f"{keyspace.prefix}*") == [keyspace.meta.encode()]
    assert await client.ttl(keyspace.meta) == -1


async def test_the_same_settings_are_let_in_again(client: Any, keyspace: Keyspace) -> None:
    """Every later start with the same settings passes, many at once too."""
    await claim_namespace(client, keyspace, settings())
    before = await client.hgetall(keyspace.meta)
    await asyncio.gather(*(claim_namespace(client, keyspace, settings()) for _ in range(8)))

    assert await client.hgetall(keyspace.meta) == before


async def test_another_id_key_is_refused(client: Any, keyspace: Keyspace) -> None:
    """Another id_key would make every conversation a new one; the refusal says to set it back."""
    await claim_namespace(client, keyspace, settings())
    [mistake] = await refused(client, keyspace, settings(b"another secret"))

    assert mistake.startswith("id_key: this namespace was made with another")
    assert "set it back" in mistake


@pytest.mark.parametrize(("first", "then"), [(b"", ID_KEY), (ID_KEY, b"")])
async def test_an_id_key_neither_comes_nor_goes(client: Any, keyspace: Keyspace, first: bytes, then: bytes) -> None:
    """A namespace without id_key cannot get one later, nor lose the one it has."""
    await claim_namespace(client, keyspace, settings(first))

    assert len(await refused(client, keyspace, settings(then))) == 1


async def test_another_number_of_partitions_is_refused(client: Any, keyspace: Keyspace) -> None:
    """The number of partitions is fixed for the life of a namespace; the refusal names the setting and both numbers."""
    await claim_namespace(client, keyspace, settings())
    [mistake] = await refused(client, keyspace, settings(partitions=4))

    assert mistake.startswith("redis.partitions: ")
    assert mistake.endswith("(found 1, have 4)")


async def test_another_layout_is_refused(client: Any, keyspace: Keyspace) -> None:
    """A namespace of another version's layout is left alone; the refusal says to choose another namespace."""
    await client.hset(keyspace.meta, "layout", "0")
    [mistake] = await refused(client, keyspace, settings())

    assert "choose another namespace" in mistake


async def test_all_mistakes_are_told_at_once(client: Any, keyspace: Keyspace) -> None:
    """Whoever starts with everything different learns all of it, and nothing is changed."""
    await client.hset(keyspace.meta, mapping={"layout": "0", "partitions": "2", "id_key": "0011223344556677"})
    before = await client.hgetall(keyspace.meta)
    mistakes = await refused(client, keyspace, settings())

    assert len(mistakes) == 3
    assert await client.hgetall(keyspace.meta) == before


async def test_a_refusal_shows_no_id_key(client: Any, keyspace: Keyspace) -> None:
    """Neither the one that was configured nor the one that is stands in the message or in Redis."""
    await claim_namespace(client, keyspace, settings())
    said = " ".join(await refused(client, keyspace, settings(b"another secret")))

    assert "secret" not in said
    assert bytes(ID_KEY) not in b" ".join((await client.hgetall(keyspace.meta)).values())


async def test_of_two_first_starts_at_once_with_unlike_keys_one_is_refused(client: Any, keyspace: Keyspace) -> None:
    """Whichever comes first makes the namespace; the other is refused, and never both are let in."""
    claims = [claim_namespace(client, keyspace, settings(key)) for key in (b"one key", b"other key")]
    said = await asyncio.gather(*claims, return_exceptions=True)

    assert sorted(type(item).__name__ for item in said) == ["ConfigError", "NoneType"]


async def test_namespaces_are_claimed_each_by_itself(client: Any, keyspace: Keyspace) -> None:
    """One namespace's id_key is no obstacle for another."""
    await claim_namespace(client, keyspace, settings())
    await claim_namespace(client, Keyspace(f"{keyspace.namespace}-2"), settings(b"another secret"))

    assert await client.exists(keyspace.meta) == 1


async def test_redis_away_is_a_store_error(keyspace: Keyspace) -> None:
    """A server that does not answer is no mistake in the namespace."""
    nowhere = Redis.from_url("unix:///nonexistent/redis.sock")
    with pytest.raises(StoreError, match="Redis: ConnectionError"):
        await claim_namespace(nowhere, keyspace, settings())
    await nowhere.aclose()
