"""
Two peers and the relay between them, in memory, whatever the transports are.

The promises of a relay do not depend on what carries its two sides, so their tests are written once
(L{tests.net.relaypromises}) against a L{Side}: one peer of the relay, what it sends, what reaches it and how it ends. A
L{Kind} of transport makes sides; a L{Crossing} puts a relay between two::

    crossing = Crossing(TCP, TLS)
    crossing.accept()
    crossing.near.send(b"hello")
    crossing.pump()
    assert crossing.far.received == b"hello"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.budget import StallBudget
from gateway.net.relay import Half, Outcome, Relay, RelaySettings
from gateway.testing import FlowEndpoint, FlowLink, FlowTransport, flowPair

# A period that divides no buffer size, so that a lost, doubled or swapped piece shows.
_PERIOD = bytes(range(251))

KIB = 1024


def pattern(size: int, start: int = 0) -> bytes:
    """@return: so many bytes of a recognisable stream, from C{start} on."""
    start %= len(_PERIOD)
    return (_PERIOD * (size // len(_PERIOD) + 2))[start : start + size]


@implementer(IHalfCloseableProtocol)
class Peer(TwistedProtocol):
    """Records what reaches the other end of one of the relay's transports."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Record bytes."""
        assert not self.ended, "bytes came after the end"
        self.received += data

    def readConnectionLost(self) -> None:
        """Record the end of what the relay sends."""
        self.ended = True

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record how it ended."""
        self.reason = reason


class Side(Protocol):
    """
    One peer of the relay.

    @ivar kind: what carries it.
    @ivar ours: the transport that the relay was given.
    """

    kind: Kind
    ours: Any

    @property
    def received(self) -> bytes:
        """All that reached the peer."""

    @property
    def end(self) -> str | None:
        """C{"clean"} or C{"reset"} once the peer knows that nothing more comes."""

    @property
    def gone(self) -> bool:
        """Whether the relay's transport is disconnected."""

    @property
    def held(self) -> int:
        """The most bytes that ever waited for the peer."""

    @property
    def unread(self) -> int:
        """How many bytes of the peer the relay has not read yet."""

    def send(self, data: bytes) -> None:
        """Send bytes to the relay."""

    def finish(self) -> None:
        """End sending: alone where the transport can half-close, else by closing."""

    def reset(self) -> None:
        """Break off."""

    def stall(self, stalled: bool) -> None:
        """Stop reading, or go on."""

    def chunk(self, size: int) -> None:
        """Let the relay read at most so many bytes at once."""

    def step(self) -> bool:
        """Take one step. @return: whether there was anything to do."""


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of transport.

    @ivar halfCloses: whether one direction can end alone.
    @ivar connect: gives a protocol of the relay its transport.
    """

    name: str
    halfCloses: bool
    connect: Callable[[IProtocol, Clock], Side]


class FlowSide:
    """A side on a L{FlowTransport}."""

    def __init__(
        self, kind: Kind, protocol: IProtocol, *, tlsManners: bool = False, address: IAddress | None = None
    ) -> None:
        self.kind = kind
        self.peer = Peer()
        self.link: FlowLink = flowPair(self.peer, protocol, tlsManners=tlsManners)
        if address is not None:
            self.link.b.peer = self.link.b.host = address
        self.ours: FlowTransport = self.link.b
        refuseProducerWhenClosing(self.ours)

    @property
    def received(self) -> bytes:
        return bytes(self.peer.received)

    @property
    def end(self) -> str | None:
        if self.peer.reason is not None and not self.peer.reason.check(ConnectionDone):
            return "reset"
        return "clean" if self.peer.ended or self.peer.reason is not None else None

    @property
    def gone(self) -> bool:
        return self.ours.disconnected

    @property
    def held(self) -> int:
        return self.link.bToA.highWater

    @property
    def unread(self) -> int:
        return self.link.aToB.bufferedBytes

    def send(self, data: bytes) -> None:
        self.link.a.write(data)

    def finish(self) -> None:
        if self.kind.halfCloses:
            self.link.a.loseWriteConnection()
        else:
            self.link.a.loseConnection()

    def reset(self) -> None:
        if not self.link.a.disconnected:
            self.link.a.abortConnection()

    def stall(self, stalled: bool) -> None:
        self.link.bToA.stalled = stalled

    def chunk(self, size: int) -> None:
        self.link.aToB.chunkSize = size

    def step(self) -> bool:
        return self.link.step()


def refuseProducerWhenClosing(transport: FlowTransport) -> None:
    """A TLS transport that has a producer when C{loseConnection()} is called never finishes closing: notice at once."""
    loseConnection = transport.loseConnection

    def checked() -> None:
        assert transport.producer is None, "loseConnection() while a producer is registered"
        loseConnection()

    setattr(transport, "loseConnection", checked)  # noqa: B010 -- mypy will not have a method assigned to


TCP: Kind = Kind("TCP", True, lambda protocol, clock: FlowSide(TCP, protocol))
UNIX: Kind = Kind("UNIX", True, lambda protocol, clock: FlowSide(UNIX, protocol, address=UNIXAddress(None)))
TLS: Kind = Kind("TLS", False, lambda protocol, clock: FlowSide(TLS, protocol, tlsManners=True))


class Crossing:
    """
    A relay, the peer at its near side, and, once L{accept} was called, the one at its far side.

    @ivar joined: what C{connect} returned: the result, or the L{Failure}; C{None} while it hangs.
    @ivar outcomes: all that was reported.
    """

    far: Side

    def __init__(
        self,
        nearKind: Kind,
        farKind: Kind,
        *,
        clock: Clock | None = None,
        settings: RelaySettings | None = None,
        budget: StallBudget | None = None,
        meter: Callable[[Half, int], float] | None = None,
        dial: bool = True,
    ) -> None:
        self.clock = clock or Clock()
        self.outcomes: list[Outcome] = []
        self.endpoint = FlowEndpoint()
        self.joined: object = None
        self._farKind = farKind
        self._sides: list[Side] = []
        self.relay = Relay(
            self.clock, self.outcomes.append, settings=settings or RelaySettings(), budget=budget, meter=meter
        )
        self.near = nearKind.connect(self.relay.near, self.clock)
        self._sides.append(self.near)
        if dial:
            self.dial()

    def dial(self) -> Deferred[None]:
        """Let the relay connect."""

        def record(result: object) -> None:
            self.joined = "joined" if result is None else result

        return self.relay.connect(self.endpoint).addBoth(record)

    def accept(self) -> None:
        """Let the dial succeed."""
        self.far = self.arrive()
        self.endpoint.attempts[0].connected.callback(self.relay.far)

    def arrive(self) -> Side:
        """@return: the far side, of which the relay's C{connect} has not heard."""
        (attempt,) = self.endpoint.attempts
        assert attempt.factory.buildProtocol(self.endpoint.address) is self.relay.far
        side = self._farKind.connect(self.relay.far, self.clock)
        self._sides.append(side)
        return side

    def step(self) -> bool:
        """Take one step on each side."""
        busy = [side.step() for side in self._sides]
        return any(busy)

    def pump(self, turns: int = 100_000) -> None:
        """Take steps until there is nothing to do."""
        for _ in range(turns):
            if not self.step():
                return
        raise AssertionError(f"still busy after {turns} turns")

    def outcome(self) -> Outcome:
        """
        @return: what was reported.
        @raise AssertionError: it was not reported exactly once, or something of the relay is left on the clock.
        """
        (outcome,) = self.outcomes
        left = [str(call) for call in self.clock.getDelayedCalls()]
        assert not left, f"left on the clock: {left}"
        return outcome
