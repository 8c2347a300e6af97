"""A person's (or line's) canonical identity as text.

Three forms, as the contract gives them: `+E.164`; a lower-cased e-mail; otherwise `<provider>:<text>`
(short codes, alphanumeric senders, business-scoped user ids). Two spellings of one number give one
address; two different texts never give the same one.
"""

import re
from functools import lru_cache
from typing import NewType

#: Longer texts are refused: no address is longer, and dropping one would make a set look smaller.
MAX_LENGTH = 320
#: With punctuation and invisible marks; longer ones are not even looked at.
_LONGEST_SPELLING = 4 * MAX_LENGTH

# Vendors' own pages hold U+202D before a number; control and zero-width marks come along by copy and paste.
_INVISIBLE = re.compile("[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_PUNCTUATION = re.compile(r"[\s().\-/\u2010-\u2015\u00a0]+")
_NUMBER = re.compile(r"(\+?)([0-9]+)")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")

_MIN_E164 = 7
_MAX_E164 = 15
_NANP_DIGITS = 10
#: Providers that write North American numbers without their country code.
_NANP_PROVIDERS = frozenset({"telnyx", "sendblue"})


class AddressError(ValueError):
    """A text that is no possible address."""


#: A canonical address. A log line or an error shows `mask` of one, never the whole.
Address = NewType("Address", str)


def parse_address(text: str, provider: str) -> Address | None:
    """Bring one address into its canonical form; None when there is nothing in the text.

    Args:
        text: as the provider wrote it: `+1 (555) 555-0120`, `15555550120`, `Jane@Example.com`, `MTN`, `40404`.
        provider: decides the prefix of addresses that are neither number nor e-mail, and who omits +1.

    Raises AddressError for a text longer than any address: it must not silently vanish from a set.
    """
    if len(text) > _LONGEST_SPELLING:
        raise AddressError(f"an address of {len(text)} characters")
    return _parse(text, provider)


@lru_cache(maxsize=16384)  # the same few people write again and again
def _parse(text: str, provider: str) -> Address | None:
    visible = _INVISIBLE.sub("", text).strip()
    if not visible:
        return None
    if len(visible) > MAX_LENGTH:
        raise AddressError(f"an address of {len(visible)} characters")
    if _EMAIL.fullmatch(visible):
        return Address(visible.lower())
    number = _NUMBER.fullmatch(_PUNCTUATION.sub("", visible))
    if number is None:
        return Address(f"{provider}:{visible}")
    return _from_digits(number[2], plus=bool(number[1]), provider=provider)


def _from_digits(digits: str, *, plus: bool, provider: str) -> Address:
    if not plus and len(digits) == _NANP_DIGITS and provider in _NANP_PROVIDERS:
        return Address(f"+1{digits}")
    if _MIN_E164 <= len(digits) <= _MAX_E164:
        return Address(f"+{digits}")
    return Address(f"{provider}:{digits}")


def is_phone(address: str) -> bool:
    """Whether an address is of the `+E.164` form."""
    return address.startswith("+")


def mask(address: str) -> str:
    """Shorten an address for people: enough to recognise, too little to call."""
    if is_phone(address):
        return f"{address[:2]}…{address[-2:]}"
    provider, colon, text = address.partition(":")
    if colon:
        return f"{provider}:{text[:2]}…"
    name, _, domain = address.partition("@")
    return f"{name[:1]}…@{domain}"
