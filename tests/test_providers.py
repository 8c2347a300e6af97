from pathlib import Path

import orjson
import pytest

from receiver.providers import PROVIDERS
from tests import conformance


@pytest.mark.parametrize("folder", conformance.folders(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_callback_means_what_its_fixture_says(folder: Path) -> None:
    """Parsing a fixture's body gives exactly the events worked out by hand for it."""
    capture = conformance.load(folder)

    parsed = [conformance.plain(item) for item in PROVIDERS[capture.provider].parse(capture)]

    assert parsed == conformance.expected(folder), (
        f"{folder.name}: if the provider file is right, correct events.json by hand; it now reads\n"
        + orjson.dumps(parsed, option=orjson.OPT_INDENT_2).decode()
    )


@pytest.mark.parametrize("folder", conformance.folders(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_fixture_says_in_a_sentence_what_it_is_for(folder: Path) -> None:
    """Each fixture's request.json has a `what`, so that a failure tells which fact broke."""
    assert orjson.loads((folder / "request.json").read_bytes())["what"].strip()


def test_every_provider_has_fixtures() -> None:
    """A provider without fixtures is not supported."""
    assert {folder.parent.name for folder in conformance.folders()} == set(PROVIDERS)
