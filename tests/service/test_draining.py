"""Tests for L{gateway.service.draining}: how long it waits, and for whom."""

import signal
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.draining import Draining, IReactorDraining, Vacancy
from tests.service.tabby.test_service import Reactor


class VacancyTests(SynchronousTestCase):
    """Who waits until nobody is left."""

    def test_lastOne(self) -> None:
        """All who wait are told when the last one has left, not before, and once."""
        present = {1, 2}
        vacancy = Vacancy(present)
        waiting = [vacancy.awaited(), vacancy.awaited()]
        present.remove(1)
        vacancy.left()
        for each in waiting:
            self.assertNoResult(each)
        present.remove(2)
        vacancy.left()
        for each in waiting:
            self.successResultOf(each)
        vacancy.left()

    def test_nobody(self) -> None:
        """With nobody there it is over at once."""
        self.successResultOf(Vacancy(()).awaited())


class DrainingTests(SynchronousTestCase):
    """Each way in which a wait is over."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.draining = Draining(cast(IReactorDraining, self.reactor))

    def wait(self, seconds: float, over: Deferred[Any]) -> Deferred[None]:
        """Wait; the Deferred."""
        return Deferred.fromCoroutine(self.draining.wait(seconds, over))

    def test_over(self) -> None:
        """It is over in the turn after what it waits for is, and leaves nothing on the clock."""
        over: Deferred[None] = Deferred()
        waiting = self.wait(10, over)
        self.assertNoResult(waiting)
        over.callback(None)
        self.assertNoResult(waiting)
        self.reactor.advance(0)
        self.successResultOf(waiting)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nothingToWaitFor(self) -> None:
        """It is over at once when there is nothing to wait for, or no time."""
        self.successResultOf(self.wait(10, succeed(None)))
        self.successResultOf(self.wait(0, Deferred()))

    def test_failure(self) -> None:
        """It is over, too, when what it waits for fails, early or late or when there was no time; the log says how."""
        over: Deferred[None] = Deferred()
        waiting = self.wait(10, over)
        over.errback(ZeroDivisionError())
        self.reactor.advance(0)
        self.successResultOf(waiting)
        for seconds in (10, 0):
            self.successResultOf(self.wait(seconds, fail(ZeroDivisionError())))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_time(self) -> None:
        """It is over when time is up, and not before; what comes later does nothing to the next wait."""
        over: Deferred[None] = Deferred()
        waiting = self.wait(10, over)
        self.reactor.advance(9.75)
        self.assertNoResult(waiting)
        self.reactor.advance(0.25)
        self.successResultOf(waiting)
        following = self.wait(10, Deferred())
        over.callback(None)
        self.assertNoResult(following)
        self.reactor.advance(10)
        self.successResultOf(following)

    def test_severalAtOnce(self) -> None:
        """Waits that go on at the same time end each by itself; impatience ends them all."""
        over: Deferred[None] = Deferred()
        one, other, third = self.wait(10, over), self.wait(5, Deferred()), self.wait(20, Deferred())
        self.reactor.advance(5)
        self.successResultOf(other)
        self.assertNoResult(one)
        over.callback(None)
        self.reactor.advance(0)
        self.successResultOf(one)
        self.assertNoResult(third)
        self.draining.hurry()
        self.successResultOf(third)

    def test_signals(self) -> None:
        """Meanwhile a signal ends the wait; afterwards signals are whose they were."""
        before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        with self.draining.hurriedBySignals():
            for number in (signal.SIGINT, signal.SIGTERM):
                waiting = self.wait(10, Deferred())
                signal.raise_signal(number)
                self.successResultOf(waiting)
            signal.raise_signal(signal.SIGINT)  # with nothing to hurry
        self.assertEqual([signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)], before)
