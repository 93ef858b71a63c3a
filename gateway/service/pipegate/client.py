"""
A client's attachment to a server of PipeGate's, which outlives every connection: it is made again whenever it is lost::

    client = PipeGateClient(reactor, connectionEndpoint(reactor, link), request, requests, server=link.to)
    client.start()
    await client.drain(10.0)

Which dialect is spoken is found out with each connection anew. A server of ours takes the agent protocol, and then
this is an agent with one service, whose visitors' streams lead to the application as they are. With all others
PipeGate's own dialect is spoken on the same connection.
"""

__all__ = ["PipeGateClient", "serverRequest"]

from collections.abc import Callable
from dataclasses import replace
from random import random
from typing import cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IProtocolFactory, IReactorTime, IStreamClientEndpoint
from zope.interface import implementer

from gateway import __version__
from gateway.net.interfaces import IWebSocketReceiver
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.agent.client import AgentClient, Phase
from gateway.service.agent.session import SessionEnd
from gateway.service.networkrelay.dialect import DialectEndpoint
from gateway.service.pipegate.jsonclient import IJsonLineOwner, JsonLine, LocalRequests
from gateway.service.pipegate.jsonsession import serviceOf
from gateway.wire.agentcontrol import Register
from gateway.wire.pipegate import MAX_RESPONSE, TOKEN_HEADER
from gateway.wire.upgraderequest import WebSocketRequest

NAME = "pipegate"
"""What an agent of this kind calls itself; who it is, is proved by its token."""

_SETTINGS = WebSocketSettings(maxMessage=MAX_RESPONSE)


def serverRequest(request: WebSocketRequest, token: str) -> WebSocketRequest:
    """
    @param request: of the server's URL.
    @raise ValueError: the token cannot be sent.
    """
    return replace(request, headers=((TOKEN_HEADER.upper(), token),))


class _JsonEndpoint(DialectEndpoint):
    """Offers nothing but PipeGate's own dialect."""

    def __init__(
        self,
        clock: IReactorTime,
        connection: IStreamClientEndpoint,
        request: WebSocketRequest,
        receiver: Callable[[], IWebSocketReceiver],
        settings: WebSocketSettings,
    ) -> None:
        super().__init__(clock, connection, request, receiver, settings=settings)
        self._request = request


@implementer(IJsonLineOwner)
class PipeGateClient(AgentClient):
    """
    Keeps one connection.

    @param connection: makes the connections that WebSockets are opened on.
    @param request: what to ask for there, with the token.
    @param requests: makes requests to the application, in PipeGate's own dialect.
    @param visitors: makes the protocols of streams, in the agent protocol.
    """

    def __init__(
        self,
        clock: IReactorTime,
        connection: IStreamClientEndpoint,
        request: WebSocketRequest,
        requests: LocalRequests,
        visitors: IProtocolFactory,
        *,
        server: str = "the server",
        random: Callable[[], float] = random,
    ) -> None:
        self._requests = requests
        self._line: JsonLine | None = None
        # Streams lead to the application as they are, so nobody could put a path before theirs.
        make = _JsonEndpoint if requests.local.path else DialectEndpoint
        carrier = make(clock, connection, request, self._speakJson, settings=_SETTINGS)
        super().__init__(clock, carrier, _introduce, visitors, gateway=server, random=random)
        self.offer((serviceOf(request.target.partition("?")[0].removeprefix("/")),))

    @property
    def streams(self) -> int:
        """Visitors' streams and requests that are open."""
        return super().streams + (0 if self._line is None else self._line.load)

    def _speakJson(self) -> IWebSocketReceiver:
        """The server has answered, and knows PipeGate's own dialect alone."""
        self._session = None  # it will say that it failed, which is of no interest
        self._line = JsonLine(self._clock, self._requests, self)
        return cast(IWebSocketReceiver, self._line)

    # -- IJsonLineOwner

    def lineOpened(self, line: JsonLine) -> None:
        self._log.info("connected to {gateway}", event="agent.connected", gateway=self._gateway, session="")

    def lineOver(self, line: JsonLine, problem: str) -> None:
        if line is self._line:
            self._line = None
            if self.phase is Phase.CONNECTING:
                assert line.openedAt is not None
                self._failed(SessionEnd(problem), self._clock.seconds() - line.openedAt)

    # -- Ending

    def drain(self, seconds: float) -> Deferred[None]:
        """
        Take no more visitors, and end when those that there are have left, or when time is up.

        @return: fires when there is no connection any more.
        """
        line = self._line
        gone = super().drain(seconds)
        if line is None:
            return gone
        drained = line.drain().addCallback(lambda _: line.close())
        return gatherResults([gone, drained]).addCallback(lambda _: None)

    def close(self) -> None:
        """After L{drain}: there is no more time."""
        super().close()
        if self._line is not None:
            self._line.close()


def _introduce() -> Register:
    return Register(version=1, agent=NAME, software=f"txgateway/{__version__}")
