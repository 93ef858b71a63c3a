"""
A visitor's request in HTTP/1.1 or 1.0, and how it is answered: in the frame that a response's length calls for and that
the visitor understands (RFC 9112, sections 6 and 9).

L{gateway.net.http1server} reads the request and decides what becomes of the connection; this is what it hands to those
who answer::

    request.respond(ResponseHead(200, "OK", "1.1", [("content-type", "text/plain")]), 3)
    request.write(b"yes")
    request.finish()
"""

__all__ = ["IRequestConnection", "VisitorRequest"]

from zope.interface import Attribute, Interface, implementer

from gateway.net.direct import Buffer
from gateway.net.http1writer import MessageWriter
from gateway.net.httpinterfaces import Fields, IExchange, IVisitorRequest
from gateway.net.relay import Half
from gateway.wire.errors import LocalProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead, encodeResponseHead
from gateway.wire.http1body import UNTIL_CLOSE, endToEnd, keepsAlive

_OURS_ALONE = frozenset(("h2c", "http", "tls"))
"""Protocols to which no origin may switch a connection: what came then would be requests that nobody looked at."""

_CONTINUE = 100
_NO_CONTENT = 204
_NOT_MODIFIED = 304


class IRequestConnection(Interface):
    """What a request needs of the connection that it came on."""

    writer: MessageWriter = Attribute("Writes to the visitor.")

    def accepted() -> None:
        """The request has an exchange, which wants the body."""

    def pauseBody() -> None:
        """Hand over no more of the body for now."""

    def resumeBody() -> None:
        """Go on with the body."""

    def bodyIsComplete() -> bool:
        """Whether all of the body has come."""

    def bodyIsDue() -> None:
        """The visitor, who waited for it, was told to send the body."""

    def answered(keeps: bool) -> None:
        """
        The request is over, and its response was written.

        @param keeps: whether the visitor was told that the connection goes on.
        """

    def upgraded(near: Half) -> None:
        """The request is over, and what comes is not HTTP any more."""

    def abort() -> None:
        """The request is over: break off."""


@implementer(IVisitorRequest)
class VisitorRequest:
    """
    See L{IVisitorRequest}. Once it is over its verbs do nothing.

    @ivar keeps: whether the connection goes on after the response, as far as is known.
    @ivar expects: whether the visitor waits for a 100 before the body (RFC 9110, section 10.1.1).
    @ivar exchange: who is told about it.
    @ivar isAnswered: its response has begun.
    @ivar isOver: it is over.
    """

    __slots__ = (
        "_connection",
        "_hasBody",
        "canUpgrade",
        "exchange",
        "expects",
        "head",
        "isAnswered",
        "isOver",
        "keeps",
        "length",
    )

    def __init__(self, connection: IRequestConnection, head: RequestHead, length: int | None) -> None:
        """
        @param head: as it was read and checked.
        """
        fields = endToEnd(head.headers)
        isModern = head.version != "1.0"
        given = dict(head.headers)
        self.expects = "expect" in given and isModern and "100-continue" in head.tokens("expect")
        self.canUpgrade = False
        if "upgrade" in given and isModern and length == 0 and "upgrade" in head.tokens("connection"):
            protocols = head.members("upgrade")
            if protocols and not any(each.partition("/")[0].lower() in _OURS_ALONE for each in protocols):
                self.canUpgrade = True
                fields.append(("upgrade", ", ".join(protocols)))
        self.head = RequestHead(head.method, head.target, head.version, fields)
        self.length = length
        self.keeps = keepsAlive(head)
        self.exchange: IExchange | None = None
        self.isAnswered = False
        self.isOver = False
        self._connection = connection
        self._hasBody = True

    def accept(self, exchange: IExchange) -> None:
        self.exchange = exchange
        if self.isOver:
            exchange.visitorLost("The visitor had gone away.")
        else:
            self._connection.accepted()

    def pauseProducing(self) -> None:
        if not self.isOver:
            self._connection.pauseBody()

    def resumeProducing(self) -> None:
        if not self.isOver:
            self._connection.resumeBody()

    def inform(self, head: ResponseHead) -> None:
        if self.isOver or self.isAnswered or self.head.version == "1.0":
            return
        if head.status == _CONTINUE and self.expects:
            self.expects = False
            self._connection.bodyIsDue()
        self._connection.writer.interject(encodeResponseHead(head))

    def respond(self, head: ResponseHead, length: int | None) -> None:
        if self.isOver:
            return
        self.isAnswered = True
        if self.expects and not self._connection.bodyIsComplete():
            self.keeps = False  # whether the visitor will send the body after all is theirs to decide
        fields, length = self._framed(head, length)
        if not self.keeps:
            fields.append(("connection", "close"))
        elif self.head.version == "1.0":
            fields.append(("connection", "keep-alive"))
        self._connection.writer.begin(encodeResponseHead(ResponseHead(head.status, head.reason, "1.1", fields)), length)

    def _framed(self, head: ResponseHead, length: int | None) -> tuple[list[tuple[str, str]], int | None]:
        """
        @return: the head's fields with those that frame the body, and the length of what will be written.
        """
        fields, status = list(head.headers), head.status
        if self.head.method == "HEAD" or status in (_NO_CONTENT, _NOT_MODIFIED):
            self._hasBody = False
            if status == _NO_CONTENT:  # of the others it says how long the body would have been
                fields = [each for each in fields if each[0] != "content-length"]
            return fields, 0
        if length is None:
            fields = [each for each in fields if each[0] != "content-length"]
            if self.head.version == "1.0":
                self.keeps = False
                return fields, UNTIL_CLOSE
            fields.append(("transfer-encoding", "chunked"))
            return fields, None
        for name, _ in fields:
            if name == "content-length":
                break
        else:
            fields.append(("content-length", str(length)))
        return fields, length

    def write(self, data: Buffer) -> None:
        if self._hasBody and not self.isOver and not self._connection.writer.write(data):
            self.abort()  # longer than was said: what came behind would look like another response

    def finish(self, trailers: Fields = ()) -> None:
        if self.isOver:
            return
        if not self._connection.writer.end(trailers):
            self.abort()
            return
        self.isOver = True
        self.exchange = None  # which knows this one: together they would be garbage that has to be looked for
        self._connection.answered(self.keeps)

    def lose(self, details: str) -> None:
        """It is over, and nothing can be said any more."""
        self.isOver = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.visitorLost(details)

    def upgrade(self, head: ResponseHead, near: Half) -> None:
        if self.isOver:
            return
        if not self.canUpgrade:
            raise LocalProtocolError("an upgrade that was not asked for")
        self.isOver = True
        self.exchange = None
        fields = [*head.headers, ("connection", "upgrade")]
        self._connection.writer.interject(encodeResponseHead(ResponseHead(head.status, head.reason, "1.1", fields)))
        self._connection.upgraded(near)

    def abort(self) -> None:
        if not self.isOver:
            self.isOver = True
            self.exchange = None
            self._connection.abort()
