"""What tests fetch with npm: packages for Node programs, and others' validators that no other registry has.

With `NPM_VALIDATORS=1` (`make test-deep`) what cannot be fetched is a failure; else a test is skipped, and says why.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SECONDS = 100


def is_required() -> bool:
    """Whether a test that needs npm may not be skipped."""
    return bool(os.environ.get("NPM_VALIDATORS"))


def install_with_npm(folder: Path) -> None:
    """Install what a folder's package-lock.json names, held against its hashes; skip the test where that cannot be."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        _give_up(f"there is no {' and no '.join(missing)} on PATH")
    retries = 2 if is_required() else 0  # each costs ten seconds and more where there is no network
    command = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", f"--fetch-retries={retries}"]
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        _give_up(f"npm ci did not end within {_SECONDS} s")
    if ended.returncode != 0:
        _give_up(f"npm ci cannot fetch the packages (status {ended.returncode})")


def _give_up(why: str) -> None:
    if is_required():
        pytest.fail(why)
    pytest.skip(f"{why}; make test-deep insists")
