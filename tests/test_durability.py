from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from correlator.redis_client import connect
from receiver.durability import (
    check_durability,
    check_loading,
    check_version,
    forgetful,
    loads_all,
    too_old,
    weaknesses,
)
from schemas.errors import ConfigError
from schemas.keyspace import Keyspace
from tests.farm import standalone

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


# --- what a restart leaves --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("6.2.14", False),
        ("7.0.0", True),
        ("7.4.2", True),
        ("8.4.3", True),
        ("8.6.0", False),
        ("10.0.0", False),
        ("", True),
    ],
)
def test_servers_of_some_versions_load_as_their_default_user(version: str, expected: bool) -> None:
    """From 7.0 to before 8.6; one that does not tell its version is asked as well."""
    assert forgetful(version) == expected


async def test_the_tests_own_server_loads_all(redis: Redis, keyspace: Keyspace) -> None:
    """Its default user may do everything, or it is of a version to which that does not matter."""
    assert await loads_all(redis, keyspace)
    await check_loading(redis, keyspace, "always")


@pytest.mark.parametrize(
    ("default", "user", "said"),
    [
        ("off", "+@all", "a restart of the server would lose what is stored"),
        ("off ~other:* &* +@all", "+@all", "a restart of the server would lose what is stored"),
        ("off ~* &* +@all", "+@all -acl", r"allow ACL DRYRUN \(\+acl\|dryrun\)"),
        ("off ~* &* +@all", "+@all -info", None),
        ("off ~* &* +@all", "+@all", None),
    ],
)
async def test_a_server_that_would_leave_out_what_was_stored_is_refused(
    folder: Path, keyspace: Keyspace, default: str, user: str, said: str | None
) -> None:
    """Its default user, as which it loads its file, may not write our keys; and with durability none nobody cares."""
    users = [f"default {default}", f"partyline on >Quay-11 ~* &* {user}", "admin on >Mole-21 ~* &* +@all"]
    (folder / "users.acl").write_text("".join(f"user {rules}\n" for rules in users))
    async with standalone(folder, "--aclfile", str(folder / "users.acl")) as server:
        client = connect(f"redis://partyline:Quay-11@127.0.0.1:{server.port}", 5.0)
        admin: Any = connect(f"redis://admin:Mole-21@127.0.0.1:{server.port}", 5.0)
        matters = forgetful((await admin.info("server"))["redis_version"])
        await check_loading(client, keyspace, "none")
        with pytest.raises(ConfigError, match=said) if said and matters else nullcontext():
            await check_loading(client, keyspace, "always")
        await admin.aclose()
        await client.aclose()
