"""What each provider's callbacks become, learned from its own parser: by their words and fields, and ours. Pure.

Nobody writes this down by hand. A parser is given callbacks, and wherever a value that stands in one place only turns
up in the event, that is what the field becomes. The result is `receiver/documents/providers.json`, which `partyline
providers` shows; `make documents` makes it of the callbacks under `tests/fixtures`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from receiver.body import decode
from receiver.provider import Provider
from schemas.address import AddressError, parse_address
from schemas.callback import CAPTURE_KINDS, Capture
from schemas.clock import format_time, parse_time
from schemas.errors import ParseError
from schemas.events import Event
from schemas.wire import encode_json

FILE = "providers.json"

#: Shorter values turn up by chance.
_SHORTEST = 3
#: Words that no provider uses, but a fixture does.
_UNRECOGNISED = "unrecognised"
#: What is the provider's own object, unchanged.
_VERBATIM = ("notice.detail.", "message.content", "detail")
_INDEX = re.compile(r"\[\d+\]")


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one provider's callbacks become, as far as its callbacks in the fixtures show."""

    #: The provider's word for a callback, and the types of event that come of it.
    callbacks: dict[str, list[str]]
    #: The same of sends that are registered.
    sends: dict[str, list[str]]
    #: By type of event: our field, and theirs that it was seen to come from.
    fields: dict[str, dict[str, list[str]]]


def learned(captures: Iterable[Capture], provider: Provider) -> Reading:
    """What a provider makes of captures of its own."""
    words: dict[str, dict[str, set[str]]] = {kind: defaultdict(set) for kind in CAPTURE_KINDS}
    fields: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for capture in captures:
        for event in _events(capture, provider):
            if event.type == _UNRECOGNISED:
                continue
            words[capture.kind][event.provider_type].add(event.type)
            for ours, theirs in _traced(capture, event, provider.name):
                fields[event.type][ours].add(theirs)
    every = {event_type: _sorted(found) for event_type, found in sorted(fields.items())}
    return Reading(_sorted(words["callback"]), _sorted(words["outbound"]), every)


def _sorted(found: Mapping[str, set[str]]) -> dict[str, list[str]]:
    return {name: sorted(words) for name, words in sorted(found.items())}


def _events(capture: Capture, provider: Provider) -> list[Event]:
    reader = provider.register if capture.kind == "outbound" else provider.parse
    try:
        return [item for item in reader(capture) if isinstance(item, Event)]
    except ParseError:  # a callback that is there to be unreadable
        return []


def _traced(capture: Capture, event: Event, provider: str) -> Iterator[tuple[str, str]]:
    """Which of our fields come from which of theirs: those whose value stands in one place of the callback only."""
    origins = _origins(decode(capture.body).value, provider)
    for ours, value in _leaves(_shown(event), ""):
        theirs = origins.get(_told(value))
        if theirs is not None and len(theirs) == 1 and not ours.startswith(_VERBATIM):
            yield _general(ours), _general(next(iter(theirs)))


def _shown(event: Event) -> dict[str, Any]:
    """The parts of an event that a subscriber sees as they are, under the names that `data` has for them."""
    body = msgspec.json.decode(encode_json(event.body))
    del body["type"]
    at = {} if event.occurred_at is None else {"time": format_time(event.occurred_at)}
    shown: dict[str, Any] = {**at, "provider.ids": event.provider_ids, "conversation": _conversation(event), **body}
    return shown


def _conversation(event: Event) -> dict[str, Any]:
    """What tells whose conversation it is."""
    evidence = event.evidence
    if evidence is None:
        return {}
    decided: dict[str, Any] = {"lines": list(evidence.lines)}
    if evidence.identity is not None:
        decided[evidence.identity.kind] = list(evidence.identity.parts)
    return decided


def _origins(body: Any, provider: str) -> Mapping[str, set[str]]:
    """Each value of a callback, in the forms that it may take in an event, with the places that it stands at."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, value in _leaves(body, ""):
        for form in _forms(value, provider):
            found[form].add(path)
    return found


def _forms(value: Any, provider: str) -> set[str]:
    told = _told(value)
    if len(told) < _SHORTEST:
        return set()
    forms = {told, told.lower()}
    if (at := parse_time(told)) is not None:
        forms.add(format_time(at))
    try:
        address = parse_address(told, provider)
    except AddressError:
        address = None
    return forms if address is None else {*forms, str(address)}


def _told(value: Any) -> str:
    return "" if value is None or isinstance(value, bool) else str(value)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value within another that has none within itself, by its path."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(below, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _leaves(below, f"{path}[{index}]")
    else:
        yield path, value


def _general(path: str) -> str:
    """A path for any place in a list."""
    return _INDEX.sub("[]", path)
