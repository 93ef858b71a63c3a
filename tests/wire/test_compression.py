"""Tests for L{gateway.wire.compression}."""

import zlib
from collections.abc import Callable
from random import Random
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.compression import MIN_LENGTH, availableCodings, compressed
from gateway.wire.http1 import RequestHead, ResponseHead

BOTH = ("zstd", "gzip")


def asking(accept: str | None = "gzip", method: str = "GET") -> RequestHead:
    """A request."""
    return RequestHead(method, "/", "1.1", [] if accept is None else [("accept-encoding", accept)])


def answer(*fields: tuple[str, str], kind: str = "text/html; charset=utf-8", status: int = 200) -> ResponseHead:
    """A response."""
    return ResponseHead(status, "", "1.1", [("content-type", kind), *fields])


def gunzip() -> Callable[[bytes], bytes]:
    """A visitor who reads gzip as it comes."""
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress


def unzstd() -> Callable[[bytes], bytes]:
    """The same of zstd."""
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress


class CompressedTests(SynchronousTestCase):
    """L{compressed} decides what is compressed, and how."""

    def coding(self, request: RequestHead, response: ResponseHead, length: int | None = None) -> str | None:
        """What a response is compressed with."""
        fields, compressor = compressed(("gzip",), request, response, length)
        found = dict(fields).get("content-encoding") if compressor is not None else None
        self.assertEqual(found is not None, compressor is not None)
        return found

    def test_fields(self) -> None:
        """The head says how the body is to be read, and nothing of its old bytes."""
        response = answer(
            ("content-length", "5000"),
            ("etag", '"a"'),
            ("accept-ranges", "bytes"),
            ("content-digest", "x"),
            ("vary", "Cookie"),
        )
        fields, compressor = compressed(("gzip",), asking(), response, 5000)
        self.assertIsNotNone(compressor)
        self.assertEqual(
            fields,
            [
                ("content-type", "text/html; charset=utf-8"),
                ("etag", 'W/"a"'),
                ("vary", "Cookie"),
                ("vary", "Accept-Encoding"),
                ("content-encoding", "gzip"),
            ],
        )

    def test_off(self) -> None:
        """Nothing is touched where the service offers nothing."""
        response = answer(("etag", '"a"'))
        fields, compressor = compressed((), asking(), response, None)
        self.assertIs(fields, response.headers)
        self.assertIsNone(compressor)

    def test_notWanted(self) -> None:
        """Who does not take it gets everything as it was, and caches are told that it matters; HEAD is told the same."""
        for request in (asking(None), asking("br"), asking("gzip;q=0"), asking(method="HEAD")):
            fields, compressor = compressed(("gzip",), request, answer(("etag", '"a"'), ("content-length", "900")), 900)
            self.assertIsNone(compressor)
            self.assertEqual(fields[1:], [("etag", '"a"'), ("content-length", "900"), ("vary", "Accept-Encoding")])

    def test_vary(self) -> None:
        """What caches are told already is not said twice, and a weak validator stays as it is."""
        for vary in ("Accept-Encoding", "cookie, accept-encoding", "*"):
            fields, _ = compressed(("gzip",), asking(), answer(("vary", vary), ("etag", 'W/"a"')), None)
            self.assertEqual(fields[1:], [("vary", vary), ("etag", 'W/"a"'), ("content-encoding", "gzip")])

    def test_types(self) -> None:
        """Texts are compressed, and not what is compressed in itself, or carries messages of its own."""
        for kind in (
            "text/plain", "TEXT/HTML", "text/event-stream", "application/json ;charset=utf-8", "application/problem+json", "image/svg+xml",
            "application/wasm", "font/ttf", "application/xhtml+xml",
        ):  # fmt: skip
            self.assertEqual(self.coding(asking(), answer(kind=kind)), "gzip", kind)
        for kind in (
            "image/png",
            "application/octet-stream",
            "application/grpc",
            "application/zip",
            "video/mp4",
            "font/woff2",
            "text",
            "",
        ):
            self.assertIsNone(self.coding(asking(), answer(kind=kind)), kind)

    def test_untouchable(self) -> None:
        """Parts, empty responses, what is compressed and what wants to stay as it is are left alone."""
        for response in (
            answer(status=206), answer(status=204), answer(status=304), answer(status=103), answer(("content-encoding", "br")),
            answer(("content-range", "bytes 0-9/100")), answer(("cache-control", "max-age=5, No-Transform")),
        ):  # fmt: skip
            fields, compressor = compressed(("gzip",), asking(), response, None)
            self.assertIsNone(compressor)
            self.assertIs(fields, response.headers)

    def test_short(self) -> None:
        """What would not get smaller is left alone."""
        self.assertIsNone(self.coding(asking(), answer(), MIN_LENGTH - 1))
        self.assertEqual(self.coding(asking(), answer(), MIN_LENGTH), "gzip")
        self.assertEqual(self.coding(asking(), answer(status=404)), "gzip")

    def test_choice(self) -> None:
        """The visitor's weights decide, and where they are the same the service's order."""
        for accept, expected in (
            ("gzip, zstd", "zstd"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, zstd;q=0.9", "gzip"),
            ("*", "zstd"),
            ("*;q=0.5, zstd;q=0", "gzip"),
            ("identity, gzip;q=0.5", None),
            ("*;q=0", None),
            ("GZIP", "gzip"),
            ("gzip;q=wrong", None),
        ):
            if "zstd" not in availableCodings() and expected == "zstd":
                continue
            fields, _ = compressed(BOTH, asking(accept), answer(), None)
            self.assertEqual(dict(fields).get("content-encoding"), expected, accept)

    def test_unavailable(self) -> None:
        """A coding that is not to be had here is passed over."""
        fields, _ = compressed(("br", "gzip"), asking("br, gzip"), answer(), None)
        self.assertEqual(dict(fields)["content-encoding"], "gzip")


class CompressorTests(SynchronousTestCase):
    """What is compressed can be read again, as it comes."""

    def each(self) -> list[tuple[str, Callable[[], Callable[[bytes], bytes]]]]:
        """The codings that there are, and how they are read."""
        return [(name, make) for name, make in (("gzip", gunzip), ("zstd", unzstd)) if name in availableCodings()]

    def test_pieces(self) -> None:
        """Every piece can be read in full before the next is there."""
        random = Random(1)
        for name, make in self.each():
            _, compressor = compressed((name,), asking(name), answer(), None)
            assert compressor is not None
            read = make()
            for size in (1, 100, 65536, 3, 20_000):
                piece = bytes(random.choices(b"abcdefgh \n", k=size))
                self.assertEqual(read(compressor.compress(memoryview(piece))), piece, name)
            self.assertEqual(read(compressor.finish()), b"")

    def test_empty(self) -> None:
        """A response that turns out to be empty is one."""
        for name, make in self.each():
            _, compressor = compressed((name,), asking(name), answer(), None)
            assert compressor is not None
            self.assertEqual(make()(compressor.finish()), b"")

    def test_smaller(self) -> None:
        """It is worth it."""
        text = b"".join(b"<li>item number %d</li>\n" % n for n in range(2000))
        for name, _ in self.each():
            _, compressor = compressed((name,), asking(name), answer(), None)
            assert compressor is not None
            self.assertLess(len(compressor.compress(text) + compressor.finish()), len(text) / 4)

    def test_zstandard(self) -> None:
        """Where the package for zstd is, zstd is."""
        try:
            import zstandard
        except ImportError:
            raise SkipTest("zstandard is missing: pip install txgateway[zstd]") from None
        self.assertTrue(zstandard.__version__)
        self.assertIn("zstd", availableCodings())
