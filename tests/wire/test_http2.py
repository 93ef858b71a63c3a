"""
Tests for L{gateway.wire.http2}, both ends of which are tried on one another here. What a peer may do wrong is in
C{tests/net/test_http2conformance.py} and C{tests/net/test_http2server.py}.
"""

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http2 import Http2Connection
from gateway.wire.http2budget import Http2Limits
from gateway.wire.http2events import DataReceived, Event, GoneAway, HeadReceived, Ponged, StreamReset
from gateway.wire.http2frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_FRAME,
    MAX_WINDOW,
    FrameReader,
)

REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
OK = [(b":status", b"200")]


class PairTests(SynchronousTestCase):
    """A client and a server."""

    def setUp(self) -> None:
        self.connect()

    def connect(self, limits: Http2Limits = Http2Limits()) -> None:  # noqa: B008  # frozen
        """Let both say their settings."""
        self.client = Http2Connection(client=True, limits=limits)
        self.server = Http2Connection(client=False, limits=limits)
        self.client.begin()
        self.server.begin()
        self.exchange()

    def exchange(self) -> tuple[list[Event], list[Event]]:
        """
        Let everything arrive.

        @return: what happened at the client and at the server.
        """
        atClient: list[Event] = []
        atServer: list[Event] = []
        while (up := self.client.take()) + (down := self.server.take()):
            atServer += self.server.receive(up, 0.0)
            atClient += self.client.receive(down, 0.0)
        return atClient, atServer

    def test_exchange(self) -> None:
        """A request and its response, with bodies, trailers and a 1xx."""
        stream = self.client.open(REQUEST, isLast=False)
        self.client.sendData(stream, b"ping")
        self.client.sendFields(stream, [(b"x-a", b"1")], isLast=True)
        _, events = self.exchange()
        head, data, trailers = events
        assert isinstance(head, HeadReceived) and isinstance(data, DataReceived) and isinstance(trailers, HeadReceived)
        self.assertEqual((head.fields, head.ended, head.isTrailers), (REQUEST, False, False))
        self.assertEqual((data.payload, data.ended), (b"ping", False))
        self.assertEqual((trailers.fields, trailers.ended, trailers.isTrailers), ([(b"x-a", b"1")], True, True))
        self.server.sendFields(stream, [(b":status", b"103")])
        self.server.sendFields(stream, OK)
        self.server.sendData(stream, b"pong", isLast=True)
        events, _ = self.exchange()
        self.assertEqual([type(each) for each in events], [HeadReceived, HeadReceived, DataReceived])
        self.assertEqual((self.client.streamCount, self.server.streamCount), (0, 0))

    def test_longList(self) -> None:
        """A head that is longer than a frame goes on in others, and only the first one says that the stream ends."""
        self.connect(Http2Limits(headerList=70_000))
        fields = [*REQUEST, *[(b"x-%d" % n, b"a" * 5000) for n in range(12)]]
        stream = self.client.open(fields, isLast=True)
        up = self.client.take()
        kinds = [(kind, flags) for kind, flags, _, _ in FrameReader().receive(up)]
        self.assertEqual(
            kinds[:2] + kinds[-1:], [(HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)]
        )
        (head,) = self.server.receive(up, 0.0)
        assert isinstance(head, HeadReceived)
        self.assertEqual((head.stream, head.fields, head.ended), (stream, fields, True))

    def test_noCreditBehindTheEnd(self) -> None:
        """Nobody is given credit for a stream on which nothing more may come."""
        stream = self.client.open(REQUEST, isLast=False)
        for last in (False,) * 8 + (True,):
            self.client.sendData(stream, bytes(MAX_FRAME), isLast=last)
        credits = [each.credit for each in self.exchange()[1] if isinstance(each, DataReceived)]
        self.server.consumed(stream, sum(credits))
        self.assertEqual(self.server.take(), b"")

    def test_credit(self) -> None:
        """A window is opened again by what was taken, and not by what was received."""
        stream = self.client.open(REQUEST, isLast=False)
        self.exchange()
        credits = []
        while self.client.room(stream) >= MAX_FRAME:
            self.client.sendData(stream, bytes(MAX_FRAME))
            credits += [each.credit for each in self.exchange()[1] if isinstance(each, DataReceived)]
        self.assertEqual(sum(credits), 256 * 1024)
        for each in credits:
            self.server.consumed(stream, each)
        self.exchange()
        self.assertGreaterEqual(self.client.room(stream), 128 * 1024)

    def test_goingAway(self) -> None:
        """After a GOAWAY in either direction streams that are open go on."""
        first = self.client.open(REQUEST, isLast=True)
        self.exchange()
        self.server.goAway(self.server.highest, 0)
        self.client.goAway(0, 0)
        second = self.client.open(REQUEST, isLast=True)
        atClient, atServer = self.exchange()
        self.assertEqual(atClient, [GoneAway(first, 0)])
        self.assertEqual(atServer, [GoneAway(0, 0)])
        self.server.sendFields(first, OK, isLast=True)
        self.server.sendFields(second, OK, isLast=True)
        atClient, _ = self.exchange()
        self.assertEqual([each.stream for each in atClient if isinstance(each, HeadReceived)], [first])

    def test_goingAwaySoon(self) -> None:
        """A GOAWAY of the highest number refuses nothing yet."""
        self.server.goAway(MAX_WINDOW, 0)
        self.client.open(REQUEST, isLast=True)
        _, events = self.exchange()
        self.assertEqual(len(events), 1)

    def test_openable(self) -> None:
        """A client knows how many more streams it may open."""
        self.connect(Http2Limits(streams=2))
        self.assertEqual(self.client.openable, 2)
        stream = self.client.open(REQUEST, isLast=True)
        self.assertEqual(self.client.openable, 1)
        self.client.reset(stream, 8)
        self.assertEqual(self.client.openable, 2)

    def test_reset(self) -> None:
        """A stream that was reset is over at both ends, and nothing is said on it any more."""
        stream = self.client.open(REQUEST, isLast=True)
        self.exchange()
        self.client.reset(stream, 8)
        _, events = self.exchange()
        self.assertEqual(events, [StreamReset(stream, 8, False, "The stream was reset.")])
        self.server.sendFields(stream, OK)
        self.server.sendData(stream, b"x", isLast=True)
        self.server.reset(stream, 8)
        self.assertEqual((self.server.take(), self.server.room(stream)), (b"", 0))

    def test_overIsForgotten(self) -> None:
        """Of streams that are over, however they ended, no more is kept than how, of the last thousand."""
        self.connect(Http2Limits(resets=10_000))
        for n in range(1100):
            stream = self.client.open(REQUEST, isLast=True)
            self.exchange()
            if n % 3 == 0:
                self.server.sendFields(stream, OK, isLast=True)
            else:
                (self.server if n % 3 == 1 else self.client).reset(stream, 8)
            self.exchange()
        for end in (self.client, self.server):
            self.assertEqual((end.streamCount, len(end._over)), (0, 1000))

    def test_ping(self) -> None:
        """A ping is answered."""
        self.client.ping(b"12345678")
        self.assertEqual(self.exchange()[0], [Ponged(b"12345678")])

    def test_nothingAfterAnError(self) -> None:
        """After an error the peer is told, and streams cannot be used any more."""
        stream = self.client.open(REQUEST, isLast=True)
        self.exchange()
        with self.assertRaises(RemoteProtocolError):
            list(self.server.receive(b"\xff" * 9, 0.0))
        self.server.sendFields(stream, OK)
        self.server.reset(stream, 8)
        events = []
        for each in self.client.receive(self.server.take(), 0.0):
            events.append(each)
        self.assertEqual(events, [GoneAway(stream, 6)])
