import msgspec
import pytest

from receiver.provider import Provider
from receiver.registration import Registered, conversations, readable, recipient
from schemas.address import Address
from schemas.callback import Capture
from schemas.errors import ParseError
from schemas.events import Evidence, Parsed, Pointer, Unreadable, group_identity, set_identity, user_identity
from schemas.ids import Scope
from tests.engine import ANN, BOB, CAT, DAY, ID_KEY, LINE, LINE_2, capture, event, pair, unreadable

SCOPE = Scope(ID_KEY, "default", "telnyx", "main")
USER = Address("whatsapp:US.13491208655302741918")


def registering(*parsed: Parsed) -> Provider:
    """A provider that reads these from any registration."""
    return Provider("telnyx", (), lambda _: [], lambda _: list(parsed))


def sent() -> Capture:
    """A registration, received at NOW."""
    return msgspec.structs.replace(capture(), kind="outbound", assurance="shared_secret")


# --- whose conversation ---


@pytest.mark.parametrize(
    ("evidence", "person"),
    [
        pytest.param(pair(ANN), ANN, id="a pair with its line"),
        pytest.param(Evidence(pair(ANN).identity), ANN, id="a pair whose line is configured"),
        pytest.param(Evidence(pair(ANN, BOB).identity), None, id="a pair without a line that we know"),
        pytest.param(pair(LINE_2), None, id="a pair of two own lines"),
        pytest.param(Evidence(set_identity(frozenset({LINE, ANN})), lines=(LINE,)), ANN, id="a set of two"),
        pytest.param(Evidence(set_identity(frozenset({LINE, ANN, BOB})), lines=(LINE,)), None, id="a set of three"),
        pytest.param(Evidence(group_identity("", "g1"), lines=(LINE,)), None, id="a group"),
        pytest.param(Evidence(user_identity(LINE, USER)), USER, id="a user by id"),
        pytest.param(Evidence(user_identity(LINE, USER), same_user=((CAT, USER),)), CAT, id="a user with a phone"),
        pytest.param(Evidence(contact=BOB, pointers=(Pointer("batch", ("b1",)),)), BOB, id="only the contact"),
        pytest.param(Evidence(pointers=(Pointer("message", ("m1",)),)), None, id="only a message id"),
    ],
)
def test_the_recipient_is_the_one_other_person(evidence: Evidence, person: Address | None) -> None:
    """A direct conversation has one other person, as far as the send shows who is ours; everything else has none."""
    assert recipient(evidence, frozenset({LINE, LINE_2})) == person


def test_each_conversation_is_answered_once_and_in_order() -> None:
    """A send to many people has one conversation each, with the key that its evidence alone decides."""
    events = [event("1", pair(BOB)), event("2", pair(ANN)), event("3", pair(BOB)), event("4", None)]

    assert conversations(events, SCOPE, frozenset()) == [
        Registered(BOB, SCOPE.conversation("pair", sorted((LINE, BOB)))),
        Registered(ANN, SCOPE.conversation("pair", sorted((LINE, ANN)))),
    ]


def test_a_key_may_be_provisional() -> None:
    """A send that names only an id has the key of that id, which later resolves."""
    [found] = conversations([event("1", Evidence(pointers=(Pointer("message", ("m1",)),)))], SCOPE, frozenset())

    assert found == Registered(None, SCOPE.conversation("pointer", ("message", "m1")))


# --- what is refused ---


def test_one_readable_recipient_is_enough() -> None:
    """Beside one that can be read, others become dead letters as they would in a callback."""
    good = event("1", pair())

    assert readable(sent(), registering(unreadable(), good)) == [good]


@pytest.mark.parametrize(
    ("parsed", "said"),
    [
        ([], "$: nothing in it is a send"),
        ([Unreadable("unreadable", "$.to[0]", "missing"), unreadable("$.to[1]")], "$.to[0]: missing"),
        ([event("1", pair(), at_seconds=-9 * DAY)], "$: 9 days old at receipt, beyond retention.dedupe"),
    ],
)
def test_what_would_only_be_dead_letters_is_refused(parsed: list[Parsed], said: str) -> None:
    """Who registers can mend it and try again, so what the pipeline could make nothing of is refused at once."""
    with pytest.raises(ParseError) as caught:
        readable(sent(), registering(*parsed))

    assert str(caught.value) == said
