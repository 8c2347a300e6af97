"""Looks conversations up by key, by any provider id, by participant. It reads what the pipeline has written."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
from redis.asyncio import Redis

from correlator.classes import PointerClasses
from correlator.clusters import Clusters
from correlator.conversation import Conversation, show
from correlator.identity import pointer_key
from correlator.index import address_term, group_term, message_term, number_in
from correlator.reading import read
from correlator.records import MissingRecords, Name, Records
from correlator.rollup import Rollup
from correlator.scripts import answer
from schemas.address import Address
from schemas.envelope import SEQUENCE_DIGITS
from schemas.errors import StoreError
from schemas.events import Pointer
from schemas.ids import ConversationKey, Scope, key_of
from schemas.keyspace import Keyspace

#: The kinds of pointers that providers make of their ids.
_KINDS = ("message", "batch", "request")

_AT_ONCE = 500

_T = TypeVar("_T")


class Page(msgspec.Struct, frozen=True):
    """Some conversations, and where the next page begins; None: there is none."""

    conversations: list[dict[str, Any]]
    after: str | None


async def origin(redis: Redis, keyspace: Keyspace) -> str:
    """The namespace that conversation keys derive for: this one, or the one that it was rebuilt from."""
    recorded: bytes | None = await answer(redis.hget(keyspace.meta, "keys_of"))
    return recorded.decode() if recorded else keyspace.namespace


async def recorded_partitions(redis: Redis, keyspace: Keyspace) -> int:
    """How many partitions a namespace has, as it remembers. Raises StoreError for one that was never made."""
    recorded: bytes | None = await answer(redis.hget(keyspace.meta, "partitions"))
    if recorded is None:
        raise StoreError(
            f"namespace {keyspace.namespace} has never been served there: start its receiver first, mend the name,"
            " or say how many partitions it will have"
        )
    return int(recorded)


class Lookup:
    """Reads one namespace. All calls raise StoreError when Redis fails."""

    def __init__(self, redis: Redis, keyspace: Keyspace, id_key: bytes, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix seconds; tells which of the hashes of message ids may hold one."""
        self._clock = clock
        self._redis = redis
        self._keys = keyspace
        self._id_key = id_key
        #: What keys derive for is fixed for the life of a namespace, so it serves while Redis is away too.
        self._origin: str | None = None

    async def scope(self, provider: str, account: str) -> Scope:
        """What the keys of an account derive under."""
        try:
            self._origin = await origin(self._redis, self._keys)
        except StoreError:
            if self._origin is None:
                raise
        return Scope(self._id_key, self._origin, provider, account)

    async def conversation(self, key: ConversationKey) -> dict[str, Any] | None:
        """What is known of a conversation, under the key that stands for it now; None for a key never heard of.

        The fields of `data.conversation`, and `account` (`telnyx/main`), `merged` (every key that resolves to it),
        `ids` (the provider's own), `sequence` (of its last event).
        """
        found = await self._reading(partial(_resolved, key=key))
        return None if found is None else await self._shown(found)

    async def survivors(self, keys: Iterable[ConversationKey]) -> dict[ConversationKey, ConversationKey]:
        """What each key resolves to now; one that nothing is known of, to itself."""
        found: dict[ConversationKey, ConversationKey] = {}
        wanted = sorted(set(keys))
        for at in range(0, len(wanted), _AT_ONCE):
            found |= await self._reading(partial(_survivors, keys=wanted[at : at + _AT_ONCE]))
        return found

    async def equivalents(self, keys: Iterable[ConversationKey]) -> frozenset[ConversationKey]:
        """Every key that means one of these conversations now, these keys themselves among them."""
        named = sorted(set(keys))
        found = await self._reading(partial(_all_resolved, keys=named))
        return frozenset(named).union(*({one.key, *one.merged} for one in found))

    async def by_id(self, provider: str, account: str, identifier: str, after: str, limit: int) -> Page:
        """Conversations that an id of the provider's leads to: of a message, a batch (there may be many), a group."""
        scope = await self.scope(provider, account)
        keys = await self._indexed(group_term(scope.path, identifier))
        keys |= await self._of_message(message_term(scope.path, identifier))
        for kind in _KINDS:
            keys |= await self._reading(partial(_served, pointer=pointer_key(scope, Pointer(kind, (identifier,)))))
        batch = pointer_key(scope, Pointer("batch", (identifier,)))
        for recipient in await self._reading(partial(_recipients, batch=batch)):
            place = pointer_key(scope, Pointer("batch", (identifier, recipient)))
            keys |= await self._reading(partial(_served, pointer=place))
        return await self._page(keys, after, limit, lambda _, accounts: scope.path in accounts)

    async def by_address(
        self, address: Address, provider: str | None, account: str | None, after: str, limit: int
    ) -> Page:
        """Conversations that somebody takes part in now, at one account or provider, or (None) anywhere."""

        def fits(known: Conversation, accounts: frozenset[str]) -> bool:
            people = known.people or ()
            taking_part = address in people or known.same.get(address) in people
            places = (path.split("/", 1) for path in accounts)
            return taking_part and any(
                provider in {None, of_provider} and account in {None, of_account} for of_provider, of_account in places
            )

        return await self._page(await self._indexed(address_term(address)), after, limit, fits)

    # --- where to look ---

    async def _indexed(self, term: str) -> set[ConversationKey]:
        """Keys that stand in the index under a term, or under another one that looks like it."""
        key, prefix = self._keys.index(term)
        members: list[bytes] = await answer(self._redis.zrangebylex(key, b"[" + prefix, _after(prefix)))
        return {key_of(member[len(prefix) :]) for member in members}

    async def _of_message(self, term: str) -> set[ConversationKey]:
        """The conversation that a person's message was in, as long as its id is kept."""
        found: set[ConversationKey] = set()
        for name, field in self._keys.identifiers(term, int(self._clock())):
            key: bytes | None = await answer(self._redis.hget(name, field))
            found |= {ConversationKey(key.decode())} if key else set()
        return found

    # --- reading ---

    async def _reading(self, look: Callable[[Records], _T]) -> _T:
        """What a look at the records finds, once those that it wants have been read."""
        known: dict[Name, bytes | None] = {}
        while True:
            try:
                return look(Records(known))
            except MissingRecords as missing:
                await read(self._redis, self._keys, known, missing.names)

    async def _page(
        self,
        keys: Iterable[ConversationKey],
        after: str,
        limit: int,
        fits: Callable[[Conversation, frozenset[str]], bool],
    ) -> Page:
        wanted = sorted(keys)
        found = await self._reading(partial(_all_resolved, keys=wanted))
        fitting = {one.key: one for one in found if fits(one.view, one.accounts) and one.key > after}
        page = [await self._shown(fitting[key]) for key in sorted(fitting)[:limit]]
        return Page(page, page[-1]["key"] if len(fitting) > limit else None)

    async def _shown(self, found: "_Found") -> dict[str, Any]:
        key, view = found.key, found.view
        scope = await self.scope(*view.account.split("/", 1))
        sequence = await self._number(found)
        return {
            **show(view, key, scope),
            "account": view.account,
            "merged": found.merged,
            "ids": {} if view.group is None else {"group_id": view.group},
            "sequence": sequence.decode().zfill(SEQUENCE_DIGITS),
        }

    async def _number(self, found: "_Found") -> bytes:
        """The number of its last event."""
        if found.view.is_identity:
            return number_in(await answer(self._redis.get(self._keys.conversation(found.key))) or b"")
        return await answer(self._redis.get(self._keys.sequence(found.key))) or b""


class _Found(NamedTuple):
    """The key that stands for a conversation, all that is known of it, and what else resolves to it."""

    key: ConversationKey
    view: Conversation
    merged: tuple[ConversationKey, ...]
    #: A person may have linked conversations of several.
    accounts: frozenset[str]


def _resolved(records: Records, key: ConversationKey) -> _Found | None:
    clusters = Clusters(records)
    if not clusters.is_heard_of(key):
        return None
    survivor = clusters.survivor(key)
    accounts = frozenset(clusters.known(each).account for each in clusters.component(survivor))
    return _Found(survivor, clusters.view(survivor), clusters.resolving_to(survivor), accounts)


def _survivors(records: Records, keys: list[ConversationKey]) -> dict[ConversationKey, ConversationKey]:
    records.want(Conversation, keys)
    clusters = Clusters(records)
    return {key: clusters.survivor(key) for key in keys}


def _all_resolved(records: Records, keys: list[ConversationKey]) -> list[_Found]:
    records.want(Conversation, keys)
    return list({found.key: found for key in keys if (found := _resolved(records, key))}.values())


def _served(records: Records, pointer: ConversationKey) -> set[ConversationKey]:
    """The conversations that the facts of a class of pointers belong to, and the strongest claim if there are none."""
    clusters = Clusters(records)
    known = PointerClasses(records, clusters).of(pointer)
    served = {key for key, _ in (*known.wanted, *known.opened) if clusters.is_heard_of(key)}
    claims = [(-claim.rank, claim.key) for claim in known.claims if claim.key]
    return served or ({min(claims)[1]} if claims else set())


def _after(prefix: bytes) -> bytes:
    """Where all that starts with a prefix ends, as ZRANGEBYLEX takes it."""
    bare = prefix.rstrip(b"\xff")
    return b"(" + bare[:-1] + bytes([bare[-1] + 1]) if bare else b"+"


def _recipients(records: Records, batch: ConversationKey) -> list[Address]:
    """Whom a batch went to, as far as a report or the registered send named them."""
    root = PointerClasses(records, Clusters(records)).root(batch)
    known = records.find(Rollup, root)
    return sorted(known.ranks) if known else []
