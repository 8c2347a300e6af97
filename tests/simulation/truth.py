"""What is true of each fact, and what all the evidence of a history determines about it: the oracle.

Written from the identity rules, not from the engine, of which nothing is imported here.
"""

from collections import defaultdict
from collections.abc import Hashable
from itertools import combinations
from math import inf
from typing import Final

Truth = tuple[str, ...]

#: Why evidence leaves a fact open.
REGISTRATION_LOST: Final = "registration lost"
NO_LINE: Final = "neither report nor send names the line"
OTHER_ID: Final = "reports name another id than the send"
STRICT_BARE: Final = "strict_groups: nothing ties the report to its send"
NO_ID_NO_PEOPLE: Final = "group without id and participants"
WHOLE_BATCH: Final = "report on a whole batch"
PHONE_IN_DOUBT: Final = "WhatsApp phone in doubt"
NO_REQUEST: Final = "registered without its request"


class Send:
    """One message of ours, as far as its ids go: whether any delivered fact that names one decides its conversation."""

    __slots__ = ("decided", "sightings")

    def __init__(self) -> None:
        self.decided = False
        #: WhatsApp: the 1:1 facts that name it.
        self.sightings: list[Sighting] = []


class Sighting:
    """What one WhatsApp fact shows of a person: phone, user id, or both; and successions, old to new."""

    __slots__ = ("account", "line", "phone", "place", "successions", "user_id")

    def __init__(
        self,
        account: str,
        line: str | None,
        phone: str | None,
        user_id: str | None,
        successions: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """`line`: of the 1:1 that the fact is of; None: it is a group's, and only shows who is who."""
        self.account, self.line, self.phone, self.user_id = account, line, phone, user_id
        self.successions = successions
        #: Where it first stood in the history; -1: not delivered.
        self.place = -1


class Label:
    """The truth of one or more facts: the conversation, and how to tell whether evidence determines it.

    Without anything else the fact determines it by itself. `reason` alone: nothing ever does. With a `send`: whatever
    else names the send may. With a `sighting`: as the history says who is who.
    """

    __slots__ = ("reason", "send", "sighting", "truth")

    def __init__(
        self, truth: Truth, reason: str | None = None, send: Send | None = None, sighting: Sighting | None = None
    ) -> None:
        self.truth, self.reason, self.send, self.sighting = truth, reason, send, sighting


#: What evidence determines: facts with an equal one belong together. None: it determines nothing.
Expected = Hashable | None


class Oracle:
    """Watches a history as it is delivered, and says at its end what it determines."""

    def __init__(self) -> None:
        self._accounts: dict[str, _People] = defaultdict(_People)
        self._place = 0

    def observe(self, sighting: Sighting, send: Send | None) -> None:
        """Take note of what a fact shows, in the order of delivery."""
        if sighting.place >= 0:
            return
        sighting.place = self._place
        self._place += 1
        self._accounts[sighting.account].observe(sighting)
        if send is not None:
            send.sightings.append(sighting)

    def settle(self) -> None:
        """The history is over: work out who is who."""
        for people in self._accounts.values():
            people.settle()

    def expected(self, label: Label) -> tuple[Expected, str | None]:
        """What a fact belongs to by all the evidence; or None, and why that is open."""
        if label.sighting is not None:
            node = self._node(label.sighting)
            return (node, None) if node is not None else (self._served(label.send), label.reason)
        if label.reason is None:
            return label.truth, None
        if label.send is None:
            return None, label.reason
        if label.send.decided:
            return label.truth, None
        return self._served(label.send), label.reason

    def _node(self, sighting: Sighting) -> Expected:
        return self._accounts[sighting.account].node(sighting)

    def _served(self, send: Send | None) -> Expected:
        """Where the other facts that name a send are, if that is one place."""
        nodes = {self._node(sighting) for sighting in send.sightings} - {None} if send is not None else set()
        return nodes.pop() if len(nodes) == 1 else None


class _Joined:
    """Things joined into classes."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def find(self, one: Hashable) -> Hashable:
        while one in self._above:
            one = self._above[one]
        return one

    def join(self, one: Hashable, other: Hashable) -> None:
        one, other = self.find(one), self.find(other)
        if one != other:
            self._above[one] = other


class _People:
    """Who is who on WhatsApp within one account, and which 1:1s are one."""

    def __init__(self) -> None:
        #: Phone and user id seen together; two phones, two ids that are one person's.
        self._together: list[tuple[int, str, str]] = []
        self._phones: list[tuple[int, str, str]] = []
        self._ids = _Joined()
        #: The first place of each 1:1 as facts alone would have it: (line, user id or phone).
        self._first: dict[tuple[str, str], int] = {}
        self._doubted: dict[str, int] = {}
        self._nodes = _Joined()

    def observe(self, sighting: Sighting) -> None:
        place = sighting.place
        if sighting.phone and sighting.user_id:
            self._together.append((place, sighting.phone, sighting.user_id))
        for old, new in sighting.successions:
            if old.startswith("+"):
                self._phones.append((place, old, new))
            else:
                self._ids.join(old, new)
        if sighting.line is not None:
            shown = sighting.user_id or sighting.phone or ""
            self._first.setdefault((sighting.line, shown), place)

    def settle(self) -> None:
        """A phone is the first user id's it was seen with; another id, not tied to that one, puts it in doubt."""
        owner: dict[str, str] = {}
        for place, phone, user_id in self._together:
            first = owner.setdefault(phone, user_id)
            if self._ids.find(first) != self._ids.find(user_id):
                self._doubted.setdefault(phone, place)
        users = self._ids
        for place, old, new in self._phones:
            if place < min(self._doubt(old), self._doubt(new)):
                users.join(old, new)
        for phone, user_id in owner.items():
            users.join(phone, user_id)
        threads: dict[Hashable, list[tuple[str, str]]] = defaultdict(list)
        for line, shown in self._first:
            threads[line, users.find(shown)].append((line, shown))
        for nodes in threads.values():
            self._join(nodes)

    def _join(self, nodes: list[tuple[str, str]]) -> None:
        """One user's 1:1s on one line are one, but for what came only after a phone fell in doubt."""
        for one, other in combinations(nodes, 2):
            if max(self._first[one], self._first[other]) < min(self._doubt(one[1]), self._doubt(other[1])):
                self._nodes.join(one, other)

    def _doubt(self, shown: str) -> float:
        return self._doubted.get(shown, inf)

    def node(self, sighting: Sighting) -> Expected:
        """The 1:1 that a fact is of; None while its phone, all that it shows, is in doubt."""
        if sighting.line is None or sighting.place < 0:
            return None
        shown = sighting.user_id or sighting.phone or ""
        if sighting.user_id is None and sighting.place >= self._doubt(shown):
            return None
        return (sighting.account, self._nodes.find((sighting.line, shown)))
