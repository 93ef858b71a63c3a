"""
In-memory transports that behave as Twisted's real ones do, for testing protocols without sockets or time.

C{StringTransport} cannot half-close and C{iosim} ignores C{pauseProducing()}, so neither can show whether a
protocol loses bytes, truncates or fills the memory when its peer stalls. These can, and the same tests run
against them and against real TCP, UNIX and TLS connections. Nothing moves until the test says so::

    link = flowPair(client, server, capacity=4096)
    link.aToB.stalled = True               # a peer that has stopped reading
    client.sendEverything(); link.pump()
    assert link.aToB.highWater < 8192      # and the memory that it cost us

An exception that a protocol raises is not turned into a lost connection, as a reactor would do: it reaches
the test. Not imitated: the kernel's own buffers (what is written stays in the writer's buffer until the peer
reads it), the TLS handshake, and the delay of small TLS writes by one reactor turn.

Length: one module, a third of it docstrings, so that those who test with it have one thing to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    INegotiated,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

__all__ = [
    "FlowAttempt",
    "FlowEndpoint",
    "FlowLink",
    "FlowPipe",
    "FlowTransport",
    "TLSFlowTransport",
    "flowPair",
]

# As twisted.internet.abstract.FileDescriptor.bufferSize: the most that is buffered before a producer is
# paused, and the most that one read delivers.
_BUFFER_SIZE = 65536

# The largest plaintext of a TLS record (RFC 8446 section 5.1), and how many of them one read of a socket holds.
_TLS_RECORD_SIZE = 16384
_TLS_RECORDS_PER_READ = 4

_TURNS = 100_000


class FlowPipe:
    """
    One direction of a connection: the bytes that were written and not yet read, and how they end.

    @ivar stalled: set it to stop this direction: neither bytes nor their end arrive until it is unset.
    @ivar chunkSize: the most bytes that one C{dataReceived()} is given. 1 tests every split of the input.
    @ivar eof: the writer has finished; the reader learns it after the last byte.
    @ivar reset: the connection was broken off; the reader learns it even before bytes that it has not read.
    @ivar readerGone: the reading transport is disconnected, so that what is written here is lost.
    @ivar highWater: the largest L{bufferedBytes} there ever was.
    """

    def __init__(self) -> None:
        self.stalled = False
        self.chunkSize = _BUFFER_SIZE
        self.eof = False
        self.reset = False
        self.readerGone = False
        self.highWater = 0
        self._data = bytearray()

    @property
    def bufferedBytes(self) -> int:
        """How many bytes were written and not yet read."""
        return len(self._data)

    def put(self, data: bytes) -> None:
        """Add bytes at the writer's end."""
        self._data += data
        self.highWater = max(self.highWater, len(self._data))

    def peek(self) -> bytes:
        """@return: all that is buffered, which stays buffered."""
        return bytes(self._data)

    def take(self, size: int) -> bytes:
        """@return: at most C{size} bytes from the reader's end."""
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    def clear(self) -> None:
        """Drop what is buffered."""
        self._data.clear()


def _pump(step: Callable[[], bool], turns: int) -> None:
    """Take steps until one does nothing."""
    for _ in range(turns):
        if not step():
            return
    raise AssertionError(f"still busy after {turns} turns")


@implementer(ITCPTransport, IConsumer, IPushProducer)
class FlowTransport:
    """
    A transport in memory with the manners of a TCP (or UNIX) connection, connected to one protocol.

    Use it in pairs, made by L{flowPair}, or alone::

        transport = FlowTransport(protocol)
        transport.deliver(b"hello")
        assert transport.takeWritten() == b"HELLO"

    Alone, what is written stays buffered until L{takeWritten} takes it: only then is a paused producer
    resumed, a half-close done or C{loseConnection()} completed. It does what Twisted's real connections do,
    which includes these surprises:

      - C{loseConnection()} does not wait for a streaming producer that is not paused. One that is paused is
        resumed first, and a pull producer is waited for;
      - C{pauseProducing()} is called on the producer again for each write to a full buffer;
      - a producer registered after a paused one is resumed though it was never paused;
      - C{resumeProducing()} after end-of-file delivers C{readConnectionLost()} once more;
      - C{loseConnection()} after a completed half-close calls C{connectionLost()} before it returns;
      - a paused transport learns of a reset or an end only when it resumes or writes.

    @ivar capacity: with more bytes than this buffered, a streaming producer is paused.
    @ivar readingPaused: nothing is read: after C{pauseProducing()}, at end-of-file, and once closing.
    @ivar disconnecting: C{loseConnection()} was called.
    @ivar disconnected: the protocol was told C{connectionLost()}.
    @ivar aborted: C{abortConnection()} was called.
    @ivar outgoing: the bytes that the protocol wrote.
    @ivar incoming: the bytes on their way to the protocol.
    @ivar host: what C{getHost()} returns; settable.
    @ivar peer: what C{getPeer()} returns; settable.
    """

    def __init__(
        self,
        protocol: IProtocol,
        *,
        capacity: int = _BUFFER_SIZE,
        halfClose: bool = True,
        outgoing: FlowPipe | None = None,
        incoming: FlowPipe | None = None,
    ) -> None:
        """
        Connect a protocol: its C{makeConnection()} is called here.

        @param halfClose: whether the transport provides C{IHalfCloseableDescriptor}.
        """
        self.protocol = protocol
        self.capacity = capacity
        self.outgoing = outgoing or FlowPipe()
        self.incoming = incoming or FlowPipe()
        self.host: IAddress = IPv4Address("TCP", "127.0.0.1", 1)
        self.peer: IAddress = IPv4Address("TCP", "127.0.0.1", 2)
        self.readingPaused = False
        self.connected = True
        self.disconnecting = False
        self.disconnected = False
        self.aborted = False
        self.producer: Any = None
        self.streamingProducer = False
        self.producerPaused = False
        self.noDelay = False
        self.keepAlive = False
        self._closing = False
        self._writing = False
        self._writeDisconnecting = False
        self._writeDisconnected = False
        self._halfClose = halfClose
        if halfClose:
            alsoProvides(self, IHalfCloseableDescriptor)
        protocol.makeConnection(self)

    # For the test.

    def deliver(self, data: bytes) -> None:
        """Let the peer send these bytes. While reading is paused they wait."""
        self.incoming.put(data)
        self.pump()

    def deliverEOF(self) -> None:
        """Let the peer finish sending: its half-close or clean close."""
        self.incoming.eof = True
        self.pump()

    def deliverReset(self) -> None:
        """Let the peer break off the connection."""
        self.incoming.reset = True
        self.pump()

    def written(self) -> bytes:
        """@return: what the protocol wrote and nobody took yet."""
        return self.outgoing.peek()

    def takeWritten(self, size: int | None = None) -> bytes:
        """
        Let the network take what the protocol wrote.

        @param size: take at most so many bytes; C{None} takes all.
        """
        taken = self.outgoing.take(self.outgoing.bufferedBytes if size is None else size)
        self.pump()
        return taken

    def pump(self, turns: int = _TURNS) -> None:
        """
        Take steps until there is nothing to do, such as after a protocol resumed reading.

        @raise AssertionError: it was still busy after so many turns.
        """
        _pump(self.step, turns)

    def step(self) -> bool:
        """
        Do what one turn of the reactor would do for this transport: one read and one write event.

        @return: whether there was anything to do.
        """
        if self.aborted and not self.disconnected:
            self._disconnect(self._abortReason())
            return True
        busy = self._doRead()
        return self._doWrite() or busy

    # ITransport, ITCPTransport

    def write(self, data: bytes) -> None:
        """Buffer bytes for the peer, and pause the streaming producer when that is more than C{capacity}."""
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if not data or self.disconnected or self.aborted or self._writeDisconnected:
            return
        self.outgoing.put(data)
        self._writing = True
        full = self.outgoing.bufferedBytes > self.capacity
        if full and self.producer is not None and self.streamingProducer:
            self._pauseProducer()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write all of these, as one write."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Stop reading; close once all is written."""
        if self.disconnected or self.disconnecting or self.aborted:
            return
        self.readingPaused = True
        if self._writeDisconnected:
            self._disconnect(ConnectionDone())
        else:
            self.disconnecting = self._closing = self._writing = True

    def loseWriteConnection(self) -> None:
        """
        Tell the peer end-of-file once all is written, and keep reading.

        @raise RuntimeError: this transport was made without half-close.
        """
        if not self._halfClose:
            raise RuntimeError("this transport cannot half-close: look for IHalfCloseableDescriptor first")
        self._writeDisconnecting = self._writing = True

    def abortConnection(self) -> None:
        """Drop what is buffered and reset the connection. The protocol is told in the next step."""
        if self.disconnected or self.aborted:
            return
        self.aborted = True
        self.outgoing.clear()

    def getPeer(self) -> Any:
        """@return: C{peer}."""
        return self.peer

    def getHost(self) -> Any:
        """@return: C{host}."""
        return self.host

    def getTcpNoDelay(self) -> bool:
        """@return: what was set last."""
        return self.noDelay

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Remember this; it changes nothing."""
        self.noDelay = enabled

    def getTcpKeepAlive(self) -> bool:
        """@return: what was set last."""
        return self.keepAlive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Remember this; it changes nothing."""
        self.keepAlive = enabled

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write here; a pull producer is asked for its first bytes at once.

        @raise RuntimeError: another producer is registered.
        """
        if self.producer is not None:
            raise RuntimeError(f"{self.producer} was never unregistered")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer; a C{loseConnection()} that waited for it goes on."""
        self.producer = None
        if self.disconnecting:
            self._writing = True

    # IPushProducer

    def pauseProducing(self) -> None:
        """Stop reading."""
        self.readingPaused = True

    def resumeProducing(self) -> None:
        """Read again, from the next step on, unless the connection is closing."""
        if not (self.disconnected or self.aborted or self._closing):
            self.readingPaused = False

    def stopProducing(self) -> None:
        """The same as C{loseConnection()}."""
        self.loseConnection()

    # IHalfCloseableDescriptor

    def readConnectionLost(self, reason: Failure) -> None:
        """The peer finished sending: tell the protocol if it can half-close, and disconnect if it cannot."""
        if self._halfClose and IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._disconnect(ConnectionDone())

    def writeConnectionLost(self, reason: Failure) -> None:
        """Our half-close was done: tell the protocol if it wants to know."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()

    # What the reactor would do.

    def _doRead(self) -> bool:
        pipe = self.incoming
        if self.disconnected or pipe.stalled:
            return False
        if pipe.bufferedBytes and not self.readingPaused:
            self._readSome()
        elif pipe.reset and (self.outgoing.bufferedBytes or not self.readingPaused):
            self._disconnect(ConnectionLost())
        elif pipe.eof and not self.readingPaused:
            self.readingPaused = True
            self.readConnectionLost(Failure(ConnectionDone()))
        else:
            return False
        return True

    def _readSome(self) -> None:
        self.protocol.dataReceived(self.incoming.take(self.incoming.chunkSize))

    def _doWrite(self) -> bool:
        pipe = self.outgoing
        if self.disconnected or self.aborted or not self._writing:
            return False
        if pipe.bufferedBytes:
            return self._writeToNobody()
        self._writing = False
        if self.producer is not None and (self.producerPaused or not self.streamingProducer):
            self.producerPaused = False
            self.producer.resumeProducing()
        elif self.disconnecting:
            self._close()
        elif self._writeDisconnecting:
            self._writeDisconnected = True
            pipe.eof = True
            self.writeConnectionLost(Failure(ConnectionDone()))
        return True

    def _writeToNobody(self) -> bool:
        """If the peer is gone and the network is not, learn it from the failed write."""
        if not self.outgoing.readerGone or self.outgoing.stalled or self.incoming.stalled:
            return False
        self._disconnect(ConnectionLost())
        return True

    def _pauseProducer(self) -> None:
        self.producerPaused = True
        self.producer.pauseProducing()

    def _close(self) -> None:
        self._disconnect(ConnectionDone())

    def _abortReason(self) -> Exception:
        return ConnectionAborted()

    def _disconnect(self, reason: Exception) -> None:
        self.connected = False
        self.disconnected = True
        self.readingPaused = True
        self.incoming.readerGone = True
        self.outgoing.clear()
        if isinstance(reason, ConnectionDone):
            self.outgoing.eof = True
        else:
            self.outgoing.reset = True
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))


@implementer(INegotiated)
class TLSFlowTransport(FlowTransport):
    """
    A L{FlowTransport} with the manners of C{twisted.protocols.tls}. There:

      - one read of the socket may hold several records, and all are delivered even if the first pauses
        reading;
      - C{loseWriteConnection()} is claimed, but cuts the connection and drops what is buffered, and so does
        C{stopProducing()};
      - C{loseConnection()} waits until every producer is unregistered, all is written I{and the peer has
        answered}: until then bytes still arrive, and while reading is paused it never completes;
      - writes after C{loseConnection()} are dropped, unless a producer is registered;
      - end-of-file closes both directions, also for an C{IHalfCloseableProtocol};
      - C{abortConnection()} gives C{ConnectionLost}, and fails with C{AttributeError} once disconnected.

    @ivar negotiatedProtocol: the protocol agreed on with ALPN; settable.
    @ivar peerCertificate: what C{getPeerCertificate()} returns; settable.
    """

    negotiatedProtocol: bytes | None = None
    peerCertificate: Any = None

    def getPeerCertificate(self) -> Any:
        """@return: C{peerCertificate}."""
        return self.peerCertificate

    def write(self, data: bytes) -> None:
        """Write, unless the connection is closing."""
        if not self._closing and (not self.disconnecting or self.producer is not None):
            super().write(data)

    def loseConnection(self) -> None:
        """Close once all is written and the peer has agreed; until then, go on reading."""
        if not self.disconnected:
            self.disconnecting = self._writing = True

    def stopProducing(self) -> None:
        """Cut the connection, as C{abortConnection()} does: this closes the socket below."""
        super().abortConnection()

    def loseWriteConnection(self) -> None:
        """Cut the connection: this ends the socket below, and so truncates both directions."""
        super().loseWriteConnection()
        self._writing = False
        self._writeDisconnected = True
        self.outgoing.clear()
        self.outgoing.reset = True

    def abortConnection(self) -> None:
        """
        Drop what is buffered and reset the connection.

        @raise AttributeError: the connection was lost already.
        """
        if self.disconnected:
            raise AttributeError("a TLS transport cannot be aborted after connectionLost()")
        super().abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer write here, which is not paused whatever its predecessor was."""
        self.producerPaused = False
        super().registerProducer(producer, streaming)

    def readConnectionLost(self, reason: Failure) -> None:
        """The peer sent its close alert: answer it, once all is written."""
        self.disconnecting = self._closing = self._writing = True

    def _readSome(self) -> None:
        for _ in range(_TLS_RECORDS_PER_READ):
            if self.incoming.bufferedBytes and not (self.disconnected or self.aborted):
                super()._readSome()

    def _pauseProducer(self) -> None:
        if not self.producerPaused:
            super()._pauseProducer()

    def _close(self) -> None:
        if self._closing:
            super()._close()
        elif self.producer is None:
            self.outgoing.eof = True

    def _abortReason(self) -> Exception:
        return ConnectionLost()


class FlowLink:
    """
    Two connected transports and the two directions between them, made by L{flowPair}.

    @ivar a: the transport of the first protocol.
    @ivar b: the transport of the second protocol.
    @ivar aToB: the direction from C{a} to C{b}, that is C{a.outgoing} and C{b.incoming}.
    @ivar bToA: the opposite direction.
    """

    def __init__(self, a: FlowTransport, b: FlowTransport) -> None:
        self.a = a
        self.b = b
        self.aToB = a.outgoing
        self.bToA = b.outgoing

    def step(self) -> bool:
        """
        Take one step on each side.

        @return: whether there was anything to do.
        """
        busy = self.a.step()
        return self.b.step() or busy

    def pump(self, turns: int = _TURNS) -> None:
        """
        Take steps until there is nothing to do.

        @raise AssertionError: it was still busy after so many turns.
        """
        _pump(self.step, turns)

    def cut(self) -> None:
        """Lose the network without notice: from now on nothing arrives on either side, not even an end."""
        self.aToB.stalled = self.bToA.stalled = True


def flowPair(
    protocolA: IProtocol,
    protocolB: IProtocol,
    *,
    capacity: int = _BUFFER_SIZE,
    chunkSize: int | None = None,
    tlsManners: bool = False,
    halfClose: bool = True,
) -> FlowLink:
    """
    Connect two protocols to one another.

    @param capacity: with more bytes than this buffered on a side, its streaming producer is paused.
    @param chunkSize: the most bytes that one C{dataReceived()} is given, on both sides.
        C{None}: 64 KiB, or one record of 16 KiB with TLS manners.
    @param tlsManners: use L{TLSFlowTransport} rather than L{FlowTransport}.
    @param halfClose: whether the transports provide C{IHalfCloseableDescriptor}.
    """
    transport = TLSFlowTransport if tlsManners else FlowTransport
    aToB, bToA = FlowPipe(), FlowPipe()
    aToB.chunkSize = bToA.chunkSize = chunkSize or (_TLS_RECORD_SIZE if tlsManners else _BUFFER_SIZE)
    a = transport(protocolA, capacity=capacity, halfClose=halfClose, outgoing=aToB, incoming=bToA)
    b = transport(protocolB, capacity=capacity, halfClose=halfClose, outgoing=bToA, incoming=aToB)
    a.host, a.peer, b.host, b.peer = a.host, a.peer, a.peer, a.host
    return FlowLink(a, b)


class FlowAttempt:
    """
    One call of L{FlowEndpoint.connect}, left hanging until the test decides.

    @ivar factory: the factory that wants a connection.
    @ivar cancelled: the caller gave up.
    """

    def __init__(self, factory: IProtocolFactory, endpoint: FlowEndpoint) -> None:
        self.factory = factory
        self.cancelled = False
        self._endpoint = endpoint
        self.connected: Deferred[IProtocol] = Deferred(self._cancel)

    def _cancel(self, connected: Deferred[IProtocol]) -> None:
        self.cancelled = True
        connected.errback(ConnectingCancelledError(self._endpoint.address))

    def accept(self, server: IProtocol) -> FlowLink:
        """
        Let the connection be made.

        @param server: the protocol at the far end.
        @return: the link; C{a} is the side of the caller, C{b} that of C{server}.
        """
        protocol = self.factory.buildProtocol(self._endpoint.address)
        assert protocol is not None, "the factory refused"
        link = flowPair(protocol, server, **self._endpoint.options)
        self.connected.callback(protocol)
        return link

    def fail(self, reason: Exception) -> None:
        """Let the connection fail."""
        self.connected.errback(reason)


@implementer(IStreamClientEndpoint)
class FlowEndpoint:
    """
    A client endpoint whose attempts to connect the test completes, fails or leaves hanging::

        endpoint = FlowEndpoint(capacity=4096)
        connecting = endpoint.connect(factory)
        link = endpoint.attempts[0].accept(serverProtocol)

    @ivar attempts: every L{FlowAttempt}, oldest first.
    @ivar address: the address that factories are given.
    @ivar options: keyword arguments for L{flowPair}.
    """

    def __init__(self, **options: Any) -> None:
        self.attempts: list[FlowAttempt] = []
        self.address = IPv4Address("TCP", "127.0.0.1", 2)
        self.options = options

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Record the attempt; nothing happens until the test says so."""
        attempt = FlowAttempt(protocolFactory, self)
        self.attempts.append(attempt)
        return attempt.connected
