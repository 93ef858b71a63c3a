"""
One visitor of the Tabby door, from the first byte to the last.

A visitor greets, shows a token, names a target, and is then joined to it by a relay. L{TabbyVisit} drives the
conversation of L{gateway.wire.tabby}, asks the L{TabbyDoor<gateway.service.tabby.door.TabbyDoor>} for every
decision, and tells the person in front of the terminal, in a sentence, when something ends::

    accept -> opened -> hello, token -> ready -> connect -> dial -> connected -> bytes -> error -> Close

From the dial on it is a L{TabbySession<gateway.service.tabby.session.TabbySession>} that says what happens.
"""

__all__ = ["TabbyVisit"]

from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.identity import ANONYMOUS, Identity
from gateway.domain.limits import Ticket
from gateway.domain.targets import Target, normaliseHost, parseTarget
from gateway.domain.tokens import Rejection
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.timer import Timer
from gateway.net.websocket import Denied
from gateway.service.listening import IVisit, explain
from gateway.service.tabby.session import PARTING, SessionCause, TabbySession
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.tabby import ClientConversation, Code, Connect, Hello, State, encodeNotice

if TYPE_CHECKING:
    from gateway.service.tabby.door import TabbyDoor

_TARGET_PATH = "/to/"
"""What a path begins with that names a default target."""


@implementer(IVisit, IWebSocketReceiver)
class TabbyVisit:
    """
    One connection to the door.

    @param host: the address that it comes from, until a trusted proxy names another.
    @param ticket: its place in the door's counts; C{None} while it is a proxy's.
    @param secure: whether the port that it came to speaks TLS.
    @ivar conversation: what was said so far.
    @ivar identity: who it is, once that is known.
    """

    _log = Logger()
    __slots__ = (
        "_channel",
        "_deadline",
        "_pathTarget",
        "_secure",
        "_session",
        "_ticket",
        "conversation",
        "door",
        "host",
        "identity",
    )

    def __init__(self, door: "TabbyDoor", host: str, ticket: Ticket | None, secure: bool) -> None:
        self.door = door
        self.host = host
        self._ticket = ticket
        self._secure = secure
        self.conversation = ClientConversation(authRequired=not door.authority.anonymous)
        self.identity: Identity | None = None
        self._channel: IWebSocketChannel | None = None
        self._pathTarget: Target | None = None
        self._session: TabbySession | None = None
        self._deadline = Timer(door.clock)

    # -- IVisit

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        if self.door.draining:
            raise Denied(Response(503, b"The gateway is shutting down.\n"))
        host = self.door.proxies.visitor(head, self.host)
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
        if head.path.startswith(_TARGET_PATH):
            try:
                self._pathTarget = parseTarget(head.path.removeprefix(_TARGET_PATH))
            except ValueError as e:
                raise Denied(Response(400, f"{e}\n".encode())) from None
        return self

    def plain(self, head: RequestHead) -> Response:
        return self.door.page(head, self.host, secure=self._secure)

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
        self._deadline.start(self.door.settings.handshakeTimeout, self._late)
        channel.sendText(self.conversation.greet())

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            message = self.conversation.receive(payload)
        except RemoteProtocolError as e:
            self.fail(e.code, e.details)
            return
        if isinstance(message, Hello):
            self._authenticate(message.authToken)
        elif isinstance(message, Connect):
            self._connect(message)

    def lost(self, reason: Failure) -> None:
        self._deadline.stop()
        self._channel = None
        if self.identity is not None:
            self.door.sessions.release(self.identity.name)
        if self._session is not None:
            self._session.lost(reason)  # the visit is over when the target has what was sent to it
            return
        if self.conversation.state is not State.CLOSED and not reason.check(ConnectionDone):
            self._log.info(
                "visitor left before connecting: {problem}, from {visitor}",
                event="tabby.failed",
                problem=reason.getErrorMessage(),
                visitor=self.host,
            )
        self.door.visitOver(self)

    # -- Who is it?

    def _authenticate(self, token: str | None) -> None:
        door = self.door
        if door.bans.remaining(self.host, door.clock.seconds()):  # since this connection was admitted
            self.fail(Code.RATE_LIMITED, "Too many wrong tokens came from this address, try again later")
            return
        who = door.authority.authenticate(token, door.wallClock())
        if isinstance(who, Rejection):
            # An expired token is nobody's guess.
            isGuess = who.code == Code.INCORRECT_AUTH_TOKEN and who.name is None
            if isGuess and door.tokenRefused(self.host):
                self._log.warn("banned for wrong tokens: {visitor}", event="tabby.banned", visitor=self.host)
            self.fail(who.code, who.details if who.name is None else f"{who.details} ({who.name})")
            return
        # Only a one-shot token wears out, and it has no limit of sessions for which it could be refused after this.
        if not door.authority.spend(who):
            self.fail(Code.INCORRECT_AUTH_TOKEN, "This token is not known here")
            return
        if not door.sessions.acquire(who.name, who.limits.sessions):
            self.fail(Code.QUOTA_EXCEEDED, f"This token has {who.limits.sessions} sessions open already")
            return
        self.identity = who
        door.bans.succeeded(self.host)
        if who is not ANONYMOUS:
            door.metrics.authenticated.inc()
        if self._ticket is not None:
            self._ticket.authenticated()
        self._deadline.start(door.settings.handshakeTimeout, self._late)
        assert self._channel is not None
        self._channel.sendText(self.conversation.ready())

    def renew(self, identity: Identity) -> None:
        """The visitor's token has other limits, targets or another expiry now."""
        self.identity = identity
        if self._session is not None:
            self._session.renew(identity)

    # -- Where to?

    def _connect(self, wish: Connect) -> None:
        assert self.identity is not None and self._channel is not None
        self._deadline.stop()
        try:
            target = self._choose(wish)
        except ValueError as e:
            self.cannotConnect(Code.CONNECTION_FAILED, str(e))
            return
        self._session = TabbySession(self, self._channel, self.identity, target)
        self._session.start()

    def _choose(self, wish: Connect) -> Target:
        assert self.identity is not None
        if wish.host is not None and wish.port is not None:
            return Target(normaliseHost(wish.host), wish.port)
        target = self._pathTarget or self.identity.defaultTarget
        if target is None:
            raise ValueError("No host and port were given, and neither this token nor the URL has a default target")
        return target

    def cannotConnect(self, code: str, details: str, *, target: str = "no target", **rule: str) -> None:
        """
        The target cannot be reached, may not be, or there is none: log it, and tell the client.

        @param rule: C{rule}, where one refused it.
        """
        assert self.identity is not None
        self._log.info(
            "cannot connect: {who} to {target} from {visitor}: {problem}",
            event="tabby.dial-failed",
            who=self.identity.name,
            target=target,
            visitor=self.host,
            problem=details,
            **rule,
        )
        self._refuse(code, details)

    # -- Ending

    def end(self, cause: SessionCause) -> None:
        """The door ends this visit, whatever its state."""
        if self._session is not None and self.conversation.carriesData:
            self._session.end(cause)
        elif self.conversation.state is not State.CLOSED:
            self.fail(*PARTING[cause])

    def announceShutdown(self, seconds: float) -> None:
        """The gateway will stop in so many seconds: a session goes on until then, anybody else leaves now."""
        if self._session is not None and self._session.opened and self._channel is not None:
            self._channel.sendText(encodeNotice("shutting-down", f"The gateway stops in {seconds:g} seconds"))
        else:
            self.end(SessionCause.SHUTDOWN)

    def abort(self) -> None:
        """Cut off what is left: the visitor, and the target if there is one."""
        if self._session is not None:
            self._session.abort()
        if self._channel is not None:
            self._channel.abortConnection()

    def fail(self, code: str, details: str) -> None:
        """Tell the client why, and close; log it, unless this ends a session, which has a line of its own."""
        if self._session is None:
            self._log.info(
                "visitor turned away: {code}: {details}, from {visitor}",
                event="tabby.turned-away",
                code=str(code),
                details=details,
                visitor=self.host,
            )
        self._refuse(code, details)

    def _refuse(self, code: str, details: str) -> None:
        self._deadline.stop()
        self.door.metrics.errors.add(code)
        if self._channel is not None:
            self._channel.sendText(self.conversation.fail(code, details))
            self._channel.close(1000)

    def _late(self) -> None:
        self.fail(Code.HANDSHAKE_TIMEOUT, "The client took too long to say who it is and where to connect")
