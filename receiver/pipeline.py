"""From the capture log to events: read, parse, commit, and keep house.

One pipeline a partition holds the lease and works from the cursor; any other waits for the lease. When anything
fails it starts again from the cursor, which repeats nothing: what is committed is committed with its cursor. Where the
pipeline before has died, captures are tried one by one at first, until it is known whether it was one of them.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import structlog

from correlator.gathering import Entry
from correlator.lease import Lease
from correlator.store import DUPLICATE, Outcome, Store
from receiver import metrics
from receiver.captures import CaptureLog, LogEntry
from receiver.doubt import Doubt, is_hopeless
from receiver.parsing import given_up, read
from receiver.provider import Provider
from receiver.settings import Retention
from schemas.callback import UNKNOWN
from schemas.errors import LeaseLost, StoreError
from schemas.events import Event, Unreadable

_RENEW_SECONDS = 1.5
_RETAKE_SECONDS = 0.2
_WAIT_MILLISECONDS = 1000
#: After a short batch, a breath lets the next one grow: fewer, larger commits cost less.
_SHORT_BATCH = 64
_BREATH_SECONDS = 0.006
_HOUSEKEEPING_SECONDS = 10.0
_COMPLAIN_SECONDS = 30.0
_DEAD_BYTES = 64 * 1024 * 1024

log = structlog.get_logger()


class Pipeline:
    """The loop around it. `stop` lets the batch under way finish, then gives the lease up."""

    def __init__(
        self, log: CaptureLog, store: Store, lease: Lease, providers: Mapping[str, Provider], retention: Retention
    ) -> None:
        self._log = log
        self._store = store
        self._lease = lease
        self._trials = lease.trials
        self._doubt = Doubt()
        self._providers = providers
        self._retention = retention
        self._held = metrics.LEASE_HELD.labels(log.partition)
        self._lag = metrics.LAG_SECONDS.labels(log.partition)
        self._stopping = asyncio.Event()
        self._renewed_at = 0.0
        self._housekept_at = 0.0
        self._complained_at = -_COMPLAIN_SECONDS

    def stop(self) -> None:
        """Ask it to end."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until stopped, through every outage of Redis."""
        while not self._stopping.is_set():
            try:
                if await self._take():
                    await self._work()
                else:
                    await self._pause(_RETAKE_SECONDS)
            except LeaseLost as error:
                self._held.set(0)
                log.warning("lease lost", detail=str(error))
            except StoreError as error:
                self._complain(error)
                await self._pause(1.0)

    def _complain(self, error: StoreError) -> None:
        """Say at once that Redis is away, and then now and again: an outage is long, a log is to be read."""
        if time.monotonic() - self._complained_at > _COMPLAIN_SECONDS:
            self._complained_at = time.monotonic()
            log.warning("pipeline waits for Redis", detail=str(error))

    async def _take(self) -> bool:
        # After a failure of Redis it may well be ours still.
        taken = bool(self._lease.token) and await self._lease.renew()
        taken = taken or (not await self._lease.is_wanted() and await self._lease.take())
        if taken:
            await self._begin()
            self._renewed_at = time.monotonic()
            log.info("lease taken")
        self._held.set(taken)  # when Redis was away, it may have gone to another without a word to us
        return taken

    async def _begin(self) -> None:
        """Note that we work, and doubt captures where the pipeline before has not ended in order."""
        token = self._lease.token
        if self._trials.token != token and await self._trials.begin(token):
            log.warning("the pipeline before has not ended in order; trying captures one by one at first")
            self._doubt.arise()

    async def _work(self) -> None:
        """Commit what comes, for as long as the lease holds."""
        after = await self._store.cursor()
        while not self._stopping.is_set():
            await self._renew()
            doubtful = bool(self._doubt)
            entries = await self._log.read(after, self._doubt.batch, _WAIT_MILLISECONDS)
            if doubtful:
                await self._try(entries, after)
            elif entries:
                await self._commit([read(entry, self._providers) for entry in entries], after)
            after = entries[-1].position if entries else after
            await self._keep_house()
            if 0 < len(entries) < _SHORT_BATCH and not doubtful:
                await asyncio.sleep(_BREATH_SECONDS)
        await self._give_up()
        self._held.set(0)

    async def _give_up(self) -> None:
        await self._trials.end()
        await self._lease.give_up()

    async def _try(self, entries: Sequence[LogEntry], after: str) -> None:
        """Commit one capture that the pipeline before may have died of, or give it up; none: there are no others."""
        for entry in entries:
            hopeless = is_hopeless(await self._trials.count(entry.position))
            await self._commit([given_up(entry) if hopeless else read(entry, self._providers)], after)
            self._doubt.lessen()
        if not entries:
            self._doubt.end()
        if not self._doubt:
            await self._trials.settle()

    async def _renew(self) -> None:
        if time.monotonic() - self._renewed_at < _RENEW_SECONDS:
            return
        if not await self._lease.renew():
            raise LeaseLost("it ran out and another pipeline took it")
        self._renewed_at = time.monotonic()
        if await self._lease.is_wanted():
            await self._give_up()
            raise LeaseLost("handed over to who asked for it, a replay for example")

    async def _commit(self, entries: Sequence[Entry], after: str) -> None:
        _count(await self._store.commit(self._lease.token, after, entries))
        metrics.BATCH.observe(len(entries))
        received = [entry.capture.received_at for entry in entries if entry.capture.provider != UNKNOWN]
        if received:  # what could not be read at all does not say when
            now = datetime.now(UTC)
            self._lag.set(max(0.0, (now - received[-1]).total_seconds()))
            metrics.PUBLISH_SECONDS.observe(max(0.0, (now - received[0]).total_seconds()))

    async def _keep_house(self) -> None:
        """Trim what retention lets go, a little at a time."""
        if time.monotonic() - self._housekept_at < _HOUSEKEEPING_SECONDS:
            return
        self._housekept_at = time.monotonic()
        now, keep = time.time(), self._retention
        captures_before = int((now - keep.captures_seconds) * 1000)
        events_before = int((now - keep.events_seconds) * 1000)
        await self._log.trim_captures(max(0, captures_before), keep.captures_max_bytes)
        await self._log.trim_events(max(0, events_before), keep.events_max_bytes)
        await self._log.trim_dead(max(0, events_before), _DEAD_BYTES)

    async def _pause(self, seconds: float) -> None:
        """Sleep, or wake at once when asked to end."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _count(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        capture, parsed = outcome.entry.capture, outcome.parsed
        labels = (capture.provider, capture.account)
        if isinstance(parsed, Unreadable):
            metrics.DEAD_LETTERS.labels(*labels, parsed.reason).inc()
            log.warning("dead letter", capture=capture.id, reason=parsed.reason, path=parsed.path)
        elif outcome.sequence == DUPLICATE:
            metrics.DUPLICATES.labels(*labels).inc()
        elif isinstance(parsed, Event):
            metrics.EVENTS.labels(*labels, parsed.type).inc()
            if outcome.provisional and outcome.sequence == 1:
                metrics.PROVISIONAL.labels(*labels).inc()
