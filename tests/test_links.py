from typing import Any

import msgspec
import orjson
import pytest

from receiver.links import (
    KindsDiffer,
    PartitionsDiffer,
    SameTwice,
    Tying,
    UnknownLinked,
    link_body,
    place_of,
    read_key,
    read_link,
    read_request,
)
from receiver.queries import Directory, UnreadableAddress
from schemas.address import Address
from schemas.callback import Capture
from schemas.errors import ParseError, UnknownAccount
from schemas.events import Link, Linked, Tie
from schemas.ids import ConversationKey, EventId
from tests.engine import capture

DIRECTORY = Directory({"main-telnyx": "telnyx"}, frozenset({"telnyx", "whatsapp"}))
KEY, OTHER = ConversationKey("cv_" + "a" * 26), ConversationKey("cv_" + "b" * 26)
ANN, BOB = Address("+15555550111"), Address("+15555550112")


def handed_in(link: Link | Tie, *, undone: bool = False) -> Capture:
    """The capture that a link becomes."""
    return msgspec.structs.replace(capture(7, body=link_body(link, undone=undone)), kind="link")


# --- as a request ---


def test_two_keys_are_a_link() -> None:
    """Keys are taken as they are named, the first one first: its account is the capture's."""
    assert read_request(orjson.dumps({"one": OTHER, "other": KEY}), DIRECTORY) == Link(OTHER, KEY)


@pytest.mark.parametrize("more", [{}, {"provider": "telnyx"}])
def test_two_addresses_of_an_account_are_a_tie(more: dict[str, str]) -> None:
    """Addresses are brought into their form; the account alone tells the provider."""
    body = {**more, "account": "main-telnyx", "one": "(555) 555-0111", "other": 15555550112}

    assert read_request(orjson.dumps(body), DIRECTORY) == Tying("telnyx", "main-telnyx", Tie(ANN, BOB))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", ParseError),
        (b"[]", ParseError),
        ({"one": KEY}, ParseError),
        ({"one": KEY, "other": {}}, ParseError),
        ({"one": KEY, "other": OTHER, "acount": "main-telnyx"}, ParseError),
        ({"one": ANN, "other": BOB, "provider": "telnyx"}, ParseError),
        ({"one": KEY, "other": "cv_short"}, UnknownLinked),
        ({"one": "cv_" + "A" * 26, "other": KEY}, UnknownLinked),
        ({"one": "ac_" + "a" * 26, "other": KEY}, UnknownLinked),
        ({"one": KEY, "other": KEY}, SameTwice),
        ({"one": "+15555550111", "other": "1 555 555 0111", "account": "main-telnyx"}, SameTwice),
        ({"one": "+15555550111", "other": "whatsapp:US.1", "account": "main-telnyx"}, UnreadableAddress),
        ({"one": "+15555550111", "other": "+15555550112", "account": "nobody"}, UnknownAccount),
        ({"one": ANN, "other": BOB, "account": "main-telnyx", "provider": "whatsapp"}, UnknownAccount),
    ],
)
def test_what_cannot_be_linked_is_refused(body: Any, error: type[Exception]) -> None:
    """Each way of being wrong has its own error, and none shows a number."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)

    with pytest.raises(error) as caught:
        read_request(raw, DIRECTORY)

    assert "5555" not in str(caught.value)


def test_a_key_has_one_form() -> None:
    """`cv_` and 26 characters of base32; the subject of a whole account is none."""
    assert [read_key(text) for text in (KEY, "ac_" + "a" * 26, KEY + "a", KEY + "\n", "")] == [KEY, *[None] * 4]


# --- what is known of the two ---


def shown(kind: str, account: str = "telnyx/main-telnyx") -> dict[str, Any]:
    """As much of a conversation as matters."""
    return {"kind": kind, "account": account}


@pytest.mark.parametrize(
    ("one", "other"),
    [("direct", "direct"), ("group", "group"), ("unknown", "group"), ("direct", "unknown"), ("unknown", "unknown")],
)
def test_a_link_is_captured_under_the_first_ones_account(one: str, other: str) -> None:
    """Accounts may differ; kinds may not, except where one is not known yet."""
    assert place_of(shown(one), shown(other, "sinch/main-sinch"), 1, undone=False) == ("telnyx", "main-telnyx")


@pytest.mark.parametrize("kinds", [("direct", "group"), ("group", "direct")])
def test_direct_and_group_are_never_linked(kinds: tuple[str, str]) -> None:
    """Such a link is refused, while taking one back is not: it has no effect at worst."""
    one, other = map(shown, kinds)

    with pytest.raises(KindsDiffer):
        place_of(one, other, 1, undone=False)
    assert place_of(one, other, 1, undone=True) == ("telnyx", "main-telnyx")


@pytest.mark.parametrize(
    ("one", "other", "named"), [(None, shown("direct"), "one:"), (shown("direct"), None, "other:")]
)
def test_an_unknown_key_is_not_linked(one: dict[str, Any] | None, other: dict[str, Any] | None, named: str) -> None:
    """The refusal says which of the two it is."""
    with pytest.raises(UnknownLinked, match=f"^{named}"):
        place_of(one, other, 1, undone=False)


def test_accounts_in_different_partitions_are_not_linked() -> None:
    """They may be on different servers. Of three partitions main-sinch is in the first, main-telnyx in the second."""
    with pytest.raises(PartitionsDiffer, match="different partitions"):
        place_of(shown("direct"), shown("direct", "sinch/main-sinch"), 3, undone=False)


# --- as a capture ---


@pytest.mark.parametrize("undone", [False, True])
@pytest.mark.parametrize("link", [Link(KEY, OTHER), Tie(ANN, BOB)])
def test_a_link_is_read_back_from_its_capture(link: Link | Tie, *, undone: bool) -> None:
    """What was handed in is what the pipeline hears, under an id that is its capture's own."""
    assert read_link(handed_in(link, undone=undone)) == [Linked(EventId("partyline:link:cp_7"), link, undone)]


def test_the_order_of_the_two_means_nothing() -> None:
    """A link can be taken back with its two sides swapped."""
    [linked] = read_link(handed_in(Link(OTHER, KEY)))
    [undone] = read_link(handed_in(Link(KEY, OTHER), undone=True))

    assert linked.link == undone.link


def test_the_body_of_a_link_is_what_the_contract_says() -> None:
    """JSON of two texts under `link` or `tie`, and `undone` only where it is so."""
    assert link_body(Link(OTHER, KEY), undone=False) == orjson.dumps({"link": [KEY, OTHER]})
    assert link_body(Tie(ANN, BOB), undone=True) == b'{"tie":["+15555550111","+15555550112"],"undone":true}'


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"link": "cv_a"}', b'{"tie": ["a"]}', b'{"link": ["a", "b", "c"]}', b"7"]
)
def test_a_link_that_cannot_be_read_says_where(body: bytes) -> None:
    """A body that is none of ours is a dead letter like any other."""
    with pytest.raises(ParseError):
        read_link(msgspec.structs.replace(capture(7, body=body), kind="link"))
