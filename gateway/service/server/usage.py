"""
What a route takes at present, of how much it may take.

Visitors are counted where they come to a route, and their bytes where they pass::

    usage = Usage(RouteLimits(connections=100), now)
    if usage.enter(now): ...; usage.leave()
"""

__all__ = ["Meter", "Rate", "RouteLimits", "Usage"]

from collections.abc import Callable
from dataclasses import dataclass

from gateway.domain.limits import TokenBucket

Meter = Callable[[bool, int], float]
"""Told whether a piece goes down to the visitor, and its size, it returns the seconds to wait after it."""


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """
    What each route may take, and each visitor's address on all of them. C{None} is no limit. Of HTTP it is requests
    that are counted, as a connection may carry some to one route and some to another.

    @ivar connections: visitors at once.
    @ivar newPerSecond: new visitors per second, and at once (but at least one).
    @ivar bytesPerSecond: payload in each direction, all visitors together.
    @ivar bytesPerSecondPerAddress: the same, of all visits from one address.
    """

    connections: int | None = None
    newPerSecond: float | None = None
    bytesPerSecond: int | None = None
    bytesPerSecondPerAddress: int | None = None


class Rate:
    """Bytes per second, of several visits together: up, and down. A class, as a tuple cannot be forgotten by itself."""

    def __init__(self, rate: int, now: float) -> None:
        self.buckets = TokenBucket(rate, rate, now), TokenBucket(rate, rate, now)

    def isFull(self, now: float) -> bool:
        """Whether nothing remains of what was taken."""
        return all(each.isFull(now) for each in self.buckets)


class Usage:
    """
    What one route takes at present.

    @ivar connections: visitors, or requests, at present.
    """

    def __init__(self, limits: RouteLimits, now: float) -> None:
        self.connections = 0
        self.limit(limits, now)

    def limit(self, limits: RouteLimits, now: float) -> None:
        """Use other limits from now on."""
        new, rate = limits.newPerSecond, limits.bytesPerSecond
        self._most = limits.connections
        self._new = None if new is None else TokenBucket(new, max(1.0, new), now)
        self.bytes = None if rate is None else (TokenBucket(rate, rate, now), TokenBucket(rate, rate, now))

    def enter(self, now: float) -> bool:
        """Whether there is room for one more, who is counted then."""
        isFull = self._most is not None and self.connections >= self._most
        if isFull or (self._new is not None and not self._new.tryTake(1.0, now)):
            return False
        self.connections += 1
        return True

    def leave(self) -> None:
        """One who was counted is gone."""
        self.connections -= 1
