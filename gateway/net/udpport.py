"""
A UDP port that many visitors send to, each of which is a flow::

    port = DatagramPort(reactor, "0.0.0.0", 5353, arrived)      # arrived(flow) -> a protocol for each new visitor

Twisted's UDP ports tell nobody to which of the machine's addresses a datagram came, so an answer may go out from
another one, which no client takes. Here the socket is our own, and an answer comes from the address that was asked.
"""

__all__ = ["DatagramPort"]

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from struct import Struct
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocol, IReactorFDSet
from twisted.logger import Logger

from gateway.net.udp import DATAGRAM_FLOWS, DatagramCounts, DatagramFlow
from gateway.net.udpsocket import BATCH, FULL, DatagramSocket, addressOf, openSocket, received, sendDatagrams
from gateway.wire.datagrams import LENGTH, MAX_DATAGRAM

_IP_PKTINFO = 8  # ip(7); Python has no name for it
_PKTINFO4 = Struct("@i4s4s")
_PKTINFO6 = Struct("@16si")
_ANCILLARY = socket.CMSG_SPACE(_PKTINFO6.size)
_LINK_LOCAL = b"\xfe\x80"

_Ancillary = list[tuple[int, int, bytes]]


def _tell(connection: socket.socket) -> None:
    """Let the kernel say to which address each datagram came."""
    if connection.family == socket.AF_INET6:
        connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        connection.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _asked(ancillary: _Ancillary) -> bytes:
    """
    @param ancillary: what came with a datagram.
    @return: the address that it came to, packed; nothing where the port has but one.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return data[4:8]  # where to answer from, which is not where a broadcast went to
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return data[:16]
    return b""


def _from(address: bytes) -> _Ancillary:
    """What has to go with the answers, so that they come from this address, by whichever interface leads there."""
    if len(address) == 4:
        return [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(0, address, bytes(4)))]
    # With a link-local address the interface is known by the visitor's.
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(address, 0))] if address else []


class DatagramPort:
    """
    A UDP port, with a flow for each address that sends something to it.

    @param interface: an address of this machine; those for all of them are C{0.0.0.0} and C{::}, and the latter takes
        IPv4, too.
    @param arrived: makes a flow's protocol; C{None} drops the datagram, and the next one from there asks again.
    @param limit: flows at once; datagrams of others are dropped and counted.
    @param isIPv6Only: C{::} leaves IPv4 to another socket.
    @param emptied: called whenever the last flow is over.
    @raise OSError: the port cannot be opened.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorFDSet,
        interface: str,
        port: int,
        arrived: Callable[[DatagramFlow], IProtocol | None],
        *,
        limit: int = DATAGRAM_FLOWS,
        isIPv6Only: bool = False,
        counts: DatagramCounts | None = None,
        emptied: Callable[[], None] = lambda: None,
    ) -> None:
        self.counts = counts or DatagramCounts()
        self._arrived = arrived
        self._limit = limit
        self._emptied = emptied
        self._flows: dict[tuple[Any, ...], DatagramFlow] = {}
        address = ip_address(interface)
        connection = openSocket(address)
        try:
            if address.version == 6:
                connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, isIPv6Only)
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

    @property
    def flowCount(self) -> int:
        """How many flows there are."""
        return len(self._flows)

    def stopListening(self) -> None:
        """Take no new flows; when those that there are have ended, the port is closed."""
        self._limit = 0
        if not self._flows:
            self._socket.close()

    def _read(self) -> None:
        receive = self._socket.socket.recvmsg_into
        came: object = None
        flow: DatagramFlow | None = None
        start = at = count = 0  # of what has come from one visitor without a break
        for _ in range(BATCH):
            try:
                size, ancillary, _, sender = receive((received[at + LENGTH.size :],), _ANCILLARY)
            except OSError:
                break  # there is no more; or a flow that ended has closed the port
            if came != (sender, ancillary):
                if flow is not None and count:
                    flow.gotDatagrams(received[start:at], count)
                came, start, count = (sender, ancillary), at, 0
                flow = self._flowOf(sender, _asked(ancillary))
            if flow is None:
                self.counts.refused += 1
            elif size > MAX_DATAGRAM:
                self.counts.dropped += 1
            else:
                LENGTH.pack_into(received, at, size)
                at += LENGTH.size + size
                count += 1
                if at >= FULL:
                    break
        if flow is not None and count:
            flow.gotDatagrams(received[start:at], count)

    def _flowOf(self, sender: tuple[Any, ...], address: bytes) -> DatagramFlow | None:
        key = (sender, address)
        flow = self._flows.get(key)
        if flow is not None or len(self._flows) >= self._limit:
            return flow
        answer = _from(address)

        def send(datagrams: Sequence[bytes]) -> int:
            try:
                return sendDatagrams(self._socket.socket, datagrams, answer, sender)
            except ConnectionRefusedError:  # an unconnected socket is told so of nobody in particular
                return 0

        def closed(flow: DatagramFlow) -> None:
            del self._flows[key]
            if not self._flows:
                if not self._limit:
                    self._socket.close()
                self._emptied()

        host = addressOf((str(ip_address(address)), self._port)) if address else self._host
        flow = self._flows[key] = DatagramFlow(send, addressOf(sender), host, self.counts, closed)
        try:
            protocol = self._arrived(flow)
            if protocol is not None:
                flow.attach(protocol)
                return flow
        except Exception:  # of the application's; the port's other flows go on
            self._log.failure("a flow's protocol failed", event="gateway.defect")
        flow.abortConnection()
        return None
