"""What proxies, frameworks and editors do to a request on its way, each undone: candidates for what was signed. Pure.

A signature covers the exact bytes that were sent. When it does not fit what arrived, trying the usual alterations
backwards finds out which of them happened: then the signature fits. Nothing here ever makes a request count as proved.

Bodies are cut into tokens, not parsed: so numbers keep their spelling and repeated members stay. The one exception is
sorting, which is tried last.
"""

import gzip
import json
import re
import zlib
from base64 import b64decode
from binascii import Error as NotEncoded
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from urllib.parse import unquote_to_bytes

import msgspec

from schemas.callback import Arrival, Headers
from schemas.ids import content_hash

#: Larger bodies are not written anew in dozens of ways; callbacks have a few KB.
_MAX_JSON_BYTES = 256 * 1024
#: Indentation stops here, since it is paid for at every token; callbacks are some ten levels deep.
_MAX_DEPTH = 40
_MAX_INFLATED_BYTES = 16 * 1024 * 1024
_MAX_FIELDS = 50
_TIMESTAMP_LENGTHS = (11, 12)
#: Of 32 bytes in base64 without its padding; shorter header values are no signatures.
_SIGNATURE_LENGTH = 43
_BOM = b"\xef\xbb\xbf"
#: Members in which gateways and queues hand on the body of a request as text.
_WRAPPERS = ("body", "Body", "rawBody", "raw", "payload", "data", "Message")


class Alteration(msgspec.Struct, frozen=True):
    """Something that may have been done to a request on its way to us."""

    #: A stable word for it.
    name: str
    #: What happened, as the rest of "on the way …".
    happened: str


Candidate = tuple[Alteration, Arrival]
_Bodies = Iterator[tuple[Alteration, bytes]]


def undone(arrival: Arrival) -> Iterator[Candidate]:
    """A request as it may have been before something altered it; the simplest alterations first."""
    seen = {content_hash(arrival.body)}
    for alteration, body in chain.from_iterable(make(arrival.body) for make in _OF_BODIES):
        name = content_hash(body)
        if name not in seen:
            seen.add(name)
            yield alteration, msgspec.structs.replace(arrival, body=body)
    for alteration, headers in _earlier_headers(arrival.headers):
        if headers != arrival.headers:
            yield alteration, msgspec.structs.replace(arrival, headers=headers)


# --- the body as bytes ---


def _newlines(body: bytes) -> _Bodies:
    added = Alteration("newline_added", "a newline was added at the end of the body")
    stripped = Alteration("newline_stripped", "the newline at the end of the body was stripped")
    yield added, body.removesuffix(b"\n")
    yield added, body.removesuffix(b"\r\n")
    yield stripped, body + b"\n"
    yield stripped, body + b"\r\n"
    yield (
        Alteration("crlf_to_lf", "each CRLF in the body became LF"),
        body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    )
    yield Alteration("lf_to_crlf", "each LF in the body became CRLF"), body.replace(b"\r\n", b"\n")
    yield Alteration("whitespace_added", "white space was put around the body"), body.strip()
    for space in (b" ", b"\t", b"\n\n"):
        yield Alteration("whitespace_stripped", "white space around the body was stripped"), body + space


def _encodings(body: bytes) -> _Bodies:
    yield Alteration("bom_added", "a byte order mark was put before the body"), body.removeprefix(_BOM)
    yield Alteration("bom_stripped", "the byte order mark before the body was dropped"), _BOM + body
    try:
        once = body.decode("utf-8").encode("latin-1")
    except UnicodeError:
        return
    yield Alteration("encoded_twice", "the body was taken for Latin-1 and encoded as UTF-8 once more"), once


def _compressions(body: bytes) -> _Bodies:
    left = Alteration("left_compressed", "the body was compressed, and it is still so here")
    undone_before = Alteration(
        "decompressed", "the body was decompressed, while the signature covers the compressed one"
    )
    for window in (31, 15, -15):  # gzip; zlib, which HTTP calls deflate; and raw deflate, which some send as such
        inflated = _inflated(body, window)
        if inflated is not None:
            yield left, inflated
    for level in (6, 9, 1):
        packed = gzip.compress(body, level, mtime=0)
        yield from ((undone_before, packed[:9] + system + packed[10:]) for system in (b"\x03", b"\xff", b"\x00"))
        yield undone_before, zlib.compress(body, level)


def _inflated(body: bytes, window: int) -> bytes | None:
    reader = zlib.decompressobj(window)
    try:
        inflated = reader.decompress(body, _MAX_INFLATED_BYTES)
    except zlib.error:
        return None
    return inflated if reader.eof else None


def _chunks(body: bytes) -> _Bodies:
    """A body of Transfer-Encoding chunked of which somebody kept the sizes."""
    pieces: list[bytes] = []
    at = 0
    while match := re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r?\n").match(body, at):
        size = int(match[1], 16)
        if not size:
            happened = "the sizes of chunks (Transfer-Encoding: chunked) were left in the body"
            yield Alteration("chunk_sizes_left", happened), b"".join(pieces)
            return
        pieces.append(body[match.end() : match.end() + size])
        at = match.end() + size
        at += 2 if body[at : at + 2] == b"\r\n" else 1


# --- the body in something else ---


def _wrappings(body: bytes) -> _Bodies:
    if body[:1] in b"{[":
        yield from _members(body)
    elif body[:1] == b'"':
        yield from ((_AS_TEXT, text) for text in _text_of(body.strip()))
    else:
        yield from _form(body)
        yield from ((_AS_BASE64, raw) for raw in _of_base64(body))


_AS_TEXT = Alteration("json_text", "the body was written as a JSON text, with its quotes escaped")
_AS_BASE64 = Alteration("base64", "the body was encoded as base64")


def _members(body: bytes) -> _Bodies:
    """The body as API gateways, queues and functions hand it on: as the text of a member."""
    try:
        outer = json.loads(body)
    except (ValueError, RecursionError):
        return
    for name in _WRAPPERS if isinstance(outer, dict) else ():
        value = outer.get(name)
        if isinstance(value, str):
            happened = (
                f"the request was wrapped by a gateway or a queue: the body stands as text in its member `{name}`"
            )
            for inner in (value.encode("utf-8", "surrogatepass"), *_of_base64(value.encode("utf-8", "surrogatepass"))):
                yield Alteration("wrapped", happened), inner


def _text_of(literal: bytes) -> Iterator[bytes]:
    try:
        text = json.loads(literal)
    except ValueError:
        return
    if isinstance(text, str):
        yield text.encode("utf-8", "surrogatepass")


def _of_base64(text: bytes) -> Iterator[bytes]:
    try:
        yield b64decode(text.strip(), validate=True)
    except NotEncoded:
        return


def _form(body: bytes) -> _Bodies:
    form = Alteration("form_encoded", "the body was encoded as a form (application/x-www-form-urlencoded)")
    yield form, unquote_to_bytes(body)
    yield form, unquote_to_bytes(body.replace(b"+", b" "))
    yield form, unquote_to_bytes(body.replace(b"+", b" ").removesuffix(b"="))
    for field in body.split(b"&", _MAX_FIELDS):
        name, _, value = field.partition(b"=")
        yield form, unquote_to_bytes((value or name).replace(b"+", b" "))


# --- the body as JSON, written anew ---

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|.)")
_OPENING, _CLOSING = (b"{", b"["), (b"}", b"]")

_Write = Callable[[bytes], bytes]


def _json(body: bytes) -> _Bodies:
    """JSON with white space, escapes and at last the order of members as other encoders write them."""
    if body.lstrip()[:1] not in _OPENING or len(body) > _MAX_JSON_BYTES:
        return
    yield from _rewritten(body, "")
    try:
        ordered = json.dumps(json.loads(body), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return
    as_utf_8 = ordered.encode("utf-8", "surrogatepass")
    yield from _rewritten(as_utf_8, "members sorted by name")


def _rewritten(body: bytes, ordered: str) -> _Bodies:
    spaced = [(words, write(body)) for words, write in _SPACINGS.items()]
    for words, text in spaced:
        yield _rewriting("json_whitespace", words, ordered), text
        yield _rewriting("json_whitespace", f"{words} and a newline at the end", ordered), text + b"\n"
    for escaping, escape in _ESCAPINGS.items():
        escaped = _STRING.sub(lambda match, escape=escape: escape(match[0]), body)  # type: ignore[misc]
        yield _rewriting("json_escapes", escaping, ordered), escaped
        for words, write in _SPACINGS.items():
            yield _rewriting("json_rewritten", f"{words}, {escaping}", ordered), write(escaped)
            yield (
                _rewriting("json_rewritten", f"{words}, {escaping}, a newline at the end", ordered),
                write(escaped) + b"\n",
            )


def _rewriting(name: str, words: str, ordered: str) -> Alteration:
    signed = f"{words}, {ordered}" if ordered else words
    happened = f"the JSON was read and written anew; what was signed has {signed}"
    return Alteration("json_sorted" if ordered else name, happened)


def _spaced(colon: bytes, comma: bytes) -> _Write:
    spacing = {b":": colon, b",": comma}
    return lambda body: b"".join([spacing.get(token, token) for token in _TOKEN.findall(body)])


def _indented(step: bytes) -> _Write:
    """As pretty printers do it: a line for each member and element, and nothing inside what is empty."""

    def write(body: bytes) -> bytes:
        parts: list[bytes] = []
        depth, before = 0, b""
        for token in _TOKEN.findall(body):
            depth -= token in _CLOSING
            opened = before in _OPENING
            if not opened if token in _CLOSING else opened or before == b",":
                parts.append(b"\n" + step * min(depth, _MAX_DEPTH))
            parts.append(b": " if token == b":" else token)
            depth += token in _OPENING
            before = token
        return b"".join(parts)

    return write


_SPACINGS: dict[str, _Write] = {
    "no white space": _spaced(b":", b","),
    "a space after each colon and comma": _spaced(b": ", b", "),
    "an indentation of two spaces": _indented(b"  "),
    "an indentation of four spaces": _indented(b"    "),
    "an indentation by tabs": _indented(b"\t"),
}


def indented(body: bytes) -> bytes:
    """JSON with a line for each member, and each token as it was; anything else comes out as its words."""
    return _indented(b"  ")(body)


def _escaping(*, ascii_only: bool = False, upper: bool = False, also: str = "", slash: bool = False) -> _Write:
    def write(literal: bytes) -> bytes:
        try:
            text = json.loads(literal, strict=False)
        except ValueError:
            return literal
        written = json.dumps(text, ensure_ascii=ascii_only)
        for character in also:
            written = written.replace(character, f"\\u{ord(character):04x}")
        if slash:
            written = written.replace("/", "\\/")
        if upper:
            written = _ESCAPE.sub(lambda match: f"\\u{match[1].upper()}" if match[1] else match[0], written)
        return written.encode("utf-8", "surrogatepass")

    return write


_ESCAPINGS: dict[str, _Write] = {
    "characters beyond ASCII escaped as \\uXXXX in lower case": _escaping(ascii_only=True),
    "characters beyond ASCII escaped as \\uXXXX in upper case": _escaping(ascii_only=True, upper=True),
    "characters beyond ASCII as they are": _escaping(),
    "characters beyond ASCII escaped in lower case, and slashes": _escaping(ascii_only=True, slash=True),
    "characters beyond ASCII escaped in upper case, and slashes": _escaping(ascii_only=True, upper=True, slash=True),
    "characters beyond ASCII as they are, and slashes escaped": _escaping(slash=True),
    "<, > and & escaped, as Go writes them": _escaping(also="<>&\u2028\u2029"),
}

_OF_BODIES = (_newlines, _encodings, _chunks, _wrappings, _compressions, _json)


# --- the headers ---

_STANDARD = bytes.maketrans(b"-_", b"+/")


def _earlier_headers(headers: Headers) -> Iterator[tuple[Alteration, Headers]]:
    renamed = Alteration("headers_renamed", "headers got other names (a prefix, or underscores for hyphens)")
    yield renamed, tuple((_first_name(name), value) for name, value in headers)
    for alteration, change in _OF_VALUES:
        yield alteration, tuple((name, change(value)) for name, value in headers)
    rewritten = Alteration("timestamp_rewritten", "the timestamp header was written anew, as a number of other length")
    for change in _OF_TIMESTAMPS:
        yield (
            rewritten,
            tuple((name, change(value) if name.endswith(b"timestamp") else value) for name, value in headers),
        )


def _first_name(name: bytes) -> bytes:
    plain = name.replace(b"_", b"-")
    for prefix in (b"http-", b"x-amzn-remapped-", b"x-original-", b"x-forwarded-"):
        plain = plain.removeprefix(prefix)
    return plain


def _once(value: bytes) -> bytes:
    """The value of a header that was there twice, and was joined with itself by a comma."""
    values = [part.strip() for part in value.split(b",")]
    return values[0] if len(set(values)) == 1 else value


def _padded(value: bytes) -> bytes:
    return value + b"=" * (-len(value) % 4) if len(value) >= _SIGNATURE_LENGTH else value


def _from_hex(value: bytes) -> bytes:
    """Digits that were taken for text and encoded as base64, read back."""
    decoded = next(_of_base64(value), b"")
    return decoded if re.fullmatch(rb"(sha256=)?[0-9a-fA-F]{64}", decoded) else value


_OF_VALUES: tuple[tuple[Alteration, _Write], ...] = (
    (Alteration("header_quoted", "quotes were put around header values"), lambda value: value.strip(b"\"' ")),
    (Alteration("header_joined", "a header that stood twice was joined into one with a comma"), _once),
    (Alteration("header_url_encoded", "header values were percent-encoded"), unquote_to_bytes),
    (Alteration("header_unpadded", "the = at the end of base64 in headers was cut off"), _padded),
    (
        Alteration("header_url_safe", "base64 in headers was made URL-safe"),
        lambda value: _padded(value.translate(_STANDARD)),
    ),
    (Alteration("header_prefix_cut", "`sha256=` was cut off a header"), lambda value: b"sha256=" + value),
    (Alteration("header_as_base64", "a header's digits were encoded as base64"), _from_hex),
)
_OF_TIMESTAMPS: Iterable[_Write] = (
    lambda value: value.lstrip(b"0"),
    *(lambda value, length=length: value.zfill(length) for length in _TIMESTAMP_LENGTHS),
    lambda value: value[:-3],
    lambda value: value.partition(b".")[0],
)
