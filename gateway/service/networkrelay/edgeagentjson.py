"""
An edge agent's session with a relay that speaks http-network-relay's messages, from the moment that its WebSocket is
open; the agent's side::

    session = JsonEdgeSession(reactor, owner, AgentStart("box", secret), targets)
    session.opened(channel)             # owner.attached(session), and some day owner.sessionOver

What the messages have no words for: nobody says that the agent may come, so one that is not sent away is taken to be
attached. And the end of one direction cannot be told, so a connection is over when its target has ended either.
"""

__all__ = ["JsonEdgeSession"]

from collections.abc import Callable

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.muxdeadlines import monotonic
from gateway.net.relay import Half, Outcome, Relay
from gateway.net.timer import Timer
from gateway.service.agent.dialledsession import IClientSession, IClientSessionOwner, SessionEnd, explainLoss
from gateway.service.draining import Vacancy
from gateway.service.networkrelay.edgeagenttargets import EdgeTargets
from gateway.service.networkrelay.jsonstream import CLOSED, JsonStream, JsonStreams
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.networkrelay import (
    AGENT_KEEP_ALIVE,
    CLOSED_BY_TARGET,
    AgentData,
    AgentStart,
    ConnectionClose,
    ConnectionFailed,
    ConnectionOpened,
    ConnectionReset,
    InitiateConnection,
    KeepAlive,
    Message,
    decodeToAgent,
    encode,
)

SETTLED = 2.0
"""Seconds after which an agent that was not sent away is attached."""

STREAMS = 4096
"""Connections at once."""

_GOING_AWAY = 1001
_PROTOCOL_ERROR = 1002


class _Near(Half):
    """The relay's side of one connection, which says that the target is there before anything comes from it."""

    def __init__(self, relay: Relay, opened: Callable[[], None]) -> None:
        super().__init__(relay)
        self._opened = opened

    def joined(self, other: Half) -> None:
        self._opened()
        super().joined(other)


class _Connection:
    """One connection, from the relay's wish to its end."""

    _log = Logger()

    def __init__(self, session: "JsonEdgeSession", wish: InitiateConnection) -> None:
        self._session = session
        self._wish = wish
        self._to = f"{wish.host}:{wish.port}"
        self._stream = JsonStream(session.streams, wish.connection)
        self._isRefused = False

    def begin(self) -> None:
        """Dial."""
        session, wish = self._session, self._wish
        try:
            endpoint, settings = session.targets.endpointFor(wish.host, wish.port, isDatagram=False)
        except DialFailed as e:
            self._refuse(e)
            session.connectionOver(self)
            return
        relay = Relay(
            session.clock,
            self._ended,
            settings=settings,
            budget=session.targets.budget,
            nearFactory=lambda relay: _Near(relay, self._opened),
        )
        self._stream.attach(relay.near)
        relay.connect(endpoint).addErrback(self._failed)

    def _opened(self) -> None:
        self._session.send(ConnectionOpened(self._wish.connection))

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, DialFailed):
            self._log.failure("a connection could not be made", failure, event="gateway.defect")
            error = DialFailed(DialFailure.OTHER, "The agent has a defect.")
        if error.kind is not DialFailure.CANCELLED:
            self._refuse(error)

    def _refuse(self, error: DialFailed) -> None:
        self._isRefused = True
        self._session.send(ConnectionFailed(error.details, self._wish.connection))
        self._session.targets.visitFailed(self._to, error.details)
        self._session.streams.forget(self._stream)
        self._stream.loseConnection()

    def _ended(self, outcome: Outcome) -> None:
        self._session.connectionOver(self)
        if not self._isRefused:
            self._session.targets.visitClosed(self._to, outcome)


def _goodbye(connection: str, reason: str) -> Message:
    """What the relay is told of a connection that ended here."""
    return ConnectionReset(CLOSED_BY_TARGET if reason == CLOSED else reason, connection)


@implementer(IWebSocketReceiver, IClientSession)
class JsonEdgeSession:
    """
    @param start: the first message.
    @ivar streams: what the connections are carried by; there once the WebSocket is open.
    """

    streams: JsonStreams[JsonStream]

    def __init__(
        self, clock: IReactorTime, owner: IClientSessionOwner, start: AgentStart, targets: EdgeTargets
    ) -> None:
        self.clock = clock
        self.targets = targets
        self._owner = owner
        self._start = start
        self._connections: set[_Connection] = set()
        self._vacancy = Vacancy(self._connections)
        self.attachedAt: float | None = None
        self._isDraining = False
        self._problem = ""
        self._settling = Timer(clock)
        self._nextAlive = Timer(clock)
        self._deadline = Timer(clock)

    @property
    def load(self) -> int:
        """Connections that are open, or about to be."""
        return len(self._connections)

    def send(self, message: Message) -> None:
        """Say something to the relay."""
        self._channel.sendText(encode(message))

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self._channel = channel
        self.streams = JsonStreams(self.clock, channel, _goodbye)
        self.send(self._start)
        self._settling.start(SETTLED, self._settled)
        self._nextAlive.start(AGENT_KEEP_ALIVE, self._sayAlive)

    def _settled(self) -> None:
        self._settling.stop()
        self.attachedAt = monotonic(self.clock)()
        self._owner.attached(self)

    def _sayAlive(self) -> None:
        # Whether the relay is alive is found out by the WebSocket's own pings.
        self._nextAlive.start(AGENT_KEEP_ALIVE, self._sayAlive)
        self.send(KeepAlive())

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            message = decodeToAgent(payload)
        except RemoteProtocolError as e:
            self._problem = f"The relay does not keep to the protocol: {e.details}"
            self._channel.close(_PROTOCOL_ERROR)
            return
        if self._settling.isRunning:
            self._settled()  # who is sent away is sent nothing else
        match message:
            case InitiateConnection():
                self._initiate(message)
            case AgentData(data, connection):
                if (stream := self.streams.get(connection)) is not None:  # otherwise it has ended here meanwhile
                    stream.received(data)
            case ConnectionClose(_, connection):
                if (stream := self.streams.get(connection)) is not None:
                    stream.ended(Failure(ConnectionDone()))

    def _initiate(self, wish: InitiateConnection) -> None:
        problem = None
        if self.streams.get(wish.connection) is not None:
            problem = "There is a connection of that id already."
        elif self.load >= STREAMS:
            problem = f"The agent has {STREAMS} connections already."
        elif self._isDraining:
            problem = "The agent is stopping."
        elif wish.protocol != "tcp":
            problem = f"With this relay the agent carries tcp, and not {wish.protocol}."
        if problem is not None:
            self.send(ConnectionFailed(problem, wish.connection))
            return
        connection = _Connection(self, wish)
        self._connections.add(connection)
        connection.begin()

    def connectionOver(self, connection: _Connection) -> None:
        """A connection is gone at both ends."""
        self._connections.discard(connection)
        self._vacancy.left()

    def lost(self, reason: Failure) -> None:
        for timer in (self._settling, self._nextAlive, self._deadline):
            timer.stop()
        # However properly the WebSocket ended, the connections in it did not.
        self.streams.lost(Failure(ConnectionLost()))
        self._owner.sessionOver(self, SessionEnd(self._problem or self._explain(reason)))

    def _explain(self, reason: Failure) -> str:
        if self.attachedAt is None and reason.check(ConnectionDone):
            return "The relay sent the agent away: look at the name and the secret, and whether it is running twice."
        return explainLoss(reason, "relay")

    # -- Ending

    def drain(self, seconds: float, reason: str) -> None:
        self._isDraining = True
        self._deadline.start(seconds, self.close)
        self._vacancy.awaited().addCallback(lambda _: self.close())

    def close(self) -> None:
        """End the session at once."""
        self._problem = self._problem or "The agent ended the session."
        self._channel.close(_GOING_AWAY)
