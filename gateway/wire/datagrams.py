"""
Datagrams on a byte stream: each is its length in two bytes, big-endian, and its payload.

That is how UDP travels in a stream of the agent protocol, in both directions. A datagram of no bytes is one, too::

    LENGTH.pack_into(buffer, 0, connection.recv_into(buffer[LENGTH.size:]))     # nothing is copied
    decoder = DatagramDecoder()
    datagrams = decoder.receive(data)               # the whole ones: [b"answer"]

What is kept between two reads is one unfinished datagram at most.
"""

__all__ = ["LENGTH", "MAX_DATAGRAM", "DatagramDecoder"]

import struct

from gateway.wire.errors import RemoteProtocolError

MAX_DATAGRAM = 65_507
"""Bytes: the most that UDP carries over IPv4."""

LENGTH = struct.Struct("!H")
"""What stands before each datagram."""

Piece = bytes | memoryview

_SIZE = LENGTH.size


class DatagramDecoder:
    """One direction of a stream."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = bytearray()

    def receive(self, data: Piece) -> list[bytes]:
        """
        Take what arrived, in pieces of any size.

        @return: the datagrams that are whole now. They are copies: a view would keep all of C{data} alive for one.
        @raise RemoteProtocolError: C{datagram-too-long}. The stream cannot be read any further.
        """
        datagrams: list[bytes] = []
        data = bytes(data)  # at once, as copies of many small pieces of a view take longer
        position, end = self._finishPartial(data, datagrams) if self._partial else 0, len(data)
        while end - position >= _SIZE:
            (length,) = LENGTH.unpack_from(data, position)
            if length > MAX_DATAGRAM:
                raise _tooLong(length)
            stop = position + _SIZE + length
            if stop > end:
                break
            datagrams.append(data[position + _SIZE : stop])
            position = stop
        if position < end:
            self._partial += data[position:]
        return datagrams

    def _finishPartial(self, data: bytes, datagrams: list[bytes]) -> int:
        """Add what is missing of the datagram that has begun, as far as it is here. Return how much that was."""
        partial = self._partial
        position = 0
        if len(partial) < _SIZE:
            position = _SIZE - len(partial)
            partial += data[:position]
            if len(partial) < _SIZE:
                return len(data)
        length: int = LENGTH.unpack_from(partial)[0]
        if length > MAX_DATAGRAM:
            raise _tooLong(length)
        stop = position + _SIZE + length - len(partial)
        partial += data[position:stop]
        if len(partial) < _SIZE + length:
            return len(data)
        datagrams.append(bytes(memoryview(partial)[_SIZE:]))
        self._partial = bytearray()
        return stop


def _tooLong(length: int) -> RemoteProtocolError:
    details = f"A datagram has {length} bytes, and UDP at most {MAX_DATAGRAM}."
    return RemoteProtocolError("datagram-too-long", details)
