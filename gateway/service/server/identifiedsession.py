"""
A session whose agent has proved who it is, by one of the gateway's entries, and is held to what that grants.

Each dialect of such agents adds how it speaks to them::

    class AgentSession(IdentifiedSession):
        def dialTarget(self, target, visitor): ...
        def sayGoodbye(self, code, details): ...
"""

__all__ = ["IdentifiedSession"]

import os
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from gateway.domain.agents import AgentIdentity
from gateway.domain.grant import Grant
from gateway.domain.limits import TokenBucket
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.net.timer import Timer
from gateway.service.server.attached import IAgentSession, Visitor
from gateway.service.server.attachedsession import AttachedSession
from gateway.wire.agentcontrol import Service, SessionError

if TYPE_CHECKING:
    from gateway.service.server.agentdoor import AgentDoor


@implementer(IAgentSession)
class IdentifiedSession(AttachedSession):
    """
    An agent that is attached.
    """

    def __init__(
        self, door: "AgentDoor", identity: AgentIdentity, replica: str, *, peer: str, carrier: str, software: str = ""
    ) -> None:
        name = f"{identity.name}-{os.urandom(4).hex()}"
        super().__init__(door, identity.name, replica, peer=peer, carrier=carrier, software=software, name=name)
        self.identity = identity
        self.takesTargets = True
        self._expiry = Timer(door.clock)
        self._bucket: TokenBucket | None = None
        self._applyGrant()

    # -- What each dialect says

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

    # -- IAgentSession: life

    def renew(self, identity: AgentIdentity) -> None:
        """The agent's grant has changed: hold it to the new one. Streams that stand go on."""
        if not self.isOver:
            self.identity = identity
            self._applyGrant()

    def _applyGrant(self) -> None:
        new, rate, now = self.grant.newPerSecond, self.grant.bytesPerSecond, self.door.clock.seconds()
        self._bucket = None if new is None else TokenBucket(new, max(1.0, new), now)
        self.rates = None if rate is None else (TokenBucket(rate, rate, now), TokenBucket(rate, rate, now))
        self._expiry.stop()
        if self.identity.expires is not None:
            left = max(0.0, self.identity.expires - self.door.wallClock())
            self._expiry.start(left, self.end, SessionError.REVOKED, "The agent's credential has expired.")

    def stopClock(self) -> None:
        self._expiry.stop()

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
        self.logEnded(code, details)
        self.sayGoodbye(code, details)
