"""Reads the records that decisions are made on, in as few round trips as possible."""

from collections.abc import Iterable, Mapping
from typing import Final

from redis.asyncio import Redis

from correlator import rollup as rollups
from correlator.acquaintance import possible_keys
from correlator.circles import Account, Circle
from correlator.clusters import Followers
from correlator.conversation import Conversation
from correlator.copies import Recent
from correlator.identity import Decision, decide, pointer_key
from correlator.index import record_in, record_key
from correlator.pointers import PointerClass
from correlator.records import Name, Record, decode
from correlator.rollup import Rollup
from correlator.scripts import answer
from correlator.users import reading
from schemas.address import Address
from schemas.events import Event, Evidence, MessageOutbound, MessageReceived, MessageStatus
from schemas.ids import Scope
from schemas.keyspace import Keyspace

KINDS: Final[dict[str, type[Record]]] = {
    kind.__name__: kind for kind in (Conversation, PointerClass, Circle, Account, Followers, Rollup, Recent)
}


async def read(redis: Redis, keyspace: Keyspace, known: dict[Name, bytes | None], wanted: set[Name]) -> None:
    """Add records to those known, and what they lead to. Raises StoreError."""
    wanted = wanted - known.keys()
    while wanted:
        order = sorted(wanted)
        raws = await answer(redis.mget([record_key(keyspace, name) for name in order]))
        found = {name: record_in(name, raw) for name, raw in zip(order, raws, strict=True) if raw}
        known.update(dict.fromkeys(order) | found)
        wanted = {other for name, raw in found.items() for other in mentioned(name, raw)} - known.keys()


def mentioned(name: Name, data: bytes) -> set[Name]:
    """The records that one leads to: what folding will probably want next."""
    record = decode(KINDS[name.kind], data)
    if isinstance(record, Conversation):
        keys = {*record.users, *record.links, *([record.merged_into] if record.merged_into else ())}
        return _names(Conversation, keys)
    if isinstance(record, PointerClass):
        claiming = [claim.key for claim in record.claims if claim.key]
        wanted = [key for key, _ in (*record.wanted, *record.opened)]
        names = _names(Conversation, (*claiming, *wanted)) | _names(Followers, claiming)
        names |= _names(PointerClass, (key for key in (record.leads_to, *record.links) if key))
        return names | _names(Rollup, record.members[:1])
    if isinstance(record, Circle):
        return _names(Circle, (record.leads_to,) if record.leads_to else ()) | _names(
            Conversation, (sight.key for sight in record.sights)
        )
    return _names(Conversation, record.keywords) if isinstance(record, Account) else set()


def foreseen(scope: Scope, event: Event, evidence: Evidence, lines: frozenset[Address] = frozenset()) -> set[Name]:
    """The records that folding a fact will want, as far as the fact itself tells. `lines`: the account's configured."""
    decision = decide(scope, event.id, evidence)
    names = _names(PointerClass, decision.pointers) | _names(Conversation, (decision.key,))
    if decision.fallback is not None:
        names |= _names(Conversation, (decision.fallback,))
    names |= _foreseen_people(scope, evidence)
    body = event.body
    if isinstance(body, MessageStatus | MessageOutbound):
        about = [pointer_key(scope, pointer) for pointer in rollups.about(evidence).message]
        names |= _names(Rollup, (*about, *decision.pointers)) | _names(PointerClass, about)
        names |= set() if decision.provisional else _names(Followers, (decision.key,))
    elif len(lines.union(evidence.lines)) > 1:
        names |= _compared(event, decision)
    return names


def _compared(event: Event, decision: Decision) -> set[Name]:
    """What tells copies of a message in a group: nobody looks at it where only one line can be told of one."""
    said_to_group = isinstance(event.body, MessageReceived) and decision.kind == "group"
    return _names(Recent, (decision.key,)) if said_to_group else set()


def _foreseen_people(scope: Scope, evidence: Evidence) -> set[Name]:
    ends = reading(evidence.identity or evidence.fallback, evidence.lines)
    people = {address for tie in evidence.same_user for address in tie}
    people |= {address for address in (ends and ends[1], evidence.contact) if address}
    return _names(Circle, map(scope.user, people)) | _names(Account, (scope.whole_account(),))


def anticipated(scope: Scope, event: Event, evidence: Evidence, known: Mapping[Name, bytes | None]) -> set[Name]:
    """What folding a fact will want besides, now that some records are known.

    Conversations of a new acquaintance; and what was lately said in a group, if the account is known to have several
    lines.
    """
    raw = known.get(Name(Account.__name__, scope.whole_account()))
    lines = decode(Account, raw).lines if raw else ()
    new = {address for tie in evidence.same_user for address in tie if known.get(_circle(scope, address)) is None}
    names = {
        name for address in new for line in lines for name in _names(Conversation, possible_keys(scope, line, address))
    }
    return names | _compared(event, decide(scope, event.id, evidence)) if len(lines) > 1 else names


def _circle(scope: Scope, address: Address) -> Name:
    return Name(Circle.__name__, scope.user(address))


def _names(kind: type[Record], keys: Iterable[str]) -> set[Name]:
    return {Name(kind.__name__, key) for key in keys}
