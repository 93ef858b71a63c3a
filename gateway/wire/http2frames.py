"""
HTTP/2's frames, as far as they are looked at before C{h2} sees them, and those few that are written without it.

    >>> reader = FrameReader()
    >>> [(kind, stream) for kind, flags, stream, payload in reader.receive(ping(b"12345678"))]
    [(6, 0)]

A frame's length is judged by its header, before its payload is there: h2 would collect what is too long first.
"""

__all__ = [
    "ACK",
    "CONTINUATION",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "MAX_FRAME",
    "MAX_WINDOW",
    "PADDED",
    "PING",
    "PREFACE",
    "PRIORITY",
    "PRIORITY_FLAG",
    "PUSH_PROMISE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "FrameReader",
    "connectionError",
    "frame",
    "goAway",
    "ping",
    "rstStream",
    "unpadded",
    "windowUpdate",
]

from collections.abc import Iterator
from struct import Struct

from h2.errors import ErrorCodes

from gateway.wire.errors import RemoteProtocolError

Buffer = bytes | memoryview

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (RFC 9113, section 3.4)."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
"""The types (RFC 9113, section 6)."""

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

MAX_FRAME = 16 * 1024
"""Bytes of payload that we take and send: the least that everybody takes, so that no frame holds up others for long."""

MAX_WINDOW = 2**31 - 1

_OF_STREAMS = frozenset((DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION))
_OF_THE_CONNECTION = frozenset((SETTINGS, PING, GOAWAY))
_LENGTHS = {
    RST_STREAM: lambda length: length == 4,
    SETTINGS: lambda length: length % 6 == 0,
    PING: lambda length: length == 8,
    GOAWAY: lambda length: length >= 8,
    WINDOW_UPDATE: lambda length: length == 4,
}

_HEADER = Struct(">BHBBL")
_NUMBER = Struct(">L")
_TWO_NUMBERS = Struct(">LL")
_STREAM = 0x7FFFFFFF


def connectionError(code: ErrorCodes, details: str) -> RemoteProtocolError:
    """What ends a connection, with HTTP/2's own name for it."""
    return RemoteProtocolError(code.name, details)


class FrameReader:
    """Finds the frames in what comes."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def receive(self, data: Buffer) -> Iterator[tuple[int, int, int, memoryview]]:
        """
        Take what came.

        @return: type, flags, stream and payload of each frame that is complete. Payload is valid until the next one.
            Whoever stops before the end gets the rest when more is taken.
        @raise RemoteProtocolError: C{FRAME_SIZE_ERROR}, or C{PROTOCOL_ERROR} for a frame that is of a stream and may
            not be, or the other way round.
        """
        view = memoryview(self._held + data if self._held else data)
        position, size = 0, len(view)
        try:
            while size - position >= _HEADER.size:
                high, low, kind, flags, stream = _HEADER.unpack_from(view, position)
                length = high << 16 | low
                if length > MAX_FRAME:
                    raise connectionError(ErrorCodes.FRAME_SIZE_ERROR, f"A frame has more than {MAX_FRAME} bytes.")
                stream &= _STREAM
                if kind in (_OF_THE_CONNECTION if stream else _OF_STREAMS):
                    details = "A frame is of a stream and may not be, or of none."
                    raise connectionError(ErrorCodes.PROTOCOL_ERROR, details)
                if kind in _LENGTHS and not _LENGTHS[kind](length):
                    raise connectionError(ErrorCodes.FRAME_SIZE_ERROR, "A frame has not the length of its kind.")
                begin = position + _HEADER.size
                if begin + length > size:
                    break
                position = begin + length
                yield kind, flags, stream, view[begin:position]
        finally:
            self._held = bytes(view[position:])


def unpadded(flags: int, payload: memoryview) -> memoryview:
    """
    @return: the payload of a frame of DATA or HEADERS without its padding.
    @raise RemoteProtocolError: C{PROTOCOL_ERROR} when there is more padding than frame.
    """
    if not flags & PADDED:
        return payload
    if not payload:
        raise connectionError(ErrorCodes.FRAME_SIZE_ERROR, "A padded frame does not say how much of it is padding.")
    end = len(payload) - payload[0]
    if end < 1:
        raise connectionError(ErrorCodes.PROTOCOL_ERROR, "A frame has more padding than payload.")
    return payload[1:end]


def frame(kind: int, flags: int, stream: int, payload: Buffer = b"") -> bytes:
    """A frame of any type."""
    size = len(payload)
    return b"".join((_HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream), payload))


def rstStream(stream: int, code: int) -> bytes:
    """The frame that ends a stream (RFC 9113, section 6.4)."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def windowUpdate(stream: int, increment: int) -> bytes:
    """The frame that lets the peer send more (RFC 9113, section 6.9)."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def ping(data: Buffer, *, isAnswer: bool = False) -> bytes:
    """
    @param data: 8 bytes (RFC 9113, section 6.7).
    """
    return frame(PING, ACK if isAnswer else 0, 0, data)


def goAway(lastStream: int, code: int) -> bytes:
    """The frame that begins the end of a connection (RFC 9113, section 6.8)."""
    return frame(GOAWAY, 0, 0, _TWO_NUMBERS.pack(lastStream, code))
