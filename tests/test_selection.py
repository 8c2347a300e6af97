from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver.captures import LogEntry
from receiver.providers import PROVIDERS
from receiver.queries import Directory
from receiver.selection import (
    Asked,
    Fate,
    Quarantined,
    Selection,
    SelectionError,
    Stages,
    keys_of,
    read_selection,
    read_time,
)
from schemas.address import Address
from schemas.events import Event, Link, Linked, MessageStatus, Pointer, Sent, Status, Tie
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
    unreadable,
)

NOW = datetime(2026, 11, 21, 12, 30, 15, tzinfo=UTC)
DIRECTORY = Directory({"main-whatsapp": "whatsapp"}, frozenset(PROVIDERS))
SCOPE = Scope(b"a key", "ns", "telnyx", "main")
KEY = "cv_" + "a" * 26
CAPTURE = "cp_" + "0" * 32


def asked(**texts: Any) -> Selection:
    """What options select, as of NOW."""
    return read_selection(Asked(**texts), NOW, DIRECTORY)


def entry(position: str = "1795264215000-0", **fields: str) -> LogEntry:
    """A log entry, of NOW unless its position says otherwise."""
    given = {"id": CAPTURE, "provider": "telnyx", "account": "main", **fields}
    return LogEntry(position, {name.encode(): value.encode() for name, value in given.items()})


def at(moment: datetime) -> LogEntry:
    """An entry written at a moment."""
    return entry(f"{int(moment.timestamp() * 1000)}-5")


def says(selection: Selection, *parsed: Any, fate: Fate | None = None) -> bool:
    """Whether a selection takes a capture with these elements."""
    return selection.takes_parsed(capture(), parsed, SCOPE, fate)


# --- times ---


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)),
        ("today", datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)),
        *((text, moment, moment) for text, moment in [
            ("2026-11-20T12:00", datetime(2026, 11, 20, 12, tzinfo=UTC)),
            ("2026-11-20T12:00:01.5Z", datetime(2026, 11, 20, 12, 0, 1, 500_000, tzinfo=UTC)),
            ("2026-11-20T12:00+01:00", datetime(2026, 11, 20, 11, tzinfo=UTC)),
            ("2026-11-20 12:00", datetime(2026, 11, 20, 12, tzinfo=UTC)),
            ("45s", datetime(2026, 11, 21, 12, 29, 30, tzinfo=UTC)),
            ("30m", datetime(2026, 11, 21, 12, 0, 15, tzinfo=UTC)),
            ("2h", datetime(2026, 11, 21, 10, 30, 15, tzinfo=UTC)),
            ("7d", datetime(2026, 11, 14, 12, 30, 15, tzinfo=UTC)),
            ("1w", datetime(2026, 11, 14, 12, 30, 15, tzinfo=UTC)),
            ("9999w", datetime(1970, 1, 2, tzinfo=UTC)),
        ]),
    ],
)  # fmt: skip
def test_times_are_read_as_people_write_them(text: str, since: datetime, until: datetime) -> None:
    """Dates and days begin at midnight UTC, and as `--until` are in it as a whole; everything else is a moment."""
    assert read_time(text, NOW, "--since") == since
    assert read_time(text, NOW, "--until") == until


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13-01", "12:00", "2h30m", "-2h", "2H", "999999w", "tomorrow", "\u0661h"]
)
def test_what_is_no_time_is_refused_with_what_is_one(text: str) -> None:
    """The sentence names the option and shows each form."""
    with pytest.raises(SelectionError, match=r"--since: .*2026-11-21T12:00.*2h.*yesterday"):
        read_time(text, NOW, "--since")


def test_times_bound_the_positions_of_the_log() -> None:
    """Positions begin with the time: everything from `since` on and before `until`, by the millisecond."""
    selection = asked(since="2026-11-21T12:00", until="2026-11-21T12:30")
    begin, end = datetime(2026, 11, 21, 12, tzinfo=UTC), datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
    millisecond = timedelta(milliseconds=1)

    assert [selection.takes_entry(at(moment)) for moment in (begin - millisecond, begin)] == [False, True]
    assert [selection.takes_entry(at(moment)) for moment in (end - millisecond, end)] == [True, False]
    assert selection.after == f"{int(begin.timestamp()) * 1000 - 1}-18446744073709551615"
    assert selection.last == f"{int(end.timestamp()) * 1000 - 1}-18446744073709551615"
    assert (Selection().after, Selection().last) == ("", "+")


# --- what an entry is ---


def test_provider_and_account_are_the_entrys_own() -> None:
    """Values of one option are alternatives, options are conditions; nothing is parsed for them."""
    selection = asked(provider=["telnyx", "sinch"], account=["main"])

    assert selection.stages == Stages(fate=False, parsed=False)
    assert selection.takes_entry(entry())
    assert selection.takes_entry(entry(provider="sinch"))
    assert not selection.takes_entry(entry(provider="whatsapp"))
    assert not selection.takes_entry(entry(account="spare"))
    assert not selection.takes_entry(LogEntry("1-0", {}))


def test_nothing_asked_takes_everything() -> None:
    """Also what is damaged."""
    assert Selection().stages == Stages(fate=False, parsed=False)
    assert Selection().takes_entry(LogEntry("1-0", {}))
    assert Selection().takes_fate(Fate())
    assert says(Selection(), unreadable())


def test_a_captures_id_needs_no_parsing() -> None:
    """Any other id does."""
    by_capture, by_both = asked(id=[CAPTURE]), asked(id=[CAPTURE, "9d12"])

    assert by_capture.stages == Stages(fate=False, parsed=False)
    assert by_both.stages == Stages(fate=False, parsed=True)
    assert by_capture.takes_entry(entry())
    assert not by_capture.takes_entry(entry(id="cp_" + "1" * 32))
    assert by_both.takes_entry(entry(id="cp_" + "1" * 32))
    assert by_both.takes_parsed(capture(), [event("x", None)]) is False


def test_the_quarantine_is_never_parsed() -> None:
    """What would have to be parsed to be judged is not taken at all."""
    kept_aside = Quarantined(entry().position, entry().fields)

    assert asked(provider=["telnyx"], outcome=["quarantined"]).takes_entry(kept_aside)
    assert not asked(address=[ANN]).takes_entry(kept_aside)


# --- what became of it ---


@pytest.mark.parametrize(
    ("fate", "outcomes"),
    [
        (Fate(events=(("message.received", KEY),)), ("published",)),
        (Fate(dead=("unreadable",)), ("dead",)),
        (Fate(events=(("message.received", KEY),), dead=("unreadable",)), ("published", "dead")),
        (Fate(), ("duplicate",)),
        (Fate(waiting=True), ("waiting",)),
        (Fate(quarantined="signature_mismatch"), ("quarantined",)),
    ],
)
def test_what_became_of_a_capture(fate: Fate, outcomes: tuple[str, ...]) -> None:
    """One part may be published and another dead: then it is both, and asking for either finds it."""
    taking = [word for word in ("published", "duplicate", "dead", "quarantined", "waiting")
              if asked(outcome=[word]).takes_fate(fate)]  # fmt: skip

    assert fate.outcomes == outcomes
    assert taking == [word for word in taking if word in outcomes]
    assert len(taking) == len(outcomes)
    assert asked(outcome=["dead"]).stages == Stages(fate=True, parsed=False)


# --- what it says ---


def test_by_type_of_event() -> None:
    """Of an element, or of an event in the stream that follows from it."""
    received, members = asked(type=["message.received"]), asked(type=["conversation.members"])

    assert received.stages == Stages(fate=False, parsed=True)
    assert members.stages == Stages(fate=True, parsed=True)
    assert says(received, notice("n"), event("m", pair()))
    assert not says(received, notice("n"), unreadable())
    assert says(members, event("m", group()), fate=Fate(events=(("conversation.members", KEY),)))


def test_by_conversation() -> None:
    """By where its events went, or else by the key that its own evidence makes; a link is of what it links."""
    key = SCOPE.conversation("pair", sorted((ANN, LINE)))
    selection = asked(conversation=[key])
    link = Linked(EventId("l"), Link(ConversationKey(key), ConversationKey(KEY)))

    assert selection.stages == Stages(fate=True, parsed=True)
    assert says(selection, event("m", pair()))
    assert says(selection, link)
    assert says(selection, event("m", pointed("x")), fate=Fate(events=(("message.status", key),)))
    assert not says(selection, event("m", pair(BOB)), unreadable(), Linked(EventId("t"), Tie(ANN, BOB)))
    assert says(asked(conversation=[SCOPE.whole_account()]), notice("n"))
    assert says(selection.with_conversations({KEY, "cv_b"}), link)
    assert not selection.takes_parsed(capture(), [event("m", pair())])


def test_a_fallback_is_a_conversation_of_it_as_well() -> None:
    """While nothing better is known the report is in the default line's conversation."""
    report = event("r", pointed("x"))
    assert report.evidence is not None
    pair_key = SCOPE.conversation("pair", sorted((ANN, LINE)))
    evidence = pair()
    by_setting = event("r", type(evidence)(fallback=evidence.identity, pointers=(Pointer("message", ("x",)),)))

    assert pair_key in keys_of(by_setting, SCOPE)
    assert pair_key not in keys_of(report, SCOPE)


def test_by_address() -> None:
    """Wherever it stands: sender, recipient, member, line; never inside a text."""
    report = event("r", pair(BOB), body=MessageStatus(message("m"), Status("sent", True, BOB, "sent")))

    assert says(asked(address=["(555) 555-0111"], provider=["telnyx"]), event("m", everyone(ANN, BOB, LINE)))
    assert says(asked(address=[BOB]), event("x", None), report)
    assert says(asked(address=[LINE]), report)
    assert says(asked(address=[CAT, BOB]), Linked(EventId("t"), Tie(ANN, BOB)))
    assert not says(
        asked(address=[CAT]), report, Linked(EventId("l"), Link(ConversationKey(KEY), ConversationKey(KEY)))
    )


def test_by_any_id() -> None:
    """Of the message, the group, a batch or whatever else points to it, the event, or the capture."""
    sent = pair(sent=Sent((Pointer("batch", ("b1", ANN)),)))
    named = Event(EventId("telnyx:main:f"), event("m7", None).body, None, group("g1"), "x", {"group_message_id": "gm1"})

    for identifier in ("m7", "telnyx:main:f", "g1", "gm1"):
        assert says(asked(id=[identifier]), named)
    assert says(asked(id=["b1"]), event("s", sent))
    assert says(asked(id=["p1"]), event("s", pointed("p1")))
    assert says(asked(id=["l1"]), Linked(EventId("l1"), Tie(ANN, BOB)))
    assert says(asked(id=["x", "cp_1"]), unreadable())
    assert not says(asked(id=["message.received", "Seven it is"]), named, unreadable())


# --- option texts ---


def test_addresses_are_read_in_any_spelling() -> None:
    """A lone provider or account says whose they are; else they say so themselves."""
    assert asked(address=["+1 (555) 555-0111"]).addresses == {ANN}
    assert asked(address=["US.1349"], account=["main-whatsapp"]).addresses == {Address("whatsapp:US.1349")}
    assert asked(address=["sinch:40404"], provider=["telnyx", "sinch"]).addresses == {Address("sinch:40404")}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"provider": ["twilio"]}, "--provider: there is no such one; there are sendblue, sinch, telnyx, whatsapp"),
        ({"outcome": ["lost"]}, "--outcome: .* dead, duplicate, published, quarantined, waiting"),
        ({"type": ["message"]}, "--type: .*message.received"),
        ({"conversation": ["cv_short"]}, "--conversation: that is no conversation's key"),
        ({"address": ["40404"]}, "--address: .*provider's name"),
        ({"since": "1h", "until": "2h"}, "--until: that is no later than --since"),
        ({"until": "soon"}, "--until: no time"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(texts: dict[str, Any], said: str) -> None:
    """It names the option, and what there is to choose from."""
    with pytest.raises(SelectionError, match=said):
        asked(**texts)
