"""
Tests for L{gateway.net.tlsserver}, besides those for L{gateway.net.tls}, which use it, too.
"""

import contextlib
from typing import Any

from OpenSSL import SSL
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport

from gateway.net.tlsserver import TLSServerFactory
from tests.net.test_tls import Files, Side


class _Client:
    """Shakes hands with a server, message by message."""

    def __init__(self, factory: TLSServerFactory, version: int, before: "_Client | None" = None) -> None:
        if before is None:
            self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            self._context.set_max_proto_version(version)
        else:
            self._context = before._context
        self.ssl = SSL.Connection(self._context, None)
        self.ssl.set_connect_state()
        if before is not None and (session := before.ssl.get_session()) is not None:
            self.ssl.set_session(session)
        self.transport = StringTransport()
        self.server: Any = factory.buildProtocol(None)
        self.server.makeConnection(self.transport)

    def say(self) -> bytes:
        """
        Send what is due.

        @return: what the server answers to it at once.
        """
        with contextlib.suppress(SSL.WantReadError):
            self.ssl.do_handshake()
        self.transport.clear()
        self.server.dataReceived(self.ssl.bio_read(65536))
        answer: bytes = self.transport.value()
        if answer:
            self.ssl.bio_write(answer)
        return answer


class TLSServerTests(Files):
    """A server's end of TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.factory = TLSServerFactory(self.files(), Factory.forProtocol(Side), clock=self.clock)

    def test_saysNothingFirst(self) -> None:
        """It is for the client to begin."""
        self.assertEqual(_Client(self.factory, SSL.TLS1_3_VERSION).transport.value(), b"")

    def test_atOnce(self) -> None:
        """What a handshake needs is sent before the reactor's turn is over, in every version."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            client = _Client(self.factory, version)
            self.assertNotEqual(client.say(), b"")
            last = client.say()
            self.assertTrue(client.server.wrappedProtocol.secured)
            self.assertEqual(last != b"", version == SSL.TLS1_2_VERSION)
            client.ssl.do_handshake()

    def test_abort(self) -> None:
        """What is broken off says nothing, least of all that this is the end of it."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            client = _Client(self.factory, version)
            client.say()
            client.say()
            client.transport.clear()
            client.server.abortConnection()
            self.assertEqual(client.transport.value(), b"")

    def test_tickets(self) -> None:
        """The tickets of TLS 1.3 leave with the first bytes of payload, and are good ones."""
        client = _Client(self.factory, SSL.TLS1_3_VERSION)
        withCertificate = client.say()
        self.assertEqual(client.say(), b"")
        client.server.write(b"payload")
        self.clock.advance(0)
        client.ssl.bio_write(client.transport.value())
        self.assertEqual(client.ssl.recv(100), b"payload")
        again = _Client(self.factory, SSL.TLS1_3_VERSION, before=client)
        self.assertLess(len(again.say()), len(withCertificate) - len(self.credential.certificatePEM) // 2)

    def test_payloadWithFinished(self) -> None:
        """Payload that comes together with the end of the handshake is handed over."""
        client = _Client(self.factory, SSL.TLS1_3_VERSION)
        client.say()
        client.ssl.do_handshake()
        client.ssl.send(b"payload")
        client.server.dataReceived(client.ssl.bio_read(65536))
        self.assertEqual(client.server.wrappedProtocol.received, b"payload")
