"""What captures would become from nothing, worked out in memory: the same folding as a commit, and nothing written."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

from correlator.clusters import Clusters
from correlator.gathering import Entry, Gathering, Publication
from correlator.ledger import Ledger
from correlator.records import Name, Records
from schemas.callback import Capture
from schemas.errors import StoreError
from schemas.events import Typing
from schemas.ids import ConversationKey, EventId, Scope
from schemas.keyspace import Keyspace

_DIGEST_BYTES = 10


def name_of(event_id: EventId | str) -> bytes:
    """An event's id in few bytes, for remembering very many."""
    return blake2b(event_id.encode(), digest_size=_DIGEST_BYTES).digest()


class _Remembered(Mapping[Name, bytes | None]):
    """Records by name; what is not among them is known not to be there."""

    def __init__(self, records: dict[Name, bytes]) -> None:
        self._records = records

    def __getitem__(self, name: Name) -> bytes | None:
        return self._records.get(name)

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Name]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


class Rebuild:
    """A namespace in memory: its records, and which events it has published."""

    def __init__(self, keyspace: Keyspace, id_key: bytes) -> None:
        self._keyspace = keyspace
        self._id_key = id_key
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._records: dict[Name, bytes] = {}
        self._seen: set[bytes] = set()

    def feed(self, entries: Sequence[Entry]) -> list[Publication]:
        """Fold captures in, in order; the events that this publishes, each once and without its sequence."""
        gathering = Gathering(Ledger(_Remembered(self._records)), self._keyspace, self._scope)
        for missing in gathering.gather(entries):
            raise StoreError(f"records that are known not to be there were asked for: {len(missing)}")
        for commit in gathering.commits:
            self._records.update({name: write.data for name, write in commit.records.items()})
        return [published for commit in gathering.commits for published in commit.events if self._is_new(published)]

    def _is_new(self, published: Publication) -> bool:
        name = name_of(published.event.id)
        if isinstance(published.event.body, Typing) or name in self._seen:
            return False
        self._seen.add(name)
        return True

    def _scope(self, capture: Capture) -> Scope:
        name = (capture.provider, capture.account)
        if name not in self._scopes:
            self._scopes[name] = Scope(self._id_key, self._keyspace.keys_of, *name)
        return self._scopes[name]

    def survivor(self, key: ConversationKey) -> ConversationKey:
        """What a key resolves to by now."""
        return Clusters(Records(_Remembered(self._records))).survivor(key)
