"""The `[accounts.<name>]` tables: which settings an account of a provider has, and what they mean.

Credentials are the settings that the provider's own schemes name, so a new provider adds nothing here.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from receiver.provider import Provider
from receiver.settings import formats
from receiver.settings.reading import KeyPath, Reading, Setting
from receiver.settings.values import Account
from schemas.callback import AccountFacts

Providers = Mapping[str, Provider]
#: What finds the mistake in a credential's shape, by the setting that holds it; several schemes may share one.
_Kinds = Mapping[str, Sequence[Callable[[str], str | None]]]

_NAME = re.compile("[a-z0-9-]{1,64}")
_HANDLING = {
    "on_unauthentic": Setting("on_unauthentic", formats.word("reject", "defer", "quarantine")),
    "unsafe_no_auth": Setting("unsafe_no_auth", formats.flag),
    "sources": Setting("sources", formats.network, many=True),
}
_SCALARS = frozenset(
    {"provider", "default_line", "strict_groups", *(key for key, setting in _HANDLING.items() if not setting.many)}
)
#: Settings of one provider alone, because its callbacks alone leave that question open.
_ONLY_OF = {"default_line": "sinch", "strict_groups": "telnyx"}


def every_setting(document: Mapping[str, Any], providers: Providers) -> dict[KeyPath, bool]:
    """The path of each setting that the accounts of a document could have, and whether it is a list."""
    tables = document.get("accounts")
    return {
        ("accounts", name, key): key not in _SCALARS
        for name in (tables if isinstance(tables, Mapping) else ())
        for key in _owners(providers)
    }


def read(
    reading: Reading, document: Mapping[str, Any], providers: Providers, facts: AccountFacts
) -> dict[str, Account]:
    """The accounts of a document by name; `facts` are what all of them have in common."""
    tables = reading.table(document, ("accounts",))
    return {name: _account(reading, tables, name, providers, facts) for name in tables}


def _account(
    reading: Reading, tables: Mapping[str, Any], name: str, providers: Providers, facts: AccountFacts
) -> Account:
    path = ("accounts", name)
    if not _NAME.fullmatch(name):
        reading.note(path, "is not a name of 1 to 64 of a-z, 0-9 and -; it stands in the account's URL")
    table = reading.table(tables, path)
    provider = _provider(reading, table, path, providers)
    _check_keys(reading, table, path, providers, provider)
    kinds = _kinds([provider]) if provider else dict.fromkeys(_kinds(providers.values()), ())
    handling = reading.fields(_HANDLING, table, path)
    credentials = reading.fields(_credential_settings(kinds), table, path)
    of_lines = reading.fields(_line_settings(provider.name if provider else ""), table, path)
    if provider:
        unsafe = handling.get("unsafe_no_auth", False)
        _check_proof(reading, table, path, [scheme.setting for scheme in provider.schemes], unsafe=unsafe)
    return Account(
        name=name,
        provider=provider.name if provider else "",
        credentials={setting: values for setting, values in credentials.items() if values},
        facts=msgspec.structs.replace(facts, **of_lines),
        **handling,
    )


def _provider(reading: Reading, table: Mapping[str, Any], path: KeyPath, providers: Providers) -> Provider | None:
    names = sorted(providers)
    if "provider" not in table:
        reading.note((*path, "provider"), f"is missing; write one of {', '.join(names)}")
    found = reading.fields({"provider": Setting("name", formats.word(*names))}, table, path)
    return providers[found["name"]] if found else None


def _check_keys(
    reading: Reading, table: Mapping[str, Any], path: KeyPath, providers: Providers, provider: Provider | None
) -> None:
    """Note the keys that no account has, and those that only accounts of other providers have."""
    owners = _owners(providers)
    if provider is None:
        reading.only(owners, table, path)
        return
    known = [key for key, names in owners.items() if provider.name in names]
    elsewhere = {
        key: f"is a setting of {' and '.join(names)} accounts, not of {provider.name}" for key, names in owners.items()
    }
    reading.only(known, table, path, elsewhere)


def _owners(providers: Providers) -> dict[str, list[str]]:
    """Each setting of an account, with the providers whose accounts have it."""
    everybody = sorted(providers)
    owners = dict.fromkeys(("provider", *_HANDLING, "lines"), everybody)
    owners |= {setting: [name] for setting, name in _ONLY_OF.items() if name in providers}
    for setting in _kinds(providers.values()):
        owners[setting] = [name for name in everybody if setting in _kinds([providers[name]])]
    return owners


def _kinds(providers: Iterable[Provider]) -> _Kinds:
    """The settings that hold credentials, in the order of the schemes; then the handshake's."""
    kinds: dict[str, list[Callable[[str], str | None]]] = {}
    for provider in providers:
        for scheme in provider.schemes:
            kinds.setdefault(scheme.setting, []).append(scheme.mistake)
        if provider.handshake_setting:
            kinds.setdefault(provider.handshake_setting, [])
    return kinds


def credential_settings(providers: Iterable[Provider]) -> dict[str, Setting]:
    """The settings that hold credentials of any of these providers."""
    return _credential_settings(_kinds(providers))


def _credential_settings(kinds: _Kinds) -> dict[str, Setting]:
    return {
        setting: Setting(setting, formats.credential(setting, mistakes), many=True, secret=True)
        for setting, mistakes in kinds.items()
    }


def _line_settings(provider: str) -> dict[str, Setting]:
    line = formats.line(provider)
    return {
        "lines": Setting("lines", line, many=True),
        "default_line": Setting("default_line", line),
        "strict_groups": Setting("strict_groups", formats.flag),
    }


def _check_proof(
    reading: Reading, table: Mapping[str, Any], path: KeyPath, settings: Sequence[str], *, unsafe: bool
) -> None:
    """Note an account that proves nothing, and one that says so although it does; a handshake proves no POST."""
    present = [setting for setting in settings if table.get(setting)]
    if unsafe and present:
        both = f"is true although there are {' and '.join(present)}; remove one or the other"
        reading.note((*path, "unsafe_no_auth"), both)
    elif not unsafe and not present:
        wanted = " or ".join(settings)
        reading.note(path, f"has no credential; add {wanted} (unsafe_no_auth = true takes anything from anybody)")
