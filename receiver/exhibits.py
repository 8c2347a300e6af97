"""A request that somebody saved in a file: raw HTTP, or JSON with the body as base64. Pure."""

import re
from base64 import b64decode
from binascii import Error as NotEncoded
from datetime import datetime
from urllib.parse import unquote

import msgspec

from schemas.callback import Headers
from schemas.clock import parse_time
from schemas.errors import PartylineError

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(rb"[A-Z]+ (\S+)(?: HTTP/[0-9.]+)?")
_WEBHOOK = re.compile(r"/webhooks/([^/?#]+)/([^/?#]+)(?:/([^/?#]*))?(?:[?#]|$)")
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class UnreadableRequest(PartylineError):
    """A file that holds no request in either form."""

    reason = "unreadable_request"


class Exhibit(msgspec.Struct, frozen=True):
    """A request as a file has it, with what the file knows of it beside."""

    headers: Headers
    body: bytes
    url: str = ""
    url_token: str | None = None
    provider: str | None = None
    account: str | None = None
    received_at: datetime | None = None


class _Document(msgspec.Struct, frozen=True):
    """The JSON form."""

    headers: list[tuple[str, str]] | dict[str, str | list[str]]
    body_base64: str
    url: str = ""
    url_token: str | None = None
    provider: str | None = None
    account: str | None = None
    received_at: str | None = None


def read_exhibit(data: bytes) -> Exhibit:
    """The request in a file. UnreadableRequest says what is wrong with the file."""
    return _of_json(data) if data.lstrip()[:1] == b"{" else _of_http(data)


def _of_json(data: bytes) -> Exhibit:
    try:
        document = msgspec.json.decode(data, type=_Document)
        body = b64decode("".join(document.body_base64.split()), validate=True)
    except NotEncoded:
        raise UnreadableRequest("its body_base64 is not base64") from None
    except msgspec.DecodeError as error:
        raise UnreadableRequest(f"it begins like JSON, and as such: {error}") from None
    received_at = parse_time(document.received_at) if document.received_at else None
    if document.received_at and received_at is None:
        raise UnreadableRequest("its received_at is no time; one is 2026-11-21T12:00:00Z")
    found = _placed(Exhibit(_pairs(document), body, document.url, received_at=received_at))
    given = {name: getattr(document, name) for name in ("url_token", "provider", "account")}
    return msgspec.structs.replace(found, **{name: value for name, value in given.items() if value is not None})


def _pairs(document: _Document) -> Headers:
    listed = document.headers
    if isinstance(listed, dict):
        values = {name: [value] if isinstance(value, str) else value for name, value in listed.items()}
        listed = [(name, value) for name, several in values.items() for value in several]
    return tuple((name.lower().encode(), value.encode("utf-8", "surrogatepass")) for name, value in listed)


def _of_http(data: bytes) -> Exhibit:
    blank = _BLANK_LINE.search(data)
    if blank is None:
        raise UnreadableRequest("it has no blank line between headers and body")
    first, *lines = [line.rstrip(b"\r") for line in data[: blank.start()].split(b"\n")]
    request_line = _REQUEST_LINE.fullmatch(first)
    url = request_line[1].decode("latin-1") if request_line else ""
    headers = [_header(line, number) for number, line in enumerate(lines if request_line else [first, *lines], 1)]
    return _placed(Exhibit(tuple(headers), data[blank.end() :], url))


def _header(line: bytes, number: int) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _HEADER_NAME.fullmatch(name):
        raise UnreadableRequest(f"its header no. {number} is not of the form `name: value`")
    return name.lower(), value.strip(b" \t")


def _placed(exhibit: Exhibit) -> Exhibit:
    """With what the URL says: provider, account, and a token after it."""
    match = _WEBHOOK.search(exhibit.url)
    if match is None:
        return exhibit
    token = None if match[3] is None else unquote(match[3])
    return msgspec.structs.replace(exhibit, provider=match[1], account=match[2], url_token=token)
