"""Tests for L{gateway.wire.http2budget}."""

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.http2budget import Budget


class BudgetTests(SynchronousTestCase):
    """So many in such a time."""

    def test_limit(self) -> None:
        """As many as the limit may come at once, and no more."""
        budget = Budget(3, 30.0)
        self.assertEqual([budget.spend(5.0) for _ in range(4)], [True, True, True, False])

    def test_time(self) -> None:
        """They come back one by one, evenly."""
        budget = Budget(3, 30.0)
        for _ in range(3):
            budget.spend(0.0)
        self.assertTrue(budget.spend(10.0))
        self.assertFalse(budget.spend(19.0))

    def test_earn(self) -> None:
        """What is earned may be spent again, and is not saved up."""
        budget = Budget(2, 30.0)
        budget.earn(5)
        budget.spend(0.0)
        budget.spend(0.0)
        budget.earn()
        self.assertEqual([budget.spend(0.0), budget.spend(0.0)], [True, False])
