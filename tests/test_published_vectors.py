"""Signature vectors that others published, where a copy of them is at hand.

They are not ours to carry along. `PARTYLINE_SHARED` names the folder that has them as
`providers/<name>/*vectors*.json`; without it this module holds no test.
"""

import os
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from receiver.provider import Scheme
from receiver.schemes import Ed25519, HubSignature, SharedSecret, SinchHmac
from schemas.callback import Arrival
from schemas.errors import AuthenticationError

SHARED = os.environ.get("PARTYLINE_SHARED")
LONG_AFTER = 1_800_000_000

VALID, INVALID, EITHER = frozenset({"valid"}), frozenset({"invalid"}), frozenset({"valid", "invalid"})


class Vector(msgspec.Struct, frozen=True):
    """One published request, and the verdicts that its publisher allows."""

    name: str
    scheme: Scheme
    headers: list[tuple[str, str]]
    credentials: tuple[str, ...]
    allowed: frozenset[str]
    body: bytes = b""
    now: int = LONG_AFTER

    def verdict(self) -> str:
        """What we say of it; anything but an AuthenticationError goes through."""
        arrival = Arrival(
            provider="published",
            account="main",
            method="POST",
            url="https://hooks.example.com/webhooks/published/main",
            headers=tuple((name.lower().encode(), value.encode()) for name, value in self.headers),
            url_token=None,
            body=self.body,
        )
        try:
            self.scheme.verify(arrival, self.credentials, datetime.fromtimestamp(self.now, UTC))
        except AuthenticationError:
            return "invalid"
        return "valid"


def telnyx(document: Any, _: Path) -> Iterator[Vector]:
    """Ed25519, with the verdict in words: valid, invalid: why, policy: what may be."""
    for item in document["vectors"]:
        yield Vector(
            name=item["name"],
            scheme=Ed25519(),
            headers=[
                ("telnyx-signature-ed25519", item["signature_b64"]),
                ("telnyx-timestamp", item["timestamp"]),
            ],
            credentials=(item["public_key_b64"],),
            allowed=allowed(item["expect"]),
            body=b64decode(item["body_b64"]),
            now=item["now"],
        )


def sendblue(document: Any, _: Path) -> Iterator[Vector]:
    """The secret in a header, and the HMAC of another product, which must never count here."""
    scheme = SharedSecret(b"sb-signing-secret")
    for item in document["shared_secret"]:
        sent, secret = [(name, value) for name, value in item["headers"]], item["configured_secret"]
        rotating = item["expect"] == "valid only if listed as second secret"
        verdict = INVALID if rotating else allowed(item["expect"])
        yield Vector(item["name"], scheme, sent, (secret,), verdict)
        if rotating:
            yield Vector(f"{item['name']}, listed", scheme, sent, (secret, sent[0][1]), VALID)
    other = document["verify_product_hmac"]
    headers = [("x-sendblue-signature", other["header"])]
    body = b64decode(other["body_b64"])
    yield Vector("verify product", scheme, headers, (other["secret"],), INVALID, body, other["valid_at"][0])


def sinch(document: Any, folder: Path) -> Iterator[Vector]:
    """The HMAC of SMS and Conversation; the SHA-1 of Numbers, which we do not take."""
    for item in document:
        known = item["scheme"] == "sinch-webhook-hmac"
        short_names = [("", "expected"), ("-nonce", "nonce"), ("-timestamp", "timestamp"), ("-algorithm", "algorithm")]
        yield Vector(
            name=f"{item['id']} {item['api']}",
            scheme=SinchHmac(),
            headers=[(f"x-sinch-webhook-signature{end}", item[key]) for end, key in short_names if known]
            or [("x-sinch-signature", item["expected"])],
            credentials=(item["secret"],),
            allowed=VALID if known else INVALID,
            body=(folder / item["body_file"]).read_bytes(),
        )


def whatsapp(document: Any, folder: Path) -> Iterator[Vector]:
    """The HMAC in hex, over a file or a text."""
    for item in document:
        text = item.get("body_text_ascii")
        yield Vector(
            name=f"{item['id']}",
            scheme=HubSignature(),
            headers=[("x-hub-signature-256", item["expected_header"])],
            credentials=(item["secret"],),
            allowed=VALID,
            body=text.encode() if text is not None else (folder / item["body_file"]).read_bytes(),
        )


def allowed(expect: str) -> frozenset[str]:
    """The publisher's words as verdicts; a matter of policy may go either way, unless it names one."""
    if expect == "valid":
        return VALID
    if expect.startswith("invalid") or expect == "policy: refuse":
        return INVALID
    assert expect.startswith("policy"), expect
    return EITHER


READERS: dict[str, Callable[[Any, Path], Iterator[Vector]]] = {
    "telnyx": telnyx,
    "sendblue": sendblue,
    "sinch": sinch,
    "whatsapp": whatsapp,
}


def published(shared: Path) -> dict[str, Vector]:
    """Every vector of the providers that we know, by provider and name."""
    return {
        f"{provider}: {vector.name}": vector
        for provider, read in READERS.items()
        for path in sorted((shared / "providers" / provider).glob("*vectors*.json"))
        for vector in read(orjson.loads(path.read_bytes()), path.parent)
    }


if SHARED:
    FOUND = published(Path(SHARED))

    def test_the_named_folder_has_vectors_of_each_provider() -> None:
        """A wrong folder is a failure, not a run without tests."""
        assert {name.partition(":")[0] for name in FOUND} == set(READERS)

    @pytest.mark.parametrize("vector", FOUND.values(), ids=FOUND.keys())
    def test_a_published_vector_gets_a_verdict_that_its_publisher_allows(vector: Vector) -> None:
        """What others say is valid is accepted, what they say is invalid is refused, and nothing crashes."""
        assert vector.verdict() in vector.allowed
