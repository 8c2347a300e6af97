"""Under which keys records stand, and what beside them; by what conversations can be looked up. Pure.

The index is written with the records and follows from them alone; no decision reads it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from correlator.circles import Account, Circle
from correlator.clusters import Followers
from correlator.conversation import Conversation
from correlator.copies import Recent
from correlator.pointers import PointerClass
from correlator.records import Name, Record, Write
from correlator.rollup import Rollup
from schemas.envelope import SEQUENCE_DIGITS
from schemas.ids import ConversationKey, key_bytes
from schemas.keyspace import Keyspace
from schemas.value import Value

_KEYS: Final[dict[str, Callable[[Keyspace, str], str]]] = {
    Conversation.__name__: Keyspace.conversation,
    PointerClass.__name__: Keyspace.pointers,
    Circle.__name__: Keyspace.circle,
    Account.__name__: Keyspace.account,
    Followers.__name__: Keyspace.followers,
    Rollup.__name__: Keyspace.rollup,
    Recent.__name__: Keyspace.recent,
}


def record_key(keyspace: Keyspace, name: Name) -> str:
    """The Redis key of a record."""
    return _KEYS[name.kind](keyspace, name.key)


def record_name(keyspace: Keyspace, key: str) -> Name | None:
    """Which record a Redis key is of; None for what is no record."""
    for kind, key_of in _KEYS.items():
        stem = key_of(keyspace, "")
        if key.startswith(stem):
            return Name(kind, key.removeprefix(stem))
    return None


def is_numbered(name: Name) -> bool:
    """Whether a record stands behind the number of its conversation's last event, as so many digits."""
    return name.kind == Conversation.__name__


def record_in(name: Name, stored: bytes) -> bytes:
    """The record itself, of what stands under its key."""
    return stored[SEQUENCE_DIGITS:] if is_numbered(name) else stored


def number_in(stored: bytes) -> bytes:
    """The number that a conversation's record stands behind."""
    return stored[:SEQUENCE_DIGITS]


class IndexChange(Value, frozen=True):
    """A member to add to a sorted set of the index, or to remove from it."""

    key: str
    member: bytes
    added: bool


def address_term(address: str) -> str:
    """What the conversations of a person are found by, at any account."""
    return f"address {address}"


def group_term(account: str, group: str) -> str:
    """What a group is found by. `account`: as a record has it, `whatsapp/main`."""
    return f"group {account} {group}"


def message_term(account: str, message_id: str) -> str:
    """What the conversation of a person's message is found by."""
    return f"message {account} {message_id}"


def terms(record: Record | None) -> set[str]:
    """What a conversation can be looked up by, apart from the ids of its messages."""
    if not isinstance(record, Conversation):
        return set()
    found = {address_term(address) for address in record.named}
    return found if record.group is None else found | {group_term(record.account, record.group)}


def index_changes(keyspace: Keyspace, writes: Mapping[Name, Write]) -> Iterator[IndexChange]:
    """What has to become of the index with these records."""
    for name, write in writes.items():
        if not isinstance(write.after, Conversation) or _is_alike(write.before, write.after):
            continue
        before, after = terms(write.before), terms(write.after)
        conversation = key_bytes(ConversationKey(name.key))
        for term in sorted(before ^ after):
            key, prefix = keyspace.index(term)
            yield IndexChange(key, prefix + conversation, term in after)


def _is_alike(before: Record | None, after: Conversation) -> bool:
    """Whether nothing has changed by which a conversation is looked up."""
    if before is after:
        return True
    if not isinstance(before, Conversation) or before.group != after.group:
        return False
    # As a rule not even that which the names come from has changed.
    return _sources(before) == _sources(after) or before.named == after.named


def _sources(record: Conversation) -> tuple[Any, ...]:
    return record.parts, record.roster, record.ties, record.lines
