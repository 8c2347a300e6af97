"""Conversations to be looked up, and a provider whose sends are easily written: what tests of `/v1` share."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import msgspec
import pytest

from correlator.lookup import Page
from receiver.body import Node, decode
from receiver.provider import Provider, address
from receiver.providers import PROVIDERS
from schemas.address import Address
from schemas.callback import Capture
from schemas.errors import ParseError, StoreError
from schemas.events import Event, Evidence, Message, MessageOutbound, Parsed, Unreadable, pair_identity, set_identity
from schemas.ids import ConversationKey, Scope, event_id
from schemas.keyspace import Keyspace
from tests.service import LINE, document, running_app

TOKENS = ("api-Lighthouse-one", "api-Lighthouse-two")
BEARER = {"authorization": f"Bearer {TOKENS[0]}"}
ANN, BOB = Address("+15555550111"), Address("+15555550112")


# --- sends ---


def register(capture: Capture) -> list[Parsed]:
    """A send is `{"id", "to": […]}`: a message to each recipient alone, or with `"group": true` to all together."""
    body = decode(capture.body)
    send = body.get("response") if "response" in body else body
    name, recipients = send.require_text("id"), send.items("to")
    if send.flag("group"):
        people = frozenset(found for node in recipients if (found := address(node, capture.provider)))
        return [_sent(capture, name, Evidence(set_identity(people | {Address(LINE)}), lines=(Address(LINE),)))]
    return [_to_one(capture, name, node) for node in recipients]


def _to_one(capture: Capture, name: str, node: Node) -> Parsed:
    person = address(node, capture.provider)
    if person is None:
        return Unreadable("unreadable", node.path, "missing, or no address")
    return _sent(capture, f"{name}/{person}", Evidence(pair_identity(LINE, person), lines=(Address(LINE),)))


def _sent(capture: Capture, name: str, evidence: Evidence) -> Event:
    message = Message(id=name, direction="outbound", sender=None, text=None, media=(), channel="sms")
    identifier = event_id(capture.provider, capture.account, name)
    return Event(identifier, MessageOutbound(message), None, evidence, "outbound", {})


def crash(_: Capture) -> list[Parsed]:
    """A mistake of ours."""
    raise RuntimeError("a mistake of ours, with +15555550111 in it")


def refuse(_: Capture) -> list[Parsed]:
    """A provider that says no."""
    raise ParseError("$.response.id", "missing, or not a text")


def providing(**changes: Any) -> Mapping[str, Provider]:
    """The providers, each of whose sends are as above unless told otherwise."""
    chosen = {"register": register, **changes}
    return {name: msgspec.structs.replace(provider, **chosen) for name, provider in PROVIDERS.items()}


# --- conversations ---


def conversation(letter: str, kind: str = "direct", *people: str, **more: Any) -> dict[str, Any]:
    """What a look-up shows of a conversation whose key is made of one letter."""
    return {
        "key": "cv_" + letter * 26,
        "kind": kind,
        "participants": list(people) or None,
        "lines": [LINE],
        "provisional": False,
        "merged": [],
        "ids": {},
        "sequence": "0000000000000042",
        "account": "telnyx/main-telnyx",
        **more,
    }


class Shelf:
    """Conversations to look up, and every question that was asked; it is away when it has none."""

    def __init__(self, *conversations: dict[str, Any]) -> None:
        self._conversations = conversations
        self.asked: list[tuple[Any, ...]] = []
        self._namespace, self._id_key = "", b""

    def __call__(self, _: object, keyspace: Keyspace, id_key: bytes) -> "Shelf":
        """Stands in the place of the class that is made from a client, a keyspace and an id_key."""
        self._namespace, self._id_key = keyspace.namespace, id_key
        return self

    async def conversation(self, key: ConversationKey) -> dict[str, Any] | None:
        """By its key, or one that was merged into it."""
        self._ask("key", key)
        found = [shown for shown in self._conversations if key == shown["key"] or key in shown["merged"]]
        return found[0] if found else None

    async def by_id(self, *question: Any) -> Page:
        """All of them, on two pages."""
        self._ask("id", *question)
        return self._page(question[-2])

    async def by_address(self, *question: Any) -> Page:
        """All of them, on two pages."""
        self._ask("address", *question)
        return self._page(question[-2])

    async def scope(self, provider: str, account: str) -> Scope:
        """What keys derive under, in a namespace that `__call__` was told of."""
        return Scope(self._id_key, self._namespace, provider, account)

    def _ask(self, *question: Any) -> None:
        if not self._conversations:
            raise StoreError("Redis: ConnectionError: it is not there")
        self.asked.append(question)

    def _page(self, after: str) -> Page:
        return Page(list(self._conversations[1:]), None) if after else Page([self._conversations[0]], "c1")


@contextmanager
def shelved(monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> Iterator[None]:
    """The application looks conversations up on a shelf."""
    with monkeypatch.context() as patch:
        patch.setattr("receiver.app.Lookup", shelf)
        yield


@asynccontextmanager
async def running_api(
    namespace: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, shelf: Shelf | None = None, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """An application with tokens, and a client that presents the first."""
    sections = options.pop("sections", {})
    configuration = document(namespace, **{"server": {"api_tokens": list(TOKENS)}, **sections})
    options.setdefault("providers", providing())
    with shelved(monkeypatch, shelf or Shelf()):
        async with running_app(configuration, redis_url, **options) as client:
            client.headers.update(BEARER)
            yield client
