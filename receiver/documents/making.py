"""Makes the documents anew from the code, and promises them with a release."""

from importlib.metadata import version
from pathlib import Path

from receiver.documents.async_api import async_api
from receiver.documents.files import ASYNCAPI, ENVELOPE, OPENAPI, RELEASED, Documents, committed, data_file, text
from receiver.documents.json_schema import data_schema, envelope_schema
from receiver.documents.open_api import open_api
from schemas.additive import lost_of_all
from schemas.published import DATA


def generated() -> Documents:
    """Every document as the code has it now, by file name."""
    current = version("partyline")
    return {
        ENVELOPE: envelope_schema(),
        ASYNCAPI: async_api(current),
        OPENAPI: open_api(current),
        **{data_file(name): data_schema(name) for name in DATA},
    }


def write(folder: Path) -> list[str]:
    """Write what the code has now, and remove what it no longer has; the names of what has changed."""
    documents, before = generated(), committed(folder)
    changed = sorted(name for name in {*documents, *before} if documents.get(name) != before.get(name))
    for name in changed:
        if name in documents:
            (folder / name).write_bytes(text(documents[name]))
        else:
            (folder / name).unlink()
    return changed


def release(folder: Path) -> list[str]:
    """Promise what stands in a folder from now on; what that would take away, having promised nothing then."""
    promised = folder / RELEASED
    promised.mkdir(exist_ok=True)
    now = committed(folder)
    losses = lost_of_all(committed(promised), now)
    if not losses:
        for name, document in now.items():
            (promised / name).write_bytes(text(document))
    return losses
