"""
One session of an agent with its gateway, from the dial to the end; the agent's side::

    session = ClientSession(reactor, owner, register, visitors)
    session.connect(carrierEndpoint(reactor, link))     # owner.gotAck(session, ack), and some day owner.sessionOver
    session.update(services, targets=False)
    session.drain(30.0, "The agent is stopping.")

The gateway's side is L{gateway.service.server.agentsession}; what is said is specified in
C{docs/reference/protocols/agent.md}.
"""

__all__ = ["ClientSession", "ISessionOwner"]

from collections.abc import Sequence

from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from zope.interface import Interface

from gateway.net.mux import MuxSettings
from gateway.service.agent.dialledsession import DialledSession, SessionEnd
from gateway.wire.agentcontrol import (
    Ack,
    ControlReader,
    Drain,
    Message,
    Ping,
    Pong,
    Refused,
    Register,
    Service,
    Update,
    encode,
)
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.window import WindowBudget


class ISessionOwner(Interface):
    """Who is told what becomes of a session."""

    def gotAck(session: "ClientSession", ack: Ack) -> None:
        """The gateway answers C{register} or C{update}, or says what it said before in a new way."""

    def gotDrain(session: "ClientSession", drain: Drain) -> None:
        """The gateway takes no more, and ends the session when its visitors have left."""

    def sessionOver(session: "ClientSession", end: SessionEnd) -> None:
        """The carrier is gone, or there never was one. Called once, last."""


class ClientSession(DialledSession[Message]):
    """
    @param register: the first message.
    """

    def __init__(
        self,
        clock: IReactorTime,
        owner: ISessionOwner,
        register: Register,
        visitors: IProtocolFactory,
        *,
        settings: MuxSettings | None = None,
        windows: WindowBudget | None = None,
    ) -> None:
        super().__init__(
            clock,
            owner.sessionOver,
            ControlReader(client=True).receive,
            encode,
            visitors,
            peer="gateway",
            settings=settings,
            windows=windows,
        )
        self._owner = owner
        self._register = register
        self._request = register.request
        self._isDraining = False

    def update(self, services: Sequence[Service], *, targets: bool) -> None:
        """Say what is served from now on."""
        self._request += 1
        self._control.send(Update(services=tuple(services), targets=targets, request=self._request))

    def drain(self, seconds: float, reason: str) -> None:
        if self.attachedAt is not None and not (self._isOver or self._isDraining):
            self._isDraining = True
            self._control.send(Drain(seconds=seconds, reason=reason))
        super().drain(seconds, reason)

    # -- DialledSession

    def introduction(self) -> Register:
        return self._register

    def gotMessage(self, message: Message) -> None:
        match message:
            case Ack():
                self.registered()
                self.mux.pingEvery(message.ping)
                self._owner.gotAck(self, message)
            case Ping(id=number):
                self._control.send(Pong(id=number))
            case Drain():
                self._owner.gotDrain(self, message)
            case Refused():
                self.refused(SessionEnd(message.details, message.code or "refused"))

    def failed(self, error: RemoteProtocolError) -> None:
        self._control.send(Refused(code=error.code, details=error.details))
        super().failed(error)

    def lastHasLeft(self) -> None:
        self._control.end()
