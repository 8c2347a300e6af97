"""How a document of settings is read: each value by a reader, every mistake noted, the pass never cut short.

A reader takes one value as TOML gives it, or as text, since the environment has nothing else; it returns what
the value means or raises `WrongValueError`. No message repeats a value: it may be a secret in the wrong place.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

#: Where a setting stands: `("accounts", "main-telnyx", "public_keys", 1)`.
KeyPath = tuple[str | int, ...]
Reader = Callable[[Any], Any]

_PREFIX = "PARTYLINE_"
_REFERENCES = ("env:", "file:")
#: What Python makes of bytes in the environment that are not UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
#: The path of the file itself; a workspace's shared folder; the sources of tokens that the example names: who presents
#: one has it in the same variable, without the setting.
_NO_OVERRIDES = frozenset({"PARTYLINE_CONFIG", "PARTYLINE_SHARED", "PARTYLINE_API_TOKEN", "PARTYLINE_REPLAY_TOKEN"})
# Kubernetes puts these into every pod beside a service that is named partyline or partyline-something.
_SERVICE_LINK = re.compile(r"PARTYLINE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


class WrongValueError(Exception):
    """What is wrong with a value and what to write instead, as the rest of a sentence; never the value itself."""


class Setting(msgspec.Struct, frozen=True):
    """One key of a table."""

    #: The field of the value that it ends in.
    field: str
    read: Reader
    #: A list, of which `read` reads the items.
    many: bool = False
    #: May be written `env:NAME` or `file:PATH`.
    secret: bool = False


class Reading:
    """One pass over a document. Whatever is wrong goes to `mistakes`, and the pass goes on."""

    def __init__(self, environ: Mapping[str, str], base: Path) -> None:
        self.mistakes: list[str] = []
        self._environ = environ
        self._base = base
        self._variables: dict[KeyPath, str] = {}
        self._wrong: set[KeyPath] = set()

    def note(self, path: KeyPath, wrong: str) -> None:
        """Add a mistake under its key path, with the variable that the value came from."""
        variable = self._variables.get(path)
        self.mistakes.append(f"{written(path)}{f' (from {variable})' if variable else ''}: {wrong}")
        self._wrong.add(path)

    def sound(self, *paths: KeyPath) -> bool:
        """Whether none of these settings had a mistake, so that they may be compared."""
        return self._wrong.isdisjoint(paths)

    # --- environment over file ---

    def overridden(self, document: Mapping[str, Any], lists: Mapping[KeyPath, bool]) -> Mapping[str, Any]:
        """The document with what the environment sets instead; an empty variable counts as not set.

        Args:
            document: as it stands in the file.
            lists: every setting that there is, and whether it is a list.
        """
        paths = {variable_name(path): path for path in lists}
        set_here = {name: text for name, text in self._environ.items() if name.startswith(_PREFIX) and text}
        elsewhere = _NO_OVERRIDES.union(_referred(document), _referred(list(set_here.values())))
        for name, text in sorted(set_here.items()):
            path = paths.get(name)
            if path is not None and not lists[path]:
                self._variables[path] = name
                document = _with(document, path, text)
            elif path is not None:
                self.mistakes.append(f"{name}: {written(path)} is a list; only single values can be overridden")
            elif name not in elsewhere and not _is_service_link(name, text):
                scalars = [known for known, path in paths.items() if not lists[path]]
                self.mistakes.append(f"{name}: names no setting{closest(name, scalars)}; unset or rename it")
        return document

    # --- tables ---

    def table(self, document: Mapping[str, Any], path: KeyPath) -> Mapping[str, Any]:
        """The table under the last key of `path`; an empty one where there is none."""
        value = document.get(str(path[-1]), {})
        if isinstance(value, Mapping):
            return value
        self.note(path, f"is not a table; write its settings under [{written(path)}]")
        return {}

    def only(
        self,
        known: Iterable[str],
        table: Mapping[str, Any],
        path: KeyPath,
        elsewhere: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Note every key of a table that is none of the known ones; `elsewhere` says where some do belong."""
        names = sorted(known)
        for key in table:
            if key not in names:
                wrong = elsewhere.get(key) or f"is not a setting{closest(key, names)}"
                self.note((*path, key), f"{wrong} (there are {', '.join(names)})")

    def fields(self, settings: Mapping[str, Setting], table: Mapping[str, Any], path: KeyPath) -> dict[str, Any]:
        """What the settings of a table mean, by field; absent and mistaken ones are left out."""
        found: dict[str, Any] = {}
        for key, setting in settings.items():
            if key not in table:
                continue
            read = self._many if setting.many else self._one
            try:
                found[setting.field] = read(table[key], setting, (*path, key))
            except WrongValueError as error:
                self.note((*path, key), str(error))
        return found

    def _many(self, value: Any, setting: Setting, path: KeyPath) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise WrongValueError(f"is not a list; write {path[-1]} = [ … ]")
        found: list[Any] = []
        for index, item in enumerate(value):
            try:
                meaning = self._one(item, setting, (*path, index))
            except WrongValueError as error:
                self.note((*path, index), str(error))
                continue
            if meaning in found:
                self.note((*path, index), "stands twice in this list; remove one")
            found.append(meaning)
        return tuple(found)

    def _one(self, value: Any, setting: Setting, path: KeyPath) -> Any:
        if isinstance(value, str) and value.startswith(_REFERENCES):
            value = self._resolved(value, setting, path)
        if isinstance(value, str) and _SURROGATE.search(value):
            raise WrongValueError("is not UTF-8")
        return setting.read(value)

    def _resolved(self, reference: str, setting: Setting, path: KeyPath) -> str:
        if not setting.secret:
            hint = "" if setting.many else f"; set {variable_name(path)} instead"
            raise WrongValueError(f"only secrets can be written env:NAME or file:PATH{hint}")
        kind, _, name = reference.partition(":")
        text = self._variable(name) if kind == "env" else _content(self._base / name)
        if not text:
            raise WrongValueError(f"is empty: {reference} holds nothing")
        return text

    def _variable(self, name: str) -> str:
        text = self._environ.get(name, "")
        if not text:
            raise WrongValueError(f"the environment variable {name} is not set or empty; set it, or remove the key")
        return text


def written(path: KeyPath) -> str:
    """A key path as a person writes it: `accounts.main-telnyx.public_keys[1]`; odd keys are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part if _BARE_KEY.fullmatch(part) else json.dumps(part)}"
    return text.removeprefix(".")


def variable_name(path: KeyPath) -> str:
    """The variable that overrides a setting: `PARTYLINE_ACCOUNTS__MAIN_SINCH__DEFAULT_LINE`."""
    return _PREFIX + "__".join(str(part).upper().replace("-", "_") for part in path)


def closest(word: str, known: Iterable[str]) -> str:
    """`, did you mean "…"?` with the known word that looks most like it; nothing where none does."""
    matches = get_close_matches(word, list(known), n=1)
    return f', did you mean "{matches[0]}"?' if matches else ""


def _with(document: Mapping[str, Any], path: KeyPath, text: str) -> Mapping[str, Any]:
    """A copy with `text` at `path`; unchanged where something that is no table is in the way."""
    key, rest = str(path[0]), path[1:]
    if not rest:
        return {**document, key: text}
    below = document.get(key, {})
    return {**document, key: _with(below, rest, text)} if isinstance(below, Mapping) else document


def _referred(value: Any) -> Iterator[str]:
    """The variables that any text within names as `env:NAME`."""
    if isinstance(value, str):
        if value.startswith("env:"):
            yield value.removeprefix("env:")
    elif isinstance(value, Mapping):
        yield from _referred(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _referred(item)


def _is_service_link(name: str, text: str) -> bool:
    if "__" in name:
        return False
    return bool(_SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.match(text)))


def _content(file: Path) -> str:
    """A secret from a file, without the newline that editors and `echo` put at its end."""
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise WrongValueError(f"the file {file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of decoding, or a NUL in the path; the text may hold the secret
        raise WrongValueError(f"the file {file} is not UTF-8 text") from error
    return text.removesuffix("\n").removesuffix("\r")
