"""
Twisted's epoll reactor without its log prefix.

The reactor calls everything that is ready inside a context of its own, made anew each time, so that lines which
C{twisted.python.log} writes name the connection that they are about. The gateway's events name it themselves, and a
fifth of the time that a few bytes take through a tunnel went into that context::

    if sys.platform == "linux":
        install()                   # before anything imports twisted.internet.reactor

All else is Twisted's.
"""

__all__ = ["install"]

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor


class _EPollReactor(EPollReactor):
    def doPoll(self, timeout: float | None) -> None:
        try:
            # As many events as there are connections: who has many gets them in few calls.
            ready = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables))
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
