"""
An edge agent that speaks http-network-relay's messages arrives: its first message says who it is::

    receiver = JsonAgentVisit(agents, "192.0.2.7", ticket, JsonAgentSettings())

The original says nothing to an agent that it does not take. It closes the WebSocket, and so does this one, but with the
reason in the Close.
"""

__all__ = ["JsonAgentVisit"]

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.limits import Ticket
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.timer import Timer
from gateway.service.networkrelay.session import CARRIER, LOST, JsonAgentSession, JsonAgentSettings
from gateway.service.server.agentdoor import AgentDoor, Unwelcome
from gateway.wire.agentcontrol import SecretCredential, SessionError
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.networkrelay import (
    GOING_AWAY,
    MAX_MESSAGE,
    POLICY,
    AgentStart,
    agentLabel,
    decodeAgentStart,
    decodeFromAgent,
)


@implementer(IWebSocketReceiver)
class JsonAgentVisit:
    """
    @param host: the agent's address.
    @param ticket: released when it is gone.
    """

    def __init__(self, door: AgentDoor, host: str, ticket: Ticket, settings: JsonAgentSettings) -> None:
        self._door = door
        self._host = host
        self._ticket = ticket
        self._settings = settings
        self._channel: IWebSocketChannel | None = None
        self._session: JsonAgentSession | None = None
        self._isOver = False
        self._deadline = Timer(door.clock)

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self._channel = channel
        self._deadline.start(self._door.settings.registerTimeout, self._late)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._isOver or (self._session is not None and self._session.isOver):
            return  # what was on its way when the WebSocket was closed
        try:
            if isBinary:
                raise RemoteProtocolError(SessionError.INVALID_MESSAGE, "A message is binary, and all are text here.")
            if self._session is None:
                self._register(decodeAgentStart(payload))
            else:
                self._session.gotMessage(decodeFromAgent(payload))
        except RemoteProtocolError as e:
            if self._session is None:
                self._refuse(e.code, e.details)
            else:
                self._session.end(e.code, e.details)

    def lost(self, reason: Failure) -> None:
        self._deadline.stop()
        isRefused, self._isOver = self._isOver, True
        self._ticket.release()
        session = self._session
        if session is None:
            if not (isRefused or reason.check(ConnectionDone)):
                self._door.logRefused(self._host, CARRIER, LOST, reason.getErrorMessage())
            return
        session.lost()
        self._door.sessionOver(session)
        session.logDetached(reason)

    # -- Registration

    def _late(self) -> None:
        self._refuse(SessionError.REGISTER_TIMEOUT, "No agent registered in time.")

    def _refuse(self, code: str, details: str, **facts: object) -> None:
        self._isOver = True
        self._deadline.stop()
        self._door.logRefused(self._host, CARRIER, code, details, **facts)
        if self._channel is not None:
            self._channel.close(GOING_AWAY if code == SessionError.SHUTTING_DOWN else POLICY, details)

    def _register(self, start: AgentStart) -> None:
        door = self._door
        credential = SecretCredential(secret=start.secret)
        try:
            who = door.identify(self._host, agentLabel(start.name), "", credential)
        except Unwelcome as e:
            self._refuse(e.code, e.details, **e.facts)
            return
        assert self._channel is not None
        self._deadline.stop()
        self._ticket.authenticated()
        self._channel.limitMessages(MAX_MESSAGE)
        self._session = session = JsonAgentSession(door, self._channel, start, who, self._settings, peer=self._host)
        session.logAttached()
        ghost = door.attach(session)
        session.start()
        if ghost is not None:
            ghost.end(SessionError.REPLACED, "A newer session of the same agent has taken over.")
