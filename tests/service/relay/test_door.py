"""Tests for L{gateway.service.relay.door}: who is connected, when, and what is said about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.muxstream import MuxAddress
from gateway.net.relay import Outcome, RelaySettings
from gateway.net.stdio import StandardIOAddress
from gateway.net.tlsclient import TrustError
from gateway.service.relay.door import SHUTDOWN, RelayDoor, visitorName
from gateway.testing import FlowEndpoint, FlowLink, flowPair
from tests.net.sides import Peer

ADDRESS = IPv4Address("TCP", "192.0.2.7", 1234)


class DoorTestCase(SynchronousTestCase):
    """A door, visitors, and whom they are connected to."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = FlowEndpoint()
        self.ended: list[tuple[Outcome, str]] = []
        self.links: list[FlowLink] = []
        capture = capturedLogs()
        self.logged: Sequence[LogEvent] = capture.__enter__()
        self.addCleanup(capture.__exit__, None, None, None)

    def door(self, **options: Any) -> RelayDoor:
        """A door."""

        def ended(outcome: Outcome, problem: str) -> None:
            self.ended.append((outcome, problem))

        return RelayDoor(
            self.clock, self.endpoint, "tcp:origin:1", settings=RelaySettings(dialTimeout=5), ended=ended, **options
        )

    def visit(self, door: RelayDoor, address: IAddress = ADDRESS, **options: Any) -> Peer:
        """A visitor; see C{links} for the connection."""
        half = door.buildProtocol(address)
        assert half is not None
        visitor = Peer()
        self.links.append(flowPair(visitor, half, **options))
        return visitor

    def accept(self, number: int = 0) -> Peer:
        """Let a dial succeed."""
        origin = Peer()
        self.links.append(self.endpoint.attempts[number].accept(origin))
        return origin

    def pump(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(5):
            for link in self.links:
                link.pump()

    def events(self, prefix: str = "relay.") -> list[LogEvent]:
        """What was logged of the door's own events."""
        return [event for event in self.logged if str(event.get("event")).startswith(prefix)]


class RelayTests(DoorTestCase):
    """One visitor."""

    def test_joined(self) -> None:
        """A visitor is connected, bytes go both ways, and the end is one line with the facts."""
        visitor = self.visit(self.door())
        origin = self.accept()
        visitor.transport.write(b"question")
        origin.transport.write(b"the answer")
        self.pump()
        self.assertEqual((origin.received, visitor.received), (b"question", b"the answer"))
        self.clock.advance(2.5)
        origin.transport.loseConnection()
        self.pump()
        visitor.transport.loseConnection()
        self.pump()
        (event,) = self.events()
        facts = {key: event[key] for key in ("event", "visitor", "to", "cause", "up", "down", "seconds")}
        self.assertEqual(
            facts,
            {
                "event": "relay.closed",
                "visitor": "192.0.2.7",
                "to": "tcp:origin:1",
                "cause": "near-closed",
                "up": 8,
                "down": 10,
                "seconds": 2.5,
            },
        )
        self.assertEqual(self.ended, [(Outcome("near-closed", 8, 10, 2.5), "")])

    def test_interactive(self) -> None:
        """Small pieces are not held back on TCP, and a peer that vanished is found."""
        self.visit(self.door())
        self.accept()
        for transport in (self.links[0].b, self.links[1].a):
            self.assertTrue(transport.getTcpNoDelay())
            self.assertTrue(transport.getTcpKeepAlive())

    def test_nobodyThere(self) -> None:
        """When the dial fails, the visitor is cut off, and one line says why."""
        door = self.door()
        visitor = self.visit(door)
        self.endpoint.attempts[0].fail(ConnectionRefusedError())
        self.pump()
        assert visitor.reason is not None
        self.assertEqual(type(visitor.reason.value).__name__, "ConnectionLost")
        (event,) = self.events()
        self.assertEqual((event["event"], event["log_level"]), ("relay.dial-failed", LogLevel.warn))
        self.assertIn("refused", event["problem"])
        self.assertEqual(
            [(outcome.cause, problem) for outcome, problem in self.ended], [("dial-failed", event["problem"])]
        )
        self.assertEqual(door.sessions, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_badCertificate(self) -> None:
        """One that is not believed once the connection stands is as a dial that fails; later trouble is a reset."""
        for received, event in ((b"", "relay.dial-failed"), (b"x", "relay.closed")):
            visitor = self.visit(self.door())
            half = self.endpoint.attempts[-1].accept(Peer()).a.protocol
            half.dataReceived(received)
            half.connectionLost(Failure(TrustError("The server's certificate has expired.")))
            self.pump()
            self.assertIsNotNone(visitor.reason)
            self.assertEqual(self.events()[-1]["event"], event)
        self.assertEqual([problem for _, problem in self.ended], ["The server's certificate has expired.", ""])

    def test_defect(self) -> None:
        """An endpoint that fails in an unheard-of way costs its visitor, and no more."""

        class Broken(FlowEndpoint):
            def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
                return fail(ZeroDivisionError())

        self.endpoint = Broken()
        visitor = self.visit(self.door())
        self.pump()
        self.assertIsNotNone(visitor.reason)
        self.assertEqual(len(self.events("relay.dial-failed")), 1)

    def test_visitorLeavesWhileDialling(self) -> None:
        """A visitor who leaves cancels the dial; that is the one line."""
        visitor = self.visit(self.door())
        visitor.transport.abortConnection()
        self.pump()
        self.assertTrue(self.endpoint.attempts[0].cancelled)
        self.assertEqual([event["cause"] for event in self.events()], ["near-reset"])

    def test_names(self) -> None:
        """Logs call a visitor by address, that of the carrier for a stream."""
        for address, name in (
            (ADDRESS, "192.0.2.7"),
            (MuxAddress("", 1, MuxAddress("", 3, ADDRESS)), "192.0.2.7"),
            (UNIXAddress(None), "unix"),
            (StandardIOAddress(), "stdio:"),
            (None, "unix"),
        ):
            self.assertEqual(visitorName(address), name)


class HandshakeTests(DoorTestCase):
    """A visitor who comes by TLS."""

    def test_dialsAfterTheHandshake(self) -> None:
        """Nobody is dialled before the handshake is done, in which a certificate may be asked for."""
        self.visit(self.door(), tlsManners=True)
        self.assertEqual(self.endpoint.attempts, [])
        self.links[0].b.protocol.handshakeCompleted()  # type: ignore[attr-defined]  # as TLSMemoryBIOProtocol does
        self.accept()
        self.clock.advance(100)
        self.pump()
        self.assertEqual(self.ended, [])

    def test_timeout(self) -> None:
        """A visitor who takes longer for it than a dial may is cut off, at that time and not before."""
        door = self.door()
        self.visit(door, tlsManners=True)
        self.clock.advance(4.75)
        self.pump()
        self.assertEqual(len(door.sessions), 1)
        self.clock.advance(0.25)
        self.pump()
        self.assertEqual(door.sessions, set())
        self.assertEqual((self.endpoint.attempts, self.clock.getDelayedCalls()), ([], []))

    def test_leaves(self) -> None:
        """One who leaves before it is done leaves nothing behind."""
        door = self.door()
        visitor = self.visit(door, tlsManners=True)
        visitor.transport.abortConnection()
        self.pump()
        self.assertEqual(door.sessions, set())
        self.assertEqual((self.endpoint.attempts, self.clock.getDelayedCalls()), ([], []))


class ManyTests(DoorTestCase):
    """Many visitors."""

    def test_limit(self) -> None:
        """One too many is refused, which is told at once and then summed up; one who left makes room."""
        door = self.door(maxConnections=2)
        first = self.visit(door)
        self.visit(door)
        for _ in range(3):
            self.assertIsNone(door.buildProtocol(ADDRESS))
        self.assertEqual([event["reason"] for event in self.events("gateway.refused")], ["max-connections"])
        self.clock.advance(10)
        self.assertEqual(self.events("gateway.refused-more")[0]["count"], 2)
        first.transport.abortConnection()
        self.pump()
        self.visit(door)

    def test_empty(self) -> None:
        """It can be waited for that the last one leaves."""
        door = self.door()
        self.successResultOf(door.vacancy.awaited())
        first, second = self.visit(door), self.visit(door)
        waiting = door.vacancy.awaited()
        first.transport.abortConnection()
        self.pump()
        self.assertNoResult(waiting)
        second.transport.abortConnection()
        self.pump()
        self.successResultOf(waiting)

    def test_end(self) -> None:
        """Everybody can be sent home with all that was written to them."""
        door = self.door()
        visitor = self.visit(door)
        origin = self.accept()
        origin.transport.write(b"last words")
        self.pump()
        door.end()
        self.pump()
        self.assertEqual(visitor.received, b"last words")
        self.assertTrue(visitor.ended)
        visitor.transport.loseConnection()
        self.pump()
        self.assertEqual([outcome.cause for outcome, _ in self.ended], [SHUTDOWN])

    def test_abort(self) -> None:
        """Whoever does not take that is cut off, and nothing is left on the clock."""
        door = self.door(maxConnections=1)
        self.visit(door)
        origin = self.accept()
        self.assertIsNone(door.buildProtocol(ADDRESS))
        self.links[0].bToA.stalled = True
        origin.transport.write(b"unread")
        self.pump()
        door.end()
        self.pump()
        self.assertEqual(len(door.sessions), 1)
        door.abort()
        self.pump()
        self.assertEqual(door.sessions, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])
