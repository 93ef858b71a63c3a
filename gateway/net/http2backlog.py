"""
What waits to be sent on an HTTP/2 connection, all of its streams together.

A stream whose peer takes nothing has its source paused, and whoever that is counts what is held for it (in a
L{StallBudget<gateway.net.budget.StallBudget>}). Nobody counts what waits on the others: those on which it is not much
yet, and those that are finished, which have nobody left to pause. A hundred small responses that are not taken are much
all the same, so there is a limit to their sum::

    backlog.wrote(stream, len(data))            # at the limit a source is paused for the least that it writes
    if backlog.finished(stream):
        ...                                     # pause all others, before they write anything

They go on in the order in which they were paused, each when its own bytes are sent.
"""

__all__ = ["HIGH_WATER", "Backlog"]

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.net.http2stream import Http2Stream

HIGH_WATER = 64 * 1024
"""Bytes that may wait on one stream before its source is paused: as of Twisted's own transports."""

_LOW_WATER = 16 * 1024
"""Bytes left when it is resumed, so that it has time to bring more before all is sent."""


class Backlog:
    """
    @param limit: bytes. The write that passes it is held as well.
    @ivar held: bytes that wait on streams whose sources are not paused.
    @ivar isFull: what is finished passed the limit, and has not come down to half of it yet.
    """

    __slots__ = ("_limit", "_paused", "held", "isFull")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._paused: dict[Http2Stream, None] = {}
        self.held = 0
        self.isFull = False

    def wrote(self, stream: "Http2Stream", size: int) -> None:
        """So many more bytes wait on a stream."""
        if not stream.isSourcePaused:
            self.held += size
            if stream.unsent > HIGH_WATER or self.held > self._limit:
                self.pause(stream)

    def pause(self, stream: "Http2Stream") -> None:
        """Pause the source of a stream."""
        stream.isSourcePaused = True
        self.held -= stream.unsent
        self._paused[stream] = None
        stream.pauseSource()

    def finished(self, stream: "Http2Stream") -> bool:
        """
        Nobody but us counts what waits on a stream any more.

        @return: whether it is too much, so that the sources of all others are to be paused.
        """
        self._count(stream)
        if self.held > self._limit:
            self.isFull = True
        return self.isFull

    def dropped(self, stream: "Http2Stream") -> None:
        """What waits on a stream is not sent any more."""
        self._count(stream)
        self.held -= stream.unsent

    def _count(self, stream: "Http2Stream") -> None:
        if stream.isSourcePaused:
            stream.isSourcePaused = False
            self.held += stream.unsent
            del self._paused[stream]

    def next(self) -> "Http2Stream | None":
        """
        @return: a stream whose source is to be resumed, now.
        """
        room = self._limit // 2 - self.held
        if room >= 0:
            self.isFull = False
        if self._paused and not self.isFull and self.held <= self._limit:
            room = min(max(room, 0), _LOW_WATER)
            for stream in self._paused:
                if stream.unsent <= room:
                    self._count(stream)
                    return stream
        return None
