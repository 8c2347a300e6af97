"""A request on its way in: `Arrival` (unproved), `Callback` (proved), `Capture` (durable).

Each stage takes what the one before returns, so running one out of order does not type-check.
"""

from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from schemas.address import Address
from schemas.ids import CaptureId
from schemas.value import Value

#: What proved a callback authentic, strongest first.
Assurance = Literal["signed", "shared_secret", "basic_auth", "url_token", "none"]
ASSURANCES: tuple[Assurance, ...] = ("signed", "shared_secret", "basic_auth", "url_token", "none")

#: What a capture is of: a provider's callback, a send of ours that was registered, or a person's link.
CaptureKind = Literal["callback", "outbound", "link"]
CAPTURE_KINDS: tuple[CaptureKind, ...] = ("callback", "outbound", "link")

#: Stands for provider and account where a request goes to none that is configured, or a capture tells neither.
UNKNOWN: Final = "unknown"

Headers = tuple[tuple[bytes, bytes], ...]


class Arrival(Value, frozen=True):
    """A request as it came, unproved. Nothing but a signature scheme may look into it."""

    provider: str
    account: str
    method: str
    #: Scheme, host, path and query as the sender saw them; some providers sign it.
    url: str
    #: Names lower-cased, values as received, duplicates kept, in order.
    headers: Headers
    #: The last path segment of `…/{account}/{url_token}`.
    url_token: str | None
    body: bytes

    def header(self, name: bytes) -> list[bytes]:
        """Every value of one header, in order; `name` in lower case."""
        return [header[1] for header in self.headers if header[0] == name]


class AccountFacts(Value, frozen=True, omit_defaults=True):
    """The settings that decisions need, copied into each capture so that a replay decides alike."""

    #: Own numbers, for telling lines and participants apart; never part of an identity.
    lines: tuple[str, ...] = ()
    #: The line of reports that name none.
    default_line: str | None = None
    #: An MMS report without cc and group_message_id stays provisional.
    strict_groups: bool = False
    #: How long one event id counts as seen, in seconds.
    dedupe_seconds: int = 8 * 86400
    #: How far apart two copies of one message may be, in seconds; 0 marks none.
    copy_window_seconds: float = 10.0


class Callback(Value, frozen=True):
    """A request that proved to be the provider's. Only `receiver.authentication` makes one."""

    provider: str
    account: str
    received_at: datetime
    assurance: Assurance
    #: Which setting matched, as in `secrets[1]`: tells when an old credential is out of use.
    credential: str
    #: Without credentials; what is safe to keep.
    headers: Headers
    body: bytes
    facts: AccountFacts


class Capture(Value, frozen=True):
    """A callback with an id: what the capture log holds and everything after it reads."""

    id: CaptureId
    kind: CaptureKind
    provider: str
    account: str
    received_at: datetime
    assurance: Assurance
    headers: Headers
    body: bytes
    facts: AccountFacts

    def line_addresses(self) -> frozenset[Address]:
        """The account's own addresses, in canonical form (settings bring them into it)."""
        return _addresses(self.facts.lines, self.facts.default_line)


@lru_cache(maxsize=256)  # the same for every capture of an account
def _addresses(lines: tuple[str, ...], default_line: str | None) -> frozenset[Address]:
    default = (default_line,) if default_line else ()
    return frozenset(Address(line) for line in (*lines, *default))
