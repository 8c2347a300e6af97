"""The scratch file: as a dict and a set, little of it in memory, and gone however what used it ends."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.scratch import Scratch, ScratchError, scratch

ROOT = Path(__file__).parent.parent
#: So little that a handful of rows does not fit into it.
TINY_KIB = 1
#: Holds forty times as much as it may have in memory, and prints how many MiB it grew by, and how many the file has.
HOLDING_MUCH = """
import resource
from receiver.scratch import scratch
from tests.test_scratch import open_files

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

with scratch(cache_kib=1024) as file:
    before, kept = peak(), file.mapping()
    for at in range(0, 40000, 100):
        kept.update({b"%d" % number: bytes(1000) for number in range(at, at + 100)})
    assert all(kept[b"%d" % number] == bytes(1000) for number in range(0, 40000, 7))
    [link] = open_files()
    print(peak() - before, link.stat().st_size / 2**20)
"""

names = st.binary(max_size=3)
values = st.binary(max_size=700)


def open_files() -> list[Path]:
    """The scratch files that this process has open, as links whose text is the kernel's name for them."""
    return [
        link for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and "scratch-" in str(link.readlink())
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files with nothing in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


# --- what it holds ----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["set", "update", "delete", "take"]), st.dictionaries(names, values))))
def test_a_mapping_is_like_a_dict(steps: list[tuple[str, dict[bytes, bytes]]]) -> None:
    """Whatever is set, replaced and taken out, with most of it in the file: the same as a dict, in the same order."""
    expected: dict[bytes, bytes] = {}
    with scratch(TINY_KIB) as file:
        kept = file.mapping()
        for what, some in steps:
            if what == "update":
                expected.update(some)
                kept.update(some)
            elif what == "take":
                assert kept.take(some.keys()) == {name: expected.pop(name) for name in some if name in expected}
            for name, value in some.items():
                if what == "set":
                    expected[name] = kept[name] = value
                elif what == "delete":
                    assert kept.pop(name, None) == expected.pop(name, None)
        wanted = {*expected, *(name for _, some in steps for name in some)}

        assert {name: kept.get(name) for name in wanted} == {name: expected.get(name) for name in wanted}
        assert list(kept.items()) == list(expected.items())
        assert len(kept) == len(expected)


@given(st.lists(st.tuples(st.sampled_from(["add", "discard", "join"]), st.sets(names))), st.sets(names))
def test_a_set_of_names_is_like_a_set(steps: list[tuple[str, set[bytes]]], others: set[bytes]) -> None:
    """Whatever is added and removed: the same as a set, in the order of the names."""
    expected: set[bytes] = set()
    with scratch(TINY_KIB) as file:
        kept = file.names()
        for what, some in steps:
            if what == "join":
                expected |= some
                kept |= some
            for name in some:
                if what == "add":
                    expected.add(name)
                    kept.add(name)
                elif what == "discard":
                    expected.discard(name)
                    kept.discard(name)

        assert list(kept) == sorted(expected)
        assert len(kept) == len(expected)
        assert kept & others == expected & others
        assert {name for name in others if name in kept} == expected & others
        assert cast("object", "no name") not in kept


def test_what_is_asked_for_in_one_go_may_be_any_number() -> None:
    """More names at once than one question takes, and none."""
    many = {b"%d" % number for number in range(1000)}
    with scratch(TINY_KIB) as file:
        kept, mapping = file.names(), file.mapping()
        kept |= many
        mapping.update(dict.fromkeys(many, b""))

        assert kept & (many | {b"x"}) == many
        assert kept & set() == set()
        assert mapping.take(many | {b"x"}).keys() == many
        assert mapping.take(set()) == {}
        assert len(mapping) == 0


def test_what_was_never_there_is_seldom_asked_for() -> None:
    """No name that is there is missed; one that is not costs no question to the file, but for one in some thousands."""
    with scratch() as file:
        kept = file.mapping()
        kept.update({b"%d" % number: b"" for number in range(20_000)})
        list(kept)  # everything is in the file

        assert all(b"%d" % number in kept for number in range(20_000))
        assert sum(b"%d" % number in kept._perhaps for number in range(20_000, 40_000)) < 20


def test_what_was_never_there_is_a_key_error() -> None:
    """As a dict says it."""
    with scratch() as file:
        kept = file.mapping()
        with pytest.raises(KeyError):
            kept[b"never"]
        with pytest.raises(KeyError):
            del kept[b"never"]


def test_each_mapping_and_set_is_its_own() -> None:
    """They share the file and nothing else."""
    with scratch() as file:
        one, other, some = file.mapping(), file.mapping(), file.names()
        one[b"name"] = b"value"
        some.add(b"another")

        assert dict(other) == {}
        assert (list(one), list(some)) == ([b"name"], [b"another"])


def test_memory_is_bounded_by_the_cache_and_not_by_what_is_held() -> None:
    """Forty MB in a process of its own, whose memory grows by a few."""
    done = subprocess.run([sys.executable, "-c", HOLDING_MUCH], cwd=ROOT, capture_output=True, text=True, check=True)
    grown, size = map(float, done.stdout.split())

    assert size > 38
    assert grown < 6


# --- the file itself --------------------------------------------------------------------------------------


def test_the_file_has_no_name_and_is_its_owners_alone(folder: Path) -> None:
    """While it is in use nobody can open it, nor find it in the folder; what is kept does get there."""
    with scratch(TINY_KIB) as file:
        file.mapping().update({b"%d" % number: bytes(100) for number in range(1000)})
        [link] = open_files()
        name, found = str(link.readlink()), link.stat()

        assert name.startswith(f"{folder}/partyline-scratch-")
        assert name.endswith(" (deleted)")
        assert list(folder.iterdir()) == []
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_size > 100_000
    assert open_files() == []


def test_nothing_is_left_after_an_error(folder: Path) -> None:
    """The file is closed, and so gone, whatever ends its use."""

    def fail() -> None:
        with scratch(TINY_KIB) as file:
            file.names().add(b"name")
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        fail()

    assert open_files() == []
    assert list(folder.iterdir()) == []


# --- when it cannot be used -------------------------------------------------------------------------------


def write_mapping(file: Scratch) -> None:
    """Fill a mapping."""
    file.mapping().update({b"%d" % number: bytes(1000) for number in range(1000)})


def write_names(file: Scratch) -> None:
    """Fill a set, many names at once."""
    kept = file.names()
    kept |= {b"%d" % number for number in range(100_000)}


def write_one_by_one(file: Scratch) -> None:
    """Fill a set, name by name."""
    kept = file.names()
    for number in range(100_000):
        kept.add(b"%d" % number)


@pytest.mark.parametrize("write", [write_mapping, write_names, write_one_by_one])
def test_a_full_disk_is_said_plainly(folder: Path, write: Callable[[Scratch], None]) -> None:
    """Where the file is, and what can be done about it."""
    with scratch(TINY_KIB) as file:
        file.one("PRAGMA max_page_count = 40")
        with pytest.raises(ScratchError) as told:
            write(file)

    assert str(told.value) == (
        f"the scratch file in {folder} cannot be used: database or disk is full. Make room there, or set TMPDIR to a "
        "folder on a local disk that has room; then run the same command again"
    )
    assert list(folder.iterdir()) == []


def test_a_file_that_cannot_be_read_is_said_plainly(folder: Path) -> None:
    """As a disk that fails: what was written is not there any more."""
    with scratch(TINY_KIB) as file:
        kept = file.mapping()
        kept.update({b"%d" % number: bytes(1000) for number in range(1000)})
        assert len(kept) == 1000
        os.truncate(open_files()[0], 4096)
        reads: list[Callable[[], Any]] = [lambda: dict(kept), lambda: [kept.get(b"%d" % at) for at in range(1000)]]
        for read in reads:
            with pytest.raises(ScratchError, match=f"the scratch file in {folder} cannot be used"):
                read()


def test_a_folder_that_takes_no_file_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for temporary files that is not there, and no such folder at all."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "away"))
    with pytest.raises(ScratchError, match=f"the scratch file in {tmp_path}/away cannot be used: .*No such file"):
        scratch().__enter__()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "away")])
    with pytest.raises(ScratchError, match=r"the scratch file in \$TMPDIR cannot be used: .*No usable temporary"):
        scratch().__enter__()
