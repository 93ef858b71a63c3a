"""
A session whose agent has proved who it is, by one of the gateway's entries: what all dialects have of it in common.

Each adds how it speaks to its agent::

    class AgentSession(IdentifiedSession):
        def dial(self, preamble): ...
        def sayGoodbye(self, code, details): ...
"""

__all__ = ["IdentifiedSession"]

import os
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.agents import AgentIdentity
from gateway.domain.grant import Grant
from gateway.domain.limits import TokenBucket
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.service.server.attached import IAgentSession, SessionFacts, Visitor
from gateway.wire.agentcontrol import Service, SessionError

if TYPE_CHECKING:
    from gateway.service.server.agentdoor import AgentDoor


@implementer(IAgentSession)
class IdentifiedSession:
    """
    An agent that is attached.

    @param peer: the agent's address.
    @param carrier: what its session runs on, for people.
    @param software: name and version, for people.
    @ivar name: of the session, in logs.
    @ivar isOver: whether it has ended; the carrier is on its way out then.
    @ivar isDraining: whether it takes no more streams.
    """

    _log = Logger()

    def __init__(
        self, door: "AgentDoor", identity: AgentIdentity, replica: str, *, peer: str, carrier: str, software: str = ""
    ) -> None:
        self.agent = identity.name
        self.replica = replica
        self.identity = identity
        self.name = f"{identity.name}-{os.urandom(4).hex()}"
        self.takesTargets = True
        self.isOver = self.isDraining = False
        self.door = door
        self._peer = peer
        self._carrier = carrier
        self._software = software
        self._since = door.seconds()
        self._up = self._down = 0
        self._expiry: IDelayedCall | None = None
        self._bucket: TokenBucket | None = None
        self.rates: tuple[TokenBucket, TokenBucket] | None = None
        self._applyGrant()

    # -- What each dialect says

    @property
    def load(self) -> int:
        """Visitors' streams that are open."""
        raise NotImplementedError

    def lastHeard(self) -> float | None:
        """When the agent last proved that it is there, in the door's C{seconds}; C{None}: not yet."""
        raise NotImplementedError

    def roundTrip(self) -> float | None:
        """Seconds; C{None}: not known."""
        return None

    def endpointFor(self, service: Service, visitor: Visitor) -> IStreamClientEndpoint:
        raise NotImplementedError

    def dialTarget(self, target: Target, visitor: Visitor) -> IStreamClientEndpoint:
        """
        @return: dials a target that the visitor may reach, as far as it is ours to say.
        """
        raise NotImplementedError

    def sayGoodbye(self, code: str, details: str) -> None:
        """Tell the agent why the session is over, and close the carrier."""
        raise NotImplementedError

    def drain(self, seconds: float, reason: str) -> None:
        raise NotImplementedError

    # -- IAttachment, IAgentSession: streams

    @property
    def grant(self) -> Grant:
        """What the agent may ask for."""
        return self.identity.grant

    def targetEndpoint(self, target: Target, visitor: Visitor) -> IStreamClientEndpoint:
        if not self.takesTargets:
            return FailingEndpoint(
                DialFailed(DialFailure.DENIED, f"The agent {self.agent} lets nobody name targets behind it.")
            )
        if (refusal := self.grant.refusalBehind(target)) is not None:
            return FailingEndpoint(DialFailed(DialFailure.DENIED, refusal.details))
        return self.admitted() or self.dialTarget(target, visitor)

    def admitted(self) -> IStreamClientEndpoint | None:
        """
        One more stream is wanted.

        @return: C{None} if there may be, which then counts; otherwise what says why not.
        """
        problem = "is going away" if self.isDraining else self.excess(self.load + 1)
        if problem is None:
            return None
        return FailingEndpoint(DialFailed(DialFailure.UNAVAILABLE, f"The agent {self.agent} {problem}."))

    def excess(self, load: int) -> str | None:
        """Why one more stream is one too many, which makes so many; C{None}: it is not."""
        limit = self.grant.streams
        if limit is not None and load > limit:
            return f"has {limit} streams already"
        if self._bucket is not None and not self._bucket.tryTake(1.0, self.door.clock.seconds()):
            return "has too many new streams at once"
        return None

    def moved(self, up: int, down: int) -> None:
        self._up += up
        self._down += down

    def facts(self) -> SessionFacts:
        now, heard = self.door.seconds(), self.lastHeard()
        return SessionFacts(
            agent=self.agent,
            replica=self.replica,
            software=self._software,
            peer=self._peer,
            carrier=self._carrier,
            seconds=now - self._since,
            lastPing=None if heard is None else now - heard,
            rtt=self.roundTrip(),
            streams=self.load,
            up=self._up,
            down=self._down,
            places=self.door.registry.placesOf(self),
        )

    # -- IAgentSession: life

    def logAttached(self) -> None:
        """Say that the agent is here."""
        self._log.info(
            "agent {agent} attached from {peer}",
            event="agent.attached",
            agent=self.agent,
            replica=self.replica,
            session=self.name,
            peer=self._peer,
            carrier=self._carrier,
            software=self._software,
        )

    def logDetached(self, reason: Failure) -> None:
        """
        Say that it is gone.

        @param reason: C{ConnectionDone} when it left properly.
        """
        facts = self.facts()
        self._log.info(
            "agent {agent} is gone: {reason}",
            event="agent.detached",
            agent=self.agent,
            replica=self.replica,
            session=self.name,
            reason="closed" if reason.check(ConnectionDone) else reason.getErrorMessage(),
            seconds=facts.seconds,
            up=facts.up,
            down=facts.down,
        )

    def renew(self, identity: AgentIdentity) -> None:
        """The agent's grant has changed: hold it to the new one. Streams that stand go on."""
        if not self.isOver:
            self.identity = identity
            self._applyGrant()

    def _applyGrant(self) -> None:
        new, rate, now = self.grant.newPerSecond, self.grant.bytesPerSecond, self.door.clock.seconds()
        self._bucket = None if new is None else TokenBucket(new, max(1.0, new), now)
        self.rates = None if rate is None else (TokenBucket(rate, rate, now), TokenBucket(rate, rate, now))
        self._stopExpiry()
        if self.identity.expires is not None:
            left = max(0.0, self.identity.expires - self.door.wallClock())
            self._expiry = self.door.clock.callLater(left, self._expired)

    def _expired(self) -> None:
        self._expiry = None
        self.end(SessionError.REVOKED, "The agent's credential has expired.")

    def _stopExpiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def stopClock(self) -> None:
        """The session is over."""
        self._stopExpiry()

    def leave(self) -> None:
        """What it held is free, and nobody comes to it any more."""
        self.isDraining = True
        self.door.registry.detach(self)

    def end(self, code: str, details: str) -> None:
        if self.isOver:
            return
        self.isOver = True
        self.stopClock()
        self.leave()
        self._log.info(
            "ended the session of agent {agent}: {details}",
            event="agent.ended",
            agent=self.agent,
            replica=self.replica,
            code=str(code),
            details=details,
        )
        self.sayGoodbye(code, details)
