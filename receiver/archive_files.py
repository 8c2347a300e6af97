"""Archives as files: plain or zstd, read as a stream, grown by whole lines, gone on with after an interruption."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import zstandard

from receiver.archive import MAX_LINE, Damaged, read, read_line, split
from receiver.captures import LogEntry
from schemas.errors import PartylineError

STANDARD = "-"
_SUFFIX: Final = ".zst"
#: How every line of an archive begins.
_BEGIN: Final = b'{"partyline":'
_MAGIC: Final = b"\x28\xb5\x2f\xfd"
#: Small pieces of compressed bytes: when one cannot be decompressed, no more than what it held is lost.
_COMPRESSED_CHUNK: Final = 16 * 1024
_CHUNK: Final = 256 * 1024
#: How many bytes of lines make one compressed frame: frames are what damage is confined to.
_FRAME: Final = 1024 * 1024
_LEVEL: Final = 9


class ArchiveError(PartylineError):
    """A file that cannot be opened, written, or gone on with as an archive."""

    reason = "archive"


# --- reading ----------------------------------------------------------------------------------------------


@contextmanager
def opened(name: str) -> Iterator[Iterator[LogEntry | Damaged]]:
    """The entries of an archive, plain or compressed, which its first bytes tell; `-` is standard input."""
    if name == STANDARD:
        yield read(split(_decompressed(sys.stdin.buffer)))
        return
    try:
        with Path(name).open("rb") as file:
            yield read(split(_decompressed(file)))
    except OSError as error:
        raise ArchiveError(f"{name} cannot be read: {error.strerror}") from error


def _decompressed(raw: BinaryIO) -> Iterator[bytes | Damaged]:
    first = raw.read(len(_MAGIC))
    if first == _MAGIC:
        yield from _frames(raw, first)
        return
    yield first
    while chunk := raw.read(_CHUNK):
        yield chunk


def _frames(raw: BinaryIO, data: bytes, whole: Callable[[int], None] | None = None) -> Iterator[bytes | Damaged]:
    """The content of frame after frame; what cannot be decompressed is told, and the next frame looked for.

    `whole` is told the number of compressed bytes up to the end of each frame that is whole.
    """
    began = False
    frame = zstandard.ZstdDecompressor().decompressobj()
    while data or (data := raw.read(_COMPRESSED_CHUNK)):
        try:
            content = frame.decompress(data)
        except zstandard.ZstdError:
            yield Damaged(0, "compressed, and cannot be decompressed: goes on where the next part begins")
            began, frame = False, zstandard.ZstdDecompressor().decompressobj()
            data = _next_frame(raw, data[1:])
            continue
        began = True
        yield content
        data = frame.unused_data
        if frame.eof:
            if whole:
                whole(raw.tell() - len(data))
            began, frame = False, zstandard.ZstdDecompressor().decompressobj()
    if began:
        yield Damaged(0, "compressed, and the file ends in the middle of it")


def _next_frame(raw: BinaryIO, data: bytes) -> bytes:
    """What follows from the next magic number on; empty at the end."""
    while (at := data.find(_MAGIC)) < 0:
        chunk = raw.read(_COMPRESSED_CHUNK)
        if not chunk:
            return b""
        data = data[-len(_MAGIC) + 1 :] + chunk
    return data[at:]


# --- writing ----------------------------------------------------------------------------------------------


class ArchiveFile:
    """Takes lines and writes them in order; `flush` returns once they are on disk."""

    def __init__(self, file: BinaryIO, *, compressed: bool, on_disk: bool = True) -> None:
        self._file = file
        self._on_disk = on_disk
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False) if compressed else None
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        """Take one line, to be written by and by."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _FRAME:
            self._write()

    def flush(self) -> None:
        """Write all that was taken, and wait for the disk where there is one."""
        self._write()
        self._file.flush()
        if self._on_disk:
            os.fsync(self._file.fileno())

    def _write(self) -> None:
        if self._lines:
            data = b"".join(self._lines)
            self._file.write(self._compressor.compress(data) if self._compressor else data)
        self._lines, self._size = [], 0


def is_compressed(name: str) -> bool:
    """Whether a file's name says that it is compressed."""
    return name.endswith(_SUFFIX)


@contextmanager
def created(name: str, *, compressed: bool) -> Iterator[ArchiveFile]:
    """A new archive, which appears under its name once it is whole; its owner alone may read it. `-`: standard output.

    Raises ArchiveError for a file that is there already: an archive may be the only copy.
    """
    if name == STANDARD:
        archive = ArchiveFile(sys.stdout.buffer, compressed=compressed, on_disk=False)
        yield archive
        archive.flush()
        return
    target, partial = Path(name), Path(f"{name}.partial")
    if target.exists():
        raise ArchiveError(f"{name} is there already: name another file, or go on with it by --follow")
    try:
        file = _private(partial, os.O_TRUNC)
    except OSError as error:
        raise ArchiveError(f"{name} cannot be written: {error.strerror}") from error
    try:
        with file:
            archive = ArchiveFile(file, compressed=compressed)
            yield archive
            archive.flush()
        partial.rename(target)
    except OSError as error:
        raise ArchiveError(f"{name} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _private(path: Path, flags: int) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600), "r+b")


@contextmanager
def continued(name: str) -> Iterator[tuple[ArchiveFile, str]]:
    """An archive to go on with, and the position of its last whole line (empty: it is new).

    What was cut off in the middle is cut away, so that the file is whole again with the next line. Raises ArchiveError
    for a file that holds something else.
    """
    try:
        with _private(Path(name), 0) as file:
            end, position = _end(file, name)
            file.truncate(end)
            file.seek(end)
            yield ArchiveFile(file, compressed=is_compressed(name)), position
    except OSError as error:
        raise ArchiveError(f"{name} cannot be written: {error.strerror}") from error


def _end(file: BinaryIO, name: str) -> tuple[int, str]:
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return 0, ""
    file.seek(0)
    begin = file.read(len(_MAGIC))
    if (begin == _MAGIC) != is_compressed(name) and len(begin) == len(_MAGIC):
        raise ArchiveError(f"{name}: its name and its content do not agree on whether it is compressed")
    end, position, ours = _end_of_frames(file, begin) if is_compressed(name) else _end_of_lines(file, size)
    if not ours:
        raise ArchiveError(f"{name} is no archive of captures: there is no capture in it that can be read")
    return end, position


def _end_of_frames(file: BinaryIO, begin: bytes) -> tuple[int, str, bool]:
    """Where the last whole frame ends, the position of the last line in it, and whether any line can be read."""
    last = found = ""
    end = 0

    def whole(count: int) -> None:
        nonlocal end, found
        end, found = count, last

    for item in read(split(_frames(file, begin, whole))):
        if isinstance(item, LogEntry):
            last = item.position
    return end, found, bool(last)


def _end_of_lines(file: BinaryIO, size: int) -> tuple[int, str, bool]:
    """Where the last whole line ends, the position of the last that can be read, and whether there is any such.

    It looks from the end, since an archive grows for years. A first line that was cut off shows by how it begins.
    """
    tail, at, end = b"", size, 0
    while at > 0:
        step = min(_CHUNK, at)
        at -= step
        file.seek(at)
        tail = file.read(step) + tail
        lines = tail.split(b"\n")
        end = end or (at + len(tail) - len(lines[-1]) if len(lines) > 1 else 0)
        for line in reversed(lines[1 if at else 0 : -1]):
            position = _position(line)
            if position:
                return end, position, True
        if len(tail) > MAX_LINE:
            break
    return end, "", tail.startswith(_BEGIN)


def _position(line: bytes) -> str:
    try:
        return read_line(line).position
    except ValueError:
        return ""
