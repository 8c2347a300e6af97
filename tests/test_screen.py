"""Events in the columns of a terminal: they fit, nothing that matters is cut, a conversation has its colour."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.screen import Piece, colour, cut, day_line, lines, width_of
from tests.happenings import ANN, BOB, CAT, KEY, ONE, THREE, TWO, came_and_went, message, published, report

WIDTHS = (40, 60, 72, 80, 100, 120, 200)
SOME = {
    "text": published("message.received", message=message(text="Seven it is, at the old boathouse by the mill")),
    "wide": published("message.received", message=message(text="七時に古い水車小屋で会いましょう、いいですか")),
    "emoji": published("message.received", message=message(text="👨‍👩‍👧 " * 20)),
    "address": published("message.received", message=message(sender="whatsapp:US.13491208655302741918")),
    "failure": report(value="failed", error={"code": "40310", "detail": "not a number that can be reached " * 20}),
    "merge": published("conversation.merged", merged=[ONE, TWO, THREE]),
    "members": came_and_went(added=[ANN, BOB], removed=[CAT], after=[ANN, BOB]),
    "word": came_and_went(added=["x" * 300]),
    "account": published("account.notice", None, notice={"kind": "10dlc.brand.update", "detail": {}}),
}


def text_of(pieces: list[Piece]) -> str:
    """A line without its styles."""
    return "".join(text for text, _ in pieces)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("event", SOME.values(), ids=SOME)
def test_nothing_is_wider_than_the_terminal(event: object, width: int) -> None:
    """Whatever an event says, each of its lines fits, and they are few."""
    shown = lines(event, width, UTC)  # type: ignore[arg-type]

    assert max(width_of(pieces) for pieces in shown) <= width
    assert len(shown) <= 4


def test_eighty_columns_hold_everything() -> None:
    """Time, provider, type, key, kind, who and what: the last is cut where the width ends."""
    [shown] = lines(SOME["text"], 80, UTC)

    assert text_of(shown) == "12:00:05 telnyx   received cv_abcde… group/3  +15555550111 “Seven it is, at th…”"


def test_a_wide_terminal_shows_the_whole_type_and_more_of_the_key() -> None:
    """Where there is room, names are those that `--type` takes."""
    [shown] = lines(SOME["text"], 130, UTC)

    assert text_of(shown) == (
        "12:00:05 telnyx   message.received      cv_abcdefghi… group/3  +15555550111     "
        "“Seven it is, at the old boathouse by the mill”"
    )


def test_a_narrow_terminal_leaves_columns_out() -> None:
    """Provider and kind go first, what was said last."""
    [shown] = lines(SOME["text"], 60, UTC)

    assert text_of(shown) == "12:00:05 received cv_abcde… +15555550111 “Seven it is, at…”"


def test_a_sentence_goes_on_below() -> None:
    """Our own words are not cut, since what they say is at their end; nobody's column stays empty for them."""
    first, second = map(text_of, lines(SOME["merge"], 80, UTC))

    assert first == "12:00:05 telnyx   merged   cv_abcde… group/3  cv_aaaaa…, cv_bbbbb… and cv_ccccc…"
    assert second == " " * 46 + "are now this conversation"


def test_a_conversation_is_told_by_its_colour() -> None:
    """The same key has the same colour wherever it stands, in any width, and most keys have others."""
    pieces = {text: style for line in lines(SOME["merge"], 80, UTC) for text, style in line}
    wide = {text: style for line in lines(SOME["merge"], 130, UTC) for text, style in line}

    assert pieces["cv_abcde…"] == wide["cv_abcdefghi…"] == colour(KEY)
    assert pieces["cv_aaaaa…"] == wide["cv_aaaaa…"] == colour(ONE)
    assert len({colour(f"cv_{number:05}") for number in range(100)}) == 16


def test_a_failure_catches_the_eye() -> None:
    """A report that something failed is red, any other is dim."""
    assert lines(SOME["failure"], 80, UTC)[0][-1][1] == "red"
    assert lines(report(), 80, UTC)[0][-1] == ("delivered", "dim")


def test_times_are_those_of_whoever_reads() -> None:
    """Five hours west of Greenwich, noon is seven, and three in the morning is the day before."""
    west = timezone(timedelta(hours=-5))
    early = published("message.received", message=message(), at=datetime(2026, 11, 22, 3, 0, tzinfo=UTC))

    assert text_of(lines(SOME["text"], 80, west)[0]).startswith("07:00:05 ")
    assert day_line(SOME["text"], west) == "── Saturday, 2026-11-21 ──"
    assert day_line(early, west) == "── Saturday, 2026-11-21 ──"
    assert day_line(early, UTC) == "── Sunday, 2026-11-22 ──"


@given(st.text(), st.integers(1, 30))
def test_a_cut_text_fits(text: str, width: int) -> None:
    """A text that is too long ends with an ellipsis within the width, a short one is left as it is."""
    shown = cut(text, width)

    assert width_of([(shown, "")]) <= width
    assert shown == text or shown.endswith("…")


@given(st.text(), st.sampled_from(WIDTHS))
def test_any_text_fits_any_terminal(text: str, width: int) -> None:
    """Whatever people write, nothing reaches the terminal that moves its cursor or wraps."""
    shown = lines(published("message.received", message=message(text=text, sender=f"telnyx:{text}")), width, None)

    assert max(map(width_of, shown)) <= width
    assert all(text_of(pieces).replace("\u200d", "").isprintable() for pieces in shown)
