"""
The relay: the one place in this project where payload moves from one byte stream to another.

A door gives it the near side, a visitor's transport, and a client endpoint; the relay dials, joins both and
reports once how it ended::

    relay = Relay(clock, ended=report)
    relay.near.makeConnection(visitorTransport)     # or return relay.near from buildProtocol
    relay.connect(endpoint)                         # a Deferred: the far side is there, or a DialFailed

What holds, whatever the two transports are:

  1. What the near side sends before the far side exists is kept, up to C{pending} bytes, then the near side is paused.
     (Reading a little, rather than nothing, is what tells us that it left, and so cancels the dial.) An endpoint that
     is an L{IEarlyEndpoint} may pass it on meanwhile.
  2. Each L{Half} is the other's streaming producer, so one stalled reader stops its own source and nothing else.
     The I{half} is registered, not its transport: a half may have more than one reason to stay paused.
  3. An end of reading becomes C{loseWriteConnection} on the other side where that truly half-closes. TLS claims
     that it does, but cuts the connection below TLS; there, and on a WebSocket, we flush and close both.
  4. A reset is told from an end: an aborted side aborts the other, so that truncation never looks like success. One
     that had ended its sending before is no truncation.
  5. A producer is unregistered before C{loseConnection}: a TLS transport that has one never finishes closing.
  6. Bytes held for a stalled reader count against a L{StallBudget} shared by all relays.

A door that must say something before it closes overrides L{Half.finish}.

Length: two classes that only make sense together, and the promises that they keep in the texts of their methods.
"""

__all__ = [
    "Cause",
    "Half",
    "Outcome",
    "Relay",
    "RelaySettings",
    "canHalfClose",
]

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.budget import IStalls, StallBudget
from gateway.net.dial import DialFailed, DialFailure, Prepared, limitDial
from gateway.net.direct import Buffer, IDirectTransport, directWriter, readDirectly
from gateway.net.interfaces import IEarlyData, IEarlyEndpoint, IStreamTransport, IWebSocketChannel
from gateway.net.progress import Progress
from gateway.net.timer import Timer


class Cause(StrEnum):
    """Why a relay ended. Doors may end one for reasons of their own; these are the relay's."""

    NEAR_CLOSED = "near-closed"
    FAR_CLOSED = "far-closed"
    NEAR_RESET = "near-reset"
    FAR_RESET = "far-reset"
    DIAL_FAILED = "dial-failed"
    IDLE = "idle-timeout"
    MEMORY = "memory-budget"


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """
    The limits of a relay.

    @ivar dialTimeout: seconds for the far side to come into being.
    @ivar idleTimeout: seconds without a byte in either direction, or C{None} for no limit. Noticed at most a
        quarter later.
    @ivar closeTimeout: seconds that a side has to take what was written to it before it closes; then it is cut off,
        unless it has taken some of it meanwhile.
    @ivar closeLimit: seconds after which it is cut off all the same.
    @ivar pending: bytes that the near side may send before the far side exists.
    """

    dialTimeout: float = 20.0
    idleTimeout: float | None = None
    closeTimeout: float = 60.0
    closeLimit: float = 900.0
    pending: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    How a relay ended.

    @ivar cause: a L{Cause}, or the word that a door ended it with.
    @ivar up: bytes read from the near side.
    @ivar down: bytes read from the far side.
    @ivar seconds: from the relay's making to its end.
    """

    cause: str
    up: int
    down: int
    seconds: float


def canHalfClose(transport: ITransport) -> bool:
    """Whether one direction of a transport can end without the other: true of TCP, UNIX sockets and streams."""
    return IHalfCloseableDescriptor.providedBy(transport) and not ISSLTransport.providedBy(transport)


@implementer(IEarlyData)
class _Pending:
    """Stands in for a side that does not exist yet."""

    def __init__(self, half: "Half", limit: int) -> None:
        self._half = half
        self._limit = limit
        self.size = 0
        self._chunks: list[bytes] = []
        self._follower: Callable[[bytes], object] | None = None

    def write(self, data: Buffer) -> None:
        kept = bytes(data)
        self._chunks.append(kept)
        if self._follower is not None:
            self._follower(kept)
        self.size += len(kept)
        if self.size >= self._limit:
            self._half.pause(Half.NOT_JOINED)

    def follow(self, write: Callable[[bytes], object]) -> None:
        self._follower = write
        for chunk in self._chunks:
            write(chunk)

    def replay(self, write: Callable[[Buffer], object]) -> None:
        """The other side is there: give it what came, unless the endpoint did."""
        if self._follower is None:
            for chunk in self._chunks:
                write(chunk)


@implementer(IHalfCloseableProtocol, IPushProducer, IStalls)
class Half(Protocol):
    """
    One side of a relay: the protocol on one transport, and the producer of the other.

    @ivar received: bytes read from this side.
    @ivar write: where they go.
    """

    # The reasons for which reading from this side may be paused; it resumes when none is left.
    NOT_JOINED = 1
    CONSUMER = 2
    RATE = 4

    transport: IStreamTransport | None

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.received = 0
        self.readEnded = False
        self.lost = False
        self._paused = 0
        self._rateTimer: IDelayedCall | None = None
        self._pending: _Pending | None = _Pending(self, relay.settings.pending)  # None: joined
        self.write: Callable[[Buffer], object] = self._pending.write

    def connectionMade(self) -> None:
        self.relay.sideMade(self)

    @property
    def early(self) -> IEarlyData:
        """What comes from this side before there is another."""
        assert self._pending is not None
        return self._pending

    def dataReceived(self, data: Buffer) -> None:
        self.received += len(data)
        self.write(data)

    def readConnectionLost(self) -> None:
        if not self.readEnded:
            self.readEnded = True
            self.relay.readingEnded(self)

    def writeConnectionLost(self) -> None:
        """Our own doing; what is still to come from this side comes."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self.write = _discard
        self.relay.sideLost(self, clean=reason.check(ConnectionDone) is not None)

    @property
    def isJoined(self) -> bool:
        """Whether what comes from this side goes to the other."""
        return self._pending is None

    def joined(self, other: "Half") -> None:
        """
        Both sides exist: what came so far goes on, in order, and the other side's pace is ours from now on.
        """
        assert self._pending is not None and self.transport is not None and other.transport is not None
        pending, self._pending = self._pending, None
        self.write = self.relay.metered(self, other.input())
        other.transport.registerProducer(self, True)
        readDirectly(self.transport, self.dataReceived)
        pending.replay(self.write)
        self.resume(self.NOT_JOINED)

    def input(self) -> Callable[[Buffer], object]:
        """How the other half writes to this side."""
        assert self.transport is not None
        if IWebSocketChannel.providedBy(self.transport) or IDirectTransport.providedBy(self.transport):
            return self.transport.write  # type: ignore[return-value]  # which takes buffers, as both interfaces say
        write = directWriter(self.transport)
        return lambda data: write((data,))

    # -- IPushProducer: for the other side's transport

    def pauseProducing(self) -> None:
        self.pause(self.CONSUMER)
        self.relay.budget.stalled(self)  # last: it may end the relay

    def resumeProducing(self) -> None:
        self.relay.budget.flows(self)
        self.resume(self.CONSUMER)

    def outOfMemory(self) -> None:
        """
        L{IStalls}: what this side sent has been waiting longest. Who does not read it is cut off: flushing would
        keep the memory.
        """
        self.relay.end(Cause.MEMORY)
        if self is self.relay.far:
            self.relay.near.cutOff()

    def stopProducing(self) -> None:
        """The other side's transport is gone, which its own half tells the relay."""

    def pause(self, reason: int) -> None:
        """Stop reading from this side until L{resume} was called for every reason."""
        if not self._paused and not self.lost and self.transport is not None:
            self.transport.pauseProducing()
        self._paused |= reason

    def resume(self, reason: int) -> None:
        """One reason not to read from this side is gone."""
        if self._paused:
            self._paused &= ~reason
            # After its end a TCP transport would report that end again.
            if not (self._paused or self.lost or self.readEnded) and self.transport is not None:
                self.transport.resumeProducing()

    def pauseForRate(self, clock: IReactorTime, seconds: float) -> None:
        """Stop reading from this side for so long, from now on."""
        self._stopRateTimer()
        self.pause(self.RATE)
        self._rateTimer = clock.callLater(seconds, self._ratePauseOver)

    def _ratePauseOver(self) -> None:
        self._rateTimer = None
        self.resume(self.RATE)

    def _stopRateTimer(self) -> None:
        if self._rateTimer is not None:
            self._rateTimer.cancel()
            self._rateTimer = None

    def release(self) -> None:
        """
        The relay is over: this side's output waits for nobody, and what it still reads, its end above all, is only
        looked at.
        """
        self.write = _discard
        self.relay.budget.flows(self)
        self._stopRateTimer()
        if not self.lost and self.transport is not None:
            if self._pending is None:
                self.transport.unregisterProducer()
            self.resume(self._paused)

    # -- Ending

    def finish(self, cause: str) -> None:
        """
        Close this side after what was written to it. A door overrides this to say why, in its own protocol; it
        must close the transport in the end.
        """
        assert self.transport is not None
        self.transport.loseConnection()

    def abort(self, cause: str) -> None:
        """
        Cut this side off: what came through may not look whole.
        """
        self.cutOff()

    def cutOff(self) -> None:
        """Break off whatever connection there is, without a word."""
        if self.transport is not None and not self.lost:
            self.transport.abortConnection()


def _discard(data: Buffer) -> None:
    """Bytes for a side that is gone."""


class Relay:
    """
    Two byte streams, joined. See the module's text for what holds.

    @param clock: for the timeouts.
    @param ended: called once, when both sides are gone (or the near one alone, when there never was a far one).
    @param nearFactory: makes the near L{Half}; a door's own.
    @param meter: for a limited rate: told the size of each piece, it returns the seconds to pause that direction
        from now on.
    @ivar near: the visitor's side; a protocol to give to its transport.
    @ivar meter: may be set until both sides are joined.
    @ivar far: the destination's side.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ended: Callable[[Outcome], None],
        *,
        settings: RelaySettings = RelaySettings(),  # frozen
        budget: StallBudget | None = None,
        nearFactory: Callable[["Relay"], Half] = Half,
        meter: Callable[[Half, int], float] | None = None,
    ) -> None:
        self.settings = settings
        self.budget = StallBudget() if budget is None else budget
        self.cause: str | None = None
        self._clock = clock
        self._ended: Callable[[Outcome], None] | None = ended
        self.meter = meter
        self._started = clock.seconds()
        self._dial: Deferred[IProtocol] | None = None
        self._timer = Timer(clock)  # until it is looked whether it is idle, and later for the close
        self._progress: list[Progress] = []
        self._giveUp = 0.0
        self._seen = -1
        self._quiet = 0
        self.near = nearFactory(self)
        self.far = Half(self)

    # -- Beginning

    def connect(self, endpoint: IStreamClientEndpoint) -> Deferred[None]:
        """
        Dial the far side and join it.

        @return: fires when both sides are joined; fails with L{DialFailed}, and then the near side is still
            open and the door's to answer and close. When the near side leaves meanwhile the dial is cancelled.
        """
        if self.cause is not None:
            return fail(_cancelled())
        factory = Prepared(self.far)
        if IEarlyEndpoint.providedBy(endpoint):
            dial = endpoint.connectEarly(factory, self.near.early)
        else:
            dial = endpoint.connect(factory)
        self._dial = dial
        limitDial(dial, self.settings.dialTimeout, self._clock)
        return dial.addCallbacks(self._dialled, self._dialFailed)

    def _dialled(self, far: object) -> None:
        self._dial = None
        if self.cause is not None:
            raise _cancelled()  # sideMade cut the far side off
        self.join()

    def _dialFailed(self, failure: Failure) -> None:
        self._dial = None
        if self.cause is not None:
            raise _cancelled() from None
        self._stop(Cause.DIAL_FAILED)
        self._settle()
        raise DialFailed.fromFailure(failure) from None

    def sideMade(self, half: Half) -> None:
        """A side's transport is there."""
        if half is self.far and self.cause is not None and half.transport is not None:
            half.abort(self.cause)

    def join(self) -> None:
        """Both sides have transports by now: let bytes flow."""
        self.near.joined(self.far)
        if self.cause is not None:
            return  # what was replayed used up the budget
        self.far.joined(self.near)
        self._watchIdle()
        for half in (self.near, self.far):
            if half.readEnded:
                self.readingEnded(half)

    def metered(self, half: Half, write: Callable[[Buffer], object]) -> Callable[[Buffer], object]:
        """The way from a half to the other side, at a limited rate where there is one."""
        if self.meter is None:
            return write
        meter = self.meter

        def limited(data: Buffer) -> None:
            write(data)
            wait = meter(half, len(data))
            if wait > 0 and self.cause is None:
                half.pauseForRate(self._clock, wait)

        return limited

    def limitIdle(self, seconds: float) -> None:
        """
        End the relay, from now on, when it is idle for so long, if it does not end sooner.
        """
        if self.cause is not None:
            return
        self.settings = replace(self.settings, idleTimeout=min(seconds, self.settings.idleTimeout or seconds))
        self._timer.stop()
        if self.far.isJoined:
            self._quiet = 0
            self._watchIdle()

    def _watchIdle(self) -> None:
        if self.settings.idleTimeout is not None:
            self._timer.start(self.settings.idleTimeout / 4, self._checkIdle)

    def _checkIdle(self) -> None:
        moved = self.near.received + self.far.received
        self._quiet = self._quiet + 1 if moved == self._seen else 0
        self._seen = moved
        if self._quiet >= 4:
            self.end(Cause.IDLE)
        else:
            self._watchIdle()

    # -- Ending

    def _other(self, half: Half) -> Half:
        return self.far if half is self.near else self.near

    def readingEnded(self, half: Half) -> None:
        """A side will send no more; it may still be written to."""
        other = self._other(half)
        if self.cause is not None:
            return
        if other.transport is None:
            # Still dialling: a near side that only half-closed waits for its answer; one that cannot, left.
            if half.transport is None or not canHalfClose(half.transport):
                self.end(Cause.NEAR_CLOSED)
        elif other.readEnded or not canHalfClose(other.transport):
            self._close(Cause.NEAR_CLOSED if half is self.near else Cause.FAR_CLOSED)
        else:
            self.budget.flows(half)
            other.transport.unregisterProducer()
            other.transport.loseWriteConnection()

    def sideLost(self, half: Half, *, clean: bool) -> None:
        """A side's transport is gone."""
        self.budget.flows(half)
        if self.cause is None:
            near = half is self.near
            if clean or half.readEnded:  # all that it had to say has come
                self._close(Cause.NEAR_CLOSED if near else Cause.FAR_CLOSED)
            else:
                self.end(Cause.NEAR_RESET if near else Cause.FAR_RESET)
        self._settle()

    def end(self, cause: str) -> None:
        """
        End the relay for a reason that no side gave: the near side is told, the far side cut off.

        @param cause: goes into the L{Outcome} and to L{Half.finish} of the near side.
        """
        if self.cause is None:
            self._stop(cause)
            if self._dial is not None:
                self._dial.cancel()
            if self._present(self.far):
                self.far.abort(cause)
            if self._present(self.near):
                if cause == Cause.FAR_RESET:
                    self.near.abort(cause)
                else:
                    self.near.finish(cause)
            self._settle()

    def _close(self, cause: str) -> None:
        """Both directions are done, or cannot be told apart: flush and close both sides."""
        self._stop(cause)
        if self._dial is not None:
            self._dial.cancel()
        for half in (self.far, self.near):
            if self._present(half):
                half.finish(cause)
        self._settle()

    def _stop(self, cause: str) -> None:
        self.cause = cause
        self._timer.stop()
        self.near.release()
        self.far.release()

    def _present(self, half: Half) -> bool:
        return half.transport is not None and not half.lost

    def _cutOff(self) -> None:
        if self._clock.seconds() < self._giveUp and any(list(map(Progress.isMade, self._progress))):
            self._settle()
            return
        for half in (self.far, self.near):
            half.cutOff()

    def _settle(self) -> None:
        if self._ended is None:
            return
        if self._present(self.near) or self._present(self.far):
            if not self._progress:
                self._giveUp = self._clock.seconds() + self.settings.closeLimit
                self._progress = [Progress(half.transport) for half in (self.near, self.far) if self._present(half)]
            if not self._timer.isRunning:
                self._timer.start(self.settings.closeTimeout, self._cutOff)
            return
        self._timer.stop()
        ended, self._ended = self._ended, None
        assert self.cause is not None
        seconds = self._clock.seconds() - self._started
        ended(Outcome(self.cause, self.near.received, self.far.received, seconds))


def _cancelled() -> DialFailed:
    return DialFailed(DialFailure.CANCELLED, "The attempt was cancelled.")
