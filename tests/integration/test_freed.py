"""
What a visitor's connection leaves behind, on real TCP, with TLS too: nothing that waits for the garbage collector, which
would have more to do than the connection itself.
"""

import gc
import os
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any
from weakref import ref

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from gateway.net.dial import AddressesEndpoint
from gateway.net.exchange import reply
from gateway.net.http1server import HttpServerConnection
from gateway.net.httpinterfaces import IVisitorOwner, IVisitorRequest
from gateway.net.httpsettings import HttpSettings
from gateway.net.peek import Peek
from gateway.net.sweep import Sweep
from gateway.net.tls import CertificateFiles
from gateway.net.tlsclient import ClientTrust, clientConnectionCreator
from gateway.net.tlsserver import TLSServerFactory
from gateway.wire.http1 import RequestHead, Response
from tests.certificates import makeAuthority

HERE = "127.0.0.1"


@implementer(IVisitorOwner)
class Owner:
    """Who decides what a connection is, and answers requests on it: it and each part of it know one another."""

    def __init__(self, sweep: Sweep) -> None:
        self.gone: Deferred[None] = Deferred()
        self.connection = HttpServerConnection(self, settings=HttpSettings(), sweep=sweep)
        self.peek = Peek(self.decide, self.failed, clock=reactor, lost=partial(self.gone.callback, None))

    def decide(self, data: bytes) -> HttpServerConnection:
        return self.connection

    def failed(self, why: Exception) -> None:
        raise AssertionError(why)

    def gotRequest(self, request: IVisitorRequest) -> None:
        reply(request, Response(200, b"hello"))

    def refused(self, status: int, details: str, head: RequestHead | None) -> Response:
        raise AssertionError(details)

    def cancelled(self, request: IVisitorRequest) -> None:
        raise AssertionError("there is no such thing in HTTP/1")

    def connectionEnded(self) -> None:
        """The end of the connection, before that of what decided."""


class Asker(Protocol):
    """Asks for something, and reads until the end."""

    def __init__(self) -> None:
        self.received = b""
        self.over: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over.callback(None)


class FreedTests(TestCase):
    """Connections that are over."""

    timeout = 30

    @inlineCallbacks
    def visit(
        self, inside: Callable[[Any], Any], around: Callable[[IStreamClientEndpoint], IStreamClientEndpoint]
    ) -> Any:
        """Make a request, and look what is left when its connection has ended."""
        sweep = Sweep(reactor)
        self.addCleanup(sweep.stop)
        owners: list[Owner] = []

        def build() -> Peek:
            owners.append(Owner(sweep))
            return owners[0].peek

        port = yield TCP4ServerEndpoint(reactor, 0, interface=HERE).listen(inside(Factory.forProtocol(build)))
        self.addCleanup(port.stopListening)
        asker = Asker()
        endpoint = around(AddressesEndpoint(reactor, [ip_address(HERE)], port.getHost().port))  # type: ignore[arg-type]
        gc.disable()
        self.addCleanup(gc.enable)
        yield endpoint.connect(Factory.forProtocol(lambda: asker))
        yield asker.over
        self.assertTrue(asker.received.endswith(b"hello"))
        owner = owners.pop()
        freed = [ref(each) for each in (owner, owner.connection, owner.peek, owner.connection.transport)]
        yield owner.gone
        del owner
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        yield turn
        self.assertEqual([each() for each in freed], [None] * 4)

    def test_plain(self) -> Any:
        """Of a connection without TLS nothing is left, though its parts knew one another."""
        return self.visit(lambda factory: factory, lambda endpoint: endpoint)

    def test_tls(self) -> Any:
        """Nor of one with TLS."""
        authority, folder = makeAuthority("Test"), self.mktemp()
        files = CertificateFiles(*authority.issue(HERE).write(folder), clock=reactor)
        trust = ClientTrust(authorities=authority.write(os.path.join(folder, "ca.pem")))
        return self.visit(
            lambda factory: TLSServerFactory(files, factory, clock=reactor),
            lambda endpoint: wrapClientTLS(clientConnectionCreator(HERE, trust), endpoint),
        )
