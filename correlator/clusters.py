"""Which keys are one conversation, and which of them stands for the others. Pure, over records.

Keys of identities are joined by edges that lie in their records: of one user (rule 4), or of a person's link (rule 6).
What is connected is one conversation; the strongest key survives, then the smallest. A provisional key leads to the
key of whoever its class says it belongs to, and from there on.
"""

from collections.abc import Iterable

import msgspec

from correlator.conversation import UNHEARD_OF, Conversation, together
from correlator.records import Record, Records
from schemas.events import Kind
from schemas.ids import ConversationKey


class Followers(Record, frozen=True):
    """The provisional keys that readers know and that lead to one key. Apart from its record: they may be many."""

    keys: tuple[ConversationKey, ...] = ()

    @property
    def expires(self) -> bool:
        """An old key resolves for ever."""
        return False


def compatible(one: Kind, other: Kind) -> bool:
    """Whether two kinds may be one conversation: a direct one is never a group."""
    return {one, other} != {"direct", "group"}


class Clusters:
    """Merged keys, and what has moved since the last `take_moved`."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._conversations = records.shelf(Conversation)
        #: Where each key that moved resolved to before.
        self._moved: dict[ConversationKey, ConversationKey] = {}

    def find(self, key: ConversationKey) -> Conversation | None:
        """The key's own record."""
        return self._conversations[key]

    def known(self, key: ConversationKey) -> Conversation:
        """The own record of a key that has one."""
        record = self._conversations[key]
        assert record is not None  # noqa: S101 - the caller has seen to it
        return record

    def is_heard_of(self, key: ConversationKey) -> bool:
        """Whether any fact has spoken of a key; a person may have linked it before."""
        record = self._conversations[key]
        return record is not None and record.strength != UNHEARD_OF

    def survivor(self, key: ConversationKey) -> ConversationKey:
        """Follow redirects: from a provisional key to an identity's, from there to the one that stands for it."""
        while (known := self._conversations[key]) is not None and known.merged_into:
            key = known.merged_into
        return key

    def view(self, survivor: ConversationKey) -> Conversation:
        """What all records of one conversation say of it together."""
        known = self.known(survivor)
        if not (known.users or known.links):
            return known
        others = self.component(survivor) - {survivor}
        return together(known, [self.known(key) for key in sorted(others)])

    # --- edges ---

    def component(self, key: ConversationKey) -> set[ConversationKey]:
        """Every key that is one conversation with this one."""
        reached, open_ends = {key}, [key]
        while open_ends:
            more = self._neighbours(open_ends.pop()) - reached
            reached |= more
            open_ends += sorted(more)
        return reached

    def _neighbours(self, key: ConversationKey) -> set[ConversationKey]:
        known = self.known(key)
        if not known.is_identity:
            return set()
        linked = {other for other in known.links if self._is_joined(known, other)}
        return linked.union(known.users)

    def _is_joined(self, known: Conversation, other: ConversationKey) -> bool:
        record = self.find(other)
        return record is not None and record.is_identity and compatible(known.kind, record.kind)

    def set_users(self, key: ConversationKey, others: Iterable[ConversationKey]) -> None:
        """Say which keys are the same user's as this one, and see what that makes of all of them."""
        known, users = self.known(key), tuple(sorted(others))
        if users != known.users:
            self._records.set(key, msgspec.structs.replace(known, users=users))

    def settle(self, keys: Iterable[ConversationKey]) -> None:
        """Have every key that is connected with one of these resolve to the one that stands for it."""
        left = set(keys)
        while left:
            together_ = self.component(min(left))
            left -= together_
            survivor = min(together_, key=lambda key: (-self.known(key).strength, key))
            for key in sorted(together_):
                self.lead(key, None if key == survivor else survivor)

    def lead(self, key: ConversationKey, target: ConversationKey | None) -> None:
        """Have an identity's key resolve to another, or (None) to itself."""
        known = self.known(key)
        if known.merged_into != target:
            self.note(key)
            self._records.set(key, msgspec.structs.replace(known, merged_into=target))

    # --- who followed, and what moved ---

    def followers(self, key: ConversationKey) -> tuple[ConversationKey, ...]:
        """The provisional keys that lead to just this key."""
        found = self._records.find(Followers, key)
        return found.keys if found else ()

    def publish(self, key: ConversationKey) -> None:
        """Something is published under this key: from now on readers know it."""
        known = self.known(key)
        if known.unseen:
            self._records.set(key, msgspec.structs.replace(known, unseen=False))

    def follow(self, key: ConversationKey, before: ConversationKey | None, target: ConversationKey | None) -> None:
        """Note that a key that readers know leads to another target than before."""
        if before is not None:
            self._records.set(before, Followers(tuple(other for other in self.followers(before) if other != key)))
        if target is not None:
            self._records.set(target, Followers(tuple(sorted({*self.followers(target), key}))))

    def note(self, key: ConversationKey, before: ConversationKey | None = None) -> None:
        """Remember where a key resolves to, before that changes; or where readers think it does."""
        self._moved.setdefault(key, before or self.survivor(key))

    @property
    def moved(self) -> bool:
        """Whether any key resolves, or may resolve, to another than before."""
        return bool(self._moved)

    def forget_moves(self) -> None:
        """Begin anew."""
        self._moved = {}

    def news(self) -> dict[ConversationKey, tuple[ConversationKey, ...]]:
        """The survivors that readers must be told of, each with every key that resolves to it."""
        affected = set()
        for key, before in self._moved.items():
            after, known = self.survivor(key), self.find(key)
            if after == before or known is None or not self._is_known_to_readers(key, known):
                continue
            affected |= {after, self.survivor(before)} if after == key else {after}
        return {key: self.resolving_to(key) for key in sorted(affected)}

    def _is_known_to_readers(self, key: ConversationKey, known: Conversation) -> bool:
        """Whether they saw the key; or one that leads to it, whose own moves are not noted as it stays where it is."""
        return not known.unseen or (known.is_identity and bool(self.followers(key)))

    def resolving_to(self, survivor: ConversationKey) -> tuple[ConversationKey, ...]:
        """Every other key that readers know and that resolves to this one."""
        together_ = self.component(survivor)
        seen = {key for key in together_ if not self.known(key).unseen}
        return tuple(sorted((seen | {key for of in together_ for key in self.followers(of)}) - {survivor}))
