"""Every Redis key and channel, each with its reason. No other file spells one.

The braces are literal: they are the cluster hash tag, so all keys of a partition share a slot and one script may
touch them together.
"""

from collections.abc import Sequence
from hashlib import blake2b
from zlib import crc32

#: Version of the layout below; a namespace remembers the one it was made with.
LAYOUT = "3"

#: De-duplication entries are spread over 2^16 hashes a generation, so that each stays small enough for Redis'
#: compact encoding (about 25 bytes an entry instead of 100) from thousands to millions of entries; and is soon looked
#: through, by each event: of a million entries, each has some fifteen. Twice as many would take a fifth more memory.
_DEDUPE_BUCKET_BITS = 16
_DEDUPE_FIELD_BYTES = 10
DAY_SECONDS = 86400
#: Look-ups by address and by group id are spread over 2^18 sorted sets: up to some thirty million entries, each stays
#: in the compact encoding, which takes a quarter of the memory, and is looked through from its begin to be added to.
#: Of a million conversations of four, each has some fifteen entries.
_INDEX_BUCKET_BITS = 18
#: Ids of people's messages are kept for one to two of these.
IDENTIFIER_GENERATION_SECONDS = 30 * DAY_SECONDS


def partition_of(account: str, partitions: int) -> int:
    """The partition that an account lives in, whole: CRC-32 of its name. Fixed for the life of a namespace."""
    return crc32(account.encode()) % partitions


def keyspaces(namespace: str, partitions: int) -> "list[Keyspace]":
    """The keys of each partition."""
    return [Keyspace(namespace, number) for number in range(partitions)]


class Keyspace:
    """The keys of one partition of one namespace."""

    __slots__ = ("keys_of", "namespace", "partition", "prefix")

    def __init__(self, namespace: str, partition: int = 0, keys_of: str | None = None) -> None:
        """`keys_of`: the namespace that conversation keys derive for, where this one was rebuilt from another."""
        self.namespace = namespace
        self.partition = partition
        self.keys_of = keys_of or namespace
        tag = namespace if partition == 0 else f"{namespace}:{partition}"
        self.prefix = f"partyline:{{{tag}}}"

    # --- contract: relied on outside the code ---

    @property
    def captures(self) -> str:
        """Stream, one entry per callback: the capture log, the only queue."""
        return f"{self.prefix}:captures"

    @property
    def events(self) -> str:
        """Stream with one field `event`, the envelope as JSON: the record, at least once, resumable."""
        return f"{self.prefix}:events"

    @property
    def channels(self) -> str:
        """What every channel starts with; `:<type>:<subject>` follows, and the same bytes are published there."""
        return f"{self.prefix}:events:"

    def channel(self, event_type: str, subject: str) -> str:
        """Pub/sub channel of one type and subject: a hint, at most once."""
        return f"{self.prefix}:events:{event_type}:{subject}"

    @property
    def every_channel(self) -> str:
        """The pattern for PSUBSCRIBE that gets all events."""
        return f"{self.prefix}:events:*"

    @property
    def dead(self) -> str:
        """Stream of dead letters: capture id, reason, detail."""
        return f"{self.prefix}:dead"

    @property
    def quarantine(self) -> str:
        """Stream, capped: the one place that keeps unauthentic bytes."""
        return f"{self.prefix}:quarantine"

    # --- internal ---

    @property
    def meta(self) -> str:
        """Hash: layout version, partitions, fingerprint of id_key; start-up refuses what does not match."""
        return f"{self.prefix}:meta"

    @property
    def lease(self) -> str:
        """String with a time to live: the token of the one pipeline that may commit."""
        return f"{self.prefix}:lease"

    @property
    def lease_wanted(self) -> str:
        """String with a time to live: somebody asks the working pipeline to hand the lease over for a while."""
        return f"{self.prefix}:lease:wanted"

    @property
    def trials(self) -> str:
        """Hash: the token of a pipeline that has not ended in order; the capture last tried alone, and how often."""
        return f"{self.prefix}:trials"

    @property
    def cursor(self) -> str:
        """String: the entry id of the last capture that is wholly committed."""
        return f"{self.prefix}:cursor"

    def fence(self, spool: str) -> str:
        """String with a time to live: which writes of a host come too late, since its spool was drained after them."""
        return f"{self.prefix}:fence:{spool}"

    def bytes_of(self, stream: str) -> str:
        """Integer: how many bytes a stream's entries hold, kept by the scripts that add and trim."""
        return f"{self.prefix}:bytes:{stream.rpartition(':')[2]}"

    def conversation(self, key: str) -> str:
        """String: the number of its last event, then its record, or the redirect of a merged one.

        The number, sixteen digits, stands in the same key since each event wants both, and a key of an old
        conversation is in no cache. That of a provisional key stays zero and is kept apart: it must outlive the
        record, which expires.
        """
        return f"{self.prefix}:cv:{key}"

    def followers(self, key: str) -> str:
        """String: the provisional keys that readers know and that lead to one key. Apart: they may be many."""
        return f"{self.prefix}:fo:{key}"

    def pointers(self, key: str) -> str:
        """String: what is known of a class of message ids, or the way to it. Expires `retention.messages` after use."""
        return f"{self.prefix}:pt:{key}"

    def rollup(self, key: str) -> str:
        """String: what became of one message, recipient by recipient. Expires as the pointers to it do."""
        return f"{self.prefix}:ru:{key}"

    def recent(self, key: str) -> str:
        """String: what was lately said in one group, for telling copies. Expires as pointers do."""
        return f"{self.prefix}:rc:{key}"

    def circle(self, key: str) -> str:
        """String: whose addresses were ever tied to whose, and their conversations. Never expires."""
        return f"{self.prefix}:us:{key}"

    def account(self, key: str) -> str:
        """String: an account's lines with direct conversations, and the words by which people join its groups."""
        return f"{self.prefix}:ac:{key}"

    def index(self, term: str) -> tuple[str, bytes]:
        """Sorted set by text, of what conversations can be looked up by; and what the members of a term start with.

        A member is eight bytes of the term's digest and the sixteen of the conversation's key. Members of another term
        may start alike, so who looks up checks the record.
        """
        digest = blake2b(term.encode(), digest_size=8).digest()
        bucket = int.from_bytes(digest[:3], "big") >> (24 - _INDEX_BUCKET_BITS)
        return f"{self.prefix}:ix:{bucket:x}", digest

    def identifiers(self, term: str, seconds: int) -> list[tuple[str, bytes]]:
        """Hashes that may know which conversation a message was in, and the field in them: the one to write first."""
        digest = blake2b(term.encode(), digest_size=16).digest()
        bucket = int.from_bytes(digest[:2], "big") >> (16 - _DEDUPE_BUCKET_BITS)
        generation = seconds // IDENTIFIER_GENERATION_SECONDS
        hashes = [f"{self.prefix}:id:{generation - back}:{bucket:x}" for back in (0, 1)]
        return [(name, digest[:_DEDUPE_FIELD_BYTES]) for name in hashes]

    def sequence(self, subject: str) -> str:
        """Integer: the last sequence number of an account as a whole, or of a provisional key. Never expires."""
        return f"{self.prefix}:sq:{subject}"

    @staticmethod
    def dedupe(digest: bytes, marks: Sequence[str]) -> list[str]:
        """Hashes that may know an event id: the one to write now, then the others to look into. `marks`: as below."""
        bucket = int.from_bytes(digest[:2], "big") >> (16 - _DEDUPE_BUCKET_BITS)
        end = f":{bucket:x}"
        return [mark + end for mark in marks]

    def dedupe_marks(self, day: int, window_seconds: int) -> list[str]:
        """Strings with a time to live: that hashes of a generation were begun; of that of a day, then its neighbours.

        An entry lives in the hash of the generation in which it was last seen. A generation is the window rounded
        up to a power of two days, so a change of `retention.dedupe` within that rounding loses nothing; the
        neighbours on both sides are looked into, because clocks step back as well. They are marked since most of the
        time one or both are not there, and each event would look for their hashes in vain.

        Args:
            day: days since the epoch.
            window_seconds: how long an entry counts.
        """
        days = 1 << max(0, -(-window_seconds // DAY_SECONDS) - 1).bit_length()
        generation = day // days
        stem = f"{self.prefix}:dd:{days}:"
        return [f"{stem}{at}" for at in (generation, generation - 1, generation + 1)]

    @staticmethod
    def dedupe_field(digest: bytes) -> bytes:
        """The field of one event id inside its hash."""
        return digest[:_DEDUPE_FIELD_BYTES]

    # Of one group of subscribers. What is kept per lane is one hash a group: a consumer moves many lanes at once.

    def subscribers(self, group: str) -> str:
        """Hash: how many lanes a group of subscribers has, and the position that it began after. Made once."""
        return f"{self.prefix}:sub:{group}"

    def lane_cursors(self, group: str) -> str:
        """Hash: by lane, the stream position up to which everything of it is handled."""
        return f"{self.prefix}:sub:{group}:cursors"

    def lane_holders(self, group: str) -> str:
        """Hash: by lane, the token of the consumer that works it; it counts while that consumer's lease lives."""
        return f"{self.prefix}:sub:{group}:holders"

    def lane_tries(self, group: str) -> str:
        """Hash: by lane, the position last tried with doubts and how often, so that the count survives a crash."""
        return f"{self.prefix}:sub:{group}:tries"

    def consumers(self, group: str) -> str:
        """Set: tokens of the consumers that share the lanes; those whose lease is gone are removed when seen."""
        return f"{self.prefix}:sub:{group}:consumers"

    def consumer(self, group: str, token: str) -> str:
        """String with a time to live: the lease of one consumer, holding its token. One, however many lanes it has."""
        return f"{self.prefix}:sub:{group}:consumer:{token}"

    def undeliverable(self, group: str) -> str:
        """Stream, capped: what a group gave up on, by event id, position, reason and tries; `*` is any group's."""
        return f"{self.prefix}:sub:{group}:dead"
