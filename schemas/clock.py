"""Times as partyline writes and reads them: aware, UTC, RFC 3339 with milliseconds. Pure."""

import re
from datetime import UTC, datetime

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{0,9})\d*)?(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII
)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC).timestamp()
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def format_time(moment: datetime) -> str:
    """`2023-08-08T13:03:05.129Z`."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_time(text: str) -> datetime | None:
    """Read an ISO 8601 time with 0 to 9 fraction digits and `Z`, an offset or no zone (then UTC); else None.

    Providers send all of these: `…50.52+00:00`, `…01Z`, `…51.259711+00:00`, `…42.379863404Z`, and Sinch
    Numbers nine digits and no zone. Digits below a microsecond are cut.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    micro = int((fraction or "0").ljust(6, "0")[:6])
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), micro, tzinfo=UTC)
        if sign is None:
            return moment
        shift = (int(offset_hours) * 60 + int(offset_minutes)) * 60
        return datetime.fromtimestamp(moment.timestamp() + (shift if sign == "-" else -shift), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def from_unix(seconds: float) -> datetime | None:
    """A Unix time in seconds, or None where it is outside the years 1970 to 9998."""
    if not _EARLIEST <= seconds < _LATEST:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def unix_milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970."""
    return round(moment.timestamp() * 1000)
