"""
One agent of go-tunnel's, from its registration to its end; the server's side.

To the doors it is what an agent of our own is. What go-tunnel has no words for is left out: nobody is told who the
visitor is, an agent does not say whether it reached its origin, and it serves no targets::

    session = GoTunnelSession(door, mux, send, routes, settings, grant, issuer="mytunnel", peer="192.0.2.7")
    relay.connect(session.endpointFor(service, visitor))
"""

__all__ = ["GoTunnelSession", "GoTunnelSettings"]

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from gateway.domain.grant import Grant
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.net.mux import MuxEndpoint, MuxSession
from gateway.net.opening import OpeningEndpoint
from gateway.net.timer import Timer
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import IAgentSession, Visitor
from gateway.service.server.attachedsession import AttachedSession
from gateway.wire.agentcontrol import Service
from gateway.wire.gotunnel import Ack, Message, Mode, Ping, Route, encodePreamble

CARRIER = "tls, go-tunnel"
"""What the session runs on, for people."""

PING_TIMEOUT = "ping-timeout"
"""The code of a session whose agent does not answer."""


@dataclass(frozen=True, slots=True)
class GoTunnelSettings:
    """
    Times, in seconds.

    @ivar pingInterval: between pings.
    @ivar pongTimeout: for the answer to one.
    @ivar probeTimeout: for the answer of an agent whose names another one wants.
    """

    pingInterval: float = 15.0
    pongTimeout: float = 20.0
    probeTimeout: float = 1.5


def _service(index: int, route: Route) -> Service:
    key = f"route-{index}"
    if route.mode is Mode.TCP:
        return Service(key=key, kind="tls", hostnames=(route.name,), tls="terminate")
    return Service(key=key, kind="http", hostnames=(route.name,))


@implementer(IAgentSession)
class GoTunnelSession(AttachedSession):
    """
    An agent that is attached, or about to be.

    @param send: writes a message on the control stream.
    @param issuer: of the agent's token, for people.
    @ivar agent: a name of its own for each session, as go-tunnel's agents have none.
    @ivar services: what it serves, by the routes' spelling.
    """

    def __init__(
        self,
        door: AgentDoor,
        mux: MuxSession,
        send: Callable[[Message], None],
        routes: Sequence[Route],
        settings: GoTunnelSettings,
        grant: Grant,
        *,
        issuer: str,
        peer: str,
    ) -> None:
        super().__init__(door, f"gotunnel-{os.urandom(4).hex()}", "", peer=peer, carrier=CARRIER, software=issuer)
        self.grant = grant
        self.services = {route.key: _service(index, route) for index, route in enumerate(routes)}
        self._keys = {service.key: key for key, service in self.services.items()}
        self._mux = mux
        self._send = send
        self._settings = settings
        self._lastPong: float | None = None
        self._nextPing = Timer(door.clock)
        self._pongDeadline = Timer(door.clock)
        self._probeDeadline = Timer(door.clock)
        self._asking: list[Deferred[bool]] = []

    # -- IAttachment

    @property
    def load(self) -> int:
        """Visitors' streams that are open: all but the control stream."""
        return max(0, self._mux.streamCount - 1)

    def lastHeard(self) -> float | None:
        return self._lastPong

    def roundTrip(self) -> float | None:
        return self._mux.rtt

    # -- Whether the agent is there

    def start(self) -> None:
        """The agent is attached: see to it that it stays so."""
        self._nextPing.start(self._settings.pingInterval, self._pingSoon)

    def _ping(self) -> None:
        self._send(Ping(ts=int(self.door.wallClock() * 1000)))

    def _pingSoon(self) -> None:
        self._nextPing.start(self._settings.pingInterval, self._pingSoon)
        if not self._pongDeadline.isRunning:
            self._pongDeadline.start(self._settings.pongTimeout, self._silent)
        self._ping()

    def gotPong(self) -> None:
        """The agent answers."""
        self._lastPong = self.door.seconds()
        self._pongDeadline.stop()
        self._answer(True)

    def _silent(self) -> None:
        self.cutOff(PING_TIMEOUT, f"The agent did not answer a ping within {self._settings.pongTimeout:g} seconds.")

    def isAlive(self) -> Deferred[bool]:
        """
        Ask the agent.

        @return: fires soon.
        """
        answer: Deferred[bool] = Deferred()
        self._asking.append(answer)
        if not self._probeDeadline.isRunning:
            self._probeDeadline.start(self._settings.probeTimeout, self._answer, False)
            self._ping()
        return answer

    def _answer(self, isAlive: bool) -> None:
        self._probeDeadline.stop()
        asking, self._asking = self._asking, []
        for answer in asking:
            answer.callback(isAlive)

    def stopClock(self) -> None:
        """The session is over."""
        self._nextPing.stop()
        self._pongDeadline.stop()
        self._answer(False)

    # -- IAgentSession: streams

    def endpointFor(self, service: Service, visitor: Visitor) -> IStreamClientEndpoint:
        if self.isDraining:
            return FailingEndpoint(DialFailed(DialFailure.UNAVAILABLE, "The gateway is shutting down."))
        return OpeningEndpoint(MuxEndpoint(self._mux), encodePreamble(self._keys[service.key]), None)

    def targetEndpoint(self, target: Target, visitor: Visitor) -> IStreamClientEndpoint:
        details = "An agent of go-tunnel's serves its own routes alone."
        return FailingEndpoint(DialFailed(DialFailure.DENIED, details))

    # -- IAgentSession: life

    def end(self, code: str, details: str) -> None:
        if self._leave(code, details):
            self._send(Ack(ok=False, error=details))
            self._mux.close()

    def cutOff(self, code: str, details: str) -> None:
        """The agent is not there any more."""
        if self._leave(code, details):
            self.door.sessionOver(self)
            self._mux.abortConnection()

    def _leave(self, code: str, details: str) -> bool:
        """What it held is free at once, and nobody comes to it any more. Return whether it was here until now."""
        if self.isOver:
            return False  # the carrier is on its way out
        self.isOver = self.isDraining = True
        self.door.registry.detach(self)
        self.logEnded(code, details)
        return True

    def drain(self, seconds: float, reason: str) -> None:
        """Take no new streams. Agents of go-tunnel's cannot be told."""
        self.isDraining = True
