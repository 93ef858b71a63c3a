"""
The HTTP door: each request of a visitor's is led where its Host says, or its path.

A connection may carry requests for many names, in HTTP/1.1 or HTTP/2, on the plain port or inside of TLS that ended
here. At the gateway's own name, paths lead to services that have a prefix, and the rest is the gateway's L{Site}::

    door = HttpDoor(reactor, registry, visitors, site, settings=HttpSettings())
    factory = Arrivals(door.arrive, clock=reactor)                      # the plain port
    protocol = door.serve(visitor, ticket, agent="alice")               # inside of TLS for one of her names

TLS for a name of one agent is not for those of another, as the two may be told apart by it: such a request is
misdirected (RFC 9110, section 15.5.20), and a client that meant well tries again on a connection of its own. For the
name itself the connection is good whoever serves it by then, or if nobody does and a page says so.
"""

__all__ = ["HttpDoor"]

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet.interfaces import IProtocol, IReactorTime
from zope.interface import implementer

from gateway.domain.access import EVERYBODY, AccessRules
from gateway.domain.addresses import IPNetwork, parseAddress
from gateway.domain.httppolicy import HttpDefaults, RoutePolicies
from gateway.domain.limits import Ticket, addressKey
from gateway.domain.registry import Registry
from gateway.domain.routes import Replica
from gateway.net.http2pool import Http2OriginPool
from gateway.net.httppool import OriginPool
from gateway.net.httpsettings import HttpSettings
from gateway.net.peek import Peek
from gateway.net.sweep import ISwept, Sweep
from gateway.service.server.accesslog import AccessLog
from gateway.service.server.attached import IAgentSession, Visitor
from gateway.service.server.httpconnection import DOOR, HTTP2, HttpConnection
from gateway.service.server.httpvisit import HttpVisit, OriginPools, Pool
from gateway.service.server.site import Site
from gateway.service.server.turnedaway import turnedAway
from gateway.service.server.visitors import Visitors
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, parseRequestHead
from gateway.wire.proxyheader import Address


@implementer(ISwept)
class HttpDoor:
    """
    @param site: what is at the gateway's own name, and at addresses, besides services with a prefix.
    @param publicHost: the gateway's own name.
    @ivar access: who may come to the plain port.
    @ivar trusted: networks of fronts whose word on who the visitor is counts.
    @ivar settings: of connections that come from now on.
    @ivar policies: what is done for each route.
    @ivar accessLog: told of every request, if it is on.
    @ivar perAddress: requests at once of one address; 0: no limit.
    @ivar exchanges: that are going on.
    """

    def __init__(
        self,
        clock: IReactorTime,
        registry: Registry,
        visitors: Visitors,
        site: Site,
        *,
        publicHost: str = "",
        settings: HttpSettings,
        access: AccessRules = EVERYBODY,
        trusted: Sequence[IPNetwork] = (),
        defaults: HttpDefaults | None = None,
        accessLog: AccessLog | None = None,
        perAddress: int = 0,
        wallClock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.registry = registry
        self.visitors = visitors
        self.site = site
        self.publicHost = publicHost
        self.settings = settings
        self.access = access
        self.trusted = trusted
        self.policies = RoutePolicies(defaults)
        self.accessLog = AccessLog(clock) if accessLog is None else accessLog
        self.wallClock = wallClock
        self.perAddress = perAddress
        self.exchanges: set[HttpVisit] = set()
        self._ofAddress: Counter[str] = Counter()
        self.sweep = Sweep(clock)
        self.pools = OriginPools(self._pool, self.sweep)

    def arrive(self, visitor: Visitor) -> IProtocol | None:
        """
        A visitor has come to the plain port.

        @return: C{None} to drop the connection.
        """
        isFront = self.trusts(visitor.source)
        ticket = self.visitors.admit(visitor.host, self.access, DOOR, isFront=isFront)
        return None if ticket is None else self.serve(visitor, ticket, isSecure=False)

    def serve(
        self, visitor: Visitor, ticket: Ticket, *, isSecure: bool = True, agent: str | None = None, isOwn: bool = False
    ) -> IProtocol:
        """
        Serve a connection.

        @param isSecure: inside of TLS, whose C{alpn} and server name the visitor has.
        @param agent: whose names alone are meant, and the one that TLS ended here for; empty: that one alone; C{None}:
            any agent's.
        @param isOwn: TLS for the gateway's own name ended here, and that alone is meant.
        """
        isSite = isOwn or (agent is None and self.site.isEverywhere)
        if not isSite or visitor.alpn == HTTP2:
            return HttpConnection(self, visitor, ticket, isSecure, agent, isOwn).protocol

        # A WebSocket of the site's own is another protocol from its first byte on.
        def decide(data: bytes) -> IProtocol | None:
            try:
                head = parseRequestHead(data, self.settings.headLimit)
            except RemoteProtocolError:
                head = _UNREADABLE
            if head is None:
                return None
            if self.site.takes(head):
                return self.site.arrive(head.path, visitor, ticket)
            return HttpConnection(self, visitor, ticket, isSecure, None, isOwn).protocol

        return Peek(
            decide,
            lambda problem: turnedAway(DOOR, visitor.host, problem),
            clock=self.clock,
            limit=self.settings.headLimit + 1,
            timeout=self.settings.headTimeout,
            lost=ticket.release,
        )

    def _pool(self, replica: Replica, visitor: Visitor) -> Pool:
        # Not the replica: its pool goes with it.
        session, service = cast(IAgentSession, replica.attachment), replica.service
        isHttp2 = service.http is not None and service.http.protocol == "h2c"
        make = Http2OriginPool if isHttp2 else OriginPool
        return make(lambda: session.endpointFor(service, visitor), settings=self.settings, sweep=self.sweep)

    def isOwn(self, name: str) -> bool:
        """Whether a name that is no agent's, or an address, is the gateway's own."""
        return name == self.publicHost or parseAddress(name) is not None or (self.site.isEverywhere and bool(name))

    def trusts(self, source: Address | None) -> bool:
        """Whether an address is a trusted front's."""
        return bool(self.trusted) and source is not None and any(source.host in each for each in self.trusted)

    def check(self, now: float) -> None:
        """See whether an origin takes too long."""
        for visit in tuple(self.exchanges):
            visit.check(now)
        if not self.exchanges:
            self.sweep.forget(self)

    def begin(self, visit: HttpVisit) -> bool:
        """
        A request leads somewhere.

        @return: whether its visitor's address may have one more.
        """
        key = addressKey(visit.client)
        if self.perAddress and self._ofAddress[key] >= self.perAddress:
            return False
        self._ofAddress[key] += 1
        if not self.exchanges:
            self.sweep.watch(self)
        self.exchanges.add(visit)
        return True

    def over(self, visit: HttpVisit) -> None:
        """A request is over, which may not have begun."""
        if visit in self.exchanges:
            self.exchanges.discard(visit)
            key = addressKey(visit.client)
            self._ofAddress[key] -= 1
            if not self._ofAddress[key]:
                del self._ofAddress[key]

    def use(self, settings: HttpSettings) -> None:
        """Connections that come from now on, and those to origins, are to have these limits."""
        if settings != self.settings:
            self.settings = settings
            self.pools.renew()

    def drain(self) -> None:
        """The gateway is about to stop: connections to origins that nobody uses are closed."""
        self.pools.close()


_UNREADABLE = RequestHead("GET", "*", "1.0", [])
"""Stands for what the connection itself will find fault with."""
