"""
Tests for L{gateway.net.websocketendpoints} on real sockets, with TLS below and without: our client on our server.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.tls import CertificateFiles
from gateway.net.tlsclient import ClientTrust, clientConnectionCreator
from gateway.net.websocketendpoints import WebSocketClientEndpoint, WebSocketServerEndpoint
from gateway.wire.upgraderequest import parseWebSocketURL
from tests.certificates import makeAuthority
from tests.net.sides import pattern

reactor = cast(Any, _reactor)

HERE = "127.0.0.1"
SIZE = 5_000_000


class Echo(Protocol):
    """Sends back what it gets, as fast as it is taken."""

    transport: Any

    def connectionMade(self) -> None:
        """The peer's pace is ours."""
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


class Visitor(Protocol):
    """
    Sends much, and takes all of it back.

    @ivar over: fires with the reason of the end.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.over: Deferred[object] = Deferred()

    def connectionMade(self) -> None:
        """Send."""
        self.transport.write(pattern(SIZE))

    def dataReceived(self, data: bytes) -> None:
        """Take, and close when it is all."""
        self.received += data
        if len(self.received) == SIZE:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self.over.callback(reason.value)


@implementer(IStreamServerEndpoint)
class Secure:
    """Another endpoint's connections, with TLS."""

    def __init__(self, inner: IStreamServerEndpoint, certificate: CertificateFiles) -> None:
        self._inner = inner
        self._certificate = certificate

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen."""
        return self._inner.listen(TLSMemoryBIOFactory(self._certificate, False, protocolFactory, reactor))


class WebSocketTests(TestCase):
    """Bytes go there and back."""

    timeout = 60

    def setUp(self) -> None:
        """Make certificates."""
        authority = makeAuthority("Test Authority")
        self.certificate = CertificateFiles(*authority.issue(HERE).write(self.mktemp()), clock=reactor)
        self.trust = ClientTrust(authorities=authority.write(self.mktemp()))
        self.stranger = ClientTrust(authorities=makeAuthority("Stranger").write(self.mktemp()))

    @inlineCallbacks
    def serve(self, *, secure: bool = False) -> Any:
        """Listen. @return: the URL's part after the scheme."""
        inner: Any = TCP4ServerEndpoint(reactor, 0, interface=HERE)
        if secure:
            inner = Secure(inner, self.certificate)
        endpoint = WebSocketServerEndpoint(reactor, inner, path="/echo", subprotocols=("test.v1",))
        port = yield endpoint.listen(Factory.forProtocol(Echo))
        self.addCleanup(port.stopListening)
        return f"{HERE}:{port.getHost().port}/echo"

    def dial(self, url: str, trust: ClientTrust | None = None) -> Deferred[IProtocol]:
        """Open a WebSocket."""
        isSecure, host, port, request = parseWebSocketURL(url)
        carrier: IStreamClientEndpoint = TCP4ClientEndpoint(reactor, host, port)
        if isSecure:
            carrier = wrapClientTLS(clientConnectionCreator(host, trust or self.trust), carrier)
        request = replace(request, subprotocols=("test.v1",))
        return WebSocketClientEndpoint(reactor, carrier, request).connect(Factory.forProtocol(Visitor))

    @inlineCallbacks
    def test_thereAndBack(self) -> Any:
        """Much more than fits into any buffer goes there and back, and the end is clean."""
        for secure in (False, True):
            where = yield self.serve(secure=secure)
            visitor = yield self.dial(f"{'wss' if secure else 'ws'}://{where}")
            reason = yield visitor.over
            self.assertEqual(visitor.received, pattern(SIZE))
            self.assertIsInstance(reason, ConnectionDone)

    @inlineCallbacks
    def test_stranger(self) -> Any:
        """A server whose certificate is of an unknown authority is told of as that."""
        where = yield self.serve(secure=True)
        failed = yield self.assertFailure(self.dial(f"wss://{where}", self.stranger), DialFailed)
        self.assertEqual(failed.kind, DialFailure.OTHER)
        self.assertIn("certificate", failed.details)

    @inlineCallbacks
    def test_noTLS(self) -> Any:
        """A client with C{wss} where there is no TLS, and one with C{ws} where there is, are told so or cut off, at once."""
        plain = yield self.serve()
        secure = yield self.serve(secure=True)
        for url in (f"wss://{plain}", f"ws://{secure}"):
            failed = yield self.assertFailure(self.dial(url), DialFailed)
            self.assertIn(failed.kind, (DialFailure.OTHER, DialFailure.UNREACHABLE))
