"""Tests for L{gateway.service.gotunnel.client} and L{gateway.service.gotunnel.streams}."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.targets import Target
from gateway.net.incoming import PREAMBLE_TIMEOUT
from gateway.net.mux import MuxSession, MuxSettings
from gateway.service.agent.dialledsession import REGISTER_TIMEOUT
from gateway.service.agent.origins import Origin
from gateway.service.gotunnel import streams as gotunnelstreams
from gateway.service.gotunnel.client import GoTunnelClient
from gateway.service.gotunnel.streams import GoTunnelStreams
from gateway.testing import FlowEndpoint, FlowLink
from gateway.wire.gotunnel import Mode, Register, Route, encodePreamble
from tests.net.muxpair import Applications
from tests.net.sides import Peer
from tests.service.gotunnel.gotunnelfixture import SECRET, GoTunnel, objects

APP, SSH = "app.example.com", "ssh.example.com"

ROUTES = (Route(APP, APP, "127.0.0.1:8080"), Route(SSH, "SSH.example.com", "127.0.0.1:22", Mode.TCP))

ORIGINS = {
    APP: (Origin("http", Target("127.0.0.1", 8080)), Mode.HTTP),
    SSH: (Origin("tcp", Target("127.0.0.1", 22), connectTimeout=3.0), Mode.TCP),
}


class ScriptedServer:
    """
    A server's end of a session, which says what the test has it say.

    @ivar control: its end of the control stream.
    """

    def __init__(self, tests: ClientTests) -> None:
        self._tests = tests
        self.streams = Applications(Peer)
        self.mux = MuxSession(tests.clock, client=False, factory=self.streams, settings=MuxSettings(pingInterval=0))
        self.link = tests.network.attempts[-1].accept(self.mux)
        tests.links.append(self.link)
        tests.pump()

    @property
    def control(self) -> Any:
        """The first stream."""
        return self.streams.made[0]

    @property
    def heard(self) -> list[dict[str, Any]]:
        """What the agent said."""
        return objects(self.control.received)

    def say(self, data: bytes) -> None:
        """Write on the control stream."""
        self.control.transport.write(data)
        self._tests.pump()

    def visit(self, data: bytes) -> Any:
        """Open a stream and write. Return our end of it."""
        peer = self.mux.open(Applications(Peer))
        peer.transport.write(data)  # type: ignore[attr-defined]
        self._tests.pump()
        return peer


class ClientTests(SynchronousTestCase):
    """A L{GoTunnelClient}, a network and origins."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = FlowEndpoint()
        self.origins = FlowEndpoint()
        self.dialled: list[Origin] = []
        self.links: list[FlowLink] = []
        self.events: list[dict[str, Any]] = []
        self.patch(gotunnelstreams, "originEndpoint", self._originEndpoint)
        streams = GoTunnelStreams(self.clock, ORIGINS)  # type: ignore[arg-type]  # dials nobody
        tokens = GoTunnelTokens(SECRET)
        self.client = GoTunnelClient(
            self.clock,
            self.network,
            lambda: Register(tokens.make("mytunnel", 60, now=self.clock.seconds()), ROUTES),
            streams,
            server="gw:9443",
            random=lambda: 0.5,
            wallClock=self.clock.seconds,
        )

    def _originEndpoint(self, reactor: object, origin: Origin, header: object) -> FlowEndpoint:
        self.dialled.append(origin)
        return self.origins

    def pump(self) -> None:
        """Let everything happen that takes no time."""
        for _ in range(10_000):
            due = any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls())
            self.clock.advance(0)
            busy = [link.step() for link in self.links]
            if not (any(busy) or due):
                return
        raise AssertionError("still busy")

    def wait(self, seconds: float) -> None:
        """Let time pass, a quarter of a second at a time."""
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)
            self.pump()

    def attached(self) -> ScriptedServer:
        """The server of a session that stands."""
        if not self.network.attempts:
            self.client.start()
        server = ScriptedServer(self)
        server.say(b'{"type":"ack","ok":true}\n')
        return server

    def assertRetries(self, attempts: int = 2) -> None:
        """Two seconds later there is another attempt, and no earlier."""
        self.wait(1.75)
        self.assertEqual(len(self.network.attempts), attempts - 1)
        self.wait(0.25)
        self.assertEqual(len(self.network.attempts), attempts)


class SessionTests(ClientTests):
    """Sessions, their beginnings and ends."""

    def test_register(self) -> None:
        """The first message has a new token, all routes as they are spelled, and their modes."""
        self.client.start()
        server = ScriptedServer(self)
        (first,) = server.heard
        self.assertEqual(GoTunnelTokens(SECRET).verify(first.pop("token"), 0), "mytunnel")
        self.assertEqual(
            first,
            {
                "type": "register",
                "routes": {APP: "127.0.0.1:8080", "SSH.example.com": "127.0.0.1:22"},
                "modes": {APP: "http", "SSH.example.com": "tcp"},
            },
        )

    def test_newToken(self) -> None:
        """Each session has a token of its own time."""
        first = self.attached()
        self.wait(100)
        first.mux.close()
        self.pump()
        self.wait(2)
        second = self.attached()
        token = second.heard[0]["token"]
        self.assertNotEqual(token, first.heard[0]["token"])
        GoTunnelTokens(SECRET).verify(token, self.clock.seconds())

    def test_pong(self) -> None:
        """A ping is answered at once, with our own time."""
        server = self.attached()
        self.wait(5)
        server.say(b'{"type":"ping","ts":99}\n')
        self.assertEqual(server.heard[1:], [{"type": "pong", "ts": 5000}])

    def test_errors(self) -> None:
        """What a server refuses us for is tried again, for ever."""
        self.client.start()
        for count, error in enumerate((b"auth failed", b"no routes", b"host already registered: x", b""), 2):
            server = ScriptedServer(self)
            server.say(b'{"type":"ack","ok":false,"error":"' + error + b'"}\n')
            self.assertRetries(count)

    def test_noAck(self) -> None:
        """A server that does not answer the registration is left, and tried again."""
        self.client.start()
        ScriptedServer(self)
        self.wait(REGISTER_TIMEOUT)
        self.assertRetries()

    def test_dialFails(self) -> None:
        """What cannot be reached is tried again."""
        self.client.start()
        self.network.attempts[0].fail(ConnectionRefusedError())
        self.assertRetries()

    def test_dialTooSlow(self) -> None:
        """A connection that does not come about in time is given up."""
        self.client.start()
        self.wait(19.75)
        self.assertFalse(self.network.attempts[0].cancelled)
        self.wait(0.25)
        self.assertTrue(self.network.attempts[0].cancelled)
        self.assertRetries()

    def test_hostile(self) -> None:
        """A server that breaks the protocol is left."""
        self.client.start()
        for count, words in enumerate((b"nonsense", b"{}", b'{"type":"pong"}', b'{"type":"ping"}', b"{" * 99999), 2):
            server = ScriptedServer(self)
            server.say(words)
            self.wait(6)
            self.assertGreaterEqual(len(self.network.attempts), count)

    def test_ends(self) -> None:
        """After each kind of end there is another attempt."""
        for count, end in enumerate(
            (
                lambda server: server.mux.close(),
                lambda server: server.mux.abortConnection(),
                lambda server: server.control.transport.loseConnection(),
                lambda server: server.say(b'{"type":"ack","ok":false,"error":"Going down."}\n'),
            ),
            2,
        ):
            server = self.attached()
            end(server)
            self.pump()
            self.wait(2)
            self.assertEqual(len(self.network.attempts), count)

    def test_deadServer(self) -> None:
        """A server that vanished is found within two intervals of pings."""
        server = self.attached()
        server.link.cut()
        self.wait(30)
        self.assertRetries()

    def test_early(self) -> None:
        """Streams before the server's answer are refused."""
        self.client.start()
        server = ScriptedServer(self)
        visitor = server.visit(encodePreamble(APP))
        self.assertIsNotNone(visitor.reason)

    def test_bothEndsOurs(self) -> None:
        """Our agent and our server understand one another."""
        tunnel = GoTunnel(clock=self.clock)
        self.client.start()
        ticket = tunnel.door.admit("192.0.2.7")
        assert ticket is not None
        self.links.append(self.network.attempts[-1].accept(tunnel.dialect.arrive("192.0.2.7", ticket)))
        self.pump()
        self.assertEqual(tunnel.names(), [APP, SSH])


class DrainTests(ClientTests):
    """The agent's own end."""

    def test_idle(self) -> None:
        """Without visitors it leaves at once, and does not come back."""
        self.attached()
        over = self.client.drain(10)
        self.wait(1)
        self.successResultOf(over)
        self.wait(60)
        self.assertEqual((len(self.network.attempts), self.clock.getDelayedCalls()), (1, []))

    def test_visitors(self) -> None:
        """Visitors go on until they end; then it leaves."""
        server = self.attached()
        visitor = server.visit(encodePreamble(SSH))
        self.links.append(self.origins.attempts[0].accept(origin := Peer()))
        self.pump()
        self.assertEqual(self.client.streams, 1)
        over = self.client.drain(10)
        self.wait(5)
        self.assertNoResult(over)
        visitor.transport.write(b"still here")
        self.pump()
        self.assertEqual(bytes(origin.received), b"still here")
        visitor.transport.loseConnection()
        origin.transport.loseConnection()
        self.wait(1)
        self.successResultOf(over)

    def test_time(self) -> None:
        """When time is up it leaves all the same."""
        server = self.attached()
        server.visit(encodePreamble(SSH))
        self.links.append(self.origins.attempts[0].accept(Peer()))
        over = self.client.drain(10)
        self.wait(9.75)
        self.assertNoResult(over)
        self.wait(6)
        self.successResultOf(over)

    def test_whileConnecting(self) -> None:
        """An attempt, or the pause before one, is given up."""
        self.client.start()
        over = self.client.drain(10)
        self.pump()
        self.successResultOf(over)
        self.assertTrue(self.network.attempts[0].cancelled)
        self.client.start()
        self.network.attempts[1].fail(ConnectionRefusedError())
        self.successResultOf(self.client.drain(10))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StreamTests(ClientTests):
    """What becomes of streams."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.attached()

    def origin(self) -> Peer:
        """The origin of the last stream is there."""
        origin = Peer()
        self.links.append(self.origins.attempts[-1].accept(origin))
        self.pump()
        return origin

    def test_relayed(self) -> None:
        """The name leads to its origin, in whichever case; the bytes go both ways, and each direction ends alone."""
        for name, key in ((APP, APP), (SSH, "SSH.example.com"), (SSH, SSH)):
            visitor = self.server.visit(encodePreamble(key) + b"hello")
            origin = self.origin()
            self.assertEqual((self.dialled[-1], bytes(origin.received)), (ORIGINS[name][0], b"hello"))
            visitor.transport.loseWriteConnection()
            self.pump()
            self.assertTrue(origin.ended)
            origin.transport.write(b"welcome")
            origin.transport.loseConnection()
            self.pump()
            self.assertEqual((bytes(visitor.received), visitor.ended), (b"welcome", True))

    def test_pieces(self) -> None:
        """The name may come in pieces of any size."""
        data = encodePreamble(APP) + b"hello"
        visitor = self.server.visit(data[:1])
        for index in range(1, len(data)):
            visitor.transport.write(data[index : index + 1])
            self.pump()
        self.assertEqual(bytes(self.origin().received), b"hello")

    def test_unreachable(self) -> None:
        """Where HTTP is spoken an origin that is not there is told of in HTTP; elsewhere the stream is reset."""
        visitor = self.server.visit(encodePreamble(APP) + b"GET / HTTP/1.1\r\n\r\n")
        self.origins.attempts[-1].fail(ConnectionRefusedError())
        self.pump()
        self.assertTrue(visitor.received.startswith(b"HTTP/1.1 502 Bad Gateway\r\n"))
        self.assertTrue(visitor.ended)
        visitor = self.server.visit(encodePreamble(SSH))
        self.origins.attempts[-1].fail(ConnectionRefusedError())
        self.pump()
        self.assertEqual(bytes(visitor.received), b"")
        self.assertIsNotNone(visitor.reason)

    def test_slow(self) -> None:
        """An origin that does not answer in time is told of as 504."""
        visitor = self.server.visit(encodePreamble(APP))
        self.wait(10)
        self.assertTrue(self.origins.attempts[-1].cancelled)
        self.assertTrue(visitor.received.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n"))

    def test_hostile(self) -> None:
        """A stream for nobody, or with a wrong preamble, is reset; the session goes on."""
        for data in (b"\x02", b"\x01\x00\x00", b"\x01\xff\xff", encodePreamble("other.example.com"), b"\x01\x00\x01 "):
            visitor = self.server.visit(data)
            self.assertIsNotNone(visitor.reason, data)
        self.assertEqual(self.dialled, [])
        self.test_relayed()

    def test_late(self) -> None:
        """A stream that does not say its name in time is reset; one that leaves before is no trouble."""
        visitor = self.server.visit(b"\x01")
        self.server.visit(b"\x01").transport.loseConnection()
        self.wait(PREAMBLE_TIMEOUT - 0.25)
        self.assertIsNone(visitor.reason)
        self.wait(0.25)
        self.assertIsNotNone(visitor.reason)

    def test_visitorLeaves(self) -> None:
        """A visitor that leaves while the origin is dialled cancels that."""
        visitor = self.server.visit(encodePreamble(APP))
        visitor.transport.abortConnection()
        self.pump()
        self.assertTrue(self.origins.attempts[-1].cancelled)
