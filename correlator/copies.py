"""The same message seen by several of our lines in one group: which event is a copy of which. Pure.

Each line is told by a callback of its own, with ids of its own, so only what was said can match, and when: both are
received within the window, and both tell of a time within it, so that one that comes again later is no new message.
One line never sees a message twice: a person who writes the same thing again is told apart by the line that has it.
"""

from hashlib import blake2b

import msgspec

from correlator.records import Record
from schemas.address import Address
from schemas.events import Message
from schemas.ids import EventId
from schemas.value import Value
from schemas.wire import encode_json

#: How long after a message a callback of it is still told from a new one, and of how many messages in one group.
_LATE_MILLISECONDS = 10 * 60 * 1000
_MOST = 50


class Sighting(Value, frozen=True, array_like=True):
    """One message of a person, as far as our lines were told of it."""

    content: str
    #: Its time, and when it was received, by the first callback of it, Unix milliseconds.
    at: int
    received_at: int
    #: The event of each telling, with the lines that it was told to; the first is the original.
    events: tuple[tuple[EventId, tuple[Address, ...]], ...]

    def knows(self, lines: tuple[Address, ...]) -> bool:
        """Whether one of these lines was told already."""
        return any(not frozenset(told).isdisjoint(lines) for _, told in self.events)


class Telling(Value, frozen=True):
    """One callback of a message: the event, the lines it was sent to, its time and its receipt (Unix milliseconds)."""

    event: EventId
    lines: tuple[Address, ...]
    at: int
    received_at: int


class Recent(Record, frozen=True):
    """What was lately said in one group: as much as a copy may still come of."""

    sightings: tuple[Sighting, ...] = ()


def content_of(message: Message) -> str:
    """A short name for who said what: sender, text and media."""
    media = [(item.content_type, item.size, item.sha256, item.filename) for item in message.media]
    said = encode_json([message.sender, message.text, message.subject, media, message.content])
    return blake2b(said, digest_size=8).hexdigest()


def saw(known: Recent, message: Message, telling: Telling, window_milliseconds: int) -> tuple[Recent, EventId | None]:
    """Note that lines of ours were told of a message, and say of which event that is a copy.

    `window_milliseconds`: how far apart two tellings of one message may be.
    """
    kept = max(window_milliseconds, _LATE_MILLISECONDS)
    fresh = [one for one in known.sightings if telling.received_at - one.received_at <= kept]
    for sighting in fresh:
        if any(telling.event == told for told, _ in sighting.events):  # a redelivery
            original = sighting.events[0][0]
            return known, None if original == telling.event else original
    content = content_of(message)
    for at, sighting in enumerate(fresh):
        apart = abs(telling.at - sighting.at), abs(telling.received_at - sighting.received_at)
        near = max(apart) <= window_milliseconds
        if near and sighting.content == content and not sighting.knows(telling.lines):
            fresh[at] = msgspec.structs.replace(sighting, events=(*sighting.events, (telling.event, telling.lines)))
            return Recent(tuple(fresh)), sighting.events[0][0]
    new = Sighting(content, telling.at, telling.received_at, ((telling.event, telling.lines),))
    return Recent((*fresh[1 - _MOST :], new)), None
