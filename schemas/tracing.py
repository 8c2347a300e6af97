"""W3C Trace Context of a request, as CloudEvents carries it on: which trace a callback is a part of. Pure.

https://www.w3.org/TR/trace-context/ (version 00) and CloudEvents' "Distributed Tracing" extension. What is not valid is
ignored, as if the sender had told none: a trace is a help, never a reason to refuse a callback.
"""

import re
from functools import lru_cache

from schemas.callback import Headers

#: Version 00, a trace id and a parent id that are not all zeros, flags: 55 characters.
TRACEPARENT_PATTERN = "00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
#: What vendors may write for themselves is bounded; a longer one need not be carried on.
TRACESTATE_LENGTH = 512

_TRACEPARENT = re.compile(TRACEPARENT_PATTERN.encode())
_KEY = rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
#: A value is printable ASCII without comma and equals sign, and does not end in a space.
_MEMBER = re.compile(rb"(%b)=[ -+\--<>-~]{0,255}[!-+\--<>-~]" % _KEY)
_MOST_MEMBERS = 32


def trace_of(headers: Headers) -> dict[str, str]:
    """The attributes `traceparent` and `tracestate` of a request: both, the first alone, or none.

    Args:
        headers: of the request, names in lower case.
    """
    parents, states = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    if len(parents) != 1 or _TRACEPARENT.fullmatch(parents[0]) is None:
        return {}
    attributes = {"traceparent": parents[0].decode()}
    if state := _state(b",".join(states)):
        attributes["tracestate"] = state
    return attributes


@lru_cache(maxsize=64)  # what traces every request has little to add to each
def _state(told: bytes) -> str:
    """What vendors have added, as one list however many headers it came in; empty if any of it is not valid."""
    members = [member for part in told.split(b",") if (member := part.strip(b" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in found if match}
    joined = b",".join(members)
    if len(keys) != len(members) or len(keys) > _MOST_MEMBERS or len(joined) > TRACESTATE_LENGTH:
        return ""
    return joined.decode()
