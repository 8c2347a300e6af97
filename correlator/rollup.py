"""What became of a message of ours, recipient by recipient: design §6. Pure.

A roll-up only ever gains: each recipient is counted once, at the highest state known, so reports can be folded in in
any order, any number of times, and come out the same.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final

import msgspec

from correlator.records import Record
from correlator.users import shown
from schemas.address import Address
from schemas.events import STATES, Evidence, Identity, Sent, State, Status

#: A recipient that nothing has been reported of.
_NOTHING = -1
#: Two ranks a state: the odd one says that the channel reports nothing further (an SMS at Sendblue is never more
#: than sent). All from `unknown` upwards are final either way.
_RANKS = 2
_RANK_OF: Final[dict[str, int]] = {state: _RANKS * place for place, state in enumerate(STATES)}
_FINAL = _RANK_OF["sent"] + 1
_LARGEST_DIRECT = 2
_NOBODY: Final[dict[str, Any]] = dict.fromkeys(STATES, 0)


class Rollup(Record, frozen=True, omit_defaults=True):
    """What is known of one message as a whole. Ranks: twice the place in STATES, plus one where that is final."""

    #: The highest rank known of each recipient.
    ranks: dict[Address, int] = msgspec.field(default_factory=dict)
    #: Everybody that it went to is among them.
    complete: bool = False
    #: How many it went to, as far as somebody counted.
    count: int | None = None
    #: The highest rank that a report gave the message as a whole.
    whole: int = _NOTHING
    #: How many came to each rank, by reports that only count, and whether one of these was the last.
    tally: dict[int, int] = msgspec.field(default_factory=dict)
    settled: bool = False
    #: Addresses that were named as one user in its reports.
    ties: tuple[tuple[Address, Address], ...] = ()
    #: The lines that it was registered as sent from, and the recipients that wait for one.
    lines: tuple[Address, ...] = ()
    waiting: tuple[Address, ...] = ()
    #: The group that it went to, with everybody in it as a report listed them, at that time (Unix milliseconds).
    group: Identity | None = None
    listed: tuple[int, tuple[Address, ...]] | None = None

    def show(self) -> dict[str, Any]:
        """`data.rollup` of the envelope. Not to be changed: it is kept for other messages of which it is the same."""
        people = self._people()
        recipients = self._recipients(len(people))
        return _summary(tuple(self._counts(people.values(), recipients).items()), recipients, settled=self.settled)

    def reached(self, recipient: Address) -> int:
        """The highest rank known of a recipient, under whatever address; what all came to, each came to."""
        same = shown(self.ties)
        return max(self.whole, self._people().get(same.get(recipient, recipient), _NOTHING))

    def _people(self) -> dict[Address, int]:
        """The highest rank of each recipient, those that are one user taken together."""
        if not self.ties:
            return self.ranks
        same, people = shown(self.ties), dict[Address, int]()
        for address, rank in self.ranks.items():
            person = same.get(address, address)
            people[person] = max(people.get(person, _NOTHING), rank)
        return people

    def _recipients(self, known: int) -> int | None:
        if self.count is not None:
            return max(self.count, known)
        return known if self.complete else None

    def _counts(self, ranks: Collection[int], recipients: int | None) -> dict[int, int]:
        """How many are at each rank. What the whole message came to, everybody came to."""
        if self.tally:
            named = [rank for rank in ranks if rank > _NOTHING]
            counted = sum(self.tally.values()), sum(rank * number for rank, number in self.tally.items())
            if counted > (len(named), sum(named)):
                return self.tally
        counts = {self.whole: max(0, (recipients or 0) - len(ranks))}
        for rank in ranks if self.whole == _NOTHING else [max(rank, self.whole) for rank in ranks]:
            counts[rank] = counts.get(rank, 0) + 1
        return counts


@lru_cache(maxsize=1024)  # most messages go to one person, who is at one of few states
def _summary(counts: tuple[tuple[int, int], ...], recipients: int | None, *, settled: bool) -> dict[str, Any]:
    """What is shown of so many recipients, so many of them at each rank."""
    summary: dict[str, Any] = {"recipients": recipients, **_NOBODY}
    final = 0
    for rank, number in counts:
        if rank > _NOTHING:
            summary[STATES[rank // _RANKS]] += number
            if rank >= _FINAL:
                final += number
    summary["settled"] = settled or (recipients is not None and 0 < recipients <= final)
    return summary


def about(evidence: Evidence) -> Sent:
    """What a report or a send tells of its message: what the evidence says, else what follows from it.

    A direct message has one recipient; a set of addresses is the sender and everybody it went to.
    """
    identity = evidence.identity or evidence.fallback
    if evidence.sent is not None:
        return evidence.sent
    if identity is not None and identity.kind == "set" and len(identity.parts) > _LARGEST_DIRECT:
        people = tuple(Address(part) for part in identity.parts if part not in evidence.lines)
        return Sent(evidence.pointers, recipients=people)
    direct = identity.kind != "group" if identity is not None else evidence.kind == "direct"
    return Sent(evidence.pointers, count=1 if direct else None)


def absorb(known: Rollup, sent: Sent, evidence: Evidence, status: Status | None, at: int) -> Rollup:
    """The roll-up after one fact; `known` itself when it tells nothing new. `at`: its time, Unix milliseconds."""
    ranks, whole, tally, settled = known.ranks, known.whole, known.tally, known.settled
    if sent.recipients:
        ranks = dict.fromkeys(sent.recipients, _NOTHING) | ranks
    if status is not None:
        rank = rank_of(status)
        if status.recipient is not None:
            if rank > ranks.get(status.recipient, _NOTHING):
                ranks = {**ranks, status.recipient: rank}
        elif sent.tally:
            tally = _greater(tally, sent.tally)
        else:
            whole = max(whole, rank)
        settled = settled or (status.recipient is None and status.final)
    after = msgspec.structs.replace(
        known,
        ranks=ranks,
        complete=known.complete or sent.recipients is not None,
        count=_larger(known.count, sent.count),
        whole=whole,
        tally=tally,
        settled=settled,
        ties=_union(known.ties, evidence.same_user),
        lines=_union(known.lines, () if sent.line is None else (sent.line,)),
        waiting=_union(known.waiting, () if evidence.contact is None else (evidence.contact,)),
        group=known.group if sent.group is None else sent.group,
        listed=_later(known.listed, (at, tuple(sorted(sent.recipients))) if status and sent.recipients else None),
    )
    return known if after == known else after


def rank_of(status: Status) -> int:
    """How far a report says that a message has come."""
    rank = _RANK_OF[status.value]
    return rank + 1 if status.final and rank < _FINAL else rank


def is_stale(known: Rollup, status: Status, sent: Sent) -> bool:
    """Whether the recipient, or the message as a whole, was already at that state or above."""
    rank = _RANK_OF[status.value]
    if status.recipient is not None:
        return known.reached(status.recipient) >= rank
    if sent.tally:
        return _greater(known.tally, sent.tally) == known.tally
    return known.whole >= rank


def joined(one: Rollup, other: Rollup) -> Rollup:
    """What both know; in either order the same."""
    ranks = {address: max(rank, one.ranks.get(address, _NOTHING)) for address, rank in other.ranks.items()}
    return Rollup(
        ranks={**one.ranks, **ranks},
        complete=one.complete or other.complete,
        count=_larger(one.count, other.count),
        whole=max(one.whole, other.whole),
        tally={rank: max(one.tally.get(rank, 0), other.tally.get(rank, 0)) for rank in {*one.tally, *other.tally}},
        settled=one.settled or other.settled,
        ties=_union(one.ties, other.ties),
        lines=_union(one.lines, other.lines),
        waiting=_union(one.waiting, other.waiting),
        group=max((one.group, other.group), key=lambda group: group.parts if group else ()),
        listed=_later(one.listed, other.listed),
    )


def _greater(tally: dict[int, int], told: tuple[tuple[State, int], ...]) -> dict[int, int]:
    more = {_RANK_OF[state]: number for state, number in told}
    return {rank: max(tally.get(rank, 0), more.get(rank, 0)) for rank in {*tally, *more}}


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None or (other is not None and other > one) else one


def _union(known: tuple[Any, ...], more: tuple[Any, ...]) -> tuple[Any, ...]:
    return known if not more or set(known).issuperset(more) else tuple(sorted({*known, *more}))


def _later(
    known: tuple[int, tuple[Address, ...]] | None, told: tuple[int, tuple[Address, ...]] | None
) -> tuple[int, tuple[Address, ...]] | None:
    if known is None or told is None:
        return known if told is None else told
    return max(known, told, key=lambda listed: (listed[0], len(listed[1]), listed[1]))
