"""Tests for L{gateway.wire.httpoptions}."""

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.httpoptions import MAX_HEADERS, MAX_SEGMENTS, HttpOptions, Prefix

HASH = "sha256:" + "0" * 64


class HttpOptionsTests(SynchronousTestCase):
    """L{HttpOptions} are taken from strangers."""

    def read(self, **options: Any) -> HttpOptions:
        """Options, as they come over the wire."""
        return msgspec.convert(options, HttpOptions)

    def assertRefused(self, **options: Any) -> None:
        """Assert that these are not taken."""
        with self.subTest(options):
            self.assertRaises(msgspec.ValidationError, self.read, **options)

    def test_nothing(self) -> None:
        """Who asks for nothing says nothing."""
        self.assertEqual(msgspec.json.encode(HttpOptions()), b"{}")
        self.assertEqual(self.read(), HttpOptions())

    def test_roundTrip(self) -> None:
        """What is said arrives, and can be a key."""
        options = HttpOptions(
            protocol="h2c",
            hostHeader="[fd00::1]:8080",
            basicAuth=(f"al ice:{HASH}",),
            access=("allow 10.0.0.0/8", "deny *"),
            setRequestHeaders=(("x-team", "a b"), ("x-empty", "")),
            removeRequestHeaders=("cookie",),
            setResponseHeaders=(("x-frame-options", "DENY"),),
            removeResponseHeaders=("server",),
            maxBody=2**40,
            requestsPerSecond=0.5,
            inFlight=10,
            compress=("zstd", "gzip"),
            httpsRedirect=False,
            hsts=0,
            proxyPerVisitor=True,
        )
        self.assertEqual(msgspec.json.decode(msgspec.json.encode(options), type=HttpOptions), options)
        self.assertEqual(len({options, HttpOptions()}), 2)

    def test_headers(self) -> None:
        """No header ends a line, has a name that is none, or says how long a message is or where it goes."""
        for field in ("setRequestHeaders", "setResponseHeaders"):
            for name, value in (
                ("x-a", "b\r\nc: d"), ("x-a", "b\n"), ("x-a", "\0"), ("x-a", " b"), ("x-a", "b "), ("x-a", "\u00e9"),
                ("x-a", "b" * 1025), ("", "b"), ("X-A", "b"), ("x a", "b"), ("x-a:", "b"), ("x-a\n", "b"), ("x" * 65, "b"),
                ("content-length", "5"), ("transfer-encoding", "chunked"), ("connection", "close"), ("host", "a.example"),
                ("upgrade", "h2c"), ("te", "trailers"), ("trailer", "x-a"), ("keep-alive", "timeout=5"),
            ):  # fmt: skip
                self.assertRefused(**{field: [[name, value]]})
            self.assertEqual(getattr(self.read(**{field: [["x-a", "b" * 1024]]}), field), (("x-a", "b" * 1024),))
            self.assertRefused(**{field: [["x-a"]]})
        for field in ("removeRequestHeaders", "removeResponseHeaders"):
            for name in ("", "X-A", "x a", "x-a\n", "content-length", "host", "te"):
                self.assertRefused(**{field: [name]})

    def test_counts(self) -> None:
        """As many headers as the limit says are taken, and not one more."""
        for count, isTaken in ((MAX_HEADERS, True), (MAX_HEADERS + 1, False)):
            for field, each in (
                ("setRequestHeaders", ("x-a", "b")),
                ("setResponseHeaders", ("x-a", "b")),
                ("removeRequestHeaders", "x-a"),
                ("removeResponseHeaders", "x-a"),
            ):
                if isTaken:
                    self.read(**{field: [each] * count})
                else:
                    self.assertRefused(**{field: [each] * count})

    def test_values(self) -> None:
        """Everything else has its form, too."""
        for wrong in (
            {"protocol": "h2"}, {"hostHeader": "a b"}, {"hostHeader": "a.example/"}, {"hostHeader": "a\r\n"}, {"hostHeader": "fd00::1"},
            {"basicAuth": ["alice:secret"]}, {"basicAuth": [HASH]}, {"basicAuth": [f"a:b:{HASH}"]}, {"basicAuth": [f"a:{HASH}\n"]},
            {"access": ["allow"]}, {"access": ["permit *"]}, {"access": ["allow *\n"]}, {"access": ["allow *"] * 65},
            {"maxBody": -1}, {"maxBody": 2**53}, {"requestsPerSecond": -1}, {"requestsPerSecond": float("nan")}, {"inFlight": 1.5},
            {"compress": ["br"]}, {"compress": "gzip"}, {"hsts": -1}, {"httpsRedirect": 1},
        ):  # fmt: skip
            self.assertRefused(**wrong)


class PrefixTests(SynchronousTestCase):
    """A L{Prefix} has one spelling."""

    def test_form(self) -> None:
        """It is made of whole segments that nobody would encode."""
        for good in (
            "/node",
            "/team/node",
            "/a.b_c~d-E/0",
            "/.well-known",
            "/..a",
            "/a" * MAX_SEGMENTS,
            "/" + "a" * 64,
        ):
            self.assertEqual(msgspec.convert(good, Prefix), good)
        for wrong in (
            "", "/", "node", "/node/", "//node", "/a//b", "/a%20b", "/a b", "/a?b", "/a#b", "/\u00fc", "/a\n", "/a\\b", "/.", "/..", "/a/../b",
            "/a/.", "/./a", "/a" * (MAX_SEGMENTS + 1), "/" + "a" * 65,
        ):  # fmt: skip
            with self.subTest(wrong):
                self.assertRaises(msgspec.ValidationError, msgspec.convert, wrong, Prefix)
