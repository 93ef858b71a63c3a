"""
Tests for L{gateway.net.http1server}, L{gateway.net.http1request}, L{gateway.net.http1writer} and
L{gateway.net.lingering}.
"""

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.httpinterfaces import IVisitorRequest
from gateway.net.httpsettings import HttpSettings
from gateway.net.peek import Peek
from gateway.wire.errors import LocalProtocolError
from gateway.wire.http1 import ResponseHead
from tests.net.httpends import OK, Exchange, Taker, Visitor, answer

GET = b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def post(body: bytes = b"", length: int | None = None, *fields: str) -> bytes:
    """A request with a body of a known length."""
    lines = ["POST /p HTTP/1.1", "Host: a", f"Content-Length: {len(body) if length is None else length}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    """A request with a body in chunks."""
    head = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n" + trailers + b"\r\n"


class HeadTests(SynchronousTestCase):
    """A request is handed over when its head is complete and proper."""

    def test_handsOverARequest(self) -> None:
        """The owner is given the head, without what is for the connection alone, and the length of the body."""
        visitor = Visitor()
        visitor.send(
            b"GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nX-Other: 2\r\n\r\n"
        )
        (request,) = visitor.requests
        self.assertEqual((request.head.method, request.head.target, request.head.version), ("GET", "/a?b", "1.1"))
        self.assertEqual(list(request.head.headers), [("host", "a"), ("x-other", "2")])
        self.assertEqual((request.length, request.canUpgrade), (0, False))

    def test_byteByByte(self) -> None:
        """It does not matter in which pieces a head comes."""
        visitor = Visitor(answer)
        visitor.sendEach(GET + GET)
        self.assertEqual(visitor.taken(), ANSWER * 2)

    def test_nothingOfTheBodyBefore(self) -> None:
        """Nothing of the body is handed over before the request is accepted, and all that came by then at once."""
        visitor, exchange = Visitor(), Exchange()
        visitor.send(post(b"abc", 5))
        self.assertEqual(visitor.requests[0].length, 5)
        visitor.requests[0].accept(exchange)
        self.assertEqual(exchange.events, [("requestBody", b"abc")])
        visitor.send(b"de")
        self.assertEqual(exchange.events, [("requestBody", b"abcde"), ("requestEnd", [])])

    def test_requestWithoutABody(self) -> None:
        """The end is told for a request without a body as well."""
        visitor, exchange = Visitor(), Exchange()
        visitor.send(GET)
        visitor.requests[0].accept(exchange)
        self.assertEqual(exchange.events, [("requestEnd", [])])

    def test_chunks(self) -> None:
        """A body in chunks has no length, and may have trailers."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.sendEach(chunked(b"abc", b"de", trailers=b"X-Sum: 1\r\n"))
        self.assertIsNone(visitor.requests[0].length)
        self.assertEqual(exchange.events, [("requestBody", b"abcde"), ("requestEnd", [("x-sum", "1")])])

    def refusal(self, data: bytes, **options: Any) -> tuple[int, bytes]:
        """@return: the status of the refusal of this, and what the visitor gets."""
        visitor = Visitor(lambda request: self.fail("handed over"), settings=HttpSettings(**options))
        visitor.send(data)
        ((status, _),) = visitor.refusals
        taken = visitor.taken()
        self.assertTrue(visitor.transport.outgoing.eof, "not closed")
        visitor.transport.deliverEOF()
        self.assertEqual(visitor.ended, 1)
        self.assertEqual(visitor.sweep._watched, {})
        return status, taken

    def test_refusals(self) -> None:
        """What is no proper request is answered by the owner's word, and the connection closed."""
        for expected, data in (
            (400, b"\x16\x03\x01\x00"),
            (400, b"GET / HTTP/1.1\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
            (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            (501, b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
            (405, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
            (505, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        ):
            status, taken = self.refusal(data)
            self.assertEqual(status, expected, data)
            self.assertIn(b"\r\nConnection: close\r\n", taken)
            self.assertTrue(taken.endswith(b"\r\n\r\nno"), taken)

    def test_http2Preface(self) -> None:
        """Who speaks HTTP/2 without having agreed on it is told that this version is not spoken."""
        self.assertEqual(self.refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")[0], 505)

    def test_limits(self) -> None:
        """A head is limited in bytes and in lines, complete or not."""
        long = b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
        self.assertEqual(self.refusal(long, headLimit=100)[0], 414)
        self.assertEqual(self.refusal(GET[:-2] + b"X: " + b"a" * 200, headLimit=100)[0], 431)
        self.assertEqual(self.refusal(GET[:-2] + b"X: 1\r\n" * 5 + b"\r\n", headFields=5)[0], 431)

    def test_refusedHead(self) -> None:
        """The owner is told of the head where there is one, and a HEAD is answered without a body."""
        visitor = Visitor()
        visitor.send(b"HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert visitor.refusedHead is not None
        self.assertEqual(visitor.refusedHead.method, "HEAD")
        self.assertTrue(visitor.taken().endswith(b"\r\n\r\n"))

    def test_nothingAfterARefusal(self) -> None:
        """What comes behind what was refused is not looked at."""
        visitor = Visitor()
        visitor.send(b"GET / HTTP/1.1\r\n\r\n" + GET)
        visitor.send(GET)
        self.assertEqual((visitor.requests, len(visitor.refusals)), ([], 1))


class ResponseTests(SynchronousTestCase):
    """A response is framed as its length and the visitor call for."""

    def said(self, request: bytes, head: ResponseHead, length: int | None, *pieces: bytes, trailers: Any = ()) -> bytes:
        """@return: what the visitor gets."""
        visitor = Visitor()
        visitor.send(request)
        visitor.requests[0].respond(head, length)
        for piece in pieces:
            visitor.requests[0].write(piece)
        visitor.requests[0].finish(trailers)
        self.visitor = visitor
        return visitor.taken()

    def isOpen(self) -> bool:
        """@return: whether the connection goes on."""
        return not self.visitor.transport.outgoing.eof and not self.visitor.transport.aborted

    def test_knownLength(self) -> None:
        """With a known length there is a Content-Length, once."""
        self.assertEqual(self.said(GET, OK, 2, b"h", b"i"), ANSWER)
        self.assertTrue(self.isOpen())
        given = ResponseHead(200, "OK", "1.1", [("content-length", "2")])
        self.assertEqual(self.said(GET, given, 2, b"hi"), ANSWER)

    def test_unknownLength(self) -> None:
        """Without one the body goes in chunks, with its trailers."""
        self.assertEqual(
            self.said(GET, OK, None, b"hello", b"x" * 5000, trailers=[("x-sum", "1")]),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1388\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n"
            % (b"x" * 5000),
        )
        self.assertTrue(self.isOpen())

    def test_falseLength(self) -> None:
        """A Content-Length that is not known to be right is dropped."""
        head = ResponseHead(200, "OK", "1.1", [("content-length", "9")])
        self.assertNotIn(b"Content-Length", self.said(GET, head, None, b"hi"))

    def test_withoutABody(self) -> None:
        """HEAD, 204 and 304 have none, whatever is written, and keep the Content-Length that may be there."""
        head = ResponseHead(200, "OK", "1.1", [("content-length", "9")])
        said = self.said(GET.replace(b"GET", b"HEAD"), head, 0, b"hi")
        self.assertEqual(said, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        head = ResponseHead(304, "Not Modified", "1.1", [("content-length", "9")])
        self.assertEqual(self.said(GET, head, 0), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")
        head = ResponseHead(204, "No Content", "1.1", [("content-length", "0")])
        self.assertEqual(self.said(GET, head, 0), b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertTrue(self.isOpen())

    def test_emptyBody(self) -> None:
        """A body that is empty has the length 0."""
        self.assertEqual(self.said(GET, OK, 0), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def test_tooMuchOrTooLittle(self) -> None:
        """A response that is not as long as it says is broken off, so that the next is not taken for a part of it."""
        self.said(GET, OK, 2, b"h", b"iho")
        self.assertTrue(self.visitor.transport.aborted)
        self.said(GET, OK, 3, b"hi")
        self.assertTrue(self.visitor.transport.aborted)

    def test_oldVisitors(self) -> None:
        """In HTTP/1.0 the connection goes on only when the visitor asks, and a body of unknown length ends with it."""
        old = b"GET / HTTP/1.0\r\n\r\n"
        self.assertEqual(
            self.said(old, OK, 2, b"hi"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
        )
        self.assertFalse(self.isOpen())
        asking = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        said = self.said(asking, OK, 2, b"hi")
        self.assertEqual(said, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi")
        self.assertTrue(self.isOpen())
        self.assertEqual(self.said(asking, OK, None, b"hi"), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi")
        self.assertFalse(self.isOpen())

    def test_close(self) -> None:
        """A visitor who asks for it is the last word's, and what they send behind that is not looked at."""
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        self.assertIn(b"\r\nConnection: close\r\n", self.said(request + GET, OK, 2, b"hi"))
        self.assertEqual(len(self.visitor.requests), 1)
        self.assertFalse(self.isOpen())

    def test_oneWrite(self) -> None:
        """A head goes out with what follows at once, and alone at the end of the turn when nothing does."""
        visitor = Visitor()
        visitor.send(GET)
        visitor.requests[0].respond(OK, 2)
        self.assertEqual(visitor.transport.written(), b"")
        visitor.clock.advance(0)
        self.assertEqual(visitor.transport.written(), ANSWER[:-2])
        visitor.requests[0].write(b"hi")
        self.assertEqual(visitor.transport.written(), ANSWER)

    def test_eventsAreNotHeldBack(self) -> None:
        """A piece of a stream without an end leaves by the end of the turn."""
        visitor = Visitor()
        visitor.send(GET)
        visitor.requests[0].respond(OK, None)
        visitor.taken()
        for _ in range(3):
            visitor.requests[0].write(b"data: 1\n\n")
            self.assertEqual(visitor.taken(), b"9\r\ndata: 1\n\n\r\n")

    def test_muchInOneTurn(self) -> None:
        """What waits for the end of the turn does not add up without limit."""
        visitor = Visitor()
        visitor.send(GET)
        visitor.requests[0].respond(OK, None)
        for _ in range(100):
            visitor.requests[0].write(b"x" * 1000)
        self.assertGreater(len(visitor.transport.written()), 80_000)

    def test_informational(self) -> None:
        """Responses of 1xx go before the real one, but not to HTTP/1.0, which has none."""
        hints = ResponseHead(103, "Early Hints", "1.1", [("link", "</a>")])
        visitor = Visitor()
        visitor.send(GET + b"GET / HTTP/1.0\r\n\r\n")
        visitor.requests[0].inform(hints)
        answer(visitor.requests[0])
        self.assertEqual(visitor.taken(), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ANSWER)
        visitor.requests[1].inform(hints)
        self.assertEqual(visitor.taken(), b"")

    def test_abort(self) -> None:
        """A response that is broken off does not look whole, and nobody is told anything any more."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.send(GET)
        visitor.requests[0].respond(OK, 5)
        visitor.requests[0].write(b"hi")
        visitor.requests[0].abort()
        self.assertTrue(visitor.transport.aborted)
        visitor.transport.pump()
        self.assertEqual((exchange.names(), visitor.ended), (["requestEnd"], 1))

    def test_verbsAfterTheEnd(self) -> None:
        """A request that is over has no effect on the next one."""
        visitor = Visitor()
        visitor.send(GET)
        old = visitor.requests[0]
        answer(old)
        visitor.send(GET)
        visitor.taken()
        answer(old)
        old.abort()
        old.pauseProducing()
        old.resumeProducing()
        old.inform(ResponseHead(103, "Early Hints", "1.1", []))
        old.upgrade(OK, Taker())  # type: ignore[arg-type]
        self.assertEqual((visitor.taken(), visitor.transport.aborted), (b"", False))


class ConversationTests(SynchronousTestCase):
    """Many requests on one connection."""

    def test_pipelined(self) -> None:
        """Pipelined requests are handed over one at a time, and answered in order."""
        visitor = Visitor()
        visitor.send(GET + post(b"abc") + GET)
        self.assertEqual(len(visitor.requests), 1)
        answer(visitor.requests[0], b"1")
        self.assertEqual(len(visitor.requests), 2)
        exchange = Exchange()
        visitor.requests[1].accept(exchange)
        self.assertEqual(exchange.events, [("requestBody", b"abc"), ("requestEnd", [])])
        self.assertEqual(len(visitor.requests), 2)
        answer(visitor.requests[1], b"2")
        answer(visitor.requests[2], b"3")
        self.assertEqual(re.findall(rb"\r\n\r\n(\d)", visitor.taken()), [b"1", b"2", b"3"])

    def test_thousandsAtOnce(self) -> None:
        """Thousands of requests in one piece are answered without going deeper with each."""
        visitor = Visitor(answer)
        visitor.send(GET * 1800)
        self.assertEqual((visitor.taken() + visitor.taken()).count(b"HTTP/1.1 200"), 1800)

    def test_othersGetATurn(self) -> None:
        """Others get a turn between them, before more is read, or the end of it is looked at."""
        visitor = Visitor(answer)
        visitor.send(GET * 1000)
        visitor.transport.deliverEOF()
        counts = [len(visitor.requests)]
        self.assertTrue(visitor.transport.readingPaused)
        visitor.clock.callLater(0, lambda: counts.append(len(visitor.requests)))
        self.assertEqual(visitor.taken().count(b"HTTP/1.1 200"), 1000)
        self.assertEqual((counts, visitor.refusals), ([8, 16], []))
        visitor.transport.pump()
        self.assertEqual(visitor.ended, 1)

    def test_pipelinedBytesAreBounded(self) -> None:
        """A visitor who sends on and on while a response is due is not read any more."""
        visitor = Visitor()
        visitor.send(GET)
        for _ in range(50):
            visitor.send(GET * 100)
        self.assertTrue(visitor.transport.readingPaused)
        self.assertGreater(visitor.transport.incoming.bufferedBytes, 90_000)
        visitor.then = answer
        answer(visitor.requests[0])
        for _ in range(100):
            visitor.taken()
        self.assertEqual(len(visitor.requests), 5001)

    def test_whoTakesNoResponse(self) -> None:
        """A visitor who takes no responses gets no further: the requests behind wait."""
        visitor = Visitor(lambda request: answer(request, b"x" * 10_000), capacity=20_000)
        visitor.send(GET * 50)
        self.assertEqual(len(visitor.requests), 2)
        visitor.send(GET * 1000)
        self.assertTrue(visitor.transport.readingPaused)
        for _ in range(525):
            self.assertTrue(visitor.taken())
        self.assertEqual(len(visitor.requests), 1050)
        self.assertFalse(visitor.transport.readingPaused)

    def test_limitOfRequests(self) -> None:
        """The last request that a connection may carry is answered with the word that it is."""
        visitor = Visitor(answer, settings=HttpSettings(requests=2))
        visitor.send(GET * 3)
        first, second = ANSWER, ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        self.assertEqual(visitor.taken(), first + second)
        self.assertTrue(visitor.transport.outgoing.eof)

    def test_emptyLineBefore(self) -> None:
        """An empty line before a request is overlooked, as some clients send one behind a body."""
        visitor = Visitor(answer)
        visitor.send(GET + b"\r\n" + GET)
        self.assertEqual(visitor.taken(), ANSWER * 2)

    @settings(deadline=None, max_examples=100, database=None, derandomize=True)
    @given(st.lists(st.integers(1, 80), max_size=30))
    def test_anySplit(self, sizes: list[int]) -> None:
        """However a conversation is cut into pieces, the same requests come of it, and the same responses."""

        def echo(request: IVisitorRequest) -> None:
            def then(name: str) -> None:
                if name == "requestEnd":
                    answer(request, dict(exchange.events).get("requestBody", b"-"))

            exchange = Exchange(then)
            request.accept(exchange)

        visitor = Visitor(echo)
        data = GET + post(b"one") + chunked(b"t", b"w", b"o", trailers=b"X: y\r\n") + b"\r\n" + post(b"") + GET
        for size in sizes:
            visitor.send(data[:size])
            data = data[size:]
        visitor.send(data)
        self.assertEqual(
            re.findall(rb"Content-Length: \d+\r\n\r\n([a-z-]+)", visitor.taken()), [b"-", b"one", b"two", b"-", b"-"]
        )
        self.assertEqual(visitor.refusals, [])

    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    @given(st.binary(max_size=300), st.booleans())
    def test_anyBytes(self, data: bytes, isBody: bool) -> None:
        """Whatever comes is a request, is refused, or is waited for; and the connection can be ended."""

        def take(request: IVisitorRequest) -> None:
            request.accept(Exchange())
            answer(request)

        visitor = Visitor(take)
        visitor.send((chunked(b"a")[:-5] if isBody else b"") + data)
        visitor.transport.deliverEOF()
        visitor.taken()
        visitor.transport.pump()
        self.assertEqual(visitor.ended, 1)


class BodyTests(SynchronousTestCase):
    """Reading a body follows the one who takes it."""

    def test_pause(self) -> None:
        """A paused request hands nothing over, and reading stops; then all comes."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.send(post(b"a", 6))
        visitor.requests[0].pauseProducing()
        visitor.send(b"bcd")
        self.assertTrue(visitor.transport.readingPaused)
        self.assertEqual(exchange.of("requestBody"), b"a")
        visitor.requests[0].resumeProducing()
        visitor.transport.pump()
        visitor.send(b"ef")
        self.assertEqual(exchange.events, [("requestBody", b"abcdef"), ("requestEnd", [])])

    def test_pauseWithTLS(self) -> None:
        """What a TLS transport had decrypted when it was paused waits, too."""
        visitor, exchange = Visitor(isTLS=True), Exchange()
        visitor.transport.incoming.chunkSize = 100
        exchange.then = lambda name: visitor.requests[0].pauseProducing()
        visitor.then = lambda request: request.accept(exchange)
        visitor.send(post(b"x" * 350))
        self.assertLess(len(exchange.of("requestBody")), 100)
        exchange.then = lambda name: None
        visitor.requests[0].resumeProducing()
        visitor.transport.pump()
        self.assertEqual(len(exchange.of("requestBody")), 350)
        self.assertEqual(exchange.names()[-1], "requestEnd")

    def test_bodyThatNobodyTakesYet(self) -> None:
        """While a request is neither accepted nor answered, no more than a little of its body is read."""
        visitor, exchange = Visitor(), Exchange()
        visitor.send(post(b"", 1_000_000))
        for _ in range(30):
            visitor.send(b"x" * 10_000)
        self.assertTrue(visitor.transport.readingPaused)
        self.assertGreater(visitor.transport.incoming.bufferedBytes, 200_000)
        visitor.requests[0].accept(exchange)
        visitor.transport.pump()
        self.assertEqual(len(exchange.of("requestBody")), 300_000)

    def test_brokenBody(self) -> None:
        """A body that breaks the rules is refused, and the exchange told; nothing behind it is looked at."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.send(chunked(b"abc")[:-5] + b"nonsense\r\n" + GET)
        self.assertEqual([status for status, _ in visitor.refusals], [400])
        self.assertEqual(exchange.names(), ["visitorLost"])
        self.assertEqual(len(visitor.requests), 1)
        self.assertTrue(visitor.taken().startswith(b"HTTP/1.1 400 "))

    def test_brokenBodyWhenAnswering(self) -> None:
        """When the response has begun it is broken off instead."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.send(chunked(b"abc")[:-5])
        visitor.requests[0].respond(OK, None)
        visitor.send(b"nonsense\r\n")
        self.assertTrue(visitor.transport.aborted)
        self.assertEqual((visitor.refusals, exchange.names()), ([], ["requestBody", "visitorLost"]))

    def test_unreadBodyIsDropped(self) -> None:
        """After an early response the rest of the body is read for nothing, and the connection goes on."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.send(post(b"abc", 100_000))
        answer(visitor.requests[0])
        visitor.then = answer
        visitor.send(b"x" * 99_997 + GET)
        self.assertEqual(visitor.taken(), ANSWER * 2)
        self.assertEqual(exchange.events, [("requestBody", b"abc")])

    def test_unreadChunks(self) -> None:
        """The same of chunks, of a request that was answered before it was accepted."""
        visitor = Visitor(answer)
        visitor.send(chunked(b"x" * 1000, b"y" * 1000) + GET)
        self.assertEqual(visitor.taken(), ANSWER * 2)

    def test_tooMuchUnread(self) -> None:
        """Where more is to come than is worth reading the connection is closed, and what comes dropped."""
        visitor = Visitor(answer)
        visitor.send(post(b"abc", 1_000_000))
        self.assertEqual(visitor.taken(), ANSWER)
        self.assertTrue(visitor.transport.outgoing.eof)
        self.assertFalse(visitor.transport.disconnected)
        visitor.send(b"x" * 500_000)
        self.assertEqual(visitor.transport.incoming.bufferedBytes, 0)
        visitor.transport.deliverEOF()
        self.assertEqual(visitor.ended, 1)

    def test_tooManyUnreadChunks(self) -> None:
        """Of chunks it is known when so much has come."""
        visitor = Visitor(answer)
        visitor.send(chunked(b"x")[:-5])
        for _ in range(30):
            visitor.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        visitor.taken()
        self.assertTrue(visitor.transport.outgoing.eof)

    def test_unreadNonsense(self) -> None:
        """An answered request whose rest breaks the rules is the connection's last."""
        visitor = Visitor(answer)
        visitor.send(chunked(b"x")[:-5])
        visitor.send(b"nonsense\r\n")
        self.assertEqual((visitor.taken(), visitor.refusals), (ANSWER, []))
        self.assertTrue(visitor.transport.outgoing.eof)

    def test_continue(self) -> None:
        """A visitor who waits for a 100 gets the origin's, and the connection goes on."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.send(post(b"", 3, "Expect: 100-continue"))
        visitor.requests[0].inform(ResponseHead(100, "Continue", "1.1", []))
        self.assertEqual(visitor.taken(), b"HTTP/1.1 100 Continue\r\n\r\n")
        visitor.send(b"abc")
        self.assertEqual(exchange.events, [("requestBody", b"abc"), ("requestEnd", [])])
        answer(visitor.requests[0])
        self.assertEqual(visitor.taken(), ANSWER)

    def test_noContinue(self) -> None:
        """Without a 100 nobody knows whether the body will come, so the response is the last."""
        visitor = Visitor(answer)
        visitor.send(post(b"", 3, "Expect: 100-continue"))
        self.assertIn(b"Connection: close", visitor.taken())
        self.assertTrue(visitor.transport.outgoing.eof)

    def test_bodyInSpiteOfAll(self) -> None:
        """A visitor who sent the body without waiting keeps the connection."""
        visitor = Visitor(lambda request: request.accept(Exchange()))
        visitor.send(post(b"abc", 3, "Expect: 100-continue"))
        answer(visitor.requests[0])
        self.assertEqual(visitor.taken(), ANSWER)

    def test_answeredInTheMiddle(self) -> None:
        """An exchange may answer from inside of the body that it is given; what comes behind is the next request's."""
        visitor = Visitor()
        exchange = Exchange(lambda name: answer(visitor.requests[0]))
        visitor.then = lambda request: request.accept(exchange) if len(visitor.requests) == 1 else answer(request)
        visitor.send(post(b"abc") + GET)
        self.assertEqual(visitor.taken(), ANSWER * 2)
        self.assertEqual(exchange.events, [("requestBody", b"abc")])


class PaceTests(SynchronousTestCase):
    """A visitor who does not take the response holds up the origin alone."""

    def test_pauseAndResume(self) -> None:
        """The exchange is told once when the transport has enough, and when it has room again."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange), capacity=1000), Exchange()
        visitor.send(GET)
        visitor.requests[0].respond(OK, None)
        for _ in range(3):
            visitor.requests[0].write(b"x" * 5000)
        self.assertEqual(exchange.names(), ["requestEnd", "pauseResponse"])
        visitor.taken()
        self.assertEqual(exchange.names(), ["requestEnd", "pauseResponse", "resumeResponse"])

    def test_abortedWhileWriting(self) -> None:
        """An exchange that is told to pause may break off instead."""
        visitor = Visitor(capacity=1000)
        exchange = Exchange(lambda name: visitor.requests[0].abort() if name == "pauseResponse" else None)
        visitor.then = lambda request: request.accept(exchange)
        visitor.send(GET)
        visitor.requests[0].respond(OK, None)
        visitor.requests[0].write(b"x" * 5000)
        visitor.requests[0].write(b"x" * 5000)
        visitor.requests[0].finish()
        visitor.transport.pump()
        self.assertEqual((visitor.transport.aborted, visitor.ended), (True, 1))


class UpgradeTests(SynchronousTestCase):
    """A connection may become a relay's."""

    UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    SWITCH = ResponseHead(101, "Switching Protocols", "1.1", [("upgrade", "websocket")])

    def upgraded(self, visitor: Visitor) -> Taker:
        """@return: who took over."""
        taker = Taker()
        visitor.requests[0].upgrade(self.SWITCH, taker)  # type: ignore[arg-type]
        return taker

    def test_upgrade(self) -> None:
        """The 101 is sent, and all that came and comes behind the request is the other's, and the end, too."""
        visitor = Visitor()
        visitor.send(self.UPGRADE + b"early")
        (request,) = visitor.requests
        self.assertTrue(request.canUpgrade)
        self.assertEqual(request.head.get("upgrade"), "websocket")
        self.assertIsNone(request.head.get("connection"))
        taker = self.upgraded(visitor)
        self.assertEqual(visitor.ended, 1)
        self.assertIsNone(visitor.transport.producer)
        visitor.send(b" and late")
        self.assertEqual(
            visitor.taken(), b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        )
        visitor.transport.deliverEOF()
        visitor.transport.loseWriteConnection()
        visitor.transport.pump()
        visitor.transport.deliverReset()
        visitor.transport.resumeProducing()
        visitor.transport.pump()
        self.assertEqual(taker.received, b"early and late")
        self.assertEqual(taker.events[:3], ["made", "read ended", "write ended"])
        self.assertEqual(taker.events[-1], "lost")
        self.assertEqual(visitor.ended, 1)
        self.assertEqual(visitor.clock.getDelayedCalls()[1:], [])

    def test_underAPeek(self) -> None:
        """It can still become a relay's when something else had to become it before."""
        visitor = Visitor(
            under=lambda connection: Peek(
                lambda data: connection, lambda problem: self.fail(str(problem)), clock=Clock()
            )
        )
        visitor.send(self.UPGRADE)
        taker = self.upgraded(visitor)
        visitor.send(b"hello")
        visitor.transport.deliverEOF()
        visitor.transport.deliverReset()
        visitor.transport.resumeProducing()
        visitor.transport.pump()
        self.assertEqual((taker.received, taker.events), (b"hello", ["made", "read ended", "lost"]))

    def test_halfClosedBefore(self) -> None:
        """A visitor that ended its sending before is a relay's that did."""
        visitor = Visitor()
        visitor.send(self.UPGRADE + b"all")
        visitor.transport.deliverEOF()
        taker = self.upgraded(visitor)
        self.assertEqual((taker.received, taker.events), (b"all", ["made", "read ended"]))

    def test_readsOnAfterwards(self) -> None:
        """A connection whose reading was paused, as so much came early, is read again."""
        visitor = Visitor()
        visitor.send(self.UPGRADE + b"x" * 50_000)
        self.assertTrue(visitor.transport.readingPaused)
        taker = self.upgraded(visitor)
        visitor.send(b"y")
        self.assertEqual(len(taker.received), 50_001)

    def test_declined(self) -> None:
        """An upgrade that is answered otherwise is a request like any other."""
        visitor = Visitor(answer)
        visitor.send(self.UPGRADE + GET)
        self.assertEqual(visitor.taken(), ANSWER * 2)

    def test_notPossible(self) -> None:
        """
        No upgrade is possible with a body, in HTTP/1.0, without Connection's word, or to what would carry requests
        that nobody looks at; then it is not asked for either.
        """
        for data in (
            self.UPGRADE.replace(b"Host: a", b"Host: a\r\nContent-Length: 1"),
            self.UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
            self.UPGRADE.replace(b"Connection: Upgrade\r\n", b""),
            self.UPGRADE.replace(b"websocket", b"h2c"),
            self.UPGRADE.replace(b"websocket", b"foo, HTTP/2.0"),
            self.UPGRADE.replace(b"websocket", b"TLS/1.2"),
            self.UPGRADE.replace(b"websocket", b""),
        ):
            visitor = Visitor()
            visitor.send(data)
            (request,) = visitor.requests
            self.assertFalse(request.canUpgrade, data)
            self.assertIsNone(request.head.get("upgrade"))
            self.assertRaises(LocalProtocolError, self.upgraded, visitor)


class EndTests(SynchronousTestCase):
    """How connections end."""

    def test_idleVisitorLeaves(self) -> None:
        """A visitor who leaves between requests is gone, and nothing is left."""
        visitor = Visitor(answer)
        visitor.send(GET)
        visitor.taken()
        visitor.transport.deliverEOF()
        visitor.taken()
        self.assertEqual((visitor.ended, visitor.refusals), (1, []))
        visitor.clock.advance(1.0)
        self.assertEqual(visitor.clock.getDelayedCalls(), [])

    def test_lostInTheMiddle(self) -> None:
        """An exchange is told that the visitor went away, and its verbs do nothing then."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.send(GET)
        visitor.requests[0].respond(OK, 5)
        visitor.transport.deliverReset()
        self.assertEqual((exchange.names(), visitor.ended), (["requestEnd", "visitorLost"], 1))
        visitor.requests[0].write(b"hi")
        visitor.requests[0].abort()
        visitor.connection.drain()
        visitor.connection.close()
        self.assertEqual(visitor.taken(), b"")

    def test_lostBeforeItWasAccepted(self) -> None:
        """Who accepts a request of a visitor who is gone is told at once."""
        visitor, exchange = Visitor(), Exchange()
        visitor.send(GET)
        visitor.transport.deliverReset()
        visitor.requests[0].accept(exchange)
        self.assertEqual(exchange.names(), ["visitorLost"])

    def test_halfClosed(self) -> None:
        """A visitor that only ended its sending is answered, each request of it, and then the connection closed."""
        visitor = Visitor()
        visitor.send(GET + GET)
        visitor.transport.deliverEOF()
        answer(visitor.requests[0])
        answer(visitor.requests[1])
        self.assertEqual(visitor.taken(), ANSWER * 2)
        visitor.transport.pump()
        self.assertEqual(visitor.ended, 1)

    def test_endInAHead(self) -> None:
        """A request that ends within its head is refused."""
        visitor = Visitor()
        visitor.send(GET[:-3])
        visitor.transport.deliverEOF()
        self.assertEqual([status for status, _ in visitor.refusals], [400])

    def test_endInABody(self) -> None:
        """One that ends within its body, too, and the exchange is told."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.send(post(b"a", 3))
        visitor.transport.deliverEOF()
        self.assertEqual([status for status, _ in visitor.refusals], [400])
        self.assertEqual(exchange.names(), ["requestBody", "visitorLost"])

    def test_endInABodyThatWaits(self) -> None:
        """The same when the body is accepted only then."""
        visitor, exchange = Visitor(), Exchange()
        visitor.send(post(b"a", 3))
        visitor.transport.deliverEOF()
        self.assertEqual(visitor.refusals, [])
        visitor.requests[0].accept(exchange)
        self.assertEqual(exchange.names(), ["requestBody", "visitorLost"])

    def test_endInWhatIsNotRead(self) -> None:
        """After the answer it is the end."""
        visitor = Visitor(answer)
        visitor.send(post(b"a", 3))
        visitor.transport.deliverEOF()
        self.assertEqual(visitor.taken(), ANSWER)
        self.assertEqual((visitor.ended, visitor.refusals), (1, []))
        visitor = Visitor()
        visitor.send(post(b"a", 3))
        visitor.transport.deliverEOF()
        answer(visitor.requests[0])
        self.assertEqual(visitor.taken(), ANSWER)
        self.assertEqual((visitor.ended, visitor.refusals), (1, []))

    def test_drainIdle(self) -> None:
        """A connection that is to take no more requests and has none ends at once."""
        visitor = Visitor(answer)
        visitor.send(GET)
        visitor.taken()
        visitor.connection.drain()
        visitor.taken()
        self.assertTrue(visitor.transport.outgoing.eof)

    def test_drainInARequest(self) -> None:
        """With one the response says that it is the last, and those behind are not looked at."""
        visitor = Visitor()
        visitor.send(GET + GET)
        visitor.connection.drain()
        answer(visitor.requests[0])
        self.assertIn(b"Connection: close", visitor.taken())
        self.assertTrue(visitor.transport.outgoing.eof)
        self.assertEqual(len(visitor.requests), 1)

    def test_drainInAHead(self) -> None:
        """One that has begun is taken."""
        visitor = Visitor(answer)
        visitor.send(GET[:-2])
        visitor.connection.drain()
        visitor.send(GET[-2:])
        self.assertIn(b"Connection: close", visitor.taken())
        self.assertTrue(visitor.transport.outgoing.eof)

    def test_drainInTheMiddle(self) -> None:
        """When the response has begun without that word it is finished, and the connection closed."""
        visitor = Visitor()
        visitor.send(GET)
        visitor.requests[0].respond(OK, 2)
        visitor.connection.drain()
        visitor.requests[0].write(b"hi")
        visitor.requests[0].finish()
        self.assertEqual(visitor.taken(), ANSWER)
        self.assertTrue(visitor.transport.outgoing.eof)

    def test_drainWithUnreadBody(self) -> None:
        """What is left of a body is still read, for nothing, and then the connection is closed."""
        visitor = Visitor()
        visitor.send(post(b"a", 3))
        visitor.requests[0].respond(OK, 0)
        visitor.requests[0].finish()
        visitor.connection.drain()
        visitor.send(b"bc")
        visitor.taken()
        self.assertTrue(visitor.transport.outgoing.eof)

    def test_close(self) -> None:
        """To close a connection cuts off the request that is not answered; the exchange is told."""
        visitor, exchange = Visitor(lambda request: request.accept(exchange)), Exchange()
        visitor.send(GET)
        visitor.connection.close()
        visitor.transport.pump()
        self.assertEqual((exchange.names(), visitor.transport.aborted), (["requestEnd", "visitorLost"], True))
        self.assertEqual(visitor.ended, 1)

    def test_closeIdle(self) -> None:
        """Without one it is closed as at any other time."""
        visitor = Visitor()
        visitor.connection.close()
        visitor.taken()
        self.assertEqual((visitor.transport.aborted, visitor.transport.outgoing.eof), (False, True))

    def test_lastWordsWithTLS(self) -> None:
        """A TLS connection is closed when all was written: its producer is not in the way of that."""
        visitor = Visitor(answer, isTLS=True)
        visitor.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertIn(b"hi", visitor.taken())
        self.assertTrue(visitor.transport.outgoing.eof)
        visitor.transport.deliverEOF()
        self.assertEqual(visitor.ended, 1)


class LimitTests(SynchronousTestCase):
    """Whoever is slow is not waited for without end, and not given up early."""

    def test_firstHead(self) -> None:
        """A connection on which nothing comes is closed without a word, like an idle one."""
        visitor = Visitor(settings=HttpSettings(headTimeout=5.0))
        visitor.wait(5)
        self.assertFalse(visitor.transport.outgoing.eof)
        visitor.wait(2)
        self.assertTrue(visitor.transport.outgoing.eof)
        self.assertEqual((visitor.refusals, visitor.taken()), ([], b""))

    def test_slowHead(self) -> None:
        """A head that comes a byte at a time is refused when it took too long."""
        visitor = Visitor(settings=HttpSettings(headTimeout=5.0))
        for count in range(5):
            visitor.send(GET[count : count + 1])
            visitor.wait(1)
        self.assertEqual(visitor.refusals, [])
        visitor.send(b"x")
        visitor.wait(2)
        self.assertEqual([status for status, _ in visitor.refusals], [408])
        self.assertTrue(visitor.taken().startswith(b"HTTP/1.1 408 "))

    def test_idle(self) -> None:
        """Between requests there is more time, and each request starts it anew."""
        visitor = Visitor(answer, settings=HttpSettings(headTimeout=5.0, idleTimeout=20.0))
        for _ in range(3):
            visitor.send(GET)
            self.assertEqual(visitor.taken(), ANSWER)
            visitor.wait(19)
            self.assertFalse(visitor.transport.outgoing.eof)
        visitor.wait(3)
        self.assertTrue(visitor.transport.outgoing.eof)
        self.assertEqual(visitor.refusals, [])

    def test_slowBody(self) -> None:
        """A body that comes too slowly is refused, and the exchange told."""
        visitor = Visitor(settings=HttpSettings(bodyRate=10, bodyGrace=5.0))
        exchange = Exchange()
        visitor.then = lambda request: request.accept(exchange)
        visitor.send(post(b"", 1000))
        for _ in range(20):
            visitor.send(b"x" * 10)
            visitor.wait(1)
        self.assertEqual(visitor.refusals, [])
        for _ in range(12):
            visitor.send(b"x" * 9)
            visitor.wait(1)
        self.assertEqual([status for status, _ in visitor.refusals], [408])
        self.assertEqual(exchange.names()[-1], "visitorLost")

    def test_bodyThatIsNotRead(self) -> None:
        """A visitor is not slow while it is the origin that does not take the body, or says 100."""
        visitor = Visitor(lambda request: request.accept(Exchange()))
        visitor.send(post(b"", 1000))
        visitor.requests[0].pauseProducing()
        visitor.wait(100)
        self.assertEqual(visitor.refusals, [])
        visitor = Visitor(lambda request: request.accept(Exchange()))
        visitor.send(post(b"", 1000, "Expect: 100-continue"))
        visitor.wait(100)
        self.assertEqual(visitor.refusals, [])

    def test_toldToGoOnLate(self) -> None:
        """Who was told to send the body when that had taken a while has the time for it that everybody has."""
        visitor = Visitor(lambda request: request.accept(Exchange()), settings=HttpSettings(bodyGrace=5.0))
        visitor.send(post(b"", 1_000_000, "Expect: 100-continue"))
        visitor.wait(30)
        visitor.requests[0].inform(ResponseHead(100, "Continue", "1.1", []))
        visitor.wait(5)
        self.assertEqual(visitor.refusals, [])
        visitor.wait(3)
        self.assertEqual([status for status, _ in visitor.refusals], [408])

    def test_expectingForever(self) -> None:
        """But one that waits for a 100 does not do so for ever, and one that began in spite of it is slow or not."""
        limits = HttpSettings(originHeadTimeout=50.0)
        visitor = Visitor(lambda request: request.accept(Exchange()), settings=limits)
        visitor.send(post(b"", 1000, "Expect: 100-continue"))
        visitor.wait(50)
        self.assertEqual(visitor.refusals, [])
        visitor.wait(3)
        self.assertEqual([status for status, _ in visitor.refusals], [408])
        visitor = Visitor(lambda request: request.accept(Exchange()), settings=limits)
        visitor.send(post(b"a", 1000, "Expect: 100-continue"))
        visitor.wait(25)
        self.assertEqual([status for status, _ in visitor.refusals], [408])

    def test_longPoll(self) -> None:
        """A visitor is not slow while it waits for a response."""
        visitor = Visitor()
        visitor.send(GET)
        visitor.wait(1000)
        answer(visitor.requests[0])
        self.assertEqual(visitor.taken(), ANSWER)

    def test_slowRead(self) -> None:
        """A visitor who takes nothing of what waits is cut off, and the exchange told."""
        visitor = Visitor(settings=HttpSettings(takeTimeout=10.0), capacity=1000)
        exchange = Exchange()
        visitor.then = lambda request: request.accept(exchange)
        visitor.send(GET)
        visitor.requests[0].respond(OK, None)
        visitor.requests[0].write(b"x" * 5000)
        visitor.wait(10)
        visitor.taken()
        visitor.requests[0].write(b"x" * 5000)
        visitor.wait(10)
        self.assertFalse(visitor.transport.aborted)
        visitor.wait(2)
        self.assertTrue(visitor.transport.aborted)
        self.assertEqual(exchange.names()[-1], "visitorLost")

    def test_slowReadOfTheLastWords(self) -> None:
        """The same when all was said."""
        visitor = Visitor(lambda request: answer(request, b"x" * 5000), settings=HttpSettings(takeTimeout=10.0))
        visitor.send(GET)
        visitor.connection.drain()
        visitor.wait(9)
        self.assertFalse(visitor.transport.aborted)
        visitor.wait(5)
        self.assertTrue(visitor.transport.aborted)
        self.assertEqual(visitor.ended, 1)

    def test_whoDoesNotHangUp(self) -> None:
        """A visitor who does not hang up when all was said is cut off after a moment."""
        visitor = Visitor(answer)
        visitor.send(GET)
        visitor.connection.drain()
        visitor.taken()
        visitor.send(b"x" * 1000)
        self.assertFalse(visitor.transport.aborted)
        visitor.wait(5)
        self.assertTrue(visitor.transport.aborted)
        self.assertEqual(visitor.ended, 1)
        self.assertEqual(visitor.clock.getDelayedCalls(), [])

    def test_slowUnreadBody(self) -> None:
        """Nor is the rest of a body waited for without end that nobody wants."""
        visitor = Visitor(answer)
        visitor.send(post(b"", 1000))
        for _ in range(13):
            visitor.send(b"x")
            visitor.wait(1)
        visitor.taken()
        self.assertTrue(visitor.transport.outgoing.eof)
