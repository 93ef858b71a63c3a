"""Tests for L{gateway.service.secretcommand}."""

from __future__ import annotations

import io
import sys

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.tokens import MAX_TOKEN_LENGTH, hashToken
from gateway.service import secretcommand
from gateway.service.main import main


class SecretTests(SynchronousTestCase):
    """C{gateway secret} and C{gateway hash-secret}."""

    def setUp(self) -> None:
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)
        self.patch(sys, "argv", ["gateway"])

    def hashed(self, text: str) -> str | None:
        """What is printed for an input; C{None} if it is refused."""
        self.patch(sys, "stdin", io.StringIO(text))
        self.output.truncate(0)
        self.output.seek(0)
        return self.output.getvalue() if main(["hash-secret"]) == 0 else None

    def test_sameHash(self) -> None:
        """The hash of a new secret is that which the other command prints for it."""
        self.assertEqual(main(["secret"]), 0)
        secret, digest = self.output.getvalue(), self.errors.getvalue()
        self.assertEqual(self.hashed(secret), digest)

    def test_input(self) -> None:
        """A line end is no part of the secret, and blanks are."""
        for text, secret in (("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), (" a \n", " a ")):
            self.assertEqual(self.hashed(text), hashToken(secret) + "\n")
        self.assertIsNotNone(self.hashed("x" * MAX_TOKEN_LENGTH))

    def test_none(self) -> None:
        """What is no secret that could be used is refused in one line, which does not show it."""
        for text in ("", "\n", "one\ntwo\n", "x" * (MAX_TOKEN_LENGTH + 1)):
            self.assertIsNone(self.hashed(text))
        self.assertNotIn("two", self.errors.getvalue())

    def test_terminal(self) -> None:
        """At a terminal it is asked for, and not shown."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        self.patch(secretcommand, "getpass", lambda prompt: "typed")
        self.patch(sys, "stdin", Terminal())
        self.assertEqual(main(["hash-secret"]), 0)
        self.assertEqual(self.output.getvalue(), hashToken("typed") + "\n")
