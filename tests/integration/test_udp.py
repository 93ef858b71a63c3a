"""
Tests for UDP on real sockets: ports and origins.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from typing import Any

from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address
from twisted.internet.interfaces import IProtocol, IReadDescriptor, IResolutionReceiver
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.relay import Relay
from gateway.net.udp import DatagramCounts, DatagramFlow, UDPEndpoint
from gateway.net.udpport import DatagramPort
from gateway.net.udpsocket import sendDatagrams
from gateway.service.server.arrivals import endOf
from gateway.wire.datagrams import MAX_DATAGRAM
from gateway.wire.proxyheader import Address
from tests.processes import HERE, SECONDS

OTHER = "127.0.0.5"
"""Another address of this machine."""

MIB = 1024 * 1024


def datagramSocket(address: str = HERE, port: int = 0) -> socket.socket:
    """A socket that takes bursts, and waits for datagrams for a while."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
    made.settimeout(SECONDS)
    made.bind((address, port))
    return made


def client(address: str, port: int) -> socket.socket:
    """One that only hears the address that it asks."""
    made = datagramSocket("::1" if ":" in address else HERE)
    made.connect((address, port))
    return made


def numberOf(port: DatagramPort) -> int:
    """Where it listens."""
    address = endOf(port.getHost())
    assert address is not None
    return address.port


def isSilent(connection: socket.socket, seconds: float = 0.2) -> bool:
    """Whether nothing comes."""
    return not select.select([connection], [], [], seconds)[0]


class Readers(Clock):
    """The part of a reactor that reads sockets, one turn at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[IReadDescriptor] = set()

    def addReader(self, reader: IReadDescriptor) -> None:
        """Read this one from now on."""
        self.readers.add(reader)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """No more of it."""
        self.readers.discard(reader)

    @property
    def nameResolver(self) -> Readers:
        """For names, of which each is this machine's."""
        return self

    def resolveHostName(self, receiver: IResolutionReceiver, name: str) -> None:
        """Tell both addresses, at once."""
        receiver.addressResolved(IPv6Address("TCP", "::1", 0))
        receiver.addressResolved(TCP4Address("TCP", HERE, 0))
        receiver.resolutionComplete()

    def untilReadable(self, connection: socket.socket) -> None:
        """Turn until something has come."""
        self.until(lambda: not isSilent(connection, 0))

    def until(self, holds: Callable[[], object]) -> None:
        """Turn until something holds."""
        deadline = time.monotonic() + SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError("it took too long")
            self.advance(0)
            for reader in select.select(list(self.readers), [], [], 0.05)[0]:
                if reader in self.readers:
                    reader.doRead()


class Echo(Protocol):
    """Sends back what comes."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Recorder(Protocol):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class PortTests(SynchronousTestCase):
    """L{DatagramPort} has a flow for each visitor."""

    def setUp(self) -> None:
        self.reactor: Any = Readers()  # all of a reactor that is needed
        self.flows: list[DatagramFlow] = []
        self.protocols: list[IProtocol | None] = []
        self.counts = DatagramCounts()

    def port(self, interface: str = HERE, **options: Any) -> DatagramPort:
        """A port of which each visitor gets an echo, unless there are other protocols."""
        port = DatagramPort(self.reactor, interface, 0, self.arrived, counts=self.counts, **options)
        self.addCleanup(self.close, port)
        return port

    def close(self, port: DatagramPort) -> None:
        """End it, with all its flows."""
        port.stopListening()
        for flow in self.flows:
            flow.loseConnection()

    def arrived(self, flow: DatagramFlow) -> IProtocol | None:
        """A visitor has come."""
        self.flows.append(flow)
        return self.protocols.pop(0) if self.protocols else Echo()

    def client(self, port: DatagramPort, address: str = HERE) -> socket.socket:
        """A visitor."""
        made = client(address, numberOf(port))
        self.addCleanup(made.close)
        return made

    def echoed(self, visitor: socket.socket, *datagrams: bytes) -> None:
        """All of these come back as they were, in order."""
        for datagram in datagrams:
            visitor.send(datagram)
        for datagram in datagrams:
            self.reactor.untilReadable(visitor)
            self.assertEqual(visitor.recv(70_000), datagram)

    def test_echo(self) -> None:
        """Datagrams of all lengths come back whole, none of them joined with another."""
        visitor = self.client(self.port())
        self.echoed(visitor, b"a", b"", b"bc", b"de", bytes(1200), bytes(1200), os.urandom(MAX_DATAGRAM), b"")
        self.assertEqual(self.counts, DatagramCounts(received=8, sent=8))

    def test_visitors(self) -> None:
        """Each address and port is a flow of its own, also when datagrams of several come in turns."""
        port = self.port()
        visitors = [self.client(port) for _ in range(3)]
        for number in range(20):
            for visitor in visitors:
                visitor.send(b"%d" % number)
        for visitor in visitors:
            for number in range(20):
                self.reactor.untilReadable(visitor)
                self.assertEqual(visitor.recv(100), b"%d" % number)
        self.assertEqual(port.flowCount, 3)
        peers = [endOf(flow.getPeer()) for flow in self.flows]
        self.assertEqual(peers, [Address(IPv4Address(HERE), visitor.getsockname()[1]) for visitor in visitors])

    def test_addressAsked(self) -> None:
        """On a port of all addresses, answers come from the one that was asked, which the flow knows."""
        for interface in ("0.0.0.0", "::"):
            port = self.port(interface)
            for address in (HERE, OTHER):
                self.echoed(self.client(port, address), b"hi")
                self.assertEqual(endOf(self.flows[-1].getHost()), Address(IPv4Address(address), numberOf(port)))

    def test_sameVisitorAsksTwoAddresses(self) -> None:
        """Who asks two addresses from one port is answered from each."""
        port = self.port("0.0.0.0")
        with datagramSocket() as visitor:
            for address in (HERE, OTHER, HERE):
                visitor.sendto(b"hi", (address, numberOf(port)))
                self.reactor.untilReadable(visitor)
                self.assertEqual(visitor.recvfrom(10)[1][0], address)
        self.assertEqual(port.flowCount, 2)

    def test_ipv6(self) -> None:
        """IPv6 works on one address and on all of them."""
        for interface in ("::1", "::"):
            self.echoed(self.client(self.port(interface), "::1"), b"hi", b"")

    def test_bothWildcards(self) -> None:
        """The same port of both families can be opened where the one of IPv6 leaves IPv4 alone."""
        one = self.port("0.0.0.0")
        number = numberOf(one)
        other = DatagramPort(self.reactor, "::", number, self.arrived, isIPv6Only=True)
        self.addCleanup(self.close, other)
        self.echoed(self.client(one), b"four")
        self.echoed(self.client(one, "::1"), b"six")
        self.assertEqual((one.flowCount, other.flowCount), (1, 1))

    def test_taken(self) -> None:
        """A port that somebody has cannot be opened."""
        number = numberOf(self.port())
        self.assertRaises(OSError, DatagramPort, self.reactor, HERE, number, self.arrived)

    def test_limit(self) -> None:
        """Beyond the limit nobody gets a flow, and those who have one keep it; when one ends there is room."""
        port = self.port(limit=2)
        first, second, third = (self.client(port) for _ in range(3))
        self.echoed(first, b"1")
        self.echoed(second, b"2")
        third.send(b"3")
        self.reactor.until(lambda: self.counts.refused == 1)
        self.echoed(first, b"1 again")
        self.flows[0].loseConnection()
        self.echoed(third, b"3 again")

    def test_turnedAway(self) -> None:
        """A visitor for whom there is no protocol leaves nothing behind, hears nothing, and may try again."""
        self.protocols = [None]
        port = self.port()
        visitor = self.client(port)
        visitor.send(b"1")
        self.reactor.until(lambda: self.counts.refused == 1)
        self.assertEqual(port.flowCount, 0)
        self.assertTrue(isSilent(visitor))
        self.echoed(visitor, b"2")

    def test_defect(self) -> None:
        """When a visitor's protocol cannot be made, or raises, others are served all the same."""

        class Broken(Protocol):
            def connectionMade(self) -> None:
                raise ZeroDivisionError

        class BrokenLater(Protocol):
            def dataReceived(self, data: bytes) -> None:
                raise ZeroDivisionError

        self.protocols = [Broken(), BrokenLater()]
        port = self.port()
        for _ in range(2):
            self.client(port).send(b"x")
        self.echoed(self.client(port), b"hi")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(port.flowCount, 1)

    def test_neverAnswered(self) -> None:
        """Nothing goes out that the other side did not send."""
        self.protocols = [Recorder()]
        visitor = self.client(self.port())
        for _ in range(10):
            visitor.send(b"x")
        self.reactor.until(lambda: self.counts.received == 10)
        self.flows[0].loseConnection()
        self.assertTrue(isSilent(visitor))
        self.assertEqual(self.counts.sent, 0)

    def test_stopListening(self) -> None:
        """Flows go on, nobody new comes, and with the last flow the port is free at once."""
        emptied = []
        port = self.port(emptied=lambda: emptied.append(True))
        number = numberOf(port)
        visitor, late = self.client(port), self.client(port)
        self.echoed(visitor, b"1")
        port.stopListening()
        self.echoed(visitor, b"2")
        late.send(b"3")
        self.reactor.until(lambda: self.counts.refused == 1)
        self.flows[0].loseConnection()
        self.assertEqual((emptied, self.reactor.readers), ([True], set()))
        datagramSocket(HERE, number).close()

    def test_burst(self) -> None:
        """More than is read in one turn, and more than one piece holds, arrives in order."""
        visitor = self.client(self.port())
        datagrams = [b"%d " % number + bytes(number * 7) for number in range(300)]
        got: list[bytes] = []
        for datagram in datagrams:
            visitor.send(datagram)
        while len(got) < len(datagrams):
            self.reactor.untilReadable(visitor)
            got.append(visitor.recv(70_000))
        self.assertEqual(got, datagrams)


class OriginTests(SynchronousTestCase):
    """L{UDPEndpoint} reaches origins."""

    def setUp(self) -> None:
        self.reactor: Any = Readers()  # all of a reactor that is needed
        self.origin = datagramSocket()
        self.addCleanup(lambda: self.origin.close())
        self.number: int = self.origin.getsockname()[1]

    def connect(self, protocol: Protocol, host: str = HERE, **options: Any) -> DatagramCounts:
        """Connect at once."""
        counts = DatagramCounts()
        endpoint = UDPEndpoint(self.reactor, host, self.number, counts=counts, **options)
        self.successResultOf(endpoint.connect(ClientFactory.forProtocol(lambda: protocol)))
        assert protocol.transport is not None
        self.addCleanup(protocol.transport.loseConnection)
        return counts

    def test_bothWays(self) -> None:
        """Datagrams go there and back, one by one."""
        protocol = Recorder()
        self.connect(protocol)
        assert protocol.transport is not None
        protocol.transport.write(b"\0\3abc\0\0\0\1d")
        came = [self.origin.recvfrom(10) for _ in range(3)]
        peer = came[0][1]
        self.assertEqual(came, [(b"abc", peer), (b"", peer), (b"d", peer)])
        for answer in (b"xyz", b""):
            self.origin.sendto(answer, peer)
        self.reactor.until(lambda: protocol.received == b"\0\3xyz\0\0")

    def test_header(self) -> None:
        """A header stands before each datagram, and not before what comes back."""
        protocol = Recorder()
        self.connect(protocol, header=b"header ")
        assert protocol.transport is not None
        protocol.transport.write(b"\0\3abc\0\0")
        (first, peer), second = self.origin.recvfrom(20), self.origin.recv(20)
        self.assertEqual((first, second), (b"header abc", b"header "))
        self.origin.sendto(b"xyz", peer)
        self.reactor.until(lambda: protocol.received == b"\0\3xyz")

    def test_headerTooMuch(self) -> None:
        """What is too long together with its header is dropped and counted."""
        protocol = Recorder()
        counts = self.connect(protocol, header=b"header ")
        assert protocol.transport is not None
        protocol.transport.write(MAX_DATAGRAM.to_bytes(2) + bytes(MAX_DATAGRAM) + b"\0\1x")
        self.assertEqual(self.origin.recv(20), b"header x")
        self.assertEqual((counts.sent, counts.dropped), (1, 1))

    def test_nobody(self) -> None:
        """That nobody listens ends the connection, as a reset, when the kernel says so while reading or sending."""
        self.origin.close()
        for isRead in (True, False):
            protocol = Recorder()
            self.connect(protocol)
            assert protocol.transport is not None
            protocol.transport.write(b"\0\1x")
            if isRead:
                self.reactor.until(partial(getattr, protocol, "lost"))
            else:
                protocol.transport.write(b"\0\1x")
            assert protocol.lost is not None
            self.assertEqual(
                protocol.lost.getErrorMessage(),
                "Connection to the other side was lost in a non-clean fashion: nobody listens there.",
            )
            self.assertEqual(self.reactor.readers, set())

    def test_nextAddress(self) -> None:
        """Where nobody listens at a name's first address, what was sent goes to the next, and nothing is lost."""
        protocol = Recorder()
        self.connect(protocol, "localhost")  # of which the first address is ::1
        assert protocol.transport is not None
        protocol.transport.write(b"\0\3abc\0\0")
        self.reactor.untilReadable(self.origin)
        (first, peer), second = self.origin.recvfrom(10), self.origin.recv(10)
        self.assertEqual((first, second), (b"abc", b""))
        self.origin.sendto(b"xyz", peer)
        self.reactor.until(lambda: protocol.received == b"\0\3xyz")

    def test_goneLater(self) -> None:
        """An origin that has answered and is not there any more is not looked for at the name's other addresses."""
        self.origin.close()
        self.origin = datagramSocket("::1", self.number)
        protocol = Recorder()
        self.connect(protocol, "localhost")
        assert protocol.transport is not None
        protocol.transport.write(b"\0\3abc")
        _, peer = self.origin.recvfrom(10)
        self.origin.sendto(b"xyz", peer)
        self.reactor.until(lambda: protocol.received)
        self.origin.close()
        protocol.transport.write(b"\0\3abc")
        self.reactor.until(lambda: protocol.lost)

    def test_errorThatTheReactorTells(self) -> None:
        """A reactor takes a pending error for the end of the socket; it is read all the same."""
        self.origin.close()
        protocol = Recorder()
        self.connect(protocol)
        assert protocol.transport is not None
        protocol.transport.write(b"\0\1x")
        (reader,) = self.reactor.readers
        self.reactor.removeReader(reader)
        reader.connectionLost(Failure(ZeroDivisionError()))
        self.assertIsNotNone(protocol.lost)

    def test_cut(self) -> None:
        """Runs of one length leave in few system calls, and arrive one by one, with what is between them."""
        sizes = [100] * 130 + [0, 0] + [1200] * 60 + [1401] * 3 + [7]
        datagrams = [os.urandom(size) for size in sizes]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            self.assertEqual(sendDatagrams(sender, datagrams, (), self.origin.getsockname()), len(datagrams))
        self.assertEqual([self.origin.recv(2000) for _ in datagrams], datagrams)

    def test_relayed(self) -> None:
        """A port and an origin make a proxy, with nothing between them but a relay."""

        def arrived(flow: DatagramFlow) -> IProtocol:
            relay = Relay(self.reactor, lambda outcome: None)
            self.reactor.callLater(0, relay.connect, UDPEndpoint(self.reactor, HERE, self.number))
            self.addCleanup(relay.end, "test")
            return relay.near

        port = DatagramPort(self.reactor, HERE, 0, arrived)
        with client(HERE, numberOf(port)) as visitor:
            visitor.send(b"question")
            self.reactor.untilReadable(self.origin)
            _, peer = self.origin.recvfrom(10)
            self.origin.sendto(b"answer", peer)
            self.reactor.untilReadable(visitor)
            self.assertEqual(visitor.recv(10), b"answer")
        port.stopListening()
