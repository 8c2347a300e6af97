"""Which events a subscriber wants. Pure."""

import msgspec

from schemas.events import ConversationMerged
from schemas.reader import Head, merged_keys

_MERGED = str(ConversationMerged.__struct_config__.tag)


class Filter(msgspec.Struct, frozen=True):
    """Types and conversations wanted; None: all."""

    types: frozenset[str] | None = None
    #: Every key that means one of the conversations wanted.
    keys: frozenset[str] | None = None

    def wants(self, head: Head) -> bool:
        """Whether it lets an event through."""
        return (self.types is None or head.type in self.types) and (self.keys is None or head.subject in self.keys)

    def orders(self, head: Head, raw: bytes) -> tuple[str, ...]:
        """The keys that a merge ends, where it is of a conversation wanted: also if merges are not wanted themselves.

        What follows it in the survivor's lane must not come before what precedes it in theirs.
        """
        if head.type != _MERGED or (self.keys is not None and head.subject not in self.keys):
            return ()
        return merged_keys(raw)

    def is_moved_by(self, head: Head, raw: bytes) -> bool:
        """Whether an event changes which keys mean the conversations wanted."""
        if self.keys is None or head.type != _MERGED:
            return False
        return head.subject in self.keys or not self.keys.isdisjoint(merged_keys(raw))
