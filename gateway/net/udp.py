"""
UDP as streams: what two addresses say to each other, as one transport whose bytes are datagrams with their lengths.

So a visitor's datagrams go through the same relay as everything else, with its limits, its counts and its idle time::

    UDPEndpoint(reactor, addresses, 53).connect(factory)        # a DatagramFlow is the protocol's transport

Datagrams are never cut, never wait and never hold anybody up: what cannot go on at once is dropped and counted, as a
router would. Several that come in one turn of the reactor go on in one piece.
"""

__all__ = ["BATCH", "DatagramCounts", "DatagramFlow", "DatagramSocket", "UDPEndpoint", "addressOf", "received"]

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from twisted.internet.address import IPv4Address as UDP4Address
from twisted.internet.address import IPv6Address as UDP6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectBindError, ConnectionAborted, ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IReactorFDSet,
    IReadDescriptor,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.interfaces import IStreamTransport
from gateway.wire.datagrams import MAX_DATAGRAM, DatagramDecoder, encodeDatagrams
from gateway.wire.errors import RemoteProtocolError

IPAddress = IPv4Address | IPv6Address

BATCH = 64
"""Datagrams that are read before the reactor gets a turn."""

received = memoryview(bytearray(65536))
"""What the latest read brought. One for all sockets: the reactor reads in one thread, and what is kept is copied."""


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


def addressOf(sockaddr: tuple[Any, ...]) -> IAddress:
    """What the socket module calls an address, as Twisted does."""
    kind = UDP6Address if ":" in sockaddr[0] else UDP4Address
    return kind("UDP", sockaddr[0], sockaddr[1])


@implementer(IStreamTransport)
class DatagramFlow:
    """
    The datagrams between two addresses, as a transport.

    @param send: sends one datagram to the other end; C{False} when the kernel does not take it.
    @param closed: called once, when the flow is over.
    """

    disconnecting = False

    def __init__(
        self,
        send: Callable[[bytes], bool],
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

    def attach(self, protocol: IProtocol) -> None:
        """Give the flow its protocol."""
        self._protocol = protocol
        protocol.makeConnection(self)

    def gotDatagrams(self, datagrams: Sequence[bytes]) -> None:
        """They came from the other end, in this turn of the reactor."""
        counts = self._counts
        counts.received += len(datagrams)
        if self._isPaused or self._protocol is None:
            counts.dropped += len(datagrams)
            return
        self._protocol.dataReceived(b"".join(encodeDatagrams(datagrams)))

    # -- ITransport

    def write(self, data: bytes) -> None:
        """
        Send the datagrams that are whole now.
        """
        if self._closed is None:
            return
        try:
            datagrams = self._decoder.receive(data)
        except RemoteProtocolError as e:
            self._end(Failure(e))
            return
        for datagram in datagrams:
            if self._send(datagram):
                self._counts.sent += 1
            else:
                self._counts.dropped += 1

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


@implementer(IReadDescriptor)
class DatagramSocket:
    """A UDP socket that the reactor reads."""

    def __init__(self, reactor: IReactorFDSet, connection: socket.socket, readable: Callable[[], None]) -> None:
        self._reactor = reactor
        self.socket = connection
        self._readable = readable
        reactor.addReader(self)

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "UDP"

    def doRead(self) -> None:
        self._readable()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has stopped reading."""
        self.socket.close()

    def close(self) -> None:
        """Read no more."""
        if self.socket.fileno() >= 0:
            self._reactor.removeReader(self)
            self.socket.close()


@implementer(IStreamClientEndpoint)
class UDPEndpoint:
    """
    Reaches a UDP service: each connection is a socket of its own.

    There is no handshake, so a connection is made whether or not somebody listens. Where the other end's machine says
    that nobody does, the connection is lost.

    @param addresses: of which the first that this machine has a way to is used.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        addresses: Sequence[IPAddress],
        port: int,
        *,
        counts: DatagramCounts | None = None,
    ) -> None:
        self._reactor = reactor
        self._addresses = addresses
        self._port = port
        self._counts = counts or DatagramCounts()

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fails with C{ConnectBindError} when there is no way to any of the addresses.
        """
        try:
            connection = self._socket()
        except OSError as e:
            return fail(ConnectBindError(e.strerror))
        peer, host = addressOf(connection.getpeername()), addressOf(connection.getsockname())
        try:
            protocol = factory.buildProtocol(peer)
            if protocol is None:
                raise NoProtocol()
        except Exception:  # whatever a factory raises, the one who waits is told
            connection.close()
            return fail()
        _Origin(self._reactor, connection, peer, host, self._counts).flow.attach(protocol)
        return succeed(protocol)

    def _socket(self) -> socket.socket:
        problem = OSError(0, "there are no addresses")
        for address in self._addresses:
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            connection = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                connection.connect((str(address), self._port))
            except OSError as e:
                connection.close()
                problem = e
            else:
                return connection
        raise problem


class _Origin:
    """A connected socket, and its flow."""

    def __init__(
        self,
        reactor: IReactorFDSet,
        connection: socket.socket,
        peer: IAddress,
        host: IAddress,
        counts: DatagramCounts,
    ) -> None:
        self.flow = DatagramFlow(self._send, peer, host, counts, self._closed)
        self._connection = connection
        self._socket = DatagramSocket(reactor, connection, self._read)

    def _closed(self, flow: DatagramFlow) -> None:
        self._socket.close()

    def _send(self, datagram: bytes) -> bool:
        try:
            self._connection.send(datagram)
        except OSError:
            return False
        return True

    def _read(self) -> None:
        datagrams: list[bytes] = []
        for _ in range(BATCH):
            try:
                size = self._connection.recv_into(received)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as e:
                self.flow.fail(e.strerror or "the origin is not there")
                return
            if size <= MAX_DATAGRAM:
                datagrams.append(bytes(received[:size]))
        if datagrams:
            self.flow.gotDatagrams(datagrams)
