"""The `#:` comments above the fields of classes, so that documents say of a field what the code does."""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache

_NOTE = re.compile(r"\s*#: ?(.*)")


def field_notes(described: type) -> dict[str, str]:
    """What the comments above the fields of a class, its own and inherited, say."""
    notes: dict[str, str] = {}
    for each in reversed(described.__mro__):
        if each.__module__ in sys.modules and each.__module__ != "builtins":
            notes |= _of_module(each.__module__).get(each.__qualname__, {})
    return notes


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """The notes of each class of a module that has any source."""
    try:
        source = inspect.getsource(sys.modules[name])
    except (OSError, TypeError):  # compiled
        return {}
    lines = source.splitlines()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {each.name: dict(_of_fields(each, lines)) for each in classes}


def _of_fields(described: ast.ClassDef, lines: list[str]) -> Iterator[tuple[str, str]]:
    for node in described.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, _above(node.lineno - 1, lines)


def _above(line: int, lines: list[str]) -> str:
    found: list[str] = []
    while line > 0 and (match := _NOTE.fullmatch(lines[line - 1])):
        found.insert(0, match[1])
        line -= 1
    return " ".join(found)
