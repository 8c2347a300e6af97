"""What became of a message of ours: each recipient once, at the highest state known, in whatever order it was told."""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple, cast

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.records import decode, encode
from correlator.rollup import Rollup, about, absorb, is_stale, joined
from receiver.providers import sinch
from schemas.address import Address
from schemas.events import (
    FINAL_STATES,
    STATES,
    Event,
    Evidence,
    Identity,
    MessageStatus,
    Pointer,
    Sent,
    State,
    Status,
    group_identity,
    pair_identity,
    set_identity,
)
from tests.engine import LINE, LINE_2, capture

MESSAGE = (Pointer("message", ("m1",)),)
A, B, C = (Address(f"+1555555011{digit}") for digit in (1, 2, 3))
#: Ann by her user id.
A_ID = Address("whatsapp:US.1001")
NAMES = {"A": A, "B": B, "C": C, "a": A_ID}


class Fact(NamedTuple):
    """What one callback or registration tells of the message."""

    sent: Sent
    status: Status | None = None
    ties: tuple[tuple[Address, Address], ...] = ()


def reported(word: str, recipient: Address | None = None) -> Status:
    """A report; `sent!` is one where the channel reports nothing further."""
    value = cast("State", word.rstrip("!"))
    return Status(value, final=value in FINAL_STATES or word.endswith("!"), recipient=recipient, raw=word)


def fact(text: str) -> Fact:
    """One fact of a table.

    `to AB` everybody it went to · `of 3` how many · `A sent` one of them · `all sent` without recipient · `count
    delivered=2` recipients by number only · `Aa sent` of A, who is shown to be a.
    """
    who, said = text.split(maxsplit=1)
    if who == "to":
        return Fact(Sent(MESSAGE, recipients=tuple(NAMES[name] for name in said)))
    if who == "of":
        return Fact(Sent(MESSAGE, count=int(said)))
    if who == "all":
        return Fact(Sent(MESSAGE), reported(said))
    if who == "count":
        tally = tuple(
            (cast("State", state), int(number)) for state, number in (pair.split("=") for pair in said.split())
        )
        return Fact(Sent(MESSAGE, tally=tally), reported(tally[0][0]))
    people = [NAMES[name] for name in who]
    return Fact(Sent(MESSAGE), reported(said, people[-1]), ties=tuple(pairwise(people)))


def fold(known: Rollup, news: Fact) -> Rollup:
    """The roll-up after one fact."""
    return absorb(known, news.sent, Evidence(same_user=news.ties), news.status, 0)


def after(facts: Iterable[Fact]) -> Rollup:
    """The roll-up after all of them."""
    rollup = Rollup()
    for news in facts:
        rollup = fold(rollup, news)
    return rollup


def summary(rollup: Rollup) -> str:
    """`3: sent 1 delivered 2 settled`; a question mark where nobody knows how many there are."""
    shown = rollup.show()
    words = [f"{state} {shown[state]}" for state in STATES if shown[state]]
    number = "?" if shown["recipients"] is None else str(shown["recipients"])
    return " ".join([f"{number}:", *words, *(["settled"] if shown["settled"] else [])])


# --- the table of the envelope ---


@pytest.mark.parametrize(
    ("history", "shown"),
    [
        pytest.param([], "?:", id="nothing is known"),
        pytest.param(["A sent"], "?: sent 1", id="one of nobody knows how many"),
        pytest.param(["A sent", "B delivered"], "?: sent 1 delivered 1", id="two of nobody knows how many"),
        pytest.param(["A delivered", "B delivered"], "?: delivered 2", id="all final, yet there may be more"),
        pytest.param(["of 3"], "3:", id="how many, and nothing of any"),
        pytest.param(["of 3", "A delivered"], "3: delivered 1", id="one of three"),
        pytest.param(["of 3", "A delivered", "B failed"], "3: failed 1 delivered 1", id="the third is open"),
        pytest.param(
            ["of 3", "A delivered", "B failed", "C read"], "3: failed 1 delivered 1 read 1 settled", id="all three"
        ),
        pytest.param(["of 1", "A delivered", "B sent"], "2: sent 1 delivered 1", id="more people than were counted"),
        pytest.param(["of 2", "of 3"], "3:", id="of two numbers the larger"),
        pytest.param(["to ABC"], "3:", id="everybody, and nothing of any"),
        pytest.param(["to ABC", "A queued"], "3: queued 1", id="a state that is not final"),
        pytest.param(["to AB", "A unknown"], "2: unknown 1", id="one final, one open"),
        pytest.param(["to AB", "A unknown", "B cancelled"], "2: unknown 1 cancelled 1 settled", id="unknown is final"),
        pytest.param(["to AB", "A expired", "B sent"], "2: sent 1 expired 1", id="sent is not final"),
        pytest.param(["to AB", "A delivered", "C delivered"], "3: delivered 2", id="one more than was told"),
        pytest.param(["to A", "A read", "A delivered", "A sent"], "1: read 1 settled", id="nobody goes back"),
    ],
)
def test_recipients_are_counted_once_at_the_highest_state(history: list[str], shown: str) -> None:
    """How many there are is null until somebody tells it; settled when all that there are have come to an end."""
    facts = [fact(text) for text in history]

    assert summary(after(facts)) == shown
    assert summary(after(reversed(facts))) == shown


@pytest.mark.parametrize(
    ("history", "shown"),
    [
        pytest.param(["all sent"], "?:", id="of nobody knows whom"),
        pytest.param(["all delivered"], "?: settled", id="a final one settles it whoever they are"),
        pytest.param(["to ABC", "all queued"], "3: queued 3", id="everybody has come at least that far"),
        pytest.param(["to ABC", "all sent", "B delivered"], "3: sent 2 delivered 1", id="one further than the rest"),
        pytest.param(["to ABC", "all delivered", "B sent"], "3: delivered 3 settled", id="one report came late"),
        pytest.param(["of 2", "all delivered"], "2: delivered 2 settled", id="people known by number"),
        pytest.param(["to AB", "A delivered", "all failed"], "2: failed 1 delivered 1 settled", id="failed for others"),
        pytest.param(["A sent", "all delivered"], "?: delivered 1 settled", id="whom we know of at least"),
        pytest.param(["of 1", "all sent"], "1: sent 1", id="sent, and more may come"),
        pytest.param(["of 1", "all sent!"], "1: sent 1 settled", id="sent, and no more will come"),
    ],
)
def test_a_report_on_the_whole_message_counts_for_everybody(history: list[str], shown: str) -> None:
    """A report that names no recipient is on each of them; a final one settles the message."""
    facts = [fact(text) for text in history]

    assert summary(after(facts)) == shown
    assert summary(after(reversed(facts))) == shown


@pytest.mark.parametrize(
    ("history", "shown"),
    [
        pytest.param(["count delivered=2"], "?: delivered 2 settled", id="one word"),
        pytest.param(["count delivered=2", "count failed=1"], "?: failed 1 delivered 2 settled", id="two words"),
        pytest.param(["count delivered=2 failed=1"], "?: failed 1 delivered 2 settled", id="two words at once"),
        pytest.param(["of 2", "count delivered=2", "count queued=1"], "2: queued 1 delivered 2 settled", id="too many"),
        pytest.param(["of 9", "count delivered=2"], "9: delivered 2 settled", id="too few"),
        pytest.param(["count delivered=2", "count delivered=2"], "?: delivered 2 settled", id="told twice"),
        pytest.param(["count delivered=1", "count delivered=2"], "?: delivered 2 settled", id="more by now"),
        pytest.param(["count delivered=2", "A delivered"], "?: delivered 2 settled", id="one of them by name"),
        pytest.param(
            ["count sent=1", "A delivered", "B sent"], "?: sent 1 delivered 1", id="more by name than counted"
        ),
    ],
)
def test_counts_without_names_stand_as_they_were_told(history: list[str], shown: str) -> None:
    """A provider's counts need not add up to its total; they are passed on, and a person among them is not counted."""
    facts = [fact(text) for text in history]

    assert summary(after(facts)) == shown
    assert summary(after(reversed(facts))) == shown


def test_late_reports_by_name_do_not_take_back_what_was_counted() -> None:
    """Both are counted as delivered; reports of an earlier state that come after that bring nobody back to `sent`."""
    facts = [fact(text) for text in ("of 2", "count delivered=2", "A sent", "B sent")]

    assert summary(after(facts)) == "2: delivered 2 settled"


@pytest.mark.parametrize(("lower", "higher"), [*pairwise(STATES), ("cancelled", "failed")])
def test_of_two_states_the_one_that_stands_later_in_the_contract_holds(lower: str, higher: str) -> None:
    """Queued < sent < unknown < cancelled < expired < failed < delivered < read, in whatever order they come."""
    one, other = fact(f"A {lower}"), fact(f"A {higher}")

    assert summary(after([one, other])) == summary(after([other, one])) == f"?: {higher} 1"


@pytest.mark.parametrize(
    ("history", "shown"),
    [
        (["to A", "A sent"], "1: sent 1"),
        (["to A", "A sent!"], "1: sent 1 settled"),
        (["to A", "A sent!", "A sent"], "1: sent 1 settled"),
        (["to AB", "A sent!", "B sent"], "2: sent 2"),
        (["to AB", "A sent!", "B delivered"], "2: sent 1 delivered 1 settled"),
        (["to A", "A sent!", "A delivered"], "1: delivered 1 settled"),
    ],
)
def test_sent_is_final_where_the_channel_reports_nothing_further(history: list[str], shown: str) -> None:
    """An SMS at Sendblue is never more than sent: it counts as sent, and as settled."""
    facts = [fact(text) for text in history]

    assert summary(after(facts)) == shown
    assert summary(after(reversed(facts))) == shown


@pytest.mark.parametrize(
    ("history", "shown"),
    [
        pytest.param(["A delivered", "a read"], "?: delivered 1 read 1", id="untied they are two"),
        pytest.param(["A delivered", "Aa read"], "?: read 1", id="tied they are one, at the higher state"),
        pytest.param(["to A", "Aa delivered"], "1: delivered 1 settled", id="sent to the phone, reported of the id"),
        pytest.param(["of 1", "A sent", "Aa delivered"], "1: delivered 1 settled", id="one person"),
        pytest.param(["to AB", "B read", "Aa failed"], "2: failed 1 read 1 settled", id="beside somebody else"),
    ],
)
def test_one_user_counts_once_by_phone_and_by_id(history: list[str], shown: str) -> None:
    """Reports that show a phone and a user id as one user are on one recipient, whichever of the two they name."""
    facts = [fact(text) for text in history]

    assert summary(after(facts)) == shown
    assert summary(after(reversed(facts))) == shown


def test_what_is_shown_has_every_state_even_at_zero() -> None:
    """A reader finds each count where the contract has it."""
    assert after([fact("to AB"), fact("A read")]).show() == {
        "recipients": 2,
        "queued": 0,
        "sent": 0,
        "unknown": 0,
        "cancelled": 0,
        "expired": 0,
        "failed": 0,
        "delivered": 0,
        "read": 1,
        "settled": False,
    }


# --- stale ---


@pytest.mark.parametrize(
    ("history", "news", "stale"),
    [
        pytest.param([], "A queued", False, id="the first report"),
        pytest.param(["to AB"], "A queued", False, id="the first report on somebody whom it went to"),
        pytest.param(["A sent"], "A sent", True, id="the same again"),
        pytest.param(["A delivered"], "A sent", True, id="an earlier state"),
        pytest.param(["A sent"], "A delivered", False, id="a later state"),
        pytest.param(["A failed"], "A cancelled", True, id="failed is above cancelled"),
        pytest.param(["A delivered"], "B sent", False, id="somebody else"),
        pytest.param(["A sent"], "A sent!", True, id="the same state, now as the last"),
        pytest.param(["all sent"], "all sent", True, id="the whole message again"),
        pytest.param(["all delivered"], "all sent", True, id="an earlier state of the whole message"),
        pytest.param(["all sent"], "all delivered", False, id="a later state of the whole message"),
        pytest.param(["count delivered=2"], "count delivered=2", True, id="the same count"),
        pytest.param(["count delivered=2"], "count delivered=3", False, id="a higher count"),
        pytest.param(["count delivered=2"], "count failed=1", False, id="another state's count"),
        pytest.param(["all delivered"], "A sent", True, id="one recipient, after the whole message came further"),
        pytest.param(["A delivered"], "Aa delivered", True, id="the same user by id"),
        pytest.param(["A sent"], "Aa delivered", False, id="the same user by id, further now"),
    ],
)
def test_a_report_is_stale_when_its_state_was_reached_before(history: list[str], news: str, *, stale: bool) -> None:
    """Stale: the recipient was already at that state or above, by whatever report."""
    known, (sent, status, ties) = after(map(fact, history)), fact(news)
    assert status is not None
    known_with_ties = msgspec.structs.replace(known, ties=tuple(sorted({*known.ties, *ties})))

    assert is_stale(known_with_ties, status, sent) is stale


# --- what a fact tells of its message ---


@pytest.mark.parametrize(
    ("identity", "recipients", "count"),
    [
        pytest.param(pair_identity(LINE, A), None, 1, id="a pair is one recipient"),
        pytest.param(set_identity(frozenset({LINE, A})), None, 1, id="a set of two is direct"),
        pytest.param(set_identity(frozenset({LINE, A, B})), (A, B), None, id="a set is everybody but the sender"),
        pytest.param(set_identity(frozenset({LINE, LINE_2, A})), (LINE_2, A), None, id="another own line got it too"),
        pytest.param(group_identity("", "g1"), None, None, id="a group's id tells nobody"),
    ],
)
def test_recipients_follow_from_the_conversation(
    identity: Identity, recipients: tuple[Address, ...] | None, count: int | None
) -> None:
    """A direct message has one recipient; a set of addresses is the sender and everybody it went to."""
    told = about(Evidence(identity, pointers=MESSAGE, lines=(LINE,)))
    by_setting = about(Evidence(fallback=identity, pointers=MESSAGE, lines=(LINE,)))

    assert told == by_setting == Sent(MESSAGE, recipients=recipients, count=count)


def test_without_a_conversation_only_a_direct_message_tells_its_recipients() -> None:
    """What is only known to be direct has one; what may be anything tells nothing."""
    assert about(Evidence(pointers=MESSAGE, kind="direct")) == Sent(MESSAGE, count=1)
    assert about(Evidence(pointers=MESSAGE, kind="group")) == Sent(MESSAGE)
    assert about(Evidence(pointers=MESSAGE)) == Sent(MESSAGE)


def test_what_the_evidence_says_of_the_message_outweighs_the_conversation() -> None:
    """A report on one recipient of a batch is in a direct conversation, while the batch went to many."""
    sent = Sent((Pointer("batch", ("b1",)),), count=40)

    assert about(Evidence(pair_identity(LINE, A), lines=(LINE,), sent=sent)) is sent


def test_two_buckets_of_one_status_in_a_summary_are_added_up() -> None:
    """Buckets differ by status and code: two failed by one code and three by another are five failed."""
    buckets = [(0, "Delivered", 5), (11, "Failed", 2), (27, "Failed", 3)]
    body = {
        "type": "delivery_report_sms",
        "batch_id": "01BATCH",
        "total_message_count": 10,
        "statuses": [{"code": code, "status": word, "count": count} for code, word, count in buckets],
    }
    rollup = Rollup()
    for event in sinch.parse(capture(provider="sinch", body=orjson.dumps(body))):
        assert isinstance(event, Event)
        assert isinstance(event.body, MessageStatus)
        assert event.evidence is not None
        rollup = absorb(rollup, about(event.evidence), event.evidence, event.body.status, 0)

    assert summary(rollup) == "10: failed 5 delivered 5 settled"


# --- in any order ---


_WORDS = [*STATES, "sent!"]
_PEOPLE = st.lists(st.sampled_from("ABCa"), min_size=1, max_size=3, unique=True).map("".join)
_BY_NAME = st.builds("{} {}".format, st.sampled_from([*"ABCa", "Aa"]), st.sampled_from(_WORDS))
_WHOLE = st.builds("all {}".format, st.sampled_from(_WORDS))
_SENDS = st.builds("to {}".format, _PEOPLE) | st.builds("of {}".format, st.integers(0, 4))
_COUNTED = st.builds("count {}={}".format, st.sampled_from(STATES), st.integers(0, 3))
_HISTORIES = st.lists(_BY_NAME | _WHOLE | _SENDS | _COUNTED, max_size=7)
_UNTIED = st.lists(_BY_NAME.filter(lambda text: not text.startswith("Aa")) | _WHOLE | _SENDS, min_size=1, max_size=7)


@given(history=_HISTORIES, data=st.data())
def test_in_any_order_and_told_any_number_of_times_it_is_the_same(history: list[str], data: st.DataObject) -> None:
    """Facts in any order, any of them again: one roll-up, the same to a reader and as it is stored."""
    again = data.draw(st.lists(st.sampled_from(history), max_size=4)) if history else []
    order = data.draw(st.permutations([*history, *again]))
    one, other = after(map(fact, history)), after(map(fact, order))

    assert other.show() == one.show()
    assert other == one


@given(one=_HISTORIES, other=_HISTORIES, third=_HISTORIES)
def test_joining_is_a_union(one: list[str], other: list[str], third: list[str]) -> None:
    """What two ids of one message know is put together in either order, in any grouping, any number of times."""
    first, second, last = (after(map(fact, history)) for history in (one, other, third))

    assert joined(first, second) == joined(second, first)
    assert joined(joined(first, second), last) == joined(first, joined(second, last))
    assert joined(first, first) == first == joined(Rollup(), first)


@given(one=_HISTORIES, other=_HISTORIES)
def test_what_is_joined_is_as_if_told_of_one_message_from_the_start(one: list[str], other: list[str]) -> None:
    """It makes no difference when it turns out that two ids name one message."""
    assert joined(after(map(fact, one)), after(map(fact, other))) == after(map(fact, [*one, *other]))


@given(history=_HISTORIES, news=_BY_NAME | _WHOLE | _SENDS | _COUNTED)
def test_a_recipient_never_goes_down(history: list[str], news: str) -> None:
    """Whatever is told next, each recipient stays at least where he was, and what is settled stays settled."""
    known = after(map(fact, history))
    further = fold(known, fact(news))

    assert all(further.ranks[person] >= rank for person, rank in known.ranks.items())
    assert further.show()["settled"] or not known.settled


@given(history=_UNTIED, news=_BY_NAME.filter(lambda text: not text.startswith("Aa")) | _WHOLE | _SENDS)
def test_a_reader_never_sees_fewer_at_or_above_a_state(history: list[str], news: str) -> None:
    """Of people who stay as many as they were, those who came to a state or further only get more."""
    before, now = after(map(fact, history)).show(), fold(after(map(fact, history)), fact(news)).show()

    for at, state in enumerate(STATES):
        reached, still = (sum(shown[higher] for higher in STATES[at:]) for shown in (before, now))
        assert still >= reached, state


@given(history=_HISTORIES)
def test_a_fact_told_again_changes_nothing(history: list[str]) -> None:
    """It gives back the very roll-up, so that nobody writes a record for it."""
    known = after(map(fact, history))

    assert all(fold(known, fact(text)) is known for text in history)


@given(history=_HISTORIES)
def test_a_rollup_is_stored_and_read_back(history: list[str]) -> None:
    """What Redis keeps is all of it."""
    known = after(map(fact, history))

    assert decode(Rollup, encode(known)) == known
