"""
One stream of an HTTP/2 connection, as the two ends of an exchange have in common.

What is written waits here until it is the stream's turn, the peer's windows are open and the transport takes more; and
what comes waits here until somebody takes it, which is what the peer gets new credit for. So of one stream we hold no
more than what one write brought beyond 64 KiB one way, and its window the other way. A request of a visitor's is one,
and so is one to an origin::

    class Request(Http2Stream): ...             # says what to do with what comes, and who is told to pause

Nothing is sent here: L{gateway.net.http2carrier} asks each stream in turn.
"""

__all__ = ["Http2Stream", "ICarrier"]

from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from zope.interface import Attribute, Interface

from gateway.net.direct import Buffer
from gateway.net.httpinterfaces import Fields
from gateway.net.pieces import keep, takeFirst
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http2fields import trailerFields, trailers
from gateway.wire.http2frames import MAX_FRAME

if TYPE_CHECKING:
    from gateway.net.http2backlog import Backlog
    from gateway.wire.http2 import Http2Connection
    from gateway.wire.http2events import DataReceived, HeadReceived


class ICarrier(Interface):
    """What a stream needs of its connection."""

    wire: "Http2Connection" = Attribute("What is said on it.")
    backlog: "Backlog" = Attribute("What waits to be sent on it.")

    def wants(stream: "Http2Stream") -> None:
        """The stream has something to send."""

    def flushSoon() -> None:
        """Something was said: send it when this turn of the reactor ends."""

    def forget(stream: "Http2Stream") -> None:
        """The stream is over at both ends, or nobody here cares any more."""


class Http2Stream:
    """
    @ivar number: of the stream; 0: it has none yet.
    @ivar unsent: bytes that wait to be sent.
    @ivar sent: bytes that were sent so far.
    @ivar taken: bytes of payload that were taken so far.
    @ivar isOver: nobody here is told anything any more.
    @ivar isPaused: whoever takes what comes does not at present.
    @ivar isFinished: all has been written, though it may not have been sent.
    @ivar isSourcePaused: whoever writes is to wait, as the connection's L{Backlog<gateway.net.http2backlog.Backlog>}
        has it.
    @ivar ended: the peer has said all.
    """

    __slots__ = (
        "_carrier",
        "_endDue",
        "_kept",
        "_left",
        "_queue",
        "_trailers",
        "_trailersReceived",
        "_writeEnded",
        "ended",
        "isFinished",
        "isOver",
        "isPaused",
        "isSourcePaused",
        "number",
        "sent",
        "taken",
        "unsent",
    )

    def __init__(self, carrier: ICarrier, number: int) -> None:
        self.number = number
        self.unsent = self.sent = self.taken = 0
        self.isOver = self.isPaused = self.ended = False
        self._carrier = carrier
        self._queue: list[Buffer] = []
        self.isFinished = self.isSourcePaused = self._writeEnded = False
        self._trailers: Fields = ()
        self._kept: list[bytes | bytearray] = []
        self._left: int | None = None
        self._endDue = False
        self._trailersReceived: Fields = ()

    # -- For a subclass to say

    def canDeliver(self) -> bool:
        """Whether there is somebody to take what comes."""
        raise NotImplementedError

    def deliver(self, data: bytes) -> None:
        """Payload came."""
        raise NotImplementedError

    def deliverEnd(self, trailers: Fields) -> None:
        """All has come."""
        raise NotImplementedError

    def pauseSource(self) -> None:
        """Enough waits to be sent."""
        raise NotImplementedError

    def resumeSource(self) -> None:
        """More may be written."""
        raise NotImplementedError

    def lost(self, code: int, details: str) -> None:
        """The stream is over before its end."""
        raise NotImplementedError

    def sentAll(self) -> None:
        """All was sent, and its end."""
        raise NotImplementedError

    def stopped(self) -> bool:
        """
        The peer ended the stream at once.

        @return: whether it had said all by then, so that this is no loss.
        """
        return False

    # -- Sending

    def write(self, data: Buffer) -> None:
        """Send this when it is the stream's turn. Of a C{memoryview} nothing is kept beyond the call."""
        if self.isOver or self._writeEnded or not data:
            return
        self._queue.append(data if isinstance(data, bytes) else bytes(data))
        self.unsent += len(data)
        self._carrier.wants(self)
        self._carrier.backlog.wrote(self, len(data))

    def end(self, trailers: Fields = ()) -> None:
        """Say that this was all, when it was sent."""
        if not (self.isOver or self.isFinished):
            self.isFinished = True
            self._trailers = trailers
            if not self._writeEnded:
                self._carrier.wants(self)

    def sendSome(self) -> bool | None:
        """
        Send one frame, for it is this stream's turn.

        @return: whether there is more to send; C{None}: there is, but a window is closed.
        """
        wire = self._carrier.wire
        if self._queue:
            room = wire.room(self.number)
            if room <= 0:
                return None
            piece = self._takeFirst(min(room, MAX_FRAME))
            self.sent += len(piece)
            isLast = self.isFinished and not self._queue and not self._trailers
            wire.sendData(self.number, piece, isLast=isLast)
            if isLast:
                self._ended()
            return bool(self._queue) or (self.isFinished and not self._writeEnded)
        if self.isFinished and not self._writeEnded:
            fields = trailerFields(self._trailers)
            if fields:
                wire.sendFields(self.number, fields, isLast=True)
            else:
                wire.sendData(self.number, b"", isLast=True)
            self._ended()
        return False

    def _ended(self) -> None:
        self._writeEnded = True
        self.sentAll()

    def _takeFirst(self, count: int) -> Buffer:
        first = takeFirst(self._queue, count)
        self.unsent -= len(first)
        if not self.isSourcePaused:
            self._carrier.backlog.held -= len(first)
        return first

    # -- Receiving

    def gotData(self, event: "DataReceived") -> None:
        """Payload came, or the end without trailers."""
        payload, wire = event.payload, self._carrier.wire
        size = len(payload)
        if self._left is not None:
            self._left -= size
            if self._left < 0 or (event.ended and self._left):
                wire.consumed(self.number, event.credit)
                self.fault("A body has not the length that it was to have.")
                return
        if self.isOver:
            wire.consumed(self.number, event.credit)
            self.ended = self.ended or event.ended
            return
        if size and (self._kept or self.isPaused or not self.canDeliver()):
            if event.credit > size:
                wire.consumed(self.number, event.credit - size)  # padding is not kept
            keep(self._kept, payload)
        else:
            wire.consumed(self.number, event.credit)
            if size:
                self.taken += size
                self.deliver(payload)
        if event.ended:
            self.gotEnd(())

    def gotTrailers(self, event: "HeadReceived") -> None:
        """The fields behind a body have come, and with them all."""
        try:
            fields = trailers(event.fields)
        except RemoteProtocolError as e:
            self.fault(e.details)
            return
        self.gotEnd(fields)

    def gotEnd(self, trailers: Fields) -> None:
        """All has come."""
        if self._left:
            self.fault("A body is shorter than it was to be.")
            return
        self.ended = self._endDue = True
        self._trailersReceived = trailers
        self.settle()

    def settle(self) -> None:
        """Hand over what was kept, as far as it is wanted."""
        while self._kept and not (self.isPaused or self.isOver) and self.canDeliver():
            payload = self._kept.pop(0)
            self.taken += len(payload)
            self._carrier.wire.consumed(self.number, len(payload))
            self._carrier.flushSoon()
            self.deliver(bytes(payload))
        if self._endDue and not (self._kept or self.isOver) and self.canDeliver():
            self._endDue = False
            self.deliverEnd(self._trailersReceived)

    def pauseProducing(self) -> None:
        """Hand over nothing for now, and give the peer no credit."""
        self.isPaused = True

    def resumeProducing(self) -> None:
        """Go on."""
        if self.isPaused:
            self.isPaused = False
            self.settle()

    # -- Ending

    def drop(self) -> None:
        """Nobody here cares any more: keep nothing."""
        self.isOver = True
        self.dropUnsent()
        kept, self._kept = sum(map(len, self._kept)), []
        if kept:
            self._carrier.wire.consumed(self.number, kept)
            self._carrier.flushSoon()

    def dropUnsent(self) -> None:
        """Send nothing more."""
        self._queue.clear()
        self._carrier.backlog.dropped(self)
        self.unsent = 0

    def reset(self, code: ErrorCodes, *, isFault: bool = False) -> None:
        """End the stream at once, without telling anybody here."""
        self.drop()
        self._carrier.wire.reset(self.number, code, isFault=isFault)
        self._carrier.forget(self)
        self._carrier.flushSoon()

    def fault(self, details: str) -> None:
        """End the stream for something that the peer did."""
        wasOver = self.isOver
        self.reset(ErrorCodes.PROTOCOL_ERROR, isFault=True)
        if not wasOver:
            self.lost(ErrorCodes.PROTOCOL_ERROR, details)
