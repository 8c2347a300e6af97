"""Bytes to values and back: the only encoder and decoder of stored data. Pure.

Captures are flat stream entries (contract); the envelope is CloudEvents JSON (contract); conversation records are
JSON too, so that a person at redis-cli can read them.
"""

from collections.abc import Mapping
from typing import Any

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

_facts_decoder = msgspec.json.Decoder(AccountFacts)
_ASSURANCES: dict[bytes, Assurance] = {word.encode(): word for word in ASSURANCES}
_KINDS: dict[bytes, CaptureKind] = {word.encode(): word for word in CAPTURE_KINDS}
_headers_decoder = msgspec.json.Decoder(list[tuple[str, str]])
_encoder = msgspec.json.Encoder()


def encode_facts(facts: AccountFacts) -> bytes:
    """Account facts as they stand in a capture; the same for each capture of an account."""
    return _encoder.encode(facts)


#: The fields of one entry of the capture log (contract), in the order in which `encode_capture` gives their values.
CAPTURE_FIELDS = (b"id", b"provider", b"account", b"kind", b"received_at", b"assurance", b"headers", b"facts", b"body")
#: The fields of one entry of the quarantine.
QUARANTINE_FIELDS = (b"id", b"provider", b"account", b"received_at", b"reason", b"headers", b"facts", b"body")


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


def decode_capture(fields: Mapping[bytes, bytes]) -> Capture:
    """One entry of the capture log. ParseError names the field that is missing or damaged."""
    try:
        kind = _KINDS.get(fields[b"kind"])
        if kind is None:
            raise ParseError("capture.kind", "not a kind of ours")
        received_at = parse_time(fields[b"received_at"].decode())
        if received_at is None:
            raise ParseError("capture.received_at", "not a time")
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
            facts=_facts_decoder.decode(fields[b"facts"]),
        )
    except KeyError as missing:
        raise ParseError(
            f"capture.{missing.args[0].decode(errors='replace')}", "missing, or not a word of ours"
        ) from None
    except (msgspec.DecodeError, orjson.JSONDecodeError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ParseError("capture", f"damaged: {type(error).__name__}") from None


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
