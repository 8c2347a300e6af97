"""The language of partyline: addresses, times, ids, key names, stored bytes and the envelope."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.address import Address, AddressError, is_phone, mask, parse_address
from schemas.callback import AccountFacts, Callback, Capture
from schemas.clock import format_time, from_unix, parse_time, unix_milliseconds
from schemas.envelope import envelope
from schemas.errors import ParseError
from schemas.events import (
    AccountNotice,
    ConversationMembers,
    Event,
    EventBody,
    Members,
    Message,
    MessageReceived,
    Notice,
    Typing,
    TypingState,
)
from schemas.ids import (
    CaptureId,
    ConversationKey,
    EventId,
    Scope,
    base32,
    capture_id,
    content_hash,
    derived_event_id,
    event_id,
    fingerprint,
)
from schemas.keyspace import Keyspace
from schemas.wire import (
    CAPTURE_FIELDS,
    decode_capture,
    decode_headers,
    encode_capture,
    encode_facts,
    encode_headers,
    encode_json,
)

PROVIDERS = ["telnyx", "sendblue", "sinch", "whatsapp"]

# --- addresses: the rules of the contract ---

ADDRESSES: list[tuple[str, str, str | None]] = [
    # +E.164 and its spellings
    ("sinch", "+15555550123", "+15555550123"),
    ("telnyx", "+1 (555) 555-0123", "+15555550123"),
    ("telnyx", "+1.555.555.0123", "+15555550123"),
    ("telnyx", " +1555\u00a0555\u20110123\n", "+15555550123"),
    ("whatsapp", "+49 15/550018", "+4915550018"),
    ("sinch", "\u202a+15555550123\u202c", "+15555550123"),
    ("sinch", "\u2066+1555\u200b5550123\u2069", "+15555550123"),
    ("sendblue", "\ufeff+15555550123", "+15555550123"),
    # digits without +
    ("telnyx", "5555550123", "+15555550123"),
    ("sendblue", "(555) 555-0123", "+15555550123"),
    ("sinch", "5555550123", "+5555550123"),
    ("whatsapp", "5555550123", "+5555550123"),
    ("telnyx", "15555550123", "+15555550123"),
    ("sinch", "15555550123", "+15555550123"),
    ("whatsapp", "4915550001234", "+4915550001234"),
    ("telnyx", "+5555550123", "+5555550123"),
    ("sinch", "1234567", "+1234567"),
    ("telnyx", "123456789", "+123456789"),
    ("sinch", "123456789012345", "+123456789012345"),
    # short codes, and digits that are no number
    ("telnyx", "40404", "telnyx:40404"),
    ("sinch", "123456", "sinch:123456"),
    ("sendblue", "1", "sendblue:1"),
    ("sinch", "1234567890123456", "sinch:1234567890123456"),
    (
        "whatsapp",
        "\u0661\u0662\u0663\u0664\u0665\u0666\u0667",
        "whatsapp:\u0661\u0662\u0663\u0664\u0665\u0666\u0667",
    ),
    # e-mail
    ("sendblue", "Jane.Doe@Example.COM", "jane.doe@example.com"),
    ("sinch", " jane+tag@example.com ", "jane+tag@example.com"),
    ("sendblue", "\u202ajane@example.com\u202c", "jane@example.com"),
    # everything else
    ("sinch", "MTN", "sinch:MTN"),
    ("telnyx", "Ferry Co", "telnyx:Ferry Co"),
    ("sinch", "jane@localhost", "sinch:jane@localhost"),
    ("whatsapp", "US.5550001112223334", "whatsapp:US.5550001112223334"),
    ("telnyx", "agent_ferry-7", "telnyx:agent_ferry-7"),
    ("sinch", "+1555CALLNOW", "sinch:+1555CALLNOW"),
    # nothing
    ("sinch", "", None),
    ("sinch", " \u202a\u202c\t", None),
]


@pytest.mark.parametrize(("provider", "text", "address"), ADDRESSES)
def test_an_address_has_one_form(provider: str, text: str, address: str | None) -> None:
    """Each spelling comes to the canonical form that the contract's rules give it."""
    assert parse_address(text, provider) == address


@given(st.text(max_size=40), st.sampled_from(PROVIDERS))
def test_numbers_and_mails_are_stable(text: str, provider: str) -> None:
    """What has become a number or an e-mail stays itself when it is read again, at any provider."""
    address = parse_address(text, provider)

    if address is not None and not address.startswith(f"{provider}:"):
        assert {parse_address(address, other) for other in PROVIDERS} == {address}


@given(st.text(max_size=400), st.sampled_from(PROVIDERS))
def test_any_text_is_an_address_nothing_or_an_error(text: str, provider: str) -> None:
    """Reading an address is total, and the result has one of the three forms."""
    try:
        address = parse_address(text, provider)
    except AddressError:
        assert len(text) > 320
        return
    if address is not None:
        assert is_phone(address) or address.startswith(f"{provider}:") or "@" in address
        assert mask(address) != address or len(address) < 10


def test_a_text_longer_than_any_address_is_an_error() -> None:
    """It must not silently vanish from a set; and the error does not repeat it."""
    assert parse_address("a" * 320, "sinch") == "sinch:" + "a" * 320
    with pytest.raises(AddressError, match=r"^an address of 321 characters$"):
        parse_address("a" * 321, "sinch")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("+15555550123", "+1…23"),
        ("jane.doe@example.com", "j…@example.com"),
        ("sinch:Lighthouse", "sinch:Li…"),
        ("telnyx:40404", "telnyx:40…"),
    ],
)
def test_a_masked_address_is_too_little_to_call(address: str, shown: str) -> None:
    """What people see of an address is enough to recognise it by."""
    assert mask(Address(address)) == shown


# --- times ---

MOMENT = datetime(2023, 8, 8, 13, 3, 5, 129_000, UTC)
TIMES: list[tuple[str, datetime | None]] = [
    ("2023-08-08T13:03:05.129Z", MOMENT),
    ("2023-08-08T13:03:05.129+00:00", MOMENT),
    ("2023-08-08T13:03:05.129", MOMENT),
    ("2023-08-08 13:03:05.129z", MOMENT),
    ("2023-08-08t15:33:05.129+02:30", MOMENT),
    ("2023-08-08T05:03:05.129-0800", MOMENT),
    ("2023-08-08T13:03:05Z", MOMENT.replace(microsecond=0)),
    ("2023-08-08T13:03:05.Z", MOMENT.replace(microsecond=0)),
    ("2023-08-08T13:03:05.1Z", MOMENT.replace(microsecond=100_000)),
    ("2023-08-08T13:03:05.52+00:00", MOMENT.replace(microsecond=520_000)),
    ("2023-08-08T13:03:05.259711+00:00", MOMENT.replace(microsecond=259_711)),
    ("2023-08-08T13:03:05.379863404Z", MOMENT.replace(microsecond=379_863)),
    ("2023-08-08T13:03:05.999999999", MOMENT.replace(microsecond=999_999)),
    ("2023-08-08T13:03:05.1234567891234Z", MOMENT.replace(microsecond=123_456)),
    ("2023-08-08T13:03:05.9999999+00:00", MOMENT.replace(microsecond=999_999)),
    ("2023-08-08T13:03:05.9999999Z", MOMENT.replace(microsecond=999_999)),
    ("2023-08-08T13:03:05.129-00:00", MOMENT),
    ("2023-08-08T13:03:05.129+0000", MOMENT),
    ("2023-08-08T13:03:05.129+99:99", MOMENT - timedelta(hours=100, minutes=39)),
    ("9000-01-01T00:00:00.123456+00:00", datetime(9000, 1, 1, 0, 0, 0, 123_456, UTC)),
    ("9000-01-01T01:00:00.123456+01:00", datetime(9000, 1, 1, 0, 0, 0, 123_456, UTC)),
    ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
    ("2023-02-29T00:00:00Z", None),
    ("2023-13-01T00:00:00Z", None),
    ("2023-08-08T24:00:00Z", None),
    ("2023-08-08T13:60:00Z", None),
    ("2023-08-08T13:03:60Z", None),
    ("2023-08-08_13:03:05Z", None),
    ("2023-08-08T13:03:05,129Z", None),
    ("2023-08-08T13:03:05.129.Z", None),
    ("2023-08-08T13:03:05+00", None),
    ("2023-08-08T13:03:05+00:00:00", None),
    ("2023-08-08T13:03:05+00:00Z", None),
    ("2023-W32-2T13:03:05Z", None),
    ("2023-08-08", None),
    ("2023-08-08T13:03Z", None),
    ("2023-08-08T13:03:05129Z", None),
    ("20230808T130305Z", None),
    ("1691499785", None),
    ("TIMESTAMP", None),
    ("", None),
    ("2023-08-08T13:03:05Z ", None),
    ("\u0662023-08-08T13:03:05Z", None),
    ("0000-01-01T00:00:00Z", None),
    ("0001-01-01T00:00:00+14:00", None),
    ("9999-12-31T23:59:59-14:00", None),
]


@pytest.mark.parametrize(("text", "moment"), TIMES)
def test_a_time_is_read_in_every_shape_that_providers_send(text: str, moment: datetime | None) -> None:
    """0 to 9 fraction digits, Z, an offset or no zone; what is no time is None, never an error."""
    assert parse_time(text) == moment


@given(st.text(alphabet="0123456789-:.TZ+ ", max_size=40))
def test_reading_a_time_is_total(text: str) -> None:
    """Whatever looks like a time is an aware one or None."""
    moment = parse_time(text)

    assert moment is None or moment.tzinfo is UTC


@given(st.integers(0, 7 * 10**15).map(lambda micro: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micro)))
def test_a_time_that_is_written_reads_back_to_the_millisecond(moment: datetime) -> None:
    """Writing cuts below the millisecond, and nothing else is lost."""
    assert parse_time(format_time(moment)) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def test_times_are_written_in_utc_with_milliseconds() -> None:
    """The contract's form, whatever zone the moment came in."""
    assert format_time(MOMENT.astimezone(timezone(timedelta(hours=-7)))) == "2023-08-08T13:03:05.129Z"
    assert format_time(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000Z"


@pytest.mark.parametrize(
    ("seconds", "moment"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1_691_499_785, datetime(2023, 8, 8, 13, 3, 5, tzinfo=UTC)),
        (253_370_764_799, datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (253_370_764_800, None),
        (-1, None),
        (10**30, None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_a_unix_time_lies_between_1970_and_9998(seconds: float, moment: datetime | None) -> None:
    """Seconds beyond what a date can hold are no time."""
    assert from_unix(seconds) == moment


def test_a_moment_in_whole_milliseconds() -> None:
    """As the stream ids of the log count."""
    assert unix_milliseconds(MOMENT) == 1_691_499_785_129


# --- ids ---

SCOPE = Scope(b"tide", "demo", "telnyx", "main")
PEOPLE = ("+15555550111", "+15555550122")


def test_keys_are_derived_as_the_contract_says() -> None:
    """Keyed BLAKE2b-128 over length-prefixed parts in 26 base32 characters; worked out by hand, for ever the same."""
    assert SCOPE.conversation("set", PEOPLE) == "cv_kgfxbelyerdsjxw4nowuvf7gma"
    assert SCOPE.whole_account() == "ac_5we32dgrz3wl23nhoefsjcc7di"
    assert SCOPE.audience(PEOPLE) == "au_5eodlishram5ddxdncv5otfyce"
    assert Scope(b"", "demo", "telnyx", "main").conversation("group", ("", "g-1")) == "cv_q7sj2u6xdoddak2lzyk5qnsj5q"
    assert Scope(b"0123456789" * 7, "demo", "telnyx", "main").whole_account() == "ac_wdg32o5gfquychapo2xczclvr4"


def test_an_audience_is_the_people_alone() -> None:
    """The same humans have one audience at every provider and account, in whatever order they are named."""
    other = Scope(b"tide", "demo", "whatsapp", "second")

    assert other.audience(reversed(PEOPLE)) == SCOPE.audience(PEOPLE)
    assert Scope(b"tide", "else", "telnyx", "main").audience(PEOPLE) != SCOPE.audience(PEOPLE)


@pytest.mark.parametrize(
    "other",
    [
        Scope(b"ebb", "demo", "telnyx", "main"),
        Scope(b"tide", "else", "telnyx", "main"),
        Scope(b"tide", "demo", "sinch", "main"),
        Scope(b"tide", "demo", "telnyx", "second"),
    ],
)
def test_a_key_belongs_to_its_scope(other: Scope) -> None:
    """Another id_key, namespace, provider or account gives another key for the same people."""
    assert other.conversation("set", PEOPLE) != SCOPE.conversation("set", PEOPLE)
    assert other.whole_account() != SCOPE.whole_account()


def test_parts_are_kept_apart() -> None:
    """Where one part ends and the next begins is part of what is hashed."""
    keys = {
        SCOPE.conversation("set", parts) for parts in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc")]
    }

    assert len(keys) == 5


@given(st.binary(min_size=16, max_size=16))
def test_base32_is_what_everybody_elses_is(data: bytes) -> None:
    """Lower-case RFC 4648 without padding: reading it as a number gives the bytes back."""
    text = base32(data)
    digits = "abcdefghijklmnopqrstuvwxyz234567"
    number = 0
    for character in text:
        number = number * 32 + digits.index(character)

    assert len(text) == -(-len(data) * 8 // 5)
    assert number >> (len(text) * 5 - len(data) * 8) == int.from_bytes(data, "big")


def test_event_ids_read_as_what_they_identify() -> None:
    """Provider, account and the fact's parts with colons between; an absent part is left empty."""
    assert event_id("telnyx", "main-telnyx", "0d7c-4fbe") == "telnyx:main-telnyx:0d7c-4fbe"
    assert event_id("sinch", "main", "b1", None, "x") == "sinch:main:b1::x"
    assert event_id("sinch", "main", "a:b%") == "sinch:main:a%3Ab%25"
    assert event_id("sinch", "main", "x" * 160) == "sinch:main:" + "x" * 160
    assert event_id("sinch", "main", "x" * 161) == "sinch:main:b2.9248d4045b25894727af7255a63652f6"
    assert derived_event_id(EventId("sinch:main:b1"), "merged") == "sinch:main:b1#merged"


@given(
    st.lists(st.text(max_size=6), min_size=2, max_size=3),
    st.lists(st.text(max_size=6), min_size=2, max_size=3),
)
def test_different_facts_have_different_ids(one: list[str], other: list[str]) -> None:
    """No two lists of parts of one length give the same id, whatever stands in them."""
    same = event_id("sinch", "main", *one) == event_id("sinch", "main", *other)

    assert same == (one == other)


def test_content_without_an_id_has_a_short_name() -> None:
    """32 hexadecimal digits of BLAKE2b-128, for ever the same."""
    assert content_hash(b"tide table") == "9a83c2971691bd1f66946c544ca15057"


def test_capture_ids_hold_their_time() -> None:
    """48 bits of milliseconds, then 80 random bits; no more randomness than that is taken."""
    at = 1_795_262_400_000

    assert capture_id(at, bytes(range(10))) == "cp_01a1fdfa460000010203040506070809"
    assert len(capture_id(at, b"\xff" * 10)) == 35
    assert capture_id(at, bytes(16)) == capture_id(at, bytes(10))


def test_a_fingerprint_gives_no_key_away() -> None:
    """Two id_keys differ in their fingerprints, which are far shorter than what they stand for."""
    prints = {fingerprint(key) for key in (b"", b"tide", b"ebb", b"k" * 65)}

    assert len(prints) == 4
    assert {len(text) for text in prints} == {16}


# --- key names ---


def test_the_keys_of_the_contract_are_spelled_to_the_letter() -> None:
    """What other programs rely on, with the literal braces of the hash tag."""
    keys = Keyspace("demo")

    assert keys.captures == "partyline:{demo}:captures"
    assert keys.events == "partyline:{demo}:events"
    assert keys.channel("message.received", "cv_x") == "partyline:{demo}:events:message.received:cv_x"
    assert keys.every_channel == "partyline:{demo}:events:*"
    assert keys.channels == "partyline:{demo}:events:"
    assert keys.dead == "partyline:{demo}:dead"
    assert keys.quarantine == "partyline:{demo}:quarantine"
    assert Keyspace("demo", 3).captures == "partyline:{demo:3}:captures"


def test_no_two_things_share_a_key() -> None:
    """Every key of a namespace is its own, and all share the hash tag."""
    keys = Keyspace("demo")
    names = [keys.captures, keys.events, keys.dead, keys.quarantine, keys.meta, keys.lease, keys.cursor]
    names += [keys.bytes_of(stream) for stream in names[:4]]
    names += [keys.conversation("cv_x"), keys.sequence("cv_x"), *keys.dedupe_marks(0, DAY)]
    names += keys.dedupe(b"0123456789", keys.dedupe_marks(0, DAY))

    assert len(set(names)) == len(names)
    assert all(name.startswith("partyline:{demo}:") for name in names)


DAY = 86_400


@pytest.mark.parametrize(
    ("window_days", "generation_days"),
    [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16), (31, 32), (36_500, 65_536)],
)
def test_a_generation_is_the_window_rounded_up_to_a_power_of_two_days(window_days: int, generation_days: int) -> None:
    """The hash of now is written; the generations on both sides are looked into as well."""
    marks = Keyspace("demo").dedupe_marks(5 * generation_days, window_days * DAY)

    assert Keyspace("demo").dedupe(b"\xff\xff" + bytes(8), marks) == [
        f"partyline:{{demo}}:dd:{generation_days}:{generation}:ffff" for generation in (5, 4, 6)
    ]


@given(st.binary(min_size=10, max_size=10), st.integers(0, 2**33), st.integers(DAY, 400 * DAY), st.data())
def test_what_was_seen_within_the_window_is_looked_into(
    digest: bytes, seen: int, window: int, data: st.DataObject
) -> None:
    """A fact is found again at any time within the window, and when the clock stepped back by as much."""
    now = data.draw(st.integers(max(0, seen - window), seen + window))
    keys = Keyspace("demo")

    then, here = (keys.dedupe_marks(seconds // DAY, window) for seconds in (seen, now))
    assert keys.dedupe(digest, then)[0] in keys.dedupe(digest, here)


def test_events_are_spread_over_hashes_by_their_digest() -> None:
    """The first 16 bits choose the hash, the first ten bytes are the field."""
    keys = Keyspace("demo")
    marks = keys.dedupe_marks(0, DAY)
    buckets = [keys.dedupe(digest, marks)[0].rpartition(":")[2] for digest in (b"\0\0\xff", b"\0\1", b"\x80\0")]

    assert buckets == ["0", "1", "8000"]
    assert keys.dedupe_field(b"0123456789abcdef") == b"0123456789"


# --- stored bytes ---

FACTS = AccountFacts(lines=("+15555550100",), default_line="+15555550100", strict_groups=True, dedupe_seconds=777_600)


def callback(headers: tuple[tuple[bytes, bytes], ...] = (), body: bytes = b"{}") -> Callback:
    """A callback with this much of its own."""
    return Callback(
        provider="sinch",
        account="main",
        received_at=MOMENT,
        assurance="signed",
        credential="secrets[0]",
        headers=headers,
        body=body,
        facts=FACTS,
    )


def stored(made: Callback, identifier: str = "cp_x") -> dict[bytes, bytes]:
    """The fields of its entry, as Redis gives them back."""
    values = encode_capture(CaptureId(identifier), made, encode_facts(made.facts))
    return dict(zip(CAPTURE_FIELDS, values, strict=True))


def test_an_entry_of_the_capture_log_is_spelled_to_the_letter() -> None:
    """The stored form of a capture: other versions have to read it."""
    assert stored(callback(((b"host", b"h"), (b"x", b"\xe9")), b"\x00\xff")) == {
        b"id": b"cp_x",
        b"provider": b"sinch",
        b"account": b"main",
        b"kind": b"callback",
        b"received_at": b"2023-08-08T13:03:05.129Z",
        b"assurance": b"signed",
        b"headers": '[["host","h"],["x","\u00e9"]]'.encode(),
        b"facts": b'{"lines":["+15555550100"],"default_line":"+15555550100","strict_groups":true,'
        b'"dedupe_seconds":777600}',
        b"body": b"\x00\xff",
    }


@given(st.lists(st.tuples(st.binary(), st.binary())).map(tuple), st.binary())
def test_headers_and_body_come_back_byte_for_byte(headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
    """Whatever bytes a request had, Latin-1 and worse, the capture has them again."""
    made = callback(headers, body)

    assert decode_capture(stored(made)) == Capture(
        id=CaptureId("cp_x"),
        kind="callback",
        provider="sinch",
        account="main",
        received_at=MOMENT,
        assurance="signed",
        headers=headers,
        body=body,
        facts=FACTS,
    )
    assert decode_headers(encode_headers(headers)) == headers


@pytest.mark.parametrize("field", ["id", "provider", "account", "received_at", "assurance", "headers", "facts", "body"])
def test_a_missing_field_is_named(field: str) -> None:
    """A damaged entry tells which field it lacks."""
    fields = stored(callback())
    del fields[field.encode()]

    with pytest.raises(ParseError, match=f"capture.{field}: missing"):
        decode_capture(fields)


DAMAGE: list[tuple[bytes, bytes]] = [
    (b"id", b"\xff"),
    (b"received_at", b"yesterday"),
    (b"received_at", b"\xff"),
    (b"assurance", b"promised"),
    (b"headers", b"{"),
    (b"headers", b"null"),
    (b"headers", b"[1]"),
    (b"headers", b'[["one"]]'),
    (b"headers", '[["\u20ac","beyond Latin-1"]]'.encode()),
    (b"facts", b"[]"),
    (b"facts", b'{"dedupe_seconds": "long"}'),
]


@pytest.mark.parametrize(("field", "value"), DAMAGE)
def test_a_damaged_field_is_a_parse_error(field: bytes, value: bytes) -> None:
    """An entry that somebody wrote by hand, or cut, is a dead letter and stops nobody."""
    with pytest.raises(ParseError):
        decode_capture({**stored(callback()), field: value})


@pytest.mark.parametrize("value", [b'[["name",1]]', b"[[null,null]]", b'[[["a"],"b"]]'])
def test_a_header_that_is_no_text_is_a_parse_error(value: bytes) -> None:
    """Damage of this kind is a dead letter as well."""
    with pytest.raises(ParseError):
        decode_capture({**stored(callback()), b"headers": value})


def test_facts_unknown_to_this_version_are_passed_over() -> None:
    """A capture of a later version with more facts can be read."""
    fields = {**stored(callback()), b"facts": b'{"lines": ["+15555550100"], "tides": 2}', b"more": b"1"}

    assert decode_capture(fields).facts == AccountFacts(lines=("+15555550100",))


# --- the envelope ---

CAPTURE = decode_capture(stored(callback(), "cp_7"))
KEY = ConversationKey("cv_kgfxbelyerdsjxw4nowuvf7gma")
CONVERSATION: dict[str, Any] = {
    "key": KEY,
    "kind": "direct",
    "participants": ["+15555550111"],
    "lines": ["+15555550100"],
    "provisional": False,
}
MESSAGE = Message(
    id="mo-1", direction="inbound", sender=Address("+15555550111"), text="Ahoy 😀", media=(), channel="sms"
)


def event(body: EventBody, occurred_at: datetime | None = MOMENT) -> Event:
    """An event with this body."""
    return Event(
        id=EventId("sinch:main:mo-1"),
        body=body,
        occurred_at=occurred_at,
        evidence=None,
        provider_type="mo_text",
        provider_ids={"operator_id": "31101"},
    )


def test_an_envelope_is_spelled_to_the_letter() -> None:
    """CloudEvents 1.0 with the contract's members, the sequence in 16 digits."""
    made = envelope(event(MessageReceived(MESSAGE)), CAPTURE, KEY, CONVERSATION, replayed=False)

    assert orjson.loads(made.at(42)) == {
        "specversion": "1.0",
        "id": "sinch:main:mo-1",
        "source": "/webhooks/sinch/main",
        "type": "message.received",
        "subject": KEY,
        "time": "2023-08-08T13:03:05.129Z",
        "sequence": "0000000000000042",
        "data": {
            "conversation": CONVERSATION,
            "message": {
                "id": "mo-1",
                "direction": "inbound",
                "sender": "+15555550111",
                "text": "Ahoy 😀",
                "media": [],
                "channel": "sms",
            },
            "provider": {
                "name": "sinch",
                "account": "main",
                "type": "mo_text",
                "ids": {"operator_id": "31101"},
            },
            "assurance": "signed",
            "received_at": "2023-08-08T13:03:05.129Z",
            "capture": "cp_7",
            "replayed": False,
        },
    }


def test_sequences_sort_as_texts() -> None:
    """Leading zeros make the order of texts the order of numbers."""
    made = envelope(event(MessageReceived(MESSAGE)), CAPTURE, KEY, CONVERSATION, replayed=False)

    assert [orjson.loads(made.at(number))["sequence"] for number in (9, 10, 10**15)] == [
        "0000000000000009",
        "0000000000000010",
        "1000000000000000",
    ]


def test_an_event_without_a_time_has_the_receipts() -> None:
    """`time` is the provider's, else when it was received; a replay says that it is one."""
    made = envelope(event(MessageReceived(MESSAGE), None), CAPTURE, KEY, CONVERSATION, replayed=True)

    said = orjson.loads(made.at(1))

    assert said["time"] == "2023-08-08T13:03:05.129Z"
    assert said["data"]["replayed"] is True


def test_typing_has_no_sequence() -> None:
    """What goes to pub/sub alone is not numbered."""
    typing = Typing(TypingState(sender=Address("+15555550111"), is_typing=True))
    made = envelope(event(typing), CAPTURE, KEY, CONVERSATION, replayed=False)

    said = orjson.loads(made.head)

    assert made.tail == b""
    assert "sequence" not in said
    assert said["data"]["typing"] == {"sender": "+15555550111", "is_typing": True}


def test_an_event_of_the_account_has_no_conversation() -> None:
    """`data.conversation` is null then, and the provider's object stands unchanged."""
    notice = AccountNotice(Notice(kind="line_blocked", detail={"why": ["a", 1, None]}))
    subject = SCOPE.whole_account()

    said = orjson.loads(envelope(event(notice), CAPTURE, subject, None, replayed=False).at(3))

    assert (said["type"], said["subject"]) == ("account.notice", subject)
    assert said["data"]["conversation"] is None
    assert said["data"]["notice"] == {"kind": "line_blocked", "detail": {"why": ["a", 1, None]}}


def test_a_change_of_members_says_who_is_there_afterwards() -> None:
    """`after` is the conversation's list of people once the change is made."""
    members = ConversationMembers(Members(added=(Address("+15555550111"),), removed=()))

    said = orjson.loads(envelope(event(members), CAPTURE, KEY, CONVERSATION, replayed=False).at(4))

    assert said["data"]["members"] == {"added": ["+15555550111"], "removed": [], "after": ["+15555550111"]}


def test_our_json_is_compact() -> None:
    """No spaces, texts as UTF-8, records as objects."""
    assert encode_json({"a": [1, None], "b": "é", "c": TypingState(sender=None, is_typing=False)}) == (
        '{"a":[1,null],"b":"é","c":{"sender":null,"is_typing":false}}'.encode()
    )
