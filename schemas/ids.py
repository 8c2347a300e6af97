"""Identifiers, and how each is derived.

A derived key is keyed BLAKE2b-128 over length-prefixed parts (four bytes, big-endian, then the part as UTF-8),
written as 26 characters of lower-case base32 without padding. The prefix says what it names: `cv_` a
conversation, `ac_` an account as a whole, `au_` an audience. Length prefixes keep ("ab", "c") and ("a", "bc") apart.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NewType

ConversationKey = NewType("ConversationKey", str)
Audience = NewType("Audience", str)
EventId = NewType("EventId", str)
CaptureId = NewType("CaptureId", str)

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SIX = (1 << 30) - 1
#: The alphabet as Python reads a number of base 32.
_AS_DIGITS = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_CONVERSATION = "cv_"
#: What a conversation's key looks like, and what an event may be about; as regular expressions.
CONVERSATION_PATTERN = "cv_[a-z2-7]{26}"
SUBJECT_PATTERN = "(cv|ac)_[a-z2-7]{26}"
AUDIENCE_PATTERN = "au_[a-z2-7]{26}"
_MAX_KEY = 64  # BLAKE2b takes no longer key
_MAX_PART = 160  # longer facts are hashed, so that an event id stays readable and bounded
#: What stands before a part of so many bytes, as long as that is ASCII.
_LENGTHS = [chr(length).rjust(4, "\0") for length in range(128)]


class Scope:
    """What every conversation key of one account is derived under: (namespace, provider, account) and `id_key`.

    No other setting enters a key, so adding a line or rotating a credential moves no conversation.
    """

    __slots__ = (
        "_audiences",
        "_conversations",
        "_id_key",
        "_users",
        "_whole_account",
        "account",
        "namespace",
        "path",
        "provider",
    )

    def __init__(self, id_key: bytes, namespace: str, provider: str, account: str) -> None:
        self._id_key = hash_key(id_key)
        self.namespace = namespace
        self.provider = provider
        self.account = account
        #: The account as one word: `telnyx/main-telnyx`.
        self.path = f"{provider}/{account}"
        # What all keys of one sort begin with is hashed once.
        self._conversations = self._begin("cv", namespace, provider, account)
        self._users = self._begin("ad", namespace, provider, account)
        self._audiences = self._begin("au", namespace)
        self._whole_account = ConversationKey(_derive(self._begin("ac", namespace, provider, account), "ac_"))

    def _begin(self, *parts: str) -> "blake2b":
        return blake2b(_framed(parts), digest_size=16, key=self._id_key)

    def of(self, path: str) -> "Scope":
        """The scope of another account of the namespace, by its `path`."""
        return self if path == self.path else Scope(self._id_key, self.namespace, *path.split("/", 1))

    def conversation(self, kind: str, parts: Iterable[str]) -> ConversationKey:
        """The key of the conversation that `kind` and `parts` identify, as `Identity` holds them."""
        return ConversationKey(_derive(self._conversations, _CONVERSATION, kind, *parts))

    def whole_account(self) -> ConversationKey:
        """The subject of events that concern the account as a whole."""
        return self._whole_account

    def user(self, address: str) -> str:
        """What an address of this account is known by in key names, which hold no address themselves."""
        return _derive(self._users, "ad_", address)

    def audience(self, people: Iterable[str]) -> Audience:
        """The same for the same people at any provider and account of the namespace."""
        return Audience(_derive(self._audiences, "au_", *sorted(people)))


@lru_cache(maxsize=16384)  # most facts belong to a conversation that another fact of today belonged to
def _derive(begun: "blake2b", prefix: str, *parts: str) -> str:
    state = begun.copy()
    state.update(_framed(parts))
    return prefix + base32(state.digest())


def _framed(parts: Sequence[str]) -> bytes:
    # As a rule all of it is short and ASCII, and may be put together as text: that takes half the time.
    try:
        framed = ""
        for part in parts:
            framed = f"{framed}{_LENGTHS[len(part)]}{part}"
        if framed.isascii():
            return framed.encode()
    except IndexError:
        pass  # a part is longer
    return b"".join([len(part).to_bytes(4, "big") + part for part in map(str.encode, parts)])


def hash_key(id_key: bytes) -> bytes:
    """`id_key` as BLAKE2b can take it: itself up to 64 bytes, else its BLAKE2b-512."""
    return id_key if len(id_key) <= _MAX_KEY else blake2b(id_key).digest()


def fingerprint(id_key: bytes) -> str:
    """What a namespace remembers of its `id_key`, so that start-up can refuse another one."""
    return blake2b(b"partyline id_key", digest_size=8, key=hash_key(id_key)).hexdigest()


def base32(data: bytes) -> str:
    """Sixteen bytes as 26 characters: base32 in lower case, without padding."""
    bits, pair = int.from_bytes(data, "big") << 2, _PAIRS
    # Spelled out: a loop takes twice as long, base64.b32encode ten times, and each new message has its own key. By
    # thirty bits, which Python keeps in one digit: that halves what each pair takes.
    first, second, third, fourth = bits >> 100, bits >> 70 & _SIX, bits >> 40 & _SIX, bits >> 10 & _SIX
    return (
        f"{pair[first >> 20]}{pair[first >> 10 & 1023]}{pair[first & 1023]}"
        f"{pair[second >> 20]}{pair[second >> 10 & 1023]}{pair[second & 1023]}"
        f"{pair[third >> 20]}{pair[third >> 10 & 1023]}{pair[third & 1023]}"
        f"{pair[fourth >> 20]}{pair[fourth >> 10 & 1023]}{pair[fourth & 1023]}"
        f"{pair[bits & 1023]}"
    )


def key_bytes(key: ConversationKey) -> bytes:
    """The sixteen bytes that a conversation key writes as text."""
    digits = key.removeprefix(_CONVERSATION).translate(_AS_DIGITS)
    return (int(digits, 32) >> 2).to_bytes(16, "big")  # 26 characters of five bits are two more than it has


def key_of(data: bytes) -> ConversationKey:
    """The conversation key of sixteen bytes."""
    return ConversationKey(_CONVERSATION + base32(data))


def event_id(provider: str, account: str, *fact: str | None) -> EventId:
    """The idempotency key of one provider fact: `telnyx:main-telnyx:0d7c4fbe-…`.

    `fact` is what identifies it at that provider (its facts.md), absent parts left empty. A colon or percent
    sign inside a part is escaped, so no two lists of parts give one id; a very long part stands as its hash.
    """
    return EventId(":".join([provider, account, *[_readable(part) if part else "" for part in fact]]))


def _readable(part: str) -> str:
    if len(part) > _MAX_PART:
        return "b2." + blake2b(part.encode(), digest_size=16).hexdigest()
    return part.replace("%", "%25").replace(":", "%3A")


def derived_event_id(origin: EventId, consequence: str) -> EventId:
    """The id of an event that follows from another: `…#members`, `…#merged`."""
    return EventId(f"{origin}#{consequence}")


def content_hash(data: bytes) -> str:
    """A short name for content without any id of its own (32 hexadecimal digits)."""
    return blake2b(data, digest_size=16).hexdigest()


def capture_id(milliseconds: int, randomness: bytes) -> CaptureId:
    """`cp_` and 32 hexadecimal digits that sort by time: 48 bits of Unix milliseconds, then 80 random bits."""
    return CaptureId("cp_" + (milliseconds.to_bytes(6, "big") + randomness[:10]).hex())
