"""
A visitor's connection that speaks HTTP/2: each of its streams is a request (RFC 9113).

The protocol of a TLS connection on which C{h2} was agreed on; its owner is told of requests as that of an HTTP/1
connection is, and answers them the same way::

    Http2ServerConnection(owner, settings=HttpSettings(), sweep=sweep)

A request that breaks HTTP's rules loses its stream, one that breaks the connection's the connection: the owner is told
of both by C{refused}, and what it answers is only sent where the request could be read.
"""

__all__ = ["Http2ServerConnection"]

from dataclasses import replace

from h2.errors import ErrorCodes
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.exchange import reply
from gateway.net.http2carrier import Http2Carrier
from gateway.net.http2stream import Http2Stream
from gateway.net.httpinterfaces import Fields, IExchange, IVisitorOwner, IVisitorRequest
from gateway.net.httpsettings import HttpSettings
from gateway.net.relay import Half
from gateway.net.sweep import Sweep
from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.http2 import Http2Connection
from gateway.wire.http2events import GoneAway, HeadReceived, Ponged
from gateway.wire.http2fields import requestHead, responseFields
from gateway.wire.http2frames import MAX_WINDOW

_GOODBYE = b"draining"
"""The ping behind the first GOAWAY: when it is answered, all that was sent before the GOAWAY was read has come."""

_GOODBYE_TIMEOUT = 2.0
"""Seconds to wait for that."""

_LINGER = 1.0
"""Seconds between an answer and the reset of a request whose body goes on."""

_MUCH = 304 * 1024
"""Bytes of a response that have to be taken within the time for all of what may wait."""

_STATUSES = {"method-refused": 405, "ENHANCE_YOUR_CALM": 429}


@implementer(IVisitorRequest)
class _Request(Http2Stream):
    """A stream of a visitor's."""

    __slots__ = (
        "_connection",
        "_exchange",
        "_gave",
        "_hasBody",
        "_isAnswered",
        "_lingersSince",
        "_lostWith",
        "_took",
        "_tookMuch",
        "canUpgrade",
        "head",
        "length",
    )

    def __init__(self, connection: "Http2ServerConnection", number: int, head: RequestHead, length: int | None) -> None:
        super().__init__(connection, number)
        self._connection = connection
        self.head = head
        self.length = length
        self.canUpgrade = False
        self._left = length
        self._exchange: IExchange | None = None
        self._hasBody = True
        self._isAnswered = False
        self._lostWith: str | None = None
        self._lingersSince = 0.0
        now = connection.heard
        self._took = self._tookMuch = self._gave = (now, 0)  # when how many bytes had moved

    # -- IVisitorRequest

    def accept(self, exchange: IExchange) -> None:
        self._exchange = exchange
        if self._lostWith is not None:
            exchange.visitorLost(self._lostWith)
            return
        if self.isSourcePaused:
            exchange.pauseResponse()
        self.settle()

    def inform(self, head: ResponseHead) -> None:
        if not (self.isOver or self._isAnswered or head.status == 101):
            self._carrier.wire.sendFields(self.number, responseFields(head))
            self._carrier.flushSoon()

    def respond(self, head: ResponseHead, length: int | None) -> None:
        if self.isOver:
            return
        self._isAnswered = True
        self._hasBody = self.head.method != "HEAD" and head.status not in (204, 304)
        if head.status == 204:  # of the others a length says how long the body would have been
            head = replace(head, headers=[each for each in head.headers if each[0] != "content-length"])
        isLast = length == 0 or not self._hasBody
        fields = responseFields(head, length if self._hasBody else None)
        self._carrier.wire.sendFields(self.number, fields, isLast=isLast)
        self._writeEnded = isLast
        self._carrier.flushSoon()

    def finish(self, trailers: Fields = ()) -> None:
        if self.isOver:
            return
        self._exchange = None
        self.isFinished = True
        if self._writeEnded:
            self.sentAll()
        else:
            self._trailers = trailers
            self._carrier.wants(self)
            self._connection.finished(self)

    def upgrade(self, head: ResponseHead, near: Half) -> None:
        raise LocalProtocolError("there are no upgrades in HTTP/2")

    def abort(self) -> None:
        if not self.isOver:
            self._exchange = None
            self.reset(ErrorCodes.INTERNAL_ERROR)

    def tooSlow(self, now: float, settings: HttpSettings) -> str:
        """
        Look at the pace of the visitor.

        @return: what is wrong with it, if something is.
        """
        if not self.unsent:
            self._took = self._tookMuch = (now, self.sent)
        else:
            if self.sent != self._took[1]:
                self._took = (now, self.sent)
            if self.sent - self._tookMuch[1] >= _MUCH:
                self._tookMuch = (now, self.sent)
            if now - self._took[0] >= settings.takeTimeout or now - self._tookMuch[0] >= settings.takeLimit:
                return "The visitor does not take the response."
        # Whoever does not say how long a body is may be talking: gRPC's streams are silent for hours.
        since, taken = self._gave
        # Who was not told to go on waits for the origin, as long as for an answer.
        waits = not self.taken and self.head.get("expect") is not None
        if self.ended or self.length is None or self.isPaused or self._kept or self._exchange is None:
            self._gave = (now, self.taken)
        elif now - since >= (settings.originHeadTimeout if waits else settings.bodyGrace):
            if self.taken - taken < settings.bodyRate * settings.bodyGrace:
                return "The visitor sends the body too slowly."
            self._gave = (now, self.taken)
        return ""

    # -- Http2Stream

    def canDeliver(self) -> bool:
        return self._exchange is not None

    def deliver(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.gotRequestBody(data)

    def deliverEnd(self, trailers: Fields) -> None:
        if self._exchange is not None:
            self._exchange.gotRequestEnd(trailers)

    def pauseSource(self) -> None:
        if self._exchange is not None:
            self._exchange.pauseResponse()

    def resumeSource(self) -> None:
        if self._exchange is not None:
            self._exchange.resumeResponse()

    def lost(self, code: int, details: str) -> None:
        self._lostWith = details
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.visitorLost(details)
        elif not self._isAnswered:
            self._connection.cancelled(self)

    def sentAll(self) -> None:
        if not self.isFinished:
            return
        self.drop()
        if self.ended:
            self._carrier.forget(self)
        else:
            self._lingersSince = self._connection.heard

    def lingered(self, now: float) -> None:
        """
        After an answer that came before the end of the body, wait a little for that end. Many programs, such as curl
        before version 8, lose an answer whose stream is reset in the same breath.
        """
        if self.ended:
            self._carrier.forget(self)
        elif now - self._lingersSince >= _LINGER:
            # Said that way it does not take back the response (RFC 9113, section 8.1).
            self.reset(ErrorCodes.NO_ERROR)


class Http2ServerConnection(Http2Carrier):
    """
    @param owner: is told of requests, and of the end.
    """

    def __init__(self, owner: IVisitorOwner, *, settings: HttpSettings, sweep: Sweep) -> None:
        limits = replace(settings.http2, headerList=settings.headLimit)
        super().__init__(Http2Connection(client=False, limits=limits), sweep, settings)
        self._owner = owner
        self._requests = 0
        self._draining = self._goingAway = False
        self._goodbyeAt = self._quietSince = 0.0
        self._listSince: float | None = None

    # -- For the owner

    def drain(self) -> None:
        """
        Take no more requests, and close when those that there are have been answered. A visitor has been told before
        that its requests are not taken.
        """
        if self.isUsable and not (self._draining or self._goingAway):
            self._draining = True
            self._goodbyeAt = self.sweep.clock.seconds() + _GOODBYE_TIMEOUT
            self.wire.goAway(MAX_WINDOW, ErrorCodes.NO_ERROR)
            self.wire.ping(_GOODBYE)
            self.flushSoon()

    def close(self) -> None:
        """End the connection and all requests on it, after what the transport takes at once."""
        if self.isUsable:
            self._flush()
            self._lastRequest()
            self.disconnect("The gateway ends the connection.")

    def _lastRequest(self) -> None:
        if not self._goingAway:
            self._goingAway = True
            self.wire.goAway(self.wire.highest, ErrorCodes.NO_ERROR)
            self.flushSoon()

    def finished(self, request: _Request) -> None:
        """Nobody writes to a request any more, and what waits on it is nobody's but ours."""
        if self.backlog.finished(request):
            for each in list(self.streams.values()):
                if not (each.isSourcePaused or each.isFinished or each.isOver):
                    self.guard(each.number, self.backlog.pause, each)

    def cancelled(self, request: _Request) -> None:
        """A request is over, and nobody has accepted it."""
        self._owner.cancelled(request)

    # -- Http2Carrier

    def connectionMade(self) -> None:
        self._quietSince = self.sweep.clock.seconds()
        super().connectionMade()

    def gotHead(self, event: HeadReceived) -> None:
        self._quietSince = self.heard
        try:
            head, length = requestHead(event.fields, ended=event.ended)
        except RemoteProtocolError as e:
            self._refuse(event, e)
            return
        request = self.streams[event.stream] = _Request(self, event.stream, head, length)
        if self.backlog.isFull:
            self.backlog.pause(request)
        if event.size > self.settings.headLimit or len(head.headers) > self.settings.headFields:
            reply(request, self._owner.refused(431, "The request's head is too large.", head))
            return
        if event.ended:
            request.gotEnd(())
        self._requests += 1
        if self._requests >= self.settings.requests:
            self._lastRequest()
        self._owner.gotRequest(request)

    def _refuse(self, event: HeadReceived, problem: RemoteProtocolError) -> None:
        answer = self._owner.refused(_STATUSES.get(problem.code, 400), problem.details, None)
        if problem.code == ErrorCodes.PROTOCOL_ERROR.name:
            self.wire.reset(event.stream, ErrorCodes.PROTOCOL_ERROR, isFault=True)
            return
        request = self.streams[event.stream] = _Request(self, event.stream, RequestHead("GET", "/", "2", []), None)
        request.ended = event.ended
        reply(request, answer)

    def gotGoneAway(self, event: GoneAway) -> None:
        self._lastRequest()

    def gotPong(self, event: Ponged) -> None:
        if self._draining and event.data == _GOODBYE:
            self._lastRequest()

    def failed(self, problem: RemoteProtocolError) -> None:
        self._owner.refused(_STATUSES.get(problem.code, 400), f"{problem.code}: {problem.details}", None)

    def ended(self, reason: Failure) -> None:
        self._owner.connectionEnded()

    def settled(self) -> None:
        if self._goingAway and not (self.streams or self._full):
            self.disconnect("The connection was to end.")

    def look(self, now: float) -> None:
        settings = self.settings
        if self._draining and now >= self._goodbyeAt:
            self._lastRequest()
        if self.streams:
            self._quietSince = now
            for stream in list(self.streams.values()):
                if isinstance(stream, _Request) and stream.isOver:
                    stream.lingered(now)
                elif isinstance(stream, _Request) and (details := stream.tooSlow(now, settings)):
                    stream.reset(ErrorCodes.CANCEL)
                    self.tell(stream, ErrorCodes.CANCEL, details)
        elif now - self._quietSince >= (settings.idleTimeout if self.wire.hasSettings else settings.headTimeout):
            self._lastRequest()
            self.disconnect("Nothing comes.")
        if self.wire.isInList:
            self._listSince = self._listSince or now
            if now - self._listSince >= settings.headTimeout:
                self.disconnect("A header list does not end.")
        else:
            self._listSince = None
