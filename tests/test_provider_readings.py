"""`partyline providers` and what it rests on: nothing in it is written by hand, and nothing of it can drift."""

import orjson
import pytest

from receiver.cli.providers import learned_readings
from receiver.documents.reading import learned
from receiver.providers import PROVIDERS
from schemas.events import EVENT_TYPES, STATES
from schemas.published import DATA
from tests.command_line import Run, command_line
from tests.conformance import folders, load
from tests.provider_readings import PLACE, made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """`partyline providers`, run to its end."""
    return command_line(monkeypatch, capfdbinary, "providers")


def test_the_committed_reading_is_what_the_parsers_do() -> None:
    """Whoever changes a parser or a fixture makes it anew (`make documents`): to the byte."""
    assert PLACE.read_bytes() == made()


def test_a_field_is_learned_where_its_value_stands_in_one_place() -> None:
    """Of a group message of Telnyx: who wrote, what, when; not what stands in several places, nor what is derived."""
    folder = next(each for each in folders() if each.parent.name == "telnyx" and "cc_strings" in each.name)
    reading = learned([load(folder)], PROVIDERS["telnyx"])
    fields = reading.fields["message.received"]

    assert reading.callbacks == {"message.received": ["message.received"]}
    assert fields["message.text"] == ["data.payload.text"]
    assert fields["message.id"] == ["data.payload.id"]
    assert fields["time"] == ["data.occurred_at"]
    assert set(fields["conversation.set[]"]) <= {"data.payload.from.phone_number", "data.payload.cc[]"}


def test_what_was_learned_speaks_of_published_fields() -> None:
    """Types are those of events, and their fields' first words those of `data`, but for time and conversation."""
    for reading in learned_readings().values():
        types = {each for found in (reading.callbacks, reading.sends) for types in found.values() for each in types}
        assert types <= EVENT_TYPES
        for event_type, fields in reading.fields.items():
            beside = {"time", "conversation", "provider"}
            assert {ours.partition(".")[0] for ours in fields} - beside <= set(DATA[event_type].__struct_fields__)


def test_every_word_of_a_state_is_one_of_ours() -> None:
    """The tables that parsers use are those that are shown, and none is empty."""
    for provider in PROVIDERS.values():
        assert provider.words
        assert set(provider.words.values()) <= set(STATES)


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_the_words_that_fixtures_show_are_in_the_table(name: str) -> None:
    """Each report in the fixtures whose state is known has it from the provider's table, whatever its case."""
    words = {word.lower(): ours for word, ours in PROVIDERS[name].words.items()}
    shown: set[tuple[str, str]] = set()
    for folder in folders():
        if folder.parent.name == name:
            for event in orjson.loads((folder / "events.json").read_bytes()):
                if event.get("type") == "message.status" and event["status"]["raw"]:
                    shown.add((event["status"]["raw"].lower(), event["status"]["value"]))

    assert {(raw, value) for raw, value in shown if words.get(raw, "unknown") != value} == set()
    assert len({raw for raw, _ in shown if raw in words}) >= 4


def test_all_providers_are_told_of_at_a_glance(run: Run) -> None:
    """Each with its title, its schemes and their settings, and its callbacks; its fields only when it is named."""
    ended = run()
    whole = run("whatsapp")

    assert ended.status == 0
    for name, provider in PROVIDERS.items():
        assert f"{name}: " in ended.out
        assert all(
            ["proved", "by", scheme.setting] in [words[:3] for words in ended.words] for scheme in provider.schemes
        )
    assert ["handshake", "verify_tokens"] in [words[:2] for words in ended.words]
    assert ["callback", "mo_text", "message.received"] in ended.words
    assert ["registered", "send", "batch", "message.outbound"] in ended.words
    assert "message.text" not in ended.out
    assert ["state", "played", "read"] in whole.words
    assert any(
        words[:3] == ["message.received", "message.text", "entry[].changes[].value.messages[].button.text,"]
        for words in whole.words
    )


def test_programs_get_all_of_it(run: Run) -> None:
    """`--json` has one provider a line, fields included."""
    found = {each["provider"]: each for each in map(orjson.loads, run("--json").out.splitlines())}

    assert set(found) == set(PROVIDERS)
    assert found["telnyx"]["schemes"][0]["setting"] == "public_keys"
    assert found["telnyx"]["fields"]["message.received"]["message.text"][-1] == "data.payload.text"
    assert [each["provider"] for each in map(orjson.loads, run("sinch", "--json").out.splitlines())] == ["sinch"]


def test_a_provider_that_there_is_not_is_told(run: Run) -> None:
    """With those that there are."""
    ended = run("twilio")

    assert (ended.status, "there are sendblue, sinch, telnyx, whatsapp" in ended.err) == (1, True)
