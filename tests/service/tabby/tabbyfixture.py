"""
A whole Tabby door in memory, for the tests of everything that happens at it.

Visitors are raw WebSocket clients, targets are protocols of the test, time and both networks move when the test says
so::

    gateway = TabbyFixture.make(environmentToken=TOKEN)
    visitor = gateway.visit()
    visitor.say(_="hello", version=1, auth_token=TOKEN)
    visitor.say(_="connect", host="box", port=22)
    target = gateway.acceptDial()
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IOpenSSLClientConnectionCreator, IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.domain.identity import Identity
from gateway.domain.limits import Admission, Bans
from gateway.domain.targets import Target
from gateway.domain.tokens import OneShotTokens, TokenAuthority
from gateway.domain.tokensfile import TokensFile
from gateway.net.budget import StallBudget
from gateway.net.tls import CertificateFiles
from gateway.net.websocket import WebSocketServerFactory
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.draining import Draining, IReactorDraining
from gateway.service.listening import DoorFactory
from gateway.service.metrics import Metrics
from gateway.service.tabby.door import TabbyDoor, TabbySettings
from gateway.testing import FlowAttempt, FlowEndpoint, FlowLink, flowPair
from tests.websocketclient import BINARY, CLOSE, PING, PONG, TEXT, Answer, Frame, WebSocketClient

__all__ = ["TOKEN", "GatewayTestCase", "TLSClient", "TabbyFixture", "TargetSide", "Visitor", "addressOf", "asMessages"]

# No four characters of it are likely to stand in any log line by chance.
TOKEN = "ZQXJVKZWQJXZKVJQWZXKJVQZ"

VISITOR = "198.51.100.7"


def addressOf(host: str) -> IAddress | None:
    """The peer address of a connection from a host; the empty host is that of a UNIX socket."""
    if not host:
        return None
    return IPv6Address("TCP", host, 50000) if ":" in host else IPv4Address("TCP", host, 50000)


def asMessages(frames: list[Frame]) -> list[dict[str, Any]]:
    """The control messages among frames."""
    return [json.loads(frame.payload) for frame in frames if frame.opcode == TEXT]


@implementer(IHalfCloseableProtocol)
class TargetSide(Protocol):
    """
    The target's end of a session.

    @ivar received: all bytes so far.
    @ivar ended: the gateway will send no more.
    @ivar reason: why the connection is gone, once it is.
    """

    link: FlowLink

    def __init__(self) -> None:
        self.received = b""
        self.ended = False
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.ended = True

    def writeConnectionLost(self) -> None:
        """Its own doing."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


class Visitor(Protocol):
    """
    One client. It answers pings as a browser does, unless told not to.

    @ivar frames: all that came, in order, with the time at which each did.
    @ivar answersPings: whether it does.
    @ivar reason: why the connection is gone, once it is.
    """

    link: FlowLink

    def __init__(self, pump: Callable[[], None], now: Callable[[], float]) -> None:
        self.codec = WebSocketClient()
        self.frames: list[Frame] = []
        self.times: list[float] = []
        self.answersPings = True
        self.answersClose = True
        self.reason: Failure | None = None
        self._pump = pump
        self._now = now

    def dataReceived(self, data: bytes) -> None:
        for frame in self.codec.receive(data):
            self.frames.append(frame)
            self.times.append(self._now())
            if frame.opcode == PING and self.answersPings:
                self._write(self.codec.frame(PONG, frame.payload))
            if frame.opcode == CLOSE and self.answersClose:
                self._write(self.codec.frame(CLOSE, frame.payload))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    # -- Doing

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._write(data)
        self._pump()

    def upgrade(self, path: str = "/", **headers: str) -> None:
        """Ask for a WebSocket."""
        self.write(self.codec.request(path, **headers))

    def say(self, **message: object) -> None:
        """Send a control message."""
        self.sendText(json.dumps(message).encode())

    def sendText(self, payload: bytes) -> None:
        """Send any text."""
        self.write(self.codec.frame(TEXT, payload))

    def send(self, payload: bytes) -> None:
        """Send data."""
        self.write(self.codec.frame(BINARY, payload))

    def pong(self) -> None:
        """Answer the last ping late."""
        last = next(frame for frame in reversed(self.frames) if frame.opcode == PING)
        self.write(self.codec.frame(PONG, last.payload))

    def close(self, code: int = 1000) -> None:
        """Begin the closing handshake."""
        self.write(self.codec.frame(CLOSE, code.to_bytes(2)))

    def vanish(self) -> None:
        """Break the connection off."""
        self.link.a.abortConnection()
        self._pump()

    # -- Seeing

    @property
    def answer(self) -> Answer:
        """The answer to the request."""
        assert self.codec.answer is not None, "there was no answer"
        return self.codec.answer

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The control messages so far."""
        return asMessages(self.frames)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the control messages so far."""
        return [message["_"] for message in self.messages]

    @property
    def error(self) -> tuple[str, str] | None:
        """The code and details of the C{error} that came."""
        errors = [message for message in self.messages if message["_"] == "error"]
        assert len(errors) < 2, f"two errors: {errors}"
        return (errors[0]["code"], errors[0]["details"]) if errors else None

    @property
    def data(self) -> bytes:
        """The data so far."""
        return b"".join(frame.payload for frame in self.frames if frame.opcode == BINARY)

    @property
    def closeCode(self) -> int | None:
        """The code of the Close that came."""
        closes = [frame.payload for frame in self.frames if frame.opcode == CLOSE]
        return int.from_bytes(closes[0][:2]) if closes else None

    @property
    def isGone(self) -> bool:
        """Whether the connection is over."""
        return self.reason is not None


@implementer(IOpenSSLClientConnectionCreator)
class TLSClient:
    """
    A client that checks nothing, which is not what is tested here.

    @param credential: the files of its certificate and key, if it has one.
    """

    def __init__(self, credential: tuple[str, str] | None = None) -> None:
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if credential is not None:
            self._context.use_certificate_file(credential[0])
            self._context.use_privatekey_file(credential[1])

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context, None)


@dataclass
class TabbyFixture:
    """
    A door with its port.

    @ivar clock: for everything that takes time.
    @ivar wallClock: POSIX seconds, for the expiry of tokens.
    @ivar asked: the targets that were to be dialled, and who asked for them.
    @ivar endpoint: where they all are.
    @ivar draining: waits when the door is drained.
    """

    clock: Clock
    wallClock: Clock
    authority: TokenAuthority
    oneShot: OneShotTokens
    bans: Bans
    door: TabbyDoor
    factory: DoorFactory
    endpoint: FlowEndpoint
    asked: list[tuple[Target, Identity]]
    metrics: Metrics
    links: list[FlowLink] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draining = Draining(cast(IReactorDraining, self.clock))

    @classmethod
    def make(
        cls,
        *,
        environmentToken: str | None = None,
        file: TokensFile | None = None,
        anonymous: bool = False,
        settings: TabbySettings | None = None,
        bans: Bans | None = None,
        limits: dict[str, Any] | None = None,
        budget: StallBudget | None = None,
        certificate: CertificateFiles | None = None,
        clock: Clock | None = None,
        secure: bool = False,
    ) -> "TabbyFixture":
        """
        @param limits: of the L{Admission}.
        @param secure: whether the port is one that speaks TLS.
        """
        clock = clock or Clock()
        wallClock = Clock()
        wallClock.advance(1_800_000_000)
        oneShot = OneShotTokens(clock.seconds)
        authority = TokenAuthority(environmentToken=environmentToken, file=file, oneShot=oneShot, anonymous=anonymous)
        endpoint = FlowEndpoint()
        asked: list[tuple[Target, Identity]] = []

        def endpointFor(target: Target, identity: Identity) -> FlowEndpoint:
            asked.append((target, identity))
            return endpoint

        bans = Bans() if bans is None else bans  # an empty one is false
        metrics = Metrics()
        door = TabbyDoor(
            clock,
            authority,
            endpointFor,
            settings=settings or TabbySettings(),
            admission=Admission(clock.seconds(), bans=bans, **(limits or {})),
            bans=bans,
            budget=budget or StallBudget(),
            metrics=metrics,
            wallClock=wallClock.seconds,
        )
        websockets = WebSocketServerFactory(clock=clock, settings=WebSocketSettings())
        factory = DoorFactory(partial(door.arrive, secure=secure), websockets, clock=clock, certificate=certificate)
        return cls(clock, wallClock, authority, oneShot, bans, door, factory, endpoint, asked, metrics)

    # -- Moving

    def pump(self) -> None:
        """Let both networks carry all that they have."""
        busy = True
        while busy:
            busy = False
            for link in self.links:
                busy = link.step() or busy

    def advance(self, seconds: float) -> None:
        """Let time pass for everybody, in steps: some timers set others."""
        whole, rest = divmod(seconds, 1.0)
        for step in (*([1.0] * int(whole)), rest):
            self.clock.advance(step)
            self.wallClock.advance(step)
            self.pump()

    # -- Visitors

    def connect(self, client: IProtocol, host: str = VISITOR) -> FlowLink | None:
        """
        Bring a client to the door's port.

        @return: C{None} when the door drops it.
        """
        server = self.factory.buildProtocol(addressOf(host))
        if server is None:
            return None
        link = flowPair(client, server)
        self.links.append(link)
        self.pump()
        return link

    def arrive(self, host: str = VISITOR) -> Visitor:
        """A visitor that has not said anything."""
        visitor = Visitor(self.pump, self.clock.seconds)
        link = self.connect(visitor, host)
        assert link is not None, "the door dropped the connection"
        visitor.link = link
        return visitor

    def isDropped(self, host: str = VISITOR) -> bool:
        """Whether a connection would be dropped at once; one that is not leaves again."""
        client = Protocol()
        link = self.connect(client, host)
        if link is not None:
            link.a.abortConnection()
            self.pump()
        return link is None

    def visit(self, path: str = "/", host: str = VISITOR, **headers: str) -> Visitor:
        """A visitor with a WebSocket."""
        visitor = self.arrive(host)
        visitor.upgrade(path, **headers)
        return visitor

    def get(self, path: str = "/", host: str = VISITOR, method: str = "GET", **headers: str) -> Answer:
        """Ask for a page."""
        visitor = self.arrive(host)
        lines = {"Host": "gateway.test", **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        visitor.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1"))
        return visitor.answer

    def greeted(self, token: str | None = TOKEN, **where: Any) -> Visitor:
        """A visitor that has shown a token."""
        visitor = self.visit(**where)
        hello = {"_": "hello", "version": 1}
        visitor.say(**hello if token is None else {**hello, "auth_token": token})
        return visitor

    def dialling(self, token: str | None = TOKEN, **where: Any) -> Visitor:
        """A visitor that waits for its target."""
        visitor = self.greeted(token, **where)
        visitor.say(_="connect", host="box.test", port=22)
        return visitor

    def session(self, token: str | None = TOKEN, **where: Any) -> tuple[Visitor, TargetSide]:
        """A visitor that is connected."""
        visitor = self.dialling(token, **where)
        return visitor, self.acceptDial()

    # -- Targets

    @property
    def dial(self) -> FlowAttempt:
        """The attempt to connect that came last."""
        return self.endpoint.attempts[-1]

    def acceptDial(self, first: bytes = b"") -> TargetSide:
        """
        Let the last attempt succeed.

        @param first: what the target says at once.
        """
        target = TargetSide()
        target.link = self.dial.accept(target)
        self.links.append(target.link)
        if first:
            target.link.b.write(first)
        self.pump()
        return target

    def targetSends(self, target: TargetSide, data: bytes) -> None:
        """Let the target send."""
        target.link.b.write(data)
        self.pump()

    def targetEnds(self, target: TargetSide) -> None:
        """Let the target close."""
        target.link.b.loseConnection()
        self.pump()

    def metric(self, line: str) -> float:
        """
        The value of a metric.

        @param line: its name and labels as Prometheus writes them, without C{txgateway_}.
        """
        for each in self.metrics.render().decode().splitlines():
            name, _, value = each.rpartition(" ")
            if name == f"txgateway_{line}":
                return float(value)
        return 0.0


class GatewayTestCase(SynchronousTestCase):
    """
    A test that sees all log events, and fails when one holds a traceback or a part of a token.

    @ivar events: all that was logged.
    """

    secrets: tuple[str, ...] = (TOKEN,)

    def setUp(self) -> None:
        captured = capturedLogs()
        self.events = cast(list[LogEvent], captured.__enter__())
        self.addCleanup(captured.__exit__, None, None, None)
        self.addCleanup(self._checkEvents)

    def _checkEvents(self) -> None:
        for event in self.events:
            self.assertNotIn("log_failure", event, formatEvent(event))
            text = f"{formatEvent(event)} {event!r}"
            for secret in self.secrets:
                for at in range(len(secret) - 3):
                    self.assertNotIn(secret[at : at + 4], text)

    def logged(self, name: str) -> list[LogEvent]:
        """The events with this name."""
        return [event for event in self.events if event.get("event") == name]

    def assertError(self, visitor: Visitor, code: str) -> str:
        """
        The visitor was told what is wrong, and a Close 1000.

        @return: the details.
        """
        assert visitor.error is not None, f"no error, but {visitor.messages}"
        self.assertEqual(visitor.error[0], code)
        self.assertRegex(visitor.error[1], r"\A[A-Z0-9].{8,}")
        self.assertEqual(visitor.closeCode, 1000)
        self.assertTrue(visitor.isGone)
        return visitor.error[1]
