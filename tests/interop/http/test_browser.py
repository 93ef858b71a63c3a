"""
A browser opens a page of many parts through a gateway, with a WebSocket and a stream of events beside them.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from shutil import which

from tests.interop.http.website import ASSETS, NAME, WebTestCase
from tests.peers import require

_BROWSE = Path(__file__).with_name("browse.py")
_PYTHON = Path(__file__).resolve().parents[3] / ".peers/browser/venv/bin/python"


class BrowserTests(WebTestCase):
    """Chromium, and Node."""

    def test_page(self) -> None:
        """Everything arrives, in HTTP/2 where there is TLS; so do messages of a WebSocket, and events when they occur."""
        chromium = which("chromium") or ""
        require(bool(chromium), "chromium is missing: apt install chromium")
        require(_PYTHON.exists(), "Playwright is missing: run tests/browser/install")
        self.publish(self.node())
        for scheme, protocol in (("http", "http/1.1"), ("https", "h2")):
            url = self.running.url(scheme, NAME)
            done = subprocess.run(
                [str(_PYTHON), str(_BROWSE), chromium, url], capture_output=True, timeout=self.deadline
            )
            self.assertEqual(done.returncode, 0, done.stderr.decode()[-4000:])
            self.assertEqual(
                json.loads(done.stdout),
                {
                    "scripts": ASSETS // 2,
                    "images": ASSETS // 2,
                    "protocols": [protocol],
                    "echo": "over there",
                    "events": ["hello", "poked"],
                },
            )
