"""
One edge agent that speaks http-network-relay's messages, from its registration to its end; the relay's side.

To the doors it is what an agent of our own is. What the messages have no words for is left out: the agent serves
nothing by name, is not told who the visitor is, and carries no datagrams::

    session = JsonAgentSession(door, channel, start, identity, peer="192.0.2.7")
    relay.connect(session.targetEndpoint(Target("10.0.0.5", 22), visitor))
"""

__all__ = ["CARRIER", "LOST", "JsonAgentSession", "JsonAgentSettings"]

from dataclasses import dataclass, field
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.agents import AgentIdentity
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.net.interfaces import IWebSocketChannel
from gateway.net.timer import Timer
from gateway.service.networkrelay.jsonstream import JsonStream, JsonStreams, JsonStreamSettings
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import Visitor
from gateway.service.server.identifiedsession import IdentifiedSession
from gateway.wire.agentcontrol import Service, SessionError
from gateway.wire.networkrelay import (
    CLOSED_BY_TARGET,
    GOING_AWAY,
    POLICY,
    RELAY_KEEP_ALIVE,
    AgentData,
    AgentStart,
    ConnectionClose,
    ConnectionFailed,
    ConnectionOpened,
    ConnectionReset,
    FromAgent,
    InitiateConnection,
    KeepAlive,
    encode,
)

CARRIER = "websocket, network-relay"
"""What the session runs on, for people."""

PING_TIMEOUT = "ping-timeout"
"""The code of a session whose agent is silent."""

LOST = "lost"
"""The code of somebody who broke off, or sent what is no WebSocket's, before it was known who it is."""

LINGER = 60.0
"""Seconds of silence after which a connection is over whose visitor has said all: older agents tell no end."""


@dataclass(frozen=True, slots=True)
class JsonAgentSettings:
    """
    Limits of one agent.

    @ivar keepAlive: seconds between messages that say that the relay lives.
    @ivar silence: seconds without a message after which the agent is gone. It says every ten that it lives.
    @ivar streams: connections at once.
    """

    keepAlive: float = RELAY_KEEP_ALIVE
    silence: float = 45.0
    streams: int = 256
    json: JsonStreamSettings = field(default_factory=JsonStreamSettings)


@implementer(IHalfCloseableDescriptor)
class _Stream(JsonStream):
    """
    A connection that an agent was asked for, before it is there and from then on.

    That the visitor has no more to say cannot be told, and does not end anything: answers may still come. When none
    has come for a while, none will.
    """

    def __init__(self, streams: "JsonStreams[_Stream]", factory: IProtocolFactory) -> None:
        super().__init__(streams, str(uuid4()))
        self._factory = factory
        self._waiting: Deferred[IProtocol] | None = None
        self._nextLook = Timer(self.clock)
        self._heard = 0.0

    def awaited(self) -> Deferred[IProtocol]:
        """
        @return: fires when the target is connected; may be cancelled.
        """
        waiting: Deferred[IProtocol] = Deferred(self._cancelled)
        self._waiting = waiting
        return waiting

    def _cancelled(self, waiting: Deferred[IProtocol]) -> None:
        self._waiting = None
        self.breakOff("The visitor did not wait any longer.")

    def opened(self) -> None:
        """The target is connected."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        try:
            protocol = self._factory.buildProtocol(self.getPeer())
            if protocol is None:
                raise NoProtocol()
        except Exception:  # whatever a factory raises, the one who waits is told
            self.abortConnection()
            waiting.errback(Failure())
            return
        self.attach(protocol)
        waiting.callback(protocol)

    def failed(self, error: DialFailed) -> None:
        """The target cannot be connected."""
        if self._waiting is not None:
            self.ended(Failure(error))

    def ended(self, reason: Failure) -> None:
        super().ended(reason)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            isOurs = isinstance(reason.value, DialFailed)
            waiting.errback(reason if isOurs else DialFailed(DialFailure.GONE, "The agent went away."))

    def received(self, data: bytes) -> None:
        self._heard = self.clock.seconds()
        super().received(data)

    def finished(self) -> None:
        self._nextLook.stop()

    # -- IHalfCloseableDescriptor

    def loseWriteConnection(self) -> None:
        self._heard = self.clock.seconds()
        self._nextLook.start(LINGER, self._look)

    def _look(self) -> None:
        left = self._heard + LINGER - self.clock.seconds()
        if left > 0:
            self._nextLook.start(left, self._look)
        else:
            self.loseConnection()

    def writeConnectionLost(self, reason: Failure) -> None:
        """Nobody calls this."""

    def readConnectionLost(self, reason: Failure) -> None:
        """Nobody calls this."""


@implementer(IStreamClientEndpoint)
class _TargetEndpoint:
    """Dials a target from where the agent is."""

    def __init__(self, session: "JsonAgentSession", target: Target) -> None:
        self._session = session
        self._target = target

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled, and has no time limit of its own; fails with L{DialFailed}.
        """
        return self._session.initiate(self._target, factory)


class JsonAgentSession(IdentifiedSession):
    """
    @param channel: open.
    """

    def __init__(
        self,
        door: AgentDoor,
        channel: IWebSocketChannel,
        start: AgentStart,
        identity: AgentIdentity,
        settings: JsonAgentSettings,
        *,
        peer: str,
    ) -> None:
        self._channel = channel
        self._settings = settings
        self._takesKeepAlive = start.takesKeepAlive
        self._heard = door.seconds()
        self._nextAlive = Timer(door.clock)
        self._nextLook = Timer(door.clock)
        self._streams: JsonStreams[_Stream] = JsonStreams(
            door.clock, channel, lambda connection, why: ConnectionClose(why, connection), settings.json
        )
        super().__init__(door, identity, "", peer=peer, carrier=CARRIER)

    # -- Whether the agent is there

    def start(self) -> None:
        """The agent is attached: see to it that it stays so."""
        if self._takesKeepAlive:
            self._nextAlive.start(self._settings.keepAlive, self._sayAlive)
        self._nextLook.start(self._settings.silence, self._look)

    def _sayAlive(self) -> None:
        self._nextAlive.start(self._settings.keepAlive, self._sayAlive)
        if not self._streams.isPaused:  # else it has something to read already
            self._channel.sendText(encode(KeepAlive()))

    def _look(self) -> None:
        if not self._streams.isReading:
            self._heard = self.door.seconds()  # it is not heard, and that is our doing
        left = self._heard + self._settings.silence - self.door.seconds()
        if left > 0:
            self._nextLook.start(left, self._look)
            return
        self.end(PING_TIMEOUT, f"The agent has said nothing for {self._settings.silence:g} seconds.")
        self._channel.abortConnection()

    def stopClock(self) -> None:
        super().stopClock()
        self._nextAlive.stop()
        self._nextLook.stop()

    # -- What it says

    def gotMessage(self, message: FromAgent) -> None:
        """The agent says something after its registration. What is about a connection that has ended is late."""
        self._heard = self.door.seconds()
        if isinstance(message, KeepAlive) or (stream := self._streams.get(message.connection)) is None:
            return
        match message:
            case AgentData(data=data):
                stream.received(data)
            case ConnectionOpened():
                stream.opened()
            case ConnectionFailed(message=details):
                stream.failed(DialFailed(DialFailure.UNREACHABLE, details))
            case ConnectionReset(message=details):
                stream.failed(DialFailed(DialFailure.UNREACHABLE, details))  # where it was none yet
                isEnd = details == CLOSED_BY_TARGET
                stream.ended(Failure(ConnectionDone() if isEnd else ConnectionLost(details)))

    def lost(self) -> None:
        """The WebSocket is gone."""
        self.stopClock()
        self._streams.lost(Failure(ConnectionLost("the agent went away")))

    # -- IdentifiedSession

    @property
    def load(self) -> int:
        return len(self._streams)

    def lastHeard(self) -> float | None:
        return self._heard

    def endpointFor(self, service: Service, visitor: Visitor) -> IStreamClientEndpoint:
        details = f"The agent {self.agent} serves nothing: it leads to targets alone."
        return FailingEndpoint(DialFailed(DialFailure.UNAVAILABLE, details))

    def dialTarget(self, target: Target, visitor: Visitor) -> IStreamClientEndpoint:
        if visitor.isDatagram:
            details = f"The agent {self.agent} speaks a dialect without UDP. Run edge-agent of txgateway there."
            return FailingEndpoint(DialFailed(DialFailure.DENIED, details))
        if self.load >= self._settings.streams:
            details = f"The agent {self.agent} has {self._settings.streams} streams already."
            return FailingEndpoint(DialFailed(DialFailure.UNAVAILABLE, details))
        return _TargetEndpoint(self, target)

    def initiate(self, target: Target, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Ask the agent for a connection."""
        if self.isOver:
            return FailingEndpoint(DialFailed(DialFailure.GONE, "The agent went away.")).connect(factory)
        stream = _Stream(self._streams, factory)
        waiting = stream.awaited()
        self._channel.sendText(encode(InitiateConnection(target.host, target.port, "tcp", stream.connection)))
        return waiting

    def sayGoodbye(self, code: str, details: str) -> None:
        self._streams.lost(Failure(ConnectionLost(details)))
        self._channel.close(GOING_AWAY if code == SessionError.SHUTTING_DOWN else POLICY, details)

    def drain(self, seconds: float, reason: str) -> None:
        """Take no new streams. The agent cannot be told."""
        self.isDraining = True
