"""What events say, and each as a whole line, whatever is in them."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.presentation import line, plain_json, say
from schemas.reader import Published, Unknown
from tests.happenings import (
    ANN,
    BOB,
    CAT,
    GROUP,
    KEY,
    MEDIA,
    ONE,
    THREE,
    TWO,
    came_and_went,
    change,
    error,
    message,
    published,
    reaction,
    report,
)

SAYINGS = {
    "a text": (published("message.received", message=message()), ANN, "“Seven it is”"),
    "a text with attachments": (
        published("message.received", message=message(media=[MEDIA, MEDIA])),
        ANN,
        "“Seven it is” [2 attachments]",
    ),
    "an attachment alone": (
        published("message.received", message=message(text=None, media=[MEDIA])),
        ANN,
        "[1 attachment]",
    ),
    "a location": (published("message.received", message=message(text="", type="location")), ANN, "[location]"),
    "nothing in it": (published("message.received", message=message(text=None)), ANN, "[empty]"),
    "no sender known": (published("message.received", message=message(sender=None)), "somebody", "“Seven it is”"),
    "a copy, replayed": (
        published("message.received", message=message(), copy_of="telnyx:main:b", replayed=True),
        ANN,
        "“Seven it is” (copy) (replayed)",
    ),
    "one of ours": (published("message.outbound", message=message()), ANN, "“Seven it is”"),
    "an edit": (
        published("message.edited", message=message(), edited={"message_id": "m0"}),
        ANN,
        "edited a message: “Seven it is”",
    ),
    "a revoke": (
        published("message.revoked", message=message(text=None), revoked={"message_id": "m0"}),
        ANN,
        "took a message back",
    ),
    "a report": (report(), ANN, "delivered"),
    "a report for all": (report(recipient=None, value="sent"), "everybody", "sent"),
    "a report that came late": (report(stale=True), ANN, "delivered (known already)"),
    "a failure with code and detail": (
        report(value="failed", error=error("40310", "Invalid number")),
        ANN,
        "failed (40310: Invalid number)",
    ),
    "a failure that says nothing": (report(value="failed", error=error(None, None)), ANN, "failed"),
    "a reaction": (reaction("👍", "Seven it is"), ANN, "reacted 👍 “Seven it is”"),
    "a reaction taken back": (reaction(None), ANN, "took a reaction back"),
    "typing": (published("typing", typing={"sender": ANN, "is_typing": True}), ANN, "is typing"),
    "typing no more": (published("typing", typing={"sender": None, "is_typing": False}), "somebody", "stopped typing"),
    "people who came and went": (
        came_and_went(added=[BOB, CAT], removed=[ANN], after=[BOB, CAT]),
        "",
        f"{BOB} and {CAT} joined; {ANN} left; now 2 people",
    ),
    "the provider's words for how": (
        came_and_went(removed=[BOB], after=[ANN], reason="left_by_itself", initiated_by="participant"),
        "",
        f"{BOB} left; now 1 person (left by itself, by participant)",
    ),
    "what we concluded": (
        came_and_went(added=[ANN], after=[ANN], inferred=True),
        "",
        f"{ANN} joined; now 1 person (concluded, not told)",
    ),
    "what came late": (
        came_and_went(stale=True, after=[ANN, BOB]),
        "",
        "nothing new: it came late, or was known; now 2 people",
    ),
    "people who ask": (
        came_and_went(requested=[BOB], withdrawn=[CAT]),
        "",
        f"{BOB} asked to join; {CAT} took back asking to join",
    ),
    "somebody who could not be added": (
        came_and_went(failed=[{"address": BOB, "error": error("131000", None)}]),
        "",
        f"{BOB} could not be changed (131000)",
    ),
    "nobody at all": (came_and_went(after=None, error=error("1", "no")), "", "nobody joined or left (1: no)"),
    "a name": (change("changed", subject="Crew", picture={"id": "p"}), "", "its name is “Crew”; it has a new picture"),
    "a creation": (
        change("created", subject="Crew", invite_link="https://example.com/i", join_approval="approval_required"),
        "",
        "the group was created; its name is “Crew”; it has a new invite link; joining it: approval required",
    ),
    "an end": (change("deleted"), "", "the group was deleted"),
    "a creation that failed": (
        change("created_failed", subject="Crew", error=error("131000", "limit")),
        "",
        "the group could not be created (131000: limit)",
    ),
    "settings that failed": (
        change("changed_failed", failed={"profile_picture": error("1", None)}),
        "",
        "its profile picture could not be changed (1)",
    ),
    "settings of which one failed": (
        change("changed", description="Fridays", failed={"subject": None}),
        "",
        "its description is “Fridays”; its subject could not be changed",
    ),
    "a change without a word": (change("changed"), "", "the group was changed"),
    "a change of a later version": (change("archived_failed"), "", "the group: archived failed"),
    "another of a later version": (change("archived"), "", "the group: archived"),
    "a merge": (published("conversation.merged", merged=[ONE]), "", f"{ONE} is now this conversation"),
    "a merge of three": (
        published("conversation.merged", merged=[ONE, TWO, THREE]),
        "",
        f"{ONE}, {TWO} and {THREE} are now this conversation",
    ),
    "a link taken back": (
        published("conversation.merged", merged=[]),
        "",
        "this conversation stands for itself alone again",
    ),
    "a notice": (published("account.notice", None, notice={"kind": "10dlc.brand", "detail": {}}), "", "10dlc.brand"),
    "unrecognised": (
        published("unrecognised", detail={"future": True}),
        "",
        "telnyx sent “message.received”, a type that this version does not know",
    ),
    "of a later version": (
        msgspec.structs.replace(published("unrecognised", detail={}), type="call.started", body=Unknown({})),
        "",
        "a later version published this, and this one cannot read it: see it with --json",
    ),
}


@pytest.mark.parametrize(("event", "who", "what"), SAYINGS.values(), ids=SAYINGS)
def test_an_event_says_what_happened(event: Published, who: str, what: str) -> None:
    """Who, and what happened, in words; merges and members as sentences."""
    said = say(event)

    assert (said.who, said.what) == (who, what)


def test_where_there_is_little_room_the_rest_is_counted() -> None:
    """Only so many keys and people are named."""
    merged = published("conversation.merged", merged=[ONE, TWO, THREE])
    joined = came_and_went(added=[ANN, BOB, CAT])

    assert say(merged, 2).what == f"{ONE} and 2 more are now this conversation"
    assert say(merged, 3) == say(merged)
    assert say(joined, 2).what == f"{ANN} and 2 more joined"


@pytest.mark.parametrize(("event", "who", "what"), SAYINGS.values(), ids=SAYINGS)
def test_each_event_is_one_whole_line(event: Published, who: str, what: str) -> None:
    """Time, provider, type, key and kind stand in columns, then who and what; nothing is cut."""
    kind = "group/3 " if event.conversation else "account "
    head = f"2026-11-21T12:00:05.129Z  telnyx    {event.type:<21}  {KEY}  {kind}  "

    assert line(event) == f"{head}{who:<12}  {what}"


def test_a_long_text_is_whole_in_a_line() -> None:
    """What goes into a file or another program is not cut."""
    assert line(published("message.received", message=message(text="a" * 500))).endswith("  “" + "a" * 500 + "”")


@pytest.mark.parametrize(
    ("conversation", "shown"),
    [
        ({"kind": "direct", "participants": [ANN]}, "direct    "),
        ({"kind": "group", "participants": None}, "group     "),
        ({"kind": "group", "participants": []}, "group     "),
        ({"kind": "group", "provisional": True}, "group/3?  "),
        ({"kind": "unknown", "participants": None, "provisional": True}, "unknown?  "),
    ],
)
def test_the_kind_tells_how_many_where_it_can(conversation: dict[str, Any], shown: str) -> None:
    """A group shows how many people are in it, as far as that is known; a question mark, that it may be another."""
    event = published("message.received", {**GROUP, **conversation}, message=message())

    assert f"{KEY}  {shown}{ANN}" in line(event)


HOSTILE = {
    "clears the screen": "\x1b[2J\x1b[1;1H",
    "sets the title": "\x1b]0;owned\x07",
    "ends the line": "one\ntwo\r\nthree",
    "NUL, backspace, delete": "\x00\x08\x7f",
    "eight-bit controls": "\x9b31m\x85",
    "turns the direction": "\u202eevil\u202c\u2066\u2069",
    "Unicode's own line ends": "a\u2028b\u2029c",
    "half a character": "\ud800",
}

WITH_A_TEXT_OF_OTHERS = [
    pytest.param(lambda text: published("message.received", message=message(text=text)), id="text"),
    pytest.param(lambda text: published("message.received", message=message(text=None, type=text)), id="message.type"),
    pytest.param(lambda text: published("message.received", message=message(sender=f"telnyx:{text}")), id="sender"),
    pytest.param(
        lambda text: report(error=error(text, None)),
        id="error.code",
    ),
    pytest.param(
        lambda text: report(error=error("1", text)),
        id="error.detail",
    ),
    pytest.param(
        lambda text: reaction(text, text),
        id="reaction",
    ),
    pytest.param(
        lambda text: change(text, subject=text, description=text, failed={text: None}),
        id="settings",
    ),
    pytest.param(lambda text: came_and_went(added=[text], reason=text), id="members"),
    pytest.param(lambda text: published("account.notice", notice={"kind": text, "detail": {}}), id="notice.kind"),
    pytest.param(
        lambda text: published("unrecognised", provider_type=text, detail={}),
        id="provider.type",
    ),
]


@pytest.mark.parametrize("event", WITH_A_TEXT_OF_OTHERS)
def test_nothing_that_others_write_reaches_the_terminal_as_a_command(event: Any) -> None:
    """Whatever text of a provider or person is shown, the line holds printable characters only."""
    let_through = [what for what, text in HOSTILE.items() if not line(event(text)).isprintable()]

    assert let_through == []


@given(st.text())
def test_any_text_makes_one_printable_line(text: str) -> None:
    """A message of any characters is one line, in which joined emoji stay joined."""
    said = line(published("message.received", message=message(text=text)))

    assert said.replace("\u200d", "").isprintable()


@given(st.text())
def test_json_for_a_terminal_is_the_same_json(text: str) -> None:
    """What a terminal would obey is escaped, and reads as the same value."""
    shown = plain_json(orjson.dumps({"text": text}).decode())

    assert shown.replace("\u200d", "").isprintable()
    assert orjson.loads(shown) == {"text": text}
