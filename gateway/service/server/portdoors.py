"""
The TCP and UDP ports that agents ask for: opened when one does, and closed when the last of its replicas is gone.

A port is opened while the agent waits, so that its answer tells whether it worked::

    doors = PortDoors(reactor, visitors, interfaces=["0.0.0.0"], isOurs=isOurs)
    registry = Registry(PortRules(), doors)
    doors.open(route)       # or PortUnavailable
"""

__all__ = ["IReactorPorts", "PortDoors"]

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocol, IReactorFDSet, IReactorTCP, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from gateway.domain.access import EVERYBODY, AccessRules
from gateway.domain.addresses import IPNetwork
from gateway.domain.registry import IDoors, PortUnavailable
from gateway.domain.routes import Place, Route
from gateway.net.udp import DATAGRAM_FLOWS, DatagramCounts
from gateway.service.server.arrivals import Arrivals
from gateway.service.server.attached import Visitor
from gateway.service.server.udpdoor import UdpDoor
from gateway.service.server.visitors import Visitors

BACKLOG = 1024
"""Connections that the kernel may hold for us."""


class IReactorPorts(IReactorTCP, IReactorTime, IReactorFDSet):
    """What the doors need of a reactor."""


class _TcpPort:
    """
    One place, and whom its visitors are for.

    @ivar route: C{None}: nobody, at the moment.
    """

    isBusy = False  # visitors who are in need no port

    def __init__(self, doors: "PortDoors", route: Route) -> None:
        self.route: Route | None = route
        self.ports: list[IListeningPort] = []
        self._doors = doors
        self.arrivals = Arrivals(self._arrive, clock=doors.reactor, proxies=doors.proxies, timeout=doors.timeout)

    def _arrive(self, visitor: Visitor) -> IProtocol | None:
        if self.route is None:
            return None
        visitors = self._doors.visitors
        ticket = visitors.admit(visitor.host, self._doors.access, "port")
        if ticket is None:
            return None
        visit = visitors.visit(self.route, visitor, ticket)
        if visit is None:
            ticket.release()
        return visit

    def listen(self) -> None:
        """
        @raise PortUnavailable: one of the interfaces does not let us.
        """
        assert self.route is not None
        number = self.route.place.name
        assert isinstance(number, int)
        for interface in self._doors.interfaces:
            try:
                port = self._doors.reactor.listenTCP(number, self.arrivals, BACKLOG, interface)
            except (CannotListenError, OSError) as e:  # the latter when another socket is bound, and listens first
                self.stop()
                problem = e.socketError if isinstance(e, CannotListenError) else e
                raise PortUnavailable(str(getattr(problem, "strerror", None) or problem)) from None
            self.ports.append(port)

    def stop(self) -> Deferred[Any]:
        """Listen no more."""
        ports, self.ports = self.ports, []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)


@implementer(IDoors)
class PortDoors:
    """
    @param interfaces: addresses of this machine to open each port on.
    @param isOurs: whether the gateway itself listens on a port, or goes by a name.
    @param timeout: seconds for a PROXY header.
    @param flows: visitors at once of a UDP port, on each interface.
    @ivar datagrams: what happened to those of all UDP ports.
    @ivar access: who may come.
    @ivar proxies: who must send a PROXY header, at ports that are opened from now on.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorPorts,
        visitors: Visitors,
        *,
        interfaces: Sequence[str],
        isOurs: Callable[[Place], bool],
        access: AccessRules = EVERYBODY,
        proxies: Sequence[IPNetwork] = (),
        timeout: float = 5.0,
        flows: int = DATAGRAM_FLOWS,
    ) -> None:
        self.reactor = reactor
        self.visitors = visitors
        self.interfaces = interfaces
        self.access = access
        self.proxies = proxies
        self.timeout = timeout
        self.datagrams = DatagramCounts()
        self._flows = flows
        self._isOurs = isOurs
        self._ports: dict[Place, _TcpPort | UdpDoor] = {}

    def isOurs(self, place: Place) -> bool:
        return self._isOurs(place)

    def open(self, route: Route) -> None:
        port = self._ports.get(route.place)
        if port is not None:
            port.route = route  # it was about to be closed
        else:
            port = self._udpDoor(route) if route.place.kind == "udp" else _TcpPort(self, route)
            port.listen()
            self._ports[route.place] = port
        self._tell("opened", route)

    def _udpDoor(self, route: Route) -> UdpDoor:
        return UdpDoor(
            self.reactor,
            self.visitors,
            route,
            interfaces=self.interfaces,
            admit=lambda host: self.visitors.admit(host, self.access, "port", isDatagram=True),
            flows=self._flows,
            counts=self.datagrams,
            emptied=lambda: self._closeUnused(route.place),
        )

    def close(self, route: Route) -> None:
        # A listening socket is closed in the reactor's next turn, and somebody may ask for the port before.
        port = self._ports[route.place]
        port.route = None
        self._tell("closed", route)
        self.reactor.callLater(0, self._closeUnused, route.place)

    def _closeUnused(self, place: Place) -> None:
        port = self._ports.get(place)
        if port is not None and port.route is None and not port.isBusy:
            del self._ports[place]
            port.stop()

    def _tell(self, what: str, route: Route) -> None:
        self._log.info(
            "{place} {what} for the agent {agent}",
            event="gateway.port",
            place=str(route.place),
            what=what,
            agent=route.agent,
        )

    def stop(self) -> Deferred[Any]:
        """Take no more visitors."""
        return gatherResults([maybeDeferred(port.stop) for port in self._ports.values()], consumeErrors=True)
