"""
A WebSocket that may carry either of two dialects, and is agreed on when it opens.

Who asks offers the agent protocol (subprotocol C{gateway.v1}). A server of ours takes the offer, and the connection is
a byte stream for whatever C{connect} was called with. One that answers without a subprotocol knows the older dialect
alone, and the very same connection goes on in that::

    endpoint = DialectEndpoint(reactor, connectionEndpoint(reactor, link), link.request, olderReceiver)
    endpoint.connect(factory)       # fails with DialFailed when an olderReceiver() was opened instead

So neither side has an option to set, and nobody connects twice.
"""

__all__ = ["DialectEndpoint", "relayLink"]

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IStreamTransport, IWebSocketChannel, IWebSocketReceiver
from gateway.net.websocketclient import WebSocketClientFactory
from gateway.net.websocketendpoints import ChannelStream
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.agent.carrier import GatewayLink, checkFiles, gatewayLink
from gateway.service.draining import Vacancy
from gateway.wire.agentcontrol import SUBPROTOCOL
from gateway.wire.upgraderequest import WebSocketRequest, parseWebSocketURL


def relayLink(
    option: str, url: str, *, authorities: str | None = None, pin: str | None = None, environ: Mapping[str, str]
) -> GatewayLink:
    """
    Where a server of an older dialect is. Unlike a gateway of ours, it may be anywhere without TLS: its users are used
    to that, be it behind a VPN.

    @param option: what the URL is called on the command line. The others are C{--ca} and C{--pin}.
    @param url: C{wss://HOST/PATH}, or C{ws://}.
    @param environ: where C{HTTPS_PROXY} and C{NO_PROXY} are, which count for C{wss}.
    @raise ValueError: something cannot be, or the file of the authorities cannot be used; the text names the option.
    """
    try:
        isSecure, host, port, request = parseWebSocketURL(url)
    except ValueError as e:
        raise ValueError(f"{option}: {e}") from None
    if not isSecure:
        if authorities is not None or pin is not None:
            raise ValueError("--ca and --pin are for wss://")
        return GatewayLink(url.partition("?")[0], host, port, request)
    try:
        link = gatewayLink(url, authorities=authorities, pin=pin, environ=environ)
        checkFiles(link)
    except ValueError as e:
        raise ValueError(re.sub("^(ca|pin): ", r"--\1: ", str(e))) from None
    return link


@implementer(IWebSocketReceiver)
class _Attempt(ChannelStream):
    """
    One connection: until it is open, somebody waits for it; then it is a stream, or the older dialect's.

    @ivar result: who waits; C{None} from then on.
    """

    def __init__(self, endpoint: "DialectEndpoint", factory: IProtocolFactory) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._older: IWebSocketReceiver | None = None
        self._connecting: Deferred[IProtocol] | None = None
        self._opening: IStreamTransport | None = None
        self._isCancelled = False
        self.result: Deferred[IProtocol] | None = Deferred(lambda _: self._cancel())

    def begin(self, connection: IStreamClientEndpoint, sockets: WebSocketClientFactory) -> Deferred[IProtocol]:
        """Connect."""
        assert self.result is not None
        result = self.result
        self._connecting = connection.connect(sockets)
        self._connecting.addCallbacks(self._connected, lambda failure: self._fail(DialFailed.fromFailure(failure)))
        return result

    def _connected(self, channel: object) -> None:
        self._opening = cast(IStreamTransport, channel)
        if self._isCancelled:
            self._opening.abortConnection()

    def _cancel(self) -> None:
        self._isCancelled = True
        self.result = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._opening is not None:
            self._opening.abortConnection()

    def _fail(self, error: Exception | Failure) -> None:
        result, self.result = self.result, None
        if result is not None:
            result.errback(error)

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self._endpoint.open.add(self)
        if self.result is None:
            channel.abortConnection()
        elif channel.subprotocol is None:
            self._older = self._endpoint.otherwise()
            self._older.opened(channel)
            self._fail(DialFailed(DialFailure.OTHER, "The server speaks an older dialect alone."))
        else:
            self._stream(channel)

    def _stream(self, channel: IWebSocketChannel) -> None:
        try:
            self._protocol = protocol = self._factory.buildProtocol(channel.getPeer())
            if protocol is None:
                raise NoProtocol()
        except Exception:  # whatever a factory raises, the one who waits is told
            channel.abortConnection()
            self._fail(Failure())
            return
        super().opened(channel)
        result, self.result = self.result, None
        if result is not None:
            result.callback(protocol)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._older is not None:
            self._older.gotMessage(payload, isBinary)
        else:
            super().gotMessage(payload, isBinary)

    def lost(self, reason: Failure) -> None:
        if self in self._endpoint.open:
            self._endpoint.loss = reason
        self._fail(reason)
        if self._older is not None:
            self._older.lost(reason)
        else:
            super().lost(reason)
        self._endpoint.open.discard(self)
        self._endpoint.vacancy.left()


@implementer(IStreamClientEndpoint)
class DialectEndpoint:
    """
    Connects in the agent protocol, unless the server knows only the older dialect.

    @param connection: makes the connection that a WebSocket is opened on, by TLS where the URL says C{wss}.
    @param request: what to ask for, but for the subprotocol.
    @param otherwise: makes who is told of a connection in the older dialect, which is open then.
    @ivar open: the connections that are, in either dialect.
    @ivar loss: why the last of them was lost; C{None}: none was. Set before anybody else is told.
    @ivar vacancy: tells when none is open.
    """

    def __init__(
        self,
        clock: IReactorTime,
        connection: IStreamClientEndpoint,
        request: WebSocketRequest,
        otherwise: Callable[[], IWebSocketReceiver],
        *,
        settings: WebSocketSettings | None = None,
    ) -> None:
        self._clock = clock
        self._connection = connection
        self._request = replace(request, subprotocols=(SUBPROTOCOL,), mayDecline=True)
        self.otherwise = otherwise
        self.open: set[object] = set()
        self.loss: Failure | None = None
        self.vacancy = Vacancy(self.open)
        self._settings = settings

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled; fails with L{DialFailed}, also when the older dialect is spoken.
        """
        attempt = _Attempt(self, factory)
        sockets = WebSocketClientFactory(lambda: attempt, self._request, clock=self._clock, settings=self._settings)
        return attempt.begin(self._connection, sockets)
