"""`partyline captures export` and `import`: archives of the capture log, out and in."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated

import msgspec
import typer
from redis.asyncio import Redis
from rich.markup import escape

from correlator.lookup import Lookup
from receiver.archive import Damaged, Redacted, write
from receiver.archive_files import STANDARD, ArchiveError, ArchiveFile, continued, created, is_compressed, opened
from receiver.browsing import Reading, logged, taking
from receiver.captures import CaptureLog, LogEntry
from receiver.cli.output import counting, readable_output, run
from receiver.cli.reaching import is_there, namespace_of, redis_of, the_account
from receiver.cli.selecting import resolved, scope_of, selecting, selection_of
from receiver.cli.terminal import ConfigOption, err, settings_at
from receiver.importing import Importer
from receiver.process import stop_signal
from receiver.redaction import Redactor
from receiver.selection import Asked, ScopeOf, Selection, SelectionError
from receiver.settings import Settings
from schemas.errors import StoreError
from schemas.keyspace import Keyspace

_BATCH, _WAIT_MILLISECONDS = 500, 500
#: After a short batch: one wait for the disk a second is enough, and larger parts compress better.
_BREATH_SECONDS = 1.0
_MOST_COMPLAINTS = 20

#: What becomes of an entry on its way into an archive.
_Masking = Callable[[LogEntry], LogEntry]


@selecting
def export_(
    asked: Asked,
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="Where to; - is stdout.")] = STANDARD,
    *,
    zstd: Annotated[bool, typer.Option("--zstd", help="Compress; a FILE that ends in .zst is anyway.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as captures come in, after a restart too.")] = False,
    redact: Annotated[
        bool, typer.Option("--redact", help="Replace texts, addresses and ids, each always alike.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write captures to an archive, byte for byte: one JSON line each, with a check of its own.

    Example: partyline captures export --since 7d captures.jsonl.zst
    """
    settings = settings_at(config)
    selection = selection_of(asked, settings)
    if "quarantined" in selection.outcomes:
        raise SelectionError("--outcome: what is in the quarantine was never proved authentic, so it stays there")
    mask = _masking(settings) if redact else _as_it_is
    if follow:
        _refuse_to_follow(file, asked, zstd=zstd)
        run(_follow(settings, selection, file, mask))
        return
    with readable_output():
        count = run(_export(settings, selection, file, mask, compressed=zstd or is_compressed(file)))
        err.print(f"Exported {count:,} capture(s){' to ' + escape(file) if file != STANDARD else ''}.")


@selecting
def import_(
    asked: Asked,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="An archive, compressed or not; - reads stdin.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    allow_redacted: Annotated[bool, typer.Option("--allow-redacted", help="Take redacted captures too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Append the captures of an archive to the log, with their own ids, but for those that are in it.

    That alone publishes nothing: a receiver's pipeline reads them, now or when it next runs.

    Example: partyline captures import captures.jsonl.zst --dry-run
    """
    settings = settings_at(config)
    selection = selection_of(asked, settings)
    if selection.outcomes:
        raise SelectionError("--outcome: an archive does not say what became of its captures")
    run(_import(settings, selection, file, dry_run=dry_run, allow_redacted=allow_redacted))


# --- out ---


def _as_it_is(entry: LogEntry) -> LogEntry:
    return entry


def _masking(settings: Settings) -> _Masking:
    if not settings.id_key:
        raise SelectionError("--redact: without an id_key anybody could undo it, by trying all numbers; set one")
    return Redactor(settings.id_key).redact


def _refuse_to_follow(file: str, asked: Asked, *, zstd: bool) -> None:
    if file == STANDARD:
        raise SelectionError("--follow: it goes on where the file ends, so name a FILE")
    if zstd and not is_compressed(file):
        raise SelectionError("--follow: name the file .zst if it is to be compressed")
    if asked.until is not None or asked.outcome:
        raise SelectionError("--follow: neither --until nor --outcome can be told of what is still to come")


async def _export(settings: Settings, selection: Selection, file: str, mask: _Masking, *, compressed: bool) -> int:
    count = 0
    async with namespace_of(settings, the_account(selection.accounts)) as (redis, keyspace):
        where = Reading(redis, keyspace, scope_of(settings, keyspace))
        chosen = await resolved(selection, Lookup(redis, keyspace, settings.id_key))
        with created(file, compressed=compressed) as archive, counting("Exporting") as show:
            async for entry in logged(where, chosen):
                archive.add(write(mask(entry)))
                count += 1
                show(count)
    return count


async def _follow(settings: Settings, selection: Selection, file: str, mask: _Masking) -> None:
    async with namespace_of(settings, the_account(selection.accounts)) as (redis, keyspace):
        chosen = await resolved(selection, Lookup(redis, keyspace, settings.id_key))
        chosen = msgspec.structs.replace(chosen, outcomes=frozenset())
        with continued(file) as (archive, position):
            if position:
                await mind_the_gap(redis, keyspace, position)
            after = position or chosen.after
            err.print(f"Following the log into {escape(file)}, from {position or 'its beginning'} on; Ctrl-C stops.")
            async with redis_of(settings, None) as patient:
                follower = _Follower(CaptureLog(patient, keyspace), archive, chosen, mask, scope_of(settings, keyspace))
                await follower.run(after)
    err.print(f"{escape(file)}: {follower.count:,} capture(s) more.")


async def mind_the_gap(redis: Redis, keyspace: Keyspace, position: str) -> None:
    """Say so when the log no longer reaches back to where the archive ends."""
    milliseconds, _, number = position.partition("-")
    before = f"{milliseconds}-{int(number) - 1}" if int(number) else f"{int(milliseconds) - 1}-{2**64 - 1}"
    async for entry in CaptureLog(redis, keyspace).scan(before, count=1):
        if entry.position != position:
            err.print(
                f"[bold yellow]![/] The log no longer has {position}, where the archive ends: some may be missing."
            )
        return


class _Follower:
    """Archives what comes into the log until it is told to stop, through every outage of Redis."""

    def __init__(
        self, log: CaptureLog, archive: ArchiveFile, selection: Selection, mask: _Masking, scopes: ScopeOf
    ) -> None:
        """`log`: by a client that waits."""
        self._log = log
        self._archive = archive
        self._selection = selection
        self._mask = mask
        self._scope_of = scopes
        self._away = False
        self.count = 0

    async def run(self, after: str) -> None:
        """Go on after a position, until SIGTERM or Ctrl-C."""
        stopped = stop_signal()
        while not stopped.is_set():
            entries = await self._next(after)
            for entry in entries:
                if taking(self._selection, entry, None, self._scope_of):
                    self._archive.add(write(self._mask(entry)))
                    self.count += 1
                after = entry.position
            if entries:
                self._archive.flush()
            if len(entries) < _BATCH:
                await _pause(stopped)

    async def _next(self, after: str) -> list[LogEntry]:
        try:
            entries = await self._log.read(after, _BATCH, _WAIT_MILLISECONDS)
        except StoreError as error:
            if not self._away:
                err.print(f"[bold yellow]![/] Waiting for it. {escape(str(error))}")
            self._away = True
            return []
        if self._away:
            err.print("Redis is back.")
        self._away = False
        return entries


async def _pause(stopped: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stopped.wait(), _BREATH_SECONDS)
    except TimeoutError:
        return


# --- in ---


async def _import(settings: Settings, selection: Selection, file: str, *, dry_run: bool, allow_redacted: bool) -> None:
    async with namespace_of(settings, the_account(selection.accounts)) as (redis, keyspace):
        chosen = await resolved(selection, Lookup(redis, keyspace, settings.id_key))
        importer = Importer(redis, keyspace, dry_run=dry_run)
        with counting("Looking through the log") as show:
            async for known in importer.look():
                show(known)
        scopes, here = scope_of(settings, keyspace), partial(is_there, settings=settings, keyspace=keyspace)
        intake = _Intake(importer, chosen, scopes, here, allow_redacted=allow_redacted)
        await intake.take(file)
    err.print(intake.summary(settings.namespace, dry_run=dry_run))


class _Intake:
    """Takes the lines of an archive one by one, and counts what becomes of each."""

    def __init__(
        self,
        importer: Importer,
        selection: Selection,
        scopes: ScopeOf,
        here: Callable[[LogEntry], bool],
        *,
        allow_redacted: bool,
    ) -> None:
        """`here`: whether a capture belongs to the partition."""
        self._importer = importer
        self._selection = selection
        self._scope_of = scopes
        self._is_here = here
        self._allow_redacted = allow_redacted
        self._damaged = self._left_out = 0

    async def take(self, file: str) -> None:
        """All of an archive. ArchiveError at a redacted line that is not allowed; what came before it is in."""
        with opened(file) as items, counting("Importing") as show:
            for item in items:
                if isinstance(item, Damaged):
                    self._complain(item)
                elif not (self._is_here(item) and taking(self._selection, item, None, self._scope_of)):
                    self._left_out += 1
                else:
                    await self._add(item)
                    show(self._importer.done.appended)
            await self._importer.flush()

    async def _add(self, entry: LogEntry) -> None:
        if isinstance(entry, Redacted) and not self._allow_redacted:
            await self._importer.flush()
            raise ArchiveError(
                "the archive is redacted: its captures are not what came in. Import it with --allow-redacted, and best "
                f"into a namespace of its own ({self._importer.done.appended} captures before it were appended)"
            )
        await self._importer.add(entry)

    def _complain(self, damaged: Damaged) -> None:
        self._damaged += 1
        if self._damaged <= _MOST_COMPLAINTS:
            err.print(f"[bold yellow]![/] line {damaged.line} is passed over: {escape(damaged.reason)}")
        elif self._damaged == _MOST_COMPLAINTS + 1:
            err.print("[bold yellow]![/] and more such lines")

    def summary(self, namespace: str, *, dry_run: bool) -> str:
        """What was done, in a sentence or two."""
        done = self._importer.done
        counts = [
            f"{done.appended:,} capture(s) {'would be appended' if dry_run else 'appended'} to the log of {namespace}",
            f"{done.there_already:,} in it already",
            *([f"{self._left_out:,} not asked for"] if self._left_out else []),
            *([f"{self._damaged:,} line(s) that cannot be read"] if self._damaged else []),
        ]
        if dry_run or not done.appended:
            return f"{', '.join(counts)}."
        return (
            f"{', '.join(counts)}.\nNothing is published by that: the pipeline of a receiver that runs reads them next."
        )
