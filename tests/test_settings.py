import base64
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from correlator.redis_client import connect
from receiver.provider import Provider
from receiver.schemes import BasicAuth, Ed25519, HubSignature, SharedSecret, SinchHmac, UrlToken
from receiver.settings import Settings, explain, load, parse
from receiver.settings.formats import duration, size, written_age, written_duration, written_size
from schemas.callback import AccountFacts
from schemas.errors import ConfigError

PUBLIC_KEY = base64.b64encode(bytes(range(1, 33))).decode()
OTHER_KEY = base64.b64encode(bytes(range(2, 34))).decode()
URL_TOKEN = "kQ7-vX_02mBzPq9d"
EXAMPLE = Path(__file__).parent.parent / "deploy" / "partyline.example.toml"

PROVIDERS = {
    "telnyx": Provider("telnyx", (Ed25519(),), lambda _: [], lambda _: []),
    "sendblue": Provider("sendblue", (SharedSecret(b"sb-signing-secret"), UrlToken()), lambda _: [], lambda _: []),
    "sinch": Provider("sinch", (SinchHmac(), BasicAuth(), UrlToken()), lambda _: [], lambda _: []),
    "whatsapp": Provider("whatsapp", (HubSignature(),), lambda _: [], lambda _: [], handshake_setting="verify_tokens"),
}


def read(document: Mapping[str, Any], environ: Mapping[str, str] | None = None, base: Path = Path()) -> Settings:
    """Parse with the test's own providers."""
    return parse(document, environ or {}, base, PROVIDERS)


def mistakes(document: Mapping[str, Any], environ: Mapping[str, str] | None = None, base: Path = Path()) -> list[str]:
    """The mistakes that parsing must raise."""
    with pytest.raises(ConfigError) as caught:
        read(document, environ, base)
    return caught.value.mistakes


def telnyx(**more: Any) -> dict[str, Any]:
    """A document with one right Telnyx account."""
    return {"accounts": {"main": {"provider": "telnyx", "public_keys": [PUBLIC_KEY], **more}}}


def sinch(**more: Any) -> dict[str, Any]:
    """A document with one right Sinch account."""
    return {"accounts": {"main": {"provider": "sinch", "secrets": ["winter-fern"], **more}}}


def rows(settings: Settings) -> dict[tuple[str, str], str]:
    """What `explain` says, by level and key path."""
    return {(row.level, row.path): row.sentence for row in explain(settings)}


# --- defaults and values ---


def test_nothing_written_gives_the_defaults_of_the_contract() -> None:
    """An empty document is a configuration: every setting has the default that the contract gives."""
    settings = read({})

    assert settings.namespace == "default"
    assert settings.id_key == b""
    assert (settings.server.host, settings.server.port, settings.server.admin_port) == ("127.0.0.1", 8080, None)
    assert (settings.server.workers, settings.server.api_tokens, settings.server.trusted_proxies) == (1, (), ())
    assert settings.server.replay_tokens == ()
    assert (settings.server.max_body_bytes, settings.server.max_in_flight_bytes) == (16_777_216, 67_108_864)
    assert settings.server.body_timeout_seconds == 10
    assert (settings.redis.url, settings.redis.data_dir) == ("embedded", Path(".partyline"))
    assert (settings.redis.durability, settings.redis.wait_replicas) == ("always", 0)
    assert (settings.redis.write_deadline_seconds, settings.redis.partitions) == (1, 1)
    assert (settings.spool.dir, settings.spool.max_bytes) == (Path(".partyline/spool"), 1_073_741_824)
    assert (settings.retention.captures_seconds, settings.retention.captures_max_bytes) == (604_800, 1_073_741_824)
    assert (settings.retention.events_seconds, settings.retention.events_max_bytes) == (2_592_000, 1_073_741_824)
    assert (settings.retention.messages_seconds, settings.retention.dedupe_seconds) == (2_592_000, 691_200)
    assert settings.correlation.copy_window_seconds == 10
    assert settings.accounts == {}


def test_every_setting_can_be_written() -> None:
    """Each setting of the sections reaches its field, in bytes and seconds."""
    settings = read(
        {
            "namespace": "eu-1",
            "id_key": "a long key of somebody",
            "server": {
                "host": "::1",
                "port": 0,
                "admin_port": 9001,
                "workers": 4,
                "api_tokens": ["first", "second"],
                "replay_tokens": ["sixteen-or-more-1", "sixteen-or-more-2"],
                "max_body": "1MB",
                "max_in_flight": 2_000_000,
                "body_timeout": "500ms",
                "trusted_proxies": ["10.0.0.0/8", "2001:db8::1"],
            },
            "redis": {
                "url": "rediss://user:p%40ss@redis.example:6380/2",
                "data_dir": "data",
                "durability": "everysec",
                "wait_replicas": 2,
                "write_deadline": "1.5s",
                "partitions": 8,
            },
            "spool": {"dir": "/var/spool/partyline", "max": "512KiB"},
            "retention": {
                "captures": "2h",
                "captures_max": "10GB",
                "events": "90m",
                "events_max": "7B",
                "messages": "1d",
                "dedupe": "26h",
            },
            "correlation": {"copy_window": 0},
        }
    )

    assert (settings.namespace, settings.id_key) == ("eu-1", b"a long key of somebody")
    assert (settings.server.host, settings.server.port, settings.server.admin_port) == ("::1", 0, 9001)
    assert (settings.server.workers, settings.server.api_tokens) == (4, ("first", "second"))
    assert settings.server.replay_tokens == ("sixteen-or-more-1", "sixteen-or-more-2")
    assert (settings.server.max_body_bytes, settings.server.max_in_flight_bytes) == (1_000_000, 2_000_000)
    assert settings.server.body_timeout_seconds == 0.5
    assert settings.server.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("2001:db8::1/128"))
    assert settings.redis.url == "rediss://user:p%40ss@redis.example:6380/2"
    assert (settings.redis.data_dir, settings.redis.durability) == (Path("data"), "everysec")
    assert (settings.redis.wait_replicas, settings.redis.partitions) == (2, 8)
    assert settings.redis.write_deadline_seconds == 1.5
    assert (settings.spool.dir, settings.spool.max_bytes) == (Path("/var/spool/partyline"), 524_288)
    assert (settings.retention.captures_seconds, settings.retention.captures_max_bytes) == (7200, 10_000_000_000)
    assert (settings.retention.events_seconds, settings.retention.events_max_bytes) == (5400, 7)
    assert (settings.retention.messages_seconds, settings.retention.dedupe_seconds) == (86_400, 93_600)
    assert settings.correlation.copy_window_seconds == 0


def test_an_account_carries_what_decisions_need() -> None:
    """Lines become canonical, and the facts hold them beside the windows of the other sections."""
    settings = read(
        {
            **sinch(
                lines=["+1 (555) 555-0110", "sinch:40404", "MYSHOP"],
                default_line="1 555 555 0110",
                url_tokens=[URL_TOKEN],
                basic_auth=["bob:pa:ss"],
                on_unauthentic="quarantine",
            ),
            "retention": {"dedupe": "10d"},
            "correlation": {"copy_window": "3s"},
        }
    )

    account = settings.accounts["main"]
    assert (account.name, account.provider, account.on_unauthentic) == ("main", "sinch", "quarantine")
    assert account.credentials == {
        "secrets": ("winter-fern",),
        "basic_auth": ("bob:pa:ss",),
        "url_tokens": (URL_TOKEN,),
    }
    assert account.facts == AccountFacts(
        lines=("+15555550110", "sinch:40404", "sinch:MYSHOP"),
        default_line="+15555550110",
        dedupe_seconds=864_000,
        copy_window_seconds=3.0,
    )
    assert (account.lines, account.default_line) == (account.facts.lines, "+15555550110")
    assert (account.strict_groups, account.unsafe_no_auth) == (False, False)


def test_strict_groups_reaches_the_facts() -> None:
    """`strict_groups` of a Telnyx account is a fact of its captures."""
    assert read(telnyx(strict_groups=True)).accounts["main"].facts.strict_groups is True


def test_an_admin_port_like_the_port_is_none() -> None:
    """An `admin_port` that repeats `port` means the same as leaving it out."""
    assert read({"server": {"port": 9000, "admin_port": 9000}}).server.admin_port is None


@pytest.mark.parametrize(
    ("text", "count"),
    [("16MiB", 16_777_216), ("2 GB", 2_000_000_000), ("3kB", 3000), ("1KIB", 1024), ("12", 12), (12, 12), ("5B", 5)],
)
def test_sizes_are_bytes(text: Any, count: int) -> None:
    """A size is read in binary and decimal units; a bare number is bytes."""
    assert size(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("300ms", 0.3), ("7d", 604_800), ("2h", 7200), ("1m", 60), ("0", 0), (0, 0), ("0s", 0)],
)
def test_durations_are_seconds(text: Any, seconds: float) -> None:
    """A duration is read exactly; zero alone needs no unit."""
    assert duration(text) == seconds


def test_sizes_and_durations_are_written_as_they_are_read() -> None:
    """What people are shown can be copied into the file."""
    written = [written_duration(691_200), written_duration(90), written_duration(0.5), written_duration(0)]

    assert written == ["8d", "90s", "500ms", "0s"]
    assert [written_size(16_777_216), written_size(3_221_225_472), written_size(1000)] == ["16MiB", "3GiB", "1000B"]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(-3.0, "0s"), (0.4, "0s"), (119.9, "119s"), (120.0, "2m"), (7199.0, "119m"), (7201.0, "2h"), (172_801.0, "2d")],
)
def test_an_age_is_cut_to_what_a_person_asks_for(seconds: float, written: str) -> None:
    """Never `7201s`; nor is `1h` said of what is nearly two."""
    assert written_age(seconds) == written


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://redis.example:70/0?password=a@b",
        "redis://:pa/ss@redis.example",
        "redis://:p#ss@redis.example",
        "redis://:p@ss@redis.example",
        "redis://[::1",
        "redis://redis.example:6379x",
        "redis://redis.example:0",
        "redis://redis.example:65536",
        "unix://",
        "http://redis.example",
        "redis:redis.example",
        "embeded",
        "",
        7,
    ],
)
def test_a_redis_url_that_cannot_be_meant_is_a_mistake(url: Any) -> None:
    """A URL with another scheme, without a server, or with a password that splits it is refused unseen."""
    found = mistakes({"redis": {"url": url}})

    assert [mistake.partition(":")[0] for mistake in found] == ["redis.url"]
    assert "ss" not in found[0].replace("password", "").replace("rediss", "")


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis.example",
        "unix:///run/redis.sock",
        "unix://user:secret@/run/redis.sock",
        "redis+sentinel://:s@one.example:26379,two.example:26379/main/0",
        "redis+cluster://one.example:7000",
    ],
)
def test_the_redis_urls_of_the_contract_are_taken(url: str) -> None:
    """Standalone, socket, Sentinel and Cluster URLs are kept as they are."""
    assert read({"redis": {"url": url}}).redis.url == url


# --- mistakes ---


@pytest.mark.parametrize(
    ("document", "mistake"),
    [
        ({"namespace": "Default"}, "namespace: is not 1 to 32 of a-z, 0-9 and -"),
        ({"namespace": ""}, "namespace: is empty; fill it in, or remove it"),
        ({"namespace": 5}, "namespace: is not a text; write it in quotes"),
        ({"server": {"port": 65536}}, "server.port: is out of range; give a whole number from 0 to 65535"),
        ({"server": {"admin_port": 0}}, "server.admin_port: is out of range; give a whole number from 1 to 65535"),
        ({"server": {"workers": True}}, "server.workers: is not a whole number of 1 or more"),
        ({"server": {"workers": 0}}, "server.workers: is out of range; give a whole number of 1 or more"),
        ({"server": {"workers": 1.5}}, "server.workers: is not a whole number of 1 or more"),
        ({"redis": {"partitions": 0}}, "redis.partitions: is out of range; give a whole number of 1 or more"),
        ({"redis": {"wait_replicas": -1}}, "redis.wait_replicas: is out of range; give a whole number of 0 or more"),
        ({"redis": {"durability": []}}, "redis.durability: is none of always, everysec, none"),
        (
            {"redis": {"durability": "alway"}},
            'redis.durability: is none of always, everysec, none, did you mean "always"?',
        ),
        (
            {"redis": {"wait_replicas": 1}},
            "redis.wait_replicas: the embedded server has no replicas; remove it, or name a url",
        ),
        (
            {"server": {"max_body": "16M"}},
            'server.max_body: is not a size; write for example "16MiB" (KiB, MiB, GiB, KB, MB, GB, B)',
        ),
        ({"spool": {"max": 0}}, "spool.max: is zero; nothing would fit"),
        ({"spool": {"dir": ""}}, "spool.dir: is empty; fill it in, or remove it"),
        (
            {"server": {"body_timeout": 10}},
            'server.body_timeout: is not a duration; write for example "10s" (ms, s, m, h, d)',
        ),
        ({"server": {"body_timeout": "0"}}, "server.body_timeout: is zero; give it some time"),
        ({"retention": {"events": "1500ms"}}, "retention.events: is not a whole number of seconds"),
        ({"retention": {"events": "999999d"}}, "retention.events: is longer than a century"),
        (
            {"correlation": {"copy_window": True}},
            'correlation.copy_window: is not a duration; write for example "10s" (ms, s, m, h, d)',
        ),
        (
            {"server": {"trusted_proxies": ["10.0.0.1/8"]}},
            (
                'server.trusted_proxies[0]: is not a network such as "10.0.0.0/8" (with no bit set after the prefix) '
                "or a single address"
            ),
        ),
        (
            {"server": {"api_tokens": ["fine", "not fine"]}},
            "server.api_tokens[1]: holds a space or a character beyond ASCII, which no Authorization header can hold",
        ),
        (
            {"server": {"replay_tokens": ["f\u00e9rn-f\u00e9rn-f\u00e9rn-f\u00e9rn"]}},
            "server.replay_tokens[0]: holds a space or a character beyond ASCII, which no header can hold",
        ),
        (
            {"server": {"replay_tokens": ["sixteen-or-more-", "fifteen-is-less"]}},
            ("server.replay_tokens[1]: has fewer than 16 characters and can be guessed; take random ones"),
        ),
        ({"server": {"api_tokens": "one"}}, "server.api_tokens: is not a list; write api_tokens = [ … ]"),
        (
            {"server": {"max_body": "2MiB", "max_in_flight": "1MiB"}},
            "server.max_in_flight: is less than max_body, so the largest body would always be refused; raise it",
        ),
        (
            {"retention": {"captures": "14d"}},
            'retention.dedupe: is shorter than captures + 1d; write at least "15d", or keep captures shorter',
        ),
        ({"redis": "embedded"}, "redis: is not a table; write its settings under [redis]"),
        ({"accounts": 3}, "accounts: is not a table; write its settings under [accounts]"),
        (
            {"server": {"host": "env:HOST"}},
            "server.host: only secrets can be written env:NAME or file:PATH; set PARTYLINE_SERVER__HOST instead",
        ),
    ],
)
def test_a_mistake_names_its_key_and_what_to_do(document: Mapping[str, Any], mistake: str) -> None:
    """One wrong value gives one mistake, under its key path, with the way out."""
    assert mistakes(document) == [mistake]


def test_all_mistakes_come_at_once() -> None:
    """A document with mistakes everywhere is told all of them, not the first."""
    found = mistakes(
        {
            "namespace": "No Spaces",
            "id_key": "env:NOWHERE",
            "sever": {},
            "server": {"prot": 1, "api_tokens": ["twice", "twice", ""]},
            "retention": {"captures": "a week", "dedupe": "2d"},
            "accounts": {
                "Main": {"provider": "telnyx", "public_keys": [PUBLIC_KEY, "c2hvcnQ="]},
                "b": {"provider": "telnix", "secrets": ["env:GONE"], "colour": "blue"},
            },
        },
        {"PARTYLINE_REDIS__PARTITIONS": "many"},
    )

    assert found == [
        (
            'sever: is not a setting, did you mean "server"? '
            "(there are accounts, correlation, id_key, namespace, redis, retention, server, spool)"
        ),
        "namespace: is not 1 to 32 of a-z, 0-9 and -",
        "id_key: the environment variable NOWHERE is not set or empty; set it, or remove the key",
        (
            'server.prot: is not a setting, did you mean "port"? (there are admin_port, api_tokens, body_timeout, '
            "host, max_body, max_in_flight, port, replay_tokens, trusted_proxies, workers)"
        ),
        "server.api_tokens[1]: stands twice in this list; remove one",
        "server.api_tokens[2]: is empty; fill it in, or remove it",
        "redis.partitions (from PARTYLINE_REDIS__PARTITIONS): is not a whole number of 1 or more",
        'retention.captures: is not a duration; write for example "10s" (ms, s, m, h, d)',
        "accounts.Main: is not a name of 1 to 64 of a-z, 0-9 and -; it stands in the account's URL",
        "accounts.Main.public_keys[1]: is the base64 of 5 bytes; a public key has 32",
        'accounts.b.provider: is none of sendblue, sinch, telnyx, whatsapp, did you mean "telnyx"?',
        (
            "accounts.b.colour: is not a setting (there are app_secrets, basic_auth, default_line, lines, "
            "on_unauthentic, provider, public_keys, secrets, sources, strict_groups, unsafe_no_auth, url_tokens, "
            "verify_tokens)"
        ),
        "accounts.b.secrets[0]: the environment variable GONE is not set or empty; set it, or remove the key",
    ]


@pytest.mark.parametrize(
    ("account", "mistake"),
    [
        ({}, "accounts.main.provider: is missing; write one of sendblue, sinch, telnyx, whatsapp"),
        (
            {"provider": "sinch"},
            (
                "accounts.main: has no credential; add secrets or basic_auth or url_tokens "
                "(unsafe_no_auth = true takes anything from anybody)"
            ),
        ),
        (
            {"provider": "whatsapp", "app_secrets": [], "verify_tokens": ["hello"]},
            "accounts.main: has no credential; add app_secrets (unsafe_no_auth = true takes anything from anybody)",
        ),
        (
            {"provider": "sendblue", "secrets": ["moss"], "unsafe_no_auth": True},
            "accounts.main.unsafe_no_auth: is true although there are secrets; remove one or the other",
        ),
        (
            {"provider": "sendblue", "secrets": ["moss"], "unsafe_no_auth": "no"},
            "accounts.main.unsafe_no_auth: is neither true nor false",
        ),
        (
            {"provider": "telnyx", "public_keys": [PUBLIC_KEY], "default_line": "+15555550110"},
            (
                "accounts.main.default_line: is a setting of sinch accounts, not of telnyx "
                "(there are lines, on_unauthentic, provider, public_keys, sources, strict_groups, unsafe_no_auth)"
            ),
        ),
        (
            {"provider": "whatsapp", "app_secrets": ["moss"], "secrets": ["fern"]},
            (
                "accounts.main.secrets: is a setting of sendblue and sinch accounts, not of whatsapp "
                "(there are app_secrets, lines, on_unauthentic, provider, sources, unsafe_no_auth, verify_tokens)"
            ),
        ),
        (
            {"provider": "sinch", "secrets": ["moss"], "on_unauthentic": "accept"},
            "accounts.main.on_unauthentic: is none of reject, defer, quarantine",
        ),
        (
            {"provider": "sinch", "url_tokens": ["short"]},
            "accounts.main.url_tokens[0]: is not 16 or more of A-Z, a-z, 0-9, _ and -",
        ),
        (
            {"provider": "sinch", "basic_auth": ["nobody"]},
            "accounts.main.basic_auth[0]: is not of the form user:password",
        ),
        (
            {"provider": "sinch", "secrets": ["moss"], "lines": ["+1555CALLME"]},
            'accounts.main.lines[0]: is not an address; write a number as "+" and 7 to 15 digits',
        ),
        (
            {"provider": "sinch", "secrets": ["moss"], "default_line": " "},
            'accounts.main.default_line: is not an address; write a number as "+" and 7 to 15 digits',
        ),
        (
            {"provider": "sinch", "secrets": ["moss"], "default_line": "9" * 400},
            "accounts.main.default_line: is too long for an address",
        ),
        (
            {"provider": "sinch", "secrets": ["moss"], "lines": ["+15555550110", "+1 555 555 0110"]},
            "accounts.main.lines[1]: stands twice in this list; remove one",
        ),
        (
            {"provider": "sinch", "secrets": ["moss"], "lines": ["env:LINE"]},
            "accounts.main.lines[0]: only secrets can be written env:NAME or file:PATH",
        ),
        (
            {"provider": "sinch", "secrets": ["moss"], "sources": "203.0.113.0/24"},
            "accounts.main.sources: is not a list; write sources = [ … ]",
        ),
        (
            {"provider": "sinch", "secrets": ["moss"], "sources": ["203.0.113.0/24", "203.0.113.7/24"]},
            (
                'accounts.main.sources[1]: is not a network such as "10.0.0.0/8" (with no bit set after the prefix) '
                "or a single address"
            ),
        ),
    ],
)
def test_a_mistake_in_an_account(account: Mapping[str, Any], mistake: str) -> None:
    """An account proves something, has the settings of its provider only, and each in its shape."""
    assert mistakes({"accounts": {"main": account}}) == [mistake]


def test_an_odd_key_is_quoted() -> None:
    """A key with a line break cannot forge a line among the mistakes."""
    found = mistakes({"accounts": {"a\nb": {"provider": "sinch", "secrets": ["moss"]}}})

    assert found == ['accounts."a\\nb": is not a name of 1 to 64 of a-z, 0-9 and -; it stands in the account\'s URL']


def test_an_account_that_is_no_table_is_one_mistake_and_its_consequences() -> None:
    """A value where an account should stand is named, and the pass goes on."""
    found = mistakes({"accounts": {"main": "telnyx"}})

    assert found == [
        "accounts.main: is not a table; write its settings under [accounts.main]",
        "accounts.main.provider: is missing; write one of sendblue, sinch, telnyx, whatsapp",
    ]


@pytest.mark.parametrize("account", [{"provider": "telnyx"}, {"provider": "whatsapp", "verify_tokens": ["hello"]}])
def test_unsafe_no_auth_stands_in_for_credentials(account: dict[str, Any]) -> None:
    """Without any credential, `unsafe_no_auth = true` is the way round; a handshake token is none."""
    assert read({"accounts": {"main": {**account, "unsafe_no_auth": True}}}).accounts["main"].unsafe_no_auth


# --- secrets ---


def test_secrets_come_from_variables_and_files(tmp_path: Path) -> None:
    """`env:` and `file:` stand for what they name; one newline at a file's end is dropped."""
    (tmp_path / "old").write_bytes(b"moss\n")
    (tmp_path / "older").write_bytes(b"fern\r\n")
    document = {
        "id_key": "env:KEY_OF_IDS",
        "redis": {"url": "env:REDIS_URL"},
        "accounts": {"main": {"provider": "sendblue", "secrets": ["env:NEW", "file:old", f"file:{tmp_path}/older"]}},
    }

    settings = read(document, {"KEY_OF_IDS": "key", "NEW": "bark", "REDIS_URL": "redis://redis.example"}, tmp_path)

    assert settings.id_key == b"key"
    assert settings.redis.url == "redis://redis.example"
    assert settings.accounts["main"].credentials == {"secrets": ("bark", "moss", "fern")}


def test_only_one_newline_is_dropped(tmp_path: Path) -> None:
    """A second newline belongs to the secret, and its scheme says what is wrong with it."""
    (tmp_path / "secret").write_bytes(b"moss\n\n")

    found = mistakes({"accounts": {"main": {"provider": "sendblue", "secrets": ["file:secret"]}}}, base=tmp_path)

    assert found == ["accounts.main.secrets[0]: has white space around it"]


def test_a_source_that_gives_nothing_is_a_mistake(tmp_path: Path) -> None:
    """An unset or broken variable and a missing, empty or binary file are told by name, never by content."""
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    secrets = ["env:UNSET", "env:EMPTY", "env:BROKEN", "file:missing", "file:empty", "file:binary", "file:"]

    found = mistakes(
        {"accounts": {"main": {"provider": "sendblue", "secrets": secrets}}},
        {"EMPTY": "", "BROKEN": "p\udcffq"},
        tmp_path,
    )

    path = "accounts.main.secrets"
    assert found == [
        f"{path}[0]: the environment variable UNSET is not set or empty; set it, or remove the key",
        f"{path}[1]: the environment variable EMPTY is not set or empty; set it, or remove the key",
        f"{path}[2]: is not UTF-8",
        f"{path}[3]: the file {tmp_path}/missing cannot be read: No such file or directory",
        f"{path}[4]: is empty: file:empty holds nothing",
        f"{path}[5]: the file {tmp_path}/binary is not UTF-8 text",
        f"{path}[6]: the file {tmp_path} cannot be read: Is a directory",
    ]


def test_no_repr_shows_a_secret() -> None:
    """The whole configuration can be printed: keys, tokens, credentials and the URL stay hidden."""
    document = {
        "id_key": "hush-id",
        "server": {"api_tokens": ["hush-api"], "replay_tokens": ["hush-hush-hush-hush"]},
        "redis": {"url": "redis://:hush-redis@redis.example"},
        **sinch(basic_auth=["bob:hush-basic"]),
    }

    shown = repr(read(document))

    assert [word for word in ("hush", "winter-fern") if word in shown] == []


def test_no_mistake_shows_a_value() -> None:
    """A secret in the wrong shape or place is not repeated to whoever reads the mistakes."""
    hush = "hush hush"
    found = mistakes(
        {
            "namespace": hush,
            "id_key": [hush],
            "server": {
                "port": hush,
                "api_tokens": [hush],
                "replay_tokens": [hush],
                "max_body": hush,
                "trusted_proxies": [hush],
            },
            "redis": {"url": hush, "durability": hush, "write_deadline": hush},
            "accounts": {
                "a": {"provider": hush},
                "b": {"provider": "telnyx", "public_keys": [hush], "unsafe_no_auth": hush},
            },
        },
        {"PARTYLINE_ANYTHING": hush},
    )

    assert len(found) == 14
    assert [mistake for mistake in found if "hush" in mistake] == []


# --- the environment over the file ---


def test_every_kind_of_scalar_can_be_overridden() -> None:
    """Texts, numbers, booleans, sizes and durations are read from variables, over the file or without it."""
    document = {**sinch(lines=["+15555550110"]), "redis": {"url": "redis://one.example", "partitions": 2}}
    document["accounts"]["my-telnyx"] = {"provider": "telnyx", "public_keys": [PUBLIC_KEY]}

    settings = read(
        document,
        {
            "PARTYLINE_NAMESPACE": "eu",
            "PARTYLINE_ID_KEY": "from the environment",
            "PARTYLINE_SERVER__PORT": "9999",
            "PARTYLINE_SERVER__MAX_BODY": "1KiB",
            "PARTYLINE_SERVER__BODY_TIMEOUT": "2s",
            "PARTYLINE_REDIS__URL": "redis://two.example",
            "PARTYLINE_REDIS__PARTITIONS": "",
            "PARTYLINE_ACCOUNTS__MAIN__DEFAULT_LINE": "+1 555 555 0110",
            "PARTYLINE_ACCOUNTS__MY_TELNYX__STRICT_GROUPS": "true",
        },
    )

    assert (settings.namespace, settings.id_key) == ("eu", b"from the environment")
    assert (settings.server.port, settings.server.max_body_bytes) == (9999, 1024)
    assert settings.server.body_timeout_seconds == 2
    assert (settings.redis.url, settings.redis.partitions) == ("redis://two.example", 2)
    assert settings.accounts["main"].default_line == "+15555550110"
    assert settings.accounts["my-telnyx"].strict_groups is True
    assert document["redis"] == {"url": "redis://one.example", "partitions": 2}


def test_an_override_may_point_to_a_file(tmp_path: Path) -> None:
    """A variable for a secret can hold `file:PATH` or `env:NAME`, as the file can."""
    (tmp_path / "key").write_bytes(b"from a file\n")
    environ = {
        "PARTYLINE_ID_KEY": "file:key",
        "PARTYLINE_REDIS__URL": "env:PARTYLINE_SOMEWHERE",
        "PARTYLINE_SOMEWHERE": "redis://redis.example",
    }

    settings = read({}, environ, tmp_path)

    assert (settings.id_key, settings.redis.url) == (b"from a file", "redis://redis.example")


def test_a_variable_that_names_no_setting_is_a_mistake() -> None:
    """A slip in a variable's name is told, with the name that was meant; so is a list, and a missing account."""
    found = mistakes(
        telnyx(),
        {
            "PARTYLINE_SERVER_PORT": "1",
            "PARTYLINE_SERVER__API_TOKENS": "one,two",
            "PARTYLINE_ACCOUNTS__MAIN__PUBLIC_KEYS": OTHER_KEY,
            "PARTYLINE_ACCOUNTS__OTHER__PROVIDER": "telnyx",
        },
    )

    assert found == [
        (
            "PARTYLINE_ACCOUNTS__MAIN__PUBLIC_KEYS: accounts.main.public_keys is a list; "
            "only single values can be overridden"
        ),
        (
            "PARTYLINE_ACCOUNTS__OTHER__PROVIDER: names no setting, did you mean "
            '"PARTYLINE_ACCOUNTS__MAIN__PROVIDER"?; '
            "unset or rename it"
        ),
        'PARTYLINE_SERVER_PORT: names no setting, did you mean "PARTYLINE_SERVER__PORT"?; unset or rename it',
        "PARTYLINE_SERVER__API_TOKENS: server.api_tokens is a list; only single values can be overridden",
    ]


def test_an_override_of_another_providers_setting_is_a_mistake() -> None:
    """A variable is held to the same rules as the file, and named in the mistake."""
    found = mistakes(telnyx(), {"PARTYLINE_ACCOUNTS__MAIN__DEFAULT_LINE": "+15555550110"})

    assert found == [
        (
            "accounts.main.default_line (from PARTYLINE_ACCOUNTS__MAIN__DEFAULT_LINE): is a setting of sinch accounts, "
            "not of telnyx (there are lines, on_unauthentic, provider, public_keys, sources, strict_groups, "
            "unsafe_no_auth)"
        )
    ]


def test_an_override_of_bytes_that_are_no_text_is_a_mistake() -> None:
    """Bytes that are not UTF-8 reach no setting, not even the one that is turned into bytes."""
    found = mistakes({}, {"PARTYLINE_ID_KEY": "caf\udce9"})

    assert found == ["id_key (from PARTYLINE_ID_KEY): is not UTF-8"]


def test_an_override_below_something_that_is_no_table_changes_nothing() -> None:
    """The mistake in the file is told; the variable does not paper over it."""
    found = mistakes({"server": 8080}, {"PARTYLINE_SERVER__PORT": "9000"})

    assert found == ["server: is not a table; write its settings under [server]"]


def test_variables_that_are_no_settings_are_left_alone() -> None:
    """The path of the file, sources of secrets, and what Kubernetes adds for a service are no mistakes."""
    environ = {
        "PARTYLINE_CONFIG": "/etc/partyline.toml",
        "PARTYLINE_SHARED": "somewhere",
        "PARTYLINE_API_TOKEN": "token",
        "PARTYLINE_REPLAY_TOKEN": "token of another receiver",
        "PARTYLINE_KEY_ONE": PUBLIC_KEY,
        "PARTYLINE_SERVICE_HOST": "10.0.0.7",
        "PARTYLINE_SERVICE_PORT_HTTP": "8080",
        "PARTYLINE_PORT": "tcp://10.0.0.7:8080",
        "PARTYLINE_PORT_8080_TCP_ADDR": "10.0.0.7",
        "PARTYLINE_ADMIN_SERVICE_PORT": "8081",
        "PARTYLINE_FORGOTTEN": "",
        "PATH": "/bin",
    }

    settings = read(telnyx(public_keys=["env:PARTYLINE_KEY_ONE"]), environ)

    assert settings.accounts["main"].credentials == {"public_keys": (PUBLIC_KEY,)}


# --- files ---


def test_a_file_is_read_with_its_neighbours(tmp_path: Path) -> None:
    """`load` reads TOML, and `file:` starts from the folder of that file."""
    (tmp_path / "key").write_bytes(b"neighbour")
    config = tmp_path / "partyline.toml"
    config.write_text('id_key = "file:key"\n[server]\nport = 8099\n')

    settings = load(config, {"PARTYLINE_NAMESPACE": "eu"})

    assert (settings.namespace, settings.id_key, settings.server.port) == ("eu", b"neighbour", 8099)


def test_no_file_is_the_defaults_and_the_environment() -> None:
    """Without a file, the environment still counts."""
    assert load(None, {"PARTYLINE_REDIS__DURABILITY": "none"}).redis.durability == "none"


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (None, "cannot be read: No such file or directory; give another with --config"),
        (b"[server]\nport = \n", "is not valid TOML: Invalid value (at line 2, column 8)"),
        (b"\xff", "is not valid TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, content: bytes | None, mistake: str) -> None:
    """A missing file, wrong TOML (with line and column) and wrong bytes are mistakes like any other."""
    config = tmp_path / "partyline.toml"
    if content is not None:
        config.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        load(config, {})

    assert caught.value.mistakes == [f"{config}: {mistake}"]


def test_the_example_is_a_valid_configuration(tmp_path: Path) -> None:
    """The example in deploy/ holds only settings that exist, and explains itself without a warning."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "telnyx-public-key").write_text(PUBLIC_KEY + "\n")
    (tmp_path / "secrets" / "whatsapp-app-secret").write_text("moss\n")
    config = tmp_path / "partyline.toml"
    config.write_bytes(EXAMPLE.read_bytes())
    names = ("SENDBLUE_SECRET", "SINCH_SECRET", "SINCH_SECRET_OLD", "WHATSAPP_VERIFY_TOKEN")
    environ = {name: name.lower() for name in (*names, "PARTYLINE_API_TOKEN", "PARTYLINE_REPLAY_TOKEN")}

    settings = load(
        config, {**environ, "SENDBLUE_URL_TOKEN": URL_TOKEN, "PARTYLINE_ID_KEY": "thirty-two random characters, say"}
    )

    assert {account.provider for account in settings.accounts.values()} == set(PROVIDERS)
    assert [row for row in explain(settings) if row.level == "warning"] == []


# --- explain ---


def test_explain_shouts_about_what_can_hurt() -> None:
    """No id_key, weak durability, no check at all, and Sinch's refusal to retry a 401 are warnings."""
    document = {**sinch(), "redis": {"durability": "everysec"}}
    document["accounts"]["open"] = {"provider": "telnyx", "unsafe_no_auth": True}

    loud = [row.path for row in explain(read(document)) if row.level == "warning"]

    assert loud == ["id_key", "redis.durability", "accounts.main.on_unauthentic", "accounts.open.unsafe_no_auth"]


def test_explain_warns_of_a_short_id_key_and_of_no_accounts() -> None:
    """A key that can be guessed hides nothing, and without accounts nothing can arrive."""
    loud = [row.path for row in explain(read({"id_key": "short"})) if row.level == "warning"]

    assert loud == ["id_key", "accounts"]


def test_explain_notes_what_is_easily_overlooked() -> None:
    """Shared ports, what this version does not do, absent lines and tokens, and rotations under way are noted."""
    document = {
        "correlation": {"copy_window": "0"},
        "accounts": {
            "t": {"provider": "telnyx", "public_keys": [PUBLIC_KEY, OTHER_KEY], "strict_groups": True},
            "b": {"provider": "sendblue", "secrets": ["moss"], "lines": ["+15555550110"]},
            "s": {"provider": "sinch", "secrets": ["moss"], "on_unauthentic": "defer", "lines": ["+15555550111"]},
            "w": {"provider": "whatsapp", "app_secrets": ["moss"], "lines": ["+15555550112"]},
        },
    }

    noted = [row.path for row in explain(read(document)) if row.level == "note"]

    assert noted == [
        "server.admin_port",
        "server.api_tokens",
        "correlation.copy_window",
        "accounts.t.public_keys",
        "accounts.t.lines",
        "accounts.t.strict_groups",
        "accounts.b.url_tokens",
        "accounts.s.default_line",
        "accounts.w.verify_tokens",
    ]


def test_explain_says_where_callbacks_come_from() -> None:
    """An account with `sources` says so, what decides it, and what Sinch makes of a refusal; others say nothing."""
    networks = ["203.0.113.0/24", "2001:db8::7"]
    document = {**sinch(sources=networks), "server": {"trusted_proxies": ["10.0.0.0/8"]}}
    document["accounts"]["t"] = {"provider": "telnyx", "public_keys": [PUBLIC_KEY], "sources": networks}
    document["accounts"]["anywhere"] = {"provider": "telnyx", "public_keys": [PUBLIC_KEY]}

    said, unproxied = rows(read(document)), rows(read({"accounts": document["accounts"]}))

    assert said["ok", "accounts.t.sources"] == (
        "A request from anywhere but 203.0.113.0/24, 2001:db8::7/128 is answered 403, its body unread"
    )
    assert "never retries a 4xx" in said["warning", "accounts.main.sources"]
    assert not {("note", "accounts.t.sources"), ("warning", "accounts.t.sources")} & said.keys()
    assert "behind a proxy that is always the proxy" in unproxied["note", "accounts.t.sources"]
    assert [path for _, path in said if path.startswith("accounts.anywhere.sources")] == []


def test_explain_says_where_callbacks_arrive() -> None:
    """Each account has its URL; a URL token is masked, and without another credential is the only way in."""
    document = {
        "server": {"host": "::", "port": 0, "workers": 2},
        "accounts": {
            "a": {"provider": "sinch", "secrets": ["moss"], "url_tokens": [URL_TOKEN]},
            "b": {"provider": "sinch", "url_tokens": [URL_TOKEN]},
        },
    }

    said = rows(read(document))

    assert said["ok", "server.port"] == "Callbacks arrive at http://[::]:(any free port), served by 2 processes"
    assert said["ok", "accounts.a"] == "sinch posts to /webhooks/sinch/a and /webhooks/sinch/a/…"
    assert said["ok", "accounts.b"] == "sinch posts to /webhooks/sinch/b/…"


@pytest.mark.parametrize(
    ("server", "level", "sentence"),
    [
        (
            {},
            "note",
            "There is none, so /v1 is switched off: over HTTP no send is registered, nothing looked up or linked",
        ),
        (
            {"api_tokens": ["moss"]},
            "ok",
            "1 token opens http://127.0.0.1:8080/v1: registering sends, looking up and linking conversations",
        ),
        (
            {"api_tokens": ["moss", "fern"], "admin_port": 8081},
            "ok",
            "2 tokens open http://127.0.0.1:8081/v1: registering sends, looking up and linking conversations",
        ),
    ],
    ids=["none", "one", "two, during a rotation, on the admin port"],
)
def test_explain_says_whether_and_where_the_api_is_open(server: dict[str, Any], level: str, sentence: str) -> None:
    """Tokens open /v1 on the admin port, if there is one; without any it is off, which is easily overlooked."""
    said = [row for row in explain(read({"server": server})) if row.path == "server.api_tokens"]

    assert [(row.level, row.sentence) for row in said] == [(level, sentence)]


@pytest.mark.parametrize(
    ("tokens", "level", "begins"),
    [
        ([], "ok", "There is none: no other receiver can post its captures to this one"),
        (["sixteen-or-more-1"], "note", "1 token lets another receiver post its captures to every account here"),
        (
            ["sixteen-or-more-1", "sixteen-or-more-2"],
            "note",
            "2 tokens let another receiver post its captures to every account here",
        ),
    ],
)
def test_explain_says_who_else_is_believed(tokens: list[str], level: str, begins: str) -> None:
    """A replay token that is live is easily overlooked once it is no longer needed; without any, nobody has one."""
    said = [row for row in explain(read({"server": {"replay_tokens": tokens}})) if row.path == "server.replay_tokens"]

    assert [row.level for row in said] == [level]
    assert said[0].sentence.startswith(begins)


def test_a_provider_added_later_needs_nothing_here() -> None:
    """Its credentials are the settings that its schemes name, and every provider has lines."""
    acme = Provider("acme", (SharedSecret(b"x-acme", setting="passwords"),), lambda _: [], lambda _: [])
    account = {"provider": "acme", "passwords": ["moss"], "lines": ["+15555550110"]}

    settings = parse({"accounts": {"main": account}}, {}, Path(), {"acme": acme})

    assert settings.accounts["main"].credentials == {"passwords": ("moss",)}
    assert rows(settings)["ok", "accounts.main"] == "acme posts to /webhooks/acme/main"


def test_explain_shows_no_secret_and_no_number() -> None:
    """Tokens, passwords in URLs and full numbers stay out of what people see."""
    document = {
        "id_key": "hush-hush-hush-hush",
        "server": {
            "api_tokens": ["hush-api"],
            "replay_tokens": ["hush-hush-hush-hush"],
            "admin_port": 8081,
            "trusted_proxies": ["10.0.0.0/8"],
        },
        "redis": {"url": "redis://bob:hush@redis.example:6379/0?password=hush", "wait_replicas": 1, "partitions": 2},
        **sinch(
            basic_auth=["bob:hush"],
            url_tokens=["hush-hush-hush-hush"],
            lines=[f"+1555555011{digit}" for digit in range(7)],
            default_line="+15555550110",
        ),
    }

    said = rows(read(document))

    assert [sentence for sentence in said.values() if "hush" in sentence or "555" in sentence] == []
    assert said["ok", "redis.url"] == "Everything is in Redis at redis://redis.example:6379/0, in 2 partitions"
    assert (
        said["ok", "redis.durability"]
        == "A callback is answered 200 once Redis has it on disk, and 1 replica(s) have it"
    )
    assert said["ok", "accounts.main.lines"].endswith(": +1…10, +1…11, +1…12, +1…13, +1…14 and 2 more")


def test_an_option_of_a_redis_url_that_there_is_not_is_named() -> None:
    """What redis-py would only notice at the first command is said at the start, without the rest of the URL."""
    with pytest.raises(ConfigError, match=r"redis\.url: its options cannot be used: 'bogus'"):
        connect("redis://:hush@127.0.0.1/0?bogus=1", 1.0)
