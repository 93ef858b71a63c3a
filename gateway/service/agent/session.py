"""
One session of an agent with its gateway, from the dial to the end; the agent's side::

    session = ClientSession(reactor, owner, register, visitors)
    session.connect(carrierEndpoint(reactor, link))     # owner.gotAck(session, ack), and some day owner.sessionOver
    session.update(services, targets=False)
    session.drain(30.0, "The agent is stopping.")

The gateway's side is L{gateway.service.server.agentsession}; what is said is specified in
C{docs/reference/protocols/agent.md}.
"""

__all__ = ["ClientSession", "ISessionOwner", "SessionEnd", "explainLoss"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, TimeoutError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface

from gateway.net.dial import DialFailed, Prepared, limitDial
from gateway.net.mux import MuxSession, MuxSettings
from gateway.net.muxdeadlines import monotonic
from gateway.net.timer import Timer
from gateway.net.tlsclient import explainTLS
from gateway.service.controlstream import ControlStream
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

DIAL_TIMEOUT = 20.0
"""Seconds for the carrier: name, proxy, TCP, TLS and WebSocket together."""

REGISTER_TIMEOUT = 10.0
"""Seconds for the gateway to answer the registration."""

GOODBYE_TIMEOUT = 5.0
"""Seconds for the gateway to take what was written to it, when the session is over."""

_LOOK = 0.25
"""Seconds between looks whether the last visitor has left a session that drains."""


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """
    Why a session is over, or never was one.

    @ivar problem: a sentence for a person.
    @ivar code: the gateway's, if it refused the session: a L{SessionError}, or one of a newer gateway's.
    """

    problem: str
    code: str = ""
    _log: ClassVar[Logger] = Logger()

    def logRetry(self, gateway: str, pause: float, lasted: float | None) -> None:
        """
        Say that it happened, and when there will be another attempt.

        @param pause: seconds until then.
        @param lasted: seconds that the session was there; C{None}: it never was.
        """
        if lasted is None:
            self._log.warn(
                "no session with {gateway}, trying again in {pause:.1f} seconds: {problem}",
                event="agent.not-connected",
                gateway=gateway,
                code=self.code,
                problem=self.problem,
                pause=pause,
            )
        else:
            self._log.warn(
                "lost {gateway}, trying again in {pause:.1f} seconds: {problem}",
                event="agent.disconnected",
                gateway=gateway,
                code=self.code,
                problem=self.problem,
                pause=pause,
                seconds=lasted,
            )


class ISessionOwner(Interface):
    """Who is told what becomes of a session."""

    def gotAck(session: "ClientSession", ack: Ack) -> None:
        """The gateway answers C{register} or C{update}, or says what it said before in a new way."""

    def gotDrain(session: "ClientSession", drain: Drain) -> None:
        """The gateway takes no more, and ends the session when its visitors have left."""

    def sessionOver(session: "ClientSession", end: SessionEnd) -> None:
        """The carrier is gone, or there never was one. Called once, last."""


class ClientSession:
    """
    One attempt, and what comes of it.

    @param register: the first message.
    @param visitors: makes the protocols of streams that the gateway opens.
    @ivar mux: for streams of our own, once the gateway has acknowledged.
    @ivar attachedAt: when the first C{ack} came, in the seconds of L{monotonic}; C{None} before.
    """

    _log = Logger()

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
        self.attachedAt: float | None = None
        self._clock = clock
        self._owner = owner
        self._register = register
        self._request = register.request
        self._dial: Deferred[IProtocol] | None = None
        self._control: ControlStream[Message] | None = None
        self._end: SessionEnd | None = None
        self._isOver = False
        self._isDraining = False
        self._deadline = Timer(clock)  # for the ack, and later for the end of the drain, and of the goodbye
        self._nextLook = Timer(clock)
        self.mux = MuxSession(
            clock,
            client=True,
            factory=_Gate(self, visitors),
            settings=settings,
            budget=windows,
            name="gateway",
            ended=self._ended,
        )

    # -- Beginning

    def connect(self, endpoint: IStreamClientEndpoint) -> None:
        """Dial, and register."""
        dial = self._dial = endpoint.connect(Prepared(self.mux))
        limitDial(dial, DIAL_TIMEOUT, self._clock)
        dial.addCallbacks(self._dialled, self._notDialled)
        dial.addErrback(self._defect)

    def _dialled(self, mux: object) -> None:
        self._dial = None
        if self._isOver:
            return
        receive = ControlReader(client=True).receive
        self._control = control = ControlStream(receive, encode, self._gotMessage, self._failed, self.mux.close)
        self.mux.open(Prepared(control))
        self._send(self._register)
        self._deadline.start(REGISTER_TIMEOUT, self._late)

    def _notDialled(self, failure: Failure) -> None:
        self._dial = None
        self._finish(self._end or SessionEnd(DialFailed.fromFailure(failure).details))

    def _defect(self, failure: Failure) -> None:
        self._log.failure("a session with the gateway failed", failure, event="gateway.defect")
        self._end = SessionEnd("The agent has a defect.")
        self.mux.abortConnection()

    def _late(self) -> None:
        self._end = SessionEnd("The gateway did not answer the registration in time.")
        self.mux.abortConnection()

    def _stopClock(self) -> None:
        self._deadline.stop()
        self._nextLook.stop()

    # -- The control stream

    def _send(self, message: Message) -> None:
        if self._control is not None:
            self._control.send(message)

    def _gotMessage(self, message: Message) -> None:
        """The gateway says something."""
        match message:
            case Ack():
                if self.attachedAt is None:
                    self._stopClock()
                    self.attachedAt = monotonic(self._clock)()
                self.mux.pingEvery(message.ping)
                self._owner.gotAck(self, message)
            case Ping(id=number):
                self._send(Pong(id=number))
            case Drain():
                self._owner.gotDrain(self, message)
            case Refused():
                self._end = SessionEnd(message.details, message.code or "refused")
                self.mux.close()

    def _failed(self, error: RemoteProtocolError) -> None:
        """What came on the control stream is not the protocol."""
        self._end = SessionEnd(f"The gateway does not keep to the protocol: {error.details}")
        self._send(Refused(code=error.code, details=error.details))
        self.mux.close()

    def update(self, services: Sequence[Service], *, targets: bool) -> None:
        """Say what is served from now on."""
        self._request += 1
        self._send(Update(services=tuple(services), targets=targets, request=self._request))

    # -- Ending

    def drain(self, seconds: float, reason: str) -> None:
        """Take no more visitors, and end the session when the last one has left, or when time is up."""
        if self.attachedAt is None or self._isOver:
            self.close()
            return
        if not self._isDraining:
            self._isDraining = True
            self._send(Drain(seconds=seconds, reason=reason))
            self.mux.goAway()
        self._stopClock()
        self._deadline.start(seconds, self.close)
        self._look()

    def _look(self) -> None:
        if self.mux.streamCount > 1:
            self._nextLook.start(_LOOK, self._look)
        elif self._control is not None:
            self._control.end()

    def close(self) -> None:
        """End the session, or the attempt, at once. A gateway that does not take it is cut off."""
        if self._end is None:
            self._end = SessionEnd("The agent ended the session.")
        if self._dial is not None:
            self._dial.cancel()
        elif not self._isOver:
            self._stopClock()
            self._deadline.start(GOODBYE_TIMEOUT, self.mux.abortConnection)
            self.mux.close()

    def _ended(self, reason: Failure) -> None:
        self._finish(self._end or SessionEnd(explainLoss(reason, "gateway")))

    def _finish(self, end: SessionEnd) -> None:
        if not self._isOver:
            self._isOver = True
            self._stopClock()
            self._owner.sessionOver(self, end)


def explainLoss(reason: Failure, peer: str) -> str:
    """
    @param reason: for which a session ended.
    @param peer: who was at its other end.
    @return: a sentence for a person.
    """
    error = reason.value
    if isinstance(error, RemoteProtocolError):
        return f"The {peer} does not keep to the protocol: {error.details}"
    if isinstance(error, TimeoutError):
        return f"The {peer} does not answer any more."
    if isinstance(error, ConnectionDone):
        return f"The {peer} closed the connection."
    return explainTLS(reason) or f"The connection to the {peer} was lost."


class _Gate(ServerFactory):
    """Takes no streams before the registration is acknowledged."""

    noisy = False

    def __init__(self, session: ClientSession, visitors: IProtocolFactory) -> None:
        self._session = session
        self._visitors = visitors

    def buildProtocol(self, address: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # not a Protocol
        if self._session.attachedAt is None:
            return None
        return self._visitors.buildProtocol(address)  # type: ignore[arg-type]  # None is the interface's too
