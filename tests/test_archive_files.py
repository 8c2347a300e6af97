"""Archives as files: what is written is read again, and what is damaged costs no more than itself."""

import io
import os
import stat
import sys
from pathlib import Path

import pytest

from receiver.archive import Damaged, write
from receiver.archive_files import ArchiveError, continued, created, opened
from receiver.captures import LogEntry

NAMES = ["captures.jsonl", "captures.jsonl.zst"]


def entry(number: int, size: int = 20) -> LogEntry:
    """A made-up entry, known by its number."""
    return LogEntry(f"{number}-0", {b"id": b"cp_%d" % number, b"body": os.urandom(size)})


def filled(file: Path, *entries: LogEntry) -> list[LogEntry]:
    """Write an archive of entries."""
    with created(str(file), compressed=file.suffix == ".zst") as archive:
        for each in entries:
            archive.add(write(each))
    return list(entries)


def grown(file: Path, *entries: LogEntry) -> str:
    """Go on with an archive, each entry flushed by itself; the position that it went on from."""
    with continued(str(file)) as (archive, position):
        for each in entries:
            archive.add(write(each))
            archive.flush()
    return position


def content(file: Path) -> list[LogEntry | Damaged]:
    """Everything in an archive."""
    with opened(str(file)) as items:
        return list(items)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    """Several frames' worth come back in order; only the owner may read the file, and nothing is left beside it."""
    entries = filled(tmp_path / name, *(entry(number, 300_000) for number in range(12)))

    assert content(tmp_path / name) == entries
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_whether_a_file_is_compressed_shows_by_its_content(tmp_path: Path) -> None:
    """A compressed archive is read under any name, and an empty file is one without captures."""
    [one] = filled(tmp_path / "one.zst", entry(1))
    (tmp_path / "one.zst").rename(tmp_path / "one.jsonl")
    (tmp_path / "empty").touch()

    assert content(tmp_path / "one.jsonl") == [one]
    assert content(tmp_path / "empty") == []


def test_standard_input_and_output_are_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both take `-`, compressed or not."""
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, write_through=True))
    with created("-", compressed=True) as archive:
        archive.add(write(one := entry(1)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said.getvalue())))

    assert content(Path("-")) == [one]
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """It may be the only copy; nor does one that failed halfway look like a whole one."""
    file = tmp_path / "a.jsonl"
    [one] = filled(file, entry(1))
    with pytest.raises(ArchiveError, match="is there already"):
        filled(file, entry(2))
    with pytest.raises(RuntimeError), created(str(tmp_path / "b.jsonl"), compressed=False):
        raise RuntimeError

    assert content(file) == [one]
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("name", ["nowhere/a.jsonl", "."])
def test_what_cannot_be_opened_is_told_in_a_sentence(tmp_path: Path, name: str) -> None:
    """Reading, writing and going on say the system's own reason."""
    place = str(tmp_path / name)
    for attempt in (lambda: content(Path(place)), lambda: grown(Path(place))):
        with pytest.raises(ArchiveError, match=r"cannot be (read|written): \w+"):
            attempt()
    with pytest.raises(ArchiveError):
        filled(Path(place), entry(1))


def test_a_broken_frame_costs_no_more_than_itself(tmp_path: Path) -> None:
    """What is compressed beside it is read, and that something is lost is said."""
    file = tmp_path / "a.zst"
    first, second, third = (entry(number, 200_000) for number in (1, 2, 3))
    grown(file, first)
    begin = file.stat().st_size
    grown(file, second)
    end = file.stat().st_size
    grown(file, third)
    data = bytearray(file.read_bytes())
    data[begin : begin + 4] = b"\0\0\0\0"
    file.write_bytes(bytes(data))
    found = content(file)

    assert end - begin > 64 * 1024  # it is searched for the next one piece by piece
    assert (found[0], found[-1]) == (first, third)
    assert all(isinstance(item, Damaged) for item in found[1:-1])
    assert found[1:-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_torn_file_is_read_up_to_the_tear(tmp_path: Path, name: str) -> None:
    """The last line says that it is torn, and why nothing follows."""
    file = tmp_path / name
    one, two = entry(1), entry(2)
    grown(file, one, two)
    os.truncate(file, file.stat().st_size - 5)
    *whole, last = content(file)

    assert whole[:1] == [one]
    assert isinstance(last, Damaged)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("torn", [0, 5])
def test_an_archive_is_gone_on_with_where_it_is_whole(tmp_path: Path, name: str, torn: int) -> None:
    """After a crash in the middle of a line it says from which position on, and then is whole again."""
    file = tmp_path / name
    one, two, three = entry(1), entry(2), entry(3)
    before = grown(file, one, two)
    os.truncate(file, file.stat().st_size - torn)
    position = grown(file, *([two] if torn else []), three)

    assert (before, position) == ("", "1-0" if torn else "2-0")
    assert content(file) == [one, two, three]


def test_the_end_of_a_long_archive_is_found_from_behind(tmp_path: Path) -> None:
    """A last line longer than a piece, and a damaged one before it, do not hide where the archive ends."""
    file = tmp_path / "a.jsonl"
    grown(file, entry(1), entry(2, 400_000))
    with file.open("ab") as more:
        more.write(b'{"partyline":1,"position":"9-0"}\n')

    assert grown(file) == "2-0"


def test_an_archive_torn_in_its_very_first_line_is_begun_anew(tmp_path: Path) -> None:
    """It says nothing yet, so nothing is lost."""
    file = tmp_path / "a.jsonl"
    file.write_bytes(write(entry(1))[:30])

    assert grown(file, two := entry(2)) == ""
    assert content(file) == [two]


@pytest.mark.parametrize(
    ("name", "data"),
    [("notes.txt", b"Friday, noon\nbring rope"), ("a.zst", b"Friday"), ("a.zst", write(entry(1)))],
    ids=["notes", "no_zstd", "plain_as_zst"],
)
def test_another_file_is_never_touched(tmp_path: Path, name: str, data: bytes) -> None:
    """A mistyped name must not cost anybody a file."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ArchiveError, match=name):
        grown(tmp_path / name, entry(1))

    assert (tmp_path / name).read_bytes() == data
