"""
Tests for streams that begin with a preamble and are answered.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.muxstream import StreamRefused
from gateway.net.opening import OpeningEndpoint
from gateway.net.relay import Outcome, Relay
from gateway.testing import FlowEndpoint, flowPair
from tests.net.sides import Peer


def readAnswer(received: bytes) -> int | None:
    """A line is an answer: C{ok}, or a refusal."""
    line, end, _ = received.partition(b"\n")
    if end and line != b"ok":
        raise DialFailed(DialFailure.REFUSED, line.decode())
    return len(line + end) if end else None


class OpeningTests(SynchronousTestCase):
    """
    L{OpeningEndpoint} is an endpoint whose far side is there when the peer says so.
    """

    def setUp(self) -> None:
        self.inner = FlowEndpoint()
        self.agent = Peer()
        self.peer = Peer()

    def open(self, answered: bool = True) -> None:
        """Open a stream to the agent."""
        endpoint = OpeningEndpoint(self.inner, b"PREAMBLE", readAnswer if answered else None)
        self.done = endpoint.connect(Factory.forProtocol(lambda: self.peer))
        self.link = self.inner.attempts[0].accept(self.agent)
        self.link.pump()

    def answer(self, *pieces: bytes) -> None:
        """The agent says something."""
        for piece in pieces:
            self.agent.transport.write(piece)
            self.link.pump()

    def test_preambleFirst(self) -> None:
        """The preamble is the first that is sent, and nothing is connected before the answer."""
        self.open()
        self.assertEqual(self.agent.received, b"PREAMBLE")
        self.assertNoResult(self.done)

    def test_answered(self) -> None:
        """After the answer the protocol has the stream, and gets what follows the answer, however it comes."""
        self.open()
        self.answer(b"o", b"k", b"\nhel", b"lo")
        self.assertIs(self.successResultOf(self.done), self.peer)
        self.assertEqual(self.peer.received, b"hello")
        self.peer.transport.write(b" you")
        self.link.pump()
        self.assertEqual(self.agent.received, b"PREAMBLE you")

    def test_ends(self) -> None:
        """An end, and the loss of the stream, reach the protocol as on any stream."""
        self.open()
        self.answer(b"ok\n")
        self.agent.transport.loseWriteConnection()
        self.link.pump()
        self.assertTrue(self.peer.ended)
        self.peer.transport.loseConnection()
        self.link.pump()
        self.assertIsNotNone(self.peer.reason)

    def test_refused(self) -> None:
        """A refusal fails the attempt with what the answer says, and the stream is reset."""
        self.open()
        self.answer(b"no such thing\n")
        failure = self.failureResultOf(self.done, DialFailed)
        self.assertEqual(failure.value.details, "no such thing")
        self.link.pump()
        self.assertIsNotNone(self.agent.reason)

    def test_noAnswer(self) -> None:
        """A stream that ends before its answer is a failed attempt."""
        self.open()
        self.answer(b"ok")
        self.agent.transport.loseConnection()
        self.link.pump()
        failure = self.failureResultOf(self.done, DialFailed)
        self.assertEqual(failure.value.kind, DialFailure.GONE)
        self.assertIn("the agent went away, or nobody is at the target", failure.value.details)

    def test_noStream(self) -> None:
        """A session that takes no stream has shown nobody anything."""
        done = OpeningEndpoint(self.inner, b"PREAMBLE", readAnswer).connect(Factory.forProtocol(Peer))
        self.inner.attempts[0].fail(StreamRefused("backlog"))
        self.assertEqual(self.failureResultOf(done, DialFailed).value.kind, DialFailure.UNAVAILABLE)

    def test_cancelled(self) -> None:
        """Who gives up resets the stream."""
        self.open()
        self.done.cancel()
        self.failureResultOf(self.done, CancelledError)
        self.link.pump()
        self.assertIsNotNone(self.agent.reason)

    def test_innerFails(self) -> None:
        """What the session cannot open fails as the session says."""
        endpoint = OpeningEndpoint(self.inner, b"", readAnswer)
        done = endpoint.connect(Factory.forProtocol(Peer))
        self.inner.attempts[0].fail(ConnectionRefusedError())
        self.failureResultOf(done, ConnectionRefusedError)

    def test_withoutAnswers(self) -> None:
        """In a dialect without answers the stream is there at once."""
        self.open(answered=False)
        self.assertIs(self.successResultOf(self.done), self.peer)
        self.answer(b"hello")
        self.assertEqual(self.peer.received, b"hello")

    def test_earlyData(self) -> None:
        """What a relay's visitor sends before the answer follows the preamble, once."""
        outcomes: list[Outcome] = []
        relay = Relay(Clock(), outcomes.append)
        visitor = Peer()
        visit = flowPair(relay.near, visitor)
        visitor.transport.write(b" one")
        visit.pump()
        joined = relay.connect(OpeningEndpoint(self.inner, b"PREAMBLE", readAnswer))
        self.link = self.inner.attempts[0].accept(self.agent)
        visitor.transport.write(b" two")
        visit.pump()
        self.link.pump()
        self.assertEqual(self.agent.received, b"PREAMBLE one two")
        self.answer(b"ok\nwelcome")
        self.successResultOf(joined)
        visitor.transport.write(b" three")
        visit.pump()
        self.link.pump()
        self.assertEqual(self.agent.received, b"PREAMBLE one two three")
        visit.pump()
        self.assertEqual(visitor.received, b"welcome")
