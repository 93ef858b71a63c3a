"""
The visitor's end of HTTP/1: a connection that carries one request after another.

Requests are read one at a time. What comes behind one waits, as bytes, until it is answered, so that pipelined requests
are answered in order, and a visitor who sends many costs no more than one who sends a few::

    connection = HttpServerConnection(owner, settings=HttpSettings(), sweep=sweep)
    transport.protocol = connection             # or return it from buildProtocol, or let a Peek become it
    connection.drain()                          # the present request is the last

What holds:

  1. A request is handed over when its head is complete and unambiguous, and nothing of its body before it is accepted.
     What is wrong is answered once (L{IVisitorOwner.refused}), and the connection closed, since nobody knows where the
     next request would begin.
  2. Reading follows the one who takes the body, and the response the visitor who takes it: whoever does not holds up
     the other end alone, and no request is read while the response before it still waits.
  3. Each thing that a visitor may be slow with has a limit in L{HttpSettings}.
  4. A visitor that only ended its sending is answered all the same, where the transport tells that apart.
  5. A connection that is closed over unread bytes is reset, and the response with it. So it ends its own sending first,
     and reads on for a moment.

Length: the states of one connection, and what each of them makes of bytes, of the clock and of an end. What is said in
one of them is L{gateway.net.http1request}'s, and the last of them L{gateway.net.lingering}'s.
"""

__all__ = ["HttpServerConnection"]

from enum import Enum, auto

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct import Buffer, letGo, limitUnsent, readDirectly
from gateway.net.http1request import IRequestConnection, VisitorRequest
from gateway.net.http1writer import MessageWriter
from gateway.net.httpinterfaces import IVisitorOwner
from gateway.net.httpsettings import HttpSettings
from gateway.net.interfaces import IStreamTransport
from gateway.net.lingering import Lingering, Taking
from gateway.net.relay import Half
from gateway.net.sweep import ISwept, Sweep
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, parseRequestHead
from gateway.wire.http1body import BodyReader, checkRequest, requestLength

_STATUS = {
    "head-too-large": 431,
    "method-refused": 405,
    "unsupported-coding": 501,
    "uri-too-long": 414,
    "version": 505,
}
"""Of what is wrong with a head; everything else is a 400."""

_CUT_OFF = "The connection ended before the body did."

_END = b"\r\n\r\n"

_KEPT = 16 * 1024
"""Bytes that may wait to be looked at before reading is paused."""

_AT_ONCE = 8
"""Requests that are answered at once before others get a turn: a read may hold ten thousand, and be a second's work."""

# The reasons for which reading may be paused; it resumes when none is left.
_WAITING = 1
_EXCHANGE = 2


class _State(Enum):
    """What the next byte is, or what is waited for."""

    HEAD = auto()
    """A request's head."""

    BODY = auto()
    """The body of the present one."""

    RESPONSE = auto()
    """What comes waits until the present request is accepted, or answered."""

    UNREAD = auto()
    """The rest of the body of one that was answered."""

    OVER = auto()
    """It is for somebody else, or for nobody."""


@implementer(IHalfCloseableProtocol, IPushProducer, IRequestConnection, ISwept)
class HttpServerConnection(Protocol):
    """
    See the module's text. To be given a transport, plain or TLS after its handshake.

    @param owner: told of each request, and of the end.
    """

    transport: IStreamTransport
    writer: MessageWriter

    def __init__(self, owner: IVisitorOwner, *, settings: HttpSettings, sweep: Sweep) -> None:
        self._owner = owner
        self._settings = settings
        self._sweep = sweep
        self._state = _State.HEAD
        self._data = b""  # what was read and not looked at
        self._request: VisitorRequest | None = None
        self._body: BodyReader | None = None  # of the request; None: it has none
        self._successor: Half | Lingering | None = None
        self._count = 0
        self._paused = 0
        self._isReading = False
        self._isFull = False  # the visitor has enough for now
        self._isLast = False  # no request after the present one
        self._readEnded = False
        self._isLost = False
        self._taking: Taking | None = None
        self._since: float | None = None  # when the present state was first looked at
        self._received = 0  # of the body
        self._receivedBefore = 0

    def connectionMade(self) -> None:
        limitUnsent(self.transport)  # a thousand who do not read would fill the memory that all of TCP has
        self.writer = MessageWriter(self.transport, self._sweep)
        self.transport.registerProducer(self, True)
        readDirectly(self.transport, self.dataReceived)
        self._sweep.watch(self)

    # -- Reading

    def dataReceived(self, data: Buffer) -> None:
        state = self._state
        if state is _State.HEAD:
            if not self._data:
                self._since = None
                self._data = bytes(data)
            else:
                self._data += data
            self._readHeads()
        elif state is _State.BODY:
            self._gotBody(data)
        elif state is _State.RESPONSE:
            self._keep(data)
        elif state is _State.UNREAD:
            self._gotUnread(data)
        elif self._successor is not None:
            self._successor.dataReceived(data)

    def _keep(self, data: Buffer) -> None:
        self._data += data
        if len(self._data) >= _KEPT:
            self._pause(_WAITING)

    def _readHeads(self) -> None:
        """Hand over what requests there are, one after the other."""
        if self._isReading:
            return  # one that is answered at once; the loop below goes on with the next
        self._isReading = True
        left = _AT_ONCE
        while left and self._state is _State.HEAD and self._data and not self._isFull:
            if not self._readHead():
                break
            left -= 1
        self._isReading = False
        if self._state is not _State.HEAD or self._isFull:
            self._keep(b"")
        elif not left and self._data:
            self._pause(_WAITING)
            self._sweep.endOfTurn(self._readMore)
        elif self._readEnded:
            if self._data:
                self._refuse(400, "The connection ended before the request did.", None)
            else:
                self._end()
        else:
            self._resume(_WAITING)

    def _readMore(self) -> None:
        if self._state is _State.HEAD:
            self._readHeads()

    def _readHead(self) -> bool:
        """
        @return: whether there was a head.
        """
        data, settings, head = self._data, self._settings, None
        try:
            head = parseRequestHead(data, settings.headLimit, settings.headFields)
            if head is None:
                return False
            head = checkRequest(head)
            length = requestLength(head)
        except RemoteProtocolError as e:
            self._refuse(_STATUS.get(e.code, 400), e.details, head)
            return False
        self._data = data[data.index(_END) + len(_END) :]
        self._count += 1
        self._request = request = VisitorRequest(self, head, length)
        if self._isLast or self._count >= settings.requests:
            request.keeps = False
        self._body = None if length == 0 else BodyReader(length)
        self._received = self._receivedBefore = 0
        self._since = None
        self._state = _State.RESPONSE
        self._owner.gotRequest(request)
        return True

    def _gotBody(self, data: Buffer) -> None:
        request, body = self._request, self._body
        assert request is not None and body is not None
        exchange = request.exchange
        assert exchange is not None
        if self._paused & _EXCHANGE:
            self._data += data  # what a transport had in hand when it was paused
            return
        try:
            pieces, rest = body.receive(data)
        except RemoteProtocolError as e:
            self._broken(400, e.details)
            return
        self._received += len(data)
        if request.expects:  # not any more
            request.expects = False
            self._since = None
        if body.isDone:
            self._data = bytes(rest)  # before anybody can answer and so turn to the next
        for piece in pieces:
            exchange.gotRequestBody(piece)
            if request.isOver:
                return
        if body.isDone:
            self._state = _State.RESPONSE
            self._keep(b"")
            exchange.gotRequestEnd(body.trailers)

    def _gotUnread(self, data: Buffer) -> None:
        assert self._body is not None
        self._received += len(data)
        try:
            _, rest = self._body.receive(data)
        except RemoteProtocolError:
            self._end()
            return
        if self._body.isDone:
            self._data = bytes(rest)
            self._next()
        elif self._received - self._receivedBefore > self._settings.unreadLimit:
            self._end()

    def _next(self) -> None:
        self._state = _State.HEAD
        self._since = None
        if self._isLast:
            self._end()
        else:
            self._readHeads()

    # -- IRequestConnection

    def accepted(self) -> None:
        request = self._request
        assert request is not None and request.exchange is not None
        if self._body is None:
            request.exchange.gotRequestEnd(())
            return
        self._state = _State.BODY
        self._since = None
        self._readOn()

    def _readOn(self) -> None:
        """Go on with the body, first with what waits."""
        if self._data and not self._paused & _EXCHANGE:
            data, self._data = self._data, b""
            self._gotBody(data)
        if self._state is _State.BODY:
            self._resume(_WAITING)
            if self._readEnded and not self._data:
                self._broken(400, _CUT_OFF)

    def bodyIsComplete(self) -> bool:
        return self._body is None or self._body.isDone

    def bodyIsDue(self) -> None:
        self._since = None

    def pauseBody(self) -> None:
        if not self.bodyIsComplete():
            self._pause(_EXCHANGE)

    def resumeBody(self) -> None:
        self._resume(_EXCHANGE)
        if self._state is _State.BODY and not self.bodyIsComplete():
            self._readOn()

    def answered(self, keeps: bool) -> None:
        request, self._request = self._request, None
        assert request is not None
        self._resume(_EXCHANGE)
        body = self._body
        if not keeps:
            self._end()
        elif body is None or body.isDone:
            self._next()
        elif (request.length or 0) - self._received > self._settings.unreadLimit:
            self._end()
        else:
            self._state = _State.UNREAD
            self._since = None
            self._receivedBefore = self._received
            self._resume(_WAITING)
            if self._data:
                data, self._data = self._data, b""
                self._gotUnread(data)
            if self._readEnded and self._state is _State.UNREAD:
                self._end()

    def upgraded(self, near: Half) -> None:
        owner = self._owner  # as the end of the connection, which may come at once, forgets it
        self._become(near)
        owner.connectionEnded()

    def abort(self) -> None:
        self._request = None
        self._state = _State.OVER
        if not self._isLost:
            self.transport.abortConnection()

    # -- The visitor's pace: IPushProducer

    def pauseProducing(self) -> None:
        if not self._isFull:
            self._isFull = True
            if self._request is not None and self._request.exchange is not None:
                self._request.exchange.pauseResponse()

    def resumeProducing(self) -> None:
        if self._isFull:
            self._isFull = False
            self._taking = self._since = None
            if self._request is not None and self._request.exchange is not None:
                self._request.exchange.resumeResponse()
            elif self._state is _State.HEAD:
                self._readHeads()

    def stopProducing(self) -> None:
        """The transport is gone, as L{connectionLost} says."""

    def _pause(self, reason: int) -> None:
        if not self._paused and not self._isLost:
            self.transport.pauseProducing()
        self._paused |= reason

    def _resume(self, reason: int) -> None:
        if self._paused:
            self._paused &= ~reason
            # After its end a TCP transport would report that end again.
            if not (self._paused or self._isLost or self._readEnded):
                self.transport.resumeProducing()

    # -- Limits: ISwept

    def check(self, now: float) -> None:
        if self._isFull:
            if self._taking is None:
                self._taking = Taking(self.transport, self._settings, now)
            if self._taking.isOver(now):
                self._giveUp("The visitor does not take the response.")
            return
        if self._since is None:
            self._since = now
            return
        waited, settings = now - self._since, self._settings
        if self._state is _State.HEAD:
            if self._data:
                if waited > settings.headTimeout:
                    self._refuse(408, f"The request's head did not come within {settings.headTimeout:g} seconds.", None)
            elif waited > (settings.idleTimeout if self._count else settings.headTimeout):
                self._end()
        elif self._state is _State.BODY:
            self._checkBody(now, waited)
        elif self._state is _State.UNREAD and waited > settings.headTimeout:
            self._end()

    def _checkBody(self, now: float, waited: float) -> None:
        assert self._request is not None
        if self._paused:
            self._since = None  # it is not for the visitor to go on
        elif self._request.expects:  # and here it is the origin's, for as long as for a response
            if waited > self._settings.originHeadTimeout:
                self._broken(408, "The request's body did not come, and nobody asked for it.")
        elif waited >= self._settings.bodyGrace:
            if self._received - self._receivedBefore < self._settings.bodyRate * self._settings.bodyGrace:
                self._broken(408, "The request's body came too slowly.")
            self._receivedBefore = self._received
            self._since = now

    # -- Ending

    def _refuse(self, status: int, details: str, head: RequestHead | None) -> None:
        """Say what is wrong, and close."""
        response = self._owner.refused(status, details, head)
        self.writer.interject(response.encode(withBody=head is None or head.method != "HEAD"))
        self._end()

    def _broken(self, status: int, details: str) -> None:
        """The body of a request is not what it was to be."""
        request, self._request = self._request, None
        assert request is not None
        if request.isAnswered:
            self.abort()
        else:
            self._refuse(status, details, request.head)
        request.lose(details)

    def _giveUp(self, details: str) -> None:
        request = self._request
        self.abort()
        if request is not None:
            request.lose(details)

    def _end(self) -> None:
        """Close when all that was written has been sent."""
        if self._state is not _State.OVER:
            self._become(Lingering(self._settings, self._sweep, self._owner.connectionEnded))

    def _become(self, successor: Half | Lingering) -> None:
        """The transport, and what came and was not looked at, is for somebody else."""
        self._request = None
        self._state = _State.OVER
        self._successor = successor
        self._sweep.forget(self)
        self.writer.flush()
        self.transport.unregisterProducer()
        self._resume(self._paused)
        rest, self._data = self._data, b""
        successor.makeConnection(self.transport)
        if rest:
            successor.dataReceived(rest)
        if self._readEnded:
            successor.readConnectionLost()

    def drain(self) -> None:
        """Take no more requests: the present one is the last."""
        self._isLast = True
        if self._request is not None:
            self._request.keeps = False
        elif self._state is _State.HEAD and not self._data:
            self._end()

    def close(self) -> None:
        """End at once: a request that is not answered is cut off."""
        if self._request is not None:
            self._giveUp("The connection was closed.")
        elif not self._isLost:
            self._end()

    def readConnectionLost(self) -> None:
        if self._successor is not None:
            self._successor.readConnectionLost()
        elif not self._readEnded:
            self._readEnded = True
            if self._state is _State.HEAD:
                self._readHeads()
            elif self._state is _State.BODY and not self._data:
                self._broken(400, _CUT_OFF)
            elif self._state is _State.UNREAD:
                self._end()

    def writeConnectionLost(self) -> None:
        if self._successor is not None:
            self._successor.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        letGo(self.transport)
        if self._successor is not None:
            self._successor.connectionLost(reason)
            self._successor = None
            del self._owner  # or they and we would keep one another
            return
        self._isLost = True
        self._state = _State.OVER
        self._sweep.forget(self)
        request, self._request = self._request, None
        if request is not None:
            request.lose("The visitor went away.")
        self._owner.connectionEnded()
