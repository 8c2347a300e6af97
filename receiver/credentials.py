"""Credentials for developing with: random ones, a key pair where a provider signs with one, and what to do with them.

The settings are those that a provider's schemes name. What is random comes from the operating system.
"""

import secrets
from base64 import b64encode
from collections.abc import Callable
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from receiver.provider import Provider

#: 192 bits, 32 characters that stand for themselves in URLs, headers and files.
_TOKEN_BYTES = 24


class Credential(NamedTuple):
    """One value for a setting of an account."""

    setting: str
    #: What stands in the configuration.
    value: str
    #: What only the other side has, in words; empty where both sides have the value.
    counterpart: str
    #: What to tell the provider, or to know.
    advice: str


def token() -> str:
    """A secret that nobody can guess."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def settings_of(provider: Provider) -> list[str]:
    """The settings that hold an account's credentials, in the order of its schemes; then the handshake's."""
    handshake = [provider.handshake_setting] if provider.handshake_setting else []
    return [*dict.fromkeys(scheme.setting for scheme in provider.schemes), *handshake]


def credential(provider: Provider, account: str, setting: str) -> Credential:
    """A new credential for a setting. `account`: the name that its URL will have."""
    value, counterpart = MAKERS[setting]()
    url = f"/webhooks/{provider.name}/{account}"
    return Credential(setting, value, counterpart, _ADVICE[setting].format(url=url, value=value))


def _key_pair() -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    seed = b64encode(key.private_bytes_raw()).decode()
    return b64encode(key.public_key().public_bytes_raw()).decode(), f"the private key (base64 of its seed) is {seed}"


def _secret() -> tuple[str, str]:
    return token(), ""


def _user_and_password() -> tuple[str, str]:
    return "partyline:" + token(), ""


#: How to make one for each setting there is: the public value, and what only the other side has.
MAKERS: dict[str, Callable[[], tuple[str, str]]] = {
    "public_keys": _key_pair,
    "secrets": _secret,
    "app_secrets": _secret,
    "url_tokens": _secret,
    "basic_auth": _user_and_password,
    "verify_tokens": _secret,
}

_ADVICE = {
    "public_keys": "for signing test callbacks yourself; real ones are signed with a key of the provider's: the public "
    "half that its portal shows belongs here in production",
    "secrets": "give the provider this secret where it asks for the webhook's, with the URL that ends in {url}",
    "app_secrets": "for signing test callbacks yourself; real ones are signed with the secret that the app's basic "
    "settings show: that one belongs here in production",
    "url_tokens": "where callbacks come with nothing else, give the provider the URL that ends in {url}/{value}",
    "basic_auth": "give the provider user and password, where it asks for them, or in the URL: "
    "https://user:password@…{url}",
    "verify_tokens": "type it into the provider's form beside the URL that ends in {url}: it asks for it once",
}
