"""
One agent of our own dialect, from its registration to its end; the gateway's side::

    session = AgentSession(door, mux, control, register, identity, peer="192.0.2.7", carrier="tls")
    relay.connect(session.endpointFor(service, visitor))
"""

__all__ = ["AgentSession"]

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from gateway.domain.agents import AgentIdentity
from gateway.domain.registry import Problem
from gateway.domain.routes import Place
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.net.incoming import readAnswer
from gateway.net.mux import MuxEndpoint, MuxSession
from gateway.net.opening import OpeningEndpoint
from gateway.service.server.attached import IClient, Visitor
from gateway.service.server.identifiedsession import IdentifiedSession
from gateway.wire.agentcontrol import (
    Ack,
    Drain,
    Message,
    Ping,
    Pong,
    Refused,
    Register,
    Service,
    ServiceError,
    ServiceStatus,
    Update,
)
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.preamble import Preamble, StreamError, encodePreamble
from gateway.wire.preamble import Target as StreamTarget

if TYPE_CHECKING:
    from gateway.service.server.agentdoor import AgentDoor


@implementer(IClient)
class AgentSession(IdentifiedSession):
    """
    An agent that is attached.

    @param send: writes a message on the control stream.
    @param peer: the agent's address.
    @param carrier: what its session runs on, for people.
    """

    _log = Logger()

    def __init__(
        self,
        door: "AgentDoor",
        mux: MuxSession,
        send: Callable[[Message], None],
        register: Register,
        identity: AgentIdentity,
        *,
        peer: str,
        carrier: str,
    ) -> None:
        self._mux = mux
        self._send = send
        self._services: Sequence[Service] = ()
        self._request = 0
        self._statuses: frozenset[ServiceStatus] = frozenset()
        self._hasLeft = False
        super().__init__(door, identity, register.replica, peer=peer, carrier=carrier, software=register.software)
        self.takesTargets = register.targets

    # -- IAttachment

    @property
    def load(self) -> int:
        """Visitors' streams that are open: all but the control stream."""
        return max(0, self._mux.streamCount - 1)

    def lastHeard(self) -> float | None:
        return self._mux.lastPong

    def roundTrip(self) -> float | None:
        return self._mux.rtt

    # -- The control stream

    def gotMessage(self, message: Message) -> None:
        """The agent says something after its registration."""
        if isinstance(message, Ping):
            self._send(Pong(id=message.id))
        elif isinstance(message, Update):
            self.takesTargets = message.targets
            self.offer(message.services, message.request)
        elif isinstance(message, Drain) and not self._hasLeft:
            self._log.info(
                "agent {agent} drains: {reason}",
                event="agent.draining",
                agent=self.agent,
                replica=self.replica,
                seconds=message.seconds,
                reason=message.reason,
            )
            # Its streams may go on for a while, but whoever comes in its place is not to find a ghost.
            self.leave()
        elif isinstance(message, Refused):
            self._log.info(
                "agent {agent} ends its session: {details}",
                event="agent.left",
                agent=self.agent,
                replica=self.replica,
                code=message.code,
                details=message.details,
            )
            self._mux.close()

    def offer(self, services: Sequence[Service], request: int) -> None:
        """The agent serves these from now on: take what it may have, and tell it what became of each."""
        limit = self.grant.services
        taken = services if limit is None else services[:limit]
        outcomes = {} if self.isDraining else self.door.registry.offer(self, taken)
        self._services, self._request = services, request
        for service in services[len(taken) :]:
            details = f"This agent may have {limit} services."
            outcomes[service.key] = Problem(ServiceError.TOO_MANY_SERVICES, details)
        statuses = tuple(self._status(service, outcomes.get(service.key, ())) for service in services)
        self._send(Ack(session=self.name, ping=self.door.settings.pingInterval, services=statuses, request=request))
        before, self._statuses = self._statuses, frozenset(statuses)
        for status in statuses:
            if status not in before and not self.isDraining:
                self._logStatus(status)

    def _status(self, service: Service, outcome: tuple[Place, ...] | Problem) -> ServiceStatus:
        if isinstance(outcome, Problem):
            return ServiceStatus(key=service.key, code=outcome.code, details=outcome.details)
        address, missing = self.door.publicAddress(service, outcome[0]) if outcome else ("", "")
        return ServiceStatus(key=service.key, address=address, details=missing)

    def _logStatus(self, status: ServiceStatus) -> None:
        if status.code:
            self._log.warn(
                "{agent}: the service {service} is not served: {details}",
                event="agent.service-refused",
                agent=self.agent,
                replica=self.replica,
                service=status.key,
                code=status.code,
                details=status.details,
            )
        else:
            self.logService(status.key, status.address, status.details)

    # -- IAgentSession: streams

    def endpointFor(self, service: Service, visitor: Visitor) -> IStreamClientEndpoint:
        if visitor.isDatagram and self.load >= self.door.settings.mux.streams * 3 // 4:
            # The addresses of datagrams may be forged: one machine that seems to be thousands leaves room for the rest.
            details = f"The agent {self.agent} has no room for more visitors by UDP."
            return FailingEndpoint(DialFailed(DialFailure.UNAVAILABLE, details))
        return self.admitted() or self._opening(Preamble(service.key, visitor.header()))

    def dialTarget(self, target: Target, visitor: Visitor) -> IStreamClientEndpoint:
        return self._opening(Preamble(StreamTarget(target.host, target.port), visitor.header()))

    def _opening(self, preamble: Preamble) -> IStreamClientEndpoint:
        return OpeningEndpoint(MuxEndpoint(self._mux), encodePreamble(preamble), readAnswer)

    def checkStream(self, host: str, port: int) -> None:
        """
        The agent has opened a stream that is to lead to a name.

        @raise DialFailed: it may not.
        @raise RemoteProtocolError: it has too many.
        """
        if (refusal := self.grant.refusalOf(host, port)) is not None:
            raise DialFailed(DialFailure.DENIED, refusal.details)
        if (problem := self.excess(self.load)) is not None:
            raise RemoteProtocolError(StreamError.TOO_MANY_STREAMS, f"The agent {self.agent} {problem}.")

    # -- IAgentSession: life

    def renew(self, identity: AgentIdentity) -> None:
        if not self.isOver:
            super().renew(identity)
            self.offer(self._services, self._request)

    def leave(self) -> None:
        self._hasLeft = True
        super().leave()

    def sayGoodbye(self, code: str, details: str) -> None:
        self._send(Refused(code=code, details=details))
        self._mux.close()

    def drain(self, seconds: float, reason: str) -> None:
        self.isDraining = True
        self._send(Drain(seconds=seconds, reason=reason))
        self._mux.goAway()
