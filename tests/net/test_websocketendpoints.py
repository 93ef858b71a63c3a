"""
Tests for L{gateway.net.websocketendpoints}: protocols on WebSockets, as on any other transport. That a relay keeps its
promises over them is tested in L{tests.net.test_relaypairs}.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IStreamTransport
from gateway.net.websocketclient import WebSocketRefused
from gateway.net.websocketendpoints import WebSocketClientEndpoint, WebSocketServerEndpoint
from gateway.net.websocketlimits import WebSocketSettings
from gateway.testing import FlowEndpoint, FlowLink, FlowTransport
from gateway.wire.upgraderequest import WebSocketRequest
from tests.net.sides import pattern
from tests.net.websocketserving import close, frame
from tests.websocketclient import BINARY, CLOSE, TEXT, Frame, WebSocketClient
from tests.websocketserver import WebSocketServer

SETTINGS = WebSocketSettings(pingInterval=0)


class Recorder(Protocol):
    """Records what it is told. The data C{"close"} and C{"abort"} make it do so."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.reasons: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        """Record data, and do what it says."""
        assert not self.reasons, "data after the end"
        self.received += data
        if data == b"close":
            self.transport.loseConnection()
        if data == b"abort":
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record the end."""
        self.reasons.append(reason)

    def end(self) -> Any:
        """How it ended, once."""
        (reason,) = self.reasons
        return reason.type


class Recorders(Factory):
    """
    Makes protocols.

    @ivar made: all of them.
    @ivar running: whether it is started.
    """

    noisy = False

    def __init__(self, protocol: Any = Recorder) -> None:
        self.made: list[Any] = []
        self.addresses: list[IAddress | None] = []
        self.running = False
        self._protocol = protocol

    def startFactory(self) -> None:
        """Record it."""
        self.running = True

    def stopFactory(self) -> None:
        """Record it."""
        self.running = False

    def buildProtocol(self, address: IAddress | None) -> Any:
        """Make one."""
        assert self.running
        protocol = self._protocol()
        self.made.append(protocol)
        self.addresses.append(address)
        return protocol


class Server(Protocol):
    """A server that sends what it is told to."""

    transport: Any

    def __init__(self) -> None:
        self.codec = WebSocketServer()
        self.frames: list[Frame] = []

    def dataReceived(self, data: bytes) -> None:
        """Record frames."""
        self.frames += self.codec.receive(data)


class ClientTests(SynchronousTestCase):
    """L{WebSocketClientEndpoint} connects."""

    def setUp(self) -> None:
        """Dial, and let the carrier connect."""
        self.clock = Clock()
        self.carrier = FlowEndpoint()
        self.factory = Recorders()
        self.endpoint = WebSocketClientEndpoint(
            self.clock, self.carrier, WebSocketRequest("gw.test"), settings=SETTINGS
        )
        self.server = Server()

    def connect(self) -> tuple[Deferred[IProtocol], FlowLink]:
        """Connect the carrier, and send the request."""
        connected = self.endpoint.connect(self.factory)
        link = self.carrier.attempts[-1].accept(self.server)
        link.pump()
        self.assertNoResult(connected)
        return connected, link

    def open(self, more: bytes = b"") -> tuple[Recorder, FlowLink]:
        """Open the WebSocket."""
        connected, link = self.connect()
        self.server.transport.write(self.server.codec.acceptance() + more)
        link.pump()
        protocol = self.successResultOf(connected)
        assert isinstance(protocol, Recorder)
        return protocol, link

    def failure(self, connected: Deferred[IProtocol]) -> DialFailed:
        """Why it did not come to a WebSocket. The factory was not asked, and nothing is left."""
        failed: DialFailed = self.failureResultOf(connected, DialFailed).value
        self.assertEqual((self.factory.made, self.factory.running), ([], False))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return failed

    def test_interfaces(self) -> None:
        """It is an endpoint, and what it gives a protocol is a transport."""
        verifyClass(IStreamClientEndpoint, WebSocketClientEndpoint)
        protocol, _ = self.open()
        verifyObject(IStreamTransport, protocol.transport)

    def test_stream(self) -> None:
        """Bytes go both ways, the first of them with the answer, and the factory gets the carrier's address."""
        protocol, link = self.open(frame(BINARY, b"early ") + frame(BINARY, b"bird", final=False))
        self.assertEqual(protocol.received, b"early bird")
        self.assertEqual(self.factory.addresses, [self.carrier.address])
        protocol.transport.write(pattern(200_000))
        protocol.transport.writeSequence([b"a", b"b"])
        link.pump()
        self.assertEqual({each.opcode for each in self.server.frames}, {BINARY})
        self.assertEqual(b"".join(each.payload for each in self.server.frames), pattern(200_000) + b"ab")

    def test_isOpenBeforeAnybodyKnows(self) -> None:
        """A protocol is connected before the one who waits gets it, and may write at once."""

        class Eager(Recorder):
            def connectionMade(self) -> None:
                self.transport.write(b"hello")

        self.factory = Recorders(Eager)
        _, link = self.open()
        link.pump()
        self.assertEqual(self.server.frames, [Frame(BINARY, b"hello")])

    def test_closedByUs(self) -> None:
        """C{loseConnection} makes the closing handshake; the end is clean, and stops the factory."""
        protocol, link = self.open()
        self.assertTrue(self.factory.running)
        self.assertFalse(protocol.transport.disconnecting)
        protocol.transport.write(b"last")
        protocol.transport.loseConnection()
        self.assertTrue(protocol.transport.disconnecting)
        link.pump()
        self.assertEqual(self.server.frames, [Frame(BINARY, b"last"), Frame(CLOSE, b"\x03\xe8")])
        self.server.transport.write(close(1000))
        link.pump()
        self.assertIs(protocol.end(), ConnectionDone)
        self.assertFalse(self.factory.running)

    def test_closedByTheServer(self) -> None:
        """A Close is a clean end."""
        protocol, _ = self.open(frame(BINARY, b"last") + close(1001))
        self.assertEqual(protocol.received, b"last")
        self.assertIs(protocol.end(), ConnectionDone)

    def test_truncated(self) -> None:
        """Without a closing handshake no end is clean."""
        for end in (FlowTransport.loseConnection, FlowTransport.abortConnection):
            protocol, link = self.open()
            end(self.server.transport)
            link.pump()
            self.assertIs(protocol.end(), ConnectionLost)
            self.server = Server()

    def test_closesAtOnce(self) -> None:
        """A protocol that closes as soon as it is connected gets nothing of what came with the answer."""

        class Shy(Recorder):
            def connectionMade(self) -> None:
                self.transport.loseConnection()

        self.factory = Recorders(Shy)
        protocol, _ = self.open(frame(BINARY, b"hello"))
        self.assertEqual(protocol.received, b"")

    def test_text(self) -> None:
        """A server that sends text is told that this is a byte stream, and the end is not clean."""
        protocol, link = self.open(frame(BINARY, b"good") + frame(TEXT, b"bad") + frame(BINARY, b"bad"))
        link.pump()
        self.assertEqual(protocol.received, b"good")
        self.assertEqual(self.server.frames[0].payload[:2], b"\x03\xeb")
        self.assertIs(protocol.end(), ConnectionLost)
        self.server.transport.write(close(1003))
        link.pump()
        self.assertEqual(len(protocol.reasons), 1)

    def test_protocolThatBecomesAnother(self) -> None:
        """A protocol may replace its C{dataReceived} while it lives."""
        protocol, link = self.open(frame(BINARY, b"one"))
        other = bytearray()
        setattr(protocol, "dataReceived", other.extend)  # noqa: B010 -- mypy will not have a method assigned to
        self.server.transport.write(frame(BINARY, b"two"))
        link.pump()
        self.assertEqual((protocol.received, other), (b"one", b"two"))

    def test_carrierFails(self) -> None:
        """What the carrier failed with is told in the words of a dial."""
        connected = self.endpoint.connect(self.factory)
        self.carrier.attempts[0].fail(ConnectionRefusedError())
        self.assertEqual(self.failure(connected).kind, DialFailure.REFUSED)

    def test_refused(self) -> None:
        """A server that answers something else is told of with its status."""
        connected, link = self.connect()
        self.server.transport.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        link.pump()
        failure = self.failure(connected)
        assert isinstance(failure, WebSocketRefused)
        self.assertEqual((failure.kind, failure.status), (DialFailure.REFUSED, 404))

    def test_timeout(self) -> None:
        """A server that does not answer is left after the handshake's timeout."""
        connected, link = self.connect()
        self.clock.advance(SETTINGS.handshakeTimeout)
        link.pump()
        self.assertEqual(self.failure(connected).kind, DialFailure.TIMEOUT)

    def test_cancelWhileDialling(self) -> None:
        """An attempt may be cancelled while the carrier dials."""
        connected = self.endpoint.connect(self.factory)
        connected.cancel()
        self.assertTrue(self.carrier.attempts[0].cancelled)
        self.failureResultOf(connected, CancelledError)

    def test_cancelledTooLate(self) -> None:
        """A carrier that connects although it was cancelled gets no protocol."""
        connected = self.endpoint.connect(self.factory)
        connected.cancel()
        self.failureResultOf(connected, CancelledError)
        self.assertIsNone(self.carrier.attempts[0].factory.buildProtocol(self.carrier.address))

    def test_cancelWhileOpening(self) -> None:
        """An attempt may be cancelled while the server thinks: the connection is cut off, and an answer comes too late."""
        connected, link = self.connect()
        self.server.transport.write(self.server.codec.acceptance())
        connected.cancel()
        self.failureResultOf(connected, CancelledError)
        link.pump()
        self.assertTrue(link.a.aborted)
        self.assertEqual(self.factory.made, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_factoryRefuses(self) -> None:
        """A factory that gives no protocol, or raises, fails the attempt, and the connection is cut off."""
        for made, error in ((lambda: None, NoProtocol), (lambda: 1 // 0, ZeroDivisionError)):
            self.factory, self.server = Recorders(made), Server()
            connected, link = self.connect()
            self.server.transport.write(self.server.codec.acceptance())
            link.pump()
            self.failureResultOf(connected, error)
            self.assertTrue(link.a.aborted)
            self.assertFalse(self.factory.running)

    def test_oneTimerForAll(self) -> None:
        """All connections of an endpoint share one timer for their pings, which ends with the last."""
        self.endpoint = WebSocketClientEndpoint(self.clock, self.carrier, WebSocketRequest("gw.test"))
        _, link = self.open()
        self.server = Server()
        _, other = self.open()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        for each in (link, other):
            each.b.abortConnection()
            each.pump()
        self.assertEqual(self.clock.getDelayedCalls(), [])


@implementer(IStreamServerEndpoint)
class Inner:
    """Remembers who listens."""

    factory: IProtocolFactory

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Remember."""
        self.factory = protocolFactory
        protocolFactory.doStart()
        return Deferred()


class ServerTests(SynchronousTestCase):
    """L{WebSocketServerEndpoint} listens."""

    def setUp(self) -> None:
        """Listen."""
        self.clock = Clock()
        self.factory = Recorders()
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def request(
        self, path: str = "/agent", *, endpoint: dict[str, Any] | None = None, **headers: str
    ) -> WebSocketClient:
        """@return: a client after its request."""
        inner = Inner()
        arguments = {"path": "/agent", "settings": SETTINGS, **(endpoint or {})}
        WebSocketServerEndpoint(self.clock, inner, **arguments).listen(self.factory)
        self.inner = inner
        protocol = inner.factory.buildProtocol(FlowEndpoint().address)
        assert protocol is not None
        self.transport = FlowTransport(protocol)
        self.client = WebSocketClient()
        self.frames: list[Frame] = []
        self.send(WebSocketClient.request(path, **headers))
        return self.client

    def send(self, data: bytes) -> None:
        """Send bytes, and take what comes back."""
        self.transport.deliver(data)
        while written := self.transport.takeWritten():
            self.frames += self.client.receive(written)

    def status(self, *arguments: Any, **headers: Any) -> int:
        """The status of the answer to a request. Only a WebSocket makes a protocol."""
        answer = self.request(*arguments, **headers).answer
        assert answer is not None
        self.assertEqual(bool(self.factory.made), answer.status == 101)
        self.factory.made.clear()
        return answer.status

    def problems(self) -> list[str]:
        """What was logged about those who came in vain."""
        return [each["problem"] for each in self.events if each.get("event") == "websocket.refused"]

    def test_interfaces(self) -> None:
        """It is an endpoint, and what it gives a protocol is a transport."""
        verifyClass(IStreamServerEndpoint, WebSocketServerEndpoint)
        self.request()
        verifyObject(IStreamTransport, self.factory.made[0].transport)

    def test_stream(self) -> None:
        """A WebSocket is a connection of the factory, and bytes go both ways."""
        self.request("/agent?some=query")
        (protocol,) = self.factory.made
        self.assertEqual(self.factory.addresses, [FlowEndpoint().address])
        self.send(WebSocketClient.frame(BINARY, b"one") + WebSocketClient.frame(BINARY, b"two"))
        self.assertEqual(protocol.received, b"onetwo")
        protocol.transport.write(pattern(100_000))
        self.send(b"")
        self.assertEqual(b"".join(each.payload for each in self.frames), pattern(100_000))
        self.send(WebSocketClient.frame(CLOSE, b"\x03\xe8"))
        self.assertIs(protocol.end(), ConnectionDone)
        self.assertEqual(self.problems(), [])

    def test_end(self) -> None:
        """A protocol may close and abort."""
        self.request()
        self.send(WebSocketClient.frame(BINARY, b"close"))
        self.assertEqual(self.frames, [Frame(CLOSE, b"\x03\xe8")])
        self.request()
        self.send(WebSocketClient.frame(BINARY, b"abort"))
        self.assertIs(self.factory.made[1].end(), ConnectionAborted)

    def test_text(self) -> None:
        """A client that sends text is told that this is a byte stream, and the end is not clean."""
        self.request()
        self.send(WebSocketClient.frame(BINARY, b"good") + WebSocketClient.frame(TEXT, b"bad"))
        self.assertEqual(self.frames[0].payload[:2], b"\x03\xeb")
        self.send(WebSocketClient.frame(CLOSE, b"\x03\xeb"))
        self.assertEqual(self.factory.made[0].received, b"good")
        self.assertIs(self.factory.made[0].end(), ConnectionLost)

    def test_otherRequests(self) -> None:
        """Other paths do not exist, and at this one a page is told to be a WebSocket."""
        for path in ("/", "/agent/", "/Agent", "/other"):
            self.assertEqual(self.status(path), 404)
            self.assertEqual(self.status(path, Upgrade="", Connection=""), 404)
        self.assertEqual(self.status(Upgrade="", Connection=""), 426)
        assert self.client.answer is not None
        self.assertEqual(self.client.answer.headers["upgrade"], "websocket")

    def test_origin(self) -> None:
        """No page of a web site may connect, but those of the origins that are named."""
        for origins, origin, status in (
            ((), "", 101),
            ((), "https://app.example", 403),
            ((), "null", 403),
            (("https://app.example",), "https://app.example", 101),
            (("https://app.example",), "https://app.example.evil", 403),
            (("https://app.example",), "http://app.example", 403),
        ):
            self.assertEqual(self.status(endpoint={"origins": origins}, Origin=origin), status, origin)
        self.assertEqual(len(self.problems()), 4)
        self.assertIn("Origin", self.problems()[0])

    def test_subprotocol(self) -> None:
        """With subprotocols, a client must offer one of them, and is told which was chosen."""
        spoken = {"subprotocols": ("gateway.v1",)}
        self.assertEqual(self.status(endpoint=spoken, Sec_WebSocket_Protocol="chat, gateway.v1"), 101)
        assert self.client.answer is not None
        self.assertEqual(self.client.answer.headers["sec-websocket-protocol"], "gateway.v1")
        for offers in ("", "chat"):
            self.assertEqual(self.status(endpoint=spoken, Sec_WebSocket_Protocol=offers), 400)
            self.assertIn(b"gateway.v1", self.client.answer.body if self.client.answer else b"")
        self.assertEqual(self.status("/other", endpoint=spoken), 404)
        self.assertEqual(len(self.problems()), 2)

    def test_factoryRefuses(self) -> None:
        """When the factory gives no protocol, the client is told to come later."""
        self.factory = Recorders(lambda: None)
        answer = self.request().answer
        assert answer is not None
        self.assertEqual(answer.status, 503)

    def test_badRequest(self) -> None:
        """Who breaks a rule is answered and logged, by address and without what was sent."""
        self.assertEqual(self.status(Sec_WebSocket_Key="s3cret"), 400)
        self.assertIn("Sec-Websocket-Key", self.problems()[0])
        self.assertNotIn("s3cret", self.problems()[0])
        self.assertEqual(self.events[-1]["visitor"], FlowEndpoint().address.host)

    def test_leavesOrWaits(self) -> None:
        """Of who leaves without a request nothing is logged; of who keeps a connection without one there is."""
        for part in ("deliverEOF", "deliverReset", "time"):
            self.request(Upgrade="", Connection="")
            protocol = self.inner.factory.buildProtocol(FlowEndpoint().address)
            assert protocol is not None
            transport = FlowTransport(protocol)
            if part == "time":
                self.clock.advance(SETTINGS.handshakeTimeout)
                transport.pump()
            else:
                getattr(transport, part)()
            self.assertTrue(transport.disconnected)
            self.assertEqual(len(self.problems()), part == "time")
        self.assertIn("too long", self.problems()[0])

    def test_maxOpening(self) -> None:
        """
        As many connections as are allowed may have no WebSocket yet, and the next one is closed, which is said once in a
        flood; who has one, or leaves, makes room.
        """
        self.request(endpoint={"maxOpening": 2})

        def arrive() -> FlowTransport | None:
            protocol = self.inner.factory.buildProtocol(FlowEndpoint().address)
            return None if protocol is None else FlowTransport(protocol)

        for _ in range(3):
            first, second = arrive(), arrive()
            assert first is not None and second is not None
            self.assertIsNone(arrive())
            second.deliverEOF()
            third = arrive()
            assert third is not None
            self.assertIsNone(arrive())
            third.deliver(WebSocketClient.request("/agent"))
            first.deliver(WebSocketClient.request("/other"))
            self.assertTrue(first.takeWritten().startswith(b"HTTP/1.1 404 "))
            first.pump()
            self.assertTrue(first.disconnected)
        limits = [each["limit"] for each in self.events if each.get("event") == "websocket.flooded"]
        self.assertEqual(limits, [2, 2, 2])
        self.assertEqual(len(self.factory.made), 4)

    def test_starting(self) -> None:
        """The factory is started and stopped with the port."""
        self.request()
        self.assertTrue(self.factory.running)
        self.inner.factory.doStop()
        self.assertFalse(self.factory.running)
