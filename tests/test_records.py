"""Records of a batch: found by name, read before they are used, written as from what they were; and their index."""

import pytest

from correlator.circles import Circle
from correlator.conversation import Conversation, absorb, identified
from correlator.index import address_term, group_term, index_changes, message_term, record_key, record_name, terms
from correlator.reading import KINDS
from correlator.records import MissingRecords, Name, Record, Records, Write, decode, encode
from correlator.rollup import Rollup
from schemas.events import Evidence, group_identity
from schemas.ids import Scope
from schemas.keyspace import Keyspace
from tests.engine import ANN, BOB, CAT, LINE

ONE, TWO, THREE = Name("Rollup", "one"), Name("Rollup", "two"), Name("Rollup", "three")
KEYS = Keyspace("demo")
CLUB = Name("Conversation", Scope(b"", "demo", "sendblue", "main").conversation("group", ("", "sb_group_1")))


def counted(number: int) -> Rollup:
    """A record that is told apart by a number."""
    return Rollup(count=number)


# --- finding ---


def test_a_record_is_found_as_it_was_read() -> None:
    """What Redis has is decoded; what it has not is None."""
    records = Records({ONE: encode(counted(1)), TWO: None})

    assert records.find(Rollup, "one") == counted(1)
    assert records.find(Rollup, "two") is None


def test_a_record_that_nobody_read_is_missing_and_not_absent() -> None:
    """Whoever folds must not decide on a guess: it says which record to read."""
    records = Records({ONE: None})

    with pytest.raises(MissingRecords) as caught:
        records.find(Rollup, "two")

    assert caught.value.names == {TWO}


def test_kinds_do_not_meet_under_one_key() -> None:
    """A roll-up and a circle of the same name are two records."""
    records = Records({ONE: encode(counted(1)), Name("Circle", "one"): None})

    assert records.find(Circle, "one") is None


def test_several_are_wanted_at_once() -> None:
    """All that were not read are named together, for one round trip."""
    records = Records({ONE: None})
    records.want(Rollup, ["one"])

    with pytest.raises(MissingRecords) as caught:
        records.want(Rollup, ["one", "two", "three"])

    assert caught.value.names == {TWO, THREE}


def test_what_is_set_must_have_been_read() -> None:
    """Otherwise nobody could say what it is to be written over."""
    with pytest.raises(MissingRecords):
        Records({}).set("one", counted(1))


def test_what_is_set_is_found() -> None:
    """Later facts of a batch see what earlier ones made."""
    records = Records({ONE: encode(counted(1))})
    records.set("one", counted(2))

    assert records.find(Rollup, "one") == counted(2)


# --- writing ---


def test_a_write_says_what_it_expects() -> None:
    """The script refuses to write over anything but what the decision was made on; empty is absent."""
    before = encode(counted(1))
    records = Records({ONE: before, TWO: None})
    records.set("one", counted(2))
    records.set("two", counted(3))

    assert records.take_writes() == {
        ONE: Write(before, encode(counted(2)), counted(1), counted(2)),
        TWO: Write(b"", encode(counted(3)), None, counted(3)),
    }


def test_what_was_only_looked_at_is_not_written() -> None:
    """Finding leaves no trace."""
    records = Records({ONE: encode(counted(1))})
    records.find(Rollup, "one")

    assert records.take_writes() == {}


def test_what_is_set_to_what_it_is_is_kept_and_not_rewritten() -> None:
    """Its bytes stay as they are, also those that we would spell differently, and its life begins anew."""
    spelled = b'{"count": 1}'
    records = Records({ONE: spelled})
    found = records.find(Rollup, "one")
    assert found is not None
    records.set("one", found)

    assert records.take_writes() == {ONE: Write(spelled, spelled, found, found)}


def test_the_next_commit_expects_what_this_one_writes() -> None:
    """A batch is cut into script calls, each of which builds on the one before."""
    records = Records({ONE: None})
    records.set("one", counted(1))
    records.take_writes()
    records.set("one", counted(2))
    records.set("one", counted(3))
    [write] = records.take_writes().values()

    assert write == Write(encode(counted(1)), encode(counted(3)), counted(1), counted(3))
    assert records.take_writes() == {}


def test_what_is_changed_and_changed_back_is_written_as_it_was() -> None:
    """One write, of what the record is in the end."""
    records = Records({ONE: encode(counted(1))})
    records.set("one", counted(2))
    records.set("one", counted(1))
    [write] = records.take_writes().values()

    assert decode(Rollup, write.data) == counted(1)
    assert write.data == write.expected


@pytest.mark.parametrize("kind", KINDS.values())
def test_each_kind_of_record_has_keys_of_its_own(kind: type[Record]) -> None:
    """Records of two kinds never stand under one Redis key, and all share the partition's slot."""
    keys = {record_key(KEYS, Name(name, "x")) for name in KINDS}

    assert len(keys) == len(KINDS)
    assert record_key(KEYS, Name(kind.__name__, "x")).startswith("partyline:{demo}:")
    assert record_name(KEYS, record_key(KEYS, Name(kind.__name__, "x"))) == Name(kind.__name__, "x")


def test_what_is_no_record_has_no_name() -> None:
    """Streams, counters and look-ups stand beside the records, and so do other namespaces."""
    strangers = [KEYS.captures, KEYS.cursor, KEYS.sequence("cv_x"), KEYS.index("a")[0], Keyspace("demo2").account("x")]

    assert [record_name(KEYS, key) for key in strangers] == [None] * len(strangers)


# --- what they can be found by ---


def club() -> Conversation:
    """A group with Ann, Bob and our line."""
    group = identified(group_identity("", "sb_group_1"), "sendblue/main", (LINE,))
    return absorb(group, Evidence(listed=(LINE, ANN, BOB), lines=(LINE,)), frozenset(), 10)


def test_a_conversation_is_found_by_its_people_and_its_group() -> None:
    """Each participant and the provider's group id, at its account; never an own line, which is in all of them."""
    assert terms(club()) == {address_term(ANN), address_term(BOB), group_term("sendblue/main", "sb_group_1")}


def test_a_user_is_found_by_phone_and_by_id() -> None:
    """Whatever address a fact has shown for a participant leads to the conversation."""
    club = identified(group_identity("", "club"), "whatsapp/main", (LINE,))
    known = absorb(club, Evidence(joined=(ANN,), same_user=((ANN, CAT),)), frozenset(), 10)

    assert terms(known) == {address_term(ANN), address_term(CAT), group_term("whatsapp/main", "club")}


def test_other_records_are_found_by_nothing() -> None:
    """Only conversations are looked up; one that is not there has no terms."""
    assert terms(counted(1)) == terms(None) == set()


def test_terms_of_different_sorts_never_meet() -> None:
    """The same text as an address, a group's id and a message's id are three terms."""
    found = {address_term("a b c"), group_term("a", "b c"), message_term("a", "b c"), group_term("b", "b c")}

    assert len(found) == 4


def test_the_index_follows_the_records() -> None:
    """Somebody who is found to be a line of ours goes from it, who joins comes in, and the rest is left alone."""
    before = club()
    after = absorb(before, Evidence(joined=(CAT,), lines=(BOB,)), frozenset(), 20)
    write = Write(encode(before), encode(after), before, after)
    changes = {change.added: change for change in index_changes(KEYS, {CLUB: write})}
    (came, cat), (went, bob) = (KEYS.index(address_term(person)) for person in (CAT, BOB))

    assert {added: change.key for added, change in changes.items()} == {True: came, False: went}
    assert changes[True].member.startswith(cat)
    assert changes[False].member.startswith(bob)
    assert changes[True].member[len(cat) :] == changes[False].member[len(bob) :] != b""


def test_a_record_that_stays_changes_no_index() -> None:
    """Being used again costs nothing there."""
    known = club()
    write = Write(encode(known), encode(known), known, known)

    assert list(index_changes(KEYS, {CLUB: write})) == []
