"""
HTTP, as far as a tunnel needs it: the first request's Host says where a connection leads, and from there on its bytes
are the origin's::

    door = HostDoor(reactor, registry, visitors, site)
    factory = Arrivals(door.arrive, clock=reactor)               # the plain port
    protocol = door.peek(visitor, ticket, agent="alice")         # inside of TLS for one of her names

Later requests of a connection are not looked at. They reach the agent that the first one reached, whatever Host they
name; so a name is no border between the services of one agent.
"""

__all__ = ["HostDoor", "hostOf"]

from dataclasses import replace

from twisted.internet.interfaces import IProtocol, IReactorTime

from gateway.domain.access import EVERYBODY, AccessRules
from gateway.domain.addresses import normaliseHost, parseAddress
from gateway.domain.limits import Ticket
from gateway.domain.registry import Registry
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.peek import TLS_HANDSHAKE, Peek
from gateway.service.pages import errorPage
from gateway.service.server.attached import Visitor
from gateway.service.server.farewell import Farewell
from gateway.service.server.site import Site
from gateway.service.server.turnedaway import turnedAway
from gateway.service.server.visitors import Visitors
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, parseRequestHead

DOOR = "http"
"""What metrics and logs call it."""

MAX_HEAD = 16 * 1024
"""Bytes of the first request's head."""

_STATUS = {DialFailure.TIMEOUT: 504, DialFailure.UNAVAILABLE: 503}


def hostOf(head: RequestHead) -> str | None:
    """The name or address that a request is for; C{None} when it does not properly say."""
    values = head.all("host")
    if len(values) != 1 or not values[0].isascii() or not head.target.startswith(("/", "*")):
        return None  # what is not ASCII would be a name to us, and another one or none to an origin
    host, colon, port = values[0].rpartition(":")
    if not colon or port.endswith("]"):
        host = values[0]
    elif not port.isdigit():
        return None
    try:
        return normaliseHost(host)
    except ValueError:
        return None


class HostDoor:
    """
    @param site: what is at the gateway's own name, and at addresses, on the plain port.
    @param publicHost: the gateway's own name.
    @param headTimeout: seconds for the head of the first request.
    @ivar access: who may come to the plain port.
    """

    def __init__(
        self,
        clock: IReactorTime,
        registry: Registry,
        visitors: Visitors,
        site: Site,
        *,
        publicHost: str = "",
        headTimeout: float = 10.0,
        access: AccessRules = EVERYBODY,
    ) -> None:
        self.clock = clock
        self.registry = registry
        self.visitors = visitors
        self.site = site
        self.publicHost = publicHost
        self.headTimeout = headTimeout
        self.access = access

    def arrive(self, visitor: Visitor) -> IProtocol | None:
        """
        A visitor has come to the plain port.

        @return: C{None} to drop the connection.
        """
        ticket = self.visitors.admit(visitor.host, self.access, DOOR)
        return None if ticket is None else self.peek(visitor, ticket)

    def peek(self, visitor: Visitor, ticket: Ticket, agent: str | None = None) -> IProtocol:
        """
        @param agent: whose names alone are meant, as TLS for one of them was ended before; C{None}: any agent's.
        """
        return _HostVisit(self, visitor, ticket, agent).peek


class _HostVisit:
    """One connection, until its first request is there."""

    def __init__(self, door: HostDoor, visitor: Visitor, ticket: Ticket, agent: str | None) -> None:
        self._door = door
        self._visitor = visitor
        self._ticket = ticket
        self._agent = agent
        self.peek = Peek(
            self._decide, self._refused, clock=door.clock, limit=MAX_HEAD, timeout=door.headTimeout, lost=ticket.release
        )

    def _refused(self, problem: str | Exception) -> None:
        turnedAway(DOOR, self._visitor.host, problem)

    def _decide(self, data: bytes) -> IProtocol | None:
        if data[0] == TLS_HANDSHAKE:
            raise RemoteProtocolError("tls-on-plain-port", "TLS on a port without")
        try:
            head = parseRequestHead(data, MAX_HEAD)
        except RemoteProtocolError as e:
            return self._answer(431 if e.code == "head-too-large" else 400, e.details)
        return None if head is None else self._lead(head)

    def _answer(self, status: int, details: str, head: RequestHead | None = None) -> IProtocol:
        self._refused(details)
        return Farewell(_page(status, details, head), self._door.clock)

    def _lead(self, head: RequestHead) -> IProtocol:
        door = self._door
        name = hostOf(head)
        if name is None:
            return self._answer(400, "A request names one host, and this one does not.", head)
        if self._agent is None and (name == door.publicHost or parseAddress(name)):
            return door.site.arrive(self._visitor, self._ticket, takesAgents=False)
        route = door.registry.host(name)
        if self._agent is not None and (route is None or route.agent != self._agent):
            return self._answer(421, f"This connection is not for {name}: make another one.", head)
        if route is None or route.service.kind != "http":
            return self._answer(404, f"Nobody serves {name} here.", head)
        visitor = replace(self._visitor, hostname=name)

        def refusal(error: DialFailed) -> bytes:
            return _page(_STATUS.get(error.kind, 502), error.details, head)

        visit = door.visitors.visit(route, visitor, self._ticket, refusal=refusal)
        return visit or self._answer(503, f"{name} has too many visitors at the moment.", head)


def _page(status: int, details: str, head: RequestHead | None) -> bytes:
    return errorPage(status, details).encode(withBody=head is None or head.method != "HEAD")
