"""OpenAPI 3.1 of the HTTP routes, from the table that they are made of. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import msgspec

from receiver.answers import PROBLEM, Refusal
from receiver.documents.json_schema import DIALECT, Schema, components
from receiver.operations import OPERATIONS, TEXT, Operation
from receiver.resources import Problem

_SCHEMAS = "#/components/schemas/{name}"
_JSON = "application/json"
_BEARER = "bearer"
#: What stands in paths.
_SEGMENTS = {
    "provider": "The name of a provider, in lower case.",
    "account": "The name of a configured account.",
    "url_token": "One of the account's `url_tokens`.",
    "key": "The key of a conversation, merged or not.",
}
#: Statuses that say when to come again.
_LATER = frozenset({HTTPStatus.SERVICE_UNAVAILABLE})


def open_api(version: str) -> Schema:
    """The document of one version of the program."""
    paths: dict[str, Schema] = defaultdict(dict)
    for operation in OPERATIONS:
        paths[operation.path][operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.1",
        "jsonSchemaDialect": DIALECT,
        "info": {
            "title": "partyline",
            "version": version,
            "description": "Receives webhooks of messaging providers, and tells which conversation each belongs to. "
            "Where `server.admin_port` is set, `/webhooks` is on the other port alone, health on both, and "
            "everything else on the admin port alone.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components(_classes(), _SCHEMAS),
            "securitySchemes": {
                _BEARER: {"type": "http", "scheme": "bearer", "description": "One of `server.api_tokens`."}
            },
        },
    }


def _classes() -> Iterator[Any]:
    yield Problem
    for operation in OPERATIONS:
        mentioned = (operation.answer, operation.body, *operation.answers.values())
        yield from (each for each in mentioned if _is_class(each))


def _is_class(described: Any) -> bool:
    return isinstance(described, type) and issubclass(described, msgspec.Struct)


def _operation(operation: Operation) -> Schema:
    described: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path(operation.path), *_query(operation)],
        "responses": _responses(operation),
        "security": [{_BEARER: []}] if operation.guarded else [],
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": _schema(operation.body)}}}
    return described


def _schema(described: Any) -> Schema:
    return {"$ref": _SCHEMAS.format(name=described.__name__)} if _is_class(described) else {}


# --- what is asked ----------------------------------------------------------------------------------------


def _path(path: str) -> list[Schema]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _SEGMENTS[name],
            "schema": {"type": "string", "pattern": "^[^/]+$"},
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query(operation: Operation) -> list[Schema]:
    if operation.query is None:
        return []
    described = components([operation.query], _SCHEMAS)[operation.query.__name__]
    return [_parameter(name, schema, described["required"]) for name, schema in described["properties"].items()]


def _parameter(name: str, schema: Schema, required: list[str]) -> Schema:
    value = {word: said for word, said in schema.items() if word != "description"}
    return {
        "name": name,
        "in": "query",
        "required": name in required,
        "description": schema["description"],
        "schema": value,
    }


# --- what is answered -------------------------------------------------------------------------------------


def _responses(operation: Operation) -> Schema:
    answers = {200: operation.answer, **operation.answers}
    problems = _reasons(operation.refusals)
    return {
        str(status): _answer(status, answers[status]) if status in answers else _problem(status, problems[status])
        for status in sorted({*answers, *problems})
    }


def _answer(status: int, described: Any) -> Schema:
    content = {TEXT: {"schema": {"type": "string"}}} if described == TEXT else {_JSON: {"schema": _schema(described)}}
    says = described.__doc__ if _is_class(described) else HTTPStatus(status).phrase
    return {"description": says, "content": content}


def _reasons(refusals: Iterable[Refusal]) -> dict[int, list[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for status, reason in refusals:
        found[status].add(reason)
    return {status: sorted(reasons) for status, reasons in found.items()}


def _problem(status: int, reasons: list[str]) -> Schema:
    """A problem of one status: which reasons there are."""
    schema = {
        "allOf": [_schema(Problem)],
        "type": "object",
        "properties": {"status": {"const": status}, "reason": {"enum": reasons}},
    }
    described: Schema = {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(reasons)}.",
        "content": {PROBLEM.decode(): {"schema": schema}},
    }
    if status in _LATER:
        seconds = {"description": "In how many seconds to come again.", "required": True, "schema": {"type": "integer"}}
        described["headers"] = {"Retry-After": seconds}
    return described
