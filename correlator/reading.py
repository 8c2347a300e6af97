"""Reads the records that decisions are made on, in as few round trips as possible."""

from typing import Final

from redis.asyncio import Redis

from correlator import rollup as rollups
from correlator.circles import Account, Circle
from correlator.clusters import Followers
from correlator.conversation import Conversation
from correlator.copies import Recent
from correlator.identity import identity_key, pointer_key
from correlator.index import record_key
from correlator.pointers import PointerClass
from correlator.records import Name, Record, decode
from correlator.rollup import Rollup
from correlator.scripts import answer
from correlator.users import reading
from schemas.events import Event, Evidence, MessageOutbound, MessageStatus
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
        known.update(zip(order, raws, strict=True))
        found = [(name, raw) for name, raw in zip(order, raws, strict=True) if raw]
        wanted = {other for name, raw in found for other in mentioned(name, raw)} - known.keys()


def mentioned(name: Name, data: bytes) -> set[Name]:
    """The records that one leads to: what folding will probably want next."""
    record = decode(KINDS[name.kind], data)
    if isinstance(record, Conversation):
        keys = {*record.users, *record.links, *([record.merged_into] if record.merged_into else ())}
        return {Name(Conversation.__name__, key) for key in keys}
    if isinstance(record, PointerClass):
        names = {Name(Conversation.__name__, claim.key) for claim in record.claims if claim.key}
        names |= {Name(Conversation.__name__, key) for key, _ in (*record.wanted, *record.opened)}
        names |= {Name(PointerClass.__name__, key) for key in (record.leads_to, *record.links) if key}
        return names | {Name(Rollup.__name__, key) for key in record.members[:1]}
    if isinstance(record, Account):
        return {Name(Conversation.__name__, key) for key in record.keywords}
    return set()


def foreseen(scope: Scope, event: Event, evidence: Evidence) -> set[Name]:
    """The records that folding a fact will want, as far as the fact itself tells."""
    pointers = [pointer_key(scope, pointer) for pointer in evidence.pointers]
    names = {Name(PointerClass.__name__, key) for key in pointers}
    for identity in (evidence.identity, evidence.fallback):
        if identity is not None:
            names.add(Name(Conversation.__name__, identity_key(scope, identity)))
        ends = reading(identity, evidence.lines)
        if ends is not None:
            names.add(Name(Circle.__name__, scope.user(ends[1])))
            names.add(Name(Account.__name__, scope.whole_account()))
    if evidence.identity is None:
        names |= {Name(Conversation.__name__, key) for key in pointers}
    names |= {Name(Circle.__name__, scope.user(address)) for tie in evidence.same_user for address in tie}
    if isinstance(event.body, MessageStatus | MessageOutbound):
        about = [pointer_key(scope, pointer) for pointer in rollups.about(evidence).message]
        names |= {Name(kind.__name__, key) for key in about for kind in (Rollup, PointerClass)}
    return names
