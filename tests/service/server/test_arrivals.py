"""
Tests for whom a connection is from.
"""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.peek import Peek
from gateway.service.server.arrivals import endOf
from gateway.service.server.attached import Visitor
from gateway.wire.proxyheader import Address, ProxyHeader, encodeV1, encodeV2
from tests.net.sides import Peer
from tests.service.server.doorsfixture import Doors

SOURCE = Address(IPv4Address("192.0.2.1"), 40000)
DOOR = Address(IPv4Address("198.51.100.7"), 443)
HEADER = ProxyHeader(SOURCE, DOOR)
LOOPBACK = (ip_network("127.0.0.0/8"),)


class ArrivalsTests(SynchronousTestCase):
    """
    L{Arrivals}.
    """

    def setUp(self) -> None:
        self.doors = Doors()
        self.visitors: list[Visitor] = []
        self.peers: list[Peer] = []

    def arrive(self, visitor: Visitor) -> IProtocol:
        """A door that takes everybody."""
        self.visitors.append(visitor)
        self.peers.append(Peer())
        return self.peers[-1]

    def come(self, data: bytes = b"", *, chunkSize: int | None = None, trusted: bool = True) -> Peer:
        """A connection on which something is sent."""
        client = self.doors.come(self.arrive, chunkSize=chunkSize, proxies=LOOPBACK if trusted else ())
        client.transport.write(data)
        self.doors.pump()
        return client

    def test_withoutProxies(self) -> None:
        """A visitor is who connects, and is there at once."""
        self.come(trusted=False)
        (visitor,) = self.visitors
        assert visitor.source is not None and visitor.door is not None
        self.assertEqual((visitor.host, str(visitor.door.host)), ("127.0.0.1", "127.0.0.1"))

    def test_bothVersions(self) -> None:
        """A listed proxy says who the visitor is, in either version, in pieces of any size."""
        for header in (encodeV1(HEADER), encodeV2(HEADER)):
            for chunkSize in (None, 1, 7):
                self.come(header + b"hello", chunkSize=chunkSize)
                self.assertEqual((self.visitors[-1].source, self.visitors[-1].door), (SOURCE, DOOR))
                self.assertEqual(self.peers[-1].received, b"hello")

    def test_strangersHeader(self) -> None:
        """From anybody else a header is not read: the bytes are the visitor's."""
        for header in (encodeV1(HEADER), encodeV2(HEADER)):
            self.come(header, trusted=False)
            self.assertEqual(self.visitors[-1].host, "127.0.0.1")
            self.assertEqual(self.peers[-1].received, header)

    def test_local(self) -> None:
        """A proxy's own connection, and one of which it knows nothing, is the proxy's."""
        for header in (encodeV2(ProxyHeader(local=True)), encodeV1(ProxyHeader()), encodeV2(ProxyHeader())):
            self.come(header + b"x")
            self.assertEqual(self.visitors[-1].host, "127.0.0.1")
            self.assertEqual(self.peers[-1].received, b"x")

    def test_headerIsMissing(self) -> None:
        """A listed proxy that sends no header is cut off: it would pass for its visitors."""
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"PROXY nonsense\r\n", encodeV2(HEADER)[:-20] + b"\xff" * 5000):
            self.assertIsNotNone(self.come(data).reason, data)
        self.assertEqual(self.visitors, [])

    def test_late(self) -> None:
        """A header has five seconds."""
        client = self.come(b"PROXY ")
        self.doors.wait(4.75)
        self.assertIsNone(client.reason)
        self.doors.wait(0.5)
        self.assertIsNotNone(client.reason)

    def test_leaves(self) -> None:
        """A proxy that leaves before it said anything leaves nothing behind."""
        client = self.come()
        client.transport.loseConnection()
        self.doors.pump()
        self.assertEqual(self.doors.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """Whom the door does not take is cut off, behind a proxy or not."""
        for data, proxies in ((b"", ()), (encodeV1(HEADER), LOOPBACK)):
            client = self.doors.come(lambda visitor: None, proxies=proxies)
            client.transport.write(data)
            self.doors.pump()
            self.assertIsNotNone(client.reason)

    def test_halfClose(self) -> None:
        """An end of what the visitor sends reaches the door's protocol."""
        client = self.come(encodeV1(HEADER) + b"hello")
        client.transport.loseWriteConnection()
        self.doors.pump()
        self.assertTrue(self.peers[0].ended)
        self.assertIsNone(client.reason)

    def test_peeks(self) -> None:
        """What becomes of a protocol that peeks becomes of the connection, half-close and all."""
        inner = Peer()

        def arrive(visitor: Visitor) -> IProtocol:
            return Peek(lambda data: inner if len(data) > 3 else None, self.fail, clock=self.doors.clock)

        client = self.doors.come(arrive, proxies=LOOPBACK, chunkSize=1)
        client.transport.write(encodeV2(HEADER) + b"hello")
        self.doors.pump()
        client.transport.loseWriteConnection()
        self.doors.pump()
        self.assertEqual(inner.received, b"hello")
        self.assertTrue(inner.ended)
        self.assertTrue(IHalfCloseableProtocol.providedBy(self.doors.links[-1].b.protocol))


class EndOfTests(SynchronousTestCase):
    """
    L{endOf}.
    """

    def test_addresses(self) -> None:
        """Mapped addresses are IPv4 addresses, scopes are left out, and UNIX sockets have no address."""
        self.assertEqual(endOf(TCP4Address("TCP", "192.0.2.1", 5)), Address(IPv4Address("192.0.2.1"), 5))
        self.assertEqual(endOf(IPv6Address("TCP", "::ffff:192.0.2.1", 5)), Address(IPv4Address("192.0.2.1"), 5))
        self.assertEqual(endOf(IPv6Address("TCP", "fe80::1%eth0", 5)), Address(ip_address("fe80::1"), 5))
        self.assertIsNone(endOf(UNIXAddress("/run/x")))
        self.assertIsNone(endOf(None))
        self.assertEqual(Visitor(None, None).host, "unix")
