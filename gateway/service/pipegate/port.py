"""
The one port of PipeGate's server, for clients and visitors alike: with TLS where there is a certificate, HTTP in it,
and in that the WebSockets of clients::

    http.site = PipeGateSite(reactor, agents, dialect)
    port = PipeGatePort(reactor, http, certificate=files)
    endpoint.listen(Arrivals(port.arrive, clock=reactor))
"""

__all__ = ["DOOR", "PipeGatePort", "PipeGateSite"]

from dataclasses import replace
from functools import partial

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.protocols.tls import TLSMemoryBIOProtocol

from gateway.domain.httppolicy import HttpProblem
from gateway.domain.limits import Ticket
from gateway.net.handshake import Handshake
from gateway.net.peek import TLS_HANDSHAKE, Peek
from gateway.net.tls import CertificateFiles
from gateway.net.tlsserver import TLSServerFactory
from gateway.service.pages import errorPage
from gateway.service.pipegate.dialect import PipeGateDialect
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import Visitor
from gateway.service.server.farewell import Farewell
from gateway.service.server.httpdoor import HttpDoor
from gateway.service.server.httppages import errorAnswer
from gateway.service.server.site import Site
from gateway.service.server.turnedaway import turnedAway
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, Response

DOOR = "pipegate"
"""What logs call it."""


class PipeGateSite(Site):
    """
    What is at all paths, whatever name visitors call the server by: clients, and a page where there is none.
    """

    isEverywhere = True

    def __init__(self, clock: IReactorTime, agents: AgentDoor, dialect: PipeGateDialect) -> None:
        super().__init__(clock, agents)
        self._dialect = dialect

    def owns(self, path: str) -> bool:
        return False

    def takes(self, head: RequestHead) -> bool:
        return self._dialect.takes(head)

    def arrive(self, path: str, visitor: Visitor, ticket: Ticket) -> IProtocol:
        return self._dialect.arrive(visitor, ticket)

    def page(self, head: RequestHead) -> Response:
        """Answer any request."""
        identifier = head.path.split("/")[1] if head.path != "*" else ""
        if head.wantsWebSocket and head.path == f"/{identifier}":
            return errorPage(403, "A client opens a connection of its own, with its token.")
        if identifier:
            details = f"No client is connected for {identifier[:64]}."
            return errorAnswer(502, HttpProblem.AGENT_GONE, details, head)
        return Response(200, b"This is a server for PipeGate's clients, and it is up.\n")


class PipeGatePort:
    """
    @param http: how visitors are served, and clients at its site.
    @param certificate: for TLS; C{None}: there is none.
    """

    def __init__(
        self,
        clock: IReactorTime,
        http: HttpDoor,
        *,
        certificate: CertificateFiles | None = None,
        helloTimeout: float = 5.0,
        handshakeTimeout: float = 10.0,
    ) -> None:
        self.clock = clock
        self.http = http
        self.helloTimeout = helloTimeout
        self.handshakeTimeout = handshakeTimeout
        self._tls = None if certificate is None else TLSServerFactory(certificate, clock=clock)

    def arrive(self, visitor: Visitor) -> IProtocol | None:
        """
        Somebody has come.

        @return: C{None} to drop the connection.
        """
        ticket = self.http.visitors.admit(visitor.host, self.http.access, DOOR)
        if ticket is None:
            return None
        refused = partial(turnedAway, DOOR, visitor.host)
        return Peek(
            lambda data: self._decide(data, visitor, ticket),
            refused,
            clock=self.clock,
            limit=1,
            timeout=self.helloTimeout,
            lost=ticket.release,
        )

    def _decide(self, data: bytes, visitor: Visitor, ticket: Ticket) -> IProtocol | None:
        isTLS = data[0] == TLS_HANDSHAKE
        if self._tls is None:
            if isTLS:
                raise RemoteProtocolError("tls-on-plain-port", "TLS on a port without")
            return self.http.serve(visitor, ticket, isSecure=False)
        refused = partial(turnedAway, DOOR, visitor.host)
        if not isTLS:
            refused("plain HTTP on a TLS port")
            page = errorPage(400, "This port expects TLS: use https or wss.")
            return Farewell(page.encode(), self.clock)

        def take(tls: TLSMemoryBIOProtocol) -> IProtocol:
            return self.http.serve(replace(visitor, alpn=tls.negotiatedProtocol), ticket, isSecure=True)

        handshake = Handshake(take, refused, clock=self.clock, timeout=self.handshakeTimeout)
        return self._tls.protocol(self._tls, handshake)
