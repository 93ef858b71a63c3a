"""Tests for L{gateway.net.mux}: sessions, whose streams have tests in L{tests.net.test_muxstream}."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, NoProtocol, TimeoutError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.mux import MuxEndpoint, MuxSession, MuxSettings, StreamRefused
from gateway.net.muxdeadlines import monotonic
from gateway.testing import FlowTransport
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.yamuxframes import ACK, FIN, GO_AWAY, PING, SYN, WINDOW_UPDATE, GoAwayCode, frame
from tests.net.muxpair import Applications, MuxPair, Plain
from tests.net.sides import KIB, Peer, pattern


class _Failing(Peer):
    """Raises when it is told something."""

    def dataReceived(self, data: bytes) -> None:
        """Raise."""
        raise ZeroDivisionError


class _FailingAtOnce(Peer):
    """Raises when it is connected."""

    def connectionMade(self) -> None:
        """Raise."""
        raise ZeroDivisionError


def _fail() -> None:
    raise ZeroDivisionError


class _Cases(SynchronousTestCase):
    """What some of the tests share."""

    def alone(self, make: Callable[[], Any] = Peer, **settings: Any) -> tuple[Clock, FlowTransport, list[Any]]:
        """A server's session whose peer is the test."""
        clock, ended = Clock(), list[Any]()
        session = MuxSession(
            clock, client=False, factory=Applications(make), settings=MuxSettings(**settings), ended=ended.append
        )
        transport = FlowTransport(session)
        clock.advance(0)
        self.assertEqual(transport.takeWritten(), frame(PING | SYN, 0, 0))
        return clock, transport, ended


class OpeningTests(SynchronousTestCase):
    """How streams come to be, or do not."""

    def refused(self, accept: Applications) -> None:
        """A stream is opened, and is refused with a reset."""
        pair = MuxPair(accept=accept)
        mine = pair.connect()
        pair.pump()
        mine.reason.trap(ConnectionLost)
        self.assertEqual((pair.client.streamCount, pair.server.streamCount, pair.ended), (0, 0, [[], []]))

    def test_bothEndsOpen(self) -> None:
        """Bytes may be written at once, and either role opens streams."""
        pair = MuxPair()
        mine = pair.connect()
        mine.transport.write(b"at once")
        pair.pump()
        self.assertEqual(pair.accepted[0].received, b"at once")
        refused: Any = pair.server.open(Applications())
        self.assertEqual(refused.transport.getHost().stream, 2)
        pair.pump()
        refused.reason.trap(ConnectionLost)  # the client has no factory

    def test_afterFlush(self) -> None:
        """What was flushed is there before a stream that is opened later in the same turn."""
        there: list[list[bytes]] = []

        def make() -> Peer:
            there.append([bytes(each.received) for each in pair.accepted])
            return Peer()

        pair = MuxPair(accept=Applications(make))
        mine, _ = pair.open()
        mine.transport.write(b"first")
        pair.client.flush()
        pair.open()
        self.assertEqual(there, [[], [b"first"]])

    def test_factoryGivesNone(self) -> None:
        """A factory that gives no protocol for a stream refuses it."""
        self.refused(Applications(lambda: None))

    def test_factoryFails(self) -> None:
        """A factory that raises refuses the stream, and the defect is logged."""
        self.refused(Applications(_fail))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_protocolThatFails(self) -> None:
        """A protocol that raises loses its stream and no other."""
        for failing in (_Failing, _FailingAtOnce):
            protocols = iter((Peer, failing, Peer))
            pair = MuxPair(accept=Applications(lambda protocols=protocols: next(protocols)()))  # type: ignore[misc]
            pairs = [pair.open() for _ in range(3)]
            for mine, _ in pairs:
                mine.transport.write(b"hello")
            pair.pump()
            self.assertEqual([theirs.received for _, theirs in pairs], [b"hello", b"", b"hello"])
            pairs[1][0].reason.trap(ConnectionLost)
            pairs[1][1].reason.trap(ZeroDivisionError)
            self.assertEqual([mine.reason for mine, _ in pairs[::2]], [None, None])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_refusalsOfOurOwn(self) -> None:
        """An endpoint fails at once where no stream can be opened, and says why."""
        pair = MuxPair(client=MuxSettings(streams=1))
        endpoint = MuxEndpoint(pair.client)
        self.failureResultOf(endpoint.connect(Applications(lambda: None)), NoProtocol)
        self.failureResultOf(endpoint.connect(Applications(_fail)), ZeroDivisionError)
        self.successResultOf(endpoint.connect(Applications()))
        self.assertEqual(self.failureResultOf(endpoint.connect(Applications()), StreamRefused).value.code, "streams")
        pair.client.goAway()
        refused = self.failureResultOf(endpoint.connect(Applications()), StreamRefused).value
        self.assertEqual(refused.code, "going-away")
        self.assertIn("going-away", str(refused))
        pair.client.abortConnection()
        pair.pump()
        self.assertEqual(self.failureResultOf(endpoint.connect(Applications()), StreamRefused).value.code, "ended")
        unconnected = MuxEndpoint(MuxSession(Clock(), client=True))
        self.assertEqual(self.failureResultOf(unconnected.connect(Applications()), StreamRefused).value.code, "ended")

    def test_limitOfThePeers(self) -> None:
        """The peer gets as many streams as it may have, and one more is reset."""
        pair = MuxPair(server=MuxSettings(streams=2))
        ends = [pair.connect() for _ in range(3)]
        pair.pump()
        self.assertEqual([end.reason is None for end in ends], [True, True, False])

    def test_factoryIsStartedAndStopped(self) -> None:
        """The factory of the accepted streams is told when the session begins and ends, as by a port."""
        pair = MuxPair()
        self.assertEqual(pair.applications.numPorts, 1)
        pair.client.abortConnection()
        pair.pump()
        self.assertEqual(pair.applications.numPorts, 0)


class SharingTests(SynchronousTestCase):
    """Many streams on one carrier."""

    def test_turns(self) -> None:
        """Streams with much to send take turns, a frame of at most 64 KiB each."""
        order: list[tuple[int, int]] = []

        class Ordered(Peer):
            def dataReceived(self, data: bytes) -> None:
                stream = self.transport.getHost().stream
                if order and order[-1][0] == stream:
                    order[-1] = (stream, order[-1][1] + len(data))
                else:
                    order.append((stream, len(data)))

        pair = MuxPair(accept=Applications(Ordered))
        ends = [pair.open()[0] for _ in range(3)]
        for end in ends:
            end.transport.write(pattern(192 * KIB))
        pair.pump()
        self.assertEqual(order, [(stream, 64 * KIB) for stream in (1, 3, 5)] * 3)

    def test_stalledStreamStallsNobody(self) -> None:
        """A stream whose reader has stopped leaves the carrier to the others."""
        pair = MuxPair()
        stalled, reader = pair.open()
        reader.transport.pauseProducing()
        stalled.transport.write(pattern(2000 * KIB))
        pair.pump()
        mine, theirs = pair.open()
        mine.transport.write(pattern(2000 * KIB))
        pair.pump()
        self.assertEqual(len(theirs.received), 2000 * KIB)

    def test_fullCarrier(self) -> None:
        """A carrier that is full holds a batch more than it has room for, whatever waits, and receiving goes on."""
        pair = MuxPair()
        pairs = [pair.open() for _ in range(5)]
        pair.link.aToB.stalled = True
        for mine, theirs in pairs:
            mine.transport.write(pattern(1000 * KIB))
            theirs.transport.write(b"the other way")
        pair.pump()
        self.assertLessEqual(pair.link.aToB.highWater, (64 + 128 + 1) * KIB)
        self.assertEqual([mine.received for mine, _ in pairs], [b"the other way"] * 5)
        pair.link.aToB.stalled = False
        pair.pump()
        self.assertEqual({len(theirs.received) for _, theirs in pairs}, {1000 * KIB})

    def test_carrierThatTakesEverything(self) -> None:
        """However much the carrier takes at once, and though nothing comes back, everything is sent in the end."""
        pair = MuxPair(capacity=100_000 * KIB)
        pairs = [pair.open() for _ in range(12)]
        pair.link.bToA.stalled = True
        for mine, _ in pairs:
            mine.transport.write(pattern(256 * KIB))
        pair.pump()
        self.assertEqual([len(theirs.received) for _, theirs in pairs], [256 * KIB] * 12)

    def test_manyStreams(self) -> None:
        """Hundreds of streams that open, echo and close leave nothing behind."""
        pair = MuxPair(chunkSize=999)
        ends = [pair.connect() for _ in range(200)]
        for index, end in enumerate(ends):
            end.transport.write(pattern(index * 7))
            end.transport.loseWriteConnection()
        pair.pump()
        for theirs in pair.accepted:
            theirs.transport.write(bytes(theirs.received))
            theirs.transport.loseConnection()
        pair.pump()
        for end in ends:
            end.transport.loseConnection()
        pair.pump()
        self.assertEqual([bytes(end.received) for end in ends], [pattern(index * 7) for index in range(200)])
        self.assertEqual((pair.client.streamCount, pair.server.streamCount, pair.budget.used), (0, 0, 0))


class TimeTests(_Cases):
    """What may not take forever."""

    def test_deadCarrier(self) -> None:
        """A peer that is silent is found dead within two intervals; every stream is told, and no timer is left."""
        for offset in (0.0, 5.0):
            pair = MuxPair(client=MuxSettings(pingInterval=20), server=MuxSettings(pingInterval=20))
            mine, theirs = pair.open()
            pair.wait(offset)
            pair.link.cut()
            pair.wait(39.75 - offset)
            self.assertIsNone(mine.reason)
            pair.wait(0.25)
            for end, (ended,) in zip((mine, theirs), pair.ended, strict=True):
                end.reason.trap(ConnectionLost)
                ended.trap(TimeoutError)
            self.assertEqual(pair.clock.getDelayedCalls(), [])

    def test_pingEvery(self) -> None:
        """A session told to ping more often finds a dead peer sooner, but does not ping without an end."""
        for asked, interval in ((10.0, 10.0), (40.0, 40.0), (0.1, 6.0)):
            pair = MuxPair(
                client=MuxSettings(pingInterval=20, pingTimeout=96, pings=16), server=MuxSettings(pingInterval=0)
            )
            pair.open()
            pair.wait(1.0)
            pair.client.pingEvery(asked)
            pair.wait(interval)
            pair.link.cut()
            pair.wait(2 * interval - 0.25)
            self.assertEqual(pair.ended[0], [])
            pair.wait(0.25)
            self.assertEqual(len(pair.ended[0]), 1)
            timers = len(pair.clock.getDelayedCalls())
            pair.client.pingEvery(1.0)
            self.assertEqual(len(pair.clock.getDelayedCalls()), timers)

    def test_livePeers(self) -> None:
        """An idle session whose peer answers lives on, whether or not anybody reads the streams."""
        pair = MuxPair()
        mine, theirs = pair.open()
        theirs.transport.pauseProducing()
        mine.transport.write(pattern(1000 * KIB))
        pair.wait(500)
        self.assertEqual((mine.reason, pair.ended), (None, [[], []]))

    def test_peerThatAnswersNoPing(self) -> None:
        """A peer that sends all the time but answers no ping is dead after the ping timeout."""
        pair = MuxPair(client=MuxSettings(pingInterval=10, pingTimeout=15))
        _, theirs = pair.open()
        pair.link.aToB.stalled = True
        for _ in range(25 * 4 - 1):
            theirs.transport.write(b".")
            pair.wait(0.25)
        self.assertEqual(pair.ended[0], [])
        pair.wait(0.25)
        pair.ended[0][0].trap(TimeoutError)

    def test_openTimeout(self) -> None:
        """A stream that the peer does not acknowledge in time is lost, not before."""
        pair = MuxPair(client=MuxSettings(openTimeout=5, pingInterval=0))
        mine = pair.connect()
        pair.link.cut()
        pair.wait(4.75)
        self.assertIsNone(mine.reason)
        pair.wait(0.25)
        mine.reason.trap(ConnectionLost)

    def test_closeTimeout(self) -> None:
        """A peer that does not end its direction of a stream that we closed has it reset in time, not before."""
        pair = MuxPair(client=MuxSettings(closeTimeout=5))
        mine, theirs = pair.open()
        mine.transport.loseConnection()
        pair.pump()
        self.assertIsNotNone(mine.reason)
        pair.wait(4.75)
        self.assertIsNone(theirs.reason)
        pair.wait(0.25)
        theirs.reason.trap(ConnectionLost)

    def test_roundTrip(self) -> None:
        """The round trip is asked for a few times when a session begins, as the first answer is a slow one."""
        clock, transport, _ = self.alone()
        asked = 1
        while True:
            clock.advance(1 / asked)
            transport.deliver(frame(PING | ACK, 0, asked - 1))
            if not transport.takeWritten():
                break
            asked += 1
        self.assertEqual(asked, 8)

    def test_lastPong(self) -> None:
        """A session knows when its peer last answered a ping, and the shortest round trip."""
        pair = MuxPair(roundTrip=0.5)
        self.assertEqual((pair.client.lastPong, pair.client.rtt), (8 * 0.5, 0.5))
        pair.wait(20)
        self.assertEqual(pair.client.lastPong, 7 * 0.5 + MuxSettings().pingInterval)
        unconnected = MuxSession(Clock(), client=True)
        self.assertEqual((unconnected.lastPong, unconnected.rtt), (None, None))

    def test_timeOfDay(self) -> None:
        """A session goes by a clock that nobody sets."""
        self.assertIs(monotonic(reactor), time.monotonic)
        clock = Clock()
        self.assertEqual(monotonic(clock), clock.seconds)

    def test_settings(self) -> None:
        """Pings may not run out before their time does."""
        MuxSettings(pings=4, pingInterval=5, pingTimeout=20)
        self.assertRaises(ValueError, MuxSettings, pings=4, pingInterval=5, pingTimeout=20.1)
        self.assertRaises(ValueError, MuxSettings, window=1)


class EndTests(_Cases):
    """How sessions end."""

    def drained(self, pair: MuxPair) -> Deferred[None]:
        """The server goes away."""
        drained = pair.server.goAway()
        pair.pump()
        return drained

    def test_goAway(self) -> None:
        """A session that goes away opens and accepts nothing, and closes when its last stream has ended at both ends."""
        for manners in (False, True):
            pair = MuxPair(tlsManners=manners)
            mine, theirs = pair.open()
            drained = self.drained(pair)
            self.assertRaises(StreamRefused, pair.client.open, Applications())
            self.assertRaises(StreamRefused, pair.server.open, Applications())
            mine.transport.write(b"still here")
            mine.transport.loseConnection()
            pair.pump()
            self.assertNoResult(drained)
            theirs.transport.loseConnection()
            pair.pump()
            self.successResultOf(drained)
            self.successResultOf(pair.server.goAway())
            self.assertEqual(theirs.received, b"still here")
            for end, (ended,) in zip((mine, theirs), pair.ended, strict=True):
                end.reason.trap(ConnectionDone)
                ended.trap(ConnectionDone)
            self.assertEqual(pair.clock.getDelayedCalls(), [])

    def test_goAwayTwice(self) -> None:
        """Who asks again waits for the same end, and one that has no streams comes at once."""
        pair = MuxPair()
        first, second = pair.server.goAway(), pair.server.goAway()
        self.assertNoResult(first)
        pair.pump()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_goAwayWaitsForThePeersReader(self) -> None:
        """A carrier is not closed while the peer has not read what it was sent, though our stream has ended."""
        pair = MuxPair()
        mine, theirs = pair.open()
        mine.transport.pauseProducing()
        theirs.transport.write(b"the last")
        theirs.transport.loseConnection()
        drained = self.drained(pair)
        self.assertNoResult(drained)
        mine.transport.resumeProducing()
        pair.pump()
        self.assertEqual((mine.received, mine.ended), (b"the last", True))
        mine.transport.loseConnection()
        pair.pump()
        self.successResultOf(drained)

    def test_grownWindowsAreGivenBack(self) -> None:
        """The budget gets back what the windows of a lost session had."""
        pair = MuxPair(roundTrip=1.0)
        mine, theirs = pair.open()
        for _ in range(12):
            mine.transport.write(pattern(200 * KIB))
            pair.wait(0.25)
        self.assertEqual(len(theirs.received), 12 * 200 * KIB)
        self.assertGreater(pair.budget.used, 0)
        pair.link.a.abortConnection()
        pair.pump()
        self.assertEqual(pair.budget.used, 0)

    def test_close(self) -> None:
        """Closing ends every stream at both ends, and what was written before arrives if the carrier has room for it."""
        pair = MuxPair()
        mine, theirs = pair.open()
        theirs.transport.write(b"last words")
        pair.server.close()
        pair.server.close()
        pair.pump()
        self.assertEqual(mine.received, b"last words")
        for end, (ended,) in zip((mine, theirs), pair.ended, strict=True):
            end.reason.trap(ConnectionLost)
            ended.trap(ConnectionDone)
        self.assertEqual(pair.clock.getDelayedCalls(), [])

    def test_drainTimeout(self) -> None:
        """Streams that do not end are cut off at the drain timeout, not before."""
        pair = MuxPair(server=MuxSettings(drainTimeout=7))
        mine, theirs = pair.open()
        drained = self.drained(pair)
        pair.wait(6.75)
        self.assertNoResult(drained)
        pair.wait(0.25)
        self.successResultOf(drained)
        for end in (mine, theirs):
            end.reason.trap(ConnectionLost)
        pair.ended[1][0].trap(ConnectionAborted)
        self.assertEqual(pair.clock.getDelayedCalls(), [])

    def test_fullBacklog(self) -> None:
        """
        Who opens streams while the peer has yet to acknowledge as many as there may be waits for that, in order; those
        who give up wait no more, and those who are too many are refused.
        """
        pair = MuxPair(client=MuxSettings(backlog=2, streams=6))
        endpoint = MuxEndpoint(pair.client)
        opened: list[int] = []

        def opening(number: int) -> Deferred[IProtocol]:
            done = endpoint.connect(Factory.forProtocol(Plain))
            done.addCallbacks(lambda _: opened.append(number), lambda failure: failure.trap(CancelledError))
            return done

        waiting = [opening(number) for number in range(5)]
        self.assertEqual(opened, [0, 1])
        waiting[2].cancel()
        pair.pump()
        self.assertEqual(opened, [0, 1, 3, 4])
        for _ in range(2):
            pair.client.open(Factory.forProtocol(Plain))
        refused = endpoint.connect(Factory.forProtocol(Plain))
        self.assertEqual(self.failureResultOf(refused, StreamRefused).value.code, "streams")

    def test_fullBacklogAtTheEnd(self) -> None:
        """Who waits for room is refused when the session ends, and at once when too many wait."""
        pair = MuxPair(client=MuxSettings(backlog=1, streams=2))
        endpoint = MuxEndpoint(pair.client)
        _, *waiting = [endpoint.connect(Factory.forProtocol(Plain)) for _ in range(4)]
        self.assertEqual(self.failureResultOf(waiting.pop(), StreamRefused).value.code, "backlog")
        pair.link.a.abortConnection()
        pair.pump()
        for each in waiting:
            self.assertEqual(self.failureResultOf(each, StreamRefused).value.code, "ended")

    def test_carrierLost(self) -> None:
        """A carrier that is lost, even by a clean end, is C{ConnectionLost} to every stream, and leaves nothing behind."""
        for clean in (True, False):
            pair = MuxPair()
            ends = [end for _ in range(3) for end in pair.open()]
            for end in ends:
                end.transport.write(pattern(500 * KIB))
            if clean:
                pair.link.aToB.eof = True
            else:
                pair.link.a.abortConnection()
            pair.pump()
            for end in ends:
                end.reason.trap(ConnectionLost)
            self.assertEqual([len(ended) for ended in pair.ended], [1, 1])
            self.assertEqual(pair.clock.getDelayedCalls(), [])
            self.assertEqual(pair.budget.used, 0)

    def test_violation(self) -> None:
        """A peer that breaks the protocol is told so before the carrier is closed, and the reason says how."""
        clock, transport, ended = self.alone()
        transport.deliver(frame(WINDOW_UPDATE | SYN, 1, 0) + b"\xff" * 12)
        self.assertEqual(transport.takeWritten()[-12:], frame(GO_AWAY, 0, GoAwayCode.PROTOCOL_ERROR))
        (reason,) = ended
        reason.trap(RemoteProtocolError)
        self.assertEqual(reason.value.code, "bad-version")
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_violationByWhoDoesNotRead(self) -> None:
        """A peer that breaks the protocol and does not take the answer is cut off in time, not before."""
        clock, transport, ended = self.alone(goodbyeTimeout=3)
        transport.deliver(b"\xff" * 12)
        transport.deliver(b"ignored")
        clock.advance(2.75)
        transport.pump()
        self.assertEqual(ended, [])
        clock.advance(0.25)
        transport.pump()
        ended[0].trap(RemoteProtocolError)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_floodByWhoDoesNotRead(self) -> None:
        """A peer that asks and asks and reads nothing ends its session, rather than fill our memory."""
        clock, transport, ended = self.alone(answers=100)
        for _ in range(70):
            transport.deliver(frame(PING | SYN, 0, 7) * 100)
        self.assertLess(transport.outgoing.highWater, 70_000)
        clock.advance(10)
        transport.pump()
        self.assertEqual(ended[0].value.code, "control-flood")

    def test_streamsByWhoDoesNotRead(self) -> None:
        """A peer that opens and ends streams for ever and reads nothing ends its session, too."""
        clock, transport, ended = self.alone(Plain, answers=100)
        for number in range(1, 20_000, 2):
            transport.deliver(frame(WINDOW_UPDATE | SYN | FIN, number, 0))
        self.assertLess(transport.outgoing.highWater, 70_000)
        clock.advance(10)
        transport.pump()
        self.assertEqual(ended[0].value.code, "control-flood")
