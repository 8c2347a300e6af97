"""From `partyline.toml` and the environment to `Settings`, or to every mistake in them at once.

The tables below, and those of `receiver.settings.accounts`, are the whole contract: a key that is not in one is
a mistake. The defaults stand in `receiver.settings.values`.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from receiver.provider import Provider
from receiver.settings import accounts, formats
from receiver.settings.reading import KeyPath, Reading, Setting
from receiver.settings.values import DAY, Correlation, Redis, Retention, Server, Settings, Spool
from schemas.callback import AccountFacts
from schemas.errors import ConfigError

Providers = Mapping[str, Provider]

_PORT = formats.whole_number(1, 65535)

_TOP = {
    "namespace": Setting("namespace", formats.text_like("[a-z0-9-]{1,32}", "1 to 32 of a-z, 0-9 and -")),
    "id_key": Setting("id_key", formats.id_key, secret=True),
}
_SERVER = {
    "host": Setting("host", formats.text_like(r"[^\s/]+", "a host name or address")),
    "port": Setting("port", formats.whole_number(0, 65535)),
    "admin_port": Setting("admin_port", _PORT),
    "workers": Setting("workers", formats.whole_number(1)),
    "api_tokens": Setting("api_tokens", formats.bearer_token, many=True, secret=True),
    "replay_tokens": Setting("replay_tokens", formats.replay_token, many=True, secret=True),
    "max_body": Setting("max_body_bytes", formats.size),
    "max_in_flight": Setting("max_in_flight_bytes", formats.size),
    "body_timeout": Setting("body_timeout_seconds", formats.positive_duration),
    "trusted_proxies": Setting("trusted_proxies", formats.network, many=True),
}
_REDIS = {
    "url": Setting("url", formats.redis_url, secret=True),
    "data_dir": Setting("data_dir", formats.folder),
    "durability": Setting("durability", formats.word("always", "everysec", "none")),
    "wait_replicas": Setting("wait_replicas", formats.whole_number(0)),
    "write_deadline": Setting("write_deadline_seconds", formats.positive_duration),
    "partitions": Setting("partitions", formats.whole_number(1)),
}
_SPOOL = {
    "dir": Setting("dir", formats.folder),
    "max": Setting("max_bytes", formats.size),
}
_RETENTION = {
    "captures": Setting("captures_seconds", formats.whole_seconds),
    "captures_max": Setting("captures_max_bytes", formats.size),
    "events": Setting("events_seconds", formats.whole_seconds),
    "events_max": Setting("events_max_bytes", formats.size),
    "messages": Setting("messages_seconds", formats.whole_seconds),
    "dedupe": Setting("dedupe_seconds", formats.whole_seconds),
}
_CORRELATION = {"copy_window": Setting("copy_window_seconds", formats.duration)}
_SECTIONS: dict[str, dict[str, Setting]] = {
    "server": _SERVER,
    "redis": _REDIS,
    "spool": _SPOOL,
    "retention": _RETENTION,
    "correlation": _CORRELATION,
}


def secret_settings(providers: Iterable[Provider]) -> frozenset[str]:
    """The name of every setting that holds a secret: the last word of its key path."""
    sections = (_TOP, *_SECTIONS.values(), accounts.credential_settings(providers))
    return frozenset(name for section in sections for name, setting in section.items() if setting.secret)


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings in a file, or the defaults without one, with the environment's overrides.

    Raises ConfigError with every mistake.
    """
    if path is None:
        return parse({}, environ, Path())
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}; give another with --config"]) from error
    except ValueError as error:
        raise ConfigError([f"{path}: is not valid TOML: {error}"]) from error
    return parse(document, environ, path.parent)


def parse(
    document: Mapping[str, Any], environ: Mapping[str, str], base: Path, providers: Providers | None = None
) -> Settings:
    """The settings in a document.

    Args:
        document: as TOML gives it.
        environ: overrides, and what `env:NAME` refers to.
        base: the folder that `file:PATH` starts from.
        providers: those that there are; None: all of `receiver.providers`.

    Raises ConfigError with every mistake.
    """
    known = _all_providers() if providers is None else providers
    reading = Reading(environ, base)
    document = reading.overridden(document, _every_setting(document, known))
    reading.only([*_TOP, *_SECTIONS, "accounts"], document, ())
    top = reading.fields(_TOP, document, ())
    server = Server(**_section(reading, document, "server"))
    redis = Redis(**_section(reading, document, "redis"))
    spool = Spool(**_section(reading, document, "spool"))
    retention = Retention(**_section(reading, document, "retention"))
    correlation = Correlation(**_section(reading, document, "correlation"))
    _compare(reading, server, redis, retention)
    facts = AccountFacts(dedupe_seconds=retention.dedupe_seconds, copy_window_seconds=correlation.copy_window_seconds)
    configured = accounts.read(reading, document, known, facts)
    if reading.mistakes:
        raise ConfigError(reading.mistakes)
    return Settings(
        **top,
        server=server if server.admin_port != server.port else msgspec.structs.replace(server, admin_port=None),
        redis=redis,
        spool=spool,
        retention=retention,
        correlation=correlation,
        accounts=configured,
    )


def _all_providers() -> Providers:
    from receiver.providers import PROVIDERS  # noqa: PLC0415 - a caller with its own providers needs none of these

    return PROVIDERS


def _every_setting(document: Mapping[str, Any], providers: Providers) -> dict[KeyPath, bool]:
    """The path of each setting that this document could have, and whether it is a list."""
    every: dict[KeyPath, bool] = {(key,): setting.many for key, setting in _TOP.items()}
    for section, settings in _SECTIONS.items():
        every.update({(section, key): setting.many for key, setting in settings.items()})
    return every | accounts.every_setting(document, providers)


def _section(reading: Reading, document: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = reading.table(document, (name,))
    reading.only(_SECTIONS[name], table, (name,))
    return reading.fields(_SECTIONS[name], table, (name,))


def _compare(reading: Reading, server: Server, redis: Redis, retention: Retention) -> None:
    """Note settings that are right by themselves and wrong together."""
    captures, dedupe = ("retention", "captures"), ("retention", "dedupe")
    if reading.sound(captures, dedupe) and retention.dedupe_seconds < retention.captures_seconds + DAY:
        least = formats.written_duration(retention.captures_seconds + DAY)
        reading.note(dedupe, f'is shorter than captures + 1d; write at least "{least}", or keep captures shorter')
    max_body, in_flight = ("server", "max_body"), ("server", "max_in_flight")
    if reading.sound(max_body, in_flight) and server.max_in_flight_bytes < server.max_body_bytes:
        reading.note(in_flight, "is less than max_body, so the largest body would always be refused; raise it")
    if redis.url == "embedded" and redis.wait_replicas:
        reading.note(("redis", "wait_replicas"), "the embedded server has no replicas; remove it, or name a url")
