"""
Reaching a target: a name to addresses, addresses to a connection, a failure to a sentence.

Resolving and connecting are two steps here, unlike in Twisted's endpoints, because what may be dialled is decided
between them: the address that was checked is the address that is connected to::

    addresses = await resolve(reactor, "db.internal")
    endpoint = AddressesEndpoint(reactor, allowed(addresses), 5432)
    protocol = await endpoint.connect(factory)      # in their order, each with a head start (RFC 8305)
"""

__all__ = ["AddressesEndpoint", "DialFailed", "DialFailure", "IPAddress", "IReactorDial", "resolve"]

from collections.abc import Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address as TCP6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

IPAddress = IPv4Address | IPv6Address


class IReactorDial(IReactorTCP, IReactorTime, IReactorPluggableNameResolver):
    """What dialling needs of a reactor."""


class DialFailure(StrEnum):
    """The kinds of a failed dial."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NAME = "name-not-found"
    DENIED = "denied"
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
            return cls(DialFailure.REFUSED, "The target refused the connection.")
        if isinstance(error, DNSLookupError):
            return cls(DialFailure.NAME, "The target's name could not be resolved.")
        if isinstance(error, TimeoutError | TCPTimedOutError):
            return cls(DialFailure.TIMEOUT, "The target did not answer in time.")
        if isinstance(error, CancelledError | ConnectingCancelledError):
            return cls(DialFailure.CANCELLED, "The attempt was cancelled.")
        if isinstance(error, ConnectError):
            reason = str(error.args[0] if error.args else "") or type(error).__name__
            return cls(DialFailure.UNREACHABLE, f"The target cannot be reached: {reason}.")
        return cls(DialFailure.OTHER, f"The target cannot be reached ({type(error).__name__}).")


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
    @param host: a name or an address literal.
    @return: its addresses in the system's order, at least one; fails with L{DialFailed} (C{NAME}). May be cancelled.
    """
    try:
        return succeed([ip_address(host)])
    except ValueError:
        pass
    collector = _Collector(host)
    reactor.nameResolver.resolveHostName(collector, host)
    return collector.done


class _Checked:
    """
    A reactor's dialling, with a resolver that knows one answer: the addresses that were checked.
    """

    def __init__(self, reactor: IReactorDial, addresses: Sequence[IPAddress]) -> None:
        # Of a reactor that does not say so, HostnameEndpoint ignores the resolver and asks the system's.
        directlyProvides(self, IReactorPluggableNameResolver)
        self._addresses = addresses
        self.nameResolver = self
        self.connectTCP = reactor.connectTCP
        self.callLater = reactor.callLater
        self.seconds = reactor.seconds

    def resolveHostName(
        self, receiver: IResolutionReceiver, hostName: str, portNumber: int, *args: object, **kwargs: object
    ) -> None:
        """What L{HostnameEndpoint} calls."""
        receiver.resolutionBegan(None)  # type: ignore[arg-type]  # nothing is under way that could be cancelled
        for address in self._addresses:
            if isinstance(address, IPv4Address):
                receiver.addressResolved(TCP4Address("TCP", str(address), portNumber))
            else:
                receiver.addressResolved(TCP6Address("TCP", str(address), portNumber))
        receiver.resolutionComplete()


@implementer(IStreamClientEndpoint)
class AddressesEndpoint:
    """
    Connects to one of several addresses of one target by TCP, the next being tried while the one before still
    hesitates (RFC 8305, section 5).

    @param addresses: at least one, in the order in which to try them.
    @param timeout: seconds for each address.
    """

    def __init__(
        self, reactor: IReactorDial, addresses: Sequence[IPAddress], port: int, *, timeout: float = 20.0
    ) -> None:
        self._endpoint: IStreamClientEndpoint
        if len(addresses) == 1:
            literal = TCP4ClientEndpoint if isinstance(addresses[0], IPv4Address) else TCP6ClientEndpoint
            self._endpoint = literal(reactor, str(addresses[0]), port, timeout=timeout)
        else:
            # The name is never looked up; it only has to be one.
            checked = _Checked(reactor, addresses)
            self._endpoint = HostnameEndpoint(checked, b"target.invalid", port, timeout=timeout)

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._endpoint.connect(factory)
