"""What counts as taking something away from a document, and what as adding."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from receiver.documents.files import ASYNCAPI, OPENAPI, committed
from schemas.additive import lost, lost_of_all

Document = dict[str, Any]
Change = Callable[[Document], None]

SCHEMA: Document = {
    "title": "Notice",
    "type": "object",
    "required": ["kind", "person"],
    "properties": {
        "kind": {"enum": ["brand", "call"]},
        "note": {"type": "string", "pattern": "^[a-z]+$"},
        "person": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]},
        "people": {"type": "array", "items": {"$ref": "#/$defs/Person"}},
        "ids": {"type": "object", "additionalProperties": {"type": "string"}},
        "detail": {},
    },
    "allOf": [
        {"if": {"properties": {"kind": {"const": "call"}}}, "then": {"required": ["note"]}},
        {"if": {"properties": {"kind": {"const": "brand"}}}, "then": {"properties": {"note": False}}},
    ],
    "$defs": {"Person": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
}

ROUTES: Document = {
    "openapi": "3.1.1",
    "paths": {
        "/links": {
            "post": {
                "parameters": [{"$ref": "#/components/parameters/Limit"}],
                "requestBody": {
                    "required": False,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Link"}}},
                },
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Linked"}}}},
                    "404": {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/No"}}}},
                },
            },
            "delete": {"responses": {"200": {"description": "It is taken back."}}},
        },
        "/healthz": {"get": {"responses": {"200": {"description": "It lives."}}}},
    },
    "components": {
        "parameters": {"Limit": {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 100}}},
        "schemas": {
            "Link": {
                "type": "object",
                "required": ["one"],
                "properties": {"one": {"type": "string"}, "other": {"type": "string"}},
            },
            "Linked": {"type": "object", "required": ["capture"], "properties": {"capture": {"type": "string"}}},
            "Problem": {"type": "object", "required": ["reason"], "properties": {"reason": {"type": "string"}}},
            "No": {
                "allOf": [{"$ref": "#/components/schemas/Problem"}],
                "properties": {"reason": {"enum": ["not_found", "unknown_account"]}},
            },
        },
    },
}

CHANNELS: Document = {
    "asyncapi": "3.0.0",
    "channels": {
        "typing": {
            "address": "events:typing",
            "messages": {"typing": {"$ref": "#/components/messages/typing"}},
        },
        "dead": {
            "address": "dead",
            "messages": {"letter": {"payload": {"type": "object", "properties": {"reason": {"type": "string"}}}}},
        },
    },
    "components": {
        "messages": {
            "typing": {"payload": {"type": "object", "properties": {"is_typing": {"type": "boolean"}}}},
        }
    },
}


def changed(document: Document, change: Change) -> Document:
    """A copy of a document with a change made to it."""
    copy: Document = orjson.loads(orjson.dumps(document))
    change(copy)
    return copy


def at(*path: str | int, to: Any) -> Change:
    """Set one place of a document."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = to

    return change


def without(*path: str | int) -> Change:
    """Remove one place of a document."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return change


POST = ("paths", "/links", "post")
LINK = ("components", "schemas", "Link")
TYPING = ("components", "messages", "typing", "payload", "properties", "is_typing")

LOSSES: dict[str, tuple[Document, Change, str]] = {
    "property": (SCHEMA, without("properties", "note"), "Notice.note: is gone"),
    "deep_property": (SCHEMA, without("$defs", "Person", "properties", "name"), "Notice.person.name: is gone"),
    "type": (
        SCHEMA,
        at("properties", "note", "type", to="integer"),
        "Notice.note: can no longer be of type string",
    ),
    "null": (SCHEMA, at("properties", "person", to={"$ref": "#/$defs/Person"}), "Notice.person: can no longer be null"),
    "more_types": (
        SCHEMA,
        at("properties", "note", "type", to=["string", "null"]),
        "Notice.note: can now be null, which its readers do not expect",
    ),
    "anything": (SCHEMA, at("properties", "detail", "type", to="object"), "Notice.detail: can no longer be anything"),
    "word": (SCHEMA, at("properties", "kind", "enum", to=["brand"]), "Notice.kind: can no longer be call"),
    "words": (
        SCHEMA,
        at("properties", "note", "enum", to=["a", "b"]),
        "Notice.note: could be any value and is now one of a, b",
    ),
    "no_words": (
        SCHEMA,
        at("properties", "kind", to={"type": "string"}),
        "Notice.kind: was one of brand, call and can now be any value",
    ),
    "bound": (
        SCHEMA,
        at("properties", "note", "pattern", to="^[a-f]+$"),
        "Notice.note: pattern was ^[a-z]+$ and is now ^[a-f]+$",
    ),
    "new_bound": (
        SCHEMA,
        at("properties", "note", "maxLength", to=5),
        "Notice.note: maxLength was not set and is now 5",
    ),
    "required": (
        SCHEMA,
        at("required", to=["kind", "note", "person"]),
        "Notice.note: was optional and is now required",
    ),
    "optional": (SCHEMA, at("required", to=["kind"]), "Notice.person: was always there and is now optional"),
    "item": (
        SCHEMA,
        at("properties", "people", "items", to={"type": "string"}),
        "Notice.people[]: can no longer be of type object",
    ),
    "value": (
        SCHEMA,
        at("properties", "ids", "additionalProperties", to={"type": "integer"}),
        "Notice.ids.*: can no longer be of type string",
    ),
    "condition": (SCHEMA, without("allOf", 0), "Notice, where kind is call: nothing is promised any more"),
    "promise": (
        SCHEMA,
        at("allOf", 0, "then", to={}),
        "Notice, where kind is call.note: was always there and is now optional",
    ),
    "route": (ROUTES, without("paths", "/healthz"), "/healthz: the route is gone"),
    "method": (ROUTES, without("paths", "/links", "delete"), "DELETE /links: the method is gone"),
    "answer": (ROUTES, without(*POST, "responses", "404"), "POST /links: the answer 404 is gone"),
    "answered": (
        ROUTES,
        at(*POST, "responses", "200", "content", to={"text/plain": {}}),
        "POST /links, answer 200: application/json is gone",
    ),
    "answered_property": (
        ROUTES,
        without("components", "schemas", "Linked", "properties", "capture"),
        "POST /links, answer 200.capture: is gone",
    ),
    "reason": (
        ROUTES,
        at("components", "schemas", "No", "properties", "reason", "enum", to=["not_found"]),
        "POST /links, answer 404.reason: can no longer be unknown_account",
    ),
    "inherited": (
        ROUTES,
        at("components", "schemas", "Problem", "required", to=[]),
        "POST /links, answer 404.reason: was always there and is now optional",
    ),
    "body": (
        ROUTES,
        at(*POST, "requestBody", "required", to=True),
        "POST /links, request: was optional and is now required",
    ),
    "asked": (
        ROUTES,
        at(*LINK, "required", to=["one", "other"]),
        "POST /links, request.other: was optional and is now required",
    ),
    "asked_new": (
        ROUTES,
        at(*LINK, "required", to=["one", "weather"]),
        "POST /links, request.weather: was optional and is now required",
    ),
    "asked_type": (
        ROUTES,
        at(*LINK, "properties", "one", "type", to="integer"),
        "POST /links, request.one: can no longer be of type string",
    ),
    "parameter": (ROUTES, at(*POST, "parameters", to=[]), "POST /links: the query parameter limit is gone"),
    "parameter_bound": (
        ROUTES,
        at("components", "parameters", "Limit", "schema", "maximum", to=50),
        "POST /links, parameter limit: maximum was 100 and is now 50",
    ),
    "parameter_required": (
        ROUTES,
        at("components", "parameters", "Limit", "required", to=True),
        "POST /links: the query parameter limit is now required",
    ),
    "channel": (CHANNELS, without("channels", "dead"), "dead: the channel is gone"),
    "address": (
        CHANNELS,
        at("channels", "dead", "address", to="letters"),
        "dead: the channel has moved from dead to letters",
    ),
    "message": (CHANNELS, without("channels", "dead", "messages", "letter"), "dead: the message letter is gone"),
    "payload": (
        CHANNELS,
        at(*TYPING, "type", to="string"),
        "typing, message typing.is_typing: can no longer be of type boolean",
    ),
}

GAINS: dict[str, tuple[Document, Change]] = {
    "nothing": (SCHEMA, lambda _: None),
    "property": (SCHEMA, at("properties", "weather", to={"type": "string"})),
    "property_that_is_always_there": (
        SCHEMA,
        lambda schema: schema.update(
            required=["kind", "person", "weather"], properties={**schema["properties"], "weather": {"type": "string"}}
        ),
    ),
    "deep_property": (SCHEMA, at("$defs", "Person", "properties", "age", to={"type": "integer"})),
    "word": (SCHEMA, at("properties", "kind", "enum", to=["brand", "call", "quality"])),
    "words_in_another_order": (SCHEMA, at("properties", "kind", "enum", to=["call", "brand"])),
    "description": (SCHEMA, at("properties", "note", "description", to="Why.")),
    "condition": (SCHEMA, lambda schema: schema["allOf"].append({"if": {"required": ["x"]}, "then": {}})),
    "type_of_event": (CHANNELS, at("channels", "reacted", to={"address": "events:reacted", "messages": {}})),
    "message": (CHANNELS, at("channels", "dead", "messages", "obituary", to={"payload": {}})),
    "route": (ROUTES, at("paths", "/readyz", to={"get": {"responses": {}}})),
    "method": (ROUTES, at("paths", "/healthz", "head", to={"responses": {}})),
    "answer": (ROUTES, at(*POST, "responses", "503", to={"description": "Later."})),
    "asked": (ROUTES, at(*LINK, "properties", "account", to={"type": "string"})),
    "asked_less": (ROUTES, at(*LINK, "required", to=[])),
    "asked_more_loosely": (ROUTES, at(*LINK, "properties", "one", to={})),
    "asked_for_any_word": (
        changed(ROUTES, at(*LINK, "properties", "one", to={"enum": ["a", "b"]})),
        at(*LINK, "properties", "one", to={"type": "string"}),
    ),
    "asked_of_more_types": (ROUTES, at(*LINK, "properties", "one", "type", to=["string", "integer"])),
    "parameter": (
        ROUTES,
        lambda routes: routes["paths"]["/links"]["post"]["parameters"].append(
            {"in": "query", "name": "after", "schema": {"type": "string"}}
        ),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_taken_away_is_told_in_a_sentence(name: str) -> None:
    """Removing, narrowing or requiring anything is one loss, with the place and what has become of it."""
    document, change, sentence = LOSSES[name]

    assert lost(document, changed(document, change)) == [sentence]


@pytest.mark.parametrize("name", GAINS)
def test_what_is_added_is_no_loss(name: str) -> None:
    """New properties, words, types, channels, routes, and asking for less."""
    document, change = GAINS[name]

    assert lost(document, changed(document, change)) == []


def test_a_document_that_refers_to_itself_can_be_compared() -> None:
    """A schema may be made of itself, and what is lost in it is told once."""
    tree = {"type": "object", "properties": {"of": {"$ref": "#/$defs/Tree"}, "name": {"type": "string"}}}
    document = {"title": "Tree", "$ref": "#/$defs/Tree", "$defs": {"Tree": tree}}

    assert lost(document, document) == []
    assert lost(document, changed(document, without("$defs", "Tree", "properties", "name"))) == ["Tree.name: is gone"]


def test_a_document_that_is_gone_is_a_loss() -> None:
    """Each document of a set is compared with its own successor."""
    before = {"one.json": SCHEMA, "other.json": CHANNELS}
    after = {"one.json": changed(SCHEMA, without("properties", "note")), "new.json": ROUTES}

    assert lost_of_all(before, after) == ["one.json: Notice.note: is gone", "other.json: is gone"]


#: The messages of channels, and the refusals of routes, say all of this, and more, themselves.
PROMISED_TWICE = {
    ASYNCAPI: [("components", "schemas", "Envelope", "properties", "data")],
    OPENAPI: [("components", "schemas", "Problem", "properties", name) for name in ("status", "reason")],
}


@pytest.mark.parametrize("name", committed())
def test_every_property_of_the_real_documents_is_looked_at(name: str) -> None:
    """Taking a property, anywhere, out of a committed document is noticed; of the large ones every third is tried."""
    document = committed()[name]
    places = list(properties(document))
    if name in PROMISED_TWICE:
        places = places[::3]

    unnoticed = [place for place in places if not lost(document, changed(document, without(*place)))]

    assert places
    assert [place for place in unnoticed if place not in PROMISED_TWICE.get(name, [])] == []


def properties(value: Any, *path: str | int) -> list[tuple[str | int, ...]]:
    """Where the named properties of all schemas in a document stand; conditions ask, and promise nothing."""
    if isinstance(value, list):
        return [place for number, each in enumerate(value) for place in properties(each, *path, number)]
    if not isinstance(value, dict):
        return []
    named = value.get("properties", {}) if path[-1:] != ("properties",) else {}
    own = [(*path, "properties", name) for name in named]
    return own + [place for key, each in value.items() if key != "if" for place in properties(each, *path, key)]
