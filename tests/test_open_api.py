"""The OpenAPI document: valid, served, complete, and true of what a running service answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import orjson
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from openapi_spec_validator import OpenAPIV31SpecValidator
from redis.asyncio import Redis
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.applications import Starlette
from starlette.routing import Route

from receiver.app import Front, make_app
from receiver.documents.files import FOLDER, OPENAPI
from receiver.operations import CALLBACK_PATHS, OPERATIONS, by_path
from receiver.providers import PROVIDERS
from receiver.settings import Settings
from tests.contract import DOCUMENT, mistakes
from tests.processes import Service, service
from tests.service import URL_TOKENS, VERIFY_TOKENS

TOKEN = "api-Lighthouse-one"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SEND = {
    "data": {
        "record_type": "message",
        "id": "40385f64-5717-4562-b3fc-2c963f66afa6",
        "direction": "outbound",
        "type": "SMS",
        "from": {"phone_number": "+15555550100"},
        "to": [{"phone_number": "+15555550111", "status": "queued"}],
        "text": "Noon?",
    }
}
#: How many requests of each kind Schemathesis makes up for each operation.
EXAMPLES = 8
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
]


@pytest.fixture(scope="module")
async def running(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A whole service, with a conversation in it."""
    folder: Path = tmp_path_factory.mktemp("service")
    sections: dict[str, Any] = {"redis": {"url": redis_url}, "server": {"port": 0, "api_tokens": [TOKEN]}}
    async with service(folder, f"t-{token_hex(6)}", **sections) as serving:
        sent = await serving.client.post("/v1/outbound/telnyx/main-telnyx", json=SEND, headers=BEARER)
        assert sent.status_code == 200, sent.text
        await serving.space.worked_off()
        yield serving


# --- what it says -----------------------------------------------------------------------------------------


def test_another_validator_accepts_it() -> None:
    """It is an OpenAPI 3.1 document."""
    errors = [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]

    assert errors == []


async def test_the_routes_are_those_of_the_application(redis: Redis) -> None:
    """Every route and method that is served is in the table, and nothing else is."""
    app = make_app(Settings(), PROVIDERS, [redis])
    assert isinstance(app, Front)
    assert isinstance(app._others, Starlette)
    served = {(route.path, methods_of(route)) for route in app._others.routes if isinstance(route, Route)}
    callbacks = {(path, frozenset({"GET", "POST"})) for path in CALLBACK_PATHS}
    described = {(path, frozenset(map(str.upper, methods))) for path, methods in DOCUMENT["paths"].items()}

    assert served | callbacks == described


def methods_of(route: Route) -> frozenset[str]:
    """The methods that a route answers; Starlette adds HEAD to GET."""
    handlers: Mapping[str, Any] = getattr(route.endpoint, "_handlers", dict.fromkeys(route.methods or ()))
    return frozenset(handlers) - {"HEAD"}


def test_handlers_are_found_by_the_name_of_their_operation() -> None:
    """Each operation has a name of its own, under which its handler stands at its path and method."""
    names = [operation.name for operation in OPERATIONS]

    assert len(names) == len(set(names))
    assert by_path({"unlink": 1, "link": 2, "alive": 3}) == {
        "/v1/links": {"DELETE": 1, "POST": 2},
        "/healthz": {"GET": 3},
    }
    with pytest.raises(KeyError):
        by_path({"sing": 1})


def answered(request: tuple[str, str], status: int, body: Any, content_type: str = "application/json") -> list[str]:
    """What is wrong with an answer to a request."""
    method, path = request
    asked = httpx.Request(method, f"http://partyline{path}")
    headers = {"content-type": content_type}
    return mistakes(httpx.Response(status, content=orjson.dumps(body), headers=headers, request=asked))


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (("GET", "/healthz"), 200, {"status": "dead"}),
        (("GET", "/healthz"), 200, {"status": "alive", "weather": "fine"}),
        (("GET", "/healthz"), 201, {"status": "alive"}),
        (("GET", "/v1/conversations"), 200, {"conversations": []}),
        (("GET", "/v1/conversations"), 200, {"conversations": [{"key": "cv_x"}], "after": None}),
        (("POST", "/webhooks/telnyx/main"), 200, {"status": "stored"}),
        (("GET", "/v1/nowhere"), 200, {}),
        (("PUT", "/healthz"), 200, {"status": "alive"}),
    ],
)
def test_an_answer_that_the_document_does_not_have_is_noticed(
    request_: tuple[str, str], status: int, body: Any
) -> None:
    """What tests hold every answer against looks at status, properties, values and routes."""
    assert answered(("GET", "/healthz"), 200, {"status": "alive"}) == []
    assert len(answered(request_, status, body)) >= 1


@pytest.mark.parametrize(("reason", "wrong"), [("unknown_conversation", 0), ("unknown_weather", 1)])
def test_a_reason_that_the_document_does_not_have_is_noticed(reason: str, wrong: int) -> None:
    """Each status has its reasons."""
    said = {"type": "urn:x", "title": "Not Found", "status": 404, "reason": reason, "detail": "none"}

    found = answered(("GET", "/v1/conversations/cv_x"), 404, said, "application/problem+json")

    assert len(found) == wrong


# --- what is answered -------------------------------------------------------------------------------------


async def test_the_document_is_served(running: Service) -> None:
    """To the byte as it is committed, for anybody who may reach that port."""
    answer = await running.client.get("/openapi.json")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == (FOLDER / OPENAPI).read_bytes()


def rights(key: str) -> dict[str, dict[str, Any]]:
    """What of a request to each operation is set to be right, if all must not be made up: by where it stands."""
    sinch = {"provider": "sinch", "account": "main-sinch"}
    whatsapp = {"provider": "whatsapp", "account": "main-whatsapp"}
    handshake = {"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKENS[0], "hub.challenge": "1158201444"}
    tie = {"one": "+15555550111", "other": "+15555550122", "account": "main-telnyx"}
    return {
        "receive": {"path_parameters": sinch},
        "receive_with_token": {"path_parameters": {**sinch, "url_token": URL_TOKENS["sinch"][0]}},
        "shake_hands": {"path_parameters": whatsapp, "query": handshake},
        "shake_hands_with_token": {"path_parameters": whatsapp, "query": handshake},
        "register": {"path_parameters": {"provider": "telnyx", "account": "main-telnyx"}, "body": SEND},
        "link": {"body": tie},
        "unlink": {"body": tie},
        "find": {"query": {"address": "+15555550111"}},
        "show": {"path_parameters": {"key": key}},
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS if operation.name != "describe"])
async def test_schemathesis_finds_nothing(running: Service, name: str) -> None:
    """Made-up requests, right and wrong by the document, wholly and in part: no 5xx, and no answer that it lacks.

    Schemathesis itself leaves the document out, and knows no provider's signature.
    """
    found = await running.client.get("/v1/conversations?address=%2B15555550111", headers=BEARER)
    right = rights(found.json()["conversations"][0]["key"]).get(name, {})

    statuses = await asyncio.to_thread(explore, str(running.client.base_url), name, right)

    assert 200 in statuses or name == "receive"
    assert max(statuses) < 500


@pytest.mark.slow
async def test_what_schemathesis_sent_is_worked_off(running: Service) -> None:
    """Whatever was accepted meanwhile has become events or dead letters, and the pipeline goes on."""
    token = URL_TOKENS["sinch"][1]
    last = await running.client.post(f"/webhooks/sinch/main-sinch/{token}", json={"type": "of no kind that we know"})
    await running.settled()

    assert last.json() == {"status": "captured"}


def explore(base: str, name: str, right: dict[str, Any]) -> set[int]:
    """Ask one operation of a service many things; the statuses of the answers."""
    document = schemathesis.openapi.from_url(f"{base}/openapi.json").include(operation_id=name)
    [operation] = [each.ok() for each in document.get_all_operations() if isinstance(each, Ok)]
    statuses: set[int] = set()
    with requests.Session() as session:
        for mode in schemathesis.GenerationMode:
            for part in parts_of(right):
                statuses |= ask(session, base, operation.as_strategy(generation_mode=mode, **part), mode)
    return statuses


def parts_of(right: dict[str, Any]) -> list[dict[str, Any]]:
    """All that is set to be right, then the place alone, then nothing; each once."""
    place = {where: value for where, value in right.items() if where == "path_parameters"}
    parts = [right, place, {}]
    return [part for number, part in enumerate(parts) if part not in parts[:number]]


def ask(
    session: requests.Session, base: str, cases: SearchStrategy[Any], mode: schemathesis.GenerationMode
) -> set[int]:
    """Send requests that are made up; every answer is checked."""
    statuses: set[int] = set()

    @given(case=cases)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def each(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=base, session=session, headers=BEARER)
        case.validate_response(response, checks=CHECKS, headers=BEARER, transport_kwargs={"session": session})
        statuses.add(response.status_code)

    # Where anything is right, nothing wrong can be made up.
    with suppress(Unsatisfiable) if mode.is_negative else nullcontext():
        each()
    return statuses
