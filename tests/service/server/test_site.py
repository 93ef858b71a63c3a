"""
Tests for what is at the gateway's own name.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.service.server.doorsfixture import OWN, Doors, TLSPeer

UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: gw.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n"
)
AGENT = b"Sec-WebSocket-Protocol: gateway.v1\r\n"


class SiteTests(SynchronousTestCase):
    """
    L{Site}.
    """

    def setUp(self) -> None:
        self.doors = Doors()

    def ask(self, request: bytes) -> TLSPeer:
        """Somebody sends a request to the gateway's own name."""
        visitor = self.doors.comeTLS(OWN, b"http/1.1")
        visitor.transport.write(request)
        self.doors.pump()
        return visitor

    def get(self, path: bytes) -> bytes:
        """The answer to a plain request."""
        return bytes(self.ask(b"GET %s HTTP/1.1\r\nHost: gw.example\r\n\r\n" % path).received)

    def test_pages(self) -> None:
        """There is little to see."""
        self.assertIn(b"200 OK", self.get(b"/"))
        self.assertIn(b"200 OK", self.get(b"/healthz"))
        self.assertIn(b"426 Upgrade Required", self.get(b"/agent"))
        self.assertIn(b"404 Not Found", self.get(b"/metrics"))
        post = self.ask(b"POST / HTTP/1.1\r\nHost: gw.example\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"405 Method Not Allowed", post.received)

    def test_drains(self) -> None:
        """The health check says that the gateway drains."""
        self.doors.door.drain(10.0)
        self.assertIn(b"503 Service Unavailable", self.get(b"/healthz"))

    def test_agent(self) -> None:
        """An agent opens a WebSocket, and is no visitor any more."""
        agent = self.ask(UPGRADE % (b"/agent", AGENT))
        self.assertIn(b"101 Switching Protocols", agent.received)
        self.assertIn(b"Sec-WebSocket-Protocol: gateway.v1", agent.received)
        self.assertEqual(self.doors.admission.connections, 0)
        self.doors.wait(10.25)
        self.assertIsNotNone(agent.reason, "no agent registered")

    def test_withoutSubprotocol(self) -> None:
        """Who does not offer the agents' protocol is refused."""
        self.assertIn(b"400 Bad Request", self.ask(UPGRADE % (b"/agent", b"")).received)

    def test_otherPath(self) -> None:
        """There is no WebSocket anywhere else."""
        self.assertIn(b"404 Not Found", self.ask(UPGRADE % (b"/other", AGENT)).received)

    def test_pagesMayNot(self) -> None:
        """A page in somebody's browser opens no WebSocket."""
        answer = self.ask(UPGRADE % (b"/agent", AGENT + b"Origin: https://evil.example\r\n")).received
        self.assertIn(b"403 Forbidden", answer)

    def test_full(self) -> None:
        """While the gateway takes no agents it says so."""
        self.doors.door.draining = True
        self.assertIn(b"503 Service Unavailable", self.ask(UPGRADE % (b"/agent", AGENT)).received)
