"""
An origin's end that speaks HTTP/2 without TLS and without asking first (h2c, RFC 9113, section 3.3): many exchanges on
one connection, or on one stream of an agent's.

It is for origins that are configured to speak it; gRPC's servers speak nothing else::

    connection = Http2ClientConnection(pool, settings=HttpSettings(), sweep=sweep)
    endpoint.connect(Prepared(connection))
    if connection.canSend:
        request = connection.send(RequestHead("POST", "/echo.Echo/Say", "2", [("host", "a.example")]), None, exchange)

Who has several of them asks C{canSend}, which changes with the answers that come, with the origin's settings, and for
good when the origin says that it takes no more.
"""

__all__ = ["Http2ClientConnection", "IHttp2OriginOwner"]

from dataclasses import replace

from h2.errors import ErrorCodes
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from gateway.net.http2carrier import Http2Carrier
from gateway.net.http2stream import Http2Stream
from gateway.net.httpinterfaces import (
    Fields,
    IExchange,
    IOriginConnection,
    IOriginRequest,
    OriginLost,
    OriginProblem,
)
from gateway.net.httpsettings import HttpSettings
from gateway.net.relay import Half
from gateway.net.sweep import Sweep
from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.http1 import RequestHead
from gateway.wire.http2 import Http2Connection
from gateway.wire.http2events import GoneAway, HeadReceived, Ponged, StreamReset
from gateway.wire.http2fields import requestFields, responseHead
from gateway.wire.http2frames import MAX_WINDOW

QUIET = 60.0
"""Seconds without a sign of life from an origin of which one is due, until it is asked for one."""

ANSWER = 20.0
"""Seconds for it."""

AGAIN = 300.0
"""Seconds until it is asked again. gRPC's servers hang up on who asks more often."""

_INFORMATIONAL = 32
"""Informational responses to one request, at most."""

_UNLIMITED = 2**53

_PING = b"alive?  "


class IHttp2OriginOwner(Interface):
    """Who owns connections to an origin."""

    def idle(connection: "Http2ClientConnection") -> None:
        """No exchange is left on the connection."""

    def lost(connection: "Http2ClientConnection") -> None:
        """The connection takes no more requests, though it may still carry some. Called once."""


@implementer(IOriginRequest)
class _Request(Http2Stream):
    """A stream of ours."""

    __slots__ = ("_exchange", "_informed", "_isAnswered", "_isReused", "_method")

    def __init__(self, connection: "Http2ClientConnection", method: str, exchange: IExchange) -> None:
        super().__init__(connection, 0)
        self._method = method
        self._exchange = exchange
        self._informed = 0
        self._isAnswered = False
        self._isReused = connection.isReused

    # -- IOriginRequest

    def finish(self, trailers: Fields = ()) -> None:
        self.end(trailers)

    def detach(self, far: Half) -> None:
        raise LocalProtocolError("there are no upgrades in HTTP/2")

    def abort(self) -> None:
        if not self.isOver:
            self.reset(ErrorCodes.CANCEL)

    # -- For the connection

    def gotHead(self, event: HeadReceived) -> None:
        """A head came."""
        if self.isOver:
            return
        try:
            head, length = responseHead(event.fields, ended=event.ended, method=self._method)
        except RemoteProtocolError as e:
            self.fault(e.details)
            return
        if head.status < 200:
            self._informed += 1
            if self._informed > _INFORMATIONAL:
                self.fault("There are too many informational responses.")
            else:
                self._exchange.gotInformational(head)
            return
        self._isAnswered = True
        self._left = length
        self._exchange.gotResponse(head, length)
        if event.ended:
            self.gotEnd(())

    def begin(self, fields: list[tuple[bytes, bytes]], *, isLast: bool) -> None:
        """Open the stream."""
        self.number = self._carrier.wire.open(fields, isLast=isLast)
        self._writeEnded = isLast

    # -- Http2Stream

    def canDeliver(self) -> bool:
        return True

    def deliver(self, data: bytes) -> None:
        self._exchange.gotResponseBody(data)

    def deliverEnd(self, trailers: Fields) -> None:
        if self._writeEnded:
            self.drop()
            self._carrier.forget(self)
        else:
            self.reset(ErrorCodes.CANCEL)  # whatever more of the request there is, nobody waits for it
        self._exchange.gotResponseEnd(trailers)

    def pauseSource(self) -> None:
        self._exchange.pauseRequest()

    def resumeSource(self) -> None:
        self._exchange.resumeRequest()

    def lost(self, code: int, details: str) -> None:
        if code == ErrorCodes.PROTOCOL_ERROR:
            problem = OriginProblem.BAD_RESPONSE
        else:
            problem = OriginProblem.CUT_OFF if self._isAnswered else OriginProblem.UNANSWERED
        isUnseen = code == ErrorCodes.REFUSED_STREAM and not self._isAnswered
        self._exchange.originLost(OriginLost(problem, details, self._isReused, isUnseen))

    def sentAll(self) -> None:
        """The response is what is waited for."""

    def stopped(self) -> bool:
        if self.ended:
            self._writeEnded = True
            self.dropUnsent()
        return self.ended


@implementer(IOriginConnection)
class Http2ClientConnection(Http2Carrier):
    """
    To be given a transport, and after that, requests.

    @param owner: told when it is idle, and when it is over.
    @ivar isReused: it has carried an exchange before.
    """

    def __init__(self, owner: IHttp2OriginOwner, *, settings: HttpSettings, sweep: Sweep) -> None:
        limits = replace(
            settings.http2,
            headerList=settings.originHeadLimit,
            # The streams are those of several visitors. If all together could have less than each may, some who do not
            # take their responses would keep all others from theirs.
            connectionWindow=min(settings.http2.streams * settings.http2.streamWindow, MAX_WINDOW),
            # Each stream that the origin gives up is one that we opened, and none is a reason to give up the others.
            resets=_UNLIMITED,
        )
        super().__init__(Http2Connection(client=True, limits=limits), sweep, settings)
        self.isReused = False
        self._owner: IHttp2OriginOwner | None = owner
        self._isBusy = False
        self._asked: float | None = None  # when a sign of life was asked for

    # -- IOriginConnection

    @property
    def canSend(self) -> bool:
        """Whether a request may be sent, now."""
        return self.isUsable and self._owner is not None and self.wire.openable > 0

    def send(self, head: RequestHead, length: int | None, exchange: IExchange) -> IOriginRequest:
        request = _Request(self, head.method, exchange)
        if not self.canSend:  # not any more, since it was asked
            request.isOver = True
            details = "The connection to the origin takes no more requests."
            self.sweep.endOfTurn(lambda: request.lost(ErrorCodes.REFUSED_STREAM, details))
            return request
        request.begin(requestFields(head, length), isLast=length == 0)
        self.streams[request.number] = request
        self.isReused = self._isBusy = True
        self.flushSoon()
        return request

    def close(self) -> None:
        """Take no more requests, and end when those that there are have been answered."""
        self._retire()
        if self.isUsable:
            self.settled()

    def _retire(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lost(self)

    # -- Http2Carrier

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.hearOut()  # what came before is not lost
        super().connectionLost(reason)

    def gotHead(self, event: HeadReceived) -> None:
        request = self.streams.get(event.stream)
        assert isinstance(request, _Request | None)
        if request is not None:
            request.gotHead(event)

    def gotGoneAway(self, event: GoneAway) -> None:
        self._retire()
        details = "The origin takes no more requests on this connection."
        for number, stream in list(self.streams.items()):
            if number > event.last:
                self.wire.reset(number, ErrorCodes.CANCEL)
                self.lose(stream, StreamReset(number, ErrorCodes.REFUSED_STREAM, False, details))

    def gotPong(self, event: Ponged) -> None:
        pass  # as good a sign of life as any other

    def failed(self, problem: RemoteProtocolError) -> None:
        for stream in list(self.streams.values()):
            self.lose(stream, StreamReset(stream.number, ErrorCodes.PROTOCOL_ERROR, True, problem.details))

    def ended(self, reason: Failure) -> None:
        self._retire()

    def settled(self) -> None:
        if self.streams:
            return
        if self._owner is None:
            if not self._full:
                self.wire.goAway(0, ErrorCodes.NO_ERROR)
                self.disconnect("The connection was to end.")
        elif self._isBusy:
            self._isBusy = False
            self._owner.idle(self)

    def look(self, now: float) -> None:
        if not self.streams:
            self._asked = None
            return
        if self._asked is not None and self.heard >= self._asked:
            if now - self._asked >= AGAIN:
                self._asked = None
        elif self._asked is not None:
            if now - self._asked >= ANSWER:
                self.abortConnection()
        elif now - self.heard >= QUIET:
            self._asked = now
            self.wire.ping(_PING)
            self.flushSoon()
