"""The AsyncAPI document: accepted by AsyncAPI's own schema, and true of what is really published."""

import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator

from receiver.documents.files import ASYNCAPI, committed
from schemas.callback import AccountFacts
from schemas.clock import parse_time
from schemas.events import EVENT_TYPES
from schemas.ids import CaptureId
from schemas.keyspace import Keyspace
from schemas.wire import QUARANTINE_FIELDS, Presented, Quarantined, encode_facts, encode_quarantined
from tests.npm import is_required
from tests.publishing import Published, publish

DOCUMENT = committed()[ASYNCAPI]
#: What brings AsyncAPI's own schema of its documents; nothing on PyPI does.
SPECS = "@asyncapi/specs@6.11.1"


@pytest.fixture(scope="module")
async def published(redis_url: str) -> Published:
    """The events of simulated callbacks of all providers, and those of every fixture."""
    return await publish(redis_url)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The schema that the AsyncAPI Initiative publishes for version 3.0.0: `make test-deep` fetches it with npm."""
    if not is_required():
        pytest.skip("set NPM_VALIDATORS=1 to have npm fetch AsyncAPI's own schema (make test-deep)")
    folder: Path = tmp_path_factory.mktemp("specs")
    subprocess.run(["npm", "pack", "--silent", SPECS], cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=100)
    [archive] = folder.glob("*.tgz")
    with tarfile.open(archive) as members:
        file = members.extractfile("package/schemas/3.0.0.json")
        assert file is not None
        return orjson.loads(file.read())


def messages(channel: str) -> list[Any]:
    """A validator for each message of a channel."""
    names = DOCUMENT["channels"][channel]["messages"]
    # In this dialect what stands beside a reference is only there to be referred to.
    return [Draft7Validator({**DOCUMENT, "$ref": f"#/components/messages/{name}/payload"}) for name in names]


def as_text(fields: dict[bytes, bytes]) -> dict[str, str]:
    """A stream entry as JSON has it."""
    return {name.decode(): value.decode("latin-1") for name, value in fields.items()}


def fields_of(stream: str) -> set[frozenset[str]]:
    """The fields that the messages of a stream have."""
    described = [DOCUMENT["components"]["messages"][name] for name in DOCUMENT["channels"][stream]["messages"]]
    return {frozenset(message["payload"]["properties"]) for message in described}


# --- accepted by others -----------------------------------------------------------------------------------


def test_the_official_schema_accepts_it(official: Any) -> None:
    """It is an AsyncAPI 3.0 document."""
    errors = [error.message for error in Draft7Validator(official).iter_errors(DOCUMENT)]

    assert errors == []


@pytest.mark.parametrize(
    "path",
    [
        ("operations", "typing", "action"),
        ("channels", "typing", "address"),
        ("components", "schemas", "Change", "type"),
        ("components", "messages", "typing", "contentType"),
    ],
)
def test_the_official_schema_looks_closely(official: Any, path: tuple[str, ...]) -> None:
    """A number where a word must be is noticed, at any depth."""
    broken: Any = orjson.loads(orjson.dumps(DOCUMENT))
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = 7

    assert not Draft7Validator(official).is_valid(broken)


# --- true -------------------------------------------------------------------------------------------------


def test_it_has_every_type_and_every_stream() -> None:
    """A channel for each type, and the four streams; partyline sends on all of them."""
    assert set(DOCUMENT["channels"]) == EVENT_TYPES | {"events", "captures", "dead", "quarantine"}
    assert {operation["action"] for operation in DOCUMENT["operations"].values()} == {"send"}


def test_addresses_are_those_of_the_keyspace() -> None:
    """With a namespace in its braces and a subject in the places of the parameters, an address is the key."""
    keys = Keyspace("prod")
    filled = {
        name: channel["address"].replace("{namespace}", "{prod}").replace("{subject}", "cv_x")
        for name, channel in DOCUMENT["channels"].items()
    }

    assert filled.pop("events") == keys.events
    assert filled.pop("captures") == keys.captures
    assert filled.pop("dead") == keys.dead
    assert filled.pop("quarantine") == keys.quarantine
    assert filled == {name: keys.channel(name, "cv_x") for name in EVENT_TYPES}


def test_parameters_are_those_of_the_address() -> None:
    """Each parameter stands in the address, and none there is unknown."""
    for channel in DOCUMENT["channels"].values():
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel["parameters"])


async def test_what_is_told_on_a_channel_fits_its_message(published: Published) -> None:
    """Each event, on the channel that it was really published on."""
    checks = {name: messages(name) for name in EVENT_TYPES}
    wrong = []
    for channel, event in published.channels:
        event_type = channel.split(":")[3]
        [check] = checks[event_type]
        wrong += [f"{event_type}: {error.message}" for error in check.iter_errors(orjson.loads(event))]

    assert wrong == []
    assert {channel.split(":")[3] for channel, _ in published.channels} == EVENT_TYPES


@pytest.mark.parametrize("stream", ["events", "captures", "dead"])
async def test_an_entry_of_a_stream_fits_its_message(published: Published, stream: str) -> None:
    """Every entry is one of the messages of its stream, and has no field that is not described."""
    entries = [as_text(fields) for fields in published.streams[stream]]
    checks = messages(stream)

    assert entries
    assert [entry for entry in entries if not any(check.is_valid(entry) for check in checks)] == []
    assert {frozenset(entry) for entry in entries} == fields_of(stream)


def test_an_entry_of_the_quarantine_fits_its_message() -> None:
    """What is kept aside has the fields that are described, and they are texts."""
    moment = parse_time("2026-11-21T12:00:00.000Z")
    assert moment is not None
    entry = Quarantined(
        CaptureId("cp_1"), "telnyx", "main", moment, "signature_missing", (), Presented({}), AccountFacts(), b"{}"
    )
    fields = dict(zip(QUARANTINE_FIELDS, encode_quarantined(entry, encode_facts(entry.facts)), strict=True))
    [check] = messages("quarantine")

    assert check.is_valid(as_text(fields))
    assert {frozenset(as_text(fields))} == fields_of("quarantine")
    assert not check.is_valid(as_text({**fields, b"received_at": b"then"}) | {"body": 7})
