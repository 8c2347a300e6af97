"""Untrusted JSON: any bytes give a Node or a ParseError, and no reader of a Node ever fails otherwise."""

import contextlib
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.body import MAX_DEPTH, Node, decode
from schemas.errors import ParseError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
#: What gets past a first glance: escapes, halves of them, odd numbers, brackets without end.
_SHARDS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b" ", b"null", b"true"),
    *(b"\\ud83d", b"\\uDE00", b"\\u0000", b"\\", b"\x00", b"\xff", b"\xef\xbb\xbf"),
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 30, b"9" * 5000),
    *(b"[" * 150, b'{"a":' * 150, b'{"a":"\\ud83d",'),
]
SHARDS = st.lists(st.sampled_from(_SHARDS), max_size=12).map(b"".join)


def only_parse_errors(body: bytes) -> Node | None:
    """What decoding gives; None for a ParseError. Anything else goes through."""
    try:
        return decode(body)
    except ParseError:
        return None


# --- decoding ---


@given(st.binary() | SHARDS)
def test_any_bytes_give_a_node_or_a_parse_error(body: bytes) -> None:
    """Decoding is total, and what it gives can be written out again."""
    node = only_parse_errors(body)

    if node is not None:
        orjson.loads(node.canonical())


@given(JSON)
def test_json_is_read_as_what_it_says(value: Any) -> None:
    """What is proper JSON comes back as it was, NUL aside."""
    body = orjson.dumps(value)

    assert decode(body).value == orjson.loads(body.replace(b"\\u0000", "\ufffd".encode()))


@given(JSON, st.integers(min_value=0), st.binary(min_size=1, max_size=3))
def test_damaged_json_gives_a_node_or_a_parse_error(value: Any, at: int, damage: bytes) -> None:
    """A few bytes gone wrong anywhere do no worse."""
    body = json.dumps(value).encode()
    at %= len(body)

    only_parse_errors(body[:at] + damage + body[at + len(damage) :])
    only_parse_errors(body[:at])


REFUSED = {
    "nothing": b"",
    "white_space": b" \n",
    "truncated": b'{"data": {"id": "1',
    "two_values": b"{} {}",
    "single_quotes": b"{'a': 1}",
    "trailing_comma": b'{"a": 1,}',
    "comment": b'{"a": 1} // yes',
    "nan": b'{"a": NaN}',
    "infinity": b"[-Infinity]",
    "nan_beside_a_surrogate": b'["\\ud83d", NaN]',
    "infinity_beside_a_surrogate": b'["\\ud83d", 1e999]',
    "form": b"from=%2B15555550111&text=hi",
    "xml": b"<a/>",
    "utf_16": '{"a": 1}'.encode("utf-16"),
    "byte_order_mark": b'\xef\xbb\xbf{"a": 1}',
    "latin_1": b'{"a": "caf\xe9"}',
    "latin_1_beside_a_surrogate": b'["\\ud83d", "caf\xe9"]',
    "surrogate_in_raw_bytes": b'"\xed\xa0\xbd"',
    "nul_in_raw_bytes": b'"a\x00b"',
    "truncated_escape": b'"\\ud8"',
    "brackets_without_end": b"[" * 100_000,
    "brackets_without_end_beside_a_surrogate": b'{"a":"\\ud83d","b":' + b"[" * 100_000,
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_is_no_json_is_a_parse_error(body: bytes) -> None:
    """Only JSON in UTF-8 is read, without any other parser's liberties."""
    with pytest.raises(ParseError):
        decode(body)


def test_an_error_tells_where_but_not_what() -> None:
    """The message of a ParseError has the place and nothing of the body, which may be private."""
    with pytest.raises(ParseError) as error:
        decode(b'{"text": "see you at the pier"; "more": "\\ud83d"}')

    assert "byte 30" in str(error.value)
    assert "pier" not in str(error.value)


@pytest.mark.parametrize("bracket", [(b"[", b"]"), (b'{"a":', b"}")])
def test_as_deep_as_the_limit_is_read_and_one_deeper_is_refused(bracket: tuple[bytes, bytes]) -> None:
    """The limit on nesting is exact, for lists and for objects."""
    opening, closing = bracket

    assert decode(opening * (MAX_DEPTH - 1) + b"[]" + closing * (MAX_DEPTH - 1)).value
    with pytest.raises(ParseError, match="deeper"):
        decode(opening * MAX_DEPTH + b"[]" + closing * MAX_DEPTH)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    """A long list of objects is no nesting, nor are brackets inside a text."""
    assert len(decode(b"[" + b",".join([b'{"a":[]}'] * 1000) + b"]").elements()) == 1000
    assert decode(b'{"text": "' + b"[" * 1000 + b'"}').text("text") == "[" * 1000


SURROGATES = {
    "lone_high": (b'"a\\ud83d"', "a\ufffd"),
    "lone_low": (b'"\\ude00b"', "\ufffdb"),
    "two_highs": (b'"\\ud83d\\ud83d"', "\ufffd\ufffd"),
    "wrong_order": (b'"\\ude00\\ud83d"', "\ufffd\ufffd"),
    "upper_case": (b'"\\uD83D!"', "\ufffd!"),
    "beside_a_pair": (b'"\\ud83d\\ude00\\ud83d"', "\U0001f600\ufffd"),
    "beside_raw_emoji": ('"\U0001f600\\ud83d"'.encode(), "\U0001f600\ufffd"),
    "escaped_backslash": (b'"\\\\ud83d"', "\\ud83d"),
    "pair": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "before_text": (b'"\\ud83dabc"', "\ufffdabc"),
}


@pytest.mark.parametrize(("body", "text"), SURROGATES.values(), ids=SURROGATES)
def test_half_an_emoji_becomes_the_replacement_character(body: bytes, text: str) -> None:
    """Lone surrogates are replaced one by one; whole pairs and everything else stay as they are."""
    assert decode(body).as_text() == text


def test_half_an_emoji_in_a_key_harms_nothing_else() -> None:
    """Numbers, nesting and other texts around a lone surrogate read as ever."""
    node = decode(b'{"\\ud83d": 1, "id": "b-7", "size": 12345678901234567, "list": [1.5, null, true]}')

    assert node.value == {"\ufffd": 1, "id": "b-7", "size": 12345678901234567, "list": [1.5, None, True]}


def test_nul_becomes_the_replacement_character_everywhere() -> None:
    """NUL, which no text column takes, is replaced in texts and keys at any depth."""
    node = decode(b'{"a\\u0000": ["\\u0000b", {"c": "d\\u0000"}], "e": "\\\\u0000"}')

    assert node.value == {"a\ufffd": ["\ufffdb", {"c": "d\ufffd"}], "e": "\\u0000"}


@pytest.mark.parametrize(("body", "value"), [(b'{"a": 1, "a": 2}', 2), (b'{"a": "\\ud83d", "a": 2}', 2)])
def test_of_duplicate_keys_the_last_counts(body: bytes, value: int) -> None:
    """An object that says a thing twice has one value for it, by either parser the same."""
    assert decode(body).integer("a") == value


def test_numbers_up_to_64_bits_are_exact() -> None:
    """Ids that are sent as numbers keep every digit."""
    node = decode(b'{"low": -9223372036854775808, "high": 18446744073709551615}')

    assert (node.text("low"), node.text("high")) == ("-9223372036854775808", "18446744073709551615")


@pytest.mark.parametrize("around", [b'{"n": %s}', b'{"n": %s, "x": "\\ud83d"}'])
def test_larger_numbers_are_no_text(around: bytes) -> None:
    """A number that cannot be held exactly is not passed off as an id with other digits."""
    node = decode(around % b"123456789012345678901234567890")

    assert node.text("n") is None
    assert node.integer("n") is None


# --- reading ---


READERS: list[Callable[[Node], object]] = [
    bool,
    repr,
    lambda node: "a" in node,
    lambda node: node.get("a"),
    lambda node: node.first("a", "b"),
    lambda node: node.items("a"),
    lambda node: node.elements(),
    lambda node: list(node.members()),
    lambda node: node.is_object,
    lambda node: node.text("a", "b"),
    lambda node: node.string("a"),
    lambda node: node.as_text(),
    lambda node: node.integer("a"),
    lambda node: node.flag("a"),
    lambda node: node.canonical(),
    lambda node: node.canonical(without=frozenset({"a"})),
]
INSISTENT: list[Callable[[Node], object]] = [
    lambda node: node.require_text("a", "b"),
    lambda node: node.moment("a", "b"),
    lambda node: node.unix_moment("a"),
]


@given(JSON | st.fixed_dictionaries({"a": JSON, "b": JSON}))
def test_no_reader_is_surprised_by_any_value(value: Any) -> None:
    """Every reader of every value returns; the insistent ones may raise ParseError, and nothing else."""
    node = Node(value, "$")
    for read in READERS:
        read(node)
    for insist in INSISTENT:
        with contextlib.suppress(ParseError):
            insist(node)


def test_a_path_leads_to_each_place() -> None:
    """A node knows the way to itself, through objects and lists."""
    node = decode(b'{"data": {"to": [{"n": 1}, {"n": 2}]}}')

    assert [item.get("n").path for item in node.get("data").items("to")] == [
        "$.data.to[0].n",
        "$.data.to[1].n",
    ]
    assert [(key, member.path) for key, member in node.members()] == [("data", "$.data")]
    assert repr(node.get("gone").get("further")) == "<Node $.gone.further>"


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"to": ["a", "b"]}', ["a", "b"]),
        (b'{"to": "a"}', ["a"]),
        (b'{"to": {"n": 1}}', [{"n": 1}]),
        (b'{"to": []}', []),
        (b'{"to": null}', []),
        (b'{"to": [null]}', [None]),
        (b"{}", []),
        (b"[]", []),
        (b'"to"', []),
    ],
)
def test_one_thing_reads_as_a_list_of_it(body: bytes, values: list[Any]) -> None:
    """A provider that sends one thing where others send a list means the list of it; nothing is no elements."""
    assert [item.value for item in decode(body).items("to")] == values


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (" a ", " a "), (7, "7"), (-7, "-7"), (0, "0")]
    + [(empty, None) for empty in ("", None, True, False, 1.5, 2.0, [], ["a"], {}, {"a": 1})],
)
def test_text_is_a_text_or_a_whole_numbers_digits(value: Any, text: str | None) -> None:
    """Ids come as texts or numbers; whatever else stands there reads as missing."""
    node = Node({"id": value}, "$")

    assert node.text("id") == text
    assert node.get("id").as_text() == text


def test_the_first_spelling_that_says_something_counts() -> None:
    """Of several spellings of a key, empty and null ones are passed over."""
    node = decode(b'{"a": null, "b": "", "c": "here", "d": "late"}')

    assert node.text("a", "b", "c", "d") == "here"
    assert node.first("a", "b", "c").path == "$.b"
    assert node.first("x", "y").path == "$.x"


def test_what_is_insisted_on_and_missing_tells_its_path() -> None:
    """An error names the place where the first spelling should have been."""
    with pytest.raises(ParseError, match=r"^\$\.data\.id: missing, or not a text$"):
        decode(b'{"data": {"id": {}}}').get("data").require_text("id", "ident")


def test_a_message_text_is_taken_as_sent() -> None:
    """An empty message is empty, not absent; a number is no message. Of several spellings the first text counts."""
    node = decode(b'{"empty": "", "spaced": " hi\\n", "number": 5}')

    assert [node.string(key) for key in ("empty", "spaced", "number", "gone")] == ["", " hi\n", None, None]
    assert node.string("gone", "number", "empty", "spaced") == ""
    assert decode(b'"spaced"').string("spaced") is None


def test_of_some_keys_an_object_has_those_that_stand_in_it() -> None:
    """Null ones count too, in the order in which they were asked for; anything but an object has none."""
    node = decode(b'{"b": null, "c": "", "a": 1}')

    assert node.among(("a", "x", "b")) == ["a", "b"]
    assert [node.get("c").among(("a",)), node.get("gone").among(("a",)), decode(b'["a"]').among(("a",))] == [[], [], []]


NOTHING: list[Any] = [None, "", [], {}]
SOMETHING: list[Any] = [0, 0.0, False, True, 1, " ", "0", [None], {"a": None}]


@pytest.mark.parametrize(
    ("value", "is_something"), [(value, False) for value in NOTHING] + [(value, True) for value in SOMETHING]
)
def test_nothing_is_what_is_missing_null_or_empty(value: Any, is_something: bool) -> None:
    """Zero and false were said, so they are something."""
    assert bool(Node({"n": value}, "$").get("n")) is is_something


@pytest.mark.parametrize(
    ("value", "number"),
    [(5, 5), (-5, -5), ("5", 5), ("007", 7), (0, 0), (2**64 - 1, 2**64 - 1), ("9" * 12, 999_999_999_999)]
    + [(other, None) for other in ("9" * 13, "-5", "5.0", " 5", "\u0665", "\u00b2", "", None)]
    + [(other, None) for other in (True, 5.0, [5], math.inf)],
)
def test_an_integer_is_a_whole_number_or_its_digits(value: Any, number: int | None) -> None:
    """Numbers come bare or as ASCII digits; whatever else stands there reads as missing."""
    assert Node({"n": value}, "$").integer("n") == number


FLAGS: list[tuple[Any, bool | None]] = [
    (True, True),
    (False, False),
    ("true", True),
    ("FALSE", False),
    *((other, None) for other in ("yes", "", 1, 0, None)),
]


@pytest.mark.parametrize(("value", "flag"), FLAGS)
def test_a_flag_is_a_boolean_or_its_word(value: Any, flag: bool | None) -> None:
    """Flags come as booleans or as the two words; ones and zeros are no flags."""
    assert Node({"f": value}, "$").flag("f") is flag


def test_a_time_is_read_from_the_first_spelling_that_has_one() -> None:
    """Null and empty spellings are passed over; none at all is None."""
    node = decode(b'{"a": null, "b": "", "c": "2026-03-02T13:03:05.129+00:00"}')

    assert node.moment("a", "b", "c") == datetime(2026, 3, 2, 13, 3, 5, 129_000, UTC)
    assert node.moment("a", "b", "gone") is None


@pytest.mark.parametrize("value", ["TIMESTAMP", "2026-13-01T00:00:00Z", 1772456585, True, {"a": 1}, ["x"]])
def test_what_is_no_time_is_an_error(value: Any) -> None:
    """A callback that lies about its time is not published with a made-up one."""
    with pytest.raises(ParseError, match="not an ISO 8601 time"):
        Node({"at": value}, "$").moment("at")


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1772456585, datetime(2026, 3, 2, 13, 3, 5, tzinfo=UTC)),
        ("1772456585", datetime(2026, 3, 2, 13, 3, 5, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("0", datetime(1970, 1, 1, tzinfo=UTC)),
        (None, None),
        ("", None),
    ],
)
def test_unix_seconds_come_as_number_or_digits(value: Any, moment: datetime | None) -> None:
    """Seconds since 1970 are read either way, the very first one included; absent is None."""
    assert Node({"at": value}, "$").unix_moment("at") == moment


@pytest.mark.parametrize(
    "value", ["TIMESTAMP", "1772456585.5", 1772456585.5, 10**15, "9" * 12, -1, True, [1], {"a": 1}]
)
def test_what_is_no_unix_time_is_an_error(value: Any) -> None:
    """Words, fractions, milliseconds and times before 1970 are no Unix time in seconds."""
    with pytest.raises(ParseError, match="not a Unix time"):
        Node({"at": value}, "$").unix_moment("at")


def test_content_is_the_same_however_its_keys_are_ordered() -> None:
    """The canonical form sorts keys at every depth, keeps lists as they are, and leaves out what it is told to."""
    one = decode(b'{"b": {"y": 1, "x": [2, 1]}, "a": 1, "attempt": 1}')
    other = decode(b'{"attempt": 2, "a": 1, "b": {"x": [2, 1], "y": 1}}')

    assert one.canonical(without=frozenset({"attempt"})) == b'{"a":1,"b":{"x":[2,1],"y":1}}'
    assert other.canonical(without=frozenset({"attempt"})) == b'{"a":1,"b":{"x":[2,1],"y":1}}'
    assert one.canonical() != other.canonical()
