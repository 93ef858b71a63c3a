"""
Visitors and origins with HTTP/2, of the same manners as those in L{tests.service.server.httpparties}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.task import Clock
from zope.interface import implementer

from gateway.net.direct import Buffer
from gateway.net.http2client import Http2ClientConnection, IHttp2OriginOwner
from gateway.net.http2server import Http2ServerConnection
from gateway.net.httpinterfaces import Fields, IOriginRequest, IVisitorOwner, IVisitorRequest, OriginLost
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.testing import FlowLink
from gateway.wire.http1 import RequestHead, Response, ResponseHead
from tests.net.httpends import Exchange
from tests.service.server.httpparties import HOST, Answer, Asked, words


class Stream(Exchange):
    """A request of a visitor's with HTTP/2, and what it got."""

    request: IOriginRequest
    answer: Answer | None = None
    isOver = False

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self.asked = asked
        self.left = words(asked.tag, asked.size)

    def send(self, size: int) -> None:
        """Send so much more of the body."""
        piece, self.left = self.left[:size], self.left[size:]
        if piece:
            self.request.write(piece)
            if not self.left:
                self.request.finish()

    def gotInformational(self, head: ResponseHead) -> None:
        """It comes before the answer."""
        assert self.answer is None

    def gotResponse(self, head: ResponseHead, length: int | None) -> None:
        """The answer begins."""
        assert self.answer is None
        self.answer = Answer(self.asked, head)

    def gotResponseBody(self, data: Buffer) -> None:
        """And goes on."""
        assert self.answer is not None
        self.answer.gotBody(bytes(data))

    def gotResponseEnd(self, trailers: Fields) -> None:
        """And ends."""
        assert self.answer is not None
        self.answer.gotEnd()
        self.isOver = True

    def originLost(self, lost: OriginLost) -> None:
        """Or does not."""
        self.isOver = True


@implementer(IHttp2OriginOwner)
class NewVisitor:
    """A visitor with HTTP/2."""

    link: FlowLink

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.connection = Http2ClientConnection(self, settings=HttpSettings(), sweep=Sweep(clock))
        self.streams: list[Stream] = []

    @property
    def isWaiting(self) -> bool:
        """Whether it may expect an answer."""
        return self.connection.isUsable and not all(stream.isOver for stream in self.streams)

    def idle(self, connection: Http2ClientConnection) -> None:
        """Nothing is left to be answered."""

    lost = idle

    def ask(self, method: str, size: int, manner: str) -> None:
        """Begin a request."""
        if not self.connection.canSend:
            return
        stream = Stream(Asked(f"{self.name}-{len(self.streams)}", method, size))
        self.streams.append(stream)
        head = RequestHead(method, f"/{stream.asked.tag}", "2", [("host", HOST), ("accept-encoding", "gzip")])
        stream.request = self.connection.send(head, None if manner == "chunked" and size else size, stream)
        if not size:
            stream.request.finish()

    def send(self, size: int) -> None:
        """Send so much more of the first request that has more."""
        for stream in self.streams:
            if stream.left and not stream.isOver:
                stream.send(size)
                return

    def leave(self, how: str) -> None:
        """Cancel the last request, or all."""
        if how == "half-close":
            if self.streams:
                self.streams[-1].isOver = True
                self.streams[-1].request.abort()
        elif self.connection.isUsable:
            self.connection.abortConnection() if how == "abort" else self.connection.disconnect("We leave.")


@implementer(IVisitorOwner)
class NewOrigin:
    """
    An origin's end of a connection.

    @param told: of each request.
    """

    def __init__(self, told: Callable[[IVisitorRequest], object], clock: Clock) -> None:
        self._told = told
        self.connection = Http2ServerConnection(self, settings=HttpSettings(), sweep=Sweep(clock))

    def gotRequest(self, request: IVisitorRequest) -> None:
        """Tell."""
        self._told(request)

    def refused(self, status: int, details: str, head: RequestHead | None) -> Response:
        """What the gateway sends is always proper."""
        raise AssertionError(details)

    def cancelled(self, request: IVisitorRequest) -> None:
        """All are accepted at once."""
        raise AssertionError(request)

    def connectionEnded(self) -> None:
        """What there was is lost, as it was told."""


class Incoming(Exchange):
    """
    A request that came to an origin, with what L{tests.service.server.httpparties.Origin} has.
    """

    link: FlowLink
    isOver = True
    switched = None
    body = None

    def __init__(
        self, request: IVisitorRequest, origin: NewOrigin, seen: Counter[str], find: Callable[[str], Asked]
    ) -> None:
        super().__init__()
        self.asked: RequestHead | None = request.head
        assert request.head.get("host") == HOST and request.head.get("x-forwarded-for")
        self.reason: str | None = None
        self.line = b""
        self._origin = origin
        self._request = request
        self._present = find(request.head.target[1:])
        self._received = bytearray()
        seen[self._present.tag] += 1
        request.accept(self)

    def gotRequestBody(self, data: Buffer) -> None:
        self._received += data
        assert self._received == words(self._present.tag, self._present.size)[: len(self._received)]

    def gotRequestEnd(self, trailers: Fields) -> None:
        assert len(self._received) == self._present.size

    def visitorLost(self, details: str) -> None:
        self.reason = details

    def answer(self, size: int, framing: str) -> None:
        """Have an answer to send; its first byte stands for its head."""
        tag = self._present.tag
        fields = [("tag", tag), ("size", str(size)), ("content-type", "text/plain")]
        self._head: ResponseHead | None = ResponseHead(200, "OK", "2", fields)
        self._length = size if framing == "length" else None
        self.line = b" " + (b"" if self._present.method == "HEAD" else words(tag, size))
        self.asked = None

    def send(self, size: int) -> None:
        """Send so much more."""
        if self.reason is not None or not size or not self.line:
            return
        if self._head is not None:
            self._request.respond(self._head, self._length)
            self._head, self.line = None, self.line[1:]
        if self.line:
            self._request.write(self.line[:size])
            self.line = self.line[size:]
        if not self.line:
            self._request.finish()

    def finish(self) -> None:
        """End an answer without a length."""
        self.send(len(self.line))

    def inform(self, status: int) -> None:
        """Say something before the answer."""
        self._request.inform(ResponseHead(status, "Now", "2", []))

    def switch(self) -> None:
        """There is no such thing."""

    def speakUnasked(self, what: bytes) -> None:
        """There is no such thing."""

    def hangUp(self, abort: bool) -> None:
        """Break off, or take no more requests."""
        if abort:
            self._request.abort()
            self.reason = "by itself"
        else:
            self._origin.connection.drain()
