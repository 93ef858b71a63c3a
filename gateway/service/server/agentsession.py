"""
One agent of our own dialect, from its registration to its end; the gateway's side::

    session = AgentSession(door, mux, control, register, identity, peer="192.0.2.7", carrier="tls")
    relay.connect(session.endpointFor(service, visitor))
"""

__all__ = ["AgentSession"]

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from gateway.domain.agents import AgentIdentity
from gateway.domain.grant import Grant
from gateway.domain.limits import TokenBucket
from gateway.domain.registry import Problem
from gateway.domain.routes import Place
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.net.incoming import readAnswer
from gateway.net.mux import MuxEndpoint, MuxSession
from gateway.net.opening import OpeningEndpoint
from gateway.service.server.attached import IAgentSession, IClient, SessionFacts, Visitor
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
    SessionError,
    Update,
)
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.preamble import Preamble, StreamError, encodePreamble
from gateway.wire.preamble import Target as StreamTarget

if TYPE_CHECKING:
    from gateway.service.server.agentdoor import AgentDoor


@implementer(IAgentSession, IClient)
class AgentSession:
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
        self.agent = identity.name
        self.replica = register.replica
        self.identity = identity
        self.name = f"{identity.name}-{os.urandom(4).hex()}"
        self._door = door
        self._mux = mux
        self._send = send
        self._software = register.software
        self._peer = peer
        self._carrier = carrier
        self._since = door.seconds()
        self._services: Sequence[Service] = ()
        self.takesTargets = register.targets
        self._request = 0
        self._up = self._down = 0
        self._statuses: frozenset[ServiceStatus] = frozenset()
        self._draining = self._hasLeft = self._isOver = False
        self._expiry: IDelayedCall | None = None
        self._bucket: TokenBucket | None = None
        self.rates: tuple[TokenBucket, TokenBucket] | None = None
        self._applyGrant()

    # -- IAttachment

    @property
    def grant(self) -> Grant:
        """What the agent may ask for."""
        return self.identity.grant

    @property
    def load(self) -> int:
        """Visitors' streams that are open: all but the control stream."""
        return max(0, self._mux.streamCount - 1)

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
            self._leave()
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
        outcomes = {} if self._draining else self._door.registry.offer(self, taken)
        self._services, self._request = services, request
        for service in services[len(taken) :]:
            details = f"This agent may have {limit} services."
            outcomes[service.key] = Problem(ServiceError.TOO_MANY_SERVICES, details)
        statuses = tuple(self._status(service, outcomes.get(service.key, ())) for service in services)
        self._send(Ack(session=self.name, ping=self._door.settings.pingInterval, services=statuses, request=request))
        before, self._statuses = self._statuses, frozenset(statuses)
        for status in statuses:
            if status not in before and not self._draining:
                self._logStatus(status)

    def _status(self, service: Service, outcome: tuple[Place, ...] | Problem) -> ServiceStatus:
        if isinstance(outcome, Problem):
            return ServiceStatus(key=service.key, code=outcome.code, details=outcome.details)
        address = self._door.publicAddress(service, outcome[0]) if outcome else ""
        return ServiceStatus(key=service.key, address=address)

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
            self._log.info(
                "{agent}: {service} is served at {address}",
                event="agent.service",
                agent=self.agent,
                replica=self.replica,
                service=status.key,
                address=status.address,
            )

    # -- IAgentSession: streams

    def endpointFor(self, service: Service, visitor: Visitor) -> IStreamClientEndpoint:
        if visitor.isDatagram and self.load >= self._door.settings.mux.streams * 3 // 4:
            # The addresses of datagrams may be forged: one machine that seems to be thousands leaves room for the rest.
            details = f"The agent {self.agent} has no room for more visitors by UDP."
            return FailingEndpoint(DialFailed(DialFailure.UNAVAILABLE, details))
        return self._endpoint(Preamble(service.key, visitor.header()))

    def targetEndpoint(self, target: Target, visitor: Visitor) -> IStreamClientEndpoint:
        if not self.takesTargets:
            return FailingEndpoint(
                DialFailed(DialFailure.DENIED, f"The agent {self.agent} lets nobody name targets behind it.")
            )
        if (refusal := self.grant.refusalBehind(target)) is not None:
            return FailingEndpoint(DialFailed(DialFailure.DENIED, refusal.details))
        return self._endpoint(Preamble(StreamTarget(target.host, target.port), visitor.header()))

    def _endpoint(self, preamble: Preamble) -> IStreamClientEndpoint:
        problem = "is going away" if self._draining else self._excess(self.load + 1)
        if problem is not None:
            return FailingEndpoint(DialFailed(DialFailure.UNAVAILABLE, f"The agent {self.agent} {problem}."))
        return OpeningEndpoint(MuxEndpoint(self._mux), encodePreamble(preamble), readAnswer)

    def _excess(self, load: int) -> str | None:
        """Why one more stream is one too many, which makes so many; C{None}: it is not."""
        limit = self.grant.streams
        if limit is not None and load > limit:
            return f"has {limit} streams already"
        if self._bucket is not None and not self._bucket.tryTake(1.0, self._door.clock.seconds()):
            return "has too many new streams at once"
        return None

    def checkStream(self, host: str, port: int) -> None:
        """
        The agent has opened a stream that is to lead to a name.

        @raise DialFailed: it may not.
        @raise RemoteProtocolError: it has too many.
        """
        if (refusal := self.grant.refusalOf(host, port)) is not None:
            raise DialFailed(DialFailure.DENIED, refusal.details)
        if (problem := self._excess(self.load)) is not None:
            raise RemoteProtocolError(StreamError.TOO_MANY_STREAMS, f"The agent {self.agent} {problem}.")

    def moved(self, up: int, down: int) -> None:
        self._up += up
        self._down += down

    def facts(self) -> SessionFacts:
        now = self._door.seconds()
        heard = self._mux.lastPong
        return SessionFacts(
            agent=self.agent,
            replica=self.replica,
            software=self._software,
            peer=self._peer,
            carrier=self._carrier,
            seconds=now - self._since,
            lastPing=None if heard is None else now - heard,
            rtt=self._mux.rtt,
            streams=self.load,
            up=self._up,
            down=self._down,
            places=self._door.registry.placesOf(self),
        )

    # -- IAgentSession: life

    def renew(self, identity: AgentIdentity) -> None:
        """The agent's grant has changed: hold it to the new one. Streams that stand go on."""
        if not self._isOver:
            self.identity = identity
            self._applyGrant()
            self.offer(self._services, self._request)

    def _applyGrant(self) -> None:
        new, rate, now = self.grant.newPerSecond, self.grant.bytesPerSecond, self._door.clock.seconds()
        self._bucket = None if new is None else TokenBucket(new, max(1.0, new), now)
        self.rates = None if rate is None else (TokenBucket(rate, rate, now), TokenBucket(rate, rate, now))
        self.stopClock()
        if self.identity.expires is not None:
            left = max(0.0, self.identity.expires - self._door.wallClock())
            self._expiry = self._door.clock.callLater(left, self._expired)

    def _expired(self) -> None:
        self._expiry = None
        self.end(SessionError.REVOKED, "The agent's credential has expired.")

    def stopClock(self) -> None:
        """The session is over."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _leave(self) -> None:
        """What it held is free, and nobody comes to it any more."""
        self._draining = self._hasLeft = True
        self._door.registry.detach(self)

    def end(self, code: str, details: str) -> None:
        if self._isOver:
            return  # the carrier is on its way out
        self._isOver = True
        self.stopClock()
        self._leave()
        self._log.info(
            "ended the session of agent {agent}: {details}",
            event="agent.ended",
            agent=self.agent,
            replica=self.replica,
            code=str(code),
            details=details,
        )
        self._send(Refused(code=code, details=details))
        self._mux.close()

    def drain(self, seconds: float, reason: str) -> None:
        self._draining = True
        self._send(Drain(seconds=seconds, reason=reason))
        self._mux.goAway()
