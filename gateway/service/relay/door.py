"""
A door that asks nothing: every visitor is joined to the same endpoint::

    door = RelayDoor(reactor, endpoint, "tcp:127.0.0.1:22")
    TCP4ServerEndpoint(reactor, 8000).listen(door)

A visitor who comes by TLS is connected when the handshake is done, so that one without a proper certificate reaches
nothing. When there is nobody to connect a visitor to, the visitor is cut off: an end would look like an empty answer.
"""

__all__ = ["SHUTDOWN", "RelayDoor", "visitorName"]

from collections.abc import Callable

from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.budget import StallBudget
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.muxstream import MuxAddress
from gateway.net.relay import Cause, Half, Outcome, Relay, RelaySettings
from gateway.net.stdio import StandardIOAddress
from gateway.net.timer import Timer
from gateway.net.tlsclient import explainTLS
from gateway.service.draining import Vacancy
from gateway.service.logs import RefusalLog

SHUTDOWN = "shutting-down"
"""The cause that the door itself ends a relay for."""


def visitorName(address: IAddress | None) -> str:
    """What logs call whoever has an address."""
    if isinstance(address, MuxAddress):
        return visitorName(address.carrier)
    if isinstance(address, StandardIOAddress):
        return address.name
    return str(getattr(address, "host", "unix"))


@implementer(IHandshakeListener)
class _Visitor(Half):
    """The near side, which says when there is something to connect."""

    def __init__(self, relay: Relay, session: "_Session") -> None:
        super().__init__(relay)
        self._session = session

    def connectionMade(self) -> None:
        super().connectionMade()
        if ISSLTransport.providedBy(self.transport):
            self._session.awaitHandshake()
        else:
            self._session.dial()

    def handshakeCompleted(self) -> None:
        self._session.dial()

    def joined(self, other: Half) -> None:
        for half in (self, other):
            if ITCPTransport.providedBy(half.transport):
                half.transport.setTcpNoDelay(True)
                half.transport.setTcpKeepAlive(True)
        super().joined(other)


class _Far(Half):
    """The far side. By TLS it is there before the handshake is done, and so before its certificate was looked at."""

    def __init__(self, relay: Relay, session: "_Session") -> None:
        super().__init__(relay)
        self._session = session

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.relay.cause is None and not self.received and (problem := explainTLS(reason)) is not None:
            self._session.problem = problem
        super().connectionLost(reason)


class _Session:
    """
    One visitor, from the first moment to the last.

    @ivar problem: why there was nobody to connect the visitor to.
    """

    _log = Logger()
    __slots__ = ("_deadline", "_door", "_visitor", "problem", "relay")

    def __init__(self, door: "RelayDoor", visitor: str) -> None:
        self._door = door
        self._visitor = visitor
        self.problem = ""
        self._deadline = Timer(door.clock)
        self.relay = Relay(
            door.clock,
            self._ended,
            settings=door.settings,
            budget=door.budget,
            nearFactory=lambda relay: _Visitor(relay, self),
        )
        self.relay.far = _Far(self.relay, self)

    def awaitHandshake(self) -> None:
        """The visitor has as long for it as we have to dial."""
        self._deadline.start(self._door.settings.dialTimeout, self.relay.near.cutOff)

    def dial(self) -> None:
        """Connect the visitor."""
        self._deadline.stop()
        self.relay.connect(self._door.endpoint).addErrback(self._dialFailed)

    def _dialFailed(self, failure: Failure) -> None:
        if not failure.check(DialFailed):
            self._log.failure("a dial failed in a way that it should not", failure, event="gateway.defect")
        error = DialFailed.fromFailure(failure)
        if error.kind is not DialFailure.CANCELLED:
            self.problem = error.details
            self.relay.near.cutOff()

    def cutOff(self) -> None:
        """Break off both sides."""
        for half in (self.relay.near, self.relay.far):
            half.cutOff()

    def _ended(self, outcome: Outcome) -> None:
        self._deadline.stop()
        to, visitor, seconds = self._door.to, self._visitor, round(outcome.seconds, 3)
        if outcome.cause == Cause.DIAL_FAILED or self.problem:
            self._log.warn(
                "cannot relay {visitor} to {to}: {problem}",
                event="relay.dial-failed",
                visitor=visitor,
                to=to,
                problem=self.problem,
                seconds=seconds,
            )
        else:
            self._log.info(
                "relay closed: {visitor} to {to}: {cause} after {seconds} s, {up} bytes up, {down} down",
                event="relay.closed",
                visitor=visitor,
                to=to,
                cause=str(outcome.cause),
                up=outcome.up,
                down=outcome.down,
                seconds=seconds,
            )
        self._door.relayOver(self, outcome, self.problem)


class RelayDoor(ServerFactory):
    """
    @param endpoint: where every visitor is connected to.
    @param to: what logs call that.
    @param maxConnections: more visitors are closed as they come.
    @param ended: told how each relay ended, and, when there was nobody to connect to, why.
    @ivar sessions: those that stand.
    @ivar vacancy: tells when there is none.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        to: str,
        *,
        settings: RelaySettings | None = None,
        budget: StallBudget | None = None,
        maxConnections: int = 1024,
        ended: Callable[[Outcome, str], None] | None = None,
    ) -> None:
        self.clock = clock
        self.endpoint = endpoint
        self.to = to
        self.settings = settings or RelaySettings()
        self.budget = budget or StallBudget()
        self.sessions: set[_Session] = set()
        self._maxConnections = maxConnections
        self._ended = ended
        self._refusals = RefusalLog(clock)
        self.vacancy = Vacancy(self.sessions)

    def buildProtocol(self, address: IAddress | None) -> Half | None:
        visitor = visitorName(address)
        if len(self.sessions) >= self._maxConnections:
            self._refusals.refused("max-connections", visitor)
            return None
        session = _Session(self, visitor)
        self.sessions.add(session)
        return session.relay.near

    def relayOver(self, session: _Session, outcome: Outcome, problem: str) -> None:
        """Both sides of a relay are gone."""
        self.sessions.discard(session)
        if self._ended is not None:
            self._ended(outcome, problem)
        self.vacancy.left()

    def end(self) -> None:
        """Flush every visitor and close."""
        for session in tuple(self.sessions):
            session.relay.end(SHUTDOWN)

    def abort(self) -> None:
        """Cut off whoever is left; the door will not be used any more."""
        for session in tuple(self.sessions):
            session.cutOff()
        self._refusals.stop()
