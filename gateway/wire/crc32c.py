"""
CRC-32C, the checksum of RFC 4960, appendix B::

    assert crc32c(b"123456789") == 0xE3069283
"""

__all__ = ["crc32c"]


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _table()


def crc32c(data: bytes | bytearray) -> int:
    """One step for each byte: for a header now and then, and not for payload."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
