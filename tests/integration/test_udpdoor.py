"""
Tests for UDP ports that agents ask for: the visitors' sockets are real, the tunnel is in memory, and so is its time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from typing import Any, cast

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.access import AccessRules
from gateway.domain.limits import Admission
from gateway.net.udp import DATAGRAM_DRAIN_IDLE, DATAGRAM_FLOWS, DATAGRAM_IDLE
from gateway.service.server.portdoors import PortDoors
from gateway.service.server.usage import RouteLimits
from gateway.wire.agentcontrol import Service
from gateway.wire.datagrams import LENGTH, DatagramDecoder
from gateway.wire.proxyheader import Address
from tests.integration.test_udp import Readers, client, datagramSocket, isSilent
from tests.net.sides import Peer
from tests.processes import HERE
from tests.service.server.doorsfixture import Doors


def framed(datagram: bytes) -> bytes:
    """As it goes on a stream."""
    return LENGTH.pack(len(datagram)) + datagram


class UdpDoorTests(SynchronousTestCase):
    """
    L{UdpDoor<gateway.service.server.udpdoor.UdpDoor>}, as L{PortDoors} uses it.
    """

    def setUp(self) -> None:
        self.start()

    def start(self, flows: int = DATAGRAM_FLOWS, **options: Any) -> None:
        """A gateway, and an agent with a UDP service."""
        self.reactor = cast(Any, Readers())  # all of a reactor that is needed
        self.doors = Doors(**options)
        visitors = self.doors.visitors
        self.ports = PortDoors(self.reactor, visitors, interfaces=[HERE], isOurs=lambda place: False, flows=flows)
        self.doors.registry._doors = self.ports
        with datagramSocket() as probe:
            self.number: int = probe.getsockname()[1]
        self.service = Service(key="dns", kind="udp", port=self.number)
        self.agent = self.doors.attached("box", self.service)
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Close all that is open."""
        self.ports.stop()
        self.doors.visitors.end()

    def until(self, holds: Callable[[], object]) -> None:
        """Read sockets, and move what is in the tunnel, until something holds."""

        def turn() -> object:
            self.doors.pump()
            return holds()

        self.reactor.until(turn)

    def visitor(self) -> socket.socket:
        """Somebody who may send."""
        made = client(HERE, self.number)
        self.addCleanup(made.close)
        return made

    def asked(self, visitor: socket.socket) -> Peer:
        """A visitor's first datagram reaches an origin."""
        before = len(self.doors.origins.attempts)
        visitor.send(b"question")
        self.until(lambda: len(self.doors.origins.attempts) > before)
        origin = self.doors.originAccepts()
        self.until(lambda: origin.received == framed(b"question"))
        return origin

    def hasDialled(self, count: int) -> bool:
        """Whether so many visits have come to the agent, ever."""
        return len(self.doors.origins.attempts) == count

    def received(self) -> int:
        """Datagrams that have come."""
        return self.ports.datagrams.received

    def refused(self, reason: str) -> float:
        """Visitors who were turned away."""
        value = self.doors.metrics._registry.get_sample_value("txgateway_refused_total", {"reason": reason})
        return value or 0.0

    def test_visit(self) -> None:
        """A visitor's datagrams go to the origin and back, and the agent is told who they are from."""
        visitor = self.visitor()
        origin = self.asked(visitor)
        origin.transport.write(framed(b"answer"))
        self.doors.pump()
        self.assertEqual(visitor.recv(10), b"answer")
        (preamble,) = self.doors.preambles
        self.assertEqual(preamble.to, "dns")
        self.assertTrue(preamble.header.datagram)
        self.assertEqual(preamble.header.source, Address(IPv4Address(HERE), visitor.getsockname()[1]))
        self.assertEqual(preamble.header.destination, Address(IPv4Address(HERE), self.number))

    def test_idle(self) -> None:
        """A visit without datagrams is over after a minute; one line says so, and there is room for another."""
        visitor = self.visitor()
        self.asked(visitor)
        self.assertEqual(self.doors.admission.connections, 1)
        self.doors.wait(DATAGRAM_IDLE)
        self.assertEqual(len(self.doors.visitors.visits), 1)
        with capturedLogs() as events:
            self.doors.wait(DATAGRAM_IDLE / 2)
        self.assertEqual([each["cause"] for each in events if each.get("event") == "visit.closed"], ["idle-timeout"])
        self.assertEqual((self.doors.admission.connections, len(self.doors.visitors.visits)), (0, 0))
        self.asked(visitor)

    def test_ownTime(self) -> None:
        """The time without datagrams can be another, from the next visit on."""
        self.doors.visitors.datagramIdle = 8.0
        self.asked(self.visitor())
        self.doors.wait(DATAGRAM_IDLE / 4)
        self.assertEqual(len(self.doors.visitors.visits), 0)

    def test_flows(self) -> None:
        """A port has so many visits at once."""
        self.stop()
        self.start(flows=1)
        self.asked(self.visitor())
        self.visitor().send(b"question")
        self.until(lambda: self.ports.datagrams.refused == 1)

    def test_draining(self) -> None:
        """While the gateway stops nobody new comes, and a visit ends when it is silent, but no sooner."""
        visitor = self.visitor()
        origin = self.asked(visitor)
        self.doors.visitors.drain()
        self.doors.wait(DATAGRAM_DRAIN_IDLE * 0.7)
        visitor.send(b"again")
        self.until(lambda: origin.received.endswith(b"again"))
        self.doors.wait(DATAGRAM_DRAIN_IDLE * 0.7)
        self.assertEqual(len(self.doors.visitors.visits), 1)
        self.doors.wait(DATAGRAM_DRAIN_IDLE)
        self.successResultOf(self.doors.visitors.empty())
        visitor.send(b"question")
        self.until(lambda: self.ports.datagrams.refused == 1)

    def test_access(self) -> None:
        """Who may not come hears nothing, and opens no stream; the rules may change."""
        self.ports.access = AccessRules.parse([f"deny {HERE}"])
        visitor = self.visitor()
        visitor.send(b"question")
        self.until(lambda: self.ports.datagrams.refused == 1)
        self.assertTrue(isSilent(visitor))
        self.assertEqual((self.refused("not-allowed"), self.doors.origins.attempts), (1.0, []))
        self.ports.access = AccessRules()
        self.asked(visitor)

    def test_perAddress(self) -> None:
        """One address has so many visits at once, and keeps those that it has."""
        self.start(limits={"perAddress": 2})
        first, second, third = (self.visitor() for _ in range(3))
        origin = self.asked(first)
        self.asked(second)
        third.send(b"question")
        self.until(lambda: self.refused("too-many-from-address"))
        first.send(b"again")
        self.until(lambda: origin.received.endswith(b"again"))
        self.doors.wait(DATAGRAM_IDLE * 2)
        self.asked(third)

    def test_routeLimit(self) -> None:
        """A visitor who is one too many for the port takes nothing from their address."""
        self.start(routeLimits=RouteLimits(connections=1))
        self.asked(self.visitor())
        self.visitor().send(b"question")
        self.until(lambda: self.refused("too-many-for-route"))
        self.assertEqual(self.doors.admission.connections, 1)

    def test_countedApart(self) -> None:
        """However many come by UDP, those who come by TCP are not refused for it."""
        self.doors.visitors._datagramAdmission = Admission(0.0, newPerSecond=1.0)
        self.asked(self.visitor())
        self.visitor().send(b"question")
        self.until(lambda: self.refused("too-many-new"))
        self.assertIsNotNone(self.doors.visitors.admit(HERE, AccessRules(), "port"))

    def test_originUnreached(self) -> None:
        """Visits that nobody answers are summed up in the log."""
        visitor = self.visitor()
        with capturedLogs() as events:
            for count in range(1, 6):
                visitor.send(b"question")
                self.until(partial(self.hasDialled, count))
                self.doors.originAccepts().transport.abortConnection()
                self.until(lambda: not self.doors.visitors.visits)
            self.doors.wait(10)
        names = [each["event"] for each in events if str(each.get("event")).startswith(("visit.", "gateway.refused"))]
        self.assertEqual(names, ["gateway.refused", "gateway.refused-more"])

    def test_whileDialling(self) -> None:
        """Up to 64 KiB wait for the agent to connect, and what one read brings; the rest is dropped."""
        visitor = self.visitor()
        for number in range(200):
            visitor.send(b"%03d" % number + bytes(997))
        self.until(lambda: self.received() == 200)
        origin = self.doors.originAccepts()
        self.doors.pump()
        datagrams = DatagramDecoder().receive(bytes(origin.received))
        self.assertEqual(datagrams, [b"%03d" % number + bytes(997) for number in range(len(datagrams))])
        self.assertTrue(60 <= len(datagrams) <= 132, len(datagrams))
        self.assertEqual(self.ports.datagrams.dropped, 200 - len(datagrams))

    def test_agentLeaves(self) -> None:
        """The port is closed when the agent has left and with it all visits, and can be opened again."""
        self.asked(self.visitor())
        self.doors.links[0].a.abortConnection()
        self.until(lambda: not self.doors.visitors.visits)
        self.reactor.advance(0)
        datagramSocket(HERE, self.number).close()
        self.doors.attached("other", self.service)
        self.asked(self.visitor())

    def test_serviceLeaves(self) -> None:
        """
        A visit stays when its service goes; nobody new comes until another agent has the port, which it may at once.
        """
        visitor, late = self.visitor(), self.visitor()
        origin = self.asked(visitor)
        self.agent.offer(())
        self.doors.pump()
        self.reactor.advance(0)
        late.send(b"question")
        self.until(lambda: self.ports.datagrams.refused == 1)
        self.doors.attached("other", self.service)
        visitor.send(b"again")
        self.until(lambda: origin.received.endswith(b"again"))
        self.asked(late)

    def test_taken(self) -> None:
        """A port that another program has is said to be."""
        with datagramSocket() as other:
            service = Service(key="taken", kind="udp", port=other.getsockname()[1])
            agent = self.doors.attached("second", service)
        self.assertEqual(agent.statuses["taken"].code, "unavailable")
