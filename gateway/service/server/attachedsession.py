"""
What the sessions of all dialects have in common: what is counted, told and logged of them.

Each adds who its agent is, how it is spoken to, and what it serves::

    class GoTunnelSession(AttachedSession):
        def endpointFor(self, service, visitor): ...
        def end(self, code, details): ...
"""

__all__ = ["AttachedSession"]

from typing import TYPE_CHECKING, cast

from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.domain.attachment import IAttachment
from gateway.domain.limits import TokenBucket
from gateway.service.server.attached import SessionFacts

if TYPE_CHECKING:
    from gateway.service.server.agentdoor import AgentDoor


class AttachedSession:
    """
    An agent that is attached, or about to be.

    @param peer: the agent's address.
    @param carrier: what its session runs on, for people.
    @param software: name and version, for people.
    @param name: of the session, in logs; empty: the agent's.
    @ivar isOver: whether it has ended; the carrier is on its way out then.
    @ivar isDraining: whether it takes no more streams.
    """

    _log = Logger()
    takesTargets = False
    rates: tuple[TokenBucket, TokenBucket] | None = None

    def __init__(
        self,
        door: "AgentDoor",
        agent: str,
        replica: str,
        *,
        peer: str,
        carrier: str,
        software: str = "",
        name: str = "",
    ) -> None:
        self.agent = agent
        self.replica = replica
        self.name = name or agent
        self.door = door
        self.isOver = self.isDraining = False
        self._peer = peer
        self._carrier = carrier
        self._software = software
        self._since = door.seconds()
        self._up = self._down = 0

    # -- What each dialect says

    @property
    def load(self) -> int:
        """Visitors' streams, or requests, that are open."""
        raise NotImplementedError

    def lastHeard(self) -> float | None:
        """When the agent last proved that it is there, in the door's C{seconds}; C{None}: not yet."""
        return None

    def roundTrip(self) -> float | None:
        """Seconds; C{None}: not known."""
        return None

    def end(self, code: str, details: str) -> None:
        """End the session at once, and tell the agent why."""
        raise NotImplementedError

    def stopClock(self) -> None:
        """The session is over, and nothing of it is due any more."""

    # -- IAgentSession

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
            places=self.door.registry.placesOf(cast(IAttachment, self)),
        )

    # -- Logs

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

    def logService(self, key: str, address: str, missing: str) -> None:
        """
        Say that one of its services is served.

        @param address: where visitors reach it; empty if they do not.
        @param missing: what it lacks, in a sentence; empty: nothing.
        """
        if address:
            self._log.info(
                "{agent}: {service} is served at {address}",
                event="agent.service",
                agent=self.agent,
                replica=self.replica,
                service=key,
                address=address,
            )
        if missing:
            self._log.warn(
                "{agent}: {service} lacks something: {details}",
                event="agent.service-incomplete",
                agent=self.agent,
                replica=self.replica,
                service=key,
                details=missing,
            )

    def logEnded(self, code: str, details: str) -> None:
        """Say that its session was ended, and why."""
        self._log.info(
            "ended the session of agent {agent}: {details}",
            event="agent.ended",
            agent=self.agent,
            replica=self.replica,
            code=str(code),
            details=details,
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
