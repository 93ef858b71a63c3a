"""
PipeGate's own dialect at the client: each message is a request to the application, and its response a message back::

    line = JsonLine(reactor, LocalPool(...), owner)
    channel.opened(line)                            # as the receiver of a WebSocket
    line.drain(10.0, "")                            # no more requests, and those that there are end

An application that cannot be reached is told of by a 504 without anything else, as by PipeGate's own client, and what
cannot be carried by a 502 that says so.
"""

__all__ = ["JsonLine", "LocalRequests"]

import re

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.budget import StallBudget
from gateway.net.dial import DialFailed
from gateway.net.direct import Buffer
from gateway.net.exchange import DONE, IDEMPOTENT, Exchange
from gateway.net.http1client import HttpClientConnection
from gateway.net.httpinterfaces import Fields, IExchange, IVisitorRequest, OriginLost
from gateway.net.httppool import OriginPool
from gateway.net.httpsettings import HttpSettings
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.muxdeadlines import monotonic
from gateway.net.relay import Half
from gateway.net.sweep import Sweep
from gateway.net.timer import Timer
from gateway.service.agent.dialledsession import IClientSession, IClientSessionOwner, SessionEnd, explainLoss
from gateway.service.agent.visitlog import visitFailed
from gateway.service.draining import Vacancy
from gateway.service.pipegate.jsonrequest import Held, JsonLimits
from gateway.service.pipegate.local import LocalURL
from gateway.wire.agentcontrol import SessionError
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.pipegate import MAX_RESPONSE, RequestMessage, ResponseMessage, decodeRequest, encode

_PROTOCOL_ERROR = 1002
_POLICY = 1008
_GOING_AWAY = 1001

_TOO_LONG = "The response is too long for PipeGate's messages."

# Applications differ in what they decode, and drop, before they look for "..": nginx an encoded slash, Tomcat what
# comes after a semicolon, others a backslash.
_SLASH = r"(?:[/\\]|%2f|%5c)"
_LEADS_OUT = re.compile(rf"(?:^|{_SLASH})(?:\.|%2e){{2}}(?:$|;|%3b|{_SLASH})", re.IGNORECASE)


class LocalRequests:
    """
    Makes requests to one application.

    @param endpoint: leads to it.
    @ivar held: what the responses that are being collected hold.
    """

    def __init__(
        self,
        clock: IReactorTime,
        local: LocalURL,
        endpoint: IStreamClientEndpoint,
        limits: JsonLimits = JsonLimits(),  # noqa: B008 -- frozen
    ) -> None:
        self.clock = clock
        self.local = local
        self.held = Held(limits)
        self.budget = StallBudget()
        self.sweep = Sweep(clock)
        self.pool = OriginPool(lambda: endpoint, settings=HttpSettings(), sweep=self.sweep)

    def headFor(self, head: RequestHead) -> RequestHead:
        """
        A request as the application gets it.

        @raise RemoteProtocolError: C{invalid-message}: it would lead out of the path that is published.
        """
        path = self.local.path
        if path and _LEADS_OUT.search(head.path):
            raise RemoteProtocolError("invalid-message", "The path leads out of what is published.")
        fields = head.headers
        if head.get("host") is None:
            fields = [("host", self.local.authority), *fields]
        return RequestHead(head.method, path + head.target, "1.1", fields)


@implementer(IWebSocketReceiver, IPushProducer, IClientSession)
class JsonLine:
    """
    One connection to a server. It produces responses: while the server does not take them, no requests are read.

    @param requests: where its requests lead.
    """

    def __init__(self, clock: IReactorTime, requests: LocalRequests, owner: IClientSessionOwner) -> None:
        self.requests = requests
        self.attachedAt: float | None = None
        self._clock = clock
        self._owner = owner
        self._channel: IWebSocketChannel | None = None
        self._visits: dict[_MessageRequest, _LocalVisit] = {}
        self._vacancy = Vacancy(self._visits)
        self._problem = ""
        self._isDraining = False
        self._deadline = Timer(clock)

    @property
    def load(self) -> int:
        """Requests that are under way."""
        return len(self._visits)

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self._channel = channel
        channel.registerProducer(self, True)
        self.attachedAt = monotonic(self._clock)()
        self._owner.attached(self)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._problem:
            return
        try:
            if isBinary:
                raise RemoteProtocolError("invalid-message", "A message is text, and this one is binary.")
            message = decodeRequest(payload)
        except RemoteProtocolError as e:
            self._end(_PROTOCOL_ERROR, f"The server does not keep to the protocol: {e.details}")
            return
        requests = self.requests
        if self._isDraining or self.load >= requests.held.limits.requestsPerID:
            self.refuse(message, 503, "The client has no room for another request at the moment.")
            return
        try:
            head, body = message.read()
            head = requests.headFor(head)
        except RemoteProtocolError as e:
            self.refuse(message, 400, e.details)
            return
        request = _MessageRequest(self, message, head, body)
        self._visits[request] = visit = _LocalVisit(requests, request)
        visit.dial()

    def lost(self, reason: Failure) -> None:
        self._deadline.stop()
        channel, self._channel = self._channel, None
        for visit in tuple(self._visits.values()):
            visit.visitorLost("The server is gone.")
        if channel is not None:
            self._owner.sessionOver(self, self._endOf(channel, reason))

    def _endOf(self, channel: IWebSocketChannel, reason: Failure) -> SessionEnd:
        if channel.closeCode == _POLICY and not self._problem:
            # A server of ours says so to one of two that run twice, which otherwise would take turns.
            return SessionEnd("The server sent the client away.", SessionError.REPLACED)
        said = str(reason.value) if not reason.check(ConnectionDone) else ""
        return SessionEnd(self._problem or said or explainLoss(reason, "server"))

    # -- IPushProducer, for the channel

    def pauseProducing(self) -> None:
        if self._channel is not None:
            self._channel.pauseProducing()

    def resumeProducing(self) -> None:
        if self._channel is not None:
            self._channel.resumeProducing()

    def stopProducing(self) -> None:
        """The channel is gone, which C{lost} tells."""

    # -- For visits

    def send(self, text: str) -> None:
        """Say this, if there is somebody to hear it."""
        if self._channel is not None:
            self._channel.sendText(text)

    def refuse(self, message: RequestMessage, status: int, details: str) -> None:
        """Answer without the application."""
        head = ResponseHead(status, "", "1.1", [("content-type", "text/plain; charset=utf-8")])
        self.send(encode(ResponseMessage.of(message.correlationID, "GET", head, f"{details}\n".encode())))

    def answered(self, request: "_MessageRequest") -> None:
        """A request is over."""
        self._visits.pop(request, None)
        self._vacancy.left()

    # -- IClientSession

    def drain(self, seconds: float, reason: str) -> None:
        self._isDraining = True
        self._deadline.start(seconds, self.close)
        self._vacancy.awaited().addCallback(lambda _: self.close())

    def close(self) -> None:
        self._end(_GOING_AWAY, "The client is stopping.")

    def _end(self, code: int, problem: str) -> None:
        self._problem = self._problem or problem
        if self._channel is not None:
            self._channel.close(code, problem)


@implementer(IVisitorRequest)
class _MessageRequest:
    """
    A message as a request of a visitor's, whose response is collected.
    """

    canUpgrade = False
    _exchange: IExchange

    def __init__(self, line: JsonLine, message: RequestMessage, head: RequestHead, body: bytes) -> None:
        self.head = head
        self.length = len(body)
        self._line = line
        self._message = message
        self._requestBody = body
        self._response: ResponseHead | None = None
        self._body = bytearray()
        self._held = 0
        self._isAnswered = False

    def accept(self, exchange: IExchange) -> None:
        self._exchange = exchange
        if self._requestBody:
            exchange.gotRequestBody(self._requestBody)
        exchange.gotRequestEnd(())

    def respond(self, head: ResponseHead, length: int | None) -> None:
        self._response = head

    def write(self, data: Buffer) -> None:
        if self._isAnswered:
            return
        held = self._line.requests.held
        if len(self._body) + len(data) > MAX_RESPONSE or not held.take(len(data)):
            self.refuse(502, _TOO_LONG)
            self._exchange.visitorLost(_TOO_LONG)
            return
        self._held += len(data)
        self._body += data

    def finish(self, trailers: Fields = ()) -> None:
        if self._isAnswered:
            return
        assert self._response is not None
        try:
            message = ResponseMessage.of(
                self._message.correlationID, self.head.method, self._response, bytes(self._body)
            )
        except RemoteProtocolError as e:
            self.refuse(502, e.details)
            return
        text = encode(message)
        if len(text.encode()) > MAX_RESPONSE:  # of quotes and line ends JSON makes two bytes each
            self.refuse(502, _TOO_LONG)
            return
        self._answer(text)

    def refuse(self, status: int, details: str) -> None:
        """Answer this instead of a response."""
        if not self._isAnswered:
            self._isAnswered = True
            self._line.refuse(self._message, status, details)
            self._over()

    def fail(self) -> None:
        """The application is not there."""
        if not self._isAnswered:
            self._answer(encode(ResponseMessage(self._message.correlationID, "", "", 504)))

    def _answer(self, text: str) -> None:
        self._isAnswered = True
        self._line.send(text)
        self._over()

    def _over(self) -> None:
        self._body.clear()
        self._line.requests.held.size -= self._held
        self._held = 0
        self._line.answered(self)

    def abort(self) -> None:
        self.fail()

    def inform(self, head: ResponseHead) -> None:
        """A message is a final response."""

    def upgrade(self, head: ResponseHead, near: Half) -> None:
        """
        @raise NotImplementedError: always, as L{canUpgrade} is false.
        """
        raise NotImplementedError

    def pauseProducing(self) -> None:
        """All of the body is there."""

    resumeProducing = pauseProducing


class _LocalVisit(Exchange):
    """One request to the application."""

    _log = Logger()

    def __init__(self, requests: LocalRequests, request: _MessageRequest) -> None:
        super().__init__(requests.clock, request, request.head, requests.budget)
        self._requests = requests
        self._message = request
        self._dial: Deferred[HttpClientConnection] | None = None
        self._deadline = Timer(self.clock)
        self._deadline.start(requests.held.limits.timeout, self._late)

    def dial(self, *, fresh: bool = False) -> None:
        pool = self._requests.pool
        connection = None if fresh else pool.take(self.head.method in IDEMPOTENT)
        if connection is not None:
            self.connected(connection)
            return
        self._dial = pool.dial()
        self._dial.addCallbacks(self._dialled, self._undialled)

    def _dialled(self, connection: HttpClientConnection) -> None:
        self._dial = None
        self.connected(connection)

    def _undialled(self, failure: Failure) -> None:
        self._dial = None
        if not self.isOver:
            self.unreached(DialFailed.fromFailure(failure))

    def unreached(self, problem: DialFailed) -> None:
        self._fail(str(problem.kind), problem.details)

    def originFailed(self, lost: OriginLost) -> None:
        self._fail(lost.problem, lost.details)

    def _late(self) -> None:
        self._fail("timeout", "The application did not answer in time.")

    def _fail(self, cause: str, problem: str) -> None:
        visitFailed(self._log, str(self._requests.local), problem)
        self.end(cause)

    def ended(self, cause: str) -> None:
        self._deadline.stop()
        if self._dial is not None:
            self._dial.cancel()
        if cause != DONE:
            self._message.fail()  # if it was not answered: nobody waits in vain, and nothing is held
