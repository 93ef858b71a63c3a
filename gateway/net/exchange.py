"""
An exchange: one request of a visitor's, carried to an origin, and the response carried back.

It is to HTTP what L{gateway.net.relay.Relay} is to bytes, and it ends in one where the origin switches protocols. The
two ends speak whatever version of HTTP they speak; see L{gateway.net.httpinterfaces}. Who has decided where a request
leads makes a class of its own of it, which finds a connection and says what went wrong::

    class Visit(Exchange):
        def dial(self): self.connected(pool.take())
        def unreached(self, problem): self.refuse(errorPage(502, problem.details), "unreached")
        def originFailed(self, lost): self.refuse(errorPage(502, lost.details), "failed")

What holds:

  1. Nothing of the body is read before there is somebody to take it, and neither end is read faster than the other
     takes it. What is held for one that does not counts against the L{StallBudget} of all.
  2. A request is sent a second time only when that cannot do harm: nothing came back, none of its body was passed on,
     and either its method is idempotent and the connection an old one, whose end it may have crossed (RFC 9110,
     section 9.2.2), or the origin says that it has not looked at it.
  3. A response that is cut short does not look whole: the visitor's end is broken off, too.
  4. What comes behind a 101 is not HTTP any more, and before it everything is (a request for an upgrade may be
     declined, and then its connection goes on).
"""

__all__ = ["DONE", "IDEMPOTENT", "Exchange", "reply"]

from collections.abc import Callable
from http import HTTPStatus

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from gateway.net.budget import IStalls, StallBudget
from gateway.net.dial import DialFailed
from gateway.net.direct import Buffer
from gateway.net.httpinterfaces import (
    Fields,
    IExchange,
    IOriginConnection,
    IOriginRequest,
    IVisitorRequest,
    OriginLost,
    OriginProblem,
)
from gateway.net.relay import Outcome, Relay, RelaySettings
from gateway.wire.http1 import RequestHead, Response, ResponseHead

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""Methods of requests that may be made twice (RFC 9110, section 9.2.2)."""

DONE = "done"
"""The cause of an exchange that ended with its response."""

ATTEMPTS = 3
"""Times that a request is sent, at most."""

_PEER = 1
_RATE = 2
"""The reasons for which an end may be paused."""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def reply(request: IVisitorRequest, response: Response) -> int:
    """
    Answer a request with a page of our own.

    @return: bytes of its body.
    """
    fields = [
        ("content-type", response.contentType),
        ("content-length", str(len(response.body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        *((name.lower(), value) for name, value in response.headers),
    ]
    head = ResponseHead(response.status, _phrase(response.status), "1.1", fields)
    request.respond(head, len(response.body))
    if response.body:
        request.write(response.body)
    request.finish()
    return len(response.body)


class _End:
    """One end of an exchange, as far as its pace goes."""

    __slots__ = ("paused", "producer", "timer")

    def __init__(self) -> None:
        self.producer: IVisitorRequest | IOriginRequest | None = None
        self.paused = 0
        self.timer: IDelayedCall | None = None

    def begin(self, producer: IVisitorRequest | IOriginRequest) -> None:
        self.producer = producer
        if self.paused:
            producer.pauseProducing()

    def pause(self, reason: int) -> None:
        if not self.paused and self.producer is not None:
            self.producer.pauseProducing()
        self.paused |= reason

    def resume(self, reason: int) -> None:
        if self.paused:
            self.paused &= ~reason
            if not self.paused and self.producer is not None:
                self.producer.resumeProducing()

    def wait(self, clock: IReactorTime, seconds: float) -> None:
        """Pause for so long, from now on."""
        self.stop()
        self.pause(_RATE)
        self.timer = clock.callLater(seconds, self._waited)

    def _waited(self) -> None:
        self.timer = None
        self.resume(_RATE)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@implementer(IExchange, IStalls)
class Exchange:
    """
    @param request: of the visitor's, whose answer is due.
    @ivar head: of the request as the origin gets it.
    @ivar meter: for limited rates: told whether a piece goes down and its size, it returns the seconds to wait after
        it.
    @ivar status: of the response, once there is one; 0 before.
    @ivar up: bytes of the request's body so far, or of all that came up after an upgrade.
    @ivar down: the same of the response's.
    @ivar began: by the clock.
    @ivar sent: when the end of the request had come; C{None} before.
    @ivar responded: when the response's head came; C{None} before.
    @ivar isOver: nothing more happens.
    """

    def __init__(self, clock: IReactorTime, request: IVisitorRequest, head: RequestHead, budget: StallBudget) -> None:
        self.clock = clock
        self.request = request
        self.head = head
        self.budget = budget
        self.meter: Callable[[bool, int], float] | None = None
        self.status = 0
        self.up = self.down = 0
        self.began = clock.seconds()
        self.sent: float | None = None
        self.responded: float | None = None
        self.isOver = False
        self._origin: IOriginRequest | None = None
        self._relay: Relay | None = None
        self._accepted = self._bodySent = False
        self._attempts = 0
        self._visitorEnd, self._originEnd = _End(), _End()

    # -- For the class that knows more

    def dial(self, *, fresh: bool = False) -> None:
        """
        Find a connection, and call L{connected} or L{unreached}, now or later.

        @param fresh: only a new connection will do.
        """
        raise NotImplementedError

    def answering(self, head: ResponseHead, length: int | None) -> tuple[ResponseHead, int | None]:
        """Change the response's head on its way to the visitor."""
        return head, length

    def unreached(self, problem: DialFailed) -> None:
        """There is no connection. Answer, with L{refuse}."""
        raise NotImplementedError

    def originFailed(self, lost: OriginLost) -> None:
        """There is no response, and none will come. Answer, with L{refuse}."""
        raise NotImplementedError

    def relaySettings(self) -> RelaySettings:
        """Of the relay that the exchange ends in."""
        return RelaySettings()

    def ended(self, cause: str) -> None:
        """
        The exchange is over.

        @param cause: one word.
        """

    @property
    def isRelay(self) -> bool:
        """Whether it has ended in a relay."""
        return self._relay is not None

    @property
    def isHeldUp(self) -> bool:
        """Whether the origin takes no more of the request's body at present."""
        return bool(self._visitorEnd.paused & _PEER)

    # -- Verbs

    def connected(self, connection: IOriginConnection) -> None:
        """A connection is there."""
        self._attempts += 1
        origin = connection.send(self.head, self.request.length, self)
        if self.isOver:  # the head was too much for the budget
            origin.abort()
            return
        self._origin = origin
        self._originEnd.begin(origin)
        if not self._accepted:
            self._accepted = True
            self._visitorEnd.begin(self.request)
            if self.meter is not None and self.request.length != 0:
                self._pace(False, 0)
            self.request.accept(self)
        elif self.sent is not None:
            origin.finish()

    def refuse(self, response: Response, cause: str) -> None:
        """Answer with a page of our own, as long as there is no response."""
        self.status = response.status
        self.down += len(response.body)
        self.end(cause)  # first, as in gotResponseEnd
        reply(self.request, response)

    def end(self, cause: str) -> None:
        """The exchange is over for the two ends; let go of everything."""
        if self.isOver:
            return
        self.isOver = True
        origin, self._origin = self._origin, None
        if origin is not None:
            origin.abort()
        self._letGo()
        self.ended(cause)

    def cutOff(self, cause: str) -> None:
        """Break off both ends."""
        if self._relay is not None:
            self._relay.end(cause)
        elif not self.isOver:
            self.request.abort()
            self.end(cause)

    def _pace(self, isDown: bool, size: int) -> None:
        """
        Keep to a limited rate behind a piece. One without a size comes before the first of a body: it waits for what
        other exchanges have taken, or a rate would not hold for whoever makes many that are small.
        """
        if self.meter is not None and not self.isOver and (wait := self.meter(isDown, size)) > 0:
            (self._originEnd if isDown else self._visitorEnd).wait(self.clock, wait)

    def _letGo(self) -> None:
        self.budget.flows(self)
        for each in (self._visitorEnd, self._originEnd):
            each.stop()
            each.producer = None

    # -- IExchange: the visitor's end

    def gotRequestBody(self, data: Buffer) -> None:
        self.up += len(data)
        self._bodySent = True
        if self._origin is not None:
            self._origin.write(data)
            if self.meter is not None:
                self._pace(False, len(data))

    def gotRequestEnd(self, trailers: Fields) -> None:
        self.sent = self.clock.seconds()
        self._bodySent = self._bodySent or bool(trailers)
        if self._origin is not None:
            self._origin.finish(trailers)

    def pauseResponse(self) -> None:
        if not self.isOver:  # what is written last may be too much
            self._originEnd.pause(_PEER)
            self.budget.stalled(self)  # last: it may end the exchange

    def resumeResponse(self) -> None:
        self._originEnd.resume(_PEER)
        self._flows()

    def visitorLost(self, details: str) -> None:
        self.end("visitor-left")

    # -- IExchange: the origin's end

    def gotInformational(self, head: ResponseHead) -> None:
        self.request.inform(head)

    def gotResponse(self, head: ResponseHead, length: int | None) -> None:
        self.status = head.status
        self.responded = self.clock.seconds()
        self.request.respond(*self.answering(head, length))
        if self.meter is not None and length != 0:
            self._pace(True, 0)

    def gotResponseBody(self, data: Buffer) -> None:
        self.down += len(data)
        self.request.write(data)
        if self.meter is not None:
            self._pace(True, len(data))

    def gotResponseEnd(self, trailers: Fields) -> None:
        if self.sent is not None:
            self._origin = None  # it may serve another request already
        self.end(DONE)  # first: the visitor's next request may come from inside of finish, and this one does not count
        self.request.finish(trailers)

    def gotUpgrade(self, head: ResponseHead) -> None:
        if not self.request.canUpgrade:
            details = "The origin switched protocols, and was not asked to."
            self.originLost(OriginLost(OriginProblem.BAD_RESPONSE, details))
            return
        self.status = head.status
        self.responded = self.clock.seconds()
        head, _ = self.answering(head, 0)
        meter = self.meter
        self._relay = relay = Relay(
            self.clock,
            self._relayEnded,
            settings=self.relaySettings(),
            budget=self.budget,
            meter=None if meter is None else lambda half, size: meter(half is relay.far, size),
        )
        origin, self._origin = self._origin, None
        self._letGo()
        assert origin is not None
        origin.detach(relay.far)
        self.request.upgrade(head, relay.near)
        relay.join()

    def _relayEnded(self, outcome: Outcome) -> None:
        self.up += outcome.up
        self.down += outcome.down
        self.end(outcome.cause)

    def pauseRequest(self) -> None:
        if not self.isOver:
            self._visitorEnd.pause(_PEER)
            self.budget.stalled(self)  # last: it may end the exchange

    def resumeRequest(self) -> None:
        self._visitorEnd.resume(_PEER)
        self._flows()

    def _flows(self) -> None:
        if not (self._originEnd.paused | self._visitorEnd.paused) & _PEER:
            self.budget.flows(self)

    def originLost(self, lost: OriginLost) -> None:
        if self.isOver:
            return
        self._origin = self._originEnd.producer = None
        if self.responded is not None:
            self.request.abort()
            self.end(lost.problem)
        elif self._mayBeSentAgain(lost):
            self.resumeRequest()  # nobody else would
            self.dial(fresh=True)
        else:
            self.originFailed(lost)

    def _mayBeSentAgain(self, lost: OriginLost) -> bool:
        if self._bodySent or self.sent is None or self._attempts >= ATTEMPTS:
            return False
        if lost.isUnseen:
            return True
        return lost.isReused and lost.problem is OriginProblem.UNANSWERED and self.head.method in IDEMPOTENT

    # -- IStalls

    def outOfMemory(self) -> None:
        self.cutOff("memory-budget")
