"""How single values are written: what a text, number, size, duration, network or URL in the configuration means. Pure.

Each takes the value as TOML gives it, or as text where it comes from the environment; hence a quoted number or
boolean means the same as a bare one.
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from correlator.redis_url import SUPPORTED, read_url
from receiver.settings.reading import Reader, WrongValueError, closest
from receiver.settings.values import DAY, GIB, KIB, MIB, Network, Secret, SecretBytes
from schemas.address import Address, AddressError, parse_address

_WHOLE = re.compile(r"-?[0-9]{1,15}")
_SIZE = re.compile(r"([0-9]{1,15}) ?([A-Za-z]*)")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([a-z]*)")
_VISIBLE = re.compile(r"[!-~]+")
_URL_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,}")

_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": KIB, "mib": MIB, "gib": GIB}
_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600), "d": Fraction(DAY)}
_LONGEST = 36525 * DAY  # a century: anything beyond is a slip, and overflows a date
_MIN_REPLAY_TOKEN = 16


def text(value: Any) -> str:
    """Any text but an empty one."""
    if not isinstance(value, str):
        raise WrongValueError("is not a text; write it in quotes")
    if not value:
        raise WrongValueError("is empty; fill it in, or remove it")
    return value


def text_like(pattern: str, shape: str) -> Reader:
    """A reader of texts that match a pattern as a whole; `shape` says so in words."""
    compiled = re.compile(pattern)

    def read(value: Any) -> str:
        if not compiled.fullmatch(text(value)):
            raise WrongValueError(f"is not {shape}")
        return str(value)

    return read


def word(*words: str) -> Reader:
    """A reader of one of a few words."""

    def read(value: Any) -> str:
        if value not in words:
            hint = closest(value, words) if isinstance(value, str) else ""
            raise WrongValueError(f"is none of {', '.join(words)}{hint}")
        return str(value)

    return read


def whole_number(low: int, high: int | None = None) -> Reader:
    """A reader of whole numbers within bounds."""
    bounds = f"of {low} or more" if high is None else f"from {low} to {high}"

    def read(value: Any) -> int:
        number = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
        if not isinstance(number, int) or isinstance(number, bool):
            raise WrongValueError(f"is not a whole number {bounds}")
        if number < low or (high is not None and number > high):
            raise WrongValueError(f"is out of range; give a whole number {bounds}")
        return number

    return read


def flag(value: Any) -> bool:
    """`true` or `false`."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise WrongValueError("is neither true nor false")


def size(value: Any) -> int:
    """`16MiB` in bytes; a bare number is bytes."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value))
    unit = None if match is None else _BYTES.get(match[2].lower())
    if match is None or unit is None:
        raise WrongValueError('is not a size; write for example "16MiB" (KiB, MiB, GiB, KB, MB, GB, B)')
    if not int(match[1]):
        raise WrongValueError("is zero; nothing would fit")
    return int(match[1]) * unit


def duration(value: Any) -> float:
    """`500ms` in seconds; nothing but zero goes without a unit."""
    match = None if isinstance(value, bool) else _DURATION.fullmatch(str(value))
    unit = None if match is None else _SECONDS.get(match[2])
    if match is None or (unit is None and (match[2] or Fraction(match[1]))):
        raise WrongValueError('is not a duration; write for example "10s" (ms, s, m, h, d)')
    seconds = Fraction(match[1]) * (unit or 0)
    if seconds > _LONGEST:
        raise WrongValueError("is longer than a century")
    return float(seconds)


def positive_duration(value: Any) -> float:
    """A duration that is not zero."""
    seconds = duration(value)
    if not seconds:
        raise WrongValueError("is zero; give it some time")
    return seconds


def whole_seconds(value: Any) -> int:
    """A duration of whole seconds, one or more."""
    seconds = positive_duration(value)
    if not seconds.is_integer():
        raise WrongValueError("is not a whole number of seconds")
    return int(seconds)


def folder(value: Any) -> Path:
    """The path of a folder."""
    return value if isinstance(value, Path) else Path(text(value))


def network(value: Any) -> Network:
    """`10.0.0.0/8`, or a single address."""
    try:
        return ip_network(text(value))
    except ValueError as error:
        raise WrongValueError(
            'is not a network such as "10.0.0.0/8" (with no bit set after the prefix) or a single address'
        ) from error


def redis_url(value: Any) -> Secret:
    """`embedded`, or the URL of a server; user and password must be percent-encoded."""
    if value == "embedded":
        return Secret(value)
    try:
        parts = urlsplit(text(value))
    except ValueError as error:
        raise WrongValueError("is not a URL") from error
    if not value.startswith(SUPPORTED):
        raise WrongValueError(f'is neither "embedded" nor a URL with {", ".join(SUPPORTED)}')
    _check_port(parts)
    # So that what stands after the @ is the server and can be shown to people.
    if value.count("@") > parts.netloc.count("@") or parts.netloc.count("@") > 1 or parts.fragment:
        raise WrongValueError("has a password that confuses the URL; percent-encode @, /, ? and # in it")
    if not (parts.netloc.rpartition("@")[2] or (parts.scheme == "unix" and parts.path)):
        raise WrongValueError("names no server")
    try:
        read_url(value)
    except ValueError as error:
        raise WrongValueError(str(error)) from None
    return Secret(value)


def _check_port(parts: SplitResult) -> None:
    if "," in parts.netloc:  # several sentinels
        return
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise WrongValueError("has no port from 1 to 65535 after the server's name")


def id_key(value: Any) -> SecretBytes:
    """Any text as UTF-8; an empty one means none."""
    return SecretBytes(text(value).encode()) if value != "" else SecretBytes()


def bearer_token(value: Any) -> Secret:
    """What can stand in an Authorization header."""
    if not _VISIBLE.fullmatch(text(value)):
        raise WrongValueError("holds a space or a character beyond ASCII, which no Authorization header can hold")
    return Secret(value)


def replay_token(value: Any) -> Secret:
    """What can stand in a header and cannot be guessed: its bearer is believed whatever it tells, at every account."""
    if not _VISIBLE.fullmatch(text(value)):
        raise WrongValueError("holds a space or a character beyond ASCII, which no header can hold")
    if len(value) < _MIN_REPLAY_TOKEN:
        raise WrongValueError(f"has fewer than {_MIN_REPLAY_TOKEN} characters and can be guessed; take random ones")
    return Secret(value)


def credential(setting: str, mistakes: Sequence[Callable[[str], str | None]]) -> Reader:
    """A reader of one credential of an account, checked by the schemes that use the setting."""

    def read(value: Any) -> Secret:
        checked = text(value)
        if setting == "url_tokens" and not _URL_TOKEN.fullmatch(checked):
            raise WrongValueError("is not 16 or more of A-Z, a-z, 0-9, _ and -")
        for mistake in mistakes:
            wrong = mistake(checked)
            if wrong is not None:
                raise WrongValueError(wrong)
        return Secret(checked)

    return read


def line(provider: str) -> Reader:
    """A reader of own addresses as that provider writes them; the canonical form is welcome, too."""

    def read(value: Any) -> Address:
        try:
            address = parse_address(text(value).removeprefix(f"{provider}:"), provider)
        except AddressError as error:
            raise WrongValueError("is too long for an address") from error
        if address is None or address.startswith(f"{provider}:+"):
            raise WrongValueError('is not an address; write a number as "+" and 7 to 15 digits')
        return address

    return read


def written_duration(seconds: float) -> str:
    """As `duration` reads it, in the largest unit that leaves a whole number: `90s`, `8d`, `500ms`."""
    for unit, length in reversed(_SECONDS.items()):
        if seconds and (Fraction(seconds) / length).denominator == 1:
            return f"{Fraction(seconds) / length}{unit}"
    return f"{seconds:g}s"


def written_age(seconds: float) -> str:
    """How long ago, for people: cut to the largest unit that there are two of at least, as in `90s`, `2h`, `47h`."""
    for unit, length in reversed(_SECONDS.items()):
        if length >= 1 and seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


def written_size(count: int) -> str:
    """As `size` reads it, in the largest binary unit that leaves a whole number: `16MiB`, `1000B`."""
    for unit, length in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count % length == 0:
            return f"{count // length}{unit}"
    return f"{count}B"
