"""`python -m receiver.documents` writes the documents anew; with `--release` it promises them."""

import sys
from pathlib import Path

from receiver.documents.files import FOLDER
from receiver.documents.making import release, write


def main(*, released: bool) -> int:
    """Write the documents, say which have changed, and, where they are to be promised, what that would take away."""
    folder = Path(str(FOLDER))
    folder.mkdir(exist_ok=True)
    for name in write(folder):
        sys.stdout.write(f"{name} has changed\n")
    losses = release(folder) if released else []
    for loss in losses:
        sys.stderr.write(f"{loss}\n")
    return 1 if losses else 0


if sys.argv[1:] not in ([], ["--release"]):
    sys.exit("usage: python -m receiver.documents [--release]")
sys.exit(main(released="--release" in sys.argv))
