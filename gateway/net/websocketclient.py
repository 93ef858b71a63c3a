"""
The client's side of WebSockets, for who speaks in messages::

    isSecure, host, port, request = parseWebSocketURL("ws://127.0.0.1:8080/chat")
    factory = WebSocketClientFactory(Receiver, request, clock=reactor)
    TCP4ClientEndpoint(reactor, host, port).connect(factory)

A receiver (L{IWebSocketReceiver}) is told C{opened} once the server has agreed; when it has not, C{lost} and nothing
else, with a L{DialFailed} that says why. Redirects are not followed: credentials are for who was asked.

For a plain byte stream there is L{gateway.net.websocketendpoints.WebSocketClientEndpoint}.
"""

__all__ = ["WebSocketClientChannel", "WebSocketClientFactory", "WebSocketRefused"]

import os
from base64 import b64encode
from collections.abc import Callable

from twisted.internet.error import ConnectionClosed, TimeoutError
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IWebSocketReceiver
from gateway.net.tlsclient import explainTLS
from gateway.net.websocketchannel import WebSocketChannel, maskedFrame
from gateway.net.websocketlimits import OpenChannels, WebSocketSettings
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import ResponseHead, parseResponseHead
from gateway.wire.upgraderequest import WebSocketRequest, checkAcceptance, excerptSize, refusal


class WebSocketRefused(DialFailed):
    """
    The server answered, and did not open a WebSocket. The kind is C{DENIED} when it is about credentials (401 and 403).

    @ivar status: of HTTP.
    """

    def __init__(self, status: int, details: str) -> None:
        super().__init__(DialFailure.DENIED if status in (401, 403) else DialFailure.REFUSED, details)
        self.status = status


def _whyNot(reason: Failure) -> DialFailed:
    """Why a connection ended before there was an answer."""
    error = reason.value
    if isinstance(error, TimeoutError):
        return DialFailed(DialFailure.TIMEOUT, "The server did not answer the WebSocket request in time.")
    if isinstance(error, ConnectionClosed):
        return DialFailed(DialFailure.UNREACHABLE, "The server ended the connection before it opened a WebSocket.")
    if (trouble := explainTLS(reason)) is not None:
        return DialFailed(DialFailure.OTHER, trouble)
    return DialFailed.fromFailure(reason)


class WebSocketClientChannel(WebSocketChannel):
    """
    One connection to a server.

    @param request: what to ask for.
    """

    peerMasks = False
    frame = staticmethod(maskedFrame)

    def __init__(self, channels: OpenChannels, receiver: IWebSocketReceiver, request: WebSocketRequest) -> None:
        super().__init__(channels)
        self._waiting = receiver
        self._request = request
        self._nonce = b64encode(os.urandom(16)).decode()
        self._refusal: ResponseHead | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self.emit((self._request.encode(self._nonce),))

    def processHandshake(self) -> None:
        if self._refusal is None:
            try:
                head = parseResponseHead(self.data, self.factory.settings.maxHead)
                if head is None:
                    return
                rest = self.data.partition(b"\r\n\r\n")[2]
                if head.status == 101:
                    self.subprotocol = checkAcceptance(self._request, self._nonce, head)
                    self.opened(self._waiting, rest)
                    return
            except RemoteProtocolError as e:
                self._fail(DialFailed(DialFailure.OTHER, f"The server does not open a WebSocket properly. {e.details}"))
                return
            self._refusal = head
            self.data = rest
        if len(self.data) >= excerptSize(self._refusal):
            self._fail(self._refused(self._refusal))

    def _refused(self, head: ResponseHead) -> WebSocketRefused:
        return WebSocketRefused(head.status, refusal(head, self.data))

    def _fail(self, error: DialFailed) -> None:
        self.settled = True
        self.data = b""
        self.state = self.STATE_CLOSED
        self.transport.abortConnection()
        self._waiting.lost(Failure(error))

    def openingFailed(self, reason: Failure) -> None:
        # Of a refusal, what has come of its text will do.
        self._waiting.lost(Failure(_whyNot(reason) if self._refusal is None else self._refused(self._refusal)))


class WebSocketClientFactory(Factory):
    """
    Opens WebSockets on connections that somebody else makes.

    @param receiverFor: makes the receiver of each connection.
    @param request: what to ask for.
    @param clock: for every deadline and for the pings.
    """

    noisy = False

    def __init__(
        self,
        receiverFor: Callable[[], IWebSocketReceiver],
        request: WebSocketRequest,
        *,
        clock: IReactorTime,
        settings: WebSocketSettings | None = None,
    ) -> None:
        self._receiverFor = receiverFor
        self._request = request
        self._channels = OpenChannels(clock, settings, isServer=False)

    def buildProtocol(self, address: IAddress | None) -> IProtocol:  # type: ignore[override]  # not a Protocol
        return WebSocketClientChannel(self._channels, self._receiverFor(), self._request)
