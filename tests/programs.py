"""Programs of others that tests run: the proxies, Prometheus and its tool.

Where one is not there its tests are skipped, and say so; with `REAL_PROGRAMS=1` that is a failure (`make
test-deep`, and CI wherever Debian's packages could be fetched).
"""

import os
import shutil

import pytest

#: Where distributions put servers; not on everybody's PATH.
_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin")


def program(name: str) -> str:
    """Where a program is; the test is skipped where there is none, or fails where it may not be."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_MORE_FOLDERS])
    found = shutil.which(name, path=path)
    if found is None:
        why = f"there is no {name} on PATH"
        if os.environ.get("REAL_PROGRAMS"):
            pytest.fail(why)
        pytest.skip(f"{why}; make programs unpacks it, on Debian")
    return found
