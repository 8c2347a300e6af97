"""Bytes to values and back: the only encoder and decoder of stored data. Pure.

Captures are flat stream entries (contract); the envelope is CloudEvents JSON (contract); conversation records are
JSON too, so that a person at redis-cli can read them.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import orjson

from schemas.callback import (
    ASSURANCES,
    CAPTURE_KINDS,
    AccountFacts,
    Assurance,
    Callback,
    Capture,
    CaptureKind,
    Headers,
)
from schemas.clock import format_time, parse_time
from schemas.errors import ParseError
from schemas.ids import CaptureId


class Presented(msgspec.Struct, frozen=True):
    """What a refused request presented as proof beside signatures, so that it can be judged again and not be read."""

    #: By the setting that would hold it: keyed digests. Empty: unreadable. None: there was no `id_key` to key it with.
    proofs: dict[str, tuple[str | None, ...]]
    #: Names of the headers that were not kept, since they hold credentials.
    withheld: tuple[str, ...] = ()


class Quarantined(msgspec.Struct, frozen=True):
    """A refused request that was kept aside. None of it is proved."""

    id: CaptureId
    provider: str
    account: str
    received_at: datetime
    #: Why it was refused, as an answer says it.
    reason: str
    headers: Headers
    presented: Presented
    facts: AccountFacts
    body: bytes


T = TypeVar("T")

_facts_decoder = msgspec.json.Decoder(AccountFacts)
_presented_decoder = msgspec.json.Decoder(Presented)
_ASSURANCES: dict[bytes, Assurance] = {word.encode(): word for word in ASSURANCES}
_KINDS: dict[bytes, CaptureKind] = {word.encode(): word for word in CAPTURE_KINDS}
_headers_decoder = msgspec.json.Decoder(list[tuple[str, str]])
_encoder = msgspec.json.Encoder()
_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(list[bytes])


def encode_facts(facts: AccountFacts) -> bytes:
    """Account facts as they stand in a capture; the same for each capture of an account."""
    return _encoder.encode(facts)


#: The fields of one entry of the capture log (contract), in the order in which `encode_capture` gives their values.
CAPTURE_FIELDS = (b"id", b"provider", b"account", b"kind", b"received_at", b"assurance", b"headers", b"facts", b"body")
#: The fields of one entry of the quarantine.
QUARANTINE_FIELDS = (
    b"id",
    b"provider",
    b"account",
    b"received_at",
    b"reason",
    b"headers",
    b"presented",
    b"facts",
    b"body",
)

#: The fields of one dead letter, as the commit script writes them.
DEAD_FIELDS = (b"capture", b"reason", b"detail")


def encode_capture(
    identifier: CaptureId, callback: Callback, facts: bytes, kind: CaptureKind = "callback"
) -> list[bytes]:
    """The values of one entry of the capture log. `facts` as `encode_facts` gives it."""
    return [
        identifier.encode(),
        callback.provider.encode(),
        callback.account.encode(),
        kind.encode(),
        format_time(callback.received_at).encode(),
        callback.assurance.encode(),
        encode_headers(callback.headers),
        facts,
        callback.body,
    ]


def encode_spooled(values: list[bytes]) -> bytes:
    """The values of one entry of the capture log, as they wait in the spool."""
    return _packer.encode(values)


def decode_spooled(data: bytes) -> list[bytes]:
    """What `encode_spooled` made; ParseError when it is damaged."""
    try:
        values = _unpacker.decode(data)
    except msgspec.DecodeError as error:
        raise ParseError("spooled", f"damaged: {type(error).__name__}") from None
    if len(values) != len(CAPTURE_FIELDS):
        raise ParseError("spooled", f"damaged: {len(values)} values")
    return values


def decode_capture(fields: Mapping[bytes, bytes]) -> Capture:
    """One entry of the capture log. ParseError names the field that is missing or damaged."""
    return _decoded(_capture, fields, "capture")


def _capture(fields: Mapping[bytes, bytes]) -> Capture:
    kind = _KINDS.get(fields[b"kind"])
    if kind is None:
        raise ParseError("capture.kind", "not a kind of ours")
    received_at = _received_at(fields, "capture")
    assurance = _ASSURANCES.get(fields[b"assurance"])
    if assurance is None:
        raise ParseError("capture", "damaged: an assurance that there is not")
    return Capture(
        id=CaptureId(fields[b"id"].decode()),
        kind=kind,
        provider=fields[b"provider"].decode(),
        account=fields[b"account"].decode(),
        received_at=received_at,
        assurance=assurance,
        headers=decode_headers(fields[b"headers"]),
        body=fields[b"body"],
        facts=_facts(fields[b"facts"]),
    )


def encode_quarantined(entry: Quarantined, facts: bytes) -> list[bytes]:
    """The values of one entry of the quarantine. `facts` as `encode_facts` gives it."""
    return [
        entry.id.encode(),
        entry.provider.encode(),
        entry.account.encode(),
        format_time(entry.received_at).encode(),
        entry.reason.encode(),
        encode_headers(entry.headers),
        _encoder.encode(entry.presented),
        facts,
        entry.body,
    ]


def decode_quarantined(fields: Mapping[bytes, bytes]) -> Quarantined:
    """One entry of the quarantine. ParseError names the field that is missing or damaged."""
    return _decoded(_quarantined, fields, "quarantine")


def _quarantined(fields: Mapping[bytes, bytes]) -> Quarantined:
    return Quarantined(
        id=CaptureId(fields[b"id"].decode()),
        provider=fields[b"provider"].decode(),
        account=fields[b"account"].decode(),
        received_at=_received_at(fields, "quarantine"),
        reason=fields[b"reason"].decode(),
        headers=decode_headers(fields[b"headers"]),
        presented=_presented_decoder.decode(fields[b"presented"]),
        facts=_facts(fields[b"facts"]),
        body=fields[b"body"],
    )


@lru_cache(maxsize=1024)  # the same for each capture of an account, until its settings change
def _facts(data: bytes) -> AccountFacts:
    return _facts_decoder.decode(data)


def _received_at(fields: Mapping[bytes, bytes], what: str) -> datetime:
    received_at = parse_time(fields[b"received_at"].decode())
    if received_at is None:
        raise ParseError(f"{what}.received_at", "not a time")
    return received_at


def _decoded(decode: Callable[[Mapping[bytes, bytes]], T], fields: Mapping[bytes, bytes], what: str) -> T:
    """A stored entry; however it is damaged, that is a ParseError."""
    try:
        return decode(fields)
    except KeyError as missing:
        raise ParseError(
            f"{what}.{missing.args[0].decode(errors='replace')}", "missing, or not a word of ours"
        ) from None
    except (msgspec.DecodeError, orjson.JSONDecodeError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ParseError(what, f"damaged: {type(error).__name__}") from None


def encode_headers(headers: Headers) -> bytes:
    """Headers as JSON pairs; bytes stand as Latin-1, which loses none."""
    return orjson.dumps([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])


def decode_headers(data: bytes) -> Headers:
    """What `encode_headers` made."""
    pairs = _headers_decoder.decode(data)
    return tuple([(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs])


def encode_json(value: Any) -> bytes:
    """Any value of ours as compact JSON."""
    return orjson.dumps(value, default=msgspec.to_builtins)
