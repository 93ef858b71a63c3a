"""Tests for L{gateway.net.muxstream}: a stream is a transport, with the manners of TCP."""

from __future__ import annotations

from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IHalfCloseableDescriptor, IPushProducer, ITransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.net.direct import IDirectTransport, readDirectly
from gateway.net.mux import MuxAddress
from gateway.net.muxstream import HIGH_WATER
from gateway.wire.window import INITIAL_WINDOW
from gateway.wire.yamuxframes import DATA, frame
from tests.net.muxpair import Applications, MuxPair, Plain, Source
from tests.net.sides import KIB, Peer, pattern


class TransportTests(SynchronousTestCase):
    """What everybody expects of a transport."""

    def test_interfaces(self) -> None:
        """A stream provides all that a TCP connection does, but for the socket."""
        mine, _ = MuxPair().open()
        for interface in (ITransport, IConsumer, IPushProducer, IHalfCloseableDescriptor, IDirectTransport):
            verifyObject(interface, mine.transport)

    def test_addresses(self) -> None:
        """An address names the session and the stream, and has the carrier's address at the same end."""
        pair = MuxPair()
        mine, theirs = pair.open()
        here, there = (IPv4Address("TCP", "127.0.0.1", port) for port in (1, 2))
        self.assertEqual(mine.transport.getHost(), MuxAddress("up", 1, here))
        self.assertEqual(mine.transport.getPeer(), MuxAddress("up", 1, there))
        theirAddress = theirs.transport.getPeer()
        self.assertEqual((theirAddress.session, theirAddress.stream), ("down", 1))
        self.assertEqual(pair.applications.addresses, [theirAddress])

    def test_bytesArriveHoweverTheyAreCut(self) -> None:
        """Both ways, what is written arrives once and in order, whatever pieces it is written and carried in."""
        for chunk in (1, 5, 12, 13, 1000, 64 * KIB):
            pair = MuxPair(chunkSize=chunk)
            pairs = [pair.open() for _ in range(3)]
            for at in range(0, 3000, 1000):
                for mine, theirs in pairs:
                    mine.transport.write(pattern(1000, at))
                    theirs.transport.writeSequence([pattern(400, at), b"", pattern(600, at + 400)])
                    pair.turn()
            pair.pump()
            for mine, theirs in pairs:
                self.assertEqual((mine.received, theirs.received), (pattern(3000), pattern(3000)))

    def test_stallsLoseNothing(self) -> None:
        """Readers that pause and resume at random, and a carrier that stalls, get every byte, with TLS's manners too."""
        for manners in (False, True):
            random = Random(3)
            pair = MuxPair(tlsManners=manners)
            ends = [end for _ in range(4) for end in pair.open()]
            sent = [0] * len(ends)
            for _ in range(300):
                index = random.randrange(len(ends))
                size = random.choice((1, 100, 5000, 70_000))
                ends[index].transport.write(pattern(size, sent[index]))
                sent[index] += size
                random.choice((ends[index].transport.pauseProducing, ends[index].transport.resumeProducing))()
                pair.link.aToB.stalled = random.random() < 0.3
                for _ in range(random.randrange(3)):
                    pair.turn()
            pair.link.aToB.stalled = False
            for end in ends:
                end.transport.resumeProducing()
            pair.pump()
            for index, end in enumerate(ends):
                self.assertEqual(end.received, pattern(sent[index ^ 1]))

    def test_buffersAreNotKept(self) -> None:
        """A C{memoryview} may be used again once C{write} has returned."""
        pair = MuxPair()
        mine, theirs = pair.open()
        buffer = bytearray(b"first")
        mine.transport.write(memoryview(buffer))
        buffer[:] = b"other"
        pair.pump()
        self.assertEqual(theirs.received, b"first")

    def test_readDirectly(self) -> None:
        """Who asks for it is given views of what was read, and what was kept during a pause before them."""
        pair = MuxPair()
        mine, theirs = pair.open()
        pieces: list[tuple[bool, bytes]] = []
        readDirectly(theirs.transport, lambda data: pieces.append((isinstance(data, memoryview), bytes(data))))
        mine.transport.write(b"first")
        pair.pump()
        theirs.transport.pauseProducing()
        mine.transport.write(b"kept")
        pair.pump()
        theirs.transport.resumeProducing()
        mine.transport.write(b"last")
        mine.transport.loseWriteConnection()
        pair.pump()
        self.assertEqual(pieces, [(True, b"first"), (False, b"kept"), (True, b"last")])
        self.assertEqual((theirs.received, theirs.ended), (b"", True))

    def test_whatIsReadMayBeKept(self) -> None:
        """A protocol is given bytes, and what is kept for it is a copy, as the carrier reads into one buffer."""
        pair = MuxPair()
        mine, theirs = pair.open()
        got: list[bytes] = []
        theirs.dataReceived = got.append
        mine.transport.write(b"handed over")
        pair.pump()
        for size in (3, 5000):
            theirs.transport.pauseProducing()
            data = bytearray(frame(DATA, 1, size) + b"x" * size)
            pair.server.dataReceived(memoryview(data))
            data[:] = bytes(len(data))
            theirs.transport.resumeProducing()
            pair.pump()
        self.assertEqual(got, [b"handed over", b"xxx", b"x" * 5000])
        self.assertEqual({type(data) for data in got}, {bytes})

    def test_manySmallWritesAreOneFrame(self) -> None:
        """What is written in one turn of the reactor leaves as one frame in one write to the carrier."""
        pair = MuxPair()
        mine, theirs = pair.open()
        other, _ = pair.open()
        writes: list[int] = []
        write = pair.link.a.write

        def counted(data: bytes) -> None:
            writes.append(len(data))
            write(data)

        setattr(pair.link.a, "write", counted)  # noqa: B010 -- mypy will not have a method assigned to
        for _ in range(100):
            mine.transport.write(b"0123456789")
        other.transport.write(b"x")
        pair.pump()
        self.assertEqual(writes, [12 + 1000 + 12 + 1])
        self.assertEqual(theirs.received, b"0123456789" * 100)


class EndTests(SynchronousTestCase):
    """How streams end."""

    def test_halfClose(self) -> None:
        """The end of one direction comes after its bytes, and the other goes on until it ends, too."""
        pair = MuxPair()
        mine, theirs = pair.open()
        mine.transport.write(pattern(500 * KIB))
        mine.transport.loseWriteConnection()
        pair.pump()
        self.assertEqual(theirs.received, pattern(500 * KIB))
        self.assertTrue(theirs.ended)
        mine.transport.write(b"too late")
        theirs.transport.write(b"answer")
        theirs.transport.loseConnection()
        pair.pump()
        self.assertEqual((mine.received, mine.ended, mine.reason), (b"answer", True, None))
        mine.transport.loseConnection()
        pair.pump()
        for end in (mine, theirs):
            assert end.reason is not None
            end.reason.trap(ConnectionDone)
        self.assertEqual((pair.client.streamCount, pair.server.streamCount), (0, 0))

    def test_endForWhoKnowsNoHalfClose(self) -> None:
        """To a protocol without half-close the peer's end is the end of the stream, after what it wrote itself."""
        pair = MuxPair(accept=Applications(Plain))
        mine, theirs = pair.open()
        theirs.transport.write(pattern(400 * KIB))
        mine.transport.write(b"bye")
        mine.transport.loseWriteConnection()
        pair.pump()
        self.assertEqual((theirs.received, mine.received), (b"bye", pattern(400 * KIB)))
        theirs.reason.trap(ConnectionDone)
        self.assertTrue(mine.ended)

    def test_closingFlushes(self) -> None:
        """What was written before C{loseConnection} arrives, and the protocol hears nothing more but the end."""
        pair = MuxPair()
        mine, theirs = pair.open()
        mine.transport.write(pattern(1000 * KIB))
        mine.transport.loseConnection()
        self.assertIsNone(mine.reason)
        theirs.transport.write(b"nobody reads this")
        pair.pump()
        self.assertEqual(theirs.received, pattern(1000 * KIB))
        self.assertTrue(theirs.ended)
        self.assertEqual(mine.received, b"")
        mine.reason.trap(ConnectionDone)

    def test_closingWaitsForTheWindow(self) -> None:
        """A stream that closes stays until the peer has taken the window that its last bytes need."""
        pair = MuxPair()
        mine, theirs = pair.open()
        theirs.transport.pauseProducing()
        mine.transport.write(pattern(INITIAL_WINDOW + 1))
        mine.transport.loseConnection()
        pair.pump()
        self.assertIsNone(mine.reason)
        theirs.transport.resumeProducing()
        pair.pump()
        self.assertEqual((len(theirs.received), theirs.ended), (INITIAL_WINDOW + 1, True))
        self.assertIsNotNone(mine.reason)

    def test_endWaitsForWhatIsUnread(self) -> None:
        """A paused reader is told of the end when it has got everything, and not before."""
        pair = MuxPair()
        mine, theirs = pair.open()
        theirs.transport.pauseProducing()
        mine.transport.write(b"the last")
        mine.transport.loseWriteConnection()
        pair.pump()
        self.assertEqual((theirs.received, theirs.ended), (b"", False))
        theirs.transport.resumeProducing()
        pair.pump()
        self.assertEqual((theirs.received, theirs.ended), (b"the last", True))

    def test_whatHasArrivedOutlivesTheSession(self) -> None:
        """
        When all that the peer had to say is here, a paused reader gets it, and its end, though the session is lost; it
        hears of the loss afterwards.
        """
        for isKept in (True, False):
            pair = MuxPair()
            mine, theirs = pair.open()
            theirs.transport.pauseProducing()
            mine.transport.write(b"the last" if isKept else b"")
            mine.transport.loseWriteConnection()
            pair.pump()
            pair.link.a.abortConnection()
            pair.pump()
            self.assertEqual(theirs.reason is None, isKept)
            if isKept:
                theirs.transport.resumeProducing()
                pair.pump()
                self.assertEqual(theirs.received, b"the last")
            self.assertTrue(theirs.ended)
            theirs.reason.trap(ConnectionLost)
            self.assertEqual(pair.clock.getDelayedCalls(), [])
            self.assertEqual(pair.budget.used, 0)

    def test_whatIsNotAllGoesWithTheSession(self) -> None:
        """What a paused reader was not given is dropped with the session when more should have come."""
        pair = MuxPair()
        mine, theirs = pair.open()
        theirs.transport.pauseProducing()
        mine.transport.write(b"the first")
        pair.pump()
        pair.link.a.abortConnection()
        pair.pump()
        self.assertEqual((theirs.received, theirs.ended), (b"", False))
        theirs.reason.trap(ConnectionLost)

    def test_closingWhenHalfClosed(self) -> None:
        """A protocol may close the stream when it hears that its writing has ended."""

        class Closing(Peer):
            def writeConnectionLost(self) -> None:
                self.transport.loseConnection()

        pair = MuxPair()
        mine, theirs = pair.open(Closing)
        mine.transport.write(b"all")
        mine.transport.loseWriteConnection()
        pair.pump()
        mine.reason.trap(ConnectionDone)
        self.assertEqual((theirs.received, theirs.ended), (b"all", True))

    def test_resetIsToldFromAnEnd(self) -> None:
        """C{abortConnection} is C{ConnectionLost} at the peer, and what was on the way is dropped."""
        pair = MuxPair()
        mine, theirs = pair.open()
        theirs.transport.pauseProducing()
        mine.transport.write(b"on the way")
        pair.pump()
        mine.transport.write(pattern(500 * KIB))
        mine.transport.abortConnection()
        mine.transport.abortConnection()
        self.assertIsNone(mine.reason)
        pair.pump()
        mine.reason.trap(ConnectionAborted)
        theirs.reason.trap(ConnectionLost)
        self.assertEqual(theirs.received, b"")
        self.assertEqual((pair.client.streamCount, pair.server.streamCount, pair.budget.used), (0, 0, 0))

    def test_nothingAfterTheEnd(self) -> None:
        """The verbs of a stream that is gone do nothing, and a producer is told so."""
        pair = MuxPair()
        mine, _ = pair.open()
        mine.transport.abortConnection()
        pair.pump()
        reason = mine.reason
        stream = mine.transport
        for verb in (stream.loseConnection, stream.loseWriteConnection, stream.abortConnection, stream.stopProducing):
            verb()
        stream.write(b"x")
        stream.pauseProducing()
        stream.resumeProducing()
        pair.pump()
        self.assertIs(mine.reason, reason)
        self.assertEqual(Source(stream, b"x", 1, streaming=True).told, ["stop"])


class ProducerTests(SynchronousTestCase):
    """Back-pressure, in both directions."""

    def test_noCreditWhilePaused(self) -> None:
        """A paused reader costs one window and gives no credit; what is kept comes first, then the rest, then the end."""
        pair = MuxPair()
        mine, theirs = pair.open()
        theirs.transport.pauseProducing()
        mine.transport.write(pattern(1000 * KIB))
        mine.transport.loseWriteConnection()
        pair.pump()
        self.assertEqual((theirs.received, theirs.transport.unread), (b"", INITIAL_WINDOW))
        self.assertEqual(mine.transport.unsent, 1000 * KIB - INITIAL_WINDOW)
        theirs.transport.resumeProducing()
        self.assertEqual(theirs.received, b"")
        pair.pump()
        self.assertEqual(theirs.received, pattern(1000 * KIB))
        self.assertTrue(theirs.ended)

    def test_highWater(self) -> None:
        """A streaming producer is paused one byte past the high water, and resumed when all is sent."""
        pair = MuxPair()
        mine, theirs = pair.open()
        theirs.transport.pauseProducing()
        mine.transport.write(pattern(INITIAL_WINDOW))
        pair.pump()
        source = Source(mine.transport, b"", 1, streaming=True)
        mine.transport.write(bytes(HIGH_WATER))
        self.assertEqual(source.told, [])
        mine.transport.write(b".")
        mine.transport.write(b".")
        self.assertEqual(source.told, ["pause"])
        theirs.transport.resumeProducing()
        pair.pump()
        self.assertEqual(source.told, ["pause", "resume"])

    def test_sourceOfManyBytes(self) -> None:
        """A push or pull producer sends everything, and never more than the high water and a piece wait."""
        for streaming in (True, False):
            pair = MuxPair()
            mine, theirs = pair.open()
            source = Source(mine.transport, pattern(251 * 100), 100, streaming=streaming)
            if streaming:
                source.resumeProducing()
            mine.transport.loseWriteConnection()
            busy = True
            while busy:
                self.assertLessEqual(mine.transport.unsent, HIGH_WATER + 251 * 100)
                busy = pair.turn()
            self.assertEqual(theirs.received, pattern(251 * 100 * 100))
            self.assertTrue(theirs.ended)

    def test_resumingKeepsTheOrder(self) -> None:
        """What comes between the resuming and the handing over of what was kept does not overtake it."""
        pair = MuxPair()
        mine, theirs = pair.open()
        theirs.transport.pauseProducing()
        mine.transport.write(b"first ")
        pair.pump()
        mine.transport.write(b"second")
        pair.clock.advance(0)
        theirs.transport.resumeProducing()
        pair.link.step()
        pair.pump()
        self.assertEqual(theirs.received, b"first second")

    def test_closingWaitsForAPullProducer(self) -> None:
        """A stream with a pull producer closes when that is unregistered."""
        pair = MuxPair()
        mine, _ = pair.open()
        source = Source(mine.transport, b"", 1000, streaming=False)
        mine.transport.loseConnection()
        pair.pump()
        self.assertIsNone(mine.reason)
        self.assertGreater(source.left, 0)
        mine.transport.unregisterProducer()
        pair.pump()
        mine.reason.trap(ConnectionDone)

    def test_oneProducer(self) -> None:
        """A second producer is refused, and the first is told when the stream breaks off."""
        pair = MuxPair()
        mine, theirs = pair.open()
        source = Source(mine.transport, b"", 1, streaming=True)
        self.assertRaises(RuntimeError, mine.transport.registerProducer, source, True)
        theirs.transport.abortConnection()
        pair.pump()
        self.assertEqual(source.told, ["stop"])

    def test_smallPiecesAreKeptTogether(self) -> None:
        """Bytes that come one by one while reading is paused are kept, and handed over, in one piece."""
        pair = MuxPair(chunkSize=1)
        mine, theirs = pair.open()
        theirs.transport.pauseProducing()
        mine.transport.write(pattern(3000))
        pair.pump()
        pieces: list[int] = []
        theirs.dataReceived = lambda data: pieces.append(len(data))
        theirs.transport.resumeProducing()
        pair.pump()
        self.assertEqual(pieces, [3000])
