"""
WebSockets as endpoints: byte streams over HTTP, for every protocol that takes a transport::

    client = WebSocketClientEndpoint(reactor, carrier, request)
    server = WebSocketServerEndpoint(reactor, TCP4ServerEndpoint(reactor, 8080), path="/agent")
    server.listen(factory)

What is written goes out in binary messages, whose bounds mean nothing; who sends text is cut short with 1003. A
protocol hears of its end as on any transport: C{ConnectionDone} after a closing handshake, otherwise something else,
so that a truncated stream never looks whole. There is no half-close.
"""

__all__ = ["ChannelStream", "WebSocketClientEndpoint", "WebSocketServerEndpoint"]

from collections.abc import Collection, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed
from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.tlsclient import explainTLS
from gateway.net.websocket import Denied, WebSocketServerFactory
from gateway.net.websocketclient import WebSocketClientChannel
from gateway.net.websocketlimits import OpenChannels, WebSocketSettings
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.upgrade import chooseSubprotocol
from gateway.wire.upgraderequest import WebSocketRequest

_UNSUPPORTED_DATA = 1003


@implementer(IWebSocketReceiver)
class ChannelStream:
    """
    A protocol on a channel. Who accepts the channel says which one: C{_protocol}.
    """

    _channel: IWebSocketChannel
    _protocol: IProtocol | None = None

    def opened(self, channel: IWebSocketChannel) -> None:
        """The channel is the protocol's transport from now on."""
        assert self._protocol is not None
        self._channel = channel
        channel.stream(self._gotData)  # first: the protocol may close the channel at once
        self._protocol.makeConnection(channel)

    def _gotData(self, data: bytes) -> None:
        # Looked up each time: some protocols become another one.
        assert self._protocol is not None
        self._protocol.dataReceived(data)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        """A stream has no place for text."""
        self._channel.close(_UNSUPPORTED_DATA, "this is a byte stream: send binary messages")
        self.lost(Failure(ConnectionLost("the peer sent text on a byte stream")))

    def lost(self, reason: Failure) -> None:
        """Tell the protocol, once."""
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)


class _Dial(ChannelStream, Factory):
    """
    One attempt of a L{WebSocketClientEndpoint}: the factory of the carrier's connection, and who waits for the channel.
    """

    noisy = False

    def __init__(self, channels: OpenChannels, request: WebSocketRequest, factory: IProtocolFactory) -> None:
        self._channels = channels
        self._request = request
        self._factory = factory
        self._address: IAddress | None = None
        self._opening: WebSocketClientChannel | None = None
        self._started = False
        self._result: Deferred[IProtocol] | None = None

    def start(self, carrier: IStreamClientEndpoint) -> Deferred[IProtocol]:
        """Begin."""
        result = self._result = Deferred(lambda _: self._cancel())
        self._connecting = carrier.connect(self)
        self._connecting.addErrback(lambda failure: self._failed(DialFailed.fromFailure(failure)))
        return result

    def _cancel(self) -> None:
        self._result = None
        self._connecting.cancel()
        if self._opening is not None:
            self._opening.abortConnection()

    def _failed(self, error: Failure | Exception) -> None:
        result, self._result = self._result, None
        if result is not None:
            result.errback(error)

    def buildProtocol(self, address: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # not a Protocol
        if self._result is None:
            return None  # the carrier's attempt went on though it was cancelled
        self._address = address
        self._opening = WebSocketClientChannel(self._channels, self, self._request)
        return self._opening

    def opened(self, channel: IWebSocketChannel) -> None:
        self._opening = None
        if self._result is None:
            channel.abortConnection()
            return
        try:
            self._factory.doStart()
            self._started = True
            self._protocol = protocol = self._factory.buildProtocol(self._address)  # type: ignore[arg-type]  # None too
            if protocol is None:
                raise NoProtocol()
        except Exception:  # whatever a factory raises, the one who waits is told
            channel.abortConnection()
            self._failed(Failure())
            return
        super().opened(channel)
        result, self._result = self._result, None
        if result is not None:
            result.callback(protocol)

    def lost(self, reason: Failure) -> None:
        self._opening = None
        self._failed(reason)
        super().lost(reason)
        if self._started:
            self._started = False
            self._factory.doStop()


@implementer(IStreamClientEndpoint)
class WebSocketClientEndpoint:
    """
    Connects by opening a WebSocket on another endpoint's connection.

    @param clock: for every deadline and for the pings.
    @param carrier: makes the connection, by TLS where the URL says C{wss}.
    @param request: what to ask for.
    """

    def __init__(
        self,
        clock: IReactorTime,
        carrier: IStreamClientEndpoint,
        request: WebSocketRequest,
        *,
        settings: WebSocketSettings | None = None,
    ) -> None:
        self._carrier = carrier
        self._request = request
        self._channels = OpenChannels(clock, settings, isServer=False)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fires with the protocol once the WebSocket is open. May be cancelled, which cuts off what there is;
            fails with L{DialFailed}, which is a L{gateway.net.websocketclient.WebSocketRefused} when the server
            answered something else.
        """
        return _Dial(self._channels, self._request, protocolFactory).start(self._carrier)


@implementer(IWebSocketGate)
class _Gate(ChannelStream):
    """One connection of a L{WebSocketServerEndpoint}."""

    _log = Logger()

    def __init__(self, port: "_StreamFactory", address: IAddress | None) -> None:
        self._port = port
        self._address = address

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """Whoever knows the path, unless another site's page has sent them."""
        if head.path != self._port.path:
            raise Denied(self.plain(head))
        origin = head.get("origin")
        if origin is not None and origin not in self._port.origins:
            self._refused("it has the header Origin, which pages of other sites send")
            raise Denied(Response(403, b"Pages of this origin may not open a WebSocket here.\n"))
        channel.subprotocol = chooseSubprotocol(head, self._port.subprotocols)
        self._protocol = self._port.streams.buildProtocol(self._address)  # type: ignore[arg-type]  # None too
        if self._protocol is None:
            raise Denied(Response(503, b"No more connections are taken now.\n"))
        return self

    def plain(self, head: RequestHead) -> Response:
        """There is nothing to see."""
        if head.path != self._port.path:
            return Response(404, b"There is nothing here.\n")
        return Response(426, b"This speaks WebSocket alone.\n", headers=(("Upgrade", "websocket"),))

    def failed(self, reason: Failure) -> None:
        if not reason.check(ConnectionDone, ConnectionLost):  # who just leaves is a port scan or a health check
            self._refused(explainTLS(reason) or str(reason.value))

    def _refused(self, problem: str) -> None:
        visitor = getattr(self._address, "host", "?")
        self._log.info(
            "no WebSocket for {visitor}: {problem}", event="websocket.refused", visitor=visitor, problem=problem
        )


class _StreamFactory(WebSocketServerFactory):
    """What a L{WebSocketServerEndpoint} listens with."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        streams: IProtocolFactory,
        path: str,
        origins: Collection[str],
        settings: WebSocketSettings | None,
        subprotocols: Sequence[str],
        maxOpening: int,
    ) -> None:
        super().__init__(lambda address: _Gate(self, address), clock=clock, settings=settings)
        self.streams = streams
        self.path = path
        self.origins = origins
        self.subprotocols = subprotocols
        self._maxOpening = maxOpening
        self._told = False

    def buildProtocol(self, address: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # as there
        opening = len(self.channels.opening)
        if opening >= self._maxOpening:
            if not self._told:
                self._told = True
                self._log.warn(
                    "connections are refused: {limit} have no WebSocket yet", event="websocket.flooded", limit=opening
                )
            return None
        if 2 * opening < self._maxOpening:
            self._told = False
        return super().buildProtocol(address)

    def startFactory(self) -> None:
        self.streams.doStart()

    def stopFactory(self) -> None:
        self.streams.doStop()


@implementer(IStreamServerEndpoint)
class WebSocketServerEndpoint:
    """
    Listens for WebSockets at one path of another endpoint's connections. Everything else gets a short page.

    @param clock: for every deadline and for the pings.
    @param inner: where connections come from; where people come by C{wss}, it speaks TLS.
    @param path: without query.
    @param subprotocols: of which a client must offer one, if there are any.
    @param origins: of the web sites whose pages may connect, as browsers send them (C{https://app.example}). By default
        none may: with a visitor's browser any page on the Web reaches what that visitor reaches.
    @param maxOpening: connections that there may be at once without a WebSocket; more are closed as they come.
    """

    def __init__(
        self,
        clock: IReactorTime,
        inner: IStreamServerEndpoint,
        *,
        path: str = "/",
        subprotocols: Sequence[str] = (),
        origins: Collection[str] = (),
        maxOpening: int = 1024,
        settings: WebSocketSettings | None = None,
    ) -> None:
        self._clock = clock
        self._inner = inner
        self._path = path
        self._subprotocols = subprotocols
        self._origins = origins
        self._maxOpening = maxOpening
        self._settings = settings

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @param protocolFactory: makes a protocol for each WebSocket, in stream mode; C{None} refuses it.
        """
        return self._inner.listen(
            _StreamFactory(
                self._clock,
                protocolFactory,
                self._path,
                self._origins,
                self._settings,
                self._subprotocols,
                self._maxOpening,
            )
        )
