"""Prove an arrival to be the provider's, or our own: the only place where a `Callback` is made. Pure.

Every credential that a request presents must be right, and one suffices. So a request with a right URL token
and a wrong signature is refused: who can show one proof cannot hide that another one fails.
"""

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NoReturn, Protocol, TypeVar

import msgspec

from receiver.provider import Provider, Scheme
from schemas.callback import (
    ASSURANCES,
    CAPTURE_KINDS,
    AccountFacts,
    Arrival,
    Assurance,
    Callback,
    Capture,
    CaptureKind,
    Headers,
)
from schemas.clock import format_time, parse_time
from schemas.errors import (
    AuthenticationError,
    CallbackError,
    HandshakeRefused,
    SignatureMalformed,
    SignatureMismatch,
    SignatureMissing,
)
from schemas.ids import CaptureId
from schemas.wire import decode_headers, encode_headers

#: The replay token, and what another receiver tells of a capture beside it.
_REPLAY = b"partyline-replay"
_CAPTURE = b"partyline-capture"
_RECEIVED_AT = b"partyline-received-at"
_ASSURANCE = b"partyline-assurance"
_KIND = b"partyline-kind"
ORIGINAL_HEADERS = b"partyline-headers"

#: Never stored, whatever the account accepts: proxies and clients put credentials of their own there.
_ALWAYS_SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie", _REPLAY})

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
    index = _index_of(sent, tokens)
    if index is None:
        raise AuthenticationError("the bearer token is none of server.api_tokens")
    return index


def _index_of(sent: bytes, tokens: tuple[str, ...]) -> int | None:
    """Which token was sent. Every one is compared, so that time does not tell which; empty never matches."""
    matches = [hmac.compare_digest(sent, known.encode("utf-8", "surrogatepass")) and bool(known) for known in tokens]
    return matches.index(True) if True in matches else None


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


# --- captures that another receiver posts to this one ---

#: Headers that would take more than this in base64 are left out: a request's head may have 64 KiB in all.
_MAX_HEADERS = 48 * 1024
_CAPTURE_ID = re.compile("cp_[0-9a-f]{32}")
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
#: Two receivers' clocks differ; but nothing was received the day after tomorrow.
_AHEAD = timedelta(days=1)

_Word = TypeVar("_Word", Assurance, CaptureKind)


class ReplayMalformed(CallbackError):
    """The replay token is right, and what is told beside it cannot be."""

    reason = "replay_malformed"
    status = 422


class Repost(msgspec.Struct, frozen=True):
    """A capture of another receiver's that was posted to this one. Only `reposted` makes one."""

    id: CaptureId
    kind: CaptureKind
    #: As the other receiver received and proved it, but with the facts of the account here.
    callback: Callback


def reposted(
    arrival: Arrival, account: Account, provider: Provider, now: datetime, tokens: tuple[str, ...]
) -> Repost | None:
    """The capture that a request with a replay token tells; None for a request without one.

    The provider's signature is not looked at again, as its time has passed: the other receiver has judged it.

    Args:
        arrival: the request as it came.
        account: of that provider, found by the URL.
        provider: whose credentials have to be right as well, where the request presents any.
        now: the time of this receipt.
        tokens: `server.replay_tokens`.

    Raises AuthenticationError when the token, or another credential, is wrong; ReplayMalformed only after that.
    """
    if not arrival.header(_REPLAY):
        return None
    index = _replay_token(arrival, tokens)
    for scheme in provider.schemes:
        if scheme.presented(arrival):
            scheme.verify(arrival, account.credentials.get(scheme.setting, ()), now)
    callback = Callback(
        provider=provider.name,
        account=account.name,
        received_at=_told_time(arrival, now),
        assurance=_told_word(arrival, _ASSURANCE, ASSURANCES),
        credential=f"server.replay_tokens[{index}]",
        headers=_told_headers(arrival, provider),
        body=arrival.body,
        facts=account.facts,
    )
    return Repost(_told_id(arrival), _told_word(arrival, _KIND, CAPTURE_KINDS), callback)


def repost_headers(capture: Capture, token: str) -> Headers:
    """The headers with which a capture is posted to another receiver; `reposted` reads them there."""
    told = (
        (_REPLAY, token.encode()),
        (_CAPTURE, capture.id.encode()),
        (_RECEIVED_AT, format_time(capture.received_at).encode()),
        (_ASSURANCE, capture.assurance.encode()),
        (_KIND, capture.kind.encode()),
    )
    headers = b64encode(encode_headers(capture.headers))
    return told if len(headers) > _MAX_HEADERS else (*told, (ORIGINAL_HEADERS, headers))


def _replay_token(arrival: Arrival, tokens: tuple[str, ...]) -> int:
    """The index of the token; identical repeats are fine, differing or empty ones are not."""
    sent = set(arrival.header(_REPLAY))
    if len(sent) != 1 or b"" in sent:
        raise SignatureMalformed("the partyline-replay header is empty, or there are several that differ")
    index = _index_of(sent.pop(), tokens)
    if index is None:
        raise SignatureMismatch("the partyline-replay header holds none of server.replay_tokens")
    return index


def _told(arrival: Arrival, name: bytes) -> str:
    values = set(arrival.header(name))
    if len(values) != 1:
        raise ReplayMalformed(f"{name.decode()}: missing, or there several times with different values")
    return values.pop().decode("latin-1")


def _told_id(arrival: Arrival) -> CaptureId:
    told = _told(arrival, _CAPTURE)
    if not _CAPTURE_ID.fullmatch(told):
        raise ReplayMalformed("partyline-capture: not the id of a capture (cp_ and 32 hexadecimal digits)")
    return CaptureId(told)


def _told_time(arrival: Arrival, now: datetime) -> datetime:
    """A time that windows can be counted from: beyond these bounds it would be a slip, or overflow a date."""
    told = parse_time(_told(arrival, _RECEIVED_AT))
    if told is None or not _EARLIEST <= told <= now + _AHEAD:
        raise ReplayMalformed("partyline-received-at: not a time (RFC 3339) between 1970 and now")
    return told


def _told_word(arrival: Arrival, name: bytes, words: tuple[_Word, ...]) -> _Word:
    told = _told(arrival, name)
    for word in words:
        if word == told:
            return word
    raise ReplayMalformed(f"{name.decode()}: none of {', '.join(words)}")


def _told_headers(arrival: Arrival, provider: Provider) -> Headers:
    """The headers of the original request; none where they were too long to come along."""
    if not arrival.header(ORIGINAL_HEADERS):
        return ()
    try:
        headers = decode_headers(b64decode(_told(arrival, ORIGINAL_HEADERS), validate=True))
    except (ValueError, msgspec.DecodeError):
        raise ReplayMalformed("partyline-headers: not the base64 of a JSON list of [name, value]") from None
    secret = _secret_headers(provider.schemes)
    named = [(name.lower(), value) for name, value in headers]
    return tuple(header for header in named if header[0] not in secret)


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
