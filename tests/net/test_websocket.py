"""
Tests for L{gateway.net.websocket}: how connections open, live and close, and what they send. What they receive is in
L{tests.net.test_websocketframes}.

Length: one class for each part of a connection's life.
"""

from __future__ import annotations

import gc
import weakref
from io import BytesIO

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.protocols.basic import FileSender
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net import websocketchannel
from gateway.net.websocket import WebSocketServerFactory
from gateway.net.websocketlimits import WebSocketSettings
from gateway.testing import FlowTransport
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.upgrade import UpgradeRefused
from tests.net.sides import pattern
from tests.net.websocketconnection import Connection, Gate, Receiver, close, frame
from tests.websocketclient import BINARY, CLOSE, PING, PONG, TEXT, Frame, WebSocketClient

_derandomized = settings(deadline=None, max_examples=200, database=None, derandomize=True)


@implementer(IPushProducer)
class Producer:
    """Records what a consumer tells it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def pauseProducing(self) -> None:
        """Record."""
        self.events.append("pause")

    def resumeProducing(self) -> None:
        """Record."""
        self.events.append("resume")

    def stopProducing(self) -> None:
        """Record."""
        self.events.append("stop")


class Taking:
    """Says each time whether the peer has taken something."""

    def __init__(self, made: list[bool]) -> None:
        self._made = made

    def isMade(self) -> bool:
        """The next."""
        return self._made.pop(0)


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

    def test_pace(self) -> None:
        """A producer is paused while the client does not read, also one that comes when it has stopped already."""
        connection = Connection.open()
        early, late = Producer(), Producer()
        connection.channel.registerProducer(early, True)
        connection.channel.write(pattern(100_000))
        self.assertEqual(early.events, ["pause"])
        connection.channel.unregisterProducer()
        connection.channel.registerProducer(late, True)
        self.assertEqual(late.events, ["pause"])
        connection.take()
        self.assertEqual((early.events, late.events), (["pause"], ["pause", "resume"]))
        connection.transport.deliverReset()
        self.assertEqual((early.events, late.events), (["pause"], ["pause", "resume", "stop"]))

    def test_pull(self) -> None:
        """A producer that wants to be asked is asked once a turn, though not while the client does not read."""
        connection = Connection.open(settings=WebSocketSettings(pingInterval=0))
        payload = pattern(500_000)
        sent = FileSender().beginFileTransfer(BytesIO(payload), connection.channel)
        for _ in range(50):
            connection.clock.advance(0)
        self.assertNoResult(sent)
        self.assertLess(connection.transport.outgoing.highWater, 2 * 65536 + 1000)
        self.assertEqual(connection.clock.getDelayedCalls(), [])
        while not sent.called:
            connection.take()
            connection.clock.advance(0)
        connection.take()
        self.assertEqual(b"".join(each.payload for each in connection.frames), payload)
        self.assertEqual(connection.clock.getDelayedCalls(), [])

    def test_pullStops(self) -> None:
        """A producer that wants to be asked is told when nobody will, however the connection ends."""
        for end in ("close", "peer", "reset"):
            connection = Connection.open(settings=WebSocketSettings(pingInterval=0))
            sent = FileSender().beginFileTransfer(BytesIO(pattern(500_000)), connection.channel)
            connection.clock.advance(0)
            if end == "close":
                connection.channel.loseConnection()
            elif end == "peer":
                connection.send(close(1000))
            else:
                connection.transport.deliverReset()
            self.failureResultOf(sent)
            connection.transport.deliverReset()
            self.assertEqual(connection.clock.getDelayedCalls(), [])

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
        connection.clock.advance(20)
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

    def test_floodOfPings(self) -> None:
        """Pings of a client that reads nothing cost a bounded buffer; once it reads, the latest has its pong."""
        for streaming in (False, True):
            connection = Connection.open(streaming=streaming)
            for _ in range(20):
                connection.transport.deliver(frame(PING, b"x" * 100) * 1000)
            connection.transport.deliver(frame(PING, b"latest"))
            self.assertLess(connection.transport.outgoing.highWater, 3 * 65536)
            connection.take()
            self.assertEqual(connection.frames[-1], Frame(PONG, b"latest"))
            connection.frames.clear()
            connection.send(frame(PING, b"again"))
            self.assertEqual(connection.frames, [Frame(PONG, b"again")])

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

    def test_slowPeer(self) -> None:
        """A client that still takes what was written has as long again each time, up to a limit."""
        taken = [True, True, False, *[True] * 100]
        self.patch(websocketchannel, "Progress", lambda channel: Taking(taken))
        connection = Connection.open(settings=WebSocketSettings(closeTimeout=10, closeLimit=60, pingInterval=4))
        connection.channel.close(1000)
        connection.clock.pump([10, 10, 9])
        self.assertFalse(connection.transport.aborted)
        connection.clock.advance(1)
        connection.transport.pump()
        self.assertIs(connection.reason(), TimeoutError)
        connection = Connection.open(settings=WebSocketSettings(closeTimeout=10, closeLimit=60))
        connection.channel.close(1000)
        connection.clock.pump([10] * 5)
        self.assertFalse(connection.transport.aborted)
        connection.clock.advance(10)
        connection.transport.pump()
        self.assertIs(connection.reason(), TimeoutError)

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
        """A peer that closed and does not take what was written before is cut off too; its own end was clean, and told."""
        connection = Connection.open(settings=WebSocketSettings(closeTimeout=5, pingInterval=0))
        connection.channel.write(pattern(1000))
        connection.transport.deliver(close(1000))
        self.assertEqual([each.type for each in connection.receiver.reasons], [ConnectionDone])
        connection.clock.advance(4.75)
        connection.transport.pump()
        self.assertFalse(connection.transport.aborted)
        connection.clock.advance(0.25)
        connection.transport.pump()
        self.assertTrue(connection.transport.aborted)

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

    def test_onTLS(self) -> None:
        """On TLS too a Close comes out, whoever closes first, and though a producer is registered."""
        connection = Connection.open(tlsManners=True)
        connection.send(close(1000))
        self.assertEqual(connection.closeCode(), 1000)
        connection.transport.deliverEOF()
        self.assertIs(connection.reason(), ConnectionDone)
        connection = Connection.open(tlsManners=True)
        connection.channel.registerProducer(connection.channel, True)
        connection.channel.write(b"last")
        connection.channel.loseConnection()
        connection.take()
        self.assertEqual(connection.frames, [Frame(BINARY, b"last"), Frame(CLOSE, b"\x03\xe8")])
        connection.send(close(1000))
        connection.transport.deliverEOF()
        self.assertIs(connection.reason(), ConnectionDone)

    def test_nothingIsLeft(self) -> None:
        """A connection that is gone is freed at once: a flood of them must not wait for the garbage collector."""
        gc.disable()
        self.addCleanup(gc.enable)
        connection = Connection.open()
        channel = weakref.ref(connection.transport.protocol)
        connection.transport.deliverReset()
        self.assertIs(connection.reason(), ConnectionLost)
        del connection.receiver.channel
        del connection.transport.protocol  # as a transport of Twisted does at its end
        self.assertIsNone(channel())

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
            connection.send(frame(BINARY, b"close") + frame(TEXT, b"late") + frame(BINARY, b"late"))
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
        """An upgrade that is not well-formed is answered with an error, and the gate is told why, once."""
        for headers in ({"Sec_WebSocket_Key": "short"}, {"Sec_WebSocket_Version": "7"}, {"Connection": "close"}):
            connection = Connection()
            connection.send(WebSocketClient.request("/", **headers))
            assert connection.client.answer is not None
            self.assertIn(connection.client.answer.status, (400, 426))
            self.assertEqual([failure.type for failure in connection.gate.failures], [UpgradeRefused])
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
