"""The envelope as a reader of the stream gets it: bytes to values. Pure.

Fields and types are only ever added, so a reader ignores fields that it does not know, and gets an event whose type or
body it does not know as `Unknown`, with everything that is in it.
"""

from datetime import datetime
from typing import Any, Final, get_args

import msgspec

from schemas.address import Address
from schemas.errors import ParseError
from schemas.events import Body, EventBody


class ConversationFacts(msgspec.Struct, frozen=True):
    """`data.conversation`: the conversation as it was when the event was published."""

    key: str
    #: `direct`, `group` or `unknown`; a text, so that a further word fails no reader.
    kind: str
    #: The people in it without your lines, sorted; None while nobody is known.
    participants: tuple[Address, ...] | None
    #: Your own addresses in it.
    lines: tuple[Address, ...]
    provisional: bool
    #: The same for the same people at any provider; None until all of them are known.
    audience: str | None = None


class ProviderFacts(msgspec.Struct, frozen=True):
    """`data.provider`: who told it, in their own words."""

    name: str
    account: str
    type: str
    ids: dict[str, str]


class RollupFacts(msgspec.Struct, frozen=True):
    """`data.rollup`: what became of a message or batch, over all its recipients; each counts once."""

    #: How many there are; None until that is known.
    recipients: int | None
    queued: int
    sent: int
    unknown: int
    cancelled: int
    expired: int
    failed: int
    delivered: int
    read: int
    #: Nothing further is expected.
    settled: bool


class Unknown(msgspec.Struct, frozen=True):
    """The body of an event whose type this version does not know, or whose body it cannot read: all of `data`."""

    data: Any


class Published(msgspec.Struct, frozen=True):
    """One event of the stream. What a type has of its own is in `body`, of the class that `type` names."""

    #: The idempotency key: the same for every redelivery of one fact.
    id: str
    source: str
    type: str
    #: The conversation's key, or the account's.
    subject: str
    time: datetime
    #: Counts 1, 2, 3 … within the subject; None for what is published on pub/sub only (`typing`).
    sequence: int | None
    body: EventBody | Unknown
    #: None for the account as a whole.
    conversation: ConversationFacts | None
    provider: ProviderFacts
    assurance: str
    received_at: datetime
    capture: str
    replayed: bool
    #: Of a `message.status`; None elsewhere.
    rollup: RollupFacts | None
    #: The id of the event that is the same message, seen by another of your lines; None: there is none.
    copy_of: str | None
    #: Where it stands in the stream; empty for a hint.
    position: str
    #: The envelope as it was published, with whatever this version does not know.
    raw: bytes
    #: The trace that the provider's request was a part of, as W3C Trace Context has it; None: it told none.
    traceparent: str | None = None
    #: What vendors of tracing systems have added to it.
    tracestate: str | None = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """What can be told of an event at a glance; empty where even that cannot be read."""

    id: str = ""
    type: str = ""
    subject: str = ""


class _Envelope(msgspec.Struct):
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: msgspec.Raw
    sequence: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class _Facts(msgspec.Struct):
    conversation: ConversationFacts | None
    provider: ProviderFacts
    assurance: str
    received_at: datetime
    capture: str
    replayed: bool
    rollup: RollupFacts | None = None
    copy_of: str | None = None


class _Merging(msgspec.Struct):
    merged: tuple[str, ...]


class _MergedEnvelope(msgspec.Struct):
    data: _Merging


_NOTHING: Final = Head()
_head = msgspec.json.Decoder(Head)
_envelope = msgspec.json.Decoder(_Envelope)
_facts = msgspec.json.Decoder(_Facts)
_merged = msgspec.json.Decoder(_MergedEnvelope)
_bodies: dict[str, msgspec.json.Decoder[Body]] = {
    str(body.__struct_config__.tag): msgspec.json.Decoder(body) for body in get_args(EventBody)
}


def glance(raw: bytes) -> Head:
    """Id, type and subject of an envelope, cheaply. Bytes that are no envelope have empty ones."""
    try:
        return _head.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _NOTHING


def merged_keys(raw: bytes) -> tuple[str, ...]:
    """The keys that a `conversation.merged` says now resolve to its subject; none where that cannot be read."""
    try:
        return _merged.decode(raw).data.merged
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()


def decode(raw: bytes, position: str = "") -> Published:
    """An envelope as a value.

    Args:
        raw: the envelope, JSON.
        position: the entry id that it stands under in the stream.

    Raises ParseError for bytes that are no envelope of ours; an unknown type or body is none.
    """
    try:
        envelope = _envelope.decode(raw)
        data = bytes(envelope.data)
        facts = _facts.decode(data)
        sequence = None if envelope.sequence is None else int(envelope.sequence)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        # What msgspec says holds names and types of fields and no values.
        raise ParseError("$", f"no envelope: {type(error).__name__}") from None
    return Published(
        id=envelope.id,
        source=envelope.source,
        type=envelope.type,
        subject=envelope.subject,
        time=envelope.time,
        sequence=sequence,
        body=_body(envelope.type, data),
        conversation=facts.conversation,
        provider=facts.provider,
        assurance=facts.assurance,
        received_at=facts.received_at,
        capture=facts.capture,
        replayed=facts.replayed,
        rollup=facts.rollup,
        copy_of=facts.copy_of,
        position=position,
        raw=raw,
        traceparent=envelope.traceparent,
        tracestate=envelope.tracestate,
    )


def _body(kind: str, data: bytes) -> EventBody | Unknown:
    decoder = _bodies.get(kind)
    if decoder is not None:
        try:
            return decoder.decode(data)  # type: ignore[return-value]  # one of the union, by its tag
        except msgspec.ValidationError:  # a later version's word where this one knows a closed list
            pass
    return Unknown(msgspec.json.decode(data))
