"""A probe: a request that proves nothing on purpose, to learn what of it arrives. Pure.

`partyline doctor --url` sends one through whatever stands in front of the receiver. A request with this header that
proves nothing is answered 401 and told how its body arrived, whatever `on_unauthentic` says; it is kept nowhere. That
tells its sender nothing but what it sent. One that proves authentic is a callback like any other.
"""

from hashlib import sha256

from schemas.callback import Arrival
from schemas.errors import CallbackError

PROBE = b"partyline-probe"

#: More is only counted, so that nobody has us digest much for nothing.
_MOST_DIGESTED = 64 * 1024


class Probed(CallbackError):
    """The request was a probe, and proves nothing. Its words say what arrived."""

    reason = "probe"
    status = 401


def is_probe(arrival: Arrival) -> bool:
    """Whether a request asks how it arrives."""
    return bool(arrival.header(PROBE))


def described(body: bytes) -> str:
    """What is told of a body."""
    size = f"{len(body)} bytes arrived"
    return size if len(body) > _MOST_DIGESTED else f"{size}, SHA-256 {sha256(body).hexdigest()}"
