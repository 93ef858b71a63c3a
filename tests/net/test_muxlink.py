"""Streams opened from both ends of a L{gateway.net.mux} session, on a carrier that splits, merges and delays at will."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.mux import MuxSession, MuxSettings, StreamRefused
from gateway.net.muxstream import HIGH_WATER
from gateway.testing import flowPair
from gateway.wire.window import INITIAL_WINDOW, WindowBudget
from tests.net.muxpair import Applications
from tests.net.sides import KIB, Peer, pattern

CAPACITY = 64 * KIB
CARRIER = CAPACITY + 256 * KIB
"""Bytes: what the carrier of one direction holds at most, with the batch under way and the frames around it."""

WHICH = st.integers(0, 1)
PICK = st.integers(0, 15)


class Talker(Peer):
    """
    Knows what it sent, and what it did.

    @ivar over: it writes no more.
    @ivar broken: it broke off, or closed without having read everything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.over = False
        self.broken = False

    def send(self, size: int) -> None:
        """Write, as a producer would: nothing above the high water."""
        if not self.over and self.reason is None and self.transport.unsent <= HIGH_WATER:
            self.transport.write(pattern(size, self.sent))
            self.sent += size


class MuxLink(RuleBasedStateMachine):
    """
    What must hold: each end of a stream has got a part, from the beginning, of what the other sent; where it was told of
    a clean end, all of it; what is held is within the windows, and they within the budget; in the end nothing is left.
    """

    WINDOW = 1024 * KIB
    BUDGET = 1200 * KIB

    def __init__(self) -> None:
        super().__init__()
        limits = MuxSettings(streams=6, backlog=4, window=self.WINDOW, pingInterval=0, pingTimeout=1e9)
        self.clock = Clock()
        self.budgets = [WindowBudget(self.BUDGET), WindowBudget(self.BUDGET)]
        self.applications = [Applications(Talker), Applications(Talker)]
        self.ended: list[list[Failure]] = [[], []]
        self.sessions = [
            MuxSession(
                self.clock,
                client=which == 0,
                factory=self.applications[which],
                budget=self.budgets[which],
                settings=limits,
                ended=self.ended[which].append,
            )
            for which in (0, 1)
        ]
        self.link = flowPair(*self.sessions, capacity=CAPACITY)
        self.pipes = (self.link.aToB, self.link.bToA)
        self.opened: list[dict[int, Talker]] = [{}, {}]
        for _ in range(40):  # without the round trip of the first pings windows would not grow
            self.clock.advance(0.02)
            self.link.step()

    def pump(self) -> None:
        """Turn until there is nothing to do."""
        for _ in range(20_000):
            if not self.turn():
                return
        raise AssertionError("still busy")

    def turn(self) -> bool:
        """One turn of the reactor. Return whether there was anything to do."""
        due = any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls())
        self.clock.advance(0)
        return self.link.step() or due

    def ends(self, which: int) -> dict[int, Talker]:
        """The ends of all streams ever at one side, by number."""
        accepted = {talker.transport.number: talker for talker in self.applications[which].made}
        return self.opened[which] | accepted

    def pick(self, which: int, pick: int) -> Talker | None:
        """An end that is connected, if there is one."""
        ends = [talker for talker in self.ends(which).values() if talker.reason is None]
        return ends[pick % len(ends)] if ends else None

    @rule(which=WHICH, first=st.sampled_from((0, 1, 5000)))
    def open(self, which: int, first: int) -> None:
        """One end opens a stream, and may write at once."""
        try:
            talker = self.sessions[which].open(Applications(Talker))
        except StreamRefused:
            return
        assert isinstance(talker, Talker)
        self.opened[which][talker.transport.number] = talker
        if first:
            talker.send(first)

    @rule(which=WHICH, pick=PICK, size=st.sampled_from((1, 100, 5000, 70_000, 200_000)))
    def write(self, which: int, pick: int, size: int) -> None:
        """One end writes."""
        if (talker := self.pick(which, pick)) is not None:
            talker.send(size)

    @rule(turns=st.integers(1, 40), passed=st.sampled_from((0.01, 0.03)))
    def flow(self, turns: int, passed: float) -> None:
        """Everybody writes what is taken, and time passes, so that windows grow."""
        for _ in range(turns):
            for which in (0, 1):
                for talker in self.ends(which).values():
                    talker.send(64 * KIB)
            self.clock.advance(passed)
            self.turn()

    @rule(which=WHICH, pick=PICK, resume=st.booleans())
    def pace(self, which: int, pick: int, resume: bool) -> None:
        """One end stops reading, or goes on."""
        if (talker := self.pick(which, pick)) is not None:
            (talker.transport.resumeProducing if resume else talker.transport.pauseProducing)()

    @rule(which=WHICH, pick=PICK)
    def finish(self, which: int, pick: int) -> None:
        """One end half-closes."""
        if (talker := self.pick(which, pick)) is not None:
            talker.over = True
            talker.transport.loseWriteConnection()

    @rule(which=WHICH, pick=PICK, abort=st.booleans(), really=st.integers(0, 3))
    def leave(self, which: int, pick: int, abort: bool, really: int) -> None:
        """Sometimes one end closes, or breaks off."""
        if not really and (talker := self.pick(which, pick)) is not None:
            talker.over = talker.broken = True
            (talker.transport.abortConnection if abort else talker.transport.loseConnection)()

    @rule(which=WHICH, size=st.sampled_from((1, 11, 13, 1000, 16 * KIB, 64 * KIB, 1024 * KIB)), stalled=st.booleans())
    def weather(self, which: int, size: int, stalled: bool) -> None:
        """One direction of the carrier is cut into other pieces, or merges them; or it stops, and goes on."""
        self.pipes[which].chunkSize, self.pipes[which].stalled = size, stalled

    @rule(seconds=st.sampled_from((0.01, 1.0, 11.0)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @invariant()
    def isInOrder(self) -> None:
        """After a few turns nobody got what was not sent, and a clean end is never a lie."""
        for _ in range(4):
            self.turn()
        for which in (0, 1):
            others = self.ends(1 - which)
            for number, end in self.ends(which).items():
                other = others.get(number)
                sent = other.sent if other else 0
                assert end.received == pattern(len(end.received))
                assert len(end.received) <= sent
                if end.ended:
                    assert other is not None and other.over and len(end.received) == sent, "truncation looked whole"

    @invariant()
    def isBounded(self) -> None:
        """What is held at each end is within the windows and the budget, and the carrier holds little."""
        for which, (session, pipe) in enumerate(zip(self.sessions, self.pipes, strict=True)):
            unread = [end.transport.unread for end in self.ends(which).values()]
            assert all(0 <= count <= self.WINDOW for count in unread)
            assert sum(unread) <= session.streamCount * INITIAL_WINDOW + self.budgets[which].used
            assert 0 <= self.budgets[which].used <= self.BUDGET
            assert session._session.streamCount <= 12  # one that both have ended waits for its application only
            assert pipe.bufferedBytes <= CARRIER, pipe.bufferedBytes
            assert all(end.transport.unsent <= HIGH_WATER + 200_000 for end in self.ends(which).values())

    def teardown(self) -> None:
        """Let everything come to its end, and look."""
        for pipe in self.pipes:
            pipe.stalled, pipe.chunkSize = False, 64 * KIB
        for which in (0, 1):
            for end in self.ends(which).values():
                end.transport.resumeProducing()
        self.pump()
        for which in (0, 1):
            others = self.ends(1 - which)
            for number, end in self.ends(which).items():
                other = others.get(number)
                if other is not None and not (end.broken or other.broken):
                    if end.reason is None:
                        assert len(end.received) == other.sent, "bytes are missing"
                    else:
                        assert end.reason.check(ConnectionDone) is None or (end.over and end.ended)
        self.isInOrder()
        for which in (0, 1):
            for end in self.ends(which).values():
                end.transport.loseConnection()
        self.pump()
        self.clock.advance(301)  # for whoever has more to say to one that left
        self.pump()
        assert all(end.reason is not None for which in (0, 1) for end in self.ends(which).values())
        drained = self.sessions[0].goAway()
        self.pump()
        assert drained.called and not self.clock.getDelayedCalls()
        assert [budget.used for budget in self.budgets] == [0, 0]
        assert [ended.check(ConnectionDone) for (ended,) in self.ended] == [ConnectionDone] * 2


class MuxLinkTests(SynchronousTestCase):
    """L{MuxLink}, many times."""

    def test_anyLink(self) -> None:
        """However the carrier cuts, merges and delays: bytes in order, whole or reset; bounded; nothing left at the end."""
        run_state_machine_as_test(
            MuxLink,
            settings=settings(deadline=None, max_examples=100, stateful_step_count=40, database=None, derandomize=True),
        )
