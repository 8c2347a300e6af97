"""Finds everything that the records of a namespace hold of a person, and removes it under the lease.

Looking reads all records, since most are found by nothing that tells whom they name. What is to be done is a list of
steps in an order that can be broken off anywhere: what leads to a conversation goes before it does, and who is who
goes last, so that looking again finds all of the rest, and a pipeline at work meanwhile never wants what is gone.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis

from correlator.circles import Account, Circle, users_of
from correlator.clusters import Clusters, Followers
from correlator.conversation import Conversation
from correlator.erasure import Erasure
from correlator.index import IndexChange, index_changes, is_numbered, record_in, record_key, terms
from correlator.pointers import PointerClass
from correlator.reading import read
from correlator.records import MissingRecords, Name, Record, Records, Write, decode, encode
from correlator.rollup import Rollup
from correlator.scripts import Scripts, answer
from schemas.address import Address
from schemas.envelope import SEQUENCE_DIGITS
from schemas.errors import LeaseLost, StoreError
from schemas.ids import ConversationKey, Scope, key_bytes
from schemas.keyspace import Keyspace

#: How many keys are looked at in one round trip.
_BATCH = 500
#: How many records, and entries, one script call changes: bounds how long it holds Redis up.
_STEPS_A_CALL, _ENTRIES_A_CALL = 100, 500

_R = TypeVar("_R", bound=Record)
_T = TypeVar("_T")


class Survey(NamedTuple):
    """Whom it is about, and what goes; `places` are the accounts where records were found."""

    erasure: Erasure
    places: frozenset[str]


class Step(NamedTuple):
    """One record to be changed or removed (`data` empty), with what goes along with it."""

    #: What it is to whoever counts.
    word: str
    name: Name
    expected: bytes
    data: bytes
    changes: tuple[IndexChange, ...] = ()
    #: Keys that go as they are.
    drops: tuple[str, ...] = ()


class Noted(NamedTuple):
    """Where a message can be looked up by its id: a field of a hash."""

    key: str
    field: bytes


class Work(NamedTuple):
    """What there is to do, in this order."""

    noted: Sequence[Noted]
    records: Sequence[Step]
    #: Who is who, and the direct conversations that this is told of: all at once, since each of them knows the others.
    acquaintance: Sequence[Step]

    def counted(self) -> Counter[str]:
        """How much of what it is."""
        found = Counter(step.word for step in (*self.records, *self.acquaintance))
        found["message ids"] += len(self.noted)
        return found


class Forgetting:
    """One namespace, and the accounts of it that are meant. All calls raise StoreError."""

    def __init__(self, redis: Redis, keyspace: Keyspace, id_key: bytes, meant: Callable[[str], bool]) -> None:
        """`meant`: whether an account (`telnyx/main`) is."""
        self._redis = redis
        self._keys = keyspace
        self._id_key = id_key
        self._meant = meant
        self._scripts = Scripts(redis)

    # --- whom, and which conversations ---

    async def survey(self, address: Address, accounts: Iterable[str]) -> Survey:
        """Whom an address belongs to, and which conversations are that person's. `accounts`: those configured."""
        places = {path for path in accounts if self._meant(path)}
        erasure = Erasure(frozenset({address}))
        while True:
            known_as = await self._known_as(erasure.addresses, places)
            seen, keys = await self._look(Erasure(known_as, erasure.keys))
            after = Erasure(known_as, frozenset(keys))
            if after == erasure and seen <= places:
                return Survey(after, frozenset(places))
            erasure, places = after, places | seen

    async def _known_as(self, addresses: frozenset[Address], places: Iterable[str]) -> frozenset[Address]:
        """Every address that is the same user's at any of these accounts."""
        found, open_ends = set(addresses), list(addresses)
        while open_ends:
            address = open_ends.pop()
            for scope in map(self._scope, sorted(places)):
                circle = await self._circle(scope, address)
                if circle is None:
                    continue
                users = users_of(circle.ties)
                same = {member for member in circle.members if users.user(member) == users.user(address)}
                open_ends += sorted(same - found)
                found |= same
        return frozenset(found)

    async def lines(self, places: Iterable[str]) -> frozenset[Address]:
        """What callbacks have shown to be lines of ours, at these accounts."""
        found: set[Address] = set()
        for path in places:
            account = await self._find(Account, self._scope(path).whole_account())
            found.update(account.lines if account else ())
        return frozenset(found)

    async def _look(self, erasure: Erasure) -> tuple[set[str], set[ConversationKey]]:
        """The accounts of all conversations, and the keys of those that go; a chain is found link by link."""
        places, keys = set[str](), set(erasure.keys)
        erasure = Erasure(erasure.addresses, keys)
        async for key, _, record in self._every(Conversation, self._keys.conversation):
            if self._meant(record.account):
                places |= {record.account} - {""}
                if erasure.takes(record):
                    keys.add(ConversationKey(key))
        return places, keys

    # --- what there is to do ---

    async def work(self, survey: Survey) -> Work:
        """What has to be done to records. Roll-ups before the classes of ids that take some of them along."""
        erasure, found = survey.erasure, dict[str, Step]()
        for kind, place in (
            (Rollup, self._keys.rollup),
            (PointerClass, self._keys.pointers),
            (Followers, self._keys.followers),
            (Account, self._keys.account),
        ):
            async for key, raw, record in self._every(kind, place):
                found |= self._step(erasure, Name(kind.__name__, key), raw, record)
        conversations, direct = await self._conversations(erasure)
        records = (*found.values(), *conversations)
        return Work(await self._noted(erasure), records, (*direct, *await self._circles(survey)))

    def _step(self, erasure: Erasure, name: Name, raw: bytes, record: Record) -> dict[str, Step]:
        after = erasure.without(record)
        if after is record:
            return {}
        word = {"PointerClass": "message ids", "Rollup": "roll-ups"}.get(name.kind, "references")
        drops = tuple[str, ...]()
        if after is None and isinstance(record, PointerClass):
            drops = (*(self._keys.pointers(key) for key in record.members[1:]), self._keys.rollup(record.root))
        step = Step(word, name, raw, b"" if after is None else encode(after), drops=drops)
        return {record_key(self._keys, name): step}

    async def _conversations(self, erasure: Erasure) -> tuple[list[Step], list[Step]]:
        """Those that stay and name the person or lead to what goes, then those that go; and direct ones apart."""
        concerned, leads = dict[Name, bytes | None](), dict[str, str | None]()
        going, direct = dict[str, Step](), dict[str, Step]()
        async for key, raw, record in self._every(Conversation, self._keys.conversation):
            if key in erasure.keys:
                leads[key] = record.merged_into
                acquainted = record.is_identity and record.kind == "direct"
                (direct if acquainted else going)[key] = self._removal(key, raw, record)
            elif erasure.concerns(record) and (self._meant(record.account) or not erasure.names(record)):
                concerned[Name(Conversation.__name__, key)] = raw
        farthest_first = sorted(going, key=lambda key: -_hops(key, leads))
        return [*await self._kept(erasure, concerned), *(going[key] for key in farthest_first)], [*direct.values()]

    def _removal(self, key: str, raw: bytes, record: Conversation) -> Step:
        drops = (self._keys.sequence(key), self._keys.recent(key), self._keys.followers(key))
        name = Name(Conversation.__name__, key)
        return Step("conversations", name, raw, b"", self._taken_out(key, record), drops)

    def _taken_out(self, key: str, record: Conversation) -> tuple[IndexChange, ...]:
        found = (self._keys.index(term) for term in sorted(terms(record)))
        member = key_bytes(ConversationKey(key))
        return tuple(IndexChange(place, prefix + member, added=False) for place, prefix in found)

    async def _kept(self, erasure: Erasure, concerned: Mapping[Name, bytes | None]) -> list[Step]:
        known = dict(concerned)
        await read(self._redis, self._keys, known, set(known))
        while True:
            try:
                writes = _settled(erasure, known, sorted(concerned))
            except MissingRecords as missing:
                await read(self._redis, self._keys, known, missing.names)
            else:
                return [self._change(name, write) for name, write in writes.items() if write.data != write.expected]

    def _change(self, name: Name, write: Write) -> Step:
        changes = tuple(index_changes(self._keys, {name: write}))
        return Step("memberships", name, write.expected, write.data, changes, (self._keys.recent(name.key),))

    async def _circles(self, survey: Survey) -> tuple[Step, ...]:
        """Who is who, at each account: the whole circle, or its other users under a root of their own."""
        found: dict[str, Step] = {}
        for scope in map(self._scope, sorted(survey.places)):
            for address in sorted(survey.erasure.addresses):
                circle = await self._circle(scope, address)
                if circle is not None and self._keys.circle(scope.user(address)) not in found:
                    steps = await self._without(scope, survey.erasure, circle)
                    found |= {record_key(self._keys, step.name): step for step in steps}
        return tuple(found.values())

    async def _without(self, scope: Scope, erasure: Erasure, circle: Circle) -> list[Step]:
        after = erasure.circle(circle)
        root = None if after is None else scope.user(after.root)
        steps = []
        for member in circle.members:
            key = scope.user(member)
            raw: bytes | None = await answer(self._redis.get(self._keys.circle(key)))
            data = b""
            if after is not None and root is not None and member not in erasure.addresses:
                data = encode(after if key == root else Circle(leads_to=root))
            if (raw or b"") != data:
                steps.append(Step("identities", Name(Circle.__name__, key), raw or b"", data))
        return steps

    async def _noted(self, erasure: Erasure) -> list[Noted]:
        """Where messages of conversations that go can be looked up by their ids."""
        # The hashes of ids, of every generation and bucket.
        every = self._keys.identifiers("", 0)[0][0].rsplit(":", 2)[0] + ":*"
        found: dict[Noted, None] = {}
        async for names in self._names(every):
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.hgetall(name)
            for name, fields in zip(names, await answer(pipeline.execute()), strict=True):
                found |= {Noted(name, field): None for field, key in fields.items() if key.decode() in erasure.keys}
        return list(found)

    # --- doing it ---

    async def carry_out(self, token: str, work: Work) -> None:
        """Do it, some at a time. Raises LeaseLost when the lease is another's: the rest is not done."""
        await self.unnote(token, work.noted)
        for some in _by(work.records, _STEPS_A_CALL):
            await self._call(token, some, ())
        if work.acquaintance:
            await self._call(token, work.acquaintance, ())

    async def unnote(self, token: str, noted: Sequence[Noted]) -> None:
        """Have messages not be found by their ids any more. Raises LeaseLost."""
        for some in _by(noted, _ENTRIES_A_CALL):
            await self._call(token, (), some)

    async def _call(self, token: str, steps: Sequence[Step], noted: Sequence[Noted]) -> None:
        changes = [change for step in steps for change in step.changes]
        records = (record_key(self._keys, step.name) for step in steps)
        keys = [self._keys.lease, *records, *(change.key for change in changes)]
        keys += [*(one.key for one in noted), *(drop for step in steps for drop in step.drops)]
        args: list[Any] = [token, len(steps), len(changes), len(noted)]
        for step in steps:
            args += [SEQUENCE_DIGITS if is_numbered(step.name) else 0, step.expected, step.data]
        for change in changes:
            args += ["1" if change.added else "0", change.member]
        args += [one.field for one in noted]
        said = await answer(self._scripts.forget(keys=keys, args=args))
        if said == b"lease":
            raise LeaseLost("the lease was lost meanwhile; what is left to forget is found by running it again")
        if said != b"ok":
            raise StoreError("a record was changed from outside meanwhile: run it again")

    async def withdraw(self, token: str, stream: str, positions: Sequence[str]) -> int:
        """Remove entries from a stream, some at a time; how many there were. Raises LeaseLost."""
        total = 0
        keys = [self._keys.lease, stream, self._keys.bytes_of(stream)]
        for some in _by(positions, _ENTRIES_A_CALL):
            removed = await answer(self._scripts.withdraw(keys=keys, args=[token, *some]))
            if removed < 0:
                raise LeaseLost("the lease was lost meanwhile; what is left to forget is found by running it again")
            total += removed
        return total

    # --- reading ---

    def _scope(self, path: str) -> Scope:
        return Scope(self._id_key, self._keys.keys_of, *path.split("/", 1))

    async def _circle(self, scope: Scope, address: Address) -> Circle | None:
        found = await self._find(Circle, scope.user(address))
        while found is not None and found.leads_to is not None:
            found = await self._find(Circle, found.leads_to)
        return found

    async def _find(self, kind: type[_R], key: str) -> _R | None:
        name = Name(kind.__name__, key)
        raw: bytes | None = await answer(self._redis.get(record_key(self._keys, name)))
        return None if raw is None else decode(kind, record_in(name, raw))

    async def _every(self, kind: type[_R], place: Callable[[str], str]) -> AsyncIterator[tuple[str, bytes, _R]]:
        """Every record of a kind, with its key and its bytes; one may come twice."""
        start = len(place(""))
        async for names in self._names(place("*")):
            raws = await answer(self._redis.mget(names))
            for name, raw in zip(names, raws, strict=True):
                if raw is not None:
                    found = Name(kind.__name__, name[start:])
                    record = record_in(found, raw)
                    yield found.key, record, decode(kind, record)

    async def _names(self, pattern: str) -> AsyncIterator[list[str]]:
        position = -1
        while position:
            position, names = await answer(self._redis.scan(max(0, position), match=pattern, count=_BATCH))
            if names:
                yield [name.decode() for name in names]


def _settled(erasure: Erasure, known: Mapping[Name, bytes | None], names: Sequence[Name]) -> dict[Name, Write]:
    """What becomes of conversations that stay: each as it is without the person, and what resolves to what then."""
    records = Records(known)
    clusters = Clusters(records)
    settling = []
    for name in names:
        key = ConversationKey(name.key)
        record = clusters.known(key)
        records.set(key, erasure.rest_of(record))
        if record.is_identity:
            settling.append(key)
    clusters.settle(settling)
    return records.take_writes()


def _hops(key: str, leads: Mapping[str, str | None]) -> int:
    """How far a key is from what it resolves to."""
    hops = 0
    while (into := leads.get(key)) is not None:
        key, hops = into, hops + 1
    return hops


def _by(every: Iterable[_T], number: int) -> Iterable[list[_T]]:
    rest = iter(every)
    while some := list(islice(rest, number)):
        yield some
