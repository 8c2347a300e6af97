"""`partyline replay`: captures once more, through the same reading and the same commits as live callbacks."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec
import orjson
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from correlator.lookup import Lookup
from receiver import replay as replaying
from receiver.archive import Damaged, Redacted
from receiver.archive_files import ArchiveError, opened
from receiver.browsing import Reading, judge, taking
from receiver.captures import CaptureLog, LogEntry
from receiver.cli.output import readable_output, run
from receiver.cli.reaching import is_there, namespace_of, refuse_unless_namespace, running_redis, the_account
from receiver.cli.selecting import resolved, scope_of, selecting, selection_of
from receiver.cli.terminal import ConfigOption, JsonOption, err, out, settings_at
from receiver.preview import Preview, preview
from receiver.process import settle
from receiver.rebuilding import rebuild
from receiver.replay import Pace, Site, Stopped, Tally, place
from receiver.selection import EVERYTHING, Asked, Selection, SelectionError
from receiver.settings import Settings
from schemas.keyspace import Keyspace

_ASK_ABOVE = 1000
_TOKEN = "PARTYLINE_REPLAY_TOKEN"  # noqa: S105 - the variable's name
_PLAIN_EVERY_SECONDS = 5.0


class Wanted(NamedTuple):
    """What the options beside those of the selection ask for."""

    file: str | None
    after: str
    limit: int | None
    rate: float | None
    yes: bool


@selecting
def replay(
    asked: Asked,
    *,
    file: Annotated[str | None, typer.Option("--from", help="An archive instead of the log; - reads stdin.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Publish again what the stream has lost, under its ids.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Publish nothing; say which events and conversations would differ.")
    ] = False,
    into: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="Rebuild a fresh namespace; run again, it goes on.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="URL", help=f"Post to another receiver; its replay token in ${_TOKEN}.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="At most so many captures a second.", min=0.1)] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many captures.", min=1)] = None,
    after: Annotated[str, typer.Option(help="Only what stands after this position: how to resume.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help=f"Do not ask, however many (above {_ASK_ABOVE:,}).")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Read captures again. What was published stays published once; what was not is published now, marked as replayed.

    It holds the namespace's lease meanwhile and works off what comes in; a running receiver goes on by itself after it.

    Example: partyline replay --since 2h --dry-run
    """
    settings = settings_at(config)
    _only_one(repair=repair, dry_run=dry_run, into=into is not None, to=to is not None)
    selection = selection_of(asked, settings)
    if into is not None:
        refuse_unless_namespace("--into", into)
    wanted = Wanted(file, _position(after), limit, rate, yes)
    with readable_output():
        run(_replay(settings, selection, wanted, _Way(repair, dry_run, into, to), as_json=json))


class _Way(NamedTuple):
    repair: bool
    dry_run: bool
    into: str | None
    to: str | None


def _only_one(**ways: bool) -> None:
    chosen = [f"--{name.replace('_', '-')}" for name, is_chosen in ways.items() if is_chosen]
    if len(chosen) > 1:
        raise SelectionError(f"{' and '.join(chosen)} are different things to do; choose one")


def _position(after: str) -> str:
    try:
        place(after)
    except ValueError:
        raise SelectionError("--after: a position is two numbers, as in 1700000000000-0") from None
    return after


# --- doing it ---


async def _replay(settings: Settings, selection: Selection, wanted: Wanted, way: _Way, *, as_json: bool) -> None:
    async with namespace_of(settings, the_account(selection.accounts)) as (redis, keyspace):
        chosen = await resolved(selection, Lookup(redis, keyspace, settings.id_key))
        source = _Source(settings, Reading(redis, keyspace, scope_of(settings, keyspace)), chosen, wanted)
        total = await _counted(source, wanted)
        if total == 0:
            err.print("No capture is asked for: nothing to do.")
            return
        site = Site(redis, keyspace, settings)
        settle()
        if way.dry_run:
            await _preview(site, source, wanted, total, as_json=as_json)
        elif way.to is not None:
            await _post(source, way.to, wanted, total)
        else:
            _tell(await _work(site, source, wanted, way, total), as_json=as_json)


async def _counted(source: "_Source", wanted: Wanted) -> int | None:
    """How many captures are meant, said and asked about; None: stdin, which cannot be read twice."""
    if wanted.file == "-":
        return None
    total = await source.count()
    err.print(f"{total:,} capture(s) are meant.")
    if total > _ASK_ABOVE and not wanted.yes:
        if not sys.stdin.isatty():
            raise SelectionError(f"that is more than {_ASK_ABOVE:,}: say --yes")
        typer.confirm("Go on?", abort=True, err=True)
    return total


class _Source:
    """The captures that are meant, from the log or from an archive, as often as they are asked for."""

    def __init__(self, settings: Settings, where: Reading, selection: Selection, wanted: Wanted) -> None:
        self._settings = settings
        self._where = where
        self._selection = selection
        self._wanted = wanted
        #: Lines of the archive that cannot be read.
        self.damaged = 0

    async def count(self) -> int:
        """How many are taken; those of a whole log are not read for that."""
        limit = self._wanted.limit
        if self._wanted.file is None and self._selection == EVERYTHING and not self._wanted.after:
            length = await CaptureLog(self._where.redis, self._where.keyspace).length()
            return length if limit is None else min(length, limit)
        count = 0
        async for _ in self.entries():
            count += 1
        return count

    async def entries(self) -> AsyncIterator[LogEntry]:
        """Each that is taken, in order."""
        meant = await self.meant(self._wanted.limit)
        async for entry in self._read(self._selection.after, self._selection.last):
            if meant(entry):
                yield entry
                if meant.left == 0:
                    return

    async def meant(self, limit: int | None) -> "_Meant":
        """What tells which of all captures are taken, and no more than a number of them."""
        if self._wanted.file is None:
            takes = await judge(self._where, self._selection)
        elif self._selection.outcomes:
            raise SelectionError("--outcome: an archive does not say what became of its captures")
        else:
            takes = partial(taking, self._selection, known=None, scope_of=self._where.scope_of)
        return _Meant(takes, self._wanted.after, limit)

    def whole(self) -> AsyncIterator[LogEntry]:
        """The whole log or archive, for what has to be seen in its context."""
        return self._read()

    async def _read(self, after: str = "", until: str = "+") -> AsyncIterator[LogEntry]:
        """The log between two positions, or all of the archive."""
        if self._wanted.file is None:
            async for entry in CaptureLog(self._where.redis, self._where.keyspace).scan(after, until):
                yield entry
            return
        self.damaged = 0
        with opened(self._wanted.file) as items:
            for item in items:
                if isinstance(item, Damaged):
                    self.damaged += 1
                elif isinstance(item, Redacted):
                    raise ArchiveError("the archive is redacted: its captures are not what came in")
                elif is_there(item, self._settings, self._where.keyspace):
                    yield item


class _Meant:
    """Whether a capture is meant; asked about each once, in order, as it counts them."""

    def __init__(self, takes: Callable[[LogEntry], bool], after: str, limit: int | None) -> None:
        self._takes = takes
        self._after = place(after) if after else None
        #: How many more may be; None: any number.
        self.left = limit

    def __call__(self, entry: LogEntry) -> bool:
        if self.left == 0 or (self._after is not None and place(entry.position) <= self._after):
            return False
        if not self._takes(entry):
            return False
        if self.left is not None:
            self.left -= 1
        return True


async def _work(site: Site, source: _Source, wanted: Wanted, way: _Way, total: int | None) -> Tally:
    """Replay, repair or rebuild; stopped by Ctrl-C between two captures, saying how to go on."""
    tally = Tally()
    with _stopping() as stopping, _progress(total) as show:
        pace = Pace(wanted.rate, lambda so_far: show(so_far.captures), stopping)
        try:
            if way.into is not None:
                target = Keyspace(way.into, site.keyspace.partition, site.keyspace.keys_of)
                async with running_redis(site.settings, target) as redis:
                    await rebuild(site._replace(redis=redis, keyspace=target), source.entries(), pace, tally)
            elif way.repair:
                await replaying.repair(site, source.entries(), pace, tally)
            else:
                await replaying.replay(site, source.entries(), pace, tally)
        except Stopped:
            # What followed from events is brought back last, for the captures of the same run.
            how = "no change" if way.repair else _resume(tally)
            err.print(f"Stopped after {tally.captures:,} capture(s). To go on: the same command with {how}")
    if source.damaged:
        err.print(f"[bold yellow]![/] {source.damaged:,} line(s) of the archive cannot be read, and were passed over.")
    return tally


def _resume(tally: Tally) -> str:
    return f"--after {tally.position}" if tally.position else "no change"


async def _preview(site: Site, source: _Source, wanted: Wanted, total: int | None, *, as_json: bool) -> None:
    """What would be different, for as many captures as were counted: what comes in meanwhile is not among them."""
    with _stopping() as stopping, _progress(None):
        meant = await source.meant(wanted.limit if total is None else total)
        try:
            found = await preview(site, source.whole(), meant, Pace(wanted.rate, stopping=stopping))
        except Stopped:
            err.print("Stopped before all was looked at. Nothing was written.")
            return
    _tell_preview(found, as_json=as_json)


async def _post(source: _Source, url: str, wanted: Wanted, total: int | None) -> None:
    from receiver.reposting import NotTaken, repost  # noqa: PLC0415 - no other way to replay needs an HTTP client

    token = os.environ.get(_TOKEN, "")
    if not token:
        raise SelectionError(f"--to: set {_TOKEN} to one of the other receiver's server.replay_tokens")
    done, last = 0, ""
    with _progress(total) as show:

        def through(entry: LogEntry, _: int) -> None:
            nonlocal done, last
            done, last = done + 1, entry.position
            show(done)

        try:
            posted = await repost(source.entries(), url, token, rate=wanted.rate, on_done=through)
        except NotTaken:
            err.print(f"{done:,} capture(s) are through. To go on: the same command with --after {last or 'no change'}")
            raise
    unreadable = f", {posted.unreadable:,} damaged here and left out" if posted.unreadable else ""
    out.file.write(f"{posted.captured:,} capture(s) taken by the other receiver{unreadable}.\n")


# --- showing ---


def _tell(tally: Tally, *, as_json: bool) -> None:
    published = dict(sorted(tally.published.items()))
    if as_json:
        counts = {"captures": tally.captures, "published": published, "duplicates": tally.duplicates}
        rest = {"dead": tally.dead, "too_old": tally.too_old, "position": tally.position}
        out.file.write(f"{orjson.dumps(counts | rest).decode()}\n")
        return
    lines = [f"{tally.captures:,} capture(s) read again: {tally.published.total():,} event(s) published"]
    lines += [f"  {count:>9,}  {name}" for name, count in published.items()]
    lines.append(f"{tally.duplicates:,} fact(s) were published before; {tally.dead:,} element(s) cannot be read.")
    if tally.too_old:
        lines.append(
            f"{tally.too_old:,} capture(s) are older than retention.dedupe and were left out: only --into replays them."
        )
    out.file.write("\n".join(lines) + "\n")


def _tell_preview(found: Preview, *, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = {
            "captures": found.captures,
            "same": found.same,
            "differing": dict(found.counts),
            "events": {what: [each._asdict() for each in some] for what, some in found.differences.items()},
            "splits": found.splits,
            "merges": found.merges,
            "renamed": found.renamed,
        }
        out.file.write(f"{orjson.dumps(msgspec.to_builtins(shown)).decode()}\n")
        return
    out.file.write("\n".join(_preview_lines(found)) + "\n")


_WORDS = {
    "new": "would be published that the stream does not have",
    "gone": "in the stream would not come about",
    "type": "would be of another type",
    "data": "would say something else",
}


def _preview_lines(found: Preview) -> list[str]:
    lines = [f"{found.captures:,} capture(s) looked at; {found.same:,} event(s) would be as they are."]
    if found.empty:
        return [*lines, "Nothing would be different."]
    for what, count in sorted(found.counts.items()):
        lines.append(f"{count:,} event(s) {_WORDS[what]}:")
        lines += [f"  {each.type:<22} {each.id}" for each in found.differences[what]]
        lines += [f"  … and {count - len(found.differences[what]):,} more"] * (count > len(found.differences[what]))
    for key, into in found.splits.items():
        lines.append(f"{key} would be split into {', '.join(into)}")
    for key, of in found.merges.items():
        lines.append(f"{', '.join(of)} would be one: {key}")
    lines += [f"{key} would be {into}" for key, into in found.renamed.items()]
    return [*lines, "Nothing was written."]


@contextmanager
def _stopping() -> Any:
    """Whether Ctrl-C was pressed; a second one ends the program as usual."""
    loop, stopped = asyncio.get_running_loop(), False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        loop.remove_signal_handler(signal.SIGINT)
        err.print("Stopping after this batch; Ctrl-C again stops at once.")

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield lambda: stopped
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@contextmanager
def _progress(total: int | None) -> Any:
    """A bar with rate and time left at a terminal, a plain line now and then elsewhere."""
    loop = asyncio.get_running_loop()
    began = last = loop.time()

    def plain(count: int) -> None:
        nonlocal last
        if loop.time() - last > _PLAIN_EVERY_SECONDS:
            last = loop.time()
            err.print(
                f"{count:,}{f' of {total:,}' if total else ''} capture(s), {count / (last - began):,.0f} a second"
            )

    if not err.is_terminal:
        yield plain
        return
    columns = (TextColumn("{task.completed:,.0f}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[rate]}"), console=err, transient=True) as bar:
        task = bar.add_task("", total=total, rate="")

        def show(count: int) -> None:
            rate = count / max(0.001, loop.time() - began)
            bar.update(task, completed=count, rate=f"{rate:,.0f} a second")

        yield show
