import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.archive import FORMAT, MAX_LINE, Damaged, Redacted, read, read_line, split, write
from receiver.captures import LogEntry

ENTRY = LogEntry(
    "1795262400000-3",
    {
        b"id": b"cp_01a1feb0c7d39f4e6a2c80b51d7703e9",
        b"provider": b"telnyx",
        b"headers": b'[["content-type","application/json"]]',
        b"body": b'{"text": "Seven it is", "to": ["+15555550111"]}',
    },
)
OTHER = LogEntry("1795262400001-0", {b"id": b"cp_2", b"body": b"\xff\x00 no text"})

fields = st.dictionaries(st.binary(min_size=1, max_size=12), st.binary(max_size=60), min_size=1, max_size=9)
positions = st.builds("{}-{}".format, st.integers(0, 2**48), st.integers(0, 2**64 - 1))
entries = st.one_of(st.builds(LogEntry, positions, fields), st.builds(Redacted, positions, fields))


# --- one line ---


@given(entries)
def test_every_byte_of_an_entry_comes_back(entry: LogEntry) -> None:
    """Names and values may be any bytes, in any order; a redacted entry comes back as such."""
    line = write(entry)
    found = read_line(line)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert found == entry
    assert type(found) is type(entry)
    assert list(found.fields) == list(entry.fields)


def test_a_line_can_be_read_by_people_but_for_the_body() -> None:
    """Position and fields stand as text, for grep and jq; the body is base64, so that nothing alters it."""
    said = orjson.loads(write(ENTRY))

    assert (said["partyline"], said["position"]) == (FORMAT, ENTRY.position)
    assert said["fields"]["provider"] == "telnyx"
    assert said["fields"]["body"] == ["eyJ0ZXh0IjogIlNldmVuIGl0IGlzIiwgInRvIjogWyIrMTU1NTU1NTAxMTEiXX0="]
    assert "redacted" not in said


def test_a_redacted_line_says_so() -> None:
    """Whoever opens the file sees in each line that it is not what came in."""
    assert orjson.loads(write(Redacted(ENTRY.position, ENTRY.fields)))["redacted"] is True


@given(st.data())
def test_a_flipped_byte_never_gives_another_capture(data: st.DataObject) -> None:
    """Whatever byte is changed to whatever, the line is damaged or still says the same."""
    line = bytearray(write(ENTRY))
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] = data.draw(st.integers(0, 255))
    [*found] = read(split([bytes(line)]))

    assert all(isinstance(item, Damaged) or item == ENTRY for item in found)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"partyline":1,', "not JSON"),
        (b"[]\n", "not a line of an archive"),
        (b'{"hello": 1}\n', "not a line of an archive"),
        (write(ENTRY).replace(b'"partyline":1', b'"partyline":2'), "another version"),
        (write(ENTRY).replace(b"telnyx", b"telnyy"), "does not fit its check"),
        (write(ENTRY).replace(b"00-3", b"00-4"), "does not fit its check"),
        (write(Redacted(ENTRY.position, ENTRY.fields)).replace(b'"redacted":true,', b""), "does not fit its check"),
        (b'{"partyline":1,"position":"1-0","check":""}\n', "something in it is missing"),
        (b'{"partyline":1,"position":7,"fields":{"id":"x"},"check":""}\n', "not what it should be"),
        (b'{"partyline":1,"position":"1-0","fields":{"body":["a"]},"check":""}\n', "not what it should be"),
        (write(LogEntry("1-0", {})), "does not fit its check"),
    ],
)
def test_a_damaged_line_says_what_is_wrong(line: bytes, said: str) -> None:
    """The reason names no content; a capture without any field cannot be one."""
    with pytest.raises(ValueError, match=said) as raised:
        read_line(line)

    assert "15555550111" not in str(raised.value)


# --- a file of lines ---


def test_damage_harms_nothing_else() -> None:
    """A line that cannot be read is told by its number, a torn last one too; empty lines are passed over."""
    whole, torn = write(ENTRY), write(OTHER)[:-20]
    found = list(read([whole, b"\n", whole.replace(b"telnyx", b"tolnyx"), write(OTHER), torn]))

    assert found[0] == ENTRY
    assert found[2] == OTHER
    assert found[1] == Damaged(3, "damaged: its content does not fit its check")
    assert isinstance(found[3], Damaged)
    assert (found[3].line, found[3].reason.partition(":")[0]) == (5, "the file ends in the middle of it")


def test_a_last_line_without_its_newline_is_read_if_it_is_whole() -> None:
    """Editors and pipes drop the last newline."""
    assert list(read([write(ENTRY).rstrip()])) == [ENTRY]


def test_what_the_source_could_not_give_is_passed_on() -> None:
    """A part of a compressed file that is lost stands where it was."""
    assert list(read([write(ENTRY), Damaged(0, "lost"), write(OTHER)])) == [ENTRY, Damaged(2, "lost"), OTHER]


@given(st.lists(st.binary(max_size=9)), st.integers(1, 7))
def test_lines_do_not_hang_on_how_the_bytes_arrive(lines: list[bytes], step: int) -> None:
    """Cut into chunks of any size, the same lines come out."""
    data = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines) + b"rest"
    chunks = [data[at : at + step] for at in range(0, len(data), step)]

    assert list(split(chunks)) == data.splitlines(keepends=True) if b"\r" not in data else True
    assert b"".join(line for line in split(chunks) if isinstance(line, bytes)) == data


def test_what_is_torn_before_a_gap_stays_apart_from_what_follows() -> None:
    """Two halves of different lines never become one."""
    assert list(split([b"one\nhalf", Damaged(0, "gap"), b"two\n"])) == [b"one\n", b"half", Damaged(0, "gap"), b"two\n"]


def test_a_line_without_end_is_not_gathered_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the longest line there can be, bytes are dropped up to the next newline, and one line is damaged."""
    monkeypatch.setattr("receiver.archive.MAX_LINE", 10)
    found = list(split([b"x" * 11, b"y" * 11, b"z\nnext\n"]))

    assert MAX_LINE > 16 * 1024 * 1024 * 4 / 3
    assert found == [Damaged(0, "longer than 10 bytes"), b"next\n"]
