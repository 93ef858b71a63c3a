"""
An edge agent's attachment to its relay, which outlives every session: it is made again whenever it is lost::

    connection = connectionEndpoint(reactor, link)
    client = EdgeAgentClient(reactor, connection, link.request, "box", readSecret, EdgeTargets(reactor))
    client.start()
    await client.drain(10.0)

Which dialect is spoken is found out with each session anew, so that a relay can be exchanged at any time. After a
failure there is a pause of a second, which doubles with each one up to a minute, with chance in it, so that agents that
lost their relay together do not all come back together; a session that has lasted a minute makes it a second again.
"""

__all__ = ["EdgeAgentClient"]

from collections.abc import Callable
from random import random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from gateway import __version__
from gateway.net.incoming import IncomingStreams
from gateway.net.mux import MuxSettings
from gateway.net.muxdeadlines import monotonic
from gateway.net.timer import Timer
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.agent.attachedservice import IAttachedClient
from gateway.service.agent.dialect import DialectEndpoint
from gateway.service.agent.session import ClientSession, ISessionOwner, SessionEnd
from gateway.service.configuration import ConfigurationError
from gateway.service.networkrelay.edgeagentjson import STREAMS, IJsonSessionOwner, JsonEdgeSession
from gateway.service.networkrelay.edgeagenttargets import EdgeTargets
from gateway.wire.agentcontrol import Ack, Drain, Register, SecretCredential, SessionError
from gateway.wire.networkrelay import MAX_MESSAGE, AgentStart, agentLabel
from gateway.wire.upgraderequest import WebSocketRequest
from gateway.wire.window import WindowBudget

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
STABLE = 60.0
"""Seconds: of the pause after a first failure, of the longest, and that a session has to last to begin anew."""

PING = 15.0
"""Seconds between pings, until the relay has said how many."""

_HINTS = {
    SessionError.REPLACED: "Another process with the same name is running.",
    SessionError.UNAUTHORIZED: "Look at the name and at the secret.",
}

_Session = ClientSession | JsonEdgeSession


@implementer(ISessionOwner, IJsonSessionOwner, IAttachedClient)
class EdgeAgentClient:
    """
    Keeps one session, and beside it those that are on their way out.

    @param connection: makes the connections that WebSockets are opened on.
    @param request: what to ask for there.
    @param name: that the agent goes by: any text.
    @param readSecret: returns what proves the name; raises L{ConfigurationError} when it cannot be read.
    @param relay: where that is, for logs.
    @ivar lastError: why the last attempt or session ended.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        connection: IStreamClientEndpoint,
        request: WebSocketRequest,
        name: str,
        readSecret: Callable[[], str],
        targets: EdgeTargets,
        *,
        relay: str = "the relay",
        random: Callable[[], float] = random,
    ) -> None:
        self.lastError: str | None = None
        self._clock = clock
        self._seconds = monotonic(clock)
        self._relay = relay
        self._name = name
        self._readSecret = readSecret
        self._targets = targets
        self._random = random
        self._windows = WindowBudget()
        self._visitors = IncomingStreams(clock, targets.decide, targets.streamOver, budget=targets.budget)
        self._endpoint = DialectEndpoint(
            clock,
            connection,
            request,
            self._speakJson,
            settings=WebSocketSettings(maxMessage=MAX_MESSAGE),
        )
        self._secret = ""
        self._pauseSeconds = FIRST_PAUSE
        self._pause = Timer(clock)
        self._session: _Session | None = None
        self._attachedAt: float | None = None
        self._leaving: set[_Session] = set()
        self._isStopping = False
        self._gone: list[Deferred[None]] = []

    @property
    def streams(self) -> int:
        """Connections that are open."""
        return sum(
            each.load if isinstance(each, JsonEdgeSession) else max(0, each.mux.streamCount - 1)
            for each in self._sessions()
        )

    # -- Attempts

    def start(self) -> None:
        """Attach, and stay attached."""
        self._attempt()

    def _attempt(self) -> None:
        self._attachedAt = None
        try:
            self._secret = self._readSecret()
        except ConfigurationError as e:
            self._failed(SessionEnd(f"{e}."))
            return
        register = Register(
            version=1,
            agent=agentLabel(self._name),
            software=f"txgateway/{__version__}",
            credential=SecretCredential(secret=self._secret),
            targets=True,
        )
        settings = MuxSettings(streams=STREAMS, pingInterval=PING, drainTimeout=86_400.0)
        self._session = session = ClientSession(
            self._clock, self, register, self._visitors, settings=settings, windows=self._windows
        )
        session.connect(self._endpoint)

    def _speakJson(self) -> JsonEdgeSession:
        """The relay has answered, and knows the older dialect alone."""
        start = AgentStart(self._name, self._secret, self.lastError)
        self._session = session = JsonEdgeSession(self._clock, self, start, self._targets)
        return session

    def _failed(self, end: SessionEnd) -> None:
        """Try again after a pause."""
        since, self._attachedAt = self._attachedAt, None
        lasted = None if since is None else self._seconds() - since
        if lasted is not None and lasted >= STABLE:
            self._pauseSeconds = FIRST_PAUSE
        if end.code == SessionError.REPLACED:  # or two of one name would take turns
            self._pauseSeconds = LONGEST_PAUSE
        pause = self._pauseSeconds * (1 + self._random()) / 2
        self._pauseSeconds = min(2 * self._pauseSeconds, LONGEST_PAUSE)
        self._pause.start(pause, self._attempt)
        self.lastError = problem = " ".join(filter(None, (end.problem, _HINTS.get(end.code))))  # type: ignore[call-overload]
        SessionEnd(problem, end.code).logRetry(self._relay, pause, lasted)

    # -- ISessionOwner, IJsonSessionOwner

    def gotAck(self, session: ClientSession, ack: Ack) -> None:
        if session is self._session and self._attachedAt is None:
            self._attachedAt = self._seconds()
            self._log.info("connected to {gateway}", event="agent.connected", gateway=self._relay, session=ack.session)

    def attached(self, session: JsonEdgeSession) -> None:
        if session is self._session:
            self._attachedAt = self._seconds()
            self._log.info("connected to {gateway}", event="agent.connected", gateway=self._relay, session="")

    def gotDrain(self, session: ClientSession, drain: Drain) -> None:
        if session is self._session and not self._isStopping:
            self._log.info(
                "the gateway goes away within {seconds:g} seconds: {reason}",
                event="agent.gateway-draining",
                seconds=drain.seconds,
                reason=drain.reason,
            )
            self._leaving.add(session)
            self._attempt()

    def sessionOver(self, session: _Session, end: SessionEnd) -> None:
        self._leaving.discard(session)
        if session is self._session:
            self._session = None
            if not self._isStopping:
                self._failed(end)
        if self._isStopping and self._session is None and not self._leaving:
            gone, self._gone = self._gone, []
            for waiting in gone:
                waiting.callback(None)

    # -- Ending

    def drain(self, seconds: float) -> Deferred[None]:
        """
        Take no more connections, and end when those that there are have ended, or when time is up.

        @return: fires when there is no session any more.
        """
        self._isStopping = True
        self._pause.stop()
        self._visitors.drain()
        sessions = self._sessions()
        if not sessions:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        for session in sessions:
            if isinstance(session, JsonEdgeSession):
                session.drain(seconds)
            else:
                session.drain(seconds, "The agent is stopping.")
        return gone

    def _sessions(self) -> list[_Session]:
        return [*self._leaving, *([self._session] if self._session is not None else [])]

    def close(self) -> None:
        """After L{drain}: there is no more time."""
        for session in self._sessions():
            session.close()
