"""
A visitor's connection that carries requests of HTTP, whatever version: where each of them leads, and who is told what::

    connection = HttpConnection(door, visitor, ticket, isSecure, agent, isOwn)
    connection.protocol                         # to put on the visitor's transport

It is one of the L{visits<gateway.service.server.visitors.IVisit>} from its beginning on, though it may ask for nothing.
"""

__all__ = ["DOOR", "HTTP2", "HttpConnection"]

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from zope.interface import implementer

from gateway.domain.addresses import hostOf
from gateway.domain.httppolicy import HttpProblem, Refusal, refusalOf
from gateway.domain.limits import Ticket
from gateway.domain.routes import Replica, Route
from gateway.net.exchange import DONE, reply
from gateway.net.http1server import HttpServerConnection
from gateway.net.http2server import Http2ServerConnection
from gateway.net.httpinterfaces import IVisitorOwner, IVisitorRequest
from gateway.service.server.accesslog import Access, AccessLog
from gateway.service.server.attached import Visitor
from gateway.service.server.httppages import errorAnswer
from gateway.service.server.httpvisit import HttpVisit, Pool
from gateway.service.server.turnedaway import turnedAway
from gateway.service.server.visitors import IVisit
from gateway.wire.forwarded import forwardedFields, nodeAddress
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.proxyheader import Address

if TYPE_CHECKING:
    from gateway.service.server.httpdoor import HttpDoor

DOOR = "http"
"""What metrics and logs call it."""

HTTP2 = b"h2"
"""What ALPN calls it."""


@implementer(IVisitorOwner, IVisit)
class HttpConnection:
    """
    One visitor's connection.

    @ivar protocol: to put on its transport.
    @ivar host: the visitor's own address.
    @ivar isSecure: it is inside of TLS.
    """

    def __init__(
        self, door: "HttpDoor", visitor: Visitor, ticket: Ticket, isSecure: bool, agent: str | None, isOwn: bool
    ) -> None:
        self.visitor = visitor
        self.host = visitor.host
        self.isSecure = isSecure
        self._pools: WeakKeyDictionary[Replica, Pool] | None = None
        self._door = door
        self._ticket = ticket
        self._agent = agent
        self._isOwn = isOwn
        self._exchanges: set[HttpVisit] = set()
        self._hasEnded = False
        self._count = self._up = self._down = 0
        self._hostText: str | None = None
        self._host = ""
        self._isTrusted = door.trusts(visitor.source)
        self._port = visitor.door.port if visitor.door is not None else (443 if isSecure else 80)
        self.protocol: HttpServerConnection | Http2ServerConnection = (
            Http2ServerConnection(self, settings=door.settings, sweep=door.sweep)
            if visitor.alpn == HTTP2
            else HttpServerConnection(self, settings=door.settings, sweep=door.sweep)
        )
        door.visitors.visits.add(self)

    # -- IVisitorOwner

    def gotRequest(self, request: IVisitorRequest) -> None:
        """Lead a request where it belongs."""
        self._count += 1
        self._ticket.authenticated()  # what they want is known, though it may be nothing that there is
        head, door = request.head, self._door
        if door.visitors.draining:  # it was in its handshake when the others were told
            self.protocol.drain()
        text = head.get("host")
        if text != self._hostText or not self._host:
            self._hostText = text
            self._host = self._hostOf(text)
        name = self._host
        route = None if self._isOwn else door.registry.host(name)
        prefix, target = "", head.target
        if route is None or route.service.kind != "http":
            if self._agent is not None or not door.isOwn(name):
                self._misses(request, route)
                return
            found = door.registry.prefix(head.target)
            if found is None:
                self._answer(request, door.site.page(head), self._access(head))
                return
            route, target = found
            prefix = str(route.place.name)
        elif self._agent is not None and route.agent != self._agent and name != self.visitor.hostname:
            self._misses(request, route)
            return
        self._lead(request, route, target, prefix)

    def _hostOf(self, text: str | None) -> str:
        """The name or address that requests are for; empty where it is none."""
        if text is None:  # HTTP/1.0 may do without
            return self.visitor.hostname or self._door.publicHost
        try:
            return hostOf(text)
        except ValueError:
            return ""

    def _misses(self, request: IVisitorRequest, route: Route | None) -> None:
        # A new connection would help, but not where the name is the one of this, and nobody serves it any more.
        if self.isSecure and (route is not None or self._host != self.visitor.hostname):
            refusal = refusalOf(HttpProblem.MISDIRECTED, f"This connection is not for {self._host}: make another one.")
        elif not self._host:
            refusal = refusalOf(HttpProblem.BAD_REQUEST, "A request names one host, and this one does not.")
        else:
            former = self._door.registry.former(self._host)
            if former is not None and former.kind == "http" and former.isGone:
                refusal = refusalOf(HttpProblem.AGENT_GONE, f"Nobody serves {self._host} here. Its agent is gone.")
            else:
                refusal = refusalOf(HttpProblem.NO_ROUTE, f"Nobody serves {self._host} here.")
        self._refuse(request, refusal, self._access(request.head))

    def _lead(self, request: IVisitorRequest, route: Route, target: str, prefix: str) -> None:
        door, head, host, isSecure, requestID = self._door, request.head, self.host, self.isSecure, self._requestID
        if self._isTrusted:
            host, isSecure = self._told(head, host, isSecure)
        policy = door.policies.of(route)
        refusal = policy.refusal(head, host, isSecure, door.clock.seconds(), request.length)
        usage = None if refusal is not None else door.visitors.enter(route, host)
        if usage is None:
            if refusal is None:
                details = f"{self._host} has too many visitors at the moment."
                refusal = refusalOf(HttpProblem.UNAVAILABLE, details)
            access = self._access(head)
            access.visitor, access.isSecure, access.route = host, isSecure, str(route.place)
            self._refuse(request, refusal, access)
            return
        fields = forwardedFields(
            head.headers,
            client=self.host,
            proto="https" if self.isSecure else "http",
            host=self._hostText or "",
            port=self._port,
            trusted=self._isTrusted,
            requestID=requestID,
            prefix=prefix,
        )
        if self._hostText is None:  # in HTTP/1.1 there is always one
            fields.append(("host", f"[{self._host}]" if ":" in self._host else self._host))
        forwarded = RequestHead(head.method, target, "1.1", policy.requestFields(fields))
        visit = HttpVisit(door, self, request, forwarded, route, usage, policy, requestID)
        visit.client, visit.isSecure = host, isSecure
        self._exchanges.add(visit)
        if door.begin(visit):
            visit.dial()
        else:
            visit.say(HttpProblem.TOO_MANY_REQUESTS, "Too many of your requests are being answered at the moment.")

    @property
    def _requestID(self) -> str:
        """Of the present request, where no trusted front has named it."""
        return f"{self.visitor.id.decode()}-{self._count}"

    def _told(self, head: RequestHead, host: str, isSecure: bool) -> tuple[str, bool]:
        """Who the visitor is, and whether they came by TLS, as a trusted front says: the nearest who is no front."""
        for each in reversed(head.members("x-forwarded-for")):
            address = nodeAddress(each)
            if address is None:  # somebody whom it does not name, and not itself: it may come where others may not
                host = "unknown"
                break
            host = str(address)
            if not self._door.trusts(Address(address, 0)):
                break
        proto = head.members("x-forwarded-proto")
        return host, proto[-1].lower() == "https" if proto else isSecure

    def _refuse(self, request: IVisitorRequest, refusal: Refusal, access: Access) -> None:
        self._door.visitors.metrics.errors.add(refusal.code)
        access.problem = refusal.code
        headers = (*refusal.headers, ("X-Request-ID", access.id))
        answer = errorAnswer(refusal.status, refusal.code, refusal.details, request.head, headers)
        self._answer(request, answer, access)

    def _answer(self, request: IVisitorRequest, response: Response, access: Access) -> None:
        access.status, access.down = response.status, reply(request, response)
        self._down += access.down
        self._note(access)

    def _access(self, head: RequestHead | None) -> Access:
        """What is known of a request that leads nowhere."""
        return Access(self._door.wallClock(), self.host, head, isSecure=self.isSecure, id=self._requestID)

    def _note(self, access: Access) -> None:
        """A request is over."""
        self._door.visitors.metrics.requests.add(str(access.status))
        if self._door.accessLog.isOn:
            self._door.accessLog.add(access)

    def refused(self, status: int, details: str, head: RequestHead | None) -> Response:
        """What came is no proper request."""
        turnedAway(DOOR, self.host, details)
        problem = HttpProblem.of(status)
        answer = errorAnswer(status, problem, details, head)
        for visit in self._exchanges:
            if visit.request.head is head:  # its body is what is wrong, and it is about to end
                visit.status, visit.problem = status, problem
                visit.down += len(answer.body)
                return answer
        self._count += 1
        access = self._access(head)
        access.status, access.problem, access.down = status, problem, len(answer.body)
        self._note(access)
        return answer

    def cancelled(self, request: IVisitorRequest) -> None:
        """A request was taken back: its dial is given up."""
        for visit in tuple(self._exchanges):
            if visit.request is request:
                visit.visitorLost("The visitor took the request back.")

    def connectionEnded(self) -> None:
        """The connection is over, or is a relay's now."""
        for visit in tuple(self._exchanges):
            if not visit.isRelay:  # it may be dialling, and hears of its visitor only after that
                visit.visitorLost("The visitor went away.")
        self._hasEnded = True
        self._leave()

    # -- For visits

    @property
    def pools(self) -> WeakKeyDictionary[Replica, Pool]:
        """The connections to origins that are for this visitor alone."""
        if self._pools is None:
            self._pools = WeakKeyDictionary()
        return self._pools

    def exchangeEnded(self, visit: HttpVisit, cause: str) -> None:
        """A request is over."""
        door = self._door
        self._exchanges.discard(visit)
        door.over(visit)
        self._up += visit.up
        self._down += visit.down
        door.visitors.metrics.requests.add(str(visit.status))
        log = door.accessLog
        if log.isOn:
            self._record(log, visit, cause)
        if self._hasEnded:
            self._leave()

    def _record(self, log: AccessLog, visit: HttpVisit, cause: str) -> None:
        door = self._door
        began, seconds = visit.began, door.clock.seconds() - visit.began
        session = visit.session
        log.add(
            Access(
                started=door.wallClock() - seconds,
                visitor=visit.client,
                head=visit.request.head,
                status=visit.status,
                up=visit.up,
                down=visit.down,
                seconds=seconds,
                firstByte=None if visit.responded is None else visit.responded - began,
                dial=None if visit.reached is None else visit.reached - began,
                isSecure=visit.isSecure,
                user=visit.policy.user(visit.request.head),
                id=visit.id,
                route=str(visit.route.place),
                agent=visit.route.agent,
                replica="" if session is None else session.replica,
                problem=visit.problem,
                cause="" if cause == DONE or visit.problem else cause,
            )
        )

    def _leave(self) -> None:
        if self._exchanges:
            return
        if self._pools is not None:
            for pool in self._pools.values():
                pool.close()
        visitors = self._door.visitors
        visitors.metrics.bytes.add("up", self._up)
        visitors.metrics.bytes.add("down", self._down)
        self._ticket.release()
        visitors.over(self)

    # -- IVisit

    def drain(self) -> None:
        self.protocol.drain()

    def end(self, cause: str) -> None:
        for visit in tuple(self._exchanges):
            visit.cutOff(cause)
        self.protocol.close()
