"""Who is who among an account's addresses: rules 4 and 5 of `correlator.identity`. Pure."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Generic, TypeVar

from schemas.address import Address, is_phone
from schemas.events import Identity

_K = TypeVar("_K", bound=str)
_DIRECT = 2

Ties = Sequence[tuple[Address, Address]]


class Classes(Generic[_K]):
    """Members joined into classes (union-find); the least member stands for its class."""

    def __init__(self, order: Callable[[_K], tuple[int, str]] = lambda member: (0, member)) -> None:
        self._order = order
        self._above: dict[_K, _K] = {}

    def find(self, member: _K) -> _K:
        """Who stands for the member's class."""
        while (above := self._above.get(member, member)) != member:
            self._above[member] = self._above.get(above, above)
            member = above
        return member

    def join(self, one: _K, other: _K) -> None:
        """Make two classes one."""
        least, greater = sorted((self.find(one), self.find(other)), key=self._order)
        self._above[greater] = least


class Users:
    """Who is who among one account's addresses, told by ties in the order in which they came.

    A place in that order is whatever compares: the index in a history, or the position in the log.
    """

    def __init__(self, ties: Sequence[tuple[float, Address, Address]]) -> None:
        self._doubted_at: dict[str, float] = {}
        self._classes: Classes[str] = Classes()
        for _, one, other in ties:
            if not is_phone(one) and not is_phone(other):
                self._classes.join(one, other)
        seen_with = self._settle_phones(ties)
        for at, one, other in ties:
            if is_phone(one) and is_phone(other) and at < min(self.doubted(one), self.doubted(other)):
                self._classes.join(one, other)
        for phone, user in seen_with.items():
            self._classes.join(phone, user)

    def _settle_phones(self, ties: Iterable[tuple[float, Address, Address]]) -> dict[Address, Address]:
        """The user id that each phone was first seen with; notes who was seen with an untied one later, and when."""
        seen_with: dict[Address, Address] = {}
        for at, one, other in ties:
            if is_phone(one) != is_phone(other):
                phone, user = (one, other) if is_phone(one) else (other, one)
                first = seen_with.setdefault(phone, user)
                if self._classes.find(first) != self._classes.find(user):
                    self._doubted_at.setdefault(phone, at)
        return seen_with

    def doubted(self, address: str) -> float:
        """From which place in the order on an address is in doubt; infinity: never."""
        return self._doubted_at.get(address, inf)

    def user(self, address: str) -> str:
        """Who stands for the user that an address is one of."""
        return self._classes.find(address)


def reading(identity: Identity | None, lines: Collection[str]) -> tuple[Address, Address] | None:
    """A direct identity as (line, contact); None for a group, or where the fact does not say which part is our line."""
    if identity is None or identity.kind == "group" or len(identity.parts) != _DIRECT:
        return None
    one, other = Address(identity.parts[0]), Address(identity.parts[1])
    if identity.kind == "user":
        return one, other
    if (one in lines) == (other in lines):
        return None
    return (one, other) if one in lines else (other, one)


def shown(ties: Ties) -> Mapping[Address, Address]:
    """The address to show for each of those that are one person: the phone, the latest one where it changed.

    `ties`: pairs seen as one user; of two phones, or two ids, the first became the second. A phone that was seen with
    two ids that nothing ties is nobody's: showing both of them as one would hide a person.
    """
    return _shown(tuple(ties)) if ties else {}


@lru_cache(maxsize=4096)  # of the same few people, for each event of theirs
def _shown(ties: Ties) -> Mapping[Address, Address]:
    pairs = [(one, other) for one, other in ties if is_phone(one) == is_phone(other)]
    classes: Classes[Address] = Classes()
    for one, other in pairs:
        classes.join(one, other)
    mixed = [(one, other) if is_phone(one) else (other, one) for one, other in ties if is_phone(one) != is_phone(other)]
    seen_with: dict[Address, set[Address]] = defaultdict(set)
    for phone, user in mixed:
        seen_with[classes.find(phone)].add(classes.find(user))
    for phones, users in seen_with.items():
        if len(users) == 1:
            classes.join(phones, *users)
    return _faces(classes, {address for tie in ties for address in tie}, {old for old, _ in pairs})


def _faces(classes: Classes[Address], addresses: set[Address], old: set[Address]) -> dict[Address, Address]:
    members: dict[Address, list[Address]] = defaultdict(list)
    for address in addresses:
        members[classes.find(address)].append(address)
    best = {
        root: max(together, key=lambda address: (is_phone(address), address not in old, address))
        for root, together in members.items()
    }
    return {address: best[classes.find(address)] for address in addresses}
