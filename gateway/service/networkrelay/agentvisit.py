"""
An edge agent that speaks http-network-relay's messages arrives: its first message says who it is::

    receiver = JsonAgentVisit(agents, "192.0.2.7", ticket, JsonAgentSettings())

The original says nothing to an agent that it does not take. It closes the WebSocket, and so does this one, but with the
reason in the Close.
"""

__all__ = ["JsonAgentVisit"]

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.agents import Rejection
from gateway.domain.limits import Ticket
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.service.networkrelay.session import CARRIER, JsonAgentSession, JsonAgentSettings
from gateway.service.server.agentdoor import AgentDoor
from gateway.wire.agentcontrol import SecretCredential, SessionError
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.networkrelay import GOING_AWAY, POLICY, AgentStart, agentLabel, decodeAgentStart, decodeFromAgent


@implementer(IWebSocketReceiver)
class JsonAgentVisit:
    """
    @param host: the agent's address.
    @param ticket: released when it is gone.
    """

    _log = Logger()

    def __init__(self, door: AgentDoor, host: str, ticket: Ticket, settings: JsonAgentSettings) -> None:
        self._door = door
        self._host = host
        self._ticket = ticket
        self._settings = settings
        self._channel: IWebSocketChannel | None = None
        self._session: JsonAgentSession | None = None
        self._isOver = False
        self._deadline: IDelayedCall | None = None

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self._channel = channel
        self._deadline = self._door.clock.callLater(self._door.settings.registerTimeout, self._late)

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
        self._stopClock()
        self._isOver = True
        self._ticket.release()
        session = self._session
        if session is None:
            return
        session.lost()
        self._door.sessionOver(session)
        facts = session.facts()
        self._log.info(
            "agent {agent} is gone: {reason}",
            event="agent.detached",
            agent=session.agent,
            replica=session.replica,
            session=session.name,
            reason="closed" if reason.check(ConnectionDone) else reason.getErrorMessage(),
            seconds=facts.seconds,
            up=facts.up,
            down=facts.down,
        )

    # -- Registration

    def _stopClock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        self._refuse(SessionError.REGISTER_TIMEOUT, "No agent registered in time.")

    def _refuse(self, code: str, details: str, **facts: object) -> None:
        self._isOver = True
        self._stopClock()
        self._log.info(
            "no agent attached: {details}, from {peer}",
            event="agent.refused",
            code=str(code),
            details=details,
            peer=self._host,
            carrier=CARRIER,
            **facts,
        )
        if self._channel is not None:
            self._channel.close(GOING_AWAY if code == SessionError.SHUTTING_DOWN else POLICY, details)

    def _register(self, start: AgentStart) -> None:
        door = self._door
        now = door.clock.seconds()
        if door.draining:
            self._refuse(SessionError.SHUTTING_DOWN, "The gateway is shutting down.")
            return
        if door.bans.remaining(self._host, now):
            self._refuse(SessionError.UNAUTHORIZED, "Too many wrong credentials came from this address: wait a while.")
            return
        credential = SecretCredential(secret=start.secret)
        who = door.authority.authenticate(agentLabel(start.name), credential, None, door.wallClock())
        if isinstance(who, Rejection):
            banned = door.bans.failed(self._host, now)
            self._refuse(SessionError.UNAUTHORIZED, who.details, problem=who.problem, banned=banned)
            return
        if not door.hasRoom(who, ""):
            details = f"The agent {who.name} has {who.grant.sessions} sessions already."
            self._refuse(SessionError.TOO_MANY_SESSIONS, details)
            return
        assert self._channel is not None
        self._stopClock()
        self._ticket.authenticated()
        door.bans.succeeded(self._host)
        session = JsonAgentSession(door, self._channel, start, who, self._settings, peer=self._host)
        self._session = session
        self._log.info(
            "agent {agent} attached from {peer}",
            event="agent.attached",
            agent=who.name,
            replica=session.replica,
            session=session.name,
            peer=self._host,
            carrier=CARRIER,
            software="",
        )
        ghost = door.attach(session)
        session.start()
        if ghost is not None:
            ghost.end(SessionError.REPLACED, "A newer session of the same agent has taken over.")
