"""Tests for L{gateway.net.udp} and L{gateway.net.udpsocket}, without a network."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.net.direct import Buffer, IDirectTransport
from gateway.net.relay import Cause, Outcome, Relay, RelaySettings
from gateway.net.udp import DATAGRAM_IDLE, DatagramCounts, DatagramFlow, wasUnreached
from gateway.net.udpsocket import addressOf
from gateway.testing import FlowEndpoint
from gateway.wire.datagrams import LENGTH, DatagramDecoder
from gateway.wire.errors import RemoteProtocolError

PEER = IPv4Address("UDP", "192.0.2.1", 40000)
HOST = IPv4Address("UDP", "198.51.100.7", 53)


def framed(*datagrams: bytes) -> bytes:
    """As they go on a stream."""
    return b"".join(LENGTH.pack(len(each)) + each for each in datagrams)


class Recorder(Protocol):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Other:
    """
    The other end of a flow.

    @ivar room: datagrams that the kernel takes yet.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.room = 1000
        self.counts = DatagramCounts()
        self.closed = 0
        self.flow = DatagramFlow(self.send, PEER, HOST, self.counts, self.over)

    def send(self, datagrams: Sequence[bytes]) -> int:
        """Take as many as there is room for."""
        taken = list(datagrams[: self.room])
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def over(self, flow: DatagramFlow) -> None:
        """The flow is over."""
        self.closed += 1

    def says(self, *datagrams: bytes) -> None:
        """Datagrams come."""
        self.flow.gotDatagrams(framed(*datagrams), len(datagrams))


class FlowTests(SynchronousTestCase):
    """L{DatagramFlow} is a transport."""

    def setUp(self) -> None:
        self.other = Other()
        self.flow = self.other.flow
        self.counts = self.other.counts
        self.protocol = Recorder()
        self.flow.attach(self.protocol)

    def test_interface(self) -> None:
        """It is one that hands over what it reads without a copy, and does not half-close."""
        verifyObject(IDirectTransport, self.flow)
        self.assertFalse(IHalfCloseableDescriptor.providedBy(self.flow))
        self.assertEqual((self.flow.getPeer(), self.flow.getHost()), (PEER, HOST))

    def test_receiving(self) -> None:
        """Datagrams come with their lengths, those of one turn in one piece, and empty ones too."""
        self.other.says(b"abc", b"")
        self.other.says(b"d")
        self.assertEqual(self.protocol.received, [framed(b"abc", b""), framed(b"d")])
        self.assertEqual(self.counts, DatagramCounts(received=3))

    def test_receivingDirectly(self) -> None:
        """Who reads directly is given the very buffer."""
        got: list[Buffer] = []
        self.flow.readDirectly(got.append)
        buffer = memoryview(framed(b"abc"))
        self.flow.gotDatagrams(buffer, 1)
        self.assertIs(got[0], buffer)
        self.assertEqual(self.protocol.received, [])

    def test_sending(self) -> None:
        """Datagrams go out when they are whole, whatever the pieces in which they are written."""
        data = framed(b"abc", b"", b"de")
        self.flow.write(data[:4])
        self.assertEqual(self.other.sent, [])
        self.flow.writeSequence([data[4:6], data[6:]])
        self.assertEqual(self.other.sent, [b"abc", b"", b"de"])
        self.assertEqual(self.counts, DatagramCounts(sent=3))

    def test_sendingWithoutRoom(self) -> None:
        """What the kernel does not take is dropped and counted; what comes later may go."""
        self.other.room = 1
        self.flow.write(framed(b"a", b"b", b"c"))
        self.other.room = 1
        self.flow.write(framed(b"d"))
        self.assertEqual(self.other.sent, [b"a", b"d"])
        self.assertEqual(self.counts, DatagramCounts(sent=2, dropped=2))

    def test_tooLong(self) -> None:
        """A length that UDP does not have ends the flow."""
        self.flow.write(b"\xff\xff")
        assert self.protocol.lost is not None
        self.assertIsInstance(self.protocol.lost.value, RemoteProtocolError)
        self.assertEqual(self.other.closed, 1)

    def test_paused(self) -> None:
        """While the flow is paused datagrams are dropped, and do not come afterwards."""
        self.flow.pauseProducing()
        self.other.says(b"a", b"b")
        self.flow.resumeProducing()
        self.other.says(b"c")
        self.assertEqual(self.protocol.received, [framed(b"c")])
        self.assertEqual(self.counts, DatagramCounts(received=3, dropped=2))

    def test_ends(self) -> None:
        """Each way to end it tells the protocol and the owner once, and says how it was."""
        for verb, reason in (
            ("loseConnection", ConnectionDone),
            ("loseWriteConnection", ConnectionDone),
            ("stopProducing", ConnectionDone),
            ("abortConnection", ConnectionAborted),
        ):
            with self.subTest(verb):
                self.setUp()
                getattr(self.flow, verb)()
                getattr(self.flow, verb)()
                assert self.protocol.lost is not None
                self.assertIsNotNone(self.protocol.lost.check(reason))
                self.assertEqual(self.other.closed, 1)

    def test_failed(self) -> None:
        """That the other end is not there is no clean end."""
        self.flow.fail("nobody listens there")
        assert self.protocol.lost is not None
        self.assertIsNotNone(self.protocol.lost.check(ConnectionLost))

    def test_afterTheEnd(self) -> None:
        """What comes or is written after the end goes nowhere."""
        self.flow.loseConnection()
        self.flow.write(framed(b"a"))
        self.other.says(b"b")
        self.assertEqual((self.other.sent, self.protocol.received), ([], []))
        self.assertEqual(self.counts, DatagramCounts(received=1, dropped=1))

    def test_defect(self) -> None:
        """A protocol that raises loses its flow, and nobody else notices."""

        def fail(data: Buffer) -> None:
            raise ZeroDivisionError

        self.flow.readDirectly(fail)
        self.other.says(b"a")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.other.closed, 1)


class RelayTests(SynchronousTestCase):
    """A relay carries a flow."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.outcomes: list[Outcome] = []
        settings = RelaySettings(idleTimeout=DATAGRAM_IDLE, pending=1000)
        self.relay = Relay(self.clock, self.outcomes.append, settings=settings)
        self.visitor = Other()
        self.visitor.flow.attach(self.relay.near)
        self.network = FlowEndpoint()
        self.relay.connect(self.network)
        self.agent = Recorder()

    def join(self) -> None:
        """The stream is there."""
        self.link = self.network.attempts.pop().accept(self.agent)
        self.link.pump()

    def test_bothWays(self) -> None:
        """Datagrams go up and down, each as it was."""
        self.join()
        self.visitor.says(b"question", b"")
        self.link.pump()
        self.assertEqual(DatagramDecoder().receive(b"".join(self.agent.received)), [b"question", b""])
        assert self.agent.transport is not None
        self.agent.transport.write(framed(b"", b"answer"))
        self.link.pump()
        self.assertEqual(self.visitor.sent, [b"", b"answer"])

    def test_whileDialling(self) -> None:
        """What comes before there is a stream waits up to the limit; the rest is dropped."""
        self.visitor.says(bytes(998))
        self.visitor.says(b"one too many")
        self.join()
        self.assertEqual(b"".join(self.agent.received), framed(bytes(998)))
        self.assertEqual(self.visitor.counts, DatagramCounts(received=2, dropped=1))

    def test_idle(self) -> None:
        """A flow without datagrams ends, and one that has any in either direction does not."""
        self.join()
        for _ in range(10):
            self.clock.pump([DATAGRAM_IDLE / 8] * 4)
            self.visitor.says(b"still here")
            self.link.pump()
        self.assertEqual(self.visitor.closed, 0)
        self.clock.pump([DATAGRAM_IDLE / 4] * 4)
        self.assertEqual(self.visitor.closed, 0)
        self.clock.pump([DATAGRAM_IDLE / 4] * 2)
        self.assertEqual(self.visitor.closed, 1)
        self.link.pump()
        self.assertEqual([each.cause for each in self.outcomes], [Cause.IDLE])

    def test_limitIdle(self) -> None:
        """A time without datagrams can be made shorter, but not longer, and counts anew from then on."""
        self.join()
        self.relay.limitIdle(2 * DATAGRAM_IDLE)
        self.clock.pump([DATAGRAM_IDLE / 4] * 3)
        self.relay.limitIdle(4.0)
        self.clock.pump([1.0] * 3)
        self.visitor.says(b"still here")
        self.link.pump()
        self.clock.pump([1.0] * 4)
        self.assertEqual(self.visitor.closed, 0)
        self.clock.pump([1.0] * 2)
        self.assertEqual(self.visitor.closed, 1)
        self.link.pump()
        self.assertEqual([each.cause for each in self.outcomes], [Cause.IDLE])
        self.relay.limitIdle(1.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_limitIdleWhileDialling(self) -> None:
        """The time begins when both sides are there."""
        self.relay.limitIdle(4.0)
        self.clock.advance(10.0)
        self.join()
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.visitor.closed, 0)
        self.clock.pump([1.0] * 2)
        self.assertEqual(self.visitor.closed, 1)

    def test_stalledStream(self) -> None:
        """When the stream takes no more datagrams are dropped, and memory does not grow."""
        self.join()
        self.link.aToB.stalled = True
        for _ in range(1000):
            self.visitor.says(bytes(1000))
        self.assertGreater(self.visitor.counts.dropped, 900)
        self.assertLess(self.link.aToB.highWater, 100_000)

    def test_streamReset(self) -> None:
        """A stream that is reset ends the flow."""
        self.join()
        self.link.b.abortConnection()
        self.link.pump()
        self.assertEqual(self.visitor.closed, 1)
        self.assertEqual([each.cause for each in self.outcomes], [Cause.FAR_RESET])


class UnreachedTests(SynchronousTestCase):
    """L{wasUnreached}."""

    def test_which(self) -> None:
        """Nobody was there if the end came at once, and nothing from the other side did."""
        self.assertTrue(wasUnreached(Outcome(Cause.FAR_RESET, 10, 0, 0.1)))
        self.assertTrue(wasUnreached(Outcome(Cause.DIAL_FAILED, 10, 0, 0.1)))
        self.assertFalse(wasUnreached(Outcome(Cause.FAR_RESET, 10, 10, 0.1)))
        self.assertFalse(wasUnreached(Outcome(Cause.FAR_RESET, 10, 0, 1.0)))
        self.assertFalse(wasUnreached(Outcome(Cause.NEAR_RESET, 10, 0, 0.1)))


class AddressTests(SynchronousTestCase):
    """L{addressOf}."""

    def test_families(self) -> None:
        """Both families are Twisted's own."""
        self.assertEqual(addressOf(("192.0.2.1", 40000)), PEER)
        self.assertEqual(
            str(addressOf(("2001:db8::1", 53, 0, 0))),
            "IPv6Address(type='UDP', host='2001:db8::1', port=53, flowInfo=0, scopeID=0)",
        )
