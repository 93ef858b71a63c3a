"""Tests for L{gateway.domain.identity}."""

from dataclasses import FrozenInstanceError

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.identity import ANONYMOUS, UNLIMITED, Identity, Limits


class IdentityTests(SynchronousTestCase):
    """L{Identity} is a value that says who someone is and what comes with it."""

    def test_nothingIsLimitedByDefault(self) -> None:
        """An identity without more reaches everything, without limits, for ever."""
        self.assertIsNone(ANONYMOUS.targets)
        self.assertIsNone(ANONYMOUS.defaultTarget)
        self.assertIsNone(ANONYMOUS.expires)
        self.assertEqual(ANONYMOUS.limits, UNLIMITED)
        self.assertEqual(UNLIMITED, Limits(sessions=None, bytesPerSecond=None, seconds=None))

    def test_expiresAtTheMoment(self) -> None:
        """A credential is good just before its expiry and no longer at it."""
        alice = Identity("alice", expires=100.0)
        self.assertFalse(alice.hasExpired(99.999))
        self.assertTrue(alice.hasExpired(100.0))

    def test_neverExpires(self) -> None:
        """Without an expiry, any moment is early enough."""
        self.assertFalse(Identity("alice").hasExpired(1e18))

    def test_reprHidesTheRevision(self) -> None:
        """The digest of a credential does not reach logs by way of C{repr} or C{str}."""
        alice = Identity("alice", revision="sha256:abc")
        self.assertNotIn("abc", f"{alice!r} {alice}")

    def test_cannotBeChanged(self) -> None:
        """Nobody makes themselves someone else."""
        with self.assertRaises(FrozenInstanceError):
            ANONYMOUS.name = "root"  # type: ignore[misc]
