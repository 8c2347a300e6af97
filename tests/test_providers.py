from pathlib import Path

import orjson
import pytest

from receiver.providers import PROVIDERS
from tests import conformance


@pytest.mark.parametrize("folder", conformance.folders(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_body_means_what_its_fixture_says(folder: Path) -> None:
    """Reading a fixture's body gives exactly the events worked out by hand for it."""
    capture = conformance.load(folder)

    parsed = conformance.read(PROVIDERS[capture.provider], capture)

    assert parsed == conformance.expected(folder), (
        f"{folder.name}: if the provider file is right, correct events.json by hand; it now reads\n"
        + orjson.dumps(parsed, option=orjson.OPT_INDENT_2).decode()
    )


@pytest.mark.parametrize("folder", conformance.folders(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_fixture_says_in_a_sentence_what_it_is_for(folder: Path) -> None:
    """Each fixture's request.json has a `what`, so that a failure tells which fact broke."""
    assert orjson.loads((folder / "request.json").read_bytes())["what"].strip()


@pytest.mark.parametrize("kind", ["callback", "outbound"])
def test_every_provider_has_fixtures(kind: str) -> None:
    """A provider without fixtures, of callbacks as of registered sends, is not supported."""
    captures = [conformance.load(folder) for folder in conformance.folders()]

    assert {capture.provider for capture in captures if capture.kind == kind} == set(PROVIDERS)


def test_a_registered_send_is_no_callback() -> None:
    """What registering gives says so in its evidence, what parsing gives never does, and they share no id."""
    facts: dict[str, set[str]] = {"callback": set(), "outbound": set()}
    for folder in conformance.folders():
        capture = conformance.load(folder)
        for item in conformance.expected(folder):
            if "id" in item:
                facts[capture.kind].add(item["id"])
                assert (item["evidence"] or {}).get("registered", False) is (capture.kind == "outbound")

    assert facts["outbound"]
    assert not facts["outbound"] & facts["callback"]
