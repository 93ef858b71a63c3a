r"""
The streams of a yamux session: what state each is in, how many there may be, whose turn it is, how long they wait.

L{Session<gateway.wire.yamux.Session>} knows the frames; this is the book that it keeps::

    streams = Streams(client=True, budget=WindowBudget(), limits=Limits())
    stream = streams.add(1, now=0.0)
    stream.end(End.SENT)

The state of a stream::

    OPEN -+- FIN sent ------> LOCAL_CLOSE  --- FIN received --> CLOSED
          +- FIN received --> REMOTE_CLOSE --- FIN sent ------> CLOSED

The rules beside the table L{TRANSITIONS}:

  - RST, sent or received, ends a stream in every state, and it is forgotten at once.
  - A CLOSED stream is forgotten when all that it received is consumed. Until then it counts against the limit.
  - SYN and ACK are apart from this: a stream may send, end and be ended before it is acknowledged. An ACK goes with
    the first frame that is sent on a stream, whatever frame that is. Until then the stream is part of the backlog.
"""

__all__ = ["TRANSITIONS", "End", "Limits", "State", "Stream", "Streams"]

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from gateway.wire.window import INITIAL_WINDOW, MAX_WINDOW, ReceiveWindow, WindowBudget
from gateway.wire.yamuxframes import ACK

_LAST_STREAM = 2**32 - 3
"""Where hashicorp's library stops opening streams, too."""


class State(StrEnum):
    """See the module's docstring."""

    OPEN = "open"
    LOCAL_CLOSE = "local-close"
    REMOTE_CLOSE = "remote-close"
    CLOSED = "closed"


class End(StrEnum):
    """What ends one direction of a stream."""

    SENT = "FIN sent"
    RECEIVED = "FIN received"


TRANSITIONS: dict[State, dict[End, State]] = {
    State.OPEN: {End.SENT: State.LOCAL_CLOSE, End.RECEIVED: State.REMOTE_CLOSE},
    State.LOCAL_CLOSE: {End.RECEIVED: State.CLOSED},
    State.REMOTE_CLOSE: {End.SENT: State.CLOSED},
    State.CLOSED: {},
}


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one session may cost, and how long things may take. Times are in seconds.

    @ivar streams: streams that each side may have open.
    @ivar backlog: streams that each side may have opened without an ACK, which counts once the carrier took it.
    @ivar pings: our pings without an answer.
    @ivar answers: frames that the peer made us queue (pongs, resets) and the carrier did not take yet.
    @ivar frame: bytes of payload that a stream sends before it is the next one's turn.
    @ivar window: bytes to which a stream's receive window may grow, from 256 KiB to 2**32 - 1.
    @ivar openTimeout: from our SYN to its ACK; then the stream is reset.
    @ivar closeTimeout: from the end of a stream's use to the peer's FIN; then the stream is reset.
    @ivar pingTimeout: from a ping to its answer; then the session is lost.
    """

    streams: int = 4096
    backlog: int = 256
    pings: int = 16
    answers: int = 1024
    frame: int = 64 * 1024
    window: int = 16 * 1024 * 1024
    openTimeout: float = 75.0
    closeTimeout: float = 300.0
    pingTimeout: float = 10.0

    def __post_init__(self) -> None:
        if not INITIAL_WINDOW <= self.window <= MAX_WINDOW:
            raise ValueError(f"window must be from {INITIAL_WINDOW} to {MAX_WINDOW}")


class Stream:
    """
    One stream.

    @ivar window: what the peer may send.
    @ivar credit: bytes that we may still send, none after our FIN.
    @ivar flags: what its next frame has to carry: ACK or nothing.
    @ivar closing: the application reads no more.
    @ivar wants: the application has something to send.
    @ivar inLine: it is among those whose turn comes.
    """

    __slots__ = ("closing", "credit", "flags", "identifier", "inLine", "state", "wants", "window")

    def __init__(self, identifier: int, window: ReceiveWindow, flags: int) -> None:
        self.identifier = identifier
        self.window = window
        self.flags = flags
        self.credit = INITIAL_WINDOW
        self.state = State.OPEN
        self.closing = False
        self.wants = False
        self.inLine = False

    def allows(self, end: End) -> bool:
        """Whether this can still happen."""
        return end in TRANSITIONS[self.state]

    def end(self, end: End) -> None:
        """It happened. The caller has asked L{allows}."""
        self.state = TRANSITIONS[self.state][end]
        if end is End.SENT:
            self.credit = 0

    @property
    def isDone(self) -> bool:
        """Both directions have ended, and the application has it all."""
        return self.state is State.CLOSED and not self.window.unconsumed


class Streams:
    """
    All the streams of a session.

    @ivar byNumber: for looking up; L{add} and L{forget} change it.
    """

    def __init__(self, *, client: bool, budget: WindowBudget, limits: Limits) -> None:
        self.byNumber: dict[int, Stream] = {}
        self._limits = limits
        self._budget = budget
        self._next = 1 if client else 2
        self._parity = self._next & 1
        self._inbound = 0
        self._backlog: set[int] = set()
        self._opening: dict[int, float] = {}
        self._closing: dict[int, float] = {}
        self._line: deque[Stream] = deque()

    def isOurs(self, identifier: int) -> bool:
        """Whether the number is one that we give to streams."""
        return identifier & 1 == self._parity

    @property
    def isFull(self) -> bool:
        """The peer can open no more."""
        return self._inbound >= self._limits.streams or len(self._backlog) >= self._limits.backlog

    @property
    def refusal(self) -> str | None:
        """Why we can open no more: C{exhausted}, C{streams}, C{backlog}; or C{None}."""
        if self._next > _LAST_STREAM:
            return "exhausted"
        if len(self.byNumber) - self._inbound >= self._limits.streams:
            return "streams"
        if len(self._opening) >= self._limits.backlog:
            return "backlog"
        return None

    def new(self, now: float) -> Stream:
        """A stream of ours, with the next number."""
        identifier = self._next
        self._next += 2
        self._opening[identifier] = now
        return self.add(identifier, now)

    def add(self, identifier: int, now: float) -> Stream:
        """A stream of the number's owner."""
        ours = self.isOurs(identifier)
        window = ReceiveWindow(self._budget, self._limits.window, now)
        stream = self.byNumber[identifier] = Stream(identifier, window, flags=0 if ours else ACK)
        if not ours:
            self._inbound += 1
            self._backlog.add(identifier)
        return stream

    def forget(self, stream: Stream) -> None:
        """It is gone."""
        identifier = stream.identifier
        del self.byNumber[identifier]
        if not self.isOurs(identifier):
            self._inbound -= 1
        stream.wants = False
        stream.window.release()
        self._backlog.discard(identifier)
        self._opening.pop(identifier, None)
        self._closing.pop(identifier, None)

    def accepted(self, stream: Stream) -> None:
        """We sent the ACK."""
        stream.flags = 0
        self._backlog.discard(stream.identifier)

    def acknowledged(self, stream: Stream) -> bool:
        """
        We received an ACK.

        @return: whether it is the first for a stream of ours.
        """
        return self._opening.pop(stream.identifier, None) is not None

    def close(self, stream: Stream, now: float) -> None:
        """The application is done with both directions; the peer may not be."""
        stream.closing = True
        stream.window.release()
        self._closing[stream.identifier] = now

    def grant(self, stream: Stream, credit: int) -> None:
        """The peer lets us send more."""
        if stream.allows(End.SENT):
            stream.credit = min(stream.credit + credit, MAX_WINDOW)
            self.enterLine(stream)

    def enterLine(self, stream: Stream) -> None:
        """Get in line, if it wants to send, and can, and is not in line yet."""
        if stream.wants and stream.credit and not stream.inLine:
            stream.inLine = True
            self._line.append(stream)

    def nextInLine(self) -> Stream | None:
        """Who has waited longest, and has now left the line; C{None} when nobody can send."""
        while self._line:
            stream = self._line.popleft()
            stream.inLine = False
            if stream.wants and stream.credit:
                stream.wants = False
                return stream
        return None

    def _waiting(self) -> list[tuple[float, int]]:
        """The streams whose time runs out first, for each of the reasons, with when."""
        return [
            (next(iter(since.values())) + timeout, next(iter(since)))
            for since, timeout in (
                (self._opening, self._limits.openTimeout),
                (self._closing, self._limits.closeTimeout),
            )
            if since
        ]

    @property
    def deadline(self) -> float | None:
        """When the next one's time runs out, or C{None}."""
        return min((when for when, _ in self._waiting()), default=None)

    def overdue(self, now: float) -> int | None:
        """The number of a stream whose time has run out, or C{None}."""
        return next((identifier for when, identifier in self._waiting() if now >= when), None)
