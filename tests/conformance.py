"""Fixtures of provider callbacks and of registered sends, read from disk.

`tests/fixtures/<provider>/<event>__<variant>/` holds one callback, `registered__<variant>/` one registered send:

`body`          the bytes, exactly as they would arrive; never re-serialised
`request.json`  {"what": one sentence on what must be true, "kind"?: `outbound` for a registered send, "received_at"?,
                "assurance"?, "facts"?: account facts}
`events.json`   what reading it must give, in order, worked out by reading: see `plain`; a body of which nothing can
                be read is a list of the one reason and path
"""

from pathlib import Path
from typing import Any

import msgspec
import orjson

from receiver.provider import Provider
from schemas.callback import AccountFacts, Capture
from schemas.clock import format_time, parse_time
from schemas.errors import ParseError
from schemas.events import Event, Parsed, Unreadable
from schemas.ids import CaptureId
from schemas.wire import encode_json

FIXTURES = Path(__file__).parent / "fixtures"


def folders() -> list[Path]:
    """Every fixture folder, sorted."""
    return sorted(path.parent for path in FIXTURES.glob("*/*/body"))


def load(folder: Path) -> Capture:
    """The capture a fixture stands for, in an account named `main`."""
    request = orjson.loads((folder / "request.json").read_bytes())
    received_at = parse_time(request.get("received_at", "2026-11-21T12:00:00.000Z"))
    assert received_at is not None
    return Capture(
        id=CaptureId("cp_fixture"),
        kind=request.get("kind", "callback"),
        provider=folder.parent.name,
        account="main",
        received_at=received_at,
        assurance=request.get("assurance", "signed"),
        headers=((b"content-type", b"application/json"),),
        body=(folder / "body").read_bytes(),
        facts=msgspec.convert(request.get("facts", {}), AccountFacts),
    )


def expected(folder: Path) -> list[Any]:
    """What the fixture says parsing must give."""
    result = orjson.loads((folder / "events.json").read_bytes())
    assert isinstance(result, list)
    return result


def read(provider: Provider, capture: Capture) -> list[Any]:
    """What a provider makes of a capture, as JSON values; a body it refuses as a whole is a list of that."""
    reader = provider.register if capture.kind == "outbound" else provider.parse
    try:
        return [plain(item) for item in reader(capture)]
    except ParseError as error:
        return [{"unreadable": error.reason, "path": error.path}]


def plain(parsed: Parsed) -> Any:
    """A parse result as JSON values: an event with the tag of its body as `type`, times as text.

    {"id", "type", "occurred_at", "provider_type", "provider_ids", "evidence", ...the body's members}, or
    {"unreadable": reason, "path"}. Fields at their default are left out where the struct leaves them out.
    """
    if isinstance(parsed, Unreadable):
        return {"unreadable": parsed.reason, "path": parsed.path}
    assert isinstance(parsed, Event), "a person's link comes from no provider"
    return {
        "id": parsed.id,
        "occurred_at": None if parsed.occurred_at is None else format_time(parsed.occurred_at),
        "provider_type": parsed.provider_type,
        "provider_ids": parsed.provider_ids,
        "evidence": orjson.loads(encode_json(parsed.evidence)),
        **orjson.loads(encode_json(parsed.body)),
    }
