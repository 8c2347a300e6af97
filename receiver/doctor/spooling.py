"""The spool of this host: whether it would take callbacks, and what waits in it. Pure."""

from collections.abc import Iterator

import msgspec

from receiver.doctor.findings import Finding, Level, about, lasting
from receiver.settings import Spool

TOPIC = "spool"

#: What ends with the host or the container, and what other hosts have as well.
_FLEETING = frozenset({"tmpfs", "ramfs", "overlay", "aufs"})
_SHARED = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "fuse.glusterfs"})
#: A running receiver drains within seconds once Redis answers.
_LONG_SECONDS = 60.0


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The folder `spool.dir`, or the nearest one above it that is there."""

    #: Why it cannot be written to; empty: it can.
    unusable: str = ""
    free_bytes: int = 0
    #: The kernel's word for its file system; empty where it is not known.
    kind: str = ""
    #: Whether the embedded Redis has its files on the same file system.
    shared_with_redis: bool = False
    #: What waits in it: callbacks, their bytes, for how long the oldest.
    captures: int = 0
    bytes: int = 0
    oldest_seconds: float = 0.0
    #: Files that were damaged and set aside.
    damaged: tuple[str, ...] = ()


def judge(disk: Disk, settings: Spool) -> Iterator[Finding]:
    """What there is to say about it."""
    if disk.unusable:
        yield Finding("mistake", TOPIC, "spool.dir", disk.unusable, "give it to the user that partyline runs as")
        return
    yield _room(disk, settings)
    yield from _place(disk)
    if disk.captures:
        level: Level = "warning" if disk.oldest_seconds > _LONG_SECONDS else "note"
        waits = (
            f"{disk.captures:,} callback(s) wait, {about(disk.bytes)}, the oldest for {lasting(disk.oldest_seconds)}"
        )
        todo = "a receiver that runs drains it once Redis answers; on a retired host `partyline spool drain`"
        yield Finding(level, TOPIC, "spool.dir", waits, todo)
    for file in disk.damaged:
        todo = "get rows out with `sqlite3 FILE .recover`, then delete it"
        yield Finding("warning", TOPIC, "spool.dir", f"{file} was damaged and set aside with what was in it", todo)


def _room(disk: Disk, settings: Spool) -> Finding:
    more = max(0, settings.max_bytes - disk.bytes)
    room = f"{about(disk.free_bytes)} are free in {settings.dir}, and up to {about(more)} may come (spool.max)"
    if disk.free_bytes < more:
        todo = "free some, or lower spool.max: on a full disk callbacks are answered 503 while Redis is away"
        return Finding("warning", TOPIC, "spool.max", room, todo)
    return Finding("ok", TOPIC, "spool.max", room)


def _place(disk: Disk) -> Iterator[Finding]:
    if disk.kind in _FLEETING:
        ends = f"The folder is on {disk.kind}, which ends with the host or container, and what waits in it as well"
        yield Finding("warning", TOPIC, "spool.dir", ends, "give it a volume, or a folder on a disk")
    if disk.kind in _SHARED:
        shared = f"The folder is on {disk.kind}: several hosts must not share a spool, and its syncs promise less"
        yield Finding("warning", TOPIC, "spool.dir", shared, "give each host a local disk")
    if disk.shared_with_redis:
        both = "It shares a file system with the embedded Redis: a full disk ends both, and callbacks are answered 503"
        yield Finding("note", TOPIC, "spool.dir", both, "give it a file system of its own")
