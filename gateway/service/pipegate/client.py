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

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from gateway import __version__
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IWebSocketReceiver
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.agent.client import AgentClient
from gateway.service.agent.dialect import DialectEndpoint
from gateway.service.agent.dialledsession import SessionEnd
from gateway.service.pipegate.jsonclient import JsonLine, LocalRequests
from gateway.service.pipegate.jsonsession import serviceOf
from gateway.wire.agentcontrol import Register, SessionError
from gateway.wire.pipegate import MAX_RESPONSE, TOKEN_HEADER
from gateway.wire.upgraderequest import WebSocketRequest

NAME = "pipegate"
"""What an agent of this kind calls itself; who it is, is proved by its token."""


_HINTS: Mapping[str, str] = {
    SessionError.REPLACED: "Look whether another client with the same id is running, and at the token.",
    SessionError.UNAUTHORIZED: "Look at the token.",
}


def serverRequest(request: WebSocketRequest, token: str) -> WebSocketRequest:
    """
    @param request: of the server's URL.
    @raise ValueError: the token cannot be sent.
    """
    return replace(request, headers=((TOKEN_HEADER.upper(), token),))


class _Carrier(DialectEndpoint):
    """
    Connects to the server.

    @param offers: whether the agent protocol is on offer.
    @param denied: called when the server does not take the token.
    """

    def __init__(
        self,
        clock: IReactorTime,
        connection: IStreamClientEndpoint,
        request: WebSocketRequest,
        otherwise: Callable[[], IWebSocketReceiver],
        *,
        offers: bool,
        denied: Callable[[], None],
    ) -> None:
        super().__init__(clock, connection, request, otherwise, settings=WebSocketSettings(maxMessage=MAX_RESPONSE))
        self._denied = denied
        if not offers:
            self._request = request

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return super().connect(factory).addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        if isinstance(failure.value, DialFailed) and failure.value.kind is DialFailure.DENIED:
            self._denied()
        return failure


class PipeGateClient(AgentClient):
    """
    Keeps one connection.

    @param connection: makes the connections that WebSockets are opened on.
    @param request: what to ask for there, with the token.
    @param requests: makes requests to the application, in PipeGate's own dialect.
    @param visitors: makes the protocols of streams, in the agent protocol.
    """

    hints = _HINTS

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
        self._isDenied = False
        # Streams lead to the application as they are, so nobody could put a path before theirs.
        carrier = _Carrier(
            clock, connection, request, self._speakJson, offers=not requests.local.path, denied=self._gotDenied
        )
        super().__init__(clock, carrier, _introduce, visitors, gateway=server, random=random)
        self.offer((serviceOf(request.target.partition("?")[0].removeprefix("/")),))

    def _speakJson(self) -> JsonLine:
        """The server has answered, and knows PipeGate's own dialect alone."""
        line = JsonLine(self._clock, self._requests, self)
        self.keep(line)
        return line

    def _gotDenied(self) -> None:
        self._isDenied = True

    def _failed(self, end: SessionEnd, lasted: float | None) -> None:
        # Who comes again and again with a wrong token would be shut out, and others with the same address.
        isDenied, self._isDenied = self._isDenied, False
        super()._failed(SessionEnd(end.problem, SessionError.UNAUTHORIZED) if isDenied else end, lasted)


def _introduce() -> Register:
    return Register(version=1, agent=NAME, software=f"txgateway/{__version__}")
