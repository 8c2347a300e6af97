"""A person's word that two conversations, or two addresses of an account, are one: as a request and as a capture. Pure.

It goes through the capture log like everything else, so that a replay hears it at the same place. The body of such a
capture is JSON of our own: `{"link": [key, key]}` or `{"tie": [address, address]}`, with `"undone": true` for one that
is taken back. The two stand sorted, so that a link is the same, and can be taken back, whichever was named first.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from receiver.body import Node, decode
from receiver.queries import Directory, UnreadableAddress, read_address
from schemas.address import Address
from schemas.callback import Capture
from schemas.errors import CallbackError, ParseError
from schemas.events import Link, Linked, Tie
from schemas.ids import CONVERSATION_PATTERN, ConversationKey, event_id
from schemas.keyspace import partition_of
from schemas.value import Value

_KEY = re.compile(CONVERSATION_PATTERN)
_PAIR = 2


class Linking(Value, frozen=True, omit_defaults=True):
    """Two keys of conversations, or two addresses of an account, that are one."""

    one: str
    other: str
    #: Whose addresses they are; without it they are keys.
    account: str | None = None
    #: The account's provider, if you like.
    provider: str | None = None


_MEMBERS = frozenset(Linking.__struct_fields__)


class UnknownLinked(CallbackError):
    """One of the keys to be linked was never heard of."""

    reason = "unknown_conversation"
    status = 422


class PartitionsDiffer(CallbackError):
    """Two conversations whose accounts have no Redis server in common."""

    reason = "partitions_differ"
    status = 422


class SameTwice(CallbackError):
    """Both keys, or both addresses, are the same one."""

    reason = "same_twice"
    status = 422


class KindsDiffer(CallbackError):
    """A direct conversation and a group are never one."""

    reason = "kinds_differ"
    status = 422


class Tying(Value, frozen=True):
    """A tie, with the account whose addresses it is of."""

    provider: str
    account: str
    tie: Tie


def read_key(text: str) -> ConversationKey | None:
    """A conversation's key; None for a text that cannot be one."""
    return ConversationKey(text) if _KEY.fullmatch(text) else None


def read_request(body: bytes, directory: Directory) -> Link | Tying:
    """What the body of a request to /v1/links asks for; with an account it is of addresses, without one of keys.

    Args:
        body: `{"one", "other"}`, and for addresses "account" and, if you like, "provider".
        directory: the accounts and providers that may be named.

    Raises ParseError, or the CallbackError that says why the two cannot be linked.
    """
    node = decode(body)
    if not node.is_object or not _MEMBERS.issuperset(node.value):
        raise ParseError(node.path, "not an object of one, other and, for addresses, provider and account")
    one, other = node.require_text("one"), node.require_text("other")
    if "account" in node or "provider" in node:
        return tying(one, other, node.require_text("account"), node.text("provider"), directory)
    return link_of(one, other)


def link_of(one: str, other: str) -> Link:
    """A link between two keys, in the order in which they were named."""
    keys = [read_key(text) for text in (one, other)]
    if keys[0] is None or keys[1] is None:
        raise UnknownLinked(f"{'other' if keys[0] else 'one'}: not a conversation's key (cv_ and 26 characters)")
    if keys[0] == keys[1]:
        raise SameTwice("one and other are the same key")
    return Link(keys[0], keys[1])


def tying(one: str, other: str, account: str, provider: str | None, directory: Directory) -> Tying:
    """A tie between two addresses of an account, however they are spelled."""
    found = directory.provider_of(account, provider)
    addresses = [_address(name, text, found, directory) for name, text in (("one", one), ("other", other))]
    if addresses[0] == addresses[1]:
        raise SameTwice("one and other are the same address")
    return Tying(found, account, Tie(*addresses))


def _address(name: str, text: str, provider: str, directory: Directory) -> Address:
    try:
        return read_address(text, provider, directory)
    except UnreadableAddress as error:
        raise UnreadableAddress(f"{name}: {error}") from None


Shown = Mapping[str, Any]


def place_of(one: Shown | None, other: Shown | None, partitions: int, *, undone: bool) -> tuple[str, str]:
    """Provider and account under which a link is captured: the first conversation's.

    Args:
        one: what a look-up shows of the first conversation, None if it knows none.
        other: likewise.
        partitions: how many the namespace has.
        undone: the link is taken back, which is refused to no kind.

    Raises UnknownLinked, KindsDiffer or PartitionsDiffer.
    """
    if one is None or other is None:
        unknown = "other" if one else "one"
        raise UnknownLinked(f"{unknown}: nothing has been published under this key (a new one may take a moment)")
    if not undone and {one["kind"], other["kind"]} == {"direct", "group"}:
        raise KindsDiffer("one of them is a group and one is direct, and such two are never one conversation")
    provider, _, account = one["account"].partition("/")
    if partition_of(account, partitions) != partition_of(other["account"].partition("/")[2], partitions):
        raise PartitionsDiffer("their accounts are in different partitions (redis.partitions), which never meet")
    return provider, account


def link_body(link: Link | Tie, *, undone: bool) -> bytes:
    """The body of the capture that a link or tie, or its undoing, becomes."""
    word = "link" if isinstance(link, Link) else "tie"
    said: dict[str, Any] = {word: sorted((link.one, link.other))}
    return msgspec.json.encode({**said, "undone": True} if undone else said)


def read_link(capture: Capture) -> list[Linked]:
    """What a capture of kind `link` says; ParseError when it is none of ours."""
    body = decode(capture.body)
    one, other = _pair(body, "link" if "link" in body else "tie")
    link = Link(ConversationKey(one), ConversationKey(other)) if "link" in body else Tie(Address(one), Address(other))
    return [Linked(event_id("partyline", "link", capture.id), link, undone=body.flag("undone") or False)]


def _pair(body: Node, name: str) -> list[str]:
    texts = [text for item in body.items(name) if (text := item.as_text()) is not None]
    if len(texts) != _PAIR:
        raise ParseError(body.get(name).path, "not a pair of texts")
    return sorted(texts)
