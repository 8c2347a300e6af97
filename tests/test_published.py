"""Everything that is published, of simulated callbacks and of every fixture, against the committed schemas."""

from typing import Any

import msgspec
import orjson
import pytest
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator

from receiver.documents.files import ENVELOPE, committed, data_file
from schemas.clock import parse_time
from schemas.events import EVENT_TYPES
from schemas.published import DATA, Envelope
from tests.publishing import Published, publish

SCHEMAS = {name: schema for name, schema in committed().items() if name.endswith(".schema.json")}
#: An envelope of the account as a whole, with every field, to be broken in one place.
SOUND: dict[str, Any] = {
    "specversion": "1.0",
    "id": "telnyx:main:1",
    "source": "/webhooks/telnyx/main",
    "type": "account.notice",
    "subject": "ac_" + "a" * 26,
    "time": "2026-11-21T12:00:00.000Z",
    "sequence": "0000000000000001",
    "data": {
        "conversation": None,
        "notice": {"kind": "10dlc.brand.update", "detail": {"why": [1, None]}},
        "provider": {"name": "telnyx", "account": "main", "type": "10dlc.brand.update", "ids": {}},
        "assurance": "signed",
        "received_at": "2026-11-21T12:00:00.123Z",
        "capture": "cp_1",
        "replayed": False,
    },
}
PEOPLE = {
    "key": "cv_" + "b" * 26,
    "kind": "direct",
    "participants": ["+15555550111"],
    "lines": ["+15555550100"],
    "provisional": False,
}


@pytest.fixture(scope="module")
async def published(redis_url: str) -> Published:
    """The events of simulated callbacks of all providers, and those of every fixture."""
    return await publish(redis_url)


def validator(schema: dict[str, Any]) -> Any:
    """A validator that also holds texts to their formats."""
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that takes no property which it does not name."""
    definitions = {name: only_named(each) for name, each in schema["$defs"].items()}
    return {**only_named(schema), "$defs": definitions}


def only_named(schema: dict[str, Any]) -> dict[str, Any]:
    """An object's schema that takes no other property; one of free names stays free."""
    return {"additionalProperties": False, **schema}


def with_(path: str, value: Any) -> dict[str, Any]:
    """The sound envelope with another value in one place; `...` leaves the place out."""
    changed: dict[str, Any] = orjson.loads(orjson.dumps(SOUND))
    *parents, name = path.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return changed


# --- what is published ------------------------------------------------------------------------------------


async def test_simulation_and_fixtures_have_every_type(published: Published) -> None:
    """No type of event is left untried by what follows."""
    assert {orjson.loads(event)["type"] for event in published.every} == EVENT_TYPES


async def test_every_event_fits_the_envelope(published: Published) -> None:
    """Whatever is published is valid by the one schema that has all types."""
    check = validator(SCHEMAS[ENVELOPE])

    wrong = [error.message for event in published.every for error in check.iter_errors(orjson.loads(event))]

    assert wrong == []


async def test_every_data_fits_the_schema_of_its_type(published: Published) -> None:
    """The schema of a type accepts its data, and names every property that stands in it."""
    checks = {name: validator(closed(SCHEMAS[data_file(name)])) for name in DATA}
    events = [orjson.loads(event) for event in published.every]

    wrong = [error.message for each in events for error in checks[each["type"]].iter_errors(each["data"])]

    assert wrong == []


async def test_every_event_is_of_the_types_that_its_schema_is_made_of(published: Published) -> None:
    """Decoded into the classes and encoded again, an event is what it was: they leave nothing out."""
    again = []
    for event in published.every:
        envelope = msgspec.json.decode(event, type=Envelope)
        data = msgspec.convert(envelope.data, DATA[envelope.type])
        whole = msgspec.structs.replace(envelope, data=msgspec.to_builtins(data))
        again.append(orjson.loads(msgspec.json.encode(whole)))

    assert [comparable(each) for each in again] == [comparable(orjson.loads(event)) for event in published.every]


def comparable(event: dict[str, Any]) -> dict[str, Any]:
    """An event with its times as moments: a class writes them without zeros at their end."""
    data = {**event["data"], "received_at": parse_time(event["data"]["received_at"])}
    return {**event, "time": parse_time(event["time"]), "data": data}


async def test_the_sdk_of_cloudevents_parses_every_event(published: Published) -> None:
    """The CloudEvents SDK for Python takes each one, and finds in it what we say is there."""
    for event in published.every:
        parsed, said = JSONFormat().read(None, event), orjson.loads(event)

        assert (parsed.get_id(), parsed.get_type(), parsed.get_source()) == (said["id"], said["type"], said["source"])
        assert (parsed.get_subject(), parsed.get_specversion()) == (said["subject"], "1.0")
        assert parsed.get_time() == parse_time(said["time"])
        assert parsed.get_extension("sequence") == said.get("sequence")
        assert parsed.get_data() == said["data"]


async def test_channels_carry_the_types_and_subjects_that_they_are_named_for(published: Published) -> None:
    """An event is on the channel of its type and subject; a merge on those of the earlier keys as well."""
    for channel, event in published.channels:
        said = orjson.loads(event)
        _, _, kind_and_key = channel.partition(":events:")
        kind, _, key = kind_and_key.rpartition(":")

        assert kind == said["type"]
        assert key in {said["subject"], *said["data"].get("merged", ())}


async def test_what_is_not_in_the_stream_is_typing(published: Published) -> None:
    """Everything else is the record's; and what is numbered there is numbered on the channels alike."""
    stream = set(published.stream)

    assert {orjson.loads(data)["type"] for _, data in published.channels if data not in stream} == {"typing"}
    assert stream <= {data for _, data in published.channels}


# --- what the schemas refuse ------------------------------------------------------------------------------


def test_a_sound_envelope_is_one() -> None:
    """The envelope that the next tests break is valid."""
    assert validator(SCHEMAS[ENVELOPE]).is_valid(SOUND)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("specversion", "1.1"),
        ("id", ""),
        ("source", "telnyx"),
        ("type", ...),
        ("subject", "ac_short"),
        ("time", "yesterday"),
        ("sequence", "1"),
        ("sequence", ...),
        ("data", None),
        ("data.conversation", PEOPLE),
        ("data.notice", ...),
        ("data.notice.detail", ...),
        ("data.provider.ids", {"call": 1}),
        ("data.assurance", "hearsay"),
        ("data.received_at", "2026-11-21"),
        ("data.replayed", None),
        ("type", "typing"),
        ("type", "message.received"),
        ("subject", "cv_" + "a" * 26),
    ],
)
def test_an_envelope_that_is_none_of_ours_is_refused(path: str, value: Any) -> None:
    """A field that is missing or has another form, data of another type, a conversation where there is none."""
    assert not validator(SCHEMAS[ENVELOPE]).is_valid(with_(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("partitionkey", "a"),
        ("data.weather", "fine"),
        ("data.provider.region", "eu"),
        ("type", "message.translated"),
    ],
)
def test_what_later_versions_may_add_is_accepted(path: str, value: Any) -> None:
    """Unknown properties at any depth, and unknown types, are no mistake."""
    assert validator(SCHEMAS[ENVELOPE]).is_valid(with_(path, value))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_a_json_schema(name: str) -> None:
    """Each is valid by the meta-schema of the dialect that it names."""
    Draft202012Validator.check_schema(SCHEMAS[name])

    assert SCHEMAS[name]["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
