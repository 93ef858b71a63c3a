"""
Tests for L{gateway.net.websocketclient}: how a WebSocket is opened, what may go wrong with that, and what of an open one is
otherwise than a server's: the masks, and who ends the connection.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IWebSocketChannel
from gateway.net.websocket import WebSocketServerFactory
from gateway.net.websocketclient import WebSocketClientFactory, WebSocketRefused
from gateway.net.websocketlimits import WebSocketSettings
from gateway.testing import FlowTransport, flowPair
from gateway.wire.upgraderequest import WebSocketRequest
from tests.net.sides import pattern
from tests.net.websocketconnection import ANSWERS, EVENTS, Gate, Receiver, conversation
from tests.net.websocketserving import Connection, close, frame
from tests.websocketclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame

_derandomized = settings(deadline=None, max_examples=200, database=None, derandomize=True)

CONVERSATION = conversation(frame)


class OpeningTests(SynchronousTestCase):
    """The request, and a good answer."""

    def test_request(self) -> None:
        """The request is sent at once, each time with a key of its own; nothing else is until it is answered."""
        keys = set()
        for _ in range(10):
            connection = Connection(WebSocketRequest("gw.test:81", "/a?b", [("X", "y")], ["one", "two"]))
            self.assertEqual(connection.server.request[0], "GET /a?b HTTP/1.1")
            self.assertEqual(connection.server.headers["host"], "gw.test:81")
            self.assertEqual(connection.server.headers["x"], "y")
            self.assertEqual(connection.server.headers["sec-websocket-protocol"], "one, two")
            self.assertEqual(connection.frames, [])
            keys.add(connection.server.headers["sec-websocket-key"])
        self.assertEqual(len(keys), 10)

    def test_subprotocol(self) -> None:
        """The channel knows the subprotocol that the server has chosen."""
        connection = Connection(WebSocketRequest("gw.test", subprotocols=("one", "two")))
        connection.send(connection.server.acceptance(Sec_WebSocket_Protocol="two"))
        self.assertEqual(connection.channel.subprotocol, "two")
        self.assertIsNone(Connection.open().channel.subprotocol)

    def test_everySplit(self) -> None:
        """Wherever the answer and what follows it are cut, the result is the same."""
        size = len(Connection().server.acceptance() + CONVERSATION)
        for at in range(size):
            connection = Connection()
            wire = connection.server.acceptance() + CONVERSATION
            connection.send(wire[:at])
            connection.send(wire[at:])
            self.assertEqual(connection.receiver.events, EVENTS)
            self.assertEqual(connection.frames, ANSWERS)
            self.assertIs(connection.reason(), ConnectionDone)

    def test_byteByByte(self) -> None:
        """A whole conversation may come byte by byte."""
        connection = Connection()
        connection.transport.incoming.chunkSize = 1
        connection.send(connection.server.acceptance() + CONVERSATION)
        self.assertEqual(connection.receiver.events, EVENTS)
        self.assertEqual(connection.frames, ANSWERS)

    def test_streamFromTheBeginning(self) -> None:
        """What comes with the answer is part of the stream, however large."""
        connection = Connection(streamAtOnce=True)
        connection.send(connection.server.acceptance() + frame(BINARY, pattern(40_000)))
        self.assertEqual(connection.receiver.events, [("data", pattern(40_000))])

    def test_handshakeInTimeStopsTheClock(self) -> None:
        """Once it is open, a connection is not bound by the handshake's timeout."""
        connection = Connection(settings=WebSocketSettings(handshakeTimeout=8, pingInterval=0))
        connection.clock.advance(7.75)
        connection.send(connection.server.acceptance())
        self.assertEqual(connection.clock.getDelayedCalls(), [])

    def test_interfaces(self) -> None:
        """A channel provides its interface."""
        verifyObject(IWebSocketChannel, Connection.open().channel)


@dataclass(frozen=True)
class BadAnswer:
    """
    Something that a server says instead of opening a WebSocket.

    @ivar status: of HTTP, where it refuses.
    @ivar part: of what a person is told.
    """

    name: str
    headers: dict[str, str]
    part: str
    kind: DialFailure = DialFailure.OTHER
    status: int | None = None
    line: str = "101 Switching Protocols"
    body: bytes = b""


TEXT_PLAIN = {"Content_Type": "text/plain", "Content_Length": "11"}

BAD_ANSWERS = [
    BadAnswer("no Upgrade", {"Upgrade": ""}, "does not upgrade"),
    BadAnswer("no Connection", {"Connection": "keep-alive"}, "does not upgrade"),
    BadAnswer("no Accept", {"Sec_WebSocket_Accept": ""}, "Sec-WebSocket-Accept"),
    BadAnswer("Accept of another", {"Sec_WebSocket_Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, "Sec-WebSocket-Accept"),
    BadAnswer("extension", {"Sec_WebSocket_Extensions": "permessage-deflate"}, "extensions"),
    BadAnswer("subprotocol", {"Sec_WebSocket_Protocol": "one"}, "none was on offer"),
    BadAnswer("401", {}, "401 Unauthorized", DialFailure.DENIED, 401, "401 Nope"),
    BadAnswer("403", TEXT_PLAIN, 'Forbidden instead of opening a WebSocket: "not for you"', DialFailure.DENIED, 403, "403", b"not for you"),
    BadAnswer("404", {}, "404 Not Found", DialFailure.REFUSED, 404, "404 Not Found"),
    BadAnswer("302", {"Location": "wss://other.example/"}, "to wss://other.example/", DialFailure.REFUSED, 302, "302 Found"),
    BadAnswer("200", {}, "200 OK", DialFailure.REFUSED, 200, "200 OK", b"<html>"),
    BadAnswer("100", {}, "100 Continue", DialFailure.REFUSED, 100, "100 Continue"),
]  # fmt: skip

NO_ANSWERS = [
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"\r\n\r\n",
    b"HTTP/2 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\r\n\r\n",
    b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
]


class RefusalTests(SynchronousTestCase):
    """Whoever does not open a WebSocket as it must be is left, and the receiver is told why, once."""

    def test_badAnswers(self) -> None:
        """Each bad answer is told for what it is, whole or cut, and nothing that follows it is believed."""
        for bad in BAD_ANSWERS:
            for pieces in (10_000, 7, 1):
                connection = Connection()
                wire = connection.server.acceptance(bad.line, **bad.headers) + bad.body + frame(BINARY, b"bad") * 5
                for at in range(0, len(wire), pieces):
                    connection.send(wire[at : at + pieces])
                failure = connection.failure()
                self.assertEqual(failure.kind, bad.kind, bad.name)
                self.assertIn(bad.part, failure.details, bad.name)
                self.assertEqual(getattr(failure, "status", None), bad.status)
                self.assertEqual((connection.receiver.events, connection.frames), ([], []))

    def test_notHTTP(self) -> None:
        """What is no answer of HTTP/1 is told so."""
        for data in NO_ANSWERS:
            connection = Connection()
            connection.send(data)
            failure = connection.failure()
            self.assertEqual(failure.kind, DialFailure.OTHER)
            self.assertIn("not an HTTP/1 response", failure.details)

    def test_missingSubprotocol(self) -> None:
        """A server that speaks none of the subprotocols on offer is left, though it would open a WebSocket."""
        connection = Connection(WebSocketRequest("gw.test", subprotocols=("one", "two")))
        connection.send(connection.server.acceptance())
        self.assertIn("does not speak the subprotocol one or two", connection.failure().details)

    def test_longHead(self) -> None:
        """A head at the limit is read; one that is longer is not waited for."""
        for extra in (0, 1):
            connection = Connection(settings=WebSocketSettings(maxHead=1000, pingInterval=0))
            size = len(connection.server.acceptance(X="x")) - 1
            connection.send(connection.server.acceptance(X="x" * (1000 - size + extra)))
            self.assertIs(connection.receiver.isOpen, not extra)
        self.assertIn("longer than 1000 bytes", connection.failure().details)

    def test_endWithoutAnswer(self) -> None:
        """A server that ends the connection before its answer is whole could not be reached."""
        for end in (FlowTransport.deliverEOF, FlowTransport.deliverReset):
            for part in (b"", b"HTTP/1.1 101 Sw"):
                connection = Connection()
                connection.send(part)
                end(connection.transport)
                self.assertEqual(connection.failure().kind, DialFailure.UNREACHABLE)

    def test_endOfARefusal(self) -> None:
        """A refusal whose text ends with the connection, or is cut off by it or by the deadline, is told all the same."""
        for end in ("deliverEOF", "deliverReset", "deadline"):
            connection = Connection()
            connection.send(b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n\r\nso")
            connection.send(b"rry")
            self.assertEqual(connection.receiver.reasons, [])
            if end == "deadline":
                connection.clock.advance(10)
            else:
                getattr(connection.transport, end)()
            connection.take()
            failure = connection.failure()
            assert isinstance(failure, WebSocketRefused)
            self.assertEqual(failure.status, 503)
            self.assertIn('"sorry"', failure.details)

    def test_longRefusal(self) -> None:
        """Of a text without end no more than is shown is waited for."""
        connection = Connection()
        connection.send(b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 10_000)
        self.assertLess(len(connection.failure().details), 300)

    def test_noTLS(self) -> None:
        """Where TLS below fails, it is TLS that is told of."""
        connection = Connection()
        reason = SSL.Error([("SSL routines", "", "certificate verify failed")])
        connection.transport.protocol.connectionLost(Failure(reason))
        (told,) = connection.receiver.reasons
        assert isinstance(told.value, DialFailed)
        self.assertEqual(told.value.kind, DialFailure.OTHER)
        self.assertIn("certificate", told.value.details)

    def test_handshakeTimeout(self) -> None:
        """The answer must be complete in time, however busily its bytes trickle."""
        connection = Connection(settings=WebSocketSettings(handshakeTimeout=8))
        wire = connection.server.acceptance()
        for at in range(31):
            connection.send(wire[at : at + 1])
            connection.clock.advance(0.25)
        connection.take()
        self.assertEqual(connection.receiver.reasons, [])
        connection.clock.advance(0.25)
        self.assertEqual(connection.receiver.reasons, [])
        connection.take()
        self.assertEqual(connection.failure().kind, DialFailure.TIMEOUT)

    @given(st.binary(max_size=300), st.booleans())
    @_derandomized
    def test_garbage(self, data: bytes, isHTTP: bool) -> None:
        """Whatever comes instead of an answer, nothing is raised and nothing is left when it is over."""
        connection = Connection()
        connection.send((b"HTTP/1.1 101 Switching Protocols\r\n" if isHTTP else b"") + data + b"\r\n\r\n")
        connection.transport.deliverReset()
        connection.failure()


@dataclass(frozen=True)
class Violation:
    """
    Something that a server may not send.

    @ivar code: what the client's Close says.
    """

    name: str
    data: bytes
    code: int = 1002


LIMIT = 1000

VIOLATIONS = [
    Violation("masked text", frame(TEXT, b"x", masked=True)),
    Violation("masked binary", frame(BINARY, b"x", masked=True)),
    Violation("masked ping", frame(PING, b"x", masked=True)),
    Violation("masked within binary", frame(BINARY, b"", final=False) + frame(CONTINUATION, b"y", masked=True)),
    Violation("reserved data opcode", frame(3, b"x")),
    Violation("reserved control opcode", frame(0xB, b"x")),
    Violation("RSV1 on binary", frame(0x40 | BINARY, b"x")),
    Violation("fragmented ping", frame(PING, b"x", final=False)),
    Violation("oversized ping", frame(PING, b"x" * 126)),
    Violation("length 5 in 16 bits", b"\x82\x7e\x00\x05xxxxx"),
    Violation("length 5 in 64 bits", b"\x82\x7f" + bytes(7) + b"\x05xxxxx"),
    Violation("length with the highest bit", b"\x82\x7f\x80" + bytes(7)),
    Violation("continuation of nothing", frame(CONTINUATION, b"x")),
    Violation("text within binary", frame(BINARY, b"", final=False) + frame(TEXT, b"y")),
    Violation("text that is not UTF-8", frame(TEXT, b"\xff"), 1007),
    Violation("close with one byte", frame(CLOSE, b"\x03")),
    Violation("close code 1005", close(1005)),
    Violation("long text", frame(TEXT, b"x" * (LIMIT + 1)), 1009),
]


class ReceivingTests(SynchronousTestCase):
    """What a server sends reaches the receiver, if it is as it must be."""

    def test_violations(self) -> None:
        """Each violation gets its close code, whole or cut, in stream mode or not, and ends the delivery."""
        for streaming in (False, True):
            for violation in VIOLATIONS:
                for pieces in (10_000, 7, 1):
                    connection = Connection.open(streaming=streaming, settings=WebSocketSettings(maxMessage=LIMIT))
                    good = frame(BINARY, b"good")
                    wire = good + violation.data + frame(BINARY, b"bad") + frame(TEXT, b"bad")
                    for at in range(0, len(wire), pieces):
                        connection.send(wire[at : at + pieces])
                    self.assertEqual(connection.closeCode(), violation.code, violation.name)
                    events = [event for event in connection.receiver.events if event[1]]
                    self.assertEqual(events, [("data" if streaming else "binary", b"good")], violation.name)
                    self.assertIs(connection.reason(), ConnectionLost)

    def test_streamPassesBytesOnAsTheyCome(self) -> None:
        """In stream mode a part of a frame is handed over at once, of a frame of any size."""
        connection = Connection.open(streaming=True)
        whole = frame(BINARY, pattern(1_000_000))
        connection.send(whole[:5000])
        self.assertEqual(connection.receiver.events, [("data", pattern(5000 - 10))])
        connection.send(whole[5000:])
        self.assertEqual(connection.receiver.events, [("data", pattern(1_000_000))])

    @given(st.binary(max_size=5000), st.lists(st.integers(0, 700), max_size=10), st.lists(st.integers(1, 400)))
    @_derandomized
    def test_anyFramesAnyPieces(self, payload: bytes, sizes: list[int], pieces: list[int]) -> None:
        """A stream cut into frames and pieces of any size is reproduced."""
        frames, at = [], 0
        for size in sizes:
            frames.append(frame(BINARY, payload[at : at + size]))
            at += size
        wire = b"".join((*frames, frame(BINARY, payload[at:])))
        connection = Connection.open(streaming=True)
        for size in pieces:
            connection.send(wire[:size])
            wire = wire[size:]
        connection.send(wire)
        self.assertEqual(b"".join(data for kind, data in connection.receiver.events), payload)

    @given(
        st.booleans(),
        st.lists(
            st.one_of(
                st.binary(max_size=200),
                st.builds(frame, st.integers(0, 127), st.binary(max_size=150), final=st.booleans()),
            ),
            max_size=20,
        ),
    )
    @_derandomized
    def test_garbage(self, streaming: bool, pieces: list[bytes]) -> None:
        """Whatever comes after the handshake, nothing is raised, and nothing is left on the clock when it is over."""
        connection = Connection.open(streaming=streaming)
        for piece in pieces:
            connection.send(piece)
        connection.transport.deliverReset()
        connection.clock.advance(10)
        connection.take()
        connection.reason()
        self.assertEqual(connection.clock.getDelayedCalls(), [])


class SendingTests(SynchronousTestCase):
    """All that goes out is masked; what a L{Connection} takes says so."""

    def test_everything(self) -> None:
        """Binary of every size, text, pings, pongs and the Close arrive as they were sent."""
        connection = Connection.open(settings=WebSocketSettings(frameSize=70_000))
        for size in (0, 1, 125, 126, 65535, 65536, 70_000, 150_000):
            connection.frames.clear()
            connection.channel.write(memoryview(pattern(size)))  # type: ignore[arg-type]  # it takes buffers
            connection.take()
            self.assertEqual(b"".join(each.payload for each in connection.frames), pattern(size))
            self.assertLessEqual(max(len(each.payload) for each in connection.frames), 70_000)
        connection.frames.clear()
        answered: list[bool] = []
        connection.channel.sendText("gr\u00fc\u00df")
        connection.channel.ping(lambda: answered.append(True))
        connection.take()
        text, ping = connection.frames
        self.assertEqual((text, ping.opcode), (Frame(TEXT, "gr\u00fc\u00df".encode()), PING))
        connection.send(frame(PONG, ping.payload) + frame(PING, b"p"))
        self.assertEqual((answered, connection.frames[-1]), ([True], Frame(PONG, b"p")))
        connection.channel.close(4000, "bye")
        connection.take()
        self.assertEqual(connection.frames[-1], Frame(CLOSE, b"\x0f\xa0bye"))

    def test_whatIsWrittenIsKept(self) -> None:
        """Masking changes a copy, never what was given to be written."""
        connection = Connection.open()
        data = bytearray(pattern(1000))
        connection.channel.write(memoryview(data))  # type: ignore[arg-type]  # it takes buffers
        self.assertEqual(data, pattern(1000))


class ClosingTests(SynchronousTestCase):
    """Only a closing handshake is a clean end, and the server ends the connection after it (RFC 6455, section 7.1.1)."""

    def test_byUs(self) -> None:
        """We close, the server answers: clean, and told at once. The connection is the server's to end."""
        connection = Connection.open(settings=WebSocketSettings(pingInterval=0))
        connection.channel.close(1000)
        connection.take()
        self.assertEqual(connection.receiver.reasons, [])
        connection.send(close(1000))
        self.assertIs(connection.reason(), ConnectionDone)
        self.assertFalse(connection.transport.disconnected)
        connection.transport.deliverEOF()
        self.assertTrue(connection.transport.disconnected)
        self.assertFalse(connection.transport.aborted)
        self.assertEqual(connection.clock.getDelayedCalls(), [])

    def test_byThePeer(self) -> None:
        """The server closes and we answer: clean, and told at once."""
        for data in (close(1000), close(3999, b"tired"), frame(CLOSE)):
            for streaming in (False, True):
                connection = Connection.open(streaming=streaming)
                connection.send(data)
                self.assertEqual(connection.closeCode(), 1000)
                self.assertIs(connection.reason(), ConnectionDone)
                self.assertFalse(connection.transport.disconnected)

    def test_nothingAfterTheClose(self) -> None:
        """What the server sends after its Close is nothing, not even wrong."""
        for streaming in (False, True):
            connection = Connection.open(streaming=streaming)
            connection.send(close(1000) + frame(BINARY, b"late") + frame(3, b"x"))
            connection.send(frame(TEXT, b"late") + close(1000))
            self.assertEqual((connection.receiver.events, connection.closeCode()), ([], 1000))
            self.assertIs(connection.reason(), ConnectionDone)

    def test_serverThatDoesNotEnd(self) -> None:
        """A server that has closed and keeps the connection is cut off in time, not before."""
        connection = Connection.open(settings=WebSocketSettings(closeTimeout=5, pingInterval=0))
        connection.send(close(1000))
        connection.clock.advance(4.75)
        connection.take()
        self.assertFalse(connection.transport.disconnected)
        connection.clock.advance(0.25)
        connection.take()
        self.assertTrue(connection.transport.aborted)
        self.assertIs(connection.reason(), ConnectionDone)

    def test_closeTimeout(self) -> None:
        """A server that does not answer our Close is cut off in time, not before."""
        connection = Connection.open(settings=WebSocketSettings(closeTimeout=5, pingInterval=0))
        connection.channel.loseConnection()
        connection.clock.advance(4.75)
        connection.take()
        self.assertEqual(connection.receiver.reasons, [])
        connection.clock.advance(0.25)
        connection.take()
        self.assertIs(connection.reason(), TimeoutError)

    def test_withoutHandshake(self) -> None:
        """An end of TCP without a closing handshake is not clean, whether a reset or a tidy end."""
        for end in (FlowTransport.deliverEOF, FlowTransport.deliverReset):
            connection = Connection.open(streaming=True)
            end(connection.transport)
            self.assertIs(connection.reason(), ConnectionLost)

    def test_onTLS(self) -> None:
        """On TLS too a Close comes out, whoever closes first, and though a producer is registered."""
        connection = Connection.open(tlsManners=True)
        connection.channel.registerProducer(connection.channel, True)
        connection.channel.write(b"last")
        connection.channel.loseConnection()
        connection.take()
        self.assertEqual(connection.frames, [Frame(BINARY, b"last"), Frame(CLOSE, b"\x03\xe8")])
        connection.send(close(1000))
        connection.transport.deliverEOF()
        self.assertIs(connection.reason(), ConnectionDone)

    def test_deadServer(self) -> None:
        """A server from which nothing comes after a ping is cut off after another interval."""
        connection = Connection.open(settings=WebSocketSettings(pingInterval=20))
        connection.clock.advance(20)
        connection.take()
        self.assertEqual(connection.frames, [Frame(PING, b"")])
        connection.clock.advance(20)
        connection.take()
        self.assertIs(connection.reason(), TimeoutError)
        self.assertEqual(connection.clock.getDelayedCalls(), [])

    def test_nothingIsLeft(self) -> None:
        """A connection that is gone is freed at once."""
        gc.disable()
        self.addCleanup(gc.enable)
        connection = Connection.open()
        channel = weakref.ref(connection.transport.protocol)
        connection.transport.deliverReset()
        del connection.receiver.channel
        del connection.transport.protocol  # as a transport of Twisted does at its end
        self.assertIsNone(channel())


class BothTests(SynchronousTestCase):
    """Our client and our server understand each other."""

    def test_conversation(self) -> None:
        """Messages go both ways, in order, and the end is clean at both sides."""
        clock = Clock()
        near, far = Receiver(), Receiver()
        server = WebSocketServerFactory(clock=clock).protocolFor(Gate(far))
        request = WebSocketRequest("gw.test")
        client = WebSocketClientFactory(lambda: near, request, clock=clock).buildProtocol(IPv4Address("TCP", "::", 1))
        link = flowPair(client, server)
        link.pump()
        near.channel.sendText("hello")
        near.channel.write(pattern(10_000))
        far.channel.write(pattern(5000))
        far.channel.sendText("bye")
        link.pump()
        self.assertEqual(far.events, [("text", b"hello"), ("binary", pattern(10_000))])
        self.assertEqual(near.events, [("binary", pattern(5000)), ("text", b"bye")])
        near.channel.loseConnection()
        link.pump()
        for receiver in (near, far):
            self.assertEqual([reason.type for reason in receiver.reasons], [ConnectionDone])
        self.assertTrue(link.a.disconnected and link.b.disconnected)
        self.assertEqual(clock.getDelayedCalls(), [])
