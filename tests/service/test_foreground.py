"""Tests for L{gateway.service.foreground}."""

import signal

from twisted.trial.unittest import SynchronousTestCase

from gateway.service.foreground import StopSignals


class StopSignalsTests(SynchronousTestCase):
    """SIGINT and SIGTERM while a service runs."""

    def setUp(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.stops: list[None] = []
        self.signals = StopSignals(lambda: self.stops.append(None))

    def test_twice(self) -> None:
        """Two signals before the reactor has begun to stop stop it once: it complains of a second time."""
        self.signals.take()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
            self.assertEqual(len(self.stops), 1)

    def test_ignored(self) -> None:
        """SIGINT stays ignored in the background of a shell, where Ctrl-C is for somebody else."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.signals.take()
        signal.raise_signal(signal.SIGINT)
        self.assertEqual(self.stops, [])
