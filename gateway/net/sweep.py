"""
What many connections want of the clock, asked of it once.

Every connection has a limit for whatever it waits for, and waits for something else with every request. A delayed call
for each would be made and cancelled several times for a request, and cost more than to read it. So all of them are
looked at once a second, and each counts for itself::

    sweep = Sweep(reactor)
    sweep.watch(connection)                 # connection.check(now), once a second
    sweep.endOfTurn(connection.flush)       # once, before the reactor waits again

A limit is kept a second or two late and never early, which is exact enough for those of seconds.
"""

__all__ = ["ISwept", "Sweep"]

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Interface

from gateway.net.timer import Timer


class ISwept(Interface):
    """What is looked at from time to time."""

    def check(now: float) -> None:
        """
        See whether something took too long.

        @param now: seconds, as of the clock.
        """


class Sweep:
    """
    It has a call outstanding only while there is something to look at.

    @param interval: seconds from one look to the next.
    @ivar clock: whose time it is.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, interval: float = 1.0) -> None:
        self.clock = clock
        self._interval = interval
        self._watched: dict[ISwept, None] = {}
        self._timer = Timer(clock)
        self._due: list[Callable[[], object]] = []

    def watch(self, thing: ISwept) -> None:
        """Look at this from now on."""
        self._watched[thing] = None
        if not self._timer.isRunning:
            self._timer.start(self._interval, self._look)

    def forget(self, thing: ISwept) -> None:
        """Do not look at it any more, not even in the middle of a look. It may be unknown."""
        self._watched.pop(thing, None)

    def _look(self) -> None:
        if not self._watched:
            return
        self._timer.start(self._interval, self._look)
        now = self.clock.seconds()
        for thing in list(self._watched):
            if thing in self._watched:
                try:
                    thing.check(now)
                except Exception:  # of one of them; the others are looked at
                    self._log.failure("a limit could not be kept", event="gateway.defect")

    def stop(self) -> None:
        """Look at nothing any more."""
        self._watched.clear()
        self._timer.stop()

    def endOfTurn(self, call: Callable[[], object]) -> None:
        """
        Call this when all that is there to be read now has been read.
        """
        if not self._due:
            self.clock.callLater(0, self._turnEnded)
        self._due.append(call)

    def _turnEnded(self) -> None:
        due, self._due = self._due, []
        for call in due:
            try:
                call()
            except Exception:  # of one of them; the others are called
                self._log.failure("what was held could not be sent", event="gateway.defect")
