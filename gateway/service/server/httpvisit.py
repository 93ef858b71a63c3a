"""
One request to a service of an agent's: through which of its replicas, on which connection, and what to say when that
does not work::

    visit = HttpVisit(door, connection, request, head, route, usage, policy, id)
    visit.dial()

A connection to the origin of a replica is used again, by whichever visitor comes next, unless the origin is told by a
PROXY header who a connection is for.
"""

__all__ = ["HttpVisit", "OriginPools"]

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.httppolicy import HttpProblem, RoutePolicy
from gateway.domain.routes import Replica, Route
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.direct import Buffer
from gateway.net.exchange import IDEMPOTENT, Exchange
from gateway.net.http1client import HttpClientConnection
from gateway.net.http2client import Http2ClientConnection
from gateway.net.http2pool import Http2OriginPool
from gateway.net.httpinterfaces import Fields, IOriginConnection, IVisitorRequest, OriginLost
from gateway.net.httppool import OriginPool
from gateway.net.relay import Cause, RelaySettings
from gateway.net.sweep import ISwept, Sweep
from gateway.service.server.attached import IAgentSession, IHttpSession, Visitor
from gateway.service.server.destinations import ATTEMPTS, PATIENCE
from gateway.service.server.httppages import errorAnswer
from gateway.service.server.usage import Usage
from gateway.wire.compression import ICompressor, compressed
from gateway.wire.http1 import RequestHead, ResponseHead

if TYPE_CHECKING:
    from gateway.service.server.httpconnection import HttpConnection
    from gateway.service.server.httpdoor import HttpDoor

_PROBLEMS = {
    DialFailure.TIMEOUT: HttpProblem.ORIGIN_TIMEOUT,
    DialFailure.UNAVAILABLE: HttpProblem.UNAVAILABLE,
    DialFailure.GONE: HttpProblem.AGENT_GONE,
}
"""Of what could not be dialled; everything else is the origin's refusal."""

_SHARED = Visitor(None, None)
"""For connections that serve one visitor after another: it says nothing of any."""

Pool = OriginPool | Http2OriginPool
Connection = HttpClientConnection | Http2ClientConnection


@implementer(ISwept)
class OriginPools:
    """
    The connections to origins of all replicas of all routes. Those of a replica that is not offered any more are closed
    as they become idle: an agent that is to stop waits for them.

    @param make: makes a pool.
    """

    def __init__(self, make: Callable[[Replica, Visitor], Pool], sweep: Sweep) -> None:
        self._make = make
        self._sweep = sweep
        self._shared: dict[Replica, Pool] = {}

    def find(self, replica: Replica, connection: "HttpConnection") -> Pool:
        """
        @param connection: the visitor's, which may have to have pools of its own.
        """
        options = replica.service.http
        isShared = options is None or not options.proxyPerVisitor
        pools = self._shared if isShared else connection.pools
        pool = pools.get(replica)
        if pool is None:
            if isShared and not self._shared:
                self._sweep.watch(self)
            pool = pools[replica] = self._make(replica, _SHARED if isShared else connection.visitor)
        return pool

    def close(self) -> None:
        """Close what is idle, and do not keep what becomes so."""
        for pool in self._shared.values():
            pool.close()

    def renew(self) -> None:
        """Use none of the connections that there are for another request."""
        self.close()
        self._shared.clear()

    # -- ISwept

    def check(self, now: float) -> None:
        for replica, pool in list(self._shared.items()):
            if not replica.isOffered:
                pool.close()
                del self._shared[replica]
        if not self._shared:
            self._sweep.forget(self)


class HttpVisit(Exchange):
    """
    A request that leads to a route.

    @param head: as the origin is to get it.
    @param usage: which counts it; left when it is over.
    @param id: of the request.
    @ivar route: that it leads to, which may be gone meanwhile.
    @ivar policy: of the route.
    @ivar session: of the agent that serves it, or was tried last.
    @ivar reached: when a connection was there, by the clock; C{None} before.
    @ivar client: the visitor's address, by a trusted front's word if there is one.
    @ivar isSecure: whether they came by TLS, by the same word.
    @ivar problem: what it was answered with by the gateway itself; empty: it was not.
    """

    _log = Logger()

    def __init__(
        self,
        door: "HttpDoor",
        connection: "HttpConnection",
        request: IVisitorRequest,
        head: RequestHead,
        route: Route,
        usage: Usage,
        policy: RoutePolicy,
        id: str,
    ) -> None:
        super().__init__(door.clock, request, head, door.visitors.budget)
        self.route = route
        self.id = id
        self.session: IAgentSession | None = None
        self.reached: float | None = None
        self.problem = ""
        self.client = ""
        self.isSecure = False
        self._door = door
        self._connection = connection
        self._usage = usage
        self.policy = policy
        policy.inFlight += 1
        self._tried: list[Replica] = []
        self._dial: Deferred[Connection] | None = None
        self._compressor: ICompressor | None = None
        self._moved = -1
        self._movedAt = 0.0
        self._took: tuple[float, int] | None = None

    # -- Exchange

    def dial(self, *, fresh: bool = False) -> None:
        """
        Take an idle connection to an origin, or make one.
        """
        now = self.clock.seconds()
        replica = self.route.choose(now, self._tried) if len(self._tried) < ATTEMPTS else None
        if replica is None:
            self.unreached(DialFailed(DialFailure.UNAVAILABLE, f"Nobody serves {self.route.place} at the moment."))
            return
        self.session = session = cast(IAgentSession, replica.attachment)
        self.meter = self._door.visitors.meter(self._usage, session, self.client)
        if IHttpSession.providedBy(session):
            self._arrived(session.originFor(replica.service, self._connection.visitor))
            return
        pool = self._door.pools.find(replica, self._connection)
        # What is sent of a body cannot be sent again.
        isRepeatable = self.head.method in IDEMPOTENT and self.request.length == 0
        connection = None if fresh else pool.take(isRepeatable)
        if connection is not None:
            self._arrived(connection)
            return
        self._dial = dial = cast(Deferred[Connection], pool.dial())
        dial.addCallbacks(self._dialled, self._undialled, callbackArgs=(replica,), errbackArgs=(replica, now))

    def _arrived(self, connection: IOriginConnection) -> None:
        self.reached = self.clock.seconds()
        self.connected(connection)

    def _dialled(self, connection: IOriginConnection, replica: Replica) -> None:
        self._dial = None
        replica.worked()
        self._arrived(connection)

    def _undialled(self, failure: Failure, replica: Replica, began: float) -> None:
        self._dial = None
        now = self.clock.seconds()
        if self.isOver:  # the visitor left
            if now - began >= PATIENCE:
                replica.failed(now)
            return
        replica.failed(now)
        self._tried.append(replica)
        problem = DialFailed.fromFailure(failure)
        isLast = problem.kind is DialFailure.TIMEOUT or len(self._tried) >= ATTEMPTS
        if not isLast and self.route.choose(now, self._tried) is not None:
            self.dial()
        else:
            self.unreached(problem)

    def gotRequestBody(self, data: Buffer) -> None:
        limit = self.policy.maxBody
        if limit and self.up + len(data) > limit:  # a length that was said was looked at before
            if self.responded is None:
                self.say(HttpProblem.BODY_TOO_LARGE, f"No more than {limit} bytes can be sent here at a time.")
            else:
                self.cutOff(HttpProblem.BODY_TOO_LARGE)
            return
        super().gotRequestBody(data)

    def answering(self, head: ResponseHead, length: int | None) -> tuple[ResponseHead, int | None]:
        policy = self.policy
        fields = policy.responseFields(head.headers, self.isSecure)
        if fields is not head.headers:
            head = replace(head, headers=fields)
        codings = policy.options.compress
        if codings and length != 0:
            fields, self._compressor = compressed(codings, self.request.head, head, length)
            head = replace(head, headers=fields)
            length = length if self._compressor is None else None
        return head, length

    def gotResponseBody(self, data: Buffer) -> None:
        super().gotResponseBody(data if self._compressor is None else self._compressor.compress(data))

    def gotResponseEnd(self, trailers: Fields) -> None:
        if self._compressor is not None:
            super().gotResponseBody(self._compressor.finish())
        super().gotResponseEnd(trailers)

    def unreached(self, problem: DialFailed) -> None:
        found = _PROBLEMS.get(problem.kind, HttpProblem.ORIGIN_REFUSED)
        if problem.kind in (DialFailure.TIMEOUT, DialFailure.GONE):
            self.say(found, problem.details)
        else:
            self._blame(found, problem.details)

    def originFailed(self, lost: OriginLost) -> None:
        self._blame(HttpProblem.BAD_RESPONSE, lost.details)

    def _blame(self, problem: HttpProblem, details: str) -> None:
        """Say that it is somebody's fault, if it is: the streams of an agent that goes away end before it does."""
        self._door.sweep.endOfTurn(lambda: self._judge(problem, details))

    def _judge(self, problem: HttpProblem, details: str) -> None:
        if self.isOver:
            return
        if self.session is None or any(each is self.session for each in self._door.registry.replicas(self.route.agent)):
            self.say(problem, details)
        else:
            self.say(HttpProblem.AGENT_GONE, "The agent went away.")

    def say(self, problem: HttpProblem, details: str) -> None:
        """Answer with a page of the gateway's own."""
        door = self._door
        self.problem = problem
        door.visitors.metrics.errors.add(problem)
        self._log.info(
            "{place}: a request cannot be served: {problem}",
            event="visit.failed",
            place=str(self.route.place),
            agent=self.route.agent,
            visitor=self.client,
            id=self.id,
            problem=details,
        )
        headers = (("X-Request-ID", self.id),)
        self.refuse(errorAnswer(problem.status, problem, details, self.request.head, headers), problem)

    def relaySettings(self) -> RelaySettings:
        return self._door.visitors.settings

    def check(self, now: float) -> None:
        """See whether the origin takes too long, or the visitor."""
        if self._isSlow(now):
            if self.responded is None:
                self.say(HttpProblem.REQUEST_TIMEOUT, "The request's body came too slowly.")
            else:
                self.cutOff(HttpProblem.REQUEST_TIMEOUT)
            return
        if (moved := self.up + self.down) != self._moved:
            self._moved, self._movedAt = moved, now
        if self.responded is None and self.reached is not None and (self.sent is not None or self.isHeldUp):
            limit = self._door.settings.originHeadTimeout
            if now - max(self.reached, self._movedAt if self.sent is None else self.sent) > limit:
                self.say(HttpProblem.ORIGIN_TIMEOUT, f"There was no response within {limit:g} seconds.")
            return
        idle = self._door.visitors.settings.idleTimeout
        if idle is not None and not self.isRelay and now - self._movedAt > idle:
            self.cutOff(Cause.IDLE)

    def _isSlow(self, now: float) -> bool:
        """
        Whether the body comes too slowly, where HTTP/2 does not say how long it is. The visitor's connection leaves
        that to us: it may be a stream of gRPC's, which are silent for hours, but not if the origin speaks HTTP/1.
        """
        request = self.request
        if self.sent is not None or request.length is not None or request.head.version != "2":
            return False
        if self.policy.options.protocol == "h2c":
            return False
        settings, took = self._door.settings, self._took
        # Who was not told to go on waits for the origin, as long as for an answer.
        waits = not self.up and request.head.get("expect") is not None
        if took is None or self.reached is None or self._visitorEnd.paused:
            self._took = (now, self.up)
        elif now - took[0] >= (settings.originHeadTimeout if waits else settings.bodyGrace):
            self._took = (now, self.up)
            return self.up - took[1] < settings.bodyRate * settings.bodyGrace
        return False

    def ended(self, cause: str) -> None:
        if self._dial is not None:
            self._dial.cancel()
        self._usage.leave()
        self.policy.inFlight -= 1
        if self.session is not None and self.reached is not None:
            self.session.moved(self.up, self.down)
        self._connection.exchangeEnded(self, cause)
