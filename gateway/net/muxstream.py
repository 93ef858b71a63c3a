"""
One stream of a yamux session, as a transport.

To the protocol on it a L{MuxStream} is what a TCP connection is: it has producers and consumers, ends in each direction
alone, and tells an end from a reset. So the relay, or any protocol of Twisted's, runs on it unchanged::

    stream = protocol.transport                 # made by gateway.net.mux.MuxSession
    stream.getPeer()                            # MuxAddress(session="agent-7", stream=5, carrier=...)
    stream.registerProducer(producer, True)     # is paused while more than 64 KiB wait to be sent

What is written waits here, until the session says that it is this stream's turn, and what is read while reading is
paused waits here, bounded by the window, for which the peer gets no new credit meanwhile.

Nothing that a protocol calls here calls it back at once. What is due then (bytes kept while it was paused, a drained
buffer, the end) comes from L{MuxStream.settle}, which the session calls before the turn of the reactor is over, so
that all that the protocol did meanwhile leaves in one write.
"""

__all__ = ["HIGH_WATER", "ISession", "MuxAddress", "MuxStream", "StreamRefused"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from twisted.internet.error import ConnectError, ConnectionAborted
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IPushProducer,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from gateway.net.direct import Buffer, IDirectTransport
from gateway.net.pieces import keep, takeFirst

HIGH_WATER = 64 * 1024
"""Bytes that may wait to be sent before the streaming producer is paused: as of Twisted's own transports."""


@implementer(IAddress)
@dataclass(frozen=True, slots=True)
class MuxAddress:
    """
    Where a stream leads to, or comes from.

    @ivar session: the session's name.
    @ivar stream: the stream's number, odd where the session's client opened it.
    @ivar carrier: the address of the connection below, at the same end.
    """

    session: str
    stream: int
    carrier: IAddress | None


class StreamRefused(ConnectError):
    """
    The session cannot open a stream at present

    @ivar code: C{ended}, C{going-away}, C{exhausted}, C{streams} or C{backlog}, as of
        L{openRefusal<gateway.wire.yamux.Session.openRefusal>}.
    """

    def __init__(self, code: str) -> None:
        super().__init__(string=code)
        self.code = code

    def __str__(self) -> str:
        return f"the session cannot open a stream at present: {self.code}"


class ISession(Interface):
    """What a stream needs of its session. Each verb is for the end of this turn of the reactor, or for later."""

    def address(stream: int, peer: bool) -> MuxAddress:
        """The address of a stream at one of its ends."""

    def wants(stream: int) -> None:
        """The stream has something to send."""

    def consumed(stream: int, count: int) -> None:
        """The application took so many bytes."""

    def unsettled(stream: "MuxStream") -> None:
        """Call its C{settle}."""

    def endWriting(stream: int) -> None:
        """All is sent: send FIN."""

    def end(stream: int) -> None:
        """All is sent, and nobody reads: send FIN, and forget the stream."""

    def reset(stream: int) -> None:
        """Send RST; what was not sent by now never is."""

    def forget(stream: int) -> None:
        """The protocol was told of its end."""


@implementer(IDirectTransport, IHalfCloseableDescriptor)
class MuxStream:
    """
    Made by a L{MuxSession<gateway.net.mux.MuxSession>}, which also calls what is not part of the interfaces.

    @ivar number: of the stream in its session.
    @ivar protocol: the application.
    @ivar unsent: bytes that wait for the session.
    @ivar unread: bytes that wait for the application.
    @ivar disconnecting: C{loseConnection} was called.
    @ivar disconnected: the protocol was told C{connectionLost}, or is about to be.
    """

    __slots__ = (
        "_arrived",
        "_endsWriting",
        "_finArrived",
        "_finSent",
        "_finTold",
        "_gotData",
        "_paused",
        "_producer",
        "_producerPaused",
        "_queue",
        "_reason",
        "_session",
        "_streaming",
        "disconnected",
        "disconnecting",
        "number",
        "protocol",
        "unread",
        "unsent",
    )

    def __init__(self, session: ISession, number: int, protocol: IProtocol) -> None:
        self.number = number
        self.protocol = protocol
        self.unsent = 0
        self.unread = 0
        self.disconnecting = False
        self.disconnected = False
        self._session = session
        self._queue: list[Buffer] = []  # short, and 700 bytes smaller than a deque
        self._endsWriting = False
        self._finSent = False
        self._arrived: list[bytes | bytearray] = []
        self._gotData: Callable[[Buffer], None] | None = None
        self._finArrived = False
        self._finTold = False
        self._paused = False
        self._producer: IPushProducer | None = None
        self._streaming = False
        self._producerPaused = False
        self._reason: Failure | None = None

    # -- ITransport

    def write(self, data: Buffer) -> None:
        """
        Send this when it is the stream's turn. Of a C{memoryview} nothing is kept beyond the call.
        """
        if self._finSent or self._reason is not None or not data:
            return
        self._queue.append(data if isinstance(data, bytes) else bytes(data))
        waiting, self.unsent = self.unsent, self.unsent + len(data)
        if not waiting:
            self._session.wants(self.number)
        if self.unsent > HIGH_WATER and self._streaming and not self._producerPaused:
            assert self._producer is not None
            self._producerPaused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write all of these, as one write."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Read no more, and end the stream once all is sent."""
        if not self.disconnecting:
            self.disconnecting = True
            self._drop()
            self._session.unsettled(self)

    def abortConnection(self) -> None:
        """Drop what is not sent, and reset the stream. The protocol is told before the turn of the reactor is over."""
        if self._reason is None:
            self._session.reset(self.number)
            self.lost(Failure(ConnectionAborted()))

    def getPeer(self) -> MuxAddress:
        """The address at the other end."""
        return self._session.address(self.number, True)

    def getHost(self) -> MuxAddress:
        """The address at this end."""
        return self._session.address(self.number, False)

    # -- IHalfCloseableDescriptor

    def loseWriteConnection(self) -> None:
        """Send FIN once all is sent; the other direction goes on."""
        if not self._endsWriting:
            self._endsWriting = True
            self._session.unsettled(self)

    def writeConnectionLost(self, reason: Failure) -> None:
        """FIN was sent."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()

    def readConnectionLost(self, reason: Failure) -> None:
        """
        FIN came, and all that came before was read. To a protocol that knows no half-close it is the end of the stream,
        after what that protocol wrote.
        """
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self.loseConnection()

    # -- IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Let a producer write here, at the pace at which the peer reads.

        @raise RuntimeError: another one is registered.
        """
        if self._producer is not None:
            raise RuntimeError(f"{self._producer} was never unregistered")
        if self._reason is not None:
            producer.stopProducing()
            return
        self._producer = push = cast(IPushProducer, producer)  # a pull producer is never paused
        self._streaming = streaming
        self._producerPaused = False
        if not streaming:
            push.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None
        self._streaming = False
        if self.disconnecting or self._endsWriting:
            self._session.unsettled(self)

    # -- IPushProducer: reading

    def pauseProducing(self) -> None:
        """Hand over nothing, and give the peer no credit."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on, first with what was kept."""
        if self._paused:
            self._paused = False
            if self._arrived or self._finArrived:
                self._session.unsettled(self)

    def stopProducing(self) -> None:
        """The same as C{loseConnection()}."""
        self.loseConnection()

    # -- IDirectTransport

    def readDirectly(self, gotData: Callable[[Buffer], None]) -> None:
        """Hand over views of what the carrier read, rather than copies."""
        self._gotData = gotData

    # -- For the session

    def takeFirst(self, count: int) -> Buffer:
        """At most so many of the bytes that wait, which has to be some; they are the session's now."""
        first = takeFirst(self._queue, count)
        self.unsent -= len(first)
        return first

    def gotData(self, data: Buffer) -> None:
        """Payload came: hand it over, or keep a copy."""
        if self.disconnecting or self._reason is not None:
            return
        if not self._paused and not self._arrived:
            self._deliver(data)
            return
        keep(self._arrived, data)
        self.unread += len(data)

    def _deliver(self, data: Buffer) -> None:
        if self._gotData is None:
            self.protocol.dataReceived(bytes(data))
        else:
            self._gotData(data)
        self._session.consumed(self.number, len(data))

    def gotFin(self) -> None:
        """The peer sends no more."""
        self._finArrived = True
        self._session.unsettled(self)

    def lost(self, reason: Failure) -> None:
        """
        The stream is over: tell the protocol when it is time to settle. What is kept goes with it, unless that is all
        there was to come: then whoever paused reading gets it first, as from a connection.
        """
        if self._reason is None:
            self._reason = reason
            if self.disconnecting or not self._finArrived:
                self._drop()
            self._queue.clear()
            self.unsent = 0
            self._session.unsettled(self)

    def _drop(self) -> None:
        self._arrived.clear()
        self.unread = 0

    def settle(self) -> None:
        """Do what was to wait until nobody is in the middle of something. It may be called without need."""
        if self._reason is None or self._finArrived:
            self._settleReading()
        if self._reason is None and not self._queue:
            self._settleWriting()
        if self._reason is not None and not (self.disconnected or self._arrived):
            self.disconnected = True
            self._session.forget(self.number)
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(self._reason)

    def _settleReading(self) -> None:
        while self._arrived and not self._paused:
            data = bytes(self._arrived.pop(0))
            self.unread -= len(data)
            self._deliver(data)
        if self._finArrived and not (self._finTold or self._arrived or self.disconnecting):
            if self._reason is not None:
                # The rest is lost, and not this. Who knows no half-close hears of the loss alone.
                self._finTold = True
                if IHalfCloseableProtocol.providedBy(self.protocol):
                    self.readConnectionLost(connectionDone)
            elif not self._paused:
                self._finTold = True
                self.readConnectionLost(connectionDone)

    def _settleWriting(self) -> None:
        """All is sent. The order is that of Twisted's transports."""
        if self._producer is not None and (self._producerPaused or not self._streaming):
            self._producerPaused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self._session.end(self.number)
            self.lost(connectionDone)
        elif self._endsWriting and not self._finSent:
            self._finSent = True
            self._session.endWriting(self.number)
            self.writeConnectionLost(connectionDone)
