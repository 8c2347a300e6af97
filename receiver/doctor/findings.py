"""What the doctor has to say: findings, each with what it means and what to do. Pure."""

from collections.abc import Iterable
from typing import Literal

import msgspec

#: `ok` is as it should be, `note` easily overlooked, `warning` can hurt, `mistake` does not work.
Level = Literal["ok", "note", "warning", "mistake"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_DAY, _HOUR, _MINUTE = 86400, 3600, 60


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    level: Level
    #: What it is about, as in `redis`; findings of one topic stand together.
    topic: str
    #: Where to look: a key path of the configuration, a partition, an account.
    subject: str
    #: How it is, and what that means. Never a secret, a text or a full number.
    sentence: str
    #: What to do about it; empty where nothing is to be done.
    todo: str = ""


def troubled(findings: Iterable[Finding]) -> bool:
    """Whether there is anything worse than a note."""
    return any(each.level in {"warning", "mistake"} for each in findings)


def about(size: float) -> str:
    """A size for people, three digits at most: `812 B`, `6.9 MiB`."""
    unit = 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < 100 else f"{size:.0f} {_UNITS[unit]}"  # noqa: PLR2004 - digits


def lasting(seconds: float) -> str:
    """A length of time for people, in the unit that suits it: `1.5 d`, `3.0 h`, `42 s`."""
    for length, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
