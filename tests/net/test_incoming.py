"""
Tests for the taking end of streams that begin with what they are for.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.incoming import PREAMBLE_TIMEOUT, IncomingStreams, Taken, dialFailureOf, readAnswer
from gateway.net.relay import Cause, RelaySettings
from gateway.net.udp import DATAGRAM_DRAIN_IDLE
from gateway.testing import FlowEndpoint, FlowLink, flowPair
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.preamble import Answer, Preamble, StreamError, decodeAnswer, encodeAnswer, encodePreamble
from gateway.wire.proxyheader import ProxyHeader
from tests.net.sides import Peer

OK = b'{"ok":true}\n'

IDLE = 3600.0


@implementer(IStreamClientEndpoint)
class Broken:
    """An endpoint with a defect."""

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Raise."""
        return Deferred.fromCoroutine(self._raise())

    async def _raise(self) -> IProtocol:
        raise ZeroDivisionError


class IncomingTests(SynchronousTestCase):
    """
    L{IncomingStreams}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.origins = FlowEndpoint()
        self.endpoint: IStreamClientEndpoint = self.origins
        self.refusal: Exception | None = None
        self.asked: list[Preamble] = []
        self.taken: list[Taken] = []
        self.streams = IncomingStreams(self.clock, self.decide, self.taken.append)
        self.preamble = Preamble("web", ProxyHeader())
        self.stream()

    def decide(self, preamble: Preamble) -> tuple[IStreamClientEndpoint, RelaySettings]:
        """Everything leads to the same place, or is refused."""
        self.asked.append(preamble)
        if self.refusal is not None:
            raise self.refusal
        return self.endpoint, RelaySettings(dialTimeout=7.0, idleTimeout=IDLE)

    def stream(self) -> None:
        """A stream comes."""
        self.peer = Peer()
        self.link: FlowLink = flowPair(self.peer, self.streams.buildProtocol(None))

    def say(self, data: bytes) -> None:
        """Who opened the stream sends something."""
        self.peer.transport.write(data)
        self.link.pump()

    def accept(self) -> Peer:
        """The origin is reached."""
        origin = Peer()
        self.originLink = self.origins.attempts[-1].accept(origin)
        self.settle()
        return origin

    def settle(self) -> None:
        """Let everything happen."""
        for _ in range(5):
            self.link.pump()
            self.originLink.pump()

    def assertAnswered(self, code: str) -> None:
        """The stream is answered so, and then ends."""
        answer = decodeAnswer(bytes(self.peer.received).removesuffix(b"\n"))
        self.assertEqual((answer.ok, answer.code), (False, code))
        self.assertTrue(answer.details)
        self.peer.transport.loseConnection()
        self.link.pump()
        self.assertTrue(self.link.b.disconnected)
        self.assertFalse(self.link.b.aborted)
        (taken,) = self.taken
        self.assertEqual(taken.problem, answer.details)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_relayed(self) -> None:
        """The origin gets what follows the preamble, and its peer the answer and then what the origin sends."""
        self.say(encodePreamble(self.preamble) + b"hello ")
        self.say(b"there")
        self.assertEqual(self.peer.received, b"")
        origin = self.accept()
        self.assertEqual(self.peer.received, OK)
        self.assertEqual(origin.received, b"hello there")
        origin.transport.write(b"world")
        self.settle()
        self.assertEqual(self.peer.received, OK + b"world")
        self.assertEqual(self.asked, [self.preamble])

    def test_drain(self) -> None:
        """Of streams that go on, those of datagrams end when they are silent, and the rest does not."""
        for isDatagram in (False, True):
            self.stream()
            self.say(encodePreamble(Preamble("web", ProxyHeader(datagram=isDatagram))))
            self.accept()
        self.streams.drain()
        self.clock.pump([DATAGRAM_DRAIN_IDLE / 4] * 6)
        self.settle()
        (taken,) = self.taken
        assert taken.preamble is not None and taken.outcome is not None
        self.assertEqual((taken.preamble.header.datagram, taken.outcome.cause), (True, Cause.IDLE))
        self.streams.drain()

    def test_split(self) -> None:
        """However the preamble comes."""
        for byte in encodePreamble(self.preamble) + b"!":
            self.say(bytes([byte]))
        self.assertEqual(self.accept().received, b"!")

    def test_ended(self) -> None:
        """How a stream went is told when it is over."""
        self.say(encodePreamble(self.preamble) + b"hello")
        origin = self.accept()
        origin.transport.loseConnection()
        self.peer.transport.loseConnection()
        self.settle()
        (taken,) = self.taken
        assert taken.outcome is not None
        self.assertEqual((taken.preamble, taken.outcome.up, taken.problem), (self.preamble, 5, None))

    def test_halfClose(self) -> None:
        """One direction may end before the other."""
        self.say(encodePreamble(self.preamble) + b"question")
        self.peer.transport.loseWriteConnection()
        origin = self.accept()
        self.assertTrue(origin.ended)
        origin.transport.write(b"answer")
        self.settle()
        self.assertEqual(self.peer.received, OK + b"answer")

    def test_cutShort(self) -> None:
        """A stream that did not come to its end does not look as if it had."""
        self.say(encodePreamble(self.preamble))
        self.accept()
        self.clock.pump([IDLE / 4] * 6)
        self.settle()
        self.assertFalse(self.peer.ended)
        assert self.peer.reason is not None
        self.assertIsNone(self.peer.reason.check(ConnectionDone))
        (taken,) = self.taken
        assert taken.outcome is not None
        self.assertEqual(taken.outcome.cause, Cause.IDLE)

    def test_notReached(self) -> None:
        """Why an origin was not reached is the answer's code."""
        for error, code in (
            (ConnectionRefusedError(), StreamError.CONNECTION_REFUSED),
            (DNSLookupError(), StreamError.NAME),
            (TimeoutError(), StreamError.TIMEOUT),
            (DialFailed(DialFailure.UNREACHABLE, "There is no way."), StreamError.UNREACHABLE),
            (DialFailed(DialFailure.DENIED, "No."), StreamError.DENIED),
            (DialFailed(DialFailure.OTHER, "Well."), StreamError.FAILED),
        ):
            self.setUp()
            self.say(encodePreamble(self.preamble) + b"secret")
            self.origins.attempts[0].fail(error)
            self.link.pump()
            self.assertAnswered(code)

    def test_tooSlow(self) -> None:
        """An origin that does not answer in its time is given up."""
        self.say(encodePreamble(self.preamble))
        self.clock.advance(7.1)
        self.link.pump()
        self.assertTrue(self.origins.attempts[0].cancelled)
        self.assertAnswered(StreamError.TIMEOUT)

    def test_refused(self) -> None:
        """What leads nowhere is answered at once, and nothing is dialled."""
        for error, code in (
            (RemoteProtocolError(StreamError.UNKNOWN_SERVICE, "There is none."), "unknown-service"),
            (DialFailed(DialFailure.DENIED, "No."), "target-denied"),
        ):
            self.setUp()
            self.refusal = error
            self.say(encodePreamble(self.preamble))
            self.assertEqual(self.origins.attempts, [])
            self.assertAnswered(code)

    def test_badPreamble(self) -> None:
        """What is no preamble is answered as such."""
        self.say(b"GET / HTTP/1.1\r\n\r\n")
        self.assertAnswered(StreamError.INVALID_PREAMBLE)

    def test_latePreamble(self) -> None:
        """So is one that does not come in time."""
        self.say(encodePreamble(self.preamble)[:-1])
        self.clock.advance(PREAMBLE_TIMEOUT - 0.1)
        self.link.pump()
        self.assertEqual(self.peer.received, b"")
        self.clock.advance(0.2)
        self.link.pump()
        self.assertAnswered(StreamError.INVALID_PREAMBLE)

    def test_leftEarly(self) -> None:
        """A stream that ends before its preamble is told of."""
        self.peer.transport.loseConnection()
        self.link.pump()
        (taken,) = self.taken
        self.assertIsNone(taken.preamble)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leftWhileDialling(self) -> None:
        """Nobody is dialled for one who has left."""
        self.say(encodePreamble(self.preamble))
        self.peer.transport.abortConnection()
        self.link.pump()
        self.assertTrue(self.origins.attempts[0].cancelled)
        (taken,) = self.taken
        self.assertEqual(taken.preamble, self.preamble)

    def test_defect(self) -> None:
        """Whatever else an endpoint fails with is answered, too."""
        self.endpoint = Broken()
        self.say(encodePreamble(self.preamble))
        self.assertAnswered(StreamError.FAILED)


class AnswerTests(SynchronousTestCase):
    """
    L{readAnswer}, at the other end.
    """

    def test_ok(self) -> None:
        """The answer's length is told once it is there."""
        self.assertIsNone(readAnswer(OK[:-1]))
        self.assertEqual(readAnswer(OK + b"rest"), len(OK))

    def test_refusals(self) -> None:
        """A refusal becomes what a failed dial is, and one without reason too."""
        for code, kind in (
            ("connection-refused", DialFailure.REFUSED),
            ("unknown-service", DialFailure.UNAVAILABLE),
            ("shutting-down", DialFailure.UNAVAILABLE),
            ("something-new", DialFailure.OTHER),
        ):
            line = encodeAnswer(Answer(ok=False, code=code, details="Why."))
            error = self.assertRaises(DialFailed, readAnswer, line)
            self.assertEqual((error.kind, error.details), (kind, "Why."))
        self.assertTrue(dialFailureOf(Answer(ok=False, code="x")).details)

    def test_nonsense(self) -> None:
        """What is no answer, or has no end, says as little as none of what became of the stream's bytes."""
        for received in (b"hello\n", b"x" * 4096, b'{"ok":true,"code":5}\n'):
            self.assertEqual(self.assertRaises(DialFailed, readAnswer, received).kind, DialFailure.GONE)
