"""
What an agent makes of the streams that go-tunnel's server opens: each begins with the name that was asked for, and
leads to that name's origin. Its bytes are the visitor's, whatever they are::

    GoTunnelStreams(reactor, {"app.example.com": (Origin("http", Target("127.0.0.1", 8080)), Mode.HTTP)})

There are no answers in this protocol. Where HTTP is spoken an origin that cannot be reached is told of in HTTP, as by
go-tunnel's own agent; elsewhere the stream is reset.
"""

__all__ = ["GoTunnelStreams"]

from collections.abc import Mapping
from dataclasses import replace

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.net.budget import StallBudget
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.incoming import PREAMBLE_TIMEOUT
from gateway.net.interfaces import IStreamTransport
from gateway.net.peek import become
from gateway.net.relay import Cause, Half, Outcome, Relay, RelaySettings
from gateway.net.timer import Timer
from gateway.service.agent.origins import IReactorOrigins, Origin, originEndpoint
from gateway.service.agent.visitlog import visitClosed, visitFailed
from gateway.service.pages import errorPage
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.gotunnel import Mode, parsePreamble
from gateway.wire.proxyheader import ProxyHeader

_NOBODY = ProxyHeader()
"""All that go-tunnel's server says of a visitor."""


class GoTunnelStreams(ServerFactory):
    """
    @param origins: by the names of routes.
    @param settings: of the relays. Each origin has a dial timeout of its own.
    """

    noisy = False

    def __init__(
        self,
        reactor: IReactorOrigins,
        origins: Mapping[str, tuple[Origin, Mode]],
        settings: RelaySettings = RelaySettings(),  # noqa: B008 -- frozen
        budget: StallBudget | None = None,
    ) -> None:
        self.reactor = reactor
        self.origins = origins
        self.settings = settings
        self.budget = budget

    def buildProtocol(self, address: IAddress | None) -> Protocol:
        return _Stream(self)


class _Stream(Protocol):
    """Is on a stream until its preamble is there, and becomes the near side of a relay."""

    transport: IStreamTransport
    _log = Logger()

    def __init__(self, streams: GoTunnelStreams) -> None:
        self._streams = streams
        self._received = b""
        self._over = False
        self._name = ""
        self._near: Half | None = None
        self._deadline = Timer(streams.reactor)

    def connectionMade(self) -> None:
        self._deadline.start(PREAMBLE_TIMEOUT, self._refuse, "The name did not come in time.")

    def _refuse(self, problem: str) -> None:
        self._deadline.stop()
        self._over = True
        self._log.info("a stream led nowhere: {problem}", event="agent.stream-refused", problem=problem)
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._received += data
        try:
            found = parsePreamble(self._received)
        except RemoteProtocolError as e:
            self._refuse(e.details)
            return
        if found is None:
            return
        self._name, size = found
        if self._name not in self._streams.origins:
            self._refuse(f"The agent does not serve {self._name}.")
            return
        self._take(*self._streams.origins[self._name], self._received[size:])

    def _take(self, origin: Origin, mode: Mode, rest: bytes) -> None:
        self._deadline.stop()
        streams = self._streams
        settings = replace(streams.settings, dialTimeout=origin.connectTimeout)
        relay = Relay(streams.reactor, self._ended, settings=settings, budget=streams.budget)
        self._near = near = relay.near
        become(self, near)
        near.makeConnection(self.transport)
        if rest:
            near.dataReceived(rest)
        relay.connect(originEndpoint(streams.reactor, origin, _NOBODY)).addErrback(self._failed, mode)

    def _failed(self, failure: Failure, mode: Mode) -> None:
        error = failure.value
        if not isinstance(error, DialFailed):
            self._log.failure("a stream could not be taken", failure, event="gateway.defect")
            error = DialFailed(DialFailure.OTHER, "The agent has a defect.")
        if error.kind is DialFailure.CANCELLED:
            return
        visitFailed(self._log, self._name, error.details)
        if mode is Mode.TCP:
            self.transport.abortConnection()
        else:
            status = 504 if error.kind is DialFailure.TIMEOUT else 502
            self.transport.write(errorPage(status, error.details).encode())
            self.transport.loseConnection()

    def _ended(self, outcome: Outcome) -> None:
        if outcome.cause != Cause.DIAL_FAILED:
            visitClosed(self._log, self._name, outcome)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.stop()
        if self._near is not None:
            self._near.connectionLost(reason)
