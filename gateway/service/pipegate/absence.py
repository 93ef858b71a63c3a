"""
Stands in for a client that was here a moment ago: its visitors wait a little for it to come back, and are led to it
then, or told that it is gone::

    absence = Absence("node", "", registry, clock, 5.0, over)       # holds what the client held
    absence.end("", "")                                         # it is back

A client that reconnects is away for a second, and a page that is loaded in that second should not fail.
"""

__all__ = ["Absence"]

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from zope.interface import implementer

from gateway.domain.pipegate import AGENT_PREFIX, grantFor
from gateway.domain.registry import Registry
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.service.pipegate.jsonsession import serviceOf
from gateway.service.server.attached import IAgentSession, SessionFacts, Visitor
from gateway.wire.agentcontrol import Service

_REPLICA = "absent"

MAX_WAITING = 100
"""Visitors that wait for one client."""


@implementer(IAgentSession, IStreamClientEndpoint)
class Absence:
    """
    @param seconds: for which visitors wait.
    @param over: called when it is, with this.
    """

    takesTargets = False
    rates = None
    replica = _REPLICA

    def __init__(
        self,
        identifier: str,
        domain: str,
        registry: Registry,
        clock: IReactorTime,
        seconds: float,
        over: Callable[["Absence"], object],
    ) -> None:
        self.agent = AGENT_PREFIX + identifier
        self.grant = grantFor(identifier, domain)
        self._identifier = identifier
        self._registry = registry
        self._over = over
        self._waiting: list[Deferred[IProtocol]] = []
        registry.attach(self)
        registry.offer(self, (serviceOf(identifier, domain),))
        self._timer = clock.callLater(seconds, self._isGone)

    @property
    def load(self) -> int:
        """Visitors that wait."""
        return len(self._waiting)

    def endpointFor(self, service: Service, visitor: Visitor) -> IStreamClientEndpoint:
        if len(self._waiting) >= MAX_WAITING:
            return FailingEndpoint(self._gone())
        return self

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fails when the client is back, so that it is looked for again, or when it is not.
        """
        waiting: Deferred[IProtocol] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def targetEndpoint(self, target: Target, visitor: Visitor) -> IStreamClientEndpoint:
        return FailingEndpoint(self._gone())

    def _gone(self) -> DialFailed:
        return DialFailed(DialFailure.UNREACHABLE, f"The client {self._identifier} is not connected.")

    def _isGone(self) -> None:
        self._registry.detach(self)
        self._finish(self._gone())

    def end(self, code: str, details: str) -> None:
        """The client is back."""
        if self._timer.active():
            self._timer.cancel()
            # First: who waits looks for another one, and it is the one beside this.
            self._finish(DialFailed(DialFailure.UNAVAILABLE, f"The client {self._identifier} is just coming back."))
            self._registry.detach(self)

    def _finish(self, problem: DialFailed) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(problem)
        self._over(self)

    def moved(self, up: int, down: int) -> None:
        """Nothing does."""

    def drain(self, seconds: float, reason: str) -> None:
        """There is nobody to tell."""

    def facts(self) -> SessionFacts:
        return SessionFacts(
            agent=self.agent,
            replica=self.replica,
            software="",
            peer="",
            carrier="",
            seconds=0.0,
            lastPing=None,
            rtt=None,
            streams=self.load,
            up=0,
            down=0,
            places=self._registry.placesOf(self),
        )
