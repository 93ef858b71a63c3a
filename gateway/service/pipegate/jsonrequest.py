"""
One request of a visitor's on its way through PipeGate's messages, the server's side: collected, sent, waited for, and
the response handed on at the visitor's pace::

    request = session.send(head, length, exchange)      # an IOriginRequest
    request.write(b"a=1")
    request.finish()                                    # now the client gets its message
    request.gotResponse(message)                        # and here is the answer

What is wrong is answered like a response, with the status that fits. A message holds a whole body, so all that is kept
of them is counted, in L{Held}.
"""

__all__ = ["SOON", "Held", "JsonLimits", "JsonRequest", "Refusal"]

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from zope.interface import implementer

from gateway.domain.httppolicy import HttpProblem
from gateway.net.direct import Buffer
from gateway.net.httpinterfaces import Fields, IExchange, IOriginRequest, OriginLost, OriginProblem
from gateway.net.relay import Half
from gateway.net.timer import Timer
from gateway.service.server.httppages import errorAnswer
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.pipegate import MAX_REQUEST, NOT_TEXT, RequestMessage, ResponseMessage, encode

if TYPE_CHECKING:
    from gateway.service.pipegate.jsonsession import JsonSession

SOON: Fields = (("Retry-After", "5"),)

_PIECE = 64 * 1024
"""Bytes of a response that are handed on at a time."""


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """
    What there may be of this dialect.

    @ivar message: bytes of the longest message that a client is sent: a request with a longer one is refused.
    @ivar timeout: seconds for a response.
    @ivar requests: that wait for responses, of all clients.
    @ivar requestsPerID: the same, of one session.
    @ivar memory: bytes of bodies that are kept.
    @ivar grace: seconds for which visitors wait for a client that was here a moment ago.
    """

    message: int = MAX_REQUEST
    timeout: float = 300.0
    requests: int = 1000
    requestsPerID: int = 100
    memory: int = 256 * 1024 * 1024
    grace: float = 5.0


class Held:
    """
    What all requests together hold.

    @ivar requests: how many wait for responses.
    @ivar size: bytes of bodies.
    """

    def __init__(self, limits: JsonLimits) -> None:
        self.limits = limits
        self.requests = 0
        self.size = 0

    def take(self, size: int) -> bool:
        """Whether there was room for so many bytes more."""
        if self.size + size > self.limits.memory:
            return False
        self.size += size
        return True


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Why there is no response.

    @ivar status: of HTTP.
    @ivar code: for programs.
    @ivar details: a sentence for a person.
    @ivar fields: of the answer, besides those of every page.
    """

    status: int
    code: str
    details: str
    fields: Fields = ()


@implementer(IOriginRequest)
class JsonRequest:
    """
    @param refusal: the answer, if it is known already.
    """

    def __init__(
        self, session: "JsonSession", identifier: str, head: RequestHead, exchange: IExchange, refusal: Refusal | None
    ) -> None:
        self._session = session
        self._identifier = identifier
        self._head = head
        self._exchange = exchange
        self._refusal = refusal
        self._received = bytearray()
        self._held = 0
        self._deadline = Timer(session.clock)
        self._response: memoryview | None = None
        self._isPaused = self._isDelivering = self._isOver = False
        if "100-continue" in head.tokens("expect"):
            self._deadline.start(0, self._goOn)  # not now: nobody is told of anything in the middle of send()

    def _goOn(self) -> None:
        """The visitor waits to be told that its body is wanted (RFC 9110, section 10.1.1), and no client says so."""
        if self._refusal is not None:
            self._refuse()
        else:
            self._exchange.gotInformational(ResponseHead(100, "Continue", "1.1", []))

    # -- IOriginRequest: the request

    def write(self, data: Buffer) -> None:
        limits = self._session.held.limits
        if self._refusal is None and len(self._received) + len(data) > limits.message:
            self._refusal = self._tooLarge()
        elif self._refusal is None and not self._hold(len(data)):
            self._refusal = Refusal(503, HttpProblem.UNAVAILABLE, "The gateway has no room for more requests.", SOON)
        if self._refusal is not None:
            self._refuse()  # not before somebody is told of it, which nobody is in the middle of send()
        else:
            self._received += data

    def finish(self, trailers: Fields = ()) -> None:
        if self._isOver or self._response is not None:
            return
        self._refusal = self._refusal or self._session.excess()
        text = self._message() if self._refusal is None else ""
        if self._refusal is not None:
            self._refuse()
            return
        self._received.clear()
        session = self._session
        self._deadline.start(session.held.limits.timeout, self._late)
        session.ask(self._identifier, text)

    def _message(self) -> str:
        try:
            text = encode(RequestMessage.of(self._identifier, self._head, bytes(self._received)))
        except RemoteProtocolError as e:
            isText = e.code != NOT_TEXT  # so it is the query
            self._refusal = Refusal(414 if isText else 502, HttpProblem.URI_TOO_LONG if isText else e.code, e.details)
            return ""
        if len(text.encode()) > self._session.held.limits.message:
            self._refusal = self._tooLarge()
        return text

    def _tooLarge(self) -> Refusal:
        limit = self._session.held.limits.message
        return Refusal(413, HttpProblem.BODY_TOO_LARGE, f"A request to this client takes up at most {limit} bytes.")

    def _hold(self, size: int) -> bool:
        if not self._session.held.take(size):
            return False
        self._held += size
        return True

    # -- The response

    def gotResponse(self, message: ResponseMessage) -> None:
        """The client's answer."""
        if self._isOver or self._response is not None:
            return
        try:
            head, body = message.read(self._head.method)
        except RemoteProtocolError as e:
            self._refusal = Refusal(502, e.code if e.code == NOT_TEXT else HttpProblem.BAD_RESPONSE, e.details)
            self._refuse()
            return
        if not self._hold(len(body)):
            self._refusal = Refusal(503, HttpProblem.UNAVAILABLE, "The gateway has no room for more responses.", SOON)
            self._refuse()
            return
        self._answer(head, body)

    def lost(self, details: str) -> None:
        """The client is gone, and its answer will not come."""
        if not self._isOver and self._response is None:
            self._end()
            self._exchange.originLost(OriginLost(OriginProblem.UNANSWERED, details))

    def _late(self) -> None:
        self._refusal = Refusal(504, HttpProblem.ORIGIN_TIMEOUT, "The client did not answer in time.")
        self._refuse()

    def _refuse(self) -> None:
        if self._isOver or self._response is not None:
            return
        assert self._refusal is not None
        refusal = self._refusal
        page = errorAnswer(refusal.status, refusal.code, refusal.details, self._head, refusal.fields)
        fields = [("content-type", page.contentType), ("cache-control", "no-store")]
        fields += [(name.lower(), value) for name, value in page.headers]
        head = ResponseHead(page.status, HTTPStatus(page.status).phrase, "1.1", fields)
        self._answer(head, b"" if self._head.method == "HEAD" else page.body)

    def _answer(self, head: ResponseHead, body: bytes) -> None:
        self._deadline.stop()
        self._session.answered(self._identifier)
        self._response = memoryview(body)
        self._exchange.gotResponse(head, len(body))
        self._deliver()

    def _deliver(self) -> None:
        if self._isDelivering or self._response is None:
            return
        self._isDelivering = True
        while self._response and not (self._isPaused or self._isOver):
            piece, self._response = self._response[:_PIECE], self._response[_PIECE:]
            self._exchange.gotResponseBody(piece)
        self._isDelivering = False
        if not (self._response or self._isOver):
            self._end()
            self._exchange.gotResponseEnd(())

    def pauseProducing(self) -> None:
        self._isPaused = True

    def resumeProducing(self) -> None:
        self._isPaused = False
        if self._response is not None and not self._isOver:
            self._deliver()

    # -- Its end

    def detach(self, far: Half) -> None:
        """
        @raise NotImplementedError: always, as there are no upgrades in this dialect.
        """
        raise NotImplementedError

    def abort(self) -> None:
        self._end()

    def _end(self) -> None:
        if not self._isOver:
            self._isOver = True
            self._deadline.stop()
            self._received.clear()
            self._response = None
            self._session.held.size -= self._held
            self._held = 0
            self._session.forget(self._identifier)
