"""Rule 6: who is in a group that has an id of its own, from lists and deltas in any order."""

from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.members import Roster
from schemas.address import Address

A, B, C, D = (Address(f"+1555555011{digit}") for digit in (1, 2, 3, 4))
_NAMES = {"A": A, "B": B, "C": C, "D": D}


class Fact(NamedTuple):
    """At some time a complete list, people seen in, or people gone."""

    says: str
    addresses: tuple[Address, ...]
    at: int


def fact(text: str) -> Fact:
    """`list AB 10`, `in C 20`, `out - 5`."""
    says, names, at = text.split()
    return Fact(says, tuple(_NAMES[name] for name in names.strip("-")), int(at))


def feed(roster: Roster, news: Fact) -> Roster:
    """The roster after one fact."""
    if news.says == "list":
        return roster.with_list(news.addresses, news.at)
    return roster.with_deltas(news.addresses, news.at, out=news.says == "out")


def after(facts: Iterable[Fact]) -> Roster:
    """The roster after all of them."""
    roster = Roster()
    for news in facts:
        roster = feed(roster, news)
    return roster


@pytest.mark.parametrize(
    ("history", "members"),
    [
        pytest.param([], "", id="nobody is known at first"),
        pytest.param(["list AB 10"], "AB", id="a list is everybody"),
        pytest.param(["in A 10", "in B 20"], "AB", id="without a list, those seen"),
        pytest.param(["list AB 10", "list ABC 20"], "ABC", id="the later list holds"),
        pytest.param(["list ABC 10", "list AB 20"], "AB", id="the later list holds, smaller too"),
        pytest.param(["list ABC 10", "list D 20"], "D", id="a later list forgets all others"),
        pytest.param(["list AB 10", "in C 20"], "ABC", id="a later delta joins"),
        pytest.param(["list ABC 10", "out C 20"], "AB", id="a later delta leaves"),
        pytest.param(["list AB 20", "in C 10"], "AB", id="an earlier delta is in the list already"),
        pytest.param(["list ABC 20", "out C 10"], "ABC", id="whoever left before a list that names him is back"),
        pytest.param(["list AB 10", "in C 20", "list AB 30"], "AB", id="a list later than a delta"),
        pytest.param(["list AB 10", "in C 10"], "ABC", id="at the same time a delta in beats the list"),
        pytest.param(["list ABC 10", "out C 10"], "AB", id="at the same time a delta out beats the list"),
        pytest.param(["list A 10", "in B 20", "out B 20"], "A", id="at the same time out beats in"),
        pytest.param(["list A 10", "in B 20", "out B 30"], "A", id="the later delta: out"),
        pytest.param(["list A 10", "out B 20", "in B 30"], "AB", id="the later delta: in again"),
        pytest.param(["list ABC 10", "list AB 10"], "ABC", id="at the same time the greater list"),
        pytest.param(["list ABC 10", "list D 10"], "ABC", id="the greater one, wherever it sorts"),
        pytest.param(["list AB 10", "list CD 10"], "CD", id="of two as great, always the same one"),
        pytest.param(["list AB 10", "list - 20"], "AB", id="an empty list is no evidence"),
        pytest.param(["list AB 10", "in - 20", "out - 20"], "AB", id="deltas of nobody are no evidence"),
        pytest.param(["list AB 10", "out AB 20"], "", id="everybody can leave"),
        pytest.param(["out A 10"], "", id="who is known to be gone only is no member"),
        pytest.param(["list AB 10", "out A 20", "list BC 15"], "BC", id="a delta outlives an earlier list"),
        pytest.param(["list BA 10"], "AB", id="in whatever order a list has them"),
        pytest.param(["list AAB 10"], "AB", id="whoever stands in it twice is one"),
        pytest.param(["in A 0", "out A 0"], "", id="time zero is a time"),
    ],
)
def test_who_is_in_it(history: list[str], members: str) -> None:
    """The latest complete list, then later deltas; the table has each rule, told in order and in reverse."""
    facts = [fact(text) for text in history]
    expected = frozenset(_NAMES[name] for name in members)

    assert after(facts).members({}) == expected
    assert after(reversed(facts)).members({}) == expected


@pytest.mark.parametrize(
    ("history", "complete"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param(["in A 10", "out B 20"], False, id="only some seen"),
        pytest.param(["list - 10"], False, id="an empty list"),
        pytest.param(["list A 10"], True, id="a list"),
        pytest.param(["list A 10", "in B 20"], True, id="a list and deltas"),
        pytest.param(["in B 20", "list A 10"], True, id="an earlier list after deltas"),
    ],
)
def test_everybody_is_known_once_there_was_a_list(history: list[str], complete: bool) -> None:
    """Whether somebody may be missing depends on there having been a complete list, and on nothing else."""
    assert after(map(fact, history)).complete is complete


@pytest.mark.parametrize(
    ("history", "news"),
    [
        (["list AB 10"], "list AB 10"),
        (["list AB 10"], "list BA 10"),
        (["list AB 10"], "list A 10"),
        (["list AB 10"], "list ABC 9"),
        (["list AB 10"], "list - 20"),
        (["list AB 10"], "in C 9"),
        (["list AB 10", "in C 20"], "in C 20"),
        (["list AB 10", "in C 20"], "in C 15"),
        (["list AB 10", "out C 20"], "in C 20"),
        (["list AB 10"], "in - 20"),
    ],
)
def test_what_tells_nothing_new_gives_the_same_roster(history: list[str], news: str) -> None:
    """A fact without effect gives back the very roster, so that nobody writes a record for it."""
    roster = after(map(fact, history))

    assert feed(roster, fact(news)) is roster


def test_a_roster_never_changes() -> None:
    """A roster is a value: what is fed makes another one."""
    roster = after([fact("list AB 10"), fact("in C 20")])
    feed(roster, fact("out ABC 30"))

    assert roster.members({}) == {A, B, C}


_FACTS = st.builds(
    Fact,
    st.sampled_from(["list", "in", "out"]),
    st.lists(st.sampled_from([A, B, C, D]), max_size=3).map(tuple),
    st.integers(min_value=0, max_value=3),
)
_HISTORIES = st.lists(_FACTS, max_size=8)


@given(facts=_HISTORIES, data=st.data())
def test_order_and_repetition_make_no_difference(facts: list[Fact], data: st.DataObject) -> None:
    """Facts in any order, any of them again in any place, come to the same roster, its insides included."""
    again = data.draw(st.lists(st.sampled_from(facts))) if facts else []
    shuffled = data.draw(st.permutations([*facts, *again]))

    assert after(shuffled) == after(facts)


@given(_HISTORIES)
def test_the_roster_is_what_the_rule_says(facts: list[Fact]) -> None:
    """Rule 6, worked anew over a whole history: who is in it is told by the best list and each person's best delta."""
    lists = [(news.at, len(set(news.addresses)), sorted(set(news.addresses))) for news in facts if news.says == "list"]
    at, _, listed = max((item for item in lists if item[1]), default=(-1, 0, []))
    expected = set()
    for address in (A, B, C, D):
        deltas = [(news.at, news.says == "out") for news in facts if news.says != "list" and address in news.addresses]
        when, out = max(deltas, default=(-1, True))
        if (when >= at and not out) or (address in listed and not (when >= at and out)):
            expected.add(address)

    assert after(facts).members({}) == expected


def test_who_joins_by_phone_and_leaves_by_id_is_gone() -> None:
    """A phone and the user id it stands for are one person, in whatever order they are named."""
    phone, user = Address("+15555550144"), Address("whatsapp:US.144")
    same = {user: phone}
    joined = Roster().with_deltas([phone, user], 1, out=False)
    by_id = joined.with_deltas([user], 2, out=True)
    both = Roster().with_deltas([user], 1, out=False).with_deltas([phone, user], 2, out=True)

    assert joined.members(same) == {phone}
    assert by_id.members(same) == frozenset()
    assert both.members(same) == frozenset()


def test_what_two_rosters_know_is_the_same_whichever_comes_first() -> None:
    """Joining two rosters keeps the later list and what is not older than it, from both."""
    ann, ben, cam = (Address(f"+1555555015{digit}") for digit in range(3))
    one = Roster().with_list([ann, ben], 5).with_deltas([cam], 6, out=False)
    other = Roster().with_list([ann], 3).with_deltas([ben], 7, out=True)

    assert one.joined(other) == other.joined(one)
    assert one.joined(other).members({}) == {ann, cam}
