"""What subscribers get, as types: the envelope, and the `data` of every type of event. Pure.

Events are written piece by piece where they are made (`schemas.envelope`, `correlator.conversation`,
`correlator.rollup`), since that is fast. These types say what comes out of it; the JSON Schemas are made of them, and
tests hold published events against both.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas import events
from schemas.address import Address
from schemas.callback import Assurance
from schemas.envelope import SEQUENCE_DIGITS
from schemas.events import STATES, Body, EventBody, Kind
from schemas.ids import AUDIENCE_PATTERN, CONVERSATION_PATTERN, SUBJECT_PATTERN
from schemas.tracing import TRACEPARENT_PATTERN, TRACESTATE_LENGTH

Key = Annotated[str, Meta(pattern=f"^{CONVERSATION_PATTERN}$")]
Sequence = Annotated[str, Meta(pattern=f"^[0-9]{{{SEQUENCE_DIGITS}}}$")]
Time = Annotated[datetime, Meta(tz=True)]

#: A number of recipients.
_Count = Annotated[int, Meta(ge=0)]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One event: CloudEvents 1.0 in JSON. Ignore what you do not know: fields and types are only ever added."""

    specversion: Literal["1.0"]
    #: The idempotency key: the same for every redelivery of one fact, different for different facts.
    id: Annotated[str, Meta(min_length=1)]
    #: The account, as the path that its provider posts to.
    source: Annotated[str, Meta(pattern="^/webhooks/[^/]+/[^/]+$")]
    #: What happened. There may be types that this version of the schema does not know.
    type: Annotated[str, Meta(min_length=1)]
    #: The key of the conversation (`cv_…`), or of the account as a whole (`ac_…`). Opaque and lasting.
    subject: Annotated[str, Meta(pattern=f"^{SUBJECT_PATTERN}$")]
    #: The provider's time of the fact, else the time of receipt.
    time: Time
    #: The trace that the provider's request was a part of, if it said so in a valid header (W3C Trace Context).
    traceparent: Annotated[str, Meta(pattern=f"^{TRACEPARENT_PATTERN}$")] | UnsetType = UNSET
    #: What vendors of tracing systems have added to it.
    tracestate: Annotated[str, Meta(min_length=1, max_length=TRACESTATE_LENGTH)] | UnsetType = UNSET
    #: Counts 1, 2, 3 … within a subject, in the order of the stream. What is only on pub/sub has none.
    sequence: Sequence | UnsetType = UNSET
    data: dict[str, Any]


class Conversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A conversation, as known when this was said."""

    key: Key
    kind: Kind
    #: The people known to be in it, sorted, without your own lines; null while nobody is known.
    participants: tuple[Address, ...] | None
    #: Your own addresses in it.
    lines: tuple[Address, ...]
    #: The same for the same people at any provider and account; absent until all of them are known.
    audience: Annotated[str, Meta(pattern=f"^{AUDIENCE_PATTERN}$")] | None = None
    #: Only an id is known and not yet who takes part, or a better word may still move it.
    provisional: bool


class Source(msgspec.Struct, frozen=True):
    """Whose callback told it."""

    name: str
    account: str
    #: The provider's own word for the type of callback.
    type: str
    #: Every id besides the message's, under the provider's own name.
    ids: dict[str, str]


#: What became of a message or batch over all its recipients, each counted once, at the furthest state known.
#: `recipients` is null until it is known how many there are.
Rollup = msgspec.defstruct(
    "Rollup",
    [("recipients", _Count | None), *[(state, _Count) for state in STATES], ("settled", bool)],
    namespace={"__doc__": "What became of a message or batch: each recipient once, at the furthest state known."},
    frozen=True,
)


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """What every event has beside its own."""

    #: Null for what concerns the account as a whole.
    conversation: Conversation | None
    provider: Source
    #: What proved the callback authentic.
    assurance: Assurance
    received_at: Time
    #: The id of the stored callback.
    capture: str
    #: A person had the callback read again.
    replayed: bool


#: What stands beside some bodies, where it is known.
_BESIDE: dict[type[Body], list[tuple[str, Any, Any]]] = {
    events.MessageStatus: [("rollup", Rollup | UnsetType, UNSET)],
    events.MessageReceived: [("copy_of", str | UnsetType, UNSET)],
}


def data_of(body: type[Body]) -> type[Data]:
    """The type of `data` in events with such a body."""
    own = [(field.name, field.type) for field in msgspec.structs.fields(body)]
    made = msgspec.defstruct(
        f"{body.__name__}Data",
        [*own, *_BESIDE.get(body, [])],
        bases=(Data,),
        namespace={"__doc__": body.__doc__},
        frozen=True,
        kw_only=True,
    )
    assert issubclass(made, Data)  # noqa: S101 - by its bases; the type checker does not see that
    return made


#: The type of `data` by type of event.
DATA: dict[str, type[Data]] = {str(body.__struct_config__.tag): data_of(body) for body in get_args(EventBody)}
#: The types that are published on pub/sub only, without a sequence.
PUBLISHED_ONLY = frozenset({str(events.Typing.__struct_config__.tag)})
