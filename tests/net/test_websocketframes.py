"""
Tests for what L{gateway.net.websocket} receives: every valid frame, however it is cut, and every one that is not.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost, TimeoutError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.net.interfaces import IWebSocketChannel
from gateway.net.websocketlimits import WebSocketSettings
from tests.net.sides import pattern
from tests.net.websocketconnection import ANSWERS, EVENTS, Connection, close, conversation, frame
from tests.websocketclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, WebSocketClient

_derandomized = settings(deadline=None, max_examples=200, database=None, derandomize=True)

CONVERSATION = conversation(frame)


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

    def test_fragments(self) -> None:
        """A message in many small frames takes no more memory than one in few; frames without payload take none."""
        connection = Connection.open()
        connection.send(frame(TEXT, b"a", final=False))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(5):
            connection.send(frame(CONTINUATION, b"bc", final=False) * 1000 + frame(CONTINUATION, final=False) * 1000)
        self.assertLess(tracemalloc.get_traced_memory()[0], 40_000)
        connection.send(frame(CONTINUATION, b"d"))
        self.assertEqual(connection.receiver.events, [("text", b"a" + b"bc" * 5000 + b"d")])

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

    def test_streamInOnePiece(self) -> None:
        """In stream mode the payload of all frames that come at once is handed over at once, up to a control frame."""
        connection, pieces = Connection.open(streaming=True), list[bytes]()
        connection.channel.stream(pieces.append)
        connection.send(
            frame(BINARY, b"ab", final=False)
            + frame(CONTINUATION, b"")
            + frame(BINARY, pattern(2000))
            + frame(PING, b"x")
            + frame(BINARY, b"cd")[:-1]
        )
        self.assertEqual(pieces, [b"ab" + pattern(2000), b"c"])

    def test_manyControlFramesInOnePiece(self) -> None:
        """Of thousands of pings in one piece only some are answered, and what follows them is read."""
        for streaming in (False, True):
            connection = Connection.open(streaming=streaming)
            connection.send(frame(PING, b"x") * 5000 + frame(BINARY, b"end"))
            self.assertEqual(set(connection.frames), {Frame(PONG, b"x")})
            self.assertLess(len(connection.frames), 50)
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
