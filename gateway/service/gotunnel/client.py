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

from twisted.internet.interfaces import IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger

from gateway.net.mux import MuxSettings
from gateway.service.agent.attachedclient import AttachedClient
from gateway.service.agent.dialledsession import DialledSession, SessionEnd
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

PING_INTERVAL = 15.0

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


class GoTunnelClient(AttachedClient):
    """
    Keeps a session in which routes are served.

    @param introduce: makes the first message of a session, with a token that is good now.
    @param visitors: makes the protocols of streams that the server opens.
    @param server: its name, for logs.
    @param streams: that there may be at once.
    """

    _log = Logger()  # by which people tell who says what

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
        super().__init__(clock, endpoint, server)
        self.introduce = introduce
        self.wallClock = wallClock
        self._visitors = visitors
        self._windows = windows or WindowBudget()
        self._settings = MuxSettings(streams=streams, pingInterval=PING_INTERVAL)
        self._random = random

    def newSession(self) -> "_Session":
        return _Session(self, self._clock, self._visitors, self._settings, self._windows)

    def pauseAfter(self, end: SessionEnd, lasted: float | None) -> float:
        return PAUSE * (1 + _CHANCE * (2 * self._random() - 1))


class _Session(DialledSession[Message]):
    _log = Logger()

    def __init__(
        self,
        client: GoTunnelClient,
        clock: IReactorTime,
        visitors: IProtocolFactory,
        settings: MuxSettings,
        windows: WindowBudget,
    ) -> None:
        receive = ControlReader(client=True).receive
        super().__init__(
            clock, client.sessionOver, receive, encode, visitors, peer="server", settings=settings, windows=windows
        )
        self._client = client

    def introduction(self) -> Register:
        return self._client.introduce()

    def gotMessage(self, message: Message) -> None:
        match message:
            case Ack(ok=True):
                self.registered()
                self._client.attached(self)
            case Ack(ok=False, error=error):
                self.refused(SessionEnd(_told(error)))
            case Ping():
                self._control.send(Pong(ts=int(self._client.wallClock() * 1000)))
