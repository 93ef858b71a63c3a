"""
The limits of a yamux session on a carrier, and the one timer that keeps those of time.

A session has many deadlines: of streams that the peer does not acknowledge or end, of pings, of its own end. They all
hang on one delayed call, which is moved only when something is due earlier::

    deadlines = Deadlines(clock, session, settings, carrier, expired=dispatch, dead=cutOff)
    deadlines.start()                            # sends the first ping
    deadlines.heard = True                       # whenever something came
    deadlines.wakeWithin(settings.openTimeout)   # a stream was opened

The peer is pinged at an interval, and is dead when nothing at all came in the interval after a ping, unless its kernel
still acknowledges a backlog of ours: a pong may wait behind a lot on a slow line.
"""

__all__ = ["Deadlines", "MuxSettings", "monotonic"]

import time
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python import runtime

from gateway.net.interfaces import IStreamTransport
from gateway.net.progress import Progress
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.yamux import Session
from gateway.wire.yamuxframes import Event
from gateway.wire.yamuxstreams import Limits

_FIRST_PINGS = 8
"""
Pings that are sent one upon the other when a session begins. The round trip is the shortest that was seen, and the very
first may be ten times as long, as both sides are still busy with the connection; windows would grow to match.
"""


@dataclass(frozen=True, slots=True)
class MuxSettings(Limits):
    """
    The limits of a session: those of its L{Limits}, and what the carrier is allowed. Times are in seconds.

    @ivar pingInterval: between pings; a peer from which nothing came in the interval after one is cut off, so a dead
        one is found within two. Zero pings once only, to know the round trip.
    @ivar pingTimeout: from a ping to its answer, whatever else comes from the peer.
    @ivar drainTimeout: from C{goAway} to the end of the streams that there still are.
    @ivar goodbyeTimeout: for a peer that broke the protocol to take what says so.
    """

    pings: int = 120
    pingInterval: float = 20.0
    pingTimeout: float = 120.0
    drainTimeout: float = 30.0
    goodbyeTimeout: float = 5.0

    def __post_init__(self) -> None:
        Limits.__post_init__(self)  # super() does not work in a class with slots
        if self.pingInterval and self.pings * self.pingInterval < self.pingTimeout:
            raise ValueError("pingTimeout must be at most pings * pingInterval")


def monotonic(clock: IReactorTime) -> Callable[[], float]:
    """
    What tells the seconds to a session of this clock. That of a real reactor is the time of day, which jumps when it is
    set: a round trip might seem to be less than nothing, and every ping overdue.
    """
    return time.monotonic if clock.seconds is runtime.seconds else clock.seconds


class Deadlines:
    """
    Until L{stop} is called.

    @param expired: called now and then with what the session said when its time was up, possibly nothing; frames may
        wait to be sent.
    @param dead: called once at most, when the peer does not answer.
    @ivar heard: something came since the last ping.
    """

    def __init__(
        self,
        clock: IReactorTime,
        session: Session,
        settings: MuxSettings,
        carrier: IStreamTransport,
        *,
        expired: Callable[[list[Event]], None],
        dead: Callable[[], None],
    ) -> None:
        self.heard = False
        self._clock = clock
        self._seconds = monotonic(clock)
        self._session = session
        self._interval = settings.pingInterval
        self._leastInterval = settings.pingTimeout / settings.pings  # or there would be too many without an answer
        self._carrier = carrier
        self._progress = Progress(carrier)
        self._expired = expired
        self._dead = dead
        self._timer: IDelayedCall | None = None
        self._nextPing: float | None = None
        self._cutOffAt: float | None = None
        self._watching = True
        self._firstPings = _FIRST_PINGS - 1

    def start(self) -> None:
        """Ping, and begin."""
        self._ping(self._seconds())
        self._schedule()

    def pingEvery(self, seconds: float) -> None:
        """Ping at another interval from now on."""
        seconds = max(seconds, self._leastInterval)
        if self._watching and seconds != self._interval:
            self._interval = seconds
            self._nextPing = self._seconds() + seconds
            self.wakeWithin(seconds)

    def answered(self) -> None:
        """A ping was answered. The first few are followed by the next at once."""
        if self._watching and self._firstPings:
            self._firstPings -= 1
            self._ping(self._seconds())

    def stop(self) -> None:
        """The carrier is gone."""
        self._watching, self._cutOffAt = False, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cutOffWithin(self, seconds: float) -> None:
        """Whatever happens, abort the carrier in so many seconds."""
        self._cutOffAt = self._seconds() + seconds
        self.wakeWithin(seconds)

    def sessionEnded(self) -> None:
        """Nothing else is due any more."""
        self._watching = False

    def wakeWithin(self, seconds: float) -> None:
        """Look what is due in at most so many seconds."""
        if self._timer is None:
            self._timer = self._clock.callLater(max(0.0, seconds), self._wake)
        elif self._timer.getTime() > self._clock.seconds() + seconds:
            self._timer.reset(max(0.0, seconds))

    def _schedule(self) -> None:
        times = (self._session.deadline, self._nextPing, self._cutOffAt) if self._watching else (self._cutOffAt,)
        if due := [when for when in times if when is not None]:
            self.wakeWithin(min(due) - self._seconds())

    def _wake(self) -> None:
        self._timer = None
        now = self._seconds()
        if self._cutOffAt is not None and now >= self._cutOffAt:
            self._carrier.abortConnection()
            return
        if self._watching:
            self._look(now)
        self._schedule()

    def _look(self, now: float) -> None:
        try:
            events = self._session.expire(now)
        except RemoteProtocolError:
            self._die()
            return
        if self._nextPing is not None and now >= self._nextPing:
            if not self.heard and not self._progress.isMade():
                self._die()
                return
            self._ping(now)
        self._expired(events)

    def _die(self) -> None:
        self._watching, self._cutOffAt = False, None
        self._dead()

    def _ping(self, now: float) -> None:
        self._nextPing = now + self._interval if self._interval else None
        self.heard = False
        self._session.ping(now)
