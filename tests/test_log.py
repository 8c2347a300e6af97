"""Log lines: one each, whatever is in them, and without what must not be told."""

import json
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parent.parent

HOSTILE = {
    "newline": 'captured"\n{"event": "callback", "outcome": "captured"}',
    "carriage_return": "seen\r2026-11-21T12:00:00Z [info] forged",
    "clear_the_screen": "a\x1b[2J\x1b[H",
    "set_the_title": "a\x1b]0;owned\x07",
    "eight_bit_csi": "a\x9b2J",
    "backspaces": "good\b\b\b\bevil",
    "nul": "a\0b",
    "next_line": "a\x85b",
    "line_separator": "a\u2028b\u2029c",
    "right_to_left": "a\u202egnp.exe",
    "quotes": 'a","level":"info","b":"',
    "backslash": "a\\",
    "lone_surrogate": "a\ud83d",
    "undecodable_bytes": "a\udcff",
}
#: Logs each hostile text as a value, as a message of a library's, and within an error.
PROGRAM = """
import json, logging, sys
import structlog
from receiver.log import configure
configure(console=sys.argv[1] == "console")
log = structlog.get_logger()
for text in json.load(sys.stdin):
    log.info("callback", outcome=text, number=7)
    logging.getLogger("some.library").warning("it says %s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        log.exception("failed")
"""
#: How the console form itself sets colours; nothing hostile here has just this form.
_COLOUR = re.compile(r"\x1b\[\d+m")


def logged(form: str, texts: list[str], program: str = PROGRAM) -> str:
    """What a process logs."""
    ended = subprocess.run(
        [sys.executable, "-c", program, form],
        input=json.dumps(texts).encode(),
        capture_output=True,
        cwd=ROOT,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    return ended.stderr.decode()


def test_every_line_is_json_whatever_is_in_it() -> None:
    """Three lines a text, each an object of its own with its own words; none is made up by the text, none is lost."""
    lines = [orjson.loads(line) for line in logged("json", [*HOSTILE.values()]).splitlines()]

    assert [line["event"] for line in lines[::3]] == ["callback"] * len(HOSTILE)
    assert [line["number"] for line in lines[::3]] == [7] * len(HOSTILE)
    assert all(line["event"].startswith("it says ") and line["logger"] == "some.library" for line in lines[1::3])
    assert all("RuntimeError: " in line["exception"].splitlines()[-1] for line in lines[2::3])
    assert len(lines) == 3 * len(HOSTILE)


def test_nothing_moves_the_cursor_of_a_terminal() -> None:
    """On a console each text stays within its line, and nothing of it is a control character."""
    plain = _COLOUR.sub("", logged("console", [*HOSTILE.values()]))

    assert {character for character in plain if not character.isprintable()} == {"\n"}
    assert len(re.findall(r"^\S+ \[info +\] callback ", plain, re.MULTILINE)) == len(HOSTILE)
    assert len(re.findall(r"^\S+ \[warning +\] it says ", plain, re.MULTILINE)) == len(HOSTILE)
    assert len(re.findall(r"^RuntimeError: ", plain, re.MULTILINE)) == len(HOSTILE)
    begun = r"^(\d{4}-\S+ \[|Traceback |  File |    raise |RuntimeError: )"
    assert [line for line in plain.split("\n") if line and not re.match(begun, line)] == []


QUOTING = """
import sys
import structlog
from receiver.log import configure
from schemas.errors import ParseError
configure(console=sys.argv[1] == "console")
log = structlog.get_logger()
try:
    try:
        int("meet me at the pier")
    except ValueError as error:
        {}["+15555550111"]
except KeyError as error:
    log.exception("failed")
try:
    several = ExceptionGroup("two", [OSError(28, "No space left"), ValueError("pier")])
    raise ParseError("$.id", "missing, or not a text") from several
except ParseError:
    log.exception("failed again")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_error_is_told_without_the_value_that_was_wrong(form: str) -> None:
    """Where it failed and what came of what is told; what Python's own messages quote is not."""
    told = logged(form, [], QUOTING)

    assert "pier" not in told
    assert "5555550111" not in told
    assert told.index("ValueError: (what it says") < told.index("which led to:") < told.index("KeyError: (what")
    assert "ParseError: $.id: missing, or not a text" in told
    assert "OSError: [Errno 28] No space left" in told
    assert 'File "<string>", line 10, in <module>'.replace('"', '\\"' if form == "json" else '"') in told
