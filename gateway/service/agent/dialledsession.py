"""
A session from the side that dials, in any dialect: the dial, the registration, and how it ends.

What is said on the control stream is a dialect's own business::

    class ClientSession(DialledSession[Message]):
        def introduction(self): ...                 # the first message, which registers
        def gotMessage(self, message): ...          # self.registered(), when the answer is that we may stay

Its owner is told once, when it is over. L{gateway.service.agent.attachedclient} makes the next one then.
"""

__all__ = [
    "DIAL_TIMEOUT",
    "GOODBYE_TIMEOUT",
    "REGISTER_TIMEOUT",
    "DialledSession",
    "IClientSession",
    "IClientSessionOwner",
    "SessionEnd",
    "explainLoss",
]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, TimeoutError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from gateway.net.dial import DialFailed, Prepared, limitDial
from gateway.net.mux import MuxSession, MuxSettings
from gateway.net.muxdeadlines import monotonic
from gateway.net.timer import Timer
from gateway.net.tlsclient import explainTLS
from gateway.service.controlstream import ControlStream
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.window import WindowBudget

M = TypeVar("M")

DIAL_TIMEOUT = 20.0
"""Seconds for the carrier: name, proxy, TCP, TLS and WebSocket together."""

REGISTER_TIMEOUT = 10.0
"""Seconds for the peer to answer the registration. One of go-tunnel's may have to wait for an agent's ghost."""

GOODBYE_TIMEOUT = 5.0
"""Seconds for the peer to take what was written to it, when the session is over."""

_LOOK = 0.25
"""Seconds between looks whether the last visitor has left a session that drains."""

_DAY = 86_400.0


class IClientSession(Interface):
    """A session, as far as what keeps it goes, which is its L{IClientSessionOwner}."""

    attachedAt: float | None = Attribute("When the registration was accepted, by L{monotonic}; C{None}: it was not.")
    load: int = Attribute("How many visitors there are in it.")

    def drain(seconds: float, reason: str) -> None:
        """
        Take no more visitors, and end when the last one has left, or when time is up.

        @param reason: for the peer, where the dialect has words for it.
        """

    def close() -> None:
        """End at once."""


class IClientSessionOwner(Interface):
    """Who is told what becomes of a session."""

    def attached(session: IClientSession) -> None:
        """The registration was accepted."""

    def sessionOver(session: IClientSession, end: "SessionEnd") -> None:
        """The connection is gone, or there never was one. Called once, last."""


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """
    Why a session is over, or never was one.

    @ivar problem: a sentence for a person.
    @ivar code: the gateway's, if it refused the session: a L{SessionError}, or one of a newer gateway's.
    """

    problem: str
    code: str = ""
    _log: ClassVar[Logger] = Logger()

    def logRetry(self, gateway: str, pause: float, lasted: float | None) -> None:
        """
        Say that it happened, and when there will be another attempt.

        @param pause: seconds until then.
        @param lasted: seconds that the session was there; C{None}: it never was.
        """
        if lasted is None:
            self._log.warn(
                "no session with {gateway}, trying again in {pause:.1f} seconds: {problem}",
                event="agent.not-connected",
                gateway=gateway,
                code=self.code,
                problem=self.problem,
                pause=pause,
            )
        else:
            self._log.warn(
                "lost {gateway}, trying again in {pause:.1f} seconds: {problem}",
                event="agent.disconnected",
                gateway=gateway,
                code=self.code,
                problem=self.problem,
                pause=pause,
                seconds=lasted,
            )


@implementer(IClientSession)
class DialledSession(Generic[M]):
    """
    One attempt, and what comes of it.

    @param over: told of the end: that the carrier is gone, or that there never was one. Called once, last.
    @param receive: of the control stream, as is C{encode}.
    @param visitors: makes the protocols of streams that the peer opens, once we are registered.
    @param peer: a word for who is at the other end.
    @param settings: their C{drainTimeout} does not count.
    @ivar mux: for streams of our own, once we are registered.
    @ivar attachedAt: when that was, in the seconds of L{monotonic}; C{None} before.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        over: Callable[[Any, SessionEnd], None],
        receive: Callable[[bytes], Sequence[M]],
        encode: Callable[[M], bytes],
        visitors: IProtocolFactory,
        *,
        peer: str,
        settings: MuxSettings | None = None,
        windows: WindowBudget | None = None,
    ) -> None:
        self.attachedAt: float | None = None
        self._clock = clock
        self._over = over
        self._peer = peer
        self._dial: Deferred[IProtocol] | None = None
        self._end: SessionEnd | None = None
        self._isOver = False
        self._deadline = Timer(clock)  # of the registration, and later of the drain, and of the goodbye
        self._nextLook = Timer(clock)
        self.mux = MuxSession(
            clock,
            client=True,
            factory=_Gate(self, visitors),
            settings=replace(settings or MuxSettings(), drainTimeout=_DAY),  # drain() is given one
            budget=windows,
            name=peer,
            ended=self._ended,
        )
        self._control = ControlStream(receive, encode, self.gotMessage, self.failed, self.mux.close)

    @property
    def load(self) -> int:
        """Visitors' streams that are open: all but the control stream."""
        return max(0, self.mux.streamCount - 1)

    # -- For dialects

    def introduction(self) -> M:
        """
        @return: the first message.
        """
        raise NotImplementedError

    def gotMessage(self, message: M) -> None:
        """The peer says something."""
        raise NotImplementedError

    def failed(self, error: RemoteProtocolError) -> None:
        """What came on the control stream is not the protocol."""
        self.refused(SessionEnd(f"The {self._peer} does not keep to the protocol: {error.details}"))

    def registered(self) -> None:
        """The peer has said that we may stay."""
        if self.attachedAt is None:
            self._stopClock()
            self.attachedAt = monotonic(self._clock)()

    def refused(self, end: SessionEnd) -> None:
        """The peer has said, or shown, that we may not."""
        self._end = end
        self.mux.close()

    def lastHasLeft(self) -> None:
        """The session drains, and nobody is left in it: end it."""
        self.mux.close()

    # -- Beginning

    def connect(self, endpoint: IStreamClientEndpoint) -> None:
        """Dial, and register."""
        dial = self._dial = endpoint.connect(Prepared(self.mux))
        limitDial(dial, DIAL_TIMEOUT, self._clock)
        dial.addCallbacks(self._dialled, self._notDialled)
        dial.addErrback(self._defect)

    def _dialled(self, mux: object) -> None:
        self._dial = None
        if self._isOver:
            return
        self.mux.open(Prepared(self._control))
        self._control.send(self.introduction())
        self._deadline.start(REGISTER_TIMEOUT, self._late)

    def _notDialled(self, failure: Failure) -> None:
        self._dial = None
        self._finish(self._end or SessionEnd(DialFailed.fromFailure(failure).details))

    def _defect(self, failure: Failure) -> None:
        self._log.failure("a session failed", failure, event="gateway.defect")
        self._end = SessionEnd("The agent has a defect.")
        self.mux.abortConnection()

    def _late(self) -> None:
        self._end = SessionEnd(f"The {self._peer} did not answer the registration in time.")
        self.mux.abortConnection()

    def _stopClock(self) -> None:
        self._deadline.stop()
        self._nextLook.stop()

    # -- Ending

    def drain(self, seconds: float, reason: str) -> None:
        if self.attachedAt is None or self._isOver:
            self.close()
            return
        self.mux.goAway()
        self._stopClock()
        self._deadline.start(seconds, self.close)
        self._look()

    def _look(self) -> None:
        if self.load:
            self._nextLook.start(_LOOK, self._look)
        else:
            self.lastHasLeft()

    def close(self) -> None:
        """End the session, or the attempt, at once. A peer that does not take it is cut off."""
        if self._end is None:
            self._end = SessionEnd("The agent ended the session.")
        if self._dial is not None:
            self._dial.cancel()
        elif not self._isOver:
            self._stopClock()
            self._deadline.start(GOODBYE_TIMEOUT, self.mux.abortConnection)
            self.mux.close()

    def _ended(self, reason: Failure) -> None:
        self._finish(self._end or SessionEnd(explainLoss(reason, self._peer)))

    def _finish(self, end: SessionEnd) -> None:
        if not self._isOver:
            self._isOver = True
            self._stopClock()
            self._over(self, end)


def explainLoss(reason: Failure, peer: str) -> str:
    """
    @param reason: for which a session ended.
    @param peer: who was at its other end.
    @return: a sentence for a person.
    """
    error = reason.value
    if isinstance(error, RemoteProtocolError):
        return f"The {peer} does not keep to the protocol: {error.details}"
    if isinstance(error, TimeoutError):
        return f"The {peer} does not answer any more."
    if isinstance(error, ConnectionDone):
        return f"The {peer} closed the connection."
    return explainTLS(reason) or f"The connection to the {peer} was lost."


class _Gate(ServerFactory):
    """Takes no streams before we are registered."""

    noisy = False

    def __init__(self, session: DialledSession[Any], visitors: IProtocolFactory) -> None:
        self._session = session
        self._visitors = visitors

    def buildProtocol(self, address: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # not a Protocol
        if self._session.attachedAt is None:
            return None
        return self._visitors.buildProtocol(address)  # type: ignore[arg-type]  # None is the interface's too
