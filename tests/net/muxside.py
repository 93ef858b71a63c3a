"""
A relay's side that is a stream of a yamux session: the same promises hold there, so the same tests run::

    class YamuxNearTests(RelayPromises, SynchronousTestCase):
        nearKind, farKind = YAMUX, TCP
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from gateway.net.mux import MuxSession, MuxStream
from gateway.testing import FlowLink, flowPair
from tests.net.sides import Kind, Peer

__all__ = ["YAMUX", "MuxSide"]


class _Only(Factory):
    """Gives out one protocol."""

    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, address: IAddress | None) -> Any:
        return self._protocol


class MuxSide:
    """
    A L{tests.net.sides.Side} on a stream that the peer opened. The sessions have a clock of their own, as they outlive
    the relay.
    """

    def __init__(self, protocol: IProtocol, clock: Clock) -> None:
        self.kind = YAMUX
        self._clock = Clock()
        self._peer = Peer()
        self._session = MuxSession(self._clock, client=False, factory=_Only(protocol))
        session = MuxSession(self._clock, client=True)
        # A carrier that buffers next to nothing, as what it holds is not the stream's.
        self.link: FlowLink = flowPair(session, self._session, capacity=1024)
        session.open(_Only(self._peer))
        self._theirs: MuxStream = self._peer.transport
        self._most = 0
        while self.step():
            pass
        self.ours: Any = protocol.transport  # type: ignore[attr-defined]  # every Protocol has one

    @property
    def received(self) -> bytes:
        return bytes(self._peer.received)

    @property
    def end(self) -> str | None:
        if self._peer.reason is not None and not self._peer.reason.check(ConnectionDone):
            return "reset"
        return "clean" if self._peer.ended or self._peer.reason is not None else None

    @property
    def gone(self) -> bool:
        return bool(self.ours.disconnected)

    @property
    def held(self) -> int:
        # What the carrier buffers is all streams' together.
        return self._most

    @property
    def unread(self) -> int:
        return self._theirs.unsent + int(self.ours.unread)

    def send(self, data: bytes) -> None:
        self._theirs.write(data)

    def finish(self) -> None:
        self._theirs.loseWriteConnection()

    def reset(self) -> None:
        self._theirs.abortConnection()

    def stall(self, stalled: bool) -> None:
        # With room in the carrier a stalled peer takes another window, which is its own to keep.
        self.link.bToA.stalled = stalled
        if stalled:
            self._session.pauseProducing()
        else:
            self._session.resumeProducing()

    def chunk(self, size: int) -> None:
        self.link.aToB.chunkSize = size

    def step(self) -> bool:
        due = any(call.getTime() <= self._clock.seconds() for call in self._clock.getDelayedCalls())
        self._clock.advance(0)
        if hasattr(self, "ours"):
            self._most = max(self._most, self.ours.unsent)
        return self.link.step() or due


YAMUX: Kind = Kind("yamux", True, MuxSide)
