"""Tests for L{gateway.wire.window}."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError
from gateway.wire.window import IDLE, INITIAL_WINDOW, MAX_BATCH, SPAN, ReceiveWindow, WindowBudget

KIB = 1024
MAXIMUM = 16 * KIB * KIB
RTT = 0.04


def window(budget: WindowBudget | None = None, maximum: int = MAXIMUM) -> ReceiveWindow:
    """A new window, at time 0."""
    return ReceiveWindow(WindowBudget() if budget is None else budget, maximum, now=0.0)


def pass_(window: ReceiveWindow, count: int, now: float, rtt: float | None = RTT) -> int:
    """Receive and consume, and return the credit to announce."""
    assert window.receive(count)
    return window.consume(count, now, rtt)


def saturate(window: ReceiveWindow, rounds: int, start: float = 0.0, rtt: float = RTT) -> float:
    """
    A sender that is held up by the window alone: in each round trip it sends the credit that it had at its beginning.

    @return: when it stopped.
    """
    now = start
    for _ in range(rounds):
        now += rtt
        left = window.credit
        while count := min(left, 64 * KIB):
            left -= count
            pass_(window, count, now, rtt)
    return now


class WindowBudgetTests(SynchronousTestCase):
    """L{WindowBudget} never promises more than there is."""

    def test_reserve(self) -> None:
        """What is wanted is granted up to the limit, and nothing past it."""
        budget = WindowBudget(100)
        self.assertEqual([budget.reserve(60), budget.reserve(40), budget.reserve(1)], [60, 40, 0])
        self.assertEqual(budget.used, 100)

    def test_part(self) -> None:
        """The last to ask get what is left."""
        budget = WindowBudget(100)
        self.assertEqual([budget.reserve(70), budget.reserve(70)], [70, 30])

    def test_release(self) -> None:
        """What is given back can be had again."""
        budget = WindowBudget(100)
        budget.reserve(100)
        budget.release(30)
        self.assertEqual(budget.reserve(50), 30)


class CreditTests(SynchronousTestCase):
    """A L{ReceiveWindow} lets the peer send what the application has room for."""

    def test_initial(self) -> None:
        """A peer may send 256 KiB on a new stream."""
        self.assertTrue(window().receive(INITIAL_WINDOW))

    def test_exceeded(self) -> None:
        """One byte more is refused, and changes nothing."""
        w = window()
        self.assertFalse(w.receive(INITIAL_WINDOW + 1))
        self.assertEqual((w.credit, w.unconsumed), (INITIAL_WINDOW, 0))

    def test_receivingReturnsNothing(self) -> None:
        """Credit comes back when the application has consumed, and not before."""
        w = window()
        w.receive(INITIAL_WINDOW)
        self.assertFalse(w.receive(1))
        self.assertEqual(w.consume(INITIAL_WINDOW, 1.0, None), INITIAL_WINDOW)
        self.assertTrue(w.receive(INITIAL_WINDOW))

    def test_batched(self) -> None:
        """Credit is announced when an eighth of a window is due, all of it, and not a byte earlier."""
        w = window()
        batch = INITIAL_WINDOW // 8
        self.assertEqual(pass_(w, batch - 1, 1.0), 0)
        self.assertEqual(pass_(w, 1, 1.0), batch)
        self.assertEqual(w.credit, INITIAL_WINDOW)

    def test_batchOfLargeWindow(self) -> None:
        """However large a window is, credit is announced when a mebibyte is due."""
        w = window()
        now = saturate(w, 20)
        while not pass_(w, 64 * KIB, now):
            pass
        self.assertEqual(pass_(w, MAX_BATCH - 1, now), 0)
        self.assertEqual(pass_(w, 1, now), MAX_BATCH)

    def test_partlyConsumed(self) -> None:
        """Bytes that wait for the application stay counted."""
        w = window()
        w.receive(INITIAL_WINDOW)
        self.assertEqual(w.consume(INITIAL_WINDOW // 2 + 1, 1.0, None), INITIAL_WINDOW // 2 + 1)
        self.assertEqual(w.credit + w.unconsumed, INITIAL_WINDOW)

    def test_consumedTooMuch(self) -> None:
        """Consuming what was not received is a mistake of ours."""
        w = window()
        w.receive(10)
        self.assertRaises(LocalProtocolError, w.consume, 11, 1.0, None)

    def test_end(self) -> None:
        """When the peer has ended, nothing is announced to it, and it may send nothing."""
        w = window()
        w.receive(INITIAL_WINDOW)
        w.end()
        self.assertEqual(w.consume(INITIAL_WINDOW, 1.0, RTT), 0)
        self.assertFalse(w.receive(1))


class GrowthTests(SynchronousTestCase):
    """A window grows while it is what holds its stream up."""

    def test_grows(self) -> None:
        """A sender that the window alone holds up gets the maximum in a few round trips, by doubling at most."""
        w = window()
        sizes = [INITIAL_WINDOW]
        now = 0.0
        for _ in range(20):
            now = saturate(w, 1, now)
            sizes.append(w.size)
        self.assertEqual(w.size, MAXIMUM)
        for before, after in pairwise(sizes):
            self.assertLessEqual(before, after)
            self.assertLessEqual(after, 2 * before)

    def test_maximum(self) -> None:
        """A window that may not grow does not."""
        w = window(maximum=INITIAL_WINDOW)
        saturate(w, 20)
        self.assertEqual(w.size, INITIAL_WINDOW)

    def test_unknownRoundTrip(self) -> None:
        """Before a round trip is measured, no window grows."""
        w = window()
        for n in range(20):
            pass_(w, w.credit, 0.001 * n, None)
        self.assertEqual(w.size, INITIAL_WINDOW)

    def test_slowSender(self) -> None:
        """A stream that uses less than half of its window in a round trip keeps it as it is."""
        w = window()
        for n in range(1, 100):
            pass_(w, INITIAL_WINDOW // 2 - 1, n * RTT)
        self.assertEqual(w.size, INITIAL_WINDOW)

    def test_stalledReader(self) -> None:
        """What a reader does not consume gives it no more window."""
        w = window()
        w.receive(INITIAL_WINDOW)
        for n in range(100):
            w.consume(1024, n * RTT, RTT)
        self.assertEqual(w.size, INITIAL_WINDOW)

    def test_burst(self) -> None:
        """A burst shorter than a round trip says nothing about the rate."""
        w = window()
        for n in range(100):
            pass_(w, INITIAL_WINDOW // 2, RTT * n / 101)
        self.assertEqual(w.size, INITIAL_WINDOW)

    def test_burstNearBy(self) -> None:
        """However short the round trip, it takes L{SPAN} to tell a rate from a burst, and not longer."""
        w = window()
        for _ in range(100):
            pass_(w, INITIAL_WINDOW // 2, SPAN * 0.999, 0.001)
        self.assertEqual(w.size, INITIAL_WINDOW)
        pass_(w, INITIAL_WINDOW // 2, SPAN, 0.001)
        self.assertEqual(w.size, 2 * INITIAL_WINDOW)

    def test_noTimePassed(self) -> None:
        """A round trip that took no time grows nothing and breaks nothing."""
        w = window()
        for _ in range(10):
            pass_(w, INITIAL_WINDOW // 2, 0.0, 0.0)
        self.assertEqual(w.size, INITIAL_WINDOW)


class ShrinkTests(SynchronousTestCase):
    """A window that is not needed any more goes back."""

    def test_idle(self) -> None:
        """A stream that was fast, and then trickles, ends at the initial size, and the budget has everything back."""
        budget = WindowBudget()
        w = window(budget)
        now = saturate(w, 20)
        self.assertEqual(budget.used, MAXIMUM - INITIAL_WINDOW)
        while w.credit > INITIAL_WINDOW:
            now += IDLE
            self.assertEqual(pass_(w, 32 * KIB, now), 0)
        self.assertEqual(w.size, INITIAL_WINDOW)
        self.assertEqual(budget.used, 0)

    def test_announcedCreditCounts(self) -> None:
        """Credit that the peer has cannot be taken back, so the budget has it only when it is used up."""
        budget = WindowBudget()
        w = window(budget)
        now = saturate(w, 2)
        size = w.size
        pass_(w, 1, now + IDLE)
        self.assertLess(w.size, size)
        self.assertEqual(budget.used, w.credit + w.unconsumed - INITIAL_WINDOW)

    def test_excessIsGivenBackAtOnce(self) -> None:
        """The budget has a shrunk window's excess back when the peer has used it up, and not only at the next batch."""
        budget = WindowBudget()
        w = window(budget)
        now = saturate(w, 4) + IDLE
        pass_(w, 1, now)
        self.assertGreater(w.credit, w.size)
        pass_(w, w.credit - w.size - 1, now)
        self.assertEqual(budget.used, w.size + 1 - INITIAL_WINDOW)
        pass_(w, 2, now)
        self.assertEqual(budget.used, w.size - INITIAL_WINDOW)

    def test_notYetIdle(self) -> None:
        """Just before L{IDLE} has passed a window keeps its size, and just then it does not."""
        w = window()
        now = saturate(w, 4)
        size = w.size
        pass_(w, 1, now + IDLE * 0.999)
        self.assertEqual(w.size, size)
        pass_(w, 1, now + IDLE)
        self.assertEqual(w.size, size // 2)

    def test_slower(self) -> None:
        """A stream that goes on at much less than its window per round trip gives the window back by and by."""
        w = window()
        now = saturate(w, 20)
        for _ in range(4000):
            now += RTT
            pass_(w, 20 * KIB, now)
        self.assertEqual(w.size, INITIAL_WINDOW)

    def test_hysteresis(self) -> None:
        """A window is halved when half of it is twice what is under way, and not when that would be too little."""
        for pieces, size in ((72, MAXIMUM), (56, MAXIMUM // 2)):
            w = window()
            now = saturate(w, 20)
            for _ in range(10 * pieces):
                now += RTT / pieces
                pass_(w, 64 * KIB, now)
            self.assertEqual(w.size, size)

    def test_stillWorks(self) -> None:
        """A window that has shrunk grows again when it is needed."""
        w = window()
        now = saturate(w, 20)
        while w.credit > INITIAL_WINDOW:
            now += IDLE
            pass_(w, 32 * KIB, now)
        saturate(w, 20, now)
        self.assertEqual(w.size, MAXIMUM)


class BudgetTests(SynchronousTestCase):
    """All windows together stay within the budget."""

    def test_shared(self) -> None:
        """Windows of one budget grow as far as it allows, and no farther."""
        budget = WindowBudget(3 * INITIAL_WINDOW)
        first, second = window(budget), window(budget)
        saturate(first, 20)
        saturate(second, 20)
        self.assertEqual((first.size, second.size), (4 * INITIAL_WINDOW, INITIAL_WINDOW))

    def test_none(self) -> None:
        """Without a budget, windows work at their initial size."""
        w = window(WindowBudget(0))
        saturate(w, 20)
        self.assertEqual((w.size, w.credit), (INITIAL_WINDOW, INITIAL_WINDOW))

    def test_end(self) -> None:
        """When the peer has ended, only what is not consumed counts, and that until it is."""
        budget = WindowBudget()
        w = window(budget)
        now = saturate(w, 20)
        w.receive(INITIAL_WINDOW + 1000)
        w.end()
        self.assertEqual(budget.used, 1000)
        w.consume(400, now, RTT)
        self.assertEqual(budget.used, 600)
        w.consume(INITIAL_WINDOW + 600, now, RTT)
        self.assertEqual(budget.used, 0)

    def test_release(self) -> None:
        """A stream that is gone gives everything back, once."""
        budget = WindowBudget()
        w = window(budget)
        saturate(w, 20)
        w.release()
        self.assertEqual(budget.used, 0)
        w.release()
        self.assertEqual(budget.used, 0)

    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    @given(
        limit=st.integers(0, 4 * INITIAL_WINDOW),
        steps=st.lists(
            st.tuples(
                st.integers(0, 2),
                st.sampled_from([0, 1, 1000, 64 * KIB, 256 * KIB, 2048 * KIB]),
                st.sampled_from([0, 1, 1000, 64 * KIB, 256 * KIB, 2048 * KIB]),
                st.sampled_from([0.0, 0.001, 0.04, 1.0, IDLE]),
                st.sampled_from([None, 0.0, 0.001, 0.04]),
            ),
            max_size=60,
        ),
    )
    def test_always(self, limit: int, steps: list[tuple[int, int, int, float, float | None]]) -> None:
        """Whatever happens, no count is negative, and what peers can make us hold is in the budget, which holds."""
        budget = WindowBudget(limit)
        windows = [window(budget) for _ in range(3)]
        now = 0.0
        for which, received, consumed, passed, rtt in steps:
            now += passed
            w = windows[which]
            w.receive(min(received, w.credit))
            before = w.credit
            granted = w.consume(min(consumed, w.unconsumed), now, rtt)
            self.assertEqual(w.credit, before + granted)
            self.assertGreaterEqual(min(granted, w.credit, w.unconsumed), 0)
            self.assertLessEqual(INITIAL_WINDOW, w.size)
            self.assertLessEqual(w.size, MAXIMUM)
            reserved = sum(max(0, max(w.size, w.credit + w.unconsumed) - INITIAL_WINDOW) for w in windows)
            self.assertEqual(budget.used, reserved)
            self.assertLessEqual(budget.used, limit)
        for w in windows:
            w.release()
        self.assertEqual(budget.used, 0)
