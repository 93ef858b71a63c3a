"""Tests for L{gateway.wire.crc32c}."""

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.crc32c import crc32c


class Crc32cTests(SynchronousTestCase):
    """L{crc32c} is the one that others compute."""

    def test_vectors(self) -> None:
        """The examples of RFC 3720, appendix B.4, and the usual check."""
        for data, value in (
            (b"", 0),
            (b"123456789", 0xE3069283),
            (bytes(32), 0x8A9136AA),
            (b"\xff" * 32, 0x62A8AB43),
            (bytes(range(32)), 0x46DD794E),
            (bytearray(range(31, -1, -1)), 0x113FDB5C),
        ):
            self.assertEqual(crc32c(data), value)
