"""AsyncAPI 3.0 of what partyline writes to Redis: the channels of each type of event, and the streams. Pure.

It describes partyline itself, so everything is a `send`. Schemas are in the dialect that every tool for AsyncAPI reads,
which has no word but those that JSON Schema 2020-12 has as well.
"""

from collections.abc import Iterable
from typing import Any

from receiver.documents.json_schema import ABOUT, Schema, components, fields_of_type
from schemas.callback import ASSURANCES, CAPTURE_KINDS
from schemas.keyspace import Keyspace
from schemas.published import DATA, PUBLISHED_ONLY, Envelope
from schemas.wire import CAPTURE_FIELDS, DEAD_FIELDS, QUARANTINE_FIELDS

_SCHEMAS = "#/components/schemas/{name}"
_ENVELOPE = {"$ref": _SCHEMAS.format(name=Envelope.__name__)}
_CONTENT_TYPE = "application/cloudevents+json"

#: The braces of a key are those of a parameter: what stands in its place has them as well.
_KEYS = Keyspace("namespace")
_NAMESPACE = {
    "description": "The configured namespace within braces, which are part of the key: `{prod}`.",
    "default": "{default}",
}
_SUBJECT = {"description": "The key of a conversation (`cv_…`), or of an account as a whole (`ac_…`)."}

#: How the fields of streams are written; a text, where nothing is said.
_FORMS: dict[bytes, Schema] = {
    b"kind": {"enum": list(CAPTURE_KINDS)},
    b"assurance": {"enum": list(ASSURANCES)},
    b"received_at": {"format": "date-time"},
    b"headers": {"contentMediaType": "application/json", "description": "Pairs of name and value, as received."},
    b"facts": {"contentMediaType": "application/json", "description": "The account's settings that decisions need."},
    b"presented": {"contentMediaType": "application/json", "description": "Keyed digests of what was to prove it."},
    b"body": {"description": "The bytes as they came; they need not be text."},
    b"capture": {"description": "The id of the capture that it was read from."},
    b"reason": {"description": "A stable word for why."},
    b"detail": {"description": "The place in the body, and what is wrong there."},
}
#: The streams beside that of events: key, fields, what an entry is.
_STREAMS: dict[str, tuple[str, Iterable[bytes], str]] = {
    "captures": (_KEYS.captures, CAPTURE_FIELDS, "One callback as it came, or a send or link that was registered."),
    "dead": (_KEYS.dead, DEAD_FIELDS, "One element of a capture that could not be read."),
    "quarantine": (_KEYS.quarantine, QUARANTINE_FIELDS, "One request that failed its check and was kept aside."),
}


def async_api(version: str) -> Schema:
    """The document of one version of the program."""
    return {
        "asyncapi": "3.0.0",
        "info": _info(version),
        "servers": {
            "redis": {
                "host": "{host}",
                "protocol": "redis",
                "description": "The Redis that `redis.url` names.",
                "variables": {"host": {"default": "localhost:6379", "description": "Its host and port."}},
            }
        },
        "channels": _channels(),
        "operations": {name: _operation(name, channel) for name, channel in _channels().items()},
        "components": {
            "messages": {**{name: _event(name) for name in DATA}, **_entries()},
            "schemas": components([Envelope, *DATA.values()], _SCHEMAS),
        },
    }


def _info(version: str) -> Schema:
    return {
        "title": "partyline",
        "version": version,
        "description": "Normalised events of group messaging. The stream `events` is the record: at least once, "
        "numbered within each subject, resumable. Channels carry the same bytes at most once. De-duplicate by `id`; "
        "ignore fields and types that you do not know.",
        "license": {"name": "Apache-2.0"},
    }


def _channels() -> dict[str, Schema]:
    return {
        **{name: _pub_sub(name) for name in DATA},
        "events": _stream(_KEYS.events, [_entry_name(name) for name in DATA if name not in PUBLISHED_ONLY]),
        **{name: _stream(key, [_entry_name(name)]) for name, (key, _, _) in _STREAMS.items()},
    }


def _pub_sub(event_type: str) -> Schema:
    also = " Published on the channels of the merged keys as well." if event_type == "conversation.merged" else ""
    return {
        "address": _KEYS.channel(event_type, "{subject}"),
        "description": f"Pub/sub, a hint: at most once.{also} PSUBSCRIBE {_KEYS.every_channel} gets every type.",
        "messages": {event_type: {"$ref": f"#/components/messages/{event_type}"}},
        "parameters": {"namespace": _NAMESPACE, "subject": _SUBJECT},
    }


def _stream(key: str, messages: list[str]) -> Schema:
    return {
        "address": key,
        "description": "Stream: read it with XREAD, and keep the id of the last entry handled.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "parameters": {"namespace": _NAMESPACE},
    }


def _operation(name: str, channel: Schema) -> Schema:
    channel_reference = f"#/channels/{name}"
    return {
        "action": "send",
        "channel": {"$ref": channel_reference},
        "messages": [{"$ref": f"{channel_reference}/messages/{message}"} for message in channel["messages"]],
    }


# --- messages ---------------------------------------------------------------------------------------------


def _event(event_type: str) -> Schema:
    """A message of a channel: the envelope itself."""
    return {
        "name": event_type,
        "summary": DATA[event_type].__doc__,
        "contentType": _CONTENT_TYPE,
        "payload": _envelope(event_type),
    }


def _envelope(event_type: str) -> Schema:
    """The schema of the envelope of one type."""
    own = fields_of_type(event_type, _SCHEMAS)
    properties = {"type": {"const": event_type}, **own["properties"]}
    return {"type": "object", **own, "properties": properties, "allOf": [_ENVELOPE, ABOUT]}


def _entries() -> dict[str, Schema]:
    """The messages of streams: entries, which are flat records of texts."""
    found = {_entry_name(name): _event_entry(name) for name in DATA if name not in PUBLISHED_ONLY}
    for name, (_, fields, summary) in _STREAMS.items():
        properties = {field.decode(): {"type": "string", **_FORMS.get(field, {})} for field in fields}
        payload = {"type": "object", "properties": properties, "required": [*properties]}
        found[_entry_name(name)] = {"name": name, "summary": summary, "payload": payload}
    return found


def _entry_name(name: str) -> str:
    return f"{name}.entry"


def _event_entry(event_type: str) -> Schema:
    event: dict[str, Any] = {
        "type": "string",
        "contentMediaType": _CONTENT_TYPE,
        "contentSchema": {"$ref": f"#/components/messages/{event_type}/payload"},
        "description": "The envelope, byte for byte as on its channel.",
    }
    payload = {"type": "object", "properties": {"event": event}, "required": ["event"]}
    return {"name": event_type, "summary": DATA[event_type].__doc__, "payload": payload}
