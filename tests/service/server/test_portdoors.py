"""
Tests for the ports that agents ask for.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.access import AccessRules
from gateway.domain.routes import Place, Route
from gateway.service.server.portdoors import PortDoors
from gateway.service.server.usage import RouteLimits
from gateway.testing import flowPair
from gateway.wire.proxyheader import Address, ProxyHeader, encodeV2
from tests.net.sides import Peer
from tests.service.server.doorsfixture import SSH, Doors


class Port:
    """What a reactor returns for a port."""

    def __init__(self, number: int, factory: IProtocolFactory, interface: str) -> None:
        self.number = number
        self.factory = factory
        self.interface = interface
        self.isOpen = True

    def stopListening(self) -> None:
        """The port is free."""
        self.isOpen = False

    def getHost(self) -> IPv4Address:
        """Where it is."""
        return IPv4Address("TCP", self.interface, self.number)


class PortReactor(MemoryReactorClock):
    """
    Opens ports, but those that somebody else has.

    @ivar taken: interfaces and ports.
    @ivar bound: those at which somebody listens a moment before us, which Twisted tells in another way.
    @ivar ports: all that were opened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[tuple[str, int]] = set()
        self.bound: set[tuple[str, int]] = set()
        self.ports: list[Port] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if (interface, port) in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        if (interface, port) in self.bound:
            raise OSError(98, "Address already in use")
        self.ports.append(Port(port, factory, interface))
        return self.ports[-1]

    @property
    def open(self) -> list[tuple[str, int]]:
        """The ports that are open."""
        return [(port.interface, port.number) for port in self.ports if port.isOpen]


class PortDoorsTests(SynchronousTestCase):
    """
    L{PortDoors}.
    """

    def setUp(self) -> None:
        self.reactor = PortReactor()
        self.start()

    def start(self, interfaces: tuple[str, ...] = ("127.0.0.1",), **options: Any) -> None:
        """A gateway with these doors, and an agent."""
        self.doors = Doors(**options)
        self.ports = PortDoors(
            self.reactor,  # type: ignore[arg-type]  # all that is needed
            self.doors.visitors,
            interfaces=interfaces,
            isOurs=lambda place: place == Place("tcp", 443),
        )
        self.doors.registry._doors = self.ports
        self.client = self.doors.attached("box", SSH)

    def come(self) -> Peer:
        """A visitor comes to the last port."""
        visitor = Peer()
        port = [each for each in self.reactor.ports if each.isOpen][-1]
        arrival = port.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert arrival is not None
        self.doors.links.append(flowPair(visitor, arrival))
        self.doors.pump()
        return visitor

    def test_opens(self) -> None:
        """The port is open as soon as the agent's service is taken, on each interface."""
        self.assertEqual(self.reactor.open, [("127.0.0.1", 2222)])
        self.reactor = PortReactor()
        self.start(("127.0.0.1", "::1"))
        self.assertEqual(self.reactor.open, [("127.0.0.1", 2222), ("::1", 2222)])
        self.assertEqual(self.client.statuses["ssh"].address, "tcp://gw.example:2222")

    def test_visit(self) -> None:
        """A visitor reaches the origin at once: it may be the one that speaks first."""
        visitor = self.come()
        origin = self.doors.originAccepts()
        origin.transport.write(b"SSH-2.0-x\r\n")
        self.doors.pump()
        self.assertEqual(visitor.received, b"SSH-2.0-x\r\n")

    def test_halfClose(self) -> None:
        """A visitor that has nothing more to say gets its answer."""
        visitor = self.come()
        origin = self.doors.originAccepts()
        visitor.transport.write(b"all of it")
        visitor.transport.loseWriteConnection()
        self.doors.pump()
        self.assertTrue(origin.ended)
        origin.transport.write(b"thanks")
        origin.transport.loseConnection()
        self.doors.pump()
        self.assertEqual(visitor.received, b"thanks")
        self.assertEqual(self.doors.admission.connections, 0)

    def test_taken(self) -> None:
        """A port that another program has is said to be, and no interface stays open."""
        self.reactor = PortReactor()
        self.reactor.taken.add(("::1", 2222))
        self.start(("127.0.0.1", "::1"))
        self.assertEqual(self.client.statuses["ssh"].code, "unavailable")
        details = self.client.statuses["ssh"].details
        self.reactor = PortReactor()
        self.reactor.bound.add(("::1", 2222))
        self.start(("127.0.0.1", "::1"))
        self.assertEqual(self.client.statuses["ssh"].details, details)
        self.assertIn("Address already in use", self.client.statuses["ssh"].details)
        self.assertEqual(self.reactor.open, [])

    def test_ours(self) -> None:
        """The gateway's own ports are told from others."""
        self.assertTrue(self.ports.isOurs(Place("tcp", 443)))
        self.assertFalse(self.ports.isOurs(Place("tcp", 2222)))

    def test_freeAtOnce(self) -> None:
        """A port is free in the reactor's next turn, once the agent is gone."""
        self.doors.links[0].a.abortConnection()
        self.doors.pump()
        self.reactor.advance(0)
        self.assertEqual(self.reactor.open, [])

    def test_takenAgainInTheSameTurn(self) -> None:
        """A port that is given up and asked for in the same turn is the new agent's."""
        route = self.doors.registry.routes[Place("tcp", 2222)]
        other = Route(route.place, "other", lambda: 0.0)
        self.ports.close(route)
        self.ports.open(other)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.open, [("127.0.0.1", 2222)])
        self.assertEqual(len(self.reactor.ports), 1)

    def test_visitStays(self) -> None:
        """When a service is withdrawn its visitors stay, and nobody else comes."""
        visitor = self.come()
        origin = self.doors.originAccepts()
        self.client.offer(())
        self.doors.pump()
        self.assertIsNotNone(self.come().reason)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.open, [])
        visitor.transport.write(b"still here")
        self.doors.pump()
        self.assertEqual(origin.received, b"still here")

    def test_originRefuses(self) -> None:
        """A visitor is reset when nobody can be reached."""
        visitor = self.come()
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        self.assertIsNotNone(visitor.reason)
        self.assertTrue(self.doors.links[-1].b.aborted)

    def test_access(self) -> None:
        """Who may not come is cut off, also at ports that were open before."""
        self.ports.access = AccessRules.parse(["deny 127.0.0.1"])
        self.assertIsNotNone(self.come().reason)

    def test_tooMany(self) -> None:
        """A visitor beyond the route's limit is cut off, and not counted."""
        self.start(routeLimits=RouteLimits(connections=1))
        self.come()
        self.assertIsNotNone(self.come().reason)
        self.assertEqual(self.doors.admission.connections, 1)

    def test_proxy(self) -> None:
        """Behind a listed proxy the agent is told who the visitor is."""
        self.ports.proxies = (ip_network("127.0.0.0/8"),)
        self.client.offer(())
        self.doors.pump()
        self.doors.wait(1.25)
        self.reactor.advance(0)
        self.client.offer((SSH,))
        self.doors.wait(1.25)
        visitor = self.come()
        source = Address(ip_network("192.0.2.1").network_address, 4)
        visitor.transport.write(encodeV2(ProxyHeader(source, source)))
        self.doors.pump()
        self.assertEqual(self.doors.preambles[-1].header.source, source)

    def test_stop(self) -> None:
        """Nobody comes any more when the gateway stops."""
        self.successResultOf(self.ports.stop())
        self.assertEqual(self.reactor.open, [])
