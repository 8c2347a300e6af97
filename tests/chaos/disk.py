"""A disk of a few mebibytes: a tmpfs that is mounted for a scenario, which takes root."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.scenario import NotRun

_BLOCK = 65536


class Disk:
    """What is mounted at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Take all room that is left but for a block or so."""
        filler = os.open(self.folder / "filler", os.O_WRONLY | os.O_CREAT, 0o600)
        free = os.fstatvfs(filler).f_bavail * os.fstatvfs(filler).f_bsize
        with contextlib.suppress(OSError):
            os.posix_fallocate(filler, 0, max(1, free - _BLOCK))
        os.close(filler)

    def enlarge(self, mebibytes: int) -> None:
        """Make it larger."""
        _run("mount", "-o", f"remount,size={mebibytes}m", str(self.folder))


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Disk]:
    """A disk of so many mebibytes. Raises NotRun where none can be mounted."""
    folder.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotRun(f"needs root, to mount a disk of {mebibytes} MiB that runs full: {error}") from error
    try:
        yield Disk(folder)
    finally:
        _run("umount", "--lazy", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
