"""
Visitors: everybody who came through a door and is joined, or about to be, to a service of an agent's.

What a door has to find out is which route is wanted. The rest is the same for all doors, and here::

    ticket = visitors.admit(host, rules, "tls")          # None: drop the connection
    protocol = visitors.visit(route, visitor, ticket)    # None: the route has too many visitors
    protocol.makeConnection(transport)                   # dials
"""

__all__ = ["IVisit", "Refusal", "Visitors"]

from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from gateway.domain.access import AccessRules
from gateway.domain.limits import ADDRESS_CAPACITY, Admission, Ticket, addressKey
from gateway.domain.routes import Replica, Route
from gateway.net.budget import StallBudget
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.relay import Cause, Half, Outcome, Relay, RelaySettings
from gateway.net.udp import DATAGRAM_DRAIN_IDLE, DATAGRAM_IDLE, wasUnreached
from gateway.service.draining import Vacancy
from gateway.service.logs import RefusalLog
from gateway.service.metrics import Metrics
from gateway.service.server.attached import IAgentSession, Visitor
from gateway.service.server.destinations import RouteEndpoint
from gateway.service.server.farewell import Farewell
from gateway.service.server.usage import Meter, Rate, RouteLimits, Usage


class Refusal(StrEnum):
    """Why a visitor is not admitted, besides what L{AdmissionRefusal<gateway.domain.limits.AdmissionRefusal>} has."""

    NOT_ALLOWED = "not-allowed"
    TOO_MANY_FOR_ROUTE = "too-many-for-route"


SHUTDOWN = "shutting-down"
"""The cause of a visit that ended with the gateway."""


class IVisit(Interface):
    """Somebody who is here, from when it is known what they want."""

    visitor = Attribute("The L{Visitor}.")

    def drain() -> None:
        """The gateway is about to stop: end as soon as that is no loss."""

    def end(cause: str) -> None:
        """End now."""


_ENDED = (Cause.NEAR_CLOSED, Cause.FAR_CLOSED)


class _Near(Half):
    """
    The visitor's side of a visit, which dials once it is there.
    """

    visit: "_Visit"
    _farewell: Farewell | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self.visit.start()

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if self._farewell is not None:
            self._farewell.readConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._farewell is not None:
            self._farewell.connectionLost(reason)
        super().connectionLost(reason)

    def finish(self, cause: str) -> None:
        # A stream that was cut short may not look whole.
        if cause in _ENDED:
            super().finish(cause)
        else:
            self.cutOff()

    def refuse(self, answer: bytes | None, clock: IReactorTime) -> None:
        """There is nobody to join the visitor to."""
        if self.transport is None or self.lost:
            return
        if answer is None:
            self.cutOff()
        else:
            self._farewell = Farewell(answer, clock)
            self._farewell.makeConnection(self.transport)
            if self.readEnded:
                self._farewell.readConnectionLost()


@implementer(IVisit)
class _Visit:
    """
    One visitor and the service that they came for.

    @param refusal: what to say, in the door's own protocol, when there is nobody to join the visitor to; C{None} resets
        the connection.
    """

    _log = Logger()

    def __init__(
        self,
        visitors: "Visitors",
        route: Route,
        usage: Usage,
        visitor: Visitor,
        ticket: Ticket,
        refusal: Callable[[DialFailed], bytes] | None,
        settings: RelaySettings,
    ) -> None:
        self._visitors = visitors
        self._route = route
        self._usage = usage
        self.visitor = visitor
        self._ticket = ticket
        self._refusal = refusal
        self._session: IAgentSession | None = None
        self._meter: Meter | None = None
        self.relay = Relay(
            visitors.clock,
            self._ended,
            settings=settings,
            budget=visitors.budget,
            nearFactory=_Near,
        )
        self.near = cast(_Near, self.relay.near)
        self.near.visit = self

    def start(self) -> None:
        """The visitor's connection is there: dial."""
        clock = self._visitors.clock
        endpoint = RouteEndpoint(self._route, self.visitor, clock, self._chosen)
        self.relay.connect(endpoint).addCallbacks(self._joined, self._failed)

    def _joined(self, none: None) -> None:
        self._visitors.metrics.opened.inc()

    def _chosen(self, replica: Replica) -> None:
        self._session = session = cast(IAgentSession, replica.attachment)
        self._meter = self._visitors.meter(self._usage, session, self.visitor.host)
        self.relay.meter = None if self._meter is None else self._metered

    def _metered(self, half: Half, size: int) -> float:
        assert self._meter is not None
        return self._meter(half is self.relay.far, size)

    def drain(self) -> None:
        if self.visitor.isDatagram:  # nobody tells the end of those
            self.relay.limitIdle(DATAGRAM_DRAIN_IDLE)

    def end(self, cause: str) -> None:
        self.relay.end(cause)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, DialFailed):
            self._log.failure("a visit failed", failure, event="gateway.defect")
            error = DialFailed(DialFailure.OTHER, "The gateway has a defect.")
        if error.kind is DialFailure.CANCELLED:
            return
        self._visitors.metrics.errors.add(error.kind)
        if not self.visitor.isDatagram:
            self._log.info(
                "{place}: a visitor cannot be served: {problem}",
                event="visit.failed",
                place=str(self._route.place),
                agent=self._route.agent,
                visitor=self.visitor.host,
                id=self.visitor.id.decode(),
                problem=error.details,
            )
        self.near.refuse(None if self._refusal is None else self._refusal(error), self._visitors.clock)

    def _ended(self, outcome: Outcome) -> None:
        visitors, session = self._visitors, self._session
        self._usage.leave()
        self._ticket.release()
        visitors.over(self)
        if session is not None and outcome.cause != Cause.DIAL_FAILED:
            session.moved(outcome.up, outcome.down)
        visitors.metrics.closed.add(outcome.cause)
        visitors.metrics.bytes.add("up", outcome.up)
        visitors.metrics.bytes.add("down", outcome.down)
        if self.visitor.isDatagram and wasUnreached(outcome):
            visitors.refusals.refused(f"nobody is behind {self._route.place}", self.visitor.host)
            return
        self._log.info(
            "{place}: visit of {visitor} over: {cause}, {up} bytes up, {down} down, {seconds} s",
            event="visit.closed",
            place=str(self._route.place),
            agent=self._route.agent,
            replica="" if session is None else session.replica,
            visitor=self.visitor.host,
            id=self.visitor.id.decode(),
            cause=outcome.cause,
            up=outcome.up,
            down=outcome.down,
            seconds=round(outcome.seconds, 3),
        )


class Visitors:
    """
    All of them, and what they share.

    @param settings: of each relay.
    @param datagramAdmission: for visitors by UDP, whose addresses may be forged: whoever makes up thousands of them
        keeps nobody from coming by TCP.
    @param datagramIdle: seconds without a datagram after which a visit by UDP ends.
    @ivar visits: that are going on.
    @ivar refusals: says who was turned away, or to no avail.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        admission: Admission,
        datagramAdmission: Admission | None = None,
        settings: RelaySettings,
        limits: RouteLimits,
        budget: StallBudget,
        metrics: Metrics,
        datagramIdle: float = DATAGRAM_IDLE,
    ) -> None:
        self.clock = clock
        self.settings = settings
        self.datagramIdle = datagramIdle
        self.limits = limits
        self.budget = budget
        self.metrics = metrics
        self.visits: set[IVisit] = set()
        self.draining = False
        self._admission = admission
        self._datagramAdmission = datagramAdmission or admission
        self.refusals = RefusalLog(clock)
        self._usage: WeakKeyDictionary[Route, Usage] = WeakKeyDictionary()
        self._rates: WeakValueDictionary[str, Rate] = WeakValueDictionary()  # by address, while somebody is here
        self._owing: OrderedDict[str, Rate] = OrderedDict()  # and those that were used a moment ago
        self._vacancy = Vacancy(self.visits)

    def admit(
        self, host: str, rules: AccessRules, door: str, *, isDatagram: bool = False, isFront: bool = False
    ) -> Ticket | None:
        """
        @param host: the visitor's address.
        @param rules: of the door.
        @param door: its name, for the metrics.
        @param isFront: others come by way of this address.
        @return: C{None} to drop the connection.
        """
        if not rules.allows(host):
            self._refuse(Refusal.NOT_ALLOWED, host)
            return None
        if self.draining:
            return None
        admission = self._datagramAdmission if isDatagram else self._admission
        answer = admission.admit(host, self.clock.seconds(), isFront=isFront)
        if isinstance(answer, Ticket):
            self.metrics.connections.add(door)
            return answer
        self._refuse(answer.value, host)
        return None

    def enter(self, route: Route, host: str) -> Usage | None:
        """
        @param host: the visitor's address.
        @return: where they are counted from now on, until they leave; C{None} when the route has too many already.
        """
        now = self.clock.seconds()
        usage = self._usage.get(route)
        if usage is None:
            usage = self._usage[route] = Usage(self.limits, now)
        if usage.enter(now):
            return usage
        self._refuse(Refusal.TOO_MANY_FOR_ROUTE, host)
        return None

    def meter(self, usage: Usage, session: IAgentSession, host: str) -> Meter | None:
        """
        @param session: of the agent that serves the visitor.
        @return: what holds a visit to the rates of its route, its agent and its address; C{None}: there are none.
        """
        ofAddress = self.rateOf(host)
        if ofAddress is None and usage.bytes is None and session.rates is None:
            return None

        def meter(isDown: bool, size: int) -> float:
            now = self.clock.seconds()
            rates = (usage.bytes, session.rates, None if ofAddress is None else ofAddress.buckets)
            return max((each[isDown].take(size, now) for each in rates if each is not None), default=0.0)

        return meter

    def rateOf(self, host: str) -> Rate | None:
        """What limits the bytes of all visits from an address."""
        limit, key = self.limits.bytesPerSecondPerAddress, addressKey(host)
        if limit is None:
            return None
        now, owing = self.clock.seconds(), self._owing
        rate = self._rates.get(key)
        if rate is None:
            rate = self._rates[key] = Rate(limit, now)
        owing[key] = rate
        owing.move_to_end(key)
        while len(owing) > 1 and (next(iter(owing.values())).isFull(now) or len(owing) > ADDRESS_CAPACITY):
            owing.popitem(last=False)
        return rate

    def limit(self, limits: RouteLimits) -> None:
        """Hold routes and addresses to other limits from now on; visits that go on keep the rates that they have."""
        self.limits = limits
        self._rates.clear()
        self._owing.clear()
        for usage in self._usage.values():
            usage.limit(limits, self.clock.seconds())

    def _refuse(self, reason: str, host: str) -> None:
        self.metrics.refused.add(reason)
        self.refusals.refused(reason, host)

    def visit(
        self,
        route: Route,
        visitor: Visitor,
        ticket: Ticket,
        *,
        refusal: Callable[[DialFailed], bytes] | None = None,
        settings: RelaySettings | None = None,
    ) -> IProtocol | None:
        """
        @param ticket: released when the visit is over.
        @param refusal: what to say when nobody can be reached; C{None}: the connection is reset.
        @param settings: of the relay; C{None}: those of all.
        @return: put it on the visitor's connection, at once; C{None} when the route has too many visitors already, and
            then the ticket is still the caller's.
        """
        usage = self.enter(route, visitor.host)
        if usage is None:
            return None
        ticket.authenticated()
        visit = _Visit(self, route, usage, visitor, ticket, refusal, settings or self.settings)
        self.visits.add(visit)
        return visit.near

    def over(self, visit: IVisit) -> None:
        """A visit is over."""
        self.visits.discard(visit)
        self._vacancy.left()

    def drain(self) -> None:
        """Admit nobody any more, and let those who are here end."""
        self.draining = True
        for visit in tuple(self.visits):
            visit.drain()

    def empty(self) -> Deferred[None]:
        """
        @return: fires when there is no visit, which may be now.
        """
        return self._vacancy.awaited()

    def end(self) -> None:
        """Send everybody away, as the gateway stops."""
        for visit in tuple(self.visits):
            visit.end(SHUTDOWN)
        self.refusals.stop()
