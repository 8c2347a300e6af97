"""A partition at work: whose it is, who commits, how far behind, what could not be read, what was refused. Pure."""

from collections.abc import Iterator, Mapping

import msgspec

from receiver.doctor.findings import Finding, lasting

TOPIC = "pipeline"
#: A pipeline that keeps up is at most this far behind.
_LATE_SECONDS = 30.0
_SHOWN_REASONS = 5


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """How one partition is."""

    partition: int
    #: Whether anything was ever written to it.
    begun: bool
    #: Which of its settings are others than those it was made with, each in a sentence.
    foreign: tuple[str, ...] = ()
    #: Whether a pipeline holds the lease, and whether somebody asks for it.
    held: bool = False
    wanted: bool = False
    #: Captures that are not committed, and for how long the oldest of them has waited.
    waiting: int = 0
    waited_seconds: float = 0.0
    #: Dead letters and quarantine entries: how many, and the newest by reason.
    dead: int = 0
    dead_reasons: Mapping[str, int] = {}
    quarantined: int = 0
    quarantine_reasons: Mapping[str, int] = {}


def judge(work: Work) -> Iterator[Finding]:
    """What there is to say about a partition."""
    where = f"partition {work.partition}"
    for sentence in work.foreign:
        yield Finding("mistake", TOPIC, where, f"{sentence}; `serve` is refused")
    if not work.begun:
        yield Finding("note", TOPIC, where, "Nothing was ever written here", "is namespace right? then start `serve`")
        return
    yield _lease(work, where)
    yield from _letters(work, where)
    yield from _quarantine(work, where)


def _lease(work: Work, where: str) -> Finding:
    behind = f"{work.waiting:,} capture(s) wait to be published, the oldest for {lasting(work.waited_seconds)}"
    if work.wanted:
        return Finding(
            "note", TOPIC, where, "A command has asked for the lease (a replay, say): publishing waits for it"
        )
    if not work.held:
        if work.waiting:
            todo = "start `partyline serve`; if it runs, see its log"
            return Finding("warning", TOPIC, where, f"No pipeline works here: {behind}", todo)
        return Finding("note", TOPIC, where, "No pipeline works here, and none is needed now: no receiver runs")
    if work.waited_seconds > _LATE_SECONDS:
        todo = "see the load of the host and of Redis, and the log; more partitions take more traffic"
        return Finding("warning", TOPIC, where, f"The pipeline does not keep up: {behind}", todo)
    return Finding("ok", TOPIC, where, "A pipeline works and keeps up")


def _letters(work: Work, where: str) -> Iterator[Finding]:
    if work.dead:
        unread = f"{work.dead:,} dead letter(s): authentic, kept and not published ({_reasons(work.dead_reasons)})"
        todo = "`partyline dead ls`; after an upgrade that reads them `dead retry`, else `dead drop`"
        yield Finding("warning", TOPIC, where, unread, todo)


def _quarantine(work: Work, where: str) -> Iterator[Finding]:
    if work.quarantined:
        aside = f"{work.quarantined:,} request(s) in quarantine, refused: {_reasons(work.quarantine_reasons)}"
        todo = (
            "`partyline quarantine ls`, `partyline verify ID`; once mended `quarantine judge`, else `quarantine drop`"
        )
        yield Finding("warning", TOPIC, where, aside, todo)


def _reasons(reasons: Mapping[str, int]) -> str:
    counted = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_REASONS]
    return ", ".join(f"{reason} {count:,}" for reason, count in counted)
