"""
All doors of a gateway in memory, with real agents behind them, for the tests of what visitors meet::

    doors = Doors()
    doors.attached("box", WEB)
    visitor = doors.come(doors.http.arrive)         # a Peer on a connection to the plain port
    visitor.transport.write(b"GET / HTTP/1.1\\r\\nHost: app.example.com\\r\\n\\r\\n")
    doors.pump()
    origin = doors.originAccepts()
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator, IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from gateway.domain.limits import Admission
from gateway.net.budget import StallBudget
from gateway.net.httpsettings import HttpSettings
from gateway.net.relay import RelaySettings
from gateway.service.metrics import Metrics
from gateway.service.server.agentport import AgentPort
from gateway.service.server.arrivals import Arrivals
from gateway.service.server.attached import Visitor
from gateway.service.server.certificates import Certificates
from gateway.service.server.httpdoor import HttpDoor
from gateway.service.server.settings import CertificateFilesPaths
from gateway.service.server.site import Site
from gateway.service.server.tlsdoor import TlsDoor, TlsDoorSettings
from gateway.service.server.usage import RouteLimits
from gateway.service.server.visitors import Visitors
from gateway.testing import flowPair
from gateway.wire.agentcontrol import Service
from tests.certificates import makeAuthority
from tests.net.sides import Peer
from tests.service.tunnelfixture import Tunnel

OWN = "gw.example"

WEB = Service(key="web", kind="http", hostnames=("app.example.com",))
PASSED = Service(key="passed", kind="tls", hostnames=("tls.example.com",))
ENDED = Service(key="ended", kind="tls", tls="terminate", hostnames=("raw.example.com",))
SSH = Service(key="ssh", kind="tcp", port=2222)


@cache
def certificateFiles() -> tuple[CertificateFilesPaths, ...]:
    """A certificate for the gateway, one for one name, and one for the names around it."""
    authority = makeAuthority("Doors")
    entries = []
    for names in ([OWN], ["app.example.com"], ["*.example.com"]):
        paths = authority.issue(*names).write(tempfile.mkdtemp())
        entries.append(CertificateFilesPaths(tuple(names), *paths))
    return tuple(entries)


@implementer(IOpenSSLClientConnectionCreator)
@dataclass
class TLSClient:
    """A client that names a server and offers protocols, and believes everything."""

    name: str | None
    protocols: Sequence[bytes] = ()
    credential: tuple[str, str] | None = None

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if self.protocols:
            context.set_alpn_protos(list(self.protocols))
        if self.credential is not None:
            context.use_certificate_file(self.credential[0])
            context.use_privatekey_file(self.credential[1])
        connection = SSL.Connection(context, None)
        if self.name is not None:
            connection.set_tlsext_host_name(self.name.encode())
        return connection


@implementer(IHandshakeListener)
class TLSPeer(Peer):
    """
    A visitor inside of TLS.

    @ivar isShaken: the handshake is done.
    """

    isShaken = False

    def handshakeCompleted(self) -> None:
        self.isShaken = True

    @property
    def serverName(self) -> str:
        """The name in the certificate that was shown."""
        return str(self.transport.getPeerCertificate().get_subject().CN)


def wrapped(peer: IProtocol, client: TLSClient, clock: Clock) -> IProtocol:
    """A protocol that speaks TLS, with a peer inside."""
    factory = TLSMemoryBIOFactory(client, True, Factory(), clock)
    return factory.protocol(factory, peer)


class Doors(Tunnel):
    """
    One gateway and its doors.

    @param limits: of the visitors' L{Admission}.
    """

    def __init__(
        self, *, limits: dict[str, Any] | None = None, routeLimits: RouteLimits | None = None, **options: Any
    ) -> None:
        self._limits = limits or {}
        self._routeLimits = routeLimits or RouteLimits()
        super().__init__(**options)

    def startGateway(self) -> None:
        super().startGateway()
        self.metrics = Metrics()
        self.admission = Admission(0.0, **self._limits)
        self.visitors = Visitors(
            self.clock,
            admission=self.admission,
            settings=RelaySettings(),
            limits=self._routeLimits,
            budget=StallBudget(),
            metrics=self.metrics,
        )
        self.certificates = Certificates(certificateFiles(), clock=self.clock)
        self.site = Site(self.clock, self.door, path="/agent")
        self.http = HttpDoor(
            self.clock, self.registry, self.visitors, self.site, publicHost=OWN, settings=HttpSettings()
        )
        self.tls = TlsDoor(
            self.clock,
            self.registry,
            self.visitors,
            self.certificates,
            self.door,
            self.http,
            settings=TlsDoorSettings(publicHost=OWN),
        )
        self.agentPort = AgentPort(self.clock, self.door, self.certificates, publicHost=OWN)

    def come(
        self,
        arrive: Callable[[Visitor], IProtocol | None],
        protocol: IProtocol | None = None,
        *,
        chunkSize: int | None = None,
        **options: Any,
    ) -> Peer:
        """
        Somebody connects to a door.

        @param protocol: theirs; a new L{Peer} by default, which is what is returned then.
        @param options: of L{Arrivals}.
        """
        peer = Peer()
        arrival = Arrivals(arrive, clock=self.clock, **options).buildProtocol(None)
        self.links.append(flowPair(protocol or peer, arrival, chunkSize=chunkSize))
        self.pump()
        return peer

    def comeTLS(
        self,
        name: str | None,
        *protocols: bytes,
        arrive: Callable[[Visitor], IProtocol | None] | None = None,
        credential: tuple[str, str] | None = None,
        **options: Any,
    ) -> TLSPeer:
        """A visitor with TLS comes to the TLS port, or to another door."""
        peer = TLSPeer()
        self.come(
            arrive or self.tls.arrive, wrapped(peer, TLSClient(name, protocols, credential), self.clock), **options
        )
        return peer


def clientHello(name: str | None) -> bytes:
    """What a visitor's TLS begins with."""
    connection = TLSClient(name).clientConnectionForTLS(None)  # type: ignore[arg-type]  # not looked at
    connection.set_connect_state()
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)
