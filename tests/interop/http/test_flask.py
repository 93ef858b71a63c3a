"""
curl, and an application in Flask on gunicorn, whose workers make a connection for each request.
"""

from __future__ import annotations

import json

from tests.interop.http.website import NAME, WAYS, WebTestCase
from tests.interop.tunnels import MIB, randomFile


class FlaskTests(WebTestCase):
    """The application is as it would be behind any reverse proxy."""

    def setUp(self) -> None:
        super().setUp()
        self.publish(self.flask())

    def test_address(self) -> None:
        """It knows the visitor's address and the URL that they asked for, and makes absolute ones of that."""
        for scheme, version, _ in WAYS:
            with self.subTest(scheme=scheme, version=version):
                url = self.running.url(scheme, NAME)
                seen = json.loads(self.curl(scheme, "/?a=b", version, "--interface", "127.0.0.9"))
                self.assertEqual(seen["url"], f"{url}?a=b")
                self.assertEqual(seen["address"], "127.0.0.9")
                self.assertEqual(seen["secure"], scheme == "https")
                moved = self.curl(scheme, "/old", version, "--output", "/dev/null", "--write-out", "%{redirect_url}")
                self.assertEqual(moved, url)

    def test_form(self) -> None:
        """A form with a file arrives, and two cookies come back."""
        file = self.folder / "file"
        expected = randomFile(file, 8 * MIB)
        for scheme, version, _ in WAYS:
            with self.subTest(scheme=scheme, version=version):
                arguments = ("--form", "name=Ada", "--form", f"file=@{file}", "--dump-header", "-")
                head, _, body = self.curl(scheme, "/form", version, *arguments).rpartition("\r\n\r\n")
                self.assertEqual(json.loads(body), {"name": "Ada", "file": "file", "sum": expected})
                self.assertEqual(head.lower().count("set-cookie: "), 2)

    def test_lengthsUnknown(self) -> None:
        """An answer ends where it ends, and so does an upload."""
        rows = "".join(f"{number}\n" for number in range(200_000))
        for scheme, version, _ in WAYS:
            with self.subTest(scheme=scheme, version=version):
                self.assertEqual(self.curl(scheme, "/rows", version), rows)
                if version != "--http1.0":
                    arguments = ("--request", "POST", "--upload-file", "-")
                    found = json.loads(self.curl(scheme, "/size", version, *arguments, text=rows))
                    self.assertEqual(found["size"], len(rows))
