"""Events as subscribers get them, made up one at a time: of a group of three, Ann, Bob and Cat."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.events import EventBody
from schemas.reader import ConversationFacts, ProviderFacts, Published

KEY = "cv_abcdefghijklmnopqrstuvwxyz"
ONE, TWO, THREE = ("cv_" + letter * 26 for letter in "abc")
ANN, BOB, CAT = "+15555550111", "+15555550112", "+15555550113"
GROUP = {
    "key": KEY,
    "kind": "group",
    "participants": [ANN, BOB, CAT],
    "lines": ["+15555550100"],
    "provisional": False,
}


def published(
    event_type: str,
    conversation: dict[str, Any] | None = GROUP,
    provider_type: str = "message.received",
    at: datetime = datetime(2026, 11, 21, 12, 0, 5, 129000, UTC),
    *,
    copy_of: str | None = None,
    replayed: bool = False,
    **body: Any,
) -> Published:
    """An event of a group of three, as a subscriber gets it."""
    return Published(
        id="telnyx:main:a",
        source="/webhooks/telnyx/main",
        type=event_type,
        subject=KEY,
        time=at,
        sequence=1,
        body=msgspec.convert({"type": event_type, **body}, EventBody),
        conversation=None if conversation is None else msgspec.convert(conversation, ConversationFacts),
        provider=ProviderFacts("telnyx", "main", provider_type, {}),
        assurance="signed",
        received_at=at,
        capture="cp_1",
        replayed=replayed,
        rollup=None,
        copy_of=copy_of,
        position="1-0",
        raw=b"",
    )


def message(**changes: Any) -> dict[str, Any]:
    """A message of Ann's."""
    return {
        "id": "m1",
        "direction": "inbound",
        "sender": ANN,
        "text": "Seven it is",
        "media": [],
        "channel": "mms",
        **changes,
    }


MEDIA = {"url": None, "content_type": "image/png"}


def status(**changes: Any) -> dict[str, Any]:
    """A report on a message of ours."""
    return {"value": "delivered", "final": True, "recipient": ANN, "raw": "delivered", **changes}


def members(**changes: Any) -> dict[str, Any]:
    """A change of who is in it."""
    return {"added": [], "removed": [], **changes}


def error(code: str | None, detail: str | None) -> dict[str, Any]:
    """Why something failed."""
    return {"code": code, "detail": detail}


def reaction(emoji: str | None, quoted: str | None = None) -> Published:
    """A reaction of Ann's, or one that she took back."""
    said = {"message_id": "m0", "emoji": emoji, "action": "added" if emoji else "removed", "quoted": quoted}
    return published("message.reaction", message=message(text=None), reaction=said)


def report(**changes: Any) -> Published:
    """A report on a message of ours."""
    return published("message.status", message=message(), status=status(**changes))


def change(what: str, **told: Any) -> Published:
    """A change of the group itself."""
    return published("conversation.settings", settings={"change": what, **told})


def came_and_went(**changes: Any) -> Published:
    """A change of who is in it."""
    return published("conversation.members", members=members(**changes))
