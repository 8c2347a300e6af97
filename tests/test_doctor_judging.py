"""What the doctor thinks of facts: tables worked out by hand."""

from pathlib import Path
from typing import Any

import pytest

from receiver.doctor import clocks, configuration, files, forecast, proxy, rights, server, spooling, working
from receiver.doctor.files import SecretFile
from receiver.doctor.findings import Finding, about, lasting, troubled
from receiver.doctor.forecast import Kept, Stream
from receiver.doctor.proxy import ODD_BODY, Probe
from receiver.doctor.server import Server
from receiver.doctor.spooling import Disk
from receiver.doctor.working import Work
from receiver.probing import described
from receiver.settings import Redis, Retention, Spool, parse
from schemas.keyspace import Keyspace

MIB, GIB, DAY = 1024**2, 1024**3, 86400
NOW = 1_800_000_000.0
RANDOM = "kX3vQ9pLw2Zt7Rb5Nc8M"


def levels(findings: Any) -> list[tuple[str, str]]:
    """Level and subject of each finding that is not ok."""
    return [(each.level, each.subject) for each in findings if each.level != "ok"]


def words(findings: Any) -> str:
    """All that is said."""
    return "\n".join(f"{each.sentence} → {each.todo}" for each in findings)


# --- words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (812, "812 B"), (1024, "1.0 KiB"), (7_235_174, "6.9 MiB"), (150 * MIB, "150 MiB"), (GIB, "1.0 GiB")],
)
def test_sizes_are_shown_in_their_unit(size: int, shown: str) -> None:
    """Three digits at most, a fraction only where it says something."""
    assert about(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (59, "59 s"), (90, "1.5 min"), (10_800, "3.0 h"), (604_800, "7.0 d")]
)
def test_times_are_shown_in_their_unit(seconds: int, shown: str) -> None:
    """The largest unit of which there is one."""
    assert lasting(seconds) == shown


@pytest.mark.parametrize(
    ("level", "is_trouble"), [("ok", False), ("note", False), ("warning", True), ("mistake", True)]
)
def test_only_warnings_and_mistakes_are_trouble(level: Any, is_trouble: bool) -> None:
    """A note may be read some other day."""
    assert troubled([Finding("ok", "x", "y", "z"), Finding(level, "x", "y", "z")]) is is_trouble


# --- secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        "changeme",
        "CHANGE-ME-please",
        "REPLACE-THIS-PASSWORD-1",
        "your-secret",
        "<secret>",
        "xxxxxxxxxxxxxxxxxxxxxxxx",
        "${SECRET}",
        "{{ secret }}",
        "password",
        "example-token-0123456789",
        "todo",
    ],
)
def test_a_placeholder_is_a_mistake_and_is_not_shown(secret: str) -> None:
    """What stands in examples and templates is no secret, however long it is."""
    found = list(configuration.judge_secret("accounts.main.secrets[0]", secret))

    assert levels(found) == [("mistake", "accounts.main.secrets[0]")]
    assert secret not in words(found)


@pytest.mark.parametrize(
    ("path", "secret", "level"),
    [
        ("server.api_tokens[0]", RANDOM, None),
        ("server.api_tokens[0]", "kX3vTodo9pLw2Zt7Rb5N", None),
        ("accounts.a.app_secrets[0]", "0f5c2a7d9e318b46c0d1e2f3a4b59687", None),
        ("server.api_tokens[0]", f"{RANDOM} ", "warning"),
        ("server.api_tokens[0]", f"\t{RANDOM}", "warning"),
        ("server.api_tokens[0]", "Tide2026", "warning"),
        ("accounts.a.url_tokens[0]", "1234567890123456", "warning"),
        ("accounts.a.verify_tokens[0]", "Tide2026", "note"),
        ("id_key", "Tide2026", "warning"),
    ],
)
def test_a_secret_is_long_and_random(path: str, secret: str, level: str | None) -> None:
    """Sixteen digits are 53 bits, a word and a year fewer than 48; twenty mixed characters are plenty."""
    assert levels(configuration.judge_secret(path, secret)) == ([(level, path)] if level else [])


@pytest.mark.parametrize(
    ("secret", "bits"), [("a", 0), ("aaaa", 0), ("0123456789", 10 * 3.3219), ("0123456789abcdef" * 2, 128)]
)
def test_strength_counts_kinds_of_characters(secret: str, bits: float) -> None:
    """Digits have ten, hexadecimal digits sixteen; what repeats has less than its kinds say."""
    assert configuration.strength(secret) == pytest.approx(bits, rel=0.001)


def test_each_secret_is_looked_at_once_and_public_keys_are_none() -> None:
    """Tokens, id_key, the URL's password decoded, the password of a pair; and one that stands twice is told."""
    accounts = {
        "t": {"provider": "telnyx", "public_keys": ["A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="]},
        "s": {"provider": "sinch", "basic_auth": [f"user:{RANDOM}"], "secrets": [f"{RANDOM}2"]},
    }
    settings = parse(
        {
            "id_key": f"{RANDOM}1",
            "redis": {"url": "redis://partyline:pass%40word-Kq7@127.0.0.1"},
            "server": {"api_tokens": [f"{RANDOM}2"]},
            "accounts": accounts,
        },
        {},
        Path(),
    )
    shared = [each for each in configuration.judge(settings) if "The same secret" in each.sentence]

    assert dict(configuration.secrets(settings)) == {
        "id_key": f"{RANDOM}1",
        "server.api_tokens[0]": f"{RANDOM}2",
        "redis.url": "pass@word-Kq7",
        "accounts.s.basic_auth[0]": RANDOM,
        "accounts.s.secrets[0]": f"{RANDOM}2",
    }
    assert levels(shared) == [("warning", "server.api_tokens[0]")]
    assert "accounts.s.secrets[0]" in shared[0].sentence


@pytest.mark.parametrize(
    ("mode", "level"),
    [(0o600, None), (0o400, None), (0o640, "note"), (0o644, "warning"), (0o620, "warning"), (0o602, "warning")],
)
def test_a_file_with_a_secret_is_for_its_owner_alone(mode: int, level: str | None) -> None:
    """Its group may be partyline's own; nobody else is to read, and nobody but the owner to write."""
    found = list(files.judge([SecretFile("id_key", "secrets/id-key", 0o100000 | mode)]))

    assert levels(found) == ([(level, "id_key")] if level else [])


# --- the server -------------------------------------------------------------------------------------------

SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "noeviction"}
INFO = {"used_memory": str(100 * MIB), "maxmemory": str(GIB), "used_memory_rss": str(110 * MIB)}


def a_server(**changes: Any) -> Server:
    """A server without a fault."""
    sound: dict[str, Any] = {
        "run_id": "r",
        "partitions": (0,),
        "version": "7.2.4",
        "role": "master",
        "config": SAFE,
        "loads_all": True,
        "info": INFO,
        "replicas": 0,
    }
    return Server(**{**sound, **changes})


@pytest.mark.parametrize(
    ("changes", "wanted", "found"),
    [
        ({}, {}, []),
        ({"version": "6.0.16"}, {}, [("mistake", "partition 0")]),
        ({"version": ""}, {}, [("note", "partition 0")]),
        ({"config": None}, {}, [("mistake", "redis.durability")]),
        ({"config": None}, {"durability": "none"}, [("note", "redis.durability")]),
        ({"config": {**SAFE, "appendfsync": "everysec"}}, {}, [("mistake", "redis.durability")]),
        ({"config": {**SAFE, "appendfsync": "everysec"}}, {"durability": "everysec"}, []),
        ({"loads_all": False}, {}, [("mistake", "redis.durability")]),
        ({"loads_all": False}, {"durability": "none"}, []),
        (
            {"config": {**SAFE, "appendonly": "no", "maxmemory": "1", "maxmemory-policy": "allkeys-lru"}},
            {},
            [("mistake", "redis.durability")] * 2,
        ),
        ({"role": "slave"}, {}, [("mistake", "redis.url")]),
        ({"info": {**INFO, "aof_last_write_status": "err"}}, {}, [("mistake", "partition 0")]),
        ({"info": {**INFO, "aof_last_bgrewrite_status": "err"}}, {}, [("warning", "partition 0")]),
        ({"info": {**INFO, "loading": "1"}}, {}, [("warning", "partition 0")]),
        ({"info": {**INFO, "evicted_keys": "3"}}, {}, [("warning", "partition 0")]),
        ({"info": {**INFO, "maxmemory": "0"}}, {}, [("note", "partition 0")]),
        ({"info": {**INFO, "used_memory": str(850 * MIB)}}, {}, [("warning", "partition 0")]),
        (
            {"info": {**INFO, "used_memory": str(300 * MIB), "used_memory_rss": str(460 * MIB)}},
            {},
            [("note", "partition 0")],
        ),
        ({"replicas": 1}, {"wait_replicas": 2}, [("mistake", "redis.wait_replicas")]),
        ({"replicas": 1}, {}, [("note", "redis.wait_replicas")]),
        ({"replicas": 1}, {"wait_replicas": 1}, [("note", "redis.wait_replicas")]),
        ({"replicas": 2}, {"wait_replicas": 1}, []),
    ],
)
def test_a_server_is_judged(changes: dict[str, Any], wanted: dict[str, Any], found: list[tuple[str, str]]) -> None:
    """Version, durability, role, disk, memory and replicas, each by itself."""
    assert levels(server.judge(a_server(**changes), Redis(**wanted))) == found


@pytest.mark.parametrize(
    ("denied", "waits", "is_cluster", "said"),
    [
        (set(), True, True, None),
        ({"wait", "cluster|slots"}, False, False, None),
        ({"wait"}, True, False, "+wait"),
        ({"cluster|slots"}, False, True, "+cluster|slots"),
        ({"xadd", "publish"}, False, False, "+publish +xadd"),
    ],
)
def test_rights_that_lack_are_named(denied: set[str], waits: bool, is_cluster: bool, said: str | None) -> None:
    """WAIT only where replicas are waited for, CLUSTER only in one; the rule to add is written out."""
    [found] = rights.judge(denied, waits=waits, is_cluster=is_cluster)

    assert (found.level, said is None or said in found.todo) == ("mistake" if said else "ok", True)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        ("this user has no permissions to run the 'get' command", True),
        ("User partyline has no permissions to run the 'get' command", True),
        ("this user has no permissions to access one of the keys used as arguments", True),
        ("No permissions to access a key", True),
        ("NOPERM No permissions to access a channel", True),
        ("unknown command 'GETX'", False),
        ("", False),
    ],
)
def test_a_refusal_is_told_from_other_errors(error: str, refused: bool) -> None:
    """In the words of Redis 6.2 and of 7, with the code or without."""
    assert rights.is_refusal(error) is refused


def test_every_attempt_is_a_whole_command_of_the_namespace() -> None:
    """Whoever may touch this namespace only is not told to lack a right."""
    for name, command in rights.attempts(Keyspace("a")).items():
        assert name.split("|") == [word.lower() for word in command[: name.count("|") + 1]]
        assert all("partyline:{a}:" in word for word in command if ":" in word)


# --- the forecast -----------------------------------------------------------------------------------------


def test_a_forecast_is_the_rate_times_the_retention() -> None:
    """1,000 entries of 1,000 bytes in two days: 500 a day, 3.5 MB in seven days."""
    found = forecast.forecast(Stream(1000, 1_000_000, NOW - 2 * DAY), NOW, 7 * DAY, GIB)

    assert found == forecast.Forecast(1000.0, 500.0, 2.0 * DAY, 3_500_000.0, 3_500_000.0, 7.0 * DAY)


def test_a_forecast_ends_where_the_setting_does() -> None:
    """The same with 1,000,000 bytes allowed: they reach back two days."""
    found = forecast.forecast(Stream(1000, 1_000_000, NOW - 2 * DAY), NOW, 7 * DAY, 1_000_000)

    assert found is not None
    assert (found.wanted_bytes, found.kept_bytes, found.reach_seconds) == (3_500_000.0, 1_000_000.0, 2.0 * DAY)


@pytest.mark.parametrize("stream", [Stream(0, 0, None), Stream(1, 0, NOW), Stream(1, 5, None)])
def test_nothing_is_told_of_nothing(stream: Stream) -> None:
    """An empty stream, or one whose bytes are not counted, has no rate."""
    assert forecast.forecast(stream, NOW, DAY, GIB) is None


EMPTY = Stream(0, 0, None)
#: 1 MiB in one day: 7 MiB in seven.
CALM = Stream(1024, MIB, NOW - DAY)
#: 1 GiB in one day: 7 GiB in seven, of 1 GiB allowed.
BUSY = Stream(1024 * 1024, GIB, NOW - DAY)
#: The same within a minute.
BURST = Stream(1024, MIB, NOW - 60)


@pytest.mark.parametrize(
    ("captures", "info", "found"),
    [
        (EMPTY, {}, [("note", "retention")]),
        (CALM, {"maxmemory": str(GIB)}, []),
        (CALM, {"maxmemory": str(10 * MIB)}, [("warning", "memory")]),
        (CALM, {"maxmemory": str(16 * MIB)}, [("note", "memory")]),
        (CALM, {"total_system_memory": str(GIB)}, []),
        (CALM, {"total_system_memory": str(10 * MIB)}, [("warning", "memory")]),
        (CALM, {}, [("note", "memory")]),
        (BUSY, {"maxmemory": str(8 * GIB)}, [("warning", "retention.captures")]),
        (
            BUSY,
            {"maxmemory": str(3 * GIB), "used_memory_dataset": str(4 * GIB)},
            [("warning", "retention.captures"), ("warning", "memory")],
        ),
        (BURST, {"maxmemory": str(8 * GIB)}, [("note", "retention.captures")]),
    ],
)
def test_what_comes_is_held_against_what_there_is(
    captures: Stream, info: dict[str, str], found: list[tuple[str, str]]
) -> None:
    """7 MiB need 14, twice their size while that is not measured; a GiB that takes four needs four."""
    kept = [Kept(0, captures, EMPTY)]

    assert levels(forecast.judge(kept, a_server(info=info), Retention(), NOW)) == found


def test_partitions_of_one_server_come_together() -> None:
    """Two partitions of 7 MiB each are 28 MiB in memory."""
    kept = [Kept(0, CALM, EMPTY), Kept(1, CALM, EMPTY)]
    found = list(forecast.judge(kept, a_server(info={"maxmemory": str(20 * MIB)}), Retention(), NOW))

    assert levels(found) == [("warning", "memory")]
    assert [each.subject for each in found[:2]] == ["retention.captures", "retention.captures, partition 1"]
    assert "14.0 MiB, some 28.0 MiB in memory (2.0 for each byte), of 20.0 MiB" in found[-1].sentence


# --- a partition at work ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"held": True}, []),
        ({"held": True, "waiting": 9, "waited_seconds": 29.0}, []),
        ({"held": True, "waiting": 9, "waited_seconds": 31.0}, [("warning", "partition 3")]),
        ({}, [("note", "partition 3")]),
        ({"waiting": 1, "waited_seconds": 1.0}, [("warning", "partition 3")]),
        ({"wanted": True, "waiting": 1}, [("note", "partition 3")]),
        ({"begun": False}, [("note", "partition 3")]),
        ({"held": True, "foreign": ("id_key: another",)}, [("mistake", "partition 3")]),
        ({"held": True, "dead": 2, "dead_reasons": {"unreadable": 2}}, [("warning", "partition 3")]),
        ({"held": True, "quarantined": 1, "quarantine_reasons": {"x": 1}}, [("warning", "partition 3")]),
    ],
)
def test_a_partition_is_judged(changes: dict[str, Any], found: list[tuple[str, str]]) -> None:
    """Whose it is, whether somebody commits and keeps up, and what lies aside."""
    assert levels(working.judge(Work(**{"partition": 3, "begun": True, **changes}))) == found


def test_the_most_frequent_reasons_come_first() -> None:
    """Five of them at most; alike in number, by name."""
    reasons = {"a": 1, "f": 3, "b": 1, "c": 1, "d": 1, "e": 2}
    [_, letters] = working.judge(Work(partition=0, begun=True, held=True, dead=9, dead_reasons=reasons))

    assert "(f 3, e 2, a 1, b 1, c 1)" in letters.sentence


# --- this host --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"unusable": "it cannot be written"}, [("mistake", "spool.dir")]),
        ({"free_bytes": 1023 * MIB}, [("warning", "spool.max")]),
        ({"free_bytes": 1023 * MIB, "bytes": 2 * MIB}, []),
        ({"kind": "tmpfs"}, [("warning", "spool.dir")]),
        ({"kind": "overlay"}, [("warning", "spool.dir")]),
        ({"kind": "nfs4"}, [("warning", "spool.dir")]),
        ({"kind": "ext4"}, []),
        ({"shared_with_redis": True}, [("note", "spool.dir")]),
        ({"captures": 3, "bytes": 30, "oldest_seconds": 5.0}, [("note", "spool.dir")]),
        ({"captures": 3, "bytes": 30, "oldest_seconds": 61.0}, [("warning", "spool.dir")]),
        ({"damaged": ("a", "b")}, [("warning", "spool.dir")] * 2),
    ],
)
def test_a_spool_is_judged(changes: dict[str, Any], found: list[tuple[str, str]]) -> None:
    """Whether a GiB more would fit, on what it lies, what waits in it and what was damaged."""
    assert levels(spooling.judge(Disk(**{"free_bytes": 2 * GIB, **changes}), Spool(max_bytes=GIB))) == found


@pytest.mark.parametrize(
    ("skew", "margin", "level"),
    [(0.5, 0.1, "ok"), (-1.9, 0, "ok"), (2.5, 0.1, "note"), (2.5, 1.0, "ok"), (-40, 1, "warning"), (31, 2, "note")],
)
def test_a_clock_is_judged_by_what_is_certain(skew: float, margin: float, level: str) -> None:
    """Two seconds are noted, thirty hurt; what the question itself took is not held against it."""
    assert clocks.judge_redis("partition 0", skew, margin).level == level


@pytest.mark.parametrize(
    ("delays", "found"),
    [
        ([], []),
        ([-100.0] * 4, []),
        ([0.5, 3.0, 800.0, 1.0, 2.0], ["ok"]),
        ([0.5, 3.0, -31.0, 1.0, 2.0], ["warning"]),
        ([90.0, 61.0, 800.0, 70.0, 100.0], ["note"]),
        ([90.0, 59.0, 800.0, 70.0, 100.0], ["ok"]),
    ],
)
def test_the_quickest_callback_tells_of_the_clock(delays: list[float], found: list[str]) -> None:
    """Fewer than five tell nothing; nothing is received before it happens, and one of several is quick."""
    assert [each.level for each in clocks.judge_providers(delays)] == found


# --- the URL ----------------------------------------------------------------------------------------------

LARGE = b" " * 70_000


@pytest.mark.parametrize(
    ("probe", "level", "word"),
    [
        ({"purpose": "account", "status": None, "error": "ConnectError: refused"}, "mistake", "ConnectError"),
        ({"purpose": "account", "status": 405, "reason": "method_not_allowed"}, "ok", "reaches"),
        ({"purpose": "account", "status": 403, "reason": "handshake_refused"}, "ok", "reaches"),
        ({"purpose": "account", "status": 404, "reason": "unknown_account"}, "mistake", "does not know the account"),
        ({"purpose": "account", "status": 404, "reason": "not_found"}, "mistake", "another path"),
        ({"purpose": "account", "status": 403, "reason": "source_refused"}, "note", "reaches a receiver"),
        ({"purpose": "body", "status": 403, "reason": "source_refused"}, "note", "reaches a receiver"),
        ({"purpose": "large", "status": 403, "reason": "source_refused"}, "note", "reaches a receiver"),
        ({"purpose": "account", "status": 404}, "mistake", "Something else answers"),
        ({"purpose": "account", "status": 200}, "mistake", "Something else answers"),
        ({"purpose": "account", "status": 301}, "mistake", "redirected"),
        ({"purpose": "inside", "status": 404}, "ok", "Not to be had"),
        ({"purpose": "inside", "status": 404, "reason": "not_found"}, "ok", "Not to be had"),
        ({"purpose": "inside", "status": 403}, "ok", "Not to be had"),
        ({"purpose": "inside", "status": 200}, "warning", "from outside"),
        ({"purpose": "inside", "status": 401, "reason": "unauthentic"}, "warning", "from outside"),
        ({"purpose": "inside", "status": 200, "subject": "/readyz"}, "note", "from outside"),
        (
            {"purpose": "body", "status": 401, "reason": "probe", "body": ODD_BODY, "detail": described(ODD_BODY)},
            "ok",
            "byte for byte",
        ),
        (
            {"purpose": "body", "status": 401, "reason": "probe", "body": ODD_BODY, "detail": described(b"{}")},
            "mistake",
            "arrives changed (2 bytes)",
        ),
        ({"purpose": "body", "status": 401, "body": ODD_BODY}, "mistake", "Something else answers"),
        ({"purpose": "body", "status": 401, "reason": "signature_missing", "body": ODD_BODY}, "mistake", "401"),
        (
            {"purpose": "large", "status": 401, "reason": "probe", "body": LARGE, "detail": "70000 bytes arrived"},
            "ok",
            "68.4 KiB",
        ),
        ({"purpose": "large", "status": 413, "body": LARGE}, "warning", "The proxy refuses"),
        ({"purpose": "large", "status": 413, "reason": "body_too_large", "body": LARGE}, "warning", "body_too_large"),
        ({"purpose": "large", "status": 502, "body": LARGE}, "warning", "502"),
    ],
)
def test_an_answer_of_the_url_is_judged(probe: dict[str, Any], level: str, word: str) -> None:
    """Ours as it is due; ours with another reason; somebody else's; none."""
    [found] = proxy.judge(Probe(**{"subject": "accounts.a", **probe}))

    assert (found.level, word in found.sentence) == (level, True)


def test_a_slow_answer_is_told_too() -> None:
    """A second and a half are nearly what Telnyx waits for."""
    probe = Probe(purpose="account", subject="a", status=405, reason="method_not_allowed", seconds=1.6)

    assert levels(proxy.judge(probe)) == [("warning", "a")]
