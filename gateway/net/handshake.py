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

from twisted.internet.interfaces import IHandshakeListener, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.peek import PeekFailed, become
from gateway.net.timer import Timer


@implementer(IHandshakeListener)
class Handshake(Protocol):
    """
    The protocol inside of a TLS connection that begins.

    @param decide: takes the TLS transport after the handshake, and returns the protocol to become; C{None} cuts the
        connection off.
    @param failed: told why there was no handshake: a L{PeekFailed} at the limit, or what the connection was lost with,
        be it that the peer just left.
    @param timeout: seconds for it; C{None}: whoever waits has a limit, and calls L{giveUp}.
    @param made: given what was decided on, when that has its transport.
    """

    transport: TLSMemoryBIOProtocol

    def __init__(
        self,
        decide: Callable[[TLSMemoryBIOProtocol], IProtocol | None],
        failed: Callable[[Exception], None],
        *,
        clock: IReactorTime,
        timeout: float | None = 10.0,
        made: Callable[[IProtocol], object] = lambda protocol: None,
    ) -> None:
        self._decide = decide
        self._failed = failed
        self._timeout = timeout
        self._made = made
        self._waiting = True
        self._chosen: IProtocol | None = None
        self._deadline = Timer(clock)

    def connectionMade(self) -> None:
        if self._timeout is not None:
            self._deadline.start(self._timeout, self._late)

    def _stop(self) -> None:
        self._waiting = False
        self._deadline.stop()

    def _late(self) -> None:
        self.giveUp()
        self._failed(PeekFailed(f"no TLS handshake within {self._timeout:g} seconds"))

    def giveUp(self) -> None:
        """Cut the connection off, and say nothing of it."""
        self._stop()
        self.transport.abortConnection()

    def handshakeCompleted(self) -> None:
        """Both sides agree."""
        if not self._waiting:
            return  # too late
        self._stop()
        self._chosen = chosen = self._decide(self.transport)
        if chosen is None:
            self.transport.abortConnection()
            return
        become(self, chosen)
        chosen.makeConnection(self.transport)
        self._made(chosen)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        waiting = self._waiting
        self._stop()
        if self._chosen is not None:
            self._chosen.connectionLost(reason)
        elif waiting and isinstance(reason.value, Exception):
            self._failed(reason.value)
