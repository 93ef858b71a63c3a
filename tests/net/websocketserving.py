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
from gateway.wire.upgraderequest import WebSocketRequest
from tests.net.websocketconnection import AnyConnection, Receiver
from tests.websocketclient import CLOSE
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


class Connection(AnyConnection):
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
        self.server = WebSocketServer()
        super().__init__(protocol, self.receiver, self.server.receive, tlsManners)
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
