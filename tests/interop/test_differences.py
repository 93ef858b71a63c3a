"""
Tests for L{tests.interop.differences}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.differences import DOCUMENT, generate


class DifferencesTests(SynchronousTestCase):
    """The document says what the transcripts say."""

    def test_documentIsUpToDate(self) -> None:
        """The document in the repository is the one that the transcripts generate."""
        self.assertEqual(DOCUMENT.read_text(encoding="utf-8"), generate(), "run python -m tests.interop.differences")
