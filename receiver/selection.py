"""Which captures are meant: by time, place, kind of event, conversation, address, id, and what became of them. Pure.

A selection judges in up to three steps, each dearer than the one before: the entry as it stands in the log, what became
of it (a look into the streams), what it says (parsing). `stages` tells which of the latter two it needs at all, so that
a selection by time only never parses anything.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal, get_args

import msgspec

from correlator.identity import decide
from receiver.captures import LogEntry
from receiver.queries import Directory, read_address
from schemas.address import Address
from schemas.callback import Capture
from schemas.clock import unix_milliseconds
from schemas.errors import CallbackError, PartylineError
from schemas.events import EVENT_TYPES, Event, Evidence, Link, Linked, Parsed, Unreadable
from schemas.ids import Scope

Outcome = Literal["published", "duplicate", "dead", "quarantined", "waiting"]
#: How a person may write a moment (see `read_time`).
TIME_FORMS: Final = "2026-11-21, 2026-11-21T12:00, 2h, 7d, today, yesterday; UTC without a zone"
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

#: The form of a conversation's key, or of an account's as a whole.
_KEY = re.compile("(cv|ac)_[a-z2-7]{26}")
_CAPTURE = re.compile("cp_[0-9a-f]{32}")
_RELATIVE = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAYS_AGO = {"today": 0, "yesterday": 1}
#: What only follows from facts, or may: a capture alone does not tell that it had these events.
_CONSEQUENCES = frozenset({"conversation.merged", "conversation.members", "conversation.settings"})


class SelectionError(PartylineError):
    """Captures are asked for in a way that cannot be used; the message names the option."""

    reason = "selection"


# --- what is judged ---------------------------------------------------------------------------------------


class Quarantined(LogEntry, frozen=True):
    """An entry of the quarantine: unauthentic, so nobody may parse it."""


class Fate(msgspec.Struct, frozen=True):
    """What became of a capture, as the streams tell it."""

    #: Type and subject of each event in the stream that names it, in order.
    events: tuple[tuple[str, str], ...] = ()
    #: The reason of each dead letter that names it.
    dead: tuple[str, ...] = ()
    #: The pipeline has not come to it yet.
    waiting: bool = False
    #: Of an entry of the quarantine, why it was not accepted.
    quarantined: str | None = None

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """One word, or two where one part was published and another could not be read."""
        if self.quarantined is not None:
            return ("quarantined",)
        both: list[Outcome] = []
        both += ["published"] if self.events else []
        both += ["dead"] if self.dead else []
        return tuple(both) or (("waiting",) if self.waiting else ("duplicate",))


class Stages(msgspec.Struct, frozen=True):
    """What a selection needs to know beyond the log entry itself."""

    #: What became of the capture: `Selection.takes_fate`.
    fate: bool
    #: What it says: `Selection.takes_parsed`.
    parsed: bool


# --- the selection ----------------------------------------------------------------------------------------


class Selection(msgspec.Struct, frozen=True):
    """What captures must be like; whatever is empty asks nothing. Values of one option are alternatives."""

    #: When it was written into its log, which for an import is the time of the import; `until` is no longer in it.
    since: datetime | None = None
    until: datetime | None = None
    providers: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    outcomes: frozenset[Outcome] = frozenset()
    types: frozenset[str] = frozenset()
    #: Every key that resolves to what is meant (see `with_conversations`).
    conversations: frozenset[str] = frozenset()
    addresses: frozenset[Address] = frozenset()
    #: Ids of captures, of events, and of anything of a provider's.
    ids: frozenset[str] = frozenset()

    @property
    def stages(self) -> Stages:
        """What has to be looked up or parsed to judge by it."""
        by_fate = self.outcomes or self.conversations or self.types & _CONSEQUENCES
        other_ids = any(_CAPTURE.fullmatch(each) is None for each in self.ids)
        by_content = self.types or self.conversations or self.addresses or other_ids
        return Stages(bool(by_fate), bool(by_content))

    @property
    def after(self) -> str:
        """The log position that everything meant stands after, as `CaptureLog.scan` takes it; empty: the beginning."""
        return "" if self.since is None else f"{unix_milliseconds(self.since) - 1}-{2**64 - 1}"

    @property
    def last(self) -> str:
        """The log position that nothing meant stands after; `+`: the end."""
        return "+" if self.until is None else f"{unix_milliseconds(self.until) - 1}-{2**64 - 1}"

    def with_conversations(self, keys: Iterable[str]) -> "Selection":
        """The same, once each key asked for is known with all that resolve to the same conversation."""
        return msgspec.structs.replace(self, conversations=frozenset(keys))

    def takes_entry(self, entry: LogEntry) -> bool:
        """Whether it can be meant, by its place in the log and its own fields."""
        fields = entry.fields
        return (
            self._is_in_time(entry.position)
            and _among(fields.get(b"provider"), self.providers)
            and _among(fields.get(b"account"), self.accounts)
            and (not self.ids or self.stages.parsed or _among(fields.get(b"id"), self.ids))
            and not (isinstance(entry, Quarantined) and self.stages.parsed)
        )

    def takes_fate(self, fate: Fate) -> bool:
        """Whether it can be meant, by what became of it."""
        return not self.outcomes or not self.outcomes.isdisjoint(fate.outcomes)

    def takes_parsed(
        self, capture: Capture, parsed: Sequence[Parsed], scope: Scope | None = None, fate: Fate | None = None
    ) -> bool:
        """Whether it is meant, by what it says.

        Args:
            capture: the capture itself.
            parsed: its elements.
            scope: what the keys of its account are derived under; None: a conversation is not told from the bytes.
            fate: what became of it; None: unknown, as in an archive.
        """
        published = fate.events if fate else ()
        types = {each for each, _ in published} | {each.type for each in parsed if isinstance(each, Event)}
        return (
            (not self.types or not types.isdisjoint(self.types))
            and (not self.conversations or self._is_of_conversation(parsed, scope, published))
            and (not self.addresses or any(_names(each, self.addresses) for each in parsed))
            and (not self.ids or capture.id in self.ids or any(_ids_of(each) & self.ids for each in parsed))
        )

    def _is_in_time(self, position: str) -> bool:
        if self.since is None and self.until is None:
            return True
        milliseconds = int(position.partition("-")[0])
        return (self.since is None or unix_milliseconds(self.since) <= milliseconds) and (
            self.until is None or milliseconds < unix_milliseconds(self.until)
        )

    def _is_of_conversation(
        self, parsed: Sequence[Parsed], scope: Scope | None, published: Iterable[tuple[str, str]]
    ) -> bool:
        if any(subject in self.conversations for _, subject in published):
            return True
        return scope is not None and any(not self.conversations.isdisjoint(keys_of(each, scope)) for each in parsed)


#: What asks nothing.
EVERYTHING: Final = Selection()


def _among(value: bytes | None, wanted: frozenset[str]) -> bool:
    return not wanted or (value is not None and value.decode(errors="replace") in wanted)


# --- what an element says ---------------------------------------------------------------------------------


def keys_of(parsed: Parsed, scope: Scope) -> set[str]:
    """The conversation keys that an element wants by itself, or speaks of; before anything is merged."""
    if isinstance(parsed, Linked):
        return {parsed.link.one, parsed.link.other} if isinstance(parsed.link, Link) else set()
    if isinstance(parsed, Unreadable):
        return set()
    if parsed.evidence is None:
        return {scope.whole_account()}
    decision = decide(scope, parsed.id, parsed.evidence)
    return {key for key in (decision.key, decision.fallback) if key}


def addresses_of(parsed: Parsed) -> set[str]:
    """Everybody and every line that an element names, wherever it does."""
    if isinstance(parsed, Unreadable):
        return set()
    if isinstance(parsed, Linked):
        return set() if isinstance(parsed.link, Link) else {parsed.link.one, parsed.link.other}
    return {text for part in (parsed.evidence, parsed.body) for text in _texts(msgspec.to_builtins(part))}


def _names(parsed: Parsed, addresses: frozenset[Address]) -> bool:
    return not addresses_of(parsed).isdisjoint(addresses)


def _texts(value: Any) -> Iterable[str]:
    """Every text anywhere in a JSON value. An address is one as a whole, so no text of a message is taken for one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _ids_of(parsed: Parsed) -> set[str]:
    """Every id that an element goes by: its event's, and all of the provider's."""
    if isinstance(parsed, Unreadable):
        return set()
    if isinstance(parsed, Linked):
        return {parsed.id}
    body = parsed.body
    parts = [getattr(body, name, None) for name in ("message", "reaction", "edited", "revoked")]
    found = {getattr(part, name, None) for part in parts for name in ("id", "reply_to", "message_id")}
    found |= {parsed.id, *parsed.provider_ids.values()}
    return {each for each in found if each} | (_ids_in(parsed.evidence) if parsed.evidence else set())


def _ids_in(evidence: Evidence) -> set[str]:
    pointers = evidence.pointers + (evidence.sent.message if evidence.sent else ())
    groups = [evidence.identity, evidence.sent.group if evidence.sent else None]
    found = {part for pointer in pointers for part in pointer.parts}
    return found | {group.parts[-1] for group in groups if group is not None and group.kind == "group"}


# --- from option texts ------------------------------------------------------------------------------------


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A selection as a person writes it: each option's texts, unread."""

    provider: Sequence[str] = ()
    account: Sequence[str] = ()
    since: str | None = None
    until: str | None = None
    outcome: Sequence[str] = ()
    type: Sequence[str] = ()
    conversation: Sequence[str] = ()
    address: Sequence[str] = ()
    id: Sequence[str] = ()


def read_selection(asked: Asked, now: datetime, directory: Directory) -> Selection:
    """What option texts select; SelectionError names the first that cannot be used, and says what can.

    Args:
        asked: the texts.
        now: what `2h` and `yesterday` count from.
        directory: the providers there are, and the accounts that tell an address's provider.
    """
    since = None if asked.since is None else read_time(asked.since, now, "--since")
    until = None if asked.until is None else read_time(asked.until, now, "--until")
    if since is not None and until is not None and until <= since:
        raise SelectionError("--until: that is no later than --since, so nothing can be between them")
    return Selection(
        since=since,
        until=until,
        providers=_words("--provider", asked.provider, directory.providers),
        accounts=frozenset(asked.account),
        outcomes=_words("--outcome", asked.outcome, OUTCOMES),
        types=_words("--type", asked.type, sorted(EVENT_TYPES)),
        conversations=_keys(asked.conversation),
        addresses=frozenset(_address(text, asked, directory) for text in asked.address),
        ids=frozenset(asked.id),
    )


def read_time(text: str, now: datetime, option: str) -> datetime:
    """A moment as a person writes one, in UTC unless it has a zone; SelectionError if it is none.

    A day or a date begins at midnight, but as `--until` it is in the selection as a whole.
    """
    day = _day(text, now)
    if day is not None:
        return day + timedelta(days=1) if option == "--until" else day
    relative = _RELATIVE.fullmatch(text)
    try:
        if relative:
            moment = now - timedelta(**{_UNITS[relative[2]]: int(relative[1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _after_1970(moment)
    except (ValueError, OverflowError):
        raise SelectionError(
            f"{option}: no time that can be read; write one as 2026-11-21, 2026-11-21T12:00 (UTC, unless a zone as in "
            "+01:00 follows), 30m, 2h, 7d, today or yesterday"
        ) from None


def _day(text: str, now: datetime) -> datetime | None:
    """Midnight of a day named by a word or a date."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if text in _DAYS_AGO:
        return midnight - timedelta(days=_DAYS_AGO[text])
    try:
        named = date.fromisoformat(text)
        return _after_1970(datetime(named.year, named.month, named.day, tzinfo=UTC))
    except ValueError:
        return None


def _after_1970(moment: datetime) -> datetime:
    """The moment, as late as log positions can be."""
    return max(moment, datetime(1970, 1, 2, tzinfo=UTC))


def _words(option: str, given: Sequence[str], known: Iterable[Any]) -> frozenset[Any]:
    words = tuple(known)
    for word in given:
        if word not in words:
            raise SelectionError(f"{option}: there is no such one; there are {', '.join(sorted(words))}")
    return frozenset(given)


def _keys(given: Sequence[str]) -> frozenset[str]:
    if any(_KEY.fullmatch(key) is None for key in given):
        raise SelectionError("--conversation: that is no conversation's key: one is cv_ and 26 characters")
    return frozenset(given)


def _address(text: str, asked: Asked, directory: Directory) -> Address:
    """One address, in any spelling; a single provider or account among the options says whose it is."""
    providers = {*asked.provider, *(directory.accounts[name] for name in asked.account if name in directory.accounts)}
    try:
        return read_address(text, providers.pop() if len(providers) == 1 else None, directory)
    except CallbackError as error:
        raise SelectionError(f"--address: {error}") from None


#: What makes a scope of a capture's provider and account.
ScopeOf = Callable[[Capture], Scope]
