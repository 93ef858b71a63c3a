"""
One visitor of the Tabby door, from the first byte to the last.

A visitor greets, shows a token, names a target, and is then joined to it by a relay. L{TabbyVisit} drives the
conversation of L{gateway.wire.tabby}, asks the L{TabbyDoor<gateway.service.tabbydoor.TabbyDoor>} for every
decision, and tells the person in front of the terminal, in a sentence, when something ends::

    accept -> opened -> hello, token -> ready -> connect -> dial -> connected -> bytes -> error -> Close

What the real client forces on us, all measured with the Tabby app in Chromium:

  - It reads frames asynchronously, so an error or a Close overtakes data that it has not shown yet. Before we end a
    session we ping: the pong proves that the browser took everything; then we wait a second, then say why.
  - It is never told of a WebSocket's Close, only of an C{error} message, of which it shows nothing but C{details}.

Length: one class that has to be read as a whole, since each of its steps decides what the next may be.
"""

__all__ = ["SessionCause", "TabbyVisit"]

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.identity import Identity
from gateway.domain.limits import Ticket, TokenBucket
from gateway.domain.targets import Target, normaliseHost, parseTarget
from gateway.domain.tokens import Rejection
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.relay import Cause, Half, Outcome, Relay
from gateway.net.websocket import Denied
from gateway.service.listening import IVisit, explain
from gateway.service.target import TargetRefused
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.tabby import ClientConversation, Code, Connect, Hello, State, encodeNotice

if TYPE_CHECKING:
    from gateway.service.tabbydoor import TabbyDoor


class SessionCause(StrEnum):
    """Why the door ends a session; the relay has causes of its own (L{Cause})."""

    EXPIRED = "session-expired"
    REVOKED = "revoked"
    SHUTDOWN = "shutting-down"


_PARTING: dict[str, tuple[Code, str]] = {
    Cause.FAR_CLOSED: (Code.CONNECTION_CLOSED, "Connection closed by remote host"),
    Cause.FAR_RESET: (Code.CONNECTION_RESET, "Connection reset by remote host"),
    Cause.IDLE: (Code.IDLE_TIMEOUT, "The session was idle for too long and has been closed"),
    Cause.MEMORY: (Code.QUOTA_EXCEEDED, "The gateway is short of memory, and this session was stalled longest"),
    SessionCause.EXPIRED: (Code.SESSION_EXPIRED, "The session has reached its time limit"),
    SessionCause.REVOKED: (Code.SESSION_EXPIRED, "The token of this session is no longer valid"),
    SessionCause.SHUTDOWN: (Code.SHUTTING_DOWN, "The gateway is shutting down"),
}

_DIAL_CODES = {
    DialFailure.TIMEOUT: Code.CONNECT_TIMEOUT,
    DialFailure.DENIED: Code.TARGET_DENIED,
}

LINGER = 1.0
"""Seconds between the browser's pong and the C{error} that ends a session."""

LINGER_LIMIT = 5.0
"""Seconds to wait for that pong."""


class _Visitor(Half):
    """The near side of a Tabby session: ends are told in the protocol's own words."""

    def __init__(self, relay: Relay, visit: "TabbyVisit") -> None:
        super().__init__(relay)
        self._visit = visit

    def joined(self, other: Half) -> None:
        self._visit.connected(other)
        super().joined(other)

    def finish(self, cause: str) -> None:
        self._visit.part(cause)

    abort = finish


@implementer(IVisit, IWebSocketReceiver)
class TabbyVisit:
    """
    One connection to the door.

    @param host: the address that it comes from, until a trusted proxy names another.
    @param ticket: its place in the door's counts; C{None} while it is a proxy's.
    """

    _log = Logger()
    __slots__ = (
        "_address",
        "_channel",
        "_conversation",
        "_deadline",
        "_identity",
        "_opened",
        "_pathTarget",
        "_relay",
        "_target",
        "_ticket",
        "door",
        "host",
    )

    def __init__(self, door: "TabbyDoor", host: str, ticket: Ticket | None) -> None:
        self.door = door
        self.host = host
        self._ticket = ticket
        self._conversation = ClientConversation(authRequired=not door.authority.anonymous)
        self._channel: IWebSocketChannel | None = None
        self._identity: Identity | None = None
        self._pathTarget: Target | None = None
        self._target: Target | None = None
        self._relay: Relay | None = None
        self._deadline: IDelayedCall | None = None
        self._opened = False
        self._address = ""

    # -- IVisit

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        if self.door.draining:
            raise Denied(Response(503, b"The gateway is shutting down.\n"))
        host = self.door.clientAddress(head, self.host)
        if self._ticket is None:
            self.host = host
            self._ticket = self.door.admit(host)
            if self._ticket is None:
                raise Denied(Response(429, b"Too many connections, try again later.\n"))
        if (problem := self.door.upgradeProblem(head)) is not None:
            self._log.info(
                "upgrade refused: {problem}, from {visitor}", event="tabby.refused", problem=problem, visitor=host
            )
            raise Denied(Response(403, f"{problem}\n".encode()))
        _, marker, target = head.path.partition("/to/")
        if marker:
            try:
                self._pathTarget = parseTarget(target)
            except ValueError as e:
                raise Denied(Response(400, f"{e}\n".encode())) from None
        return self

    def plain(self, head: RequestHead) -> Response:
        return self.door.page(head, self.host)

    def failed(self, reason: Failure) -> None:
        if (problem := explain(reason)) is not None:
            self._log.info(
                "no session: {problem}, from {visitor}", event="tabby.failed", problem=problem, visitor=self.host
            )

    def left(self) -> None:
        if self._ticket is not None:
            self._ticket.release()

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self._channel = channel
        self.door.visits.add(self)
        self._expectWithin(self.door.settings.handshakeTimeout)
        channel.sendText(self._conversation.greet())

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            message = self._conversation.receive(payload)
        except RemoteProtocolError as e:
            self._fail(e.code, e.details)
            return
        if isinstance(message, Hello):
            self._authenticate(message.authToken)
        elif isinstance(message, Connect):
            self._connect(message)

    def lost(self, reason: Failure) -> None:
        self._stopClock()
        self.door.visitOver(self)
        if self._identity is not None:
            self.door.sessions.release(self._identity.name)
        if self._relay is not None and self._relay.near.transport is not None:
            self._relay.near.connectionLost(reason)
        elif self._conversation.state is not State.CLOSED and not reason.check(ConnectionDone):
            self._log.info(
                "visitor left before connecting: {problem}, from {visitor}",
                event="tabby.failed",
                problem=reason.getErrorMessage(),
                visitor=self.host,
            )

    # -- Who is it?

    def _authenticate(self, token: str | None) -> None:
        door = self.door
        if door.bans.isBanned(self.host, door.clock.seconds()):  # since this connection was admitted
            self._fail(Code.RATE_LIMITED, "Too many wrong tokens came from this address, try again later")
            return
        who = door.authority.authenticate(token, door.wallClock())
        if isinstance(who, Rejection):
            if who.code == Code.INCORRECT_AUTH_TOKEN and door.tokenRefused(self.host):
                self._log.warn("banned for wrong tokens: {visitor}", event="tabby.banned", visitor=self.host)
            self._fail(who.code, who.details)
            return
        if not door.sessions.acquire(who.name, who.limits.sessions):
            self._fail(Code.QUOTA_EXCEEDED, f"This token has {who.limits.sessions} sessions open already")
            return
        self._identity = who
        # Nothing came between finding a one-shot token and this, so it cannot have been spent meanwhile.
        door.authority.spend(who)
        door.bans.succeeded(self.host)
        door.metrics.authenticated.inc()
        if self._ticket is not None:
            self._ticket.authenticated()
        self._expectWithin(door.settings.handshakeTimeout)
        self._send(self._conversation.ready())

    # -- Where to?

    def _connect(self, wish: Connect) -> None:
        assert self._identity is not None and self._channel is not None
        self._stopClock()
        door = self.door
        try:
            target = self._choose(wish)
        except ValueError as e:
            self._fail(Code.CONNECTION_FAILED, str(e))
            return
        self._target = target
        limit = self._identity.limits.bytesPerSecond
        relay = Relay(
            door.clock,
            self._ended,
            settings=door.settings.relay,
            budget=door.budget,
            nearFactory=lambda relay: _Visitor(relay, self),
            meter=None if limit is None else _meter(limit, door.clock.seconds),
        )
        self._relay = relay
        relay.near.makeConnection(self._channel)
        self._channel.stream(relay.near.dataReceived)
        endpoint: IStreamClientEndpoint = door.endpointFor(target, self._identity)
        relay.connect(endpoint).addErrback(self._dialFailed)

    def _choose(self, wish: Connect) -> Target:
        assert self._identity is not None
        if wish.host is not None and wish.port is not None:
            return Target(normaliseHost(wish.host), wish.port)
        target = self._pathTarget or self._identity.defaultTarget
        if target is None:
            raise ValueError("No host and port were given, and neither this token nor the URL has a default target")
        return target

    def _dialFailed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, DialFailed):
            self._log.failure("a dial failed in a way that it should not", failure)
            error = DialFailed(DialFailure.OTHER, "The gateway has a defect")
        if error.kind is DialFailure.CANCELLED:
            return
        facts = {"rule": error.refusal.rule} if isinstance(error, TargetRefused) else {}
        self._log.info(
            "cannot connect: {who} to {target}: {problem}",
            event="tabby.dial-failed",
            who=self._identity.name if self._identity else "",
            target=str(self._target),
            visitor=self.host,
            problem=error.details,
            **facts,
        )
        self._fail(_DIAL_CODES.get(error.kind, Code.CONNECTION_FAILED), error.details)

    # -- The session

    def connected(self, far: Half) -> None:
        """The target is there; bytes flow as soon as this returns."""
        assert self._identity is not None and far.transport is not None
        self._opened = True
        self._address = str(getattr(far.transport.getPeer(), "host", ""))
        self.door.metrics.opened.inc()
        self._send(self._conversation.connected())
        if (seconds := self._secondsLeft(self._identity)) is not None:
            self._deadline = self.door.clock.callLater(max(0.0, seconds), self._expired)
        self._log.info(
            "session opened: {who} to {target} at {address} from {visitor}",
            event="tabby.opened",
            **self._facts(),
        )

    def _facts(self) -> dict[str, str]:
        who = self._identity.name if self._identity is not None else ""
        return {"who": who, "target": str(self._target), "address": self._address, "visitor": self.host}

    def _secondsLeft(self, identity: Identity) -> float | None:
        ends = [] if identity.limits.seconds is None else [identity.limits.seconds]
        if identity.expires is not None:
            ends.append(identity.expires - self.door.wallClock())
        return min(ends, default=None)

    def _expired(self) -> None:
        self._deadline = None
        self.end(SessionCause.EXPIRED)

    def end(self, cause: SessionCause) -> None:
        """The door ends this visit, whatever its state."""
        if self._relay is not None and self._conversation.carriesData:
            self._relay.end(cause)
        elif self._conversation.state is not State.CLOSED:
            self._fail(*_PARTING[cause])

    def announceShutdown(self, seconds: float) -> None:
        """The gateway will stop in so many seconds: a session goes on until then, anybody else leaves now."""
        if self._opened:
            self._send(encodeNotice("shutting-down", f"The gateway stops in {seconds:g} seconds"))
        else:
            self.end(SessionCause.SHUTDOWN)

    def abort(self) -> None:
        """Cut the connection off."""
        if self._channel is not None:
            self._channel.abortConnection()

    @property
    def identity(self) -> Identity | None:
        """Who it is, once that is known."""
        return self._identity

    def part(self, cause: str) -> None:
        """
        The relay is over: let the browser take what it was sent, then tell the person why.
        """
        self._stopClock()
        assert self._channel is not None
        if not self._channel.sentData or cause in (Cause.NEAR_CLOSED, Cause.NEAR_RESET):
            self._sayGoodbye(cause)
            return
        self._deadline = self.door.clock.callLater(LINGER_LIMIT, self._sayGoodbye, cause)
        self._channel.ping(lambda: self._linger(cause))

    def _linger(self, cause: str) -> None:
        if self._deadline is not None:
            self._deadline.reset(LINGER)

    def _sayGoodbye(self, cause: str) -> None:
        self._deadline = None
        if cause in _PARTING:
            self._fail(*_PARTING[cause])
        elif self._channel is not None:
            self._channel.close(1000)

    def _ended(self, outcome: Outcome) -> None:
        self._stopClock()
        if not self._opened:
            return
        metrics = self.door.metrics
        metrics.closed.labels(outcome.cause).inc()
        metrics.bytes.labels("up").inc(outcome.up)
        metrics.bytes.labels("down").inc(outcome.down)
        self._log.info(
            "session closed: {who} to {target} from {visitor}: {cause} after {seconds} s, {up} bytes up, {down} down",
            event="tabby.closed",
            cause=str(outcome.cause),
            up=outcome.up,
            down=outcome.down,
            seconds=round(outcome.seconds, 3),
            **self._facts(),
        )

    # -- Sending, and the clock

    def _send(self, text: str) -> None:
        if self._channel is not None:
            self._channel.sendText(text)

    def _fail(self, code: str, details: str) -> None:
        """Tell the client why, and close."""
        self._stopClock()
        self.door.metrics.errors.labels(code).inc()
        if not self._opened and code not in (Code.CONNECT_TIMEOUT, Code.TARGET_DENIED, Code.CONNECTION_FAILED):
            self._log.info(
                "visitor turned away: {code}: {details}, from {visitor}",
                event="tabby.turned-away",
                code=str(code),
                details=details,
                visitor=self.host,
            )
        self._send(self._conversation.fail(code, details))
        if self._channel is not None:
            self._channel.close(1000)

    def _expectWithin(self, seconds: float) -> None:
        if self._deadline is None:
            self._deadline = self.door.clock.callLater(seconds, self._late)
        else:
            self._deadline.reset(seconds)

    def _late(self) -> None:
        self._deadline = None
        self._fail(Code.HANDSHAKE_TIMEOUT, "The client took too long to say who it is and where to connect")

    def _stopClock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _meter(rate: int, now: Callable[[], float]) -> Callable[[Half, int], float]:
    """A limit on each direction alone, with a burst of one second."""
    buckets: dict[Half, TokenBucket] = {}

    def meter(half: Half, size: int) -> float:
        if half not in buckets:
            buckets[half] = TokenBucket(rate, rate, now())
        return buckets[half].take(size, now())

    return meter
