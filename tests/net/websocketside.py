"""
A relay's side that is a WebSocket, opened by the peer or by us: the same promises hold there, so the same tests run::

    class WebSocketNearTests(RelayPromises, SynchronousTestCase):
        nearKind, farKind = WEBSOCKET, TCP
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.websocketendpoints import WebSocketClientEndpoint, WebSocketServerEndpoint
from gateway.net.websocketlimits import WebSocketSettings
from gateway.testing import FlowLink, flowPair
from gateway.wire.upgraderequest import WebSocketRequest
from tests.net.sides import Kind, refuseProducerWhenClosing
from tests.websocketclient import BINARY, CLOSE, Frame, WebSocketClient
from tests.websocketserver import WebSocketServer

__all__ = ["WEBSOCKET", "WEBSOCKET_CLIENT"]

_SETTINGS = WebSocketSettings(pingInterval=0, handshakeTimeout=1000, closeTimeout=1000)
_ADDRESS = IPv4Address("TCP", "127.0.0.1", 2)


class _Only(Factory):
    """Gives out one protocol."""

    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, address: IAddress | None) -> Any:
        return self._protocol


class _Peer(Protocol):
    """
    The peer.

    @cvar frame: makes one of its frames.
    """

    transport: Any
    frame: Callable[..., bytes]

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = self.closing = self.lost = False

    def gotFrames(self, frames: list[Frame]) -> None:
        """Record payload, and answer a Close."""
        for frame in frames:
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
            self.transport.write(self.frame(CLOSE, b"\x03\xe8"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record the end."""
        self.lost = True


class _Client(_Peer):
    """A client of ours."""

    frame = staticmethod(WebSocketClient.frame)

    def connectionMade(self) -> None:
        """Ask for the upgrade."""
        self._codec = WebSocketClient()
        self.transport.write(self._codec.request())

    def dataReceived(self, data: bytes) -> None:
        """Take frames."""
        self.gotFrames(self._codec.receive(data))


class _Server(_Peer):
    """Somebody whose client we are."""

    frame = staticmethod(WebSocketServer.frame)

    def connectionMade(self) -> None:
        """Wait for the request."""
        self._codec = WebSocketServer()
        self._open = False

    def dataReceived(self, data: bytes) -> None:
        """Answer the request, then take frames. A server ends the connection when both have closed."""
        frames = self._codec.receive(data)
        if not self._open and self._codec.request:
            self._open = True
            self.transport.write(self._codec.acceptance())
        self.gotFrames(frames)
        if self.closed and self.closing:
            self.transport.loseConnection()


@implementer(IStreamClientEndpoint, IStreamServerEndpoint)
class _Wire:
    """
    The connection below: what listens on it gets one, and who dials it.

    @ivar link: the peer's side is C{a}, ours is C{b}.
    """

    link: FlowLink

    def __init__(self, peer: _Peer) -> None:
        self._peer = peer

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect the peer with a protocol of ours."""
        protocol = protocolFactory.buildProtocol(_ADDRESS)
        assert protocol is not None
        self.link = flowPair(self._peer, protocol)
        refuseProducerWhenClosing(self.link.b)
        return succeed(protocol)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """The same; there is no port that anybody needs."""
        self.connect(protocolFactory)
        return Deferred()


class WebSocketSide:
    """
    A L{tests.net.sides.Side} on a channel.

    @param peer: what is at the other end, and so which role is ours.
    """

    def __init__(self, kind: Kind, peer: _Peer, protocol: Any, clock: Clock) -> None:
        self.kind = kind
        self._peer = peer
        wire = _Wire(peer)
        if isinstance(peer, _Client):
            WebSocketServerEndpoint(clock, wire, settings=_SETTINGS).listen(_Only(protocol))
        else:
            request = WebSocketRequest("gateway.test")
            WebSocketClientEndpoint(clock, wire, request, settings=_SETTINGS).connect(_Only(protocol))
        self.link = wire.link
        self.link.pump()
        self.ours = protocol.transport

    @property
    def received(self) -> bytes:
        return bytes(self._peer.received)

    @property
    def end(self) -> str | None:
        if self._peer.closed:
            return "clean"
        return "reset" if self._peer.lost else None

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
        self.link.a.write(self._peer.frame(BINARY, data))

    def finish(self) -> None:
        self._peer.close()

    def reset(self) -> None:
        self.link.a.abortConnection()

    def stall(self, stalled: bool) -> None:
        self.link.bToA.stalled = stalled

    def chunk(self, size: int) -> None:
        self.link.aToB.chunkSize = size

    def step(self) -> bool:
        return self.link.step()


WEBSOCKET: Kind = Kind("WebSocket", False, lambda protocol, clock: WebSocketSide(WEBSOCKET, _Client(), protocol, clock))
WEBSOCKET_CLIENT: Kind = Kind(
    "WebSocket that we open",
    False,
    lambda protocol, clock: WebSocketSide(WEBSOCKET_CLIENT, _Server(), protocol, clock),
)
