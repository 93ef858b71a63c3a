"""
Whatever visitors send on a connection of HTTP/2's, and whatever is answered: when it is gone nothing of it is left.
"""

from random import Random

from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.budget import StallBudget
from gateway.net.dial import DialFailed
from gateway.net.direct import Buffer
from gateway.net.exchange import Exchange
from gateway.net.http2backlog import HIGH_WATER
from gateway.net.httpinterfaces import (
    Fields,
    IExchange,
    IOriginConnection,
    IOriginRequest,
    IVisitorRequest,
    OriginLost,
    OriginProblem,
)
from gateway.net.interfaces import IStreamTransport
from gateway.net.relay import Half
from gateway.wire.http1 import RequestHead, Response, ResponseHead
from gateway.wire.http2frames import PRIORITY, SETTINGS, frame, goAway, ping, rstStream, windowUpdate
from tests.net.http2peer import REQUEST, Http2Visitor, Owner, setting

BACKLOG = 20_000
PIECES = (1, 100, 5_000, 30_000, 70_000)


@implementer(IOriginRequest)
class Origin:
    """
    An origin's end of an exchange that does anything that one may, whenever it is asked.

    @ivar isOver: it may not do anything more.
    """

    def __init__(self, random: Random, exchange: IExchange) -> None:
        self._random = random
        self._exchange = exchange
        self._isAnswered = self._isPaused = self._holdsUp = False
        self.isOver = False

    def act(self) -> None:
        """Do something."""
        if self.isOver:
            return
        choice = self._random.randrange(10)
        if choice == 0:
            self.isOver = True
            self._exchange.originLost(OriginLost(self._random.choice(list(OriginProblem)), "It is gone.", True))
        elif choice == 1:
            self._holdsUp = not self._holdsUp
            (self._exchange.pauseRequest if self._holdsUp else self._exchange.resumeRequest)()
        elif not self._isAnswered:
            if choice == 2:
                self._exchange.gotInformational(ResponseHead(103, "", "1.1", []))
            elif not self._isPaused:
                self._isAnswered = True
                status = self._random.choice((200, 204, 404))
                length = 0 if status == 204 else None
                self._exchange.gotResponse(ResponseHead(status, "", "1.1", [("a", "b" * 100)]), length)
        elif not self._isPaused:
            if choice < 8:
                self._exchange.gotResponseBody(memoryview(bytes(self._random.choice(PIECES))))
            if choice > 6 and not self.isOver:
                self.isOver = True
                self._exchange.gotResponseEnd([("x-sum", "1")] if choice == 9 else ())

    def write(self, data: Buffer) -> None:
        if self._random.random() < 0.3:
            self.act()

    def finish(self, trailers: Fields = ()) -> None:
        if self._random.random() < 0.3:
            self.act()

    def pauseProducing(self) -> None:
        self._isPaused = True

    def resumeProducing(self) -> None:
        self._isPaused = False
        while self._random.random() < 0.5 and not (self._isPaused or self.isOver):
            self.act()

    def detach(self, far: Half) -> None:
        raise AssertionError("there are no upgrades in HTTP/2")

    def abort(self) -> None:
        self.isOver = True


@implementer(IOriginConnection)
class Connection:
    """One to an origin, for one request."""

    isReused = True
    transport: IStreamTransport

    def __init__(self, owner: "AnyOwner") -> None:
        self._owner = owner

    def send(self, head: RequestHead, length: int | None, exchange: IExchange) -> IOriginRequest:
        origin = Origin(self._owner.random, exchange)
        self._owner.origins.append(origin)
        return origin


class Visit(Exchange):
    """An exchange that finds an origin at once, later, or not at all."""

    def __init__(self, owner: "AnyOwner", clock: IReactorTime, request: IVisitorRequest) -> None:
        super().__init__(clock, request, request.head, owner.budget)
        self._owner = owner
        self.timesEnded = 0
        if owner.random.random() < 0.3:
            self.meter = lambda isDown, size: size / 20_000

    def dial(self, *, fresh: bool = False) -> None:
        choice = self._owner.random.randrange(5)
        if choice == 0:
            self.unreached(DialFailed.fromFailure)  # type: ignore[arg-type]  # it does not look
        elif choice < 3:
            self.connected(Connection(self._owner))
        else:
            self._owner.dials.append(self)

    def unreached(self, problem: DialFailed) -> None:
        self.refuse(Response(502, b"none" * 100), "unreached")

    def originFailed(self, lost: OriginLost) -> None:
        self.refuse(Response(502, b"lost" * 1000), "lost")

    def outOfMemory(self) -> None:
        self.cutOff("memory-budget")

    def ended(self, cause: str) -> None:
        self.timesEnded += 1


class AnyOwner(Owner):
    """An owner that answers requests in any way there is."""

    visitor: Http2Visitor

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.budget = StallBudget(4 * StallBudget.PER_HALF)
        self.visits: list[Visit] = []
        self.dials: list[Visit] = []
        self.origins: list[Origin] = []

    def gotRequest(self, request: IVisitorRequest) -> None:
        visit = Visit(self, self.visitor.clock, request)
        self.visits.append(visit)
        visit.dial()

    def act(self) -> None:
        """Let one of the origins do something, or a connection be made."""
        if self.dials and self.random.random() < 0.3:
            self.dials.pop(self.random.randrange(len(self.dials))).connected(Connection(self))
        elif self.origins:
            self.random.choice(self.origins).act()


class Anything:
    """What a visitor sends: mostly what it may."""

    def __init__(self, random: Random, visitor: Http2Visitor) -> None:
        self._random = random
        self._visitor = visitor
        self._next = 1

    def _some(self) -> int:
        """A stream: rarely one that there was never."""
        return self._random.randrange(max(1, self._next - 10), self._next - (self._random.random() < 0.99)) | 1

    def piece(self) -> bytes:
        """A frame, or something else."""
        random, visitor = self._random, self._visitor
        choice = random.randrange(100)
        if choice < 35 or self._next == 1:
            number, self._next = self._next, self._next + 2
            method = random.choice(("GET", "GET", "HEAD", "POST", "PUT") * 8 + ("CONNECT", "G T"))
            end = method in ("GET", "HEAD") or random.random() < 0.2
            more = [("content-length", str(random.choice((5, 100, 16_000))))] if random.random() < 0.2 - end / 6 else []
            return visitor.headers(number, [(":method", method), *REQUEST[1:], *more], end=end)
        if choice < 60:
            data = bytes(random.choice((0, 5, 100, 16_000)))
            return visitor.data(self._some(), data, end=random.random() < 0.3, padding=random.choice((None, None, 3)))
        if choice < 80:
            return windowUpdate(random.choice((0, self._some())), random.choice((1, 1000, 16_384, 100_000)))
        if choice < 87:
            return rstStream(self._some(), random.choice((ErrorCodes.CANCEL, ErrorCodes.NO_ERROR)))
        if choice < 90:
            return visitor.headers(self._some(), [("x-sum", "1")], end=True)
        if choice < 93:
            return frame(SETTINGS, 0, 0, setting(4, random.choice((0, 100, 65_535, 200_000))))
        if choice < 96:
            return random.choice((ping(b"12345678"), frame(PRIORITY, 0, 1, bytes([0, 0, 0, 9, 9])), goAway(0, 0)))
        if choice < 99:
            return random.choice((windowUpdate(self._some(), 0), visitor.data(self._some(), b"", end=False)))
        return random.randbytes(random.randrange(40)) if random.random() < 0.2 else b""


class LeakTests(SynchronousTestCase):
    """What is left of connections."""

    @given(st.randoms(use_true_random=True), st.integers(1, 80))
    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    def test_nothingIsLeft(self, random: Random, steps: int) -> None:
        """
        No exchange goes on when the connection is lost, none is in the budget, no time is kept but that of the sweep,
        and nothing waits to be sent; and all the while no more waits that nobody else counts than may.
        """
        owner = AnyOwner(random)
        visitor = owner.visitor = Http2Visitor(
            setting(4, random.choice((0, 100, 65_535))),
            owner=owner,
            capacity=random.choice((1, 1 << 30)),
            backlog=BACKLOG,
            streams=8,
            takeTimeout=5.0,
        )
        anything, connection = Anything(random, visitor), visitor.connection
        for _ in range(steps):
            choice = random.randrange(20)
            if visitor.transport.disconnected:
                break
            if choice < 10:
                visitor.transport.deliver(b"".join(anything.piece() for _ in range(random.choice((1, 1, 2, 5)))))
            elif choice < 17:
                owner.act()
            elif choice == 17:
                visitor.elapse(random.choice((1, 3, 10)))
            elif choice == 18:
                visitor.transport.outgoing.stalled = random.random() < 0.5
            elif random.random() < 0.1:
                random.choice((connection.drain, connection.close))()
            if random.random() < 0.7:
                visitor.turn()
            uncounted = sum(each.unsent for each in connection.streams.values() if not each.isSourcePaused)
            self.assertEqual(connection.backlog.held, uncounted)
            self.assertLessEqual(uncounted, BACKLOG + HIGH_WATER + 2 * max(PIECES))
        if not visitor.transport.disconnected:
            visitor.transport.deliverReset()
        for visit in owner.dials:
            visit.connected(Connection(owner))  # of whose request is told now that it is lost
        for origin in owner.origins:
            origin.act()
        self.assertEqual([visit for visit in owner.visits if not (visit.isOver and visit.timesEnded == 1)], [])
        self.assertEqual((owner.budget.used, owner.ended), (0, 1))
        self.assertEqual((connection.streams, connection.backlog.held, connection.backlog.next()), ({}, 0, None))
        visitor.clock.advance(2)
        self.assertEqual(visitor.clock.getDelayedCalls(), [])
