"""Appends archived captures to a log, each once: what has the id of one that is there already is passed over."""

from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import Any

import msgspec
from redis.asyncio import Redis

from correlator.scripts import Scripts, answer
from receiver.captures import CaptureLog, LogEntry
from schemas.keyspace import Keyspace

#: What goes into one script call, so that captures that come in meanwhile are not held up.
_ENTRIES, _BYTES = 128, 1024 * 1024


class Imported(msgspec.Struct):
    """What has been done so far."""

    appended: int = 0
    there_already: int = 0


class Importer:
    """Appends entries with their own fields, in order, under positions of their own.

    It remembers eight bytes of each id in the log: some 80 bytes of memory a capture, whatever the captures hold.
    """

    def __init__(self, redis: Redis, keyspace: Keyspace, *, dry_run: bool = False) -> None:
        """`dry_run`: count, and write nothing."""
        self._scripts = Scripts(redis)
        self._log = CaptureLog(redis, keyspace)
        self._keys = keyspace
        self._dry_run = dry_run
        self._known: set[int] = set()
        self._waiting: list[LogEntry] = []
        self._size = 0
        self.done = Imported()

    async def look(self) -> AsyncIterator[int]:
        """Learn which ids are in the log; gives the number known so far, now and again. Raises StoreError."""
        async for entry in self._log.scan():
            self._known.add(_name(entry))
            if len(self._known) % 1000 == 0:
                yield len(self._known)

    async def add(self, entry: LogEntry) -> None:
        """Take one entry, to be appended with those around it. Raises StoreError."""
        name = _name(entry)
        if name in self._known:
            self.done.there_already += 1
            return
        self._known.add(name)
        self._waiting.append(entry)
        self._size += sum(map(len, entry.fields.values()))
        if len(self._waiting) >= _ENTRIES or self._size >= _BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Append what was taken; when it returns it is as durable as the server is. Raises StoreError."""
        for names, entries in groupby(self._waiting, key=lambda entry: tuple(entry.fields)):
            await self._append(names, list(entries))
        self._waiting, self._size = [], 0

    async def _append(self, names: Sequence[bytes], entries: Sequence[LogEntry]) -> None:
        """Entries that have the same fields, which are those of `CAPTURE_FIELDS` unless somebody changed the log."""
        args: list[Any] = [len(names), *names]
        for entry in entries:
            args += entry.fields.values()
        if not self._dry_run:
            stream = self._keys.captures
            await answer(self._scripts.append(keys=[stream, self._keys.bytes_of(stream)], args=args))
        self.done.appended += len(entries)


def _name(entry: LogEntry) -> int:
    """What an entry is known by: its id; of one without, all that it holds."""
    own = entry.fields.get(b"id")
    parts = [own] if own else [part for item in sorted(entry.fields.items()) for part in item]
    return int.from_bytes(blake2b(b"\0".join(parts), digest_size=8).digest(), "big")
