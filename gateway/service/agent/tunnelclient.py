"""
Streams of our own through a gateway, to what its agents serve.

All streams to one gateway share a session, which is made when one is wanted, and ended when none was for a while::

    tunnel = ClientTunnel(reactor, carrierEndpoint(reactor, link), introduce)
    tunnel.connect(Target("ssh.box.agent", 0), factory)     # DialFailed says why not

The gateway decides for each stream whether it may lead there.
"""

__all__ = ["ClientTunnel"]

import os
from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.incoming import readAnswer
from gateway.net.interfaces import IEarlyData
from gateway.net.mux import MuxEndpoint, MuxSettings
from gateway.net.opening import OpeningEndpoint
from gateway.net.timer import Timer
from gateway.service.agent.dialledsession import SessionEnd
from gateway.service.agent.session import ClientSession, ISessionOwner
from gateway.service.configuration import ConfigurationError
from gateway.wire.agentcontrol import Ack, Drain, Register, SessionError
from gateway.wire.preamble import Preamble, Target, encodePreamble
from gateway.wire.proxyheader import ProxyHeader
from gateway.wire.window import WindowBudget

IDLE = 10.0
"""Seconds without a stream after which a session is ended; noticed at most as many later."""

PING = 15.0
"""Seconds between pings."""

_DENIALS = frozenset({SessionError.UNAUTHORIZED, SessionError.REVOKED, SessionError.TOO_MANY_SESSIONS})


@implementer(ISessionOwner)
class ClientTunnel:
    """
    @param carrier: each connection is one session.
    @param introduce: makes the first message; raises L{ConfigurationError} when the credential cannot be read. Its
        replica is not used: each session has one of its own, so that it takes over from nobody.
    """

    def __init__(
        self,
        clock: IReactorTime,
        carrier: IStreamClientEndpoint,
        introduce: Callable[[], Register],
        *,
        windows: WindowBudget | None = None,
    ) -> None:
        self._clock = clock
        self._carrier = carrier
        self._introduce = introduce
        self._windows = windows or WindowBudget()
        self._session: ClientSession | None = None
        self._waiting: list[Deferred[ClientSession]] = []
        self._used = False
        self._idle = Timer(clock)

    def connect(
        self,
        target: Target,
        factory: IProtocolFactory,
        early: IEarlyData | None = None,
        header: ProxyHeader = ProxyHeader(),  # noqa: B008 -- frozen
    ) -> Deferred[IProtocol]:
        """
        Open a stream.

        @param header: what else the stream begins with; it says whether the stream carries datagrams.
        @param early: is sent at once, before it is known whether there is anybody.
        @return: fires when the target is connected. May be cancelled; fails with L{DialFailed}. It has a time limit
            until there is a session, and none of its own afterwards.
        """

        def opened(session: ClientSession) -> Deferred[IProtocol]:
            preamble = encodePreamble(Preamble(target, header))
            endpoint = OpeningEndpoint(MuxEndpoint(session.mux), preamble, readAnswer)
            opening = endpoint.connect(factory) if early is None else endpoint.connectEarly(factory, early)
            return opening.addErrback(_typed)

        return self._attached().addCallback(opened)

    def _attached(self) -> Deferred[ClientSession]:
        self._used = True
        if self._session is not None and self._session.attachedAt is not None:
            return succeed(self._session)
        waiting: Deferred[ClientSession] = Deferred(self._cancelled)
        self._waiting.append(waiting)
        if self._session is None:
            self._begin()
        return waiting

    def _begin(self) -> None:
        try:
            replica = f"client-{os.urandom(6).hex()}"
            register = msgspec.structs.replace(self._introduce(), replica=replica, services=(), targets=False)
        except ConfigurationError as e:
            self._fail(DialFailed(DialFailure.OTHER, f"{e}."))
            return
        self._session = session = ClientSession(
            self._clock,
            self,
            register,
            _NOBODY,
            settings=MuxSettings(pingInterval=PING),
            windows=self._windows,
        )
        session.connect(self._carrier)

    def _cancelled(self, waiting: Deferred[ClientSession]) -> None:
        self._waiting.remove(waiting)
        if not self._waiting and self._session is not None:
            self.close()

    def _fail(self, error: DialFailed) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(error)

    # -- ISessionOwner

    def gotAck(self, session: ClientSession, ack: Ack) -> None:
        if session is self._session and not self._idle.isRunning:
            self._idle.start(IDLE, self._look)
            while self._waiting:  # one that is told may make another one lose interest
                self._waiting.pop(0).callback(session)

    def gotDrain(self, session: ClientSession, drain: Drain) -> None:
        self._forget(session)

    def sessionOver(self, session: ClientSession, end: SessionEnd) -> None:
        if session is self._session:
            self._forget(session)
            kind = DialFailure.DENIED if end.code in _DENIALS else DialFailure.UNREACHABLE
            self._fail(DialFailed(kind, end.problem))

    # -- The end of a session

    def _forget(self, session: ClientSession) -> None:
        """Streams in it go on; the next one is opened in another."""
        if session is self._session:
            self._session = None
            self._idle.stop()

    def _look(self) -> None:
        assert self._session is not None
        isBusy = self._session.mux.streamCount > 1  # there always is the control stream
        if isBusy or self._used:
            self._used = isBusy
            self._idle.start(IDLE, self._look)
        else:
            self.close()

    def close(self) -> None:
        """End the session, if there is one, with all streams in it."""
        session = self._session
        if session is not None:
            self._forget(session)
            session.close()


def _typed(failure: Failure) -> Failure:
    return Failure(DialFailed.fromFailure(failure))


class _Nobody(Factory):
    """A client serves nothing: the gateway has no reason to open a stream."""

    noisy = False

    def buildProtocol(self, address: object) -> None:
        return None


_NOBODY = _Nobody()
