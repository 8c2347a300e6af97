"""Which events a person wants to see: by type, place, conversation and address."""

from typing import Any

import orjson
import pytest

from receiver.interest import Interest
from receiver.selection import Selection
from schemas.address import Address

KEY, OTHER, THIRD = ("cv_" + letter * 26 for letter in "abc")
ANN = Address("+15555550111")


def envelope(**changes: Any) -> bytes:
    """A message of Ann's in a group at Telnyx."""
    return orjson.dumps(
        {
            "id": "telnyx:main:1",
            "source": "/webhooks/telnyx/main",
            "type": "message.received",
            "subject": KEY,
            "data": {"conversation": {"participants": [ANN, "+15555550112"]}, "message": {"sender": ANN}},
            **changes,
        }
    )


#: As much as can be read at a glance, and then bytes that are no text.
BARE = b'{"id": "x", "type": "message.received", "subject": "' + OTHER.encode() + b'", "more": "\xff"}'
MERGED = envelope(type="conversation.merged", subject=KEY, data={"merged": [OTHER]})

TAKEN: dict[str, Selection] = {
    "everything": Selection(),
    "its type": Selection(types=frozenset({"message.received", "typing"})),
    "its provider": Selection(providers=frozenset({"telnyx", "sinch"})),
    "its account": Selection(accounts=frozenset({"main"})),
    "its conversation": Selection(conversations=frozenset({KEY})),
    "its address": Selection(addresses=frozenset({ANN})),
    "all of it": Selection(
        types=frozenset({"message.received"}),
        providers=frozenset({"telnyx"}),
        accounts=frozenset({"main"}),
        conversations=frozenset({KEY}),
        addresses=frozenset({ANN}),
    ),
}
LEFT: dict[str, Selection] = {
    "another type": Selection(types=frozenset({"typing"})),
    "another provider": Selection(providers=frozenset({"sinch"})),
    "another account": Selection(accounts=frozenset({"telnyx"})),
    "another conversation": Selection(conversations=frozenset({OTHER})),
    "another address": Selection(addresses=frozenset({Address("+15555550113")})),
    "its provider at another account": Selection(providers=frozenset({"telnyx"}), accounts=frozenset({"spare"})),
}


@pytest.mark.parametrize("selection", TAKEN.values(), ids=TAKEN)
def test_what_fits_is_wanted(selection: Selection) -> None:
    """Each option lets through what has one of its values."""
    assert Interest(selection, selection.conversations).wants(envelope())


@pytest.mark.parametrize("selection", LEFT.values(), ids=LEFT)
def test_what_does_not_fit_in_all_is_not(selection: Selection) -> None:
    """Options narrow each other."""
    assert not Interest(selection, selection.conversations).wants(envelope())


def test_an_address_is_found_in_any_spelling_and_not_within_a_text() -> None:
    """A provider's own object may spell it otherwise; what people write about is not who it is about."""
    interest = Interest(Selection(addresses=frozenset({ANN})), ())

    assert interest.wants(envelope(data={"notice": {"detail": {"to": "1 (555) 555-0111"}}}))
    assert not interest.wants(envelope(data={"message": {"text": f"call {ANN} back"}}))


def test_a_conversation_is_known_by_every_key_that_means_it() -> None:
    """Those that were looked up count, not only the one that was named."""
    interest = Interest(Selection(conversations=frozenset({OTHER})), {OTHER, KEY})

    assert interest.wants(envelope())
    assert not interest.wants(envelope(subject=THIRD))


def test_a_merge_of_a_conversation_that_is_looked_at_moves_it() -> None:
    """Whichever of its keys was looked at; a merge of others does not, nor any when nothing is."""
    assert Interest(Selection(conversations=frozenset({OTHER})), {OTHER}).is_moved_by(MERGED)
    assert Interest(Selection(conversations=frozenset({KEY})), {KEY}).is_moved_by(MERGED)
    assert not Interest(Selection(conversations=frozenset({THIRD})), {THIRD}).is_moved_by(MERGED)
    assert not Interest(Selection(), ()).is_moved_by(MERGED)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"id": 1}'])
def test_what_is_no_envelope_is_wanted_by_nobody(data: bytes) -> None:
    """Anybody with rights at Redis may write into a stream."""
    interests = [Interest(selection, selection.conversations) for selection in TAKEN.values()]

    assert [interest for interest in interests if interest.wants(data)] == []


@pytest.mark.parametrize("option", ["its provider", "its account", "its address"])
def test_what_cannot_be_read_further_fits_no_question_about_it(option: str) -> None:
    """An entry with an id and a type and nothing else of an envelope stops nobody who asks for more."""
    assert not Interest(TAKEN[option], ()).wants(BARE)
