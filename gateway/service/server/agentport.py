"""
The TLS port for agents alone, where a client certificate may prove whose a carrier is::

    port = AgentPort(reactor, agents, certificates, publicHost="gw.example")
    endpoint.listen(Arrivals(port.arrive, clock=reactor))

What a carrier is for is agreed on in its TLS handshake. Agents that agree on nothing speak another dialect, which is
go-tunnel's where its agents are taken.
"""

__all__ = ["AgentPort"]

from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from gateway.domain.limits import Ticket
from gateway.net.handshake import Handshake
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import Visitor
from gateway.service.server.certificates import CARRIER, Certificates
from gateway.service.server.turnedaway import turnedAway


class AgentPort:
    """
    @param publicHost: whose certificate is shown; empty: the first.
    @param otherDialect: makes the protocol of a carrier that agreed on none, from the agent's address and its ticket;
        C{None} drops it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        agents: AgentDoor,
        certificates: Certificates,
        *,
        publicHost: str = "",
        timeout: float = 10.0,
        otherDialect: Callable[[str, Ticket], IProtocol] | None = None,
    ) -> None:
        self.clock = clock
        self.agents = agents
        self.certificates = certificates
        self.publicHost = publicHost
        self.timeout = timeout
        self.otherDialect = otherDialect

    def arrive(self, source: Visitor) -> IProtocol | None:
        """
        A carrier has come.

        @return: C{None} to drop it.
        """
        tls = self.certificates.find(self.publicHost, CARRIER, clients=True) or self.certificates.find(
            "", CARRIER, clients=True
        )
        ticket = None if tls is None else self.agents.admit(source.host)
        if tls is None or ticket is None:
            return None
        return tls.protocol(tls, _AgentHandshake(self, source.host, ticket))


class _AgentHandshake(Handshake):
    """One carrier, until its TLS handshake is over."""

    def __init__(self, port: AgentPort, host: str, ticket: Ticket) -> None:
        refused = partial(turnedAway, "agents", host)
        super().__init__(self._take, refused, clock=port.clock, timeout=port.timeout)
        self._port = port
        self._host = host
        self._ticket = ticket

    def _take(self, tls: TLSMemoryBIOProtocol) -> IProtocol | None:
        certificate = tls.getPeerCertificate()
        fingerprint = None if certificate is None else certificate.digest("sha256").decode().replace(":", "").lower()
        if tls.negotiatedProtocol in CARRIER:
            return self._port.agents.arrive(self._host, "tls", certificate=fingerprint, ticket=self._ticket)
        if self._port.otherDialect is not None:
            return self._port.otherDialect(self._host, self._ticket)
        turnedAway("agents", self._host, "it agreed on no protocol that is spoken here")
        return None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._ticket.release()
