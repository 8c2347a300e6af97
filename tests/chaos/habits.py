"""When each provider posts a callback again that was not answered 200, and when it gives up. Pure.

Seconds as documented where they are; where a provider says only that it tries again (Telnyx, Sendblue), a schedule of
the same kind. The sender divides all of them by `FASTER`; how long an answer is waited for is not shortened.
"""

from typing import NamedTuple

#: So much faster than the providers this sender is, so that hours of redeliveries fit into a minute.
FASTER = 20.0
TOO_MANY = 429


class Habit(NamedTuple):
    """One provider's ways."""

    #: Seconds to wait before each further attempt; after the last it gives up.
    pauses: tuple[float, ...]
    #: For how long an answer is waited for, in seconds.
    patience: float
    #: Whether it takes a 4xx for the last word.
    obeys_refusals: bool


HABITS: dict[str, Habit] = {
    # Three attempts at the URL and three at its failover URL, which is the same here; exponential, seconds unpublished.
    "telnyx": Habit((2, 4, 8, 16, 32), 2.0, obeys_refusals=False),
    # Up to three times, waits for 45 s; when is unpublished.
    "sendblue": Habit((30, 60, 120), 45.0, obeys_refusals=False),
    # After 5 s, then doubling up to 81,920 s; 4xx is final, but for 429.
    "sinch": Habit(tuple(5.0 * 2**n for n in range(15)), 10.0, obeys_refusals=True),
    # At once, then with growing gaps for up to seven days; any answer but 200 is tried again.
    "whatsapp": Habit((0, *(10.0 * 2**n for n in range(16))), 10.0, obeys_refusals=False),
}


def pause_before(provider: str, attempts: int, status: int) -> float | None:
    """Seconds until a callback that failed `attempts` times is posted again; None: never. `status` 0: no answer."""
    habit = HABITS[provider]
    refused = 400 <= status < 500 and status != TOO_MANY
    if attempts > len(habit.pauses) or (refused and habit.obeys_refusals):
        return None
    return habit.pauses[attempts - 1] / FASTER
