"""Rules 4 and 5: which address is shown for a user, and which end of a direct conversation is our line."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.users import Users, reading, shown
from schemas.address import Address
from schemas.events import Identity, group_identity, pair_identity, set_identity, user_identity
from tests.engine import ANN, BOB, CAT, LINE, LINE_2

ANN_ID, ANN_NEW_ID, BOB_ID = (Address(f"whatsapp:US.{number}") for number in (1001, 1002, 2001))
NEW = Address("+15555550119")

# --- shown ---


@pytest.mark.parametrize(
    ("ties", "faces"),
    [
        pytest.param([], {}, id="nobody was tied"),
        pytest.param([(ANN, ANN_ID)], {ANN: ANN, ANN_ID: ANN}, id="the phone rather than the id"),
        pytest.param([(ANN_ID, ANN)], {ANN: ANN, ANN_ID: ANN}, id="in whatever order a tie names them"),
        pytest.param([(ANN_ID, ANN_NEW_ID)], {ANN_ID: ANN_NEW_ID, ANN_NEW_ID: ANN_NEW_ID}, id="of two ids the newer"),
        pytest.param([(ANN, NEW)], {ANN: NEW, NEW: NEW}, id="of two phones the newer, though it is the greater"),
        pytest.param([(NEW, ANN)], {ANN: ANN, NEW: ANN}, id="of two phones the newer, though it is the smaller"),
        pytest.param(
            [(ANN, ANN_ID), (ANN, NEW)], {ANN: NEW, ANN_ID: NEW, NEW: NEW}, id="the newer phone of somebody with an id"
        ),
        pytest.param([(ANN, NEW), (NEW, CAT)], {ANN: CAT, NEW: CAT, CAT: CAT}, id="changed twice"),
        pytest.param(
            [(ANN, ANN_ID), (ANN_ID, ANN_NEW_ID), (ANN, ANN_NEW_ID)],
            {ANN: ANN, ANN_ID: ANN, ANN_NEW_ID: ANN},
            id="one phone with two ids that are tied",
        ),
        pytest.param([(ANN, ANN_ID), (BOB, BOB_ID)], {ANN: ANN, ANN_ID: ANN, BOB: BOB, BOB_ID: BOB}, id="two people"),
    ],
)
def test_one_address_is_shown_for_each_user(ties: list[tuple[Address, Address]], faces: dict[Address, Address]) -> None:
    """The phone is shown where there is one, and the newer one where it changed."""
    assert all(shown(list(order)) == faces for order in permutations(ties))


def test_a_recycled_phone_hides_nobody() -> None:
    """A phone seen with two ids that nothing ties is nobody's: each id, and the phone, stands for itself."""
    faces = shown([(ANN, ANN_ID), (ANN, BOB_ID)])

    assert faces == {ANN: ANN, ANN_ID: ANN_ID, BOB_ID: BOB_ID}


def test_a_recycled_phone_hides_nobody_who_has_another_phone() -> None:
    """Whose phone went to somebody else is shown by the one that is his alone."""
    faces = shown([(ANN, ANN_ID), (ANN, BOB_ID), (BOB, BOB_ID)])

    assert faces == {ANN: ANN, ANN_ID: ANN_ID, BOB_ID: BOB, BOB: BOB}


_ADDRESSES = [ANN, BOB, NEW, ANN_ID, ANN_NEW_ID, BOB_ID]
_TIES = st.lists(
    st.tuples(st.sampled_from(_ADDRESSES), st.sampled_from(_ADDRESSES)).filter(lambda tie: tie[0] != tie[1])
)


@given(ties=_TIES, data=st.data())
def test_in_any_order_the_same_is_shown(ties: list[tuple[Address, Address]], data: st.DataObject) -> None:
    """Who stands for whom does not depend on the order in which ties were told, nor on their repetition."""
    again = data.draw(st.lists(st.sampled_from(ties), max_size=3)) if ties else []
    order = data.draw(st.permutations([*ties, *again]))

    assert shown(order) == shown(ties)


@given(ties=_TIES)
def test_who_is_shown_stands_for_itself(ties: list[tuple[Address, Address]]) -> None:
    """Every address that was tied has somebody to show, who is shown as himself."""
    faces = shown(ties)

    assert set(faces) == {address for tie in ties for address in tie}
    assert all(faces[face] == face for face in faces.values())


@given(ties=_TIES)
def test_who_is_shown_as_one_is_one_user_by_the_rules(ties: list[tuple[Address, Address]]) -> None:
    """What is shown never makes one person of two whom rule 5 keeps apart, told in whatever order."""
    users = Users([(number, *tie) for number, tie in enumerate(ties)])
    alone = {phone for phone in _ADDRESSES if users.doubted(phone) < len(ties)}
    faces = shown(ties)

    if not alone:
        assert all(users.user(address) == users.user(face) for address, face in faces.items())


# --- reading ---


@pytest.mark.parametrize(
    ("identity", "lines", "ends"),
    [
        pytest.param(None, (LINE,), None, id="no identity"),
        pytest.param(group_identity("", "g1"), (LINE,), None, id="a group"),
        pytest.param(set_identity(frozenset({LINE, ANN, BOB})), (LINE,), None, id="a set of three"),
        pytest.param(pair_identity(LINE, ANN), (LINE,), (LINE, ANN), id="a pair, its line first"),
        pytest.param(pair_identity(CAT, ANN), (CAT,), (CAT, ANN), id="a pair, its line last"),
        pytest.param(set_identity(frozenset({LINE, ANN})), (LINE,), (LINE, ANN), id="a set of two"),
        pytest.param(pair_identity(LINE, ANN), (LINE, LINE_2), (LINE, ANN), id="a pair, and another line"),
        pytest.param(pair_identity(LINE, ANN), (), None, id="a pair that names no line"),
        pytest.param(pair_identity(LINE, ANN), (LINE_2,), None, id="a pair of other lines"),
        pytest.param(pair_identity(LINE, LINE_2), (LINE, LINE_2), None, id="a pair of two lines"),
        pytest.param(user_identity(LINE, ANN_ID), (), (LINE, ANN_ID), id="a user: line and person are in their places"),
    ],
)
def test_a_direct_identity_is_read_as_line_and_contact(
    identity: Identity | None, lines: tuple[Address, ...], ends: tuple[Address, Address] | None
) -> None:
    """None where the fact does not say which part is our line: then nothing is concluded about a user."""
    assert reading(identity, lines) == ends
