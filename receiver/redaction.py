"""Replaces texts, addresses and ids in a capture, so that its shape can be shown to somebody else. Pure.

Whatever is not known to be harmless is replaced: a field that a provider adds tomorrow must not slip through. What is
kept is what the shape hangs on: structure, lengths, times, truth values, short numbers, and the words under the keys
below, which are those that providers' enumerations stand under.

The same address has the same replacement wherever and however it is spelled, in all archives made with one key, so
conversations stay apart and together as they were. Numbers become such as nobody has: `+1555` and seven digits for
North America (there is no area code 555), `+999` for everywhere else. Two of them may become one by chance: among a
thousand people that is to be expected in one archive of twenty.

What is decided by words inside texts (a reaction written out, a keyword that joins a group) is lost with the texts.
Headers are dropped but for a few: signatures over the original would confirm who guesses it.
"""

import re
from base64 import b32encode
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson

from receiver.archive import Redacted
from receiver.body import decode
from receiver.captures import LogEntry
from schemas.address import Address, AddressError, is_phone, parse_address
from schemas.callback import AccountFacts
from schemas.clock import parse_time
from schemas.errors import ParseError
from schemas.ids import hash_key
from schemas.wire import decode_headers, encode_facts, encode_headers

_KEPT_HEADERS: Final = frozenset({b"content-type"})
#: Keys of enumerations, whose words tell what a callback is and nothing about anybody.
_WORDS: Final = frozenset(
    {
        *("action", "auto_update", "autoresponse_type", "category", "channel", "code", "content_type", "currency"),
        *("direction", "encoding", "error_code", "event", "event_type", "eventType", "failureCode", "field"),
        *("join_approval_mode", "line_type", "message_status", "message_type", "messaging_product", "mime_type"),
        *("modify_type", "object", "order_status", "plan", "processing_mode", "reaction_category", "reason"),
        *("recipient_type", "record_type", "resourceType", "send_style", "service", "source_type", "status"),
        *("sub_code", "type"),
    }
)
#: Keys of times in Unix seconds; other times show by their form.
_UNIX_TIMES: Final = frozenset({"timestamp", "time", "expiration_timestamp"})
#: Keys under which an emoji stands, which is a reaction and no text.
_EMOJI: Final = "emoji"
_COORDINATES: Final = {"latitude": 90, "longitude": 180}

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,63}", re.ASCII)
_UNIX = re.compile(r"[0-9]{9,13}", re.ASCII)
_MANY_DIGITS = re.compile(r"[0-9]{7,}", re.ASCII)
_CONVERSATION = re.compile("cv_[a-z2-7]{26}")
_SCHEME = re.compile(r"[a-z]{2,6}://")
#: What some ids begin with and providers' parsers look for.
_ID_PREFIX = re.compile(r"wamid\.|sb_group_|[A-Z]{2}\.")
_LONGEST_ADDRESS = 80
_SHORT_NUMBER = 10**6
_DIGITS, _LOWER, _UPPER = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF-")


class Redactor:
    """Redacts entries with one key; see the module."""

    def __init__(self, key: bytes) -> None:
        """`key`: without it nobody can find an original by trying; it must not be empty."""
        if not key:
            raise ValueError("redaction needs a key")
        self._key = hash_key(key)

    def redact(self, entry: LogEntry) -> Redacted:
        """The entry with everything replaced that may tell who wrote what; its id, place and time are kept."""
        provider = entry.fields.get(b"provider", b"").decode(errors="replace")
        replace: Mapping[bytes, Callable[[bytes], bytes]] = {
            b"headers": _headers,
            b"facts": partial(self._facts, provider),
            b"body": partial(self._body, provider),
        }
        kept = {name: replace[name](value) if name in replace else value for name, value in entry.fields.items()}
        return Redacted(entry.position, kept)

    def address(self, text: str, provider: str) -> str | None:
        """The replacement of a phone number or e-mail, spelled as the original is; None for anything else."""
        found = _reachable(text, provider)
        if found is None:
            return None
        if not is_phone(found):
            return f"{_letters(self._stream('email', found), 8)}@example.com"
        digits = found[1:]
        front = "1555" if digits.startswith("1") else "999"
        number = front + _digits(self._stream("phone", found), max(len(digits) - len(front), 0))
        return _spelled(number, digits, text)

    # --- parts of an entry ---

    def _facts(self, provider: str, data: bytes) -> bytes:
        try:
            facts = msgspec.json.decode(data, type=AccountFacts)
        except msgspec.DecodeError:
            return b"{}"
        line = None if facts.default_line is None else self._text(facts.default_line, provider)
        lines = tuple(self._text(each, provider) for each in facts.lines)
        return encode_facts(msgspec.structs.replace(facts, lines=lines, default_line=line))

    def _body(self, provider: str, body: bytes) -> bytes:
        try:
            return orjson.dumps(self._value(decode(body).value, provider, ""))
        except (ParseError, TypeError):  # no JSON, or a number that JSON can say and orjson cannot
            return self._scrambled(body.decode(errors="replace")).encode()

    def _value(self, value: Any, provider: str, key: str) -> Any:
        if isinstance(value, dict):
            return {self._key_of(name, provider): self._value(item, provider, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, provider, key) for item in value]
        if isinstance(value, str):
            return value if _is_harmless(value, key) else self._text(value, provider)
        if isinstance(value, bool) or value is None:
            return value
        return self._number(value, provider, key)

    def _key_of(self, name: str, provider: str) -> str:
        """A key of an object; one that is a number or an address is somebody's."""
        return self._text(name, provider) if _MANY_DIGITS.search(name) or "@" in name else name

    def _number(self, value: Any, provider: str, key: str) -> Any:
        if key in _COORDINATES:
            return int.from_bytes(next(self._stream("place", repr(value)))) % _COORDINATES[key] + 0.25
        if isinstance(value, float) or key in _UNIX_TIMES or abs(value) < _SHORT_NUMBER:
            return value
        text = self._text(str(abs(value)), provider)
        return int(text) if text.isdecimal() else 0

    # --- texts ---

    def _text(self, text: str, provider: str) -> str:
        """The replacement of any text; of one length with it, unless it is an address."""
        prefix = f"{provider}:"
        if provider and text.startswith(prefix):  # canonical already, as our own settings have it
            return prefix + self._text(text[len(prefix) :], provider)
        if _CONVERSATION.fullmatch(text):
            return f"cv_{b32encode(self._digest('conversation', text))[:26].decode().lower()}"
        address = self.address(text, provider)
        if address is not None:
            return address
        if text.lstrip().startswith(("{", "[")):  # JSON inside JSON: gateways wrap bodies so
            return self._body(provider, text.encode(errors="replace")).decode(errors="replace")
        kept = _SCHEME.match(text) or _ID_PREFIX.match(text)
        front = kept[0] if kept else ""
        return front + self._scrambled(text[len(front) :])

    def _scrambled(self, text: str) -> str:
        """Letters for letters and digits for digits, the rest as it is; the same for the same text."""
        stream = self._stream("text", text)
        hexadecimal = len(text) >= len("01234567") and _HEXADECIMAL.issuperset(text)
        return "".join([_other(character, stream, hexadecimal=hexadecimal) for character in text])

    def _stream(self, kind: str, text: str) -> Iterator[bytes]:
        """Bytes without end that hang on the key and a text, one at a time."""
        block = self._digest(kind, text)
        while True:
            for place in range(len(block)):
                yield block[place : place + 1]
            block = self._digest("more", block.hex())

    def _digest(self, kind: str, text: str) -> bytes:
        return blake2b(text.encode(errors="surrogatepass"), key=self._key, person=kind.encode()[:16]).digest()


def _headers(data: bytes) -> bytes:
    try:
        return encode_headers(tuple(header for header in decode_headers(data) if header[0] in _KEPT_HEADERS))
    except (msgspec.DecodeError, UnicodeError):
        return b"[]"


def _is_harmless(text: str, key: str) -> bool:
    """Whether a text is a time, a word of an enumeration or a reaction's emoji, and may stay."""
    if not text or _is_time(text):
        return True
    if key == _EMOJI:
        return not any(character.isalnum() for character in text)
    if key in _UNIX_TIMES:
        return _UNIX.fullmatch(text) is not None
    return key in _WORDS and _WORD.fullmatch(text) is not None and _MANY_DIGITS.search(text) is None


def _is_time(text: str) -> bool:
    moment: datetime | None = parse_time(text)
    return moment is not None


def _reachable(text: str, provider: str) -> Address | None:
    """The phone number or e-mail that a text is as a whole."""
    if len(text) > _LONGEST_ADDRESS:
        return None
    try:
        found = parse_address(text, provider)
    except AddressError:
        return None
    return found if found and (is_phone(found) or "@" in found.partition(":")[0]) else None


def _spelled(number: str, original: str, text: str) -> str:
    """A number with or without plus and country code, as the original stands in a text."""
    if text.lstrip().startswith("+"):
        return f"+{number}"
    bare = "".join(character for character in text if character in _DIGITS)
    return number if bare == original else number[len(original) - len(bare) :]


def _digits(stream: Iterator[bytes], count: int) -> str:
    return "".join([_DIGITS[next(stream)[0] % 10] for _ in range(count)])


def _letters(stream: Iterator[bytes], count: int) -> str:
    return "".join([_LOWER[next(stream)[0] % 26] for _ in range(count)])


def _other(character: str, stream: Iterator[bytes], *, hexadecimal: bool) -> str:
    """Another character of the same class."""
    if not character.isalnum():
        return character
    value = next(stream)[0]
    if character.isdigit():
        return _DIGITS[value % 10]
    alphabet = _UPPER if character.isupper() else _LOWER
    return alphabet[value % (6 if hexadecimal else 26)]
