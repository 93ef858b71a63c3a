"""
Tests for visitors: who is let in, who is joined, and how it ends.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocol
from twisted.logger import LogEvent, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.access import EVERYBODY, AccessRules
from gateway.domain.grant import EVERYTHING, Grant
from gateway.domain.limits import Ticket
from gateway.net.relay import RelaySettings
from gateway.service.server.attached import Visitor
from gateway.service.server.usage import RouteLimits
from gateway.testing import flowPair
from tests.net.sides import Peer
from tests.service.server.doorsfixture import SSH, Doors


class VisitorsTestCase(SynchronousTestCase):
    """
    Visitors of one service.
    """

    def start(self, **options: object) -> None:
        """A gateway with an agent."""
        self.doors = Doors(**options)  # type: ignore[arg-type]
        self.client = self.doors.attached("box", SSH)
        self.visitors = self.doors.visitors

    def setUp(self) -> None:
        self.start()

    def admit(self) -> Ticket:
        """A ticket."""
        ticket = self.visitors.admit("192.0.2.1", EVERYBODY, "port")
        assert ticket is not None
        return ticket

    def protocol(self, **options: object) -> IProtocol | None:
        """What goes on the connection of a visitor."""
        (route,) = self.doors.registry.routes.values()
        return self.visitors.visit(route, Visitor(None, None), self.admit(), **options)  # type: ignore[arg-type]

    def visit(self, **options: object) -> Peer:
        """Somebody comes."""
        peer, protocol = Peer(), self.protocol(**options)
        assert protocol is not None
        self.doors.links.append(flowPair(peer, protocol))
        self.doors.pump()
        return peer

    def value(self, name: str) -> float | None:
        """A figure of the metrics."""
        return self.doors.metrics._registry.get_sample_value(f"txgateway_{name}")

    def closed(self, events: object) -> LogEvent:
        """The line about the end of the only visit."""
        (event,) = [each for each in events if each.get("event") == "visit.closed"]  # type: ignore[attr-defined]
        found: LogEvent = event
        return found


class AdmissionTests(VisitorsTestCase):
    """
    L{Visitors.admit}.
    """

    def test_admits(self) -> None:
        """A visitor is counted until the ticket is given back."""
        ticket = self.admit()
        self.assertEqual(self.doors.admission.connections, 1)
        ticket.release()
        self.assertEqual(self.doors.admission.connections, 0)
        self.assertEqual(self.doors.metrics.connections.count("port"), 1)

    def test_rules(self) -> None:
        """Rules come first: who may not come is not counted."""
        rules = AccessRules.parse(["deny 192.0.2.0/24"])
        with capturedLogs() as events:
            self.assertIsNone(self.visitors.admit("192.0.2.1", rules, "port"))
        self.assertEqual(events[0]["reason"], "not-allowed")
        self.assertEqual(self.doors.admission.connections, 0)

    def test_limits(self) -> None:
        """An address has so many visitors, and one more is refused."""
        self.start(limits={"perAddress": 2})
        self.admit()
        self.admit()
        self.assertIsNone(self.visitors.admit("192.0.2.1", EVERYBODY, "port"))
        self.assertIsNotNone(self.visitors.admit("192.0.2.2", EVERYBODY, "port"))

    def test_draining(self) -> None:
        """Nobody is admitted while the gateway stops."""
        self.visitors.drain()
        self.assertIsNone(self.visitors.admit("192.0.2.1", EVERYBODY, "port"))


class VisitTests(VisitorsTestCase):
    """
    L{Visitors.visit}.
    """

    def test_joined(self) -> None:
        """A visit is there until both sides are gone, and the log tells of it."""
        with capturedLogs() as events:
            visitor = self.visit()
            origin = self.doors.originAccepts()
            visitor.transport.write(b"hello")
            self.doors.pump()
            origin.transport.write(b"worlds")
            self.doors.pump()
            self.assertEqual(len(self.visitors.visits), 1)
            self.assertEqual(self.value("sessions_opened_total"), 1)
            visitor.transport.loseConnection()
            self.doors.pump()
            origin.transport.loseConnection()
            self.doors.pump()
        self.assertEqual(self.visitors.visits, set())
        event = self.closed(events)
        self.assertEqual((event["cause"], event["up"], event["down"]), ("far-closed", 5, 6))
        self.assertEqual((event["place"], event["agent"]), ("tcp port 2222", "box"))
        self.assertEqual(self.doors.admission.connections, 0)

    def test_agentsFigures(self) -> None:
        """What was moved is counted for the agent, too."""
        visitor = self.visit()
        self.doors.originAccepts()
        visitor.transport.write(b"hello")
        self.doors.pump()
        visitor.transport.abortConnection()
        self.doors.pump()
        (session,) = self.doors.door.sessions
        self.assertEqual((session.facts().up, session.facts().down), (5, 0))

    def test_refused(self) -> None:
        """When nobody can be reached, what the door says is said, and then the connection is closed."""
        with capturedLogs() as events:
            visitor = self.visit(refusal=lambda error: f"sorry: {error.kind}".encode())
            self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
            self.doors.pump()
        self.assertEqual(visitor.received, b"sorry: refused")
        self.assertTrue(visitor.ended)
        visitor.transport.loseConnection()
        self.doors.pump()
        (event,) = [each for each in events if each.get("event") == "visit.failed"]
        self.assertIn("refused", event["problem"])
        self.assertEqual(self.visitors.visits, set())

    def test_refusedWhileSending(self) -> None:
        """Who is told so and goes on sending is not reset before it was read, but is cut off in the end."""
        visitor = self.visit(refusal=lambda error: b"sorry")
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        visitor.transport.write(b"more")
        self.doors.pump()
        self.assertEqual(visitor.received, b"sorry")
        near = self.doors.links[-1].b
        self.assertFalse(near.disconnected)
        self.doors.wait(2.25)
        self.assertTrue(near.aborted)
        self.assertEqual(self.visitors.visits, set())

    def test_refusedAfterTheEnd(self) -> None:
        """Who has sent all is told, and then the connection ends well."""
        visitor = self.visit(refusal=lambda error: b"sorry")
        visitor.transport.loseWriteConnection()
        self.doors.pump()
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        near = self.doors.links[-1].b
        self.assertEqual((visitor.received, near.disconnected, near.aborted), (b"sorry", True, False))
        self.assertEqual(self.visitors.visits, set())

    def test_refusedWithoutWords(self) -> None:
        """A door that has no words for it resets the connection."""
        visitor = self.visit()
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        assert visitor.reason is not None
        self.assertFalse(visitor.reason.check(ConnectionDone))

    def test_leavesWhileDialling(self) -> None:
        """Who leaves before the origin is there leaves nothing behind, at the agent neither."""
        visitor = self.visit()
        visitor.transport.abortConnection()
        self.doors.pump()
        self.assertEqual(self.visitors.visits, set())
        self.assertEqual(self.client.streams, 0)

    def test_idle(self) -> None:
        """A visit that ends for lack of bytes is reset: it may not look as if all had come."""
        visitor = self.visit(settings=RelaySettings(idleTimeout=60.0))
        self.doors.originAccepts()
        self.doors.wait(90)
        assert visitor.reason is not None
        self.assertFalse(visitor.reason.check(ConnectionDone))

    def test_secondReplica(self) -> None:
        """When an agent's replica cannot reach its origin, another one is tried, with all that the visitor has sent."""
        self.doors.attached("box", SSH, replica="b")
        visitor = self.visit()
        visitor.transport.write(b"hello")
        self.doors.pump()
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        self.assertEqual(len(self.doors.origins.attempts), 2)
        origin = self.doors.originAccepts()
        self.assertEqual(origin.received, b"hello")
        self.assertIsNone(visitor.reason)

    def test_end(self) -> None:
        """When the gateway stops, visits are cut off, and somebody who waits for the last one is told."""
        visitor = self.visit()
        self.doors.originAccepts()
        empty = self.visitors.empty()
        self.assertNoResult(empty)
        with capturedLogs() as events:
            self.visitors.end()
            self.doors.pump()
        self.successResultOf(empty)
        self.successResultOf(self.visitors.empty())
        self.assertIsNotNone(visitor.reason)
        self.assertEqual(self.closed(events)["cause"], "shutting-down")


class LimitTests(VisitorsTestCase):
    """
    What a route, and an agent, may take.
    """

    def test_connections(self) -> None:
        """A route has so many visitors; one more is refused until somebody leaves."""
        self.start(routeLimits=RouteLimits(connections=2))
        first = self.visit()
        self.visit()
        self.assertIsNone(self.protocol())
        first.transport.abortConnection()
        self.doors.pump()
        self.assertIsNotNone(self.protocol())

    def test_newPerSecond(self) -> None:
        """A route has so many new visitors in a second."""
        self.start(routeLimits=RouteLimits(newPerSecond=2))
        self.visit()
        self.visit()
        self.assertIsNone(self.protocol())
        self.doors.clock.advance(0.5)
        self.assertIsNotNone(self.protocol())

    def test_changed(self) -> None:
        """Other limits hold from now on, and do not forget who is there."""
        self.visit()
        self.visitors.limit(RouteLimits(connections=1, newPerSecond=1))
        self.assertIsNone(self.protocol())
        self.visitors.limit(RouteLimits(connections=2, newPerSecond=1))
        self.assertIsNotNone(self.protocol())
        self.assertIsNone(self.protocol())

    def rate(self, expected: int) -> None:
        """So many bytes of two visitors come through in a second."""
        visitors = [self.visit(), self.visit()]
        origins = []
        for attempt in self.doors.origins.attempts:
            origins.append(Peer())
            self.doors.links.append(attempt.accept(origins[-1]))
        self.doors.pump()
        for visitor in visitors:
            visitor.transport.write(bytes(500_000))
        self.doors.pump()
        before = sum(len(each.received) for each in origins)
        self.doors.wait(4)
        moved = sum(len(each.received) for each in origins) - before
        self.assertLess(moved / 4, expected * 1.5)
        self.assertGreater(moved / 4, expected * 0.5)

    def test_bytesOfRoute(self) -> None:
        """All visitors of a route together have a rate."""
        self.start(routeLimits=RouteLimits(bytesPerSecond=50_000))
        self.rate(50_000)

    def test_bytesOfAddress(self) -> None:
        """All visits from one address together have a rate, and those that come after a reload the new one."""
        self.start(routeLimits=RouteLimits(bytesPerSecondPerAddress=50_000))
        before = self.visitors.rateOf("203.0.113.7")
        self.assertIs(self.visitors.rateOf("203.0.113.7"), before)
        self.assertIsNot(self.visitors.rateOf("203.0.113.8"), before)
        self.rate(50_000)
        self.visitors.limit(RouteLimits(bytesPerSecondPerAddress=60_000))
        self.assertIsNot(self.visitors.rateOf("203.0.113.7"), before)

    def test_bytesOfAgent(self) -> None:
        """All streams of an agent together have a rate."""
        self.start(grant=Grant(EVERYTHING.hostnames, EVERYTHING.ports, bytesPerSecond=50_000))
        self.rate(50_000)

    def test_streamsOfAgent(self) -> None:
        """An agent has so many streams; one visitor more is turned away."""
        self.start(grant=Grant(EVERYTHING.hostnames, EVERYTHING.ports, streams=1))
        self.visit()
        second = self.visit(refusal=lambda error: str(error.kind).encode())
        self.assertEqual(second.received, b"agent-unavailable")

    def test_newOfAgent(self) -> None:
        """An agent has so many new streams in a second."""
        self.start(grant=Grant(EVERYTHING.hostnames, EVERYTHING.ports, newPerSecond=1))
        self.visit()
        second = self.visit(refusal=lambda error: str(error.kind).encode())
        self.assertEqual(second.received, b"agent-unavailable")
