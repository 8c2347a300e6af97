"""What a replay by the rules of today would change, without changing anything: events, and conversations.

The log is read from its beginning and folded in memory; what comes out is held against what is in the stream. That
tells a changed parser or identity rule: events that say something else, conversations that split, merge, change key.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import orjson

from correlator.gathering import Publication
from correlator.lookup import Lookup
from correlator.rebuild import Rebuild, name_of
from correlator.scripts import answer
from receiver.captures import LogEntry
from receiver.replay import Pace, Site, again, batches
from schemas.ids import ConversationKey, content_hash

_SCAN = 500
#: What differs from one publication of a fact to the next without saying anything else.
_CIRCUMSTANCES = ("replayed", "rollup", "copy_of")
_SHOWN = 20


class Told(NamedTuple):
    """An event as the stream has it."""

    id: str
    type: str
    subject: str
    capture: str
    #: Of its data, circumstances left out.
    content: str


class Difference(NamedTuple):
    """One event that would be another: `new`, `gone`, `type`, `subject` or `data`."""

    id: str
    type: str
    what: str


class Preview:
    """What would be different."""

    def __init__(self) -> None:
        self.captures = 0
        self.same = 0
        self.differences: dict[str, list[Difference]] = defaultdict(list)
        #: Of each difference, how many; only the first few are kept.
        self.counts: dict[str, int] = defaultdict(int)
        #: Keys of today, each with the several that it would come to; new ones, each with the several they hold.
        self.splits: dict[str, tuple[str, ...]] = {}
        self.merges: dict[str, tuple[str, ...]] = {}
        self.renamed: dict[str, str] = {}

    def note(self, event_id: str, event_type: str, what: str) -> None:
        """One event differs."""
        self.counts[what] += 1
        if len(self.differences[what]) < _SHOWN:
            self.differences[what].append(Difference(event_id, event_type, what))

    @property
    def empty(self) -> bool:
        """Whether nothing would be different."""
        return not (self.counts or self.splits or self.merges or self.renamed)


async def preview(
    site: Site,
    log: AsyncIterator[LogEntry],
    chosen: Callable[[LogEntry], bool],
    pace: Pace,
) -> Preview:
    """Fold the log in memory, and compare what it comes to with the stream, for the chosen captures."""
    found, told = Preview(), await _told(site)
    working = Rebuild(site.keyspace, site.settings.id_key)
    subjects: dict[bytes, ConversationKey] = {}
    captures: set[str] = set()
    async for batch in batches(log, pace):
        here = {entry.position for entry in batch if chosen(entry)}
        found.captures += len(here)
        readable = [again(entry) for entry in batch]
        captures.update(entry.capture.id for entry in readable if entry.position in here)
        for published in working.feed(readable):
            if published.entry.position in here:
                subjects[name_of(published.event.id)] = published.subject
                _compare(found, told.get(name_of(published.event.id)), published)
    for name, lost in told.items():
        if lost.capture in captures and name not in subjects:
            found.note(lost.id, lost.type, "gone")
    lookup = Lookup(site.redis, site.keyspace, site.settings.id_key)
    before = await lookup.survivors(ConversationKey(event.subject) for event in told.values())
    pairs = {
        (before[ConversationKey(event.subject)], working.survivor(subject))
        for name, subject in subjects.items()
        if (event := told.get(name)) is not None and event.subject.startswith("cv_")
    }
    _map_conversations(found, pairs)
    return found


async def _told(site: Site) -> dict[bytes, Told]:
    told: dict[bytes, Told] = {}
    after = "-"
    while entries := await answer(site.redis.xrange(site.keyspace.events, after, "+", count=_SCAN)):
        for _, fields in entries:
            event = orjson.loads(fields[b"event"])
            data = event["data"]
            one = Told(event["id"], event["type"], event["subject"], data["capture"], _content(data))
            told[name_of(one.id)] = one
        after = f"({entries[-1][0].decode()}"
    return told


def _content(data: Mapping[str, Any]) -> str:
    """What an event says, in short; but for its key, which is compared by itself, and for circumstances."""
    said = {name: value for name, value in data.items() if name not in _CIRCUMSTANCES}
    conversation = said.get("conversation") or {}
    said["conversation"] = {name: conversation[name] for name in ("kind", "provisional") if name in conversation}
    if isinstance(said.get("status"), dict):
        said["status"] = {**said["status"], "stale": None}
    said.pop("merged", None)
    return content_hash(orjson.dumps(said, option=orjson.OPT_SORT_KEYS))


def _compare(found: Preview, before: Told | None, published: Publication) -> None:
    event = published.event
    if before is None:
        found.note(event.id, event.type, "new")
        return
    data = msgspec.json.decode(published.half.at(0))["data"]
    if before.type != event.type:
        found.note(event.id, event.type, "type")
    elif before.content != _content(data):
        found.note(event.id, event.type, "data")
    else:
        found.same += 1


def _map_conversations(found: Preview, pairs: Iterable[tuple[ConversationKey, ConversationKey]]) -> None:
    """Which conversation of today comes to which, by the events that are in both."""
    forth: dict[str, set[str]] = defaultdict(set)
    back: dict[str, set[str]] = defaultdict(set)
    for before, after in pairs:
        forth[before].add(after)
        back[after].add(before)
    found.splits = {key: tuple(sorted(into)) for key, into in sorted(forth.items()) if len(into) > 1}
    found.merges = {key: tuple(sorted(of)) for key, of in sorted(back.items()) if len(of) > 1}
    single = {key: next(iter(into)) for key, into in sorted(forth.items()) if len(into) == 1}
    found.renamed = {key: into for key, into in single.items() if key != into and len(back[into]) == 1}
