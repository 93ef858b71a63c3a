"""
Tests for L{gateway.net.websocket}: a client that sends whatever it is told to against the server's channel, in memory.
"""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory as AutobahnServerFactory
from autobahn.twisted.websocket import WebSocketServerProtocol as AutobahnServerProtocol
from autobahn.websocket.xormasker import create_xor_masker
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.websocket import Denied, WebSocketServerFactory, WebSocketSettings
from gateway.testing import FlowTransport
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, Response
from tests.net.relaypromises import RelayPromises
from tests.net.sides import TCP, TLS, pattern
from tests.net.websocketside import WEBSOCKET
from tests.websocketclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, WebSocketClient

frame = WebSocketClient.frame

_derandomized = settings(deadline=None, max_examples=200, database=None, derandomize=True)


@implementer(IWebSocketReceiver)
class Receiver:
    """
    Records what it is told. The text C{"stream"} makes it switch to stream mode, C{"close"} to close.

    @ivar events: messages and pieces of the stream in order; neighbouring pieces are joined.
    @ivar reasons: what C{lost} was called with.
    """

    channel: IWebSocketChannel

    def __init__(self, *, streamAtOnce: bool = False) -> None:
        self.events: list[tuple[str, bytes]] = []
        self.reasons: list[Failure] = []
        self._streamAtOnce = streamAtOnce

    def opened(self, channel: IWebSocketChannel) -> None:
        """Keep the channel."""
        self.channel = channel
        if self._streamAtOnce:
            channel.stream(self.gotData)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        """Record a message, and do what it says."""
        assert not self.reasons, "a message after the end"
        self.events.append(("binary" if isBinary else "text", payload))
        if payload == b"stream":
            self.channel.stream(self.gotData)
        if payload == b"close":
            self.channel.close(1000)

    def gotData(self, data: bytes) -> None:
        """Record a piece of the stream."""
        assert not self.reasons, "data after the end"
        assert type(data) is bytes
        if self.events and self.events[-1][0] == "data":
            data = self.events.pop()[1] + data
        self.events.append(("data", data))
        if data.endswith(b"close"):
            self.channel.close(1000)

    def lost(self, reason: Failure) -> None:
        """Record the end."""
        self.reasons.append(reason)


@implementer(IWebSocketGate)
class Gate:
    """Lets everybody in, unless the path is C{/denied}."""

    def __init__(self, receiver: IWebSocketReceiver) -> None:
        self.receiver = receiver
        self.failures: list[Failure] = []

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """Decide by the path."""
        if head.path == "/denied":
            raise Denied(Response(403, b"no\n"))
        return self.receiver

    def plain(self, head: RequestHead) -> Response:
        """Say which page it is."""
        return Response(200, f"page {head.path}\n".encode())

    def failed(self, reason: Failure) -> None:
        """Record the failure."""
        self.failures.append(reason)


class Connection:
    """One connection of a server, from the client's point of view."""

    def __init__(
        self, *, streamAtOnce: bool = False, tlsManners: bool = False, settings: WebSocketSettings | None = None
    ) -> None:
        self.clock = Clock()
        self.receiver = Receiver(streamAtOnce=streamAtOnce)
        self.gate = Gate(self.receiver)
        self.factory = WebSocketServerFactory(
            lambda address: self.gate, clock=self.clock, settings=settings or WebSocketSettings()
        )
        protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert protocol is not None
        self.transport = FlowTransport(protocol)
        self.client = WebSocketClient()
        self.frames: list[Frame] = []

    @classmethod
    def open(cls, *, streaming: bool = False, settings: WebSocketSettings | None = None) -> Connection:
        """A connection after the handshake, in stream mode or not."""
        self = cls(streamAtOnce=streaming, settings=settings)
        self.send(WebSocketClient.request())
        assert self.client.answer is not None and self.client.answer.status == 101
        return self

    @property
    def channel(self) -> IWebSocketChannel:
        """The server's channel."""
        return self.receiver.channel

    def send(self, data: bytes) -> None:
        """Send bytes, and take all that comes back."""
        self.transport.deliver(data)
        self.take()

    def take(self) -> None:
        """Take all that the server wrote."""
        while written := self.transport.takeWritten():
            self.frames += self.client.receive(written)

    def closeCode(self) -> int | None:
        """The code of the server's Close, of which there is at most one, and nothing after it."""
        closes = [each for each in self.frames if each.opcode == CLOSE]
        if not closes:
            return None
        assert self.frames[-1:] == closes, "the Close is not the last frame"
        (code,) = struct.unpack("!H", closes[0].payload[:2])
        return int(code)

    def reason(self) -> type[BaseException]:
        """How the receiver was told that it ended, once."""
        (reason,) = self.receiver.reasons
        assert reason.type is not None
        assert self.gate.failures == []
        assert self.clock.getDelayedCalls() == []
        return reason.type


def close(code: int, reason: bytes = b"") -> bytes:
    """A client's Close."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


CONVERSATION = b"".join(
    (
        frame(TEXT, b"hello"),
        frame(BINARY, b"\x00\x01\x02"),
        frame(TEXT, b"frag", final=False),
        frame(PING, b"between"),
        frame(CONTINUATION, "m\u20acnt".encode()[:2], final=False),
        frame(CONTINUATION, "m\u20acnt".encode()[2:]),
        frame(TEXT, b"stream"),
        frame(BINARY, pattern(200)),
        frame(BINARY, b""),
        frame(BINARY, b"one", final=False),
        frame(PONG, b"nobody asked"),
        frame(CONTINUATION, b"", final=False),
        frame(PING, b"again"),
        frame(CONTINUATION, b"two"),
        frame(TEXT, b"a word"),
        frame(BINARY, b"three"),
        close(1000),
    )
)
EVENTS = [
    ("text", b"hello"),
    ("binary", b"\x00\x01\x02"),
    ("text", "fragm\u20acnt".encode()),
    ("text", b"stream"),
    ("data", pattern(200) + b"onetwo"),
    ("text", b"a word"),
    ("data", b"three"),
]
ANSWERS = [Frame(PONG, b"between"), Frame(PONG, b"again"), Frame(CLOSE, b"\x03\xe8")]


class ReceivingTests(SynchronousTestCase):
    """What a client sends reaches the receiver."""

    def check(self, pieces: Sequence[bytes]) -> None:
        """Send the conversation in these pieces."""
        connection = Connection.open()
        for piece in pieces:
            connection.send(piece)
        self.assertEqual(connection.receiver.events, EVENTS)
        self.assertEqual(connection.frames, ANSWERS)
        self.assertIs(connection.reason(), ConnectionDone)

    def test_everySplit(self) -> None:
        """Wherever a conversation is cut, in stream mode and out of it, the result is the same."""
        for at in range(len(CONVERSATION)):
            self.check([CONVERSATION[:at], CONVERSATION[at:]])

    def test_byteByByte(self) -> None:
        """A conversation may come byte by byte, the request included."""
        connection = Connection()
        connection.transport.incoming.chunkSize = 1
        connection.send(WebSocketClient.request() + CONVERSATION)
        connection.take()
        self.assertEqual(connection.receiver.events, EVENTS)
        self.assertEqual(connection.frames, ANSWERS)

    def test_atOnce(self) -> None:
        """A whole conversation may come in one piece with the request."""
        connection = Connection()
        connection.send(WebSocketClient.request() + CONVERSATION)
        self.assertEqual(connection.receiver.events, EVENTS)
        self.assertEqual(connection.frames, ANSWERS)

    def test_streamFromTheBeginning(self) -> None:
        """A receiver that streams from the start gets as data what came with the request, however large."""
        connection = Connection(streamAtOnce=True)
        connection.send(WebSocketClient.request() + frame(BINARY, pattern(40_000)) + frame(TEXT, b"word"))
        self.assertEqual(connection.receiver.events, [("data", pattern(40_000)), ("text", b"word")])

    def test_streamInTheMiddleOfAMessage(self) -> None:
        """A binary message that is under way when the stream begins is part of the stream."""
        connection = Connection.open()
        whole = frame(BINARY, b"abc", final=False) + frame(CONTINUATION, b"def") + frame(BINARY, b"ghi")
        connection.send(whole[:8])
        connection.channel.stream(connection.receiver.gotData)
        connection.send(whole[8:])
        self.assertEqual(connection.receiver.events, [("data", b"abcdefghi")])

    def test_streamPassesBytesOnAsTheyCome(self) -> None:
        """In stream mode a part of a frame is handed over at once, of a frame of any size."""
        connection = Connection.open(streaming=True)
        whole = frame(BINARY, pattern(1_000_000))
        connection.send(whole[:5000])
        self.assertEqual(connection.receiver.events, [("data", pattern(5000 - 14))])
        connection.send(whole[5000:])
        self.assertEqual(connection.receiver.events, [("data", pattern(1_000_000))])

    def test_manyControlFramesInOnePiece(self) -> None:
        """Thousands of control frames in one piece are all answered."""
        for streaming in (False, True):
            connection = Connection.open(streaming=streaming)
            connection.send(frame(PING, b"x") * 5000 + frame(BINARY, b"end"))
            self.assertEqual(connection.frames, [Frame(PONG, b"x")] * 5000)
            self.assertEqual(connection.receiver.events, [("data" if streaming else "binary", b"end")])

    def test_messageAtTheLimit(self) -> None:
        """A message of the limit's size is taken, in one frame or in several."""
        limited = WebSocketSettings(maxMessage=1000)
        for kind, name in ((TEXT, "text"), (BINARY, "binary")):
            connection = Connection.open(settings=limited)
            connection.send(frame(kind, b"x" * 1000))
            connection.send(frame(kind, b"y" * 600, final=False) + frame(CONTINUATION, b"y" * 400))
            self.assertEqual(connection.receiver.events, [(name, b"x" * 1000), (name, b"y" * 1000)])
            self.assertIsNone(connection.closeCode())

    def test_interfaces(self) -> None:
        """A channel provides its interface."""
        verifyObject(IWebSocketChannel, Connection.open().channel)

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


@dataclass(frozen=True)
class Violation:
    """
    Something that a client may not send.

    @ivar code: what the server's Close says.
    """

    name: str
    data: bytes
    code: int = 1002


LIMIT = 1000

VIOLATIONS = [
    Violation("unmasked text", frame(TEXT, b"x", masked=False)),
    Violation("unmasked binary", frame(BINARY, b"x", masked=False)),
    Violation("unmasked ping", frame(PING, b"x", masked=False)),
    Violation("reserved data opcode", frame(3, b"x")),
    Violation("reserved control opcode", frame(0xB, b"x")),
    Violation("RSV1 on text", frame(0x40 | TEXT, b"x")),
    Violation("RSV1 on binary", frame(0x40 | BINARY, b"x")),
    Violation("RSV3 on ping", frame(0x10 | PING, b"x")),
    Violation("fragmented ping", frame(PING, b"x", final=False)),
    Violation("fragmented close", frame(CLOSE, b"\x03\xe8", final=False)),
    Violation("oversized ping", frame(PING, b"x" * 126)),
    Violation("length 5 in 16 bits", b"\x82\xfe\x00\x05\0\0\0\0xxxxx"),
    Violation("length 5 in 64 bits", b"\x82\xff" + bytes(7) + b"\x05\0\0\0\0xxxxx"),
    Violation("length with the highest bit", b"\x82\xff\x80" + bytes(7) + b"\0\0\0\0"),
    Violation("continuation of nothing", frame(CONTINUATION, b"x")),
    Violation("text within text", frame(TEXT, b"x", final=False) + frame(TEXT, b"y")),
    Violation("text within binary", frame(BINARY, b"", final=False) + frame(TEXT, b"y")),
    Violation("binary within binary", frame(BINARY, b"", final=False) + frame(BINARY, b"y")),
    Violation("unmasked within binary", frame(BINARY, b"", final=False) + frame(CONTINUATION, b"y", masked=False)),
    Violation("RSV1 within binary", frame(BINARY, b"", final=False) + frame(0x40, b"yyyyy")),
    Violation("long form within binary", frame(BINARY, b"", final=False) + b"\x80\xfe\x00\x05\0\0\0\0xxxxx"),
    Violation("text that is not UTF-8", frame(TEXT, b"\xff"), 1007),
    Violation("text that ends too early", frame(TEXT, b"\xe2\x82"), 1007),
    Violation("close with one byte", frame(CLOSE, b"\x03")),
    *(Violation(f"close code {code}", close(code)) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
    Violation("close reason that is not UTF-8", close(1000, b"\xff"), 1007),
    Violation("long text", frame(TEXT, b"x" * (LIMIT + 1)), 1009),
    Violation("long fragments", frame(TEXT, b"x" * LIMIT, final=False) + frame(CONTINUATION, b"x"), 1009),
]
OUTSIDE_STREAMS = [
    Violation("long binary", frame(BINARY, b"x" * (LIMIT + 1)), 1009),
    Violation("long binary, fragmented", frame(BINARY, b"x", final=False) + frame(CONTINUATION, b"x" * LIMIT), 1009),
]


class ViolationTests(SynchronousTestCase):
    """Whoever breaks RFC 6455 is told how, and nothing that comes after it is believed."""

    def violate(self, violation: Violation, *, streaming: bool, pieces: int) -> Connection:
        """Send something good, the violation, and something good again."""
        connection = Connection.open(streaming=streaming, settings=WebSocketSettings(maxMessage=LIMIT))
        good = frame(BINARY, b"good")
        wire = good + violation.data + frame(BINARY, b"bad") + frame(TEXT, b"bad")
        for at in range(0, len(wire), pieces):
            connection.send(wire[at : at + pieces])
        self.assertEqual(connection.closeCode(), violation.code, violation.name)
        events = [event for event in connection.receiver.events if event[1]]
        self.assertEqual(events, [("data" if streaming else "binary", b"good")], violation.name)
        return connection

    def test_answeredByItsCode(self) -> None:
        """Each violation gets its close code, whole or cut, in stream mode or not, and ends the delivery."""
        for streaming in (False, True):
            for violation in VIOLATIONS if streaming else VIOLATIONS + OUTSIDE_STREAMS:
                for pieces in (10_000, 7, 1):
                    self.violate(violation, streaming=streaming, pieces=pieces)

    def test_isNoCleanEnd(self) -> None:
        """A closing handshake after a violation is not a clean end, and a peer that does not take part is cut off."""
        for answer in (close(1002), b""):
            for streaming in (False, True):
                connection = Connection.open(streaming=streaming)
                connection.send(frame(3, b"x") + answer)
                connection.clock.advance(10)
                connection.take()
                self.assertIn(connection.reason(), (ConnectionLost, TimeoutError))

    def test_refusedFrameCostsNoMemory(self) -> None:
        """A control frame that claims to be huge is refused at its header, and what comes of it is not kept."""
        connection = Connection.open()
        connection.send(b"\x89\xff" + (1 << 40).to_bytes(8) + bytes(4))
        self.assertEqual(connection.closeCode(), 1002)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(64):
            connection.transport.deliver(bytes(65536))
        after, _ = tracemalloc.get_traced_memory()
        self.assertLess(after - before, 1_000_000)

    @given(
        st.booleans(),
        st.lists(
            st.one_of(
                st.binary(max_size=200),
                st.builds(
                    frame,
                    st.integers(0, 127),
                    st.binary(max_size=150),
                    final=st.booleans(),
                    masked=st.sampled_from((True, True, True, False)),
                ),
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


class SendingTests(SynchronousTestCase):
    """What is written reaches the client."""

    def test_frameSize(self) -> None:
        """Binary goes out in whole messages of one frame each, none of them larger than it may be."""
        for frameSize in (125, 126, 1000, 65535, 65536, 70_000):
            connection = Connection.open(settings=WebSocketSettings(frameSize=frameSize))
            for size in (1, frameSize - 1, frameSize, frameSize + 1, 3 * frameSize + 5):
                connection.frames.clear()
                connection.channel.write(pattern(size))
                connection.take()
                self.assertEqual(b"".join(each.payload for each in connection.frames), pattern(size))
                self.assertTrue(all(each.opcode == BINARY and each.final for each in connection.frames))
                self.assertLessEqual(max((len(each.payload) for each in connection.frames), default=0), frameSize)

    def test_text(self) -> None:
        """Text goes out as a text message; sequences as one stretch of bytes."""
        connection = Connection.open()
        self.assertFalse(connection.channel.sentData)
        connection.channel.sendText("gr\u00fc\u00df")
        self.assertFalse(connection.channel.sentData)
        connection.channel.writeSequence([b"ab", b"cd"])
        connection.take()
        self.assertTrue(connection.channel.sentData)
        self.assertEqual(connection.frames, [Frame(TEXT, "gr\u00fc\u00df".encode()), Frame(BINARY, b"abcd")])

    def test_answersWithinReceivedData(self) -> None:
        """What is sent while data is received keeps its order with what is sent afterwards."""
        connection = Connection.open()

        def echo(data: bytes) -> None:
            connection.channel.write(data)
            connection.channel.sendText("got it")

        connection.channel.stream(echo)
        connection.send(frame(BINARY, b"one") + frame(PING, b"p") + frame(BINARY, b"two"))
        connection.channel.write(b"three")
        connection.take()
        self.assertEqual(
            [each.payload for each in connection.frames], [b"one", b"got it", b"p", b"two", b"got it", b"three"]
        )

    def test_nothingAfterClose(self) -> None:
        """Nothing goes out after our Close."""
        connection = Connection.open()
        connection.channel.close(4000)
        connection.channel.write(b"late")
        connection.channel.sendText("late")
        connection.channel.ping(lambda: None)
        connection.channel.close(4001)
        connection.take()
        self.assertEqual(connection.frames, [Frame(CLOSE, b"\x0f\xa0")])

    def test_peersAddresses(self) -> None:
        """A channel knows the addresses of its connection."""
        connection = Connection.open()
        self.assertEqual(connection.channel.getPeer(), connection.transport.getPeer())
        self.assertEqual(connection.channel.getHost(), connection.transport.getHost())


class PingTests(SynchronousTestCase):
    """Dead peers are found, live ones left alone."""

    def test_deadPeer(self) -> None:
        """A peer from which nothing comes after a ping is cut off after another interval, not before."""
        connection = Connection.open(settings=WebSocketSettings(pingInterval=20))
        connection.clock.advance(20)
        connection.take()
        self.assertEqual(connection.frames, [Frame(PING, b"")])
        connection.clock.advance(19.75)
        connection.take()
        self.assertEqual(connection.receiver.reasons, [])
        connection.clock.advance(0.25)
        connection.transport.pump()
        self.assertIs(connection.reason(), TimeoutError)
        self.assertTrue(connection.transport.aborted)

    def test_withinTwoIntervals(self) -> None:
        """A peer that dies just after it was last heard is cut off within two intervals."""
        connection = Connection.open(settings=WebSocketSettings(pingInterval=20))
        connection.clock.advance(20.25)
        connection.send(frame(BINARY, b"last"))
        connection.clock.pump([19.75, 19.75])
        connection.transport.pump()
        self.assertEqual(connection.receiver.reasons, [])
        connection.clock.advance(0.25)
        connection.transport.pump()
        self.assertIs(connection.reason(), TimeoutError)

    def test_livePeer(self) -> None:
        """A peer that answers stays, and so does one that only sends."""
        connection = Connection.open(settings=WebSocketSettings(pingInterval=20))
        for each in (frame(PONG), frame(BINARY, b"x"), frame(PING)) * 5:
            connection.clock.advance(20)
            connection.send(each)
        self.assertEqual(connection.receiver.reasons, [])

    def test_pausedReading(self) -> None:
        """While we do not read, a peer's silence says nothing; once we do, it has its time to answer."""
        connection = Connection.open(settings=WebSocketSettings(pingInterval=20))
        connection.channel.pauseProducing()
        connection.clock.pump([20] * 10)
        connection.channel.resumeProducing()
        connection.clock.pump([20])
        connection.clock.advance(19.75)
        connection.transport.pump()
        self.assertEqual(connection.receiver.reasons, [])
        connection.clock.advance(0.25)
        connection.transport.pump()
        self.assertIs(connection.reason(), TimeoutError)

    def test_noPings(self) -> None:
        """An interval of zero turns pings off."""
        connection = Connection.open(settings=WebSocketSettings(pingInterval=0))
        self.assertEqual(connection.clock.getDelayedCalls(), [])

    def test_oneTimerForAll(self) -> None:
        """All connections of a factory share one timer, which ends with the last."""
        connection = Connection.open()
        other = FlowTransport(connection.factory.protocolFor(Gate(Receiver())))
        other.deliver(WebSocketClient.request())
        self.assertEqual(len(connection.clock.getDelayedCalls()), 1)
        other.deliverReset()
        self.assertEqual(len(connection.clock.getDelayedCalls()), 1)
        connection.transport.deliverReset()
        self.assertEqual(connection.clock.getDelayedCalls(), [])

    def test_answered(self) -> None:
        """A ping's callback is called once, by its own pong or by that of a later ping, and by no other."""
        connection = Connection.open()
        calls: list[str] = []
        for name in ("first", "second", "third"):
            connection.channel.ping(lambda name=name: calls.append(name))  # type: ignore[misc]
        connection.take()
        first, second, third = [each.payload for each in connection.frames if each.opcode == PING]
        connection.send(frame(PONG, b"unasked") + frame(PONG))
        self.assertEqual(calls, [])
        connection.send(frame(PONG, first) * 2)
        self.assertEqual(calls, ["first"])
        connection.send(frame(PONG, third))
        self.assertEqual(calls, ["first", "third"])
        connection.send(frame(PONG, second))
        self.assertEqual(calls, ["first", "third"])

    def test_neverAnswered(self) -> None:
        """A ping's callback is not called when the connection is lost first."""
        connection = Connection.open()
        connection.channel.ping(lambda: self.fail("it was not answered"))
        connection.transport.deliverReset()
        self.assertIsNot(connection.reason(), ConnectionDone)


class ClosingTests(SynchronousTestCase):
    """Every end is told once, and only a closing handshake is a clean one."""

    def test_byUs(self) -> None:
        """We close, the client answers, TCP ends: clean."""
        connection = Connection.open()
        connection.channel.close(4001, "bye")
        connection.take()
        self.assertEqual(connection.frames, [Frame(CLOSE, b"\x0f\xa1bye")])
        self.assertEqual(connection.receiver.reasons, [])
        connection.send(close(4001))
        self.assertFalse(connection.transport.aborted)
        self.assertIs(connection.reason(), ConnectionDone)

    def test_byThePeer(self) -> None:
        """The client closes, we answer and end TCP: clean. So without a code."""
        for data in (close(1000), close(3999, b"tired"), frame(CLOSE)):
            for streaming in (False, True):
                connection = Connection.open(streaming=streaming)
                connection.send(data)
                self.assertEqual(connection.closeCode(), 1000)
                self.assertFalse(connection.transport.aborted)
                self.assertIs(connection.reason(), ConnectionDone)

    def test_withoutHandshake(self) -> None:
        """An end of TCP without a closing handshake is not clean, whether a reset or a tidy end."""
        for streaming in (False, True):
            connection = Connection.open(streaming=streaming)
            connection.transport.deliverEOF()
            self.assertIs(connection.reason(), ConnectionLost)
            connection = Connection.open(streaming=streaming)
            connection.transport.deliverReset()
            self.assertIs(connection.reason(), ConnectionLost)

    def test_onlyOurHalf(self) -> None:
        """Our Close alone does not make an end of TCP clean."""
        connection = Connection.open()
        connection.channel.close(1000)
        connection.take()
        connection.transport.deliverEOF()
        self.assertIs(connection.reason(), ConnectionLost)

    def test_closeTimeout(self) -> None:
        """A peer that does not answer our Close is cut off in time, not before."""
        connection = Connection.open(settings=WebSocketSettings(closeTimeout=5, pingInterval=0))
        connection.channel.loseConnection()
        connection.take()
        connection.clock.advance(4.75)
        connection.take()
        self.assertEqual(connection.receiver.reasons, [])
        connection.clock.advance(0.25)
        connection.take()
        self.assertIs(connection.reason(), TimeoutError)
        self.assertTrue(connection.transport.aborted)

    def test_closeTimeoutWhileFlushing(self) -> None:
        """A peer that closed and does not take what was written before is cut off too; its own end was clean."""
        connection = Connection.open(settings=WebSocketSettings(closeTimeout=5, pingInterval=0))
        connection.channel.write(pattern(1000))
        connection.transport.deliver(close(1000))
        connection.clock.advance(4.75)
        connection.transport.pump()
        self.assertEqual(connection.receiver.reasons, [])
        connection.clock.advance(0.25)
        connection.transport.pump()
        self.assertIs(connection.reason(), ConnectionDone)

    def test_loseConnectionFlushes(self) -> None:
        """All that was written before C{loseConnection} goes out before the Close."""
        connection = Connection.open()
        connection.channel.write(pattern(200_000))
        connection.channel.loseConnection()
        connection.take()
        self.assertEqual(b"".join(each.payload for each in connection.frames[:-1]), pattern(200_000))
        self.assertEqual(connection.closeCode(), 1000)

    def test_closesWhatWasPaused(self) -> None:
        """A channel whose reading was paused still sees the client's part of the closing handshake."""
        connection = Connection.open()
        connection.channel.pauseProducing()
        connection.channel.loseConnection()
        connection.take()
        connection.send(close(1000))
        self.assertIs(connection.reason(), ConnectionDone)

    def test_abort(self) -> None:
        """An abort cuts TCP off, without a Close."""
        connection = Connection.open()
        connection.channel.write(b"lost")
        connection.channel.abortConnection()
        connection.take()
        self.assertIsNone(connection.closeCode())
        self.assertIs(connection.reason(), ConnectionAborted)

    def test_reasonIsCut(self) -> None:
        """Of a long reason 123 bytes are sent at most, and no part of a character."""
        connection = Connection.open()
        connection.channel.close(1000, "x" + "\u20ac" * 100)
        connection.take()
        self.assertEqual(connection.frames[-1].payload[2:].decode(), "x" + "\u20ac" * 40)

    def test_nothingIsDeliveredAfterOurClose(self) -> None:
        """What comes after our Close is discarded, even in the middle of a large frame or message."""
        for streaming, size in ((True, 1_000_000), (False, 10_000)):
            connection = Connection.open(streaming=streaming)
            whole = frame(BINARY, pattern(size))
            connection.send(whole[:5000])
            events = list(connection.receiver.events)
            connection.channel.close(1000)
            connection.send(whole[5000:] + frame(TEXT, b"late") + frame(BINARY, b"late"))
            self.assertEqual(connection.receiver.events, events)
            connection.send(close(1000))
            self.assertIs(connection.reason(), ConnectionDone)

    def test_closeWithinReceivedData(self) -> None:
        """A receiver that closes gets nothing of the rest of the same piece."""
        for streaming, kind in ((True, "data"), (False, "binary")):
            connection = Connection.open(streaming=streaming)
            connection.send(frame(BINARY, b"close") + frame(BINARY, b"late") + frame(TEXT, b"late"))
            self.assertEqual(connection.receiver.events, [(kind, b"close")])
            self.assertEqual(connection.closeCode(), 1000)


class OpeningTests(SynchronousTestCase):
    """The request, and who does not get a WebSocket."""

    def ends(self, connection: Connection) -> None:
        """The connection is over and nothing is left of it."""
        self.assertTrue(connection.transport.disconnected)
        self.assertEqual(connection.clock.getDelayedCalls(), [])

    def test_accepted(self) -> None:
        """An upgrade is answered as RFC 6455, section 1.3, says."""
        connection = Connection.open()
        assert connection.client.answer is not None
        self.assertEqual(connection.client.answer.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")

    def test_denied(self) -> None:
        """A gate's refusal is answered as it says, and the connection ends."""
        connection = Connection()
        connection.send(WebSocketClient.request("/denied"))
        assert connection.client.answer is not None
        self.assertEqual((connection.client.answer.status, connection.client.answer.body), (403, b"no\n"))
        self.ends(connection)
        self.assertEqual((connection.gate.failures, connection.receiver.reasons), ([], []))

    def test_plain(self) -> None:
        """A GET without an upgrade gets a page, a HEAD its head."""
        for method, body in (("GET", b"page /x\n"), ("HEAD", b"")):
            connection = Connection()
            connection.send(f"{method} /x?y HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode())
            assert connection.client.answer is not None
            self.assertEqual((connection.client.answer.status, connection.client.answer.body), (200, body))
            self.assertEqual(connection.client.answer.headers["content-length"], "8")
            self.ends(connection)
            self.assertEqual(connection.gate.failures, [])

    def test_answerThatNobodyTakes(self) -> None:
        """A client that does not take its page is cut off at the close timeout."""
        connection = Connection(settings=WebSocketSettings(closeTimeout=5))
        connection.transport.deliver(b"GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
        connection.clock.advance(4.75)
        connection.transport.pump()
        self.assertFalse(connection.transport.disconnected)
        connection.clock.advance(0.25)
        connection.transport.pump()
        self.ends(connection)

    def test_notHTTP(self) -> None:
        """Bytes that are no request are answered with 400, and the gate is told once."""
        connection = Connection()
        connection.send(b"\x16\x03\x01 no HTTP\r\n\r\n")
        assert connection.client.answer is not None
        self.assertEqual(connection.client.answer.status, 400)
        (reason,) = connection.gate.failures
        self.assertIs(reason.type, RemoteProtocolError)
        self.ends(connection)

    def test_longHead(self) -> None:
        """A head that is too long is answered with 431, and the gate is told once."""
        connection = Connection(settings=WebSocketSettings(maxHead=1000))
        connection.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 1000)
        assert connection.client.answer is not None
        self.assertEqual(connection.client.answer.status, 431)
        self.assertEqual(len(connection.gate.failures), 1)
        self.ends(connection)

    def test_faultyUpgrade(self) -> None:
        """An upgrade that is not well-formed is answered with an error; who was told to expect it hears that it failed."""
        for headers in ({"Sec_WebSocket_Key": "short"}, {"Sec_WebSocket_Version": "7"}, {"Connection": "close"}):
            connection = Connection()
            connection.send(WebSocketClient.request("/", **headers))
            assert connection.client.answer is not None
            self.assertIn(connection.client.answer.status, (400, 426))
            self.assertIs(connection.reason(), ConnectionLost)
            self.ends(connection)

    def test_leftBeforeAsking(self) -> None:
        """A connection that ends without a request is told to the gate, once."""
        for end in (FlowTransport.deliverEOF, FlowTransport.deliverReset):
            connection = Connection()
            connection.send(b"GET / HT")
            end(connection.transport)
            self.assertEqual(len(connection.gate.failures), 1)
            self.ends(connection)

    def test_handshakeTimeout(self) -> None:
        """A request must be complete in time, however busily its bytes trickle."""
        connection = Connection(settings=WebSocketSettings(handshakeTimeout=8))
        for byte in range(31):
            connection.send(WebSocketClient.request()[byte : byte + 1])
            connection.clock.advance(0.25)
        connection.transport.pump()
        self.assertFalse(connection.transport.disconnected)
        connection.clock.advance(0.25)
        connection.transport.pump()
        (reason,) = connection.gate.failures
        self.assertIs(reason.type, TimeoutError)
        self.ends(connection)

    def test_handshakeInTimeStopsTheClock(self) -> None:
        """Once it is open, a connection is not bound by the handshake's timeout."""
        connection = Connection(settings=WebSocketSettings(handshakeTimeout=8, pingInterval=0))
        connection.clock.advance(7.75)
        connection.send(WebSocketClient.request())
        connection.clock.advance(100)
        connection.transport.pump()
        self.assertFalse(connection.transport.disconnected)

    def test_dropped(self) -> None:
        """Where there is no gate for an address, the connection is dropped."""
        self.assertIsNone(WebSocketServerFactory(clock=Clock()).buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)))

    @given(st.binary(max_size=300))
    @_derandomized
    def test_garbage(self, data: bytes) -> None:
        """Whatever comes instead of a request, nothing is raised and nothing is left when it is over."""
        connection = Connection()
        connection.send(data + b"\r\n\r\n")
        connection.transport.deliverReset()
        self.ends(connection)


class NearTests(RelayPromises, SynchronousTestCase):
    """A relay whose near side is a WebSocket."""

    nearKind, farKind = WEBSOCKET, TCP


class NearToTLSTests(RelayPromises, SynchronousTestCase):
    """A relay from a WebSocket to TLS."""

    nearKind, farKind = WEBSOCKET, TLS


class AutobahnTests(SynchronousTestCase):
    """
    What we rely on and autobahn does not promise. When one of these fails after an upgrade of autobahn, read
    C{gateway/net/websocket.py} beside its new C{protocol.py}.
    """

    methods = (
        "_closeConnection",
        "_connectionMade",
        "_onOpen",
        "consumeData",
        "dropConnection",
        "failHandshake",
        "onFrameData",
        "onMessage",
        "onMessageBegin",
        "onMessageEnd",
        "onMessageFrameBegin",
        "onMessageFrameData",
        "onMessageFrameEnd",
        "onPong",
        "processControlFrame",
        "processData",
        "processHandshake",
        "sendCloseFrame",
        "sendData",
        "sendFrame",
        "sendPing",
        "sendPong",
        "succeedHandshake",
    )

    def test_methods(self) -> None:
        """The methods that we override or call are there."""
        missing = [name for name in self.methods if not callable(getattr(AutobahnServerProtocol, name, None))]
        self.assertEqual(missing, [], "autobahn's WebSocketServerProtocol has changed")

    def test_options(self) -> None:
        """Every option of autobahn's is an attribute of our class, so that none is left to its defaults."""
        ours = Connection().transport.protocol
        options = set(AutobahnServerProtocol.CONFIG_ATTRS)
        self.assertGreater(len(options), 20, "autobahn's options are kept elsewhere now")
        unused = {"allowedOrigins", "autoPingSize"}  # we set the patterns made of the one, and ping ourselves
        unset = {name for name in options - unused if name not in vars(type(ours)) and name not in vars(ours)}
        self.assertEqual(unset, set(), "autobahn has options that gateway/net/websocket.py does not set")

    def test_state(self) -> None:
        """The attributes that we read and write are the ones that autobahn uses."""
        connection = Connection.open()
        protocol: Any = connection.transport.protocol
        for name in ("data", "current_frame", "inside_message", "failedByMe", "wasClean", "localCloseReason"):
            self.assertTrue(hasattr(protocol, name), f"autobahn's {name} is gone")
        self.assertEqual(protocol.state, protocol.STATE_OPEN)
        self.assertEqual(len({protocol.STATE_CONNECTING, protocol.STATE_OPEN, protocol.STATE_CLOSED}), 3)
        connection.send(frame(TEXT, b"abc", final=False)[:-1])
        self.assertEqual((protocol.current_frame.opcode, protocol.current_frame.length), (TEXT, 3))
        self.assertTrue(protocol.inside_message, "autobahn keeps elsewhere whether a message is under way")
        connection.send(close(1000))

    def test_masker(self) -> None:
        """The native masker takes a part of a frame at a time, also as a view of other bytes."""
        masker = create_xor_masker(b"\x01\x02\x03\x04", 200)
        self.assertIn("nvx", type(masker).__module__.lower() + type(masker).__name__.lower(), "not the native masker")
        pieces = [masker.process(memoryview(bytes(200))[at : at + 7]) for at in range(0, 200, 7)]
        self.assertEqual(b"".join(pieces), (b"\x01\x02\x03\x04" * 50))

    def test_factory(self) -> None:
        """The factory of autobahn's that we start from takes a clock and no URL."""
        self.assertTrue(AutobahnServerFactory(reactor=Clock(), server="").isServer)
