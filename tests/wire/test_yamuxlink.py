"""
Tests for L{gateway.wire.yamux} that audit the books of both ends.

    Audit: the conversation of L{tests.wire.test_yamuxconversation}, where time passes, and after each step what one end
        counts is held against what the other does
    Deaf: one session, and a peer that talks and never reads
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.window import IDLE, INITIAL_WINDOW, MAX_WINDOW, ReceiveWindow, WindowBudget
from gateway.wire.yamux import Session
from gateway.wire.yamuxframes import (
    ACK,
    DATA,
    FIN,
    HEADER,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Ack,
    Code,
    Data,
    Event,
    Fin,
    Syn,
    frame,
)
from gateway.wire.yamuxstreams import Limits, Stream
from tests.wire.test_yamuxconversation import CLIENT, Conversation, Side
from tests.wire.yamuxpair import KIB, PATTERN, session, wire


class AuditedSide(Side):
    """
    A side that minds the order of events, too.

    @ivar acknowledged: the streams on which the other side's ACK arrived.
    """

    def __init__(self, session: Session, parity: int) -> None:
        super().__init__(session)
        self.parity = parity
        self.acknowledged: set[int] = set()

    def take(self, event: Event) -> None:
        """Note what happened, and that it is this event's turn."""
        if isinstance(event, Syn):
            assert event.stream % 2 != self.parity, "the peer opened a stream of ours"
        elif isinstance(event, Ack):
            assert event.stream % 2 == self.parity and event.stream not in self.acknowledged, event
            self.acknowledged.add(event.stream)
        elif isinstance(event, Data | Fin) and event.stream % 2 == self.parity:
            assert event.stream in self.acknowledged, "an answer came before its ACK"
        super().take(event)


class Audit(Conversation):
    """The same conversation, in which time passes, and both ends keep the same books."""

    LIMITS = Limits(streams=6, backlog=4, window=1024 * KIB, pingTimeout=1e9)

    def __init__(self) -> None:
        super().__init__()
        self.sides = [AuditedSide(side.session, parity) for side, parity in zip(self.sides, (1, 0), strict=True)]
        for side in self.sides:
            side.session.ping(self.now)
            side.add(side.session.open(self.now))
            side.flush()
        for which in (0, 1, 0, 1):
            self.deliver(which, 10**9, 0.02)
            self.sides[1 - which].session.accept(2 - which)
            self.sides[1 - which].flush()
        assert all(side.session.rtt for side in self.sides), "windows would not grow"

    @rule()
    def ping(self) -> None:
        """Not again: the round trip stays as it was measured, so that windows grow."""

    @rule(seconds=st.sampled_from([0.1] * 4 + [11.0] * 4 + [76.0, 301.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, which may be too much for a stream that waits."""
        self.now += seconds
        for side in self.sides:
            for event in side.session.expire(self.now):
                side.take(event)

    @rule(rounds=st.integers(1, 20))
    def flow(self, rounds: int) -> None:
        """Both ends send, read and consume at a steady pace, half and half."""
        for _ in range(rounds):
            for which, side in enumerate(self.sides):
                for stream in side.streams():
                    side.consume(stream, side.unconsumed[stream] // 2, self.now)
                    side.consume(stream, side.unconsumed[stream], self.now)
                    if stream not in side.ended:
                        side.queued[stream] += 256 * KIB
                        side.session.wants(stream)
                side.pump(16)
                side.flush()
                self.deliver(which, 10**9, 0.01)

    @invariant()
    def agree(self) -> None:
        """Nobody may send more than the other expects, and when nothing is under way both count the same."""
        quiet = all(not side.inFlight and not side.session._output and not side.session._grants for side in self.sides)
        for which, (sender, receiver) in enumerate((self.sides, self.sides[::-1])):
            for number in sender.session._byNumber.keys() & receiver.session._byNumber.keys():
                ours, theirs = sender.session._byNumber[number], receiver.session._byNumber[number]
                if number in sender.ended or theirs.closing:
                    continue
                assert ours.credit <= theirs.window.credit, (which, number)
                if quiet:
                    assert ours.credit == theirs.window.credit, (which, number)
                consumed = receiver.received[number] - receiver.unconsumed[number]
                assert sender.sent[number] - consumed <= self.LIMITS.window, "more is held than a window"

    @invariant()
    def isAccounted(self) -> None:
        """The budget has counted what the peers can make us hold beyond the first windows."""

        def excess(stream: Stream) -> int:
            window = stream.window
            return 0 if stream.closing else max(0, max(window.size, window.credit + window.unconsumed) - INITIAL_WINDOW)

        for side, budget in zip(self.sides, self.budgets, strict=True):
            assert sum(map(excess, side.session._byNumber.values())) == budget.used <= budget.limit
            for number, stream in side.session._byNumber.items():
                assert stream.closing or stream.window.unconsumed >= side.unconsumed[number]


class AuditTests(SynchronousTestCase):
    """What one end counts is what the other counts, whatever lies between them."""

    def test_audit(self) -> None:
        """Credit is neither made nor lost; the budget holds; events come in order; old streams time out cleanly."""
        run_state_machine_as_test(
            Audit,
            settings=settings(deadline=None, max_examples=60, stateful_step_count=60, database=None, derandomize=True),
        )

    def test_shrunkWindow(self) -> None:
        """What a window that has shrunk no longer needs is the budget's again as soon as the peer has used it up."""
        budget = WindowBudget()
        window = ReceiveWindow(budget, 16 * 1024 * KIB, 0.0)
        now = 0.0
        for _ in range(2):  # a window's worth in a round trip, so that it doubles
            now += 0.04
            count = window.credit
            window.receive(count)
            window.consume(count, now, 0.04)
        window.receive(1)
        window.consume(1, now + IDLE, 0.04)
        self.assertLess(window.size, window.credit)
        while window.credit > window.size:
            window.receive(100 * KIB)
            window.consume(100 * KIB, now + IDLE, 0.04)
            self.assertEqual(budget.used, max(window.size, window.credit) - INITIAL_WINDOW)

    def test_largestCredit(self) -> None:
        """Credit from the peer adds up to 2**32 - 1 and stays there, however it comes."""
        client = session(client=True)
        stream = client.open(0.0)
        for credit in (1, MAX_WINDOW - INITIAL_WINDOW - 2, 1, 1, MAX_WINDOW, MAX_WINDOW):
            client.receive(frame(WINDOW_UPDATE, stream, credit), 0.0)
            self.assertLessEqual(client._byNumber[stream].credit, MAX_WINDOW)
        self.assertEqual(client._byNumber[stream].credit, MAX_WINDOW)

    def test_largestWindow(self) -> None:
        """A window that may grow to 2**32 - 1 never announces more, at any rate and round trip."""
        budget = WindowBudget(2**40)
        server = session(budget=budget, limits=Limits(window=MAX_WINDOW))
        server.receive(frame(WINDOW_UPDATE | SYN, 1, 0), 0.0)
        server.rtt = 1e6  # as if a peer had answered a ping very late
        window, now = server._byNumber[1].window, 0.0
        announced = INITIAL_WINDOW
        for _ in range(40):
            now += 1e6
            count = window.credit  # what a whole window's worth of Data frames would do, without their bytes
            self.assertTrue(window.receive(count))
            announced -= count
            server.consume(1, count, now)
            for word, _stream, length in HEADER.iter_unpack(wire(server)):
                self.assertEqual(word & ~ACK, WINDOW_UPDATE)
                announced += length
            self.assertLessEqual(announced, MAX_WINDOW)
            self.assertEqual(announced, window.credit)
        self.assertEqual(window.size, MAX_WINDOW)
        self.assertEqual(budget.used, MAX_WINDOW - INITIAL_WINDOW)


SAYINGS = st.sampled_from(["open", "data", "fin", "reset", "credit", "ping", "ack", "old", "away"])
ANSWERS = st.sampled_from(["nothing", "accept", "refuse", "end", "close", "echo"])


class DeafTests(SynchronousTestCase):
    """A peer that talks and never reads."""

    LIMITS = Limits(streams=4, backlog=2, answers=16)
    FRAMES = 16 + 6 * 4
    """What may wait for the carrier: the answers, and for each stream ACK, FIN, RST, credit and two frames of payload."""

    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    @given(role=st.integers(0, 1), sayings=st.lists(SAYINGS, min_size=1, max_size=6), answer=ANSWERS)
    def test_boundedOutput(self, role: int, sayings: list[str], answer: str) -> None:
        """Whatever it says again and again, and however the application answers: little is queued, or it is cut off."""
        budget = WindowBudget()
        us = session(client=role == CLIENT, budget=budget, limits=self.LIMITS)
        number = 2 if role == CLIENT else 1
        events: list[Event] = []
        try:
            for n in range(300):
                for saying in sayings:
                    number += 2 * (saying == "open")
                    events = us.receive(self.said(saying, number, n), 0.0)
                    self.react(us, events, answer)
                self.assertLessEqual(us.streamCount, 2 * self.LIMITS.streams)
                self.assertLessEqual(len(us._output), self.FRAMES, (sayings, answer))
        except RemoteProtocolError as e:
            self.assertIn(e.code, set(Code))
            self.assertEqual(us.streamCount, 0)
            self.assertLessEqual(len(us._output), self.FRAMES + 1)
        us.lost()
        self.assertEqual((us.streamCount, budget.used), (0, 0))

    def said(self, saying: str, number: int, n: int) -> bytes:
        """What the peer says about the stream that it opened last."""
        return {
            "open": frame(WINDOW_UPDATE | SYN, number, 0),
            "data": frame(DATA, number, 100) + PATTERN[:100],
            "fin": frame(DATA | FIN, number, 0),
            "reset": frame(WINDOW_UPDATE | RST, number, 0),
            "credit": frame(WINDOW_UPDATE, number, 1000),
            "ping": frame(PING | SYN, 0, n),
            "ack": frame(WINDOW_UPDATE | ACK, number, 0),
            "old": frame(DATA, max(0, number - 4), 1) + b"x",
            "away": frame(PING | ACK, 0, n),
        }[saying]

    def react(self, us: Session, events: list[Event], answer: str) -> None:
        """What the application does. It writes only while there is room, as the contract says."""
        for event in events:
            if isinstance(event, Data):
                us.consume(event.stream, len(event.payload), 0.0)
                if answer == "echo" and us.sendable(event.stream) and len(us._output) < 8:
                    us.sendData(event.stream, b"x")
            elif isinstance(event, Fin):
                us.close(event.stream, 0.0)
            elif isinstance(event, Syn):
                if answer in ("accept", "echo"):
                    us.accept(event.stream)
                elif answer == "refuse":
                    us.reset(event.stream)
                elif answer == "end":
                    us.closeWrite(event.stream)
                elif answer == "close":
                    us.close(event.stream, 0.0)
