"""
The server's end of TLS on a connection, made for many that are short.

Twisted's is for both ends and any transport, and what a connection costs in it before the first byte of payload is more
than the cryptography. It declares the interfaces of the transport one by one, and zope.interface works out anew what
each of these declarations means. It begins the handshake before the client has said anything, which OpenSSL answers
with an error. And each part of the handshake waits for the next turn of the reactor until it is sent. Not so here; and
the tickets with which a client may resume its session in TLS 1.3 leave with what is written first, as nobody waits for
them::

    tls = TLSServerFactory(certificateFiles, clock=reactor)
    protocol = tls.protocol(tls, Handshake(decide, failed, clock=reactor))

The rest is Twisted's. As in L{gateway.net.directtls}, names are used that are not public, and
C{tests/integration/test_direct.py} holds Twisted to them.
"""

__all__ = ["TLSServerFactory"]

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory

from gateway.net.direct import directWriter
from gateway.net.directtls import tlsOutput, tlsReader
from gateway.net.interfaces import IStreamTransport


class _TLSServer(BufferingTLSTransport):
    """The server's end of one connection."""

    transport: IStreamTransport

    def makeConnection(self, transport: IStreamTransport) -> None:
        self._send = directWriter(transport)
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        ProtocolWrapper.makeConnection(self, transport)

    def _gotData(self, data: memoryview) -> None:
        assert self.wrappedProtocol is not None
        self.wrappedProtocol.dataReceived(bytes(data))

    def _flushSendBIO(self) -> None:
        if self._aborted:
            return  # it would be TLS's own goodbye, and what is broken off would look whole
        for piece in tlsOutput(self._tlsConnection):
            self._send((piece,))

    def _flushReceiveBIO(self) -> None:
        if not self._handshakeDone or self._aborted or self._appSendBuffer:
            super()._flushReceiveBIO()
            return
        if self._tlsConnection.get_protocol_version() < SSL.TLS1_3_VERSION:
            self._flushSendBIO()  # the end of the handshake
        tlsReader(self, self._gotData)(b"")


class TLSServerFactory(TLSMemoryBIOFactory):
    """
    @param creator: of OpenSSL's part in each connection.
    @param inner: makes what is inside of TLS, for who builds protocols by the factory.
    """

    protocol = _TLSServer

    def __init__(
        self, creator: IOpenSSLServerConnectionCreator, inner: IProtocolFactory | None = None, *, clock: IReactorTime
    ) -> None:
        super().__init__(creator, False, inner or Factory(), clock)
