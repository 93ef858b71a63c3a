"""
What an agent's visitors are led to: the origins of its services, and targets that its rules allow.

An origin is a program that people want to reach, as the agent sees it: a host and port, or a UNIX socket. It may want
to be told who the visitor is, in a PROXY header before all else; that comes from the stream's preamble. And it may
speak TLS itself, where that of visitors has ended at the gateway::

    origins = Origins(reactor, RelaySettings())
    origins.services = {"web": Origin("http", parseOrigin("127.0.0.1:8080"))}
    IncomingStreams(reactor, origins.decide, ended=report)
"""

__all__ = [
    "IReactorOrigins",
    "Origin",
    "OriginTLS",
    "Origins",
    "ProxyProtocol",
    "originEndpoint",
    "originTLS",
    "parseOrigin",
    "parseOriginURL",
]

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorUNIX, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.addresses import normaliseHost, parsePort
from gateway.domain.targets import ITargetPolicy, Target, parseTarget
from gateway.net.dial import DialFailed, DialFailure, HostEndpoint
from gateway.net.peek import become
from gateway.net.relay import RelaySettings
from gateway.net.tls import CertificateError
from gateway.net.tlsclient import ClientTrust, TLSClientEndpoint, clientConnectionCreator
from gateway.net.tlshandshake import HandshakeEndpoint
from gateway.net.udp import DATAGRAM_IDLE, IReactorDatagrams, UDPEndpoint
from gateway.service.target import TargetEndpoint
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.preamble import Preamble, StreamError
from gateway.wire.proxyheader import ProxyHeader, encodeV1, encodeV2

UNIX = "unix:"
"""What a UNIX socket's path is written after."""

MAX_UNIX_PATH = 107
"""Bytes (unix(7))."""

LOOPBACK = "127.0.0.1"
"""Where an origin is that is written as a port alone."""

ProxyProtocol = Literal["none", "v1", "v2"]
ServiceKind = Literal["tls", "http", "tcp", "udp"]

_PORTS: Mapping[str, Mapping[str, int | None]] = {
    "http": {"http": 80, "https": 443},
    "tcp": {"tls": None},
    "tls": {"tls": None},
    "udp": {},
}
"""The port that is meant without one, by kind and scheme."""


class IReactorOrigins(IReactorDatagrams, IReactorUNIX):
    """What reaching origins needs of a reactor."""


@dataclass(frozen=True, slots=True)
class OriginTLS:
    """
    How TLS with an origin begins.

    @ivar name: the name or address that it proves; a name is what it is asked for, too (SNI).
    @ivar trust: how it proves that.
    """

    name: str
    trust: ClientTrust


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a service leads to.

    @ivar kind: of the service.
    @ivar address: a host and port, or the path of a UNIX socket.
    @ivar connectTimeout: seconds, with those for TLS.
    @ivar tls: C{None}: it gets what comes as it is.
    """

    kind: ServiceKind
    address: Target | str
    proxyProtocol: ProxyProtocol = "none"
    connectTimeout: float = 10.0
    tls: OriginTLS | None = None

    def __str__(self) -> str:
        return UNIX + self.address if isinstance(self.address, str) else str(self.address)


def parseOrigin(text: str, kind: ServiceKind = "tcp") -> Target | str:
    """
    @param text: C{HOST:PORT}, with brackets around an IPv6 address; C{PORT} of this machine; or C{unix:/PATH}.
    @raise ValueError: with a sentence that says what is wrong.
    """
    if re.fullmatch("[0-9]+", text):
        return Target(LOOPBACK, parsePort(text))
    if not text.startswith(UNIX):
        return parseTarget(text)
    path = text.removeprefix(UNIX)
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"The path of a UNIX socket begins with a slash, unlike {path!a:.60}.")
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ValueError(f"The path of a UNIX socket has at most {MAX_UNIX_PATH} bytes.")
    if kind == "udp":
        raise ValueError("A UDP service's origin is HOST:PORT.")
    return path


def parseOriginURL(text: str, kind: ServiceKind) -> tuple[Target | str, bool]:
    """
    @param text: as for L{parseOrigin}; for the kind C{http} also C{http://HOST} and C{https://HOST}, with a port or
        without; for C{tcp} and C{tls} also C{tls://HOST:PORT}.
    @return: where it is, and whether it speaks TLS.
    @raise ValueError: with a sentence that says what is wrong.
    """
    scheme, separator, place = text.partition("://")
    if not separator:
        return parseOrigin(text, kind), False
    scheme, ports = scheme.lower(), _PORTS[kind]
    if scheme not in ports:
        forms = " or ".join(["HOST:PORT", *(f"{each}://HOST:PORT" for each in ports)])
        raise ValueError(f"the origin {text!a:.80} is a URL that does not go with {kind}: write {forms}")
    place = place.removesuffix("/")
    if "/" in place:
        raise ValueError(f"the origin {text!a:.80} has a path: write {scheme}://HOST:PORT")
    return parseTarget(place, ports[scheme]), scheme in ("https", "tls")


def originTLS(address: Target, name: str, authorities: str | None, pin: str | None, *, verify: bool) -> OriginTLS:
    """
    @param address: of the origin.
    @param name: empty: its host.
    @raise ValueError: something cannot be; the text names the key.
    """
    try:
        proven = normaliseHost(name) if name else address.host
    except ValueError as e:
        raise ValueError(f"origin-name: {e}") from None
    try:
        trust = ClientTrust(authorities, pin, verify=verify)
        clientConnectionCreator(proven, trust)  # now, so that a file that cannot be used is noticed
    except (CertificateError, ValueError) as e:
        raise ValueError(f"origin-{'ca' if pin is None else 'pin'}: {e}") from None
    return OriginTLS(proven, trust)


def originEndpoint(reactor: IReactorOrigins, origin: Origin, header: ProxyHeader) -> IStreamClientEndpoint:
    """
    @param header: what the origin may be told of the visitor. It comes before TLS.
    @return: how to connect to an origin once.
    """
    endpoint: IStreamClientEndpoint
    if isinstance(origin.address, str):
        endpoint = UNIXClientEndpoint(reactor, origin.address, timeout=origin.connectTimeout)
    elif origin.kind == "udp":
        before = encodeV2(header) if origin.proxyProtocol == "v2" else b""
        return UDPEndpoint(reactor, origin.address.host, origin.address.port, header=before)
    else:
        endpoint = HostEndpoint(reactor, origin.address.host, origin.address.port)
    match origin.proxyProtocol:
        case "v1":
            endpoint = _HeaderEndpoint(endpoint, encodeV1(header))
        case "v2":
            endpoint = _HeaderEndpoint(endpoint, encodeV2(header))
    if origin.tls is None:
        return endpoint
    isHttp = origin.kind == "http"
    alpn = [b"http/1.1"] if isHttp else []
    tls = TLSClientEndpoint(reactor, endpoint, origin.tls.name, origin.tls.trust, alpn, isFramed=isHttp)
    return HandshakeEndpoint(reactor, tls)


class _Headed(Protocol):
    """Says something when the connection is made, before the protocol that it is for."""

    def __init__(self, protocol: IProtocol, header: bytes) -> None:
        self.protocol = protocol
        self._header = header
        become(self, protocol)  # now: what is beneath looks at this but once

    def makeConnection(self, transport: ITransport) -> None:
        transport.write(self._header)
        self.protocol.makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.protocol.connectionLost(reason)


class _HeadedFactory(ClientFactory):
    """Puts a header before each connection of another factory."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, header: bytes) -> None:
        self._factory = factory
        self._header = header

    def buildProtocol(self, address: object) -> _Headed | None:
        protocol = self._factory.buildProtocol(address)  # type: ignore[arg-type]  # None is the interface's too
        return None if protocol is None else _Headed(protocol, self._header)


@implementer(IStreamClientEndpoint)
class _HeaderEndpoint:
    """Connects as another endpoint does, and sends a header first."""

    def __init__(self, inner: IStreamClientEndpoint, header: bytes) -> None:
        self._inner = inner
        self._header = header

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: as the inner endpoint's.
        """
        connecting = self._inner.connect(_HeadedFactory(factory, self._header))
        return connecting.addCallback(lambda headed: cast(_Headed, headed).protocol)


class Origins:
    """
    Decides where streams lead.

    @param settings: of the relays. Each service has a dial timeout of its own.
    @param datagramIdle: seconds without a datagram after which a visit by UDP ends.
    @ivar services: the origins by the keys of their services; may be exchanged at any time.
    @ivar policy: which targets may be named; C{None}: none. May be exchanged, too.
    """

    def __init__(
        self, reactor: IReactorOrigins, settings: RelaySettings, *, datagramIdle: float = DATAGRAM_IDLE
    ) -> None:
        self.services: Mapping[str, Origin] = {}
        self.policy: ITargetPolicy | None = None
        self.settings = settings
        self._reactor = reactor
        self._datagramIdle = datagramIdle

    def decide(self, preamble: Preamble) -> tuple[IStreamClientEndpoint, RelaySettings]:
        """
        @raise RemoteProtocolError: C{unknown-service}.
        @raise DialFailed: the target is none, or may not be reached.
        """
        if isinstance(preamble.to, str):
            origin = self.services.get(preamble.to)
            if origin is None:
                raise RemoteProtocolError(StreamError.UNKNOWN_SERVICE, "The agent has no service of that name.")
            settings = replace(self.settings, dialTimeout=origin.connectTimeout)
            if origin.kind == "udp":
                settings = replace(settings, idleTimeout=self._datagramIdle)
            return originEndpoint(self._reactor, origin, preamble.header), settings
        if self.policy is None:
            raise DialFailed(DialFailure.DENIED, "This agent lets nobody name targets.")
        try:
            target = Target(normaliseHost(preamble.to.host), preamble.to.port)
        except ValueError as e:
            raise DialFailed(DialFailure.DENIED, str(e)) from None
        return TargetEndpoint(self._reactor, target, self.policy), self.settings
