"""
Tests for looking whether origins work.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.targets import Target
from gateway.service.agent.config import HealthSection
from gateway.service.agent.health import HealthChecks
from gateway.service.agent.origins import Origin
from gateway.testing import FlowTransport
from tests.net.test_dial import DialReactor

ORIGIN = Origin("http", Target("127.0.0.1", 8080))
TCP = HealthSection(interval=10.0, rise=2, fall=3)
HTTP = HealthSection(kind="http", path="/healthz", interval=10.0, rise=1, fall=1)


class HealthTests(SynchronousTestCase):
    """
    L{HealthChecks}.
    """

    def setUp(self) -> None:
        self.reactor = DialReactor()
        self.changes = 0
        self.checks = HealthChecks(self.reactor, self.changed)  # type: ignore[arg-type]  # has no descriptors

    def changed(self) -> None:
        """Count."""
        self.changes += 1

    def looks(self) -> int:
        """How often an origin was looked at."""
        return len(self.reactor.tcpClients)

    def accept(self) -> FlowTransport:
        """The origin takes the connection."""
        factory: Any = self.reactor.tcpClients[-1][2]
        return FlowTransport(factory.buildProtocol(None))

    def refuse(self) -> None:
        """The origin is not there."""
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(self.reactor.connectors[-1], Failure(ConnectionRefusedError()))

    def page(self, answer: bytes) -> FlowTransport:
        """The origin answers with a page."""
        transport = self.accept()
        transport.deliver(answer)
        transport.pump()
        return transport

    def next(self) -> None:
        """The next look is due."""
        count = self.looks()
        self.reactor.advance(9.9)
        self.assertEqual(self.looks(), count)
        self.reactor.advance(0.2)
        self.assertEqual(self.looks(), count + 1)

    def test_thresholds(self) -> None:
        """It takes some bad answers in a row to become ill, and some good ones to become well."""
        self.checks.watch({"web": (ORIGIN, TCP)})
        for _ in range(2):
            self.refuse()
            self.next()
        self.assertTrue(self.checks.isHealthy("web"))
        self.accept()
        self.next()
        for _ in range(2):
            self.refuse()
            self.next()
        self.assertEqual((self.checks.isHealthy("web"), self.changes), (True, 0))
        self.refuse()
        self.assertEqual((self.checks.isHealthy("web"), self.changes), (False, 1))
        self.next()
        self.accept()
        self.assertFalse(self.checks.isHealthy("web"))
        self.next()
        self.accept()
        self.assertEqual((self.checks.isHealthy("web"), self.changes), (True, 2))

    def test_connection(self) -> None:
        """A connection that was made is ended at once."""
        self.checks.watch({"web": (ORIGIN, TCP)})
        transport = self.accept()
        transport.pump()
        self.assertTrue(transport.disconnected)

    def test_slow(self) -> None:
        """An origin that does not answer within the interval is as bad as none."""
        self.checks.watch({"web": (ORIGIN, HTTP)})
        transport = self.accept()
        self.reactor.advance(10.1)
        self.assertFalse(self.checks.isHealthy("web"))
        transport.pump()
        self.assertTrue(transport.disconnected)

    def test_page(self) -> None:
        """A page is asked for, and its status decides."""
        self.checks.watch({"web": (ORIGIN, HTTP)})
        transport = self.page(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertTrue(transport.disconnected)
        self.assertTrue(self.checks.isHealthy("web"))
        for answer, expected in (
            (b"HTTP/1.1 500 No\r\n\r\n", False),
            (b"HTTP/1.1 302 Found\r\n\r\n", True),
            (b"SSH-2.0-x\r\n\r\n", False),
            (b"HTTP/1.1 200 OK\r\n\r\nbody", True),
        ):
            self.next()
            self.page(answer)
            self.assertEqual(self.checks.isHealthy("web"), expected)

    def test_request(self) -> None:
        """The request is a whole one, and ends the connection."""
        self.checks.watch({"web": (ORIGIN, HTTP)})
        request = self.accept().written()
        self.assertTrue(request.startswith(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"))
        self.assertTrue(request.endswith(b"Connection: close\r\n\r\n"))

    def test_proxyProtocol(self) -> None:
        """An origin that wants a PROXY header is told that nobody is behind the connection."""
        self.checks.watch({"web": (Origin("http", ORIGIN.address, "v1"), HTTP)})
        self.assertTrue(self.accept().written().startswith(b"PROXY UNKNOWN\r\nGET "))

    def test_left(self) -> None:
        """An origin that leaves without an answer is ill."""
        self.checks.watch({"web": (ORIGIN, HTTP)})
        self.accept().deliverEOF()
        self.assertFalse(self.checks.isHealthy("web"))

    def test_unwatched(self) -> None:
        """What nobody looks at is well."""
        self.assertTrue(self.checks.isHealthy("web"))

    def test_watchAgain(self) -> None:
        """What is known of an origin that did not change stays known; what changed begins anew; the rest is over."""
        self.checks.watch({"web": (ORIGIN, HTTP), "old": (ORIGIN, HTTP)})
        for host, port, factory, _, _ in self.reactor.tcpClients[:2]:
            self.assertEqual((host, port), ("127.0.0.1", 8080))
            factory.clientConnectionFailed(self.reactor.connectors[0], Failure(ConnectionRefusedError()))
        self.assertFalse(self.checks.isHealthy("web"))
        self.checks.watch({"web": (ORIGIN, HTTP), "new": (ORIGIN, TCP)})
        self.assertFalse(self.checks.isHealthy("web"))
        self.assertTrue(self.checks.isHealthy("old"))
        self.assertEqual(self.looks(), 3)
        self.checks.watch({"web": (ORIGIN, TCP)})
        self.assertTrue(self.checks.isHealthy("web"))

    def test_stop(self) -> None:
        """To look at nothing leaves nothing behind."""
        self.checks.watch({"web": (ORIGIN, TCP)})
        self.checks.watch({})
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.checks.watch({"web": (ORIGIN, TCP)})
        self.refuse()
        self.checks.watch({})
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.changes, 0)
