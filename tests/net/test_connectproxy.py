"""
Tests for connections through an HTTP proxy.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError, NoProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.connectproxy import ConnectProxyEndpoint, ProxyCredentials, ProxyRefused
from gateway.net.dial import DialFailed, DialFailure
from gateway.testing import FlowEndpoint
from tests.net.muxpair import Applications
from tests.net.sides import Peer

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ProxyTests(SynchronousTestCase):
    """
    L{ConnectProxyEndpoint} is an endpoint like any other.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.inner = FlowEndpoint()
        self.proxy = Peer()
        self.peer = Peer()

    def connect(
        self, host: str = "gw.example", credentials: ProxyCredentials | None = None, chunkSize: int = 0
    ) -> None:
        """Connect as far as to the proxy."""
        endpoint = ConnectProxyEndpoint(self.clock, self.inner, host, 443, credentials=credentials, timeout=5.0)
        self.done = endpoint.connect(Factory.forProtocol(lambda: self.peer))
        self.link = self.inner.attempts[0].accept(self.proxy)
        if chunkSize:
            self.link.bToA.chunkSize = chunkSize
        self.link.pump()

    def answer(self, data: bytes) -> None:
        """The proxy says something."""
        self.proxy.transport.write(data)
        self.link.pump()

    def failure(self) -> DialFailed:
        """What the attempt failed with, after which there is nothing left of it."""
        error = self.failureResultOf(self.done, DialFailed).value
        self.link.pump()
        self.assertTrue(self.link.a.disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        assert isinstance(error, DialFailed)
        return error

    def test_request(self) -> None:
        """The proxy is asked for the host and port, with nothing that it need not know."""
        self.connect()
        self.assertEqual(self.proxy.received, b"CONNECT gw.example:443 HTTP/1.1\r\nHost: gw.example:443\r\n\r\n")
        self.assertNoResult(self.done)

    def test_addresses(self) -> None:
        """An IPv6 address stands in brackets."""
        self.connect("2001:db8::1")
        self.assertTrue(self.proxy.received.startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n"))

    def test_credentials(self) -> None:
        """A user name and a password are sent (RFC 7617), and shown to nobody."""
        credentials = ProxyCredentials("Aladdin", "open sesame")
        self.connect(credentials=credentials)
        self.assertIn(b"\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n", self.proxy.received)
        self.assertNotIn("sesame", repr(credentials))
        self.assertRaises(ValueError, ProxyCredentials, "a:b", "c")

    def test_connected(self) -> None:
        """After the proxy's answer the protocol has the connection, with what came right behind the answer."""
        for chunkSize in (0, 1):
            self.setUp()
            self.connect(chunkSize=chunkSize)
            self.answer(OK + b"hello")
            self.assertIs(self.successResultOf(self.done), self.peer)
            self.assertEqual(self.peer.received, b"hello")
            self.answer(b" again")
            self.assertEqual(self.peer.received, b"hello again")
            self.peer.transport.write(b"world")
            self.link.pump()
            self.assertTrue(self.proxy.received.endswith(b"\r\n\r\nworld"))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_end(self) -> None:
        """The protocol is told of the connection's end."""
        self.connect()
        self.answer(OK)
        self.link.b.abortConnection()
        self.link.pump()
        self.assertIsNotNone(self.peer.reason)

    def test_refused(self) -> None:
        """A proxy that says no is quoted; what it wants to know is told apart from what it does not like."""
        for answer, status, kind, details in (
            (
                b"407 Proxy Authentication Required",
                407,
                DialFailure.DENIED,
                "The proxy refused to connect: 407 Proxy Authentication Required. It wants a user name and a password.",
            ),
            (b"403 Forbidden", 403, DialFailure.DENIED, "The proxy refused to connect: 403 Forbidden."),
            (b"502 Bad Gateway", 502, DialFailure.REFUSED, "The proxy refused to connect: 502 Bad Gateway."),
            (b"302", 302, DialFailure.REFUSED, "The proxy refused to connect: 302."),
            (b"101 Switching", 101, DialFailure.REFUSED, "The proxy refused to connect: 101 Switching."),
        ):
            self.setUp()
            self.connect()
            self.answer(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 5\r\n\r\nhello")
            error = self.failure()
            assert isinstance(error, ProxyRefused)
            self.assertEqual((error.status, error.kind, error.details), (status, kind, details))

    def test_noProxy(self) -> None:
        """What is no answer of a proxy's ends the attempt, and so does one that has no end."""
        for answer in (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000):
            self.setUp()
            self.connect()
            self.answer(answer)
            self.assertEqual(self.failure().kind, DialFailure.OTHER)

    def test_silence(self) -> None:
        """A proxy that does not answer is waited for so long."""
        self.connect()
        self.clock.advance(4.9)
        self.assertNoResult(self.done)
        self.clock.advance(0.2)
        self.assertEqual(self.failure().kind, DialFailure.TIMEOUT)

    def test_left(self) -> None:
        """A proxy that leaves without an answer is told of."""
        self.connect()
        self.link.b.loseConnection()
        self.link.pump()
        self.assertEqual(self.failure().kind, DialFailure.UNREACHABLE)

    def test_cancelled(self) -> None:
        """An attempt can be given up, before and after the proxy was reached."""
        self.connect()
        self.done.cancel()
        self.failureResultOf(self.done, CancelledError)
        self.answer(OK)
        self.assertTrue(self.link.a.disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.setUp()
        done = ConnectProxyEndpoint(self.clock, self.inner, "gw.example", 443).connect(Factory())
        done.cancel()
        self.assertTrue(self.inner.attempts[0].cancelled)
        self.assertEqual(self.failureResultOf(done, DialFailed).value.kind, DialFailure.CANCELLED)

    def test_unreachable(self) -> None:
        """Whoever cannot be reached is the proxy, and said to be."""
        done = ConnectProxyEndpoint(self.clock, self.inner, "gw.example", 443).connect(Factory())
        self.inner.attempts[0].fail(ConnectionRefusedError())
        error = self.failureResultOf(done, DialFailed).value
        self.assertEqual(error.details, "The proxy cannot be reached: The connection was refused.")
        self.assertEqual(error.kind, DialFailure.REFUSED)

    def test_noProtocol(self) -> None:
        """A factory that has no protocol after all ends the connection."""
        done = ConnectProxyEndpoint(self.clock, self.inner, "gw.example", 443).connect(Applications(lambda: None))
        link = self.inner.attempts[0].accept(self.proxy)
        self.proxy.transport.write(OK)
        link.pump()
        self.failureResultOf(done, NoProtocol)
        self.assertTrue(link.a.disconnected)
