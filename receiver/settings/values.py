"""What a configuration comes to: frozen values, sizes in bytes, durations in seconds, defaults of the contract.

Made by `receiver.settings.loading` only. Secrets are hidden in every `repr`, so no traceback or log line shows one.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

import msgspec

from schemas.callback import AccountFacts

KIB, MIB, GIB = 1024, 1024**2, 1024**3
DAY = 86400

Durability = Literal["always", "everysec", "none"]
OnUnauthentic = Literal["reject", "defer", "quarantine"]
Network = IPv4Network | IPv6Network


class Secret(str):
    """A text that its `repr` does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<Secret>"


class SecretBytes(bytes):
    """Bytes that their `repr` does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<Secret>"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """`[server]`: where requests come in, and how much of them."""

    host: str = "127.0.0.1"
    #: 0: any free one.
    port: int = 8080
    #: Where /v1, /metrics and the inspector listen; None: on `port`.
    admin_port: int | None = None
    workers: int = 1
    #: Bearer tokens for /v1 and the inspector; none: those are off.
    api_tokens: tuple[Secret, ...] = ()
    #: Tokens with which another receiver posts its captures to this one; none: nobody does.
    replay_tokens: tuple[Secret, ...] = ()
    max_body_bytes: int = 16 * MIB
    #: Request bytes held at once, all requests together.
    max_in_flight_bytes: int = 64 * MIB
    body_timeout_seconds: float = 10.0
    #: Whose X-Forwarded-* headers count.
    trusted_proxies: tuple[Network, ...] = ()


class Redis(msgspec.Struct, frozen=True, kw_only=True):
    """`[redis]`: the one store."""

    #: `embedded`, or a URL; hidden, since it may hold a password.
    url: Secret = Secret("embedded")
    #: The embedded server's files.
    data_dir: Path = Path(".partyline")
    #: What the server must at least do before a write counts.
    durability: Durability = "always"
    #: Replicas that must have a write too.
    wait_replicas: int = 0
    #: Then the spool.
    write_deadline_seconds: float = 1.0
    partitions: int = 1


class Spool(msgspec.Struct, frozen=True, kw_only=True):
    """`[spool]`: where captures wait while Redis is away."""

    dir: Path = Path(".partyline/spool")
    max_bytes: int = GIB


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """`[retention]`: how long, and how many bytes, of what expires."""

    captures_seconds: int = 7 * DAY
    captures_max_bytes: int = GIB
    events_seconds: int = 30 * DAY
    events_max_bytes: int = GIB
    #: Message pointers, roll-ups, provisional conversations never identified.
    messages_seconds: int = 30 * DAY
    #: How long one event id counts as seen.
    dedupe_seconds: int = 8 * DAY


class Correlation(msgspec.Struct, frozen=True, kw_only=True):
    """`[correlation]`: windows of the engine."""

    #: How far apart two copies of one message may be; 0 marks none.
    copy_window_seconds: float = 10.0


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """`[accounts.<name>]`: one configured endpoint of a provider."""

    name: str
    provider: str
    #: Setting name to its values, as in `{"secrets": ("new", "old")}`; all are live.
    credentials: dict[str, tuple[Secret, ...]]
    #: What decisions need, copied into each capture.
    facts: AccountFacts
    on_unauthentic: OnUnauthentic = "reject"
    #: Takes anything from anybody; only without credentials.
    unsafe_no_auth: bool = False
    #: Networks that requests must come from; none: anywhere.
    sources: tuple[Network, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Own addresses, in canonical form."""
        return self.facts.lines

    @property
    def default_line(self) -> str | None:
        """The line of reports that name none, in canonical form."""
        return self.facts.default_line

    @property
    def strict_groups(self) -> bool:
        """Whether an MMS report without cc and group_message_id stays provisional."""
        return self.facts.strict_groups


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration, with every mistake already ruled out."""

    #: Prefix of every Redis key.
    namespace: str = "default"
    #: Keys the hashes behind conversation keys; empty: they can be guessed.
    id_key: SecretBytes = SecretBytes()
    server: Server = Server()
    redis: Redis = Redis()
    spool: Spool = Spool()
    retention: Retention = Retention()
    correlation: Correlation = Correlation()
    accounts: dict[str, Account] = {}
