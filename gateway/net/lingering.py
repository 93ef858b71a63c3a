"""
Closing a visitor's connection so that what was said last arrives.

A connection that is closed over bytes which nobody has read is reset, and its peer may lose what it had not read yet
(RFC 9112, section 9.6). So we end our sending, and drop what still comes until the peer ends its own, for a moment::

    transport.unregisterProducer()
    Lingering(settings, sweep, ended).makeConnection(transport)     # in place of the protocol that was there

A peer that does not take what waits for it is not waited for without end: see L{Taking}.
"""

__all__ = ["Lingering", "Parting", "Taking"]

from collections.abc import Callable

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct import Buffer, closeDirectly, endDirectly
from gateway.net.httpsettings import HttpSettings
from gateway.net.interfaces import IStreamTransport
from gateway.net.progress import Progress
from gateway.net.relay import canHalfClose
from gateway.net.sweep import ISwept, Sweep


class Taking:
    """
    Whether a visitor goes on taking what waits for them.

    @param now: since when something waits.
    """

    def __init__(self, transport: IStreamTransport, settings: HttpSettings, now: float) -> None:
        self._progress = Progress(transport)
        self._progress.isMade()
        self._settings = settings
        self._began = self._last = now

    def isOver(self, now: float) -> bool:
        """Whether it is time to give up. To be asked from time to time."""
        if self._progress.isMade():
            self._last = now
        settings = self._settings
        return now - self._last > settings.takeTimeout or now - self._began > settings.takeLimit


class Parting:
    """
    Gives a visitor to whom all was said the time to take it, and to hang up then. To break off before would drop what
    the kernel has, which for somebody on a slow line may be a minute's worth.
    """

    def __init__(self, transport: IStreamTransport, settings: HttpSettings) -> None:
        self._transport = transport
        self._settings = settings
        self._progress = Progress(transport)
        self._taking: Taking | None = None
        self._since: float | None = None  # when all was found to have been taken

    def check(self, now: float, *, isSent: bool) -> bool:
        """
        End the connection if it is time. To be called from time to time.

        @param isSent: whether the transport has sent all. It is asked for where the kernel does not say more.
        @return: whether it was time.
        """
        waiting = self._progress.waiting()
        if isSent if waiting is None else waiting <= 1:
            if self._since is None:
                self._since = now
            if isOver := now - self._since > self._settings.lingerTimeout:
                closeDirectly(self._transport)
            return isOver
        if self._taking is None:
            self._taking = Taking(self._transport, self._settings, now)
        if isOver := self._taking.isOver(now):
            self._transport.abortConnection()
        return isOver


@implementer(IHalfCloseableProtocol, ISwept)
class Lingering(Protocol):
    """
    @param ended: called when the connection is gone.
    """

    transport: IStreamTransport

    def __init__(self, settings: HttpSettings, sweep: Sweep, ended: Callable[[], object]) -> None:
        self._settings = settings
        self._sweep = sweep
        self._ended = ended
        self._isSent = False

    def connectionMade(self) -> None:
        self._parting = Parting(self.transport, self._settings)
        self._sweep.watch(self)
        if canHalfClose(self.transport):
            endDirectly(self.transport)
        else:
            self.transport.loseConnection()

    def dataReceived(self, data: Buffer) -> None:
        """It is too late for that."""

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self._isSent = True

    def check(self, now: float) -> None:
        if self._parting.check(now, isSent=self._isSent):
            self._sweep.forget(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._sweep.forget(self)
        self._ended()
