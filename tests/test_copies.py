"""The same message told to several of our lines: one original, and copies of it."""

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.copies import Recent, Telling, content_of, saw
from correlator.records import decode, encode
from schemas.address import Address
from schemas.events import Media, Message
from schemas.ids import EventId
from tests.engine import ANN, BOB, LINE, LINE_2, message

LINE_3 = Address("+15555550108")
WINDOW = 10_000
LINES = {"1": LINE, "2": LINE_2, "3": LINE_3}
BOAT, OAR = (
    Media(f"https://example.com/{name}", "image/jpeg", sha256=digest * 64)
    for name, digest in (("boat", "a"), ("oar", "b"))
)
TEXT = msgspec.structs.replace(message("one"), id=None)


class Told(NamedTuple):
    """One callback: an event's name, the lines that it is on, when it was received, what was said."""

    event: str
    lines: str
    at: int
    said: Message = TEXT


def tell(known: Recent, told: Told, window: int = WINDOW) -> tuple[Recent, EventId | None]:
    """What is known after one callback, and of which event it is a copy."""
    telling = Telling(EventId(told.event), tuple(LINES[line] for line in told.lines), told.at, told.at)
    return saw(known, msgspec.structs.replace(told.said, id=told.event), telling, window)


def copies(callbacks: Iterable[Told], window: int = WINDOW) -> list[str | None]:
    """Of each callback, the event that it is a copy of."""
    known, found = Recent(), list[str | None]()
    for told in callbacks:
        known, copy_of = tell(known, told, window)
        found.append(copy_of)
    return found


def test_what_a_second_line_is_told_is_a_copy() -> None:
    """Two own lines in one group are told of one message, each by a callback with ids of its own."""
    assert copies([Told("a", "1", 0), Told("b", "2", 400)]) == [None, "a"]


def test_what_a_third_line_is_told_is_a_copy_of_the_original() -> None:
    """Copies all name the first event, never one another."""
    assert copies([Told("a", "1", 0), Told("b", "2", 400), Told("c", "3", 800)]) == [None, "a", "a"]


def test_what_one_line_is_told_twice_is_two_messages() -> None:
    """A line never sees a message twice, so a person wrote the same thing again."""
    assert copies([Told("a", "1", 0), Told("b", "1", 400)]) == [None, None]


def test_a_callback_on_several_lines_speaks_for_all_of_them() -> None:
    """What one callback told to two lines is no copy when either of them is told of it again, but is for a third."""
    callbacks = [Told("a", "12", 0), Told("b", "2", 100), Told("c", "3", 200)]

    assert copies(callbacks) == [None, None, "a"]


@pytest.mark.parametrize("gap", [0, 400, 3000])
@pytest.mark.parametrize("order", sorted(permutations(["one-1", "one-2", "two-1", "two-2"])))
def test_the_same_thing_written_twice_is_two_originals_and_two_copies(order: Sequence[str], gap: int) -> None:
    """Both messages through both lines, in any interleaving: each line's callbacks are of different messages."""
    callbacks = [Told(name, name[-1], number * gap) for number, name in enumerate(order)]
    found = dict(zip(order, copies(callbacks), strict=True))
    originals = {name for name, copy_of in found.items() if copy_of is None}
    copied = {name: copy_of for name, copy_of in found.items() if copy_of is not None}

    assert len(originals) == len(copied) == 2
    assert set(copied.values()) == originals
    assert all(name[-1] != copy_of[-1] for name, copy_of in copied.items())


@given(order=st.permutations([f"{number}-{line}" for number in range(3) for line in "123"]), data=st.data())
def test_there_are_as_many_originals_as_messages(order: list[str], data: st.DataObject) -> None:
    """Three times the same thing to three lines, any callbacks of it again: three originals with two copies each."""
    again = data.draw(st.lists(st.sampled_from(order), max_size=3))
    told = copies(Told(name, name[-1], 0) for name in [*order, *again])
    found = dict(zip(order, told, strict=False))

    assert sorted(copy_of or "" for copy_of in found.values()) == sorted(
        [*[""] * 3, *[name for name, copy_of in found.items() if copy_of is None] * 2]
    )
    assert told[len(order) :] == [found[name] for name in again]


@pytest.mark.parametrize(
    ("apart", "copy_of"), [(WINDOW - 1, "a"), (WINDOW, "a"), (WINDOW + 1, None), (-WINDOW, "a"), (-WINDOW - 1, None)]
)
def test_only_within_the_window_is_it_a_copy(apart: int, copy_of: str | None) -> None:
    """The window is how far apart two callbacks of one message may be received, in whatever order they are read."""
    assert copies([Told("a", "1", 60_000), Told("b", "2", 60_000 + apart)]) == [None, copy_of]


def test_the_window_is_measured_from_the_original() -> None:
    """Copies do not draw it out: what comes too late for the original is a message of its own."""
    callbacks = [Told("a", "1", 0), Told("b", "2", WINDOW - 1), Told("c", "3", WINDOW + 1)]

    assert copies(callbacks) == [None, "a", None]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(msgspec.structs.replace(TEXT, sender=BOB), id="somebody else"),
        pytest.param(msgspec.structs.replace(TEXT, sender=None), id="nobody named"),
        pytest.param(msgspec.structs.replace(TEXT, text="Seven it is."), id="another text"),
        pytest.param(msgspec.structs.replace(TEXT, text=None), id="no text"),
        pytest.param(msgspec.structs.replace(TEXT, subject="Rowing"), id="another subject"),
        pytest.param(msgspec.structs.replace(TEXT, media=(BOAT,)), id="with a picture"),
        pytest.param(msgspec.structs.replace(TEXT, type="location", content={"latitude": 1}), id="a place"),
    ],
)
def test_what_says_something_else_is_no_copy(other: Message) -> None:
    """Sender, text and media all have to be the same."""
    assert copies([Told("a", "1", 0), Told("b", "2", 100, other)]) == [None, None]


def test_pictures_are_the_same_by_what_is_in_them() -> None:
    """Providers give each line's copy a URL of its own; another picture is another message."""
    boat, again = (msgspec.structs.replace(TEXT, media=(BOAT,)) for _ in range(2))
    moved = msgspec.structs.replace(TEXT, media=(msgspec.structs.replace(BOAT, url="https://example.com/2"),))
    other = msgspec.structs.replace(TEXT, media=(OAR,))

    assert content_of(boat) == content_of(again) == content_of(moved) != content_of(other)


def test_a_redelivery_says_what_was_said_the_first_time() -> None:
    """An original stays one, and a copy stays one of the same event, however often each comes."""
    original, copy = Told("a", "1", 0), Told("b", "2", 100)

    assert copies([original, original, copy, original, copy]) == [None, None, "a", None, "a"]


def test_a_redelivery_leaves_room_for_a_copy() -> None:
    """Whoever is told again of what he knows takes nobody else's place."""
    known, _ = tell(Recent(), Told("a", "1", 0))
    again, _ = tell(known, Told("a", "1", 50))

    assert again is known
    assert tell(again, Told("b", "2", 100))[1] == "a"


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_late_redelivery_makes_no_copy_of_a_new_message(name: str) -> None:
    """A minute later a callback comes again, and then somebody writes the same thing again: that is no copy of it."""
    before = [Told("a", "1", 0), Told("b", "2", 100)]
    again = Told(name, "1" if name == "a" else "2", 60_000)
    line = "2" if name == "a" else "1"

    assert copies([*before, again, Told("new", line, 62_000)])[-1] is None


def test_what_is_too_old_to_be_copied_is_forgotten() -> None:
    """The record holds ten minutes, in which redeliveries are told from new messages, and no more."""
    known, _ = tell(Recent(), Told("a", "1", 0))
    known, _ = tell(known, Told("b", "1", 10 * 60 * 1000 + 1))

    assert [sighting.events[0][0] for sighting in known.sightings] == ["b"]


def test_what_was_lately_said_is_stored_without_its_text() -> None:
    """Redis keeps a digest, and gives back what was kept."""
    known, _ = tell(Recent(), Told("a", "1", 0))
    stored = encode(known)

    assert decode(Recent, stored) == known
    assert b"Seven" not in stored
    assert ANN.encode() not in stored
