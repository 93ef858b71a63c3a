"""
Where a visitor's stream can lead: to a route's agents, and by name to what is behind one::

    relay.connect(RouteEndpoint(route, visitor, clock))         # whoever serves the route
    relay.connect(destinations.endpointFor(target, visitor))    # ssh.box.agent, box.agent:22, db.via.box.agent:5432
    relay.connect(destinations.publicEndpoint(name, visitor))   # app.example.com, if an agent serves it

A name that ends in C{.agent} is no name of the Internet's. C{SERVICE.AGENT.agent} is one of an agent's services,
whatever the port; C{AGENT.agent} is the agent's own machine; and C{HOST.via.AGENT.agent} is a host that the agent can
reach. For the last two the agent has rules of its own. An IPv6 address is no part of a name, so as C{HOST} it is
written as its eight groups of four digits, with hyphens between them.
"""

__all__ = ["AGENTS", "AgentTarget", "Destinations", "RouteEndpoint", "parseAgentTarget", "viaName"]

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from zope.interface import implementer

from gateway.domain.addresses import normaliseHost, parseAddress
from gateway.domain.registry import Registry
from gateway.domain.routes import Replica, Route
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.net.interfaces import IEarlyData, IEarlyEndpoint
from gateway.service.server.attached import IAgentSession, Visitor
from gateway.wire.preamble import Target as StreamTarget

AGENTS = ".agent"
"""What the names of agents end in."""

_VIA = ".via"
_HERE = "127.0.0.1"
_GROUPS = re.compile(r"[0-9a-f]{4}(?:-[0-9a-f]{4}){7}")

ATTEMPTS = 2
"""Replicas that one visitor's stream is tried with."""

PATIENCE = 5.0
"""Seconds after which a replica that has said nothing, and was given up, counts as one that failed."""


def _connect(
    endpoint: IStreamClientEndpoint, factory: IProtocolFactory, early: IEarlyData | None
) -> Deferred[IProtocol]:
    if early is not None and IEarlyEndpoint.providedBy(endpoint):
        connecting: Deferred[IProtocol] = endpoint.connectEarly(factory, early)
        return connecting
    return endpoint.connect(factory)


@implementer(IEarlyEndpoint)
class RouteEndpoint:
    """
    Reaches the origin of a route through one of its agents; through another one when that fails.

    An agent that says that it could not reach its origin has given nothing of the visitor's to anybody, so another may
    try. One that is gone before it said anything may have: then bytes that were sent are never sent twice.

    @param chosen: told who serves the visitor, each time that somebody is tried.
    """

    def __init__(
        self,
        route: Route,
        visitor: Visitor,
        clock: IReactorTime,
        chosen: Callable[[Replica], None] = lambda replica: None,
    ) -> None:
        self._route = route
        self._visitor = visitor
        self._clock = clock
        self._chosen = chosen

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled; fails with L{DialFailed}.
        """
        return Deferred.fromCoroutine(self._try(factory, None))

    def connectEarly(self, factory: IProtocolFactory, early: IEarlyData) -> Deferred[IProtocol]:
        """The same; each that is tried gets what came early from the beginning."""
        return Deferred.fromCoroutine(self._try(factory, early))

    async def _try(self, factory: IProtocolFactory, early: IEarlyData | None) -> IProtocol:
        tried: set[Replica] = set()
        problem = DialFailed(DialFailure.UNAVAILABLE, f"Nobody serves {self._route.place} at the moment.")
        while len(tried) < ATTEMPTS and (replica := self._route.choose(self._clock.seconds(), tried)) is not None:
            tried.add(replica)
            self._chosen(replica)
            began = self._clock.seconds()
            session = cast(IAgentSession, replica.attachment)
            try:
                protocol = await _connect(session.endpointFor(replica.service, self._visitor), factory, early)
            except CancelledError:  # time was up, or the visitor's patience
                if self._clock.seconds() - began >= PATIENCE:
                    replica.failed(self._clock.seconds())
                raise
            except Exception as e:  # whatever an endpoint fails with
                problem = e if isinstance(e, DialFailed) else DialFailed(DialFailure.UNAVAILABLE, "The agent is gone.")
                replica.failed(self._clock.seconds())
                if problem.kind is DialFailure.GONE and early is not None and early.size:
                    break
            else:
                replica.worked()
                return protocol
        raise problem


@dataclass(frozen=True, slots=True)
class AgentTarget:
    """
    What a name that ends in C{.agent} means.

    @ivar service: the key of one of the agent's services; C{None} for a target behind it.
    @ivar target: what the agent dials; C{None} for a service.
    """

    agent: str
    service: str | None = None
    target: Target | None = None


def parseAgentTarget(target: Target | StreamTarget) -> AgentTarget | None:
    """
    @param target: with a port of 0 where the name says it all.
    @return: C{None} for a name that does not end in C{.agent}.
    @raise ValueError: it does, and means nothing; with a sentence that says so.
    """
    if not target.host.endswith(AGENTS):
        return None
    before, dot, agent = target.host.removesuffix(AGENTS).rpartition(".")
    if not dot:
        return AgentTarget(agent, target=Target(_HERE, target.port))
    if before.endswith(_VIA):
        host = before.removesuffix(_VIA)
        if _GROUPS.fullmatch(host):
            host = normaliseHost(host.replace("-", ":"))
        return AgentTarget(agent, target=Target(host, target.port))
    if "." in before:
        raise ValueError(f"The name {target.host} is neither SERVICE.AGENT.agent nor HOST.via.AGENT.agent.")
    return AgentTarget(agent, service=before)


def viaName(host: str, agent: str) -> str:
    """
    @param host: as L{normaliseHost<gateway.domain.addresses.normaliseHost>} returns it.
    @return: the name of a host that an agent can reach.
    """
    address = parseAddress(host)
    if isinstance(address, IPv6Address):
        host = address.exploded.replace(":", "-")
    return f"{host}{_VIA}.{agent}{AGENTS}"


def _nowhere(details: str) -> IStreamClientEndpoint:
    return FailingEndpoint(DialFailed(DialFailure.NAME, details))


class Destinations:
    """
    The names that lead to agents.
    """

    def __init__(self, registry: Registry, clock: IReactorTime) -> None:
        self._registry = registry
        self._clock = clock

    def isHere(self, agent: str) -> bool:
        """Whether an agent has a session."""
        return bool(self._registry.replicas(agent))

    def endpointFor(self, target: Target | StreamTarget, visitor: Visitor) -> IStreamClientEndpoint | None:
        """
        @return: C{None} for a target that is not an agent's: dial it directly.
        """
        try:
            wanted = parseAgentTarget(target)
        except ValueError as e:
            return _nowhere(str(e))
        if wanted is None:
            return None
        sessions = cast(Iterable[IAgentSession], self._registry.replicas(wanted.agent))
        replicas = sorted(sessions, key=lambda each: (not each.takesTargets, each.load))
        if not replicas:
            return _nowhere(f"There is no agent {wanted.agent} here.")
        if wanted.target is not None:
            return replicas[0].targetEndpoint(wanted.target, replace(visitor, hostname=None))
        for replica in replicas:
            for route in map(self._registry.routes.get, self._registry.placesOf(replica)):
                if route is not None and route.replicas[replica].service.key == wanted.service:
                    return self._routeEndpoint(route, visitor)
        return _nowhere(f"The agent {wanted.agent} serves nothing that is called {wanted.service}.")

    def publicEndpoint(self, name: str, visitor: Visitor) -> IStreamClientEndpoint:
        """
        @param name: under which visitors of the public ports reach an agent's service.
        """
        route = self._registry.host(name)
        if route is None:
            return _nowhere(f"Nobody serves the name {name} here.")
        return self._routeEndpoint(route, visitor)

    def _routeEndpoint(self, route: Route, visitor: Visitor) -> IStreamClientEndpoint:
        if (route.place.kind == "udp") is not visitor.isDatagram:
            return _nowhere(f"The {route.place} is {'not ' if visitor.isDatagram else ''}for datagrams.")
        return RouteEndpoint(route, visitor, self._clock)
