"""
Tests for an HTTP request that is carried to an origin, and its response carried back: both ends are real, in HTTP/1.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.domain.limits import TokenBucket
from gateway.net.budget import StallBudget
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.exchange import Exchange, reply
from gateway.net.http1client import HttpClientConnection, IOriginOwner
from gateway.net.http1server import HttpServerConnection
from gateway.net.httpinterfaces import IVisitorOwner, IVisitorRequest, OriginLost
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.testing import FlowLink, flowPair
from gateway.wire.http1 import RequestHead, Response
from tests.net.sides import Peer

GET = b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"


class _Visit(Exchange):
    """An exchange with whichever origin the test has ready."""

    crossing: Crossing
    cause: str | None = None

    def dial(self, *, fresh: bool = False) -> None:
        self.crossing.dials.append(fresh)
        if self.crossing.problem is not None:
            self.unreached(self.crossing.problem)
        else:
            self.connected(self.crossing.connection(fresh))

    def unreached(self, problem: DialFailed) -> None:
        self.refuse(Response(503, problem.details.encode()), "unreached")

    def originFailed(self, lost: OriginLost) -> None:
        self.refuse(Response(502, lost.problem.encode()), lost.problem)

    def ended(self, cause: str) -> None:
        assert self.cause is None, "ended twice"
        self.cause = cause


@implementer(IVisitorOwner, IOriginOwner)
class Crossing:
    """
    A visitor, an origin, and what is between them.

    @ivar dials: for each attempt, whether it had to be a new connection.
    @ivar origins: each connection to the origin, its own end.
    @ivar added: fields that requests get on the way.
    """

    def __init__(self, budget: StallBudget | None = None) -> None:
        self.clock = Clock()
        self.sweep = Sweep(self.clock)
        self.budget = budget or StallBudget()
        self.links: list[FlowLink] = []
        self.dials: list[bool] = []
        self.origins: list[Peer] = []
        self.visits: list[_Visit] = []
        self.waiting: list[HttpClientConnection] = []
        self.problem: DialFailed | None = None
        self.meter: Any = None
        self.added: list[tuple[str, str]] = []
        self.visitor = Peer()
        self.server = HttpServerConnection(self, settings=HttpSettings(), sweep=self.sweep)
        self.links.append(flowPair(self.visitor, self.server))

    # -- IVisitorOwner

    def gotRequest(self, request: IVisitorRequest) -> None:
        """Carry it."""
        head = replace(request.head, headers=[*request.head.headers, *self.added])
        visit = _Visit(self.clock, request, head, self.budget)
        visit.crossing = self
        visit.meter = self.meter
        self.visits.append(visit)
        visit.dial()

    def refused(self, status: int, details: str, head: RequestHead | None) -> Response:
        """Say so."""
        return Response(status, details.encode())

    def cancelled(self, request: IVisitorRequest) -> None:
        """There is no such thing in HTTP/1."""
        raise AssertionError(request)

    def connectionEnded(self) -> None:
        """The visitor left."""

    # -- IOriginOwner

    def idle(self, connection: HttpClientConnection) -> None:
        """It may be used again."""
        self.waiting.append(connection)

    def lost(self, connection: HttpClientConnection) -> None:
        """It may not."""
        if connection in self.waiting:
            self.waiting.remove(connection)

    # -- The test's hands

    def connection(self, fresh: bool) -> HttpClientConnection:
        """To the origin."""
        if self.waiting and not fresh:
            return self.waiting.pop()
        connection = HttpClientConnection(self, settings=HttpSettings(), sweep=self.sweep)
        self.origins.append(Peer())
        self.links.append(flowPair(connection, self.origins[-1]))
        return connection

    def pump(self) -> None:
        """Let everything arrive."""
        for _ in range(60):
            for link in tuple(self.links):
                link.pump()
            self.clock.advance(0)

    def send(self, data: bytes) -> None:
        """By the visitor."""
        self.visitor.transport.write(data)
        self.pump()

    def answer(self, data: bytes) -> None:
        """By the newest of the origin's connections."""
        self.origins[-1].transport.write(data)
        self.pump()


class ExchangeTests(SynchronousTestCase):
    """
    L{Exchange}.
    """

    def setUp(self) -> None:
        self.crossing = Crossing()

    @property
    def visit(self) -> _Visit:
        """The newest."""
        return self.crossing.visits[-1]

    def test_carries(self) -> None:
        """A request goes to the origin as it is, the response comes back, and the next request follows it."""
        for _ in range(3):
            self.crossing.send(GET)
            self.assertEqual(bytes(self.crossing.origins[0].received).lower(), GET.lower())
            self.crossing.answer(OK)
            self.assertEqual(bytes(self.crossing.visitor.received), OK)
            self.assertEqual((self.visit.status, self.visit.down, self.visit.cause), (200, 2, "done"))
            del self.crossing.visitor.received[:], self.crossing.origins[0].received[:]
        self.assertEqual(len(self.crossing.origins), 1)

    def test_body(self) -> None:
        """Bodies go both ways piece by piece, and are counted."""
        self.crossing.send(POST % 6 + b"abc")
        self.assertTrue(self.crossing.origins[0].received.endswith(b"\r\n\r\nabc"))
        self.crossing.send(b"def")
        self.assertTrue(self.crossing.origins[0].received.endswith(b"abcdef"))
        self.crossing.answer(OK)
        self.assertEqual((self.visit.up, self.visit.down, self.visit.cause), (6, 2, "done"))

    def test_informational(self) -> None:
        """What the origin says before the response is passed on."""
        self.crossing.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % 1)
        self.crossing.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(bytes(self.crossing.visitor.received), b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_notReached(self) -> None:
        """Without a connection the one who knows more answers, and the visitor's connection goes on."""
        self.crossing.problem = DialFailed(DialFailure.REFUSED, "Nobody is there.")
        self.crossing.send(GET)
        self.assertIn(b"503 Service Unavailable", self.crossing.visitor.received)
        self.assertTrue(self.crossing.visitor.received.endswith(b"Nobody is there."))
        self.crossing.problem = None
        self.crossing.send(GET)
        self.crossing.answer(OK)
        self.assertTrue(self.crossing.visitor.received.endswith(OK))

    def used(self) -> None:
        """A connection to the origin that has carried a request, and waits."""
        self.crossing.send(GET)
        self.crossing.answer(OK)
        del self.crossing.visitor.received[:]

    def test_sentAgain(self) -> None:
        """An old connection that ends under an idempotent request costs nothing but a new one, once."""
        self.used()
        self.crossing.send(GET)
        self.crossing.origins[0].transport.loseConnection()
        self.crossing.pump()
        self.assertEqual(self.crossing.dials, [False, False, True])
        self.assertEqual(bytes(self.crossing.origins[1].received).lower(), GET.lower())
        self.crossing.origins[1].transport.abortConnection()
        self.crossing.pump()
        self.assertIn(b"502 Bad Gateway", self.crossing.visitor.received)
        self.assertEqual(len(self.crossing.dials), 3)

    def test_notSentAgain(self) -> None:
        """A request that may have done something is not made twice, nor one whose body is gone."""
        chunked = b"PUT /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nsum: 1\r\n\r\n"
        for request in (POST % 0, POST.replace(b"POST", b"PUT") % 2 + b"ab", chunked):
            crossing = self.crossing = Crossing()
            self.used()
            crossing.send(request)
            crossing.origins[0].transport.loseConnection()
            crossing.pump()
            self.assertEqual(crossing.dials, [False, False], request)
            self.assertIn(b"502 Bad Gateway", crossing.visitor.received)
            self.assertEqual(self.visit.cause, "unanswered")

    def test_notSentAgainAfterAByte(self) -> None:
        """Nor is one of which something has come back."""
        self.used()
        self.crossing.send(GET)
        self.crossing.answer(b"HTTP/1.1 2")
        self.crossing.origins[0].transport.loseConnection()
        self.crossing.pump()
        self.assertEqual(len(self.crossing.dials), 2)
        self.assertIn(b"502 Bad Gateway", self.crossing.visitor.received)

    def test_cutShort(self) -> None:
        """A response that ends early does not look whole."""
        self.crossing.send(GET)
        self.crossing.answer(OK[:-1])
        self.crossing.origins[0].transport.loseConnection()
        self.crossing.pump()
        self.assertIsNotNone(self.crossing.visitor.reason)
        self.assertEqual(self.visit.cause, "cut-off")

    def test_visitorLeaves(self) -> None:
        """When the visitor goes, the origin's connection is broken off."""
        self.crossing.send(GET)
        self.crossing.visitor.transport.abortConnection()
        self.crossing.pump()
        self.assertIsNotNone(self.crossing.origins[0].reason)
        self.assertEqual(self.visit.cause, "visitor-left")

    def test_earlyResponse(self) -> None:
        """A response before the end of the request ends the exchange; the origin's connection is not used again."""
        self.crossing.send(POST % 1000 + b"a")
        self.crossing.answer(OK)
        self.assertIn(OK[-2:], self.crossing.visitor.received)
        self.assertEqual(self.visit.cause, "done")
        self.assertEqual(self.crossing.waiting, [])
        self.assertIsNotNone(self.crossing.origins[0].reason)

    def test_upgrade(self) -> None:
        """Behind a 101 there are just bytes, each way, with the ends that they have."""
        self.crossing.send(UPGRADE)
        self.crossing.answer(SWITCHED + b"hello")
        self.assertTrue(self.crossing.visitor.received.startswith(b"HTTP/1.1 101 "))
        self.assertTrue(self.crossing.visitor.received.endswith(b"\r\n\r\nhello"))
        self.crossing.send(b"GET / HTTP/1.1 is not looked at")
        self.assertTrue(self.crossing.origins[0].received.endswith(b"not looked at"))
        self.assertIsNone(self.visit.cause)
        self.crossing.origins[0].transport.loseConnection()
        self.crossing.pump()
        self.assertTrue(self.crossing.visitor.ended)
        self.crossing.visitor.transport.loseConnection()
        self.crossing.pump()
        self.assertEqual((self.visit.status, self.visit.up, self.visit.down), (101, 31, 5))
        self.assertEqual(self.visit.cause, "near-closed")

    def test_upgradeDeclined(self) -> None:
        """An upgrade that the origin does not make is a request like any other."""
        self.crossing.send(UPGRADE)
        self.crossing.answer(OK)
        self.crossing.send(GET)
        self.crossing.answer(OK)
        self.assertEqual(self.crossing.visitor.received.count(b"200 OK"), 2)

    def test_unwantedUpgrade(self) -> None:
        """An origin cannot switch protocols by itself."""
        self.crossing.send(GET)
        self.crossing.answer(SWITCHED)
        self.assertIn(b"502 Bad Gateway", self.crossing.visitor.received)

    def test_stalledVisitor(self) -> None:
        """A visitor who does not read holds up the origin, and nothing grows meanwhile."""
        self.crossing.send(GET)
        self.crossing.links[0].bToA.stalled = True
        self.crossing.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
        for _ in range(20):
            self.crossing.answer(bytes(100_000))
        self.assertLess(self.crossing.links[0].bToA.highWater, 400_000)
        self.assertEqual(self.crossing.budget.used, StallBudget.PER_HALF)
        self.crossing.links[0].bToA.stalled = False
        self.crossing.pump()
        self.assertEqual(self.visit.down, 2_000_000)
        self.assertEqual(self.crossing.budget.used, 0)

    def test_stalledOrigin(self) -> None:
        """An origin that does not read holds up the visitor."""
        self.crossing.send(POST % 10_000_000)
        self.crossing.links[1].aToB.stalled = True
        for _ in range(20):
            self.crossing.send(bytes(100_000))
        self.assertLess(self.crossing.links[1].aToB.highWater, 400_000)
        self.crossing.links[1].aToB.stalled = False
        self.crossing.pump()
        self.assertEqual(self.visit.up, 2_000_000)

    def test_memory(self) -> None:
        """When what stalled readers cost is too much, the longest stalled exchange is broken off."""
        self.crossing = Crossing(StallBudget(StallBudget.PER_HALF - 1))
        self.crossing.send(GET)
        self.crossing.links[0].bToA.stalled = True
        self.crossing.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + bytes(1_000_000))
        self.assertEqual(self.visit.cause, "memory-budget")
        self.assertIsNotNone(self.crossing.origins[0].reason)
        self.assertEqual(self.crossing.budget.used, 0)

    def test_memoryAtTheEnd(self) -> None:
        """A response whose very last bytes are too much is over, and costs nobody anything."""
        self.crossing = Crossing(StallBudget(StallBudget.PER_HALF - 1))
        waiting = self.crossing.links[0].bToA
        waiting.stalled = True
        self.crossing.send(GET)
        self.crossing.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nea60\r\n" + bytes(60_000) + b"\r\n")
        left = 65_536 - waiting.bufferedBytes - len(b"1000\r\n\r\n")
        self.crossing.answer(b"%x\r\n%b\r\n" % (left, bytes(left)))
        self.assertEqual(waiting.bufferedBytes, 65_536)
        self.crossing.answer(b"0\r\n\r\n")
        self.assertEqual((self.visit.cause, self.crossing.budget.used), ("done", 0))
        waiting.stalled = False
        self.crossing.pump()
        self.assertTrue(self.crossing.visitor.received.endswith(b"0\r\n\r\n"))

    def test_rate(self) -> None:
        """A piece that is too much for a rate is passed on, and the next one waits."""
        told: list[tuple[bool, int]] = []

        def meter(isDown: bool, size: int) -> float:
            told.append((isDown, size))
            return 2.0 if size else 0.0

        self.crossing.meter = meter
        self.crossing.send(GET)
        self.crossing.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        self.crossing.answer(b"cd")
        self.assertEqual(told, [(True, 0), (True, 2)])
        self.crossing.clock.advance(2.0)
        self.crossing.pump()
        self.assertEqual(told, [(True, 0), (True, 2), (True, 2)])
        self.assertTrue(self.crossing.visitor.received.endswith(b"abcd"))
        self.crossing.clock.advance(2.0)
        self.assertEqual(self.visit.cause, "done")

    def test_rateOfMany(self) -> None:
        """A rate holds for many small exchanges as well: the body of one waits for what those before have taken."""
        bucket = TokenBucket(2, 2, 0)
        self.crossing.meter = lambda isDown, size: bucket.take(size, self.crossing.clock.seconds())
        for _ in range(3):
            self.crossing.send(GET)
            self.crossing.answer(OK)
        self.assertEqual(self.crossing.visitor.received.count(b"ok"), 2)
        self.crossing.clock.advance(1.0)
        self.crossing.pump()
        self.assertEqual(self.crossing.visitor.received.count(b"ok"), 3)
        self.crossing.send(POST % 2 + b"hi")
        self.assertNotIn(b"hi", self.crossing.origins[-1].received)
        self.crossing.clock.advance(1.0)
        self.crossing.pump()
        self.assertTrue(self.crossing.origins[-1].received.endswith(b"hi"))

    def test_bothStalled(self) -> None:
        """An exchange counts as stalled until both of its ends take again."""
        self.crossing.send(POST % 1_000_000)
        down, up = self.crossing.links[0].bToA, self.crossing.links[1].aToB
        down.stalled = up.stalled = True
        self.crossing.send(bytes(300_000))
        self.crossing.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(300_000))
        up.stalled = False
        self.crossing.pump()
        self.assertEqual((self.visit.up, self.crossing.budget.used), (300_000, StallBudget.PER_HALF))
        down.stalled = False
        self.crossing.pump()
        self.assertEqual((self.visit.down, self.crossing.budget.used), (300_000, 0))

    def test_fullFromTheStart(self) -> None:
        """An origin that has enough with the head alone gets nothing of the body; it may cost the exchange its place."""
        for limit, cause in ((StallBudget.PER_HALF, None), (0, "memory-budget")):
            crossing = self.crossing = Crossing(StallBudget(limit))
            crossing.added = [("a", "a" * 17_000)]
            crossing.waiting.append(crossing.connection(True))
            crossing.links[-1].a.capacity = 1000
            crossing.links[-1].aToB.stalled = True
            crossing.send(POST % 100_000 + b"a")
            self.assertEqual((self.visit.up, self.visit.cause, crossing.budget.used), (0, cause, limit))
            crossing.links[-1].aToB.stalled = False
            crossing.pump()
            self.assertEqual(crossing.origins[-1].reason is None, cause is None)
            self.assertEqual((self.visit.up, crossing.budget.used), (1 if cause is None else 0, 0))


class ReplyTests(SynchronousTestCase):
    """
    L{reply}.
    """

    def test_head(self) -> None:
        """A page is not sent to who asked for its head alone, but its length is."""
        crossing = Crossing()
        crossing.gotRequest = lambda request: reply(request, Response(404, b"gone"))  # type: ignore[method-assign,assignment]
        crossing.send(GET.replace(b"GET", b"HEAD"))
        self.assertIn(b"Content-Length: 4\r\n", crossing.visitor.received)
        self.assertTrue(crossing.visitor.received.endswith(b"\r\n\r\n"))
