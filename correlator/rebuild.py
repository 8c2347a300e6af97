"""What captures would become from nothing: the same folding as a commit, and nothing written but what it is to keep."""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSet, Sequence
from hashlib import blake2b

from correlator.clusters import Clusters
from correlator.gathering import Commit, Entry, Gathering, Publication
from correlator.ledger import Ledger
from correlator.records import Name, Records
from schemas.callback import Capture
from schemas.errors import StoreError
from schemas.events import Typing
from schemas.ids import ConversationKey, EventId, Scope
from schemas.keyspace import Keyspace

_DIGEST_BYTES = 10
#: Records held in memory at most, before a batch: what is talked in just now, whatever the size of the log.
_HOT = 20_000


def name_of(event_id: EventId | str) -> bytes:
    """An event's id in few bytes (10), for remembering very many."""
    return blake2b(event_id.encode(), digest_size=_DIGEST_BYTES).digest()


class _Kept(Mapping[Name, bytes | None]):
    """Records by name; what is not kept is known not to be there."""

    def __init__(self, kept: Mapping[bytes, bytes]) -> None:
        self._kept = kept

    def __getitem__(self, name: Name) -> bytes | None:
        return self._kept.get(_place(name))

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Name]:
        raise TypeError("names are not kept, only their digests")

    def __len__(self) -> int:
        return len(self._kept)


def _place(name: Name) -> bytes:
    """What a record is kept under: its kind, and eighty bits of its key, which is a digest already."""
    return (name.kind[:2] + name.key[3:19]).encode()


class Rebuild:
    """A namespace that is nowhere but in what it is given to keep things in."""

    def __init__(
        self, keyspace: Keyspace, id_key: bytes, records: MutableMapping[bytes, bytes], seen: MutableSet[bytes]
    ) -> None:
        """A namespace with nothing in it.

        Args:
            keyspace: whose keys it derives.
            id_key: what keys are derived under.
            records: empty; keeps the records, each as JSON under a digest of ten bytes.
            seen: empty; keeps the names of events that `feed` has given.
        """
        self._keyspace = keyspace
        self._id_key = id_key
        self._records = records
        self._seen = seen
        self._ledger = Ledger(_Kept(records))
        self._scopes: dict[tuple[str, str], Scope] = {}

    def feed(self, entries: Sequence[Entry]) -> dict[bytes, Publication]:
        """Fold captures in, in order; the events that this publishes by their names, each once, without its sequence.

        Raises as `fold` does.
        """
        return self._new(published for commit in self.fold(entries) for published in commit.events)

    def fold(self, entries: Sequence[Entry]) -> list[Commit]:
        """Fold captures in, in order; what a store would write of them.

        Raises what keeping raises, and StoreError where folding asks for what cannot be.
        """
        if self._ledger.size > _HOT:
            self._ledger = Ledger(_Kept(self._records))
        gathering = Gathering(self._ledger, self._keyspace, self._scope)
        for missing in gathering.gather(entries):
            raise StoreError(f"records that are known not to be there were asked for: {len(missing)}")
        self._records.update(
            {
                _place(name): write.data
                for commit in gathering.commits
                for name, write in commit.records.items()
                if write.data != write.expected
            }
        )
        return gathering.commits

    def recall(self, records: Mapping[Name, bytes]) -> None:
        """Have these records, as a store keeps them: those of a namespace that is to be gone on with."""
        self._records.update({_place(name): data for name, data in records.items()})
        self._ledger = Ledger(_Kept(self._records))

    def _new(self, events: Iterable[Publication]) -> dict[bytes, Publication]:
        first: dict[bytes, Publication] = {}
        for published in events:
            if not isinstance(published.event.body, Typing):
                first.setdefault(name_of(published.event.id), published)
        new = set(first)
        new -= self._seen & new
        self._seen |= new
        return {name: published for name, published in first.items() if name in new}

    def _scope(self, capture: Capture) -> Scope:
        name = (capture.provider, capture.account)
        if name not in self._scopes:
            self._scopes[name] = Scope(self._id_key, self._keyspace.keys_of, *name)
        return self._scopes[name]

    def survivors(self, keys: Iterable[ConversationKey]) -> dict[ConversationKey, ConversationKey]:
        """What each key resolves to by now."""
        clusters = Clusters(Records(_Kept(self._records)))
        return {key: clusters.survivor(key) for key in keys}
