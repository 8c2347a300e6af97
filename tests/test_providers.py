from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.body import decode
from receiver.provider import address
from receiver.providers import PROVIDERS
from schemas.callback import AccountFacts, Capture
from schemas.errors import ParseError
from schemas.events import Event, Parsed, Unreadable
from schemas.ids import CaptureId
from tests import conformance

#: The keys that registering looks at, over all providers.
KEYS = st.sampled_from([
    "response", "request", "data", "id", "group_message_id", "from", "to", "cc", "phone_number", "type", "text", "body",
    "message_handle", "from_number", "number", "numbers", "to_number", "participants", "participant_numbers", "handle",
    "group", "group_id", "message_type", "modify_type", "status", "error_code", "name", "created_at", "date_sent",
    "auto_update", "add", "remove", "first_word", "second_word", "url", "message", "subject",
    "messages", "contacts", "input", "wa_id", "user_id", "request_id", "recipient_type", "phone_number_id", "context",
])  # fmt: skip
WORDS = st.sampled_from(["+15555550110", "15555550111", "US.1234", "mt_text", "mt_media", "group", "add_recipient", ""])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=25,
)


def outbound(provider: str, body: Any) -> Capture:
    """A send as it was registered in an account named `main` with a default line."""
    return Capture(
        id=CaptureId("cp_test"),
        kind="outbound",
        provider=provider,
        account="main",
        received_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
        assurance="none",
        headers=(),
        body=orjson.dumps(body),
        facts=AccountFacts(default_line="+15555550100"),
    )


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


@pytest.mark.parametrize("provider", PROVIDERS)
@given(body=ANYTHING)
def test_any_json_is_a_registered_send_or_is_refused(provider: str, body: Any) -> None:
    """Whatever is registered, it is refused as a whole, or gives something that says so."""
    try:
        items = PROVIDERS[provider].register(outbound(provider, body))
    except ParseError:
        return

    assert items
    assert all(isinstance(item, Unreadable) or _is_registered(item) for item in items)


def _is_registered(item: Parsed) -> bool:
    return isinstance(item, Event) and item.evidence is not None and item.evidence.registered


@pytest.mark.parametrize(
    ("provider", "response"),
    [
        ("telnyx", {"data": {"id": "m", "from": "+15555550100", "to": "+15555550110", "text": "Ahoy"}}),
        ("sendblue", {"message_handle": "m", "from_number": "+15555550100", "number": "+15555550110"}),
        ("sinch", {"id": "m", "from": "15555550100", "to": ["15555550111", "4cldmgEdAcBfcHW3"], "type": "mt_text"}),
        ("whatsapp", {"contacts": [{"input": "+15555550111"}], "messages": [{"id": "m"}]}),
    ],
)
def test_a_send_is_the_same_however_it_is_handed_in(provider: str, response: dict[str, Any]) -> None:
    """The response by itself, or beside a request that adds nothing, or handed in again gives the same facts."""
    register = PROVIDERS[provider].register
    bodies: list[dict[str, Any]] = [response, {"response": response}, {"response": response, "request": {}}]
    alone, *others = [register(outbound(provider, body)) for body in (*bodies, response)]

    assert alone
    assert others == [alone] * 3


def test_an_address_is_read_at_a_node_or_under_a_key_of_it() -> None:
    """Either way alike; what is no bare text or number is none, and an error has the path of the text."""
    node = decode(b'{"to": "(555) 555-0110", "code": 40404, "none": {}, "long": "%s"}' % (b"x" * 321))

    for key, found in (("to", "+15555550110"), ("code", "telnyx:40404"), ("none", None), ("gone", None)):
        assert address(node, "telnyx", key) == found
        assert address(node.get(key), "telnyx") == found
    for arguments in ((node, "telnyx", "long"), (node.get("long"), "telnyx")):
        with pytest.raises(ParseError, match=r"^\$\.long: an address of 321 characters$"):
            address(*arguments)
