"""
Yamux as a layer between endpoints: many connections on one.

Whatever can be dialled or listened on can carry a yamux session, and each of its streams is a connection::

    endpoint = MuxClientEndpoint(reactor, HostnameEndpoint(reactor, "gw.example", 9000))
    endpoint.connect(factory)      # dials; the next one opens a stream on what was dialled
    MuxServerEndpoint(reactor, TCP4ServerEndpoint(reactor, 9000)).listen(factory)

The client's side keeps one session. It is made when a connection is wanted and there is none, all who want one
meanwhile wait for the same dial, and it is closed once it had no stream for a while, so that nothing is left behind.
"""

__all__ = ["MuxClientEndpoint", "MuxServerEndpoint"]

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, execute, fail, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ClientFactory, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.mux import MuxSession, MuxSettings, StreamRefused
from gateway.net.timer import Timer
from gateway.wire.window import WindowBudget

_OVER = frozenset({"ended", "going-away", "exhausted"})
"""Why a session opens no stream any more; what else there is passes."""


class _Dial(ClientFactory):
    """
    One attempt at a carrier, and the session that was made for it.

    @ivar wanted: C{False} once nobody waits for it.
    """

    noisy = False
    connecting: Deferred[IProtocol]

    def __init__(self, session: MuxSession) -> None:
        self.session = session
        self.wanted = True

    def buildProtocol(self, address: IAddress | None) -> MuxSession | None:
        return self.session if self.wanted else None


@implementer(IStreamClientEndpoint)
class MuxClientEndpoint:
    """
    Opens streams on a session that it keeps.

    @param carrier: what to dial for a session.
    @param idleTimeout: seconds without a stream after which the session is closed; noticed at most as many later.
    @param name: of the session, for the addresses of the streams.
    """

    def __init__(
        self,
        clock: IReactorTime,
        carrier: IStreamClientEndpoint,
        *,
        settings: MuxSettings | None = None,
        budget: WindowBudget | None = None,
        idleTimeout: float = 10.0,
        name: str = "",
    ) -> None:
        self._clock = clock
        self._carrier = carrier
        self._settings = settings
        self._budget = budget or WindowBudget()
        self._idleTimeout = idleTimeout
        self._name = name
        self._session: MuxSession | None = None
        self._dial: _Dial | None = None
        self._waiting: dict[Deferred[IProtocol], IProtocolFactory] = {}
        self._used = False
        self._idle = Timer(clock)

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream: at once where there is a session.

        @return: may be cancelled; the last one to lose interest cancels the dial. Fails with what the dial failed with,
            C{StreamRefused} or C{NoProtocol}.
        """
        if self._session is not None:
            try:
                return succeed(self._open(self._session, factory))
            except StreamRefused as e:
                if e.code not in _OVER:
                    return fail(e)
            except Exception:  # whatever a factory raises, the one who waits is told
                return fail()
        waiting: Deferred[IProtocol] = Deferred(self._cancelled)
        self._waiting[waiting] = factory
        if self._dial is None:
            self._begin()
        return waiting

    def _open(self, session: MuxSession, factory: IProtocolFactory) -> IProtocol:
        self._used = True
        try:
            return session.open(factory)
        except StreamRefused as e:
            if e.code in _OVER:
                session.goAway()
                self._forget(session)
            raise

    def _begin(self) -> None:
        session = MuxSession(
            self._clock,
            client=True,
            budget=self._budget,
            settings=self._settings,
            name=self._name,
            ended=lambda reason: self._forget(session),
        )
        self._dial = dial = _Dial(session)
        dial.connecting = maybeDeferred(self._carrier.connect, dial)
        dial.connecting.addCallbacks(self._dialled, self._dialFailed, (dial,), errbackArgs=(dial,))

    def _cancelled(self, waiting: Deferred[IProtocol]) -> None:
        self._waiting.pop(waiting, None)
        if not self._waiting and self._dial is not None:
            dial, self._dial = self._dial, None
            dial.wanted = False
            dial.connecting.cancel()

    def _dialled(self, protocol: object, dial: _Dial) -> None:
        session = dial.session
        if not dial.wanted:
            session.abortConnection()
            return
        self._dial = None
        self._session = session
        self._used = True
        self._idle.start(self._idleTimeout, self._look)
        # A waiting one may lose interest in the middle of this.
        for waiting in list(self._waiting):
            if (factory := self._waiting.pop(waiting, None)) is not None:
                execute(self._open, session, factory).chainDeferred(waiting)

    def _dialFailed(self, failure: Failure, dial: _Dial) -> None:
        if not dial.wanted:
            return
        self._dial = None
        for waiting in list(self._waiting):
            if self._waiting.pop(waiting, None) is not None:
                waiting.errback(failure)

    # -- The end of a session

    def close(self) -> Deferred[None]:
        """
        Open no more streams on the session that there is, and close it when its last one has ended.

        @return: fires when it is gone, with everything that was written to it.
        """
        session = self._session
        if session is None:
            return succeed(None)
        self._forget(session)
        return session.goAway()

    def _look(self) -> None:
        assert self._session is not None
        if self._used or self._session.streamCount:
            self._used = self._session.streamCount > 0
            self._idle.start(self._idleTimeout, self._look)
        else:
            self._session.goAway()
            self._forget(self._session)

    def _forget(self, session: MuxSession) -> None:
        if session is self._session:
            self._session = None
            self._idle.stop()


class _Sessions(ServerFactory):
    """The sessions of one port."""

    _log = Logger()
    noisy = False

    def __init__(self, make: Callable[..., MuxSession], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._told = False
        self.sessions: set[MuxSession] = set()

    def buildProtocol(self, address: IAddress | None) -> MuxSession | None:
        if len(self.sessions) >= self._limit:
            if not self._told:
                self._told = True
                self._log.warn("sessions are refused: there are {limit}", event="mux.refused", limit=self._limit)
            return None
        session: MuxSession = self._make(ended=lambda reason: self._ended(session))
        self.sessions.add(session)
        return session

    def _ended(self, session: MuxSession) -> None:
        self.sessions.discard(session)
        self._told = False


@implementer(IListeningPort)
class _Port:
    """A port whose connections come on sessions."""

    def __init__(self, carriers: IListeningPort, sessions: _Sessions) -> None:
        self._carriers = carriers
        self._sessions = sessions

    def startListening(self) -> None:
        """Take sessions again, after C{stopListening}."""
        self._carriers.startListening()

    def stopListening(self) -> Deferred[None]:
        """
        Take no more sessions, and no more streams on those that there are; each ends with its last stream.

        @return: fires when the last session is gone.
        """
        waiting: list[Deferred[Any]] = [session.goAway() for session in self._sessions.sessions]
        waiting.append(maybeDeferred(self._carriers.stopListening))
        return gatherResults(waiting).addCallback(lambda results: None)

    def getHost(self) -> IAddress:
        """Where the sessions come to."""
        return self._carriers.getHost()


@implementer(IStreamServerEndpoint)
class MuxServerEndpoint:
    """
    Listens for sessions, and takes each stream of each of them as a connection.

    @param carrier: what to listen on for sessions.
    @param maxSessions: those that there may be at once; more are closed as they come.
    """

    def __init__(
        self,
        clock: IReactorTime,
        carrier: IStreamServerEndpoint,
        *,
        settings: MuxSettings | None = None,
        budget: WindowBudget | None = None,
        maxSessions: int = 1024,
    ) -> None:
        self._clock = clock
        self._carrier = carrier
        self._settings = settings
        self._budget = budget or WindowBudget()
        self._maxSessions = maxSessions

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @return: as that of the carrier.
        """
        make = partial(
            MuxSession, self._clock, client=False, factory=factory, budget=self._budget, settings=self._settings
        )
        return self._carrier.listen(sessions := _Sessions(make, self._maxSessions)).addCallback(_Port, sessions)
