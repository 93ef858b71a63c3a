"""
Whether a TCP peer goes on taking what was written to it.

A ping that waits behind a megabyte on a slow line is answered late, and its peer is alive all the same. What the
peer's kernel has acknowledged tells::

    progress = Progress(transport)
    progress.isMade()       # asked from time to time

The figures are Linux's; elsewhere, and on transports without a socket, no progress is ever seen, and the ping decides.
"""

__all__ = ["Progress"]

import socket
import struct
import sys
from fcntl import ioctl
from termios import TIOCOUTQ

_BACKLOG = 4096
"""Bytes that may be on the way without being a backlog: a few pings and messages."""

_BYTES_ACKED = 120
"""The offset of C{tcpi_bytes_acked} in Linux's C{struct tcp_info}."""


class Progress:
    """
    @param transport: what has, by way of whatever is on it, a C{socket}. Each who asks has a L{Progress} of their own.
    """

    __slots__ = ("_acknowledged", "_transport")

    def __init__(self, transport: object) -> None:
        self._transport = transport
        self._acknowledged = 0

    def isMade(self) -> bool:
        """
        Whether a backlog stands, and the peer has acknowledged some of it since the last call.
        """
        connection, waiting = self._socket(), self.waiting()
        if connection is None or waiting is None:
            return False
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
            (acknowledged,) = struct.unpack_from("Q", info, _BYTES_ACKED)
        except (OSError, struct.error):
            return False
        before, self._acknowledged = self._acknowledged, acknowledged
        return bool(waiting > _BACKLOG and acknowledged > before)

    def waiting(self) -> int | None:
        """
        Bytes that the kernel took and the peer has not acknowledged, the end of all counted as one; C{None}: not known.
        """
        if (connection := self._socket()) is None:
            return None
        try:
            return int.from_bytes(ioctl(connection, TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:
            return None

    def _socket(self) -> socket.socket | None:
        connection = getattr(self._transport, "socket", None)
        return connection if isinstance(connection, socket.socket) else None
