"""
Compression of responses on the way to visitors who take it (RFC 9110, sections 8.4 and 12.5.3), as they come, piece by
piece.

A response is only touched where that changes nothing but its size: not a part of something, not what is compressed
already, not what says that it wants to stay as it is::

    fields, compressor = compressed(("zstd", "gzip"), request, response, length)
    if compressor is not None:                          # the length is not known any more
        send(compressor.compress(piece))                # all of it can be read at once: events are not held back
        send(compressor.finish())

Whoever can make a page show their own words beside a secret, and see how long it gets, can guess the secret (BREACH,
CVE-2013-3587). So nothing is compressed that nobody asked for.
"""

__all__ = ["MIN_LENGTH", "ICompressor", "availableCodings", "compressed"]

import re
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.preferences import preferences

Buffer = bytes | memoryview
Fields = Sequence[tuple[str, str]]

MIN_LENGTH = 256
"""Bytes. What is shorter gets no smaller."""

_LEVEL = 5
"""Of zlib: about as small as with 6, in little more than half of the time."""

_ZSTD_LEVEL = 3
_ZSTD_WINDOW = 17
_ZSTD_TABLES = 15
"""As powers of two. So a response takes 0.8 MB; browsers have to take windows of up to 8 MiB."""

_TYPES = re.compile(
    r"text/.+|application/(?:json|javascript|ecmascript|xml|wasm|x-ndjson|x-javascript|rtf|graphql)"
    r"|(?:application|image|model|message)/.+\+(?:json|xml)|font/(?:ttf|otf|collection)|image/(?:bmp|x-icon|vnd\.microsoft\.icon)"
)
_OF_LENGTH = frozenset(("accept-ranges", "content-digest", "content-length", "content-md5", "digest"))
"""What is about the bytes as they were."""


class ICompressor(Protocol):
    """Makes pieces smaller, in order."""

    def compress(self, data: Buffer) -> bytes:
        """
        @return: what is to be sent for a piece, from which all of it can be read.
        """

    def finish(self) -> bytes:
        """
        @return: what is to be sent last.
        """


class _Gzip:
    """RFC 1952. Holds 256 KiB."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def compress(self, data: Buffer) -> bytes:
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._deflate.flush()


class _Zstandard:
    """RFC 8878."""

    def __init__(self) -> None:
        import zstandard  # an extra, which a gateway that does not use it need not have

        parameters = zstandard.ZstdCompressionParameters.from_level(
            _ZSTD_LEVEL, window_log=_ZSTD_WINDOW, hash_log=_ZSTD_TABLES, chain_log=_ZSTD_TABLES
        )
        self._zstd = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        self._flushBlock = zstandard.COMPRESSOBJ_FLUSH_BLOCK

    def compress(self, data: Buffer) -> bytes:
        return self._zstd.compress(data) + self._zstd.flush(self._flushBlock)

    def finish(self) -> bytes:
        return self._zstd.flush()


_COMPRESSORS: dict[str, type[ICompressor]] = {"gzip": _Gzip}
if find_spec("zstandard") is not None:
    _COMPRESSORS["zstd"] = _Zstandard


def availableCodings() -> tuple[str, ...]:
    """The names of codings that can be used here."""
    return tuple(_COMPRESSORS)


def compressed(
    codings: Sequence[str], request: RequestHead, response: ResponseHead, length: int | None
) -> tuple[Fields, ICompressor | None]:
    """
    Decide about a response.

    @param codings: that the service offers, the best first. One that cannot be used here is passed over.
    @param length: bytes of body; C{None}: not known.
    @return: the response's fields, and what to put the body through; C{None}: nothing.
    """
    fields = response.headers
    if not codings or not _isCompressible(response, length):
        return fields, None
    # Also who does not get it compressed is told that others do, or a cache would give them the wrong one.
    if "accept-encoding" not in (varies := response.tokens("vary")) and "*" not in varies:
        fields = [*fields, ("vary", "Accept-Encoding")]
    coding = _choose(codings, preferences(request.all("accept-encoding")))
    if coding is None or request.method == "HEAD":
        return fields, None
    fields = [_weakened(each) for each in fields if each[0] not in _OF_LENGTH]
    return [*fields, ("content-encoding", coding)], _COMPRESSORS[coding]()


def _isCompressible(response: ResponseHead, length: int | None) -> bool:
    if response.status < 200 or response.status in (204, 205, 206, 304) or (length is not None and length < MIN_LENGTH):
        return False
    kind = (response.get("content-type") or "").partition(";")[0].strip(" \t").lower()
    return (
        _TYPES.fullmatch(kind) is not None
        and response.get("content-encoding") is None
        and response.get("content-range") is None
        and "no-transform" not in response.tokens("cache-control")
    )


def _choose(codings: Sequence[str], wanted: dict[str, float]) -> str | None:
    others = wanted.get("*", 0.0)
    weights = {each: wanted.get(each, others) for each in codings if each in _COMPRESSORS}
    best = max(weights, key=weights.__getitem__, default=None)
    if best is None or weights[best] <= 0 or wanted.get("identity", 0.0) > weights[best]:
        return None
    return best


def _weakened(field: tuple[str, str]) -> tuple[str, str]:
    """The same thing in other bytes has no strong validator (RFC 9110, section 8.8.1)."""
    name, value = field
    return (name, f"W/{value}") if name == "etag" and not value.startswith("W/") else field
