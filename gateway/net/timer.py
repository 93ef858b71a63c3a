"""
One call that is due later, unless something happens before: a deadline, a pause, the next look.

What C{callLater} returns may be cancelled once, and not when it was called. A L{Timer} keeps track of that::

    self._deadline = Timer(clock)
    self._deadline.start(10.0, self._late)
    self._deadline.stop()                       # whether it runs or not

Twisted's C{TimeoutMixin} is for the one timeout of a protocol. What waits here is often no protocol, or waits for more
than one thing. Where there is one for every stream or request, and it is seldom needed, a bare C{IDelayedCall} is
cheaper, and L{Sweep<gateway.net.sweep.Sweep>} is where it is always needed.
"""

__all__ = ["Timer"]

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timer:
    """
    It is told what to call when it starts, not before: it would keep whoever has it alive, and be kept by it.
    """

    __slots__ = ("_call", "_clock")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._call: IDelayedCall | None = None

    @property
    def isRunning(self) -> bool:
        """Whether a call is due. It is not any more when it is being made."""
        return self._call is not None

    def start(self, seconds: float, due: Callable[..., object], *args: object) -> None:
        """
        Call this in so many seconds, from now on, in place of what was due before.

        @param seconds: 0 or more.
        """
        self.stop()
        self._call = self._clock.callLater(seconds, self._isDue, due, *args)

    def _isDue(self, due: Callable[..., object], *args: object) -> None:
        self._call = None
        due(*args)

    def stop(self) -> None:
        """Call nothing."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
