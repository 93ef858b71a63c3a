"""
Tests for L{gateway.testing}: the same promises are kept by the fakes and by real connections.

L{AnyManners} holds for all of them, L{TCPManners} for TCP, UNIX and L{FlowTransport}, and L{TLSManners} for TLS and
L{TLSFlowTransport}. What only the fakes offer is tested at the end. The real ones are in this file because a fake
is worth no more than the comparison.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPullProducer,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from gateway.testing import FlowEndpoint, FlowLink, FlowTransport, TLSFlowTransport, flowPair
from tests.certificates import makeAuthority

reactor = cast(Any, _reactor)

# A period that divides no buffer size, so that a lost, doubled or swapped piece shows.
_PERIOD = bytes(range(251))


def pattern(size: int) -> bytes:
    """@return: so many bytes of a recognisable stream."""
    return (_PERIOD * (size // len(_PERIOD) + 1))[:size]


class Recorder(Protocol):
    """Records what happens to it and tells whoever waits for C{news}."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.events: list[str] = []
        self.reason: type[BaseException] | None = None
        self.news: Callable[[], None] = lambda: None
        self.gotData: Callable[[], None] = lambda: None

    def happened(self, event: str) -> None:
        """Record an event."""
        self.events.append(event)
        self.news()

    def connectionMade(self) -> None:
        """Ready, unless there is a handshake to wait for."""
        if not ISSLTransport.providedBy(self.transport) or isinstance(self.transport, TLSFlowTransport):
            self.happened("ready")

    def dataReceived(self, data: bytes) -> None:
        """Record bytes."""
        self.received += data
        self.gotData()
        self.happened("data")

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Record the end."""
        self.reason = reason.type
        self.happened("lost")


@implementer(IHandshakeListener)
class TLSRecorder(Recorder):
    """A recorder that can tell when the handshake is done."""

    def handshakeCompleted(self) -> None:
        """Ready."""
        self.happened("ready")


@implementer(IHalfCloseableProtocol)
class HalfCloseRecorder(TLSRecorder):
    """A recorder that can half-close."""

    def readConnectionLost(self) -> None:
        """Record the peer's end-of-file."""
        self.happened("readLost")

    def writeConnectionLost(self) -> None:
        """Record that our half-close was done."""
        self.happened("writeLost")


@implementer(IPushProducer)
class Source:
    """A streaming producer that writes the pattern, in small blocks, for as long as it may."""

    block = 1000

    def __init__(self, protocol: Recorder, total: int) -> None:
        self.protocol = protocol
        self.data = pattern(total)
        self.sent = 0
        self.paused = False
        self.stopped = False

    def start(self) -> None:
        """Register and write."""
        self.protocol.transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Write until paused or finished."""
        self.paused = False
        while not self.paused and self.sent < len(self.data):
            block = self.data[self.sent : self.sent + self.block]
            self.sent += len(block)
            self.protocol.transport.write(block)
        if self.sent == len(self.data) and not self.paused:
            self.protocol.transport.unregisterProducer()
        self.protocol.news()

    def pauseProducing(self) -> None:
        """Write no more."""
        self.paused = True

    def stopProducing(self) -> None:
        """The connection is lost."""
        self.paused = self.stopped = True
        self.protocol.events.append("stopped")


@implementer(IPushProducer)
class Idler:
    """A streaming producer that writes nothing and records what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def resumeProducing(self) -> None:
        """Record."""
        self.calls.append("resume")

    def pauseProducing(self) -> None:
        """Record."""
        self.calls.append("pause")

    def stopProducing(self) -> None:
        """Record."""
        self.calls.append("stop")


@implementer(IPullProducer)
class PullSource:
    """A pull producer of a number of blocks."""

    def __init__(self, transport: Any, blocks: int) -> None:
        self.transport = transport
        self.data = pattern(blocks * 1000)
        self.sent = 0

    def resumeProducing(self) -> None:
        """Write one block, or unregister after the last."""
        if self.sent == len(self.data):
            self.transport.unregisterProducer()
        else:
            self.sent += 1000
            self.transport.write(self.data[self.sent - 1000 : self.sent])

    def stopProducing(self) -> None:
        """Nothing to release."""


class FakeConnections(TestCase if TYPE_CHECKING else object):  # type: ignore[misc]
    """Connections made by L{flowPair}."""

    tlsManners = False
    chunkSize: int | None = None
    capacity = 65536
    # More than all the buffers between two peers hold, and a good deal less.
    flood = 1_000_000
    some = 60_000
    abortedPeerSees: type[Exception] = ConnectionLost

    link: FlowLink

    async def connect(self, a: Recorder, b: Recorder) -> None:
        """Connect two protocols."""
        self.link = flowPair(a, b, capacity=self.capacity, chunkSize=self.chunkSize, tlsManners=self.tlsManners)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let things happen until a condition holds."""
        self.link.pump()
        self.assertTrue(condition())

    async def settle(self) -> None:
        """Let all happen that is going to happen."""
        self.link.pump()


class RealConnections(TestCase if TYPE_CHECKING else object):  # type: ignore[misc]
    """Connections through the reactor."""

    timeout = 30
    flood = 32_000_000
    some = 60_000
    abortedPeerSees: type[Exception] = ConnectionLost

    def open(self, serverFactory: Factory[Any], clientFactory: ClientFactory[Any]) -> Any:
        """@return: a listening port, to which a connection is being made."""
        raise NotImplementedError

    async def connect(self, a: Recorder, b: Recorder) -> None:
        """Connect two protocols, and see to it that nothing is left of them."""
        self._news: Deferred[None] = Deferred()
        server, client = Factory.forProtocol(lambda: b), cast(Any, ClientFactory.forProtocol(lambda: a))
        server.noisy = client.noisy = False
        a.news = b.news = self.tell
        port = self.open(server, client)
        self.addCleanup(self.disconnect, a, b)
        await self.until(lambda: "ready" in a.events and "ready" in b.events)
        await port.stopListening()

    async def disconnect(self, a: Recorder, b: Recorder) -> None:
        """Leave no connection behind."""
        for protocol in (a, b):
            if "lost" not in protocol.events:
                protocol.transport.abortConnection()
            # One that is paused would not learn that the other is gone.
            await self.until(lambda protocol=protocol: "lost" in protocol.events)  # type: ignore[misc]

    def tell(self) -> None:
        """Wake up who waits for news."""
        news, self._news = self._news, Deferred()
        news.callback(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for events until a condition holds."""
        while not condition():
            await self._news
            await deferLater(reactor, 0)  # not inside the callback that brought the news

    async def settle(self) -> None:
        """
        Let all happen that is going to happen. On loopback what was sent is there at once, so what counts is
        turns of the reactor and not time: a close of TLS takes some, going to and fro.
        """
        for _ in range(50):
            await deferLater(reactor, 0)


class AnyManners(TestCase if TYPE_CHECKING else object):  # type: ignore[misc]
    """What every connection promises."""

    flood: int
    some: int
    abortedPeerSees: type[Exception]
    abortingSideSees: type[Exception] = ConnectionAborted
    if TYPE_CHECKING:

        async def connect(self, a: Recorder, b: Recorder) -> None: ...
        async def until(self, condition: Callable[[], bool]) -> None: ...
        async def settle(self) -> None: ...

    async def pair(self) -> tuple[TLSRecorder, TLSRecorder]:
        """@return: two connected recorders, which cannot half-close."""
        a, b = TLSRecorder(), TLSRecorder()
        await self.connect(a, b)
        return a, b

    async def halfClosePair(self) -> tuple[HalfCloseRecorder, HalfCloseRecorder]:
        """@return: two connected recorders, which can half-close."""
        a, b = HalfCloseRecorder(), HalfCloseRecorder()
        await self.connect(a, b)
        return a, b

    def assertStream(self, received: bytearray, size: int) -> None:
        """Assert that these are so many bytes of the pattern, without printing them."""
        self.assertEqual(len(received), size)
        self.assertEqual(hashlib.sha256(received).digest(), hashlib.sha256(pattern(size)).digest())

    async def test_bothDirectionsInOrder(self) -> None:
        """Both directions deliver what was written, complete and in order, however it is cut up."""
        a, b = await self.pair()
        for protocol in (a, b):
            Source(protocol, self.some).start()
        await self.until(lambda: len(a.received) == len(b.received) == self.some)
        self.assertStream(a.received, self.some)
        self.assertStream(b.received, self.some)

    async def test_writeDeliversNothingAtOnce(self) -> None:
        """Nothing reaches the peer inside write()."""
        a, b = await self.pair()
        a.transport.write(b"hello")
        self.assertEqual(b.received, b"")
        await self.until(lambda: b.received == b"hello")

    async def test_writeSequence(self) -> None:
        """writeSequence() writes all pieces in order."""
        a, b = await self.pair()
        a.transport.writeSequence([b"a", b"", b"bc"])
        await self.until(lambda: b.received == b"abc")

    async def test_stalledReaderPausesProducer(self) -> None:
        """A producer is paused while the peer does not read, and resumed when it does, with nothing lost."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        source = Source(a, self.flood)
        source.start()
        await self.settle()
        sent = source.sent
        self.assertTrue(source.paused)
        self.assertLess(sent, self.flood)
        await self.settle()
        self.assertEqual((source.sent, b.received), (sent, b""))
        b.transport.resumeProducing()
        await self.until(lambda: len(b.received) == self.flood)
        self.assertStream(b.received, self.flood)

    async def test_resumedOncePerPause(self) -> None:
        """A producer is resumed once for a pause, however much is written afterwards."""
        a, b = await self.pair()
        producer = Idler()
        a.transport.registerProducer(producer, True)
        a.transport.write(pattern(self.flood))
        await self.until(lambda: len(b.received) == self.flood)
        await self.settle()
        a.transport.write(b"more")
        await self.until(lambda: b.received.endswith(b"more"))
        await self.settle()
        self.assertEqual(producer.calls, ["pause", "resume"])

    async def test_stalledDirectionLeavesTheOtherAlone(self) -> None:
        """While one direction is stalled the other one goes on."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        Source(a, self.flood).start()
        b.transport.write(pattern(self.some))
        await self.until(lambda: len(a.received) == self.some)
        self.assertEqual(b.received, b"")

    async def test_pauseHoldsBytes(self) -> None:
        """While reading is paused bytes wait, and none is lost."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        a.transport.write(pattern(self.some))
        await self.settle()
        self.assertEqual(b.received, b"")
        b.transport.resumeProducing()
        await self.until(lambda: len(b.received) == self.some)
        self.assertStream(b.received, self.some)

    async def test_pullProducer(self) -> None:
        """A pull producer is asked for more until it unregisters."""
        a, b = await self.pair()
        a.transport.registerProducer(PullSource(a.transport, 50), False)
        await self.until(lambda: len(b.received) == 50_000)
        self.assertStream(b.received, 50_000)

    async def test_secondProducer(self) -> None:
        """A second producer is refused while one is registered."""
        a, _ = await self.pair()
        a.transport.registerProducer(Idler(), True)
        with self.assertRaises(RuntimeError):
            a.transport.registerProducer(Idler(), True)
        a.transport.unregisterProducer()

    async def test_loseConnectionFlushes(self) -> None:
        """loseConnection() closes after all that was written, and both sides see a clean end."""
        a, b = await self.pair()
        a.transport.write(pattern(self.some))
        a.transport.loseConnection()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertStream(b.received, self.some)
        self.assertEqual((a.reason, b.reason), (ConnectionDone, ConnectionDone))

    async def test_loseConnectionWaitsForPullProducer(self) -> None:
        """loseConnection() lets a pull producer finish first."""
        a, _ = await self.pair()
        source = PullSource(a.transport, 50)
        a.transport.registerProducer(source, False)
        a.transport.loseConnection()
        await self.until(lambda: "lost" in a.events)
        self.assertEqual(source.sent, 50_000)

    async def test_abort(self) -> None:
        """abortConnection() drops what is pending, and the peer can tell it from a clean end."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        a.transport.write(pattern(self.flood))
        await self.settle()
        a.transport.abortConnection()
        self.assertNotIn("lost", a.events)
        await self.until(lambda: "lost" in a.events)
        b.transport.resumeProducing()
        await self.until(lambda: "lost" in b.events)
        self.assertLess(len(b.received), self.flood)
        self.assertEqual((a.reason, b.reason), (self.abortingSideSees, self.abortedPeerSees))

    async def test_abortInsideDataReceived(self) -> None:
        """Whoever aborts when bytes arrive is given no more of them."""
        a, b = await self.pair()
        b.gotData = lambda: b.transport.abortConnection()
        a.transport.write(pattern(3 * self.some))
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual(b.events, ["ready", "data", "lost"])

    async def test_pausedReaderLearnsOfResetLater(self) -> None:
        """A side that does not read learns that it was reset once it reads again."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        await self.settle()
        a.transport.abortConnection()
        await self.settle()
        self.assertNotIn("lost", b.events)
        b.transport.resumeProducing()
        await self.until(lambda: "lost" in b.events)
        self.assertEqual(b.reason, self.abortedPeerSees)

    async def test_lostOnceAndLast(self) -> None:
        """connectionLost() comes exactly once, and nothing comes after it, whatever is done then."""
        a, b = await self.pair()
        a.transport.loseConnection()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        for protocol in (a, b):
            protocol.transport.loseConnection()
            protocol.transport.write(b"late")
            protocol.transport.resumeProducing()
            protocol.transport.pauseProducing()
        await self.settle()
        self.assertEqual((a.events, b.events), (["ready", "lost"], ["ready", "lost"]))

    async def test_producerStoppedBeforeLost(self) -> None:
        """A registered producer is stopped before its protocol learns that the connection is lost."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        Source(a, self.flood).start()
        a.transport.abortConnection()
        await self.until(lambda: "lost" in a.events)
        self.assertEqual(a.events, ["ready", "stopped", "lost"])

    async def test_producerRegisteredTooLate(self) -> None:
        """A producer that is registered after the end is stopped at once."""
        a, _ = await self.pair()
        a.transport.loseConnection()
        await self.until(lambda: "lost" in a.events)
        producer = Idler()
        a.transport.registerProducer(producer, True)
        self.assertEqual(producer.calls, ["stop"])

    async def test_claimsHalfClose(self) -> None:
        """The transport claims that it can half-close, also when that is not true."""
        a, _ = await self.pair()
        self.assertTrue(IHalfCloseableDescriptor.providedBy(a.transport))


class TCPManners(AnyManners):
    """What TCP and UNIX connections promise."""

    async def test_halfClose(self) -> None:
        """After a half-close, behind all that was written, the other direction goes on."""
        a, b = await self.halfClosePair()
        a.transport.write(pattern(self.some))
        a.transport.loseWriteConnection()
        await self.until(lambda: "readLost" in b.events)
        self.assertStream(b.received, self.some)
        self.assertIn("writeLost", a.events)
        a.transport.write(b"too late")
        b.transport.write(pattern(self.some))
        b.transport.loseConnection()
        await self.until(lambda: "lost" in b.events and "readLost" in a.events)
        self.assertStream(a.received, self.some)
        self.assertNotIn("lost", a.events)
        self.assertEqual(len(b.received), self.some)

    async def test_halfCloseWaitsForPausedReader(self) -> None:
        """End-of-file waits, behind the bytes, while reading is paused."""
        a, b = await self.halfClosePair()
        b.transport.pauseProducing()
        a.transport.write(b"last")
        a.transport.loseWriteConnection()
        await self.settle()
        self.assertEqual(b.events, ["ready"])
        b.transport.resumeProducing()
        await self.until(lambda: "readLost" in b.events)
        self.assertEqual(b.received, b"last")

    async def test_eofWithoutHalfClose(self) -> None:
        """A protocol that cannot half-close gets connectionLost(ConnectionDone) at end-of-file."""
        a, b = HalfCloseRecorder(), TLSRecorder()
        await self.connect(a, b)
        a.transport.loseWriteConnection()
        await self.until(lambda: "lost" in b.events)
        self.assertEqual(b.reason, ConnectionDone)

    async def test_eofAgainOnResume(self) -> None:
        """Whoever resumes reading after end-of-file is told of it once more."""
        a, b = await self.halfClosePair()
        a.transport.loseWriteConnection()
        await self.until(lambda: "readLost" in b.events)
        await self.settle()
        self.assertEqual(b.events.count("readLost"), 1)
        b.transport.resumeProducing()
        await self.until(lambda: b.events.count("readLost") == 2)

    async def test_loseConnectionAfterHalfClose(self) -> None:
        """loseConnection() after a half-close calls connectionLost() before it returns."""
        a, _ = await self.halfClosePair()
        a.transport.loseWriteConnection()
        await self.until(lambda: "writeLost" in a.events)
        a.transport.loseConnection()
        self.assertEqual((a.events[-1], a.reason), ("lost", ConnectionDone))

    async def test_loseConnectionStopsReading(self) -> None:
        """Nothing is delivered after loseConnection(), even if reading is resumed."""
        a, b = await self.pair()
        b.transport.write(b"unread")
        a.transport.loseConnection()
        a.transport.resumeProducing()
        await self.until(lambda: "lost" in a.events)
        self.assertEqual(a.received, b"")

    async def test_writeAfterLoseConnection(self) -> None:
        """What is written between loseConnection() and the end is sent."""
        a, b = await self.pair()
        a.transport.loseConnection()
        a.transport.write(b"late")
        await self.until(lambda: "lost" in b.events)
        self.assertEqual(b.received, b"late")

    async def test_loseConnectionWhilePaused(self) -> None:
        """A side that does not read can close."""
        a, b = await self.pair()
        a.transport.pauseProducing()
        a.transport.loseConnection()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((a.reason, b.reason), (ConnectionDone, ConnectionDone))

    async def test_loseConnectionIgnoresRunningProducer(self) -> None:
        """loseConnection() does not wait for a streaming producer that is not paused: it stops it."""
        a, b = await self.pair()
        producer = Idler()
        a.transport.registerProducer(producer, True)
        a.transport.loseConnection()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((producer.calls, a.reason, b.reason), (["stop"], ConnectionDone, ConnectionDone))

    async def test_loseConnectionResumesPausedProducer(self) -> None:
        """loseConnection() waits for a paused producer: it is resumed, and then closes by unregistering."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        producer = Idler()
        a.transport.registerProducer(producer, True)
        a.transport.write(pattern(self.flood))
        a.transport.loseConnection()
        b.transport.resumeProducing()
        await self.until(lambda: len(b.received) == self.flood)
        await self.settle()
        self.assertEqual((producer.calls, "lost" in a.events), (["pause", "resume"], False))
        a.transport.unregisterProducer()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((a.reason, b.reason), (ConnectionDone, ConnectionDone))

    async def test_successorOfPausedProducer(self) -> None:
        """A producer registered after a paused one is resumed, though it was never paused."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        a.transport.registerProducer(Idler(), True)
        a.transport.write(pattern(self.flood))
        a.transport.unregisterProducer()
        producer = Idler()
        a.transport.registerProducer(producer, True)
        b.transport.resumeProducing()
        await self.until(lambda: len(b.received) == self.flood)
        await self.settle()
        self.assertEqual(producer.calls, ["resume"])

    async def test_pausedAgainForEachWrite(self) -> None:
        """pauseProducing() is called again for each write to a full buffer."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        producer = Idler()
        a.transport.registerProducer(producer, True)
        a.transport.write(pattern(self.flood))
        a.transport.write(b"more")
        self.assertEqual(producer.calls, ["pause", "pause"])

    async def test_closeWithUnreadBytes(self) -> None:
        """A side whose bytes can no longer be read is told of a reset, if its peer's end did not end it before."""
        a, b = await self.halfClosePair()
        b.transport.pauseProducing()
        Source(a, self.flood).start()
        await self.settle()
        b.transport.loseConnection()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((a.reason, b.reason), (ConnectionLost, ConnectionDone))

    async def test_stopProducingCloses(self) -> None:
        """stopProducing() on a transport closes it cleanly."""
        a, b = await self.pair()
        a.transport.stopProducing()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((a.reason, b.reason), (ConnectionDone, ConnectionDone))

    async def test_abortAfterLost(self) -> None:
        """abortConnection() after the end does nothing."""
        a, _ = await self.pair()
        a.transport.loseConnection()
        await self.until(lambda: "lost" in a.events)
        a.transport.abortConnection()
        await self.settle()
        self.assertEqual(a.events, ["ready", "lost"])


class TLSManners(AnyManners):
    """What TLS connections promise, or rather do."""

    abortingSideSees: type[Exception] = ConnectionLost

    async def test_pauseDeliversTheRestOfTheRead(self) -> None:
        """What was decrypted already is delivered in spite of a pause, and the rest waits."""
        a, b = await self.pair()
        b.gotData = lambda: b.transport.pauseProducing()
        size = 3 * self.some
        a.transport.write(pattern(size))
        await self.until(lambda: bool(b.received))
        await self.settle()
        self.assertGreater(b.events.count("data"), 1)
        self.assertLess(len(b.received), size)
        b.gotData = lambda: None
        b.transport.resumeProducing()
        await self.until(lambda: len(b.received) == size)
        self.assertStream(b.received, size)

    async def test_halfCloseCuts(self) -> None:
        """loseWriteConnection() breaks both directions off and drops what was just written."""
        a, b = await self.halfClosePair()
        a.transport.write(b"dropped")
        a.transport.loseWriteConnection()
        a.transport.write(b"dropped too")
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((a.reason, b.reason), (ConnectionLost, ConnectionLost))
        self.assertEqual((a.events, b.events), (["ready", "lost"], ["ready", "lost"]))

    async def test_eofClosesHalfCloseable(self) -> None:
        """The peer's close is connectionLost(ConnectionDone) for a protocol that can half-close too."""
        a, b = await self.halfClosePair()
        a.transport.loseConnection()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((b.reason, b.events), (ConnectionDone, ["ready", "lost"]))

    async def test_loseConnectionWaitsForProducer(self) -> None:
        """loseConnection() completes only when the producer is unregistered, paused or not."""
        a, b = await self.pair()
        a.transport.registerProducer(Idler(), True)
        a.transport.loseConnection()
        a.transport.write(b"still sent")
        await self.until(lambda: b.received == b"still sent")
        await self.settle()
        self.assertEqual((a.events, b.events[-1]), (["ready"], "data"))
        a.transport.unregisterProducer()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((a.reason, b.reason), (ConnectionDone, ConnectionDone))

    async def test_loseConnectionWaitsForPeer(self) -> None:
        """loseConnection() completes only when the peer has read it, and until then bytes still arrive."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        a.transport.loseConnection()
        b.transport.write(b"still delivered")
        await self.until(lambda: a.received == b"still delivered")
        await self.settle()
        self.assertNotIn("lost", a.events)
        b.transport.resumeProducing()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((a.reason, b.reason), (ConnectionDone, ConnectionDone))

    async def test_loseConnectionWhilePaused(self) -> None:
        """A side that does not read never completes its close, though the peer does, until it reads."""
        a, b = await self.pair()
        a.transport.pauseProducing()
        a.transport.loseConnection()
        await self.until(lambda: "lost" in b.events)
        await self.settle()
        self.assertNotIn("lost", a.events)
        a.transport.resumeProducing()
        await self.until(lambda: "lost" in a.events)
        self.assertEqual((a.reason, b.reason), (ConnectionDone, ConnectionDone))

    async def test_writeAfterLoseConnection(self) -> None:
        """What is written after loseConnection() is dropped."""
        a, b = await self.pair()
        a.transport.loseConnection()
        a.transport.write(b"late")
        await self.until(lambda: "lost" in b.events)
        self.assertEqual(b.received, b"")

    async def test_writeAfterPeerClosed(self) -> None:
        """Once the peer has closed, what was written before is sent, what is written then is not."""
        a, b = await self.pair()
        a.transport.pauseProducing()
        producer = Idler()
        b.transport.registerProducer(producer, True)
        b.transport.write(pattern(self.flood))
        a.transport.loseConnection()
        await self.settle()
        b.transport.write(b"late")
        a.transport.resumeProducing()
        await self.until(lambda: len(a.received) == self.flood)
        await self.settle()
        self.assertEqual((producer.calls, "lost" in b.events), (["pause", "resume"], False))
        b.transport.unregisterProducer()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertStream(a.received, self.flood)
        self.assertEqual((a.reason, b.reason), (ConnectionDone, ConnectionDone))

    async def test_successorOfPausedProducer(self) -> None:
        """A producer registered after a paused one is paused when its turn comes."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        a.transport.registerProducer(Idler(), True)
        a.transport.write(pattern(self.flood))
        await self.settle()
        a.transport.unregisterProducer()
        producer = Idler()
        a.transport.registerProducer(producer, True)
        a.transport.write(pattern(self.flood))
        self.assertEqual(producer.calls, ["pause"])
        a.transport.unregisterProducer()

    async def test_pausedOnce(self) -> None:
        """pauseProducing() is called once, however much is written to a full buffer."""
        a, b = await self.pair()
        b.transport.pauseProducing()
        producer = Idler()
        a.transport.registerProducer(producer, True)
        for _ in range(3):
            a.transport.write(pattern(self.flood))
        await self.settle()
        self.assertEqual(producer.calls, ["pause"])
        a.transport.unregisterProducer()

    async def test_stopProducingCuts(self) -> None:
        """stopProducing() on a transport breaks the connection off: it closes the socket below."""
        a, b = await self.pair()
        a.transport.stopProducing()
        await self.until(lambda: "lost" in a.events and "lost" in b.events)
        self.assertEqual((a.reason, b.reason), (ConnectionLost, ConnectionLost))

    async def test_abortAfterLost(self) -> None:
        """abortConnection() after the end fails, so that nobody relies on it."""
        a, _ = await self.pair()
        a.transport.loseConnection()
        await self.until(lambda: "lost" in a.events)
        with self.assertRaises(AttributeError):
            a.transport.abortConnection()

    async def test_providesTLS(self) -> None:
        """The transport can be recognised as TLS."""
        a, _ = await self.pair()
        self.assertTrue(ISSLTransport.providedBy(a.transport))


class FlowTransportTests(FakeConnections, TCPManners, TestCase):
    """The fake keeps what TCP promises."""


class ByteByByteTests(FakeConnections, TCPManners, TestCase):
    """The fake keeps what TCP promises when each byte comes alone and buffers are tiny."""

    chunkSize = 1
    capacity = 100
    flood = 20_000
    some = 3_000


class TLSFlowTransportTests(FakeConnections, TLSManners, TestCase):
    """The fake with TLS manners does what TLS does."""

    tlsManners = True


class TCPTests(RealConnections, TCPManners, TestCase):
    """TCP on loopback."""

    def open(self, serverFactory: Factory[Any], clientFactory: ClientFactory[Any]) -> Any:
        """Listen and connect."""
        port = reactor.listenTCP(0, serverFactory, interface="127.0.0.1")
        reactor.connectTCP("127.0.0.1", port.getHost().port, clientFactory)
        return port


class UNIXTests(RealConnections, TCPManners, TestCase):
    """UNIX sockets, which cannot reset: an abort looks like a clean end, unless the one who aborts had unread bytes."""

    abortedPeerSees = ConnectionDone

    def open(self, serverFactory: Factory[Any], clientFactory: ClientFactory[Any]) -> Any:
        """Listen and connect."""
        path = self.mktemp()
        port = reactor.listenUNIX(path, serverFactory)
        reactor.connectUNIX(path, clientFactory)
        return port


class TLSTests(RealConnections, TLSManners, TestCase):
    """TLS over TCP on loopback."""

    authority = makeAuthority("Test Authority")
    credential = authority.issue("localhost")

    def open(self, serverFactory: Factory[Any], clientFactory: ClientFactory[Any]) -> Any:
        """Listen and connect."""
        server = PrivateCertificate.loadPEM(self.credential.certificatePEM + self.credential.keyPEM)
        client = optionsForClientTLS("localhost", trustRoot=Certificate.loadPEM(self.authority.certificatePEM))
        port = reactor.listenSSL(0, serverFactory, server.options(), interface="127.0.0.1")
        reactor.connectSSL("127.0.0.1", port.getHost().port, clientFactory, client)
        return port


class FlowLinkTests(SynchronousTestCase):
    """What a test can do with a link."""

    def setUp(self) -> None:
        """Connect two recorders."""
        self.a, self.b = HalfCloseRecorder(), HalfCloseRecorder()
        self.link = flowPair(self.a, self.b, capacity=1000)

    def test_memoryIsBounded(self) -> None:
        """highWater is at most the capacity and one write, for a producer that obeys."""
        self.link.aToB.stalled = True
        source = Source(self.a, 100_000)
        source.start()
        self.link.pump()
        self.assertEqual((self.link.aToB.bufferedBytes, source.paused), (2000, True))
        self.link.aToB.stalled = False
        self.link.pump()
        self.assertEqual((bytes(self.b.received), self.link.aToB.highWater), (source.data, 2000))
        self.link.a.write(b"less")
        self.assertEqual((self.link.aToB.highWater, self.link.aToB.bufferedBytes), (2000, 4))
        self.assertEqual(self.link.bToA.highWater, 0)

    def test_capacityIsTheLimit(self) -> None:
        """At the capacity a producer goes on; one byte more pauses it."""
        producer = Idler()
        self.link.a.registerProducer(producer, True)
        self.link.a.write(bytes(1000))
        self.assertEqual(producer.calls, [])
        self.link.a.write(b"1")
        self.assertEqual(producer.calls, ["pause"])

    def test_step(self) -> None:
        """One step delivers one chunk on each side, and says whether there was anything to do."""
        self.link.aToB.chunkSize = 2
        self.link.a.write(b"abc")
        self.link.b.write(b"xyz")
        self.assertTrue(self.link.step())
        self.assertEqual((self.a.received, self.b.received), (b"xyz", b"ab"))
        self.link.pump()
        self.assertFalse(self.link.step())

    def test_cut(self) -> None:
        """After a cut nothing arrives, not even an end; each side can only give up by itself."""
        self.link.cut()
        self.link.a.write(b"lost")
        self.link.b.loseConnection()
        self.link.pump()
        self.assertEqual((self.a.events, self.b.events), (["ready"], ["ready", "lost"]))
        self.link.a.abortConnection()
        self.link.pump()
        self.assertEqual(self.a.reason, ConnectionAborted)

    def test_writeToNobody(self) -> None:
        """That the peer is gone is told by a write, but only if the network carries both write and answer."""
        for stalled in (self.link.aToB, self.link.bToA):
            stalled.stalled = True
            self.link.b.loseConnection()
            self.link.pump()
            self.link.a.write(b"lost")
            self.link.pump()
            self.assertNotIn("lost", self.a.events)
            stalled.stalled = False
        self.link.pump()
        self.assertEqual(self.a.reason, ConnectionLost)

    def test_neverQuiet(self) -> None:
        """pump() fails when two protocols keep one another busy."""
        self.a.gotData = lambda: self.link.a.write(b"ping")
        self.b.gotData = lambda: self.link.b.write(b"pong")
        self.link.a.write(b"ping")
        with self.assertRaisesRegex(AssertionError, "still busy after 100 turns"):
            self.link.pump(turns=100)

    def test_withoutHalfClose(self) -> None:
        """A pair made without half-close does not claim it, refuses it, and closes at end-of-file."""
        a, b = HalfCloseRecorder(), HalfCloseRecorder()
        link = flowPair(a, b, halfClose=False)
        self.assertFalse(IHalfCloseableDescriptor.providedBy(link.a))
        with self.assertRaises(RuntimeError):
            link.a.loseWriteConnection()
        link.a.loseConnection()
        link.pump()
        self.assertEqual((b.events, b.reason), (["ready", "lost"], ConnectionDone))

    def test_addresses(self) -> None:
        """Each side's peer is the other side's host."""
        self.assertEqual(self.link.a.getPeer(), self.link.b.getHost())
        self.assertEqual(self.link.b.getPeer(), self.link.a.getHost())
        self.assertNotEqual(self.link.a.getPeer(), self.link.a.getHost())

    def test_socketOptions(self) -> None:
        """The options of a TCP transport are remembered."""
        self.assertFalse(self.link.a.getTcpNoDelay() or self.link.a.getTcpKeepAlive())
        self.link.a.setTcpNoDelay(True)
        self.link.a.setTcpKeepAlive(True)
        self.assertTrue(self.link.a.getTcpNoDelay() and self.link.a.getTcpKeepAlive())


class OneSidedTests(SynchronousTestCase):
    """What a test can do with one transport alone."""

    def setUp(self) -> None:
        """Connect a recorder."""
        self.protocol = HalfCloseRecorder()
        self.transport = FlowTransport(self.protocol, capacity=10)

    def test_deliver(self) -> None:
        """Bytes are delivered at once, or wait while reading is paused."""
        self.transport.deliver(b"one")
        self.assertEqual(self.protocol.received, b"one")
        self.transport.pauseProducing()
        self.transport.deliver(b" two")
        self.assertEqual((self.protocol.received, self.transport.readingPaused), (b"one", True))
        self.transport.resumeProducing()
        self.transport.pump()
        self.assertEqual(self.protocol.received, b"one two")

    def test_written(self) -> None:
        """What was written can be looked at, and taken in parts, which makes room for a producer."""
        producer = Idler()
        self.transport.registerProducer(producer, True)
        self.transport.write(b"hello, world")
        self.assertEqual(self.transport.written(), b"hello, world")
        self.assertEqual(self.transport.takeWritten(5), b"hello")
        self.assertEqual(producer.calls, ["pause"])
        self.assertEqual(self.transport.takeWritten(), b", world")
        self.assertEqual((producer.calls, self.transport.written()), (["pause", "resume"], b""))

    def test_loseConnection(self) -> None:
        """loseConnection() completes when what was written is taken."""
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.transport.pump()
        self.assertEqual((self.transport.disconnecting, self.transport.disconnected), (True, False))
        self.transport.takeWritten()
        self.assertEqual((self.transport.disconnected, self.protocol.reason), (True, ConnectionDone))

    def test_ends(self) -> None:
        """End-of-file and reset are delivered behind the bytes."""
        self.transport.deliver(b"last")
        self.transport.deliverEOF()
        self.assertEqual(self.protocol.events, ["ready", "data", "readLost"])
        self.transport.write(b"unsent")
        self.transport.deliverReset()
        self.assertEqual((self.protocol.reason, self.transport.written()), (ConnectionLost, b""))

    def test_abort(self) -> None:
        """abortConnection() can be seen at once; the protocol learns of it in the next step."""
        self.transport.write(b"unsent")
        self.transport.abortConnection()
        self.assertEqual((self.transport.aborted, self.transport.written()), (True, b""))
        self.assertFalse(self.transport.disconnected)
        self.transport.pump()
        self.assertTrue(self.transport.disconnected)

    def test_onlyBytes(self) -> None:
        """Anything but bytes is refused, as Twisted does."""
        with self.assertRaises(TypeError):
            self.transport.write(bytearray(b"no"))  # type: ignore[arg-type]


class FlowEndpointTests(SynchronousTestCase):
    """Tests for L{FlowEndpoint}."""

    def setUp(self) -> None:
        """Start to connect."""
        self.endpoint = FlowEndpoint(capacity=10)
        self.client = Recorder()
        factory = Factory.forProtocol(lambda: self.client)
        self.connecting = self.endpoint.connect(factory)

    def test_hangs(self) -> None:
        """Nothing happens until the test says so."""
        self.assertNoResult(self.connecting)

    def test_accept(self) -> None:
        """An accepted attempt gives the caller its protocol, connected to the test's."""
        server = Recorder()
        link = self.endpoint.attempts[0].accept(server)
        self.assertIs(self.successResultOf(self.connecting), self.client)
        self.assertEqual(link.a.capacity, 10)
        self.client.transport.write(b"hello")
        link.pump()
        self.assertEqual(server.received, b"hello")

    def test_fail(self) -> None:
        """A failed attempt gives the caller the test's reason."""
        self.endpoint.attempts[0].fail(Refused())
        self.failureResultOf(self.connecting, Refused)

    def test_cancel(self) -> None:
        """A caller that gives up is recorded, and gets what a real endpoint gives."""
        self.assertFalse(self.endpoint.attempts[0].cancelled)
        self.connecting.cancel()
        self.assertTrue(self.endpoint.attempts[0].cancelled)
        self.failureResultOf(self.connecting, ConnectingCancelledError)
