"""
One connection of a WebSocket server in memory, from the point of view of a client that sends whatever it is told to::

    connection = Connection.open(streaming=True)
    connection.send(frame(BINARY, b"hello"))
    assert connection.receiver.events == [("data", b"hello")]
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.websocket import Denied, WebSocketServerFactory
from gateway.net.websocketlimits import WebSocketSettings
from gateway.testing import FlowTransport, TLSFlowTransport
from gateway.wire.http1 import RequestHead, Response
from tests.net.sides import pattern
from tests.websocketclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, WebSocketClient

__all__ = ["ANSWERS", "EVENTS", "AnyConnection", "Connection", "Gate", "Receiver", "close", "conversation", "frame"]

frame = WebSocketClient.frame


@implementer(IWebSocketReceiver)
class Receiver:
    """
    Records what it is told. The text C{"stream"} makes it switch to stream mode, C{"close"} to close.

    @ivar events: messages and pieces of the stream in order; neighbouring pieces are joined.
    @ivar reasons: what C{lost} was called with.
    """

    channel: IWebSocketChannel

    def __init__(self, *, streamAtOnce: bool = False) -> None:
        self.events: list[tuple[str, bytes]] = []
        self.reasons: list[Failure] = []
        self._streamAtOnce = streamAtOnce

    def opened(self, channel: IWebSocketChannel) -> None:
        """Keep the channel."""
        self.channel = channel
        if self._streamAtOnce:
            channel.stream(self.gotData)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        """Record a message, and do what it says."""
        assert not self.reasons, "a message after the end"
        self.events.append(("binary" if isBinary else "text", payload))
        if payload == b"stream":
            self.channel.stream(self.gotData)
        if payload == b"close":
            self.channel.close(1000)

    def gotData(self, data: bytes) -> None:
        """Record a piece of the stream."""
        assert not self.reasons, "data after the end"
        assert type(data) is bytes
        if self.events and self.events[-1][0] == "data":
            data = self.events.pop()[1] + data
        self.events.append(("data", data))
        if data.endswith(b"close"):
            self.channel.close(1000)

    def lost(self, reason: Failure) -> None:
        """Record the end."""
        self.reasons.append(reason)


@implementer(IWebSocketGate)
class Gate:
    """Lets everybody in, unless the path is C{/denied}."""

    def __init__(self, receiver: IWebSocketReceiver) -> None:
        self.receiver = receiver
        self.failures: list[Failure] = []

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """Decide by the path."""
        if head.path == "/denied":
            raise Denied(Response(403, b"no\n"))
        return self.receiver

    def plain(self, head: RequestHead) -> Response:
        """Say which page it is."""
        return Response(200, f"page {head.path}\n".encode())

    def failed(self, reason: Failure) -> None:
        """Record the failure."""
        self.failures.append(reason)


class AnyConnection:
    """
    One connection, from the point of view of the other end.

    @param receive: takes what was written, and returns the frames that are whole now.
    @ivar frames: all that came.
    """

    def __init__(
        self, protocol: IProtocol, receiver: Receiver, receive: Callable[[bytes], list[Frame]], tlsManners: bool
    ) -> None:
        self.transport = (TLSFlowTransport if tlsManners else FlowTransport)(protocol)
        self.frames: list[Frame] = []
        self._receiver = receiver
        self._receive = receive

    @property
    def channel(self) -> IWebSocketChannel:
        """Our end's channel."""
        return self._receiver.channel

    def send(self, data: bytes) -> None:
        """Send bytes, and take all that comes back."""
        self.transport.deliver(data)
        self.take()

    def take(self) -> None:
        """Take all that our end wrote."""
        while written := self.transport.takeWritten():
            self.frames += self._receive(written)

    def closeCode(self) -> int | None:
        """The code of our end's Close, of which there is at most one, and nothing after it."""
        closes = [each for each in self.frames if each.opcode == CLOSE]
        if not closes:
            return None
        assert self.frames[-1:] == closes, "the Close is not the last frame"
        (code,) = struct.unpack("!H", closes[0].payload[:2])
        return int(code)

    def reason(self) -> type[BaseException]:
        """How the receiver was told that it ended, once."""
        (reason,) = self._receiver.reasons
        assert reason.type is not None
        return reason.type


class Connection(AnyConnection):
    """One connection of a server, from the client's point of view."""

    def __init__(
        self, *, streamAtOnce: bool = False, tlsManners: bool = False, settings: WebSocketSettings | None = None
    ) -> None:
        self.clock = Clock()
        self.receiver = Receiver(streamAtOnce=streamAtOnce)
        self.gate = Gate(self.receiver)
        self.factory = WebSocketServerFactory(
            lambda address: self.gate, clock=self.clock, settings=settings or WebSocketSettings()
        )
        protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert protocol is not None
        self.client = WebSocketClient()
        super().__init__(protocol, self.receiver, self.client.receive, tlsManners)

    @classmethod
    def open(
        cls, *, streaming: bool = False, tlsManners: bool = False, settings: WebSocketSettings | None = None
    ) -> Connection:
        """A connection after the handshake, in stream mode or not."""
        self = cls(streamAtOnce=streaming, tlsManners=tlsManners, settings=settings)
        self.send(WebSocketClient.request())
        assert self.client.answer is not None and self.client.answer.status == 101
        return self

    def reason(self) -> type[BaseException]:
        assert self.gate.failures == []
        assert self.clock.getDelayedCalls() == []
        return super().reason()


def conversation(frame: Callable[..., bytes]) -> bytes:
    """
    What may be said in a row, by frames of either end; with L{EVENTS} for the receiver and L{ANSWERS} to the peer.
    """
    return b"".join(
        (
            frame(TEXT, b"hello"),
            frame(BINARY, b"\x00\x01\x02"),
            frame(TEXT, b"frag", final=False),
            frame(PING, b"between"),
            frame(CONTINUATION, "m\u20acnt".encode()[:2], final=False),
            frame(CONTINUATION, "m\u20acnt".encode()[2:]),
            frame(TEXT, b"stream"),
            frame(BINARY, pattern(200)),
            frame(BINARY, b""),
            frame(BINARY, b"one", final=False),
            frame(PONG, b"nobody asked"),
            frame(CONTINUATION, b"", final=False),
            frame(PING, b"again"),
            frame(CONTINUATION, b"two"),
            frame(TEXT, b"a word"),
            frame(BINARY, b"three"),
            frame(CLOSE, b"\x03\xe8"),
        )
    )


EVENTS = [
    ("text", b"hello"),
    ("binary", b"\x00\x01\x02"),
    ("text", "fragm\u20acnt".encode()),
    ("text", b"stream"),
    ("data", pattern(200) + b"onetwo"),
    ("text", b"a word"),
    ("data", b"three"),
]
ANSWERS = [Frame(PONG, b"between"), Frame(PONG, b"again"), Frame(CLOSE, b"\x03\xe8")]


def close(code: int, reason: bytes = b"") -> bytes:
    """A client's Close."""
    return frame(CLOSE, struct.pack("!H", code) + reason)
