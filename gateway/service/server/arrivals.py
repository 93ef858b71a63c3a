"""
Connections to the doors for streams: who they are from, and who may speak for whom.

A visitor is who connects, unless that is a listed proxy; then its PROXY header says who it is, and must come first and
in time. From everybody else a header is not read: those bytes are the visitor's, for whoever is behind the door::

    factory = Arrivals(door.arrive, clock=reactor, proxies=[ip_network("10.0.0.0/8")])
    endpoint.listen(factory)

A header that says nothing of a visitor (C{LOCAL}, C{UNKNOWN}) is for a health check of the proxy's own, which is then
the visitor.
"""

__all__ = ["Arrivals", "endOf"]

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime, ISystemHandle, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.domain.addresses import IPNetwork, parseAddress
from gateway.net.dial import tune
from gateway.net.interfaces import IStreamTransport
from gateway.net.peek import become
from gateway.net.timer import Timer
from gateway.service.server.attached import Visitor
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.proxyheader import Address, ProxyHeader, parse


def endOf(address: IAddress | None) -> Address | None:
    """An address of Twisted's; C{None} for what is not on the Internet."""
    host = parseAddress(str(getattr(address, "host", "")).partition("%")[0])
    if host is None:
        return None
    return Address(getattr(host, "ipv4_mapped", None) or host, int(getattr(address, "port", 0)))


@dataclass(eq=False, slots=True)
class Arrivals(ServerFactory):
    """
    The factory of one port.

    @ivar arrive: makes the protocol of a visitor's connection; C{None} drops it.
    @ivar proxies: who must send a PROXY header; may be replaced.
    @ivar timeout: seconds for all of it.
    """

    arrive: Callable[[Visitor], IProtocol | None]
    clock: IReactorTime = field(kw_only=True)
    proxies: Sequence[IPNetwork] = field(default=(), kw_only=True)
    timeout: float = field(default=5.0, kw_only=True)

    noisy = False

    def isProxy(self, source: Address | None) -> bool:
        """Whether an address is a listed proxy's."""
        return source is not None and any(source.host in network for network in self.proxies)

    def buildProtocol(self, address: IAddress | None) -> "_Arrival":
        return _Arrival(self)


class _Arrival(Protocol):
    """Is on a connection until it is known whose it is, and becomes the door's protocol."""

    transport: IStreamTransport
    _log = Logger()

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._received = b""
        self._chosen: IProtocol | None = None
        self._over = False
        self._deadline = Timer(arrivals.clock)

    def connectionMade(self) -> None:
        if ISystemHandle.providedBy(self.transport) and ITCPTransport.providedBy(self.transport):
            tune(cast(socket.socket, self.transport.getHandle()))
        self._peer = Visitor(endOf(self.transport.getPeer()), endOf(self.transport.getHost()))
        if self._arrivals.isProxy(self._peer.source):
            self._deadline.start(self._arrivals.timeout, self._late)
        else:
            self._become(self._peer, b"")

    def _late(self) -> None:
        self._refuse(f"no PROXY header within {self._arrivals.timeout:g} seconds")

    def _refuse(self, problem: str) -> None:
        self._deadline.stop()
        self._over = True
        self._log.warn(
            "a connection from the proxy {peer} is refused: {problem}",
            event="door.proxy-refused",
            peer=self._peer.host,
            problem=problem,
        )
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._received += data
        try:
            found = parse(self._received)
        except RemoteProtocolError as e:
            self._refuse(e.details)
            return
        if found is not None:
            header, size = found
            self._deadline.stop()
            self._become(self._told(header), self._received[size:])

    def _told(self, header: ProxyHeader) -> Visitor:
        if isinstance(header.source, Address) and isinstance(header.destination, Address):
            return Visitor(header.source, header.destination)
        return self._peer

    def _become(self, visitor: Visitor, data: bytes) -> None:
        self._chosen = chosen = self._arrivals.arrive(visitor)
        if chosen is None:
            self._over = True
            self.transport.abortConnection()
            return
        become(self, chosen)
        chosen.makeConnection(self.transport)
        if data:
            chosen.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.stop()
        if self._chosen is not None:
            self._chosen.connectionLost(reason)
