"""
The interfaces between the ends of an HTTP exchange, whatever version each of them speaks.

An I{exchange} is one request and its response. A visitor's connection reads requests (L{IVisitorRequest}, a request of
HTTP/1's or a stream of HTTP/2's), a connection to an origin takes one (L{IOriginRequest}), and an L{IExchange} stands
between the two and is told what each of them does. So two versions on one side and two on the other are four classes
and not eight, and what a gateway decides is in one place::

    class Echo:                                 # the smallest IExchange: answers by itself
        def gotRequestEnd(self, trailers): self.request.respond(ResponseHead(204, "No Content", "1.1", []), 0)

Heads are as L{gateway.wire.http1} has them: names in lower case. Those that are for one connection (Connection,
Transfer-Encoding, Keep-Alive, Upgrade...) are each connection's own: it takes them off what it read, after looking at
them, and puts its own on what it writes. Everything else goes through an exchange as it is, Content-Length too: who
writes a head drops it where the length is not known, and adds it where it is missing and the length is.

All callbacks may come from inside of a verb that was called; none comes after C{visitorLost}, C{originLost} or the end
of its own side.
"""

__all__ = [
    "Fields",
    "IExchange",
    "IOriginConnection",
    "IOriginRequest",
    "IVisitorOwner",
    "IVisitorRequest",
    "OriginLost",
    "OriginProblem",
]

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from zope.interface import Attribute, Interface

from gateway.net.direct import Buffer
from gateway.net.interfaces import IStreamTransport
from gateway.net.relay import Half
from gateway.wire.http1 import RequestHead, Response, ResponseHead

Fields = Sequence[tuple[str, str]]
"""Names in lower case and values, as in a head."""


class OriginProblem(StrEnum):
    """What ended an exchange from the origin's side."""

    UNANSWERED = "unanswered"
    """The connection ended before a byte of the response."""

    CUT_OFF = "cut-off"
    """It ended in the middle of the response."""

    BAD_RESPONSE = "bad-response"
    """What came is no response of HTTP's."""


@dataclass(frozen=True, slots=True)
class OriginLost:
    """
    The origin's side is over, and not as it should be.

    @ivar details: a sentence for a person.
    @ivar isReused: the connection had carried another exchange before, so that its end may have crossed this request.
    @ivar isUnseen: the origin says that it has not looked at the request (HTTP/2: C{REFUSED_STREAM}, or a C{GOAWAY}
        that passes it over), so that it may be sent again whatever its method is.
    """

    problem: OriginProblem
    details: str
    isReused: bool = False
    isUnseen: bool = False


class IExchange(Interface):
    """
    Who is told what the two ends of an exchange do.
    """

    # -- By the visitor's end

    def gotRequestBody(data: Buffer) -> None:
        """
        A piece of the request's body. Only after L{IVisitorRequest.accept}.

        @param data: never empty; valid until this returns.
        """

    def gotRequestEnd(trailers: Fields) -> None:
        """The request is complete. Called once, after C{accept}, for a request without a body as well."""

    def pauseResponse() -> None:
        """The visitor does not take more at the moment."""

    def resumeResponse() -> None:
        """The visitor takes more again."""

    def visitorLost(details: str) -> None:
        """
        The visitor went away, cancelled the request, or broke the rules in its body (and was answered, where that was
        possible). Nothing can be said to them any more.
        """

    # -- By the origin's end

    def gotInformational(head: ResponseHead) -> None:
        """A response of 1xx other than 101, of which there may be several before the real one."""

    def gotResponse(head: ResponseHead, length: int | None) -> None:
        """
        The head of the response.

        @param length: bytes of body to come, as far as known; C{None}: not known. 0 for what has no body (RFC 9112,
            section 6.3), whatever its Content-Length says.
        """

    def gotResponseBody(data: Buffer) -> None:
        """
        A piece of the response's body.

        @param data: never empty; valid until this returns.
        """

    def gotResponseEnd(trailers: Fields) -> None:
        """The response is complete, though the request may not be."""

    def gotUpgrade(head: ResponseHead) -> None:
        """The origin said 101: C{IOriginRequest.detach} and C{IVisitorRequest.upgrade} are due at once."""

    def pauseRequest() -> None:
        """The origin does not take more at the moment."""

    def resumeRequest() -> None:
        """The origin takes more again."""

    def originLost(lost: OriginLost) -> None:
        """The origin's end is over before the response was complete."""


class IVisitorRequest(Interface):
    """
    A visitor's request, and the way to answer it. The one who is told of it (C{gotRequest} of a connection's owner)
    calls C{accept} or C{respond} at once or later; nothing of the body is handed over before.
    """

    head = Attribute(
        "The L{RequestHead}, of version 1.0, 1.1 or 2. The target begins with a slash, or is *. There is exactly one"
        " host header, which HTTP/2's :authority becomes (none only in HTTP/1.0), and none that are for the connection,"
        " except upgrade, where an upgrade is asked for and possible."
    )
    length = Attribute("Bytes of body; C{None}: unknown, and there may be trailers; 0: no body.")
    canUpgrade = Attribute("Whether L{upgrade} may be called: the request asks for it, in HTTP/1.1.")

    def accept(exchange: IExchange) -> None:
        """Tell this exchange about the request from now on, its body first of all."""

    def pauseProducing() -> None:
        """Hand over no more of the body for now."""

    def resumeProducing() -> None:
        """Go on with the body."""

    def inform(head: ResponseHead) -> None:
        """Send a response of 1xx; nothing happens where the visitor's version has none."""

    def respond(head: ResponseHead, length: int | None) -> None:
        """
        Send the response's head.

        @param length: as in L{IExchange.gotResponse}. The connection frames the body by it and by the request's method.
        """

    def write(data: Buffer) -> None:
        """
        Send a piece of the response's body. Dropped where the response has none, as after HEAD.

        @param data: not kept.
        """

    def finish(trailers: Fields = ()) -> None:
        """
        The response is complete. What is left of the request's body is not handed over any more: it is read and
        dropped within a limit, or the connection is closed (HTTP/1) or the stream reset (HTTP/2).
        """

    def upgrade(head: ResponseHead, near: Half) -> None:
        """
        Send a 101 and become the near side of a relay, which gets the connection's transport (C{makeConnection}) and
        all bytes that came behind the request. Only where C{canUpgrade}.

        @param head: with the origin's upgrade header, and none of Connection's.
        """

    def abort() -> None:
        """Break off: what was sent of the response may not look whole. No callbacks come after that."""


class IVisitorOwner(Interface):
    """Who owns a visitor's connection."""

    def gotRequest(request: IVisitorRequest) -> None:
        """A request's head is there, and proper."""

    def refused(status: int, details: str, head: RequestHead | None) -> Response:
        """
        What came is no proper request, or too late, or too much: the connection answers and closes. That of HTTP/2
        answers only where the request could be read, and resets the stream or ends the connection otherwise.

        @param status: of HTTP.
        @param details: a sentence for a person.
        @param head: of the request, where it could be read.
        @return: what to answer.
        """

    def cancelled(request: IVisitorRequest) -> None:
        """The visitor took back a request that nobody has accepted, and goes on with others (HTTP/2)."""

    def connectionEnded() -> None:
        """The connection is over, or has become a relay's. Called once, last."""


class IOriginRequest(Interface):
    """
    A request on its way to an origin: what a connection to an origin returns when it is given one.
    """

    def write(data: Buffer) -> None:
        """
        Send a piece of the request's body.

        @param data: not kept.
        """

    def finish(trailers: Fields = ()) -> None:
        """The request is complete. Called for one without a body as well."""

    def pauseProducing() -> None:
        """Hand over no more of the response for now."""

    def resumeProducing() -> None:
        """Go on with the response."""

    def detach(far: Half) -> None:
        """
        After C{gotUpgrade}: become the far side of a relay, which gets the connection's transport
        (C{makeConnection}), and, once it has been joined, what came behind the 101 (as C{far.dataReceived}).
        """

    def abort() -> None:
        """Give up. No callbacks come after that; the connection is not used again (HTTP/1), or the stream reset."""


class IOriginConnection(Interface):
    """A connection to an origin, or an agent's stream to one."""

    isReused = Attribute("Whether it has carried an exchange before.")
    transport: IStreamTransport

    def send(head: RequestHead, length: int | None, exchange: IExchange) -> IOriginRequest:
        """
        Begin a request. Of HTTP/1 one at a time.

        @param head: complete, but for what is for the connection; with C{upgrade} where that is wanted.
        @param length: as that of an L{IVisitorRequest}.
        """
