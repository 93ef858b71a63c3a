"""
Tests for L{gateway.net.relay}, beyond its promises.

The machine here does everything to a relay in any order. What it promises between every two kinds of transport is in
L{tests.net.test_relaypairs}.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.relay import RelaySettings
from tests.net.relaypromises import BOUND
from tests.net.sides import KIB, TCP, TLS, Crossing, Kind, Side, pattern
from tests.net.websocketside import WEBSOCKET


class RelayMachine(RuleBasedStateMachine):
    """
    Everything happens to a relay in any order. What must hold: each side has got a part, from the beginning, of what the
    other sent; where the other finished and this side was told of a clean end, all of it; and one outcome was reported.
    """

    @initialize(near=st.sampled_from((TCP, TLS, WEBSOCKET)), far=st.sampled_from((TCP, TLS)))
    def begin(self, near: Kind, far: Kind) -> None:
        """Dial."""
        self.crossing = Crossing(near, far, settings=RelaySettings(pending=8 * KIB, idleTimeout=30))
        self.sides = [self.crossing.near]
        self.sent = [0, 0]
        self.over = ["", ""]

    @precondition(lambda self: len(self.sides) == 1 and self.crossing.joined is None)
    @rule()
    def accept(self) -> None:
        """The far side comes into being."""
        self.crossing.accept()
        self.sides.append(self.crossing.far)

    def side(self, which: int) -> tuple[int, Side]:
        """One of the sides that there are."""
        index = which % len(self.sides)
        return index, self.sides[index]

    @rule(which=st.integers(0, 1), size=st.sampled_from((1, 100, 5000, 70_000, 200_000)))
    def send(self, which: int, size: int) -> None:
        """One side sends."""
        index, side = self.side(which)
        if not self.over[index] and side.end is None:
            side.send(pattern(size, self.sent[index]))
            self.sent[index] += size

    @rule(which=st.integers(0, 1))
    def finish(self, which: int) -> None:
        """One side finishes."""
        index, side = self.side(which)
        if not self.over[index] and side.end is None:
            side.finish()
            self.over[index] = "finished"

    @rule(which=st.integers(0, 1))
    def reset(self, which: int) -> None:
        """One side breaks off."""
        index, side = self.side(which)
        side.reset()
        self.over[index] = "reset"

    @rule(which=st.integers(0, 1), stalled=st.booleans())
    def stall(self, which: int, stalled: bool) -> None:
        """One side stops reading, or goes on."""
        self.side(which)[1].stall(stalled)

    @rule(which=st.integers(0, 1), size=st.sampled_from((100, 1000, 16_384)))
    def chunk(self, which: int, size: int) -> None:
        """The network cuts the bytes of one side differently."""
        self.side(which)[1].chunk(size)

    @rule(steps=st.integers(1, 5))
    def run_(self, steps: int) -> None:
        """The reactor turns."""
        for _ in range(steps):
            self.crossing.step()

    @rule(seconds=st.sampled_from((0.5, 6.0, 31.0)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.crossing.clock.advance(seconds)

    @invariant()
    def memoryIsBounded(self) -> None:
        """No reader costs more than the bound, and nobody got what was not sent."""
        for index, side in enumerate(self.sides if hasattr(self, "sides") else ()):
            assert side.held <= BOUND
            assert side.received == pattern(len(side.received))
            assert len(side.received) <= self.sent[1 - index]
        assert not hasattr(self, "crossing") or len(self.crossing.outcomes) <= 1

    def teardown(self) -> None:
        """Let everything come to its end, and look."""
        if not hasattr(self, "crossing"):
            return
        crossing = self.crossing
        for side in self.sides:
            side.stall(False)
        crossing.pump()
        self.memoryIsBounded()
        for index, side in enumerate(self.sides):
            other = self.over[1 - index]
            if side.end == "clean" and not self.over[index] and other == "finished":
                assert len(side.received) == self.sent[1 - index], "a truncated stream looked whole"
        if not crossing.outcomes:
            crossing.relay.end("test over")
            crossing.pump()
        if crossing.relay.cause == "dial-failed" and not crossing.outcomes:
            crossing.near.ours.loseConnection()
            crossing.pump()
        crossing.outcome()


class RelayMachineTests(SynchronousTestCase):
    """L{RelayMachine}, many times."""

    def test_anyOrder(self) -> None:
        """Whatever happens in whatever order: bytes in order, whole or reset, bounded, one outcome, no timer left."""
        run_state_machine_as_test(
            RelayMachine,
            settings=settings(deadline=None, max_examples=150, stateful_step_count=30, database=None, derandomize=True),
        )
