"""The documents as they are committed, by file name.

`schemas/documents/` holds what this version publishes, `schemas/documents/released/` what was promised with the latest
release: nothing of that may ever be taken away.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import orjson

Documents = dict[str, Any]

FOLDER: Traversable = files("schemas") / "documents"
RELEASED = "released"
ENVELOPE, ASYNCAPI, OPENAPI = "envelope.schema.json", "asyncapi.json", "openapi.json"


def data_file(event_type: str) -> str:
    """The file with the schema of one type's `data`."""
    return f"{event_type}.schema.json"


def committed(folder: Traversable = FOLDER) -> Documents:
    """The documents that stand in a folder, by file name."""
    return {each.name: orjson.loads(each.read_bytes()) for each in folder.iterdir() if each.name.endswith(".json")}


def text(document: Any) -> bytes:
    """A document as a file: indented, so that a change of it can be read."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
