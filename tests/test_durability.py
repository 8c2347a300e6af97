import pytest
from redis.asyncio import Redis

from receiver.durability import check_durability, check_version, too_old, weaknesses
from schemas.errors import ConfigError

GOOD = {"appendonly": "yes", "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "noeviction"}


@pytest.mark.parametrize(
    ("change", "durability", "said"),
    [
        ({}, "always", []),
        ({"appendfsync": "everysec"}, "everysec", []),
        ({"maxmemory-policy": "allkeys-lru"}, "always", []),
        ({"appendonly": "no"}, "always", ["set appendonly yes"]),
        ({"appendonly": "no"}, "everysec", ["set appendonly yes"]),
        ({"appendfsync": "everysec"}, "always", ["set appendfsync always"]),
        ({"appendfsync": "no"}, "everysec", ["set appendfsync everysec"]),
        ({"maxmemory": "1000000", "maxmemory-policy": "volatile-ttl"}, "always", ["set maxmemory-policy noeviction"]),
        ({"appendonly": "no", "appendfsync": "no"}, "none", []),
        ({"maxmemory": "1", "maxmemory-policy": "allkeys-lru"}, "none", ["set maxmemory-policy noeviction"]),
        (
            {"appendonly": "no", "maxmemory": "1", "maxmemory-policy": "allkeys-lru"},
            "always",
            ["set appendonly yes", "set maxmemory-policy noeviction"],
        ),
    ],
)
def test_each_weakness_of_a_server_is_named_with_what_to_set(
    change: dict[str, str], durability: str, said: list[str]
) -> None:
    """A server that does less than promised is refused with a sentence a mistake; one without a limit never evicts."""
    found = weaknesses({**GOOD, **change}, durability)

    assert len(found) == len(said)
    assert all(expected in sentence for expected, sentence in zip(said, found, strict=True))


async def test_the_embedded_server_keeps_the_strongest_promise(redis: Redis) -> None:
    """The tests' own Redis, started as the program starts it, passes the check for `always`."""
    await check_durability(redis, "always")


async def test_a_server_that_was_made_weaker_is_refused(redis: Redis) -> None:
    """The check asks the server itself, not our idea of it."""
    await redis.config_set("appendfsync", "everysec")
    try:
        with pytest.raises(ConfigError, match="set appendfsync always"):
            await check_durability(redis, "always")
        await check_durability(redis, "everysec")
        await check_durability(redis, "none")
    finally:
        await redis.config_set("appendfsync", "always")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("6.0.16", True),
        ("5.0.7", True),
        ("6.2.0", False),
        ("7.4.1", False),
        ("10.0.0", False),
        ("", False),
        ("x", False),
    ],
)
def test_a_server_before_6_2_is_too_old(version: str, expected: bool) -> None:
    """Scripts and look-ups use commands of 6.2; a server that does not tell its version is given the benefit."""
    assert too_old(version) == expected


async def test_the_tests_own_server_is_new_enough(redis: Redis) -> None:
    """The check reads what a real server answers."""
    await check_version(redis)
