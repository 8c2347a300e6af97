from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.captures import LogEntry
from receiver.provider import Provider
from receiver.providers import PROVIDERS
from receiver.selection import Fate, Quarantined
from receiver.showing import Explained, Line, Tally, acceptance, body_text, evidence_text, page, record, row, what
from schemas.callback import Capture
from schemas.events import (
    ConversationMembers,
    Event,
    Evidence,
    Link,
    Linked,
    Members,
    MessageStatus,
    Parsed,
    Pointer,
    Sent,
    Status,
    pair_identity,
    user_identity,
)
from schemas.ids import ConversationKey, EventId, Scope
from tests.engine import (
    ANN,
    BOB,
    CAT,
    LINE,
    capture,
    event,
    everyone,
    group,
    message,
    notice,
    pair,
    pointed,
    typing,
    unreadable,
)

KEY, OTHER = "cv_" + "a" * 26, "cv_" + "b" * 26
SCOPE = Scope(b"a key", "ns", "telnyx", "main")
NO_EVENT = Fate()
VAGUE = "provisional until something tells whose they are"
ENTRY = LogEntry("1795262400000-0", {b"id": b"cp_1", b"body": b"{}"})


def line(*parsed: Parsed, fate: Fate = NO_EVENT, **about: Any) -> Line:
    """A capture with its elements."""
    return Line(ENTRY, capture(**about), parsed, fate)


def published(*types: str, subject: str = KEY) -> Fate:
    """Events of these types in the stream."""
    return Fate(events=tuple((each, subject) for each in types))


def status(recipient: Any, name: str = "r") -> Event:
    """A report on one recipient."""
    return event(name, pair(), body=MessageStatus(message(name), Status("sent", True, recipient, "sent")))


def explained(shown: Line, provider: Provider | None = PROVIDERS["telnyx"], **more: Any) -> Explained:
    """A capture with nothing found out about it but `more`."""
    empty: dict[str, Any] = {"events": (), "letters": (), "originals": {}, "survivors": {}}
    return Explained(line=shown, provider=provider, scope=SCOPE, **{**empty, **more})


def envelope(name: str, sequence: int, subject: str = KEY, event_type: str = "message.received") -> dict[str, Any]:
    """What the stream has of an event, as far as it is shown."""
    return {
        "id": f"telnyx:main:{name}",
        "type": event_type,
        "subject": subject,
        "sequence": f"{sequence:016}",
        "data": {"capture": "cp_9"},
    }


# --- a line ---


def test_a_line_has_everything_in_its_columns() -> None:
    """Time, id, account, kind, outcome, conversation (shortened), what; in JSON nothing is shortened."""
    shown = line(event("m", pair()), fate=published("message.received"))

    assert row(shown) == (
        "11-21 12:00:00", "cp_1", "telnyx/main", "callback", "published", "cv_aaaaaaaaa…", f"message.received {ANN}",
    )  # fmt: skip
    assert record(shown) == {
        "capture": "cp_1",
        "position": "1795262400000-0",
        "received_at": "2026-11-21T12:00:00.000Z",
        "provider": "telnyx",
        "account": "main",
        "kind": "callback",
        "assurance": "signed",
        "outcomes": ["published"],
        "events": [{"type": "message.received", "subject": KEY}],
        "dead": [],
        "quarantined": None,
        "parsed": ["message.received"],
        "bytes": 6,
    }


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (line(event("m", pair()), fate=Fate()), f"message.received {ANN}; no event in the stream"),
        (line(event("m", pair()), fate=Fate(waiting=True)), f"message.received {ANN}"),
        (line(status(ANN), status(BOB, "s"), fate=published("message.status", "message.status")),
         f"message.status x 2 {ANN}, {BOB}"),
        (line(status(None), fate=published("message.status")), "message.status"),
        (line(*(status(each, each) for each in (ANN, BOB, CAT)), fate=published("message.status")),
         f"message.status {ANN}, {BOB} and 1 more"),
        (line(unreadable(), fate=Fate(dead=("unreadable", "unreadable"))), "dead letter: unreadable x 2"),
        (line(event("m", pair()), unreadable(), fate=Fate(events=(("message.received", KEY),), dead=("too_old",))),
         f"message.received {ANN}; dead letter: too_old"),
        (line(typing("t", pair())), f"typing (pub/sub only) {ANN}"),
        (line(Linked(EventId("l"), Link(ConversationKey(KEY), ConversationKey(OTHER)))), "link"),
        (line(event("g", group(), body=ConversationMembers(Members((BOB,), (CAT,)))),
              fate=published("conversation.members")), f"conversation.members {BOB}, {CAT}"),
        (line(fate=Fate(quarantined="signature_missing")), "signature_missing"),
        (line(), "-"),
    ],
)  # fmt: skip
def test_what_a_capture_says(shown: Line, said: str) -> None:
    """Types and how many, who (recipients of reports, senders of the rest), what went wrong."""
    assert what(shown) == said


def test_several_conversations_are_counted() -> None:
    """One is shown, the others are told of."""
    fate = Fate(events=(("message.status", KEY), ("message.status", OTHER), ("message.status", KEY)))

    assert row(line(fate=fate))[5] == "cv_aaaaaaaaa… and 1 more"
    assert row(line())[5] == "-"


# --- a page ---


@pytest.mark.parametrize(
    ("provider", "about", "said"),
    [
        ("telnyx", {}, "signed: the Ed25519 signature matched a key of accounts.main.public_keys"),
        ("whatsapp", {}, "signed: the HMAC-SHA256 signature matched a secret of accounts.main.app_secrets"),
        ("sinch", {"assurance": "basic_auth"},
         "basic_auth: user and password matched a pair of accounts.main.basic_auth"),
        ("sendblue", {"assurance": "shared_secret"},
         "shared_secret: the header with the shared secret matched one of accounts.main.secrets"),
        ("sendblue", {"assurance": "url_token"},
         "url_token: the last segment of the URL matched a token of accounts.main.url_tokens"),
        ("telnyx", {"assurance": "none"},
         "none: accounts.main had no credentials, and accounts.main.unsafe_no_auth let anything in"),
        ("telnyx", {"kind": "outbound", "assurance": "shared_secret"},
         "shared_secret: handed in by a holder of server.api_tokens or of the configuration"),
        ("telnyx", {"assurance": "url_token"}, "url_token: by a scheme that this version does not know"),
    ],
)  # fmt: skip
def test_why_a_capture_was_accepted(provider: str, about: dict[str, Any], said: str) -> None:
    """In words, with the setting to look at."""
    accepted: Capture = msgspec.structs.replace(capture(), provider=provider, **about)

    assert acceptance(explained(Line(ENTRY, accepted, (), Fate()), PROVIDERS[provider])) == said


def test_every_scheme_has_words() -> None:
    """Each provider's proofs can be told."""
    for provider in PROVIDERS.values():
        for scheme in provider.schemes:
            accepted = msgspec.structs.replace(capture(), assurance=scheme.assurance)
            told = acceptance(explained(Line(ENTRY, accepted, (), Fate()), provider))

            assert f"accounts.main.{scheme.setting}" in told


def test_the_quarantine_tells_why_it_did_not() -> None:
    """The reason, and the setting that kept it."""
    told = acceptance(explained(line(fate=Fate(quarantined="signature_mismatch"))))

    assert told == "no: signature_mismatch; kept aside, as accounts.main.on_unauthentic says"


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (group("g1"), "the group id g1"),
        (everyone(ANN, BOB, LINE), f"the complete set of its 3 addresses: {LINE}, {ANN}, {BOB}"),
        (pair(), f"the pair of {LINE} and {ANN}"),
        (Evidence(user_identity("whatsapp:7", "whatsapp:US.1")), "the line whatsapp:7 and the user id whatsapp:US.1"),
        (pointed("9d12"), f"only ids that may lead to it (message 9d12): {VAGUE}"),
        (Evidence(), "nothing but the event itself, so the conversation is provisional"),
        (Evidence(fallback=pair_identity(LINE, ANN), pointers=(Pointer("batch", ("b", ANN)),), sent=Sent(())),
         f"only ids that may lead to it (batch b {ANN}): {VAGUE}; until then the pair with the default line {LINE}"),
    ],
)  # fmt: skip
def test_which_evidence_there_is(evidence: Evidence, said: str) -> None:
    """What the conversation was told by."""
    facts = msgspec.structs.replace(capture().facts, default_line=LINE)

    assert evidence_text(evidence, msgspec.structs.replace(capture(), facts=facts)) == said


def test_a_page_tells_where_each_event_is_and_how_it_got_there() -> None:
    """In the stream or of an earlier capture; under its own key, another one, or one that has merged since."""
    shown = line(event("a", pair()), event("b", pointed("x")), event("c", pair(BOB)), notice("n"), typing("t", pair()))
    own = SCOPE.conversation("pair", sorted((ANN, LINE)))
    text = page(
        explained(
            with_fate(shown, published("message.received")),
            events=[("7-0", envelope("a", 3, own)), ("7-1", envelope("b", 12)), ("7-2", envelope("a#merged", 4))],
            originals={"telnyx:main:c": envelope("c", 5, OTHER)},
            survivors={own: own, KEY: OTHER, OTHER: OTHER},
            letters=[("unreadable", "$.data: missing")],
        )
    )
    squeezed = " ".join(text.split())

    assert f"in the stream sequence 3 of {own}, entry 7-0" in squeezed
    assert f"conversation {own} Event 2" in squeezed
    assert f"conversation {KEY}, since something else told whose it is (by itself: cv_" in squeezed
    assert f"by now merged into {OTHER}" in squeezed
    assert "as an event of cp_9, sequence 5: this one is a duplicate" in squeezed
    assert "none: it is about the account as a whole" in squeezed
    assert "published to those who listen, and not kept" in squeezed
    assert "id telnyx:main:a#merged" in squeezed
    assert "Dead letters unreadable $.data: missing" in squeezed


def with_fate(shown: Line, fate: Fate) -> Line:
    """The same line with another fate."""
    return shown._replace(fate=fate)


def test_a_page_tells_what_is_not_there() -> None:
    """Not yet, or no longer."""
    gone, waiting = (page(explained(line(event("m", pair()), fate=fate))) for fate in (Fate(), Fate(waiting=True)))

    assert "no: no event with this id is kept there any more" in gone
    assert "duplicate: no event in the stream and no dead letter names it" in gone
    assert "in the stream  not yet" in waiting
    assert "waiting: the pipeline has not come to it yet" in waiting


# --- bodies ---


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b'{"a":[1]}', '{\n  "a": [\n    1\n  ]\n}'),
        (b"a=1&b=\x1b[31mred", "a=1&b= [31mred"),
        (b"\xff\x00", "ff 00"),
    ],
)
def test_bodies_are_shown_as_what_they_are(body: bytes, said: str) -> None:
    """JSON indented, other text as it is, anything else by its bytes."""
    assert body_text(body) == said


@given(st.binary(max_size=300))
def test_no_body_moves_the_terminals_cursor(body: bytes) -> None:
    """Whoever wrote it."""
    assert all(character.isprintable() or character == "\n" for character in body_text(body))


def test_a_large_body_of_bytes_is_cut() -> None:
    """It says how much is left out."""
    assert body_text(b"\xff" * 5000).endswith("… and 904 bytes more")


# --- counts ---


def test_counts_add_up() -> None:
    """By account, kind, outcome and type; one capture may have two outcomes, and entries of the quarantine no kind."""
    tally = Tally()
    for number, fate in enumerate(
        [published("message.received", "message.status"), Fate(dead=("x",)), Fate(quarantined="signature_missing")]
    ):
        fields = {
            b"provider": b"telnyx",
            b"account": b"main",
            b"received_at": b"2026-11-2%d" % number,
            b"kind": b"link",
        }
        entry = Quarantined("1-0", fields) if fate.quarantined else LogEntry("1-0", fields)
        del fields[b"kind" if fate.quarantined else b"account"]
        tally.add(entry, fate)
    said = tally.record()

    assert said["captures"] == 3
    assert said["bytes"] == 2 * (6 + 10 + 4) + (6 + 4 + 10)
    assert (said["first"], said["last"]) == ("2026-11-20", "2026-11-22")
    assert said["accounts"] == {"telnyx/-": 2, "telnyx/main": 1}
    assert said["kinds"] == {"callback": 1, "link": 2}
    assert said["outcomes"] == {"dead": 1, "published": 1, "quarantined": 1}
    assert said["events"] == {"message.received": 1, "message.status": 1}
    assert tally.table().splitlines()[0].split() == ["captures", "3"]
    assert tally.table().endswith("Received from 2026-11-20 to 2026-11-22.\n")
