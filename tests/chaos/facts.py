"""What is posted: callbacks of the four providers, each a fact of its own in a conversation that is known. Pure."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from tests import bodies
from tests.bench.load import request
from tests.engine import NOW
from tests.service import LINE, path, proof

PROVIDERS = ("telnyx", "sendblue", "sinch", "whatsapp")
#: So many conversations has each provider: people are few, since only some numbers are nobody's.
CONVERSATIONS = 60

Body = dict[str, Any]

#: What the parser of `deadly.py` dies of.
MARK = b"poison-that-kills"


class Fact(NamedTuple):
    """One thing that happened at a provider."""

    name: str
    provider: str
    conversation: int
    happened_at: datetime
    #: How its callback is spoilt, one of `SPOILT`; empty: not at all.
    spoilt: str = ""

    @property
    def event_id(self) -> str:
        """The id that its event must have."""
        stem = f"{self.provider}:main-{self.provider}"
        return {
            "telnyx": f"{stem}:{self.name}",
            "sendblue": f"{stem}:{self.name}:received:{LINE}",
            "sinch": f"{stem}:inbound:{self.name}",
            "whatsapp": f"{stem}:{bodies.NUMBER_ID}:{self.name}",
        }[self.provider]


def people(conversation: int) -> tuple[str, str, str]:
    """Who takes part in a conversation: no other one has the same three, nor the same first."""
    first, second, third = (f"+155555501{10 + (conversation + step) % 90}" for step in (0, 1, 3))
    return first, second, third


def body(fact: Fact, attempt: int) -> bytes:
    """The bytes that are posted; Telnyx alone says in them which attempt it is."""
    encoded = orjson.dumps(_MAKERS[fact.provider](fact, attempt))
    return SPOILT[fact.spoilt].spoil(encoded) if fact.spoilt else encoded


def posted(fact: Fact, attempt: int, now: datetime) -> bytes:
    """The whole request, proved as of now."""
    content = body(fact, attempt)
    return request(path(fact.provider), proof(fact.provider, content, now=now), content)


def _telnyx(fact: Fact, attempt: int) -> Body:
    who = people(fact.conversation)
    told = bodies.telnyx_received(
        sender=who[0],
        cc=[*who[1:], LINE],
        message=f"message-{fact.name}",
        fact=fact.name,
        attempt=attempt,
        after=_after(fact),
    ).body
    return dict(told)


def _sendblue(fact: Fact, _attempt: int) -> Body:
    who = people(fact.conversation)
    told = bodies.sendblue_received(
        sender=who[0],
        message_type="group",
        group_id=f"sb_group_{fact.conversation}",
        participants=(*who, LINE),
        handle=fact.name,
        after=_after(fact),
    ).body
    return dict(told)


def _sinch(fact: Fact, _attempt: int) -> Body:
    told = bodies.sinch_received(sender=people(fact.conversation)[0], after=_after(fact)).body
    return {**told, "id": fact.name}


def _whatsapp(fact: Fact, _attempt: int) -> Body:
    told: Body = bodies.whatsapp_received(
        sender=people(fact.conversation)[0], group_id=f"group-{fact.conversation}", after=_after(fact)
    ).body
    told["entry"][0]["changes"][0]["value"]["messages"][0]["id"] = fact.name
    return told


_MAKERS: dict[str, Callable[[Fact, int], Body]] = {
    "telnyx": _telnyx,
    "sendblue": _sendblue,
    "sinch": _sinch,
    "whatsapp": _whatsapp,
}


def _after(fact: Fact) -> float:
    return (fact.happened_at - NOW).total_seconds()


# --- callbacks that cannot be read, though they are authentic ---


class Spoilt(NamedTuple):
    """One way in which a body cannot be read, and the reason that its dead letter must give."""

    spoil: Callable[[bytes], bytes]
    reason: str


#: The name of the fact stays in each body, so that its capture can be told.
SPOILT: dict[str, Spoilt] = {
    "cut off": Spoilt(lambda encoded: encoded[:-1], "unreadable"),
    "no text": Spoilt(lambda encoded: b"\xff\xfe" + encoded, "unreadable"),
    "no JSON": Spoilt(lambda encoded: b"payload=" + encoded, "unreadable"),
    "far too deep": Spoilt(lambda encoded: b"[" * 50_000 + encoded + b"]" * 50_000, "unreadable"),
    "two at once": Spoilt(lambda encoded: encoded + encoded, "unreadable"),
}
#: One that a pipeline dies of, which is made to: see `deadly.py`.
DEADLY = "deadly"
SPOILT[DEADLY] = Spoilt(lambda encoded: encoded[:-1] + b',"' + MARK + b'":1}', "process_died")
