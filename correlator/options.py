"""What a subscription may be asked for: everything that cannot be used, in sentences. Pure."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from correlator.consumer import Retry
from correlator.lanes import read_position
from schemas.events import EVENT_TYPES

_MOST_LANES: Final = 1024
_NAMESPACE = re.compile("[a-z0-9-]{1,32}")
_GROUP = re.compile("[A-Za-z0-9._-]{1,64}")


def filter_mistakes(namespace: str, types: Iterable[str]) -> Iterable[str]:
    """Of what any subscription is given."""
    if _NAMESPACE.fullmatch(namespace) is None:
        yield "namespace: 1 to 32 of a-z, 0-9 and -, as in the receiver's configuration"
    if isinstance(types, str):
        yield "types: a list of types, not a text"
    elif unknown := sorted(set(types) - EVENT_TYPES):
        yield f"types: there is no {', no '.join(unknown)}; there are {', '.join(sorted(EVENT_TYPES))}"


def group_mistakes(group: str, lanes: int, lease_seconds: float, retry: Retry) -> Iterable[str]:
    """Of what concerns a group."""
    if _GROUP.fullmatch(group) is None:
        yield "group: 1 to 64 letters, digits, dots, hyphens and underscores"
    if not 1 <= lanes <= _MOST_LANES:
        yield f"lanes: 1 to {_MOST_LANES}"
    if lease_seconds <= 0:
        yield "lease_seconds: more than 0"
    if retry.tries < 1:
        yield "retry.tries: 1 or more"


def start_mistakes(start: str | datetime, partitions: int = 1) -> Iterable[str]:
    """Of where a new group is to begin, in a namespace of so many partitions."""
    if isinstance(start, datetime):
        if start.tzinfo is None:
            yield "start: a time needs its zone, as in datetime.now(UTC)"
    elif start not in {"new", "beginning"} and read_position(start) is None:
        yield "start: new, beginning, a position such as 1732190496419-0, or a datetime"
    elif partitions > 1 and read_position(start) is not None:
        yield f"start: the namespace has {partitions} partitions, and a position is of one stream; give a datetime"
