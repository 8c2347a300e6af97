"""What a Redis URL says."""

from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from correlator.redis_finding import owner_of
from correlator.redis_url import SUPPORTED, read_url


def test_a_server_is_read_as_redis_py_does() -> None:
    """Host, port, database, credentials and options of one server; TLS by its scheme."""
    plain = read_url("redis://user:hush%20hush@redis.example:6380/2?health_check_interval=5")
    secure = read_url("rediss://redis.example?ssl_ca_certs=/etc/ca.pem")

    assert (plain.kind, plain.tls, plain.hosts) == ("server", False, ())
    assert plain.options["host"] == "redis.example"
    assert (plain.options["port"], plain.options["db"]) == (6380, 2)
    assert (plain.options["username"], plain.options["password"]) == ("user", "hush hush")
    assert plain.options["health_check_interval"] == 5
    assert secure.tls
    assert secure.options["connection_class"] is SSLConnection
    assert secure.options["ssl_ca_certs"] == "/etc/ca.pem"


def test_sentinels_are_read_with_the_name_of_their_master() -> None:
    """Several hosts with or without ports, the master's name, a database; credentials of both kinds apart."""
    url = read_url(
        "rediss+sentinel://user:pass@one.example,two.example:26380,[::1]:26381/main/3"
        "?sentinel_password=word&ssl_ca_certs=/etc/ca.pem"
    )

    assert (url.kind, url.tls, url.service) == ("sentinel", True, "main")
    assert url.hosts == (("one.example", 26379), ("two.example", 26380), ("::1", 26381))
    assert url.options == {"username": "user", "password": "pass", "db": 3, "ssl_ca_certs": "/etc/ca.pem"}
    assert url.sentinel_options == {"password": "word"}


def test_a_cluster_is_read_with_its_nodes() -> None:
    """Some of its nodes are enough; it has no database to choose."""
    url = read_url("redis+cluster://:pass@one.example:7000,two.example")

    assert (url.kind, url.tls, url.service) == ("cluster", False, "")
    assert url.hosts == (("one.example", 7000), ("two.example", 6379))
    assert url.options == {"password": "pass"}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://redis.example", "is no URL with"),
        ("redis.example", "is no URL with"),
        ("redis+sentinel://one.example:26379", "lacks the sentinels' name"),
        ("redis+sentinel://one.example:26379/", "lacks the sentinels' name"),
        ("redis+sentinel://one.example:26379/main/zero", "no number of a database"),
        ("redis+cluster://one.example:7000/1", "names a database"),
        ("redis+cluster://one.example:port", "has servers that cannot be read"),
        ("redis+cluster://one.example:7000,,two.example", "has servers that cannot be read"),
        ("redis+cluster://:hush@one.example?health_check_interval=soon", "has an option health_check_interval"),
    ],
)
def test_what_cannot_be_used_is_said_without_the_url(url: str, why: str) -> None:
    """The error says what is wrong, and shows neither password nor host."""
    with pytest.raises(ValueError, match=why) as caught:
        read_url(url)

    assert "hush" not in str(caught.value)
    assert "one.example" not in str(caught.value).replace("host:26379", "")


def test_every_scheme_of_the_contract_is_there() -> None:
    """Standalone, TLS, socket, Sentinel, Cluster; and TLS for both of the latter."""
    assert set(SUPPORTED) >= {"redis://", "rediss://", "unix://", "redis+sentinel://", "redis+cluster://"}
    assert {"rediss+sentinel://", "rediss+cluster://"} <= set(SUPPORTED)


_TABLE: list[Any] = [
    [0, 5460, [b"10.0.0.1", 7000, b"a"], [b"10.0.0.4", 7003, b"d"]],
    [5461, 10922, [b"10.0.0.2", 7001, b"b"]],
    [12000, 16383, [b"", 7002, b"c"], [b"10.0.0.4", 7003, b"d"]],
]


@pytest.mark.parametrize(
    ("slot", "owner"),
    [
        (0, ("10.0.0.1", 7000)),
        (5460, ("10.0.0.1", 7000)),
        (5461, ("10.0.0.2", 7001)),
        (11000, None),
        (16383, ("asked.example", 7002)),
    ],
)
def test_a_slot_is_its_masters(slot: int, owner: tuple[str, int] | None) -> None:
    """Who has a slot, at both ends of a range; nobody between ranges; an empty host is the one that was asked."""
    found, nodes = owner_of(_TABLE, slot, ("asked.example", 7002))

    assert found == owner
    assert nodes == [("10.0.0.1", 7000), ("10.0.0.4", 7003), ("10.0.0.2", 7001), ("asked.example", 7002)]
