"""The documents in the repository: those that the code gives, and never less than was promised."""

import asyncio
import sys
from pathlib import Path

import pytest

from receiver.documents.files import FOLDER, RELEASED, committed, text
from receiver.documents.making import generated, release, write
from receiver.documents.notes import field_notes
from schemas.additive import lost_of_all
from schemas.events import Members

PROMISED = committed(FOLDER / RELEASED)


def test_the_committed_documents_are_those_of_the_code() -> None:
    """Whoever changes the code makes them anew (`make documents`): to the byte, none more and none less."""
    files = {each.name: each.read_bytes() for each in FOLDER.iterdir() if each.name.endswith(".json")}

    assert {name: text(document) for name, document in generated().items()} == files


def test_nothing_that_was_promised_has_been_taken_away() -> None:
    """Fields, types, channels and routes are only ever added to what the latest release promised."""
    assert lost_of_all(PROMISED, committed()) == []
    assert PROMISED


def test_writing_the_documents_tells_what_has_changed(tmp_path: Path) -> None:
    """What is missing is written, what is different is written anew, what the code does not have is removed."""
    first = write(tmp_path)
    (tmp_path / "typing.schema.json").write_bytes(b"{}")
    (tmp_path / "message.sung.schema.json").write_bytes(b"{}")

    assert first == sorted(generated())
    assert write(tmp_path) == ["message.sung.schema.json", "typing.schema.json"]
    assert write(tmp_path) == []
    assert committed(tmp_path) == generated()


def test_a_release_promises_what_there_is(tmp_path: Path) -> None:
    """From then on a loss is told, and nothing is promised anew while there is one."""
    write(tmp_path)
    assert release(tmp_path) == []
    promised = committed(tmp_path / RELEASED)

    (tmp_path / "typing.schema.json").unlink()
    losses = release(tmp_path)

    assert promised == generated()
    assert losses == ["typing.schema.json: is gone"]
    assert committed(tmp_path / RELEASED) == promised


async def test_a_word_that_the_command_does_not_know_writes_nothing() -> None:
    """A slip in `--release` is told, and is no plain run."""
    command = (sys.executable, "-m", "receiver.documents", "--relase")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()

    assert process.returncode == 1
    assert said == b"usage: python -m receiver.documents [--release]\n"


def test_what_the_code_calls_none_is_null_in_a_document() -> None:
    """Who reads a document need not know Python."""
    assert "None" not in text(generated()).decode()
    assert committed()["message.reaction.schema.json"]["$defs"]["Reaction"]["description"] == (
        "A reaction to a message. `emoji` null: the reaction was taken back."
    )


@pytest.mark.parametrize(
    ("field", "note"),
    [
        ("requested", "People who asked to join, or withdrew that."),
        ("inferred", "Concluded by us from something else than a member event."),
        ("after", "Who is in it once that is done, without your own lines; null while nobody is known."),
        ("added", ""),
    ],
)
def test_a_field_is_described_by_the_comment_above_it(field: str, note: str) -> None:
    """The notes of a class are its own and those that it inherits; a field without a comment has none."""
    assert field_notes(Members)[field] == note
