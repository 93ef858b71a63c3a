"""
What a peer may do on an HTTP/2 connection that costs us more than it.

A request that is cancelled at once costs a request and leaves no stream that counts (rapid reset), and frames that
carry nothing cost their reading. Browsers do some of each, so there is a number of everything in half a minute::

    resets = Budget(200, 30.0)
    if not resets.spend(now):
        ...                                     # ENHANCE_YOUR_CALM
"""

__all__ = ["Budget", "Http2Limits"]

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """
    The limits of a connection. What is too much ends it with C{ENHANCE_YOUR_CALM}, but for the first three.

    @ivar streams: that the peer may have at once. More are refused, one by one.
    @ivar streamWindow: bytes of a body that the peer may send before any of them is taken.
    @ivar connectionWindow: the same, of all streams together: what a connection may hold.
    @ivar headerList: bytes of a header list, each field counted with 32 more than it has (RFC 9113, section 6.5.2). Up
        to twice as much is read, for whoever wants to answer it.
    @ivar continuations: frames of one header list.
    @ivar resets: streams that the peer gave up, or that its mistakes made us give up, beyond those that were completed,
        within C{seconds} (CVE-2023-44487).
    @ivar controls: C{SETTINGS}, C{PING} and C{PRIORITY} frames, and those that do nothing (without payload, unknown, or
        for streams that are over), beyond the frames of payload that we sent, within C{seconds}; and ten times as many
        C{WINDOW_UPDATE} frames, beyond four for each of those.
    @ivar seconds: see above.
    @ivar queued: bytes of answers to such frames that wait for a peer that does not read.
    """

    streams: int = 128
    streamWindow: int = 256 * 1024
    connectionWindow: int = 1024 * 1024
    headerList: int = 16 * 1024
    continuations: int = 32
    resets: int = 200
    controls: int = 1000
    seconds: float = 30.0
    queued: int = 16 * 1024


class Budget:
    """
    A number of events in a time, which come back little by little.

    @param limit: how many.
    @param seconds: in which time.
    """

    __slots__ = ("_limit", "_now", "_rate", "_spent")

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._rate = limit / seconds
        self._spent = 0.0
        self._now = 0.0

    def spend(self, now: float) -> bool:
        """
        Count one.

        @param now: seconds, of any clock that does not go back.
        @return: whether it was within the limit.
        """
        self._spent = max(0.0, self._spent - (now - self._now) * self._rate) + 1
        self._now = now
        return self._spent <= self._limit

    def earn(self, count: int = 1) -> None:
        """Give back so many, if they were spent."""
        self._spent = max(0.0, self._spent - count)
