"""The record of a conversation: what facts add to it, and what subscribers are shown. Pure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.conversation import (
    Conversation,
    absorb,
    identified,
    provisional,
    redirect,
    show,
    together,
    with_audience,
)
from correlator.identity import COMPLETE, GROUP_ID, PHONE_PAIR, POINTER, decide, event_key
from correlator.members import Roster
from correlator.records import decode, encode
from schemas.address import Address
from schemas.events import Evidence, Kind, Pointer, group_identity, pair_identity, set_identity, user_identity
from schemas.ids import ConversationKey, EventId, Scope

SCOPE = Scope(b"a secret of ours", "demo", "whatsapp", "main")
KEY = ConversationKey("cv_of_this_test")
LINE, LINE_2 = Address("+15555550100"), Address("+15555550109")
LINE_ID = Address("whatsapp:106540352242922")
ANN, BOB, CAT = Address("+15555550111"), Address("+15555550112"), Address("+15555550113")
ANN_ID, BOB_ID = Address("whatsapp:US.1001"), Address("whatsapp:US.2001")
ANN_NEW = Address("+15555550121")

GROUP = group_identity("", "club")
NOBODY: frozenset[Address] = frozenset()


def begun(evidence: Evidence) -> Conversation:
    """The record of the key that a fact wants, before anything is known of it."""
    if evidence.identity is not None:
        return identified(evidence.identity, SCOPE.path)
    decision = decide(SCOPE, EventId("a"), evidence)
    return provisional(decision.kind, decision.anchor, decision.key, SCOPE.path)


def told(
    *facts: Evidence, known: Conversation | None = None, lines: frozenset[Address] = NOBODY, at: int = 0
) -> Conversation:
    """The record after facts, one second apart."""
    record = begun(facts[0]) if known is None else known
    for number, evidence in enumerate(facts):
        record = absorb(record, evidence, lines, at + number * 1000)
    return record


def opened(kind: Kind, strength: int, **tells: Any) -> Conversation:
    """A record of the account that nothing was published under yet."""
    return Conversation(kind, strength, SCOPE.path, unseen=True, **tells)


def club(**tells: Any) -> Evidence:
    """A fact of one group with an id."""
    return Evidence(GROUP, **tells)


# --- the first fact ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        pytest.param(
            Evidence(pair_identity(LINE, ANN), lines=(LINE,)),
            opened("direct", PHONE_PAIR, parts=(LINE, ANN), lines=(LINE,)),
            id="a pair",
        ),
        pytest.param(
            Evidence(set_identity(frozenset({BOB, LINE, ANN}))),
            opened("group", COMPLETE, parts=(LINE, ANN, BOB)),
            id="a set of three",
        ),
        pytest.param(
            Evidence(set_identity(frozenset({LINE, ANN}))),
            opened("direct", COMPLETE, parts=(LINE, ANN)),
            id="a set of two",
        ),
        pytest.param(
            Evidence(user_identity(LINE_ID, ANN_ID), lines=(LINE_ID,)),
            opened("direct", COMPLETE, parts=(LINE_ID, ANN_ID), lines=(LINE_ID,)),
            id="a line and a user",
        ),
        pytest.param(
            club(listed=(LINE, ANN, BOB)),
            opened("group", GROUP_ID, group="club", roster=Roster(0, (LINE, ANN, BOB), {})),
            id="a group id with a list",
        ),
        pytest.param(club(), opened("group", GROUP_ID, group="club"), id="a group id alone"),
        pytest.param(
            Evidence(pointers=(Pointer("message", ("m1",)),)),
            opened("unknown", POINTER, provisional=True),
            id="a pointer",
        ),
        pytest.param(
            Evidence(kind="group", lines=(LINE,)),
            opened("group", POINTER, provisional=True, anchor=event_key(SCOPE, EventId("a")), lines=(LINE,)),
            id="nothing but that it is a group",
        ),
    ],
)
def test_the_first_fact_opens_the_record(evidence: Evidence, expected: Conversation) -> None:
    """The record starts with what the key was derived from and what the fact tells beside it."""
    assert told(evidence) == expected


# --- further facts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(pair_identity(LINE, ANN), lines=(LINE,)),
        Evidence(set_identity(frozenset({LINE, ANN, BOB})), pointers=(Pointer("message", ("m1",)),), lines=(LINE,)),
        club(listed=(LINE, ANN), joined=(ANN,), lines=(LINE,)),
        Evidence(user_identity(LINE_ID, ANN_ID), lines=(LINE_ID,), same_user=((ANN, ANN_ID),)),
        Evidence(pointers=(Pointer("message", ("m1",)),), joined=(ANN,)),
    ],
)
def test_a_fact_told_again_gives_the_very_same_record(evidence: Evidence) -> None:
    """What tells nothing new gives back the same object, so that no record is written for it."""
    record = told(evidence)

    assert told(evidence, known=record, lines=frozenset({LINE})) is record


def test_the_key_never_changes_its_mind() -> None:
    """Kind, strength and parts come from the key's own derivation: later facts that resolve to it change none."""
    record = told(Evidence(set_identity(frozenset({LINE, ANN, BOB})), lines=(LINE,)))
    later = told(Evidence(pointers=(Pointer("message", ("m1",)),), kind="direct", joined=(CAT,)), known=record)

    assert later is record


def test_a_set_is_its_own_list_of_members() -> None:
    """Where the key says who is in it, lists and deltas of facts add nobody."""
    everybody = set_identity(frozenset({LINE, ANN, BOB}))
    record = told(Evidence(everybody, listed=(CAT,), joined=(CAT,), left=(ANN,)))

    assert record.members == {LINE, ANN, BOB}
    assert record.fully_known is True


def test_a_list_and_deltas_of_one_fact_hold_together() -> None:
    """A fact may tell who is in it and, at the same time, who joined or left."""
    record = told(club(listed=(LINE, ANN, BOB), joined=(CAT,), left=(BOB,)))

    assert record.members == {LINE, ANN, CAT}


# --- our own lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "configured", "people", "lines"),
    [
        pytest.param([club(listed=(LINE, ANN))], NOBODY, (LINE, ANN), (), id="no line known"),
        pytest.param([club(listed=(LINE, ANN))], {LINE}, (ANN,), (LINE,), id="configured"),
        pytest.param([club(listed=(LINE, ANN))], {LINE, LINE_2}, (ANN,), (LINE,), id="configured, but not in it"),
        pytest.param([club(listed=(LINE, ANN), lines=(LINE,))], NOBODY, (ANN,), (LINE,), id="shown by the payload"),
        pytest.param([club(listed=(ANN,), lines=(LINE,))], NOBODY, (ANN,), (LINE,), id="shown, though not listed"),
        pytest.param(
            [club(listed=(LINE, ANN), lines=(LINE,)), club(joined=(LINE_2,))],
            {LINE_2},
            (ANN,),
            (LINE, LINE_2),
            id="the one shown, the other configured",
        ),
        pytest.param(
            [club(listed=(LINE, LINE_2, ANN)), club(lines=(LINE,)), club(lines=(LINE_2,))],
            NOBODY,
            (ANN,),
            (LINE, LINE_2),
            id="each learned later",
        ),
        pytest.param(
            [club(listed=(LINE, ANN), lines=(LINE,)), club(left=(LINE,))],
            NOBODY,
            (ANN,),
            (LINE,),
            id="a line that left",
        ),
        pytest.param([club(listed=(LINE,), lines=(LINE,))], NOBODY, (), (LINE,), id="nobody but us"),
        pytest.param(
            [Evidence(pair_identity(LINE, LINE_2), lines=(LINE,))], {LINE_2}, (), (LINE, LINE_2), id="a line to another"
        ),
    ],
)
def test_our_lines_and_the_people_are_told_apart(
    facts: list[Evidence], configured: frozenset[Address], people: tuple[Address, ...], lines: tuple[Address, ...]
) -> None:
    """Participants are everybody but our lines, as configuration and payloads show them."""
    record = told(*facts, lines=frozenset(configured))

    assert record.people == people
    assert record.shown_lines == lines


def test_a_line_is_shown_by_its_number() -> None:
    """A provider's internal id of a line is shown only while no number of it is known."""
    unnumbered = told(club(lines=(LINE_ID,)))

    assert unnumbered.shown_lines == (LINE_ID,)
    assert told(club(lines=(LINE,)), known=unnumbered).shown_lines == (LINE,)


# --- users ------------------------------------------------------------------------------------------------


def test_a_user_is_shown_by_the_phone() -> None:
    """A user id that was seen with a phone is shown as the phone, whichever way round the two are told."""
    for pair in ((ANN, ANN_ID), (ANN_ID, ANN)):
        record = told(Evidence(GROUP, lines=(LINE_ID,), joined=(ANN_ID,), same_user=(pair,)))

        assert record.people == (ANN,)


def test_a_user_without_a_phone_is_shown_by_the_id() -> None:
    """A user id is a participant as it stands while no phone is known."""
    record = told(Evidence(user_identity(LINE_ID, ANN_ID), lines=(LINE_ID,)))

    assert record.people == (ANN_ID,)


def test_phone_and_user_id_of_one_person_are_one_participant() -> None:
    """A group that lists a person by phone and by user id shows one."""
    record = told(club(listed=(ANN, ANN_ID, BOB_ID), same_user=((ANN, ANN_ID),)))

    assert record.people == (ANN, BOB_ID)


def test_of_two_phones_seen_with_one_user_the_same_one_is_shown_always() -> None:
    """Which phone stands for a user does not depend on which was told first."""
    evidence = [club(listed=(ANN_ID,), same_user=((phone, ANN_ID),)) for phone in (ANN, ANN_NEW)]

    assert told(*evidence).people == told(*reversed(evidence)).people == (ANN_NEW,)


@pytest.mark.parametrize(
    ("pair", "listed", "people"),
    [
        pytest.param((ANN, ANN_NEW), ANN_ID, ANN_ID, id="two phones name no phone of a user"),
        pytest.param((ANN, ANN_NEW), ANN, ANN_NEW, id="a number that changed is shown as the new one"),
        pytest.param((ANN_NEW, ANN), ANN_NEW, ANN, id="as the new one, wherever it sorts"),
        pytest.param((ANN_ID, BOB_ID), ANN_ID, BOB_ID, id="an id that changed is shown as the new one"),
    ],
)
def test_who_changed_a_number_or_an_id_is_shown_by_the_new_one(
    pair: tuple[Address, Address], listed: Address, people: Address
) -> None:
    """Of two phones, or two ids, that are one user, the first became the second; neither says anything else."""
    assert told(club(listed=(listed,), same_user=(pair,))).people == (people,)


def test_a_phone_of_a_user_whose_number_changed_is_shown_for_the_id() -> None:
    """The id was seen with the old number, which became the new one: the id, too, is shown as the new one."""
    told_of_both = club(listed=(ANN_ID,), same_user=((ANN_NEW, ANN_ID), (ANN_NEW, ANN)))

    assert told(told_of_both).people == (ANN,)


def test_a_phone_that_was_seen_with_two_users_hides_neither() -> None:
    """Two ids that nothing ties are two people, though one phone was seen with both; the phone is a third."""
    seen = club(listed=(ANN, ANN_ID, BOB_ID), same_user=((ANN, ANN_ID), (ANN, BOB_ID)))

    assert told(seen).people == (ANN, ANN_ID, BOB_ID)


# --- what is shown ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param(
            told(Evidence(pair_identity(LINE, ANN), lines=(LINE,))),
            {
                "key": KEY,
                "kind": "direct",
                "participants": (ANN,),
                "lines": (LINE,),
                "audience": SCOPE.audience([ANN]),
                "provisional": False,
            },
            id="a pair",
        ),
        pytest.param(
            told(club(joined=(BOB, ANN), lines=(LINE,))),
            {"key": KEY, "kind": "group", "participants": (ANN, BOB), "lines": (LINE,), "provisional": False},
            id="a group not fully known",
        ),
        pytest.param(
            told(Evidence(pointers=(Pointer("message", ("m1",)),))),
            {"key": KEY, "kind": "unknown", "participants": None, "lines": (), "provisional": True},
            id="nothing known",
        ),
        pytest.param(
            told(club(listed=(LINE,), lines=(LINE,))),
            {"key": KEY, "kind": "group", "participants": (), "lines": (LINE,), "provisional": False},
            id="nobody but us",
        ),
    ],
)
def test_what_subscribers_are_shown(record: Conversation, expected: dict[str, Any]) -> None:
    """`data.conversation` has the contract's members; participants are null while unknown; audience may be absent."""
    assert show(record, KEY, SCOPE) == expected


def test_the_audience_is_of_people_as_they_are_shown() -> None:
    """A person known here by user id and there by phone is the same audience once the phone is known."""
    tied = ((ANN, ANN_ID),)
    by_id = told(Evidence(GROUP, lines=(LINE_ID,), listed=(LINE_ID, ANN_ID), same_user=tied))
    by_phone = told(Evidence(pair_identity(LINE, ANN), lines=(LINE,)))
    elsewhere = Scope(b"a secret of ours", "demo", "sendblue", "other")

    assert show(by_id, KEY, SCOPE)["audience"] == show(by_phone, KEY, elsewhere)["audience"]


def test_a_group_known_by_its_members_keeps_its_audience() -> None:
    """It is that of everybody but our line, and shown as if it had been derived."""
    record = told(Evidence(set_identity(frozenset({LINE, ANN, BOB})), lines=(LINE,)))
    kept = with_audience(record, SCOPE)

    assert kept.audience == SCOPE.audience([ANN, BOB])
    assert show(kept, KEY, SCOPE) == show(record, KEY, SCOPE)
    assert with_audience(kept, SCOPE) is kept


def test_the_audience_that_is_kept_follows_the_lines() -> None:
    """Who turns out to be a line of ours is no part of it any more."""
    identity = set_identity(frozenset({LINE, LINE_2, ANN, BOB}))
    kept = with_audience(told(Evidence(identity, lines=(LINE,))), SCOPE)
    later = with_audience(told(Evidence(identity, lines=(LINE_2,)), known=kept), SCOPE)

    assert (kept.audience, later.audience) == (SCOPE.audience([LINE_2, ANN, BOB]), SCOPE.audience([ANN, BOB]))


@pytest.mark.parametrize(
    "evidence",
    [
        pytest.param(Evidence(pair_identity(LINE, ANN), lines=(LINE,)), id="a pair: ties may change whom it shows"),
        pytest.param(club(listed=(LINE, ANN, BOB), lines=(LINE,)), id="a group whose members come and go"),
        pytest.param(
            Evidence(set_identity(frozenset({LINE, ANN, BOB_ID})), lines=(LINE,), same_user=((BOB, BOB_ID),)),
            id="a group with somebody who is shown by another address",
        ),
        pytest.param(Evidence(set_identity(frozenset({LINE})), lines=(LINE,)), id="nobody but us"),
    ],
)
def test_an_audience_that_more_than_parts_and_lines_decides_is_not_kept(evidence: Evidence) -> None:
    """It is derived each time, from who is shown then."""
    assert with_audience(told(evidence), SCOPE).audience is None


def test_a_group_that_turns_out_to_be_another_as_well_drops_its_audience() -> None:
    """What two records say together has an audience of its own."""
    one, other = (
        with_audience(told(Evidence(set_identity(frozenset({LINE, ANN, person})), lines=(LINE,))), SCOPE)
        for person in (BOB, CAT)
    )

    assert show(together(one, [other]), KEY, SCOPE)["audience"] == SCOPE.audience([ANN, BOB, CAT])


# --- stored and found again, in any order -----------------------------------------------------------------

_PEOPLE = st.lists(st.sampled_from([LINE, LINE_2, ANN, BOB, CAT, ANN_ID]), max_size=3).map(tuple)
_FACTS = st.lists(
    st.tuples(
        st.builds(
            Evidence,
            identity=st.just(GROUP),
            lines=st.lists(st.sampled_from([LINE, LINE_2]), max_size=2).map(tuple),
            listed=st.none() | _PEOPLE,
            joined=_PEOPLE,
            left=_PEOPLE,
            same_user=st.lists(st.sampled_from([(ANN, ANN_ID), (ANN_ID, ANN_NEW), (ANN, ANN_NEW)])).map(tuple),
        ),
        st.integers(min_value=0, max_value=3),
    ),
    min_size=1,
    max_size=6,
)


def _record(facts: list[tuple[Evidence, int]]) -> Conversation:
    known = begun(facts[0][0])
    for evidence, at in facts:
        known = absorb(known, evidence, frozenset({LINE_2}), at)
    return known


@given(facts=_FACTS, data=st.data())
def test_what_is_shown_does_not_depend_on_arrival(facts: list[tuple[Evidence, int]], data: st.DataObject) -> None:
    """Facts of a conversation in any order, any of them again, show the same people, lines and audience."""
    again = data.draw(st.lists(st.sampled_from(facts)))
    shuffled = data.draw(st.permutations([*facts, *again]))

    assert show(_record(shuffled), KEY, SCOPE) == show(_record(facts), KEY, SCOPE)


def test_a_line_that_came_and_went_is_shown_in_whatever_order_that_is_told() -> None:
    """A configured line that facts name as joined and as gone is one of the lines, whichever they name first."""
    joined, left = club(joined=(LINE_2,)), club(left=(LINE_2,))
    shown = [
        told(second, known=told(first, lines=frozenset({LINE_2})), lines=frozenset({LINE_2})).shown_lines
        for first, second in ((joined, left), (left, joined))
    ]

    assert shown == [(LINE_2,), (LINE_2,)]


@given(facts=_FACTS)
def test_a_record_comes_back_as_it_was_stored(facts: list[tuple[Evidence, int]]) -> None:
    """Encoding loses nothing, and encodes what it read to the same bytes."""
    record = _record(facts)

    assert decode(Conversation, encode(record)) == record
    assert encode(decode(Conversation, encode(record))) == encode(record)


@pytest.mark.parametrize("kind", ["direct", "group", "unknown"])
def test_a_redirect_comes_back_as_it_was_stored(kind: Kind) -> None:
    """The record of a merged key keeps where it leads."""
    leading = redirect(opened(kind, POINTER, provisional=True), KEY, announced=True)

    assert leading.merged_into == KEY
    assert decode(Conversation, encode(leading)) == leading
