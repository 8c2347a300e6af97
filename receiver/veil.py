"""What a refused request presented, kept so that it can be judged again and by nobody be read. Pure.

A signature is no secret and stays among the headers. A shared secret, user and password, or the token of a URL may well
be the right one, presented where the configuration is wrong; so only its keyed digest is kept. Judging again puts the
digests where the credentials were, in the request and in the account alike, and asks `receiver.authentication` as ever.
"""

from base64 import b64encode
from binascii import Error as NotEncoded
from binascii import a2b_base64
from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgspec

from receiver.authentication import Account
from receiver.provider import Provider, Scheme
from receiver.schemes import BasicAuth, SharedSecret, UrlToken
from schemas.callback import AccountFacts, Arrival, Headers
from schemas.ids import hash_key
from schemas.wire import Presented

_AUTHORIZATION = b"authorization"
_DIGEST_BYTES = 32


class VeiledAccount(msgspec.Struct, frozen=True):
    """An account whose secrets stand as digests."""

    name: str
    credentials: Mapping[str, tuple[str, ...]]
    unsafe_no_auth: bool
    facts: AccountFacts


class Veil:
    """Turns what must not be read into digests that can be compared. Without an `id_key` it has nothing to key them."""

    def __init__(self, id_key: bytes) -> None:
        key = blake2b(b"partyline quarantine", key=hash_key(id_key), digest_size=_DIGEST_BYTES).digest()
        self._key = key if id_key else b""

    def presented(self, arrival: Arrival, provider: Provider, withheld: Iterable[bytes] = ()) -> Presented:
        """What a request presents beside signatures; and the names of the headers of it that are not kept."""
        values = {scheme.setting: _values(scheme, arrival) for scheme in provider.schemes if scheme.presented(arrival)}
        proofs = {setting: self._hidden(setting, found) for setting, found in values.items() if found is not None}
        return Presented(proofs, tuple(name.decode("latin-1") for name in dict.fromkeys(withheld)))

    def unveiled(self, headers: Headers, presented: Presented, provider: Provider) -> tuple[Headers, str | None]:
        """Headers and the URL's token of a request that presents digests where the first one presented secrets."""
        token = None
        for scheme in provider.schemes:
            for digest in presented.proofs.get(scheme.setting, ()):
                worn = _worn(scheme, digest or "")
                match scheme:
                    case SharedSecret():
                        headers = (*headers, (scheme.header, worn.encode()))
                    case BasicAuth():
                        headers = (*headers, (_AUTHORIZATION, b"Basic " + b64encode(worn.encode())))
                    case _:
                        token = worn
        return headers, token

    def credentials(self, scheme: Scheme, values: Iterable[str]) -> tuple[str, ...]:
        """Configured credentials as they compare with what is kept: secrets as digests, keys of signatures as are."""
        if not isinstance(scheme, SharedSecret | BasicAuth | UrlToken):
            return tuple(values)
        digests = [self._digest(scheme.setting, _bytes(value)) if value else "" for value in values]
        return tuple(_worn(scheme, digest or "") for digest in digests)

    def account(self, account: Account, provider: Provider) -> VeiledAccount:
        """An account that what is kept can be held against."""
        credentials = {
            scheme.setting: self.credentials(scheme, account.credentials.get(scheme.setting, ()))
            for scheme in provider.schemes
        }
        return VeiledAccount(account.name, credentials, account.unsafe_no_auth, account.facts)

    def _hidden(self, setting: str, values: list[bytes]) -> tuple[str | None, ...]:
        """One digest; nothing readable is an empty one; what differs from itself is right under no configuration."""
        if len(values) > 1:
            return tuple(f"differing {number}" for number in range(len(values)))
        return tuple(self._digest(setting, value) if value else "" for value in values)

    def _digest(self, setting: str, value: bytes) -> str | None:
        if not self._key:
            return None
        name = setting.encode()
        message = b"".join((len(name).to_bytes(4, "big"), name, value))
        return blake2b(message, key=self._key, digest_size=_DIGEST_BYTES).hexdigest()


def kept_whole(presented: Presented) -> bool:
    """Whether everything that was presented can be judged again; not so without an `id_key`."""
    return not any(digest is None for digests in presented.proofs.values() for digest in digests)


def _values(scheme: Scheme, arrival: Arrival) -> list[bytes] | None:
    """The different values of a secret that a request presents; None for a scheme whose proof is no secret."""
    match scheme:
        case SharedSecret():
            return list(dict.fromkeys(arrival.header(scheme.header)))
        case BasicAuth():
            values = list(dict.fromkeys(arrival.header(_AUTHORIZATION)))
            return [_pair(values[0])] if len(values) == 1 else values
        case UrlToken():
            return [_bytes(arrival.url_token or "")]
        case _:
            return None


def _pair(authorization: bytes) -> bytes:
    """User and password in a header of the Basic kind, empty when it is not written as the scheme wants it."""
    token = authorization.partition(b" ")[2].strip(b" ")
    try:
        pair = a2b_base64(token)
    except NotEncoded:
        return b""
    return pair if b64encode(pair) == token and b":" in pair and pair != b":" else b""


def _worn(scheme: Scheme, digest: str) -> str:
    """A digest in the form of the scheme's credentials: one of user and password has a colon in it."""
    return f"{digest}:" if digest and isinstance(scheme, BasicAuth) else digest


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
