"""
Whether origins work: a connection now and then, or a page::

    checks = HealthChecks(reactor, changed)
    checks.watch({"web": (origin, HealthSection(kind="http", path="/healthz"))})
    checks.isHealthy("web")         # True until it has failed often enough; changed() is called when that changes

One good or bad answer means little, so it takes some in a row to change anybody's mind. An origin counts as healthy
from the start, as those that are not looked at do.
"""

__all__ = ["HealthChecks"]

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.net.dial import DialFailed, DialFailure, Prepared
from gateway.net.interfaces import IStreamTransport
from gateway.net.timer import Timer
from gateway.service.agent.config import HealthSection
from gateway.service.agent.origins import IReactorOrigins, Origin, originEndpoint
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import parseResponseHead
from gateway.wire.proxyheader import ProxyHeader

_BY_ITSELF = ProxyHeader(local=True)
"""What an origin is told that wants a PROXY header: nobody is behind this connection."""


class _Look(Protocol):
    """One connection to an origin. C{done} fires when it is well, and fails with L{DialFailed} when it is not."""

    transport: IStreamTransport

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self._isDone = False
        self.done: Deferred[None] = Deferred(lambda _: self._end())

    def _end(self) -> None:
        self._isDone = True
        if self.transport is not None:
            self.transport.abortConnection()

    def _tell(self, problem: str) -> None:
        if not self._isDone:
            self._end()
            if problem:
                self.done.errback(DialFailed(DialFailure.OTHER, problem))
            else:
                self.done.callback(None)

    def connectionMade(self) -> None:
        if self._request:
            self.transport.write(self._request)
        else:
            self._tell("")

    def dataReceived(self, data: bytes) -> None:
        if self._isDone:
            return
        self._received += data
        try:
            head = parseResponseHead(self._received)
        except RemoteProtocolError as e:
            self._tell(e.details)
            return
        if head is not None:
            self._tell("" if 200 <= head.status < 400 else f"The origin answered {head.status}.")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._tell("The origin ended the connection without an answer.")


class _Check:
    """Looks at one origin, again and again."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorOrigins,
        key: str,
        origin: Origin,
        settings: HealthSection,
        changed: Callable[[], None],
    ) -> None:
        self.watched = (origin, settings)
        self.healthy = True
        self._reactor = reactor
        self._key = key
        self._endpoint = originEndpoint(reactor, origin, _BY_ITSELF)
        self._settings = settings
        self._changed = changed
        self._inARow = 0
        self._isStopped = False
        self._looking: Deferred[Any] | None = None
        self._timer = Timer(reactor)
        host = str(origin) if not isinstance(origin.address, str) else "localhost"
        lines = (f"GET {settings.path} HTTP/1.1", f"Host: {host}", "User-Agent: txgateway", "Connection: close", "", "")
        self._request = "\r\n".join(lines).encode("ascii") if settings.kind == "http" else b""

    def look(self) -> None:
        """Now, and an interval after each answer."""
        look = _Look(self._request)
        connecting = self._endpoint.connect(Prepared(look))
        self._looking = looking = connecting.addCallback(lambda _: look.done)
        looking.addTimeout(self._settings.interval, self._reactor)
        looking.addCallbacks(lambda _: "", lambda failure: DialFailed.fromFailure(failure).details)
        looking.addCallback(self._saw)

    def _saw(self, problem: str) -> None:
        self._looking = None
        if self._isStopped:
            return
        self._timer.start(self._settings.interval, self.look)
        if self.healthy is not bool(problem):
            self._inARow = 0
            return
        self._inARow += 1
        if self._inARow < (self._settings.fall if problem else self._settings.rise):
            return
        self._inARow = 0
        self.healthy = not problem
        if problem:
            self._log.warn(
                "{service} takes no visitors: {problem}", event="agent.unhealthy", service=self._key, problem=problem
            )
        else:
            self._log.info("{service} takes visitors again", event="agent.healthy", service=self._key)
        self._changed()

    def stop(self) -> None:
        """Look no more."""
        self._isStopped = True
        self._timer.stop()
        if self._looking is not None:
            self._looking.cancel()


class HealthChecks:
    """
    All that one agent looks at.

    @param changed: called whenever an answer of L{isHealthy} has changed, but not by L{watch}.
    """

    def __init__(self, reactor: IReactorOrigins, changed: Callable[[], None]) -> None:
        self._reactor = reactor
        self._changed = changed
        self._checks: dict[str, _Check] = {}

    def watch(self, origins: Mapping[str, tuple[Origin, HealthSection]]) -> None:
        """Look at these from now on. What is known of one that is the same as before stays known."""
        before, self._checks = self._checks, {}
        for key, watched in origins.items():
            check = before.get(key)
            if check is not None and check.watched == watched:
                self._checks[key] = before.pop(key)
            else:
                self._checks[key] = _Check(self._reactor, key, *watched, self._changed)
                self._checks[key].look()
        for check in before.values():
            check.stop()

    def isHealthy(self, key: str) -> bool:
        """Whether an origin works, as far as is known."""
        check = self._checks.get(key)
        return check is None or check.healthy
