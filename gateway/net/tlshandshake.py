"""
TLS for those who dial, done when both sides have agreed, or when it is known why they have not.

Twisted's endpoint is done when TCP is, and whoever it was for is told nothing of why there is no TLS::

    tls = TLSClientEndpoint(reactor, tcpEndpoint, "gw.example", trust, [b"gateway/1"])
    protocol = await HandshakeEndpoint(reactor, tls, demanded=b"gateway/1").connect(factory)    # or DialFailed
"""

__all__ = ["HandshakeEndpoint"]

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed, NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure, Prepared
from gateway.net.handshake import Handshake
from gateway.net.tlsclient import explainTLS


@implementer(IStreamClientEndpoint)
class HandshakeEndpoint:
    """
    Connects by TLS, and gives the protocol its transport after the handshake.

    @param inner: a L{TLSClientEndpoint}. Whoever dials has a time limit.
    @param demanded: the application protocol without which there is no connection (ALPN); C{None}: any, or none.
    """

    def __init__(self, clock: IReactorTime, inner: IStreamClientEndpoint, demanded: bytes | None = None) -> None:
        self._clock = clock
        self._inner = inner
        self._demanded = demanded

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled; fails as the inner endpoint does, or with a L{DialFailed} that says why there is no
            TLS.
        """
        done: Deferred[IProtocol] = Deferred(lambda _: handshake.giveUp())

        def decide(tls: TLSMemoryBIOProtocol) -> IProtocol | None:
            if self._demanded is not None and tls.negotiatedProtocol != self._demanded:
                details = f"The server speaks TLS, but not our protocol (ALPN {self._demanded.decode()})."
                done.errback(DialFailed(DialFailure.OTHER, details))
                return None
            protocol = factory.buildProtocol(tls.getPeer())
            if protocol is None:
                done.errback(NoProtocol())
            return protocol

        handshake = Handshake(
            decide, lambda e: done.errback(_noTLS(e)), clock=self._clock, timeout=None, made=done.callback
        )
        return self._inner.connect(Prepared(handshake)).addCallback(lambda _: done)


def _noTLS(error: Exception) -> Exception:
    if (trouble := explainTLS(Failure(error))) is not None:
        return DialFailed(DialFailure.OTHER, trouble)
    if isinstance(error, ConnectionClosed):
        details = "The server ended the connection where TLS was to begin: its port may be another, or one without TLS."
        return DialFailed(DialFailure.UNREACHABLE, details)
    return error
