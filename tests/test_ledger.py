"""The ledger against the oracle: random histories, folded one by one, end where the rule book says."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.identity import Fact, decide, resolve
from correlator.ledger import CONVERSATION, POINTERS, Ledger, MissingRecords, Name, mentioned
from schemas.address import Address
from schemas.events import Evidence, Kind, Pointer, group_identity, pair_identity, set_identity
from schemas.ids import ConversationKey, EventId, Scope

SCOPE = Scope(b"ledger", "demo", "telnyx", "main")
LINE, ANN, BEN, CAM = (Address(f"+1555555010{digit}") for digit in range(4))

_IDENTITIES = [
    None,
    None,
    pair_identity(LINE, ANN),
    pair_identity(LINE, BEN),
    set_identity(frozenset({LINE, ANN, BEN})),
    set_identity(frozenset({LINE, ANN, BEN, CAM})),
    group_identity("", "club"),
]
_POINTERS = st.lists(st.sampled_from("abcde"), max_size=3, unique=True)
_KINDS: list[Kind] = ["unknown", "unknown", "direct", "group"]


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    """A few facts over few identities and pointers, so that they meet."""
    facts = []
    for number in range(draw(st.integers(1, 9))):
        pointers = tuple(Pointer("message", (name,)) for name in draw(_POINTERS))
        evidence = Evidence(
            identity=draw(st.sampled_from(_IDENTITIES)), pointers=pointers, kind=draw(st.sampled_from(_KINDS))
        )
        facts.append(Fact(EventId(f"fact-{number}"), SCOPE, evidence))
    return facts


class Book:
    """What Redis would hold, as a dictionary."""

    def __init__(self) -> None:
        self.records: dict[Name, bytes] = {}
        #: Merged announcements, the last one of each key: what readers were told.
        self.told: dict[ConversationKey, ConversationKey] = {}
        self.published: dict[EventId, ConversationKey] = {}

    def feed(self, facts: Sequence[Fact]) -> None:
        """Fold a batch in, reading what is missing as the store does, and keep what it writes."""
        read: dict[Name, bytes | None] = {}
        while True:
            ledger = Ledger(read)
            try:
                folded = [
                    (
                        fact,
                        ledger.fold(
                            SCOPE,
                            decide(SCOPE, fact.id, fact.evidence),
                            fact.evidence,
                            frozenset({LINE}),
                            0,
                            remember=True,
                        ),
                    )
                    for fact in facts
                ]
            except MissingRecords as missing:
                wanted = missing.names
                while wanted:
                    found = {name: self.records.get(name) for name in wanted}
                    read |= found
                    wanted = {
                        other
                        for name, raw in found.items()
                        if raw
                        for other in mentioned(name, raw)
                        if other not in read
                    }
                continue
            break
        for name, write in ledger.take_writes().items():
            assert self.records.get(name, b"") == write.expected
            self.records[name] = write.data
        for fact, result in folded:
            for merge in result.merges:
                self.told.update(dict.fromkeys(merge.merged, merge.subject))
            self.published.setdefault(fact.id, result.subject)

    def survivor(self, key: ConversationKey) -> ConversationKey:
        """What a key resolves to by the stored redirects."""
        ledger = Ledger({name: self.records.get(name) for name in [*self.records, Name(CONVERSATION, key)]})
        return ledger._survivor(key)


@settings(max_examples=400)
@given(history=histories(), data=st.data())
def test_in_any_order_and_batches_each_fact_ends_where_the_rule_book_says(
    history: list[Fact], data: st.DataObject
) -> None:
    """Facts in any order, any of them again, cut into batches anywhere: each key resolves as the oracle says."""
    again = data.draw(st.lists(st.sampled_from(history), max_size=4))
    order = data.draw(st.permutations([*history, *again]))
    book = Book()
    while order:
        size = data.draw(st.integers(1, len(order)))
        book.feed(order[:size])
        order = order[size:]
    wanted = {fact.id: decide(SCOPE, fact.id, fact.evidence).key for fact in history}

    assert {fact: book.survivor(key) for fact, key in wanted.items()} == resolve(history).keys


@settings(max_examples=400)
@given(history=histories())
def test_readers_are_told_of_each_key_that_moved(history: list[Fact]) -> None:
    """Whatever was published under a key that resolves elsewhere at the end was announced, last to where it ended."""
    book = Book()
    for fact in history:
        book.feed([fact])
    provisional = {fact.id for fact in history if fact.evidence.identity is None}
    moved = {key for fact, key in book.published.items() if fact in provisional and book.survivor(key) != key}

    assert {key: book.told.get(key) for key in moved} == {key: book.survivor(key) for key in moved}


def test_a_class_is_found_under_each_of_its_pointers() -> None:
    """Pointers named together in a chain end under the smallest, and each leads there."""
    chain = [
        Fact(EventId(name), SCOPE, Evidence(pointers=tuple(Pointer("message", (each,)) for each in name)))
        for name in ("ab", "bc", "cd")
    ]
    book = Book()
    for fact in chain:
        book.feed([fact])
    keys = sorted({pointer for fact in chain for pointer in decide(SCOPE, fact.id, fact.evidence).pointers})
    ledger = Ledger(dict(book.records))

    assert {ledger._root(key) for key in keys} == {keys[0]}
    assert {name.space for name in book.records} == {CONVERSATION, POINTERS}
