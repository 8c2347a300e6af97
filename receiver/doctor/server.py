"""A Redis server: version, what it keeps on disk, whether it may evict, who follows it. Pure."""

from collections.abc import Iterator, Mapping

import msgspec

from receiver.doctor.findings import Finding, Level, about
from receiver.durability import FORGETS, too_old, weaknesses
from receiver.settings import Redis

TOPIC = "redis"
_NEARLY_FULL = 0.8
_FRAGMENTED = 1.5
_SMALL = 256 * 1024 * 1024


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What a server tells of itself."""

    #: Its own name for this run: partitions that share a server say the same.
    run_id: str
    #: The partitions that were asked for and are on it.
    partitions: tuple[int, ...]
    version: str
    role: str
    #: What CONFIG GET told; None: it may not be asked.
    config: Mapping[str, str] | None
    #: Whether it will load what it has on disk when it is started again.
    loads_all: bool
    #: What INFO told, by field.
    info: Mapping[str, str]
    #: How many replicas are in step.
    replicas: int

    def number(self, field: str) -> int:
        """A number of INFO; 0 where it is missing."""
        text = self.info.get(field, "")
        return int(text) if text.isdecimal() else 0


def judge(server: Server, wanted: Redis) -> Iterator[Finding]:
    """What there is to say about a server that these settings name."""
    where = f"partition {', '.join(map(str, server.partitions))}"
    yield from _version(server, where)
    yield from _durability(server, wanted)
    yield from _writing(server, where)
    yield from _memory(server, where)
    yield from _replicas(server, wanted)


def _version(server: Server, where: str) -> Iterator[Finding]:
    if not server.version:
        yield Finding("note", TOPIC, where, "The server does not tell its version", "it must be 6.2 or newer")
    elif too_old(server.version):
        old = f"Redis {server.version} lacks commands that partyline needs; `serve` is refused"
        yield Finding("mistake", TOPIC, where, old, "take 6.2 or newer")
    else:
        yield Finding("ok", TOPIC, where, f"Redis {server.version}")


def _durability(server: Server, wanted: Redis) -> Iterator[Finding]:
    path = "redis.durability"
    if server.config is None:
        level: Level = "note" if wanted.durability == "none" else "mistake"
        silent = "Whether the server keeps what it is given cannot be told: CONFIG GET is not allowed"
        yield Finding(level, TOPIC, path, silent, 'allow +config|get, or say durability = "none" and mean it')
        return
    lacking = weaknesses(server.config, wanted.durability)
    for mistake in lacking:
        sentence, _, todo = mistake.removeprefix(f"{path}: ").partition("; ")
        yield Finding("mistake", TOPIC, path, f"{sentence[:1].upper()}{sentence[1:]}", todo)
    if not server.loads_all and wanted.durability != "none":
        lost, todo = FORGETS
        yield Finding("mistake", TOPIC, path, f"{lost[:1].upper()}{lost[1:]}", todo)
    elif not lacking:
        kept = server.config.get("appendfsync", "no") if server.config.get("appendonly") == "yes" else "never"
        yield Finding("ok", TOPIC, path, f"Promised: {wanted.durability}; the server syncs: {kept}; it evicts nothing")


def _writing(server: Server, where: str) -> Iterator[Finding]:
    """Whether it can write, to memory and to disk, right now."""
    if server.role not in {"master", ""}:
        yield Finding(
            "mistake", TOPIC, "redis.url", "It names a replica, which takes no writes", "name the master, or sentinels"
        )
    if server.info.get("loading", "0") != "0":
        yield Finding("warning", TOPIC, where, "It loads its files still; callbacks go to the spool meanwhile")
    if server.info.get("aof_last_write_status", "ok") != "ok":
        failed = "Its last write to the append-only file failed: it takes no writes until that works again"
        yield Finding("mistake", TOPIC, where, failed, "see its disk (full?) and its log")
    if server.info.get("aof_last_bgrewrite_status", "ok") != "ok":
        grows = "Its last rewrite of the append-only file failed: the file grows without end"
        yield Finding("warning", TOPIC, where, grows, "see its disk and memory (vm.overcommit_memory = 1), and its log")
    if evicted := server.number("evicted_keys"):
        gone = f"{evicted:,} key(s) were evicted since it started: records of conversations may be among them"
        todo = "set maxmemory-policy noeviction there; rebuild the namespace from captures (`partyline replay --into`)"
        yield Finding("warning", TOPIC, where, gone, todo)


def _memory(server: Server, where: str) -> Iterator[Finding]:
    used, most = server.number("used_memory"), server.number("maxmemory")
    if not used:
        return
    if most and used > _NEARLY_FULL * most:
        full = (
            f"{about(used)} of maxmemory {about(most)} are used; a full server takes no writes: all goes to the spool"
        )
        yield Finding("warning", TOPIC, where, full, "give it more, or keep less (retention.captures_max, events_max)")
    elif not most:
        bound = f"{about(used)} are used, and there is no maxmemory: the kernel ends a server that outgrows its host"
        todo = "set maxmemory to some three quarters of what it may have, with maxmemory-policy noeviction"
        yield Finding("note", TOPIC, where, bound, todo)
    else:
        yield Finding("ok", TOPIC, where, f"{about(used)} of maxmemory {about(most)} are used")
    resident = server.number("used_memory_rss")
    if used > _SMALL and resident > _FRAGMENTED * used:
        scattered = f"It holds {about(resident)} of the host's memory for {about(used)} of data"
        yield Finding("note", TOPIC, where, scattered, "activedefrag yes (with jemalloc), or plan for it")


def _replicas(server: Server, wanted: Redis) -> Iterator[Finding]:
    path, has = "redis.wait_replicas", server.replicas
    if has < wanted.wait_replicas:
        few = f"{wanted.wait_replicas} must have each write, and {has} follow: no write counts, all goes to the spool"
        yield Finding("mistake", TOPIC, path, few, "see why they do not follow, or wait for fewer")
    elif has and not wanted.wait_replicas:
        late = f"{has} replica(s) follow and none is waited for: a failover may lose the latest callbacks answered 200"
        yield Finding("note", TOPIC, path, late, "set it to 1 or more, if losing them is worse than waiting")
    elif has and has == wanted.wait_replicas:
        tight = f"All {has} replica(s) are waited for: while one is away, all callbacks go to the spool"
        yield Finding("note", TOPIC, path, tight, "have one more than you wait for")
    elif wanted.wait_replicas:
        yield Finding("ok", TOPIC, path, f"{wanted.wait_replicas} must have each write; {has} follow")
