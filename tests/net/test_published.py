"""
Tests for streams as connections of ordinary server factories.
"""

from __future__ import annotations

from ipaddress import ip_address

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor, IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from gateway.net.incoming import PREAMBLE_TIMEOUT
from gateway.net.published import PublishedStreams
from gateway.testing import FlowLink, flowPair
from gateway.wire.preamble import Preamble, Target, decodeAnswer, encodePreamble
from gateway.wire.proxyheader import Address, ProxyHeader
from tests.net.muxpair import Plain
from tests.net.sides import Peer

OK = b'{"ok":true}\n'
HEADER = ProxyHeader(Address(ip_address("192.0.2.1"), 40000), Address(ip_address("198.51.100.7"), 443))


class Recording(Factory):
    """Remembers for whom it made protocols."""

    def __init__(self, protocol: type[Peer] | type[Plain] | None = Peer) -> None:
        self.addresses: list[IAddress | None] = []
        self.made: list[Peer | Plain] = []
        self.kind = protocol

    def buildProtocol(self, address: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # not a Protocol
        self.addresses.append(address)
        if self.kind is None:
            return None
        self.made.append(self.kind())
        return self.made[-1]


class WhoAmI(Resource):
    """Tells a visitor's address."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """The address."""
        return str(request.getClientAddress().host).encode()


class PublishedTests(SynchronousTestCase):
    """
    L{PublishedStreams}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.streams = PublishedStreams(self.clock)
        self.factory = Recording()
        self.published = self.streams.add("web", self.factory)

    def stream(self, data: bytes = b"", *, to: str | Target = "web", header: ProxyHeader = HEADER) -> Peer:
        """A visitor's stream comes, with so much behind its preamble."""
        peer = Peer()
        self.link: FlowLink = flowPair(peer, self.streams.buildProtocol(None))
        peer.transport.write(encodePreamble(Preamble(to, header)) + data)
        self.link.pump()
        return peer

    def assertRefused(self, peer: Peer, code: str) -> None:
        """The stream was answered so."""
        answer = decodeAnswer(bytes(peer.received).removesuffix(b"\n"))
        self.assertEqual((answer.ok, answer.code), (False, code))
        self.assertEqual(self.published.visits, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connection(self) -> None:
        """A stream is a connection: the answer comes first, and then bytes go both ways."""
        peer = self.stream(b"hello")
        (protocol,) = self.factory.made
        self.assertEqual(protocol.received, b"hello")
        assert protocol.transport is not None
        protocol.transport.write(b"world")
        peer.transport.write(b" again")
        self.link.pump()
        self.assertEqual(peer.received, OK + b"world")
        self.assertEqual(protocol.received, b"hello again")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_addresses(self) -> None:
        """The factory and the protocol see the visitor's own address, and the one that they came to."""
        self.stream()
        source = IPv4Address("TCP", "192.0.2.1", 40000)
        self.assertEqual(self.factory.addresses, [source])
        transport = self.factory.made[0].transport
        assert transport is not None
        self.assertEqual(transport.getPeer(), source)
        self.assertEqual(transport.getHost(), IPv4Address("TCP", "198.51.100.7", 443))
        six = Address(ip_address("2001:db8::1"), 1)
        self.stream(header=ProxyHeader(six, six))
        self.assertEqual(self.factory.addresses[1], IPv6Address("TCP", "2001:db8::1", 1))

    def test_unknownAddress(self) -> None:
        """Of a visitor whose address is not told there is that of the stream."""
        self.stream(header=ProxyHeader())
        self.assertEqual(self.factory.addresses, [self.link.b.getPeer()])

    def test_halfClose(self) -> None:
        """An end in one direction is passed on as one, to who knows what that is."""
        peer = self.stream(b"hello")
        peer.transport.loseWriteConnection()
        self.link.pump()
        (protocol,) = self.factory.made
        assert isinstance(protocol, Peer) and protocol.transport is not None
        self.assertTrue(IHalfCloseableDescriptor.providedBy(protocol.transport))
        self.assertTrue(protocol.ended)
        protocol.transport.write(b"still here")
        self.link.pump()
        self.assertIn(b"still here", peer.received)

    def test_noHalfClose(self) -> None:
        """To a protocol that knows no half-close it is the end."""
        self.factory.kind = Plain
        peer = self.stream(b"hello")
        peer.transport.loseWriteConnection()
        self.link.pump()
        (protocol,) = self.factory.made
        self.assertIsNotNone(protocol.reason)

    def test_switched(self) -> None:
        """A protocol may be exchanged for another one, which then gets everything, and the end."""
        peer = self.stream(b"hello")
        other = Plain()
        self.factory.made[0].transport.protocol = other  # type: ignore[union-attr]
        peer.transport.write(b"more")
        self.link.pump()
        self.assertEqual(other.received, b"more")
        self.link.a.abortConnection()
        self.link.pump()
        self.assertIsNotNone(other.reason)
        self.assertEqual(self.published.visits, set())

    def test_unknown(self) -> None:
        """A service that is not there, and a target, are refused."""
        self.assertRefused(self.stream(to="shop"), "unknown-service")
        self.assertRefused(self.stream(to=Target("192.0.2.9", 22)), "unknown-service")

    def test_turnedAway(self) -> None:
        """A factory may take no connection, or fail."""
        self.factory.kind = None
        self.assertRefused(self.stream(), "connection-refused")
        self.factory.kind = 0  # type: ignore[assignment]  # cannot be called
        self.assertRefused(self.stream(), "connection-refused")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_late(self) -> None:
        """A preamble that does not come in time is waited for no longer."""
        peer = Peer()
        link = flowPair(peer, self.streams.buildProtocol(None))
        self.clock.advance(PREAMBLE_TIMEOUT)
        link.pump()
        self.assertRefused(peer, "invalid-preamble")

    def test_removed(self) -> None:
        """A service that is removed takes nobody any more; those who are there stay, and are told of when they leave."""
        left: list[None] = []
        self.published.left = lambda: left.append(None)
        self.stream()
        link = self.link
        self.streams.remove("web")
        self.stream()
        self.assertEqual(len(self.factory.made), 1)
        self.assertEqual(len(self.published.visits), 1)
        link.a.abortConnection()
        link.pump()
        self.assertEqual((len(self.published.visits), left), (0, [None]))

    def test_abort(self) -> None:
        """All who are there can be cut off."""
        self.stream()
        self.published.abort()
        self.link.pump()
        self.assertEqual(self.published.visits, set())
        self.assertTrue(self.link.b.aborted)

    def test_site(self) -> None:
        """A site of twisted.web serves visitors as if they had come to a port of its own."""
        site = Site(WhoAmI(), reactor=self.clock)
        self.streams.add("site", site)
        peer = self.stream(b"GET / HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n", to="site")
        self.assertTrue(peer.received.startswith(OK + b"HTTP/1.1 200 OK"), peer.received)
        self.assertTrue(peer.received.endswith(b"192.0.2.1"), peer.received)
        self.link.pump()
        self.assertTrue(self.link.b.disconnected)
        self.streams.remove("site")
