"""What forgetting a person makes of each record. Pure.

A conversation that is the person's goes: a direct one, a group whose key is the set of its addresses, and what leads
there. A group that has an id of its own stays, and is said to be without the person. Everything that spoke of what
goes speaks of it no longer, so that nothing that is kept leads to a record that is not there.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import msgspec

from correlator.circles import Account, Circle
from correlator.clusters import Followers
from correlator.conversation import Conversation
from correlator.members import Roster
from correlator.pointers import PointerClass
from correlator.records import Record
from correlator.rollup import Rollup
from schemas.address import Address
from schemas.ids import ConversationKey

Ties = tuple[tuple[Address, Address], ...]


class Erasure(msgspec.Struct, frozen=True):
    """A person by all addresses, and the keys of the conversations that go."""

    addresses: frozenset[Address]
    keys: AbstractSet[ConversationKey] = frozenset()

    def without(self, record: Record) -> Record | None:
        """What a record becomes: itself when it says nothing of the person, None when it goes."""
        after: Record | None = record
        if isinstance(record, Followers):
            after = self.followers(record)
        elif isinstance(record, PointerClass):
            after = self.pointers(record)
        elif isinstance(record, Account):
            after = self.account(record)
        elif isinstance(record, Rollup):
            after = self.rollup(record)
        return record if after == record else after

    # --- conversations ---

    def names(self, record: Conversation) -> bool:
        """Whether a conversation names the person, as anything but a line of ours."""
        roster = record.roster
        named = {*(record.parts or ()), *(roster.listed or ()), *roster.deltas, *_ends(record.ties)}
        return not self.addresses.isdisjoint(named.difference(record.lines))

    def takes(self, record: Conversation) -> bool:
        """Whether a conversation is the person's, and goes."""
        if not self.names(record):
            return record.is_provisional_key and record.merged_into in self.keys
        if record.parts is not None:
            return not self.addresses.isdisjoint(record.parts) or record.kind == "direct"
        if record.group is not None:
            return False
        # Provisional: only who was seen in it is known.
        others = self._roster(record.roster).members({}).difference(record.lines)
        return record.kind == "direct" or not others

    def concerns(self, record: Conversation) -> bool:
        """Whether a conversation that stays names the person, or leads to what goes."""
        leads = {*record.users, *record.links, record.merged_into}
        return self.names(record) or not self.keys.isdisjoint(leads)

    def rest_of(self, record: Conversation) -> Conversation:
        """A conversation that stays; where it resolves to is for `Clusters.settle` to say."""
        return msgspec.structs.replace(
            record,
            roster=self._roster(record.roster),
            ties=self._ties(record.ties),
            users=self._kept(record.users),
            links=self._kept(record.links),
        )

    def _roster(self, roster: Roster) -> Roster:
        listed = self._others(roster.listed or ()) or None
        deltas = {address: delta for address, delta in roster.deltas.items() if address not in self.addresses}
        return Roster(-1 if listed is None else roster.listed_at, listed, deltas)

    # --- what leads to conversations ---

    def followers(self, record: Followers) -> Followers | None:
        """The keys that lead to a conversation."""
        keys = self._kept(record.keys)
        return Followers(keys) if keys else None

    def pointers(self, record: PointerClass) -> PointerClass | None:
        """A class of message ids; it goes with the last conversation that it knows."""
        claims = tuple(claim for claim in record.claims if claim.key not in self.keys)
        wanted = tuple(pair for pair in record.wanted if pair[0] not in self.keys)
        opened = tuple(pair for pair in record.opened if pair[0] not in self.keys)
        if (claims, wanted, opened) == (record.claims, record.wanted, record.opened):
            return record
        if not (wanted or opened or any(claim.key for claim in claims)):
            return None
        return msgspec.structs.replace(record, claims=claims, wanted=wanted, opened=opened)

    def account(self, record: Account) -> Account:
        """What an account remembers: words that were heeded for a group that goes."""
        keywords = {key: words for key, words in record.keywords.items() if key not in self.keys}
        return msgspec.structs.replace(record, keywords=keywords)

    # --- what became of messages, and who is who ---

    def rollup(self, record: Rollup) -> Rollup | None:
        """What became of a message: the others' part of it, if it went to others."""
        listed = () if record.listed is None else record.listed[1]
        named = {*record.ranks, *record.waiting, *listed, *_ends(record.ties)}
        if self.addresses.isdisjoint(named):
            return record
        ranks = {address: rank for address, rank in record.ranks.items() if address not in self.addresses}
        count = None if record.count is None else record.count - 1
        in_set = record.group is not None and not self.addresses.isdisjoint(map(Address, record.group.parts))
        if in_set or not (ranks or count):
            return None
        others = self._others(listed)
        return msgspec.structs.replace(
            record,
            ranks=ranks,
            count=count,
            waiting=self._others(record.waiting),
            ties=self._ties(record.ties),
            listed=None if record.listed is None or not others else (record.listed[0], others),
        )

    def circle(self, record: Circle) -> Circle | None:
        """Who is who: those of the circle that are another user."""
        members = self._others(record.members)
        if not members:
            return None
        return Circle(
            members=members,
            ties=tuple(tied for tied in record.ties if self.addresses.isdisjoint({tied.one, tied.other})),
            sights=tuple(sight for sight in record.sights if sight.contact not in self.addresses),
            doubtful=tuple(fact for fact in record.doubtful if fact.sight.contact not in self.addresses),
            spared=tuple(fact for fact in record.spared if fact.sight.contact not in self.addresses),
        )

    # --- parts of them ---

    def _others(self, addresses: Iterable[Address]) -> tuple[Address, ...]:
        return tuple(address for address in addresses if address not in self.addresses)

    def _ties(self, ties: Ties) -> Ties:
        return tuple(tie for tie in ties if self.addresses.isdisjoint(tie))

    def _kept(self, keys: Iterable[ConversationKey]) -> tuple[ConversationKey, ...]:
        return tuple(key for key in keys if key not in self.keys)


def _ends(ties: Ties) -> set[Address]:
    return {address for tie in ties for address in tie}
