"""Tests for L{gateway.wire.yamux} where something is refused: mistakes of ours, mistakes of the peer, and the limits."""

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.window import INITIAL_WINDOW, WindowBudget
from gateway.wire.yamux import Session
from gateway.wire.yamuxframes import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Code,
    GoAwayCode,
    Rst,
    Syn,
    frame,
)
from gateway.wire.yamuxstreams import Limits
from tests.wire.yamuxpair import KIB, PATTERN, Pair, payload, session, wire


class LocalMistakeTests(SynchronousTestCase):
    """What the protocol does not allow us is refused before anything is sent."""

    def assertRefused(self, client: Session, verb: Callable[[], object]) -> None:
        """Assert that a verb raises and queues nothing."""
        wire(client)
        self.assertRaises(LocalProtocolError, verb)
        self.assertEqual(client.take(), [])

    def test_sendTooMuch(self) -> None:
        """Payload beyond the credit, or beyond a frame."""
        client = session(client=True, limits=Limits(frame=INITIAL_WINDOW + 1))
        stream = client.open(0.0)
        self.assertEqual(client.sendable(stream), INITIAL_WINDOW)
        self.assertRefused(client, lambda: client.sendData(stream, PATTERN[: INITIAL_WINDOW + 1]))
        client = session(client=True)
        stream = client.open(0.0)
        self.assertRefused(client, lambda: client.sendData(stream, PATTERN[: 64 * KIB + 1]))
        client.sendData(stream, PATTERN[: 64 * KIB])

    def test_sendNothing(self) -> None:
        """Payload of no bytes."""
        client = session(client=True)
        stream = client.open(0.0)
        self.assertRefused(client, lambda: client.sendData(stream, b""))

    def test_sendAfterFin(self) -> None:
        """Payload after FIN, even when the peer gives credit."""
        pair = Pair()
        stream = pair.opened()
        pair.client.closeWrite(stream)
        pair.client.receive(frame(WINDOW_UPDATE, stream, 1000), 0.0)
        self.assertEqual(pair.client.sendable(stream), 0)
        self.assertRefused(pair.client, lambda: pair.client.sendData(stream, b"x"))

    def test_sendOnNothing(self) -> None:
        """Payload for a stream that does not exist."""
        client = session(client=True)
        self.assertRefused(client, lambda: client.sendData(1, b"x"))

    def test_finTwice(self) -> None:
        """FIN after FIN."""
        pair = Pair()
        stream = pair.opened()
        pair.client.closeWrite(stream)
        self.assertRefused(pair.client, lambda: pair.client.closeWrite(stream))

    def test_afterTheEnd(self) -> None:
        """New streams and pings when the session has ended."""
        client = session(client=True)
        client.lost()
        self.assertEqual(client.openRefusal, "ended")
        self.assertRefused(client, lambda: client.open(0.0))
        self.assertRefused(client, lambda: client.ping(0.0))
        client.goAway()
        self.assertEqual(client.take(), [])


class LimitTests(SynchronousTestCase):
    """What a peer can make us keep is limited."""

    def test_backlogExceeded(self) -> None:
        """A stream beyond the backlog is refused with its payload, and the session goes on."""
        pair = Pair(server=Limits(backlog=2))
        streams = [pair.client.open(0.0) for _ in range(3)]
        for stream in streams:
            pair.client.sendData(stream, b"foo")
        events = pair.toServer()
        self.assertEqual([event for event in events if isinstance(event, Syn)], [Syn(1), Syn(3)])
        self.assertEqual(payload(events, 5), b"")
        self.assertEqual(pair.toClient(), [Rst(5)])

    def test_backlogAccepted(self) -> None:
        """Streams that were accepted, or reset by either side, are not part of the backlog."""
        pair = Pair(server=Limits(backlog=1))
        for _ in range(5):
            pair.opened()
        for end in (pair.client, pair.server):
            stream = pair.client.open(0.0)
            self.assertIn(Syn(stream), pair.toServer())
            end.reset(stream)
            pair.toClient()
        stream = pair.client.open(0.0)
        self.assertIn(Syn(stream), pair.toServer())

    def test_streams(self) -> None:
        """The last stream is taken, one more is refused, and there is room again when one has gone."""
        pair = Pair(server=Limits(streams=2))
        first, second = pair.opened(), pair.opened()
        third = pair.client.open(0.0)
        self.assertEqual(pair.toServer(), [])
        self.assertEqual(pair.toClient(), [Rst(third)])
        pair.client.reset(first)
        pair.toServer()
        pair.opened()
        self.assertEqual(pair.server.streamCount, 2)
        self.assertNotEqual(first, second)

    def test_ownStreams(self) -> None:
        """Each side has the whole limit for the streams that it opens."""
        limits = Limits(streams=2)
        pair = Pair(limits, limits)
        for _ in range(2):
            pair.opened()
        for _ in range(2):
            pair.server.open(0.0)
        self.assertEqual((pair.client.openRefusal, pair.server.openRefusal), ("streams", "streams"))
        self.assertEqual(pair.toClient(), [Syn(2), Syn(4)])

    def test_ownBacklog(self) -> None:
        """We do not open more at once than the peer may take."""
        pair = Pair(client=Limits(backlog=2))
        pair.client.open(0.0)
        self.assertIsNone(pair.client.openRefusal)
        pair.client.open(0.0)
        self.assertEqual(pair.client.openRefusal, "backlog")
        pair.toServer()
        pair.server.accept(1)
        pair.toClient()
        self.assertIsNone(pair.client.openRefusal)

    def test_exhausted(self) -> None:
        """When the numbers are used up, no stream can be opened."""
        client = session(client=True)
        client._streams._next = 2**32 - 3
        self.assertEqual(client.open(0.0), 2**32 - 3)
        self.assertEqual(client.openRefusal, "exhausted")

    def test_pings(self) -> None:
        """We ask no more than so many questions at a time."""
        client = session(client=True, limits=Limits(pings=2))
        client.ping(0.0)
        client.ping(0.0)
        self.assertRaises(LocalProtocolError, client.ping, 0.0)
        client.receive(frame(PING | ACK, 0, 0), 0.0)
        client.ping(0.0)

    def test_pingOfDeath(self) -> None:
        """Pings up to the limit are answered while the carrier is full; one more ends the session."""
        server = session(limits=Limits(answers=10))
        server.receive(frame(PING | SYN, 0, 1) * 10, 0.0)
        self.assertEqual(wire(server), frame(PING | ACK, 0, 1) * 10)
        server.receive(frame(PING | SYN, 0, 1) * 10, 0.0)
        error = self.assertRaises(RemoteProtocolError, server.receive, frame(PING | SYN, 0, 1), 0.0)
        self.assertEqual(error.code, Code.CONTROL_FLOOD)
        self.assertEqual(len(wire(server)), 11 * 12)

    def test_refusalsAreAnswers(self) -> None:
        """Streams that are refused count as questions."""
        server = session(limits=Limits(answers=10, streams=0))
        syns = [frame(WINDOW_UPDATE | SYN, 2 * n + 1, 0) for n in range(11)]
        server.receive(b"".join(syns[:10]), 0.0)
        error = self.assertRaises(RemoteProtocolError, server.receive, syns[10], 0.0)
        self.assertEqual(error.code, Code.CONTROL_FLOOD)

    def test_backlogOfWhatEnded(self) -> None:
        """Streams that begin and end while the carrier is full are part of the backlog until it takes their ACKs."""
        server = session(limits=Limits(backlog=10))
        for number in (1, 41):
            for stream in range(number, number + 22, 2):
                server.receive(frame(WINDOW_UPDATE | SYN | FIN, stream, 0), 0.0)
                server.close(stream, 0.0)
            ended = [frame(WINDOW_UPDATE | ACK | FIN, stream, 0) for stream in range(number, number + 20, 2)]
            self.assertEqual(wire(server), b"".join(ended) + frame(WINDOW_UPDATE | RST, number + 20, 0))

    def test_unconsumedCounts(self) -> None:
        """A stream that both sides have ended counts until what it received is consumed."""
        pair = Pair(server=Limits(streams=1))
        stream = pair.opened()
        pair.client.sendData(stream, b"x")
        pair.client.closeWrite(stream)
        pair.toServer()
        pair.server.closeWrite(stream)
        pair.toClient()
        pair.client.open(0.0)
        self.assertEqual(pair.toServer(), [])
        pair.server.consume(stream, 1, 0.0)
        pair.client.open(0.0)
        self.assertEqual(pair.toServer(), [Syn(5)])


class RemoteMistakeTests(SynchronousTestCase):
    """A peer that breaks the rules ends its session, is told so, and leaves nothing behind."""

    def assertEnds(self, data: bytes, code: Code, before: bytes = b"") -> None:
        """Assert that this, after that, ends the session of a server, however it is cut."""
        for cut in range(len(data) + 1):
            budget = WindowBudget()
            server = session(budget=budget)
            server.receive(before, 0.0)

            def receive(server: Session = server, cut: int = cut) -> None:
                server.receive(data[:cut], 0.0)
                server.receive(data[cut:], 0.0)

            error = self.assertRaises(RemoteProtocolError, receive)
            self.assertEqual(error.code, code)
            self.assertTrue(wire(server).endswith(frame(GO_AWAY, 0, GoAwayCode.PROTOCOL_ERROR)))
            self.assertEqual((server.ended, server.streamCount, budget.used), (True, 0, 0))
            self.assertEqual(server.receive(data, 0.0), [])

    def test_version(self) -> None:
        """Any version but 0."""
        self.assertEnds(frame(1 << 24, 1, 0), Code.BAD_VERSION)

    def test_type(self) -> None:
        """Any type beyond Go Away."""
        self.assertEnds(frame(4 << 16, 0, 0), Code.BAD_TYPE)

    def test_flags(self) -> None:
        """Any flag beyond RST."""
        self.assertEnds(frame(DATA | 16, 1, 0), Code.BAD_FLAGS)
        self.assertEnds(frame(PING | 0x8001, 0, 0), Code.BAD_FLAGS)

    def test_parity(self) -> None:
        """A new stream with a number of ours."""
        self.assertEnds(frame(WINDOW_UPDATE | SYN, 2, 0), Code.BAD_STREAM)

    def test_streamZero(self) -> None:
        """A new stream with the session's number."""
        self.assertEnds(frame(WINDOW_UPDATE | SYN, 0, 0), Code.BAD_STREAM)
        client = session(client=True)
        self.assertRaises(RemoteProtocolError, client.receive, frame(DATA | SYN, 0, 0), 0.0)

    def test_duplicateStream(self) -> None:
        """A new stream with the number of one that there is."""
        syn = frame(WINDOW_UPDATE | SYN, 1, 0)
        self.assertEnds(syn, Code.DUPLICATE_STREAM, before=syn)

    def test_finTwice(self) -> None:
        """FIN after FIN."""
        self.assertEnds(frame(WINDOW_UPDATE | FIN, 1, 0), Code.UNEXPECTED_FIN, before=frame(DATA | SYN | FIN, 1, 0))

    def test_dataAfterFin(self) -> None:
        """Payload after FIN."""
        self.assertEnds(frame(DATA, 1, 1), Code.WINDOW_EXCEEDED, before=frame(DATA | SYN | FIN, 1, 0))

    def test_windowExceeded(self) -> None:
        """One byte beyond the window, before the byte has come."""
        before = frame(DATA | SYN, 1, INITIAL_WINDOW) + PATTERN[:INITIAL_WINDOW]
        self.assertEnds(frame(DATA, 1, 1), Code.WINDOW_EXCEEDED, before=before)
        self.assertEnds(frame(DATA | FIN, 1, 1), Code.WINDOW_EXCEEDED, before=before)

    def test_windowExceededAtOnce(self) -> None:
        """A new stream with more payload than it may have, before there is a stream."""
        syn = frame(DATA | SYN, 1, INITIAL_WINDOW + 1)
        self.assertEnds(syn, Code.WINDOW_EXCEEDED)
        full = session(limits=Limits(streams=0))
        self.assertEqual(self.assertRaises(RemoteProtocolError, full.receive, syn, 0.0).code, Code.WINDOW_EXCEEDED)

    def test_windowExceededWhenClosed(self) -> None:
        """Payload beyond the window of a stream that we read no more."""
        server = session()
        server.receive(frame(WINDOW_UPDATE | SYN, 1, 0), 0.0)
        server.close(1, 0.0)
        error = self.assertRaises(RemoteProtocolError, server.receive, frame(DATA, 1, INITIAL_WINDOW + 1), 0.0)
        self.assertEqual(error.code, Code.WINDOW_EXCEEDED)

    def test_endlessFrame(self) -> None:
        """Payload for an unknown stream that is longer than any window."""
        longest = Limits().window
        self.assertEqual(session().receive(frame(DATA, 9, longest), 0.0), [])
        self.assertEnds(frame(DATA, 9, longest + 1), Code.WINDOW_EXCEEDED)

    def test_goAway(self) -> None:
        """Go Away with an error."""
        self.assertEnds(frame(GO_AWAY, 0, 1), Code.WENT_AWAY)
