"""Tests for L{gateway.net.peek}."""

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.peek import TLS_HANDSHAKE, Peek, PeekFailed
from gateway.testing import FlowTransport
from gateway.wire.errors import RemoteProtocolError

TIMEOUT = 8.0
LIMIT = 8


class Chosen(Protocol):
    """Writes down what happens to it, in a list that it shares."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.received = b""

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        assert data
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert reason.type is not None
        self.events.append(f"lost {reason.type.__name__}")


@implementer(IHalfCloseableProtocol)
class HalfClosingChosen(Chosen):
    """One that half-closes."""

    def readConnectionLost(self) -> None:
        self.events.append("read ended")

    def writeConnectionLost(self) -> None:
        self.events.append("write ended")


class PeekTests(SynchronousTestCase):
    """L{Peek} becomes what the first bytes call for."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[str] = []
        self.failures: list[Exception] = []
        self.asked: list[bytes] = []
        self.chosen = Chosen(self.events)

    def connect(self, decide: Callable[[bytes], Any]) -> FlowTransport:
        """A new connection."""

        def asking(data: bytes) -> Any:
            self.asked.append(data)
            return decide(data)

        peek = Peek(
            asking,
            self.failures.append,
            clock=self.clock,
            limit=LIMIT,
            timeout=TIMEOUT,
            lost=lambda: self.events.append("gone"),
        )
        return FlowTransport(peek)

    def chooseAt(self, size: int) -> Callable[[bytes], Any]:
        """Decide when so many bytes are there."""
        return lambda data: self.chosen if len(data) >= size else None

    def assertDropped(self, transport: FlowTransport, why: str) -> None:
        """Assert that the connection was cut off, that this was told once, and that nothing is left of it."""
        self.assertTrue(transport.aborted)
        transport.pump()
        self.assertEqual([type(each) for each in self.failures], [PeekFailed])
        self.assertIn(why, str(self.failures[0]))
        self.assertEqual(self.events, ["gone"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_everySplit(self) -> None:
        """However the bytes arrive and whenever the decision falls, the chosen protocol gets all of them, in order."""
        data = bytes(range(20))
        for size in range(1, LIMIT + 1):
            for chunk in range(1, len(data) + 1):
                self.setUp()
                transport = self.connect(self.chooseAt(size))
                transport.incoming.chunkSize = chunk
                transport.deliver(data)
                self.assertEqual(self.chosen.received, data)
                self.assertEqual(self.events, ["made"])
                self.assertEqual(self.failures, [])

    def test_decideSeesEverything(self) -> None:
        """Each decision is asked with all bytes from the first on, and none once it has been made."""
        transport = self.connect(self.chooseAt(4))
        self.assertEqual(self.asked, [])
        for data in (b"a", b"bc", b"def", b"g", b"h"):
            transport.deliver(data)
        self.assertEqual(self.asked, [b"a", b"abc", b"abcdef"])
        self.assertEqual(self.chosen.received, b"abcdefgh")

    def test_transport(self) -> None:
        """The chosen protocol has the connection's own transport, and what it writes goes out."""
        transport = self.connect(self.chooseAt(1))
        transport.deliver(b"a")
        self.assertIs(self.chosen.transport, transport)
        transport.write(b"answer")
        self.assertEqual(transport.takeWritten(), b"answer")

    def test_nothingWritten(self) -> None:
        """Until the decision nothing is sent to the client."""
        transport = self.connect(self.chooseAt(4))
        transport.deliver(b"abc")
        self.assertEqual(transport.written(), b"")

    def test_deadline(self) -> None:
        """A connection that says nothing has until the deadline, and no longer."""
        transport = self.connect(self.chooseAt(1))
        self.clock.advance(TIMEOUT - 0.5)
        self.assertFalse(transport.aborted)
        self.clock.advance(0.5)
        self.assertDropped(transport, "undecided after 8 seconds")

    def test_deadlineIsForAll(self) -> None:
        """Bytes that decide nothing do not move the deadline."""
        transport = self.connect(self.chooseAt(LIMIT))
        for _ in range(LIMIT - 1):
            self.clock.advance(1)
            transport.deliver(b"x")
        self.assertFalse(transport.aborted)
        self.clock.advance(1)
        self.assertDropped(transport, "undecided after 8 seconds")

    def test_decisionBeforeDeadline(self) -> None:
        """Once decided, the chosen protocol has all the time in the world."""
        transport = self.connect(self.chooseAt(1))
        self.clock.advance(TIMEOUT - 0.5)
        transport.deliver(b"x")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.assertFalse(transport.aborted)

    def test_limit(self) -> None:
        """Bytes up to the limit are looked at; when they do not decide, no more are waited for."""
        transport = self.connect(lambda data: None)
        transport.deliver(b"x" * (LIMIT - 1))
        self.assertFalse(transport.aborted)
        transport.deliver(b"x")
        self.assertDropped(transport, "undecided after 8 bytes")

    def test_pastTheLimit(self) -> None:
        """Bytes past the limit do not decide any more, but may follow those that do in one read."""
        transport = self.connect(self.chooseAt(LIMIT + 1))
        transport.deliver(b"x" * (LIMIT - 1))
        transport.deliver(b"x")
        self.assertDropped(transport, "undecided after 8 bytes")
        self.assertEqual(self.chosen.received, b"")

        self.setUp()
        self.connect(self.chooseAt(LIMIT)).deliver(b"x" * (LIMIT + 1))
        self.assertEqual(self.chosen.received, b"x" * (LIMIT + 1))

    def test_refused(self) -> None:
        """What the decision raises is told as it is, and the connection cut off."""
        refusal = RemoteProtocolError("wrong", "Wrong.")

        def decide(data: bytes) -> None:
            raise refusal

        transport = self.connect(decide)
        transport.deliver(b"x")
        self.assertTrue(transport.aborted)
        transport.pump()
        self.assertEqual(self.failures, [refusal])
        self.assertEqual(self.events, ["gone"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refusedAtTheDeadline(self) -> None:
        """What was refused is not told of a second time when its deadline passes before the connection is gone."""
        transport = self.connect(lambda data: None)
        transport.incoming.put(b"x" * LIMIT)
        transport.step()
        self.clock.advance(TIMEOUT)
        self.assertDropped(transport, "undecided after 8 bytes")

    def test_leavesInSilence(self) -> None:
        """Of a connection that leaves without a byte, in whatever way, nothing is told."""
        for leave in (FlowTransport.deliverEOF, FlowTransport.deliverReset):
            self.setUp()
            leave(self.connect(self.chooseAt(1)))
            self.assertEqual((self.failures, self.asked, self.events), ([], [], ["gone"]))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leavesUndecided(self) -> None:
        """A connection that says something and ends before it is enough is told of."""
        transport = self.connect(self.chooseAt(4))
        transport.deliver(b"abc")
        transport.deliverEOF()
        self.assertEqual([str(each) for each in self.failures], ["left before it was clear what it wants"])
        self.assertEqual(self.events, ["gone"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_brokenOffUndecided(self) -> None:
        """A connection that is reset before it has said enough is not worth a word."""
        transport = self.connect(self.chooseAt(4))
        transport.deliver(b"abc")
        transport.deliverReset()
        self.assertEqual((self.failures, self.events), ([], ["gone"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """The chosen protocol learns how the connection ended; then, once, whoever made the peek learns that it did."""
        for end, reason in (
            (FlowTransport.deliverEOF, ConnectionDone),
            (FlowTransport.deliverReset, ConnectionLost),
        ):
            self.setUp()
            transport = self.connect(self.chooseAt(1))
            transport.deliver(b"x")
            end(transport)
            transport.pump()
            self.assertEqual(self.events, ["made", f"lost {reason.__name__}", "gone"])
            self.assertEqual(self.failures, [])

    def test_lostDespiteDefects(self) -> None:
        """That the connection is gone is told even when the chosen protocol fails to take it."""

        class Defective(Chosen):
            def connectionLost(self, reason: Failure = connectionDone) -> None:
                raise ZeroDivisionError

        self.chosen = Defective(self.events)
        transport = self.connect(self.chooseAt(1))
        transport.deliver(b"x")
        self.assertRaises(ZeroDivisionError, transport.deliverEOF)
        self.assertEqual(self.events, ["made", "gone"])

    def test_halfClose(self) -> None:
        """A chosen protocol that half-closes is told when the client has finished, and when we have."""
        self.chosen = HalfClosingChosen(self.events)
        transport = self.connect(self.chooseAt(1))
        transport.deliver(b"x")
        transport.deliverEOF()
        self.assertEqual(self.events, ["made", "read ended"])
        self.assertFalse(transport.disconnected)
        transport.write(b"answer")
        transport.loseWriteConnection()
        self.assertEqual(transport.takeWritten(), b"answer")
        self.assertEqual(self.events, ["made", "read ended", "write ended"])

    def test_halfCloseWithTheFirstBytes(self) -> None:
        """A client that has finished by the time of the decision is answered all the same."""
        self.chosen = HalfClosingChosen(self.events)
        transport = self.connect(self.chooseAt(3))
        transport.incoming.chunkSize = 1
        transport.incoming.put(b"abc")
        transport.deliverEOF()
        self.assertEqual(self.chosen.received, b"abc")
        self.assertEqual(self.events, ["made", "read ended"])
        self.assertFalse(transport.disconnected)

    def test_noHalfClose(self) -> None:
        """For a chosen protocol that does not half-close, and for none, the client's end is the connection's."""
        for size in (1, 2):
            self.setUp()
            transport = self.connect(self.chooseAt(size))
            transport.deliver(b"x")
            transport.deliverEOF()
            self.assertTrue(transport.disconnected)

    def test_defaults(self) -> None:
        """Without other words a connection has 10 seconds and 16 KiB."""
        for advance, size, dropped in ((9.5, 0, False), (10.0, 0, True), (0.0, 16383, False), (0.0, 16384, True)):
            transport = FlowTransport(Peek(lambda data: None, self.failures.append, clock=self.clock))
            transport.deliver(b"x" * size)
            self.clock.advance(advance)
            self.assertEqual(transport.aborted, dropped, (advance, size))
            transport.deliverReset()

    def test_tlsByte(self) -> None:
        """The byte by which TLS is known is the type of a handshake record."""
        self.assertEqual(TLS_HANDSHAKE, 22)
