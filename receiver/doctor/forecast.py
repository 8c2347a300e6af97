"""How much Redis will hold, from what came in so far, and whether it fits. Pure.

What was measured (bytes of an entry, entries a second) times what is to be kept (`retention`), against what may be kept
(`retention.…_max`) and what the server has (maxmemory, or the host's memory).
"""

from collections.abc import Iterator, Sequence

import msgspec

from receiver.doctor.findings import Finding, about, lasting
from receiver.doctor.server import Server
from receiver.settings import Retention

TOPIC = "forecast"

_DAY = 86400
#: A rate that was measured over less than this may be a peak, or a calm.
_SHORT_SECONDS = 3600
#: Memory for a byte of an entry, where too little is stored to measure it.
_USUAL_FACTOR = 2.0
_ENOUGH_BYTES = 4 * 1024 * 1024
_NEARLY = 0.8


class Stream(msgspec.Struct, frozen=True):
    """A stream as it is now."""

    entries: int
    #: What its entries hold.
    bytes: int
    #: Unix seconds at which the oldest was added; None: it is empty.
    oldest_at: float | None


class Forecast(msgspec.Struct, frozen=True):
    """What a stream comes to, if it goes on like that."""

    bytes_per_entry: float
    entries_per_day: float
    #: How long that was measured.
    measured_seconds: float
    #: What all entries within the retention would hold.
    wanted_bytes: float
    #: What it will hold: no more than the setting allows.
    kept_bytes: float
    #: How far back it reaches then.
    reach_seconds: float


def forecast(stream: Stream, now: float, keep_seconds: int, max_bytes: int) -> Forecast | None:
    """What a stream comes to. None: nothing is in it to tell by.

    Args:
        stream: as it is.
        now: Unix seconds.
        keep_seconds: `retention.captures`, say.
        max_bytes: `retention.captures_max`, say.
    """
    if not stream.entries or not stream.bytes or stream.oldest_at is None:
        return None
    measured = max(1.0, now - stream.oldest_at)
    rate = stream.bytes / measured
    wanted = rate * keep_seconds
    kept = min(wanted, float(max_bytes))
    per_day = stream.entries / measured * _DAY
    return Forecast(stream.bytes / stream.entries, per_day, measured, wanted, kept, kept / rate)


class Kept(msgspec.Struct, frozen=True):
    """The two streams of one partition that grow with the traffic."""

    partition: int
    captures: Stream
    events: Stream


def judge(kept: Sequence[Kept], server: Server, retention: Retention, now: float) -> Iterator[Finding]:
    """What there is to say about the partitions of one server."""
    total, measured = 0.0, 0
    for each in kept:
        settings = (
            ("captures", each.captures, retention.captures_seconds, retention.captures_max_bytes),
            ("events", each.events, retention.events_seconds, retention.events_max_bytes),
        )
        for name, stream, seconds, most in settings:
            found = forecast(stream, now, seconds, most)
            if found is not None:
                total, measured = total + found.kept_bytes, measured + stream.bytes
                yield _of_stream(name, each.partition, found, seconds, most)
    if total:
        yield _of_memory(total, measured, server)
    else:
        yield Finding("note", TOPIC, "retention", "Nothing came in yet to tell by", "ask again after a day of traffic")


def _of_stream(name: str, partition: int, found: Forecast, seconds: int, most: int) -> Finding:
    subject = f"retention.{name}" if not partition else f"retention.{name}, partition {partition}"
    short = found.measured_seconds < _SHORT_SECONDS
    over = f" (measured over {lasting(found.measured_seconds)} only)" if short else ""
    rate = f"{found.entries_per_day:,.0f} {name} a day of {about(found.bytes_per_entry)} each{over}"
    wants = f"{rate}: {lasting(seconds)} of them are {about(found.wanted_bytes)}"
    if found.wanted_bytes <= most:
        return Finding("ok", TOPIC, subject, f"{wants}, and {about(most)} are allowed")
    cut = f"{wants}, but {about(most)} are allowed: they reach back {lasting(found.reach_seconds)}"
    todo = f"raise retention.{name}_max (and the server's memory), or say retention.{name} as it is"
    return Finding("note" if short else "warning", TOPIC, subject, cut, todo)


def _of_memory(total: float, measured: int, server: Server) -> Finding:
    """Whether all of it fits into the server, with what Redis needs around it."""
    dataset, most = server.number("used_memory_dataset"), server.number("maxmemory")
    factor = max(1.0, dataset / measured) if measured > _ENOUGH_BYTES and dataset else _USUAL_FACTOR
    needed, limit = total * factor, most or server.number("total_system_memory")
    named = "maxmemory" if most else "the host's memory, as there is no maxmemory"
    comes = f"Both come to {about(total)}, some {about(needed)} in memory ({factor:.1f} for each byte)"
    if not limit:
        return Finding("note", TOPIC, "memory", f"{comes}; the server does not tell what it has")
    compared = f"{comes}, of {about(limit)} ({named})"
    if needed > limit:
        todo = "lower retention.captures_max and events_max, or give it more: a full server takes no writes"
        return Finding("warning", TOPIC, "memory", compared, todo)
    if needed > _NEARLY * limit:
        return Finding("note", TOPIC, "memory", compared, "there is little left for the records of conversations")
    return Finding("ok", TOPIC, "memory", compared)
