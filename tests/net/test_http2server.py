"""Tests for L{gateway.net.http2server}."""

from h2.errors import ErrorCodes
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.httpinterfaces import IVisitorRequest
from gateway.testing import TLSFlowTransport
from gateway.wire.errors import LocalProtocolError
from gateway.wire.http1 import ResponseHead
from gateway.wire.http2frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    MAX_FRAME,
    PING,
    PREFACE,
    SETTINGS,
    frame,
    goAway,
    ping,
    rstStream,
    windowUpdate,
)
from tests.net.http2peer import REQUEST, Http2Visitor, Owner, Recorder, setting

OK = ResponseHead(200, "OK", "1.1", [("content-type", "text/plain")])
INITIAL_WINDOW_SIZE = 4
HEADER_TABLE_SIZE = 1


class RequestTests(SynchronousTestCase):
    """What becomes of a header list."""

    def test_aStreamIsARequest(self) -> None:
        """A request has the head that its list stands for, with the authority as its host."""
        request = Http2Visitor().request(1, ("accept", "*/*"))
        self.assertEqual(
            (request.head.method, request.head.target, request.head.version, request.head.headers, request.length),
            ("GET", "/", "2", [("host", "a.example"), ("accept", "*/*")], 0),
        )
        self.assertFalse(request.canUpgrade)

    def test_theEndIsToldOnceThereIsAnExchange(self) -> None:
        """The end of a request without a body is told when the request is accepted."""
        visitor = Http2Visitor()
        visitor.owner.waits = True
        request = visitor.request(1)
        exchange = Recorder()
        request.accept(exchange)
        self.assertEqual(exchange.trailers, ())

    def test_crumbsOfCookiesAreJoined(self) -> None:
        """Cookies that came in several fields are one header, as HTTP/1's servers expect it."""
        request = Http2Visitor().request(1, ("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"))
        self.assertEqual(request.head.all("cookie"), ["a=1; b=2"])

    def test_teIsForTheConnection(self) -> None:
        """That the visitor takes trailers is not passed on."""
        self.assertIsNone(Http2Visitor().request(1, ("te", "trailers")).head.get("te"))

    def test_theLengthIsKnownWhereItWasTold(self) -> None:
        """A body's length is what Content-Length says, or unknown."""
        visitor = Http2Visitor()
        self.assertEqual(visitor.request(1, ("content-length", "5"), end=False).length, 5)
        self.assertIsNone(visitor.request(3, end=False).length)

    def test_aBodyComesAsItArrives(self) -> None:
        """The pieces of a body are handed over as they come, and then the end."""
        visitor = Http2Visitor()
        visitor.request(1, end=False)
        exchange = visitor.owner.exchanges[0]
        visitor.send(visitor.data(1, b"ab"))
        self.assertEqual((exchange.body, exchange.trailers), (b"ab", None))
        visitor.send(visitor.data(1, b"cd", end=True, padding=7))
        self.assertEqual((exchange.body, exchange.trailers), (b"abcd", ()))

    def test_trailersComeWithTheEnd(self) -> None:
        """Trailers are handed over, but for those that may not be there."""
        visitor = Http2Visitor()
        visitor.request(1, end=False)
        trailers = [("x-sum", "1"), ("content-length", "7"), ("x-forwarded-for", "::1")]
        visitor.send(visitor.data(1, b"ab"), visitor.headers(1, trailers, end=True))
        self.assertEqual(visitor.owner.exchanges[0].trailers, [("x-sum", "1")])

    def test_nothingOfABodyIsHandedOverBeforeItIsAccepted(self) -> None:
        """What comes before there is an exchange waits, without new credit, and comes then, in order."""
        visitor = Http2Visitor()
        visitor.owner.waits = True
        request = visitor.request(1, end=False)
        for _ in range(16):
            visitor.send(visitor.data(1, bytes(MAX_FRAME)))
        visitor.send(visitor.data(1, end=True))
        self.assertEqual(visitor.credit(1), 0)
        exchange = Recorder()
        request.accept(exchange)
        self.assertEqual((len(exchange.body), exchange.trailers), (16 * MAX_FRAME, ()))

    def test_aPausedBodyGetsNoCredit(self) -> None:
        """While the exchange is paused the body is kept, and the peer's window stays closed."""
        visitor = Http2Visitor(streamWindow=65_535)
        request = visitor.request(1, end=False)
        request.pauseProducing()
        for _ in range(3):
            visitor.send(visitor.data(1, bytes(MAX_FRAME)))
        self.assertEqual((visitor.owner.exchanges[0].body, visitor.credit(1)), (b"", 0))
        request.resumeProducing()
        visitor.turn()
        self.assertEqual(len(visitor.owner.exchanges[0].body), 3 * MAX_FRAME)
        self.assertGreaterEqual(visitor.credit(1), 2 * MAX_FRAME)

    def test_aBodyOfSinglesIsKeptInOne(self) -> None:
        """A body that comes a byte at a time while nobody takes it is kept as a few pieces, without its padding."""
        visitor = Http2Visitor()
        request = visitor.request(1, end=False)
        request.pauseProducing()
        visitor.send(*[visitor.data(1, b"a", padding=99)] * 1500)
        self.assertGreater(visitor.credit(1), 100_000)
        request.resumeProducing()
        exchange = visitor.owner.exchanges[0]
        self.assertEqual((exchange.body, exchange.pieces), (b"a" * 1500, [1500]))

    def test_whatIsTakenGivesCredit(self) -> None:
        """A visitor may send a body of any size, with padding and all."""
        visitor = Http2Visitor()
        visitor.request(1, end=False)
        for _ in range(200):
            visitor.send(visitor.data(1, bytes(16_000), padding=100))
        self.assertEqual(len(visitor.owner.exchanges[0].body), 200 * 16_000)
        self.assertGreater(visitor.credit(1), 200 * 16_101 - 256 * 1024)
        self.assertGreater(visitor.credit(0), 200 * 16_101 - 1024 * 1024)

    def test_connectIsRefused(self) -> None:
        """A CONNECT is answered with 405."""
        visitor = Http2Visitor()
        visitor.send(visitor.headers(1, [(":method", "CONNECT"), (":authority", "a.example:22")]))
        self.assertEqual(visitor.heads(1)[0][":status"], "405")
        self.assertEqual(visitor.owner.refusals[0][0], 405)
        self.assertEqual(visitor.owner.requests, [])

    def test_aHeadThatIsTooLargeIsAnswered(self) -> None:
        """A header list beyond the limit, or of too many fields, is answered with 431."""
        visitor = Http2Visitor()
        for stream, more in ((1, [("a", "b" * 16_300)]), (3, [("a", "b")] * 100)):
            visitor.send(visitor.headers(stream, REQUEST + more, end=True))
            self.assertEqual(visitor.heads(stream)[0][":status"], "431")
        visitor.request(5)
        self.assertEqual(len(visitor.owner.requests), 1)

    def test_aBodyThatNobodyReadsIsStopped(self) -> None:
        """A response before the request's end is whole, and the visitor is told a little later to send no more."""
        visitor = Http2Visitor()
        request = visitor.request(1, end=False)
        request.respond(OK, 2)
        request.write(b"no")
        request.finish()
        visitor.turn()
        self.assertTrue(visitor.ended(1))
        self.assertEqual(visitor.resetCode(1), None)
        for _ in range(3):
            visitor.clock.advance(1)
        visitor.turn()
        self.assertEqual(visitor.resetCode(1), ErrorCodes.NO_ERROR)
        before = visitor.credit(0)
        visitor.send(*[visitor.data(1, bytes(MAX_FRAME))] * 4)
        self.assertEqual(visitor.owner.exchanges[0].body, b"")
        self.assertEqual((visitor.credit(0) - before, visitor.isClosed), (4 * MAX_FRAME, False))

    def test_aResetIsTold(self) -> None:
        """A visitor that cancels a request is gone for its exchange, and for none of the others."""
        visitor = Http2Visitor()
        request = visitor.request(1)
        visitor.request(3)
        visitor.send(rstStream(1, ErrorCodes.CANCEL))
        self.assertEqual([bool(each.lost) for each in visitor.owner.exchanges], [True, False])
        request.respond(OK, 2)
        request.write(b"no")
        request.finish()
        visitor.turn()
        self.assertEqual(visitor.of(HEADERS, 1), [])

    def test_aResetIsToldToWhoAcceptsLater(self) -> None:
        """Who accepts a request that was cancelled meanwhile is told so."""
        visitor = Http2Visitor()
        visitor.owner.waits = True
        request = visitor.request(1)
        visitor.send(rstStream(1, ErrorCodes.CANCEL))
        exchange = Recorder()
        request.accept(exchange)
        self.assertIsNotNone(exchange.lost)

    def test_aDefectLosesOneStream(self) -> None:
        """An exchange or an owner that raises loses its stream, and the connection goes on."""
        visitor = Http2Visitor()
        visitor.request(1, end=False)
        visitor.owner.exchanges[0].fails = True
        visitor.send(visitor.data(1, b"a"))
        self.assertEqual(visitor.resetCode(1), ErrorCodes.INTERNAL_ERROR)
        visitor.owner.fails = True
        visitor.send(visitor.headers(3, REQUEST, end=True))
        self.assertEqual(visitor.resetCode(3), ErrorCodes.INTERNAL_ERROR)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertFalse(visitor.isClosed)

    def test_thereIsNoUpgrade(self) -> None:
        """To upgrade a request is a mistake of ours."""
        request = Http2Visitor().request(1)
        self.assertRaises(LocalProtocolError, request.upgrade, OK, None)


class ResponseTests(SynchronousTestCase):
    """How a response is sent."""

    def test_aResponseLeavesInOneWrite(self) -> None:
        """Head and body leave together, when the turn of the reactor ends, and the last frame ends the stream."""
        visitor = Http2Visitor()
        request = visitor.request(1)
        request.respond(OK, 3)
        request.write(memoryview(b"yes"))
        request.finish()
        self.assertEqual(visitor.transport.written(), b"")
        visitor.turn()
        self.assertEqual(visitor.heads(1), [{":status": "200", "content-type": "text/plain", "content-length": "3"}])
        self.assertEqual([(each.kind, each.ends) for each in visitor.frames], [(HEADERS, False), (DATA, True)])

    def test_aResponseWithoutABodyIsOneFrame(self) -> None:
        """A response of no length ends with its head."""
        visitor = Http2Visitor()
        for stream, method, length in ((1, "GET", 0), (3, "HEAD", 5)):
            request = visitor.request(stream, method=method)
            request.respond(OK, length)
            request.write(b"dropped")
            request.finish()
            visitor.turn()
            self.assertEqual([each.ends for each in visitor.frames if each.stream == stream], [True])

    def test_aHeadResponseKeepsItsLength(self) -> None:
        """The response to HEAD says how long the body would be."""
        visitor = Http2Visitor()
        request = visitor.request(1, method="HEAD")
        request.respond(ResponseHead(200, "OK", "1.1", [("content-length", "7")]), 0)
        request.finish()
        visitor.turn()
        self.assertEqual(visitor.heads(1)[0]["content-length"], "7")

    def test_trailersAreSent(self) -> None:
        """Trailers come behind the body, and end the stream."""
        visitor = Http2Visitor()
        request = visitor.request(1)
        request.respond(OK, None)
        request.write(b"yes")
        request.finish([("grpc-status", "0")])
        visitor.turn()
        self.assertEqual(visitor.heads(1)[1], {"grpc-status": "0"})
        self.assertEqual([each.ends for each in visitor.frames], [False, False, True])

    def test_informationalResponsesAreSent(self) -> None:
        """A 1xx goes before the response, and a 101 nowhere."""
        visitor = Http2Visitor()
        request = visitor.request(1)
        for status in (100, 101, 103):
            request.inform(ResponseHead(status, "", "1.1", []))
        request.respond(OK, 0)
        request.finish()
        request.inform(ResponseHead(103, "", "1.1", []))
        visitor.turn()
        self.assertEqual([each[":status"] for each in visitor.heads(1)], ["100", "103", "200"])

    def test_whatIsForAConnectionIsNotSent(self) -> None:
        """Headers that HTTP/2 does not have are left out."""
        visitor = Http2Visitor()
        request = visitor.request(1)
        request.respond(ResponseHead(200, "", "1.1", [("connection", "close"), ("keep-alive", "timeout=1")]), 0)
        request.finish()
        visitor.turn()
        self.assertEqual(visitor.heads(1), [{":status": "200", "content-length": "0"}])

    def test_headersAreSentAsTheyAre(self) -> None:
        """Bytes beyond ASCII in a header are neither changed nor encoded twice."""
        visitor = Http2Visitor()
        request = visitor.request(1, ("x-name", "J\xc3\xb6rg".encode("latin-1").decode("latin-1")))
        request.respond(ResponseHead(200, "", "1.1", [("x-name", "J\xc3\xb6rg"), ("x-name", "\xe9")]), 0)
        visitor.turn()
        self.assertEqual(visitor.heads(1)[0]["x-name"], "\xe9")

    def test_noContentHasNoLength(self) -> None:
        """A 204 does not say a length; a 304 says that of what it stands for."""
        visitor = Http2Visitor()
        for stream, status, length in ((1, 204, None), (3, 304, "7")):
            request = visitor.request(stream)
            request.respond(ResponseHead(status, "", "1.1", [("content-length", "7")]), 0)
            request.finish()
            visitor.turn()
            self.assertEqual(visitor.heads(stream)[0].get("content-length"), length)

    def test_piecesAreNoLongerThanAFrame(self) -> None:
        """A long body goes in frames of 16 KiB, whatever the peer would take."""
        visitor = Http2Visitor(setting(INITIAL_WINDOW_SIZE, 1 << 20) + setting(5, 1 << 20))
        visitor.send(windowUpdate(0, 1 << 20))
        request = visitor.request(1)
        request.respond(OK, 100_000)
        request.write(bytes(100_000))
        request.finish()
        visitor.turn()
        self.assertEqual(max(len(each.payload) for each in visitor.of(DATA)), MAX_FRAME)
        self.assertTrue(visitor.ended(1))

    def test_aResponseWaitsForTheStreamsWindow(self) -> None:
        """No more is sent than the visitor gave credit for; the exchange is paused meanwhile."""
        visitor = Http2Visitor(setting(INITIAL_WINDOW_SIZE, 1000))
        request = visitor.request(1)
        exchange = visitor.owner.exchanges[0]
        request.respond(OK, 80_000)
        request.write(bytes(80_000))
        request.finish()
        visitor.turn()
        self.assertEqual((len(visitor.body(1)), exchange.events), (1000, ["pauseResponse"]))
        visitor.send(windowUpdate(1, 500))
        self.assertEqual(len(visitor.body(1)), 1500)
        visitor.send(windowUpdate(1, 100_000), windowUpdate(0, 100_000))
        self.assertEqual(len(visitor.body(1)), 80_000)

    def test_theSourceIsResumedBeforeAllIsSent(self) -> None:
        """The exchange is asked for more when little is left."""
        visitor = Http2Visitor(setting(INITIAL_WINDOW_SIZE, 1000))
        request = visitor.request(1)
        request.respond(OK, None)
        request.write(bytes(70_000))
        visitor.turn()
        visitor.send(windowUpdate(1, 55_000))
        self.assertEqual(visitor.owner.exchanges[0].events, ["pauseResponse", "resumeResponse"])

    def test_aResponseWaitsForTheConnectionsWindow(self) -> None:
        """All streams together get no more than the connection's credit."""
        visitor = Http2Visitor(setting(INITIAL_WINDOW_SIZE, 1 << 20))
        for stream in (1, 3):
            request = visitor.request(stream)
            request.respond(OK, 50_000)
            request.write(bytes(50_000))
            request.finish()
        visitor.turn()
        self.assertEqual(len(visitor.body(1)) + len(visitor.body(3)), 65_535)
        visitor.send(windowUpdate(0, 100_000))
        self.assertEqual(len(visitor.body(1)) + len(visitor.body(3)), 100_000)

    def test_streamsTakeTurns(self) -> None:
        """Two long responses come frame by frame in turn."""
        visitor = Http2Visitor()
        for request in (visitor.request(1), visitor.request(3)):
            request.respond(OK, 32_000)
            request.write(bytes(32_000))
            request.finish()
        visitor.turn()
        self.assertEqual([each.stream for each in visitor.of(DATA)], [1, 3, 1, 3])

    def test_aFullTransportStopsTheSending(self) -> None:
        """Nothing more is framed while the transport is full, and all of it comes once it has room."""
        visitor = Http2Visitor(setting(INITIAL_WINDOW_SIZE, 1 << 24), capacity=1000)
        visitor.send(windowUpdate(0, 1 << 24))
        request = visitor.request(1)
        request.respond(OK, None)
        for _ in range(40):
            request.write(bytes(16_384))
        visitor.clock.advance(0)
        self.assertLess(visitor.transport.outgoing.bufferedBytes, 160_000)
        self.assertIn("pauseResponse", visitor.owner.exchanges[0].events)
        request.finish()
        visitor.turn()
        self.assertEqual((len(visitor.body(1)), visitor.ended(1)), (40 * 16_384, True))

    def test_anAbortedResponseDoesNotLookWhole(self) -> None:
        """To break off resets the stream."""
        visitor = Http2Visitor()
        request = visitor.request(1)
        request.respond(OK, None)
        request.write(b"half")
        request.abort()
        visitor.turn()
        self.assertEqual((visitor.resetCode(1), visitor.ended(1)), (ErrorCodes.INTERNAL_ERROR, False))
        self.assertIsNone(visitor.owner.exchanges[0].lost)

    def test_windowsThatBecomeNegativeAreWaitedFor(self) -> None:
        """A smaller initial window takes back credit that was used, and counts from there."""
        visitor = Http2Visitor(setting(INITIAL_WINDOW_SIZE, 3000))
        request = visitor.request(1)
        request.respond(OK, 10_000)
        request.write(bytes(10_000))
        visitor.turn()
        visitor.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 1000)))
        visitor.send(windowUpdate(1, 2000))
        self.assertEqual(len(visitor.body(1)), 3000)
        visitor.send(windowUpdate(1, 1))
        self.assertEqual(len(visitor.body(1)), 3001)


class ConnectionTests(SynchronousTestCase):
    """The life of a connection."""

    def test_settingsComeFirst(self) -> None:
        """We say our settings at once, and acknowledge the visitor's."""
        visitor = Http2Visitor(begins=False)
        visitor.turn()
        self.assertEqual([each.kind for each in visitor.frames][:1], [SETTINGS])
        visitor.send(PREFACE, frame(SETTINGS, 0, 0))
        self.assertEqual(visitor.frames[-1].flags, ACK)

    def test_drainSaysGoodbyeTwice(self) -> None:
        """Requests that were on the way when the drain began are served; later ones are not looked at."""
        visitor = Http2Visitor()
        first = visitor.request(1)
        visitor.connection.drain()
        visitor.turn()
        self.assertEqual([each.payload[:4] for each in visitor.of(GOAWAY)], [b"\x7f\xff\xff\xff"])
        second = visitor.request(3)
        visitor.send(frame(PING, ACK, 0, visitor.of(PING)[0].payload))
        self.assertEqual(visitor.of(GOAWAY)[1].payload, bytes([0, 0, 0, 3, 0, 0, 0, 0]))
        visitor.send(visitor.headers(5, REQUEST, end=True))
        self.assertEqual(len(visitor.owner.requests), 2)
        for request in (first, second):
            self.assertFalse(visitor.isClosed)
            request.respond(OK, 0)
            request.finish()
            visitor.turn()
        self.assertTrue(visitor.isClosed and visitor.ended(1) and visitor.ended(3))

    def test_drainDoesNotWaitForThePong(self) -> None:
        """A visitor that does not answer the ping is told what was its last request all the same."""
        visitor = Http2Visitor()
        visitor.request(1)
        visitor.connection.drain()
        visitor.elapse(3)
        self.assertEqual(len(visitor.of(GOAWAY)), 2)

    def test_anIdleConnectionIsDrainedAtOnce(self) -> None:
        """Without a request there is nothing to wait for but the visitor's answer."""
        visitor = Http2Visitor()
        visitor.connection.drain()
        visitor.turn()
        visitor.send(frame(PING, ACK, 0, visitor.of(PING)[0].payload))
        self.assertTrue(visitor.isClosed)

    def test_closeEndsEverything(self) -> None:
        """To close tells every exchange, and the visitor why."""
        visitor = Http2Visitor()
        visitor.request(1)
        visitor.connection.close()
        visitor.turn()
        self.assertIsNotNone(visitor.owner.exchanges[0].lost)
        self.assertEqual(visitor.goAwayCode(), ErrorCodes.NO_ERROR)
        self.assertEqual(visitor.owner.ended, 1)

    def test_closeInsideOfTLS(self) -> None:
        """All that was said arrives before the end, whatever is registered with TLS, and so does the end."""
        visitor = Http2Visitor(transport=TLSFlowTransport)
        visitor.request(1)
        visitor.connection.close()
        visitor.turn()
        self.assertEqual((visitor.goAwayCode(), visitor.transport.outgoing.eof), (ErrorCodes.NO_ERROR, True))
        visitor.transport.deliverEOF()
        self.assertEqual(visitor.owner.ended, 1)

    def test_aGoAwayOfTheVisitorsLetsRequestsFinish(self) -> None:
        """A visitor that leaves still gets the responses that it waits for."""
        visitor = Http2Visitor()
        request = visitor.request(1)
        visitor.send(goAway(0, ErrorCodes.NO_ERROR))
        request.respond(OK, 3)
        request.write(b"yes")
        request.finish()
        visitor.turn()
        self.assertEqual((visitor.body(1), visitor.isClosed), (b"yes", True))

    def test_aLostConnectionIsToldToAll(self) -> None:
        """All exchanges are told, then the owner."""
        visitor = Http2Visitor()
        visitor.request(1)
        visitor.request(3, end=False)
        visitor.transport.deliverReset()
        self.assertEqual([bool(each.lost) for each in visitor.owner.exchanges], [True, True])
        self.assertEqual(visitor.owner.ended, 1)

    def test_requestsAreCounted(self) -> None:
        """After so many requests the visitor is sent away, and those that it sent are answered."""
        visitor = Http2Visitor(requests=2)
        visitor.request(1)
        request = visitor.request(3)
        self.assertEqual(visitor.of(GOAWAY)[0].payload[:4], bytes([0, 0, 0, 3]))
        request.respond(OK, 0)
        request.finish()
        visitor.turn()
        self.assertFalse(visitor.isClosed)
        visitor.owner.requests[0].respond(OK, 0)
        visitor.owner.requests[0].finish()
        visitor.turn()
        self.assertTrue(visitor.isClosed)

    def test_tooManyStreamsAreRefusedOneByOne(self) -> None:
        """A stream beyond the limit is refused, so that the visitor may try again, and the others go on."""
        visitor = Http2Visitor(streams=2)
        for stream in (1, 3):
            visitor.request(stream)
        visitor.send(visitor.headers(5, REQUEST, end=True))
        self.assertEqual(visitor.resetCode(5), ErrorCodes.REFUSED_STREAM)
        request = visitor.owner.requests[0]
        request.respond(OK, 0)
        request.finish()
        visitor.request(7)
        self.assertEqual(len(visitor.owner.requests), 3)

    def test_othersGetATurn(self) -> None:
        """However many requests come at once, and however fast they are answered, others get a turn between them."""

        class Answering(Owner):
            def gotRequest(self, request: IVisitorRequest) -> None:
                self.requests.append(request)
                request.respond(OK, 0)
                request.finish()

        visitor = Http2Visitor(owner=Answering())
        numbers = range(1, 2001, 2)
        heads = [visitor.headers(each, REQUEST, end=True) for each in numbers]
        visitor.transport.deliver(b"".join([*heads, ping(b"12345678")]))
        counts = [len(visitor.owner.requests)]
        visitor.clock.callLater(0, lambda: counts.append(len(visitor.owner.requests)))
        visitor.turn()
        self.assertEqual(counts, [128, 256])
        self.assertEqual([each.stream for each in visitor.frames if each.ends], [*numbers])
        self.assertEqual(len(visitor.of(PING)), 1)


class DeadlineTests(SynchronousTestCase):
    """What may not take long."""

    def test_aVisitorHasToBegin(self) -> None:
        """A connection on which no settings come is closed."""
        visitor = Http2Visitor(begins=False, headTimeout=10.0)
        visitor.elapse(9)
        self.assertFalse(visitor.isClosed)
        visitor.elapse(2)
        self.assertTrue(visitor.isClosed)

    def test_anIdleConnectionIsClosed(self) -> None:
        """A connection without a request is closed after a while, pings or not."""
        visitor = Http2Visitor(idleTimeout=20.0)
        request = visitor.request(1)
        visitor.elapse(30)
        self.assertFalse(visitor.isClosed)
        request.respond(OK, 0)
        request.finish()
        for _ in range(21):
            visitor.elapse(1)
            if not visitor.isClosed:
                visitor.send(ping(b"12345678"))
        self.assertTrue(visitor.isClosed)
        self.assertEqual(visitor.goAwayCode(), ErrorCodes.NO_ERROR)

    def test_aHeaderListHasToEnd(self) -> None:
        """A list of which the rest does not come ends the connection."""
        visitor = Http2Visitor(headTimeout=10.0)
        visitor.send(visitor.headers(1, REQUEST, flags=0), frame(CONTINUATION, 0, 1, b""))
        visitor.elapse(12)
        self.assertTrue(visitor.isClosed)

    def test_aBodyHasToCome(self) -> None:
        """A body whose length was told has to come at a certain rate; only its own stream ends."""
        visitor = Http2Visitor(bodyGrace=10.0, bodyRate=100)
        visitor.request(1, ("content-length", "9999"), end=False)
        visitor.request(3, end=False)
        for _ in range(12):
            visitor.send(visitor.data(1, b"a" * 50))
            visitor.elapse(1)
        self.assertEqual([bool(each.lost) for each in visitor.owner.exchanges], [True, False])
        self.assertEqual(visitor.resetCode(1), ErrorCodes.CANCEL)

    def test_aPausedBodyMayTakeLong(self) -> None:
        """A visitor is not blamed for a body that nobody takes."""
        visitor = Http2Visitor(bodyGrace=10.0)
        request = visitor.request(1, ("content-length", "9999"), end=False)
        request.pauseProducing()
        visitor.elapse(30)
        self.assertIsNone(visitor.owner.exchanges[0].lost)

    def test_aBodyThatIsNotAskedForMayTakeLong(self) -> None:
        """Nor for a body for which the origin does not ask, but not for ever."""
        visitor = Http2Visitor(bodyGrace=10.0, originHeadTimeout=50.0)
        visitor.request(1, ("content-length", "9999"), ("expect", "100-continue"), end=False)
        visitor.elapse(48)
        self.assertIsNone(visitor.owner.exchanges[0].lost)
        visitor.elapse(6)
        self.assertIsNotNone(visitor.owner.exchanges[0].lost)

    def test_aResponseHasToBeTaken(self) -> None:
        """A visitor that gives no credit loses the stream after a while."""
        visitor = Http2Visitor(setting(INITIAL_WINDOW_SIZE, 10), takeTimeout=20.0)
        request = visitor.request(1)
        request.respond(OK, 100)
        request.write(bytes(100))
        visitor.turn()
        visitor.elapse(15)
        visitor.send(windowUpdate(1, 1))
        visitor.elapse(15)
        self.assertIsNone(visitor.owner.exchanges[0].lost)
        visitor.elapse(7)
        self.assertIsNotNone(visitor.owner.exchanges[0].lost)
        self.assertEqual(visitor.resetCode(1), ErrorCodes.CANCEL)

    def test_aResponseHasToBeTakenInTime(self) -> None:
        """A byte now and then does not count as taking it for ever."""
        visitor = Http2Visitor(setting(INITIAL_WINDOW_SIZE, 10), takeTimeout=20.0, takeLimit=40.0)
        request = visitor.request(1)
        request.respond(OK, 1000)
        request.write(bytes(1000))
        for _ in range(9):
            visitor.elapse(5)
            visitor.send(windowUpdate(1, 1))
        self.assertIsNotNone(visitor.owner.exchanges[0].lost)

    def test_whoeverDoesNotHangUpIsCutOff(self) -> None:
        """A visitor that does not close is cut off."""
        visitor = Http2Visitor(lingerTimeout=2.0)
        visitor.transport.outgoing.stalled = True
        visitor.connection.close()
        for _ in range(4):
            visitor.clock.advance(1)
        self.assertTrue(visitor.transport.aborted)


class BudgetTests(SynchronousTestCase):
    """What costs us more than the visitor."""

    def assertCalmed(self, visitor: Http2Visitor) -> None:
        """The visitor was told to enhance its calm, and the owner why."""
        self.assertEqual(visitor.goAwayCode(), ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertTrue(visitor.isClosed)
        self.assertEqual(visitor.owner.refusals[-1][0], 429)

    def test_rapidReset(self) -> None:
        """Requests that are cancelled at once are counted."""
        visitor = Http2Visitor(resets=20)
        for stream in range(1, 43, 2):
            self.assertFalse(visitor.isClosed)
            visitor.send(visitor.headers(stream, REQUEST, end=True), rstStream(stream, ErrorCodes.CANCEL))
        self.assertCalmed(visitor)
        self.assertEqual(len(visitor.owner.requests), 21)

    def test_madeYouReset(self) -> None:
        """So are requests with mistakes that make us reset them (CVE-2025-8671)."""
        visitor = Http2Visitor(resets=20)
        for stream in range(1, 43, 2):
            self.assertFalse(visitor.isClosed)
            visitor.send(visitor.headers(stream, REQUEST), windowUpdate(stream, 0))
        self.assertCalmed(visitor)

    def test_malformedRequestsAreCounted(self) -> None:
        """So are those whose heads are none."""
        visitor = Http2Visitor(resets=20)
        for stream in range(1, 43, 2):
            self.assertFalse(visitor.isClosed)
            visitor.send(visitor.headers(stream, [("UPPER", "case")], end=True), ping(b"12345678"))
        self.assertCalmed(visitor)

    def test_completedRequestsEarnResets(self) -> None:
        """Who lets most requests finish may cancel as many."""
        visitor = Http2Visitor(resets=20)
        for stream in range(1, 400, 4):
            request = visitor.request(stream)
            request.respond(OK, 0)
            request.finish()
            visitor.request(stream + 2)
            visitor.send(rstStream(stream + 2, ErrorCodes.CANCEL))
        self.assertFalse(visitor.isClosed)

    def test_resetsComeBackWithTime(self) -> None:
        """What was spent comes back."""
        visitor = Http2Visitor(resets=20, seconds=30.0)
        for stream in range(1, 80, 2):
            visitor.request(stream)
            visitor.send(rstStream(stream, ErrorCodes.CANCEL))
            visitor.elapse(2)
        self.assertFalse(visitor.isClosed)

    def test_floodsOfControlFrames(self) -> None:
        """Each kind of frame that does nothing for a request is counted."""
        visitor = Http2Visitor()
        for flood in (
            frame(SETTINGS, 0, 0),
            frame(SETTINGS, 0, 0, setting(HEADER_TABLE_SIZE, 1)),
            ping(b"12345678"),
            frame(PING, ACK, 0, b"12345678"),
            frame(2, 0, 3, bytes([0, 0, 0, 1, 1])),
            visitor.data(1),
            visitor.data(1, padding=10),
            frame(0xEE, 0, 1, b"unknown"),
        ):
            visitor = Http2Visitor(controls=50)
            visitor.request(1, end=False)
            visitor.send(*[flood] * 48)
            self.assertFalse(visitor.isClosed)
            visitor.send(*[flood] * 3)
            self.assertCalmed(visitor)

    def test_floodsOnStreamsThatAreOver(self) -> None:
        """Frames for streams that are over are counted, too."""
        for flood in (rstStream(1, ErrorCodes.CANCEL), frame(DATA, 0, 1, b"a")):
            visitor = Http2Visitor(controls=50)
            visitor.request(1, end=False)
            visitor.send(rstStream(1, ErrorCodes.CANCEL))
            visitor.send(*[flood] * 51)
            self.assertCalmed(visitor)

    def test_floodsOfWindowUpdates(self) -> None:
        """Windows that are opened byte by byte without anything being sent are counted."""
        visitor = Http2Visitor(controls=50)
        visitor.send(*[windowUpdate(0, 1)] * 501)
        self.assertCalmed(visitor)

    def test_floodsOfContinuations(self) -> None:
        """A header list of very many frames, or of very many bytes, is not collected."""
        for continuation, count in ((b"", 33), (bytes(MAX_FRAME), 3)):
            visitor = Http2Visitor()
            first = visitor.headers(1, REQUEST, flags=0)
            visitor.send(first, *[frame(CONTINUATION, 0, 1, continuation)] * count)
            self.assertCalmed(visitor)

    def test_aListThatIsFarTooLong(self) -> None:
        """A list that grows in its decompression is not read to its end."""
        visitor = Http2Visitor()
        visitor.send(visitor.headers(1, [*REQUEST, ("a", "b" * 4000)], end=True))
        visitor.send(visitor.headers(3, [*REQUEST, *[("a", "b" * 4000)] * 50], end=True))
        self.assertCalmed(visitor)

    def test_answersThatNobodyReads(self) -> None:
        """A visitor that asks and does not read is cut off."""
        visitor = Http2Visitor(capacity=10)
        for _ in range(1000):
            visitor.transport.deliver(ping(b"12345678"))
        self.assertTrue(visitor.transport.aborted)
        self.assertLess(visitor.transport.outgoing.highWater, 1000)

    def test_requestsWhoseResponsesNobodyReads(self) -> None:
        """A visitor that does not read the responses is not read, either."""
        visitor = Http2Visitor(capacity=10, streams=8)
        for stream in range(1, 99, 2):
            visitor.transport.deliver(visitor.headers(stream, REQUEST, end=True))
            for request in visitor.owner.requests:
                request.respond(OK, 0)
                request.finish()  # twice is as good as once
            visitor.clock.advance(0)
        self.assertTrue(visitor.transport.readingPaused)
        self.assertLess(len(visitor.owner.requests), 15)
        visitor.turn()
        self.assertFalse(visitor.transport.readingPaused)

    def test_closeWhileNothingIsRead(self) -> None:
        """A visitor that is not read can be left, inside of TLS as well."""
        visitor = Http2Visitor(capacity=10, streams=8, transport=TLSFlowTransport)
        visitor.transport.outgoing.stalled = True
        for stream in range(1, 99, 2):
            visitor.transport.deliver(visitor.headers(stream, REQUEST, end=True))
            for request in visitor.owner.requests:
                request.respond(OK, 0)
                request.finish()
            visitor.clock.advance(0)
        self.assertTrue(visitor.transport.readingPaused)
        visitor.connection.close()
        visitor.turn()
        visitor.transport.deliverEOF()
        self.assertEqual(visitor.owner.ended, 1)

    def test_theVisitorDoesNotChooseOurTables(self) -> None:
        """We remember no more for compression than we began with, whatever the visitor has room for."""
        visitor = Http2Visitor(setting(HEADER_TABLE_SIZE, 1 << 30))
        self.assertEqual(visitor.connection.wire._h2.encoder.header_table_size, 4096)

    def test_unknownSettingsAreNotRemembered(self) -> None:
        """Settings that nobody knows cost nothing."""
        visitor = Http2Visitor(b"".join(setting(number, 1) for number in range(100, 1000)))
        self.assertLess(len(visitor.connection.wire._h2.remote_settings), 10)

    def test_paddedHeadersAreRead(self) -> None:
        """Padding and a priority do not belong to a list."""
        visitor = Http2Visitor()
        block = visitor.encoder.encode(REQUEST)
        visitor.send(
            frame(HEADERS, END_HEADERS | 0x8 | 0x20 | 1, 1, bytes([4, 0, 0, 0, 0, 9]) + block + bytes(4)),
        )
        self.assertEqual(len(visitor.owner.requests), 1)
