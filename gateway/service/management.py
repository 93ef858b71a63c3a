"""
The management door: Tabby Web's own back end hands over one-shot tokens here, and Prometheus reads metrics.

It is for machines that hold a client certificate; TLS has checked that before a byte comes here::

    door = ManagementDoor(oneShotTokens, metrics)
    factory = DoorFactory(door.arrive, WebSocketServerFactory(clock=reactor), clock=reactor, certificate=files)

Tabby Web's back end sends its command without reading our greeting and starts the closing handshake at once; the
token is taken when its frame is read, which is before the Close is.
"""

__all__ = ["MAX_CONNECTIONS", "ManagementDoor"]

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.limits import Admission, Ticket
from gateway.domain.tokens import OneShotRefused, OneShotTokens
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.timer import Timer
from gateway.net.websocket import Denied
from gateway.service.listening import IVisit, explain
from gateway.service.logs import RefusalLog
from gateway.service.metrics import Metrics
from gateway.service.pages import errorPage
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.tabby import Code, ManagementConversation, encodeError

MAX_CONNECTIONS = 200
"""Connections at once. Each is short, and who has no certificate is one of them until TLS finds out."""


class ManagementDoor:
    """
    @param tokens: where tokens go; C{None} for a door that only shows metrics.
    @param timeout: seconds for a client to give its command.
    @param isDraining: whether the gateway is about to stop, for C{/healthz}.
    """

    def __init__(
        self,
        tokens: OneShotTokens | None,
        metrics: Metrics,
        *,
        clock: IReactorTime,
        timeout: float = 10.0,
        isDraining: Callable[[], bool] = lambda: False,
    ) -> None:
        self.tokens = tokens
        self.metrics = metrics
        self.clock = clock
        self.timeout = timeout
        self.isDraining = isDraining
        self._refusals = RefusalLog(clock)
        self._admission = Admission(
            clock.seconds(),
            unauthenticated=MAX_CONNECTIONS,
            unauthenticatedPerAddress=None,  # they all come from a few machines
            perAddress=None,
            newPerSecond=None,
            newPerSecondPerAddress=None,
        )

    def arrive(self, host: str) -> "_ManagementVisit | None":
        """
        A connection has come; whether it may will be decided by TLS, or was by where this door listens.

        @return: C{None} to drop it.
        """
        ticket = self._admission.admit(host, self.clock.seconds())
        if not isinstance(ticket, Ticket):
            self.metrics.refused.add(ticket.value)
            self._refusals.refused(ticket.value, host)
            return None
        self.metrics.connections.add("management")
        return _ManagementVisit(self, host, ticket)

    def stop(self) -> None:
        """Nobody will come any more."""
        self._refusals.stop()


@implementer(IVisit, IWebSocketReceiver)
class _ManagementVisit:
    _log = Logger()

    def __init__(self, door: ManagementDoor, host: str, ticket: Ticket) -> None:
        self._door = door
        self._host = host
        self._ticket = ticket
        self._channel: IWebSocketChannel | None = None
        self._deadline = Timer(door.clock)

    # -- IVisit

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        if self._door.tokens is None:
            raise Denied(errorPage(404, "There is no WebSocket here, only /metrics."))
        return self

    def plain(self, head: RequestHead) -> Response:
        if head.method not in ("GET", "HEAD"):
            return errorPage(405, "There is nothing to send to here.", (("Allow", "GET, HEAD"),))
        if head.path == "/metrics":
            return Response(200, self._door.metrics.render(), self._door.metrics.CONTENT_TYPE)
        if head.path == "/healthz":
            return Response(503, b"draining\n") if self._door.isDraining() else Response(200, b"ok\n")
        return errorPage(404, "This is the management side of a connection gateway: there are /metrics and /healthz.")

    def failed(self, reason: Failure) -> None:
        if (problem := explain(reason)) is not None:
            self._log.info(
                "no management session: {problem}, from {visitor}",
                event="management.failed",
                problem=problem,
                visitor=self._host,
            )

    def left(self) -> None:
        self._ticket.release()

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self._channel = channel
        self._deadline.start(self._door.timeout, self._late)
        channel.sendText(ManagementConversation.GREETING)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        assert self._door.tokens is not None
        if not self._deadline.isRunning:
            return  # one command a connection, and it was given
        try:
            self._door.tokens.authorize(ManagementConversation.receive(payload))
        except (RemoteProtocolError, OneShotRefused) as e:
            self._refuse(e.code, e.details)
        else:
            self._log.info("one-shot token authorised by {visitor}", event="management.authorised", visitor=self._host)
            self._finish(ManagementConversation.ACKNOWLEDGEMENT)

    def _refuse(self, code: str, details: str) -> None:
        self._log.info(
            "management command refused: {code}: {details}, from {visitor}",
            event="management.refused",
            code=str(code),
            details=details,
            visitor=self._host,
        )
        self._finish(encodeError(code, details))

    def _finish(self, answer: str) -> None:
        self._deadline.stop()
        if self._channel is not None:
            self._channel.sendText(answer)
            self._channel.close(1000)

    def _late(self) -> None:
        self._refuse(Code.HANDSHAKE_TIMEOUT, "No command came in time")

    def lost(self, reason: Failure) -> None:
        self._deadline.stop()
