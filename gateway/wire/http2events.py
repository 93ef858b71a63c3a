"""
What happens on an HTTP/2 connection, as L{gateway.wire.http2} tells it::

    for event in connection.receive(data, now):
        if isinstance(event, HeadReceived):
            head, length = requestHead(event.fields, ended=event.ended)
"""

__all__ = [
    "DataReceived",
    "Event",
    "GoneAway",
    "HeadReceived",
    "Ponged",
    "StreamReset",
    "WindowOpened",
]

import msgspec


class HeadReceived(msgspec.Struct, frozen=True):
    """
    A header list came.

    @ivar isTrailers: it is the second one, after which nothing comes (the first, of 1xx ones, aside).
    @ivar size: bytes of it, as L{Http2Limits.headerList} counts them.
    @ivar ended: nothing comes after it.
    """

    stream: int
    fields: list[tuple[bytes, bytes]]
    size: int
    ended: bool
    isTrailers: bool


class DataReceived(msgspec.Struct, frozen=True):
    """
    Payload came, or at least padding or an end.

    @ivar credit: what to give to L{Http2Connection.consumed} once the payload is taken.
    @ivar ended: nothing comes after it.
    """

    stream: int
    payload: bytes
    credit: int
    ended: bool


class StreamReset(msgspec.Struct, frozen=True):
    """
    A stream ended without an end.

    @ivar code: of C{ErrorCodes}, or unknown.
    @ivar isOurs: it was we who ended it, for something that the peer did.
    """

    stream: int
    code: int
    isOurs: bool
    details: str


class WindowOpened(msgspec.Struct, frozen=True):
    """
    More may be sent.

    @ivar stream: 0: on all streams.
    """

    stream: int


class GoneAway(msgspec.Struct, frozen=True):
    """
    The peer takes no more streams.

    @ivar last: the last stream that it has looked at, or will.
    """

    last: int
    code: int


class Ponged(msgspec.Struct, frozen=True):
    """The peer answered a ping."""

    data: bytes


Event = HeadReceived | DataReceived | StreamReset | WindowOpened | GoneAway | Ponged
