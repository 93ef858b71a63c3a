"""
Tests for L{gateway.net.pieces}.
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.direct import Buffer
from gateway.net.pieces import keep, takeFirst

PIECES = st.lists(st.sampled_from([1, 2, 100, 4095, 4096, 10_000]).flatmap(lambda n: st.binary(min_size=n, max_size=n)))


class TakeFirstTests(SynchronousTestCase):
    """What waits to be sent."""

    @settings(deadline=None, max_examples=100, database=None, derandomize=True)
    @given(PIECES, st.integers(1, 9000))
    def test_allInOrder(self, pieces: list[bytes], count: int) -> None:
        """All of it is taken, in order, as much at a time as is wanted and no more, and nothing of it is empty."""
        queue: list[Buffer] = [*pieces]
        taken = []
        while queue:
            piece = takeFirst(queue, count)
            self.assertTrue(0 < len(piece) <= count)
            taken.append(bytes(piece))
        self.assertEqual(b"".join(taken), b"".join(pieces))

    def test_small(self) -> None:
        """Small pieces are taken as one."""
        queue: list[Buffer] = [b"x"] * 1000
        self.assertEqual((bytes(takeFirst(queue, 600)), len(queue)), (b"x" * 600, 1))
        self.assertEqual((bytes(takeFirst(queue, 600)), queue), (b"x" * 400, []))

    def test_large(self) -> None:
        """A large one is not copied, whether it is taken whole or in part."""
        whole, part = bytes(5000), bytes(5000)
        queue: list[Buffer] = [whole, part]
        self.assertIs(takeFirst(queue, 5000), whole)
        view = takeFirst(queue, 1000)
        assert isinstance(view, memoryview)
        self.assertIs(view.obj, part)


class KeepTests(SynchronousTestCase):
    """What came before anybody wanted it."""

    @settings(deadline=None, max_examples=100, database=None, derandomize=True)
    @given(PIECES)
    def test_allInOrder(self, pieces: list[bytes]) -> None:
        """All of it is kept, in order."""
        kept: list[bytes | bytearray] = []
        for piece in pieces:
            keep(kept, memoryview(piece))
        self.assertEqual(b"".join(kept), b"".join(pieces))

    def test_small(self) -> None:
        """However small the pieces, there are few of them."""
        kept: list[bytes | bytearray] = []
        for _ in range(1000):
            keep(kept, b"x")
        self.assertEqual(kept, [b"x" * 1000])

    def test_copied(self) -> None:
        """Nothing of what was given is needed any more."""
        for size in (10, 5000):
            data = bytearray(size)
            kept: list[bytes | bytearray] = []
            keep(kept, memoryview(data))
            data[0] = 1
            self.assertEqual(kept, [bytes(size)])
