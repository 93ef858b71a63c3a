"""
Both ends of an HTTP/1 exchange in memory, and those who stand where a gateway would and write down what they are told::

    visitor = Visitor()
    visitor.send(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    visitor.requests[0].respond(ResponseHead(204, "No Content", "1.1", []), 0)
    visitor.requests[0].finish()
    assert visitor.taken() == b"HTTP/1.1 204 No Content\\r\\n\\r\\n"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct import Buffer
from gateway.net.http1client import HttpClientConnection, IOriginOwner
from gateway.net.http1server import HttpServerConnection
from gateway.net.httpinterfaces import Fields, IExchange, IVisitorOwner, IVisitorRequest, OriginLost
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.testing import FlowTransport, TLSFlowTransport
from gateway.wire.http1 import RequestHead, Response, ResponseHead

SETTINGS = HttpSettings()
OK = ResponseHead(200, "OK", "1.1", [])


@implementer(IExchange)
class Exchange:
    """
    Writes down what it is told.

    @ivar events: names and arguments; pieces of one body that come one after the other are one.
    @ivar then: called with the name of each event.
    """

    def __init__(self, then: Callable[[str], object] = lambda name: None) -> None:
        self.events: list[tuple[str, Any]] = []
        self.then = then

    def _note(self, name: str, argument: Any = None) -> None:
        if name.endswith("Body") and self.events and self.events[-1][0] == name:
            argument = self.events.pop()[1] + argument
        self.events.append((name, argument))
        self.then(name)

    def names(self) -> list[str]:
        """@return: the events' names."""
        return [name for name, _ in self.events]

    def of(self, name: str) -> Any:
        """@return: the argument of the only event of this name."""
        (argument,) = [each for key, each in self.events if key == name]
        return argument

    def gotRequestBody(self, data: Buffer) -> None:
        assert data
        self._note("requestBody", bytes(data))

    def gotRequestEnd(self, trailers: Fields) -> None:
        self._note("requestEnd", list(trailers))

    def pauseResponse(self) -> None:
        self._note("pauseResponse")

    def resumeResponse(self) -> None:
        self._note("resumeResponse")

    def visitorLost(self, details: str) -> None:
        self._note("visitorLost", details)

    def gotInformational(self, head: ResponseHead) -> None:
        self._note("informational", head)

    def gotResponse(self, head: ResponseHead, length: int | None) -> None:
        self._note("response", (head, length))

    def gotResponseBody(self, data: Buffer) -> None:
        assert data
        self._note("responseBody", bytes(data))

    def gotResponseEnd(self, trailers: Fields) -> None:
        self._note("responseEnd", list(trailers))

    def gotUpgrade(self, head: ResponseHead) -> None:
        self._note("upgrade", head)

    def pauseRequest(self) -> None:
        self._note("pauseRequest")

    def resumeRequest(self) -> None:
        self._note("resumeRequest")

    def originLost(self, lost: OriginLost) -> None:
        self._note("originLost", lost)


@implementer(IHalfCloseableProtocol)
class Taker(Protocol):
    """Is given a transport in the place of a relay's half."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = b""

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.events.append("read ended")

    def writeConnectionLost(self) -> None:
        self.events.append("write ended")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")


@implementer(IVisitorOwner)
class Visitor:
    """
    A visitor, and the owner of its connection.

    @param then: called with each request; by default nothing is done about it.
    @param under: makes what is on the transport of the protocol that is to be.
    @ivar requests: that were handed over.
    @ivar refusals: status and details.
    @ivar ended: how often the owner was told of the end.
    """

    def __init__(
        self,
        then: Callable[[IVisitorRequest], object] = lambda request: None,
        *,
        settings: HttpSettings = SETTINGS,
        isTLS: bool = False,
        capacity: int = 65536,
        under: Callable[[IProtocol], IProtocol] = lambda protocol: protocol,
    ) -> None:
        self.clock = Clock()
        self.sweep = Sweep(self.clock)
        self.then = then
        self.requests: list[IVisitorRequest] = []
        self.refusals: list[tuple[int, str]] = []
        self.refusedHead: RequestHead | None = None
        self.ended = 0
        self.connection = HttpServerConnection(self, settings=settings, sweep=self.sweep)
        self.transport = (TLSFlowTransport if isTLS else FlowTransport)(under(self.connection), capacity=capacity)

    def gotRequest(self, request: IVisitorRequest) -> None:
        assert not self.ended
        self.requests.append(request)
        self.then(request)

    def refused(self, status: int, details: str, head: RequestHead | None) -> Response:
        self.refusals.append((status, details))
        self.refusedHead = head
        return Response(status, b"no", "text/plain")

    def cancelled(self, request: IVisitorRequest) -> None:
        raise AssertionError("there is no such thing in HTTP/1")

    def connectionEnded(self) -> None:
        self.ended += 1

    def send(self, data: bytes) -> None:
        """What the visitor sends."""
        self.transport.deliver(data)

    def sendEach(self, data: bytes) -> None:
        """The same, byte by byte."""
        for each in data:
            self.transport.deliver(bytes([each]))

    def taken(self) -> bytes:
        """@return: what reaches the visitor by the end of the turn."""
        self.clock.advance(0)
        return self.transport.takeWritten()

    def wait(self, seconds: int) -> None:
        """Let so much time pass, with a look every second."""
        self.clock.pump([1.0] * seconds)
        self.transport.pump()


def answer(request: IVisitorRequest, body: bytes = b"hi") -> None:
    """Answer with a 200 at once."""
    request.respond(OK, len(body))
    request.write(body)
    request.finish()


@implementer(IOriginOwner)
class Origin:
    """
    An origin, and the pool that its connection belongs to.

    @ivar told: C{idle} and C{lost}, as the pool is told.
    """

    def __init__(
        self,
        *,
        settings: HttpSettings = SETTINGS,
        isTLS: bool = False,
        capacity: int = 65536,
    ) -> None:
        self.clock = Clock()
        self.sweep = Sweep(self.clock)
        self.told: list[str] = []
        self.connection = HttpClientConnection(self, settings=settings, sweep=self.sweep)
        self.transport = (TLSFlowTransport if isTLS else FlowTransport)(self.connection, capacity=capacity)
        self.exchange = Exchange()

    def idle(self, connection: HttpClientConnection) -> None:
        assert connection is self.connection
        self.told.append("idle")

    def lost(self, connection: HttpClientConnection) -> None:
        assert connection is self.connection
        self.told.append("lost")

    def request(self, method: str = "GET", length: int | None = 0, fields: Fields = (("host", "a"),)) -> Any:
        """Send a request's head."""
        self.exchange = Exchange()
        return self.connection.send(RequestHead(method, "/", "1.1", list(fields)), length, self.exchange)

    def get(self, method: str = "GET") -> Any:
        """Send a request without a body, and take it."""
        request = self.request(method)
        request.finish()
        self.taken()
        return request

    def send(self, data: bytes) -> None:
        """What the origin sends."""
        self.transport.deliver(data)

    def taken(self) -> bytes:
        """@return: what reaches the origin by the end of the turn."""
        self.clock.advance(0)
        return self.transport.takeWritten()
