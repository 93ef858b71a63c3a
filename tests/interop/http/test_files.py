"""
curl and nginx: files, in each version of HTTP, with TLS and without.
"""

from __future__ import annotations

import os

from tests.interop.http.website import WAYS, WebTestCase
from tests.interop.tunnels import MIB, checksum, randomFile

BULK = 1024 * MIB


class FileTests(WebTestCase):
    """Files go up and down, whole."""

    deadline = 180

    def setUp(self) -> None:
        super().setUp()
        site = self.nginx()
        self.files = site.files
        self.publish(site.port)

    def assertCarries(self, scheme: str, version: str, size: int) -> None:
        """A file comes down and goes up as it is, and what is missing of an interrupted download can be had."""
        whole, down, up = self.folder / "whole", self.files / "down", self.files / "up"
        expected = randomFile(down, size)
        form = ("--output", str(whole), "--write-out", "%{http_version}")
        came = self.curl(scheme, "/down", version, "--fail", *form)
        self.assertIn((scheme, version, came), WAYS)
        self.assertEqual(checksum(whole), expected)
        os.truncate(whole, size // 3 * 2)
        self.curl(scheme, "/down", version, "--fail", "--continue-at", "-", "--output", str(whole))
        down.unlink()
        self.curl(scheme, "/up", version, "--fail", "--upload-file", str(whole))
        self.assertEqual(checksum(up), expected)
        whole.unlink()

    def test_http11(self) -> None:
        """1 GiB in HTTP/1.1."""
        self.assertCarries("https", "--http1.1", BULK)

    def test_http2(self) -> None:
        """1 GiB in HTTP/2."""
        self.assertCarries("https", "--http2", BULK)

    def test_withoutTLS(self) -> None:
        """Less than that without TLS, in HTTP/1.1 and in HTTP/1.0."""
        self.assertCarries("http", "--http1.1", 64 * MIB)
        self.assertCarries("http", "--http1.0", 64 * MIB)

    def test_answersWithoutBody(self) -> None:
        """HEAD, 304, 206 and 404 are as nginx says them, and curl is answered in its own version."""
        (self.files / "page").write_text("0123456789")
        for scheme, version, answered in WAYS:
            with self.subTest(scheme=scheme, version=version):
                head = self.curl(scheme, "/page", version, "--head").lower()
                self.assertIn("content-length: 10\r\n", head)
                [tag] = [line.partition(": ")[2] for line in head.splitlines() if line.startswith("etag")]
                form = ("--write-out", "|%{http_code} %{http_version}")
                for arguments, expected in (
                    ((), "0123456789|200"),
                    (("--header", f"If-None-Match: {tag}"), "|304"),
                    (("--range", "2-4"), "234|206"),
                ):
                    found = self.curl(scheme, "/page", version, *form, *arguments)
                    self.assertEqual(found, f"{expected} {answered}")
                missing = self.curl(scheme, "/missing", version, *form)
                self.assertRegex(missing, rf"(?s)nginx.*\|404 {answered}$")

    def test_manyAtOnce(self) -> None:
        """100 requests at once are answered each with its own file: on 20 connections, and on one of HTTP/2."""
        for number in range(100):
            (self.files / f"{number:02}").write_text(f"{number}\n" * 10000)
        for version in ("--http1.1", "--http2"):
            got = str(self.folder / f"got{version}#1")
            several = ("--parallel", "--parallel-max", "20", "--fail", "--output", got)
            connects = self.curl("https", "/[00-99]", version, *several, "--write-out", "%{num_connects}\n").split()
            self.assertEqual(len(connects), 100)
            self.assertLessEqual(sum(map(int, connects)), 20 if version == "--http1.1" else 1)
            for number in range(100):
                text = (self.folder / f"got{version}{number:02}").read_text()
                self.assertEqual(text, f"{number}\n" * 10000)
