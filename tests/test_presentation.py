"""Events as lines for people: one line each, whatever is in them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.presentation import line

GROUP = {
    "key": "cv_abcdefghijklmnopqrstuvwxyz",
    "kind": "group",
    "participants": ["+15555550111", "+15555550112", "+15555550113"],
    "lines": ["+15555550100"],
    "provisional": False,
}
HEAD = "12:00:05  telnyx    "
AFTER_KEY = " cv_abcdefghi… group/3  "


def envelope(event_type: str, **body: Any) -> dict[str, Any]:
    """An event of a group of three, as a subscriber gets it."""
    return {
        "specversion": "1.0",
        "id": "telnyx:main:a",
        "source": "/webhooks/telnyx/main",
        "type": event_type,
        "subject": GROUP["key"],
        "time": "2026-11-21T12:00:05.129Z",
        "sequence": "0000000000000001",
        "data": {
            "conversation": GROUP,
            "provider": {"name": "telnyx", "account": "main", "type": "message.received", "ids": {}},
            "assurance": "signed",
            "received_at": "2026-11-21T12:00:06.000Z",
            "capture": "cp_1",
            "replayed": False,
            **body,
        },
    }


def message(**changes: Any) -> dict[str, Any]:
    """A message of Ann's."""
    return {
        "id": "m1",
        "direction": "inbound",
        "sender": "+15555550111",
        "text": "Seven it is",
        "media": [],
        "channel": "mms",
        **changes,
    }


def status(**changes: Any) -> dict[str, Any]:
    """A report on a message of ours."""
    return {
        "value": "delivered",
        "final": True,
        "recipient": "+15555550111",
        "raw": "delivered",
        "error": None,
        "stale": False,
        **changes,
    }


def members(**changes: Any) -> dict[str, Any]:
    """A change of who is in it."""
    return {"added": [], "removed": [], "after": [], **changes}


ANN = "+15555550111     "
NOBODY = "                 "


@pytest.mark.parametrize(
    ("event", "said"),
    [
        pytest.param(envelope("message.received", message=message()), ANN + "“Seven it is”", id="a text"),
        pytest.param(
            envelope("message.received", message=message(media=[{}, {}])),
            ANN + "“Seven it is” [2 attachment(s)]",
            id="a text with attachments",
        ),
        pytest.param(
            envelope("message.received", message=message(text=None, media=[{}])),
            ANN + "[1 attachment(s)]",
            id="an attachment alone",
        ),
        pytest.param(
            envelope("message.received", message=message(text="", type="location")), ANN + "[location]", id="a location"
        ),
        pytest.param(envelope("message.received", message=message(text=None)), ANN + "[empty]", id="nothing in it"),
        pytest.param(
            envelope("message.received", message=message(sender=None)), NOBODY + "“Seven it is”", id="no sender known"
        ),
        pytest.param(envelope("message.outbound", message=message()), ANN + "“Seven it is”", id="one of ours"),
        pytest.param(
            envelope("message.edited", message=message(), edited={"message_id": "m0"}),
            ANN + "“Seven it is”",
            id="an edit",
        ),
        pytest.param(
            envelope("message.revoked", message=message(text=None), revoked={"message_id": "m0"}),
            ANN + "took a message back",
            id="a revoke",
        ),
        pytest.param(envelope("message.status", message=message(), status=status()), ANN + "delivered", id="a report"),
        pytest.param(
            envelope("message.status", message=message(), status=status(recipient=None, value="sent")),
            "everybody        sent",
            id="a report for all",
        ),
        pytest.param(
            envelope(
                "message.status",
                message=message(),
                status=status(value="failed", error={"code": "40310", "detail": "Invalid number"}),
            ),
            ANN + "failed (40310: Invalid number)",
            id="a failure with code and detail",
        ),
        pytest.param(
            envelope(
                "message.status", message=message(), status=status(value="failed", error={"code": None, "detail": None})
            ),
            ANN + "failed",
            id="a failure that says nothing",
        ),
        pytest.param(
            envelope(
                "message.reaction",
                message=message(text=None),
                reaction={"message_id": "m0", "emoji": "👍", "action": "added", "quoted": "Seven it is"},
            ),
            ANN + "reacted 👍 “Seven it is”",
            id="a reaction",
        ),
        pytest.param(
            envelope(
                "message.reaction",
                message=message(text=None),
                reaction={"message_id": "m0", "emoji": None, "action": "removed", "quoted": None},
            ),
            ANN + "took a reaction back",
            id="a reaction taken back",
        ),
        pytest.param(
            envelope("typing", typing={"sender": "+15555550111", "is_typing": True}), ANN + "is typing", id="typing"
        ),
        pytest.param(
            envelope("typing", typing={"sender": None, "is_typing": False}),
            NOBODY + "stopped typing",
            id="typing no more",
        ),
        pytest.param(
            envelope(
                "conversation.members",
                members=members(added=["+15555550112", "+15555550113"], removed=["+15555550111"]),
            ),
            NOBODY + "+15555550112, +15555550113 joined; +15555550111 left",
            id="members",
        ),
        pytest.param(
            envelope(
                "conversation.members",
                members=members(requested=["+15555550112"], withdrawn=["+15555550113"], failed=[{}]),
            ),
            NOBODY + "+15555550112 asked to join; +15555550113 no longer asks to join; 1 could not be changed",
            id="members who ask",
        ),
        pytest.param(
            envelope("conversation.members", members=members()), NOBODY + "nobody changed", id="members unchanged"
        ),
        pytest.param(
            envelope(
                "conversation.settings",
                settings={"change": "changed_failed", "subject": "Crew", "failed": {"picture": None}},
            ),
            NOBODY + "changed failed; subject “Crew”; picture failed",
            id="settings",
        ),
        pytest.param(
            envelope("conversation.merged", merged=["cv_one", "cv_two"]),
            NOBODY + "now also 2 earlier key(s)",
            id="a merge",
        ),
        pytest.param(
            envelope("unrecognised", detail={"future": True}),
            NOBODY + "type message.received is not known to this version",
            id="unrecognised",
        ),
    ],
)
def test_each_type_of_event_is_one_line(event: dict[str, Any], said: str) -> None:
    """Time, provider, type, key and kind stand in columns, then who and what."""
    assert line(event) == HEAD + f"{event['type']:<21}" + AFTER_KEY + said


def test_an_event_of_the_account_has_no_conversation() -> None:
    """What concerns the account as a whole says so in the place of the kind."""
    event = envelope("account.notice", conversation=None, notice={"kind": "10dlc.brand.update", "detail": {}})

    assert line(event) == HEAD + "account.notice        cv_abcdefghi… account " + " " * 18 + "10dlc.brand.update"


@pytest.mark.parametrize(
    ("conversation", "shown"),
    [
        ({"kind": "direct", "participants": ["+15555550111"]}, "direct  "),
        ({"kind": "group", "participants": None}, "group   "),
        ({"kind": "group", "participants": []}, "group   "),
        ({"kind": "unknown", "participants": None}, "unknown "),
    ],
)
def test_the_kind_tells_how_many_where_it_can(conversation: dict[str, Any], shown: str) -> None:
    """A group shows how many people are in it, as far as that is known."""
    event = envelope("message.received", message=message(), conversation=conversation)

    assert f"cv_abcdefghi… {shown} +15555550111" in line(event)


def test_a_long_text_is_cut() -> None:
    """A text of more than sixty characters is shortened, and says so."""
    event = envelope("message.received", message=message(text="a" * 61))

    assert line(event).endswith("“" + "a" * 59 + "…”")
    assert line(envelope("message.received", message=message(text="a" * 60))).endswith("“" + "a" * 60 + "”")


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
    pytest.param(lambda text: envelope("message.received", message=message(text=text)), id="text"),
    pytest.param(lambda text: envelope("message.received", message=message(text=None, type=text)), id="message.type"),
    pytest.param(lambda text: envelope("message.received", message=message(sender=f"telnyx:{text}")), id="sender"),
    pytest.param(
        lambda text: envelope("message.status", message=message(), status=status(error={"code": text, "detail": None})),
        id="error.code",
    ),
    pytest.param(
        lambda text: envelope("message.status", message=message(), status=status(error={"code": "1", "detail": text})),
        id="error.detail",
    ),
    pytest.param(
        lambda text: envelope(
            "message.reaction", message=message(), reaction={"emoji": text, "quoted": text, "message_id": None}
        ),
        id="reaction",
    ),
    pytest.param(
        lambda text: envelope(
            "conversation.settings",
            settings={"change": "changed", "subject": text, "description": text, "failed": {text: None}},
        ),
        id="settings",
    ),
    pytest.param(lambda text: envelope("conversation.members", members=members(added=[text])), id="members"),
    pytest.param(lambda text: envelope("account.notice", notice={"kind": text, "detail": {}}), id="notice.kind"),
    pytest.param(
        lambda text: envelope(
            "unrecognised", provider={"name": "telnyx", "account": "main", "type": text, "ids": {}}, detail={}
        ),
        id="provider.type",
    ),
]


@pytest.mark.parametrize("event", WITH_A_TEXT_OF_OTHERS)
def test_nothing_that_others_write_reaches_the_terminal_as_a_command(event: Any) -> None:
    """Whatever text of a provider or person is shown, the line holds printable characters only."""
    let_through = [what for what, text in HOSTILE.items() if not line(event(text)).isprintable()]

    assert let_through == []


@given(st.text(max_size=80))
def test_any_text_makes_one_printable_line(text: str) -> None:
    """A message of any characters is one line, no longer than its columns."""
    said = line(envelope("message.received", message=message(text=text)))

    assert said.isprintable()
    assert len(said) <= len(HEAD) + 21 + len(AFTER_KEY) + 17 + 62
