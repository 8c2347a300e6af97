"""Exports and imports the state of a namespace: everything that correlating rests on, at one position of the log.

The state is every key but the streams (captures, events, dead letters, quarantine), what counts their bytes, and the
lease. It is taken under the lease, so that no pipeline changes it meanwhile; receivers go on capturing. Values go key
by key and by type, since what DUMP gives is not read by every version of Redis.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from correlator.following import last_id
from correlator.lease import Lease, leased
from correlator.scripts import answer
from receiver.namespace import IMPORTING
from receiver.statefile import VERSION, Checked, Header, Item, Trailer, UnusableState, Writing, data, text
from schemas.clock import format_time
from schemas.errors import LeaseLost
from schemas.keyspace import LAYOUT, Keyspace

#: How many keys are looked at, read or written in one round trip: bounds memory, and how long Redis is held up.
_BATCH = 500

_TYPES: Final = {b"string": "string", b"hash": "hash", b"zset": "zset"}


class Exported(NamedTuple):
    """What was written: how many keys, and where in the log that was."""

    header: Header
    trailer: Trailer
    #: There are captures that were not committed yet: they are in no state, only in the log.
    behind: bool


# --- export ---


async def export_state(redis: Redis, keyspace: Keyspace, write: Callable[[bytes], object], now: datetime) -> Exported:
    """Write the state of a namespace. Raises StoreError, LeaseLost among them: what was written then is no state."""
    async with leased(redis, keyspace) as lease:
        header = await _header(redis, keyspace, now)
        writing = Writing(write, header)
        async for names in _state_keys(redis, keyspace):
            for item in await _read(redis, keyspace, names):
                writing.add(item)
        behind = await answer(redis.xrange(keyspace.captures, f"({header.cursor}" if header.cursor else "-", count=1))
        await _still_held(lease)
    return Exported(header, writing.close(), bool(behind))


async def _header(redis: Redis, keyspace: Keyspace, now: datetime) -> Header:
    meta: dict[str, str] = {
        field.decode(): value.decode() for field, value in (await answer(redis.hgetall(keyspace.meta))).items()
    }
    cursor: bytes = await answer(redis.get(keyspace.cursor)) or b""
    return Header(
        partyline="state",
        version=VERSION,
        namespace=keyspace.namespace,
        keys_of=meta.get("keys_of", keyspace.namespace),
        layout=meta["layout"],
        partitions=int(meta["partitions"]),
        id_key=meta["id_key"],
        cursor=cursor.decode(),
        last_event=await last_id(redis, keyspace.events),
        exported_at=format_time(now),
    )


async def _still_held(lease: Lease) -> None:
    """See that nobody else has committed since the lease was taken: a token is never given twice."""
    if not await lease.renew():
        raise LeaseLost("the lease was lost meanwhile, and a pipeline may have worked: try again")


async def _state_keys(redis: Redis, keyspace: Keyspace) -> AsyncIterator[list[bytes]]:
    """The names of all keys that may be state, some at a time; one may come twice, which does no harm."""
    apart = _apart(keyspace)
    async for names in _keys(redis, keyspace):
        yield [name for name in names if name not in apart]


async def _keys(redis: Redis, keyspace: Keyspace) -> AsyncIterator[list[bytes]]:
    position = -1
    while position:
        position, names = await answer(redis.scan(max(0, position), match=f"{keyspace.prefix}:*", count=_BATCH))
        yield names


def _apart(keyspace: Keyspace) -> set[bytes]:
    """Keys that are no state: streams and their counters, the lease, the trials; and what the header has."""
    streams = (keyspace.captures, keyspace.events, keyspace.dead, keyspace.quarantine)
    at_work = {keyspace.lease, keyspace.trials}
    names = {*streams, *map(keyspace.bytes_of, streams), *at_work, keyspace.meta, keyspace.cursor}
    return {name.encode() for name in names}


async def _read(redis: Redis, keyspace: Keyspace, names: Sequence[bytes]) -> list[Item]:
    """The values of some keys, with the time that each has left; without those that have just expired."""
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.type(name)
        pipeline.pttl(name)
    about = await answer(pipeline.execute())
    found = [(name, kind, left) for name, kind, left in zip(names, about[::2], about[1::2], strict=True)]
    found = [(name, _TYPES[kind], left) for name, kind, left in found if kind in _TYPES]
    pipeline = redis.pipeline(transaction=False)
    for name, kind, _ in found:
        _ask(pipeline, name, kind)
    values = await answer(pipeline.execute())
    start = len(keyspace.prefix) + 1
    return [
        _item(text(name[start:]), kind, value, left)
        for (name, kind, left), value in zip(found, values, strict=True)
        if value
    ]


def _ask(pipeline: Any, name: bytes, kind: str) -> None:
    if kind == "string":
        pipeline.get(name)
    elif kind == "hash":
        pipeline.hgetall(name)
    else:
        pipeline.zrange(name, 0, -1, withscores=True)


def _item(key: Any, kind: str, value: Any, left: int) -> Item:
    ttl = left if left > 0 else None
    if kind == "string":
        return Item(key, "string", value=text(value), ttl=ttl)
    if kind == "hash":
        pairs = tuple((text(field), text(stored)) for field, stored in value.items())
        return Item(key, "hash", fields=pairs, ttl=ttl)
    return Item(key, "zset", members=tuple((text(member), score) for member, score in value), ttl=ttl)


# --- import ---


def refuse_unfit(header: Header, partitions: int, id_key: str) -> None:
    """UnusableState unless a state is one for this version and these settings. `id_key`: its fingerprint."""
    if header.layout != LAYOUT:
        raise UnusableState(
            f"the state is of layout {header.layout}, and this version of partyline has layout {LAYOUT}: "
            "import it with the version that exported it"
        )
    if header.id_key != id_key:
        raise UnusableState(
            "id_key: the state was made with another, and every conversation key in it derives from that one; "
            f"configure the id_key of namespace {header.namespace}"
        )
    if header.partitions != partitions:
        raise UnusableState(f"redis.partitions: the state has {header.partitions}, the configuration {partitions}")


async def import_state(redis: Redis, keyspace: Keyspace, checked: Checked, items: Iterable[Item]) -> None:
    """Write a state into an empty namespace. UnusableState if it is not empty; StoreError: it can be begun again.

    Args:
        redis: a client.
        keyspace: of the namespace.
        checked: what its file says, once it was found whole and fit.
        items: the keys in the file.
    """
    header, trailer = checked
    async with leased(redis, keyspace) as lease:
        await _refuse_unless_empty(redis, keyspace, checked)
        await _begin(redis, keyspace, header, trailer)
        rest = iter(items)
        while batch := list(islice(rest, _BATCH)):
            await _still_held(lease)
            await _write(redis, keyspace, batch)
        await _still_held(lease)
        await _finish(redis, keyspace, header)


async def _refuse_unless_empty(redis: Redis, keyspace: Keyspace, checked: Checked) -> None:
    """Go on only where nothing is, or where an import of the same file was broken off and nobody has worked since."""
    begun, id_key = await answer(redis.hmget(keyspace.meta, "importing", "id_key"))
    if begun == checked.trailer.blake2b.encode() and not await answer(redis.exists(keyspace.cursor)):
        return
    let_be = {keyspace.meta.encode(), keyspace.lease.encode(), keyspace.trials.encode()}
    of_another = begun is not None or id_key not in {None, checked.header.id_key.encode()}
    async for names in _keys(redis, keyspace):
        if of_another or set(names) - let_be:
            raise UnusableState(
                f"namespace {keyspace.namespace} is not empty, and a state is never mixed into another: import it "
                f"under a name that is free with --namespace, or stop the receiver and delete {keyspace.prefix}:* first"
            )


async def _begin(redis: Redis, keyspace: Keyspace, header: Header, trailer: Trailer) -> None:
    """Mark the namespace as half imported, which every start refuses; have captures that come now follow the cursor.

    Entry ids are times: a clock that is behind the one of the export would give smaller ones, which the pipeline would
    take for committed, and readers of events for handled.
    """
    pipeline = redis.pipeline(transaction=True)
    pipeline.hset(keyspace.meta, mapping={"layout": IMPORTING, "importing": trailer.blake2b})
    for stream, last in ((keyspace.captures, header.cursor), (keyspace.events, header.last_event)):
        if last and not await answer(redis.exists(stream)):
            pipeline.xadd(stream, {"imported": ""}, id=last)
            pipeline.xdel(stream, last)
    await answer(pipeline.execute())


async def _write(redis: Redis, keyspace: Keyspace, items: Sequence[Item]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for item in items:
        name = keyspace.prefix.encode() + b":" + data(item.key)
        if item.value is not None:
            pipeline.set(name, data(item.value))
        elif item.fields is not None:
            pipeline.hset(name, mapping={data(field): data(value) for field, value in item.fields})
        else:
            pipeline.zadd(name, {data(member): score for member, score in item.members or ()})
        if item.ttl is not None:
            pipeline.pexpire(name, item.ttl)
    await answer(pipeline.execute())


async def _finish(redis: Redis, keyspace: Keyspace, header: Header) -> None:
    """Make a namespace of it, at the position of the export."""
    meta: dict[Any, Any] = {"layout": header.layout, "partitions": str(header.partitions), "id_key": header.id_key}
    if header.keys_of != keyspace.namespace:
        meta["keys_of"] = header.keys_of
    pipeline = redis.pipeline(transaction=True)
    if header.cursor:
        pipeline.set(keyspace.cursor, header.cursor)
    pipeline.hset(keyspace.meta, mapping=meta)
    pipeline.hdel(keyspace.meta, "importing")
    await answer(pipeline.execute())
