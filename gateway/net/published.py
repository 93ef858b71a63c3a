"""
The streams of a gateway's visitors as connections of ordinary server factories.

An agent that is a program of its own relays each stream to an origin. Here the origin is in the same process: a factory
of Twisted's, whose protocols get the streams themselves, and the visitors' own addresses::

    streams = PublishedStreams(clock)           # the visitors' factory of a session
    web = streams.add("web", site)              # site.buildProtocol(IPv4Address("TCP", "192.0.2.1", 40000))
    streams.remove("web")                       # takes no more of them; web.visits are those who are still there
"""

__all__ = ["Published", "PublishedStreams", "VisitorTransport"]

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from gateway.net.incoming import OK, PREAMBLE_TIMEOUT, StreamBeginning
from gateway.net.peek import become
from gateway.wire.preamble import Answer, Preamble, StreamError
from gateway.wire.proxyheader import Address


class VisitorTransport:
    """
    A stream with the addresses of its visitor: theirs, and the one that they came to.

    @ivar protocol: may be exchanged for another one, as programs do that switch to WebSockets.
    """

    __slots__ = ("__provides__", "_host", "_peer", "_stream", "_visit")

    def __init__(self, visit: "_Visit", peer: IAddress, host: IAddress) -> None:
        self._visit = visit
        self._stream = visit.transport
        self._peer = peer
        self._host = host
        directlyProvides(self, providedBy(self._stream))

    def getPeer(self) -> IAddress:
        """The visitor's address."""
        return self._peer

    def getHost(self) -> IAddress:
        """The gateway's address that they came to."""
        return self._host

    @property
    def protocol(self) -> IProtocol | None:
        return self._visit.protocol

    @protocol.setter
    def protocol(self, protocol: IProtocol) -> None:
        self._visit.turnInto(protocol)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _address(told: Address | bytes | None, otherwise: IAddress) -> IAddress:
    if not isinstance(told, Address):
        return otherwise  # of a UNIX socket, or not known
    kind = IPv4Address if told.host.version == 4 else IPv6Address
    return kind("TCP", str(told.host), told.port)


class _Visit(StreamBeginning):
    """
    One stream, until it becomes a protocol of its service's.

    @ivar protocol: what it became.
    """

    _log = Logger()

    def __init__(self, streams: "PublishedStreams") -> None:
        super().__init__(streams.clock, streams.timeout)
        self.protocol: IProtocol | None = None
        self._streams = streams
        self._published: Published | None = None

    def take(self, preamble: Preamble, rest: bytes) -> None:
        published = self._streams.services.get(preamble.to) if isinstance(preamble.to, str) else None
        if published is None:
            self.refuse(Answer(ok=False, code=StreamError.UNKNOWN_SERVICE, details="There is no such service here."))
            return
        stream, header = self.transport, preamble.header
        peer = _address(header.source, stream.getPeer())
        try:
            protocol = published.factory.buildProtocol(peer)
        except Exception:  # of the application's
            self._log.failure("a service's factory failed", event="gateway.defect")
            protocol = None
        if protocol is None:
            details = "The service does not take the connection."
            self.refuse(Answer(ok=False, code=StreamError.CONNECTION_REFUSED, details=details))
            return
        self._published = published
        published.visits.add(self)
        self.turnInto(protocol)
        stream.write(OK)
        transport = VisitorTransport(self, peer, _address(header.destination, stream.getHost()))
        protocol.makeConnection(transport)  # type: ignore[arg-type]  # it provides what the stream provides
        if rest:
            protocol.dataReceived(rest)

    def turnInto(self, protocol: IProtocol) -> None:
        """Let a protocol have the stream."""
        self.protocol = protocol
        become(self, protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        try:
            if self.protocol is not None:
                self.protocol.connectionLost(reason)
        finally:
            if self._published is not None:
                self._published.visits.discard(self)
                self._published.left()


@dataclass(slots=True)
class Published:
    """
    A service that is there for visitors.

    @ivar visits: those whose streams are open.
    @ivar left: called each time that one of them is gone.
    """

    factory: IProtocolFactory
    visits: set[_Visit] = field(default_factory=set)
    left: Callable[[], object] = lambda: None

    def abort(self) -> None:
        """Cut off whoever is left."""
        for visit in tuple(self.visits):
            visit.transport.abortConnection()


class PublishedStreams(ServerFactory):
    """
    Gives each stream to the factory of the service that its preamble names.

    @param timeout: seconds for the preamble.
    @ivar services: by their keys.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, timeout: float = PREAMBLE_TIMEOUT) -> None:
        self.clock = clock
        self.timeout = timeout
        self.services: dict[str, Published] = {}

    def add(self, key: str, factory: IProtocolFactory) -> Published:
        """
        Take the visitors of a service, which is a new one.
        """
        assert key not in self.services, key
        self.services[key] = published = Published(factory)
        factory.doStart()
        return published

    def remove(self, key: str) -> None:
        """Take no more visitors of a service. Those who are there stay."""
        self.services.pop(key).factory.doStop()

    def buildProtocol(self, address: IAddress | None) -> Protocol:
        return _Visit(self)
