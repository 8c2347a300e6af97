"""The envelope: CloudEvents 1.0 in JSON, as subscribers get it. Pure.

Only the store knows an event's sequence, at the moment it commits. So an envelope is made as two halves that the
sequence goes between.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from schemas.callback import Capture
from schemas.clock import format_time
from schemas.events import Event, Typing
from schemas.ids import ConversationKey
from schemas.tracing import trace_of
from schemas.value import Value
from schemas.wire import encode_json

SEQUENCE_DIGITS = 16


class HalfEnvelope(Value, frozen=True):
    """An envelope as bytes: `head`, then the sequence, then `tail`. Typing has no sequence, and all in `head`."""

    head: bytes
    tail: bytes

    def at(self, sequence: int) -> bytes:
        """The whole envelope with its sequence."""
        return self.head + f"{sequence:0{SEQUENCE_DIGITS}d}".encode() + self.tail


def envelope(
    event: Event,
    capture: Capture,
    subject: ConversationKey,
    conversation: dict[str, Any] | None,
    *,
    more: Mapping[str, Any] = MappingProxyType({}),
    replayed: bool,
) -> HalfEnvelope:
    """An event as subscribers get it.

    Args:
        event: what happened.
        capture: where it was read.
        subject: the conversation's key, or the account's.
        conversation: `data.conversation`, None for the account as a whole.
        more: what is known beside the event: `data.rollup`, `data.copy_of`.
        replayed: whether a person had it read again.
    """
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/webhooks/{capture.provider}/{capture.account}",
        "type": event.type,
        "subject": subject,
        "time": format_time(event.occurred_at or capture.received_at),
        **trace_of(capture.headers),
    }
    data = {
        "conversation": conversation,
        **_body(event, conversation),
        **more,
        "provider": {
            "name": capture.provider,
            "account": capture.account,
            "type": event.provider_type,
            "ids": event.provider_ids,
        },
        "assurance": capture.assurance,
        "received_at": format_time(capture.received_at),
        "capture": capture.id,
        "replayed": replayed,
    }
    if isinstance(event.body, Typing):
        return HalfEnvelope(encode_json({**attributes, "data": data}), b"")
    return HalfEnvelope(encode_json(attributes)[:-1] + b',"sequence":"', b'","data":' + encode_json(data) + b"}")


def _body(event: Event, conversation: dict[str, Any] | None) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(event.body)
    del body["type"]
    if "members" in body and conversation is not None:
        body["members"]["after"] = conversation["participants"]
    return body
