"""
Tests for L{gateway.wire.yamux}, L{gateway.wire.yamuxframes} and L{gateway.wire.yamuxstreams}.

What hashicorp's C{session_test.go} promises is promised here too, as far as a session without a clock and a connection
can. Its deadlines for reading and writing are the transport's.
"""

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.window import INITIAL_WINDOW, MAX_WINDOW
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
    Ack,
    Code,
    Data,
    Event,
    Fin,
    GoAway,
    GoAwayCode,
    Pong,
    Rst,
    Syn,
    frame,
)
from gateway.wire.yamuxstreams import TRANSITIONS, End, Limits, State
from tests.wire.yamuxpair import KIB, PATTERN, Pair, merged, payload, session, wire


class FrameTests(SynchronousTestCase):
    """Frames are those of the specification."""

    def test_const(self) -> None:
        """Types, flags and codes have the numbers of the specification."""
        self.assertEqual([n >> 16 for n in (DATA, WINDOW_UPDATE, PING, GO_AWAY)], [0, 1, 2, 3])
        self.assertEqual((SYN, ACK, FIN, RST), (1, 2, 4, 8))
        self.assertEqual((GoAwayCode.NORMAL, GoAwayCode.PROTOCOL_ERROR, GoAwayCode.INTERNAL_ERROR), (0, 1, 2))

    def test_encode(self) -> None:
        """A header is version, type, flags, stream and length, big endian."""
        self.assertEqual(frame(PING | ACK | RST, 42, 4321), bytes.fromhex("00 02 000a 0000002a 000010e1"))

    def test_conversation(self) -> None:
        """What a client writes on the wire, byte for byte."""
        client = session(client=True)
        stream = client.open(0.0)
        client.sendData(stream, b"hi")
        client.closeWrite(stream)
        client.reset(stream)
        client.ping(0.0)
        client.goAway()
        self.assertEqual(
            wire(client),
            bytes.fromhex(
                "00 01 0001 00000001 00000000"
                "00 00 0000 00000001 00000002 6869"
                "00 01 0004 00000001 00000000"
                "00 01 0008 00000001 00000000"
                "00 02 0001 00000000 00000000"
                "00 03 0000 00000000 00000000"
            ),
        )

    def test_payloadIsNotCopied(self) -> None:
        """What is sent is passed on as the object that it was."""
        pair = Pair()
        stream = pair.opened()
        payload = memoryview(b"x" * 1000)
        pair.client.sendData(stream, payload)
        self.assertIs(pair.client.take()[1], payload)

    def test_takeOnce(self) -> None:
        """What was taken is not sent again."""
        client = session(client=True)
        client.ping(0.0)
        self.assertEqual(len(client.take()), 1)
        self.assertEqual(client.take(), [])


TRANSCRIPT = b"".join(
    [
        frame(WINDOW_UPDATE | SYN, 1, 0),
        frame(DATA, 1, 5) + b"first",
        frame(DATA | SYN, 3, 6) + b"second",
        frame(PING | SYN, 0, 7),
        frame(DATA, 99, 4) + b"lost",
        frame(DATA, 1, 0),
        frame(DATA | FIN, 3, 3) + b"end",
        frame(DATA | SYN | FIN, 5, 1) + b"!",
        frame(WINDOW_UPDATE | FIN, 1, 0),
        frame(DATA | RST, 5, 4) + b"gone",
        frame(GO_AWAY, 0, 0),
    ]
)
MEANING = [
    Syn(1),
    Data(1, b"first"),
    Syn(3),
    Data(3, b"secondend"),
    Fin(3),
    Syn(5),
    Data(5, b"!"),
    Fin(5),
    Fin(1),
    Rst(5),
    GoAway(),
]


class ReceiveTests(SynchronousTestCase):
    """L{Session.receive} turns bytes into events, however they arrive."""

    def test_whole(self) -> None:
        """All at once."""
        self.assertEqual(merged(session().receive(TRANSCRIPT, 0.0)), MEANING)

    def test_everySplit(self) -> None:
        """In two pieces, cut at each place."""
        for cut in range(len(TRANSCRIPT) + 1):
            server = session()
            events = server.receive(TRANSCRIPT[:cut], 0.0) + server.receive(TRANSCRIPT[cut:], 0.0)
            self.assertEqual(merged(events), MEANING, cut)

    def test_byteByByte(self) -> None:
        """A byte at a time, with empty reads between."""
        server = session()
        events: list[Event] = []
        for n in range(len(TRANSCRIPT)):
            events += server.receive(TRANSCRIPT[n : n + 1], 0.0) + server.receive(b"", 0.0)
        self.assertEqual(merged(events), MEANING)

    def test_payloadInPieces(self) -> None:
        """Payload is passed on as it arrives, and not kept for the rest of its frame."""
        server = session()
        events = server.receive(frame(DATA | SYN, 1, 10) + b"01234", 0.0)
        self.assertEqual(events, [Syn(1), Data(1, b"01234")])
        self.assertEqual(server.receive(b"567", 0.0), [Data(1, b"567")])
        self.assertEqual(server.receive(b"89" + frame(GO_AWAY, 0, 0), 0.0), [Data(1, b"89"), GoAway()])

    def test_resetWithinPayload(self) -> None:
        """The rest of a frame's payload is skipped when its stream was reset meanwhile."""
        server = session()
        server.receive(frame(DATA | SYN | FIN, 1, 10) + b"01234", 0.0)
        server.reset(1)
        self.assertEqual(server.receive(b"56789" + frame(GO_AWAY, 0, 0), 0.0), [GoAway()])

    def test_closeWithinPayload(self) -> None:
        """The rest of a frame's payload is skipped when its stream was closed meanwhile, and its FIN counts."""
        server = session()
        server.receive(frame(DATA | SYN | FIN, 1, 10) + b"01234", 0.0)
        server.close(1, 0.0)
        self.assertEqual(server.receive(b"56789" + frame(GO_AWAY, 0, 0), 0.0), [GoAway()])
        self.assertEqual(server.streamCount, 0)

    def test_finIsOneFrames(self) -> None:
        """The FIN of one frame is not taken for that of the next, whose payload comes in pieces."""
        server = session()
        server.receive(frame(DATA | SYN | FIN, 1, 1) + b"x" + frame(WINDOW_UPDATE | SYN, 3, 0), 0.0)
        events = server.receive(frame(DATA, 3, 2) + b"a", 0.0) + server.receive(b"b", 0.0)
        self.assertEqual(merged(events), [Data(3, b"ab")])

    def test_views(self) -> None:
        """Of a C{memoryview} the payload is a part, which is not copied; what is needed of it later is."""
        server = session()
        data = bytearray(frame(DATA | SYN, 1, 9) + b"some" + b"thing" + frame(DATA, 1, 2)[:5])
        events = server.receive(memoryview(data), 0.0)
        data[12:16] = b"SOME"
        self.assertEqual(events, [Syn(1), Data(1, b"SOMEthing")])
        data[-5:] = b"other"
        self.assertEqual(server.receive(memoryview(frame(DATA, 1, 2)[5:] + b"ok"), 0.0), [Data(1, b"ok")])

    def test_afterTheEnd(self) -> None:
        """What comes after the end means nothing."""
        server = session()
        server.lost()
        self.assertEqual(server.receive(TRANSCRIPT, 0.0), [])
        self.assertEqual(server.take(), [])


class StreamTests(SynchronousTestCase):
    """Streams are opened, used, and ended by either side."""

    def test_accept(self) -> None:
        """Both sides can open; clients' streams are odd and servers' even; the ACK says that they were accepted."""
        pair = Pair()
        self.assertEqual([pair.client.open(0.0), pair.server.open(0.0)], [1, 2])
        self.assertEqual([pair.toServer(), pair.toClient()], [[Syn(1)], [Syn(2)]])
        pair.server.accept(1)
        pair.client.accept(2)
        self.assertEqual([pair.toServer(), pair.toClient()], [[Ack(2)], [Ack(1)]])

    def test_acceptTwice(self) -> None:
        """One ACK is enough."""
        pair = Pair()
        stream = pair.opened()
        pair.server.accept(stream)
        self.assertEqual(pair.server.take(), [])

    def test_acknowledgedByData(self) -> None:
        """The first frame on a stream accepts it, without one for that alone."""
        pair = Pair()
        stream = pair.client.open(0.0)
        pair.toServer()
        pair.server.sendData(stream, b"hi")
        pair.server.accept(stream)
        self.assertEqual(wire(pair.server), frame(DATA | ACK, stream, 2) + b"hi")

    def test_refused(self) -> None:
        """A stream that is reset before its ACK was refused."""
        pair = Pair()
        stream = pair.client.open(0.0)
        pair.toServer()
        pair.server.reset(stream)
        self.assertEqual(pair.toClient(), [Rst(stream)])
        self.assertEqual((pair.client.streamCount, pair.server.streamCount), (0, 0))

    def test_sendDataSmall(self) -> None:
        """A thousand small writes arrive."""
        pair = Pair()
        stream = pair.opened()
        for _ in range(1000):
            pair.client.sendData(stream, b"test")
        self.assertEqual(payload(pair.toServer(), stream), b"test" * 1000)

    def test_sendDataLarge(self) -> None:
        """Twice the window arrives when the reader consumes."""
        pair = Pair()
        data = PATTERN[: 512 * KIB]
        self.assertEqual(pair.upload(pair.opened(), data), data)

    def test_sendDataVeryLarge(self) -> None:
        """Megabytes over several streams arrive."""
        pair = Pair()
        for _ in range(4):
            self.assertTrue(pair.upload(pair.opened(), PATTERN) == PATTERN)

    def test_manyStreams(self) -> None:
        """Fifty streams at once get each their own bytes."""
        pair = Pair()
        streams = [pair.client.open(0.0) for _ in range(50)]
        for n in range(100):
            for stream in streams:
                pair.client.sendData(stream, b"%d %d." % (stream, n))
        events = pair.toServer()
        for stream in streams:
            self.assertEqual(payload(events, stream), b"".join(b"%d %d." % (stream, n) for n in range(100)))

    def test_manyStreamsPingPong(self) -> None:
        """Fifty streams at once go back and forth, for longer than a window."""
        pair = Pair()
        streams = [pair.opened() for _ in range(50)]
        for _ in range(20):
            for stream in streams:
                pair.client.sendData(stream, PATTERN[: 16 * KIB])
            for event in pair.toServer():
                if isinstance(event, Data):
                    pair.server.consume(event.stream, len(event.payload), 0.0)
                    pair.server.sendData(event.stream, event.payload)
            for event in pair.toClient():
                if isinstance(event, Data):
                    pair.client.consume(event.stream, len(event.payload), 0.0)
                    self.assertEqual(event.payload, PATTERN[: 16 * KIB])

    def test_halfClose(self) -> None:
        """A side that has ended its direction still receives, until the other ends, too."""
        pair = Pair()
        stream = pair.opened()
        pair.server.closeWrite(stream)
        self.assertEqual(pair.toClient(), [Fin(stream)])
        pair.client.sendData(stream, b"bcd")
        pair.client.closeWrite(stream)
        self.assertEqual(pair.toServer(), [Data(stream, b"bcd"), Fin(stream)])
        self.assertEqual((pair.client.streamCount, pair.server.streamCount), (0, 1))
        pair.server.consume(stream, 3, 0.0)
        self.assertEqual(pair.server.streamCount, 0)

    def test_halfCloseForLong(self) -> None:
        """A side that ended its direction may be sent any amount, and no time is set for that."""
        pair = Pair()
        stream = pair.client.open(0.0)
        pair.client.closeWrite(stream)
        pair.toServer()
        pair.server.accept(stream)
        pair.toClient()
        self.assertIsNone(pair.client.deadline)
        for _ in range(20):
            pair.server.sendData(stream, PATTERN[: 64 * KIB])
            for event in pair.toClient():
                if isinstance(event, Data):
                    pair.client.consume(stream, len(event.payload), 0.0)
            pair.toServer()

    def test_halfCloseSessionShutdown(self) -> None:
        """What arrived before the other side's session ended is there, and so is its FIN."""
        pair = Pair()
        stream = pair.opened()
        pair.client.sendData(stream, b"all of it")
        pair.client.closeWrite(stream)
        pair.client.goAway()
        data = wire(pair.client)
        pair.client.lost()
        self.assertEqual(pair.server.receive(data, 0.0), [Data(stream, b"all of it"), Fin(stream), GoAway()])

    def test_closeBeforeAck(self) -> None:
        """Streams that are closed before they were accepted do not use up the backlog of either side."""
        limits = Limits(backlog=8)
        pair = Pair(limits, limits)
        streams = [pair.client.open(0.0) for _ in range(8)]
        for stream in streams:
            pair.client.close(stream, 0.0)
        self.assertEqual(pair.toServer(), [Syn(stream) for stream in streams] + [Fin(stream) for stream in streams])
        self.assertEqual(pair.client.openRefusal, "backlog")
        for stream in streams:
            pair.server.close(stream, 0.0)
        pair.toClient()
        self.assertEqual((pair.client.streamCount, pair.server.streamCount), (0, 0))
        pair.opened()

    def test_close(self) -> None:
        """A closed stream has sent FIN and drops what was on the way, without credit for it."""
        pair = Pair()
        stream = pair.opened()
        pair.client.close(stream, 0.0)
        self.assertEqual(pair.toServer(), [Fin(stream)])
        pair.server.sendData(stream, PATTERN[: 64 * KIB])
        pair.server.sendData(stream, PATTERN[: 64 * KIB - 1])
        self.assertEqual(pair.toClient(), [])
        self.assertEqual(pair.toServer(), [])
        pair.server.closeWrite(stream)
        self.assertEqual(pair.toClient(), [])
        self.assertEqual((pair.client.streamCount, pair.server.streamCount), (0, 0))

    def test_closedStreamThatGoesOn(self) -> None:
        """A closed stream is reset when half of what the peer could still send has come, not before."""
        pair = Pair()
        stream = pair.opened()
        pair.server.sendData(stream, PATTERN[: 64 * KIB])
        pair.toClient()
        pair.client.close(stream, 0.0)
        pair.toServer()
        for count in (64 * KIB, 32 * KIB - 1):
            pair.server.sendData(stream, PATTERN[:count])
        self.assertEqual((pair.toClient(), pair.toServer()), ([], []))
        pair.server.sendData(stream, b"x")
        pair.server.sendData(stream, b"on the way")
        self.assertEqual((pair.toClient(), pair.toServer()), ([], [Rst(stream)]))
        self.assertEqual((pair.client.streamCount, pair.server.streamCount, pair.client.deadline), (0, 0, None))

    def test_closeWhatIsStuck(self) -> None:
        """Closing a stream whose peer waits for credit resets it, as nothing would ever come; one that ended is closed."""
        for consumed, ended in ((0, False), (INITIAL_WINDOW // 2, False), (0, True)):
            pair = Pair()
            stream = pair.opened()
            while count := pair.server.sendable(stream):
                pair.server.sendData(stream, PATTERN[:count])
            if ended:
                pair.server.closeWrite(stream)
            pair.toClient()
            pair.client.consume(stream, consumed, 0.0)  # which the peer is not told any more
            pair.client.close(stream, 0.0)
            self.assertEqual(pair.toServer(), [Fin(stream) if ended else Rst(stream)])
            self.assertEqual((pair.client.streamCount, pair.server.streamCount), (0, 0))

    def test_closeAfterFin(self) -> None:
        """Closing what the peer has ended already, and we too, forgets what was not consumed."""
        pair = Pair()
        stream = pair.opened()
        pair.client.sendData(stream, b"x")
        pair.client.closeWrite(stream)
        pair.toServer()
        pair.server.closeWrite(stream)
        self.assertEqual(pair.server.streamCount, 1)
        wire(pair.server)
        pair.server.close(stream, 0.0)
        self.assertEqual((pair.server.streamCount, pair.server.take(), pair.server.deadline), (0, [], None))

    def test_closeTwice(self) -> None:
        """Closing again does nothing, and neither does closing after half of it was done."""
        pair = Pair()
        stream = pair.opened()
        pair.client.closeWrite(stream)
        pair.client.close(stream, 0.0)
        pair.client.close(stream, 0.0)
        self.assertEqual(wire(pair.client), frame(WINDOW_UPDATE | FIN, stream, 0))

    def test_reset(self) -> None:
        """A reset ends both directions at once, whatever there was to send or to consume."""
        pair = Pair()
        stream = pair.opened()
        pair.client.sendData(stream, b"x")
        pair.client.wants(stream)
        pair.client.reset(stream)
        self.assertEqual(pair.toServer(), [Data(stream, b"x"), Rst(stream)])
        self.assertEqual((pair.client.streamCount, pair.server.streamCount, pair.client.nextWriter()), (0, 0, None))

    def test_consumeWhenClosed(self) -> None:
        """What was received before a stream was closed, and is consumed only after that, does no harm."""
        pair = Pair()
        stream = pair.opened()
        pair.client.sendData(stream, b"x")
        pair.toServer()
        pair.server.close(stream, 0.0)
        pair.server.consume(stream, 1, 0.0)
        self.assertEqual(wire(pair.server), frame(WINDOW_UPDATE | FIN, stream, 0))

    def test_resetWhenDone(self) -> None:
        """Resetting a stream that both sides have ended tells the peer nothing, as it knows no such stream."""
        pair = Pair()
        stream = pair.opened()
        pair.client.sendData(stream, b"x")
        pair.client.closeWrite(stream)
        pair.toServer()
        pair.server.closeWrite(stream)
        wire(pair.server)
        pair.server.reset(stream)
        self.assertEqual((pair.server.streamCount, pair.server.take()), (0, []))

    def test_unknownStream(self) -> None:
        """Frames for a stream that does not exist are skipped, and answered with nothing."""
        server = session()
        frames = [frame(WINDOW_UPDATE | flag, 7, 1) + frame(DATA | flag, 7, 2) + b"??" for flag in (0, ACK, FIN, RST)]
        self.assertEqual(server.receive(b"".join(frames) + frame(GO_AWAY, 0, 0), 0.0), [GoAway()])
        self.assertEqual(server.take(), [])

    def test_openedAndReset(self) -> None:
        """A stream that is opened and reset in one frame never was."""
        server = session()
        self.assertEqual(server.receive(frame(DATA | SYN | RST, 1, 2) + b"??", 0.0), [])
        self.assertEqual(server.streamCount, 0)

    def test_verbsOnNothing(self) -> None:
        """Verbs on a stream that is gone do nothing, as the caller may not know yet."""
        server = session()
        server.accept(1)
        server.wants(1)
        server.consume(1, 10, 0.0)
        server.closeWrite(1)
        server.close(1, 0.0)
        server.reset(1)
        self.assertEqual((server.sendable(1), server.take(), server.deadline), (0, [], None))

    def test_states(self) -> None:
        """Each direction ends once, in any order, and nothing comes after both have."""
        self.assertEqual(set(TRANSITIONS), set(State))
        for first, second in ((End.SENT, End.RECEIVED), (End.RECEIVED, End.SENT)):
            state = TRANSITIONS[State.OPEN][first]
            self.assertEqual(TRANSITIONS[state], {second: State.CLOSED})
        self.assertEqual(TRANSITIONS[State.CLOSED], {})


class WindowTests(SynchronousTestCase):
    """Credit goes out as the application consumes, and is kept to on both sides."""

    def test_writeStopsAtTheWindow(self) -> None:
        """A reader that consumes nothing is sent one window and no more."""
        pair = Pair()
        stream = pair.opened()
        sent = 0
        pair.client.wants(stream)
        while turn := pair.client.nextWriter():
            pair.client.sendData(stream, PATTERN[: turn[1]])
            sent += turn[1]
            pair.client.wants(stream)
        self.assertEqual(sent, INITIAL_WINDOW)
        pair.toServer()
        self.assertEqual(pair.server.take(), [])

    def test_partialReadWindowUpdate(self) -> None:
        """A reader that consumed a byte more than an eighth gives that much credit, in one frame."""
        pair = Pair()
        stream = pair.opened()
        for _ in range(4):
            pair.client.sendData(stream, PATTERN[: 64 * KIB])
        pair.toServer()
        self.assertEqual(pair.client.sendable(stream), 0)
        batch = INITIAL_WINDOW // 8
        pair.server.consume(stream, batch - 1, 0.0)
        self.assertEqual(pair.server.take(), [])
        pair.server.consume(stream, 2, 0.0)
        self.assertEqual(wire(pair.server), frame(WINDOW_UPDATE, stream, batch + 1))

    def test_oneFrameOfCredit(self) -> None:
        """However often a stream is consumed from, a carrier that is full keeps one frame of credit for it."""
        pair = Pair()
        stream = pair.opened()
        for _ in range(2):
            for _ in range(2):
                pair.client.sendData(stream, PATTERN[: 64 * KIB])
            pair.toServer()
            pair.server.consume(stream, INITIAL_WINDOW // 2, 0.0)
        self.assertEqual(wire(pair.server), frame(WINDOW_UPDATE, stream, INITIAL_WINDOW))

    def test_windowUpdateDuringRead(self) -> None:
        """Credit that the carrier did not take is no obstacle to reading on."""
        pair = Pair()
        stream = pair.opened()
        for _ in range(4):
            pair.client.sendData(stream, PATTERN[: 64 * KIB])
        for event in pair.toServer():
            if isinstance(event, Data):
                pair.server.consume(stream, len(event.payload), 0.0)
        pair.client.ping(0.0)
        self.assertEqual(pair.toServer(), [])
        self.assertEqual(wire(pair.server), frame(PING | ACK, 0, 0) + frame(WINDOW_UPDATE, stream, INITIAL_WINDOW))

    def test_noCreditAfterFin(self) -> None:
        """A peer that has ended its direction is given no credit, also not what was due."""
        pair = Pair()
        stream = pair.opened()
        for _ in range(2):
            pair.client.sendData(stream, PATTERN[: 64 * KIB])
        pair.toServer()
        pair.server.consume(stream, 128 * KIB, 0.0)
        pair.client.sendData(stream, PATTERN[: 64 * KIB])
        pair.client.closeWrite(stream)
        pair.toServer()
        pair.server.consume(stream, 64 * KIB, 0.0)
        self.assertEqual(pair.server.take(), [])

    def test_noCreditAfterReset(self) -> None:
        """Credit that was due on a stream that was reset or closed meanwhile is not announced."""
        for end in (Session.reset, lambda session, stream: session.close(stream, 0.0)):
            pair = Pair()
            stream = pair.opened()
            for _ in range(2):
                pair.client.sendData(stream, PATTERN[: 64 * KIB])
            pair.toServer()
            pair.server.consume(stream, 128 * KIB, 0.0)
            end(pair.server, stream)
            self.assertEqual(len(wire(pair.server)), 12)

    def test_largeWindow(self) -> None:
        """A peer with a larger window is sent that much at once."""
        pair = Pair()
        stream = pair.opened()
        pair.client.receive(frame(WINDOW_UPDATE, stream, INITIAL_WINDOW), 0.0)
        for _ in range(8):
            pair.client.sendData(stream, PATTERN[: 64 * KIB])
        self.assertEqual(pair.client.sendable(stream), 0)

    def test_clamped(self) -> None:
        """Credit beyond 2**32 - 1 is that."""
        client = session(client=True, limits=Limits(frame=2 * MAX_WINDOW))
        stream = client.open(0.0)
        client.receive(frame(WINDOW_UPDATE, stream, MAX_WINDOW) * 2, 0.0)
        self.assertEqual(client.sendable(stream), MAX_WINDOW)

    def test_grows(self) -> None:
        """Over a round trip that was measured, a stream that is kept busy gets a larger window."""
        pair = Pair()
        stream = pair.opened()
        pair.server.ping(0.0)
        pair.toClient()
        pair.now = 0.04
        pair.toServer()
        largest = 0
        for _ in range(20):
            pair.now += 0.04
            sent = 0
            while count := pair.client.sendable(stream):
                pair.client.sendData(stream, PATTERN[:count])
                sent += count
            for event in pair.toServer():
                if isinstance(event, Data):
                    pair.server.consume(stream, len(event.payload), pair.now)
            pair.toClient()
            largest = max(largest, sent)
        self.assertGreater(largest, 8 * 1024 * KIB)
        self.assertGreaterEqual(pair.budget.used, largest - INITIAL_WINDOW)
        pair.client.reset(stream)
        pair.toServer()
        self.assertEqual(pair.budget.used, 0)

    def test_windowLimit(self) -> None:
        """A window is limited to what the field of a frame holds, and to what the specification begins with."""
        for size in (INITIAL_WINDOW, MAX_WINDOW):
            self.assertEqual(Limits(window=size).window, size)
        for size in (INITIAL_WINDOW - 1, MAX_WINDOW + 1):
            self.assertRaises(ValueError, Limits, window=size)


class TurnTests(SynchronousTestCase):
    """Streams that have something to send take turns."""

    def turns(self, client: Session, count: int) -> list[int]:
        """Who sends, when everyone always has more, in so many turns."""
        order = []
        for _ in range(count):
            turn = client.nextWriter()
            if turn is not None:
                client.sendData(turn[0], PATTERN[: turn[1]])
                client.wants(turn[0])
                order.append(turn[0])
        return order

    def test_oneFrameEach(self) -> None:
        """Everyone sends one frame, then everyone the next, in the order in which they asked."""
        client = session(client=True)
        streams = [client.open(0.0) for _ in range(3)]
        for stream in (streams[2], streams[0], streams[0], streams[1]):
            client.wants(stream)
        self.assertEqual(self.turns(client, 7), [5, 1, 3, 5, 1, 3, 5])

    def test_lateComer(self) -> None:
        """A stream that begins while others are busy waits for one frame of each."""
        client = session(client=True)
        for _ in range(2):
            client.wants(client.open(0.0))
        self.turns(client, 3)
        client.wants(client.open(0.0))
        self.assertEqual(self.turns(client, 3), [3, 1, 5])

    def test_stalled(self) -> None:
        """A stream without credit delays nobody, and is back in line when it has credit, unasked."""
        client = session(client=True)
        first, second = client.open(0.0), client.open(0.0)
        for _ in range(4):
            client.sendData(first, PATTERN[: 64 * KIB])
        client.wants(first)
        client.wants(second)
        self.assertEqual(self.turns(client, 3), [second] * 3)
        client.receive(frame(WINDOW_UPDATE, first, 10), 0.0)
        self.assertEqual(self.turns(client, 3), [second, first])

    def test_outOfTurn(self) -> None:
        """A stream that used its credit out of turn loses its turn."""
        client = session(client=True)
        stream = client.open(0.0)
        client.wants(stream)
        for _ in range(4):
            client.sendData(stream, PATTERN[: 64 * KIB])
        self.assertIsNone(client.nextWriter())
        client.receive(frame(WINDOW_UPDATE, stream, 10), 0.0)
        self.assertEqual(client.nextWriter(), (stream, 10))

    def test_nothingToSend(self) -> None:
        """Credit alone puts nobody in line."""
        client = session(client=True)
        stream = client.open(0.0)
        client.receive(frame(WINDOW_UPDATE, stream, 10), 0.0)
        self.assertIsNone(client.nextWriter())

    def test_ended(self) -> None:
        """A stream that has sent FIN leaves the line."""
        client = session(client=True)
        stream = client.open(0.0)
        client.wants(stream)
        client.closeWrite(stream)
        self.assertIsNone(client.nextWriter())


class GoAwayTests(SynchronousTestCase):
    """A session ends in order, or at once."""

    def test_goAway(self) -> None:
        """A peer that goes away is asked for no new streams, and those that there are go on."""
        pair = Pair()
        stream = pair.opened()
        pair.server.goAway()
        self.assertEqual(pair.toClient(), [GoAway()])
        self.assertEqual(pair.client.openRefusal, "going-away")
        self.assertRaises(LocalProtocolError, pair.client.open, 0.0)
        self.assertEqual(pair.upload(stream, b"still here"), b"still here")

    def test_refuses(self) -> None:
        """A stream that crossed our Go Away is refused, and we open none either."""
        pair = Pair()
        pair.server.goAway()
        stream = pair.client.open(0.0)
        pair.client.sendData(stream, b"early")
        self.assertEqual(pair.toServer(), [])
        self.assertEqual(pair.toClient(), [GoAway(), Rst(stream)])
        self.assertEqual(pair.server.openRefusal, "going-away")

    def test_internalError(self) -> None:
        """An error of ours ends the session, and the peer is told."""
        pair = Pair()
        pair.opened()
        pair.server.goAway(GoAwayCode.INTERNAL_ERROR)
        self.assertTrue(pair.server.ended)
        self.assertEqual(pair.server.streamCount, 0)
        error = self.assertRaises(RemoteProtocolError, pair.toClient)
        self.assertEqual(error.code, Code.WENT_AWAY)
        self.assertEqual((pair.client.ended, pair.client.streamCount), (True, 0))

    def test_unknownCode(self) -> None:
        """A Go Away with any other number is an error, too."""
        error = self.assertRaises(RemoteProtocolError, session().receive, frame(GO_AWAY, 0, 3), 0.0)
        self.assertEqual(error.code, Code.WENT_AWAY)


class TimeTests(SynchronousTestCase):
    """Pings and timeouts, by the caller's clock."""

    def test_ping(self) -> None:
        """Either side's ping is answered, and the round trip is measured."""
        pair = Pair()
        for asks, there, back in (
            (pair.client, pair.toServer, pair.toClient),
            (pair.server, pair.toClient, pair.toServer),
        ):
            opaque = asks.ping(pair.now)
            self.assertEqual(there(), [])
            pair.now += 0.25
            self.assertEqual(back(), [Pong(opaque, 0.25)])
            self.assertEqual(asks.rtt, 0.25)

    def test_shortestRoundTrip(self) -> None:
        """The shortest round trip counts."""
        pair = Pair()
        for rtt in (0.5, 0.25, 1.0):
            pair.client.ping(pair.now)
            pair.toServer()
            pair.now += rtt
            pair.toClient()
        self.assertEqual(pair.client.rtt, 0.25)

    def test_unaskedPong(self) -> None:
        """An answer to no question, or a second one, means nothing."""
        client = session(client=True)
        opaque = client.ping(0.0)
        events = client.receive(frame(PING | ACK, 0, 77) + frame(PING | ACK, 0, opaque) * 2, 1.0)
        self.assertEqual(events, [Pong(opaque, 1.0)])

    def test_pingNumbers(self) -> None:
        """The numbers of pings begin again when they are used up."""
        client = session(client=True)
        client._nextPing = MAX_WINDOW
        self.assertEqual((client.ping(0.0), client.ping(0.0)), (MAX_WINDOW, 0))

    def test_pingTimeout(self) -> None:
        """A ping without an answer loses the session when its time is up, and not before."""
        pair = Pair()
        stream = pair.opened()
        pair.client.ping(1.0)
        self.assertEqual(pair.client.deadline, 11.0)
        self.assertEqual(pair.client.expire(10.99), [])
        error = self.assertRaises(RemoteProtocolError, pair.client.expire, 11.0)
        self.assertEqual(error.code, Code.PING_TIMEOUT)
        self.assertTrue(wire(pair.client).endswith(frame(GO_AWAY, 0, GoAwayCode.PROTOCOL_ERROR)))
        self.assertEqual((pair.client.ended, pair.client.sendable(stream), pair.client.deadline), (True, 0, None))
        self.assertEqual(pair.client.expire(99.0), [])

    def test_keepAlive(self) -> None:
        """Pings that are answered go on for ever."""
        pair = Pair()
        for n in range(100):
            self.assertEqual(pair.client.ping(pair.now), n)
            pair.now += 9.9
            self.assertEqual(pair.client.expire(pair.now), [])
            pair.toServer()
            pair.toClient()
        self.assertIsNone(pair.client.deadline)

    def test_openStreamTimeout(self) -> None:
        """A stream without an ACK is reset when its time is up, and not before; the session goes on."""
        pair = Pair()
        early, late = pair.client.open(0.0), pair.client.open(1.0)
        self.assertEqual(pair.client.deadline, 75.0)
        self.assertEqual(pair.client.expire(74.9), [])
        self.assertEqual(pair.client.expire(75.0), [Rst(early)])
        self.assertEqual(pair.client.deadline, 76.0)
        self.assertEqual(pair.toServer(), [Syn(early), Syn(late), Rst(early)])
        pair.server.accept(late)
        self.assertEqual(pair.toClient(), [Ack(late)])
        self.assertIsNone(pair.client.deadline)

    def test_closeTimeout(self) -> None:
        """A closed stream whose peer does not end it is reset when its time is up, and not before."""
        pair = Pair()
        stream = pair.opened()
        pair.server.close(stream, 1.0)
        self.assertEqual(pair.server.deadline, 301.0)
        self.assertEqual(pair.server.expire(300.9), [])
        self.assertEqual(pair.server.expire(301.0), [Rst(stream)])
        self.assertEqual(pair.toClient(), [Fin(stream), Rst(stream)])
        self.assertEqual((pair.client.streamCount, pair.server.streamCount, pair.server.deadline), (0, 0, None))
        self.assertEqual(pair.client.sendable(stream), 0)
