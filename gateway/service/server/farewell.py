"""
The last words to a connection of which nothing becomes::

    return Farewell(alert(Alert.UNRECOGNIZED_NAME), reactor)      # a protocol, as Peek's decide returns one

What the peer still sends is read and dropped for a moment: a connection that is closed over unread bytes is reset, and
the peer might never see the words.
"""

__all__ = ["LINGER", "Farewell"]

from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.interfaces import IStreamTransport
from gateway.net.relay import canHalfClose
from gateway.net.timer import Timer

LINGER = 2.0
"""Seconds for the peer to hang up by itself."""


@implementer(IHalfCloseableProtocol)
class Farewell(Protocol):
    """
    @param words: what to say; nothing, to just hang up.
    """

    transport: IStreamTransport

    def __init__(self, words: bytes, clock: IReactorTime) -> None:
        self._words = words
        self._deadline = Timer(clock)

    def connectionMade(self) -> None:
        self.transport.write(self._words)
        if canHalfClose(self.transport):
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()
        self._deadline.start(LINGER, self.transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        """It is too late for that."""

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.stop()
