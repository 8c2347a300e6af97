"""Captures as a person reads them: a line each, one in full, and counts. Pure.

They show addresses and texts in full, since that is what was asked for; so they never go into a log.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from correlator.identity import Decision, decide
from receiver.captures import LogEntry
from receiver.provider import Provider
from receiver.selection import Fate, Quarantined
from receiver.tables import NOTHING, columns
from schemas.callback import Capture
from schemas.clock import format_time
from schemas.events import Event, Evidence, Identity, Linked, Parsed, Typing, Unreadable
from schemas.ids import Scope
from schemas.wire import encode_headers

_KEY_WIDTH: Final = 12
_FEW: Final = 2
#: How much of a body that is no text is shown.
_HEX_BYTES: Final = 4096
_HEX_WIDTH: Final = 32
HEADINGS: Final = ("received (UTC)", "capture", "account", "kind", "outcome", "conversation", "what")

#: How each kind of proof is told; the setting that holds its credentials follows.
_PROOFS: Final[Mapping[str, str]] = {
    "Ed25519": "the Ed25519 signature matched a key of",
    "SinchHmac": "the HMAC-SHA256 signature matched a secret of",
    "HubSignature": "the HMAC-SHA256 signature matched a secret of",
    "SharedSecret": "the header with the shared secret matched one of",
    "BasicAuth": "user and password matched a pair of",
    "UrlToken": "the last segment of the URL matched a token of",
}


# --- one line each ----------------------------------------------------------------------------------------


class Line(NamedTuple):
    """What a line is made of."""

    entry: LogEntry
    capture: Capture
    parsed: Sequence[Parsed]
    fate: Fate


def row(line: Line) -> tuple[str, ...]:
    """The cells of one line, as under `HEADINGS`."""
    capture = line.capture
    return (
        format_time(capture.received_at)[5:19].replace("T", " "),
        capture.id,
        f"{capture.provider}/{capture.account}",
        capture.kind,
        "+".join(line.fate.outcomes),
        _subjects([subject for _, subject in line.fate.events]),
        what(line),
    )


def record(line: Line) -> dict[str, Any]:
    """The same as a JSON object, with nothing shortened."""
    capture, fate = line.capture, line.fate
    return {
        "capture": capture.id,
        "position": line.entry.position,
        "received_at": format_time(capture.received_at),
        "provider": capture.provider,
        "account": capture.account,
        "kind": capture.kind,
        "assurance": None if fate.quarantined is not None else capture.assurance,
        "outcomes": list(fate.outcomes),
        "events": [{"type": event_type, "subject": subject} for event_type, subject in fate.events],
        "dead": list(fate.dead),
        "quarantined": fate.quarantined,
        "parsed": [parsed.type for parsed in line.parsed if isinstance(parsed, Event)],
        "bytes": size(line.entry),
    }


def what(line: Line) -> str:
    """Types and how many of each, who, and what went wrong."""
    fate = line.fate
    if fate.quarantined is not None:
        return fate.quarantined
    words = [event_type for event_type, _ in fate.events]
    if not words:
        words = [_word(parsed) for parsed in line.parsed if not isinstance(parsed, Unreadable)]
    said = " ".join(part for part in (", ".join(_counted(words)), who(line.parsed)) if part)
    letters = [f"dead letter: {reason}" for reason in _counted(fate.dead)]
    return "; ".join([*([said] if said else []), *letters, *_remark(line)]) or NOTHING


def _remark(line: Line) -> list[str]:
    """That no event of it is to be found, where one could be expected."""
    kept = [parsed for parsed in line.parsed if isinstance(parsed, Event) and not isinstance(parsed.body, Typing)]
    return ["no event in the stream"] if line.fate.outcomes == ("duplicate",) and kept else []


def _word(parsed: Event | Linked) -> str:
    if isinstance(parsed, Linked):
        return "link taken back" if parsed.undone else "link"
    return f"{parsed.type} (pub/sub only)" if isinstance(parsed.body, Typing) else parsed.type


def _counted(words: Iterable[str]) -> list[str]:
    return [word if count == 1 else f"{word} x {count}" for word, count in Counter(words).items()]


def who(parsed: Sequence[Parsed]) -> str:
    """Whose messages, reports on whom, who joined or left: the first few, and how many more."""
    people = dict.fromkeys(person for each in parsed if isinstance(each, Event) for person in _people(each))
    shown = list(people)[:_FEW]
    return ", ".join(shown) + (f" and {len(people) - _FEW} more" if len(people) > _FEW else "")


def _people(event: Event) -> list[str]:
    body: Any = event.body
    members = getattr(body, "members", None)
    if members is not None:
        return [*members.added, *members.removed, *members.requested]
    recipient = getattr(getattr(body, "status", None), "recipient", None)
    message = getattr(body, "message", None)
    sender = getattr(getattr(body, "typing", None), "sender", None) or getattr(message, "sender", None)
    found = recipient or (None if hasattr(body, "status") else sender)
    return [found] if found else []


def _subjects(subjects: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(subjects))
    if not distinct:
        return NOTHING
    more = f" and {len(distinct) - 1} more" if len(distinct) > 1 else ""
    return f"{distinct[0][:_KEY_WIDTH]}…{more}"


def size(entry: LogEntry) -> int:
    """The bytes of an entry's values, as the limits in `[retention]` count them."""
    return sum(map(len, entry.fields.values()))


# --- one in full ------------------------------------------------------------------------------------------


class Explained(NamedTuple):
    """One capture with all that can be found out about it."""

    line: Line
    provider: Provider | None
    scope: Scope
    #: The events in the stream that name it, each with its entry id.
    events: Sequence[tuple[str, Mapping[str, Any]]]
    #: Reason and detail of its dead letters.
    letters: Sequence[tuple[str, str]]
    #: Of facts that were published before, the event that was, by its id.
    originals: Mapping[str, Mapping[str, Any]]
    #: What each key resolves to by now; keys that nobody heard of are missing.
    survivors: Mapping[str, str]


def page(shown: Explained) -> str:
    """Everything about one capture, section by section."""
    sections = [
        columns(_facts(shown)),
        "Headers\n" + _indented(_headers(shown.line.capture)),
        "Body\n" + _indented(body_text(shown.line.capture.body)),
        *(f"Event {number}\n{_indented(columns(rows))}" for number, rows in enumerate(_elements(shown), 1)),
    ]
    if shown.letters:
        sections.append("Dead letters\n" + _indented(columns(shown.letters)))
    return "\n".join(sections)


def document(shown: Explained) -> dict[str, Any]:
    """The same as a JSON object."""
    capture = shown.line.capture
    return {
        **record(shown.line),
        "accepted": acceptance(shown),
        "facts": msgspec.to_builtins(capture.facts),
        "headers": orjson.loads(encode_headers(capture.headers)),
        "body": body_text(capture.body),
        "events": [
            {"entry": entry, "id": event["id"], "type": event["type"], "subject": event["subject"]}
            | {"sequence": event["sequence"]}
            for entry, event in shown.events
        ],
        "elements": [dict(rows) for rows in _elements(shown)],
        "dead": [{"reason": reason, "detail": detail} for reason, detail in shown.letters],
    }


def _facts(shown: Explained) -> list[tuple[str, str]]:
    entry, capture = shown.line.entry, shown.line.capture
    facts: dict[str, Any] = msgspec.to_builtins(capture.facts)
    return [
        ("capture", capture.id),
        ("account", f"{capture.provider}/{capture.account}"),
        ("kind", capture.kind),
        ("received", format_time(capture.received_at)),
        ("quarantine entry" if isinstance(entry, Quarantined) else "log position", entry.position),
        ("outcome", _outcome(shown.line)),
        ("accepted", acceptance(shown)),
        ("account facts", _values(facts) if facts else "none but the defaults"),
        ("bytes", str(len(capture.body))),
    ]


def _values(value: Mapping[str, Any]) -> str:
    """Settings or ends of a link as a person writes them."""
    spelled = {name: ", ".join(item) if isinstance(item, list | tuple) else str(item) for name, item in value.items()}
    return "; ".join(f"{name}: {item}" for name, item in spelled.items())


def _outcome(line: Line) -> str:
    words = " and ".join(line.fate.outcomes)
    why = {
        "waiting": ": the pipeline has not come to it yet",
        "duplicate": ": no event in the stream and no dead letter names it",
        "quarantined": ": it was never parsed, and nothing was published",
    }
    return words + why.get(words, "")


def acceptance(shown: Explained) -> str:
    """Why a capture was let in, or why not, in words."""
    capture, setting = shown.line.capture, f"accounts.{shown.line.capture.account}"
    if shown.line.fate.quarantined is not None:
        return f"no: {shown.line.fate.quarantined}; kept aside, as {setting}.on_unauthentic says"
    if capture.kind != "callback":
        return f"{capture.assurance}: handed in by a holder of server.api_tokens or of the configuration"
    if capture.assurance == "none":
        return f"none: {setting} had no credentials, and {setting}.unsafe_no_auth let anything in"
    proofs = [
        f"{_PROOFS[type(scheme).__name__]} {setting}.{scheme.setting}"
        for scheme in (shown.provider.schemes if shown.provider else ())
        if scheme.assurance == capture.assurance
    ]
    return f"{capture.assurance}: {', or '.join(proofs) or 'by a scheme that this version does not know'}"


def _headers(capture: Capture) -> str:
    lines = [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in capture.headers]
    return _safe("\n".join(lines)) or "none were kept"


def body_text(body: bytes) -> str:
    """A body for people: JSON indented, other text as it is, anything else in hexadecimal digits."""
    if not body:
        return "empty"
    try:
        return _safe(orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode())
    except (orjson.JSONDecodeError, TypeError):
        pass  # no JSON, or such as orjson cannot write: it is shown as text then
    try:
        return _safe(body.decode())
    except UnicodeDecodeError:
        rows = [body[at : at + _HEX_WIDTH].hex(" ") for at in range(0, min(len(body), _HEX_BYTES), _HEX_WIDTH)]
        more = [f"… and {len(body) - _HEX_BYTES} bytes more"] if len(body) > _HEX_BYTES else []
        return "\n".join([*rows, *more])


def _safe(text: str) -> str:
    """A text of several lines with nothing in it that a terminal would obey."""
    return "".join([character if character.isprintable() or character == "\n" else " " for character in text])


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


# --- its elements, and where their conversations come from ------------------------------------------------


def _elements(shown: Explained) -> list[list[tuple[str, str]]]:
    """What was read from it, one after the other; then what follows from that and is in the stream."""
    told = {event["id"]: (entry, event) for entry, event in shown.events}
    elements = [_element(shown, parsed, told) for parsed in shown.line.parsed if not isinstance(parsed, Unreadable)]
    own = {parsed.id for parsed in shown.line.parsed if isinstance(parsed, Event)}
    return elements + [
        [("type", event["type"]), ("id", name), ("in the stream", _place(entry, event)), ("because", "of the others")]
        for name, (entry, event) in told.items()
        if name not in own
    ]


def _element(shown: Explained, parsed: Event | Linked, told: Mapping[str, Any]) -> list[tuple[str, str]]:
    if isinstance(parsed, Linked):
        return [("type", _word(parsed)), ("id", parsed.id), ("of", _values(msgspec.to_builtins(parsed.link)))]
    rows = [("type", parsed.type), ("id", parsed.id), ("in the stream", _whereabouts(shown, parsed, told))]
    if parsed.evidence is None:
        return [*rows, ("conversation", "none: it is about the account as a whole")]
    decision = decide(shown.scope, parsed.id, parsed.evidence)
    entry = told.get(parsed.id) or (None, shown.originals.get(parsed.id))
    rows.append(("evidence", evidence_text(parsed.evidence, shown.line.capture)))
    return [*rows, ("conversation", _destination(decision, entry[1], shown.survivors))]


def _whereabouts(shown: Explained, parsed: Event, told: Mapping[str, Any]) -> str:
    if parsed.id in told:
        return _place(*told[parsed.id])
    if isinstance(parsed.body, Typing):
        return "no: such events are published to those who listen, and not kept"
    if shown.line.fate.waiting:
        return "not yet"
    original = shown.originals.get(parsed.id)
    if original is None:
        return "no: no event with this id is kept there any more"
    return f"as an event of {original['data']['capture']}, sequence {_number(original)}: this one is a duplicate"


def _place(entry: str, event: Mapping[str, Any]) -> str:
    return f"sequence {_number(event)} of {event['subject']}, entry {entry}"


def _number(event: Mapping[str, Any]) -> str:
    return str(event["sequence"]).lstrip("0")


def evidence_text(evidence: Evidence, capture: Capture) -> str:
    """What an element tells about its conversation, in words."""
    if evidence.identity is not None:
        return _IDENTITIES[evidence.identity.kind](evidence.identity)
    if not evidence.pointers:
        return "nothing but the event itself, so the conversation is provisional"
    ids = ", ".join(f"{pointer.kind} {' '.join(pointer.parts)}" for pointer in evidence.pointers)
    until = f"; until then the pair with the default line {capture.facts.default_line}" if evidence.fallback else ""
    return f"only ids that may lead to it ({ids}): provisional until something tells whose they are{until}"


_IDENTITIES: Final[Mapping[str, Callable[[Identity], str]]] = {
    "group": lambda identity: f"the group id {identity.parts[-1]}",
    "set": lambda identity: f"the complete set of its {len(identity.parts)} addresses: {', '.join(identity.parts)}",
    "pair": lambda identity: f"the pair of {identity.parts[0]} and {identity.parts[1]}",
    "user": lambda identity: f"the line {identity.parts[0]} and the user id {identity.parts[1]}",
}


def _destination(decision: Decision, event: Mapping[str, Any] | None, survivors: Mapping[str, str]) -> str:
    """The key that the evidence wants, where the event went, and what that resolves to by now."""
    went = decision.key if event is None else event["subject"]
    now = survivors.get(went)
    steps = [str(went)]
    if went != decision.key:
        steps.append(f"since something else told whose it is (by itself: {decision.key})")
    if now is not None and now != went:
        steps.append(f"by now merged into {now}")
    return ", ".join(steps)


# --- counts -----------------------------------------------------------------------------------------------


class Tally:
    """Counts captures as they go by; it holds counts, and nothing of any capture."""

    def __init__(self) -> None:
        self.captures = 0
        self.size = 0
        self._first = self._last = ""
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in ("account", "kind", "outcome", "event")}

    def add(self, entry: LogEntry, fate: Fate) -> None:
        """Count one capture."""
        fields = entry.fields
        self.captures += 1
        self.size += size(entry)
        received = _field(fields, b"received_at")
        self._first = min(self._first or received, received)
        self._last = max(self._last, received)
        self._counts["account"][f"{_field(fields, b'provider')}/{_field(fields, b'account')}"] += 1
        self._counts["kind"][_field(fields, b"kind", "callback")] += 1
        self._counts["outcome"].update(fate.outcomes)
        self._counts["event"].update(event_type for event_type, _ in fate.events)

    def record(self) -> dict[str, Any]:
        """The counts as a JSON object."""
        named = {f"{name}s": dict(sorted(counts.items())) for name, counts in self._counts.items()}
        return {"captures": self.captures, "bytes": self.size, "first": self._first, "last": self._last, **named}

    def table(self) -> str:
        """The counts as a person reads them."""
        rows = [("captures", "", f"{self.captures:,}"), ("bytes", "", f"{self.size:,}")]
        for name, counts in self._counts.items():
            rows += [(name, key, f"{count:,}") for key, count in sorted(counts.items(), key=lambda item: -item[1])]
        width = max(len(cell) for _, _, cell in rows)
        return columns([(*front, f"{cell:>{width}}") for *front, cell in rows]) + (
            f"\nReceived from {self._first} to {self._last}.\n"
        )


def _field(fields: Mapping[bytes, bytes], name: bytes, absent: str = NOTHING) -> str:
    return fields.get(name, absent.encode()).decode(errors="replace")
