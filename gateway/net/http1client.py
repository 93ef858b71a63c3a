"""
The origin's end of HTTP/1.1: a connection, or an agent's stream, that carries one request after another.

It writes a request as it comes, reads the response as it comes, and says when it can take the next::

    connection = HttpClientConnection(pool, settings=HttpSettings(), sweep=sweep)
    endpoint.connect(Prepared(connection))
    request = connection.send(RequestHead("GET", "/", "1.1", [("host", "a.example")]), 0, exchange)
    request.finish()                            # exchange.gotResponse(head, length), ... then pool.idle(connection)

An origin is not trusted to keep to the protocol. What comes before there was a request, or behind a response, might be
taken for the response to somebody else's request: a connection on which such a thing came carries no other.

Length: the states of one connection, and what each of them makes of bytes, of its exchange's verbs and of an end.
"""

__all__ = ["HttpClientConnection", "IOriginOwner"]

import re
from enum import Enum, auto

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from gateway.net.direct import Buffer, readDirectly
from gateway.net.http1writer import MessageWriter
from gateway.net.httpinterfaces import (
    Fields,
    IExchange,
    IOriginConnection,
    IOriginRequest,
    OriginLost,
    OriginProblem,
)
from gateway.net.httpsettings import HttpSettings
from gateway.net.interfaces import IStreamTransport
from gateway.net.relay import Half
from gateway.net.sweep import ISwept, Sweep
from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead, encodeRequestHead, parseResponseHead
from gateway.wire.http1body import UNTIL_CLOSE, BodyReader, endToEnd, keepsAlive, responseLength

_END = b"\r\n\r\n"

_TIMEOUT = re.compile(r"timeout\s*=\s*([0-9]{1,6})", re.ASCII | re.IGNORECASE)

_SWITCHING = 101

_INFORMATIONAL = 32
"""Informational responses to one request, at most."""

_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
"""Methods of which no body is said to be none (RFC 9110, section 8.6). Of others, some origins overlook a body."""


class IOriginOwner(Interface):
    """Who owns connections to an origin."""

    def idle(connection: "HttpClientConnection") -> None:
        """The connection may be given another request."""

    def lost(connection: "HttpClientConnection") -> None:
        """The connection carries no more requests. Called once, last."""


class _State(Enum):
    """What the next byte is."""

    IDLE = auto()
    """Not to come: there is no request."""

    HEAD = auto()
    """A response's head."""

    BODY = auto()
    """Its body."""

    RELAY = auto()
    """A relay's."""

    OVER = auto()
    """Of no use to anybody."""


@implementer(IOriginRequest)
class _Request:
    """
    See L{IOriginRequest}. Once it is over its verbs do nothing.

    @ivar isClear: no origin takes its body for another request.
    """

    __slots__ = ("_connection", "exchange", "isClear", "isComplete", "method", "wantsUpgrade")

    def __init__(
        self, connection: "HttpClientConnection", head: RequestHead, length: int | None, exchange: IExchange
    ) -> None:
        self.method = head.method
        self.exchange = exchange
        self.isClear = length == 0 or head.method in _WITH_BODY
        self.isComplete = False
        self.wantsUpgrade = False
        self._connection = connection

    def write(self, data: Buffer) -> None:
        self._connection.write(self, data)

    def finish(self, trailers: Fields = ()) -> None:
        self._connection.finish(self, trailers)

    def pauseProducing(self) -> None:
        self._connection.pauseResponse(self)

    def resumeProducing(self) -> None:
        self._connection.resumeResponse(self)

    def detach(self, far: Half) -> None:
        self._connection.detach(self, far)

    def abort(self) -> None:
        self._connection.abort(self)


@implementer(IHalfCloseableProtocol, IPushProducer, IOriginConnection, ISwept)
class HttpClientConnection(Protocol):
    """
    To be given a transport, and after that, requests.

    @param owner: told when it is idle again, and when it is over.
    @ivar isReused: it has carried an exchange before.
    @ivar keptFor: seconds for which the origin keeps it while it is idle, less one; C{None}: it did not say.
    """

    transport: IStreamTransport

    def __init__(self, owner: IOriginOwner, *, settings: HttpSettings, sweep: Sweep) -> None:
        self.isReused = False
        self.keptFor: float | None = None
        self._owner = owner
        self._settings = settings
        self._sweep = sweep
        self._state = _State.IDLE
        self._data = b""  # what was read and not looked at
        self._request: _Request | None = None
        self._body: BodyReader | None = None
        self._half: Half | None = None
        self._informed = 0
        self._keeps = False
        self._isAnswering = False  # a byte of the response has come
        self._isPaused = False  # the exchange takes no more of it
        self._isFull = False  # the origin has enough for now
        self._isLost = False
        self._endsCleanly: bool | None = None  # what the end was that waits for the exchange to go on
        self._closed: float | None = None  # when that was noticed

    def connectionMade(self) -> None:
        self._writer = MessageWriter(self.transport, self._sweep)
        self.transport.registerProducer(self, True)
        readDirectly(self.transport, self.dataReceived)

    # -- The request

    def send(self, head: RequestHead, length: int | None, exchange: IExchange) -> IOriginRequest:
        if self._state is not _State.IDLE:
            raise LocalProtocolError("a request on a connection that is not idle")
        self._request = request = _Request(self, head, length, exchange)
        self._state = _State.HEAD
        self._informed = 0
        self._isAnswering = False
        self._writer.begin(encodeRequestHead(self._framed(request, head, length)), length)
        return request

    def _framed(self, request: _Request, head: RequestHead, length: int | None) -> RequestHead:
        """The head with what is for this connection, and what frames the body."""
        given = dict(head.headers)
        fields = head.headers
        if length is None:
            fields = [*(each for each in fields if each[0] != "content-length"), ("transfer-encoding", "chunked")]
        elif "content-length" not in given and (length or head.method in _WITH_BODY):
            fields = [*fields, ("content-length", str(length))]
        if "upgrade" in given:
            request.wantsUpgrade = True
            fields = [*fields, ("connection", "upgrade")]
        return head if fields is head.headers else RequestHead(head.method, head.target, head.version, fields)

    def write(self, request: _Request, data: Buffer) -> None:
        if request is self._request and not self._writer.write(data):
            raise LocalProtocolError("a body that is longer than was said")

    def finish(self, request: _Request, trailers: Fields) -> None:
        if request is self._request and not request.isComplete:
            request.isComplete = True
            if not self._writer.end(trailers):
                raise LocalProtocolError("a body that is shorter than was said")

    def abort(self, request: _Request) -> None:
        if request is self._request:
            self._close(abort=True)

    # -- The response

    def dataReceived(self, data: Buffer) -> None:
        if self._isPaused or self._data:
            self._data += data  # while it is paused, what a transport had in hand by then
            if not self._isPaused:
                self._readOn()
        else:
            self._got(data)

    def _readOn(self) -> None:
        data, self._data = self._data, b""
        self._got(data)

    def _got(self, data: Buffer) -> None:
        state = self._state
        if state is _State.BODY:
            self._gotBody(data)
        elif state is _State.HEAD:
            self._gotHead(bytes(data))
        elif state is _State.RELAY:
            assert self._half is not None
            self._half.dataReceived(data)
        elif state is _State.IDLE:
            self._close(abort=True)

    def _gotHead(self, data: bytes) -> None:
        request, settings = self._request, self._settings
        assert request is not None
        self._isAnswering = True
        while True:
            try:
                head = parseResponseHead(data, settings.originHeadLimit, settings.originHeadFields)
                if head is None:
                    self._data = data
                    return
                length = responseLength(head, request.method)
                isFinal = self._isFinal(request, head)
            except RemoteProtocolError as e:
                self._fail(OriginProblem.BAD_RESPONSE, e.details)
                return
            data = data[data.index(_END) + len(_END) :]
            if isFinal:
                break
            request.exchange.gotInformational(
                ResponseHead(head.status, head.reason, head.version, endToEnd(head.headers))
            )
            if request is not self._request:
                return
            if self._isPaused or not data:
                self._data = data
                return
        if head.status == _SWITCHING:
            self._switch(request, head, data)
            return
        self._keeps = request.isClear and length != UNTIL_CLOSE and keepsAlive(head)
        self._readKeepAlive(head)
        self._body = body = BodyReader(length)
        self._state = _State.BODY
        request.exchange.gotResponse(
            ResponseHead(head.status, head.reason, head.version, endToEnd(head.headers)),
            None if length == UNTIL_CLOSE else length,
        )
        if request is not self._request:
            return
        if body.isDone or not self._isPaused:
            self._gotBody(data)
        else:
            self._data = data

    def _isFinal(self, request: _Request, head: ResponseHead) -> bool:
        """
        @raise RemoteProtocolError: the head is not due.
        """
        if head.status >= 200:
            return True
        if head.status == _SWITCHING:
            if not request.wantsUpgrade:
                raise RemoteProtocolError("bad-response", "The origin switched protocols, and was not asked to.")
            return True
        self._informed += 1
        if self._informed > _INFORMATIONAL:
            raise RemoteProtocolError("bad-response", "There is no end to the origin's informational responses.")
        return False

    def _readKeepAlive(self, head: ResponseHead) -> None:
        for name, value in head.headers:
            if name == "keep-alive" and (match := _TIMEOUT.search(value)):
                self.keptFor = max(0.0, float(match[1]) - 1)

    def _gotBody(self, data: Buffer) -> None:
        request, body = self._request, self._body
        assert request is not None and body is not None
        try:
            pieces, rest = body.receive(data)
        except RemoteProtocolError as e:
            self._fail(OriginProblem.BAD_RESPONSE, e.details)
            return
        for piece in pieces:
            request.exchange.gotResponseBody(piece)
            if request is not self._request:
                return
        if body.isDone:
            self._keeps = self._keeps and not rest
            self._answered(request, body)

    def _answered(self, request: _Request, body: BodyReader) -> None:
        """The response is complete."""
        if self._keeps and request.isComplete and not self._isFull and self._endsCleanly is None:
            self._request = None
            self._state = _State.IDLE
            self.isReused = True
            self._resume()
            self._owner.idle(self)
        else:
            self._close(abort=self._isFull or not request.isComplete)
        request.exchange.gotResponseEnd(body.trailers)

    def _switch(self, request: _Request, head: ResponseHead, rest: bytes) -> None:
        if self._endsCleanly is not None:
            self._fail(OriginProblem.CUT_OFF, "The origin switched protocols, and hung up.")
            return
        self._state = _State.RELAY
        fields = [*endToEnd(head.headers), ("upgrade", ", ".join(head.members("upgrade")))]
        request.exchange.gotUpgrade(ResponseHead(head.status, head.reason, head.version, fields))
        if self._half is None:
            self.abort(request)
        elif rest:
            self._half.dataReceived(rest)

    def detach(self, request: _Request, far: Half) -> None:
        if request is not self._request:
            return
        if self._state is not _State.RELAY:
            raise LocalProtocolError("a connection whose origin did not switch protocols")
        self._request = None
        self._half = far
        self.transport.unregisterProducer()
        self._resume()
        self._owner.lost(self)
        far.makeConnection(self.transport)

    def pauseResponse(self, request: _Request) -> None:
        if request is self._request and not self._isPaused:
            self._isPaused = True
            if not self._isLost:
                self.transport.pauseProducing()

    def resumeResponse(self, request: _Request) -> None:
        if request is not self._request or not self._isPaused:
            return
        self._resume()
        if self._data:
            self._readOn()
        if self._endsCleanly is not None and request is self._request and not self._isPaused:
            self._ended(isClean=self._endsCleanly)

    def _resume(self) -> None:
        if self._isPaused:
            self._isPaused = False
            if not self._isLost:
                self.transport.resumeProducing()

    # -- The origin's pace: IPushProducer

    def pauseProducing(self) -> None:
        if not self._isFull:
            self._isFull = True
            if self._request is not None:
                self._request.exchange.pauseRequest()

    def resumeProducing(self) -> None:
        if self._isFull:
            self._isFull = False
            if self._request is not None:
                self._request.exchange.resumeRequest()

    def stopProducing(self) -> None:
        """The transport is gone, as L{connectionLost} says."""

    # -- Ending

    def _fail(self, problem: OriginProblem, details: str) -> None:
        request = self._request
        assert request is not None
        self._close(abort=True)
        request.exchange.originLost(OriginLost(problem, details, self.isReused))

    def close(self) -> None:
        """An idle connection is not needed any more. Nothing happens to one that is not idle."""
        if self._state is _State.IDLE:
            self._close(abort=False)

    def _close(self, *, abort: bool) -> None:
        self._state = _State.OVER
        self._request = None
        self._data = b""
        if not self._isLost:
            if abort:
                self.transport.abortConnection()
            else:
                self.transport.unregisterProducer()
                self._resume()
                self.transport.loseConnection()
                if not self._isLost:
                    self._sweep.watch(self)
        self._owner.lost(self)

    def check(self, now: float) -> None:
        """L{ISwept}: it was closed, and is still there."""
        if self._closed is None:
            self._closed = now
        elif now - self._closed > self._settings.lingerTimeout:
            self._sweep.forget(self)
            self.transport.abortConnection()

    def _ended(self, *, isClean: bool) -> None:
        """Nothing more comes."""
        if self._data and self._isPaused:
            if self._endsCleanly is None:
                self._endsCleanly = isClean  # and what waits comes before
            return
        request, body = self._request, self._body
        if request is None:
            self._close(abort=False)
            return
        if self._state is not _State.BODY or body is None:
            if self._isAnswering:
                self._fail(OriginProblem.CUT_OFF, "The origin hung up in the middle of a response.")
            else:
                self._fail(OriginProblem.UNANSWERED, "The origin hung up without a response.")
            return
        try:
            body.ended()
        except RemoteProtocolError:
            isClean = False
        if isClean:
            self._answered(request, body)
        else:
            self._fail(OriginProblem.CUT_OFF, "The origin hung up in the middle of a response.")

    def readConnectionLost(self) -> None:
        if self._half is not None:
            self._half.readConnectionLost()
        elif self._state is not _State.OVER:
            self._ended(isClean=True)

    def writeConnectionLost(self) -> None:
        if self._half is not None:
            self._half.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._half is not None:
            self._half.connectionLost(reason)
            return
        self._isLost = True
        self._sweep.forget(self)
        if self._state is not _State.OVER:
            self._ended(isClean=reason.check(ConnectionDone) is not None)
