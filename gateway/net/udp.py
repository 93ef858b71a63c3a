"""
UDP as streams: what two addresses say to each other, as one transport whose bytes are datagrams with their lengths.

So a visitor's datagrams go through the same relay as everything else, with its limits, its counts and its idle time::

    UDPEndpoint(reactor, "127.0.0.1", 53).connect(factory)      # a DatagramFlow is the protocol's transport

Datagrams are never cut, never wait and never hold anybody up: what cannot go on at once is dropped and counted, as a
router would. Nothing is ever sent that did not come from the other side of the relay. Several datagrams that come in
one turn of the reactor go on in one piece, and are read to where they stay: each behind its length, in one buffer.
"""

__all__ = [
    "DATAGRAM_DRAIN_IDLE",
    "DATAGRAM_FLOWS",
    "DATAGRAM_IDLE",
    "DatagramCounts",
    "DatagramFlow",
    "IReactorDatagrams",
    "UDPEndpoint",
    "wasUnreached",
]

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError, ConnectionAborted, ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IReactorFDSet,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import IPAddress, IReactorDial, resolve
from gateway.net.direct import Buffer, IDirectTransport
from gateway.net.relay import Cause, Outcome
from gateway.net.udpsocket import BATCH, FULL, DatagramSocket, addressOf, openSocket, received, sendDatagrams
from gateway.wire.datagrams import LENGTH, MAX_DATAGRAM, DatagramDecoder
from gateway.wire.errors import RemoteProtocolError

DATAGRAM_IDLE = 60.0
"""Seconds without a datagram after which nobody expects another."""

DATAGRAM_DRAIN_IDLE = 2.0
"""The same where everybody is to leave: nobody says of a flow that it is over."""

DATAGRAM_FLOWS = 10_000
"""Flows of one port at once."""

_AT_ONCE = 1.0
"""Seconds in which a machine says that nobody listens there."""


class IReactorDatagrams(IReactorDial, IReactorFDSet):
    """What UDP needs of a reactor."""


@dataclass(slots=True)
class DatagramCounts:
    """
    What happened to datagrams, of all flows that share this.

    @ivar dropped: that could not go on at once.
    @ivar refused: of visitors for whom there was no room.
    """

    received: int = 0
    sent: int = 0
    dropped: int = 0
    refused: int = 0


def wasUnreached(outcome: Outcome) -> bool:
    """
    Whether a visitor found nobody. As each of their next datagrams may find nobody again, that is not worth a line in a
    log for each.
    """
    isFailed = outcome.cause in (Cause.FAR_RESET, Cause.DIAL_FAILED)
    return isFailed and not outcome.down and outcome.seconds < _AT_ONCE


@implementer(IDirectTransport)
class DatagramFlow:
    """
    The datagrams between two addresses, as a transport.

    @param send: sends datagrams to the other end; returns how many of them the kernel took.
    @param closed: called once, when the flow is over.
    """

    _log = Logger()

    disconnecting = False

    def __init__(
        self,
        send: Callable[[Sequence[bytes]], int],
        peer: IAddress,
        host: IAddress,
        counts: DatagramCounts,
        closed: Callable[["DatagramFlow"], None],
    ) -> None:
        self._send = send
        self._peer = peer
        self._host = host
        self._counts = counts
        self._closed: Callable[[DatagramFlow], None] | None = closed
        self._decoder = DatagramDecoder()
        self._isPaused = False
        self._protocol: IProtocol | None = None
        self._gotData: Callable[[Buffer], None] | None = None

    def attach(self, protocol: IProtocol) -> None:
        """Give the flow its protocol."""
        self._protocol = protocol
        protocol.makeConnection(self)

    def gotDatagrams(self, framed: Buffer, count: int) -> None:
        """
        They came from the other end, in this turn of the reactor.

        @param framed: as they go on a stream; nobody keeps it.
        """
        self._counts.received += count
        if self._isPaused or self._protocol is None:
            self._counts.dropped += count
            return
        try:
            if self._gotData is not None:
                self._gotData(framed)
            else:
                self._protocol.dataReceived(bytes(framed))
        except Exception:  # of the application's; a port's other flows go on
            self._log.failure("a flow's protocol failed", event="gateway.defect")
            self._end(Failure())

    # -- ITransport

    def write(self, data: Buffer) -> None:
        """
        Send the datagrams that are whole now.
        """
        if self._closed is None:
            return
        try:
            datagrams = self._decoder.receive(data)
        except RemoteProtocolError:
            self._end(Failure())
            return
        if datagrams:
            sent = self._send(datagrams)
            self._counts.sent += sent
            self._counts.dropped += len(datagrams) - sent

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._end(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        self._end(Failure(ConnectionAborted()))

    def loseWriteConnection(self) -> None:
        """A flow does not half-close."""
        self.loseConnection()

    def fail(self, why: str) -> None:
        """The other end is not there."""
        self._end(Failure(ConnectionLost(why)))

    def _end(self, reason: Failure) -> None:
        closed, self._closed = self._closed, None
        if closed is None:
            return
        self.disconnecting = True
        closed(self)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._host

    # -- IConsumer: datagrams that are sent are gone, so nobody has to wait

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Nothing to do: it is never paused."""

    def unregisterProducer(self) -> None:
        """Nothing to do."""

    # -- IPushProducer

    def pauseProducing(self) -> None:
        """Drop what comes."""
        self._isPaused = True

    def resumeProducing(self) -> None:
        self._isPaused = False

    def stopProducing(self) -> None:
        self.loseConnection()

    # -- IDirectTransport

    def readDirectly(self, gotData: Callable[[Buffer], None]) -> None:
        self._gotData = gotData


@implementer(IStreamClientEndpoint)
class UDPEndpoint:
    """
    Reaches a UDP service: each connection is a socket of its own.

    There is no handshake, so a connection is made whether or not somebody listens. Where the other end's machine says
    that nobody does, the next of the name's addresses is tried, and after the last the connection is lost.

    @param host: a name, which is looked up for each connection, or an address.
    @param header: stands before each datagram that is sent, so that it does not matter which of them get lost.
    """

    def __init__(
        self,
        reactor: IReactorDatagrams,
        host: str,
        port: int,
        *,
        header: bytes = b"",
        counts: DatagramCounts | None = None,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._header = header
        self._counts = counts or DatagramCounts()

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fails with L{DialFailed<gateway.net.dial.DialFailed>} when there is no such name, and with
            C{ConnectBindError} when there is no way to any of its addresses.
        """

        def connect(addresses: list[IPAddress]) -> IProtocol:
            origin = _Origin(self._reactor, addresses, self._port, self._header, self._counts)
            try:
                protocol = factory.buildProtocol(origin.flow.getPeer())
                if protocol is None:
                    raise NoProtocol()
            except Exception:  # whatever a factory raises, the one who waits is told
                origin.flow.loseConnection()
                raise
            origin.flow.attach(protocol)
            return protocol

        return resolve(self._reactor, self._host).addCallback(connect)


class _Origin:
    """
    A connected socket, and its flow.

    @raise ConnectBindError: there is no way to any of the addresses.
    """

    def __init__(
        self, reactor: IReactorFDSet, addresses: list[IPAddress], port: int, header: bytes, counts: DatagramCounts
    ) -> None:
        self._reactor = reactor
        self._addresses = iter(addresses)
        self._port = port
        self._header = header
        self._counts = counts
        self._unanswered: Sequence[bytes] | None = ()  # what was sent last; None: there was an answer
        self._connect()
        peer, host = addressOf(self._connection.getpeername()), addressOf(self._connection.getsockname())
        self.flow = DatagramFlow(self._send, peer, host, counts, lambda flow: self._socket.close())

    def _connect(self) -> None:
        problem = "no address is left"
        for address in self._addresses:
            connection = openSocket(address)
            try:
                connection.connect((str(address), self._port))
            except OSError as e:
                connection.close()
                problem = e.strerror or problem
            else:
                self._connection = connection
                self._socket = DatagramSocket(self._reactor, connection, self._read)
                return
        raise ConnectBindError(problem)

    def _send(self, datagrams: Sequence[bytes]) -> int:
        if self._unanswered is not None:
            self._unanswered = datagrams
        if self._header:
            datagrams = [self._header + datagram for datagram in datagrams]
        try:
            return sendDatagrams(self._connection, datagrams)
        except ConnectionRefusedError:  # an earlier one was; the kernel says so once
            self._refused()
            return 0

    def _refused(self) -> None:
        """Nobody listens at this address: a name such as localhost may have another."""
        if self._unanswered is not None:
            self._socket.close()
            try:
                self._connect()
            except ConnectBindError:
                pass
            else:
                self._send(self._unanswered)
                return
        self.flow.fail("nobody listens there")

    def _read(self) -> None:
        receive = self._connection.recv_into
        at = count = 0
        isRefused = False
        for _ in range(BATCH):
            try:
                size = receive(received[at + LENGTH.size :])
            except BlockingIOError:
                break
            except OSError:
                isRefused = True
                break
            if size > MAX_DATAGRAM:
                self._counts.dropped += 1
                continue
            LENGTH.pack_into(received, at, size)
            at += LENGTH.size + size
            count += 1
            if at >= FULL:
                break
        if count:
            self._unanswered = None
            self.flow.gotDatagrams(received[:at], count)
        if isRefused:
            self._refused()
