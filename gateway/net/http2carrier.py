"""
What both ends of an HTTP/2 connection do alike: the transport's side of L{gateway.wire.http2}.

What happens in one turn of the reactor leaves in one write at its end, or when what was read has been looked at.
Streams take turns, a frame of 16 KiB at most at a time, and a transport that is full stops the sending on all of them,
and the receiving on none, though there is a limit to what may come then and has to be answered::

    class Http2ServerConnection(Http2Carrier):
        def gotHead(self, event): ...           # and what else differs

An exchange that raises loses its own stream and no other.
"""

__all__ = ["Http2Carrier"]

from collections.abc import Callable

from h2.errors import ErrorCodes
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct import Buffer, directWriter, limitUnsent, readDirectly
from gateway.net.http2backlog import Backlog
from gateway.net.http2stream import Http2Stream, ICarrier
from gateway.net.httpsettings import HttpSettings
from gateway.net.interfaces import IStreamTransport
from gateway.net.lingering import Parting
from gateway.net.sweep import ISwept, Sweep
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http2 import Http2Connection
from gateway.wire.http2events import DataReceived, GoneAway, HeadReceived, Ponged, StreamReset

_BATCH = 128 * 1024
"""Bytes of payload that the transport is given at once."""

_ROUNDS = 16
"""Batches before the reactor gets a turn, however much the transport takes."""

_EVENTS = 128
"""What is done about one read before it gets a turn: a read may hold twenty thousand heads, and be a second's work."""

# The reasons for which nothing is read; it is again when none is left.
_FULL = 1
_TURN = 2


@implementer(IPushProducer, ICarrier, ISwept)
class Http2Carrier(Protocol):
    """
    @ivar wire: what is said on the connection.
    @ivar streams: those of which somebody here is told.
    @ivar backlog: what waits to be sent on them.
    @ivar isUsable: there is a transport, and nothing has ended the connection.
    """

    _log = Logger()
    transport: IStreamTransport

    def __init__(self, wire: Http2Connection, sweep: Sweep, settings: HttpSettings) -> None:
        self.wire = wire
        self.settings = settings
        self.sweep = sweep
        self.streams: dict[int, Http2Stream] = {}
        self.backlog = Backlog(settings.backlog)
        self.isUsable = False
        self.heard = 0.0
        self._line: dict[Http2Stream, None] = {}
        self._shut: dict[Http2Stream, None] = {}  # wait for a window
        self._corked = self._flushDue = False
        self._deaf = 0
        self._held = 0  # heads that came while the transport was full, each of which may cause one of ours
        self._full = True
        self._parting: Parting | None = None

    # -- For a subclass to say

    def gotHead(self, event: HeadReceived) -> None:
        """The head of a request, or of a response."""
        raise NotImplementedError

    def gotGoneAway(self, event: GoneAway) -> None:
        """The peer takes no more streams."""
        raise NotImplementedError

    def gotPong(self, event: Ponged) -> None:
        """The peer answered a ping."""
        raise NotImplementedError

    def failed(self, problem: RemoteProtocolError) -> None:
        """The peer broke the rules: the connection is about to end."""
        raise NotImplementedError

    def ended(self, reason: Failure) -> None:
        """The connection is gone. Called once, last."""
        raise NotImplementedError

    def settled(self) -> None:
        """A stream is over, or all was sent: see whether there is a reason to go on."""
        raise NotImplementedError

    def look(self, now: float) -> None:
        """See whether something took too long."""
        raise NotImplementedError

    # -- The transport's life

    def connectionMade(self) -> None:
        self._write = directWriter(self.transport)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        limitUnsent(self.transport)
        self._full, self.isUsable = False, True
        self.heard = self.sweep.clock.seconds()
        self.transport.registerProducer(self, True)
        readDirectly(self.transport, self.dataReceived)
        self.sweep.watch(self)
        self.wire.begin()
        self.flushSoon()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.isUsable, self._full = False, True
        self.sweep.forget(self)
        self._loseStreams("The connection was lost.")
        self.ended(reason)

    def _loseStreams(self, details: str) -> None:
        streams, self.streams = list(self.streams.values()), {}
        self._line.clear()
        self._shut.clear()
        for stream in streams:
            if not (stream.isOver or stream.stopped()):
                stream.drop()
                self.tell(stream, ErrorCodes.CANCEL, details)

    def tell(self, stream: Http2Stream, code: int, details: str) -> None:
        """Tell a stream that it is over."""
        try:
            stream.lost(code, details)
        except Exception:  # of the exchange's; the other streams go on
            self._log.failure("an exchange failed", event="gateway.defect")

    def disconnect(self, details: str) -> None:
        """End the connection and every stream on it, after what was said."""
        if not self.isUsable:
            return
        self.isUsable = False
        self._loseStreams(details)
        if output := self.wire.take():
            self._write((output,))
        self._full = True
        self._parting = Parting(self.transport, self.settings)
        # A TLS transport that has a producer, or is paused, never finishes closing.
        self.transport.unregisterProducer()
        self._hear(_FULL | _TURN)
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Cut the connection off, and every stream with it."""
        self.isUsable = False
        self.transport.abortConnection()

    # -- Receiving

    def dataReceived(self, data: Buffer) -> None:
        if not self.isUsable:
            return
        self.heard = now = self.sweep.clock.seconds()
        self._corked = True
        left = _EVENTS
        try:
            for event in self.wire.receive(data, now):
                if isinstance(event, HeadReceived):
                    self._held += self._full
                    if not event.isTrailers:
                        self.guard(event.stream, self.gotHead, event)
                    elif (stream := self.streams.get(event.stream)) is not None:
                        self.guard(event.stream, stream.gotTrailers, event)
                elif isinstance(event, DataReceived):
                    if (stream := self.streams.get(event.stream)) is not None:
                        self.guard(event.stream, stream.gotData, event)
                    else:
                        self.wire.consumed(event.stream, event.credit)
                elif isinstance(event, StreamReset):
                    if (stream := self.streams.pop(event.stream, None)) is not None:
                        self.lose(stream, event)
                elif isinstance(event, GoneAway):
                    self.gotGoneAway(event)
                elif isinstance(event, Ponged):
                    self.gotPong(event)
                else:
                    self._opened(event.stream)
                if not self.isUsable:
                    return
                if self._full and self._held > self.settings.http2.streams:
                    self._ignore(_FULL)
                left -= 1
                if not left:
                    if not self._deaf & _TURN:
                        self._ignore(_TURN)
                        self.sweep.endOfTurn(self._goOn)
                    break
        except RemoteProtocolError as e:
            self.failed(e)
            self.disconnect(e.details)
            return
        self._flush()

    def hearOut(self) -> None:
        """Look at all that was read, now."""
        while self.isUsable and self._deaf & _TURN:
            self._goOn()

    def _goOn(self) -> None:
        """With what is left of what was read, before more is: it may be that there is nobody any more."""
        if self.isUsable:
            self._deaf &= ~_TURN
            self.dataReceived(b"")
            if not self._deaf:
                self.transport.resumeProducing()

    def _ignore(self, reason: int) -> None:
        if not self._deaf:
            self.transport.pauseProducing()
        self._deaf |= reason

    def _hear(self, reason: int) -> None:
        if self._deaf:
            self._deaf &= ~reason
            if not self._deaf:
                self.transport.resumeProducing()

    def guard(self, number: int, receiver: Callable[..., None], *arguments: object) -> None:
        """Do something that may fail for a stream, and then costs nobody but it."""
        try:
            receiver(*arguments)
        except Exception:  # of the exchange's; the other streams go on
            self._log.failure("an exchange failed", event="gateway.defect")
            self._defect(number)

    def _defect(self, number: int) -> None:
        if (stream := self.streams.get(number)) is not None:
            stream.reset(ErrorCodes.INTERNAL_ERROR)
            self.tell(stream, ErrorCodes.INTERNAL_ERROR, "Something failed here.")
        else:
            self.wire.reset(number, ErrorCodes.INTERNAL_ERROR)

    def lose(self, stream: Http2Stream, event: StreamReset) -> None:
        """A stream is over before its end."""
        self.forget(stream)
        if not (stream.isOver or stream.stopped()):
            stream.drop()
            self.tell(stream, event.code, event.details)

    def _opened(self, number: int) -> None:
        if number:
            stream = self.streams.get(number)
            if stream is not None and stream in self._shut:
                del self._shut[stream]
                self._line[stream] = None
        else:
            self._line.update(self._shut)
            self._shut.clear()

    # -- Sending

    def wants(self, stream: Http2Stream) -> None:
        if stream not in self._shut:
            self._line[stream] = None
        elif not stream.unsent:  # only an end, for which no window is needed
            del self._shut[stream]
            self._line[stream] = None
        self.flushSoon()

    def forget(self, stream: Http2Stream) -> None:
        self.streams.pop(stream.number, None)
        self._line.pop(stream, None)
        self._shut.pop(stream, None)

    def flushSoon(self) -> None:
        if not (self._corked or self._flushDue):
            self._flushDue = True
            self.sweep.endOfTurn(self._flushNow)

    def _flushNow(self) -> None:
        self._flushDue = False
        if self.isUsable:
            self._flush()

    def _flush(self) -> None:
        """Give the transport what it takes."""
        self._corked = True
        for _ in range(_ROUNDS):
            if self._full:
                break
            self._takeTurns()
            while (stream := self.backlog.next()) is not None:
                self.guard(stream.number, stream.resumeSource)
            if output := self.wire.take():
                self._write((output,))
            if not self._line:
                break
        self._corked = False
        if self._line and not self._full:
            self.flushSoon()
        if self._full and self.wire.hoards:
            self.failed(RemoteProtocolError("ENHANCE_YOUR_CALM", "Answers are asked for, and not read."))
            self.abortConnection()
        elif self.isUsable:
            self.settled()

    def _takeTurns(self) -> None:
        """Let the streams fill a batch."""
        line, room = self._line, _BATCH
        while line and room > 0:
            stream = next(iter(line))
            del line[stream]
            before = stream.sent
            try:
                more = stream.sendSome()
            except Exception:  # of the exchange's, which was resumed
                self._log.failure("an exchange failed", event="gateway.defect")
                self._defect(stream.number)
                continue
            if more:
                line[stream] = None
            elif more is None:
                self._shut[stream] = None
            room -= stream.sent - before

    # -- IPushProducer: of the transport

    def pauseProducing(self) -> None:
        """The transport is full."""
        self._full = True

    def resumeProducing(self) -> None:
        """The transport has room."""
        if self.isUsable:
            self._full = False
            self._held = 0
            self._hear(_FULL)
            if not self._corked:
                self._flush()

    def stopProducing(self) -> None:
        """The transport is gone, which L{connectionLost} tells."""

    # -- ISwept

    def check(self, now: float) -> None:
        if self.isUsable:
            self.look(now)
        elif self._parting is not None and self._parting.check(now, isSent=True):
            self._parting = None
