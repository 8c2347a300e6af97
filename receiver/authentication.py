"""Prove an arrival to be the provider's, or our own: the only place where a `Callback` is made. Pure.

Every credential that a request presents must be right, and one suffices. So a request with a right URL token
and a wrong signature is refused: who can show one proof cannot hide that another one fails.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import NoReturn, Protocol

import msgspec

from receiver.provider import Provider, Scheme
from schemas.callback import ASSURANCES, AccountFacts, Arrival, Assurance, Callback, Headers
from schemas.errors import AuthenticationError, HandshakeRefused, SignatureMissing

#: Never stored, whatever the account accepts: proxies and clients put credentials of their own there.
_ALWAYS_SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie"})

#: Nor are these kept of a request that proved nothing: it may be another provider's, with that one's secret.
_LIKELY_SECRET = re.compile(rb"secret|token|passw|credential|api-?key|^x-.*authorization")

#: A scheme that held, and the index of its credential.
_Proof = tuple[Scheme, int]


class Account(Protocol):
    """What authentication needs to know of a configured account. `receiver.settings` has them."""

    @property
    def name(self) -> str:
        """The last segment of the account's URL."""
        ...

    @property
    def credentials(self) -> Mapping[str, tuple[str, ...]]:
        """Setting name to its values, as in `{"secrets": ("new", "old")}`."""
        ...

    @property
    def unsafe_no_auth(self) -> bool:
        """Whether the account takes anything while it has no credentials at all."""
        ...

    @property
    def facts(self) -> AccountFacts:
        """What is copied into each capture."""
        ...


def authenticate(arrival: Arrival, account: Account, provider: Provider, now: datetime) -> Callback:
    """The callback that an arrival proves to be.

    Args:
        arrival: the request as it came.
        account: of that provider, found by the URL.
        provider: whose schemes count.
        now: the time of receipt.

    Raises AuthenticationError, and nothing else, when a presented credential is wrong or none is presented.
    """
    configured = [scheme for scheme in provider.schemes if account.credentials.get(scheme.setting)]
    if not configured and account.unsafe_no_auth:
        return _callback(arrival, account, provider, now, None)
    proofs = [
        (scheme, scheme.verify(arrival, account.credentials.get(scheme.setting, ()), now))
        for scheme in provider.schemes
        if scheme.presented(arrival)
    ]
    if not proofs:
        _refuse_unproved(account, configured)
    return _callback(arrival, account, provider, now, min(proofs, key=_weakness))


def _weakness(proof: _Proof) -> int:
    return ASSURANCES.index(proof[0].assurance)


def _refuse_unproved(account: Account, configured: list[Scheme]) -> NoReturn:
    settings = ", ".join(sorted({scheme.setting for scheme in configured}))
    if not settings:
        raise SignatureMissing(f"account {account.name} has no credentials, so nothing can prove a request to it")
    raise SignatureMissing(f"the request presents none of account {account.name}'s credentials ({settings})")


def _callback(arrival: Arrival, account: Account, provider: Provider, now: datetime, proof: _Proof | None) -> Callback:
    return Callback(
        provider=provider.name,
        account=account.name,
        received_at=now,
        assurance=proof[0].assurance if proof else "none",
        credential=f"{proof[0].setting}[{proof[1]}]" if proof else "none",
        headers=stored_headers(arrival, provider),
        body=arrival.body,
        facts=account.facts,
    )


def stored_headers(arrival: Arrival, provider: Provider) -> Headers:
    """The headers of a request, proved or not, that are safe to keep: all without a credential, in order.

    Proxies repeat the URL under many names (`x-original-uri`, `referer`), and with it the URL's token.
    """
    secret = _secret_headers(provider.schemes)
    kept = [header for header in arrival.headers if header[0] not in secret]
    if arrival.url_token:
        segment = b"/" + arrival.url_token.encode("utf-8", "surrogatepass")
        kept = [header for header in kept if segment not in header[1]]
    return tuple(kept)


def quarantined_headers(arrival: Arrival, provider: Provider) -> tuple[Headers, tuple[bytes, ...]]:
    """The headers of a refused request that are safe to keep, and the names of the others."""
    kept = tuple(header for header in stored_headers(arrival, provider) if not _LIKELY_SECRET.search(header[0]))
    return kept, tuple(name for name, value in arrival.headers if (name, value) not in kept)


@lru_cache
def _secret_headers(schemes: tuple[Scheme, ...]) -> frozenset[bytes]:
    return _ALWAYS_SECRET.union(*(scheme.secret_headers for scheme in schemes))


def limits_age(provider: Provider, assurance: Assurance) -> bool:
    """Whether a callback with that assurance cannot be old, since the proof itself limits its age."""
    return _limits_age(provider.schemes, assurance)


@lru_cache
def _limits_age(schemes: tuple[Scheme, ...], assurance: Assurance) -> bool:
    ages = [scheme.limits_age for scheme in schemes if scheme.assurance == assurance]
    return bool(ages) and all(ages)


# --- our own: /v1, and whoever holds the configuration ---


class Caller(msgspec.Struct, frozen=True):
    """Somebody who proved to be one of us. Only `authorise` and `operator` make one."""

    #: Which setting matched, as in `api_tokens[1]`: tells when an old token is out of use.
    credential: str


def authorise(headers: Headers, tokens: tuple[str, ...]) -> Caller:
    """Whoever presents one of `server.api_tokens` as a bearer token; several are live.

    Args:
        headers: of the request, names in lower case.
        tokens: the configured ones.

    Raises AuthenticationError when there is none, or any that is presented is wrong.
    """
    presented = [value for name, value in headers if name == b"authorization"]
    if not presented:
        raise AuthenticationError("no Authorization header: send one of server.api_tokens as a bearer token")
    return Caller(f"api_tokens[{min(_matching(value, tokens) for value in presented)}]")


def _matching(value: bytes, tokens: tuple[str, ...]) -> int:
    """The index of the token that an Authorization header holds; every one is compared, as bytes."""
    scheme, _, token = value.partition(b" ")
    if scheme.lower() != b"bearer":
        raise AuthenticationError("the Authorization header holds no bearer token")
    sent = token.strip(b" ")
    matches = [hmac.compare_digest(sent, known.encode("utf-8", "surrogatepass")) and bool(known) for known in tokens]
    if True not in matches:
        raise AuthenticationError("the bearer token is none of server.api_tokens")
    return matches.index(True)


def operator() -> Caller:
    """Whoever runs the command line: who can read the configuration holds every credential in it."""
    return Caller("configuration")


def vouched(
    caller: Caller, *, provider: str, account: str, facts: AccountFacts, headers: Headers, body: bytes, now: datetime
) -> Callback:
    """What one of us hands in for an account, as the capture log takes it; `headers` without credentials."""
    return Callback(provider, account, now, "shared_secret", caller.credential, headers, body, facts)


def without_credentials(headers: Headers) -> Headers:
    """The headers of a request to none of the providers' routes that are safe to keep."""
    return tuple(header for header in headers if header[0] not in _ALWAYS_SECRET)


# --- the handshake ---


def handshake(query: Iterable[tuple[str, str]], tokens: tuple[str, ...]) -> str:
    """The challenge to answer a GET subscription handshake with, verbatim (WhatsApp).

    Args:
        query: the URL's parameters, repeats kept.
        tokens: the account's verify tokens, all live.

    Raises HandshakeRefused when the token is wrong or a parameter is missing or ambiguous.
    """
    parameters = set(query)
    token = _only(parameters, "hub.verify_token").encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(token, known.encode("utf-8", "surrogatepass")) for known in tokens]
    if True not in matches:
        raise HandshakeRefused("hub.verify_token is none of the account's verify_tokens")
    if _only(parameters, "hub.mode") != "subscribe":
        raise HandshakeRefused("hub.mode is not subscribe")
    return _only(parameters, "hub.challenge")


def _only(parameters: set[tuple[str, str]], name: str) -> str:
    """The one value of a parameter; identical repeats are fine, differing or empty ones are not."""
    values = [value for key, value in parameters if key == name]
    if len(values) != 1 or not values[0]:
        raise HandshakeRefused(f"{name} is missing, empty or there several times")
    return values[0]
