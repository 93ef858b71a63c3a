"""
The other end of an HTTP/2 connection, which sends what a test wants and says what came back.

It is written with hyperframe and hpack, without h2, so that it is free to do what is wrong::

    visitor = Http2Visitor()                    # a connection with its settings said
    visitor.request(1, end=True)
    visitor.owner.requests[0].respond(ResponseHead(204, "No Content", "1.1", []), 0)
    assert visitor.heads(1) == [{":status": "204"}]
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from struct import pack, unpack
from typing import Any

from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from twisted.internet.task import Clock
from zope.interface import implementer

from gateway.net.direct import Buffer
from gateway.net.http2client import Http2ClientConnection, IHttp2OriginOwner
from gateway.net.http2server import Http2ServerConnection
from gateway.net.httpinterfaces import (
    Fields,
    IExchange,
    IOriginRequest,
    IVisitorOwner,
    IVisitorRequest,
    OriginLost,
)
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.testing import FlowTransport
from gateway.wire.http1 import RequestHead, Response, ResponseHead
from gateway.wire.http2budget import Http2Limits
from gateway.wire.http2frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)

REQUEST = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")]


@dataclass(frozen=True)
class Sent:
    """A frame that came from the connection under test."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> ErrorCodes:
        """Of RST_STREAM and GOAWAY."""
        return ErrorCodes(unpack(">L", self.payload[-4:] if self.kind == RST_STREAM else self.payload[4:8])[0])

    @property
    def ends(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)


@implementer(IExchange)
class Recorder:
    """
    An exchange that only writes down what it is told.

    @ivar fails: it raises when payload comes.
    """

    def __init__(self) -> None:
        self.body = b""
        self.pieces: list[int] = []
        self.events: list[Any] = []
        self.trailers: Fields | None = None
        self.lost: str | None = None
        self.origin: OriginLost | None = None
        self.heads: list[ResponseHead] = []
        self.length: int | None = -2
        self.fails = False

    def gotRequestBody(self, data: Buffer) -> None:
        if self.fails:
            raise RuntimeError("a defect")
        self.body += bytes(data)
        self.pieces.append(len(data))

    def gotRequestEnd(self, trailers: Fields) -> None:
        self.trailers = trailers

    def pauseResponse(self) -> None:
        self.events.append("pauseResponse")

    def resumeResponse(self) -> None:
        self.events.append("resumeResponse")

    def visitorLost(self, details: str) -> None:
        self.lost = details

    def gotInformational(self, head: ResponseHead) -> None:
        self.heads.append(head)

    def gotResponse(self, head: ResponseHead, length: int | None) -> None:
        self.heads.append(head)
        self.length = length

    gotResponseBody = gotRequestBody
    gotResponseEnd = gotRequestEnd

    def gotUpgrade(self, head: ResponseHead) -> None:
        raise AssertionError("there are no upgrades in HTTP/2")

    def pauseRequest(self) -> None:
        self.events.append("pauseRequest")

    def resumeRequest(self) -> None:
        self.events.append("resumeRequest")

    def originLost(self, lost: OriginLost) -> None:
        self.origin = lost


@implementer(IVisitorOwner)
class Owner:
    """An owner that accepts each request with a L{Recorder}, unless it C{waits}."""

    def __init__(self) -> None:
        self.requests: list[IVisitorRequest] = []
        self.cancellations: list[IVisitorRequest] = []
        self.exchanges: list[Recorder] = []
        self.refusals: list[tuple[int, str]] = []
        self.ended = 0
        self.waits = False
        self.fails = False

    def gotRequest(self, request: IVisitorRequest) -> None:
        if self.fails:
            raise RuntimeError("a defect")
        self.requests.append(request)
        if not self.waits:
            self.exchanges.append(Recorder())
            request.accept(self.exchanges[-1])

    def refused(self, status: int, details: str, head: RequestHead | None) -> Response:
        self.refusals.append((status, details))
        return Response(status, b"no")

    def cancelled(self, request: IVisitorRequest) -> None:
        self.cancellations.append(request)

    def connectionEnded(self) -> None:
        self.ended += 1


class Http2Peer:
    """What the two kinds of peers have in common."""

    transport: FlowTransport

    def __init__(self) -> None:
        self.clock = Clock()
        self.sweep = Sweep(self.clock)
        self.encoder = Encoder()
        self.frames: list[Sent] = []
        self._decoder = Decoder()
        self._fields: dict[int, list[dict[str, str]]] = {}
        self._data = b""

    def send(self, *frames: bytes) -> None:
        """Let frames arrive, as one piece, and the connection answer them."""
        self.transport.deliver(b"".join(frames))
        self.turn()

    def turn(self) -> None:
        """Let the reactor take turns until nothing is left to do, and take all that was written."""
        isOver = False
        while not isOver:
            self.clock.advance(0)
            self.transport.pump()
            isOver = not self.transport.outgoing.bufferedBytes
            self._receive(self.transport.takeWritten())
            isOver &= all(each.getTime() > self.clock.seconds() for each in self.clock.getDelayedCalls())

    def elapse(self, seconds: float) -> None:
        """Let time go by."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            self.turn()

    def _receive(self, data: bytes) -> None:
        self._data += data
        if self._data.startswith(PREFACE):
            self._data = self._data[len(PREFACE) :]
        while len(self._data) >= 9:
            length = int.from_bytes(self._data[:3])
            if len(self._data) < 9 + length:
                return
            kind, flags, stream = unpack(">BBL", self._data[3:9])
            sent = Sent(kind, flags, stream, self._data[9 : 9 + length])
            self._data = self._data[9 + length :]
            self.frames.append(sent)
            if kind == HEADERS:
                assert flags & END_HEADERS
                fields = self._decoder.decode(sent.payload, raw=True)
                self._fields.setdefault(stream, []).append({str(n, "latin-1"): str(v, "latin-1") for n, v in fields})

    # -- What came

    def of(self, kind: int, stream: int | None = None) -> list[Sent]:
        """The frames of a type, of a stream."""
        return [each for each in self.frames if each.kind == kind and stream in (None, each.stream)]

    def heads(self, stream: int) -> list[dict[str, str]]:
        """The header lists of a stream."""
        return self._fields.get(stream, [])

    def body(self, stream: int) -> bytes:
        """The payload of a stream."""
        return b"".join(each.payload for each in self.of(DATA, stream))

    def ended(self, stream: int) -> bool:
        """Whether a stream was ended as it should."""
        return any(each.ends and each.stream == stream for each in self.frames)

    def resetCode(self, stream: int) -> ErrorCodes | None:
        """How a stream was reset."""
        return next((each.code for each in self.of(RST_STREAM, stream)), None)

    def goAwayCode(self) -> ErrorCodes | None:
        """How the connection was ended, the last time that it was said."""
        return next((each.code for each in reversed(self.of(GOAWAY))), None)

    def credit(self, stream: int) -> int:
        """What a window was opened by."""
        return sum([int.from_bytes(each.payload) for each in self.of(WINDOW_UPDATE, stream)])

    @property
    def isClosed(self) -> bool:
        return self.transport.disconnecting or self.transport.disconnected or self.transport.aborted

    # -- What to send

    def headers(
        self,
        stream: int,
        fields: list[tuple[str, str]],
        *,
        end: bool = False,
        flags: int = END_HEADERS,
        priority: bytes = b"",
    ) -> bytes:
        """A frame of HEADERS."""
        block = priority + self.encoder.encode(fields)
        flags |= (END_STREAM if end else 0) | (PRIORITY_FLAG if priority else 0)
        return frame(HEADERS, flags, stream, block)

    def data(self, stream: int, data: bytes = b"", *, end: bool = False, padding: int | None = None) -> bytes:
        """A frame of DATA."""
        flags = END_STREAM if end else 0
        if padding is None:
            return frame(DATA, flags, stream, data)
        return frame(DATA, flags | PADDED, stream, bytes([padding]) + data + bytes(padding))


_HTTP2 = {each.name for each in dataclasses.fields(Http2Limits)}


def settingsOf(limits: dict[str, Any]) -> HttpSettings:
    """Settings by the names of limits, whichever of the two classes has them."""
    http2 = {name: limit for name, limit in limits.items() if name in _HTTP2}
    return HttpSettings(http2=Http2Limits(**http2), **{name: limits[name] for name in limits.keys() - _HTTP2})


class Http2Visitor(Http2Peer):
    """
    A visitor of an L{Http2ServerConnection}.

    @param settings: of ours, as they are sent.
    """

    def __init__(
        self,
        settings: bytes = b"",
        *,
        owner: Owner | None = None,
        begins: bool = True,
        capacity: int = 1 << 30,
        transport: type[FlowTransport] = FlowTransport,
        **limits: Any,
    ) -> None:
        super().__init__()
        self.owner = owner or Owner()
        self.connection = Http2ServerConnection(self.owner, settings=settingsOf(limits), sweep=self.sweep)
        self.transport = transport(self.connection, capacity=capacity)
        if begins:
            self.send(PREFACE, frame(SETTINGS, 0, 0, settings))
            self.frames.clear()

    def request(
        self, stream: int, *more: tuple[str, str], end: bool = True, method: str = "GET", body: bytes = b""
    ) -> IVisitorRequest:
        """
        Send a request.

        @param body: with it the request ends.
        @return: what the owner was given.
        """
        fields = [(":method", method), *REQUEST[1:], *more]
        self.send(self.headers(stream, fields, end=end and not body))
        if body:
            self.send(self.data(stream, body, end=True))
        return self.owner.requests[-1]


@implementer(IHttp2OriginOwner)
class PoolOfOne:
    """An owner of a connection to an origin."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def idle(self, connection: Http2ClientConnection) -> None:
        self.events.append("idle")

    def lost(self, connection: Http2ClientConnection) -> None:
        self.events.append("lost")


class Http2Origin(Http2Peer):
    """
    The origin at the other end of an L{Http2ClientConnection}.

    @param settings: of ours, as they are sent.
    """

    def __init__(self, settings: bytes = b"", *, begins: bool = True, capacity: int = 1 << 30, **limits: Any) -> None:
        super().__init__()
        self.pool = PoolOfOne()
        self.connection = Http2ClientConnection(self.pool, settings=settingsOf(limits), sweep=self.sweep)
        self.transport = FlowTransport(self.connection, capacity=capacity)
        if begins:
            self.send(frame(SETTINGS, 0, 0, settings), frame(SETTINGS, ACK, 0))
            self.frames.clear()

    def ask(
        self, *more: tuple[str, str], method: str = "GET", length: int | None = 0
    ) -> tuple[IOriginRequest, Recorder]:
        """Let a request be sent."""
        exchange = Recorder()
        head = RequestHead(method, "/", "2", [("host", "a.example"), *more])
        request = self.connection.send(head, length, exchange)
        self.turn()
        return request, exchange


def setting(number: int, value: int) -> bytes:
    """One setting, as it is sent."""
    return pack(">HL", number, value)
