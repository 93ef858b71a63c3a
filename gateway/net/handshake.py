"""
Wait for a TLS handshake, then become the protocol that it calls for.

What was agreed on (ALPN, a client certificate) is known only when the handshake is over, and Twisted sets no limit to
how long that takes::

    def decide(transport: ITransport) -> IProtocol | None:
        return carrier if transport.negotiatedProtocol == b"gateway/1" else site

    tls.protocol(tls, Handshake(decide, failed, clock=reactor, timeout=10.0))
"""

__all__ = ["Handshake"]

from collections.abc import Callable

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.peek import PeekFailed, become


@implementer(IHandshakeListener)
class Handshake(Protocol):
    """
    The protocol inside of a TLS connection that begins.

    @param decide: takes the TLS transport after the handshake, and returns the protocol to become; C{None} cuts the
        connection off.
    @param failed: told why there was no handshake; not of a peer that just left.
    @param timeout: seconds for it.
    """

    transport: TLSMemoryBIOProtocol

    def __init__(
        self,
        decide: Callable[[TLSMemoryBIOProtocol], IProtocol | None],
        failed: Callable[[Exception], None],
        *,
        clock: IReactorTime,
        timeout: float = 10.0,
    ) -> None:
        self._decide = decide
        self._failed = failed
        self._clock = clock
        self._timeout = timeout
        self._chosen: IProtocol | None = None
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._deadline = self._clock.callLater(self._timeout, self._late)

    def _stopClock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        self._failed(PeekFailed(f"no TLS handshake within {self._timeout:g} seconds"))
        self.transport.abortConnection()

    def handshakeCompleted(self) -> None:
        """Both sides agree."""
        if self._deadline is None:
            return  # too late
        self._stopClock()
        self._chosen = chosen = self._decide(self.transport)
        if chosen is None:
            self.transport.abortConnection()
            return
        become(self, chosen)
        chosen.makeConnection(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        waited = self._deadline is not None
        self._stopClock()
        if self._chosen is not None:
            self._chosen.connectionLost(reason)
        elif waited and isinstance(reason.value, Exception) and not reason.check(ConnectionDone, ConnectionLost):
            self._failed(reason.value)
