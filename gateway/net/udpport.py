"""
A UDP port that many visitors send to, each of which is a flow::

    port = DatagramPort(reactor, "0.0.0.0", 5353, arrived)      # arrived(flow) -> a protocol for each new visitor

Twisted's UDP ports tell nobody to which of the machine's addresses a datagram came, so an answer may go out from
another one, which no client takes. Here the socket is our own, and an answer comes from the address that was asked.
"""

__all__ = ["DatagramPort"]

import socket
from collections.abc import Callable
from ipaddress import ip_address
from struct import Struct
from typing import Any

from twisted.internet.address import IPv4Address as UDP4Address
from twisted.internet.address import IPv6Address as UDP6Address
from twisted.internet.interfaces import IAddress, IProtocol, IReactorFDSet

from gateway.net.udp import BATCH, DatagramCounts, DatagramFlow, DatagramSocket, addressOf, received
from gateway.wire.datagrams import MAX_DATAGRAM

_RECEIVE_BUFFER = 2 * 1024 * 1024
"""Bytes asked of the kernel for a port, of which it gives what net.core.rmem_max allows: bursts wait there."""

_IP_PKTINFO = 8  # ip(7); Python has no name for it
_PKTINFO4 = Struct("@i4s4s")
_PKTINFO6 = Struct("@16si")
_ANCILLARY = socket.CMSG_SPACE(_PKTINFO6.size)


def _tell(connection: socket.socket) -> None:
    """Let the kernel say to which address each datagram came."""
    if connection.family == socket.AF_INET6:
        connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        connection.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


_Ancillary = list[tuple[int, int, bytes]]


def _from(ancillary: _Ancillary) -> _Ancillary:
    """
    @param ancillary: what came with a datagram.
    @return: what has to go with the answers to it.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, _, address = _PKTINFO4.unpack(data[: _PKTINFO4.size])
            return [(level, kind, _PKTINFO4.pack(0, address, b"\0\0\0\0"))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return [(level, kind, data)]
    return []


def _localAddress(answer: _Ancillary, port: int, bound: IAddress) -> IAddress:
    for level, _, data in answer:
        if level == socket.IPPROTO_IP:
            return UDP4Address("UDP", socket.inet_ntop(socket.AF_INET, _PKTINFO4.unpack(data)[1]), port)
        return UDP6Address("UDP", socket.inet_ntop(socket.AF_INET6, data[:16]), port)
    return bound


class DatagramPort:
    """
    A UDP port, with a flow for each address that sends something to it.

    @param interface: an address of this machine; those for all of them are C{0.0.0.0} and C{::}.
    @param arrived: makes a flow's protocol; C{None} drops the datagram, and the next one from there asks again.
    @param limit: flows at once; datagrams of others are dropped and counted.
    @raise OSError: the port cannot be opened.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        interface: str,
        port: int,
        arrived: Callable[[DatagramFlow], IProtocol | None],
        *,
        limit: int = 10_000,
        counts: DatagramCounts | None = None,
    ) -> None:
        self.counts = counts or DatagramCounts()
        self._arrived = arrived
        self._limit = limit
        self._flows: dict[tuple[Any, ...], DatagramFlow] = {}
        address = ip_address(interface)
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            if address.is_unspecified:
                _tell(connection)
            connection.bind((interface, port))
        except OSError:
            connection.close()
            raise
        self._host = addressOf(connection.getsockname())
        self._port: int = connection.getsockname()[1]
        self._socket = DatagramSocket(reactor, connection, self._read)

    def getHost(self) -> IAddress:
        """Where it listens."""
        return self._host

    def stopListening(self) -> None:
        """Take no new flows; when those that there are have ended, the port is closed."""
        self._limit = 0
        if not self._flows:
            self._socket.close()

    def close(self) -> None:
        """End every flow, and the port."""
        self.stopListening()
        for flow in list(self._flows.values()):
            flow.loseConnection()

    @property
    def flowCount(self) -> int:
        """How many flows there are."""
        return len(self._flows)

    def _read(self) -> None:
        connection = self._socket.socket
        batches: dict[DatagramFlow, list[bytes]] = {}
        for _ in range(BATCH):
            try:
                size, ancillary, _, sender = connection.recvmsg_into([received], _ANCILLARY)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue  # what the network says of a datagram that we sent
            flow = self._flowOf(sender, _from(ancillary) if ancillary else [])
            if flow is not None and size <= MAX_DATAGRAM:
                batches.setdefault(flow, []).append(bytes(received[:size]))
        for flow, datagrams in batches.items():
            flow.gotDatagrams(datagrams)

    def _flowOf(self, sender: tuple[Any, ...], answer: _Ancillary) -> DatagramFlow | None:
        key = (sender, answer[0][2] if answer else None)
        flow = self._flows.get(key)
        if flow is not None:
            return flow
        if len(self._flows) >= self._limit:
            self.counts.refused += 1
            return None

        def send(datagram: bytes) -> bool:
            try:
                self._socket.socket.sendmsg((datagram,), answer, 0, sender)
            except OSError:  # the kernel's buffer is full, or the network refuses
                return False
            return True

        def closed(flow: DatagramFlow) -> None:
            del self._flows[key]
            if not self._limit and not self._flows:
                self._socket.close()

        host = _localAddress(answer, self._port, self._host)
        flow = self._flows[key] = DatagramFlow(send, addressOf(sender), host, self.counts, closed)
        protocol = self._arrived(flow)
        if protocol is None:
            self.counts.refused += 1
            flow.loseConnection()
            return None
        flow.attach(protocol)
        return flow
