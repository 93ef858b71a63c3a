"""
Tests for L{gateway.net.timer}.
"""

import gc
from weakref import ref

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.timer import Timer


class TimerTests(SynchronousTestCase):
    """One call, later or never."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.timer = Timer(self.clock)
        self.calls: list[object] = []

    def test_calls(self) -> None:
        """What was asked for is called when it is due, not before, and once."""
        self.timer.start(10.0, self.calls.append, "late")
        self.clock.advance(9.99)
        self.assertEqual(self.calls, [])
        self.clock.advance(0.01)
        self.clock.advance(60.0)
        self.assertEqual(self.calls, ["late"])

    def test_stops(self) -> None:
        """When it is stopped nothing is called, and the clock keeps nothing of it."""
        self.timer.start(10.0, self.calls.append, "late")
        self.timer.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopsWhenItDoesNotRun(self) -> None:
        """It may be stopped before it was started, when it has called, and twice."""
        self.timer.stop()
        self.timer.start(1.0, self.calls.append, "late")
        self.clock.advance(1.0)
        self.timer.stop()
        self.timer.stop()
        self.assertEqual(self.calls, ["late"])

    def test_startsOver(self) -> None:
        """When it is started again only the second call is due, and its time counts from then."""
        self.timer.start(10.0, self.calls.append, "first")
        self.clock.advance(9.0)
        self.timer.start(10.0, self.calls.append, "second")
        self.clock.advance(9.99)
        self.assertEqual(self.calls, [])
        self.clock.advance(0.01)
        self.assertEqual(self.calls, ["second"])

    def test_isRunning(self) -> None:
        """It runs from the start to the call, to which it does not belong, or to the stop."""
        self.assertFalse(self.timer.isRunning)
        self.timer.start(1.0, lambda: self.calls.append(self.timer.isRunning))
        self.assertTrue(self.timer.isRunning)
        self.clock.advance(1.0)
        self.assertEqual((self.calls, self.timer.isRunning), ([False], False))
        self.timer.start(1.0, self.calls.append)
        self.timer.stop()
        self.assertFalse(self.timer.isRunning)

    def test_repeats(self) -> None:
        """What is called may start it again."""

        def look() -> None:
            self.calls.append(self.clock.seconds())
            self.timer.start(2.0, look)

        self.timer.start(2.0, look)
        self.clock.pump([1.0] * 6)
        self.assertEqual(self.calls, [2.0, 4.0, 6.0])

    def test_keepsNobodyAlive(self) -> None:
        """Who has had its call, or has stopped it, is freed without the help of the collector of cycles."""

        class Owner:
            def __init__(self, clock: Clock) -> None:
                self.timer = Timer(clock)
                self.timer.start(1.0, self.late)

            def late(self) -> None:
                """Nothing comes of it."""

        called, stopped = Owner(self.clock), Owner(self.clock)
        stopped.timer.stop()
        self.clock.advance(1.0)
        gone = ref(called), ref(stopped)
        gc.disable()
        self.addCleanup(gc.enable)
        del called, stopped
        self.assertEqual([each() for each in gone], [None, None])
