"""
Yamux's frames, and what a L{Session<gateway.wire.yamux.Session>} makes of those that it receives.

The numbers are those of hashicorp's specification of yamux, version 0: a header of twelve bytes, big endian, and after
that of a Data frame as many bytes of payload as its last field says::

    assert frame(WINDOW_UPDATE | SYN, 1, 0) == bytes.fromhex("00 01 0001 00000001 00000000")

A header is read and written as three words of 32 bits, the first of which holds the version (0), the type and the
flags. So plain Data, the frame that matters for speed, is the one whose first word is zero.
"""

__all__ = [
    "ACK",
    "DATA",
    "FIN",
    "FLAGS",
    "GO_AWAY",
    "HEADER",
    "PING",
    "RST",
    "SYN",
    "WINDOW_UPDATE",
    "Ack",
    "Code",
    "Data",
    "Event",
    "Fin",
    "GoAway",
    "GoAwayCode",
    "Piece",
    "Pong",
    "Rst",
    "Syn",
    "frame",
]

from enum import IntEnum, StrEnum
from struct import Struct

import msgspec

HEADER = Struct(">III")
"""Version, type and flags in one word; the stream's number; the length."""

frame = HEADER.pack
"""A header as bytes, of the type and flags, the stream and the length."""

DATA = 0 << 16
WINDOW_UPDATE = 1 << 16
PING = 2 << 16
GO_AWAY = 3 << 16

SYN = 1
ACK = 2
FIN = 4
RST = 8
FLAGS = SYN | ACK | FIN | RST


Piece = bytes | memoryview
"""What carries payload."""


class GoAwayCode(IntEnum):
    """Why a session ends."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class Code(StrEnum):
    """What is wrong with what a peer sent, or with its silence: the C{code} of each L{RemoteProtocolError} here."""

    BAD_VERSION = "bad-version"
    BAD_TYPE = "bad-type"
    BAD_FLAGS = "bad-flags"
    BAD_STREAM = "bad-stream"
    """A new stream's number is 0, or has the parity of our own."""
    DUPLICATE_STREAM = "duplicate-stream"
    UNEXPECTED_FIN = "unexpected-fin"
    WINDOW_EXCEEDED = "window-exceeded"
    """Payload without credit, after a FIN too."""
    CONTROL_FLOOD = "control-flood"
    """More questions than the carrier takes answers."""
    WENT_AWAY = "went-away"
    """The peer ended the session with an error."""
    PING_TIMEOUT = "ping-timeout"


class Syn(msgspec.Struct, frozen=True, gc=False):
    """
    The peer opened a stream: decide on it, then C{accept} or C{reset}.

    @ivar stream: its number.
    """

    stream: int


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The peer accepted a stream of ours."""

    stream: int


class Data(msgspec.Struct, frozen=True, gc=False):
    """
    Payload: a frame's, or a part of it, as it arrives.

    @ivar payload: a slice of what was received, and never empty. It counts against the window until it is consumed.
    """

    stream: int
    payload: Piece


class Fin(msgspec.Struct, frozen=True, gc=False):
    """The peer sends no more on this stream."""

    stream: int


class Rst(msgspec.Struct, frozen=True, gc=False):
    """
    A stream ended at once, and is gone: the peer reset it, or, when it was not acknowledged yet, refused it; or
    its time ran out.
    """

    stream: int


class Pong(msgspec.Struct, frozen=True, gc=False):
    """
    The peer answered a ping.

    @ivar opaque: the ping's number.
    @ivar rtt: seconds.
    """

    opaque: int
    rtt: float


class GoAway(msgspec.Struct, frozen=True, gc=False):
    """The peer takes no new streams. Those that there are go on."""


Event = Syn | Ack | Data | Fin | Rst | Pong | GoAway
