"""What a replay by the rules of today would change, without changing anything: events, and conversations.

The log is read from its beginning and folded into a scratch file; what comes out is held against what is in the stream.
That tells a changed parser or identity rule: events that say something else, conversations that split, merge, change
key. In memory are one batch, and what is told of the differences.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, MutableSet, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple

import msgspec
import orjson

from correlator.gathering import Publication
from correlator.lookup import Lookup
from correlator.rebuild import Rebuild, name_of
from correlator.scripts import answer
from receiver.captures import LogEntry
from receiver.replay import Pace, Site, again, batches
from receiver.scratch import Scratch, scratch
from schemas.ids import ConversationKey, content_hash

_SCAN = 500
#: What differs from one publication of a fact to the next without saying anything else.
_CIRCUMSTANCES = ("replayed", "rollup", "copy_of")
_SHOWN = 20
#: Pairs of keys that are followed together to where they lead.
_AT_ONCE = 500


class Told(msgspec.Struct, frozen=True, array_like=True):
    """An event as the stream has it, as far as it is compared."""

    id: str
    type: str
    subject: str
    capture: str
    #: Of its data, circumstances left out.
    content: str


_TOLD = msgspec.msgpack.Decoder(Told)


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
    """Fold the log, and compare what it comes to with the stream, for the chosen captures.

    `chosen` is asked once about each capture, in order. Raises Stopped between two batches when asked to stop, and
    ScratchError where there is no room on disk.
    """
    with scratch() as file:
        work = _Previewing(site, file)
        await work.read_stream()
        async for batch in batches(log, pace):
            work.fold(batch, chosen)
        work.look_for_gone()
        await work.map_conversations()
        return work.found


class _Previewing:
    """A preview as it comes about: what it found, and in the scratch file what it has to remember for that."""

    def __init__(self, site: Site, file: Scratch) -> None:
        self.found = Preview()
        self._site = site
        self._working = Rebuild(site.keyspace, site.settings.id_key, file.mapping(), file.names())
        #: The events of the stream that nothing was held against yet.
        self._told = file.mapping()
        #: The chosen captures, by their names.
        self._captures: MutableSet[bytes] = file.names()
        #: What is a key's in the stream, and what would be: of each event that is in both. As in `_pair`.
        self._pairs: MutableSet[bytes] = file.names()
        #: The same with both as they resolve by now, and the other way round.
        self._forth: MutableSet[bytes] = file.names()
        self._back: MutableSet[bytes] = file.names()

    async def read_stream(self) -> None:
        """Remember all that was told."""
        after = "-"
        while entries := await answer(self._site.redis.xrange(self._site.keyspace.events, after, "+", count=_SCAN)):
            some = [_told(fields[b"event"]) for _, fields in entries]
            self._told.update({name_of(one.id): msgspec.msgpack.encode(one) for one in some})
            after = f"({entries[-1][0].decode()}"

    def fold(self, batch: Sequence[LogEntry], chosen: Callable[[LogEntry], bool]) -> None:
        """Fold captures in, and compare what the chosen ones of them publish."""
        here = {entry.position for entry in batch if chosen(entry)}
        self.found.captures += len(here)
        readable = [again(entry) for entry in batch]
        self._captures |= {name_of(entry.capture.id) for entry in readable if entry.position in here}
        published = {name: one for name, one in self._working.feed(readable).items() if one.entry.position in here}
        before = {name: _TOLD.decode(data) for name, data in self._told.take(published.keys()).items()}
        for name, one in published.items():
            _compare(self.found, before.get(name), one)
        self._pairs |= {
            _pair(told.subject, published[name].subject)
            for name, told in before.items()
            if told.subject.startswith("cv_")
        }

    def look_for_gone(self) -> None:
        """What is left of all that was told of chosen captures."""
        for one in map(_TOLD.decode, self._told.values()):
            if name_of(one.capture) in self._captures:
                self.found.note(one.id, one.type, "gone")

    async def map_conversations(self) -> None:
        """Which conversation of today comes to which, by the events that are in both."""
        lookup = Lookup(self._site.redis, self._site.keyspace, self._site.settings.id_key)
        pairs = iter(self._pairs)
        while some := [_keys(pair) for pair in islice(pairs, _AT_ONCE)]:
            before = await lookup.survivors(key for key, _ in some)
            after = self._working.survivors(key for _, key in some)
            self._forth |= {_pair(before[one], after[other]) for one, other in some}
            self._back |= {_pair(after[other], before[one]) for one, other in some}
        found = self.found
        found.splits = {key: into for key, into in _together(self._forth) if len(into) > 1}
        found.merges = {key: of for key, of in _together(self._back) if len(of) > 1}
        found.renamed = {
            key: into[0]
            for key, into in _together(self._forth)
            if len(into) == 1 and key != into[0] and into[0] not in found.merges
        }


def _told(envelope: bytes) -> Told:
    event = orjson.loads(envelope)
    data = event["data"]
    return Told(event["id"], event["type"], event["subject"], data["capture"], _content(data))


def _pair(one: str, other: str) -> bytes:
    """Two keys as one name; names sort by the first, then by the other."""
    return f"{one} {other}".encode()


def _keys(pair: bytes) -> tuple[ConversationKey, ConversationKey]:
    one, _, other = pair.decode().partition(" ")
    return ConversationKey(one), ConversationKey(other)


def _together(pairs: Iterable[bytes]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each first key of sorted pairs with all that it is paired with, sorted."""
    for key, some in groupby(map(_keys, pairs), lambda pair: pair[0]):
        yield key, tuple(other for _, other in some)


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
    data = orjson.loads(published.half.at(0))["data"]
    if before.type != event.type:
        found.note(event.id, event.type, "type")
    elif before.content != _content(data):
        found.note(event.id, event.type, "data")
    else:
        found.same += 1
