"""Whether captures wait in the spool, for all processes of a host: one byte of a mapped file.

It is asked before every write and costs no system call. It is changed only under the spool's write lock, so it is true
for whoever holds that; it errs on the side of "some wait", and whoever drains finds out.
"""

import mmap
import os
from pathlib import Path

_SOME, _NONE = b"\x01", b"\x00"


class Waiting:
    """The byte. Raises OSError where it cannot be mapped."""

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
