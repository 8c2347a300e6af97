"""Whether captures wait in the spool, and its fence, for all processes of a host: some bytes of a mapped file.

They are asked before every write and cost no system call. They are changed only under the spool's write lock, so they
are true for whoever holds that. What they say errs on the side of "some wait", and whoever drains finds out.
"""

import mmap
import os
from pathlib import Path

_SOME, _NONE = b"\x01", b"\x00"
#: Eight bytes at a multiple of eight are copied at once.
_FENCE = slice(8, 16)


class Waiting:
    """These bytes. Raises OSError where it cannot be mapped."""

    def __init__(self, path: Path) -> None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(handle).st_size < mmap.PAGESIZE:
                os.ftruncate(handle, mmap.PAGESIZE)
            self._page = mmap.mmap(handle, mmap.PAGESIZE)
        finally:
            os.close(handle)

    def __bool__(self) -> bool:
        """Whether some wait."""
        return self._page[:1] == _SOME

    def set(self, *, some: bool) -> None:
        """Say so to everybody; only under the spool's write lock."""
        self._page[:1] = _SOME if some else _NONE

    @property
    def fence(self) -> int:
        """How often the spool was begun to be drained."""
        return int.from_bytes(self._page[_FENCE], "little")

    def raise_fence(self, number: int) -> None:
        """Tell it to everybody; only under the spool's write lock."""
        self._page[_FENCE] = number.to_bytes(8, "little")
