"""What a capture says: the same code for live callbacks, for previews and for replays.

It always says something: what cannot be read is an `Unreadable`, and never keeps its neighbours from being read.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import structlog

from correlator.gathering import Entry
from receiver.captures import LogEntry
from receiver.doubt import DEATHS
from receiver.links import read_link
from receiver.provider import Provider
from receiver.timeliness import in_time
from schemas.callback import UNKNOWN, AccountFacts, Capture
from schemas.errors import ParseError
from schemas.events import Parsed, Unreadable
from schemas.ids import CaptureId
from schemas.wire import decode_capture

log = structlog.get_logger()


def read(entry: LogEntry, providers: Mapping[str, Provider], *, replayed: bool = False) -> Entry:
    """What one log entry says; a damaged entry says that it is Unreadable. `replayed`: a person has it read again."""
    try:
        capture = decode_capture(entry.fields)
    except ParseError as error:
        return Entry(entry.position, _stand_in(entry), (Unreadable("damaged", error.path, error.detail),), replayed)
    return Entry(entry.position, capture, tuple(_read(capture, providers)), replayed)


def _read(capture: Capture, providers: Mapping[str, Provider]) -> list[Parsed]:
    """By the kind of capture: a link is of no provider's making, everything else is read by its own."""
    if capture.kind == "link":
        return _parsed(capture, lambda capture: [*read_link(capture)])
    provider = providers.get(capture.provider)
    if provider is None:
        return [Unreadable("unknown_provider", "$", f"no provider {capture.provider}")]
    return [in_time(item, capture, provider) for item in parse(capture, provider)]


def given_up(entry: LogEntry) -> Entry:
    """A capture that pipelines die of, as a dead letter: nothing of it is looked at any more but its id."""
    detail = f"{DEATHS} pipelines died at it, one after the other"
    return Entry(entry.position, _stand_in(entry), (Unreadable("process_died", "$", detail),))


def _stand_in(entry: LogEntry) -> Capture:
    """A capture for the dead letter of an entry that cannot be decoded: its id, or else its position."""
    identifier = entry.fields.get(b"id", entry.position.encode()).decode(errors="replace")
    return Capture(
        id=CaptureId(identifier),
        kind="callback",
        provider=UNKNOWN,
        account=UNKNOWN,
        received_at=datetime.fromtimestamp(0, UTC),
        assurance="none",
        headers=(),
        body=b"",
        facts=AccountFacts(),
    )


def parse(capture: Capture, provider: Provider) -> list[Parsed]:
    """The provider's reading of a capture. It always has something: what cannot be read is an Unreadable."""
    return _parsed(capture, provider.register if capture.kind == "outbound" else provider.parse)


def _parsed(capture: Capture, reader: Callable[[Capture], list[Parsed]]) -> list[Parsed]:
    try:
        parsed = reader(capture)
    except ParseError as error:
        return [Unreadable(error.reason, error.path, error.detail)]
    except Exception as error:
        log.exception("parser failed", capture=capture.id, provider=capture.provider)
        return [Unreadable("parser_failed", "$", type(error).__name__)]
    return parsed or [Unreadable("nothing_found", "$", "no element that could be an event")]
