"""Whether a document only ever gained: what a later version of a schema takes away from who relies on an earlier. Pure.

Documents are JSON values: JSON Schema, OpenAPI 3.1 or AsyncAPI 3. Each loss is a sentence that begins with the place.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

#: Keywords that bound values: with any change of them, some value is no longer what it was promised to be.
_BOUNDS = ("pattern", "format", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems")
_ANYTHING = "anything"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def lost(before: Json, after: Json) -> list[str]:
    """What was in one version of a document and is not in a later one; nothing if it only gained."""
    if "openapi" in before:
        return list(_routes(_Documents(before, after)))
    if "asyncapi" in before:
        return list(_channels(_Documents(before, after)))
    return list(_Documents(before, after).read.of(before, after, str(before.get("title", "$"))))


def lost_of_all(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """What was lost from a set of documents, by their names."""
    found: list[str] = []
    for name, document in before.items():
        found += [f"{name}: {loss}" for loss in lost(document, after[name])] if name in after else [f"{name}: is gone"]
    return found


class _Documents:
    """Both versions, and what was compared of them already: what is used in many places is told of once."""

    def __init__(self, before: Json, after: Json) -> None:
        self.before, self.after = before, after
        #: Of what others read (events, answers), and of what is sent to us (requests).
        self.read, self.asked = _Comparison(self, is_read=True), _Comparison(self, is_read=False)


def _resolved(document: Json, value: Any) -> Any:
    """A value of a document, or what it refers to."""
    while isinstance(value, Mapping) and "$ref" in value:
        found: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        value = found
    return value


# --- schemas ----------------------------------------------------------------------------------------------


class _Comparison:
    """Compares schemas of values that are read by others (events, answers) or sent to us (requests)."""

    def __init__(self, documents: _Documents, *, is_read: bool) -> None:
        self._documents = documents
        self._is_read = is_read
        #: What was compared already, kept so that nothing else gets its identity.
        self._seen: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def of(self, before: Any, after: Any, place: str) -> Iterator[str]:
        """What was lost from one schema to another."""
        references = (_reference(before), _reference(after))
        if all(references) and self._is_known(*references):
            return
        old = _branches(self._documents.before, before)
        new = _branches(self._documents.after, after)
        yield from self._types(old, new, place)
        for kind in sorted(old.keys() & new.keys()):
            if not self._is_known(old[kind], new[kind]):
                yield from self._branch(old[kind], new[kind], place)

    def _is_known(self, old: Any, new: Any) -> bool:
        """Whether two references or schemas were compared already; they are from now on."""
        pair = tuple(each if isinstance(each, str) else id(each) for each in (old, new))
        known = pair in self._seen
        self._seen[pair] = (old, new)
        return known

    def _types(self, old: Json, new: Json, place: str) -> Iterator[str]:
        gone = sorted(old.keys() - new.keys()) if self._is_read or _ANYTHING not in new else []
        for kind in gone:
            yield f"{place}: can no longer be {_worded(kind)}"
        for kind in sorted(new.keys() - old.keys()) if self._is_read and not gone else ():
            yield f"{place}: can now be {_worded(kind)}, which its readers do not expect"

    def _branch(self, old: Json, new: Json, place: str) -> Iterator[str]:
        yield from self._values(old, new, place)
        yield from _bounds(old, new, place)
        yield from self._required(old, new, place)
        yield from self._properties(old, new, place)
        yield from self._rules(old, new, place)
        for inside, name in (("items", "[]"), ("additionalProperties", ".*")):
            if inside in old or inside in new:
                yield from self.of(old.get(inside, {}), new.get(inside, {}), f"{place}{name}")

    def _values(self, old: Json, new: Json, place: str) -> Iterator[str]:
        """Values that can no longer occur. New ones may: who reads a word must expect one that they do not know."""
        was, now = _enumerated(old), _enumerated(new)
        if was is None and now is not None:
            yield f"{place}: could be any value and is now one of {_listed(now)}"
        if was is not None and now is None and self._is_read:
            yield f"{place}: was one of {_listed(was)} and can now be any value"
        for value in was or ():
            if now is not None and value not in now:
                yield f"{place}: can no longer be {value}"

    def _required(self, old: Json, new: Json, place: str) -> Iterator[str]:
        was, now = set(old.get("required", ())), set(new.get("required", ()))
        known, gone = old.get("properties", {}).keys(), _gone(old, new)
        for name in sorted((now - was) & known if self._is_read else now - was):
            yield f"{place}.{name}: was optional and is now required"
        for name in sorted(was - now - gone if self._is_read else ()):
            yield f"{place}.{name}: was always there and is now optional"

    def _properties(self, old: Json, new: Json, place: str) -> Iterator[str]:
        gone = _gone(old, new)
        for name, schema in old.get("properties", {}).items():
            if name in gone:
                yield f"{place}.{name}: is gone"
            else:
                yield from self.of(schema, new["properties"][name], f"{place}.{name}")

    def _rules(self, old: Json, new: Json, place: str) -> Iterator[str]:
        """Conditions: each must still be there, and promise no less."""
        rules = {str(rule["if"]): rule for rule in new.get("allOf", ()) if "if" in rule}
        for rule in old.get("allOf", ()):
            if "if" in rule:
                yield from self._rule(rule, rules.get(str(rule["if"])), place)

    def _rule(self, old: Json, new: Json | None, place: str) -> Iterator[str]:
        condition = f"{place}, where {_condition(old['if'])}"
        if new is None:
            yield f"{condition}: nothing is promised any more"
            return
        for word in ("then", "else"):
            if word in old:
                yield from self.of(old[word], new.get(word, {}), condition)


def _gone(old: Json, new: Json) -> set[str]:
    return set(old.get("properties", {})) - set(new.get("properties", {}))


def _reference(schema: Any) -> str:
    return str(schema.get("$ref", "")) if isinstance(schema, Mapping) else ""


def _branches(document: Json, schema: Any) -> dict[str, Json]:
    """A schema by the JSON types that it allows. `False` allows none."""
    resolved = _resolved(document, schema)
    if isinstance(resolved, bool):
        return {_ANYTHING: {}} if resolved else {}
    if "anyOf" in resolved:
        found: dict[str, Json] = {}
        for each in resolved["anyOf"]:
            found |= _branches(document, each)
        return found
    merged = _merged(document, resolved)
    return dict.fromkeys(_types(merged), merged)


def _merged(document: Json, schema: Json) -> Json:
    """A schema together with those that it must fit as well; conditions stay conditions."""
    merged = schema
    for part in schema.get("allOf", ()):
        if "if" not in part:
            also = _merged(document, _resolved(document, part))
            properties = _both(also.get("properties", {}), merged.get("properties", {}))
            required = [*also.get("required", ()), *merged.get("required", ())]
            rules = [*merged.get("allOf", ()), *[rule for rule in also.get("allOf", ()) if "if" in rule]]
            merged = {**also, **merged, "properties": properties, "required": required, "allOf": rules}
    return merged


def _both(some: Json, others: Json) -> Json:
    """Properties of two schemas that must both fit."""
    shared = {
        name: {"allOf": [schema, others[name]]}
        for name, schema in some.items()
        if isinstance(others.get(name), Mapping)  # one that allows nothing needs no other
    }
    return {**some, **others, **shared}


def _types(schema: Json) -> list[str]:
    if "type" in schema:
        return [schema["type"]] if isinstance(schema["type"], str) else list(schema["type"])
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return sorted({_type_of(value) for value in values}) or [_ANYTHING]


def _type_of(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null", list: "array"}
    return names.get(type(value), "object")


def _worded(kind: str) -> str:
    return kind if kind in {_ANYTHING, "null"} else f"of type {kind}"


def _condition(schema: Json) -> str:
    said = [(name, value) for name, rule in schema.get("properties", {}).items() for value in rule.values()]
    return " and ".join(f"{name} is {value}" for name, value in said) or "it is so"


def _enumerated(schema: Json) -> list[Any] | None:
    found: list[Any] | None = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return found


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))


def _bounds(old: Json, new: Json, place: str) -> Iterator[str]:
    for keyword in _BOUNDS:
        if old.get(keyword) != new.get(keyword):
            yield f"{place}: {keyword} was {old.get(keyword, 'not set')} and is now {new.get(keyword, 'not set')}"


# --- OpenAPI ----------------------------------------------------------------------------------------------


def _routes(documents: _Documents) -> Iterator[str]:
    for path, methods in documents.before["paths"].items():
        now = documents.after["paths"].get(path)
        if now is None:
            yield f"{path}: the route is gone"
            continue
        for method in _METHODS:
            if method in methods:
                place = f"{method.upper()} {path}"
                yield from _operation(documents, methods[method], now.get(method), place)


def _operation(documents: _Documents, old: Json, new: Json | None, place: str) -> Iterator[str]:
    if new is None:
        yield f"{place}: the method is gone"
        return
    yield from _parameters(documents, old, new, place)
    yield from _contents(documents.asked, old.get("requestBody"), new.get("requestBody"), f"{place}, request")
    for status, answer in old["responses"].items():
        if status not in new["responses"]:
            yield f"{place}: the answer {status} is gone"
        else:
            was, now = _resolved(documents.before, answer), _resolved(documents.after, new["responses"][status])
            yield from _contents(documents.read, was, now, f"{place}, answer {status}")


def _contents(comparison: _Comparison, old: Json | None, new: Json | None, place: str) -> Iterator[str]:
    if (new or {}).get("required") and not (old or {}).get("required"):
        yield f"{place}: was optional and is now required"
    now = (new or {}).get("content", {})
    for kind, content in (old or {}).get("content", {}).items():
        if kind not in now:
            yield f"{place}: {kind} is gone"
        else:
            yield from comparison.of(content.get("schema", {}), now[kind].get("schema", {}), place)


def _parameters(documents: _Documents, old: Json, new: Json, place: str) -> Iterator[str]:
    was, now = _named(documents.before, old), _named(documents.after, new)
    for where, name in was:
        if (where, name) not in now:
            yield f"{place}: the {where} parameter {name} is gone"
    for (where, name), parameter in now.items():
        before = was.get((where, name), {})
        if parameter.get("required") and not before.get("required"):
            yield f"{place}: the {where} parameter {name} is now required"
        if before:
            yield from documents.asked.of(before["schema"], parameter["schema"], f"{place}, parameter {name}")


def _named(document: Json, operation: Json) -> dict[tuple[str, str], Json]:
    parameters = [_resolved(document, each) for each in operation.get("parameters", ())]
    return {(each["in"], each["name"]): each for each in parameters}


# --- AsyncAPI ---------------------------------------------------------------------------------------------


def _channels(documents: _Documents) -> Iterator[str]:
    for name, channel in documents.before["channels"].items():
        now = documents.after["channels"].get(name)
        if now is None:
            yield f"{name}: the channel is gone"
            continue
        if now["address"] != channel["address"]:
            yield f"{name}: the channel has moved from {channel['address']} to {now['address']}"
        yield from _messages(documents, channel["messages"], now["messages"], name)


def _messages(documents: _Documents, old: Json, new: Json, place: str) -> Iterator[str]:
    for name, message in old.items():
        if name not in new:
            yield f"{place}: the message {name} is gone"
            continue
        was, now = _resolved(documents.before, message), _resolved(documents.after, new[name])
        yield from documents.read.of(was["payload"], now["payload"], f"{place}, message {name}")
