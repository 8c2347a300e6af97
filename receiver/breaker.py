"""Whether a write is tried at Redis or goes straight to the spool. Pure: the clock is an argument.

::

    closed ──miss──► open ──(pause over)──► one attempt: answered ──► closed
       ▲              ▲                                  └──miss──► open, for longer
       └──answered────┴── told by whoever drains the spool, too

A miss costs a callback the whole `redis.write_deadline`; so after one miss nobody else pays it. While the spool holds
captures nothing is tried at all, since nothing may overtake them; whoever drains it asks Redis meanwhile.
"""

_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 2.0


class Breaker:
    """What one process knows about whether Redis takes writes. Times: seconds of any one clock that never goes back."""

    __slots__ = ("_pause_seconds", "_retry_at")

    def __init__(self) -> None:
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        #: None: closed.
        self._retry_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether the last that was heard of Redis was a miss."""
        return self._retry_at is not None

    def allows(self, now: float) -> bool:
        """Whether a write may be tried at Redis. While it is open: one at the end of each pause."""
        if self._retry_at is None:
            return True
        if now < self._retry_at:
            return False
        self._retry_at = now + self._pause_seconds  # the next one waits for what becomes of this one
        return True

    def missed(self, now: float) -> None:
        """Redis did not take a write in time."""
        self._pause_seconds = (
            _FIRST_PAUSE_SECONDS if self._retry_at is None else min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        )
        self._retry_at = now + self._pause_seconds

    def answered(self) -> None:
        """Redis took a write."""
        self._retry_at = None
