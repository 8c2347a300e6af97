"""JSON Schema (2020-12) of the envelope and of every type's `data`, from the classes in `schemas.published`. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import NODEFAULT, UnsetType, inspect

from receiver.documents.notes import field_notes
from schemas.published import DATA, PUBLISHED_ONLY, Envelope

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Where the schemas of one document stand, by their names.
_DEFINITIONS = "#/$defs/{name}"


def envelope_schema() -> Schema:
    """The envelope, with the `data` of every known type; other types are accepted as they are."""
    found = components([Envelope, *DATA.values()], _DEFINITIONS)
    return {
        "$schema": DIALECT,
        "$id": "urn:partyline:schema:envelope",
        **found.pop(Envelope.__name__),
        "allOf": [ABOUT, *(_when_type(name) for name in DATA)],
        "$defs": found,
    }


def data_schema(event_type: str) -> Schema:
    """The `data` of one type of event."""
    data = DATA[event_type]
    found = components([data], _DEFINITIONS)
    identifier = f"urn:partyline:schema:data:{event_type}"
    return {"$schema": DIALECT, "$id": identifier, **found.pop(data.__name__), "$defs": found}


def fields_of_type(event_type: str, template: str) -> Schema:
    """What the envelope of one type has that others have not."""
    data = {"$ref": template.format(name=DATA[event_type].__name__)}
    if event_type in PUBLISHED_ONLY:
        return {"properties": {"data": data, "sequence": False}}
    return {"properties": {"data": data}, "required": ["sequence"]}


def _when_type(event_type: str) -> Schema:
    return {"if": _has("type", {"const": event_type}), "then": fields_of_type(event_type, _DEFINITIONS)}


def _has(name: str, schema: Schema) -> Schema:
    return {"properties": {name: schema}, "required": [name]}


def _conversation(kind: str) -> Schema:
    return {"properties": {"data": {"properties": {"conversation": {"type": kind}}}}}


#: What the subject says about the data: an account as a whole has no conversation.
ABOUT: Schema = {
    "if": _has("subject", {"pattern": "^ac_"}),
    "then": _conversation("null"),
    "else": _conversation("object"),
}


# --- classes to schemas -----------------------------------------------------------------------------------


def components(types: Iterable[Any], template: str) -> dict[str, Schema]:
    """The schema of each class that types are made of, by its name. `template`: how one refers to another."""
    wanted = list(types)
    _, found = msgspec.json.schema_components(wanted, ref_template=template)
    classes = {each.__name__: each for each in _classes(inspect.multi_type_info(wanted))}
    return {name: _as_encoded(schema, classes[name]) for name, schema in sorted(found.items())}


def _classes(types: Iterable[inspect.Type]) -> Iterator[type[msgspec.Struct]]:
    for each in types:
        if isinstance(each, inspect.StructType):
            yield each.cls
            yield from _classes(field.type for field in each.fields)
        elif isinstance(each, inspect.UnionType):
            yield from _classes(each.types)
        elif isinstance(each, inspect.CollectionType):
            yield from _classes([each.item_type])
        elif isinstance(each, inspect.DictType):
            yield from _classes([each.value_type])


def _as_encoded(schema: Schema, described: type[msgspec.Struct]) -> Schema:
    """The schema of what is written, where msgspec gives that of what may be read: a default may be left out there.

    A class either writes its defaults, and the field is always there, or leaves them out, and no field has its default.
    """
    properties: Schema = schema["properties"]
    notes, required = field_notes(described), []
    for field in msgspec.structs.fields(described):
        shown: Schema = {key: value for key, value in properties[field.encode_name].items() if key != "default"}
        if described.__struct_config__.omit_defaults and field.default is None:
            shown = _not_null(shown)
        if _is_always_there(described, field):
            required.append(field.encode_name)
        note = notes.get(field.name)
        properties[field.encode_name] = {**shown, "description": _said(note)} if note else shown
    return {**schema, "description": _said(schema["description"]), "required": required}


def _said(text: str) -> str:
    """What the code says of itself, as JSON has it."""
    return re.sub(r"\bNone\b", "null", text)


def _is_always_there(described: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> bool:
    if isinstance(field.default, UnsetType):
        return False
    has_default = field.default is not NODEFAULT or field.default_factory is not NODEFAULT
    return not (has_default and described.__struct_config__.omit_defaults)


def _not_null(schema: Schema) -> Schema:
    branches = [branch for branch in schema.get("anyOf", []) if branch != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, "anyOf": branches} if len(branches) > 1 else {**rest, **(branches[0] if branches else {})}
