"""Tests for L{gateway.net.budget}."""

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.budget import IStalls, StallBudget


@implementer(IStalls)
class Stalled:
    """A half of a relay that ends when it is told to, with others that are of the same connection."""

    def __init__(self, budget: StallBudget, *others: "Stalled") -> None:
        self.budget = budget
        self.ended = False
        self.others = others

    def outOfMemory(self) -> None:
        for half in (self, *self.others):
            half.ended = True
            self.budget.flows(half)


class StallBudgetTests(SynchronousTestCase):
    """L{StallBudget} bounds what stalled readers cost."""

    def setUp(self) -> None:
        self.budget = StallBudget(3 * StallBudget.PER_HALF)
        self.a, self.b, self.c, self.d = self.halves = [Stalled(self.budget) for _ in range(4)]

    def assertEnded(self, *expected: Stalled) -> None:
        """Assert which halves were ended."""
        self.assertEqual([half for half in self.halves if half.ended], list(expected))

    def test_used(self) -> None:
        """Each half that is held up counts once, until it flows."""
        self.assertEqual(self.budget.used, 0)
        for half in (self.a, self.b, self.a):
            self.budget.stalled(half)
        self.assertEqual(self.budget.used, 2 * StallBudget.PER_HALF)
        for half in (self.a, self.a, self.c):
            self.budget.flows(half)
        self.assertEqual(self.budget.used, StallBudget.PER_HALF)
        self.budget.flows(self.b)
        self.assertEqual(self.budget.used, 0)

    def test_limit(self) -> None:
        """A budget may be used up; one half more costs the one that has been stalled longest its connection."""
        for half in (self.a, self.b, self.c):
            self.budget.stalled(half)
        self.assertEqual(self.budget.used, self.budget.limit)
        self.assertEnded()
        self.budget.stalled(self.d)
        self.assertEnded(self.a)
        self.assertEqual(self.budget.used, self.budget.limit)

    def test_oneByteLess(self) -> None:
        """A limit that is a byte short of a half has no room for it."""
        self.budget.limit -= 1
        for half in (self.a, self.b, self.c):
            self.budget.stalled(half)
        self.assertEnded(self.a)

    def test_pausedAgain(self) -> None:
        """A half that is paused again, as transports do, has been stalled since the first time."""
        for half in (self.a, self.b, self.c, self.a, self.d):
            self.budget.stalled(half)
        self.assertEnded(self.a)

    def test_flowedMeanwhile(self) -> None:
        """A half that flowed meanwhile has been stalled since it stopped again."""
        for half in (self.a, self.b, self.c):
            self.budget.stalled(half)
        self.budget.flows(self.a)
        self.budget.stalled(self.a)
        self.budget.stalled(self.d)
        self.assertEnded(self.b)

    def test_wholeConnection(self) -> None:
        """When the connection that ends had more than one half held up, all of them are room for others."""
        self.a.others = (self.c,)
        for half in self.halves:
            self.budget.stalled(half)
        self.assertEnded(self.a, self.c)
        self.assertEqual(self.budget.used, 2 * StallBudget.PER_HALF)

    def test_noRoomAtAll(self) -> None:
        """A half that has no room even alone is ended itself."""
        self.budget.limit = 0
        self.budget.stalled(self.b)
        self.assertEnded(self.b)
        self.assertEqual(self.budget.used, 0)

    def test_defaultLimit(self) -> None:
        """Without other words the budget is 512 MiB."""
        self.assertEqual(StallBudget().limit, 512 * 1024 * 1024)
