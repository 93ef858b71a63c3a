"""
Reaching a target: a name to addresses, addresses to a connection, a failure to a sentence.

Resolving and connecting are two steps here, unlike in Twisted's endpoints, because what may be dialled is decided
between them: the address that was checked is the address that is connected to::

    addresses = await resolve(reactor, "db.internal")
    endpoint = AddressesEndpoint(reactor, allowed(addresses), 5432)
    protocol = await endpoint.connect(factory)      # in their order, each with a head start (RFC 8305)
"""

__all__ = [
    "AddressesEndpoint",
    "DialFailed",
    "DialFailure",
    "FailingEndpoint",
    "HostEndpoint",
    "IPAddress",
    "IReactorDial",
    "Prepared",
    "limitDial",
    "resolve",
    "tune",
]

import socket
from collections.abc import Callable, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import zip_longest
from typing import cast

from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address as TCP6Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    NoProtocol,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
    ISystemHandle,
    ITransport,
)
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.peek import become
from gateway.net.timer import Timer

IPAddress = IPv4Address | IPv6Address

HEAD_START = 0.25
"""Seconds for which an address is tried alone (RFC 8305, section 8)."""

MAX_ADDRESSES = 8
"""Addresses of one target that are tried: a name may have a thousand, and would make one request a scan."""

_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 20), (socket.TCP_KEEPCNT, 3))
"""Seconds of silence before TCP probes a target, seconds between probes, and probes unanswered that end it."""


class IReactorDial(IReactorTCP, IReactorTime, IReactorPluggableNameResolver):
    """What dialling needs of a reactor."""


class DialFailure(StrEnum):
    """
    The kinds of a failed dial.

    An agent is C{UNAVAILABLE} when it took no stream. It is C{GONE} when it took one and never said what became of it:
    then nobody knows whether an origin has seen any of the bytes.
    """

    TIMEOUT = "timeout"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NAME = "name-not-found"
    DENIED = "denied"
    UNAVAILABLE = "agent-unavailable"
    GONE = "agent-gone"
    CANCELLED = "cancelled"
    OTHER = "other"


class DialFailed(Exception):
    """
    The far side could not be reached.

    @ivar kind: for the door to choose its own error.
    @ivar details: a sentence for a person.
    """

    def __init__(self, kind: DialFailure, details: str) -> None:
        super().__init__(kind, details)
        self.kind = kind
        self.details = details

    @classmethod
    def fromFailure(cls, failure: Failure) -> "DialFailed":
        """Translate what an endpoint's C{connect} failed with."""
        error = failure.value
        if isinstance(error, DialFailed):
            return error
        if isinstance(error, ConnectionRefusedError):
            return cls(DialFailure.REFUSED, "The connection was refused.")
        if isinstance(error, DNSLookupError):
            return cls(DialFailure.NAME, "The name could not be resolved.")
        if isinstance(error, TimeoutError | TCPTimedOutError):
            return cls(DialFailure.TIMEOUT, "There was no answer in time.")
        if isinstance(error, CancelledError | ConnectingCancelledError):
            return cls(DialFailure.CANCELLED, "The attempt was cancelled.")
        if isinstance(error, ConnectError):
            reason = str(error.args[0] if error.args else "") or type(error).__name__
            return cls(DialFailure.UNREACHABLE, f"No connection could be made: {reason}.")
        return cls(DialFailure.OTHER, f"No connection could be made ({type(error).__name__}).")


def limitDial(dial: Deferred[IProtocol], seconds: float, clock: IReactorTime) -> None:
    """
    Cancel a dial that takes longer. It fails with L{DialFailed} (C{TIMEOUT}) then.

    @param dial: what C{connect} returned.
    """
    dial.addTimeout(seconds, clock, onTimeoutCancel=_tooSlow)


def _tooSlow(result: object, seconds: float) -> object:
    # What was cancelled may have its own word for it; what connected in spite of it is connected.
    if isinstance(result, Failure) and result.check(CancelledError, ConnectingCancelledError, DialFailed):
        raise DialFailed(DialFailure.TIMEOUT, f"There was no answer within {seconds:g} seconds.")
    return result


@implementer(IResolutionReceiver)
class _Collector:
    """Gathers the addresses of one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.addresses: list[IPAddress] = []
        self.done: Deferred[list[IPAddress]] = Deferred()

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """Nothing to remember: it cannot be cancelled where it matters, in the resolver's thread."""

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, TCP4Address | TCP6Address):
            found = ip_address(address.host.partition("%")[0])
            if found not in self.addresses:
                self.addresses.append(found)

    def resolutionComplete(self) -> None:
        # When it was cancelled meanwhile, the Deferred takes no notice.
        if self.addresses:
            self.done.callback(self.addresses)
        else:
            self.done.errback(DialFailed(DialFailure.NAME, f"The name {self.name} could not be resolved."))


def resolve(reactor: IReactorDial, host: str) -> Deferred[list[IPAddress]]:
    """
    @param host: an address literal, or a name whose labels a resolver can take: normalise it first.
    @return: its addresses in the system's order, at least one; fails with L{DialFailed} (C{NAME}). May be cancelled.
    """
    try:
        return succeed([ip_address(host)])
    except ValueError:
        pass
    collector = _Collector(host)
    reactor.nameResolver.resolveHostName(collector, host)
    return collector.done


class Prepared(ClientFactory):
    """
    Gives a connection the protocol that was made for it.
    """

    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, address: IAddress | None) -> IProtocol:  # type: ignore[override]  # not a Protocol
        return self._protocol


class _Arrival(Protocol):
    """
    Is on a connection when it is made, and becomes the protocol that the connection is for.
    """

    def __init__(self, protocol: IProtocol, made: Callable[[IProtocol], None]) -> None:
        self._protocol = protocol
        self._made = made

    def makeConnection(self, transport: ITransport) -> None:
        become(self, self._protocol)
        if ISystemHandle.providedBy(transport):
            tune(cast(socket.socket, transport.getHandle()))
        self._protocol.makeConnection(transport)
        self._made(self._protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._protocol.connectionLost(reason)


def tune(connection: socket.socket) -> None:
    """
    Let a keystroke go out without waiting for the answer to the one before, and find a peer that vanished within two
    minutes, where the system's own default is hours.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class _Attempt(ClientFactory):
    """One address of a race."""

    noisy = False

    def __init__(self, race: "_Race") -> None:
        self._race = race
        self._connector: IConnector | None = None

    def startedConnecting(self, connector: IConnector) -> None:
        self._connector = connector

    def stop(self) -> None:
        """Give up."""
        if self._connector is not None:
            self._connector.stopConnecting()

    def buildProtocol(self, address: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # not a Protocol
        return self._race.arrived(self, address)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._race.failed(self, reason)


def _interleave(addresses: Sequence[IPAddress]) -> list[IPAddress]:
    """The same, one of each family in turn, so that a dead family costs one head start (RFC 8305, section 4)."""
    first = [each for each in addresses if each.version == addresses[0].version]
    second = [each for each in addresses if each.version != addresses[0].version]
    pairs = zip_longest(first, second)
    return [each for pair in pairs for each in pair if each is not None]


class _Race:
    """
    One target's addresses, of which the first that connects wins.
    """

    def __init__(
        self,
        reactor: IReactorDial,
        addresses: Sequence[IPAddress],
        port: int,
        factory: IProtocolFactory,
        timeout: float | None,
    ) -> None:
        self._reactor = reactor
        self._addresses = _interleave(addresses)[:MAX_ADDRESSES]
        self._port = port
        self._factory = factory
        self._timeout = timeout
        self._attempts: list[_Attempt] = []
        self._timer = Timer(reactor)
        self._result: Deferred[IProtocol] = Deferred(lambda _: self._stop())

    def start(self) -> Deferred[IProtocol]:
        """Begin with the first address."""
        self._next()
        return self._result

    def _next(self) -> None:
        address = self._addresses.pop(0)
        self._timer.stop()
        if self._addresses:
            self._timer.start(HEAD_START, self._next)
        attempt = _Attempt(self)
        self._attempts.append(attempt)
        self._reactor.connectTCP(str(address), self._port, attempt, self._timeout)  # type: ignore[arg-type]  # None: never

    def _stop(self) -> None:
        self._timer.stop()
        attempts, self._attempts = self._attempts, []
        for attempt in attempts:
            attempt.stop()

    def arrived(self, winner: _Attempt, address: IAddress | None) -> IProtocol | None:
        """An attempt has connected."""
        self._attempts.remove(winner)
        self._stop()
        try:
            protocol = self._factory.buildProtocol(address)  # type: ignore[arg-type]  # None is the interface's too
            if protocol is None:
                raise NoProtocol()
        except Exception:  # whatever a factory raises, the one who waits is told
            self._result.errback(Failure())
            return None
        return _Arrival(protocol, self._result.callback)

    def failed(self, loser: _Attempt, reason: Failure) -> None:
        """An attempt has failed, or was given up."""
        if loser not in self._attempts:
            return
        self._attempts.remove(loser)
        if self._timer.isRunning:
            self._next()
        elif not self._attempts:
            self._result.errback(reason)


@implementer(IStreamClientEndpoint)
class FailingEndpoint:
    """
    Leads nowhere.

    @param error: what every attempt fails with, at once.
    """

    def __init__(self, error: DialFailed) -> None:
        self._error = error

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fails."""
        return fail(self._error)


@implementer(IStreamClientEndpoint)
class AddressesEndpoint:
    """
    Connects to one of several addresses of one target by TCP, the next being tried while the one before still
    hesitates (RFC 8305, section 5).

    Twisted's C{HostnameEndpoint} does that for a name, and would resolve it again; and its endpoints leave a wrapper
    around each protocol, through which every byte goes.

    @param addresses: at least one, in the order in which to try them.
    @param timeout: seconds for each address; C{None}: whoever waits for the whole has a limit.
    """

    def __init__(
        self, reactor: IReactorDial, addresses: Sequence[IPAddress], port: int, *, timeout: float | None = None
    ) -> None:
        self._reactor = reactor
        self._addresses = addresses
        self._port = port
        self._timeout = timeout

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled; fails with what the last of the addresses failed with.
        """
        return _Race(self._reactor, self._addresses, self._port, factory, self._timeout).start()


@implementer(IStreamClientEndpoint)
class HostEndpoint:
    """
    A name or an address, and a port, by TCP. The name is looked up for each connection.

    @param timeout: as for L{AddressesEndpoint}.
    """

    def __init__(self, reactor: IReactorDial, host: str, port: int, *, timeout: float | None = None) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled; fails with L{DialFailed} when there is no such name, or with what TCP fails with.
        """
        return resolve(self._reactor, self._host).addCallback(
            lambda addresses: AddressesEndpoint(self._reactor, addresses, self._port, timeout=self._timeout).connect(
                factory
            )
        )
