"""
An agent's attachment to a server of go-tunnel's, which outlives every session: it is made again whenever it is lost::

    client = GoTunnelClient(reactor, endpoint, introduce, GoTunnelStreams(reactor, plan.origins))
    client.start()
    await client.drain(10.0)

Two seconds after any end there is the next attempt, as with go-tunnel's agent, with a little chance in it so that
agents that lost their server together do not come back in one instant. The server's pings are answered, and since a
server that is gone asks no more, it is pinged too, in the multiplexer.
"""

__all__ = ["GoTunnelClient"]

import time
from collections.abc import Callable
from random import random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, Prepared, limitDial
from gateway.net.mux import MuxSession, MuxSettings
from gateway.net.timer import Timer
from gateway.service.agent.attachedservice import IAttachedClient
from gateway.service.agent.session import SessionEnd, explainLoss
from gateway.service.controlstream import ControlStream
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.gotunnel import (
    AUTH_FAILED,
    HOST_TAKEN,
    NO_ROUTES,
    Ack,
    ControlReader,
    Message,
    Ping,
    Pong,
    Register,
    encode,
)
from gateway.wire.window import WindowBudget

PAUSE = 2.0
"""Seconds between two attempts."""

_CHANCE = 0.1
"""The part of a pause that it may be longer or shorter."""

DIAL_TIMEOUT = 20.0
REGISTER_TIMEOUT = 10.0
"""Seconds for a connection, and then for TLS and the answer to the registration. That may wait for an agent's ghost."""

PING_INTERVAL = 15.0

_LOOK = 0.25
"""Seconds between two looks for visitors that are left, at the end."""

_HINTS = {
    AUTH_FAILED: "It does not take our token: jwt_secret has to be its JWT_SECRET, and the clocks have to agree.",
    NO_ROUTES: "It wants to be told of at least one tunnel.",
    HOST_TAKEN.format(host=""): "Another agent has this name; is this one running twice?",
}
"""What to do about errors, by how they begin."""


def _told(error: str) -> str:
    """A server's error, and what it means."""
    hints = [hint for beginning, hint in _HINTS.items() if error.startswith(beginning)]
    return " ".join([f"The server says: {error.removesuffix('.') or 'no'}.", *hints])


@implementer(IAttachedClient)
class GoTunnelClient:
    """
    Keeps one session.

    @param endpoint: leads to the server.
    @param introduce: makes the first message of a session, with a token that is good now.
    @param visitors: makes the protocols of streams that the server opens.
    @param server: its name, for logs.
    @param streams: that there may be at once.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        introduce: Callable[[], Register],
        visitors: IProtocolFactory,
        *,
        server: str = "the server",
        streams: int = 4096,
        windows: WindowBudget | None = None,
        random: Callable[[], float] = random,
        wallClock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.introduce = introduce
        self.visitors = visitors
        self.windows = windows or WindowBudget()
        self.settings = MuxSettings(streams=streams, pingInterval=PING_INTERVAL, drainTimeout=86_400.0)
        self.wallClock = wallClock
        self._endpoint = endpoint
        self._server = server
        self._random = random
        self._session: _Session | None = None
        self._pause = Timer(clock)
        self._isLeaving = False
        self._gone: list[Deferred[None]] = []

    @property
    def streams(self) -> int:
        """Visitors' streams that are open."""
        return 0 if self._session is None else max(0, self._session.mux.streamCount - 1)

    def start(self) -> None:
        """Attach, and stay attached."""
        self._isLeaving = False
        self._attempt()

    def _attempt(self) -> None:
        self._session = _Session(self)
        self._session.connect(self._endpoint)

    def attached(self) -> None:
        """The server has taken the registration."""
        self._log.info("connected to {gateway}", event="agent.connected", gateway=self._server, session="")

    def sessionOver(self, problem: str, seconds: float | None) -> None:
        """
        The session is gone, or there never was one.

        @param seconds: that it lasted from the registration on; C{None}: there was none.
        """
        self._session = None
        if self._isLeaving:
            gone, self._gone = self._gone, []
            for waiting in gone:
                waiting.callback(None)
        else:
            self._again(problem, seconds)

    def _again(self, problem: str, seconds: float | None) -> None:
        pause = PAUSE * (1 + _CHANCE * (2 * self._random() - 1))
        self._pause.start(pause, self._attempt)
        SessionEnd(problem).logRetry(self._server, pause, seconds)

    def drain(self, seconds: float) -> Deferred[None]:
        """
        Take no more visitors, let those that there are end, and leave.

        @return: fires when the session is gone.
        """
        self._isLeaving = True
        self._pause.stop()
        if self._session is None:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        self._session.drain(seconds)
        return gone

    def close(self) -> None:
        """Do not wait for visitors any longer."""
        if self._session is not None:
            self._session.close()


class _Session(ServerFactory):
    """One attempt, and what comes of it; the factory of the visitors' streams, which are taken after the C{ack}."""

    noisy = False
    _log = Logger()

    def __init__(self, client: GoTunnelClient) -> None:
        self._client = client
        self._problem = ""
        self._dial: Deferred[IProtocol] | None = None
        self._isLost = False
        self._attachedAt: float | None = None
        self._deadline = Timer(client.clock)  # for the ack, and later for the end of the drain
        self._nextLook = Timer(client.clock)
        receive = ControlReader(client=True).receive
        self._control = ControlStream(receive, encode, self._gotMessage, self._failed, lambda: self.mux.close())
        self.mux = MuxSession(
            client.clock,
            client=True,
            factory=self,
            settings=client.settings,
            budget=client.windows,
            name="server",
            ended=self._ended,
        )

    def buildProtocol(self, address: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # not a Protocol
        if self._attachedAt is None:
            return None
        return self._client.visitors.buildProtocol(address)  # type: ignore[arg-type]  # None is the interface's too

    # -- Beginning

    def connect(self, endpoint: IStreamClientEndpoint) -> None:
        """Dial, and register."""
        dial = self._dial = endpoint.connect(Prepared(self.mux))
        limitDial(dial, DIAL_TIMEOUT, self._client.clock)
        dial.addCallbacks(self._dialled, self._notDialled)
        dial.addErrback(
            lambda failure: self._log.failure("a session with the server failed", failure, event="gateway.defect")
        )

    def _dialled(self, mux: object) -> None:
        self._dial = None
        if self._isLost:
            self._finish()
            return
        self.mux.open(Prepared(self._control))
        self._control.send(self._client.introduce())
        self._deadline.start(REGISTER_TIMEOUT, self._late)

    def _notDialled(self, failure: Failure) -> None:
        self._dial = None
        self._problem = self._problem or DialFailed.fromFailure(failure).details
        self._finish()

    def _late(self) -> None:
        self._problem = "The server did not answer the registration in time."
        self.mux.abortConnection()

    def _stopClock(self) -> None:
        self._deadline.stop()
        self._nextLook.stop()

    # -- The control stream

    def _gotMessage(self, message: Message) -> None:
        match message:
            case Ack(ok=True) if self._attachedAt is None:
                self._stopClock()
                self._attachedAt = self._client.clock.seconds()
                self._client.attached()
            case Ack(ok=False, error=error):
                self._problem = _told(error)
                self.mux.close()
            case Ping():
                self._control.send(Pong(ts=int(self._client.wallClock() * 1000)))

    def _failed(self, error: RemoteProtocolError) -> None:
        self._problem = f"The server does not keep to the protocol: {error.details}"
        self.mux.close()

    # -- Ending

    def drain(self, seconds: float) -> None:
        """Take no more visitors, and end the session when the last one has left, or when time is up."""
        if self._attachedAt is None:
            self.close()
            return
        self._stopClock()
        self.mux.goAway()
        self._deadline.start(seconds, self.mux.close)
        self._look()

    def _look(self) -> None:
        if self.mux.streamCount > 1:
            self._nextLook.start(_LOOK, self._look)
        else:
            self.mux.close()

    def close(self) -> None:
        """End the session, or the attempt, at once."""
        self._problem = self._problem or "The agent ended the session."
        if self._dial is not None:
            self._dial.cancel()
        else:
            self.mux.close()

    def _ended(self, reason: Failure) -> None:
        self._isLost = True
        self._problem = self._problem or explainLoss(reason, "server")
        if self._dial is None:  # otherwise that is told first
            self._finish()

    def _finish(self) -> None:
        self._stopClock()
        since = self._attachedAt
        self._client.sessionOver(self._problem, None if since is None else self._client.clock.seconds() - since)
