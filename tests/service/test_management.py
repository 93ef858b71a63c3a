"""Tests for L{gateway.service.management}: one-shot tokens from Tabby Web's back end, and metrics."""

from dataclasses import dataclass, field

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from gateway.domain.tokens import MAX_TOKEN_LENGTH, OneShotTokens, hashToken
from gateway.net.websocket import WebSocketServerFactory
from gateway.service.listening import DoorFactory
from gateway.service.management import ManagementDoor
from gateway.service.metrics import Metrics
from gateway.testing import flowPair
from tests.service.tabby.tabbyfixture import GatewayTestCase, Visitor
from tests.websocketclient import Answer

ONE_SHOT = "VQKZJXWVKQZJWXVKQJZWXVKQ"


@dataclass
class ManagementFixture:
    """A management door with its port."""

    clock: Clock = field(default_factory=Clock)
    metrics: Metrics = field(default_factory=Metrics)
    onlyMetrics: bool = False

    def __post_init__(self) -> None:
        self.tokens = OneShotTokens(self.clock.seconds, capacity=2)
        door = ManagementDoor(None if self.onlyMetrics else self.tokens, self.metrics, clock=self.clock)
        self.factory = DoorFactory(door.arrive, WebSocketServerFactory(clock=self.clock), clock=self.clock)

    def arrive(self) -> Visitor:
        """A client that has not said anything."""
        server = self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 5000))
        assert server is not None
        client = Visitor(lambda: client.link.pump(), self.clock.seconds)
        client.link = flowPair(client, server)
        return client

    def connect(self) -> Visitor:
        """A client with a WebSocket."""
        client = self.arrive()
        client.upgrade()
        return client

    def get(self, path: str, method: str = "GET") -> Answer:
        """Ask for a page."""
        client = self.arrive()
        client.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return client.answer


class AuthorizeTests(GatewayTestCase):
    """The command authorize-client."""

    secrets = (ONE_SHOT,)

    def setUp(self) -> None:
        super().setUp()
        self.gateway = ManagementFixture()

    def test_authorizes(self) -> None:
        """The greeting, the command, an acknowledgement, a Close 1000; the token is good now."""
        client = self.gateway.connect()
        self.assertEqual(client.messages, [{"_": "hello", "version": 1}])
        client.say(_="authorize-client", token=ONE_SHOT)
        self.assertEqual(client.messages[1:], [{"_": "ok"}])
        self.assertEqual(client.closeCode, 1000)
        self.assertTrue(client.isGone)
        self.assertTrue(self.gateway.tokens.spend(hashToken(ONE_SHOT)))
        self.assertEqual(len(self.logged("management.authorised")), 1)
        self.assertEqual(self.gateway.clock.getDelayedCalls(), [])

    def test_sequenceOfTabbyWebsBackEnd(self) -> None:
        """
        It sends the command without reading our greeting, begins to close at once and reads nothing: the token is
        taken all the same.
        """
        client = self.gateway.connect()
        client.link.bToA.stalled = True
        command = client.codec.frame(1, b'{"_":"authorize-client","token":"%s"}' % ONE_SHOT.encode())
        client.write(command + client.codec.frame(8, b"\x03\xe8"))
        client.link.a.loseConnection()
        client.link.pump()
        self.assertEqual(len(self.gateway.tokens), 1)

    def test_everythingInOneSegment(self) -> None:
        """It may even come in one segment with the upgrade request."""
        client = self.gateway.arrive()
        command = client.codec.frame(1, b'{"_":"authorize-client","token":"%s"}' % ONE_SHOT.encode())
        client.write(client.codec.request() + command + client.codec.frame(8, b"\x03\xe8"))
        self.assertEqual(len(self.gateway.tokens), 1)

    def test_oneCommandAConnection(self) -> None:
        """A second command on one connection is not taken."""
        client = self.gateway.connect()
        client.answersClose = False
        client.say(_="authorize-client", token=ONE_SHOT)
        client.say(_="authorize-client", token="x")
        self.assertEqual(len(self.gateway.tokens), 1)
        self.gateway.clock.advance(10)
        self.assertEqual(self.logged("management.refused"), [])

    def test_missingTokenPoisonsNothing(self) -> None:
        """authorize-client without a token, or with an empty one, is expected-token, and authorises nobody."""
        for token in ({}, {"token": None}, {"token": ""}):
            client = self.gateway.connect()
            client.say(_="authorize-client", **token)
            self.assertError(client, "expected-token")
        self.assertEqual(len(self.gateway.tokens), 0)

    def test_unexpectedCommand(self) -> None:
        """Another command is unexpected-command."""
        for kind in ("hello", "connect", "authorise-client", ""):
            client = self.gateway.connect()
            client.say(_=kind)
            self.assertError(client, "unexpected-command")

    def test_malformedCommands(self) -> None:
        """What is not a message, or a token that is no text or too long, is invalid-message."""
        client = self.gateway.connect()
        client.say(_="authorize-client", token="x" * (MAX_TOKEN_LENGTH + 1))
        self.assertError(client, "invalid-message")
        for payload in (b"x", b"[]", b"null", b'{"_":"authorize-client","token":7}'):
            client = self.gateway.connect()
            client.sendText(payload)
            self.assertError(client, "invalid-message")

    def test_tooManyWaiting(self) -> None:
        """Tokens beyond the limit are refused with quota-exceeded; those that wait stay good."""
        for each in range(2):
            self.gateway.connect().say(_="authorize-client", token=f"{ONE_SHOT}{each}")
        client = self.gateway.connect()
        client.say(_="authorize-client", token=ONE_SHOT)
        self.assertError(client, "quota-exceeded")
        self.assertEqual(len(self.gateway.tokens), 2)

    def test_timeout(self) -> None:
        """A client that gives no command within its time is told so, not a moment earlier."""
        client = self.gateway.connect()
        self.gateway.clock.advance(9.9)
        client.link.pump()
        self.assertIsNone(client.error)
        self.gateway.clock.advance(0.1)
        client.link.pump()
        self.assertError(client, "handshake-timeout")

    def test_leavingEarly(self) -> None:
        """A client that leaves without a command leaves no timer behind, and no line in the log."""
        self.gateway.connect().vanish()
        self.assertEqual(self.gateway.clock.getDelayedCalls(), [])
        self.assertEqual(self.events, [])


class AdmissionTests(GatewayTestCase):
    """Connections beyond the limit."""

    def test_limit(self) -> None:
        """More than 200 at once are dropped unread, counted, and one line in the log; who leaves makes room."""
        gateway = ManagementFixture()
        clients = [gateway.arrive() for _ in range(200)]
        address = IPv4Address("TCP", "192.0.2.1", 5000)
        self.assertEqual([gateway.factory.buildProtocol(address) for _ in range(3)], [None] * 3)
        self.assertIn(b'txgateway_refused_total{reason="too-many-unauthenticated"} 3.0\n', gateway.metrics.render())
        self.assertEqual(len(self.logged("gateway.refused")), 1)
        clients[0].vanish()
        self.assertEqual(gateway.get("/healthz").status, 200)

    def test_everyEndMakesRoom(self) -> None:
        """However a connection ends, it is not counted any more."""
        gateway = ManagementFixture()
        for _ in range(201):
            gateway.get("/healthz")
            gateway.connect().say(_="nonsense")
            gateway.connect().vanish()
            gateway.arrive().write(b"\x16\x03\x01")
        self.assertEqual(self.logged("gateway.refused"), [])


class PageTests(GatewayTestCase):
    """Plain requests."""

    def test_metrics(self) -> None:
        """/metrics is in Prometheus' text format."""
        answer = ManagementFixture().get("/metrics")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, Metrics.CONTENT_TYPE))
        self.assertIn(b'txgateway_connections_total{listener="management"} 1.0\n', answer.body)

    def test_otherPages(self) -> None:
        """There is a health check, a 404 that says what there is, and a 405."""
        gateway = ManagementFixture()
        self.assertEqual(gateway.get("/healthz").body, b"ok\n")
        answer = gateway.get("/")
        self.assertEqual(answer.status, 404)
        self.assertIn(b"/metrics", answer.body)
        self.assertEqual(gateway.get("/metrics", "POST").headers["allow"], "GET, HEAD")

    def test_metricsListener(self) -> None:
        """A listener for metrics alone takes no tokens."""
        gateway = ManagementFixture(onlyMetrics=True)
        self.assertEqual(gateway.get("/metrics").status, 200)
        self.assertEqual(gateway.connect().answer.status, 404)

    def test_garbage(self) -> None:
        """TLS on a listener without is one line in the log, which says so."""
        client = ManagementFixture().arrive()
        client.write(b"\x16\x03\x01")
        (event,) = self.logged("management.failed")
        self.assertIn("https://", event["problem"])
