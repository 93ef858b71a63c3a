"""Tests for L{gateway.net.http2client}."""

from h2.errors import ErrorCodes
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.httpinterfaces import OriginProblem
from gateway.wire.errors import LocalProtocolError
from gateway.wire.http2frames import (
    ACK,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    MAX_FRAME,
    PING,
    PREFACE,
    PUSH_PROMISE,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    goAway,
    rstStream,
    windowUpdate,
)
from tests.net.http2peer import Http2Origin, Recorder, setting

OK = [(":status", "200"), ("content-type", "text/plain")]
MAX_CONCURRENT_STREAMS = 3
INITIAL_WINDOW_SIZE = 4


class RequestTests(SynchronousTestCase):
    """How a request is sent."""

    def test_theConnectionBegins(self) -> None:
        """The preface comes first, then our settings, which take no pushes."""
        origin = Http2Origin(begins=False)
        origin.clock.advance(0)
        self.assertTrue(origin.transport.written().startswith(PREFACE))
        origin.turn()
        self.assertEqual(origin.frames[0].kind, SETTINGS)
        self.assertIn(setting(2, 0), origin.frames[0].payload)

    def test_aRequestIsAStream(self) -> None:
        """The head becomes pseudo fields and fields, and says that there may be trailers, as gRPC wants it."""
        origin = Http2Origin()
        origin.ask(("accept", "*/*"), ("upgrade", "websocket"))
        self.assertEqual(
            origin.heads(1),
            [{":method": "GET", ":scheme": "http", ":authority": "a.example", ":path": "/", "te": "trailers"}
             | {"accept": "*/*"}],
        )  # fmt: skip
        self.assertTrue(origin.ended(1))

    def test_aBodyIsSent(self) -> None:
        """A body of a known length ends with its last frame."""
        origin = Http2Origin()
        request, _ = origin.ask(method="POST", length=3)
        request.write(memoryview(b"yes"))
        request.finish()
        origin.turn()
        self.assertEqual(origin.heads(1)[0]["content-length"], "3")
        self.assertEqual((origin.body(1), origin.ended(1)), (b"yes", True))

    def test_trailersAreSent(self) -> None:
        """Trailers of a request are sent."""
        origin = Http2Origin()
        request, _ = origin.ask(method="POST", length=None)
        request.write(b"yes")
        request.finish([("x-sum", "1")])
        origin.turn()
        self.assertEqual(origin.heads(1)[1], {"x-sum": "1"})
        self.assertTrue(origin.ended(1))

    def test_aRequestWaitsForTheWindow(self) -> None:
        """The visitor is paused while the origin takes no more."""
        origin = Http2Origin(setting(INITIAL_WINDOW_SIZE, 1000))
        request, exchange = origin.ask(method="POST", length=None)
        request.write(bytes(70_000))
        origin.turn()
        self.assertEqual((len(origin.body(1)), exchange.events), (1000, ["pauseRequest"]))
        origin.send(windowUpdate(1, 69_000), windowUpdate(0, 69_000))
        self.assertEqual((len(origin.body(1)), exchange.events), (70_000, ["pauseRequest", "resumeRequest"]))

    def test_manyRequestsShareAConnection(self) -> None:
        """Each request has its own stream, and its own response."""
        origin = Http2Origin()
        exchanges = [origin.ask()[1] for _ in range(3)]
        for stream, body in ((5, b"c"), (1, b"a"), (3, b"b")):
            origin.send(origin.headers(stream, OK), origin.data(stream, body, end=True))
        self.assertEqual([each.body for each in exchanges], [b"a", b"b", b"c"])

    def test_anAbortedRequestIsReset(self) -> None:
        """To give up resets the stream, and nothing more is told."""
        origin = Http2Origin()
        request, exchange = origin.ask()
        request.abort()
        origin.turn()
        self.assertEqual(origin.resetCode(1), ErrorCodes.CANCEL)
        origin.send(origin.headers(1, OK, end=True))
        self.assertEqual((exchange.heads, origin.isClosed), ([], False))

    def test_thereIsNoUpgrade(self) -> None:
        """To detach a request is a mistake of ours."""
        request, _ = Http2Origin().ask()
        self.assertRaises(LocalProtocolError, request.detach, None)


class ResponseTests(SynchronousTestCase):
    """What becomes of a response."""

    def test_aResponseComesAsItArrives(self) -> None:
        """Head, body and end are told as they come."""
        origin = Http2Origin()
        _, exchange = origin.ask()
        origin.send(origin.headers(1, [*OK, ("content-length", "4")]))
        self.assertEqual((exchange.heads[0].status, exchange.heads[0].reason, exchange.length), (200, "OK", 4))
        origin.send(origin.data(1, b"ab"))
        self.assertEqual((exchange.body, exchange.trailers), (b"ab", None))
        origin.send(origin.data(1, b"cd", end=True))
        self.assertEqual((exchange.body, exchange.trailers), (b"abcd", ()))

    def test_trailersCome(self) -> None:
        """Trailers come with the end: it is where gRPC's status is."""
        origin = Http2Origin()
        _, exchange = origin.ask()
        origin.send(origin.headers(1, OK), origin.data(1, b"a"), origin.headers(1, [("grpc-status", "0")], end=True))
        self.assertEqual((exchange.length, exchange.trailers), (None, [("grpc-status", "0")]))

    def test_aHeadAloneIsAResponse(self) -> None:
        """A response that ends with its head has no body, whatever the request was."""
        origin = Http2Origin()
        _, exchange = origin.ask()
        origin.send(origin.headers(1, OK, end=True))
        self.assertEqual((exchange.length, exchange.trailers), (0, ()))

    def test_theResponseToHeadHasNoBody(self) -> None:
        """Content-Length of a response to HEAD, or of a 304, is no length of a body."""
        origin = Http2Origin()
        _, exchange = origin.ask(method="HEAD")
        origin.send(origin.headers(1, [*OK, ("content-length", "7")], end=True))
        self.assertEqual((exchange.length, exchange.origin), (0, None))

    def test_informationalResponsesCome(self) -> None:
        """Responses of 1xx come before the real one; not very many of them."""
        origin = Http2Origin()
        _, exchange = origin.ask()
        origin.send(origin.headers(1, [(":status", "103")]), origin.headers(1, OK, end=True))
        self.assertEqual([each.status for each in exchange.heads], [103, 200])
        _, exchange = origin.ask()
        origin.send(*[origin.headers(3, [(":status", "103")]) for _ in range(33)])
        assert exchange.origin is not None
        self.assertEqual(exchange.origin.problem, OriginProblem.BAD_RESPONSE)

    def test_aPausedResponseGetsNoCredit(self) -> None:
        """While the visitor takes nothing the origin gets no credit for that stream, and the others go on."""
        origin = Http2Origin()
        request, exchange = origin.ask()
        _, other = origin.ask()
        request.pauseProducing()
        origin.send(origin.headers(1, OK), origin.headers(3, OK))
        for stream in (1, 3):
            origin.send(*[origin.data(stream, bytes(MAX_FRAME)) for _ in range(16)])
        self.assertEqual((len(exchange.body), len(other.body)), (0, 16 * MAX_FRAME))
        self.assertEqual(origin.credit(1), 0)
        self.assertGreater(origin.credit(3), 100_000)
        origin.send(origin.data(1, end=True))
        request.resumeProducing()
        origin.turn()
        self.assertEqual((len(exchange.body), exchange.trailers), (16 * MAX_FRAME, ()))

    def test_oneStarvesNobody(self) -> None:
        """As many as there may be take nothing of their responses, and the next one gets theirs."""
        origin = Http2Origin(begins=False, streams=9, streamWindow=128 * 1024)
        origin.send(frame(SETTINGS, 0, 0), frame(SETTINGS, ACK, 0))
        for stream in range(1, 17, 2):
            request, _ = origin.ask()
            request.pauseProducing()
            origin.send(origin.headers(stream, OK), *[origin.data(stream, bytes(MAX_FRAME)) for _ in range(8)])
        self.assertGreaterEqual(65_535 + origin.credit(0) - 8 * 128 * 1024, 128 * 1024)

    def test_anEarlyResponseEndsTheRequest(self) -> None:
        """A response that is complete before the request is makes the rest of it useless."""
        origin = Http2Origin()
        request, exchange = origin.ask(method="POST", length=None)
        origin.send(origin.headers(1, OK, end=True))
        self.assertEqual((exchange.trailers, origin.resetCode(1)), ((), ErrorCodes.CANCEL))
        request.write(b"more")
        request.finish()
        origin.turn()
        self.assertEqual(origin.body(1), b"")

    def test_theEndOfAnEarlyResponseIsNoLoss(self) -> None:
        """A reset behind a whole response takes nothing of it back, though it was not handed over yet."""
        origin = Http2Origin()
        request, exchange = origin.ask(method="POST", length=None)
        request.pauseProducing()
        origin.send(origin.headers(1, OK), origin.data(1, b"whole", end=True), rstStream(1, ErrorCodes.NO_ERROR))
        self.assertIsNone(exchange.origin)
        request.resumeProducing()
        self.assertEqual((exchange.body, exchange.trailers), (b"whole", ()))

    def test_malformedResponses(self) -> None:
        """A response that breaks the rules is none, and the connection goes on."""
        for fields in (
            [("content-type", "text/plain")],
            [(":status", "abc")],
            [(":status", "101")],
            [*OK, ("connection", "close")],
            [*OK, ("Upper", "case")],
            [*OK, ("a", "b\r\nc: d")],
            [*OK, ("content-length", "1"), ("content-length", "2")],
            [*OK, (":status", "200")],
        ):
            origin = Http2Origin()
            _, exchange = origin.ask()
            origin.send(origin.headers(1, fields))
            assert exchange.origin is not None, fields
            self.assertEqual(exchange.origin.problem, OriginProblem.BAD_RESPONSE)
            self.assertEqual((origin.resetCode(1), origin.isClosed), (ErrorCodes.PROTOCOL_ERROR, False))

    def test_bodiesOfAnotherLength(self) -> None:
        """A body that is longer or shorter than was told is a bad response."""
        for data, end in ((b"abc", False), (b"a", True)):
            origin = Http2Origin()
            _, exchange = origin.ask()
            origin.send(origin.headers(1, [*OK, ("content-length", "2")]), origin.data(1, data, end=end))
            assert exchange.origin is not None
            self.assertEqual(exchange.origin.problem, OriginProblem.BAD_RESPONSE)
            self.assertIsNone(exchange.trailers)


class LossTests(SynchronousTestCase):
    """What is told when there is no response, or no whole one."""

    def test_aRefusedStreamWasNotSeen(self) -> None:
        """REFUSED_STREAM says that the request may be sent again."""
        origin = Http2Origin()
        _, exchange = origin.ask()
        origin.send(rstStream(1, ErrorCodes.REFUSED_STREAM))
        assert exchange.origin is not None
        self.assertEqual((exchange.origin.problem, exchange.origin.isUnseen), (OriginProblem.UNANSWERED, True))

    def test_aResetStreamMayHaveBeenSeen(self) -> None:
        """Any other reset does not."""
        origin = Http2Origin()
        _, exchange = origin.ask()
        _, answered = origin.ask()
        origin.send(rstStream(1, ErrorCodes.INTERNAL_ERROR))
        origin.send(origin.headers(3, OK), rstStream(3, ErrorCodes.INTERNAL_ERROR))
        assert exchange.origin is not None and answered.origin is not None
        self.assertEqual((exchange.origin.problem, exchange.origin.isUnseen), (OriginProblem.UNANSWERED, False))
        self.assertEqual((answered.origin.problem, answered.origin.isUnseen), (OriginProblem.CUT_OFF, False))

    def test_manyResets(self) -> None:
        """An origin may refuse as many requests as it is sent: the others go on."""
        origin = Http2Origin()
        _, other = origin.ask()
        for stream in range(3, 1003, 2):
            origin.ask()
            origin.send(rstStream(stream, ErrorCodes.INTERNAL_ERROR))
        self.assertEqual((other.origin, origin.isClosed), (None, False))

    def test_whatIsOnItsWay(self) -> None:
        """What was on its way when a visitor gave up does not count against the origin, in however many frames."""
        origin = Http2Origin()
        _, other = origin.ask()
        request, _ = origin.ask()
        origin.send(origin.headers(3, OK))
        request.abort()
        origin.send(*[origin.data(3, b"event") for _ in range(5000)])
        self.assertEqual((other.origin, origin.isClosed), (None, False))
        self.assertEqual((origin.credit(0), len(origin.of(WINDOW_UPDATE, 0)) < 5), (25_000, True))

    def test_goAwayTellsWhatWasNotSeen(self) -> None:
        """Streams beyond the last one were not seen; those before it are finished, and then the connection ends."""
        origin = Http2Origin()
        _, seen = origin.ask()
        _, unseen = origin.ask()
        origin.send(goAway(1, ErrorCodes.NO_ERROR))
        assert unseen.origin is not None
        self.assertTrue(unseen.origin.isUnseen)
        self.assertEqual((seen.origin, origin.connection.canSend, origin.pool.events), (None, False, ["lost"]))
        origin.send(origin.headers(1, OK), origin.data(1, b"a", end=True))
        self.assertEqual((seen.body, origin.isClosed), (b"a", True))

    def test_aLostConnection(self) -> None:
        """All exchanges are told, with whether there had been another one before."""
        origin = Http2Origin()
        _, first = origin.ask()
        _, second = origin.ask()
        origin.send(origin.headers(3, OK))
        origin.transport.deliverReset()
        assert first.origin is not None and second.origin is not None
        self.assertEqual((first.origin.problem, first.origin.isReused), (OriginProblem.UNANSWERED, False))
        self.assertEqual((second.origin.problem, second.origin.isReused), (OriginProblem.CUT_OFF, True))
        self.assertEqual(origin.pool.events, ["lost"])

    def test_aLostConnectionDoesNotTakeBackWhatCame(self) -> None:
        """A response that is there is handed over, though nobody wanted it before the connection was lost."""
        origin = Http2Origin()
        request, exchange = origin.ask()
        request.pauseProducing()
        origin.send(origin.headers(1, OK), origin.data(1, b"whole", end=True))
        origin.transport.deliverReset()
        request.resumeProducing()
        self.assertEqual((exchange.body, exchange.trailers, exchange.origin), (b"whole", (), None))

    def test_aLostConnectionDoesNotTakeBackWhatWasRead(self) -> None:
        """Nor what was not looked at yet, because others had their turn."""
        origin = Http2Origin()
        _, exchange = origin.ask()
        frames = [origin.data(1, b"a") for _ in range(300)]
        origin.transport.deliver(b"".join([origin.headers(1, OK), *frames, origin.data(1, end=True)]))
        self.assertLess(len(exchange.body), 300)
        origin.transport.deliverReset()
        origin.turn()
        self.assertEqual((len(exchange.body), exchange.trailers, exchange.origin), (300, (), None))

    def test_pushesEndTheConnection(self) -> None:
        """An origin that pushes, or opens streams of its own, breaks the rules for all."""
        for wrong in (
            lambda origin: frame(PUSH_PROMISE, END_HEADERS, 1, bytes([0, 0, 0, 2])),
            lambda origin: origin.headers(2, OK),
            lambda origin: origin.headers(3, OK),
            lambda origin: frame(DATA, 0, 1, b"before the head"),
            lambda origin: frame(SETTINGS, 0, 0, setting(2, 1)),
        ):
            origin = Http2Origin()
            _, exchange = origin.ask()
            origin.send(wrong(origin))
            assert exchange.origin is not None
            self.assertEqual(exchange.origin.problem, OriginProblem.BAD_RESPONSE)
            self.assertEqual((origin.goAwayCode(), origin.isClosed), (ErrorCodes.PROTOCOL_ERROR, True))

    def test_anOriginOfAnotherProtocol(self) -> None:
        """An origin that answers in HTTP/1 has no response for us."""
        origin = Http2Origin(begins=False)
        _, exchange = origin.ask()
        origin.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        assert exchange.origin is not None
        self.assertEqual(exchange.origin.problem, OriginProblem.BAD_RESPONSE)


class ConnectionTests(SynchronousTestCase):
    """The life of a connection."""

    def test_theOriginSaysHowManyStreams(self) -> None:
        """No more streams are opened than the origin takes, and as soon as it does, they are."""
        origin = Http2Origin(setting(MAX_CONCURRENT_STREAMS, 1))
        self.assertTrue(origin.connection.canSend)
        origin.ask()
        self.assertFalse(origin.connection.canSend)
        origin.send(origin.headers(1, OK, end=True))
        self.assertTrue(origin.connection.canSend)

    def test_requestsMayComeBeforeTheSettings(self) -> None:
        """A request does not wait for the origin's settings; a hundred of them may not."""
        origin = Http2Origin(begins=False)
        for _ in range(100):
            self.assertTrue(origin.connection.canSend)
            origin.ask()
        self.assertFalse(origin.connection.canSend)

    def test_aRequestTooMany(self) -> None:
        """A request that cannot be sent any more is lost, in a moment, and was not seen."""
        origin = Http2Origin(setting(MAX_CONCURRENT_STREAMS, 0))
        exchange = Recorder()
        request, exchange = origin.ask()
        request.write(b"nothing")
        request.finish()
        assert exchange.origin is not None
        self.assertTrue(exchange.origin.isUnseen)
        self.assertEqual(origin.of(HEADERS), [])

    def test_thePoolIsToldWhenItIsIdle(self) -> None:
        """The owner hears when no exchange is left, and that it is worth more then."""
        origin = Http2Origin()
        self.assertFalse(origin.connection.isReused)
        origin.ask()
        origin.ask()
        origin.send(origin.headers(1, OK, end=True))
        self.assertEqual(origin.pool.events, [])
        origin.send(origin.headers(3, OK, end=True))
        self.assertEqual(origin.pool.events, ["idle"])
        self.assertTrue(origin.connection.isReused)

    def test_closeLetsExchangesFinish(self) -> None:
        """To close an idle connection says goodbye; one with exchanges goes on until they are over."""
        origin = Http2Origin()
        origin.ask()
        origin.connection.close()
        origin.turn()
        self.assertEqual((origin.isClosed, origin.connection.canSend), (False, False))
        origin.send(origin.headers(1, OK, end=True))
        self.assertTrue(origin.isClosed)
        self.assertEqual(len(origin.of(GOAWAY)), 1)

    def test_aSilentOriginIsAsked(self) -> None:
        """An origin that owes a response and is silent is asked for a sign of life, and lost without one."""
        origin = Http2Origin()
        _, exchange = origin.ask()
        origin.elapse(62)
        self.assertEqual(len(origin.of(PING)), 1)
        origin.elapse(22)
        self.assertIsNotNone(exchange.origin)

    def test_anOriginThatLivesIsNotAskedOften(self) -> None:
        """An origin that answers may be silent for as long as it likes, and is asked every few minutes."""
        origin = Http2Origin()
        _, exchange = origin.ask()
        origin.elapse(62)
        origin.send(frame(PING, ACK, 0, origin.of(PING)[0].payload))
        origin.elapse(290)
        self.assertEqual(len(origin.of(PING)), 1)
        origin.elapse(12)
        self.assertEqual((len(origin.of(PING)), exchange.origin), (2, None))

    def test_anIdleConnectionIsNotAsked(self) -> None:
        """Nothing is asked of an origin that owes nothing."""
        origin = Http2Origin()
        origin.elapse(500)
        self.assertEqual(origin.frames, [])
