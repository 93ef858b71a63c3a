"""
One connection of a WebSocket client of ours in memory, from the point of view of a server that sends whatever it is told
to::

    connection = Connection.open(streaming=True)
    connection.send(frame(BINARY, b"hello"))
    assert connection.receiver.events == [("data", b"hello")]
"""

from __future__ import annotations

import struct

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from gateway.net.dial import DialFailed
from gateway.net.interfaces import IWebSocketChannel
from gateway.net.websocketclient import WebSocketClientFactory
from gateway.net.websocketlimits import WebSocketSettings
from gateway.testing import FlowTransport, TLSFlowTransport
from gateway.wire.upgraderequest import WebSocketRequest
from tests.net.websocketconnection import Receiver
from tests.websocketclient import CLOSE, Frame
from tests.websocketserver import WebSocketServer

__all__ = ["Connection", "close", "frame"]

frame = WebSocketServer.frame


class ClientsReceiver(Receiver):
    """
    A L{Receiver} that knows whether the WebSocket was opened at all.
    """

    isOpen = False

    def opened(self, channel: IWebSocketChannel) -> None:
        """Record it."""
        assert not self.isOpen and not self.reasons
        self.isOpen = True
        super().opened(channel)


class Connection:
    """One connection of a client of ours, from the server's point of view."""

    def __init__(
        self,
        request: WebSocketRequest | None = None,
        *,
        streamAtOnce: bool = False,
        tlsManners: bool = False,
        settings: WebSocketSettings | None = None,
    ) -> None:
        self.clock = Clock()
        self.receiver = ClientsReceiver(streamAtOnce=streamAtOnce)
        self.factory = WebSocketClientFactory(
            lambda: self.receiver, request or WebSocketRequest("gw.test"), clock=self.clock, settings=settings
        )
        protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.transport = (TLSFlowTransport if tlsManners else FlowTransport)(protocol)
        self.server = WebSocketServer()
        self.frames: list[Frame] = []
        self.take()

    @classmethod
    def open(
        cls, *, streaming: bool = False, tlsManners: bool = False, settings: WebSocketSettings | None = None
    ) -> Connection:
        """A connection after the handshake, in stream mode or not."""
        self = cls(streamAtOnce=streaming, tlsManners=tlsManners, settings=settings)
        self.send(self.server.acceptance())
        assert self.receiver.isOpen
        return self

    @property
    def channel(self) -> IWebSocketChannel:
        """The client's channel."""
        return self.receiver.channel

    def send(self, data: bytes) -> None:
        """Send bytes, and take all that comes back."""
        self.transport.deliver(data)
        self.take()

    def take(self) -> None:
        """Take all that the client wrote."""
        while written := self.transport.takeWritten():
            self.frames += self.server.receive(written)

    def closeCode(self) -> int | None:
        """The code of the client's Close, of which there is at most one, and nothing after it."""
        closes = [each for each in self.frames if each.opcode == CLOSE]
        if not closes:
            return None
        assert self.frames[-1:] == closes, "the Close is not the last frame"
        (code,) = struct.unpack("!H", closes[0].payload[:2])
        return int(code)

    def reason(self) -> type[BaseException]:
        """How the receiver was told that it ended, once."""
        (reason,) = self.receiver.reasons
        assert reason.type is not None
        return reason.type

    def failure(self) -> DialFailed:
        """Why the WebSocket was not opened. Nothing of the connection is left."""
        (reason,) = self.receiver.reasons
        assert isinstance(reason.value, DialFailed), reason
        assert not self.receiver.isOpen
        self.transport.pump()
        assert self.transport.disconnected
        assert self.clock.getDelayedCalls() == []
        return reason.value


def close(code: int, reason: bytes = b"") -> bytes:
    """A server's Close."""
    return frame(CLOSE, struct.pack("!H", code) + reason)
