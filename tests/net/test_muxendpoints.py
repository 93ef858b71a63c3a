"""Tests for L{gateway.net.muxendpoints}: sessions that come and go by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionRefusedError, NoProtocol
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.mux import MuxSession, MuxSettings, StreamRefused
from gateway.net.muxendpoints import MuxClientEndpoint, MuxServerEndpoint
from gateway.testing import FlowEndpoint, FlowLink, flowPair
from tests.net.sides import Peer

ADDRESS = IPv4Address("TCP", "192.0.2.7", 1)


class ClientTests(SynchronousTestCase):
    """L{MuxClientEndpoint}, and a server at the other end of whatever it dials."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.carrier = FlowEndpoint()
        self.links: list[FlowLink] = []
        self.servers: list[MuxSession] = []
        self.opened: list[Peer] = []
        self.endpoint = MuxClientEndpoint(self.clock, self.carrier, idleTimeout=10, name="gw")

    def accept(self, number: int = 0, settings: MuxSettings | None = None) -> MuxSession:
        """Let a dial succeed."""
        server = MuxSession(self.clock, client=False, factory=Factory.forProtocol(self.peer), settings=settings)
        self.servers.append(server)
        self.links.append(self.carrier.attempts[number].accept(server))
        self.pump()
        return server

    def peer(self) -> Peer:
        """The server's end of a stream."""
        self.opened.append(Peer())
        return self.opened[-1]

    def pump(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(20):
            self.clock.advance(0)
            for link in self.links:
                link.pump()

    def advance(self, seconds: float) -> None:
        """Let time pass, with what it brings."""
        self.clock.advance(seconds)
        self.pump()

    def connect(self) -> Deferred[IProtocol]:
        """Want a connection."""
        return self.endpoint.connect(Factory.forProtocol(Peer))

    def connected(self) -> Peer:
        """Have a connection at once."""
        peer = self.successResultOf(self.connect())
        assert isinstance(peer, Peer)
        self.pump()
        return peer

    def test_dialsOnce(self) -> None:
        """All who want a connection while there is no session wait for one dial, and the later ones for none."""
        waiting = [self.connect(), self.connect()]
        for each in waiting:
            self.assertNoResult(each)
        self.accept()
        for each in waiting:
            self.assertIsInstance(self.successResultOf(each), Peer)
        third = self.connected()
        third.transport.write(b"hello")
        self.pump()
        self.assertEqual(self.opened[2].received, b"hello")
        self.assertEqual(third.transport.getPeer().session, "gw")
        self.assertEqual(len(self.carrier.attempts), 1)

    def test_failedDial(self) -> None:
        """A failed dial fails all who wait, and the next one dials again."""
        waiting = [self.connect(), self.connect()]
        self.carrier.attempts[0].fail(ConnectionRefusedError())
        for each in waiting:
            self.failureResultOf(each, ConnectionRefusedError)
        again = self.connect()
        self.accept(1)
        self.successResultOf(again)

    def test_carrierThatRaises(self) -> None:
        """An endpoint that raises, where it should fail, keeps nobody waiting: neither the first nor the next one."""

        def connect(factory: IProtocolFactory) -> Deferred[IProtocol]:
            raise LookupError

        self.patch(self.carrier, "connect", connect)
        for _ in range(2):
            self.failureResultOf(self.connect(), LookupError)

    def test_cancel(self) -> None:
        """Who loses interest is forgotten, and the last one to do so cancels the dial."""
        first, second = self.connect(), self.connect()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertFalse(self.carrier.attempts[0].cancelled)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertTrue(self.carrier.attempts[0].cancelled)
        third = self.connect()
        self.accept(1)
        self.successResultOf(third)

    def test_cancelOneOfTwo(self) -> None:
        """The other one gets its connection."""
        first, second = self.connect(), self.connect()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.accept()
        self.successResultOf(second)
        self.assertEqual(len(self.opened), 1)

    def test_cancelInTheMiddle(self) -> None:
        """Whoever is connected may make another one lose interest."""
        first, second = self.connect(), self.connect()
        first.addCallback(lambda protocol: second.cancel())
        self.accept()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(len(self.opened), 1)

    def test_tooLate(self) -> None:
        """A carrier that comes into being although its dial was cancelled is given no session, or loses it."""
        waiting = self.connect()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertIsNone(self.carrier.attempts[0].factory.buildProtocol(ADDRESS))

        class Hasty(FlowEndpoint):
            def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
                super().connect(factory)
                links.append(self.attempts[0].accept(MuxSession(Clock(), client=False)))
                return Deferred(lambda result: result.callback(links[0].a.protocol))

        links = self.links
        self.endpoint = MuxClientEndpoint(self.clock, Hasty())
        waiting = self.connect()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.pump()
        self.assertTrue(self.links[0].a.disconnected)

    def test_lostSession(self) -> None:
        """When the session is lost, the next connection dials anew."""
        first = self.connect()
        server = self.accept()
        self.successResultOf(first)
        server.abortConnection()
        self.pump()
        second = self.connect()
        self.assertNoResult(second)
        self.accept(1)
        self.successResultOf(second)

    def test_peerGoesAway(self) -> None:
        """When the peer takes no more streams, the next connection dials anew, and the others go on."""
        first = self.connect()
        server = self.accept()
        peer = self.successResultOf(first)
        assert isinstance(peer, Peer)
        server.goAway()
        self.pump()
        second = self.connect()
        self.assertNoResult(second)
        self.accept(1)
        self.successResultOf(second)
        peer.transport.write(b"still")
        self.pump()
        self.assertEqual(self.opened[0].received, b"still")

    def test_limit(self) -> None:
        """A limit of the session fails a connection and costs no session."""
        self.endpoint = MuxClientEndpoint(self.clock, self.carrier, settings=MuxSettings(streams=1))
        first = self.connect()
        self.accept()
        self.successResultOf(first)
        self.assertEqual(self.failureResultOf(self.connect(), StreamRefused).value.code, "streams")
        self.assertEqual(len(self.carrier.attempts), 1)

    def test_factoryThatRefuses(self) -> None:
        """A factory that gives no protocol, or raises, fails its own connection."""

        class Refusing(Factory):
            def buildProtocol(self, address: object) -> None:
                return None

        class Raising(Factory):
            def buildProtocol(self, address: object) -> Any:
                raise ZeroDivisionError

        waiting = self.endpoint.connect(Refusing())
        self.accept()
        self.failureResultOf(waiting, NoProtocol)
        self.failureResultOf(self.endpoint.connect(Refusing()), NoProtocol)
        self.failureResultOf(self.endpoint.connect(Raising()), ZeroDivisionError)
        self.connected()

    def test_idle(self) -> None:
        """A session without a stream is closed after the idle timeout and before twice that; one with a stream is not."""
        first = self.connect()
        self.accept()
        peer = self.successResultOf(first)
        assert isinstance(peer, Peer)
        for _ in range(4):
            self.advance(10)
        peer.transport.loseConnection()
        self.opened[0].transport.loseConnection()
        self.pump()
        self.advance(9.75)
        self.assertFalse(self.links[0].a.disconnected)
        self.advance(0.25)
        self.advance(10)
        self.assertTrue(self.links[0].a.disconnected)
        self.assertEqual([str(call) for call in self.clock.getDelayedCalls()], [])
        again = self.connect()
        self.accept(1)
        self.successResultOf(again)

    def test_inUse(self) -> None:
        """Short streams in between keep a session."""
        first = self.connect()
        self.accept()
        self.successResultOf(first)
        self.opened[0].transport.abortConnection()
        for _ in range(10):
            self.advance(9)
            self.connected().transport.abortConnection()
            self.pump()
        self.assertEqual(len(self.carrier.attempts), 1)

    def test_close(self) -> None:
        """To close waits for the streams and for what was written; without a session there is nothing to wait for."""
        self.successResultOf(self.endpoint.close())
        first = self.connect()
        self.accept()
        peer = self.successResultOf(first)
        assert isinstance(peer, Peer)
        closed = self.endpoint.close()
        peer.transport.write(b"last")
        peer.transport.loseConnection()
        self.pump()
        self.assertNoResult(closed)
        self.assertEqual(self.opened[0].received, b"last")
        self.opened[0].transport.loseConnection()
        self.pump()
        self.successResultOf(closed)
        self.assertEqual([str(call) for call in self.clock.getDelayedCalls()], [])


@implementer(IListeningPort)
class Port:
    """A port that listens nowhere."""

    listening = True

    def startListening(self) -> None:
        """Again."""
        self.listening = True

    def stopListening(self) -> None:
        """No more."""
        self.listening = False

    def getHost(self) -> IAddress:
        """Where it would."""
        return ADDRESS


class ServerTests(SynchronousTestCase):
    """L{MuxServerEndpoint}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.inner = Port()
        self.factories: list[IProtocolFactory] = []
        self.streams: list[Peer] = []
        self.links: list[FlowLink] = []

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """As an endpoint does."""
        self.factories.append(factory)
        return succeed(self.inner)

    def start(self, **options: Any) -> IListeningPort:
        """Listen for streams."""

        def peer() -> Peer:
            self.streams.append(Peer())
            return self.streams[-1]

        endpoint = MuxServerEndpoint(self.clock, self, **options)  # type: ignore[arg-type]  # an endpoint, in a way
        port: IListeningPort = self.successResultOf(endpoint.listen(Factory.forProtocol(peer)))
        return port

    def dial(self, ended: Callable[..., None] | None = None) -> MuxSession | None:
        """A client's session with it, unless that is refused."""
        server = self.factories[0].buildProtocol(ADDRESS)
        if server is None:
            return None
        client = MuxSession(self.clock, client=True, ended=ended)
        self.links.append(flowPair(client, server))
        self.pump()
        return client

    def session(self) -> MuxSession:
        """A client's session with it."""
        client = self.dial()
        assert client is not None
        return client

    def pump(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(20):
            self.clock.advance(0)
            for link in self.links:
                link.pump()

    def test_streamsAreConnections(self) -> None:
        """Each stream of each session is a connection to the factory."""
        port = self.start()
        self.assertEqual(port.getHost(), ADDRESS)
        first, second = self.session(), self.session()
        for session in (first, first, second):
            peer = session.open(Factory.forProtocol(Peer))
            assert isinstance(peer, Peer)
            peer.transport.write(b"hello")
        self.pump()
        self.assertEqual([bytes(peer.received) for peer in self.streams], [b"hello"] * 3)

    def test_limit(self) -> None:
        """A session too many is refused, which is logged once until one has ended."""
        self.start(maxSessions=2)

        def refusals() -> int:
            return [event.get("event") for event in events].count("mux.refused")

        with capturedLogs() as events:
            first = self.session()
            self.session()
            self.assertIsNone(self.dial())
            self.assertIsNone(self.dial())
            self.assertEqual(refusals(), 1)
            first.abortConnection()
            self.pump()
            self.session()
            self.assertIsNone(self.dial())
            self.assertEqual(refusals(), 2)

    def test_stop(self) -> None:
        """After C{stopListening} no session and no stream comes in, those that there are go on, and it waits for them."""
        port = self.start()
        session = self.session()
        peer = session.open(Factory.forProtocol(Peer))
        assert isinstance(peer, Peer)
        self.pump()
        stopped = port.stopListening()
        assert stopped is not None
        self.pump()
        self.assertFalse(self.inner.listening)
        self.assertNoResult(stopped)
        with self.assertRaises(StreamRefused):
            session.open(Factory.forProtocol(Peer))
        peer.transport.write(b"still")
        peer.transport.loseConnection()
        self.pump()
        self.assertEqual(self.streams[0].received, b"still")
        self.streams[0].transport.loseConnection()
        self.pump()
        self.successResultOf(stopped)
        port.startListening()
        self.assertTrue(self.inner.listening)
