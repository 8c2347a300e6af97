"""Every answer that a test's client gets is held against the OpenAPI document: its status, form and reason."""

import re
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from receiver.documents.files import OPENAPI, committed

DOCUMENT: dict[str, Any] = committed()[OPENAPI]
#: As they are, and with no property that they do not name.
_CLOSED = {name: {"additionalProperties": False, **each} for name, each in DOCUMENT["components"]["schemas"].items()}


@cache
def path_of(path: str) -> str | None:
    """The template that a path is of; None if there is none."""
    for template in DOCUMENT["paths"]:
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path, re.DOTALL):
            return str(template)
    return None


def media_type(response: httpx.Response) -> str:
    """The content type of an answer without what it says of the charset."""
    return response.headers["content-type"].partition(";")[0]


@cache
def validator(template: str, method: str, status: str, content_type: str) -> Any:
    """What an answer must be; KeyError where the document knows no such answer."""
    answer = DOCUMENT["paths"][template][method]["responses"][status]
    schema = answer["content"][content_type]["schema"]
    return Draft202012Validator({**schema, "components": {"schemas": _CLOSED}})


def mistakes(response: httpx.Response) -> list[str]:
    """What the document does not say of an answer. Where it knows no route or method, only a refusal is right."""
    template, method = path_of(response.request.url.path), response.request.method.lower()
    if template is None or method not in DOCUMENT["paths"][template]:
        return [] if response.status_code in {400, 404, 405} else [f"{response.status_code} without a route"]
    content_type = media_type(response)
    try:
        check = validator(template, method, str(response.status_code), content_type)
    except KeyError:
        return [f"{method} {template} answers {response.status_code} as {content_type}"]
    said = response.text if content_type == "text/plain" else response.json()
    return [f"{method} {template} {response.status_code}: {error.message}" for error in check.iter_errors(said)]


async def hold(response: httpx.Response) -> None:
    """Fail the test that got an answer which the document does not have."""
    await response.aread()
    found = mistakes(response)
    assert not found, found
