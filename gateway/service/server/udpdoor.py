"""
A UDP port of an agent's: each visitor's address and port is a visit, which is over when nothing has come for a while.

What comes first from an address decides about all that follows: whether it is let in, and to which replica it goes::

    door = UdpDoor(reactor, visitors, route, interfaces=["0.0.0.0"], admit=admit, emptied=closeUnused)
    door.listen()           # or PortUnavailable
    door.route = None       # nobody new; visits that there are go on
    door.stop()             # and with the last of them the port is closed

Nothing goes out that the origin did not send, so a forged address costs us a stream, and its owner nothing.
"""

__all__ = ["UdpDoor"]

from collections.abc import Callable, Sequence
from dataclasses import replace

from twisted.internet.interfaces import IProtocol, IReactorFDSet

from gateway.domain.limits import Ticket
from gateway.domain.registry import PortUnavailable
from gateway.domain.routes import Route
from gateway.net.udp import DatagramCounts, DatagramFlow
from gateway.net.udpport import DatagramPort
from gateway.service.server.arrivals import endOf
from gateway.service.server.attached import Visitor
from gateway.service.server.visitors import Visitors


class UdpDoor:
    """
    One place.

    @param admit: takes a visitor's address; C{None} turns it away.
    @param flows: visitors at once, on each interface.
    @param emptied: told when the last visit is over.
    @ivar route: whom new visitors are for; C{None}: nobody, at the moment.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        visitors: Visitors,
        route: Route,
        *,
        interfaces: Sequence[str],
        admit: Callable[[str], Ticket | None],
        flows: int,
        counts: DatagramCounts,
        emptied: Callable[[], None],
    ) -> None:
        self.route: Route | None = route
        self._reactor = reactor
        self._visitors = visitors
        self._interfaces = interfaces
        self._admit = admit
        self._flows = flows
        self._counts = counts
        self._emptied = emptied
        self._ports: list[DatagramPort] = []

    @property
    def isBusy(self) -> bool:
        """Whether there are visits."""
        return any(port.flowCount for port in self._ports)

    def listen(self) -> None:
        """
        @raise PortUnavailable: one of the interfaces does not let us.
        """
        assert self.route is not None
        number = self.route.place.name
        assert isinstance(number, int)
        for interface in self._interfaces:
            try:
                port = DatagramPort(
                    self._reactor,
                    interface,
                    number,
                    self._arrive,
                    limit=self._flows,
                    isIPv6Only="0.0.0.0" in self._interfaces,  # noqa: S104  # only a look
                    counts=self._counts,
                    emptied=self._emptied,
                )
            except OSError as e:
                self.stop()
                raise PortUnavailable(e.strerror or str(e)) from None
            self._ports.append(port)

    def stop(self) -> None:
        """Take no more visitors; the port is closed when those that there are have gone."""
        for port in self._ports:
            port.stopListening()

    def _arrive(self, flow: DatagramFlow) -> IProtocol | None:
        if self.route is None:
            return None
        visitor = Visitor(endOf(flow.getPeer()), endOf(flow.getHost()), isDatagram=True)
        ticket = self._admit(visitor.host)
        if ticket is None:
            return None
        settings = replace(self._visitors.settings, idleTimeout=self._visitors.datagramIdle)
        visit = self._visitors.visit(self.route, visitor, ticket, settings=settings)
        if visit is None:
            ticket.release()
        return visit
