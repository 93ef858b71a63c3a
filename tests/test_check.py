"""
The program behind C{make check} must count honestly: a run that broke must never look like one that passed.
"""

from twisted.trial.unittest import SynchronousTestCase

from scripts.check import Counts, countTrial, skipReasons


class CountTrialTests(SynchronousTestCase):
    """What L{countTrial} makes of the end of a trial run."""

    def test_numbers(self) -> None:
        """Failures, errors and unexpected successes are failures; skips are neither."""
        output = (
            "Ran 21 tests in 1.234s\n\nFAILED (skips=4, expectedFailures=1, failures=2, errors=3, "
            "unexpectedSuccesses=1, successes=10)\n"
        )
        self.assertEqual(countTrial(1, output), Counts(passed=11, failed=6, skipped=4))

    def test_allPassed(self) -> None:
        """A clean run has no failures."""
        self.assertEqual(countTrial(0, "Ran 2 tests\n\nPASSED (successes=2)\n"), Counts(passed=2))

    def test_nothingToRun(self) -> None:
        """A package without tests neither passes nor fails."""
        self.assertEqual(countTrial(0, "Ran 0 tests in 0.000s\n\nPASSED\n"), Counts())

    def test_noVerdict(self) -> None:
        """A run that died, or that never began, is one failure, whatever its exit status."""
        for status in (0, 1, -9):
            with self.subTest(status):
                self.assertEqual(countTrial(status, "Traceback (most recent call last):\n"), Counts(failed=1))

    def test_badEnd(self) -> None:
        """A run that reports success and then exits with a failure is a failure."""
        self.assertEqual(countTrial(1, "PASSED (successes=2)\n"), Counts(passed=2, failed=1))

    def test_lastVerdictCounts(self) -> None:
        """A line like a verdict in the output of a test is not mistaken for the verdict."""
        output = "PASSED (successes=100)\nmore\nFAILED (failures=1, successes=1)\n"
        self.assertEqual(countTrial(1, output), Counts(passed=1, failed=1))


class ReportTests(SynchronousTestCase):
    """What a person is told."""

    def test_total(self) -> None:
        """The total names skips only when there are some."""
        self.assertEqual(str(Counts(passed=3) + Counts(failed=1)), "3 passed, 1 failed")
        self.assertEqual(str(Counts(1, 0) + Counts(1, 0, 2)), "2 passed, 0 failed, 2 skipped")

    def test_skipReasons(self) -> None:
        """Every reason for skipping is told once."""
        output = "\n".join(["[SKIPPED]", "sshd is missing", "", "tests.a", "[SKIPPED]", "sshd is missing", ""])
        self.assertEqual(skipReasons(output), ["sshd is missing"])
