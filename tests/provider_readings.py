"""`python -m tests.provider_readings` writes `receiver/documents/providers.json` anew, from parsers and fixtures."""

import sys
from collections import defaultdict
from pathlib import Path

import msgspec

from receiver.documents.files import text
from receiver.documents.reading import FILE, learned
from receiver.providers import PROVIDERS
from schemas.callback import Capture
from tests.conformance import folders, load

PLACE = Path(__file__).parents[1] / "receiver/documents" / FILE


def made() -> bytes:
    """The file as parsers and fixtures have it now."""
    captures: dict[str, list[Capture]] = defaultdict(list)
    for folder in folders():
        captures[folder.parent.name].append(load(folder))
    return text(
        {name: msgspec.to_builtins(learned(captures[name], provider)) for name, provider in sorted(PROVIDERS.items())}
    )


if __name__ == "__main__":
    if PLACE.exists() and PLACE.read_bytes() == made():
        sys.exit(0)
    PLACE.write_bytes(made())
    sys.stdout.write(f"{FILE} has changed\n")
