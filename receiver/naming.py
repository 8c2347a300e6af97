"""Whether something that is stored names a person: by any address of that person, in any spelling. Pure.

To name is to have the address as a value of its own: a sender, a recipient, a member, an entry of a list. An address
in the middle of a text is a mention: what others have written is theirs. What cannot be read is searched for mentions.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, unquote_plus

import msgspec
import orjson

from schemas.address import MAX_LENGTH, Address, AddressError, is_phone, parse_address
from schemas.callback import Capture
from schemas.events import Event, Linked, Parsed, Unreadable

#: What may stand between the digits of a number: punctuation, spaces, marks that nobody sees.
_BETWEEN: Final = (
    "[\\s().\\-/\u00a0\u2010-\u2015\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\\x00-\\x1f]{0,4}"
)
_ESCAPED: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_NANP_DIGITS = 11
#: A provider's own short names (`40404`, `MTN`) are also plain words and numbers of other things.
_SHORTEST_USER_ID = 6


class Naming:
    """One person, by all addresses, and the conversations that are that person's alone or go with them."""

    def __init__(self, addresses: Iterable[Address], keys: Iterable[str] = ()) -> None:
        self._addresses = frozenset(addresses)
        self._keys = frozenset(keys)
        self._searches = [(provider_of(address), _search(address)) for address in sorted(self._addresses)]

    # --- events ---

    def is_in_event(self, envelope: Mapping[str, Any]) -> bool:
        """Whether an event names the person, or belongs to a conversation that goes."""
        if self.is_in_conversation_that_goes(envelope):
            return True
        provider = str(envelope.get("source", "")).split("/")[2:3] or [""]
        return self._is_in(envelope.get("data"), provider[0]) or self.is_in_id(str(envelope.get("id", "")), provider[0])

    def is_in_conversation_that_goes(self, envelope: Mapping[str, Any]) -> bool:
        """Whether an event belongs to a conversation that is the person's."""
        return envelope.get("subject") in self._keys

    def is_in_id(self, event_id: str, provider: str) -> bool:
        """Whether the person's address is a part of an event's id."""
        parts = event_id.partition("#")[0].split(":")[2:]
        return any(self._is(unquote(part), provider) for part in parts)

    # --- captures ---

    def is_in_capture(self, capture: Capture, items: Iterable[Parsed]) -> bool:
        """Whether a capture names the person: in what was read of it, or anywhere in its body."""
        items = list(items)
        if any(self.is_in_item(item, capture) for item in items):
            return True
        body = _json(capture.body)
        if body is None or any(isinstance(item, Unreadable) for item in items):
            return self.is_mentioned(capture.body, capture.provider)
        return self._is_in(body, capture.provider)

    def is_in_item(self, item: Parsed, capture: Capture) -> bool:
        """Whether one element of a capture names the person, as far as it could be read."""
        if isinstance(item, Event):
            about = [item.provider_ids, item.evidence, item.body]
            return self.is_in_id(item.id, capture.provider) or self._is_in(msgspec.to_builtins(about), capture.provider)
        return isinstance(item, Linked) and self._is_in(msgspec.to_builtins(item.link), capture.provider)

    # --- values ---

    def _is_in(self, value: Any, provider: str) -> bool:
        return any(self._is(leaf, provider) for leaf in _leaves(value))

    def _is(self, leaf: str, provider: str) -> bool:
        """Whether a text is one of the person's addresses, or a key of a conversation that goes."""
        if leaf in self._addresses or leaf in self._keys:
            return True
        if len(leaf) > MAX_LENGTH:
            return False
        try:
            address = parse_address(leaf, provider)
        except AddressError:
            return False
        if address not in self._addresses:
            return False
        return not provider_of(address) or (len(leaf) >= _SHORTEST_USER_ID and not leaf.isdigit())

    # --- bytes ---

    def is_mentioned(self, data: bytes, provider: str) -> bool:
        """Whether an address of the person stands anywhere in some bytes, however it is spelled or encoded."""
        text = data.decode(errors="replace")
        spellings = [text]
        if "\\u" in text:
            spellings.append(_ESCAPED.sub(lambda match: chr(int(match[1], 16)), text))
        if "%" in text:
            spellings.append(unquote_plus(text))
        searches = [search for of, search in self._searches if of in {"", provider}]
        return any(search.search(spelling) for search in searches for spelling in spellings)


def provider_of(address: str) -> str:
    """The provider whose own name for somebody an address is; empty for numbers and e-mails."""
    return "" if is_phone(address) or "@" in address else address.partition(":")[0]


def _search(address: Address) -> re.Pattern[str]:
    if is_phone(address):
        digits = address[1:]
        if len(digits) == _NANP_DIGITS and digits[0] == "1":  # with or without the country's code
            return re.compile(rf"(?<!\d)(?:(?:00{_BETWEEN})?1{_BETWEEN})?{_BETWEEN.join(digits[1:])}(?!\d)")
        return re.compile(rf"(?<!\d)(?:00{_BETWEEN})?{_BETWEEN.join(digits)}(?!\d)")
    text = address if "@" in address else address.partition(":")[2]
    return re.compile(rf"(?<![\w.]){re.escape(text)}(?![\w.]*\w)", re.IGNORECASE)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _leaves(value: Any) -> Iterator[str]:
    """Every text and whole number in a JSON value, names of members included; not nested as deep as our stack."""
    open_ends = [value]
    while open_ends:
        item = open_ends.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            open_ends += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            open_ends += item
        elif isinstance(item, int) and not isinstance(item, bool):
            yield str(item)
