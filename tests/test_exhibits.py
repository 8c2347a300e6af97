"""Requests in files: raw HTTP and JSON, read to the byte, and what is wrong with a file said plainly."""

from datetime import UTC, datetime

import orjson
import pytest

from receiver.exhibits import Exhibit, UnreadableRequest, read_exhibit

BODY = b'{"a": 1}\r\n\r\n\xff\n'
HEADERS = ((b"telnyx-timestamp", b"1"), (b"via", b"a: b"), (b"via", b""))


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("first", [b"POST /hook HTTP/1.1", b"POST https://h.example/hook HTTP/2", b"POST /hook", b""])
def test_a_raw_request_is_read(first: bytes, end: bytes) -> None:
    """With or without a request line, with either line end; the body to the last byte."""
    lines = [*([first] if first else []), b"Telnyx-Timestamp: 1", b"Via:  a: b ", b"via:", b"", BODY]
    found = read_exhibit(end.join(lines))

    assert (found.headers, found.body) == (HEADERS, BODY)
    assert found.url == (first.split()[1].decode() if first else "")


def test_a_request_without_a_body_has_an_empty_one() -> None:
    """What ends after its blank line has no bytes."""
    assert read_exhibit(b"a: b\r\n\r\n") == Exhibit(((b"a", b"b"),), b"")


@pytest.mark.parametrize(
    ("target", "token"),
    [
        ("/webhooks/sinch/main-sinch", None),
        ("https://hooks.example.com/webhooks/sinch/main-sinch?try=2", None),
        ("/behind/webhooks/sinch/main-sinch/a%2Fb?x", "a/b"),
        ("/webhooks/sinch/main-sinch/", ""),
    ],
)
def test_the_url_says_account_and_token(target: str, token: str | None) -> None:
    """The path is that of the receiver, wherever a proxy put it."""
    found = read_exhibit(f"POST {target} HTTP/1.1\n\n".encode())

    assert (found.provider, found.account, found.url_token) == ("sinch", "main-sinch", token)


def test_json_is_read() -> None:
    """The documented form, and headers as an object; what is said beats what the URL says."""
    document = {
        "headers": [["Via", "a"], ["via", "caf\u00e9"]],
        "body_base64": "e30K\n",
        "url": "/webhooks/sinch/main-sinch/token",
        "url_token": "other",
        "received_at": "2026-11-21T12:00:00Z",
        "unauthentic": True,
    }
    found = read_exhibit(orjson.dumps(document))
    of_object = read_exhibit(orjson.dumps({"headers": {"A": "1", "B": ["2", "3"]}, "body_base64": "", "account": "x"}))

    assert found == Exhibit(
        headers=((b"via", b"a"), (b"via", "caf\u00e9".encode())),
        body=b"{}\n",
        url="/webhooks/sinch/main-sinch/token",
        url_token="other",
        provider="sinch",
        account="main-sinch",
        received_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
    )
    assert of_object == Exhibit(((b"a", b"1"), (b"b", b"2"), (b"b", b"3")), b"", account="x")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no blank line"),
        (b"a: b\nc: d", "no blank line"),
        (b"POST / HTTP/1.1\na: b\nno header\n\n", "header no. 2"),
        (b"two words: x\n\n", "header no. 1"),
        (b'{"headers": []}', "body_base64"),
        (b'{"headers": 7, "body_base64": ""}', "headers"),
        (b'{"headers": [], "body_base64": "?"}', "not base64"),
        (b'{"headers": [], "body_base64": "", "received_at": "soon"}', "received_at"),
        (b"{", "as such"),
    ],
)
def test_what_is_no_request_is_said(data: bytes, said: str) -> None:
    """Each mistake names what to look at."""
    with pytest.raises(UnreadableRequest, match=said):
        read_exhibit(data)
