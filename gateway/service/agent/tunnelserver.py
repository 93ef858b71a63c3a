"""
Any service of Twisted's, published through a gateway: its visitors come through the tunnel as if to a port of its own.

All that a program publishes at one gateway under one name shares one attachment, as two of the same name would evict
each other::

    tunnel = ServerTunnel(reactor, carrierEndpoint(reactor, link), introduce)
    port = tunnel.publish(Service(key="app", kind="http", hostnames=("app.example.com",)), site)
    await port.stopListening()                  # when the visitors who are there have left

The attachment is an agent's, so it is made again whenever it is lost. What becomes of a service at the gateway is told
in the log: a name that another agent has is no reason to stop serving the others.
"""

__all__ = ["ServerTunnel", "TunnelAddress", "TunnelPort"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.task import deferLater
from zope.interface import implementer

from gateway.net.published import Published, PublishedStreams
from gateway.service.agent.client import AgentClient
from gateway.service.draining import Vacancy
from gateway.wire.agentcontrol import Register, Service

DRAIN = 10.0
"""Seconds that visitors have to end when their service is stopped."""


@implementer(IAddress)
@dataclass(frozen=True, slots=True)
class TunnelAddress:
    """
    Where a service is published.

    @ivar key: the service's.
    @ivar url: where visitors reach it, as the gateway says; empty as long as it says nothing, or does not serve it.
    """

    key: str
    url: str


@implementer(IListeningPort)
class TunnelPort:
    """
    One published service.

    @ivar drain: seconds that visitors have to end when it is stopped.
    """

    def __init__(self, tunnel: "ServerTunnel", service: Service, published: Published, drain: float) -> None:
        self.service = service
        self.drain = drain
        self._tunnel = tunnel
        self._published = published
        self._vacancy = Vacancy(published.visits)
        published.left = self._vacancy.left

    def startListening(self) -> None:
        """
        @raise CannotListenError: always, as after C{stopListening} the endpoint has to listen anew.
        """
        raise CannotListenError(self.service.key, self.service.port, "listen anew")

    def stopListening(self) -> Deferred[None]:
        """
        Take no more visitors.

        @return: fires when those who are there have left, or were cut off because time was up.
        """
        gone = self._vacancy.awaited()
        timer = self._tunnel.clock.callLater(self.drain, self._published.abort)
        gone.addCallback(lambda _: timer.cancel() if timer.active() else None)
        # Not at once: the session may end in the middle of what it received, and the reactor, once all ports have
        # stopped, closes its connection.
        stopped = gatherResults([gone, self._tunnel.withdraw(self)])
        return stopped.addCallback(lambda _: deferLater(self._tunnel.clock, 0))

    def getHost(self) -> TunnelAddress:
        """Where it is published."""
        status = self._tunnel.client.statuses.get(self.service.key)
        return TunnelAddress(self.service.key, "" if status is None else status.address)


class ServerTunnel:
    """
    What one program publishes at one gateway.

    @param introduce: as for L{AgentClient}.
    @param gateway: for the log.
    @param ended: called when the last service is withdrawn; the tunnel is not used again then.
    """

    def __init__(
        self,
        clock: IReactorTime,
        carrier: IStreamClientEndpoint,
        introduce: Callable[[], Register],
        *,
        gateway: str = "the gateway",
        ended: Callable[[], object] = lambda: None,
        **options: Any,
    ) -> None:
        self.clock = clock
        self._ended = ended
        self._ports: dict[str, TunnelPort] = {}
        self._streams = PublishedStreams(clock)
        self.client = AgentClient(clock, carrier, introduce, self._streams, gateway=gateway, **options)

    def publish(self, service: Service, factory: IProtocolFactory, *, drain: float = DRAIN) -> TunnelPort:
        """
        Serve this from now on, as soon as the gateway is reached and as long as it is.

        @param drain: seconds that visitors have to end when it is stopped.
        @raise CannotListenError: a service with its key is published already.
        """
        if service.key in self._ports:
            raise CannotListenError(service.key, service.port, "a service of that name is published already")
        isFirst = not self._ports
        self._ports[service.key] = port = TunnelPort(self, service, self._streams.add(service.key, factory), drain)
        self._offer()
        if isFirst:
            self.client.start()
        return port

    def withdraw(self, port: TunnelPort) -> Deferred[None]:
        """
        Serve this no more.

        @return: fires when that is settled: for the last one, when the attachment is gone.
        """
        if self._ports.pop(port.service.key, None) is None:
            return succeed(None)
        self._streams.remove(port.service.key)
        if self._ports:
            self._offer()
            return succeed(None)
        self._ended()
        return self.client.drain(port.drain)

    def _offer(self) -> None:
        self.client.offer(tuple(port.service for port in self._ports.values()))
