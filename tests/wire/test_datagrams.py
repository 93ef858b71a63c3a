"""Tests for L{gateway.wire.datagrams}."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.datagrams import LENGTH, MAX_DATAGRAM, DatagramDecoder
from gateway.wire.errors import RemoteProtocolError

FUZZ = settings(deadline=None, max_examples=200, database=None, derandomize=True)


def wire(datagrams: Iterable[bytes]) -> bytes:
    """What is written for these."""
    return b"".join(LENGTH.pack(len(each)) + each for each in datagrams)


class LengthTests(SynchronousTestCase):
    """L{LENGTH} is what stands before a datagram."""

    def test_bytes(self) -> None:
        """The length comes first, big-endian; a datagram may be empty."""
        self.assertEqual(wire([b"abc", b"", bytes(258)]), b"\0\3abc" + b"\0\0" + b"\1\2" + bytes(258))


class DatagramDecoderTests(SynchronousTestCase):
    """L{DatagramDecoder} takes datagrams off a stream."""

    DATAGRAMS = (b"", b"a", b"bc", bytes(300), b"", b"d" * 70)

    def test_everySplit(self) -> None:
        """Datagrams come out whole, wherever the stream is cut in two."""
        data = wire(self.DATAGRAMS)
        for cut in range(len(data) + 1):
            decoder = DatagramDecoder()
            self.assertEqual([*decoder.receive(data[:cut]), *decoder.receive(data[cut:])], [*self.DATAGRAMS])

    def test_byteByByte(self) -> None:
        """A datagram comes out with its last byte, and an empty one with its length."""
        data = wire(self.DATAGRAMS)
        for kind in (bytes, memoryview):
            decoder = DatagramDecoder()
            found = []
            for at in range(len(data)):
                found += decoder.receive(kind(data[at : at + 1]))
                self.assertEqual(wire(found), data[: len(wire(found))])
                self.assertLessEqual(at + 1 - len(wire(found)), 301)
            self.assertEqual(found, [*self.DATAGRAMS])

    def test_payloadIsACopy(self) -> None:
        """What comes out is C{bytes}, and keeps nothing of what was read alive."""
        data = bytearray(wire([b"abc"]))
        (found,) = DatagramDecoder().receive(memoryview(data))
        data[2:] = b"xyz"
        self.assertEqual((found, type(found)), (b"abc", bytes))

    def test_limit(self) -> None:
        """A datagram as long as the limit is taken; one a byte longer is refused when its length is here."""
        (found,) = DatagramDecoder().receive(wire([bytes(MAX_DATAGRAM)]))
        self.assertEqual(len(found), MAX_DATAGRAM)
        for length in (MAX_DATAGRAM + 1, 0xFFFF):
            head = length.to_bytes(2)
            for data in (head, head + bytes(length), wire([b"a"]) + head):
                error = self.assertRaises(RemoteProtocolError, DatagramDecoder().receive, data)
                self.assertEqual(error.code, "datagram-too-long")
            decoder = DatagramDecoder()
            decoder.receive(head[:1])
            self.assertRaises(RemoteProtocolError, decoder.receive, head[1:])

    @FUZZ
    @given(st.lists(st.binary(max_size=40), max_size=20), st.lists(st.integers(0, 400), max_size=8))
    def test_roundTrip(self, datagrams: list[bytes], cuts: list[int]) -> None:
        """Whatever goes in comes out, in pieces of any size."""
        data = wire(datagrams)
        decoder = DatagramDecoder()
        found = []
        start = 0
        for cut in [*sorted(cuts), len(data)]:
            found += decoder.receive(data[start:cut])
            start = max(start, cut)
        self.assertEqual(found, datagrams)
