"""What must come of a history, worked out the plain way: members and roll-ups, without regard to how we store them.

Which conversation a fact belongs to is the rule book's own business (`correlator.identity.resolve`).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from correlator.identity import Fact, identity_key, pointer_key
from schemas.address import Address
from schemas.events import STATES, Evidence, Identity, Pointer, Status
from schemas.ids import ConversationKey, Scope

_FINAL = STATES.index("unknown")


class Happening:
    """A fact with what a provider would tell beside its evidence; `status` of a report, `at` in milliseconds."""

    def __init__(self, fact: Fact, at: int, *, inbound: bool, status: Status | None = None) -> None:
        self.fact = fact
        self.at = at
        self.inbound = inbound
        self.status = status

    def __repr__(self) -> str:
        return f"Happening({self.fact.id}, {self.fact.evidence}, at={self.at}, {self.status})"


def members(happenings: Iterable[Happening]) -> dict[ConversationKey, set[Address]]:
    """Who is in each group that has an id: what was told of it, done one after the other in the order of its times.

    At one time a list goes first (of two the greater one last), then who is in, then who is out.
    """
    told: dict[ConversationKey, list[tuple[int, int, tuple[Address, ...]]]] = defaultdict(list)
    for happening in happenings:
        evidence, scope = happening.fact.evidence, happening.fact.scope
        if evidence.identity is not None and evidence.identity.kind == "group":
            key = identity_key(scope, evidence.identity)
            told[key] += [(happening.at, rank, people) for rank, people in _told(evidence)]
    return {key: _played(steps) for key, steps in told.items()}


def _told(evidence: Evidence) -> list[tuple[int, tuple[Address, ...]]]:
    lists = [(0, tuple(sorted(evidence.listed)))] if evidence.listed else []
    return [*lists, (1, evidence.joined), (2, evidence.left)]


def _played(steps: list[tuple[int, int, tuple[Address, ...]]]) -> set[Address]:
    people: set[Address] = set()
    for _, rank, named in sorted(steps, key=lambda step: (step[0], step[1], len(step[2]), step[2])):
        if rank == 0:
            people = set(named)
        elif rank == 1:
            people |= set(named)
        else:
            people -= set(named)
    return people


def rollups(happenings: Sequence[Happening]) -> dict[ConversationKey, dict[str, Any]]:
    """`data.rollup` of each message of ours, by each key of a pointer that names it."""
    messages = _messages([happening for happening in happenings if not happening.inbound])
    return {key: _counted(of) for keys, of in messages for key in keys}


def _messages(ours: Sequence[Happening]) -> list[tuple[set[ConversationKey], list[Happening]]]:
    """Reports and sends by the message that they are about: those that share an id, at however many removes."""
    groups: list[tuple[set[ConversationKey], list[Happening]]] = []
    for happening in ours:
        keys = {pointer_key(happening.fact.scope, pointer) for pointer in _about(happening.fact.evidence)}
        met = [group for group in groups if group[0] & keys]
        groups = [group for group in groups if group not in met]
        groups.append((keys.union(*(group[0] for group in met)), [*(one for _, of in met for one in of), happening]))
    return [(keys, of) for keys, of in groups if any(_about(one.fact.evidence) for one in of)]


def _about(evidence: Evidence) -> tuple[Pointer, ...]:
    return evidence.pointers if evidence.sent is None else evidence.sent.message


def _counted(of: list[Happening]) -> dict[str, Any]:
    """Each recipient once, at the highest state; nobody is below what the whole message came to."""
    reached: dict[Address, int] = {}
    counts, complete, whole, settled = [0], False, -1, False
    for happening in of:
        evidence, status = happening.fact.evidence, happening.status
        everybody, number = _recipients(evidence)
        complete = complete or everybody is not None
        counts.append(number)
        for recipient in everybody or ():
            reached.setdefault(recipient, -1)
        if status is None:
            continue
        state = STATES.index(status.value)
        if status.recipient is None:
            whole, settled = max(whole, state), settled or status.final
        else:
            reached[status.recipient] = max(reached.get(status.recipient, -1), state)
    total = max(len(reached), *counts) if complete or any(counts) else None
    states = [max(state, whole) for state in reached.values()] + [whole] * ((total or 0) - len(reached))
    shown: dict[str, Any] = {name: states.count(place) for place, name in enumerate(STATES)}
    done = sum(state >= _FINAL for state in states)
    return {"recipients": total, **shown, "settled": settled or (total is not None and 0 < total <= done)}


def _recipients(evidence: Evidence) -> tuple[Sequence[Address] | None, int]:
    """Everybody that a message went to, or else how many, 0 where that is not told."""
    identity: Identity | None = evidence.identity or evidence.fallback
    if evidence.sent is not None:
        return evidence.sent.recipients, evidence.sent.count or 0
    if identity is None:
        return None, 1 if evidence.kind == "direct" else 0
    if identity.kind == "set" and len(identity.parts) > 2:
        return [Address(part) for part in identity.parts if part not in evidence.lines], 0
    return None, 0 if identity.kind == "group" else 1


def scope(provider: str, id_key: bytes, namespace: str) -> Scope:
    """The scope of a provider's account in a test."""
    return Scope(id_key, namespace, provider, "main")
