"""`partyline state`: back a namespace up, move it, bring it back."""

import gzip
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import orjson
import typer

from receiver.cli.output import run
from receiver.cli.reaching import keyspace_for, namespace_of, refuse_unless_namespace, running_redis
from receiver.cli.terminal import ConfigOption, JsonOption, err, out, settings_at
from receiver.settings import Settings
from receiver.state import Exported, export_state, import_state, refuse_unfit
from receiver.statefile import Checked, UnusableState, check, items
from schemas.errors import PartylineError
from schemas.ids import fingerprint
from schemas.keyspace import Keyspace

commands = typer.Typer(help="Back up and move what a namespace knows of conversations.", no_args_is_help=True)

_TIMEOUT_SECONDS = 30.0
_COPY_BYTES = 1 << 20
_NOT_IN_IT = "Captures, events, dead letters and the quarantine are no part of a state."

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE|-", help="The file; compressed if it ends in .gz. - is a pipe.")
]


@commands.command("export")
def export(file: FileArgument, *, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Write what a namespace knows of conversations into a file, all of it as of one position of the log.

    A receiver may run: it goes on capturing, and publishes nothing until the export is done. Not in the file are the
    streams: captures, events, dead letters, quarantine. It holds phone numbers, so it is for your eyes only.

    Example: partyline state export partyline-state.jsonl.gz
    """
    settings = settings_at(config)
    with _written(file) as target:
        done = run(_export(settings, target))
    print_to = err if file == "-" else out
    if json:
        print_to.file.write(f"{orjson.dumps(_said(done.header.namespace, done)).decode()}\n")
        return
    print_to.file.write(
        f"Exported {_count(done.trailer.keys)} of namespace {done.header.namespace}, "
        f"as of capture {done.header.cursor or '(none yet)'}.\n{_NOT_IN_IT}\n"
    )
    if done.behind:
        print_to.file.write("There are later captures, which the state knows nothing of: they are only in the log.\n")


@commands.command("import")
def import_(
    file: FileArgument,
    *,
    config: ConfigOption = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", help="Import it under this name; else under its own.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Read such a file into an empty namespace, after seeing that it is whole.

    Under another name, its conversations keep the keys that they have. An import that was broken off is begun again
    with the same command.

    Example: partyline state import partyline-state.jsonl.gz --namespace restored
    """
    settings = settings_at(config)
    with _readable(file) as source:
        checked = check(source)
        target = _target(checked, settings, namespace)
        refuse_unfit(checked.header, settings.redis.partitions, fingerprint(settings.id_key))
        source.seek(0)
        run(_import(settings, target, checked, source))
    if json:
        said = {"namespace": target, "cursor": checked.header.cursor, "keys": checked.trailer.keys}
        out.file.write(f"{orjson.dumps(said).decode()}\n")
        return
    out.file.write(
        f"Imported {_count(checked.trailer.keys)} into namespace {target}, "
        f"as of capture {checked.header.cursor or '(none yet)'}.\n{_NOT_IN_IT}\n"
    )
    if target != settings.namespace:
        out.file.write(f'To serve it, set namespace = "{target}" in the configuration.\n')
    else:
        out.file.write("A receiver that runs on it already has to be restarted.\n")


# --- what they do ---


async def _export(settings: Settings, target: BinaryIO) -> Exported:
    async with namespace_of(settings) as (redis, keyspace):
        return await export_state(redis, keyspace, target.write, datetime.now(UTC))


async def _import(settings: Settings, target: str, checked: Checked, source: BinaryIO) -> None:
    there = Keyspace(target, keyspace_for(settings).partition)
    async with running_redis(settings, there) as redis:
        await import_state(redis, there, checked, items(source))


def _target(checked: Checked, settings: Settings, asked: str | None) -> str:
    """Where it is to go: nothing is imported under a name that nobody has said."""
    own = checked.header.namespace
    if asked is None and own != settings.namespace:
        raise UnusableState(
            f"the state is of namespace {own}, and the configuration is of {settings.namespace}: "
            "say where it is to go with --namespace"
        )
    if asked is not None:
        refuse_unless_namespace("--namespace", asked)
    return own if asked is None else asked


def _said(namespace: str, done: Exported) -> dict[str, object]:
    header, trailer = done.header, done.trailer
    return {"namespace": namespace, "cursor": header.cursor, "keys": trailer.keys, "behind": done.behind}


def _count(keys: dict[str, int]) -> str:
    number = sum(keys.values())
    return f"{number} key" if number == 1 else f"{number} keys"


# --- files ---


@contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """A file to write to: there in the end whole or not at all, and only its owner's."""
    if file == "-":
        with _piped() as pipe:
            yield pipe
        return
    path = Path(file)
    _refuse_zst(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with _removed_unless_done(Path(name), path), os.fdopen(handle, "wb") as raw:
            with cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="wb")) if _is_gzip(path) else _kept(raw) as target:
                yield target
            raw.flush()
            os.fsync(handle)
    except OSError as error:
        raise PartylineError(f"{file} cannot be written: {error.strerror}") from error


@contextmanager
def _piped() -> Iterator[BinaryIO]:
    """Standard output, whose reader may go away."""
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # What is still to be flushed at exit goes nowhere, without a second complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise PartylineError("whoever reads the pipe went away before the state was whole") from None


@contextmanager
def _kept(raw: BinaryIO) -> Iterator[BinaryIO]:
    yield raw


@contextmanager
def _removed_unless_done(unfinished: Path, path: Path) -> Iterator[None]:
    try:
        yield
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _readable(file: str) -> Iterator[BinaryIO]:
    """A file that can be read twice; what comes by a pipe is kept aside for that."""
    try:
        with _opened(file) as source:
            yield source
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UnusableState("the file is cut off or damaged: it cannot be decompressed") from None
    except OSError as error:
        raise PartylineError(f"{file} cannot be read: {error.strerror}") from error


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        with tempfile.TemporaryFile() as spooled:
            while piece := sys.stdin.buffer.read(_COPY_BYTES):
                spooled.write(piece)
            spooled.seek(0)
            yield cast("BinaryIO", spooled)
        return
    path = Path(file)
    _refuse_zst(path)
    with path.open("rb") as raw:
        yield cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if _is_gzip(path) else raw


def _is_gzip(path: Path) -> bool:
    return path.suffix == ".gz"


def _refuse_zst(path: Path) -> None:
    if path.suffix in {".zst", ".bz2", ".xz"}:
        raise PartylineError(f"{path.suffix} is not compressed here: use .gz, or - and a pipe")
