"""
How long to wait before trying again: twice as long each time, up to a limit, with chance in it::

    backoff = Backoff()
    reactor.callLater(backoff.next(now), connect)       # 0.25 to 0.5 seconds, then 0.5 to 1, then 1 to 2
    backoff.reset()                                     # it worked: the next attempt is at once

Chance keeps those who lost the same peer together from coming back together.
"""

__all__ = ["LONGEST_PAUSE", "Backoff"]

from collections.abc import Callable
from random import random

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds."""

SHORT_OUTAGE = 15.0
SHORT_PAUSE = 2.0
"""
Seconds for which no pause is longer than that: a gateway that is started again is back by then, and agents should not
let its visitors wait much longer than it does.
"""


class Backoff:
    """
    The pauses between attempts.

    @param random: from 0 up to 1.
    """

    def __init__(self, random: Callable[[], float] = random) -> None:
        self._random = random
        self._pause = FIRST_PAUSE
        self._since: float | None = None

    def next(self, now: float) -> float:
        """
        @param now: seconds.
        @return: seconds until the next attempt: half to all of a pause that is twice the one before.
        """
        if self._since is None:
            self._since = now
        limit = SHORT_PAUSE if now - self._since < SHORT_OUTAGE else LONGEST_PAUSE
        pause = self._pause
        self._pause = min(max(FIRST_PAUSE, 2 * pause), limit)
        return pause * (1 + self._random()) / 2

    def longest(self) -> float:
        """Seconds until an attempt that most likely fails as well: one to two of the longest pauses."""
        return LONGEST_PAUSE * (1 + self._random())

    def reset(self) -> None:
        """It worked for long enough: the next attempt is at once."""
        self._pause = 0.0
        self._since = None
