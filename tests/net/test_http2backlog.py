"""Tests for L{gateway.net.http2backlog}, and for the connections that hold to it."""

from h2.errors import ErrorCodes
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.httpinterfaces import IOriginRequest, IVisitorRequest
from gateway.wire.http1 import ResponseHead
from gateway.wire.http2frames import HEADERS, MAX_FRAME, rstStream, windowUpdate
from tests.net.http2peer import Http2Origin, Http2Visitor, Recorder, setting

OK = ResponseHead(200, "OK", "1.1", [])
KIB = 1024
LIMIT = 1024 * KIB
SHUT = setting(4, 0)  # SETTINGS_INITIAL_WINDOW_SIZE


class Source(Recorder):
    """
    An exchange with something to say, as much of it as it is let.

    @ivar order: of all who were resumed.
    """

    order: list[int]

    def __init__(self, number: int, pieces: list[int], *, ends: bool = True) -> None:
        super().__init__()
        self.number = number
        self.left = pieces
        self.ends = ends
        self.order = []
        self.isPaused = False
        self.request: IVisitorRequest | IOriginRequest | None = None

    def begin(self, request: IVisitorRequest) -> None:
        """Answer a visitor's request."""
        request.accept(self)
        self.say(request)
        request.respond(OK, None)
        self.go()

    def say(self, request: IVisitorRequest | IOriginRequest) -> None:
        """Say it there."""
        self.request = request

    def go(self) -> None:
        """Write until it is paused, and once more where that came in the middle of a read."""
        while self.left and not self.isPaused:
            assert self.request is not None
            self.request.write(bytes(self.left.pop(0)))
            self.finish()

    def finish(self) -> None:
        """Say that this was all, if it was."""
        if self.ends and not self.left:
            assert self.request is not None
            self.request.finish()

    def pauseResponse(self) -> None:
        super().pauseResponse()
        self.isPaused = True

    def resumeResponse(self) -> None:
        super().resumeResponse()
        self.isPaused = False
        self.order.append(self.number)
        if self.request is not None:
            self.go()

    pauseRequest = pauseResponse
    resumeRequest = resumeResponse


def held(peer: Http2Visitor | Http2Origin) -> int:
    """Bytes that wait on all streams of a connection."""
    return sum(each.unsent for each in peer.connection.streams.values())


def uncounted(peer: Http2Visitor | Http2Origin) -> int:
    """Those of them that nobody else counts, as their sources are not paused."""
    return sum(each.unsent for each in peer.connection.streams.values() if not each.isSourcePaused)


class VisitorTests(SynchronousTestCase):
    """Responses that are not taken."""

    def ask(self, visitor: Http2Visitor, count: int, *pieces: int, ends: bool = True, first: int = 1) -> list[Source]:
        """Requests, each of which is answered with these pieces."""
        visitor.owner.waits = True
        sources, order = [], list[int]()
        for number in range(first, first + 2 * count, 2):
            source = Source(number, list(pieces), ends=ends)
            source.order = order
            source.begin(visitor.request(number))
            visitor.turn()
            self.assertEqual(visitor.connection.backlog.held, uncounted(visitor))
            sources.append(source)
        return sources

    def test_whatIsFinishedIsBounded(self) -> None:
        """Of many responses, small or large, that are finished and not taken, no more is held than the limit and one."""
        for size in (100, 10 * KIB, 64 * KIB, 65 * KIB, 240 * KIB):
            visitor = Http2Visitor(SHUT, backlog=LIMIT if size > 100 else 10 * KIB)
            limit = LIMIT if size > 100 else 10 * KIB
            sources = self.ask(visitor, 128, size)
            self.assertGreater(held(visitor), limit)
            self.assertLessEqual(held(visitor), limit + size)
            paused = [each for each in sources if each.isPaused and each.left]
            self.assertEqual(len(paused), 128 - (limit // size + 1))

    def test_atTheLimitNobodyIsPaused(self) -> None:
        """As much as the limit may wait, and one byte more may not."""
        visitor = Http2Visitor(SHUT)
        sources = self.ask(visitor, 64, 16 * KIB)
        self.assertEqual((held(visitor), [each.events for each in sources]), (LIMIT, [[]] * 64))
        waiting = self.ask(visitor, 1, first=301, ends=False)
        self.ask(visitor, 1, 1, first=401)
        self.assertEqual(waiting[0].events, ["pauseResponse"])

    def test_whoeverIsPausedIsCountedElsewhere(self) -> None:
        """Streams that are not taken and not finished do not stand in the way of others."""
        visitor = Http2Visitor(SHUT)
        stalled = self.ask(visitor, 40, 65 * KIB, 1, ends=False)
        self.assertTrue(all(each.isPaused for each in stalled))
        self.assertEqual(uncounted(visitor), 0)
        [other] = self.ask(visitor, 1, 10 * KIB, first=201)
        visitor.send(windowUpdate(201, 10 * KIB))
        self.assertEqual((len(visitor.body(201)), visitor.ended(201), other.events), (10 * KIB, True, []))

    def test_streamsThatStandStill(self) -> None:
        """A stream that is taken goes on beside those that have brought as much as may wait."""
        visitor = Http2Visitor(SHUT)
        self.ask(visitor, 32, 32 * KIB, ends=False)
        self.assertEqual(uncounted(visitor), LIMIT)
        [source] = self.ask(visitor, 1, *[16 * KIB] * 20, first=201)
        for _ in range(20):
            visitor.send(windowUpdate(201, 16 * KIB), windowUpdate(0, 16 * KIB))
            self.assertLessEqual(uncounted(visitor), LIMIT)
        self.assertEqual((len(visitor.body(201)), visitor.ended(201)), (320 * KIB, True))
        self.assertEqual(source.left, [])

    def test_theyGoOnInTurn(self) -> None:
        """When the visitor takes what waits all responses come, and those go on first that were paused first."""
        visitor = Http2Visitor(SHUT, backlog=100 * KIB)
        sources = self.ask(visitor, 100, 4 * KIB, 4 * KIB, 4 * KIB)
        self.assertLessEqual(uncounted(visitor), 104 * KIB)
        for _ in range(10):
            visitor.send(windowUpdate(0, 400 * KIB), *[windowUpdate(each.number, 4 * KIB) for each in sources])
            self.assertLessEqual(uncounted(visitor), 104 * KIB)
        self.assertEqual([len(visitor.body(each.number)) for each in sources], [12 * KIB] * 100)
        self.assertTrue(all(visitor.ended(each.number) for each in sources))
        first = list(dict.fromkeys(sources[0].order))
        self.assertEqual(first, sorted(first))
        self.assertGreater(len(first), 50)
        self.assertEqual((visitor.connection.backlog.held, visitor.connection.streams), (0, {}))

    def test_oneStreamIsEnough(self) -> None:
        """A visitor that takes what is finished stream by stream is let on, and each of the others is."""
        visitor = Http2Visitor(SHUT, backlog=20 * KIB)
        sources = self.ask(visitor, 50, 5 * KIB)
        for source in sources:
            visitor.send(windowUpdate(source.number, 5 * KIB), windowUpdate(0, 5 * KIB))
        self.assertTrue(all(visitor.ended(each.number) for each in sources))

    def test_cancelledStreamsMakeRoom(self) -> None:
        """So do streams that the visitor resets, and the end of time for those that it leaves."""
        visitor = Http2Visitor(SHUT, backlog=20 * KIB)
        sources = self.ask(visitor, 10, 5 * KIB)
        visitor.send(*[rstStream(number, ErrorCodes.CANCEL) for number in (1, 3, 5)])
        self.assertEqual([bool(each.left) for each in sources], [False] * 8 + [True] * 2)
        visitor.elapse(65)
        self.assertEqual([bool(each.left) for each in sources], [False] * 10)
        visitor.elapse(65)
        self.assertEqual((visitor.connection.streams, visitor.connection.backlog.held), ({}, 0))

    def test_aTransportThatIsFull(self) -> None:
        """The same holds while the windows are open and the transport takes nothing."""
        visitor = Http2Visitor(setting(4, 1 << 20), capacity=1)
        visitor.send(windowUpdate(0, 1 << 24))
        visitor.transport.outgoing.stalled = True
        visitor.owner.waits = True
        sources: list[Source] = []
        for number in range(1, 201, 2):
            visitor.transport.deliver(visitor.headers(number, [(":method", "GET"), (":scheme", "https"),
                (":authority", "a.example"), (":path", "/")], end=True))  # fmt: skip
            sources.append(Source(number, [60 * KIB]))
            sources[-1].begin(visitor.owner.requests[-1])
        self.assertLessEqual(held(visitor), LIMIT + 60 * KIB)
        visitor.transport.outgoing.stalled = False
        for _ in range(5):
            visitor.turn()
        self.assertEqual([len(visitor.body(each.number)) for each in sources], [60 * KIB] * 100)

    def test_aDefectInAnotherExchange(self) -> None:
        """An exchange that cannot be paused, or resumed, loses its own stream."""

        class Broken(Source):
            def pauseResponse(self) -> None:
                raise RuntimeError("a defect")

        class BrokenLater(Source):
            def resumeResponse(self) -> None:
                raise RuntimeError("a defect")

        visitor = Http2Visitor(SHUT, backlog=10)
        visitor.owner.waits = True
        for source in (Broken(1, [5], ends=False), BrokenLater(3, [], ends=False), Source(5, [11])):
            source.begin(visitor.request(source.number))
        visitor.turn()
        self.assertEqual(visitor.resetCode(1), ErrorCodes.INTERNAL_ERROR)
        visitor.send(windowUpdate(5, 11))
        self.assertEqual((visitor.resetCode(3), visitor.ended(5)), (ErrorCodes.INTERNAL_ERROR, True))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertEqual((visitor.connection.streams, visitor.connection.backlog.held), ({}, 0))


class OriginTests(SynchronousTestCase):
    """Bodies of requests that an origin does not take."""

    def send(self, origin: Http2Origin, count: int, *pieces: int) -> list[Source]:
        """Requests with these bodies."""
        sources: list[Source] = []
        for _ in range(count):
            request, _ = origin.ask(method="POST", length=None)
            source = Source(2 * len(sources) + 1, list(pieces))
            request._exchange = source  # type: ignore[attr-defined]  # of which send tells nobody
            source.say(request)
            source.go()
            origin.turn()
            self.assertEqual(origin.connection.backlog.held, uncounted(origin))
            sources.append(source)
        return sources

    def test_nobodyCountsNoMoreThanTheLimit(self) -> None:
        """What waits beyond the limit is that of exchanges that are paused, finished or not, until it is sent."""
        for pieces in ([10 * KIB], [64 * KIB], [20 * KIB, 20 * KIB], [240 * KIB]):
            origin = Http2Origin(SHUT)
            sources = self.send(origin, 100, *pieces)
            self.assertLessEqual(uncounted(origin), LIMIT)
            paused = [each for each in sources if each.isPaused]
            self.assertEqual(len(paused) < 100, sum(pieces) <= 64 * KIB)
            for source in sources:
                origin.send(windowUpdate(source.number, sum(pieces)), windowUpdate(0, sum(pieces)))
            self.assertEqual([len(origin.body(each.number)) for each in sources], [sum(pieces)] * 100)
            self.assertEqual([each.isPaused for each in sources], [False] * 100)
            self.assertTrue(all(origin.ended(each.number) for each in sources))

    def test_whatIsNotTakenStopsNobodyElse(self) -> None:
        """An origin that leaves the bodies of some requests gets those of others."""
        origin = Http2Origin(SHUT)
        self.send(origin, 40, 60 * KIB)
        [source] = self.send(origin, 1, *[16 * KIB] * 20)
        for _ in range(20):
            origin.send(windowUpdate(81, MAX_FRAME), windowUpdate(0, MAX_FRAME))
        self.assertEqual((len(origin.body(81)), origin.ended(81), source.isPaused), (320 * KIB, True, False))

    def test_anEarlyResponseMakesRoom(self) -> None:
        """A request that is answered before its body is sent leaves nothing behind."""
        origin = Http2Origin(SHUT)
        sources = self.send(origin, 20, 60 * KIB)
        self.assertTrue(sources[-1].isPaused)
        for source in sources:
            origin.send(origin.headers(source.number, [(":status", "200")], end=True))
        self.assertEqual((origin.connection.backlog.held, origin.connection.streams), (0, {}))
        self.assertEqual(len(origin.of(HEADERS)), 20)
