"""Tests for L{gateway.wire.errors}."""

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, ProtocolError, RemoteProtocolError


class ErrorTests(SynchronousTestCase):
    """Whose fault it was can be told from the class."""

    def test_remote(self) -> None:
        """The peer's fault has a code and a sentence, which its text joins."""
        error = RemoteProtocolError("bad-request", "This is not HTTP.")
        self.assertEqual((error.code, error.details), ("bad-request", "This is not HTTP."))
        self.assertEqual(str(error), "bad-request: This is not HTTP.")

    def test_whoseFault(self) -> None:
        """Neither kind is caught where the other is meant, and both are where any is."""
        self.assertFalse(issubclass(LocalProtocolError, RemoteProtocolError))
        self.assertFalse(issubclass(RemoteProtocolError, LocalProtocolError))
        self.assertTrue(
            issubclass(LocalProtocolError, ProtocolError) and issubclass(RemoteProtocolError, ProtocolError)
        )
