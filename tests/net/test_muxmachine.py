"""Everything happens to a pair of L{gateway.net.mux} sessions in any order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.mux import MuxSettings
from gateway.net.muxstream import HIGH_WATER
from gateway.wire.window import INITIAL_WINDOW
from tests.net.muxpair import Applications, MuxPair
from tests.net.sides import Peer, pattern

_LARGEST = 200_000


class _Tracked(Peer):
    """
    Knows what it sent, and how its side ended.

    @ivar over: it writes no more.
    @ivar broken: it broke off, or closed without having read everything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.over = False
        self.broken = False


class MuxMachine(RuleBasedStateMachine):
    """
    What must hold: each end of a stream has got a part, from the beginning, of what the other sent; where it was told of
    a clean end, all of it; and in the end nothing is left.
    """

    @initialize(chunk=st.sampled_from((100, 5000, 16_384)), manners=st.booleans())
    def begin(self, chunk: int, manners: bool) -> None:
        """Connect the sessions, and open two streams."""
        limits = MuxSettings(pingInterval=0, closeTimeout=40, openTimeout=1000, pingTimeout=100_000)
        self.pair = MuxPair(
            client=limits, server=limits, accept=Applications(_Tracked), chunkSize=chunk, tlsManners=manners
        )
        self.ends: list[tuple[_Tracked, _Tracked]] = [self.pair.open(_Tracked) for _ in range(2)]

    @rule(stream=st.integers(0, 1), which=st.integers(0, 1), size=st.sampled_from((1, 100, 5000, 70_000, _LARGEST)))
    def write(self, stream: int, which: int, size: int) -> None:
        """One end writes, as a producer would: not above the high water."""
        end = self.ends[stream][which]
        if not end.over and end.reason is None and end.transport.unsent <= HIGH_WATER:
            end.transport.write(pattern(size, end.sent))
            end.sent += size

    @rule(stream=st.integers(0, 1), which=st.integers(0, 1), resume=st.booleans())
    def pace(self, stream: int, which: int, resume: bool) -> None:
        """One end stops reading, or goes on."""
        transport = self.ends[stream][which].transport
        (transport.resumeProducing if resume else transport.pauseProducing)()

    @rule(stream=st.integers(0, 1), which=st.integers(0, 1))
    def finish(self, stream: int, which: int) -> None:
        """One end half-closes."""
        self.ends[stream][which].over = True
        self.ends[stream][which].transport.loseWriteConnection()

    @rule(stream=st.integers(0, 1), which=st.integers(0, 1), abort=st.booleans(), really=st.integers(0, 3))
    def leave(self, stream: int, which: int, abort: bool, really: int) -> None:
        """Sometimes one end closes, or breaks off."""
        if really:
            return
        self.ends[stream][which].over = self.ends[stream][which].broken = True
        transport = self.ends[stream][which].transport
        (transport.abortConnection if abort else transport.loseConnection)()

    @rule(up=st.booleans(), down=st.booleans())
    def stall(self, up: bool, down: bool) -> None:
        """The carrier stops, or goes on."""
        self.pair.link.aToB.stalled, self.pair.link.bToA.stalled = up, down

    @rule()
    def wait(self) -> None:
        """Time passes."""
        self.pair.clock.advance(41.0)

    @invariant()
    def inOrderAndBounded(self) -> None:
        """After a few turns: nobody got what was not sent, a clean end is never a lie, and memory is bounded."""
        for _ in range(4 if hasattr(self, "ends") else 0):
            self.pair.turn()
        for pair in getattr(self, "ends", ()):
            for end, other in (pair, pair[::-1]):
                assert end.received == pattern(len(end.received))
                assert len(end.received) <= other.sent
                if end.ended:
                    assert len(end.received) == other.sent and other.over, "a truncated stream looked whole"
                assert end.transport.unsent <= HIGH_WATER + _LARGEST
                assert end.transport.unread <= INITIAL_WINDOW  # as it never grows while no time passes

    def teardown(self) -> None:
        """Let everything come to its end, and look."""
        if not hasattr(self, "ends"):
            return
        pair = self.pair
        pair.link.aToB.stalled = pair.link.bToA.stalled = False
        for ends in self.ends:
            for end in ends:
                end.transport.resumeProducing()
        pair.pump()
        for ends in self.ends:
            for end, other in (ends, ends[::-1]):
                if not (end.broken or other.broken) and end.reason is None:
                    assert len(end.received) == other.sent
        self.inOrderAndBounded()
        for ends in self.ends:
            for end in ends:
                end.transport.loseConnection()
        pair.pump()
        for ends in self.ends:
            for end in ends:
                assert end.reason is not None
        drained = pair.client.goAway()
        pair.pump()
        assert drained.called
        assert not pair.clock.getDelayedCalls() and not pair.budget.used
        assert [ended.check(ConnectionDone) for (ended,) in pair.ended] == [ConnectionDone] * 2


class MuxMachineTests(SynchronousTestCase):
    """L{MuxMachine}, many times."""

    def test_anyOrder(self) -> None:
        """Whatever happens in whatever order: bytes in order, whole or reset, bounded, and nothing left at the end."""
        run_state_machine_as_test(
            MuxMachine,
            settings=settings(deadline=None, max_examples=200, stateful_step_count=50, database=None, derandomize=True),
        )
