"""
Tests for the management listener of a gateway.
"""

from __future__ import annotations

from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.tokens import hashToken
from gateway.net.websocket import WebSocketServerFactory
from gateway.service.listening import DoorFactory
from gateway.service.server.dashboard import MAX_CONNECTIONS, Dashboard
from gateway.testing import flowPair
from gateway.wire.http1 import RequestHead, Response
from tests.net.sides import Peer
from tests.service.server.doorsfixture import WEB, Doors

PASSWORD = "tr0ub4dor"


class DashboardTests(SynchronousTestCase):
    """
    L{Dashboard}.
    """

    def setUp(self) -> None:
        self.doors = Doors()
        self.start()

    def start(self, **options: object) -> None:
        """A listener."""
        self.dashboard = Dashboard(self.doors.door, self.doors.metrics, clock=self.doors.clock, **options)  # type: ignore[arg-type]

    def get(self, path: str, host: str = "localhost:9080", method: str = "GET", **headers: str) -> Response:
        """The answer to a request."""
        every = [("host", host), *headers.items()]
        return self.dashboard.page(RequestHead(method, path, "1.1", every))

    def test_pages(self) -> None:
        """There are a page, metrics, and two checks."""
        for path in ("/", "/metrics", "/healthz", "/readyz"):
            self.assertEqual(self.get(path).status, 200, path)
        self.assertEqual(self.get("/other").status, 404)
        self.assertEqual(self.get("/", method="POST").status, 405)
        self.assertIn(b"txgateway_", self.get("/metrics").body)

    def test_sessions(self) -> None:
        """The page shows who is here, what they serve, and when they last answered."""
        self.doors.attached("box", WEB)
        self.doors.wait(6)
        page = self.get("/").body.decode()
        self.assertIn("Sessions: 1, visitors: 0", page)
        for text in ("<td>box</td>", "<td>192.0.2.7</td>", "app.example.com", "1 s ago"):
            self.assertIn(text, page)

    def test_draining(self) -> None:
        """A gateway that stops is up, but not ready."""
        self.doors.door.drain(10.0)
        self.assertEqual(self.get("/healthz").status, 200)
        self.assertEqual(self.get("/readyz").status, 503)

    def test_foreignHost(self) -> None:
        """A page that found out about it by DNS rebinding gets nothing, whatever it asks for."""
        for path in ("/", "/metrics", "/healthz"):
            self.assertEqual(self.get(path, "evil.example").status, 403)
        for host in ("127.0.0.1", "[::1]:9080", "LOCALHOST"):
            self.assertEqual(self.get("/", host).status, 200)

    def test_hosts(self) -> None:
        """Other names may be allowed."""
        self.start(hosts=("gw.internal",))
        self.assertEqual(self.get("/", "gw.internal").status, 200)

    def test_password(self) -> None:
        """With a password, who does not know it sees whether the gateway is up, and no more."""
        self.start(passwordHash=hashToken(PASSWORD))
        for wrong in ("", "Basic", "Basic !", "Bearer x", "Basic " + b64encode(b"admin:wrong").decode()):
            answer = self.get("/metrics", authorization=wrong)
            self.assertEqual(answer.status, 401)
            self.assertIn("WWW-Authenticate", dict(answer.headers))
        right = "Basic " + b64encode(f"anybody:{PASSWORD}".encode()).decode()
        self.assertEqual(self.get("/metrics", authorization=right).status, 200)
        self.assertEqual(self.get("/healthz").status, 200)

    def test_connections(self) -> None:
        """Over a connection it is the same; there is no WebSocket, and not more than so many connections."""
        websockets = WebSocketServerFactory(clock=self.doors.clock)
        factory = DoorFactory(self.dashboard.arrive, websockets, clock=self.doors.clock)
        for request, status in (
            (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200 OK"),
            (
                b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                b"404 Not Found",
            ),
            (b"nonsense\r\n\r\n", b"400 Bad Request"),
        ):
            client, server = Peer(), factory.buildProtocol(None)
            assert server is not None
            link = flowPair(client, server)
            client.transport.write(request)
            link.pump()
            self.assertIn(status, client.received)
            client.transport.abortConnection()
            link.pump()
        visits = [self.dashboard.arrive("127.0.0.1") for _ in range(MAX_CONNECTIONS)]
        self.assertIsNone(self.dashboard.arrive("127.0.0.1"))
        assert visits[0] is not None
        visits[0].left()
        self.assertIsNotNone(self.dashboard.arrive("127.0.0.1"))
