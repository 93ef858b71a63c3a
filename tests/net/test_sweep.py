"""
Tests for L{gateway.net.sweep}.
"""

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.sweep import ISwept, Sweep


@implementer(ISwept)
class Watched:
    """Notes when it was looked at."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.seen: list[float] = []
        self.then = then

    def check(self, now: float) -> None:
        self.seen.append(now)
        self.then()


class SweepTests(SynchronousTestCase):
    """One timer for all."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sweep = Sweep(self.clock)

    def test_looksOnceASecond(self) -> None:
        """All that is watched is looked at once a second, with one delayed call."""
        first, second = Watched(), Watched()
        self.sweep.watch(first)
        self.clock.advance(0.5)
        self.sweep.watch(second)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([0.4, 0.1, 1.0, 0.9])
        self.assertEqual((first.seen, second.seen), ([1.0, 2.0], [1.0, 2.0]))

    def test_restsWhenThereIsNothingToWatch(self) -> None:
        """When all was forgotten no call is outstanding, and it begins again when something comes."""
        thing = Watched()
        self.sweep.watch(thing)
        self.sweep.forget(thing)
        self.clock.advance(1.0)
        self.assertEqual((thing.seen, self.clock.getDelayedCalls()), ([], []))
        self.sweep.watch(thing)
        self.clock.advance(1.0)
        self.assertEqual(thing.seen, [2.0])

    def test_forgottenDuringALook(self) -> None:
        """What is forgotten while another is looked at is not looked at, and what comes meanwhile is not yet."""
        second, third = Watched(), Watched()

        def change() -> None:
            self.sweep.forget(second)
            self.sweep.watch(third)

        self.sweep.watch(Watched(change))
        self.sweep.watch(second)
        self.clock.advance(1.0)
        self.assertEqual((second.seen, third.seen), ([], []))
        self.clock.advance(1.0)
        self.assertEqual(third.seen, [2.0])

    def test_stop(self) -> None:
        """When it is stopped it looks at nothing any more, and no call is outstanding."""
        thing = Watched()
        self.sweep.watch(thing)
        self.sweep.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1.0)
        self.assertEqual(thing.seen, [])
        self.sweep.stop()

    def test_forgetsWhatItDoesNotKnow(self) -> None:
        """To forget something twice is no error."""
        self.sweep.forget(Watched())

    def test_aDefectIsNotTheOthers(self) -> None:
        """What raises is logged, and neither the end of all looks nor of this one; nor of a turn's."""
        other = Watched()
        calls: list[int] = []
        self.sweep.watch(Watched(lambda: 1 / 0))
        self.sweep.watch(other)
        self.sweep.endOfTurn(lambda: 1 / 0)
        self.sweep.endOfTurn(lambda: calls.append(1))
        self.clock.advance(1.0)
        self.assertEqual((other.seen, calls), ([1.0], [1]))
        self.clock.advance(1.0)
        self.assertEqual(other.seen, [1.0, 2.0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_endOfTurn(self) -> None:
        """What is due at the end of a turn is called once, in order, by one delayed call."""
        calls: list[int] = []
        self.sweep.endOfTurn(lambda: calls.append(1))
        self.sweep.endOfTurn(lambda: calls.append(2))
        self.assertEqual((calls, len(self.clock.getDelayedCalls())), ([], 1))
        self.clock.advance(0)
        self.clock.advance(1)
        self.assertEqual(calls, [1, 2])

    def test_dueAtTheEndOfATurn(self) -> None:
        """What becomes due at the end of a turn is called as well."""
        calls: list[int] = []
        self.sweep.endOfTurn(lambda: self.sweep.endOfTurn(lambda: calls.append(1)))
        self.clock.advance(0)
        self.assertEqual(calls, [1])
        self.assertEqual(self.clock.getDelayedCalls(), [])
