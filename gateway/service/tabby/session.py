"""
A Tabby session: one visitor joined to one target, from the dial to the good-bye::

    session = TabbySession(visit, channel, identity, target)
    session.start()

What the real client forces on us, all measured with the Tabby app in Chromium:

  - It reads frames asynchronously, so an error or a Close overtakes data that it has not shown yet. Before we end a
    session we ping: the pong proves that the browser took everything; then we wait a second, then say why.
  - It is never told of a WebSocket's Close, only of an C{error} message, of which it shows nothing but C{details}.
"""

__all__ = ["PARTING", "SessionCause", "TabbySession"]

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.domain.identity import Identity
from gateway.domain.limits import TokenBucket
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IWebSocketChannel
from gateway.net.progress import Progress
from gateway.net.relay import Cause, Half, Outcome, Relay
from gateway.net.timer import Timer
from gateway.service.target import TargetRefused
from gateway.wire.tabby import Code, State

if TYPE_CHECKING:
    from gateway.service.tabby.visit import TabbyVisit


class SessionCause(StrEnum):
    """Why the door ends a session; the relay has causes of its own (L{Cause})."""

    EXPIRED = "session-expired"
    REVOKED = "revoked"
    SHUTDOWN = "shutting-down"


PARTING: dict[str, tuple[Code, str]] = {
    Cause.FAR_CLOSED: (Code.CONNECTION_CLOSED, "Connection closed by remote host"),
    Cause.FAR_RESET: (Code.CONNECTION_RESET, "Connection reset by remote host"),
    Cause.IDLE: (Code.IDLE_TIMEOUT, "The session was idle for too long and has been closed"),
    Cause.MEMORY: (Code.QUOTA_EXCEEDED, "The gateway is short of memory, and this session was stalled longest"),
    SessionCause.EXPIRED: (Code.SESSION_EXPIRED, "The session has reached its time limit"),
    SessionCause.REVOKED: (Code.SESSION_EXPIRED, "The token of this session is no longer valid"),
    SessionCause.SHUTDOWN: (Code.SHUTTING_DOWN, "The gateway is shutting down"),
}

_DIAL_CODES = {
    DialFailure.TIMEOUT: Code.CONNECT_TIMEOUT,
    DialFailure.DENIED: Code.TARGET_DENIED,
}

LINGER = 1.0
"""Seconds between the browser's pong and the C{error} that ends a session."""

LINGER_LIMIT = 5.0
"""Seconds to wait for that pong, and again as long as the client goes on taking data."""


class _Visitor(Half):
    """The near side of a Tabby session: ends are told in the protocol's own words."""

    def __init__(self, relay: Relay, session: "TabbySession") -> None:
        super().__init__(relay)
        self._session = session

    def joined(self, other: Half) -> None:
        self._session.connected(other)
        super().joined(other)

    def finish(self, cause: str) -> None:
        self._session.part(cause)

    abort = finish


class TabbySession:
    """
    @param visit: whose conversation it is.
    @param channel: open; from here on the relay's near side.
    @param target: not yet checked: that is part of dialling.
    @ivar opened: whether the target was reached.
    """

    _log = Logger()
    __slots__ = ("_address", "_channel", "_deadline", "_identity", "_openedAt", "_relay", "_target", "_visit", "opened")

    def __init__(self, visit: "TabbyVisit", channel: IWebSocketChannel, identity: Identity, target: Target) -> None:
        door = visit.door
        limit = identity.limits.bytesPerSecond
        self._visit = visit
        self._channel = channel
        self._identity = identity
        self._target = target
        self._address = ""
        self._deadline = Timer(door.clock)
        self._openedAt = 0.0
        self.opened = False
        self._relay = Relay(
            door.clock,
            self._ended,
            settings=door.settings.relay,
            budget=door.budget,
            nearFactory=lambda relay: _Visitor(relay, self),
            meter=None if limit is None else _meter(limit, door.clock.seconds),
        )

    def start(self) -> None:
        """Dial the target."""
        near = self._relay.near
        near.makeConnection(self._channel)
        self._channel.stream(near.dataReceived)
        endpoint = self._visit.door.endpointFor(self._target, self._identity)
        self._relay.connect(endpoint).addErrback(self._dialFailed)

    def _dialFailed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, DialFailed):
            self._log.failure("a dial failed in a way that it should not", failure, event="gateway.defect")
            error = DialFailed(DialFailure.OTHER, "The gateway has a defect")
        if error.kind is DialFailure.CANCELLED:
            return
        rule = {"rule": error.refusal.rule} if isinstance(error, TargetRefused) else {}
        self._visit.cannotConnect(
            _DIAL_CODES.get(error.kind, Code.CONNECTION_FAILED), error.details, target=str(self._target), **rule
        )

    def connected(self, far: Half) -> None:
        """The target is there; bytes flow as soon as this returns."""
        assert far.transport is not None
        self.opened = True
        self._address = str(getattr(far.transport.getPeer(), "host", ""))
        self._visit.door.metrics.opened.inc()
        self._channel.sendText(self._visit.conversation.connected())
        self._openedAt = self._visit.door.clock.seconds()
        self._startClock()
        self._log.info(
            "session opened: {who} to {target} at {address} from {visitor}", event="tabby.opened", **self._facts()
        )

    def _facts(self) -> dict[str, str]:
        return {
            "who": self._identity.name,
            "target": str(self._target),
            "address": self._address,
            "visitor": self._visit.host,
        }

    def renew(self, identity: Identity) -> None:
        """The visitor's token has changed; its time limit holds at once, counted from the beginning."""
        self._identity = identity
        if self.opened and self._relay.cause is None:
            self._deadline.stop()
            self._startClock()

    # -- Ending

    def _startClock(self) -> None:
        if (seconds := self._secondsLeft()) is not None:
            self._deadline.start(max(0.0, seconds), self.end, SessionCause.EXPIRED)

    def _secondsLeft(self) -> float | None:
        limit, expires = self._identity.limits.seconds, self._identity.expires
        ends = [] if limit is None else [self._openedAt + limit - self._visit.door.clock.seconds()]
        if expires is not None:
            ends.append(expires - self._visit.door.wallClock())
        return min(ends, default=None)

    def end(self, cause: SessionCause) -> None:
        """The door ends the session."""
        self._relay.end(cause)

    def abort(self) -> None:
        """Cut the target off, whatever it has not read."""
        self._relay.far.cutOff()

    def lost(self, reason: Failure) -> None:
        """The visitor's connection is gone."""
        self._relay.near.connectionLost(reason)

    def part(self, cause: str) -> None:
        """
        The relay is over: let the browser take what it was sent, then tell the person why.

        @param cause: one of L{PARTING}: where the visitor itself is the cause, it is gone.
        """
        self._deadline.stop()
        if self._visit.conversation.state is State.CLOSED:
            return
        if not self._channel.sentData:
            self._sayGoodbye(cause)
            return
        progress = Progress(self._channel)
        self._deadline.start(LINGER_LIMIT, self._waitedForPong, cause, progress)
        self._channel.ping(self._linger)

    def _linger(self) -> None:
        if self._deadline.isRunning:
            cause = self._relay.cause
            assert cause is not None
            self._deadline.start(LINGER, self._sayGoodbye, cause)

    def _waitedForPong(self, cause: str, progress: Progress) -> None:
        if progress.isMade():
            self._deadline.start(LINGER_LIMIT, self._waitedForPong, cause, progress)
        else:
            self._sayGoodbye(cause)

    def _sayGoodbye(self, cause: str) -> None:
        self._visit.fail(*PARTING[cause])

    def _ended(self, outcome: Outcome) -> None:
        self._deadline.stop()
        if self.opened:
            self._tell(outcome)
        self._visit.door.visitOver(self._visit)  # last: the door may be waiting for just this

    def _tell(self, outcome: Outcome) -> None:
        metrics = self._visit.door.metrics
        metrics.closed.add(outcome.cause)
        metrics.bytes.add("up", outcome.up)
        metrics.bytes.add("down", outcome.down)
        self._log.info(
            "session closed: {who} to {target} from {visitor}: {cause} after {seconds} s, {up} bytes up, {down} down",
            event="tabby.closed",
            cause=str(outcome.cause),
            up=outcome.up,
            down=outcome.down,
            seconds=round(outcome.seconds, 3),
            **self._facts(),
        )


def _meter(rate: int, now: Callable[[], float]) -> Callable[[Half, int], float]:
    """A limit on each direction alone, with a burst of one second."""
    buckets: dict[Half, TokenBucket] = {}

    def meter(half: Half, size: int) -> float:
        if half not in buckets:
            buckets[half] = TokenBucket(rate, rate, now())
        return buckets[half].take(size, now())

    return meter
