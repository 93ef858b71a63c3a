"""
The memory that stalled readers may cost, all connections together.

A relay stops reading from a side whose other side does not read, so what one stalled reader costs is bounded; a
thousand of them cost a thousand times as much, so the sum is bounded too::

    budget = StallBudget(512 * 1024 * 1024)
    budget.stalled(half)    # may cost the half that has been stalled longest its connection
    budget.flows(half)
"""

__all__ = ["IStalls", "StallBudget"]

from zope.interface import Interface


class IStalls(Interface):
    """What can be held up by a reader that does not read."""

    def outOfMemory() -> None:
        """
        The budget is used up, and nobody has been stalled longer: end the connection. C{flows} must have been called
        when this returns.
        """


class StallBudget:
    """
    The bytes that all relays together may hold for readers that do not read.

    A transport that pauses its producer holds its 64 KiB of buffer and the read under way, which is at most 240 KiB:
    that is what a stalled half is counted as. When the sum passes the limit, the half that
    has been stalled longest loses its connection.

    @param limit: bytes.
    """

    PER_HALF = 304 * 1024

    def __init__(self, limit: int = 512 * 1024 * 1024) -> None:
        self.limit = limit
        self._stalled: dict[IStalls, None] = {}

    @property
    def used(self) -> int:
        """Bytes counted at present."""
        return len(self._stalled) * self.PER_HALF

    def stalled(self, half: IStalls) -> None:
        """A half's output is held up."""
        self._stalled[half] = None
        if self.used > self.limit:
            next(iter(self._stalled)).outOfMemory()

    def flows(self, half: IStalls) -> None:
        """A half's output flows again, or never will."""
        self._stalled.pop(half, None)
