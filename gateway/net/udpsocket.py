"""
What UDP ports and origins have in common: a socket that the reactor reads, and a way to send much at once.

Nearly all that a datagram costs is its system call. Python has no C{sendmmsg}, but Linux takes a run of datagrams of
one length in one piece, and cuts it itself, which is as fast::

    sendDatagrams(connection, datagrams)            # returns how many the kernel took
"""

__all__ = ["BATCH", "FULL", "DatagramSocket", "addressOf", "openSocket", "received", "sendDatagrams"]

import socket
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from struct import Struct
from typing import Any

from twisted.internet.address import IPv4Address as UDP4Address
from twisted.internet.address import IPv6Address as UDP6Address
from twisted.internet.interfaces import IAddress, IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import IPAddress
from gateway.wire.datagrams import LENGTH, MAX_DATAGRAM

BATCH = 64
"""Datagrams that are read before the reactor gets a turn."""

FULL = 64 * 1024
"""Bytes after which it gets one, too: a stream takes no more before that, so that the next would be dropped."""

received = memoryview(bytearray(FULL + LENGTH.size + 65536))
"""What the latest reads brought. One for all sockets: the reactor reads in one thread, and what is kept is copied."""

_RECEIVE_BUFFER = 2 * 1024 * 1024
"""Bytes asked of the kernel, which gives what net.core.rmem_max allows: bursts wait there, at twice their length."""

Ancillary = Sequence[tuple[int, int, bytes]]

_UDP_SEGMENT = 103  # udp(7); Python has no name for it
_SEGMENT = Struct("@H")
_MAX_SEGMENTS = 64
_MAX_SEGMENT = 1400
"""Bytes: a longer one may not fit into a packet, and then the kernel does not cut."""


def openSocket(address: IPAddress) -> socket.socket:
    """A socket for an address's family."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return made


def addressOf(sockaddr: tuple[Any, ...]) -> IAddress:
    """What the socket module calls an address, as Twisted does."""
    kind = UDP6Address if ":" in sockaddr[0] else UDP4Address
    return kind("UDP", sockaddr[0], sockaddr[1])


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
        """To the reactor an error that waits is the end. Here it is read as a datagram is, and others may follow."""
        if self.socket.fileno() >= 0:
            self._reactor.addReader(self)
            self._readable()

    def close(self) -> None:
        """Read no more."""
        if self.socket.fileno() >= 0:
            self._reactor.removeReader(self)
            self.socket.close()


@cache
def _canCut() -> bool:
    """Whether the kernel cuts: Linux does since 4.18."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)
        except OSError:
            return False
    return True


def sendDatagrams(
    connection: socket.socket, datagrams: Sequence[bytes], ancillary: Ancillary = (), address: Any = None
) -> int:
    """
    @param address: to send to, where the socket is not connected.
    @return: how many the kernel took; the others are gone.
    @raise ConnectionRefusedError: nobody listens where something was sent to before.
    """

    def send(pieces: Sequence[bytes], how: Ancillary) -> bool:
        try:
            connection.sendmsg(pieces, how, 0, address)
        except ConnectionRefusedError:
            raise
        except OSError:  # the kernel's buffer is full, or this is too long to be sent, or to be cut
            return False
        return True

    sent = 0
    for size, group in groupby(datagrams, len):
        run = list(group)
        step = min(_MAX_SEGMENTS, MAX_DATAGRAM // size) if 0 < size <= _MAX_SEGMENT else 1
        cutting = (*ancillary, (socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT.pack(size)))
        for at in range(0, len(run), step):
            pieces = run[at : at + step]
            if len(pieces) > 1 and _canCut() and send(pieces, cutting):
                sent += len(pieces)
            else:
                sent += sum(send((piece,), ancillary) for piece in pieces)
    return sent
