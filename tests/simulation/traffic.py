"""The order of delivery: what the dialects post is delayed, repeated or lost, and comes out in order of receipt."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

import orjson

from schemas.callback import CaptureKind
from tests.simulation.truth import Label, Oracle, Send, Sighting
from tests.simulation.world import Account, Circle, Group, World

#: 2026-11-01, as Unix seconds.
START: Final = 1793491200.0
_EVENTS_A_SECOND: Final = 4.0
_SLOW, _SLOWEST_SECONDS = 0.06, 300.0
_USUAL_SECONDS: Final = 2.0
_RETRIED, _RETRY_SECONDS = 0.04, 900.0
_LOST: Final = 0.08
_CHURN: Final = 0.012
_INVISIBLE = "\u202d{}\u202c"

#: Which fact of a callback a label is of: by a name that the event bears (recipient, message, group); empty: any.
Named = tuple[str, Label | None]


class Posting:
    """One callback as the provider posts it, however often it is delivered."""

    __slots__ = ("account", "delivered", "kind", "labels", "sends", "sightings")

    def __init__(
        self,
        account: Account,
        kind: CaptureKind,
        labels: tuple[Named, ...],
        sends: tuple[Send, ...],
        sightings: tuple[tuple[Sighting, Send | None], ...],
    ) -> None:
        self.account, self.kind, self.labels = account, kind, labels
        #: Sends whose conversation this decides.
        self.sends = sends
        self.sightings = sightings
        self.delivered = False


class Delivery:
    """One callback as it is delivered. `repeated`: all of it was delivered before."""

    __slots__ = ("at", "body", "posting", "repeated")

    def __init__(self, at: float, body: bytes, posting: Posting, *, repeated: bool) -> None:
        self.at, self.body, self.posting, self.repeated = at, body, posting, repeated


class Traffic:
    """Deliveries in the order of receipt, until about `callbacks` of them were made; `oracle` watches them go by."""

    def __init__(
        self, seed: int, callbacks: int, *, registrations: bool = True, user_ids: bool = True, oracle: Oracle
    ) -> None:
        self.rng = Random(seed)
        self.callbacks = callbacks
        self.registrations = registrations
        self.user_ids = user_ids
        self.oracle = oracle
        self.world = World(self.rng, callbacks, user_ids=user_ids)
        self.now = START
        self._posted = 0
        self._pending: list[tuple[float, int, bytes, Posting]] = []

    def deliveries(self, acts: Mapping[str, Callable[[Account, Circle], None]]) -> Iterator[Delivery]:
        """Everything there is; `acts` has for each provider what lets one thing happen."""
        rng, world, pending = self.rng, self.world, self._pending
        while self._posted < self.callbacks:
            self.now += rng.expovariate(_EVENTS_A_SECOND)
            # Some circles write far more than others.
            circle = world.circles[int(len(world.circles) * rng.random() ** 1.6)]
            account = rng.choice(world.accounts)
            acts[account.provider](account, circle)
            while pending and pending[0][0] <= self.now:
                yield self._deliver()
        while pending:
            yield self._deliver()

    def _deliver(self) -> Delivery:
        at, _, body, posting = heapq.heappop(self._pending)
        repeated = posting.delivered
        if not repeated:
            posting.delivered = True
            for send in posting.sends:
                send.decided = True
            for sighting, send_of_it in posting.sightings:
                self.oracle.observe(sighting, send_of_it)
        return Delivery(at, body, posting, repeated=repeated)

    # --- for the dialects ---

    def post(
        self,
        account: Account,
        event_at: float,
        body: Any,
        labels: Sequence[Named],
        *,
        sends: tuple[Send, ...] = (),
        sightings: tuple[tuple[Sighting, Send | None], ...] = (),
        retried: Callable[[], None] | None = None,
    ) -> float:
        """Post a callback about something at a time; when it is first received. `retried` alters it for a retry."""
        posting = Posting(account, "callback", tuple(labels), sends, sightings)
        first = self._push(event_at, orjson.dumps(body), posting)
        if self.rng.random() < _RETRIED:
            if retried is not None:
                retried()
            again = self._push(first + self.rng.random() * _RETRY_SECONDS, orjson.dumps(body), posting)
            first = min(first, again)
        return first

    def _push(self, event_at: float, body: bytes, posting: Posting) -> float:
        rng = self.rng
        slow = rng.random() < _SLOW
        at = event_at + (rng.random() * _SLOWEST_SECONDS if slow else rng.expovariate(1 / _USUAL_SECONDS))
        self._posted += 1
        heapq.heappush(self._pending, (at, self._posted, body, posting))
        return at

    def register(
        self,
        account: Account,
        sent_at: float,
        body: Any,
        labels: Sequence[Named],
        *,
        sends: tuple[Send, ...] = (),
        sightings: tuple[tuple[Sighting, Send | None], ...] = (),
        surely: bool = False,
    ) -> bool:
        """Register a send, unless that is lost (never, if it has to happen `surely`); whether it is registered."""
        if not self.registrations or (not surely and self.rng.random() < _LOST):
            return False
        posting = Posting(account, "outbound", tuple(labels), sends, sightings)
        self._push(sent_at, orjson.dumps(body), posting)
        if self.rng.random() < _RETRIED:
            self._push(sent_at, orjson.dumps(body), posting)
        return True

    def uuid(self) -> str:
        """A new random id in the usual spelling."""
        digits = f"{self.rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def spell(self, address: str, *, ten_digits: bool = False, bare: float = 0.08) -> str:
        """An address as a provider may write it. `ten_digits`: it leaves the country code out at times."""
        draw = self.rng.random()
        if not address.startswith("+") or draw > bare + 0.12:
            return address
        if draw < bare:
            return address[1:]
        area, exchange, last = address[2:5], address[5:8], address[8:]
        spellings = [f"+1 ({area}) {exchange}-{last}", f"+1-{area}-{exchange}-{last}", _INVISIBLE.format(address)]
        if ten_digits:
            spellings += [address[2:], f"({area}) {exchange}-{last}", f"{area}.{exchange}.{last}"]
        return self.rng.choice(spellings)

    def group_of(self, circle: Circle, account: Account) -> Group | None:
        """One of the circle's groups, which may change just before; None: it has none on that account."""
        groups = circle.groups[account.name]
        return self.rng.choice(groups) if groups else None

    def churn(
        self, circle: Circle, account: Account, group: Group, key: Callable[[str], str]
    ) -> tuple[str, str] | None:
        """Now and then somebody joins or leaves: (joined, left), one of them empty; None: all stays as it is.

        `key`: how that account knows a person.
        """
        if self.rng.random() >= _CHURN:
            return None
        if len(group.people) > 3 and self.rng.random() < 0.5:
            left = self.rng.choice(group.people)
            self.world.change(group, None, left)
            return "", left
        somebody = self.world.stranger() if self.rng.random() < 0.5 else self.rng.choice(circle.people)
        joined = key(somebody)
        if joined in group.people or somebody in account.lines or len(group.people) >= 8:
            return None
        self.world.change(group, joined, None)
        return joined, ""
