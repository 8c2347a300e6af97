"""Who is who among an account's addresses: rules 4 and 5 of `correlator.identity`. Pure."""

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Generic, TypeVar

from schemas.address import Address, is_phone
from schemas.events import Identity

_K = TypeVar("_K", bound=str)


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
    """Who is who among one account's addresses, told by ties in the order in which they came."""

    def __init__(self, ties: Sequence[tuple[int, Address, Address]], lines: Iterable[Address]) -> None:
        self._lines = frozenset(lines)
        self._doubted_at: dict[str, int] = {}
        self._classes: Classes[str] = Classes()
        for _, one, other in ties:
            if not is_phone(one) and not is_phone(other):
                self._classes.join(one, other)
        seen_with = self._settle_phones(ties)
        for at, one, other in ties:
            if is_phone(one) and is_phone(other) and at < min(self._doubted(one), self._doubted(other)):
                self._classes.join(one, other)
        for phone, user in seen_with.items():
            self._classes.join(phone, user)

    def _settle_phones(self, ties: Iterable[tuple[int, Address, Address]]) -> dict[Address, Address]:
        """The user id that each phone was first seen with; notes who was seen with an untied one later, and when."""
        seen_with: dict[Address, Address] = {}
        for at, one, other in ties:
            if is_phone(one) != is_phone(other):
                phone, user = (one, other) if is_phone(one) else (other, one)
                first = seen_with.setdefault(phone, user)
                if self._classes.find(first) != self._classes.find(user):
                    self._doubted_at.setdefault(phone, at)
        return seen_with

    def _doubted(self, address: str) -> float:
        return self._doubted_at.get(address, inf)

    def user(self, address: str) -> str:
        """Who stands for the user that an address is one of."""
        return self._classes.find(address)

    def readings(self, identity: Identity) -> list[tuple[str, str]]:
        """A direct identity as (line, contact): a pair both ways round, unless a part is known to be a line."""
        if identity.kind not in {"user", "pair"}:
            return []
        one, other = identity.parts
        both_ways = [(one, other)] if identity.kind == "user" else [(one, other), (other, one)]
        return [(line, contact) for line, contact in both_ways if contact not in self._lines]

    def doubted_at(self, identity: Identity) -> float:
        """From where in the history on an identity's phone is in doubt."""
        return min((self._doubted(contact) for _, contact in self.readings(identity)), default=inf)
