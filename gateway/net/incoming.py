"""
The taking end of streams that begin with what they are for: read that, dial, answer, relay.

An agent takes visitors' streams with this, and the gateway those of its clients; see L{gateway.net.opening} for the
other end::

    def decide(preamble: Preamble) -> tuple[IStreamClientEndpoint, RelaySettings]:
        return origins[preamble.to], settings       # or raise DialFailed, or RemoteProtocolError with a StreamError

    factory = IncomingStreams(clock, decide, ended=report)

A stream whose preamble is wrong or late gets an answer that says so, and ends.
"""

__all__ = ["OK", "IncomingStreams", "StreamBeginning", "Taken", "answerTo", "dialFailureOf", "readAnswer"]

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.net.budget import StallBudget
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IStreamTransport
from gateway.net.peek import become
from gateway.net.relay import Cause, Half, Outcome, Relay, RelaySettings
from gateway.net.timer import Timer
from gateway.net.udp import DATAGRAM_DRAIN_IDLE
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.preamble import MAX_ANSWER, Answer, Preamble, StreamError, decodeAnswer, encodeAnswer, parsePreamble

PREAMBLE_TIMEOUT = 10.0
"""Seconds for all of a preamble, which comes in one piece unless the line is very slow."""

_DETAILS = 500
"""Characters of the longest details."""

OK = encodeAnswer(Answer(ok=True))
"""The answer to nearly every stream."""

_CODES = {
    DialFailure.TIMEOUT: StreamError.TIMEOUT,
    DialFailure.REFUSED: StreamError.CONNECTION_REFUSED,
    DialFailure.UNREACHABLE: StreamError.UNREACHABLE,
    DialFailure.NAME: StreamError.NAME,
    DialFailure.DENIED: StreamError.DENIED,
    DialFailure.UNAVAILABLE: StreamError.UNKNOWN_AGENT,
}
_KINDS: dict[str, DialFailure] = {
    **{code: kind for kind, code in _CODES.items()},
    StreamError.UNKNOWN_SERVICE: DialFailure.UNAVAILABLE,
    StreamError.TOO_MANY_STREAMS: DialFailure.UNAVAILABLE,
    StreamError.SHUTTING_DOWN: DialFailure.UNAVAILABLE,
}


def answerTo(error: DialFailed) -> Answer:
    """What the other end is told of a failed dial."""
    details = " ".join(error.details.split())[:_DETAILS]  # one line: it may quote what an exception said
    return Answer(ok=False, code=_CODES.get(error.kind, StreamError.FAILED), details=details)


def dialFailureOf(answer: Answer) -> DialFailed:
    """What the other end's refusal is to whoever dialled here."""
    return DialFailed(_KINDS.get(answer.code, DialFailure.OTHER), answer.details or "The agent refused the stream.")


def readAnswer(received: bytes) -> int | None:
    """
    As L{OpeningEndpoint<gateway.net.opening.OpeningEndpoint>} wants it, in the agent protocol. After what is no answer
    nobody knows whether an origin has seen any of the bytes, as after none.
    """
    line, end, _ = received.partition(b"\n")
    if len(line) >= MAX_ANSWER:
        raise DialFailed(DialFailure.GONE, "The agent's answer is too long.")
    if not end:
        return None
    try:
        answer = decodeAnswer(line)
    except RemoteProtocolError as e:
        raise DialFailed(DialFailure.GONE, e.details) from None
    if not answer.ok:
        raise dialFailureOf(answer)
    return len(line) + 1


class _Answering(Half):
    """The near side of a taken stream: says that the far side is there, and then lets bytes flow."""

    def joined(self, other: Half) -> None:
        assert self.transport is not None
        self.transport.write(OK)
        super().joined(other)

    def finish(self, cause: str) -> None:
        # A stream that was cut short may not look whole.
        if cause in (Cause.NEAR_CLOSED, Cause.FAR_CLOSED):
            super().finish(cause)
        else:
            self.cutOff()


@dataclass(frozen=True, slots=True)
class Taken:
    """
    What became of a stream.

    @ivar preamble: C{None} when there was no proper one.
    @ivar outcome: of its relay; C{None} when there was none.
    @ivar problem: why it failed, as a sentence; C{None} when it did not.
    """

    preamble: Preamble | None
    outcome: Outcome | None
    problem: str | None


class StreamBeginning(Protocol):
    """
    Is on a stream that the peer opened until its preamble is there. What becomes of it then is for subclasses to say.

    @param timeout: seconds for the preamble.
    @ivar preamble: C{None} until it is there.
    @ivar problem: what the peer was told when the stream was refused.
    """

    transport: IStreamTransport

    def __init__(self, clock: IReactorTime, timeout: float = PREAMBLE_TIMEOUT) -> None:
        self.preamble: Preamble | None = None
        self.problem: str | None = None
        self._timeout = timeout
        self._received = b""
        self._over = False
        self._deadline = Timer(clock)

    def take(self, preamble: Preamble, rest: bytes) -> None:
        """
        The preamble is there: become another protocol, or L{refuse}.

        @param rest: what came behind it.
        """
        raise NotImplementedError

    def connectionMade(self) -> None:
        self._deadline.start(self._timeout, self._late)

    def _late(self) -> None:
        self.refuse(Answer(ok=False, code=StreamError.INVALID_PREAMBLE, details="The preamble did not come in time."))

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._received += data
        try:
            found = parsePreamble(self._received)
        except RemoteProtocolError as e:
            self.refuse(Answer(ok=False, code=e.code, details=e.details))
            return
        if found is not None:
            self._deadline.stop()
            self.preamble, size = found
            rest, self._received = self._received[size:], b""
            self.take(self.preamble, rest)

    def refuse(self, answer: Answer) -> None:
        """Say why the stream leads nowhere, and end it."""
        self._over = True
        self._deadline.stop()
        self.problem = answer.details
        self.transport.write(encodeAnswer(answer))
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.stop()


class _Incoming(StreamBeginning):
    """Becomes the near side of a relay."""

    _log = Logger()

    def __init__(self, streams: "IncomingStreams") -> None:
        super().__init__(streams.clock, streams.timeout)
        self._streams = streams
        self._relay: Relay | None = None

    def take(self, preamble: Preamble, rest: bytes) -> None:
        streams = self._streams
        try:
            endpoint, settings = streams.decide(preamble)
        except DialFailed as e:
            self.refuse(answerTo(e))
            return
        except RemoteProtocolError as e:
            self.refuse(Answer(ok=False, code=e.code, details=e.details))
            return
        relay = Relay(streams.clock, self._ended, settings=settings, budget=streams.budget, nearFactory=_Answering)
        relay.meter = streams.meter(relay)
        self._relay = relay
        if preamble.header.datagram:
            streams.datagrams.add(relay)
        near = relay.near
        become(self, near)
        near.makeConnection(self.transport)
        if rest:
            near.dataReceived(rest)
        relay.connect(endpoint).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, DialFailed):
            self._log.failure("a stream could not be taken", failure, event="gateway.defect")
            error = DialFailed(DialFailure.OTHER, "This end of the stream has a defect.")
        if error.kind is not DialFailure.CANCELLED:
            self.refuse(answerTo(error))

    def _ended(self, outcome: Outcome) -> None:
        assert self._relay is not None
        self._streams.datagrams.discard(self._relay)
        self._streams.ended(Taken(self.preamble, outcome, self.problem))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self._relay is not None:
            self._relay.near.connectionLost(reason)
        else:
            self._streams.ended(Taken(self.preamble, None, self.problem or "The stream ended before its preamble."))


class IncomingStreams(ServerFactory):
    """
    Takes streams.

    @param decide: where a stream leads, and the limits of its relay; raises L{DialFailed} when it may not lead there,
        and L{RemoteProtocolError} with a L{StreamError} when there is no such place.
    @param ended: told of each stream, when it is over.
    @param meter: makes that of a stream's relay, or C{None} where the rate has no limit.
    @param timeout: seconds for the preamble.
    @ivar datagrams: the relays of streams that carry them.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        decide: Callable[[Preamble], tuple[IStreamClientEndpoint, RelaySettings]],
        ended: Callable[[Taken], None],
        *,
        budget: StallBudget | None = None,
        meter: Callable[[Relay], Callable[[Half, int], float] | None] = lambda relay: None,
        timeout: float = PREAMBLE_TIMEOUT,
    ) -> None:
        self.clock = clock
        self.decide = decide
        self.ended = ended
        self.budget = budget
        self.meter = meter
        self.timeout = timeout
        self.datagrams: set[Relay] = set()

    def drain(self) -> None:
        """Let streams of datagrams, whose ends nobody tells, end as soon as they are silent."""
        for relay in self.datagrams:
            relay.limitIdle(DATAGRAM_DRAIN_IDLE)

    def buildProtocol(self, address: IAddress | None) -> Protocol:
        return _Incoming(self)
