"""The ledger against the oracle: random histories, folded in any order and batches, end where the rule book says."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.identity import Entry, Fact, Tied, Unlink, decide, resolve
from correlator.pointers import PointerClass
from correlator.records import decode
from schemas.events import Evidence, Link, Pointer, Tie
from schemas.ids import EventId
from tests.histories import SCOPE, SOUND_TIES, TIES, Book, facts, possible_keys


def fed(history: Sequence[Entry], data: st.DataObject) -> Book:
    """A book that was fed a history in batches cut anywhere."""
    book, left = Book(), list(history)
    while left:
        size = data.draw(st.integers(1, len(left)))
        book.feed(left[:size])
        left = left[size:]
    return book


def ends(book: Book, history: Sequence[Entry]) -> dict[EventId, str]:
    """Where each fact of a history belongs by what the book holds."""
    return {
        fact.id: book.survivor(_own(book, fact)) for fact in history if isinstance(fact, Fact)
    }


def _own(book: Book, fact: Fact) -> str:
    return decide(fact.scope, fact.id, fact.evidence).key


@settings(max_examples=400)
@given(history=facts(SOUND_TIES), data=st.data())
def test_in_any_order_and_batches_each_fact_ends_where_the_rule_book_says(
    history: list[Fact], data: st.DataObject
) -> None:
    """Facts in any order, any of them again, cut into batches anywhere: each key resolves as the oracle says."""
    again = data.draw(st.lists(st.sampled_from(history), max_size=4))
    order = data.draw(st.permutations([*history, *again]))
    book = fed(order, data)

    assert ends(book, history) == resolve(history).keys
