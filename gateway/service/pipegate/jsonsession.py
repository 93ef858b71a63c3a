"""
A client of PipeGate's that is connected, in PipeGate's own dialect; the server's side.

To the doors it is an agent that takes requests, and no streams. Of a visitor's request it makes a message; whose
response comes back is in the response::

    session = JsonSession(dialect, "node", digest, peer="192.0.2.7", replica="")
    channel.accept(session)                                     # as the receiver of a WebSocket
    request = session.originFor(service, visitor).send(head, length, exchange)
"""

__all__ = ["CARRIER", "JsonSession", "serviceOf"]

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.httppolicy import HttpProblem
from gateway.domain.pipegate import AGENT_PREFIX, grantFor, hostNames
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.net.httpinterfaces import IExchange, IOriginConnection, IOriginRequest
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.service.pipegate.jsonrequest import SOON, Held, JsonRequest, Refusal
from gateway.service.server.attached import IHttpSession, Visitor
from gateway.service.server.attachedsession import AttachedSession
from gateway.wire.agentcontrol import Service, SessionError
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead
from gateway.wire.pipegate import METHODS, NOT_TEXT, decodeResponse

if TYPE_CHECKING:
    from gateway.service.pipegate.dialect import PipeGateDialect

CARRIER = "websocket, PipeGate"
"""What the session runs on, for people."""

_GOING_AWAY = 1001
_PROTOCOL_ERROR = 1002
_UNSUPPORTED_DATA = 1003
_POLICY = 1008


def serviceOf(identifier: str, domain: str = "") -> Service:
    """What a client serves: the paths below its id, and all of the name of that, if there is one."""
    return Service(key="app", kind="http", hostnames=hostNames(identifier, domain), prefixes=(f"/{identifier}",))


@implementer(IHttpSession, IOriginConnection, IWebSocketReceiver, IPushProducer)
class JsonSession(AttachedSession):
    """
    It produces messages: while the client does not take them they wait here, where that of a visitor who has left is
    dropped.

    @param digest: of the token that has proved it.
    @param peer: the client's address.
    @param replica: which of several clients of this id.
    @param gone: called when the connection is.
    """

    isReused = False

    def __init__(
        self,
        dialect: "PipeGateDialect",
        identifier: str,
        digest: str,
        *,
        peer: str,
        replica: str,
        gone: Callable[[], object],
    ) -> None:
        super().__init__(dialect.agents, AGENT_PREFIX + identifier, replica, peer=peer, carrier=CARRIER)
        self.identifier = identifier
        self.digest = digest
        self.grant = grantFor(identifier, dialect.authority.domain)
        self.held: Held = dialect.held
        self.clock = dialect.agents.clock
        self._dialect = dialect
        self._gone = gone
        self._requests: dict[str, JsonRequest] = {}
        self._waiting: set[str] = set()
        self._unsent: dict[str, str] = {}
        self._isPaused = False

    # -- IAttachment

    @property
    def load(self) -> int:
        """Requests that wait for a response, or for a visitor to take it."""
        return len(self._requests)

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self.transport = self._channel = channel
        channel.registerProducer(self, True)
        problem = self._dialect.attach(self)
        if problem is not None:
            self.isOver = True
            self._dialect.agents.sessionOver(self)
            self.logEnded(problem.code, problem.details)
            channel.close(_POLICY, problem.details)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.isOver:
            return
        if isBinary:
            self._break(_UNSUPPORTED_DATA, "A message is text, and this one is binary.")
            return
        try:
            message = decodeResponse(payload)
        except RemoteProtocolError as e:
            self._break(_PROTOCOL_ERROR, e.details)
            return
        request = self._requests.get(message.correlationID)
        if request is not None:  # otherwise its visitor has left, or had no more patience
            request.gotResponse(message)

    def _break(self, code: int, details: str) -> None:
        """The client does not keep to the protocol."""
        self._finish(SessionError.INVALID_MESSAGE, details, code)

    def lost(self, reason: Failure) -> None:
        dialect = self._dialect
        if not self.isOver:
            self.isOver = True
            dialect.left(self)
            dialect.agents.sessionOver(self)
            self.logDetached(reason)
            self._fail()
        self._gone()

    def _fail(self) -> None:
        for request in tuple(self._requests.values()):
            request.lost(f"The client {self.identifier} went away before it answered.")

    # -- IHttpSession and IOriginConnection

    def originFor(self, service: Service, visitor: Visitor) -> IOriginConnection:
        return self

    def send(self, head: RequestHead, length: int | None, exchange: IExchange) -> IOriginRequest:
        identifier = str(uuid4())
        request = JsonRequest(self, identifier, head, exchange, self._refusal(head, length))
        self._requests[identifier] = request
        return request

    def _refusal(self, head: RequestHead, length: int | None) -> Refusal | None:
        """Why a request cannot be carried."""
        limits = self.held.limits
        if head.method not in METHODS:
            allowed = (("Allow", ", ".join(sorted(METHODS))),)
            return Refusal(405, HttpProblem.METHOD_REFUSED, f"PipeGate has no {head.method[:20]}.", allowed)
        if "websocket" in head.tokens("upgrade"):
            details = "PipeGate's messages carry no WebSockets. Between gateway pipegate-client and ours they pass."
            return Refusal(502, NOT_TEXT, details)
        if length is not None and length > limits.message:
            details = f"A request to this client takes up at most {limits.message} bytes."
            return Refusal(413, HttpProblem.BODY_TOO_LARGE, details)
        return self.excess()

    def excess(self) -> Refusal | None:
        """Why one more request cannot wait for a response. Those that are still coming do not count: some are slow."""
        limits = self.held.limits
        if len(self._waiting) >= limits.requestsPerID:
            details = f"The client {self.identifier} has too many requests at the moment."
            return Refusal(503, HttpProblem.UNAVAILABLE, details, SOON)
        if self.held.requests >= limits.requests:
            details = "The gateway has too many requests for such clients at the moment."
            return Refusal(503, HttpProblem.UNAVAILABLE, details, SOON)
        return None

    def ask(self, identifier: str, text: str) -> None:
        """Send a request's message, when those before it are sent."""
        self._waiting.add(identifier)
        self.held.requests += 1
        self._unsent[identifier] = text
        self._sendMore()

    def _sendMore(self) -> None:
        while self._unsent and not self._isPaused:
            self._channel.sendText(self._unsent.pop(next(iter(self._unsent))))

    def answered(self, identifier: str) -> None:
        """A request waits no longer: there is a response, or nobody wants one."""
        self._unsent.pop(identifier, None)
        if identifier in self._waiting:
            self._waiting.discard(identifier)
            self.held.requests -= 1

    def forget(self, identifier: str) -> None:
        """A request is over."""
        self.answered(identifier)
        self._requests.pop(identifier, None)

    # -- IPushProducer, for the channel

    def pauseProducing(self) -> None:
        self._isPaused = True

    def resumeProducing(self) -> None:
        self._isPaused = False
        self._sendMore()

    def stopProducing(self) -> None:
        """The channel is gone, which C{lost} tells."""

    # -- IAgentSession

    def endpointFor(self, service: Service, visitor: Visitor) -> IStreamClientEndpoint:
        details = "A client of PipeGate's takes requests of HTTP's alone."
        return FailingEndpoint(DialFailed(DialFailure.DENIED, details))

    def targetEndpoint(self, target: Target, visitor: Visitor) -> IStreamClientEndpoint:
        details = "A client of PipeGate's serves its own application alone."
        return FailingEndpoint(DialFailed(DialFailure.DENIED, details))

    def end(self, code: str, details: str) -> None:
        isShutdown = code == SessionError.SHUTTING_DOWN
        self._finish(code, details, _GOING_AWAY if isShutdown else _POLICY)

    def _finish(self, code: str, details: str, closeCode: int) -> None:
        if self.isOver:
            return  # the carrier is on its way out
        self.isOver = True
        self.logEnded(code, details)
        self._dialect.agents.registry.detach(self)
        self._fail()
        self._channel.close(closeCode, details)
        self._dialect.agents.sessionOver(self)

    def drain(self, seconds: float, reason: str) -> None:
        """Clients of PipeGate's cannot be told; the doors take no more visitors."""
