"""Tests for L{gateway.wire.preferences}."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.preferences import preferences


class PreferencesTests(SynchronousTestCase):
    """L{preferences} reads what clients send."""

    def test_weights(self) -> None:
        """Each member has its weight, 1 without any, over all lines."""
        for values, expected in (
            ([], {}),
            ([""], {}),
            (["gzip"], {"gzip": 1.0}),
            (["gzip, ZSTD ; Q=0.5", "br;q=0"], {"gzip": 1.0, "zstd": 0.5, "br": 0.0}),
            (["text/html;level=1;q=0.25, */*;q=0.001"], {"text/html": 0.25, "*/*": 0.001}),
            (["a;q=1.000, a;q=0"], {"a": 1.0}),
        ):
            self.assertEqual(preferences(values), expected)

    def test_unreadable(self) -> None:
        """What is no weight makes no member."""
        for wrong in ("a;q=2", "a;q=-1", "a;q=", "a;q=0.0001", "a;q=nan", "a;q=1.001", "a;q=.5", ";q=1", ",,", " ; "):
            self.assertEqual(preferences([wrong]), {}, wrong)

    def test_many(self) -> None:
        """Nobody makes work by sending ever so many."""
        self.assertEqual(len(preferences([",".join(f"a{n}" for n in range(10_000))])), 64)

    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    @given(st.lists(st.text(st.sampled_from("aq=;,.01 \t*/-\u00fc"), max_size=40), max_size=3))
    def test_anything(self, values: list[str]) -> None:
        """Whatever is sent, weights are weights."""
        self.assertTrue(all(name and 0 <= weight <= 1 for name, weight in preferences(values).items()))
