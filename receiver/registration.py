"""Sends of ours that are registered: whether a body can be read, and which conversations it is of. Pure.

The answer to a registration is derived from its body alone, before anything is looked up. So a key may be provisional,
or merged by now; such keys resolve like any other.
"""

from collections.abc import Iterable, Sequence

import msgspec

from correlator.identity import decide, kind_of
from receiver.provider import Provider
from receiver.timeliness import in_time
from schemas.address import Address, is_phone
from schemas.callback import Callback, Capture
from schemas.errors import ParseError
from schemas.events import Event, Evidence, Parsed, Unreadable
from schemas.ids import CaptureId, ConversationKey, Scope


class Registered(msgspec.Struct, frozen=True):
    """One conversation that a registered send is of."""

    #: The one other person of a direct conversation; None for a group, and where the send does not tell.
    recipient: Address | None
    key: ConversationKey


def outbound(identifier: CaptureId, callback: Callback) -> Capture:
    """The capture that a registration becomes."""
    return Capture(
        id=identifier,
        kind="outbound",
        provider=callback.provider,
        account=callback.account,
        received_at=callback.received_at,
        assurance=callback.assurance,
        headers=callback.headers,
        body=callback.body,
        facts=callback.facts,
    )


def readable(capture: Capture, provider: Provider) -> list[Event]:
    """The events in a registration; ParseError where the pipeline would find none, so that it is refused at once."""
    parsed = [in_time(item, capture, provider) for item in provider.register(capture)]
    events = [item for item in parsed if isinstance(item, Event)]
    if not events:
        raise _unreadable(parsed)
    return events


def _unreadable(parsed: Iterable[Parsed]) -> ParseError:
    for item in parsed:
        if isinstance(item, Unreadable):
            return ParseError(item.path, item.detail)
    return ParseError("$", "nothing in it is a send")


def conversations(events: Sequence[Event], scope: Scope, lines: frozenset[Address]) -> list[Registered]:
    """Each conversation of a registration once, in its order.

    Args:
        events: what it says.
        scope: of its account.
        lines: the account's own addresses.
    """
    found = [
        Registered(recipient(event.evidence, lines), decide(scope, event.id, event.evidence).key)
        for event in events
        if event.evidence is not None
    ]
    return list(dict.fromkeys(found))


def recipient(evidence: Evidence, lines: frozenset[Address]) -> Address | None:
    """The one other person of a direct conversation, as far as the evidence shows who that is."""
    identity = evidence.identity
    if identity is None:
        return evidence.contact
    if kind_of(identity) == "group":
        return None
    if identity.kind == "user":
        return _phone_of(Address(identity.parts[1]), evidence)
    others = {Address(part) for part in identity.parts}.difference(lines, evidence.lines)
    return others.pop() if len(others) == 1 else evidence.contact


def _phone_of(user: Address, evidence: Evidence) -> Address:
    """A user by phone, where the send shows it, as conversations do; else by the id."""
    phones = {address for pair in evidence.same_user if user in pair for address in pair if is_phone(address)}
    return max(phones, default=user)
