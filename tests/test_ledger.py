"""The ledger against the oracle: random histories, folded in any order and batches, end where the rule book says."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.identity import Entry, Fact, Resolution, Tied, Unlink, decide, identity_key, resolve
from correlator.pointers import PointerClass
from correlator.records import decode
from schemas.events import Evidence, Link, Pointer, Sent, Tie, group_identity, pair_identity, user_identity
from schemas.ids import ConversationKey, EventId
from tests.histories import ANN_ID, BEN, BEN_ID, LINE, SCOPE, SOUND_TIES, TIES, Book, examples, facts, possible_keys


def fed(history: Sequence[Entry], data: st.DataObject) -> Book:
    """A book that was fed a history in batches cut anywhere."""
    book, left = Book(), list(history)
    while left:
        size = data.draw(st.integers(1, len(left)))
        book.feed(left[:size])
        left = left[size:]
    return book


def ends(book: Book, resolution: Resolution) -> dict[EventId, ConversationKey]:
    """Where each fact of a history belongs by what the book holds."""
    return {fact: book.survivor(key) for fact, key in resolution.wanted.items()}


@settings(max_examples=examples(300))
@given(history=facts(SOUND_TIES), data=st.data())
def test_in_any_order_and_batches_each_fact_ends_where_the_rule_book_says(
    history: list[Fact], data: st.DataObject
) -> None:
    """Facts in any order, any of them again, cut into batches anywhere: each key resolves as the oracle says."""
    again = data.draw(st.lists(st.sampled_from(history), max_size=4))
    order = data.draw(st.permutations([*history, *again]))
    book = fed(order, data)
    resolution = resolve(history)

    assert ends(book, resolution) == resolution.keys


@settings(max_examples=examples(300))
@given(history=facts(TIES), data=st.data())
def test_with_recycled_phones_the_order_of_arrival_decides_as_the_rule_book_says(
    history: list[Fact], data: st.DataObject
) -> None:
    """Where a phone is shown with a second user id, the ledger agrees with the oracle over the same order."""
    again = data.draw(st.lists(st.sampled_from(history), max_size=4))
    order = data.draw(st.permutations([*history, *again]))
    book = fed(order, data)
    resolution = resolve(order)

    assert ends(book, resolution) == resolution.keys


@st.composite
def with_links(draw: st.DrawFn) -> list[Entry]:
    """Facts, and links and ties of a person among them."""
    made: list[Entry] = list(draw(facts(SOUND_TIES)))
    keys = possible_keys([fact for fact in made if isinstance(fact, Fact)])
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            one, other = draw(st.lists(st.sampled_from(keys), min_size=2, max_size=2))
            if one != other:
                made.append(Link(*sorted((one, other))))
        else:
            made.append(Tied(SCOPE, Tie(*draw(st.sampled_from(SOUND_TIES)))))
    return made


@settings(max_examples=examples(300))
@given(history=with_links(), data=st.data())
def test_links_of_a_person_count_wherever_they_stand(history: list[Entry], data: st.DataObject) -> None:
    """Links and ties come before, between or after the facts: each key resolves as the oracle says."""
    order = data.draw(st.permutations(history))
    book = fed(order, data)
    resolution = resolve(history)

    assert ends(book, resolution) == resolution.keys


@settings(max_examples=examples(300))
@given(history=with_links(), data=st.data())
def test_a_link_taken_back_is_as_if_it_had_never_been(history: list[Entry], data: st.DataObject) -> None:
    """After any of the links and ties is undone, each key resolves as if it had not been said."""
    said = [entry for entry in history if isinstance(entry, Link | Tied)]
    undone = data.draw(st.lists(st.sampled_from(said), unique=True)) if said else []
    order = [*data.draw(st.permutations(history)), *map(Unlink, undone)]
    book = fed(order, data)
    resolution = resolve(order)

    assert ends(book, resolution) == resolution.keys


@settings(max_examples=examples(300))
@given(history=with_links(), data=st.data())
def test_readers_know_where_each_key_leads(history: list[Entry], data: st.DataObject) -> None:
    """A reader who keeps every merged event takes the subject of each event for the conversation that it ended in."""
    said = [entry for entry in history if isinstance(entry, Link | Tied)]
    undone = data.draw(st.lists(st.sampled_from(said), unique=True)) if said else []
    order = [*data.draw(st.permutations(history)), *map(Unlink, undone)]
    book = fed(order, data)
    subjects = set(book.published.values())

    assert {key: book.believed(key) for key in subjects} == {key: book.survivor(key) for key in subjects}


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
    classes = {name.key: decode(PointerClass, raw) for name, raw in book.records.items() if name.kind == "PointerClass"}

    assert sorted(classes) == keys
    assert classes[keys[0]].members == tuple(keys)
    assert all(classes[key].leads_to for key in keys[1:])


def test_what_a_setting_supposes_counts_again_once_a_doubt_has_ended() -> None:
    """A report that came while its recipient's phone was in doubt is the default line's after that tie is undone."""
    seen = Fact(EventId("seen"), SCOPE, Evidence(same_user=((BEN, ANN_ID),)))
    supposed = Evidence(
        fallback=pair_identity(LINE, BEN), pointers=(Pointer("message", ("m",)),), kind="direct", lines=(LINE,)
    )
    report, tie = Fact(EventId("report"), SCOPE, supposed), Tied(SCOPE, Tie(BEN, BEN_ID))
    history: list[Entry] = [seen, tie, report, Unlink(tie)]
    book = Book()
    for entry in history:
        book.feed([entry])
    resolution = resolve(history)

    assert ends(book, resolution)[report.id] == identity_key(SCOPE, pair_identity(LINE, BEN))
    assert ends(book, resolution) == resolution.keys


def test_the_line_of_a_send_to_a_group_is_known_when_its_recipient_gets_another_address() -> None:
    """A report on a recipient, placed by the line of the group's send, follows its user once a person ties the two."""
    batch = Pointer("batch", ("x",))
    group = group_identity("", "club")
    sent = Fact(EventId("sent"), SCOPE, Evidence(identity=group, registered=True, sent=Sent((batch,), line=LINE)))
    pointed = Pointer("batch", ("x", BEN))
    report = Fact(
        EventId("report"), SCOPE, Evidence(pointers=(pointed,), kind="direct", contact=BEN, sent=Sent((batch,)))
    )
    met = Fact(EventId("met"), SCOPE, Evidence(identity=user_identity(LINE, BEN_ID), kind="direct", lines=(LINE,)))
    history: list[Entry] = [report, sent, Tied(SCOPE, Tie(BEN, BEN_ID)), met]
    book = Book()
    for entry in history:
        book.feed([entry])
    resolution = resolve(history)

    assert ends(book, resolution)[report.id] == identity_key(SCOPE, user_identity(LINE, BEN_ID))
    assert ends(book, resolution) == resolution.keys
