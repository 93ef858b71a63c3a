"""
The TLS port where agents of go-tunnel's come in::

    port = GoTunnelPort(reactor, agents, certificates, dialect)
    endpoint.listen(Arrivals(port.arrive, clock=reactor))

An agent of theirs names its first tunnel's host as the server's, and expects that in the certificate; so the
certificate is chosen by the name. There is nothing that they agree on (ALPN), so whoever agrees on our own protocol is
one of ours.
"""

__all__ = ["GoTunnelPort"]

from functools import partial

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from gateway.domain.limits import Ticket
from gateway.net.handshake import Handshake
from gateway.net.peek import Peek
from gateway.service.gotunnel.door import GoTunnelDialect
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import Visitor
from gateway.service.server.certificates import CARRIER, Certificates
from gateway.service.server.farewell import Farewell
from gateway.service.server.turnedaway import turnedAway
from gateway.wire.clienthello import LIMIT, Alert, ClientHelloReader, HelloRefused, alert


class GoTunnelPort:
    """
    @param dialect: of carriers that agree on nothing.
    @param otherwise: whose certificate is shown for names that have none; empty: the first.
    """

    def __init__(
        self,
        clock: IReactorTime,
        agents: AgentDoor,
        certificates: Certificates,
        dialect: GoTunnelDialect,
        *,
        otherwise: str = "",
        helloTimeout: float = 5.0,
        handshakeTimeout: float = 10.0,
    ) -> None:
        self.clock = clock
        self.agents = agents
        self.certificates = certificates
        self.dialect = dialect
        self.otherwise = otherwise
        self.helloTimeout = helloTimeout
        self.handshakeTimeout = handshakeTimeout

    def arrive(self, source: Visitor) -> IProtocol | None:
        """
        A carrier has come.

        @return: C{None} to drop it.
        """
        ticket = self.agents.admit(source.host)
        return None if ticket is None else _Greeting(self, source.host, ticket).peek


class _Greeting:
    """One carrier, until its TLS handshake is over."""

    def __init__(self, port: GoTunnelPort, host: str, ticket: Ticket) -> None:
        self._port = port
        self._host = host
        self._ticket = ticket
        self._reader = ClientHelloReader()
        self._refused = partial(turnedAway, "tunnel", host)
        self.peek = Peek(
            self._decide, self._refused, clock=port.clock, limit=LIMIT, timeout=port.helloTimeout, lost=ticket.release
        )

    def _decide(self, data: bytes) -> IProtocol | None:
        port = self._port
        try:
            hello = self._reader.read(data)
        except HelloRefused as e:
            self._refused(e.details)
            return Farewell(e.alert, port.clock)
        if hello is None:
            return None
        tls = self._certificate(hello.serverName)
        if tls is None:
            self._refused("there is no certificate")
            return Farewell(alert(Alert.INTERNAL_ERROR), port.clock)
        return tls.protocol(tls, Handshake(self._take, self._refused, clock=port.clock, timeout=port.handshakeTimeout))

    def _certificate(self, name: str | None) -> TLSMemoryBIOFactory | None:
        find = self._port.certificates.find
        for each in (name, self._port.otherwise):
            if each and (tls := find(each, CARRIER)):
                return tls
        return find("", CARRIER)

    def _take(self, tls: TLSMemoryBIOProtocol) -> IProtocol | None:
        if tls.negotiatedProtocol in CARRIER:
            return self._port.agents.arrive(self._host, "tls", ticket=self._ticket)
        return self._port.dialect.arrive(self._host, self._ticket)
