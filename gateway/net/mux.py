"""
A yamux session on a stream transport: any number of transports on one connection.

L{MuxSession} is the protocol on the carrier, at either end, and joins L{gateway.wire.yamux} to Twisted: it knows the
clock, the carrier's pace and the protocols on the streams::

    session = MuxSession(reactor, client=True, factory=visitors)   # the protocol of a connection
    MuxEndpoint(session).connect(factory)                          # a stream of ours
    visitors.buildProtocol(MuxAddress(...))                        # is asked for each stream of the peer's

I{Opening.} A stream is there at once, as yamux lets us send before the peer has accepted: waiting would cost each
visitor a round trip. A peer that refuses resets the stream.

I{Sending.} What happens in one turn of the reactor leaves in one write at its end: the frames that answer what was
read, and those of everything that the applications wrote. Streams take turns, and the carrier is given little at a
time: what it buffers, every stream waits behind. A carrier that is full stops the sending on all streams, and the
receiving on none.

I{Failing.} A protocol that raises loses its own stream and no other.

Length: one protocol, whose two halves share the cork, the line of the streams and the carrier's pace.
"""

__all__ = ["MuxAddress", "MuxEndpoint", "MuxSession", "MuxSettings", "MuxStream", "StreamRefused"]

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost, NoProtocol, TimeoutError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct import Buffer, directWriter, limitUnsent, readDirectly
from gateway.net.interfaces import IStreamTransport
from gateway.net.muxdeadlines import Deadlines, MuxSettings, monotonic
from gateway.net.muxstream import ISession, MuxAddress, MuxStream, StreamRefused
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.window import WindowBudget
from gateway.wire.yamux import Session
from gateway.wire.yamuxframes import Data, Event, Fin, Pong, Rst, Syn

_BATCH = 128 * 1024
"""Bytes of payload that the carrier is given at once: two frames, or very many small ones."""

_ROUNDS = 16
"""Batches before the reactor gets a turn, however much the carrier takes."""


@implementer(IPushProducer, ISession)
class MuxSession(Protocol):
    """
    One end of a session.

    @param clock: for every deadline.
    @param client: which of the two roles: who made the carrier's connection, usually. It only decides the numbers.
    @param factory: makes a protocol for each stream that the peer opens, or C{None} to refuse it. Started and
        stopped with the session. Without one all are refused.
    @param budget: shared by all sessions of the process.
    @param name: for the addresses of the streams.
    @param ended: called once, when the carrier is gone and every stream was told: with C{ConnectionDone} or
        C{ConnectionLost} of the carrier's, C{TimeoutError} for a dead peer, or L{RemoteProtocolError}.
    @ivar lastPong: when the peer last answered a ping, in the seconds of L{monotonic}; C{None}: not yet.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        client: bool,
        factory: IProtocolFactory | None = None,
        budget: WindowBudget | None = None,
        settings: MuxSettings | None = None,
        name: str = "",
        ended: Callable[[Failure], None] | None = None,
    ) -> None:
        self.name = name
        self._clock = clock
        self._seconds = monotonic(clock)
        self._factory = factory
        self._settings = settings or MuxSettings()
        self._ended = ended
        self._session = Session(client=client, budget=budget or WindowBudget(), limits=self._settings)
        self._streams: dict[int, MuxStream] = {}
        self._toSettle: list[MuxStream] = []
        self._toAccept: list[int] = []
        self._corked = False
        self._full = True
        self._flushCall: IDelayedCall | None = None
        self._usable = False  # there is a carrier, and nothing has ended the session
        self._gone = False
        self._reason: Failure | None = None
        self._drained: list[Deferred[None]] = []
        self._openers: dict[Deferred[None], None] = {}  # in the order in which they came
        self.lastPong: float | None = None

    @property
    def rtt(self) -> float | None:
        """The shortest round trip seen, in seconds."""
        return self._session.rtt

    @property
    def streamCount(self) -> int:
        """How many streams have a protocol."""
        return len(self._streams)

    # -- The carrier's life

    def connectionMade(self) -> None:
        assert self.transport is not None
        self._carrier: IStreamTransport = self.transport  # type: ignore[assignment]  # all stream transports are
        self._peer, self._host = self._carrier.getPeer(), self._carrier.getHost()
        self._write = directWriter(self._carrier)
        self._deadlines = Deadlines(
            self._clock, self._session, self._settings, self._carrier, expired=self._expired, dead=self._dead
        )
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._full, self._usable = False, True
        self._carrier.registerProducer(self, True)
        if self._factory is not None:
            self._factory.doStart()
        limitUnsent(self._carrier)
        readDirectly(self._carrier, self.dataReceived)
        self._deadlines.start()
        self._flushSoon()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone, self._usable, self._full = True, False, True
        self._deadlines.stop()
        if self._flushCall is not None:
            self._flushCall.cancel()
            self._flushCall = None
        self._loseStreams()
        if self._factory is not None:
            self._factory.doStop()
        drained, self._drained = self._drained, []
        for waiting in drained:
            waiting.callback(None)
        self._letOpen()
        if self._ended is not None:
            self._ended(self._reason or reason)

    def _loseStreams(self) -> None:
        """The carrier is gone, or as good as gone."""
        self._session.lost()
        for stream in list(self._streams.values()):
            stream.lost(Failure(ConnectionLost("the session ended")))
        self._settle()

    def _fail(self, error: Exception) -> None:
        """End the session because of the peer, which is told why."""
        self._reason = Failure(error)
        self._end()

    def _end(self) -> None:
        self._usable = False
        self._loseStreams()
        self._write(self._session.take())
        self._closeCarrier(self._settings.goodbyeTimeout)

    def close(self) -> None:
        """End the session and every stream in it, after what the carrier takes at once of what was written to them."""
        if self._usable:
            self._flush()
        if self._usable:
            self._session.goAway()
            self._end()

    def _closeCarrier(self, timeout: float) -> None:
        self._usable, self._full = False, True
        self._deadlines.sessionEnded()
        self._deadlines.cutOffWithin(timeout)
        self._carrier.unregisterProducer()  # a TLS transport that has one never finishes closing
        self._carrier.loseConnection()

    def pingEvery(self, seconds: float) -> None:
        """
        Ping at another interval than the settings' from now on, once there is a carrier.

        @param seconds: at least C{pingTimeout / pings} of the settings, which less counts as.
        """
        self._deadlines.pingEvery(seconds)

    def goAway(self) -> Deferred[None]:
        """
        Open and accept no more streams, and close the carrier when those that there are have ended, at both ends, or
        when their C{drainTimeout} is over.

        @return: fires when the carrier is gone.
        """
        if self._gone:
            return succeed(None)
        if self._usable and not self._session.goingAway:
            self._session.goAway()
            self._deadlines.cutOffWithin(self._settings.drainTimeout)
            self._flushSoon()
        waiting: Deferred[None] = Deferred()
        self._drained.append(waiting)
        return waiting

    def flush(self) -> None:
        """
        Give the carrier now what it was to get at the end of this turn. A stream that is opened later could else be
        there before what is written already.
        """
        if self._usable:
            self._flush()

    def abortConnection(self) -> None:
        """Cut the carrier off, and every stream with it."""
        self._carrier.abortConnection()

    # -- Receiving

    def dataReceived(self, data: Buffer) -> None:
        if not self._usable:
            return
        self._deadlines.heard = self._corked = True
        try:
            events = self._session.receive(memoryview(data), self._seconds())
        except RemoteProtocolError as e:
            self._fail(e)
            return
        self._dispatch(events)
        self._flush()

    def _dispatch(self, events: list[Event]) -> None:
        streams = self._streams
        for event in events:
            if isinstance(event, Data):
                if (stream := streams.get(event.stream)) is not None:
                    try:
                        stream.gotData(event.payload)
                    except Exception:  # of the application's; the other streams go on
                        self._defect(stream)
            elif isinstance(event, Syn):
                self._accept(event.stream)
            elif isinstance(event, Pong):
                self.lastPong = self._seconds()
                self._deadlines.answered()
            elif isinstance(event, Fin | Rst) and (stream := streams.get(event.stream)) is not None:
                if isinstance(event, Fin):
                    stream.gotFin()
                else:
                    stream.lost(Failure(ConnectionLost("the peer reset the stream, or took too long over it")))
        if self._openers:
            self._letOpen()

    def _accept(self, number: int) -> None:
        try:
            if self._factory is None or self._connect(self._factory, number) is None:
                self._session.reset(number)
            else:
                self._toAccept.append(number)
        except Exception:  # of the application's
            self._log.failure("a stream's factory failed", event="gateway.defect")
            self._session.reset(number)

    def _connect(self, factory: IProtocolFactory, number: int) -> IProtocol | None:
        """Give a new stream its protocol."""
        protocol = factory.buildProtocol(self.address(number, True))
        if protocol is not None:
            stream = self._streams[number] = MuxStream(self, number, protocol)
            try:
                protocol.makeConnection(stream)
            except Exception:  # of the application's; the other streams go on
                self._defect(stream)
        return protocol

    def _defect(self, stream: MuxStream) -> None:
        """A protocol raised: its stream ends, as a connection does whose protocol raises."""
        self._log.failure("a stream's protocol failed", event="gateway.defect")
        self._session.reset(stream.number)
        stream.lost(Failure())

    # -- Sending

    def open(self, protocolFactory: IProtocolFactory) -> IProtocol:
        """
        Open a stream.

        @return: its protocol, which is connected.
        @raise StreamRefused: when no stream can be opened.
        @raise NoProtocol: when the factory gives none.
        """
        refusal = self._session.openRefusal if self._usable else "ended"
        if refusal is not None:
            raise StreamRefused(refusal)
        number = self._session.open(self._seconds())
        self._deadlines.wakeWithin(self._settings.openTimeout)
        self._flushSoon()
        try:
            if (protocol := self._connect(protocolFactory, number)) is not None:
                return protocol
            raise NoProtocol()
        except Exception:  # the peer was told of a stream that will never be
            self._session.reset(number)
            raise

    def whenOpenable(self) -> Deferred[None]:
        """
        For who was refused for the C{backlog}: the peer has not acknowledged so many streams yet.

        @return: fires when that has changed, or the session is over; in the order of the calls. May be cancelled. Fails
            at once with L{StreamRefused} when as many wait as there may be streams.
        """
        if len(self._openers) >= self._settings.streams:
            return fail(StreamRefused("backlog"))
        waiting: Deferred[None] = Deferred(self._openers.pop)
        self._openers[waiting] = None
        return waiting

    def _letOpen(self) -> None:
        while self._openers and not (self._usable and self._session.openRefusal == "backlog"):
            waiting = next(iter(self._openers))
            del self._openers[waiting]
            waiting.callback(None)

    def _flushSoon(self) -> None:
        if not self._corked and self._flushCall is None:
            self._flushCall = self._clock.callLater(0, self._flushNow)

    def _flushNow(self) -> None:
        self._flushCall = None
        self._flush()

    def _settle(self) -> None:
        """Let the streams do what was to wait, until none of them has any more of it."""
        while self._toSettle:
            streams, self._toSettle = self._toSettle, []
            for stream in streams:
                self._settleOne(stream)

    def _settleOne(self, stream: MuxStream) -> None:
        try:
            stream.settle()
        except Exception:  # of the application's; the other streams go on
            self._defect(stream)

    def _flush(self) -> None:
        """Let the streams settle, and give the carrier what it takes."""
        self._corked = True
        for _ in range(_ROUNDS):
            self._settle()
            if self._full:
                break
            isAll = self._takeTurns()
            for number in self._toAccept:
                self._session.accept(number)
            self._toAccept.clear()
            if output := self._session.take():
                self._write(output)
            if isAll and not self._toSettle:
                break
        else:
            self._corked = False
            self._flushSoon()
        self._corked = False
        if self._usable and self._session.goingAway and not (self._streams or self._session.streamCount):
            self._closeCarrier(self._settings.drainTimeout)

    def _takeTurns(self) -> bool:
        """Let the streams fill a batch. Return whether there is room left in it."""
        session, streams = self._session, self._streams
        room = _BATCH
        while room > 0 and (turn := session.nextWriter()) is not None:
            number, count = turn
            stream = streams[number]
            payload = stream.takeFirst(count)
            session.sendData(number, payload)
            room -= len(payload)
            if stream.unsent:
                session.wants(number)
            else:
                self._settleOne(stream)  # so that an end leaves together with the last bytes
        return room > 0

    # -- IPushProducer: of the carrier

    def pauseProducing(self) -> None:
        """The carrier is full."""
        self._full = True

    def resumeProducing(self) -> None:
        """The carrier has room."""
        if self._usable:
            self._full = False
            if not self._corked:
                self._flush()

    def stopProducing(self) -> None:
        """The carrier is gone, which L{connectionLost} tells."""

    # -- ISession: for the streams

    def address(self, stream: int, peer: bool) -> MuxAddress:
        return MuxAddress(self.name, stream, self._peer if peer else self._host)

    def wants(self, stream: int) -> None:
        self._session.wants(stream)
        self._flushSoon()

    def consumed(self, stream: int, count: int) -> None:
        self._session.consume(stream, count, self._seconds())

    def unsettled(self, stream: MuxStream) -> None:
        self._toSettle.append(stream)
        self._flushSoon()

    def endWriting(self, stream: int) -> None:
        self._session.closeWrite(stream)

    def end(self, stream: int) -> None:
        self._session.close(stream, self._seconds())
        self._deadlines.wakeWithin(self._settings.closeTimeout)

    def reset(self, stream: int) -> None:
        self._session.reset(stream)

    def forget(self, stream: int) -> None:
        del self._streams[stream]

    # -- Time

    def _expired(self, events: list[Event]) -> None:
        self._dispatch(events)
        self._flushSoon()

    def _dead(self) -> None:
        self._reason = Failure(TimeoutError(None, "the peer does not answer"))
        self._usable, self._full = False, True
        self._carrier.abortConnection()


@implementer(IStreamClientEndpoint)
class MuxEndpoint:
    """Opens streams on a session."""

    def __init__(self, session: MuxSession) -> None:
        self._session = session

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream: at once, unless the backlog is full.

        @return: may be cancelled; fails with L{StreamRefused} or C{NoProtocol}.
        """
        try:
            return succeed(self._session.open(protocolFactory))
        except StreamRefused as e:
            if e.code != "backlog":
                return fail()
        except Exception:  # whatever a factory raises, the one who waits is told
            return fail()
        return self._session.whenOpenable().addCallback(lambda _: self._session.open(protocolFactory))
