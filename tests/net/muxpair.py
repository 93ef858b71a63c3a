"""
Two yamux sessions joined in memory, for the tests of L{gateway.net.mux}::

    pair = MuxPair(chunkSize=7)
    mine, theirs = pair.open()
    mine.transport.write(b"hello")
    pair.pump()
    assert theirs.received == b"hello"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.mux import MuxEndpoint, MuxSession, MuxSettings
from gateway.testing import flowPair
from gateway.wire.window import WindowBudget
from tests.net.sides import Peer


class Plain(Protocol):
    """Records, and knows no half-close."""

    def __init__(self) -> None:
        self.received = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Record bytes."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record the end."""
        self.reason = reason


@implementer(IPushProducer)
class Source:
    """Writes so many bytes at the pace that it is asked for, and records what it is told."""

    def __init__(self, transport: Any, chunk: bytes, count: int, *, streaming: bool) -> None:
        self.told: list[str] = []
        self.left = count
        self._transport = transport
        self._chunk = chunk
        self._streaming = streaming
        self._paused = False
        transport.registerProducer(self, streaming)

    def resumeProducing(self) -> None:
        """Write: once, or until paused."""
        self.told.append("resume")
        self._paused = False
        while self.left and not self._paused:
            self.left -= 1
            self._transport.write(self._chunk)
            if not self._streaming:
                break
        if not self.left:
            self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """Write no more."""
        self.told.append("pause")
        self._paused = True

    def stopProducing(self) -> None:
        """Never write again."""
        self.told.append("stop")
        self.left = 0


class Applications(Factory):
    """
    Makes the protocols of streams.

    @ivar made: all of them.
    """

    noisy = False

    def __init__(self, make: Callable[[], Any] = Peer) -> None:
        self.made: list[Any] = []
        self.addresses: list[IAddress | None] = []
        self._make = make

    def buildProtocol(self, address: IAddress | None) -> Any:
        """Make one."""
        self.addresses.append(address)
        protocol = self._make()
        if protocol is not None:
            self.made.append(protocol)
        return protocol


class MuxPair:
    """
    Two sessions, a link between them, and the time.

    @param roundTrip: seconds that the first pings take, by which windows grow; some of the server's take half of it.
    @ivar accepted: what the server's factory made.
    @ivar ended: what the client and the server said that they ended with, in that order.
    """

    def __init__(
        self,
        *,
        client: MuxSettings | None = None,
        server: MuxSettings | None = None,
        accept: Applications | None = None,
        roundTrip: float = 0.0,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.budget = WindowBudget()
        self.applications = Applications() if accept is None else accept
        self.accepted = self.applications.made
        self.ended: list[list[Failure]] = [[], []]
        self.client = MuxSession(
            self.clock,
            client=True,
            settings=client or MuxSettings(),
            budget=self.budget,
            ended=self.ended[0].append,
            name="up",
        )
        self.server = MuxSession(
            self.clock,
            client=False,
            factory=self.applications,
            settings=server or MuxSettings(),
            budget=self.budget,
            ended=self.ended[1].append,
            name="down",
        )
        self.link = flowPair(self.client, self.server, **options)
        one, other = self.link.aToB, self.link.bToA
        one.stalled = True
        for _ in range(20):
            self.turn()
            self.clock.advance(roundTrip / 2)
            one.stalled, other.stalled = other.stalled, one.stalled
        one.stalled = other.stalled = False
        self.pump()

    def connect(self, make: Callable[[], IProtocol] = Peer) -> Any:
        """A stream of the client's, of which the server has not heard."""
        made: list[Any] = []
        MuxEndpoint(self.client).connect(Applications(make)).addCallback(made.append)
        return made[0]

    def open(self, make: Callable[[], IProtocol] = Peer) -> tuple[Any, Any]:
        """A stream: the client's protocol, and the server's."""
        mine = self.connect(make)
        self.pump()
        return mine, self.accepted[-1]

    def turn(self) -> bool:
        """One turn of the reactor. Return whether there was anything to do."""
        due = any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls())
        self.clock.advance(0)
        return self.link.step() or due

    def pump(self) -> None:
        """Turn until there is nothing to do."""
        for _ in range(100_000):
            if not self.turn():
                return
        raise AssertionError("still busy")

    def wait(self, seconds: float) -> None:
        """Let time pass, a quarter of a second at a time."""
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)
            self.pump()
