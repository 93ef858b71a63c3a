"""
Writing HTTP/1 messages: each with as few writes as its parts allow, and framed by the length of its body.

A head alone is a packet, a system call and a wake-up of the peer's, just as much as a head with its body. Nobody can
tell when the body will follow a head, but often it does at once. So a head, and what is small, waits for what comes
next, and at most until all has been read that there is to be read now::

    writer = MessageWriter(transport, sweep)
    writer.begin(encodeResponseHead(head), 1024)
    writer.write(body)          # one write of both
    writer.end()
"""

__all__ = ["MessageWriter"]

from gateway.net.direct import Buffer, directWriter
from gateway.net.httpinterfaces import Fields
from gateway.net.interfaces import IStreamTransport
from gateway.net.sweep import Sweep
from gateway.wire.http1body import UNTIL_CLOSE, chunkHead, lastChunk

_SMALL = 4096
"""Bytes below which to copy a piece of a body costs less than to write it by itself."""

_HELD = 16 * 1024
"""Bytes that wait, at most."""


class MessageWriter:
    """
    @param transport: may be written to by others as well, after L{flush}.
    @ivar left: bytes of the body that are still due; C{None}: it is in chunks; C{UNTIL_CLOSE}.
    """

    __slots__ = ("_held", "_heldSize", "_isDue", "_sweep", "_write", "left")

    def __init__(self, transport: IStreamTransport, sweep: Sweep) -> None:
        self.left: int | None = 0
        self._write = directWriter(transport)
        self._sweep = sweep
        self._held: list[Buffer] = []
        self._heldSize = 0
        self._isDue = False

    def begin(self, head: bytes, length: int | None) -> None:
        """
        Begin a message.

        @param length: bytes of the body; C{None}: it comes in chunks; C{UNTIL_CLOSE}: to the connection's end.
        """
        self.left = length
        if length == 0:
            self._send(head)
        else:
            self._hold(head)

    def write(self, data: Buffer) -> bool:
        """
        Write a piece of the body.

        @param data: not empty; not kept.
        @return: whether it was within the body's length. If not, nothing was written.
        """
        size, left = len(data), self.left
        if left is None:
            if size < _SMALL:
                self._hold(b"".join((chunkHead(size), data, b"\r\n")))
            else:
                self._send(chunkHead(size), data, b"\r\n")
            return True
        if left != UNTIL_CLOSE:
            if size > left:
                return False
            self.left = left = left - size
        if left == 0 or size >= _SMALL:
            self._send(data)
        else:
            self._hold(bytes(data))
        return True

    def end(self, trailers: Fields = ()) -> bool:
        """
        The message is complete.

        @param trailers: go with a body in chunks, and are dropped otherwise.
        @return: whether the body was as long as it was to be.
        """
        left, self.left = self.left, 0
        if left is None:
            self._send(lastChunk(trailers))
        else:
            self.flush()
        return left is None or left <= 0

    def interject(self, data: bytes) -> None:
        """Write something between messages: an informational response, or the head of what is no message any more."""
        self._send(data)

    def flush(self) -> None:
        """Let nothing wait."""
        if self._held:
            held, self._held = self._held, []
            self._heldSize = 0
            self._write(held)

    def _send(self, *pieces: Buffer) -> None:
        if self._held:
            pieces = (*self._held, *pieces)
            self._held = []
            self._heldSize = 0
        self._write(pieces)

    def _hold(self, piece: bytes) -> None:
        self._held.append(piece)
        self._heldSize += len(piece)
        if self._heldSize > _HELD:
            self.flush()
        elif not self._isDue:
            self._isDue = True
            self._sweep.endOfTurn(self._turnEnded)

    def _turnEnded(self) -> None:
        self._isDue = False
        self.flush()
