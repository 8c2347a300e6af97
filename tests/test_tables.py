from hypothesis import given
from hypothesis import strategies as st

from receiver.tables import columns, sheet, table
from tests.library import ANN, BOB, conversation
from tests.service import LINE

KEY = "cv_" + "c" * 26


def test_columns_are_as_wide_as_they_need() -> None:
    """Cells stand one under the other, two spaces apart, without spaces at the end of a line."""
    assert columns([("a", "long one", ""), ("longer", "b", "c")]) == "a       long one\nlonger  b         c\n"


def test_a_table_has_a_line_for_each_conversation() -> None:
    """Key, account, kind, people, own lines and how many events; nothing known shows as such."""
    known = conversation("c", "group", ANN, BOB)
    vague = conversation("d", "unknown", provisional=True, lines=[])

    assert [line.split() for line in table([known, vague]).splitlines()] == [
        ["conversation", "account", "kind", "participants", "lines", "events"],
        [KEY, "telnyx/main-telnyx", "group", f"{ANN},", BOB, LINE, "42"],
        ["cv_" + "d" * 26, "telnyx/main-telnyx", "unknown,", "provisional", "-", "-", "42"],
    ]


def test_a_sheet_shows_everything() -> None:
    """Every field of the object stands on a line of its own, those of later versions too."""
    shown = conversation(
        "c", "group", ANN, BOB, ids={"group": ["g1", "g2"], "batch": []}, name="Ferry", merged=["cv_x"]
    )

    assert dict(line.split(maxsplit=1) for line in sheet(shown).splitlines()) == {
        "key": KEY,
        "kind": "group",
        "participants": f"{ANN}, {BOB}",
        "lines": LINE,
        "provisional": "no",
        "merged": "cv_x",
        "ids": "group: g1, g2; batch: -",
        "account": "telnyx/main-telnyx",
        "name": "Ferry",
        "events": "42",
    }


@given(st.text())
def test_nothing_moves_the_terminals_cursor(text: str) -> None:
    """Names and ids are a provider's text: no control character of theirs gets through."""
    [line] = columns([(text, "x")]).splitlines() or [""]

    assert line.isprintable()
