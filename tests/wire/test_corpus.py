"""Replays the inputs that are kept for the decoders of L{gateway.wire}, and tests what fuzzes them."""

from collections.abc import Sequence
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.__main__ import cut, problem, smaller
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import CORPUS, MAX_INPUT, TARGETS, Events, Target, corpus, tokens


class CorpusTests(SynchronousTestCase):
    """What was learned about a decoder stays known."""

    def test_replay(self) -> None:
        """Each input is refused as documented or not at all, and means the same whole, byte by byte, and cut at random."""
        for name, target in TARGETS.items():
            for data in corpus(name):
                with self.subTest(f"{name}: {data.hex()}"):
                    whole = target.outcome([data])
                    self.assertEqual(target.outcome([data]), whole)
                    if target.isStream:
                        self.assertEqual(target.outcome([data[n : n + 1] for n in range(len(data))]), whole)
                        random = Random(data)
                        for _ in range(3):
                            self.assertEqual(target.outcome(cut(random, data)), whole)

    def test_modest(self) -> None:
        """Each file is a target's, each input is short and there once, and all together are few."""
        self.assertEqual({path.name for path in CORPUS.iterdir()}, {f"{name}.txt" for name in TARGETS})
        inputs = {name: corpus(name) for name in TARGETS}
        for name, known in inputs.items():
            self.assertTrue(known, name)
            self.assertEqual(len(known), len(set(known)), name)
            self.assertLessEqual(max(map(len, known)), MAX_INPUT, name)
        self.assertLessEqual(sum(map(len, inputs.values())), 400)


class FuzzTests(SynchronousTestCase):
    """What C{python -m tests.fuzz} rests on."""

    def test_units(self) -> None:
        """A target's units are the whole input, whatever it is."""
        random = Random(1)
        for name, target in TARGETS.items():
            for data in [*corpus(name), b"", random.randbytes(50)]:
                self.assertEqual(b"".join(target.units(data)), data, name)

    def test_mutated(self) -> None:
        """The same seed makes the same inputs, many different ones, none of which is too long."""
        known = corpus("http1")
        first, second = (
            [mutated(random, known, tokens, MAX_INPUT) for _ in range(500)] for random in (Random(1), Random(1))
        )
        self.assertEqual(first, second)
        self.assertGreater(len(set(first)), 400)
        self.assertLessEqual(max(map(len, first)), MAX_INPUT)

    def test_finds(self) -> None:
        """What is raised undocumented is found, and made as small as it goes."""

        def decode(pieces: Sequence[bytes]) -> Events:
            if b"boom" in tokens(b"".join(pieces)):
                raise KeyError
            return ()

        target = Target(decode, ())
        random, data = Random(1), b"GET /boom HTTP/1.1 boom"
        found = problem(random, target, data)
        assert found is not None
        self.assertIn("KeyError", found[0])
        self.assertEqual(smaller(random, target, data, found[0]), b"boom")
        self.assertIsNone(problem(random, target, b"GET /"))

    def test_findsCuts(self) -> None:
        """A stream of which the pieces mean something else than the whole is found."""
        found = problem(Random(1), Target(list, ()), b"a b c d")
        assert found is not None
        self.assertIn("the pieces mean something else", found[1])
