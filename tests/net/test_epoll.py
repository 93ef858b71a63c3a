"""
Tests for how often L{gateway.net.epoll} looks again before it waits.
"""

import sys
from time import monotonic

from twisted.trial.unittest import SynchronousTestCase

if sys.platform == "linux":
    from gateway.net.epoll import _EPollReactor, _Patience


class Poller:
    """Has the events that it is given, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.events: list[tuple[int, int]] = []

    def poll(self, timeout: float, count: int) -> list[tuple[int, int]]:
        """Never waits."""
        self.asked += 1
        return self.events


class PatienceTests(SynchronousTestCase):
    """
    Looking again costs little where it brings nothing.
    """

    if sys.platform != "linux":
        skip = "there is epoll on Linux alone"

    def looks(self, count: int) -> int:
        """In how many of so many turns it looked."""
        looked = 0
        for _ in range(count):
            before = self.poller.asked
            self.found = self.patience.look(self.poller, 1)  # type: ignore[arg-type]  # all of an epoll that is used
            looked += self.poller.asked > before
        return looked

    def setUp(self) -> None:
        self.poller = Poller()
        self.patience = _Patience()

    def test_inVain(self) -> None:
        """It looks more and more seldom, down to once in 64 turns."""
        self.assertEqual(self.looks(2 + 4 + 8 + 16 + 32 + 64), 6)
        self.assertEqual(self.looks(640), 10)
        self.assertEqual(self.found, [])

    def test_worthIt(self) -> None:
        """As soon as it brings something it looks each time."""
        self.looks(500)
        self.poller.events = [(3, 1)]
        self.looks(64)
        self.assertEqual(self.looks(100), 100)
        self.assertEqual(self.found, [(3, 1)])


class ReactorTests(SynchronousTestCase):
    """
    What is other than Twisted's.
    """

    if sys.platform != "linux":
        skip = "there is epoll on Linux alone"

    def test_seconds(self) -> None:
        """What is due does not come late, or at once, because a clock was set."""
        self.assertIs(_EPollReactor.seconds, monotonic)
