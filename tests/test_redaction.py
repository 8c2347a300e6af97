"""Redacted captures: nobody's words or numbers are in them, and they still say the same kind of thing."""

import re
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.archive import Redacted
from receiver.captures import LogEntry
from receiver.links import link_body, read_link
from receiver.parsing import parse
from receiver.providers import PROVIDERS
from receiver.redaction import Redactor
from schemas.address import parse_address
from schemas.callback import AccountFacts, Capture
from schemas.events import Event, Link, Linked, Parsed, Tie, Unreadable
from schemas.ids import ConversationKey
from schemas.wire import encode_facts, encode_headers
from tests.conformance import folders, load
from tests.engine import ANN, BOB, LINE, capture

REDACTOR = Redactor(b"a key for tests only")
#: Reactions that are written out in a text are lost with it.
BY_WORDS = {"reaction__any_emoji_in_group", "reaction__loved"}


def entry_of(capture: Capture) -> LogEntry:
    """A capture as it stands in the log, as far as redaction looks."""
    fields = {
        b"id": capture.id.encode(),
        b"provider": capture.provider.encode(),
        b"headers": encode_headers(capture.headers),
        b"facts": encode_facts(capture.facts),
        b"body": capture.body,
    }
    return LogEntry("1795262400000-0", fields)


def redacted(capture: Capture, redactor: Redactor = REDACTOR) -> Capture:
    """A capture with its texts and addresses replaced."""
    fields = redactor.redact(entry_of(capture)).fields
    facts = msgspec.json.decode(fields[b"facts"], type=AccountFacts)
    return msgspec.structs.replace(capture, body=fields[b"body"], facts=facts)


def shape(parsed: Parsed) -> Any:
    """What a reader makes of an element, without any text, address or id."""
    if isinstance(parsed, Unreadable):
        return parsed.reason, parsed.path
    assert isinstance(parsed, Event)
    evidence: Any = parsed.evidence
    told = evidence and (
        evidence.identity and (evidence.identity.kind, len(evidence.identity.parts)),
        *(len(part) for part in (evidence.pointers, evidence.lines, evidence.joined, evidence.left)),
        evidence.listed and len(evidence.listed),
        evidence.kind,
    )
    return parsed.type, parsed.occurred_at, told, getattr(getattr(parsed.body, "status", None), "value", None)


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_redacted_callback_says_the_same_kind_of_thing(folder: Path) -> None:
    """Types, times, states, how many people and ids: whoever debugs a parser with it finds what there was to find."""
    original = load(folder)
    masked = redacted(original)
    provider = PROVIDERS[original.provider]

    if folder.name not in BY_WORDS:
        assert [shape(each) for each in parse(masked, provider)] == [shape(each) for each in parse(original, provider)]


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_no_address_and_no_text_is_left(folder: Path) -> None:
    """No number of seven digits or more, e-mail, message or name of the original is in the redacted bytes."""
    original = load(folder)
    masked = redacted(original)
    numbers = set(re.findall(rb"\+?1?(5555[0-9]{6})\b", original.body))
    emails = set(re.findall(rb"[\w.]+@[\w.]+\w", original.body))
    texts = {
        orjson.dumps(text)
        for each in parse(original, PROVIDERS[original.provider])
        if isinstance(each, Event) and (text := getattr(getattr(each.body, "message", None), "text", None))
        if re.search(r"\w{3}", text)
    }

    assert not [each for each in numbers | emails | texts if each in masked.body]
    assert len(masked.body) > 0.5 * len(original.body)


@given(st.sampled_from([ANN, "15555550111", "5555550111", "(555) 555-0111", "+1 555.555.0111"]))
def test_an_address_is_replaced_alike_however_it_is_spelled(text: str) -> None:
    """The replacement keeps the spelling, so that it is read as one and the same address again."""
    replacement = REDACTOR.address(text, "telnyx")
    assert replacement is not None
    digits = re.sub(r"\D", "", text)

    assert parse_address(replacement, "telnyx") == REDACTOR.address(ANN, "telnyx")
    assert re.fullmatch(r"\+?1?555\d{7}", replacement)
    assert (replacement[0] == "+", len(re.sub(r"\D", "", replacement))) == (text[0] == "+", len(digits))


def test_replacements_hang_on_the_key_and_on_nothing_else() -> None:
    """Another file with the same key has the same ones, another key others; other people are others."""
    again, other = Redactor(b"a key for tests only"), Redactor(b"another key")
    numbers = [f"+1555555{number:04}" for number in range(200)]

    assert [again.address(each, "sinch") for each in numbers] == [REDACTOR.address(each, "telnyx") for each in numbers]
    assert len({REDACTOR.address(each, "telnyx") for each in numbers}) == 200
    assert other.address(ANN, "telnyx") != REDACTOR.address(ANN, "telnyx")
    with pytest.raises(ValueError, match="needs a key"):
        Redactor(b"")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("+4915550018", r"\+999\d{7}"),
        ("4915550018123", r"999\d{10}"),
        ("Jane.Roe@Example.com", r"[a-z]{8}@example\.com"),
    ],
)
def test_numbers_elsewhere_and_emails(text: str, form: str) -> None:
    """No country has the code 999, and nobody has a mailbox at example.com."""
    assert re.fullmatch(form, REDACTOR.address(text, "sinch") or "")
    assert REDACTOR.address("Friday, noon", "sinch") is None


def test_account_facts_fit_the_body() -> None:
    """Own lines are replaced as in the body, the canonical form of a short code too; everything else stays."""
    facts = AccountFacts(lines=(LINE, "sinch:40404"), default_line=LINE, dedupe_seconds=99)
    body = orjson.dumps({"from": "40404", "to": LINE})
    masked = redacted(msgspec.structs.replace(capture(provider="sinch", body=body), facts=facts))
    said = orjson.loads(masked.body)

    assert masked.facts.lines == (said["to"], f"sinch:{said['from']}")
    assert masked.facts.default_line == said["to"]
    assert masked.facts.dedupe_seconds == 99
    assert {LINE, "40404"}.isdisjoint(said.values())


def test_fields_that_nobody_knows_are_replaced() -> None:
    """Also where a provider adds them tomorrow, inside JSON texts, as keys and as numbers."""
    body = {
        "brand_new": "Jane",
        "nested": orjson.dumps({"type": "text", "whom": "Jane"}).decode(),
        "by_number": {"15555550111": True},
        "msisdn": 15555550111,
        "short": 42,
        "type": "text",
        "status": "+15555550111",
        "latitude": 52.52,
        "longitude": 13.4,
        "url": "https://media.example.com/Jane.jpg",
        "at": "2026-11-21T12:00:00Z",
        "timestamp": "1795262400",
        "flag": True,
        "none": None,
    }
    said = orjson.loads(redacted(capture(body=orjson.dumps(body))).body)

    assert not re.search(r"Jane|5555550111|52\.52|13\.4", orjson.dumps(said).decode())
    assert {name: said[name] for name in ("short", "type", "at", "timestamp", "flag", "none")} == {
        name: body[name] for name in ("short", "type", "at", "timestamp", "flag", "none")
    }
    assert orjson.loads(said["nested"])["type"] == "text"
    assert re.fullmatch(r"https://[a-z]{5}\.[a-z]{7}\.[a-z]{3}/\w{4}\.\w{3}", said["url"])
    assert abs(said["latitude"]) <= 91
    assert isinstance(said["msisdn"], int)


@given(st.binary(max_size=200))
def test_any_bytes_are_redacted(body: bytes) -> None:
    """What is no JSON loses its letters and digits as well, and nothing is refused."""
    entry = LogEntry("1-0", {b"body": body, b"headers": body, b"facts": body})
    masked = REDACTOR.redact(entry)

    assert isinstance(masked, Redacted)
    assert set(masked.fields) == set(entry.fields)


def test_no_json_is_scrambled() -> None:
    """Words become other words of the same length."""
    said = redacted(capture(body=b"From: Jane, +1 555 555 0111")).body.decode()

    assert re.fullmatch(r"[A-Z][a-z]{3}: [A-Z][a-z]{3}, \+\d \d{3} \d{3} \d{4}", said)
    assert "Jane" not in said
    assert "555 0111" not in said


def test_headers_go_but_for_the_type_of_the_content() -> None:
    """A signature over the original would confirm whoever guesses it."""
    original = msgspec.structs.replace(
        capture(), headers=((b"content-type", b"application/json"), (b"telnyx-signature-ed25519", b"c2ln"))
    )

    assert REDACTOR.redact(entry_of(original)).fields[b"headers"] == b'[["content-type","application/json"]]'


def test_a_persons_word_stays_one() -> None:
    """A tie is of the same replaced addresses as elsewhere, a link of keys that look like keys."""
    one, other = ConversationKey("cv_" + "a" * 26), ConversationKey("cv_" + "b" * 26)
    ends = []
    for word in (Tie(ANN, BOB), Link(one, other)):
        said = msgspec.structs.replace(capture(body=link_body(word, undone=False)), kind="link")
        [linked] = read_link(redacted(said))
        assert isinstance(linked, Linked)
        ends.append({linked.link.one, linked.link.other})

    assert ends[0] == {REDACTOR.address(ANN, "telnyx"), REDACTOR.address(BOB, "telnyx")}
    assert ends[1].isdisjoint({one, other})
    assert all(re.fullmatch("cv_[a-z2-7]{26}", key) for key in ends[1])
