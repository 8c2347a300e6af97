"""What a provider is: a value of functions, not a class to inherit from. Pure.

One module in `receiver.providers` exports one `PROVIDER`. Its name is the module, the URL segment, the fixture
folder, the metric label and the `provider` of an account: one name everywhere.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

import msgspec

from receiver.body import Node, decode
from schemas.address import Address, AddressError, parse_address
from schemas.callback import Arrival, Assurance, Capture
from schemas.errors import ParseError
from schemas.events import Parsed


class Scheme(Protocol):
    """One way in which a provider proves a request to be its own. `receiver.schemes` has them all."""

    @property
    def setting(self) -> str:
        """The account setting that holds its credentials, as in `public_keys`."""
        ...

    @property
    def assurance(self) -> Assurance:
        """What a verified request counts as."""
        ...

    @property
    def limits_age(self) -> bool:
        """Whether a verified request cannot be old, because a signed time is checked."""
        ...

    @property
    def secret_headers(self) -> frozenset[bytes]:
        """Request headers that carry the credential itself: never stored, never logged. Lower case."""
        ...

    def presented(self, arrival: Arrival) -> bool:
        """Whether the request carries this kind of credential at all, right or wrong."""
        ...

    def verify(self, arrival: Arrival, credentials: tuple[str, ...], now: datetime) -> int:
        """The index of the credential that matches; any AuthenticationError otherwise, and nothing else."""
        ...

    def mistake(self, credential: str) -> str | None:
        """What is wrong with a configured credential's shape, for people, without showing it; None if nothing."""
        ...


class Provider(msgspec.Struct, frozen=True):
    """A provider. Everything that differs between providers and is not a setting is in here."""

    name: str
    schemes: tuple[Scheme, ...]
    #: A callback in our words. Raises ParseError when nothing of it can be read; elements that cannot be read
    #: are `Unreadable`s among the events, so that one bad update does not take a batch with it.
    parse: Callable[[Capture], list[Parsed]]
    #: A send of ours, registered with us, in our words: the body of a capture of kind `outbound` is the provider's own
    #: response, or `{"response", "request"}`. Raises ParseError when it is no response of the provider's.
    register: Callable[[Capture], list[Parsed]]
    #: The account setting that holds the tokens of a GET subscription handshake; None: it has none.
    handshake_setting: str | None = None
    #: Its words for the states of a message, and ours; any other word is `unknown`.
    words: Mapping[str, str] = MappingProxyType({})


class Registration(msgspec.Struct, frozen=True):
    """A send of ours as it was registered: what the provider answered, and what it had been asked."""

    response: Node
    #: The caller's own JSON to the provider's API; an empty node where only the response was handed in.
    request: Node


def registration(capture: Capture) -> Registration:
    """Both halves of a capture of kind `outbound`, whose body is the response or `{"response", "request"}`."""
    body = decode(capture.body)
    if "response" in body:
        return Registration(body.get("response"), body.get("request"))
    return Registration(body, Node(None, "request", body))


def address(node: Node, provider: str, key: str | None = None) -> Address | None:
    """The canonical address at a node, or under a key of it, that holds a bare text or number; None for anything else.

    Raises ParseError with its path for a text that is no possible address.
    """
    text = node.as_text() if key is None else node.text(key)
    try:
        return None if text is None else parse_address(text, provider)
    except AddressError as error:
        place = node if key is None else node.get(key)
        raise ParseError(place.path, str(error)) from None
