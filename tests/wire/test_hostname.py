"""Tests for L{gateway.wire.hostname}."""

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.hostname import foldName, isHostName


class HostNameTests(SynchronousTestCase):
    """L{isHostName} tells host names from everything else."""

    def test_names(self) -> None:
        """Letters, digits, hyphens and underscores in labels with dots between; up to 63 and 253 of them."""
        for name in (
            "a",
            "gw.example",
            "xn--bcher-kva.example",
            "_acme.my_app.example",
            "1.2.3.example",
            "3com.com",
            "example.1a",
            "a" * 63 + ".example",
            ".".join(["a" * 63] * 3 + ["a" * 61]),
        ):
            self.assertTrue(isHostName(name), name)

    def test_others(self) -> None:
        """Nothing else: no upper case, no dot at the end, no address, no wildcard, nothing too long."""
        for name in (
            "",
            ".",
            "gw.example.",
            ".gw.example",
            "gw..example",
            "Gw.example",
            "-gw.example",
            "gw-.example",
            "*.example",
            "gw example",
            "gw.example\n",
            "gw.example:443",
            "b\u00fccher.example",
            "gw.ex\u0430mple",
            "gw.\u0661",
            "192.0.2.1",
            "1",
            "::1",
            "a" * 64 + ".example",
            ".".join(["a" * 63] * 3 + ["a" * 62]),
        ):
            self.assertFalse(isHostName(name), name)


class FoldTests(SynchronousTestCase):
    """L{foldName} gives a name its one form."""

    def test_folds(self) -> None:
        """Capitals, letters of other scripts and the dot at the end are gone."""
        for text, name in (
            ("GW.Example", "gw.example"),
            ("gw.example.", "gw.example"),
            ("Bücher.example", "xn--bcher-kva.example"),
            ("bücher。example。", "xn--bcher-kva.example"),
            ("XN--Bcher-KVA.example", "xn--bcher-kva.example"),
        ):
            self.assertEqual(foldName(text), name)

    def test_impossible(self) -> None:
        """What stands for no name is refused, with a sentence that quotes no more than a piece of it."""
        for text in ("a\u2028b.example", "ü" * 300):
            error = self.assertRaises(ValueError, foldName, text)
            self.assertIn("is not a valid international name", str(error))
            self.assertLess(len(str(error)), 130)
