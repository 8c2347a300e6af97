"""The error tree.

::

    PartylineError                    .reason  stable slug: metric label, log field, problem+json
    ├── ConfigError                   every bad setting at once; exit 78
    ├── CallbackError                 the request is at fault; nothing stored      .status
    │   ├── BodyTooLarge        413
    │   ├── BodyTooSlow         408
    │   ├── UnknownAccount      404
    │   ├── HandshakeRefused    403
    │   ├── SourceRefused       403   these nine in `receiver`: where requests come from; what `/v1` and the command
    │   ├── UnknownConversation 404   line are asked
    │   ├── UnreadableAddress   422
    │   ├── UnknownLinked       422
    │   ├── KindsDiffer         422
    │   ├── PartitionsDiffer    422
    │   ├── SameTwice           422
    │   ├── ReplayMalformed     422
    │   ├── Probed              401
    │   └── AuthenticationError 401
    │       ├── SignatureMissing
    │       ├── SignatureMalformed
    │       ├── SignatureMismatch
    │       └── TimestampOutsideTolerance
    ├── SelectionError, ArchiveError, UnusableState, UnreadableRequest, NotJudged, NotTaken, OwnLine, OtherPerson,
    │   ScratchError                  in `receiver`: what a command was asked cannot be done
    ├── ParseError                    authentic, stored, unreadable: a dead letter  .path
    └── StoreError                    Redis (or the spool) did not take it; retryable
        ├── Overloaded                too many bytes in flight
        ├── StreamRewound             a failover has lost the end of a stream that was read already
        └── LeaseLost                 another pipeline holds the lease; stop at once

Messages name the setting to look at, never a secret, a text or a full phone number.
Unknown event types and unknown enumeration values are data, not errors.
"""

from typing import ClassVar


class PartylineError(Exception):
    """Anything partyline raises on purpose."""

    reason: ClassVar[str] = "error"


class ConfigError(PartylineError):
    """The configuration cannot be used. `mistakes` holds every one, each with its key path."""

    reason = "config"
    exit_code: ClassVar[int] = 78

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class CallbackError(PartylineError):
    """The request is at fault; nothing is stored. `status` is the HTTP answer."""

    reason = "bad_request"
    status: ClassVar[int] = 400


class BodyTooLarge(CallbackError):
    """More bytes than `server.max_body`, counted while they stream in."""

    reason = "body_too_large"
    status = 413


class BodyTooSlow(CallbackError):
    """The body did not arrive within `server.body_timeout`."""

    reason = "body_too_slow"
    status = 408


class UnknownAccount(CallbackError):
    """No such account, or an account of another provider."""

    reason = "unknown_account"
    status = 404


class HandshakeRefused(CallbackError):
    """A subscription handshake with a wrong or missing verify token."""

    reason = "handshake_refused"
    status = 403


class AuthenticationError(CallbackError):
    """The request does not prove that the provider sent it. Base of the four ways to fail."""

    reason = "unauthentic"
    status = 401


class SignatureMissing(AuthenticationError):
    """No credential that this account accepts is present."""

    reason = "signature_missing"


class SignatureMalformed(AuthenticationError):
    """A credential is present but cannot be read."""

    reason = "signature_malformed"


class SignatureMismatch(AuthenticationError):
    """A credential is present, readable and wrong."""

    reason = "signature_mismatch"


class TimestampOutsideTolerance(AuthenticationError):
    """The signed time is too far from ours. `age_seconds` is positive for the past."""

    reason = "timestamp_outside_tolerance"

    def __init__(self, message: str, age_seconds: float) -> None:
        super().__init__(message)
        self.age_seconds = age_seconds


class ParseError(PartylineError):
    """Authentic and stored, yet unreadable. `path` tells where, as in `$.data.payload.to[0]`."""

    reason = "unreadable"

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


class StoreError(PartylineError):
    """Redis (or the spool) did not take a write in time. Worth another attempt."""

    reason = "store_unavailable"


class Overloaded(StoreError):
    """More request bytes are in flight than `server.max_in_flight` allows."""

    reason = "overloaded"


class StreamRewound(StoreError):
    """A stream does not have any more what was read of it: a failover has lost its end."""

    reason = "stream_rewound"


class LeaseLost(StoreError):
    """The commit was refused because another pipeline holds the lease or has moved the cursor."""

    reason = "lease_lost"
