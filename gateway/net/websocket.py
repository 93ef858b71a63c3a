"""
The server's side of WebSockets: who may open one, and short pages for everybody else.

Who wants to serve some decides about each connection by an L{IWebSocketGate}::

    factory = WebSocketServerFactory(lambda address: Gate(address), clock=reactor)
    endpoint.listen(factory)

For a plain byte stream at one path there is L{gateway.net.websocketendpoints.WebSocketServerEndpoint}.
"""

__all__ = ["Denied", "WebSocketServerFactory"]

from collections.abc import Callable

from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from gateway.net.interfaces import IWebSocketGate
from gateway.net.websocketchannel import WebSocketChannel, plainFrame
from gateway.net.websocketlimits import OpenChannels, WebSocketSettings
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import Response, parseRequestHead
from gateway.wire.upgrade import UpgradeRefused, acceptance, upgradeKey


class Denied(Exception):
    """
    Raised by C{accept} to refuse the upgrade.

    @ivar response: what the client is told instead.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class _ServerChannel(WebSocketChannel):
    """
    One connection of a L{WebSocketServerFactory}.
    """

    peerMasks = True
    frame = staticmethod(plainFrame)

    def __init__(self, channels: OpenChannels, gate: IWebSocketGate) -> None:
        super().__init__(channels)
        self._gate = gate

    def processHandshake(self) -> None:
        try:
            head = parseRequestHead(self.data, self.factory.settings.maxHead)
        except RemoteProtocolError as e:
            self._gate.failed(Failure(e))
            self._answer(Response(431 if e.code == "head-too-large" else 400, f"{e.details}\n".encode()))
            return
        if head is None:
            return
        if not head.wantsWebSocket:
            self._answer(self._gate.plain(head), withBody=head.method != "HEAD")
            return
        try:
            key = upgradeKey(head)
            receiver = self._gate.accept(head, self)
        except UpgradeRefused as e:
            self._gate.failed(Failure(e))
            self._answer(Response(e.status, f"{e.details}\n".encode(), headers=e.headers))
        except Denied as e:
            self._answer(e.response)
        else:
            self.emit((acceptance(key, self.subprotocol),))
            self.opened(receiver, self.data.partition(b"\r\n\r\n")[2])

    def _answer(self, response: Response, *, withBody: bool = True) -> None:
        self.data = b""
        self.state = self.STATE_CLOSED
        self.settled = True
        self.emit((response.encode(withBody=withBody),))
        self._closeConnection()
        self.setDeadline(self.factory.settings.closeTimeout)

    def openingFailed(self, reason: Failure) -> None:
        self._gate.failed(reason)


class WebSocketServerFactory(Factory):
    """
    Serves WebSockets, and short pages to everybody else.

    @param gateFor: makes the gate of each connection, C{None} to drop it; not needed where L{protocolFor} is used.
    @param clock: for every deadline and for the pings.
    @ivar channels: all that were made here and are not gone.
    """

    noisy = False

    def __init__(
        self,
        gateFor: Callable[[IAddress | None], IWebSocketGate | None] = lambda address: None,
        *,
        clock: IReactorTime,
        settings: WebSocketSettings | None = None,
    ) -> None:
        self._gateFor = gateFor
        self.channels = OpenChannels(clock, settings, isServer=True)

    def buildProtocol(self, address: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # not a Protocol
        gate = self._gateFor(address)
        return None if gate is None else self.protocolFor(gate)

    def protocolFor(self, gate: IWebSocketGate) -> IProtocol:
        """The protocol of a connection whose gate is there already."""
        return _ServerChannel(self.channels, gate)
