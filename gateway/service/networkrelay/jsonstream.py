"""
Connections as http-network-relay carries them: many in the JSON messages of one WebSocket, each a transport::

    streams = JsonStreams(reactor, channel, goodbye)      # goodbye: of a connection and why, e.g. a ConnectionClose
    JsonStream(streams, "c1").attach(protocol)
    streams.get("c1").received(b"data")                   # of an AgentData
    streams.get("c1").ended(Failure(ConnectionDone()))    # of a ConnectionReset

At the relay these are the connections that it asked an agent for, at the agent those that it was asked for.

Nobody says in these messages how much may be sent. The only thing to hold a sender back with is the connection that
they all come on: while one stream's reader does not keep up, nothing is read of any. So that a reader who has stopped
cannot stop all others for ever, one that has held them up for L{JsonStreamSettings.patience} is cut off, unless there
are no others. Between our own parts, which speak the agent protocol, each stream has a window of its own instead.
"""

__all__ = ["JsonStream", "JsonStreamSettings", "JsonStreams"]

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, IProducer, IProtocol, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct import Buffer
from gateway.net.interfaces import IStreamTransport, IWebSocketChannel
from gateway.net.timer import Timer
from gateway.wire.networkrelay import MAX_DATA, AgentData, Message, encode

CLOSED = "The other side closed the connection."
ABORTED = "The other side broke the connection off."
STALLED = "The other side did not read, and held up all other connections of the agent."
"""What is said of a stream that ends here."""


@dataclass(frozen=True, slots=True)
class JsonStreamSettings:
    """
    Limits of the streams of one WebSocket.

    @ivar queue: bytes that wait for the reader of one stream, from which on nothing is read for any.
    @ivar patience: seconds for which one may hold up the others.
    """

    queue: int = 64 * 1024
    patience: float = 15.0


S = TypeVar("S", bound="JsonStream")


@implementer(IPushProducer)
class JsonStreams(Generic[S]):
    """
    The streams of one WebSocket, which are its producer, too.

    @param channel: open.
    @param goodbye: makes what the peer is told when a stream ends here, of its name and the reason.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        channel: IWebSocketChannel,
        goodbye: Callable[[str, str], Message],
        settings: JsonStreamSettings = JsonStreamSettings(),  # frozen
    ) -> None:
        self.clock = clock
        self.channel = channel
        self.settings = settings
        self.isPaused = False
        self._goodbye = goodbye
        self._streams: dict[str, S] = {}
        self._stalled: set[S] = set()
        self._deadline = Timer(clock)
        channel.registerProducer(self, True)

    def __len__(self) -> int:
        """How many are open."""
        return len(self._streams)

    @property
    def isReading(self) -> bool:
        """Whether the peer can be heard: its silence means something only then."""
        return not self._stalled

    def add(self, stream: S) -> None:
        """A connection has been asked for."""
        self._streams[stream.connection] = stream

    def get(self, connection: str) -> S | None:
        """
        @return: C{None} for one that has ended: what is still said of it is late.
        """
        return self._streams.get(connection)

    def forget(self, stream: S, reason: str = "") -> None:
        """
        A stream has ended.

        @param reason: why it did at this end; empty: the peer has said so.
        """
        if self._streams.pop(stream.connection, None) is not None:
            self.flows(stream)
            if reason:
                self.channel.sendText(encode(self._goodbye(stream.connection, reason)))

    def lost(self, reason: Failure) -> None:
        """The WebSocket is gone, and all streams with it."""
        for stream in tuple(self._streams.values()):
            stream.ended(reason)

    # -- Reading: a slow reader stops all

    def stalls(self, stream: S) -> None:
        """As much waits for the reader of this stream as may."""
        if not self._stalled:
            self.channel.pauseProducing()
            self._deadline.start(self.settings.patience, self._late)
        self._stalled.add(stream)

    def flows(self, stream: S) -> None:
        """Its reader has taken all."""
        if stream in self._stalled:
            self._stalled.discard(stream)
            if not self._stalled:
                self._deadline.stop()
                self.channel.resumeProducing()

    def _late(self) -> None:
        if len(self._streams) == 1:
            self._deadline.start(self.settings.patience, self._late)
            return
        for stream in tuple(self._stalled):
            self._log.warn(
                "a connection was cut off: {problem}",
                event="networkrelay.stalled",
                connection=stream.connection,
                problem=STALLED,
            )
            stream.breakOff(STALLED)

    # -- IPushProducer: writing, for the channel

    def pauseProducing(self) -> None:
        self.isPaused = True
        for stream in tuple(self._streams.values()):
            stream.pauseProducer()

    def resumeProducing(self) -> None:
        self.isPaused = False
        for stream in tuple(self._streams.values()):
            stream.resumeProducer()

    def stopProducing(self) -> None:
        """The channel is gone, which its receiver is told."""


@implementer(IStreamTransport)
class JsonStream:
    """
    One connection. It does not half-close, as there is no message for that.

    @ivar connection: its name.
    """

    _protocol: IProtocol | None = None

    def __init__(self, streams: "JsonStreams[Any]", connection: str) -> None:
        self.connection = connection
        self.clock = streams.clock
        self._streams = streams
        self._arrived: deque[bytes] = deque()
        self._size = 0
        self._isPaused = False
        self._isDelivering = False
        self._isOver = False
        self._reason: Failure | None = None
        self._producer: IProducer | None = None
        streams.add(self)

    def attach(self, protocol: IProtocol) -> None:
        """The protocol is there; what has come for it so far is given to it."""
        self._protocol = protocol
        protocol.makeConnection(self)
        self._deliver()

    # -- What the peer says

    def received(self, data: bytes) -> None:
        """Payload has come. Where there is none it would wait, too, and count for nothing."""
        if not data or self._isOver or self._reason is not None:
            return
        self._arrived.append(data)
        self._size += len(data)
        self._deliver()
        if self._size >= self._streams.settings.queue and not self._isOver:
            self._streams.stalls(self)

    def _deliver(self) -> None:
        if self._isDelivering or self._protocol is None:
            return
        self._isDelivering = True
        while self._arrived and not (self._isPaused or self._isOver):
            data = self._arrived.popleft()
            self._size -= len(data)
            self._protocol.dataReceived(data)
        self._isDelivering = False
        if not self._arrived:
            self._streams.flows(self)
            if self._reason is not None:
                self._finish(self._reason)

    def ended(self, reason: Failure) -> None:
        """
        The peer has ended it; the reader may still take what came before.

        @param reason: C{ConnectionDone} where all has come.
        """
        if self._reason is None and not self._isOver:
            self._reason = reason
            self._streams.forget(self)
            self._deliver()

    def _finish(self, reason: Failure) -> None:
        if not self._isOver:
            self._isOver = True
            self._arrived.clear()
            self.finished()
            if self._protocol is not None:
                self._protocol.connectionLost(reason)

    def finished(self) -> None:
        """It is over for good. For what a subclass has to put away."""

    # -- ITransport

    def write(self, data: Buffer) -> None:
        """Send this at once. Of a C{memoryview} nothing is kept beyond the call."""
        if self._isOver or self._reason is not None:
            return
        send, view = self._streams.channel.sendText, memoryview(data)
        for at in range(0, len(view), MAX_DATA):
            send(encode(AgentData(bytes(view[at : at + MAX_DATA]), self.connection)))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write all of these, as one write."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """End it behind what was written."""
        self._leave(CLOSED, ConnectionDone())

    def loseWriteConnection(self) -> None:
        """There is no message for this, so the peer hears nothing of it."""

    def abortConnection(self) -> None:
        """End it, and say that it was cut short."""
        self._leave(ABORTED, ConnectionAborted())

    def breakOff(self, why: str) -> None:
        """End it for a reason that neither side has given."""
        self._leave(why, ConnectionAborted(why))

    def _leave(self, why: str, reason: Exception) -> None:
        if self._isOver:
            return
        if self._reason is None:
            self._reason = Failure(reason)
            self._streams.forget(self, why)
        self._arrived.clear()
        # Not in here: whoever closes a transport is not told in the middle of that.
        self.clock.callLater(0, self._finish, self._reason)

    def getPeer(self) -> IAddress:
        """That of the WebSocket."""
        return self._streams.channel.getPeer()

    def getHost(self) -> IAddress:
        """That of the WebSocket."""
        return self._streams.channel.getHost()

    # -- IPushProducer: reading

    def pauseProducing(self) -> None:
        self._isPaused = True

    def resumeProducing(self) -> None:
        self._isPaused = False
        self._deliver()

    def stopProducing(self) -> None:
        self.abortConnection()

    # -- IConsumer: writing

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        assert streaming, "a relay is a push producer"
        self._producer = producer
        if self._streams.isPaused:
            self.pauseProducer()

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducer(self) -> None:
        """The WebSocket takes no more."""
        if IPushProducer.providedBy(self._producer):
            self._producer.pauseProducing()

    def resumeProducer(self) -> None:
        """The WebSocket takes more again."""
        if IPushProducer.providedBy(self._producer):
            self._producer.resumeProducing()
