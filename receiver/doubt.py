"""Which captures are tried alone, since one of them may be what a pipeline died of; and when one is given up. Pure.

A pipeline that dies says nothing. What it died of may be any capture of the batch that it had read, or none of them: it
may have been killed. So the next one tries as many captures as a batch has one by one, and notes each before it begins.
If it dies as well, it is known at which; one that was begun alone so often and never came to an end is given up.
"""

from typing import Final

#: A capture at which so many pipelines died that tried it alone is tried no more.
DEATHS: Final = 3
#: How many captures are read at once, so that any of them may be what a pipeline died of.
BATCH: Final = 256


class Doubt:
    """How many captures after the cursor are still to be tried alone."""

    def __init__(self) -> None:
        self._left = 0

    def __bool__(self) -> bool:
        return self._left > 0

    @property
    def batch(self) -> int:
        """How many captures to read."""
        return 1 if self else BATCH

    def arise(self) -> None:
        """The pipeline before has died."""
        self._left = BATCH

    def lessen(self) -> None:
        """One that was tried alone is committed."""
        self._left -= 1

    def end(self) -> None:
        """No other that was there when the pipeline before died is left."""
        self._left = 0


def is_hopeless(tries: int) -> bool:
    """Whether a capture is given up that was begun to be tried alone so often, this time included."""
    return tries > DEATHS
