"""The ways in which providers prove a request to be their own. Pure: no clock, no I/O, nothing logged.

What every scheme here promises:

- **Total.** `verify` returns or raises an AuthenticationError, whatever arrives and whatever is configured.
- **Raw.** Signatures cover the body as received; header values are compared as bytes, in constant time.
- **Rotation.** Several credentials are all live; the index of the one that matched comes back.
- **Closed.** Nothing empty is ever right, neither a header nor a credential. A header that stands twice with
  different values is malformed, since a proxy and we might each believe another one.
- **Discreet.** Messages name headers and the account setting to look at, never a secret or what was expected.

`sign` beside each `verify` makes the headers that the provider would send: for tests, samples and tools.
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as NotEncoded
from binascii import a2b_hex
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import ClassVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.callback import Arrival, Assurance
from schemas.errors import SignatureMalformed, SignatureMismatch, SignatureMissing, TimestampOutsideTolerance

#: Headers as a provider would send them.
Signed = list[tuple[bytes, bytes]]

_NO_HEADERS: frozenset[bytes] = frozenset()
_AUTHORIZATION = b"authorization"
_PUBLIC_KEY_BYTES = 32
_ED25519_BYTES = 64
_SHA256_BYTES = 32
_MAX_TIMESTAMP_DIGITS = 12


class Ed25519(msgspec.Struct, frozen=True):
    """Telnyx: Ed25519 over `<timestamp>|<raw body>`, with a time that must be near ours.

    The timestamp's text is signed as it stands, so it is never rewritten. A stale time is reported only when
    the signature is right: `timestamp_outside_tolerance` means a replay or a wrong clock, never a forgery.
    """

    #: How far the signed time may be from ours, both ways. A security limit: the window for replaying.
    tolerance_seconds: int = 300

    setting: ClassVar[str] = "public_keys"
    assurance: ClassVar[Assurance] = "signed"
    limits_age: ClassVar[bool] = True
    secret_headers: ClassVar[frozenset[bytes]] = _NO_HEADERS

    _SIGNATURE: ClassVar[bytes] = b"telnyx-signature-ed25519"
    _TIMESTAMP: ClassVar[bytes] = b"telnyx-timestamp"

    def presented(self, arrival: Arrival) -> bool:
        """Whether either header is there; one alone is an attempt too."""
        return _has(arrival, self._SIGNATURE) or _has(arrival, self._TIMESTAMP)

    def verify(self, arrival: Arrival, credentials: tuple[str, ...], now: datetime) -> int:
        """The index of the public key that made the signature."""
        signature = _decoded_base64(_header(arrival, self._SIGNATURE))
        if signature is None or len(signature) != _ED25519_BYTES:
            raise SignatureMalformed(f"{_text(self._SIGNATURE)} is not the base64 of {_ED25519_BYTES} bytes")
        timestamp = _header(arrival, self._TIMESTAMP)
        if not timestamp.isdigit() or len(timestamp) > _MAX_TIMESTAMP_DIGITS:
            raise SignatureMalformed(f"{_text(self._TIMESTAMP)} is not a Unix time in seconds")
        index = _signer(signature, timestamp + b"|" + arrival.body, credentials)
        if index is None:
            raise _mismatch(_text(self._SIGNATURE), self.setting, credentials)
        self._check_age(now.timestamp() - int(timestamp))
        return index

    def _check_age(self, age: float) -> None:
        if abs(age) > self.tolerance_seconds:
            raise TimestampOutsideTolerance(
                f"{_text(self._TIMESTAMP)} is {age:.0f} s behind our clock, with {self.tolerance_seconds} s "
                "allowed; the signature is right, so look at the clocks",
                age,
            )

    def mistake(self, credential: str) -> str | None:
        """What is wrong with a public key."""
        if credential.lstrip().startswith("-----"):
            return "is PEM; the raw key is wanted, as the portal shows it (44 characters of base64)"
        raw = _decoded_base64(_bytes(credential))
        if raw is None:
            return "is not standard base64"
        if len(raw) != _PUBLIC_KEY_BYTES:
            return f"is the base64 of {len(raw)} bytes; a public key has {_PUBLIC_KEY_BYTES}"
        return None if any(raw) else "is a placeholder of zeros, for which anybody can sign"

    def sign(self, body: bytes, private_seed_b64: str, now: datetime) -> Signed:
        """The headers for `body`, signed at `now`; the private key is given as the base64 of its seed."""
        timestamp = str(int(now.timestamp())).encode()
        key = Ed25519PrivateKey.from_private_bytes(b64decode(private_seed_b64))
        signature = b64encode(key.sign(timestamp + b"|" + body))
        return [(self._SIGNATURE, signature), (self._TIMESTAMP, timestamp)]


class SharedSecret(msgspec.Struct, frozen=True):
    """Sendblue and others: a header holds the secret itself, verbatim. It proves the sender, not the body."""

    #: The header's name, in lower case.
    header: bytes
    setting: str = "secrets"

    assurance: ClassVar[Assurance] = "shared_secret"
    limits_age: ClassVar[bool] = False

    @property
    def secret_headers(self) -> frozenset[bytes]:
        """The header that holds the secret."""
        return frozenset((self.header,))

    def presented(self, arrival: Arrival) -> bool:
        """Whether the header is there, empty or not."""
        return _has(arrival, self.header)

    def verify(self, arrival: Arrival, credentials: tuple[str, ...], _now: datetime) -> int:
        """The index of the secret that the header holds."""
        sent = _header(arrival, self.header)
        return _match(sent, [_bytes(secret) for secret in credentials], _text(self.header), self.setting)

    def mistake(self, credential: str) -> str | None:
        """What is wrong with a secret."""
        return _unsendable(credential)

    def sign(self, secret: str) -> Signed:
        """The header for any body."""
        return [(self.header, _bytes(secret))]


class SinchHmac(msgspec.Struct, frozen=True):
    """Sinch (SMS, Conversation): base64 HMAC-SHA256 over `<raw body>.<nonce>.<timestamp>`.

    The signed time is not checked: Sinch retries for hours and does not say that it signs each attempt anew.
    De-duplication is the defence against replays. The algorithm's name may be absent, but it may not choose
    anything else than HMAC-SHA256.
    """

    setting: ClassVar[str] = "secrets"
    assurance: ClassVar[Assurance] = "signed"
    limits_age: ClassVar[bool] = False
    secret_headers: ClassVar[frozenset[bytes]] = _NO_HEADERS

    _SIGNATURE: ClassVar[bytes] = b"x-sinch-webhook-signature"
    _NONCE: ClassVar[bytes] = b"x-sinch-webhook-signature-nonce"
    _TIMESTAMP: ClassVar[bytes] = b"x-sinch-webhook-signature-timestamp"
    _ALGORITHM: ClassVar[bytes] = b"x-sinch-webhook-signature-algorithm"

    def presented(self, arrival: Arrival) -> bool:
        """Whether any of the four headers is there; a part of them is an attempt too."""
        return any(name.startswith(self._SIGNATURE) for name, _ in arrival.headers)

    def verify(self, arrival: Arrival, credentials: tuple[str, ...], _now: datetime) -> int:
        """The index of the secret that made the signature."""
        signature = _decoded_base64(_header(arrival, self._SIGNATURE))
        if signature is None or len(signature) != _SHA256_BYTES:
            raise SignatureMalformed(f"{_text(self._SIGNATURE)} is not the base64 of {_SHA256_BYTES} bytes")
        if _has(arrival, self._ALGORITHM) and _header(arrival, self._ALGORITHM).lower() != b"hmacsha256":
            raise SignatureMalformed(f"{_text(self._ALGORITHM)} is not HmacSHA256")
        nonce, timestamp = _header(arrival, self._NONCE), _header(arrival, self._TIMESTAMP)
        signed = arrival.body + b"." + nonce + b"." + timestamp
        expected = [_hmac_sha256(secret, signed) for secret in credentials]
        return _match(signature, expected, _text(self._SIGNATURE), self.setting)

    def mistake(self, credential: str) -> str | None:
        """What is wrong with a secret."""
        return _unsendable(credential)

    def sign(self, body: bytes, secret: str, nonce: str, now: datetime) -> Signed:
        """The headers for `body`, signed at `now`; real nonces are ULIDs."""
        timestamp = str(int(now.timestamp())).encode()
        signed = body + b"." + _bytes(nonce) + b"." + timestamp
        return [
            (self._SIGNATURE, b64encode(_hmac_sha256(secret, signed))),
            (self._NONCE, _bytes(nonce)),
            (self._TIMESTAMP, timestamp),
            (self._ALGORITHM, b"HmacSHA256"),
        ]


class HubSignature(msgspec.Struct, frozen=True):
    """WhatsApp (every Meta webhook): `sha256=<hex>` HMAC-SHA256 over the raw body, keyed with the app secret.

    Meta writes lower-case digits; upper case means the same bytes and is accepted. The body counts as received:
    Meta escapes what is beyond ASCII before it signs and sends. No time is signed, so de-duplication is the
    defence against replays. The older SHA-1 header beside it proves nothing here.
    """

    setting: ClassVar[str] = "app_secrets"
    assurance: ClassVar[Assurance] = "signed"
    limits_age: ClassVar[bool] = False
    secret_headers: ClassVar[frozenset[bytes]] = _NO_HEADERS

    _SIGNATURE: ClassVar[bytes] = b"x-hub-signature-256"
    _PREFIX: ClassVar[bytes] = b"sha256="

    def presented(self, arrival: Arrival) -> bool:
        """Whether the header is there."""
        return _has(arrival, self._SIGNATURE)

    def verify(self, arrival: Arrival, credentials: tuple[str, ...], _now: datetime) -> int:
        """The index of the app secret that made the signature."""
        value = _header(arrival, self._SIGNATURE)
        signature = _decoded_hex(value.removeprefix(self._PREFIX))
        if not value.startswith(self._PREFIX) or signature is None or len(signature) != _SHA256_BYTES:
            raise SignatureMalformed(f"{_text(self._SIGNATURE)} is not sha256= and {2 * _SHA256_BYTES} digits")
        expected = [_hmac_sha256(secret, arrival.body) for secret in credentials]
        return _match(signature, expected, _text(self._SIGNATURE), self.setting)

    def mistake(self, credential: str) -> str | None:
        """What is wrong with an app secret."""
        return _unsendable(credential)

    def sign(self, body: bytes, secret: str) -> Signed:
        """The header for `body`."""
        return [(self._SIGNATURE, self._PREFIX + _hmac_sha256(secret, body).hex().encode())]


class BasicAuth(msgspec.Struct, frozen=True):
    """HTTP Basic: `user:password` in `Authorization`. A Bearer token there is none of its business."""

    setting: ClassVar[str] = "basic_auth"
    assurance: ClassVar[Assurance] = "basic_auth"
    limits_age: ClassVar[bool] = False
    secret_headers: ClassVar[frozenset[bytes]] = frozenset((_AUTHORIZATION,))

    def presented(self, arrival: Arrival) -> bool:
        """Whether any `Authorization` header is of the Basic kind."""
        return any(_split_authorization(value)[0] == b"basic" for value in arrival.header(_AUTHORIZATION))

    def verify(self, arrival: Arrival, credentials: tuple[str, ...], _now: datetime) -> int:
        """The index of the user and password that the header holds."""
        kind, token = _split_authorization(_header(arrival, _AUTHORIZATION))
        sent = _decoded_base64(token)
        if kind != b"basic" or sent is None or b":" not in sent or sent == b":":
            raise SignatureMalformed("authorization is not Basic and the base64 of user:password")
        return _match(sent, [_bytes(pair) for pair in credentials], _text(_AUTHORIZATION), self.setting)

    def mistake(self, credential: str) -> str | None:
        """What is wrong with a `user:password`."""
        if ":" not in credential or credential == ":":
            return "is not of the form user:password"
        return _unsendable(credential)

    def sign(self, credential: str) -> Signed:
        """The header for any body."""
        return [(_AUTHORIZATION, b"Basic " + b64encode(_bytes(credential)))]


class UrlToken(msgspec.Struct, frozen=True):
    """An unguessable last segment of the URL, for callbacks that come with nothing else."""

    setting: ClassVar[str] = "url_tokens"
    assurance: ClassVar[Assurance] = "url_token"
    limits_age: ClassVar[bool] = False
    secret_headers: ClassVar[frozenset[bytes]] = _NO_HEADERS

    _UNSAFE: ClassVar[frozenset[str]] = frozenset("/?#%\\")

    def presented(self, arrival: Arrival) -> bool:
        """Whether the URL goes on after the account."""
        return arrival.url_token is not None

    def verify(self, arrival: Arrival, credentials: tuple[str, ...], _now: datetime) -> int:
        """The index of the token that the URL ends in."""
        if arrival.url_token is None:
            raise SignatureMissing(f"the URL has no token after the account ({self.setting})")
        if not arrival.url_token:
            raise SignatureMalformed("the URL's token is empty")
        sent = _bytes(arrival.url_token)
        return _match(sent, [_bytes(token) for token in credentials], "the URL's token", self.setting)

    def mistake(self, credential: str) -> str | None:
        """What is wrong with a token."""
        if not self._UNSAFE.isdisjoint(credential) or any(character.isspace() for character in credential):
            return "holds a character that does not stand for itself in a URL's path"
        return _unsendable(credential)


# --- reading headers ---


def _has(arrival: Arrival, name: bytes) -> bool:
    for key, _ in arrival.headers:  # noqa: SIM110 - any() with a generator takes three times as long here
        if key == name:
            return True
    return False


def _header(arrival: Arrival, name: bytes) -> bytes:
    """The one value of a header: identical repeats are fine, differing or empty ones are not."""
    values = arrival.header(name)
    if not values:
        raise SignatureMissing(f"the request has no {_text(name)} header")
    if values.count(values[0]) != len(values):
        raise SignatureMalformed(f"the request has several {_text(name)} headers that differ")
    if not values[0]:
        raise SignatureMalformed(f"the {_text(name)} header is empty")
    return values[0]


def _split_authorization(value: bytes) -> tuple[bytes, bytes]:
    kind, _, token = value.partition(b" ")
    return kind.lower(), token.strip(b" ")


def _decoded_base64(encoded: bytes) -> bytes | None:
    """Standard base64 with padding, written the one canonical way: no line breaks, no url-safe letters."""
    try:
        raw = b64decode(encoded)
    except NotEncoded:
        return None
    return raw if b64encode(raw) == encoded else None


def _decoded_hex(encoded: bytes) -> bytes | None:
    try:
        return a2b_hex(encoded)
    except NotEncoded:
        return None


# --- comparing ---


def _match(sent: bytes, expected: list[bytes], what: str, setting: str) -> int:
    """The index of `sent`. Every one is compared, so that time does not tell which; empty never matches."""
    matches = [hmac.compare_digest(sent, value) and bool(value) for value in expected]
    if True not in matches:
        raise _mismatch(what, setting, expected)
    return matches.index(True)


def _hmac_sha256(secret: str, signed: bytes) -> bytes:
    """The digest; nothing at all for an empty secret, so that it matches nothing."""
    return hmac.digest(_bytes(secret), signed, "sha256") if secret else b""


def _signer(signature: bytes, signed: bytes, credentials: tuple[str, ...]) -> int | None:
    """The index of the public key that fits. Public keys are no secret: the first one ends the search."""
    for index, credential in enumerate(credentials):
        key = _public_key(credential)
        if key is not None and _fits(key, signature, signed):
            return index
    return None


def _fits(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=256)
def _public_key(credential: str) -> Ed25519PublicKey | None:
    """A configured key, read once; None for one with a mistake, which then matches nothing."""
    if Ed25519().mistake(credential):
        return None
    return Ed25519PublicKey.from_public_bytes(b64decode(credential))


# --- words ---


def _mismatch(what: str, setting: str, expected: Sequence[object]) -> SignatureMismatch:
    if not expected:
        return SignatureMismatch(f"{what} cannot be checked: the account has no {setting}")
    return SignatureMismatch(f"{what} fits none of the account's {setting}")


def _unsendable(secret: str) -> str | None:
    """What is wrong with a secret as such; white space around it comes from copying, and HTTP drops it."""
    if not secret:
        return "is empty"
    if secret != secret.strip():
        return "has white space around it"
    if not secret.isprintable():
        return "holds a character that cannot be printed"
    return None


def _bytes(text: str) -> bytes:
    """Text as UTF-8; a lone surrogate from a broken environment variable must not raise here."""
    return text.encode("utf-8", "surrogatepass")


def _text(name: bytes) -> str:
    return name.decode("latin-1")
