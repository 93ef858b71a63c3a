"""
A relay's side whose peer is a WebSocket client: the same promises hold there, so the same tests run::

    class WebSocketNearTests(RelayPromises, SynchronousTestCase):
        nearKind, farKind = WEBSOCKET, TCP
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.websocket import Denied, WebSocketServerFactory, WebSocketSettings
from gateway.testing import FlowLink, flowPair
from gateway.wire.http1 import RequestHead, Response
from tests.net.sides import Kind, refuseProducerWhenClosing
from tests.websocketclient import BINARY, CLOSE, WebSocketClient

__all__ = ["WEBSOCKET"]

_CLOSE = WebSocketClient.frame(CLOSE, b"\x03\xe8")


@implementer(IWebSocketGate, IWebSocketReceiver)
class _Stream:
    """Lets the client in and gives the channel to a protocol, as a byte stream."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """Come in."""
        return self

    def plain(self, head: RequestHead) -> Response:
        """Nobody asks."""
        raise Denied(Response(404, b""))

    def failed(self, reason: Failure) -> None:
        """Nobody fails."""
        reason.raiseException()

    def opened(self, channel: IWebSocketChannel) -> None:
        """Connect the protocol."""
        self.channel = channel
        self._protocol.makeConnection(channel)
        channel.stream(self._protocol.dataReceived)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        """Nobody sends text."""
        raise AssertionError("a message on a stream")

    def lost(self, reason: Failure) -> None:
        """Disconnect the protocol."""
        self._protocol.connectionLost(reason)


class _Client(Protocol):
    """The peer."""

    transport: Any

    def __init__(self) -> None:
        self.codec = WebSocketClient()
        self.received = bytearray()
        self.closed = self.closing = self.lost = False

    def connectionMade(self) -> None:
        """Ask for the upgrade."""
        self.transport.write(self.codec.request())

    def dataReceived(self, data: bytes) -> None:
        """Record payload, and answer a Close."""
        for frame in self.codec.receive(data):
            assert not self.closed, "a frame after the Close"
            if frame.opcode == CLOSE:
                self.closed = True
                self.close()
            else:
                assert frame.opcode == BINARY
                self.received += frame.payload

    def close(self) -> None:
        """Send a Close, once."""
        if not self.closing:
            self.closing = True
            self.transport.write(_CLOSE)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record the end."""
        self.lost = True


class WebSocketSide:
    """A L{tests.net.sides.Side} on a channel of the server's."""

    def __init__(self, protocol: IProtocol, clock: Clock) -> None:
        self.kind = WEBSOCKET
        self._client = _Client()
        stream = _Stream(protocol)
        factory = WebSocketServerFactory(
            clock=clock, settings=WebSocketSettings(pingInterval=0, handshakeTimeout=1000, closeTimeout=1000)
        )
        self.link: FlowLink = flowPair(self._client, factory.protocolFor(stream))
        refuseProducerWhenClosing(self.link.b)
        self.link.pump()
        self.ours = stream.channel

    @property
    def received(self) -> bytes:
        return bytes(self._client.received)

    @property
    def end(self) -> str | None:
        if self._client.closed:
            return "clean"
        return "reset" if self._client.lost else None

    @property
    def gone(self) -> bool:
        return self.link.b.disconnected

    @property
    def held(self) -> int:
        return self.link.bToA.highWater

    @property
    def unread(self) -> int:
        return self.link.aToB.bufferedBytes

    def send(self, data: bytes) -> None:
        self.link.a.write(WebSocketClient.frame(BINARY, data))

    def finish(self) -> None:
        self._client.close()

    def reset(self) -> None:
        self.link.a.abortConnection()

    def stall(self, stalled: bool) -> None:
        self.link.bToA.stalled = stalled

    def chunk(self, size: int) -> None:
        self.link.aToB.chunkSize = size

    def step(self) -> bool:
        return self.link.step()


WEBSOCKET: Kind = Kind("WebSocket", False, WebSocketSide)
