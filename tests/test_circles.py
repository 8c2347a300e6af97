"""Rules 4 and 5 over what is remembered of users: which conversations are one, and what a doubt holds back."""

from itertools import permutations

from correlator.circles import (
    Account,
    Circle,
    Doubtful,
    Heeded,
    Sight,
    Tied,
    is_spared,
    joined,
    settle,
    with_doubtful,
    with_sight,
    with_spared,
    with_tie,
    without_tie,
)
from correlator.gathering import order_of
from correlator.identity import BY_REPORT
from correlator.records import decode, encode
from schemas.address import Address
from schemas.events import Keywords
from schemas.ids import ConversationKey
from tests.engine import ANN, BOB, CAT, LINE, LINE_2

ANN_ID, BOB_ID, CAT_ID = (Address(f"whatsapp:US.{number}") for number in (1001, 2001, 3001))
DAY_MILLISECONDS = 86_400_000


def key(word: str) -> ConversationKey:
    """A conversation by a readable name."""
    return ConversationKey(f"cv_{word}")


def sight(order: int, contact: Address, *, line: Address = LINE, word: str = "") -> Sight:
    """A conversation of a line with somebody, by default named after him."""
    return Sight(order, line, contact, key(word or f"{line} {contact}"))


def circle(*told: Tied | Sight) -> Circle:
    """A circle of everybody that is tied, with the conversations that were seen."""
    ties = tuple(sorted(one for one in told if isinstance(one, Tied)))
    sights = tuple(sorted(one for one in told if isinstance(one, Sight)))
    members = {address for tied in ties for address in (tied.one, tied.other)} | {one.contact for one in sights}
    return Circle(members=tuple(sorted(members)), ties=ties, sights=sights)


def fact(order: int, contact: Address = ANN) -> Doubtful:
    """A fact that names somebody by a phone in doubt."""
    return Doubtful(sight(order, contact), "pair", (LINE, contact), key(f"anchor {order}"), rank=BY_REPORT)


def edges(known: Circle) -> set[tuple[str, str]]:
    """Which conversations are one with which, each pair once."""
    found = settle(known).edges
    return {(one, other) for one, others in found.items() for other in others if one < other}


# --- which conversations are one ---


def test_one_user_by_phone_and_by_id_has_one_conversation_a_line() -> None:
    """Both conversations of each line are one; those of two lines are never."""
    sights = [sight(at, who, line=line) for at, (who, line) in enumerate([(ANN, LINE), (ANN_ID, LINE), (ANN, LINE_2)])]
    known = circle(Tied(9, ANN, ANN_ID), *sights)

    assert edges(known) == {(key(f"{LINE} {ANN}"), key(f"{LINE} {ANN_ID}"))}


def test_a_conversation_that_is_one_with_no_other_has_no_edges_and_is_named() -> None:
    """Every conversation of the circle is in the answer, so that edges of before can be taken back."""
    known = circle(Tied(1, ANN, ANN_ID), sight(2, ANN))

    assert settle(known).edges == {key(f"{LINE} {ANN}"): frozenset()}


def test_changed_numbers_and_ids_are_one_user() -> None:
    """Two phones tied are one user, and so are two ids, through any number of steps."""
    ties = [Tied(1, ANN, CAT), Tied(2, ANN, ANN_ID), Tied(3, ANN_ID, CAT_ID)]
    known = circle(*ties, *(sight(4, contact) for contact in (ANN, CAT, ANN_ID, CAT_ID)))

    assert len(edges(known)) == 6


def test_of_a_recycled_phone_what_had_merged_stays() -> None:
    """A phone seen with a second id joins nothing further: not the second user, nor what came up later."""
    ties = [Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID)]
    known = circle(*ties, sight(2, ANN), sight(3, ANN_ID), sight(4, BOB_ID))

    assert edges(known) == {(key(f"{LINE} {ANN}"), key(f"{LINE} {ANN_ID}"))}


def test_what_comes_up_after_the_doubt_is_joined_by_no_phone() -> None:
    """The first user's conversation by id is new when the phone is in doubt already: the two stay apart."""
    ties = [Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID)]
    known = circle(*ties, sight(2, ANN), sight(6, ANN_ID))

    assert edges(known) == set()


def test_a_tie_of_two_ids_ends_the_doubt() -> None:
    """Once the ids are known as one user's, the phone is nobody else's, whenever that is told."""
    ties = [Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID), Tied(9, ANN_ID, BOB_ID)]
    known = circle(*ties, sight(2, ANN), sight(6, ANN_ID), sight(7, BOB_ID))

    assert len(edges(known)) == 3


def test_what_a_person_ties_and_takes_back_is_as_if_it_had_never_been() -> None:
    """The same edges as before; a fact's own tie of the same two is not taken back with it."""
    before = circle(sight(1, ANN), sight(2, CAT))
    tied = with_tie(before, Tied(3, ANN, CAT, personal=True))
    proven = with_tie(tied, Tied(4, ANN, CAT))

    assert edges(tied) == edges(without_tie(proven, ANN, CAT)) != set()
    assert edges(without_tie(tied, CAT, ANN)) == edges(before) == set()


# --- what is remembered ---


def test_what_was_told_before_changes_nothing() -> None:
    """What counts is when it was first told, so a circle told the same again is itself."""
    known = circle(Tied(1, ANN, ANN_ID), sight(2, ANN))

    assert with_tie(known, Tied(7, ANN, ANN_ID)) is known
    assert with_sight(known, sight(7, ANN)) is known


def test_ties_and_sights_stand_in_the_order_of_the_log() -> None:
    """However they were told, so that one history gives one record."""
    told = [Tied(1, ANN, ANN_ID), Tied(2, ANN, CAT), Tied(3, BOB, BOB_ID)]
    records = set()
    for order in permutations(told):
        known = Circle(members=tuple(sorted((ANN, ANN_ID, CAT, BOB, BOB_ID))))
        for tied in order:
            known = with_tie(known, tied)
        records.add(encode(known))

    assert len(records) == 1


def test_two_circles_become_one() -> None:
    """Everything of both, under the smallest address of both."""
    one = with_doubtful(circle(Tied(1, ANN, ANN_ID), sight(2, ANN)), fact(8))
    other = circle(Tied(3, BOB, BOB_ID), sight(4, BOB_ID))
    both = joined([other, one])

    assert both == joined([one, other])
    assert both.members == (ANN, BOB, ANN_ID, BOB_ID)
    assert both.root == ANN
    assert [tied.order for tied in both.ties] == [1, 3]
    assert [seen.order for seen in both.sights] == [2, 4]
    assert both.doubtful == (fact(8),)


def test_who_is_who_is_kept_for_ever() -> None:
    """Neither a circle nor what is remembered of an account expires, and both are read back as they were."""
    known = with_doubtful(circle(Tied(1, ANN, ANN_ID, personal=True), sight(2, ANN)), fact(8))
    account = Account((LINE,), {key("group"): Heeded(7, Keywords(LINE, ("join",), None))})

    assert not known.expires
    assert not account.expires
    assert decode(Circle, encode(known)) == known
    assert decode(Account, encode(account)) == account


# --- what a doubt holds back ---


def test_a_doubt_that_ends_lets_go_what_it_held() -> None:
    """The facts come out, and their conversations are among those that are one from then on."""
    known = circle(Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID), sight(2, ANN_ID))
    waiting = with_doubtful(known, fact(6))
    ended = settle(with_tie(waiting, Tied(9, ANN_ID, BOB_ID)))

    assert settle(waiting).freed == ()
    assert ended.freed == (fact(6),)
    assert ended.circle.doubtful == ()
    assert edges(ended.circle) == {(key(f"{LINE} {ANN}"), key(f"{LINE} {ANN_ID}"))}


def test_a_doubt_that_stays_lets_nothing_go() -> None:
    """A tie of other people frees nothing, and settling twice is settling once."""
    known = with_doubtful(circle(Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID)), fact(6))
    after = settle(with_tie(known, Tied(9, BOB, CAT)))

    assert after.freed == ()
    assert after.circle.doubtful == (fact(6),)
    assert settle(after.circle).circle == after.circle


def test_a_persons_tie_that_made_a_doubt_frees_when_taken_back() -> None:
    """What came meanwhile decides its conversation after all."""
    proven, said = Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID, personal=True)
    known = with_doubtful(circle(proven, said), fact(6))

    assert settle(known).freed == ()
    assert settle(without_tie(known, ANN, BOB_ID)).freed == (fact(6),)


def test_what_waits_for_over_a_month_is_let_go() -> None:
    """A phone can be in doubt for good, and a record must not grow for ever; the bound is the log's own time."""
    start = 1_800_000_000_000
    month = 30 * DAY_MILLISECONDS
    first, day_30, after_30 = (fact(order_of(f"{start + later}-0", 0)) for later in (0, month - 1, month))
    known = with_doubtful(circle(Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID)), first)

    assert with_doubtful(known, day_30).doubtful == (first, day_30)
    assert with_doubtful(known, after_30).doubtful == (after_30,)
    assert with_doubtful(known, first) == known


# --- what a person spares ---


def test_a_persons_tie_spares_until_it_is_taken_back() -> None:
    """Two ids said to be one user end the doubt of their phone; unsaid, what waited before waits again."""
    phone = with_doubtful(circle(Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID)), fact(6))
    said = settle(with_tie(phone, Tied(9, ANN_ID, BOB_ID, personal=True)))
    unsaid = settle(without_tie(said.circle, ANN_ID, BOB_ID))

    assert (said.freed, said.held) == ((fact(6),), ())
    assert (said.circle.doubtful, said.circle.spared) == ((), (fact(6),))
    assert (unsaid.freed, unsaid.held) == ((), (fact(6),))
    assert (unsaid.circle.doubtful, unsaid.circle.spared) == ((fact(6),), ())


def test_what_came_while_a_person_spared_it_is_in_doubt_afterwards() -> None:
    """It decided its conversation when it came, and has to be known for the day on which the tie is taken back."""
    said = circle(Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID), Tied(6, ANN_ID, BOB_ID, personal=True))

    assert is_spared(said, ANN, 7)
    assert not is_spared(said, ANN, 4)
    assert settle(without_tie(with_spared(said, fact(7)), ANN_ID, BOB_ID)).held == (fact(7),)


def test_a_fact_that_shows_what_a_person_said_needs_no_sparing() -> None:
    """A provider ties the two ids as well: the fact decides for good, and is not remembered any longer."""
    said = circle(Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID), Tied(6, ANN_ID, BOB_ID, personal=True))
    shown = settle(with_tie(with_spared(said, fact(7)), Tied(9, ANN_ID, BOB_ID)))

    assert shown.freed == (fact(7),)
    assert (shown.circle.doubtful, shown.circle.spared) == ((), ())
    assert settle(without_tie(shown.circle, ANN_ID, BOB_ID)).held == ()


def test_where_one_fact_is_held_the_others_say_again_what_they_claim() -> None:
    """Two facts may have made the same claim, and only one of them takes it back."""
    ties = (Tied(1, ANN, ANN_ID), Tied(8, ANN, BOB_ID), Tied(5, ANN, CAT_ID, personal=True))
    said = circle(*ties, Tied(9, ANN_ID, BOB_ID, personal=True), Tied(10, ANN_ID, CAT_ID, personal=True))
    known = with_spared(with_spared(said, fact(7)), fact(11))
    unsaid = settle(without_tie(known, ANN_ID, BOB_ID))

    assert (unsaid.freed, unsaid.held) == ((fact(7),), (fact(11),))
    assert unsaid.circle.doubtful == (fact(11),)


def test_a_person_may_have_made_the_doubt_that_a_person_ended() -> None:
    """Of two things that a person said, one made a doubt and one ended it: the second taken back, it is there again."""
    made = with_doubtful(circle(Tied(1, ANN, ANN_ID), Tied(5, ANN, BOB_ID, personal=True)), fact(6))
    ended = settle(with_tie(made, Tied(9, ANN_ID, BOB_ID, personal=True)))

    assert ended.freed == ended.circle.spared == (fact(6),)
    assert settle(without_tie(ended.circle, ANN_ID, BOB_ID)).held == (fact(6),)
