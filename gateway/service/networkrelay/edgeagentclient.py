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

from collections.abc import Callable, Mapping
from random import random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from gateway import __version__
from gateway.net.incoming import IncomingStreams
from gateway.net.mux import MuxSettings
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.agent.attachedclient import AttachedClient
from gateway.service.agent.dialect import DialectEndpoint
from gateway.service.agent.dialledsession import SessionEnd
from gateway.service.agent.session import ClientSession, ISessionOwner
from gateway.service.networkrelay.edgeagentjson import STREAMS, JsonEdgeSession
from gateway.service.networkrelay.edgeagenttargets import EdgeTargets
from gateway.wire.agentcontrol import Ack, Register, SecretCredential, SessionError
from gateway.wire.networkrelay import MAX_MESSAGE, AgentStart, agentLabel
from gateway.wire.upgraderequest import WebSocketRequest
from gateway.wire.window import WindowBudget

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
STABLE = 60.0
"""Seconds: of the pause after a first failure, of the longest, and that a session has to last to begin anew."""

PING = 15.0
"""Seconds between pings, until the relay has said how many."""

_HINTS: Mapping[str, str] = {
    SessionError.REPLACED: "Another process with the same name is running.",
    SessionError.UNAUTHORIZED: "Look at the name and at the secret.",
}


@implementer(ISessionOwner)
class EdgeAgentClient(AttachedClient):
    """
    Keeps a session through which targets are reached.

    @param connection: makes the connections that WebSockets are opened on.
    @param request: what to ask for there.
    @param name: that the agent goes by: any text.
    @param readSecret: returns what proves the name; raises L{ConfigurationError} when it cannot be read.
    @param relay: where that is, for logs.
    """

    _log = Logger()  # by which people tell who says what
    hints = _HINTS

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
        carrier = DialectEndpoint(
            clock, connection, request, self._speakJson, settings=WebSocketSettings(maxMessage=MAX_MESSAGE)
        )
        super().__init__(clock, carrier, relay)
        self._name = name
        self._readSecret = readSecret
        self._targets = targets
        self._random = random
        self._windows = WindowBudget()
        self._visitors = IncomingStreams(clock, targets.decide, targets.streamOver, budget=targets.budget)
        self._secret = ""
        self._pauseSeconds = FIRST_PAUSE

    # -- AttachedClient

    def newSession(self) -> ClientSession:
        self._secret = self._readSecret()
        register = Register(
            version=1,
            agent=agentLabel(self._name),
            software=f"txgateway/{__version__}",
            credential=SecretCredential(secret=self._secret),
            targets=True,
        )
        settings = MuxSettings(streams=STREAMS, pingInterval=PING)
        return ClientSession(self._clock, self, register, self._visitors, settings=settings, windows=self._windows)

    def _speakJson(self) -> JsonEdgeSession:
        """The relay has answered, and knows the older dialect alone."""
        session = JsonEdgeSession(
            self._clock, self, AgentStart(self._name, self._secret, self.lastError), self._targets
        )
        self.keep(session)
        return session

    def pauseAfter(self, end: SessionEnd, lasted: float | None) -> float:
        if lasted is not None and lasted >= STABLE:
            self._pauseSeconds = FIRST_PAUSE
        if end.code == SessionError.REPLACED:  # or two of one name would take turns
            self._pauseSeconds = LONGEST_PAUSE
        pause = self._pauseSeconds * (1 + self._random()) / 2
        self._pauseSeconds = min(2 * self._pauseSeconds, LONGEST_PAUSE)
        return pause

    def drain(self, seconds: float) -> Deferred[None]:
        self._visitors.drain()
        return super().drain(seconds)

    # -- ISessionOwner

    def gotAck(self, session: ClientSession, ack: Ack) -> None:
        self.attached(session, ack.session)
