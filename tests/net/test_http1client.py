"""
Tests for L{gateway.net.http1client}.
"""

from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.direct import Buffer
from gateway.net.httpinterfaces import IVisitorRequest, OriginLost, OriginProblem
from gateway.net.httpsettings import HttpSettings
from gateway.wire.errors import LocalProtocolError
from gateway.wire.http1 import RequestHead
from tests.net.httpends import Exchange, Origin, Taker, Visitor

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class RequestTests(SynchronousTestCase):
    """A request is written as it comes."""

    def test_withoutABody(self) -> None:
        """A request without a body is its head, sent at once."""
        origin = Origin()
        origin.request()
        self.assertEqual(origin.transport.written(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    def test_knownLength(self) -> None:
        """The head goes out with the first piece of the body."""
        origin = Origin()
        request = origin.request("PUT", 4)
        request.write(b"abcd")
        head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
        self.assertEqual(origin.transport.written(), head + b"abcd")
        origin = Origin()
        origin.request("PUT", 4, [("host", "a"), ("content-length", "4")])
        self.assertEqual(origin.taken(), head)

    def test_emptyBody(self) -> None:
        """Of a method that usually has a body it is said that there is none."""
        for method in ("POST", "PUT", "PATCH"):
            origin = Origin()
            origin.request(method)
            self.assertIn(b"\r\nContent-Length: 0\r\n", origin.taken())

    def test_chunks(self) -> None:
        """A body of unknown length goes in chunks, with its trailers, whatever length was claimed."""
        origin = Origin()
        request = origin.request("POST", None, [("host", "a"), ("content-length", "9")])
        request.write(b"abc")
        request.finish([("x-sum", "1")])
        self.assertEqual(
            origin.taken(),
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        )

    def test_oneAtATime(self) -> None:
        """There is one request at a time."""
        origin = Origin()
        origin.request()
        self.assertRaises(LocalProtocolError, origin.request)

    def test_falseLength(self) -> None:
        """A body that is not as long as was said is a defect."""
        origin = Origin()
        self.assertRaises(LocalProtocolError, origin.request("PUT", 1).write, b"abc")
        origin = Origin()
        self.assertRaises(LocalProtocolError, origin.request("PUT", 1).finish)

    def test_pace(self) -> None:
        """The exchange is told when the origin takes no more for now, and when it does again."""
        origin = Origin(capacity=1000)
        request = origin.request("POST", None)
        request.write(b"x" * 5000)
        request.write(b"x" * 5000)
        self.assertEqual(origin.exchange.names(), ["pauseRequest"])
        origin.taken()
        self.assertEqual(origin.exchange.names(), ["pauseRequest", "resumeRequest"])


class ResponseTests(SynchronousTestCase):
    """A response is handed over as it comes."""

    def got(self, data: bytes, method: str = "GET", *, isEnd: bool = False) -> Origin:
        """@return: an origin that was asked, and answered so."""
        origin = Origin()
        origin.get(method)
        origin.send(data)
        if isEnd:
            origin.transport.deliverEOF()
        return origin

    def test_knownLength(self) -> None:
        """Its head comes without what was for the connection alone, with the length of the body that follows."""
        origin = self.got(b"HTTP/1.1 200 Fine\r\nConnection: X-Mine\r\nX-Mine: 1\r\nContent-Length: 2\r\n\r\nhi")
        head, length = origin.exchange.of("response")
        self.assertEqual((head.status, head.reason, length), (200, "Fine", 2))
        self.assertEqual(list(head.headers), [("content-length", "2")])
        self.assertEqual(origin.exchange.events[1:], [("responseBody", b"hi"), ("responseEnd", [])])
        self.assertEqual((origin.told, origin.connection.isReused), (["idle"], True))

    def test_byteByByte(self) -> None:
        """It does not matter in which pieces it comes."""
        origin = Origin()
        origin.get()
        for each in CHUNKED + b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n":
            origin.send(bytes([each]))
        self.assertIsNone(origin.exchange.of("response")[1])
        self.assertEqual(origin.exchange.events[1:], [("responseBody", b"hi"), ("responseEnd", [("x-sum", "1")])])
        self.assertEqual(origin.told, ["idle"])

    def test_untilClose(self) -> None:
        """A body without a length ends with the connection."""
        origin = self.got(b"HTTP/1.0 200 OK\r\n\r\nhi")
        self.assertEqual(origin.exchange.names(), ["response", "responseBody"])
        self.assertIsNone(origin.exchange.of("response")[1])
        origin.transport.deliverEOF()
        self.assertEqual(origin.exchange.names(), ["response", "responseBody", "responseEnd"])
        self.assertEqual(origin.told, ["lost"])
        origin.taken()
        self.assertTrue(origin.transport.disconnected)

    def test_withoutABody(self) -> None:
        """Responses to HEAD, and 204 and 304, have none, whatever length they name."""
        for method, data in (
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
            ("HEAD", CHUNKED),
            ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
            ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
            ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ):
            origin = self.got(data, method)
            self.assertEqual(origin.exchange.of("response")[1], 0)
            self.assertEqual(origin.exchange.names(), ["response", "responseEnd"])
            self.assertEqual(origin.told, ["idle"])

    def test_informational(self) -> None:
        """There may be responses before the real one."""
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        origin = self.got(b"HTTP/1.1 100 Continue\r\n\r\n" + hints)
        origin.send(OK)
        statuses = [head.status for name, head in origin.exchange.events if name == "informational"]
        self.assertEqual(statuses, [100, 103])
        self.assertEqual(origin.exchange.names()[2:], ["response", "responseBody", "responseEnd"])

    def test_informationalWithoutEnd(self) -> None:
        """But not any number of them."""
        origin = self.got(b"HTTP/1.1 100 Continue\r\n\r\n" * 33)
        self.assertEqual(origin.exchange.of("originLost").problem, OriginProblem.BAD_RESPONSE)

    def test_pause(self) -> None:
        """A paused exchange gets nothing, and reading stops; then all comes."""
        origin = Origin()
        request = origin.get()
        origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na")
        request.pauseProducing()
        origin.send(b"bcd")
        self.assertTrue(origin.transport.readingPaused)
        self.assertEqual(origin.exchange.of("responseBody"), b"a")
        request.resumeProducing()
        origin.transport.pump()
        self.assertEqual(origin.exchange.of("responseBody"), b"abcd")
        self.assertEqual(origin.told, ["idle"])

    def test_pausedAtTheEnd(self) -> None:
        """A connection whose exchange ended while it was paused is read again by the next."""
        origin = Origin()
        request = origin.request()
        origin.exchange.then = lambda name: request.pauseProducing() if name == "responseBody" else None
        request.finish()
        origin.taken()
        origin.send(OK)
        self.assertEqual(origin.exchange.names()[-1], "responseEnd")
        self.assertFalse(origin.transport.readingPaused)
        origin.get()
        origin.send(OK)
        self.assertEqual(origin.exchange.names()[-1], "responseEnd")

    def test_pausedWithTLS(self) -> None:
        """What a TLS transport had decrypted when it was paused waits, even when the connection is lost meanwhile."""
        for isClean in (True, False):
            origin = Origin(isTLS=True)
            origin.transport.incoming.chunkSize = 40
            request = origin.get()
            origin.exchange.then = lambda name, request=request: request.pauseProducing()  # type: ignore[misc]
            origin.send(b"HTTP/1.1 200 OK\r\nServer: nothing\r\n\r\n" + b"x" * 100)
            before = len(dict(origin.exchange.events).get("responseBody", b""))
            self.assertLess(before, 100)
            if isClean:
                origin.connection.readConnectionLost()
            origin.transport.deliverReset()
            origin.transport.resumeProducing()
            origin.transport.pump()
            self.assertNotIn("originLost", origin.exchange.names())
            origin.exchange.then = lambda name: None
            request.resumeProducing()
            self.assertEqual(len(origin.exchange.of("responseBody")), 100)
            self.assertEqual(origin.exchange.names()[-1], "responseEnd" if isClean else "originLost")

    def test_readsInPlace(self) -> None:
        """What a transport hands over in a buffer of its own goes on as a view of it."""
        origin = Origin()
        views: list[Buffer] = []

        class Keeping(Exchange):
            def gotResponseBody(self, data: Buffer) -> None:
                views.append(data)

        request = origin.connection.send(RequestHead("GET", "/", "1.1", []), 0, Keeping())
        request.finish()
        data = bytearray(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        origin.connection.dataReceived(memoryview(data))
        body = bytearray(b"abcd")
        origin.connection.dataReceived(memoryview(body))
        self.assertIs(views[0].obj, body)  # type: ignore[union-attr]


class ReuseTests(SynchronousTestCase):
    """Whether a connection can carry another request."""

    def test_reused(self) -> None:
        """It carries one after the other, and says whether it was the first."""
        origin = Origin()
        self.assertFalse(origin.connection.isReused)
        for _ in range(3):
            origin.get()
            origin.send(OK)
            self.assertTrue(origin.connection.isReused)
            self.assertEqual(origin.exchange.names(), ["response", "responseBody", "responseEnd"])
        self.assertEqual(origin.told, ["idle"] * 3)

    def test_idleBeforeTheEndIsTold(self) -> None:
        """Who is told of the end of a response finds the connection idle already."""
        origin = Origin()
        request = origin.request()
        exchange = origin.exchange
        exchange.then = lambda name: origin.request() if name == "responseEnd" else None
        request.finish()
        origin.taken()
        origin.send(OK)
        self.assertEqual(origin.taken(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        request.abort()
        request.pauseProducing()
        request.resumeProducing()
        request.detach(Taker())
        self.assertFalse(origin.transport.aborted)
        origin.send(OK)
        self.assertEqual(origin.exchange.names(), ["response", "responseBody", "responseEnd"])

    def test_notReused(self) -> None:
        """It carries no other when the origin says so, or keeps to HTTP/1.0, or more came than was due."""
        for data in (
            OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
            OK.replace(b"1.1", b"1.0"),
            OK + b"x",
            OK + OK,
        ):
            origin = Origin()
            origin.get()
            origin.send(data)
            self.assertEqual(origin.exchange.names(), ["response", "responseBody", "responseEnd"])
            self.assertEqual(origin.told, ["lost"], data)
            origin.taken()
            self.assertTrue(origin.transport.disconnected)
            self.assertEqual(origin.clock.getDelayedCalls()[1:], [])

    def test_unclearBody(self) -> None:
        """Nor when the request had a body that an origin may overlook, and take for a request."""
        for method, length, isKept in (
            ("GET", 3, False),
            ("DELETE", None, False),
            ("OPTIONS", 3, False),
            ("POST", 3, True),
            ("PUT", None, True),
            ("DELETE", 0, True),
        ):
            origin = Origin()
            request = origin.request(method, length)
            if length != 0:
                request.write(b"abc")
            request.finish()
            origin.taken()
            origin.send(OK)
            self.assertEqual(origin.exchange.names()[-1], "responseEnd")
            self.assertEqual(origin.told, ["idle" if isKept else "lost"], method)

    def test_lostWhilePaused(self) -> None:
        """Nor when it was lost while the exchange was paused, before what had come by then."""
        for isClean in (True, False):
            origin = Origin()
            request = origin.get()
            origin.exchange.then = lambda name, request=request: request.pauseProducing()  # type: ignore[misc]
            origin.send(OK)
            self.assertEqual(origin.exchange.names(), ["response"])
            if isClean:
                origin.connection.readConnectionLost()
            else:
                origin.connection.connectionLost(Failure(ConnectionLost()))
            origin.exchange.then = lambda name: None
            request.resumeProducing()
            self.assertEqual(origin.exchange.names(), ["response", "responseBody", "responseEnd"])
            self.assertEqual(origin.told, ["lost"])

    def test_oldButKept(self) -> None:
        """An origin of HTTP/1.0 may keep the connection."""
        origin = Origin()
        origin.get()
        origin.send(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(origin.told, ["idle"])

    def test_keptFor(self) -> None:
        """How long the origin keeps it is known, with a second less for the way."""
        for value, seconds in (("timeout=5, max=100", 4.0), ("Timeout = 0", 0.0), ("max=3", None), ("timeout=x", None)):
            origin = Origin()
            origin.get()
            origin.send(OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: %b\r\n\r\n" % value.encode()))
            self.assertEqual(origin.connection.keptFor, seconds)

    def test_earlyResponse(self) -> None:
        """A response may come before the request is complete; then the connection is given up with the request."""
        origin = Origin()
        request = origin.request("POST", 10)
        request.write(b"abc")
        origin.taken()
        origin.send(OK)
        self.assertEqual(origin.exchange.names(), ["response", "responseBody", "responseEnd"])
        self.assertEqual((origin.told, origin.transport.aborted), (["lost"], True))
        request.write(b"d")
        request.finish()

    def test_earlyResponseThatLasts(self) -> None:
        """While it lasts the request may go on, and when it is complete by then all is well."""
        origin = Origin()
        request = origin.request("POST", 6)
        request.write(b"abc")
        origin.taken()
        origin.send(OK[:-1])
        request.write(b"def")
        request.finish()
        self.assertEqual(origin.taken(), b"def")
        origin.send(OK[-1:])
        self.assertEqual(origin.told, ["idle"])

    def test_unsentRequest(self) -> None:
        """A connection whose origin answered and does not take the request is not used again."""
        origin = Origin(capacity=1000)
        request = origin.request("POST", 5000)
        request.write(b"x" * 5000)
        request.finish()
        origin.send(OK)
        self.assertEqual((origin.told, origin.transport.aborted), (["lost"], True))

    def test_unasked(self) -> None:
        """What an origin sends without being asked is taken for no response, then or later."""
        origin = Origin()
        origin.send(OK)
        self.assertEqual((origin.told, origin.transport.aborted), (["lost"], True))
        self.assertRaises(LocalProtocolError, origin.request)

    def test_leavesWhileIdle(self) -> None:
        """An origin that hangs up, or breaks off, while it is idle, is lost, once."""
        for end in ("deliverEOF", "deliverReset"):
            origin = Origin()
            origin.get()
            origin.send(OK)
            getattr(origin.transport, end)()
            origin.taken()
            self.assertEqual(origin.told, ["idle", "lost"])
            self.assertTrue(origin.transport.disconnected)
            origin.clock.advance(1.0)
            self.assertEqual(origin.clock.getDelayedCalls(), [])

    def test_close(self) -> None:
        """An idle connection can be closed, and an origin that does not answer that is cut off."""
        for isTLS in (False, True):
            origin = Origin(isTLS=isTLS)
            origin.get()
            origin.send(OK)
            origin.connection.close()
            origin.connection.close()
            self.assertEqual(origin.told, ["idle", "lost"])
            origin.taken()
            origin.clock.pump([1.0] * 5)
            origin.transport.pump()
            self.assertTrue(origin.transport.disconnected)
            self.assertEqual(origin.transport.aborted, isTLS)
            self.assertEqual(origin.clock.getDelayedCalls(), [])


class LossTests(SynchronousTestCase):
    """An exchange is told what became of the origin."""

    def lost(self, data: bytes, end: str = "deliverEOF", method: str = "GET", *, isReused: bool = False) -> OriginLost:
        """@return: what it is told when the origin sends this, and ends so."""
        origin = Origin(settings=HttpSettings(originHeadLimit=1000, originHeadFields=10))
        if isReused:
            origin.get()
            origin.send(OK)
            origin.told.clear()
        origin.get(method)
        origin.send(data)
        if end:
            getattr(origin.transport, end)()
        else:
            self.assertTrue(origin.transport.aborted)
        self.assertEqual(origin.exchange.names()[-1], "originLost")
        self.assertEqual(origin.told, ["lost"])
        origin.taken()
        self.assertTrue(origin.transport.disconnected)
        self.assertEqual(origin.told, ["lost"])
        lost = origin.exchange.of("originLost")
        assert isinstance(lost, OriginLost)
        return lost

    def test_unanswered(self) -> None:
        """Without a byte of the response it is unanswered, and it is said whether it was the first request."""
        for end in ("deliverEOF", "deliverReset"):
            for isReused in (True, False):
                lost = self.lost(b"", end, isReused=isReused)
                self.assertEqual((lost.problem, lost.isReused), (OriginProblem.UNANSWERED, isReused))
                self.assertFalse(lost.isUnseen)

    def test_cutOff(self) -> None:
        """With one it was cut off."""
        for data in (b"H", OK[:-3], OK[:-1], CHUNKED, CHUNKED + b"2\r\nhi\r\n0\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"):
            self.assertEqual(self.lost(data).problem, OriginProblem.CUT_OFF, data)
        self.assertEqual(self.lost(b"HTTP/1.0 200 OK\r\n\r\nhi", "deliverReset").problem, OriginProblem.CUT_OFF)

    def test_badResponse(self) -> None:
        """What is no response of HTTP's is bad."""
        for data in (
            b"220 smtp.example ESMTP\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000,
            b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 11 + b"\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            CHUNKED + b"nonsense\r\n",
        ):
            lost = self.lost(data, "")
            self.assertEqual(lost.problem, OriginProblem.BAD_RESPONSE, data)

    def test_abort(self) -> None:
        """A request that is given up cuts the connection off, and nobody is told anything any more."""
        for data in (b"", OK[:-5], OK[:-1]):
            origin = Origin()
            request = origin.get()
            origin.send(data)
            names = origin.exchange.names()
            request.abort()
            request.abort()
            request.write(b"x")
            request.finish()
            origin.send(OK)
            origin.taken()
            self.assertEqual(origin.exchange.names(), names)
            self.assertEqual((origin.told, origin.transport.aborted), (["lost"], True))

    def test_abortFromInside(self) -> None:
        """It may be given up from inside of whatever it is told."""
        data = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        for event in ("informational", "response", "responseBody"):
            origin = Origin()
            request = origin.request()
            origin.exchange.then = lambda name, event=event, request=request: (  # type: ignore[misc]
                request.abort() if name == event else None
            )
            request.finish()
            origin.send(data)
            self.assertEqual(origin.exchange.names()[-1], event)
            self.assertEqual((origin.told, origin.transport.aborted), (["lost"], True))

    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    @given(st.sampled_from([b"", CHUNKED, b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]), st.binary(max_size=200))
    def test_anyBytes(self, before: bytes, data: bytes) -> None:
        """Whatever comes, an exchange has an end, and one only."""
        origin = Origin()
        origin.get()
        origin.send(before + data)
        origin.transport.deliverEOF()
        ends = [name for name in origin.exchange.names() if name in ("responseEnd", "originLost")]
        self.assertEqual(len(ends), 1)
        self.assertEqual(origin.exchange.names()[-1], ends[0])


class UpgradeTests(SynchronousTestCase):
    """A connection may become a relay's."""

    SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

    def asked(self) -> tuple[Origin, Any]:
        """@return: an origin that was asked to, and the request."""
        origin = Origin()
        request = origin.request(fields=[("host", "a"), ("upgrade", "websocket")])
        request.finish()
        return origin, request

    def test_upgrade(self) -> None:
        """After a 101 the connection is another's, with all that came and comes behind it, and its end."""
        origin, request = self.asked()
        self.assertEqual(
            origin.taken(), b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        )
        taker = Taker()
        origin.exchange.then = lambda name: request.detach(taker)
        origin.send(self.SWITCH + b"early")
        head = origin.exchange.of("upgrade")
        self.assertEqual((head.status, list(head.headers)), (101, [("upgrade", "websocket")]))
        self.assertIsNone(origin.transport.producer)
        self.assertEqual(origin.told, ["lost"])
        origin.send(b" and late")
        origin.transport.deliverEOF()
        origin.transport.loseWriteConnection()
        origin.transport.pump()
        origin.transport.deliverReset()
        origin.transport.resumeProducing()
        origin.transport.pump()
        self.assertEqual(taker.received, b"early and late")
        self.assertEqual(taker.events[:3], ["made", "read ended", "write ended"])
        self.assertEqual((taker.events[-1], origin.told), ("lost", ["lost"]))

    def test_nobodyTakesIt(self) -> None:
        """When nobody takes it over it is cut off."""
        origin, _ = self.asked()
        origin.send(self.SWITCH)
        self.assertEqual((origin.told, origin.transport.aborted), (["lost"], True))

    def test_lostMeanwhile(self) -> None:
        """Nor can anybody when it was lost before that was looked at."""
        origin, request = self.asked()
        origin.exchange.then = lambda name: request.pauseProducing()
        origin.send(b"HTTP/1.1 103 Early\r\n\r\n" + self.SWITCH)
        self.assertEqual(origin.exchange.names(), ["informational"])
        origin.connection.connectionLost(Failure(ConnectionLost()))
        request.resumeProducing()
        self.assertEqual(origin.exchange.names(), ["informational", "originLost"])

    def test_declined(self) -> None:
        """An origin may answer otherwise, and the connection go on."""
        origin, _ = self.asked()
        origin.send(OK)
        self.assertEqual(origin.told, ["idle"])

    def test_notYet(self) -> None:
        """Before that it is not to be had."""
        _, request = self.asked()
        self.assertRaises(LocalProtocolError, request.detach, Taker())


class Joined(Exchange):
    """Takes a visitor's request to an origin, as a gateway does."""

    def __init__(self, origin: Origin, request: IVisitorRequest) -> None:
        super().__init__()
        self.request = request
        self.out = origin.connection.send(request.head, request.length, self)
        request.accept(self)

    def gotRequestBody(self, data: Buffer) -> None:
        self.out.write(data)

    def gotRequestEnd(self, trailers: Any) -> None:
        self.out.finish(trailers)

    def pauseResponse(self) -> None:
        self.out.pauseProducing()

    def resumeResponse(self) -> None:
        self.out.resumeProducing()

    def gotResponse(self, head: Any, length: int | None) -> None:
        self.request.respond(head, length)

    def gotResponseBody(self, data: Buffer) -> None:
        self.request.write(data)

    def gotResponseEnd(self, trailers: Any) -> None:
        self.request.finish(trailers)

    def pauseRequest(self) -> None:
        self.request.pauseProducing()

    def resumeRequest(self) -> None:
        self.request.resumeProducing()


class BothEndsTests(SynchronousTestCase):
    """The two ends, joined as a gateway joins them."""

    @settings(deadline=None, max_examples=60, database=None, derandomize=True)
    @given(
        st.lists(st.integers(1, 60), max_size=20),
        st.lists(st.integers(1, 60), max_size=20),
        st.integers(1, 200),
        st.booleans(),
    )
    def test_anySplit(self, up: list[int], down: list[int], capacity: int, isTLS: bool) -> None:
        """However both directions are cut, and whoever stalls, each visitor's request gets its own response, whole."""
        origin = Origin(capacity=capacity, isTLS=isTLS)
        origin.transport.incoming.chunkSize = capacity

        visitor = Visitor(partial(Joined, origin), capacity=capacity, isTLS=isTLS)
        visitor.transport.incoming.chunkSize = capacity
        requests = [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n" + b"x" * 300,
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\nX-A: b\r\n\r\n",
        ]
        responses = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"y" * 500,
            CHUNKED.replace(b"Transfer", b"X-B: 1\r\nTransfer") + b"3\r\nabc\r\n0\r\nX-C: d\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
        ]

        def send(transport: Any, data: bytes, sizes: list[int]) -> None:
            for size in sizes:
                transport.deliver(data[:size])
                data = data[size:]
            transport.deliver(data)

        send(visitor.transport, b"".join(requests), up)
        taken = said = b""
        for response in responses:
            for _ in range(20):
                said += origin.taken()
            send(origin.transport, response, down)
            for _ in range(20):
                taken += visitor.taken()
        self.assertEqual(origin.told, ["idle"] * 3)
        self.assertEqual(taken.count(b"y"), 500)
        self.assertEqual(taken.count(b"HTTP/1.1 "), 3)
        self.assertTrue(taken.endswith(b"HTTP/1.1 204 No Content\r\n\r\n"))
        self.assertIn(b"\r\n0\r\nX-C: d\r\n\r\n", taken)
        self.assertEqual(said.count(b"x"), 300)
        self.assertTrue(said.endswith(b"\r\n0\r\nX-A: b\r\n\r\n"))

    def test_stalledVisitor(self) -> None:
        """What is held for a visitor who takes nothing is little, however much comes; and then all of it arrives."""
        origin = Origin()
        visitor = Visitor(partial(Joined, origin))
        visitor.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
        self.assertTrue(origin.transport.readingPaused)
        self.assertGreater(origin.transport.incoming.bufferedBytes, 2_700_000)
        received = 0
        for _ in range(100):
            received += visitor.taken().count(b"x")
            origin.transport.pump()
        self.assertEqual(received, 3_000_000)
        self.assertLess(visitor.transport.outgoing.highWater, 200_000)
        self.assertEqual(origin.told, ["idle"])

    def test_stalledOrigin(self) -> None:
        """The same of an origin that takes nothing of a request."""
        origin = Origin()
        visitor = Visitor(partial(Joined, origin))
        visitor.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
        self.assertTrue(visitor.transport.readingPaused)
        self.assertGreater(visitor.transport.incoming.bufferedBytes, 2_700_000)
        received = 0
        for _ in range(100):
            received += origin.taken().count(b"x")
            visitor.transport.pump()
        self.assertEqual(received, 3_000_000)
        self.assertLess(origin.transport.outgoing.highWater, 200_000)
