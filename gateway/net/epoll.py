"""
Twisted's epoll reactor without its log prefix, and one that does not fall asleep between a question and its answer.

The reactor calls everything that is ready inside a context of its own, made anew each time, so that lines which
C{twisted.python.log} writes name the connection that they are about. The gateway's events name it themselves, and a
fifth of the time that a few bytes take through a tunnel went into that context.

And it waits in the kernel as soon as there is nothing to do. What answers what was just sent comes within microseconds,
but to be put to sleep and woken costs more than that, in a virtual machine most of all. So it looks again for a moment
before it waits: an echo took a quarter of the time then, and half of the CPU seconds. Where nothing comes in that
moment, it looks more and more seldom, down to once in 64 times, so that a gateway with little to do does little::

    if sys.platform == "linux":
        install()                   # before anything imports twisted.internet.reactor

All else is Twisted's.
"""

__all__ = ["install"]

from select import epoll
from time import monotonic, perf_counter

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

SPIN = 50e-6
"""Seconds for which to look again before waiting."""

_SELDOM = 6
"""Of so many looks in vain, the last is made in one of two to the power of this."""


class _Patience:
    """
    Looks again for a moment, as often as that was worth it lately.
    """

    def __init__(self) -> None:
        self._inVain = 0
        self._skip = 0

    def look(self, poller: epoll, count: int) -> list[tuple[int, int]]:
        """
        @param count: how many descriptors to return at most.
        @return: those that are ready; none, if none is within the moment, or it is not worth looking.
        """
        if self._skip:
            self._skip -= 1
            return []
        end = perf_counter() + SPIN
        while perf_counter() < end:
            if ready := poller.poll(0, count):
                self._inVain = 0
                return ready
        self._inVain = min(self._inVain + 1, _SELDOM)
        self._skip = 2**self._inVain - 1
        return []


class _EPollReactor(EPollReactor):
    # Twisted's is the time of day: when a clock is set back by hours, as machines without a battery do after they have
    # started, whatever is due comes hours late, e.g. an agent that waits for its next attempt.
    seconds = staticmethod(monotonic)

    def __init__(self) -> None:
        self._patience = _Patience()
        super().__init__()

    def doPoll(self, timeout: float | None) -> None:
        # As many events as there are connections: who has many gets them in few calls.
        count = len(self._selectables)
        try:
            ready = self._poller.poll(0, count)
            if not ready and (timeout is None or timeout > SPIN):
                ready = self._patience.look(self._poller, count)
            if not ready and timeout != 0:
                ready = self._poller.poll(-1 if timeout is None else timeout, count)
        except InterruptedError:
            return
        for descriptor, event in ready:
            # One that went before it may have closed it.
            if (selectable := self._selectables.get(descriptor)) is not None:
                self._doReadOrWrite(selectable, descriptor, event)

    doIteration = doPoll


def install() -> None:
    """
    Make it this process's reactor.

    @raise twisted.internet.error.ReactorAlreadyInstalledError: there is one.
    """
    installReactor(_EPollReactor())
