"""Who is in a conversation whose key does not say it: rule 6 of the identity rules. Pure.

A roster is the latest complete list by the provider's time, and the deltas that are not older. At the same time a
delta beats a list, out beats in, the greater list the lesser. Each of these is "the greater wins", so rosters can be
fed in any order, any number of times, and come out the same.
"""

from collections.abc import Iterable, Mapping

import msgspec

from schemas.address import Address
from schemas.value import Value


class Delta(Value, frozen=True, array_like=True, order=True):
    """At `at` (Unix milliseconds) somebody was seen in, or gone."""

    at: int
    out: bool


class Roster(Value, frozen=True, omit_defaults=True):
    """What is known of the members: a complete list with its time, and later deltas by address."""

    listed_at: int = -1
    listed: tuple[Address, ...] | None = None
    deltas: dict[Address, Delta] = msgspec.field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everybody is known."""
        return self.listed is not None

    def members(self, same: Mapping[Address, Address]) -> frozenset[Address]:
        """Everybody known to be in it now, own lines included.

        `same`: the phone that stands for a user id; who joins as one and leaves as the other is one person.
        """
        if not same:  # as a rule; and no delta is older than the list
            gone = [address for address, delta in self.deltas.items() if delta.out]
            return frozenset(self.listed or ()).union(self.deltas).difference(gone)
        return frozenset([address for address, delta in self._latest(same).items() if not delta.out])

    def is_in(self, address: Address, same: Mapping[Address, Address]) -> bool | None:
        """Whether somebody is in it; None: nothing is known of that person."""
        latest = self._latest(same).get(same.get(address, address))
        if latest is None:
            return False if self.complete else None
        return not latest.out

    def _latest(self, same: Mapping[Address, Address]) -> dict[Address, Delta]:
        latest = dict.fromkeys([same.get(one, one) for one in self.listed or ()], Delta(self.listed_at, out=False))
        for address, delta in self.deltas.items():
            person = same.get(address, address)
            latest[person] = max(latest.get(person, delta), delta)
        return latest

    def joined(self, other: "Roster") -> "Roster":
        """What both know."""
        later, earlier = (
            (self, other)
            if _rank(self.listed, self.listed_at) >= _rank(other.listed, other.listed_at)
            else (other, self)
        )
        deltas = {
            address: max(later.deltas.get(address, delta), delta)
            for address, delta in earlier.deltas.items()
            if delta.at >= later.listed_at
        }
        return Roster(later.listed_at, later.listed, {**later.deltas, **deltas})

    def with_list(self, addresses: Iterable[Address], at: int) -> "Roster":
        """The roster after a complete list; itself when the list changes nothing. An empty list is no evidence."""
        candidate = tuple(sorted(set(addresses)))
        if not candidate or _rank(candidate, at) <= _rank(self.listed, self.listed_at):
            return self
        later = {address: delta for address, delta in self.deltas.items() if delta.at >= at}
        return Roster(at, candidate, later)

    def with_deltas(self, addresses: Iterable[Address], at: int, *, out: bool) -> "Roster":
        """The roster after people were seen in (or gone) at a time; itself when that changes nothing."""
        delta = Delta(at, out)
        news = {
            address: delta
            for address in addresses
            if at >= self.listed_at and self.deltas.get(address, Delta(-1, out=False)) < delta
        }
        return Roster(self.listed_at, self.listed, {**self.deltas, **news}) if news else self


def _rank(listed: tuple[Address, ...] | None, at: int) -> tuple[int, int, tuple[Address, ...]]:
    return (at, len(listed or ()), listed or ())
