"""
Pieces of payload that wait, to be sent or to be taken: few of them, so that what comes a byte at a time, as anybody may
have it come, is no object for each byte::

    queue: list[Buffer] = [b"abc", b"def"]
    takeFirst(queue, 4)                         # b"abcd"; b"ef" waits on
    kept: list[bytes | bytearray] = []
    keep(kept, b"a")
    keep(kept, b"b")                            # kept is [bytearray(b"ab")]
"""

__all__ = ["keep", "takeFirst"]

from gateway.net.direct import Buffer

_SMALL = 4096
"""Bytes below which it costs less to copy a piece than to treat it as one."""


def takeFirst(queue: list[Buffer], count: int) -> Buffer:
    """
    @param queue: what waits, not empty. Where its first piece is small, all are made one.
    @param count: bytes, at most, and at least 1.
    @return: the beginning of it, which waits no more.
    """
    first = queue[0]
    if len(queue) > 1 and len(first) < _SMALL:
        first = b"".join(queue)
        queue.clear()
        queue.append(first)
    if len(first) <= count:
        del queue[0]
        return first
    view = memoryview(first)
    queue[0] = view[count:]
    return view[:count]


def keep(kept: list[bytes | bytearray], data: Buffer) -> None:
    """
    @param kept: pieces in their order, to which a copy of one is added, or to whose last one it is.
    """
    if len(data) >= _SMALL:
        kept.append(bytes(data))
    elif kept and isinstance(last := kept[-1], bytearray):
        last += data
    else:
        kept.append(bytearray(data))
