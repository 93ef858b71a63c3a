"""
An attachment, which outlives every session, whatever the dialect: it is made again whenever it is lost::

    class GoTunnelClient(AttachedClient):
        def newSession(self): ...               # one attempt
        def pauseAfter(self, end, lasted): ...  # seconds until the next one

    client.start()
    await client.drain(30.0)
"""

__all__ = ["AttachedClient", "Phase"]

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from gateway.net.muxdeadlines import monotonic
from gateway.net.timer import Timer
from gateway.service.agent.attachedservice import IAttachedClient
from gateway.service.agent.dialledsession import DialledSession, IClientSession, IClientSessionOwner, SessionEnd
from gateway.service.configuration import ConfigurationError
from gateway.service.draining import Vacancy
from gateway.wire.agentcontrol import Drain


class Phase(StrEnum):
    """Where an L{AttachedClient} is in its life."""

    IDLE = "idle"
    CONNECTING = "connecting"
    ATTACHED = "attached"
    WAITING = "waiting"
    LEAVING = "leaving"


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.CONNECTING, Phase.LEAVING}),
    # acknowledged; failed; stopped. And once more, when it is told to go elsewhere.
    Phase.CONNECTING: frozenset({Phase.ATTACHED, Phase.WAITING, Phase.LEAVING, Phase.CONNECTING}),
    # the gateway drains, or there is another one; lost; stopped
    Phase.ATTACHED: frozenset({Phase.CONNECTING, Phase.WAITING, Phase.LEAVING}),
    # the pause is over; stopped
    Phase.WAITING: frozenset({Phase.CONNECTING, Phase.LEAVING}),
    # the last session is gone
    Phase.LEAVING: frozenset({Phase.LEAVING, Phase.IDLE}),
}


@implementer(IAttachedClient, IClientSessionOwner)
class AttachedClient:
    """
    Keeps one session, and beside it those that are on their way out.

    @param carrier: each connection is one attempt.
    @param gateway: where that leads, for logs.
    @ivar hints: what to do about an end, by its code.
    @ivar phase: a L{Phase}.
    @ivar lastError: why the last attempt or session ended; C{None}: none has.
    """

    _log = Logger()
    hints: Mapping[str, str] = {}

    def __init__(self, clock: IReactorTime, carrier: IStreamClientEndpoint, gateway: str) -> None:
        self.phase = Phase.IDLE
        self.lastError: str | None = None
        self._clock = clock
        self._seconds: Callable[[], float] = monotonic(clock)
        self._carrier = carrier
        self._gateway = gateway
        self._pause = Timer(clock)
        self._session: IClientSession | None = None
        self._sessions: set[IClientSession] = set()
        self._vacancy = Vacancy(self._sessions)

    def _become(self, phase: Phase) -> None:
        assert phase in TRANSITIONS[self.phase], (self.phase, phase)
        self.phase = phase

    @property
    def streams(self) -> int:
        """Visitors' streams that are open."""
        return sum(each.load for each in self._sessions)

    # -- For dialects

    def newSession(self) -> DialledSession[Any]:
        """
        @return: a session that is about to be dialled.
        @raise ConfigurationError: what we are to say cannot be read.
        """
        raise NotImplementedError

    def pauseAfter(self, end: SessionEnd, lasted: float | None) -> float:
        """
        @param lasted: seconds that the session was there; C{None}: it never was.
        @return: seconds until the next attempt.
        """
        raise NotImplementedError

    # -- Attempts

    def start(self) -> None:
        """Attach, and stay attached."""
        self._connect()

    def _connect(self) -> None:
        self._become(Phase.CONNECTING)
        try:
            session = self.newSession()
        except ConfigurationError as e:
            self._failed(SessionEnd(f"{e}."), None)
            return
        self.keep(session)
        session.connect(self._carrier)

    def keep(self, session: IClientSession) -> None:
        """This one is it from now on. A session may turn out to be one of another dialect when it is dialled."""
        self._session = session
        self._sessions.add(session)

    def _failed(self, end: SessionEnd, lasted: float | None) -> None:
        """Try again after a pause."""
        pause = self.pauseAfter(end, lasted)
        self._become(Phase.WAITING)
        self._pause.start(pause, self._connect)
        hint = self.hints.get(end.code)
        self.lastError = f"{end.problem.rstrip('.')}. {hint}" if hint else end.problem  # others' words may lack the dot
        SessionEnd(self.lastError, end.code).logRetry(self._gateway, pause, lasted)

    # -- IClientSessionOwner

    def attached(self, session: IClientSession, name: str = "") -> None:
        """
        @param name: of the session, at the other end.
        """
        if session is self._session and self.phase is Phase.CONNECTING:
            self._become(Phase.ATTACHED)
            self._log.info("connected to {gateway}", event="agent.connected", gateway=self._gateway, session=name)

    def gotDrain(self, session: IClientSession, drain: Drain) -> None:
        """The gateway goes away: its visitors may finish, and the next session is dialled now."""
        if session is self._session and self.phase is Phase.ATTACHED:
            self._log.info(
                "the gateway goes away within {seconds:g} seconds: {reason}",
                event="agent.gateway-draining",
                seconds=drain.seconds,
                reason=drain.reason,
            )
            self._session = None
            self._connect()

    def lasted(self, session: IClientSession) -> float | None:
        """
        @return: seconds that it has been there; C{None}: it is not yet, or never was.
        """
        return None if session.attachedAt is None else self._seconds() - session.attachedAt

    def sessionOver(self, session: IClientSession, end: SessionEnd) -> None:
        self._sessions.discard(session)
        if session is self._session:
            self._session = None
            self._failed(end, self.lasted(session))
        self._left()

    # -- Ending

    def drain(self, seconds: float) -> Deferred[None]:
        """
        Take no more visitors, and end when those that there are have left, or when time is up.

        @return: fires when there is no session any more.
        """
        self._become(Phase.LEAVING)
        self._pause.stop()
        self._session = None
        for session in tuple(self._sessions):
            session.drain(seconds, "The agent is stopping.")
        self._left()
        return self._vacancy.awaited()

    def _left(self) -> None:
        if self.phase is Phase.LEAVING and not self._sessions:
            self._become(Phase.IDLE)
        self._vacancy.left()

    def close(self) -> None:
        """After L{drain}: there is no more time."""
        for session in tuple(self._sessions):
            session.close()
