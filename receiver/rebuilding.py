"""Has captures read into a namespace of its own: the same reading and the same commits as for live callbacks.

Nobody else commits there, so nothing needs to be read back from it: its records are kept in a scratch file as well,
where folding finds them, and Redis is only written to, while the next captures are worked out.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from correlator.gathering import Commit, Entry
from correlator.index import record_in, record_name
from correlator.lease import Lease, leased
from correlator.rebuild import Rebuild
from correlator.scripts import answer
from correlator.store import Outcome, Store
from receiver.captures import LogEntry
from receiver.replay import Pace, Site, Tally, again, batches, place
from receiver.scratch import scratch
from schemas.errors import PartylineError
from schemas.ids import fingerprint
from schemas.keyspace import LAYOUT

_SCAN = 1000
#: As much as a socket takes in one go: it is sent before the next batch is worked out, and Redis works meanwhile.
_BATCH = 64
#: Of the event loop, until a batch is sent: its task begins, has a connection, and its bytes go out.
_TURNS = 3


async def rebuild(target: Site, entries: AsyncIterator[LogEntry], pace: Pace, tally: Tally) -> None:
    """Commit captures into a namespace of its own, from its cursor on; run again, it goes on where it ended.

    Raises ScratchError where the scratch file cannot be used, StoreError and LeaseLost as a commit does.
    """
    is_begun = await _claim(target)
    async with leased(target.redis, target.keyspace) as lease:
        with scratch() as file:
            working = Rebuild(target.keyspace, target.settings.id_key, file.mapping(), file.names())
            if is_begun:
                await _recall(target, working)
            cursor = await target.store().cursor()
            async with _writing(target.store(), lease, cursor, tally) as writing:
                async for batch in batches(_after(entries, cursor), pace, _BATCH):
                    readable = [again(entry) for entry in batch]
                    await writing.begin(readable, working.fold(readable))
                    pace.progress(tally)
        pace.progress(tally)


class _Writing:
    """One batch on its way to Redis."""

    def __init__(self, store: Store, lease: Lease, cursor: str, tally: Tally) -> None:
        self._store = store
        self._lease = lease
        self._cursor = cursor
        self._tally = tally
        self._entries: Sequence[Entry] = ()
        self._task: asyncio.Task[list[Outcome]] | None = None

    async def begin(self, entries: Sequence[Entry], commits: Sequence[Commit]) -> None:
        """Have a batch written, once the one before is."""
        await self.end()
        self._entries = entries
        self._task = asyncio.create_task(self._store.write(commits, self._lease.token, self._cursor))
        self._cursor = entries[-1].position
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Wait for the batch under way, and count what became of it. Raises what its writing raised."""
        task, self._task = self._task, None
        if task is not None:
            self._tally.count(self._entries, await task)


@asynccontextmanager
async def _writing(store: Store, lease: Lease, cursor: str, tally: Tally) -> AsyncIterator[_Writing]:
    """Writing that is done when it is left, in whatever way."""
    writing = _Writing(store, lease, cursor, tally)
    try:
        yield writing
    finally:
        await writing.end()


async def _after(entries: AsyncIterator[LogEntry], cursor: str) -> AsyncIterator[LogEntry]:
    reached = place(cursor)
    async for entry in entries:
        if not cursor or place(entry.position) > reached:
            yield entry


# --- what is there already ---


async def _claim(target: Site) -> bool:
    """Make the namespace, or recognise one that an earlier run (or a state's import) has begun for these keys.

    Whether it is begun: there may be records without a cursor, of a first capture that was not written to its end.
    """
    keyspace = target.keyspace
    ours = {
        "layout": LAYOUT,
        "partitions": str(target.settings.redis.partitions),
        "id_key": fingerprint(target.settings.id_key),
        "keys_of": keyspace.keys_of,
    }
    found = await answer(target.redis.hgetall(keyspace.meta))
    recorded = {name.decode(): value.decode() for name, value in found.items()}
    for field, value in ours.items() if not recorded else ():
        await answer(target.redis.hset(keyspace.meta, field, value))
    if recorded and recorded != ours:
        raise PartylineError(
            f"namespace {keyspace.namespace} exists and is no rebuild of {keyspace.keys_of}; choose a name that is free"
        )
    return bool(recorded)


async def _recall(target: Site, working: Rebuild) -> None:
    """Take over the records that the namespace has, from an earlier run or an imported state."""
    at = -1
    while at:
        at, keys = await answer(target.redis.scan(max(at, 0), f"{target.keyspace.prefix}:*", count=_SCAN))
        names = {key: name for key in keys if (name := record_name(target.keyspace, key.decode())) is not None}
        records = await answer(target.redis.mget([*names])) if names else ()
        found = zip(names.values(), records, strict=True)
        working.recall({name: record_in(name, stored) for name, stored in found if stored is not None})
